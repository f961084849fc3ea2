//! A burst: the packets that one turn of a thread takes off the devices. What a sock owes for each of its packets, and
//! once for all of them is enough, is left to the end of the burst, as it is left to the end of a system call whose
//! backlog is processed. Above: TCP's acknowledgements. Below: the stack, whose turns begin and end bursts. Linux has
//! no such thing: there GRO joins what a device has at once, and most of a busy receiver's packets meet a system call.

use super::Sock;
use crate::base::env::Instant;
use crate::stack::Stack;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::Arc;

/// Socks, each with the bits for its `release_cb`.
type Late = SmallVec<[(Arc<Sock>, u32); 4]>;

thread_local! {
    /// What is left to the end of this thread's burst; None outside of one.
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Ends the burst, also when a panic does.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        take();
    }
}

fn take() -> Late {
    LATE.try_with(|late| late.borrow_mut().take()).ok().flatten().unwrap_or_default()
}

/// Runs `f`, which receives packets of devices, then what was left. Softirq context, no sock owned.
pub(crate) fn run<R>(stack: &Arc<Stack>, now: Instant, f: impl FnOnce() -> R) -> R {
    // A thread that is ending has no list: nothing is left then.
    let _ = LATE.try_with(|late| *late.borrow_mut() = Some(Late::new()));
    let end = End;
    let r = f();
    let late = take();
    drop(end);
    late.into_iter().for_each(|(sock, bits)| sock.defer(stack, bits, now));
    r
}

/// Leaves `bits` of a sock to the end of the burst that this thread is in. False: it is in none.
pub(crate) fn leave(sock: &Arc<Sock>, bits: u32) -> bool {
    let push = |late: &mut Late| late.push((sock.clone(), bits));
    LATE.try_with(|late| late.borrow_mut().as_mut().map(push).is_some()).unwrap_or(false)
}

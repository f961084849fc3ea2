//! Inner socks: socks of another protocol (TCP, UDP, another plug-in's) that a sock of a C protocol owns and uses, and
//! what they tell it. Above: `private`, which keeps them; `inner_calls`, which uses them. Below: `held`, which knows
//! whose they are. Linux: a struct socket of sock_create_kern, and sk_data_ready and its like.
//!
//! An inner sock is locked with its outer one owned, never the other way round; and what happens at it may be noticed
//! under a lock, as when a device or the table of neighbours drops a packet of its. So it is told from a softirq of its
//! own (`Stack::schedule`), with no sock owned and no lock held: from there the outer sock may be entered (usk_defer).

use super::proto::ProtoReg;
use super::table::Table;
use crate::handle::{lend, usk_sock_t};
use crate::held::{self, contain};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use usersock::env::Instant;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sock::Sock;
use usersock::sock::proto::SockRef;
use usersock::sock::wait::{Events, Watch, WatchKey};
use usersock::stack::{Stack, TimerCall};

/// The counter of inner socks that the library had to close.
pub(super) const LEFT: &str = "PluginInnerSocksLeft";

/// `version` of struct usk_inner_ops.
pub const USK_INNER_VERSION: u32 = 1;

/// What an inner sock tells (sk_data_ready, sk_write_space, sk_state_change). usk_inner_open copies it. The functions
/// are called in softirq context, before the system call returns that caused it or soon after, by whatever thread,
/// perhaps by several at a time, and with no sock owned:
/// they may wake the outer sock (usk_wake) and defer work to its release_cb (usk_defer), which then
/// receives and sends, and may look at the inner one (usk_sock_state). They must not sleep, nor lock a sock. They are
/// edges: what they tell may be over by then, and one call may stand for several. A last one may still come while
/// usk_inner_close runs on another thread. Null: not told. No C++ exception and no panic of a Rust shared object may
/// leave them.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_inner_ops {
    /// USK_INNER_VERSION.
    pub version: u32,
    /// sizeof(struct usk_inner_ops). Members that a shorter table lacks are null.
    pub size: u32,
    /// There may be something to receive, or a connection to accept.
    pub data_ready: Option<unsafe extern "C-unwind" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
    /// There may be room to send, after a send that found none.
    pub write_space: Option<unsafe extern "C-unwind" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
    /// The state has changed, an error is pending (usk_sock_error), or the peer has ended.
    pub state_change: Option<unsafe extern "C-unwind" fn(outer: *mut usk_sock_t, inner: *mut usk_sock_t)>,
}

// SAFETY: repr(C), begins with two u32; None is valid for the others.
unsafe impl Table for usk_inner_ops {
    const NAME: &'static str = "struct usk_inner_ops";
    const VERSION: u32 = USK_INNER_VERSION;
    const FIRST_SIZE: usize = size_of::<usk_inner_ops>();
}

/// Waits in the inner sock's queue.
struct Listener {
    me: Weak<Listener>,
    stack: Weak<Stack>,
    outer: Weak<Sock>,
    inner: Weak<Sock>,
    ops: usk_inner_ops,
    /// Keeps the code of `ops` loaded.
    _reg: Arc<ProtoReg>,
    /// The state that was told last.
    state: AtomicU8,
    /// What is to be told. It is scheduled as long as there is any.
    due: AtomicU32,
    /// Nothing is told any more.
    ended: AtomicBool,
}

impl Watch for Listener {
    fn notify(&self, events: Events) {
        let (Some(me), Some(stack)) = (self.me.upgrade(), self.stack.upgrade()) else { return };
        if self.due.fetch_or(events.0, Ordering::AcqRel) == 0 {
            stack.schedule(me);
        }
    }
}

impl TimerCall for Listener {
    fn fire(self: Arc<Self>, stack: &Arc<Stack>, _: Instant) {
        let (outer, inner) = (self.outer.upgrade(), self.inner.upgrade());
        if let (Some(outer), Some(inner)) = (&outer, &inner) {
            self.tell(outer, inner, Events(self.due.swap(0, Ordering::AcqRel)));
        }
        // Either may have lost its other references meanwhile.
        inner.into_iter().chain(outer).for_each(|sock| sock.put(stack));
    }
}

impl Listener {
    fn tell(&self, outer: &Arc<Sock>, inner: &Arc<Sock>, events: Events) {
        let state = inner.state() as u8;
        let ends = events.intersects(Events::ERR | Events::HUP | Events::RDHUP);
        let changed = self.state.swap(state, Ordering::AcqRel) != state || ends;
        let due = [
            (changed, self.ops.state_change),
            (events.intersects(Events::IN), self.ops.data_ready),
            (events.intersects(Events::OUT), self.ops.write_space),
        ];
        for f in due.into_iter().filter_map(|(is, f)| f.filter(|_| is)) {
            if self.ended.load(Ordering::Acquire) || outer.is_broken() {
                return;
            }
            // SAFETY: the table's function, called as the table documents; both socks are held meanwhile.
            if contain(|| unsafe { f(lend(outer), lend(inner)) }).is_err() {
                outer.set_broken();
            }
        }
    }
}

/// An inner sock, in the hands of its outer one. Dropping it closes it.
pub(super) struct InnerSock {
    /// Taken out when it is dropped.
    sock: ManuallyDrop<Arc<Sock>>,
    listener: Arc<Listener>,
    key: WatchKey,
}

impl InnerSock {
    /// `sock` belongs to `outer` from now on.
    pub(super) fn new(outer: &Arc<Sock>, reg: &Arc<ProtoReg>, sock: Arc<Sock>, ops: usk_inner_ops) -> InnerSock {
        held::set_outer(&sock, Some(outer));
        let listener = Arc::new_cyclic(|me| Listener {
            me: me.clone(),
            stack: outer.stack().clone(),
            outer: Arc::downgrade(outer),
            inner: Arc::downgrade(&sock),
            ops,
            _reg: reg.clone(),
            state: AtomicU8::new(sock.state() as u8),
            due: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        });
        let key = sock.wait.add(Events::IN | Events::OUT | Events::RDHUP, false, listener.clone());
        InnerSock { sock: ManuallyDrop::new(sock), listener, key }
    }

    pub(super) fn sock(&self) -> &Arc<Sock> {
        &self.sock
    }

    /// Its calls, none of which waits.
    pub(super) fn socket(&self, stack: &Arc<Stack>) -> Socket {
        Socket::of_stack(stack, self.sock().clone())
    }

    /// EDEADLK: this thread owns it, below its outer one.
    pub(super) fn free(&self) -> Result<()> {
        if held::owns(&self.sock) { Err(Error::Deadlk) } else { Ok(()) }
    }
}

impl Drop for InnerSock {
    /// Its outer sock may be owned by this thread.
    fn drop(&mut self) {
        self.listener.ended.store(true, Ordering::Release);
        self.sock.wait.remove(self.key);
        held::set_outer(&self.sock, None);
        if held::owns(&self.sock) {
            // A misuse: its owner's guard is still to be released, so it is left as it is.
            return;
        }
        // SAFETY: nobody uses the field afterwards.
        let sock = unsafe { ManuallyDrop::take(&mut self.sock) };
        // Without a stack there is nobody whom a close could tell.
        if let Some(stack) = sock.stack().upgrade() {
            sock.proto().close(SockRef { stack: &stack, sock: &sock }, libc::MSG_DONTWAIT);
        }
        sock.put_later();
    }
}

//! Trace points: what happens to connections and packets, as it happens. Above: everything, which calls
//! [`Trace::point`] with an event, and `control`, which listens. A point costs one load of a flag while nobody listens.
//! Events wait for a listener in a bounded queue; those that find it full are counted as lost. Linux: tracepoints
//! (sock:inet_sock_set_state, tcp:tcp_retransmit_skb, skb:kfree_skb).

use crate::base::env::{Clock, Duration};
use crate::base::error::Error;
use crate::sys::lock::Mutex;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Events that wait for a listener, at most.
const QUEUE: usize = 4096;

/// Why a segment is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resend {
    /// The retransmission timer fired (RFC 6298).
    Rto,
    /// Duplicate acknowledgements, SACKs or RACK's reordering timer say that it is lost (RFC 6675, RFC 8985).
    FastRetransmit,
    /// Marked lost by an earlier timeout, and the window has room for it now (RFC 5681 §4.3).
    SlowStart,
    /// A loss probe (RFC 8985 §7).
    Tlp,
    /// The answer to our SYN did not come.
    Syn,
    /// The ACK of our SYN-ACK did not come, or the SYN came again.
    SynAck,
    /// The peer's window is smaller than what was sent: the first segment probes it.
    ZeroWindow,
}

impl Resend {
    /// One word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Resend::Rto => "rto",
            Resend::FastRetransmit => "fast-retransmit",
            Resend::SlowStart => "slow-start",
            Resend::Tlp => "tlp",
            Resend::Syn => "syn",
            Resend::SynAck => "syn-ack",
            Resend::ZeroWindow => "zero-window",
        }
    }
}

/// Who dropped a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dropper {
    /// The library, at this place in its code.
    Place(&'static Location<'static>),
    /// A plug-in, by the name of its table.
    Plugin(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection changes its state (sock:inet_sock_set_state). States are Linux's numbers.
    SetState { protocol: u16, local: SocketAddr, peer: Option<SocketAddr>, old: u8, new: u8 },
    /// A segment was sent again (tcp:tcp_retransmit_skb, tcp:tcp_retransmit_synack). `seq`: its first sequence number,
    /// counted from the first of the connection.
    Retransmit { local: SocketAddr, peer: SocketAddr, state: u8, seq: u32, len: u32, why: Resend, err: Option<Error> },
    /// A packet was dropped (skb:kfree_skb): the reason's name, and by whom.
    Drop { reason: Cow<'static, str>, by: Dropper },
    /// A plug-in logs a line. `missed`: how many lines before it were too many.
    Log { from: String, level: &'static str, text: String, missed: u32 },
}

/// The trace points of a stack, and who listens to them.
#[derive(Default)]
pub(crate) struct Trace {
    on: AtomicBool,
    listeners: Mutex<Vec<Arc<Shared>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    clock: Arc<dyn Clock>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<(Duration, Event)>,
    lost: u64,
}

impl Trace {
    /// Something happened. `event` is called only when somebody listens; it may run with locks held and must take none.
    #[inline]
    pub(crate) fn point(&self, event: impl FnOnce() -> Event) {
        if self.on.load(Ordering::Relaxed) {
            self.deliver(event());
        }
    }

    /// The same, of what may turn out to be nothing.
    pub(crate) fn point_if(&self, event: impl FnOnce() -> Option<Event>) {
        if self.on.load(Ordering::Relaxed)
            && let Some(event) = event()
        {
            self.deliver(event);
        }
    }

    #[cold]
    fn deliver(&self, event: Event) {
        for listener in self.listeners.lock().iter() {
            let time = listener.clock.wall();
            let mut q = listener.queue.lock();
            if q.events.len() == QUEUE {
                q.lost += 1;
                continue;
            }
            q.events.push_back((time, event.clone()));
            let first = q.events.len() == 1;
            drop(q);
            if first {
                (listener.wake)();
            }
        }
    }

    /// Begins to listen. `wake` is called when an event comes to an empty queue, with locks held: it may only notify.
    pub(crate) fn listen(&self, clock: Arc<dyn Clock>, wake: impl Fn() + Send + Sync + 'static) -> Listener {
        let shared = Arc::new(Shared { queue: Mutex::default(), clock, wake: Box::new(wake) });
        let mut all = self.listeners.lock();
        all.push(shared.clone());
        self.on.store(true, Ordering::Relaxed);
        Listener(shared)
    }

    /// Ends what `listen` began.
    pub(crate) fn leave(&self, listener: &Listener) {
        let mut all = self.listeners.lock();
        all.retain(|l| !Arc::ptr_eq(l, &listener.0));
        self.on.store(!all.is_empty(), Ordering::Relaxed);
    }
}

/// The events of one listener, until [`Trace::leave`].
pub(crate) struct Listener(Arc<Shared>);

impl Listener {
    /// The next event and its wall-clock time.
    pub(crate) fn next(&self) -> Option<(Duration, Event)> {
        self.0.queue.lock().events.pop_front()
    }

    /// Events lost since the last call.
    pub(crate) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.0.queue.lock().lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::env::VirtualClock;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn events_reach_each_listener_and_those_that_do_not_fit_are_counted() {
        let trace = Trace::default();
        let event = Event::Drop { reason: "NO_SOCKET".into(), by: Dropper::Place(Location::caller()) };
        trace.point(|| unreachable!("nobody listens"));
        let woken = Arc::new(AtomicU32::new(0));
        let count = woken.clone();
        let a = trace.listen(Arc::new(VirtualClock::new()), move || _ = count.fetch_add(1, Ordering::Relaxed));
        let b = trace.listen(Arc::new(VirtualClock::new()), || ());
        trace.point(|| event.clone());
        trace.leave(&b);
        (0..QUEUE + 9).for_each(|_| trace.point(|| event.clone()));
        assert_eq!((a.take_lost(), a.take_lost(), woken.load(Ordering::Relaxed)), (10, 0, 1));
        assert_eq!(std::iter::from_fn(|| a.next()).count(), QUEUE);
        assert_eq!((b.next().map(|(_, e)| e), b.next()), (Some(event), None));
        trace.leave(&a);
        trace.point(|| unreachable!("nobody listens any more"));
    }
}

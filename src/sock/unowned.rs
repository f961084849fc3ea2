//! Fields that few socks need and that are reached without owning the sock: the error queue, timestamps, MSG_ZEROCOPY,
//! memberships, the protocol that an upper layer put in place of another. They are in a box that is allocated when one
//! of them is first written. Above: `errqueue`, `tstamp`, `zerocopy`, `membership`, option memory.

use super::Sock;
use super::errqueue::ErrQueue;
use super::membership::Heard;
use super::proto::Proto;
use crate::sys::lock::RwLock;
use crate::sys::once_box::OnceBox;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Unowned {
    /// Queued errors, completions and transmit timestamps (sk_error_queue).
    pub(super) errors: ErrQueue,
    /// Groups joined, and what they and their filters admit.
    pub(super) heard: Heard,
    /// Bytes of completions that are to come or wait to be read, and of keys (sk_omem_alloc; net.core.optmem_max).
    pub(crate) omem_alloc: AtomicI32,
    /// Id of the next MSG_ZEROCOPY call (sk_zckey).
    pub(super) zckey: AtomicU32,
    /// SO_TIMESTAMPING: bits of [`super::tstamp::sof`] (sk_tsflags).
    tsflags: AtomicU32,
    /// Id of the next datagram with SOF_TIMESTAMPING_OPT_ID; of a stream, the sequence number that ids count from.
    pub(crate) tskey: AtomicU32,
    /// SO_INCOMING_CPU: among equal receivers, the one whose number is the current CPU's is preferred; -1 for none.
    incoming_cpu: AtomicI32,
    /// The protocol in force, where it is not that of the registry (upper-layer protocols).
    proto: OnceBox<RwLock<Arc<dyn Proto>>>,
}

impl Unowned {
    /// See `proto`.
    #[inline]
    pub(super) fn proto(&self) -> Option<Arc<dyn Proto>> {
        self.proto.get().map(|p| p.read().clone())
    }

    /// See `proto`.
    pub(super) fn set_proto(&self, proto: Arc<dyn Proto>) {
        let place = self.proto.get_or_init(|| RwLock::new(proto.clone()));
        *place.write() = proto;
    }
}

impl Default for Unowned {
    fn default() -> Unowned {
        Unowned {
            errors: ErrQueue::default(),
            heard: Heard::default(),
            omem_alloc: AtomicI32::new(0),
            zckey: AtomicU32::new(0),
            tsflags: AtomicU32::new(0),
            tskey: AtomicU32::new(0),
            incoming_cpu: AtomicI32::new(-1),
            proto: OnceBox::new(),
        }
    }
}

impl Sock {
    /// What few socks have, to change it.
    pub(crate) fn unowned(&self) -> &Unowned {
        self.unowned.get_or_init(Unowned::default)
    }

    /// SO_TIMESTAMPING: bits of [`super::tstamp::sof`].
    #[inline]
    pub(crate) fn tsflags(&self) -> u32 {
        self.unowned.get().map_or(0, |u| u.tsflags.load(Ordering::Relaxed))
    }

    /// Sets SO_TIMESTAMPING.
    pub(crate) fn set_tsflags(&self, flags: u32) {
        if flags != self.tsflags() {
            self.unowned().tsflags.store(flags, Ordering::Relaxed);
        }
    }

    /// SO_INCOMING_CPU; -1: none.
    pub(crate) fn incoming_cpu(&self) -> i32 {
        self.unowned.get().map_or(-1, |u| u.incoming_cpu.load(Ordering::Relaxed))
    }

    /// Sets SO_INCOMING_CPU.
    pub(super) fn set_incoming_cpu(&self, cpu: i32) {
        self.unowned().incoming_cpu.store(cpu, Ordering::Relaxed);
    }

    /// Bytes of option memory in use.
    pub(crate) fn omem(&self) -> i32 {
        self.unowned.get().map_or(0, |u| u.omem_alloc.load(Ordering::Relaxed))
    }

    /// Whether there are queued errors, completions or timestamps. Does not lock.
    #[inline]
    pub(crate) fn has_errors(&self) -> bool {
        self.unowned.get().is_some_and(|u| !u.errors.is_empty())
    }
}

//! MSG_ZEROCOPY: what tells a program that the stack is done with the memory of a send call. The call's packets carry a
//! [`ZeroCopy`]; when the last of them is freed (by TCP once it is acknowledged, by UDP once the device has it), the
//! ids of the calls go to the error queue. Above: `sendmsg` of TCP and UDP. Below: `errqueue`. Linux: struct
//! ubuf_info_msgzc, msg_zerocopy_realloc, msg_zerocopy_put_abort, __msg_zerocopy_callback.
//!
//! The bytes are copied all the same, and every completion says so (SO_EE_CODE_ZEROCOPY_COPIED), as Linux's do over
//! loopback and TUN. Linux pins the program's pages, so that they outlive a free(3), a munmap(2) or a close(2) by the
//! program. A library in the program's own process cannot: a retransmission would read memory that is another object's
//! by then, or none's, and bytes that another thread changes meanwhile are a data race. The pages that Linux pins are
//! charged against RLIMIT_MEMLOCK; here none are, and there is nothing to charge.

use super::Sock;
use super::exterr::{ErrEntry, SockExtendedErr, origin};
use super::skb::SKB_OVERHEAD;
use crate::base::error::{Error, Result};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// SO_EE_CODE_ZEROCOPY_COPIED.
const COPIED: u8 = 1;
/// Least memory that must be free below net.core.optmem_max for a completion, which then takes `SKB_OVERHEAD` (seen on
/// Linux 6.18 with limits around 576, 1,408 and 2,240 bytes).
const LEAST: i32 = 576;
/// Most calls, and most bytes, that complete together in one packet.
const MAX_CALLS: u32 = 65_534;
const MAX_BYTES: usize = 1 << 19;

/// Held by each packet with bytes of the calls, and by the last of the calls while it runs.
#[derive(Debug, Clone)]
pub(crate) struct ZeroCopy(Arc<Ubuf>);

#[derive(Debug)]
struct Ubuf {
    /// Not a reference that keeps it alive: the sock's own queues hold the packets.
    sock: Weak<Sock>,
    /// Id of the first call.
    id: u32,
    /// Number of calls; 0: the only one was aborted. Written by the owner of the sock.
    calls: AtomicU32,
    /// Bytes of the calls.
    bytes: AtomicUsize,
}

impl ZeroCopy {
    /// A call of `size` bytes begins. It joins `last`, what the packet at the end of the queue carries, where its id is
    /// the next one. ENOBUFS: the completions that are not yet read take all option memory. Called by the sock's owner.
    pub(crate) fn begin(sock: &Arc<Sock>, size: usize, last: Option<&ZeroCopy>) -> Result<ZeroCopy> {
        let id = sock.unowned().zckey.load(Ordering::Relaxed);
        if let Some(ZeroCopy(last)) = last {
            let calls = last.calls.load(Ordering::Relaxed);
            let bytes = last.bytes.load(Ordering::Relaxed).saturating_add(size);
            let fits = calls < MAX_CALLS && bytes <= MAX_BYTES;
            if fits && last.id.wrapping_add(calls) == id {
                last.calls.store(calls + 1, Ordering::Relaxed);
                last.bytes.store(bytes, Ordering::Relaxed);
                sock.unowned().zckey.store(id.wrapping_add(1), Ordering::Relaxed);
                return Ok(ZeroCopy(last.clone()));
            }
        }
        let Some(stack) = sock.stack().upgrade() else { return Err(Error::NoBufs) };
        let held = sock.omem();
        if held.saturating_add(LEAST) > stack.sysctl.optmem_max() {
            return Err(Error::NoBufs);
        }
        sock.unowned().omem_alloc.fetch_add(SKB_OVERHEAD as i32, Ordering::Relaxed);
        sock.unowned().zckey.store(id.wrapping_add(1), Ordering::Relaxed);
        let (calls, bytes) = (AtomicU32::new(1), AtomicUsize::new(size));
        Ok(ZeroCopy(Arc::new(Ubuf { sock: Arc::downgrade(sock), id, calls, bytes })))
    }

    /// The call took no byte: it has no completion, and its id goes to the next call.
    pub(crate) fn abort(self, sock: &Sock) {
        sock.unowned().zckey.fetch_sub(1, Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether both stand for the same calls.
    pub(crate) fn same(&self, other: &ZeroCopy) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
impl Sock {
    /// Lets the ids of MSG_ZEROCOPY calls continue with `id`.
    pub(crate) fn set_zckey(&self, id: u32) {
        self.unowned().zckey.store(id, Ordering::Relaxed);
    }
}

impl Drop for Ubuf {
    fn drop(&mut self) {
        let Some(sock) = self.sock.upgrade() else { return };
        let calls = *self.calls.get_mut();
        if calls == 0 {
            sock.unowned().omem_alloc.fetch_sub(SKB_OVERHEAD as i32, Ordering::Relaxed);
            return;
        }
        let (info, data) = (self.id, self.id.wrapping_add(calls - 1));
        let err =
            SockExtendedErr { errno: 0, origin: origin::ZEROCOPY, ty: 0, code: COPIED, info, data, offender: None };
        sock.queue_completion(ErrEntry {
            addr: None,
            err,
            payload: Vec::new(),
            packet: None,
            came: None,
            opt_stats: false,
        });
    }
}

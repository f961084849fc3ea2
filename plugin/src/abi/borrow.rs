//! `usk_cong_t`: an algorithm of the stack's registry, borrowed by a protocol for one of its socks. It stands in the
//! sock's slot, and goes with the sock.

use super::sock::Owned;
use crate::cong::{BorrowedAck, BorrowedInfo};
use crate::errno::{Errno, Result, status};
use crate::proto::Protocol;
use crate::skb::Cb;
use crate::sys::*;
use std::ffi::{CStr, CString};
use std::ptr::null;

/// What [`Owned::cong_sent`] records about a packet, for the delivery-rate sample when it is acknowledged: fits in a
/// control block.
#[derive(Clone, Copy)]
pub struct Mark(usk_cong_mark_t);

impl Cb for Mark {
    const SIZE: usize = size_of::<usk_cong_mark_t>();

    fn store(&self, to: &mut [u8]) {
        for (word, to) in self.0.opaque.iter().zip(to.chunks_exact_mut(8)) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
    }

    fn load(from: &[u8]) -> Mark {
        let mut mark = usk_cong_mark_t { opaque: [0; 5] };
        for (word, from) in mark.opaque.iter_mut().zip(from.chunks_exact(8)) {
            *word = u64::load(from);
        }
        Mark(mark)
    }
}

impl<P: Protocol> Owned<'_, P> {
    /// Borrows the algorithm `name` (None: that of net.ipv4.tcp_congestion_control) for this sock, in place of one it
    /// has; `mss`: payload bytes of a full segment. EINVAL: there is no such algorithm, or `mss` is 0.
    pub fn cong_new(&self, name: Option<&str>, mss: u32) -> Result<()> {
        let name = name.map(CString::new).transpose().map_err(|_| Errno::Inval)?;
        let name = name.as_ref().map_or(null(), |name| name.as_ptr());
        // SAFETY: owned; null or a string; the algorithm of before was made for this sock.
        unsafe {
            let new = usk_cong_new(self.raw(), name, mss);
            if new.is_null() {
                return Err(Errno::Inval);
            }
            usk_cong_free(self.raw(), self.set_cong(new));
        }
        Ok(())
    }

    /// How many segments may be sent now. Call it before the first segment of a burst. 0 without an algorithm.
    pub fn cong_quota(&self) -> u32 {
        let cong = self.cong();
        // SAFETY: owned; null is refused, any other was made for this sock; so below.
        u32::try_from(unsafe { usk_cong_quota(self.raw(), cong) }).unwrap_or(0)
    }

    /// `n` segments are sent in one packet; `again`: it is a retransmission.
    pub fn cong_sent(&self, n: u32, again: bool) -> Mark {
        let (cong, mut mark) = (self.cong(), usk_cong_mark_t { opaque: [0; 5] });
        // SAFETY: see `cong_quota`; writable.
        unsafe { usk_cong_sent(self.raw(), cong, n, again.into(), &mut mark) };
        Mark(mark)
    }

    /// An acknowledgement: takes its RTT and rate samples, and opens or reduces the window.
    pub fn cong_acked(&self, ack: &BorrowedAck) -> Result<()> {
        let cong = self.cong();
        let rtt_us = match ack.rtt {
            Some(rtt) => i64::try_from(rtt.as_micros()).unwrap_or(i64::MAX),
            None => -1,
        };
        let flags = if ack.behind_hole { USK_CONG_BEHIND_HOLE } else { 0 } | if ack.ece { USK_CONG_ECE } else { 0 };
        let mark = ack.mark.as_ref().map_or(null(), |mark| &raw const mark.0);
        let ack = usk_cong_ack_t { segments: ack.segments, late: ack.late, rtt_us, mark, flags };
        // SAFETY: see `cong_quota`; readable, and so is its mark, which `cong_sent` filled.
        status(unsafe { usk_cong_acked(self.raw(), cong, &ack) })
    }

    /// `n` segments in flight are lost.
    pub fn cong_loss(&self, n: u32) {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        unsafe { usk_cong_loss(self.raw(), cong, n) };
    }

    /// All data that was outstanding at the loss or at the timeout is acknowledged.
    pub fn cong_recovered(&self) {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        unsafe { usk_cong_recovered(self.raw(), cong) };
    }

    /// The retransmission timer expired: everything in flight is lost.
    pub fn cong_rto(&self) {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        unsafe { usk_cong_rto(self.raw(), cong) };
    }

    /// The loss or timeout of this episode was spurious. Whether there was something to undo.
    pub fn cong_undo(&self) -> bool {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        unsafe { usk_cong_undo(self.raw(), cong) == 1 }
    }

    /// There is no more data though the window has room.
    pub fn cong_app_limited(&self) {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        unsafe { usk_cong_app_limited(self.raw(), cong) };
    }

    /// Sets the payload bytes of a full segment. EINVAL: 0, or there is no algorithm.
    pub fn cong_set_mss(&self, mss: u32) -> Result<()> {
        let cong = self.cong();
        // SAFETY: see `cong_quota`.
        status(unsafe { usk_cong_set_mss(self.raw(), cong, mss) })
    }

    /// The state of the algorithm; None: there is none.
    pub fn cong_info(&self) -> Option<BorrowedInfo> {
        let cong = self.cong();
        // SAFETY: see `cong_quota`; writable, and all zero is a value of each member; a name with its NUL.
        unsafe {
            let mut info: usk_cong_info_t = std::mem::zeroed();
            if usk_cong_info(cong, &mut info, size_of::<usk_cong_info_t>()) < 0 {
                return None;
            }
            let name = CStr::from_ptr(info.name.as_ptr()).to_string_lossy().into_owned();
            Some(BorrowedInfo::of(name, &info))
        }
    }
}

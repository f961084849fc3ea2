//! `usk_cong_t`: congestion control borrowed from the registry by a protocol that is not TCP. The Rust type behind it
//! is `usersock::tcp::cong::borrowed::Borrowed`; its rules are documented there and in the header.

use super::gate::{kernel, obj, obj_mut};
use super::guard::{guard, usk_owned_t};
use super::table::{Info, fill};
use crate::ptr;
use std::ffi::{c_char, c_int};
use usersock::error::{Error, Result};
use usersock::tcp::cong::borrowed::{Acked, Borrowed, Lender, Mark};

/// An instance of a congestion control algorithm for a protocol that is not TCP: usk_cong_new makes it, usk_cong_free
/// frees it. It belongs to one sock, which is owned in every call. Its window, RTT, RTO and rates follow the rules of
/// TCP's connections. The unit is the segment: the data that the protocol sends in one packet. A segment is in flight
/// from when it is sent until it is acknowledged or declared lost; a retransmission counts as sent again. For each
/// acknowledgement, call in this order: usk_cong_recovered if it completes all data that was outstanding at the loss,
/// usk_cong_loss for the segments that it shows to be lost, usk_cong_acked for the segments that it acknowledges; then
/// usk_cong_quota returns how many segments may be sent.
#[allow(non_camel_case_types)]
pub struct usk_cong_t {
    inner: Borrowed,
}

/// What usk_cong_sent records about a packet, for the delivery-rate sample when the packet is acknowledged. Fits in
/// usk_skb_cb, and may be copied.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct usk_cong_mark_t {
    opaque: [u64; 5],
}

/// usk_cong_ack_t.flags: the acknowledged segments lie behind a hole that is not yet filled. The window does not grow.
pub const USK_CONG_BEHIND_HOLE: u32 = 1;
/// usk_cong_ack_t.flags: the acknowledgement echoes a congestion mark (RFC 3168).
pub const USK_CONG_ECE: u32 = 2;

/// An acknowledgement.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_cong_ack_t {
    /// Segments in flight that it acknowledges.
    pub segments: u32,
    /// Segments that it acknowledges although usk_cong_loss or usk_cong_rto had declared them lost.
    pub late: u32,
    /// RTT of the segment of them that was sent last, if it was sent only once (RFC 6298), microseconds; -1: none. 0 is
    /// a sample.
    pub rtt_us: i64,
    /// Mark of the segment of them that was sent last; null: no delivery-rate sample.
    pub mark: *const usk_cong_mark_t,
    /// USK_CONG_BEHIND_HOLE, USK_CONG_ECE.
    pub flags: u32,
}

/// The state of a borrowed algorithm. ca_state is tcp_info's: 0 Open, 2 CWR, 3 Recovery, 4 Loss.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct usk_cong_info_t {
    /// Name of the algorithm, NUL-terminated.
    pub name: [c_char; 16],
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow-start threshold, segments.
    pub ssthresh: u32,
    /// Segments in flight.
    pub in_flight: u32,
    /// State.
    pub ca_state: u32,
    /// Smoothed RTT, microseconds; 0: no sample yet.
    pub srtt_us: u32,
    /// Mean deviation of the RTT, microseconds.
    pub rttvar_us: u32,
    /// Minimum RTT of the recent past, microseconds; UINT32_MAX: no sample yet.
    pub min_rtt_us: u32,
    /// Retransmission timeout without backoff, microseconds.
    pub rto_us: u32,
    /// Segments delivered in total, modulo 2^32.
    pub delivered: u32,
    /// Segments declared lost in total, modulo 2^32.
    pub lost: u32,
    /// 1: the algorithm requires that packets are paced at pacing_rate.
    pub needs_pacing: u32,
    /// 0.
    pub reserved: u32,
    /// Pacing rate, bytes a second; UINT64_MAX: none.
    pub pacing_rate: u64,
    /// Delivery rate of the last good sample, bytes a second; 0: none.
    pub delivery_rate: u64,
}

// SAFETY: it has no padding: each member is aligned where the previous one ends.
unsafe impl Info for usk_cong_info_t {}
const _: () = assert!(size_of::<usk_cong_info_t>() == 16 + 12 * 4 + 2 * 8);

/// Runs `f` with the algorithm and its owned sock.
///
/// # Safety
/// `o` is owned; `cong` is from usk_cong_new, not freed, and used by nobody else meanwhile.
unsafe fn with<R>(
    o: *mut usk_owned_t,
    cong: *mut usk_cong_t,
    f: impl FnOnce(&mut Borrowed, &mut Lender<'_>) -> R,
) -> Result<R> {
    // SAFETY: the caller vouches for both.
    let (g, c) = unsafe { (guard(o)?, obj_mut(cong)?) };
    Ok(f(&mut c.inner, &mut Lender::new(g)))
}

/// Makes an instance of the algorithm `name` (null: that of net.ipv4.tcp_congestion_control) for the sock's protocol,
/// with the initial window of the sock's route. `mss`: payload bytes of a full segment. While it exists, the algorithm
/// cannot be unregistered. Returns null if there is no algorithm of that name, or `mss` is 0.
/// # Safety
/// `o` is owned; `name` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_new(o: *mut usk_owned_t, name: *const c_char, mss: u32) -> *mut usk_cong_t {
    kernel(|| {
        // SAFETY: owned, as the caller guarantees.
        let g = unsafe { guard(o) }?;
        // SAFETY: a string, as the caller guarantees.
        let name = if name.is_null() { None } else { Some(unsafe { ptr::string(name) }?) };
        let inner = Borrowed::new(&mut Lender::new(g), name, mss)?;
        Ok(Box::into_raw(Box::new(usk_cong_t { inner })))
    })
}

/// Frees an instance. Null is ignored.
/// # Safety
/// `o` is owned, the sock that it was made for; `cong` is null or from usk_cong_new, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_free(o: *mut usk_owned_t, cong: *mut usk_cong_t) {
    kernel(|| {
        if !cong.is_null() {
            // SAFETY: from Box::into_raw in usk_cong_new, freed once, as the caller guarantees.
            let c = unsafe { Box::from_raw(cong) };
            // SAFETY: owned, as the caller guarantees.
            let g = unsafe { guard(o) }?;
            c.inner.release(&mut Lender::new(g));
        }
        Ok(())
    });
}

/// Returns how many segments may be sent now, 0 or more. Call it before the first segment of a burst is sent: after an
/// idle time of an RTO it restarts the window (RFC 2861). -EINVAL for null.
/// # Safety
/// `o` is owned, the sock that `cong` was made for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_quota(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, l| c.quota(l).min(c_int::MAX as u32) as c_int) })
}

/// `n` segments are sent in one packet; `again`: it is a retransmission. `*mark`, unless null, is filled for
/// usk_cong_acked.
/// # Safety
/// As usk_cong_quota; `mark` is null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_sent(
    o: *mut usk_owned_t,
    cong: *mut usk_cong_t,
    n: u32,
    again: c_int,
    mark: *mut usk_cong_mark_t,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let m = unsafe { with(o, cong, |c, l| c.sent(l, n, again != 0)) }?;
        if !mark.is_null() {
            // SAFETY: writable, as the caller guarantees; its alignment is the caller's.
            unsafe { mark.write_unaligned(usk_cong_mark_t { opaque: m.to_words() }) };
        }
        Ok(0)
    })
}

/// An acknowledgement: takes its RTT and rate samples, and opens or reduces the window. -EINVAL: unknown flags, or an
/// rtt_us below -1.
/// # Safety
/// As usk_cong_quota; `ack` is readable, and its mark is null or points to one that usk_cong_sent filled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_acked(
    o: *mut usk_owned_t,
    cong: *mut usk_cong_t,
    ack: *const usk_cong_ack_t,
) -> c_int {
    kernel(|| {
        // SAFETY: readable, as the caller guarantees.
        let a = unsafe { obj(ack) }?;
        if a.flags & !(USK_CONG_BEHIND_HOLE | USK_CONG_ECE) != 0 || a.rtt_us < -1 {
            return Err(Error::Inval);
        }
        let mark = if a.mark.is_null() {
            None
        } else {
            // SAFETY: readable, as the caller guarantees, whatever its alignment.
            Some(Mark::from_words(unsafe { a.mark.read_unaligned() }.opaque))
        };
        let acked = Acked {
            segments: a.segments,
            late: a.late,
            rtt_us: u32::try_from(a.rtt_us.min(u32::MAX.into())).ok(),
            mark,
            behind_hole: a.flags & USK_CONG_BEHIND_HOLE != 0,
            ece: a.flags & USK_CONG_ECE != 0,
        };
        // SAFETY: the caller vouches for both.
        unsafe { with(o, cong, |c, l| c.acked(l, &acked)) }.map(|()| 0)
    })
}

/// `n` segments in flight are lost: recovery begins, unless a recovery is in progress, to which they then belong.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_loss(o: *mut usk_owned_t, cong: *mut usk_cong_t, n: u32) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, l| c.loss(l, n)) }.map(|()| 0))
}

/// All data that was outstanding at the loss or at the timeout is acknowledged: the reduction is complete.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_recovered(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, l| c.recovered(l)) }.map(|()| 0))
}

/// The retransmission timer expired: everything in flight is lost, the window is one segment.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_rto(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, l| c.rto(l)) }.map(|()| 0))
}

/// The loss or timeout of this episode was spurious: window and threshold are restored. Returns 1; 0 if there is
/// nothing to undo.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_undo(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, l| c.undo(l).into()) })
}

/// The protocol has no more data though the window has room: rate samples of the segments in flight are
/// application-limited.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_app_limited(o: *mut usk_owned_t, cong: *mut usk_cong_t) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, _| c.app_limited()) }.map(|()| 0))
}

/// Sets the payload bytes of a full segment. -EINVAL: 0.
/// # Safety
/// As usk_cong_quota.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_set_mss(o: *mut usk_owned_t, cong: *mut usk_cong_t, mss: u32) -> c_int {
    // SAFETY: the caller vouches for both.
    kernel(|| unsafe { with(o, cong, |c, _| c.set_mss(mss)) }?.map(|()| 0))
}

/// Fills `*info` with the state of the algorithm. `size` is sizeof(usk_cong_info_t): members that the library does not
/// know are zero. Returns how many bytes the library filled; -EFAULT: `cong` or `info` is null.
/// # Safety
/// `cong` is null or from usk_cong_new, its sock owned; `info` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_cong_info(cong: *const usk_cong_t, info: *mut usk_cong_info_t, size: usize) -> isize {
    kernel(|| {
        // SAFETY: from usk_cong_new, as the caller guarantees.
        let i = unsafe { obj(cong) }?.inner.info();
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(i.name.bytes().take(15)) {
            *to = from as c_char;
        }
        let value = usk_cong_info_t {
            name,
            cwnd: i.cwnd,
            ssthresh: i.ssthresh,
            in_flight: i.in_flight,
            ca_state: i.ca_state as u32,
            srtt_us: i.srtt_us,
            rttvar_us: i.rttvar_us,
            min_rtt_us: i.min_rtt_us,
            rto_us: i.rto_us,
            delivered: i.delivered,
            lost: i.lost,
            needs_pacing: i.needs_pacing.into(),
            reserved: 0,
            pacing_rate: i.pacing_rate,
            delivery_rate: i.delivery_rate,
        };
        // SAFETY: writable, as the caller guarantees.
        unsafe { fill(info, size, &value) }.map(|n| n as isize)
    })
}

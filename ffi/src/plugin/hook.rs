//! What a hook of struct usk_sock_ops calls: looks at the connection, sets what may be set, reads and writes header
//! options. Above: the plug-in, from an event. Below: `usersock::tcp::sock_ops::HookCx`. Linux: bpf_setsockopt,
//! bpf_sock_ops_cb_flags_set, bpf_store_hdr_opt, bpf_load_hdr_opt.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj, obj_mut};
use super::gate::{slice, slice_mut};
use super::sock_ops::{Hdr, Hook, LENT, Registration, usk_hdr_t, usk_hook_t};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::tcp::sock_ops::{HdrWriter, HookCx, SockView, find_option};

/// A connection's numbers, as struct bpf_sock_ops has them: usk_hook_view. Of a request only the first five are known.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_sock_view_t {
    /// Our end.
    pub local: usk_addr_t,
    /// The peer; port 0 when there is none.
    pub remote: usk_addr_t,
    /// State by Linux's numbers; 12 (NEW_SYN_RECV) for a request.
    pub state: u32,
    /// 1: a sock; 0: a request.
    pub is_fullsock: u32,
    /// AF_INET or AF_INET6 of the socket; of a request, its listener's.
    pub family: u32,
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// Slow-start threshold, segments.
    pub snd_ssthresh: u32,
    /// Smoothed RTT, microseconds; 0 before a sample. (Linux shows it shifted left by 3.)
    pub srtt_us: u32,
    /// Least RTT of the last tcp_min_rtt_wlen, microseconds; UINT32_MAX before a sample.
    pub rtt_min_us: u32,
    /// MSS now, bytes.
    pub mss_cache: u32,
    /// Next expected of the peer.
    pub rcv_nxt: u32,
    /// Next to be sent.
    pub snd_nxt: u32,
    /// First unacknowledged.
    pub snd_una: u32,
    /// ECN state of the connection: bits of tcp_sock's ecn_flags.
    pub ecn_flags: u32,
    /// Last rate sample: segments.
    pub rate_delivered: u32,
    /// Last rate sample: microseconds.
    pub rate_interval_us: u32,
    /// Segments sent and not acknowledged.
    pub packets_out: u32,
    /// Retransmissions in flight.
    pub retrans_out: u32,
    /// Retransmissions ever.
    pub total_retrans: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Data segments received.
    pub data_segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// Data segments sent.
    pub data_segs_out: u32,
    /// Segments marked lost.
    pub lost_out: u32,
    /// Segments selectively acknowledged.
    pub sacked_out: u32,
    /// 0.
    pub reserved: u32,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
}

impl From<SockView> for usk_sock_view_t {
    fn from(v: SockView) -> usk_sock_view_t {
        usk_sock_view_t {
            local: v.local.into(),
            remote: v.remote.into(),
            state: v.state as u32,
            is_fullsock: v.is_fullsock.into(),
            family: v.family.into(),
            snd_cwnd: v.snd_cwnd,
            snd_ssthresh: v.snd_ssthresh,
            srtt_us: v.srtt_us,
            rtt_min_us: v.rtt_min_us,
            mss_cache: v.mss_cache,
            rcv_nxt: v.rcv_nxt,
            snd_nxt: v.snd_nxt,
            snd_una: v.snd_una,
            ecn_flags: v.ecn_flags.into(),
            rate_delivered: v.rate_delivered,
            rate_interval_us: v.rate_interval_us,
            packets_out: v.packets_out,
            retrans_out: v.retrans_out,
            total_retrans: v.total_retrans,
            segs_in: v.segs_in,
            data_segs_in: v.data_segs_in,
            segs_out: v.segs_out,
            data_segs_out: v.data_segs_out,
            lost_out: v.lost_out,
            sacked_out: v.sacked_out,
            reserved: 0,
            bytes_received: v.bytes_received,
            bytes_acked: v.bytes_acked,
        }
    }
}

/// # Safety
/// `h` is null or a running hook's argument.
unsafe fn hook<'a>(h: *mut usk_hook_t) -> Result<&'a mut HookCx<'static>> {
    // SAFETY: readable by the caller's word.
    let h = unsafe { h.cast::<Hook>().as_ref() }.filter(|h| h.magic == LENT).ok_or(Error::Inval)?;
    // SAFETY: the event that lent it runs on this thread, which uses one reference at a time.
    Ok(unsafe { &mut *h.cx })
}

/// # Safety
/// As [`hook`].
unsafe fn registration<'a>(h: *mut usk_hook_t) -> Result<&'a Registration> {
    // SAFETY: readable by the caller's word.
    let h = unsafe { h.cast::<Hook>().as_ref() }.filter(|h| h.magic == LENT).ok_or(Error::Inval)?;
    // SAFETY: the event that lent it holds the registration.
    Ok(unsafe { &*h.reg })
}

/// # Safety
/// `w` is null or a running hook's argument.
unsafe fn hdr<'a>(w: *mut usk_hdr_t) -> Result<&'a mut HdrWriter<'static>> {
    // SAFETY: readable by the caller's word.
    let w = unsafe { w.cast::<Hdr>().as_ref() }.filter(|w| w.magic == LENT).ok_or(Error::Inval)?;
    // SAFETY: as in `hook`.
    Ok(unsafe { &mut *w.writer })
}

/// Fills `*view` with the connection's numbers now. `size` is sizeof(usk_sock_view_t): what the library does not know
/// is zero.
/// # Safety
/// `h` is a hook's argument; `view` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_view(h: *mut usk_hook_t, view: *mut usk_sock_view_t, size: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (cx, to) = unsafe { (hook(h)?, slice_mut(view.cast(), size)?) };
        let v = usk_sock_view_t::from(cx.view());
        // SAFETY: repr(C) without padding (a test compares the sizes), alive as long as it is read.
        let from = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&v).cast::<u8>(), size_of_val(&v)) };
        let n = from.len().min(to.len());
        to[..n].copy_from_slice(&from[..n]);
        to[n..].fill(0);
        Ok(0)
    })
}

/// Time of the event, nanoseconds of the stack's clock.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_now(h: *mut usk_hook_t) -> u64 {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }.map(|cx| cx.now().as_nanos()))
}

/// The events this hook wants of this sock: bits of USK_CB_*.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_cb_flags(h: *mut usk_hook_t) -> u32 {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }.map(|cx| cx.cb_flags().into()))
}

/// Sets them. A listener's are inherited by its children, and USK_CB_WRITE_HDR_OPT on it writes its SYN-ACKs. -EINVAL:
/// a request, or an unknown bit.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_cb_flags(h: *mut usk_hook_t, flags: u32) -> c_int {
    kernel(|| {
        let flags = u8::try_from(flags).map_err(|_| Error::Inval)?;
        // SAFETY: by the caller's word.
        unsafe { hook(h) }?.set_cb_flags(flags).map(|()| 0)
    })
}

/// Breaks the event's socket as usk_sock_break does, for the catch around a hook: calls answer EIO, and no hook is
/// called for it any more. Of a request that is its listener. What the hook answers then does not count.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_break(h: *mut usk_hook_t) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }.map(|cx| cx.sock().set_broken()).map(|()| 0))
}

/// What this hook keeps on this sock; 0 until set.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_value(h: *mut usk_hook_t) -> u64 {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }.map(|cx| cx.value()))
}

/// Keeps a number for this hook on this sock, for as long as the sock lives (bpf_sk_storage). -EINVAL: a request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_value(h: *mut usk_hook_t, value: u64) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_value(value).map(|()| 0))
}

/// Initial congestion window, segments (TCP_BPF_IW). -EINVAL: 0, data was sent already, or a request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_init_cwnd(h: *mut usk_hook_t, segs: u32) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_init_cwnd(segs).map(|()| 0))
}

/// Greatest congestion window, segments; the threshold is set to it too (TCP_BPF_SNDCWND_CLAMP). -EINVAL: 0, or a
/// request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_snd_cwnd_clamp(h: *mut usk_hook_t, segs: u32) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_snd_cwnd_clamp(segs).map(|()| 0))
}

/// Least RTO, microseconds (TCP_BPF_RTO_MIN). -EINVAL: below 2 or above 200 ms, or a request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_rto_min(h: *mut usk_hook_t, us: u32) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_rto_min(Duration::from_micros(us.into())).map(|()| 0))
}

/// Longest delay of an acknowledgement, microseconds (TCP_BPF_DELACK_MAX). -EINVAL: below 2 or above 200 ms, or a
/// request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_delack_max(h: *mut usk_hook_t, us: u32) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_delack_max(Duration::from_micros(us.into())).map(|()| 0))
}

/// Congestion control by name, as TCP_CONGESTION. -ENOENT: none of that name; -EINVAL: a request.
/// # Safety
/// `h` is a hook's argument; `name` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_congestion(h: *mut usk_hook_t, name: *const c_char) -> c_int {
    kernel(|| {
        // SAFETY: by the caller's word.
        let (cx, _) = unsafe { (hook(h)?, obj(name)?) };
        // SAFETY: a string by the caller's word.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Error::NoEnt)?;
        cx.set_congestion(name).map(|()| 0)
    })
}

/// Name of the congestion control, NUL-terminated and cut to `len`; answers the length of the whole.
/// # Safety
/// `h` is a hook's argument; `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_congestion(h: *mut usk_hook_t, buf: *mut c_char, len: usize) -> isize {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (cx, to) = unsafe { (hook(h)?, slice_mut(buf.cast(), len)?) };
        let name = cx.congestion();
        if let Some(room) = to.len().checked_sub(1) {
            let n = name.len().min(room);
            to[..n].copy_from_slice(&name.as_bytes()[..n]);
            to[n] = 0;
        }
        Ok(name.len() as isize)
    })
}

/// TCP_SAVE_SYN of a listener: whether its children keep their SYN for TCP_SAVED_SYN. -EINVAL: a request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_save_syn(h: *mut usk_hook_t, on: c_int) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hook(h) }?.set_save_syn(on != 0).map(|()| 0))
}

/// Counts `n` in counter `index` of the table's mib_names. -EINVAL: an index beyond them.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_count(h: *mut usk_hook_t, index: u32, n: u64) -> c_int {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { registration(h) }?.lists.count(index, n).map(|()| 0))
}

/// The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_sysctl(h: *mut usk_hook_t, index: u32) -> i64 {
    kernel(|| {
        // SAFETY: by the caller's word.
        let reg = unsafe { registration(h) }?;
        Ok(reg.stack.upgrade().and_then(|stack| reg.lists.sysctl(&stack, index)).unwrap_or(0))
    })
}

/// Appends one option to the header: kind, length, data; of the experimental kinds 253 and 254 the data begins with the
/// experiment's number (RFC 6994 §3). `len` is the option's own length or more. -EINVAL: not well formed, or a kind
/// without length; -ENOSPC: more than was reserved; -EEXIST: an option of this kind (and experiment) is in the header
/// already (bpf_store_hdr_opt).
/// # Safety
/// `w` is write_hdr_opt's argument; `option` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hdr_store(w: *mut usk_hdr_t, option: *const c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (w, option) = unsafe { (hdr(w)?, slice(option, len)?) };
        w.store(option).map(|()| 0)
    })
}

/// Bytes still free of what the hook reserved.
/// # Safety
/// `w` is write_hdr_opt's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hdr_remaining(w: *mut usk_hdr_t) -> usize {
    // SAFETY: by the caller's word.
    kernel(|| unsafe { hdr(w) }.map(|w| w.remaining()))
}

/// Option bytes that TCP itself wrote into this header; `*len` says how many.
/// # Safety
/// `w` is write_hdr_opt's argument, and the bytes are used while that runs; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hdr_own(w: *mut usk_hdr_t, len: *mut usize) -> *const c_void {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (w, len) = unsafe { (hdr(w)?, obj_mut(len)?) };
        *len = w.own_options().len();
        Ok(w.own_options().as_ptr().cast())
    })
}

/// Data of the first option of a kind in option bytes, `*data_len` of it; with an `exid` of 0 or more, of the first
/// that begins with this experiment's number, which is part of the data (RFC 6994 §3.1). Null: none
/// (bpf_load_hdr_opt).
/// # Safety
/// `options` is readable for `len` bytes; `data_len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_find_option(
    options: *const c_void,
    len: usize,
    kind: u8,
    exid: c_int,
    data_len: *mut usize,
) -> *const c_void {
    kernel(|| {
        let exid = if exid < 0 { None } else { Some(u16::try_from(exid).map_err(|_| Error::Inval)?) };
        // SAFETY: the caller vouches for both.
        let (options, data_len) = unsafe { (slice(options, len)?, obj_mut(data_len)?) };
        *data_len = 0;
        let data = find_option(options, kind, exid).ok_or(Error::NoEnt)?;
        *data_len = data.len();
        Ok(data.as_ptr().cast())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_has_no_padding_that_would_be_read_uninitialized() {
        assert_eq!(size_of::<usk_sock_view_t>(), 2 * size_of::<usk_addr_t>() + 24 * 4 + 2 * 8);
    }
}

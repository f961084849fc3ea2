//! The functions that a hook of struct usk_sock_ops may call: they read the connection's variables, set options, read
//! and write header options. Above: the plug-in, from an event. Below: `usersock::tcp::sock_ops::HookCx`. Linux:
//! bpf_setsockopt, bpf_sock_ops_cb_flags_set, bpf_store_hdr_opt, bpf_load_hdr_opt.

use super::addr::usk_addr_t;
use super::gate::{kernel, obj_mut, slice};
use super::sock_ops::{Hdr, mark, usk_hdr_t, usk_hook_t};
use super::table::{Info, fill};
use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::tcp::sock_ops::{HdrWriter, HookCx, find_option};

/// A connection's numbers, as struct bpf_sock_ops has them: usk_hook_view. For a request only the first five members
/// are set.
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
    /// Next sequence number expected from the peer.
    pub rcv_nxt: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// First unacknowledged sequence number.
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
    /// The events that this hook has asked for on this sock: bits of USK_CB_*.
    pub cb_flags: u32,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
    /// Name of the congestion control, NUL-terminated.
    pub congestion: [c_char; 16],
}

// SAFETY: it has no padding: each member is aligned where the previous one ends.
unsafe impl Info for usk_sock_view_t {}
const _: () = assert!(size_of::<usk_sock_view_t>() == 2 * size_of::<usk_addr_t>() + 24 * 4 + 2 * 8 + 16);

impl usk_sock_view_t {
    fn of(cx: &HookCx<'_>) -> usk_sock_view_t {
        let v = cx.view();
        let mut congestion = [0; 16];
        for (to, from) in congestion.iter_mut().zip(cx.congestion().bytes().take(15)) {
            *to = from as c_char;
        }
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
            cb_flags: cx.cb_flags().into(),
            bytes_received: v.bytes_received,
            bytes_acked: v.bytes_acked,
            congestion,
        }
    }
}

/// # Safety
/// `w` is null or a running hook's argument.
unsafe fn hdr<'a>(w: *mut usk_hdr_t) -> Result<&'a mut HdrWriter<'static>> {
    // SAFETY: readable, as the caller guarantees.
    let w = unsafe { w.cast::<Hdr>().as_ref() }.filter(|w| w.lent == mark()).ok_or(Error::Inval)?;
    // SAFETY: as in `usk_hook_t::cx`.
    Ok(unsafe { &mut *w.writer })
}

/// Fills `*view` with the present values of the connection's variables. `size` is sizeof(usk_sock_view_t): members that
/// the library does not know are zero. Returns how many bytes the library filled.
/// # Safety
/// `h` is a hook's argument; `view` is writable for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_view(h: *mut usk_hook_t, view: *mut usk_sock_view_t, size: usize) -> isize {
    kernel(|| {
        // SAFETY:, as the caller guarantees.
        let v = usk_sock_view_t::of(unsafe { usk_hook_t::cx(h) }?);
        // SAFETY: writable, as the caller guarantees.
        unsafe { fill(view, size, &v) }.map(|n| n as isize)
    })
}

/// Sets the events that this hook gets for this sock: bits of USK_CB_* (bpf_sock_ops_cb_flags_set). Children inherit
/// the bits of their listener, and USK_CB_WRITE_HDR_OPT on a listener applies to its SYN-ACKs. Returns 0; -EINVAL: a
/// request, or an unknown bit.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_cb_flags(h: *mut usk_hook_t, flags: u32) -> c_int {
    kernel(|| {
        let flags = u8::try_from(flags).map_err(|_| Error::Inval)?;
        // SAFETY:, as the caller guarantees.
        unsafe { usk_hook_t::cx(h) }?.set_cb_flags(flags).map(|()| 0)
    })
}

/// The value that this hook has stored for this sock; 0 until set.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_value(h: *mut usk_hook_t) -> u64 {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { usk_hook_t::cx(h) }.map(|cx| cx.value()))
}

/// Stores a value for this hook and this sock, for as long as the sock exists (bpf_sk_storage). -EINVAL: a request.
/// # Safety
/// `h` is a hook's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_set_value(h: *mut usk_hook_t, value: u64) -> c_int {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { usk_hook_t::cx(h) }?.set_value(value).map(|()| 0))
}

/// For usk_hook_setsockopt: an int, the initial congestion window, segments (TCP_BPF_IW).
pub const USK_TCP_BPF_IW: c_int = 1001;
/// For usk_hook_setsockopt: an int, the greatest congestion window, segments; the threshold is set to it too
/// (TCP_BPF_SNDCWND_CLAMP).
pub const USK_TCP_BPF_SNDCWND_CLAMP: c_int = 1002;
/// For usk_hook_setsockopt: an int, the longest delay of an acknowledgement, microseconds, up to 200000
/// (TCP_BPF_DELACK_MAX).
pub const USK_TCP_BPF_DELACK_MAX: c_int = 1003;
/// For usk_hook_setsockopt: an int, the least RTO, microseconds, up to 200000 (TCP_BPF_RTO_MIN).
pub const USK_TCP_BPF_RTO_MIN: c_int = 1004;

/// Sets an option of the event's connection (bpf_setsockopt). `level` is IPPROTO_TCP; `name` is one of USK_TCP_BPF_*,
/// TCP_CONGESTION (a name), or TCP_SAVE_SYN (an int, on a listener: its children save their SYN for TCP_SAVED_SYN).
/// Returns 0; -EINVAL: a request, another option, an invalid value or length, an initial window after data was sent;
/// -ENOENT: no congestion control of that name.
/// # Safety
/// `h` is a hook's argument; `value` is readable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hook_setsockopt(
    h: *mut usk_hook_t,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: usize,
) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (cx, value) = unsafe { (usk_hook_t::cx(h)?, slice(value, len)?) };
        if level != libc::IPPROTO_TCP {
            return Err(Error::Inval);
        }
        if name == libc::TCP_CONGESTION {
            let text = value.split(|b| *b == 0).next().unwrap_or_default();
            let text = std::str::from_utf8(text).map_err(|_| Error::NoEnt)?;
            return cx.set_congestion(text).map(|()| 0);
        }
        let value = i32::from_ne_bytes(value.try_into().map_err(|_| Error::Inval)?);
        let n = u32::try_from(value).map_err(|_| Error::Inval)?;
        match name {
            USK_TCP_BPF_IW => cx.set_init_cwnd(n),
            USK_TCP_BPF_SNDCWND_CLAMP => cx.set_snd_cwnd_clamp(n),
            USK_TCP_BPF_DELACK_MAX => cx.set_delack_max(Duration::from_micros(n.into())),
            USK_TCP_BPF_RTO_MIN => cx.set_rto_min(Duration::from_micros(n.into())),
            libc::TCP_SAVE_SYN => cx.set_save_syn(n != 0),
            _ => Err(Error::Inval),
        }
        .map(|()| 0)
    })
}

/// Appends one option to the header: kind, length, data; for the experimental kinds 253 and 254 the data begins with
/// the ExID (RFC 6994 §3). `len` is at least the option's length. -EINVAL: malformed, or a kind without length;
/// -ENOSPC: more than was reserved; -EEXIST: an option of this kind (and ExID) is in the header already
/// (bpf_store_hdr_opt).
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

/// Bytes of the hook's reservation that are still free.
/// # Safety
/// `w` is write_hdr_opt's argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hdr_remaining(w: *mut usk_hdr_t) -> usize {
    // SAFETY:, as the caller guarantees.
    kernel(|| unsafe { hdr(w) }.map(|w| w.remaining()))
}

/// The option bytes that TCP itself wrote into this header; `*len` gets their number.
/// # Safety
/// `w` is write_hdr_opt's argument, and the bytes are used only until write_hdr_opt returns; `len` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_hdr_own(w: *mut usk_hdr_t, len: *mut usize) -> *const c_void {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (w, len) = unsafe { (hdr(w)?, obj_mut(len)?) };
        *len = w.own_options().len();
        Ok(w.own_options().as_ptr().cast())
    })
}

/// Finds the first option of a kind in option bytes and returns its data, `*data_len` bytes; with an `exid` of 0 or
/// more, the first one with this ExID, which is part of the data (RFC 6994 §3.1). Null: there is none
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

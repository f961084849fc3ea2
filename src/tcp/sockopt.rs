//! Options of IPPROTO_TCP; those of IP levels go to `ip::sockopt`. Above: `proto`. Ranges, units and errors are those
//! of Linux 6.18, as observed. Linux: do_tcp_setsockopt, do_tcp_getsockopt.
//!
//! Not here, and refused with ENOPROTOOPT as a kernel built without it would: TCP_ZEROCOPY_RECEIVE.

use super::fastopen::cookie::Keys;
use super::info;
use super::tcb::{Cx, TcpSock, nagle};
use super::{auth, cong, delack, fastopen, mtu, output, rcvbuf, recvmsg, repair, rtt, sock_ops, tfb, timer, ulp};
use crate::base::error::{Error, Result};
use crate::ip;
use crate::sock::proto::SockRef;
use crate::sock::sockopt::{int, put, put_int, within};
use crate::sock::state::State;
use crate::sock::{SockGuard, flag};
use crate::stack::Stack;

/// Options of IPPROTO_TCP by Linux's numbers.
#[allow(missing_docs)]
pub(crate) mod opt {
    pub(crate) const NODELAY: i32 = 1;
    pub(crate) const MAXSEG: i32 = 2;
    pub(crate) const CORK: i32 = 3;
    pub(crate) const KEEPIDLE: i32 = 4;
    pub(crate) const KEEPINTVL: i32 = 5;
    pub(crate) const KEEPCNT: i32 = 6;
    pub(crate) const SYNCNT: i32 = 7;
    pub(crate) const LINGER2: i32 = 8;
    pub(crate) const DEFER_ACCEPT: i32 = 9;
    pub(crate) const WINDOW_CLAMP: i32 = 10;
    pub(crate) const INFO: i32 = 11;
    pub(crate) const QUICKACK: i32 = 12;
    pub(crate) const CONGESTION: i32 = 13;
    pub(crate) const MD5SIG: i32 = 14;
    pub(crate) const THIN_LINEAR_TIMEOUTS: i32 = 16;
    pub(crate) const THIN_DUPACK: i32 = 17;
    pub(crate) const USER_TIMEOUT: i32 = 18;
    pub(crate) const REPAIR: i32 = 19;
    pub(crate) const REPAIR_QUEUE: i32 = 20;
    pub(crate) const QUEUE_SEQ: i32 = 21;
    pub(crate) const REPAIR_OPTIONS: i32 = 22;
    pub(crate) const FASTOPEN: i32 = 23;
    pub(crate) const TIMESTAMP: i32 = 24;
    pub(crate) const NOTSENT_LOWAT: i32 = 25;
    pub(crate) const CC_INFO: i32 = 26;
    pub(crate) const SAVE_SYN: i32 = 27;
    pub(crate) const SAVED_SYN: i32 = 28;
    pub(crate) const REPAIR_WINDOW: i32 = 29;
    pub(crate) const INQ: i32 = 36;
    pub(crate) const FASTOPEN_CONNECT: i32 = 30;
    pub(crate) const ULP: i32 = 31;
    pub(crate) const MD5SIG_EXT: i32 = 32;
    pub(crate) const FASTOPEN_KEY: i32 = 33;
    pub(crate) const FASTOPEN_NO_COOKIE: i32 = 34;
    pub(crate) const TX_DELAY: i32 = 37;
    pub(crate) const AO_ADD_KEY: i32 = 38;
    pub(crate) const AO_DEL_KEY: i32 = 39;
    pub(crate) const AO_INFO: i32 = 40;
    pub(crate) const AO_GET_KEYS: i32 = 41;
    pub(crate) const AO_REPAIR: i32 = 42;
    pub(crate) const IS_MPTCP: i32 = 43;
    pub(crate) const RTO_MAX_MS: i32 = 44;
    pub(crate) const RTO_MIN_US: i32 = 45;
    pub(crate) const DELACK_MAX_US: i32 = 46;
    /// Our own, beyond those that Linux has for programs (46) and for BPF (1001 on): hooks by name.
    pub(crate) const HOOKS: i32 = 2001;
    pub(crate) const HOOKS_DETACH: i32 = 2002;
    /// Ours, with the number of FreeBSD's TCP_FUNCTION_BLK.
    pub(crate) const STACK: i32 = 8192;
    /// From here on they are an alternative TCP's own.
    pub(crate) const STACK_OWN: i32 = 8448;
}

/// Least and greatest TCP_MAXSEG (TCP_MIN_MSS, MAX_TCP_WINDOW), bytes.
const MAXSEG: std::ops::RangeInclusive<i32> = 88..=32_767;
/// Greatest keepalive times, seconds, and counts.
const MAX_KEEP_SECS: i32 = 32_767;
const MAX_COUNT: i32 = 127;
/// Greatest TCP_LINGER2, seconds (TCP_FIN_TIMEOUT_MAX).
const MAX_LINGER2: i32 = 120;
/// Bounds of TCP_RTO_MIN_US and TCP_DELACK_MAX_US, µs: a timer tick and TCP_RTO_MIN.
const TICK_US: i32 = 1_000;
const RTO_MIN_US: i32 = 200_000;
/// Greatest TCP_TX_DELAY, µs: as an RTT it is kept in eighths.
const MAX_TX_DELAY: i32 = (1 << 28) - 1;
/// Names of congestion control algorithms are shorter than this.
const CA_NAME_MAX: usize = 16;

/// setsockopt(2). Errors: ENOPROTOOPT, EINVAL (length, range), ENOENT (no such algorithm), EPERM (one that
/// programs may not choose), EBUSY (a live connection cannot change its TCP).
pub(crate) fn set(sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
    let mut g = sk.lock();
    if level != libc::IPPROTO_TCP {
        ip::sockopt::set(&mut g, level, name, value)?;
        if (level, name) == (libc::SOL_IP, libc::IP_OPTIONS) || ip::socket_headers::changes_room(level, name) {
            ip_options_changed(&mut g);
        }
        return Ok(());
    }
    if name == opt::CONGESTION {
        return set_congestion(&mut g, value);
    }
    if name == opt::ULP {
        return ulp::set(&mut g, option_name(value, ulp::NAME_MAX)?);
    }
    if matches!(name, opt::HOOKS | opt::HOOKS_DETACH) {
        return set_hooks(&mut g, name, value);
    }
    if name == opt::STACK || name >= opt::STACK_OWN {
        let Some(mut cx) = Cx::new(&mut g) else { return Err(Error::NoProtoOpt) };
        return match name {
            opt::STACK => tfb::set(&mut cx, option_name(value, tfb::NAME_MAX)?),
            _ => tfb::setsockopt(&mut cx, name, value),
        };
    }
    if name == opt::FASTOPEN_KEY {
        let keys = Keys::from_bytes(value).ok_or(Error::Inval)?;
        let Some(cx) = Cx::new(&mut g) else { return Err(Error::NoProtoOpt) };
        cx.tp.fastopen_mut().keys = Some(keys);
        return Ok(());
    }
    let val = int(value)?;
    let Some(mut cx) = Cx::new(&mut g) else { return Err(Error::NoProtoOpt) };
    match name {
        opt::MD5SIG | opt::MD5SIG_EXT => auth::option::set_md5(&mut cx, name, value),
        opt::AO_ADD_KEY | opt::AO_DEL_KEY | opt::AO_INFO | opt::AO_REPAIR => auth::ao_option::set(&mut cx, name, value),
        opt::REPAIR_OPTIONS => repair::set_options(&mut cx, value),
        opt::REPAIR_WINDOW => repair::set_window(&mut cx, value),
        _ => set_int(&mut cx, name, val),
    }
}

/// A connection's segments have more or less room than before (do_ip_setsockopt of IP_OPTIONS, ipv6_update_options).
fn ip_options_changed(g: &mut SockGuard<'_>) {
    if let Some(mut cx) = Cx::new(g)
        && !matches!(cx.state(), State::Close | State::Listen)
    {
        ip::socket_headers::resettle_room(cx.sk);
        let pmtu = cx.tp.pmtu_cookie;
        mtu::sync_mss(&mut cx, pmtu);
    }
}

/// A name as an option has it, up to a NUL or `max` - 1 bytes. EINVAL: no byte at all; ENOENT: nothing can have that
/// name.
fn option_name(value: &[u8], max: usize) -> Result<&str> {
    if value.is_empty() {
        return Err(Error::Inval);
    }
    let name = &value[..value.len().min(max - 1)];
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    std::str::from_utf8(name).map_err(|_| Error::NoEnt)
}

fn set_congestion(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    let name = option_name(value, CA_NAME_MAX)?;
    let Some(mut cx) = Cx::new(g) else { return Err(Error::NoProtoOpt) };
    cong::may_choose(&cx, name)?;
    cong::set_congestion_control(&mut cx, name)
}

/// Attaches hooks to the socket, or takes them off.
fn set_hooks(g: &mut SockGuard<'_>, option: i32, value: &[u8]) -> Result<()> {
    let name = option_name(value, sock_ops::NAME_MAX + 1)?;
    let Some(mut cx) = Cx::new(g) else { return Err(Error::NoProtoOpt) };
    let done = match option {
        opt::HOOKS => sock_ops::attach_to(&mut cx, name),
        _ => sock_ops::detach_from(&mut cx, name),
    };
    Ok(done?)
}

/// Names of the socket's hooks, with commas between them and a NUL at the end; nothing, if there are none.
fn hooks(cx: &Cx<'_>, value: &mut [u8]) -> usize {
    let names = sock_ops::names(cx.tp).join(",");
    if names.is_empty() { 0 } else { put(value, format!("{names}\0").as_bytes()) }
}

fn set_int(cx: &mut Cx<'_>, name: i32, val: i32) -> Result<()> {
    let on = val != 0;
    match name {
        opt::NODELAY => {
            if on {
                cx.tp.nonagle |= nagle::OFF | nagle::PUSH;
                output::push_pending(cx);
            } else {
                cx.tp.nonagle &= !nagle::OFF;
            }
        }
        opt::MAXSEG => {
            // 0 removes the bound.
            if val != 0 {
                within(val, MAXSEG)?;
            }
            cx.tp.rx_opt.user_mss = val as u16;
        }
        opt::CORK => {
            if on {
                cx.tp.nonagle |= nagle::CORK;
            } else {
                cx.tp.nonagle &= !nagle::CORK;
                if cx.tp.nonagle & nagle::OFF != 0 {
                    cx.tp.nonagle |= nagle::PUSH;
                }
                output::push_pending(cx);
            }
        }
        opt::KEEPIDLE => {
            cx.tp.options_mut().keepalive_time_ms = within(val, 1..=MAX_KEEP_SECS)? as u32 * 1000;
            if cx.sk.flag(flag::KEEPOPEN) && !matches!(cx.state(), State::Close | State::Listen) {
                let (time, idle) = (timer::keepalive_time_when(cx), timer::keepalive_time_elapsed(cx));
                timer::reset_keepalive_timer(cx, time.saturating_sub(idle));
            }
        }
        opt::KEEPINTVL => cx.tp.options_mut().keepalive_intvl_ms = within(val, 1..=MAX_KEEP_SECS)? as u32 * 1000,
        opt::KEEPCNT => cx.tp.options_mut().keepalive_probes = within(val, 1..=MAX_COUNT)? as u8,
        opt::SYNCNT => cx.tp.options_mut().syn_retries = within(val, 1..=MAX_COUNT)? as u8,
        opt::LINGER2 => {
            cx.tp.options_mut().linger2_ms = match val {
                n if n < 0 => -1,
                n => n.min(MAX_LINGER2) * 1000,
            }
        }
        opt::DEFER_ACCEPT => {
            let max = cx.stack.sysctl.tcp_rto_max_ms().as_secs() as i32;
            cx.tp.options_mut().defer_accept = secs_to_retrans(val, 1, max);
        }
        opt::WINDOW_CLAMP => rcvbuf::set_window_clamp(cx, val)?,
        opt::QUICKACK => delack::set_quickack(cx, val),
        opt::THIN_LINEAR_TIMEOUTS => cx.tp.options_mut().thin_lto = within(val, 0..=1)? == 1,
        // Without effect since Linux 4.15, where RACK took over; the range is still checked.
        opt::THIN_DUPACK => {
            within(val, 0..=1)?;
        }
        opt::USER_TIMEOUT => cx.tp.options_mut().user_timeout_ms = within(val, 0..=i32::MAX)? as u32,
        opt::NOTSENT_LOWAT => {
            cx.tp.options_mut().notsent_lowat = val as u32;
            if recvmsg::stream_writable(cx) {
                cx.sock.wait.wake(crate::sock::wait::Events::OUT);
            }
        }
        opt::SAVE_SYN => cx.tp.options_mut().save_syn = within(val, 0..=2)? as u8,
        opt::INQ => cx.tp.recvmsg_inq = within(val, 0..=1)? == 1,
        opt::FASTOPEN | opt::FASTOPEN_CONNECT | opt::FASTOPEN_NO_COOKIE => fastopen::set_option(cx, name, val)?,
        opt::TX_DELAY => set_tx_delay(cx, within(val, 0..=MAX_TX_DELAY)? as u32),
        opt::REPAIR => repair::set_mode(cx, val)?,
        opt::REPAIR_QUEUE => repair::set_queue(cx, val)?,
        opt::QUEUE_SEQ => repair::set_seq(cx, val)?,
        opt::TIMESTAMP => repair::set_timestamp(cx, val)?,
        opt::RTO_MAX_MS => cx.tp.options_mut().rto_max_ms = within(val, 1_000..=120_000)? as u32,
        opt::RTO_MIN_US => cx.tp.options_mut().rto_min_us = within(val, TICK_US..=RTO_MIN_US)? as u32,
        opt::DELACK_MAX_US => cx.tp.options_mut().delack_max_us = within(val, TICK_US..=RTO_MIN_US)? as u32,
        _ => return Err(Error::NoProtoOpt),
    }
    Ok(())
}

/// TCP_TX_DELAY: packets leave so much later, where the device keeps departure times. The RTT of a connection is taken
/// to change by as much, so that no timer fires before the first sample says so (tcp_enable_tx_delay).
fn set_tx_delay(cx: &mut Cx<'_>, delay: u32) {
    let delta = (i64::from(delay) - i64::from(cx.tp.options().tx_delay)) << 3;
    cx.tp.options_mut().tx_delay = delay;
    if delta != 0 && cx.state() == State::Established {
        cx.tp.srtt_us = (i64::from(cx.tp.srtt_us) + delta).clamp(1, i64::from(u32::MAX)) as u32;
        rtt::set_rto(cx);
    }
}

/// Retransmissions that fit in so many seconds, doubling from `timeout` up to `max` (secs_to_retrans).
fn secs_to_retrans(seconds: i32, mut timeout: i32, max: i32) -> u8 {
    let mut n: u8 = 0;
    if seconds > 0 {
        let mut period = timeout;
        n = 1;
        while seconds > period && n < 255 {
            n += 1;
            timeout = (timeout << 1).min(max.max(1));
            period = period.saturating_add(timeout);
        }
    }
    n
}

/// The other way round, seconds.
fn retrans_to_secs(n: u8, mut timeout: i32, max: i32) -> i32 {
    if n == 0 {
        return 0;
    }
    let mut period = timeout;
    for _ in 1..n {
        timeout = (timeout << 1).min(max.max(1));
        period = period.saturating_add(timeout);
    }
    period
}

fn secs_or(ms: u32, default: std::time::Duration) -> i32 {
    if ms != 0 { (ms / 1000) as i32 } else { default.as_secs() as i32 }
}

/// getsockopt(2): writes at most `value.len()` bytes, returns how many. Errors: ENOPROTOOPT, EINVAL.
pub(crate) fn get(sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
    let mut g = sk.lock();
    if level != libc::IPPROTO_TCP {
        return crate::ip::sockopt::get(&g, level, name, value);
    }
    let Some(mut cx) = Cx::new(&mut g) else { return Err(Error::NoProtoOpt) };
    match name {
        opt::INFO => return Ok(put(value, &info::tcp_info(&cx))),
        opt::CONGESTION => {
            return Ok(put(value, &name_bytes(cx.tp.ca.ops.name())));
        }
        opt::CC_INFO => {
            let bytes = cx.with_ca(|a, cx| a.get_info(cx)).flatten();
            return Ok(bytes.map_or(0, |(_, b)| put(value, &b)));
        }
        opt::ULP => return Ok(ulp::name(cx.tp).map_or(0, |n| put(value, &name_bytes(n)))),
        opt::HOOKS => return Ok(hooks(&cx, value)),
        opt::STACK => return Ok(put(value, &name_bytes(tfb::name(cx.tp)))),
        opt::STACK_OWN.. => return tfb::getsockopt(&mut cx, name, value),
        opt::SAVED_SYN => return saved_syn(&mut cx, value),
        opt::REPAIR_WINDOW => return repair::window(cx.tp, value),
        opt::AO_INFO | opt::AO_GET_KEYS | opt::AO_REPAIR => return auth::ao_option::get(&cx, name, value),
        opt::FASTOPEN_KEY => {
            let keys = cx.tp.fastopen().and_then(|f| f.keys.as_ref()).map(Keys::to_bytes);
            return Ok(keys.map_or(0, |k| put(value, &k)));
        }
        _ => {}
    }
    Ok(put_int(value, get_int(cx.stack, &cx, name)?))
}

/// A name as an option gives it: 16 bytes, the last a NUL.
fn name_bytes(name: &str) -> [u8; CA_NAME_MAX] {
    let mut b = [0; CA_NAME_MAX];
    let n = name.as_bytes();
    let len = n.len().min(CA_NAME_MAX - 1);
    b[..len].copy_from_slice(&n[..len]);
    b
}

/// TCP_SAVED_SYN gives the headers once. EINVAL with a buffer that is too small.
fn saved_syn(cx: &mut Cx<'_>, value: &mut [u8]) -> Result<usize> {
    let Some(syn) = cx.tp.cold.as_mut().and_then(|c| c.saved_syn.take()) else { return Ok(0) };
    if value.len() < syn.len() {
        cx.tp.cold.get_or_insert_default().saved_syn = Some(syn);
        return Err(Error::Inval);
    }
    Ok(put(value, &syn))
}

fn get_int(stack: &Stack, cx: &Cx<'_>, name: i32) -> Result<i32> {
    let tp: &TcpSock = cx.tp;
    let sysctl = &stack.sysctl;
    Ok(match name {
        opt::NODELAY => (tp.nonagle & nagle::OFF != 0) as i32,
        // The peer's, for the program to restore (TCPOPT_MSS of TCP_REPAIR_OPTIONS).
        opt::MAXSEG if tp.repair => i32::from(tp.rx_opt.mss_clamp),
        opt::MAXSEG => {
            let unconnected = matches!(cx.state(), State::Close | State::Listen);
            if tp.rx_opt.user_mss != 0 && unconnected { i32::from(tp.rx_opt.user_mss) } else { tp.mss_cache as i32 }
        }
        opt::CORK => (tp.nonagle & nagle::CORK != 0) as i32,
        opt::KEEPIDLE => secs_or(tp.options().keepalive_time_ms, sysctl.tcp_keepalive_time()),
        opt::KEEPINTVL => secs_or(tp.options().keepalive_intvl_ms, sysctl.tcp_keepalive_intvl()),
        opt::KEEPCNT if tp.options().keepalive_probes != 0 => i32::from(tp.options().keepalive_probes),
        opt::KEEPCNT => sysctl.tcp_keepalive_probes(),
        opt::SYNCNT if tp.options().syn_retries != 0 => i32::from(tp.options().syn_retries),
        opt::SYNCNT => sysctl.tcp_syn_retries(),
        opt::LINGER2 if tp.options().linger2_ms < 0 => -1,
        opt::LINGER2 => secs_or(tp.options().linger2_ms as u32, sysctl.tcp_fin_timeout()),
        opt::DEFER_ACCEPT => retrans_to_secs(tp.options().defer_accept, 1, sysctl.tcp_rto_max_ms().as_secs() as i32),
        opt::WINDOW_CLAMP => tp.window_clamp as i32,
        opt::QUICKACK => i32::from(!delack::in_pingpong_mode(cx)),
        opt::THIN_LINEAR_TIMEOUTS => tp.options().thin_lto as i32,
        opt::THIN_DUPACK => 0,
        opt::USER_TIMEOUT => tp.options().user_timeout_ms as i32,
        opt::NOTSENT_LOWAT => tp.options().notsent_lowat as i32,
        opt::SAVE_SYN => i32::from(tp.options().save_syn),
        opt::INQ => tp.recvmsg_inq as i32,
        opt::FASTOPEN | opt::FASTOPEN_CONNECT | opt::FASTOPEN_NO_COOKIE => fastopen::option(tp, name),
        opt::REPAIR => tp.repair.into(),
        opt::REPAIR_QUEUE => repair::queue(tp)?,
        opt::QUEUE_SEQ => repair::seq(tp)?,
        opt::TIMESTAMP => repair::timestamp(cx),
        opt::TX_DELAY => tp.options().tx_delay as i32,
        opt::IS_MPTCP => 0,
        opt::RTO_MAX_MS => (rtt::rto_max_us(cx) / 1000) as i32,
        opt::RTO_MIN_US => rtt::rto_min_us(cx) as i32,
        opt::DELACK_MAX_US if tp.options().delack_max_us != 0 => tp.options().delack_max_us as i32,
        opt::DELACK_MAX_US => RTO_MIN_US,
        _ => return Err(Error::NoProtoOpt),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defer_accept_counts_seconds_in_retransmissions_as_the_kernel_answers() {
        // Pairs observed with getsockopt after setsockopt on Linux 6.18.
        for (set, want) in [(-1, 0), (0, 0), (1, 1), (5, 7), (1000, 1087)] {
            assert_eq!(retrans_to_secs(secs_to_retrans(set, 1, 120), 1, 120), want, "{set}");
        }
    }
}

//! TIME-WAIT, and FIN-WAIT-2 without a program: a record of a few numbers in the sock's place. Above: `rcv` (segments),
//! `input` and `close` (which put connections here). Below: `lookup`, `tw_timer`. Softirq context, no sock owned,
//! but for `time_wait`. RFC 9293 §3.6.1, RFC 1337, RFC 6191. Linux: net/ipv4/tcp_minisocks.c, inet_timewait_sock.c.

use super::auth::{self, Kept, NoKey};
use super::bhash::Bound;
use super::challenge::oow_rate_limited;
use super::input::paws_accepts;
use super::lookup::{Entry, hash_of_sock};
use super::net::TcpNet;
use super::tcb::Cx;
use super::tw_timer::Place;
use super::{change_state, close, ecn, metrics, rcv, window};
use crate::base::env::{Duration, Instant};
use crate::base::hash::{Tuple, addr128};
use crate::counters::Mib;
use crate::ip;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::{flag, ip_flag};
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::sys::place::arc_with;
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::{TcpFlags, TcpRepr};
use crate::wire::tcp_options::TcpOptions;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a closed connection is remembered (TCP_TIMEWAIT_LEN): 60 seconds in Linux, where RFC 9293 §3.4.2 asks for 2
/// MSL.
pub(crate) const TIMEWAIT_LEN: Duration = Duration::from_secs(60);
/// Up to this long a connection counts as killed and not as remembered.
const TW_KILLED: Duration = Duration::from_secs(4);
/// Age in seconds from which on a RST ignores timestamps (TCP_PAWS_MSL).
const PAWS_MSL: u32 = 60;

/// What changes in a record, and two bytes that fit beside it.
#[derive(Debug)]
struct Inner {
    /// When the record ends, ms, rounded up.
    expires_ms: u32,
    /// When the record entered its present substate, ms (tw_entry_stamp).
    entered_ms: u32,
    rcv_nxt: SeqNum,
    rcv_wnd: u32,
    /// RFC 7323 TS.Recent and the second it was taken; 0: no timestamps.
    ts_recent: u32,
    ts_recent_stamp: u32,
    last_oow_ack_ms: u32,
    /// TIME_WAIT or FIN_WAIT2 (tw_substate).
    substate: State,
    /// It left the tables.
    dead: bool,
    rcv_wscale: WindowShift,
    /// TOS, with the codepoint of acknowledgements of what is in the window.
    tos: u8,
}

/// A connection in TIME-WAIT or orphaned FIN-WAIT-2.
#[derive(Debug)]
pub struct TimeWait {
    inner: Mutex<Inner>,
    /// Where it is among those that end (tw_timer).
    pub(super) place: Place,
    bound: Option<Bound>,
    /// What few records have.
    rare: Option<Box<Rare>>,
    /// The addresses, unless `rare` has those of IPv6.
    saddr: Ipv4Addr,
    daddr: Ipv4Addr,
    sport: u16,
    dport: u16,
    snd_nxt: SeqNum,
    ts_offset: u32,
    txhash: u32,
}

/// What a record has over IPv6, of a connection that was bound to a device, or of one that was signed.
#[derive(Debug, Default)]
struct Rare {
    /// Source and destination.
    v6: Option<(Ipv6Addr, Ipv6Addr)>,
    /// The connection's keys, which sign its acknowledgements and resets (tw_md5_key, ao_info).
    auth: Option<Kept>,
    oif: u32,
    flow_label: u32,
}

impl Rare {
    fn of(cx: &Cx<'_>) -> Option<Box<Rare>> {
        let v6 = match (cx.sk.saddr, cx.sk.daddr) {
            (IpAddr::V4(_), IpAddr::V4(_)) => None,
            (saddr, daddr) => Some((addr128(saddr).into(), addr128(daddr).into())),
        };
        let auth = auth::time_wait(cx);
        let (oif, flow_label) = (cx.sk.bound_dev_if, cx.sk.flow_label);
        let any = v6.is_some() || auth.is_some() || oif != 0 || flow_label != 0;
        any.then(|| Box::new(Rare { v6, auth, oif, flow_label }))
    }
}

/// A time rounded up to milliseconds, in which a record keeps it.
fn whole_ms(at: Instant) -> Instant {
    Instant::from_nanos(at.as_nanos().next_multiple_of(1_000_000))
}

impl Inner {
    /// Time until the record ends.
    fn left(&self, now: Instant) -> Duration {
        let ms = self.expires_ms.wrapping_sub(now.as_millis() as u32);
        if (ms as i32) < 0 { Duration::ZERO } else { Duration::from_millis(ms.into()) }
    }
}

/// What a new connection of the same 4-tuple takes over (RFC 6191).
pub(super) struct Taken {
    pub write_seq: SeqNum,
    pub ts_recent: u32,
    pub ts_recent_stamp: u32,
}

/// What to do with a segment for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Done,
    /// Acknowledge.
    Ack,
    /// Acknowledge a segment that is out of the window or too old: as a packet that is not ECN-capable.
    AckOow,
    /// Reset the sender.
    Rst,
    /// A new connection may begin, with this ISN, if somebody listens.
    Syn(SeqNum),
}

/// Whether a timestamp says that a segment for a record or a request is old, without leniency (tcp_paws_reject).
/// `recent` was taken at `stamp`.
pub(super) fn paws_reject(recent: u32, stamp: u32, tsval: u32, now_secs: u32, rst: bool) -> bool {
    // A RST is accepted if the stored timestamp is older than RFC 1323's MSL.
    let past_msl = now_secs.wrapping_sub(stamp) as i32 >= PAWS_MSL as i32;
    !(paws_accepts(recent, stamp, tsval, now_secs, 0) || rst && past_msl)
}

/// RFC 9293 §3.4's acceptance test on a whole segment (tcp_in_window).
pub(super) fn in_window(seq: SeqNum, end: SeqNum, lo: SeqNum, hi: SeqNum) -> bool {
    seq == lo || (end.after(lo) && seq.before(hi)) || (seq == hi && seq == end)
}

/// Moves a connection into a record and closes the sock. `state` is TIME_WAIT or FIN_WAIT2; `timeo` how long FIN_WAIT2
/// lasts (TIME_WAIT lasts its 60 s). Above `tcp_max_tw_buckets` the connection is just forgotten. Linux:
/// `tcp_time_wait`.
pub(crate) fn time_wait(cx: &mut Cx<'_>, state: State, timeo: Duration) {
    let t = &cx.tp.net.hashinfo;
    let limit = i64::from(cx.stack.sysctl.tcp_max_tw_buckets());
    let overflow = t.tw_count.fetch_add(1, Ordering::Relaxed) >= limit;
    if overflow {
        t.tw_count.fetch_sub(1, Ordering::Relaxed);
        cx.stack.mib.inc(Mib::TcpExtTCPTimeWaitOverflow);
    } else {
        enter(cx, state, timeo);
    }
    metrics::update(cx);
    // The record has taken the sock's place in the table.
    change_state(cx, State::Close, overflow);
    close::has_closed(cx);
}

fn enter(cx: &mut Cx<'_>, state: State, timeo: Duration) {
    let timeo = if state == State::TimeWait { TIMEWAIT_LEN } else { timeo.max(close::rto_and_more(cx.tp)) };
    // The hold on the port moves to the record; a sock that the program bound and still holds keeps its own.
    let keeps = cx.sk.flag(flag::BINDPORT_LOCK) && !cx.sk.flag(flag::DEAD);
    let bound = match keeps {
        true => cx.tp.bound.as_ref().map(|b| cx.tp.net.hashinfo.bhash.bind_also(b)),
        false => {
            cx.sk.ip_flags |= ip_flag::PORT_LEFT;
            cx.tp.bound.take()
        }
    };
    let tos = if cx.sk.daddr.is_ipv4() { cx.sk.tos } else { cx.sk.tclass };
    let at = whole_ms(cx.now + timeo);
    let v4 = |addr| match addr {
        IpAddr::V4(addr) => addr,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let rare = Rare::of(cx);
    // In place: it is not copied there.
    let tw = arc_with(|| TimeWait {
        saddr: v4(cx.sk.saddr),
        daddr: v4(cx.sk.daddr),
        sport: cx.sk.sport,
        dport: cx.sk.dport,
        snd_nxt: cx.tp.snd_nxt,
        ts_offset: cx.tp.tsoffset,
        txhash: cx.tp.txhash,
        bound,
        rare,
        place: Place::default(),
        inner: Mutex::new(Inner {
            substate: state,
            rcv_nxt: cx.tp.rcv_nxt,
            rcv_wnd: window::receive_window(cx.tp),
            ts_recent: cx.tp.rx_opt.ts_recent,
            ts_recent_stamp: cx.tp.rx_opt.ts_recent_stamp,
            entered_ms: cx.now.as_millis() as u32,
            expires_ms: at.as_millis() as u32,
            last_oow_ack_ms: 0,
            dead: false,
            rcv_wscale: cx.tp.rx_opt.rcv_wscale,
            tos: ecn::with_codepoint(tos, ecn::timewait_codepoint(cx.tp)),
        }),
    });
    cx.tp.net.hashinfo.tw_timers.arm(cx.stack, &tw, at);
    // Counted by how long it is going to wait (inet_twsk_schedule).
    cx.stack.mib.inc(if timeo <= TW_KILLED { Mib::TcpExtTWKilled } else { Mib::TcpExtTW });
    cx.tp.net.hashinfo.insert(hash_of_sock(cx.stack, cx.sk), Entry::TimeWait(tw), |_| true);
}

/// Frees a record's timer and port. The caller removes it from the table. Linux: inet_twsk_deschedule_put's rest.
pub(super) fn forget(net: &TcpNet, tw: &Arc<TimeWait>) {
    if std::mem::replace(&mut tw.inner.lock().dead, true) {
        return;
    }
    net.hashinfo.tw_timers.cancel(tw);
    if let Some(b) = &tw.bound {
        net.hashinfo.bhash.unbind(b);
    }
    net.hashinfo.tw_count.fetch_sub(1, Ordering::Relaxed);
}

/// Takes a record out of the table and forgets it.
pub(super) fn kill(net: &TcpNet, stack: &Stack, tw: &Arc<TimeWait>) {
    let mine = |e: &Entry| matches!(e, Entry::TimeWait(t) if Arc::ptr_eq(t, tw));
    let gone = net.hashinfo.remove(stack.keys.ehash64(&tw.tuple()), mine);
    forget(net, tw);
    drop(gone);
}

/// The list is due that the record was in. Its own time may have been put off meanwhile (tw_timer_handler).
pub(super) fn expired(net: &TcpNet, stack: &Arc<Stack>, tw: &Arc<TimeWait>, now: Instant) {
    let i = tw.inner.lock();
    if i.dead {
        return;
    }
    let left = i.left(now);
    if !left.is_zero() {
        return net.hashinfo.tw_timers.arm(stack, tw, now + left);
    }
    drop(i);
    kill(net, stack, tw);
}

impl TimeWait {
    /// A record of a port, for tests of where records are.
    #[cfg(test)]
    pub(super) fn of_port(dport: u16, expires: Instant) -> Arc<TimeWait> {
        let any = Ipv4Addr::UNSPECIFIED;
        let inner = Inner {
            expires_ms: expires.as_millis() as u32,
            entered_ms: 0,
            rcv_nxt: SeqNum(0),
            rcv_wnd: 0,
            ts_recent: 0,
            ts_recent_stamp: 0,
            last_oow_ack_ms: 0,
            substate: State::TimeWait,
            dead: false,
            rcv_wscale: WindowShift::NONE,
            tos: 0,
        };
        Arc::new(TimeWait {
            inner: Mutex::new(inner),
            place: Place::default(),
            bound: None,
            rare: None,
            saddr: any,
            daddr: any,
            sport: 0,
            dport,
            snd_nxt: SeqNum(0),
            ts_offset: 0,
            txhash: 0,
        })
    }

    /// The device that the connection was bound to; 0: any.
    pub(super) fn oif(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.oif)
    }

    fn flow_label(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.flow_label)
    }

    fn auth(&self) -> Option<&Kept> {
        self.rare.as_ref()?.auth.as_ref()
    }

    /// Source and destination; those of IPv4 mapped to IPv6 where `rare` has them.
    fn addresses(&self) -> (IpAddr, IpAddr) {
        match self.rare.as_ref().and_then(|rare| rare.v6) {
            Some((saddr, daddr)) => (saddr.into(), daddr.into()),
            None => (self.saddr.into(), self.daddr.into()),
        }
    }

    /// TIME_WAIT or FIN_WAIT2 (listings).
    pub fn substate(&self) -> State {
        self.inner.lock().substate
    }

    /// Time until the record is forgotten (listings).
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.inner.lock().left(now)
    }

    /// The connection's 4-tuple.
    pub fn tuple(&self) -> Tuple {
        let (saddr, daddr) = self.addresses();
        Tuple { saddr: addr128(saddr), sport: self.sport, daddr: addr128(daddr), dport: self.dport }
    }

    /// The peer's port.
    pub(super) fn dport(&self) -> u16 {
        self.dport
    }

    /// TIME_WAIT begins, or begins again (inet_twsk_reschedule).
    fn rearm(self: &Arc<Self>, net: &TcpNet, stack: &Arc<Stack>, i: &mut Inner, now: Instant) {
        let at = whole_ms(now + TIMEWAIT_LEN);
        i.expires_ms = at.as_millis() as u32;
        if !i.dead {
            net.hashinfo.tw_timers.arm(stack, self, at);
        }
    }

    /// What an active open of the same 4-tuple may take over, if it may (tcp_twsk_unique). Without timestamps the old
    /// connection's segments could not be told from the new one's. For a port that the program chose `tcp_tw_reuse` is
    /// not asked.
    pub(super) fn reusable(&self, stack: &Stack, now: Instant, loopback: bool, bound: bool) -> Option<Taken> {
        let allowed = match stack.sysctl.tcp_tw_reuse() {
            0 => false,
            2 => loopback,
            _ => true,
        };
        if !(bound || allowed) {
            // A search for a port asks thousands of records, whose lines are in no cache.
            return None;
        }
        let i = self.inner.lock();
        if i.ts_recent_stamp == 0 {
            return None;
        }
        let age = (now.as_millis() as u32).wrapping_sub(i.entered_ms);
        let old_enough = Duration::from_millis(age.into()) >= stack.sysctl.tcp_tw_reuse_delay();
        if !(bound || old_enough && i.substate != State::FinWait2) {
            return None;
        }
        let seq = self.snd_nxt + 65_537;
        let write_seq = if seq == SeqNum(0) { SeqNum(1) } else { seq };
        Some(Taken { write_seq, ts_recent: i.ts_recent, ts_recent_stamp: i.ts_recent_stamp })
    }

    /// RFC 9293 §3.10.7.4 for the two states a record has, with RFC 1337 and RFC 6191. Linux:
    /// tcp_timewait_state_process.
    fn process(self: &Arc<Self>, net: &TcpNet, stack: &Arc<Stack>, skb: &Skb, now: Instant) -> Verdict {
        let mut guard = self.inner.lock();
        let i = &mut *guard;
        let (seq, end) = (skb.tcp.seq, skb.tcp.end_seq);
        let secs = now.as_secs() as u32;
        let has = |f| skb.tcp.all_flags().contains(f);
        let (rst, syn, ack) = (has(TcpFlags::RST), has(TcpFlags::SYN), has(TcpFlags::ACK));
        let mut tsval = None;
        if i.ts_recent_stamp != 0 {
            tsval = TcpOptions::parse(rcv::option_bytes(skb)).timestamps.map(|t| t.0);
        }
        let paws = tsval.is_some_and(|v| paws_reject(i.ts_recent, i.ts_recent_stamp, v, secs, rst));
        let note = |i: &mut Inner| {
            if let Some(v) = tsval {
                i.ts_recent = v;
                i.ts_recent_stamp = secs.max(1);
            }
        };
        if i.substate == State::FinWait2 {
            if paws || !in_window(seq, end, i.rcv_nxt, i.rcv_nxt + i.rcv_wnd) {
                return Self::oow(stack, skb, now, i, Mib::TcpExtTCPACKSkippedFinWait2);
            }
            if rst {
                drop(guard);
                kill(net, stack, self);
                return Verdict::Done;
            }
            if syn && !seq.before(i.rcv_nxt) {
                return Verdict::Rst;
            }
            if !ack || !end.after(i.rcv_nxt) || end == seq {
                return Verdict::Done;
            }
            // Data for a program that is gone.
            if !has(TcpFlags::FIN) || end != i.rcv_nxt + 1 {
                return Verdict::Rst;
            }
            i.substate = State::TimeWait;
            i.rcv_nxt = end;
            i.entered_ms = now.as_millis() as u32;
            note(i);
            self.rearm(net, stack, i, now);
            return Verdict::Ack;
        }
        if !paws && seq == i.rcv_nxt && (seq == end || rst) {
            if rst {
                if !stack.sysctl.tcp_rfc1337() {
                    drop(guard);
                    kill(net, stack, self);
                    return Verdict::Done;
                }
            } else {
                self.rearm(net, stack, i, now);
            }
            note(i);
            return Verdict::Done;
        }
        let newer = |v: u32| (i.ts_recent.wrapping_sub(v) as i32) < 0;
        if syn && !rst && !ack && !paws && (seq.after(i.rcv_nxt) || tsval.is_some_and(newer)) {
            let isn = self.snd_nxt + 65_537;
            return Verdict::Syn(if isn == SeqNum(0) { SeqNum(1) } else { isn });
        }
        if paws {
            stack.mib.inc(Mib::TcpExtPAWSTimewait);
        }
        if rst {
            return Verdict::Done;
        }
        if paws || ack {
            self.rearm(net, stack, i, now);
        }
        Self::oow(stack, skb, now, i, Mib::TcpExtTCPACKSkippedTimeWait)
    }

    fn oow(stack: &Stack, skb: &Skb, now: Instant, i: &mut Inner, mib: Mib) -> Verdict {
        let (len, syn) = skb.tcp.span();
        let limited = oow_rate_limited(stack, len, syn, now, &mut i.last_oow_ack_ms, mib);
        if limited { Verdict::Done } else { Verdict::AckOow }
    }

    /// An ICMP error, which changes nothing.
    pub(super) fn icmp(&self, stack: &Stack, icmp: &IcmpError<'_>) {
        if self.auth().is_some_and(|a| a.ignores_icmp(icmp.src.is_ipv4(), icmp.ty, icmp.code)) {
            stack.mib.inc(Mib::TcpExtTCPAODroppedIcmps);
        }
    }

    /// Resets the sender of a segment.
    fn reset(&self, net: &TcpNet, stack: &Arc<Stack>, skb: &Skb, (sport, dport): (u16, u16), info: &PacketInfo) {
        match self.auth().and_then(|a| a.reset_key(skb)) {
            None => rcv::reset_of_nobody(net, stack, skb, (sport, dport), info, self.flow_label()),
            Some(Ok(s)) => {
                let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
                let said = rcv::Said { signer: Some(&s), flow_label: self.flow_label(), ip_options: &ip_options };
                rcv::send_reset(stack, &skb.tcp, info.src, info.dst, sport, dport, info, said);
            }
            Some(Err(NoKey)) => {}
        }
    }

    /// Acknowledges with the record's numbers (tcp_v4_timewait_ack).
    pub(super) fn send_ack(&self, stack: &Arc<Stack>, skb: &Skb, now: Instant) {
        self.ack(stack, skb, now, true);
    }

    fn ack(&self, stack: &Arc<Stack>, skb: &Skb, now: Instant, in_window: bool) {
        let signer = self.auth().and_then(|a| a.ack_key(skb));
        let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
        let i = self.inner.lock();
        let ts = (i.ts_recent_stamp != 0).then(|| ((now.as_millis() as u32).wrapping_add(self.ts_offset), i.ts_recent));
        let (src, dst) = self.addresses();
        let reply = rcv::Reply {
            src: src.to_canonical(),
            dst: dst.to_canonical(),
            repr: TcpRepr {
                src_port: self.sport,
                dst_port: self.dport,
                seq: self.snd_nxt,
                ack: i.rcv_nxt,
                flags: TcpFlags::ACK,
                window: RawWindow::from_bytes(i.rcv_wnd, i.rcv_wscale),
                urgent: 0,
                options_len: 0,
            },
            options: rcv::reply_options(signer.as_ref(), ts),
            more: &[],
            signer: signer.as_ref(),
            tos: if in_window { i.tos } else { ecn::with_codepoint(i.tos, 0) },
            ttl: -1,
            oif: self.oif(),
            flow_label: self.flow_label(),
            ip_options: &ip_options,
            txhash: self.txhash,
        };
        drop(i);
        rcv::send_reply(stack, &reply);
    }
}

/// Processes and answers a segment for a record. Some: the segment is a SYN that may open a new connection, with this
/// ISN.
pub(super) fn segment(
    net: &TcpNet,
    stack: &Arc<Stack>,
    tw: &Arc<TimeWait>,
    skb: &Skb,
    (sport, dport): (u16, u16),
    info: &PacketInfo,
) -> Option<SeqNum> {
    match tw.process(net, stack, skb, info.now) {
        Verdict::Done => {}
        Verdict::Ack => tw.send_ack(stack, skb, info.now),
        Verdict::AckOow => tw.ack(stack, skb, info.now, false),
        Verdict::Rst => {
            tw.reset(net, stack, skb, (sport, dport), info);
            kill(net, stack, tw);
        }
        Verdict::Syn(isn) => return Some(isn),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_88_bytes() {
        assert_eq!(size_of::<TimeWait>(), 88);
    }

    #[test]
    fn an_old_timestamp_is_refused_until_it_is_too_old_to_tell() {
        for (case, recent, stamp, val, now, rst, want) in [
            ("newer", 100, 1000, 101, 1001, false, false),
            ("equal", 100, 1000, 100, 1001, false, false),
            ("one back", 100, 1000, 99, 1001, false, true),
            ("two back", 100, 1000, 98, 1001, false, true),
            ("just before the clock may wrap", 100, 1000, 98, 1000 + 2_146, false, true),
            ("after the clock may have wrapped", 100, 1000, 98, 1000 + 2_147, false, false),
            ("a RST soon", 100, 1000, 98, 1001, true, true),
            ("a RST a minute later", 100, 1000, 98, 1060, true, false),
            ("wrapped", 5, 1000, u32::MAX - 5, 1001, false, true),
            ("zero says nothing", 0, 1000, u32::MAX - 5, 1001, false, false),
        ] {
            assert_eq!(paws_reject(recent, stamp, val, now, rst), want, "{case}");
        }
    }

    #[test]
    fn a_segment_is_in_the_window_by_any_byte_of_it_at_every_isn() {
        for isn in [0u32, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let s = |n: i32| SeqNum(isn.wrapping_add(n as u32));
            let (lo, hi) = (s(0), s(10));
            for (seq, end, want) in [
                (0, 0, true),
                (-1, 0, false),
                (-1, 1, true),
                (9, 30, true),
                (10, 11, false),
                (10, 10, true),
                (11, 11, false),
            ] {
                assert_eq!(in_window(s(seq), s(end), lo, hi), want, "{isn:#x} {seq} {end}");
            }
        }
    }
}

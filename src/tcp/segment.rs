//! Building and sending one segment: options, header, ECN, window, route; and what a sent segment changes. Above:
//! `xmit` (data), `control` (SYN, FIN, RST, ACK), `probe`, `handshake` and `rcv` (segments without a sock). Below:
//! `ip::output`. Most segments to this same stack go a short way, `plain`. Payload is never copied: what leaves is a
//! shared copy of the queued packet with a head of its own. Linux: __tcp_transmit_skb, tcp_syn_options,
//! tcp_established_options, tcp_synack_options. RFC 9293 §3.1, RFC 7323 §3.

mod plain;

use super::auth::{self, Signer};
use super::cong::{CaEvent, ca_slot};
use super::sock_ops::{self, HdrSeg, OutOptions, cb};
use super::tcb::Cx;
use super::{delack, ecn, mtu, output, prr, rate, sack, timer, tstamp, window};
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::counters::Mib;
use crate::device::netdev::NetXmit;
use crate::ip;
use crate::ip::output::{IpTx, default_ttl};
use crate::ip::sockopt::flow_label;
use crate::sock::dst::Dst;
use crate::sock::flag;
use crate::sock::skb::{Csum, GsoType, Skb, TcpCb, TxOwner};
use crate::stack::Stack;
use crate::tcp::output::{FIN, SYN};
use crate::wire::ip::Ipv4Repr;
use crate::wire::proto;
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::{self, CHECKSUM_OFFSET, TcpFlags, TcpRepr};
use crate::wire::tcp_options::{
    AuthOption, EstablishedOptions, SynOptions, TIMESTAMP_ALIGNED_LEN, emit_timestamp_only,
};
use std::net::IpAddr;
use std::sync::Arc;

use plain::Segment;
pub(super) use plain::{Headers, send_synack};

/// Options of a segment, of either kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Options {
    /// Of a SYN or SYN-ACK.
    Syn(SynOptions),
    /// Of any other.
    Est(EstablishedOptions),
    /// Of any other without more than timestamps: (TSval, TSecr).
    Stamp(Option<(u32, u32)>),
}

impl Options {
    /// Bytes they take.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Options::Syn(o) => o.len(),
            Options::Est(o) => o.len(),
            Options::Stamp(stamp) => stamp.map_or(0, |_| TIMESTAMP_ALIGNED_LEN),
        }
    }

    #[inline]
    pub(super) fn emit(&self, buf: &mut [u8]) {
        match self {
            Options::Syn(o) => o.emit(buf),
            Options::Est(o) => o.emit(buf),
            Options::Stamp(stamp) => stamp.map_or(0, |stamp| emit_timestamp_only(buf, stamp)),
        };
    }
}

/// Puts a TCP header in front of `skb`'s payload and leaves the checksum to the device or to `ip::output`
/// (`Csum::Partial`). `repr.options_len` is filled in here; `more`: option bytes of hooks, behind the others; `signer`
/// fills in the signature that the options have room for. ENOBUFS when the head has no room (it always has for a packet
/// made with `Skb::new`).
#[inline(always)]
pub(crate) fn put_header(
    skb: &mut Skb,
    src: IpAddr,
    dst: IpAddr,
    repr: TcpRepr,
    options: &Options,
    more: &[u8],
    signer: Option<&Signer>,
) -> Result<()> {
    if let Options::Stamp(stamp) = options
        && more.is_empty()
        && signer.is_none()
    {
        Way::Write.taken();
        return put_plain_header(skb, src, dst, repr, *stamp);
    }
    if Way::Write.is_open()
        && let Options::Syn(o) = options
        && more.is_empty()
        && signer.is_none()
        && let Some(bytes) = o.usual()
    {
        Way::Write.taken();
        return put_stale_header(skb, src, dst, repr, bytes.len(), |to| to.copy_from_slice(&bytes));
    }
    put_long_header(skb, src, dst, repr, options, more, signer)
}

#[inline(never)]
fn put_long_header(
    skb: &mut Skb,
    src: IpAddr,
    dst: IpAddr,
    mut repr: TcpRepr,
    options: &Options,
    more: &[u8],
    signer: Option<&Signer>,
) -> Result<()> {
    let own = options.len();
    repr.options_len = own + more.len();
    let len = repr.header_len();
    let total = (skb.len() + len) as u32;
    // Zeroed, for a signature is filled in later.
    let head = skb.push(len).ok_or(Error::NoBufs)?;
    repr.emit(head);
    options.emit(&mut head[tcp::HEADER_LEN..]);
    if !more.is_empty() {
        head[tcp::HEADER_LEN + own..][..more.len()].copy_from_slice(more);
    }
    if let Some(signer) = signer {
        signer.sign(skb, len, src, dst);
    }
    let head = &mut skb.head_mut()[..len];
    tcp::fill_partial_checksum(head, src, dst, total);
    skb.csum = Csum::Partial { start: 0, offset: CHECKSUM_OFFSET as u16 };
    Ok(())
}

/// The same of a segment with no options but timestamps, as most are.
#[inline]
fn put_plain_header(skb: &mut Skb, src: IpAddr, dst: IpAddr, repr: TcpRepr, stamp: Option<(u32, u32)>) -> Result<()> {
    match stamp {
        Some(stamp) => put_stale_header(skb, src, dst, repr, TIMESTAMP_ALIGNED_LEN, |to| {
            emit_timestamp_only(to, stamp);
        }),
        None => put_stale_header(skb, src, dst, repr, 0, |_| {}),
    }
}

/// The same, with `options_len` bytes of options that `write` writes all of.
#[inline]
fn put_stale_header(
    skb: &mut Skb,
    src: IpAddr,
    dst: IpAddr,
    mut repr: TcpRepr,
    options_len: usize,
    write: impl FnOnce(&mut [u8]),
) -> Result<()> {
    let (payload, len) = (skb.len(), tcp::HEADER_LEN + options_len);
    let Some(head) = skb.push_stale(len) else { return Err(Error::NoBufs) };
    repr.options_len = options_len;
    repr.emit(head);
    write(&mut head[tcp::HEADER_LEN..]);
    tcp::fill_partial_checksum(head, src, dst, (payload + len) as u32);
    skb.csum = Csum::Partial { start: 0, offset: CHECKSUM_OFFSET as u16 };
    Ok(())
}

/// A transmit hash, never 0 (net_tx_rndhash).
pub(super) fn rnd_txhash(stack: &Stack) -> u32 {
    stack.entropy.next_u32().max(1)
}

/// Chooses the connection's transmit hash: device queues, and in IPv6 routers by the flow label, send what has the same
/// one the same way, so that nothing overtakes (sk_set_txhash).
pub(crate) fn set_txhash(cx: &mut Cx<'_>) {
    cx.tp.txhash = rnd_txhash(cx.stack);
}

/// The present way seems broken: chooses another, unless SO_TXREHASH forbids. True: it did (sk_rethink_txhash).
pub(super) fn rethink_txhash(cx: &mut Cx<'_>) -> bool {
    if cx.tp.txhash == 0 || !cx.sk.txrehash {
        return false;
    }
    set_txhash(cx);
    true
}

/// Our timestamp clock at the moment a segment leaves: milliseconds plus the connection's random offset
/// (RFC 7323 §5.4).
#[inline]
pub(crate) fn ts_at(cx: &Cx<'_>, at: Instant) -> u32 {
    (at.as_millis() as u32).wrapping_add(cx.tp.tsoffset)
}

/// Whether a segment sent now may have other options than timestamps, or `tcp_header_len` is not the length of its
/// header.
#[inline]
pub(super) fn has_more_options(cx: &Cx<'_>) -> bool {
    let tp = &*cx.tp;
    let timestamps = if tp.rx_opt.tstamp_ok { TIMESTAMP_ALIGNED_LEN } else { 0 };
    usize::from(tp.tcp_header_len) != tcp::HEADER_LEN + timestamps
        || tp.num_sacks != 0
        || tp.cold.as_ref().is_some_and(|c| c.has_options())
        || tp.ecn.is_accurate()
        || tp.sock_ops_flags & cb::WRITE_HDR_OPT != 0
}

/// Options of a segment of an established connection: timestamps when agreed, then as many SACK blocks as fit, a D-SACK
/// first. `at`: when the segment leaves; None for a look at the size only.
pub(crate) fn established_options(cx: &Cx<'_>, at: Option<Instant>) -> EstablishedOptions {
    let tp = &*cx.tp;
    let auth = auth::room(cx);
    let mut o = EstablishedOptions { auth, ..EstablishedOptions::default() };
    if tp.rx_opt.tstamp_ok {
        o.timestamps = Some((at.map_or(0, |t| ts_at(cx, t)), tp.rx_opt.ts_recent));
    }
    if let Some(s) = &tp.sack
        && (s.duplicate_sack.is_some() || tp.num_sacks != 0)
    {
        if let Some(d) = s.duplicate_sack {
            o.sack.push(d.start, d.end);
        }
        for b in s.selective_acks.iter().take(usize::from(tp.num_sacks)) {
            o.sack.push(b.start, b.end);
        }
        o.sack.truncate(o.sack_room());
    }
    ecn::established_option(cx, at.unwrap_or(cx.now), &mut o);
    o
}

/// Options of our SYN, or of the SYN-ACK that answers a crossing SYN: all that the sysctls allow us to offer. With an
/// MD5 signature no timestamps, which would leave no room for SACK blocks.
fn syn_options(cx: &mut Cx<'_>, at: Instant, is_synack: bool, auth: Option<AuthOption>) -> SynOptions {
    let mss = mtu::advertise_mss(cx);
    let sysctl = &cx.stack.sysctl;
    let mut o = SynOptions {
        auth,
        mss: Some(mss),
        timestamps: (sysctl.tcp_timestamps() != 0 && auth != Some(AuthOption::Md5))
            .then(|| (ts_at(cx, at), cx.tp.rx_opt.ts_recent)),
        sack_permitted: sysctl.tcp_sack(),
        window_scale: sysctl.tcp_window_scaling().then_some(cx.tp.rx_opt.rcv_wscale),
        ..SynOptions::default()
    };
    o.fastopen = cx.tp.syn_option().filter(|cookie| o.len() + cookie.option_len() <= tcp::MAX_OPTIONS_LEN);
    ecn::syn_option(cx, is_synack, &mut o);
    o
}

/// Forgets the cached route and what was learned from its device (__sk_dst_reset).
pub(crate) fn reset_dst(cx: &mut Cx<'_>) {
    cx.sk.dst = None;
    cx.tp.gso_max_size = 0;
}

/// Forgets the cached route when the tables have changed since it was made (__sk_dst_check).
#[inline]
fn check_dst(cx: &mut Cx<'_>) {
    if cx.sk.dst.as_ref().is_some_and(|d| !d.check(cx.stack)) {
        reset_dst(cx);
    }
}

/// The sock's route to `peer`. Errors: those of `ip::route::lookup`; ENETUNREACH also where SO_DONTROUTE forbids it.
pub(super) fn route_to(cx: &Cx<'_>, peer: IpAddr, own: Option<IpAddr>) -> Result<Arc<Dst>> {
    let hop = ip::socket_headers::way_to(cx.sk, peer);
    let dst = ip::route::lookup(cx.stack, hop, own, cx.sk.bound_dev_if)?;
    if cx.sk.flag(flag::LOCALROUTE) {
        ip::route::on_link(cx.stack, &dst)?;
    }
    Ok(dst)
}

/// Makes sure there is a valid route in `sk.dst` (inet_sk_rebuild_header). Errors: those of [`route_to`].
pub(crate) fn route(cx: &mut Cx<'_>) -> Result<()> {
    check_dst(cx);
    if cx.sk.dst.is_none() {
        cx.sk.dst = Some(route_to(cx, cx.sk.daddr, Some(cx.sk.saddr))?);
        cx.tp.gso_max_size = 0;
    }
    Ok(())
}

/// Whether IPv4 may not fragment the packets of a sock whose IP_MTU_DISCOVER is `pmtudisc` (ip_dont_fragment).
pub(super) fn dont_fragment(pmtudisc: u8, mtu_locked: bool) -> bool {
    match i32::from(pmtudisc) {
        libc::IP_PMTUDISC_DO => true,
        libc::IP_PMTUDISC_WANT => !mtu_locked,
        _ => false,
    }
}

/// What the IP header of this connection's packets says; `codepoint`: the ECN bits of this packet.
pub(crate) fn ip_tx(cx: &Cx<'_>, dst: &Dst, codepoint: u8) -> IpTx {
    let sk = &*cx.sk;
    let v4 = sk.daddr.is_ipv4();
    let (tos, ttl) = if v4 { (sk.tos, sk.ttl) } else { (sk.tclass, sk.hops) };
    let ttl = if ttl > 0 { ttl.min(255) as u8 } else { default_ttl(cx.stack, dst, v4) };
    let df = dont_fragment(sk.pmtudisc, dst.mtu_locked);
    IpTx {
        src: sk.saddr,
        dst: sk.daddr,
        protocol: proto::TCP,
        tos: ecn::with_codepoint(tos, codepoint),
        ttl,
        df: df || !v4,
        flow_label: match v4 {
            true => 0,
            false => flow_label(cx.stack, sk, || cx.tp.txhash),
        },
        now: cx.now,
    }
}

/// Sends one segment of a queue: `skb` has no header and stays for retransmission; a copy that shares its pages leaves.
/// Stamps it and takes the rate sample when the device took it. Errors: ENOBUFS: local congestion (the window was
/// reduced for it); otherwise the route's or IP's.
pub(crate) fn transmit_skb(cx: &mut Cx<'_>, skb: &mut Skb) -> Result<()> {
    let prior = stamp(cx, skb);
    let ack = cx.tp.rcv_nxt;
    if plain::applies(cx, skb) {
        plain::send(cx, skb.share_bytes(), &Segment::of(&skb.tcp, ack))?;
    } else {
        send_any(cx, skb.share(), ack)?;
    }
    sent(cx, skb, prior);
    Ok(())
}

/// As `transmit_skb`, for the first SYN, which mostly has no data to be shared.
pub(super) fn transmit_syn(cx: &mut Cx<'_>, skb: &mut Skb) -> Result<()> {
    let prior = stamp(cx, skb);
    if plain::applies_to_syn(cx, skb)
        && let Some(options) = syn_options(cx, skb.tcp.mstamp, false, None).usual()
    {
        plain::send_syn(cx, &skb.tcp, options)?;
    } else {
        send_any(cx, skb.share(), cx.tp.rcv_nxt)?;
    }
    sent(cx, skb, prior);
    Ok(())
}

/// A segment of a queue is about to leave. Returns the earliest departure time before.
#[inline(always)]
fn stamp(cx: &mut Cx<'_>, skb: &mut Skb) -> Instant {
    let prior = advance_wstamp(cx);
    skb.tcp.mstamp = cx.tp.wstamp;
    skb.tcp.in_flight = skb.tcp.end_seq.since(cx.tp.snd_una);
    prior
}

/// It has left.
#[inline(always)]
fn sent(cx: &mut Cx<'_>, skb: &mut Skb, prior: Instant) {
    pace(cx, skb.len() as u64, prior);
    rate::rate_skb_sent(cx.tp, &mut skb.tcp);
}

/// A segment without payload; SYN and FIN take a sequence number each (tcp_init_nondata_skb).
pub(super) fn nondata_skb(seq: SeqNum, flags: u16) -> Skb {
    let mut skb = Skb::new();
    skb.tcp.flags = flags;
    skb.tcp.seq = seq;
    skb.tcp.end_seq = seq + u32::from(flags & (SYN | FIN) != 0);
    skb.tcp.gso_segs = 1;
    skb
}

/// Sends a segment without payload that need not be kept: an acknowledgement, a reset, a probe.
pub(crate) fn transmit_bare(cx: &mut Cx<'_>, seq: SeqNum, flags: u16) -> Result<()> {
    transmit_ack(cx, seq, flags, cx.tp.rcv_nxt)
}

/// The same, with an acknowledgement number that may be less than `rcv_nxt`.
pub(crate) fn transmit_ack(cx: &mut Cx<'_>, seq: SeqNum, flags: u16, ack: SeqNum) -> Result<()> {
    advance_wstamp(cx);
    if plain::applies_to_ack(cx, flags) {
        return plain::send(cx, Skb::new(), &Segment::ack(seq, ack, cx.tp.wstamp));
    }
    let mut skb = nondata_skb(seq, flags);
    skb.tcp.mstamp = cx.tp.wstamp;
    send_any(cx, skb, ack)
}

/// Advances the earliest departure time to now; it never goes back. Returns the time before.
#[inline]
fn advance_wstamp(cx: &mut Cx<'_>) -> Instant {
    let prior = cx.tp.wstamp;
    cx.tp.wstamp = prior.max(cx.now);
    prior
}

/// Header, then IP; and all that a sent segment changes in the connection. `ack`: what it acknowledges, if it does.
#[inline(never)]
fn send_any(cx: &mut Cx<'_>, mut out: Skb, ack: SeqNum) -> Result<()> {
    let TcpCb { seq, end_seq, mstamp, flags, gso_segs, gso_size, .. } = out.tcp;
    let payload = out.len() as u64;
    let segs = u32::from(gso_segs.max(1));
    let mut flags = TcpFlags::from_bits(flags);
    let is_syn = flags.contains(TcpFlags::SYN);
    let signer = auth::current_key(cx, flags);
    let options = options_of(cx, mstamp, flags, signer.as_ref());
    if segs > 1 {
        flags.insert(TcpFlags::PSH);
    }

    let urgent = urgent_pointer(cx, seq, &mut flags);
    let ecn_bits;
    let window = if is_syn {
        ecn_bits = ecn::syn_codepoint(cx.sk);
        // The window of a SYN is never scaled (RFC 7323 §2.2).
        RawWindow::from_bytes(cx.tp.rcv_wnd, WindowShift::NONE)
    } else {
        let w = window::select_window(cx);
        ecn_bits = ecn::send(cx, seq, payload, &mut flags);
        w
    };

    let repr = TcpRepr {
        src_port: cx.sk.sport,
        dst_port: cx.sk.dport,
        seq,
        ack: if flags.contains(TcpFlags::ACK) { ack } else { SeqNum(0) },
        flags,
        window,
        urgent,
        options_len: 0,
    };
    let more = hook_options(cx, &options, &out, flags, segs);
    let more = more.as_ref().map_or(&[][..], |m| m.bytes());
    put_header(&mut out, cx.sk.saddr, cx.sk.daddr, repr, &options, more, signer.as_ref())?;

    if flags.contains(TcpFlags::ACK) && ack == cx.tp.rcv_nxt {
        delack::event_ack_sent(cx);
    }
    if payload > 0 {
        event_data_sent(cx);
        cx.tp.data_segs_out = cx.tp.data_segs_out.wrapping_add(segs);
        cx.tp.bytes_sent += payload;
    }
    if end_seq.after(cx.tp.snd_nxt) || seq == end_seq {
        cx.stack.mib.add(Mib::TcpOutSegs, u64::from(segs));
    }
    cx.tp.segs_out = cx.tp.segs_out.wrapping_add(segs);

    label(cx, &mut out, (segs, gso_size), flags);
    // A pure acknowledgement is not charged to the sock: its completion must not resume sending.
    let charged = payload > 0 || is_syn || flags.contains(TcpFlags::FIN);
    if let Some(stamp) = out.tx_stamp.take() {
        out.tx_stamp = Some(tstamp::stamp_leaves(cx, stamp, mstamp));
    }
    let sent = to_ip(cx, out, ecn_bits, charged);
    if sent.is_err() {
        cx.sock.tx_refused();
    }
    if matches!(sent, Err(Error::NoBufs) | Ok(NetXmit::Cn)) {
        prr::enter_cwr(cx);
    }
    // A segment that was sent into a congested queue was sent (net_xmit_eval).
    sent.map(drop)
}

/// The options of a segment that leaves now. A DSACK is used up by that: it is sent once.
#[inline(always)]
fn options_of(cx: &mut Cx<'_>, mstamp: Instant, flags: TcpFlags, signer: Option<&Signer>) -> Options {
    if flags.contains(TcpFlags::SYN) {
        let auth = signer.map(Signer::option);
        Options::Syn(syn_options(cx, mstamp, flags.contains(TcpFlags::ACK), auth))
    } else if Way::Write.is_open() && !has_more_options(cx) {
        let tp = &mut *cx.tp;
        tp.rx_opt.dsack = false;
        let stamp = tp.rx_opt.tstamp_ok.then_some(tp.rx_opt.ts_recent);
        Options::Stamp(stamp.map(|recent| (ts_at(cx, mstamp), recent)))
    } else {
        let o = established_options(cx, Some(mstamp));
        ecn::option_sent(cx, o.accecn.is_some());
        if let Some(s) = sack::sack_if_any(cx.tp) {
            // A DSACK is sent once.
            s.duplicate_sack = None;
            cx.tp.rx_opt.dsack = false;
        }
        Options::Est(o)
    }
}

/// Fills in what IP and devices need to know of a segment beside its bytes: how to cut it into segments, its hash, mark
/// and priority, and when it is to leave.
#[inline(always)]
fn label(cx: &Cx<'_>, out: &mut Skb, (segs, gso_size): (u32, u16), flags: TcpFlags) {
    if segs > 1 {
        out.gso_size = gso_size;
        out.gso_type = if cx.sk.daddr.is_ipv6() { GsoType::TcpV6 } else { GsoType::TcpV4 };
        out.every_cwr = flags.contains(TcpFlags::CWR) && cx.tp.ecn.is_accurate();
    } else {
        out.gso_size = 0;
        out.gso_type = GsoType::None;
    }
    out.hash = cx.tp.txhash;
    (out.mark, out.priority) = (cx.sk.mark, cx.sk.priority);
    if cx.tp.departure_times {
        out.tx_time = cx.tp.wstamp + Duration::from_micros(u64::from(cx.tp.options().tx_delay));
    }
}

/// The urgent pointer of a segment that begins at `seq`; sets URG where one is due. A pointer beyond the field's reach
/// points as far as it can.
#[inline]
fn urgent_pointer(cx: &Cx<'_>, seq: SeqNum, flags: &mut TcpFlags) -> u16 {
    if !urg_mode(cx) || !seq.before(cx.tp.snd_up) {
        return 0;
    }
    let pointer = if cx.tp.snd_up.before(seq + 0x1_0000) {
        cx.tp.snd_up.since(seq) as u16
    } else if (seq + 0xffff).after(cx.tp.snd_nxt) {
        0xffff
    } else {
        return 0;
    };
    flags.insert(TcpFlags::URG);
    pointer
}

/// Hands a complete segment to IP, by the connection's route. `charged`: to the sock, while the device has it.
fn to_ip(cx: &mut Cx<'_>, out: Skb, ecn_bits: u8, charged: bool) -> Result<NetXmit> {
    route(cx)?;
    let Some(dst) = cx.sk.dst.take() else { return Err(Error::HostUnreach) };
    if std::mem::take(&mut cx.tp.dst_pending_confirm) {
        ip::neigh::confirm(cx.stack, &dst.dev, dst.gateway.unwrap_or(cx.sk.daddr), cx.now);
    }
    let sent = match to_itself(cx, &dst, out, ecn_bits, charged) {
        Ok(sent) => sent,
        Err(mut out) => {
            if charged {
                out.owner = Some(TxOwner::new(cx.sock, out.truesize));
            }
            by_ip(cx, &dst, out, ecn_bits)
        }
    };
    cx.sk.dst = Some(dst);
    sent
}

/// A short way: hands over a segment over IPv4 whose other end is in this stack. Its addresses are not checked again:
/// the route, which is valid, says that they are this stack's, and connect(2) refuses those that no packet may have.
/// Err: it is no such segment, and is given back.
#[inline]
fn to_itself(
    cx: &Cx<'_>,
    dst: &Arc<Dst>,
    out: Skb,
    ecn_bits: u8,
    charged: bool,
) -> core::result::Result<Result<NetXmit>, Skb> {
    let sk = &*cx.sk;
    let (IpAddr::V4(src), IpAddr::V4(to)) = (sk.saddr, sk.daddr) else { return Err(out) };
    let plain = Way::Loop.is_open() && sk.ip_more.is_none();
    if !plain || !dont_fragment(sk.pmtudisc, dst.mtu_locked) || !ip::output::is_looped(dst, &out) {
        return Err(out);
    }
    Way::Loop.taken();
    let repr = Ipv4Repr {
        src,
        dst: to,
        protocol: proto::TCP,
        ttl: if sk.ttl > 0 { sk.ttl.min(255) as u8 } else { default_ttl(cx.stack, dst, true) },
        tos: ecn::with_codepoint(sk.tos, ecn_bits),
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        frag_offset: 0,
        payload_len: out.len(),
    };
    Ok(ip::output::xmit_looped(cx.stack, dst, &repr, out, cx.now, charged.then_some(cx.sock)))
}

#[inline(never)]
fn by_ip(cx: &mut Cx<'_>, dst: &Arc<Dst>, out: Skb, ecn_bits: u8) -> Result<NetXmit> {
    let tx = ip_tx(cx, dst, ecn_bits);
    match (&cx.sk.ip_more, cx.sk.saddr) {
        (Some(more), IpAddr::V4(own)) if !more.options.is_empty() => {
            let options = ip::options::of_sent(cx.stack, &more.options, own);
            ip::output::xmit_with_options(cx.stack, dst, &tx, &options, out, false)
        }
        _ => match ip::socket_headers::of_stream(cx.sk, cx.sk.daddr) {
            Some(chain) => {
                let tx = IpTx { dst: ip::socket_headers::way_to(cx.sk, cx.sk.daddr), ..tx };
                ip::output::xmit_with_headers(cx.stack, dst, &tx, &chain, out, false)
            }
            None => ip::output::xmit(cx.stack, dst, &tx, out),
        },
    }
}

/// Options that hooks write behind our own; None: no hook asked to.
#[inline]
fn hook_options(cx: &mut Cx<'_>, options: &Options, out: &Skb, flags: TcpFlags, segs: u32) -> Option<OutOptions> {
    if cx.tp.sock_ops_flags & cb::WRITE_HDR_OPT == 0 {
        return None;
    }
    let mut own = [0; tcp::MAX_OPTIONS_LEN];
    options.emit(&mut own);
    let own = &own[..options.len()];
    let remaining = match out.len() {
        0 => tcp::MAX_OPTIONS_LEN,
        // The packet must not exceed the path's MTU: a hook that now wants more room than it reserved gets none.
        len => {
            let payload = if segs > 1 { usize::from(out.tcp.gso_size) } else { len };
            mtu::max_segment(cx).saturating_sub(tcp::HEADER_LEN + own.len() + payload) & !3
        }
    };
    let seg = HdrSeg { flags: Some(flags), seq: out.tcp.seq, len: out.len(), segs, syn: &[], remaining };
    sock_ops::write_options(cx, own, &seg)
}

/// Urgent data is on its way (tcp_urg_mode).
#[inline]
pub(crate) fn urg_mode(cx: &Cx<'_>) -> bool {
    cx.tp.urg_mode && cx.tp.snd_up.after(cx.tp.snd_una)
}

/// Data is leaving: tells congestion control of the end of idleness; a reply soon after a request makes the session
/// interactive (tcp_event_data_sent).
#[inline(always)]
pub(crate) fn event_data_sent(cx: &mut Cx<'_>) {
    let now = cx.now.as_millis() as u32;
    if output::packets_in_flight(cx.tp) == 0 {
        cx.with_ca_slot(ca_slot::CWND_EVENT, |ca, cx| ca.cwnd_event(cx, CaEvent::TxStart));
        timer::used_after(cx.tp, now.wrapping_sub(cx.tp.lsndtime_ms));
    }
    cx.tp.lsndtime_ms = now;
    delack::data_sent(cx.tp, now);
}

/// Whether what the connection sends is paced: SO_MAX_PACING_RATE was given, its congestion control needs it, or the
/// device paces (sk_pacing_status).
#[inline]
pub(crate) fn paces(cx: &Cx<'_>) -> bool {
    cx.tp.departure_times || cx.tp.ca_paces || cx.sk.has_pacing_rate()
}

/// Whether the sock paces by its own timer, because the device does not (tcp_needs_internal_pacing).
#[inline]
pub(crate) fn paces_itself(cx: &Cx<'_>) -> bool {
    !cx.tp.departure_times && (cx.tp.ca_paces || cx.sk.has_pacing_rate())
}

/// A packet of `len` bytes left at `wstamp`: the next may leave when the rate allows (tcp_update_skb_after_send). Idle
/// time is credited, up to half of the wait, so that a timer that fires late does not lower the rate.
fn pace(cx: &mut Cx<'_>, len: u64, prior: Instant) {
    if !paces(cx) {
        return;
    }
    let rate = cx.tp.pacing_rate.min(cx.sk.max_pacing_rate);
    // Before there is an RTT the initial window goes out in a burst. A rate of 0 is none.
    if rate == u64::MAX || rate == 0 || cx.tp.data_segs_out < super::tcb::INIT_CWND {
        return;
    }
    let wait = (u128::from(len) * 1_000_000_000 / u128::from(rate)).min(u128::from(u64::MAX)) as u64;
    let credit = (cx.tp.wstamp - prior).as_nanos().min(u128::from(u64::MAX)) as u64;
    cx.tp.wstamp += Duration::from_nanos(wait - (wait / 2).min(credit));
}

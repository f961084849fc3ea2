//! The short way of most segments to an end in this same stack: data that fits one segment, a FIN, or an
//! acknowledgement, over IPv4 and without options but timestamps; and a SYN, or a listener's SYN-ACK, with the options
//! of most. It does what [`send`](super::send) does then, or `rcv::send_reply_by`; both headers are written in one go.
//! A test plays both. Above: `segment`, `synack`. Below: `device::netdev`.

use super::{event_data_sent, has_more_options, ts_at};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::counters::{Here, Mib};
use crate::device::netdev::NetXmit;
use crate::ip::output::default_ttl;
use crate::sock::dst::{Dst, DstKind};
use crate::sock::packet::PacketInfo;
use crate::sock::skb::{CB_FLOW, CB_STAMPS, Csum, Known, Looped, Skb, TcpCb};
use crate::stack::Stack;
use crate::tcp::output::{ACK, FIN, PSH, SYN};
use crate::tcp::sock_ops::cb;
use crate::tcp::tcb::Cx;
use crate::tcp::{delack, ecn, lookup, prr, window};
use crate::wire::checksum::{self, pseudo_header_v4};
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::CHECKSUM_OFFSET;
use crate::wire::tcp_options::{NOP_NOP_TS, SynOptions, TIMESTAMP_ALIGNED_LEN, USUAL_SYN_LEN};
use crate::wire::{ip, proto, tcp};
use std::net::{IpAddr, Ipv4Addr};

/// Bytes of both headers, without options.
const HEADERS: usize = ip::HEADER_LEN + tcp::HEADER_LEN;

/// What is asked of the control block of a segment that leaves, and what it acknowledges.
pub(super) struct Segment {
    seq: SeqNum,
    end_seq: SeqNum,
    ack: SeqNum,
    flags: u16,
    mstamp: Instant,
}

impl Segment {
    #[inline]
    pub(super) fn of(cb: &TcpCb, ack: SeqNum) -> Segment {
        Segment { seq: cb.seq, end_seq: cb.end_seq, ack, flags: cb.flags, mstamp: cb.mstamp }
    }

    /// An acknowledgement alone.
    #[inline]
    pub(super) fn ack(seq: SeqNum, ack: SeqNum, mstamp: Instant) -> Segment {
        Segment { seq, end_seq: seq, ack, flags: ACK, mstamp }
    }
}

/// Whether `skb`, of a queue, leaves as such a segment.
#[inline(always)]
pub(super) fn applies(cx: &Cx<'_>, skb: &Skb) -> bool {
    Way::Plain.is_open()
        && skb.tcp.flags & !(PSH | FIN) == ACK
        && skb.tcp.gso_segs <= 1
        && skb.gso_size == 0
        && skb.tx_stamp.is_none()
        && !has_more_options(cx)
        && is_ordinary(cx, TIMESTAMP_ALIGNED_LEN + skb.len())
}

/// Whether a segment without payload, with these flags, leaves as such a segment.
#[inline(always)]
pub(super) fn applies_to_ack(cx: &Cx<'_>, flags: u16) -> bool {
    Way::Plain.is_open() && flags == ACK && !has_more_options(cx) && is_ordinary(cx, TIMESTAMP_ALIGNED_LEN)
}

/// Whether `syn`, which has no data, goes this way. Its options are to be those of most, too.
#[inline]
pub(super) fn applies_to_syn(cx: &Cx<'_>, syn: &Skb) -> bool {
    Way::Syn.is_open()
        && syn.tcp.flags == SYN
        && syn.tx_stamp.is_none()
        && cx.tp.auth.is_none()
        && cx.tp.sock_ops_flags & cb::WRITE_HDR_OPT == 0
        && is_ordinary(cx, USUAL_SYN_LEN)
}

/// Whether nothing in the connection or its route stands in the way of a segment with `len` bytes, at most, of options
/// and payload.
#[inline(always)]
fn is_ordinary(cx: &Cx<'_>, len: usize) -> bool {
    let (tp, sk) = (&*cx.tp, &*cx.sk);
    let Some(dst) = &sk.dst else { return false };
    !tp.urg_mode
        && !tp.departure_times
        && tp.ecn.is_off()
        && !sk.has_ip_more()
        && matches!((sk.saddr, sk.daddr), (IpAddr::V4(_), IpAddr::V4(_)))
        && dst.kind == DstKind::Local
        && dst.check(cx.stack)
        && super::dont_fragment(sk.pmtudisc, dst.mtu_locked)
        // It takes each packet that is none of several segments.
        && dst.dev.loops_as_is()
        && HEADERS + len <= ip::MAX_DATAGRAM.min(dst.mtu as usize)
}

/// The options of a segment.
#[derive(Clone, Copy)]
enum Opts {
    Bare,
    Stamps(u32, u32),
    Syn([u8; USUAL_SYN_LEN]),
}

/// What the headers say.
pub(in crate::tcp) struct Headers {
    pub src: Ipv4Addr,
    pub to: Ipv4Addr,
    pub ports: (u16, u16),
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub flags: u16,
    pub window: RawWindow,
    pub tos: u8,
    pub ttl: u8,
}

/// Puts both headers in front of `out`, a new packet but for its payload, and notes for the receiver what they say, and
/// the `hash` under which it is found; `end_seq`: as it will count. Returns the length of the packet. None: there is no
/// room.
#[inline(always)]
fn put_headers(out: &mut Skb, h: &Headers, hash: u64, end_seq: SeqNum, options: Opts) -> Option<u32> {
    let Headers { src, to, ports: (sport, dport), seq, ack, flags, window, tos, ttl } = *h;
    let (options_len, known) = match options {
        Opts::Bare => (0, Known::Bare),
        Opts::Stamps(..) => (TIMESTAMP_ALIGNED_LEN, Known::Stamps),
        Opts::Syn(_) => (USUAL_SYN_LEN, Known::Syn),
    };
    out.cb[CB_FLOW] = hash;
    let header_len = tcp::HEADER_LEN + options_len;
    let segment_len = (header_len + out.len()) as u32;
    let len = ip::HEADER_LEN as u32 + segment_len;
    let first = 0x4500 << 16 | u32::from(tos) << 16 | len;
    let fragment = u32::from(ip::DF);
    let ttl_word = u32::from(ttl) << 24 | u32::from(proto::TCP) << 16;
    let (src32, to32) = (u32::from(src), u32::from(to));
    let sum = [first, fragment, ttl_word, src32, to32].into_iter().fold(0, |sum, word| sum + u64::from(word));
    let pseudo = pseudo_header_v4(src, to, proto::TCP, segment_len);
    debug_assert!(pseudo <= 0xffff, "folded");
    let word = (header_len as u32 / 4) << 28 | u32::from(flags) << 16 | u32::from(window.0);
    let ports = u32::from(sport) << 16 | u32::from(dport);
    let pairs = [
        pair(first, fragment),
        pair(ttl_word | u32::from(!checksum::fold64(sum)), src32),
        pair(to32, ports),
        pair(seq.0, ack.0),
        pair(word, pseudo << 16),
    ];
    let head = out.push_stale(ip::HEADER_LEN + header_len)?;
    let (fixed, rest) = head.split_first_chunk_mut::<HEADERS>()?;
    fixed.copy_from_slice(pairs.as_flattened());
    match options {
        Opts::Bare => {}
        Opts::Stamps(val, ecr) => {
            if let Some((stamp, echo)) = rest.split_first_chunk_mut::<8>() {
                *stamp = pair(NOP_NOP_TS, val);
                echo.copy_from_slice(&ecr.to_be_bytes());
            }
            out.cb[CB_STAMPS] = u64::from(val) << 32 | u64::from(ecr);
        }
        Opts::Syn(bytes) => rest.copy_from_slice(&bytes),
    }
    out.csum = Csum::Partial { start: ip::HEADER_LEN as u16, offset: CHECKSUM_OFFSET as u16 };
    out.looped = if Way::Known.is_open() { Looped::Segment } else { Looped::Headers };
    out.nh_len = ip::HEADER_LEN as u16;
    // What its receiver reads in the header.
    let cb = &mut out.tcp;
    (cb.seq, cb.end_seq, cb.ack_seq, cb.flag_word) = (seq, end_seq, ack, word);
    (cb.flags, cb.ip_dsfield, cb.ttl, cb.known) = (flags, tos, ttl, known);
    out.rx = Some(PacketInfo {
        src: IpAddr::V4(src),
        dst: IpAddr::V4(to),
        protocol: proto::TCP,
        tos,
        ttl,
        ifindex: 0,
        not_unicast: false,
        flow_label: 0,
        now: Instant::ZERO,
    });
    Some(len)
}

/// Two words of a header. By pairs: the compiler turns single words by vectors, which costs more.
#[inline(always)]
fn pair(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) << 32 | u64::from(b)).to_be_bytes()
}

/// The TTL of an owned sock's packets.
#[inline]
fn ttl_of(cx: &Cx<'_>, dst: &Dst) -> u8 {
    if cx.sk.ttl > 0 { cx.sk.ttl.min(255) as u8 } else { default_ttl(cx.stack, dst, true) }
}

/// Sends it. `out`: its bytes; nothing else of it counts.
#[inline(never)]
pub(super) fn send(cx: &mut Cx<'_>, mut out: Skb, segment: &Segment) -> Result<()> {
    Way::Plain.taken();
    let Segment { seq, end_seq, ack, mstamp, flags } = *segment;
    let payload = out.len();
    cx.tp.rx_opt.dsack = false;
    let (window, hash) = (window::select_window(cx), lookup::hash_of_peer(cx));
    let stamps = cx.tp.rx_opt.tstamp_ok;
    let (IpAddr::V4(src), IpAddr::V4(to)) = (cx.sk.saddr, cx.sk.daddr) else { return Err(Error::AfNoSupport) };
    let Some(dst) = &cx.sk.dst else { return Err(Error::HostUnreach) };
    let sk = &*cx.sk;

    let (ttl, tos) = (ttl_of(cx, dst), ecn::with_codepoint(sk.tos, 0));
    let h = Headers { src, to, ports: (sk.sport, sk.dport), seq, ack, flags, window, tos, ttl };
    debug_assert_eq!(end_seq, seq + (payload as u32 + u32::from(flags & FIN != 0)), "as its receiver would count");
    let options = if stamps { Opts::Stamps(ts_at(cx, mstamp), cx.tp.rx_opt.ts_recent) } else { Opts::Bare };
    let Some(len) = put_headers(&mut out, &h, hash, end_seq, options) else { return Err(Error::NoBufs) };
    (out.hash, out.mark, out.priority) = (cx.tp.txhash, sk.mark, sk.priority);
    if cx.tp.receiver.is_some() {
        out.receiver = lookup::receiver_of(cx, hash);
    }

    if ack == cx.tp.rcv_nxt {
        delack::event_ack_sent(cx);
    }
    if payload > 0 {
        event_data_sent(cx);
        cx.tp.data_segs_out = cx.tp.data_segs_out.wrapping_add(1);
        cx.tp.bytes_sent += payload as u64;
    }
    let charged = payload > 0 || flags & FIN != 0;
    leave(cx, out, (seq, end_seq), len, charged)
}

/// Sends a SYN that `syn` is of, with the options `bytes`.
pub(super) fn send_syn(cx: &mut Cx<'_>, syn: &TcpCb, bytes: [u8; USUAL_SYN_LEN]) -> Result<()> {
    Way::Syn.taken();
    let TcpCb { seq, end_seq, flags, .. } = *syn;
    debug_assert!(flags == SYN && end_seq == seq + 1, "without data, and not asking for ECN");
    let mut out = Skb::new();
    let hash = lookup::hash_of_peer(cx);
    let (IpAddr::V4(src), IpAddr::V4(to)) = (cx.sk.saddr, cx.sk.daddr) else { return Err(Error::AfNoSupport) };
    let Some(dst) = &cx.sk.dst else { return Err(Error::HostUnreach) };
    let sk = &*cx.sk;
    // The window of a SYN is never scaled, and the codepoint is the sock's own.
    let window = RawWindow::from_bytes(cx.tp.rcv_wnd, WindowShift::NONE);
    let (ttl, tos, ports) = (ttl_of(cx, dst), sk.tos, (sk.sport, sk.dport));
    let h = Headers { src, to, ports, seq, ack: SeqNum(0), flags, window, tos, ttl };
    let put = put_headers(&mut out, &h, hash, end_seq, Opts::Syn(bytes));
    let Some(len) = put else { return Err(Error::NoBufs) };
    (out.hash, out.mark, out.priority) = (cx.tp.txhash, sk.mark, sk.priority);
    leave(cx, out, (seq, end_seq), len, true)
}

/// Hands a packet of `len` bytes to the device, and counts it.
#[inline(always)]
fn leave(cx: &mut Cx<'_>, out: Skb, (seq, end_seq): (SeqNum, SeqNum), len: u32, charged: bool) -> Result<()> {
    let mib = cx.stack.mib.here();
    if end_seq.after(cx.tp.snd_nxt) || seq == end_seq {
        mib.inc(Mib::TcpOutSegs);
    }
    cx.tp.segs_out = cx.tp.segs_out.wrapping_add(1);
    // What loops has no neighbour to be confirmed.
    cx.tp.dst_pending_confirm = false;
    count_out(mib, len);
    let Some(dst) = &cx.sk.dst else { return Err(Error::HostUnreach) };
    let sent = dst.dev.xmit_looped(cx.stack, cx.now, out, charged.then_some(cx.sock));
    if !matches!(sent, Ok(NetXmit::Success)) {
        refused(cx, &sent);
    }
    sent.map(drop)
}

/// IP's counters of a packet that leaves.
#[inline(always)]
fn count_out(mib: Here<'_>, len: u32) {
    mib.inc(Mib::IpOutRequests);
    mib.add(Mib::IpExtOutOctets, u64::from(len));
    mib.inc(Mib::IpOutTransmits);
}

/// Sends a listener's SYN-ACK by a route, if it is such a segment, which one with a signature is not. Some: whether it
/// was sent.
pub(in crate::tcp) fn send_synack(
    stack: &Stack,
    dst: &Dst,
    h: &Headers,
    options: &SynOptions,
    txhash: u32,
    now: Instant,
) -> Option<bool> {
    if dst.kind != DstKind::Local || !dst.check(stack) || !dst.dev.loops_as_is() {
        return None;
    }
    let bytes = options.usual()?;
    let mut skb = Skb::new();
    if HEADERS + USUAL_SYN_LEN > dst.mtu as usize {
        return None;
    }
    Way::Syn.taken();
    let (sport, dport) = h.ports;
    let hash = stack.keys.ehash64_of((h.to.into(), dport), (h.src.into(), sport));
    let put = put_headers(&mut skb, h, hash, h.seq + 1, Opts::Syn(bytes));
    let Some(len) = put else { return Some(false) };
    skb.hash = txhash;
    let mib = stack.mib.here();
    mib.inc(Mib::TcpOutSegs);
    count_out(mib, len);
    let sent = dst.dev.xmit_looped(stack, now, skb, None);
    if sent.is_err() {
        mib.inc(Mib::IpOutDiscards);
    }
    Some(sent.is_ok())
}

#[cold]
fn refused(cx: &mut Cx<'_>, sent: &Result<NetXmit>) {
    if sent.is_err() {
        cx.stack.mib.inc(Mib::IpOutDiscards);
        cx.sock.tx_refused();
    }
    if matches!(sent, Err(Error::NoBufs) | Ok(NetXmit::Cn)) {
        prr::enter_cwr(cx);
    }
}

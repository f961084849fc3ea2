//! The short way of most segments to an end in this same stack: data that fits one segment, a FIN, or an
//! acknowledgement, over IPv4 and without options but timestamps. It does what [`send`](super::send) does then; both
//! headers are written in one go. A test plays both. Above: `segment`. Below: `device::netdev`.

use super::{event_data_sent, has_more_options, ts_at};
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::counters::Mib;
use crate::device::netdev::NetXmit;
use crate::ip::output::default_ttl;
use crate::sock::dst::DstKind;
use crate::sock::skb::{Csum, GsoType, L3, Looped, Skb, TcpCb};
use crate::tcp::output::{ACK, FIN, PSH};
use crate::tcp::tcb::Cx;
use crate::tcp::{delack, ecn, prr, window};
use crate::wire::checksum::{self, pseudo_header_v4};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::CHECKSUM_OFFSET;
use crate::wire::tcp_options::{NOP_NOP_TS, TIMESTAMP_ALIGNED_LEN};
use crate::wire::{ip, proto, tcp};
use std::net::IpAddr;

/// Bytes of both headers, with timestamps.
const MOST: usize = ip::HEADER_LEN + tcp::HEADER_LEN + TIMESTAMP_ALIGNED_LEN;

/// Whether it is such a segment. `out`: without its headers.
#[inline]
pub(super) fn applies(cx: &Cx<'_>, out: &Skb) -> bool {
    let (tp, sk) = (&*cx.tp, &*cx.sk);
    let Some(dst) = &sk.dst else { return false };
    Way::Plain.is_open()
        && out.tcp.flags & !(PSH | FIN) == ACK
        && out.tcp.gso_segs <= 1
        && out.tx_stamp.is_none()
        && !has_more_options(cx)
        && !tp.urg_mode
        && !tp.departure_times
        && tp.ecn.is_off()
        && sk.ip_more.is_none()
        && matches!((sk.saddr, sk.daddr), (IpAddr::V4(_), IpAddr::V4(_)))
        && dst.kind == DstKind::Local
        && dst.check(cx.stack)
        && super::dont_fragment(sk.pmtudisc, dst.mtu_locked)
        && dst.dev.loops_as_is()
        && dst.dev.takes_as_is(out)
        && MOST + out.len() <= ip::MAX_DATAGRAM.min(dst.mtu as usize)
}

/// Sends it; `ack`: what it acknowledges.
pub(super) fn send(cx: &mut Cx<'_>, mut out: Skb, ack: u32) -> Result<()> {
    Way::Plain.taken();
    let TcpCb { seq, end_seq, mstamp, flags, .. } = out.tcp;
    let payload = out.len();
    cx.tp.rx_opt.dsack = false;
    let window = window::select_window(cx);
    let stamps = cx.tp.rx_opt.tstamp_ok;
    let (IpAddr::V4(src), IpAddr::V4(to)) = (cx.sk.saddr, cx.sk.daddr) else { return Err(Error::AfNoSupport) };
    let Some(dst) = &cx.sk.dst else { return Err(Error::HostUnreach) };
    let sk = &*cx.sk;

    let header_len = if stamps { tcp::HEADER_LEN + TIMESTAMP_ALIGNED_LEN } else { tcp::HEADER_LEN };
    let segment_len = (header_len + payload) as u32;
    let len = ip::HEADER_LEN as u32 + segment_len;
    let ttl = if sk.ttl > 0 { sk.ttl.min(255) as u8 } else { default_ttl(cx.stack, dst, true) };
    let tos = ecn::with_codepoint(sk.tos, 0);
    let first = 0x4500 << 16 | u32::from(tos) << 16 | len;
    let fragment = u32::from(ip::DF);
    let ttl_word = u32::from(ttl) << 24 | u32::from(proto::TCP) << 16;
    let (src32, to32) = (u32::from(src), u32::from(to));
    let sum = [first, fragment, ttl_word, src32, to32].into_iter().fold(0, |sum, word| sum + u64::from(word));
    let pseudo = u32::from(checksum::fold(pseudo_header_v4(src, to, proto::TCP, segment_len)));
    let word = (header_len as u32 / 4) << 28 | u32::from(flags) << 16 | u32::from(window.0);
    let ports = u32::from(sk.sport) << 16 | u32::from(sk.dport);
    // By pairs: the compiler turns single words by vectors, which costs more.
    let pair = |a: u32, b: u32| (u64::from(a) << 32 | u64::from(b)).to_be_bytes();
    let pairs = [
        pair(first, fragment),
        pair(ttl_word | u32::from(!checksum::fold64(sum)), src32),
        pair(to32, ports),
        pair(seq.0, ack),
        pair(word, pseudo << 16),
    ];
    let Some(head) = out.push_stale(ip::HEADER_LEN + header_len) else { return Err(Error::NoBufs) };
    let Some((fixed, options)) = head.split_first_chunk_mut::<{ ip::HEADER_LEN + tcp::HEADER_LEN }>() else {
        return Err(Error::NoBufs);
    };
    fixed.copy_from_slice(pairs.as_flattened());
    if let Some((stamp, echo)) = options.split_first_chunk_mut::<8>() {
        *stamp = pair(NOP_NOP_TS, ts_at(cx, mstamp));
        echo.copy_from_slice(&cx.tp.rx_opt.ts_recent.to_be_bytes());
    }
    out.csum = Csum::Partial { start: ip::HEADER_LEN as u16, offset: CHECKSUM_OFFSET as u16 };
    out.looped = if Way::Known.is_open() { Looped::Segment } else { Looped::Headers };
    (out.l3, out.nh_len) = (L3::V4, ip::HEADER_LEN as u16);
    // What its receiver reads in the header.
    debug_assert_eq!(end_seq, seq + (payload as u32 + u32::from(flags & FIN != 0)), "as its receiver would count");
    let (ack_seq, ip_dsfield) = (SeqNum(ack), tos);
    out.tcp = TcpCb { seq, end_seq, ack_seq, flag_word: word, flags, ip_dsfield, ttl, ..TcpCb::default() };
    (out.gso_size, out.gso_type) = (0, GsoType::None);
    (out.hash, out.mark, out.priority) = (cx.tp.txhash, sk.mark, sk.priority);

    if ack == cx.tp.rcv_nxt.0 {
        delack::event_ack_sent(cx);
    }
    if payload > 0 {
        event_data_sent(cx);
        cx.tp.data_segs_out = cx.tp.data_segs_out.wrapping_add(1);
        cx.tp.bytes_sent += payload as u64;
    }
    let mib = cx.stack.mib.here();
    if end_seq.after(cx.tp.snd_nxt) || seq == end_seq {
        mib.inc(Mib::TcpOutSegs);
    }
    cx.tp.segs_out = cx.tp.segs_out.wrapping_add(1);
    // What loops has no neighbour to be confirmed.
    cx.tp.dst_pending_confirm = false;
    mib.inc(Mib::IpOutRequests);
    mib.add(Mib::IpExtOutOctets, u64::from(len));
    mib.inc(Mib::IpOutTransmits);
    let Some(dst) = &cx.sk.dst else { return Err(Error::HostUnreach) };
    let charged = payload > 0 || flags & FIN != 0;
    let sent = dst.dev.xmit_looped(cx.stack, cx.now, out, charged.then_some(cx.sock));
    if !matches!(sent, Ok(NetXmit::Success)) {
        refused(cx, &sent);
    }
    sent.map(drop)
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

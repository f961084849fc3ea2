//! TCP's transmit timestamps: which byte of a call is reported, what a connection measures when it is
//! (SOF_TIMESTAMPING_OPT_STATS), and the report of its acknowledgement. Above: `sendmsg`, `segment`, `ack`. Below:
//! `sock::tstamp`. Linux: tcp_tx_timestamp, tcp_ack_tstamp, tcp_get_timestamping_opt_stats.

use super::chrono::chrono_stats;
use super::info::delivery_rate;
use super::tcb::Cx;
use super::{output, rtt};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::SockGuard;
use crate::sock::state::State;
use crate::sock::tstamp::{Point, TxStamp, sof};
use crate::wire::seq::SeqNum;

/// TCP_NLA_*: types of the attributes.
mod nla {
    #![allow(missing_docs)]
    pub(super) const BUSY: u16 = 1;
    pub(super) const RWND_LIMITED: u16 = 2;
    pub(super) const SNDBUF_LIMITED: u16 = 3;
    pub(super) const DATA_SEGS_OUT: u16 = 4;
    pub(super) const TOTAL_RETRANS: u16 = 5;
    pub(super) const PACING_RATE: u16 = 6;
    pub(super) const DELIVERY_RATE: u16 = 7;
    pub(super) const SND_CWND: u16 = 8;
    pub(super) const REORDERING: u16 = 9;
    pub(super) const MIN_RTT: u16 = 10;
    pub(super) const RECUR_RETRANS: u16 = 11;
    pub(super) const DELIVERY_RATE_APP_LMT: u16 = 12;
    pub(super) const SNDQ_SIZE: u16 = 13;
    pub(super) const CA_STATE: u16 = 14;
    pub(super) const SND_SSTHRESH: u16 = 15;
    pub(super) const DELIVERED: u16 = 16;
    pub(super) const DELIVERED_CE: u16 = 17;
    pub(super) const BYTES_SENT: u16 = 18;
    pub(super) const BYTES_RETRANS: u16 = 19;
    pub(super) const DSACK_DUPS: u16 = 20;
    pub(super) const REORD_SEEN: u16 = 21;
    pub(super) const SRTT: u16 = 22;
    pub(super) const TIMEOUT_REHASH: u16 = 23;
    pub(super) const BYTES_NOTSENT: u16 = 24;
    pub(super) const EDT: u16 = 25;
    pub(super) const TTL: u16 = 26;
    pub(super) const REHASH: u16 = 27;
}

/// Attributes as netlink has them: length and type, 16 bits each, then the value, filled up to four bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn put(&mut self, ty: u16, value: &[u8]) {
        self.0.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.0.extend_from_slice(&ty.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
    fn u8(&mut self, ty: u16, n: u8) {
        self.put(ty, &[n]);
    }
    fn u32(&mut self, ty: u16, n: u32) {
        self.put(ty, &n.to_ne_bytes());
    }
    fn u64(&mut self, ty: u16, n: u64) {
        self.put(ty, &n.to_ne_bytes());
    }
}

/// The measurements of now, in the order of Linux 6.18. `edt`: when the packet leaves or left; `ttl`: of the
/// acknowledgement. The transmit hash is never thought over, so that both counts of that are 0.
fn opt_stats(cx: &Cx<'_>, edt: Instant, ttl: Option<u8>) -> Vec<u8> {
    let tp = &*cx.tp;
    let mut a = Attributes::default();
    let [busy, rwnd, sndbuf] = chrono_stats(tp, cx.now);
    a.u64(nla::BUSY, busy);
    a.u64(nla::RWND_LIMITED, rwnd);
    a.u64(nla::SNDBUF_LIMITED, sndbuf);
    a.u64(nla::DATA_SEGS_OUT, u64::from(tp.data_segs_out));
    a.u64(nla::TOTAL_RETRANS, u64::from(tp.total_retrans));
    let pacing = if tp.pacing_rate == u64::MAX { u64::MAX } else { tp.pacing_rate.min(cx.sk.max_pacing_rate) };
    a.u64(nla::PACING_RATE, pacing);
    a.u64(nla::DELIVERY_RATE, delivery_rate(tp));
    a.u32(nla::SND_CWND, tp.snd_cwnd);
    a.u32(nla::REORDERING, tp.reordering);
    a.u32(nla::MIN_RTT, rtt::min_rtt(tp));
    a.u8(nla::RECUR_RETRANS, tp.retransmits);
    a.u8(nla::DELIVERY_RATE_APP_LMT, u8::from(tp.rate_app_limited));
    a.u32(nla::SND_SSTHRESH, tp.snd_ssthresh);
    a.u32(nla::DELIVERED, tp.delivered);
    a.u32(nla::DELIVERED_CE, tp.delivered_ce);
    a.u32(nla::SNDQ_SIZE, tp.write_seq.since(tp.snd_una));
    a.u8(nla::CA_STATE, tp.ca_state as u8);
    a.u64(nla::BYTES_SENT, tp.bytes_sent);
    a.u64(nla::BYTES_RETRANS, tp.rare().bytes_retrans);
    a.u32(nla::DSACK_DUPS, tp.rare().dsack_dups);
    a.u32(nla::REORD_SEEN, tp.rare().reord_seen);
    a.u32(nla::SRTT, tp.srtt_us >> 3);
    a.put(nla::TIMEOUT_REHASH, &0u16.to_ne_bytes());
    a.u32(nla::BYTES_NOTSENT, output::notsent_bytes(tp));
    a.u64(nla::EDT, edt.as_nanos());
    if let Some(ttl) = ttl {
        a.u8(nla::TTL, ttl);
    }
    a.u32(nla::REHASH, 0);
    a.0
}

/// What ids count from (sock_set_timestamping): the oldest byte that is not acknowledged, or with `written` the next
/// one to be written. EINVAL: there is no connection.
pub(super) fn tskey(g: &mut SockGuard<'_>, written: bool) -> Result<u32> {
    let Some(cx) = Cx::new(g) else { return Err(Error::Inval) };
    match cx.state() {
        State::Close | State::Listen => Err(Error::Inval),
        _ if written => Ok(cx.tp.write_seq.0),
        _ => Ok(cx.tp.snd_una.0),
    }
}

/// A call has queued its bytes: the last of them is the one that is reported (tcp_tx_timestamp). It may have left
/// already, where the call stops because the next byte finds no room.
pub(super) fn tx_timestamp(cx: &mut Cx<'_>, tsflags: u32) {
    if tsflags & sof::TX_RECORD_MASK == 0 {
        return;
    }
    let Some(skb) = cx.tp.write_queue.back_mut().or_else(|| cx.tp.rtx_queue.back_mut()) else { return };
    let key = skb.tcp.seq.0.wrapping_add(skb.len() as u32).wrapping_sub(1);
    skb.tx_stamp = TxStamp::joined(skb.tx_stamp.take(), TxStamp::new(cx.sock, tsflags, key));
}

/// A packet with a stamp is about to leave at `edt`: notes the measurements of now, where the program wants them.
#[cold]
pub(super) fn stamp_leaves(cx: &Cx<'_>, stamp: TxStamp, edt: Instant) -> TxStamp {
    const WANTED: u32 = sof::OPT_STATS | sof::OPT_TSONLY;
    let tsflags = cx.sock.tsflags();
    if tsflags & WANTED == WANTED { stamp.with_stats(opt_stats(cx, edt, None)) } else { stamp }
}

/// Reports the acknowledgement of a byte of the packet at the head of the retransmit queue, if it is one that moved
/// `snd_una` from `prior` over that byte (tcp_ack_tstamp). `ttl`: the acknowledgement's.
#[cold]
pub(super) fn ack_tstamp(cx: &Cx<'_>, prior: SeqNum, ttl: u8) {
    let Some(skb) = cx.tp.rtx_queue.front() else { return };
    let Some(stamp) = skb.tx_stamp.as_ref().filter(|s| s.wants(Point::Ack)) else { return };
    let key = SeqNum(stamp.key());
    if key.before(prior) || !key.before(cx.tp.snd_una) {
        return;
    }
    let stats = || opt_stats(cx, skb.tcp.mstamp, Some(ttl));
    if let Some(report) = stamp.report(Point::Ack, || skb.to_vec(), || None, stats) {
        report.queue(cx.now);
    }
}

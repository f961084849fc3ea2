//! Congestion control for protocols that are not TCP: an algorithm of the registry with a window of its own, to which
//! the protocol reports what it sends, what is acknowledged and what is lost. The rules around the algorithm (when the
//! window may grow, proportional rate reduction, undo, restart after idle, delivery-rate samples, RTT and RTO) are
//! those of TCP connections, and the same code. Above: protocols. Below: `cong`, `prr`, `rate`, `rtt`, `output`.
//!
//! The unit is the segment: what the protocol sends in one packet. In flight are segments that were sent and have
//! neither been acknowledged nor declared lost; a retransmission counts as a sent packet. For each acknowledgement,
//! call [`Borrowed::recovered`] if everything outstanding at the loss has now arrived, [`Borrowed::loss`] for the
//! segments that it shows to be lost, then [`Borrowed::acked`] for those that it acknowledges; then [`Borrowed::quota`]
//! returns how many segments may be sent.

use super::super::ack::{self, flag};
use super::super::ecn::set_ecn_capable;
use super::super::tcb::{CaState, Cx, RateSample, TcpSock};
use super::super::{metrics, output, prr, rate, rtt, segment, undo};
use super::*;
use crate::sock::{Sock, SockCommon, SockGuard};
use crate::stack::Stack;
use crate::tcp::net;

/// The owned sock of the borrowing protocol, as separate borrows, so that the [`Borrowed`] may be in the sock's private
/// state.
pub struct Lender<'a> {
    /// The stack.
    pub stack: &'a Arc<Stack>,
    /// The sock.
    pub sock: &'a Arc<Sock>,
    /// Its shared part: route, limits.
    pub sk: &'a mut SockCommon,
    /// The current time.
    pub now: Instant,
}

impl<'a> Lender<'a> {
    /// Borrows the parts of an owned sock.
    pub fn new<'g>(g: &'a mut SockGuard<'g>) -> Lender<'a>
    where
        'g: 'a,
    {
        let (stack, sock, now) = (g.stack, g.sock, g.now());
        Lender { stack, sock, sk: &mut g.common, now }
    }
}

/// State recorded for a packet when it is sent, for a delivery-rate sample when it is acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    sent: Instant,
    first_tx: Instant,
    delivered_at: Instant,
    delivered: u32,
    delivered_ce: u32,
    end_seq: SeqNum,
    app_limited: bool,
    again: bool,
}

impl Mark {
    /// As plain numbers, for a protocol that stores marks in its own format.
    pub fn to_words(self) -> [u64; 5] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        [
            self.sent.as_nanos(),
            self.first_tx.as_nanos(),
            self.delivered_at.as_nanos(),
            pair(self.delivered, self.delivered_ce),
            pair(self.end_seq.0, u32::from(self.app_limited) | u32::from(self.again) << 1),
        ]
    }

    /// The reverse of `to_words`. Arbitrary numbers give a meaningless but harmless mark.
    pub fn from_words([sent, first_tx, delivered_at, counts, rest]: [u64; 5]) -> Mark {
        Mark {
            sent: Instant::from_nanos(sent),
            first_tx: Instant::from_nanos(first_tx),
            delivered_at: Instant::from_nanos(delivered_at),
            delivered: (counts >> 32) as u32,
            delivered_ce: counts as u32,
            end_seq: SeqNum((rest >> 32) as u32),
            app_limited: rest & 1 != 0,
            again: rest & 2 != 0,
        }
    }
}

/// The contents of an acknowledgement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Acked {
    /// Number of segments in flight that it acknowledges.
    pub segments: u32,
    /// Number of segments that it acknowledges after [`Borrowed::loss`] had declared them lost.
    pub late: u32,
    /// RTT of the acknowledged segment that was sent last, in microseconds, if that was not retransmitted
    /// (RFC 6298 §3).
    pub rtt_us: Option<u32>,
    /// Mark of the acknowledged segment that was sent last: gives the delivery-rate sample.
    pub mark: Option<Mark>,
    /// The acknowledged segments follow a hole that is still there, which may be the first sign of a loss: the window
    /// does not grow (in TCP, a selective acknowledgement that does not advance snd_una).
    pub behind_hole: bool,
    /// It echoes a congestion mark (RFC 3168).
    pub ece: bool,
}

/// The state of a [`Borrowed`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The algorithm.
    pub name: String,
    /// Congestion state.
    pub ca_state: CaState,
    /// Window, segments.
    pub cwnd: u32,
    /// Slow-start threshold, segments.
    pub ssthresh: u32,
    /// In flight, segments.
    pub in_flight: u32,
    /// Smoothed RTT, microseconds; 0: no sample yet.
    pub srtt_us: u32,
    /// Mean deviation of the RTT, microseconds.
    pub rttvar_us: u32,
    /// Minimum RTT of the last `tcp_min_rtt_wlen`, microseconds; `u32::MAX`: no sample yet.
    pub min_rtt_us: u32,
    /// Retransmission timeout (RFC 6298), without backoff, microseconds.
    pub rto_us: u32,
    /// Pacing rate, bytes a second.
    pub pacing_rate: u64,
    /// Whether the algorithm needs its packets paced.
    pub needs_pacing: bool,
    /// Segments delivered in total, modulo 2^32.
    pub delivered: u32,
    /// Segments declared lost in total, modulo 2^32.
    pub lost: u32,
    /// Delivery rate of the best recent sample, bytes a second; 0: none.
    pub delivery_rate: u64,
}

/// A running algorithm for a protocol that is not TCP. See the module's text.
#[derive(Debug)]
pub struct Borrowed {
    /// The connection as algorithms see it; its queues remain empty.
    tp: Box<TcpSock>,
    /// `tp.lost` at the last acknowledgement.
    lost_before: u32,
}

impl Borrowed {
    /// Starts the algorithm of this name, None: the default of `net.ipv4.tcp_congestion_control`, with the initial
    /// window. `mss`: payload bytes of a full segment. If the algorithm needs ECN, the sock's packets are sent with
    /// ECT; the protocol must report ECN echoes. ENOENT: no algorithm has that name; EINVAL: `mss` is 0.
    pub fn new(l: &mut Lender<'_>, name: Option<&str>, mss: u32) -> Result<Borrowed> {
        if mss == 0 {
            return Err(Error::Inval);
        }
        let net = net::of(l.stack)?;
        let mut tp = Box::new(TcpSock::new(&net, l.stack));
        if let Some(name) = name {
            tp.ca.ops = net.cong.find(name).ok_or(Error::NoEnt)?;
        }
        tp.mss_cache = mss;
        let now_ms = l.now.as_millis() as u32;
        tp.lsndtime_ms = now_ms;
        tp.snd_cwnd_stamp_ms = now_ms;
        let mut b = Borrowed { tp, lost_before: 0 };
        let mut cx = b.cx(l);
        metrics::init(&mut cx);
        // There was no handshake to measure, and none failed: RFC 6298 §2.1.
        if cx.tp.srtt_us == 0 {
            cx.tp.rto_us = crate::tcp::tcb::TIMEOUT_INIT_US;
        }
        ack::set_initial_cwnd(&mut cx);
        let ops = cx.tp.ca.ops.clone();
        let algo = super::Algo::start(&ops, &mut cx);
        super::run(&mut cx, algo);
        if ops.needs_ecn() {
            set_ecn_capable(cx.sk, true);
        }
        Ok(b)
    }

    fn cx<'a>(&'a mut self, l: &'a mut Lender<'_>) -> Cx<'a> {
        Cx { stack: l.stack, sock: l.sock, sk: l.sk, tp: &mut self.tp, now: l.now, softirq: true }
    }

    /// Stops the algorithm. If a `Borrowed` is dropped instead, its `release` is not called.
    pub fn release(mut self, l: &mut Lender<'_>) {
        cleanup(&mut self.cx(l));
    }

    /// Number of segments that may be sent now. After idling for an RTO the window is first reset to the restart window
    /// (RFC 2861), so call it before the first packet of a burst.
    pub fn quota(&mut self, l: &mut Lender<'_>) -> u32 {
        output::slow_start_after_idle_check(&mut self.cx(l));
        self.tp.snd_cwnd.saturating_sub(self.tp.packets_out)
    }

    /// Reports a packet of `n` segments that is being sent, for the first time or again (`again`). The mark is for
    /// [`Borrowed::acked`].
    pub fn sent(&mut self, l: &mut Lender<'_>, n: u32, again: bool) -> Mark {
        let mut cx = self.cx(l);
        if n == 0 {
            return Mark::default();
        }
        segment::event_data_sent(&mut cx);
        let tp = &mut *cx.tp;
        let mut cb = TcpCb { mstamp: cx.now, ..TcpCb::default() };
        rate::rate_skb_sent(tp, &mut cb);
        tp.packets_out = tp.packets_out.saturating_add(n);
        tp.snd_nxt += n.wrapping_mul(tp.mss_cache);
        tp.write_seq = tp.snd_nxt;
        tp.data_segs_out = tp.data_segs_out.wrapping_add(n);
        if output::in_cwnd_reduction(tp) {
            tp.cold_mut().prr_out = tp.prr_out.saturating_add(n);
        }
        let limited = tp.packets_out >= tp.snd_cwnd;
        let mark = Mark {
            sent: cb.mstamp,
            first_tx: cb.first_tx_mstamp,
            delivered_at: cb.delivered_mstamp,
            delivered: cb.delivered,
            delivered_ce: cb.delivered_ce,
            end_seq: tp.snd_nxt,
            app_limited: cb.app_limited,
            again,
        };
        if !again {
            output::cwnd_validate(&mut cx, limited);
        }
        mark
    }

    /// Reports that the protocol has no more data although the window allows it: delivery-rate samples are marked as
    /// application limited until the segments in flight have been acknowledged.
    pub fn app_limited(&mut self) {
        let tp = &mut *self.tp;
        tp.app_limited = tp.delivered.wrapping_add(tp.packets_out).max(1);
    }

    fn una(tp: &TcpSock) -> SeqNum {
        tp.snd_nxt - tp.packets_out.wrapping_mul(tp.mss_cache)
    }

    /// Reports an acknowledgement: takes its RTT and rate samples, completes a reduction caused by ECN, and opens or
    /// reduces the window.
    pub fn acked(&mut self, l: &mut Lender<'_>, a: &Acked) {
        let arrived = a.segments.min(self.tp.packets_out);
        let delivered = arrived.saturating_add(a.late);
        if delivered == 0 && !a.ece {
            return;
        }
        let lost_before = std::mem::replace(&mut self.lost_before, self.tp.lost);
        let mut cx = self.cx(l);
        let tp = &mut *cx.tp;
        let mut rs = RateSample { prior_in_flight: tp.packets_out, ..RateSample::default() };
        tp.packets_out -= arrived;
        tp.snd_una = Borrowed::una(tp);
        ack::count_delivered(&mut cx, delivered, a.ece);
        let mut marked = None;
        if let Some(m) = &a.mark {
            let mut cb = TcpCb {
                mstamp: m.sent,
                first_tx_mstamp: m.first_tx,
                delivered_mstamp: m.delivered_at,
                delivered: m.delivered,
                delivered_ce: m.delivered_ce,
                seq: m.end_seq - cx.tp.mss_cache,
                end_seq: m.end_seq,
                app_limited: m.app_limited,
                sacked: if m.again { sacked::RETRANS } else { 0 },
                ..TcpCb::default()
            };
            if cx.tp.ca.ops.wants_packets() {
                marked = PacketSample::of(&cb, (cb.seq, cb.end_seq), 1, a.behind_hole, cx.now);
            }
            rate::rate_skb_delivered(cx.tp, &mut cb, &mut rs);
        }
        let mut flags = flag::WIN_UPDATE;
        if delivered > 0 && !a.behind_hole {
            flags |= flag::SND_UNA_ADVANCED | flag::DATA_ACKED;
            cx.tp.retransmits = 0;
        } else if delivered > 0 {
            flags |= flag::DATA_SACKED;
        }
        if a.ece {
            flags |= flag::ECE | flag::SLOWPATH;
        }
        let rtt = a.rtt_us.map_or(-1, i64::from);
        rtt::ack_update_rtt(&mut cx, flags, rtt, -1, rtt, &mut rs);
        let sample = AckSample {
            pkts_acked: arrived,
            rtt_us: rs.rtt_us,
            in_flight: cx.tp.mss_cache.wrapping_mul(cx.tp.delivered.wrapping_sub(rs.prior_delivered)),
        };
        pkts_delivered(&mut cx, marked.as_slice());
        cx.with_ca_slot(ca_slot::PKTS_ACKED, |ca, cx| ca.pkts_acked(cx, &sample));
        ack::in_ack_event(&mut cx, flags);
        if cx.tp.ca_state == CaState::Cwr && cx.tp.snd_una.after(cx.tp.high_seq) {
            prr::end_cwnd_reduction(&mut cx);
            set_ca_state(&mut cx, CaState::Open);
        }
        if a.ece {
            prr::enter_cwr(&mut cx);
        }
        let lost = cx.tp.lost.wrapping_sub(lost_before);
        rate::rate_gen(&mut cx, delivered, lost, false, &mut rs);
        let ack = cx.tp.snd_una;
        ack::cong_control(&mut cx, ack, delivered, flags, &rs);
    }

    /// Reports `n` segments in flight as lost, which the protocol infers from acknowledgements (as in RFC 5681 §3.2):
    /// starts recovery, or adds them to a recovery in progress.
    pub fn loss(&mut self, l: &mut Lender<'_>, n: u32) {
        let mut cx = self.cx(l);
        let n = n.min(cx.tp.packets_out);
        if n == 0 {
            return;
        }
        if cx.tp.ca_state < CaState::Recovery {
            // The recovery covers everything sent so far, so its end is noted before the lost segments are subtracted.
            cx.tp.forbid_undo();
            cx.tp.undo_valid = true;
            if !output::in_cwnd_reduction(cx.tp) {
                cx.tp.cold_mut().prior_ssthresh = output::current_ssthresh(cx.tp);
                prr::init_cwnd_reduction(&mut cx);
            }
            set_ca_state(&mut cx, CaState::Recovery);
        }
        let tp = &mut *cx.tp;
        tp.packets_out -= n;
        tp.cold_mut().lost = tp.lost.wrapping_add(n);
        tp.snd_una = Borrowed::una(tp);
        if tp.prr_out == 0 && tp.ca_state == CaState::Recovery {
            // The fast retransmit ignores the window, which the acknowledgement then sets.
            tp.snd_cwnd = tp.snd_cwnd.max(tp.packets_out.saturating_add(1));
        }
    }

    /// Reports that everything outstanding at the loss or at the timeout has arrived: the reduction is complete.
    pub fn recovered(&mut self, l: &mut Lender<'_>) {
        let mut cx = self.cx(l);
        match cx.tp.ca_state {
            CaState::Open | CaState::Disorder => return,
            CaState::Recovery | CaState::Cwr => prr::end_cwnd_reduction(&mut cx),
            CaState::Loss => {}
        }
        set_ca_state(&mut cx, CaState::Open);
        cx.tp.undo_valid = false;
    }

    /// Reports an expired retransmission timer: everything in flight is lost, the window becomes one segment, and the
    /// threshold is reduced once (RFC 5681 §3.1 equation 4).
    pub fn rto(&mut self, l: &mut Lender<'_>) {
        let mut cx = self.cx(l);
        if cx.tp.ca_state <= CaState::Disorder || (cx.tp.ca_state == CaState::Loss && cx.tp.retransmits == 0) {
            cx.tp.cold_mut().prior_ssthresh = output::current_ssthresh(cx.tp);
            cx.tp.cold_mut().prior_cwnd = cx.tp.snd_cwnd;
            cx.tp.snd_ssthresh = ssthresh(&mut cx);
            ca_event(&mut cx, CaEvent::Loss);
            cx.tp.undo_valid = true;
        }
        let tp = &mut *cx.tp;
        tp.cold_mut().lost = tp.lost.wrapping_add(tp.packets_out);
        tp.packets_out = 0;
        tp.snd_una = Borrowed::una(tp);
        set_cwnd(tp, 1);
        tp.snd_cwnd_cnt = 0;
        tp.snd_cwnd_stamp_ms = cx.now.as_millis() as u32;
        set_ca_state(&mut cx, CaState::Loss);
        cx.tp.high_seq = cx.tp.snd_nxt;
        cx.tp.retransmits = cx.tp.retransmits.saturating_add(1);
    }

    /// Undoes the reduction of this episode, because nothing was lost: restores window and threshold. False, without a
    /// change, outside an episode and after an ECN echo.
    pub fn undo(&mut self, l: &mut Lender<'_>) -> bool {
        let mut cx = self.cx(l);
        if !cx.tp.undo_valid || cx.tp.prior_ssthresh == 0 || cx.tp.ca_state < CaState::Recovery {
            return false;
        }
        undo::undo_cwnd_reduction(&mut cx, false);
        cx.tp.retransmits = 0;
        set_ca_state(&mut cx, CaState::Open);
        true
    }

    /// Sets the payload bytes of a full segment, after a change of the path MTU. EINVAL: 0.
    pub fn set_mss(&mut self, mss: u32) -> Result<()> {
        if mss == 0 {
            return Err(Error::Inval);
        }
        self.tp.mss_cache = mss;
        self.tp.snd_una = Borrowed::una(&self.tp);
        Ok(())
    }

    /// Congestion window, segments.
    pub fn cwnd(&self) -> u32 {
        self.tp.snd_cwnd
    }

    /// Slow-start threshold, segments.
    pub fn ssthresh(&self) -> u32 {
        self.tp.snd_ssthresh
    }

    /// Segments in flight.
    pub fn in_flight(&self) -> u32 {
        self.tp.packets_out
    }

    /// Retransmission timeout (RFC 6298), microseconds, without backoff.
    pub fn rto_us(&self) -> u32 {
        self.tp.rto_us
    }

    /// All the state that can be reported.
    pub fn info(&self) -> Info {
        let tp = &*self.tp;
        let rate = (u64::from(tp.rate_delivered) * u64::from(tp.mss_cache)).saturating_mul(1_000_000);
        Info {
            name: tp.ca.ops.name().to_owned(),
            ca_state: tp.ca_state,
            cwnd: tp.snd_cwnd,
            ssthresh: tp.snd_ssthresh,
            in_flight: tp.packets_out,
            srtt_us: tp.srtt_us >> 3,
            rttvar_us: tp.rttvar_us >> 2,
            min_rtt_us: rtt::min_rtt(tp),
            rto_us: tp.rto_us,
            pacing_rate: tp.pacing_rate,
            needs_pacing: tp.ca_paces,
            delivered: tp.delivered,
            lost: tp.lost,
            delivery_rate: rate.checked_div(tp.rate_interval_us.into()).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests;

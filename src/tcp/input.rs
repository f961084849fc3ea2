//! Input: every segment of a connection, in the order of RFC 9293 §3.10.7: sequence, RST, SYN, ACK, URG, text, FIN;
//! before it the short cut for what is expected (header prediction). Above: `rcv`, which found the sock. Below: `ack`,
//! `reassembly`, `challenge`, `urgent`, `synsent`. RFC 7323 §5 (PAWS), RFC 5961. Linux: tcp_rcv_established,
//! tcp_rcv_state_process.

use super::ack::{self, AckResult, flag, may_update_window};
use super::challenge::reset;
use super::challenge::{oow_rate_limited, send_challenge_ack, send_dupack};
use super::reassembly::{self, DataRecv, MAX_QUICKACKS, data_queue};
use super::sock_ops::{self, Opened};
use super::state::State;
use super::tcb::{Cx, TcpSock, ack as pending};
use super::timer::ATO_MIN_MS;
use super::timer::in_pingpong_mode;
use super::timewait::TIMEWAIT_LEN;
use super::urgent::urg;
use super::{close, cong, control, mtu, output, rcvbuf, recvmsg, rtt, sack, synsent, timer, timewait, undo, window};
use crate::base::env::{Duration, Instant};
use crate::counters::{DropReason, Mib};
use crate::sock::skb::Skb;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, flag as sflag};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{TcpFlags, TcpHeader};
use crate::wire::tcp_options::{SackBlocks, TcpOptions};
use std::sync::atomic::Ordering;

/// Header bytes of a segment with nothing but aligned timestamps.
const HEADER_WITH_TS: u16 = 32;
/// Bytes of aligned timestamps.
const TS_LEN: u16 = 12;
/// Bits of the flag word that header prediction does not compare: reserved bits and PSH.
const HP_IGNORE: u32 = 0x0f00_0000 | (TcpFlags::PSH.bits() as u32) << 16;

/// Duplicate acknowledgements that make a peer retransmit (TCP_FASTRETRANS_THRESH; RFC 5681 §3.2).
const FASTRETRANS_THRESH: u8 = 3;
/// A compressed acknowledgement waits for this part of the round trip at most: a twentieth.
const COMP_SACK_RTT_SHARE: u64 = 20;
/// Age at which TS.Recent is believed no more, seconds (RFC 7323 §5.5).
const PAWS_24DAYS: u32 = 24 * 24 * 60 * 60;

/// What the caller has to do after a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// Answer it with a reset.
    Reset(DropReason),
}

/// A segment's header, read once.
#[derive(Debug, Clone, Copy)]
pub struct Seg {
    /// First sequence number.
    pub seq: SeqNum,
    /// One past the last, SYN and FIN counted.
    pub end_seq: SeqNum,
    /// Acknowledgement number.
    pub ack_seq: SeqNum,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window as carried.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Bytes of TCP header.
    pub header_len: usize,
    /// Word that header prediction compares.
    pub flag_word: u32,
    /// TOS or traffic class of the IP header.
    pub dsfield: u8,
    /// Segments joined in this packet.
    pub rx_segs: u16,
    /// The peer's SACK blocks.
    pub sack: SackBlocks,
}

impl Seg {
    /// Of a packet that starts with its TCP header; None: it does not have one.
    #[inline]
    pub fn of(skb: &Skb) -> Option<(Seg, TcpOptions)> {
        let th = TcpHeader::parse(skb.linear()).ok()?;
        let o = th.parse_options();
        let cb = &skb.tcp;
        let seg = Seg {
            seq: cb.seq,
            end_seq: cb.end_seq,
            ack_seq: cb.ack_seq,
            flags: th.flags(),
            window: th.window().0,
            urgent: th.urgent(),
            header_len: th.header_len(),
            flag_word: th.flag_word(),
            dsfield: cb.ip_dsfield,
            rx_segs: skb.rx_segs,
            sack: o.sack,
        };
        Some((seg, o))
    }

    /// The offered window in bytes: that of a SYN is never scaled (RFC 7323 §2.2).
    #[inline]
    pub fn scaled_window(&self, tp: &TcpSock) -> u32 {
        let shift = if self.flags.contains(TcpFlags::SYN) { 0 } else { tp.rx_opt.snd_wscale.min(14) };
        (self.window as u32) << shift
    }

    /// Option bytes, of the packet that this was read from while its header is in place; empty otherwise.
    #[inline]
    pub(super) fn option_bytes<'p>(&self, skb: &'p Skb) -> &'p [u8] {
        skb.linear().get(crate::wire::tcp::HEADER_LEN..self.header_len).unwrap_or_default()
    }

    fn fin(&self) -> u32 {
        self.flags.contains(TcpFlags::FIN) as u32
    }
}

fn drop_seg(cx: &Cx<'_>, skb: Skb, reason: DropReason) {
    cx.stack.mib.drop(reason);
    cx.sock.drops.fetch_add(1, Ordering::Relaxed);
    drop(skb);
}

// ---- Options.

/// Options of a segment of a synchronized connection: timestamps if agreed, our offset taken off the echo
/// (tcp_fast_parse_options).
pub fn parse_estab_options(tp: &mut TcpSock, o: &TcpOptions) {
    let r = &mut tp.rx_opt;
    r.num_sacks = if r.sack_ok != 0 { o.sack.len() as u8 } else { 0 };
    r.saw_tstamp = false;
    if let (Some((val, ecr)), true) = (o.timestamps, r.tstamp_ok) {
        r.saw_tstamp = true;
        r.rcv_tsval = val;
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tp.tsoffset) } else { 0 };
    }
}

/// As `parse_options`, for options that were read already.
pub fn parse_syn_options(cx: &mut Cx<'_>, syn: bool, o: &TcpOptions) {
    let s = &cx.stack.sysctl;
    let (timestamps, sack_on, wscale_on) = (s.tcp_timestamps() != 0, s.tcp_sack(), s.tcp_window_scaling());
    let tsoffset = cx.tp.tsoffset;
    let r = &mut cx.tp.rx_opt;
    r.saw_tstamp = false;
    if syn {
        if let Some(mss) = o.mss {
            r.mss_clamp = if r.user_mss != 0 { mss.min(r.user_mss) } else { mss };
        }
        if let (Some(shift), true) = (o.window_scale, wscale_on) {
            r.wscale_ok = true;
            r.snd_wscale = shift.min(14);
        }
        if o.sack_permitted && sack_on {
            r.sack_ok = sack::SACK_SEEN;
        }
    }
    if let (Some((val, ecr)), true) = (o.timestamps, timestamps) {
        r.saw_tstamp = true;
        r.rcv_tsval = val;
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tsoffset) } else { 0 };
    }
    if syn && o.sack_permitted && sack_on {
        sack::sack_reset(cx.tp);
    }
}

fn now_secs(cx: &Cx<'_>) -> u32 {
    // 0 means "never": the first second counts as 1.
    (cx.now.as_secs() as u32).max(1)
}

/// Takes TS.Recent from the segment in hand (tcp_store_ts_recent).
pub fn store_ts_recent(cx: &mut Cx<'_>) {
    cx.tp.rx_opt.ts_recent = cx.tp.rx_opt.rcv_tsval;
    cx.tp.rx_opt.ts_recent_stamp = now_secs(cx);
}

/// Whether PAWS accepts the segment in hand, with `window` ticks of leniency (RFC 7323 §5.3; tcp_paws_check).
pub fn paws_check(cx: &Cx<'_>, window: i32) -> bool {
    let r = &cx.tp.rx_opt;
    if r.ts_recent.wrapping_sub(r.rcv_tsval) as i32 <= window {
        return true;
    }
    let age = now_secs(cx).wrapping_sub(r.ts_recent_stamp) as i32;
    // Idle for so long that clocks may have wrapped; or the peer began with 0, as some do.
    age >= PAWS_24DAYS as i32 || r.ts_recent == 0
}

/// TS.Recent advances with segments at the left edge of what was last acknowledged (RFC 7323 §4.3;
/// tcp_replace_ts_recent).
#[inline]
pub fn replace_ts_recent(cx: &mut Cx<'_>, seq: SeqNum) {
    if cx.tp.rx_opt.saw_tstamp && !seq.after(cx.tp.rcv_wup) && paws_check(cx, 0) {
        store_ts_recent(cx);
    }
}

/// Judges a segment that PAWS rejects; None: an acknowledgement out of order within reason, accepted
/// (tcp_disordered_ack_check).
fn disordered_ack(cx: &Cx<'_>, seg: &Seg) -> Option<DropReason> {
    let tp = &*cx.tp;
    let paws = Some(DropReason::TcpPaws);
    if !seg.flags.contains(TcpFlags::ACK) || seg.seq != seg.end_seq {
        return paws;
    }
    if seg.seq != tp.rcv_nxt {
        return if seg.seq.before(tp.rcv_nxt) { Some(DropReason::TcpPawsAck) } else { paws };
    }
    if seg.ack_seq != tp.snd_una {
        return paws;
    }
    if may_update_window(cx, seg.ack_seq, seg.seq, seg.scaled_window(tp)) {
        return paws;
    }
    // Within what a retransmission timeout may have held it up, in ticks of milliseconds, and a fifth.
    let late = tp.rx_opt.ts_recent.wrapping_sub(tp.rx_opt.rcv_tsval) as i32 as i64;
    if late > tp.rto_us as i64 / 1000 * 6 / 5 { paws } else { None }
}

// ---- Header prediction.

/// Predicts the next header: same length and window, ACK alone (tcp_fast_path_on).
pub fn fast_path_on(cx: &mut Cx<'_>) {
    let tp = &mut *cx.tp;
    let win = tp.snd_wnd >> tp.rx_opt.snd_wscale.min(14);
    tp.pred_flags = (tp.tcp_header_len as u32) << 26 | (TcpFlags::ACK.bits() as u32) << 16 | win;
}

/// Turns prediction on where nothing stands against it: no hole, room, no urgent data (tcp_fast_path_check).
pub fn fast_path_check(cx: &mut Cx<'_>) {
    if cx.tp.ooo_queue.is_empty()
        && cx.tp.rcv_wnd != 0
        && cx.sock.rmem_alloc.load(Ordering::Relaxed) < cx.sock.rcvbuf.load(Ordering::Relaxed)
        && cx.tp.urg_data == 0
    {
        fast_path_on(cx);
    }
}

// ---- Acknowledgements to send.

/// An acknowledgement is due, at once or later (inet_csk_schedule_ack).
#[inline]
pub fn schedule_ack(cx: &mut Cx<'_>) {
    cx.tp.ack.pending |= pending::SCHED;
}

/// The next acknowledgements go out at once: as many as half a window of segments, at most `max` (tcp_incr_quickack).
pub fn incr_quickack(cx: &mut Cx<'_>, max: u32) {
    let mss = (cx.tp.ack.rcv_mss as u32).max(1);
    let n = match cx.tp.rcv_wnd / (2 * mss) {
        0 => 2,
        n => n,
    };
    let n = n.min(max).min(u8::MAX as u32) as u8;
    cx.tp.ack.quick = cx.tp.ack.quick.max(n);
}

/// Quick acknowledgements from now on, as after trouble (tcp_enter_quickack_mode).
pub fn enter_quickack_mode(cx: &mut Cx<'_>, max: u32) {
    incr_quickack(cx, max);
    cx.tp.ack.pingpong = 0;
    cx.tp.ack.ato_ms = ATO_MIN_MS;
}

fn pingpong_thresh(cx: &Cx<'_>) -> u8 {
    cx.stack.sysctl.tcp_pingpong_thresh().clamp(1, 255) as u8
}

/// The session is interactive: acknowledgements wait for replies (inet_csk_enter_pingpong_mode).
pub fn enter_pingpong_mode(cx: &mut Cx<'_>) {
    cx.tp.ack.pingpong = pingpong_thresh(cx);
}

/// Whether every segment is acknowledged at once (tcp_in_quickack_mode).
pub fn in_quickack_mode(cx: &Cx<'_>) -> bool {
    cx.sk.dst.as_ref().is_some_and(|d| d.quickack) || (cx.tp.ack.quick != 0 && !in_pingpong_mode(cx))
}

/// Acknowledges now or later: RFC 9293 §3.8.6.3, every second full segment and a window that moves
/// (__tcp_ack_snd_check).
fn ack_snd_check_always(cx: &mut Cx<'_>, ofo_possible: bool) {
    let unacked = cx.tp.rcv_nxt.since(cx.tp.rcv_wup);
    let now = (unacked > cx.tp.ack.rcv_mss as u32
        && ((cx.tp.rcv_nxt.diff(cx.tp.copied_seq) < cx.sk.rcvlowat) || window::new_window(cx) >= cx.tp.rcv_wnd))
        || in_quickack_mode(cx)
        || cx.tp.ack.pending & pending::NOW != 0;
    if now {
        control::send_ack(cx);
    } else if !ofo_possible || cx.tp.ooo_queue.is_empty() {
        control::send_delayed_ack(cx);
    } else {
        ack_out_of_order(cx);
    }
}

/// Data waits behind a hole. Each segment draws a duplicate at once (RFC 5681 §4.2), as many as make the peer
/// retransmit; later ones only repeat in part what SACK will tell once more, and some are held back for a fraction of a
/// round trip (`net.ipv4.tcp_comp_sack_*`). Without SACK their number is all the peer has to count. Linux: the second
/// half of __tcp_ack_snd_check.
fn ack_out_of_order(cx: &mut Cx<'_>) {
    let sysctl = &cx.stack.sysctl;
    if !sack::is_sack(cx.tp) || i32::from(cx.tp.compressed_ack) >= sysctl.tcp_comp_sack_nr() {
        return control::send_ack(cx);
    }
    let tp = &mut *cx.tp;
    if tp.compressed_ack_rcv_nxt != tp.rcv_nxt {
        tp.compressed_ack_rcv_nxt = tp.rcv_nxt;
        tp.dup_ack_counter = 0;
    }
    if tp.dup_ack_counter < FASTRETRANS_THRESH {
        tp.dup_ack_counter += 1;
        return control::send_ack(cx);
    }
    tp.compressed_ack += 1;
    if tp.compressed_ack > 1 {
        // The timer runs since the first.
        return;
    }
    // Both estimates are in eighths of a microsecond.
    let rtt = if tp.srtt_us != 0 { tp.srtt_us.min(tp.rcv_rtt_us) } else { tp.rcv_rtt_us };
    let share = Duration::from_nanos(u64::from(rtt) * 1000 / 8 / COMP_SACK_RTT_SHARE);
    let at = cx.now + sysctl.tcp_comp_sack_delay_ns().min(share) + sysctl.tcp_comp_sack_slack_ns();
    timer::compressed_ack_arm(cx, at);
}

/// After a segment: sends the acknowledgement that is due (tcp_ack_snd_check).
pub fn ack_snd_check(cx: &mut Cx<'_>) {
    if cx.tp.ack.pending & pending::SCHED != 0 {
        ack_snd_check_always(cx, true);
    }
}

/// After a segment: sends what the window now allows, wakes writers (tcp_data_snd_check).
pub fn data_snd_check(cx: &mut Cx<'_>) {
    output::push_pending(cx);
    rcvbuf::check_space(cx);
}

// ---- Validation.

/// Whether a segment lies in the window (RFC 9293 §3.10.7.4, first; tcp_sequence): in the widest that was ever offered,
/// for the peer may not have seen it shrink (RFC 7323 §2.4). Two ends that took their windows back at once would
/// otherwise refuse each other's acknowledgements for ever. Departure, a guess that was not played on the kernel: Linux
/// 6.18 looks at the window offered last, later ones at the widest. One that ends beyond it is taken when the receive
/// queue is empty.
fn sequence(cx: &Cx<'_>, seg: &Seg) -> Option<DropReason> {
    if seg.end_seq.before(cx.tp.rcv_wup) {
        return Some(DropReason::TcpOldSequence);
    }
    let right = cx.tp.rcv_nxt + window::max_receive_window(cx.tp);
    if seg.end_seq.after(right) {
        if seg.seq.after(right) {
            return Some(DropReason::TcpInvalidSequence);
        }
        if !cx.sk.receive_queue.is_empty() {
            return Some(DropReason::TcpInvalidEndSequence);
        }
    }
    None
}

/// A reset one before what is expected is valid after the peer's FIN, which some stacks leave out of its sequence
/// number (tcp_reset_check).
fn reset_check(cx: &Cx<'_>, seg: &Seg) -> bool {
    seg.seq == cx.tp.rcv_nxt - 1 && cx.state().is_one_of(&[State::CloseWait, State::LastAck, State::Closing])
}

/// Whether a reset is exactly where the peer must think us (RFC 5961 §3.2), counting what we reported out of order.
fn reset_is_exact(cx: &Cx<'_>, seg: &Seg) -> bool {
    if seg.seq == cx.tp.rcv_nxt || reset_check(cx, seg) {
        return true;
    }
    let n = (cx.tp.num_sacks as usize).min(4);
    match &cx.tp.sack {
        Some(s) if n > 0 && sack::is_sack(cx.tp) => {
            let right = s.selective_acks[..n].iter().fold(s.selective_acks[0].end, |m, b| m.later(b.end));
            seg.seq == right
        }
        _ => false,
    }
}

/// Whether the answer to this segment of the connection is withheld.
fn out_of_window_limited(cx: &mut Cx<'_>, seg: &Seg, mib: Mib) -> bool {
    let (len, syn) = (seg.end_seq.since(seg.seq), seg.flags.contains(TcpFlags::SYN));
    oow_rate_limited(cx.stack, len, syn, cx.now, &mut cx.tp.last_oow_ack_ms, mib)
}

fn syn_challenge(cx: &mut Cx<'_>, syn_inerr: bool) -> DropReason {
    if syn_inerr {
        cx.stack.mib.inc(Mib::TcpInErrs);
    }
    cx.stack.mib.inc(Mib::TcpExtTCPSYNChallenge);
    send_challenge_ack(cx);
    DropReason::TcpInvalidSyn
}

/// PAWS, sequence, RST, SYN: what must hold before a segment may do anything. Err: it has been dealt with and is to be
/// dropped for this reason (tcp_validate_incoming).
fn validate_incoming(cx: &mut Cx<'_>, seg: &Seg, o: &TcpOptions, syn_inerr: bool) -> Result<(), DropReason> {
    let (rst, syn) = (seg.flags.contains(TcpFlags::RST), seg.flags.contains(TcpFlags::SYN));
    parse_estab_options(cx.tp, o);
    // A reset is not subject to PAWS: it may carry no valid timestamp (RFC 7323 §5.2).
    if cx.tp.rx_opt.saw_tstamp
        && !paws_check(cx, 1)
        && let Some(reason) = disordered_ack(cx, seg)
        && !rst
    {
        if syn {
            return Err(syn_challenge(cx, syn_inerr));
        }
        if reason == DropReason::TcpPawsAck {
            cx.stack.mib.inc(Mib::TcpExtPAWSOldAck);
            return Err(reason);
        }
        cx.stack.mib.inc(Mib::TcpExtPAWSEstab);
        if !out_of_window_limited(cx, seg, Mib::TcpExtTCPACKSkippedPAWS) {
            send_dupack(cx, seg);
        }
        return Err(reason);
    }
    if let Some(reason) = sequence(cx, seg) {
        if !rst {
            if syn {
                return Err(syn_challenge(cx, syn_inerr));
            }
            if reason != DropReason::TcpOldSequence {
                cx.stack.mib.inc(Mib::TcpExtBeyondWindow);
            }
            if !out_of_window_limited(cx, seg, Mib::TcpExtTCPACKSkippedSeq) {
                send_dupack(cx, seg);
            }
        } else if reset_check(cx, seg) {
            reset(cx);
            return Err(DropReason::TcpReset);
        }
        return Err(reason);
    }
    if rst {
        if reset_is_exact(cx, seg) {
            reset(cx);
        } else {
            send_challenge_ack(cx);
        }
        return Err(DropReason::TcpReset);
    }
    if syn {
        // The answer to our half of a simultaneous open is the one SYN that may come.
        let crossed = cx.state() == State::SynRecv
            && !cx.sk.flag(sflag::DEAD)
            && !cx.tp.not_accepted
            && seg.flags.contains(TcpFlags::ACK)
            && seg.seq + 1 == seg.end_seq
            && seg.seq + 1 == cx.tp.rcv_nxt
            && seg.ack_seq == cx.tp.snd_nxt;
        if !crossed {
            return Err(syn_challenge(cx, syn_inerr));
        }
    }
    Ok(())
}

// ---- The two ways in.

/// A segment for an established connection (tcp_rcv_established). The predicted kinds, pure acknowledgements and
/// in-order data, take the short way; all else the long one.
pub fn rcv_established(cx: &mut Cx<'_>, mut skb: Skb) {
    let Some((seg, o)) = Seg::of(&skb) else {
        cx.stack.mib.inc(Mib::TcpInErrs);
        return drop_seg(cx, skb, DropReason::PktTooSmall);
    };
    let len = skb.len();
    cx.tp.rx_opt.saw_tstamp = false;

    'predicted: {
        if seg.flag_word & !HP_IGNORE != cx.tp.pred_flags
            || seg.seq != cx.tp.rcv_nxt
            || seg.ack_seq.after(cx.tp.snd_nxt)
            // An acknowledgement far in the past is a sign of forgery: judged before the data is taken (RFC 5961 §5.2).
            || seg.ack_seq.before(cx.tp.snd_una)
            || cx.tp.pred_flags == 0
            || sock_ops::wants_options(cx, o.saw_unknown)
        {
            break 'predicted;
        }
        let with_ts = cx.tp.tcp_header_len == HEADER_WITH_TS;
        if with_ts {
            // The header's length says that there is room for timestamps alone.
            let Some((val, ecr)) = o.timestamps.filter(|_| o.sack.is_empty()) else { break 'predicted };
            let r = &mut cx.tp.rx_opt;
            r.saw_tstamp = true;
            r.rcv_tsval = val;
            r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(cx.tp.tsoffset) } else { 0 };
            // PAWS failed, or looks so: judged on the long way.
            if (val.wrapping_sub(cx.tp.rx_opt.ts_recent) as i32) < 0 {
                break 'predicted;
            }
        }
        let store_ts = with_ts && cx.tp.rcv_nxt == cx.tp.rcv_wup;
        if len == seg.header_len {
            // A bulk sender's acknowledgement.
            if store_ts {
                store_ts_recent(cx);
            }
            ack::ack(cx, &seg, 0);
            drop(skb);
            data_snd_check(cx);
            cx.tp.rcv_rtt_last_tsecr = cx.tp.rx_opt.rcv_tsecr;
            return;
        }
        // A bulk receiver's data, if its memory is charged in advance.
        skb.shrink();
        if skb.truesize as i64 > cx.sk.forward_alloc as i64 {
            return long_way(cx, seg, skb);
        }
        if !skb.pull(seg.header_len) {
            cx.stack.mib.inc(Mib::TcpInErrs);
            return drop_seg(cx, skb, DropReason::PktTooSmall);
        }
        if store_ts {
            store_ts_recent(cx);
        }
        rcvbuf::rcv_rtt_measure_ts(cx, &seg);
        cx.stack.mib.inc(Mib::TcpExtTCPHPHits);
        let note = DataRecv::note(cx, &seg, &skb);
        reassembly::queue_rcv(cx, skb);
        note.finish(cx, &seg);
        let mut check_ack = true;
        if seg.ack_seq != cx.tp.snd_una {
            ack::ack(cx, &seg, flag::DATA);
            data_snd_check(cx);
            // The acknowledgement may have ridden on data just sent.
            check_ack = cx.tp.ack.pending & pending::SCHED != 0;
        } else {
            cx.tp.snd_wl1 = seg.seq;
        }
        if check_ack {
            ack_snd_check_always(cx, false);
        }
        recvmsg::data_ready(cx);
        return;
    }

    if !seg.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::SYN) {
        return drop_seg(cx, skb, DropReason::TcpFlags);
    }
    if let Err(reason) = validate_incoming(cx, &seg, &o, true) {
        return drop_seg(cx, skb, reason);
    }
    sock_ops::parse_hdr_opt(cx, seg.option_bytes(&skb), o.saw_unknown);
    long_way(cx, seg, skb);
}

/// From the fifth step on: ACK, URG, text (step5 of tcp_rcv_established).
fn long_way(cx: &mut Cx<'_>, seg: Seg, skb: Skb) {
    if let AckResult::Bad(reason) = ack::ack(cx, &seg, flag::SLOWPATH | flag::UPDATE_TS_RECENT) {
        return drop_seg(cx, skb, reason);
    }
    rcvbuf::rcv_rtt_measure_ts(cx, &seg);
    accept_cwr(cx, &seg);
    urg(cx, &seg, &skb);
    data_queue(cx, &seg, skb);
    data_snd_check(cx);
    ack_snd_check(cx);
}

/// The peer has reduced its window: no more echo; of data, an acknowledgement at once, for that window may be one
/// segment (RFC 3168 §6.1.3; tcp_ecn_accept_cwr).
fn accept_cwr(cx: &mut Cx<'_>, seg: &Seg) {
    if seg.flags.contains(TcpFlags::CWR) {
        cx.tp.ecn_flags &= !super::tcb::ecn::DEMAND_CWR;
        if seg.seq != seg.end_seq {
            cx.tp.ack.pending |= pending::NOW;
        }
    }
}

/// A segment in any other state but LISTEN (tcp_rcv_state_process). `Reset`: the caller answers with a reset; the
/// segment is gone either way.
pub fn rcv_state_process(cx: &mut Cx<'_>, skb: Skb) -> Verdict {
    let Some((seg, o)) = Seg::of(&skb) else {
        cx.stack.mib.inc(Mib::TcpInErrs);
        drop_seg(cx, skb, DropReason::PktTooSmall);
        return Verdict::Ok;
    };
    cx.tp.rx_opt.saw_tstamp = false;
    match cx.state() {
        State::Close | State::Listen | State::TimeWait | State::NewSynRecv => {
            drop_seg(cx, skb, DropReason::TcpClose);
            return Verdict::Ok;
        }
        State::SynSent => return synsent::rcv_synsent(cx, seg, &o, skb),
        _ => {}
    }
    if !seg.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::SYN) {
        drop_seg(cx, skb, DropReason::TcpFlags);
        return Verdict::Ok;
    }
    if let Err(reason) = validate_incoming(cx, &seg, &o, false) {
        drop_seg(cx, skb, reason);
        return Verdict::Ok;
    }
    sock_ops::parse_hdr_opt(cx, seg.option_bytes(&skb), o.saw_unknown);
    match ack::ack(cx, &seg, flag::SLOWPATH | flag::UPDATE_TS_RECENT | flag::NO_CHALLENGE_ACK) {
        AckResult::New => {}
        bad if cx.state() == State::SynRecv => {
            let reason = if let AckResult::Bad(r) = bad { r } else { DropReason::TcpOldAck };
            drop_seg(cx, skb, reason);
            return Verdict::Reset(reason);
        }
        // An old acknowledgement is harmless while closing.
        AckResult::Old => {}
        AckResult::Bad(reason) => {
            send_challenge_ack(cx);
            drop_seg(cx, skb, reason);
            return Verdict::Ok;
        }
    }
    accept_cwr(cx, &seg);

    match cx.state() {
        State::SynRecv => {
            if let Some(v) = established_from_syn_recv(cx, &seg, &skb) {
                return v;
            }
        }
        State::FinWait1 => {
            if let Some(v) = fin_acked(cx, &seg) {
                return v;
            }
        }
        State::Closing if cx.tp.snd_una == cx.tp.write_seq => {
            timewait::time_wait(cx, State::TimeWait, Duration::ZERO);
            return Verdict::Ok;
        }
        State::LastAck if cx.tp.snd_una == cx.tp.write_seq => {
            close::done(cx);
            return Verdict::Ok;
        }
        _ => {}
    }

    urg(cx, &seg, &skb);
    let state = cx.state();
    let after_fin = state.is_one_of(&[State::CloseWait, State::Closing, State::LastAck]);
    if after_fin && !seg.seq.before(cx.tp.rcv_nxt) {
        // Beyond the peer's FIN there is no data.
        drop(skb);
    } else {
        if after_fin || state.is_one_of(&[State::FinWait1, State::FinWait2]) {
            // Nobody will read it: the peer must learn (RFC 1122 §4.2.2.13).
            let new_data = seg.end_seq != seg.seq && (seg.end_seq - seg.fin()).after(cx.tp.rcv_nxt);
            if cx.sock.shutdown.load(Ordering::Relaxed) & RCV_SHUTDOWN != 0 && new_data {
                cx.stack.mib.inc(Mib::TcpExtTCPAbortOnData);
                reset(cx);
                drop_seg(cx, skb, DropReason::TcpAbortOnData);
                return Verdict::Reset(DropReason::TcpAbortOnData);
            }
        }
        if after_fin || state.is_one_of(&[State::FinWait1, State::FinWait2, State::Established]) {
            data_queue(cx, &seg, skb);
        } else {
            drop(skb);
        }
    }
    // The data may have moved the connection to TIME-WAIT.
    if cx.state() != State::Close {
        data_snd_check(cx);
        ack_snd_check(cx);
    }
    Verdict::Ok
}

/// The handshake's last acknowledgement on the passive side, or of a simultaneous open.
fn established_from_syn_recv(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) -> Option<Verdict> {
    cx.tp.delivered = cx.tp.delivered.wrapping_add(1);
    if cx.tp.srtt_us == 0 {
        rtt::synack_rtt_meas(cx, None);
    }
    if cx.tp.rx_opt.tstamp_ok {
        cx.tp.advmss = cx.tp.advmss.saturating_sub(TS_LEN);
    }
    undo::try_undo_spurious_syn(cx);
    cx.tp.retrans_stamp = Instant::ZERO;
    init_transfer(cx, Opened::Passively, seg.option_bytes(skb));
    cx.tp.copied_seq = cx.tp.rcv_nxt;
    super::set_state(cx, State::Established);
    if !cx.tp.not_accepted {
        cx.sock.wait.wake(Events::OUT);
    }
    cx.tp.snd_una = seg.ack_seq;
    cx.tp.snd_wnd = (seg.window as u32) << cx.tp.rx_opt.snd_wscale.min(14);
    cx.tp.snd_wl1 = seg.seq;
    if !cong::has_cong_control(cx) {
        ack::update_pacing_rate(cx);
    }
    // Idle time counts from now.
    cx.tp.lsndtime_ms = cx.now.as_millis() as u32;
    rcvbuf::initialize_rcv_mss(cx);
    fast_path_on(cx);
    if cx.sock.shutdown.load(Ordering::Relaxed) & SEND_SHUTDOWN != 0 {
        // The program is done sending already: FIN (tcp_shutdown).
        super::set_state(cx, State::FinWait1);
        control::send_fin(cx);
    }
    None
}

/// In FIN-WAIT-1: moves on if our FIN is acknowledged. Some: the segment ends here.
fn fin_acked(cx: &mut Cx<'_>, seg: &Seg) -> Option<Verdict> {
    if cx.tp.snd_una != cx.tp.write_seq {
        return None;
    }
    super::set_state(cx, State::FinWait2);
    cx.sock.shutdown.fetch_or(SEND_SHUTDOWN, Ordering::Relaxed);
    if !cx.sk.flag(sflag::DEAD) {
        // A lingering close waits for this.
        cx.sock.wait.wake(Events::IN | Events::OUT);
        return None;
    }
    let has_data = seg.end_seq != seg.seq && (seg.end_seq - seg.fin()).after(cx.tp.rcv_nxt);
    if cx.tp.linger2_ms < 0 || has_data {
        let reason = reassembly::abort_on_data(cx);
        return Some(Verdict::Reset(reason));
    }
    let tmo = close::fin_time(cx);
    if tmo > TIMEWAIT_LEN {
        timer::reset_keepalive_timer(cx, tmo - TIMEWAIT_LEN);
    } else if seg.flags.contains(TcpFlags::FIN) {
        // Its FIN is still to be processed, by the full sock.
        timer::reset_keepalive_timer(cx, tmo);
    } else {
        timewait::time_wait(cx, State::FinWait2, tmo);
        return Some(Verdict::Ok);
    }
    None
}

/// Data may flow: window, buffers, congestion control; hooks hear of it, with the options of the segment that says so
/// (tcp_init_transfer).
pub(super) fn init_transfer(cx: &mut Cx<'_>, how: Opened, options: &[u8]) {
    ack::init_metrics(cx);
    ack::set_initial_cwnd(cx);
    sock_ops::established(cx, how, options);
    if cx.tp.ca.algo.is_none() {
        cong::init_congestion_control(cx);
    }
    rcvbuf::init_buffer_space(cx);
}

/// The active side's handshake is complete (tcp_finish_connect).
pub(super) fn finish_connect(cx: &mut Cx<'_>, options: &[u8]) {
    super::set_state(cx, State::Established);
    let now = cx.now.as_millis() as u32;
    cx.tp.ack.lrcvtime_ms = now;
    init_transfer(cx, Opened::Actively, options);
    cx.tp.lsndtime_ms = now;
    if cx.sk.flag(sflag::KEEPOPEN) {
        let when = timer::keepalive_time_when(cx);
        timer::reset_keepalive_timer(cx, when);
    }
    if cx.tp.rx_opt.snd_wscale == 0 {
        fast_path_on(cx);
    } else {
        cx.tp.pred_flags = 0;
    }
}

/// Makes the send side fit what the handshake agreed: used by both ends of it.
pub(super) fn set_header_len(cx: &mut Cx<'_>) {
    cx.tp.tcp_header_len = if cx.tp.rx_opt.tstamp_ok { HEADER_WITH_TS } else { 20 };
}

/// Bytes that timestamps take from each segment of ours.
pub(super) fn take_ts_from_advmss(cx: &mut Cx<'_>) {
    cx.tp.advmss = cx.tp.advmss.saturating_sub(TS_LEN);
}

/// After the handshake's options: the MSS we send by.
pub(super) fn sync_mss(cx: &mut Cx<'_>) {
    mtu::sync_mss(cx, cx.tp.pmtu_cookie);
}

/// Quick acknowledgements of a whole window (for the end of a handshake).
pub(super) fn quickack_max(cx: &mut Cx<'_>) {
    enter_quickack_mode(cx, MAX_QUICKACKS);
}

//! Input: every segment of a connection, in the order of RFC 9293 §3.10.7: sequence, RST, SYN, ACK, URG, text, FIN.
//! Most segments take one of the short ways before that. Above: `proto`, which `rcv` leads to when it has found the
//! sock. Below: `ack`, `reassembly`, `challenge`, `urgent`, `synsent`. RFC 7323 §5 (PAWS), RFC 5961. Linux:
//! tcp_rcv_established, tcp_rcv_state_process.
//!
//! | file | what |
//! |---|---|
//! | `predict` | header prediction, the fast path |
//! | `validate` | PAWS, sequence, RST, SYN: the checks before a segment changes anything |
//! | `third` | a short way: the third segment of a handshake, with which a listener's request becomes a child |
//! | `closing` | a short way: a FIN without data, and the acknowledgement of one |

mod closing;
mod predict;
mod third;
mod validate;

pub(super) use closing::rcv_last;
pub use predict::{fast_path_check, fast_path_on};
use predict::{predicted, rcv_predicted};
pub(super) use third::rcv_third;
pub(super) use validate::paws_accepts;
use validate::validate_incoming;
pub use validate::{paws_check, replace_ts_recent, store_ts_recent};

use super::ack::{self, AckResult, flag};
use super::challenge::{reset, send_challenge_ack};
use super::delack::ack_snd_check;
use super::reassembly::{self, data_queue};
use super::sock_ops::{self, Opened};
use super::tcb::{Cx, TcpSock};
use super::timewait::TIMEWAIT_LEN;
use super::urgent::urg;
use super::{
    close, cong, control, ecn, fastopen, metrics, mtu, mtu_probe, output, rcv, rcvbuf, rtt, sack, synsent, tfb, timer,
    timewait, undo,
};
use crate::base::env::{Duration, Instant};
use crate::base::ways::Way;
use crate::counters::{DropReason, Mib};
use crate::sock::skb::{CB_STAMPS, Known, Skb};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, flag as sflag};
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::{AccEcn, SackBlocks, TcpOptions, parse_timestamp_only};
use std::sync::atomic::Ordering;

/// Header bytes of a segment with nothing but aligned timestamps.
const HEADER_WITH_TS: u16 = 32;
/// Bytes of aligned timestamps.
const TS_LEN: u16 = 12;
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
    pub window: RawWindow,
    /// Bytes of TCP header.
    pub header_len: usize,
    /// Word that header prediction compares.
    pub flag_word: u32,
    /// TOS or traffic class of the IP header.
    pub dsfield: u8,
    /// TTL or hop limit of the IP header.
    pub ttl: u8,
    /// Flow label of the IPv6 header.
    pub flow_label: u32,
    /// Segments joined in this packet.
    pub rx_segs: u16,
    /// The peer's SACK blocks.
    pub sack: SackBlocks,
    /// Its counters of accurate ECN.
    pub(super) accecn: Option<AccEcn>,
}

impl Seg {
    /// From the notes that `rcv` made on a received segment, with its options; the TCP header is in place.
    // Else the two would be copied.
    #[inline(always)]
    pub fn of(skb: &Skb) -> (Seg, TcpOptions) {
        if Way::Read.is_open()
            && let Some((seg, timestamps)) = Seg::plain(skb)
        {
            Way::Read.taken();
            return (seg, TcpOptions { timestamps, ..TcpOptions::default() });
        }
        let bytes = rcv::option_bytes(skb);
        let o = TcpOptions::parse(bytes);
        (Seg { sack: o.sack, accecn: o.accecn(bytes), ..Seg::fixed(skb) }, o)
    }

    /// The same of a segment with no options but timestamps, which are returned. None: it has others.
    #[inline(always)]
    fn plain(skb: &Skb) -> Option<(Seg, Option<(u32, u32)>)> {
        let timestamps = match skb.tcp.known {
            Known::Stamps => Some(((skb.cb[CB_STAMPS] >> 32) as u32, skb.cb[CB_STAMPS] as u32)),
            Known::Bare => None,
            Known::Syn => return None,
            Known::Nothing => Seg::read_plain(skb)?,
        };
        debug_assert_eq!(Some(timestamps), Seg::read_plain(skb), "as its sender said");
        Some((Seg::fixed(skb), timestamps))
    }

    #[inline(always)]
    fn read_plain(skb: &Skb) -> Option<Option<(u32, u32)>> {
        let bytes = rcv::option_bytes(skb);
        if bytes.is_empty() { Some(None) } else { parse_timestamp_only(bytes).map(Some) }
    }

    /// What is not in options.
    #[inline(always)]
    fn fixed(skb: &Skb) -> Seg {
        let cb = &skb.tcp;
        Seg {
            seq: cb.seq,
            end_seq: cb.end_seq,
            ack_seq: cb.ack_seq,
            flags: cb.all_flags(),
            window: cb.window(),
            header_len: cb.header_len(),
            flag_word: cb.flag_word,
            dsfield: cb.ip_dsfield,
            ttl: cb.ttl,
            flow_label: cb.flow_label,
            rx_segs: skb.rx_segs,
            sack: SackBlocks::new(),
            accecn: None,
        }
    }

    /// The offered window in bytes: that of a SYN is never scaled (RFC 7323 §2.2).
    #[inline]
    pub fn scaled_window(&self, tp: &TcpSock) -> u32 {
        let syn = self.flags.contains(TcpFlags::SYN);
        self.window.scale(if syn { WindowShift::NONE } else { tp.rx_opt.snd_wscale })
    }

    fn fin(&self) -> u32 {
        self.flags.contains(TcpFlags::FIN) as u32
    }
}

#[track_caller]
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
    r.saw_tstamp = false;
    if let (Some((val, ecr)), true) = (o.timestamps, r.tstamp_ok) {
        r.saw_tstamp = true;
        r.rcv_tsval = val;
        r.rcv_tsecr = if ecr != 0 { ecr.wrapping_sub(tp.tsoffset) } else { 0 };
    }
}

/// Options of a SYN or SYN-ACK that answers ours: what both sides offer is agreed (tcp_parse_options with estab = 0).
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
            r.snd_wscale = WindowShift::clamp(shift);
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

/// After a segment: sends what the window now allows, wakes writers (tcp_data_snd_check).
#[inline(always)]
pub fn data_snd_check(cx: &mut Cx<'_>) {
    output::push_pending(cx);
    rcvbuf::check_space(cx);
}

// ---- The two ways in.

/// A segment for an established connection (tcp_rcv_established). Pure acknowledgements and in-order data with the
/// predicted header take the fast path, all else the slow path.
pub fn rcv_established(cx: &mut Cx<'_>, skb: Skb) {
    cx.tp.rx_opt.saw_tstamp = false;
    // Most headers have no options but the timestamps, which need no general parser.
    if Way::Read.is_open()
        && cx.tp.tfb_slots == 0
        && let Some((seg, timestamps)) = Seg::plain(&skb)
    {
        Way::Read.taken();
        if let Some(store_ts) = predicted(cx, &seg, timestamps, false) {
            return rcv_predicted(cx, &seg, skb, store_ts);
        }
        return match closing::rcv_fin(cx, &seg, timestamps, skb) {
            Ok(()) => {}
            Err(skb) => validated(cx, seg, &TcpOptions { timestamps, ..TcpOptions::default() }, skb),
        };
    }
    rcv_any(cx, skb);
}

/// The same, whatever options it has.
#[inline(never)]
fn rcv_any(cx: &mut Cx<'_>, skb: Skb) {
    let (seg, o) = Seg::of(&skb);
    cx.tp.rx_opt.saw_tstamp = false;
    if tfb::has(cx.tp, tfb::slot::INPUT) && tfb::input(cx, &skb) {
        return drop_seg(cx, skb, DropReason::PluginRefused);
    }
    // The length of the header leaves room for timestamps only.
    let timestamps = o.timestamps.filter(|_| o.sack.is_empty());
    if let Some(store_ts) = predicted(cx, &seg, timestamps, o.saw_unknown) {
        return rcv_predicted(cx, &seg, skb, store_ts);
    }
    validated(cx, seg, &o, skb);
}

/// The slow path of a segment that header prediction did not take.
#[inline(never)]
fn validated(cx: &mut Cx<'_>, seg: Seg, o: &TcpOptions, skb: Skb) {
    if !seg.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::SYN) {
        return drop_seg(cx, skb, DropReason::TcpFlags);
    }
    if let Err(reason) = validate_incoming(cx, &seg, o, true) {
        return drop_seg(cx, skb, reason);
    }
    sock_ops::parse_hdr_opt(cx, rcv::option_bytes(&skb), o.saw_unknown);
    long_way(cx, seg, skb);
}

/// From the fifth step on: ACK, URG, text (step5 of tcp_rcv_established).
fn long_way(cx: &mut Cx<'_>, seg: Seg, skb: Skb) {
    ecn::received(cx, &seg, skb.len().saturating_sub(seg.header_len) as u32);
    if let AckResult::Bad(reason) = ack::ack(cx, &seg, flag::SLOWPATH | flag::UPDATE_TS_RECENT) {
        return drop_seg(cx, skb, reason);
    }
    rcvbuf::rcv_rtt_measure_ts(cx, &seg);
    ecn::accept_cwr(cx, &seg);
    urg(cx, &seg, &skb);
    data_queue(cx, &seg, skb);
    data_snd_check(cx);
    ack_snd_check(cx);
}

/// A segment in any other state but LISTEN (tcp_rcv_state_process). `Reset`: the caller answers with a reset; the
/// segment is gone either way.
pub fn rcv_state_process(cx: &mut Cx<'_>, skb: Skb) -> Verdict {
    let (seg, o) = Seg::of(&skb);
    cx.tp.rx_opt.saw_tstamp = false;
    match cx.state() {
        State::Close | State::Listen | State::TimeWait | State::NewSynRecv => {
            drop_seg(cx, skb, DropReason::TcpClose);
            return Verdict::Ok;
        }
        State::SynSent => return synsent::rcv_synsent(cx, seg, &o, skb),
        _ => {}
    }
    if tfb::has(cx.tp, tfb::slot::INPUT) && tfb::input(cx, &skb) {
        drop_seg(cx, skb, DropReason::PluginRefused);
        return Verdict::Ok;
    }
    if cx.tp.has_fastopen_rsk() && !fastopen::server::check_req(cx, &seg, &o, &skb) {
        return Verdict::Ok;
    }
    if !seg.flags.intersects(TcpFlags::ACK | TcpFlags::RST | TcpFlags::SYN) {
        drop_seg(cx, skb, DropReason::TcpFlags);
        return Verdict::Ok;
    }
    if let Err(reason) = validate_incoming(cx, &seg, &o, false) {
        drop_seg(cx, skb, reason);
        return Verdict::Ok;
    }
    sock_ops::parse_hdr_opt(cx, rcv::option_bytes(&skb), o.saw_unknown);
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
    ecn::accept_cwr(cx, &seg);

    let mut lingers = None;
    match cx.state() {
        State::SynRecv => established_from_syn_recv(cx, &seg, &skb),
        State::FinWait1 => match fin_acked(cx, &seg) {
            FinAcked::Over(verdict) => return verdict,
            FinAcked::Lingers(time) => lingers = Some(time),
            FinAcked::No => {}
        },
        State::Closing if cx.tp.snd_una == cx.tp.write_seq => {
            timewait::time_wait(cx, State::TimeWait, Duration::ZERO);
            return Verdict::Ok;
        }
        State::LastAck if cx.tp.snd_una == cx.tp.write_seq => {
            metrics::update(cx);
            close::done(cx);
            return Verdict::Ok;
        }
        _ => {}
    }

    finish(cx, &seg, skb, lingers)
}

/// From the sixth step on: URG, text, and what is to be sent. `lingers`: how long the orphan stays in FIN-WAIT-2.
fn finish(cx: &mut Cx<'_>, seg: &Seg, skb: Skb, lingers: Option<Duration>) -> Verdict {
    urg(cx, seg, &skb);
    if let Some(verdict) = text(cx, seg, skb) {
        return verdict;
    }
    if let Some(time) = lingers
        && cx.state() == State::FinWait2
    {
        // The FIN of this segment was not the next in order.
        timer::reset_keepalive_timer(cx, time);
    }
    // A FIN may have moved the connection to TIME-WAIT.
    if cx.state() != State::Close {
        data_snd_check(cx);
        ack_snd_check(cx);
    }
    Verdict::Ok
}

/// The text of a segment while the connection is closing (RFC 9293 §3.10.7.4, seventh). Some: it cannot be delivered,
/// and the connection is reset.
#[inline]
fn text(cx: &mut Cx<'_>, seg: &Seg, skb: Skb) -> Option<Verdict> {
    let state = cx.state();
    let after_fin = state.is_one_of(&[State::CloseWait, State::Closing, State::LastAck]);
    if after_fin && !seg.seq.before(cx.tp.rcv_nxt) {
        // Beyond the peer's FIN there is no data.
        drop(skb);
    } else {
        if after_fin || state.is_one_of(&[State::FinWait1, State::FinWait2]) {
            // Nobody will read the data: the peer is told by a reset (RFC 1122 §4.2.2.13).
            let new_data = seg.end_seq != seg.seq && (seg.end_seq - seg.fin()).after(cx.tp.rcv_nxt);
            if cx.sock.shutdown.load(Ordering::Relaxed) & RCV_SHUTDOWN != 0 && new_data {
                cx.stack.mib.inc(Mib::TcpExtTCPAbortOnData);
                reset(cx);
                drop_seg(cx, skb, DropReason::TcpAbortOnData);
                return Some(Verdict::Reset(DropReason::TcpAbortOnData));
            }
        }
        if after_fin || state.is_one_of(&[State::FinWait1, State::FinWait2, State::Established]) {
            data_queue(cx, seg, skb);
        } else {
            drop(skb);
        }
    }
    None
}

/// The handshake's last acknowledgement on the passive side, or of a simultaneous open.
fn established_from_syn_recv(cx: &mut Cx<'_>, seg: &Seg, skb: &Skb) {
    let fastopen = cx.tp.has_fastopen_rsk();
    cx.tp.delivered = cx.tp.delivered.wrapping_add(1);
    if cx.tp.srtt_us == 0 {
        let sent = fastopen::server::synack_sent(cx);
        rtt::synack_rtt_meas(cx, sent);
    }
    if cx.tp.rx_opt.tstamp_ok {
        cx.tp.advmss = cx.tp.advmss.saturating_sub(TS_LEN);
    }
    if fastopen {
        fastopen::server::established(cx);
    } else {
        undo::try_undo_spurious_syn(cx);
        cx.tp.retrans_stamp = Instant::ZERO;
        init_transfer(cx, Opened::Passively, rcv::option_bytes(skb));
        cx.tp.copied_seq = cx.tp.rcv_nxt;
    }
    super::set_state(cx, State::Established);
    if !cx.tp.not_accepted {
        cx.sock.wait.wake(Events::OUT);
    }
    cx.tp.snd_una = seg.ack_seq;
    cx.tp.snd_wnd = seg.window.scale(cx.tp.rx_opt.snd_wscale);
    cx.tp.snd_wl1 = seg.seq;
    if !cong::has_cong_control(cx) {
        ack::update_pacing_rate(cx);
    }
    // Idle time counts from now.
    cx.tp.lsndtime_ms = cx.now.as_millis() as u32;
    rcvbuf::initialize_rcv_mss(cx);
    ecn::third_ack(cx, seg.flags, seg.seq == seg.end_seq && seg.sack.is_empty());
    fast_path_on(cx);
    if cx.sock.shutdown.load(Ordering::Relaxed) & SEND_SHUTDOWN != 0 {
        // The program has shut down sending already: sends the FIN (tcp_shutdown).
        super::set_state(cx, State::FinWait1);
        control::send_fin(cx);
    }
}

/// What the acknowledgement of a segment in FIN-WAIT-1 has come to.
enum FinAcked {
    /// Nothing yet, or a program still has the sock.
    No,
    /// The orphan is in FIN-WAIT-2; if the rest of the segment leaves it there, it stays so long.
    Lingers(Duration),
    /// The segment is not processed further.
    Over(Verdict),
}

/// In FIN-WAIT-1: moves to FIN-WAIT-2 if our FIN is acknowledged.
fn fin_acked(cx: &mut Cx<'_>, seg: &Seg) -> FinAcked {
    if cx.tp.has_fastopen_rsk() {
        // The program closed the connection before the handshake was over.
        fastopen::server::established(cx);
    }
    if cx.tp.snd_una != cx.tp.write_seq {
        return FinAcked::No;
    }
    super::set_state(cx, State::FinWait2);
    cx.sock.shutdown.fetch_or(SEND_SHUTDOWN, Ordering::Relaxed);
    if !cx.sk.flag(sflag::DEAD) {
        // A lingering close waits for this.
        cx.sock.wait.wake(Events::IN | Events::OUT);
        return FinAcked::No;
    }
    let has_data = seg.end_seq != seg.seq && (seg.end_seq - seg.fin()).after(cx.tp.rcv_nxt);
    if cx.tp.options().linger2_ms < 0 || has_data {
        let reason = reassembly::abort_on_data(cx);
        return FinAcked::Over(Verdict::Reset(reason));
    }
    let tmo = close::fin_time(cx);
    if tmo > TIMEWAIT_LEN {
        FinAcked::Lingers(tmo - TIMEWAIT_LEN)
    } else if seg.flags.contains(TcpFlags::FIN) {
        // The FIN of this segment is still to be processed, which needs the full sock.
        FinAcked::Lingers(tmo)
    } else {
        timewait::time_wait(cx, State::FinWait2, tmo);
        FinAcked::Over(Verdict::Ok)
    }
}

/// The connection is established: sets the window, buffers and congestion control; tells hooks, with the options of the
/// segment that completed the handshake (tcp_init_transfer).
pub(super) fn init_transfer(cx: &mut Cx<'_>, how: Opened, options: &[u8]) {
    mtu_probe::init(cx);
    metrics::init(cx);
    ack::set_initial_cwnd(cx);
    sock_ops::established(cx, how, options);
    if cx.tp.ca.algo.is_none() {
        cong::init_congestion_control(cx);
    }
    tfb::start(cx);
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
    if cx.tp.rx_opt.snd_wscale == WindowShift::NONE {
        fast_path_on(cx);
    } else {
        cx.tp.pred_flags = 0;
    }
}

/// Sets the header length by the options that the handshake agreed on.
pub(super) fn set_header_len(cx: &mut Cx<'_>) {
    cx.tp.tcp_header_len = if cx.tp.rx_opt.tstamp_ok { HEADER_WITH_TS } else { 20 };
}

/// Bytes that timestamps take from each segment of ours.
pub(super) fn take_ts_from_advmss(cx: &mut Cx<'_>) {
    cx.tp.advmss = cx.tp.advmss.saturating_sub(TS_LEN);
}

/// After the handshake's options: the MSS we send by.
pub(super) fn sync_mss(cx: &mut Cx<'_>) {
    mtu_probe::init(cx);
    mtu::sync_mss(cx, cx.tp.pmtu_cookie);
}

#[cfg(test)]
mod tests;

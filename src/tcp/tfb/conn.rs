//! An alternative on a connection: it is chosen, begins, is asked in the places that are its own, and ends. Above:
//! `sockopt`, `input`, `ack`, `xmit`, `retransmit`, `timer`, `close`. Below: `calls`, which it makes meanwhile.
//!
//! While an operation runs, what ours does in the calls that it makes is ours: it is not asked again from within, and
//! the connection cannot change hands.

use super::super::ack::{AckSt, flag, num_dupack};
use super::super::input::Seg;
use super::super::tcb::{CaState, Cx, TcpSock, XmitTimer};
use super::super::{cong, deferred, output as out, prr, recovery, retransmit, timer as timers};
use super::{Acked, DEFAULT, Fired, FunctionBlock, Functions, Go, TIMERS, slot};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::skb::{Skb, sacked};
use crate::sock::state::State;
use crate::stack::TimerSlot;
use crate::wire::seq::SeqNum;
use std::sync::Arc;

/// Which operation of an alternative runs: not every call may be made in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    /// None.
    No,
    /// One that looks, and may mark.
    Marks,
    /// `output`, with its setting of Nagle's algorithm.
    Output(u8),
    /// `timer`: the first packet that it sends again is a probe, for which the window does not count.
    Timer { probed: bool },
}

/// A connection's alternative (FreeBSD: t_fb, t_fb_ptr): chosen, and begun once data can flow.
pub(in crate::tcp) struct Tfb {
    block: Arc<dyn FunctionBlock>,
    /// None before it has begun, and while an operation runs.
    functions: Option<Box<dyn Functions>>,
    pub(super) running: Running,
    /// One timer for all of its own: armed for the earliest.
    pub(super) timer: TimerSlot,
    pub(super) at: [Option<Instant>; TIMERS],
    /// Segments that `calls::send_new` may send.
    pub(super) quota: u32,
}

impl Tfb {
    fn chosen(block: Arc<dyn FunctionBlock>) -> Box<Tfb> {
        Box::new(Tfb {
            block,
            functions: None,
            running: Running::No,
            timer: TimerSlot::default(),
            at: [None; TIMERS],
            quota: 0,
        })
    }
}

impl std::fmt::Debug for Tfb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.block.name())
    }
}

#[inline]
fn of(tp: &TcpSock) -> Option<&Tfb> {
    tp.cold.as_ref()?.tfb.as_deref()
}

pub(super) fn of_mut(tp: &mut TcpSock) -> Option<&mut Tfb> {
    tp.cold.as_mut()?.tfb.as_deref_mut()
}

fn put(tp: &mut TcpSock, tfb: Option<Box<Tfb>>) -> Option<Box<Tfb>> {
    tp.tfb_slots = tfb.as_ref().and_then(|t| t.functions.as_ref()).map_or(0, |f| f.slots());
    match (&mut tp.cold, tfb) {
        (None, None) => None,
        (cold, tfb) => std::mem::replace(&mut cold.get_or_insert_default().tfb, tfb),
    }
}

/// Name of the TCP that a connection has, or will have.
pub(in crate::tcp) fn name(tp: &TcpSock) -> &str {
    of(tp).map_or(DEFAULT, |t| t.block.name())
}

/// Whether a connection has an alternative with one of these operations, whoever runs now.
#[inline]
pub(in crate::tcp) fn has(tp: &TcpSock, slots: u8) -> bool {
    tp.tfb_slots & slots != 0
}

/// Runs an operation; None: there is no alternative with it, or one of its operations runs already.
fn with<R>(
    cx: &mut Cx<'_>,
    slots: u8,
    running: Running,
    f: impl FnOnce(&mut dyn Functions, &mut Cx<'_>) -> R,
) -> Option<R> {
    if slots != 0 && !has(cx.tp, slots) {
        return None;
    }
    let t = of_mut(cx.tp)?;
    let mut functions = t.functions.take()?;
    t.running = running;
    let r = f(&mut *functions, cx);
    // No call of an operation takes the alternative off the connection.
    if let Some(t) = of_mut(cx.tp) {
        t.running = Running::No;
        let slots = functions.slots();
        t.functions = Some(functions);
        cx.tp.tfb_slots = slots;
    }
    Some(r)
}

// ---- Choosing, beginning, ending.

/// Whether data can flow, so that a TCP serves the connection: its congestion control has begun.
fn is_live(cx: &Cx<'_>) -> bool {
    cx.tp.ca.algo.is_some() && !matches!(cx.state(), State::Close | State::Listen)
}

/// TCP_STACK: chooses the connection's TCP, and of a live connection changes it now. ENOENT: none of that name; EBUSY:
/// one of the two does not agree; and what beginning says. FreeBSD: TCP_FUNCTION_BLK.
pub(in crate::tcp) fn set(cx: &mut Cx<'_>, to: &str) -> Result<()> {
    let new = if to == DEFAULT { None } else { Some(cx.tp.net.tfb.find(to)?) };
    // Of the same name and another one: what had the name was unregistered, which is not possible while it is chosen.
    if name(cx.tp) == to {
        return Ok(());
    }
    if of(cx.tp).is_some_and(|t| t.running != Running::No) {
        return Err(Error::Busy);
    }
    if !is_live(cx) {
        let old = put(cx.tp, new.map(Tfb::chosen));
        end(cx, old);
        return Ok(());
    }
    let lost = cx.tp.lost;
    let changed = change(cx, new);
    // What was marked by whichever of the two was asked.
    marked(cx, lost);
    if changed.is_ok() {
        // What the other one held back.
        out::push_pending(cx);
    }
    changed
}

/// The live connection gets `new`, or is ours, if both sides agree.
fn change(cx: &mut Cx<'_>, new: Option<Arc<dyn FunctionBlock>>) -> Result<()> {
    if let Some(Err(_)) = with(cx, 0, Running::Marks, |f, cx| f.handoff_ok(cx)) {
        return Err(Error::Busy);
    }
    if let Some(new) = &new {
        new.handoff_ok(cx).map_err(|_| Error::Busy)?;
    }
    let old = put(cx.tp, None);
    if let Some(new) = new
        && let Err(e) = begin(cx, new)
    {
        put(cx.tp, old);
        return Err(e);
    }
    end(cx, old);
    take_over(cx);
    Ok(())
}

/// Puts an alternative on the connection; after an error there is none.
fn begin(cx: &mut Cx<'_>, block: Arc<dyn FunctionBlock>) -> Result<()> {
    let mut t = Tfb::chosen(block.clone());
    t.running = Running::Marks;
    put(cx.tp, Some(t));
    let r = block.start(cx);
    let Some(t) = of_mut(cx.tp) else { return Err(Error::Io) };
    t.running = Running::No;
    match r {
        Ok(functions) => {
            let slots = functions.slots();
            t.functions = Some(functions);
            cx.tp.tfb_slots = slots;
            Ok(())
        }
        Err(e) => {
            let failed = put(cx.tp, None);
            end(cx, failed);
            Err(e)
        }
    }
}

fn end(cx: &mut Cx<'_>, old: Option<Box<Tfb>>) {
    if let Some(mut t) = old {
        cx.stack.timers.cancel(&mut t.timer);
        if let Some(mut functions) = t.functions {
            functions.release(cx);
        }
    }
}

/// The shared timer may be armed for what only one of the two TCPs has: reordering, a loss probe.
fn take_over(cx: &mut Cx<'_>) {
    cx.tp.tlp_active = false;
    // RACK looks at all that it has not judged.
    cx.tp.rack_advanced = true;
    let armed = matches!(cx.tp.pending, XmitTimer::Retrans | XmitTimer::Probe0);
    if cx.tp.packets_out > 0 && !armed {
        timers::rearm_rto(cx);
    }
}

/// Data can flow from now on: the chosen alternative begins. If it cannot, the connection is ours (FreeBSD:
/// tcp_newtcpcb, syncache_socket).
pub(in crate::tcp) fn start(cx: &mut Cx<'_>) {
    let Some(block) = of(cx.tp).filter(|t| t.functions.is_none()).map(|t| t.block.clone()) else { return };
    // The connection has no alternative then, which TCP_STACK shows.
    let _ = begin(cx, block);
}

/// The connection ends; the choice stays.
pub(in crate::tcp) fn cleanup(cx: &mut Cx<'_>) {
    if let Some(t) = put(cx.tp, None) {
        let block = t.block.clone();
        end(cx, Some(t));
        put(cx.tp, Some(Tfb::chosen(block)));
    }
}

/// A new sock has the stack's default (net.ipv4.tcp_stack).
#[inline]
pub(in crate::tcp) fn assign(tp: &mut TcpSock) {
    if let Some(block) = tp.net.tfb.default_of_new() {
        put(tp, Some(Tfb::chosen(block)));
    }
}

/// A listener's child, and a sock that begins anew, have its choice.
pub(in crate::tcp) fn copy(to: &mut TcpSock, from: &TcpSock) {
    put(to, of(from).map(|t| Tfb::chosen(t.block.clone())));
}

/// Its timers are off for good.
pub(in crate::tcp) fn cancel_timers(cx: &mut Cx<'_>) {
    if let Some(t) = cx.tp.cold.as_mut().and_then(|c| c.tfb.as_deref_mut()) {
        t.at = [None; TIMERS];
        cx.stack.timers.cancel(&mut t.timer);
    }
}

// ---- Where ours asks.

/// A segment has arrived. True: the alternative has consumed it.
#[cold]
pub(in crate::tcp) fn input(cx: &mut Cx<'_>, skb: &Skb) -> bool {
    let (seg, options) = Seg::of(skb);
    let lost = cx.tp.lost;
    let go = with(cx, slot::INPUT, Running::Marks, |f, cx| f.input(cx, &seg, options.timestamps));
    marked(cx, lost);
    go == Some(Go::Done)
}

/// An acknowledgement has left its marks in the retransmit queue: the alternative says what is lost. `flags`: bits of
/// [`flag`], so far; `delivered`: `tp.delivered` before it.
/// True: something is marked lost, by now or before.
#[cold]
pub(in crate::tcp) fn acked(
    cx: &mut Cx<'_>,
    seg: &Seg,
    prior_snd_una: SeqNum,
    delivered: u32,
    st: &AckSt,
    flags: &mut u32,
) -> bool {
    let num_dupack = if seg.ack_seq.before(prior_snd_una) { 0 } else { num_dupack(seg, *flags) };
    let acked = Acked {
        prior_snd_una,
        delivered: cx.tp.delivered.wrapping_sub(delivered),
        sacked: st.sack_delivered,
        num_dupack,
        rtt_us: st.rate.rtt_us,
        ece: *flags & flag::ECE != 0,
        dsack: *flags & flag::DSACKING_ACK != 0,
        retrans_acked: *flags & flag::RETRANS_DATA_ACKED != 0,
    };
    let retrans = cx.tp.retrans_out;
    with(cx, slot::ACK, Running::Marks, |f, cx| f.ack(cx, &acked));
    if retrans > cx.tp.retrans_out {
        *flags |= flag::LOST_RETRANS;
    }
    cx.tp.lost_out > 0
}

/// Segments that `xmit::write_xmit` may send when the alternative has decided how much.
#[cold]
pub(in crate::tcp) fn quota(tp: &TcpSock) -> u32 {
    of(tp).map_or(0, |t| t.quota)
}

/// Something may be sent. Some: the alternative has done it; true: nothing is in flight and yet something waits, as
/// `xmit::write_xmit` says it. None: ours does it.
#[inline]
pub(in crate::tcp) fn output(cx: &mut Cx<'_>, nonagle: u8) -> Option<bool> {
    if has(cx.tp, slot::OUTPUT) { ask_output(cx, nonagle) } else { None }
}

/// An acknowledgement has been processed and ours has nothing to send for it: an alternative may have.
#[cold]
pub(in crate::tcp) fn idle_output(cx: &mut Cx<'_>) {
    // If new data waits, input asks.
    if cx.tp.write_queue.is_empty() && cx.tp.packets_out > 0 {
        ask_output(cx, cx.tp.nonagle);
    }
}

#[cold]
fn ask_output(cx: &mut Cx<'_>, nonagle: u8) -> Option<bool> {
    if cx.tp.repair {
        return None;
    }
    if with(cx, slot::OUTPUT, Running::Output(nonagle), |f, cx| f.output(cx))? == Go::Ours {
        return None;
    }
    Some(cx.tp.packets_out == 0 && !cx.tp.write_queue.is_empty())
}

/// The retransmission timeout has come, and is not the last. True: the alternative has dealt with it. Not asked where
/// the peer has reneged: then the whole scoreboard is void, and that is ours.
pub(in crate::tcp) fn retransmit_timer(cx: &mut Cx<'_>) -> bool {
    if !has(cx.tp, slot::TIMER)
        || cx.tp.rtx_queue.front().is_some_and(|head| head.tcp.sacked & sacked::SACKED_ACKED != 0)
    {
        return false;
    }
    let lost = cx.tp.lost;
    if with(cx, slot::TIMER, Running::Timer { probed: false }, |f, cx| f.timer(cx, Fired::Rto)) != Some(Go::Done) {
        return false;
    }
    recover(cx, lost);
    timers::update_rto_stats(cx);
    if cx.tp.retrans_stamp == Instant::ZERO {
        // It has sent nothing again: the time after which the connection ends counts from now on all the same.
        cx.tp.retrans_stamp = cx.now.max(Instant::from_nanos(1));
    }
    if cx.tp.packets_out > 0 && cx.tp.pending == XmitTimer::None {
        let when = timers::clamp_rto_to_user_timeout(cx);
        timers::reset_xmit_timer(cx, XmitTimer::Retrans, when, false);
    }
    true
}

/// The timer of its own timers has fired.
pub(in crate::tcp) fn timer(cx: &mut Cx<'_>) {
    cx.refresh_clock();
    let Some(t) = cx.tp.cold.as_mut().and_then(|c| c.tfb.as_deref_mut()) else { return };
    // It may have been armed anew since it fired, while somebody owned the sock.
    cx.stack.timers.cancel(&mut t.timer);
    for i in 0..TIMERS {
        let now = cx.now;
        let Some(due) = of_mut(cx.tp).and_then(|t| t.at[i].take_if(|at| *at <= now)) else { continue };
        debug_assert!(due <= now);
        let lost = cx.tp.lost;
        // `Ours` says nothing here: ours has no such timer.
        with(cx, 0, Running::Timer { probed: false }, |f, cx| f.timer(cx, Fired::Own(i)));
        marked(cx, lost);
    }
    arm(cx);
}

/// Arms the one timer for the earliest of an alternative's.
pub(super) fn arm(cx: &mut Cx<'_>) {
    let Some(t) = cx.tp.cold.as_mut().and_then(|c| c.tfb.as_deref_mut()) else { return };
    match t.at.iter().flatten().min() {
        Some(&at) => cx.stack.arm_sock(&mut t.timer, cx.sock, deferred::TFB_TIMER, at),
        None => {
            cx.stack.timers.cancel(&mut t.timer);
        }
    }
}

/// Something was marked lost, and not by an acknowledgement: recovery begins, as after RACK's timer, and what is lost
/// is sent again. `prior`: `tp.lost` before.
fn marked(cx: &mut Cx<'_>, prior: u32) {
    if recover(cx, prior) {
        retransmit::xmit_retransmit_queue(cx);
    }
}

/// The first half of it; true: there is something to send again.
fn recover(cx: &mut Cx<'_>, prior: u32) -> bool {
    let lost = cx.tp.lost.wrapping_sub(prior);
    if lost == 0 || cx.tp.lost_out == 0 || matches!(cx.state(), State::Close | State::Listen) {
        return false;
    }
    if !matches!(cx.tp.ca_state, CaState::Recovery | CaState::Loss) {
        recovery::enter_recovery(cx, false);
        if !cong::has_cong_control(cx) {
            prr::cwnd_reduction(cx, 1, lost, 0);
        }
    }
    true
}

// ---- Options of its own.

/// An option that ours does not have. ENOPROTOOPT: nor has an alternative.
pub(in crate::tcp) fn setsockopt(cx: &mut Cx<'_>, name: i32, value: &[u8]) -> Result<()> {
    let lost = cx.tp.lost;
    let r = with(cx, 0, Running::Marks, |f, cx| f.setsockopt(cx, name, value)).unwrap_or(Err(Error::NoProtoOpt));
    marked(cx, lost);
    r
}

/// The same: writes at most `value.len()` bytes, returns how many.
pub(in crate::tcp) fn getsockopt(cx: &mut Cx<'_>, name: i32, value: &mut [u8]) -> Result<usize> {
    let lost = cx.tp.lost;
    let r = with(cx, 0, Running::Marks, |f, cx| f.getsockopt(cx, name, value)).unwrap_or(Err(Error::NoProtoOpt));
    marked(cx, lost);
    r
}

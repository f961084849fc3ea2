//! Closing: close, shutdown, abort, orphans, and the end of a sock. Above: `proto`, `input`, `timer`. Below: `output`
//! (FIN, RST), `timewait`, `lookup`. RFC 9293 §3.10.4 to §3.10.5, RFC 1122 §4.2.2.13 (half-duplex close). Linux:
//! __tcp_close, tcp_shutdown, tcp_done, inet_csk_destroy_sock, tcp_abort, tcp_check_oom.

use super::cold::{Options, Rare};
use super::reassembly::purge_ooo;
use super::state::Event;
use super::tcb::{Cx, TIMEOUT_INIT_US, TcpSock};
use super::timewait::TIMEWAIT_LEN;
use super::{connect, control, fastopen, listener, output, set_state, sock_ops, tfb, timer, timewait, ulp};
use crate::base::env::{Duration, WaitLimit};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::ip::flowlabel;
use crate::sock::addr::unspecified;
use crate::sock::mem::{self, SOCK_MIN_SNDBUF};
use crate::sock::proto::SockRef;
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, SockGuard, flag, ip_flag};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::Ordering;

/// Whether giving a connection up in this state must tell the peer (tcp_need_reset).
pub(super) fn need_reset(s: State) -> bool {
    s.is_one_of(&[State::Established, State::CloseWait, State::FinWait1, State::FinWait2, State::SynRecv])
}

/// The state that closing our half leads to, and whether a FIN must be sent (tcp_close_state). RFC 9293 Figure 5.
fn close_state(cx: &mut Cx<'_>) -> bool {
    let old = cx.state();
    // Closed already: no transition.
    let next = old.next(Event::Close).unwrap_or(old);
    match next {
        // Named, most of it falls away.
        State::FinWait1 => set_state(cx, State::FinWait1),
        State::LastAck => set_state(cx, State::LastAck),
        next => set_state(cx, next),
    }
    next != old && next.is_one_of(&[State::FinWait1, State::LastAck])
}

/// close(2) of the last descriptor: sends a reset if data is unread (RFC 1122 §4.2.2.13) or SO_LINGER is zero;
/// otherwise a FIN, and the sock lives on without a program until the connection is closed. Waits as SO_LINGER says.
pub(crate) fn close(sk: SockRef<'_>) {
    let mut g = sk.lock();
    sk.sock.shutdown.store(RCV_SHUTDOWN | SEND_SHUTDOWN, Ordering::Relaxed);
    let linger = (g.common.flag(flag::LINGER) && sk.stack.lingers()).then_some(g.common.linger);
    let Some(mut cx) = Cx::new(&mut g) else { return };
    let wait = begin_close(&mut cx);
    if let Some(time) = linger.map(WaitLimit::get).filter(|t| wait && *t != Some(Duration::ZERO)) {
        linger_for(&mut g, time);
        match Cx::new(&mut g) {
            Some(again) => cx = again,
            None => return,
        }
    }
    orphan(&mut cx);
    if g.has_backlog() {
        let before = sk.sock.state();
        g.flush_backlog();
        if before != State::Close && sk.sock.state() == State::Close {
            // A segment of the backlog ended it, and that destroyed the sock.
            return;
        }
    }
    let Some(mut cx) = Cx::new(&mut g) else { return };
    settle_orphan(&mut cx);
}

/// Waits so long for the connection to close. None: for ever.
#[cold]
fn linger_for(g: &mut SockGuard<'_>, time: Option<Duration>) {
    let deadline = time.map(|t| g.now() + t);
    while g.sock.state().is_one_of(&[State::FinWait1, State::Closing, State::LastAck]) {
        // The timeout is over, or a signal arrived: the connection closes in the background.
        if g.sleep(Events::ALL, false, deadline).is_err() {
            break;
        }
    }
}

/// The first half of close; whether there is something to wait for.
fn begin_close(cx: &mut Cx<'_>) -> bool {
    if cx.state() == State::Listen {
        // It leaves the tables first, so that no segment finds a listener without queues.
        set_state(cx, State::Close);
        listener::stop(cx);
        return false;
    }
    let unread = purge_receive(cx);
    if cx.state() == State::Close {
        return false;
    }
    if cx.tp.repair {
        // The connection goes on elsewhere: its peer hears nothing. The sock is destroyed in any case.
        let _ = connect::disconnect(cx);
    } else if unread {
        cx.stack.mib.inc(Mib::TcpExtTCPAbortOnClose);
        set_state(cx, State::Close);
        control::send_active_reset(cx);
    } else if cx.sk.flag(flag::LINGER) && cx.sk.linger.get() == Some(Duration::ZERO) {
        // An error of the abort does not matter: the sock is destroyed in any case.
        let _ = connect::disconnect(cx);
        cx.stack.mib.inc(Mib::TcpExtTCPAbortOnData);
    } else if close_state(cx) {
        control::send_fin(cx);
    }
    true
}

/// Empties the receive queue; true when it held bytes that nobody has read.
#[inline]
fn purge_receive(cx: &mut Cx<'_>) -> bool {
    !cx.sk.receive_queue.is_empty() && drop_received(cx)
}

#[inline(never)]
fn drop_received(cx: &mut Cx<'_>) -> bool {
    let mut unread = false;
    while let Some(skb) = cx.sk.receive_queue.pop_front() {
        let fin = u32::from(skb.tcp.flags & TcpFlags::FIN.bits() != 0);
        unread |= (skb.tcp.end_seq - fin).after(cx.tp.copied_seq);
        mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
    }
    unread
}

/// No program holds the sock any more (sock_orphan); it counts among the orphans until it is destroyed.
pub(super) fn orphan(cx: &mut Cx<'_>) {
    if !cx.sk.flag(flag::DEAD) {
        cx.sk.set_flag(flag::DEAD, true);
        cx.sock.close_errors();
        cx.sock.accounts().orphans.add(1);
    }
}

/// What becomes of a sock that was just orphaned.
fn settle_orphan(cx: &mut Cx<'_>) {
    if cx.state() == State::FinWait2 {
        if cx.tp.options().linger2_ms < 0 {
            set_state(cx, State::Close);
            control::send_active_reset(cx);
            cx.stack.mib.inc(Mib::TcpExtTCPAbortOnLinger);
        } else {
            let time = fin_time(cx);
            if time > TIMEWAIT_LEN {
                timer::reset_keepalive_timer(cx, time - TIMEWAIT_LEN);
            } else {
                timewait::time_wait(cx, State::FinWait2, time);
                return;
            }
        }
    }
    if cx.state() != State::Close && check_oom(cx, 0) {
        set_state(cx, State::Close);
        control::send_active_reset(cx);
        cx.stack.mib.inc(Mib::TcpExtTCPAbortOnMemory);
    }
    if cx.state() == State::Close {
        destroy(cx);
    }
}

/// 3.5 RTO.
pub(super) fn rto_and_more(tp: &TcpSock) -> Duration {
    Duration::from_nanos(u64::from(tp.rto_us) * 3500)
}

/// How long an orphan stays in FIN_WAIT2: TCP_LINGER2 or `tcp_fin_timeout`, at least 3.5 RTO (tcp_fin_time).
pub(crate) fn fin_time(cx: &Cx<'_>) -> Duration {
    let set = match cx.tp.options().linger2_ms {
        0 => cx.stack.sysctl.tcp_fin_timeout(),
        ms => Duration::from_millis(ms.max(0) as u64),
    };
    set.max(rto_and_more(cx.tp))
}

/// Whether this orphan is to be killed to save resources: the orphans, each counted 2^`shift` times, exceed
/// `tcp_max_orphans`, or TCP exceeds `tcp_mem` and this sock holds memory. Linux: tcp_check_oom.
pub(crate) fn check_oom(cx: &Cx<'_>, shift: u32) -> bool {
    let acc = cx.sock.accounts();
    let too_many = acc.orphans.exceeds(i64::from(cx.stack.sysctl.tcp_max_orphans()) >> shift.min(8));
    let high = || cx.stack.sysctl.tcp_mem()[2].min(i64::MAX as u64) as i64;
    too_many || (cx.sk.wmem_queued > SOCK_MIN_SNDBUF && acc.pages.exceeds(high()))
}

/// shutdown(2) of our half: a FIN behind what is queued. Linux: tcp_shutdown.
pub(crate) fn shutdown(cx: &mut Cx<'_>, how: u8) {
    if how & SEND_SHUTDOWN == 0 {
        return;
    }
    // In SYN-RECEIVED the FIN waits for the handshake (`input`).
    let open = cx.state().is_one_of(&[State::Established, State::SynSent, State::CloseWait]);
    if open && close_state(cx) {
        control::send_fin(cx);
    }
}

/// Ends the connection: state CLOSE, out of the tables, timers stopped. A program that holds the sock is woken; an
/// orphan is destroyed (tcp_done).
pub(crate) fn done(cx: &mut Cx<'_>) {
    if matches!(cx.state(), State::SynSent | State::SynRecv) {
        cx.stack.mib.inc(Mib::TcpAttemptFails);
    }
    set_state(cx, State::Close);
    has_closed(cx);
}

/// What [`done`] does when the state says it.
pub(super) fn has_closed(cx: &mut Cx<'_>) {
    cx.sock.shutdown.store(RCV_SHUTDOWN | SEND_SHUTDOWN, Ordering::Relaxed);
    if cx.sk.flag(flag::DEAD) && !cx.tp.destroyed {
        return destroy(cx);
    }
    timer::clear_xmit_timers(cx);
    fastopen::server::remove(cx, false);
    if !cx.sk.flag(flag::DEAD) {
        cx.sock.wait.wake(Events::ALL);
    }
}

/// The connection fails with `err` (tcp_done_with_error).
pub(crate) fn done_with_error(cx: &mut Cx<'_>, err: Error) {
    cx.sock.err.store(err.errno(), Ordering::Release);
    output::write_queue_purge(cx);
    done(cx);
    if !cx.sk.flag(flag::DEAD) {
        cx.sock.wait.wake(Events::ALL);
    }
}

/// Last work on a closed orphan: timers, queues, port, memory (inet_csk_destroy_sock). Doing it twice does nothing.
pub(crate) fn destroy(cx: &mut Cx<'_>) {
    if cx.tp.destroyed {
        return;
    }
    cx.tp.destroyed = true;
    timer::clear_xmit_timers(cx);
    output::write_queue_purge(cx);
    fastopen::server::remove(cx, false);
    fastopen::blackhole::active_disable_ofo_check(cx);
    purge_receive(cx);
    purge_ooo(cx);
    cx.sock.purge_errors();
    if cx.tp.cold.is_some() {
        tfb::cleanup(cx);
    }
    release_ca(cx);
    if cx.tp.cold.is_some() {
        ulp::cleanup(cx);
    }
    connect::put_port(cx);
    if cx.sk.ip_more.is_some() {
        flowlabel::release_all(cx.stack, cx.sk, cx.now);
    }
    cx.sk.dst = None;
    if cx.tp.cold.is_some() {
        cx.tp.cold = None;
    }
    cx.tp.sock_ops_flags = 0;
    mem::reclaim(cx.sock, cx.sk);
    if cx.sk.flag(flag::DEAD) {
        cx.sock.accounts().orphans.add(-1);
    }
}

fn release_ca(cx: &mut Cx<'_>) {
    if let Some(mut algo) = cx.tp.ca.algo.take() {
        algo.release(cx);
        // Whatever it has chosen meanwhile does not begin.
        cx.tp.ca.algo = None;
    }
}

/// The options a program set, which outlive a connection and pass to a listener's children.
pub(super) fn copy_options(to: &mut TcpSock, from: &TcpSock) {
    to.nonagle = from.nonagle;
    to.rx_opt.user_mss = from.rx_opt.user_mss;
    if *from.options() != Options::NONE {
        // TCP_DEFER_ACCEPT is the listener's.
        *to.options_mut() = Options { defer_accept: 0, ..*from.options() };
    }
    to.recvmsg_inq = from.recvmsg_inq;
    to.reordering = from.reordering;
    to.repair = from.repair;
    fastopen::copy_options(to, from);
    tfb::copy(to, from);
}

/// What the next connection begins anew, and what SIOCOUTQ, poll(2) and TCP_INFO go on to show of the last one, as
/// tcp_disconnect leaves it.
fn keep_history(new: &mut TcpSock, old: &TcpSock) {
    (new.snd_una, new.snd_nxt, new.max_window) = (old.snd_una, old.snd_nxt, old.max_window);
    (new.snd_wnd, new.rcv_wnd, new.rcv_ssthresh) = (old.snd_wnd, old.rcv_wnd, old.rcv_ssthresh);
    (new.snd_wl1, new.rcv_wup) = (old.snd_wl1, old.rcv_wup);
    (new.rcv_nxt, new.copied_seq) = (old.rcv_nxt, old.rcv_nxt);
    (new.mss_cache, new.advmss, new.pmtu_cookie) = (old.mss_cache, old.advmss, old.pmtu_cookie);
    (new.rcv_rtt_us, new.rcvq_space) = (old.rcv_rtt_us, old.rcvq_space);
    (new.rtt_min, new.pacing_rate) = (old.rtt_min, old.pacing_rate);
    (new.rate_delivered, new.rate_interval_us) = (old.rate_delivered, old.rate_interval_us);
    (new.lsndtime_ms, new.rcv_tstamp_ms) = (old.lsndtime_ms, old.rcv_tstamp_ms);
    (new.busy_ms, new.retransmits) = (old.busy_ms, old.retransmits);
    // TCP_MAXSEG and the bounds of TCP_RTO_MIN_US and TCP_DELACK_MAX_US end with the connection.
    new.rx_opt.user_mss = 0;
    if let Some(cold) = &old.cold {
        let (total_rto, total_rto_recoveries) = (cold.rare.total_rto, cold.rare.total_rto_recoveries);
        let (total_rto_time_ms, rto_stamp_ms) = (cold.rare.total_rto_time_ms, cold.rare.rto_stamp_ms);
        let limited_ms = cold.rare.limited_ms;
        *new.rare_mut() =
            Rare { total_rto, total_rto_recoveries, total_rto_time_ms, rto_stamp_ms, limited_ms, ..Rare::NONE };
        let options = new.options_mut();
        (options.rto_min_us, options.delack_max_us) = (0, 0);
    }
}

/// The rest of tcp_disconnect: the connection is as new, except for the program's options, a port that it bound, and
/// the sequence numbers, which start beyond those that the old connection may still have in the network.
pub(super) fn reset_connection(cx: &mut Cx<'_>) {
    timer::clear_xmit_timers(cx);
    purge_receive(cx);
    output::write_queue_purge(cx);
    purge_ooo(cx);
    tfb::cleanup(cx);
    release_ca(cx);
    let seq = cx.tp.write_seq + cx.tp.max_window.wrapping_add(2);
    let mut new = TcpSock::new(&cx.tp.net, cx.stack);
    copy_options(&mut new, cx.tp);
    new.ca.ops = cx.tp.ca.ops.clone();
    new.ca_setsockopt = cx.tp.ca_setsockopt;
    sock_ops::keep(&mut new, cx.tp);
    ulp::keep(&mut new, cx.tp);
    fastopen::server::remove(cx, false);
    fastopen::keep(&mut new, cx.tp);
    cx.sk.ip_flags &= !ip_flag::DEFER_CONNECT;
    let defer_accept = cx.tp.options().defer_accept;
    if defer_accept != 0 {
        new.options_mut().defer_accept = defer_accept;
    }
    new.write_seq = if seq == SeqNum(0) { SeqNum(1) } else { seq };
    keep_history(&mut new, cx.tp);
    new.bound = cx.tp.bound.take();
    if let Some(auth) = cx.tp.cold.as_mut().and_then(|c| c.auth.take()) {
        new.cold_mut().auth = Some(auth);
    }
    new.destroyed = cx.tp.destroyed;
    if cx.tp.write_pending != 0 {
        new.cold_mut().write_pending = cx.tp.write_pending;
    }
    new.rto_us = TIMEOUT_INIT_US;
    *cx.tp = new;
    cx.sk.dport = 0;
    cx.sk.daddr = unspecified(cx.sock.family);
    connect::reset_saddr(cx);
    cx.sock.shutdown.store(0, Ordering::Relaxed);
    cx.sk.set_flag(flag::DONE, false);
    cx.sk.err_soft = 0;
    if cx.sk.peek_off != -1 {
        cx.sk.cold_mut().peek_off = -1;
    }
    cx.sk.dst = None;
    mem::reclaim(cx.sock, cx.sk);
}

/// Kills the connection from outside (tcp_abort, SOCK_DESTROY): the peer gets a RST, the program `err`.
pub(crate) fn abort(sk: SockRef<'_>, err: Error) -> Result<()> {
    abort_owned(&mut sk.lock(), err)
}

/// The body of `abort`, for a sock that is owned.
pub fn abort_owned(g: &mut SockGuard<'_>, err: Error) -> Result<()> {
    let Some(mut cx) = Cx::new(g) else { return Err(Error::OpNotSupp) };
    let cx = &mut cx;
    if cx.state() == State::Close {
        return Err(Error::NoEnt);
    }
    if cx.state() == State::Listen {
        set_state(cx, State::Close);
        listener::stop(cx);
    }
    // An orphan as well: with its queues empty no timer would ever destroy it.
    if need_reset(cx.state()) {
        control::send_active_reset(cx);
    }
    done_with_error(cx, err);
    Ok(())
}

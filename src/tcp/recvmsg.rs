//! Receiving: bytes from the receive queue to the program. Above: `proto`. Below: `control::send_ack` (window updates),
//! `rcvbuf` (buffer tuning). Process context; what softirq needs of it is `data_ready`. RFC 9293 §3.10.3, RFC 6093
//! (urgent data). Linux: tcp_recvmsg_locked, tcp_recv_urg, tcp_cleanup_rbuf, tcp_data_ready, tcp_poll.

use super::state::State;
use super::tcb::{Cx, ack};
use super::{control, input, output, rcvbuf, ulp, urgent, window};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::mem;
use crate::sock::msg::{Control, RecvMsg};
use crate::sock::proto::SockRef;
use crate::sock::skb::Skb;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, SockCommon, SockGuard, flag};
use crate::stack::Stack;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;
use std::sync::atomic::Ordering;

const FIN: u8 = TcpFlags::FIN.bits() as u8;
const SYN: u8 = TcpFlags::SYN.bits() as u8;

/// What one walk over the receive queue gives.
enum Step {
    /// Bytes were taken, or an urgent byte passed over.
    Taken,
    /// The peer's FIN: the end.
    End,
    /// Urgent data begins here, and something was read before it or the call does not pass over it.
    Urgent,
    /// Nothing (more) is there.
    Empty,
}

/// A receive in progress.
struct Recv {
    copied: usize,
    /// Room of the program that is left, bytes; with MSG_TRUNC nothing is written to it.
    len: usize,
    /// Next byte, and whether it is only looked at.
    seq: SeqNum,
    peek: bool,
    trunc: bool,
    stamp: Option<Instant>,
}

/// recvmsg(2) of TCP. Returns bytes, 0 at the end. Errors: EAGAIN, EINTR, ENOTCONN, EINVAL (no urgent byte), the
/// connection's.
pub fn recvmsg(sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    recvmsg_locked(&mut sk.lock(), msg)
}

/// The body of [`recvmsg`], for a sock that is owned.
pub fn recvmsg_locked(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let sock = g.sock;
    if msg.flags & libc::MSG_ERRQUEUE != 0 {
        return g.common.recv_error(sock, msg);
    }
    if sock.state() == State::Listen as u8 {
        return Err(Error::NotConn);
    }
    if msg.flags & libc::MSG_OOB != 0 {
        let Some(mut cx) = Cx::new(&mut *g) else { return Err(Error::NotConn) };
        return recv_urg(&mut cx, msg);
    }
    let mut wait = !msg.dontwait();
    let deadline = if wait { g.common.rcvtimeo.map(|t| g.now() + t) } else { None };
    let len = msg.remaining();
    let lowat = g.common.rcvlowat.max(0) as usize;
    let target = if msg.flags & libc::MSG_WAITALL != 0 { len } else { lowat.min(len) }.max(1);
    let mut r = Recv {
        copied: 0,
        len,
        seq: SeqNum(0),
        peek: msg.flags & libc::MSG_PEEK != 0,
        trunc: msg.flags & libc::MSG_TRUNC != 0,
        stamp: None,
    };
    let mut failed = None;
    // SO_PEEK_OFF: a look begins further on.
    let peek_at = if r.peek { g.common.peek_off.max(0) as u32 } else { 0 };
    if let Some(cx) = Cx::new(&mut *g) {
        r.seq = cx.tp.copied_seq + peek_at;
    }
    let mut first = true;
    // A receive of nothing waits for the first byte all the same; read(2) of nothing does not come here.
    while std::mem::take(&mut first) || r.len > 0 {
        let step = match Cx::new(&mut *g) {
            Some(mut cx) => r.step(&mut cx, msg),
            None => Step::Empty,
        };
        match step {
            Step::Taken => continue,
            Step::End | Step::Urgent => break,
            Step::Empty => {}
        }
        let flushed = r.copied >= target && g.flush_backlog();
        if flushed {
            continue;
        }
        if r.copied >= target {
            break;
        }
        first = r.len == 0;
        let down = sock.rcv_shutdown();
        let closed = sock.state() == State::Close as u8;
        let err = sock.err.load(Ordering::Relaxed) != 0;
        if r.copied > 0 {
            if !wait || err || closed || down {
                break;
            }
        } else {
            if g.common.flag(flag::DONE) {
                break;
            }
            if err {
                failed = sock.take_error().err();
                break;
            }
            if down {
                break;
            }
            if closed {
                // Never connected, or the end was reported already.
                failed = Some(Error::NotConn);
                break;
            }
            if !wait {
                failed = Some(Error::Again);
                break;
            }
        }
        if let Some(mut cx) = Cx::new(&mut *g) {
            cleanup_rbuf(&mut cx, r.copied);
        }
        match g.sleep(Events::IN, false, deadline) {
            Ok(()) => {}
            // Time is up: one last look at what came meanwhile.
            Err(Error::Again) => wait = false,
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
        if r.peek
            && let Some(cx) = Cx::new(&mut *g)
            && r.seq - r.copied as u32 - peek_at != cx.tp.copied_seq
        {
            // Another thread has read what was looked at: the look goes on where the queue now begins.
            r.seq = cx.tp.copied_seq + peek_at;
        }
    }
    let mut inq = None;
    if let Some(mut cx) = Cx::new(&mut *g) {
        cleanup_rbuf(&mut cx, r.copied);
        if cx.tp.recvmsg_inq {
            inq = Some(inq_hint(&cx));
        }
    }
    if let Some(e) = failed.filter(|_| r.copied == 0) {
        return Err(e);
    }
    let common = &g.common;
    if let Some(at) = r.stamp {
        timestamps(g.stack, common, at, g.now(), msg);
    }
    if let Some(n) = inq {
        msg.control.push(Control::Inq(n));
    }
    Ok(r.copied)
}

/// Receive timestamps, as SO_TIMESTAMP or SO_TIMESTAMPNS ask.
fn timestamps(stack: &Stack, common: &SockCommon, at: Instant, now: Instant, msg: &mut RecvMsg<'_, '_>) {
    let wall = || stack.clock.wall().saturating_sub(now.saturating_sub(at));
    if common.flag(flag::TIMESTAMPNS) {
        msg.control.push(Control::TimestampNs(wall()));
    } else if common.flag(flag::TIMESTAMP) {
        msg.control.push(Control::Timestamp(wall()));
    }
}

impl Recv {
    /// Takes from the first packet that holds the next byte.
    fn step(&mut self, cx: &mut Cx<'_>, msg: &mut RecvMsg<'_, '_>) -> Step {
        if !self.peek {
            self.seq = cx.tp.copied_seq;
        }
        if cx.tp.urg_data != 0 && cx.tp.urg_seq == self.seq {
            let here = cx.tp.rcv_nxt.after(self.seq);
            if self.copied > 0 || (msg.before_urgent && here) {
                return Step::Urgent;
            }
        }
        let mut at = 0;
        let (mut offset, len, flags) = loop {
            let Some(skb) = cx.sk.receive_queue.get(at) else { return Step::Empty };
            let mut offset = self.seq.diff(skb.tcp.seq);
            if skb.tcp.flags & SYN != 0 {
                offset -= 1;
            }
            if offset >= 0 && (offset as usize) < skb.len() {
                break (offset as usize, skb.len(), skb.tcp.flags);
            }
            if skb.tcp.flags & FIN != 0 {
                return self.end(cx, at);
            }
            // Wholly read: only a look stays behind, as a reader drops such a packet.
            at += 1;
        };
        let mut used = (len - offset).min(self.len);
        if cx.tp.urg_data != 0 {
            let to_urgent = cx.tp.urg_seq.since(self.seq) as usize;
            if to_urgent == 0 {
                if !cx.sk.flag(flag::URGINLINE) {
                    // The urgent byte is not part of the stream: passed over.
                    self.seq += 1;
                    offset += 1;
                    used = used.saturating_sub(1);
                }
            } else if to_urgent < used {
                used = to_urgent;
            }
        }
        if used > 0 {
            if !self.trunc
                && let Some(skb) = cx.sk.receive_queue.get(at)
            {
                used = msg.put_skb(skb, offset, used);
            }
            if cx.sk.peek_off >= 0 {
                let by = used.min(i32::MAX as usize) as i32;
                let off = cx.sk.peek_off;
                cx.sk.peek_off = if self.peek { off.saturating_add(by) } else { (off - by).max(0) };
            }
            self.seq += used as u32;
            self.copied += used;
            self.len -= used;
        }
        if !self.peek {
            cx.tp.copied_seq = self.seq;
        }
        rcvbuf::rcv_space_adjust(cx);
        if cx.tp.urg_data != 0 && cx.tp.copied_seq.after(cx.tp.urg_seq) {
            cx.tp.urg_data = 0;
            input::fast_path_check(cx);
        }
        if let Some(skb) = cx.sk.receive_queue.get(at) {
            self.stamp = Some(skb.tstamp);
        }
        if used + offset < len {
            return Step::Taken;
        }
        if flags & FIN != 0 {
            return self.end(cx, at);
        }
        if !self.peek {
            eat(cx, at);
        }
        Step::Taken
    }

    /// The FIN takes a sequence number and ends the stream.
    fn end(&mut self, cx: &mut Cx<'_>, at: usize) -> Step {
        self.seq += 1;
        if !self.peek {
            cx.tp.copied_seq = self.seq;
            eat(cx, at);
        }
        Step::End
    }
}

/// Frees a packet that was read (tcp_eat_recv_skb).
fn eat(cx: &mut Cx<'_>, at: usize) {
    let skb: Option<Skb> = if at == 0 { cx.sk.receive_queue.pop_front() } else { cx.sk.receive_queue.remove(at) };
    if let Some(skb) = skb {
        mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
    }
    if cx.sk.receive_queue.is_empty() && cx.sk.receive_queue.capacity() > 64 {
        // An idle connection holds no queue.
        cx.sk.receive_queue = Default::default();
    }
}

/// MSG_OOB: the urgent byte (tcp_recv_urg). EINVAL: there is none, or it is in line; EAGAIN: announced, not here.
fn recv_urg(cx: &mut Cx<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    if cx.sk.flag(flag::URGINLINE) || cx.tp.urg_data == 0 || cx.tp.urg_data == urgent::READ {
        return Err(Error::Inval);
    }
    if cx.state() == State::Close && !cx.sk.flag(flag::DONE) {
        return Err(Error::NotConn);
    }
    if cx.tp.urg_data & urgent::VALID != 0 {
        let byte = cx.tp.urg_data as u8;
        if msg.flags & libc::MSG_PEEK == 0 {
            cx.tp.urg_data = urgent::READ;
        }
        msg.out_flags |= libc::MSG_OOB;
        if msg.remaining() == 0 {
            msg.out_flags |= libc::MSG_TRUNC;
            return Ok(0);
        }
        if msg.flags & libc::MSG_TRUNC == 0 {
            msg.put(&[byte]);
        }
        return Ok(1);
    }
    if cx.state() == State::Close || cx.sock.rcv_shutdown() {
        return Ok(0);
    }
    Err(Error::Again)
}

/// After a read of `copied` bytes: acknowledges at once what was waiting for it, and tells the peer of a window that
/// has at least doubled, or that the peer's silence ends with. Linux: __tcp_cleanup_rbuf. RFC 9293 §3.8.6.2.2.
pub fn cleanup_rbuf(cx: &mut Cx<'_>, copied: usize) {
    let a = cx.tp.ack;
    let mut now = false;
    if a.pending & ack::SCHED != 0 {
        let pingpong = i32::from(a.pingpong) >= cx.stack.sysctl.tcp_pingpong_thresh();
        let emptied = copied > 0
            && (a.pending & ack::PUSHED2 != 0 || (a.pending & ack::PUSHED != 0 && !pingpong))
            && cx.sock.rmem_alloc.load(Ordering::Relaxed) == 0;
        now = cx.tp.rcv_nxt.since(cx.tp.rcv_wup) > u32::from(a.rcv_mss) || emptied;
    }
    if copied > 0 && !now && !cx.sock.rcv_shutdown() {
        let offered = window::receive_window(cx.tp);
        // No window is larger than the clamp.
        let most = cx.tp.window_clamp;
        if offered.saturating_mul(2) <= most || window::ends_silence(cx.tp, offered, most) {
            let new = window::new_window(cx);
            let doubled = new != 0 && new >= offered.saturating_mul(2);
            now = doubled || window::ends_silence(cx.tp, offered, new);
        }
    }
    if now {
        control::send_ack(cx);
    }
}

/// Bytes for TCP_INQ: what is left to read; 1 when only the end is (tcp_inq_hint).
fn inq_hint(cx: &Cx<'_>) -> i32 {
    match cx.tp.rcv_nxt.since(cx.tp.copied_seq).min(i32::MAX as u32) as i32 {
        0 if cx.sk.flag(flag::DONE) => 1,
        n => n,
    }
}

/// Whether a reader that wants `target` bytes has something to do (tcp_epollin_ready): so many bytes, or fewer when the
/// buffer or the window is all but full, since then no more would come.
pub fn readable(cx: &Cx<'_>, target: i32) -> bool {
    let avail = cx.tp.rcv_nxt.diff(cx.tp.copied_seq);
    if avail <= 0 {
        return false;
    }
    if avail >= target || rcvbuf::under_memory_pressure(cx) {
        return true;
    }
    let rcvbuf = cx.sock.rcvbuf.load(Ordering::Relaxed);
    cx.sock.rmem_alloc.load(Ordering::Relaxed) > rcvbuf - (rcvbuf >> 3)
        || window::receive_window(cx.tp) <= u32::from(cx.tp.ack.rcv_mss)
}

/// New data or the end has come: wakes readers whose SO_RCVLOWAT is met (tcp_data_ready). Either context.
pub fn data_ready(cx: &mut Cx<'_>) {
    if readable(cx, ulp::rcvlowat(cx)) || cx.sk.flag(flag::DONE) {
        cx.sock.wait.wake(Events::IN);
    }
}

/// poll(2) of an owned sock. Linux: tcp_poll.
pub fn poll_locked(g: &mut SockGuard<'_>) -> Events {
    let errors = g.common.error_queue.as_ref().is_some_and(|q| !q.is_empty());
    let Some(cx) = Cx::new(&mut *g) else { return Events::ERR };
    let state = cx.state();
    if state == State::Listen {
        let some = cx.tp.listener.as_ref().is_some_and(|l| l.accept_len() > 0);
        return if some { Events::IN } else { Events::NONE };
    }
    let writable = Events((libc::POLLOUT | libc::POLLWRNORM) as u32);
    let mut m = Events::NONE;
    let down = cx.sock.shutdown.load(Ordering::Acquire);
    if down == RCV_SHUTDOWN | SEND_SHUTDOWN || state == State::Close {
        m |= Events::HUP;
    }
    if down & RCV_SHUTDOWN != 0 {
        m |= Events::IN | Events::RDHUP;
    }
    if !matches!(state, State::SynSent | State::SynRecv) {
        let mut target = ulp::rcvlowat(&cx).max(1);
        if cx.tp.urg_data != 0 && cx.tp.urg_seq == cx.tp.copied_seq && !cx.sk.flag(flag::URGINLINE) {
            target = target.saturating_add(1);
        }
        if readable(&cx, target) {
            m |= Events::IN;
        }
        if down & SEND_SHUTDOWN != 0 || stream_writable(&cx) {
            m |= writable;
        } else {
            // Who was told "not writable" is told when that changes (SOCK_NOSPACE).
            cx.tp.nospace = true;
        }
        if cx.tp.urg_data & urgent::VALID != 0 {
            m |= Events::PRI;
        }
    }
    if cx.sock.err.load(Ordering::Acquire) != 0 || errors {
        m |= Events::ERR;
    }
    m
}

/// Room for a third of what is queued, and below TCP_NOTSENT_LOWAT (sk_stream_is_writeable).
pub fn stream_writable(cx: &Cx<'_>) -> bool {
    let queued = cx.sk.wmem_queued;
    let space = cx.sock.sndbuf.load(Ordering::Relaxed) - queued;
    space >= queued >> 1 && output::sk_stream_memory_free(cx, true)
}

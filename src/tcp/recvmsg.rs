//! Receiving: bytes from the receive queue to the program. Above: `proto`. Below: `delack` (what a read acknowledges),
//! `rcvbuf` (buffer tuning). Process context; what softirq needs of it is `data_ready`. RFC 9293 §3.10.3, RFC 6093
//! (urgent data). Linux: tcp_recvmsg_locked, tcp_recv_urg, tcp_data_ready, tcp_poll.

use super::delack::cleanup_rbuf;
use super::output::{FIN, SYN};
use super::tcb::Cx;
use super::{input, output, rcvbuf, repair, ulp, urgent, window};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::ip::errors::recv_error;
use crate::sock::mem;
use crate::sock::msg::{Control, RecvMsg};
use crate::sock::proto::SockRef;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::sock::tstamp;
use crate::sock::wait::Events;
use crate::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, Sock, SockGuard, flag, ip_flag};
use crate::wire::seq::SeqNum;
use std::sync::atomic::Ordering;

/// The result of one step of a receive.
enum Step {
    /// Bytes were taken, or an urgent byte was skipped.
    Taken,
    /// The peer's FIN: the end.
    End,
    /// The urgent byte is next, and the call ends before it.
    Urgent,
    /// Nothing (more) is there.
    Empty,
    /// The program's memory could not be written.
    Fault,
}

/// A receive in progress.
struct Recv {
    copied: usize,
    /// Room left in the program's buffers, bytes; with MSG_TRUNC nothing is written to them.
    len: usize,
    /// Bytes that end the wait.
    target: usize,
    /// Next byte.
    seq: SeqNum,
    /// MSG_PEEK: bytes are only looked at, from `peek_at` bytes behind the first on.
    peek: bool,
    peek_at: u32,
    /// MSG_TRUNC: bytes are dropped.
    trunc: bool,
    /// Urgent bytes that were skipped, which are not among the copied ones.
    urg_hole: u32,
    /// When the last packet taken from arrived.
    stamp: Option<Instant>,
    /// TCP_REPAIR.
    repair: bool,
}

/// recvmsg(2) of TCP. Returns bytes, 0 at the end. Errors: EAGAIN, EINTR, ENOTCONN, EINVAL (no urgent byte), the
/// connection's.
pub(crate) fn recvmsg(sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let got = recvmsg_locked(&mut sk.lock(), msg)?;
    // What met the lock of this call has been queued by now and counts too.
    if let Some(Control::Inq(n)) = msg.control.last_mut()
        && let Some(cx) = Cx::new(&mut sk.lock())
    {
        *n = inq_hint(&cx);
    }
    Ok(got)
}

/// The whole of most calls that need not wait: the first packet has all the bytes that the call takes, or it is the
/// only one and has enough of them. It does what [`recv_any`] does then. None: it is not such a call, and nothing was
/// done.
#[inline]
fn recv_front(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Option<Result<usize>> {
    const PLAIN: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (want, marked) = (msg.remaining(), g.has_backlog());
    if !Way::Recv.is_open() || msg.flags & !PLAIN != 0 || want == 0 || marked {
        return None;
    }
    let cx = &mut Cx::untimed(g)?;
    if cx.tp.repair || cx.tp.urg_data != 0 || cx.tp.recvmsg_inq || cx.sk.peek_off >= 0 || cx.state() == State::Listen {
        return None;
    }
    let skb = cx.sk.receive_queue.front()?;
    let offset = cx.tp.copied_seq.diff(skb.tcp.seq) as usize;
    if skb.tcp.flags & (SYN | FIN) != 0 || skb.tcp.has_rxtstamp || offset >= skb.len() {
        return None;
    }
    let left = skb.len() - offset;
    let n = left.min(want);
    let target = want.min(cx.sk.rcvlowat.max(0) as usize);
    if n < want && (cx.sk.receive_queue.len() > 1 || n < target) {
        return None;
    }
    Way::Recv.taken();
    if msg.put_skb(skb, offset, n) < n {
        // Of this packet nothing counts as read.
        cleanup_rbuf(cx, 0);
        return Some(Err(Error::Fault));
    }
    cx.tp.copied_seq += n as u32;
    if cx.tp.rcv_rtt_us != 0 {
        cx.refresh_clock();
        rcvbuf::rcv_space_adjust(cx);
    }
    if n == left {
        eat(cx, 0);
    }
    cleanup_rbuf(cx, n);
    Some(Ok(n))
}

/// The body of [`recvmsg`], for a sock that is owned.
pub(crate) fn recvmsg_locked(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    match recv_front(g, msg) {
        Some(got) => got,
        None => recv_any(g, msg),
    }
}

#[inline(never)]
fn recv_any(g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let sock = g.sock;
    if msg.flags & libc::MSG_ERRQUEUE != 0 {
        return recv_error(g, msg);
    }
    if sock.state() == State::Listen {
        return Err(Error::NotConn);
    }
    if msg.flags & libc::MSG_OOB != 0 {
        let Some(mut cx) = Cx::new(&mut *g) else { return Err(Error::NotConn) };
        return recv_urg(&mut cx, msg);
    }
    let mut r = Recv::new(g, msg);
    if r.repair
        && let Some(mut cx) = Cx::new(&mut *g)
        && let Some(n) = repair::recvmsg(&mut cx, msg)?
    {
        return Ok(n);
    }
    let mut wait = !msg.dontwait();
    let deadline = if wait { g.common.rcvtimeo.get().map(|t| g.now() + t) } else { None };
    let mut failed = None;
    // A receive of zero bytes waits once, and returns 0 whatever ended that; read(2) of zero bytes does not come here.
    let mut first = true;
    while std::mem::take(&mut first) || r.len > 0 {
        let step = match Cx::new(&mut *g) {
            Some(mut cx) => r.step(&mut cx, msg),
            None => Step::Empty,
        };
        match step {
            Step::Taken => continue,
            Step::End | Step::Urgent => break,
            Step::Fault => {
                failed = Some(Error::Fault);
                break;
            }
            Step::Empty => {}
        }
        if r.copied >= r.target {
            if g.flush_backlog() {
                continue;
            }
            break;
        }
        match r.may_wait(g, wait) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
        if let Some(mut cx) = Cx::new(&mut *g) {
            cleanup_rbuf(&mut cx, r.copied);
        }
        match g.sleep(Events::IN, false, deadline) {
            Ok(()) => {}
            // The timeout is over: one last look at what came meanwhile.
            Err(Error::Again) => wait = false,
            Err(Error::Intr) if r.len == 0 => break,
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
        r.follow(g);
    }
    r.finish(g, msg, failed)
}

impl Recv {
    /// A receive that has not taken anything yet.
    fn new(g: &mut SockGuard<'_>, msg: &RecvMsg<'_, '_>) -> Recv {
        let len = msg.remaining();
        let lowat = g.common.rcvlowat.max(0) as usize;
        let peek = msg.flags & libc::MSG_PEEK != 0;
        // SO_PEEK_OFF: where a peek begins, but splice's, which is none to the program (tcp_splice_read).
        let peek_at = if peek && !msg.before_urgent { g.common.peek_off.max(0) as u32 } else { 0 };
        let (copied_seq, repair) = Cx::new(g).map_or((SeqNum(0), false), |cx| (cx.tp.copied_seq, cx.tp.repair));
        Recv {
            copied: 0,
            len,
            target: if msg.flags & libc::MSG_WAITALL != 0 { len } else { lowat.min(len) }.max(1),
            seq: copied_seq + peek_at,
            peek,
            peek_at,
            trunc: msg.flags & libc::MSG_TRUNC != 0,
            urg_hole: 0,
            stamp: None,
            repair,
        }
    }

    /// Fewer bytes than `target` are there: whether the call waits for more (true) or ends with what it has; Err: it
    /// fails.
    fn may_wait(&self, g: &SockGuard<'_>, wait: bool) -> Result<bool> {
        let sock = g.sock;
        let closed = sock.state() == State::Close;
        let err = sock.err.load(Ordering::Relaxed) != 0;
        if self.copied > 0 {
            return Ok(wait && !err && !closed && !sock.rcv_shutdown());
        }
        if g.common.flag(flag::DONE) {
            return Ok(false);
        }
        if err {
            return sock.take_error().map(|()| false);
        }
        if sock.rcv_shutdown() {
            return Ok(false);
        }
        if closed {
            // Never connected, or the end was reported already.
            return Err(Error::NotConn);
        }
        if wait { Ok(true) } else { Err(Error::Again) }
    }

    /// After a sleep: if another thread has read the bytes that were peeked at, the peek continues where the queue now
    /// begins.
    fn follow(&mut self, g: &mut SockGuard<'_>) {
        if self.peek
            && let Some(cx) = Cx::new(g)
            && self.seq - self.copied as u32 - self.peek_at - self.urg_hole != cx.tp.copied_seq
        {
            self.seq = cx.tp.copied_seq + self.peek_at;
        }
    }

    /// The end of the call: acknowledges what was read, and adds the control messages.
    fn finish(&self, g: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>, failed: Option<Error>) -> Result<usize> {
        let mut inq = None;
        if let Some(mut cx) = Cx::new(&mut *g) {
            cleanup_rbuf(&mut cx, self.copied);
            if cx.tp.recvmsg_inq {
                inq = Some(inq_hint(&cx));
            }
        }
        if let Some(e) = failed.filter(|_| self.copied == 0) {
            return Err(e);
        }
        if let Some(at) = self.stamp {
            tstamp::received(g, at, false, &mut msg.control);
        }
        if let Some(n) = inq {
            msg.control.push(Control::Inq(n));
        }
        Ok(self.copied)
    }

    /// Takes from the first packet that holds the next byte.
    fn step(&mut self, cx: &mut Cx<'_>, msg: &mut RecvMsg<'_, '_>) -> Step {
        if !self.peek {
            self.seq = cx.tp.copied_seq;
        }
        if cx.tp.urg_data != 0 && cx.tp.rare().urg_seq == self.seq {
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
            // The packet was read to its end, which only MSG_PEEK leaves in the queue.
            at += 1;
        };
        let mut used = (len - offset).min(self.len);
        if cx.tp.urg_data != 0 {
            self.at_urgent(cx, &mut offset, &mut used);
        }
        if used > 0 {
            if !self.trunc
                && let Some(skb) = cx.sk.receive_queue.get(at)
            {
                used = msg.put_skb(skb, offset, used);
                if msg.faulted() {
                    // Of this packet nothing counts as read.
                    return Step::Fault;
                }
            }
            if cx.sk.peek_off >= 0 && !msg.before_urgent {
                let by = used.min(i32::MAX as usize) as i32;
                let off = cx.sk.peek_off;
                cx.sk.cold_mut().peek_off = if self.peek { off.saturating_add(by) } else { (off - by).max(0) };
            }
            self.seq += used as u32;
            self.copied += used;
            self.len -= used;
        }
        if !self.peek {
            cx.tp.copied_seq = self.seq;
        }
        rcvbuf::rcv_space_adjust(cx);
        if cx.tp.urg_data != 0 && cx.tp.copied_seq.after(cx.tp.rare().urg_seq) {
            cx.tp.urg_data = 0;
            input::fast_path_check(cx);
        }
        if let Some(skb) = cx.sk.receive_queue.get(at).filter(|skb| skb.tcp.has_rxtstamp) {
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

    /// Of the `used` bytes at `offset` of a packet only those before the urgent one are read in one step. If that is
    /// the first, it is skipped: it is not part of the stream, unless SO_OOBINLINE says so.
    fn at_urgent(&mut self, cx: &Cx<'_>, offset: &mut usize, used: &mut usize) {
        match cx.tp.rare().urg_seq.since(self.seq) as usize {
            to_urgent if to_urgent >= *used => {}
            0 if !cx.sk.flag(flag::URGINLINE) => {
                self.seq += 1;
                self.urg_hole += 1;
                *offset += 1;
                *used -= 1;
            }
            0 => {}
            to_urgent => *used = to_urgent,
        }
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
#[inline(always)]
fn eat(cx: &mut Cx<'_>, at: usize) {
    let skb: Option<Skb> = cx.sk.receive_queue.remove(at);
    if let Some(skb) = skb {
        mem::uncharge_rmem(cx.sock, cx.sk, skb.truesize);
    }
}

/// MSG_OOB: the urgent byte (tcp_recv_urg). EINVAL: there is none, or it is in line; EAGAIN: it is announced and has
/// not arrived.
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
        // The byte is read all the same.
        return if msg.faulted() { Err(Error::Fault) } else { Ok(1) };
    }
    if cx.state() == State::Close || cx.sock.rcv_shutdown() {
        return Ok(0);
    }
    Err(Error::Again)
}

/// Bytes for TCP_INQ: what is left to read; 1 when only the end is (tcp_inq_hint).
fn inq_hint(cx: &Cx<'_>) -> i32 {
    match cx.tp.rcv_nxt.since(cx.tp.copied_seq).min(i32::MAX as u32) as i32 {
        0 if cx.sk.flag(flag::DONE) => 1,
        n => n,
    }
}

/// Whether a reader that wants `target` bytes has something to do (tcp_epollin_ready): that many bytes, or fewer when
/// the buffer or the window is almost full, because then no more would arrive.
pub(crate) fn readable(cx: &Cx<'_>, target: i32) -> bool {
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
#[inline(always)]
pub(crate) fn data_ready(cx: &mut Cx<'_>) {
    if readable(cx, ulp::rcvlowat(cx)) || cx.sk.flag(flag::DONE) {
        cx.sock.wait.wake(Events::IN);
    }
}

/// Room to send: EPOLLOUT | EPOLLWRNORM.
const WRITABLE: Events = Events((libc::POLLOUT | libc::POLLWRNORM) as u32);

/// poll(2). A sock that an earlier poll found idle is not owned for it.
pub(crate) fn poll(sk: SockRef<'_>) -> Events {
    let quiet = |sock: &Sock| sock.err.load(Ordering::SeqCst) == 0 && !sock.has_errors();
    if sk.sock.is_idle() && quiet(sk.sock) {
        return WRITABLE;
    }
    let mut g = sk.lock();
    let m = poll_locked(&mut g);
    if m == WRITABLE && is_idle(&mut g) {
        g.release_idle();
    }
    m
}

/// Whether a sock that is only writable stays so until somebody owns it: neither side has bytes queued, so that no
/// limit of memory decides.
fn is_idle(g: &mut SockGuard<'_>) -> bool {
    Cx::new(g).is_some_and(|cx| cx.sk.wmem_queued == 0 && cx.tp.rcv_nxt == cx.tp.copied_seq)
}

/// poll(2) of an owned sock. Linux: tcp_poll.
pub(crate) fn poll_locked(g: &mut SockGuard<'_>) -> Events {
    let Some(cx) = Cx::new(&mut *g) else { return Events::ERR };
    let state = cx.state();
    if state == State::Listen {
        let some = cx.tp.listener.as_ref().is_some_and(|l| l.accept_len() > 0);
        return if some { Events::IN } else { Events::NONE };
    }
    let mut m = Events::NONE;
    let down = cx.sock.shutdown.load(Ordering::Acquire);
    if down == RCV_SHUTDOWN | SEND_SHUTDOWN || state == State::Close {
        m |= Events::HUP;
    }
    if down & RCV_SHUTDOWN != 0 {
        m |= Events::IN | Events::RDHUP;
    }
    let open = !matches!(state, State::SynSent | State::SynRecv);
    if open || state == State::SynRecv && cx.tp.has_fastopen_rsk() {
        let mut target = ulp::rcvlowat(&cx).max(1);
        if cx.tp.urg_data != 0 && cx.tp.rare().urg_seq == cx.tp.copied_seq && !cx.sk.flag(flag::URGINLINE) {
            target = target.saturating_add(1);
        }
        if readable(&cx, target) {
            m |= Events::IN;
        }
        if down & SEND_SHUTDOWN != 0 || stream_writable(&cx) {
            m |= WRITABLE;
        } else {
            // A program that was told "not writable" is woken when that changes (SOCK_NOSPACE).
            cx.tp.nospace = true;
        }
        if cx.tp.urg_data & urgent::VALID != 0 {
            m |= Events::PRI;
        }
    } else if state == State::SynSent && cx.sk.ip_flags & ip_flag::DEFER_CONNECT != 0 {
        // The first write(2) sends the SYN.
        m |= WRITABLE;
    }
    if cx.sock.err.load(Ordering::Acquire) != 0 || cx.sock.has_errors() {
        m |= Events::ERR;
    }
    m
}

/// Room for a third of what is queued, and below TCP_NOTSENT_LOWAT (sk_stream_is_writeable).
pub(crate) fn stream_writable(cx: &Cx<'_>) -> bool {
    let queued = cx.sk.wmem_queued;
    let space = cx.sock.sndbuf.load(Ordering::Relaxed) - queued;
    space >= queued >> 1 && output::sk_stream_memory_free(cx, true)
}

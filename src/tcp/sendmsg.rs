//! sendmsg: bytes of the program join the send queue, with Linux's rules for blocking, for filling segments and for
//! what is pushed when. Above: `inet` through the protocol table. Below: `output` (push), `sock::mem` (charging).
//! Process context; owns the sock for the whole call but for sleeping. Linux: tcp_sendmsg_locked,
//! sk_stream_wait_memory, sk_stream_wait_connect. RFC 9293 §3.10.2.

use super::chrono::{Chrono, chrono_stop};
use super::mtu::send_mss;
use super::output::{
    self, ACK, PSH, add_write_queue_tail, adjust_wmem, charge_wmem, forced_push, mark_push, push, push_one,
    push_pending_frames, sk_stream_memory_free, slow_start_after_idle_check,
};
use super::tcb::{Cx, TcpSock, nagle};
use super::xmit::{nagle_check, xmit_alone};
use super::{fastopen, rate, repair, tstamp};
use crate::base::env::Duration;
use crate::base::error::{Error, Result};
use crate::base::ways::Way;
use crate::sock::mem::{self, Kind};
use crate::sock::msg::{Control, SendMsg};
use crate::sock::proto::SockRef;
use crate::sock::skb::{MAX_SKB_FRAGS, SKB_OVERHEAD, Skb, sacked};
use crate::sock::state::State;
use crate::sock::tstamp::Cookie;
use crate::sock::wait::Events;
use crate::sock::zerocopy::ZeroCopy;
use crate::sock::{Sock, SockGuard, crowd, ip_flag};
use std::sync::atomic::Ordering;

/// New packets after which a long send runs its backlog, so that acknowledgements are not kept waiting.
const FLUSH_EVERY: u32 = 16;
/// Bytes that take so long to copy that the clock is read again before they leave: about a microsecond.
const CLOCK_EVERY: usize = 4096;

/// A connection's borrowed parts; EIO for a sock that is not TCP's.
macro_rules! cx {
    ($g:expr) => {
        &mut Cx::new(&mut *$g).ok_or(Error::Io)?
    };
}

/// Sends; returns the bytes taken. Errors: EPIPE (the caller raises SIGPIPE unless MSG_NOSIGNAL), the sock's pending
/// error, EAGAIN, EINTR, EINVAL (control message), ENOBUFS (MSG_ZEROCOPY), those of connect(2) with MSG_FASTOPEN.
pub(crate) fn sendmsg(sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    let mut g = sk.lock();
    let peer = prefetch_peer_entry(&g);
    let sent = sendmsg_locked(&mut g, msg);
    let sock = g.sock;
    let Some(tp) = g.private.downcast_mut::<TcpSock>() else { return sent };
    if let Some(key) = peer.filter(|_| !sock.knows_peer()) {
        tp.receiver = tp.net.hashinfo.prefetch_receiver_of(key, sock);
    }
    if !tp.write_queue.is_empty() && waits_for_ack(tp) {
        drop(g);
        sk.stack.receive_now();
    }
    sent
}

/// Whether Nagle holds back what is left, until the last small segment is acknowledged. The acknowledgement may be in a
/// device, where no thread that is about to run looks for it; in Linux the interrupt would have processed it.
#[cold]
fn waits_for_ack(tp: &TcpSock) -> bool {
    tp.nonagle == 0 && nagle_check(tp, true, 0)
}

/// See [`TcpTables::prefetch_entry`](super::lookup::TcpTables::prefetch_entry). Who knows its receiver needs none.
#[inline]
fn prefetch_peer_entry(g: &SockGuard<'_>) -> Option<u64> {
    if !crowd::many() {
        return None;
    }
    let tp = g.private.downcast_ref::<TcpSock>().filter(|tp| tp.receiver.is_none())?;
    tp.net.hashinfo.prefetch_entry(g.stack, &g.common)
}

/// Sends what MSG_MORE held back (tcp_splice_eof).
pub(crate) fn splice_eof(sk: SockRef<'_>) {
    let mut g = sk.lock();
    let Some(cx) = &mut Cx::new(&mut g) else { return };
    if !cx.tp.write_queue.is_empty() {
        let (mss, size_goal) = send_mss(cx, 0);
        let nonagle = cx.tp.nonagle;
        push(cx, 0, mss, nonagle, size_goal);
    }
}

/// When a wait of this call ends: None for never, the present for MSG_DONTWAIT (sock_sndtimeo).
struct Timeo {
    left: Option<Duration>,
}

impl Timeo {
    fn of(g: &SockGuard<'_>, dontwait: bool) -> Timeo {
        Timeo { left: if dontwait { Some(Duration::ZERO) } else { g.common.sndtimeo.get() } }
    }

    /// Sleeps, and subtracts the time slept. EAGAIN: the timeout is over; EINTR.
    fn sleep(&mut self, g: &mut SockGuard<'_>) -> Result<()> {
        if self.left == Some(Duration::ZERO) {
            return Err(Error::Again);
        }
        g.refresh_clock();
        let start = g.now();
        cx!(g).tp.cold_mut().write_pending += 1;
        let slept = g.sleep(Events::OUT, false, self.left.map(|d| start + d));
        // None: the connection was destroyed meanwhile.
        if let Some(cold) = &mut cx!(g).tp.cold {
            cold.write_pending = cold.write_pending.saturating_sub(1);
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(g.now() - start);
        }
        match slept {
            // The caller checks the condition once more before the timeout is reported.
            Err(Error::Again) => {
                self.left = Some(Duration::ZERO);
                Ok(())
            }
            other => other,
        }
    }
}

fn state(g: &SockGuard<'_>) -> State {
    g.sock.state()
}

/// Waits until the handshake is done (sk_stream_wait_connect). EPIPE in a state that leads to no connection, the
/// pending error, EAGAIN, EINTR.
fn wait_connect(g: &mut SockGuard<'_>, timeo: &mut Timeo) -> Result<()> {
    loop {
        g.sock.take_error()?;
        match state(g) {
            State::Established | State::CloseWait => return Ok(()),
            State::SynSent | State::SynRecv => {
                // `write_pending`, which the sleep counts, makes the acknowledgement of the SYN-ACK wait for the data
                // of this call.
                timeo.sleep(g)?;
            }
            _ => return Err(Error::Pipe),
        }
    }
}

/// EPIPE after an error or a shutdown of sending. `failed` then makes a pending error of it.
fn check_send(g: &SockGuard<'_>) -> Result<()> {
    let stopped = g.sock.err.load(Ordering::Relaxed) != 0 || g.sock.send_shutdown();
    if stopped { Err(Error::Pipe) } else { Ok(()) }
}

fn memory_free(g: &mut SockGuard<'_>) -> Result<bool> {
    let cx = Cx::new(&mut *g).ok_or(Error::Io)?;
    Ok(sk_stream_memory_free(&cx, false))
}

/// Waits for room in the send buffer (sk_stream_wait_memory). EPIPE on error or shutdown, EAGAIN, EINTR.
fn wait_memory(g: &mut SockGuard<'_>, timeo: &mut Timeo) -> Result<()> {
    // There is room in the buffer: it was the protocol's memory limit that refused. No event tells when that has room
    // again, so the writer waits for a short time, a random one, so that not all writers retry at once.
    if memory_free(g)? {
        let nap = Duration::from_millis(2 + u64::from(g.stack.entropy.below(200)));
        check_send(g)?;
        let mut short = Timeo { left: Some(timeo.left.map_or(nap, |l| l.min(nap))) };
        short.sleep(g)?;
        if let Some(left) = &mut timeo.left {
            *left = left.saturating_sub(nap);
        }
        return check_send(g);
    }
    loop {
        cx!(g).tp.nospace = true;
        check_send(g)?;
        if memory_free(g)? {
            return Ok(());
        }
        timeo.sleep(g)?;
    }
}

/// Control messages as sock_cmsg_send judges them: those of other levels are not TCP's; of SOL_SOCKET, those whose
/// feature is not switched on are EINVAL. SO_MARK and SO_PRIORITY do not count: a stream's packets have the socket's.
/// Returns the timestamps that the call asks for.
fn check_control(sock: &Sock, txtime: bool, control: &[Control]) -> Result<u32> {
    let mut cookie = Cookie::of(sock);
    for c in control {
        match c {
            Control::Other { level, ty, data } if *level == libc::SOL_SOCKET => match *ty {
                ty if cookie.read(sock, ty, data)? => {}
                libc::SCM_RIGHTS | libc::SCM_CREDENTIALS => {}
                _ => return Err(Error::Inval),
            },
            Control::Malformed => return Err(Error::Inval),
            // A departure time is for datagrams: a stream's packets are not the program's.
            Control::TxTime(_) if txtime => {}
            Control::Timestamp(_) | Control::TimestampNs(_) | Control::RxqOvfl(_) | Control::TxTime(_) => {
                return Err(Error::Inval);
            }
            _ => {}
        }
    }
    Ok(cookie.tsflags)
}

/// Charges for `size` bytes or says no; under pressure the send buffer shrinks to what is in use (sk_wmem_schedule).
pub(super) fn wmem_schedule(cx: &mut Cx<'_>, size: i32) -> bool {
    mem::schedule(cx.stack, cx.sock, cx.sk, size, Kind::Send)
}

/// A new packet at the end of the unsent queue (tcp_stream_alloc_skb, tcp_skb_entail). False: no memory. The first
/// packet of an idle connection is always granted.
fn entail(cx: &mut Cx<'_>) -> bool {
    let size = SKB_OVERHEAD as i32;
    if cx.tp.write_queue.is_empty() && cx.tp.rtx_queue.is_empty() {
        mem::force(cx.sock, cx.sk, size);
    } else if !wmem_schedule(cx, size) {
        cx.sock.proto().enter_memory_pressure(cx.stack, cx.sock.accounts());
        mem::moderate_sndbuf(cx.sock, cx.sk);
        return false;
    }
    let mut skb = Skb::new();
    skb.tcp.seq = cx.tp.write_seq;
    skb.tcp.end_seq = cx.tp.write_seq;
    skb.tcp.flags = ACK;
    if cx.tp.repair {
        skb.tcp.sacked |= sacked::REPAIRED;
    }
    charge_wmem(cx, skb.truesize as i32);
    add_write_queue_tail(cx, skb);
    // A push applies only to data queued before it (tcp_skb_entail).
    cx.tp.nonagle &= !nagle::PUSH;
    slow_start_after_idle_check(cx);
    true
}

/// Frees an empty packet that a writer left behind (tcp_remove_empty_skb).
fn remove_empty_skb(cx: &mut Cx<'_>) {
    if cx.tp.write_queue.back().is_some_and(|s| s.tcp.seq == s.tcp.end_seq)
        && let Some(skb) = cx.tp.write_queue.pop_back()
    {
        if cx.tp.write_queue.is_empty() {
            chrono_stop(cx, Chrono::Busy);
        }
        output::wmem_free_skb(cx, skb);
    }
}

/// The result of one step of copying.
enum Step {
    /// So many bytes joined the queue.
    Copied(usize),
    /// No room, or no memory.
    NoSpace,
    /// The backlog ran: sizes and errors must be looked at again.
    Restart,
}

/// Whether the packet at the end of the unsent queue takes bytes of this call: a packet completes calls of one
/// [`ZeroCopy`] only (skb_zcopy_set).
fn takes_call(cx: &Cx<'_>, zerocopy: Option<&ZeroCopy>) -> bool {
    let Some(zc) = zerocopy else { return true };
    cx.tp.write_queue.back().and_then(|s| s.zerocopy.as_ref()).is_none_or(|other| other.same(zc))
}

/// Appends a run of the program's bytes to the last packet, or to a new one. `first`: nothing of this call was queued
/// before; `zerocopy`: of a MSG_ZEROCOPY call.
fn append(
    g: &mut SockGuard<'_>,
    msg: &mut SendMsg<'_>,
    size_goal: u32,
    since_flush: &mut u32,
    first: bool,
    zerocopy: Option<&ZeroCopy>,
) -> Result<Step> {
    let room = |cx: &Cx<'_>| match cx.tp.write_queue.back() {
        Some(s) if !s.tcp.eor => (size_goal as usize).saturating_sub(s.len()),
        _ => 0,
    };
    let full = |cx: &Cx<'_>| {
        cx.tp.write_queue.back().is_none_or(|s| s.frags().len() >= MAX_SKB_FRAGS) || !takes_call(cx, zerocopy)
    };
    let mut cx = Cx::new(&mut *g).ok_or(Error::Io)?;
    if room(&cx) == 0 || full(&cx) {
        if room(&cx) > 0 && full(&cx) {
            // The packet has the greatest number of fragments, or bytes of another call: it takes no more.
            mark_push(cx.tp);
        }
        if !sk_stream_memory_free(&cx, false) {
            return Ok(Step::NoSpace);
        }
        if *since_flush >= FLUSH_EVERY {
            *since_flush = 0;
            if g.flush_backlog() {
                return Ok(Step::Restart);
            }
            cx = Cx::new(&mut *g).ok_or(Error::Io)?;
        }
        if !entail(&mut cx) {
            return Ok(Step::NoSpace);
        }
        *since_flush += 1;
    }
    let cx = &mut cx;
    let left = msg.remaining();
    let have = cx.tp.write_queue.back().map_or(0, |s| s.len());
    let room = (size_goal as usize).saturating_sub(have).max(1);
    let want = left.min(room);
    let chunk = msg.chunk(want);
    if chunk.len() < want && zerocopy.is_none() {
        // Cut by the end of a buffer, or by memory that is not there: then nothing of this piece is taken.
        msg.begins(want)?;
    }
    if chunk.is_empty() {
        return if msg.faulted() { Err(Error::Fault) } else { Ok(Step::Copied(0)) };
    }
    // One page for all of it. For many small writes the page size doubles each time, so that a packet has few pages.
    let hint = want.max(have.min(room));
    if !wmem_schedule(cx, chunk.len() as i32) {
        return Ok(Step::NoSpace);
    }
    let Some(skb) = cx.tp.write_queue.back_mut() else { return Ok(Step::NoSpace) };
    let (before, truesize) = (skb.len(), skb.truesize);
    if let Some(zc) = zerocopy {
        skb.append_zerocopy(chunk);
        skb.zerocopy = Some(zc.clone());
    } else {
        msg.append_to(skb, chunk, hint);
        // The send buffer is charged by bytes and not by pages, as in Linux, so that SO_SNDBUF lets a program write as
        // much as there.
        skb.truesize = truesize + (skb.len() - before) as u32;
    }
    let (n, charge) = (skb.len() - before, skb.truesize - truesize);
    skb.tcp.end_seq += n as u32;
    skb.tcp.gso_segs = 0;
    if first {
        skb.tcp.flags &= !PSH;
    }
    msg.advance(n);
    skb.tcp.eor |= msg.flags & libc::MSG_EOR != 0 && msg.remaining() == 0;
    adjust_wmem(cx, charge as i32);
    cx.tp.write_seq += n as u32;
    Ok(Step::Copied(n))
}

/// Bytes of a call for [`send_small`], for which the clock need not be read again.
const SMALL: usize = CLOCK_EVERY;

/// The whole of most calls of a request and its answer: few bytes, with nothing special asked for, on a connection
/// where none wait. It does what [`send_any`] does then. None: it is not such a call, and nothing was done.
#[inline]
fn send_small(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Option<usize> {
    const PLAIN: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let n = msg.remaining();
    if !Way::Send.is_open() || msg.flags & !PLAIN != 0 || !msg.control.is_empty() || n == 0 || n > SMALL {
        return None;
    }
    let cx = &mut Cx::new(&mut *g)?;
    let truesize = SKB_OVERHEAD as i32 + n as i32;
    if !matches!(cx.state(), State::Established | State::CloseWait)
        || cx.sk.ip_flags & ip_flag::DEFER_CONNECT != 0
        || cx.tp.repair
        || cx.sock.err.load(Ordering::Relaxed) != 0
        || cx.sock.send_shutdown()
        || cx.sock.tsflags() != 0
        || !cx.tp.write_queue.is_empty()
        // Its memory must be there.
        || cx.sk.forward_alloc < truesize
        || !sk_stream_memory_free(cx, false)
    {
        return None;
    }
    let chunk = msg.chunk(n);
    let (mss, size_goal) = send_mss(cx, 0);
    if chunk.len() < n || size_goal < n as u32 {
        return None;
    }
    Way::Send.taken();
    rate::check_app_limited(cx);
    let mut skb = Skb::new();
    msg.append_to(&mut skb, chunk, n);
    msg.advance(n);
    skb.truesize = truesize as u32;
    skb.tcp.seq = cx.tp.write_seq;
    skb.tcp.end_seq = cx.tp.write_seq + n as u32;
    skb.tcp.flags = ACK | PSH;
    charge_wmem(cx, truesize);
    cx.tp.nonagle &= !nagle::PUSH;
    slow_start_after_idle_check(cx);
    cx.tp.write_seq += n as u32;
    cx.tp.pushed_seq = cx.tp.write_seq;
    let nonagle = cx.tp.nonagle;
    let Err(skb) = xmit_alone(cx, skb, mss, nonagle) else { return Some(n) };
    add_write_queue_tail(cx, skb);
    if cx.tp.rtx_queue.is_empty() {
        // It is not held back to grow (tcp_should_autocork).
        push_pending_frames(cx, mss, nonagle);
    } else {
        push(cx, 0, mss, nonagle, size_goal);
    }
    Some(n)
}

/// The body of [`sendmsg`], for a sock that is owned.
pub(crate) fn sendmsg_locked(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    match send_small(g, msg) {
        Some(n) => Ok(n),
        None => send_any(g, msg),
    }
}

#[inline(never)]
fn send_any(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    let zerocopy = if msg.flags & libc::MSG_ZEROCOPY != 0 && msg.remaining() > 0 && g.common.zerocopy {
        let (sock, cx) = (g.sock, cx!(g));
        let last = cx.tp.write_queue.back().and_then(|s| s.zerocopy.as_ref());
        Some(ZeroCopy::begin(sock, msg.remaining(), last)?)
    } else {
        None
    };
    let sent = send_bytes(g, msg, zerocopy.as_ref());
    if let Some(zc) = zerocopy
        && !matches!(sent, Ok(1..))
    {
        zc.abort(g.sock);
    }
    sent
}

/// What [`send_any`] does once the call's completion is prepared.
fn send_bytes(g: &mut SockGuard<'_>, msg: &mut SendMsg<'_>, zerocopy: Option<&ZeroCopy>) -> Result<usize> {
    let flags = msg.flags;
    let mut copied = 0;
    if flags & libc::MSG_FASTOPEN != 0 || g.common.ip_flags & ip_flag::DEFER_CONNECT != 0 {
        match fastopen::client::sendmsg_fastopen(g, msg, &mut copied) {
            Ok(()) => {}
            // The rest may be sent when the handshake is over. Departure, from reading: interrupted by a signal, Linux
            // returns EINTR and does not tell that these bytes were taken, so that a program sends them twice.
            Err(Error::InProgress | Error::Intr) if copied > 0 => return Ok(copied),
            Err(e) => return Err(failed(cx!(g), e)),
        }
    }
    let in_syn = copied;
    let mut timeo = Timeo::of(g, msg.dontwait());
    let cx = cx!(g);
    rate::check_app_limited(cx);
    // The child of a Fast Open SYN may send before the handshake is over.
    let open = matches!(cx.state(), State::Established | State::CloseWait)
        || cx.state() == State::SynRecv && cx.tp.has_fastopen_rsk();
    let mut repair = cx.tp.repair;
    if !open {
        if let Err(e) = wait_connect(g, &mut timeo) {
            return if copied > 0 { Ok(copied) } else { Err(failed(cx!(g), e)) };
        }
        repair = cx!(g).tp.repair;
    }
    if repair {
        match repair::sendmsg(cx!(g), msg) {
            Ok(None) => {}
            Ok(Some(n)) => return Ok(n),
            Err(e) => return Err(e),
        }
    }
    let tsflags = check_control(g.sock, g.common.txtime.is_some(), &msg.control)?;
    let r = queue_all(g, msg, flags, &mut timeo, &mut copied, zerocopy);
    let cx = cx!(g);
    let (mss, size_goal) = match r {
        Ok(sizes) => sizes,
        Err(e) => {
            remove_empty_skb(cx);
            if copied == 0 {
                return Err(failed(cx, e));
            }
            send_mss(cx, flags)
        }
    };
    if copied > 0 {
        if copied > in_syn {
            tstamp::tx_timestamp(cx, tsflags);
        }
        if copied > CLOCK_EVERY {
            cx.refresh_clock();
        }
        let nonagle = cx.tp.nonagle;
        push(cx, flags, mss, nonagle, size_goal);
    }
    Ok(copied)
}

/// Queues everything, sending meanwhile what is full. `copied`: bytes taken, also when it fails.
fn queue_all(
    g: &mut SockGuard<'_>,
    msg: &mut SendMsg<'_>,
    flags: i32,
    timeo: &mut Timeo,
    copied: &mut usize,
    zerocopy: Option<&ZeroCopy>,
) -> Result<(u32, u32)> {
    let mut since_flush = 0;
    'restart: loop {
        let (mut mss, mut size_goal) = send_mss(cx!(g), flags);
        check_send(g)?;
        while msg.remaining() > 0 {
            match append(g, msg, size_goal, &mut since_flush, *copied == 0, zerocopy)? {
                Step::Restart => continue 'restart,
                Step::NoSpace => {
                    let cx = cx!(g);
                    cx.tp.nospace = true;
                    if *copied > 0 {
                        cx.refresh_clock();
                        push(cx, flags & !libc::MSG_MORE, mss, nagle::PUSH, size_goal);
                    }
                    wait_memory(g, timeo)?;
                    (mss, size_goal) = send_mss(cx!(g), flags);
                }
                Step::Copied(n) => {
                    *copied += n;
                    if msg.remaining() == 0 {
                        return Ok((mss, size_goal));
                    }
                    let cx = cx!(g);
                    let Some(skb) = cx.tp.write_queue.back_mut() else { continue };
                    if (skb.len() as u32) < size_goal || flags & libc::MSG_OOB != 0 || cx.tp.repair {
                        continue;
                    }
                    if forced_push(cx.tp) {
                        mark_push(cx.tp);
                        cx.refresh_clock();
                        push_pending_frames(cx, mss, nagle::PUSH);
                    } else if cx.tp.write_queue.len() == 1 {
                        cx.refresh_clock();
                        push_one(cx, mss);
                    }
                }
            }
        }
        return Ok((mss, size_goal));
    }
}

/// The error of a call that took nothing (sk_stream_error): a pending error takes precedence over EPIPE. If a writer
/// found no room although both queues are empty, it wakes other waiting writers, because no acknowledgement will.
fn failed(cx: &mut Cx<'_>, err: Error) -> Error {
    if err == Error::Again && cx.tp.write_queue.is_empty() && cx.tp.rtx_queue.is_empty() {
        cx.tp.nospace = false;
        cx.sock.wait.wake(Events::OUT);
        chrono_stop(cx, Chrono::SndbufLimited);
    }
    match err {
        Error::Pipe => cx.sock.take_error().err().unwrap_or(Error::Pipe),
        other => other,
    }
}

#[cfg(test)]
mod tests;

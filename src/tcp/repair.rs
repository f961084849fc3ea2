//! TCP_REPAIR: a connection is taken out of a sock and put into another one, in this process or elsewhere, without its
//! peer noticing. In repair mode sequence numbers, options and window are read and set, what is written joins one of
//! the two queues as if it had been received or sent, connect(2) establishes and close(2) forgets without a packet.
//! Above: `sockopt`, `sendmsg`, `recvmsg`, `xmit`. Below: `reassembly`. Linux: the parts of tcp.c under tp->repair;
//! docs/repair.md.

use super::output::FIN;
use super::probe::send_window_probe;
use super::sack::SACK_SEEN;
use super::tcb::{Cx, TcpSock};
use super::xmit::{event_new_data_sent, set_tso_segs};
use super::{connect, mtu_probe, prune, reassembly};
use crate::base::error::{Error, Result};
use crate::counters::Mib;
use crate::sock::flag;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::skb::{MAX_SKB_FRAGS, Skb};
use crate::sock::sockopt::{int, put};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::wire::seq::{SeqNum, WindowShift};

/// The queue that a read, a write and TCP_QUEUE_SEQ are about (TCP_REPAIR_QUEUE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Queue {
    /// TCP_NO_QUEUE: reads and writes are refused.
    #[default]
    None = 0,
    /// TCP_RECV_QUEUE.
    Recv = 1,
    /// TCP_SEND_QUEUE.
    Send = 2,
}

/// Values of TCP_REPAIR.
mod mode {
    pub(super) const ON: i32 = 1;
    /// Off; a probe asks the peer for its window.
    pub(super) const OFF: i32 = 0;
    /// Off, in silence.
    pub(super) const OFF_NO_WP: i32 = -1;
}

/// Options that TCP_REPAIR_OPTIONS restores, by their kinds in a TCP header.
mod kind {
    pub(super) const MSS: u32 = 2;
    pub(super) const WINDOW: u32 = 3;
    pub(super) const SACK_PERM: u32 = 4;
    pub(super) const TIMESTAMP: u32 = 8;
}

/// Bytes of struct tcp_repair_opt and of struct tcp_repair_window.
const OPT_LEN: usize = 8;
const WINDOW_LEN: usize = 20;

/// Whether the program may repair the sock. EPERM: a listener, or no CAP_NET_ADMIN (tcp_can_repair_sock).
pub(super) fn may(cx: &Cx<'_>) -> Result<()> {
    let may = cx.state() != State::Listen && cx.stack.net_admin();
    if may { Ok(()) } else { Err(Error::Perm) }
}

/// TCP_REPAIR. EPERM: as `may` has it; EINVAL for an unknown value.
pub(super) fn set_mode(cx: &mut Cx<'_>, val: i32) -> Result<()> {
    may(cx)?;
    if !matches!(val, mode::ON | mode::OFF | mode::OFF_NO_WP) {
        return Err(Error::Inval);
    }
    let on = val == mode::ON;
    cx.tp.repair = on;
    if on {
        cx.tp.options_mut().repair_queue = Queue::None;
    }
    // SK_FORCE_REUSE, SK_NO_REUSE: what SO_REUSEADDR said before is forgotten.
    cx.sk.force_reuse = on;
    cx.sk.set_flag(flag::REUSE, false);
    connect::rehold(cx);
    if val == mode::OFF {
        send_window_probe(cx);
    }
    Ok(())
}

/// TCP_REPAIR_QUEUE. EPERM outside of repair, EINVAL for a queue that is not there.
pub(super) fn set_queue(cx: &mut Cx<'_>, val: i32) -> Result<()> {
    if !cx.tp.repair {
        return Err(Error::Perm);
    }
    cx.tp.options_mut().repair_queue = match val {
        0 => Queue::None,
        1 => Queue::Recv,
        2 => Queue::Send,
        _ => return Err(Error::Inval),
    };
    Ok(())
}

/// What TCP_REPAIR_QUEUE reads. EINVAL outside of repair.
pub(super) fn queue(tp: &TcpSock) -> Result<i32> {
    if tp.repair { Ok(tp.options().repair_queue as i32) } else { Err(Error::Inval) }
}

/// TCP_QUEUE_SEQ: where the chosen queue begins. EPERM once there is a connection, or something is in the queue;
/// EINVAL without a queue. As in Linux it is the choice that counts, not whether repair is still on.
pub(super) fn set_seq(cx: &mut Cx<'_>, val: i32) -> Result<()> {
    if cx.state() != State::Close {
        return Err(Error::Perm);
    }
    let seq = SeqNum(val as u32);
    match cx.tp.options().repair_queue {
        Queue::None => return Err(Error::Inval),
        Queue::Send if !cx.tp.rtx_queue.is_empty() => return Err(Error::Perm),
        Queue::Send => cx.tp.write_seq = seq,
        Queue::Recv if cx.tp.rcv_nxt != cx.tp.copied_seq => return Err(Error::Perm),
        Queue::Recv => (cx.tp.rcv_nxt, cx.tp.copied_seq) = (seq, seq),
    }
    Ok(())
}

/// What TCP_QUEUE_SEQ reads: where the chosen queue ends. EINVAL without a queue.
pub(super) fn seq(tp: &TcpSock) -> Result<i32> {
    match tp.options().repair_queue {
        Queue::None => Err(Error::Inval),
        Queue::Send => Ok(tp.write_seq.0 as i32),
        Queue::Recv => Ok(tp.rcv_nxt.0 as i32),
    }
}

/// TCP_REPAIR_OPTIONS: what the handshake had agreed on. EINVAL outside of repair; EPERM but on a connection that has
/// sent nothing yet; EFBIG: a window shift beyond 14. What comes before a bad one stays (tcp_repair_options_est).
pub(super) fn set_options(cx: &mut Cx<'_>, value: &[u8]) -> Result<()> {
    int(value)?;
    if !cx.tp.repair {
        return Err(Error::Inval);
    }
    if cx.state() != State::Established || cx.tp.bytes_sent != 0 {
        return Err(Error::Perm);
    }
    for opt in value.chunks_exact(OPT_LEN) {
        let word = |at: usize| int(&opt[at..]).map(|n| n as u32);
        let (code, val) = (word(0)?, word(4)?);
        match code {
            kind::MSS => {
                cx.tp.rx_opt.mss_clamp = val as u16;
                mtu_probe::init(cx);
            }
            kind::WINDOW => {
                let shift = |n: u32| u8::try_from(n).ok().and_then(WindowShift::new).ok_or(Error::FBig);
                let (snd, rcv) = (shift(val & 0xffff)?, shift(val >> 16)?);
                let r = &mut cx.tp.rx_opt;
                (r.snd_wscale, r.rcv_wscale, r.wscale_ok) = (snd, rcv, true);
            }
            kind::SACK_PERM | kind::TIMESTAMP if val != 0 => return Err(Error::Inval),
            kind::SACK_PERM => cx.tp.rx_opt.sack_ok |= SACK_SEEN,
            kind::TIMESTAMP => cx.tp.rx_opt.tstamp_ok = true,
            _ => {}
        }
    }
    Ok(())
}

/// TCP_TIMESTAMP: what our timestamp clock shows now, so that it goes on where the connection's last one stood. EPERM
/// outside of repair.
pub(super) fn set_timestamp(cx: &mut Cx<'_>, val: i32) -> Result<()> {
    if !cx.tp.repair {
        return Err(Error::Perm);
    }
    cx.tp.tsoffset = (val as u32).wrapping_sub(cx.now.as_millis() as u32);
    Ok(())
}

/// What TCP_TIMESTAMP reads. The lowest bit is clear: it says that the clock counts microseconds, as that of a kernel's
/// route with `features tcp_usec_ts` does.
pub(super) fn timestamp(cx: &Cx<'_>) -> i32 {
    ((cx.now.as_millis() as u32).wrapping_add(cx.tp.tsoffset) & !1) as i32
}

/// TCP_REPAIR_WINDOW: struct tcp_repair_window. EPERM outside of repair, EINVAL for another length or a window that
/// cannot have been (tcp_repair_set_window).
pub(super) fn set_window(cx: &mut Cx<'_>, value: &[u8]) -> Result<()> {
    int(value)?;
    let tp = &mut *cx.tp;
    if !tp.repair {
        return Err(Error::Perm);
    }
    if value.len() != WINDOW_LEN {
        return Err(Error::Inval);
    }
    let word = |i: usize| int(&value[i * 4..]).map(|n| n as u32);
    let (snd_wl1, snd_wnd, max_window) = (SeqNum(word(0)?), word(1)?, word(2)?);
    let (rcv_wnd, rcv_wup) = (word(3)?, SeqNum(word(4)?));
    if max_window < snd_wnd || snd_wl1.after(tp.rcv_nxt + rcv_wnd) || rcv_wup.after(tp.rcv_nxt) {
        return Err(Error::Inval);
    }
    (tp.snd_wl1, tp.snd_wnd, tp.max_window) = (snd_wl1, snd_wnd, max_window);
    (tp.rcv_wnd, tp.rcv_wup) = (rcv_wnd, rcv_wup);
    // Nothing wider was offered, as far as is known here.
    tp.rcv_mwnd_seq = rcv_wup + rcv_wnd;
    tp.max_rcv_wnd = tp.max_rcv_wnd.max(rcv_wnd);
    Ok(())
}

/// What TCP_REPAIR_WINDOW reads (tcp_repair_get_window). EINVAL for another length, EPERM outside of repair.
pub(super) fn window(tp: &TcpSock, value: &mut [u8]) -> Result<usize> {
    if value.len() != WINDOW_LEN {
        return Err(Error::Inval);
    }
    if !tp.repair {
        return Err(Error::Perm);
    }
    let words = [tp.snd_wl1.0, tp.snd_wnd, tp.max_window, tp.rcv_wnd, tp.rcv_wup.0];
    Ok(put(value, &words.map(u32::to_ne_bytes).concat()))
}

/// A write in repair mode: None where it goes on as any other, into the send queue. EINVAL without a queue.
pub(super) fn sendmsg(cx: &mut Cx<'_>, msg: &mut SendMsg<'_>) -> Result<Option<usize>> {
    match cx.tp.options().repair_queue {
        Queue::None => Err(Error::Inval),
        Queue::Send => Ok(None),
        Queue::Recv => send_rcvq(cx, msg).map(Some),
    }
}

/// Puts bytes into the receive queue, at most a packet's; returns how many. ENOBUFS: beyond the buffer; EFAULT
/// (tcp_send_rcvq).
fn send_rcvq(cx: &mut Cx<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    const PAGE: usize = 4096;
    let size = msg.remaining();
    if size == 0 {
        return Ok(0);
    }
    // Whole pages, as many as a packet has fragments, and what remains of the size in its head.
    let n = (size / PAGE).min(MAX_SKB_FRAGS) * PAGE + size % PAGE;
    let readable = msg.begins(n);
    let mut skb = Skb::new();
    while readable.is_ok() && skb.len() < n {
        let chunk = msg.chunk(n - skb.len());
        if chunk.is_empty() {
            return Err(Error::Fault);
        }
        msg.append_to(&mut skb, chunk, n);
        msg.advance(chunk.len());
    }
    skb.charge_received(n);
    if !prune::try_rmem_schedule(cx, &skb) {
        cx.stack.mib.inc(Mib::TcpExtTCPRcvQDrop);
        cx.sock.wait.wake(Events::IN);
        return Err(Error::NoBufs);
    }
    readable?;
    skb.tcp.seq = cx.tp.rcv_nxt;
    skb.tcp.end_seq = cx.tp.rcv_nxt + n as u32;
    skb.tcp.ack_seq = cx.tp.snd_una - 1;
    reassembly::queue_rcv(cx, skb);
    Ok(n)
}

/// A read in repair mode: None where it goes on as any other, in the receive queue. EPERM: it does not only look
/// (MSG_PEEK); EINVAL without a queue.
pub(super) fn recvmsg(cx: &mut Cx<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<Option<usize>> {
    if msg.flags & libc::MSG_PEEK == 0 {
        return Err(Error::Perm);
    }
    match cx.tp.options().repair_queue {
        Queue::None => Err(Error::Inval),
        Queue::Send => peek_sndq(cx.tp, msg).map(Some),
        Queue::Recv => Ok(None),
    }
}

/// Copies what is not acknowledged, sent or not, as far as there is room; returns the bytes that the queues have, which
/// may be more. EFAULT (tcp_peek_sndq).
fn peek_sndq(tp: &TcpSock, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
    let mut all = 0;
    for skb in tp.rtx_queue.iter().chain(tp.write_queue.iter()) {
        if msg.remaining() > 0 {
            msg.put_skb(skb, 0, skb.len());
        }
        if msg.faulted() {
            return Err(Error::Fault);
        }
        all += skb.len();
    }
    Ok(all)
}

/// Whether what is in the unsent queue counts as sent, without the network.
#[inline]
pub(super) fn sends_nothing(tp: &TcpSock) -> bool {
    tp.repair && tp.options().repair_queue == Queue::Send
}

/// The head of the unsent queue counts as sent now: the retransmission timer runs for it. Returns its segments.
pub(super) fn count_as_sent(cx: &mut Cx<'_>, mut skb: Skb, mss: u32) -> u32 {
    cx.tp.wstamp = cx.now;
    skb.tcp.mstamp = cx.now;
    let segs = if skb.tcp.gso_segs == 0 { set_tso_segs(&mut skb, mss) } else { u32::from(skb.tcp.gso_segs) };
    debug_assert!(!skb.is_empty() || skb.tcp.flags & FIN != 0, "a packet without a sequence number");
    let (len, end) = (skb.len() as u64, skb.tcp.end_seq);
    event_new_data_sent(cx, skb);
    if len < u64::from(segs) * u64::from(mss) {
        cx.tp.snd_sml = end;
    }
    segs
}

//! A server's part: whether the data of a SYN is taken, and the child that exists before the handshake's last
//! acknowledgement (RFC 7413 §4.2.2). Until then the child keeps the request: its timer sends the SYN-ACK again, and
//! every segment is checked by the request's numbers first. Above: `handshake` (SYNs), `input`, `timer`. Linux:
//! tcp_try_fastopen, tcp_fastopen_create_child, tcp_fastopen_synack_timer, tcp_check_req with `fastopen`.

use super::cookie::Made;
use super::queue::FastOpenQueue;
use super::{PassiveRequest, bit, keys_of, no_cookie};
use crate::base::env::Instant;
use crate::counters::{DropReason, Mib};
use crate::ip;
use crate::sock::dst::Dst;
use crate::sock::mem;
use crate::sock::packet::PacketInfo;
use crate::sock::skb::Skb;
use crate::sock::state::State;
use crate::tcp::auth;
use crate::tcp::challenge::{may_challenge, oow_rate_limited, reset};
use crate::tcp::check_req::{self, stamp_of, unacceptable};
use crate::tcp::ecn;
use crate::tcp::input::{self, Seg};
use crate::tcp::listener::{self, Request};
use crate::tcp::sock_ops::{self, Opened};
use crate::tcp::synack::{self, SynAck};
use crate::tcp::tcb::{CaState, Cx, XmitTimer};
use crate::tcp::timewait::in_window;
use crate::tcp::{proto, rcv, reassembly, recovery, timer, undo, window};
use crate::wire::seq::SeqNum;
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::{FastOpenCookie, TcpOptions};
use std::sync::Arc;

/// What becomes of a SYN.
pub(in crate::tcp) struct Decision {
    /// The data is taken, by a child that counts in this queue.
    pub open: Option<Arc<FastOpenQueue>>,
    /// The cookie is of the backup key.
    pub alt_key: bool,
    /// The option of the SYN-ACK.
    pub cookie: Option<FastOpenCookie>,
}

/// listen(2) with this backlog: by a bit of the sysctl it enables Fast Open, without TCP_FASTOPEN.
pub(in crate::tcp) fn listen(cx: &mut Cx<'_>, backlog: u32) {
    let both = bit::SERVER_WO_SOCKOPT1 | bit::SERVER_ENABLE;
    let set = cx.tp.fastopen().and_then(|f| f.queue.as_ref()).map_or(0, |q| q.max_qlen());
    if cx.stack.sysctl.tcp_fastopen() & both == both && set == 0 {
        tune(cx, backlog);
    }
    if let Some(queue) = cx.tp.fastopen().and_then(|f| f.queue.as_ref()) {
        queue.start();
    }
}

/// The listener ends.
pub(in crate::tcp) fn unlisten(cx: &Cx<'_>) {
    if let Some(queue) = cx.tp.fastopen().and_then(|f| f.queue.as_ref()) {
        queue.stop();
    }
}

/// Bounds the queue: TCP_FASTOPEN.
pub(in crate::tcp) fn tune(cx: &mut Cx<'_>, most: u32) {
    cx.tp.net.fastopen.init_key_once(cx.stack);
    let listening = cx.state() == State::Listen;
    let somaxconn = cx.stack.sysctl.somaxconn().max(0) as u32;
    let queue = cx.tp.fastopen_mut().queue.get_or_insert_default();
    queue.tune(most, somaxconn);
    if listening {
        queue.go_on();
    }
}

/// Whether the data of a SYN is taken, and what the SYN-ACK says (tcp_try_fastopen).
pub(in crate::tcp) fn try_fastopen(cx: &Cx<'_>, skb: &Skb, info: &PacketInfo, opt: &TcpOptions, dst: &Dst) -> Decision {
    let mut d = Decision { open: None, alt_key: false, cookie: None };
    let (sysctl, mib) = (&cx.stack.sysctl, &cx.stack.mib);
    let bytes = rcv::option_bytes(skb);
    let asked = opt.fastopen.as_ref().map(|f| (f.cookie.bytes(bytes), f.experimental));
    if asked.is_some_and(|(cookie, _)| cookie.is_empty()) {
        mib.inc(Mib::TcpExtTCPFastOpenCookieReqd);
    }
    let syn_data = skb.tcp.end_seq != skb.tcp.seq + 1;
    if sysctl.tcp_fastopen() & bit::SERVER_ENABLE == 0 || !(syn_data || asked.is_some()) {
        return d;
    }
    let Some(queue) = cx.tp.fastopen().and_then(|f| f.queue.as_ref()) else { return d };
    if !queue.has_room(cx.now, || mib.inc(Mib::TcpExtTCPFastOpenListenOverflow)) {
        return d;
    }
    if no_cookie(sysctl, cx.tp, dst.metrics.fastopen_no_cookie, bit::SERVER_COOKIE_NOT_REQD) {
        d.open = Some(queue.clone());
        return d;
    }
    let (Some((cookie, experimental)), Some(keys)) = (asked, keys_of(cx)) else { return d };
    let made = match cookie {
        [] => Made::Unknown,
        cookie => keys.made(cookie, info.src, info.dst),
    };
    d.alt_key = made == Made::Backup;
    if made != Made::Primary {
        // What the client should have sent, and may send the next time.
        d.cookie = Some(keys.cookie(info.src, info.dst).in_form(experimental));
    }
    if made != Made::Unknown {
        d.open = Some(queue.clone());
    } else if !cookie.is_empty() {
        mib.inc(Mib::TcpExtTCPFastOpenPassiveFail);
    }
    d
}

/// The rest of a child of a Fast Open SYN: it keeps the request, has the SYN's data, and sends the SYN-ACK, whose timer
/// is the child's (tcp_fastopen_create_child).
pub(in crate::tcp) fn open_child(
    c: &mut Cx<'_>,
    mut req: Box<Request>,
    queue: Arc<FastOpenQueue>,
    skb: &Skb,
    cookie: Option<FastOpenCookie>,
) {
    queue.join();
    // The window of a SYN is never scaled (RFC 7323 §2.2).
    c.tp.snd_wnd = u32::from(skb.tcp.window().0);
    c.tp.max_window = c.tp.snd_wnd;
    req.timeout_us = sock_ops::timeout_init(c, None);
    let first = timer::micros(req.timeout_us);
    timer::reset_xmit_timer(c, XmitTimer::Retrans, first, false);
    input::init_transfer(c, Opened::Passively, rcv::option_bytes(skb));
    add_skb(c, skb);
    req.rcv_nxt = c.tp.rcv_nxt;
    // The SYN-ACK offers its window from behind the data.
    let nxt = c.tp.rcv_nxt;
    window::begin(c.tp, nxt);
    // If it is lost, the timer sends it again.
    synack::send_synack(c, &mut req, SynAck::Normal(cookie));
    c.tp.fastopen_mut().rsk = Some(PassiveRequest { req, queue });
}

/// The data of a SYN or a SYN-ACK is received. `rcv_nxt` is behind the SYN (tcp_fastopen_add_skb).
pub(in crate::tcp) fn add_skb(cx: &mut Cx<'_>, syn: &Skb) {
    if syn.tcp.end_seq == cx.tp.rcv_nxt {
        return;
    }
    let mut skb = syn.share();
    skb.rx = None;
    // The sock was made with the SYN counted.
    cx.tp.segs_in = 0;
    proto::count_in(cx, &skb);
    if !skb.pull(syn.tcp.header_len()) {
        return cx.stack.mib.drop(DropReason::PktTooSmall);
    }
    reassembly::charge(cx, &mut skb);
    mem::force(cx.sock, cx.sk, skb.truesize as i32);
    skb.tcp.seq += 1;
    skb.tcp.flags &= !(TcpFlags::SYN.bits());
    let fin = skb.tcp.flags & TcpFlags::FIN.bits() != 0;
    let len = skb.len() as u64;
    reassembly::queue_rcv(cx, skb);
    cx.tp.fastopen_mut().syn_data_acked = true;
    cx.tp.bytes_received = len;
    if fin {
        reassembly::fin(cx);
    }
}

/// Runs `f` with the child's request, which is out of the child meanwhile.
fn with_request<R>(cx: &mut Cx<'_>, f: impl FnOnce(&mut Cx<'_>, &mut Request) -> R) -> Option<R> {
    let mut rsk = cx.tp.fastopen_if_any()?.rsk.take()?;
    let r = f(cx, &mut rsk.req);
    cx.tp.fastopen_mut().rsk = Some(rsk);
    Some(r)
}

/// What [`check_req`] decides.
enum Check {
    /// The segment is processed as one of the child.
    Pass,
    /// It is not; it was answered.
    Drop,
    /// A valid reset.
    Reset,
}

/// A segment for a child whose handshake is not over, by the request's numbers. False: it was answered and is to be
/// dropped. A valid reset ends the child (the part of `check_req::check_req` for Fast Open).
pub(in crate::tcp) fn check_req(cx: &mut Cx<'_>, seg: &Seg, opt: &TcpOptions, skb: &Skb) -> bool {
    match with_request(cx, |cx, req| check(cx, req, seg, opt, skb)) {
        None | Some(Check::Pass) => true,
        Some(Check::Drop) => false,
        Some(Check::Reset) => {
            remove(cx, true);
            reset(cx);
            cx.stack.mib.drop(DropReason::TcpReset);
            false
        }
    }
}

fn check(cx: &mut Cx<'_>, req: &mut Request, seg: &Seg, opt: &TcpOptions, skb: &Skb) -> Check {
    let (stack, now) = (cx.stack, cx.now);
    let signer = auth::request_key(cx.tp, req, skb);
    let mut flags = seg.flags;
    let rst = flags.contains(TcpFlags::RST);
    let age = listener::req_timeout(cx, req.timeout_us, req.num_timeout).as_secs() as u32;
    let mut stamp = stamp_of(stack, req, opt, age, now.as_secs() as u32, rst);
    if let Some(stamp) = &mut stamp {
        // The child has sent data with later timestamps than the SYN-ACK's.
        stamp.bad_echo = false;
    }
    let paws = stamp.as_ref().is_some_and(|s| s.paws);
    let kind = flags.bits() & (TcpFlags::RST | TcpFlags::SYN | TcpFlags::ACK).bits();
    if seg.seq == req.rcv_isn && kind == TcpFlags::SYN.bits() && !paws {
        let (len, syn) = skb.tcp.span();
        let mib = Mib::TcpExtTCPACKSkippedSynRecv;
        if !oow_rate_limited(stack, len, syn, now, &mut req.last_oow_ack_ms, mib) {
            ecn::repeated_syn(&mut req.ecn, skb);
            // If it is lost, the timer sends it again.
            rtx_synack(cx, req);
        }
        return Check::Drop;
    }
    let rcv_nxt = req.rcv_nxt;
    if paws || !in_window(seg.seq, seg.end_seq, rcv_nxt, rcv_nxt + req.rcv_wnd.min(0xffff)) {
        unacceptable(stack, req, skb, rst, stamp.as_ref(), now, check_req::as_key(&signer));
        return Check::Drop;
    }
    if rst && seg.seq != rcv_nxt {
        let (last, budget) = req.limits();
        if may_challenge(stack, now, last, budget) {
            check_req::send_ack(stack, req, skb, now, check_req::as_key(&signer));
        }
        stack.mib.drop(DropReason::TcpReset);
        return Check::Drop;
    }
    if let Some(stamp) = stamp.filter(|_| !seg.seq.after(rcv_nxt)) {
        req.ts_recent = stamp.val;
    }
    if seg.seq == req.rcv_isn {
        // The SYN's sequence number lies before the window.
        flags.remove(TcpFlags::SYN);
    }
    if flags.intersects(TcpFlags::RST | TcpFlags::SYN) {
        stack.mib.inc(Mib::TcpAttemptFails);
        if rst {
            return Check::Reset;
        }
        // A SYN in the window may be forged: the connection stays.
        let ip_options = ip::options::of_segment(skb.saved_header.as_deref());
        rcv::reset_from_sock(cx, &skb.tcp, auth::ao_header(cx.tp, skb), &ip_options);
        stack.mib.drop(DropReason::TcpInvalidSyn);
        return Check::Drop;
    }
    if !flags.contains(TcpFlags::ACK) {
        stack.mib.drop(DropReason::TcpFlags);
        return Check::Drop;
    }
    req.ecn.see_option(seg.accecn);
    Check::Pass
}

/// Sends the SYN-ACK again, without a cookie.
fn rtx_synack(cx: &mut Cx<'_>, req: &mut Request) -> bool {
    let sent = synack::rtx_synack(cx, req);
    if sent {
        cx.tp.cold_mut().total_retrans = cx.tp.total_retrans.wrapping_add(1);
    }
    sent
}

/// The final ACK has not come: sends the SYN-ACK again, and nothing else (tcp_fastopen_synack_timer).
pub(in crate::tcp) fn synack_timer(cx: &mut Cx<'_>) {
    cx.stack.mib.inc(Mib::TcpExtTCPTimeouts);
    let most = match cx.tp.options().syn_retries {
        // One more than for a request: a program may use the connection already.
        0 => cx.stack.sysctl.tcp_synack_retries() + 1,
        n => i32::from(n),
    };
    let timeouts = with_request(cx, |_, req| req.num_timeout);
    if timeouts.is_none_or(|n| i32::from(n) >= most) {
        return timer::write_err(cx);
    }
    if cx.tp.retransmits == 1 {
        recovery::enter_loss(cx);
    }
    let next = with_request(cx, |cx, req| {
        rtx_synack(cx, req);
        req.num_timeout = req.num_timeout.saturating_add(1);
        listener::req_timeout(cx, req.timeout_us, req.num_timeout)
    });
    timer::update_rto_stats(cx);
    if cx.tp.retrans_stamp == Instant::ZERO {
        cx.tp.retrans_stamp = cx.now.max(Instant::from_nanos(1));
    }
    if let Some(next) = next {
        timer::reset_xmit_timer(cx, XmitTimer::Retrans, next, false);
    }
}

/// When the SYN-ACK left, if it left once: for the handshake's RTT.
pub(in crate::tcp) fn synack_sent(cx: &mut Cx<'_>) -> Option<Instant> {
    with_request(cx, |_, req| req.snt_synack().filter(|_| req.num_retrans == 0)).flatten()
}

/// The handshake's last acknowledgement has come (tcp_rcv_synrecv_state_fastopen).
pub(in crate::tcp) fn established(cx: &mut Cx<'_>) {
    if cx.tp.ca_state == CaState::Loss && cx.tp.packets_out == 0 {
        // A timestamp may tell that the first SYN-ACK had arrived.
        undo::try_undo_recovery(cx);
    }
    recovery::update_rto_time(cx);
    cx.tp.retransmits = 0;
    undo::retrans_stamp_cleanup(cx.tp);
    remove(cx, false);
    // The timer was the SYN-ACK's; data may be in flight.
    timer::rearm_rto(cx);
}

/// The child is done with its request. `by_rst`: it was reset; if a program has it already, it keeps its place among
/// those that wait (reqsk_fastopen_remove).
#[inline]
pub(in crate::tcp) fn remove(cx: &mut Cx<'_>, by_rst: bool) {
    if cx.tp.has_fastopen_rsk() {
        drop_rsk(cx, by_rst);
    }
}

#[cold]
fn drop_rsk(cx: &mut Cx<'_>, by_rst: bool) {
    if let Some(rsk) = cx.tp.fastopen_if_any().and_then(|f| f.rsk.take()) {
        rsk.queue.leave(cx.now, by_rst && !cx.tp.not_accepted);
    }
}

/// The oldest sequence number that ICMP may quote of a child whose SYN-ACK is out.
pub(in crate::tcp) fn snt_isn(cx: &Cx<'_>) -> Option<SeqNum> {
    cx.tp.fastopen()?.rsk.as_ref().map(|rsk| rsk.req.snt_isn)
}

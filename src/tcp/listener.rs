//! The listener: requests whose SYN-ACK is out, connections that wait for accept. Above: `proto` (listen, accept),
//! `handshake`. Below: `lookup`, the timer wheel. All of it is under the listener's lock; a child is entered from here
//! and never the other way. RFC 9293 §3.10.1. Linux: inet_connection_sock.c, request_sock.c.

use super::auth::RequestAuth;
use super::bhash::Holder;
use super::challenge::ChallengeBudget;
use super::connect::{self};
use super::ecn::EcnRequest;
use super::lookup::{Entry, flow_of, tuple_of};
use super::syncookies::Overflow;
use super::tcb::{Cx, TcpSock};
use super::{close, deferred, fastopen, migrate, set_state, sock_ops, ulp};
use crate::base::env::{Duration, Instant};
use crate::base::error::{Error, Result};
use crate::base::hash::{Tuple, addr128};
use crate::sock::Sock;
use crate::sock::dst::Dst;
use crate::sock::ip_more::PktOptions;
use crate::sock::packet::PacketInfo;
use crate::sock::proto::SockRef;
use crate::sock::reuseport::ReuseGroup;
use crate::sock::skb::{CB_FLOW, Known, Skb};
use crate::sock::state::State;
use crate::stack::{Stack, TimerSlot};
use crate::wire::seq::{SeqNum, WindowShift};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

/// A 4-tuple with its keyed hash, which stands for it in tables, as in `lookup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReqKey {
    pub hash: u64,
    pub tuple: Tuple,
}

impl ReqKey {
    pub(super) fn new(stack: &Stack, tuple: Tuple) -> ReqKey {
        ReqKey { hash: stack.keys.ehash64(&tuple), tuple }
    }

    /// Of a received segment.
    pub(super) fn of(stack: &Stack, skb: &Skb, info: &PacketInfo, (sport, dport): (u16, u16)) -> ReqKey {
        let hash = match skb.tcp.known {
            Known::Nothing => flow_of(stack, info, (sport, dport)),
            _ => skb.cb[CB_FLOW],
        };
        ReqKey { hash, tuple: tuple_of(info, sport, dport) }
    }
}

/// A connection whose SYN-ACK is out (tcp_request_sock).
#[derive(Debug)]
pub(super) struct Request {
    pub saddr: IpAddr,
    pub daddr: IpAddr,
    pub sport: u16,
    pub dport: u16,
    /// Interface the listener is bound to, or a link-local peer needs.
    pub oif: u32,
    pub dst: Arc<Dst>,
    pub rcv_isn: SeqNum,
    /// Behind the SYN, and behind its data if that was taken.
    pub rcv_nxt: SeqNum,
    pub snt_isn: SeqNum,
    /// The peer's MSS, bytes.
    pub mss: u16,
    pub ts_recent: u32,
    pub ts_off: u32,
    /// Transmit hash of the SYN-ACK, and of the connection that comes of it.
    pub txhash: u32,
    pub tstamp_ok: bool,
    pub sack_ok: bool,
    pub wscale_ok: bool,
    pub ecn: EcnRequest,
    /// An ACK came that could not make a connection yet.
    pub acked: bool,
    pub snd_wscale: WindowShift,
    pub rcv_wscale: WindowShift,
    pub rcv_wnd: u32,
    pub window_clamp: u32,
    /// First and last timestamp sent.
    pub tsval: (u32, u32),
    /// When the first SYN-ACK left; zero: none has.
    pub sent: Instant,
    /// When a segment that was not acceptable was answered last, ms; 0: never.
    pub last_oow_ack_ms: u32,
    /// Of TCP-AO: the RNextKeyID and the KeyID of the SYN. None: it was not signed so (used_tcp_ao, ao_keyid,
    /// ao_rcv_next).
    pub ao: Option<(u8, u8)>,
    /// Timeouts, and SYN-ACKs sent again.
    pub num_timeout: u8,
    pub num_retrans: u8,
    /// First RTO of the SYN-ACK, µs.
    pub timeout_us: u32,
    /// Mark of the connection: the listener's, or the SYN's (tcp_fwmark_accept).
    pub mark: u32,
    /// TOS or traffic class of the SYN.
    pub syn_tos: u8,
    /// What few requests have.
    pub cold: Option<Box<RequestCold>>,
    /// Its place among the deadlines.
    pub deadline: Instant,
    pub id: u32,
}

/// What few requests have: allocated when first needed.
#[derive(Debug, Default)]
pub(super) struct RequestCold {
    /// The SYN, with the headers that TCP_SAVE_SYN selects.
    pub saved_syn: Option<Box<[u8]>>,
    /// Option bytes of the SYN, kept where hooks are registered.
    pub syn_options: Option<Box<[u8]>>,
    /// The hooks that the connection has, of those that not all have.
    pub hooks: sock_ops::Chosen,
    /// Headers of the SYN that the connection is told of (ireq_opt pktopts).
    pub pktopts: Option<Box<PktOptions>>,
    /// Challenge ACKs that may still be sent in this second.
    pub challenge: ChallengeBudget,
}

impl RequestCold {
    /// None: there is nothing.
    pub(super) fn boxed(self) -> Option<Box<RequestCold>> {
        let any = self.saved_syn.is_some() || self.syn_options.is_some() || self.pktopts.is_some();
        let any = any || self.hooks.is_some();
        any.then(|| Box::new(self))
    }
}

impl Request {
    /// When the first SYN-ACK left; None: none has.
    pub(super) fn snt_synack(&self) -> Option<Instant> {
        (self.sent != Instant::ZERO).then_some(self.sent)
    }

    /// A SYN-ACK leaves; whether it is the first.
    pub(super) fn synack_leaves(&mut self, now: Instant) -> bool {
        let first = self.snt_synack().is_none();
        if first {
            self.sent = now.max(Instant::from_nanos(1));
        }
        first
    }

    /// The time when a segment that was not acceptable was answered last, and the budget of challenge ACKs.
    pub(super) fn limits(&mut self) -> (&mut u32, &mut ChallengeBudget) {
        (&mut self.last_oow_ack_ms, &mut self.cold.get_or_insert_default().challenge)
    }

    /// Its 4-tuple.
    pub(super) fn tuple(&self) -> Tuple {
        let (saddr, daddr) = (addr128(self.saddr), addr128(self.daddr));
        Tuple { saddr, sport: self.sport, daddr, dport: self.dport }
    }

    /// What its segments are verified by.
    pub(super) fn auth(&self) -> RequestAuth {
        RequestAuth { rcv_isn: self.rcv_isn, snt_isn: self.snt_isn, used_ao: self.ao.is_some() }
    }
}

/// Passes the key of a request on to its table: it is a hash with a secret.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 << 8) | *b as u64;
        }
    }
    fn write_u64(&mut self, h: u64) {
        self.0 = h;
    }
}

/// By the hash of their 4-tuple. A slot is None while its request is in use (`take`).
type Requests = HashMap<u64, Option<Box<Request>>, BuildHasherDefault<Ready>>;

/// Whoever listens, where it may end without a call for the listener, as a program of a stack server may.
pub trait Owner: Debug + Send + Sync {
    /// Whether it is there. Asked with the listener owned: it must not lock a sock, nor wait. Asked for each SYN before
    /// it is answered, but where the queues have no room for its request, so that it has a cookie or is dropped: then
    /// once in a turn of softirq, because the question would be a good part of what a SYN of a flood costs.
    fn lives(&self) -> bool;
}

/// Requests for which a listener keeps memory.
const QUEUES: usize = 64;

/// Listener's queues.
#[derive(Debug, Default)]
pub struct Listener {
    requests: Requests,
    /// Requests by time of their next SYN-ACK, the earliest first; the number makes equal times distinct and keeps them
    /// in order. Entries of requests that have gone, or whose time is another one by now, are passed over.
    deadlines: BinaryHeap<Reverse<(Instant, u32, u64)>>,
    next_id: u32,
    /// Requests that have not timed out yet (young).
    young: usize,
    timer: TimerSlot,
    accept: VecDeque<Arc<Sock>>,
    /// The group that takes over what it leaves: it has ended, and `tcp_migrate_req` is set.
    pub(super) heirs: Option<Arc<ReuseGroup>>,
    /// When SYNs were answered with cookies.
    pub(super) overflow: Overflow,
    /// The way of the last SYN-ACK, looked up without an interface.
    pub(super) route: Option<Arc<Dst>>,
    /// The memory of a request that has become a connection, for the next one.
    spare: Option<Box<Request>>,
    /// None: nobody is to be asked, a listener ends by close(2) and its kin.
    owner: Option<Arc<dyn Owner>>,
    /// The turn of softirq in which the owner was asked last, and lived.
    lived: Option<Instant>,
}

impl Listener {
    /// Requests (listings: sk_max_ack_backlog's peer, the SYN queue).
    pub fn requests_len(&self) -> usize {
        self.requests.len()
    }
    /// Connections that wait for accept.
    pub fn accept_len(&self) -> usize {
        self.accept.len()
    }
    pub(super) fn young(&self) -> usize {
        self.young
    }
    pub(super) fn get(&mut self, key: &ReqKey) -> Option<&mut Request> {
        self.requests.get_mut(&key.hash)?.as_deref_mut()
    }
    /// Takes a request out of its slot for a call that changes the listener as well.
    pub(super) fn take(&mut self, key: &ReqKey) -> Option<Box<Request>> {
        self.requests.get_mut(&key.hash)?.take()
    }
    /// Puts it back.
    pub(super) fn put_back(&mut self, key: &ReqKey, req: Box<Request>) {
        if let Some(slot) = self.requests.get_mut(&key.hash) {
            *slot = Some(req);
        }
    }
    /// Time until a request's next SYN-ACK, and how many were sent again (listings).
    pub(super) fn left(&self, key: &ReqKey, now: Instant) -> Option<(Duration, u8)> {
        self.requests.get(&key.hash)?.as_ref().map(|req| (req.deadline - now, req.num_retrans))
    }
    pub(super) fn has(&self, key: &ReqKey) -> bool {
        !self.requests.is_empty() && self.requests.contains_key(&key.hash)
    }
    pub(super) fn insert(&mut self, key: ReqKey, mut req: Box<Request>, at: Instant) {
        // It wraps: the numbers of requests of one time are near each other.
        self.next_id = self.next_id.wrapping_add(1);
        (req.deadline, req.id) = (at, self.next_id);
        self.young += 1;
        self.deadlines.push(Reverse((at, req.id, key.hash)));
        self.requests.insert(key.hash, Some(req));
    }
    /// Takes another listener's request over, with the time of its next SYN-ACK.
    pub(super) fn adopt(&mut self, key: ReqKey, req: Box<Request>) {
        let (at, old) = (req.deadline, req.num_timeout > 0);
        self.insert(key, req, at);
        if old {
            self.grew_old();
        }
    }
    pub(super) fn remove(&mut self, key: &ReqKey) -> Option<Box<Request>> {
        let req = self.requests.remove(&key.hash)??;
        if req.num_timeout == 0 {
            self.young = self.young.saturating_sub(1);
        }
        if self.requests.is_empty() {
            // After a SYN flood the memory of the queues is given back.
            self.requests.shrink_to(QUEUES);
            self.deadlines.clear();
            self.deadlines.shrink_to(QUEUES);
        } else {
            self.forget_stale();
        }
        Some(req)
    }
    /// Whether an entry of `deadlines` is that of a request, which may be in use.
    fn is_current(requests: &Requests, Reverse((at, id, hash)): &Reverse<(Instant, u32, u64)>) -> bool {
        requests.get(hash).is_some_and(|slot| slot.as_ref().is_none_or(|r| (r.deadline, r.id) == (*at, *id)))
    }
    /// Half of the deadlines, at most, are not a request's.
    fn forget_stale(&mut self) {
        if self.deadlines.len() > QUEUES + 2 * self.requests.len() {
            let requests = &self.requests;
            self.deadlines.retain(|entry| Self::is_current(requests, entry));
        }
    }
    /// The earliest deadline, and whose it is.
    fn first(&mut self) -> Option<(Instant, u64)> {
        while let Some(first) = self.deadlines.peek() {
            if Self::is_current(&self.requests, first) {
                return Some((first.0.0, first.0.2));
            }
            self.deadlines.pop();
        }
        None
    }
    /// Changes the time of a request's next SYN-ACK.
    pub(super) fn postpone(&mut self, key: &ReqKey, at: Instant) {
        if let Some(Some(req)) = self.requests.get_mut(&key.hash) {
            req.deadline = at;
            self.deadlines.push(Reverse((at, req.id, key.hash)));
            self.forget_stale();
        }
    }
    pub(super) fn grew_old(&mut self) {
        self.young = self.young.saturating_sub(1);
    }
    /// The request whose SYN-ACK is due, if one is.
    pub(super) fn due(&mut self, now: Instant) -> Option<ReqKey> {
        let (_, hash) = self.first().filter(|(at, _)| *at <= now)?;
        Some(ReqKey { hash, tuple: self.requests.get(&hash)?.as_ref()?.tuple() })
    }
    /// The requests' 4-tuples (listings).
    pub(super) fn tuples(&self) -> impl Iterator<Item = Tuple> + '_ {
        self.requests.values().flatten().map(|req| req.tuple())
    }
    /// A request in memory of its own, that of one before if there is one.
    pub(super) fn boxed(&mut self, req: Request) -> Box<Request> {
        match self.spare.take() {
            Some(mut spare) => {
                *spare = req;
                spare
            }
            None => Box::new(req),
        }
    }
    /// Keeps the memory of a request that is over.
    pub(super) fn keep(&mut self, mut req: Box<Request>) {
        req.cold = None;
        self.spare = Some(req);
    }
    /// Whether a SYN is to be answered by it still. `crowded`: an answer that the owner gave in this turn of softirq
    /// serves again.
    pub(super) fn is_owned(&mut self, now: Instant, crowded: bool) -> bool {
        let Some(owner) = &self.owner else { return true };
        if crowded && self.lived == Some(now) {
            return true;
        }
        let lives = owner.lives();
        self.lived = lives.then_some(now);
        lives
    }
    pub(super) fn push_accept(&mut self, child: Arc<Sock>) {
        self.accept.push_back(child);
    }
}

/// Arms the listener's timer for the earliest SYN-ACK to send again. One that is armed for earlier stays.
pub(super) fn arm(cx: &mut Cx<'_>) {
    let Some(l) = cx.tp.listener_mut() else { return };
    let Some((at, _)) = l.first() else { return };
    if l.timer.at().is_none_or(|t| at < t) {
        cx.stack.arm_sock(&mut l.timer, cx.sock, deferred::SYNACK_TIMER, at);
    }
}

/// The same for a request that is to be sent again at `at`: mostly the timer is armed for an earlier one.
pub(super) fn arm_for(cx: &mut Cx<'_>, at: Instant) {
    if cx.tp.listener.as_ref().is_none_or(|l| l.timer.at().is_none_or(|armed| at < armed)) {
        arm(cx);
    }
}

/// The timer fired, now or while the listener was owned.
pub(super) fn timer_fired(cx: &mut Cx<'_>) {
    if let Some(l) = cx.tp.listener_mut()
        && l.timer.at().is_some_and(|t| t <= cx.now)
    {
        l.timer.fired();
    }
}

/// Time until a request's next SYN-ACK: its first RTO, doubled for each timeout, at most `tcp_rto_max_ms`.
pub(super) fn req_timeout(cx: &Cx<'_>, first_us: u32, num_timeout: u8) -> Duration {
    let max = super::rtt::rto_max_us(cx);
    let us = u64::from(first_us) << num_timeout.min(20);
    Duration::from_micros(us.min(u64::from(max)))
}

/// listen(2). `backlog` is bounded by `somaxconn` already. EADDRINUSE: the port is taken by a listener, or by socks
/// that do not share it.
pub fn listen(cx: &mut Cx<'_>, backlog: u32) -> Result<()> {
    cx.sk.cold_mut().max_ack_backlog = backlog;
    if cx.state() == State::Listen {
        return Ok(());
    }
    ulp::can_listen(cx.tp)?;
    if cx.tp.bound.is_none() {
        connect::get_port(cx, 0)?;
    }
    let holder = Holder::of(cx.sk, true, false);
    let bound =
        cx.tp.bound.as_ref().and_then(|b| cx.tp.net.hashinfo.bhash.rebind(b, holder)).ok_or(Error::AddrInUse)?;
    cx.tp.bound = Some(bound);
    cx.sk.cold_mut().ack_backlog = 0;
    cx.sk.dst = None;
    cx.tp.ack = Default::default();
    cx.tp.cold_mut().listener = Some(Box::default());
    fastopen::server::listen(cx, backlog);
    set_state(cx, State::Listen);
    cx.tp.net.hashinfo.listen(cx.sock, cx.sk);
    sock_ops::listen(cx);
    Ok(())
}

/// Has `owner` asked before a SYN is answered, until the sock listens no more. EINVAL: it does not listen.
pub fn set_owner(sk: SockRef<'_>, owner: Arc<dyn Owner>) -> Result<()> {
    let mut g = sk.lock();
    let listener = g.private.downcast_mut::<TcpSock>().and_then(TcpSock::listener_mut);
    listener.ok_or(Error::Inval)?.owner = Some(owner);
    Ok(())
}

/// Ends listening: requests are forgotten and connections that nobody accepted are reset, but for those that another
/// listener takes (inet_csk_listen_stop). Process context.
pub(super) fn stop(cx: &mut Cx<'_>) {
    let Some(mut l) = cx.tp.cold.as_mut().and_then(|c| c.listener.take()) else { return };
    cx.stack.timers.cancel(&mut l.timer);
    fastopen::server::unlisten(cx);
    while let Some((_, hash)) = l.first() {
        let Some(req) = l.requests.remove(&hash).flatten() else { continue };
        let key = ReqKey { hash, tuple: req.tuple() };
        if l.heirs.as_deref().is_some_and(|group| migrate::request(cx, group, &key, req)) {
            continue;
        }
        let mine = |e: &Entry| matches!(e, Entry::Request(s, _) if Arc::ptr_eq(s, cx.sock));
        drop(cx.tp.net.hashinfo.remove(key.hash, mine));
    }
    for child in l.accept {
        if l.heirs.as_deref().is_some_and(|group| migrate::child(cx, group, &child)) {
            continue;
        }
        let mut g = child.lock(cx.stack);
        if let Some(mut c) = Cx::new(&mut g) {
            // The error only says that the child is closed already.
            let _ = connect::disconnect(&mut c);
            close::orphan(&mut c);
            close::destroy(&mut c);
        }
    }
    cx.sk.cold_mut().ack_backlog = 0;
}

/// accept(2): the oldest connection, finished or of a Fast Open SYN. EINVAL: not listening; EAGAIN: none, and not
/// waiting or the receive timeout is over; EINTR.
pub fn accept(sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>> {
    let child = crate::sock::accept::accept(sk, nonblock, |g| {
        let tp = g.private.downcast_mut::<TcpSock>()?;
        let child = tp.listener_mut()?.accept.pop_front()?;
        g.common.cold_mut().ack_backlog -= 1;
        // With the listener owned: who has the child is never in doubt.
        if let Some(tp) = child.lock(g.stack).private.downcast_mut::<TcpSock>() {
            tp.not_accepted = false;
        }
        Some(child)
    })?;
    Ok(child)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_takes_at_most_160_bytes_and_40_in_the_listener_s_tables() {
        assert!(size_of::<super::Request>() <= 160);
        // A slot of `requests`, and one of `deadlines`.
        assert_eq!(
            (size_of::<(u64, Option<Box<super::Request>>)>(), size_of::<(super::Instant, u32, u64)>()),
            (16, 24)
        );
    }
}

//! Leases of IPv6 flow labels (IPV6_FLOWLABEL_MGR), and where the label of a packet comes from: the name of a call, the
//! socket's association, a control message, or the flow's hash. Above: `sockopt`, `datagram`, TCP. Linux:
//! net/ipv6/ip6_flowlabel.c, ip6_make_flowlabel. RFC 6437, RFC 3697.
//!
//! Anyone may send any label until somebody has one to himself; then a label that a socket names must be leased to it.
//! A label outlives its last lease by its linger time, so that the flow that had it ends in the network first.

use super::{net, txcontrol};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::base::hash::{Tuple, addr128};
use crate::sock::ip_more::TxHeaders;
use crate::sock::sockopt::put;
use crate::sock::{SockCommon, SockGuard, cmsg, ip_flag};
use crate::stack::Stack;
use crate::sys::lock::Mutex;
use crate::sys::{thread, unix};
use crate::wire::ipv6::FLOWINFO;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The bits of flow information that are a label (IPV6_FLOWLABEL_MASK).
const LABEL: u32 = 0xf_ffff;
/// Labels of hashes, where `flowlabel_state_ranges` keeps them apart from leased ones (IPV6_FLOWLABEL_STATELESS_FLAG).
const STATELESS: u32 = 0x8_0000;

/// Seconds that a label is kept at least, and at most without CAP_NET_ADMIN.
const MIN_LINGER: u16 = 6;
const MAX_LINGER: u16 = 150;
/// Labels of one socket, and of a stack; the owner of the stack may have all of them (FL_MAX_PER_SOCK, FL_MAX_SIZE).
const MAX_OF_SOCKET: usize = 32;
const MAX: usize = 4096;

/// IPV6_FL_A_*.
mod action {
    pub(super) const GET: u8 = 0;
    pub(super) const PUT: u8 = 1;
    pub(super) const RENEW: u8 = 2;
}

/// IPV6_FL_F_*.
mod flags {
    pub(super) const CREATE: u16 = 1;
    pub(super) const EXCL: u16 = 2;
    pub(super) const REFLECT: u16 = 4;
    pub(super) const REMOTE: u16 = 8;
}

/// IPV6_FL_S_*: whom a label is shared with.
mod share {
    pub(super) const NONE: u8 = 0;
    pub(super) const EXCL: u8 = 1;
    pub(super) const PROCESS: u8 = 2;
    pub(super) const USER: u8 = 3;
    pub(super) const ANY: u8 = 255;
}

/// Bits of `flowlabel_reflect`.
const REFLECT_ESTABLISHED: i32 = 1;
const REFLECT_RESETS: i32 = 2;
const REFLECT_ECHO_REPLIES: i32 = 4;

/// struct in6_flowlabel_req.
const REQUEST_LEN: usize = 32;
struct Request {
    dst: Ipv6Addr,
    label: u32,
    action: u8,
    share: u8,
    flags: u16,
    expires: u16,
    linger: u16,
}

impl Request {
    fn read(value: &[u8]) -> Result<Request> {
        let b: &[u8; REQUEST_LEN] = value.first_chunk().ok_or(Error::Inval)?;
        let [dst @ .., l0, l1, l2, l3, action, share, f0, f1, e0, e1, g0, g1, _, _, _, _] = *b;
        Ok(Request {
            dst: Ipv6Addr::from(dst),
            label: u32::from_be_bytes([l0, l1, l2, l3]),
            action,
            share,
            flags: u16::from_ne_bytes([f0, f1]),
            expires: u16::from_ne_bytes([e0, e1]),
            linger: u16::from_ne_bytes([g0, g1]),
        })
    }

    fn write(&self) -> [u8; REQUEST_LEN] {
        let mut b = [0; REQUEST_LEN];
        b[..16].copy_from_slice(&self.dst.octets());
        b[16..20].copy_from_slice(&self.label.to_be_bytes());
        (b[20], b[21]) = (self.action, self.share);
        b[22..24].copy_from_slice(&self.flags.to_ne_bytes());
        b[24..26].copy_from_slice(&self.expires.to_ne_bytes());
        b[26..28].copy_from_slice(&self.linger.to_ne_bytes());
        b
    }
}

/// Whose a label is that is not shared with all. Linux counts threads, not processes (PIDTYPE_PID).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Any,
    Thread(i32),
    User(u32),
}

/// A label. Linux: struct ip6_flowlabel.
#[derive(Debug)]
struct Label {
    dst: Ipv6Addr,
    share: u8,
    owner: Owner,
    linger: Duration,
    expires: Instant,
    last_use: Instant,
    /// How many leases there are.
    users: u32,
    /// Extension headers of the packets that have the label.
    headers: Option<Arc<TxHeaders>>,
}

impl Label {
    /// Nothing gets less. EPERM: longer than one may without CAP_NET_ADMIN (fl6_renew).
    fn renew(&mut self, stack: &Stack, now: Instant, req: &Request) -> Result<()> {
        let seconds = |n: u16| match n {
            ..MIN_LINGER => Ok(MIN_LINGER),
            n if n > MAX_LINGER && !stack.net_admin() => Err(Error::Perm),
            n => Ok(n),
        };
        let linger = Duration::from_secs(seconds(req.linger)?.into());
        let expires = Duration::from_secs(seconds(req.expires)?.into());
        self.last_use = now;
        self.linger = self.linger.max(linger);
        self.expires = self.expires.max(now + expires.max(self.linger));
        Ok(())
    }

    /// Whether `other` asks to share it in the way it is shared.
    fn admits(&self, other: &Label) -> bool {
        self.share != share::EXCL && self.share == other.share && self.owner == other.owner
    }

    fn is_exclusive(&self) -> bool {
        self.share != share::ANY || self.headers.is_some()
    }

    fn ends(&self) -> Instant {
        self.expires.max(self.last_use + self.linger)
    }
}

/// The labels of a stack that are leased, or were until lately.
#[derive(Default)]
pub(crate) struct FlowLabels {
    labels: Mutex<HashMap<u32, Label>>,
    /// Some label is not for all (flowlabel_has_excl).
    exclusive: AtomicBool,
}

impl FlowLabels {
    /// `f` sees the labels that are left by `now`.
    fn with<R>(&self, now: Instant, f: impl FnOnce(&mut HashMap<u32, Label>) -> R) -> R {
        let mut labels = self.labels.lock();
        labels.retain(|_, l| l.users > 0 || now < l.ends());
        let r = f(&mut labels);
        self.exclusive.store(labels.values().any(Label::is_exclusive), Ordering::Relaxed);
        r
    }

    fn release(&self, now: Instant, label: u32) {
        self.with(now, |labels| {
            let Some(l) = labels.get_mut(&label) else { return };
            l.users -= 1;
            l.last_use = now;
            if l.users == 0 && l.share == share::EXCL {
                l.headers = None;
            }
        });
    }
}

fn leases(c: &SockCommon) -> &[u32] {
    c.ip_more.as_ref().map_or(&[], |m| &m.flow_labels)
}

fn flow_labels<'s>(g: &SockGuard<'s>) -> &'s FlowLabels {
    &net(g.stack).flow_labels
}

fn set_bit(c: &mut SockCommon, bit: u32, on: bool) {
    c.ip_flags = c.ip_flags & !bit | if on { bit } else { 0 };
}

/// IPV6_FLOWINFO_SEND.
pub(super) fn set_send(c: &mut SockCommon, on: bool) {
    set_bit(c, ip_flag::SNDFLOW, on);
}

/// See [`set_send`].
pub(super) fn sends(c: &SockCommon) -> bool {
    c.ip_flags & ip_flag::SNDFLOW != 0
}

/// setsockopt(2) of IPV6_FLOWLABEL_MGR: gets a lease, gives one back or renews one. A request for any label, 0, is not
/// told which it was: who calls chooses one (`usk_setsockopt`). Errors: EINVAL, ENOENT (there is no such label, and
/// none is to be made), EEXIST (there is one, and a new one was wanted), EPERM (it is not shared with the socket),
/// ERANGE (a label of hashes), ENOBUFS, ESRCH (no such lease), ENOPROTOOPT (reflection, of TCP alone).
pub(super) fn set(g: &mut SockGuard<'_>, value: &[u8]) -> Result<()> {
    let req = Request::read(value)?;
    let reflect = req.flags & flags::REFLECT != 0;
    match req.action {
        action::GET | action::PUT if reflect => set_reflect(g, req.action == action::GET),
        action::GET => lease(g, &req, &value[REQUEST_LEN..]),
        action::PUT => put_back(g, req.label),
        action::RENEW => renew(g, &req),
        _ => Err(Error::Inval),
    }
}

/// Whether packets carry the label of the peer's.
fn set_reflect(g: &mut SockGuard<'_>, on: bool) -> Result<()> {
    if on && g.stack.sysctl.flowlabel_consistency() {
        return Err(Error::Perm);
    }
    if g.sock.protocol != libc::IPPROTO_TCP as u16 {
        return Err(Error::NoProtoOpt);
    }
    if !on {
        if !is_reflected(&g.common) {
            return Err(Error::Srch);
        }
        g.common.flow_label = 0;
    }
    set_bit(&mut g.common, ip_flag::REPFLOW, on);
    Ok(())
}

fn put_back(g: &mut SockGuard<'_>, label: u32) -> Result<()> {
    let at = leases(&g.common).iter().position(|l| *l == label).ok_or(Error::Srch)?;
    let more = g.common.ip_more_mut();
    more.flow_labels.remove(at);
    if g.common.flow_label & LABEL == label {
        g.common.flow_label &= !LABEL;
    }
    flow_labels(g).release(g.now(), label);
    Ok(())
}

/// The owner of the stack may renew a label that is another socket's.
fn renew(g: &mut SockGuard<'_>, req: &Request) -> Result<()> {
    let of_others = req.share == share::NONE && g.stack.net_admin();
    let own = leases(&g.common).contains(&req.label);
    let now = g.now();
    flow_labels(g).with(now, |labels| {
        let label = labels.get_mut(&req.label).filter(|l| own || of_others && l.users > 0);
        label.ok_or(Error::Srch)?.renew(g.stack, now, req)
    })
}

/// A label as a request describes it. `control`: control messages with its extension headers (fl_create).
fn wanted(g: &SockGuard<'_>, req: &Request, control: &[u8]) -> Result<Label> {
    const MAX_CONTROL: usize = 64 * 1024;
    if control.len() > MAX_CONTROL {
        return Err(Error::Inval);
    }
    let headers = txcontrol::headers_of(g, &cmsg::parse(control))?;
    if headers.as_ref().is_some_and(|h| !h.dst1.is_empty()) {
        return Err(Error::Inval);
    }
    let now = g.now();
    let mut label = Label {
        dst: req.dst,
        share: req.share,
        owner: Owner::Any,
        linger: Duration::ZERO,
        expires: now,
        last_use: now,
        users: 1,
        headers,
    };
    label.renew(g.stack, now, req)?;
    if req.dst.is_unspecified() || req.dst.to_ipv4_mapped().is_some() {
        return Err(Error::Inval);
    }
    label.owner = match req.share {
        share::EXCL | share::ANY => Owner::Any,
        share::PROCESS => Owner::Thread(thread::me()),
        share::USER => Owner::User(unix::euid()),
        _ => return Err(Error::Inval),
    };
    Ok(label)
}

fn lease(g: &mut SockGuard<'_>, req: &Request, control: &[u8]) -> Result<()> {
    if req.label & !LABEL != 0 {
        return Err(Error::Inval);
    }
    if g.stack.sysctl.flowlabel_state_ranges() && req.label & STATELESS != 0 {
        return Err(Error::Range);
    }
    let wanted = wanted(g, req, control)?;
    let held = leases(&g.common);
    let (excl, own) = (req.flags & flags::EXCL != 0, held.contains(&req.label));
    let label = flow_labels(g).with(g.now(), |labels| {
        if let Some(l) = labels.get_mut(&req.label) {
            // One that nobody has is revived by who would make it.
            let is_there = own || l.users > 0 || req.flags & flags::CREATE != 0;
            match (excl, l.admits(&wanted)) {
                _ if !is_there => return Err(Error::NoEnt),
                (true, _) => return Err(Error::Exist),
                (false, false) => return Err(Error::Perm),
                (false, true) => {}
            }
            l.linger = l.linger.max(wanted.linger);
            l.expires = l.expires.max(wanted.expires);
            l.users += 1;
            return Ok(req.label);
        }
        if req.flags & flags::CREATE == 0 {
            return Err(Error::NoEnt);
        }
        has_room(g.stack, labels.len(), held.len())?;
        let label = match req.label {
            0 => free_label(g.stack, labels),
            label => label,
        };
        labels.insert(label, wanted);
        Ok(label)
    })?;
    g.common.ip_more_mut().flow_labels.insert(0, label);
    Ok(())
}

/// ENOBUFS: there are `all` labels, of which the socket has `own`, and it may not have one more (mem_check).
fn has_room(stack: &Stack, all: usize, own: usize) -> Result<()> {
    let room = MAX.saturating_sub(all);
    let scarce = own >= MAX_OF_SOCKET || own > 0 && room < MAX / 2 || room < MAX / 4;
    let few = room > MAX - MAX_OF_SOCKET;
    if few || room > 0 && (!scarce || stack.net_admin()) { Ok(()) } else { Err(Error::NoBufs) }
}

/// A label that nobody has; there are always some, as there are far more than [`MAX`].
fn free_label(stack: &Stack, labels: &HashMap<u32, Label>) -> u32 {
    loop {
        let label = stack.entropy.next_u32() & LABEL;
        if label != 0 && !labels.contains_key(&label) {
            return label;
        }
    }
}

/// getsockopt(2) of IPV6_FLOWLABEL_MGR; `value` has the request. The lease of the label that the socket sends, with
/// IPV6_FL_F_REMOTE the peer's label. Errors: EINVAL; ENOENT, the socket's label is not leased.
pub(super) fn get(g: &SockGuard<'_>, value: &mut [u8]) -> Result<usize> {
    let asked = Request::read(value)?;
    if asked.action != action::GET {
        return Err(Error::Inval);
    }
    let c = &g.common;
    let dst = Ipv6Addr::UNSPECIFIED;
    let mut req = Request { dst, label: 0, action: 0, share: 0, flags: 0, expires: 0, linger: 0 };
    if asked.flags & flags::REMOTE != 0 {
        req.label = c.ip_more.as_ref().map_or(0, |m| m.rcv_flowinfo) & LABEL;
    } else if is_reflected(c) {
        req.label = c.flow_label;
    } else {
        req.label = c.flow_label & LABEL;
        if !leases(c).contains(&req.label) {
            return Err(Error::NoEnt);
        }
        let now = g.now();
        flow_labels(g).with(now, |labels| {
            let Some(l) = labels.get(&req.label) else { return };
            (req.dst, req.share) = (l.dst, l.share);
            req.expires = (l.expires.max(now) - now).as_secs() as u16;
            req.linger = l.linger.as_secs() as u16;
        });
    }
    Ok(put(value, &req.write()))
}

/// The socket has ended: its leases end (fl6_free_socklist).
pub(crate) fn release_all(stack: &Stack, c: &mut SockCommon, now: Instant) {
    let held = c.ip_more_if_any().map_or(Vec::new(), |m| std::mem::take(&mut m.flow_labels));
    for label in held {
        net(stack).flow_labels.release(now, label);
    }
}

/// Extension headers of a lease.
type LeaseHeaders = Option<Arc<TxHeaders>>;

/// What a label that a socket names brings with it: None, all labels may be sent; Some: it is leased, with these
/// extension headers. EINVAL: it is not (fl6_sock_lookup).
pub(super) fn check(stack: &Stack, c: &SockCommon, now: Instant, flowinfo: u32) -> Result<Option<LeaseHeaders>> {
    let (label, table) = (flowinfo & LABEL, &net(stack).flow_labels);
    if label == 0 || !table.exclusive.load(Ordering::Relaxed) {
        return Ok(None);
    }
    table.with(now, |labels| {
        if !labels.values().any(Label::is_exclusive) {
            return Ok(None);
        }
        let own = labels.get(&label).filter(|_| leases(c).contains(&label));
        own.map(|l| Some(l.headers.clone())).ok_or(Error::Inval)
    })
}

/// The extension headers of a packet with a leased label: those of the lease, and the program's own that the receiver
/// alone looks at (fl6_merge_options).
pub(super) fn merge(of_lease: LeaseHeaders, own: LeaseHeaders) -> LeaseHeaders {
    match own.filter(|o| !o.dst1.is_empty()) {
        None => of_lease,
        Some(own) => {
            let lease = of_lease.as_deref().cloned().unwrap_or_default();
            Some(Arc::new(TxHeaders { dst1: own.dst1.clone(), ..lease }))
        }
    }
}

/// The flow information of a stream's connection to `to`. EINVAL: its label is not leased.
pub(crate) fn of_stream(stack: &Stack, c: &SockCommon, now: Instant, to: SocketAddr) -> Result<u32> {
    let flowinfo = take(&mut of_name(c, to));
    check(stack, c, now, flowinfo).map(|_| flowinfo)
}

/// A name that a program gives, with the flow information that its packets get: none without IPV6_FLOWINFO_SEND.
pub(crate) fn of_name(c: &SockCommon, mut to: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(a) = &mut to {
        a.set_flowinfo(if sends(c) { a.flowinfo() & FLOWINFO } else { 0 });
    }
    to
}

/// The same of the socket's peer.
pub(crate) fn of_peer(c: &SockCommon, mut to: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(a) = &mut to {
        a.set_flowinfo(c.flow_label);
    }
    to
}

/// Takes the flow information out of a name.
pub(super) fn take(to: &mut SocketAddr) -> u32 {
    match to {
        SocketAddr::V6(a) => {
            let flowinfo = a.flowinfo();
            a.set_flowinfo(0);
            flowinfo
        }
        SocketAddr::V4(_) => 0,
    }
}

/// Whether this socket wants flow labels made of its flow's hash (ip6_autoflowlabel).
pub(super) fn wants_label(stack: &Stack, sk: &SockCommon) -> bool {
    match sk.ip_flags & ip_flag::FLOWLABEL_SET {
        0 => matches!(stack.sysctl.auto_flowlabels(), 1 | 3),
        _ => sk.ip_flags & ip_flag::FLOWLABEL != 0,
    }
}

/// The label of a packet: the one of its flow information, or one made of `hash`, as `auto_flowlabels` and the socket
/// say. Linux: ip6_make_flowlabel.
#[inline]
pub(crate) fn make(stack: &Stack, sk: &SockCommon, flowinfo: u32, hash: impl FnOnce() -> u32) -> u32 {
    match flowinfo & LABEL {
        0 => auto(stack, wants_label(stack, sk), hash),
        label => label,
    }
}

/// The label of an answer that is no socket's.
pub(crate) fn of_answer(stack: &Stack, flowinfo: u32, hash: impl FnOnce() -> u32) -> u32 {
    match flowinfo & LABEL {
        0 => auto(stack, matches!(stack.sysctl.auto_flowlabels(), 1 | 3), hash),
        label => label,
    }
}

/// The hash of a flow without ports.
pub(crate) fn hash(stack: &Stack, src: IpAddr, dst: IpAddr, protocol: u8) -> u32 {
    let (saddr, daddr, dport) = (addr128(src), addr128(dst), u16::from(protocol));
    stack.keys.ehash(&Tuple { saddr, sport: 0, daddr, dport })
}

/// A label made of the flow's hash (RFC 6437 §3), where `wanted` or all packets have one.
fn auto(stack: &Stack, wanted: bool, hash: impl FnOnce() -> u32) -> u32 {
    match stack.sysctl.auto_flowlabels() {
        0 => 0,
        mode if mode == 3 || wanted => {
            let stateless = if stack.sysctl.flowlabel_state_ranges() { STATELESS } else { 0 };
            hash() & LABEL | stateless
        }
        _ => 0,
    }
}

/// The bits of a new socket of IPv6 (inet6_create).
pub(crate) fn of_new_socket(stack: &Stack) -> u32 {
    if stack.sysctl.flowlabel_reflect() & REFLECT_ESTABLISHED != 0 { ip_flag::REPFLOW } else { 0 }
}

/// The label of a reset of a segment that belongs to no socket.
pub(crate) fn of_reset(stack: &Stack, received: u32) -> u32 {
    if stack.sysctl.flowlabel_reflect() & REFLECT_RESETS != 0 { received } else { 0 }
}

/// The label of an echo reply.
pub(super) fn of_echo_reply(stack: &Stack, received: u32) -> u32 {
    if stack.sysctl.flowlabel_reflect() & REFLECT_ECHO_REPLIES != 0 { received } else { 0 }
}

/// Whether a stream's packets carry the label of the peer's.
pub(crate) fn is_reflected(c: &SockCommon) -> bool {
    c.ip_flags & ip_flag::REPFLOW != 0
}

/// The label of its answer to a segment that has the label `received`.
pub(crate) fn reflected(c: &SockCommon, received: u32) -> u32 {
    if is_reflected(c) { received } else { 0 }
}

/// A stream has a segment in order of a peer, whose label it may reflect.
pub(crate) fn reflect(c: &mut SockCommon, received: u32) {
    if is_reflected(c) && c.daddr.is_ipv6() {
        c.flow_label = received;
    }
}

#[cfg(test)]
mod tests;

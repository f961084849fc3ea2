//! The sock: what the sockets of every protocol share, which is its lock, its queues and its memory accounts. Above:
//! the socket layer (`inet`). Below: the protocols, which keep their own part in `SockState::private`. Linux: struct
//! sock, struct inet_sock. The inside of a sock (`SockState`) is reached only through its lock (`lock`); fields that
//! are used without the lock lie in [`Sock`] itself.
//!
//! | file | what |
//! |---|---|
//! | `accept` | accept(2), and the queue of connections |
//! | `addr` | families, and v4-mapped addresses |
//! | `bpf`, `filter` | classic BPF; the filters of sockets |
//! | `cmsg` | control messages in C's form |
//! | `cold` | fields that few socks use, allocated when first needed |
//! | `connect` | connect(2) of a stream |
//! | `copy` | bytes between a call's message and packets |
//! | `crowd` | whether there are so many socks that prefetching pays |
//! | `ctl`, `lock` | `lock_sock` and the backlog: `ctl` is the model-checked algorithm, `lock` applies it to a sock |
//! | `diag` | the list of a stack's sockets |
//! | `dst` | a resolved route |
//! | `errqueue`, `exterr` | the error queue; an entry of it |
//! | `flags` | bits of a sock: options that are on or off, and states |
//! | `ip_more` | options of the IP levels that few sockets have |
//! | `layer` | a protocol on top of another one, on the same sock |
//! | `mem` | memory accounts |
//! | `membership` | a group that a socket joined |
//! | `msg` | what a send or receive call carries |
//! | `offload` | the protocol's part of segmenting and merging packets |
//! | `orphan` | socks of plug-ins that no program has any more, and their end |
//! | `packet` | what IP tells a protocol about a packet or an ICMP error |
//! | `page`, `pool`, `skb` | packets, the pages of their payload, and caches of both |
//! | `pages` | bytes in pages that a program holds |
//! | `proto` | the table of operations |
//! | `queue` | a queue of packets |
//! | `registry` | the protocols of a stack |
//! | `reuseport` | SO_REUSEPORT groups |
//! | `sockopt` | SOL_SOCKET options |
//! | `state` | the states |
//! | `tstamp` | transmit timestamps |
//! | `unowned` | fields that few socks use and that need no lock, allocated when first needed |
//! | `wait`, `sleep` | readiness, and who waits for it; how a call sleeps |
//! | `zerocopy` | what a packet of a MSG_ZEROCOPY call carries, so that its end is reported to the program |

pub mod accept;
pub(crate) mod addr;
pub mod bpf;
pub mod cmsg;
pub mod cold;
pub(crate) mod connect;
mod copy;
pub(crate) mod crowd;
mod ctl;
pub mod diag;
pub mod dst;
pub(crate) mod errqueue;
pub(crate) mod exterr;
pub mod filter;
mod flags;
pub(crate) mod ip_more;
pub mod layer;
pub(crate) mod lock;
pub mod mem;
pub(crate) mod membership;
pub mod msg;
pub mod offload;
pub(crate) mod orphan;
#[cfg(test)]
mod orphan_test;
pub mod packet;
pub(crate) mod page;
pub mod pages;
#[cfg(test)]
mod panic_test;
mod pool;
pub mod proto;
pub mod queue;
pub mod registry;
#[cfg(test)]
mod registry_test;
pub mod reuseport;
pub mod skb;
mod sleep;
pub mod sockopt;
pub mod state;
pub(crate) mod tstamp;
pub(crate) mod unowned;
pub mod wait;
pub(crate) mod zerocopy;

use crate::base::error::{Error, Result};
pub use crate::base::read_mostly::Read;
use crate::stack::Stack;
use crate::sys::mem::{At, Near, prefetch};
use crate::sys::once_box::OnceBox;
pub use crate::sys::place::Place as Private;
use crate::sys::place::arc_with;
use dst::Dst;
pub use flags::{flag, tsq};
pub(crate) use flags::{ip_flag, more};
use lock::SockLock;
pub use lock::{Delivered, SockGuard};
use proto::{Proto, ProtoAccounts};
use queue::SkbQueue;
use registry::ProtoUse;
use state::State;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use wait::{Events, WaitQueue};

/// SHUT_RD was done: reads return end of file.
pub const RCV_SHUTDOWN: u8 = 1;
/// SHUT_WR was done: writes return EPIPE.
pub const SEND_SHUTDOWN: u8 = 2;

/// A sock: an end of a connection, a listener, or a bound datagram socket. The fields here are read without its lock;
/// everything else is behind [`Sock::lock`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Sock {
    lock: SockLock,
    /// Threads and watchers that wait for events.
    pub wait: WaitQueue,
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET.
    pub ty: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// Number of the [`State`]; written by the owner only.
    state: AtomicU8,
    /// RCV_SHUTDOWN, SEND_SHUTDOWN; written by the owner only.
    pub shutdown: AtomicU8,
    /// Transmit throttling: bits of [`tsq`].
    pub tsq_flags: AtomicU8,
    /// The device queue of the last packet, where that depends on the thread that sends (`NetDev`); only the owner
    /// sends (sk_tx_queue_mapping).
    pub(crate) tx_queue: AtomicU8,
    /// Pending asynchronous error (SO_ERROR), an errno; 0 for none.
    pub err: AtomicI32,
    /// Receive buffer limit in bytes of truesize (SO_RCVBUF as the kernel keeps it, doubled).
    pub rcvbuf: AtomicI32,
    /// Send buffer limit in bytes of truesize.
    pub sndbuf: AtomicI32,
    /// Bytes of truesize in the receive queues.
    pub rmem_alloc: AtomicI32,
    /// Bytes of truesize in device transmit queues.
    pub wmem_alloc: AtomicU32,
    /// Packets dropped at this sock.
    pub drops: AtomicU32,
    /// A panic happened while the sock was owned, or a plug-in broke a rule of its interface: every call returns EIO.
    pub broken: AtomicBool,
    /// See [`Sock::is_idle`].
    idle: AtomicBool,
    /// The program has closed the socket: nobody will read what comes to the error queue.
    errors_closed: AtomicBool,
    /// Where the sock that this one's packets go to was, if it is this stack's, and the program's handle of this one.
    peer: Near,
    handle: Near,
    /// See [`Sock::is_found_by`]; 0: by none.
    found_by: AtomicU64,
    /// What few socks have.
    unowned: OnceBox<unowned::Unowned>,
    /// Its protocol and stack.
    proto_use: ProtoUse,
}

/// Bytes of a program's handle, at most.
pub(crate) const HANDLE: usize = 48;

/// Bytes of an Arc's counts, in front of its value.
pub(crate) const COUNTS: usize = 2 * size_of::<usize>();

/// `Sock::tx_queue` of a sock that has sent nothing (NO_QUEUE_MAPPING).
pub(crate) const NO_QUEUE: u8 = u8::MAX;

impl std::fmt::Debug for dyn Proto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the lock protects.
#[non_exhaustive]
pub struct SockState {
    /// Shared by all protocols.
    pub common: SockCommon,
    /// The protocol's own part.
    pub private: Private,
}

impl std::fmt::Debug for SockState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SockState")
    }
}

/// What the sock's lock protects, for every protocol.
#[non_exhaustive]
pub struct SockCommon {
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bits of [`ip_flag`].
    pub(crate) ip_flags: u32,
    /// Bits of [`more`].
    pub(crate) more: u16,
    /// Of the socket as a whole, which is separate from the connection's (socket.state).
    pub(crate) socket_state: connect::SocketState,
    /// Address bound to: unspecified for any (inet_rcv_saddr).
    pub rcv_saddr: IpAddr,
    /// Source address of packets (inet_saddr).
    pub saddr: IpAddr,
    /// Peer (inet_daddr).
    pub daddr: IpAddr,
    /// Local port in packets and names (inet_sport); 0: none.
    pub sport: u16,
    /// Peer's port; 0: not connected.
    pub dport: u16,
    /// SO_BINDTODEVICE: interface index, 0 for any.
    pub bound_dev_if: u32,
    /// IP_MULTICAST_IF; of an accepted stream the interface of the segment that opened it over IPv4.
    pub mc_index: u32,
    /// IPV6_MULTICAST_IF; of a stream as `mc_index`, of either family.
    pub mcast_oif: u32,
    /// IP_TOS or IPV6_TCLASS, with the ECN bits that TCP sets.
    pub tos: u8,
    /// IPV6_TCLASS where it differs (a dual-stack sock has both).
    pub tclass: u8,
    /// IP_TTL: -1 for the sysctl's.
    pub ttl: i16,
    /// IPV6_UNICAST_HOPS: -1 for the sysctl's.
    pub hops: i16,
    /// IP_MULTICAST_TTL; of an accepted stream as `mc_index`.
    pub mc_ttl: u8,
    /// IPV6_MULTICAST_HOPS; of a stream as `mcast_oif`.
    pub mcast_hops: u8,
    /// IP_MTU_DISCOVER (IP_PMTUDISC_*).
    pub pmtudisc: u8,
    /// Of an accepted stream: the TOS of the segment that opened it over IPv4.
    pub(crate) rcv_tos: u8,
    /// Flow information of what is sent to the peer over IPv6: the label, and bits of a traffic class that are only
    /// shown.
    pub flow_label: u32,
    /// Cached route, valid while its generation is the route tables'.
    pub dst: Option<Arc<Dst>>,
    /// Bytes of truesize in the send and retransmit queues (sk_wmem_queued).
    pub wmem_queued: i32,
    /// Bytes charged to the protocol's account and not used (sk_forward_alloc).
    pub forward_alloc: i32,
    /// SO_ZEROCOPY.
    pub(crate) zerocopy: bool,
    /// The last SO_TIMESTAMP, SO_TIMESTAMPNS or SO_TIMESTAMPING was that of a 64-bit time_t (SOCK_TSTAMP_NEW).
    pub(crate) tstamp_new: bool,
    /// SO_RCVLOWAT.
    pub rcvlowat: i32,
    /// SO_TXREHASH: whether a connection changes its transmit hash when the way seems broken.
    pub txrehash: bool,
    /// A bind(2) does not conflict with others (SK_FORCE_REUSE): TCP_REPAIR.
    pub(crate) force_reuse: bool,
    /// Last soft error (sk_err_soft): reported when the connection times out.
    pub err_soft: i32,
    /// Received packets for the program.
    pub receive_queue: SkbQueue,
    /// What few socks have; reading goes through `Deref`.
    cold: Option<Box<cold::Cold>>,
}

impl SockCommon {
    /// Least TTL or hop limit of a segment that is taken (IP_MINTTL, IPV6_MINHOPCOUNT).
    #[inline]
    pub(crate) fn least_ttl(&self, l3: skb::L3) -> u8 {
        if l3 == skb::L3::V4 { self.min_ttl } else { self.min_hops }
    }

    #[inline(always)]
    fn new(family: u16) -> SockCommon {
        let any = if family == libc::AF_INET6 as u16 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        SockCommon {
            flags: flag::MULTICAST_LOOP,
            // Of IPv4's sockets alone (inet_create).
            ip_flags: if family == addr::AF_INET { ip_flag::MULTICAST_ALL } else { 0 },
            more: 0,
            socket_state: connect::SocketState::Unconnected,
            rcv_saddr: any,
            saddr: any,
            daddr: any,
            sport: 0,
            dport: 0,
            bound_dev_if: 0,
            mc_index: 0,
            mcast_oif: 0,
            tos: 0,
            tclass: 0,
            ttl: -1,
            hops: -1,
            mc_ttl: 1,
            mcast_hops: 1,
            pmtudisc: libc::IP_PMTUDISC_WANT as u8,
            rcv_tos: 0,
            flow_label: 0,
            dst: None,
            wmem_queued: 0,
            forward_alloc: 0,
            zerocopy: false,
            tstamp_new: false,
            rcvlowat: 1,
            txrehash: false,
            force_reuse: false,
            err_soft: 0,
            receive_queue: SkbQueue::default(),
            cold: None,
        }
    }

    /// Whether a bit of [`flag`] is set.
    #[inline]
    pub fn flag(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// Sets or clears a bit of [`flag`].
    #[inline]
    pub fn set_flag(&mut self, bit: u32, on: bool) {
        if on { self.flags |= bit } else { self.flags &= !bit }
    }

    /// Local port that the sock holds; 0: not bound (inet_num).
    pub(crate) fn num(&self) -> u16 {
        if self.ip_flags & ip_flag::PORT_LEFT == 0 { self.sport } else { 0 }
    }

    /// Local address as getsockname returns it, before conversion to the socket's family.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.saddr, self.sport)
    }

    /// The peer's name as getpeername(2) shows it: with IPV6_FLOWINFO_SEND the flow information of what is sent to it.
    pub(crate) fn shown_peer(&self, mut name: SocketAddr) -> SocketAddr {
        if let SocketAddr::V6(a) = &mut name
            && self.ip_flags & ip_flag::SNDFLOW != 0
        {
            a.set_flowinfo(self.flow_label);
        }
        name
    }

    /// Peer, when connected.
    pub fn peer(&self) -> Option<SocketAddr> {
        (self.dport != 0).then(|| SocketAddr::new(self.daddr, self.dport))
    }
}

impl Sock {
    /// A closed, unbound sock of a protocol, whose `init` has not run. `state` starts at 7 (TCP_CLOSE).
    pub fn new(stack: &Arc<Stack>, family: u16, ty: u16, protocol: u16, proto_use: ProtoUse) -> Arc<Sock> {
        let proto = proto_use.proto();
        let (rcvbuf, sndbuf) = (proto.sysctl_rmem(stack)[1], proto.sysctl_wmem(stack)[1]);
        proto_use.of(stack);
        // Nothing in it may panic, for the sake of `arc_with`.
        let mut sock = arc_with(|| Sock {
            lock: SockLock::new(SockState { common: SockCommon::new(family), private: Private::new(()) }),
            wait: WaitQueue::default(),
            family,
            ty,
            protocol,
            state: AtomicU8::new(State::Close as u8),
            shutdown: AtomicU8::new(0),
            tsq_flags: AtomicU8::new(0),
            tx_queue: AtomicU8::new(NO_QUEUE),
            err: AtomicI32::new(0),
            rcvbuf: AtomicI32::new(rcvbuf),
            sndbuf: AtomicI32::new(sndbuf),
            rmem_alloc: AtomicI32::new(0),
            wmem_alloc: AtomicU32::new(0),
            drops: AtomicU32::new(0),
            broken: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            errors_closed: AtomicBool::new(false),
            peer: Near::default(),
            handle: Near::default(),
            found_by: AtomicU64::new(0),
            unowned: OnceBox::new(),
            proto_use,
        });
        let busy_poll_us = stack.sysctl.busy_read() as u32;
        if busy_poll_us != 0
            && let Some(sock) = Arc::get_mut(&mut sock)
        {
            sock.lock.state_mut().common.cold_mut().busy_poll_us = busy_poll_us;
        }
        sock
    }

    /// A sock of the same protocol, for a connection that a listener accepts. Its `init` has not run.
    pub fn new_child(self: &Arc<Sock>, stack: &Arc<Stack>) -> Arc<Sock> {
        let child = Sock::new(stack, self.family, self.ty, self.protocol, self.proto_use.clone());
        if let Read::Later(other) = self.proto() {
            child.set_proto(other);
        }
        child
    }

    /// Prefetches all cache lines of the sock, which somebody is about to own. Among many socks they are not in the
    /// cache, and fetched together they are waited for once, and not one after the other.
    #[inline]
    pub(crate) fn prefetch(&self) {
        if crowd::many() {
            prefetch(self, COUNTS);
        }
    }

    /// The same where it is about to send: also prefetches the sock that its packets go to.
    #[inline]
    pub(crate) fn prefetch_both(&self) {
        if crowd::many() {
            prefetch(&self.peer, 0);
            prefetch(self, COUNTS);
            self.peer.prefetch::<Sock>(COUNTS);
        }
    }

    /// The same of a sock that was found for a packet: also prefetches the program's handle.
    #[inline]
    pub(crate) fn prefetch_receiver(&self) {
        if crowd::many() {
            prefetch(self, COUNTS);
            self.handle.prefetch::<[u8; HANDLE]>(COUNTS);
        }
    }

    /// Prefetches the sock that its packets go to. Its own lines are there.
    #[inline]
    pub(crate) fn prefetch_peer(&self) {
        self.peer.prefetch::<Sock>(COUNTS);
    }

    /// Whether [`Sock::note_peer`] was called.
    #[inline]
    pub(crate) fn knows_peer(&self) -> bool {
        self.peer.is_known()
    }

    /// Its packets go to this sock.
    pub(crate) fn note_peer(&self, peer: &Sock) {
        self.peer.note(peer);
    }

    /// They do no longer.
    pub(crate) fn forget_peer(&self) {
        self.peer.forget();
    }

    /// Whether its protocol's table leads from this hash, which is not 0, to this sock now, whatever device a packet
    /// came by. To ask a sock that was found before is to look it up without the table.
    #[inline]
    pub(crate) fn is_found_by(&self, hash: u64) -> bool {
        hash != 0 && self.found_by.load(Ordering::Acquire) == hash
    }

    /// The table leads to it from this hash, or from none (0). Called with the entry's place in the table locked.
    pub(crate) fn set_found_by(&self, hash: u64) {
        self.found_by.store(hash, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn peer_is(&self, peer: &Sock) -> bool {
        self.peer.is(peer)
    }

    #[cfg(test)]
    pub(crate) fn handle_is<T>(&self, handle: &T) -> bool {
        self.handle.is(handle)
    }

    /// Its address, for a prefetch at a later time.
    #[inline]
    pub(crate) fn at(&self) -> At {
        At::of(self)
    }

    /// A program holds it by this.
    #[inline]
    pub(crate) fn note_handle<T>(&self, handle: &T) {
        if crowd::many() {
            self.handle.note(handle);
        }
    }

    /// The operations currently in force.
    #[inline]
    pub fn proto(&self) -> Read<'_, Arc<dyn Proto>> {
        self.unowned.get().and_then(|u| u.proto()).map_or(Read::First(self.proto_use.proto()), Read::Later)
    }

    /// Replaces the operations of a live sock (upper-layer protocols).
    pub(crate) fn set_proto(&self, proto: Arc<dyn Proto>) {
        self.unowned().set_proto(proto);
    }

    /// The protocol's shared accounts.
    #[inline]
    pub fn accounts(&self) -> &Arc<ProtoAccounts> {
        self.proto_use.accounts()
    }

    /// Clears the pending error (sock_error) and returns it; Ok when there was none.
    pub fn take_error(&self) -> Result<()> {
        if self.err.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        match self.err.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            e => Err(Error::try_from_errno(e).unwrap_or(Error::Io)),
        }
    }

    /// Sets the pending error and wakes all waiters (sk_error_report). The sock may be owned or not.
    pub fn report_error(&self, error: Error) {
        // SeqCst: as in `set_broken`.
        self.err.store(error.errno(), Ordering::SeqCst);
        self.wait.wake(Events::ERR | Events::IN | Events::OUT | Events::HUP | Events::RDHUP);
    }

    /// Marks the sock broken: every call returns EIO from now on, and all waiters are woken. May be called with the
    /// sock owned or not.
    #[cold]
    pub fn set_broken(&self) {
        // SeqCst: the store is ordered before the check for waiters, and a sleeper is on the queue before it reads
        // this.
        self.broken.store(true, Ordering::SeqCst);
        self.report_error(Error::Io);
    }

    /// See `broken`.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The stack the sock lives in.
    #[inline]
    pub fn stack(&self) -> &Weak<Stack> {
        self.proto_use.stack()
    }

    /// Whether SO_INCOMING_CPU names the CPU this thread runs on.
    pub(crate) fn prefers_this_cpu(&self) -> bool {
        match self.incoming_cpu() {
            -1 => false,
            cpu => cpu == crate::sys::thread::cpu(),
        }
    }

    /// Connection state (sk_state).
    #[inline]
    pub fn state(&self) -> State {
        State::from_u8(self.state.load(Ordering::Relaxed))
    }

    /// Changes the state; only the owner does so. A thread that reads the new state without the lock also sees what was
    /// written before it (inet_sk_state_store).
    #[inline]
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// As `set_state`, but also ordered before the reads that follow; returns the previous state.
    pub fn swap_state(&self, state: State) -> State {
        State::from_u8(self.state.swap(state as u8, Ordering::AcqRel))
    }

    /// Whether SHUT_RD was done.
    #[inline]
    pub fn rcv_shutdown(&self) -> bool {
        self.shutdown.load(Ordering::Relaxed) & RCV_SHUTDOWN != 0
    }

    /// Whether SHUT_WR was done.
    #[inline]
    pub fn send_shutdown(&self) -> bool {
        self.shutdown.load(Ordering::Relaxed) & SEND_SHUTDOWN != 0
    }

    /// A device has transmitted or discarded a packet of `truesize` bytes. A throttled sock is put on the stack's list,
    /// which softirq processes (tcp_wfree, tcp_tasklet); a datagram sender that waits for room is woken.
    pub(crate) fn tx_completed(self: &Arc<Sock>, truesize: u32) {
        let left = self.wmem_alloc.fetch_sub(truesize, Ordering::AcqRel) - truesize;
        if self.tsq_flags.load(Ordering::Acquire) & tsq::THROTTLED != 0 {
            let was = self.tsq_flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |f| {
                (f & tsq::THROTTLED != 0).then_some((f & !tsq::THROTTLED) | tsq::QUEUED)
            });
            if was.is_ok_and(|f| f & tsq::QUEUED == 0)
                && let Some(stack) = self.stack().upgrade()
            {
                stack.tsq_push(self.clone());
            }
        }
        if self.ty != libc::SOCK_STREAM as u16 && self.wait.has_interest(Events::OUT) {
            let limit = self.sndbuf.load(Ordering::Relaxed) as u32;
            if left < limit / 2 {
                self.wait.wake(Events::OUT);
            }
        }
    }

    /// A packet was refused before it reached the device, and dropping it counted as a completion. While other packets
    /// of the sock are still in the device this must not resume the sock: the packet would be refused again at once, in
    /// a loop. The completion of those packets resumes it.
    pub(crate) fn tx_refused(&self) {
        if self.tsq_flags.load(Ordering::Acquire) & tsq::QUEUED == 0 || self.wmem_alloc.load(Ordering::Acquire) == 0 {
            return;
        }
        let _ = self.tsq_flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |f| {
            (f & tsq::QUEUED != 0).then_some((f & !tsq::QUEUED) | tsq::THROTTLED)
        });
    }
}

impl Drop for Sock {
    /// Returns the memory that is still charged to the protocol's account.
    fn drop(&mut self) {
        let Sock { lock, proto_use, .. } = self;
        mem::release_all(&mut lock.state_mut().common, proto_use.accounts());
    }
}

/// What a pending or a queued error of a datagram sock shows in poll(2): POLLERR, and with SO_SELECT_ERR_QUEUE also
/// POLLPRI.
fn error_events(sock: &Sock, c: &SockCommon) -> Events {
    if sock.err.load(Ordering::Acquire) == 0 && !sock.has_errors() {
        return Events::NONE;
    }
    if c.more & more::SELECT_ERR_QUEUE != 0 { Events::ERR | Events::PRI } else { Events::ERR }
}

/// Readiness of an owned datagram sock (datagram_poll): the default of `Proto::poll_locked`.
pub fn datagram_poll(g: &SockGuard<'_>) -> Events {
    let sock = g.sock;
    let mut m = Events::NONE;
    m |= error_events(sock, &g.common);
    if sock.rcv_shutdown() {
        m |= Events::RDHUP | Events::IN;
    }
    if sock.shutdown.load(Ordering::Relaxed) == RCV_SHUTDOWN | SEND_SHUTDOWN {
        m |= Events::HUP;
    }
    if !g.common.receive_queue.is_empty() {
        m |= Events::IN;
    }
    if (sock.wmem_alloc.load(Ordering::Relaxed) as i32) < sock.sndbuf.load(Ordering::Relaxed) / 2 {
        m |= Events::OUT;
    }
    m
}

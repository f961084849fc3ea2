//! The protocol table. Above: the socket layer (`inet`), which calls these operations, and `registry`. Below: TCP,
//! UDP, ICMP, raw sockets and whatever a user plugs in, in Rust or through the C mirror of this trait. Nothing else in
//! the stack knows a protocol by name. Linux: struct proto (include/net/sock.h), struct net_protocol.
//!
//! Contexts. *Process*: a thread in a system call; may sleep through `SockGuard::sleep`. *Softirq*: packet and timer
//! work; never sleeps. Each operation says which it is called in, and whether the sock is already owned (a `SockGuard`
//! is passed) or not (a [`SockRef`] is, and the operation locks by itself, as in Linux).
//!
//! A protocol without a wire: what a program sends is in its own socket's receive queue.
//!
//! ```
//! use std::io::{IoSlice, IoSliceMut};
//! use std::sync::Arc;
//! use usersock::error::{Error, Result};
//! use usersock::net::Socket;
//! use usersock::sock::SockGuard;
//! use usersock::sock::msg::{RecvMsg, SendMsg};
//! use usersock::sock::proto::{Proto, SockRef};
//! use usersock::sock::registry::ProtoSwitch;
//! use usersock::sock::skb::Skb;
//!
//! struct ToSelf;
//!
//! impl Proto for ToSelf {
//!     fn name(&self) -> &str {
//!         "SELF"
//!     }
//!     fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
//!         Ok(())
//!     }
//!     fn close(&self, _: SockRef<'_>, _: i32) {}
//!     fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
//!         let mut bytes = vec![0; msg.remaining()];
//!         let n = msg.copy_to(&mut bytes);
//!         // Runs `backlog_rcv`, now or when the sock is released.
//!         sk.sock.deliver(sk.stack, Skb::from_slice(&bytes), sk.stack.now());
//!         Ok(n)
//!     }
//!     fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
//!         sk.common.receive_queue.push_back(skb);
//!     }
//!     fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
//!         let skb = sk.lock().common.receive_queue.pop_front().ok_or(Error::Again)?;
//!         Ok(msg.put(&skb.to_vec()))
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let stack = usersock::config::build("")?;
//! // Protocol 254 is for experiments (RFC 3692).
//! let key = ProtoSwitch::new(libc::AF_INET, libc::SOCK_DGRAM, 254, Arc::new(ToSelf));
//! stack.registry.register(&[key], None)?;
//!
//! let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 254)?;
//! socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(b"hello")], 0))?;
//! let mut bytes = [0; 16];
//! let n = socket.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut bytes)], 0))?;
//! assert_eq!(&bytes[..n], b"hello");
//! # Ok(())
//! # }
//! ```

use super::crowd::Crowd;
use super::msg::{RecvMsg, SendMsg};
use super::reuseport::Membership;
use super::skb::{CB_WORDS, HEAD, Looped, Skb};
use super::state::State;
use super::wait::Events;
use super::{Sock, SockGuard, SockState};
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, PercpuCounter};
use crate::sock::offload::Offload;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::stack::Stack;
use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A sock and its stack, not owned: the argument of operations that lock by themselves.
#[derive(Clone, Copy)]
pub struct SockRef<'a> {
    /// The stack.
    pub stack: &'a Arc<Stack>,
    /// The sock.
    pub sock: &'a Arc<Sock>,
}

impl<'a> SockRef<'a> {
    /// `lock_sock`.
    #[inline]
    pub fn lock(&self) -> SockGuard<'a> {
        self.sock.lock(self.stack)
    }
}

/// So many pages each thread charges before the others see it: 1 MiB (net.core.mem_pcpu_rsv).
const PCPU_RESERVE: i64 = 256;

/// Memory and socket counts that all sockets of a protocol in a stack share (`sk_prot->memory_allocated` and kin).
#[derive(Debug, Default)]
pub struct ProtoAccounts {
    /// Sockets that exist, closed but unreleased ones included (`sockets_allocated`).
    pub sockets: PercpuCounter,
    /// Sockets that no program holds any more (`orphan_count`).
    pub orphans: PercpuCounter,
    /// Memory charged, in pages (`memory_allocated`).
    pub pages: PercpuCounter<PCPU_RESERVE>,
    /// Whether the protocol is under memory pressure (`memory_pressure`).
    pub pressure: AtomicBool,
    crowd: Crowd,
}

impl ProtoAccounts {
    /// Socks have come or gone.
    #[inline]
    pub(super) fn count(&self, socks: i64) {
        self.sockets.add(socks);
        self.crowd.follow(self.sockets.rough());
    }
}

/// What a protocol's table has: a sock, or what is kept of a connection without one.
#[derive(Debug)]
pub enum Dumped {
    /// A sock.
    Sock(Arc<Sock>),
    /// A request (SYN_RECV) or a closed connection (TIME_WAIT, FIN_WAIT2): its ends, ours first.
    Mini(State, SocketAddr, SocketAddr),
}

/// The code of a protocol that is not the program's own: a shared object. Linux: struct module.
pub trait Module: Send + Sync {
    /// Name of its file, without folder.
    fn name(&self) -> &str;
    /// Its build-id in hexadecimal (srcversion); empty: it was built without one.
    fn build_id(&self) -> &str;
}

/// The messages of a call: it is given what sends one of them.
pub type SendSeveral<'a> = dyn FnMut(&mut dyn FnMut(&mut SendMsg<'_>) -> Result<usize>) + 'a;
/// The same of what is received.
pub type RecvSeveral<'a> = dyn FnMut(&mut dyn FnMut(&mut RecvMsg<'_, '_>) -> Result<usize>) + 'a;

/// A transport protocol: every operation of Linux's `struct proto`. An operation with a default may be left out; its
/// text says what the default does. Required are `name`, `init`, `close`, `sendmsg`, `recvmsg` and `backlog_rcv`.
#[allow(unused_variables)]
pub trait Proto: Any + Send + Sync {
    /// Name in listings, as "TCP"; unique in a registry, 1 to 31 bytes.
    fn name(&self) -> &str;

    /// The owner of the code, kept alive while sockets use it.
    fn owner(&self) -> Option<Arc<dyn Module>> {
        None
    }

    /// Initialises a new sock: `private` and per-socket defaults. Process context (softirq for a child), sock owned.
    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()>;

    /// Frees what `init` allocated; called last, on a sock that is closed and out of the tables. Either context, owned.
    fn destroy(&self, sk: &mut SockGuard<'_>) {}

    /// The last reference goes to a sock that is out of the tables and that no program has ([`Sock::orphan`]). Either
    /// context, owned. Linux: sk_destruct.
    fn destruct(&self, sk: &mut SockGuard<'_>) {}

    /// The program closed its last descriptor. `timeout`: SO_LINGER's; None: without. Process context, not owned.
    fn close(&self, sk: SockRef<'_>, flags: i32);

    /// Checks the address before `connect`, and may refuse it. Process context, owned. Default: accepts.
    fn pre_connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        Ok(())
    }

    /// Starts a connection (does not wait for it). Process context, owned. Default: EOPNOTSUPP.
    fn connect(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Disconnects the sock: connect(2) with AF_UNSPEC. Process context, owned. Default: EOPNOTSUPP.
    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Starts listening, or changes the backlog. Process context, owned. Default: EOPNOTSUPP. (In Linux a member of
    /// struct proto_ops; here so that plug-ins can have connection queues.)
    fn listen(&self, sk: &mut SockGuard<'_>, backlog: u32) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Takes a finished connection, waiting when `nonblock` is false. Process context, not owned. Default: EOPNOTSUPP.
    fn accept(&self, sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>> {
        Err(Error::OpNotSupp)
    }

    /// SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK and the protocol's own requests that return an int. Process context,
    /// not owned. Default: ENOTTY (Linux: ENOIOCTLCMD).
    fn ioctl(&self, sk: SockRef<'_>, request: u64) -> Result<i32> {
        Err(Error::NoTty)
    }

    /// shutdown(2) with SHUT_RD (1), SHUT_WR (2) or both; the socket layer has set the bits. Process context, owned.
    /// Default: nothing beyond the bits.
    fn shutdown(&self, sk: &mut SockGuard<'_>, how: u8) {}

    /// Options of the protocol's levels. `level` is not SOL_SOCKET. Process context, not owned. Default: ENOPROTOOPT.
    fn setsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        Err(Error::NoProtoOpt)
    }

    /// As `setsockopt`; writes at most `value.len()` bytes and returns the length. Default: ENOPROTOOPT.
    fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        Err(Error::NoProtoOpt)
    }

    /// Whether an option bypasses layers and goes straight to the protocol (`bpf_bypass_getsockopt`): those read on the
    /// data path. Default: none.
    fn bypass_getsockopt(&self, level: i32, name: i32) -> bool {
        false
    }

    /// SO_KEEPALIVE changed. Process context, owned. Default: nothing.
    fn keepalive(&self, sk: &mut SockGuard<'_>, on: bool) {}

    /// SO_CNX_ADVICE: the path seems bad, and another one is to be tried (dst_negative_advice). Process context, owned.
    /// Default: the route is looked up again.
    fn negative_advice(&self, sk: &mut SockGuard<'_>) {
        sk.common.dst = None;
    }

    /// SO_RCVLOWAT: `val` bytes make the sock readable, at least 1. Process context, owned. Default: notes it. (In
    /// Linux a member of struct proto_ops.)
    fn set_rcvlowat(&self, sk: &mut SockGuard<'_>, val: i32) {
        sk.common.rcvlowat = val;
    }

    /// Sends; returns the bytes taken. Process context, not owned.
    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize>;

    /// Receives; returns the bytes copied (or the true length with MSG_TRUNC). Process context, not owned.
    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize>;

    /// Sends several messages, as sendmmsg(2): calls `all` with what does as `sendmsg` for the next one. The protocol
    /// may own the sock meanwhile, and keep what one message has found for the next. Process context, not owned.
    /// Default: `sendmsg` of each.
    fn send_several(&self, sk: SockRef<'_>, all: &mut SendSeveral<'_>) {
        all(&mut |msg| self.sendmsg(sk, msg));
    }

    /// The same of receiving, as recvmmsg(2). Default: `recvmsg` of each.
    fn recv_several(&self, sk: SockRef<'_>, all: &mut RecvSeveral<'_>) {
        all(&mut |msg| self.recvmsg(sk, msg));
    }

    /// sendfile(2) and splice(2): sends bytes that are in memory. Process context, not owned. Default: through
    /// `sendmsg`.
    fn sendpage(&self, sk: SockRef<'_>, bytes: &[u8], flags: i32) -> Result<usize> {
        let slices = [std::io::IoSlice::new(bytes)];
        self.sendmsg(sk, &mut SendMsg::new(&slices, flags))
    }

    /// A sendfile or splice reached end of file after it sent bytes with MSG_MORE: data held back for more is sent now.
    /// Process context, not owned. Default: nothing.
    fn splice_eof(&self, sk: SockRef<'_>) {}

    /// bind(2). A protocol whose sockets are bound by address and port calls `ip::bind::bind`, which calls `get_port`.
    /// Process context, owned. Default: EOPNOTSUPP.
    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Current readiness, as poll(2) returns it. Process context, not owned. Default: owns the sock for `poll_locked`.
    fn poll(&self, sk: SockRef<'_>) -> Events {
        self.poll_locked(&mut sk.lock())
    }

    /// As `sendmsg`, on an owned sock: for a layer, which works while it owns the sock (sendmsg_locked). Without
    /// MSG_DONTWAIT it may sleep, and releases the sock meanwhile. Process context, owned. Default: EOPNOTSUPP.
    fn sendmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        Err(Error::OpNotSupp)
    }

    /// As `recvmsg`, on an owned sock, under the same rules. Default: EOPNOTSUPP.
    fn recvmsg_locked(&self, sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        Err(Error::OpNotSupp)
    }

    /// As `poll`, on an owned sock; does not sleep. Default: readable when the receive queue is not empty or an error
    /// is pending, writable while write memory is below the send buffer (datagram_poll).
    fn poll_locked(&self, sk: &mut SockGuard<'_>) -> Events {
        super::datagram_poll(sk)
    }

    /// Processes one packet. Softirq context, or process context from the backlog; owned. Must not sleep.
    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb);

    /// Moves what a packet that meets an owner carries to the last packet of the backlog; false: it waits for itself.
    /// Softirq context, not owned; a lock of the sock is held. Default: false. (Part of tcp_add_backlog in Linux.)
    fn join_backlog(&self, stack: &Stack, sock: &Sock, last: &mut Skb, skb: &mut Skb) -> bool {
        false
    }

    /// Runs timers, and work that was deferred while the sock was owned. The protocol defines the `bits`, which it
    /// passes to `Sock::defer` and to timers; in a protocol that throttles its socks, bit 0 resumes them
    /// ([`tsq::DEFERRED`](super::tsq::DEFERRED)). Either context, owned. Default: nothing.
    fn release_cb(&self, sk: &mut SockGuard<'_>, bits: u32) {}

    /// Enters the sock into the lookup tables. Owned. Default: nothing.
    fn hash(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }

    /// An option that lookups depend on (SO_BINDTODEVICE, SO_REUSEADDR, SO_REUSEPORT) has changed on a sock that may be
    /// in the tables. Owned. Default: nothing.
    fn rehash(&self, sk: &mut SockGuard<'_>) {}

    /// Of which SO_REUSEPORT group the sock is. Owned. Default: of none, and never of one.
    fn reuseport(&self, sk: &SockGuard<'_>) -> Membership {
        Membership::Alone
    }

    /// Removes the sock from the lookup tables. Owned. Default: nothing.
    fn unhash(&self, sk: &mut SockGuard<'_>) {}

    /// Binds to a local port, 0 meaning any; the address is already in the sock. Errors: EADDRINUSE. Owned. Default:
    /// succeeds, for a protocol without ports.
    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        Ok(())
    }

    /// Releases the local port. Owned. Default: nothing. (inet_put_port)
    fn put_port(&self, sk: &mut SockGuard<'_>) {}

    /// Whether this table may replace `other` on a live sock or, with `restore`, be replaced by `other`
    /// (`psock_update_sk_prot`). A layer asks the protocol below, with itself as `other`. Process context, owned.
    /// Default: refuses with EOPNOTSUPP.
    fn update_proto(&self, sk: &mut SockGuard<'_>, other: &Arc<dyn Proto>, restore: bool) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// Removes the upper-layer protocol that TCP_ULP installed. EBUSY: it holds bytes that were not delivered. Process
    /// context, owned. Default: EINVAL, as without one.
    fn remove_ulp(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        Err(Error::Inval)
    }

    /// Memory pressure begins (`enter_memory_pressure`). Default: sets the flag of the accounts.
    fn enter_memory_pressure(&self, stack: &Stack, accounts: &ProtoAccounts) {
        accounts.pressure.store(true, Ordering::Relaxed);
    }
    /// Memory pressure ends. Default: clears the flag.
    fn leave_memory_pressure(&self, stack: &Stack, accounts: &ProtoAccounts) {
        accounts.pressure.store(false, Ordering::Relaxed);
    }
    /// Whether more may be queued for sending, besides the send buffer's own limit. Default: yes.
    fn stream_memory_free(&self, stack: &Stack, sk: &SockState, wake: bool) -> bool {
        true
    }
    /// Memory limits in pages: pressure ends below the first, begins above the second, and allocations fail above the
    /// third (`sysctl_mem`). Default: none.
    fn sysctl_mem(&self, stack: &Stack) -> Option<[i64; 3]> {
        None
    }
    /// Minimum, default and maximum of the send buffer, bytes (`sysctl_wmem`). Default: net.core.wmem_default.
    fn sysctl_wmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.wmem_default();
        [4096, d, d]
    }
    /// Minimum, default and maximum of the receive buffer, bytes (`sysctl_rmem`). Default: net.core.rmem_default.
    fn sysctl_rmem(&self, stack: &Stack) -> [i32; 3] {
        let d = stack.sysctl.rmem_default();
        [2304, d, d]
    }

    /// Bytes of header room in front of data.
    fn max_header(&self) -> usize {
        HEAD
    }
    /// Bytes of one sock of this protocol, for listings and memory reports (`obj_size`). The default is for one whose
    /// part has room in the sock.
    fn obj_size(&self) -> usize {
        size_of::<Sock>()
    }
    /// Slab flags of the protocol's socks (SLAB_TYPESAFE_BY_RCU), for listings. Socks are reference counted here, so
    /// the default is 0.
    fn slab_flags(&self) -> u32 {
        0
    }
    /// Bytes of a time-wait record (`twsk_prot`); 0: the protocol has none.
    fn timewait_size(&self) -> usize {
        0
    }
    /// Bytes of a request record (`rsk_prot`); 0: the protocol has none.
    fn request_size(&self) -> usize {
        0
    }
    /// Whether the socket layer leaves unbound senders alone (`no_autobind`). Default: it binds them first.
    fn no_autobind(&self) -> bool {
        false
    }
    /// Ends the socket from outside with `err` (`diag_destroy`, SOCK_DESTROY): [`crate::inet::Socket::destroy`]. Not
    /// owned. Default: EOPNOTSUPP.
    fn diag_destroy(&self, sk: SockRef<'_>, err: Error) -> Result<()> {
        Err(Error::OpNotSupp)
    }

    /// What serves its sockets in the protocol's place, by name, and how many sockets each has; for listings. Default:
    /// nothing does.
    fn alternatives(&self) -> Vec<(String, usize)> {
        Vec::new()
    }

    /// Hands over all sockets in the protocol's tables (`diag->dump`); returns the type and IP protocol number of those
    /// that are no socks. Called with no lock held. Default: it lists none.
    fn diag_dump(&self, each: &mut dyn FnMut(Dumped)) -> Option<(u16, u16)> {
        None
    }

    /// What waits to be read and to be acknowledged, of a stream's sock, in numbers of the sequence space: SYN and FIN
    /// too (`diag->idiag_get_info`). The sock is owned. Default: what SIOCINQ and SIOCOUTQ answer.
    fn diag_queues(&self, sk: &mut SockGuard<'_>) -> Option<(u32, u32)> {
        None
    }

    /// What the protocol shows of a sock in lists, beside what all socks have: names and values
    /// (`diag->idiag_get_info`, `get_aux`). The sock is owned, and nothing may sleep. Default: nothing.
    fn diag_show(&self, sk: &mut SockGuard<'_>, column: &mut dyn FnMut(&str, &str)) {
        let _ = (sk, column);
    }

    /// What the ids of transmit timestamps count from when SOF_TIMESTAMPING_OPT_ID is set: of a stream, a sequence
    /// number, with SOF_TIMESTAMPING_OPT_ID_TCP (`written`) that of the next byte to be written. EINVAL: in this state
    /// there is none.
    fn tskey(&self, sk: &mut SockGuard<'_>, written: bool) -> Result<u32> {
        let _ = (sk, written);
        Ok(0)
    }

    /// Whether the protocol is connection oriented: `connect` waits for the handshake, `send` needs a connection.
    fn is_stream(&self) -> bool {
        false
    }

    /// Whether a panic in packet or timer context is contained in debug builds too: the socket is broken (EIO), the
    /// stack goes on. In release builds it always is. The stack's own protocols return false: their panics are bugs,
    /// and tests must fail.
    fn contained(&self) -> bool {
        true
    }

    /// The stack ends: a protocol that keeps socks in tables of its own drops them, because socks and tables hold
    /// references to each other and would never be freed. No program has a socket any more, and nothing else of the
    /// stack runs. Default: nothing. Linux: pernet_operations.exit.
    fn net_exit(&self) {}

    /// Debug builds: asserts what must hold whenever the sock is released.
    fn check_invariants(&self, sock: &Sock, state: &SockState) {}
}

/// Receives packets of one IP protocol number. Softirq context, no sock owned. Linux: struct net_protocol.
pub trait IpHandler: Send + Sync + 'static {
    /// A datagram whose IP header is already pulled; `skb` begins with the transport header.
    fn rcv(&self, stack: &Arc<Stack>, skb: Skb, info: &PacketInfo);
    /// As `rcv`, with the header fields in `skb.rx`, where they are in any packet that IP hands up. Default: `rcv`.
    fn rcv_noted(&self, stack: &Arc<Stack>, mut skb: Skb) {
        // Only a handler that knows the mark, and what TCP has noted, may pass the packet on.
        if std::mem::take(&mut skb.looped) == Looped::Segment {
            skb.cb = [0; CB_WORDS];
        }
        match skb.rx {
            Some(info) => self.rcv(stack, skb, &info),
            None => stack.mib.drop(DropReason::PktTooSmall),
        }
    }
    /// A packet of a batch will soon be handed up: prefetches the cache line in which its socket is looked up. Returns
    /// what [`IpHandler::fetch`] is told when that line has come. Default: None, nothing is prefetched.
    fn foresee(&self, _stack: &Arc<Stack>, _skb: &Skb, _info: &PacketInfo) -> Option<u64> {
        None
    }
    /// Prefetches the socket of a packet that `foresee` has seen.
    fn fetch(&self, _stack: &Arc<Stack>, _foreseen: u64) {}
    /// Whether datagrams of one flow that come together are handed to `rcv_several`. Default: no.
    fn takes_several(&self) -> bool {
        false
    }
    /// As `rcv`, of datagrams that came one after the other, each in one piece and with the same header fields, and
    /// whose first four transport bytes (the ports) are the same. Default: `rcv` of each.
    fn rcv_several(&self, stack: &Arc<Stack>, all: &mut dyn Iterator<Item = Skb>, info: &PacketInfo) {
        all.for_each(|skb| self.rcv(stack, skb, info));
    }
    /// An ICMP error that quotes a packet of this protocol.
    fn err(&self, stack: &Arc<Stack>, icmp: &IcmpError<'_>);
    /// What joins received packets of the protocol where GRO is on. Default: nothing does.
    fn offload(&self) -> Option<Arc<dyn Offload>> {
        None
    }
    /// As [`Proto::contained`]; a contained panic loses the packet.
    fn contained(&self) -> bool {
        true
    }
}

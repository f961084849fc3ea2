//! The sockets of a stack, as ss(8) lists them: what protocols have in their tables. Above: `Stack::sockets`. Below:
//! [`Proto::diag_dump`](super::proto::Proto::diag_dump). Linux: net/ipv4/inet_diag.c, udp_diag.c, raw_diag.c.

use super::Sock;
use super::addr::{AF_INET, AF_INET6};
use super::proto::{Dumped, SockRef};
use super::state::State;
use crate::stack::Stack;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// FIONREAD: bytes that can be read (tcp(7)).
pub const SIOCINQ: u64 = 0x541b;
/// TIOCOUTQ: bytes queued and not acknowledged.
pub const SIOCOUTQ: u64 = 0x5411;

/// A socket in the list. Linux: struct inet_diag_msg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockDiag {
    /// AF_INET or AF_INET6.
    pub family: u16,
    /// SOCK_STREAM ...
    pub ty: u16,
    /// IP protocol number.
    pub protocol: u16,
    /// State; of sockets without connections `Close`, or `Established` when they are connected.
    pub state: State,
    /// Our end.
    pub local: SocketAddr,
    /// The peer.
    pub peer: Option<SocketAddr>,
    /// Bytes to read, and a FIN; of a listener, connections to accept; of datagram sockets, memory of the receive
    /// queue.
    pub rqueue: u32,
    /// Bytes sent and not acknowledged, or not sent, a SYN and a FIN; of a listener, the backlog's limit.
    pub wqueue: u32,
    /// Number of the sock, which no other one of the process has while it lives; 0: there is no sock.
    pub id: u64,
}

fn of_sock(stack: &Arc<Stack>, sock: &Arc<Sock>) -> SockDiag {
    let (state, stream) = (sock.state(), sock.proto().is_stream());
    let mut g = sock.lock(stack);
    let queues = if stream && state != State::Listen { sock.proto().diag_queues(&mut g) } else { None };
    let c = &g.common;
    let ip = if c.saddr.is_unspecified() { c.rcv_saddr } else { c.saddr };
    // A connected raw socket has a peer without a port.
    let peer = (c.dport != 0 || !c.daddr.is_unspecified()).then(|| SocketAddr::new(c.daddr, c.dport));
    let (local, backlog) = (SocketAddr::new(ip, c.sport), (c.ack_backlog, c.max_ack_backlog));
    drop(g);
    let memory = |n: i32| u32::try_from(n).unwrap_or(0);
    let (rqueue, wqueue) = if state == State::Listen {
        backlog
    } else if let Some(queues) = queues {
        queues
    } else if stream {
        let ask = |request| sock.proto().ioctl(SockRef { stack, sock }, request).map_or(0, memory);
        (ask(SIOCINQ), ask(SIOCOUTQ))
    } else {
        (memory(sock.rmem_alloc.load(Ordering::Relaxed)), sock.wmem_alloc.load(Ordering::Relaxed))
    };
    let id = Arc::as_ptr(sock) as u64;
    SockDiag { family: sock.family, ty: sock.ty, protocol: sock.protocol, state, local, peer, rqueue, wqueue, id }
}

impl Stack {
    /// All bound and connected sockets of the protocols that list theirs, by protocol and local port: listeners,
    /// connections, requests, TIME_WAIT, datagram and raw sockets. Each is as it was at one moment; together they are
    /// not. No sock may be owned by the caller.
    pub fn sockets(self: &Arc<Stack>) -> Vec<SockDiag> {
        self.socks().into_iter().map(|(diag, _)| diag).collect()
    }

    /// The same, each with its sock if there is one.
    pub(crate) fn socks(self: &Arc<Stack>) -> Vec<(SockDiag, Option<Arc<Sock>>)> {
        let mut all: Vec<(SockDiag, Option<Arc<Sock>>)> = Vec::new();
        for proto in self.registry.protocols() {
            let mut found = Vec::new();
            let (ty, protocol) = proto.diag_dump(&mut |d| found.push(d)).unwrap_or_default();
            // Socks are locked when no table is.
            all.extend(found.into_iter().map(|d| match d {
                Dumped::Sock(sock) => (of_sock(self, &sock), Some(sock)),
                Dumped::Mini(state, local, peer) => {
                    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
                    let (peer, rqueue, wqueue, id) = (Some(peer), 0, 0, 0);
                    (SockDiag { family, ty, protocol, state, local, peer, rqueue, wqueue, id }, None)
                }
            }));
        }
        all.sort_by_key(|(d, _)| (d.protocol, d.state != State::Listen, d.local.port(), d.local.ip(), d.id));
        // A protocol may be registered once for each family, with one table.
        all.dedup_by(|a, b| a.0 == b.0);
        all
    }
}

//! The error queue: ICMP errors and local ones (IP_RECVERR), and later transmit timestamps, read with MSG_ERRQUEUE.
//! Above: `ip::datagram::recv_error`. Below: `ip` error delivery. Linux: ip_icmp_error, ip_local_error, ip_recv_error.

use super::msg::{Control, SockExtendedErr};
use super::{Sock, SockCommon};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// Most errors a queue holds; further ones are dropped and counted in `Sock::drops` (Linux bounds the queue by the
/// receive buffer).
const MAX_ENTRIES: usize = 512;

/// One queued error.
#[derive(Debug, Clone)]
pub(crate) struct ErrEntry {
    /// Destination of the packet that failed, for msg_name.
    pub addr: Option<SocketAddr>,
    /// The error.
    pub err: SockExtendedErr,
    /// Payload of the packet that failed.
    pub payload: Vec<u8>,
    /// The ICMP message that told of it; None: the error is this host's own.
    pub icmp: Option<IcmpPacket>,
    /// Further control data (timestamps).
    pub control: Vec<Control>,
}

/// What the program may ask of an ICMP message (IP_RECVTTL, IP_PKTINFO and their kin).
#[derive(Debug, Clone, Copy)]
pub(crate) struct IcmpPacket {
    /// Where it was sent to: an address of ours.
    pub dst: IpAddr,
    /// Interface it arrived on.
    pub ifindex: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// When it came.
    pub now: Instant,
}

/// Queued errors, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ErrQueue(VecDeque<ErrEntry>);

impl ErrQueue {
    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SockCommon {
    /// Queues an error. False when the queue is full; the sock's drop counter is then incremented.
    pub(crate) fn queue_error(&mut self, sock: &Sock, e: ErrEntry) -> bool {
        let q = self.error_queue.get_or_insert_default();
        if q.0.len() >= MAX_ENTRIES {
            sock.drops.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return false;
        }
        q.0.push_back(e);
        sock.wait.wake(super::wait::Events::ERR);
        true
    }

    /// The oldest error. EAGAIN when there is none. Afterwards SO_ERROR is that of the next queued error of ICMP
    /// origin, or cleared (sock_dequeue_err_skb).
    pub(crate) fn next_error(&mut self, sock: &Sock) -> Result<ErrEntry> {
        let q = self.error_queue.as_mut().ok_or(Error::Again)?;
        let e = q.0.pop_front().ok_or(Error::Again)?;
        let next = q.0.front().filter(|n| n.err.origin == 2 || n.err.origin == 3).map_or(0, |n| n.err.errno as i32);
        sock.err.store(next, std::sync::atomic::Ordering::Relaxed);
        Ok(e)
    }
}

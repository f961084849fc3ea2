//! What IP hands to protocols above beside an IP protocol number's own handler: copies and errors for raw sockets, and
//! echo replies and errors for ping sockets. Those protocols fill a slot when they are registered; IP names neither.
//! Linux: raw_local_deliver, raw_icmp_error; ping_rcv, ping_err.

use super::net;
use crate::base::contain::contain;
use crate::base::read_mostly::Slot;
use crate::counters::DropReason;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::skb::Skb;
use crate::stack::Stack;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Raw sockets. Softirq context.
pub(crate) trait RawRcv: Send + Sync {
    /// Gives a copy of `skb`, which begins with its IP header, to each raw socket of its protocol. True: there is one,
    /// so that an unknown protocol is not answered with an error.
    fn rcv(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> bool;
    /// An ICMP error about a packet of this protocol. True: a raw socket may have sent it.
    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) -> bool;
}

/// Ping sockets. Softirq context.
pub(crate) trait PingRcv: Send + Sync {
    /// An echo reply, header included.
    fn rcv(&self, stack: &Arc<Stack>, skb: Skb, info: &PacketInfo);
    /// An error about a packet of ICMP or ICMPv6.
    fn err(&self, stack: &Arc<Stack>, e: &IcmpError<'_>);
}

/// Gives an ICMP error to the raw sockets and to the protocol of the packet that it quotes (icmp_socket_deliver).
pub(super) fn deliver_error(stack: &Arc<Stack>, e: &IcmpError<'_>) {
    let raw = net(stack).raw.error(stack, e);
    match stack.registry.handler(e.protocol) {
        Some(h) => {
            if contain(|| h.contained(), || h.err(stack, e)) {
                stack.mib.drop(DropReason::PluginRefused);
            }
        }
        None if raw => {}
        None => stack.mib.drop(DropReason::IcmpImplausible),
    }
}

/// The slot of raw sockets.
#[derive(Default)]
pub(crate) struct RawSlot {
    /// How many there are, so that a stack without raw sockets pays one load a packet.
    socks: AtomicUsize,
    rcv: Slot<Arc<dyn RawRcv>>,
}

impl RawSlot {
    /// Raw sockets are registered.
    pub(crate) fn set(&self, rcv: Arc<dyn RawRcv>) {
        self.rcv.set(rcv, true);
    }

    /// A sock has joined the table behind the slot.
    pub(crate) fn sock_added(&self) {
        self.socks.fetch_add(1, Ordering::Release);
    }

    /// A sock has left it.
    pub(crate) fn sock_gone(&self) {
        self.socks.fetch_sub(1, Ordering::Release);
    }

    /// Whether `deliver` does anything.
    #[inline]
    pub(crate) fn has_socks(&self) -> bool {
        self.socks.load(Ordering::Acquire) != 0
    }

    /// See [`RawRcv::rcv`].
    #[inline(always)]
    pub(crate) fn deliver(&self, stack: &Arc<Stack>, skb: &Skb, info: &PacketInfo) -> bool {
        self.has_socks() && self.rcv.read().is_some_and(|r| r.rcv(stack, skb, info))
    }

    /// See [`RawRcv::err`].
    pub(crate) fn error(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) -> bool {
        self.socks.load(Ordering::Acquire) != 0 && self.rcv.read().is_some_and(|r| r.err(stack, e))
    }
}

/// The slot of ping sockets. Without them echo replies and errors about echo requests are dropped.
#[derive(Default)]
pub(crate) struct PingSlot(Slot<Arc<dyn PingRcv>>);

impl PingSlot {
    /// Ping sockets are registered.
    pub(crate) fn set(&self, rcv: Arc<dyn PingRcv>) {
        self.0.set(rcv, true);
    }

    /// See [`PingRcv::rcv`].
    pub(crate) fn deliver(&self, stack: &Arc<Stack>, skb: Skb, info: &PacketInfo) {
        match self.0.read() {
            Some(ping) => ping.rcv(stack, skb, info),
            None => stack.mib.drop(DropReason::NoSocket),
        }
    }

    /// See [`PingRcv::err`].
    pub(crate) fn error(&self, stack: &Arc<Stack>, e: &IcmpError<'_>) {
        match self.0.read() {
            Some(ping) => ping.err(stack, e),
            None => stack.mib.drop(DropReason::IcmpImplausible),
        }
    }
}

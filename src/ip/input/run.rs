//! Datagrams of one flow that come one after the other in a batch, for a protocol that takes them together. Whatever
//! else comes ends a run first, so that no packet passes another. Above: the protocols' `IpHandler`s. Below: `input`.
//! Linux: lists of packets (ip_list_rcv), and those that GRO makes of datagrams (NETIF_F_GRO_FRAGLIST).

use super::ahead::Ahead;
use super::hand_up;
use crate::base::contain::contain;
use crate::counters::DropReason;
use crate::sock::crowd;
use crate::sock::packet::PacketInfo;
use crate::sock::proto::IpHandler;
use crate::sock::skb::{Looped, Skb};
use crate::stack::Stack;
use crate::wire::proto;
use std::sync::Arc;

/// See the module's text.
#[derive(Default)]
pub(super) struct Run {
    /// The first datagram, kept apart because most runs have one only, and those behind it.
    first: Option<Skb>,
    more: Vec<Skb>,
    /// What IP says of each of them; None: the run is empty.
    info: Option<PacketInfo>,
    /// Segments that wait for their socks' cache lines. At any time either they wait or datagrams do.
    ahead: Ahead,
    /// More packets may come behind one.
    several: bool,
}

/// The ports, which with the addresses in `PacketInfo` make the flow.
fn flow(skb: &Skb) -> Option<[u8; 4]> {
    skb.linear().first_chunk().copied()
}

impl Run {
    /// Of a batch.
    pub(super) fn of_several() -> Run {
        Run { several: true, ..Run::default() }
    }

    /// Hands a packet without its IP header to its protocol, behind those of the run, or lets it join them.
    #[inline(always)]
    pub(super) fn hand_up(&mut self, stack: &Arc<Stack>, handler: &dyn IpHandler, skb: Skb, info: &PacketInfo) {
        // Segments are joined by GRO.
        if info.protocol != proto::TCP || self.info.is_some() {
            return self.join_or_hand_up(stack, handler, skb, info);
        }
        // The sender of a segment that is looped has fetched what its receiver needs.
        if self.several && crowd::many() && skb.looped == Looped::No || !self.ahead.is_empty() {
            return self.ahead.hand_up(stack, handler, skb, info);
        }
        hand_up(stack, handler, skb, info);
    }

    fn join_or_hand_up(&mut self, stack: &Arc<Stack>, handler: &dyn IpHandler, skb: Skb, info: &PacketInfo) {
        if !self.ahead.is_empty() {
            self.ahead.end(stack);
        }
        let joins = skb.gso_size == 0 && handler.takes_several() && flow(&skb).is_some();
        if !joins {
            self.end(stack);
            return hand_up(stack, handler, skb, info);
        }
        if self.info.as_ref() == Some(info) && self.first.as_ref().and_then(flow) == flow(&skb) {
            return self.more.push(skb);
        }
        self.end(stack);
        (self.first, self.info) = (Some(skb), Some(*info));
    }

    /// Hands up the run.
    #[inline]
    pub(super) fn end(&mut self, stack: &Arc<Stack>) {
        if let Some(info) = self.info.take() {
            self.hand_up_all(stack, &info);
        }
        if !self.ahead.is_empty() {
            self.ahead.end(stack);
        }
    }

    fn hand_up_all(&mut self, stack: &Arc<Stack>, info: &PacketInfo) {
        let (first, more) = (self.first.take(), std::mem::take(&mut self.more));
        let Some(handler) = stack.registry.handler(info.protocol) else {
            // The protocol has been unregistered since they came.
            return first.into_iter().chain(more).for_each(|_| stack.mib.drop(DropReason::IpNoProto));
        };
        match first {
            Some(only) if more.is_empty() => hand_up(stack, &**handler, only, info),
            _ => {
                let mut all = first.into_iter().chain(more);
                if contain(|| handler.contained(), || handler.rcv_several(stack, &mut all, info)) {
                    stack.mib.drop(DropReason::PluginRefused);
                }
            }
        }
    }
}

//! Input.
use super::netdev::NetDev;
use crate::env::Instant;
use crate::sock::skb::Skb;
use crate::stack::Stack;
use std::sync::Arc;
/// A packet arrived on `dev`: the entry of softirq.
pub fn receive(_stack: &Arc<Stack>, _dev: &Arc<NetDev>, _skb: Skb, _now: Instant) {}

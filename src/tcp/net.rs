//! What TCP keeps for a stack: its tables, and the registries of what users add to it. Owned by the value that is
//! registered as TCP's protocol and packet handler; a sock and a time-wait record hold it too, so that no packet has to
//! look for it. Above: everything in TCP that enters the tables; `cong::register` and its kin. Linux: tcp_hashinfo, the
//! net->ipv4.tcp_* members.

use super::cong::CongRegistry;
use super::fastopen::FastOpenNet;
use super::lookup::TcpTables;
use super::metrics::TcpMetrics;
use super::proto::Tcp;
use super::sock_ops::SockOpsRegistry;
use super::tfb::TfbRegistry;
use super::ulp::UlpRegistry;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// See the module's text. Aligned so that the counts of its `Arc`, which each new sock changes, are not on a cache line
/// that packets read.
#[derive(Default)]
#[repr(align(128))]
pub struct TcpNet {
    /// Connections, listeners and ports.
    pub hashinfo: TcpTables,
    /// Congestion control algorithms.
    pub(crate) cong: CongRegistry,
    /// Upper-layer protocols.
    pub(crate) ulp: UlpRegistry,
    /// Alternatives to this TCP.
    pub(super) tfb: TfbRegistry,
    /// Hooks.
    pub(crate) sock_ops: SockOpsRegistry,
    /// What is remembered of peers.
    pub(super) metrics: TcpMetrics,
    /// Fast Open: keys, and pauses.
    pub(super) fastopen: FastOpenNet,
    /// When TCP last came under memory pressure, ms.
    pub(super) pressure_since_ms: AtomicU32,
}

impl std::fmt::Debug for TcpNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcpNet")
    }
}

/// What TCP keeps for `stack`, looked up by TCP's name: for registrations and listings, not for packets. ENOPROTOOPT:
/// the stack has no TCP.
pub fn of(stack: &Stack) -> Result<Arc<TcpNet>> {
    let proto = stack.registry.proto("TCP").ok_or(Error::NoProtoOpt)?;
    let tcp = (&*proto as &dyn Any).downcast_ref::<Tcp>().ok_or(Error::NoProtoOpt)?;
    Ok(tcp.net().clone())
}

//! What operations are told beside a packet or a sock, and tell: where a packet came from, an ICMP error, how a packet
//! is sent, the columns of a listing.

use super::addr;
use crate::errno::{Errno, Result, status};
use crate::proto::{IcmpError, PacketInfo};
use crate::skb::Packet;
use crate::sock::TxInfo;
use crate::sys::*;
use crate::time::Time;
use std::ffi::CString;
use std::net::SocketAddr;

/// What `rcv` was told of a packet.
pub(crate) fn info_of_skb(skb: &Packet) -> Option<PacketInfo> {
    let (src, dst) = (addr::NONE, addr::NONE);
    let mut info = usk_packet_info_t { src, dst, ifindex: 0, protocol: 0, tos: 0, ttl: 0, not_unicast: 0, now: 0 };
    // SAFETY: a packet, which is only read; writable.
    (unsafe { usk_skb_info(skb.raw(), &mut info) } == 0).then(|| packet_info(&info))
}

/// The argument of an `err` operation, as C has it.
#[derive(Clone, Copy)]
pub(crate) struct RawError<'a>(pub(super) &'a usk_icmp_error_t);

impl std::fmt::Debug for RawError<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

pub(crate) fn packet_info(info: &usk_packet_info_t) -> PacketInfo {
    PacketInfo {
        src: addr::given(&info.src),
        dst: addr::given(&info.dst),
        ifindex: info.ifindex,
        protocol: info.protocol,
        tos: info.tos,
        ttl: info.ttl,
        not_unicast: info.not_unicast != 0,
        now: Time(info.now),
    }
}

/// # Safety
/// The bytes that it quotes are readable while the result is used.
pub(crate) unsafe fn icmp_error(e: &usk_icmp_error_t) -> IcmpError<'_> {
    IcmpError {
        src: addr::given(&e.src),
        dst: addr::given(&e.dst),
        reporter: addr::given(&e.reporter),
        icmp_type: e.icmp_type,
        code: e.code,
        fatal: e.fatal != 0,
        error: Errno::from_number(e.error),
        info: e.info,
        ifindex: e.ifindex,
        // SAFETY: the caller vouches for it.
        quoted: unsafe { super::bytes(e.quoted, e.quoted_len) },
        raw: RawError(e),
    }
}

pub(crate) fn tx_info(tx: &TxInfo) -> usk_tx_info_t {
    let TxInfo { src, ifindex, tos, ttl, flow_label, dont_fragment } = *tx;
    let flags = [
        (src.is_some(), USK_TX_SRC),
        (ifindex.is_some(), USK_TX_IFINDEX),
        (tos.is_some(), USK_TX_TOS),
        (ttl.is_some(), USK_TX_TTL),
        (flow_label.is_some(), USK_TX_FLOW_LABEL),
        (dont_fragment, USK_TX_DF),
    ];
    usk_tx_info_t {
        flags: flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit),
        ifindex: ifindex.unwrap_or(0),
        src: src.map_or(addr::NONE, |ip| addr::to_c(SocketAddr::new(ip, 0))),
        flow_label: flow_label.unwrap_or(0),
        tos: tos.unwrap_or(0),
        ttl: ttl.unwrap_or(0),
        reserved: 0,
    }
}

/// The columns of a sock, in `Protocol::diag_show`.
pub struct Columns(*mut usk_diag_t);

impl Columns {
    /// # Safety
    /// `raw` is the argument of a `diag_show` operation that runs while the result is used.
    pub(crate) unsafe fn new(raw: *mut usk_diag_t) -> Columns {
        Columns(raw)
    }

    /// Adds a column: `name:value` in `usersock ss -i`. EINVAL: the name is not 1 to 31 letters, digits and
    /// underscores, the value is longer than 255 bytes, or there is a NUL byte in one; EEXIST; ENOBUFS: there are 32.
    pub fn add(&mut self, name: &str, value: impl std::fmt::Display) -> Result<()> {
        let text = |text: String| CString::new(text).map_err(|_| Errno::Inval);
        let (name, value) = (text(name.to_owned())?, text(value.to_string())?);
        // SAFETY: the operation's argument, while it runs; both are strings.
        status(unsafe { usk_diag_column(self.0, name.as_ptr(), value.as_ptr()) })
    }
}

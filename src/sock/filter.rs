//! Socket filters: programs of classic BPF that a program attaches to its sockets (SO_ATTACH_FILTER), what they see of
//! a packet, and the options around them. Above: `sock::sockopt` (attach), the protocols' input (run). Below: `bpf`,
//! which checks and runs them, and `reuseport`, which has those that choose among sockets. Linux: net/core/filter.c.

use super::SockCommon;
use super::bpf::{Input, MAX_INSNS, ancillary};
pub use super::bpf::{Insn, Program};
use super::packet::PacketInfo;
use super::reuseport::{self, Membership, ReuseGroup};
use super::skb::Skb;
use crate::base::error::{Error, Result};
use crate::device::LinkType;
use crate::stack::Stack;
use std::sync::Arc;

/// Offsets from here up are relative to the network header (SKF_NET_OFF).
pub(super) const NET_OFF: i32 = -0x10_0000;

/// A packet as a filter sees it: the bytes begin where the socket's protocol begins, for a raw socket of IPv4 with the
/// IP header.
pub struct Packet<'a> {
    /// The stack, for random numbers.
    pub stack: &'a Stack,
    /// The bytes.
    pub skb: &'a Skb,
    /// What IP said of it.
    pub info: Option<&'a PacketInfo>,
    /// Bytes of the protocol's own header.
    pub header: usize,
    /// Bytes before those that the program sees: a program that chooses among sockets sees none of the header.
    pub hidden: usize,
}

impl Input for Packet<'_> {
    fn length(&self) -> u32 {
        self.skb.len().saturating_sub(self.hidden) as u32
    }

    fn load(&self, offset: i32, size: usize) -> Option<u32> {
        let mut bytes = [0; 4];
        let to = &mut bytes[4 - size..];
        if let Ok(offset) = usize::try_from(offset) {
            return (self.skb.copy_out(offset + self.hidden, to) == size).then(|| u32::from_be_bytes(bytes));
        }
        let at = usize::try_from(offset.checked_sub(NET_OFF)?).ok()?;
        let header = self.info?.header(self.skb.len());
        to.copy_from_slice(header.get(at..at.checked_add(size)?)?);
        Some(u32::from_be_bytes(bytes))
    }

    fn ancillary(&self, what: u32, a: u32, x: u32) -> Option<u32> {
        let info = self.info;
        Some(match what {
            ancillary::PROTOCOL if info?.dst.is_ipv4() => 0x0800,
            ancillary::PROTOCOL => 0x86dd,
            ancillary::PKTTYPE => match info {
                Some(i) if i.dst.is_multicast() => 2,
                Some(i) if i.not_unicast => 1,
                _ => 0,
            },
            ancillary::IFINDEX => info?.ifindex,
            ancillary::HATYPE => match self.stack.netdevs.by_index(info?.ifindex)?.device().caps().link {
                LinkType::Ethernet(_) => libc::ARPHRD_ETHER.into(),
                LinkType::Ip => libc::ARPHRD_NONE.into(),
            },
            ancillary::RXHASH => self.skb.hash,
            ancillary::CPU => crate::sys::thread::cpu() as u32,
            ancillary::ALU_XOR_X => a ^ x,
            ancillary::PAY_OFFSET => self.header.saturating_sub(self.hidden) as u32,
            ancillary::RANDOM => self.stack.entropy.next_u32(),
            // Packets have no mark, one queue and no VLAN here.
            _ => 0,
        })
    }
}

/// What a socket has attached (sk_filter, SOCK_FILTER_LOCKED).
#[derive(Debug, Clone, Default)]
pub(crate) struct Attached {
    program: Option<Arc<Program>>,
    locked: bool,
    /// Its SO_REUSEPORT group, if a program was attached before the sock was in the tables.
    pub(super) group: Option<Arc<ReuseGroup>>,
}

impl Attached {
    /// What a child of a listener has of it (sk_clone_lock: it is of no group).
    pub(crate) fn for_child(&self) -> Attached {
        Attached { group: None, ..self.clone() }
    }
}

/// SO_ATTACH_FILTER: takes the place of an earlier filter. EPERM: SO_LOCK_FILTER was set; otherwise as
/// [`Program::new`]. `value`: the instructions' bytes (sk_attach_filter).
pub(crate) fn attach(sk: &mut SockCommon, value: &[u8]) -> Result<()> {
    if sk.filter.as_ref().is_some_and(|f| f.locked) {
        return Err(Error::Perm);
    }
    sk.cold_mut().filter.get_or_insert_default().program = Some(program(value)?);
    Ok(())
}

/// SO_ATTACH_REUSEPORT_CBPF, with the same errors, and EINVAL for a sock of no group (sk_reuseport_attach_filter).
pub(crate) fn attach_reuseport(sk: &mut SockCommon, of: Membership, value: &[u8]) -> Result<()> {
    if is_locked(sk) {
        return Err(Error::Perm);
    }
    reuseport::attach(sk, of, program(value)?)
}

/// SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF: there are no such programs, so that the descriptor is never one's. EBADF:
/// it is none at all; EPERM: SO_LOCK_FILTER was set (__get_bpf).
pub(crate) fn attach_fd(sk: &SockCommon, value: &[u8]) -> Result<()> {
    let Ok(fd) = <[u8; 4]>::try_from(value) else { return Err(Error::Inval) };
    match i32::from_ne_bytes(fd) {
        _ if is_locked(sk) => Err(Error::Perm),
        ..0 => Err(Error::BadF),
        _ => Err(Error::Inval),
    }
}

fn program(value: &[u8]) -> Result<Arc<Program>> {
    let (insns, []) = value.as_chunks::<{ Insn::LEN }>() else { return Err(Error::Inval) };
    if insns.len() > MAX_INSNS {
        return Err(Error::Inval);
    }
    let insns: Vec<_> = insns.iter().map(Insn::from_bytes).collect();
    Ok(Arc::new(Program::new(&insns)?))
}

/// SO_DETACH_FILTER. ENOENT: there is none; EPERM: SO_LOCK_FILTER was set (sk_detach_filter).
pub(crate) fn detach(sk: &mut SockCommon) -> Result<()> {
    match sk.cold_mut().filter.as_mut() {
        Some(f) if f.locked => Err(Error::Perm),
        Some(f) if f.program.is_some() => {
            f.program = None;
            Ok(())
        }
        _ => Err(Error::NoEnt),
    }
}

/// SO_LOCK_FILTER. EPERM: it is set and `on` is not.
pub(crate) fn lock(sk: &mut SockCommon, on: bool) -> Result<()> {
    if !on && is_locked(sk) {
        return Err(Error::Perm);
    }
    if on {
        sk.cold_mut().filter.get_or_insert_default().locked = true;
    }
    Ok(())
}

/// Whether SO_LOCK_FILTER is set.
pub(crate) fn is_locked(sk: &SockCommon) -> bool {
    sk.filter.as_ref().is_some_and(|f| f.locked)
}

/// SO_GET_FILTER: the instructions' bytes to `value`, where it is not empty; returns how many instructions there are.
/// EINVAL: `value` is too short (sk_get_filter).
pub(crate) fn get(sk: &SockCommon, value: &mut [u8]) -> Result<usize> {
    let Some(program) = sk.filter.as_ref().and_then(|f| f.program.as_ref()) else { return Ok(0) };
    let n = program.insns().len();
    if value.is_empty() {
        return Ok(n);
    }
    let (to, _) = value.as_chunks_mut::<{ Insn::LEN }>();
    if to.len() < n {
        return Err(Error::Inval);
    }
    for (insn, to) in program.insns().iter().zip(to) {
        *to = insn.to_bytes();
    }
    Ok(n)
}

/// Whether the socket's filter lets a packet through, which is cut to the length that it returns; the protocol's header
/// of `header` bytes stays (sk_filter_trim_cap).
pub(crate) fn admits(stack: &Stack, sk: &SockCommon, skb: &mut Skb, header: usize) -> bool {
    let Some(program) = sk.filter.as_ref().and_then(|f| f.program.as_ref()) else { return true };
    let info = skb.rx;
    let keep = program.run(&Packet { stack, skb, info: info.as_ref(), header, hidden: 0 }) as usize;
    if keep != 0 && keep.max(header) < skb.len() {
        skb.trim(keep.max(header));
    }
    keep != 0
}

//! Socket filters: classic BPF programs that a program attaches to its sockets (SO_ATTACH_FILTER, and the choice among
//! the sockets of a SO_REUSEPORT group). A program is checked when it is attached, and then runs in bounded time: it
//! has no loops, for jumps go forward only. Above: `sock::sockopt` (attach), the protocols' input (run). bpf(4),
//! Documentation/networking/filter.rst. Linux: net/core/filter.c.

use super::SockCommon;
use super::packet::PacketInfo;
use super::reuseport::{self, Membership, ReuseGroup};
use super::skb::Skb;
use crate::base::error::{Error, Result};
use crate::device::LinkType;
use crate::stack::Stack;
use std::sync::Arc;

/// Most instructions of a program (BPF_MAXINSNS).
const MAX_INSNS: usize = 4096;
/// Words of a program's own memory (BPF_MEMWORDS).
const MEM_WORDS: usize = 16;
/// Offsets from here up are not of the packet's bytes but name something that is known of it (SKF_AD_OFF).
const AD_OFF: u32 = -0x1000i32 as u32;
/// Offsets from here up are relative to the network header (SKF_NET_OFF).
const NET_OFF: i32 = -0x10_0000;

/// Classes of instructions, by their lowest three bits.
mod class {
    pub(super) const LD: u16 = 0;
    pub(super) const LDX: u16 = 1;
    pub(super) const ST: u16 = 2;
    pub(super) const STX: u16 = 3;
    pub(super) const ALU: u16 = 4;
    pub(super) const JMP: u16 = 5;
    pub(super) const RET: u16 = 6;
    pub(super) const MISC: u16 = 7;
}

/// What may be loaded by an offset from `AD_OFF` (SKF_AD_*).
mod ancillary {
    pub(super) const PROTOCOL: u32 = 0;
    pub(super) const PKTTYPE: u32 = 4;
    pub(super) const IFINDEX: u32 = 8;
    pub(super) const MARK: u32 = 20;
    pub(super) const QUEUE: u32 = 24;
    pub(super) const HATYPE: u32 = 28;
    pub(super) const RXHASH: u32 = 32;
    pub(super) const CPU: u32 = 36;
    pub(super) const ALU_XOR_X: u32 = 40;
    pub(super) const VLAN_TAG: u32 = 44;
    pub(super) const VLAN_TAG_PRESENT: u32 = 48;
    pub(super) const PAY_OFFSET: u32 = 52;
    pub(super) const RANDOM: u32 = 56;
    pub(super) const VLAN_TPID: u32 = 60;
}

/// One instruction (struct sock_filter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, size, mode or operation, and source.
    pub code: u16,
    /// Instructions to skip when a comparison holds, and when it does not.
    pub jt: u8,
    /// See `jt`.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    /// Bytes of one instruction, as `struct sock_filter` lies in memory.
    pub const LEN: usize = 8;

    /// Reads one from its bytes.
    pub fn from_bytes(b: &[u8; Insn::LEN]) -> Insn {
        Insn {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; Insn::LEN] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    fn class(self) -> u16 {
        self.code & 7
    }

    /// The bytes that a load takes: 4, 2 or 1.
    fn size(self) -> Option<usize> {
        match self.code & 0x18 {
            0x00 => Some(4),
            0x08 => Some(2),
            0x10 => Some(1),
            _ => None,
        }
    }

    /// Where a load takes its value from (BPF_MODE).
    fn mode(self) -> u16 {
        self.code & 0xe0
    }

    /// The operation of an arithmetic instruction or a jump (BPF_OP).
    fn op(self) -> u16 {
        self.code & 0xf0
    }

    /// The second operand is X, not `k` (BPF_X).
    fn by_x(self) -> bool {
        self.code & 0x08 != 0
    }
}

const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;
const TXA: u16 = 0x80;

const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const MOD: u16 = 0x90;
const XOR: u16 = 0xa0;

const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;

/// A checked program.
#[derive(Debug)]
pub struct Program(Box<[Insn]>);

impl Program {
    /// Checks `insns` (bpf_check_classic). EINVAL: none, or more than 4,096; an instruction that does not exist; a
    /// jump beyond the end; a division by the constant 0, or a shift by more than 31; memory that is read before it is
    /// written; no return at the end.
    pub fn new(insns: &[Insn]) -> Result<Program> {
        if insns.is_empty() || insns.len() > MAX_INSNS {
            return Err(Error::Inval);
        }
        let fine = insns.iter().enumerate().all(|(pc, &i)| exists(i) && operand_fits(i, insns.len() - pc - 1));
        let ends = insns.last().is_some_and(|i| i.class() == class::RET);
        if !fine || !ends || !reads_what_it_wrote(insns) {
            return Err(Error::Inval);
        }
        Ok(Program(insns.into()))
    }

    /// Instructions, for SO_GET_FILTER.
    pub fn insns(&self) -> &[Insn] {
        &self.0
    }

    /// Runs the program over a packet. Returns what it returns: the bytes of the packet to keep, or a number that a
    /// group of sockets takes as an index. A load beyond the packet's end returns 0 for the whole program.
    pub fn run(&self, packet: &Packet<'_>) -> u32 {
        Machine { a: 0, x: 0, mem: [0; MEM_WORDS], packet }.run(&self.0).unwrap_or(0)
    }
}

/// Whether there is such an instruction: the exact list, so that no unused bit is set.
fn exists(i: Insn) -> bool {
    let sized = i.size().is_some();
    match i.class() {
        class::LD => match i.mode() {
            ABS | IND => sized && i.code & !0xf8 == 0,
            IMM | MEM | LEN => i.code & 0x18 == 0,
            _ => false,
        },
        class::LDX => match i.mode() {
            IMM | MEM | LEN => i.code & 0x18 == 0,
            MSH => i.size() == Some(1),
            _ => false,
        },
        class::ST | class::STX => i.code & !7 == 0,
        class::ALU => match i.op() {
            NEG => !i.by_x(),
            op => op <= XOR,
        },
        class::JMP => match i.op() {
            JA => !i.by_x(),
            op => op <= JSET,
        },
        // The value is k or A.
        class::RET => matches!(i.code & !7, 0x00 | 0x10),
        class::MISC => matches!(i.code & !7, 0 | TXA),
        _ => false,
    }
}

/// Whether operand and jumps are in their range; `behind`: instructions after this one.
fn operand_fits(i: Insn, behind: usize) -> bool {
    match i.class() {
        class::LD | class::LDX if i.mode() == MEM => i.k < MEM_WORDS as u32,
        class::LD if i.mode() == ABS && i.k >= AD_OFF => is_ancillary(i.k.wrapping_sub(AD_OFF)),
        class::ST | class::STX => i.k < MEM_WORDS as u32,
        class::ALU if !i.by_x() => match i.op() {
            DIV | MOD => i.k != 0,
            LSH | RSH => i.k < 32,
            _ => true,
        },
        class::JMP if i.op() == JA => (i.k as usize) < behind,
        class::JMP => usize::from(i.jt.max(i.jf)) < behind,
        _ => true,
    }
}

fn is_ancillary(what: u32) -> bool {
    use ancillary::*;
    matches!(
        what,
        PROTOCOL
            | PKTTYPE
            | IFINDEX
            | MARK
            | QUEUE
            | HATYPE
            | RXHASH
            | CPU
            | ALU_XOR_X
            | VLAN_TAG
            | VLAN_TAG_PRESENT
            | PAY_OFFSET
            | RANDOM
            | VLAN_TPID
    )
}

/// Whether each word of memory is written before it is read, on every path (check_load_and_stores).
fn reads_what_it_wrote(insns: &[Insn]) -> bool {
    // Words that are written on each path to an instruction.
    let mut written = vec![u16::MAX; insns.len()];
    let mut now = 0;
    for (pc, i) in insns.iter().enumerate() {
        now &= written[pc];
        let bit = 1u16.checked_shl(i.k).unwrap_or(0);
        match i.class() {
            class::ST | class::STX => now |= bit,
            class::LD | class::LDX if i.mode() == MEM && now & bit == 0 => return false,
            class::JMP => {
                let targets = if i.op() == JA { [i.k as usize; 2] } else { [usize::from(i.jt), usize::from(i.jf)] };
                for to in targets {
                    if let Some(w) = written.get_mut(pc + 1 + to) {
                        *w &= now;
                    }
                }
                now = u16::MAX;
            }
            _ => {}
        }
    }
    true
}

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

impl Packet<'_> {
    /// `size` bytes at `offset` of the packet, or below 0 of its network header.
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

struct Machine<'a> {
    a: u32,
    x: u32,
    mem: [u32; MEM_WORDS],
    packet: &'a Packet<'a>,
}

impl Machine<'_> {
    /// None: a load failed, or a division by an X of 0.
    fn run(&mut self, insns: &[Insn]) -> Option<u32> {
        let mut pc = 0;
        loop {
            // A checked program ends with a return and jumps within itself.
            let i = *insns.get(pc)?;
            pc += 1;
            match i.class() {
                class::LD => self.a = self.value(i)?,
                class::LDX => self.x = self.value(i)?,
                class::ST => *self.mem.get_mut(i.k as usize)? = self.a,
                class::STX => *self.mem.get_mut(i.k as usize)? = self.x,
                class::ALU => self.a = self.compute(i)?,
                class::JMP if i.op() == JA => pc += i.k as usize,
                class::JMP => pc += usize::from(if self.compare(i) { i.jt } else { i.jf }),
                class::RET => return Some(if i.code & 0x10 != 0 { self.a } else { i.k }),
                _ if i.code & TXA != 0 => self.a = self.x,
                _ => self.x = self.a,
            }
        }
    }

    fn value(&self, i: Insn) -> Option<u32> {
        let size = i.size().unwrap_or(4);
        match i.mode() {
            IMM => Some(i.k),
            MEM => self.mem.get(i.k as usize).copied(),
            LEN => Some(self.packet.skb.len().saturating_sub(self.packet.hidden) as u32),
            ABS if i.k >= AD_OFF => self.packet.ancillary(i.k.wrapping_sub(AD_OFF), self.a, self.x),
            ABS => self.packet.load(i.k as i32, size),
            IND => self.packet.load(self.x.wrapping_add(i.k) as i32, size),
            // Four times the low half of a byte: the length of an IPv4 header.
            _ => Some((self.packet.load(i.k as i32, 1)? & 0xf) << 2),
        }
    }

    fn operand(&self, i: Insn) -> u32 {
        if i.by_x() { self.x } else { i.k }
    }

    fn compute(&self, i: Insn) -> Option<u32> {
        let (a, b) = (self.a, self.operand(i));
        Some(match i.op() {
            ADD => a.wrapping_add(b),
            SUB => a.wrapping_sub(b),
            MUL => a.wrapping_mul(b),
            DIV => a.checked_div(b)?,
            MOD => a.checked_rem(b)?,
            OR => a | b,
            AND => a & b,
            XOR => a ^ b,
            LSH => a.wrapping_shl(b),
            RSH => a.wrapping_shr(b),
            _ => a.wrapping_neg(),
        })
    }

    fn compare(&self, i: Insn) -> bool {
        let (a, b) = (self.a, self.operand(i));
        match i.op() {
            JEQ => a == b,
            JGT => a > b,
            JGE => a >= b,
            _ => a & b != 0,
        }
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

#[cfg(test)]
mod tests;

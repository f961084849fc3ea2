//! Classic BPF: the check of a program when it is attached, and the machine that runs it, in bounded time, because
//! jumps go forward only. Knows nothing of sockets and packets: what a program reads comes from an [`Input`]. Above:
//! `filter`, `reuseport`. bpf(4), Documentation/networking/filter.rst. Linux: net/core/filter.c.

use crate::base::error::{Error, Result};

/// Most instructions of a program (BPF_MAXINSNS).
pub(super) const MAX_INSNS: usize = 4096;
/// Words of a program's own memory (BPF_MEMWORDS).
const MEM_WORDS: usize = 16;
/// Offsets from here up are not of the packet's bytes but name something that is known of it (SKF_AD_OFF).
const AD_OFF: u32 = -0x1000i32 as u32;

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
pub(crate) mod ancillary {
    pub(crate) const PROTOCOL: u32 = 0;
    pub(crate) const PKTTYPE: u32 = 4;
    pub(crate) const IFINDEX: u32 = 8;
    pub(crate) const MARK: u32 = 20;
    pub(crate) const QUEUE: u32 = 24;
    pub(crate) const HATYPE: u32 = 28;
    pub(crate) const RXHASH: u32 = 32;
    pub(crate) const CPU: u32 = 36;
    pub(crate) const ALU_XOR_X: u32 = 40;
    pub(crate) const VLAN_TAG: u32 = 44;
    pub(crate) const VLAN_TAG_PRESENT: u32 = 48;
    pub(crate) const PAY_OFFSET: u32 = 52;
    pub(crate) const RANDOM: u32 = 56;
    pub(crate) const VLAN_TPID: u32 = 60;
}

/// What a program reads of the packet that it is run over.
pub trait Input {
    /// Bytes that the program sees.
    fn length(&self) -> u32;
    /// `size` bytes at `offset`, which is below 0 for those of the link or the network header. None: there are none.
    fn load(&self, offset: i32, size: usize) -> Option<u32>;
    /// One of `ancillary`; `a` and `x`: the program's registers. None: it is not known of this packet.
    fn ancillary(&self, what: u32, a: u32, x: u32) -> Option<u32>;
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
    pub fn run(&self, packet: &impl Input) -> u32 {
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

/// The registers and the memory of a program that runs.
struct Machine<'a, I> {
    a: u32,
    x: u32,
    mem: [u32; MEM_WORDS],
    packet: &'a I,
}

impl<I: Input> Machine<'_, I> {
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
            LEN => Some(self.packet.length()),
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

#[cfg(test)]
mod tests;

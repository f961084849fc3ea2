//! Steering: has the kernel return a flow's packets on the queue of a TUN device on which this process sends that flow,
//! so that the thread that sends for a connection also receives for it. The kernel does that by itself, but too late
//! and for few flows: it notes the queue of a packet only when it has processed the packet, so that its answer to a
//! flow's first packet may come on any queue, and it keeps at most 4,096 flows, for three seconds (tun_flow_update,
//! MAX_TAP_FLOWS). So a program of ours chooses the queue instead (TUNSETSTEERINGEBPF). It reads a table of queues,
//! which the device writes before it sends: [`index`] gives a packet's place in it, the same in both directions of a
//! flow. Without CAP_BPF the kernel's own choice remains. Above: `tun`. Below: `sys::bpf`.

use crate::sys::bpf::{self, Insn, Table};
use crate::sys::fd::Fd;
use crate::sys::netdev;
use std::io;
use std::sync::atomic::Ordering;

/// Entries of the table: flows between two addresses have one for each port of one end.
const LEN: usize = 1 << 16;
/// A multiplier that spreads what its factor's low bits differ in over the high bits: 2^32 over the golden ratio.
const SPREAD: u32 = 0x9e37_79b1;

/// The queues of a device's flows, which the kernel asks for.
#[derive(Debug)]
pub(super) struct Steering(Table<LEN>);

impl Steering {
    /// Has the kernel ask for the queues of the device whose queue `fd` is. EPERM: no CAP_BPF; EINVAL (Linux
    /// before 5.5), EMFILE.
    pub(super) fn attach(fd: &Fd, queues: usize) -> io::Result<Steering> {
        if !bpf::may_load() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let (table, map) = Table::new()?;
        // Flows whose first packet is the kernel's go to all queues.
        for (i, queue) in table.bytes().iter().enumerate() {
            queue.store((spread(i as u32) as usize * queues / LEN) as u8, Ordering::Relaxed);
        }
        let program = bpf::load(&program(map.raw()))?;
        netdev::set_steering(fd, Some(&program))?;
        Ok(Steering(table))
    }

    /// The packets of the flow of `packet` are to come by `queue`.
    #[inline]
    pub(super) fn note(&self, packet: &[u8], queue: u16) {
        if let Some(i) = index(packet) {
            self.0.set(i, queue as u8);
        }
    }
}

fn spread(n: u32) -> u32 {
    n.wrapping_mul(SPREAD) >> 16
}

/// Where the flow of an IP datagram is in the table. None: it is cut off.
fn index(p: &[u8]) -> Option<usize> {
    let word = |at: usize| p.get(at..at + 4).and_then(|w| w.try_into().ok()).map(u32::from_be_bytes);
    let (addresses, protocol, header) = match p.first()? >> 4 {
        4 => {
            let fragment = word(4)? & 0x3fff != 0;
            let protocol = if fragment { 0 } else { *p.get(9)? };
            (word(12)? ^ word(16)?, protocol, usize::from(p[0] & 15) * 4)
        }
        6 => {
            let addresses = [8, 12, 16, 20, 24, 28, 32, 36].into_iter().try_fold(0, |all, at| Some(all ^ word(at)?));
            (addresses?, *p.get(6)?, 40)
        }
        _ => (0, 0, 0),
    };
    let ports = match i32::from(protocol) {
        libc::IPPROTO_TCP | libc::IPPROTO_UDP => word(header)?,
        _ => 0,
    };
    Some((spread(addresses) ^ (ports >> 16 ^ ports & 0xffff)) as usize)
}

// Codes of instructions: class, size or operation, mode or source.
const LD_ABS_B: u8 = 0x30;
const LD_ABS_H: u8 = 0x28;
const LD_ABS_W: u8 = 0x20;
const LD_IND_W: u8 = 0x40;
const LD_IMM_DW: u8 = 0x18;
const LDX_MEM_B: u8 = 0x71;
const MOV64_X: u8 = 0xbf;
const MOV64_K: u8 = 0xb7;
const ADD64_X: u8 = 0x0f;
const AND64_K: u8 = 0x57;
const LSH64_K: u8 = 0x67;
const RSH64_K: u8 = 0x77;
const XOR64_X: u8 = 0xaf;
const MUL32_K: u8 = 0x24;
const RSH32_K: u8 = 0x74;
const JA: u8 = 0x05;
const JEQ_K: u8 = 0x15;
const JNE_K: u8 = 0x55;
const EXIT: u8 = 0x95;
/// The source register of `LD_IMM_DW` that makes the number a map's descriptor and an offset in its first entry.
const PSEUDO_MAP_VALUE: u8 = 2;

/// A place in the program that jumps lead to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    V6,
    Protocol,
    Ports,
    Look,
}

/// A program under construction.
#[derive(Default)]
struct Asm {
    insns: Vec<Insn>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Asm {
    fn op(&mut self, code: u8, dst: u8, src: u8, imm: i32) {
        self.insns.push(Insn::new(code, dst, src, 0, imm));
    }
    /// A load to r0, of the packet in r6; of a packet that is shorter the program returns 0.
    fn load(&mut self, code: u8, at: i32) {
        self.op(code, 0, 0, at);
    }
    /// Jumps by r0.
    fn jump(&mut self, code: u8, imm: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.op(code, 0, 0, imm);
    }
    fn label(&mut self, label: Label) {
        self.labels.push((label, self.insns.len()));
    }
    fn done(mut self) -> Vec<Insn> {
        for (from, label) in self.jumps {
            let to = self.labels.iter().find(|l| l.0 == label).map_or(from, |l| l.1);
            self.insns[from].off = (to - from - 1) as i16;
        }
        self.insns
    }
}

/// The program: the byte of the table, whose descriptor is `map`, at a packet's [`index`].
fn program(map: i32) -> Vec<Insn> {
    let mut p = Asm::default();
    // r6: the packet; r7: addresses; r8: length of the IP header; r9: ports.
    p.op(MOV64_X, 6, 1, 0);
    p.op(MOV64_K, 7, 0, 0);
    p.op(MOV64_K, 9, 0, 0);
    p.load(LD_ABS_B, 0);
    p.op(MOV64_X, 8, 0, 0);
    p.op(RSH64_K, 0, 0, 4);
    p.jump(JEQ_K, 6, Label::V6);
    p.jump(JNE_K, 4, Label::Look);
    p.op(AND64_K, 8, 0, 15);
    p.op(LSH64_K, 8, 0, 2);
    for address in [12, 16] {
        p.load(LD_ABS_W, address);
        p.op(XOR64_X, 7, 0, 0);
    }
    p.load(LD_ABS_H, 6);
    p.op(AND64_K, 0, 0, 0x3fff);
    p.jump(JNE_K, 0, Label::Look);
    p.load(LD_ABS_B, 9);
    p.jump(JA, 0, Label::Protocol);
    p.label(Label::V6);
    for address in (8..40).step_by(4) {
        p.load(LD_ABS_W, address);
        p.op(XOR64_X, 7, 0, 0);
    }
    p.op(MOV64_K, 8, 0, 40);
    p.load(LD_ABS_B, 6);
    p.label(Label::Protocol);
    p.jump(JEQ_K, libc::IPPROTO_TCP, Label::Ports);
    p.jump(JNE_K, libc::IPPROTO_UDP, Label::Look);
    p.label(Label::Ports);
    p.op(LD_IND_W, 0, 8, 0);
    p.op(MOV64_X, 9, 0, 0);
    p.op(RSH64_K, 9, 0, 16);
    p.op(AND64_K, 0, 0, 0xffff);
    p.op(XOR64_X, 9, 0, 0);
    p.label(Label::Look);
    p.op(MUL32_K, 7, 0, SPREAD as i32);
    p.op(RSH32_K, 7, 0, 16);
    p.op(XOR64_X, 7, 9, 0);
    p.op(AND64_K, 7, 0, LEN as i32 - 1);
    p.op(LD_IMM_DW, 1, PSEUDO_MAP_VALUE, map);
    p.op(0, 0, 0, 0);
    p.op(ADD64_X, 1, 7, 0);
    p.op(LDX_MEM_B, 0, 1, 0);
    p.op(EXIT, 0, 0, 0);
    p.done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::gso::tests::{tcp4, tcp6, udp4};

    /// What the program returns for a packet, of a table in which each entry is its index.
    fn run(program: &[Insn], packet: &[u8]) -> Option<u64> {
        let mut r = [0u64; 10];
        let mut at = 0;
        loop {
            let i = program[at];
            let (dst, src) = i.regs();
            let k = i64::from(i.imm) as u64;
            let load = |from: usize, n: usize| {
                packet.get(from..from + n).map(|b| b.iter().fold(0, |all, b| all << 8 | u64::from(*b)))
            };
            at += 1;
            let jumps = match i.code {
                LD_ABS_B => (r[0] = load(k as usize, 1)?, false).1,
                LD_ABS_H => (r[0] = load(k as usize, 2)?, false).1,
                LD_ABS_W => (r[0] = load(k as usize, 4)?, false).1,
                LD_IND_W => (r[0] = load(r[src] as usize, 4)?, false).1,
                MOV64_X => (r[dst] = r[src], false).1,
                MOV64_K => (r[dst] = k, false).1,
                AND64_K => (r[dst] &= k, false).1,
                LSH64_K => (r[dst] <<= k, false).1,
                RSH64_K => (r[dst] >>= k, false).1,
                XOR64_X => (r[dst] ^= r[src], false).1,
                ADD64_X => (r[dst] += r[src], false).1,
                MUL32_K => (r[dst] = u64::from((r[dst] as u32).wrapping_mul(k as u32)), false).1,
                RSH32_K => (r[dst] = u64::from(r[dst] as u32 >> k), false).1,
                LD_IMM_DW => {
                    assert_eq!((src, k, program[at].code), (usize::from(PSEUDO_MAP_VALUE), 77, 0));
                    at += 1;
                    r[dst] = 0;
                    false
                }
                LDX_MEM_B => (r[dst] = r[src], false).1,
                JA => true,
                JEQ_K => r[0] == k,
                JNE_K => r[0] != k,
                EXIT => return Some(r[0]),
                other => panic!("{other:#x}"),
            };
            if jumps {
                at = (at as i64 + i64::from(i.off)) as usize;
            }
        }
    }

    /// A packet back: addresses and ports changed about.
    fn back(packet: &[u8]) -> Vec<u8> {
        let mut p = packet.to_vec();
        let (at, len, ports) = if p[0] >> 4 == 4 { (12, 4, usize::from(p[0] & 15) * 4) } else { (8, 16, 40) };
        for i in 0..len {
            p.swap(at + i, at + len + i);
        }
        for i in 0..2 {
            p.swap(ports + i, ports + 2 + i);
        }
        p
    }

    #[test]
    fn the_program_finds_a_flow_where_the_device_does_in_either_direction_and_when_cut_off() {
        let program = program(77);
        let mut fragment = udp4(100);
        fragment[6] |= 0x20;
        let mut options = tcp4(100, 0x10);
        options[0] = 0x46;
        options.splice(20..20, [1, 1, 1, 0]);
        let mut icmp = udp4(30);
        icmp[9] = 1;
        let other = vec![0x55; 60];
        let packets = [tcp4(10, 0x02), tcp6(1000), udp4(7), options, fragment, icmp, other];
        let mut seen = Vec::new();
        for packet in &packets {
            let i = index(packet).unwrap();
            seen.push(i);
            assert_eq!(run(&program, packet), Some(i as u64));
            for cut in 0..packet.len().min(64) {
                let (ours, theirs) = (index(&packet[..cut]), run(&program, &packet[..cut]));
                assert_eq!(ours.map(|i| i as u64), theirs, "{cut} of {packet:02x?}");
            }
            if packet[0] != 0x55 {
                assert_eq!(index(&back(packet)), Some(i));
            }
        }
        // Of one pair of addresses, by ports.
        let mut port = tcp4(10, 0x02);
        let ports: std::collections::BTreeSet<_> = (0..=u8::MAX)
            .map(|n| {
                port[21] = n;
                index(&port).unwrap()
            })
            .collect();
        assert_eq!(ports.len(), 256);
    }
}

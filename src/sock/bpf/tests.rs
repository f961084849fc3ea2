use super::super::filter::{NET_OFF, Packet};
use super::super::packet::PacketInfo;
use super::super::skb::Skb;
use super::*;
use crate::base::env::Instant;
use std::net::Ipv4Addr;

const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

/// `ld [k]`, `ldh [k]`, `ldb [k]`, `ret #k`, `ret a`.
const fn ld(k: u32) -> Insn {
    insn(0x20, 0, 0, k)
}
const fn ldh(k: u32) -> Insn {
    insn(0x28, 0, 0, k)
}
const fn ldb(k: u32) -> Insn {
    insn(0x30, 0, 0, k)
}
const fn ret(k: u32) -> Insn {
    insn(0x06, 0, 0, k)
}
const RET_A: Insn = insn(0x16, 0, 0, 0);
const LDI: u16 = 0x00;
const LDXI: u16 = 0x01;

fn info() -> PacketInfo {
    PacketInfo {
        src: Ipv4Addr::new(10, 0, 0, 1).into(),
        dst: Ipv4Addr::new(10, 0, 0, 2).into(),
        protocol: 17,
        tos: 0,
        ttl: 64,
        ifindex: 1,
        not_unicast: false,
        flow_label: 0,
        now: Instant::ZERO,
    }
}

/// What a program returns over eight bytes of a datagram.
fn run(insns: &[Insn]) -> u32 {
    let stack = crate::config::build("").unwrap();
    let skb = Skb::from_slice(&[0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
    let program = Program::new(insns).unwrap();
    program.run(&Packet { stack: &stack, skb: &skb, info: Some(&info()), header: 8, hidden: 0 })
}

#[test]
fn loads_are_big_endian_and_end_the_program_beyond_the_packet() {
    for (load, want) in [
        (ld(0), 0x1234_5678),
        (ld(4), 0x9abc_def0),
        (ldh(6), 0xdef0),
        (ldb(7), 0xf0),
        (ld(5), 0),
        (ldh(7), 0),
        (ldb(8), 0),
        (ldb(0x7fff_ffff), 0),
        // The length, and a constant.
        (insn(0x80, 0, 0, 0), 8),
        (insn(LDI, 0, 0, 77), 77),
    ] {
        assert_eq!(run(&[load, RET_A]), want, "{load:x?}");
    }
}

#[test]
fn indirect_loads_add_x_and_msh_is_the_length_of_an_ip_header() {
    assert_eq!(run(&[insn(LDXI, 0, 0, 3), insn(0x50, 0, 0, 1), RET_A]), 0x9a);
    assert_eq!(run(&[insn(LDXI, 0, 0, u32::MAX), insn(0x50, 0, 0, 1), RET_A]), 0x12, "wraps to 0");
    // ldx 4*([1]&0xf); txa
    assert_eq!(run(&[insn(0xb1, 0, 0, 1), insn(0x87, 0, 0, 0), RET_A]), 16);
}

#[test]
fn arithmetic_is_of_32_bits_and_a_division_by_zero_returns_0() {
    for (op, a, b, want) in [
        (ADD, u32::MAX, 2, 1),
        (SUB, 1, 2, u32::MAX),
        (MUL, 1 << 31, 2, 0),
        (DIV, 7, 2, 3),
        (MOD, 7, 2, 1),
        (OR, 5, 2, 7),
        (AND, 5, 4, 4),
        (XOR, 5, 1, 4),
        (LSH, 1, 31, 1 << 31),
        (RSH, 1 << 31, 31, 1),
    ] {
        let by_k = [insn(LDI, 0, 0, a), insn(class::ALU | op, 0, 0, b), RET_A];
        let by_x = [insn(LDXI, 0, 0, b), insn(LDI, 0, 0, a), insn(class::ALU | op | 8, 0, 0, 0), RET_A];
        assert_eq!((run(&by_k), run(&by_x)), (want, want), "{op:x}");
    }
    assert_eq!(run(&[insn(LDI, 0, 0, 5), insn(0x84, 0, 0, 0), RET_A]), 5u32.wrapping_neg());
    for op in [DIV, MOD] {
        assert_eq!(run(&[insn(LDI, 0, 0, 5), insn(class::ALU | op | 8, 0, 0, 0), ret(9)]), 0, "{op:x}");
    }
}

#[test]
fn jumps_compare_without_sign_and_memory_holds_16_words() {
    for (op, k, taken) in [
        (JEQ, 0x1234_5678, true),
        (JEQ, 0, false),
        (JGT, 0x1234_5677, true),
        (JGT, 0x8000_0000, false),
        (JGE, 0x1234_5678, true),
        (JSET, 0x8, true),
        (JSET, 0x7, false),
    ] {
        let got = run(&[ld(0), insn(class::JMP | op, 1, 0, k), ret(1), ret(2)]);
        assert_eq!(got, if taken { 2 } else { 1 }, "{op:x} {k:x}");
    }
    assert_eq!(run(&[insn(0x05, 0, 0, 1), ret(1), ret(2)]), 2);
    // st M[15]; ld #0; ld M[15]
    assert_eq!(run(&[ld(0), insn(0x02, 0, 0, 15), insn(LDI, 0, 0, 0), insn(0x60, 0, 0, 15), RET_A]), 0x1234_5678);
}

#[test]
fn ancillary_loads_say_what_is_known_of_the_packet() {
    let at = |what| ld(AD_OFF.wrapping_add(what));
    for (what, want) in [
        (ancillary::PROTOCOL, 0x800),
        (ancillary::PKTTYPE, 0),
        (ancillary::IFINDEX, 1),
        (ancillary::MARK, 0),
        (ancillary::PAY_OFFSET, 8),
        (ancillary::VLAN_TAG_PRESENT, 0),
    ] {
        assert_eq!(run(&[at(what), RET_A]), want, "{what}");
    }
    assert_eq!(run(&[insn(LDI, 0, 0, 6), insn(LDXI, 0, 0, 3), at(ancillary::ALU_XOR_X), RET_A]), 5);
    // The protocol field of the IP header.
    assert_eq!(run(&[ldb((NET_OFF + 9) as u32), RET_A]), 17);
    assert_eq!(run(&[ldb((NET_OFF + 20) as u32), RET_A]), 0, "beyond the header");
    assert_eq!(run(&[ldb(i32::MIN as u32), RET_A]), 0);
}

#[test]
fn a_program_that_cannot_be_checked_is_einval() {
    let m = |k| insn(0x60, 0, 0, k);
    for (why, insns) in [
        ("empty", &[][..]),
        ("no return", &[ld(0)]),
        ("unknown instruction", &[insn(0x07 | 0x40, 0, 0, 0), ret(0)]),
        ("bits above", &[insn(0x120, 0, 0, 0), ret(0)]),
        ("double word", &[insn(0x38, 0, 0, 0), ret(0)]),
        ("msh of a word", &[insn(0xa1, 0, 0, 0), ret(0)]),
        ("return x", &[insn(0x0e, 0, 0, 0)]),
        ("neg x", &[insn(0x8c, 0, 0, 0), ret(0)]),
        ("jump to the end", &[insn(0x05, 0, 0, 1), ret(0)]),
        ("jump back", &[insn(0x05, 0, 0, u32::MAX), ret(0)]),
        ("branch to the end", &[insn(0x15, 0, 1, 0), ret(0)]),
        ("division by 0", &[insn(0x34, 0, 0, 0), ret(0)]),
        ("shift by 32", &[insn(0x64, 0, 0, 32), ret(0)]),
        ("word 16", &[ld(0), insn(0x02, 0, 0, 16), ret(0)]),
        ("read before written", &[m(0), ret(0)]),
        ("no such ancillary", &[ld(AD_OFF + 1), ret(0)]),
        // Written on one path only.
        ("one path", &[ld(0), insn(0x15, 1, 0, 5), insn(0x02, 0, 0, 3), m(3), ret(0)]),
    ] {
        assert!(matches!(Program::new(insns), Err(Error::Inval)), "{why}");
    }
    let most = vec![ret(0); MAX_INSNS];
    assert!(Program::new(&most).is_ok());
    assert!(Program::new(&vec![ret(0); MAX_INSNS + 1]).is_err());
    let both = [ld(0), insn(0x02, 0, 0, 3), insn(0x15, 0, 0, 5), m(3), ret(0)];
    assert!(Program::new(&both).is_ok());
}

proptest::proptest! {
    #![proptest_config(crate::base::cases::cases())]
    /// Whatever the bytes: refused, or run to an end within the program's length.
    #[test]
    fn no_program_panics_or_runs_for_ever(
        words in proptest::collection::vec((0u16..0x100, 0u8..8, 0u8..8, proptest::prelude::any::<u32>()), 1..40)
    ) {
        let small = |k: u32| if k.is_multiple_of(3) { k } else { k % 20 };
        let mut insns: Vec<_> = words.iter().map(|&(code, jt, jf, k)| insn(code, jt, jf, small(k))).collect();
        insns.push(RET_A);
        insns.retain(|&i| exists(i));
        if Program::new(&insns).is_ok() {
            run(&insns);
        }
    }
}

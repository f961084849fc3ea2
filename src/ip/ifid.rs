//! Interface identifiers of addresses that the stack makes: of the hardware address, or stable and of a secret, so that
//! they tell nothing of the hardware and differ from network to network (RFC 7217). Above: `autoconf`, `route`. Linux:
//! ipv6_generate_eui64, ipv6_generate_stable_address, ipv6_reserved_interfaceid.

use super::net;
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use crate::wire::ether::MacAddr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::OnceLock;

/// Further identifiers that are tried when another host has an address (idgen_retries).
pub(super) const RETRIES: u8 = 3;
/// IN6_ADDR_GEN_MODE_NONE, _STABLE_PRIVACY, _RANDOM.
const NONE: i32 = 1;
const STABLE_PRIVACY: i32 = 2;
const RANDOM: i32 = 3;
/// The hash begins as SHA-1 does; of its one block there is no length behind the data.
const SHA1_INIT: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The secret of a stack that was given none.
#[derive(Default)]
pub(super) struct RandomSecret(OnceLock<[u8; 16]>);

/// The value of `net.ipv6.conf.all.stable_secret`: an address; empty: there is none. EINVAL: neither.
fn parse(text: &str) -> Result<Option<[u8; 16]>> {
    match text {
        "" => Ok(None),
        _ => text.parse::<Ipv6Addr>().map(|a| Some(a.octets())).map_err(|_| Error::Inval),
    }
}

/// Makes the stack refuse a secret that is none.
pub(super) fn init(stack: &Stack) -> Result<()> {
    stack.sysctl.set_validator("net.ipv6.conf.all.stable_secret", Arc::new(|text| parse(text).map(drop)))
}

/// Whether an interface gets a link-local address.
pub(super) fn wants_link_local(stack: &Stack) -> bool {
    stack.sysctl.ip6_addr_gen_mode() != NONE
}

/// The secret of stable identifiers; None: they are of the hardware address.
fn secret(stack: &Stack) -> Option<[u8; 16]> {
    let given = parse(&stack.sysctl.ip6_stable_secret()).ok().flatten();
    let random = || {
        let drawn = &net(stack).autoconf.secret.0;
        *drawn.get_or_init(|| {
            let mut bytes = [0; 16];
            stack.entropy.fill(&mut bytes);
            bytes
        })
    };
    match stack.sysctl.ip6_addr_gen_mode() {
        RANDOM => Some(random()),
        STABLE_PRIVACY => given.or_else(|| Some(random())),
        NONE => None,
        _ => given,
    }
}

/// Whether another identifier can be made where another host has the address.
pub(super) fn is_stable(stack: &Stack) -> bool {
    secret(stack).is_some()
}

/// The address of a prefix of 64 bits; `dad_count`: how many of that prefix other hosts had.
pub(super) fn address(stack: &Stack, prefix: Ipv6Addr, mac: MacAddr, dad_count: u8) -> Ipv6Addr {
    let network = u128::from(prefix) & !u128::from(u64::MAX);
    let low = match secret(stack) {
        Some(secret) => stable(&secret, (network >> 64) as u64, dad_count),
        None => u64::from_be_bytes(mac.eui64()),
    };
    Ipv6Addr::from(network | u128::from(low))
}

/// The identifier for a prefix, of the permanent hardware address, which a device of a stack does not have: it is
/// zeros, as of the kernel's devices in software, so that a random one changes nothing.
fn stable(secret: &[u8; 16], prefix: u64, dad_count: u8) -> u64 {
    const HARDWARE: usize = 32;
    let mut block = [0; 64];
    block[..16].copy_from_slice(secret);
    block[16..24].copy_from_slice(&prefix.to_be_bytes());
    // One that is reserved is passed over (RFC 5453).
    let candidates = (dad_count..=u8::MAX).map(|n| {
        block[24 + HARDWARE] = n;
        let mut digest = SHA1_INIT;
        sha1::block_api::compress(&mut digest, &[block]);
        // Linux takes the words as they lie in memory.
        let word = |w: u32| u64::from(u32::from_be_bytes(w.to_ne_bytes()));
        word(digest[0]) << 32 | word(digest[1])
    });
    let mut candidates = candidates;
    candidates.find(|id| !is_reserved(*id)).unwrap_or_default()
}

/// Identifiers that no host has: the subnet router's, the IANA's and the reserved anycast addresses' (RFC 5453).
fn is_reserved(id: u64) -> bool {
    id == 0
        || id >> 32 == 0x0200_5eff && id as u32 & 0xfe00_0000 == 0xfe00_0000
        || id >> 32 == 0xfdff_ffff && id as u32 & 0xffff_ff80 == 0xffff_ff80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ip -6 addr` showed them of a veth device of Linux 6.18 with these secrets.
    #[test]
    fn stable_identifiers_are_the_kernels() {
        for (secret, want) in [("2001:db8::1234", 0xd820_030f_5afc_84be), ("fd00::abcd", 0xc6f5_4fda_ac06_9396)] {
            let secret = parse(secret).unwrap().unwrap();
            assert_eq!(stable(&secret, 0xfe80 << 48, 0), want);
            assert_ne!(stable(&secret, 0xfe80 << 48, 1), want, "another host has it");
            assert_ne!(stable(&secret, 0x2001_0db8 << 32, 0), want, "in another network");
        }
    }

    #[test]
    fn reserved_identifiers_are_none() {
        for (id, reserved) in [
            (0, true),
            (1, false),
            (0x0200_5eff_fe00_0000, true),
            (0x0200_5eff_fd00_0000, false),
            (0xfdff_ffff_ffff_ff80, true),
            (0xfdff_ffff_ffff_ff7f, false),
        ] {
            assert_eq!(is_reserved(id), reserved, "{id:#x}");
        }
    }
}

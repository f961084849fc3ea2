//! The options that say what the namespace and its device are like. Above: `run`. Below: `launch::namespace`.

use crate::launch::Refusal;
use crate::launch::instance::check_name;
use crate::launch::namespace::{Ends, Plan, Wanted};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use usersock::wire::addr::Cidr;

/// What the stack has when nothing is said: 10.0.0.2/24, and in the unique local prefix (RFC 4193) whose global ID is
/// "users" in ASCII.
const DEFAULT_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 0, 2), 24);
const DEFAULT_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfd75, 0x7365, 0x7273, 0, 0, 0, 0, 2), 64);

/// IPV6_MIN_MTU.
const IPV6_MIN_MTU: u32 = 1280;

#[derive(clap::Args)]
pub(super) struct Network {
    /// A TUN device, and nothing else
    #[arg(long, conflicts_with = "packet")]
    tun: bool,
    /// A veth pair, on whose far end the stack has a raw socket (AF_PACKET); without either option a TUN device, and
    /// the veth pair where /dev/net/tun cannot be opened
    #[arg(long)]
    packet: bool,
    /// The stack's address and its network, once for IPv4 and once for IPv6 [10.0.0.2/24, fd75:7365:7273::2/64]
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    addr: Vec<String>,
    /// The kernel's address, the stack's gateway [the first other address of the network]
    #[arg(long, value_name = "ADDRESS")]
    gw: Vec<IpAddr>,
    /// MTU of the device, bytes [1500]; below 1280 there is no IPv6
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(68..=65535))]
    mtu: Option<u32>,
    /// Let the program be the user that it is outside (the default)
    #[arg(long, conflicts_with = "root")]
    keep_uid: bool,
    /// Let the program be root of its user namespace, where there is no other user
    #[arg(long)]
    root: bool,
    /// Connect the namespace to the host's network by pasta(1): connections and names
    #[arg(long)]
    pub(super) outside: bool,
    /// Name of the instance for `usersock ps` and `usersock exec` [the program's name, this process's number]
    #[arg(long, value_name = "NAME", value_parser = |name: &str| check_name(name).map(|()| name.to_owned()))]
    pub(super) instance: Option<String>,
}

impl Network {
    /// The first option that was given and shapes the namespace.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        let Network { tun, packet, addr, gw, mtu, keep_uid, root, outside, instance: _ } = self;
        let given = [
            ("tun", *tun),
            ("packet", *packet),
            ("addr", !addr.is_empty()),
            ("gw", !gw.is_empty()),
            ("mtu", mtu.is_some()),
            ("keep-uid", *keep_uid),
            ("root", *root),
            ("outside", *outside),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// What to make of them.
    pub(super) fn plan(&self) -> Result<Plan, Refusal> {
        let device = match (self.tun, self.packet) {
            (true, _) => Wanted::Tun,
            (_, true) => Wanted::Packet,
            _ => Wanted::Either,
        };
        let ends = self.ends()?;
        // With less the kernel has no IPv6 on the device (RFC 8200 §5), which only matters where it was asked for.
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < IPV6_MIN_MTU)
            && ends.iter().any(|end| end.kernel.is_ipv6() && !end.default)
        {
            return Err(Refusal::usage(format!("--mtu {mtu}: IPv6 needs {IPV6_MIN_MTU} (--addr, --gw)")));
        }
        Ok(Plan { device, ends, mtu: self.mtu, root: self.root, outside: self.outside })
    }

    /// The addresses of both ends, IPv4's first.
    fn ends(&self) -> Result<Vec<Ends>, Refusal> {
        let mut given = Vec::new();
        for text in &self.addr {
            let cidr = text.parse::<Cidr>().ok().filter(|_| text.contains('/'));
            let cidr = cidr.ok_or_else(|| Refusal::usage(format!("--addr {text}: not ADDRESS/LENGTH")))?;
            given.push(cidr);
        }
        let mut ends = Vec::new();
        for v4 in [true, false] {
            let mut stacks = given.iter().filter(|cidr| cidr.addr().is_ipv4() == v4);
            let mut gateways = self.gw.iter().filter(|gw| gw.is_ipv4() == v4);
            let (stack, gateway) = (stacks.next().copied(), gateways.next().copied());
            if let Some(second) = stacks.next() {
                return Err(Refusal::usage(format!("--addr {second}: there is one of this family already")));
            }
            if let Some(second) = gateways.next() {
                return Err(Refusal::usage(format!("--gw {second}: there is one of this family already")));
            }
            let default = stack.is_none() && gateway.is_none();
            let usual = if v4 {
                Cidr::new(DEFAULT_V4.0.into(), DEFAULT_V4.1)
            } else {
                Cidr::new(DEFAULT_V6.0.into(), DEFAULT_V6.1)
            };
            if let Some(stack) = stack.or(usual) {
                host(&format!("--addr {stack}"), stack.addr(), stack)?;
                if let Some(gw) = gateway {
                    host(&format!("--gw {gw}"), gw, stack)?;
                }
                ends.push(Ends { stack, kernel: kernel(stack, gateway)?, default });
            }
        }
        Ok(ends)
    }
}

/// Refuses an address of `network` that no host can have on a link. What is left, the configuration's check knows.
fn host(option: &str, address: IpAddr, network: Cidr) -> Result<(), Refusal> {
    let own = network.broadcast().is_some_and(|all| address == all || address == network.network());
    let why = match address {
        _ if own => "the network's own address, or its broadcast address",
        IpAddr::V6(a) if a.is_loopback() || a.to_ipv4_mapped().is_some() => "not an address that a host can have",
        _ => return Ok(()),
    };
    Err(Refusal::usage(format!("{option}: {why}")))
}

/// The kernel's address, beside `stack`.
fn kernel(stack: Cidr, gateway: Option<IpAddr>) -> Result<IpAddr, Refusal> {
    match gateway {
        Some(gw) if gw == stack.addr() => Err(Refusal::usage(format!("--gw {gw}: the stack's own address"))),
        Some(gw) if !stack.contains(gw) => Err(Refusal::usage(format!("--gw {gw}: not in the network of {stack}"))),
        Some(gw) => Ok(gw),
        None => {
            let no_room = || Refusal::usage(format!("--addr {stack}: the network has no room for the kernel's end"));
            // Of two addresses (RFC 3021, RFC 6164) the lower one is a host's too.
            let first = u32::from(stack.prefix() + 1 < if stack.addr().is_ipv4() { 32 } else { 128 });
            let mut hosts = (first..=2).map(|n| match stack.network() {
                IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).wrapping_add(n))),
                IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a).wrapping_add(n.into()))),
            });
            hosts.find(|host| *host != stack.addr() && stack.contains(*host)).ok_or_else(no_room)
        }
    }
}

impl Plan {
    /// The stack's configuration as it will be, but for the kind of the device.
    pub(super) fn config(&self) -> String {
        let ends = self.ends.iter().map(|end| format!(",addr={},gw={}", end.stack, end.kernel));
        format!("tun=tun0{}", ends.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(addr: &[&str], gw: &[&str]) -> Network {
        Network {
            tun: false,
            packet: false,
            addr: addr.iter().map(|a| (*a).to_owned()).collect(),
            gw: gw.iter().map(|a| a.parse().unwrap()).collect(),
            mtu: None,
            keep_uid: false,
            root: false,
            outside: false,
            instance: None,
        }
    }

    #[test]
    fn the_kernel_s_end_is_the_first_other_address_or_the_gateway() {
        const V6: &str = ",addr=fd75:7365:7273::2/64,gw=fd75:7365:7273::1";
        for (addr, gw, want) in [
            (&[][..], &[][..], "addr=10.0.0.2/24,gw=10.0.0.1"),
            (&["192.168.7.9/24"], &[], "addr=192.168.7.9/24,gw=192.168.7.1"),
            (&["192.168.7.1/24"], &[], "addr=192.168.7.1/24,gw=192.168.7.2"),
            (&["192.168.7.1/24"], &["192.168.7.254"], "addr=192.168.7.1/24,gw=192.168.7.254"),
            (&[], &["10.0.0.9"], "addr=10.0.0.2/24,gw=10.0.0.9"),
            (&["10.1.0.0/31"], &[], "addr=10.1.0.0/31,gw=10.1.0.1"),
            (&["10.1.0.1/31"], &[], "addr=10.1.0.1/31,gw=10.1.0.0"),
        ] {
            let config = network(addr, gw).plan().unwrap().config();
            assert_eq!(config, format!("tun=tun0,{want}{V6}"), "{addr:?} {gw:?}");
        }
        let both = network(&["fd00::5/64", "10.9.0.2/30"], &[]).plan().unwrap();
        assert_eq!(both.config(), "tun=tun0,addr=10.9.0.2/30,gw=10.9.0.1,addr=fd00::5/64,gw=fd00::1");
        assert!(both.ends.iter().all(|end| !end.default));
    }

    #[test]
    fn addresses_that_cannot_be_are_refused() {
        for (addr, gw, want) in [
            (&["10.0.0.2"][..], &[][..], "--addr 10.0.0.2: not ADDRESS/LENGTH"),
            (&["10.0.0.2/32"], &[], "no room for the kernel's end"),
            (&["fd00::2/128"], &[], "no room for the kernel's end"),
            (&["10.0.0.2/33"], &[], "not ADDRESS/LENGTH"),
            (&["10.0.0.2/24", "10.0.1.2/24"], &[], "there is one of this family already"),
            (&["10.0.0.2/24"], &["10.0.1.1"], "--gw 10.0.1.1: not in the network of 10.0.0.2/24"),
            (&["10.0.0.2/24"], &["10.0.0.2"], "the stack's own address"),
            (&["10.0.0.0/24"], &[], "--addr 10.0.0.0/24: the network's own address, or its broadcast address"),
            (&["10.0.0.3/30"], &[], "--addr 10.0.0.3/30: the network's own"),
            (&["10.0.0.2/24"], &["10.0.0.255"], "--gw 10.0.0.255: the network's own"),
            (&["::1/64"], &[], "--addr ::1/64: not an address that a host can have"),
            (&["::ffff:10.0.0.2/120"], &[], "not an address that a host can have"),
            (&[], &["10.0.0.1", "10.0.0.3"], "there is one of this family already"),
        ] {
            let said = network(addr, gw).plan().unwrap_err();
            assert!(said.status == 2 && said.message.contains(want), "{addr:?} {gw:?}: {said:?}");
        }
    }
}

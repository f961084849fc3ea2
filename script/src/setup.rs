//! Addresses, sizes and tolerances of a run: defaults, the script's `--name=value` lines, and the three variants in
//! which packetdrill's own tests are run. Above: `run` and the code that makes the stack under test, with MTU and
//! addresses from here.
use crate::ast::{Micros, Script};
use crate::cursor::ScriptError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address family that a script is played in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// IPv4 sockets and packets.
    Ipv4,
    /// IPv6 sockets and packets.
    Ipv6,
    /// IPv6 sockets, IPv4 packets (RFC 4291 §2.5.5.2).
    MappedIpv6,
}

impl Variant {
    /// All, in the order in which packetdrill's tests run them.
    pub const ALL: [Variant; 3] = [Variant::Ipv4, Variant::MappedIpv6, Variant::Ipv6];

    /// Whether a script of this file name is for the variant: `..v4.pkt` is not for IPv6, `..v6.pkt` for it alone.
    pub fn plays(self, file: &str) -> bool {
        match self {
            Variant::Ipv6 => !file.ends_with("v4.pkt"),
            Variant::Ipv4 | Variant::MappedIpv6 => !file.ends_with("v6.pkt"),
        }
    }

    /// Names that scripts expect to be given from outside, with their values in this variant.
    pub fn defines(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Variant::Ipv4 => &[
                ("CODE", "host_unreachable"),
                ("CMSG_LEVEL_IP", "SOL_IP"),
                ("CMSG_TYPE_RECVERR", "IP_RECVERR"),
                ("TFO_COOKIE", "3021b9d889017eeb"),
                ("TFO_COOKIE_ZERO", "b7c12350a90dc8f5"),
            ],
            Variant::MappedIpv6 => &[
                ("CODE", "host_unreachable"),
                ("CMSG_LEVEL_IP", "SOL_IPV6"),
                ("CMSG_TYPE_RECVERR", "IPV6_RECVERR"),
                ("TFO_COOKIE", "3021b9d889017eeb"),
                ("TFO_COOKIE_ZERO", "b7c12350a90dc8f5"),
            ],
            Variant::Ipv6 => &[
                ("CODE", "address_unreachable"),
                ("CMSG_LEVEL_IP", "SOL_IPV6"),
                ("CMSG_TYPE_RECVERR", "IPV6_RECVERR"),
                ("TFO_COOKIE", "c1d1e9742a47a9bc"),
                ("TFO_COOKIE_ZERO", "82af1a8f9a205c34"),
            ],
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Ipv4 => "ipv4",
            Variant::Ipv6 => "ipv6",
            Variant::MappedIpv6 => "ipv4-mapped-v6",
        })
    }
}

/// A run's fixed data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The address family.
    pub variant: Variant,
    /// Address of the stack under test.
    pub local: IpAddr,
    /// Address of the other side, which the script plays.
    pub remote: IpAddr,
    /// The host through which the other side is reached; `None`: it is on the link.
    pub gateway: Option<IpAddr>,
    /// Port that bind(2) with `...` for an address takes, and to which packets go.
    pub bind_port: u16,
    /// Port that connect(2) with `...` for an address takes.
    pub connect_port: u16,
    /// MTU of the device, in bytes.
    pub mtu: u32,
    /// How far an event may be off its time, in microseconds.
    pub tolerance: Micros,
    /// The same as a share of the time since the event before, in thousandths; the larger of the two holds.
    pub tolerance_permille: i64,
    /// Microseconds in a tick of the timestamp clock; 0: TSval is not compared.
    pub ts_tick: Micros,
    /// Whether a TSecr that is no earlier TSval means that number of ticks after the first TSval.
    pub ts_ecr_scaled: bool,
}

impl Setup {
    /// The defaults of a variant, those of packetdrill's own test runs.
    pub fn new(variant: Variant) -> Setup {
        let (local, remote, mtu) = match variant {
            Variant::Ipv6 => (
                IpAddr::V6(Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 1)),
                IpAddr::V6(Ipv6Addr::new(0xfd3d, 0xfa7b, 0xd17d, 0, 0, 0, 0, 1)),
                1520,
            ),
            Variant::Ipv4 | Variant::MappedIpv6 => {
                (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1500)
            }
        };
        Setup {
            variant,
            local,
            remote,
            gateway: None,
            bind_port: 8080,
            connect_port: 8080,
            mtu,
            tolerance: 4000,
            tolerance_permille: 125,
            ts_tick: 0,
            ts_ecr_scaled: false,
        }
    }

    /// As [`new`](Setup::new), with what the script's options say. An option that is not understood is an error.
    pub fn for_script(variant: Variant, script: &Script) -> Result<Setup, ScriptError> {
        let mut setup = Setup::new(variant);
        for option in &script.options {
            let fail = |message: String| ScriptError { pos: option.pos, message };
            let value = option.value.as_deref().unwrap_or("");
            let number = |low: i64, high: i64| match value.parse() {
                Ok(number) if (low..=high).contains(&number) => Ok(number),
                _ => Err(fail(format!("--{}: `{value}` is no number from {low} to {high}", option.name))),
            };
            match option.name.as_str() {
                "define" => {}
                "bind_port" => setup.bind_port = number(1, 65535)? as u16,
                "connect_port" => setup.connect_port = number(1, 65535)? as u16,
                "mtu" => setup.mtu = number(68, 65535)? as u32,
                "tolerance_usecs" => setup.tolerance = number(1, i64::from(u32::MAX))?,
                "tolerance_percent" => setup.tolerance_permille = number(0, 100)? * 10,
                "tcp_ts_tick_usecs" => setup.ts_tick = number(0, 1_000_000)?,
                "tcp_ts_ecr_scaled" => setup.ts_ecr_scaled = true,
                "local_ip" | "remote_ip" | "gateway_ip" => {
                    let address: IpAddr =
                        value.parse().map_err(|_| fail(format!("--{}: `{value}` is no address", option.name)))?;
                    if address.is_ipv4() != setup.local.is_ipv4() {
                        continue; // meant for another variant
                    }
                    match option.name.as_str() {
                        "local_ip" => setup.local = address,
                        "remote_ip" => setup.remote = address,
                        _ => setup.gateway = Some(address),
                    }
                }
                // Options that matter only for a real device and a real clock.
                "netmask_ip" | "speed" | "send_omit_free" => {}
                name => return Err(fail(format!("option --{name} is not supported"))),
            }
        }
        Ok(setup)
    }

    /// `AF_INET` or `AF_INET6`: what `...` stands for in socket(2).
    pub fn family(&self) -> i32 {
        match self.variant {
            Variant::Ipv4 => libc::AF_INET,
            Variant::Ipv6 | Variant::MappedIpv6 => libc::AF_INET6,
        }
    }

    /// A socket address as the program under test writes it: mapped into IPv6 in that variant.
    pub fn socket_address(&self, ip: IpAddr, port: u16) -> SocketAddr {
        match (self.variant, ip) {
            (Variant::MappedIpv6, IpAddr::V4(ip)) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), port),
            _ => SocketAddr::new(ip, port),
        }
    }

    /// How far an event may be off that comes `after` microseconds after the one before.
    pub fn tolerance_after(&self, after: Micros) -> Micros {
        self.tolerance.max(after.saturating_mul(self.tolerance_permille) / 1000)
    }
}

//! What a script is played in: the address families, the addresses and the arguments that packetdrill's `run_all.py`
//! gives it, and the options that the script itself begins with.
//!
//! To packetdrill, its command line overrides what the script says. `run_all.py` gives every script its own addresses
//! there, so that a script whose Fast Open cookies belong to other addresses fails on any stack. Here a script's own
//! option replaces the argument of the same name; its own addresses do where they are of the run's family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::{Failure, broken};

/// The address families a script is run with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Variant {
    /// IPv4 sockets.
    Ipv4,
    /// IPv6 sockets with IPv4-mapped addresses: IPv4 packets.
    #[value(name = "ipv4-mapped-v6")]
    Mapped,
    /// IPv6 sockets.
    Ipv6,
}

impl Variant {
    const ALL: [Variant; 3] = [Variant::Ipv4, Variant::Mapped, Variant::Ipv6];

    /// As run_all.py names it in its report.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Ipv4 => "ipv4",
            Variant::Mapped => "ipv4-mapped-v6",
            Variant::Ipv6 => "ipv6",
        }
    }

    /// As packetdrill's `--ip_version` names it.
    fn ip_version(self) -> &'static str {
        match self {
            Variant::Mapped => "ipv4-mapped-ipv6",
            same => same.name(),
        }
    }

    /// Those that a script is run in: what run_all.py derives from the name of the file, or the one `--ip_version` that
    /// the script gives.
    pub fn of(file_name: &str, own: &Own) -> Vec<Variant> {
        let by_name = match file_name {
            name if name.ends_with("v6.pkt") => &Variant::ALL[2..],
            name if name.ends_with("v4.pkt") => &Variant::ALL[..2],
            _ => &Variant::ALL[..],
        };
        match own.get("ip_version") {
            Some(version) => Variant::ALL.into_iter().filter(|v| v.ip_version() == version).collect(),
            None => by_name.to_vec(),
        }
    }
}

/// The device under test and its peer.
#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    /// The stack's address.
    pub local: IpAddr,
    /// Of the stack's address.
    pub prefix_len: u32,
    /// Next hop towards `remote`.
    pub gateway: IpAddr,
    /// The peer that packetdrill plays.
    pub remote: IpAddr,
    /// Bytes.
    pub mtu: u32,
}

impl Network {
    /// That of run_all.py with what the script says instead. Error: an option's value is of the wrong kind.
    pub fn of(variant: Variant, own: &Own) -> Result<Network, Failure> {
        let mut network = match variant {
            Variant::Ipv4 | Variant::Mapped => Network {
                local: Ipv4Addr::new(192, 168, 0, 1).into(),
                prefix_len: 16,
                gateway: Ipv4Addr::new(192, 168, 0, 1).into(),
                remote: Ipv4Addr::new(192, 0, 2, 1).into(),
                mtu: 1500,
            },
            Variant::Ipv6 => Network {
                local: Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0, 0, 0, 0, 1).into(),
                prefix_len: 48,
                gateway: Ipv6Addr::new(0xfd3d, 0x0a0b, 0x17d6, 0x8888, 0, 0, 0, 1).into(),
                remote: Ipv6Addr::new(0xfd3d, 0xfa7b, 0xd17d, 0, 0, 0, 0, 1).into(),
                mtu: 1520,
            },
        };
        let ipv6 = network.local.is_ipv6();
        for (option, address) in
            [("local_ip", &mut network.local), ("gateway_ip", &mut network.gateway), ("remote_ip", &mut network.remote)]
        {
            if let Some(own) = own.parse::<IpAddr>(option)?.filter(|own| own.is_ipv6() == ipv6) {
                *address = own;
            }
        }
        if let Some(mask) = own.parse::<Ipv4Addr>("netmask_ip")?.filter(|_| !ipv6) {
            network.prefix_len = mask.to_bits().leading_ones();
        }
        if let Some(mtu) = own.parse("mtu")? {
            network.mtu = mtu;
        }
        Ok(network)
    }

    /// The address mask in the form of `--netmask_ip`.
    fn netmask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - self.prefix_len).unwrap_or(0))
    }
}

/// The arguments that packetdrill is given for a script: those of run_all.py, on this network.
pub fn arguments(variant: Variant, network: &Network) -> Vec<String> {
    let mut arguments = vec![
        "--send_omit_free".to_string(),
        format!("--local_ip={}", network.local),
        format!("--gateway_ip={}", network.gateway),
        format!("--remote_ip={}", network.remote),
        format!("--ip_version={}", variant.ip_version()),
        format!("--mtu={}", network.mtu),
        // A script's code only asserts. It needs neither the user's packages nor the time to look for them.
        "--code_command=python3 -I -S".to_string(),
    ];
    let (level, kind) = match variant {
        Variant::Ipv4 => ("SOL_IP", "IP_RECVERR"),
        Variant::Mapped | Variant::Ipv6 => ("SOL_IPV6", "IPV6_RECVERR"),
    };
    // Between run_all.py's addresses: with the key of `common/defaults.sh`, and with one of zeros. run_all.py has
    // neither the second nor a CODE for IPv6; this one is EHOSTUNREACH, too.
    let (cookie, cookie_zero, code) = match variant {
        Variant::Ipv4 | Variant::Mapped => ("3021b9d889017eeb", "b7c12350a90dc8f5", "host_unreachable"),
        Variant::Ipv6 => ("c1d1e9742a47a9bc", "82af1a8f9a205c34", "address_unreachable"),
    };
    if variant != Variant::Ipv6 {
        arguments.push(format!("--netmask_ip={}", network.netmask()));
    }
    for (symbol, value) in [
        ("TFO_COOKIE", cookie),
        ("TFO_COOKIE_ZERO", cookie_zero),
        ("CODE", code),
        ("CMSG_LEVEL_IP", level),
        ("CMSG_TYPE_RECVERR", kind),
    ] {
        arguments.extend(["-D".into(), format!("{symbol}={value}")]);
    }
    arguments
}

/// The options that a script begins with, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own(Vec<(String, String)>);

impl Own {
    /// Those of the script in this file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(script: &Path) -> std::io::Result<Own> {
        // Not every script is UTF-8 in its comments.
        Ok(Own::of(&String::from_utf8_lossy(&std::fs::read(script)?)))
    }

    /// `--name=value` words with nothing but space and comments around them, up to the first other word.
    fn of(script: &str) -> Own {
        let mut own = Vec::new();
        let mut rest = script.trim_start();
        loop {
            let end = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                rest.find("*/").map_or(rest.len(), |at| at + 2)
            } else if let Some(option) = rest.strip_prefix("--") {
                let word = option.split(char::is_whitespace).next().unwrap_or_default();
                let (name, value) = word.split_once('=').unwrap_or((word, ""));
                own.push((name.to_string(), value.to_string()));
                word.len() + 2
            } else {
                return Own(own);
            };
            rest = rest[end..].trim_start();
        }
    }

    /// The option's value. The last counts, as for packetdrill.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// As [`Own::get`], converted.
    ///
    /// # Errors
    /// The value is of another kind; the message has the option.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let convert = |value: &str| value.parse().map_err(|_| broken(format!("the script has --{name}={value}")));
        self.get(name).map(convert).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_run_in_the_versions_that_its_name_or_its_option_says() {
        for (name, own, want) in [
            ("close.pkt", "", &Variant::ALL[..]),
            ("basic-v4.pkt", "", &[Variant::Ipv4, Variant::Mapped]),
            ("frag-needed-ipv6.pkt", "", &[Variant::Ipv6]),
            ("a.pkt", "--ip_version=ipv6", &[Variant::Ipv6]),
            ("a.pkt", "--ip_version=ipv4", &[Variant::Ipv4]),
            ("basic-v6.pkt", "--ip_version=ipv4-mapped-ipv6", &[Variant::Mapped]),
        ] {
            assert_eq!(Variant::of(name, &Own::of(own)), want, "{name} {own}");
        }
    }

    #[test]
    fn own_options_end_at_the_first_line_of_another_kind() {
        let script = "// a --mss=1 in a comment\n/* and\n --mss=2 */ --mss=3 --strict_segments // --mss=4\n\
                      --local_ip=10.0.0.2\n\n`cmd --mss=5`\n--mss=6\n";
        let own = Own::of(script);
        assert_eq!(own.0.len(), 3, "{own:?}");
        assert_eq!((own.get("mss"), own.get("strict_segments")), (Some("3"), Some("")));
        assert_eq!(own.get("local_ip"), Some("10.0.0.2"));
        assert_eq!(Own::of("/* open"), Own::default());
    }

    #[test]
    fn own_addresses_take_the_place_of_run_alls_where_the_family_is_the_same() {
        let own = Own::of("--local_ip=10.1.2.3 --remote_ip=10.9.0.1 --netmask_ip=255.255.255.0 --mtu=1400\n");
        let network = Network::of(Variant::Mapped, &own).ok().unwrap();
        let arguments = arguments(Variant::Mapped, &network);
        for want in ["--local_ip=10.1.2.3", "--remote_ip=10.9.0.1", "--netmask_ip=255.255.255.0", "--mtu=1400"] {
            assert!(arguments.iter().any(|argument| argument == want), "{want}: {arguments:?}");
        }
        assert_eq!((network.prefix_len, network.gateway.to_string()), (24, "192.168.0.1".into()));
        let other = Network::of(Variant::Ipv6, &own).ok().unwrap();
        assert_eq!((other.local.to_string(), other.mtu), ("fd3d:a0b:17d6::1".into(), 1400));
        assert!(Network::of(Variant::Ipv4, &Own::of("--local_ip=here")).is_err());
    }

    #[test]
    fn each_version_has_the_symbols_that_scripts_use() {
        for variant in Variant::ALL {
            let network = Network::of(variant, &Own::default()).ok().unwrap();
            let arguments = arguments(variant, &network);
            for symbol in ["TFO_COOKIE=", "TFO_COOKIE_ZERO=", "CODE=", "CMSG_LEVEL_IP=", "CMSG_TYPE_RECVERR="] {
                assert!(arguments.iter().any(|argument| argument.starts_with(symbol)), "{variant:?} {symbol}");
            }
        }
    }
}

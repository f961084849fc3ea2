//! What a start would refuse, found without one: the stack is made as a start makes it, with a stand-in for the device,
//! so that the same code judges addresses, routes and gateways. Above: the command's `check-config`. Below: `config`.

use super::{Config, ConfigError, DeviceSpec, Mac, bad, plain};
use crate::base::env::{Instant, OsEntropy, RealClock};
use crate::control;
use crate::device::{Caps, DevStats, Device, LinkType, Xmit};
use crate::driver::Lease;
use crate::sock::skb::Skb;
use crate::stack::StackConfig;
use crate::wire::ether::MacAddr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A device that carries nothing.
#[derive(Debug)]
struct StandIn(Caps);

impl Device for StandIn {
    fn name(&self) -> &str {
        "check0"
    }

    fn caps(&self) -> Caps {
        self.0
    }

    fn recv(&self, _: u16, _: Instant, _: usize, _: &mut dyn FnMut(Skb)) -> io::Result<usize> {
        Ok(0)
    }

    fn xmit(&self, _: u16, _: Instant, _: Skb) -> Xmit {
        Xmit::Dropped(io::Error::from_raw_os_error(libc::ENETDOWN))
    }

    fn stats(&self) -> DevStats {
        DevStats::default()
    }
}

impl Config {
    /// Checks what a start would check, but for the device itself, which is not opened: plug-ins load, sysctls take
    /// these values, a device's kind exists, gateways are on the link, the capture can be written. The error is the one
    /// that the start would give.
    pub fn check(&self) -> Result<(), ConfigError> {
        let entropy = Arc::new(OsEntropy::new().map_err(plain("randomness"))?);
        let stack =
            self.bare(StackConfig { clock: Arc::new(RealClock::new()), entropy, runner: Arc::new(Lease::new(1)) })?;
        if let DeviceSpec::Plugged { kind, argument } = &self.device {
            Config::kind(&stack, kind, argument)?;
        }
        if let Some(path) = &self.control {
            control::check(path).map_err(Config::control_error)?;
        }
        let link = match (&self.device, self.mac) {
            (DeviceSpec::Packet(_), Some(Mac::Given(mac))) | (DeviceSpec::Plugged { .. }, Some(Mac::Given(mac))) => {
                LinkType::Ethernet(mac)
            }
            (DeviceSpec::Packet(_), _) | (DeviceSpec::Plugged { .. }, Some(_)) => {
                LinkType::Ethernet(MacAddr([2, 0, 0, 0, 0, 1]))
            }
            _ => LinkType::Ip,
        };
        let caps = Caps { link, ..Caps::ip(self.mtu.unwrap_or(1500)) };
        let device: Option<Arc<dyn Device>> = match self.device {
            DeviceSpec::Loopback => None,
            _ => Some(Arc::new(StandIn(caps))),
        };
        let dev = self.netdev(&stack, device)?;
        if let Some(path) = &self.pcap {
            writable(path).map_err(|e| Config::pcap_error(path, &e))?;
        }
        self.address(&stack, &dev)
    }

    /// What is legal and probably not meant, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let device = match &self.device {
            DeviceSpec::Loopback => return lines,
            DeviceSpec::Tun(name) => format!("tun={name}"),
            DeviceSpec::Packet(name) => format!("packet={name}"),
            DeviceSpec::Plugged { kind, argument } => format!("device={kind}:{argument}"),
        };
        if self.addrs.is_empty() {
            lines.push(format!("{device}: there is no addr=, so nothing can be sent or received over it"));
        }
        for addr in self.bare_addrs.iter() {
            let (host, net) = if addr.is_ipv4() { (32, 24) } else { (128, 64) };
            lines.push(format!(
                "addr={addr}: no prefix length means /{host}, a link with nobody else on it; \
                 a network is addr={addr}/{net}"
            ));
        }
        lines
    }
}

/// Whether a file can be created or written here. What is there is left as it is; a file made for the answer is
/// removed.
fn writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        // Opening a FIFO or a device might wait or do something.
        Ok(there) if !there.is_file() => Ok(()),
        Ok(_) => File::options().write(true).open(path).map(drop),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            File::options().write(true).create_new(true).open(path)?;
            fs::remove_file(path)
        }
        Err(e) => Err(e),
    }
}

/// Parses as `mac=` does; a group address is nobody's own.
pub(super) fn mac(value: &str, plugged: bool) -> Result<Mac, ConfigError> {
    match value {
        "random" => Ok(Mac::Random),
        "own" if plugged => Err(bad("mac=own: needs packet=, whose interface has an address of its own".to_owned())),
        "own" => Ok(Mac::Own),
        _ => match value.parse::<MacAddr>() {
            Ok(mac) if mac.is_unicast() => Ok(Mac::Given(mac)),
            Ok(_) => Err(bad(format!("mac={value}: a group's address, or none, not a station's"))),
            Err(_) => Err(bad(format!("mac={value}: not random, own or a hardware address as 02:00:00:00:00:01"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        Config::parse(text).and_then(|c| c.check()).map_err(|e| e.message)
    }

    #[test]
    fn what_a_start_refuses_is_refused() {
        for (text, want) in [
            ("packet=eth0,mac=zz", "mac=zz: not random, own or a hardware address"),
            ("packet=eth0,mac=01:00:5e:00:00:01", "a group's address"),
            ("device=udp:x,mac=own", "mac=own: needs packet="),
            ("device=udp:x", "no kind \"udp\" of device"),
            ("tun=t,addr=10.0.0.2/24,gw=10.0.1.1", "gw=10.0.1.1: on no network of this device (10.0.0.2/24)"),
            ("tun=t,addr=10.0.0.2,gw=10.0.0.1", "gw=10.0.0.1: on no network of this device (10.0.0.2/32)"),
            ("tun=t,gw=10.0.0.1", "gw=10.0.0.1: on no network of this device, which has no addr="),
            ("tun=t,addr=10.0.0.2/24,gw=10.0.0.2", "gw=10.0.0.2: an address of this stack itself"),
            ("tun=t,addr=10.0.0.2/24,addr=10.0.0.2/24", "addr=10.0.0.2/24: given twice"),
            ("tun=t,addr=224.0.0.1/24", "addr=224.0.0.1/24: not an address that a host can have"),
            ("tun=t,addr=::ffff:10.0.0.2/96", "addr=::ffff:10.0.0.2/96: not an address that a host can have"),
            ("tun=t,addr=::1/64", "addr=::1/64: an address of the loopback, which no other device can use"),
            ("tun=t,addr=127.0.0.2/8", "addr=127.0.0.2/8: an address of the loopback"),
            ("addr=::1/64", "addr=::1/64: given twice"),
            ("tun=t,addr=fd00::2/64,addr=fd00::2/48", "addr=fd00::2/48: given twice"),
            ("pcap=/no/such/folder/x.pcap", "pcap=/no/such/folder/x.pcap: "),
            ("pcap=/", "pcap=/: "),
            ("sysctl.net.ipv4.tcp_sakc=1", "there is no such sysctl; the nearest is net.ipv4.tcp_sack"),
            ("sysctl.net.ipv4.tcp_sack=maybe", "this sysctl does not take the value"),
            ("colour=red", "\"colour\" is not a known key"),
            ("adr=10.0.0.1/8", "the nearest is addr"),
        ] {
            let got = check(text).expect_err(text);
            assert!(got.contains(want), "{text}: {got}");
        }
    }

    #[test]
    fn what_a_start_takes_is_taken_and_leaves_nothing() {
        let path = std::env::temp_dir().join(format!("usersock-check-{}.pcap", std::process::id()));
        let pcap = format!("tun=t,addr=10.0.0.2/24,addr=fd00::2/64,gw=10.0.0.1,gw=fe80::1,pcap={}", path.display());
        for text in [
            "",
            "addr=192.0.2.1/24",
            "addr=127.0.0.2/24",
            "tun=t,addr=10.0.0.2/24,addr=10.0.0.2/16",
            "packet=eth0,mac=own,addr=10.0.0.2/24,route=10.1.0.0/16",
            &pcap,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert!(!path.exists());
        fs::write(&path, "kept").unwrap();
        assert_eq!(check(&pcap), Ok(()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn warnings_are_of_what_is_legal_and_of_no_use() {
        for (text, want) in [
            ("", None),
            ("addr=10.0.0.2", None),
            ("tun=t,addr=10.0.0.2/32", None),
            ("tun=t", Some("tun=t: there is no addr=")),
            ("tun=t,addr=10.0.0.2", Some("addr=10.0.0.2: no prefix length means /32")),
            ("packet=e,addr=fd00::2", Some("a network is addr=fd00::2/64")),
        ] {
            let got = Config::parse(text).unwrap().warnings();
            assert_eq!(got.len(), usize::from(want.is_some()), "{text}: {got:?}");
            assert!(want.is_none_or(|want| got[0].contains(want)), "{text}: {got:?}");
        }
    }
}

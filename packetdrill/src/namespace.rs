//! The stack's configuration, read from its namespace: sysctls from /proc/sys, addresses, routes, MTU and offloads from
//! the kernel's `tun0`, the queueing discipline and requests from the run's private directory. Read when the stack is
//! made and after each command of a script. Above: `interface`, `preload`. Below: `netlink`. The contract with the
//! tools that write these files is in `xtask/src/packetdrill.rs`.

use crate::device::{Qdisc, Wire};
use crate::netlink::{self, Interface, Route};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use usersock::device::netdev::NetDev;
use usersock::error::Error;
use usersock::ip::route::{self, RouteSpec};
use usersock::stack::Stack;
use usersock::sysctl::Mode;
use usersock::wire::addr::Cidr;

/// The interface that stands for the device under test.
const TUN: &str = "tun0";
/// Environment variable: the run's private directory.
const DIR_VARIABLE: &str = "USERSOCK_PD_DIR";

/// The settings applied last, to detect changes.
#[derive(Default)]
struct Applied {
    addresses: Vec<Cidr>,
    routes: Vec<Route>,
    mtu: u32,
    /// When each private sysctl was written last.
    written: HashMap<String, SystemTime>,
}

/// Keeps a stack's configuration equal to its namespace's.
pub struct Namespace {
    stack: Arc<Stack>,
    wire: Arc<Wire>,
    dev: Arc<NetDev>,
    dir: Option<PathBuf>,
    applied: Mutex<Applied>,
}

impl Namespace {
    /// Adds a device for the namespace's `tun0` to the stack and configures both. Errors: there is no `tun0`; the stack
    /// refuses an address or a route.
    pub fn new(stack: &Arc<Stack>) -> Result<Namespace, String> {
        let mtu = Interface::open(TUN).and_then(|mut tun| tun.mtu());
        let mtu = mtu.map_err(|error| format!("{TUN}: {error} (the namespace must have one)"))?;
        netlink::offer_offloads(TUN).map_err(|error| format!("{TUN}: cannot offer segmentation: {error}"))?;
        let wire = Arc::new(Wire::new(mtu));
        let dev = stack.add_device(wire.clone()).map_err(|error| format!("{TUN}: {error:?}"))?;
        let dir = std::env::var_os(DIR_VARIABLE).map(PathBuf::from);
        let namespace = Namespace { stack: stack.clone(), wire, dev, dir, applied: Mutex::default() };
        namespace.read()?;
        Ok(namespace)
    }

    /// The device.
    pub fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// The run's private directory, if there is one.
    pub fn dir(&self) -> Option<&PathBuf> {
        self.dir.as_ref()
    }

    /// Applies the namespace's present settings to the stack. Settings that the stack does not implement keep their
    /// defaults; any other refusal is an error.
    pub fn read(&self) -> Result<(), String> {
        self.read_sysctls();
        self.read_interface().map_err(|error| format!("{TUN}: {error}"))?;
        self.read_qdisc()?;
        self.obey_requests()
    }

    fn read_sysctls(&self) {
        let mut applied = self.applied.lock();
        read_sysctls(&self.stack, Path::new("/proc/sys"), self.dir.as_deref(), &mut applied.written);
    }

    fn read_interface(&self) -> io::Result<()> {
        let mut tun = Interface::open(TUN)?;
        let ifindex = tun.index()?;
        let mtu = tun.mtu()?;
        let mut applied = self.applied.lock();
        self.wire.set_tso(tun.tso()?);
        if applied.mtu != mtu {
            self.dev.set_mtu(mtu).map_err(refused("MTU"))?;
            self.stack.rt_genid_bump();
            applied.mtu = mtu;
        }
        let addresses = netlink::addresses(ifindex)?;
        for &gone in applied.addresses.iter().filter(|a| !addresses.contains(a)) {
            route::del_address(&self.stack, &self.dev, gone).map_err(refused("address"))?;
        }
        for &new in addresses.iter().filter(|a| !applied.addresses.contains(a)) {
            route::add_address(&self.stack, &self.dev, new).map_err(refused("address"))?;
        }
        applied.addresses = addresses;
        // The network of an address has a connected route already, in the kernel as here.
        let mut routes = netlink::routes(ifindex)?;
        routes.retain(|r| r.gateway.is_some() || !applied.addresses.iter().any(|a| a.trunc() == r.dst));
        for gone in applied.routes.iter().filter(|old| !routes.iter().any(|r| same_place(r, old))) {
            match route::del_route(&self.stack, gone.dst, None, self.dev.ifindex) {
                // It was removed with its address.
                Ok(()) | Err(Error::Srch) => {}
                Err(error) => return Err(refused("route")(error)),
            }
        }
        for new in routes.iter().filter(|r| !applied.routes.contains(r)) {
            route::replace_route(&self.stack, self.spec(new)).map_err(refused("route"))?;
        }
        applied.routes = routes;
        Ok(())
    }

    /// A route of the kernel as the stack's type.
    fn spec(&self, r: &Route) -> RouteSpec {
        let m = &r.metrics;
        // packetdrill's IPv4 gateway is the device's own address, which to the kernel means "on the link".
        let gateway = r.gateway.filter(|gw| !route::is_local(&self.stack, *gw));
        let mut spec = RouteSpec::new(r.dst).via_dev(&self.dev);
        spec.gateway = gateway;
        spec.src = r.src;
        spec.metric = r.priority;
        spec.mtu = m.mtu;
        spec.mtu_lock = m.mtu_locked();
        spec.metrics.advmss = m.advmss;
        spec.metrics.initcwnd = m.initcwnd;
        spec.metrics.initrwnd = m.initrwnd;
        spec.metrics.window = m.window;
        spec.metrics.rto_min_us = m.rto_min.saturating_mul(1000);
        spec.metrics.quickack = m.quickack != 0;
        spec.metrics.fastopen_no_cookie = m.fastopen_no_cookie != 0;
        spec.metrics.feature_ecn = m.features & 1 != 0;
        spec.congctl = m.cc_algo.as_deref().map(Arc::from);
        spec.metrics.hoplimit = m.hoplimit.min(255) as u8;
        spec.metrics.rtt_us = m.rtt.saturating_mul(125);
        spec.metrics.rttvar_us = m.rttvar.saturating_mul(250);
        spec.metrics.ssthresh = m.ssthresh;
        spec.metrics.cwnd = m.cwnd;
        spec.metrics.reordering = m.reordering;
        spec.metrics.lock = m.lock;
        spec
    }

    fn read_qdisc(&self) -> Result<(), String> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let text = read_or_empty(&dir.join("qdisc")).map_err(|error| format!("qdisc: {error}"))?;
        let qdisc = parse_qdisc(&text).ok_or_else(|| format!("unknown queueing discipline {:?}", text.trim()))?;
        self.wire.set_qdisc(qdisc);
        Ok(())
    }

    fn obey_requests(&self) -> Result<(), String> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join("requests");
        let text = read_or_empty(&path).map_err(|error| format!("requests: {error}"))?;
        if text.is_empty() {
            return Ok(());
        }
        for request in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match request {
                // Path MTUs stay, which `ip tcp_metrics` does not flush either.
                "tcp_metrics flush" => flush_metrics(&self.stack)?,
                _ => return Err(format!("unknown request {request:?}")),
            }
        }
        fs::remove_file(&path).map_err(|error| format!("requests: {error}"))
    }
}

/// Gives the stack what the files below `root` say. `dir`: the run's private directory. `written`: when each private
/// sysctl was written last, as far as this function has seen.
fn read_sysctls(stack: &Stack, root: &Path, dir: Option<&Path>, written: &mut HashMap<String, SystemTime>) {
    for entry in stack.sysctl.list().into_iter().filter(|entry| entry.mode != Mode::Ro) {
        let file = root.join(entry.name.replace('.', "/"));
        // A name that this kernel or this namespace does not have keeps our default.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let text = text.trim();
        let time = dir.and_then(|dir| fs::metadata(dir.join("sysctl").join(&entry.name)).ok()?.modified().ok());
        // A Fast Open key of zeros is shown as no key is: that it was written tells them apart.
        let before = time.and_then(|time| written.insert(entry.name.to_string(), time));
        let rewritten = before.is_some() && before != time;
        if text == entry.value && !rewritten {
            continue;
        }
        let Err(error) = stack.sysctl.set(&entry.name, text) else { continue };
        // The kernel's own file keeps what the kernel took, and a script that needs it fails by its packets. A private
        // one has the stack's value again, as a kernel's refusal leaves the value before: nobody else could refuse it.
        if time.is_some() {
            eprintln!("usersock: {}: the stack refuses {text:?}: {error:?}", entry.name);
            if let Err(error) = fs::write(&file, format!("{}\n", entry.value)) {
                eprintln!("usersock: {}: {error}", file.display());
            }
        }
    }
}

fn flush_metrics(stack: &Stack) -> Result<(), String> {
    let net = usersock::internal::tcp::of(stack).map_err(|error| format!("tcp_metrics: {error:?}"))?;
    usersock::internal::tcp::flush_metrics(&net);
    Ok(())
}

fn refused(what: &'static str) -> impl Fn(Error) -> io::Error {
    move |error| io::Error::other(format!("the stack refuses the {what}: {error:?}"))
}

/// Whether a route took the place of another (`ip route change`): same prefix and metric.
fn same_place(a: &Route, b: &Route) -> bool {
    a.dst == b.dst && a.priority == b.priority
}

fn read_or_empty(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// The line of `DIR/qdisc`. `None` if the contract does not have it.
fn parse_qdisc(text: &str) -> Option<Qdisc> {
    match *text.split_whitespace().collect::<Vec<_>>() {
        [] | ["pfifo"] => Some(Qdisc::Pfifo),
        ["pfifo", "limit", "0"] => Some(Qdisc::Full),
        // The device takes each packet at once, so a queue with a limit above 0 never fills.
        ["pfifo", "limit", n] if n.parse::<u32>().is_ok() => Some(Qdisc::Pfifo),
        ["fq"] => Some(Qdisc::Fq),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_a_private_sysctl_reaches_the_stack_or_is_written_over() {
        use usersock::env::{SeededEntropy, VirtualClock};
        use usersock::stack::StackConfig;
        let clock = Arc::new(VirtualClock::new());
        let time = Arc::new(crate::time::VirtualTime::new(clock.clone()));
        let config = StackConfig::new(clock, Arc::new(SeededEntropy::new(1)), time);
        let stack = usersock::standard::stack(config).unwrap();
        let dir = std::env::temp_dir().join(format!("usersock-sysctl-{}", std::process::id()));
        let root = dir.join("proc");
        fs::create_dir_all(root.join("net/ipv4")).unwrap();
        fs::create_dir_all(dir.join("sysctl")).unwrap();
        // The runner binds the private file over the kernel's; here a link does it.
        for name in ["tcp_ecn", "tcp_congestion_control", "tcp_fastopen_key"] {
            let private = dir.join(format!("sysctl/net.ipv4.{name}"));
            std::os::unix::fs::symlink(private, root.join("net/ipv4").join(name)).unwrap();
        }
        let set = |name: &str, text: &str| fs::write(root.join("net/ipv4").join(name), text).unwrap();
        let value = |name: &str| stack.sysctl.get(&format!("net.ipv4.{name}")).unwrap();
        set("tcp_ecn", "1\n");
        set("tcp_congestion_control", "reno\n");
        set("tcp_frto", "77\n");
        let zeros = "00000000-00000000-00000000-00000000";
        set("tcp_fastopen_key", zeros);
        let mut written = HashMap::new();
        let mut read = || read_sysctls(&stack, &root, Some(&dir), &mut written);
        read();
        let taken = [value("tcp_ecn"), value("tcp_congestion_control")];
        for name in ["tcp_ecn", "tcp_congestion_control"] {
            set(name, "77\n");
        }
        // Longer than the step of a file's times.
        std::thread::sleep(std::time::Duration::from_millis(20));
        set("tcp_fastopen_key", zeros);
        read();
        usersock::net::TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap().set_fastopen(1).unwrap();
        let read_back = ["tcp_ecn", "tcp_congestion_control", "tcp_frto"]
            .map(|name| fs::read_to_string(root.join("net/ipv4").join(name)).unwrap());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(taken, ["1", "reno"]);
        assert_eq!(value("tcp_fastopen_key"), zeros, "a key, so that none is drawn");
        assert_eq!([value("tcp_ecn"), value("tcp_congestion_control")], ["1", "reno"]);
        assert_eq!(read_back, ["1\n", "reno\n", "77\n"], "the kernel's own file is left alone");
    }

    #[test]
    fn the_queueing_disciplines_of_the_contract_are_known_and_no_other() {
        let known =
            [("", Qdisc::Pfifo), ("pfifo\n", Qdisc::Pfifo), ("pfifo limit 0", Qdisc::Full), ("fq\n", Qdisc::Fq)];
        for (text, qdisc) in known {
            assert_eq!(parse_qdisc(text), Some(qdisc), "{text:?}");
        }
        assert_eq!(parse_qdisc("pfifo limit 12"), Some(Qdisc::Pfifo));
        for text in ["pfifo limit", "pfifo limit x", "cake", "fq limit 3"] {
            assert_eq!(parse_qdisc(text), None, "{text:?}");
        }
    }
}

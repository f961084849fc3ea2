//! A stack from a line of text: the configuration that `usk_init`, `USERSOCK_CONFIG` and the command's options take.
//! Above: `ffi`, the command, programs. Below: devices, routes, sysctls.
//!
//! `key=value` pairs, separated by commas:
//!
//! | key | value |
//! |---|---|
//! | `tun` | name of a TUN device, made if it does not exist |
//! | `packet` | name of an Ethernet interface on which the kernel owns no address |
//! | `device` | KIND:ARGUMENT, a device of a kind that a plug-in registered; the argument has no comma |
//! | `mac` | of a `packet`: `random` (default), `own`, or aa:bb:cc:dd:ee:ff; of an Ethernet `device`: not `own` |
//! | `queues` | queue pairs of a TUN device, 1 by default |
//! | `mtu` | MTU in bytes |
//! | `addr` | address/prefix length of the device (a host without length); may be repeated |
//! | `gw` | default route's next hop; may be repeated for the other family |
//! | `route` | destination/prefix length, by the device; may be repeated |
//! | `link` | settings of a simulated link in front of the device, with blanks between |
//! | `pcap` | file to capture the device's packets to |
//! | `plugin` | shared object to load; may be repeated, and its sysctls be set behind it |
//! | `control` | file name of the control socket ([`crate::control`]), in a directory of this user's alone |
//! | `sysctl.NAME` | value of a sysctl |
//!
//! | file | what |
//! |---|---|
//! | `check` | what a start would refuse, without a device |
//! | `explain` | the cause and the remedy of an error of the system's |
//! | `link` | the settings of a simulated link |
//!
//! Plug-ins are loaded first, then sysctls set, then a `device` is opened; the control socket comes last. Without
//! `tun`, `packet` or `device` the stack has the in-memory loopback alone; `addr` then adds addresses to it.
//!
//! ```
//! use usersock::net::TcpListener;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // With privileges it would be "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1".
//! let stack = usersock::config::build("addr=10.0.0.2/24,sysctl.net.ipv4.tcp_congestion_control=reno")?;
//! let listener = TcpListener::bind_on(&stack, "10.0.0.2:80")?;
//! assert_eq!(stack.sysctl.get("net.ipv4.tcp_congestion_control")?, "reno");
//!
//! let refused = usersock::config::build("addr=10.0.0.2/33").err().expect("no such prefix");
//! assert_eq!(refused.to_string(), "addr=10.0.0.2/33: not address/prefix");
//! # Ok(())
//! # }
//! ```

mod check;
mod explain;
mod link;

use crate::base::env::{OsEntropy, RealClock};
use crate::base::error::Error;
use crate::control;
use crate::device::impaired::Impaired;
use crate::device::link::LinkConfig;
use crate::device::netdev::NetDev;
use crate::device::packet::{self, Packet};
use crate::device::tun::Tun;
use crate::device::types::{DeviceArgs, DeviceKind};
use crate::device::{Device, LinkType};
use crate::driver::Lease;
use crate::ip::autoconf;
use crate::ip::route::{self, RouteSpec};
use crate::stack::runner::Runner;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::sys::fork::PerProcess;
use crate::sys::lock::Mutex;
use crate::sysctl::nearest;
use crate::wire::addr::Cidr;
use crate::wire::ether::MacAddr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What `link=` of a configuration says: a simulated link, whose `forth` is the direction out, and its seed if one is
/// given. Errors: EINVAL, with a message that names the setting.
pub fn link(text: &str) -> Result<(LinkConfig, Option<u64>), ConfigError> {
    link::parse(text).map(|link| (link.config, link.seed))
}

/// Why a configuration was refused: a one-line message, and the errno.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// What is wrong, naming the key and value.
    pub message: String,
    /// EINVAL for the text itself; else the error of opening or setting.
    pub error: Error,
}

impl ConfigError {
    /// `message` is one line of text, `error` the errno.
    pub fn new(message: String, error: Error) -> ConfigError {
        ConfigError { message, error }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for ConfigError {}

fn bad(message: String) -> ConfigError {
    ConfigError { message, error: Error::Inval }
}

/// Prefixes `error` with its subject.
fn plain(what: &str) -> impl FnOnce(Error) -> ConfigError {
    let what = what.to_owned();
    move |error| ConfigError { message: format!("{what}: {error}"), error }
}

/// All keys but `sysctl.NAME`: a test holds docs/config.md against them.
const KEYS: [&str; 13] =
    ["tun", "packet", "device", "mac", "queues", "mtu", "addr", "gw", "route", "link", "pcap", "plugin", "control"];

/// `e`, which concerns what `message` says.
fn outside(message: String, e: &io::Error) -> ConfigError {
    ConfigError { message, error: e.raw_os_error().and_then(Error::try_from_errno).unwrap_or(Error::Io) }
}

/// Which device.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeviceSpec {
    Loopback,
    Tun(String),
    Packet(String),
    Plugged { kind: String, argument: String },
}

/// Which hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mac {
    Random,
    Own,
    Given(MacAddr),
}

/// Whether the kernel lets an interface have this name (dev_valid_name).
fn is_interface_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && c != '/' && c != ':' && c != '\0';
    (1..16).contains(&name.len()) && name != "." && name != ".." && name.chars().all(plain)
}

/// A parsed configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    device: DeviceSpec,
    mac: Option<Mac>,
    queues: u16,
    mtu: Option<u32>,
    addrs: Vec<Cidr>,
    /// Those of `addrs` that were given without a prefix length.
    bare_addrs: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
    routes: Vec<Cidr>,
    /// The text, which parses.
    link: Option<String>,
    pcap: Option<PathBuf>,
    plugins: Vec<PathBuf>,
    control: Option<PathBuf>,
    sysctls: Vec<(String, String)>,
}

impl Config {
    /// Parses the text; see the module's table. EINVAL, with a message about the first error.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let mut c = Config {
            device: DeviceSpec::Loopback,
            mac: None,
            queues: 1,
            mtu: None,
            addrs: Vec::new(),
            bare_addrs: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            link: None,
            pcap: None,
            plugins: Vec::new(),
            control: None,
            sysctls: Vec::new(),
        };
        let mut mac = None;
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| bad(format!("{part:?} is not key=value")))?;
            let number = || value.parse().map_err(|_| bad(format!("{key}={value}: not a number in range")));
            let cidr = || value.parse::<Cidr>().map_err(|_| bad(format!("{key}={value}: not address/prefix")));
            match key {
                "tun" | "packet" | "device" if c.device != DeviceSpec::Loopback => {
                    return Err(bad(format!("{key}={value}: there is a device already")));
                }
                "tun" | "packet" if !is_interface_name(value) => {
                    return Err(bad(format!("{key}={value}: not an interface name")));
                }
                "tun" => c.device = DeviceSpec::Tun(value.to_owned()),
                "packet" => c.device = DeviceSpec::Packet(value.to_owned()),
                "device" => {
                    let (kind, argument) = value.split_once(':').unwrap_or((value, ""));
                    if kind.is_empty() || kind.len() > 15 {
                        return Err(bad(format!("{key}={value}: not KIND:ARGUMENT")));
                    }
                    c.device = DeviceSpec::Plugged { kind: kind.to_owned(), argument: argument.to_owned() };
                }
                "mac" => mac = Some(value),
                "queues" => {
                    c.queues = number()?;
                    if !(1..=256).contains(&c.queues) {
                        return Err(bad(format!("{key}={value}: not 1 to 256")));
                    }
                }
                "mtu" => {
                    let mtu = value.parse().map_err(|_| bad(format!("{key}={value}: not a number")))?;
                    if !(68..=65_535).contains(&mtu) {
                        return Err(bad(format!("{key}={value}: not 68 to 65535")));
                    }
                    c.mtu = Some(mtu);
                }
                "addr" => {
                    c.addrs.push(cidr()?);
                    c.bare_addrs.extend(value.parse::<IpAddr>());
                }
                "route" => c.routes.push(cidr()?),
                "gw" => c.gateways.push(value.parse().map_err(|_| bad(format!("{key}={value}: not an address")))?),
                "link" => {
                    link::parse(value)?;
                    c.link = Some(value.to_owned());
                }
                "pcap" | "plugin" | "control" if value.is_empty() => {
                    return Err(bad(format!("{key}=: no file is named")));
                }
                "pcap" => c.pcap = Some(PathBuf::from(value)),
                "control" if c.control.is_some() => {
                    return Err(bad(format!("{key}={value}: there is a control socket already")));
                }
                "control" => c.control = Some(PathBuf::from(value)),
                "plugin" => c.plugins.push(PathBuf::from(value)),
                _ => match key.strip_prefix("sysctl.") {
                    Some(name) => c.sysctls.push((name.to_owned(), value.to_owned())),
                    None => return Err(bad(format!("{key:?} is not a known key{}", meant(nearest(key, KEYS))))),
                },
            }
        }
        c.complete(mac)?;
        Ok(c)
    }

    /// What depends on more than one key: the device's address, which `mac` says, and what needs a device of a kind.
    fn complete(&mut self, mac: Option<&str>) -> Result<(), ConfigError> {
        self.mac = match (mac, &self.device) {
            (None, _) => None,
            (Some(m), DeviceSpec::Packet(_)) => Some(check::mac(m, false)?),
            (Some(m), DeviceSpec::Plugged { .. }) => Some(check::mac(m, true)?),
            (Some(_), _) => return Err(bad("mac= needs packet= or device=".to_owned())),
        };
        if self.queues != 1 && !matches!(self.device, DeviceSpec::Tun(_)) {
            return Err(bad("queues= needs tun=".to_owned()));
        }
        if self.link.is_some() && self.device == DeviceSpec::Loopback {
            return Err(bad("link= needs a device".to_owned()));
        }
        if self.link.is_some() && self.queues != 1 {
            return Err(bad("link= needs queues=1: the link has one".to_owned()));
        }
        if !self.gateways.is_empty() && self.device == DeviceSpec::Loopback {
            return Err(bad("gw= needs a device".to_owned()));
        }
        Ok(())
    }

    fn open(&self, entropy: &OsEntropy) -> Result<Option<Arc<dyn Device>>, ConfigError> {
        Ok(match &self.device {
            DeviceSpec::Loopback | DeviceSpec::Plugged { .. } => None,
            DeviceSpec::Tun(name) => {
                let tun = Tun::open(name, self.queues, true).map_err(|e| outside(explain::tun(name, &e), &e))?;
                if let Some(mtu) = self.mtu {
                    tun.set_mtu(mtu).map_err(|e| outside(explain::mtu(name, mtu, &e), &e))?;
                }
                Some(Arc::new(tun))
            }
            DeviceSpec::Packet(name) => {
                let mac = match self.mac {
                    None | Some(Mac::Random) => packet::Mac::Random(entropy),
                    Some(Mac::Own) => packet::Mac::Interface,
                    Some(Mac::Given(mac)) => packet::Mac::Given(mac),
                };
                let dev = Packet::open(name, mac).map_err(|e| outside(explain::packet(name, &e), &e))?;
                if let Some(mtu) = self.mtu {
                    dev.set_mtu(mtu).map_err(|e| outside(explain::mtu(name, mtu, &e), &e))?;
                }
                Some(Arc::new(dev))
            }
        })
    }

    /// The kind of device that `device=` names, which a plug-in has registered.
    fn kind(stack: &Stack, kind: &str, argument: &str) -> Result<Arc<dyn DeviceKind>, ConfigError> {
        let known = || match stack.device_kinds.names() {
            names if names.is_empty() => "none is plugged in".to_owned(),
            names => format!("there is {}", names.join(", ")),
        };
        let none = || bad(format!("device={kind}:{argument}: no kind {kind:?} of device, {}", known()));
        stack.device_kinds.find(kind).ok_or_else(none)
    }

    /// Opens the device that is of a plug-in's kind, if that is what is wanted.
    fn open_plugged(&self, stack: &Arc<Stack>) -> Result<Option<Arc<dyn Device>>, ConfigError> {
        let DeviceSpec::Plugged { kind, argument } = &self.device else { return Ok(None) };
        let what = format!("device={kind}:{argument}");
        let found = Config::kind(stack, kind, argument)?;
        let mac = match self.mac {
            Some(Mac::Given(mac)) => Some(mac),
            Some(Mac::Random) => {
                let [_, _, a, b, c, d, e, f] = stack.entropy.next_u64().to_be_bytes();
                Some(MacAddr([a & !1 | 2, b, c, d, e, f]))
            }
            Some(Mac::Own) | None => None,
        };
        let name = (0..).map(|n| format!("{}{n}", kind.get(..kind.len().min(10)).unwrap_or("dev")));
        let name = name.into_iter().find(|n| stack.netdevs.by_name(n).is_none()).unwrap_or_default();
        let args = DeviceArgs { argument, name: &name, mtu: self.mtu, mac };
        let device = found.open(stack, &args).map_err(|(error, why)| ConfigError {
            message: format!("{what}: {}", why.unwrap_or_else(|| format!("the plug-in refuses: {error}"))),
            error,
        })?;
        let caps = device.caps();
        if let Some(mtu) = self.mtu.filter(|m| *m != caps.mtu) {
            return Err(bad(format!("mtu={mtu}: this device has {}", caps.mtu)));
        }
        match (mac, caps.link) {
            (Some(_), LinkType::Ip) => Err(bad("mac=: this device carries no hardware addresses".to_owned())),
            (Some(want), LinkType::Ethernet(has)) if want != has => {
                Err(bad(format!("mac={want}: this device has {has}")))
            }
            _ => Ok(Some(device)),
        }
    }

    /// Adds the device, with its addresses and routes, to an existing stack: keys `device`, `mac`, `mtu`, `addr`, `gw`,
    /// `route`, `link` and `pcap`. EINVAL for other keys.
    pub fn add_to(&self, stack: &Arc<Stack>) -> Result<(), ConfigError> {
        let whole_stack = !self.plugins.is_empty() || !self.sysctls.is_empty() || self.control.is_some();
        if whole_stack || !matches!(self.device, DeviceSpec::Plugged { .. }) {
            return Err(bad("a device is added by device=, mac=, mtu=, addr=, gw=, route= and pcap=".to_owned()));
        }
        let device = self.open_plugged(stack)?;
        self.equip(stack, device)
    }

    /// A stack without device, its sysctls set.
    fn bare(&self, parts: StackConfig) -> Result<Arc<Stack>, ConfigError> {
        let stack = standard::stack(parts).map_err(plain("stack"))?;
        for file in &self.plugins {
            let shown = file.display();
            let load =
                *PLUGIN_LOADER.get().ok_or_else(|| bad(format!("plugin={shown}: this program loads no plug-ins")))?;
            load(&stack, file)?;
        }
        for (name, value) in &self.sysctls {
            let why = |error| ConfigError {
                message: format!("sysctl.{name}={value}: {}", stack.sysctl.refusal(name, value, error)),
                error,
            };
            stack.sysctl.set(name, value).map_err(why)?;
        }
        Ok(stack)
    }

    /// Creates the stack, in real time: driven by `Lease`.
    pub fn build(&self) -> Result<Arc<Stack>, ConfigError> {
        self.build_driven_by(Arc::new(Lease::new(self.queues)))
    }

    /// Creates the stack, in real time, with a driver of the caller's, as [`EventLoop`](crate::driver::EventLoop).
    pub fn build_driven_by(&self, runner: Arc<dyn Runner>) -> Result<Arc<Stack>, ConfigError> {
        self.build_opened(runner, || {})
    }

    /// The same; `opened` is called as soon as the device and the files of the configuration are open, before any
    /// thread is started: what needs privileges is done.
    pub fn build_opened(&self, runner: Arc<dyn Runner>, opened: impl FnOnce()) -> Result<Arc<Stack>, ConfigError> {
        let entropy = Arc::new(OsEntropy::new().map_err(plain("randomness"))?);
        let device = self.open(&entropy)?;
        let stack = self.bare(StackConfig { clock: Arc::new(RealClock::new()), entropy, runner })?;
        let device = if device.is_none() { self.open_plugged(&stack)? } else { device };
        self.equip(&stack, device)?;
        opened();
        if let Some(path) = &self.control {
            control::serve(&stack, path).map_err(Config::control_error)?;
        }
        Ok(stack)
    }

    /// Creates a stack of a simulation, whose devices are the ends of its links: what there is to configure is
    /// plug-ins, sysctls and the loopback. EINVAL for other devices, and for `control`, whose thread lives in real
    /// time.
    pub(crate) fn build_simulated(&self, parts: StackConfig) -> Result<Arc<Stack>, ConfigError> {
        if self.device != DeviceSpec::Loopback || self.control.is_some() {
            return Err(bad("a host of a simulation has no tun=, packet=, device= and control=".to_owned()));
        }
        let stack = self.bare(parts)?;
        self.equip(&stack, None)?;
        Ok(stack)
    }

    /// The device with its simulated link in front, if there is to be one.
    fn linked(&self, stack: &Stack, device: Arc<dyn Device>) -> Result<Arc<dyn Device>, ConfigError> {
        let Some(text) = &self.link else { return Ok(device) };
        let link = link::parse(text)?;
        let seed = link.seed.unwrap_or_else(|| stack.entropy.next_u64());
        let linked = Impaired::new(device, &link.config, seed).map_err(plain(&format!("link={text}")))?;
        Ok(Arc::new(linked))
    }

    /// Adds the device to a stack, and its addresses and routes. None: the loopback.
    fn equip(&self, stack: &Arc<Stack>, device: Option<Arc<dyn Device>>) -> Result<(), ConfigError> {
        let device = device.map(|device| self.linked(stack, device)).transpose()?;
        let dev = self.netdev(stack, device)?;
        if let Some(path) = &self.pcap {
            crate::device::pcap::start(&dev, path, stack).map_err(|e| Config::pcap_error(path, &e))?;
        }
        self.address(stack, &dev)?;
        autoconf::start(stack, &dev, stack.now());
        Ok(())
    }

    fn control_error(e: control::ServeError) -> ConfigError {
        ConfigError { message: format!("control={}", e.message), error: e.error }
    }

    fn pcap_error(path: &Path, e: &io::Error) -> ConfigError {
        outside(format!("pcap={}: cannot be written: {e}", path.display()), e)
    }

    fn netdev(&self, stack: &Arc<Stack>, device: Option<Arc<dyn Device>>) -> Result<Arc<NetDev>, ConfigError> {
        if let Some(d) = device {
            return stack.add_device(d).map_err(plain("device"));
        }
        let lo = stack.netdevs.by_name("lo").ok_or_else(|| bad("no loopback".to_owned()))?;
        if let Some(mtu) = self.mtu {
            lo.set_mtu(mtu).map_err(plain("mtu"))?;
        }
        Ok(lo)
    }

    /// Gives the device its addresses and routes.
    fn address(&self, stack: &Arc<Stack>, dev: &Arc<NetDev>) -> Result<(), ConfigError> {
        let refused = |what: String, why: &str, error| ConfigError { message: format!("{what}: {why}"), error };
        for addr in &self.addrs {
            if addr.addr().is_loopback() && !dev.caps().loopback {
                let why = "an address of the loopback, which no other device can use";
                return Err(refused(format!("addr={addr}"), why, Error::AddrNotAvail));
            }
            route::add_address(stack, dev, *addr).map_err(|error| match error {
                Error::Exist => refused(format!("addr={addr}"), "given twice", error),
                Error::Inval => refused(format!("addr={addr}"), "not an address that a host can have", error),
                _ => plain(&format!("addr={addr}"))(error),
            })?;
        }
        for dst in &self.routes {
            route::add_route(stack, RouteSpec::new(*dst).via_dev(dev)).map_err(|error| match error {
                Error::Exist => refused(format!("route={dst}"), "given twice, or the network of an addr=", error),
                _ => plain(&format!("route={dst}"))(error),
            })?;
        }
        for gw in &self.gateways {
            let any = match gw {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let any = Cidr::new(any, 0).ok_or_else(|| bad("default route".to_owned()))?;
            let spec = RouteSpec::new(any).via(*gw).via_dev(dev);
            route::add_route(stack, spec).map_err(|error| self.gateway_refused(stack, *gw, error))?;
        }
        Ok(())
    }

    fn gateway_refused(&self, stack: &Stack, gw: IpAddr, error: Error) -> ConfigError {
        let why = match error {
            Error::Inval if route::is_local(stack, gw) => "an address of this stack itself".to_owned(),
            Error::Inval => "not the address of a router".to_owned(),
            Error::Exist => "there is a default route of this family already".to_owned(),
            Error::NetUnreach => {
                let nets = self.addrs.iter().chain(&self.routes).filter(|c| c.addr().is_ipv4() == gw.is_ipv4());
                match nets.map(Cidr::to_string).collect::<Vec<_>>() {
                    nets if nets.is_empty() => {
                        "on no network of this device, which has no addr= of its family".to_owned()
                    }
                    nets => format!("on no network of this device ({})", nets.join(", ")),
                }
            }
            _ => error.to_string(),
        };
        ConfigError { message: format!("gw={gw}: {why}"), error }
    }
}

/// The end of a message about a name that does not exist.
fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; the nearest is {name}"))
}

/// Loads a shared object into a stack.
pub type PluginLoader = fn(&Arc<Stack>, &Path) -> Result<(), ConfigError>;

static PLUGIN_LOADER: OnceLock<PluginLoader> = OnceLock::new();

/// Sets how this process loads plug-ins. The C ABI calls it, since plug-ins use its interface. Only the first call
/// counts.
pub fn set_plugin_loader(loader: PluginLoader) {
    PLUGIN_LOADER.get_or_init(|| loader);
}

/// Parses and builds. EINVAL: the text is wrong; EPERM, ENODEV, EBUSY and other errors of opening a device.
pub fn build(text: &str) -> Result<Arc<Stack>, ConfigError> {
    Config::parse(text)?.build()
}

/// One per process: a fork(2) child has none until it creates one, since a stack belongs to the parent alone.
static DEFAULT: PerProcess<Mutex<Option<Arc<Stack>>>> = PerProcess::new(Mutex::default);

/// The process's default stack, which the C ABI and the Rust API share, created at the first call from the environment
/// variable `USERSOCK_CONFIG`; without it, only the in-memory loopback. A bad configuration is an error at every call.
pub fn default_stack() -> Result<Arc<Stack>, ConfigError> {
    let mut default = DEFAULT.get().lock();
    if let Some(stack) = default.as_ref() {
        return Ok(stack.clone());
    }
    let text = match std::env::var("USERSOCK_CONFIG") {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => String::new(),
        Err(e) => return Err(bad(format!("USERSOCK_CONFIG: {e}"))),
    };
    let stack = build(&text)?;
    *default = Some(stack.clone());
    Ok(stack)
}

/// The default stack if there is one already.
pub fn default_stack_if_any() -> Option<Arc<Stack>> {
    DEFAULT.get().lock().clone()
}

/// Makes the result of `make` the default stack. EBUSY, without calling `make`, when there is one already.
pub fn set_default_stack(make: impl FnOnce() -> Result<Arc<Stack>, ConfigError>) -> Result<(), ConfigError> {
    let mut default = DEFAULT.get().lock();
    if default.is_some() {
        return Err(ConfigError { message: "there is a default stack already".to_owned(), error: Error::Busy });
    }
    *default = Some(make()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_bad_key_and_value() {
        for (text, want) in [
            ("tun", "\"tun\" is not key=value"),
            ("tun=", "tun=: not an interface name"),
            ("tun=a,packet=b", "packet=b: there is a device already"),
            ("addr=10.0.0.1/33", "addr=10.0.0.1/33: not address/prefix"),
            ("tun=a,device=udp:b", "device=udp:b: there is a device already"),
            ("device=", "device=: not KIND:ARGUMENT"),
            ("mac=random", "mac= needs packet= or device="),
            ("gw=10.0.0.1", "gw= needs a device"),
            ("mtu=67", "mtu=67: not 68 to 65535"),
            ("queues=2", "queues= needs tun="),
            ("link=delay=1ms", "link= needs a device"),
            ("tun=a,queues=2,link=delay=1ms", "link= needs queues=1: the link has one"),
            ("colour=red", "\"colour\" is not a known key"),
        ] {
            let e = Config::parse(text).unwrap_err();
            assert_eq!((e.message.as_str(), e.error), (want, Error::Inval), "{text}");
        }
    }

    #[test]
    fn an_unknown_kind_of_device_is_a_one_line_error() {
        let e = build("device=udp:127.0.0.1:1/127.0.0.1:2").err().unwrap();
        assert_eq!(
            (e.message.as_str(), e.error),
            ("device=udp:127.0.0.1:1/127.0.0.1:2: no kind \"udp\" of device, none is plugged in", Error::Inval)
        );
    }

    #[test]
    fn a_full_line_parses() {
        let c =
            Config::parse("tun=tun0,addr=10.0.0.2/24,addr=fd00::2/64,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1").unwrap();
        assert_eq!(c.device, DeviceSpec::Tun("tun0".to_owned()));
        assert_eq!(c.addrs.len(), 2);
        assert_eq!(c.sysctls, [("net.ipv4.tcp_sack".to_owned(), "1".to_owned())]);
    }

    fn document() -> String {
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md")).unwrap()
    }

    #[test]
    fn the_document_lists_the_keys_that_are_known() {
        let text = document();
        let section = text.split("\n## ").find(|s| s.starts_with("Keys\n")).unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('=').map(|(key, _)| key));
        assert_eq!(rows.collect::<Vec<_>>(), [&KEYS[..], &["sysctl.NAME"]].concat());
        for key in KEYS {
            // What is wrong is the value, if anything.
            let said = Config::parse(&format!("{key}=")).map_err(|e| e.message).err().unwrap_or_default();
            assert!(!said.contains("not a known key"), "{key}: {said}");
        }
        let rows = include_str!("config.rs").lines().take_while(|l| !l.starts_with("//! | file |"));
        assert!(rows.filter(|l| l.starts_with("//! | `")).count() == KEYS.len() + 1);
    }

    #[test]
    fn every_configuration_in_the_document_parses() {
        let text = document();
        let keyed = |word: &&str| {
            let key = word.split('=').next().unwrap_or_default();
            word.contains('=') && (KEYS.contains(&key) || key.starts_with("sysctl."))
        };
        let blank = |c: char| c.is_whitespace() || matches!(c, '`' | '|' | ':' | ';' | '(' | ')');
        // A quoted word may hold blanks; a colon ends a word only in front of a blank.
        let quoted = text.split('\'').filter(|word| !word.contains('\n') && keyed(word));
        let plain = text.split(|c: char| blank(c) && c != ':').map(|w| w.trim_matches(|c| ":,.'".contains(c)));
        let words: Vec<&str> = quoted.chain(plain.filter(keyed)).collect();
        assert!(words.len() > 40 && words.iter().any(|w| w.contains("tcp_rmem=4096 65536")), "{words:?}");
        for word in words {
            if word.ends_with('=') || word.contains(char::is_uppercase) && !word.contains(',') {
                // A key that is spoken of, or with a placeholder.
                continue;
            }
            let device = ["tun=", "packet=", "device="].iter().any(|key| word.contains(key));
            // A fragment stands for a text that has what it needs.
            let whole = match word {
                _ if device => word.to_owned(),
                _ if word.starts_with("mac=") => format!("packet=eth1,{word}"),
                _ => format!("tun=tun0,{word}"),
            };
            let parsed = Config::parse(&whole);
            assert!(parsed.is_ok(), "{word}: {}", parsed.unwrap_err());
        }
    }
}

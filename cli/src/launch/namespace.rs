//! The namespaces of an instance: user (but for root), network and, where files are to be replaced, mount; in the
//! network namespace the loopback interface and a device, whose one end the kernel has and whose other end is the
//! stack's. All of it is done before the program is executed, whose user has no privilege over it any more. Above:
//! `launch`. Below: `netlink`, `sys`. Linux: user_namespaces(7), network_namespaces(7).

use super::Refusal;
use super::netlink::Netlink;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io;
use std::net::IpAddr;
use usersock::wire::addr::Cidr;

/// The kernel's interface, of each kind of device; the stack is on the TUN device itself, or on the other end of the
/// veth pair.
const TUN: &str = "tun0";
/// Packets that wait for the stack on a TUN device. With the kernel's 500 most of what thousands of connections send at
/// once, as at a crowd's end, would be lost, and sent again by timers that go off at once: for minutes.
const TUN_QUEUE: u32 = 5000;
const VETH: [&str; 2] = ["veth0", "veth1"];
/// The stack's hardware address on the latter, the same in each program, so that the kernel's neighbour entry outlives
/// one: locally administered, "users" in ASCII.
const MAC: &str = "02:75:73:65:72:73";

/// Which device joins the stack to the kernel of the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Tun,
    Packet,
    /// TUN, where /dev/net/tun can be opened; else a veth pair.
    Either,
}

/// An address of the stack, and the kernel's in the same network, which is the stack's gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) stack: Cidr,
    pub(crate) kernel: IpAddr,
    /// Nobody asked for this family: that the kernel has none is no failure.
    pub(crate) default: bool,
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) device: Wanted,
    pub(crate) ends: Vec<Ends>,
    pub(crate) mtu: Option<u32>,
    /// Root of the user namespace instead of the caller's own user.
    pub(crate) root: bool,
    /// pasta is to join: a mount namespace too, for the resolver's file, and a user namespace for root as well, since
    /// pasta gives up root's capabilities, and may join what belongs to its user.
    pub(crate) outside: bool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    /// The stack's configuration: device, addresses, gateways.
    pub(crate) config: String,
    /// This process is in a user namespace of its own.
    pub(crate) user: bool,
    /// The stack needs a raw socket, not a TUN device.
    pub(crate) packet: bool,
}

/// Moves this process, which has one thread, into new namespaces and prepares them.
pub(crate) fn make(plan: &Plan) -> Result<Made, Refusal> {
    let user = enter(plan)?;
    let netlink = Netlink::open().map_err(|e| broken("a netlink socket", &e))?;
    netlink.up("lo", None).map_err(|e| broken("the loopback interface cannot be brought up", &e))?;
    let packet = device(plan, &netlink)?;
    let kernel = if packet { VETH[0] } else { TUN };
    let mut config = if packet { format!("packet={},mac={MAC}", VETH[1]) } else { format!("tun={TUN}") };
    for end in &plan.ends {
        let Some(address) = Cidr::new(end.kernel, end.stack.prefix()) else { continue };
        match netlink.add_address(kernel, address) {
            Ok(()) => config += &format!(",addr={},gw={}", end.stack, end.kernel),
            // A kernel without IPv6.
            Err(_) if end.default && end.kernel.is_ipv6() => {}
            Err(e) => return Err(broken(&format!("the kernel's end cannot have the address {address}"), &e)),
        }
    }
    Ok(Made { config, user, packet })
}

fn broken(what: &str, e: &io::Error) -> Refusal {
    Refusal::broken(format!("{what}: {e}"))
}

/// Enters the namespaces. Whether a user namespace is among them: root needs none where it may do without.
fn enter(plan: &Plan) -> Result<bool, Refusal> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if plan.outside {
        flags |= CloneFlags::CLONE_NEWNS;
    }
    let mut user = true;
    if uid.is_root() && !plan.outside && unshare(flags).is_ok() {
        user = false;
    } else {
        unshare(flags | CloneFlags::CLONE_NEWUSER).map_err(|e| refused(e, &setting))?;
        let (inside_uid, inside_gid) = if plan.root { (0, 0) } else { (uid.as_raw(), gid.as_raw()) };
        // The kernel wants setgroups denied before an unprivileged process may write its gid map.
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("{inside_uid} {uid} 1")),
            ("gid_map", format!("{inside_gid} {gid} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text).map_err(|e| match e.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => refused(Errno::EPERM, &setting),
                _ => broken(&format!("/proc/self/{file}"), &e),
            })?;
        }
    }
    if plan.outside {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
            .map_err(|e| Refusal::broken(format!("mounts cannot be made private: {e}")))?;
    }
    Ok(user)
}

/// A setting of the kernel: a file's text without blanks at its ends.
fn setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Why there is no user namespace, and what to do about it. `read` reads files of /proc and /etc.
fn refused(error: Errno, read: &dyn Fn(&str) -> Option<String>) -> Refusal {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text == value);
    let os = read("/etc/os-release").unwrap_or_default();
    let distribution = |names: &[&str]| {
        let field = |key: &str| os.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("").replace('"', "");
        let all = field("ID=") + " " + &field("ID_LIKE=");
        names.iter().any(|name| all.split(' ').any(|word| word == *name))
    };
    let status = read("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
    let why = match error {
        Errno::ENOSPC | Errno::EUSERS if is("/proc/sys/user/max_user_namespaces", "0") => {
            let keep = "in /etc/sysctl.d it stays";
            let also = if distribution(&["rhel", "centos", "fedora"]) { " (as Red Hat's systems have it)" } else { "" };
            format!("user.max_user_namespaces is 0{also}: `sudo sysctl -w user.max_user_namespaces=15000`, {keep}")
        }
        Errno::ENOSPC | Errno::EUSERS => "user.max_user_namespaces are in use, or namespaces 32 deep: \
             `sudo sysctl -w user.max_user_namespaces=15000` raises the former"
            .to_owned(),
        Errno::EINVAL => "this kernel is built without them (CONFIG_USER_NS): run it as root".to_owned(),
        Errno::EPERM | Errno::EACCES if is("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            let of = if distribution(&["arch"]) { "linux-hardened's" } else { "Debian's" };
            format!("{of} kernel.unprivileged_userns_clone is 0: `sudo sysctl -w kernel.unprivileged_userns_clone=1`")
        }
        Errno::EPERM | Errno::EACCES if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") => {
            "AppArmor refuses (kernel.apparmor_restrict_unprivileged_userns is 1, as on Ubuntu since 24.04): install \
             the profile of docs/run.md, or `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
                .to_owned()
        }
        Errno::EPERM | Errno::EACCES if filtered => {
            "a seccomp filter refuses, as a container's: start the container with \
             `--security-opt seccomp=unconfined`, or with `--cap-add SYS_ADMIN` and run as root in it"
                .to_owned()
        }
        Errno::EPERM | Errno::EACCES => "the kernel refuses (a changed root directory, or a security module: \
             `journalctl -k` may name it): run it as root"
            .to_owned(),
        other => format!("{}: run it as root", other.desc()),
    };
    Refusal::broken(format!("no user namespace can be made: {why} ({error:?})"))
}

/// Makes the device and brings it up. Whether it is a veth pair.
fn device(plan: &Plan, netlink: &Netlink) -> Result<bool, Refusal> {
    let tun = match plan.device {
        Wanted::Packet => None,
        _ => Some(crate::sys::make_tun(TUN, nix::unistd::geteuid().as_raw())),
    };
    let no_tun = match tun {
        Some(Ok(())) => {
            // Without it the device is as good as one that ip(8) makes.
            let _ = netlink.queue(TUN, TUN_QUEUE);
            netlink.up(TUN, plan.mtu).map_err(|e| broken(&with_mtu(TUN, plan.mtu), &e))?;
            return Ok(false);
        }
        Some(Err(e)) if plan.device == Wanted::Tun => return Err(Refusal::broken(no_tun(&e) + "; or --packet")),
        Some(Err(e)) => format!(" ({})", no_tun(&e)),
        None => String::new(),
    };
    netlink.add_veth(VETH).map_err(|e| {
        let why = match e.raw_os_error() {
            Some(libc::EOPNOTSUPP) => "this kernel has no veth: `sudo modprobe veth`".to_owned(),
            _ => e.to_string(),
        };
        Refusal::broken(format!("no veth pair can be made: {why}{no_tun}"))
    })?;
    // The kernel is to answer nothing on the stack's end. A kernel without IPv6 refuses, and need not be told.
    let _ = netlink.without_link_local(VETH[1]);
    for name in VETH {
        netlink.up(name, plan.mtu).map_err(|e| broken(&with_mtu(name, plan.mtu), &e))?;
    }
    Ok(true)
}

fn with_mtu(name: &str, mtu: Option<u32>) -> String {
    mtu.map_or_else(|| format!("{name} cannot be brought up"), |mtu| format!("{name} cannot have the MTU {mtu}"))
}

/// Why there is no TUN device, and what to do about it.
fn no_tun(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EACCES) => "/dev/net/tun may not be opened: `sudo chmod 666 /dev/net/tun`".to_owned(),
        Some(libc::ENOENT) => "there is no /dev/net/tun: `sudo modprobe tun`; \
             a container is given it with `--device /dev/net/tun`"
            .to_owned(),
        Some(libc::ENXIO | libc::ENODEV) => "/dev/net/tun has no driver: `sudo modprobe tun`".to_owned(),
        Some(libc::EPERM) => "/dev/net/tun is refused, as by a container's device rules: \
             `--device /dev/net/tun` permits it"
            .to_owned(),
        _ => format!("/dev/net/tun: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_setting_and_remedy() {
        let clone = "/proc/sys/kernel/unprivileged_userns_clone";
        let apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
        let most = "/proc/sys/user/max_user_namespaces";
        let os = "/etc/os-release";
        for (error, files, wants) in [
            (Errno::EPERM, &[(clone, "0")][..], &["Debian's", "sysctl -w kernel.unprivileged_userns_clone=1"][..]),
            (Errno::EPERM, &[(clone, "0"), (os, "ID=arch")], &["linux-hardened's"]),
            (Errno::EPERM, &[(clone, "1"), (apparmor, "1")], &["Ubuntu", "profile of docs/run.md"]),
            (Errno::EPERM, &[(apparmor, "0"), ("/proc/self/status", "Name:\tx\nSeccomp:\t2")], &["--security-opt"]),
            (Errno::EPERM, &[], &["security module"]),
            (Errno::ENOSPC, &[(most, "0")], &["user.max_user_namespaces is 0:", "=15000"]),
            (Errno::ENOSPC, &[(most, "0"), (os, "ID=\"rocky\"\nID_LIKE=\"rhel centos\"")], &["Red Hat's"]),
            (Errno::ENOSPC, &[(most, "9")], &["in use"]),
            (Errno::EINVAL, &[], &["CONFIG_USER_NS"]),
        ] {
            let read = |path: &str| files.iter().find(|(p, _)| *p == path).map(|(_, text)| (*text).to_owned());
            let said = refused(error, &read).message;
            assert!(wants.iter().all(|want| said.contains(want)), "{error:?} {files:?}: {said}");
            assert!(!said.contains('\n') && said.contains(&format!("({error:?})")), "{said}");
        }
    }

    #[test]
    fn each_reason_for_no_tun_device_has_its_remedy() {
        for (errno, want) in [
            (libc::EACCES, "chmod 666"),
            (libc::ENOENT, "modprobe tun"),
            (libc::EPERM, "--device"),
            (libc::EBUSY, "busy"),
        ] {
            let said = no_tun(&io::Error::from_raw_os_error(errno));
            assert!(said.contains(want), "{said}");
        }
    }
}

//! Why a device cannot be had, and what to do about it: errno values of opening TUN devices and raw sockets in a
//! person's words. Above: `config`. The errno itself stays in `ConfigError::error`.

use std::io;
use std::path::Path;

/// What the program lacks, and the ways to have it; `cap` alone where the interface need not be changed.
fn privilege(cap: &str, also: &str) -> String {
    format!(
        "without {cap}: {also}run as root, in a shell of `unshare -rn`, or after `sudo setcap {}+ep PROGRAM`",
        cap.to_lowercase()
    )
}

/// Opening TUN device `name` failed with `e`.
pub(super) fn tun(name: &str, e: &io::Error) -> String {
    let why = match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) if !Path::new("/dev/net/tun").exists() => {
            "there is no /dev/net/tun: `sudo modprobe tun` makes it; \
             a container is given it with `--device /dev/net/tun`"
                .to_owned()
        }
        Some(libc::ENXIO | libc::ENODEV) => "/dev/net/tun has no driver: `sudo modprobe tun`".to_owned(),
        Some(libc::EPERM) => {
            let add = format!("sudo ip tuntap add dev {name} mode tun user $USER");
            privilege("CAP_NET_ADMIN", &format!("`{add}; sudo ip link set {name} up` once, or "))
        }
        Some(libc::EACCES) => {
            "/dev/net/tun may not be opened: `sudo chmod 666 /dev/net/tun`, or run as root".to_owned()
        }
        Some(libc::EBUSY) => format!(
            "in use by another process: one stack to a TUN device; \
             `grep -l '{name}$' /proc/[0-9]*/fdinfo/*` finds who has it"
        ),
        Some(libc::EINVAL) => {
            format!("not a TUN device, or not an interface's name; `ip -d link show {name}` says what it is")
        }
        _ => return format!("tun={name}: {e}"),
    };
    format!("tun={name}: {why} ({})", text(e))
}

/// Opening the raw socket on interface `name` failed with `e`.
pub(super) fn packet(name: &str, e: &io::Error) -> String {
    let why = match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => privilege("CAP_NET_RAW", ""),
        Some(libc::ENODEV | libc::ENXIO) => "there is no such interface; `ip link` lists those there are".to_owned(),
        Some(libc::ENETDOWN) => format!("the interface is down: `ip link set {name} up`"),
        Some(libc::EINVAL) => "not an Ethernet interface, as packet= needs".to_owned(),
        _ => return format!("packet={name}: {e}"),
    };
    format!("packet={name}: {why} ({})", text(e))
}

/// Setting the MTU of interface `name` failed with `e`.
pub(super) fn mtu(name: &str, mtu: u32, e: &io::Error) -> String {
    let why = match e.raw_os_error() {
        Some(libc::EPERM) => {
            privilege("CAP_NET_ADMIN", &format!("`sudo ip link set {name} mtu {mtu}` before the start, or "))
        }
        Some(libc::EINVAL) => format!("out of the range of {name}; `ip -d link show {name}` says which it is"),
        _ => return format!("mtu={mtu}: {e}"),
    };
    format!("mtu={mtu}: {why} ({})", text(e))
}

/// strerror's words without Rust's "(os error N)".
fn text(e: &io::Error) -> String {
    let full = e.to_string();
    full.split(" (os error").next().unwrap_or(&full).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_remedy() {
        let e = io::Error::from_raw_os_error;
        for (line, want) in [
            (tun("tun0", &e(libc::EPERM)), "ip tuntap add dev tun0 mode tun user $USER"),
            (tun("tun0", &e(libc::EPERM)), "setcap cap_net_admin+ep"),
            (tun("tun0", &e(libc::EBUSY)), "in use by another process"),
            (tun("tun0", &e(libc::EINVAL)), "not a TUN device"),
            (tun("tun0", &e(libc::ENOMEM)), "tun=tun0: Cannot allocate memory"),
            (packet("eth9", &e(libc::EPERM)), "setcap cap_net_raw+ep"),
            (packet("eth9", &e(libc::ENODEV)), "there is no such interface"),
            (packet("eth9", &e(libc::ENETDOWN)), "ip link set eth9 up"),
            (mtu("tun0", 9000, &e(libc::EPERM)), "ip link set tun0 mtu 9000"),
        ] {
            assert!(line.contains(want) && !line.contains("os error") | line.contains("memory"), "{line}");
        }
    }
}

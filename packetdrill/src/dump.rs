//! Files for a script's commands: its counters (`DIR/mib`, for nstat) and its TCP sockets (`DIR/net_tcp`,
//! `DIR/net_tcp6`, as /proc/net/tcp and /proc/net/tcp6 show them). Written before each command. Above: `preload`.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use usersock::internal::sock::AF_INET6;
use usersock::internal::tcp::{self, Entry};
use usersock::sock::Sock;
use usersock::stack::Stack;

/// Headings of the two tables, as the kernel prints them.
const HEAD4: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const HEAD6: &str = "  sl  local_address                         \
                     remote_address                        st tx_queue rx_queue \
                     tr tm->when retrnsmt   uid  timeout inode\n";

/// Writes all files.
pub fn write(stack: &Arc<Stack>, dir: &Path) -> io::Result<()> {
    let mut mib = String::new();
    for (name, value) in stack.mib.iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(mib, "{name} {value}");
    }
    put(dir, "mib", &mib)?;
    let [tcp, tcp6] = tables(stack);
    put(dir, "net_tcp", &tcp)?;
    put(dir, "net_tcp6", &tcp6)
}

/// Replaces a file atomically: a reader sees the old or the new one.
fn put(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let unfinished = dir.join(format!("{name}.new"));
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, dir.join(name))
}

fn tables(stack: &Arc<Stack>) -> [String; 2] {
    // Without TCP the files have their first line only.
    let (listeners, others) = match tcp::of(stack) {
        Ok(tcp) => (tcp.hashinfo.listeners_all(), tcp.hashinfo.established_all()),
        Err(_) => Default::default(),
    };
    let mut socks: Vec<Arc<Sock>> = listeners.into_iter().map(|(_, sock)| sock).collect();
    for entry in others {
        if let Entry::Sock(sock, _) = entry {
            socks.push(sock);
        }
    }
    let mut texts = [HEAD4.to_owned(), HEAD6.to_owned()];
    let mut lines = [0; 2];
    for sock in socks {
        let v6 = usize::from(sock.family == AF_INET6);
        let (local, remote) = {
            let sk = &sock.lock(stack).common;
            ((sk.rcv_saddr, sk.sport), (sk.daddr, sk.dport))
        };
        let line = line(lines[v6], v6 == 1, local, remote, sock.state() as u8);
        lines[v6] += 1;
        texts[v6].push_str(&line);
    }
    texts
}

/// A line of the table: number, addresses and state. The other columns read zero.
fn line(place: usize, v6: bool, local: (IpAddr, u16), remote: (IpAddr, u16), state: u8) -> String {
    format!(
        "{place:4}: {}:{:04X} {}:{:04X} {state:02X} 00000000:00000000 00:00000000 00000000     0        0 0\n",
        address(local.0, v6),
        local.1,
        address(remote.0, v6),
        remote.1,
    )
}

/// 32-bit words as this machine reads them, in hexadecimal.
fn address(ip: IpAddr, v6: bool) -> String {
    let octets = match ip {
        IpAddr::V4(ip) if !v6 => ip.octets().to_vec(),
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.octets().to_vec(),
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]]));
    words.map(|word| format!("{word:08X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_reads_as_the_kernels() {
        let line4 = line(0, false, ([192, 168, 0, 1].into(), 8080), ([0, 0, 0, 0].into(), 0), 10);
        assert!(line4.starts_with("   0: 0100A8C0:1F90 00000000:0000 0A "), "{line4}");
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let line6 = line(12, true, ([192, 0, 2, 1].into(), 1), (any, 0), 1);
        let want = "  12: 0000000000000000FFFF0000010200C0:0001 00000000000000000000000000000000:0000 01 ";
        assert!(line6.starts_with(want), "{line6}");
    }
}

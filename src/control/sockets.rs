//! The list of sockets: a line for each, made when it is sent. Above: `request`. Below: `Stack::socks`, and for TCP
//! `tcp::diag`. What Linux's inet_diag returns, by the names of its structures.

use super::json::Object;
use super::{DESCRIPTORS, Descriptors, HELD, Held};
use crate::base::env::Duration;
use crate::sock::diag::SockDiag;
use crate::sock::state::State;
use crate::sock::{Sock, flag, sockopt};
use crate::stack::Stack;
use crate::sys::unix;
use crate::tcp::diag::{self, Armed, TcpDiag};
use crate::tcp::info::FIELDS;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// SK_MEMINFO_* by ss(8)'s letters.
const SKMEM: [&str; 9] = ["r", "rb", "t", "tb", "f", "w", "o", "bl", "d"];

/// The state as ss(8) prints it.
pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Established => "ESTAB",
        State::SynSent => "SYN-SENT",
        State::SynRecv | State::NewSynRecv => "SYN-RECV",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::TimeWait => "TIME-WAIT",
        State::Close => "UNCONN",
        State::CloseWait => "CLOSE-WAIT",
        State::LastAck => "LAST-ACK",
        State::Listen => "LISTEN",
        State::Closing => "CLOSING",
    }
}

/// What ss(8) has in the column Netid.
fn netid(d: &SockDiag) -> String {
    match (i32::from(d.ty), i32::from(d.protocol)) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP) => "tcp".to_owned(),
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => "udp".to_owned(),
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMP) => "icmp".to_owned(),
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6) => "icmp6".to_owned(),
        (libc::SOCK_RAW, _) => "raw".to_owned(),
        // A protocol of a plug-in.
        (_, protocol) => format!("p{protocol}"),
    }
}

/// Who holds sockets in this process.
struct Holders {
    /// Nobody: programs in other processes do.
    none: bool,
    program: String,
    fds: HashMap<u64, Vec<RawFd>>,
}

impl Holders {
    fn find() -> Holders {
        let mut fds: HashMap<u64, Vec<RawFd>> = HashMap::new();
        for (id, fd) in DESCRIPTORS.get().map(|list: &Descriptors| list()).unwrap_or_default() {
            fds.entry(id).or_default().push(fd);
        }
        fds.values_mut().for_each(|list| list.sort_unstable());
        let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
        Holders { none: HELD.get().is_some(), program: program.trim_end().to_owned(), fds }
    }

    /// The holders of a sock that a program holds; without a descriptor, the process alone.
    fn of(&self, id: u64) -> Vec<Object> {
        let process = || Object::new().text("name", &self.program).plain("pid", std::process::id());
        match self.fds.get(&id) {
            Some(fds) => fds.iter().map(|fd| process().plain("fd", fd)).collect(),
            None => vec![process()],
        }
    }
}

/// What programs in other processes have of the sockets.
fn held() -> Vec<Held> {
    HELD.get().map(|list| list()).unwrap_or_default()
}

/// The inodes of that.
pub(super) fn inodes() -> impl Iterator<Item = String> + Send {
    let line = |h: Held| Some(Object::new().plain("id", h.id).plain("inode", h.inode?).end());
    held().into_iter().filter_map(line)
}

/// The lines of all sockets, or of the one with a number. The list is taken now; what is in a line is looked up when it
/// is asked for.
pub(super) fn lines(stack: &Arc<Stack>, only: Option<u64>) -> impl Iterator<Item = String> + Send + use<> {
    let holders = Holders::find();
    let wanted = stack.socks().into_iter().filter(|(d, _)| only.is_none_or(|id| d.id == id));
    let all: Vec<(SockDiag, Option<Weak<Sock>>)> =
        wanted.map(|(d, sock)| (d, sock.map(|s| Arc::downgrade(&s)))).collect();
    let stack = Arc::downgrade(stack);
    // For one alone, which is looked at again and again, they are not asked for.
    let held = if only.is_none() { held() } else { Vec::new() };
    let held: HashMap<u64, Held> = held.into_iter().map(|h| (h.id, h)).collect();
    all.into_iter().filter_map(move |(mut d, sock)| {
        let stack = stack.upgrade()?;
        if let Some(h) = held.get(&d.id) {
            let sum = |stacks: u32, held: u64| u32::try_from(held).unwrap_or(u32::MAX).saturating_add(stacks);
            (d.rqueue, d.wqueue) = (sum(d.rqueue, h.recv_q), sum(d.wqueue, h.send_q));
        }
        let Some(sock) = sock else { return Some(mini(&stack, &d).end()) };
        // One that was closed since is left out.
        Some(full(&stack, &d, &sock.upgrade()?, &holders).end())
    })
}

fn end(o: Object, key: (&str, &str), a: SocketAddr) -> Object {
    o.text(key.0, &a.ip().to_string()).plain(key.1, a.port())
}

fn head(d: &SockDiag) -> Object {
    let o = Object::new().text("netid", &netid(d)).plain("family", d.family).plain("protocol", d.protocol);
    let o = o.text("state", state_name(d.state)).plain("recv_q", d.rqueue).plain("send_q", d.wqueue);
    let o = end(o, ("local", "local_port"), d.local);
    match d.peer {
        Some(peer) => end(o, ("peer", "peer_port"), peer),
        None => o,
    }
    .plain("id", d.id)
}

fn with_timer(o: Object, timer: Option<Armed>) -> Object {
    let Some((timer, left, retrans)) = timer else { return o };
    let ms = Duration::as_millis(&left);
    o.object("timer", Object::new().text("name", timer.name()).plain("ms", ms).plain("retrans", retrans))
}

/// A request or a closed connection.
fn mini(stack: &Arc<Stack>, d: &SockDiag) -> Object {
    let timer = d.peer.and_then(|peer| diag::mini_timer(stack, d.local, peer));
    with_timer(head(d), timer)
}

fn full(stack: &Arc<Stack>, d: &SockDiag, sock: &Arc<Sock>, holders: &Holders) -> Object {
    let tcp = diag::diag(stack, sock);
    let mut g = sock.lock(stack);
    let c = &g.common;
    let (mem, orphan, v6only) = (sockopt::meminfo(sock, c), c.flag(flag::DEAD), c.flag(flag::V6ONLY));
    let device = stack.netdevs.by_index(c.bound_dev_if).map(|dev| dev.device().name().to_owned());
    let mut columns: Option<Object> = None;
    sock.proto().diag_show(&mut g, &mut |name, value| {
        columns = Some(columns.take().unwrap_or_else(Object::new).text(name, value));
    });
    drop(g);
    let o = head(d).text("cookie", &format!("{:x}", sockopt::cookie(stack, sock))).plain("uid", unix::euid());
    let o = o.plain("shutdown", sock.shutdown.load(Ordering::Relaxed)).plain("v6only", v6only);
    let o = match device {
        Some(name) => o.text("device", &name),
        None => o,
    };
    let o = match orphan || holders.none {
        true if orphan => o.plain("orphan", true),
        true => o,
        false => o.array("users", holders.of(d.id).into_iter()),
    };
    let words = SKMEM.iter().zip(mem);
    let o = o.object("skmem", words.fold(Object::new(), |o, (name, n)| o.plain(name, n)));
    let o = match columns {
        Some(columns) => o.object("columns", columns),
        None => o,
    };
    let Some(TcpDiag { info, cong, cong_info, ulp, hooks, stack, timer }) = tcp else { return o };
    let o = with_timer(o, timer).text("cong", &cong);
    let o = match cong_info {
        Some((attr, bytes)) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            o.object("cong_info", Object::new().plain("attr", attr).text("bytes", &hex))
        }
        None => o,
    };
    let o = match ulp {
        Some(name) => o.text("ulp", &name),
        None => o,
    };
    let o = match hooks.is_empty() {
        true => o,
        false => o.text("hooks", &hooks.join(",")),
    };
    let o = match stack {
        Some(name) => o.text("stack", &name),
        None => o,
    };
    o.object("tcp_info", tcp_info(&info))
}

/// `struct tcp_info` by its names.
fn tcp_info(mut bytes: &[u8]) -> Object {
    let mut o = Object::new();
    for (name, len) in FIELDS {
        let Some((field, rest)) = bytes.split_at_checked(*len) else { break };
        bytes = rest;
        let mut word = [0; 8];
        if cfg!(target_endian = "big") {
            word[8 - len..].copy_from_slice(field);
        } else {
            word[..*len].copy_from_slice(field);
        }
        if !name.starts_with('-') {
            o = o.plain(name, u64::from_ne_bytes(word));
        }
    }
    o
}

//! Requests: what is asked, and what is done. Above: `client`. Below: what the parts of a stack offer to everybody.

use super::json::Object;
use super::{Shared, sockets};
use crate::base::error::Error;
use crate::counters::{Counters, Group};
use crate::device::netdev::NetDev;
use crate::device::pcap;
use crate::sock::proto::SockRef;
use crate::sock::registry;
use crate::stack::Stack;
use crate::sysctl::{Listing, Mode, Support};
use crate::tcp::diag;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Stands for a request of more bytes than are read; no request has a line break inside.
pub(super) const TOO_LONG: &str = "\n";

/// What the client gets.
pub(super) enum Reply {
    /// Lines, the last of which ends the reply.
    Lines(Box<dyn Iterator<Item = String> + Send>),
    /// Events until it hangs up.
    Trace,
}

/// Why a request fails: the errno, and one line.
type Refused = (Error, String);

type Lines = Box<dyn Iterator<Item = String> + Send>;

fn one(o: Object) -> Lines {
    Box::new(std::iter::once(o.end()))
}

fn refused<T>(error: Error, message: impl Into<String>) -> Result<T, Refused> {
    Err((error, message.into()))
}

/// Does what a request asks.
pub(super) fn answer(line: &str, shared: &Shared, stack: &Weak<Stack>) -> Reply {
    let Some(stack) = stack.upgrade() else { return Reply::Lines(Box::new(std::iter::empty())) };
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let done = match (word, rest.trim()) {
        (TOO_LONG, _) => refused(Error::MsgSize, "the request is too long"),
        ("trace", "") => return Reply::Trace,
        ("sockets", "") => Ok(Box::new(sockets::lines(&stack, None)) as Lines),
        ("sockets", id) => match id.parse() {
            Ok(id) => Ok(Box::new(sockets::lines(&stack, Some(id))) as Lines),
            Err(_) => refused(Error::Inval, format!("sockets {id}: not the number of a socket")),
        },
        ("inodes", "") => Ok(Box::new(sockets::inodes()) as Lines),
        ("kill", which) => kill(&stack, which),
        ("counters", "") => Ok(counters(&stack, shared, false)),
        ("mark", "") => Ok(counters(&stack, shared, true)),
        ("sysctl", text) => sysctl(&stack, text),
        ("pcap", what) => capture(&stack, what),
        ("accounts", "") => Ok(accounts(&stack)),
        ("protocols", "") => Ok(Box::new(stack.registry.list().into_iter().map(|l| protocol(&l))) as Lines),
        _ => {
            let head: String = line.chars().take(60).collect();
            refused(Error::Inval, format!("{head:?} is no request of this version"))
        }
    };
    // What the request caused in memory, as after a system call.
    stack.run_pending();
    Reply::Lines(match done {
        Ok(lines) => Box::new(lines.chain(std::iter::once_with(|| Object::new().plain("end", true).end()))),
        Err((error, message)) => one(Object::new().text("error", error.name()).text("message", &message)),
    })
}

/// Ends a socket. Its number alone would not do: the socket may be closed by now, and another have the number.
fn kill(stack: &Arc<Stack>, which: &str) -> Result<Lines, Refused> {
    let inval = |what: &str| (Error::Inval, format!("kill {which}: {what}"));
    let mut words = which.split(' ');
    let mut word = || words.next().ok_or_else(|| inval("not ID LOCAL PEER"));
    let (id, local, peer) = (word()?, word()?, word()?);
    let id: u64 = id.parse().map_err(|_| inval("the number of the socket"))?;
    let end = |text: &str| text.parse::<SocketAddr>().map_err(|_| inval("an address and port"));
    let (local, peer) = (end(local)?, if peer == "-" { None } else { Some(end(peer)?) });
    let gone = (Error::NoEnt, "the socket has ended already".to_owned());
    let done = match (id, peer) {
        (0, Some(peer)) => diag::destroy_mini(stack, local, peer),
        _ => {
            let found = stack.socks().into_iter().find(|(d, _)| (d.id, d.local, d.peer) == (id, local, peer));
            let Some((_, Some(sock))) = found else { return Err(gone) };
            sock.proto().diag_destroy(SockRef { stack, sock: &sock }, Error::ConnAborted)
        }
    };
    match done {
        Ok(()) => Ok(one(Object::new().plain("killed", id))),
        Err(Error::NoEnt) => Err(gone),
        Err(e) => refused(e, format!("the protocol ends no socket from outside: {}", e.text())),
    }
}

/// All counters by nstat's names, in nstat's order.
fn values(c: &Counters) -> Vec<(String, u64)> {
    const FIRST: [Group; 7] = [Group::Ip, Group::Icmp, Group::Tcp, Group::Udp, Group::Ip6, Group::Icmp6, Group::Udp6];
    let of = |group: Group| group.mibs().iter().map(|mib| (mib.name().to_owned(), c.get(*mib)));
    let mut all: Vec<(String, u64)> = FIRST.into_iter().flat_map(of).collect();
    all.extend(c.icmp_types());
    all.extend([Group::TcpExt, Group::IpExt].into_iter().flat_map(of));
    all.extend(c.named.list());
    all
}

fn counters(stack: &Stack, shared: &Shared, mark: bool) -> Lines {
    let now = values(&stack.mib);
    let all = |list: &[(String, u64)]| list.iter().fold(Object::new(), |o, (name, n)| o.plain(name, n));
    let mut kept = shared.mark.lock();
    let history = kept.iter().fold(Object::new(), |o, (name, n)| o.plain(name, n));
    let drops = stack.mib.iter_drops().fold(Object::new(), |o, (reason, n)| o.plain(reason.name(), n));
    let drops = stack.mib.named_drops.list().iter().fold(drops, |o, (reason, n)| o.plain(reason, n));
    let line = Object::new().object("counters", all(&now)).object("history", history).object("drops", drops);
    if mark {
        *kept = BTreeMap::from_iter(now);
    }
    one(line)
}

fn setting(l: &Listing) -> String {
    let support = match l.support {
        Support::Live => "live",
        Support::Legacy => "legacy",
        Support::Moot => "moot",
    };
    let o = Object::new().text("name", &l.name).text("value", &l.value).text("default", &l.default);
    o.text("support", support).plain("read_only", l.mode == Mode::Ro).text("help", &l.help).end()
}

fn sysctl(stack: &Arc<Stack>, text: &str) -> Result<Lines, Refused> {
    if text.is_empty() {
        return Ok(Box::new(stack.sysctl.list().into_iter().map(|l| setting(&l))));
    }
    let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n.trim(), Some(v.trim())));
    let why = |value: &str, e| (e, format!("{name}: {}", stack.sysctl.refusal(name, value, e)));
    stack.sysctl.id(name).map_err(|e| why("", e))?;
    if let Some(value) = value {
        stack.sysctl.set(name, value).map_err(|e| why(value, e))?;
    }
    let found = stack.sysctl.list().into_iter().find(|l| l.name == name);
    Ok(Box::new(found.into_iter().map(|l| setting(&l))))
}

/// The device of that name; `-`: the last one, which is the one of the configuration.
fn device(stack: &Stack, name: &str) -> Result<Arc<NetDev>, Refused> {
    let all = stack.netdevs.snapshot();
    let found = match name {
        "-" => all.last().cloned(),
        _ => stack.netdevs.by_name(name),
    };
    let names = || all.iter().map(|d| d.device().name().to_owned()).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| (Error::NoDev, format!("there is no device {name:?}, only {}", names())))
}

fn capture(stack: &Arc<Stack>, what: &str) -> Result<Lines, Refused> {
    let errno = |e: &io::Error| e.raw_os_error().map_or(Error::Io, Error::from_errno);
    let name = |dev: &NetDev| dev.device().name().to_owned();
    match what.splitn(3, ' ').collect::<Vec<_>>()[..] {
        ["start", dev, file] if !file.is_empty() => {
            let dev = device(stack, dev)?;
            if !Path::new(file).is_absolute() {
                return refused(Error::Inval, format!("{file}: not an absolute name"));
            }
            pcap::start(&dev, Path::new(file), stack).map_err(|e| match errno(&e) {
                Error::Busy => (Error::Busy, format!("a capture of {} is running", name(&dev))),
                error => (error, format!("{file}: {e}")),
            })?;
            Ok(one(Object::new().text("device", &name(&dev)).text("file", file)))
        }
        ["stop", dev] => {
            let dev = device(stack, dev)?;
            pcap::stop(&dev).map_err(|e| match errno(&e) {
                Error::Inval => (Error::Inval, format!("no capture of {} is running", name(&dev))),
                error => (error, format!("the file is not complete: {e}")),
            })?;
            Ok(one(Object::new().text("device", &name(&dev))))
        }
        _ => refused(Error::Inval, "pcap start DEVICE FILE, or pcap stop DEVICE"),
    }
}

/// What protocols hold.
fn accounts(stack: &Stack) -> Lines {
    let names: Vec<String> = stack.registry.protocols().iter().map(|p| p.name().to_owned()).collect();
    let all = names.into_iter().filter_map(|name| stack.registry.accounts(&name).map(|a| (name, a)));
    let lines: Vec<String> = all
        .map(|(name, a)| {
            let o = Object::new().text("protocol", &name).plain("sockets", a.sockets.sum());
            let o = o.plain("orphans", a.orphans.sum());
            o.plain("pages", a.pages.sum()).end()
        })
        .collect();
    Box::new(lines.into_iter())
}

/// A protocol, as /proc/net/protocols has it.
fn protocol(l: &registry::Listing) -> String {
    let o = Object::new().text("protocol", &l.name).plain("size", l.obj_size).plain("sockets", l.sockets);
    let o = o.plain("pages", l.pages).plain("pressure", l.pressure).plain("max_header", l.max_header);
    let o = o.plain("slab", l.slab_flags).plain("timewait", l.timewait_size).plain("request", l.request_size);
    let key = |&(family, ty, protocol): &(i32, i32, i32)| {
        Object::new().plain("family", family).plain("type", ty).plain("protocol", protocol)
    };
    let o = o.array("keys", l.keys.iter().map(key));
    let alternative = |(name, sockets): &(String, usize)| Object::new().text("name", name).plain("sockets", sockets);
    let o = match l.alternatives.is_empty() {
        true => o,
        false => o.array("alternatives", l.alternatives.iter().map(alternative)),
    };
    match &l.module {
        Some((name, id)) => o.text("module", name).text("build_id", id).end(),
        None => o.end(),
    }
}

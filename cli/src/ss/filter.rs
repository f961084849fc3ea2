//! Which sockets: states, and expressions about ends, as ss(8) takes them.
//!
//! ```text
//! FILTER     = [ state STATE | exclude STATE ]... [ EXPRESSION ]
//! EXPRESSION = TERM [ [or] TERM ]...   TERM = FACTOR [ [and] FACTOR ]...   FACTOR = not FACTOR | ( EXPRESSION ) | TEST
//! TEST       = src [=] HOST | dst [=] HOST | sport OP PORT | dport OP PORT | dev [= | !=] NAME
//! ```

use super::sock::Sock;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// States by ss's words, with the names they have in a list.
const STATES: [(&str, &str); 11] = [
    ("established", "ESTAB"),
    ("syn-sent", "SYN-SENT"),
    ("syn-recv", "SYN-RECV"),
    ("fin-wait-1", "FIN-WAIT-1"),
    ("fin-wait-2", "FIN-WAIT-2"),
    ("time-wait", "TIME-WAIT"),
    ("unconnected", "UNCONN"),
    ("close-wait", "CLOSE-WAIT"),
    ("last-ack", "LAST-ACK"),
    ("listening", "LISTEN"),
    ("closing", "CLOSING"),
];

/// A set of states, a bit for each row of `STATES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct States(u16);

impl States {
    pub(super) const ALL: States = States((1 << STATES.len()) - 1);

    fn of(list: &[&str]) -> States {
        let bit = |name: &&str| STATES.iter().position(|(_, n)| n == name).map_or(0, |i| 1 << i);
        States(list.iter().map(bit).sum())
    }

    /// Without -a and -l: what has a peer.
    pub(super) fn connected() -> States {
        States::ALL.without(States::of(&["LISTEN", "UNCONN", "TIME-WAIT", "SYN-RECV"]))
    }

    /// With -l.
    pub(super) fn listening() -> States {
        States::of(&["LISTEN", "UNCONN"])
    }

    fn without(self, other: States) -> States {
        States(self.0 & !other.0)
    }

    fn with(self, other: States) -> States {
        States(self.0 | other.0)
    }

    /// The states that one of ss's words means.
    fn word(word: &str) -> Option<States> {
        let word = word.to_ascii_lowercase();
        if let Some(i) = STATES.iter().position(|(w, _)| *w == word) {
            return Some(States(1 << i));
        }
        Some(match word.as_str() {
            "all" => States::ALL,
            "connected" => States::ALL.without(States::of(&["LISTEN", "UNCONN"])),
            "synchronized" => States::ALL.without(States::of(&["LISTEN", "UNCONN", "SYN-SENT"])),
            "bucket" => States::of(&["TIME-WAIT", "SYN-RECV"]),
            "big" => States::ALL.without(States::of(&["TIME-WAIT", "SYN-RECV"])),
            "closed" => States::of(&["UNCONN"]),
            "listen" => States::of(&["LISTEN"]),
            _ => return None,
        })
    }

    pub(super) fn has(self, name: &str) -> bool {
        self.0 & States::of(&[name]).0 != 0
    }

    /// Whether there is only one, so that a list need not say which.
    pub(super) fn is_single(self) -> bool {
        self.0.is_power_of_two()
    }
}

/// What a filter is made of.
const WORDS: &str = "there is state, exclude, src, dst, sport, dport, dev, and, or, not";

/// Compares ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A network: an address, and how many of its bits count.
type Net = (IpAddr, u8);

/// Which end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Local,
    Peer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    /// An address in a network, and a port if one is named.
    Host(End, Option<Net>, Option<u16>),
    Port(End, Op, u16),
    /// The device that it is bound to (SO_BINDTODEVICE).
    Device(String),
}

/// A whole filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The states that it names, if it names any.
    pub(super) states: Option<States>,
    /// Only sockets of IPv4, only those of IPv6: `inet:` or `inet6:` stands before an address of it, wherever.
    families: [bool; 2],
    expr: Option<Expr>,
}

/// Whether the first `len` bits of two addresses of one family are equal. An IPv4 address equals its mapped form.
fn in_network(addr: IpAddr, net: IpAddr, len: u8) -> bool {
    let (addr, net) = (addr.to_canonical(), net.to_canonical());
    let (a, b, bits) = match (addr, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96, 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let len = u32::from(len).min(bits);
    len == 0 || (a ^ b) >> (128 - len) == 0
}

impl Expr {
    fn accepts(&self, s: &Sock) -> bool {
        // One that it does not have yet is any, port 0.
        let any = (if s.is_v6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }, 0);
        let end = |which: &End| match which {
            End::Local => s.local().unwrap_or(any),
            End::Peer => s.peer().unwrap_or(any),
        };
        match self {
            Expr::And(a, b) => a.accepts(s) && b.accepts(s),
            Expr::Or(a, b) => a.accepts(s) || b.accepts(s),
            Expr::Not(e) => !e.accepts(s),
            Expr::Host(which, net, port) => {
                let (ip, p) = end(which);
                net.is_none_or(|(net, len)| in_network(ip, net, len)) && port.is_none_or(|port| port == p)
            }
            Expr::Device(name) => s.text("device") == name,
            Expr::Port(which, op, port) => {
                let (_, have) = end(which);
                match op {
                    Op::Eq => have == *port,
                    Op::Ne => have != *port,
                    Op::Lt => have < *port,
                    Op::Le => have <= *port,
                    Op::Gt => have > *port,
                    Op::Ge => have >= *port,
                }
            }
        }
    }
}

impl Filter {
    pub(super) fn accepts(&self, s: &Sock) -> bool {
        let family = self.families == [false; 2] || self.families[usize::from(s.is_v6())];
        family && self.expr.as_ref().is_none_or(|e| e.accepts(s))
    }

    /// Whether it names nothing: all sockets.
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_none() && self.expr.is_none()
    }

    /// Reads a filter from the command's words; `service` finds a port by its name.
    pub(super) fn parse(words: &[String], service: &dyn Fn(&str) -> Option<u16>) -> Result<Filter, String> {
        let text = words.join(" ").replace('(', " ( ").replace(')', " ) ");
        let mut p = Parser { words: text.split_whitespace().collect(), at: 0, families: [false; 2], service };
        let mut states: Option<States> = None;
        while let Some(word @ ("state" | "exclude")) = p.peek() {
            p.at += 1;
            let name = p.next(&format!("{word} what?"))?;
            let set = States::word(name).ok_or_else(|| format!("wrong state name: {name}"))?;
            states = Some(match (word, states) {
                ("state", None) => set,
                ("state", Some(before)) => before.with(set),
                (_, before) => before.unwrap_or(States::ALL).without(set),
            });
        }
        let expr = if p.peek().is_some() { Some(p.or()?) } else { None };
        match p.peek() {
            None => Ok(Filter { states, families: p.families, expr }),
            Some(word) => Err(format!("{word:?} does not belong there")),
        }
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    families: [bool; 2],
    service: &'a dyn Fn(&str) -> Option<u16>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn next(&mut self, missing: &str) -> Result<&'a str, String> {
        let word = self.peek().ok_or(missing)?;
        self.at += 1;
        Ok(word)
    }

    fn take(&mut self, any: &[&str]) -> bool {
        let found = self.peek().is_some_and(|w| any.contains(&w));
        self.at += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        while self.take(&["or", "|", "||"]) {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.factor()?;
        // Words that stand side by side belong together.
        while self.take(&["and", "&", "&&"]) || self.peek().is_some_and(|w| !["or", "|", "||", ")"].contains(&w)) {
            left = Expr::And(Box::new(left), Box::new(self.factor()?));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Expr, String> {
        if self.take(&["not", "!"]) {
            return Ok(Expr::Not(Box::new(self.factor()?)));
        }
        if self.take(&["("]) {
            let inner = self.or()?;
            return if self.take(&[")"]) { Ok(inner) } else { Err("there is no )".to_owned()) };
        }
        let end = |local: bool| if local { End::Local } else { End::Peer };
        match self.next("the filter ends too early")? {
            word @ ("src" | "dst") => {
                self.take(&["=", "==", "eq"]);
                let mut host = self.next(&format!("{word} what?"))?;
                for (family, prefix) in ["inet:", "inet6:"].into_iter().enumerate() {
                    if let Some(rest) = host.strip_prefix(prefix) {
                        (host, self.families[family]) = (rest, true);
                    }
                }
                let (net, port) = self.host(host)?;
                Ok(Expr::Host(end(word == "src"), net, port))
            }
            word @ ("sport" | "dport") => {
                let op = match self.next(&format!("{word} what?"))? {
                    "=" | "==" | "eq" => Op::Eq,
                    "!=" | "ne" | "neq" => Op::Ne,
                    "<" | "lt" => Op::Lt,
                    "<=" | "le" | "leq" => Op::Le,
                    ">" | "gt" => Op::Gt,
                    ">=" | "ge" | "geq" => Op::Ge,
                    // As ss: without an operator the ports are equal.
                    _ => {
                        self.at -= 1;
                        Op::Eq
                    }
                };
                let port = self.next(&format!("{word} which?"))?;
                Ok(Expr::Port(end(word == "sport"), op, self.port(port.strip_prefix(':').unwrap_or(port))?))
            }
            "dev" => {
                let not = self.take(&["!=", "ne", "neq"]);
                let _ = not || self.take(&["=", "==", "eq"]);
                let device = Expr::Device(self.next("dev which?")?.to_owned());
                Ok(if not { Expr::Not(Box::new(device)) } else { device })
            }
            word => Err(format!("{word:?} is no filter; {WORDS}")),
        }
    }

    fn port(&self, text: &str) -> Result<u16, String> {
        let named = || (self.service)(text).ok_or_else(|| format!("{text:?} is no port"));
        text.parse().or_else(|_| named())
    }

    /// `ADDRESS`, `ADDRESS/LENGTH`, `ADDRESS:PORT`, `:PORT`, `[ADDRESS]:PORT`; `*` is any address or port.
    fn host(&self, text: &str) -> Result<(Option<Net>, Option<u16>), String> {
        let (addr, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((addr, rest)) => (addr.to_owned() + rest.split(':').next().unwrap_or(""), rest.split_once(':')),
            // More than one colon: an IPv6 address without a port.
            None if text.matches(':').count() > 1 => (text.to_owned(), None),
            None => (text.split(':').next().unwrap_or("").to_owned(), text.split_once(':')),
        };
        let port = match port.map(|(_, port)| port) {
            None | Some("*" | "") => None,
            Some(port) => Some(self.port(port)?),
        };
        if addr.is_empty() || addr == "*" {
            return Ok((None, port));
        }
        let wrong = || format!("{text:?} is no address");
        let (ip, len) = match addr.split_once('/') {
            Some((ip, len)) => (ip.parse::<IpAddr>().map_err(|_| wrong())?, len.parse().map_err(|_| wrong())?),
            None => (addr.parse().map_err(|_| wrong())?, 128),
        };
        if len > 128 || (addr.contains('/') && ip.is_ipv4() && len > 32) {
            return Err(wrong());
        }
        Ok((Some((ip, len)), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sock(local: &str, peer: &str) -> Sock {
        let end = |a: &str, key: &str| {
            let (ip, port) = a.rsplit_once(' ').unwrap();
            format!("\"{key}\":\"{ip}\",\"{key}_port\":{port}")
        };
        let (family, device) = if local.contains(':') { (10, "") } else { (2, "tun0") };
        let peer = if peer.is_empty() { "\"peer_port\":null".to_owned() } else { end(peer, "peer") };
        let local = end(local, "local");
        let text = format!("{{\"family\":{family},\"state\":\"ESTAB\",\"device\":\"{device}\",{local},{peer}}}");
        Sock::new(String::new(), serde_json::from_str(&text).unwrap())
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn expressions_choose_as_ss_does() {
        let s = sock("10.0.0.2 80", "10.0.0.1 4242");
        let six = sock("::ffff:127.0.0.1 9090", "2001:db8::1 22");
        for (text, v4, v6) in [
            ("sport = :80", true, false),
            ("sport :80", true, false),
            ("sport = 80", true, false),
            ("dport eq http", false, false),
            ("dport gt 4000", true, false),
            ("dport != :4242", false, true),
            ("sport >= :80 and sport <= :9090", true, true),
            ("sport = :80 dport = :22", false, false),
            ("sport = :80 or dport = :22", true, true),
            ("not ( sport = :80 or dport = :23 )", false, true),
            ("!(sport = :80)", false, true),
            ("src 10.0.0.2", true, false),
            ("src = 10.0.0.0/24", true, false),
            ("src 10.0.1.0/24", false, false),
            ("dst 10.0.0.1:4242", true, false),
            ("dst 10.0.0.1:22", false, false),
            ("dst :22", false, true),
            ("dst *:22", false, true),
            ("dst [2001:db8::1]:22", false, true),
            ("dst [2001:db8::]/32", false, true),
            ("dst 2001:db8::1", false, true),
            ("src 127.0.0.1", false, true),
            ("dst 0.0.0.0/0", true, false),
            ("dst inet:10.0.0.1", true, false),
            ("dst inet6:[2001:db8::1]:22", false, true),
            ("dst inet6:*", false, true),
            ("not dst inet:10.0.0.9", true, false),
            ("sport = :9090 or src inet:*", true, false),
            ("dst inet:* or dst inet6:*", true, true),
            ("dev tun0", true, false),
            ("not dev = tun0", false, true),
            ("dev != tun0", false, true),
        ] {
            let f = Filter::parse(&words(text), &|n| (n == "http").then_some(80)).unwrap();
            assert_eq!((f.accepts(&s), f.accepts(&six)), (v4, v6), "{text}");
        }
    }

    #[test]
    fn a_listener_s_peer_is_any_of_its_family() {
        let matches =
            |local: &str, text: &str| Filter::parse(&words(text), &|_| None).unwrap().accepts(&sock(local, ""));
        for (text, v4, v6) in [("dst 0.0.0.0/0", true, false), ("dst [::]", false, true), ("dst :0", true, true)] {
            assert_eq!((matches("10.0.0.2 80", text), matches(":: 80", text)), (v4, v6), "{text}");
        }
    }

    #[test]
    fn states_add_up_and_what_is_wrong_is_named() {
        let states = |text: &str| Filter::parse(&words(text), &|_| None).unwrap().states.unwrap();
        assert!(states("state established").is_single());
        assert_eq!(states("state syn-recv state time-wait"), states("state bucket"));
        assert_eq!(states("state all exclude bucket"), states("state big"));
        assert_eq!(states("exclude listen exclude closed"), states("state connected"));
        for (text, want) in [
            ("dev", "dev which?"),
            ("state foo", "wrong state name: foo"),
            ("state", "state what?"),
            ("sport", "sport what?"),
            ("sport =", "sport which?"),
            ("sport = :nosuch", "\"nosuch\" is no port"),
            ("src 10.0.0.0/33", "\"10.0.0.0/33\" is no address"),
            ("src host", "\"host\" is no address"),
            ("( sport = :1", "there is no )"),
            ("sport = :1 )", "\")\" does not belong there"),
            ("sport = :1 or", "the filter ends too early"),
            (
                "colour = red",
                "\"colour\" is no filter; there is state, exclude, src, dst, sport, dport, dev, and, or, not",
            ),
        ] {
            assert_eq!(Filter::parse(&words(text), &|_| None).unwrap_err(), want, "{text}");
        }
    }
}

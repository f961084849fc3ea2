//! `usersock ss` and `usersock kill`: the sockets of a running stack, as ss(8) prints the kernel's. Above: the command.
//! Below: `filter` chooses, `sock` has the words, `cong` those of algorithms, `figure` the numbers, `holders` the
//! programs, `instance` asks.

mod cong;
mod figure;
mod filter;
mod holders;
mod sock;

use crate::instance::{Peer, Which};
use crate::{Failure, out};
use filter::{Filter, States};
use holders::Holders;
pub(crate) use sock::Sock;
use std::io::{self, Write};
use std::net::IpAddr;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock ss -tln                       listeners of the only instance
  usersock ss -N web -ti                 connections of the instance `web`, with what TCP knows of them
  usersock ss -tan state time-wait       closed connections that wait
  usersock ss -o '( sport = :80 or sport = :443 ) and dst 10.0.0.0/24'
  usersock ss -s                         how many there are

FILTER: `state STATE` or `exclude STATE` (established, syn-sent, syn-recv, fin-wait-1, fin-wait-2, time-wait, closed,
close-wait, last-ack, listening, closing; all, connected, synchronized, bucket, big), then src or dst ADDRESS[/LENGTH]
[:PORT], sport or dport [= != < <= > >=] :PORT, dev [= !=] NAME, with and, or, not and parentheses; inet: or inet6: in
front of an address chooses that family alone. Without it, -a or -l: connections.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    kinds: Kinds,
    /// Sockets of all states; of this and -l the later counts
    #[arg(short, long, overrides_with = "listening")]
    all: bool,
    /// Listening sockets only
    #[arg(short, long, overrides_with = "all")]
    listening: bool,
    /// Ports as numbers, not as /etc/services names them
    #[arg(short, long)]
    numeric: bool,
    /// The processes, and the descriptors that name the socket
    #[arg(short, long)]
    processes: bool,
    /// The timer that runs, and the options that the ends have agreed on
    #[arg(short, long)]
    options: bool,
    /// User, cookie, which halves are open; and what -o shows
    #[arg(short, long)]
    extended: bool,
    /// Memory: skmem
    #[arg(short, long)]
    memory: bool,
    /// What TCP knows, struct tcp_info; and what a plug-in's protocol shows, its columns
    #[arg(short, long)]
    info: bool,
    /// A socket on one line
    #[arg(short = 'O', long)]
    oneline: bool,
    /// No line of headings
    #[arg(short = 'H', long)]
    no_header: bool,
    /// Only how many there are
    #[arg(short, long, conflicts_with_all = ["json", "filter"])]
    summary: bool,
    /// All that is known, as a JSON array with an object for each socket
    #[arg(short, long)]
    json: bool,
    /// End the sockets that the filter chooses, and print them (as `usersock kill`)
    #[arg(short = 'K', long, conflicts_with_all = ["json", "summary"])]
    kill: bool,
    /// Which sockets
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

/// Which kinds; none given: all.
#[derive(clap::Args)]
struct Kinds {
    /// TCP
    #[arg(short, long)]
    tcp: bool,
    /// UDP
    #[arg(short, long)]
    udp: bool,
    /// Raw sockets, and those of ping
    #[arg(short = 'w', long)]
    raw: bool,
    /// IPv4 only
    #[arg(short = '4', long)]
    ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    ipv6: bool,
}

impl Kinds {
    fn any(&self) -> bool {
        self.tcp || self.udp || self.raw
    }

    fn has(&self, s: &Sock) -> bool {
        let kind = match s.netid() {
            "tcp" => self.tcp,
            "udp" => self.udp,
            "raw" | "icmp" | "icmp6" => self.raw,
            // A plug-in's.
            _ => false,
        };
        (kind || !self.any()) && (!self.ipv4 || !s.is_v6()) && (!self.ipv6 || s.is_v6())
    }

    /// Whether a list of them has a column that says which.
    fn is_single(&self) -> bool {
        [self.tcp, self.udp].iter().filter(|k| **k).count() == 1 && !self.raw
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock kill dst 10.0.0.1             all connections with that host
  usersock kill -t sport = :80           the listener on port 80 and its connections
  usersock kill state time-wait          forget closed connections

The peer of a connection gets a reset; the program's next call fails with ECONNABORTED. FILTER: see `usersock ss`.")]
pub(crate) struct Kill {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    kinds: Kinds,
    /// Which sockets; `state all` chooses every one
    #[arg(value_name = "FILTER", required = true)]
    filter: Vec<String>,
}

/// /etc/services and /etc/protocols, as far as they can be read: a name, a number, and of a service its protocol.
struct Services(Vec<(String, u16, String)>);

impl Services {
    fn read() -> Services {
        let text = |file| std::fs::read_to_string(file).unwrap_or_default();
        let row = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            let (name, number) = (words.next()?, words.next()?);
            // A protocol's number is what a raw socket has in its port's place.
            let (number, kind) = number.split_once('/').unwrap_or((number, "raw"));
            Some((name.to_owned(), number.parse().ok()?, kind.to_owned()))
        };
        let (services, protocols) = (text("/etc/services"), text("/etc/protocols"));
        Services(services.lines().chain(protocols.lines()).filter_map(row).collect())
    }

    fn name(&self, port: u16, kind: &str) -> String {
        let found = self.0.iter().find(|(_, p, of)| *p == port && of == kind);
        match found {
            Some((name, ..)) => name.clone(),
            None if kind == "raw" => format!("ipproto-{port}"),
            None => port.to_string(),
        }
    }

    fn port(&self, name: &str) -> Option<u16> {
        self.0.iter().find(|(n, _, kind)| n == name && kind != "raw").map(|(_, port, _)| *port)
    }
}

/// All sockets of a stack, in ss's order of kinds.
pub(crate) fn list(peer: &mut Peer) -> Result<Vec<Sock>, Failure> {
    const ORDER: [&str; 5] = ["raw", "icmp", "icmp6", "udp", "tcp"];
    let mut all: Vec<Sock> = peer.ask("sockets")?.into_iter().map(|(line, v)| Sock::new(line, v)).collect();
    all.sort_by_key(|s| ORDER.iter().position(|kind| *kind == s.netid()).unwrap_or(ORDER.len()));
    Ok(all)
}

fn parse(words: &[String], services: &Services) -> Result<Filter, Failure> {
    Filter::parse(words, &|name| services.port(name)).map_err(|e| Failure::Usage(format!("filter: {e}")))
}

/// The TCP connections that a filter chooses.
pub(crate) fn connections(peer: &mut Peer, words: &[String]) -> Result<Vec<Sock>, Failure> {
    let filter = parse(words, &Services::read())?;
    let states = filter.states.unwrap_or(States::connected());
    let chosen = |s: &Sock| s.netid() == "tcp" && !s.is_mini() && states.has(s.state()) && filter.accepts(s);
    Ok(list(peer)?.into_iter().filter(chosen).collect())
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let services = Services::read();
    let filter = parse(&args.filter, &services)?;
    if args.kill && filter.is_empty() {
        return Err(Failure::Usage("-K: ends which sockets? `state all` chooses every one".to_owned()));
    }
    let mut peer = args.which.open()?;
    if args.summary {
        return summary(&mut peer);
    }
    let usual = match (args.all, args.listening) {
        (true, _) => States::ALL,
        (_, true) => States::listening(),
        // What a filter chooses is ended, whatever its state.
        _ if args.kill => States::ALL,
        _ => States::connected(),
    };
    let states = filter.states.unwrap_or(usual);
    let chosen = |s: &Sock| states.has(s.state()) && args.kinds.has(s) && filter.accepts(s);
    let mut socks: Vec<Sock> = list(&mut peer)?.into_iter().filter(chosen).collect();
    if args.processes || args.extended || args.json {
        let holders = Holders::find(&mut peer)?;
        socks.iter_mut().for_each(|s| s.hold(&holders));
    }
    if args.kill {
        socks = end(&mut peer, socks)?;
    }
    if args.json {
        let lines: Vec<String> = socks.iter().map(Sock::json).collect();
        return out::print(|out| writeln!(out, "[{}]", lines.join(",\n")));
    }
    let table = Table { args, services, netid: !args.kinds.is_single(), state: !states.is_single() };
    out::print(|out| table.print(out, &socks))
}

pub(crate) fn kill(args: &Kill) -> Result<(), Failure> {
    let services = Services::read();
    let filter = parse(&args.filter, &services)?;
    let mut peer = args.which.open()?;
    let states = filter.states.unwrap_or(States::ALL);
    let chosen = |s: &Sock| states.has(s.state()) && args.kinds.has(s) && filter.accepts(s);
    let socks = list(&mut peer)?.into_iter().filter(chosen).collect();
    let ended = end(&mut peer, socks)?;
    out::print(|out| ended.iter().try_for_each(|s| writeln!(out, "{} {} {}", s.netid(), s.state(), s.ends())))
}

/// Ends the sockets; returns those that were there. One that has ended by itself meanwhile is no error.
fn end(peer: &mut Peer, socks: Vec<Sock>) -> Result<Vec<Sock>, Failure> {
    let mut ended = Vec::new();
    let mut refused = None;
    for s in socks {
        match peer.ask(&s.kill()) {
            Ok(_) => ended.push(s),
            Err(Failure::Usage(why)) if why.contains("has ended already") => {}
            Err(Failure::Usage(why)) => refused = Some(Failure::Broken(format!("{} socket: {why}", s.netid()))),
            Err(other) => return Err(other),
        }
    }
    match refused {
        Some(why) if ended.is_empty() => Err(why),
        _ => Ok(ended),
    }
}

/// How a list is printed.
struct Table<'a> {
    args: &'a Args,
    services: Services,
    netid: bool,
    state: bool,
}

/// The cells of a line: Netid, State, Recv-Q, Send-Q, address and port of both ends, the rest.
type Cells = [String; 9];

impl Table<'_> {
    fn port(&self, s: &Sock, end: Option<(IpAddr, u16)>) -> String {
        match end {
            None | Some((_, 0)) => "*".to_owned(),
            Some((_, port)) if self.args.numeric => port.to_string(),
            Some((_, port)) => self.services.name(port, s.netid()),
        }
    }

    fn cells(&self, s: &Sock) -> Cells {
        let a = self.args;
        let mut rest: Vec<String> = Vec::new();
        rest.extend(s.users().filter(|_| a.processes));
        rest.extend(s.timer().filter(|_| a.options || a.extended));
        if a.extended {
            rest.extend(s.extended());
        }
        if a.oneline {
            rest.extend(self.second(s));
        }
        let [recvq, sendq] = s.queues();
        let (local, peer) = (s.local(), s.peer());
        [
            s.netid().to_owned(),
            s.state().to_owned(),
            recvq,
            sendq,
            s.address(local, true) + ":",
            self.port(s, local),
            s.address(peer, false) + ":",
            self.port(s, peer),
            rest.join(" "),
        ]
    }

    /// What stands on the second line, if anything does.
    fn second(&self, s: &Sock) -> Option<String> {
        let memory = s.memory().filter(|_| self.args.memory);
        let info = s.info(self.args.options || self.args.extended).filter(|_| self.args.info);
        let columns = s.columns().filter(|_| self.args.info);
        let words: Vec<String> = memory.into_iter().chain(info).chain(columns).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn line(&self, cells: &Cells, widths: &[usize; 9]) -> String {
        let [netid, state, recvq, sendq, local, lport, peer, pport, rest] = cells;
        let [n, st, r, s, l, lp, p, pp, _] = widths;
        let mut line = String::new();
        if self.netid {
            line += &format!("{netid:<n$} ");
        }
        if self.state {
            line += &format!("{state:<st$} ");
        }
        line += &format!("{recvq:<r$} {sendq:<s$} {local:>l$}{lport:<lp$} {peer:>p$}{pport:<pp$} {rest}");
        line.trim_end().to_owned()
    }

    fn print(&self, out: &mut impl Write, socks: &[Sock]) -> io::Result<()> {
        let head = ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port", "Process"];
        let head = head.map(str::to_owned);
        let rows: Vec<Cells> = socks.iter().map(|s| self.cells(s)).collect();
        let mut widths = [0; 9];
        for row in rows.iter().chain(Some(&head).filter(|_| !self.args.no_header)) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        if !self.args.no_header {
            writeln!(out, "{}", self.line(&head, &widths))?;
        }
        for (row, s) in rows.iter().zip(socks) {
            writeln!(out, "{}", self.line(row, &widths))?;
            if let Some(second) = self.second(s).filter(|_| !self.args.oneline) {
                writeln!(out, "\t {second}")?;
            }
        }
        Ok(())
    }
}

/// -s
fn summary(peer: &mut Peer) -> Result<(), Failure> {
    let accounts = peer.ask("accounts")?;
    let socks = list(peer)?;
    let account = |key: &str| {
        let tcp = accounts.iter().find(|(_, v)| v["protocol"] == "TCP");
        tcp.and_then(|(_, v)| v[key].as_u64()).unwrap_or_default() as usize
    };
    let count = |f: &dyn Fn(&Sock) -> bool| socks.iter().filter(|s| f(s)).count();
    let of = |ids: &'static [&'static str]| move |s: &Sock| ids.contains(&s.netid()) && !s.is_mini();
    let estab = count(&|s| s.netid() == "tcp" && s.state() == "ESTAB");
    let timewait = count(&|s| s.state() == "TIME-WAIT");
    let held = count(&of(&["tcp"]));
    let closed = account("sockets").saturating_sub(held);
    let rows: [(&str, &'static [&'static str]); 4] = [
        ("RAW", &["raw", "icmp", "icmp6"]),
        ("UDP", &["udp"]),
        ("TCP", &["tcp"]),
        ("INET", &["raw", "icmp", "icmp6", "udp", "tcp"]),
    ];
    out::print(|out| {
        writeln!(out, "Total: {}", socks.len() - count(&Sock::is_mini) + closed)?;
        let orphaned = account("orphans");
        let total = account("sockets") + timewait;
        writeln!(out, "TCP:   {total} (estab {estab}, closed {closed}, orphaned {orphaned}, timewait {timewait})\n")?;
        writeln!(out, "Transport Total     IP        IPv6")?;
        for (name, ids) in rows {
            let (total, v6) = (count(&of(ids)), count(&|s| of(ids)(s) && s.is_v6()));
            writeln!(out, "{name}\t  {total:<9} {:<9} {v6:<9}", total - v6)?;
        }
        Ok(())
    })
}

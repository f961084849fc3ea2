//! Plays a script in virtual time. Above: tests. Below: [`UnderTest`], which is used only for calls, packets and time.
//!
//! Events happen in order. Before one that acts (a packet that arrives, a call, a command, a block of code) time moves
//! to its moment; one that expects a packet moves time until that packet leaves. Packets of the connection that left
//! and that no event expected fail the script, at the latest at its end; packets of other connections are logged and
//! skipped, as in packetdrill.
use crate::ast::{Action, Body, Command, Direction, Event, IpInfo, Micros, Packet, Script, Segment, SystemCall, When};
use crate::binding::{self, Binder, Fds};
use crate::code::{Code, Names};
use crate::commands::{self, Step};
use crate::connection::{Connection, Stage, arrow, compare, compare_ip, ip_fields, pattern};
use crate::cursor::Pos;
use crate::packet::{self, Seen, SeenBody, TcpSegment};
use crate::setup::Setup;
use crate::under_test::{Call, CallId, Outcome, Reply, UnderTest};
use crate::{info, symbols};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use usersock::internal::wire::tcp;
use usersock::wire::proto;

/// How long after its moment an expected packet is still waited for, so that a late one can be shown.
const PATIENCE: Micros = 2_000_000;
/// The same for a packet that may leave at any time: longer than any timer of TCP but keepalive's.
const LONG_PATIENCE: Micros = 1_000_000_000;
/// Steps of [`UnderTest::advance`] without progress of time after which the run fails as stuck.
const STUCK: u32 = 100_000;
/// Lines of the log that a failure shows.
const SHOWN: usize = 20;

/// A script that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The place in the script that failed.
    pub pos: Pos,
    /// What was expected and what happened.
    pub message: String,
    /// What happened last before it, a line each, in script numbers.
    pub log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pos, self.message)?;
        let skipped = self.log.len().saturating_sub(SHOWN);
        self.log[skipped..].iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl std::error::Error for Failure {}

/// The result of a script that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that happened, a line each, in script numbers.
    pub log: Vec<String>,
}

/// Plays `script`. `beside` is the folder in which its `.sh` files lie.
pub fn run(script: &Script, setup: &Setup, beside: &Path, under_test: &mut dyn UnderTest) -> Result<Report, Failure> {
    let names = symbols::all().map(|(name, value)| (name.to_owned(), i128::from(value))).collect();
    let mut runner = Runner {
        setup,
        beside,
        under_test,
        fds: Fds::new(),
        connections: Vec::new(),
        current: None,
        names,
        left: VecDeque::new(),
        pending: None,
        base: 0,
        log: Vec::new(),
    };
    let result = runner.play(script);
    let log = runner.log;
    match result {
        Ok(()) => Ok(Report { log }),
        Err((pos, message)) => Err(Failure { pos, message, log }),
    }
}

type Play<T> = Result<T, (Pos, String)>;

/// A call that was started and is to end later.
struct Pending<'s> {
    id: CallId,
    call: &'s SystemCall,
    bound: Call,
    end: Micros,
    tolerance: Micros,
}

struct Runner<'s> {
    setup: &'s Setup,
    beside: &'s Path,
    under_test: &'s mut dyn UnderTest,
    fds: Fds,
    connections: Vec<Connection>,
    /// The connection that packets belong to: the last one made.
    current: Option<usize>,
    names: Names,
    /// Packets that left and that no event has asked for yet.
    left: VecDeque<(Micros, Seen)>,
    pending: Option<Pending<'s>>,
    /// The moment that the next relative time counts from.
    base: Micros,
    log: Vec<String>,
}

fn seconds(micros: Micros) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

impl<'s> Runner<'s> {
    fn play(&mut self, script: &'s Script) -> Play<()> {
        if let Some(command) = &script.init {
            self.command(command)?;
            // Time starts after the set-up.
            self.base = self.under_test.now();
        }
        let start = self.base;
        let mut result = Ok(());
        for event in &script.events {
            result = self.event(event, start);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = self.finish(script.events.last().map_or(Pos::default(), |event| event.pos));
        }
        if let Some(command) = &script.cleanup {
            let cleaned = self.command(command);
            result = result.and(cleaned);
        }
        result
    }

    /// After the last event: calls still running end, and nothing has left that was not expected.
    fn finish(&mut self, pos: Pos) -> Play<()> {
        if let Some(pending) = &self.pending {
            let (limit, pos) = (pending.end + PATIENCE, pending.call.pos);
            while self.pending.is_some() && self.under_test.now() < limit {
                self.advance(limit, pos)?;
            }
            if self.pending.is_some() {
                return Err((pos, "the call does not return".into()));
            }
        }
        self.collect(pos)?;
        if let Some((at, seen)) = self.left.pop_front() {
            let shown = self.shown(&seen, None);
            return Err((pos, format!("a packet left that no event expected, at {}: {shown}", seconds(at))));
        }
        Ok(())
    }

    fn event(&mut self, event: &'s Event, start: Micros) -> Play<()> {
        let before = self.base;
        let (from, to) = match event.when {
            When::Relative(after) => (before + after, before + after),
            When::Absolute(at) => (start + at, start + at),
            When::RelativeRange(a, b) => (before + a, before + b),
            When::AbsoluteRange(a, b) => (start + a, start + b),
            When::Any => (self.under_test.now(), self.under_test.now() + LONG_PATIENCE),
        };
        let tolerance = self.setup.tolerance_after(from - before);
        if let Action::Packet(packet @ Packet { direction: Direction::Outbound, .. }) = &event.action {
            let at = self.outbound(packet, event, from, to, tolerance)?;
            self.base = if matches!(event.when, When::Relative(_) | When::Absolute(_)) { from } else { at };
            return Ok(());
        }
        self.advance_to(from, event.pos)?;
        let now = self.under_test.now();
        if now > from + tolerance {
            return Err((event.pos, format!("expected at {}, but it is {} already", seconds(from), seconds(now))));
        }
        self.base = from;
        match &event.action {
            Action::Packet(packet) => self.inbound(packet, event.pos),
            Action::Command(command) => self.command(command),
            Action::Code(code) => self.code(code, event.pos),
            Action::Call(call) => {
                let relative = matches!(event.when, When::Relative(_) | When::RelativeRange(..));
                let end = call.end.map(|end| if relative { before + end } else { start + end });
                self.call(call, end, tolerance)
            }
        }
    }

    // Time.

    fn advance_to(&mut self, moment: Micros, pos: Pos) -> Play<()> {
        while self.under_test.now() < moment {
            self.advance(moment, pos)?;
        }
        Ok(())
    }

    /// One step of the thing under test; looks whether a call has ended by it.
    fn advance(&mut self, limit: Micros, pos: Pos) -> Play<()> {
        let before = self.under_test.now();
        let mut steps = 0;
        loop {
            self.under_test.advance(limit);
            self.look_at_pending()?;
            self.collect(pos)?;
            if self.under_test.now() > before {
                return Ok(());
            }
            steps += 1;
            if steps > STUCK {
                return Err((pos, format!("time stands still at {}", seconds(before))));
            }
        }
    }

    /// Takes packets that left.
    fn collect(&mut self, pos: Pos) -> Play<()> {
        while let Some((at, bytes)) = self.under_test.next_packet() {
            let seen = Seen::parse(&bytes).map_err(|why| (pos, format!("a packet left at {}: {why}", seconds(at))))?;
            self.left.push_back((at, seen));
        }
        Ok(())
    }

    fn note(&mut self, at: Micros, text: impl fmt::Display) {
        self.log.push(format!("{} {text}", seconds(at)));
    }

    // Packets.

    fn current(&mut self) -> Option<&mut Connection> {
        self.current.map(|index| &mut self.connections[index])
    }

    fn make(&mut self, connection: Connection) {
        self.connections.push(connection);
        self.current = Some(self.connections.len() - 1);
    }

    fn inbound(&mut self, packet: &Packet, pos: Pos) -> Play<()> {
        let setup = self.setup;
        let fail = |why: String| (pos, why);
        let syn = matches!(&packet.body, Body::Tcp(s) if s.flags.is_some_and(|f| f.has(crate::ast::TcpFlags::SYN)));
        let opens = match self.current() {
            None => true,
            Some(connection) => connection.stage == Stage::Listening && matches!(packet.body, Body::Tcp(_)),
        };
        if opens {
            // The first packet that arrives for a listener, or without any socket, begins a connection.
            let mut connection = Connection::new(setup, None, None, Stage::SynReceived);
            connection.remote.set_port(40_000 + self.connections.len() as u16);
            connection.local.set_port(setup.bind_port);
            self.make(connection);
        }
        let ip = ip_fields(&packet.ip);
        let Some(connection) = self.current() else { return Err(fail("there is no connection".into())) };
        let bytes = match &packet.body {
            Body::Tcp(segment) => connection.inbound(setup, segment, ip),
            Body::Icmp(icmp) => connection.inbound_icmp(icmp, ip),
            Body::Udp { ports, len } => {
                let (mut from, mut to) = (connection.remote, connection.local);
                if let Some((source, destination)) = ports {
                    from.set_port(*source);
                    to.set_port(*destination);
                }
                let bytes = packet::udp_bytes(from, to, &vec![0; usize::from(*len)]);
                Ok(packet::ip_packet(from.ip(), to.ip(), proto::UDP, ip, &bytes))
            }
        };
        let bytes = bytes.map_err(fail)?;
        if syn && connection.stage == Stage::Listening {
            connection.stage = Stage::SynReceived;
        }
        let now = self.under_test.now();
        self.note(now, format_args!("{} {}", arrow(packet.direction), describe(packet)));
        self.under_test.inject(&bytes);
        self.look_at_pending()?;
        self.collect(pos)
    }

    /// Waits for the next packet of the current connection, until `limit`.
    fn next_of_connection(&mut self, limit: Micros, pos: Pos) -> Play<Option<(Micros, Seen)>> {
        loop {
            self.collect(pos)?;
            while let Some((at, seen)) = self.left.pop_front() {
                if self.current().is_none_or(|connection| connection.owns(&seen)) {
                    return Ok(Some((at, seen)));
                }
                self.note(at, format_args!("(of another connection: {} > {})", seen.source, seen.destination));
            }
            if self.under_test.now() >= limit {
                return Ok(None);
            }
            self.advance(limit, pos)?;
        }
    }

    /// Expects a packet; gives the moment at which it left.
    fn outbound(
        &mut self,
        packet: &Packet,
        event: &Event,
        from: Micros,
        to: Micros,
        tolerance: Micros,
    ) -> Play<Micros> {
        let pos = event.pos;
        let expected = || format!("expected {} {}", arrow(packet.direction), describe(packet));
        let limit = to + PATIENCE.max(tolerance);
        let Some((mut at, mut seen)) = self.next_of_connection(limit, pos)? else {
            return Err((pos, format!("{} at {}: no packet left", expected(), seconds(from))));
        };
        let wanted = match &packet.body {
            Body::Tcp(wanted) => Some(wanted),
            _ => None,
        };
        if let Some(wanted) = wanted {
            if let Some(connection) = self.current() {
                connection.learn(wanted, &seen);
            }
            at = self.gather(wanted, &mut seen, at, limit, pos)?;
        }
        let shown = self.shown(&seen, wanted);
        self.note(at, format_args!("> {shown}"));
        let fail = |why: String| (pos, format!("{why}\n  {}\n  actual   > {shown}", expected()));
        self.compare(packet, &seen, tolerance).map_err(fail)?;
        if !matches!(event.when, When::Any) && (at < from - tolerance || at > to + tolerance) {
            let span = if from == to { seconds(from) } else { format!("{} to {}", seconds(from), seconds(to)) };
            return Err(fail(format!("time: expected {span}, actual {}", seconds(at))));
        }
        Ok(at)
    }

    /// Joins segments to the length that the script expects, if the stack sent smaller ones. All but the last must have
    /// the same size, as segments of one super-packet have.
    fn gather(&mut self, wanted: &Segment, seen: &mut Seen, mut at: Micros, limit: Micros, pos: Pos) -> Play<Micros> {
        let len = wanted.seq.map_or(0, |(_, len)| usize::from(len));
        let SeenBody::Tcp(first) = &mut seen.body else { return Ok(at) };
        let size = first.payload.len();
        let mut last = size;
        while last == size && size > 0 && first.payload.len() < len {
            let next = first.seq.wrapping_add(first.payload.len() as u32);
            let Some((later, more)) = self.next_of_connection(limit, pos)? else { break };
            match more.body {
                SeenBody::Tcp(segment) if segment.seq == next && (1..=size).contains(&segment.payload.len()) => {
                    last = segment.payload.len();
                    first.payload.extend(segment.payload);
                    // The flags are those of the last piece: PSH and FIN are at the end.
                    first.flags = segment.flags;
                    at = later;
                }
                _ => {
                    self.left.push_front((later, more));
                    break;
                }
            }
        }
        Ok(at)
    }

    fn compare(&mut self, packet: &Packet, seen: &Seen, tolerance: Micros) -> Result<(), String> {
        let setup = self.setup;
        compare_ip(&packet.ip, seen)?;
        match (&packet.body, &seen.body) {
            (Body::Tcp(wanted), SeenBody::Tcp(live)) => {
                let Some(connection) = self.current() else { return Err("there is no connection".into()) };
                if let Some(ports) = wanted.ports
                    && ports != (seen.source.port(), seen.destination.port())
                {
                    return Err("ports differ".into());
                }
                let actual = connection.in_script_numbers(Some(wanted), live);
                compare(setup, tolerance, wanted, &actual)?;
                // What a SYN carries begins the stream.
                let syn = actual.flags.contains(tcp::TcpFlags::SYN);
                let first = if syn { 0 } else { u64::from(actual.seq).wrapping_sub(1) };
                let expected = |i: usize| pattern(first.wrapping_add(i as u64));
                let wrong = |(i, byte): (usize, &u8)| *byte != expected(i);
                if connection.plain_send
                    && let Some(at) = actual.payload.iter().enumerate().position(wrong)
                {
                    return Err(format!("the byte of sequence number {} is not the one sent", first + 1 + at as u64));
                }
                Ok(())
            }
            (Body::Udp { len, .. }, SeenBody::Udp(payload)) if usize::from(*len) == payload.len() => Ok(()),
            (Body::Icmp(wanted), SeenBody::Icmp(kind, code, _)) => {
                let v6 = seen.destination.is_ipv6();
                match packet::icmp_type(v6, &wanted.kind, wanted.code.as_deref()) {
                    Some(pair) if pair == (*kind, *code) => Ok(()),
                    Some(_) => Err("ICMP type or code differs".into()),
                    None => Err(format!("no ICMP type and code are named {}", wanted.kind)),
                }
            }
            _ => Err("a packet of another kind".into()),
        }
    }

    /// A packet that left, as a script would write it.
    fn shown(&mut self, seen: &Seen, wanted: Option<&Segment>) -> String {
        match &seen.body {
            SeenBody::Tcp(live) => {
                let mapped = match self.current() {
                    Some(connection) => connection.in_script_numbers(wanted, live),
                    None => live.clone(),
                };
                mapped.to_string()
            }
            SeenBody::Udp(payload) => format!("udp ({})", payload.len()),
            SeenBody::Icmp(kind, code, _) => format!("icmp type {kind} code {code}"),
        }
    }

    // Calls.

    fn call(&mut self, call: &'s SystemCall, end: Option<Micros>, tolerance: Micros) -> Play<()> {
        let fail = |why: String| (call.pos, format!("{}: {why}", call.name));
        if let Some(pending) = &self.pending {
            // As packetdrill: one thread makes the calls, so the next one waits for it.
            let limit = pending.end + PATIENCE;
            while self.pending.is_some() && self.under_test.now() < limit {
                self.advance(limit, call.pos)?;
            }
            if self.pending.is_some() {
                return Err(fail("the call before this one does not return".into()));
            }
        }
        let live_fd =
            |fds: &Fds| call.args.first().and_then(|a| binding::number(a).ok()).and_then(|fd| fds.get(&fd).copied());
        let on = self.by_fd(live_fd(&self.fds));
        let sent = on.map_or(0, |index| self.connections[index].sent);
        let binder = Binder { setup: self.setup, fds: &self.fds, sent };
        let bound = binder.bind(call).map_err(fail)?;
        if let Some(index) = on {
            let connection = &mut self.connections[index];
            match &bound {
                Call::Listen(..) => connection.stage = Stage::Listening,
                // A second connect(2) asks for the result of the first.
                Call::Connect(_, to) if connection.stage == Stage::New => {
                    connection.remote.set_port(to.port());
                    connection.stage = Stage::Connecting;
                }
                Call::Send { iov, to, .. } => {
                    let plain = iov.iter().flatten().enumerate().all(|(i, byte)| *byte == pattern(sent + i as u64));
                    connection.plain_send &= plain;
                    if to.is_some() && connection.stage == Stage::New {
                        connection.stage = Stage::Connecting;
                    }
                }
                _ => {}
            }
        }
        let id = self.under_test.start(bound.clone());
        let now = self.under_test.now();
        let pending = Pending { id, call, bound, end: end.unwrap_or(now), tolerance };
        self.pending = Some(pending);
        self.look_at_pending()?;
        if end.is_none() && self.pending.is_some() {
            return Err(fail(format!("it was to return at {}, but it blocks", seconds(now))));
        }
        self.collect(call.pos)
    }

    fn by_fd(&self, live: Option<i32>) -> Option<usize> {
        live.and_then(|fd| self.connections.iter().rposition(|connection| connection.live_fd == Some(fd)))
    }

    /// If the running call has ended, compares its result.
    fn look_at_pending(&mut self) -> Play<()> {
        let Some(pending) = &self.pending else { return Ok(()) };
        let Some(outcome) = self.under_test.finished(pending.id) else { return Ok(()) };
        let Some(Pending { call, bound, end, tolerance, .. }) = self.pending.take() else { return Ok(()) };
        // As for any event, a share of the time since the one before.
        let tolerance = tolerance.max(self.setup.tolerance_after(end - self.base));
        let now = self.under_test.now();
        let shown = match &outcome {
            Ok((value, _)) => value.to_string(),
            Err(errno) => format!("-1 {}", symbols::errno_name(*errno)),
        };
        self.note(now, format_args!("{}() = {shown}", call.name));
        let fail = |why: String| (call.pos, format!("{}: {why}", call.name));
        binding::check(call, &bound, &outcome, &mut self.fds).map_err(fail)?;
        if (now - end).abs() > tolerance {
            return Err(fail(format!("it was to return at {}, but did at {}", seconds(end), seconds(now))));
        }
        self.follow(call, &bound, &outcome).map_err(fail)
    }

    /// Updates the connections after a call, and checks received bytes.
    fn follow(&mut self, call: &SystemCall, bound: &Call, outcome: &Outcome) -> Result<(), String> {
        let (value, reply) = match outcome {
            Ok((value, reply)) => (value, reply),
            Err(libc::EINPROGRESS | libc::EALREADY | libc::EISCONN) => return Ok(()),
            Err(_) => {
                if let Call::Connect(fd, _) | Call::Send { fd, to: Some(_), .. } = bound
                    && let Some(index) = self.by_fd(Some(*fd))
                    && self.connections[index].stage == Stage::Connecting
                {
                    // It failed before a SYN left; the socket may try again.
                    self.connections[index].stage = Stage::New;
                }
                return Ok(());
            }
        };
        let script_fd = || call.result.as_ref().and_then(|r| binding::number(r).ok()).map(|fd| fd as i32);
        match (bound, reply) {
            (Call::Socket { .. }, _) => {
                let connection = Connection::new(self.setup, script_fd(), Some(*value as i32), Stage::New);
                self.make(connection);
            }
            (Call::Accept(..), Reply::Peer(peer)) => {
                let port = peer.port();
                let found = self.connections.iter_mut().rev().find(|c| c.live_fd.is_none() && c.remote.port() == port);
                let Some(connection) = found else {
                    return Err(format!("it gave a connection from port {port}, which is none of the script's"));
                };
                connection.live_fd = Some(*value as i32);
                connection.script_fd = script_fd();
            }
            (Call::Send { fd, .. }, _) => {
                if let Some(index) = self.by_fd(Some(*fd)) {
                    self.connections[index].sent += (*value).max(0) as u64;
                }
            }
            (Call::Receive { fd, flags, .. }, Reply::Received { data, .. }) => {
                let Some(index) = self.by_fd(Some(*fd)) else { return Ok(()) };
                let connection = &mut self.connections[index];
                if flags & (libc::MSG_ERRQUEUE | libc::MSG_OOB) != 0 {
                    return Ok(());
                }
                let first = connection.received;
                if connection.plain_receive
                    && let Some(at) = data.iter().enumerate().position(|(i, byte)| *byte != pattern(first + i as u64))
                {
                    return Err(format!("byte {} of the stream is not the one that arrived", first + at as u64));
                }
                if flags & libc::MSG_PEEK == 0 {
                    connection.received += (*value).max(0) as u64;
                }
            }
            (Call::Close(fd), _) => {
                if let Some(index) = self.by_fd(Some(*fd)) {
                    self.connections[index].live_fd = None;
                    // accept(2) can no longer return it.
                    self.connections[index].script_fd = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    // Commands and code.

    fn command(&mut self, command: &Command) -> Play<()> {
        let fail = |why: String| (command.pos, why);
        for step in commands::read(&command.text, self.beside).map_err(fail)? {
            match step {
                Step::Sysctl { name, value } => {
                    self.under_test
                        .sysctl(&name, &value)
                        .map_err(|why| fail(format!("sysctl {name}={value}: {why}")))?;
                }
                Step::Sleep(micros) => {
                    let until = self.under_test.now() + micros;
                    self.advance_to(until, command.pos)?;
                }
            }
        }
        Ok(())
    }

    fn code(&mut self, code: &Code, pos: Pos) -> Play<()> {
        let fd = self.current().and_then(|connection| connection.live_fd);
        if let Some(fd) = fd {
            let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
            let id = self.under_test.start(Call::GetSockOpt { fd, level, name, len: info::LEN });
            match self.under_test.finished(id) {
                Some(Ok((_, Reply::Bytes(bytes)))) => info::name_fields(&bytes, &mut self.names),
                Some(Err(errno)) => {
                    return Err((pos, format!("getsockopt(TCP_INFO): {}", symbols::errno_name(errno))));
                }
                _ => return Err((pos, "getsockopt(TCP_INFO) gives no value".into())),
            }
        }
        let printed = code.run(&mut self.names).map_err(|error| (error.pos, error.message))?;
        let now = self.under_test.now();
        for line in printed {
            self.note(now, line);
        }
        Ok(())
    }
}

/// A script's packet in one line, near to how it was written.
fn describe(packet: &Packet) -> String {
    let IpInfo { tos, .. } = packet.ip;
    let tos = tos.map_or(String::new(), |tos| format!("[{tos:?}] "));
    match &packet.body {
        Body::Tcp(segment) => {
            let (seq, len) = segment.seq.unwrap_or((0, 0));
            let flags = segment.flags.unwrap_or(crate::ast::TcpFlags { bits: 0x10, ..Default::default() });
            let mut text = TcpSegment {
                seq,
                ack: segment.ack.unwrap_or(0),
                flags: packet::wire_flags(flags),
                reserved: 0,
                window: segment.window.unwrap_or(0),
                urgent: segment.urgent,
                options: Vec::new(),
                payload: vec![0; usize::from(len)],
            }
            .to_string();
            if segment.window.is_none() {
                text = text.replacen(" win 0", "", 1);
            }
            if segment.options != crate::ast::Options::These(Vec::new()) {
                text += &format!(" {}", segment.options);
            }
            tos + &text
        }
        Body::Udp { len, .. } => format!("{tos}udp ({len})"),
        Body::Icmp(icmp) => format!("{tos}icmp {} {}", icmp.kind, icmp.code.as_deref().unwrap_or("")),
    }
}

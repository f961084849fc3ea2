//! The player against a stand-in that answers each packet and call from a table, so that the player is tested without a
//! stack.
use crate::ast::{Micros, TcpOption};
use crate::connection::pattern;
use crate::packet::{Seen, SeenBody, TcpSegment, ip_packet, tcp_bytes};
use crate::setup::{Setup, Variant};
use crate::under_test::{Call, CallId, Outcome, Reply, UnderTest};
use crate::{parse, run};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use usersock::internal::wire::tcp::TcpFlags;
use usersock::wire::proto;

/// Initial sequence number and timestamp of the stand-in.
const ISN: u32 = 0xffff_fff0;
const TS: u32 = 7_000_000;

/// A minimal peer: a listener that completes one handshake, acknowledges data after 40 ms, and echoes nothing.
struct StandIn {
    now: Micros,
    due: BTreeMap<(Micros, u32), Vec<u8>>,
    count: u32,
    left: VecDeque<(Micros, Vec<u8>)>,
    outcomes: HashMap<CallId, (Micros, Outcome)>,
    received: Vec<u8>,
    accept_after: Micros,
    sysctls: Vec<(String, String)>,
    next_seq: u32,
    peer: Option<Seen>,
}

impl StandIn {
    fn new() -> StandIn {
        StandIn {
            now: 0,
            due: BTreeMap::new(),
            count: 0,
            left: VecDeque::new(),
            outcomes: HashMap::new(),
            received: Vec::new(),
            accept_after: 0,
            sysctls: Vec::new(),
            next_seq: ISN.wrapping_add(1),
            peer: None,
        }
    }

    fn reply(&mut self, after: Micros, flags: TcpFlags, seq: u32, ack: u32, options: Vec<TcpOption>, payload: Vec<u8>) {
        let Some(peer) = &self.peer else { return };
        let segment = TcpSegment { seq, ack, flags, reserved: 0, window: 1000, urgent: 0, options, payload };
        let bytes = tcp_bytes(peer.destination, peer.source, &segment);
        let bytes = ip_packet(peer.destination.ip(), peer.source.ip(), proto::TCP, Default::default(), &bytes);
        self.count += 1;
        self.due.insert((self.now + after, self.count), bytes);
        self.advance(self.now);
    }
}

impl UnderTest for StandIn {
    fn now(&self) -> Micros {
        self.now
    }

    fn advance(&mut self, limit: Micros) {
        let next = self.due.first_key_value().map_or(limit, |((at, _), _)| *at);
        let ends = self.outcomes.values().map(|(at, _)| *at).filter(|&at| at > self.now).min().unwrap_or(limit);
        self.now = self.now.max(next.min(limit).min(ends));
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now
        {
            self.left.push_back((self.now, entry.remove()));
        }
    }

    fn inject(&mut self, packet: &[u8]) {
        let seen = Seen::parse(packet).expect("what the player builds is well formed");
        let SeenBody::Tcp(segment) = seen.body.clone() else { panic!("{seen:?}") };
        self.peer = Some(seen);
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        if segment.flags.contains(TcpFlags::SYN) {
            let echo = segment.options.iter().find_map(|o| match o {
                TcpOption::Timestamp { val, .. } => Some(*val),
                _ => None,
            });
            let options = echo.map(|ecr| vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Timestamp { val: TS, ecr }]);
            let flags = TcpFlags::SYN.union(TcpFlags::ACK);
            self.reply(0, flags, ISN, end.wrapping_add(1), options.unwrap_or_default(), vec![]);
        } else if !segment.payload.is_empty() {
            self.received.extend(segment.payload);
            self.reply(40_000, TcpFlags::ACK, self.next_seq, end, vec![], vec![]);
        } else if let Some(TcpOption::Timestamp { ecr, .. }) = segment.options.last() {
            assert_eq!(*ecr, TS, "the echo is mapped to the live value");
        } else {
            assert_eq!(segment.ack, self.next_seq, "the acknowledgement is mapped to live numbers");
        }
    }

    fn next_packet(&mut self) -> Option<(Micros, Vec<u8>)> {
        self.left.pop_front()
    }

    fn start(&mut self, call: Call) -> CallId {
        let mut at = self.now;
        let outcome: Outcome = match call {
            Call::Socket { .. } => Ok((70, Reply::None)),
            Call::Accept(70, 0) => {
                at += self.accept_after;
                let peer = self.peer.as_ref().map_or("192.0.2.1:1".parse().unwrap(), |peer| peer.source);
                Ok((71, Reply::Peer(peer)))
            }
            Call::Send { fd: 71, iov, .. } => {
                let data = iov.concat();
                let len = data.len();
                let (seq, ack) = (self.next_seq, 1);
                self.next_seq = seq.wrapping_add(len as u32);
                let (first, second) = data.split_at(len.min(1000));
                self.reply(0, TcpFlags::ACK, seq, ack, vec![], first.to_vec());
                if !second.is_empty() {
                    self.reply(
                        0,
                        TcpFlags::ACK.union(TcpFlags::PSH),
                        seq.wrapping_add(1000),
                        ack,
                        vec![],
                        second.to_vec(),
                    );
                }
                Ok((len as i64, Reply::None))
            }
            Call::Receive { fd: 71, iov, .. } => {
                let data: Vec<u8> = self.received.drain(..iov[0].min(self.received.len())).collect();
                Ok((data.len() as i64, Reply::Received { data, flags: 0, control: vec![] }))
            }
            Call::GetSockOpt { name: libc::TCP_INFO, .. } => {
                let mut info = vec![0; 104];
                info[0] = 1;
                Ok((0, Reply::Bytes(info)))
            }
            Call::GetSockOpt { .. } => Ok((0, Reply::Bytes(5i32.to_ne_bytes().to_vec()))),
            Call::Connect(..) => Err(libc::ECONNREFUSED),
            _ => Ok((0, Reply::None)),
        };
        self.count += 1;
        let id = CallId(self.count.into());
        self.outcomes.insert(id, (at, outcome));
        id
    }

    fn finished(&mut self, id: CallId) -> Option<Outcome> {
        match self.outcomes.get(&id) {
            Some((at, _)) if *at <= self.now => self.outcomes.remove(&id).map(|(_, outcome)| outcome),
            _ => None,
        }
    }

    fn sysctl(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.sysctls.push((name.to_owned(), value.to_owned()));
        if name.contains("unknown") { Err("no such sysctl".into()) } else { Ok(()) }
    }
}

const OPEN: &str = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n\
    +.1 < S 0:0(0) win 1000\n+0 > S. 0:0(0) ack 1 win 1000\n+.1 < . 1:1(0) ack 1 win 257\n+0 accept(3, ..., ...) = 4\n";

fn play_on(stand_in: &mut StandIn, variant: Variant, text: &str) -> Result<Vec<String>, String> {
    let script = parse(text, variant.defines()).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let setup = Setup::for_script(variant, &script).map_err(|e| e.to_string())?;
    run(&script, &setup, Path::new("."), stand_in).map(|report| report.log).map_err(|failure| failure.to_string())
}

fn play(text: &str) -> Result<Vec<String>, String> {
    play_on(&mut StandIn::new(), Variant::Ipv4, text)
}

#[test]
fn a_script_that_is_met_passes_in_every_variant() {
    let text = format!(
        "{OPEN}+0 write(4, ..., 1500) = 1500\n+0 > . 1:1001(1000) ack 1\n+0 > P. 1001:1501(500) ack 1\n\
         +.1 < . 1:501(500) ack 1501 win 257\n+.04 > . 1501:1501(0) ack 501 win 1000\n+0 read(4, ..., 1000) = 500\n\
         +0 < ack 1501\n+0 %{{ assert tcpi_state == TCP_ESTABLISHED, tcpi_state }}%\n\
         +0 getsockopt(4, 1, 2, [5], [4]) = 0\n\
         +0 connect(4, ..., ...) = -1 ECONNREFUSED (Connection refused)\n"
    );
    for variant in Variant::ALL {
        if let Err(why) = play_on(&mut StandIn::new(), variant, &text) {
            panic!("{variant}: {why}");
        }
    }
}

#[test]
fn segments_cut_finer_than_written_are_joined() {
    play(&format!("{OPEN}+0 write(4, ..., 1500) = 1500\n+0 > P. 1:1501(1500) ack 1\n")).unwrap();
    // A segment after a short one is not joined.
    let two = "+0 write(4, ..., 500) = 500\n+0 write(4, ..., 1000) = 1000\n";
    let why = play(&format!("{OPEN}{two}+0 > . 1:1501(1500) ack 1\n")).unwrap_err();
    assert!(why.contains("payload length: expected 1500, actual 500"), "{why}");
}

#[test]
fn the_terse_form_compares_what_it_writes() {
    play(&format!("{OPEN}+0 send(4, 1500) = 1500\n+0 > 1:1001  > 1001:1501\n")).unwrap();
    let why = play(&format!("{OPEN}+0 send(4, 1500) = 1500\n+0 > 1:1001  > 1101:1601\n")).unwrap_err();
    assert!(why.contains("sequence number: expected 1101, actual 1001"), "{why}");
}

#[test]
fn timestamps_are_mapped_both_ways() {
    let open = OPEN.replace("0:0(0) win 1000\n", "0:0(0) win 1000 <TS val 9 ecr 0>\n");
    let open = open.replace("ack 1 win 1000\n", "ack 1 win 1000 <nop,nop,TS val 100 ecr 9>\n");
    play(&open.replace("win 257", "win 257 <nop,nop,TS val 10 ecr 100>")).unwrap();
    let why = play(&open.replace("win 257", "win 257 <nop,nop,TS val 10 ecr 101>")).unwrap_err();
    assert!(why.contains("no earlier outbound packet has the TSval 101"), "{why}");
    let why = play(&open.replace("val 100 ecr 9", "val 100 ecr 8")).unwrap_err();
    assert!(why.contains("TSecr: expected 8, actual 9"), "{why}");
}

#[test]
fn every_departure_is_told_with_its_line() {
    let write = format!("{OPEN}+0 write(4, ..., 500) = 500\n");
    for (text, line, part) in [
        (OPEN.replace("ack 1 win 1000", "ack 1 win 999"), 5, "window: expected 999, actual 1000"),
        (OPEN.replace("> S.", "> S"), 5, "flags differ"),
        (OPEN.replace("win 1000\n+.1", "win 1000 <mss 1>\n+.1"), 5, "options differ"),
        (OPEN.replace("+0 > S.", "+.5 > S."), 5, "time: expected"),
        (OPEN.replace("+0 > S.", "+.1~+.2 > [ce] S."), 5, "tos"),
        (format!("{OPEN}+0 > . 1:1(0) ack 1\n"), 8, "no packet left"),
        (write.clone(), 8, "a packet left that no event expected"),
        (format!("{write}+0 > . 1:501(500) ack 2\n"), 9, "acknowledgement: expected 2, actual 1"),
        (format!("{write}+0 > . 1:500(499) ack 1\n"), 9, "payload length: expected 499, actual 500"),
        (format!("{OPEN}+0 write(4, ..., 500) = 400\n"), 8, "expected 400, actual 500"),
        (format!("{OPEN}+0 write(4, ..., 500) = -1 EPIPE (Broken pipe)\n"), 8, "expected -1 EPIPE, actual 500"),
        (format!("{OPEN}+0 connect(4, ..., ...) = 0\n"), 8, "expected 0, actual -1 ECONNREFUSED"),
        (format!("{OPEN}+0 connect(4, ..., ...) = -1 EINVAL (x)\n"), 8, "expected -1 EINVAL"),
        (format!("{OPEN}+0 getsockopt(4, 1, 2, [6], [4]) = 0\n"), 8, "value: expected 6, actual 5"),
        (format!("{OPEN}+0 %{{ assert tcpi_state == 2, tcpi_state }}%\n"), 8, "assertion failed: tcpi_state == 2: 1"),
        (format!("{OPEN}+0 mmap(4) = 0\n"), 8, "no system call mmap"),
        (format!("{OPEN}+0 close(BOGUS) = 0\n"), 8, "no symbol BOGUS"),
        (format!("{OPEN}+0 `reboot`\n"), 8, "command `reboot` is not supported"),
        (format!("{OPEN}+0 `sysctl net.unknown=1`\n"), 8, "no such sysctl"),
        (format!("{OPEN}+0 < icmp frobnicate [1:1(0)]\n"), 8, "no ICMP type and code"),
        (format!("{OPEN}+0...0.5 read(4, ..., 9) = 0\n"), 8, "it was to return at"),
    ] {
        let why = play(&text).expect_err(&text);
        assert!(why.starts_with(&format!("{line}:")), "{text}\n{why}");
        assert!(why.contains(part), "{text}\n{why}");
    }
}

#[test]
fn a_blocking_call_is_held_to_its_end() {
    let text =
        OPEN.replace("+0 accept(3, ..., ...) = 4", "+0...0.5 accept(3, ..., ...) = 4\n+.1 < . 1:1(0) ack 1 win 257");
    let mut stand_in = StandIn::new();
    stand_in.accept_after = 500_000;
    play_on(&mut stand_in, Variant::Ipv4, &text).unwrap();
    stand_in = StandIn::new();
    stand_in.accept_after = 900_000;
    let why = play_on(&mut stand_in, Variant::Ipv4, &text).unwrap_err();
    assert!(why.contains("was to return at 0.700000, but did at 1.100000"), "{why}");
    stand_in = StandIn::new();
    stand_in.accept_after = 900_000;
    let why = play_on(&mut stand_in, Variant::Ipv4, OPEN).unwrap_err();
    assert!(why.contains("but it blocks"), "{why}");
}

#[test]
fn a_byte_out_of_place_is_found_on_receive() {
    let text = format!("{OPEN}+0 < P. 1:501(500) ack 1 win 257\n+.04 > . 1:1(0) ack 501\n+0 read(4, ..., 500) = 500\n");
    play(&text).unwrap();
    struct Flips(StandIn);
    impl UnderTest for Flips {
        fn now(&self) -> Micros {
            self.0.now()
        }
        fn advance(&mut self, limit: Micros) {
            self.0.advance(limit);
        }
        fn inject(&mut self, packet: &[u8]) {
            self.0.inject(packet);
            if let Some(byte) = self.0.received.get_mut(300) {
                *byte ^= 1;
            }
        }
        fn next_packet(&mut self) -> Option<(Micros, Vec<u8>)> {
            self.0.next_packet()
        }
        fn start(&mut self, call: Call) -> CallId {
            self.0.start(call)
        }
        fn finished(&mut self, id: CallId) -> Option<Outcome> {
            self.0.finished(id)
        }
        fn sysctl(&mut self, name: &str, value: &str) -> Result<(), String> {
            self.0.sysctl(name, value)
        }
    }
    let script = parse(&text, &[]).unwrap();
    let mut flips = Flips(StandIn::new());
    let why = run(&script, &Setup::new(Variant::Ipv4), Path::new("."), &mut flips).unwrap_err().to_string();
    assert!(why.contains("byte 300 of the stream"), "{why}");
}

#[test]
fn commands_reach_the_stack_under_test() {
    let mut stand_in = StandIn::new();
    play_on(&mut stand_in, Variant::Ipv4, &format!("`sysctl -q net.ipv4.tcp_sack=0`\n{OPEN}")).unwrap();
    assert_eq!(stand_in.sysctls, [("net.ipv4.tcp_sack".to_owned(), "0".to_owned())]);
}

#[test]
fn the_pattern_shows_a_byte_moved_by_one_and_by_256() {
    assert!((0..1 << 17).all(|i| pattern(i) != pattern(i + 1) && pattern(i) != pattern(i + 256)));
}

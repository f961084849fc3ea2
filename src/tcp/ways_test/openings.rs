//! Handshakes and closes beside the general ways: sockets of one stack that connect to its listeners, to themselves or
//! to nobody, send, shut down and close, and peers made by hand that open connections with what they please.

use super::acts::Memory;
use super::{Call, Side, Wakes, call_socket, compare, exact, exact_ways};
use crate::base::cases::so_many;
use crate::base::env::Duration;
use crate::base::error::Error;
use crate::base::ways::Way;
use crate::base::ways::testing::{count, without};
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::wait::Events;
use crate::tcp::peer_test::{ACK, FIN, HERE, Host, ISS, PSH, RST, SYN, SYN_OPTIONS, Seg};
use crate::tcp::sockopt::opt;
use crate::wire::tcp::TcpHeader;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The listener for sockets of the stack.
const LOOPED: u16 = 81;
/// That for peers made by hand.
const OUTER: u16 = 83;
/// Ends that are listeners.
const LISTENERS: usize = 2;

/// Whom a socket connects to.
#[derive(Debug, Clone, Copy)]
enum To {
    Listener,
    Nobody,
    Itself,
}

/// What a peer made by hand sends, from one of its ports.
#[derive(Debug, Clone, Copy)]
enum Peers {
    Syn,
    /// With an older sequence number.
    OldSyn,
    SynEcn,
    Ack,
    /// With other flags.
    Flags(u8),
    /// With a sequence number that lies ahead.
    Ahead,
    /// Of what was never sent.
    BadAck,
    /// Data, with or without FIN.
    Data(usize, bool),
    Rst,
}

#[derive(Debug, Clone)]
enum Step {
    /// From a port that is chosen, or from one of a few.
    Connect(To, Option<u16>),
    /// The same with data in the SYN, where Fast Open allows it.
    ConnectWith(usize),
    /// While the listener is owned, so that it processes the SYN later.
    ConnectBusy,
    Accept(usize),
    Send(usize, usize),
    Recv(usize),
    Shutdown(usize, i32),
    Close(usize),
    /// With SO_LINGER of zero.
    Abort(usize),
    Option(usize, i32, i32, i32),
    Sysctl(&'static str, &'static str),
    /// From a port of its own, a SYN and what follows it.
    Open(Peers),
    /// From one of the last ports.
    Peer(usize, Peers),
    Wait(u64),
    Reroute,
}

fn step() -> impl Strategy<Value = Step> {
    let end = 0..6usize;
    let to = prop_oneof![9 => Just(To::Listener), 1 => Just(To::Nobody), 1 => Just(To::Itself)];
    let port = prop_oneof![3 => Just(None), 1 => (5000..5002u16).prop_map(Some)];
    let len = || prop_oneof![4 => Just(1usize), 1 => Just(100usize), 1 => 0..3000usize];
    let options = vec![
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUF, 2000),
        (libc::SOL_SOCKET, libc::SO_MARK, 3),
        (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, 100_000),
        (libc::IPPROTO_TCP, opt::NODELAY, 1),
        (libc::IPPROTO_TCP, opt::CORK, 1),
        (libc::IPPROTO_TCP, opt::QUICKACK, 0),
        (libc::IPPROTO_TCP, opt::DEFER_ACCEPT, 2),
        (libc::IPPROTO_TCP, opt::LINGER2, -1),
        (libc::IPPROTO_TCP, opt::LINGER2, 1),
        (libc::IPPROTO_TCP, opt::MAXSEG, 500),
        (libc::IPPROTO_TCP, opt::SAVE_SYN, 1),
        (libc::SOL_IP, libc::IP_TOS, 0x20),
        (libc::SOL_IP, libc::IP_TTL, 5),
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
    ];
    let peers = || {
        prop_oneof![
            1 => Just(Peers::Syn),
            1 => Just(Peers::OldSyn),
            1 => Just(Peers::SynEcn),
            6 => Just(Peers::Ack),
            1 => prop::sample::select(vec![PSH, 32, 64, 128]).prop_map(Peers::Flags),
            1 => Just(Peers::Ahead),
            2 => Just(Peers::BadAck),
            4 => (len(), any::<bool>()).prop_map(|(len, fin)| Peers::Data(len, fin)),
            1 => Just(Peers::Rst),
        ]
    };
    prop_oneof![
        10 => (to, port).prop_map(|(to, port)| Step::Connect(to, port)),
        1 => len().prop_map(Step::ConnectWith),
        1 => Just(Step::ConnectBusy),
        10 => (0..LISTENERS).prop_map(Step::Accept),
        8 => (end.clone(), len()).prop_map(|(n, len)| Step::Send(n, len)),
        6 => end.clone().prop_map(Step::Recv),
        3 => (end.clone(), 0..3i32).prop_map(|(n, how)| Step::Shutdown(n, how)),
        10 => end.clone().prop_map(Step::Close),
        1 => end.clone().prop_map(Step::Abort),
        2 => (0..8usize, prop::sample::select(options))
            .prop_map(|(n, (level, name, value))| Step::Option(n, level, name, value)),
        6 => peers().prop_map(Step::Open),
        10 => (0..3usize, peers()).prop_map(|(n, what)| Step::Peer(n, what)),
        4 => prop_oneof![4 => 0..2000u64, 3 => 0..300_000u64, 2 => 0..70_000_000u64].prop_map(Step::Wait),
        1 => Just(Step::Reroute),
        1 => prop::sample::select(sysctls()).prop_map(|(name, value)| Step::Sysctl(name, value)),
    ]
}

fn sysctls() -> Vec<(&'static str, &'static str)> {
    vec![
        ("net.ipv4.tcp_timestamps", "0"),
        ("net.ipv4.tcp_timestamps", "2"),
        ("net.ipv4.tcp_sack", "0"),
        ("net.ipv4.tcp_window_scaling", "0"),
        ("net.ipv4.tcp_ecn", "1"),
        ("net.ipv4.tcp_ecn", "3"),
        ("net.ipv4.tcp_syncookies", "2"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_tw_reuse", "1"),
        ("net.ipv4.tcp_tw_reuse_delay", "1"),
        ("net.ipv4.tcp_max_tw_buckets", "1"),
        ("net.ipv4.tcp_fin_timeout", "2"),
        ("net.ipv4.tcp_fin_timeout", "90"),
        ("net.ipv4.tcp_fastopen", "1539"),
        ("net.ipv4.tcp_abort_on_overflow", "1"),
        ("net.ipv4.tcp_no_metrics_save", "1"),
        ("net.ipv4.tcp_rfc1337", "1"),
        ("net.ipv4.tcp_max_orphans", "0"),
        ("net.ipv4.tcp_mem", "0 0 1000"),
        ("net.ipv4.tcp_reflect_tos", "1"),
    ]
}

/// What a peer has sent, and is to acknowledge.
struct Numbers {
    seq: u32,
    ack: u32,
}

struct Stage {
    side: Side,
    peers: HashMap<u16, Numbers>,
    /// The peers' last port.
    last: u16,
}

impl Stage {
    fn new(set: &[(&'static str, &'static str)], tos: i32) -> Stage {
        let host = Host::on(Bench::on_ip(), 2);
        let stack = host.bench.stack.clone();
        for (name, value) in set {
            stack.sysctl.set(name, value).unwrap();
        }
        let spy = Socket::new(&stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP).unwrap();
        spy.set_nonblocking(true);
        let mut stage = Stage { side: Side::of(host, Some(spy)), peers: HashMap::new(), last: 4000 };
        for (addr, port) in [(HERE, OUTER), (Ipv4Addr::LOCALHOST, LOOPED)] {
            let listener = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
            listener.bind(SocketAddr::new(IpAddr::V4(addr), port)).unwrap();
            listener.listen(2).unwrap();
            listener.setsockopt(libc::SOL_IP, libc::IP_TOS, &tos.to_ne_bytes()).unwrap();
            // Fast Open: a queue of the backlog's length.
            listener.setsockopt(libc::IPPROTO_TCP, opt::FASTOPEN, &2i32.to_ne_bytes()).unwrap();
            stage.join(listener);
        }
        stage
    }

    fn join(&mut self, socket: Socket) {
        let wakes: Arc<Wakes> = Arc::default();
        socket.set_nonblocking(true);
        socket.sock().wait.add(Events::ALL, false, wakes.clone());
        self.side.ends.push(socket);
        self.side.wakes.push(wakes);
    }

    /// A connected socket, if there is one.
    fn which(&self, n: usize) -> Option<usize> {
        let ends = self.side.ends.len() - LISTENERS;
        (ends > 0).then(|| LISTENERS + n % ends)
    }

    fn connect(&mut self, to: To, port: Option<u16>) -> String {
        let socket = Socket::new(&self.side.host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.set_nonblocking(true);
        let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        if let Some(port) = port
            && let Err(e) = socket.bind(here(port))
        {
            return format!("{e:?}");
        }
        let at = match to {
            To::Listener => LOOPED,
            To::Nobody => 82,
            To::Itself => port.unwrap_or(LOOPED),
        };
        let said = socket.connect(Some(here(at)));
        self.join(socket);
        format!("{said:?}")
    }

    fn connect_with(&mut self, len: usize) -> String {
        use crate::sock::msg::SendMsg;
        let socket = Socket::new(&self.side.host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.set_nonblocking(true);
        let data = vec![7; len];
        let slices = [std::io::IoSlice::new(&data)];
        let mut msg = SendMsg::new(&slices, libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL);
        msg.name = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), LOOPED));
        let said = socket.sendmsg(&mut msg);
        self.join(socket);
        format!("{said:?}")
    }

    fn peer(&mut self, port: u16, what: Peers) {
        let numbers = self.peers.entry(port).or_insert(Numbers { seq: ISS, ack: 0 });
        let stamps = self.side.host.bench.stack.sysctl.tcp_timestamps() != 0 && !port.is_multiple_of(3);
        let now = self.side.host.bench.stack.now().as_millis() as u32;
        let mut options = Vec::new();
        if stamps {
            options = [&[1, 1, 8, 10][..], &now.to_be_bytes(), &[0; 4]].concat();
        }
        let (flags, seq, len) = match what {
            Peers::Syn => (SYN, ISS, 0),
            Peers::OldSyn => (SYN, ISS - 5, 0),
            Peers::SynEcn => (SYN | 64 | 128, ISS, 0),
            Peers::Ack | Peers::BadAck => (ACK, numbers.seq, 0),
            Peers::Flags(more) => (ACK | more, numbers.seq, 0),
            Peers::Ahead => (ACK, numbers.seq.wrapping_add(1), 0),
            Peers::Data(len, fin) => (if fin { ACK | PSH | FIN } else { ACK | PSH }, numbers.seq, len.min(1400)),
            Peers::Rst => (RST, numbers.seq, 0),
        };
        if flags & SYN != 0 {
            options = [SYN_OPTIONS, &options].concat();
        }
        let ack = if matches!(what, Peers::BadAck) { numbers.ack + 7 } else { numbers.ack };
        let ack = if flags & ACK != 0 { ack } else { 0 };
        if !matches!(what, Peers::Ahead) {
            numbers.seq = seq.wrapping_add(len as u32 + u32::from(flags & (SYN | FIN) != 0));
        }
        let seg = Seg { options, data: vec![1; len], dport: OUTER, ..Seg::new(port, flags, seq, ack) };
        let answers = self.side.host.bench.inject(&seg.bytes());
        self.note(answers);
    }

    /// Peers acknowledge all that they were sent.
    fn note(&mut self, packets: Vec<Vec<u8>>) {
        for h in packets.iter().filter_map(|p| TcpHeader::parse(&p[20..]).ok()) {
            if let Some(numbers) = self.peers.get_mut(&h.dst_port()) {
                numbers.ack = h.seq().0.wrapping_add(h.seq_len());
            }
        }
        self.side.note(packets);
    }

    fn play(&mut self, step: &Step) -> String {
        let said = self.do_it(step);
        let left = self.side.host.bench.poll();
        self.note(left);
        said
    }

    fn do_it(&mut self, step: &Step) -> String {
        let stack = self.side.host.bench.stack.clone();
        match *step {
            Step::Connect(to, port) => self.connect(to, port),
            Step::ConnectWith(len) => self.connect_with(len),
            Step::ConnectBusy => {
                let listener = self.side.ends[1].sock().clone();
                let owner = listener.lock(&stack);
                let said = self.connect(To::Listener, None);
                drop(owner);
                said
            }
            Step::Accept(n) => match self.side.ends[n].accept() {
                Ok((socket, peer)) => {
                    self.join(socket);
                    format!("{peer}")
                }
                Err(e) => format!("{e:?}"),
            },
            Step::Send(n, len) => self.call(n, Call::SendPages { len, flags: libc::MSG_NOSIGNAL }),
            Step::Recv(n) => self.call(n, Call::Recv { len: 5000, cut: 5000, flags: 0, memory: Memory::Good }),
            Step::Shutdown(n, how) => {
                self.which(n).map_or_else(String::new, |n| format!("{:?}", self.side.ends[n].shutdown(how)))
            }
            Step::Close(n) => {
                if let Some(n) = self.which(n) {
                    self.side.wakes.remove(n);
                    self.side.ends.remove(n).close();
                }
                String::new()
            }
            Step::Abort(n) => {
                let Some(n) = self.which(n) else { return String::new() };
                let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
                let said = self.side.ends[n].setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger);
                self.side.wakes.remove(n);
                self.side.ends.remove(n).close();
                format!("{said:?}")
            }
            // Listeners pass them on.
            Step::Option(n, level, name, value) => {
                let end = &self.side.ends[n % self.side.ends.len()];
                format!("{:?}", end.setsockopt(level, name, &value.to_ne_bytes()))
            }
            Step::Sysctl(name, value) => format!("{:?}", stack.sysctl.set(name, value)),
            Step::Open(what) => {
                self.last += 1;
                self.peer(self.last, if self.last.is_multiple_of(4) { Peers::SynEcn } else { Peers::Syn });
                self.peer(self.last, what);
                String::new()
            }
            Step::Peer(n, what) => {
                self.peer(self.last - n as u16, what);
                String::new()
            }
            Step::Wait(us) => {
                let packets = self.side.host.bench.advance(Duration::from_micros(us));
                self.note(packets);
                String::new()
            }
            Step::Reroute => {
                stack.rt_genid_bump();
                String::new()
            }
        }
    }

    fn call(&self, n: usize, call: Call) -> String {
        self.which(n).map_or_else(String::new, |n| call_socket(&self.side.ends[n], &call))
    }
}

proptest! {
    #![proptest_config(so_many(80))]

    #[test]
    fn connections_open_and_close_by_short_ways_as_by_the_general_ones(
        set in prop::collection::vec(prop::sample::select(sysctls()), 0..3),
        tos in prop::sample::select(vec![0, 0, 0x20]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let play = |closed: &[Way], look: &mut dyn FnMut(&Side, &str)| without(closed, || {
            let mut stage = Stage::new(&set, tos);
            look(&stage.side, "");
            for step in &steps {
                let said = stage.play(step);
                look(&stage.side, &said);
            }
        });
        compare(&play, &|n| format!("{set:?} {tos} {:?}", steps[n]), &exact_ways(), exact)?;
    }
}

/// The tests say nothing of a way that is not taken.
#[test]
fn each_short_way_is_taken_by_a_connection() {
    let mut stage = Stage::new(&[], 0);
    let ways = [Way::Syn, Way::Third, Way::Idle, Way::Ack, Way::Plain, Way::Loop, Way::Alone, Way::Write, Way::Closing];
    for _ in 0..5 {
        let before = ways.map(count);
        // Behind the shortest there are others.
        for closed in [&[][..], &[Way::Syn]] {
            for step in [
                Step::Connect(To::Listener, None),
                Step::Accept(1),
                Step::Send(0, 1),
                Step::Recv(1),
                Step::Close(0),
                Step::Close(0),
            ] {
                without(closed, || stage.play(&step));
            }
        }
        assert_eq!(stage.side.ends.len(), LISTENERS);
        for (way, before) in ways.into_iter().zip(before) {
            // Both FINs, and what acknowledges the second.
            let least = if way == Way::Closing { 3 } else { 1 };
            assert!(count(way) - before >= least, "{way:?}");
        }
    }
    assert!(matches!(stage.side.ends[1].accept(), Err(Error::Again)));
}

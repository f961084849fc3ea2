//! RDP against a peer that is not one: packets written by hand through a raw socket of another stack, in virtual time.
//! What an attacker sends, and what a peer does that no program can make ours do.

use super::{RDP, Random, SEQPACKET, counter, plugin, recv, send};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::LinkConfig;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock::wire::checksum;
use usersock_ffi::loader;

pub(super) const SYN: u8 = 1;
pub(super) const ACK: u8 = 2;
pub(super) const FIN: u8 = 4;
pub(super) const RST: u8 = 8;
pub(super) const BEG: u8 = 16;
pub(super) const END: u8 = 32;
pub(super) const PRB: u8 = 64;
pub(super) const HEL: u8 = 128;
pub(super) const PORT: u16 = 700;

/// A packet as rdp.c describes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Packet {
    pub from: u16,
    pub to: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u32,
    pub stamp: u32,
    pub echo: u32,
    pub hello: [u32; 3],
    pub sacks: Vec<[u32; 2]>,
    pub payload: Vec<u8>,
}

impl Packet {
    fn bytes(&self, src: IpAddr, dst: IpAddr) -> Vec<u8> {
        let hello: &[u32] = if self.flags & HEL != 0 { &self.hello } else { &[] };
        let words = 7 + hello.len() + 2 * self.sacks.len();
        let mut b = Vec::new();
        b.extend([self.from.to_be_bytes(), self.to.to_be_bytes()].concat());
        b.extend([self.seq.to_be_bytes(), self.ack.to_be_bytes()].concat());
        b.extend([0x10 | words as u8, self.flags, 0, 0]);
        for w in [self.window, self.stamp, self.echo].iter().chain(hello).chain(self.sacks.iter().flatten()) {
            b.extend(w.to_be_bytes());
        }
        b.extend(&self.payload);
        seal(&mut b, src, dst);
        b
    }

    fn parse(b: &[u8]) -> Packet {
        let word = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().expect("four bytes"));
        let len = usize::from(b[12] & 15) * 4;
        let hello = if b[13] & HEL != 0 { [word(28), word(32), word(36)] } else { [0; 3] };
        let sacks = if b[13] & HEL != 0 { 40 } else { 28 };
        Packet {
            from: (word(0) >> 16) as u16,
            to: word(0) as u16,
            seq: word(4),
            ack: word(8),
            flags: b[13],
            window: word(16),
            stamp: word(20),
            echo: word(24),
            hello,
            sacks: (sacks..len).step_by(8).map(|at| [word(at), word(at + 4)]).collect(),
            payload: b[len..].to_vec(),
        }
    }

    pub fn numbers(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags & END != 0) + u32::from(self.flags & (SYN | FIN) != 0)
    }
}

/// Fills the checksum in, where there is room for one.
fn seal(b: &mut [u8], src: IpAddr, dst: IpAddr) {
    if b.len() >= 16 {
        b[14..16].fill(0);
        let sum = checksum::sum(b, checksum::pseudo_header(src, dst, RDP as u8, b.len() as u32));
        b[14..16].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    }
}

/// A world with RDP on one stack, and a raw socket on the other.
pub(super) struct Scene {
    pub world: World,
    pub stack: Arc<Stack>,
    /// Keeps the raw socket's stack.
    _far: Arc<Stack>,
    raw: Socket,
    icmp: Socket,
    pub us: IpAddr,
    pub them: IpAddr,
}

impl Scene {
    pub fn new(seed: u64) -> Scene {
        let world = World::new(seed);
        let [(far, ea), (stack, eb)] = world.two(&LinkConfig::default()).expect("two stacks");
        loader::load(&stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
        let raw = |protocol| {
            let s = Socket::new(&far, libc::AF_INET, libc::SOCK_RAW, protocol).expect("raw socket");
            s.connect(Some(SocketAddr::new(eb.v4.into(), 0))).expect("connect");
            s.set_nonblocking(true);
            s
        };
        let (raw, icmp) = (raw(RDP), raw(libc::IPPROTO_ICMP));
        Scene { world, stack, _far: far, raw, icmp, us: ea.v4.into(), them: eb.v4.into() }
    }

    pub fn listener(&self) -> Socket {
        let s = Socket::new(&self.stack, libc::AF_INET, SEQPACKET, RDP).expect("socket");
        s.bind(SocketAddr::new(self.them, PORT)).expect("bind");
        s.listen(8).expect("listen");
        s.set_nonblocking(true);
        s
    }

    fn raw_send(&self, bytes: &[u8]) {
        self.raw.sendmsg(&mut SendMsg::new(&[IoSlice::new(bytes)], 0)).expect("raw send");
        self.settle();
    }

    pub fn say(&self, p: &Packet) {
        self.raw_send(&p.bytes(self.us, self.them));
    }

    /// Lets what is on its way arrive, without moving time beyond a millisecond.
    pub fn settle(&self) {
        self.world.run_for(Duration::from_millis(1));
    }

    /// What has come, oldest first.
    pub fn heard(&self) -> Vec<Packet> {
        let mut all = Vec::new();
        let mut buf = [0; 2000];
        loop {
            let mut slices = [IoSliceMut::new(&mut buf)];
            match self.raw.recvmsg(&mut RecvMsg::new(&mut slices, 0)) {
                Ok(n) => all.push(Packet::parse(&buf[20..n])),
                Err(Error::Again) => return all,
                Err(e) => panic!("raw recv: {e}"),
            }
        }
    }

    pub fn count(&self, name: &str) -> u64 {
        counter(&self.stack, name)
    }

    /// A connection of ours to their listener: what our next packet says, and their socket.
    pub fn connection(&self, window: u32) -> (Packet, Socket) {
        let hello = [1000, 65536, 1400 << 16];
        self.connection_by(Packet { from: 9, window, stamp: 1, hello, ..Packet::default() })
    }

    /// The same, with our numbers of choice: port, window, stamp and hello of `syn`.
    pub fn connection_by(&self, syn: Packet) -> (Packet, Socket) {
        let listener = self.listener();
        let syn = Packet { to: PORT, seq: syn.hello[0], flags: SYN | HEL, ..syn };
        let first = syn.seq.wrapping_add(1);
        self.say(&syn);
        let answer = self.heard().pop().expect("an answer");
        assert_eq!((answer.flags, answer.ack), (SYN | ACK | HEL, first));
        let mut me =
            Packet { seq: first, ack: answer.seq.wrapping_add(1), flags: ACK | HEL | PRB, echo: answer.stamp, ..syn };
        self.say(&me);
        assert_eq!(self.heard().len(), 1, "the probe is answered");
        let (socket, _) = listener.accept().expect("a child");
        socket.set_nonblocking(true);
        me.flags = ACK;
        (me, socket)
    }

    /// Their packet from and to these ports, with this number, could not be delivered, says somebody: destination
    /// unreachable.
    pub fn icmp_error(&self, code: u8, mtu: u16, ports: [u16; 2], seq: u32) {
        let mut b = vec![3, code, 0, 0, 0, 0];
        b.extend(mtu.to_be_bytes());
        b.extend([0x45, 0, 5, 180, 0, 0, 0x40, 0, 64, RDP as u8, 0, 0]);
        for a in [self.them, self.us] {
            let IpAddr::V4(a) = a else { panic!("IPv4") };
            b.extend(a.octets());
        }
        let sum = checksum::finish(checksum::sum(&b[8..28], 0));
        b[18..20].copy_from_slice(&sum.to_be_bytes());
        b.extend(ports.map(u16::to_be_bytes).concat());
        b.extend(seq.to_be_bytes());
        let sum = checksum::finish(checksum::sum(&b, 0));
        b[2..4].copy_from_slice(&sum.to_be_bytes());
        self.icmp.sendmsg(&mut SendMsg::new(&[IoSlice::new(&b)], 0)).expect("ICMP");
        self.settle();
    }

    /// What of what has come by now takes numbers.
    pub fn heard_data(&self) -> Vec<Packet> {
        self.settle();
        self.heard().into_iter().filter(|p| p.numbers() > 0 && p.flags & SYN == 0).collect()
    }

    /// Socks of RDP that exist.
    pub fn socks(&self) -> i64 {
        let s = Socket::new(&self.stack, libc::AF_INET, SEQPACKET, RDP).expect("socket");
        s.sock().accounts().sockets.sum() - 1
    }
}

#[test]
fn a_flood_of_syns_is_answered_and_leaves_nothing() {
    let scene = Scene::new(1);
    let listener = scene.listener();
    let before = scene.socks();
    for from in 1000..3000 {
        let hello = [u32::from(from), 65536, 1400 << 16];
        scene.say(&Packet { from, to: PORT, seq: from.into(), flags: SYN | HEL, hello, ..Packet::default() });
    }
    assert!(scene.heard().iter().all(|p| p.flags == SYN | ACK | HEL));
    assert_eq!(scene.socks(), before);
    // A cookie that was never given out makes no connection.
    let guess = Packet {
        from: 1000,
        to: PORT,
        seq: 1001,
        ack: 77,
        flags: ACK | HEL,
        hello: [1000, 1 << 16, 1400 << 16],
        ..Packet::default()
    };
    scene.say(&guess);
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.seq)), Some((RST, 77)));
    assert_eq!((scene.count("RdpBadCookies"), listener.accept().err()), (1, Some(Error::Again)));
}

#[test]
fn packets_of_any_bytes_are_dropped_and_counted_and_the_connection_goes_on() {
    let scene = Scene::new(2);
    let (mut me, socket) = scene.connection(100_000);
    let mut random = Random(2);
    let (in_segs, mut good) = (scene.count("RdpInSegs"), me.clone());
    good.payload = vec![7; 40];
    good.flags |= BEG | END;
    for i in 0..20_000u32 {
        let mut bytes = good.bytes(scene.us, scene.them);
        let r = random.next();
        match r % 4 {
            // Cut short, or random from some place on, or a byte changed; sealed, so that it is parsed.
            0 => bytes.truncate((r >> 8) as usize % bytes.len()),
            1 => {
                let at = 4 + (r >> 8) as usize % 24;
                bytes[at..].iter_mut().for_each(|b| *b = random.next() as u8);
            }
            2 => bytes[4 + (r >> 8) as usize % 24] ^= 1 << (r >> 40 & 7),
            _ => bytes = (0..(r >> 8) % 70).map(|_| random.next() as u8).collect(),
        }
        // Whoever knows the numbers may say what the peer may: garbage does not.
        if let Some(b) = bytes.get_mut(4) {
            *b |= 0x40;
        }
        if i % 8 != 0 {
            seal(&mut bytes, scene.us, scene.them);
        }
        scene.raw_send(&bytes);
    }
    assert_eq!(scene.count("RdpInSegs") - in_segs, 20_000);
    assert!(scene.count("RdpInErrs") > 5000 && scene.count("RdpInCsumErrors") > 500);
    // Acknowledgements in their turn with any other number.
    for _ in 0..5000 {
        let mut word = || random.next() as u32;
        let mut p = Packet { ack: word(), window: word() >> 4, echo: word(), ..me.clone() };
        p.sacks = (0..word() % 4).map(|_| [word(), word()]).collect();
        scene.say(&p);
    }
    assert!(scene.count("RdpBadAcks") > 2000);
    scene.heard();
    assert_eq!(socket.sock().state() as u8, 1, "still connected");
    me.payload = b"here I am".to_vec();
    me.flags = ACK | BEG | END;
    scene.say(&me);
    let mut buf = [0; 100];
    assert_eq!(recv(&socket, &mut buf, 0), Ok(Some(9)));
    assert_eq!(&buf[..9], b"here I am");
}

#[test]
fn only_an_exact_reset_ends_a_connection() {
    let scene = Scene::new(3);
    let (me, socket) = scene.connection(100_000);
    let rst = |seq| Packet { seq, flags: RST | ACK, ..me.clone() };
    scene.say(&rst(me.seq + 1));
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.ack)), Some((ACK, me.seq)), "a challenge");
    scene.say(&rst(me.seq.wrapping_sub(1)));
    scene.say(&rst(me.seq + 100_000_000));
    assert_eq!(socket.sock().state() as u8, 1);
    // A SYN inside is challenged, too.
    scene.say(&Packet { flags: SYN | HEL, ..me.clone() });
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.ack)), Some((ACK, me.seq)));
    scene.say(&rst(me.seq));
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::ConnReset));
    assert_eq!((scene.count("RdpEstabResets"), scene.count("RdpEstabDown")), (1, 1));
}

#[test]
fn a_shut_window_is_probed_and_an_opened_one_used() {
    let scene = Scene::new(4);
    let (me, socket) = scene.connection(0);
    assert_eq!(send(&socket, &[5; 3000], 0), Ok(3000));
    assert_eq!(scene.heard(), []);
    scene.world.run_for(Duration::from_secs(2));
    let probes = scene.heard();
    assert!(!probes.is_empty() && probes.iter().all(|p| p.flags == ACK | PRB && p.payload.is_empty()), "{probes:?}");
    // Room for 1000 bytes of payload and no more: they come, cut, after the timer.
    let mut open = Packet { window: 1640, stamp: 2, ..me.clone() };
    scene.say(&open);
    let mut first = None;
    for _ in 0..200 {
        scene.world.run_for(Duration::from_millis(100));
        first = scene.heard().into_iter().find(|p| !p.payload.is_empty());
        if first.is_some() {
            break;
        }
    }
    let first = first.expect("a packet that fits");
    assert_eq!((first.payload.len(), first.flags & (BEG | END)), (1000, BEG));
    open.ack = open.ack.wrapping_add(1000);
    open.window = 100_000;
    scene.say(&open);
    let rest: Vec<Packet> = scene.heard().into_iter().filter(|p| !p.payload.is_empty()).collect();
    assert_eq!(rest.iter().map(|p| p.payload.len()).sum::<usize>(), 2000, "{rest:?}");
    assert_eq!(rest.last().map(|p| p.flags & END), Some(END));
    assert!(scene.count("RdpZeroWindowProbes") > 0);
}

#[test]
fn what_the_blocks_leave_out_is_sent_again_and_nothing_else() {
    let scene = Scene::new(5);
    let (me, socket) = scene.connection(100_000);
    for i in 0..6 {
        assert_eq!(send(&socket, &[i; 1000], 0), Ok(1000));
    }
    scene.settle();
    let sent = scene.heard();
    let data: Vec<&Packet> = sent.iter().filter(|p| !p.payload.is_empty()).collect();
    assert_eq!(data.len(), 6);
    // All but the second.
    let (una, hole) = (data[1].seq, data[1].numbers());
    let block = [una.wrapping_add(hole), data[5].seq.wrapping_add(data[5].numbers())];
    scene.say(&Packet { ack: una, sacks: vec![block], stamp: 2, echo: data[5].stamp, ..me.clone() });
    scene.world.run_for(Duration::from_millis(60));
    let again: Vec<u32> = scene.heard().iter().filter(|p| !p.payload.is_empty()).map(|p| p.seq).collect();
    assert_eq!(again, [una]);
    assert_eq!(
        (scene.count("RdpRetransSegs"), scene.count("RdpTimeouts"), scene.count("RdpFastRecoveries")),
        (1, 0, 1)
    );
    // Blocks of what was never sent say nothing.
    let lie = [block[1].wrapping_add(5000), block[1].wrapping_add(9000)];
    scene.say(&Packet { ack: una, sacks: vec![lie, [9, 3]], stamp: 3, ..me.clone() });
    scene.say(&Packet { ack: block[1].wrapping_add(1), stamp: 3, ..me });
    assert_eq!(scene.count("RdpBadAcks"), 1);
    assert_eq!(socket.sock().state() as u8, 1);
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let scene = Scene::new(6);
    let (_, socket) = scene.connection(100_000);
    for (name, value) in [(6, 10i32), (7, 2), (8, 3)] {
        socket.setsockopt(RDP, name, &value.to_ne_bytes()).expect("RDP_KEEP*");
    }
    socket.setsockopt(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1i32.to_ne_bytes()).expect("SO_KEEPALIVE");
    scene.world.run_for(Duration::from_secs(9));
    assert_eq!(scene.heard(), []);
    scene.world.run_for(Duration::from_secs(30));
    let asked: Vec<u8> = scene.heard().iter().map(|p| p.flags).collect();
    assert_eq!(asked, [ACK | PRB, ACK | PRB, ACK | PRB, RST | ACK]);
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::TimedOut));
}

#[test]
fn a_report_of_a_narrow_path_counts_only_with_numbers_in_flight() {
    let scene = Scene::new(7);
    let (me, socket) = scene.connection(100_000);
    assert_eq!(send(&socket, &[5; 1400], 0), Ok(1400));
    scene.settle();
    let data = scene.heard().pop().expect("data");
    assert_eq!(data.payload.len(), 1400);
    // Fragmentation needed, next MTU 800.
    let report = |seq| scene.icmp_error(4, 800, [PORT, me.from], seq);
    report(data.seq.wrapping_add(5000));
    assert_eq!((scene.count("RdpBadIcmps"), scene.heard().len()), (1, 0));
    report(data.seq);
    let pieces = scene.heard();
    assert_eq!(pieces.iter().map(|p| p.payload.len()).sum::<usize>(), 1400, "{pieces:?}");
    assert!(pieces.len() == 2 && pieces.iter().all(|p| p.payload.len() <= 800 - 20 - 28), "{pieces:?}");
    assert_eq!((pieces[0].flags & (BEG | END), pieces[1].flags & (BEG | END)), (BEG, END));
}

#[test]
fn who_ends_first_keeps_time_wait_and_answers_the_last_fin_again() {
    let scene = Scene::new(8);
    let (mut me, socket) = scene.connection(100_000);
    let before = scene.socks();
    socket.close();
    drop(socket);
    scene.settle();
    let fin = scene.heard().pop().expect("a FIN");
    assert_eq!(fin.flags & FIN, FIN);
    me.ack = fin.seq.wrapping_add(1);
    me.flags = ACK | FIN;
    scene.say(&me);
    assert_eq!(scene.heard().pop().map(|p| p.ack), Some(me.seq + 1));
    scene.say(&me);
    assert_eq!(scene.heard().pop().map(|p| p.ack), Some(me.seq + 1), "its answer was lost: once more");
    assert_eq!(scene.socks(), before);
    scene.world.run_for(Duration::from_secs(59));
    assert_eq!(scene.socks(), before);
    scene.world.run_for(Duration::from_secs(2));
    assert_eq!(scene.socks(), before - 1);
}

#[test]
fn messages_that_break_the_protocol_end_the_connection_alone() {
    for (case, flags, len) in [("a middle without a front", 0u8, 10usize), ("longer than the hello says", BEG, 1200)] {
        let scene = Scene::new(9);
        scene.stack.sysctl.set("net.rdp.max_message", "1000").expect("sysctl");
        let (me, socket) = scene.connection(100_000);
        scene.say(&Packet { flags: ACK | flags, payload: vec![1; len], ..me.clone() });
        assert_eq!(scene.heard().pop().map(|p| p.flags & RST), Some(RST), "{case}");
        assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::Proto), "{case}");
        let next = Packet { from: 10, window: 1000, stamp: 1, hello: me.hello, ..Packet::default() };
        let (_, other) = scene.connection_by(next);
        assert_eq!(other.sock().state() as u8, 1, "{case}");
    }
}

#[test]
fn both_may_end_at_once() {
    let scene = Scene::new(10);
    let (mut me, socket) = scene.connection(100_000);
    socket.shutdown(libc::SHUT_WR).expect("shutdown");
    scene.settle();
    let fin = scene.heard().pop().expect("a FIN");
    // Ours, sent before theirs came: CLOSING, by TCP's number.
    me.flags = ACK | FIN;
    scene.say(&me);
    assert_eq!((socket.sock().state() as u8, scene.heard().pop().map(|p| p.ack)), (11, Some(me.seq + 1)));
    assert_eq!(recv(&socket, &mut [0; 9], 0), Ok(None));
    me = Packet { flags: ACK, seq: me.seq + 1, ack: fin.seq.wrapping_add(1), ..me };
    scene.say(&me);
    assert_eq!(socket.sock().state() as u8, 6);
    drop(socket);
    scene.world.run_for(Duration::from_secs(61));
    assert_eq!((scene.socks(), scene.count("RdpEstabUp"), scene.count("RdpEstabDown")), (0, 1, 1));
}

/// A socket of theirs that calls us, and its SYN.
pub(super) fn caller(scene: &Scene) -> (Socket, Packet) {
    let socket = Socket::new(&scene.stack, libc::AF_INET, SEQPACKET, RDP).expect("socket");
    socket.set_nonblocking(true);
    assert_eq!(socket.connect(Some(SocketAddr::new(scene.us, 9))), Err(Error::InProgress));
    scene.settle();
    let syn = scene.heard().pop().expect("a SYN");
    assert_eq!((syn.flags, syn.to), (SYN | HEL, 9));
    (socket, syn)
}

#[test]
fn a_caller_repeats_its_hello_until_it_is_known() {
    let scene = Scene::new(11);
    let (socket, syn) = caller(&scene);
    let mut me = Packet {
        from: 9,
        to: syn.from,
        seq: 500,
        ack: syn.seq.wrapping_add(1),
        flags: SYN | ACK | HEL,
        window: 100_000,
        stamp: 1,
        echo: syn.stamp,
        hello: [500, 65536, 1000 << 16],
        ..Packet::default()
    };
    // Not for this call: refused, and nothing is made of it.
    scene.say(&Packet { ack: syn.seq.wrapping_add(7), ..me.clone() });
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.seq)), Some((RST, syn.seq.wrapping_add(7))));
    scene.say(&Packet { ack: syn.seq.wrapping_add(7), flags: RST | ACK, ..me.clone() });
    assert_eq!(socket.sock().state() as u8, 2);
    scene.say(&me);
    assert_eq!(socket.connect(Some(SocketAddr::new(scene.us, 9))), Ok(()));
    scene.world.run_for(Duration::from_secs(3));
    let asked = scene.heard();
    assert!(asked.len() > 2 && asked.iter().all(|p| p.flags == ACK | HEL | PRB && p.hello[0] == syn.seq), "{asked:?}");
    assert_eq!(send(&socket, &[1; 2500], 0), Ok(2500));
    scene.settle();
    let data = scene.heard();
    // Our hello takes 1000 bytes a packet, no more.
    assert_eq!(data.iter().map(|p| p.payload.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
    assert!(data.iter().all(|p| p.flags & (HEL | PRB) == HEL | PRB));
    me = Packet { flags: ACK, seq: 501, ack: data[2].seq.wrapping_add(501), ..me };
    scene.say(&me);
    assert_eq!(send(&socket, b"and on", 0), Ok(6));
    scene.settle();
    assert_eq!(scene.heard().pop().map(|p| p.flags), Some(ACK | BEG | END));
    assert_eq!(send(&socket, &[0; 65537], 0), Err(Error::MsgSize), "longer than our hello says");
}

#[test]
fn both_may_call_at_once() {
    let scene = Scene::new(12);
    let (socket, syn) = caller(&scene);
    let mut me =
        Packet { from: 9, to: syn.from, seq: 500, flags: SYN | HEL, window: 100_000, stamp: 1, ..Packet::default() };
    me.hello = [500, 65536, 1400 << 16];
    scene.say(&me);
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.seq, p.ack)), Some((SYN | ACK | HEL, syn.seq, 501)));
    scene.say(&Packet { flags: SYN | ACK | HEL, ack: syn.seq.wrapping_add(1), echo: syn.stamp, ..me });
    assert_eq!((socket.sock().state() as u8, scene.heard().pop().map(|p| p.ack)), (1, Some(501)));
}

#[test]
fn a_refused_call_says_so_and_data_that_nobody_acknowledges_ends_by_the_user_s_timeout() {
    let scene = Scene::new(13);
    let (socket, syn) = caller(&scene);
    scene.say(&Packet { from: 9, to: syn.from, ack: syn.seq.wrapping_add(1), flags: RST | ACK, ..Packet::default() });
    assert_eq!(socket.connect(Some(SocketAddr::new(scene.us, 9))), Err(Error::ConnRefused));
    let (_, socket) = scene.connection(100_000);
    socket.setsockopt(RDP, 5, &5000i32.to_ne_bytes()).expect("RDP_USER_TIMEOUT");
    assert_eq!(send(&socket, &[1; 100], 0), Ok(100));
    scene.world.run_for(Duration::from_secs(4));
    assert_eq!(socket.sock().state() as u8, 1);
    let times = scene.heard().iter().filter(|p| !p.payload.is_empty()).count() as u64;
    let (timeouts, probes) = (scene.count("RdpTimeouts"), scene.count("RdpLossProbes"));
    assert_eq!((times, scene.count("RdpRetransSegs"), probes), (timeouts + 2, times - 1, 1));
    scene.world.run_for(Duration::from_secs(6));
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::TimedOut));
}

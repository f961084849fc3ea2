//! One transfer over a simulated link: data both ways at once between a client and a server, each byte compared with
//! what it should be, and a digest of every packet with its time.

use std::io::{IoSlice, IoSliceMut, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::{Fate, LinkConfig};
use usersock::device::pcap;
use usersock::driver::Step;
use usersock::env::Instant;
use usersock::error::Error;
use usersock::hash::{Tuple, addr128};
use usersock::internal::sys::lock::Mutex;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sim::world::End;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;

/// No progress for this long is a stall: longer than any back-off between two tries.
const STALLED: Duration = Duration::from_secs(1000);
/// A prime, so that no shift by a number of segments or buffers goes unseen.
const PERIOD: usize = 1_000_003;
/// Bytes offered and asked for at once.
const CHUNK: usize = 128 * 1024;
const SERVER_PORT: u16 = 5001;
const CLIENT_PORT: u16 = 40_000;

/// A reader that reads for a while, then sleeps.
#[derive(Clone, Copy)]
pub struct Stall {
    pub reads: Duration,
    pub sleeps: Duration,
}

/// What to do.
pub struct Case {
    pub seed: u64,
    /// From the client, from the server.
    pub bytes: [u64; 2],
    pub link: LinkConfig,
    pub v6: bool,
    pub mss: Option<i32>,
    pub rcvbuf: Option<i32>,
    pub sndbuf: Option<i32>,
    pub stall: Option<Stall>,
    /// Put the ISN of the client (0) or the server (1) here.
    pub isn: Option<(usize, u32)>,
    pub sysctls: Vec<(String, String)>,
}

impl Case {
    pub fn new(seed: u64) -> Case {
        Case {
            seed,
            bytes: [1 << 20; 2],
            link: LinkConfig::default(),
            v6: false,
            mss: None,
            rcvbuf: None,
            sndbuf: None,
            stall: None,
            isn: None,
            sysctls: Vec::new(),
        }
    }
}

/// How it went.
pub struct Report {
    /// Of every packet at the client's end, in order, with its time.
    pub digest: u64,
    pub took: Duration,
    /// Both directions together.
    pub fate: Fate,
    /// First sequence number of client and server.
    pub isn: [u32; 2],
}

/// A digest of a capture: a word at a time, since gigabytes go through it.
#[derive(Default)]
struct Digest {
    state: u64,
    len: u64,
}

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        let mut mix = |word: u64| {
            self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        };
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| mix(u64::from_le_bytes(*w)));
        rest.iter().for_each(|&b| mix(b.into()));
        self.len += bytes.len() as u64;
    }
}

/// Where the capture goes: the digest, the first SYNs' sequence numbers, and a file when one is asked for.
struct Tap {
    digest: Arc<Mutex<Digest>>,
    file: Option<pcap::Sink>,
}

impl Write for Tap {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.digest.lock().add(buf);
        if let Some(f) = &mut self.file {
            f.write_all(buf)?;
        }
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |f| f.flush())
    }
}

/// The bytes that travel: from direction `d`, position `at`.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Pattern {
        let mut x = 0x2545_f491_4f6c_dd1du64;
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .take(PERIOD)
        .collect();
        bytes.extend_from_within(..CHUNK);
        Pattern(bytes)
    }
    fn at(&self, d: usize, at: u64, len: usize) -> &[u8] {
        let start = ((at + d as u64 * 499_979) % PERIOD as u64) as usize;
        &self.0[start..start + len.min(CHUNK)]
    }
}

/// One end: what it has sent and read.
struct Peer {
    socket: Socket,
    name: &'static str,
    d: usize,
    sent: u64,
    to_send: u64,
    got: u64,
    to_get: u64,
    shut: bool,
    eof: bool,
}

impl Peer {
    fn done(&self) -> bool {
        self.shut && self.eof
    }

    /// Sends and reads what is possible now. True when something was.
    fn pump(&mut self, case: &Case, pattern: &Pattern, buf: &mut [u8], reads: bool) -> bool {
        let mut any = false;
        while self.sent < self.to_send {
            let len = (self.to_send - self.sent).min(CHUNK as u64) as usize;
            let slices = [IoSlice::new(pattern.at(self.d, self.sent, len))];
            match self.socket.sendmsg(&mut SendMsg::new(&slices, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)) {
                Ok(n) => {
                    self.sent += n as u64;
                    any = true;
                }
                Err(Error::Again) => break,
                Err(e) => panic!("seed {}: {} sends at {}: {e:?}", case.seed, self.name, self.sent),
            }
        }
        if self.sent == self.to_send && !self.shut {
            self.socket.shutdown(libc::SHUT_WR).unwrap();
            self.shut = true;
            any = true;
        }
        while reads && !self.eof {
            let n = {
                let mut slices = [IoSliceMut::new(buf)];
                self.socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT))
            };
            match n {
                Ok(0) => {
                    assert_eq!(self.got, self.to_get, "seed {}: {}: end of file", case.seed, self.name);
                    self.eof = true;
                }
                Ok(n) => {
                    let want = pattern.at(1 - self.d, self.got, n);
                    if buf[..n] != *want {
                        let off = (0..n).find(|&i| buf[i] != want[i]).unwrap_or(0);
                        panic!("seed {}: {}: wrong byte at {}", case.seed, self.name, self.got + off as u64);
                    }
                    self.got += n as u64;
                }
                Err(Error::Again) => break,
                Err(e) => panic!("seed {}: {} reads at {}: {e:?}", case.seed, self.name, self.got),
            }
            any = true;
        }
        any
    }
}

fn set(s: &Socket, level: i32, name: i32, value: i32) {
    s.setsockopt(level, name, &value.to_ne_bytes()).unwrap();
}

fn options(case: &Case, s: &Socket) {
    if let Some(mss) = case.mss {
        set(s, libc::IPPROTO_TCP, libc::TCP_MAXSEG, mss);
    }
    if let Some(n) = case.rcvbuf {
        set(s, libc::SOL_SOCKET, libc::SO_RCVBUF, n / 2);
    }
    if let Some(n) = case.sndbuf {
        set(s, libc::SOL_SOCKET, libc::SO_SNDBUF, n / 2);
    }
}

/// Waits until the ISN that `stack` would choose for the connection `after` from now is `isn`.
fn wait_for_isn(world: &World, stack: &Stack, t: &Tuple, after: Duration, isn: u32) {
    let ahead = isn.wrapping_sub(stack.keys.isn(world.now() + after, t));
    world.run_for(Duration::from_nanos(u64::from(ahead) << 6));
    assert_eq!(stack.keys.isn(world.now() + after, t), isn);
}

/// TCP memory still charged to the stack, pages, and its sockets.
fn in_use(stack: &Arc<Stack>) -> (i64, i64) {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let acc = s.sock().accounts().clone();
    let sockets = acc.sockets.sum() - 1;
    (acc.pages.sum(), sockets)
}

/// Runs a transfer to its end and everything after it until both stacks are at rest. Panics at a wrong byte, an error,
/// a stall, or memory that stays behind.
pub fn run(case: &Case) -> Report {
    run_capturing(case, None)
}

/// Two stacks on a link, and the sockets of a transfer.
struct Scene {
    world: World,
    /// The client's stack, and the server's.
    stacks: [Arc<Stack>; 2],
    /// Their ends of the link.
    ends: [End; 2],
    client: Socket,
    listener: Socket,
    /// The connection as each of them sees it.
    tuples: [Tuple; 2],
    server_addr: SocketAddr,
}

impl Scene {
    fn new(case: &Case) -> Scene {
        let world = World::new(case.seed);
        let [(a, ea), (b, eb)] = world.two(&case.link).unwrap();
        for (name, value) in &case.sysctls {
            a.sysctl.set(name, value).unwrap();
            b.sysctl.set(name, value).unwrap();
        }
        let (ca, sa): (IpAddr, IpAddr) =
            if case.v6 { (ea.v6.into(), eb.v6.into()) } else { (ea.v4.into(), eb.v4.into()) };
        // The server is dual-stack either way.
        let listener = Socket::new(&b, libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
        options(case, &listener);
        listener.bind(SocketAddr::new("::".parse().unwrap(), SERVER_PORT)).unwrap();
        listener.listen(1).unwrap();
        listener.set_nonblocking(true);
        let family = if case.v6 { libc::AF_INET6 } else { libc::AF_INET };
        let client = Socket::new(&a, family, libc::SOCK_STREAM, 0).unwrap();
        options(case, &client);
        client.bind(SocketAddr::new(ca, CLIENT_PORT)).unwrap();
        client.set_nonblocking(true);
        let tuple = |here: IpAddr, sport, there: IpAddr, dport| Tuple {
            saddr: addr128(here),
            sport,
            daddr: addr128(there),
            dport,
        };
        let tuples = [tuple(ca, CLIENT_PORT, sa, SERVER_PORT), tuple(sa, SERVER_PORT, ca, CLIENT_PORT)];
        let server_addr = SocketAddr::new(sa, SERVER_PORT);
        Scene { world, stacks: [a, b], ends: [ea, eb], client, listener, tuples, server_addr }
    }

    /// Waits until the ISN that the case names is the one that will be chosen.
    fn wait_for_isn(&self, case: &Case) {
        match case.isn {
            Some((0, isn)) => wait_for_isn(&self.world, &self.stacks[0], &self.tuples[0], Duration::ZERO, isn),
            Some((_, isn)) => {
                // The server answers when the SYN has come over the wire: 60 bytes (80 over IPv6) and the delay.
                let d = case.link.forth;
                let wire = if case.v6 { 80 } else { 60 };
                let over = d.delay + Duration::from_nanos((wire * 8_000_000_000u64).checked_div(d.rate).unwrap_or(0));
                wait_for_isn(&self.world, &self.stacks[1], &self.tuples[1], over, isn);
            }
            None => {}
        }
    }

    /// Connects; gives the server's socket.
    fn connect(&self, case: &Case) -> Socket {
        let start = self.world.now();
        match self.client.connect(Some(self.server_addr)) {
            Err(Error::InProgress) => {}
            other => panic!("connect: {other:?}"),
        }
        loop {
            match self.listener.accept() {
                Ok((s, _)) => return s,
                Err(Error::Again) => {}
                Err(e) => panic!("accept: {e:?}"),
            }
            assert!(self.world.now() < start + STALLED, "seed {}: no connection", case.seed);
            self.world.step(start + STALLED);
        }
    }
}

/// Whether the peers read now, where they stall; and when that changes.
fn reads(stall: Option<Stall>, now: Instant) -> (bool, Option<Instant>) {
    let Some(s) = stall else { return (true, None) };
    let round = (s.reads + s.sleeps).as_nanos() as u64;
    let (phase, awake) = (now.as_nanos() % round, s.reads.as_nanos() as u64);
    let next = if phase < awake { awake } else { round };
    (phase < awake, Some(Instant::from_nanos(now.as_nanos() - phase + next)))
}

/// Sends and reads until both peers have all.
fn carry(world: &World, case: &Case, peers: &mut [Peer; 2]) {
    let pattern = Pattern::new();
    let mut buf = vec![0; CHUNK];
    let (mut progress, mut seen) = (world.now(), (0, 0));
    while !peers.iter().all(Peer::done) {
        let now = world.now();
        let (reads, next) = reads(case.stall, now);
        let limit = next.map_or(progress + STALLED, |next| next.min(progress + STALLED));
        let mut any = false;
        for p in &mut *peers {
            any |= p.pump(case, &pattern, &mut buf, reads);
        }
        let got = (peers[0].got, peers[1].got);
        if got != seen {
            (seen, progress) = (got, now);
        }
        if now >= progress + STALLED {
            panic!("seed {}: stalled at {now:?}: client {}, server {}", case.seed, state(&peers[0]), state(&peers[1]));
        }
        if !any || world.step(now) == Step::Limit {
            world.step(limit);
        }
    }
}

/// The same, with the capture of the client's end written to `file` too.
pub fn run_capturing(case: &Case, file: Option<pcap::Sink>) -> Report {
    let scene = Scene::new(case);
    let [a, b] = scene.stacks.clone();
    let digest = Arc::new(Mutex::new(Digest::default()));
    pcap::start_to(&scene.ends[0].dev, Box::new(Tap { digest: digest.clone(), file }), a.clock.clone()).unwrap();
    scene.wait_for_isn(case);
    let start = scene.world.now();
    let server = scene.connect(case);
    let isn = [a.keys.isn(start, &scene.tuples[0]), isn_of(&server)];
    let Scene { world, ends: [ea, eb], client, listener, .. } = scene;
    let peer = |socket, name, d: usize| Peer {
        socket,
        name,
        d,
        sent: 0,
        to_send: case.bytes[d],
        got: 0,
        to_get: case.bytes[1 - d],
        shut: false,
        eof: false,
    };
    let mut peers = [peer(client, "client", 0), peer(server, "server", 1)];
    carry(&world, case, &mut peers);
    let took = world.now() - start;
    let [x, y] = [ea.link.fate(), eb.link.fate()];
    drop((peers, listener));
    // Last acknowledgements and time-wait.
    assert!(world.run_until_idle(world.now() + Duration::from_secs(1000)), "seed {}: timers for ever", case.seed);
    for (name, stack) in [("client", &a), ("server", &b)] {
        assert_eq!(in_use(stack), (0, 0), "seed {}: {name}: pages of memory and sockets left behind", case.seed);
    }
    pcap::stop(&ea.dev).unwrap();
    let digest = {
        let d = digest.lock();
        d.state ^ d.len
    };
    Report { digest, took, fate: x + y, isn }
}

fn isn_of(s: &Socket) -> u32 {
    let g = s.sock().lock(s.stack());
    g.private.downcast_ref::<usersock::tcp::cong::TcpSock>().unwrap().snt_isn.0
}

/// For the message of a stall.
fn state(p: &Peer) -> String {
    let g = p.socket.sock().lock(p.socket.stack());
    let tp = g.private.downcast_ref::<usersock::tcp::cong::TcpSock>().unwrap();
    format!(
        "sent {}/{} got {}/{}; state {:?} una {:?} nxt {:?} write {:?} wnd {} cwnd {} ca {:?} out {} sacked {} lost {} \
         retrans {} rto {} backoff {}; rcv_nxt {:?} rcv_wnd {} rcvbuf {:?} rmem {:?}, {} packets in the receive queue",
        p.sent,
        p.to_send,
        p.got,
        p.to_get,
        p.socket.sock().state(),
        tp.snd_una,
        tp.snd_nxt,
        tp.write_seq,
        tp.snd_wnd,
        tp.snd_cwnd,
        tp.ca_state,
        tp.packets_out,
        tp.sacked_out,
        tp.lost_out,
        tp.retrans_out,
        tp.rto_us,
        tp.backoff,
        tp.rcv_nxt,
        tp.rcv_wnd,
        p.socket.sock().rcvbuf,
        p.socket.sock().rmem_alloc,
        g.common.receive_queue.len(),
    )
}

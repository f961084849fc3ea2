//! RDP, the protocol of `plugins/rdp*.c`, loaded into stacks of this process: messages of many sizes both ways at once
//! over a bad simulated link in virtual time, every byte and every bound compared; and over two TUN devices, between
//! two processes.
//!
//! `cargo test` moves a few MiB. `USERSOCK_FULL=1 cargo test --release --test plugin_world` moves 1 GiB each way over
//! the link, and 1 GiB over TUN. Loss over TUN is made by netem in the kernel where it has that, else by short queues;
//! the test says which.
#![cfg(has_usersock)]

#[path = "plugin_world/hostile.rs"]
mod hostile;
#[path = "plugin_world/tail.rs"]
mod tail;
#[path = "plugin_world/wire.rs"]
mod wire;

mod made;

use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use usersock::config;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

const SEQPACKET: i32 = libc::SOCK_SEQPACKET;
const RDP: i32 = 253;
const MIB: u64 = 1 << 20;
/// Longer than any message here.
const ROOM: usize = 300_000;

/// rdp.so.
fn plugin() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| made::plugin("rdp")).clone()
}

/// Fast, repeatable, without a short period.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^ (x >> 27)
    }
}

/// The messages of one direction: both ends make the same ones.
#[derive(Clone)]
struct Messages {
    random: Random,
    left: u64,
    count: u64,
}

impl Messages {
    fn new(seed: u64, bytes: u64) -> Messages {
        Messages { random: Random(seed), left: bytes, count: 0 }
    }

    /// The next message in `buf`; false when all are through.
    fn next(&mut self, buf: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        let r = self.random.next();
        let len = match r % 16 {
            0 => 0,
            1..4 => r >> 32 & 0x1f,
            4..10 => 1 + (r >> 32) % 3000,
            10..15 => 1 + (r >> 32) % 30_000,
            _ => 1 + (r >> 32) % 200_000,
        };
        let len = len.min(self.left) as usize;
        self.left -= len as u64;
        self.count += 1;
        buf.resize(len.next_multiple_of(8), 0);
        for word in buf.chunks_exact_mut(8) {
            word.copy_from_slice(&self.random.next().to_le_bytes());
        }
        buf.truncate(len);
        true
    }
}

fn send(s: &Socket, bytes: &[u8], flags: i32) -> Result<usize, Error> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(bytes)], flags | libc::MSG_NOSIGNAL))
}

/// A message's length, or None at the end.
fn recv(s: &Socket, buf: &mut [u8], flags: i32) -> Result<Option<usize>, Error> {
    let mut slices = [IoSliceMut::new(buf)];
    let mut msg = RecvMsg::new(&mut slices, flags);
    let n = s.recvmsg(&mut msg)?;
    assert_eq!(msg.out_flags & libc::MSG_TRUNC, 0);
    Ok((msg.out_flags & libc::MSG_EOR != 0).then_some(n))
}

/// One end of a connection: sends its messages, expects the other's.
struct End {
    socket: Socket,
    out: Messages,
    /// Made and not yet taken by the socket.
    pending: Option<Vec<u8>>,
    said_all: bool,
    expected: Messages,
    heard_all: bool,
    buf: Vec<u8>,
    want: Vec<u8>,
}

impl End {
    fn new(socket: Socket, out: Messages, expected: Messages) -> End {
        socket.set_nonblocking(true);
        End {
            socket,
            out,
            pending: None,
            said_all: false,
            expected,
            heard_all: false,
            buf: vec![0; ROOM],
            want: Vec::new(),
        }
    }

    /// Sends and receives as much as possible now; true if there was progress.
    fn turn(&mut self) -> bool {
        let mut did = false;
        while !self.said_all {
            let message = match self.pending.take() {
                Some(message) => message,
                None => {
                    let mut message = Vec::new();
                    if !self.out.next(&mut message) {
                        self.socket.shutdown(1).expect("shutdown");
                        self.said_all = true;
                        break;
                    }
                    message
                }
            };
            match send(&self.socket, &message, 0) {
                Ok(n) => assert_eq!(n, message.len()),
                Err(Error::Again) => {
                    self.pending = Some(message);
                    break;
                }
                Err(e) => panic!("send: {e}"),
            }
            did = true;
        }
        while !self.heard_all {
            match recv(&self.socket, &mut self.buf, 0) {
                Ok(Some(n)) => {
                    assert!(self.expected.next(&mut self.want), "a message too many");
                    assert_eq!(n, self.want.len(), "message {}", self.expected.count);
                    assert!(self.buf[..n] == self.want[..], "the bytes of message {}", self.expected.count);
                }
                Ok(None) => {
                    assert_eq!(self.expected.left, 0, "the end came before the last message");
                    self.heard_all = true;
                }
                Err(Error::Again) => break,
                Err(e) => panic!("recv: {e}"),
            }
            did = true;
        }
        did
    }

    fn done(&self) -> bool {
        self.said_all && self.heard_all
    }
}

/// 2 % loss, 2 % reordering, 1 % duplication, 1 % corruption each way.
fn bad_link() -> LinkConfig {
    LinkConfig::both(
        Direction::default()
            .rate(1_000_000_000)
            .delay(Duration::from_millis(5))
            .loss(0.02)
            .reorder(0.02)
            .duplicate(0.01)
            .corrupt(0.01),
    )
}

/// A counter of a stack; ours are not in the standard lists.
fn counter(stack: &Stack, name: &str) -> u64 {
    stack.mib.named.list().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

/// The record of a run: equal for equal seeds.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    packets: [u64; 2],
    messages: [u64; 2],
    took: Duration,
    counters: String,
}

/// `bytes` each way over `link`; everything compared; and over two TUN devices, between two processes.
fn transfer(seed: u64, v6: bool, bytes: u64, link: &LinkConfig, sysctls: &[(&str, &str)]) -> Report {
    println!("seed {seed}");
    let world = World::new(seed);
    let [(a, ea), (b, eb)] = world.two(link).expect("two stacks");
    for stack in [&a, &b] {
        loader::load(stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
        for (name, value) in sysctls {
            stack.sysctl.set(name, value).expect("sysctl");
        }
    }
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    let socket = |stack: &Arc<Stack>| Socket::new(stack, family, SEQPACKET, RDP).expect("socket");
    let at = SocketAddr::new(if v6 { eb.v6.into() } else { eb.v4.into() }, 700);
    let listener = socket(&b);
    listener.bind(at).expect("bind");
    listener.listen(1).expect("listen");
    let client = socket(&a);
    // Blocking calls step the world.
    client.connect(Some(at)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    let forth = Messages::new(seed, bytes);
    let back = Messages::new(!seed, bytes);
    let mut ends = [End::new(client, forth.clone(), back.clone()), End::new(server, back, forth)];
    let (mut last, mut stalled) = (world.now(), Duration::ZERO);
    while !ends.iter().all(End::done) {
        let did = ends.iter_mut().fold(false, |did, e| e.turn() | did);
        if did {
            (last, stalled) = (world.now(), Duration::ZERO);
        }
        assert!(
            stalled < Duration::from_secs(600),
            "nothing arrives any more: {:?}",
            ends.map(|e| (e.out.count, e.expected.count))
        );
        world.step(world.now() + Duration::from_secs(60));
        stalled = world.now() - last;
    }
    let messages = [ends[0].out.count, ends[1].out.count];
    drop(ends);
    drop(listener);
    assert!(world.run_until_idle(world.now() + Duration::from_secs(600)), "connections end");
    let mut counters = String::new();
    for stack in [&a, &b] {
        for (name, n) in stack.mib.named.list().into_iter().filter(|(_, n)| *n != 0) {
            let _ = write!(counters, "{name} {n} ");
        }
        assert_eq!(counter(stack, "RdpEstabUp"), counter(stack, "RdpEstabDown"));
        counters.push('|');
    }
    let report = Report {
        packets: [ea.link.fate().sent, eb.link.fate().sent],
        messages,
        took: world.now() - usersock::env::Instant::ZERO,
        counters,
    };
    println!("{report:?} {:?}", ea.link.fate());
    report
}

fn full() -> bool {
    std::env::var_os("USERSOCK_FULL").is_some()
}

#[test]
fn messages_of_many_sizes_cross_a_bad_link_intact_in_both_directions() {
    let (bytes, seeds) = if full() { (1024 * MIB, 1..2) } else { (2 * MIB, 1..6) };
    for seed in seeds {
        let start = std::time::Instant::now();
        let r = transfer(seed, seed % 2 == 0, bytes, &bad_link(), &[]);
        println!(
            "{bytes} bytes each way: {} s of virtual time, {:?} of the machine's",
            r.took.as_secs(),
            start.elapsed()
        );
        let corrupt: Vec<&str> = r.counters.split("RdpInCsumErrors ").skip(1).collect();
        assert_eq!(corrupt.len(), 2, "the checksum finds corruption at both ends: {}", r.counters);
    }
}

#[test]
fn a_seed_played_again_gives_the_same_packets() {
    let run = || transfer(42, false, MIB, &bad_link(), &[]);
    assert_eq!(run(), run());
}

#[test]
fn small_buffers_and_a_small_mtu_only_slow_it_down() {
    let link = bad_link().mtu(600);
    // No message is longer than a quarter of the receive buffer: this one accepts all that `Messages` makes.
    let buffers = [("net.rdp.wmem_default", "400000"), ("net.rdp.rmem_default", "800000")];
    transfer(7, false, MIB, &link, &buffers);
}

#[test]
fn every_syn_lost_ends_in_a_timeout_and_nothing_is_left() {
    let world = World::new(3);
    let all_lost = LinkConfig::both(Direction::default().loss(1.0));
    let [(a, _), (_b, eb)] = world.two(&all_lost).expect("two stacks");
    loader::load(&a, &plugin()).unwrap_or_else(|e| panic!("{e}"));
    let s = Socket::new(&a, libc::AF_INET, SEQPACKET, RDP).expect("socket");
    assert_eq!(s.connect(Some(SocketAddr::new(eb.v4.into(), 9))), Err(Error::TimedOut));
    assert_eq!((counter(&a, "RdpAttemptFails"), counter(&a, "RdpRetransSegs")), (1, 6));
    drop(s);
    assert!(world.run_until_idle(world.now() + Duration::from_secs(1)));
}

/// Set inside the namespace; its value is the part that this process plays.
const PART: &str = "USERSOCK_TEST_PART";
const OVER_TUN: &str = "messages_cross_two_tun_devices_between_two_processes";

fn ip(program: &str, args: &str) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let out = Command::new(program).args(args.split(' ')).env("PATH", path).output().map_err(|e| e.to_string())?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()) }
}

/// A stack on TUN device `dev` with host 2 of 10.9.`net`.0/24; the kernel is host 1 and its router.
fn stack_on_tun(dev: &str, net: u8) -> Arc<Stack> {
    loader::enable();
    let text = format!("plugin={},tun={dev},addr=10.9.{net}.2/24,gw=10.9.{net}.1", plugin().display());
    let stack = config::build(&text).unwrap_or_else(|e| panic!("{e}"));
    ip("ip", &format!("addr add 10.9.{net}.1/24 dev {dev}")).expect("ip addr add");
    stack
}

/// Sends all of `out` from a thread, and expects `expected`, with blocking calls.
fn both_ways(socket: Socket, out: Messages, expected: Messages) {
    let socket = Arc::new(socket);
    let sender = {
        let (socket, mut out) = (socket.clone(), out);
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while out.next(&mut message) {
                assert_eq!(send(&socket, &message, 0), Ok(message.len()));
            }
            socket.shutdown(1).expect("shutdown");
        })
    };
    let (mut expected, mut buf, mut want) = (expected, vec![0; ROOM], Vec::new());
    while let Some(n) = recv(&socket, &mut buf, 0).expect("recv") {
        assert!(expected.next(&mut want), "a message too many");
        assert!(buf[..n] == want[..], "message {}", expected.count);
    }
    assert_eq!(expected.left, 0, "the end came before the last message");
    sender.join().expect("the sender is well");
}

#[test]
fn messages_cross_two_tun_devices_between_two_processes() {
    let bytes = if full() { 1024 * MIB } else { 8 * MIB };
    let (forth, back) = (Messages::new(1, bytes), Messages::new(2, bytes / 16));
    let at: SocketAddr = "10.9.1.2:700".parse().expect("address");
    let copy = |part: &str| {
        let mut c = Command::new(std::env::current_exe().expect("own path"));
        c.args(["--exact", OVER_TUN, "--nocapture", "--test-threads=1"]).env(PART, part).stdin(Stdio::null());
        c
    };
    match std::env::var(PART).as_deref() {
        Ok("server") => {
            let stack = stack_on_tun("uskb", 1);
            let listener = Socket::new(&stack, libc::AF_INET, SEQPACKET, RDP).expect("socket");
            listener.bind(at).expect("bind");
            listener.listen(1).expect("listen");
            println!("\nlistening");
            let (socket, _) = listener.accept().expect("accept");
            both_ways(socket, back, forth);
        }
        Ok(_) => {
            let stack = stack_on_tun("uska", 0);
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the kernel forwards");
            let mut server = copy("server").stdout(Stdio::piped()).spawn().expect("a second process");
            let lines = std::io::BufReader::new(server.stdout.take().expect("its output"));
            let mut lines = std::io::BufRead::lines(lines).map_while(Result::ok);
            assert!(lines.any(|l| l == "listening"), "the server listens");
            let loss = ["uska", "uskb"].map(|dev| ip("tc", &format!("qdisc add dev {dev} root netem loss 1%")));
            match &loss {
                [Ok(()), Ok(())] => println!("loss: 1 % each way, netem"),
                e => {
                    // A short queue in front of a stack drops packets of bursts.
                    for dev in ["uska", "uskb"] {
                        ip("ip", &format!("link set dev {dev} txqueuelen 16")).expect("ip link");
                    }
                    println!("loss: by queues of 16 packets; netem: {e:?}");
                }
            }
            let start = std::time::Instant::now();
            let socket = Socket::new(&stack, libc::AF_INET, SEQPACKET, RDP).expect("socket");
            socket.connect(Some(at)).expect("connect");
            both_ways(socket, forth, back);
            let took = start.elapsed();
            // The server may print many more lines: they are read, so that it does not block.
            let rest: Vec<String> = lines.collect();
            assert!(server.wait().expect("it ends").success(), "{rest:?}");
            let retrans = counter(&stack, "RdpRetransSegs");
            println!(
                "{bytes} bytes, and {} back, over two TUN devices: {took:?}, {retrans} packets sent again",
                bytes / 16
            );
            if loss.iter().all(Result::is_ok) {
                assert!(retrans > 0, "loss makes work");
            }
        }
        Err(_) => {
            let permitted = |args: &[&str]| {
                Command::new("unshare").args(args).arg("true").output().is_ok_and(|o| o.status.success())
            };
            let how: &[&str] = if permitted(&["-n"]) { &["-n"] } else { &["-r", "-n"] };
            let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
            if !permitted(how) {
                return println!("SKIP {OVER_TUN}: no network namespace can be made");
            }
            if let Err(error) = tun {
                return println!("SKIP {OVER_TUN}: /dev/net/tun: {error}");
            }
            let inner = copy("client");
            let mut c = Command::new("unshare");
            c.args(how).arg(inner.get_program()).args(inner.get_args()).env(PART, "client").stdin(Stdio::null());
            let out = c.output().expect("unshare starts");
            print!("{}", String::from_utf8_lossy(&out.stdout));
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}

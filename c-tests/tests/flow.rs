//! FLOW, the stream of `plugins/flow.c`, in virtual time: what its super-packets become on links that carry them whole
//! and on links that do not, with and without loss, and joined again where the receiver has GRO. Every byte is
//! compared.
#![cfg(has_usersock)]

mod made;

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

const FLOW: i32 = 253;
const BYTES: usize = 1_000_000;

/// flow.so.
fn plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| made::plugin("flow")).clone()
}

fn socket(stack: &Arc<Stack>, to: IpAddr) -> Socket {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    Socket::new(stack, family, libc::SOCK_STREAM, FLOW).expect("socket")
}

fn counter(stack: &Stack, name: &str) -> u64 {
    stack.mib.named.list().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

/// Byte `at` of a stream that has no short period.
fn byte(at: usize) -> u8 {
    ((at % 65_521) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// As many bytes of the stream from `at` on as the socket takes.
fn send_more(s: &Socket, at: &mut usize) {
    while *at < BYTES {
        let chunk: Vec<u8> = (*at..BYTES.min(*at + 50_000)).map(byte).collect();
        match s.sendmsg(&mut SendMsg::new(&[IoSlice::new(&chunk)], libc::MSG_NOSIGNAL)) {
            Ok(n) => *at += n,
            Err(Error::Again) => return,
            Err(e) => panic!("send: {e}"),
        }
    }
}

/// Compares as many bytes as there are; false at the end of the stream.
fn receive_more(s: &Socket, at: &mut usize) -> bool {
    let mut buf = [0; 10_000];
    loop {
        match s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0)) {
            Ok(0) => return false,
            Ok(n) => {
                assert!(buf[..n].iter().enumerate().all(|(i, b)| *b == byte(*at + i)), "bytes from {at} on");
                *at += n;
            }
            Err(Error::Again) => return true,
            Err(e) => panic!("recv after {at} bytes: {e}"),
        }
    }
}

/// What was counted in a run.
struct Counts {
    sent: u64,
    supers: u64,
    again: u64,
    received: u64,
    received_supers: u64,
    errors: u64,
    /// Packets that the link carried to the receiver.
    carried: u64,
}

/// Moves the stream both ways at once over a link, and ends it.
fn run(link: &LinkConfig, v6: bool, gro: bool) -> Counts {
    let world = World::new(7);
    let [(a, ea), (b, eb)] = world.two(link).expect("two stacks");
    for (stack, end) in [(&a, &ea), (&b, &eb)] {
        loader::load(stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
        end.dev.set_gro(gro);
    }
    let ip = if v6 { eb.v6.into() } else { IpAddr::from(eb.v4) };
    let at = SocketAddr::new(ip, 7);
    let (listener, client) = (socket(&b, ip), socket(&a, ip));
    listener.bind(at).expect("bind");
    listener.listen(4).expect("listen");
    client.connect(Some(at)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    client.set_nonblocking(true);
    server.set_nonblocking(true);
    let (mut there, mut back) = ([0; 2], [0; 2]);
    let (mut forth_open, mut back_open) = (true, true);
    let limit = world.now() + Duration::from_secs(3000);
    while forth_open || back_open {
        for (s, sent) in [(&client, &mut there[0]), (&server, &mut back[0])] {
            if *sent < BYTES {
                send_more(s, sent);
                if *sent == BYTES {
                    s.shutdown(libc::SHUT_WR).expect("shutdown");
                }
            }
        }
        forth_open = forth_open && receive_more(&server, &mut there[1]);
        back_open = back_open && receive_more(&client, &mut back[1]);
        world.run_for(Duration::from_millis(1));
        assert!(world.now() < limit, "{there:?} {back:?}");
    }
    assert_eq!((there[1], back[1]), (BYTES, BYTES));
    drop((client, server, listener));
    world.run_for(Duration::from_secs(10));
    for stack in [&a, &b] {
        let sockets = stack.registry.list().iter().find(|l| l.name == "FLOW").map(|l| l.sockets);
        assert_eq!(sockets, Some(0), "none is left");
    }
    let of = |name: &str| counter(&a, name) + counter(&b, name);
    Counts {
        sent: of("FlowOutSegs"),
        supers: of("FlowOutSupers"),
        again: of("FlowRetrans"),
        received: of("FlowInSegs"),
        received_supers: of("FlowInSupers"),
        errors: of("FlowInErrors"),
        carried: usersock::device::Device::stats(&*eb.link).rx_packets,
    }
}

fn wire() -> LinkConfig {
    LinkConfig::both(Direction::default().rate(1_000_000_000).delay(Duration::from_millis(2)))
}

#[test]
fn a_link_that_carries_super_packets_gets_them_whole() {
    for v6 in [false, true] {
        let c = run(&wire().offload(true), v6, false);
        assert!(c.supers > 20 && c.received_supers == c.supers, "{} of {}", c.received_supers, c.supers);
        assert_eq!((c.received, c.again, c.errors), (c.sent, 0, 0));
        assert!(c.carried < 2 * BYTES as u64 / 1448, "{} packets", c.carried);
    }
}

#[test]
fn a_link_that_does_not_gets_packets_of_its_mtu() {
    for (v6, ethernet) in [(false, false), (true, false), (false, true), (true, true)] {
        let c = run(&wire().ethernet(ethernet), v6, false);
        assert!(c.supers > 20 && c.received_supers == 0, "{} supers", c.supers);
        assert!(c.carried > BYTES as u64 / 1448, "{} packets", c.carried);
        assert!(c.received > 2 * BYTES as u64 / 1448 && c.errors == 0, "{} received, {} wrong", c.received, c.errors);
    }
}

#[test]
fn received_packets_are_joined_where_gro_is_on() {
    // Without a rate the pieces arrive together.
    let link = LinkConfig::both(Direction::default().delay(Duration::from_millis(2)));
    for v6 in [false, true] {
        let without = run(&link, v6, false);
        let with = run(&link, v6, true);
        assert!(with.received_supers > 20, "{} joined", with.received_supers);
        assert!(with.received < without.received / 2, "{} packets, {} without", with.received, without.received);
        assert_eq!(with.errors, 0);
    }
}

#[test]
fn lost_reordered_doubled_and_corrupted_pieces_are_sent_again() {
    for gro in [false, true] {
        let way = Direction::default().delay(Duration::from_millis(2));
        let way = way.loss(0.002).reorder(0.002).duplicate(0.002).corrupt(0.002);
        let c = run(&LinkConfig::both(way), gro, gro);
        assert!(c.again > 0 && c.supers > 20, "{} again", c.again);
        assert!(c.errors > 0, "a flipped bit is seen by the checksum of the piece");
    }
}

/// A handshake that failed leaves nothing to the next one, neither its tries; what a connection has left goes to no
/// other peer.
#[test]
fn a_socket_connects_again_only_if_it_never_was_connected() {
    let world = World::new(7);
    let [(a, ea), (b, eb)] = world.two(&wire()).expect("two stacks");
    for stack in [&a, &b] {
        loader::load(stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
    }
    let at = |port| Some(SocketAddr::new(IpAddr::from(eb.v4), port));
    let client = socket(&a, IpAddr::from(ea.v4));
    assert_eq!(client.connect(at(7)), Err(Error::TimedOut));
    let listeners = [7, 8].map(|port| {
        let listener = socket(&b, IpAddr::from(eb.v4));
        listener.bind(at(port).expect("an address")).expect("bind");
        listener.listen(4).expect("listen");
        listener
    });

    // The first SYN of this one is lost.
    client.set_nonblocking(true);
    eb.dev.set_up(false);
    assert_eq!(client.connect(at(7)), Err(Error::InProgress));
    world.run_for(Duration::from_millis(100));
    eb.dev.set_up(true);
    world.run_for(Duration::from_secs(1));
    let (server, _) = listeners[0].accept().expect("accept");
    // Without a second connect(2) that would say so it is connected, and may send.
    eb.dev.set_up(false);
    let secret = [IoSlice::new(b"for the first peer")];
    assert_eq!(client.sendmsg(&mut SendMsg::new(&secret, libc::MSG_NOSIGNAL)), Ok(18));
    world.run_for(Duration::from_secs(600));
    eb.dev.set_up(true);
    assert_eq!(client.connect(at(8)), Err(Error::TimedOut), "the end of the first connection");
    assert_eq!(client.connect(at(8)), Err(Error::IsConn));
    world.run_for(Duration::from_secs(10));
    listeners[1].set_nonblocking(true);
    assert!(matches!(listeners[1].accept(), Err(Error::Again)), "nobody has come");
    drop((client, server, listeners));
}

/// Set inside the namespace.
const INSIDE: &str = "USERSOCK_TEST_FLOW";
const OVER_TUN: &str = "a_stream_crosses_two_tun_devices_and_the_kernel_between";

fn ip(args: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let out = Command::new("ip").args(args.split(' ')).env("PATH", path).output().expect("ip starts");
    assert!(out.status.success(), "ip {args}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A stack on TUN device `dev` with host 2 of 10.9.`net`.0/24; the kernel is host 1 and its router.
fn stack_on_tun(dev: &str, net: u8) -> Arc<Stack> {
    let text = format!("plugin={},tun={dev},addr=10.9.{net}.2/24,gw=10.9.{net}.1", plugin().display());
    let stack = usersock::config::build(&text).unwrap_or_else(|e| panic!("{e}"));
    ip(&format!("addr add 10.9.{net}.1/24 dev {dev}"));
    stack
}

/// Two stacks whose packets the kernel forwards; it knows nothing of the protocol, and a TUN device cuts no
/// super-packet of it. Calls block.
fn over_tun() {
    loader::enable();
    let (a, b) = (stack_on_tun("uska", 0), stack_on_tun("uskb", 1));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the kernel forwards");
    let at: SocketAddr = "10.9.1.2:700".parse().expect("address");
    let listener = socket(&b, at.ip());
    listener.bind(at).expect("bind");
    listener.listen(1).expect("listen");
    let sender = {
        let a = a.clone();
        std::thread::spawn(move || {
            let s = socket(&a, at.ip());
            s.connect(Some(at)).expect("connect");
            let mut sent = 0;
            while sent < BYTES {
                send_more(&s, &mut sent);
            }
            s.shutdown(1).expect("shutdown");
            // Until the other end has ended, too.
            let mut nothing = 0;
            assert!(!receive_more(&s, &mut nothing));
        })
    };
    let (connection, _) = listener.accept().expect("accept");
    let mut got = 0;
    assert!(!receive_more(&connection, &mut got));
    assert_eq!(got, BYTES);
    drop(connection);
    sender.join().expect("the sender is well");
    assert!(counter(&a, "FlowOutSupers") > 0, "super-packets were made");
    assert_eq!(counter(&b, "FlowInSupers"), 0, "and cut before the device");
}

#[test]
fn a_stream_crosses_two_tun_devices_and_the_kernel_between() {
    if std::env::var_os(INSIDE).is_some() {
        return over_tun();
    }
    let permitted =
        |args: &[&str]| Command::new("unshare").args(args).arg("true").output().is_ok_and(|o| o.status.success());
    let how: &[&str] = if permitted(&["-n"]) { &["-n"] } else { &["-r", "-n"] };
    if !permitted(how) {
        return println!("SKIP {OVER_TUN}: no network namespace can be made");
    }
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return println!("SKIP {OVER_TUN}: /dev/net/tun: {error}");
    }
    let mut inside = Command::new("unshare");
    inside.args(how).arg(std::env::current_exe().expect("own path"));
    inside.args(["--exact", OVER_TUN, "--nocapture", "--test-threads=1"]).env(INSIDE, "1").stdin(Stdio::null());
    let out = inside.output().expect("unshare starts");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

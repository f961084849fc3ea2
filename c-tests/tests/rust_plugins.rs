//! Plug-ins in Rust, those of plugin/examples by the crate `usersock-plugin`: the programs that test the plug-ins in C
//! test them too; a stream over a bad link in virtual time; and panics in each function of a congestion control.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;
mod rust;

use harness::ours::{library, link_shared};
use harness::{Sanitizer, cc_of, compile, judge, out_dir};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

/// Runs `plugin_cases/<name>.c` with the plug-ins in Rust in place of those in C.
fn case(name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("plugin_cases/{name}.c"));
    let exe = out_dir().join(format!("rust-plugin-{name}"));
    let mut cc = cc_of(&source, Sanitizer::None, &exe);
    cc.arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"));
    link_shared(&mut cc, library());
    compile(cc, name, &exe);
    let mut command = Command::new(exe);
    command.arg(rust::examples()).env_remove("USERSOCK_CONFIG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    judge(name, command.output());
}

#[test]
fn tiny_does_what_it_does_in_c() {
    case("tiny");
}

#[test]
fn a_panic_in_each_operation_breaks_its_socket_and_nothing_else() {
    case("fragile");
}

#[test]
fn header_options_count_what_they_count_in_c() {
    case("expopt");
}

#[test]
fn a_device_carries_what_it_carries_in_c() {
    case("device");
}

#[test]
fn a_record_layer_does_what_it_does_in_c() {
    case("rec_ulp");
}

#[test]
fn a_record_layer_bears_what_a_hostile_peer_sends() {
    case("rec_ulp_hostile");
}

fn load_into(stack: &Arc<Stack>, name: &str) {
    loader::load(stack, &rust::examples().join(format!("{name}.so"))).unwrap_or_else(|e| panic!("{e}"));
}

fn socket(stack: &Arc<Stack>, ty: i32, protocol: i32) -> Socket {
    Socket::new(stack, libc::AF_INET, ty, protocol).expect("socket")
}

fn send(s: &Socket, bytes: &[u8]) -> Result<usize, Error> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(bytes)], libc::MSG_NOSIGNAL))
}

fn recv(s: &Socket, buf: &mut [u8]) -> Result<usize, Error> {
    s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(buf)], 0))
}

/// A counter of the stack.
fn counter(stack: &Stack, name: &str) -> u64 {
    stack.mib.named.list().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

/// Byte `at` of a stream that has no short period.
fn byte(at: usize) -> u8 {
    ((at % 65_521) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// As many bytes of the stream from `at` on as the socket takes.
fn send_more(s: &Socket, at: &mut usize, end: usize) {
    while *at < end {
        let chunk: Vec<u8> = (*at..end.min(*at + 5000)).map(byte).collect();
        match send(s, &chunk) {
            Ok(n) => *at += n,
            Err(Error::Again) => return,
            Err(e) => panic!("send: {e}"),
        }
    }
}

/// Compares as many bytes as there are; false at the end of the stream.
fn receive_more(s: &Socket, at: &mut usize) -> bool {
    let mut buf = [0; 4096];
    loop {
        match recv(s, &mut buf) {
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

#[test]
fn a_stream_protocol_crosses_a_link_that_loses_doubles_and_reorders() {
    const STEP: i32 = 253;
    const BYTES: usize = 300_000;
    for (seed, loss) in [(1, 0.0), (2, 0.05), (3, 0.2)] {
        let world = World::new(seed);
        let way = Direction::default().rate(50_000_000).delay(Duration::from_millis(2));
        let way = way.loss(loss).reorder(loss / 4.0).duplicate(loss / 4.0);
        let [(a, _), (b, eb)] = world.two(&LinkConfig::default().forth(way).back(way)).expect("two stacks");
        load_into(&a, "step");
        load_into(&b, "step");
        let at = SocketAddr::new(eb.v4.into(), 7);
        let (listener, client) = (socket(&b, libc::SOCK_STREAM, STEP), socket(&a, libc::SOCK_STREAM, STEP));
        listener.bind(at).expect("bind");
        listener.listen(4).expect("listen");
        client.connect(Some(at)).expect("connect");
        let (server, peer) = listener.accept().expect("accept");
        assert_eq!(Some(peer), client.local_addr().ok(), "seed {seed}");
        client.set_nonblocking(true);
        server.set_nonblocking(true);
        // Both ways at once; each end ends when all is sent.
        let (mut there, mut back) = ([0; 2], [0; 2]);
        let (mut forth_open, mut back_open) = (true, true);
        let limit = world.now() + Duration::from_secs(600);
        while forth_open || back_open {
            for (s, sent) in [(&client, &mut there[0]), (&server, &mut back[0])] {
                if *sent < BYTES {
                    send_more(s, sent, BYTES);
                    if *sent == BYTES {
                        s.shutdown(libc::SHUT_WR).expect("shutdown");
                    }
                }
            }
            forth_open = forth_open && receive_more(&server, &mut there[1]);
            back_open = back_open && receive_more(&client, &mut back[1]);
            world.run_for(Duration::from_millis(1));
            assert!(world.now() < limit, "seed {seed}: {there:?} {back:?}");
        }
        assert_eq!((there[1], back[1]), (BYTES, BYTES), "seed {seed}");
        let again = counter(&a, "StepRetransSegs") + counter(&b, "StepRetransSegs");
        assert_eq!(again > 0, loss > 0.0, "seed {seed}: {again} sent again");
        // All of it ends: no socket of the protocol is left, so it can be taken out.
        drop((client, server, listener));
        world.run_for(Duration::from_secs(10));
        for stack in [&a, &b] {
            assert_eq!(stack.registry.list().iter().find(|l| l.name == "STEP").map(|l| l.sockets), Some(0));
        }
    }
}

/// A connection of two sockets that send with `shaky` between two stacks.
fn shaky_pair(a: &Arc<Stack>, at: SocketAddr, listener: &Socket) -> (Socket, Socket) {
    let client = socket(a, libc::SOCK_STREAM, 0);
    client.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"shaky").expect("TCP_CONGESTION");
    client.connect(Some(at)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    client.set_nonblocking(true);
    server.set_nonblocking(true);
    (client, server)
}

/// Places of plugin/examples/shaky.rs.
const PLACES: [&str; 13] = [
    "init",
    "ssthresh",
    "cong_avoid",
    "undo_cwnd",
    "pkts_acked",
    "in_ack_event",
    "set_state",
    "cwnd_event",
    "min_tso_segs",
    "sndbuf_expand",
    "get_info",
    "release",
    "drop",
];

#[test]
fn a_panic_in_each_function_of_an_algorithm_breaks_its_connection_and_nothing_else() {
    const BYTES: usize = 400_000;
    // What the simulated run does not come to: no loss of it is spurious.
    let never = ["undo_cwnd"];
    for (place, name) in PLACES.iter().enumerate() {
        let world = World::new(5);
        let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(10));
        let link = LinkConfig::default().forth(way.loss(0.02)).back(way);
        let [(a, _), (b, eb)] = world.two(&link).expect("two stacks");
        load_into(&a, "shaky");
        let at = SocketAddr::new(eb.v4.into(), 80);
        let listener = socket(&b, libc::SOCK_STREAM, 0);
        listener.bind(at).expect("bind");
        listener.listen(4).expect("listen");
        let (good, good_peer) = shaky_pair(&a, at, &listener);
        let set = |value: usize| a.sysctl.set("net.shaky.panic_in", &value.to_string()).expect("the sysctl");
        // One connection meets the panic, beside one that has begun and is idle.
        set(place + 1);
        let bad = socket(&a, libc::SOCK_STREAM, 0);
        let chosen = bad.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"shaky");
        let mut broken = chosen == Err(Error::Io) || bad.connect(Some(at)) == Err(Error::Io);
        bad.set_nonblocking(true);
        let mut sent = 0;
        let peer = (!broken).then(|| listener.accept().expect("accept").0);
        while !broken && sent < BYTES {
            let chunk: Vec<u8> = (sent..BYTES.min(sent + 5000)).map(byte).collect();
            match send(&bad, &chunk) {
                Ok(n) => sent += n,
                Err(Error::Again) => {}
                Err(e) => {
                    assert_eq!(e, Error::Io, "{name}");
                    broken = true;
                }
            }
            let mut buf = [0; 65_536];
            let _ = peer.as_ref().map(|p| p.set_nonblocking(true));
            let _ = peer.as_ref().map(|p| recv(p, &mut buf));
            world.run_for(Duration::from_millis(2));
        }
        let mut info = [0; 64];
        // The call that breaks it has an answer of TCP's own; the next does not.
        let _ = bad.getsockopt(libc::IPPROTO_TCP, libc::TCP_CC_INFO, &mut info);
        broken |= send(&bad, b"more") == Err(Error::Io);
        let in_the_end = ["release", "drop"].contains(name);
        assert_eq!(broken, !in_the_end && !never.contains(name), "{name}");
        drop((bad, peer));
        world.run_for(Duration::from_secs(120));
        set(0);
        // The other one goes on as if nothing had been.
        let (mut there, mut back) = (0, 0);
        while back < BYTES {
            send_more(&good, &mut there, BYTES);
            assert!(receive_more(&good_peer, &mut back), "{name}");
            world.run_for(Duration::from_millis(2));
        }
        assert!(counter(&a, "ShakyMade") >= 2, "{name}");
        drop((good, good_peer, listener));
        world.run_for(Duration::from_secs(120));
        // No connection of it is left.
        assert_eq!(usersock::tcp::cong::unregister(&a, "shaky"), Ok(()), "{name}");
    }
}

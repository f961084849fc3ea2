//! Plug-ins in Rust, those of plugin/examples by the crate `usersock-plugin`: the programs that test the plug-ins in C
//! test them too; a stream over a bad link in virtual time; what an algorithm, hooks and a protocol are told. In
//! `panics`: a panic in each function of a plug-in.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;
#[path = "rust_plugins/panics.rs"]
mod panics;
mod rust;

use harness::ours::{library, link_shared};
use harness::{Sanitizer, cc_of, compile, judge, out_dir, sanitizer_env};
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

/// Runs `plugin_cases/<name>.c` with the plug-ins in Rust in place of those in C; under the address sanitizer too,
/// which sees what they do not free.
fn case(name: &str) {
    run_case(name, Sanitizer::None);
    if Sanitizer::Address.works() {
        run_case(name, Sanitizer::Address);
    }
}

fn run_case(name: &str, sanitizer: Sanitizer) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("plugin_cases/{name}.c"));
    let exe = out_dir().join(format!("rust-plugin-{}-{name}", sanitizer.suffix()));
    let mut cc = cc_of(&source, sanitizer, &exe);
    cc.arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"));
    link_shared(&mut cc, library());
    compile(cc, name, &exe);
    let mut command = Command::new(exe);
    command.arg(rust::examples()).env_remove("USERSOCK_CONFIG").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    sanitizer_env(&mut command);
    judge(name, command.output());
}

#[test]
fn tiny_does_what_it_does_in_c() {
    case("tiny");
}

#[test]
fn udp_lite_does_what_it_does_in_c_and_in_the_kernel() {
    case("udplite");
}

#[test]
fn a_protocol_with_a_timer_of_its_own_visits_its_socks() {
    const BEAT: i32 = 249;
    let world = World::new(1);
    let [(a, _), _] = world.two(&LinkConfig::default()).expect("two stacks");
    load_into(&a, "beat");
    let socks = [7, 8].map(|port| {
        let s = socket(&a, libc::SOCK_DGRAM, BEAT);
        s.bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("bind");
        s
    });
    let mut buf = [0; 8];
    for beat in 1..=3u64 {
        for s in &socks {
            assert_eq!(recv(s, &mut buf), Ok(8));
            assert_eq!((u64::from_be_bytes(buf), world.now().as_nanos() / 1_000_000), (beat * 1000, beat * 1000));
        }
    }
    // Deferred work runs after the timer that asked for it.
    world.run_for(Duration::from_millis(1));
    assert_eq!((counter(&a, "BeatBeats"), counter(&a, "BeatTicks")), (3, 6));
    drop(socks);
    world.run_for(Duration::from_secs(10));
    assert_eq!(counter(&a, "BeatBeats"), 3, "without socks the beat has ended");
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
fn a_transport_over_udp_does_what_it_does_in_c() {
    case("quick");
}

#[test]
fn messages_over_inner_socks_of_tcp_do_what_they_do_in_c() {
    case("frame");
}

#[test]
fn a_record_layer_does_what_it_does_in_c() {
    case("rec_ulp");
}

#[test]
fn a_record_layer_bears_what_a_hostile_peer_sends() {
    case("rec_ulp_hostile");
}

#[test]
fn a_tcp_beside_the_library_s_does_what_it_does_in_c() {
    case("tcp_stack");
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

#[test]
fn super_packets_arrive_whole_cut_and_joined() {
    const BLOCKS: i32 = 254;
    const BYTES: usize = 50_000;
    let wire = LinkConfig::both(Direction::default().delay(Duration::from_millis(1)));
    // As many packets as the link carries; what the receiver gets: all that it can join, of that at most 64 KiB.
    for (link, gro, packets, supers) in [
        (wire.clone(), false, BYTES.div_ceil(1500 - 20 - 12), 0),
        (wire.clone(), true, 1, 1),
        (wire.offload(true), false, 1, 1),
    ] {
        let world = World::new(1);
        let [(a, _), (b, eb)] = world.two(&link).expect("two stacks");
        load_into(&a, "blocks");
        load_into(&b, "blocks");
        eb.dev.set_gro(gro);
        let at = SocketAddr::new(eb.v4.into(), 7);
        let (from, to) = (socket(&a, libc::SOCK_DGRAM, BLOCKS), socket(&b, libc::SOCK_DGRAM, BLOCKS));
        to.bind(at).expect("bind");
        from.connect(Some(at)).expect("connect");
        to.set_nonblocking(true);
        // SIZE: more than the path carries.
        from.setsockopt(BLOCKS, 1, &60_000i32.to_ne_bytes()).expect("SIZE");
        let bytes: Vec<u8> = (0..BYTES).map(byte).collect();
        assert_eq!(send(&from, &bytes), Ok(BYTES));
        assert_eq!(send(&from, &vec![0; 65_535 - 20 - 11]), Err(Error::MsgSize));
        world.run_for(Duration::from_millis(10));
        let (mut got, mut buf) = (Vec::new(), vec![0; 65_536]);
        while let Ok(n) = recv(&to, &mut buf) {
            got.extend_from_slice(&buf[..n]);
        }
        assert!(got == bytes, "{} bytes came", got.len());
        let counted = ["BlocksOut", "BlocksIn", "BlocksInSupers"].map(|n| counter(&a, n) + counter(&b, n));
        assert_eq!(counted, [1, packets as u64, supers], "gro {gro}");
    }
}

/// Two stacks with `gauge` and a link between them; the second one's address.
fn gauged(world: &World) -> (Arc<Stack>, Arc<Stack>, std::net::IpAddr) {
    let link = LinkConfig::both(Direction::default().delay(Duration::from_millis(10)));
    let [(a, _), (b, eb)] = world.two(&link).expect("two stacks");
    load_into(&a, "gauge");
    load_into(&b, "gauge");
    (a, b, eb.v4.into())
}

#[test]
fn a_protocol_says_how_its_packet_leaves_and_learns_how_it_came_and_what_became_of_it() {
    let world = World::new(1);
    let (a, b, ip) = gauged(&world);
    let gauge = |stack| {
        let s = socket(stack, libc::SOCK_DGRAM, 252);
        s.set_nonblocking(true);
        s
    };
    let (from, to) = (gauge(&a), gauge(&b));
    to.bind(SocketAddr::new(ip, 5)).expect("bind");
    to.setsockopt(libc::SOL_IP, libc::IP_RECVTTL, &1i32.to_ne_bytes()).expect("IP_RECVTTL");
    from.connect(Some(SocketAddr::new(ip, 5))).expect("connect");
    assert_eq!(send(&from, b"payload"), Ok(7));
    world.run_for(Duration::from_millis(50));
    let mut buf = [0; 8];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut msg = RecvMsg::new(&mut slices, 0);
    assert_eq!(to.recvmsg(&mut msg), Ok(2));
    assert_eq!(format!("{:?}", msg.control), "[Ttl(7)]");
    assert_eq!(buf[..2], [7, 2], "its TTL, and ECT(0)");
    assert_eq!(counter(&b, "GaugeTtl"), 7);
    // One byte more than the path takes, and not to be fragmented.
    assert_eq!(send(&from, &[0; 1477]), Err(Error::MsgSize));
    assert_eq!(send(&from, &[0; 1476]), Ok(1476));
    world.run_for(Duration::from_millis(50));

    // Nobody has the protocol there: ICMP says so.
    drop(to);
    let plain = World::new(2);
    let link = LinkConfig::both(Direction::default().delay(Duration::from_millis(10)));
    let [(a, _), (_b, eb)] = plain.two(&link).expect("two stacks");
    load_into(&a, "gauge");
    let from = gauge(&a);
    from.connect(Some(SocketAddr::new(eb.v4.into(), 5))).expect("connect");
    assert_eq!(send(&from, b"anybody?"), Ok(8));
    plain.run_for(Duration::from_millis(50));
    assert_eq!(counter(&a, "GaugeErrors"), 1);
    assert_eq!(send(&from, b"anybody?"), Err(Error::NoProtoOpt));
}

fn listening(stack: &Arc<Stack>, at: SocketAddr) -> Result<Socket, Error> {
    let listener = socket(stack, libc::SOCK_STREAM, 0);
    listener.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &1i32.to_ne_bytes()).expect("SO_REUSEADDR");
    listener.bind(at).expect("bind");
    listener.listen(4)?;
    listener.set_nonblocking(true);
    Ok(listener)
}

/// Connects, waits until it is done, and sends `bytes` there.
fn connection(world: &World, a: &Arc<Stack>, b: &Arc<Stack>, at: SocketAddr, bytes: usize, set: impl Fn(&Socket)) {
    let listener = listening(b, at).expect("listen");
    let client = socket(a, libc::SOCK_STREAM, 0);
    set(&client);
    client.set_nonblocking(true);
    assert_eq!(client.connect(Some(at)), Err(Error::InProgress));
    world.run_for(Duration::from_millis(100));
    let (server, _) = listener.accept().expect("accept");
    server.set_nonblocking(true);
    let (mut there, mut back, mut got) = (0, 0, vec![0; 65_536]);
    while back < bytes {
        while there < bytes && send(&client, &[byte(there)]).is_ok() {
            there += 1;
        }
        world.run_for(Duration::from_millis(5));
        back += recv(&server, &mut got).unwrap_or(0);
    }
    // The acknowledgements.
    world.run_for(Duration::from_millis(100));
}

#[test]
fn an_algorithm_sees_each_packet_that_arrives_and_is_replaced_while_it_is_used() {
    let world = World::new(3);
    let (a, b, ip) = gauged(&world);
    let choose = |s: &Socket| {
        s.setsockopt(libc::IPPROTO_TCP, libc::TCP_NODELAY, &1i32.to_ne_bytes()).expect("TCP_NODELAY");
        s.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"gauged").expect("TCP_CONGESTION");
    };
    load_into(&a, "gauged");
    connection(&world, &a, &b, SocketAddr::new(ip, 80), 5, choose);
    assert_eq!(counter(&a, "GaugedPackets"), 5, "one a byte");
    let old = socket(&a, libc::SOCK_STREAM, 0);
    choose(&old);
    load_into(&a, "gauged");
    connection(&world, &a, &b, SocketAddr::new(ip, 81), 5, choose);
    assert_eq!(counter(&a, "GaugedPackets"), 11, "the counter goes on, from the FIN of the first on");
    // One that does not say that it replaces is refused.
    load_into(&a, "westwood");
    let again = loader::load(&a, &rust::examples().join("westwood.so")).err();
    let line = again.map(|e| e.to_string()).unwrap_or_default();
    assert!(line.contains("westwood"), "{line:?}");
}

#[test]
fn hooks_are_for_the_connections_that_are_chosen_and_their_value_ends_with_them() {
    let world = World::new(4);
    let (a, b, ip) = gauged(&world);
    let (mut told, tell) = std::io::pipe().expect("a pipe");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&tell);
    a.sysctl.set("net.chosen.tell", &fd.to_string()).expect("the sysctl");
    let counters = |stack: &Stack| {
        ["ChosenBegun", "ChosenDetached", "ChosenAgreed", "ChosenWritten"].map(|name| counter(stack, name))
    };
    connection(&world, &a, &b, SocketAddr::new(ip, 80), 1, |_| {});
    // The listener is asked: a peer of it may have the port of the filter.
    assert_eq!((counters(&a), counters(&b)), ([0; 4], [1, 0, 0, 0]));
    // By the filters of both ends.
    connection(&world, &a, &b, SocketAddr::new(ip, 4711), 1, |_| {});
    world.run_for(Duration::from_secs(1));
    let [begun, detached, agreed, written] = counters(&a);
    assert!((begun, detached, agreed) == (1, 0, 1) && written >= 3, "{:?}", counters(&a));
    assert_eq!(counters(&b)[0], 2);
    // By name, and then by filters no more.
    let hooks = |s: &Socket, option| s.setsockopt(libc::IPPROTO_TCP, option, b"chosen");
    let here = socket(&a, libc::SOCK_STREAM, 0);
    hooks(&here, usersock_ffi::socket::USK_TCP_HOOKS).expect("attached");
    assert_eq!(hooks(&here, usersock_ffi::socket::USK_TCP_HOOKS), Err(Error::Exist));
    hooks(&here, usersock_ffi::socket::USK_TCP_HOOKS_DETACH).expect("detached");
    connection(&world, &a, &b, SocketAddr::new(ip, 4711), 1, |_| {});
    assert_eq!(counters(&a), [2, 1, 1, written]);

    // The value is dropped with its registration, in this stack alone.
    usersock::tcp::sock_ops::unregister(&a, "chosen").map(drop).expect("registered");
    drop((here, a, b, world));
    drop(tell);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut told, &mut bytes).expect("read");
    assert_eq!(bytes, b"d");
}

#[test]
fn a_plug_in_says_why_it_is_not_loaded() {
    let stack = usersock::config::build("").expect("a stack");
    let refused = loader::load(&stack, &rust::examples().join("refuses.so")).err();
    let line = refused.map(|e| e.to_string()).unwrap_or_default();
    assert!(line.ends_with("the moon is in the wrong quarter"), "{line:?}");
}

//! A panic in each function of a plug-in in Rust ends what it was called for, and nothing else: of a congestion
//! control, of hooks, of a layer, of a device.

use super::*;

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
const PLACES: [&str; 14] = [
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
    "pkts_delivered",
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

/// A listener of `b` and a way to it.
fn two_hosts(world: &World, loss: f64) -> (Arc<Stack>, Arc<Stack>, SocketAddr) {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(10));
    let link = LinkConfig::default().forth(way.loss(loss)).back(way);
    let [(a, _), (b, eb)] = world.two(&link).expect("two stacks");
    load_into(&a, "quake");
    load_into(&b, "quake");
    (a, b, SocketAddr::new(eb.v4.into(), 80))
}

/// Connects and sends `bytes`; says whether any of the sockets is broken by then.
fn meets_a_panic(world: &World, a: &Arc<Stack>, b: &Arc<Stack>, at: SocketAddr, bytes: usize) -> bool {
    let Ok(listener) = listening(b, at) else { return true };
    let client = socket(a, libc::SOCK_STREAM, 0);
    client.set_nonblocking(true);
    let connected = client.connect(Some(at));
    assert!(matches!(connected, Err(Error::InProgress | Error::Io)), "{connected:?}");
    let (mut sent, mut got, mut server) = (0, 0, None);
    let end = world.now() + Duration::from_secs(60);
    let mut buf = [0; 65_536];
    while got < bytes && world.now() < end {
        if server.is_none() {
            match listener.accept() {
                Ok((s, _)) => {
                    s.set_nonblocking(true);
                    server = Some(s);
                }
                Err(Error::Again) => {}
                Err(e) => return e == Error::Io,
            }
        }
        let chunk: Vec<u8> = (sent..bytes.min(sent + 5000)).map(byte).collect();
        match send(&client, &chunk) {
            Ok(n) => sent += n,
            Err(Error::Again) => {}
            Err(e) => return e == Error::Io,
        }
        match server.as_ref().map_or(Err(Error::Again), |s| recv(s, &mut buf)) {
            Ok(n) => got += n,
            Err(Error::Again) => {}
            Err(e) => return e == Error::Io,
        }
        world.run_for(Duration::from_millis(2));
    }
    false
}

#[test]
fn a_panic_in_each_hook_breaks_its_socket_and_nothing_else() {
    const BYTES: usize = 300_000;
    for place in 1..=15 {
        let world = World::new(place);
        // Place 9 is the timeout of a retransmission, which it takes much loss to come to; 4 is what a plug-in's
        // algorithm asks for.
        let (a, b, at) = two_hosts(&world, if place == 9 { 0.2 } else { 0.05 });
        load_into(&a, "shaky");
        a.sysctl.set("net.ipv4.tcp_congestion_control", "shaky").expect("the sysctl");
        let set = |value: u64| {
            for stack in [&a, &b] {
                stack.sysctl.set("net.quake.panic_in", &value.to_string()).expect("the sysctl");
            }
        };
        // A connection from before goes on after it.
        let listener = listening(&b, SocketAddr::new(at.ip(), 81)).expect("listen");
        let good = socket(&a, libc::SOCK_STREAM, 0);
        good.connect(Some(SocketAddr::new(at.ip(), 81))).expect("connect");
        world.run_for(Duration::from_secs(5));
        let (peer, _) = listener.accept().expect("accept");
        set(place);
        let broken = meets_a_panic(&world, &a, &b, at, BYTES);
        set(0);
        assert!(broken, "place {place}");
        good.set_nonblocking(true);
        peer.set_nonblocking(true);
        let (mut there, mut back) = (0, 0);
        while back < BYTES {
            send_more(&good, &mut there, BYTES);
            assert!(receive_more(&peer, &mut back), "place {place}");
            world.run_for(Duration::from_millis(2));
        }
        world.run_for(Duration::from_secs(120));
        assert!(!meets_a_panic(&world, &a, &b, at, BYTES), "place {place}: after it");
    }
}

/// Puts the layer on a connection.
fn layered(s: &Socket) -> Result<(), Error> {
    s.setsockopt(libc::IPPROTO_TCP, libc::TCP_ULP, b"quakelayer")
}

/// Does what calls an operation of the layer on `bad`; each that has a result fails.
fn provoke(name: &str, bad: &Socket, bad_peer: &Socket) {
    let (mut buf, one) = ([0; 8], 1i32.to_ne_bytes());
    match name {
        "init" => assert_eq!(layered(bad), Err(Error::Io)),
        "sendmsg" => assert_eq!(send(bad, b"x"), Err(Error::Io)),
        "recvmsg" => assert_eq!(recv(bad, &mut buf), Err(Error::Io)),
        "poll" => drop(bad.poll()),
        "shutdown" => drop(bad.shutdown(libc::SHUT_WR)),
        "setsockopt" => assert_eq!(bad.setsockopt(6, libc::TCP_NODELAY, &one), Err(Error::Io)),
        "getsockopt" => assert_eq!(bad.getsockopt(6, libc::TCP_NODELAY, &mut buf), Err(Error::Io)),
        "ioctl" => assert_eq!(bad.ioctl(libc::FIONREAD), Err(Error::Io)),
        "backlog_rcv" => drop(send(bad_peer, b"x")),
        // What is corked leaves when a timer fires.
        "release_cb" => {
            assert_eq!(bad.setsockopt(6, libc::TCP_CORK, &one), Ok(()));
            assert_eq!(send(bad, b"x"), Ok(1));
        }
        "may_remove" => assert_eq!(bad.remove_ulp(), Err(Error::Io)),
        "disconnect" => assert_eq!(bad.connect(None), Err(Error::Io)),
        _ => {}
    }
}

#[test]
fn a_panic_in_each_operation_of_a_layer_breaks_its_connection_and_nothing_else() {
    const NAMES: [&str; 14] = [
        "init",
        "clone",
        "sendmsg",
        "recvmsg",
        "poll",
        "close",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "ioctl",
        "backlog_rcv",
        "release_cb",
        "may_remove",
        "disconnect",
    ];
    for (i, name) in NAMES.iter().enumerate() {
        let world = World::new(3);
        let (a, b, at) = two_hosts(&world, 0.0);
        let listener = listening(&b, at).expect("listen");
        let pair = |with: bool| {
            let client = socket(&a, libc::SOCK_STREAM, 0);
            client.connect(Some(at)).expect("connect");
            world.run_for(Duration::from_secs(1));
            let (server, _) = listener.accept().expect("accept");
            client.set_nonblocking(true);
            server.set_nonblocking(true);
            if with {
                layered(&client).expect("TCP_ULP");
            }
            (client, server)
        };
        let set = |stack: &Arc<Stack>, value: usize| {
            stack.sysctl.set("net.quakelayer.panic_in", &value.to_string()).expect("the sysctl");
        };
        let (good, good_peer) = pair(true);
        let (bad, bad_peer) = pair(*name != "init");
        if *name == "clone" {
            layered(&listener).expect("TCP_ULP");
            set(&b, 2);
            let client = socket(&a, libc::SOCK_STREAM, 0);
            client.set_nonblocking(true);
            let _ = client.connect(Some(at));
            world.run_for(Duration::from_secs(3));
        }
        set(&a, i + 1);
        provoke(name, &bad, &bad_peer);
        world.run_for(Duration::from_secs(2));
        // The end comes after the panic: what the layer did in `close` nobody can ask any more.
        if !["clone", "close"].contains(name) {
            assert_eq!(send(&bad, b"y"), Err(Error::Io), "{name}");
        }
        drop((bad, bad_peer));
        world.run_for(Duration::from_secs(2));
        set(&a, 0);
        set(&b, 0);
        let (mut there, mut back) = (0, 0);
        while back < 50_000 {
            send_more(&good, &mut there, 50_000);
            assert!(receive_more(&good_peer, &mut back), "{name}");
            world.run_for(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_panic_in_each_function_of_a_device_breaks_the_device_and_nothing_else() {
    let names = ["none", "open", "recv", "xmit", "poll_fd", "next_event", "has_pending", "drop"];
    for (place, name) in names.iter().enumerate() {
        let plugin = rust::examples().join("quake.so");
        usersock_ffi::loader::enable();
        let config = format!("plugin={},device=quakedev:{place},addr=10.9.0.1/24", plugin.display());
        let built = usersock::config::build(&config);
        // Two of them refuse the device.
        assert_eq!(built.is_err(), ["open", "poll_fd"].contains(name), "{name}");
        let Ok(stack) = built else { continue };
        let udp = socket(&stack, libc::SOCK_DGRAM, 0);
        udp.connect(Some("10.9.0.2:9".parse().expect("an address"))).expect("connect");
        for _ in 0..3 {
            assert!(matches!(send(&udp, b"x"), Ok(1) | Err(Error::NoBufs | Error::NetDown | Error::Io)), "{name}");
        }
        // The stack and its loopback go on.
        let (here, other) = (socket(&stack, libc::SOCK_DGRAM, 0), socket(&stack, libc::SOCK_DGRAM, 0));
        here.bind("127.0.0.1:7".parse().expect("an address")).expect("bind");
        other.connect(Some("127.0.0.1:7".parse().expect("an address"))).expect("connect");
        assert_eq!(send(&other, b"hello"), Ok(5), "{name}");
        let mut buf = [0; 8];
        assert_eq!((recv(&here, &mut buf), &buf[..5]), (Ok(5), &b"hello"[..]), "{name}");
    }
    let config = format!("plugin={},device=quakedev:x", rust::examples().join("quake.so").display());
    let line = usersock::config::build(&config).err().map(|e| e.message).unwrap_or_default();
    assert!(line.ends_with("not a number: the place that panics"), "{line:?}");
}

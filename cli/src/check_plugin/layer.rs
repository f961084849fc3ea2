//! Layers on TCP: the program's bytes come out as they went in, and the calls keep what they promise. What holds of
//! each protocol's sockets is asked of TCP's with the layer on both ends.

use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{PORT, Pair, Random, Scene, TCP_ULP, calm, recv, send, set_int};
use super::states::poll_holds;
use super::{calls, flow, network, process, states};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;

pub(super) fn bytes(part: &Part) -> Outcome {
    network::bytes(part)
}

pub(super) fn bad_link(part: &Part) -> Outcome {
    network::bad_link(part)?;
    let way = Direction::default().rate(5_000_000).delay(Duration::from_millis(10)).loss(0.02);
    Scene::each(part, &LinkConfig::both(way).mtu(1280), |scene| {
        let pair = scene.pair()?;
        for s in &pair.ends {
            set_int(s, libc::SOL_SOCKET, libc::SO_SNDBUF, 4000).must("SO_SNDBUF")?;
            set_int(s, libc::SOL_SOCKET, libc::SO_RCVBUF, 4000).must("SO_RCVBUF")?;
        }
        flow::connection(scene, &pair, 60_000)
    })
}

pub(super) fn poll(part: &Part) -> Outcome {
    calls::nonblock(part)?;
    calls::timeouts(part)?;
    calls::wake(part)?;
    calls::poll(part)?;
    calls::full(part)
}

pub(super) fn close(part: &Part) -> Outcome {
    states::close(part)?;
    states::close_cut_off(part)?;
    states::states_shut(part)?;
    states::states_peer_closed(part)?;
    Scene::each(part, &calm(), |scene| {
        // connect(2) to AF_UNSPEC: the connection has ended, and the socket makes another one.
        let Pair { ends: [a, b], listener, .. } = scene.pair()?;
        send(&a, &[1; 3000], 0).must("send")?;
        scene.settle();
        recv(&b, 100, libc::MSG_DONTWAIT).must("recv")?;
        a.connect(None).must("connect to AF_UNSPEC")?;
        drop(b);
        scene.world.run_for(Duration::from_secs(1));
        a.connect(Some(scene.addr(1, PORT))).must("connect, after another connection has ended")?;
        let Some(listener) = listener else { return Ok(()) };
        scene.settle();
        let (b, _) = listener.accept().must("accept")?;
        for s in [&a, &b] {
            match s.setsockopt(libc::IPPROTO_TCP, TCP_ULP, part.table.as_bytes()) {
                // The first one has it still.
                Ok(()) | Err(Error::Exist) => {}
                r => r.must("TCP_ULP, on another connection")?,
            }
        }
        let pair = Pair { ends: [a, b], to: [None, None], listener: Some(listener) };
        flow::connection(scene, &pair, 30_000)
    })
}

/// The peer is a program without the layer, which sends noise, and ends in the middle.
pub(super) fn garbage(part: &Part) -> Outcome {
    let mut random = Random(part.seed);
    for round in 0..60 {
        let scene = Scene::with(part, &calm(), round % 2 == 1, [false, true])?;
        let Pair { ends: [peer, us], listener, .. } = scene.pair()?;
        for _ in 0..1 + random.below(6) {
            let n = random.below(3000);
            let mut noise = random.bytes(n);
            if random.below(2) == 0 {
                // Small numbers are what lengths are taken for.
                noise.iter_mut().take(8).for_each(|b| *b &= 1);
            }
            let _ = send(&peer, &noise, libc::MSG_DONTWAIT);
            scene.settle();
            let r = recv(&us, 5000, libc::MSG_DONTWAIT);
            ensure!(r != Err(Error::Io) && !us.sock().is_broken(), "noise from the peer has broken the socket");
            poll_holds("noise has come", &us)?;
            let _ = send(&us, &[1; 100], libc::MSG_DONTWAIT);
        }
        match round % 3 {
            0 => drop(peer.shutdown(libc::SHUT_WR)),
            1 => peer.close(),
            _ => {}
        }
        scene.settle();
        let _ = recv(&us, 5000, libc::MSG_DONTWAIT);
        poll_holds("noise has ended", &us)?;
        drop((peer, us, listener));
        scene.finish()?;
    }
    Ok(())
}

/// A listener is refused the layer, or its children have it.
pub(super) fn listener(part: &Part) -> Outcome {
    let scene = Scene::new(part, &calm(), false)?;
    let listener = scene.server()?;
    match listener.setsockopt(libc::IPPROTO_TCP, TCP_ULP, part.table.as_bytes()) {
        Ok(()) => {
            let client = scene.socket_on(0)?;
            client.connect(Some(scene.addr(1, PORT))).must("connect")?;
            client.setsockopt(libc::IPPROTO_TCP, TCP_ULP, part.table.as_bytes()).must("TCP_ULP")?;
            let (server, _) = listener.accept().must("accept")?;
            let pair = Pair { ends: [client, server], to: [None, None], listener: Some(listener) };
            flow::connection(&scene, &pair, 50_000)?;
            drop(pair);
        }
        Err(Error::Inval | Error::OpNotSupp | Error::NotConn) => drop(listener),
        Err(e) => return Err(Finding::Wrong(format!("TCP_ULP of a listener: {}", e.name()))),
    }
    scene.finish()
}

pub(super) fn repeat(part: &Part) -> Outcome {
    network::repeat(part)
}

pub(super) fn unload(part: &Part) -> Outcome {
    let scene = Scene::new(part, &calm(), false)?;
    let pair = scene.pair()?;
    for host in 0..2 {
        let r = scene.unload(host);
        ensure!(r == Err(Error::Busy), "with a connection that has it, unloading returns {r:?}, and not EBUSY");
    }
    pair.send(0, b"still there", 0).must("send, when unloading was refused,")?;
    scene.settle();
    let r = pair.recv(1, libc::MSG_DONTWAIT).must("recv, when unloading was refused,")?;
    ensure!(r.bytes == b"still there", "when unloading was refused, {:?} is received", r.bytes);
    // It can be taken off again, unless bytes are neither here nor there.
    for s in &pair.ends {
        match s.remove_ulp() {
            Ok(()) | Err(Error::Busy | Error::OpNotSupp) => {}
            r => r.must("taking it off")?,
        }
    }
    drop(pair);
    scene.finish()
}

pub(super) fn memory(part: &Part) -> Outcome {
    process::memory(part)
}

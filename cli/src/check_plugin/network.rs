//! Protocols: bad links, packets of any bytes, ICMP errors, and whether a history repeats. What is connection-oriented
//! delivers all, once and in order, whatever the link does; of datagrams nothing may arrive that was not sent. The
//! packets of a transport over UDP or TCP are those of its carrier.

use super::flow;
use super::part::{Finding, Must, Outcome, Part, ensure, trace};
use super::scene::{PORT, Pair, ROOM, Random, Scene, calm, recv, send_to, set_int};
use super::states::poll_holds;
use std::io::IoSlice;
use std::net::IpAddr;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::env::Instant;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::msg::SendMsg;
use usersock::wire::checksum;

/// Bytes each way where the link is good, and where it is bad.
const MANY: usize = 400_000;
const FEW: usize = 120_000;
/// Packets that a fuzzed socket gets.
const HOSTILE: usize = 3000;

pub(super) fn bytes(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        flow::both_ways(scene, &pair, MANY, true)
    })
}

/// Loss, reordering, duplicates and corruption, each alone and all together.
pub(super) fn bad_link(part: &Part) -> Outcome {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(5));
    for (what, way) in [
        ("loss", way.loss(0.05)),
        ("reordering", way.reorder(0.1).reorder_by(Duration::from_millis(12))),
        ("duplicates", way.duplicate(0.1)),
        ("corruption", way.corrupt(0.05)),
        ("all of it", way.loss(0.03).reorder(0.03).duplicate(0.03).corrupt(0.03)),
    ] {
        let named = |f| match f {
            Finding::Wrong(why) => Finding::Wrong(format!("with {what}: {why}")),
            unchecked => unchecked,
        };
        Scene::each(part, &LinkConfig::both(way), |scene| {
            scene.traits.needs_wire()?;
            // The handshake has another check's attention: it may end in ETIMEDOUT here.
            let pair = unlucky_pair(scene)?;
            flow::both_ways(scene, &pair, FEW, false)
        })
        .map_err(named)?;
    }
    Ok(())
}

/// A pair over a link that may lose all of a handshake.
pub(super) fn unlucky_pair(scene: &Scene) -> Outcome<Pair> {
    if !scene.traits.connections {
        return scene.pair();
    }
    let listener = scene.server()?;
    listener.set_nonblocking(true);
    for _ in 0..5 {
        let client = scene.socket_on(0)?;
        match client.connect(Some(scene.addr(1, PORT))) {
            Ok(()) => {}
            Err(Error::TimedOut) => continue,
            r => r.must("connect")?,
        }
        let name = client.local_addr().must("getsockname")?;
        let server = scene.until(Duration::from_secs(600), || {
            let (server, peer) = listener.accept().ok()?;
            // Calls that were given up may have left theirs.
            (peer.port() == name.port()).then_some(server)
        });
        if let Some(server) = server {
            return Ok(Pair { ends: [client, server], to: [None, None], listener: Some(listener) });
        }
    }
    Err(Finding::Wrong("five calls over this link have made no connection".to_owned()))
}

/// IP protocol number of the packets in which the protocol's sockets reach each other: its own, or, where that is none
/// of IP's, UDP's or TCP's, whichever a conversation is seen to use.
fn carrier(scene: &Scene) -> Outcome<i32> {
    if u8::try_from(scene.traits.protocol).is_ok() {
        return Ok(scene.traits.protocol);
    }
    for number in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
        let heard = sample(scene, number)?;
        scene.ends_clean()?;
        if !heard[1].is_empty() {
            return Ok(number);
        }
    }
    Err(Finding::Wrong("a conversation without a packet of UDP or TCP, and the protocol has no number".to_owned()))
}

/// A raw socket of the protocol's number on the first host: sees what comes to it, and sends what it likes.
fn raw(scene: &Scene, protocol: i32, host: usize) -> Outcome<Socket> {
    let family = if scene.v6 { libc::AF_INET6 } else { libc::AF_INET };
    let s = Socket::new(&scene.stacks[host], family, libc::SOCK_RAW, protocol).must("a raw socket")?;
    s.set_nonblocking(true);
    Ok(s)
}

/// What a raw socket has received: the protocol's packets.
fn heard(scene: &Scene, raw: &Socket) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Ok(r) = recv(raw, ROOM, libc::MSG_DONTWAIT) {
        // One of IPv4 comes with its header.
        let header = if scene.v6 { 0 } else { usize::from(r.bytes.first().copied().unwrap_or(0x45) & 15) * 4 };
        all.push(r.bytes.get(header..).unwrap_or_default().to_vec());
    }
    all
}

/// Packets of this number in a short conversation, of both directions: [to the client, to the server].
fn sample(scene: &Scene, number: i32) -> Outcome<[Vec<Vec<u8>>; 2]> {
    let listens = [raw(scene, number, 0)?, raw(scene, number, 1)?];
    let pair = scene.pair()?;
    for i in 0..4 {
        for end in 0..2 {
            pair.send(end, &[i; 100], 0).must("send")?;
        }
        scene.settle();
    }
    drop(pair);
    scene.world.run_for(Duration::from_secs(5));
    Ok([heard(scene, &listens[0]), heard(scene, &listens[1])])
}

/// A packet that was one: cut, grown, with bits and words changed, or nothing but noise; mostly with a checksum that
/// is right.
fn mutate(random: &mut Random, good: &[u8], ends: (IpAddr, IpAddr), protocol: u8) -> Vec<u8> {
    let mut b = good.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(b.len());
        match random.below(8) {
            0 => b.truncate(at),
            1 => b.extend(random.clone().bytes(1 + at % 60)),
            2 => b = random.clone().bytes(at),
            3..5 => {
                if let Some(x) = b.get_mut(at) {
                    *x ^= 1 << random.below(8);
                }
            }
            5 => b.iter_mut().skip(at).take(4).for_each(|x| *x = 0xff),
            6 => b.iter_mut().skip(at).take(2).for_each(|x| *x = 0),
            _ => b.iter_mut().skip(at).take(4).for_each(|x| *x = random.clone().next() as u8),
        }
        random.next();
    }
    if random.below(4) != 0 {
        mend(random, &mut b, good, ends, protocol);
    }
    b
}

/// Where `good` has a checksum over the whole packet and a pseudo header, as UDP's, makes that of `b` right: most of a
/// parser lies behind it. Any word can be what completes the sum, so the field need not be known.
fn mend(random: &mut Random, b: &mut [u8], good: &[u8], (src, dst): (IpAddr, IpAddr), protocol: u8) {
    let sum =
        |b: &[u8]| checksum::finish(checksum::sum(b, checksum::pseudo_header(src, dst, protocol, b.len() as u32)));
    let at = random.below(b.len() / 2) * 2;
    if sum(good) == 0 && b.len() >= at + 2 {
        b[at..at + 2].fill(0);
        let word = sum(b).to_be_bytes();
        b[at..at + 2].copy_from_slice(&word);
    }
}

/// Packets of any bytes, from the peer's address, to a socket in each state. Nothing crashes, nothing is left, no
/// socket breaks, and a fresh conversation is as it was.
pub(super) fn fuzz(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let number = carrier(scene)?;
        let good = sample(scene, number)?;
        scene.ends_clean()?;
        ensure!(!good[1].is_empty(), "a conversation without a packet that came to the server");
        let mut random = Random(part.seed);
        let raw = [raw(scene, number, 0)?, raw(scene, number, 1)?];
        let number = number as u8;
        for round in 0..4 {
            let server = scene.server()?;
            server.set_nonblocking(true);
            let client = scene.socket_on(0)?;
            client.set_nonblocking(true);
            if !scene.traits.connections {
                client.bind(scene.addr(0, PORT + 1)).must("bind")?;
            }
            // At a quarter of them: bound, calling, connected; the ports are those of the sample in one round.
            if scene.traits.connections && round > 0 {
                let _ = client.connect(Some(scene.addr(1, PORT)));
            }
            if round > 1 {
                scene.settle();
            }
            let accepted = if scene.traits.connections { server.accept().ok().map(|(s, _)| s) } else { None };
            for _ in 0..HOSTILE / 4 {
                let to = random.below(2);
                let samples = if good[to].is_empty() { &good[1] } else { &good[to] };
                // That of the connection that is there, not the old one's, if there is one.
                let recent = heard(scene, &raw[to]).pop();
                let of = match recent {
                    Some(packet) if random.below(2) == 0 => packet,
                    _ => samples[random.below(samples.len())].clone(),
                };
                let (from, at) = (scene.addr(1 - to, 0), scene.addr(to, 0));
                let packet = mutate(&mut random, &of, (from.ip(), at.ip()), number as u8);
                let slices = [IoSlice::new(&packet)];
                let mut msg = SendMsg::new(&slices, 0);
                msg.name = Some(at);
                // What is too long is not sent.
                let _ = raw[1 - to].sendmsg(&mut msg);
                scene.world.run_for(Duration::from_millis(1 + random.below(20) as u64));
                for s in [&server, &client].into_iter().chain(&accepted) {
                    if random.below(8) == 0 {
                        let _ = recv(s, 2000, libc::MSG_DONTWAIT);
                        poll_holds("packets of any bytes have come", s)?;
                    }
                }
                if random.below(16) == 0 {
                    let to = (!scene.traits.connections).then_some(scene.addr(1, PORT));
                    let _ = send_to(&client, &[1; 300], libc::MSG_DONTWAIT, to);
                }
            }
            poll_holds("packets of any bytes have come", &server)?;
            poll_holds("packets of any bytes have come", &client)?;
            drop((server, client, accepted));
            scene.ends_clean()?;
        }
        drop(raw);
        let pair = scene.pair()?;
        flow::both_ways(scene, &pair, 20_000, true)
    })
}

/// An ICMP error of this type and code about `packet`, which went from the second host to the first.
fn icmp_error(scene: &Scene, number: u8, (ty, code, info): (u8, u8, u32), packet: &[u8]) -> Vec<u8> {
    let (src, dst) = (scene.addr(1, 0).ip(), scene.addr(0, 0).ip());
    let mut b = vec![ty, code, 0, 0];
    b.extend(info.to_be_bytes());
    match (src, dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let len = (20 + packet.len()) as u16;
            b.extend([0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, 64, number, 0, 0]);
            b.extend(s.octets());
            b.extend(d.octets());
            let sum = checksum::finish(checksum::sum(&b[8..28], 0));
            b[18..20].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let len = packet.len() as u16;
            b.extend([0x60, 0, 0, 0, (len >> 8) as u8, len as u8, number, 64]);
            b.extend(s.octets());
            b.extend(d.octets());
        }
        _ => {}
    }
    b.extend(&packet[..packet.len().min(500)]);
    // Of ICMPv6 the raw socket writes the sum.
    if !scene.v6 {
        let sum = checksum::finish(checksum::sum(&b, 0));
        b[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    b
}

/// Reports that a packet could not be delivered: true ones, forged ones, cut ones.
pub(super) fn icmp(part: &Part) -> Outcome {
    // Type, code, info; of IPv4 and of IPv6.
    const V4: &[(u8, u8, u32)] =
        &[(3, 0, 0), (3, 1, 0), (3, 2, 0), (3, 3, 0), (3, 4, 600), (3, 13, 0), (11, 0, 0), (12, 0, 0)];
    const V6: &[(u8, u8, u32)] = &[(1, 0, 0), (1, 1, 0), (1, 3, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (4, 1, 0)];
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let number = if scene.v6 { libc::IPPROTO_ICMPV6 } else { libc::IPPROTO_ICMP };
        let carrier = carrier(scene)?;
        let mut random = Random(part.seed);
        for &(ty, code, info) in if scene.v6 { V6 } else { V4 } {
            let (icmp, listens) = (raw(scene, number, 0)?, raw(scene, carrier, 0)?);
            let pair = scene.pair()?;
            pair.send(1, &[1; 200], 0).must("send")?;
            scene.settle();
            let quoted = heard(scene, &listens).pop().unwrap_or_default();
            for round in 0..30 {
                let mut quoted = quoted.clone();
                if round > 0 {
                    let at = random.below(quoted.len());
                    match random.below(3) {
                        0 => quoted.truncate(8.max(at)),
                        1 => quoted.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << random.clone().below(8)),
                        _ => quoted.iter_mut().skip(at).take(4).for_each(|b| *b = 0xff),
                    }
                }
                let message = icmp_error(scene, carrier as u8, (ty, code, info), &quoted);
                let slices = [IoSlice::new(&message)];
                let mut msg = SendMsg::new(&slices, 0);
                msg.name = Some(scene.addr(1, 0));
                icmp.sendmsg(&mut msg).must("sending an ICMP error")?;
                scene.settle();
                for s in &pair.ends {
                    let r = recv(s, 2000, libc::MSG_DONTWAIT);
                    ensure!(r != Err(Error::Io), "an ICMP error of type {ty}, code {code} has broken the socket");
                    let _ = recv(s, 2000, libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE);
                    poll_holds("after an ICMP error", s)?;
                }
            }
            // The socket has an error, or goes on: it sends, or says why not.
            let r = pair.send(1, &[1; 200], libc::MSG_DONTWAIT);
            ensure!(r != Err(Error::Io), "an ICMP error of type {ty}, code {code} has broken the socket");
            drop((pair, icmp, listens));
            scene.ends_clean()?;
        }
        let pair = scene.pair()?;
        flow::both_ways(scene, &pair, 20_000, true)
    })
}

/// The packets of a history, and their times, for the parent to compare with those of another process.
pub(super) fn repeat(part: &Part) -> Outcome {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(5)).loss(0.03).reorder(0.03);
    Scene::each(part, &LinkConfig::both(way), |scene| {
        scene.traits.needs_wire()?;
        let raw = match u8::try_from(scene.traits.protocol) {
            Ok(number) => vec![raw(scene, number.into(), 0)?, raw(scene, number.into(), 1)?],
            Err(_) => [libc::IPPROTO_UDP, libc::IPPROTO_TCP]
                .into_iter()
                .flat_map(|number| [raw(scene, number, 0), raw(scene, number, 1)])
                .collect::<Outcome<Vec<Socket>>>()?,
        };
        raw.iter().try_for_each(|s| {
            set_int(s, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 1 << 27).must("SO_RCVBUFFORCE of a raw socket")
        })?;
        let pair = unlucky_pair(scene)?;
        flow::both_ways(scene, &pair, 30_000, false)?;
        drop(pair);
        scene.world.run_for(Duration::from_secs(60));
        for (i, s) in raw.iter().enumerate() {
            let host = i % 2;
            for packet in heard(scene, s) {
                let hex: String = packet.iter().take(40).map(|b| format!("{b:02x}")).collect();
                let sum = packet.iter().fold(0u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
                trace(&format!("{} bytes to host {host} ({hex}..., hash {sum:x})", packet.len()));
            }
        }
        trace(&format!("the end, at {} ns", (scene.world.now() - Instant::ZERO).as_nanos()));
        Ok(())
    })
}

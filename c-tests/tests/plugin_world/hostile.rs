//! RDP against guessers, liars and bad luck: packets that almost fit, messages made to cost memory, numbers that wrap,
//! ends at bad moments. With the peer of `wire`, in virtual time.

use super::wire::*;
use super::{RDP, SEQPACKET, plugin, recv, send};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use usersock::device::link::LinkConfig;
use usersock::env::Instant;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock_ffi::loader;

fn own_timeout(socket: &Socket, ms: i32) {
    socket.setsockopt(RDP, 5, &ms.to_ne_bytes()).expect("RDP_USER_TIMEOUT");
}

#[test]
fn a_window_counts_whatever_the_peer_s_clock_says() {
    for stamp in [0x9000_0000, 0x7fff_ffff, u32::MAX, 1] {
        let scene = Scene::new(20);
        let (me, socket) =
            scene.connection_by(Packet { from: 9, stamp, hello: [7, 65536, 1400 << 16], ..Packet::default() });
        assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
        assert_eq!(scene.heard(), []);
        scene.say(&Packet { window: 100_000, stamp: stamp.wrapping_add(1), ..me.clone() });
        assert_eq!(scene.heard_data().len(), 1, "stamp {stamp:#x}");
        // Idle for longer than stamps are good for; nothing is acknowledged, a window is told.
        let ack = me.ack.wrapping_add(1001);
        scene.say(&Packet { ack, stamp: stamp.wrapping_add(2), ..me.clone() });
        scene.world.run_for(Duration::from_secs(2500));
        assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
        scene.heard();
        scene.say(&Packet { ack, window: 100_000, stamp: stamp.wrapping_add(2_500_000_000), ..me.clone() });
        assert_eq!(scene.heard_data().len(), 1, "stamp {stamp:#x}, after idleness");
    }
}

#[test]
fn who_guesses_coarsely_cannot_make_the_peer_mute_or_acknowledge_for_it() {
    let scene = Scene::new(21);
    let (mut me, socket) = scene.connection(100_000);
    assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
    assert_eq!(scene.heard_data().len(), 1);
    let all = me.ack.wrapping_add(1001);
    for i in 1..1000u32 {
        let (seq, ack) = (me.seq.wrapping_sub(i << 20), all.wrapping_sub(i << 20));
        // Either number is good, and the other not.
        scene.say(&Packet { seq, ack: all, stamp: 1 << 30, window: 0, ..me.clone() });
        scene.say(&Packet { ack, stamp: 1 << 30, window: 0, ..me.clone() });
        scene.say(&Packet { seq, ack: all, stamp: 1 << 30, flags: ACK | BEG, payload: vec![9], ..me.clone() });
        scene.say(&Packet { seq: me.seq.wrapping_add((i << 20) + (2 << 20)), stamp: 1 << 30, ..me.clone() });
    }
    assert_eq!(scene.count("RdpBadAcks"), 999);
    assert_eq!((scene.count("RdpInDups"), scene.count("RdpBeyondWindow")), (999, 2 * 999));
    // Challenges are few; old data is answered, as its sender may be the peer.
    assert!(scene.count("RdpChallengeAcks") <= 50, "{}", scene.count("RdpChallengeAcks"));
    me.stamp = 2;
    me.payload = b"still heard".to_vec();
    me.flags = ACK | BEG | END;
    scene.say(&me);
    assert_eq!((recv(&socket, &mut [0; 99], 0), scene.count("RdpOldStamps")), (Ok(Some(11)), 0));
}

#[test]
fn both_may_call_at_once_and_the_answer_to_one_be_lost() {
    let scene = Scene::new(22);
    let (socket, syn) = caller(&scene);
    let me = Packet {
        from: 9,
        to: syn.from,
        seq: 500,
        flags: SYN | HEL,
        window: 100_000,
        stamp: 1,
        hello: [500, 65536, 1400 << 16],
        ..Packet::default()
    };
    scene.say(&me);
    assert_eq!(scene.heard().pop().map(|p| p.flags), Some(SYN | ACK | HEL), "that connects us; our answer is lost");
    let first =
        Packet { seq: 501, ack: syn.seq.wrapping_add(1), flags: ACK | HEL | BEG | END, payload: vec![3; 30], ..me };
    // Not an answer to this call.
    scene.say(&Packet { ack: syn.seq.wrapping_add(2), ..first.clone() });
    assert_eq!((socket.sock().state() as u8, scene.heard().pop().map(|p| p.flags)), (2, Some(RST)));
    scene.say(&first);
    assert_eq!((socket.sock().state() as u8, recv(&socket, &mut [0; 99], 0)), (1, Ok(Some(30))));
    assert_eq!(scene.heard().pop().map(|p| (p.flags, p.ack)), Some((ACK, 532)));
    scene.world.run_for(Duration::from_secs(100));
    assert_eq!((scene.heard(), scene.count("RdpRetransSegs")), (vec![], 0));
}

#[test]
fn data_behind_a_window_that_was_shut_for_long_has_a_timer_of_its_own() {
    let scene = Scene::new(23);
    let (me, socket) = scene.connection(0);
    assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
    for i in 0..300 {
        scene.world.run_for(Duration::from_millis(200));
        if !scene.heard().is_empty() {
            scene.say(&Packet { stamp: 2 + i, ..me.clone() });
        }
    }
    // The next look at the window would be in up to a minute.
    scene.say(&Packet { window: 100_000, stamp: 1000, ..me.clone() });
    assert_eq!(scene.heard_data().len(), 1);
    scene.world.run_for(Duration::from_secs(2));
    assert!(!scene.heard_data().is_empty(), "sent again within two seconds");
}

#[test]
fn a_message_in_the_smallest_pieces_costs_no_more_than_the_buffer() {
    let scene = Scene::new(24);
    scene.stack.sysctl.set("net.rdp.rmem_default", "65536").expect("sysctl");
    let (mut me, socket) = scene.connection(100_000);
    // The longest that is taken: a quarter of the buffer.
    let (len, mut most) = (16_384u32, 0);
    for i in 0..len {
        me.flags = ACK | if i == 0 { BEG } else { 0 } | if i == len - 1 { END } else { 0 };
        me.payload = vec![(i % 251) as u8];
        me.stamp += 1;
        scene.say(&me);
        me.seq = me.seq.wrapping_add(1);
        most = most.max(socket.sock().rmem_alloc.load(Ordering::Relaxed));
    }
    assert!(most < 65536 + 4096, "{most}");
    assert!(scene.count("RdpRcvGathered") > 0);
    let mut buf = vec![0; 20_000];
    assert_eq!(recv(&socket, &mut buf, 0), Ok(Some(len as usize)));
    assert!(buf[..len as usize].iter().enumerate().all(|(i, b)| *b == (i % 251) as u8));
    assert_eq!(socket.sock().rmem_alloc.load(Ordering::Relaxed), 0);
}

#[test]
fn nothing_comes_after_the_end() {
    for reordered in [false, true] {
        let scene = Scene::new(25);
        let (me, socket) = scene.connection(100_000);
        let data = |seq, payload: &[u8]| Packet {
            seq,
            flags: ACK | BEG | END,
            payload: payload.to_vec(),
            stamp: 2,
            ..me.clone()
        };
        let mut all = [
            data(me.seq, b"the last"),
            Packet { seq: me.seq + 9, flags: ACK | FIN, stamp: 2, ..me.clone() },
            data(me.seq + 10, b"one more"),
        ];
        if reordered {
            all.reverse();
        }
        all.iter().for_each(|p| scene.say(p));
        assert_eq!(recv(&socket, &mut [0; 99], 0), Ok(Some(8)));
        assert_eq!(recv(&socket, &mut [0; 99], 0), Ok(None));
        assert_eq!((socket.sock().state() as u8, socket.sock().rmem_alloc.load(Ordering::Relaxed)), (8, 0));
        assert_eq!(scene.heard().pop().map(|p| (p.ack, p.sacks)), Some((me.seq + 10, vec![])));
    }
}

/// The peer's clock goes on from one connection of the same ends to the next: TIME-WAIT lets the later one in.
#[test]
fn the_same_ends_connect_again_though_time_wait_is_not_over() {
    let world = World::new(26);
    let [(a, ea), (b, eb)] = world.two(&LinkConfig::default()).expect("two stacks");
    for stack in [&a, &b] {
        loader::load(stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
    }
    let (from, to) = (SocketAddr::new(ea.v4.into(), 701), SocketAddr::new(eb.v4.into(), PORT));
    let listener = Socket::new(&b, libc::AF_INET, SEQPACKET, RDP).expect("socket");
    listener.bind(to).expect("bind");
    listener.listen(1).expect("listen");
    for round in 0..8 {
        let client = Socket::new(&a, libc::AF_INET, SEQPACKET, RDP).expect("socket");
        client.bind(from).expect("bind");
        let start = world.now();
        client.connect(Some(to)).expect("connect");
        assert!(world.now() - start < Duration::from_secs(5), "round {round}");
        let (server, _) = listener.accept().expect("accept");
        server.close();
        assert_eq!(recv(&client, &mut [0; 9], 0), Ok(None));
        client.close();
        world.run_for(Duration::from_secs(1));
        assert_eq!(server.sock().state() as u8, 6);
    }
}

#[test]
fn their_numbers_wrap_within_a_message_a_hole_and_an_end() {
    for isn in [u32::MAX, u32::MAX - 1, u32::MAX - 10, u32::MAX - 500, 0x7fff_ffff, 0x7fff_ff00] {
        let scene = Scene::new(27);
        let hello = [isn, 65536, 1400 << 16];
        let (mut me, socket) =
            scene.connection_by(Packet { from: 9, stamp: u32::MAX - 1, window: 100_000, hello, ..Packet::default() });
        let part = |seq, flags, n: usize| Packet { seq, flags: ACK | flags, payload: vec![flags; n], ..me.clone() };
        let (a, b) = (part(me.seq, BEG, 300), part(me.seq.wrapping_add(300), 0, 400));
        let c = part(me.seq.wrapping_add(700), END, 100);
        scene.say(&b);
        assert_eq!(scene.heard().pop().map(|p| (p.ack, p.sacks)), Some((a.seq, vec![[b.seq, c.seq]])), "isn {isn:#x}");
        scene.say(&c);
        let end = c.seq.wrapping_add(101);
        assert_eq!(scene.heard().pop().map(|p| p.sacks), Some(vec![[b.seq, end]]), "isn {isn:#x}");
        scene.say(&a);
        assert_eq!(scene.heard().pop().map(|p| (p.ack, p.sacks)), Some((end, vec![])), "isn {isn:#x}");
        assert_eq!(recv(&socket, &mut [0; 999], 0), Ok(Some(800)));
        me = Packet { seq: end, flags: ACK | FIN, stamp: 3, ..me };
        scene.say(&me);
        assert_eq!(recv(&socket, &mut [0; 9], 0), Ok(None), "isn {isn:#x}");
        scene.say(&Packet { flags: ACK, seq: end.wrapping_add(1), ..me });
        assert_eq!((scene.count("RdpOldStamps"), scene.count("RdpBeyondWindow")), (0, 0));
    }
}

/// Their first number is a hash: calls are made until one is near the top.
#[test]
fn our_numbers_wrap_within_what_is_in_flight() {
    const NEAR: u32 = 400_000;
    let scene = Scene::new(28);
    let listener = scene.listener();
    let hello = [1000, 65536, 1400 << 16];
    let syn = Packet { to: PORT, seq: 1000, flags: SYN | HEL, window: 100_000, stamp: 1, hello, ..Packet::default() };
    let (from, answer) = (0..60_000u32)
        .find_map(|i| {
            // The caller's own number is hashed, too.
            let (from, isn) = (9 + i as u16, 1000 + (i >> 16));
            scene.say(&Packet { from, seq: isn, hello: [isn, hello[1], hello[2]], ..syn.clone() });
            scene.heard().pop().filter(|a| a.seq > u32::MAX - NEAR).map(|a| (from, a))
        })
        .expect("a number near the top");
    let mut me = Packet {
        from,
        seq: answer.ack,
        ack: answer.seq.wrapping_add(1),
        flags: ACK | HEL,
        echo: answer.stamp,
        hello: [answer.ack.wrapping_sub(1), hello[1], hello[2]],
        ..syn
    };
    scene.say(&me);
    let (socket, _) = listener.accept().expect("a child");
    socket.set_nonblocking(true);
    me.flags = ACK;
    // What has come, by its distance from the first number.
    let (first, mut have, mut next, mut lost) = (me.ack, BTreeMap::new(), 0u32, 0);
    while next < NEAR + 100_000 {
        let _ = send(&socket, &[1; 50_000], 0);
        let data = scene.heard_data();
        for p in &data {
            let end = p.seq.wrapping_add(p.numbers());
            // The packet on the seam is lost, twice.
            if end < p.seq && end != 0 && lost < 2 {
                lost += 1;
                continue;
            }
            have.insert(p.seq.wrapping_sub(first), end.wrapping_sub(first));
            me.echo = p.stamp;
        }
        while let Some(end) = have.remove(&next) {
            next = end;
        }
        me.ack = first.wrapping_add(next);
        me.stamp += 1;
        me.sacks.clear();
        for (start, end) in have.iter().map(|(a, b)| (first.wrapping_add(*a), first.wrapping_add(*b))) {
            match me.sacks.last_mut() {
                Some(block) if block[1] == start => block[1] = end,
                _ => me.sacks.push([start, end]),
            }
        }
        me.sacks.truncate(3);
        if data.is_empty() {
            scene.world.run_for(Duration::from_millis(20));
        } else {
            scene.say(&me);
        }
    }
    assert!(lost >= 1 && me.ack < NEAR, "{lost} {:#x}", me.ack);
    assert_eq!((socket.sock().state() as u8, scene.count("RdpBadAcks")), (1, 0));
    assert_eq!((scene.count("RdpRetransSegs"), scene.count("RdpTimeouts")), (lost, 0));
}

#[test]
fn a_peer_that_drops_what_it_had_gets_it_again() {
    let scene = Scene::new(29);
    let (me, socket) = scene.connection(100_000);
    for i in 0..3 {
        assert_eq!(send(&socket, &[i; 1000], 0), Ok(1000));
    }
    let data = scene.heard_data();
    assert_eq!(data.len(), 3);
    let end = data[2].seq.wrapping_add(1001);
    // It has all, it says, and acknowledges none.
    scene.say(&Packet { sacks: vec![[me.ack, end]], echo: data[2].stamp, stamp: 2, ..me.clone() });
    scene.world.run_for(Duration::from_millis(300));
    let again = scene.heard_data();
    assert_eq!(again.first().map(|p| p.seq), Some(data[0].seq));
    let ack = data[1].seq;
    scene.say(&Packet { ack, stamp: 3, echo: again[0].stamp, ..me.clone() });
    let again = scene.heard_data();
    assert_eq!(again.iter().map(|p| p.seq).collect::<Vec<_>>(), [data[1].seq, data[2].seq]);
    scene.say(&Packet { ack: end, stamp: 4, echo: again[1].stamp, ..me });
    scene.world.run_for(Duration::from_secs(100));
    assert_eq!((scene.heard_data(), scene.count("RdpTimeouts")), (vec![], 1));
}

#[test]
fn blocks_that_overlap_repeat_or_reach_too_far_are_counted_once_or_not_at_all() {
    let scene = Scene::new(30);
    let (me, socket) = scene.connection(100_000);
    for i in 0..8 {
        assert_eq!(send(&socket, &[i; 1000], 0), Ok(1000));
    }
    let at: Vec<u32> = scene.heard_data().iter().map(|p| p.seq).collect();
    let (una, nxt) = (at[0], at[7].wrapping_add(1001));
    for sacks in [
        vec![[at[3], at[6]], [at[4], at[7]], [at[3], at[7]]],
        vec![[at[3], at[7]], [at[3], at[7]], [una.wrapping_sub(1), nxt]],
        vec![[una, nxt.wrapping_add(1)], [nxt, una], [at[5], at[5]]],
        vec![[at[4].wrapping_add(1), at[7].wrapping_sub(1)], [at[6].wrapping_add(7), nxt]],
    ] {
        scene.say(&Packet { sacks, stamp: 2, window: 100_000, ..me.clone() });
    }
    scene.world.run_for(Duration::from_millis(5));
    let again: Vec<u32> = scene.heard_data().iter().map(|p| p.seq).collect();
    // Three before the block that was told are lost; the one behind it is not known to be, and is the timer's.
    assert_eq!(again, at[..3]);
    scene.say(&Packet { ack: nxt, stamp: 3, ..me });
    let mut info = [0; 136];
    socket.getsockopt(RDP, 1, &mut info).expect("RDP_INFO");
    let in_flight = u32::from_ne_bytes(info[28..32].try_into().expect("four bytes"));
    assert_eq!((in_flight, scene.count("RdpBadAcks")), (0, 0));
}

#[test]
fn reports_of_an_unreachable_peer_end_a_call_but_not_a_connection() {
    const HOST: u8 = 1;
    const PROTOCOL: u8 = 2;
    let scene = Scene::new(31);
    let (socket, syn) = caller(&scene);
    let ports = [syn.from, syn.to];
    scene.icmp_error(PROTOCOL, 0, ports, syn.seq.wrapping_add(1));
    scene.icmp_error(HOST, 0, ports, syn.seq);
    assert_eq!((socket.sock().state() as u8, scene.count("RdpBadIcmps")), (2, 1));
    scene.icmp_error(PROTOCOL, 0, ports, syn.seq);
    assert_eq!(socket.connect(Some(SocketAddr::new(scene.us, 9))), Err(Error::NoProtoOpt));
    let (me, socket) = scene.connection(100_000);
    own_timeout(&socket, 3000);
    assert_eq!(send(&socket, &[1; 100], 0), Ok(100));
    let data = scene.heard_data();
    scene.icmp_error(PROTOCOL, 0, [PORT, me.from], data[0].seq);
    assert_eq!((socket.sock().state() as u8, recv(&socket, &mut [0; 9], 0)), (1, Err(Error::Again)));
    scene.icmp_error(HOST, 0, [PORT, me.from], data[0].seq);
    scene.world.run_for(Duration::from_secs(10));
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::HostUnreach), "what was reported last is why");
}

#[test]
fn a_path_that_narrows_cuts_what_is_queued_too() {
    let scene = Scene::new(32);
    let (me, socket) = scene.connection(1_000_000);
    assert_eq!(send(&socket, &[7; 60_000], 0), Ok(60_000));
    let first = scene.heard_data();
    assert!(first.len() < 43 && first.iter().all(|p| p.payload.len() == 1400));
    scene.icmp_error(4, 700, [PORT, me.from], first[0].seq);
    let (mut got, mut next, mut me) = (BTreeMap::new(), me.ack, me);
    for _ in 0..1000 {
        for p in scene.heard_data() {
            assert!(p.payload.len() <= 700 - 20 - 28);
            got.insert(p.seq.wrapping_sub(first[0].seq), p.payload.len() as u32);
            next = next.max(p.seq.wrapping_add(p.numbers()));
            me.echo = p.stamp;
        }
        if got.values().sum::<u32>() == 60_000 {
            break;
        }
        (me.ack, me.stamp) = (next, me.stamp + 1);
        scene.say(&me);
    }
    // Without holes, and nothing for nothing.
    assert!(got.iter().zip(got.iter().skip(1)).all(|(a, b)| a.0 + a.1 == *b.0), "{got:?}");
    assert_eq!((got.values().sum::<u32>(), scene.count("RdpTimeouts")), (60_000, 0));
}

#[test]
fn who_closes_with_data_queued_still_delivers_it_and_gives_up_on_a_dead_peer() {
    for dead in [false, true] {
        let scene = Scene::new(33);
        let (mut me, socket) = scene.connection(0);
        let before = scene.socks();
        assert_eq!(send(&socket, &[5; 3000], 0), Ok(3000));
        socket.close();
        drop(socket);
        scene.world.run_for(Duration::from_secs(5));
        assert!(scene.heard_data().is_empty());
        if dead {
            scene.world.run_for(Duration::from_secs(600));
            assert_eq!(scene.socks(), before - 1);
            continue;
        }
        me = Packet { window: 100_000, stamp: 2, ..me };
        scene.say(&me);
        let data = scene.heard_data();
        assert_eq!(data.iter().map(|p| p.payload.len()).collect::<Vec<_>>(), [1400, 1400, 200, 0]);
        assert_eq!(data[3].flags & FIN, FIN);
        me = Packet { ack: data[3].seq.wrapping_add(1), stamp: 3, ..me };
        scene.say(&me);
        assert_eq!(scene.socks(), before);
        // It has nobody who would read.
        scene.say(&Packet { flags: ACK | BEG | END, payload: vec![1], ..me });
        assert_eq!(scene.heard().pop().map(|p| p.flags), Some(RST | ACK));
        assert_eq!(scene.socks(), before - 1);
    }
}

/// Answers every question for `seconds`, with one window or the other.
fn keep_shut(scene: &Scene, me: &Packet, seconds: u32, windows: [u32; 2]) {
    for i in 0..seconds {
        scene.world.run_for(Duration::from_secs(1));
        if scene.heard().iter().any(|p| p.flags & PRB != 0) {
            let stamp = (scene.world.now() - Instant::ZERO).as_millis() as u32;
            scene.say(&Packet { window: windows[i as usize % 2], stamp, ..me.clone() });
        }
    }
}

#[test]
fn a_peer_that_answers_and_keeps_its_window_shut_is_waited_for_by_a_program_alone() {
    // Shut, or opened by less than a packet each second time.
    for windows in [[0, 0], [0, 1], [1, 700]] {
        let scene = Scene::new(34);
        let (me, socket) = scene.connection(0);
        let before = scene.socks();
        assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
        keep_shut(&scene, &me, 2000, windows);
        assert_eq!((socket.sock().state() as u8, scene.socks()), (1, before), "{windows:?}");
        socket.close();
        drop(socket);
        keep_shut(&scene, &me, 600, windows);
        assert_eq!(scene.socks(), before - 1, "{windows:?}");
    }
    let scene = Scene::new(35);
    let (me, socket) = scene.connection(0);
    own_timeout(&socket, 60_000);
    assert_eq!(send(&socket, &[5; 1000], 0), Ok(1000));
    keep_shut(&scene, &me, 50, [0, 0]);
    assert_eq!(socket.sock().state() as u8, 1);
    keep_shut(&scene, &me, 70, [0, 0]);
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::TimedOut));
}

#[test]
fn a_peer_that_falls_silent_after_our_end_is_asked_too() {
    let scene = Scene::new(36);
    let (me, socket) = scene.connection(100_000);
    for (name, value) in [(6, 10i32), (7, 2), (8, 3)] {
        socket.setsockopt(RDP, name, &value.to_ne_bytes()).expect("RDP_KEEP*");
    }
    socket.setsockopt(libc::SOL_SOCKET, libc::SO_KEEPALIVE, &1i32.to_ne_bytes()).expect("SO_KEEPALIVE");
    socket.shutdown(libc::SHUT_WR).expect("shutdown");
    let fin = scene.heard_data();
    scene.say(&Packet { ack: fin[0].seq.wrapping_add(1), stamp: 2, ..me });
    assert_eq!(socket.sock().state() as u8, 5);
    scene.world.run_for(Duration::from_secs(30));
    assert_eq!(recv(&socket, &mut [0; 9], 0), Err(Error::TimedOut));
}

#[test]
fn a_late_copy_of_the_first_packet_makes_no_second_connection() {
    let scene = Scene::new(37);
    let listener = scene.listener();
    let hello = [1000, 65536, 1400 << 16];
    for round in 0..3u32 {
        let from = 9 + round as u16;
        let syn = Packet {
            from,
            to: PORT,
            seq: 1000,
            flags: SYN | HEL,
            window: 100_000,
            stamp: 1,
            hello,
            ..Packet::default()
        };
        scene.say(&syn);
        let answer = scene.heard().pop().expect("an answer");
        let first = Packet {
            seq: 1001,
            ack: answer.seq.wrapping_add(1),
            flags: ACK | HEL | PRB | BEG | END,
            payload: b"once".to_vec(),
            ..syn
        };
        scene.say(&first);
        let (socket, _) = listener.accept().expect("a child");
        socket.set_nonblocking(true);
        assert_eq!(recv(&socket, &mut [0; 9], 0), Ok(Some(4)));
        let bye = Packet { seq: 1006, flags: ACK | FIN, payload: vec![], ..first.clone() };
        scene.say(&bye);
        assert_eq!(recv(&socket, &mut [0; 9], 0), Ok(None));
        socket.close();
        let fin = scene.heard_data().pop().expect("a FIN");
        scene.say(&Packet { seq: 1007, ack: fin.seq.wrapping_add(1), flags: ACK, ..bye });
        assert_eq!(socket.sock().state() as u8, 7);
        scene.world.run_for(Duration::from_secs(round.into()));
        scene.say(&first);
        assert_eq!(scene.heard().pop().map(|p| (p.flags, p.seq)), Some((RST, first.ack)));
        assert_eq!((listener.accept().err(), scene.count("RdpUsedCookies")), (Some(Error::Again), round as u64 + 1));
        // When the cookie is stale, as well.
        scene.world.run_for(Duration::from_secs(130));
        scene.say(&first);
        assert_eq!((listener.accept().err(), scene.count("RdpBadCookies")), (Some(Error::Again), round as u64 + 1));
        scene.heard();
    }
    assert_eq!(scene.count("RdpPassiveOpens"), 3);
}

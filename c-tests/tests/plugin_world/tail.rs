//! RDP's repair of what is lost at the end of a burst, and of what is lost again: the tail-loss probe (RFC 8985 §7),
//! reports of what came twice (RFC 2883), and the walk over lost packets. With the peer of `wire`, and between two
//! stacks, in virtual time.

use super::wire::*;
use super::{RDP, SEQPACKET, counter, plugin, recv, send};
use std::net::SocketAddr;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::net::Socket;
use usersock::sim::World;
use usersock_ffi::loader;

/// Sends `n` messages of 1000 bytes; tells what leaves of them.
fn burst(scene: &Scene, socket: &Socket, n: usize) -> Vec<Packet> {
    for _ in 0..n {
        assert_eq!(send(socket, &[7; 1000], 0), Ok(1000));
    }
    scene.heard_data()
}

fn end(p: &Packet) -> u32 {
    p.seq.wrapping_add(p.numbers())
}

/// RDP_INFO's ssthresh, packets.
fn ssthresh(socket: &Socket) -> u32 {
    let mut info = [0; 136];
    socket.getsockopt(RDP, 1, &mut info).expect("RDP_INFO");
    u32::from_ne_bytes(info[24..28].try_into().expect("four bytes"))
}

/// Timeouts, loss probes, probes that repaired, fast recoveries, packets sent again.
fn tally(scene: &Scene) -> [u64; 5] {
    ["RdpTimeouts", "RdpLossProbes", "RdpLossProbeRecoveries", "RdpFastRecoveries", "RdpRetransSegs"]
        .map(|name| scene.count(name))
}

#[test]
fn a_lost_tail_of_two_is_found_by_a_probe_and_not_by_the_timer() {
    let scene = Scene::new(40);
    let (me, socket) = scene.connection(100_000);
    let data = burst(&scene, &socket, 5);
    let mut me = Packet { ack: data[3].seq, echo: data[2].stamp, stamp: 2, ..me };
    scene.say(&me);
    scene.world.run_for(Duration::from_millis(50));
    let probe = scene.heard_data();
    assert_eq!(probe.iter().map(|p| p.seq).collect::<Vec<_>>(), [data[4].seq], "the last, once");
    assert_eq!(probe[0].flags, data[4].flags | PRB, "to be answered at once");
    me = Packet { sacks: vec![[data[4].seq, end(&data[4])]], echo: data[2].stamp, stamp: 3, ..me };
    scene.say(&me);
    scene.world.run_for(Duration::from_millis(50));
    let again = scene.heard_data();
    assert_eq!(again.iter().map(|p| p.seq).collect::<Vec<_>>(), [data[3].seq]);
    scene.say(&Packet { ack: end(&data[4]), sacks: vec![], echo: again[0].stamp, stamp: 4, ..me });
    scene.world.run_for(Duration::from_secs(10));
    assert_eq!((scene.heard_data(), tally(&scene)), (vec![], [0, 1, 0, 1, 2]));
    assert!(ssthresh(&socket) < 10);
}

/// The answer to a probe of the last packet alone: what it echoes, whether it tells that the packet came twice, and
/// whether that told of a loss.
#[test]
fn a_probe_that_repairs_counts_as_a_loss_and_one_for_nothing_does_not() {
    for (case, echoes_probe, twice, repaired) in [
        ("the probe was what arrived", true, false, 1),
        ("both arrived, and the first answer was lost", true, true, 0),
        ("both arrived", false, true, 0),
        ("an answer to something before it, and then nothing more is said of the probe", false, false, 1),
    ] {
        let scene = Scene::new(41);
        let (me, socket) = scene.connection(100_000);
        let data = burst(&scene, &socket, 5);
        let last = &data[4];
        let mut me = Packet { ack: last.seq, echo: data[3].stamp, stamp: 2, ..me };
        scene.say(&me);
        scene.world.run_for(Duration::from_millis(20));
        assert_eq!(scene.heard_data(), [], "the peer may wait with its answer");
        scene.world.run_for(Duration::from_millis(80));
        let probe = scene.heard_data();
        assert_eq!(probe.iter().map(|p| p.seq).collect::<Vec<_>>(), [last.seq], "{case}");
        me.echo = if echoes_probe { probe[0].stamp } else { last.stamp };
        me.sacks = if twice { vec![[last.seq, end(last)]] } else { vec![] };
        scene.say(&Packet { ack: end(last), stamp: 3, ..me.clone() });
        let more = burst(&scene, &socket, 2);
        scene.say(&Packet { ack: end(&more[1]), stamp: 4, echo: more[1].stamp, sacks: vec![], ..me });
        scene.world.run_for(Duration::from_secs(10));
        assert_eq!((scene.heard_data(), tally(&scene)), (vec![], [0, 1, repaired, 0, 1]), "{case}");
        assert_eq!(ssthresh(&socket) < 1000, repaired == 1, "{case}");
        let mut info = [0; 136];
        socket.getsockopt(RDP, 1, &mut info).expect("RDP_INFO");
        assert_eq!(info[28..32], [0; 4], "{case}: nothing in flight");
    }
}

#[test]
fn a_probe_is_new_data_where_the_window_has_room_and_one_is_out_at_a_time() {
    for (window, sent, probes_new) in [(100_000, 10, true), (10 * 1640, 10, false)] {
        let scene = Scene::new(42);
        let (me, socket) = scene.connection(window);
        let data = burst(&scene, &socket, 12);
        assert_eq!(data.len(), sent, "the initial window");
        scene.world.run_for(Duration::from_millis(100));
        let probe = scene.heard_data();
        assert_eq!((probe.len(), probe[0].flags & PRB), (1, PRB));
        assert_eq!(probe[0].seq, if probes_new { end(&data[9]) } else { data[9].seq });
        let again = u64::from(!probes_new);
        assert_eq!(tally(&scene), [0, 1, 0, 0, again]);
        // No answer: the next is the timer's.
        scene.world.run_for(Duration::from_secs(1));
        assert!(scene.heard_data().iter().all(|p| p.seq == data[0].seq));
        let now = tally(&scene);
        assert!(now[0] >= 1 && now[1] == 1, "{now:?}");
        scene.say(&Packet { ack: end(&probe[0]), stamp: 2, echo: probe[0].stamp, ..me });
        assert_eq!(socket.sock().state() as u8, 1);
    }
}

#[test]
fn what_is_lost_again_is_sent_again_without_the_timer() {
    let scene = Scene::new(43);
    let (me, socket) = scene.connection(100_000);
    let data = burst(&scene, &socket, 8);
    let at = |i: usize| data[i].seq;
    // 0 to 4 are missing. Of what is sent again only the last arrives each time, which shows that the others are lost
    // once more.
    let mut me = Packet { sacks: vec![[at(5), end(&data[7])]], stamp: 2, echo: data[7].stamp, ..me };
    let mut missing = vec![0, 1, 2, 3, 4];
    while !missing.is_empty() {
        scene.say(&me);
        scene.world.run_for(Duration::from_millis(20));
        let again = scene.heard_data();
        let numbers: Vec<u32> = again.iter().map(|p| p.seq).collect();
        assert_eq!(numbers, missing.iter().map(|i| at(*i)).collect::<Vec<_>>());
        missing.pop();
        let first = *missing.first().unwrap_or(&8);
        me.ack = data.get(first).map_or(end(&data[7]), |p| p.seq);
        me.sacks = data.get(missing.len()).filter(|_| first == 0).map(|p| [p.seq, end(&data[7])]).into_iter().collect();
        me.echo = again.last().expect("some").stamp;
        me.stamp += 1;
    }
    scene.say(&me);
    scene.world.run_for(Duration::from_secs(10));
    assert_eq!((scene.heard_data(), scene.count("RdpTimeouts"), socket.sock().state() as u8), (vec![], 0, 1));
    assert_eq!(scene.count("RdpRetransSegs"), 5 + 4 + 3 + 2 + 1);
}

#[test]
fn what_comes_twice_is_told_once_before_the_holes() {
    let scene = Scene::new(44);
    let (me, socket) = scene.connection(100_000);
    let data = |seq: u32, n: usize| Packet { seq, flags: ACK | BEG | END, payload: vec![1; n], stamp: 2, ..me.clone() };
    let (first, later) = (data(me.seq, 99), data(me.seq + 500, 9));
    let told = |p: &Packet| {
        scene.say(p);
        scene.heard().pop().map(|p| (p.ack, p.sacks)).expect("an acknowledgement")
    };
    let (next, hole, twice) = (me.seq + 100, [me.seq + 500, me.seq + 510], [me.seq, me.seq + 100]);
    assert_eq!(told(&first), (next, vec![]));
    assert_eq!(told(&later), (next, vec![hole]));
    assert_eq!(told(&first), (next, vec![twice, hole]));
    assert_eq!(told(&Packet { seq: next, flags: ACK | PRB, stamp: 3, ..me.clone() }), (next, vec![hole]));
    assert_eq!(recv(&socket, &mut [0; 999], 0), Ok(Some(99)));
}

/// Between two of ours: a queue in front of a slow link takes seven packets of a burst of ten.
#[test]
fn a_queue_that_overflows_at_the_end_of_a_burst_costs_no_timeout() {
    for size in [1300, 9] {
        let world = World::new(45);
        let slow = Direction::default().rate(20_000_000).delay(Duration::from_millis(10)).queue_packets(6);
        let [(a, _), (b, eb)] = world.two(&LinkConfig::both(slow)).expect("two stacks");
        for stack in [&a, &b] {
            loader::load(stack, &plugin()).unwrap_or_else(|e| panic!("{e}"));
        }
        let to = SocketAddr::new(eb.v4.into(), PORT);
        let listener = Socket::new(&b, libc::AF_INET, SEQPACKET, RDP).expect("socket");
        listener.bind(to).expect("bind");
        listener.listen(1).expect("listen");
        let client = Socket::new(&a, libc::AF_INET, SEQPACKET, RDP).expect("socket");
        client.connect(Some(to)).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let start = world.now();
        for i in 0..10u8 {
            assert_eq!(send(&client, &vec![i; size], 0), Ok(size));
        }
        for i in 0..10u8 {
            let mut buf = [99; 2000];
            assert_eq!((recv(&server, &mut buf, 0), buf[0]), (Ok(Some(size)), i));
        }
        let took = world.now() - start;
        world.run_for(Duration::from_secs(10));
        let [timeouts, probes, fast] = ["RdpTimeouts", "RdpLossProbes", "RdpFastRecoveries"].map(|n| counter(&a, n));
        assert_eq!((timeouts, probes, fast), (0, 1, 1), "{size}");
        // The least timeout is a round trip and 200 ms.
        assert!(took < Duration::from_millis(200), "{took:?}");
    }
}

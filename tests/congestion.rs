//! Congestion control over a bottleneck, in virtual time: what each algorithm carries over a path, and how much of the
//! path's queue it fills. Rates and round-trip times are read from the receiver and from `struct tcp_info`.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::driver::Step;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};

const PORT: u16 = 5001;
const CHUNK: usize = 64 * 1024;

/// A flow from a client to a server.
struct Flow {
    world: World,
    client: Socket,
    server: Socket,
    received: u64,
}

/// What a span of the flow was like.
#[derive(Debug)]
struct Seen {
    /// Received, bits a second.
    goodput: u64,
    /// Greatest smoothed RTT, and the least RTT at the end, milliseconds.
    max_srtt_ms: u32,
    min_rtt_ms: u32,
    /// Segments sent again since the flow began.
    retransmitted: u32,
}

impl Flow {
    fn new(cc: &str, link: &LinkConfig, seed: u64) -> Flow {
        Flow::with(cc, &[], link, seed)
    }

    fn with(cc: &str, sysctls: &[(&str, &str)], link: &LinkConfig, seed: u64) -> Flow {
        let world = World::new(seed);
        let [(a, _), (b, eb)] = world.two(link).unwrap();
        for stack in [&a, &b] {
            stack.sysctl.set("net.ipv4.tcp_congestion_control", cc).unwrap();
            sysctls.iter().for_each(|(name, value)| stack.sysctl.set(name, value).unwrap());
            // Buffers that never limit a flow of these tests.
            stack.sysctl.set("net.ipv4.tcp_rmem", "4096 131072 33554432").unwrap();
            stack.sysctl.set("net.ipv4.tcp_wmem", "4096 16384 33554432").unwrap();
        }
        let listener = Socket::new(&b, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        let to = SocketAddr::new(eb.v4.into(), PORT);
        listener.bind(to).unwrap();
        listener.listen(1).unwrap();
        listener.set_nonblocking(true);
        let client = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        client.set_nonblocking(true);
        assert_eq!(client.connect(Some(to)), Err(Error::InProgress));
        let server = loop {
            match listener.accept() {
                Ok((s, _)) => break s,
                Err(e) => assert_eq!(e, Error::Again),
            }
            world.step(world.now() + Duration::from_secs(10));
        };
        Flow { world, client, server, received: 0 }
    }

    /// One field of the client's `struct tcp_info`, at its offset in linux/tcp.h.
    fn tcpi(&self, offset: usize) -> u32 {
        let mut info = [0; 256];
        self.client.getsockopt(libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
        u32::from_ne_bytes(info[offset..offset + 4].try_into().unwrap())
    }

    /// Sends and reads what is possible now. True when something was.
    fn pump(&mut self, buf: &mut [u8]) -> bool {
        let mut any = false;
        let data = [7; CHUNK];
        while self.client.sendmsg(&mut SendMsg::new(&[IoSlice::new(&data)], libc::MSG_DONTWAIT)).is_ok() {
            any = true;
        }
        while let Ok(n) = self.server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(buf)], libc::MSG_DONTWAIT)) {
            self.received += n as u64;
            any = true;
        }
        any
    }

    /// Sends as fast as the window allows for `span`.
    fn run(&mut self, span: Duration) -> Seen {
        let (start, before) = (self.world.now(), self.received);
        let mut buf = vec![0; CHUNK];
        let mut max_srtt = 0;
        while self.world.now() < start + span {
            let now = self.world.now();
            if !self.pump(&mut buf) || self.world.step(now) == Step::Limit {
                self.world.step(start + span);
            }
            max_srtt = max_srtt.max(self.tcpi(68));
        }
        let bits = (self.received - before) * 8;
        Seen {
            goodput: bits * 1000 / span.as_millis() as u64,
            max_srtt_ms: max_srtt / 1000,
            min_rtt_ms: self.tcpi(148) / 1000,
            retransmitted: self.tcpi(100),
        }
    }
}

/// A path of 10 Mbit/s and 40 ms there and back.
fn path() -> Direction {
    Direction::default().rate(10_000_000).delay(Duration::from_millis(20))
}

/// A lossy path whose loss says nothing of its load: BBR keeps the rate, CUBIC takes each loss for congestion.
#[test]
fn bbr_carries_the_paths_bandwidth_through_random_loss_and_cubic_does_not() {
    let link = LinkConfig::both(path().loss(0.01).queue_bytes(100_000));
    let goodput = |cc| {
        let mut flow = Flow::new(cc, &link, 3);
        flow.run(Duration::from_secs(3));
        flow.run(Duration::from_secs(8)).goodput
    };
    let (bbr, cubic) = (goodput("bbr"), goodput("cubic"));
    assert!(bbr > 8_800_000, "{bbr}");
    assert!(cubic < 7_000_000, "{cubic}");
}

/// A queue of a second: CUBIC fills it, BBR holds at most about its window of two bandwidth-delay products.
#[test]
fn bbr_leaves_a_deep_queue_nearly_empty() {
    let link = LinkConfig::both(path().queue_bytes(1_250_000));
    let seen = |cc| {
        let mut flow = Flow::new(cc, &link, 4);
        flow.run(Duration::from_secs(3));
        flow.run(Duration::from_secs(8))
    };
    let (bbr, cubic) = (seen("bbr"), seen("cubic"));
    assert!(bbr.goodput > 9_000_000 && cubic.goodput > 9_000_000, "{bbr:?} {cubic:?}");
    assert!(bbr.max_srtt_ms < 90, "{bbr:?}");
    assert!(cubic.max_srtt_ms > 400, "{cubic:?}");
    // The RTT without a queue is found again, by ProbeRTT or when the queue was empty.
    assert!((40..45).contains(&bbr.min_rtt_ms), "{bbr:?}");
    assert_eq!(bbr.retransmitted, 0, "{bbr:?}");
}

/// Startup's overshoot fits a queue of two products; the path is full within a few round trips.
#[test]
fn bbr_fills_the_path_within_a_second() {
    let link = LinkConfig::both(path().queue_bytes(200_000));
    let mut flow = Flow::new("bbr", &link, 5);
    flow.run(Duration::from_millis(600));
    let seen = flow.run(Duration::from_secs(2));
    assert!(seen.goodput > 8_800_000, "{seen:?}");
}

/// After an idle time the path is filled at its own rate, without a burst that its queue would drop.
#[test]
fn bbr_restarts_after_idling_without_a_burst() {
    let link = LinkConfig::both(path().queue_bytes(60_000));
    let mut flow = Flow::new("bbr", &link, 6);
    flow.run(Duration::from_secs(3));
    let before = flow.tcpi(100);
    flow.world.run_for(Duration::from_secs(15));
    let seen = flow.run(Duration::from_secs(2));
    assert!(seen.goodput > 8_500_000, "{seen:?}");
    assert_eq!(seen.retransmitted, before, "{seen:?}");
}

/// A token bucket in front of the path drops half of what BBR believes it can send; its rate is found and used, so that
/// little is lost from then on.
#[test]
fn bbr_finds_the_rate_of_a_policer() {
    // A queue of three packets delays nothing that BBR could see, and drops whatever exceeds the rate.
    let link = LinkConfig::both(path().queue_bytes(4_600));
    let mut flow = Flow::new("bbr", &link, 7);
    flow.run(Duration::from_secs(4));
    let before = flow.tcpi(100);
    let seen = flow.run(Duration::from_secs(6));
    assert!(seen.goodput > 7_000_000, "{seen:?}");
    let (lost, sent) = (seen.retransmitted - before, seen.goodput * 6 / 8 / 1_448);
    assert!(u64::from(lost) < sent / 12, "{lost} of {sent}: {seen:?}");
}

/// A switch that marks from 20 packets on: DCTCP holds its queue there and loses nothing.
#[test]
fn dctcp_holds_the_queue_at_the_marking_threshold() {
    let link = LinkConfig::both(path().queue_bytes(300_000).ecn_threshold(30_000));
    let mut flow = Flow::new("dctcp", &link, 8);
    flow.run(Duration::from_secs(4));
    let seen = flow.run(Duration::from_secs(8));
    assert!(seen.goodput > 9_000_000, "{seen:?}");
    // The threshold is 24 ms of queue; the window oscillates around it.
    assert!((50..85).contains(&seen.max_srtt_ms), "{seen:?}");
}

/// A queue that slow start overfills: HyStart++ (RFC 9406) grows slowly by then, loses a fraction of what plain slow
/// start loses, and carries as much.
#[test]
fn hystart_plus_loses_a_fraction_of_what_slow_start_does() {
    let link = LinkConfig::both(path().queue_bytes(200_000));
    let seen = |hystart| {
        let sysctls = [("tcp_cubic.hystart", hystart), ("tcp_cubic.hystart_detect", "4")];
        let mut flow = Flow::with("cubic", &sysctls, &link, 9);
        flow.run(Duration::from_millis(1500))
    };
    let (slow_start, plus) = (seen("0"), seen("1"));
    assert!(slow_start.retransmitted > 4 * plus.retransmitted, "{slow_start:?} {plus:?}");
    assert!(plus.goodput > 9_000_000, "{plus:?}");
}

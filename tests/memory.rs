//! What a connection costs in memory, everything counted: what its socks, tables, timers and queues hold, in the
//! form in which the program's allocator holds it. Virtual time, so all runs on the one thread whose allocations are
//! counted.

use allocation_counter::measure;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::env::Instant;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::state::State;
use usersock::stack::{Stack, TimerCall, TimerSlot};

/// Connections that are measured: the tables are about as full as they are on average.
const N: usize = 800;
/// Time-wait records: so many that the tables are not mostly empty, and fewer than there are local ports.
const RECORDS: usize = 10_000;

/// Bytes that malloc holds for each allocation in addition: a header, and on average half of the rounding to 16.
const MALLOC: i64 = 12;

/// What `f` leaves allocated, bytes.
fn held(f: impl FnOnce()) -> i64 {
    let info = measure(f);
    info.bytes_current + MALLOC * info.count_current
}

/// A timer that does nothing.
struct Nothing;

impl TimerCall for Nothing {
    fn fire(self: Arc<Self>, _: &Arc<Stack>, _: Instant) {}
}

/// A stack whose loopback has both ends, and a listener.
struct Net {
    world: World,
    stack: Arc<Stack>,
    listener: Socket,
    to: SocketAddr,
}

impl Net {
    fn new() -> Net {
        let world = World::new(1);
        let stack = world.stack().unwrap();
        // The wheels keep the memory of their timers, which is that of the most at a time.
        let mut slots: Vec<_> = (0..8192).map(|_| TimerSlot::default()).collect();
        slots.iter_mut().for_each(|slot| stack.arm_call(slot, Arc::new(Nothing), world.now() + Duration::from_secs(1)));
        world.run_for(Duration::from_secs(2));
        let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5001);
        let listener = socket(&stack);
        listener.bind(to).unwrap();
        listener.listen(100).unwrap();
        Net { world, stack, listener, to }
    }

    /// Opens a connection, over which a byte goes each way.
    fn open(&self) -> [Socket; 2] {
        let client = socket(&self.stack);
        let _ = client.connect(Some(self.to));
        self.world.run_for(Duration::from_micros(10));
        let (server, _) = self.listener.accept().expect("the handshake is over");
        server.set_nonblocking(true);
        for (from, to) in [(&client, &server), (&server, &client)] {
            let mut byte = [7];
            from.sendmsg(&mut SendMsg::new(&[IoSlice::new(&byte)], 0)).expect("room");
            self.world.run_for(Duration::from_micros(10));
            to.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut byte)], 0)).expect("a byte");
        }
        [client, server]
    }
}

fn socket(stack: &Arc<Stack>) -> Socket {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    s
}

#[test]
fn an_idle_established_end_takes_at_most_1024_bytes() {
    let net = Net::new();
    drop((0..8).map(|_| net.open()).collect::<Vec<_>>());
    net.world.run_for(Duration::from_secs(61));
    let mut ends = Vec::with_capacity(N);
    let bytes = held(|| {
        ends.extend((0..N).map(|_| net.open()));
        net.world.run_for(Duration::from_secs(1));
    });
    let each = bytes / (2 * N) as i64;
    println!("an idle established end: {each} bytes");
    assert!(each <= 1024, "{each} bytes");
}

/// All counted: its slot in the table, its port, which no other connection has, and its place among those that end.
#[test]
fn a_time_wait_record_takes_at_most_200_bytes() {
    let net = Net::new();
    let close = |[client, server]: [Socket; 2]| {
        drop(client);
        net.world.run_for(Duration::from_micros(10));
        drop(server);
        net.world.run_for(Duration::from_micros(10));
    };
    (0..8).for_each(|_| close(net.open()));
    net.world.run_for(Duration::from_secs(61));
    let bytes = held(|| (0..RECORDS).for_each(|_| close(net.open())));
    let each = bytes / RECORDS as i64;
    println!("a TIME-WAIT record: {each} bytes");
    assert!(each <= 200, "{each} bytes");
}

#[test]
fn time_wait_records_end_in_few_wake_ups() {
    let net = Net::new();
    let begin = net.world.now();
    let mut server = None;
    for _ in 0..300 {
        let [client, s] = net.open();
        drop(client);
        net.world.run_for(Duration::from_micros(300));
        server.replace(s);
    }
    drop(server);
    let records = || net.stack.sockets().iter().filter(|s| s.state == State::TimeWait).count();
    net.world.run_until(begin + Duration::from_secs(59));
    assert_eq!(records(), 300);
    let (mut steps, limit) = (0, begin + Duration::from_secs(62));
    while net.world.now() < limit {
        net.world.step(limit);
        steps += 1;
    }
    // They were made in 0.1 s, which are two or three ticks of 67 ms.
    println!("{steps} wake-ups for the end of 300 records");
    assert!(records() == 0 && steps <= 12, "{steps} wake-ups, {} records left", records());
}

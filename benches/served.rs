//! What a server's requests cost among 10^3 to 10^6 established connections: a batch of segments of connections at
//! random is in the device, as under load, and each is answered. The peers are made by hand, outside the measured time,
//! so that only the server's end counts; `scale` has both ends of one connection at a time in one stack. The largest
//! number is measured only when it is asked for.

use crate::measure::{Bench, cpu_time};
use crate::report::{Report, Row, Target, Unit};
use crate::wire::{HERE, ISS, PORT, Wire, segment};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use usersock::driver::Parked;
use usersock::env::{RealClock, SeededEntropy};
use usersock::internal::wire::tcp::TcpFlags;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::skb::Skb;
use usersock::stack::{Stack, StackConfig};

/// Numbers of connections.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// From here on a number is measured only when it is asked for.
const LARGE: usize = 1_000_000;
/// Segments of a batch.
const BATCH: usize = 32;
/// Batches that are timed, in each of [`TURNS`].
const BATCHES: usize = 200;
const TURNS: usize = 100;
/// A request over one of many costs at most so many times one of 1000.
const GROWTH: f64 = 1.5;

/// Connections of a peer's address, and the first port and third octet.
const OF_ADDRESS: usize = 50_000;
const FIRST_PORT: usize = 1024;
const FIRST_NET: usize = 1;

/// The rows.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let mut of_thousand: Option<f64> = None;
    let most = if bench.readme || bench.asks("served") { LARGE } else { LARGE - 1 };
    for n in SIZES.into_iter().filter(|n| *n <= most) {
        let ours = bench.attempt(report, &format!("served/{n}"), |_| Some(measure(n)));
        if n == 1_000 {
            of_thousand = ours;
        }
        let what = format!("{n} connections, a server, {BATCH} requests at once: a request");
        let most = of_thousand.filter(|_| n > 1_000).map(|before| GROWTH * before);
        let target = most.map_or(Target::None, Target::AtMost);
        report.row(Row { what, unit: Unit::Nanos, ours, kernel: None, peer: None, target });
        if let (Some(now), Some(before)) = (ours, of_thousand) {
            let times = now / before;
            report.note(format!("A request to a server with {n} connections costs {times:.2} times one with 1000."));
        }
    }
}

/// The address of peer `i`.
fn address(i: usize) -> (Ipv4Addr, u16) {
    let ip = Ipv4Addr::new(10, 0, (FIRST_NET + i / OF_ADDRESS) as u8, 2);
    (ip, (FIRST_PORT + i % OF_ADDRESS) as u16)
}

/// The peer of an address.
fn peer(ip: Ipv4Addr, port: u16) -> usize {
    (usize::from(ip.octets()[2]) - FIRST_NET) * OF_ADDRESS + usize::from(port) - FIRST_PORT
}

/// The server, and its peers.
struct Server {
    stack: Arc<Stack>,
    wire: Arc<Wire>,
    sockets: Vec<Arc<Socket>>,
    /// Of each peer: the sequence number that it sends next.
    seqs: Vec<u32>,
    at: u32,
}

impl Server {
    fn new(n: usize) -> Server {
        let clock = Arc::new(RealClock::new());
        let config = StackConfig::new(clock, Arc::new(SeededEntropy::new(1)), Arc::new(Parked::default()));
        let stack = usersock::standard::stack(config).expect("a stack");
        let wire = Arc::new(Wire::new(n, peer));
        let dev = stack.add_device(wire.clone()).expect("a device");
        usersock::ip::route::add_address(&stack, &dev, "10.0.0.1/8".parse().expect("an address")).expect("added");
        let listener = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
        listener.bind(SocketAddr::from((HERE, PORT))).expect("bind");
        listener.listen(BATCH as i32).expect("listen");
        listener.set_nonblocking(true);
        let mut server = Server { stack, wire, sockets: Vec::with_capacity(n), seqs: vec![ISS; n], at: 1 };
        for first in (0..n).step_by(BATCH) {
            let peers: Vec<usize> = (first..n.min(first + BATCH)).collect();
            server.put(&peers, TcpFlags::SYN, &[]);
            server.put(&peers, TcpFlags::ACK, &[]);
            for &i in &peers {
                let (socket, from) = listener.accept().expect("a connection");
                assert_eq!(from.port(), address(i).1, "in the order of the handshakes");
                socket.set_nonblocking(true);
                server.sockets.push(Arc::new(socket));
            }
            // Each has been used before it is measured, as nearly all of a server's have.
            server.serve(&peers);
        }
        server
    }

    /// Gives the stack a segment of each of these peers; returns the processor time that they took.
    fn put(&mut self, peers: &[usize], flags: TcpFlags, data: &[u8]) -> Duration {
        let segments: Vec<Skb> = peers.iter().map(|&i| self.segment(i, flags, data)).collect();
        self.wire.put(segments, &self.stack, || self.stack.now())
    }

    /// The next segment of a peer.
    fn segment(&mut self, i: usize, flags: TcpFlags, data: &[u8]) -> Skb {
        let syn = flags.contains(TcpFlags::SYN);
        let options: &[u8] = if syn { &[2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7] } else { &[] };
        let (seq, ack) = (self.seqs[i], if syn { 0 } else { self.wire.sent_to(i) });
        self.seqs[i] = seq.wrapping_add(data.len() as u32 + u32::from(syn));
        segment(address(i), (seq, ack), flags, options, data)
    }

    /// A batch of requests of a byte, their answers, and the acknowledgements of those; returns the processor time.
    fn batch(&mut self) -> Duration {
        let peers: Vec<usize> = (0..BATCH)
            .map(|_| {
                // A full period of every number below 2^31, in an order that no cache foresees (Knuth, TAOCP 3.2.1).
                self.at = self.at.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
                (self.at >> 4) as usize % self.sockets.len()
            })
            .collect();
        self.serve(&peers)
    }

    /// The same of these peers.
    fn serve(&mut self, peers: &[usize]) -> Duration {
        let mut used = self.put(peers, TcpFlags::ACK | TcpFlags::PSH, &[7]);
        // Where a program keeps its connections is its own affair, and not measured.
        let sockets: Vec<&Socket> = peers.iter().map(|&i| &*self.sockets[i]).collect();
        let start = cpu_time();
        for socket in sockets {
            let mut byte = [0; 2];
            let mut room = [IoSliceMut::new(&mut byte)];
            match socket.recvmsg(&mut RecvMsg::new(&mut room, libc::MSG_DONTWAIT)) {
                Ok(n) => {
                    let sent = socket.sendmsg(&mut SendMsg::new(&[IoSlice::new(&byte[..n])], 0));
                    assert_eq!(sent.ok(), Some(n), "an answer");
                }
                // One of a few is asked twice in a batch, and has then answered both at once.
                Err(e) => assert_eq!(e, usersock::error::Error::Again),
            }
        }
        used += cpu_time() - start;
        used + self.put(peers, TcpFlags::ACK, &[])
    }
}

/// Nanoseconds of a request to a server with `n` connections.
fn measure(n: usize) -> f64 {
    let mut server = Server::new(n);
    let mut turn = |batches: usize| {
        let used: Duration = (0..batches).map(|_| server.batch()).sum();
        used.as_nanos() as f64 / (batches * BATCH) as f64
    };
    turn(BATCHES / 4);
    (0..TURNS).map(|_| turn(BATCHES)).sum::<f64>() / TURNS as f64
}

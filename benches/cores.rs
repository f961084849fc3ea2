//! What a second thread gains: two threads, each with both ends of connections of its own, against one. Turns of one
//! and of two threads alternate, and the best of many is taken, because other programs take the processors meanwhile.
//! The processor time of an operation is measured with them, which shows the same in another way: threads that wait
//! for each other spend it idle or by turns, and threads that write the same cache lines spend more of it.
//! On a busy machine, in the real-time class: `chrt -f 10 cargo bench -- cores`, built before.

use crate::figure::Panel;
use crate::measure::{Bench, cpu_time};
use crate::net::{Kernel, Net, Ours};
use crate::report::{Report, Row, Target, Unit};
use crate::rpc::{self, First};
use crate::space::{self, Peer};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

/// How long a turn lasts, and how many there are of one thread and of two.
const TURN: Duration = Duration::from_millis(25);
const TURNS: usize = 40;
/// Threads of a turn.
const THREADS: [usize; 2] = [1, 2];
/// Bytes of a bulk operation: written and read in one go, so that one thread can have both ends.
const BULK: usize = 64 * 1024;

/// Addresses of the two ends of the veth pair.
const FAR: (&str, &str) = ("10.99.6.1", "10.99.6.2");

/// An operation that a thread repeats.
type Op = Box<dyn FnMut()>;

/// What a stack has besides [`Net`].
trait Datagrams: Net + Sync {
    /// A UDP socket.
    type Udp: Send + 'static;
    /// A socket bound to a free port of `ip`, with its address.
    fn udp(&self, ip: &str) -> (Self::Udp, SocketAddr);
    /// Connects it.
    fn associate(socket: &Self::Udp, to: SocketAddr);
    /// Sends a datagram to the connected address.
    fn send(socket: &Self::Udp, datagram: &[u8]);
    /// Receives one.
    fn recv(socket: &Self::Udp, buf: &mut [u8]) -> usize;
}

impl Datagrams for Kernel {
    type Udp = std::net::UdpSocket;
    fn udp(&self, ip: &str) -> (Self::Udp, SocketAddr) {
        let s = std::net::UdpSocket::bind((ip, 0)).expect("bind");
        let addr = s.local_addr().expect("address");
        (s, addr)
    }
    fn associate(socket: &Self::Udp, to: SocketAddr) {
        socket.connect(to).expect("connect");
    }
    fn send(socket: &Self::Udp, datagram: &[u8]) {
        socket.send(datagram).expect("send");
    }
    fn recv(socket: &Self::Udp, buf: &mut [u8]) -> usize {
        socket.recv(buf).expect("recv")
    }
}

impl Datagrams for Ours {
    type Udp = usersock::net::UdpSocket;
    fn udp(&self, ip: &str) -> (Self::Udp, SocketAddr) {
        let s = usersock::net::UdpSocket::bind_on(&self.0, (ip, 0)).expect("bind");
        let addr = s.local_addr().expect("address");
        (s, addr)
    }
    fn associate(socket: &Self::Udp, to: SocketAddr) {
        socket.connect(to).expect("connect");
    }
    fn send(socket: &Self::Udp, datagram: &[u8]) {
        socket.send(datagram).expect("send");
    }
    fn recv(socket: &Self::Udp, buf: &mut [u8]) -> usize {
        socket.recv(buf).expect("recv")
    }
}

/// Where the two ends of an operation are.
struct Ends<'a, A, B> {
    /// The stack that connects, and its address for datagrams.
    near: (&'a A, &'a str),
    /// The stack that listens, and its address.
    far: (&'a B, &'static str),
    /// The namespace of the kernel's sockets that listen, if it is another one.
    namespace: Option<&'a Peer>,
}

impl<A: Datagrams, B: Datagrams> Ends<'_, A, B> {
    /// Makes something of the listening end, in its namespace.
    fn far<T: Send + 'static>(&self, make: impl FnOnce(&B, &str) -> T + Send + 'static) -> T {
        let (stack, ip) = (self.far.0.clone(), self.far.1);
        match self.namespace {
            Some(peer) => peer.run(move || make(&stack, ip)),
            None => make(&stack, ip),
        }
    }

    fn pair(&self) -> (A::Stream, B::Stream) {
        let (listener, addr) = self.far(|stack, ip| stack.listen(ip));
        let client = self.near.0.connect(addr);
        let server = self.far.0.accept(&listener);
        A::limit(&client);
        B::limit(&server);
        (client, server)
    }

    /// One byte each way on an open connection.
    fn exchanges(&self) -> Op {
        let (mut client, mut server) = self.pair();
        Box::new(move || {
            let mut byte = [7];
            client.write_all(&byte).expect("write");
            server.read_exact(&mut byte).expect("read");
            server.write_all(&byte).expect("write");
            client.read_exact(&mut byte).expect("read");
        })
    }

    /// A datagram of 64 bytes; with `back`, one each way.
    fn datagrams(&self, back: bool) -> Op {
        let (near, from) = self.near.0.udp(self.near.1);
        let (far, to) = self.far(|stack, ip| stack.udp(ip));
        A::associate(&near, to);
        B::associate(&far, from);
        Box::new(move || {
            let mut buf = [0x5a; 64];
            A::send(&near, &buf);
            assert_eq!(B::recv(&far, &mut buf), 64);
            if back {
                B::send(&far, &buf);
                assert_eq!(A::recv(&near, &mut buf), 64);
            }
        })
    }

    /// [`BULK`] bytes from the client to the server.
    fn bulk(&self) -> Op {
        let (mut client, mut server) = self.pair();
        let mut buf = vec![0x5a; BULK];
        Box::new(move || {
            client.write_all(&buf).expect("write");
            server.read_exact(&mut buf).expect("read");
        })
    }

    /// A connection: connect, one byte each way, close, the server first, so that no port of the client's is in
    /// TIME-WAIT.
    fn connect_close(&self) -> Op {
        let (listener, addr) = self.far(|stack, ip| stack.listen(ip));
        let (near, far) = (self.near.0.clone(), self.far.0.clone());
        Box::new(move || {
            let mut byte = [7];
            let mut client = near.connect(addr);
            let mut server = far.accept(&listener);
            client.write_all(&byte).expect("write");
            server.read_exact(&mut byte).expect("read");
            server.write_all(&byte).expect("write");
            client.read_exact(&mut byte).expect("read");
            rpc::close(client, server, First::Server);
        })
    }
}

/// The best turns of a number of threads.
#[derive(Clone, Copy)]
struct Best {
    /// Operations a second of all threads.
    rate: f64,
    /// Processor time of one operation, seconds.
    cpu: f64,
}

/// Keeps this thread on the `n`th processor that the process may use: on a busy machine the scheduler may otherwise
/// have both threads on one. A machine that refuses measures less.
fn pin(n: usize) {
    let Ok(mine) = sched_getaffinity(Pid::from_raw(std::process::id() as i32)) else { return };
    let mut one = CpuSet::new();
    let cpu = (0..CpuSet::count()).filter(|&cpu| mine.is_set(cpu) == Ok(true)).nth(n);
    if cpu.is_some_and(|cpu| one.set(cpu).is_ok()) {
        let _ = sched_setaffinity(Pid::from_raw(0), &one);
    }
}

/// Both threads, in turns of one and of two; `make` is called in each thread for the turns in which it takes part.
fn turns(make: Make<'_>) -> [Best; 2] {
    let (barrier, results) = (Barrier::new(2), Mutex::new(Vec::new()));
    let mut best = [Best { rate: 0.0, cpu: f64::INFINITY }; 2];
    std::thread::scope(|s| {
        let thread = |me: usize| {
            pin(me);
            let mut ops = THREADS.map(|threads| (me < threads).then(|| make(threads)));
            // The first turn warms up.
            for turn in 0..=TURNS {
                for (threads, op) in THREADS.into_iter().zip(&mut ops) {
                    barrier.wait();
                    if let Some(op) = op {
                        let (begin, used, mut n) = (Instant::now(), cpu_time(), 0u32);
                        while begin.elapsed() < TURN {
                            (0..8).for_each(|_| op());
                            n += 8;
                        }
                        let result = (n, begin.elapsed(), cpu_time() - used);
                        if turn > 0 {
                            results.lock().expect("no panic").push((threads, turn, result));
                        }
                    }
                    barrier.wait();
                }
            }
        };
        let both = [0, 1].map(|me| s.spawn(move || thread(me)));
        both.into_iter().for_each(|t| t.join().expect("it did its part"));
    });
    let results = results.into_inner().expect("no panic");
    for (threads, best) in THREADS.into_iter().zip(&mut best) {
        for turn in 1..=TURNS {
            let of = || results.iter().filter(move |r| (r.0, r.1) == (threads, turn)).map(|r| r.2);
            let rate: f64 = of().map(|(n, wall, _)| f64::from(n) / wall.as_secs_f64()).sum();
            let n: u32 = of().map(|r| r.0).sum();
            let cpu: f64 = of().map(|r| r.2.as_secs_f64()).sum();
            *best = Best { rate: best.rate.max(rate), cpu: best.cpu.min(cpu / f64::from(n)) };
        }
    }
    best
}

/// The best rates of two operations that a thread does in turns, the first as a multiple of the second.
fn against(mut ops: [Op; 2]) -> f64 {
    let mut best = [0.0f64; 2];
    for _ in 0..TURNS {
        for (op, best) in ops.iter_mut().zip(&mut best) {
            let (begin, mut n) = (Instant::now(), 0u32);
            while begin.elapsed() < TURN {
                (0..8).for_each(|_| op());
                n += 8;
            }
            *best = best.max(f64::from(n) / begin.elapsed().as_secs_f64());
        }
    }
    best[0] / best[1]
}

/// Runs one stack's part of a row; the rate of two threads as a multiple of one's.
fn gain(bench: &mut Bench, report: &mut Report, name: &str, make: Make<'_>) -> Option<f64> {
    let mut best = None;
    bench.attempt(report, name, |_| {
        best = Some(turns(make));
        None
    });
    let [one, two] = best?;
    report.note(format!(
        "{name}: {:.0} and {:.0} operations a second, {:.2} and {:.2} µs of processor time each",
        one.rate,
        two.rate,
        one.cpu * 1e6,
        two.cpu * 1e6
    ));
    Some(two.rate / one.rate)
}

/// A way to make an operation on a stack, for turns of so many threads.
type Make<'a> = &'a (dyn Fn(usize) -> Op + Sync);

fn row(bench: &mut Bench, report: &mut Report, (what, group): (&str, &str), kernel: Make<'_>, ours: Make<'_>) {
    let kernel = gain(bench, report, &format!("cores/{group}/kernel"), kernel);
    let ours = gain(bench, report, &format!("cores/{group}/usersock"), ours);
    report.point(Panel::Cores, what, 1.0, ours.map(|_| 1.0));
    report.point(Panel::Cores, what, 2.0, ours);
    let what = format!("{what}: rate of two threads over one's");
    report.row(Row { what, unit: Unit::Count, ours, kernel, peer: None, target: Target::AtLeast(1.8) });
}

/// Both stacks' loopback, and ours across TUN beside the kernel's across veth.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let ours = Ours::loopback();
    ours.0.sysctl.set("net.ipv4.ip_local_port_range", "1024 65535").expect("a valid range");
    let ip = "127.0.0.1";
    let k = Ends { near: (&Kernel, ip), far: (&Kernel, ip), namespace: None };
    let o = Ends { near: (&ours, ip), far: (&ours, ip), namespace: None };
    let b = bench;
    row(b, report, ("loopback, 1 byte each way", "exchanges"), &|_| k.exchanges(), &|_| o.exchanges());
    row(b, report, ("loopback, datagrams of 64 B", "udp"), &|_| k.datagrams(false), &|_| o.datagrams(false));
    row(b, report, ("loopback, bulk, 64 KiB writes", "bulk"), &|_| k.bulk(), &|_| o.bulk());
    let connect = ("loopback, connect, 1 byte each way, close", "connect");
    row(b, report, connect, &|_| k.connect_close(), &|_| o.connect_close());
    if let Err(e) = tun(b, report) {
        report.note(format!("SKIP two threads across TUN: {e}"));
    }
}

/// Across a TUN device with two queues; the kernel across veth.
fn tun(b: &mut Bench, report: &mut Report) -> Result<(), String> {
    let groups = ["tun_exchanges", "tun_udp", "tun_bulk", "tun_connect", "tun_queues"];
    if !groups.iter().any(|g| ["kernel", "usersock"].iter().any(|id| b.wants(&format!("cores/{g}/{id}")))) {
        return Ok(());
    }
    let build = |config| {
        let ours = Ours(usersock::config::build(config).map_err(|e| e.to_string())?);
        ours.0.sysctl.set("net.ipv4.ip_local_port_range", "1024 65535").map_err(|e| e.to_string())?;
        Ok::<_, String>(ours)
    };
    let ours = build("tun=usk2,addr=10.99.5.2/24,queues=2")?;
    space::ip("addr add 10.99.5.1/24 dev usk2")?;
    // What one thread is best with: where the stack may not tell the kernel a flow's queue (it takes CAP_BPF), packets
    // come by any, and a thread alone would wait for those of the other.
    let one_queue = build("tun=usk3,addr=10.99.7.2/24")?;
    space::ip("addr add 10.99.7.1/24 dev usk3")?;
    let peer = Peer::at(["veth2", "veth3"], FAR)?;
    let k = Ends { near: (&Kernel, FAR.0), far: (&Kernel, FAR.1), namespace: Some(&peer) };
    let o = Ends { near: (&ours, "10.99.5.2"), far: (&Kernel, "10.99.5.1"), namespace: None };
    let alone = Ends { near: (&one_queue, "10.99.7.2"), far: (&Kernel, "10.99.7.1"), namespace: None };
    let [exchanges, udp, bulk, connect, queues] = groups;
    row(b, report, ("across TUN, 1 byte each way", exchanges), &|_| k.exchanges(), &|_| o.exchanges());
    row(b, report, ("across TUN, datagrams of 64 B each way", udp), &|_| k.datagrams(true), &|_| o.datagrams(true));
    row(b, report, ("across TUN, bulk out, 64 KiB writes", bulk), &|_| k.bulk(), &|_| o.bulk());
    let what = ("across TUN, connect, 1 byte each way, close (one thread: one queue)", connect);
    let ours = |threads| if threads == 1 { alone.connect_close() } else { o.connect_close() };
    row(b, report, what, &|_| k.connect_close(), &ours);
    let of_two = b.attempt(report, &format!("cores/{queues}/usersock"), |_| {
        Some(against([o.connect_close(), alone.connect_close()]))
    });
    let what = "across TUN, connect, 1 byte each way, close, one thread: rate over two queues of that over one".into();
    let target = Target::AtLeast(0.95);
    report.row(Row { what, unit: Unit::Count, ours: of_two, kernel: None, peer: None, target });
    Ok(())
}

//! Small exchanges: one byte there and back on an open connection, and whole connections of one byte each way.

use crate::measure::{Bench, process_time};
use crate::net::Net;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

/// What a connection's end is.
pub trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Latency of one byte there and back, in nanoseconds: the median of all exchanges of all samples.
pub fn latency<C, S>(bench: &mut Bench, group: &str, id: &str, mut client: C, mut server: S) -> Option<f64>
where
    C: Read + Write,
    S: Read + Write + Send + 'static,
{
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while matches!(server.read(&mut byte), Ok(1)) && server.write_all(&byte).is_ok() {}
    });
    let mut all: Vec<u32> = Vec::with_capacity(1 << 20);
    let ran = bench.custom(group, id, 0, |n| {
        let begin = Instant::now();
        for i in 0..n {
            let start = Instant::now();
            let mut byte = [i as u8];
            client.write_all(&byte).expect("write");
            client.read_exact(&mut byte).expect("read");
            assert_eq!(byte[0], i as u8);
            all.push(start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
        }
        begin.elapsed()
    });
    drop(client);
    echo.join().expect("the echo ended");
    ran?;
    let middle = all.len() / 2;
    Some(f64::from(*all.select_nth_unstable(middle).1))
}

/// One byte each way.
fn both_ways(client: &mut impl Stream, server: &mut impl Stream, byte: u8) {
    let mut b = [byte];
    client.write_all(&b).expect("write");
    server.read_exact(&mut b).expect("read");
    server.write_all(&b).expect("write");
    client.read_exact(&mut b).expect("read");
    assert_eq!(b[0], byte);
}

/// Connections a second: connect, one byte each way, close; the server first. One thread has both ends, so that the
/// stack is measured and not the scheduler.
pub fn connections<N: Net>(bench: &mut Bench, group: &str, id: &str, net: &N, ip: &str) -> Option<f64> {
    let (listener, addr) = net.listen(ip);
    let median = bench.custom(group, id, 0, |n| {
        let start = Instant::now();
        for i in 0..n {
            let mut client = net.connect(addr);
            let mut server = net.accept(&listener);
            both_ways(&mut client, &mut server, i as u8);
        }
        start.elapsed()
    });
    median.map(|ns| 1e9 / ns)
}

/// Who closes first, and has the connection in TIME-WAIT afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The end that accepted.
    Server,
    /// The end that connected.
    Client,
}

/// Closes both ends, the second one when it has read the end of the stream: across a device both could otherwise close
/// at once, and have the connection in TIME-WAIT.
pub fn close(client: impl Stream, server: impl Stream, first: First) {
    fn in_turn(first: impl Stream, mut second: impl Stream) {
        drop(first);
        assert_eq!(second.read(&mut [0]).expect("read"), 0);
    }
    match first {
        First::Server => in_turn(server, client),
        First::Client => in_turn(client, server),
    }
}

/// As [`connections`], from `near` to a listener of `far`; and what processor time one takes, both ends and whoever
/// works for them, which says the same beside other programs: the least of a sample, and the kernel's share of it all.
pub fn connections_between<N: Net, F: Net>(
    bench: &mut Bench,
    (group, id, first): (&str, &str, First),
    near: &N,
    far: &F,
    (listener, addr): (&F::Listener, SocketAddr),
) -> Option<(f64, String)> {
    let (mut least, mut spent) = (f64::INFINITY, [0.0; 2]);
    let median = bench.custom(group, id, 0, |n| {
        let (start, before) = (Instant::now(), process_time());
        for i in 0..n {
            let mut client = near.connect(addr);
            let mut server = far.accept(listener);
            both_ways(&mut client, &mut server, i as u8);
            close(client, server, first);
        }
        let (took, after) = (start.elapsed(), process_time());
        let [all, kernel] = [after.0 - before.0, after.1 - before.1].map(|t| t.as_secs_f64());
        least = least.min(all / n as f64);
        spent = [spent[0] + all, spent[1] + kernel];
        took
    });
    let share = spent[1] / spent[0];
    let cost = format!("{group}/{id}: {:.1} µs of processor time a connection, {share:.2} of it kernel's", least * 1e6);
    median.map(|ns| (1e9 / ns, cost))
}

/// The same with a client and a server, each a thread that waits for the other.
pub fn connections_by_two<N: Net>(bench: &mut Bench, group: &str, id: &str, net: &N, ip: &str) -> Option<f64> {
    let (listener, addr) = net.listen(ip);
    let serving = net.clone();
    let server = thread::spawn(move || {
        loop {
            let mut s = serving.accept(&listener);
            let mut byte = [0];
            s.read_exact(&mut byte).expect("read");
            s.write_all(&byte).expect("write");
            if byte[0] == 0 {
                break;
            }
        }
    });
    let exchange = |byte: u8| {
        let mut c = net.connect(addr);
        let mut b = [byte];
        c.write_all(&b).expect("write");
        c.read_exact(&mut b).expect("read");
        assert_eq!(b[0], byte);
    };
    let median = bench.custom(group, id, 0, |n| {
        let start = Instant::now();
        (0..n).for_each(|_| exchange(1));
        start.elapsed()
    });
    exchange(0);
    server.join().expect("the server ended");
    median.map(|ns| 1e9 / ns)
}

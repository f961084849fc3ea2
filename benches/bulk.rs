//! One connection, as fast as it goes, 128 KiB a write: one end in this thread, the other in another.

use crate::measure::{Bench, throughput};
use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

/// Bytes of a write, and of a read.
pub const CHUNK: usize = 128 * 1024;

/// Sends and receives this many bytes; returns when all have arrived.
pub trait End {
    /// Sends all bytes.
    fn send(&mut self, bytes: u64);
    /// Receives exactly this many bytes.
    fn receive(&mut self, bytes: u64);
}

/// A blocking stream as an end.
pub struct Stream<S>(S, Vec<u8>);

impl<S> Stream<S> {
    /// Around `stream`.
    pub fn new(stream: S) -> Stream<S> {
        Stream(stream, vec![0x5a; CHUNK])
    }
}

impl<S: Read + Write> End for Stream<S> {
    fn send(&mut self, bytes: u64) {
        let mut left = bytes as usize;
        while left > 0 {
            let n = left.min(CHUNK);
            self.0.write_all(&self.1[..n]).expect("write");
            left -= n;
        }
    }
    fn receive(&mut self, bytes: u64) {
        let mut left = bytes as usize;
        while left > 0 {
            let n = left.min(CHUNK);
            let got = self.0.read(&mut self.1[..n]).expect("read");
            assert!(got > 0, "the connection ended early");
            left -= got;
        }
    }
}

/// Measures, `out` from `here` to `there` or back; bytes per second.
pub fn run(
    bench: &mut Bench,
    group: &str,
    id: &str,
    out: bool,
    mut here: impl End,
    mut there: impl End + Send + 'static,
) -> Option<f64> {
    let (order, orders) = channel::<u64>();
    let (ready, done) = channel::<()>();
    let other = thread::spawn(move || {
        for bytes in orders {
            if out {
                there.receive(bytes)
            } else {
                there.send(bytes)
            }
            if ready.send(()).is_err() {
                break;
            }
        }
    });
    let median = bench.custom(group, id, CHUNK as u64, |n| {
        let bytes = n * CHUNK as u64;
        let start = Instant::now();
        order.send(bytes).expect("the other thread is there");
        if out {
            here.send(bytes)
        } else {
            here.receive(bytes)
        }
        done.recv_timeout(crate::net::PATIENCE).expect("the other end did its part");
        start.elapsed()
    });
    drop(order);
    other.join().expect("the other end did its work");
    throughput(CHUNK as u64, median)
}

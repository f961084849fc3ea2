//! In the steady state nothing is allocated (DESIGN): neither by the sender nor by the receiver of a connection that
//! has been sending for a while, nor in between. Virtual time, so all runs on the one thread whose allocations are
//! counted.

use allocation_counter::measure;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};

fn link() -> LinkConfig {
    LinkConfig::both(Direction::default().rate(100_000_000).delay(Duration::from_millis(1)))
}

/// Two connected sockets of a type.
struct Pair {
    world: World,
    ends: [Socket; 2],
    buf: Vec<u8>,
}

impl Pair {
    fn new(ty: i32) -> Pair {
        let world = World::new(1);
        let [(a, ea), (b, eb)] = world.two(&link()).unwrap();
        let open = |stack| {
            let s = Socket::new(stack, libc::AF_INET, ty, 0).unwrap();
            s.set_nonblocking(true);
            // Fixed buffer sizes: otherwise they grow for many seconds.
            for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
                s.setsockopt(libc::SOL_SOCKET, option, &200_000i32.to_ne_bytes()).unwrap();
            }
            s
        };
        let (client, server) = (open(&a), open(&b));
        let at = |ip: std::net::Ipv4Addr, port| SocketAddr::new(IpAddr::V4(ip), port);
        server.bind(at(eb.v4, 5001)).unwrap();
        let server = if ty == libc::SOCK_STREAM {
            server.listen(1).unwrap();
            assert_eq!(client.connect(Some(at(eb.v4, 5001))), Err(Error::InProgress));
            loop {
                world.run_for(Duration::from_millis(10));
                match server.accept() {
                    Ok((s, _)) => break s,
                    Err(e) => assert_eq!(e, Error::Again),
                }
            }
        } else {
            client.bind(at(ea.v4, 5002)).unwrap();
            client.connect(Some(at(eb.v4, 5001))).unwrap();
            server.connect(Some(at(ea.v4, 5002))).unwrap();
            server
        };
        server.set_nonblocking(true);
        Pair { world, ends: [client, server], buf: vec![7; 64 * 1024] }
    }

    /// Sends as many of `n` bytes as possible, from end `from`.
    fn send(&self, from: usize, n: usize) -> usize {
        let slices = [IoSlice::new(&self.buf[..n])];
        match self.ends[from].sendmsg(&mut SendMsg::new(&slices, libc::MSG_NOSIGNAL)) {
            Ok(n) => n,
            Err(e) => {
                assert_eq!(e, Error::Again);
                0
            }
        }
    }

    /// Receives all available bytes.
    fn recv(&mut self, at: usize) -> usize {
        let mut total = 0;
        loop {
            let mut slices = [IoSliceMut::new(&mut self.buf)];
            match self.ends[at].recvmsg(&mut RecvMsg::new(&mut slices, 0)) {
                Ok(n) => total += n,
                Err(e) => {
                    assert_eq!(e, Error::Again);
                    return total;
                }
            }
        }
    }

    /// One byte there and back, `n` times.
    fn exchange(&mut self, n: usize) {
        for _ in 0..n {
            for from in [0, 1] {
                assert_eq!(self.send(from, 1), 1);
                self.world.run_for(Duration::from_millis(2));
                assert_eq!(self.recv(1 - from), 1);
            }
        }
    }

    /// Both ends send for a time, and read it all.
    fn bulk(&mut self, time: Duration) -> [usize; 2] {
        let mut got = [0; 2];
        let end = self.world.now() + time;
        while self.world.now() < end {
            for d in [0, 1] {
                while self.send(d, 64 * 1024) > 0 {}
                got[d] += self.recv(d);
            }
            self.world.step(end);
        }
        got
    }
}

/// Number of allocations of `f`, and their bytes.
fn allocations(f: &mut dyn FnMut()) -> (u64, u64) {
    let info = measure(f);
    (info.count_total, info.bytes_total)
}

#[test]
fn a_byte_there_and_back_allocates_nothing() {
    for ty in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let mut pair = Pair::new(ty);
        pair.exchange(300);
        assert_eq!(allocations(&mut || pair.exchange(300)), (0, 0), "type {ty}");
    }
}

#[test]
fn bulk_data_both_ways_allocates_nothing() {
    let mut pair = Pair::new(libc::SOCK_STREAM);
    pair.bulk(Duration::from_secs(2));
    let mut got = [0; 2];
    assert_eq!(allocations(&mut || got = pair.bulk(Duration::from_secs(1))), (0, 0));
    assert!(got.iter().all(|n| *n > 5_000_000), "{got:?}");
}

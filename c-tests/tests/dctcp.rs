//! DCTCP written in C, the plug-in `plugins/dctcp.c`, against the library's own: on a link that marks, in virtual time
//! and from the same seed, both have the same window at every moment, and deliver the same bytes.
#![cfg(has_usersock)]

mod made;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

const SPAN: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(5);
const TCPI_SND_CWND: usize = 80;

/// Loads dctcp.so.
fn load(stack: &Arc<Stack>) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    loader::load(stack, BUILT.get_or_init(|| made::plugin("dctcp"))).unwrap_or_else(|e| panic!("{e}"));
}

fn stream(stack: &Arc<Stack>, algorithm: &str) -> Socket {
    let s = Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("socket");
    s.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, algorithm.as_bytes()).expect("TCP_CONGESTION");
    s
}

/// Sends as fast as `sender` lets it; the receiver has `receiver`. The windows, one each `EVERY`; the bytes that
/// arrived; the packets that were marked.
fn run(sender: &str, receiver: &str, loss: f64) -> (Vec<u32>, u64, u64) {
    let way = Direction::default().rate(20_000_000).delay(Duration::from_millis(2));
    // Marks from 10 packets in the queue on.
    let config = LinkConfig::default().forth(way.ecn_threshold(15_000).queue_packets(200).loss(loss)).back(way);
    let world = World::new(7);
    let [(a, ea), (b, eb)] = world.two(&config).expect("two stacks");
    [&a, &b].into_iter().for_each(load);
    let at = SocketAddr::new(eb.v4.into(), 80);
    let (listener, client) = (stream(&b, receiver), stream(&a, sender));
    listener.bind(at).expect("bind");
    listener.listen(1).expect("listen");
    client.connect(Some(at)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    client.set_nonblocking(true);
    server.set_nonblocking(true);
    let (start, bytes, mut buf) = (world.now(), vec![0; 65_536], vec![0; 65_536]);
    let (mut got, mut windows) = (0, Vec::new());
    while world.now() < start + SPAN {
        let sample_at = start + EVERY * windows.len() as u32;
        if world.now() >= sample_at {
            let mut info = [0; 256];
            client.getsockopt(libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).expect("TCP_INFO");
            windows.push(u32::from_ne_bytes(info[TCPI_SND_CWND..][..4].try_into().expect("four bytes")));
            continue;
        }
        loop {
            match client.sendmsg(&mut SendMsg::new(&[IoSlice::new(&bytes)], libc::MSG_NOSIGNAL)) {
                Ok(_) => {}
                Err(Error::Again) => break,
                Err(e) => panic!("send: {e}"),
            }
        }
        loop {
            match server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0)) {
                Ok(n) => got += n as u64,
                Err(Error::Again) => break,
                Err(e) => panic!("recv: {e}"),
            }
        }
        world.step(sample_at);
    }
    (windows, got, ea.link.fate().marked)
}

#[test]
fn dctcp_in_c_has_the_window_of_the_librarys_at_every_moment() {
    for loss in [0.0, 0.001] {
        let (ours, in_c) = (run("dctcp", "dctcp", loss), run("dctcp_c", "dctcp_c", loss));
        assert!(ours.2 > 20, "{} marks", ours.2);
        assert!(ours.1 > 3_000_000, "{} bytes", ours.1);
        assert_eq!(in_c, ours, "loss {loss}");
    }
}

/// The receiver of another algorithm does not agree to ECN from an ECT SYN: losses alone, as Reno.
#[test]
fn without_ecn_on_the_connection_it_is_reno() {
    let (ours, in_c) = (run("dctcp", "reno", 0.001), run("dctcp_c", "reno", 0.001));
    assert_eq!((ours.2, in_c), (0, ours));
}

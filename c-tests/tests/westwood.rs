//! TCP Westwood+, the plug-in `plugins/westwood.c`, against CUBIC: each sends over the same rate-limited link that
//! loses packets without being congested, in virtual time and from the same seed; every byte is compared, and both
//! windows are drawn.
//!
//! The picture is docs/images/westwood-cubic.svg, which a test compares; `cargo xtask plot` writes it anew.
#![cfg(has_usersock)]

mod made;
mod rust;

use std::fmt::Write as _;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

/// 10 Mbit/s, 50 ms each way (a path that 84 segments fill), a queue of 60 packets, and one packet of 200 lost as radio
/// loses it.
const RATE: u64 = 10_000_000;
const SEED: u64 = 1;
const SPAN: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_millis(100);

fn link() -> LinkConfig {
    let way = Direction::default().rate(RATE).delay(Duration::from_millis(50));
    LinkConfig::default().forth(way.loss(0.005).queue_packets(60)).back(way)
}

/// westwood.so.
fn plugin() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| made::plugin("westwood")).clone()
}

/// The stream repeats itself after so many bytes: a prime, so that no packet's size divides it.
const PERIOD: usize = 65_521;

/// `len` bytes of the stream from a place on; `len` is at most 64 KiB.
fn bytes(at: u64, len: usize) -> &'static [u8] {
    static TWICE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let byte = |i: usize| ((i % PERIOD) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
    let twice = TWICE.get_or_init(|| (0..PERIOD + 65_536).map(byte).collect());
    let from = (at % PERIOD as u64) as usize;
    &twice[from..from + len]
}

struct Run {
    /// (window, threshold) in segments, one each `EVERY`.
    windows: Vec<(u32, u32)>,
    /// Bytes that arrived.
    bytes: u64,
    /// TCP_CC_INFO at the end.
    cc_info: Vec<u8>,
}

fn stream(stack: &Arc<Stack>) -> Socket {
    Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("socket")
}

/// A field of `struct tcp_info`.
fn info(s: &Socket, offset: usize) -> u32 {
    let mut b = [0; 256];
    s.getsockopt(libc::IPPROTO_TCP, libc::TCP_INFO, &mut b).expect("TCP_INFO");
    u32::from_ne_bytes([b[offset], b[offset + 1], b[offset + 2], b[offset + 3]])
}
const TCPI_SND_SSTHRESH: usize = 76;
const TCPI_SND_CWND: usize = 80;

/// Sends as fast as the algorithm lets it for `SPAN`.
fn run(algorithm: &str, seed: u64) -> Run {
    run_of(&plugin(), algorithm, seed, SPAN)
}

/// As `run`, with Westwood from this file, for `span`.
fn run_of(plugin: &Path, algorithm: &str, seed: u64, span: Duration) -> Run {
    println!("{algorithm}, seed {seed}");
    let world = World::new(seed);
    let [(a, _), (b, eb)] = world.two(&link()).expect("two stacks");
    loader::load(&a, plugin).unwrap_or_else(|e| panic!("{e}"));
    let at = SocketAddr::new(eb.v4.into(), 80);
    let (listener, client) = (stream(&b), stream(&a));
    listener.bind(at).expect("bind");
    listener.listen(1).expect("listen");
    client.setsockopt(libc::IPPROTO_TCP, libc::TCP_CONGESTION, algorithm.as_bytes()).expect("TCP_CONGESTION");
    client.connect(Some(at)).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    client.set_nonblocking(true);
    server.set_nonblocking(true);
    let start = world.now();
    let (mut sent, mut got, mut windows) = (0u64, 0u64, Vec::new());
    let mut buf = vec![0; 65_536];
    while world.now() < start + span {
        let sample_at = start + EVERY * windows.len() as u32;
        if world.now() >= sample_at {
            windows.push((info(&client, TCPI_SND_CWND), info(&client, TCPI_SND_SSTHRESH)));
            continue;
        }
        loop {
            match client.sendmsg(&mut SendMsg::new(&[IoSlice::new(bytes(sent, 16_384))], libc::MSG_NOSIGNAL)) {
                Ok(n) => sent += n as u64,
                Err(Error::Again) => break,
                Err(e) => panic!("send: {e}"),
            }
        }
        loop {
            match server.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0)) {
                Ok(n) => {
                    assert!(buf[..n] == *bytes(got, n), "bytes from {got} on");
                    got += n as u64;
                }
                Err(Error::Again) => break,
                Err(e) => panic!("recv: {e}"),
            }
        }
        world.step(sample_at);
    }
    let mut cc_info = vec![0; 64];
    let n = client.getsockopt(libc::IPPROTO_TCP, libc::TCP_CC_INFO, &mut cc_info).expect("TCP_CC_INFO");
    cc_info.truncate(n);
    assert_eq!(usersock::tcp::cong::unregister(&a, "westwood").is_err(), algorithm == "westwood", "in use");
    println!("{} Mbit/s", got as f64 * 8.0 / span.as_secs_f64() / 1e6);
    Run { windows, bytes: got, cc_info }
}

#[test]
fn westwood_fills_more_of_a_path_with_random_loss_than_cubic_does() {
    for seed in SEED..SEED + 2 {
        let (w, c) = (run("westwood", seed), run("cubic", seed));
        assert!(w.bytes > c.bytes + c.bytes / 5, "seed {seed}: {} against {}", w.bytes, c.bytes);
        // Its estimate of the path: a bandwidth below the link's, and the RTT without queues.
        let word = |i: usize| u64::from_ne_bytes(w.cc_info[i..i + 8].try_into().expect("16 bytes"));
        assert!((RATE / 16..=RATE / 8).contains(&word(0)), "seed {seed}: {} bytes a second", word(0));
        let rtt_min = word(8) >> 32;
        assert!((100_000..110_000).contains(&rtt_min), "seed {seed}: {rtt_min} us");
    }
}

/// plugin/examples/westwood.rs decides at every acknowledgement what westwood.c decides.
#[test]
fn the_same_algorithm_in_rust_sends_the_same() {
    let span = SPAN / 6;
    let c = run_of(&plugin(), "westwood", SEED, span);
    let rust = run_of(&rust::examples().join("westwood.so"), "westwood", SEED, span);
    assert_eq!((c.bytes, c.cc_info), (rust.bytes, rust.cc_info));
    assert!(c.windows == rust.windows, "windows and thresholds over time");
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 48.0;
const PLOT_W: f64 = WIDTH - LEFT - 20.0;
const PLOT_H: f64 = HEIGHT - TOP - 52.0;

fn svg(runs: &[(&str, &str, Run)]) -> String {
    let most = runs.iter().flat_map(|r| r.2.windows.iter()).map(|w| w.0).max().unwrap_or(1);
    let top = most.div_ceil(20) * 20;
    let x = |s: f64| LEFT + s / SPAN.as_secs_f64() * PLOT_W;
    let y = |segs: f64| TOP + PLOT_H * (1.0 - segs / f64::from(top));
    let mut o = String::new();
    let _ = writeln!(
        o,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <!-- Written by cargo xtask plot. -->\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Congestion window on 10 Mbit/s, 100 ms, 0.5 % random loss, \
         seed {SEED}</text>"
    );
    for segs in (0..=top).step_by(20) {
        let at = y(segs.into());
        let _ = writeln!(
            o,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{segs}</text>",
            LEFT + PLOT_W,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for s in (0..=SPAN.as_secs()).step_by(10) {
        let _ = writeln!(
            o,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{s}</text>",
            x(s as f64),
            TOP + PLOT_H + 20.0
        );
    }
    let _ = writeln!(
        o,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds</text>\n\
         <text x=\"16\" y=\"{:.1}\" transform=\"rotate(-90 16 {:.1})\" text-anchor=\"middle\">segments</text>",
        LEFT + PLOT_W / 2.0,
        HEIGHT - 12.0,
        TOP + PLOT_H / 2.0,
        TOP + PLOT_H / 2.0
    );
    for (i, (label, colour, run)) in runs.iter().enumerate() {
        let mut path = String::new();
        for (n, (cwnd, _)) in run.windows.iter().enumerate() {
            let s = n as f64 * EVERY.as_secs_f64();
            let _ = write!(path, "{}{:.1} {:.1}", if n == 0 { "M" } else { "L" }, x(s), y((*cwnd).into()));
        }
        let mbit = run.bytes as f64 * 8.0 / SPAN.as_secs_f64() / 1e6;
        let at = LEFT + 300.0 * i as f64;
        let _ = writeln!(
            o,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>\n\
             <path d=\"M{at:.1} 36h24\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{:.1}\" y=\"40\">{label}: {mbit:.2} Mbit/s</text>",
            at + 30.0
        );
    }
    o.push_str("</svg>\n");
    o
}

/// The checked-in picture equals what this code draws.
#[test]
fn the_picture_is_current() {
    let drawn = svg(&[
        ("CUBIC", "#1f77b4", run("cubic", SEED)),
        ("Westwood+ (plug-in in C)", "#d62728", run("westwood", SEED)),
    ]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images/westwood-cubic.svg");
    if std::env::var_os("USERSOCK_WRITE_PLOT").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("docs/images is made");
        std::fs::write(&file, &drawn).expect("the picture is written");
    }
    let kept = std::fs::read_to_string(&file).expect("docs/images/westwood-cubic.svg is there");
    assert!(kept == drawn, "docs/images/westwood-cubic.svg is not what this draws: run cargo xtask plot");
}

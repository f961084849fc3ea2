//! Two stacks in virtual time, and a capture of what passes between them: a megabyte over a link of 10 Mbit/s that is
//! 50 ms long and loses a packet in a hundred. It takes seconds in the simulation and a moment here, and the same seed
//! gives the same packets each time. Needs no privilege.
//!
//! ```sh
//! cargo run --example virtual_time -- SEED [talk.pcap] && tshark -r talk.pcap
//! ```
//!
//! In C the same is `usersock/sim.h`: examples/c/simulator.c.

use std::env;
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::device::pcap;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};

const BYTES: usize = 1_000_000;

/// Byte `i` of the stream.
fn byte(i: usize) -> u8 {
    (i * 31 + i / 251) as u8
}

/// Sends what the send buffer takes.
fn send(socket: &Socket, data: &[u8], sent: &mut usize) -> Result<()> {
    while *sent < data.len() {
        let slices = [IoSlice::new(&data[*sent..])];
        match socket.sendmsg(&mut SendMsg::new(&slices, libc::MSG_DONTWAIT)) {
            Ok(n) => *sent += n,
            Err(Error::Again) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
    socket.shutdown(libc::SHUT_WR)
}

/// Receives what is there; true: to the end.
fn receive(socket: &Socket, got: &mut Vec<u8>) -> Result<bool> {
    let mut buf = [0; 65536];
    loop {
        let mut slices = [IoSliceMut::new(&mut buf)];
        match socket.recvmsg(&mut RecvMsg::new(&mut slices, libc::MSG_DONTWAIT)) {
            Ok(0) => return Ok(true),
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(Error::Again) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

fn run(seed: u64, capture: Option<&Path>) -> Result<String> {
    let world = World::new(seed);
    let mut way = Direction::default();
    way.rate = 10_000_000;
    way.delay = Duration::from_millis(50);
    way.queue_packets = 100;
    way.loss = 0.01;
    let [(a, end), (b, far)] = world.two(&LinkConfig::both(way))?;
    if let Some(file) = capture {
        pcap::start(&end.dev, file, &a).map_err(|_| Error::Io)?;
    }
    let at = SocketAddr::new(far.v4.into(), 7);
    let tcp = |stack| Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0);
    let (listener, client) = (tcp(&b)?, tcp(&a)?);
    listener.bind(at)?;
    listener.listen(1)?;
    // A call that blocks steps the whole world until it is over.
    client.connect(Some(at))?;
    let (server, _) = listener.accept()?;

    let data: Vec<u8> = (0..BYTES).map(byte).collect();
    let (mut sent, mut got) = (0, Vec::new());
    loop {
        if sent < data.len() {
            send(&client, &data, &mut sent)?;
        }
        if receive(&server, &mut got)? {
            break;
        }
        // To the next packet or timer, and not beyond a minute.
        world.step(world.now() + Duration::from_secs(60));
    }
    let took = world.now() - usersock::env::Instant::ZERO;
    if got != data {
        return Err(Error::BadMsg);
    }
    let count = |name: &str| a.mib.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| value);
    let line = format!(
        "{} bytes in {:.3} s of virtual time; {} packets were lost, {} segments sent again",
        got.len(),
        took.as_secs_f64(),
        end.link.fate().lost + far.link.fate().lost,
        count("TcpRetransSegs")
    );
    if capture.is_some() {
        pcap::stop(&end.dev).map_err(|_| Error::Io)?;
    }
    Ok(line)
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let Some(seed) = args.next().map_or(Some(1), |s| s.parse().ok()) else {
        eprintln!("usage: virtual_time [SEED [FILE.pcap]]");
        return ExitCode::from(2);
    };
    match run(seed, args.next().as_deref().map(Path::new)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("virtual_time: seed {seed}: {e}");
            ExitCode::FAILURE
        }
    }
}

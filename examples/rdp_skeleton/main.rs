//! The skeleton of RDP (`c-tests/plugins/rdp*.c`) in Rust: reliable messages over connections, `SOCK_SEQPACKET` on IP
//! protocol 253, made of the same parts of the library and of nothing private.
//! `cargo run --example rdp_skeleton [SEED]` sends messages both ways over a simulated link that loses, doubles,
//! reorders and damages packets, and says what happened. `packet`: its header; `rdp`: the protocol.

mod packet;
mod rdp;

use packet::RDP;
use rdp::{Rdp, conn};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};

/// What a run did.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Messages that arrived whole and in order, each way.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Packets the link lost or damaged, both ways.
    pub mishaps: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Virtual time it took.
    pub took: Duration,
}

/// Message `i` of a direction.
fn message(way: usize, i: usize) -> Vec<u8> {
    (0..(i * i * 37) % 9000).map(|n| (n * 31 + i * 7 + way) as u8).collect()
}

fn receive(socket: &Socket, buf: &mut [u8]) -> Result<Option<usize>> {
    let mut slices = [IoSliceMut::new(buf)];
    let mut msg = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
    let n = socket.recvmsg(&mut msg)?;
    Ok((msg.out_flags & libc::MSG_EOR != 0).then_some(n))
}

/// `count` messages each way over a bad link, all compared. An error is a line.
pub fn run(seed: u64, count: usize) -> std::result::Result<Outcome, String> {
    let fail = |what: &'static str| move |e: Error| format!("seed {seed}: {what}: {e}");
    let world = World::new(seed);
    let bad =
        Direction::default().delay(Duration::from_millis(5)).loss(0.02).reorder(0.02).duplicate(0.01).corrupt(0.01);
    let [(a, ea), (b, eb)] = world.two(&LinkConfig::both(bad)).map_err(fail("world"))?;
    for stack in [&a, &b] {
        Rdp::register(stack).map_err(|e| e.to_string())?;
    }
    let socket = |stack| Socket::new(stack, libc::AF_INET, libc::SOCK_SEQPACKET, RDP.into()).map_err(fail("socket"));
    let at = SocketAddr::new(eb.v4.into(), 7);
    let listener = socket(&b)?;
    listener.bind(at).and_then(|()| listener.listen(1)).map_err(fail("listen"))?;
    let client = socket(&a)?;
    // A blocking call of one stack steps the whole world.
    client.connect(Some(at)).map_err(fail("connect"))?;
    let (server, _) = listener.accept().map_err(fail("accept"))?;
    let ends = [client, server];
    let (mut sent, mut got, mut bytes, mut ended, mut buf) = ([0; 2], [0; 2], 0, [false; 2], vec![0; 10_000]);
    while ended != [true; 2] {
        for (me, end) in ends.iter().enumerate() {
            while sent[me] < count {
                match end.sendmsg(&mut SendMsg::new(&[IoSlice::new(&message(me, sent[me]))], libc::MSG_DONTWAIT)) {
                    Ok(_) => sent[me] += 1,
                    Err(Error::Again) => break,
                    Err(e) => return Err(fail("send")(e)),
                }
                if sent[me] == count {
                    end.shutdown(libc::SHUT_WR).map_err(fail("shutdown"))?;
                }
            }
            while !ended[me] {
                match receive(end, &mut buf) {
                    Ok(Some(n)) if got[me] < count && buf[..n] == message(1 - me, got[me]) => {
                        (got[me], bytes) = (got[me] + 1, bytes + n);
                    }
                    Ok(None) if got[me] == count => ended[me] = true,
                    Ok(_) => return Err(format!("seed {seed}: not message {} of {count}", got[me])),
                    Err(Error::Again) => break,
                    Err(e) => return Err(fail("receive")(e)),
                }
            }
        }
        world.step(world.now() + Duration::from_secs(60));
    }
    let took = world.now() - usersock::env::Instant::ZERO;
    let resent =
        [(&a, &ends[0]), (&b, &ends[1])].map(|(stack, s)| conn(&mut s.sock().lock(stack)).map_or(0, |c| c.resent));
    drop((ends, listener));
    if !world.run_until_idle(world.now() + Duration::from_secs(600)) {
        return Err(format!("seed {seed}: the connection does not end"));
    }
    for stack in [&a, &b] {
        // No socket is left: or it would be in use.
        stack.registry.unregister("RDP").map_err(|e| format!("seed {seed}: {e}"))?;
    }
    let mishaps = [ea, eb].iter().map(|e| e.link.fate().lost + e.link.fate().corrupted).sum();
    Ok(Outcome { messages: count, bytes, mishaps, resent: resent.iter().sum(), took })
}

#[allow(dead_code, reason = "a test runs this file as a module")]
fn main() {
    let seed = std::env::args().nth(1).map_or(Ok(1), |s| s.parse());
    match seed.map_err(|e| format!("SEED: {e}")).and_then(|seed| run(seed, 500)) {
        Ok(o) => println!(
            "{} messages each way, {} bytes, whole and in order, in {:?} of virtual time; {} packets were lost or \
             damaged, {} sent again",
            o.messages, o.bytes, o.took, o.mishaps, o.resent
        ),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1);
        }
    }
}

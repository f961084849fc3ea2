//! The additional cost of a protocol's operations through a C table, compared with the Rust trait: the same protocol
//! twice (`self_table.c` is the other), a datagram of 64 bytes that goes into the sender's own receive queue and out
//! again.

use crate::measure::{Bench, cpu_time};
use crate::report::{Report, Row, Target, Unit};
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::ip::datagram;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::{Proto, SockRef};
use usersock::sock::registry::ProtoSwitch;
use usersock::sock::skb::Skb;
use usersock::sock::{SockGuard, mem};
use usersock::stack::Stack;

struct ToSelf;

impl Proto for ToSelf {
    fn name(&self) -> &str {
        "SELF-RUST"
    }
    fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }
    fn no_autobind(&self) -> bool {
        true
    }
    fn close(&self, sk: SockRef<'_>, _: i32) {
        datagram::close(&mut sk.lock());
    }
    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = msg.remaining();
        let mut g = sk.lock();
        let mut skb = Skb::new();
        while msg.remaining() > 0 {
            let c = msg.chunk(usize::MAX);
            skb.append(c, msg.remaining());
            msg.advance(c.len());
        }
        datagram::queue(&mut g, skb).map_err(|_| Error::NoBufs)?;
        Ok(len)
    }
    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let mut g = sk.lock();
        let skb = g.common.receive_queue.pop_front().ok_or(Error::Again)?;
        let n = datagram::copy(&skb, 0, skb.len(), msg);
        mem::uncharge_rmem(sk.sock, &mut g.common, skb.truesize);
        Ok(n)
    }
    fn backlog_rcv(&self, _: &mut SockGuard<'_>, _: Skb) {}
}

/// A send and a receive.
fn once(s: &Socket) {
    let (bytes, mut room) = ([7; 64], [0; 64]);
    let sent = s.sendmsg(&mut SendMsg::new(&[IoSlice::new(&bytes)], 0));
    let got = s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut room)], 0));
    assert_eq!((sent, got), (Ok(64), Ok(64)));
}

fn time(s: &Socket, n: u64) -> Duration {
    let start = cpu_time();
    (0..n).for_each(|_| once(s));
    cpu_time() - start
}

/// The sockets that are compared.
struct Sockets {
    _stack: Arc<Stack>,
    rust: Socket,
    /// Through a C table whose sendmsg and recvmsg own the sock by themselves, as the Rust ones do.
    locks: Socket,
    /// Through one that has sendmsg_locked and recvmsg_locked.
    owned: Socket,
}

fn sockets() -> std::result::Result<Sockets, String> {
    let stack = usersock::config::build("").map_err(|e| e.to_string())?;
    usersock_ffi::loader::load(&stack, Path::new(env!("SELF_TABLE"))).map_err(|e| e.to_string())?;
    let proto = Arc::new(ToSelf);
    let key = ProtoSwitch::new(libc::AF_INET, libc::SOCK_DGRAM, 254, proto);
    stack.registry.register(&[key], None).map_err(|e| e.to_string())?;
    let open = |protocol| Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, protocol).map_err(|e| e.to_string());
    let (rust, locks, owned) = (open(254)?, open(253)?, open(252)?);
    Ok(Sockets { _stack: stack, rust, locks, owned })
}

/// Nanoseconds of a send and a receive through each of some sockets, in rounds of short runs, so that changes of the
/// machine's speed affect all alike; each socket in turn is the first.
fn rounds(sockets: &[&Socket; 3]) -> Vec<[f64; 3]> {
    let n = 2_000;
    (0..3_000)
        .map(|round| {
            let mut took = [0.0; 3];
            for i in 0..3 {
                let i = (round + i) % 3;
                took[i] = time(sockets[i], n).as_secs_f64() * 1e9 / n as f64;
            }
            took
        })
        .collect()
}

/// The quantile: the value that a share of all is below.
fn quantile(all: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all[(all.len() as f64 * share) as usize]
}

/// Both C tables against the Rust one: the stack owns the sock for the first's operations, as it can for any that own
/// it from their first line to their last; the second's own it by themselves, as the Rust one's do. The rows compare
/// the fastest tenth of each, the cost of the code itself: load on the other thread of the processor's core slows
/// everything down, and calls most. The median of the differences, which includes that, is printed beside.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let mut more = [None; 2];
    more[0] = bench.attempt(report, "tables/c_minus_rust", |_| {
        let s = sockets().unwrap_or_else(|e| panic!("{e}"));
        let all = rounds(&[&s.rust, &s.owned, &s.locks]);
        let fast = |i: usize| quantile(all.iter().map(|t| t[i]), 0.1);
        for (i, name) in [(1, "sendmsg_locked"), (2, "sendmsg")] {
            let difference = quantile(all.iter().map(|t| t[i] - t[0]), 0.5);
            println!(
                "tables: C, {name}: {:.1} ns, Rust: {:.1} ns; median of the differences {difference:.1} ns",
                fast(i),
                fast(0)
            );
            more[i - 1] = Some(fast(i) - fast(0));
        }
        more[0]
    });
    let whats = [
        "a send and a receive through a C table, more than through the Rust one",
        "the same where sendmsg and recvmsg call usk_lock_sock themselves",
    ];
    for (what, ours) in whats.into_iter().zip(more) {
        let target = Target::AtMost(20.0);
        report.row(Row { what: what.into(), unit: Unit::Nanos, ours, kernel: None, peer: None, target });
    }
}

//! What a protocol's operations cost more through a C table than through the Rust one: the same protocol twice (`self_table.c` is
//! the other), a datagram of 64 bytes that goes into the sender's own receive queue and out again.

use crate::measure::{Bench, cpu_time};
use crate::report::{Report, Row, Target, Unit};
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::inet::Socket;
use usersock::ip::datagram;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::{Proto, ProtoSwitch, SockRef};
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
    usersock_ffi::plugin::load::load(&stack, Path::new(env!("SELF_TABLE"))).map_err(|e| e.to_string())?;
    let proto = Arc::new(ToSelf);
    let key = ProtoSwitch { family: libc::AF_INET, ty: libc::SOCK_DGRAM, protocol: 254, default: false, proto };
    stack.registry.register(&[key], None).map_err(|e| e.to_string())?;
    let open = |protocol| Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, protocol).map_err(|e| e.to_string());
    let (rust, locks, owned) = (open(254)?, open(253)?, open(252)?);
    Ok(Sockets { _stack: stack, rust, locks, owned })
}

/// Nanoseconds of a send and a receive: of each of two, and how much more the first costs.
struct Compared {
    a: f64,
    b: f64,
    more: f64,
}

/// Pairs of runs that are over before the machine changes its mind, each in turn the first; medians, of the differences too.
fn compare(a: &Socket, b: &Socket) -> Compared {
    let n = 2_000;
    let one = |s: &Socket| time(s, n).as_secs_f64() * 1e9 / n as f64;
    let pairs: Vec<(f64, f64)> = (0..1_500)
        .map(|i| {
            let first = one(if i % 2 == 0 { a } else { b });
            if i % 2 == 0 { (first, one(b)) } else { (one(a), first) }
        })
        .collect();
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Compared { a: median(|p| p.0), b: median(|p| p.1), more: median(|p| p.0 - p.1) }
}

/// Both C tables against the Rust one.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let what = "a send and a receive through a C table, more than through the Rust one";
    row(bench, report, "tables/c_owned_minus_rust", what, |s| &s.owned);
    let what = "the same where the C operations call usk_lock_sock themselves";
    row(bench, report, "tables/c_minus_rust", what, |s| &s.locks);
}

fn row(bench: &mut Bench, report: &mut Report, name: &str, what: &str, form: fn(&Sockets) -> &Socket) {
    let more = bench.attempt(report, name, |_| {
        let s = sockets().unwrap_or_else(|e| panic!("{e}"));
        let found = compare(form(&s), &s.rust);
        println!("{name}: {:.1} ns through the C table, {:.1} ns through the Rust one", found.a, found.b);
        Some(found.more)
    });
    let target = Target::AtMost(20.0);
    report.row(Row { what: what.into(), unit: Unit::Nanos, ours: more, kernel: None, peer: None, target });
}

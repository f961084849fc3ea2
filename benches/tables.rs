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

fn sockets() -> std::result::Result<(Arc<Stack>, Socket, Socket), String> {
    let stack = usersock::config::build("").map_err(|e| e.to_string())?;
    usersock_ffi::plugin::load::load(&stack, Path::new(env!("SELF_TABLE"))).map_err(|e| e.to_string())?;
    let proto = Arc::new(ToSelf);
    let key = ProtoSwitch { family: libc::AF_INET, ty: libc::SOCK_DGRAM, protocol: 254, default: false, proto };
    stack.registry.register(&[key], None).map_err(|e| e.to_string())?;
    let open = |protocol| Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, protocol).map_err(|e| e.to_string());
    let (c, rust) = (open(253)?, open(254)?);
    Ok((stack, c, rust))
}

/// Both tables, in turns, so that what the machine does to one it does to the other.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let (name, group) = ("tables/c_minus_rust", "tables");
    let more = bench.attempt(report, name, |bench| {
        let (_stack, c, rust) = sockets().unwrap_or_else(|e| panic!("{e}"));
        let both = bench.custom(group, "c", 0, |n| time(&c, n)).zip(bench.custom(group, "rust", 0, |n| time(&rust, n)));
        // The two above show what each costs; the row is of pairs, the median of their differences.
        let mut differences: Vec<f64> = (0..21)
            .map(|_| {
                let n = 200_000;
                (time(&c, n).as_secs_f64() - time(&rust, n).as_secs_f64()) * 1e9 / n as f64
            })
            .collect();
        differences.sort_by(f64::total_cmp);
        both.map(|(c, rust)| {
            println!("{group}: {c:.1} ns through the C table, {rust:.1} ns through the Rust one");
            differences[differences.len() / 2]
        })
    });
    report.row(Row {
        what: "a send and a receive through a C table, more than through the Rust one".into(),
        unit: Unit::Nanos,
        ours: more,
        kernel: None,
        peer: None,
        target: Target::AtMost(20.0),
    });
}

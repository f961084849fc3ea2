//! What a protocol of a plug-in costs beside the library's own of its kind: TINY beside UDP, a datagram of 64 bytes
//! sent and received; and FLOW, a stream with super-packets, beside TCP, in bulk. Over the loopback device, both ends
//! in one thread, and processor time, in rounds of short runs that take turns: on a busy machine the ratio holds where
//! the times do not.

use crate::measure::{Bench, cpu_time};
use crate::net::Ours;
use crate::report::{Report, Row, Target, Unit};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;

const TINY: i32 = 254;
const FLOW: i32 = 253;
/// Bytes of a bulk operation: written and read in one go.
const BULK: usize = 64 * 1024;

/// Something that is done again and again.
type Op = Box<dyn FnMut()>;

/// A stack whose loopback device has this MTU, with both protocols.
fn stack(mtu: u32) -> Arc<Stack> {
    let stack = Ours::loopback().0;
    for plugin in [env!("TINY_PLUGIN"), env!("FLOW_PLUGIN")] {
        usersock_ffi::loader::load(&stack, Path::new(plugin)).expect("the plug-in");
    }
    stack.netdevs.iter().for_each(|lo| lo.set_mtu(mtu).expect("an MTU"));
    stack.rt_genid_bump();
    stack
}

fn socket(stack: &Arc<Stack>, ty: i32, protocol: i32) -> Socket {
    Socket::new(stack, libc::AF_INET, ty, protocol).expect("a socket")
}

/// Sends `buf` on one socket and receives it on the other.
fn pass(from: &Socket, to: &Socket, buf: &mut [u8]) {
    let sent = from.sendmsg(&mut SendMsg::new(&[IoSlice::new(buf)], 0));
    assert_eq!(sent, Ok(buf.len()));
    let mut got = 0;
    while got < buf.len() {
        got += to.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf[got..])], 0)).expect("received");
    }
}

/// A datagram of 64 bytes to a connected socket.
fn datagram(stack: &Arc<Stack>, protocol: i32) -> Op {
    let [from, to] = [0; 2].map(|_| socket(stack, libc::SOCK_DGRAM, protocol));
    to.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    from.connect(Some(to.local_addr().expect("an address"))).expect("connect");
    Box::new(move || pass(&from, &to, &mut [7; 64]))
}

/// [`BULK`] bytes through a connection.
fn bulk(stack: &Arc<Stack>, protocol: i32) -> Op {
    let [listener, from] = [0; 2].map(|_| socket(stack, libc::SOCK_STREAM, protocol));
    listener.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
    listener.listen(1).expect("listen");
    from.connect(Some(listener.local_addr().expect("an address"))).expect("connect");
    let (to, _) = listener.accept().expect("accept");
    let mut buf = vec![0x5a; BULK];
    Box::new(move || pass(&from, &to, &mut buf))
}

/// Nanoseconds of each operation: the fastest tenth of all its runs of `n`.
fn times<const N: usize>(mut ops: [Op; N], n: u32) -> [f64; N] {
    let mut all = [(); N].map(|()| Vec::new());
    for round in 0..1_000 {
        for i in 0..N {
            // Each in turn is the first.
            let i = (round + i) % N;
            let start = cpu_time();
            (0..n).for_each(|_| ops[i]());
            all[i].push((cpu_time() - start).as_secs_f64() * 1e9 / f64::from(n));
        }
    }
    all.map(|mut of| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 10]
    })
}

/// Prints both times, and returns the ratio.
fn compare(what: &str, [own, plugin]: [f64; 2]) -> Option<f64> {
    println!("plugins: {what}: {own:.0} ns, of the plug-in {plugin:.0} ns");
    Some(plugin / own)
}

fn row(report: &mut Report, what: String, ours: Option<f64>, most: f64) {
    report.row(Row { what, unit: Unit::Count, ours, kernel: None, peer: None, target: Target::AtMost(most) });
}

/// All of them.
pub fn run(bench: &mut Bench, report: &mut Report) {
    let ratio = bench.attempt(report, "plugin/datagram", |_| {
        let stack = stack(65_535);
        compare("64 B", times([datagram(&stack, libc::IPPROTO_UDP), datagram(&stack, TINY)], 500))
    });
    row(report, "a datagram of a plug-in (TINY), in times of UDP's".into(), ratio, 1.2);
    for (mtu, name) in [(65_535, "plugin/bulk"), (1_500, "plugin/bulk_1500")] {
        let ratio = bench.attempt(report, name, |_| {
            let stack = stack(mtu);
            compare(name, times([bulk(&stack, libc::IPPROTO_TCP), bulk(&stack, FLOW)], 20))
        });
        row(report, format!("64 KiB through a stream of a plug-in (FLOW), MTU {mtu}, in times of TCP's"), ratio, 1.5);
    }
}

//! Several datagrams at once, sent by one call and received in one turn of softirq, beside the same one by one: what
//! programs, raw sockets and counters see does not differ.

use super::tests::{at, bound, datagram_v4};
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::device::capture_test::Bench;
use crate::device::pcap;
use crate::inet::Socket;
use crate::sock::msg::{Control, RecvMsg, SendMsg};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;

const DONTWAIT: i32 = libc::MSG_DONTWAIT;
/// Where a datagram of a scene goes; None: to the peer.
type Message = (Option<&'static str>, Vec<u8>);

fn one<R>((to, data): &Message, flags: i32, send: impl FnOnce(&mut SendMsg<'_>) -> R) -> R {
    let slices = [IoSlice::new(data)];
    let mut m = SendMsg::new(&slices, DONTWAIT | flags);
    m.name = to.map(at);
    send(&mut m)
}

fn send(s: &Socket, all: &[Message], together: bool) -> Vec<Result<usize>> {
    let mut out = Vec::new();
    match together {
        false => out.extend(all.iter().map(|m| one(m, 0, |m| s.sendmsg(m)))),
        true => {
            s.send_several(&mut |send| out.extend(all.iter().map(|m| one(m, 0, |m| send(m)))));
            s.stack().run_pending();
        }
    }
    out
}

type Got = (Vec<u8>, Option<SocketAddr>, Vec<Control>);

fn take(recv: &mut dyn FnMut(&mut RecvMsg<'_, '_>) -> Result<usize>) -> Result<Got> {
    let mut buf = vec![0; 2000];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut m = RecvMsg::new(&mut slices, DONTWAIT);
    let n = recv(&mut m)?;
    let (name, control) = (m.name, std::mem::take(&mut m.control));
    buf.truncate(n);
    Ok((buf, name, control))
}

/// All that there is.
fn recv(s: &Socket, together: bool) -> Vec<Got> {
    let mut all = Vec::new();
    match together {
        false => all.extend(std::iter::from_fn(|| take(&mut |m| s.recvmsg(m)).ok())),
        true => {
            s.recv_several(&mut |recv| all.extend(std::iter::from_fn(|| take(recv).ok())));
            s.stack().run_pending();
        }
    }
    all
}

fn set(s: &Socket, level: i32, name: i32, value: i32) {
    s.setsockopt(level, name, &value.to_ne_bytes()).unwrap();
}

/// SO_ATTACH_FILTER of (code, jt, jf, k).
fn filter(s: &Socket, program: &[(u16, u8, u8, u32)]) {
    let bytes =
        |&(code, yes, no, k): &(u16, u8, u8, u32)| [&code.to_ne_bytes()[..], &[yes, no], &k.to_ne_bytes()[..]].concat();
    let program: Vec<u8> = program.iter().flat_map(bytes).collect();
    s.setsockopt(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).unwrap();
}

#[derive(Debug, PartialEq)]
struct Seen {
    sent: Vec<Result<usize>>,
    got: [Vec<Got>; 2],
    raw: Vec<Vec<u8>>,
    counters: Vec<(&'static str, u64)>,
}

/// Datagrams of several lengths to two sockets in turns of three, and to a port of nobody; `wrapped`: the device is.
fn scene(together: bool, wrapped: bool, own: &str, to: [&'static str; 3]) -> Seen {
    let b = Bench::on_ip();
    if wrapped {
        let lo = b.stack.netdevs.by_index(1).unwrap();
        pcap::start_to(&lo, Box::new(std::io::sink()), b.clock.clone()).unwrap();
    }
    let family = if at(own).is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let raw = Socket::new(&b.stack, family, libc::SOCK_RAW, libc::IPPROTO_UDP).unwrap();
    let ends = [bound(&b, to[0]), bound(&b, to[1])];
    set(&ends[0], libc::SOL_IP, libc::IP_RECVTTL, 1);
    // Bytes 9.. of the datagram: no 0x0d may be the second one of the payload.
    filter(&ends[1], &[(0x30, 0, 0, 9), (0x15, 0, 1, 0x0d), (6, 0, 0, 0), (6, 0, 0, u32::MAX)]);
    let from = bound(&b, own);
    let messages: Vec<Message> = (0..70u8)
        .map(|n| {
            let len = [2, 64, 75, 100, 1400, 3000][usize::from(n) % 6];
            let mut data = vec![n; len];
            data[1] = n % 16;
            (Some(to[usize::from(n) / 3 % 3]), data)
        })
        .collect();
    let sent = send(&from, &messages, together);
    let got = [recv(&ends[0], together), recv(&ends[1], together)];
    let raw = recv(&raw, false).into_iter().map(|(bytes, ..)| bytes).collect();
    Seen { sent, got, raw, counters: b.stack.mib.iter().collect() }
}

#[test]
fn several_datagrams_are_as_one_after_the_other_looped_as_they_are_or_looked_at() {
    for (own, to) in [
        ("127.0.0.1:4000", ["127.0.0.1:5000", "127.0.0.1:5001", "127.0.0.1:5002"]),
        ("10.0.0.1:4000", ["10.0.0.1:5000", "10.0.0.1:5001", "10.0.0.1:5002"]),
        ("[::1]:4000", ["[::1]:5000", "[::1]:5001", "[::1]:5002"]),
    ] {
        let want = scene(false, true, own, to);
        assert!(want.sent.iter().all(|r| r.is_ok()) && want.got.iter().all(|got| got.len() > 20), "{own}");
        assert!(own.starts_with('[') || want.raw.len() == 70, "{}", want.raw.len());
        for (together, wrapped) in [(false, false), (true, true), (true, false)] {
            let seen = scene(together, wrapped, own, to);
            assert_eq!(seen.sent, want.sent, "{own} {together} {wrapped}");
            assert_eq!(seen.got, want.got, "{own} {together} {wrapped}");
            // A raw socket of IPv4 sees the header: the identification is 0 with DF.
            assert!(seen.raw == want.raw, "{own} {together} {wrapped}");
            let differ: Vec<_> = seen.counters.iter().zip(&want.counters).filter(|(a, b)| a != b).collect();
            assert!(differ.is_empty(), "{own} {together} {wrapped}: {differ:?}");
        }
    }
}

#[test]
fn what_changes_the_way_between_two_messages_is_seen() {
    let b = Bench::on_ip();
    let (s, to) = (bound(&b, "127.0.0.1:4000"), bound(&b, "127.0.0.1:5000"));
    let mut out = Vec::new();
    s.send_several(&mut |send| {
        let plain = (Some("127.0.0.1:5000"), vec![1; 3]);
        out.push(one(&plain, 0, |m| send(m)));
        // Control data for one message alone.
        out.push(one(&plain, 0, |m| {
            m.control = vec![Control::Ttl(9)];
            send(m)
        }));
        out.push(one(&plain, 0, |m| send(m)));
        // Two writes of one datagram, and what is too long for any.
        out.push(one(&plain, libc::MSG_MORE, |m| send(m)));
        out.push(one(&plain, 0, |m| send(m)));
        out.push(one(&(Some("127.0.0.1:5000"), vec![0; 65_520]), 0, |m| send(m)));
        out.push(one(&(None, vec![1]), 0, |m| send(m)));
        // The route is gone.
        crate::ip::route::del_address(&b.stack, &b.stack.netdevs.by_index(1).unwrap(), "127.0.0.1/8".parse().unwrap())
            .unwrap();
        out.push(one(&plain, 0, |m| send(m)));
    });
    b.stack.run_pending();
    assert_eq!(out[..7], [Ok(3), Ok(3), Ok(3), Ok(3), Ok(3), Err(Error::MsgSize), Err(Error::DestAddrReq)]);
    assert!(out[7].is_err(), "{out:?}");
    set(&to, libc::SOL_IP, libc::IP_RECVTTL, 1);
    let lens: Vec<_> = recv(&to, true).into_iter().map(|(data, _, control)| (data.len(), control)).collect();
    let ttl = |n| vec![Control::Ttl(n)];
    assert_eq!(lens, [(3, ttl(64)), (3, ttl(9)), (3, ttl(64)), (6, ttl(64))]);
}

#[test]
fn datagrams_of_a_burst_keep_their_order_whosever_they_are() {
    let b = Bench::on_ip();
    let s = bound(&b, "10.0.0.1:5000");
    let flows = ["10.0.0.9:1000", "10.0.0.9:1001", "10.0.0.8:1000"];
    let mut want = Vec::new();
    for n in 0..60u8 {
        // Runs of several lengths.
        let src = flows[usize::from(n.count_ones() as u8) % 3];
        b.wire.feed(&datagram_v4(src, "10.0.0.1:5000", &[n]));
        want.push((vec![n], Some(at(src)), Vec::new()));
    }
    b.poll();
    assert_eq!(recv(&s, true), want);
}

#[test]
fn each_datagram_of_a_burst_has_its_own_fate() {
    let b = Bench::on_ip();
    let s = bound(&b, "10.0.0.1:5000");
    let good = datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"good");
    let (mut damaged, mut short) = (good.clone(), good.clone());
    damaged[29] ^= 1;
    // The length field of UDP says more than there is.
    short[25] += 1;
    for p in [&good, &damaged, &short, &good] {
        b.wire.feed(p);
    }
    b.poll();
    let mib = |m| b.stack.mib.get(m);
    assert_eq!(recv(&s, true).len(), 2);
    assert_eq!((mib(Mib::UdpInCsumErrors), mib(Mib::UdpInErrors)), (1, 2));
    assert_eq!((b.stack.mib.drops(DropReason::UdpCsum), b.stack.mib.drops(DropReason::PktTooSmall)), (1, 1));
    // The receive buffer has room for some.
    set(&s, libc::SOL_SOCKET, libc::SO_RCVBUF, 1);
    for _ in 0..5 {
        b.wire.feed(&good);
    }
    b.poll();
    let fit = recv(&s, true).len() as u64;
    assert!((1..5).contains(&fit), "{fit}");
    assert_eq!(mib(Mib::UdpRcvbufErrors), 5 - fit);
    // Nobody: each is answered.
    s.close();
    (0..3).for_each(|_| b.wire.feed(&good));
    assert_eq!((b.poll().len(), mib(Mib::UdpNoPorts)), (3, 3));
}

#[test]
fn a_burst_for_a_sock_that_a_call_owns_waits_for_the_call() {
    let b = Bench::on_ip();
    let s = bound(&b, "10.0.0.1:5000");
    let owned = s.sock().lock(&b.stack);
    (0..3u8).for_each(|n| b.wire.feed(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", &[n])));
    b.poll();
    assert!(owned.common.receive_queue.is_empty());
    drop(owned);
    let got: Vec<_> = recv(&s, true).into_iter().map(|(data, ..)| data).collect();
    assert_eq!(got, [[0], [1], [2]]);
}

#[test]
fn a_program_of_a_group_chooses_for_each_datagram_of_a_burst() {
    let b = Bench::on_ip();
    let group: Vec<Socket> = (0..2)
        .map(|_| {
            let s = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
            set(&s, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
            s.bind(at("10.0.0.1:5000")).unwrap();
            s
        })
        .collect();
    // ldb [0]; and #1; ret a: the payload's first byte.
    let program = [(0x30u16, 0u8, 0u8, 0u32), (0x54, 0, 0, 1), (0x16, 0, 0, 0)];
    let bytes =
        |(code, yes, no, k): (u16, u8, u8, u32)| [&code.to_ne_bytes()[..], &[yes, no], &k.to_ne_bytes()[..]].concat();
    const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
    group[0].setsockopt(libc::SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program.map(bytes).concat()).unwrap();
    (0..6u8).for_each(|n| b.wire.feed(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", &[n])));
    b.poll();
    let first = |s| recv(s, true).into_iter().map(|(data, ..)| data[0]).collect::<Vec<_>>();
    assert_eq!([first(&group[0]), first(&group[1])], [[0, 2, 4], [1, 3, 5]]);
}

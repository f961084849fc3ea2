use super::cookie::{Keys, Made};
use super::queue::FastOpenQueue;
use crate::base::env::{Clock, Duration, Instant, SeededEntropy, VirtualClock};
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::driver::Parked;
use crate::inet::Socket;
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::state::State;
use crate::sock::wait::Events;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::tcp::peer_test::{ACK, Conn, HERE, Host, ISS, Out, RST, SYN, SYN_OPTIONS, Seg, THERE};
use crate::wire::tcp::TcpHeader;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

const KEY: &str = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4";

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

// ---- Cookies and keys.

/// The values are Linux 6.18's for this key and these addresses.
#[test]
fn cookies_are_those_of_linux() {
    let keys = Keys::parse(KEY).unwrap();
    for (client, server, cookie) in [
        ("192.0.2.1", "192.168.0.1", 0x3021_b9d8_8901_7eeb_u64),
        ("fd3d:fa7b:d17d::1", "fd3d:a0b:17d6::1", 0xc1d1_e974_2a47_a9bc),
    ] {
        let made = keys.cookie(addr(client), addr(server));
        assert_eq!(made.bytes(), cookie.to_be_bytes(), "{client}");
        assert_eq!(keys.made(made.bytes(), addr(client), addr(server)), Made::Primary);
        assert_eq!(keys.made(made.bytes(), addr(server), addr(client)), Made::Unknown, "of another client");
        assert_eq!(keys.made(&made.bytes()[..6], addr(client), addr(server)), Made::Unknown, "cut");
        let rotated = Keys { primary: [7; 16], backup: Some(keys.primary) };
        assert_eq!(rotated.made(made.bytes(), addr(client), addr(server)), Made::Backup);
        let forgotten = Keys { primary: [7; 16], backup: Some([8; 16]) };
        assert_eq!(forgotten.made(made.bytes(), addr(client), addr(server)), Made::Unknown);
    }
}

#[test]
fn keys_are_read_and_shown_as_the_sysctl_and_the_option_have_them() {
    let two = format!("{KEY},00000001-00000002-00000003-00000004");
    for text in [KEY, &two] {
        let keys = Keys::parse(text).unwrap();
        assert_eq!(keys.to_string(), text);
        assert_eq!(Keys::from_bytes(&keys.to_bytes()), Some(keys));
    }
    // Each number is little-endian in the key.
    let bytes = Keys::parse("04030201-08070605-0c0b0a09-100f0e0d").unwrap().to_bytes();
    assert_eq!(bytes, (1..=16).collect::<Vec<u8>>());
    for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-x", "1-2-3-4,", "1-2-3-4,5-6-7", "1-2-3-123456789"] {
        assert_eq!(Keys::parse(text), None, "{text:?}");
    }
    for len in [0, 3, 15, 17, 31, 33] {
        assert_eq!(Keys::from_bytes(&vec![0; len]), None, "{len} bytes");
    }
}

#[test]
fn the_sysctl_sets_the_keys_and_shows_those_that_were_drawn() {
    let host = host(3);
    let sysctl = &host.bench.stack.sysctl;
    let name = "net.ipv4.tcp_fastopen_key";
    let drawn = sysctl.get(name).unwrap();
    assert_ne!(drawn, "00000000-00000000-00000000-00000000", "a listener with TCP_FASTOPEN has drawn keys");
    assert_eq!(sysctl.set(name, "1-2-3"), Err(Error::Inval));
    assert_eq!(sysctl.get(name).unwrap(), drawn);
    sysctl.set(name, KEY).unwrap();
    assert_eq!(sysctl.get(name).unwrap(), KEY);
}

#[test]
fn a_connection_that_was_reset_keeps_its_place_for_a_minute() {
    let q = FastOpenQueue::default();
    let (t0, mut overflows) = (Instant::from_nanos(0), 0);
    assert!(!q.has_room(t0, || overflows += 1), "a listener that takes no part");
    q.tune(2, 128);
    q.start();
    for _ in 0..2 {
        assert!(q.has_room(t0, || overflows += 1));
        q.join();
    }
    assert!(!q.has_room(t0, || overflows += 1));
    q.leave(t0, true);
    assert!(!q.has_room(t0 + Duration::from_secs(59), || overflows += 1));
    assert!(q.has_room(t0 + Duration::from_secs(60), || overflows += 1));
    q.join();
    q.leave(t0, false);
    assert!(q.has_room(t0, || overflows += 1));
    assert_eq!(overflows, 2);
    q.tune(500, 128);
    assert_eq!(q.max_qlen(), 128, "somaxconn bounds it");
}

// ---- A server, and a peer made by hand.

/// A listener with a queue of `queue`.
fn host(queue: i32) -> Host {
    let host = Host::new(128);
    host.bench.stack.sysctl.set("net.ipv4.tcp_fastopen", "3").unwrap();
    host.listener.setsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &queue.to_ne_bytes()).unwrap();
    host
}

/// Options of a SYN with this cookie; none: a request.
fn with_cookie(cookie: &[u8]) -> Vec<u8> {
    let mut o = SYN_OPTIONS.to_vec();
    o.extend([34, 2 + cookie.len() as u8]);
    o.extend(cookie);
    while !o.len().is_multiple_of(4) {
        o.push(1);
    }
    o
}

fn cookie(host: &Host) -> Vec<u8> {
    let keys = Keys::parse(&host.bench.stack.sysctl.get("net.ipv4.tcp_fastopen_key").unwrap()).unwrap();
    keys.cookie(THERE.into(), HERE.into()).bytes().to_vec()
}

/// A SYN with ten bytes; the SYN-ACK.
fn syn_data(host: &Host, port: u16, cookie: &[u8]) -> Out {
    let syn = Seg { options: with_cookie(cookie), data: vec![9; 10], ..Seg::new(port, SYN, ISS, 0) };
    let out = host.put(&syn);
    assert_eq!((out.len(), out[0].flags), (1, SYN | ACK), "{out:?}");
    out[0].clone()
}

fn took_data(synack: &Out) -> bool {
    synack.ack == ISS.wrapping_add(11)
}

fn accept(host: &Host, synack: &Out) -> Conn {
    let (socket, peer) = host.listener.accept().unwrap();
    assert_eq!(peer.port(), synack.dport);
    socket.set_nonblocking(true);
    Conn { socket, port: synack.dport, seq: synack.ack, ack: synack.seq.wrapping_add(1) }
}

fn mib(host: &Host, m: Mib) -> u64 {
    host.bench.stack.mib.get(m)
}

#[test]
fn the_child_talks_before_the_handshake_is_over_and_is_established_by_the_ack() {
    let host = host(3);
    let synack = syn_data(&host, 4000, &cookie(&host));
    assert!(took_data(&synack));
    assert_eq!(host.listener.poll(), Events::IN);
    let c = accept(&host, &synack);
    assert_eq!(c.state(), State::SynRecv);
    assert_eq!(c.recv(100), Ok(10));
    assert!(c.socket.poll().0 & libc::POLLOUT as u32 != 0, "writable");
    assert_eq!(c.send(20), Ok(20));
    let out = host.sent();
    assert_eq!((out.len(), out[0].len, out[0].seq), (1, 20, c.ack), "{out:?}");
    host.put(&c.seg(ACK));
    assert_eq!(c.state(), State::Established);
    assert!(c.tcb(|tp| tp.syn_data_acked() && !tp.has_fastopen_rsk()));
    assert_eq!((mib(&host, Mib::TcpExtTCPFastOpenPassive), mib(&host, Mib::TcpPassiveOpens)), (1, 1));
}

#[test]
fn a_forged_cookie_is_answered_with_the_right_one_and_no_data_is_taken() {
    let host = host(3);
    for (n, forged) in [&[1u8, 2, 3, 4, 5, 6, 7, 8][..], &[0; 4], &[0xff; 16]].into_iter().enumerate() {
        let synack = syn_data(&host, 4000 + n as u16, forged);
        assert!(!took_data(&synack), "{forged:?}");
        assert_eq!(mib(&host, Mib::TcpExtTCPFastOpenPassiveFail), n as u64 + 1);
    }
    let synack = syn_data(&host, 5000, &[]);
    assert!(!took_data(&synack), "a request");
    assert_eq!(mib(&host, Mib::TcpExtTCPFastOpenCookieReqd), 1);
    assert_eq!(host.listener.accept().err(), Some(Error::Again), "no child");
    assert_eq!(mib(&host, Mib::TcpExtTCPFastOpenPassive), 0);
}

#[test]
fn a_flood_with_a_stolen_cookie_gets_no_more_children_than_the_queue_holds() {
    let host = host(3);
    let cookie = cookie(&host);
    let taken = (0..50).filter(|n| took_data(&syn_data(&host, 4000 + n, &cookie))).count();
    assert_eq!(taken, 3);
    assert_eq!(mib(&host, Mib::TcpExtTCPFastOpenListenOverflow), 47);
    // The others are served as without Fast Open.
    let children: Vec<_> = std::iter::from_fn(|| host.listener.accept().ok()).collect();
    assert_eq!(children.len(), 3);
    assert_eq!(host.connect(6000, SYN_OPTIONS).state(), State::Established);
}

impl Host {
    /// Accepts the child of a SYN with data and resets it from the peer.
    fn accept_and_reset(&self, port: u16) -> Conn {
        let synack = syn_data(self, port, &cookie(self));
        assert!(took_data(&synack));
        let c = accept(self, &synack);
        self.put(&c.seg(RST));
        assert_eq!(c.state(), State::Close);
        c
    }
}

#[test]
fn a_reset_after_accept_holds_the_place_and_one_before_does_not() {
    let host = host(1);
    let held = host.accept_and_reset(4000);
    assert_eq!((held.recv(100), held.recv(100)), (Ok(10), Err(Error::ConnReset)));
    drop(held);
    let cookie = cookie(&host);
    assert!(!took_data(&syn_data(&host, 4001, &cookie)), "the place is held");
    host.wait(Duration::from_secs(60));
    let synack = syn_data(&host, 4002, &cookie);
    assert!(took_data(&synack), "a minute later it is free");
    // Reset while it waits for accept: it stays there with its data, and its place is free at once.
    host.put(&Seg::new(4002, RST, synack.ack, 0));
    assert!(took_data(&syn_data(&host, 4003, &cookie)));
    let c = accept(&host, &synack);
    assert_eq!((c.recv(100), c.recv(100)), (Ok(10), Err(Error::ConnReset)));
}

#[test]
fn a_spoofed_reset_or_syn_does_not_end_the_child() {
    let host = host(1);
    let synack = syn_data(&host, 4000, &cookie(&host));
    let c = accept(&host, &synack);
    let inexact = Seg { seq: c.seq.wrapping_add(1), ..c.seg(RST) };
    let out = host.put(&inexact);
    assert_eq!((out.len(), out[0].flags), (1, ACK), "a challenge ACK: {out:?}");
    host.wait(Duration::from_millis(600));
    assert_eq!(host.put(&Seg { seq: c.seq.wrapping_sub(500_000), ..c.seg(RST) }), [], "out of the window");
    let out = host.put(&Seg { seq: c.seq.wrapping_add(5), ..c.seg(SYN) });
    assert_eq!((out.len(), out[0].flags & RST), (1, RST), "{out:?}");
    assert_eq!(c.state(), State::SynRecv);
    host.put(&c.seg(ACK));
    assert_eq!(c.state(), State::Established);
}

/// A child whose SYN has the timestamp 1000, and the timestamp of its first data, 50 ms after the SYN-ACK.
fn stamped_child(host: &Host) -> (Conn, u32) {
    let options = [stamps(1000, 0), with_cookie(&cookie(host))].concat();
    let out = host.put(&Seg { options, data: vec![9; 10], ..Seg::new(4000, SYN, ISS, 0) });
    assert!(took_data(&out[0]), "{out:?}");
    let c = accept(host, &out[0]);
    host.wait(Duration::from_millis(50));
    c.send(20).unwrap();
    let sent = host.bench.poll();
    let opt = TcpHeader::parse(&sent[0][20..]).unwrap().parse_options();
    assert_eq!(opt.timestamps.map(|(_, echo)| echo), Some(1000));
    (c, opt.timestamps.unwrap().0)
}

fn stamps(val: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &val.to_be_bytes(), &echo.to_be_bytes()].concat()
}

#[test]
fn a_segment_that_is_older_than_the_syn_is_answered_and_does_not_establish_the_child() {
    let h = host(3);
    let (c, later) = stamped_child(&h);
    let out = h.put(&Seg { options: stamps(999, later), ..c.seg(ACK) });
    assert_eq!(out.iter().map(|o| (o.flags, o.len)).collect::<Vec<_>>(), [(ACK, 0)]);
    assert_eq!((c.state(), mib(&h, Mib::TcpExtPAWSEstab)), (State::SynRecv, 1));
    h.put(&Seg { options: stamps(1000, later), ..c.seg(ACK) });
    assert_eq!(c.state(), State::Established);
}

/// The child has sent data, whose timestamps are later than the SYN-ACK's.
#[test]
fn a_segment_that_echoes_the_childs_data_is_not_refused_for_its_echo() {
    let h = host(3);
    let (c, later) = stamped_child(&h);
    let far = c.seq.wrapping_add(1 << 20);
    h.put(&Seg { options: stamps(1001, later), ..Seg::new(4000, ACK, far, c.ack) });
    let over_window = h.bench.stack.mib.drops(DropReason::TcpOverWindow);
    assert_eq!((mib(&h, Mib::TcpExtTSEcrRejected), over_window, c.state()), (0, 1, State::SynRecv));
    h.put(&Seg { options: stamps(1001, later), ..c.seg(ACK) });
    assert_eq!(c.state(), State::Established);
}

/// Nor does one that is dropped for want of an ACK make the next ones old (RFC 7323 §4.3), which a forger could send.
#[test]
fn the_timestamp_of_a_segment_behind_a_hole_is_not_that_of_the_child() {
    let h = host(3);
    let (c, later) = stamped_child(&h);
    let data = |flags, at: u32, stamp| Seg {
        options: stamps(stamp, later),
        data: vec![7; 100],
        ..Seg::new(4000, flags, c.seq.wrapping_add(at), c.ack)
    };
    assert_eq!(h.put(&data(0, 100, 5000)), []);
    h.put(&data(ACK, 0, 2000));
    assert_eq!((c.state(), mib(&h, Mib::TcpExtPAWSEstab)), (State::Established, 0));
    assert_eq!(c.recv(1000), Ok(110));
}

#[test]
fn a_closed_listener_resets_the_children_that_nobody_accepted_and_leaves_the_others() {
    let host = host(3);
    let cookie = cookie(&host);
    let (first, second) = (syn_data(&host, 4000, &cookie), syn_data(&host, 4001, &cookie));
    let c = accept(&host, &first);
    host.listener.close();
    let out = host.sent();
    assert_eq!(out.iter().map(|o| (o.dport, o.flags & RST)).collect::<Vec<_>>(), [(second.dport, RST)], "{out:?}");
    host.put(&c.seg(ACK));
    assert_eq!(c.state(), State::Established);
}

#[test]
fn a_rotated_key_still_takes_the_cookies_of_the_one_before() {
    let host = host(3);
    let old = cookie(&host);
    let text = host.bench.stack.sysctl.get("net.ipv4.tcp_fastopen_key").unwrap();
    host.bench.stack.sysctl.set("net.ipv4.tcp_fastopen_key", &format!("{KEY},{text}")).unwrap();
    assert!(took_data(&syn_data(&host, 4000, &old)));
    assert_eq!(mib(&host, Mib::TcpExtTCPFastOpenPassiveAltKey), 1);
    // Keys of the listener's own take their place.
    let own = [3u8; 16];
    host.listener.setsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_KEY, &own).unwrap();
    assert!(!took_data(&syn_data(&host, 4001, &old)));
    let keys = Keys::from_bytes(&own).unwrap();
    assert!(took_data(&syn_data(&host, 4002, keys.cookie(THERE.into(), HERE.into()).bytes())));
    let mut shown = [0; 32];
    let len = host.listener.getsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_KEY, &mut shown);
    assert_eq!((len, &shown[..16]), (Ok(16), &own[..]));
}

#[test]
fn without_the_sysctls_bit_or_the_option_a_listener_takes_no_part() {
    for (sysctl, queue, part) in [("1", 3, false), ("2", 0, false), ("3", 3, true), ("0x202", 3, true)] {
        let host = host(queue);
        host.bench.stack.sysctl.set("net.ipv4.tcp_fastopen", sysctl).unwrap();
        assert_eq!(took_data(&syn_data(&host, 4000, &cookie(&host))), part, "{sysctl}, queue {queue}");
    }
    // 0x400: every listener does.
    let bench = crate::device::capture_test::Bench::on_ip();
    bench.stack.sysctl.set("net.ipv4.tcp_fastopen", "0x403").unwrap();
    let host = Host::on(bench, 5);
    assert!(took_data(&syn_data(&host, 4000, &cookie(&host))));
}

// ---- Both ends, over loopback.

struct Net {
    stack: Arc<Stack>,
    clock: Arc<VirtualClock>,
}

impl Net {
    fn new(fastopen: &str) -> Net {
        let clock = Arc::new(VirtualClock::new());
        clock.advance(Duration::from_secs(1));
        let (entropy, runner) = (Arc::new(SeededEntropy::new(1)), Arc::new(Parked::default()));
        let stack = standard::stack(StackConfig { clock: clock.clone(), entropy, runner }).unwrap();
        stack.sysctl.set("net.ipv4.tcp_fastopen", fastopen).unwrap();
        Net { stack, clock }
    }

    fn run(&self, ms: u64) {
        for _ in 0..ms {
            while self.stack.poll(self.clock.now()) {}
            self.clock.advance(Duration::from_millis(1));
        }
    }

    fn socket(&self) -> Socket {
        let s = Socket::new(&self.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        s.set_nonblocking(true);
        s
    }

    fn listener(&self) -> (Socket, SocketAddr) {
        let l = self.socket();
        l.bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).unwrap();
        l.listen(16).unwrap();
        let at = l.local_addr().unwrap();
        (l, at)
    }

    fn mib(&self, m: Mib) -> u64 {
        self.stack.mib.get(m)
    }
}

fn sendto(s: &Socket, data: &[u8], to: Option<SocketAddr>) -> Result<usize> {
    let slices = [IoSlice::new(data)];
    let mut msg = SendMsg::new(&slices, libc::MSG_NOSIGNAL | if to.is_some() { libc::MSG_FASTOPEN } else { 0 });
    msg.name = to;
    s.sendmsg(&mut msg)
}

fn recv(s: &Socket) -> Result<Vec<u8>> {
    let mut buf = vec![0; 100_000];
    let n = s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut buf)], 0))?;
    buf.truncate(n);
    Ok(buf)
}

#[test]
fn the_second_connection_sends_its_data_in_the_syn() {
    let net = Net::new("0x403");
    let (l, at) = net.listener();
    let first = net.socket();
    assert_eq!(sendto(&first, b"one", Some(at)), Err(Error::InProgress), "no cookie yet: it is asked for");
    net.run(2);
    assert_eq!(sendto(&first, b"one", None), Ok(3));
    net.run(2);
    assert_eq!(recv(&l.accept().unwrap().0).unwrap(), b"one");
    let (asked, active) = (Mib::TcpExtTCPFastOpenCookieReqd, Mib::TcpExtTCPFastOpenActive);
    assert_eq!((net.mib(asked), net.mib(active)), (1, 0));

    let second = net.socket();
    let long: Vec<u8> = (0..50_000u32).map(|i| i as u8).collect();
    let sent = sendto(&second, &long, Some(at)).unwrap();
    assert!((1000..50_000).contains(&sent), "what one segment holds: {sent}");
    net.run(2);
    assert_eq!(sendto(&second, &long[sent..], None), Ok(50_000 - sent));
    net.run(2);
    assert_eq!(recv(&l.accept().unwrap().0).unwrap(), long);
    assert_eq!((net.mib(asked), net.mib(active), net.mib(Mib::TcpExtTCPFastOpenPassive)), (1, 1, 1));
    assert_eq!(net.mib(Mib::TcpExtTCPFastOpenActiveFail), 0);
}

#[test]
fn a_deferred_connect_sends_its_syn_with_the_first_write() {
    let net = Net::new("0x403");
    let (l, at) = net.listener();
    let deferred = || {
        let s = net.socket();
        s.setsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &1i32.to_ne_bytes()).unwrap();
        s
    };
    let first = deferred();
    assert_eq!(first.connect(Some(at)), Err(Error::InProgress), "no cookie yet");
    net.run(2);
    drop((first, l.accept()));
    let s = deferred();
    assert_eq!(s.connect(Some(at)), Ok(()));
    assert_eq!(s.sock().state(), State::SynSent);
    assert_eq!(s.poll().0 & libc::POLLOUT as u32, libc::POLLOUT as u32);
    assert_eq!(s.connect(Some(at)), Err(Error::IsConn));
    net.run(2);
    assert_eq!(l.accept().err(), Some(Error::Again), "no SYN has left");
    assert_eq!(sendto(&s, b"first", None), Ok(5));
    net.run(2);
    assert_eq!(recv(&l.accept().unwrap().0).unwrap(), b"first");
    // One that is closed before it writes never sends anything.
    let (opens, unused) = (net.mib(Mib::TcpActiveOpens), deferred());
    assert_eq!(unused.connect(Some(at)), Ok(()));
    drop(unused);
    net.run(2);
    assert_eq!((net.mib(Mib::TcpActiveOpens), l.accept().err()), (opens, Some(Error::Again)));
}

#[test]
fn memory_that_cannot_be_read_sends_a_plain_syn() {
    let net = Net::new("5");
    let (_l, at) = net.listener();
    let s = net.socket();
    let slices = [IoSlice::new(&[1; 100])];
    let mut msg = SendMsg::new(&slices, libc::MSG_NOSIGNAL | libc::MSG_FASTOPEN).probed(|_, _| 0);
    msg.name = Some(at);
    assert_eq!(s.sendmsg(&mut msg), Err(Error::InProgress));
    net.run(2);
    assert_eq!(s.sock().state(), State::Established);
    assert_eq!(net.mib(Mib::TcpExtTCPFastOpenActive), 0);
    assert_eq!(sendto(&s, b"whole", None), Ok(5));
}

#[test]
fn three_timeouts_pause_fast_open_for_all_destinations_and_a_success_ends_it() {
    let net = Net::new("5");
    net.stack.sysctl.set("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "10").unwrap();
    let nobody = |s: &Socket| {
        let g = s.sock().lock(&net.stack);
        let tp = g.private.downcast_ref::<crate::tcp::tcb::TcpSock>().unwrap();
        tp.syn_data()
    };
    // A route over which nothing comes back: the device has no other end.
    let dev = net.stack.add_device(crate::device::capture_test::Capture::ip("void", 1500)).unwrap();
    let cidr = crate::wire::addr::Cidr::new(addr("10.9.0.1"), 24).unwrap();
    crate::ip::route::add_address(&net.stack, &dev, cidr).unwrap();
    let to = SocketAddr::new(addr("10.9.0.2"), 80);
    let s = net.socket();
    assert_eq!(sendto(&s, b"data", Some(to)), Ok(4));
    assert!(nobody(&s));
    net.run(3_500);
    assert_eq!(net.mib(Mib::TcpExtTCPFastOpenBlackhole), 1);
    assert_eq!(net.mib(Mib::TcpExtTCPFastOpenActiveFail), 1);
    let paused = net.socket();
    assert_eq!(sendto(&paused, b"data", Some(to)), Err(Error::InProgress));
    assert!(!nobody(&paused), "no data in the SYN");
    net.run(11_000);
    let again = net.socket();
    assert_eq!(sendto(&again, b"data", Some(to)), Ok(4));
    assert!(nobody(&again));
    // Setting the sysctl forgets the pauses.
    net.run(3_500);
    assert_eq!(net.mib(Mib::TcpExtTCPFastOpenBlackhole), 2);
    net.stack.sysctl.set("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "10").unwrap();
    assert_eq!(sendto(&net.socket(), b"data", Some(to)), Ok(4));
}

/// The SYN is sent again by its timer, and the data is what the connection sends first.
#[test]
fn data_of_a_syn_that_the_device_refused_waits_for_the_handshake() {
    use crate::tcp::testing::{Bench, ISS, be_in};
    let b = Bench::new();
    b.stack.sysctl.set("net.ipv4.tcp_fastopen", "5").unwrap();
    b.wire.full.store(true, std::sync::atomic::Ordering::Relaxed);
    let data = [7; 3000];
    let slices = [IoSlice::new(&data)];
    b.with(|cx| {
        be_in(cx, State::SynSent);
        cx.tp.fastopen_mut().request = Some(super::SynRequest::default());
        let mut msg = SendMsg::new(&slices, 0);
        crate::tcp::control::connect(cx, Some(&mut msg)).unwrap();
        let copied = cx.tp.fastopen().unwrap().request.as_ref().unwrap().copied;
        assert_eq!((copied, msg.remaining()), (1420, 3000 - 1420));
        assert!(!cx.tp.syn_data(), "none left");
        assert_eq!((cx.tp.rtx_queue.len(), cx.tp.packets_out, cx.tp.snd_nxt.0), (1, 1, ISS.wrapping_add(1)));
        assert_eq!(cx.tp.write_queue.front().map(|s| (s.tcp.seq.0, s.len())), Some((ISS.wrapping_add(1), 1420)));
        let queued = cx.tp.rtx_queue.iter().chain(cx.tp.write_queue.iter()).map(|s| s.truesize as i32);
        assert_eq!((cx.sk.wmem_queued, cx.sk.forward_alloc >= 0), (queued.sum(), true));
    });
    b.wire.full.store(false, std::sync::atomic::Ordering::Relaxed);
    b.step();
    assert_eq!(b.shapes(), [(0, 0, "S".to_owned())]);
}

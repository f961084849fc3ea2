//! Whole connections over the loopback device, in virtual time and one thread. Below:
//!
//! | file | what |
//! |---|---|
//! | `later_kernels` | what Linux 6.18 does otherwise and later kernels as here |
//! | `owners` | a listener whose owner ends without a call |
//! | `ports` | which local port a connection gets |
//! | `short_ways` | things change under connections |

use crate::base::env::{Clock, Duration, SeededEntropy, VirtualClock};
use crate::base::error::Error;
use crate::counters::Mib;
use crate::device::capture_test::Bench;
use crate::device::pcap;
use crate::driver::Parked;
use crate::inet::Socket;
use crate::ip::route::{RouteSpec, add_route};
use crate::sock::msg::{RecvMsg, SendMsg};
use crate::sock::wait::Events;
use crate::stack::{Stack, StackConfig};
use crate::standard;
use crate::sys::lock::Mutex;
use crate::tcp::peer_test::{Host, ISS, SYN, Seg};
use crate::wire::tcp::{TcpFlags, TcpHeader};
use pcap_file::pcap::PcapReader;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

mod later_kernels;
mod owners;
mod ports;
mod short_ways;

const SEED: u64 = 0x7ab1e;

struct Net {
    stack: Arc<Stack>,
    clock: Arc<VirtualClock>,
}

fn net() -> Net {
    let clock = Arc::new(VirtualClock::new());
    clock.advance(Duration::from_secs(1));
    let config = StackConfig {
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(SEED)),
        runner: Arc::new(Parked::default()),
    };
    Net { stack: standard::stack(config).expect("a stack"), clock }
}

impl Net {
    fn socket(&self, family: i32) -> Socket {
        let s = Socket::new(&self.stack, family, libc::SOCK_STREAM, 0).expect("socket");
        s.set_nonblocking(true);
        s
    }

    /// Time goes on from event to event.
    fn run(&self, time: Duration) {
        let end = self.clock.now() + time;
        for _ in 0..100_000 {
            while self.stack.poll(self.clock.now()) {}
            match self.stack.next_event() {
                Some(at) if at <= end => self.clock.set(at.max(self.clock.now())),
                _ => break,
            }
        }
        self.clock.set(end);
        while self.stack.poll(end) {}
    }

    fn listener(&self, addr: IpAddr, backlog: i32) -> (Socket, SocketAddr) {
        let l = self.socket(if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
        l.bind(SocketAddr::new(addr, 0)).expect("bind");
        l.listen(backlog).expect("listen");
        let at = l.local_addr().unwrap();
        (l, at)
    }

    fn pair(&self, addr: IpAddr) -> (Socket, Socket, Socket) {
        let (l, at) = self.listener(addr, 16);
        let c = self.socket(if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
        match c.connect(Some(at)) {
            Ok(()) | Err(Error::InProgress) => {}
            e => panic!("connect: {e:?}"),
        }
        self.run(Duration::from_millis(1));
        let (s, peer) = l.accept().expect("accept");
        s.set_nonblocking(true);
        assert_eq!(peer, c.local_addr().unwrap());
        assert_eq!(c.peer_addr(), Ok(at));
        (l, c, s)
    }

    fn mib(&self, m: Mib) -> u64 {
        self.stack.mib.get(m)
    }
}

fn send(s: &Socket, data: &[u8]) -> Result<usize, Error> {
    let slices = [IoSlice::new(data)];
    s.sendmsg(&mut SendMsg::new(&slices, libc::MSG_NOSIGNAL))
}

fn recv_flags(s: &Socket, buf: &mut [u8], flags: i32) -> Result<usize, Error> {
    let mut slices = [IoSliceMut::new(buf)];
    s.recvmsg(&mut RecvMsg::new(&mut slices, flags))
}

fn recv(s: &Socket, buf: &mut [u8]) -> Result<usize, Error> {
    recv_flags(s, buf, 0)
}

const LO: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LO6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

fn pattern(n: usize, salt: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ salt) as u8).collect()
}

/// The counters of a conversation, and what a raw socket has seen of it. `captured`: the device is wrapped.
fn conversation(captured: bool) -> (Vec<(&'static str, u64)>, Vec<Vec<u8>>) {
    let n = net();
    if captured {
        let lo = n.stack.netdevs.by_index(1).unwrap();
        pcap::start_to(&lo, Box::new(std::io::sink()), n.clock.clone()).unwrap();
    }
    let raw = Socket::new(&n.stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP).unwrap();
    raw.set_nonblocking(true);
    let (_l, c, s) = n.pair(LO);
    // ld proto; jeq #ETH_P_IP, yes, no; yes: ret #-1; no: ret #0. It asks for what IP knows of the packet.
    let filter = [(0x20u16, 0u8, 0u8, 0xffff_f000u32), (0x15, 0, 1, 0x800), (6, 0, 0, u32::MAX), (6, 0, 0, 0)];
    let bytes =
        |(code, yes, no, k): (u16, u8, u8, u32)| [&code.to_ne_bytes()[..], &[yes, no], &k.to_ne_bytes()[..]].concat();
    s.setsockopt(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter.map(bytes).concat()).unwrap();
    let (mut seen, mut buf, mut taken) = (Vec::new(), vec![0; 100_000], 0);
    for len in [1, 100, 1460, 5000, 70_000, 3] {
        for (from, to) in [(&c, &s), (&s, &c)] {
            send(from, &pattern(len, 1)).unwrap();
            n.run(Duration::from_millis(300));
            while let Ok(got) = recv(to, &mut buf) {
                taken += got;
            }
            while let Ok(got) = recv(&raw, &mut buf) {
                seen.push(buf[..got].to_vec());
            }
        }
    }
    assert_eq!(taken, 2 * (1 + 100 + 1460 + 5000 + 70_000 + 3));
    c.close();
    s.close();
    n.run(Duration::from_secs(2));
    (n.stack.mib.iter().collect(), seen)
}

#[test]
fn a_segment_that_is_looped_counts_as_one_that_is_looked_at() {
    let ((short, seen), (long, all)) = (conversation(false), conversation(true));
    let differ: Vec<_> = short.iter().zip(&long).filter(|(a, b)| a != b).collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert!(seen.len() > 12 && seen == all, "raw sockets see the same {} packets", seen.len());
}

type Act = std::cell::RefCell<Option<Box<dyn FnOnce()>>>;
thread_local!(static MEANWHILE: Act = const { Act::new(None) });

#[test]
fn tcp_inq_counts_what_came_while_the_call_owned_the_socket() {
    let n = net();
    let (_l, c, s) = n.pair(LO);
    s.setsockopt(libc::IPPROTO_TCP, 36, &1i32.to_ne_bytes()).unwrap();
    send(&c, b"first").unwrap();
    n.run(Duration::from_millis(1));
    let stack = n.stack.clone();
    let more = move || {
        send(&c, b"and more").unwrap();
        while stack.poll(stack.now()) {}
        // Still open when the count is taken.
        std::mem::forget(c);
    };
    MEANWHILE.set(Some(Box::new(more)));
    let mut buf = [0; 3];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut msg = RecvMsg::new(&mut slices, 0).probed(|_, len| {
        MEANWHILE.take().into_iter().for_each(|act| act());
        len
    });
    assert_eq!(s.recvmsg(&mut msg), Ok(3));
    assert_eq!(msg.control, [crate::sock::msg::Control::Inq(2 + 8)]);
}

#[test]
fn a_mebibyte_each_way_arrives_whole_and_the_connection_ends_in_time_wait() {
    for addr in [LO, LO6] {
        let n = net();
        let (_l, c, s) = n.pair(addr);
        let (up, down) = (pattern(1 << 20, 1), pattern(1 << 20, 2));
        let (mut sent, mut got) = ([0usize; 2], [Vec::new(), Vec::new()]);
        let mut buf = vec![0u8; 50_000];
        for _ in 0..20_000 {
            for (i, (end, data)) in [(&c, &up), (&s, &down)].into_iter().enumerate() {
                if sent[i] < data.len() {
                    match send(end, &data[sent[i]..]) {
                        Ok(k) => sent[i] += k,
                        Err(e) => assert_eq!(e, Error::Again),
                    }
                }
            }
            for (i, end) in [&s, &c].into_iter().enumerate() {
                match recv(end, &mut buf) {
                    Ok(k) => got[i].extend_from_slice(&buf[..k]),
                    Err(e) => assert_eq!(e, Error::Again),
                }
            }
            n.run(Duration::from_millis(1));
            if got[0].len() == up.len() && got[1].len() == down.len() {
                break;
            }
        }
        assert!(got[0] == up, "{addr} up: {} of {}", got[0].len(), up.len());
        assert!(got[1] == down, "{addr} down: {} of {}", got[1].len(), down.len());
        // Half close: the server reads the end, answers, closes.
        c.shutdown(1).expect("shutdown");
        n.run(Duration::from_millis(1));
        assert_eq!(recv(&s, &mut buf), Ok(0));
        assert_eq!(send(&s, b"bye"), Ok(3));
        s.close();
        n.run(Duration::from_millis(1));
        assert_eq!(recv(&c, &mut buf), Ok(3));
        assert_eq!(recv(&c, &mut buf), Ok(0));
        c.close();
        n.run(Duration::from_millis(1));
        let waiting = |n: &Net| super::net::of(&n.stack).unwrap().hashinfo.established_len().0;
        assert_eq!(waiting(&n), 1, "{addr}: the side that closed first waits");
        n.run(Duration::from_secs(61));
        assert_eq!(waiting(&n), 0);
        assert_eq!(n.mib(Mib::TcpExtTW), 1);
        assert_eq!(n.mib(Mib::TcpCurrEstab), 0);
        assert_eq!(n.stack.registry.accounts("TCP").expect("accounts").orphans.sum(), 0);
    }
}

/// What a device carried, from the network header on.
fn capture(net: &Net, f: impl FnOnce()) -> Vec<Vec<u8>> {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (memory, lo) = (Memory::default(), net.stack.netdevs.by_index(1).expect("lo"));
    pcap::start_to(&lo, Box::new(memory.clone()), net.clock.clone()).expect("capture");
    f();
    pcap::stop(&lo).expect("capture");
    let bytes = memory.0.lock().clone();
    let mut reader = PcapReader::new(&bytes[..]).expect("header");
    let mut packets = Vec::new();
    while let Some(p) = reader.next_packet() {
        packets.push(p.expect("packet").data.into_owned());
    }
    packets
}

/// The traffic classes of the segments with a flag, of all those that `f` makes leave.
fn classes(net: &Net, flag: TcpFlags, f: impl FnOnce()) -> Vec<u8> {
    let of = |p: Vec<u8>| match p[0] >> 4 {
        4 => (p[1], p[33]),
        _ => (p[0] << 4 | p[1] >> 4, p[53]),
    };
    let with_flag = |(class, bits): (u8, u8)| TcpFlags::from_bits(bits.into()).contains(flag).then_some(class);
    capture(net, f).into_iter().map(of).filter_map(with_flag).collect()
}

fn set_class(s: &Socket, ip: IpAddr, class: i32) {
    let (level, name) = match ip {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    };
    s.setsockopt(level, name, &class.to_ne_bytes()).expect("traffic class");
}

#[test]
fn a_refusal_has_the_traffic_class_of_what_it_refuses_and_a_time_wait_that_of_its_connection() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)] {
        let net = net();
        let closed = net.socket(if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
        set_class(&closed, ip, 0x28);
        let refused = classes(&net, TcpFlags::RST, || {
            assert_eq!(closed.connect(Some(SocketAddr::new(ip, 9))), Err(Error::InProgress));
            net.run(Duration::from_millis(1));
        });
        assert_eq!(refused, [0x28], "{ip}: no socket");

        // The server's side of a connection is gone: what its client still sends is refused.
        let (_l, c, s) = net.pair(ip);
        set_class(&c, ip, 0x48);
        let orphaned = classes(&net, TcpFlags::RST, || {
            s.shutdown(libc::SHUT_RD).expect("shutdown");
            drop(s);
            send(&c, b"unwanted").expect("send");
            net.run(Duration::from_millis(1));
        });
        assert_eq!(orphaned, [0x48], "{ip}: an orphan");

        let (_l, c, s) = net.pair(ip);
        set_class(&c, ip, 0x68);
        set_class(&s, ip, 0x88);
        drop(c);
        net.run(Duration::from_millis(1));
        let last = classes(&net, TcpFlags::ACK, || {
            drop(s);
            net.run(Duration::from_millis(1));
        });
        assert_eq!(last, [0x88, 0x68], "{ip}: a FIN, and a record's acknowledgement");
    }
}

/// `tcp_reflect_tos`: the SYN-ACK and the connection take the SYN's class, without its ECN bits, and not the
/// listener's.
#[test]
fn a_connection_reflects_the_traffic_class_of_its_syn_where_that_is_asked_for() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)] {
        for (reflect, want) in [("0", [0x10, 0x10]), ("1", [0x28, 0x28])] {
            let net = net();
            net.stack.sysctl.set("net.ipv4.tcp_reflect_tos", reflect).expect("sysctl");
            let (l, at) = net.listener(ip, 1);
            set_class(&l, ip, 0x10);
            let c = net.socket(if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
            set_class(&c, ip, 0x28);
            let mut got = classes(&net, TcpFlags::SYN, || {
                assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
                net.run(Duration::from_millis(1));
            });
            let (s, _) = l.accept().expect("accept");
            got.extend(classes(&net, TcpFlags::PSH, || {
                send(&s, b"hello").expect("send");
                net.run(Duration::from_millis(1));
            }));
            assert_eq!(got[1..], want, "{ip} {reflect}");
        }
    }
}

/// `tcp_fwmark_accept`: without a mark of its own a listener's connection has that of the SYN, which the loopback
/// keeps.
#[test]
fn a_connection_has_its_listeners_mark_or_where_that_is_asked_for_its_syns() {
    for (accept, own, want) in [("0", 0, 0), ("1", 0, 7), ("1", 9, 9)] {
        let net = net();
        net.stack.sysctl.set("net.ipv4.tcp_fwmark_accept", accept).expect("sysctl");
        let (l, at) = net.listener(LO, 1);
        let c = net.socket(libc::AF_INET);
        for (s, mark) in [(&l, own), (&c, 7)] {
            s.setsockopt(libc::SOL_SOCKET, libc::SO_MARK, &i32::to_ne_bytes(mark)).expect("mark");
        }
        assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
        net.run(Duration::from_millis(1));
        let (s, _) = l.accept().expect("accept");
        for (s, want) in [(&s, want), (&l, own)] {
            let mut mark = [0; 4];
            s.getsockopt(libc::SOL_SOCKET, libc::SO_MARK, &mut mark).expect("mark");
            assert_eq!(i32::from_ne_bytes(mark), want, "{accept} {own}");
        }
    }
}

#[test]
fn a_closed_port_refuses() {
    let n = net();
    let c = n.socket(libc::AF_INET);
    let r = c.connect(Some(SocketAddr::new(LO, 9)));
    n.run(Duration::from_millis(1));
    assert_eq!(r, Err(Error::InProgress));
    assert!(c.poll().intersects(Events::ERR));
    assert_eq!(c.connect(Some(SocketAddr::new(LO, 9))), Err(Error::ConnRefused));
    assert_eq!(n.mib(Mib::TcpOutRsts), 1);
    assert_eq!(n.mib(Mib::TcpAttemptFails), 1);
}

#[test]
fn the_accept_queue_takes_one_more_than_the_backlog_and_then_drops_syns() {
    let n = net();
    let (_l, at) = n.listener(LO, 1);
    let clients: Vec<Socket> = (0..4)
        .map(|_| {
            let c = n.socket(libc::AF_INET);
            assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
            n.run(Duration::from_millis(1));
            c
        })
        .collect();
    let open = clients.iter().filter(|c| c.connect(Some(at)) == Ok(())).count();
    assert_eq!(open, 2);
    assert!(n.mib(Mib::TcpExtListenOverflows) >= 2);
    assert_eq!(n.mib(Mib::TcpExtListenOverflows), n.mib(Mib::TcpExtListenDrops));
}

#[test]
fn closing_with_unread_data_resets_the_peer() {
    let n = net();
    let (_l, c, s) = n.pair(LO);
    assert_eq!(send(&c, b"unread"), Ok(6));
    n.run(Duration::from_millis(1));
    s.close();
    n.run(Duration::from_millis(1));
    assert_eq!(recv(&c, &mut [0; 10]), Err(Error::ConnReset));
    assert_eq!(n.mib(Mib::TcpExtTCPAbortOnClose), 1);
    assert_eq!(super::net::of(&n.stack).unwrap().hashinfo.established_len().0, 0);
}

#[test]
fn a_connection_ended_from_outside_is_reset_and_its_calls_say_aborted() {
    let net = net();
    let (l, c, s) = net.pair(IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(c.destroy(), Ok(()));
    net.run(Duration::from_millis(1));
    let mut buf = [0; 8];
    assert_eq!((recv(&c, &mut buf), recv(&c, &mut buf)), (Err(Error::ConnAborted), Ok(0)));
    assert_eq!(recv(&s, &mut buf), Err(Error::ConnReset));
    assert_eq!(net.mib(Mib::TcpOutRsts), 1);
    // A listener takes its queue with it.
    assert_eq!(l.destroy(), Ok(()));
    assert_eq!(l.accept().err(), Some(Error::Inval));
}

#[test]
fn a_listener_that_closes_resets_what_nobody_accepted() {
    let n = net();
    let (l, at) = n.listener(LO, 4);
    let c = n.socket(libc::AF_INET);
    assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
    n.run(Duration::from_millis(1));
    l.close();
    n.run(Duration::from_millis(1));
    assert_eq!(recv(&c, &mut [0; 10]), Err(Error::ConnReset));
    assert_eq!(super::net::of(&n.stack).unwrap().hashinfo.established_len().0, 0);
    let again = n.socket(libc::AF_INET);
    assert_eq!(again.bind(at), Ok(()));
}

/// Of four sockets with these options, how many get one of two ports (as seen on Linux 6.18).
#[test]
fn ports_that_bind_chooses_are_shared_where_the_sysctl_and_the_sockets_say_so() {
    let (reuse, reuseport) = (libc::SO_REUSEADDR, libc::SO_REUSEPORT);
    for (on, options, want) in [
        ("0", &[][..], 2),
        ("0", &[reuse, reuseport], 2),
        ("1", &[], 2),
        ("1", &[reuseport], 2),
        ("1", &[reuse], 4),
        ("1", &[reuse, reuseport], 2),
    ] {
        let n = net();
        n.stack.sysctl.set("net.ipv4.ip_local_port_range", "40000 40001").unwrap();
        n.stack.sysctl.set("net.ipv4.ip_autobind_reuse", on).unwrap();
        let bind = |_| {
            let s = n.socket(libc::AF_INET);
            for option in options {
                s.setsockopt(libc::SOL_SOCKET, *option, &1i32.to_ne_bytes()).unwrap();
            }
            (s.bind(SocketAddr::new(LO, 0)), s)
        };
        let all: Vec<_> = (0..4).map(bind).collect();
        let bound: Vec<_> = all.iter().filter(|(done, _)| done.is_ok()).map(|(_, s)| s).collect();
        assert_eq!(bound.len(), want, "{on} {options:?}");
        bound[..2].iter().for_each(|s| s.listen(1).unwrap());
        drop(all.into_iter().skip(2).collect::<Vec<_>>());
    }
}

#[test]
fn a_connection_from_a_broadcast_address_has_an_address_of_this_host() {
    let n = net();
    let (_l, at) = n.listener(LO, 4);
    let c = n.socket(libc::AF_INET);
    c.bind("127.255.255.255:0".parse().unwrap()).unwrap();
    let port = c.local_addr().unwrap().port();
    assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
    n.run(Duration::from_millis(1));
    assert_eq!(c.local_addr(), Ok(SocketAddr::new(LO, port)));
    for (addr, want) in [("127.0.0.1", Err(Error::AddrInUse)), ("127.0.0.2", Ok(())), ("127.255.255.255", Ok(()))] {
        let addr: IpAddr = addr.parse().unwrap();
        assert_eq!(n.socket(libc::AF_INET).bind(SocketAddr::new(addr, port)), want, "{addr}");
    }
}

#[test]
fn peek_and_msg_trunc_leave_and_discard() {
    let n = net();
    let (_l, c, s) = n.pair(LO);
    assert_eq!(send(&c, b"abcdefgh"), Ok(8));
    n.run(Duration::from_millis(1));
    let mut b = [0u8; 4];
    assert_eq!(recv_flags(&s, &mut b, libc::MSG_PEEK), Ok(4));
    assert_eq!(&b, b"abcd");
    assert_eq!(recv_flags(&s, &mut b, libc::MSG_TRUNC), Ok(4));
    assert_eq!(recv(&s, &mut b), Ok(4));
    assert_eq!(&b, b"efgh");
    assert_eq!(recv(&s, &mut b), Err(Error::Again));
}

#[test]
fn a_disconnected_socket_connects_again() {
    let n = net();
    let (l, c, s) = n.pair(LO);
    c.setsockopt(libc::SOL_SOCKET, libc::SO_PEEK_OFF, &(-2_i32).to_ne_bytes()).unwrap();
    assert_eq!(c.connect(None), Ok(()));
    let mut offset = [0; 4];
    c.getsockopt(libc::SOL_SOCKET, libc::SO_PEEK_OFF, &mut offset).unwrap();
    assert_eq!(i32::from_ne_bytes(offset), -1);
    n.run(Duration::from_millis(1));
    assert_eq!(recv(&s, &mut [0; 1]), Err(Error::ConnReset));
    assert_eq!(c.connect(Some(l.local_addr().unwrap())), Err(Error::InProgress));
    n.run(Duration::from_millis(1));
    assert_eq!(c.connect(Some(l.local_addr().unwrap())), Ok(()));
    assert!(l.accept().is_ok());
}

#[test]
fn ports_of_connections_to_one_destination_are_distinct_and_not_a_plain_count() {
    let n = net();
    let (l, at) = n.listener(LO, 200);
    let mut ports = Vec::new();
    let mut keep = Vec::new();
    for _ in 0..100 {
        let c = n.socket(libc::AF_INET);
        assert_eq!(c.connect(Some(at)), Err(Error::InProgress));
        n.run(Duration::from_millis(1));
        ports.push(c.local_addr().unwrap().port());
        keep.push((c, l.accept().expect("accept").0));
    }
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 100);
    let steps = ports.windows(2).filter(|w| w[1].wrapping_sub(w[0]) != 2).count();
    assert!(steps > 0, "a step of 2 each time would be RFC 6056's weakest algorithm");
}

#[test]
fn the_time_under_memory_pressure_is_counted_in_milliseconds() {
    let n = net();
    n.stack.sysctl.set("net.ipv4.tcp_mem", "2 4 100000").unwrap();
    let (l, c, s) = n.pair(LO);
    let pressures = || (n.mib(Mib::TcpExtTCPMemoryPressures), n.mib(Mib::TcpExtTCPMemoryPressuresChrono));
    let pages = || n.stack.registry.accounts("TCP").unwrap().pages.sum();
    assert_eq!(pressures(), (0, 0));
    // More than four pages: it begins, and lasts as long as nobody reads.
    assert!(send(&c, &pattern(30_000, 1)).unwrap() > 16_384);
    assert!(pages() > 4);
    assert_eq!(pressures(), (1, 0));
    n.run(Duration::from_millis(1234));
    assert_eq!(pressures(), (1, 0));
    // The sockets go, and their memory with them.
    drop((l, c, s));
    assert!(pages() < 2, "{} pages", pages());
    assert_eq!(pressures(), (1, 1234));
    n.run(Duration::from_secs(100));
    assert_eq!(pressures(), (1, 1234));
}

/// Over IPv4 a host behind a gateway is unreachable, for a SYN that arrives as well; IPv6 ignores the option. As the
/// kernel, each refusal counts once.
#[test]
fn so_dontroute_reaches_only_hosts_on_the_link_over_ipv4() {
    let b = Bench::on_ip();
    for (all, gateway) in [("0.0.0.0/0", "10.0.0.254"), ("::/0", "fd00::254")] {
        add_route(&b.stack, RouteSpec::new(all.parse().unwrap()).via(gateway.parse().unwrap())).unwrap();
    }
    let (stream, dgram) = (libc::SOCK_STREAM, libc::SOCK_DGRAM);
    let (v4, v6) = (libc::AF_INET, libc::AF_INET6);
    let syn_sent = Err(Error::InProgress);
    for (family, kind, to, want) in [
        (v4, stream, "203.0.113.5:80", Err(Error::NetUnreach)),
        (v6, stream, "[::ffff:203.0.113.5]:80", Err(Error::NetUnreach)),
        (v4, stream, "10.0.0.9:80", syn_sent),
        (v6, stream, "[2001:db8::5]:80", syn_sent),
        (v4, dgram, "203.0.113.5:80", Err(Error::NetUnreach)),
        (v6, dgram, "[::ffff:203.0.113.5]:80", Err(Error::NetUnreach)),
        (v4, dgram, "10.0.0.9:80", Ok(())),
        (v6, dgram, "[2001:db8::5]:80", Ok(())),
    ] {
        let s = Socket::new(&b.stack, family, kind, 0).unwrap();
        s.set_nonblocking(true);
        s.setsockopt(libc::SOL_SOCKET, libc::SO_DONTROUTE, &1i32.to_ne_bytes()).unwrap();
        let before = b.stack.mib.get(Mib::IpOutNoRoutes);
        assert_eq!(s.connect(Some(to.parse().unwrap())), want, "{kind} {to}");
        let refused = u64::from(want == Err(Error::NetUnreach));
        assert_eq!(b.stack.mib.get(Mib::IpOutNoRoutes) - before, refused, "{kind} {to}");
    }
}

/// The listener's timer is armed for the SYN-ACK that is due first, though that of an older request is due later.
#[test]
fn the_syn_ack_of_a_younger_request_is_sent_again_in_its_time() {
    let h = Host::new(5);
    let sent_again = |ms| {
        let packets = h.bench.advance(Duration::from_millis(ms));
        packets.iter().map(|p| TcpHeader::parse(&p[20..]).unwrap().dst_port()).collect::<Vec<_>>()
    };
    h.put(&Seg::new(4000, SYN, ISS, 0));
    assert_eq!(sent_again(1500), [4000], "after a second, and next after two more");
    h.put(&Seg::new(4001, SYN, ISS, 0));
    assert_eq!(sent_again(1300), [4001]);
    assert_eq!(sent_again(1000), [4000]);
}

#[test]
fn syn_ack_and_data_have_one_transmit_hash_which_a_retransmission_changes() {
    use super::peer_test::{ACK, Host, ISS, SYN, SYN_OPTIONS, Seg};
    let host = Host::new(5);
    let answer = host.put(&Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(4000, SYN, ISS, 0) });
    assert_eq!(host.wait(std::time::Duration::from_secs(1)).len(), 1, "the SYN-ACK again");
    let (seq, ack) = (ISS.wrapping_add(1), answer[0].seq.wrapping_add(1));
    host.put(&Seg::new(4000, ACK, seq, ack));
    host.put(&Seg { data: vec![1; 10], ..Seg::new(4000, ACK, seq, ack) });
    host.wait(std::time::Duration::from_millis(50));
    let hashes = host.bench.wire.hashes.lock().clone();
    let [first, again, acknowledgement] = hashes[..] else { panic!("{hashes:?}") };
    assert!(first != again && again == acknowledgement && again != 0, "{hashes:?}");
}

#[test]
fn a_socket_that_a_poll_found_idle_is_so_until_somebody_owns_it_or_an_error_waits() {
    let n = net();
    let (_l, c, s) = n.pair(LO);
    let idle = |s: &Socket| {
        let first = s.poll();
        let was = s.sock().is_idle();
        assert_eq!(s.poll(), first);
        was
    };
    assert!(idle(&c) && idle(&s));
    send(&c, b"x").unwrap();
    assert!(!c.sock().is_idle() && !s.sock().is_idle());
    assert!(!idle(&s) && s.poll().intersects(Events::IN));
    recv(&s, &mut [0]).unwrap();
    assert!(idle(&s) && !s.poll().intersects(Events::IN));
    // What comes while the sock is owned is processed after the poll, and is seen by the next. Meanwhile the sender has
    // bytes that are not acknowledged.
    let poller = s.sock().lock(&n.stack);
    send(&c, b"y").unwrap();
    assert!(!idle(&c));
    poller.release_idle();
    assert!(!s.sock().is_idle() && s.poll().intersects(Events::IN));
    recv(&s, &mut [0]).unwrap();
    n.run(Duration::from_millis(200));
    assert!(idle(&c));
    // An error is stored without owning the sock.
    assert!(idle(&s));
    s.sock().report_error(Error::HostUnreach);
    assert!(s.sock().is_idle() && s.poll().intersects(Events::ERR));
}

/// A device that cuts no super-packets takes the first segments of one and drops the rest: the peer acknowledges what
/// it got, and gets the rest again. If it takes none, all is sent later.
#[test]
fn of_a_super_packet_that_a_device_takes_in_part_the_rest_is_lost_and_sent_again() {
    use super::peer_test::{ACK, Host, SYN_OPTIONS, Seg};
    for room in [1, 0] {
        let h = Host::new(5);
        let c = h.connect(4000, SYN_OPTIONS);
        *h.bench.wire.room.lock() = Some(room);
        assert_eq!(c.send(4 * 1460), Ok(4 * 1460));
        assert_eq!(h.sent().len(), room);
        assert_eq!(c.tcb(|tp| tp.snd_nxt.0.wrapping_sub(c.ack)), 4 * 1460 * room as u32);
        *h.bench.wire.room.lock() = None;
        let ack = c.ack.wrapping_add(1460 * room as u32);
        h.put(&Seg { ack, ..c.seg(ACK) });
        let mut reached = ack;
        for _ in 0..20 {
            for out in h.wait(Duration::from_secs(1)) {
                if out.seq == reached {
                    reached = reached.wrapping_add(out.len as u32);
                }
            }
            h.put(&Seg { ack: reached, ..c.seg(ACK) });
        }
        assert_eq!(reached, c.ack.wrapping_add(4 * 1460), "room {room}");
        assert_eq!(h.bench.stack.mib.get(Mib::TcpExtTCPChallengeACK), 0);
    }
}

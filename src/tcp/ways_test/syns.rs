//! Which SYNs and SYN-ACKs of two ends in one stack go the short way: the other tests would not see a condition that is
//! missing where it takes a hook or a key to tell.

use crate::base::error::Error;
use crate::base::ways::Way;
use crate::base::ways::testing::{count, without};
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::ip;
use crate::sock::dst::{Dst, DstKind};
use crate::tcp::peer_test::{Host, THERE};
use crate::tcp::segment::{self, Headers};
use crate::tcp::sock_ops::cb;
use crate::tcp::sockopt::opt;
use crate::tcp::tcb::{Cx, TcpSock};
use crate::wire::seq::{RawWindow, SeqNum, WindowShift};
use crate::wire::tcp::TcpFlags;
use crate::wire::tcp_options::SynOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

struct Ends {
    host: Host,
    listener: Socket,
    client: Socket,
}

const AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 81);

impl Ends {
    fn new() -> Ends {
        let host = Host::on(Bench::on_ip(), 1);
        let [listener, client] =
            [(); 2].map(|()| Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap());
        listener.set_nonblocking(true);
        client.set_nonblocking(true);
        listener.bind(AT).unwrap();
        listener.listen(5).unwrap();
        Ends { host, listener, client }
    }

    /// Connects; the connection is established at both ends.
    fn connect(&self) {
        assert!(matches!(self.client.connect(Some(AT)), Ok(()) | Err(Error::InProgress)));
        self.host.sent();
        self.listener.accept().unwrap();
    }
}

fn tcb<R>(s: &Socket, f: impl FnOnce(&mut TcpSock) -> R) -> R {
    let mut g = s.sock().lock(s.stack());
    f(Cx::new(&mut g).unwrap().tp)
}

fn md5(peer: Ipv4Addr) -> Vec<u8> {
    let mut b = vec![0; 216];
    b[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    b[4..8].copy_from_slice(&peer.octets());
    b[130..132].copy_from_slice(&1u16.to_ne_bytes());
    b[136] = b'k';
    b
}

#[test]
fn a_syn_and_its_answer_go_the_short_way_unless_something_is_special_about_them() {
    fn sysctl(e: &Ends, name: &str, value: &str) {
        e.host.bench.stack.sysctl.set(name, value).unwrap();
    }
    fn option(s: &Socket, level: i32, name: i32, value: i32) {
        s.setsockopt(level, name, &value.to_ne_bytes()).unwrap();
    }
    fn keys(e: &Ends) {
        for s in [&e.listener, &e.client] {
            s.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &md5(Ipv4Addr::LOCALHOST)).unwrap();
        }
    }
    type SetUp = fn(&Ends);
    let cases: [(&str, SetUp, u32); 12] = [
        ("nothing", |_| {}, 2),
        ("a TOS", |e| option(&e.client, libc::SOL_IP, libc::IP_TOS, 8), 2),
        ("no timestamps", |e| sysctl(e, "net.ipv4.tcp_timestamps", "0"), 0),
        ("no SACK", |e| sysctl(e, "net.ipv4.tcp_sack", "0"), 0),
        // The SYN-ACK's header says more, and nothing else is special about it.
        ("ECN", |e| sysctl(e, "net.ipv4.tcp_ecn", "1"), 1),
        // There the SYN-ACK has an option of it.
        ("accurate ECN", |e| sysctl(e, "net.ipv4.tcp_ecn", "3"), 0),
        ("keys", keys, 0),
        ("a hook of the client's", |e| tcb(&e.client, |tp| tp.sock_ops_flags |= cb::WRITE_HDR_OPT), 1),
        ("a hook of the listener's", |e| tcb(&e.listener, |tp| tp.sock_ops_flags |= cb::WRITE_HDR_OPT), 1),
        ("the SYN is kept", |e| option(&e.listener, libc::IPPROTO_TCP, opt::SAVE_SYN, 1), 1),
        // The answer has room for them, too.
        (
            "options of IP",
            |e| e.client.setsockopt(libc::SOL_IP, libc::IP_OPTIONS, &[7, 7, 4, 0, 0, 0, 0, 0]).unwrap(),
            0,
        ),
        ("may be cut", |e| option(&e.client, libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT), 1),
    ];
    for (case, set_up, taken) in cases {
        let e = Ends::new();
        set_up(&e);
        let before = count(Way::Syn);
        e.connect();
        assert_eq!(count(Way::Syn) - before, taken, "{case}");
    }
    let before = count(Way::Syn);
    without(&[Way::Syn], || Ends::new().connect());
    assert_eq!(count(Way::Syn), before);
}

#[test]
fn a_syn_ack_goes_the_short_way_by_a_route_of_its_own_stack_that_is_valid_and_has_room() {
    let e = Ends::new();
    let stack = &e.host.bench.stack;
    let route = ip::route::lookup(stack, AT.ip(), Some(AT.ip()), 0).unwrap();
    let outside = ip::route::lookup(stack, IpAddr::V4(THERE), None, 0).unwrap();
    let (src, seq) = (Ipv4Addr::LOCALHOST, SeqNum(7));
    let (flags, window) = ((TcpFlags::SYN | TcpFlags::ACK).bits(), RawWindow(9));
    let h = Headers { src, to: src, ports: (81, 4000), seq, ack: seq, flags, window, tos: 0, ttl: 64 };
    let usual = SynOptions {
        mss: Some(1460),
        timestamps: Some((1, 2)),
        sack_permitted: true,
        window_scale: Some(WindowShift::clamp(7)),
        ..SynOptions::default()
    };
    let like = |change: &dyn Fn(&mut Dst)| {
        let mut dst = (*route).clone();
        change(&mut dst);
        dst
    };
    for (case, dst, options, sent) in [
        ("good", like(&|_| {}), usual, Some(true)),
        ("room for it", like(&|dst| dst.mtu = 60), usual, Some(true)),
        ("too long", like(&|dst| dst.mtu = 59), usual, None),
        ("not for this host", like(&|dst| dst.kind = DstKind::Unicast), usual, None),
        ("the tables have changed", like(&|dst| dst.generation -= 1), usual, None),
        ("by another device", like(&|dst| dst.dev = outside.dev.clone()), usual, None),
        ("other options", like(&|_| {}), SynOptions { sack_permitted: false, ..usual }, None),
    ] {
        assert_eq!(segment::send_synack(stack, &dst, &h, &options, 1, stack.now()), sent, "{case}");
    }
    route.dev.replace_device(|device| device);
    let sent = segment::send_synack(stack, &route, &h, &usual, 1, stack.now());
    assert_eq!(sent, None, "by one that may be wrapped");
}

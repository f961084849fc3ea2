//! What comes later than the decision that a short way remembers: keys, filters, addresses and routes that change under
//! a connection or a listener. What a key, a removed address and sums of a raw socket do was asked of Linux 6.18.

use super::super::peer_test::{ACK, HERE, Host, ISS, PORT, RST, SYN, Seg, THERE};
use super::*;
use crate::base::ways::Way;
use crate::base::ways::testing::count;
use crate::counters::DropReason;
use crate::device::capture_test::Capture;
use crate::ip::route::{add_address, del_address};
use crate::tcp::sockopt::opt;
use crate::wire::addr::Cidr;

const TCP_MD5SIG: i32 = 14;

/// A connection of which several segments have taken the short ways.
fn warm(n: &Net, addr: IpAddr) -> (Socket, Socket, Socket) {
    let (l, c, s) = n.pair(addr);
    for _ in 0..4 {
        for (from, to) in [(&c, &s), (&s, &c)] {
            assert_eq!(send(from, b"x"), Ok(1));
            n.run(Duration::from_millis(50));
            assert_eq!(recv(to, &mut [0; 8]), Ok(1));
        }
    }
    (l, c, s)
}

/// struct tcp_md5sig of a key for 127.0.0.1.
fn key(secret: &[u8]) -> Vec<u8> {
    let mut v = vec![0; 216];
    v[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    v[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    v[130..132].copy_from_slice(&(secret.len() as u16).to_ne_bytes());
    v[136..136 + secret.len()].copy_from_slice(secret);
    v
}

#[test]
fn a_key_that_comes_later_is_asked_of_the_next_segment() {
    let n = net();
    let (_l, c, s) = warm(&n, LO);
    s.setsockopt(libc::IPPROTO_TCP, TCP_MD5SIG, &key(b"secret")).unwrap();
    assert_eq!(send(&c, b"unsigned"), Ok(8));
    n.run(Duration::from_millis(100));
    assert_eq!(recv(&s, &mut [0; 8]), Err(Error::Again));
    assert!(n.mib(Mib::TcpExtTCPMD5NotFound) > 0);
    c.setsockopt(libc::IPPROTO_TCP, TCP_MD5SIG, &key(b"another")).unwrap();
    n.run(Duration::from_secs(2));
    assert_eq!(recv(&s, &mut [0; 8]), Err(Error::Again));
    assert!(n.mib(Mib::TcpExtTCPMD5Failure) > 0);
    c.setsockopt(libc::IPPROTO_TCP, TCP_MD5SIG, &key(b"secret")).unwrap();
    n.run(Duration::from_secs(5));
    assert_eq!(recv(&s, &mut [0; 8]), Ok(8));
}

#[test]
fn a_filter_that_comes_later_sees_the_next_segment() {
    let n = net();
    let (_l, c, s) = warm(&n, LO);
    // ret #0: it takes nothing.
    let none = [&6u16.to_ne_bytes()[..], &[0; 6]].concat();
    s.setsockopt(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &none).unwrap();
    assert_eq!(send(&c, b"dropped"), Ok(7));
    n.run(Duration::from_millis(100));
    assert_eq!(recv(&s, &mut [0; 8]), Err(Error::Again));
    s.setsockopt(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0i32.to_ne_bytes()).unwrap();
    n.run(Duration::from_secs(2));
    assert_eq!(recv(&s, &mut [0; 8]), Ok(7));
}

#[test]
fn an_address_that_is_removed_is_no_source_of_its_connections_until_it_is_back() {
    let n = net();
    let lo = n.stack.netdevs.by_index(1).unwrap();
    let own = Cidr::new("10.9.9.9".parse().unwrap(), 32).unwrap();
    add_address(&n.stack, &lo, own).unwrap();
    let (_l, c, s) = warm(&n, "10.9.9.9".parse().unwrap());
    del_address(&n.stack, &lo, own).unwrap();
    for (from, to) in [(&c, &s), (&s, &c)] {
        assert_eq!(send(from, b"away"), Ok(4));
        n.run(Duration::from_secs(1));
        assert_eq!(recv(to, &mut [0; 8]), Err(Error::Again));
    }
    let mut err = [1; 4];
    c.getsockopt(libc::SOL_SOCKET, libc::SO_ERROR, &mut err).unwrap();
    assert_eq!(i32::from_ne_bytes(err), 0);
    add_address(&n.stack, &lo, own).unwrap();
    n.run(Duration::from_secs(5));
    for to in [&c, &s] {
        assert_eq!(recv(to, &mut [0; 8]), Ok(4));
    }
}

/// Asked of Linux 6.18, as the row of a bound sock, which has no other.
#[test]
fn a_syn_has_the_new_address_where_its_own_is_gone_and_ip_dynaddr_says_so() {
    for (dynaddr, bound, sources) in [(0, false, ""), (1, false, "22"), (2, false, "22"), (1, true, "")] {
        let n = net();
        let wire = Capture::ip("other0", 1500);
        n.stack.add_device(wire.clone()).unwrap();
        n.stack.sysctl.set("net.ipv4.ip_dynaddr", &dynaddr.to_string()).unwrap();
        let dev = n.stack.netdevs.by_name("other0").unwrap();
        let own = |host: u8| Ipv4Addr::new(10, 7, 0, host);
        let with_net = |host| Cidr::new(own(host).into(), 24).unwrap();
        add_address(&n.stack, &dev, with_net(1)).unwrap();
        let c = n.socket(libc::AF_INET);
        if bound {
            c.bind((own(1), 0).into()).unwrap();
        }
        assert_eq!(c.connect(Some((own(9), 80).into())), Err(Error::InProgress));
        let first = wire.take();
        let port = c.local_addr().unwrap().port();
        del_address(&n.stack, &dev, with_net(1)).unwrap();
        add_address(&n.stack, &dev, with_net(2)).unwrap();
        n.run(Duration::from_millis(2500));
        let again = wire.take();
        let said: String = again.iter().map(|p| p[15].to_string()).collect();
        assert_eq!(said, sources, "ip_dynaddr {dynaddr}, bound {bound}");
        // The port, the peer's, the sequence number.
        assert!(again.iter().all(|p| p[20..28] == first[0][20..28]));
        assert_eq!(c.local_addr().unwrap(), (own(if sources.is_empty() { 1 } else { 2 }), port).into());
        if sources.is_empty() {
            continue;
        }
        let iss = u32::from_be_bytes(first[0][24..28].try_into().unwrap());
        let mut answer = Seg::new(80, SYN | ACK, ISS, iss.wrapping_add(1));
        (answer.src, answer.dst, answer.dport) = (own(9), own(2), port);
        wire.feed(&answer.bytes());
        n.run(Duration::from_millis(10));
        assert_eq!(c.peer_addr(), Ok((own(9), 80).into()));
        assert_eq!(send(&c, b"x"), Ok(1));
    }
}

/// The SYN-ACK goes where the route is now, not where it was for the last SYN.
#[test]
fn a_route_that_a_listener_remembers_ends_with_a_better_one() {
    let h = Host::new(4);
    let other = Capture::ip("other0", 1500);
    h.bench.stack.add_device(other.clone()).unwrap();
    let syn = |port| h.put(&Seg::new(port, SYN, ISS, 0));
    let answer = (syn(1000), syn(1001)).1;
    assert_eq!((answer.len(), other.take().len()), (1, 0));
    let to_peer = RouteSpec::new(Cidr::new(THERE.into(), 32).unwrap());
    let dev = h.bench.stack.netdevs.by_name("other0").unwrap();
    add_route(&h.bench.stack, to_peer.via_dev(&dev)).unwrap();
    assert_eq!((syn(1002).len(), other.take().len()), (0, 1));
}

#[test]
fn a_request_ends_with_its_listener_and_the_next_one_on_the_port_refuses_it() {
    let h = Host::new(4);
    let answer = h.put(&Seg::new(1000, SYN, ISS, 0));
    h.listener.close();
    let next = Socket::new(&h.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    next.set_nonblocking(true);
    next.bind(SocketAddr::new(HERE.into(), PORT)).unwrap();
    next.listen(4).unwrap();
    let refused = h.put(&Seg::new(1000, ACK, ISS.wrapping_add(1), answer[0].seq.wrapping_add(1)));
    assert_eq!(refused.iter().map(|o| o.flags).collect::<Vec<_>>(), [RST]);
    assert_eq!(next.accept().err(), Some(Error::Again));
}

/// An end that repair mode has taken away: nobody says so to its peer.
#[test]
fn a_segment_that_finds_its_socket_gone_is_answered_with_a_reset() {
    let n = net();
    let (l, c, s) = warm(&n, LO);
    l.close();
    s.setsockopt(libc::IPPROTO_TCP, opt::REPAIR, &1i32.to_ne_bytes()).unwrap();
    s.close();
    let known = count(Way::Known);
    assert_eq!(send(&c, b"nobody"), Ok(6));
    assert!(count(Way::Known) > known);
    assert_eq!(recv(&c, &mut [0; 8]), Err(Error::ConnReset));
    assert_eq!((n.mib(Mib::TcpOutRsts), n.stack.mib.drops(DropReason::NoSocket)), (1, 1));
}

/// The interface by which a segment came is lo, whoever says what is in it.
#[test]
fn sockets_of_the_loopback_device_alone_get_what_it_loops() {
    let n = net();
    let (_l, c, s) = warm(&n, LO);
    for end in [&c, &s] {
        end.setsockopt(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0").unwrap();
    }
    let known = count(Way::Known);
    for (from, to) in [(&c, &s), (&s, &c)] {
        assert_eq!(send(from, b"by lo"), Ok(5));
        assert_eq!(recv(to, &mut [0; 8]), Ok(5));
    }
    assert!(count(Way::Known) >= known + 2);
}

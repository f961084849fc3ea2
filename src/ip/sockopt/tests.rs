use super::*;
use crate::device::capture_test::Bench;
use crate::inet::Socket;

fn sock(b: &Bench, family: i32) -> Socket {
    Socket::new(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap()
}

#[test]
fn values_are_kept_and_ranges_are_linuxs() {
    let b = Bench::on_ip();
    let (ip4, ip6) = (libc::SOL_IP, libc::SOL_IPV6);
    for (family, level, name, good, bad) in [
        (libc::AF_INET, ip4, libc::IP_TOS, &[0, 0x10, 0xff][..], &[][..]),
        (libc::AF_INET, ip4, libc::IP_TTL, &[1, 255], &[0, 256, -2]),
        (libc::AF_INET, ip4, libc::IP_MTU_DISCOVER, &[0, 1, 2, 3, 4, 5], &[-1, 6]),
        (libc::AF_INET, ip4, IP_MINTTL, &[0, 255], &[-1, 256]),
        (libc::AF_INET, ip4, libc::IP_MULTICAST_TTL, &[0, 1, 255], &[-2, 256]),
        (libc::AF_INET, ip4, libc::IP_RECVERR, &[0, 1], &[]),
        (libc::AF_INET, ip4, libc::IP_PKTINFO, &[0, 1], &[]),
        (libc::AF_INET, ip4, libc::IP_FREEBIND, &[0, 1], &[]),
        (libc::AF_INET, ip4, IP_BIND_ADDRESS_NO_PORT, &[0, 1], &[]),
        (libc::AF_INET6, ip6, libc::IPV6_UNICAST_HOPS, &[0, 1, 255], &[-2, 256]),
        (libc::AF_INET6, ip6, libc::IPV6_TCLASS, &[0, 255], &[-2, 256]),
        (libc::AF_INET6, ip6, libc::IPV6_V6ONLY, &[0, 1], &[]),
        (libc::AF_INET6, ip6, libc::IPV6_RECVPKTINFO, &[0, 1], &[]),
        (libc::AF_INET6, ip6, libc::IPV6_MULTICAST_LOOP, &[0, 1], &[2, -1]),
        (libc::AF_INET6, ip6, IPV6_DONTFRAG, &[0, 1], &[]),
        (libc::AF_INET6, ip4, libc::IP_TOS, &[0x20], &[]),
    ] {
        let s = sock(&b, family);
        for v in good {
            s.setsockopt(level, name, &i32::to_ne_bytes(*v)).unwrap();
            let mut out = [0xaa; 4];
            assert_eq!(s.getsockopt(level, name, &mut out), Ok(4), "{level}/{name}");
            assert_eq!(i32::from_ne_bytes(out), *v, "{level}/{name}");
        }
        for v in bad {
            assert_eq!(s.setsockopt(level, name, &i32::to_ne_bytes(*v)), Err(Error::Inval), "{level}/{name} = {v}");
        }
    }
}

#[test]
fn sol_ip_takes_and_gives_single_bytes_and_sol_ipv6_does_not() {
    let b = Bench::on_ip();
    let s = sock(&b, libc::AF_INET6);
    s.setsockopt(libc::SOL_IP, libc::IP_TTL, &[77]).unwrap();
    let mut one = [0];
    assert_eq!(s.getsockopt(libc::SOL_IP, libc::IP_TTL, &mut one), Ok(1));
    assert_eq!(one, [77]);
    assert_eq!(s.setsockopt(libc::SOL_IP, libc::IP_TTL, &[]), Err(Error::Inval));
    assert_eq!(s.setsockopt(libc::SOL_IPV6, libc::IPV6_TCLASS, &[1]), Err(Error::Inval));
}

#[test]
fn what_is_not_here_is_refused_and_never_accepted_in_silence() {
    let b = Bench::on_ip();
    let (v4, v6) = (sock(&b, libc::AF_INET), sock(&b, libc::AF_INET6));
    let one = 1i32.to_ne_bytes();
    for name in [16, 17, 99, -1] {
        assert_eq!(v4.setsockopt(libc::SOL_IP, name, &one), Err(Error::NoProtoOpt), "{name}");
        assert_eq!(v4.getsockopt(libc::SOL_IP, name, &mut [0; 4]), Err(Error::NoProtoOpt), "{name}");
    }
    for name in [1, 9, 99] {
        assert_eq!(v6.setsockopt(libc::SOL_IPV6, name, &one), Err(Error::NoProtoOpt), "{name}");
    }
    assert_eq!(v4.setsockopt(libc::SOL_IPV6, libc::IPV6_V6ONLY, &one), Err(Error::NoProtoOpt));
    assert_eq!(v4.setsockopt(libc::SOL_IP, libc::IP_HDRINCL, &one), Err(Error::NoProtoOpt));
    // A source route.
    let loose = [131, 7, 4, 10, 0, 0, 9];
    assert_eq!(v4.setsockopt(libc::SOL_IP, libc::IP_OPTIONS, &loose), Err(Error::Inval));
    assert_eq!(v4.getsockopt(libc::SOL_IP, libc::IP_OPTIONS, &mut [0; 40]), Ok(0));
    assert_eq!(v4.setsockopt(77, 1, &one), Err(Error::NoProtoOpt));
    // Measured: a get of an unknown level has another errno, and only on IPv4.
    assert_eq!(v4.getsockopt(77, 1, &mut [0; 4]), Err(Error::OpNotSupp));
    assert_eq!(v6.getsockopt(77, 1, &mut [0; 4]), Err(Error::NoProtoOpt));
}

#[test]
fn ip_mtu_is_the_paths_of_a_connected_socket() {
    let b = Bench::on_ip();
    let s = sock(&b, libc::AF_INET);
    assert_eq!(s.getsockopt(libc::SOL_IP, libc::IP_MTU, &mut [0; 4]), Err(Error::NotConn));
    s.connect(Some("10.0.0.9:9".parse().unwrap())).unwrap();
    let mut out = [0; 4];
    s.getsockopt(libc::SOL_IP, libc::IP_MTU, &mut out).unwrap();
    assert_eq!(i32::from_ne_bytes(out), 1500);
    let six = sock(&b, libc::AF_INET6);
    six.bind("[::]:0".parse().unwrap()).unwrap();
    assert_eq!(six.setsockopt(libc::SOL_IPV6, libc::IPV6_V6ONLY, &1i32.to_ne_bytes()), Err(Error::Inval));
}

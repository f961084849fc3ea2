use super::options::{ICMP_FILTER, IPV6_CHECKSUM};
use super::*;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::wire::ip::Ipv4Header;
use std::io::{IoSlice, IoSliceMut};

fn raw(b: &Bench, family: i32, protocol: i32) -> Result<Socket> {
    Socket::new(&b.stack, family, libc::SOCK_RAW, protocol)
}

fn send(s: &Socket, bytes: &[u8], to: &str) -> Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let mut m = SendMsg::new(&slices, libc::MSG_DONTWAIT);
    m.name = Some(to.parse().unwrap());
    s.sendmsg(&mut m)
}

fn recv(s: &Socket) -> Result<Vec<u8>> {
    let mut buf = [0; 200];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut m = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
    let n = s.recvmsg(&mut m)?;
    Ok(buf[..n].to_vec())
}

#[test]
fn over_ipv4_a_program_gets_the_header_and_over_ipv6_it_does_not() {
    let b = Bench::on_ip();
    assert!(matches!(raw(&b, libc::AF_INET, 0), Err(Error::ProtoNoSupport)));
    let (a, c) = (raw(&b, libc::AF_INET, 253).unwrap(), raw(&b, libc::AF_INET, 253).unwrap());
    send(&a, b"hello", "127.0.0.1:0").unwrap();
    for s in [&a, &c] {
        let p = recv(s).unwrap();
        assert_eq!(Ipv4Header::parse(&p).unwrap().payload(), b"hello");
    }
    assert_eq!(b.stack.mib.get(crate::counters::Mib::IpInUnknownProtos), 0, "a raw socket is a protocol");
    let six = raw(&b, libc::AF_INET6, 253).unwrap();
    send(&six, b"hello", "[::1]:0").unwrap();
    assert_eq!(recv(&six).unwrap(), b"hello");
    c.close();
    c.connect(Some("10.0.0.9:0".parse().unwrap())).ok();
    send(&a, b"again", "127.0.0.1:0").unwrap();
    assert!(recv(&a).is_ok() && recv(&c).is_err());
}

#[test]
fn a_header_that_the_program_wrote_is_completed_and_never_fragmented() {
    let b = Bench::on_ip();
    let s = raw(&b, libc::AF_INET, libc::IPPROTO_RAW).unwrap();
    let mut p = vec![0u8; 24];
    p[0] = 0x45;
    p[8] = 9;
    p[9] = 253;
    p[16..20].copy_from_slice(&[10, 0, 0, 9]);
    p[20..].copy_from_slice(b"data");
    send(&s, &p, "10.0.0.9:0").unwrap();
    let sent = b.wire.take();
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    assert!(h.checksum_ok());
    assert_eq!((h.src().to_string(), h.ttl(), h.payload()), ("10.0.0.1".into(), 9, &b"data"[..]));
    assert_ne!(h.id(), 0);
    assert_eq!(send(&s, &p[..19], "10.0.0.9:0"), Err(Error::Inval));
    assert_eq!(send(&s, &[0x46; 20], "10.0.0.9:0"), Err(Error::Inval));
    assert_eq!(send(&s, &vec![0x45; 1501], "10.0.0.9:0"), Err(Error::MsgSize));
}

#[test]
fn filters_and_checksums_are_the_sockets_own() {
    let b = Bench::on_ip();
    let s = raw(&b, libc::AF_INET, libc::IPPROTO_ICMP).unwrap();
    s.setsockopt(libc::SOL_RAW, ICMP_FILTER, &(1i32 << 8).to_ne_bytes()).unwrap();
    let mut echo = [8, 0, 0, 0, 0, 1, 0, 1];
    crate::wire::icmp::fill_checksum(&mut echo);
    send(&s, &echo, "127.0.0.1:0").unwrap();
    let p = recv(&s).unwrap();
    assert_eq!(Ipv4Header::parse(&p).unwrap().payload()[0], 0, "the request is filtered, the reply is not");
    assert_eq!(recv(&s), Err(Error::Again));
    assert_eq!(
        raw(&b, libc::AF_INET, 253).unwrap().setsockopt(libc::SOL_RAW, ICMP_FILTER, &[0; 4]),
        Err(Error::OpNotSupp)
    );
    let six = raw(&b, libc::AF_INET6, libc::IPPROTO_ICMPV6).unwrap();
    send(&six, &[128, 0, 0xff, 0xff, 0, 1, 0, 1], "[::1]:0").unwrap();
    assert_eq!(b.stack.mib.get(crate::counters::Mib::Icmp6InCsumErrors), 0, "the stack wrote the checksum");
    let got: Vec<u8> = std::iter::from_fn(|| recv(&six).ok()).map(|p| p[0]).collect();
    assert_eq!(got, [128, 129]);
    let odd = raw(&b, libc::AF_INET6, 253).unwrap();
    assert_eq!(odd.setsockopt(libc::SOL_IPV6, IPV6_CHECKSUM, &3i32.to_ne_bytes()), Err(Error::Inval));
    odd.setsockopt(libc::SOL_IPV6, IPV6_CHECKSUM, &2i32.to_ne_bytes()).unwrap();
    send(&odd, b"abcdef", "[::1]:0").unwrap();
    assert!(recv(&odd).is_ok_and(|p| p[..2] == *b"ab" && p[2..4] != *b"cd"));
    assert_eq!(send(&odd, b"abc", "[::1]:0"), Err(Error::Inval));
}

/// As on the kernel: with a header of the program's own there is a copy, too, and who has not joined gets none.
#[test]
fn a_packet_with_the_programs_header_to_a_group_is_looped_to_its_members() {
    let b = Bench::on_ip();
    let (s, heard) = (raw(&b, libc::AF_INET, libc::IPPROTO_RAW).unwrap(), raw(&b, libc::AF_INET, 253).unwrap());
    let member = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    s.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_IF, &[10, 0, 0, 1]).unwrap();
    let mut p = vec![0u8; 24];
    (p[0], p[8], p[9]) = (0x45, 1, 253);
    p[16..20].copy_from_slice(&[239, 1, 2, 3]);
    for (joins, loops, want) in [(false, 1u8, false), (true, 1, true), (true, 0, false)] {
        if joins {
            // Of the second time it is EADDRINUSE.
            let _ = member.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &[239, 1, 2, 3, 10, 0, 0, 1]);
        }
        s.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_LOOP, &[loops]).unwrap();
        send(&s, &p, "239.1.2.3:0").unwrap();
        b.poll();
        assert_eq!(recv(&heard).is_ok(), want, "{joins} {loops}");
    }
}

/// Numbers above 255 are sockets, whose packets over IPv4 have the low byte; over IPv6 they send nothing.
#[test]
fn a_protocol_number_above_255_is_a_socket_and_no_packets_protocol() {
    let b = Bench::on_ip();
    for number in [256, 262] {
        let s = raw(&b, libc::AF_INET, number).unwrap();
        assert_eq!(send(&s, b"hello", "127.0.0.1:0"), Ok(5));
        assert_eq!(recv(&s), Err(Error::Again), "{number}");
        let s = raw(&b, libc::AF_INET6, number).unwrap();
        assert_eq!(send(&s, b"hello", "[::1]:0"), Err(Error::Inval));
    }
    assert!(matches!(raw(&b, libc::AF_INET, 263), Err(Error::Inval)));
    // For IPV6_V6ONLY it is a port, whether the socket is bound or not.
    let s = raw(&b, libc::AF_INET6, 200).unwrap();
    let only = || s.setsockopt(libc::SOL_IPV6, libc::IPV6_V6ONLY, &1i32.to_ne_bytes());
    assert_eq!(only(), Err(Error::Inval));
    s.connect(None).unwrap();
    assert_eq!(only(), Err(Error::Inval));
}

/// The numbers are the kernel's, for the loopback device.
#[test]
fn siocoutq_counts_what_msg_more_holds_back() {
    let b = Bench::on_ip();
    let s = raw(&b, libc::AF_INET, 253).unwrap();
    for (len, want) in [(100, 832), (5_000, 5_832), (1, 5_833)] {
        let data = vec![0; len];
        let slices = [IoSlice::new(&data)];
        let mut m = SendMsg::new(&slices, libc::MSG_MORE);
        m.name = Some("127.0.0.1:0".parse().unwrap());
        assert_eq!(s.sendmsg(&mut m), Ok(len));
        assert_eq!(s.ioctl(libc::TIOCOUTQ), Ok(want));
    }
}

/// Of a connection of this stack itself TCP knows the header; what a raw socket writes it has not made.
#[test]
fn a_segment_that_a_program_wrote_to_this_host_is_verified() {
    use crate::counters::{DropReason, Mib};
    let b = Bench::on_ip();
    let s = raw(&b, libc::AF_INET, libc::IPPROTO_TCP).unwrap();
    let syn = [0, 9, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
    send(&s, &syn, "127.0.0.1:0").unwrap();
    assert_eq!((b.stack.mib.get(Mib::TcpInCsumErrors), b.stack.mib.get(Mib::TcpOutRsts)), (1, 0));
    send(&s, &syn[..10], "127.0.0.1:0").unwrap();
    let dropped: Vec<_> = b.stack.mib.iter_drops().filter(|(_, n)| *n > 0).collect();
    assert_eq!(dropped, [(DropReason::PktTooSmall, 1), (DropReason::TcpCsum, 1)]);
}

/// Nor do UDP and ICMP take for granted what a raw socket writes to this host, which goes the short way there.
#[test]
fn sums_that_a_program_wrote_to_this_host_are_verified() {
    use crate::counters::Mib;
    let b = Bench::on_ip();
    let counted = |m| b.stack.mib.get(m);
    let to = raw(&b, libc::AF_INET, libc::IPPROTO_UDP).unwrap();
    // The same datagram with no sum, a wrong one, and a length beyond its end.
    for (sum, len, want) in [(0, 9, (0, 0)), (1, 9, (1, 1)), (0, 10, (1, 2))] {
        send(&to, &[0, 9, 0, 7, 0, len, 0, sum, b'x'], "127.0.0.1:0").unwrap();
        assert_eq!((counted(Mib::UdpInCsumErrors), counted(Mib::UdpInErrors)), want, "{sum} {len}");
    }
    assert_eq!(counted(Mib::UdpNoPorts), 1);
    let echo = raw(&b, libc::AF_INET, libc::IPPROTO_ICMP).unwrap();
    send(&echo, &[8, 0, 0, 0, 0, 1, 0, 1], "127.0.0.1:0").unwrap();
    assert_eq!((counted(Mib::IcmpInCsumErrors), counted(Mib::IcmpOutEchoReps)), (1, 0));
    send(&echo, &[8, 0, 0xf7, 0xfd, 0, 1, 0, 1], "127.0.0.1:0").unwrap();
    assert_eq!((counted(Mib::IcmpInCsumErrors), counted(Mib::IcmpOutEchoReps)), (1, 1));
}

use super::*;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use std::io::{IoSlice, IoSliceMut};

fn ping(b: &Bench, family: i32) -> Socket {
    let protocol = if family == libc::AF_INET { libc::IPPROTO_ICMP } else { libc::IPPROTO_ICMPV6 };
    b.stack.sysctl.set("net.ipv4.ping_group_range", "0 4294967294").unwrap();
    Socket::new(&b.stack, family, libc::SOCK_DGRAM, protocol).unwrap()
}

#[test]
fn who_may_ping_is_a_group_of_the_process_in_ping_group_range() {
    let b = Bench::on_ip();
    let own = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self").unwrap());
    for (range, want) in [
        ("1 0".to_owned(), Some(Error::Acces)),
        ("0 4294967294".to_owned(), None),
        (format!("{own} {own}"), None),
        // A number that no group of a test's process has.
        ("4294967290 4294967290".to_owned(), Some(Error::Acces)),
    ] {
        b.stack.sysctl.set("net.ipv4.ping_group_range", &range).unwrap();
        for (family, protocol) in [(libc::AF_INET, libc::IPPROTO_ICMP), (libc::AF_INET6, libc::IPPROTO_ICMPV6)] {
            assert_eq!(Socket::new(&b.stack, family, libc::SOCK_DGRAM, protocol).err(), want, "{range}, {family}");
        }
    }
}

fn send(s: &Socket, bytes: &[u8], to: &str) -> Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let mut m = SendMsg::new(&slices, libc::MSG_DONTWAIT);
    m.name = Some(to.parse().unwrap());
    s.sendmsg(&mut m)
}

fn recv(s: &Socket) -> Result<(Vec<u8>, Option<SocketAddr>)> {
    let mut buf = [0; 200];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut m = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
    let n = s.recvmsg(&mut m)?;
    let name = m.name;
    Ok((buf[..n].to_vec(), name))
}

#[test]
fn a_reply_reaches_the_socket_whose_port_is_its_identifier() {
    let b = Bench::on_ip();
    b.stack.sysctl.set("net.ipv4.icmp_echo_enable_probe", "1").unwrap();
    for (family, request, answer, to, from) in [
        (libc::AF_INET, 8, 0, "127.0.0.1:0", "127.0.0.1:0"),
        (libc::AF_INET, 42, 43, "127.0.0.1:0", "127.0.0.1:0"),
        (libc::AF_INET6, 128, 129, "[::1]:0", "[::1]:0"),
        (libc::AF_INET6, 160, 161, "[::1]:0", "[::1]:0"),
    ] {
        let (s, other) = (ping(&b, family), ping(&b, family));
        send(&other, &[request, 0, 0, 0, 0, 0, 0, 9], to).unwrap();
        // The stack sets identifier and checksum, whatever the program wrote there.
        send(&s, &[request, 0, 0xff, 0xff, 0xee, 0xee, 0, 5, b'h', b'i'], to).unwrap();
        let (bytes, name) = recv(&s).unwrap();
        assert_eq!(name, Some(from.parse().unwrap()));
        // PROBE's state stands beside the sequence number; this question names no interface.
        let is_probe = matches!(request, 42 | 160);
        let last = |sent| if is_probe { 0 } else { sent };
        assert_eq!((bytes[0], bytes[1], &bytes[6..]), (answer, is_probe.into(), &[0, last(5), b'h', b'i'][..]));
        assert_eq!(u16::from_be_bytes([bytes[4], bytes[5]]), s.local_addr().unwrap().port());
        assert_eq!(recv(&s), Err(Error::Again));
        assert_eq!(recv(&other).unwrap().0[7], last(9));
        for bad in [&[request, 0, 0, 0, 0, 0, 0][..], &[answer, 0, 0, 0, 0, 0, 0, 0], &[request, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(send(&s, bad, to), Err(Error::Inval));
        }
    }
}

#[test]
fn bind_chooses_an_identifier_whatever_ip_bind_address_no_port_says() {
    let b = Bench::on_ip();
    for (family, any) in [(libc::AF_INET, "0.0.0.0:0"), (libc::AF_INET6, "[::]:0")] {
        let s = ping(&b, family);
        s.setsockopt(libc::SOL_IP, 24, &1i32.to_ne_bytes()).unwrap();
        s.bind(any.parse().unwrap()).unwrap();
        assert_ne!(s.local_addr().unwrap().port(), 0);
    }
}

#[test]
fn an_identifier_is_shared_unless_a_socket_says_no_and_the_last_hears_the_answers() {
    let b = Bench::on_ip();
    let (one, two) = (ping(&b, libc::AF_INET), ping(&b, libc::AF_INET));
    one.bind("0.0.0.0:77".parse().unwrap()).unwrap();
    two.setsockopt(libc::SOL_SOCKET, libc::SO_REUSEADDR, &0i32.to_ne_bytes()).unwrap();
    assert_eq!(two.bind("0.0.0.0:77".parse().unwrap()), Err(Error::AddrInUse));
    let three = ping(&b, libc::AF_INET);
    three.bind("0.0.0.0:77".parse().unwrap()).unwrap();
    send(&one, &[8, 0, 0, 0, 0, 0, 0, 9], "127.0.0.1:0").unwrap();
    assert_eq!(recv(&one), Err(Error::Again));
    assert_eq!(recv(&three).unwrap().0[7], 9);
    one.close();
    three.close();
    two.bind("0.0.0.0:77".parse().unwrap()).unwrap();
}

#[test]
fn of_those_that_share_an_identifier_one_of_another_device_or_address_is_passed_over() {
    let b = Bench::on_ip();
    let (one, two) = (ping(&b, libc::AF_INET6), ping(&b, libc::AF_INET6));
    for s in [&one, &two] {
        s.bind("[::]:77".parse().unwrap()).unwrap();
    }
    let heard = |by: &Socket, not: &Socket| {
        send(&one, &[128, 0, 0, 0, 0, 0, 0, 9], "[::1]:0").unwrap();
        assert_eq!(recv(not), Err(Error::Again));
        assert_eq!(recv(by).unwrap().0[7], 9);
    };
    heard(&two, &one);
    // A connect to an address of a device keeps the device, though there is no route.
    assert_eq!(two.connect(Some("[fe80::1%77]:1".parse().unwrap())), Err(Error::NetUnreach));
    heard(&one, &two);
    two.connect(None).unwrap();
    heard(&two, &one);
    let device = |s: &Socket, index: i32| s.setsockopt(libc::SOL_SOCKET, 62, &index.to_ne_bytes());
    device(&two, 1).unwrap();
    heard(&two, &one);
    device(&one, 1).unwrap();
    device(&two, 300).unwrap();
    heard(&one, &two);
}

/// SO_RCVMARK and SO_RCVPRIORITY add nothing to what a ping socket receives, SO_TIMESTAMP does (ping_recvmsg).
#[test]
fn of_the_socket_level_options_a_reply_has_its_time_alone() {
    let b = Bench::on_ip();
    for (family, request, to) in [(libc::AF_INET, 8, "127.0.0.1:0"), (libc::AF_INET6, 128, "[::1]:0")] {
        let s = ping(&b, family);
        for (option, more) in [(75, 0), (82, 0), (libc::SO_TIMESTAMP, 1)] {
            s.setsockopt(libc::SOL_SOCKET, option, &1i32.to_ne_bytes()).unwrap();
            send(&s, &[request, 0, 0, 0, 0, 0, 0, 0], to).unwrap();
            let mut buf = [0; 200];
            let mut slices = [IoSliceMut::new(&mut buf)];
            let mut m = RecvMsg::new(&mut slices, libc::MSG_DONTWAIT);
            assert_eq!(s.recvmsg(&mut m), Ok(8));
            assert_eq!(m.control.len(), more, "{family}, option {option}");
        }
    }
}

#[test]
fn bind_looks_for_the_device_of_the_socket_before_it_says_that_it_is_bound() {
    let b = Bench::on_ip();
    let s = ping(&b, libc::AF_INET6);
    s.bind("[::1]:0".parse().unwrap()).unwrap();
    assert_eq!(s.bind("[::1]:0".parse().unwrap()), Err(Error::Inval));
    s.setsockopt(libc::SOL_SOCKET, 62, &300i32.to_ne_bytes()).unwrap();
    assert_eq!(s.bind("[::1]:0".parse().unwrap()), Err(Error::NoDev));
}

/// As on Linux 6.18: ping_bind asks for no privilege, which UDP's bind wants of a port of this number.
#[test]
fn an_identifier_is_no_privileged_port() {
    let b = Bench::on_ip();
    b.stack.sysctl.set("net.ipv4.ip_unprivileged_port_start", "1024").unwrap();
    let s = ping(&b, libc::AF_INET);
    let six = ping(&b, libc::AF_INET6);
    b.stack.share();
    assert_eq!(s.bind("127.0.0.1:53".parse().unwrap()), Ok(()));
    assert_eq!(six.bind("[::1]:53".parse().unwrap()), Ok(()));
    let udp = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(udp.bind("127.0.0.1:53".parse().unwrap()), Err(Error::Acces));
}

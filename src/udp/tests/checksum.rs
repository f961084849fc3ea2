//! When a datagram's checksum is looked at, and what IP_CHECKSUM tells of it. Beside: `tests`.

use super::*;

const IP_CHECKSUM: i32 = 23;

#[test]
fn a_long_datagrams_checksum_is_verified_when_it_is_read_or_asked_for() {
    let b = Bench::on_ip();
    let mut wrong = datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", &[7; 100]);
    wrong[40] ^= 1;
    let counted = |n: u64, why: &str| {
        let got = [Mib::UdpInCsumErrors, Mib::UdpInErrors].map(|m| b.stack.mib.get(m));
        assert_eq!(got, [n; 2], "{why}");
    };
    // One that nobody reads, and short ones, are verified at once.
    b.inject(&wrong);
    counted(1, "no socket");
    assert_eq!(b.stack.mib.get(Mib::UdpNoPorts), 0);
    let s = bound(&b, "10.0.0.1:5000");
    let mut short = datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", &[7; 68]);
    short[40] ^= 1;
    b.inject(&short);
    counted(2, "short");
    s.set_nonblocking(true);
    b.inject(&wrong);
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", &[8; 100]));
    counted(2, "nobody has looked");
    assert!(s.poll().intersects(Events::IN), "a read will not wait");
    counted(2, "nor poll, where reads do not wait");
    assert_eq!(recv_from(&s, 200, libc::MSG_PEEK).unwrap().data, [8; 100]);
    counted(3, "read");
    assert_eq!(recv_from(&s, 200, 0).unwrap().data, [8; 100]);
    b.inject(&wrong);
    assert_eq!(s.ioctl(libc::FIONREAD), Ok(0));
    counted(4, "FIONREAD");
    b.inject(&wrong);
    s.set_nonblocking(false);
    assert!(!s.poll().intersects(Events::IN), "a read would wait");
    counted(5, "poll, where reads wait");
    assert_eq!(recv_from(&s, 200, 0).err(), Some(Error::Again));
}

/// What is expected is what Linux 6.18 told of the same datagrams over TUN and by loopback.
#[test]
fn ip_checksum_tells_the_sum_of_a_short_datagram_that_was_summed_when_it_came() {
    let b = Bench::on_ip();
    for any in ["0.0.0.0:5000", "[::]:6000"] {
        let s = bound(&b, any);
        s.setsockopt(libc::SOL_IP, IP_CHECKSUM, &1i32.to_ne_bytes()).unwrap();
        let to = format!("10.0.0.1:{}", at(any).port());
        let told_of = |payload: &[u8], room, flags| {
            let got = recv_from(&s, room, flags).unwrap();
            assert_eq!(got.data, payload);
            match &got.control[..] {
                [] => None,
                [Control::Other { level: libc::SOL_IP, ty: IP_CHECKSUM, data }] => Some(data.clone()),
                other => panic!("{other:?}"),
            }
        };
        let told = |payload: &[u8]| told_of(payload, 300, 0);
        for payload in [&b""[..], b"x", b"hello", &[0xf1; 68]] {
            b.inject(&datagram_v4("10.0.0.9:7", &to, payload));
            let told = told(payload).unwrap();
            let folded = |n: &[u8]| crate::wire::checksum::fold(crate::wire::checksum::sum(n, 0)) % 0xffff;
            assert_eq!(folded(&told), folded(payload), "{payload:x?}");
        }
        // Summed before a part of it is read, while all of it is, by nobody, and never.
        b.inject(&datagram_v4("10.0.0.9:7", &to, &[1; 69]));
        assert_eq!(told_of(&[1; 10], 10, 0).unwrap().len(), 4);
        b.inject(&datagram_v4("10.0.0.9:7", &to, &[1; 69]));
        assert_eq!(told(&[1; 69]), None);
        let mut unsummed = datagram_v4("10.0.0.9:7", &to, b"hello");
        unsummed[26..28].fill(0);
        b.inject(&unsummed);
        assert_eq!(told(b"hello"), None);
        send_to(&bound(&b, "127.0.0.1:0"), b"hello", Some(&to), 0, vec![]).unwrap();
        assert_eq!(told(b"hello"), None);
        // An ICMP message was, or it would not be here.
        s.setsockopt(libc::SOL_IP, libc::IP_RECVERR, &1i32.to_ne_bytes()).unwrap();
        send_to(&s, b"lost", Some("127.0.0.1:9"), 0, vec![]).unwrap();
        let got = recv_from(&s, 10, libc::MSG_ERRQUEUE).unwrap();
        let sum = |c: &Control| matches!(c, Control::Other { ty: IP_CHECKSUM, data, .. } if *data == [0xff; 4]);
        assert!(got.control.iter().any(sum), "{:?}", got.control);
        s.setsockopt(libc::SOL_IP, libc::IP_RECVERR, &0i32.to_ne_bytes()).unwrap();
    }
}

/// What Linux 6.18 told of the same datagrams over TUN: bytes that count up, 40 or 100 of them.
#[test]
fn ip_checksum_is_told_where_the_datagram_was_summed_before_the_call_that_reads_it() {
    const LONG: &str = "b4cde6ff";
    const SHORT: &str = "b4bec8d2";
    let b = Bench::on_ip();
    let s = bound(&b, "0.0.0.0:5000");
    s.setsockopt(libc::SOL_IP, IP_CHECKSUM, &1i32.to_ne_bytes()).unwrap();
    let arrives = |to: &str, len: u8| b.inject(&datagram_v4("10.0.0.9:7", to, &(0..len).collect::<Vec<u8>>()));
    let told = |room, flags| {
        let control = recv_from(&s, room, flags).unwrap().control;
        control.iter().find_map(|c| match c {
            Control::Other { ty: IP_CHECKSUM, data, .. } => Some(data.iter().map(|b| format!("{b:02x}")).collect()),
            _ => None,
        })
    };
    let expect = |room, flags, sum: &str, why: &str| {
        assert_eq!(told(room, flags).unwrap_or_else(String::new), sum, "{why}");
    };
    let here = "10.0.0.1:5000";
    arrives(here, 100);
    expect(200, libc::MSG_PEEK, "", "a look sums it and forgets that");
    expect(10, libc::MSG_PEEK, "", "as one at a part");
    expect(200, 0, "", "the whole is summed while it is copied");
    arrives(here, 100);
    expect(200, libc::MSG_PEEK, "", "a look");
    expect(10, 0, LONG, "a part is summed before");
    arrives(here, 100);
    s.set_nonblocking(true);
    assert!(s.poll().intersects(Events::IN));
    expect(200, 0, "", "poll does not look where reads do not wait");
    s.set_nonblocking(false);
    arrives(here, 100);
    assert!(s.poll().intersects(Events::IN));
    expect(200, 0, LONG, "poll");
    arrives(here, 100);
    assert_eq!(s.ioctl(libc::FIONREAD), Ok(100));
    expect(200, 0, LONG, "FIONREAD");
    arrives(here, 40);
    expect(200, libc::MSG_PEEK, SHORT, "a short one is summed when it comes");
    expect(10, 0, SHORT, "and told of wholly");
    let peek_off = |n: i32| s.setsockopt(libc::SOL_SOCKET, libc::SO_PEEK_OFF, &n.to_ne_bytes()).unwrap();
    peek_off(4);
    arrives(here, 40);
    expect(10, libc::MSG_PEEK, "b4bdc6cf", "from the byte on that it looks at");
    expect(10, libc::MSG_PEEK, "9ca2b6bd", "and the next look");
    expect(100, 0, SHORT, "a read");
    peek_off(3);
    arrives(here, 40);
    expect(10, libc::MSG_PEEK, "b4bdc6d2", "at an odd byte");
    expect(100, 0, SHORT, "a read");
    peek_off(-1);
    let all = [6u64.to_ne_bytes()[..4].to_vec(), u32::MAX.to_ne_bytes().to_vec()].concat();
    s.setsockopt(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &all).unwrap();
    arrives(here, 100);
    expect(200, 0, LONG, "a filter wants to see what is right");
    let group = [239, 1, 1, 1, 10, 0, 0, 1];
    s.setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &group).unwrap();
    arrives("239.1.1.1:5000", 40);
    expect(200, 0, SHORT, "to a group");
    let own = bound(&b, "10.0.0.1:0");
    own.setsockopt(libc::SOL_IP, libc::IP_MULTICAST_IF, &group[4..]).unwrap();
    for room in [200, 10] {
        send_to(&own, &[7; 40], Some("239.1.1.1:5000"), 0, vec![]).unwrap();
        b.poll();
        expect(room, 0, "", "the copy of this host's own needs no sum");
    }
}

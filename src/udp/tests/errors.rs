//! ICMP errors: what is answered with one, and who is told of one.

use super::*;
use crate::wire::icmp;

#[test]
fn an_unbound_port_is_answered_with_port_unreachable_and_the_sender_learns_it() {
    let b = Bench::on_ip();
    let sent = b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"anybody?"));
    let h = Ipv4Header::parse(&sent[0]).unwrap();
    let m = icmp::IcmpHeader::parse(h.payload()).unwrap();
    assert!(m.checksum_ok());
    let icmp::Message::Unreachable { code: icmp::unreachable::PORT, quoted, .. } = m.message() else { panic!("{m:?}") };
    assert_eq!(quoted, datagram_v4("10.0.0.9:1000", "10.0.0.1:5000", b"anybody?"), "quoted to the byte");
    assert_eq!(b.stack.mib.get(Mib::UdpNoPorts), 1);
    // In the other direction a connected socket gets the error once, as ECONNREFUSED.
    let c = bound(&b, "127.0.0.1:0");
    c.connect(Some(at("127.0.0.1:9"))).unwrap();
    send_to(&c, b"x", None, 0, vec![]).unwrap();
    assert_eq!(recv_from(&c, 10, 0).err(), Some(Error::ConnRefused));
    assert_eq!(recv_from(&c, 10, 0).err(), Some(Error::Again));
    // An unconnected one gets none, unless it enables IP_RECVERR.
    let u = bound(&b, "127.0.0.1:0");
    send_to(&u, b"x", Some("127.0.0.1:9"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&u, 10, 0).err(), Some(Error::Again));
    u.setsockopt(libc::SOL_IP, libc::IP_RECVERR, &1i32.to_ne_bytes()).unwrap();
    send_to(&u, b"lost", Some("127.0.0.1:9"), 0, vec![]).unwrap();
    assert_eq!(recv_from(&u, 10, 0).err(), Some(Error::ConnRefused));
    let e = recv_from(&u, 10, libc::MSG_ERRQUEUE).unwrap();
    assert_eq!((&e.data[..], e.name), (&b"lost"[..], Some(at("127.0.0.1:9"))));
    let [Control::RecvErr(err)] = &e.control[..] else { panic!("{:?}", e.control) };
    assert_eq!((err.errno, err.origin, err.ty, err.code), (libc::ECONNREFUSED as u32, 2, 3, 3));
}

/// An ICMP message as received from the wire.
fn icmp_v4(src: &str, dst: &str, msg: &icmp::Message<'_>) -> Vec<u8> {
    let mut m = vec![0; msg.len()];
    msg.emit(&mut m);
    let mut p = vec![0; 20];
    let repr = Ipv4Repr::new(src.parse().unwrap(), dst.parse().unwrap(), proto::ICMP, m.len());
    repr.emit(&mut p);
    p.extend(m);
    p
}

#[test]
fn an_error_about_a_broadcast_is_taken_or_logged_and_dropped() {
    for (ignored, taken) in [("1", true), ("0", false)] {
        let b = Bench::on_ip();
        b.stack.sysctl.set("net.ipv4.icmp_ignore_bogus_error_responses", ignored).unwrap();
        let s = bound(&b, "10.0.0.1:5000");
        for (level, name) in [(libc::SOL_SOCKET, libc::SO_BROADCAST), (libc::SOL_IP, libc::IP_RECVERR)] {
            s.setsockopt(level, name, &1i32.to_ne_bytes()).unwrap();
        }
        send_to(&s, b"anybody?", Some("10.0.0.255:7"), 0, vec![]).unwrap();
        let sent = b.wire.take().remove(0);
        let lines = b.stack.mib.trace.listen(b.stack.clock.clone(), || ());
        let about = icmp::Message::Unreachable { code: 3, mtu: 0, quoted: &sent };
        b.inject(&icmp_v4("10.0.0.9", "10.0.0.1", &about));
        assert_eq!(recv_from(&s, 10, libc::MSG_ERRQUEUE).is_ok(), taken, "ignored: {ignored}");
        let logged = std::iter::from_fn(|| lines.next()).find_map(|(_, e)| match e {
            Event::Log { text, .. } => Some(text),
            _ => None,
        });
        let line = "10.0.0.9 sent an invalid ICMP type 3, code 3 error to a broadcast: 10.0.0.255";
        assert_eq!(logged.as_deref(), (!taken).then_some(line));
    }
}

/// What Linux says of the ICMP message itself; the port is made of the third and the fourth byte that it quotes.
#[test]
fn a_queued_error_has_the_original_destination_where_the_socket_asks_for_it() {
    let b = Bench::on_ip();
    for (own, level, options, want) in [
        ("127.0.0.1:0", libc::SOL_IP, [libc::IP_RECVERR, libc::IP_RECVTOS, 20], vec![1, 20]),
        ("[::1]:0", libc::SOL_IPV6, [libc::IPV6_RECVERR, libc::IPV6_RECVTCLASS, 74], vec![67, 74]),
    ] {
        let s = bound(&b, own);
        for name in options {
            s.setsockopt(level, name, &1i32.to_ne_bytes()).unwrap();
        }
        send_to(&s, b"abcdefgh", Some(&own.replace(":0", ":9")), 0, vec![]).unwrap();
        let got = recv_from(&s, 99, libc::MSG_ERRQUEUE).unwrap();
        let kinds: Vec<i32> = got
            .control
            .iter()
            .filter_map(|c| match c {
                Control::Tos(_) => Some(libc::IP_TOS),
                Control::Tclass(_) => Some(libc::IPV6_TCLASS),
                Control::Other { ty, .. } => Some(*ty),
                _ => None,
            })
            .collect();
        assert_eq!(kinds, want);
        let Some(Control::Other { data, .. }) = got.control.get(1) else { panic!("{:?}", got.control) };
        assert_eq!(data[2..4], *b"cd");
        // Of less than four bytes there is no port to tell.
        send_to(&s, b"abc", Some(&own.replace(":0", ":9")), 0, vec![]).unwrap();
        let got = recv_from(&s, 99, libc::MSG_ERRQUEUE).unwrap();
        assert!(!got.control.iter().any(|c| matches!(c, Control::Other { .. })), "{:?}", got.control);
    }
}

/// Linux queues errors without owning the sock (__udp4_lib_err): the one that meets a call is not lost to the queue.
#[test]
fn an_icmp_error_that_meets_a_call_is_queued() {
    let b = Bench::on_ip();
    let u = bound(&b, "10.0.0.1:4000");
    u.setsockopt(libc::SOL_IP, libc::IP_RECVERR, &1i32.to_ne_bytes()).unwrap();
    send_to(&u, b"lost", Some("10.0.0.9:9"), 0, vec![]).unwrap();
    let quoted = b.wire.take().remove(0);
    let msg = icmp::Message::Unreachable { code: icmp::unreachable::PORT, mtu: 0, quoted: &quoted };
    let error = icmp_v4("10.0.0.9", "10.0.0.1", &msg);
    let owned = u.sock().lock(&b.stack);
    for _ in 0..65 {
        b.inject(&error);
    }
    assert_eq!(b.stack.mib.drops(DropReason::SocketBacklog), 1, "of what waits for an owner there is a limit");
    drop(owned);
    for _ in 0..64 {
        let e = recv_from(&u, 10, libc::MSG_ERRQUEUE).unwrap();
        assert_eq!((&e.data[..], e.name), (&b"lost"[..], Some(at("10.0.0.9:9"))));
    }
    assert_eq!(recv_from(&u, 10, libc::MSG_ERRQUEUE).err(), Some(Error::Again));
}

/// A router's "fragmentation needed" to 10.0.0.1.
pub(in crate::udp) fn frag_needed(mtu: u16, quoted: &[u8]) -> Vec<u8> {
    icmp_v4("10.0.0.254", "10.0.0.1", &icmp::Message::Unreachable { code: icmp::unreachable::FRAG_NEEDED, mtu, quoted })
}

#[test]
fn a_forged_fragmentation_needed_lowers_the_path_only_to_the_floor() {
    let b = Bench::on_ip();
    let c = bound(&b, "10.0.0.1:4000");
    c.connect(Some(at("10.0.0.9:9"))).unwrap();
    send_to(&c, b"x", None, 0, vec![]).unwrap();
    let quoted = b.wire.take().remove(0);
    b.inject(&frag_needed(68, &quoted));
    assert_eq!(recv_from(&c, 9, 0).err(), Some(Error::MsgSize));
    let d = crate::ip::route::lookup(&b.stack, "10.0.0.9".parse().unwrap(), None, 0).unwrap();
    assert_eq!((d.mtu, d.mtu_locked), (552, true));
}

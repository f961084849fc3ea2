//! Labels as Linux 6.18 sent them on a loopback for the same calls and sysctls. What one program can see of leases is
//! in c-tests/cases/flow_labels.c; here are times, privileges, and headers that go with a label.

use super::*;
use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::msg::SendMsg;
use crate::wire::icmpv6::Message;
use crate::wire::ipv6::{self, Ipv6Header, Ipv6Repr};
use crate::wire::proto;
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{self, TcpFlags, TcpHeader, TcpRepr};
use std::io::IoSlice;

const OWN: &str = "fd00::1";
const PEER: &str = "fd00::2";
const IPV6_FLOWLABEL_MGR: i32 = 32;
const FLOWINFO_SEND: i32 = 33;
const CREATE: u16 = flags::CREATE;

fn request(label: u32, share: u8, flags: u16, (linger, expires): (u16, u16)) -> Vec<u8> {
    let dst = PEER.parse().unwrap();
    Request { dst, label, action: action::GET, share, flags, expires, linger }.write().to_vec()
}

fn socket(b: &Bench, ty: i32) -> Socket {
    Socket::new(&b.stack, libc::AF_INET6, ty, 0).unwrap()
}

fn manage(s: &Socket, req: &[u8]) -> Result<()> {
    s.setsockopt(libc::SOL_IPV6, IPV6_FLOWLABEL_MGR, req)
}

fn lease(s: &Socket, label: u32, share: u8, flags: u16) -> Result<()> {
    manage(s, &request(label, share, flags, (0, 0)))
}

fn send_to(s: &Socket, to: Option<SocketAddr>) -> Result<()> {
    let bytes = [IoSlice::new(b"x")];
    let mut msg = SendMsg::new(&bytes, 0);
    msg.name = to;
    s.sendmsg(&mut msg).map(|_| ())
}

fn send(b: &Bench, s: &Socket, label: u32) -> Result<Vec<u8>> {
    let mut to: std::net::SocketAddrV6 = format!("[{PEER}]:9").parse().unwrap();
    to.set_flowinfo(label);
    send_to(s, Some(to.into()))?;
    Ok(b.wire.take().remove(0))
}

fn label_of(packet: &[u8]) -> u32 {
    Ipv6Header::parse(packet).unwrap().flow_label()
}

#[test]
fn a_label_outlives_its_last_lease_by_its_linger_time() {
    let b = Bench::on_ip();
    let (a, other) = (socket(&b, libc::SOCK_DGRAM), socket(&b, libc::SOCK_DGRAM));
    manage(&a, &request(7, share::EXCL, CREATE, (10, 8))).unwrap();
    b.advance(Duration::from_secs(100));
    // As long as it is leased it does not end.
    assert_eq!(lease(&other, 7, share::ANY, CREATE), Err(Error::Perm));
    a.close();
    b.advance(Duration::from_secs(9));
    assert_eq!(lease(&other, 7, share::ANY, CREATE), Err(Error::Perm));
    b.advance(Duration::from_secs(1));
    assert_eq!(lease(&other, 7, share::ANY, CREATE), Ok(()));
}

#[test]
fn a_label_that_ends_takes_the_claim_to_leases_with_it() {
    let b = Bench::on_ip();
    let (a, s) = (socket(&b, libc::SOCK_DGRAM), socket(&b, libc::SOCK_DGRAM));
    s.setsockopt(libc::SOL_IPV6, FLOWINFO_SEND, &1i32.to_ne_bytes()).unwrap();
    assert_eq!(label_of(&send(&b, &s, 5).unwrap()), 5);
    lease(&a, 7, share::EXCL, CREATE).unwrap();
    assert_eq!(send(&b, &s, 5), Err(Error::Inval));
    lease(&s, 5, share::ANY, CREATE).unwrap();
    assert_eq!(label_of(&send(&b, &s, 5).unwrap()), 5);
    a.close();
    assert_eq!(send(&b, &s, 6), Err(Error::Inval));
    b.advance(Duration::from_secs(6));
    assert_eq!(label_of(&send(&b, &s, 6).unwrap()), 6);
}

#[test]
fn headers_of_a_lease_go_with_its_label_and_push_out_the_sockets_own() {
    let b = Bench::on_ip();
    let s = socket(&b, libc::SOCK_DGRAM);
    s.setsockopt(libc::SOL_IPV6, FLOWINFO_SEND, &1i32.to_ne_bytes()).unwrap();
    let header = |mark: u8| [0, 0, 0x1e, 4, mark, 0, 0, 0];
    let message = |ty: i32, mark: u8| {
        let mut m = [&24usize.to_ne_bytes()[..], &libc::SOL_IPV6.to_ne_bytes(), &ty.to_ne_bytes()].concat();
        m.extend(header(mark));
        m
    };
    let with = |ty, mark| [request(7, share::ANY, CREATE, (0, 0)), message(ty, mark)].concat();
    // What the receiver alone looks at is not the label's (opt_flen).
    assert_eq!(manage(&s, &with(libc::IPV6_DSTOPTS, 1)), Err(Error::Inval));
    manage(&s, &with(libc::IPV6_HOPOPTS, 1)).unwrap();
    let sent = |label: u32| {
        let p = send(&b, &s, label).unwrap();
        let marks: Vec<u8> = p[40..].chunks(8).take((p.len() - 49) / 8).map(|h| h[4]).collect();
        (p[6], marks)
    };
    assert_eq!(sent(7), (proto::HOPOPTS, vec![1]));
    assert_eq!(sent(0), (proto::UDP, vec![]));
    s.setsockopt(libc::SOL_IPV6, libc::IPV6_HOPOPTS, &header(2)).unwrap();
    assert_eq!((sent(7), sent(0)), ((proto::HOPOPTS, vec![1]), (proto::HOPOPTS, vec![2])));
    s.setsockopt(libc::SOL_IPV6, libc::IPV6_DSTOPTS, &header(3)).unwrap();
    assert_eq!((sent(7), sent(0)), ((proto::HOPOPTS, vec![1, 3]), (proto::HOPOPTS, vec![2, 3])));
    lease(&s, 8, share::ANY, CREATE).unwrap();
    assert_eq!(sent(8), (proto::DSTOPTS, vec![3]), "of the socket's headers those to the receiver are left");
}

#[test]
fn one_who_does_not_own_the_stack_has_few_labels_and_not_for_long() {
    let b = Bench::on_ip();
    b.stack.share();
    let s = socket(&b, libc::SOCK_DGRAM);
    for times in [(151, 0), (0, 151)] {
        assert_eq!(manage(&s, &request(1, share::ANY, CREATE, times)), Err(Error::Perm), "{times:?}");
    }
    manage(&s, &request(1, share::ANY, CREATE, (150, 150))).unwrap();
    // The first 32 of a stack are not counted.
    for label in 2..=32 {
        lease(&s, label, share::ANY, CREATE).unwrap();
    }
    assert_eq!(lease(&s, 33, share::ANY, CREATE), Err(Error::NoBufs));
    lease(&socket(&b, libc::SOCK_DGRAM), 33, share::ANY, CREATE).unwrap();
    let renew = |share, s: &Socket| {
        let mut req = request(33, share, 0, (0, 0));
        req[20] = action::RENEW;
        manage(s, &req)
    };
    assert_eq!(renew(share::NONE, &s), Err(Error::Srch), "another socket's");
}

#[test]
fn a_stack_has_no_more_labels_than_linux() {
    let b = Bench::on_ip();
    let s = socket(&b, libc::SOCK_DGRAM);
    for label in 1..=MAX as u32 {
        lease(&s, label, share::ANY, CREATE).unwrap();
    }
    assert_eq!(lease(&s, 5000, share::ANY, CREATE), Err(Error::NoBufs));
    assert_eq!(lease(&socket(&b, libc::SOCK_DGRAM), 5000, share::ANY, CREATE), Err(Error::NoBufs));
    lease(&s, 1, share::ANY, 0).unwrap();
    s.close();
    b.advance(Duration::from_secs(7));
    lease(&socket(&b, libc::SOCK_DGRAM), 5000, share::ANY, CREATE).unwrap();
}

#[test]
fn the_owner_of_the_stack_renews_a_label_of_another_socket() {
    let b = Bench::on_ip();
    let (a, s) = (socket(&b, libc::SOCK_DGRAM), socket(&b, libc::SOCK_DGRAM));
    lease(&a, 7, share::EXCL, CREATE).unwrap();
    let mut req = request(7, share::NONE, 0, (60, 60));
    req[20] = action::RENEW;
    manage(&s, &req).unwrap();
    a.close();
    b.advance(Duration::from_secs(59));
    assert_eq!(lease(&s, 7, share::ANY, CREATE), Err(Error::Perm));
}

#[test]
fn labels_of_hashes_and_leased_ones_share_no_number_with_state_ranges() {
    let b = Bench::on_ip();
    let s = socket(&b, libc::SOCK_DGRAM);
    lease(&s, 0x8_0001, share::ANY, CREATE).unwrap();
    b.stack.sysctl.set("net.ipv6.flowlabel_state_ranges", "1").unwrap();
    assert_eq!(lease(&s, 0x8_0002, share::ANY, CREATE), Err(Error::Range));
    lease(&s, 0x7_ffff, share::ANY, CREATE).unwrap();
    // Of twenty hashes about half lack the bit.
    for port in 0..20 {
        send_to(&s, Some(SocketAddr::new(PEER.parse().unwrap(), 100 + port))).unwrap();
    }
    let labels: Vec<u32> = b.wire.take().iter().map(|p| label_of(p)).collect();
    assert!(labels.iter().all(|l| l & STATELESS != 0), "{labels:x?}");
}

fn packet(next_header: u8, label: u32, upper: &[u8]) -> Vec<u8> {
    let (src, dst) = (PEER.parse().unwrap(), OWN.parse().unwrap());
    let payload_len = upper.len();
    let repr = Ipv6Repr { flow_label: label, ..Ipv6Repr::new(src, dst, next_header, payload_len) };
    let mut p = vec![0; ipv6::HEADER_LEN];
    repr.emit(&mut p);
    p.extend(upper);
    p
}

fn segment(label: u32, dst_port: u16, (seq, ack): (u32, u32), flags: TcpFlags, data: &[u8]) -> Vec<u8> {
    let (seq, ack) = (SeqNum(seq), SeqNum(ack));
    let window = RawWindow(65_535);
    let repr = TcpRepr { src_port: 999, dst_port, seq, ack, flags, window, urgent: 0, options_len: 0 };
    let mut s = vec![0; 20];
    repr.emit(&mut s);
    s.extend(data);
    tcp::fill_checksum(&mut s, PEER.parse().unwrap(), OWN.parse().unwrap());
    packet(proto::TCP, label, &s)
}

/// A connection whose client changes its label: those of the SYN-ACK, of an answer to data, and of own data.
fn labels_of_server(b: &Bench, reflect: bool, told: bool) -> [u32; 3] {
    let l = socket(b, libc::SOCK_STREAM);
    if reflect {
        manage(&l, &request(0, 0, flags::REFLECT, (0, 0))).unwrap();
    }
    if told {
        l.setsockopt(libc::SOL_IPV6, 11, &1i32.to_ne_bytes()).unwrap();
    }
    l.bind(SocketAddr::new(OWN.parse().unwrap(), 80)).unwrap();
    l.listen(1).unwrap();
    let syn_ack = b.inject(&segment(0xaaaa1, 80, (100, 0), TcpFlags::SYN, b"")).remove(0);
    let ack = TcpHeader::parse(&syn_ack[40..]).unwrap().seq().0.wrapping_add(1);
    assert!(b.inject(&segment(0xaaaa2, 80, (101, ack), TcpFlags::ACK, b"")).is_empty());
    let (s, _) = l.accept().unwrap();
    let mut sent = b.inject(&segment(0xaaaa3, 80, (101, ack), TcpFlags::ACK | TcpFlags::PSH, b"x"));
    sent.extend(b.advance(Duration::from_millis(300)));
    send_to(&s, None).unwrap();
    [label_of(&syn_ack), label_of(&sent[0]), label_of(&b.wire.take()[0])]
}

#[test]
fn a_server_reflects_the_label_of_the_handshake_or_where_it_is_told_of_flows_the_latest() {
    let b = Bench::on_ip();
    let s = socket(&b, libc::SOCK_STREAM);
    let reflect = request(0, 0, flags::REFLECT, (0, 0));
    assert_eq!(manage(&s, &reflect), Err(Error::Perm), "flowlabel_consistency");
    b.stack.sysctl.set("net.ipv6.flowlabel_consistency", "0").unwrap();
    assert_eq!(manage(&socket(&b, libc::SOCK_DGRAM), &reflect), Err(Error::NoProtoOpt));
    manage(&s, &reflect).unwrap();
    let bench = || {
        let b = Bench::on_ip();
        b.stack.sysctl.set("net.ipv6.flowlabel_consistency", "0").unwrap();
        b
    };
    assert_eq!(labels_of_server(&bench(), true, false), [0xaaaa1, 0xaaaa2, 0xaaaa2]);
    let [syn_ack, _, data] = labels_of_server(&bench(), true, true);
    assert_eq!([syn_ack, data], [0xaaaa1, 0xaaaa3]);
    let own = labels_of_server(&bench(), false, true);
    assert!(own.iter().all(|l| *l != 0 && l >> 4 != 0xaaaa), "{own:x?}");
    let b = bench();
    b.stack.sysctl.set("net.ipv6.flowlabel_reflect", "1").unwrap();
    assert_eq!(labels_of_server(&b, false, false), [0xaaaa1, 0xaaaa2, 0xaaaa2]);
}

#[test]
fn resets_and_echo_replies_have_labels_of_their_own_or_those_of_what_they_answer() {
    let b = Bench::on_ip();
    let reset = || label_of(&b.inject(&segment(0xaaaa1, 80, (1, 0), TcpFlags::SYN, b""))[0]);
    let echo = || {
        let m = Message::Echo { id: 1, seq: 1, data: b"" };
        let mut bytes = vec![0; m.len()];
        m.emit(&mut bytes, PEER.parse().unwrap(), OWN.parse().unwrap());
        label_of(&b.inject(&packet(proto::ICMPV6, 0xaaaa2, &bytes))[0])
    };
    let own = [reset(), echo()];
    assert!(own.iter().all(|l| *l != 0 && l >> 4 != 0xaaaa), "{own:x?}");
    for (bits, want) in [("1", own), ("2", [0xaaaa1, own[1]]), ("4", [own[0], 0xaaaa2]), ("6", [0xaaaa1, 0xaaaa2])] {
        b.stack.sysctl.set("net.ipv6.flowlabel_reflect", bits).unwrap();
        assert_eq!([reset(), echo()], want, "{bits}");
    }
    b.stack.sysctl.set("net.ipv6.flowlabel_reflect", "0").unwrap();
    b.stack.sysctl.set("net.ipv6.auto_flowlabels", "0").unwrap();
    assert_eq!([reset(), echo()], [0, 0]);
}

use super::*;
use crate::counters::DropReason;
use crate::device::capture_test::Bench;
use crate::inet::{self, Socket};
use crate::sock::msg::Control;
use crate::sys::lock::Mutex;
use crate::udp::output::{AsTold, mtu, send_skb};
use crate::udp::tests::{at, bound, datagram_v4, frag_needed, send_to};
use crate::wire::ip::Ipv4Header;
use crate::wire::udp::UdpHeader;

/// Of an ICMP error: errno, MTU, both ends, bytes quoted.
type Told = (Error, u32, SocketAddr, SocketAddr, usize);

/// What a port has got.
#[derive(Default)]
struct Port {
    datagrams: Mutex<Vec<(Vec<u8>, SocketAddr, SocketAddr)>>,
    errors: Mutex<Vec<Told>>,
}

impl Encap for Port {
    fn rcv(&self, _: &Arc<Stack>, skb: Skb, src: SocketAddr, dst: SocketAddr, _: &PacketInfo) {
        self.datagrams.lock().push((skb.to_vec(), src, dst));
    }
    fn err(&self, _: &Arc<Stack>, src: SocketAddr, dst: SocketAddr, e: &IcmpError<'_>) {
        self.errors.lock().push((e.errno, e.info, src, dst, e.quoted.len()));
    }
}

fn opened(b: &Bench, local: &str) -> (Arc<Sock>, Arc<Port>) {
    let local = at(local);
    let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let (sock, port) = (inet::create(&b.stack, family, libc::SOCK_DGRAM, 0).unwrap(), Arc::new(Port::default()));
    set(&sock, port.clone()).unwrap();
    Socket::of_stack(&b.stack, sock.clone()).bind(local).unwrap();
    (sock, port)
}

fn close(b: &Bench, sock: &Arc<Sock>) {
    sock.proto().close(crate::sock::proto::SockRef { stack: &b.stack, sock }, 0);
}

#[test]
fn datagrams_of_a_port_go_to_its_protocol_with_both_ends_and_without_header() {
    let b = Bench::on_ip();
    let (sock, port) = opened(&b, "10.0.0.1:4500");
    let other = bound(&b, "10.0.0.1:4501");
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:4500", b"hello"));
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:4501", b"not here"));
    let mut damaged = datagram_v4("10.0.0.9:1000", "10.0.0.1:4500", b"hello");
    damaged[30] ^= 1;
    b.inject(&damaged);
    let got = std::mem::take(&mut *port.datagrams.lock());
    assert_eq!(got, [(b"hello".to_vec(), at("10.0.0.9:1000"), at("10.0.0.1:4500"))]);
    assert_eq!(b.stack.mib.drops(DropReason::UdpCsum), 1);
    assert_eq!((b.stack.mib.get(Mib::UdpInDatagrams), sock.rmem_alloc.load(Ordering::Relaxed)), (1, 0));
    assert_eq!(other.ioctl(libc::FIONREAD), Ok(8));

    // Over IPv6 one without checksum is refused; a super-packet comes in its datagrams.
    let (v6, all) = opened(&b, "[::]:4502");
    let from = bound(&b, "[::1]:0");
    let data: Vec<u8> = (0..2500).map(|i| i as u8).collect();
    assert_eq!(send_to(&from, &data, Some("[::1]:4502"), 0, vec![Control::UdpSegment(1000)]), Ok(2500));
    let parts: Vec<Vec<u8>> = std::mem::take(&mut *all.datagrams.lock()).into_iter().map(|d| d.0).collect();
    assert_eq!((parts.iter().map(Vec::len).collect(), parts.concat()), (vec![1000, 1000, 500], data));
    from.setsockopt(17, 101, &1i32.to_ne_bytes()).unwrap();
    assert_eq!(send_to(&from, b"x", Some("[::1]:4502"), 0, vec![]), Ok(1));
    assert_eq!((all.datagrams.lock().len(), b.stack.mib.drops(DropReason::UdpCsum)), (0, 2));
    // A port of both families shows IPv4's addresses as such.
    b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:4502", b"four"));
    assert_eq!(all.datagrams.lock().pop().map(|d| d.1), Some(at("10.0.0.9:1000")));

    // Once it is closed the port is nobody's.
    close(&b, &v6);
    close(&b, &sock);
    let answers = b.inject(&datagram_v4("10.0.0.9:1000", "10.0.0.1:4500", b"late"));
    assert_eq!((port.datagrams.lock().len(), answers.len()), (0, 1), "port unreachable");
    assert!(other.sock().proto().name() == "UDP" && set(&bound_tcp(&b), port).is_err());
}

fn bound_tcp(b: &Bench) -> Arc<Sock> {
    inet::create(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap()
}

#[test]
fn a_datagram_leaves_as_its_protocol_says() {
    let b = Bench::on_ip();
    let (sock, _) = opened(&b, "10.0.0.1:4500");
    let send = |len: usize, told, control: &[Control]| {
        let skb = Skb::from_slice(&vec![7; len]);
        send_skb(&mut sock.lock(&b.stack), at("10.0.0.9:9"), control, told, skb)
    };
    let uncut = AsTold { uncut: true, ..AsTold::default() };
    assert_eq!(mtu(&mut sock.lock(&b.stack), at("10.0.0.9:9")), Ok(1472));
    send(1472, uncut, &[Control::Tos(0x2b)]).unwrap();
    let p = b.wire.take().remove(0);
    let ip = Ipv4Header::parse(&p).unwrap();
    let udp = UdpHeader::parse(ip.payload()).unwrap();
    assert!(udp.checksum_ok("10.0.0.1".parse().unwrap(), "10.0.0.9".parse().unwrap()));
    assert_eq!((p[1], p[6] & 0x40, udp.payload().len()), (0x2b, 0x40, 1472));
    assert_eq!(send(1473, uncut, &[]), Err(Error::MsgSize));
    send(1473, AsTold::default(), &[]).unwrap();
    assert_eq!(b.wire.take().len(), 2, "fragments");
    assert_eq!(send(65_508, AsTold::default(), &[]), Err(Error::MsgSize));
    assert_eq!(send_skb(&mut sock.lock(&b.stack), at("10.0.0.9:0"), &[], uncut, Skb::new()), Err(Error::Inval));
    // What a device holds counts against the send buffer of the port's sock.
    sock.sndbuf.store(0, Ordering::Relaxed);
    assert_eq!((send(1, uncut, &[]), b.stack.mib.get(Mib::UdpSndbufErrors)), (Err(Error::NoBufs), 1));
}

#[test]
fn errors_about_a_port_are_its_protocols_and_lower_the_mtu_before() {
    let b = Bench::on_ip();
    let (sock, port) = opened(&b, "10.0.0.1:4500");
    send_skb(&mut sock.lock(&b.stack), at("10.0.0.9:9"), &[], AsTold::default(), Skb::from_slice(b"quoted")).unwrap();
    let quoted = b.wire.take().remove(0);
    b.inject(&frag_needed(1000, &quoted));
    let told = std::mem::take(&mut *port.errors.lock());
    let [(errno, info, src, dst, len)] = told[..] else { panic!("{told:?}") };
    assert_eq!((errno, info, src, dst), (Error::MsgSize, 1000, at("10.0.0.1:4500"), at("10.0.0.9:9")));
    assert_eq!(len, HEADER + 6, "from the UDP header on");
    assert_eq!(mtu(&mut sock.lock(&b.stack), at("10.0.0.9:9")), Ok(1000 - 28));
    assert_eq!(sock.take_error(), Ok(()), "nobody would read it");
}

#[test]
fn an_option_that_meets_the_close_joins_no_group() {
    let b = Bench::on_ip();
    let (sock, _port) = opened(&b, "10.0.0.1:4500");
    let join = |group: [u8; 4]| {
        let mreq = [group, [10, 0, 0, 1]].concat();
        Socket::of_stack(&b.stack, sock.clone()).setsockopt(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP, &mreq)
    };
    assert_eq!((join([239, 1, 1, 1]), sock.joined().len()), (Ok(()), 1));
    close(&b, &sock);
    assert_eq!((join([239, 1, 1, 2]), sock.joined().len()), (Err(Error::Inval), 0));
}

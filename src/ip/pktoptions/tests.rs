//! The options in answers to segments that have some. What is expected is what Linux 6.18 sent on a veth pair.

use crate::device::capture_test::Bench;
use crate::inet::Socket;
use crate::sock::msg::SendMsg;
use crate::wire::ip::{self, Ipv4Header};
use crate::wire::seq::{RawWindow, SeqNum};
use crate::wire::tcp::{self, TcpFlags, TcpHeader, TcpRepr};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

/// A segment from PEER behind an IPv4 header with options.
fn segment(options: &[u8], ports: (u16, u16), (seq, ack): (u32, u32), flags: TcpFlags, data: &[u8]) -> Vec<u8> {
    let (seq, ack, window) = (SeqNum(seq), SeqNum(ack), RawWindow(65_535));
    let (src_port, dst_port) = ports;
    let repr = TcpRepr { src_port, dst_port, seq, ack, flags, window, urgent: 0, options_len: 0 };
    let mut t = vec![0; 20];
    repr.emit(&mut t);
    t.extend(data);
    tcp::fill_checksum(&mut t, PEER.into(), OWN.into());
    let (header, total) = (20 + options.len(), (20 + options.len() + t.len()) as u16);
    let mut p = vec![0x40 | (header / 4) as u8, 0];
    p.extend(total.to_be_bytes());
    p.extend([0, 1, 0, 0, 64, 6, 0, 0]);
    p.extend([PEER.octets(), OWN.octets()].concat());
    p.extend(options);
    ip::fill_checksum(&mut p);
    p.extend(t);
    p
}

/// The options of a packet's IPv4 header in hexadecimal, and its TCP flags.
fn seen(packet: &[u8]) -> (String, u8) {
    let header = usize::from(packet[0] & 15) * 4;
    assert!(Ipv4Header::parse(packet).is_ok());
    (packet[20..header].iter().map(|b| format!("{b:02x}")).collect(), packet[header + 13])
}

fn listener(b: &Bench) -> Socket {
    let l = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    l.bind(SocketAddr::new(OWN.into(), 80)).unwrap();
    l.listen(1).unwrap();
    l
}

const RR: [u8; 16] = [1, 7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RR_ENTRY: [u8; 16] = [7, 15, 8, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const FULL: [u8; 8] = [7, 7, 8, 10, 0, 0, 9, 0];

#[test]
fn a_connection_carries_the_options_of_its_syn() {
    for (options, answer, given, mss) in [
        (&RR[..], "070f0c0a0000010a0000010000000000", "070f080a000001000000000000000000", 520),
        (&RR_ENTRY, "070f100a0000090a0000010a00000100", "070f0c0a0000090a0000010000000000", 520),
        (&FULL, "0707080a00000900", "0707080a00000900", 528),
        (&[], "", "", 536),
    ] {
        let b = Bench::on_ip();
        let l = listener(&b);
        let syn_ack = b.inject(&segment(options, (999, 80), (100, 0), TcpFlags::SYN, b"")).remove(0);
        assert_eq!(seen(&syn_ack), (answer.to_owned(), 0x12));
        let header = usize::from(syn_ack[0] & 15) * 4;
        let ack = TcpHeader::parse(&syn_ack[header..]).unwrap().seq().0.wrapping_add(1);
        b.inject(&segment(b"", (999, 80), (101, ack), TcpFlags::ACK, b""));
        let (s, _) = l.accept().unwrap();
        let bytes = [IoSlice::new(b"x")];
        s.sendmsg(&mut SendMsg::new(&bytes, 0)).unwrap();
        assert_eq!(seen(&b.wire.take()[0]), (answer.to_owned(), 0x18));
        let mut got = [0; 40];
        let n = s.getsockopt(libc::SOL_IP, libc::IP_OPTIONS, &mut got).unwrap();
        assert_eq!(got[..n].iter().map(|b| format!("{b:02x}")).collect::<String>(), given);
        let mut value = [0; 4];
        s.getsockopt(libc::SOL_TCP, libc::TCP_MAXSEG, &mut value).unwrap();
        assert_eq!(u32::from_ne_bytes(value), mss, "the options take their room");
        // Those of a later segment change nothing.
        b.inject(&segment(&RR, (999, 80), (101, ack + 1), TcpFlags::ACK | TcpFlags::PSH, b"hi"));
        s.close();
        let out = b.advance(Duration::from_millis(10));
        assert_eq!(seen(out.last().unwrap()), (answer.to_owned(), 0x14), "unread data");
    }
}

#[test]
fn an_answer_of_no_connection_carries_the_options_of_its_segment() {
    let b = Bench::on_ip();
    for (options, answer) in
        [(&RR[..], "070f0c0a0000010a0000010000000000"), (&RR_ENTRY, "070f100a0000090a0000010a00000100"), (&[], "")]
    {
        let out = b.inject(&segment(options, (999, 81), (100, 0), TcpFlags::SYN, b""));
        assert_eq!(seen(&out[0]), (answer.to_owned(), 0x14));
        // A request's acknowledgement of what is out of its window.
        let l = listener(&b);
        b.inject(&segment(b"", (999, 80), (100, 0), TcpFlags::SYN, b""));
        let out = b.inject(&segment(options, (999, 80), (90_000_000, 0), TcpFlags::ACK, b"late"));
        assert_eq!(seen(&out[0]).0, answer);
        l.close();
        // And a connection's reset of what answers no SYN of its.
        let c = Socket::new(&b.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        c.set_nonblocking(true);
        c.bind(SocketAddr::new(OWN.into(), 82)).unwrap();
        let _ = c.connect(Some(SocketAddr::new(PEER.into(), 999)));
        b.wire.take();
        let out = b.inject(&segment(options, (999, 82), (100, 77), TcpFlags::SYN | TcpFlags::ACK, b""));
        assert_eq!(seen(&out[0]), (answer.to_owned(), 0x04));
        c.close();
    }
}

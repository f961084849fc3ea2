//! Tests of TCP-MD5, and what those of TCP-AO share with them.
//!
//! | file | what |
//! |---|---|
//! | `rfc9235` | TCP-AO: the test vectors of RFC 9235 |
//! | `ao`, `restore` | TCP-AO on the wire; a connection that is restored |
//! | `keys` | what the options of TCP-AO take, show and refuse |
//! | `openings` | SYN cookies and Fast Open, with either signature |

mod ao;
mod keys;
mod openings;
mod restore;
mod rfc9235;

use super::inbound::{Found, parse_auth_options};
use super::md5::{KEY_SIZE, Keys};
use super::*;
use crate::base::env::Duration;
use crate::base::error::Error;
use crate::counters::{DropReason, Mib};
use crate::sock::state::State;
use crate::tcp::peer_test::{ACK, FIN, HERE, Host, ISS, PORT, PSH, RST, SYN, SYN_OPTIONS, Seg, THERE};
use crate::tcp::sockopt::opt;
use crate::wire::addr::Cidr;
use crate::wire::tcp::{TcpHeader, fill_checksum};
use std::net::Ipv4Addr;

const SECRET: &[u8] = b"secret of two";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn secret(bytes: &[u8]) -> md5::Secret {
    let mut keys = Keys::default();
    keys.add(Cidr::host(IpAddr::V4(THERE)), false, bytes);
    keys.lookup(IpAddr::V4(THERE)).unwrap().secret.clone()
}

/// A received segment.
fn received(segment: &[u8]) -> Skb {
    let mut skb = Skb::from_slice(segment);
    crate::tcp::rcv::fill_cb(&mut skb, 0, 64, crate::base::env::Instant::ZERO).unwrap();
    skb
}

fn verifies(segment: &[u8], by: &[u8], src: IpAddr, dst: IpAddr) -> bool {
    let skb = received(segment);
    match parse_auth_options(crate::tcp::rcv::option_bytes(&skb)) {
        Ok(Found::Md5(at)) => secret(by).verifies(&skb, at, src, dst),
        _ => false,
    }
}

/// What Linux 6.18 sent over its loopback device with TCP_MD5SIG: a SYN, its answer, data of odd length, and a SYN of
/// IPv6.
#[test]
fn segments_that_linux_signed_verify_and_others_do_not() {
    let v4 = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let v6 = (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
    for (segment, (src, dst)) in [
        (
            "dea21b581b5a919500000000d002ffd7fe3c00000101131298aab05d82b599b5a55d7528cf7ca8920204ffd7010104020103030a",
            v4,
        ),
        (
            "1b58dea2e6b952851b5a9196d012ffd7fe3c0000010113121e83e6d2bbd7e5eee912f4690af85bb70204ffd7010104020103030a",
            v4,
        ),
        ("dea21b581b5a9196e6b95286a0180040fe33000001011312da0c4b034954e8ce97c60b3fd730986f6f6464", v4),
        (
            "a63e1b580229360900000000d002ffc4003c000001011312e3c3ddc197bfdd091c7c1bb70885bd880204ffc4010104020103030a",
            v6,
        ),
    ] {
        let segment = unhex(segment);
        assert!(verifies(&segment, SECRET, src, dst));
        assert!(!verifies(&segment, b"secret of three", src, dst));
        assert!(!verifies(&segment, SECRET, IpAddr::V4(HERE), dst));
        // Every byte counts but those of the checksum and, as RFC 2385 has it, of the options, such as the MSS.
        let header = usize::from(segment[12] >> 4) * 4;
        let structure = |at: usize| at == 12 || (20..24).contains(&at) || (40..header).contains(&at);
        let mss = (42..44.min(header)).filter(|_| header > 40);
        for at in (0..segment.len()).filter(|at| !structure(*at)).chain(mss) {
            let mut forged = segment.clone();
            forged[at] ^= 0x10;
            let free = at == 16 || at == 17 || (42..header).contains(&at);
            assert_eq!(verifies(&forged, SECRET, src, dst), free, "byte {at}");
        }
    }
}

#[test]
fn the_longest_prefix_is_the_peers_key() {
    let mut keys = Keys::default();
    let peers = |text: &str| text.parse::<Cidr>().unwrap();
    for (at, of_interface) in [
        ("0.0.0.0/0", false),
        ("10.0.0.0/8", false),
        ("10.1.0.0/16", false),
        ("10.1.1.1/32", false),
        ("fd00::/8", false),
    ] {
        keys.add(peers(at), of_interface, at.as_bytes());
    }
    let key_of = |keys: &Keys, ip: &str| keys.lookup(ip.parse().unwrap()).map(|k| k.secret.clone());
    let is = |keys: &Keys, ip: &str, want: &str| {
        let skb = received(&[0; 12].into_iter().chain([0x50, 0, 0, 0, 0, 0, 0, 0]).collect::<Vec<u8>>());
        let digest = |s: md5::Secret| s.hash_skb(&skb, 20, IpAddr::V4(HERE), IpAddr::V4(THERE));
        key_of(keys, ip).map(digest) == Some(digest(secret(want.as_bytes())))
    };
    assert!(is(&keys, "10.1.1.1", "10.1.1.1/32"));
    assert!(is(&keys, "10.1.1.2", "10.1.0.0/16"));
    assert!(is(&keys, "10.2.1.2", "10.0.0.0/8"));
    assert!(is(&keys, "192.0.2.1", "0.0.0.0/0"));
    assert!(is(&keys, "fd00::1", "fd00::/8"));
    assert!(key_of(&keys, "2001:db8::1").is_none());
    // One with an interface comes before a longer prefix.
    keys.add(peers("10.0.0.0/8"), true, b"interface");
    assert!(is(&keys, "10.1.1.1", "interface"));
    assert_eq!(keys.del(peers("10.0.0.0/8"), true), Ok(()));
    assert_eq!(keys.del(peers("10.0.0.0/8"), true), Err(Error::NoEnt));
    assert!(is(&keys, "10.1.1.1", "10.1.1.1/32"));
    assert_eq!(keys.omem(), 5 * KEY_SIZE);
}

#[test]
fn a_signature_that_is_malformed_or_there_twice_is_an_error() {
    let md5 = |len: u8| [vec![19, len], vec![7; usize::from(len).saturating_sub(2)]].concat();
    let bad = Err(DropReason::TcpAuthHdr);
    for (case, options, want) in [
        ("none", vec![], Ok(Found::Nothing)),
        ("timestamps", [vec![1, 1, 8, 10], vec![0; 8]].concat(), Ok(Found::Nothing)),
        ("alone", md5(18), Ok(Found::Md5(2))),
        ("behind others", [vec![1, 1, 2, 4, 5, 0xb4], md5(18)].concat(), Ok(Found::Md5(8))),
        ("too short", [md5(17), vec![1]].concat(), bad),
        ("too long", md5(19), bad),
        ("cut", md5(30)[..20].to_vec(), bad),
        ("alone and too short", md5(17), bad),
        ("twice", [md5(18), md5(18)].concat(), bad),
        ("behind the end of the list", [vec![0], md5(18)].concat(), Ok(Found::Nothing)),
        ("behind an option of length 0", [vec![2, 0], md5(18)].concat(), bad),
        ("behind one that goes on past the header", [vec![2, 40], vec![0; 16]].concat(), bad),
        ("a short rest is not looked at", vec![2, 4, 0, 0, 2, 40, 0, 0], Ok(Found::Nothing)),
        (
            "TCP-AO",
            [vec![1, 29, 18, 5, 6], vec![0; 14]].concat(),
            Ok(Found::Ao(AoHeader { keyid: 5, rnext: 6, at: 5, maclen: 14 })),
        ),
        ("TCP-AO without a MAC", [vec![29, 4, 5, 6], vec![0; 16]].concat(), bad),
        ("both", [vec![29, 6, 5, 6, 0, 0], md5(18)].concat(), bad),
    ] {
        assert_eq!(parse_auth_options(&options), want, "{case}");
    }
}

/// struct tcp_md5sig.
fn md5sig(addr: Ipv4Addr, secret: &[u8]) -> Vec<u8> {
    let mut v = vec![0; 216];
    v[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    v[4..8].copy_from_slice(&addr.octets());
    v[130..132].copy_from_slice(&(secret.len() as u16).to_ne_bytes());
    v[136..136 + secret.len()].copy_from_slice(secret);
    v
}

fn set_key(s: &crate::inet::Socket, secret: &[u8]) {
    s.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &md5sig(THERE, secret)).unwrap();
}

/// The peer's segment as an IPv4 datagram, with a signature in front of its options.
fn signed(seg: &Seg, by: &[u8]) -> Vec<u8> {
    let options = [&[1, 1, 19, 18][..], &[0; 16], &seg.options].concat();
    let mut datagram = Seg { options, ..seg.clone() }.bytes();
    let (src, dst) = (IpAddr::V4(seg.src), IpAddr::V4(seg.dst));
    let skb = received(&datagram[20..]);
    let digest = secret(by).hash_skb(&skb, skb.tcp.header_len(), src, dst);
    datagram[44..60].copy_from_slice(&digest);
    datagram[36..38].fill(0);
    fill_checksum(&mut datagram[20..], src, dst);
    datagram
}

/// Whether the host signed a datagram to the peer; its flags and options.
fn read(datagram: &[u8]) -> (bool, u8, String) {
    let h = TcpHeader::parse(&datagram[20..]).unwrap();
    let good = verifies(&datagram[20..], SECRET, IpAddr::V4(HERE), IpAddr::V4(THERE));
    (good, h.flags().bits() as u8 & 31, h.options().to_string())
}

fn answer(host: &Host, datagram: &[u8]) -> Vec<(bool, u8)> {
    host.bench.inject(datagram).iter().map(|d| read(d)).map(|(good, flags, _)| (good, flags)).collect()
}

/// A listener with a key, and a connection of the peer that has the same.
fn connection(options: &[u8]) -> (Host, crate::tcp::peer_test::Conn) {
    let host = Host::new(8);
    set_key(&host.listener, SECRET);
    let syn = Seg { options: options.to_vec(), ..Seg::new(4000, SYN, ISS, 0) };
    let synack = host.bench.inject(&signed(&syn, SECRET));
    assert_eq!(synack.len(), 1);
    assert!(read(&synack[0]).0);
    let (seq, ack) = (ISS.wrapping_add(1), TcpHeader::parse(&synack[0][20..]).unwrap().seq().0.wrapping_add(1));
    assert!(host.bench.inject(&signed(&Seg::new(4000, ACK, seq, ack), SECRET)).is_empty());
    let (socket, _) = host.listener.accept().unwrap();
    socket.set_nonblocking(true);
    (host, crate::tcp::peer_test::Conn { socket, port: 4000, seq, ack })
}

#[test]
fn a_listener_with_a_key_answers_only_what_is_signed_with_it() {
    let host = Host::new(8);
    set_key(&host.listener, SECRET);
    let syn = Seg { options: SYN_OPTIONS.to_vec(), ..Seg::new(4000, SYN, ISS, 0) };
    let mib = |m| host.bench.stack.mib.get(m);
    assert!(answer(&host, &syn.bytes()).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5NotFound), 1);
    assert!(answer(&host, &signed(&syn, b"another")).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5Failure), 1);
    assert_eq!(answer(&host, &signed(&syn, SECRET)), [(true, SYN | ACK)]);
    // Segments for the request: unsigned ones are dropped, what is not acceptable draws a signed answer.
    assert!(answer(&host, &Seg::new(4000, RST, ISS.wrapping_add(1), 0).bytes()).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5NotFound), 2);
    let beyond = Seg::new(4000, RST, ISS.wrapping_add(9), 0);
    assert_eq!(answer(&host, &signed(&beyond, SECRET)), [(true, ACK)]);
    let bad_ack = Seg::new(4000, ACK, ISS.wrapping_add(1), 77);
    assert_eq!(answer(&host, &signed(&bad_ack, SECRET)), [(true, RST)]);
    // Other peers need no signature, and may have none.
    let stranger = Seg { src: Ipv4Addr::new(10, 0, 0, 9), ..syn.clone() };
    assert_eq!(answer(&host, &stranger.bytes()), [(false, SYN | ACK)]);
    assert!(answer(&host, &signed(&Seg { sport: 4001, ..stranger }, SECRET)).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5Unexpected), 1);
    let drops = host.listener.sock().drops.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(drops, 4);
}

#[test]
fn timestamps_give_way_to_sack_blocks_beside_a_signature() {
    let with_ts = [SYN_OPTIONS, &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0]].concat();
    let (_host, c) = connection(&SYN_OPTIONS[..12]);
    assert!(!c.tcb(|tp| tp.rx_opt.tstamp_ok));
    assert_eq!(c.tcb(|tp| (tp.tcp_header_len, tp.mss_cache)), (40, 1440));
    // 20 bytes of signature, 12 of the others: 8 are left, too few for timestamps, which the peer's SYN still had.
    let host = Host::new(8);
    set_key(&host.listener, SECRET);
    let syn = |options: &[u8]| Seg { options: options.to_vec(), ..Seg::new(4000, SYN, ISS, 0) };
    let synack = host.bench.inject(&signed(&syn(&with_ts[12..]), SECRET));
    assert_eq!(read(&synack[0]).2.matches("TS").count(), 1, "no SACK: timestamps fit");
    let host = Host::new(8);
    set_key(&host.listener, SECRET);
    let sack_and_ts = [1, 1, 4, 2, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0];
    let synack = host.bench.inject(&signed(&syn(&sack_and_ts), SECRET));
    let (good, _, options) = read(&synack[0]);
    assert!(good && options.contains("sackOK") && !options.contains("TS"), "{options}");
}

#[test]
fn a_connection_signs_all_it_sends_and_drops_what_is_not_signed() {
    let (host, mut c) = connection(SYN_OPTIONS);
    let mib = |m| host.bench.stack.mib.get(m);
    let good = Seg { data: b"hello".to_vec(), ..c.seg(ACK | PSH) };
    assert!(answer(&host, &good.bytes()).is_empty());
    assert_eq!((mib(Mib::TcpExtTCPMD5NotFound), c.recv(9)), (1, Err(Error::Again)));
    assert!(answer(&host, &signed(&good, b"another")).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5Failure), 1);
    let mut altered = signed(&good, SECRET);
    *altered.last_mut().unwrap() ^= 1;
    altered[36..38].fill(0);
    fill_checksum(&mut altered[20..], IpAddr::V4(THERE), IpAddr::V4(HERE));
    assert!(answer(&host, &altered).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5Failure), 2);
    assert_eq!(answer(&host, &signed(&good, SECRET)), [(true, ACK)]);
    assert_eq!(c.recv(9), Ok(5));
    c.seq = c.seq.wrapping_add(5);
    // A forged reset, exact in sequence, is no more than another unsigned segment.
    assert!(answer(&host, &c.seg(RST).bytes()).is_empty());
    assert_eq!(c.state(), State::Established);
    // What is sent in one call leaves as segments of their own.
    host.bench.inject(&signed(&Seg { window: 10_000, ..c.seg(ACK) }, SECRET));
    c.send(4_000).unwrap();
    let sent = host.bench.poll();
    let lens: Vec<usize> = sent.iter().map(|d| TcpHeader::parse(&d[20..]).unwrap().payload().len()).collect();
    assert!(sent.iter().all(|d| read(d).0));
    assert_eq!(lens, [1440, 1440, 1120]);
    // So does what is sent again.
    let again = host.bench.advance(Duration::from_secs(2));
    assert!(!again.is_empty() && again.iter().all(|d| read(d).0));
    // The key outlives the listener's, and one of two ends without it hears nothing.
    host.listener.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &md5sig(THERE, b"")).unwrap();
    let ack = c.ack.wrapping_add(4_000);
    host.bench.inject(&signed(&Seg { ack, ..c.seg(ACK) }, SECRET));
    assert_eq!(c.tcb(|tp| tp.packets_out), 0);
    c.socket.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &md5sig(THERE, b"")).unwrap();
    assert!(answer(&host, &signed(&Seg { ack, ..c.seg(ACK | FIN) }, SECRET)).is_empty());
    assert_eq!(mib(Mib::TcpExtTCPMD5Unexpected), 1);
    assert_eq!(c.state(), State::Established);
}

#[test]
fn a_time_wait_record_signs_its_acknowledgement() {
    let (host, c) = connection(SYN_OPTIONS);
    c.socket.shutdown(libc::SHUT_WR).unwrap();
    let fin = host.bench.poll();
    assert_eq!(read(&fin[0]).1, FIN | ACK);
    let ack = c.ack.wrapping_add(1);
    assert_eq!(answer(&host, &signed(&Seg { ack, ..c.seg(ACK | FIN) }, SECRET)), [(true, ACK)]);
    host.bench.advance(Duration::from_secs(2));
    assert_eq!(answer(&host, &signed(&Seg { ack, ..c.seg(ACK | FIN) }, SECRET)), [(true, ACK)]);
}

#[test]
fn a_signed_segment_of_a_lost_connection_draws_a_signed_reset_if_a_listener_has_its_key() {
    let host = Host::new(8);
    let lost = Seg { dport: 999, ..Seg::new(PORT, ACK, ISS, 77) };
    assert_eq!(answer(&host, &lost.bytes()), [(false, RST)]);
    assert!(answer(&host, &signed(&lost, SECRET)).is_empty(), "the listener has no key");
    set_key(&host.listener, SECRET);
    assert_eq!(answer(&host, &signed(&lost, SECRET)), [(true, RST)]);
    assert!(answer(&host, &signed(&lost, b"another")).is_empty());
    assert!(answer(&host, &signed(&Seg { sport: 81, ..lost.clone() }, SECRET)).is_empty(), "no listener");
    assert_eq!(answer(&host, &lost.bytes()), [(false, RST)]);
}

#[test]
fn an_active_open_offers_no_timestamps_and_takes_only_a_signed_answer() {
    let host = Host::new(8);
    let s = crate::inet::Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    set_key(&s, SECRET);
    let peer = std::net::SocketAddr::new(IpAddr::V4(THERE), 4000);
    assert_eq!(s.connect(Some(peer)), Err(Error::InProgress));
    let syn = host.bench.poll();
    let (good, flags, options) = read(&syn[0]);
    assert!(good && flags == SYN && options.contains("sackOK") && !options.contains("TS"), "{options}");
    let h = TcpHeader::parse(&syn[0][20..]).unwrap();
    let (port, nxt) = (h.src_port(), h.seq().0.wrapping_add(1));
    let synack = Seg { dport: port, options: SYN_OPTIONS.to_vec(), ..Seg::new(4000, SYN | ACK, ISS, nxt) };
    assert!(answer(&host, &synack.bytes()).is_empty());
    assert_eq!(host.bench.stack.mib.get(Mib::TcpExtTCPMD5NotFound), 1);
    assert_eq!(answer(&host, &signed(&synack, SECRET)), [(true, ACK)]);
    assert_eq!(s.sock().state(), State::Established);
    // The key stays for the next connection of the same socket.
    s.connect(None).unwrap();
    host.bench.poll();
    assert_eq!(s.connect(Some(peer)), Err(Error::InProgress));
    assert!(read(&host.bench.poll()[0]).0);
}

#[test]
fn keys_are_charged_to_option_memory() {
    let host = Host::new(8);
    host.bench.stack.sysctl.set("net.core.optmem_max", "273").unwrap();
    let set = |n: u8, secret: &[u8]| {
        host.listener.setsockopt(libc::IPPROTO_TCP, opt::MD5SIG, &md5sig(Ipv4Addr::new(10, 0, 0, n), secret))
    };
    assert_eq!((set(1, b"a"), set(2, b"a"), set(3, b"a")), (Ok(()), Ok(()), Err(Error::NoMem)));
    assert_eq!(set(2, b"b"), Ok(()), "another secret takes no more");
    assert_eq!((set(1, b""), set(3, b"a")), (Ok(()), Ok(())));
}

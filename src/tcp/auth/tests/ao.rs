//! TCP-AO on the wire: a host, and a peer made by hand that signs by itself.

use super::super::ao::{Context, Form, Mkt};
use super::super::inbound::{AoHeader, Found, parse_auth_options};
use super::super::mac::Alg;
use super::keys::keys;
use super::{received, same};
use crate::base::env::Duration;
use crate::base::error::{Error, Result};
use crate::counters::{DropReason, Mib};
use crate::inet::Socket;
use crate::sock::state::State;
use crate::tcp::peer_test::{ACK, Conn, FIN, HERE, Host, ISS, PORT, PSH, RST, SYN, SYN_OPTIONS, Seg, THERE};
use crate::tcp::sockopt::opt;
use crate::wire::addr::Cidr;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{HEADER_LEN, TcpHeader, fill_checksum};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub(super) const SECRET: &[u8] = b"secret of two";
/// KeyIDs as the host has them: it sends with the first and receives with the second.
pub(super) const FIRST: (u8, u8) = (100, 101);
pub(super) const SECOND: (u8, u8) = (200, 201);

/// struct tcp_ao_add, with HMAC-SHA-1-96.
#[derive(Clone)]
pub(super) struct Add(pub Vec<u8>);

impl Add {
    pub(super) fn new(peer: Ipv4Addr, prefix: u8, (sndid, rcvid): (u8, u8)) -> Add {
        let mut v = vec![0; 288];
        v[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        v[4..8].copy_from_slice(&peer.octets());
        v[202..208].copy_from_slice(&[prefix, sndid, rcvid, 0, 0, SECRET.len() as u8]);
        v[208..208 + SECRET.len()].copy_from_slice(SECRET);
        Add(v).alg("hmac(sha1)")
    }

    pub(super) fn alg(self, name: &str) -> Add {
        let name = [name.as_bytes(), &vec![0; 64 - name.len()]].concat();
        self.at(128, &name)
    }

    /// The same with other bytes at an offset.
    pub(super) fn at(mut self, at: usize, bytes: &[u8]) -> Add {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn flags(self, flags: u8) -> Add {
        self.at(206, &[flags])
    }

    pub(super) fn maclen(self, len: u8) -> Add {
        self.at(205, &[len])
    }

    pub(super) fn bits(self, bits: u32) -> Add {
        self.at(196, &bits.to_ne_bytes())
    }

    pub(super) fn to(&self, s: &Socket) -> Result<()> {
        s.setsockopt(libc::IPPROTO_TCP, opt::AO_ADD_KEY, &self.0)
    }
}

pub(super) fn add_key(s: &Socket, ids: (u8, u8)) {
    Add::new(THERE, 32, ids).to(s).unwrap();
}

/// TCP_AO_DEL_KEY, with struct tcp_ao_del.
pub(super) fn del(s: &Socket, (sndid, rcvid): (u8, u8), bits: u32, (current, rnext): (u8, u8)) -> Result<()> {
    let mut v = vec![0; 144];
    v[..8].copy_from_slice(&Add::new(THERE, 32, FIRST).0[..8]);
    v[132..136].copy_from_slice(&bits.to_ne_bytes());
    v[138..143].copy_from_slice(&[32, sndid, rcvid, current, rnext]);
    s.setsockopt(libc::IPPROTO_TCP, opt::AO_DEL_KEY, &v)
}

/// struct tcp_ao_info_opt: bits, then the keys by id.
pub(super) fn set_info(s: &Socket, bits: u32, current: u8, rnext: u8) -> Result<()> {
    let mut v = vec![0; 48];
    v[..4].copy_from_slice(&bits.to_ne_bytes());
    (v[6], v[7]) = (current, rnext);
    s.setsockopt(libc::IPPROTO_TCP, opt::AO_INFO, &v)
}

/// What TCP_AO_INFO says: bits, current and next key; segments that were good, bad, with an unknown key, unsigned; ICMP
/// errors dropped.
pub(super) fn info(s: &Socket) -> (u32, (u8, u8), [u64; 5]) {
    let mut v = [0; 48];
    assert_eq!(s.getsockopt(libc::IPPROTO_TCP, opt::AO_INFO, &mut v), Ok(48));
    let n = |i: usize| u64::from_ne_bytes(v[8 + 8 * i..][..8].try_into().unwrap());
    (u32::from_ne_bytes(v[..4].try_into().unwrap()), (v[6], v[7]), [n(0), n(1), n(2), n(3), n(4)])
}

/// The peer's end of a connection.
#[derive(Clone)]
pub(super) struct Peer {
    pub port: u16,
    pub host_port: u16,
    pub isn: u32,
    pub host_isn: u32,
    /// KeyID and RNextKeyID of what it sends.
    pub keyid: u8,
    pub rnext: u8,
    pub secret: Vec<u8>,
    pub form: Form,
    /// Upper halves of its numbers and of the host's.
    pub sne: u32,
    pub host_sne: u32,
}

impl Peer {
    pub(super) fn new(port: u16, (host_snd, host_rcv): (u8, u8)) -> Peer {
        let form = Form { alg: Alg::HmacSha1, maclen: 12, exclude_opt: false };
        let (keyid, rnext, secret) = (host_rcv, host_snd, SECRET.to_vec());
        let (host_port, isn, host_isn, sne, host_sne) = (PORT, ISS, 0, 0, 0);
        Peer { port, host_port, isn, host_isn, keyid, rnext, secret, form, sne, host_sne }
    }

    fn mac(&self, segment: &[u8], at: usize, received_from_host: bool, sne: u32) -> Vec<u8> {
        let skb = received(segment);
        let mkt = Mkt::new(Cidr::host(IpAddr::V4(HERE)), (0, 0), self.form, self.secret.clone());
        let (src, dst) = (IpAddr::V4(THERE), IpAddr::V4(HERE));
        let (sisn, disn) = (SeqNum(self.isn), SeqNum(self.host_isn));
        let c = Context { src, dst, sport: self.port, dport: self.host_port, sisn, disn };
        let mut c = if received_from_host { c.reversed() } else { c };
        let flags = segment[13];
        if flags & (SYN | ACK) == SYN {
            c.disn = SeqNum(0);
        }
        let key = mkt.traffic_key(&c);
        let mac = self.form.hash_skb(&key, &skb, skb.tcp.header_len(), HEADER_LEN + at, sne, (c.src, c.dst));
        mac.bytes()[..usize::from(self.form.maclen)].to_vec()
    }

    /// A segment as an IPv4 datagram, with its signature in front of its options.
    pub(super) fn sign(&self, seg: &Seg) -> Vec<u8> {
        let maclen = usize::from(self.form.maclen);
        let mut options = vec![29, 4 + self.form.maclen, self.keyid, self.rnext];
        options.resize(4 + maclen, 0);
        options.resize(options.len().next_multiple_of(4), 1);
        options.extend(&seg.options);
        let mut datagram = Seg { options, ..seg.clone() }.bytes();
        let mac = self.mac(&datagram[20..], 4, false, self.sne);
        datagram[44..44 + maclen].copy_from_slice(&mac);
        checksum(&mut datagram);
        datagram
    }

    /// Whether the host signed a datagram: its KeyID and RNextKeyID; None: it did not, or wrongly.
    pub(super) fn verify(&self, datagram: &[u8]) -> Option<(u8, u8)> {
        let segment = &datagram[20..];
        let h = option(segment)?;
        let mac = self.mac(segment, h.at, true, self.host_sne);
        same(&segment[HEADER_LEN + h.at..][..h.maclen], &mac).then_some((h.keyid, h.rnext))
    }

    pub(super) fn seg(&self, flags: u8, seq: u32, ack: u32) -> Seg {
        Seg { dport: self.host_port, ..Seg::new(self.port, flags, seq, ack) }
    }
}

fn checksum(datagram: &mut [u8]) {
    datagram[36..38].fill(0);
    let src: [u8; 4] = datagram[12..16].try_into().unwrap();
    fill_checksum(&mut datagram[20..], IpAddr::V4(src.into()), IpAddr::V4(HERE));
}

fn option(segment: &[u8]) -> Option<AoHeader> {
    match parse_auth_options(crate::tcp::rcv::option_bytes(&received(segment))) {
        Ok(Found::Ao(h)) => Some(h),
        _ => None,
    }
}

pub(super) fn flags_of(datagram: &[u8]) -> u8 {
    datagram[33] & 31
}

/// What the host answers to a datagram: KeyIDs where the signature is right, flags.
pub(super) fn answer(host: &Host, peer: &Peer, datagram: &[u8]) -> Vec<(Option<(u8, u8)>, u8)> {
    host.bench.inject(datagram).iter().map(|d| (peer.verify(d), flags_of(d))).collect()
}

pub(super) fn mibs<const N: usize>(host: &Host, mibs: [Mib; N]) -> [u64; N] {
    mibs.map(|m| host.bench.stack.mib.get(m))
}

fn drops(host: &Host, reason: DropReason) -> u64 {
    host.bench.stack.mib.drops(reason)
}

/// SYN and SYN-ACK with a listener of the host that has the key.
pub(super) fn request(host: &Host, peer: &mut Peer, options: &[u8]) -> Vec<u8> {
    let syn = Seg { options: options.to_vec(), ..peer.seg(SYN, ISS, 0) };
    let synack = host.bench.inject(&peer.sign(&syn));
    assert_eq!(synack.len(), 1);
    peer.host_isn = TcpHeader::parse(&synack[0][20..]).unwrap().seq().0;
    synack[0].clone()
}

/// A connection of the host's listener, which has the keys.
pub(super) fn open(host: &Host, peer: &mut Peer, options: &[u8]) -> Conn {
    let synack = request(host, peer, options);
    assert_eq!(peer.verify(&synack), Some((peer.rnext, peer.keyid)));
    let (seq, ack) = (ISS.wrapping_add(1), peer.host_isn.wrapping_add(1));
    assert!(host.bench.inject(&peer.sign(&peer.seg(ACK, seq, ack))).is_empty());
    let (socket, _) = host.listener.accept().unwrap();
    socket.set_nonblocking(true);
    Conn { socket, port: peer.port, seq, ack }
}

pub(super) fn connection() -> (Host, Peer, Conn) {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    let c = open(&host, &mut peer, SYN_OPTIONS);
    (host, peer, c)
}

pub(super) fn data(c: &Conn, text: &[u8]) -> Seg {
    Seg { data: text.to_vec(), ..c.seg(ACK | PSH) }
}

#[test]
fn a_listener_with_a_key_answers_only_what_is_signed_with_it() {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    let syn = Seg { options: SYN_OPTIONS.to_vec(), ..peer.seg(SYN, ISS, 0) };
    assert!(answer(&host, &peer, &syn.bytes()).is_empty());
    assert_eq!((mibs(&host, [Mib::TcpExtTCPAORequired]), drops(&host, DropReason::TcpAoNotFound)), ([1], 1));
    let unknown = Peer { keyid: 9, ..peer.clone() };
    assert!(answer(&host, &peer, &unknown.sign(&syn)).is_empty());
    assert_eq!((mibs(&host, [Mib::TcpExtTCPAOKeyNotFound]), drops(&host, DropReason::TcpAoKeyNotFound)), ([1], 1));
    let wrong = Peer { secret: b"secret of three".to_vec(), ..peer.clone() };
    assert!(answer(&host, &peer, &wrong.sign(&syn)).is_empty());
    assert_eq!((mibs(&host, [Mib::TcpExtTCPAOBad]), drops(&host, DropReason::TcpAoFailure)), ([1], 1));
    let short = Peer { form: Form { maclen: 8, ..peer.form }, ..peer.clone() };
    assert!(answer(&host, &peer, &short.sign(&syn)).is_empty(), "another length of the MAC");
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOBad, Mib::TcpExtTCPAOGood]), [2, 0]);
    assert_eq!(info(&host.listener), (0, (0, 0), [0, 2, 1, 1, 0]));
    let synack = request(&host, &mut peer, SYN_OPTIONS);
    assert_eq!((peer.verify(&synack), flags_of(&synack)), (Some(FIRST), SYN | ACK));
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOGood]), [1]);
    // Other peers need no signature, and none of theirs is known.
    let stranger = Seg { src: Ipv4Addr::new(10, 0, 0, 9), ..syn.clone() };
    assert_eq!(answer(&host, &peer, &stranger.bytes()), [(None, SYN | ACK)]);
    assert!(answer(&host, &peer, &peer.sign(&Seg { sport: 4001, ..stranger })).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOKeyNotFound]), [2]);
    // Nor is any where there never was a key.
    del(&host.listener, FIRST, 0, (0, 0)).unwrap();
    let none = Host::new(8);
    assert!(answer(&none, &peer, &peer.sign(&syn)).is_empty());
    assert_eq!(drops(&none, DropReason::TcpAoUnexpected), 1);
}

#[test]
fn a_request_signs_its_answers_and_stays_signed() {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    request(&host, &mut peer, SYN_OPTIONS);
    let (seq, ack) = (ISS.wrapping_add(1), peer.host_isn.wrapping_add(1));
    assert!(answer(&host, &peer, &peer.seg(RST, seq, 0).bytes()).is_empty());
    assert_eq!((mibs(&host, [Mib::TcpExtTCPAOBad]), drops(&host, DropReason::TcpAoFailure)), ([1], 1));
    let beyond = peer.seg(RST, seq.wrapping_add(9), 0);
    assert_eq!(answer(&host, &peer, &peer.sign(&beyond)), [(Some(FIRST), ACK)], "a challenge");
    let bad_ack = peer.seg(ACK, seq, ack.wrapping_add(77));
    assert_eq!(answer(&host, &peer, &peer.sign(&bad_ack)), [(Some(FIRST), RST)]);
    let again = host.bench.advance(Duration::from_secs(2));
    assert_eq!(again.iter().map(|d| peer.verify(d)).collect::<Vec<_>>(), [Some(FIRST)], "the SYN-ACK again");
    // Without its key there is no SYN-ACK any more, and no connection.
    del(&host.listener, FIRST, 0, (0, 0)).unwrap();
    assert!(host.bench.advance(Duration::from_secs(3)).is_empty());
    assert!(answer(&host, &peer, &peer.sign(&peer.seg(ACK, seq, ack))).is_empty());
    assert_eq!(host.listener.accept().err(), Some(Error::Again));
    // A segment of a connection that nobody knows is not answered: who would sign?
    add_key(&host.listener, FIRST);
    let lost = Peer { host_isn: 7, ..Peer::new(4002, FIRST) };
    assert!(answer(&host, &lost, &lost.sign(&lost.seg(ACK, seq, 8))).is_empty());
    assert_eq!(answer(&host, &lost, &Seg { dport: 81, ..lost.seg(ACK, seq, 8) }.bytes()), [(None, RST)]);
    assert!(answer(&host, &lost, &lost.sign(&Seg { dport: 81, ..lost.seg(ACK, seq, 8) })).is_empty());
}

#[test]
fn a_connection_signs_all_it_sends_and_drops_what_is_not_signed() {
    let (host, peer, mut c) = connection();
    assert!(answer(&host, &peer, &data(&c, b"hello").bytes()).is_empty());
    assert_eq!((mibs(&host, [Mib::TcpExtTCPAORequired]), c.recv(9)), ([1], Err(Error::Again)));
    let mut altered = peer.sign(&data(&c, b"hello"));
    *altered.last_mut().unwrap() ^= 1;
    checksum(&mut altered);
    assert!(answer(&host, &peer, &altered).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOBad]), [1]);
    assert_eq!(answer(&host, &peer, &peer.sign(&data(&c, b"hello"))), [(Some(FIRST), ACK)]);
    assert_eq!(c.recv(9), Ok(5));
    c.seq = c.seq.wrapping_add(5);
    assert!(answer(&host, &peer, &c.seg(RST).bytes()).is_empty());
    assert_eq!(c.state(), State::Established, "a forged reset is one more unsigned segment");
    // The third segment of the handshake was the listener's to count.
    assert_eq!(info(&c.socket), (3, FIRST, [1, 1, 0, 2, 0]));
    // What is sent in one call leaves as segments of their own, and so does what is sent again.
    assert_eq!(c.tcb(|tp| (tp.tcp_header_len, tp.mss_cache)), (36, 1444));
    host.bench.inject(&peer.sign(&Seg { window: 10_000, ..c.seg(ACK) }));
    c.send(4_000).unwrap();
    let sent = host.bench.poll();
    let lens: Vec<usize> = sent.iter().map(|d| TcpHeader::parse(&d[20..]).unwrap().payload().len()).collect();
    assert!(sent.iter().all(|d| peer.verify(d).is_some()));
    assert_eq!(lens, [1444, 1444, 1112]);
    let again = host.bench.advance(Duration::from_secs(2));
    assert!(!again.is_empty() && again.iter().all(|d| peer.verify(d).is_some()));
    // A reset of ours is signed: data after the program has closed.
    let ack = c.ack.wrapping_add(4_000);
    host.bench.inject(&peer.sign(&Seg { ack, ..c.seg(ACK) }));
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    c.socket.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    drop(c);
    let reset = host.bench.poll();
    assert_eq!(reset.iter().map(|d| (peer.verify(d), flags_of(d) & RST)).collect::<Vec<_>>(), [(Some(FIRST), RST)]);
}

/// What the host answers to a byte of the peer.
fn exchange(host: &Host, c: &mut Conn, peer: &Peer) -> Vec<(Option<(u8, u8)>, u8)> {
    let got = answer(host, peer, &peer.sign(&data(c, b"x")));
    c.seq = c.seq.wrapping_add(u32::from(!got.is_empty()));
    got
}

#[test]
fn keys_roll_over_as_either_end_asks() {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    add_key(&host.listener, SECOND);
    let mut peer = Peer::new(4000, FIRST);
    let mut c = open(&host, &mut peer, SYN_OPTIONS);
    assert_eq!(exchange(&host, &mut c, &peer), [(Some((100, 101)), ACK)]);
    // The peer is ready to receive by the second key: the host sends with it from then on.
    peer.rnext = SECOND.0;
    assert_eq!(exchange(&host, &mut c, &peer), [(Some((200, 101)), ACK)]);
    // An id that the host does not have changes nothing.
    peer.rnext = 77;
    assert_eq!(exchange(&host, &mut c, &peer), [(Some((200, 101)), ACK)]);
    peer.rnext = SECOND.0;
    // The program asks for the second key: segments say so, and the first is still good.
    set_info(&c.socket, 2, 0, SECOND.1).unwrap();
    assert_eq!(exchange(&host, &mut c, &peer), [(Some((200, 201)), ACK)]);
    peer.keyid = SECOND.1;
    assert_eq!(exchange(&host, &mut c, &peer), [(Some((200, 201)), ACK)]);
    assert_eq!(info(&c.socket), (3, SECOND, [5, 0, 0, 0, 0]));
    // Keys in use stay; the other goes, and what is signed with it is of an unknown key.
    assert_eq!(del(&c.socket, SECOND, 0, (0, 0)), Err(Error::Busy));
    assert_eq!(del(&c.socket, SECOND, 3, (9, 9)), Err(Error::NoEnt));
    assert_eq!(del(&c.socket, FIRST, 3, (100, 101)), Err(Error::NoEnt), "the one that is to be in use");
    assert_eq!(del(&c.socket, FIRST, 4, (0, 0)), Err(Error::Inval), "only listeners delete at once");
    assert_eq!(del(&c.socket, FIRST, 0, (0, 0)), Ok(()));
    assert_eq!(del(&c.socket, FIRST, 0, (0, 0)), Err(Error::NoEnt));
    assert_eq!(exchange(&host, &mut c, &Peer { keyid: FIRST.1, ..peer.clone() }), []);
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOKeyNotFound]), [1]);
    // A key that is added to the connection is ready at once, and may be chosen with the deletion of the last.
    add_key(&c.socket, FIRST);
    assert_eq!(del(&c.socket, SECOND, 3, FIRST), Ok(()));
    let first = Peer { keyid: FIRST.1, rnext: FIRST.0, ..peer };
    assert_eq!(exchange(&host, &mut c, &first), [(Some(FIRST), ACK)]);
    assert_eq!(del(&host.listener, FIRST, 4, (0, 0)), Ok(()), "a listener has no key in use");
}

#[test]
fn the_extension_of_sequence_numbers_goes_on_across_the_wrap() {
    // ISS is 256 below the wrap.
    let (host, mut peer, mut c) = connection();
    let chunk = |c: &Conn| data(c, &[7; 200]);
    assert_eq!(answer(&host, &peer, &peer.sign(&chunk(&c))).len(), 1);
    c.seq = c.seq.wrapping_add(200);
    assert_eq!(answer(&host, &peer, &peer.sign(&chunk(&c))).len(), 1, "it begins before the wrap");
    c.seq = c.seq.wrapping_add(200);
    assert!(c.seq < 1_000);
    assert!(answer(&host, &peer, &peer.sign(&chunk(&c))).is_empty(), "as if it were 2^32 earlier");
    peer.sne = 1;
    assert_eq!(answer(&host, &peer, &peer.sign(&chunk(&c))).len(), 1);
    // What is from before the wrap has the extension of before.
    let old = Seg { seq: ISS.wrapping_add(1), ..chunk(&c) };
    assert!(answer(&host, &peer, &peer.sign(&old)).is_empty());
    peer.sne = 0;
    assert_eq!(answer(&host, &peer, &peer.sign(&old)), [(Some(FIRST), ACK)]);
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAOBad]), [2]);
}

/// Destination unreachable, about a segment of the host's that begins at `seq`.
fn icmp(port: u16, seq: u32, code: u8, mtu: u16) -> Vec<u8> {
    let mut quoted = Seg { src: HERE, dst: THERE, sport: PORT, dport: port, ..Seg::new(PORT, ACK, seq, 0) }.bytes();
    quoted.truncate(28);
    let mut m = [&[3, code, 0, 0, 0, 0][..], &mtu.to_be_bytes(), &quoted].concat();
    let sum = crate::wire::checksum::finish(crate::wire::checksum::sum(&m, 0));
    m[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut datagram = Seg::new(port, ACK, 0, 0).bytes();
    datagram.truncate(20);
    // The header of a datagram of this length, of ICMP.
    datagram[2..4].copy_from_slice(&(20 + m.len() as u16).to_be_bytes());
    (datagram[9], datagram[10], datagram[11]) = (1, 0, 0);
    let sum = crate::wire::checksum::finish(crate::wire::checksum::sum(&datagram, 0));
    datagram[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram.extend(m);
    datagram
}

#[test]
fn hard_icmp_errors_are_ignored_unless_the_program_accepts_them() {
    let (host, _peer, c) = connection();
    c.send(1_444).unwrap();
    host.bench.poll();
    for code in [2, 3, 4] {
        host.bench.inject(&icmp(4000, c.tcb(|tp| tp.snd_una.0), code, 600));
    }
    assert_eq!((c.tcb(|tp| tp.mss_cache), mibs(&host, [Mib::TcpExtTCPAODroppedIcmps])), (1_444, [3]));
    // Others are soft.
    host.bench.inject(&icmp(4000, c.tcb(|tp| tp.snd_una.0), 1, 0));
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAODroppedIcmps]), [3]);
    assert_eq!(info(&c.socket).2[4], 3);
    set_info(&c.socket, 16, 0, 0).unwrap();
    host.bench.inject(&icmp(4000, c.tcb(|tp| tp.snd_una.0), 4, 600));
    assert_eq!(c.tcb(|tp| tp.mss_cache), 600 - 20 - 36);
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAODroppedIcmps]), [3]);
}

#[test]
fn a_key_may_leave_the_other_options_out_of_the_mac() {
    for (flags, free) in [(0, false), (2, true)] {
        let host = Host::new(8);
        Add::new(THERE, 32, FIRST).flags(flags).to(&host.listener).unwrap();
        let mut peer = Peer::new(4000, FIRST);
        peer.form.exclude_opt = free;
        let syn = Seg { options: SYN_OPTIONS.to_vec(), ..peer.seg(SYN, ISS, 0) };
        let mut datagram = peer.sign(&syn);
        // The MSS, which a middlebox makes less.
        datagram[20 + 20 + 16 + 3] ^= 1;
        checksum(&mut datagram);
        assert_eq!(host.bench.inject(&datagram).len(), usize::from(free), "{flags}");
    }
}

#[test]
fn the_room_for_other_options_is_what_the_mac_leaves() {
    // As Linux: no timestamps beside SACK in a SYN-ACK; with a short MAC blocks fit beside timestamps.
    let with_ts = [&[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0][..], &[2, 4, 5, 0xb4]].concat();
    for (maclen, header) in [(1, 28 + 12), (4, 28 + 12), (12, 36 + 12), (16, 40 + 12)] {
        let host = Host::new(8);
        Add::new(THERE, 32, FIRST).maclen(maclen).to(&host.listener).unwrap();
        let mut peer = Peer::new(4000, FIRST);
        peer.form.maclen = maclen;
        let c = open(&host, &mut peer, &with_ts);
        assert_eq!(c.tcb(|tp| tp.tcp_header_len), header, "{maclen}");
    }
    let host = Host::new(8);
    let too_long = |n: u8| Add::new(THERE, 32, FIRST).alg("hmac(sha256)").maclen(n).to(&host.listener);
    assert_eq!((too_long(17), too_long(16)), (Err(Error::MsgSize), Ok(())));
}

#[test]
fn a_time_wait_record_signs_with_the_key_that_is_asked_for() {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    add_key(&host.listener, SECOND);
    let mut peer = Peer::new(4000, FIRST);
    let mut c = open(&host, &mut peer, SYN_OPTIONS);
    c.socket.shutdown(libc::SHUT_WR).unwrap();
    let fin = host.bench.poll();
    assert_eq!((flags_of(&fin[0]), peer.verify(&fin[0])), (FIN | ACK, Some(FIRST)));
    c.ack = c.ack.wrapping_add(1);
    let fin = peer.sign(&c.seg(ACK | FIN));
    assert_eq!(answer(&host, &peer, &fin), [(Some(FIRST), ACK)]);
    host.bench.advance(Duration::from_secs(2));
    assert_eq!(answer(&host, &peer, &fin), [(Some(FIRST), ACK)]);
    host.bench.advance(Duration::from_secs(2));
    peer.rnext = SECOND.0;
    assert_eq!(answer(&host, &peer, &peer.sign(&c.seg(ACK | FIN))), [(Some((200, 101)), ACK)]);
}

#[test]
fn the_record_of_a_closed_socket_signs_its_reset() {
    let (host, mut peer, mut c) = connection();
    c.ack = c.ack.wrapping_add(1);
    let (ack, late) = (c.seg(ACK), data(&c, b"late"));
    drop(c);
    assert_eq!(host.bench.poll().iter().map(|d| peer.verify(d)).collect::<Vec<_>>(), [Some(FIRST)], "the FIN");
    assert!(answer(&host, &peer, &peer.sign(&ack)).is_empty());
    // Data for a record in FIN-WAIT-2 draws a reset; nobody could sign one with a key that is not there.
    let good = peer.clone();
    peer.rnext = 77;
    assert!(answer(&host, &good, &peer.sign(&late)).is_empty());
    let (host, peer, mut c) = connection();
    c.ack = c.ack.wrapping_add(1);
    let (ack, late) = (c.seg(ACK), data(&c, b"late"));
    drop(c);
    host.bench.poll();
    host.bench.inject(&peer.sign(&ack));
    host.bench.inject(&icmp(4000, ack.ack, 3, 0));
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAODroppedIcmps]), [1]);
    assert_eq!(answer(&host, &peer, &peer.sign(&late)), [(Some(FIRST), RST)]);
}

#[test]
fn an_active_open_takes_only_a_signed_answer() {
    let host = Host::new(8);
    let s = Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    add_key(&s, FIRST);
    Add::new(Ipv4Addr::new(10, 0, 0, 77), 32, (3, 4)).to(&s).unwrap();
    let to = SocketAddr::new(IpAddr::V4(THERE), 4000);
    assert_eq!(s.connect(Some(to)), Err(Error::InProgress));
    let syn = host.bench.poll();
    let h = TcpHeader::parse(&syn[0][20..]).unwrap();
    let mut peer = Peer { host_port: h.src_port(), host_isn: h.seq().0, ..Peer::new(4000, FIRST) };
    assert_eq!((peer.verify(&syn[0]), flags_of(&syn[0])), (Some(FIRST), SYN));
    assert_eq!(keys(&s), [FIRST], "those of other peers are gone");
    let nxt = peer.host_isn.wrapping_add(1);
    let synack = Seg { options: SYN_OPTIONS.to_vec(), ..peer.seg(SYN | ACK, ISS, nxt) };
    assert!(answer(&host, &peer, &synack.bytes()).is_empty());
    assert_eq!(answer(&host, &peer, &peer.sign(&synack)), [(Some(FIRST), ACK)]);
    assert_eq!(s.sock().state(), State::Established);
    // Another connection of the same socket has traffic keys of its own.
    s.connect(None).unwrap();
    host.bench.poll();
    assert_eq!(s.connect(Some(to)), Err(Error::InProgress));
    let syn = host.bench.poll();
    let h = TcpHeader::parse(&syn[0][20..]).unwrap();
    (peer.host_port, peer.host_isn) = (h.src_port(), h.seq().0);
    assert_eq!(peer.verify(&syn[0]), Some(FIRST));
    // The peer's SYN crosses: both ends know both numbers then.
    let crossed = answer(&host, &peer, &peer.sign(&peer.seg(SYN, ISS, 0)));
    assert_eq!(crossed, [(Some(FIRST), SYN | ACK)]);
    let ack = peer.seg(SYN | ACK, ISS, peer.host_isn.wrapping_add(1));
    answer(&host, &peer, &peer.sign(&ack));
    assert_eq!(s.sock().state(), State::Established);
}

#[test]
fn a_syn_without_a_key_for_its_peer_does_not_leave() {
    let host = Host::new(8);
    let s = Socket::new(&host.bench.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    s.set_nonblocking(true);
    Add::new(Ipv4Addr::new(10, 0, 0, 77), 32, FIRST).to(&s).unwrap();
    let to = SocketAddr::new(IpAddr::V4(THERE), 4000);
    assert_eq!(s.connect(Some(to)), Err(Error::KeyRejected));
    assert!(host.bench.poll().is_empty());
    assert_eq!(keys(&s), [FIRST], "a failed attempt takes no key away");
    // A key of all peers is one of this peer.
    Add::new(Ipv4Addr::UNSPECIFIED, 0, SECOND).to(&s).unwrap();
    assert_eq!(s.connect(Some(to)), Err(Error::InProgress));
}

#[test]
fn the_extension_counts_every_wrap_of_a_long_connection() {
    let (host, mut peer, mut c) = connection();
    let mut total = u64::from(c.seq);
    for _ in 0..9 {
        // As if the peer had sent 2^30 bytes, which the program has read.
        total += 1 << 30;
        c.seq = total as u32;
        {
            let mut g = c.socket.sock().lock(c.socket.stack());
            let tp = g.private.downcast_mut::<crate::tcp::tcb::TcpSock>().unwrap();
            (tp.rcv_nxt, tp.copied_seq, tp.rcv_wup) = (SeqNum(c.seq), SeqNum(c.seq), SeqNum(c.seq));
        }
        peer.sne = (total >> 32) as u32;
        assert_eq!(exchange(&host, &mut c, &peer).len(), 1, "{total:#x}");
        total += 1;
        c.recv(9).unwrap();
    }
    assert_eq!((peer.sne, mibs(&host, [Mib::TcpExtTCPAOBad])), (3, [0]));
}

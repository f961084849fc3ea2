//! SYN cookies and Fast Open together with signatures, of either kind.

use super::ao::{FIRST, Peer, add_key, answer, flags_of, info, mibs};
use super::{SECRET, received, set_key, signed};
use crate::counters::Mib;
use crate::sock::state::State;
use crate::tcp::peer_test::{ACK, Conn, Host, ISS, PSH, RST, SYN, Seg};
use crate::wire::tcp::TcpHeader;
use crate::wire::tcp_options::TcpOptions;

/// MSS, SACK and timestamps, and a window scale of 7: beside TCP-AO there is room for all of them.
const ALL: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];

/// The second segment of a SYN's handshake with a listener that answers with cookies: its number and its timestamp.
fn cookie_answer(host: &Host, syn: &[u8]) -> (Vec<u8>, u32, Option<u32>) {
    host.bench.stack.sysctl.set("net.ipv4.tcp_syncookies", "2").unwrap();
    let sent = host.bench.inject(syn);
    assert_eq!((sent.len(), flags_of(&sent[0])), (1, SYN | ACK));
    let h = TcpHeader::parse(&sent[0][20..]).unwrap();
    let stamp = TcpOptions::parse(crate::tcp::rcv::option_bytes(&received(&sent[0][20..]))).timestamps.map(|t| t.0);
    (sent[0].clone(), h.seq().0, stamp)
}

fn stamps(ours: Option<u32>) -> Vec<u8> {
    ours.map_or(vec![], |t| [&[1, 1, 8, 10, 0, 0, 0, 10][..], &t.to_be_bytes()].concat())
}

fn accepted(host: &Host, isn: u32) -> Conn {
    let (socket, _) = host.listener.accept().unwrap();
    Conn { socket, port: 4000, seq: ISS.wrapping_add(1), ack: isn.wrapping_add(1) }
}

#[test]
fn a_cookie_is_signed_and_brings_a_signed_connection_back() {
    let host = Host::new(8);
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    let syn = Seg { options: ALL.to_vec(), ..peer.seg(SYN, ISS, 0) };
    let (synack, isn, stamp) = cookie_answer(&host, &peer.sign(&syn));
    peer.host_isn = isn;
    assert_eq!(peer.verify(&synack), Some(FIRST));
    let ack = Seg { options: stamps(stamp), ..peer.seg(ACK, ISS.wrapping_add(1), isn.wrapping_add(1)) };
    // Unsigned, or signed for other numbers: no connection.
    assert!(answer(&host, &peer, &ack.bytes()).is_empty());
    assert!(answer(&host, &peer, &Peer { host_isn: isn ^ 1, ..peer.clone() }.sign(&ack)).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtTCPAORequired, Mib::TcpExtTCPAOBad, Mib::TcpExtSyncookiesRecv]), [1, 1, 0]);
    assert!(answer(&host, &peer, &peer.sign(&ack)).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtSyncookiesRecv]), [1]);
    let c = accepted(&host, isn);
    // What the timestamp remembers is there: the peer scales its window.
    assert!(c.tcb(|tp| tp.rx_opt.sack_ok != 0 && tp.rx_opt.wscale_ok));
    let data = Seg { options: stamps(stamp), data: b"x".to_vec(), ..c.seg(ACK | PSH) };
    assert_eq!(answer(&host, &peer, &peer.sign(&data)), [(Some(FIRST), ACK)]);
    assert_eq!(info(&c.socket).1, FIRST);
}

#[test]
fn a_cookie_of_a_listener_with_md5_is_signed_and_its_connection_keeps_the_key() {
    let host = Host::new(8);
    set_key(&host.listener, SECRET);
    // 20 bytes of signature, MSS, timestamps: no more fits.
    let options = [&ALL[..4], &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0]].concat();
    let (synack, isn, stamp) = cookie_answer(&host, &signed(&Seg { options, ..Seg::new(4000, SYN, ISS, 0) }, SECRET));
    assert!(super::read(&synack).0);
    let ack = Seg { options: stamps(stamp), ..Seg::new(4000, ACK, ISS.wrapping_add(1), isn.wrapping_add(1)) };
    assert!(host.bench.inject(&ack.bytes()).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtTCPMD5NotFound, Mib::TcpExtSyncookiesRecv]), [1, 0]);
    assert!(host.bench.inject(&signed(&ack, SECRET)).is_empty());
    assert_eq!(mibs(&host, [Mib::TcpExtSyncookiesRecv]), [1]);
    let c = accepted(&host, isn);
    let data = Seg { options: stamps(stamp), data: b"x".to_vec(), ..c.seg(ACK | PSH) };
    assert!(host.bench.inject(&data.bytes()).is_empty());
    let answers = host.bench.inject(&signed(&data, SECRET));
    assert_eq!((answers.len(), super::read(&answers[0]).0), (1, true));
}

/// A listener with Fast Open, and the option that has the peer's cookie.
fn fast() -> (Host, Vec<u8>) {
    let host = Host::new(128);
    host.bench.stack.sysctl.set("net.ipv4.tcp_fastopen", "3").unwrap();
    host.listener.setsockopt(libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &3i32.to_ne_bytes()).unwrap();
    let asked = Seg { options: vec![2, 4, 5, 0xb4, 34, 2, 1, 1], ..Seg::new(3999, SYN, ISS, 0) };
    let answer = host.bench.inject(&asked.bytes());
    let options = &answer[0][40..];
    let at = (0..options.len()).find(|at| options[*at..].starts_with(&[34, 10])).unwrap();
    let cookie = options[at + 2..at + 10].to_vec();
    let option = [&[2, 4, 5, 0xb4, 34, 2 + cookie.len() as u8][..], &cookie, &[1, 1]].concat();
    (host, option)
}

#[test]
fn the_child_of_a_fast_open_syn_is_signed_from_its_syn_ack_on() {
    let (host, options) = fast();
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    let syn = Seg { options, data: vec![9; 10], ..peer.seg(SYN, ISS, 0) };
    assert!(host.bench.inject(&syn.bytes()).is_empty(), "unsigned");
    let sent = host.bench.inject(&peer.sign(&syn));
    let h = TcpHeader::parse(&sent[0][20..]).unwrap();
    assert_eq!(h.ack().0, ISS.wrapping_add(11), "the data is taken");
    peer.host_isn = h.seq().0;
    assert_eq!((peer.verify(&sent[0]), flags_of(&sent[0])), (Some(FIRST), SYN | ACK));
    let (socket, _) = host.listener.accept().unwrap();
    socket.set_nonblocking(true);
    let c = Conn { socket, port: 4000, seq: ISS.wrapping_add(11), ack: peer.host_isn.wrapping_add(1) };
    assert_eq!((c.state(), c.recv(20)), (State::SynRecv, Ok(10)));
    c.send(20).unwrap();
    assert_eq!(host.bench.poll().iter().map(|d| peer.verify(d)).collect::<Vec<_>>(), [Some(FIRST)]);
    // A reset is of the connection only if it is signed with its numbers.
    assert!(host.bench.inject(&c.seg(RST).bytes()).is_empty());
    assert_eq!(c.state(), State::SynRecv);
    host.bench.inject(&peer.sign(&c.seg(ACK)));
    assert_eq!(c.state(), State::Established);
    host.bench.inject(&peer.sign(&c.seg(RST)));
    assert_eq!(c.state(), State::Close);
}

#[test]
fn a_signed_reset_ends_the_child_of_a_fast_open_syn() {
    let (host, options) = fast();
    add_key(&host.listener, FIRST);
    let mut peer = Peer::new(4000, FIRST);
    let sent = host.bench.inject(&peer.sign(&Seg { options, data: vec![9; 10], ..peer.seg(SYN, ISS, 0) }));
    peer.host_isn = TcpHeader::parse(&sent[0][20..]).unwrap().seq().0;
    let (socket, _) = host.listener.accept().unwrap();
    let c = Conn { socket, port: 4000, seq: ISS.wrapping_add(11), ack: peer.host_isn.wrapping_add(1) };
    host.bench.inject(&peer.sign(&c.seg(RST)));
    assert_eq!((c.state(), mibs(&host, [Mib::TcpExtTCPAOBad])), (State::Close, [0]));
}

#[test]
fn the_child_of_a_fast_open_syn_with_md5_is_signed_from_its_syn_ack_on() {
    let (host, options) = fast();
    set_key(&host.listener, SECRET);
    // Beside the signature there is room for the cookie and the MSS.
    let syn = Seg { options, data: vec![9; 10], ..Seg::new(4000, SYN, ISS, 0) };
    assert!(host.bench.inject(&syn.bytes()).is_empty(), "unsigned");
    let sent = host.bench.inject(&signed(&syn, SECRET));
    let h = TcpHeader::parse(&sent[0][20..]).unwrap();
    assert_eq!((h.ack().0, super::read(&sent[0]).0), (ISS.wrapping_add(11), true));
    let (socket, _) = host.listener.accept().unwrap();
    socket.set_nonblocking(true);
    let c = Conn { socket, port: 4000, seq: ISS.wrapping_add(11), ack: h.seq().0.wrapping_add(1) };
    c.send(20).unwrap();
    assert!(host.bench.poll().iter().all(|d| super::read(d).0));
    host.bench.inject(&c.seg(ACK).bytes());
    assert_eq!(c.state(), State::SynRecv);
    host.bench.inject(&signed(&c.seg(ACK), SECRET));
    assert_eq!(c.state(), State::Established);
}

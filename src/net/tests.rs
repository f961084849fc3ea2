//! Tests of the Rust API, on the in-memory loopback. None depends on timing.

use super::*;
use std::io::{ErrorKind, Read, Write};
use std::thread;

fn stack() -> Arc<Stack> {
    config::build("").unwrap()
}

fn pair(stack: &Arc<Stack>) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_on(stack, "127.0.0.1:0").unwrap();
    let client = TcpStream::connect_on(stack, listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
    (client, server)
}

#[test]
fn a_megabyte_each_way_at_once_arrives_byte_for_byte() {
    let stack = stack();
    let (a, b) = pair(&stack);
    let pattern = |salt: u32| -> Vec<u8> {
        (0..1_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13 ^ salt) as u8).collect()
    };
    let (ab, ba) = (pattern(1), pattern(2));
    let read_all = |mut s: &TcpStream| {
        let mut got = Vec::new();
        s.read_to_end(&mut got).unwrap();
        got
    };
    let write_all = |mut s: &TcpStream, data: &[u8]| {
        s.write_all(data).unwrap();
        s.shutdown(Shutdown::Write).unwrap();
    };
    thread::scope(|t| {
        t.spawn(|| write_all(&a, &ab));
        t.spawn(|| write_all(&b, &ba));
        let got = t.spawn(|| read_all(&a));
        assert!(read_all(&b) == ab);
        assert!(got.join().unwrap() == ba);
    });
}

#[test]
fn data_of_a_syn_is_read_as_any_other() {
    let stack = config::build("sysctl.net.ipv4.tcp_fastopen=3").unwrap();
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap();
    listener.set_fastopen(8).unwrap();
    let addr = listener.local_addr().unwrap();
    // The first asks for a cookie, the second has it.
    for in_syn in [0, 1] {
        let (client, taken) = TcpStream::connect_with_on(&stack, addr, b"request").unwrap();
        assert_eq!(taken, 7);
        let (mut server, _) = listener.accept().unwrap();
        let mut got = [0; 7];
        server.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"request");
        assert_eq!(stack.mib.get(crate::counters::Mib::TcpExtTCPFastOpenPassive), in_syn);
        drop(client);
    }
    stack.sysctl.set("net.ipv4.tcp_fastopen", "2").unwrap();
    let refused = TcpStream::connect_with_on(&stack, addr, b"request").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[test]
fn ipv6_works_as_ipv4_does_and_a_mapped_peer_is_shown_mapped() {
    let stack = stack();
    let listener = TcpListener::bind_on(&stack, "[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for (to, shown) in [("[::1]", "[::1]"), ("127.0.0.1", "[::ffff:127.0.0.1]")] {
        let client = TcpStream::connect_on(&stack, format!("{to}:{port}")).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.to_string(), format!("{shown}:{}", client.local_addr().unwrap().port()));
    }
}

#[test]
fn errors_carry_the_errno_of_linux() {
    let stack = stack();
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let errno = |r: io::Result<()>| r.unwrap_err().raw_os_error().unwrap();
    assert_eq!(errno(TcpListener::bind_on(&stack, addr).map(drop)), libc::EADDRINUSE);
    assert_eq!(errno(TcpListener::bind_on(&stack, "192.0.2.1:80").map(drop)), libc::EADDRNOTAVAIL);
    drop(listener);
    assert_eq!(errno(TcpStream::connect_on(&stack, addr).map(drop)), libc::ECONNREFUSED);
    assert_eq!(errno(TcpStream::connect_on(&stack, "192.0.2.1:80").map(drop)), libc::ENETUNREACH);
    let (mut a, b) = pair(&stack);
    a.shutdown(Shutdown::Write).unwrap();
    assert_eq!(errno(a.write(b"x").map(drop)), libc::EPIPE);
    b.set_nonblocking(true).unwrap();
    let mut byte = [0];
    assert_eq!((&b).read(&mut byte).unwrap(), 0);
    a.set_nonblocking(true).unwrap();
    assert_eq!(a.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
    let none: &[SocketAddr] = &[];
    assert_eq!(TcpStream::connect_on(&stack, none).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn options_read_back_as_set() {
    let stack = stack();
    let (a, _b) = pair(&stack);
    assert!(!a.nodelay().unwrap());
    a.set_nodelay(true).unwrap();
    assert!(a.nodelay().unwrap());
    assert_eq!(a.ttl().unwrap(), 64);
    a.set_ttl(9).unwrap();
    assert_eq!(a.ttl().unwrap(), 9);
    assert_eq!(a.set_ttl(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(a.read_timeout().unwrap(), None);
    let t = Some(Duration::new(2, 500_000_000));
    a.set_read_timeout(t).unwrap();
    assert_eq!((a.read_timeout().unwrap(), a.write_timeout().unwrap()), (t, None));
    assert_eq!(a.set_write_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    a.set_read_timeout(None).unwrap();
    assert_eq!(a.read_timeout().unwrap(), None);
    assert!(a.take_error().unwrap().is_none());
}

#[test]
fn a_read_with_a_timeout_fails_with_would_block_and_loses_nothing() {
    let stack = stack();
    let (mut a, mut b) = pair(&stack);
    a.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut buf = [0; 8];
    assert_eq!(a.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    b.write_all(b"late").unwrap();
    assert_eq!(a.peek(&mut buf).unwrap(), 4);
    assert_eq!(a.read(&mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"late");
}

#[test]
fn a_clone_is_the_same_socket_and_the_last_one_closes_it() {
    let stack = stack();
    let (a, mut b) = pair(&stack);
    let c = a.try_clone().unwrap();
    drop(a);
    (&c).write_all(b"still").unwrap();
    let mut buf = [0; 8];
    assert_eq!(b.read(&mut buf).unwrap(), 5);
    drop(c);
    assert_eq!(b.read(&mut buf).unwrap(), 0);
}

#[test]
fn datagrams_keep_their_bounds_and_a_connected_socket_hears_only_its_peer() {
    let stack = stack();
    let bind = || UdpSocket::bind_on(&stack, "127.0.0.1:0").unwrap();
    let (a, b, stranger) = (bind(), bind(), bind());
    let mut buf = [0; 64];
    a.send_to(b"one", b.local_addr().unwrap()).unwrap();
    a.send_to(b"", b.local_addr().unwrap()).unwrap();
    a.send_to(b"three", b.local_addr().unwrap()).unwrap();
    assert_eq!(b.peek_from(&mut buf).unwrap(), (3, a.local_addr().unwrap()));
    let lens = [(); 3].map(|()| b.recv_from(&mut buf).unwrap().0);
    assert_eq!(lens, [3, 0, 5]);
    b.connect(a.local_addr().unwrap()).unwrap();
    stranger.send_to(b"psst", b.local_addr().unwrap()).unwrap();
    b.set_nonblocking(true).unwrap();
    assert_eq!(b.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    b.send(b"back").unwrap();
    assert_eq!(a.recv_from(&mut buf).unwrap(), (4, b.local_addr().unwrap()));
    assert_eq!(stranger.send(b"x").unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    assert!(!b.broadcast().unwrap());
    b.set_broadcast(true).unwrap();
    assert!(b.broadcast().unwrap());
}

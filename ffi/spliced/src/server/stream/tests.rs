use super::down::STAGED;
use super::up::largest_packet;
use super::*;
use crate::sys;
use std::net::Ipv4Addr;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use usersock::config::Config;
use usersock::net::{TcpListener, TcpStream};

/// A stream with an end, the program's descriptor, and the connection with its peer.
fn established() -> (Stream, UnixStream, TcpStream, TcpStream) {
    let stack = Config::parse("").unwrap().build().unwrap();
    let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
    let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    let (program, server) = UnixStream::pair().unwrap();
    let mut stream = Stream::idle();
    stream.attach(Owned::new(server.into_raw_fd())).unwrap();
    (stream, program, c, peer)
}

/// As the loop does, with the answer of a ring.
fn send(stream: &mut Stream) -> Option<sys::Result<usize>> {
    let (fd, bytes) = stream.staged()?;
    let sent = sys::send(fd, bytes, libc::MSG_DONTWAIT);
    Some(sent)
}

#[test]
fn bytes_that_are_staged_come_in_order_and_before_the_end() {
    use std::io::{Read, Write};
    let (mut stream, mut program, c, mut peer) = established();
    let few = &mut [0; crate::server::end::LOOK];
    peer.write_all(b"one").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert_eq!(stream.staged().map(|(_, bytes)| bytes), Some(&b"one"[..]));
    // More comes before they are sent.
    peer.write_all(b" two").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert_eq!(stream.staged().map(|(_, bytes)| bytes), Some(&b"one two"[..]));
    let answer = send(&mut stream);
    assert!(stream.sent(answer) && stream.staged().is_none());
    // Nothing was sent: the next turn does.
    peer.write_all(b" three").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert!(stream.staged().is_some() && !stream.sent(None));
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
    assert!(stream.staged().is_none() && stream.down.is_empty());
    // Much is not for staging, nor what the end follows.
    peer.write_all(&[b'.'; STAGED + 1]).unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert!(stream.staged().is_none());
    peer.write_all(b"end").unwrap();
    drop(peer);
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert!(stream.staged().is_none() && stream.down_ended);
    let mut got = Vec::new();
    program.read_to_end(&mut got).unwrap();
    assert!(got == [&b"one two three"[..], &[b'.'; STAGED + 1], b"end"].concat());
}

#[test]
fn the_answer_to_staged_bytes_is_as_that_of_a_write() {
    use std::io::Write;
    let few = &mut [0; crate::server::end::LOOK];
    // The program closes with something unread, which the kernel tells once.
    let (mut stream, program, c, mut peer) = established();
    let (fd, _) = stream.end().map(|end| (end.fd().raw(), ())).unwrap();
    sys::send(fd, b"unread", 0).unwrap();
    peer.write_all(b"late").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    drop(program);
    let answer = send(&mut stream);
    assert!(matches!(answer, Some(Err(_))) && !stream.sent(answer));
    stream.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Reset);
    // And has written before, which the kernel tells of later.
    let (mut stream, mut program, c, mut peer) = established();
    let (fd, _) = stream.end().map(|end| (end.fd().raw(), ())).unwrap();
    sys::send(fd, b"unread", 0).unwrap();
    peer.write_all(b"late").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    program.write_all(b"answer").unwrap();
    drop(program);
    let answer = send(&mut stream);
    assert!(matches!(answer, Some(Err(_))) && !stream.sent(answer));
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Reset);
    peer.set_nonblocking(true).unwrap();
    std::io::Read::read_exact(&mut peer, &mut few[..6]).unwrap();
    assert_eq!(&few[..6], b"answer");
    // An error of the connection waits until the bytes before it are with the program.
    let (mut stream, program, c, mut peer) = established();
    peer.write_all(b"last").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    peer.socket().setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    drop(peer);
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    assert_eq!((stream.take_error(), stream.end().is_some()), (Some((Error::ConnReset, true)), false));
    let mut four = [0; 4];
    std::io::Read::read_exact(&mut &program, &mut four).unwrap();
    assert_eq!(&four, b"last");
}

/// Each as the program reads it: what is urgent in brackets.
fn all_of(program: &UnixStream) -> String {
    let (fd, mut all) = (std::os::fd::AsRawFd::as_raw_fd(program), String::new());
    loop {
        let mut byte = [0];
        if let Ok(1) = sys::recv(fd, &mut byte, libc::MSG_OOB | libc::MSG_DONTWAIT) {
            all.push_str(&format!("[{}]", char::from(byte[0])));
        }
        match sys::recv(fd, &mut byte, libc::MSG_DONTWAIT) {
            Ok(1) => all.push(byte[0].into()),
            Ok(_) => return all + ".",
            Err(_) => return all,
        }
    }
}

#[test]
fn what_a_peer_says_is_urgent_comes_once_and_the_end_behind_it() {
    use std::io::Write;
    let urgent = |peer: &TcpStream, bytes: &[u8]| super::up::send(peer.socket(), bytes, libc::MSG_OOB).unwrap();
    let few = &mut [0; crate::server::end::LOOK];
    let (mut stream, program, c, mut peer) = established();
    // As every socket of the server's.
    c.socket().setsockopt(libc::SOL_SOCKET, libc::SO_OOBINLINE, &1i32.to_ne_bytes()).unwrap();
    for (sent, got) in [(&b"abU"[..], "[U]ab"), (b"V", "[V]"), (b"W", "[W]")] {
        urgent(&peer, sent);
        assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
        assert_eq!(all_of(&program), got);
    }
    // In line an urgent byte is one of the stream, also the first of several that the server finds.
    sys::set_option(std::os::fd::AsRawFd::as_raw_fd(&program), libc::SO_OOBINLINE, 1).unwrap();
    for sent in [&b"a"[..], b"b", b"c"] {
        urgent(&peer, sent);
    }
    peer.write_all(b"Z").unwrap();
    assert_eq!(stream.turn(c.socket(), few, &mut None, true), Fate::Waits);
    stream.turn(c.socket(), few, &mut None, false);
    assert_eq!(all_of(&program), "abcZ");
    sys::set_option(std::os::fd::AsRawFd::as_raw_fd(&program), libc::SO_OOBINLINE, 0).unwrap();
    // A later one makes an earlier one a byte as others, and what follows is not urgent.
    urgent(&peer, b"aX");
    urgent(&peer, b"bY");
    peer.write_all(b"cd").unwrap();
    stream.turn(c.socket(), few, &mut None, true);
    stream.turn(c.socket(), few, &mut None, false);
    assert_eq!(all_of(&program), "[Y]aXbcd");
    // By RFC 793 the pointer is at the byte behind it, where the peer's end is.
    c.socket().stack().sysctl.set("net.ipv4.tcp_stdurg", "1").unwrap();
    urgent(&peer, b"Z");
    drop(peer);
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
    assert!(stream.down_ended);
    assert_eq!(all_of(&program), "Z.");
}

/// Whichever is noticed first, the bytes or the close.
#[test]
fn bytes_that_come_while_the_program_closes_make_it_a_reset() {
    use std::io::Write;
    let closed = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32;
    for told_first in [true, false] {
        let (mut stream, program, c, mut peer) = established();
        peer.write_all(b"too late").unwrap();
        drop(program);
        let few = &mut [0; crate::server::end::LOOK];
        if !told_first {
            assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
        }
        stream.epoll(closed);
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Reset, "{told_first}");
    }
}

/// Else a FIN would come before the reset of SO_LINGER.
#[test]
fn a_close_that_a_read_finds_before_epoll_tells_of_it_is_a_close() {
    let (mut stream, program, c, peer) = established();
    let few = &mut [0; crate::server::end::LOOK];
    drop(program);
    stream.epoll(libc::EPOLLIN as u32);
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Closed);
    assert!(!peer.socket().poll().intersects(Events::IN), "a FIN has come");
}

#[test]
fn what_comes_after_the_program_shut_down_reading_is_forgotten() {
    use std::io::Write;
    let (mut stream, program, c, mut peer) = established();
    program.shutdown(std::net::Shutdown::Read).unwrap();
    peer.write_all(b"unread").unwrap();
    let few = &mut [0; crate::server::end::LOOK];
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Again);
    assert!(stream.down.is_empty());
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
    // It may write still, and closes without a reset.
    stream.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
    drop(program);
    assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Closed);
}

/// Whenever the refusal comes: before the descriptor's other end, before its filler, in the middle of it, after it.
#[test]
fn a_refused_descriptor_says_so_after_its_whole_filler() {
    use std::io::{Read, Write};
    let stack = Config::parse("").unwrap().build().unwrap();
    let closed = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let few = &mut [0; crate::server::end::LOOK];
    for before in [None, Some(0), Some(1), Some(FILLER - 1), Some(FILLER)] {
        let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.set_nonblocking(true);
        let mut stream = Stream::connecting(false, None);
        let (mut program, server) = UnixStream::pair().unwrap();
        let mut server = Some(Owned::new(server.into_raw_fd()));
        if let Some(n) = before {
            stream.attach(server.take().unwrap()).unwrap();
            program.write_all(&[0; FILLER][..n]).unwrap();
        }
        assert_eq!(socket.connect(Some(closed)), Err(Error::InProgress));
        stack.run_pending();
        assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
        assert!(!stream.is_connecting());
        if let Some(server) = server {
            stream.attach(server).unwrap();
            assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
        }
        let mut missing = FILLER - before.unwrap_or(0);
        while missing > 0 {
            assert!(stream.end().is_some() && !stream.has_failed(), "its program has not filled it yet");
            let n = missing.min(FILLER / 2);
            program.write_all(&[0; FILLER][..n]).unwrap();
            missing -= n;
            stream.epoll(libc::EPOLLIN as u32);
            assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
        }
        assert!(stream.has_failed());
        assert_eq!(stream.take_error(), Some((Error::ConnRefused, true)));
        let error = program.read(&mut [0]).map_err(|e| e.kind());
        assert_eq!(error, Err(std::io::ErrorKind::ConnectionReset), "{before:?}");
    }
}

/// A program that ends in the middle of its filler.
#[test]
fn an_attempt_that_failed_does_not_wait_for_a_filler_that_nobody_sends() {
    use std::io::Write;
    let stack = Config::parse("").unwrap().build().unwrap();
    let closed = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let few = &mut [0; crate::server::end::LOOK];
    for shut in [false, true] {
        let socket = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
        socket.set_nonblocking(true);
        let mut stream = Stream::connecting(false, None);
        let (mut program, server) = UnixStream::pair().unwrap();
        stream.attach(Owned::new(server.into_raw_fd())).unwrap();
        program.write_all(&[0; FILLER / 2]).unwrap();
        assert_eq!(socket.connect(Some(closed)), Err(Error::InProgress));
        stack.run_pending();
        assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
        assert!(!stream.has_failed());
        let hup = if shut {
            program.shutdown(std::net::Shutdown::Write).unwrap();
            0
        } else {
            drop(program);
            libc::EPOLLHUP
        };
        stream.epoll((libc::EPOLLIN | libc::EPOLLRDHUP | hup) as u32);
        assert_eq!(stream.turn(&socket, few, &mut None, false), Fate::Waits);
        assert!(stream.has_failed(), "{shut}");
    }
}

#[test]
fn what_the_stack_has_no_room_for_waits_in_its_place() {
    use std::io::{Read, Write};
    let few = &mut [0; crate::server::end::LOOK];
    for urgent in [false, true] {
        let (mut stream, mut program, c, mut peer) = established();
        peer.socket().setsockopt(libc::SOL_SOCKET, libc::SO_OOBINLINE, &1i32.to_ne_bytes()).unwrap();
        let mut before = 0;
        while let Ok(n) = super::up::send(c.socket(), &[b'.'; 1 << 16], 0) {
            before += n;
        }
        if urgent {
            crate::client::send_urgent(std::os::fd::AsRawFd::as_raw_fd(&program), b'U').unwrap();
        } else {
            program.write_all(b"U").unwrap();
        }
        stream.epoll(libc::EPOLLIN as u32);
        assert_eq!(stream.turn(c.socket(), few, &mut None, false), Fate::Waits);
        program.write_all(b"after").unwrap();
        stream.epoll(libc::EPOLLIN as u32);
        let mut got = Vec::new();
        while got.len() < before + 6 {
            let mut part = [0; 1 << 16];
            let n = peer.read(&mut part).unwrap();
            got.extend_from_slice(&part[..n]);
            stream.turn(c.socket(), few, &mut None, false);
        }
        assert_eq!((&got[before..], got.len()), (&b"Uafter"[..], before + 6), "{urgent}");
    }
}

#[test]
fn in_bulk_packets_are_full_until_no_more_comes() {
    let stack = Config::parse("").unwrap().build().unwrap();
    let listener = TcpListener::bind_on(&stack, (Ipv4Addr::LOCALHOST, 0)).unwrap();
    let c = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
    let (_program, server) = UnixStream::pair().unwrap();
    let mut stream = Stream::idle();
    stream.attach(Owned::new(server.into_raw_fd())).unwrap();
    let packet = largest_packet(c.socket()).unwrap();
    assert!((16 << 10..=64 << 10).contains(&packet), "{packet}");
    for (len, ready) in [(0, 0), (10, 0), (packet, packet), (2 * packet + 10, 2 * packet)] {
        stream.up = Pages::default();
        stream.up.put(&vec![7; len]);
        stream.epoll(libc::EPOLLIN as u32);
        assert_eq!(stream.ready_up(c.socket()), ready, "{len}");
        stream.up_ended = true;
        assert_eq!(stream.ready_up(c.socket()), len, "its end was read");
        stream.up_ended = false;
        // The descriptor is empty.
        let end = stream.end.as_mut().unwrap();
        end.read(&mut [0; crate::server::end::LOOK], &mut Pages::default()).unwrap_err();
        assert_eq!(stream.ready_up(c.socket()), len, "nothing more comes");
    }
}

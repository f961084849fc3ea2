//! A server and its clients in one process, over the stack's loopback: the calls as the shim makes them, the data by
//! the kernel's own calls.

mod common;

use common::{Running, Socket};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use usersock::error::Error;
use usersock::internal::sock::{AF_INET, AF_INET6};
use usersock_ffi::ptr::sockaddr_bytes;
use usersock_spliced::client;
use usersock_spliced::sys;

/// Bytes that show loss, order and repetition.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

#[test]
fn bytes_go_both_ways_at_once_and_half_a_close_is_half_a_close() {
    let server = Running::new();
    let (c, a) = server.pair();
    assert_eq!(c.peer_addr(), Ok(a.local_addr()));
    assert_eq!(a.peer_addr(), Ok(c.local_addr()));
    let (up, down) = (pattern(5 << 20), pattern((7 << 20) + 1));
    thread::scope(|s| {
        s.spawn(|| {
            (&c.file).write_all(&up).unwrap();
            c.file.shutdown(Shutdown::Write).unwrap();
        });
        s.spawn(|| assert!(a.read_to_end().unwrap() == up, "the program's bytes"));
        s.spawn(|| {
            (&a.file).write_all(&down).unwrap();
            a.file.shutdown(Shutdown::Write).unwrap();
        });
        assert!(c.read_to_end().unwrap() == down, "the peer's bytes");
    });
}

#[test]
fn many_connections_have_their_bytes_with_io_uring_and_without() {
    for io_uring in [true, false] {
        let server = Running::with(io_uring);
        let pairs: Vec<_> = (0..40).map(|_| server.pair()).collect();
        // One whose program reads nothing for a while.
        let idle = &pairs[3];
        let flood = pattern(100_000);
        thread::scope(|s| {
            s.spawn(|| (0..20).for_each(|_| (&idle.0.file).write_all(&flood).unwrap()));
            for round in 0..50u8 {
                let others = || pairs.iter().enumerate().filter(|(i, _)| *i != 3);
                let bytes = |i: usize| pattern(1 + 7 * i).into_iter().map(|b| b ^ round).collect::<Vec<u8>>();
                others().for_each(|(i, (c, _))| (&c.file).write_all(&bytes(i)).unwrap());
                for (i, (_, a)) in others() {
                    let mut got = vec![0; 1 + 7 * i];
                    (&a.file).read_exact(&mut got).unwrap();
                    assert!(got == bytes(i), "connection {i}, round {round}, io_uring {io_uring}");
                }
            }
            for _ in 0..20 {
                let mut got = vec![0; flood.len()];
                (&idle.1.file).read_exact(&mut got).unwrap();
                assert!(got == flood, "io_uring {io_uring}");
            }
        });
    }
}

#[test]
fn the_end_of_a_stream_polls_as_a_tcp_sockets() {
    let server = Running::new();
    let (c, a) = server.pair();
    drop(a);
    while c.poll() & libc::POLLIN == 0 {
        thread::yield_now();
    }
    assert_eq!(c.poll(), libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP);
    assert_eq!(c.read_to_end().unwrap(), b"");
    // One write is taken, and answered by a reset.
    (&c.file).write_all(b"x").unwrap();
    while c.poll() & libc::POLLHUP == 0 {
        thread::yield_now();
    }
    assert_eq!((&c.file).write(b"y").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn a_refused_connection_says_so_whether_the_socket_waits_or_not() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let free = (Ipv4Addr::LOCALHOST, if addr.port() == 1024 { 1025 } else { addr.port() - 1 }).into();
    drop(listener);
    let c = server.socket(AF_INET);
    assert_eq!(c.connect(free), Err(Error::ConnRefused));
    let c = server.socket(AF_INET);
    c.file.set_nonblocking(true).unwrap();
    assert_eq!(c.connect(free), Err(Error::InProgress));
    let events = c.poll();
    assert_eq!(events, libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP | libc::POLLERR | libc::POLLHUP);
    assert_eq!((c.so_error(), c.so_error()), (Some(Error::ConnRefused), None));
}

#[test]
fn a_number_that_cannot_go_on_under_its_name_is_a_new_socket() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let duplicate = listener.file.try_clone().unwrap();
    client::shutdown(&server.instance, listener.fd, &listener.what, libc::SHUT_RD).unwrap();
    assert_eq!(listener.listen(4), Err(Error::ConnAborted));
    let new = client::ours(&server.instance, listener.fd).expect("a socket of the server's still");
    assert_ne!(new, listener.what);
    client::bind(&server.instance, &new, &sockaddr_bytes((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
    client::listen(&server.instance, listener.fd, &new, 4).unwrap();
    assert_ne!(client::local_addr(&server.instance, listener.fd, &new), Ok(addr));
    drop(duplicate);
}

#[test]
fn a_socket_whose_connect_failed_connects_again() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let other = server.socket(AF_INET);
    other.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    // A port where nobody listens.
    let free = other.local_addr();
    for nonblocking in [false, true] {
        let c = server.socket(AF_INET);
        c.set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).unwrap();
        c.set(libc::SOL_SOCKET, libc::SO_RCVLOWAT, 3).unwrap();
        c.file.set_nonblocking(nonblocking).unwrap();
        c.file.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
        for _ in 0..3 {
            let refused = c.connect(free);
            if nonblocking {
                assert_eq!(refused, Err(Error::InProgress));
                wait_for_hup(&c);
                assert_eq!(c.so_error(), Some(Error::ConnRefused));
                assert_eq!(c.connect(free), Err(Error::ConnAborted), "Linux says so once");
                assert_eq!(c.connect(free), Err(Error::InProgress));
                wait_for_hup(&c);
                assert_eq!(c.connect(free), Err(Error::ConnRefused), "what SO_ERROR has not told");
            } else {
                assert_eq!(refused, Err(Error::ConnRefused));
            }
        }
        let connected = c.connect(addr);
        assert_eq!(connected, if nonblocking { Err(Error::InProgress) } else { Ok(()) });
        assert_eq!(c.get(libc::SOL_SOCKET, libc::SO_RCVLOWAT), Ok(3));
        let (a, peer) = listener.accept();
        assert_eq!(sys::wait(c.fd, libc::POLLOUT), Ok(libc::POLLOUT));
        assert_eq!(peer, c.local_addr());
        (&c.file).write_all(b"again").unwrap();
        let mut bytes = [0; 5];
        (&a.file).read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"again");
        assert_eq!(c.get(libc::SOL_SOCKET, libc::SO_KEEPALIVE), Ok(1), "options stay");
        assert_eq!(c.file.read_timeout().unwrap(), Some(Duration::from_secs(7)));
        assert_eq!(sys::nonblocking(c.fd), Ok(nonblocking));
        assert_eq!(sys::cloexec(c.fd), Ok(true));
    }
}

#[test]
fn so_sndtimeo_limits_connect() {
    let server = Running::new();
    let c = server.socket(AF_INET);
    assert_eq!(client::connect_timeout(c.fd), -1, "it waits for ever");
    for (set, want) in [(Duration::from_millis(1500), 1500), (Duration::from_micros(300), 1), (Duration::MAX, i32::MAX)]
    {
        let tv_sec = i64::try_from(set.as_secs()).unwrap_or(i64::MAX / 1000);
        let timeout = libc::timeval { tv_sec, tv_usec: set.subsec_micros().into() };
        sys::set_timeout(c.fd, libc::SO_SNDTIMEO, timeout).unwrap();
        let got = client::connect_timeout(c.fd);
        // The kernel rounds to its own clock, and a time beyond it is for ever.
        assert!(got >= want && got <= want.saturating_add(4) || want == i32::MAX && got == -1, "{set:?}: {got}");
    }
}

#[test]
fn errors_that_need_no_packet_leave_the_socket_as_it_was() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let c = server.socket(AF_INET);
    assert_eq!(c.connect(SocketAddr::from((Ipv4Addr::new(10, 9, 8, 7), 80))), Err(Error::NetUnreach));
    assert_eq!(c.connect((Ipv6Addr::LOCALHOST, 80).into()), Err(Error::AfNoSupport));
    assert_eq!(c.peer_addr(), Err(Error::NotConn));
    assert_eq!(c.bind(addr), Err(Error::AddrInUse));
    c.connect(addr).unwrap();
    assert_eq!(c.connect(addr), Err(Error::IsConn));
    assert_eq!(listener.accept().1, c.local_addr());
}

#[test]
fn a_close_with_unread_data_and_a_linger_of_zero_reset() {
    let server = Running::new();
    let (c, a) = server.pair();
    // Unread at the peer: it has the byte, and does not take it.
    (&c.file).write_all(b"unread").unwrap();
    sys::wait(a.fd, libc::POLLIN).unwrap();
    drop(a);
    while c.poll() & libc::POLLHUP == 0 {
        thread::yield_now();
    }
    assert_eq!(c.so_error(), Some(Error::ConnReset));

    let (c, a) = server.pair();
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    client::set_option(&server.instance, a.fd, &a.what, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    drop(a);
    while c.poll() & libc::POLLHUP == 0 {
        thread::yield_now();
    }
    assert_eq!(c.so_error(), Some(Error::ConnReset));
}

#[test]
fn a_close_that_lingers_keeps_nobody_else_waiting() {
    let server = Running::new();
    let ping = || {
        let (d, b) = server.pair();
        (&d.file).write_all(b"ping").unwrap();
        (&b.file).read_exact(&mut [0; 4]).unwrap();
    };
    let (c, a) = server.pair();
    let linger = [1i32.to_ne_bytes(), 3600i32.to_ne_bytes()].concat();
    client::set_option(&server.instance, c.fd, &c.what, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    // As much as goes while the peer reads nothing, so that the FIN cannot leave.
    c.file.set_nonblocking(true).unwrap();
    let (chunk, mut sent) = (pattern(64 << 10), Vec::new());
    loop {
        let before = sent.len();
        while let Ok(n) = (&c.file).write(&chunk) {
            sent.extend_from_slice(&chunk[..n]);
        }
        if sent.len() == before {
            break;
        }
        ping();
    }
    drop(c);
    ping();
    assert!(a.read_to_end().unwrap() == sent);
}

/// Closes a descriptor so that its peer gets a RST.
fn reset(s: Socket<'_>) {
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    client::set_option(&s.server.instance, s.fd, &s.what, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
}

fn wait_for_hup(s: &Socket<'_>) {
    while s.poll() & libc::POLLHUP == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_reset_is_read_as_one_by_both_ends_after_the_bytes_before_it() {
    let server = Running::new();
    let echo = |from: &Socket<'_>, to: &Socket<'_>| {
        (&from.file).write_all(b"ping").unwrap();
        (&to.file).read_exact(&mut [0; 4]).unwrap();
    };
    // Nothing was sent; bytes went up, down, both ways; many.
    for traffic in 0..5 {
        for connected in [true, false] {
            let (c, a) = server.pair();
            let (survivor, other) = if connected { (c, a) } else { (a, c) };
            if traffic & 1 != 0 {
                echo(&survivor, &other);
            }
            if traffic & 2 != 0 {
                echo(&other, &survivor);
            }
            for _ in 0..if traffic == 4 { 100 } else { 0 } {
                echo(&survivor, &other);
            }
            (&other.file).write_all(b"last").unwrap();
            sys::wait(survivor.fd, libc::POLLIN).unwrap();
            reset(other);
            wait_for_hup(&survivor);
            let mut bytes = [0; 8];
            assert_eq!((&survivor.file).read(&mut bytes).unwrap(), 4, "traffic {traffic}");
            let error = (&survivor.file).read(&mut bytes).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET), "traffic {traffic}, connected {connected}");
            // Told once; then it is the end.
            assert_eq!(survivor.so_error(), None);
            assert_eq!((&survivor.file).read(&mut bytes).unwrap(), 0);
            assert_eq!(survivor.peer_addr(), Err(Error::NotConn));
        }
    }
}

#[test]
fn so_error_tells_of_a_reset_instead_of_a_read() {
    let server = Running::new();
    for connected in [true, false] {
        let (c, a) = server.pair();
        let (survivor, other) = if connected { (c, a) } else { (a, c) };
        reset(other);
        wait_for_hup(&survivor);
        assert_eq!(survivor.get(libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(0), "options are there still");
        assert_eq!((survivor.so_error(), survivor.so_error()), (Some(Error::ConnReset), None));
        assert_eq!(survivor.read_to_end().unwrap(), b"");
    }
}

#[test]
fn a_reset_after_the_end_of_the_stream_is_epipe() {
    let server = Running::new();
    let (c, a) = server.pair();
    a.file.shutdown(Shutdown::Write).unwrap();
    assert_eq!(c.read_to_end().unwrap(), b"");
    reset(a);
    wait_for_hup(&c);
    assert_eq!(c.read_to_end().unwrap(), b"");
    assert_eq!((c.so_error(), c.so_error()), (Some(Error::Pipe), None));
}

#[test]
fn a_program_that_accepts_by_itself_loses_no_byte() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let c = server.socket(AF_INET);
    c.connect(addr).unwrap();
    // As io_uring does: not through the shim, which would send the greeting.
    let fd = sys::accept(listener.fd, libc::SOCK_CLOEXEC).unwrap().into_raw();
    let a = Socket::of(&server, fd);
    for bytes in [&pattern(3)[..], &pattern(500_000)] {
        thread::scope(|s| {
            s.spawn(|| (&a.file).write_all(bytes).unwrap());
            let mut got = vec![0; bytes.len()];
            (&c.file).read_exact(&mut got).unwrap();
            assert!(got == bytes);
        });
    }
}

#[test]
fn unsent_bytes_are_counted_and_none_when_all_is_sent() {
    let server = Running::new();
    let (c, a) = server.pair();
    let outq = |s: &Socket<'_>| client::ioctl(&server.instance, &s.what, libc::TIOCOUTQ).unwrap();
    for s in [&c, &a] {
        (&s.file).write_all(b"some").unwrap();
    }
    for s in [&c, &a] {
        (&s.file).read_exact(&mut [0; 4]).unwrap();
        while outq(s) != 0 {
            thread::yield_now();
        }
    }
    // The peer does not read: what both stacks and the descriptors hold, no more.
    c.file.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let held = loop {
        match (&c.file).write(&[7; 100_000]) {
            Ok(n) => sent += n as i32,
            // What is on its way to the peer is counted no more once it is there.
            Err(_) if outq(&c) > 100_000 => break outq(&c),
            Err(_) => thread::yield_now(),
        }
    };
    assert!(held <= sent, "{held} of {sent}");
}

/// However many pieces the server reads at a time.
#[test]
fn a_program_that_writes_byte_by_byte_finds_its_socket_writable_again() {
    let server = Running::new();
    let (c, a) = server.pair();
    for _ in 0..5 {
        let mut sent = 0;
        while sent < 200 && (&c.file).write(&[7]).is_ok() {
            sent += 1;
        }
        (&a.file).read_exact(&mut vec![0; sent]).unwrap();
        assert_eq!(sys::wait(c.file.as_raw_fd(), libc::POLLOUT), Ok(libc::POLLOUT));
    }
}

#[test]
fn options_are_the_stacks_and_come_after_what_was_written_before() {
    let server = Running::new();
    let (c, a) = server.pair();
    assert_eq!(c.get(libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(0));
    c.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1).unwrap();
    assert_eq!(c.get(libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(1));
    assert_eq!(c.get(libc::SOL_SOCKET, libc::SO_DOMAIN), Ok(libc::AF_INET));
    assert_eq!(c.get(libc::SOL_SOCKET, libc::SO_PROTOCOL), Ok(libc::IPPROTO_TCP));
    assert_eq!(c.set(libc::IPPROTO_TCP, 9999, 1), Err(Error::NoProtoOpt));
    // The stack is not the program's alone.
    assert_eq!(c.set(libc::IPPROTO_TCP, libc::TCP_REPAIR, 1), Err(Error::Perm));
    // A corked socket holds back what was written while it was corked, and gives it when that ends.
    c.set(libc::IPPROTO_TCP, libc::TCP_CORK, 1).unwrap();
    (&c.file).write_all(b"head").unwrap();
    (&c.file).write_all(b"body").unwrap();
    c.set(libc::IPPROTO_TCP, libc::TCP_CORK, 0).unwrap();
    let mut bytes = [0; 8];
    (&a.file).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"headbody");
    assert_eq!(a.get(libc::IPPROTO_TCP, libc::TCP_CORK), Ok(0));
}

#[test]
fn options_of_an_accepted_connection_stand_among_its_bytes() {
    let server = Running::new();
    let (c, a) = server.pair();
    // More than the stack takes at once, so that what follows waits behind it.
    let mut sent = Vec::new();
    a.file.set_nonblocking(true).unwrap();
    for round in 0..50 {
        a.set(libc::IPPROTO_TCP, libc::TCP_CORK, 1).unwrap();
        let part = pattern(100_000 + round);
        let mut left = &part[..];
        while !left.is_empty() {
            match (&a.file).write(left) {
                Ok(n) => left = &left[n..],
                Err(_) => {
                    let mut some = vec![0; 1 << 20];
                    let n = (&c.file).read(&mut some).unwrap();
                    sent.extend_from_slice(&some[..n]);
                }
            }
        }
        a.set(libc::IPPROTO_TCP, libc::TCP_CORK, 0).unwrap();
    }
    drop(a);
    sent.extend(c.read_to_end().unwrap());
    let all: Vec<u8> = (0..50).flat_map(|round| pattern(100_000 + round)).collect();
    assert!(sent == all, "{} of {} bytes", sent.len(), all.len());
    let (_, a) = server.pair();
    for value in [1, 0, 1] {
        a.set(libc::IPPROTO_TCP, libc::TCP_NODELAY, value).unwrap();
        assert_eq!(a.get(libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(value));
    }
}

#[test]
fn a_port_is_free_when_its_last_descriptor_is_gone() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let other = server.socket(AF_INET);
    assert_eq!(other.bind(addr), Err(Error::AddrInUse));
    // A duplicate, as a forked child has one.
    let child = listener.file.try_clone().unwrap();
    drop(listener);
    assert_eq!(other.bind(addr), Err(Error::AddrInUse));
    drop(child);
    other.bind(addr).unwrap();
}

#[test]
fn a_listener_that_was_closed_refuses() {
    let server = Running::new();
    let (listener, addr) = server.listener();
    let child = listener.file.try_clone().unwrap();
    drop(listener);
    server.socket(AF_INET).connect(addr).unwrap();
    drop(child);
    // The first already, though the server has not been told.
    assert_eq!(server.socket(AF_INET).connect(addr), Err(Error::ConnRefused));
}

#[test]
fn both_families_and_v4_mapped_names() {
    let server = Running::new();
    let s = server.socket(AF_INET6);
    s.bind((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
    s.listen(4).unwrap();
    let port = s.local_addr().port();
    let c = server.socket(AF_INET);
    c.connect((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    let (a, peer) = s.accept();
    assert_eq!(peer.ip(), Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    assert_eq!(a.local_addr().ip(), Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let c = server.socket(AF_INET6);
    c.connect((Ipv6Addr::LOCALHOST, port).into()).unwrap();
    assert_eq!(s.accept().1, c.local_addr());
}

#[test]
fn a_full_queue_is_filled_again_when_the_program_accepts() {
    let server = Running::new();
    let s = server.socket(AF_INET);
    s.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    s.listen(0).unwrap();
    let addr = s.local_addr();
    let clients: Vec<_> = (0..8)
        .map(|i| {
            let c = server.socket(AF_INET);
            c.file.set_nonblocking(true).unwrap();
            assert_eq!(c.connect(addr), Err(Error::InProgress));
            // Of more at once the queue may have the first alone, and SYN cookies forget the others.
            if i < 3 {
                assert_eq!(sys::wait(c.fd, libc::POLLOUT), Ok(libc::POLLOUT));
            }
            c
        })
        .collect();
    let mut ports: Vec<u16> = clients.iter().map(|c| c.local_addr().port()).collect();
    let mut accepted: Vec<u16> = (0..3).map(|_| s.accept().1.port()).collect();
    accepted.sort_unstable();
    ports.sort_unstable();
    assert!(accepted.iter().all(|p| ports.contains(p)), "{accepted:?} of {ports:?}");
}

#[test]
fn rubbish_gets_no_answer_and_harms_nobody() {
    use usersock_spliced::name::Name;
    let server = Running::new();
    let (c, a) = server.pair();
    let connect = |ty, name: Name| {
        let fd = sys::socket(ty | libc::SOCK_CLOEXEC).unwrap();
        sys::connect(fd.raw(), &name.encode(&server.instance)).unwrap();
        fd
    };
    for message in [&b""[..], b"x", &[0; 64], &[0xff; 4000]] {
        let line = connect(libc::SOCK_SEQPACKET, Name::Requests);
        sys::send(line.raw(), message, 0).unwrap();
        assert_eq!(sys::recv(line.raw(), &mut [0; 8], 0), Ok(0), "{} bytes", message.len());
    }
    // A line without a request, and data of nobody.
    let _silent: Vec<_> = (0..100).map(|_| connect(libc::SOCK_SEQPACKET, Name::Requests)).collect();
    let nobody = connect(libc::SOCK_STREAM, Name::Data);
    assert_eq!(sys::recv(nobody.raw(), &mut [0; 8], 0), Ok(0));
    (&c.file).write_all(b"still").unwrap();
    let mut bytes = [0; 5];
    (&a.file).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still");
}

#[test]
fn nothing_is_left_of_closed_sockets_and_a_server_that_ends_ends_them() {
    let server = Running::new();
    for _ in 0..20 {
        let (c, a) = server.pair();
        (&c.file).write_all(b"x").unwrap();
        drop((c, a));
    }
    let fd = server.socket(AF_INET).file.into_raw_fd();
    // SAFETY: a stand-in for the descriptor in a program that outlives the server.
    let plain = unsafe { UnixStream::from_raw_fd(fd) };
    let (c, a) = server.pair();
    let (keep_c, keep_a) = (c.file.try_clone().unwrap(), a.file.try_clone().unwrap());
    drop((c, a));
    let instance = server.instance;
    let what = client::ours(&instance, fd).unwrap();
    // Listeners that are not swept yet, at most.
    server.end(4 + 2 * 20);
    for mut end in [keep_c, keep_a] {
        let mut bytes = Vec::new();
        assert!(matches!(end.read_to_end(&mut bytes), Ok(0)) || bytes.is_empty());
    }
    assert_eq!(client::local_addr(&instance, fd, &what), Err(Error::NetDown));
    drop(plain);
}

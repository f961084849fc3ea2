use super::*;
use crate::rpc::{Call, MAX_VALUE, Request};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use usersock::config::Config;
use usersock::internal::sock::AF_INET;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock_ffi::ptr;

/// A connection of `server`: the program's descriptor.
fn connection(server: &mut Server, id: u64, socket: Socket) -> UnixStream {
    let (program, end) = UnixStream::pair().unwrap();
    let mut stream = Stream::accepted(End::new(Owned::new(end.into_raw_fd())).unwrap(), &server.instance, 0);
    stream.epoll(libc::EPOLLIN as u32);
    let conn = Conn::new(id, AF_INET, socket, Role::Stream(Box::new(stream)), &server.ready);
    server.conns.insert(id, conn);
    program
}

#[test]
fn a_connection_that_is_looked_at_twice_in_a_turn_has_its_bytes_once() {
    let stack = Config::parse("").unwrap().build().unwrap();
    let socket = || Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let listener = socket();
    listener.listen(3).unwrap();
    let (driver, instance) = (Arc::new(EventLoop::new().unwrap()), Instance::new(sys::random().unwrap()));
    let mut server = Server::new(stack.clone(), driver, instance, true).unwrap();
    let mut programs = Vec::new();
    for id in [ACCEPTED + 3, ACCEPTED + 2, ACCEPTED + 1] {
        let c = socket();
        c.connect(Some((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()).into())).unwrap();
        let (peer, _) = listener.accept().unwrap();
        programs.push((connection(&mut server, id, c), peer, id as u8));
    }
    for with_ring in [true, false] {
        if !with_ring {
            server.ring = None;
        } else if server.ring.is_none() {
            println!("SKIP a_connection_that_is_looked_at_twice_in_a_turn_has_its_bytes_once: io_uring");
            continue;
        }
        for bytes in [b"one", b"two"] {
            for (_, peer, id) in &programs {
                let parts = [IoSlice::new(bytes), IoSlice::new(std::slice::from_ref(id))];
                peer.sendmsg(&mut SendMsg::new(&parts, 0)).unwrap();
                server.look_at(ACCEPTED + u64::from(*id), true);
            }
        }
        assert_eq!(server.staged.len(), 6);
        server.send_staged();
        assert_eq!((server.staged.len(), server.sent.len(), server.ring.is_some()), (0, 0, with_ring));
        for (program, _, id) in &mut programs {
            program.set_nonblocking(true).unwrap();
            let mut got = [0; 64];
            let n = program.read(&mut got).unwrap();
            assert_eq!(got[..n], [b'o', b'n', b'e', *id, b't', b'w', b'o', *id]);
            assert!(program.read(&mut got).is_err());
        }
    }
}

/// A listener of a program: its descriptor, which has room for one connection, and where it listens.
fn listener(server: &mut Server, id: u64) -> (Owned, SocketAddr) {
    let name = Name::Socket { id, family: AF_INET }.encode(&server.instance);
    let fd = sys::socket(libc::SOCK_STREAM | libc::SOCK_NONBLOCK).unwrap();
    sys::bind(fd.raw(), &name).unwrap();
    sys::listen(fd.raw(), 0).unwrap();
    let any = ptr::sockaddr_bytes((Ipv4Addr::LOCALHOST, 0).into());
    for request in [Request::Bind(&any), Request::Listen(8, false)] {
        server.request(&Call { id, family: AF_INET, request }, &mut [0; MAX_VALUE]).unwrap();
    }
    let Conn { socket, .. } = &server.conns[&id];
    (fd, socket.local_addr().unwrap())
}

/// A connection to it, or an attempt.
fn connect(server: &mut Server, to: SocketAddr) -> Socket {
    let c = Socket::new(&server.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    c.set_nonblocking(true);
    assert_eq!(c.connect(Some(to)), Err(Error::InProgress));
    server.work(&mut Vec::new());
    c
}

fn idle() -> Server {
    let stack = Config::parse("").unwrap().build().unwrap();
    let (driver, instance) = (Arc::new(EventLoop::new().unwrap()), Instance::new(sys::random().unwrap()));
    Server::new(stack, driver, instance, false).unwrap()
}

#[test]
fn a_listener_whose_descriptor_is_gone_ends_with_the_syn_that_finds_it_so() {
    let mut server = idle();
    let (fd, to) = listener(&mut server, 7);
    assert!(connect(&mut server, to).poll().intersects(Events::OUT));
    let before = server.conns.len();
    drop(fd);
    assert_eq!(connect(&mut server, to).connect(Some(to)), Err(Error::ConnRefused));
    assert_eq!((server.conns.contains_key(&7), server.conns.len()), (false, before - 1));
    assert!(server.sweep_at.is_some(), "which has not come");
}

/// Whom its descriptor's queue has no room for: the kernel tells of the queue alone.
#[test]
fn all_who_wait_at_a_listener_are_reset_when_the_kernel_resets_the_first() {
    let mut server = idle();
    let (fd, to) = listener(&mut server, 7);
    let waiting: Vec<Socket> = (0..3).map(|_| connect(&mut server, to)).collect();
    let queued = *server.conns.keys().find(|id| **id != 7).unwrap();
    assert_eq!(server.conns.len(), 2);
    drop(fd);
    server.handle(queued, (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32);
    server.on_time();
    server.work(&mut Vec::new());
    assert_eq!(server.conns.len(), 0);
    for (i, c) in waiting.iter().enumerate() {
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        assert_eq!(c.recvmsg(&mut RecvMsg::new(&mut slices, 0)), Err(Error::ConnReset), "{i}");
    }
}

/// A program that shuts a descriptor down both ways keeps the server busy no longer than others, and the connection is
/// reset when it closes it.
#[test]
fn a_connection_that_is_to_be_reset_waits_for_its_close_asleep() {
    let mut server = idle();
    let (fd, to) = listener(&mut server, 7);
    let c = connect(&mut server, to);
    let program = sys::accept(fd.raw(), libc::SOCK_NONBLOCK).unwrap();
    let id = *server.conns.keys().find(|id| **id != 7).unwrap();
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    server.conns[&id].socket.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    sys::shutdown(program.raw(), libc::SHUT_RDWR).unwrap();
    let hung_up = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32;
    server.handle(id, hung_up);
    let turns = (0..10).find(|_| {
        server.work(&mut Vec::new());
        server.ready.is_empty()
    });
    assert!(turns.is_some_and(|turns| turns < 3), "{turns:?}");
    assert!(server.conns.contains_key(&id) && !c.poll().intersects(Events::ERR));
    drop(program);
    server.handle(id, hung_up);
    server.work(&mut Vec::new());
    assert!(!server.conns.contains_key(&id) && c.poll().intersects(Events::ERR));
}

/// A listener that is full is one entry of those to try again, however many connect, and they do not put that off: else
/// each tick would try it as often as peers have connected, and others might never be tried.
#[test]
fn a_full_listener_is_tried_once_when_it_is_time() {
    let mut server = idle();
    let listeners = [listener(&mut server, 7), listener(&mut server, 8)];
    let mut peers = Vec::new();
    let mut first = None;
    for i in 0..4 {
        for (_, to) in &listeners {
            peers.push(connect(&mut server, *to));
        }
        if i == 1 {
            first = server.retry_at;
        }
    }
    server.full.sort_unstable();
    assert_eq!((&server.full[..], server.retry_at), (&[7, 8][..], first));
    assert!(first.is_some());
    let mut accepted = 0;
    while server.retry_at.is_some() {
        accepted += listeners.iter().filter(|(fd, _)| sys::accept(fd.raw(), 0).is_ok()).count();
        server.retry_at = Some(server.stack.now());
        server.on_time();
    }
    // The last of each waits in the queue.
    assert_eq!(accepted, peers.len() - 2);
    assert_eq!((server.full.len(), server.conns.len()), (0, 2 + peers.len()));
}

/// Those of listeners go at once; any other socket may go on by another descriptor, which has the name a moment later.
#[test]
fn a_socket_goes_when_its_name_was_free_twice() {
    let mut server = idle();
    let (listener, _) = listener(&mut server, 7);
    let any = ptr::sockaddr_bytes((Ipv4Addr::LOCALHOST, 0).into());
    let call = Call { id: 8, family: AF_INET, request: Request::Bind(&any) };
    server.request(&call, &mut [0; MAX_VALUE]).unwrap();
    let named = |server: &Server| {
        let fd = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
        sys::bind(fd.raw(), &Name::Socket { id: 8, family: AF_INET }.encode(&server.instance)).unwrap();
        fd
    };
    let sweep = |server: &mut Server| {
        server.sweep(false);
        (server.conns.contains_key(&7), server.conns.contains_key(&8))
    };
    assert_eq!(sweep(&mut server), (true, true), "free for the first time");
    let again = named(&server);
    assert_eq!(sweep(&mut server), (true, true));
    drop((again, listener));
    assert_eq!(sweep(&mut server), (false, true), "and again for the first time");
    assert_eq!(sweep(&mut server), (false, false));
    server.request(&call, &mut [0; MAX_VALUE]).unwrap();
    server.sweep(true);
    assert_eq!(server.conns.len(), 0);
}

/// Bytes that the program wrote before it closed the descriptor are the stack's then, as they would be in a socket's
/// send queue: what a peer that takes nothing costs is bounded by what bounds orphans, and is no descriptor.
#[test]
fn a_connection_that_is_closed_is_the_stacks_alone_whatever_its_peer_takes() {
    let mut server = idle();
    let socket = || Socket::new(&server.stack, libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let (listener, c) = (socket(), socket());
    listener.setsockopt(libc::SOL_SOCKET, libc::SO_RCVBUF, &4096i32.to_ne_bytes()).unwrap();
    c.setsockopt(libc::SOL_SOCKET, libc::SO_SNDBUF, &4096i32.to_ne_bytes()).unwrap();
    listener.listen(3).unwrap();
    c.connect(Some((Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()).into())).unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_nonblocking(true);
    let id = ACCEPTED + 1;
    let mut program = connection(&mut server, id, c);
    program.set_nonblocking(true).unwrap();
    let mut sent = Vec::new();
    // As much as it can while the server takes what the stack has room for.
    loop {
        let bytes: Vec<u8> = (0..10_000).map(|at| (sent.len() + at * 7) as u8).collect();
        match program.write(&bytes) {
            Ok(n) => sent.extend_from_slice(&bytes[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        server.handle(id, libc::EPOLLIN as u32);
    }
    drop(program);
    server.handle(id, (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP) as u32);
    server.work(&mut Vec::new());
    assert_eq!(server.conns.len(), 0);
    assert_eq!(server.stack.registry.accounts("TCP").expect("accounts").orphans.sum(), 1);
    // It has them all when it takes them.
    let mut got = Vec::new();
    loop {
        let mut bytes = [0; 10_000];
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match peer.recvmsg(&mut RecvMsg::new(&mut slices, 0)) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&bytes[..n]),
            Err(Error::Again) => drop(server.driver.serve(&server.stack, &[])),
            Err(error) => panic!("{error:?} after {} of {}", got.len(), sent.len()),
        }
    }
    assert!(got == sent, "{} of {}", got.len(), sent.len());
}

/// The loop sleeps meanwhile, and does not find the same again and again.
#[test]
fn who_asks_while_there_are_no_descriptors_is_answered_when_there_are() {
    // Descriptors of this thread alone, without the others' that they would keep open, and few: the others' numbers are
    // far below.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a struct of this frame.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_UNSHARE), 0);
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.min(1024);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    let mut server = idle();
    let line = sys::socket(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC).unwrap();
    let end = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC).unwrap();
    let mut all = Vec::new();
    while let Ok(fd) = sys::socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC) {
        all.push(fd);
    }
    sys::connect(line.raw(), &Name::Requests.encode(&server.instance)).unwrap();
    sys::connect(end.raw(), &Name::Data.encode(&server.instance)).unwrap();
    let call = Call { id: 7, family: AF_INET, request: Request::LocalAddr };
    sys::send(line.raw(), call.encode(&server.instance).bytes(), 0).unwrap();
    let events = |server: &mut Server| {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        let n = server.epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
        let mut tokens: Vec<u64> = events[..n].iter().map(|e| e.u64).collect();
        tokens.iter().for_each(|token| server.handle(*token, libc::EPOLLIN as u32));
        tokens.sort_unstable();
        tokens
    };
    let time_comes = |server: &mut Server| {
        assert!(server.retry_at.is_some());
        server.retry_at = Some(server.stack.now());
        server.on_time();
    };
    let answer = || sys::recv(line.raw(), &mut [0; MAX_VALUE], libc::MSG_DONTWAIT);
    for round in 0..2 {
        assert_eq!(events(&mut server), [REQUESTS, DATA], "{round}");
        assert_eq!((events(&mut server), answer()), (vec![], Err(Error::Again)), "{round}");
        time_comes(&mut server);
    }
    assert_eq!(events(&mut server), [REQUESTS, DATA]);
    all.truncate(all.len() - 2);
    assert_eq!(events(&mut server), [], "it is not time yet");
    time_comes(&mut server);
    assert_eq!(events(&mut server), [REQUESTS, DATA]);
    assert!(answer().is_ok());
    assert_eq!((server.retry_at, server.paused), (None, false));
}

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

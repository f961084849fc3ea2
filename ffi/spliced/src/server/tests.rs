use super::*;
use std::io::{IoSlice, Read};
use std::net::Ipv4Addr;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use usersock::config::Config;
use usersock::internal::sock::AF_INET;
use usersock::sock::msg::SendMsg;

/// A connection of `server`: the program's descriptor.
fn connection(server: &mut Server, id: u64, socket: Socket) -> UnixStream {
    let (program, end) = UnixStream::pair().unwrap();
    let mut stream = Stream::accepted(End::new(Owned::new(end.into_raw_fd())).unwrap(), &server.instance);
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

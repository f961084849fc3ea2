//! Tests the plug-in: loads it into a stack of this process, whose loopback carries its packets.

use @name@::{HEADER, PROTOCOL, header};
use std::net::SocketAddr;
use std::time::Duration;
use usersock_plugin::sock::Events;
use usersock_plugin::testing::{Stack, plugin};
use usersock_plugin::{Errno, MSG_DONTWAIT, MSG_TRUNC};

const SOCK_DGRAM: i32 = 2;

/// Datagrams there and back between two sockets.
fn talk(stack: &Stack, any: SocketAddr) {
    let server = stack.socket(any.is_ipv6(), SOCK_DGRAM, PROTOCOL.into()).unwrap();
    let client = stack.socket(any.is_ipv6(), SOCK_DGRAM, PROTOCOL.into()).unwrap();
    let mut buf = [0; 64];
    server.bind(any).unwrap();
    client.connect(server.name().unwrap()).unwrap();

    assert_eq!(client.send(b"hello", 0), Ok(5));
    assert_eq!(server.poll(Events(1), Duration::from_secs(5)), Ok(Events(1)));
    let (n, from) = server.recv_from(&mut buf, 0).unwrap();
    assert_eq!((&buf[..n], from), (&b"hello"[..], client.name().ok()));
    assert_eq!(server.send_to(b"and back", 0, from.unwrap()), Ok(8));
    // What does not fit is lost; MSG_TRUNC tells the true length.
    assert_eq!((client.recv(&mut buf[..3], MSG_TRUNC), &buf[..3]), (Ok(8), &b"and"[..]));
    assert_eq!(client.recv(&mut buf, MSG_DONTWAIT), Err(Errno::Again));
    // Without a peer there is nowhere to send to.
    assert_eq!(server.send(b"whereto", 0), Err(Errno::DestAddrReq));
}

#[test]
fn datagrams_go_there_and_back() {
    let stack = Stack::new("").unwrap();
    let loaded = stack.load(&plugin("@name@")).unwrap();
    talk(&stack, "127.0.0.1:0".parse().unwrap());
    talk(&stack, "[::1]:0".parse().unwrap());
    assert_eq!(stack.mib("@Name@OutDatagrams"), Ok(4));
    assert_eq!(stack.mib("@Name@InDatagrams"), Ok(4));
    assert_eq!(stack.mib("@Name@InErrors"), Ok(0));
    assert_eq!(loaded.unload(), Ok(()));
}

#[test]
fn a_header_is_big_endian() {
    assert_eq!(header(1, 0x0203, HEADER as u16, 0x0405), [0, 1, 2, 3, 0, 8, 4, 5]);
}

//! Tests the plug-in: TCP connections over the loopback of a stack of this process have the layer.

use @name@::turn;
use std::time::Duration;
use usersock_plugin::sock::Events;
use usersock_plugin::testing::{Socket, Stack, plugin};
use usersock_plugin::{Errno, MSG_DONTWAIT, MSG_WAITALL};

const SOCK_STREAM: i32 = 1;
const IPPROTO_TCP: i32 = 6;
const TCP_ULP: i32 = 31;
const BYTES: usize = 1 << 20;

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// Sends BYTES, and compares them as they arrive.
fn transfer(from: &Socket, to: &Socket) {
    let (mut sent, mut got, mut buf) = (0, 0, vec![0; 65_536]);
    while got < BYTES {
        if sent < BYTES {
            let bytes: Vec<u8> = (sent..BYTES.min(sent + buf.len())).map(byte).collect();
            match from.send(&bytes, MSG_DONTWAIT) {
                Ok(n) => sent += n,
                Err(e) => assert_eq!(e, Errno::Again),
            }
        }
        let n = match to.recv(&mut buf, MSG_DONTWAIT) {
            Err(Errno::Again) => {
                to.poll(Events::IN, Duration::from_millis(10)).unwrap();
                continue;
            }
            n => n.unwrap(),
        };
        assert!(n > 0 && buf[..n].iter().enumerate().all(|(i, b)| *b == byte(got + i)), "bytes from {got} on");
        got += n;
    }
}

#[test]
fn a_connection_carries_its_bytes_through_the_layer() {
    let stack = Stack::new("").unwrap();
    let loaded = stack.load(&plugin("@name@")).unwrap();
    let tcp = || stack.socket(false, SOCK_STREAM, 0).unwrap();
    let (listener, client, at) = (tcp(), tcp(), "127.0.0.1:80".parse().unwrap());
    listener.bind(at).unwrap();
    listener.listen(1).unwrap();
    client.connect(at).unwrap();
    let server = listener.accept().unwrap();

    // At one end only, the other sees what is on the wire.
    let (mut wire, mut buf) = (*b"hello", [0; 8]);
    client.setsockopt(IPPROTO_TCP, TCP_ULP, b"@name@").unwrap();
    assert_eq!(client.send(b"hello", 0), Ok(5));
    assert_eq!(server.recv(&mut buf, 0), Ok(5));
    turn(&mut wire, 0x5a);
    assert_eq!(buf[..5], wire);
    // At both, nobody notices.
    server.setsockopt(IPPROTO_TCP, TCP_ULP, b"@name@").unwrap();
    transfer(&client, &server);
    transfer(&server, &client);
    assert_eq!(stack.mib("@Name@OutBytes"), Ok(2 * BYTES as u64 + 5));
    assert_eq!(stack.mib("@Name@InBytes"), Ok(2 * BYTES as u64));
    // MSG_WAITALL waits for all, in pieces of any size.
    let mut large = vec![1; 10_000];
    assert_eq!(client.send(&large, 0), Ok(10_000));
    assert_eq!(server.recv(&mut large, MSG_WAITALL), Ok(10_000));
    assert!(large.iter().all(|b| *b == 1));
    drop((client, server, listener));
    assert_eq!(loaded.unload(), Ok(()));
}

#[test]
fn twice_turned_is_as_it_was() {
    let mut bytes = *b"bytes";
    turn(&mut bytes, 7);
    turn(&mut bytes, 7);
    assert_eq!(&bytes, b"bytes");
}

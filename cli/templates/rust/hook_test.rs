//! Tests the plug-in: TCP connections over the loopback of a stack of this process have the hooks.

use @name@::option;
use std::time::Duration;
use usersock_plugin::sock::Events;
use usersock_plugin::testing::{Socket, Stack, plugin};
use usersock_plugin::{Errno, MSG_DONTWAIT};

const SOCK_STREAM: i32 = 1;
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

/// A connection, its bytes, and its end.
fn connection(stack: &Stack, port: u16) {
    let tcp = || stack.socket(false, SOCK_STREAM, 0).unwrap();
    let (listener, client, at) = (tcp(), tcp(), ([127, 0, 0, 1], port).into());
    listener.bind(at).unwrap();
    listener.listen(1).unwrap();
    client.connect(at).unwrap();
    transfer(&client, &listener.accept().unwrap());
}

#[test]
fn both_ends_of_a_connection_have_the_hooks() {
    let stack = Stack::new("").unwrap();
    let loaded = stack.load(&plugin("@name@")).unwrap();
    connection(&stack, 80);
    // Both ends are in this stack: the SYN and the SYN-ACK. On a busy machine a timer may send a segment again.
    let offered = stack.mib("@Name@Offered").unwrap();
    assert!(offered >= 2);
    assert_eq!(stack.mib("@Name@Seen"), Ok(2));
    assert!(stack.mib("@Name@RoundTrips").unwrap() > 0);
    assert!(stack.mib("@Name@Retransmitted").unwrap() <= stack.mib("TcpRetransSegs").unwrap());
    // Without the hooks nothing is counted.
    stack.sysctl_set("net.@name@.enabled", "0").unwrap();
    connection(&stack, 81);
    assert_eq!(stack.mib("@Name@Offered"), Ok(offered));
    // Hooks are never in use.
    assert_eq!(loaded.unload(), Ok(()));
}

#[test]
fn the_option_says_how_long_it_is() {
    assert_eq!(option(), [254, 4, 0x55, 0x53]);
}

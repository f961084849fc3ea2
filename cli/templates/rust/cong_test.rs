//! Tests the plug-in: a TCP connection over the loopback of a stack of this process sends by it.

use @name@::keep;
use usersock_plugin::testing::{Socket, Stack, plugin};
use usersock_plugin::{Errno, MSG_DONTWAIT};

const SOCK_STREAM: i32 = 1;
const IPPROTO_TCP: i32 = 6;
const TCP_CONGESTION: i32 = 13;
const TCP_CC_INFO: i32 = 26;
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
        let n = to.recv(&mut buf, 0).unwrap();
        assert!(n > 0 && buf[..n].iter().enumerate().all(|(i, b)| *b == byte(got + i)), "bytes from {got} on");
        got += n;
    }
}

#[test]
fn a_connection_sends_by_it() {
    let stack = Stack::new("").unwrap();
    let loaded = stack.load(&plugin("@name@")).unwrap();
    let tcp = || stack.socket(false, SOCK_STREAM, 0).unwrap();
    let (listener, client) = (tcp(), tcp());
    listener.bind("127.0.0.1:80".parse().unwrap()).unwrap();
    listener.listen(1).unwrap();
    client.setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"@name@").unwrap();
    client.connect("127.0.0.1:80".parse().unwrap()).unwrap();
    let server = listener.accept().unwrap();
    transfer(&client, &server);

    // It ran: its counter and its own number of the connection agree.
    let mut acked = [0; 8];
    assert_eq!(client.getsockopt(IPPROTO_TCP, TCP_CC_INFO, &mut acked), Ok(8));
    let acked = u64::from_ne_bytes(acked);
    assert!(acked > 0 && stack.mib("@Name@Acked").unwrap() >= acked);
    // Its sysctl takes what is within its bounds.
    assert_eq!(stack.sysctl_set("net.@name@.beta", "85"), Ok(()));
    assert_eq!(stack.sysctl_set("net.@name@.beta", "96"), Err(Errno::Inval));
    drop((client, server, listener, loaded));
}

#[test]
fn two_segments_are_always_kept() {
    assert_eq!([keep(100, 70), keep(3, 10), keep(u32::MAX, 95)], [70, 2, 4_080_218_930]);
}

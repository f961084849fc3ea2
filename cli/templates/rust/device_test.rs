//! Tests the plug-in: two stacks of this process, joined by two devices of the kind.

use @name@::ends;
use std::path::Path;
use std::time::Duration;
use usersock_plugin::sock::Events;
use usersock_plugin::testing::{Socket, Stack, plugin};
use usersock_plugin::{Errno, MSG_DONTWAIT};

const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
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

/// A stack whose device has these two files.
fn end(own: &Path, peer: &Path, addr: &str) -> Stack {
    let (so, own, peer) = (plugin("@name@"), own.display(), peer.display());
    Stack::new(&format!("plugin={},device=@name@:{own}:{peer},addr={addr}/24", so.display())).unwrap()
}

#[test]
fn two_stacks_talk_through_two_devices() {
    let file = |end: &str| std::env::temp_dir().join(format!("@name@-{}-{end}", std::process::id()));
    let (a, b) = (file("a"), file("b"));
    let one = end(&a, &b, "10.0.0.1");
    // Nobody is at the other end yet.
    let at = "10.0.0.2:80".parse().unwrap();
    let alone = one.socket(false, SOCK_DGRAM, 0).unwrap();
    let _ = alone.send_to(b"?", 0, at);
    assert!(one.mib("@Name@NoPeer").unwrap() > 0);

    let other = end(&b, &a, "10.0.0.2");
    let (listener, client) = (other.socket(false, SOCK_STREAM, 0).unwrap(), one.socket(false, SOCK_STREAM, 0).unwrap());
    listener.bind(at).unwrap();
    listener.listen(1).unwrap();
    client.connect(at).unwrap();
    let server = listener.accept().unwrap();
    transfer(&client, &server);
    transfer(&server, &client);
    drop((client, server, listener, alone));
    drop((one, other));
    // The files go with the devices, which the stacks' own threads may hold for a moment more.
    while a.exists() || b.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn what_is_no_argument_is_refused_with_a_line() {
    assert_eq!(ends("x:y"), Some(("x".into(), "y".into())));
    assert_eq!([ends(""), ends("x"), ends(":y"), ends("x:")], [None, None, None, None]);
    let line = Stack::new(&format!("plugin={},device=@name@:x", plugin("@name@").display())).err().unwrap();
    assert!(line.ends_with("not OWN:PEER, two files of sockets"), "{line}");
}

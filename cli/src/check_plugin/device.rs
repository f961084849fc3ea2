//! Kinds of devices: opened by what `--device` says, in real time. Without it nothing is known of what a device takes.

use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{recv, send};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use usersock::config;
use usersock::net::Socket;
use usersock::stack::Stack;

fn arguments(part: &Part) -> Outcome<[&str; 2]> {
    match (&part.device, &part.peer) {
        (Some(device), Some(peer)) => Ok([device, peer]),
        _ => Err(Finding::Unchecked("without --device and --peer it is not known what opens one".to_owned())),
    }
}

/// A stack on a device of this kind, with address 10.9.0.`host`.
fn stack(part: &Part, argument: &str, host: u8) -> Outcome<Arc<Stack>> {
    let file = part.file.display();
    let text = format!("plugin={file},device={}:{argument},addr=10.9.0.{host}/24", part.table);
    // A stack that has ended closes its device when the last of its threads has noticed.
    let mut tries = 0;
    loop {
        match config::build(&text) {
            Err(_) if tries < PATIENCE => tries += 1,
            stack => return stack.must("a stack on the device"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// How often opening a device is tried, 10 ms apart.
const PATIENCE: u32 = 6000;

fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::new(10, 9, 0, host).into(), port)
}

/// Opened and closed again and again; then a stream between two: the peer's device is in this process, too.
pub(super) fn pair(part: &Part) -> Outcome {
    const BYTES: usize = 1 << 20;
    let arguments = arguments(part)?;
    open(part, arguments)?;
    let (a, b) = (stack(part, arguments[0], 1)?, stack(part, arguments[1], 2)?);
    let listener = Socket::new(&b, libc::AF_INET, libc::SOCK_STREAM, 0).must("socket")?;
    listener.bind(at(2, 80)).must("bind")?;
    listener.listen(1).must("listen")?;
    let client = Socket::new(&a, libc::AF_INET, libc::SOCK_STREAM, 0).must("socket")?;
    client.connect(Some(at(2, 80))).must("connect, over the device")?;
    let (server, _) = listener.accept().must("accept")?;
    let byte = |i: usize| ((i % 65_521) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
    let sender = thread::spawn(move || {
        let all: Vec<u8> = (0..BYTES).map(byte).collect();
        let mut sent = 0;
        while sent < BYTES {
            sent += send(&client, &all[sent..], 0)?;
        }
        client.shutdown(libc::SHUT_WR)?;
        Ok::<_, usersock::error::Error>(client)
    });
    let mut got = 0;
    loop {
        let r = recv(&server, 65_536, 0).must("recv, over the device")?;
        if r.len == 0 {
            break;
        }
        let right = r.bytes.iter().enumerate().all(|(i, b)| *b == byte(got + i));
        ensure!(right, "after {got} bytes others come over the device than were sent");
        got += r.len;
    }
    ensure!(got == BYTES, "of {BYTES} bytes, {got} came over the device");
    let sent = sender.join().map_err(|_| Finding::Wrong("the sender panicked".to_owned()))?;
    drop(sent.must("send, over the device")?);
    Ok(())
}

fn open(part: &Part, arguments: [&str; 2]) -> Outcome {
    for round in 0..10 {
        for argument in arguments {
            let stack = stack(part, argument, 1)?;
            let s = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).must("socket")?;
            s.connect(Some(at(2, 9))).must("connect of a UDP socket")?;
            // There is nobody: it is sent, or refused.
            let _ = send(&s, &[round; 100], libc::MSG_DONTWAIT);
        }
    }
    Ok(())
}

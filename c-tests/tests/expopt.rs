//! The experimental TCP option of `plugins/expopt.c` on a link that loses packets, in virtual time: the losses that
//! both ends report are compared with the link's.
#![cfg(has_usersock)]

mod made;

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::stack::Stack;
use usersock_ffi::loader;

const BYTES: usize = 3 << 20;

/// Loads expopt.so.
fn load_into(stacks: [&Arc<Stack>; 2]) {
    let so = made::plugin("expopt");
    for stack in stacks {
        loader::load(stack, &so).unwrap_or_else(|e| panic!("{e}"));
    }
}

fn stream(stack: &Arc<Stack>) -> Socket {
    Socket::new(stack, libc::AF_INET, libc::SOCK_STREAM, 0).expect("socket")
}

fn send(s: &Socket, bytes: &[u8]) -> usize {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(bytes)], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)).unwrap_or(0)
}

fn recv(s: &Socket, buf: &mut [u8]) -> usize {
    s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(buf)], libc::MSG_DONTWAIT)).unwrap_or(0)
}

/// A counter of the option.
fn counter(stack: &Stack, name: &str) -> u64 {
    stack.mib.named.list().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

#[test]
fn both_ends_know_the_network_s_loss_to_the_segment() {
    for (seed, loss, reorder) in [(1, 0.0, 0.0), (2, 0.01, 0.0), (3, 0.03, 0.0), (4, 0.01, 0.01)] {
        let world = World::new(seed);
        let way = Direction::default().rate(100_000_000).delay(Duration::from_millis(10));
        let link = LinkConfig::default().forth(way.loss(loss).reorder(reorder)).back(way);
        let [(a, ea), (b, eb)] = world.two(&link).expect("two stacks");
        load_into([&a, &b]);
        let at = SocketAddr::new(eb.v4.into(), 80);
        let (listener, client) = (stream(&b), stream(&a));
        listener.bind(at).expect("bind");
        listener.listen(1).expect("listen");
        client.connect(Some(at)).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        let before = ea.link.fate().lost;
        let (data, mut buf) = (vec![9; 65_536], vec![0; 65_536]);
        let (mut sent, mut got) = (0, 0);
        while got < BYTES {
            sent += send(&client, &data[..data.len().min(BYTES - sent)]);
            got += recv(&server, &mut buf);
            world.run_for(Duration::from_millis(1));
            assert!(
                world.now() < usersock::env::Instant::ZERO + Duration::from_secs(300),
                "seed {seed}: {got} bytes came"
            );
        }
        // Spurious retransmissions arrive; then the receiver reports what it missed.
        world.run_for(Duration::from_secs(2));
        assert_eq!(send(&server, b"!"), 1);
        world.run_for(Duration::from_secs(1));
        let lost = ea.link.fate().lost - before;
        let (missed, late) = (counter(&b, "ExpoptInLost"), counter(&b, "ExpoptInLate"));
        println!("seed {seed}: {lost} lost, {missed} missed, {late} came late");
        assert_eq!(missed - late, lost, "seed {seed}: the receiver's count");
        assert!(reorder > 0.0 || late == 0, "seed {seed}: nothing was reordered");
        let told = counter(&a, "ExpoptOutLost") - counter(&a, "ExpoptOutLate");
        assert_eq!(told, lost, "seed {seed}: what the sender was told");
        assert!(loss == 0.0 || lost > 10, "seed {seed}");
    }
}

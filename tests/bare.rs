//! What a stack needs, and what it leaves behind when it ends.

use std::sync::{Arc, Weak};

use usersock::sim::World;
use usersock::sock::Sock;
use usersock::stack::Stack;

/// A sock that no program has: as a `Socket` makes it, but nobody closes it.
fn orphan(stack: &Arc<Stack>, ty: i32, protocol: i32) -> Arc<Sock> {
    let (proto, proto_use, number) = stack.registry.find(libc::AF_INET, ty, protocol).unwrap();
    let sock = Sock::new(stack, libc::AF_INET as u16, ty as u16, number as u16, proto.clone(), proto_use);
    let mut g = sock.lock(stack);
    proto.init(&mut g).unwrap();
    match ty {
        libc::SOCK_RAW => proto.hash(&mut g).unwrap(),
        _ => proto.get_port(&mut g, 5000).unwrap(),
    }
    drop(g);
    sock
}

#[test]
fn a_stack_that_ends_lets_go_of_the_socks_in_its_protocols_tables() {
    let world = World::new(1);
    let stack = world.stack().unwrap();
    let listener = orphan(&stack, libc::SOCK_STREAM, 0);
    listener.proto().listen(&mut listener.lock(&stack), 1).unwrap();
    let kinds = [(libc::SOCK_DGRAM, 0), (libc::SOCK_DGRAM, libc::IPPROTO_ICMP), (libc::SOCK_RAW, 253)];
    let mut socks: Vec<Arc<Sock>> = kinds.map(|(ty, protocol)| orphan(&stack, ty, protocol)).into();
    let (proto, proto_use, number) = stack.registry.find(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let client = Sock::new(&stack, libc::AF_INET as u16, libc::SOCK_STREAM as u16, number as u16, proto, proto_use);
    {
        let mut g = client.lock(&stack);
        client.proto().init(&mut g).unwrap();
        client.proto().connect(&mut g, "127.0.0.1:5000".parse().unwrap()).unwrap();
    }
    world.run_for(std::time::Duration::from_millis(1));
    assert_eq!(client.state(), 1, "established");
    socks.extend([listener, client]);
    let left: Vec<Weak<Sock>> = socks.iter().map(Arc::downgrade).collect();
    drop(socks);
    assert!(left.iter().all(|s| s.strong_count() > 0), "the tables keep them: {left:?}");
    let gone = Arc::downgrade(&stack);
    drop((stack, world));
    assert_eq!(gone.strong_count(), 0);
    assert!(left.iter().all(|s| s.strong_count() == 0), "kept by a stack that is no more: {left:?}");
}

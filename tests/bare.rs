//! A stack with as little as possible, and that nothing is left when it ends.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use usersock::driver::Scheduler;
use usersock::driver::VirtualTime;
use usersock::env::SeededEntropy;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::proto::{Proto, SockRef};
use usersock::sock::registry::ProtoSwitch;
use usersock::sock::skb::Skb;
use usersock::sock::state::State;
use usersock::sock::{Sock, SockGuard};
use usersock::stack::{Stack, StackConfig};
use usersock::tcp::cong;
use usersock::{ip, standard};

const LO: &str = "127.0.0.1";

/// A stack with nothing in it but `lo`, in virtual time.
fn bare() -> Arc<Stack> {
    let time = Arc::new(Scheduler::default());
    let clock = time.clock().clone();
    let entropy = Arc::new(SeededEntropy::new(1));
    let stack = Stack::new(StackConfig::new(clock, entropy, Arc::new(VirtualTime::new(time.clone())))).unwrap();
    time.join(&stack);
    stack
}

fn send(s: &Socket, bytes: &[u8], to: Option<SocketAddr>) -> Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let mut msg = SendMsg::new(&slices, 0);
    msg.name = to;
    s.sendmsg(&mut msg)
}

fn recv(s: &Socket) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 2000];
    let n = s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut bytes)], libc::MSG_DONTWAIT))?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Type and code of all messages in the queue of raw ICMP socket `s`.
fn icmp(s: &Socket) -> Vec<(u8, u8)> {
    std::iter::from_fn(|| recv(s).ok()).map(|b| (b[20], b[21])).collect()
}

#[test]
fn a_stack_without_tcp_has_udp_and_answers_a_segment_with_protocol_unreachable() {
    let stack = bare();
    ip::init(&stack).unwrap();
    standard::register_udp(&stack).unwrap();
    standard::register_raw(&stack).unwrap();
    let s = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    s.bind(SocketAddr::new(LO.parse().unwrap(), 7000)).unwrap();
    assert_eq!(send(&s, b"to itself", Some(s.local_addr().unwrap())), Ok(9));
    assert_eq!(recv(&s).unwrap(), b"to itself");
    let stream = Socket::new(&stack, libc::AF_INET, libc::SOCK_STREAM, 0);
    assert_eq!(stream.err(), Some(Error::SocktNoSupport));
    assert_eq!(cong::unregister(&stack, "cubic"), Err(Error::NoProtoOpt));
    assert_eq!(ip::init(&stack), Err(Error::Busy), "a stack has one network layer");
    // A segment, from a socket that writes the IP header itself and receives nothing.
    let out = Socket::new(&stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).unwrap();
    let errors = Socket::new(&stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).unwrap();
    let mut segment = vec![0; 40];
    (segment[0], segment[8], segment[9], segment[32]) = (0x45, 64, libc::IPPROTO_TCP as u8, 0x50);
    segment[16..20].copy_from_slice(&[127, 0, 0, 1]);
    assert_eq!(send(&out, &segment, Some(SocketAddr::new(LO.parse().unwrap(), 0))), Ok(40));
    assert_eq!(icmp(&errors), [(3, 2)]);
}

#[test]
fn a_stack_with_ip_alone_answers_pings() {
    let stack = bare();
    ip::init(&stack).unwrap();
    standard::register_raw(&stack).unwrap();
    let s = Socket::new(&stack, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).unwrap();
    // Type 8, code 0, its checksum, identifier and number 0.
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    assert_eq!(send(&s, &request, Some(SocketAddr::new(LO.parse().unwrap(), 0))), Ok(8));
    assert_eq!(icmp(&s), [(8, 0), (0, 0)], "the request as it arrived, and the reply");
}

/// A protocol of a user's own, without addresses: a message goes to the sender's own receive queue.
struct ToSelf;

impl Proto for ToSelf {
    fn name(&self) -> &str {
        "SELF"
    }
    fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }
    fn no_autobind(&self) -> bool {
        true
    }
    fn close(&self, _: SockRef<'_>, _: i32) {}
    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let mut bytes = vec![0; msg.remaining()];
        let n = msg.copy_to(&mut bytes);
        sk.sock.deliver(sk.stack, Skb::from_slice(&bytes), sk.stack.now());
        Ok(n)
    }
    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let skb = sk.lock().common.receive_queue.pop_front().ok_or(Error::Again)?;
        Ok(msg.put(&skb.to_vec()))
    }
    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        sk.common.receive_queue.push_back(skb);
    }
}

#[test]
fn a_stack_with_only_a_users_protocol_and_no_network_layer_works() {
    let stack = bare();
    let key = ProtoSwitch::new(libc::AF_INET, libc::SOCK_DGRAM, 200, Arc::new(ToSelf)).by_default();
    stack.registry.register(&[key], None).unwrap();
    let s = Socket::new(&stack, libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    assert_eq!(s.bind(SocketAddr::new(LO.parse().unwrap(), 1)), Err(Error::OpNotSupp), "it has no addresses");
    assert_eq!(send(&s, b"hello", None), Ok(5));
    assert_eq!((recv(&s).unwrap(), recv(&s)), (b"hello".to_vec(), Err(Error::Again)));
    assert_eq!(Socket::new(&stack, libc::AF_INET6, libc::SOCK_DGRAM, 0).err(), Some(Error::AfNoSupport));
    assert_eq!(ip::route::lookup(&stack, LO.parse().unwrap(), None, 0).err(), Some(Error::NetUnreach));
    drop(s);
    stack.registry.unregister("SELF").unwrap();
}

/// A sock that no program has: as a `Socket` makes it, but never closed.
fn orphan(stack: &Arc<Stack>, ty: i32, protocol: i32) -> Arc<Sock> {
    let (proto_use, number) = stack.registry.find(libc::AF_INET, ty, protocol).unwrap();
    let sock = Sock::new(stack, libc::AF_INET as u16, ty as u16, number as u16, proto_use);
    let proto = sock.proto();
    let mut g = sock.lock(stack);
    proto.init(&mut g).unwrap();
    match ty {
        libc::SOCK_RAW => proto.hash(&mut g).unwrap(),
        _ => proto.get_port(&mut g, 5000).unwrap(),
    }
    drop(g);
    drop(proto);
    sock
}

#[test]
fn a_stack_that_ends_lets_go_of_the_socks_in_its_protocols_tables() {
    let world = World::new(1);
    let stack = world.stack().unwrap();
    stack.sysctl.set("net.ipv4.ping_group_range", "0 4294967294").unwrap();
    let listener = orphan(&stack, libc::SOCK_STREAM, 0);
    listener.proto().listen(&mut listener.lock(&stack), 1).unwrap();
    let kinds = [(libc::SOCK_DGRAM, 0), (libc::SOCK_DGRAM, libc::IPPROTO_ICMP), (libc::SOCK_RAW, 253)];
    let mut socks: Vec<Arc<Sock>> = kinds.map(|(ty, protocol)| orphan(&stack, ty, protocol)).into();
    let (proto_use, number) = stack.registry.find(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    let client = Sock::new(&stack, libc::AF_INET as u16, libc::SOCK_STREAM as u16, number as u16, proto_use);
    {
        let mut g = client.lock(&stack);
        client.proto().init(&mut g).unwrap();
        client.proto().connect(&mut g, "127.0.0.1:5000".parse().unwrap()).unwrap();
    }
    world.run_for(std::time::Duration::from_millis(1));
    assert_eq!(client.state(), State::Established);
    socks.extend([listener, client]);
    let left: Vec<Weak<Sock>> = socks.iter().map(Arc::downgrade).collect();
    drop(socks);
    assert!(left.iter().all(|s| s.strong_count() > 0), "the tables keep them: {left:?}");
    let gone = Arc::downgrade(&stack);
    drop((stack, world));
    assert_eq!(gone.strong_count(), 0);
    assert!(left.iter().all(|s| s.strong_count() == 0), "kept by a stack that is no more: {left:?}");
}

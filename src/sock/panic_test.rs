//! A plug-in that panics breaks the socket it panicked on, and nothing else.

use super::SockGuard;
use super::msg::{RecvMsg, SendMsg};
use super::proto::{IpHandler, Proto, SockRef};
use super::registry::ProtoSwitch;
use super::skb::Skb;
use crate::base::error::{Error, Result};
use crate::inet::Socket;
use crate::sim::World;
use crate::sock::packet::{IcmpError, PacketInfo};
use crate::sock::wait::Events;
use crate::stack::Stack;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::time::Duration;

/// Panics where its datagrams say so; `sendmsg` delivers the packet to the sender's own sock.
struct Fragile;

const TYPE: i32 = libc::SOCK_DGRAM;
const NUMBER: i32 = 254;

impl Proto for Fragile {
    fn name(&self) -> &str {
        "FRAGILE"
    }
    fn init(&self, _: &mut SockGuard<'_>) -> Result<()> {
        Ok(())
    }
    fn close(&self, sk: SockRef<'_>, _: i32) {
        assert!(!sk.sock.is_broken(), "closing panics too");
    }
    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let n = msg.remaining();
        match msg.chunk(n) {
            b"timer" => {
                let mut g = sk.lock();
                let at = g.now() + Duration::from_millis(1);
                let mut slot = std::mem::take(&mut g.common.cold_mut().timer);
                sk.stack.arm_sock(&mut slot, sk.sock, 1, at);
                g.common.cold_mut().timer = slot;
            }
            packet => {
                sk.sock.deliver(sk.stack, Skb::from_slice(packet), sk.stack.now());
            }
        }
        Ok(n)
    }
    fn recvmsg(&self, _: SockRef<'_>, _: &mut RecvMsg<'_, '_>) -> Result<usize> {
        Ok(0)
    }
    fn backlog_rcv(&self, _: &mut SockGuard<'_>, skb: Skb) {
        assert!(skb.to_vec() != b"packet", "a packet that panics");
    }
    fn release_cb(&self, _: &mut SockGuard<'_>, _: u32) {
        panic!("a timer that panics");
    }
}

struct FragileHandler;
impl IpHandler for FragileHandler {
    fn rcv(&self, _: &Arc<Stack>, _: Skb, _: &PacketInfo) {
        panic!("a handler that panics");
    }
    fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
}

fn send(s: &Socket, text: &[u8]) -> Result<usize> {
    s.sendmsg(&mut SendMsg::new(&[IoSlice::new(text)], 0))
}

#[test]
fn a_panic_in_a_packet_a_timer_or_a_handler_breaks_its_socket_alone() {
    let world = World::new(1);
    let stack = world.stack().unwrap();
    let proto = Arc::new(Fragile);
    let key = ProtoSwitch { family: libc::AF_INET, ty: TYPE, protocol: NUMBER, default: false, proto };
    stack.registry.register(&[key], Some((&[NUMBER as u8], Arc::new(FragileHandler)))).unwrap();
    let open = || Socket::new(&stack, libc::AF_INET, TYPE, NUMBER).unwrap();
    let (by_packet, by_timer, whole) = (open(), open(), open());
    assert_eq!(send(&by_packet, b"packet"), Ok(6));
    assert_eq!(send(&by_timer, b"timer"), Ok(5));
    world.run_for(Duration::from_millis(5));
    for s in [&by_packet, &by_timer] {
        let mut byte = [0];
        assert_eq!(s.sock().take_error(), Err(Error::Io));
        assert_eq!(send(s, b"fine"), Err(Error::Io));
        assert_eq!(s.recvmsg(&mut RecvMsg::new(&mut [IoSliceMut::new(&mut byte)], 0)), Err(Error::Io));
        assert!(s.poll().intersects(Events::ERR) && s.poll().intersects(Events::HUP));
    }
    assert_eq!(send(&whole, b"fine"), Ok(4));
    // A packet with the protocol's number, from a raw socket: the handler's panic loses only that packet.
    let raw = Socket::new(&stack, libc::AF_INET, libc::SOCK_RAW, NUMBER).unwrap();
    let mut msg = SendMsg::new(&[], 0);
    msg.name = Some("127.0.0.1:0".parse().unwrap());
    assert_eq!(raw.sendmsg(&mut msg), Ok(0));
    world.run_for(Duration::from_millis(5));
    assert_eq!(send(&whole, b"fine"), Ok(4));
    drop((by_packet, by_timer, whole));
    stack.registry.unregister("FRAGILE").unwrap();
}

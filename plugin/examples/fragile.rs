//! FRAGILE: TINY's datagrams, with an option that makes an operation panic, each kind in its context. No panic is
//! caught here: this crate does it. `c-tests/plugins/fragile.rs` is the same without this crate;
//! `c-tests/plugin_cases/` `fragile.c` is the test of both.
#![forbid(unsafe_code)]

use std::ffi::c_ulong;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use usersock_plugin::Drop;
use usersock_plugin::prelude::*;

const PROTOCOL: u16 = 254;
const HEADER: usize = 8;
/// The option, of level 254, an int: where the socket's next operation is to panic.
const PANIC_IN: i32 = 1;
/// ioctl(2): reads the option.
const SIOCOUTQ: c_ulong = 0x5411;

/// Values of PANIC_IN, as in fragile.c.
mod place {
    pub const SETSOCKOPT: u32 = 1;
    pub const SENDMSG: u32 = 2;
    pub const SENDMSG_LOCKED: u32 = 3;
    pub const SENDMSG_PACKET: u32 = 4;
    pub const RECVMSG: u32 = 5;
    pub const POLL: u32 = 6;
    pub const IOCTL: u32 = 7;
    pub const GETSOCKOPT: u32 = 8;
    pub const GET_PORT: u32 = 9;
    pub const CONNECT: u32 = 10;
    pub const SHUTDOWN: u32 = 11;
    pub const BACKLOG_RCV: u32 = 12;
    pub const TIMER: u32 = 13;
    pub const DEFERRED: u32 = 14;
    pub const CLOSE: u32 = 15;
    pub const CLOSE_LOCKED: u32 = 16;
    pub const DESTROY: u32 = 17;
    pub const FAREWELL: u32 = 18;
    pub const RCV: u32 = 19;
    pub const INIT: u32 = 20;
}

#[derive(Default)]
struct Fragile {
    /// RCV or INIT, for the next packet or socket; or 0.
    next: AtomicU32,
}

impl Fragile {
    fn panic_once(&self, here: u32) {
        if self.next.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            panic!("in place {here}, as asked");
        }
    }

    fn poll(&self, o: &mut Owned<'_, Self>) -> Events {
        panic_if(o, &[place::POLL]);
        let (readable, failed) = (o.receive_peek().is_some() || o.shut_down().recv(), o.info().error.is_some());
        Events::OUT | Events::IN.when(readable || failed) | Events::ERR.when(failed)
    }

    fn get_port(&self, o: &mut Owned<'_, Self>, port: u16) -> Result<()> {
        panic_if(o, &[place::GET_PORT]);
        o.get_port(port)
    }
}

fn panic_if(o: &mut Owned<'_, Fragile>, here: &[u32]) {
    let place = *o.data();
    assert!(!here.contains(&place), "in place {place}, as asked");
}

impl Protocol for Fragile {
    /// Where the socket is to panic.
    type Sock = u32;
    const NAME: &'static str = "FRAGILE";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = PROTOCOL;
    const MORE: ProtoMore<Self> =
        ProtoMore { poll: Some(Self::poll), get_port: Some(Self::get_port), ..ProtoMore::NONE };

    fn init(&self, _: &mut Owned<'_, Self>) -> Result<()> {
        self.panic_once(place::INIT);
        Ok(())
    }

    fn destroy(&self, o: &mut Owned<'_, Self>) {
        panic_if(o, &[place::DESTROY]);
    }

    fn close(&self, o: &mut Owned<'_, Self>, _flags: i32) {
        panic_if(o, &[place::CLOSE, place::CLOSE_LOCKED]);
        let _ =
            if *o.data() == place::FAREWELL { o.timer_arm(0, o.now() + Duration::from_millis(1)) } else { o.done() };
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        panic_if(o, &[place::CONNECT]);
        o.route_connect(to)?;
        o.hash()
    }

    fn shutdown(&self, o: &mut Owned<'_, Self>, _how: i32) {
        panic_if(o, &[place::SHUTDOWN]);
    }

    fn ioctl(&self, o: &mut Owned<'_, Self>, request: c_ulong, _value: i32) -> Result<i32> {
        panic_if(o, &[place::IOCTL]);
        if request == SIOCOUTQ { Ok(*o.data() as i32) } else { Err(Errno::NoTty) }
    }

    fn setsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != PROTOCOL.into() {
            return o.ip_setsockopt(level, name, value);
        }
        if name != PANIC_IN {
            return Err(Errno::NoProtoOpt);
        }
        let place = u32::from_ne_bytes(value.try_into().map_err(|_| Errno::Inval)?);
        match place {
            place::SETSOCKOPT => panic!("in place {place}, as asked"),
            place::RCV | place::INIT => self.next.store(place, Ordering::Relaxed),
            _ => *o.data() = place,
        }
        match place {
            place::TIMER => o.timer_arm(0, o.now() + Duration::from_millis(1)),
            place::DEFERRED => o.timer_arm(1, o.now()),
            _ => Ok(()),
        }
    }

    fn getsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        if level != PROTOCOL.into() {
            return o.ip_getsockopt(level, name, value);
        }
        panic_if(o, &[place::GETSOCKOPT]);
        let to = value.get_mut(..4).filter(|_| name == PANIC_IN).ok_or(Errno::NoProtoOpt)?;
        to.copy_from_slice(&o.data().to_ne_bytes());
        Ok(4)
    }

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        panic_if(o, &[place::SENDMSG, place::SENDMSG_LOCKED]);
        o.take_error()?;
        let len = msg.len();
        let to = msg.name().or(o.ends().ok().map(|(_, peer)| peer)).ok_or(Errno::DestAddrReq)?;
        let from = o.source(to)?;
        let mut skb = msg.skb(len)?;
        panic_if(o, &[place::SENDMSG_PACKET]);
        let mut head = [0; HEADER];
        head[..2].copy_from_slice(&from.port().to_be_bytes());
        head[2..4].copy_from_slice(&to.port().to_be_bytes());
        let sum = csum_pseudo(from, to, PROTOCOL as u8, HEADER + len);
        let sum = csum_fold(skb.csum(0, len, csum(&head, sum)));
        head[6..].copy_from_slice(&sum.to_be_bytes());
        skb.push(&head)?;
        o.xmit(skb, Some(to))?;
        Ok(len)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        loop {
            if let Some(skb) = o.receive_peek() {
                msg.set_name(skb.cb());
                panic_if(o, &[place::RECVMSG]);
                return o.receive_msg(msg, HEADER);
            }
            o.take_error()?;
            if o.shut_down().recv() {
                return Ok(0);
            }
            o.wait(Events::IN, until)?;
        }
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        self.panic_once(place::RCV);
        let Some(h) = skb.head::<HEADER>() else { return reg.drop_skb(skb, Drop::Header) };
        let from = SocketAddr::new(info.src.ip(), u16::from_be_bytes([h[0], h[1]]));
        let to = SocketAddr::new(info.dst.ip(), u16::from_be_bytes([h[2], h[3]]));
        let len = skb.len();
        if csum_fold(skb.csum(0, len, csum_pseudo(from, to, PROTOCOL as u8, len))) != 0 {
            return reg.drop_skb(skb, Drop::Csum);
        }
        match reg.lookup(to, from, info.ifindex) {
            Some(sock) => {
                skb.set_cb(&from);
                let _ = sock.deliver(skb);
            }
            None => reg.drop_skb(skb, Drop::NoSocket),
        }
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb) {
        panic_if(o, &[place::BACKLOG_RCV]);
        let _ = o.receive_push(skb);
    }

    fn release_cb(&self, o: &mut Owned<'_, Self>, _bits: u32) {
        panic_if(o, &[place::TIMER, place::DEFERRED, place::FAREWELL]);
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Fragile::default()));

//! TINY, the protocol of docs/plugins.md, in Rust: datagrams with ports and a checksum over IP protocol 254 (RFC 3692).
//! `c-tests/plugins/tiny.c` is the same in C. `cargo build -p usersock-plugin --example tiny` makes libtiny.so.
//!
//!   0 2 4 6 8 | from | to | len | sum | payload ... all big-endian; len counts the header, sum as UDP's (never 0 =
//!   none)
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use usersock_plugin::prelude::*;
use usersock_plugin::{Drop, MSG_PEEK};

const TINY: u8 = 254;
const HEADER: usize = 8;
const MAX_PAYLOAD: usize = 65_000;

/// Counters, in the order of COUNTERS.
const IN_DATAGRAMS: usize = 0;
const OUT_DATAGRAMS: usize = 1;
const IN_ERRORS: usize = 2;

/// The checksum is not in it yet.
fn header(from: u16, to: u16, len: usize) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (to, half) in bytes.chunks_exact_mut(2).zip([from, to, len as u16, 0]) {
        to.copy_from_slice(&half.to_be_bytes());
    }
    bytes
}

struct Tiny;

impl Protocol for Tiny {
    type Sock = ();
    const NAME: &'static str = "TINY";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = TINY as u16;
    const COUNTERS: &'static [&'static str] = &["TinyInDatagrams", "TinyOutDatagrams", "TinyInErrors"];

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = msg.len();
        if len > MAX_PAYLOAD {
            return Err(Errno::MsgSize);
        }
        o.take_error()?;
        let to = msg.name().or(o.ends().ok().map(|(_, peer)| peer)).ok_or(Errno::DestAddrReq)?;
        // The checksum includes the source address, which the route decides.
        let from = o.source(to)?;
        let mut skb = msg.skb(len)?;
        let total = HEADER + len;
        skb.push(&header(from.port(), to.port(), total))?;
        // Computed where the packet leaves the machine, and not if it does not.
        skb.csum_partial(0, 6, csum_pseudo(from, to, TINY, total))?;
        o.xmit(skb, Some(to))?;
        o.reg().count(OUT_DATAGRAMS, 1)?;
        Ok(len)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        loop {
            // The header is still in front, the source address in the control block.
            if let Some(skb) = o.receive_peek() {
                msg.set_name(skb.cb());
                let n = o.receive_msg(msg, HEADER)?;
                if msg.flags() & MSG_PEEK == 0 {
                    o.reg().count(IN_DATAGRAMS, 1)?;
                }
                return Ok(n);
            }
            o.take_error()?;
            if o.shut_down().recv() {
                return Ok(0);
            }
            o.wait(Events::IN, until)?;
        }
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        if to.port() == 0 {
            return Err(Errno::Inval);
        }
        o.route_connect(to)?;
        o.hash()
    }

    fn disconnect(&self, o: &mut Owned<'_, Self>) -> Result<()> {
        o.route_disconnect()?;
        o.hash()
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        let (len, head) = (skb.len(), skb.head::<HEADER>());
        let half = |h: [u8; HEADER], at: usize| u16::from_be_bytes([h[at], h[at + 1]]);
        let Some(h) = head.filter(|h| usize::from(half(*h, 4)) == len) else {
            let _ = reg.count(IN_ERRORS, 1);
            return reg.drop_skb(skb, Drop::Header);
        };
        let (from, to) = (SocketAddr::new(info.src.ip(), half(h, 0)), SocketAddr::new(info.dst.ip(), half(h, 2)));
        if !skb.csum_unnecessary() && csum_fold(skb.csum(0, len, csum_pseudo(from, to, TINY, len))) != 0 {
            let _ = reg.count(IN_ERRORS, 1);
            return reg.drop_skb(skb, Drop::Csum);
        }
        match reg.lookup(to, from, info.ifindex) {
            Some(sock) => {
                skb.set_cb(&from);
                // A full backlog has dropped and counted it.
                let _ = sock.deliver(skb);
            }
            None => {
                let _ = reg.icmp_send(&mut skb, IcmpSend::PortUnreach);
                reg.drop_skb(skb, Drop::NoSocket);
            }
        }
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb) {
        // A full buffer has dropped and counted it.
        let _ = o.receive_push(skb);
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Tiny));

//! BLOCKS: datagrams of up to 64 KiB over IP protocol 254 (RFC 3692). With the option SIZE, as with UDP_SEGMENT, a
//! message leaves as a super-packet: what a path cannot carry whole arrives in packets of that size, each with its
//! place in the message, and the receiver gets them one by one, or joined where its device does that. `cargo build -p
//! usersock-plugin --example blocks` makes libblocks.so.
//!
//!   0 2 4 8 10 | from | to | offset | last | sum | payload ... all big-endian; sum is UDP's
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use usersock_plugin::Drop;
use usersock_plugin::prelude::*;

const BLOCKS: u8 = 254;
const LEVEL: i32 = BLOCKS as i32;
const HEADER: usize = 12;
const SUM: usize = 10;
/// Option of LEVEL: bytes of the message in each packet, an int from 0 to 65535; 0, at first: all of it.
const SIZE: i32 = 1;

/// Counters, in the order of COUNTERS.
const OUT: usize = 0;
const IN: usize = 1;
const IN_SUPERS: usize = 2;

#[derive(Clone, Copy)]
struct Head {
    from: u16,
    to: u16,
    offset: u32,
    last: bool,
}

impl Head {
    /// Without the checksum.
    fn bytes(self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..2].copy_from_slice(&self.from.to_be_bytes());
        b[2..4].copy_from_slice(&self.to.to_be_bytes());
        b[4..8].copy_from_slice(&self.offset.to_be_bytes());
        b[9] = self.last.into();
        b
    }

    fn parse(b: &[u8]) -> Head {
        let half = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        Head { from: half(0), to: half(2), offset: u32::from_be_bytes([b[4], b[5], b[6], b[7]]), last: b[9] != 0 }
    }

    /// That of a packet. None: it is too short.
    fn of(skb: &Packet) -> Option<Head> {
        let mut b = [0; HEADER];
        (skb.copy(0, &mut b) == HEADER).then(|| Head::parse(&b))
    }
}

fn sum_is_right(skb: &Packet, (from, to): (IpAddr, IpAddr)) -> bool {
    let len = skb.len();
    let pseudo = || csum_pseudo(SocketAddr::new(from, 0), SocketAddr::new(to, 0), BLOCKS, len);
    skb.csum_unnecessary() || csum_fold(skb.csum(0, len, pseudo())) == 0
}

struct Blocks;

impl Blocks {
    fn segment(&self, piece: &mut Piece<'_>) -> Result<()> {
        let whole = Head::parse(piece.header());
        let head = Head { offset: piece.offset() as u32, last: piece.is_last(), ..whole };
        piece.header().copy_from_slice(&head.bytes());
        Ok(())
    }

    fn may_merge(&self, skb: &Packet, ends: (IpAddr, IpAddr)) -> Option<usize> {
        Head::of(skb).filter(|_| sum_is_right(skb, ends)).map(|_| HEADER)
    }

    fn merge(&self, m: &mut Merge<'_>) -> Merged {
        let (held, end) = (Head::parse(m.header()), m.held() as u32);
        match Head::of(m.next()) {
            Some(next) if (next.from, next.to, next.offset) == (held.from, held.to, held.offset + end) => {
                m.header().copy_from_slice(&Head { last: next.last, ..held }.bytes());
                if next.last { Merged::Last } else { Merged::Yes }
            }
            _ => Merged::No,
        }
    }
}

impl Protocol for Blocks {
    /// SIZE.
    type Sock = u16;
    const NAME: &'static str = "BLOCKS";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = BLOCKS as u16;
    const COUNTERS: &'static [&'static str] = &["BlocksOut", "BlocksIn", "BlocksInSupers"];
    const MORE: ProtoMore<Self> = ProtoMore {
        segment: Some(Self::segment),
        may_merge: Some(Self::may_merge),
        merge: Some(Self::merge),
        ..ProtoMore::NONE
    };

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = msg.len();
        o.take_error()?;
        if len + HEADER > o.gso_max()? {
            return Err(Errno::MsgSize);
        }
        let (local, peer) = o.ends()?;
        let mut skb = msg.skb(len)?;
        skb.push(&Head { from: local.port(), to: peer.port(), offset: 0, last: true }.bytes())?;
        skb.csum_partial(0, SUM, csum_pseudo(local, peer, BLOCKS, HEADER + len))?;
        let size = usize::from(*o.data()).min(o.path_mtu()? - HEADER);
        if len > 0 && size > 0 {
            o.set_gso(&mut skb, HEADER, size)?;
        }
        o.xmit(skb, None)?;
        o.reg().count(OUT, 1)?;
        Ok(len)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        loop {
            // The header is still in front, the source address in the control block.
            if let Some(skb) = o.receive_peek() {
                msg.set_name(skb.cb());
                return o.receive_msg(msg, HEADER);
            }
            o.take_error()?;
            if o.shut_down().recv() {
                return Ok(0);
            }
            o.wait(Events::IN, until)?;
        }
    }

    fn setsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        match (level, name) {
            (LEVEL, SIZE) => {
                let size = i32::from_ne_bytes(value.try_into().map_err(|_| Errno::Inval)?);
                *o.data() = u16::try_from(size).map_err(|_| Errno::Inval)?;
                Ok(())
            }
            (LEVEL, _) => Err(Errno::NoProtoOpt),
            _ => o.ip_setsockopt(level, name, value),
        }
    }

    fn getsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        if level != LEVEL {
            return o.ip_getsockopt(level, name, value);
        }
        if name != SIZE {
            return Err(Errno::NoProtoOpt);
        }
        let bytes = i32::from(*o.data()).to_ne_bytes();
        let n = value.len().min(bytes.len());
        value[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        o.route_connect(to)?;
        o.hash()
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        let Some(head) = Head::of(&skb) else { return reg.drop_skb(skb, Drop::Header) };
        if !sum_is_right(&skb, (info.src.ip(), info.dst.ip())) {
            return reg.drop_skb(skb, Drop::Csum);
        }
        let _ = reg.count(IN, 1);
        let _ = reg.count(IN_SUPERS, skb.gso_size().is_some().into());
        let (from, to) = (SocketAddr::new(info.src.ip(), head.from), SocketAddr::new(info.dst.ip(), head.to));
        match reg.lookup(to, from, info.ifindex) {
            Some(sock) => {
                skb.set_cb(&from);
                // A full backlog has dropped and counted it.
                let _ = sock.deliver(skb);
            }
            None => reg.drop_skb(skb, Drop::NoSocket),
        }
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, skb: Skb) {
        // A full buffer has dropped and counted it.
        let _ = o.receive_push(skb);
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Blocks));

//! UDP-Lite (RFC 3828), UDP whose checksum covers the first bytes alone, as a plug-in: `c-tests/plugins/udplite.c` is
//! the same in C, and says what is Linux's. `cargo build -p usersock-plugin --example udplite` makes libudplite.so.
//!
//!   0 2 4 6 8 | from | to | coverage | sum | payload ... all big-endian; coverage counts from the header's first byte
//!   on, 0: all
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use usersock_plugin::prelude::*;
use usersock_plugin::{Drop, MSG_PEEK};

const UDPLITE: u8 = 136;
const HEADER: usize = 8;
const MAX_PAYLOAD: usize = 65_535 - HEADER;
const MSG_OOB: i32 = 1;

/// Levels and names of setsockopt(2).
const SOL_UDP: i32 = 17;
const SOL_UDPLITE: i32 = 136;
const SEND_CSCOV: i32 = 10;
const RECV_CSCOV: i32 = 11;

/// Counters, in the order of COUNTERS.
const IN_DATAGRAMS: usize = 0;
const NO_PORTS: usize = 1;
const IN_ERRORS: usize = 2;
const OUT_DATAGRAMS: usize = 3;
const RCVBUF_ERRORS: usize = 4;
const IN_CSUM_ERRORS: usize = 5;
const IGNORED_MULTI: usize = 6;

/// Drop reasons, in the order of DROPS.
const COVERAGE: Drop = Drop::Own(0);
const NO_CSUM: Drop = Drop::Own(1);
const UNCOVERED: Drop = Drop::Own(2);

/// Coverages as the options were set; None: all is covered, and any coverage is taken.
#[derive(Default)]
struct LiteSock {
    send: Option<u16>,
    recv: Option<u16>,
}

impl LiteSock {
    /// The option of a name, if there is one. UDP's level does as well, as on Linux.
    fn option(&mut self, level: i32, name: i32) -> Option<&mut Option<u16>> {
        match (level, name) {
            (SOL_UDP | SOL_UDPLITE, SEND_CSCOV) => Some(&mut self.send),
            (SOL_UDP | SOL_UDPLITE, RECV_CSCOV) => Some(&mut self.recv),
            _ => None,
        }
    }
}

/// Bytes that the checksum of a datagram of `len` bytes covers.
fn covered(coverage: u16, len: usize) -> usize {
    if coverage == 0 { len } else { coverage.into() }
}

fn half(h: &[u8; HEADER], at: usize) -> u16 {
    u16::from_be_bytes([h[at], h[at + 1]])
}

struct UdpLite;

/// Drops what is not valid, and counts it as the kernel does.
fn bad(reg: ProtoReg<'_, UdpLite>, skb: Skb, csum: bool, why: Drop) {
    let _ = reg.count(IN_ERRORS, 1);
    if csum {
        let _ = reg.count(IN_CSUM_ERRORS, 1);
    }
    reg.drop_skb(skb, why);
}

impl Protocol for UdpLite {
    type Sock = LiteSock;
    const NAME: &'static str = "UDP-Lite";
    const TYPE: SockType = SockType::Dgram;
    const PROTOCOL: u16 = UDPLITE as u16;
    const MAX_HEADER: u32 = HEADER as u32;
    const COUNTERS: &'static [&'static str] = &[
        "UdpLiteInDatagrams",
        "UdpLiteNoPorts",
        "UdpLiteInErrors",
        "UdpLiteOutDatagrams",
        "UdpLiteRcvbufErrors",
        "UdpLiteInCsumErrors",
        "UdpLiteIgnoredMulti",
    ];
    const DROPS: &'static [&'static str] = &["UDPLITE_COVERAGE", "UDPLITE_NO_CSUM", "UDPLITE_UNCOVERED"];

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let len = msg.len();
        if len > MAX_PAYLOAD {
            return Err(Errno::MsgSize);
        }
        if msg.flags() & MSG_OOB != 0 {
            return Err(Errno::OpNotSupp);
        }
        o.take_error()?;
        let to = msg.name().or(o.ends().ok().map(|(_, peer)| peer)).ok_or(Errno::DestAddrReq)?;
        if to.port() == 0 {
            return Err(Errno::Inval);
        }
        let from = o.source(to)?;
        let mut skb = msg.skb(len)?;
        let whole = HEADER + len;
        // More than there is means all.
        let coverage = o.data().send.filter(|n| usize::from(*n) < whole).unwrap_or(whole as u16);
        let mut head = [0; HEADER];
        for (to, half) in head.chunks_exact_mut(2).zip([from.port(), to.port(), coverage, 0]) {
            to.copy_from_slice(&half.to_be_bytes());
        }
        let behind = covered(coverage, whole) - HEADER;
        let sum = csum_fold(skb.csum(0, behind, csum(&head, csum_pseudo(from, to, UDPLITE, whole))));
        // 0 would say that there is none.
        head[6..].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
        skb.push(&head)?;
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
        o.route_connect(to)?;
        o.hash()
    }

    fn disconnect(&self, o: &mut Owned<'_, Self>) -> Result<()> {
        o.route_disconnect()?;
        o.hash()
    }

    fn setsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        let Some(option) = o.data().option(level, name) else { return o.ip_setsockopt(level, name, value) };
        let n = i32::from_ne_bytes(value.get(..4).and_then(|v| v.try_into().ok()).ok_or(Errno::Inval)?);
        // Less than the header cannot be covered, but for 0, which is all.
        *option = Some(if n == 0 { 0 } else { n.clamp(HEADER as i32, 65_535) as u16 });
        Ok(())
    }

    fn getsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        let Some(option) = o.data().option(level, name) else { return o.ip_getsockopt(level, name, value) };
        let bytes = i32::from(option.unwrap_or(0)).to_ne_bytes();
        let n = value.len().min(bytes.len());
        value[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        let len = skb.len();
        let Some(h) = skb.head::<HEADER>() else { return bad(reg, skb, false, Drop::Header) };
        let coverage = half(&h, 4);
        let (from, to) = (SocketAddr::new(info.src.ip(), half(&h, 0)), SocketAddr::new(info.dst.ip(), half(&h, 2)));
        let short = (1..HEADER as u16).contains(&coverage);
        if short || usize::from(coverage) > len {
            reg.log(Level::Debug, &format!("coverage {coverage} of a datagram of {len} bytes"));
            return bad(reg, skb, short, COVERAGE);
        }
        if half(&h, 6) == 0 {
            return bad(reg, skb, true, NO_CSUM);
        }
        if csum_fold(skb.csum(0, covered(coverage, len), csum_pseudo(from, to, UDPLITE, len))) != 0 {
            return bad(reg, skb, true, Drop::Csum);
        }
        skb.set_cb(&from);
        if info.not_unicast {
            if reg.deliver_all(&mut skb, to, from) == Ok(0) {
                let _ = reg.count(IGNORED_MULTI, 1);
                reg.drop_skb(skb, Drop::NoSocket);
            }
            return;
        }
        match reg.lookup(to, from, info.ifindex) {
            // A full backlog has dropped and counted it.
            Some(sock) => _ = sock.deliver(skb),
            None => {
                let _ = reg.count(NO_PORTS, 1);
                let _ = reg.icmp_send(&mut skb, IcmpSend::PortUnreach);
                reg.drop_skb(skb, Drop::NoSocket);
            }
        }
    }

    /// The option says how much must be covered. What is covered as a whole is always enough.
    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, mut skb: Skb) {
        let (len, want) = (skb.len(), o.data().recv);
        let bytes = covered(skb.head().map_or(0, |h| half(&h, 4)), len);
        if want.is_some_and(|want| bytes < len && (want == 0 || bytes < want.into())) {
            return bad(o.reg(), skb, false, UNCOVERED);
        }
        if o.receive_push(skb).is_err() {
            let _ = o.reg().count(RCVBUF_ERRORS, 1);
            let _ = o.reg().count(IN_ERRORS, 1);
        }
    }

    fn err(&self, reg: ProtoReg<'_, Self>, e: &IcmpError<'_>) {
        let Some(h) = e.quoted.first_chunk::<HEADER>() else { return };
        let (from, to) = (SocketAddr::new(e.src.ip(), half(h, 0)), SocketAddr::new(e.dst.ip(), half(h, 2)));
        if let Some(sock) = reg.lookup(from, to, e.ifindex).filter(|sock| e.fatal && sock.state() == State::ESTABLISHED)
        {
            sock.error_report(e.error);
        }
    }

    fn diag_show(&self, o: &mut Owned<'_, Self>, columns: &mut Columns) {
        let (send, recv) = (o.data().send, o.data().recv);
        for (name, set) in [("send_cscov", send), ("recv_cscov", recv)] {
            if let Some(n) = set {
                let _ = columns.add(name, n);
            }
        }
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(UdpLite));

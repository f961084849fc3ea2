//! STEP: a stream over connections, `SOCK_STREAM` on IP protocol 253 (RFC 3692), as plain as one can be: each end has
//! one packet in flight, and sends it again until it is acknowledged. `cargo build -p usersock-plugin --example step`
//! makes libstep.so.
//!
//!   0 2 4 | from | to | seq | ack | flags | sum | payload ... big-endian: ports, numbers of 32 bits, and UDP's
//!   checksum
//!
//! Numbers count packets: a SYN is 0, the first of a listener's child too, and FIN counts as one. A packet without SYN,
//! FIN and payload is an acknowledgement and has no number of its own. A listener makes its child when a SYN comes,
//! which acknowledges it, and that is the handshake. What a real protocol has beside this: a window, an RTT, resets,
//! and a handshake in which a forged SYN makes nothing.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use usersock_plugin::prelude::*;
use usersock_plugin::{Drop, MSG_PEEK};

const STEP: u8 = 253;
const HEADER: usize = 16;
const MSS: usize = 1200;
/// Bytes that an end keeps for sending, and for receiving.
const ROOM: usize = 16 * MSS;
const TIMEOUT: Duration = Duration::from_millis(200);
const TRIES: u32 = 15;
/// After the FIN of the peer: it may not have heard our acknowledgement.
const LINGER: Duration = Duration::from_secs(3);

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;

const RETRANSMIT: u32 = 0;
const CLOSED: u32 = 1;

/// Counters, in the order of COUNTERS.
const OUT_SEGS: usize = 0;
const RETRANS_SEGS: usize = 1;
const IN_SEGS: usize = 2;

#[derive(Clone, Copy)]
struct Head {
    from: u16,
    to: u16,
    seq: u32,
    ack: u32,
    flags: u16,
}

impl Head {
    fn bytes(self, sum: u16) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[..2].copy_from_slice(&self.from.to_be_bytes());
        b[2..4].copy_from_slice(&self.to.to_be_bytes());
        b[4..8].copy_from_slice(&self.seq.to_be_bytes());
        b[8..12].copy_from_slice(&self.ack.to_be_bytes());
        b[12..14].copy_from_slice(&self.flags.to_be_bytes());
        b[14..].copy_from_slice(&sum.to_be_bytes());
        b
    }

    fn parse(b: [u8; HEADER]) -> Head {
        let half = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Head { from: half(0), to: half(2), seq: word(4), ack: word(8), flags: half(12) }
    }
}

/// A connection. A listener's is empty.
#[derive(Default)]
struct Conn {
    /// Number of the packet in flight, or of the next.
    snd: u32,
    /// What is in flight: its flags, and how many bytes of `out`.
    flight: Option<(u16, usize)>,
    tries: u32,
    /// Bytes that are not acknowledged.
    out: VecDeque<u8>,
    /// FIN follows `out`; it is acknowledged.
    ending: bool,
    ended: bool,
    /// Number of the packet that comes next.
    rcv: u32,
    inbound: VecDeque<u8>,
    peer_ended: bool,
    /// No program has the socket any more.
    closed: bool,
}

struct Step;

impl Step {
    /// Sends a packet: with `flags` 0 an acknowledgement alone.
    fn output(o: &mut Owned<'_, Self>, flags: u16, bytes: usize) -> Result<()> {
        let (local, peer) = o.ends()?;
        let conn = o.data();
        let payload: Vec<u8> = conn.out.iter().take(bytes).copied().collect();
        let head = Head { from: local.port(), to: peer.port(), seq: conn.snd, ack: conn.rcv, flags: flags | ACK };
        let sum = csum_pseudo(local, peer, STEP, HEADER + bytes);
        let sum = csum_fold(csum(&payload, csum(&head.bytes(0), sum)));
        let mut skb = Skb::new()?;
        skb.append(&head.bytes(sum))?;
        skb.append(&payload)?;
        let _ = o.reg().count(OUT_SEGS, 1);
        // The queue is full: that is a loss, and the timer's business.
        o.xmit(skb, None).or_else(|e| if e == Errno::NoBufs { Ok(()) } else { Err(e) })
    }

    /// Sends the next packet, if none is in flight and there is one to send.
    fn push(o: &mut Owned<'_, Self>) -> Result<()> {
        let conn = o.data();
        if conn.flight.is_some() {
            return Ok(());
        }
        let bytes = conn.out.len().min(MSS);
        let flags = if bytes == 0 && conn.ending && !conn.ended { FIN } else { 0 };
        if bytes == 0 && flags == 0 {
            return Ok(());
        }
        Self::begin(o, flags, bytes)
    }

    fn begin(o: &mut Owned<'_, Self>, flags: u16, bytes: usize) -> Result<()> {
        let conn = o.data();
        conn.flight = Some((flags, bytes));
        conn.tries = 0;
        o.timer_arm(RETRANSMIT, o.now() + TIMEOUT)?;
        Self::output(o, flags, bytes)
    }

    /// The connection is over, with an error or without.
    fn fail(o: &mut Owned<'_, Self>, error: Option<Errno>) {
        if let Some(error) = error {
            o.error_report(error);
        }
        let _ = o.set_state(State::CLOSE);
        o.timer_cancel(RETRANSMIT);
        o.unhash();
        o.wake(Events::IN | Events::OUT | Events::HUP);
        if o.data().closed {
            let _ = o.done();
        }
    }

    /// What was in flight has arrived.
    fn acknowledged(o: &mut Owned<'_, Self>, flags: u16, bytes: usize) {
        let conn = o.data();
        conn.flight = None;
        conn.snd = conn.snd.wrapping_add(1);
        conn.out.drain(..bytes);
        conn.ended |= flags & FIN != 0;
        o.timer_cancel(RETRANSMIT);
        if flags & SYN != 0 {
            let _ = o.set_state(State::ESTABLISHED);
        }
        o.wake(Events::OUT);
        let _ = Self::push(o);
        Self::end(o);
    }

    /// A packet for a connection.
    fn arrive(o: &mut Owned<'_, Self>, head: Head, skb: &Skb) {
        let _ = o.reg().count(IN_SEGS, 1);
        let len = skb.len() - HEADER;
        let conn = o.data();
        if let Some((flags, bytes)) =
            conn.flight.filter(|_| head.flags & ACK != 0 && head.ack == conn.snd.wrapping_add(1))
        {
            Self::acknowledged(o, flags, bytes);
        }
        if head.flags & (SYN | FIN) == 0 && len == 0 {
            return; // an acknowledgement
        }
        let conn = o.data();
        // A packet that there is no room for is lost, and comes again.
        if head.flags & SYN == 0 && head.seq == conn.rcv && conn.inbound.len() + len <= ROOM {
            conn.rcv = conn.rcv.wrapping_add(1);
            let mut bytes = vec![0; len];
            skb.copy(HEADER, &mut bytes);
            conn.inbound.extend(bytes);
            if head.flags & FIN != 0 {
                conn.peer_ended = true;
                let _ = o.set_shutdown(Shutdown::RECV);
            }
            o.wake(Events::IN);
        }
        let _ = Self::output(o, 0, 0);
    }

    /// Ends a connection that is closed here and whose FIN has arrived, some time after that: the peer may still send,
    /// and wants its FIN acknowledged.
    fn end(o: &mut Owned<'_, Self>) {
        let conn = o.data();
        if conn.closed && conn.ended && o.timer_at(CLOSED).is_none() {
            let _ = o.timer_arm(CLOSED, o.now() + LINGER);
        }
    }

    /// A listener gets a SYN: makes the child.
    fn listening(o: &mut Owned<'_, Self>, head: Head, (local, peer): (SocketAddr, SocketAddr)) -> Result<()> {
        let info = o.info();
        if head.flags & SYN == 0 || info.ack_backlog > info.max_ack_backlog {
            return Ok(());
        }
        let child = o.new_child()?;
        child.locked(|c| {
            c.data().rcv = 1;
            let begun = c.set_ends(local, peer).and_then(|()| c.set_state(State::ESTABLISHED)).and_then(|()| c.hash());
            match begun.and_then(|()| o.accept_push(&child)) {
                Ok(()) => Self::output(c, 0, 0),
                Err(_) => c.done(),
            }
        })?
    }

    fn poll(&self, o: &mut Owned<'_, Self>) -> Events {
        let (state, shut, failed) = (o.state(), o.shut_down(), o.info().error.is_some());
        let accepts = state == State::LISTEN && o.info().ack_backlog > 0;
        let conn = o.data();
        let readable = !conn.inbound.is_empty() || shut.recv() || failed || accepts || state == State::CLOSE;
        let writable = state == State::ESTABLISHED && conn.out.len() < ROOM || failed || state == State::CLOSE;
        Events::IN.when(readable)
            | Events::OUT.when(writable)
            | Events::ERR.when(failed)
            | Events::HUP.when(state == State::CLOSE || shut.recv() && shut.send())
            | Events::RDHUP.when(shut.recv())
    }
}

impl Protocol for Step {
    type Sock = Conn;
    const NAME: &'static str = "STEP";
    const TYPE: SockType = SockType::Stream;
    const PROTOCOL: u16 = STEP as u16;
    const FLAGS: u32 = usersock_plugin::proto::flags::V4
        | usersock_plugin::proto::flags::V6
        | usersock_plugin::proto::flags::CONNECTIONS;
    const COUNTERS: &'static [&'static str] = &["StepOutSegs", "StepRetransSegs", "StepInSegs"];
    const MORE: ProtoMore<Self> = ProtoMore { poll: Some(Self::poll), ..ProtoMore::NONE };

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Send, msg.flags());
        let mut sent = 0;
        let mut buf = [0; MSS];
        while !msg.is_empty() {
            o.take_error()?;
            if o.data().ending || !matches!(o.state(), State::ESTABLISHED) {
                return if sent > 0 { Ok(sent) } else { Err(Errno::Pipe) };
            }
            let room = ROOM.saturating_sub(o.data().out.len()).min(MSS);
            if room == 0 {
                match o.wait(Events::OUT, until) {
                    Err(_) if sent > 0 => return Ok(sent),
                    r => r?,
                }
                continue;
            }
            let n = msg.take(&mut buf[..room])?;
            o.data().out.extend(&buf[..n]);
            sent += n;
            Self::push(o)?;
        }
        Ok(sent)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        let target = o.rcvlowat(msg.flags(), msg.room());
        let mut got = 0;
        loop {
            let peek = msg.flags() & MSG_PEEK != 0;
            let conn = o.data();
            let (front, _) = conn.inbound.as_slices();
            let n = msg.put(front)?;
            got += n;
            if !peek {
                conn.inbound.drain(..n);
            }
            if n > 0 && !peek && msg.room() > 0 {
                continue; // the other half of the ring
            }
            if got > 0 && (got >= target || msg.room() == 0 || peek) {
                return Ok(got);
            }
            if o.shut_down().recv() {
                return Ok(got);
            }
            if got == 0 {
                o.take_error()?;
                if o.state() != State::ESTABLISHED {
                    return Err(Errno::NotConn);
                }
            }
            match o.wait(Events::IN, until) {
                Err(_) if got > 0 => return Ok(got),
                r => r?,
            }
        }
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        if to.port() == 0 {
            return Err(Errno::AddrNotAvail);
        }
        o.route_connect(to)?;
        if o.local().port() == 0 {
            o.get_port(0)?;
        }
        o.hash()?;
        o.set_state(State::SYN_SENT)?;
        *o.data() = Conn::default();
        Self::begin(o, SYN, 0)
    }

    fn disconnect(&self, o: &mut Owned<'_, Self>) -> Result<()> {
        if o.state() == State::LISTEN {
            return o.listen_stop();
        }
        o.timer_cancel(RETRANSMIT);
        *o.data() = Conn::default();
        o.route_disconnect()
    }

    fn listen(&self, o: &mut Owned<'_, Self>, backlog: u32) -> Result<()> {
        o.listen_start(backlog)
    }

    fn shutdown(&self, o: &mut Owned<'_, Self>, how: i32) {
        if how & Shutdown::SEND.0 != 0 && o.state() == State::ESTABLISHED {
            o.data().ending = true;
            let _ = Self::push(o);
        }
    }

    fn close(&self, o: &mut Owned<'_, Self>, _flags: i32) {
        if o.state() != State::ESTABLISHED {
            let _ = o.done();
            return;
        }
        let conn = o.data();
        conn.closed = true;
        conn.ending = true;
        let _ = Self::push(o);
        Self::end(o);
    }

    fn release_cb(&self, o: &mut Owned<'_, Self>, bits: u32) {
        if bits & 1 << CLOSED != 0 && o.timer_at(CLOSED).is_none() {
            let _ = o.done();
            return;
        }
        if bits & 1 << RETRANSMIT == 0 || o.timer_at(RETRANSMIT).is_some() {
            return;
        }
        let conn = o.data();
        let Some((flags, bytes)) = conn.flight else { return };
        conn.tries += 1;
        if conn.tries > TRIES {
            return Self::fail(o, Some(Errno::TimedOut));
        }
        let _ = o.reg().count(RETRANS_SEGS, 1);
        let _ = o.timer_arm(RETRANSMIT, o.now() + TIMEOUT);
        let _ = Self::output(o, flags, bytes);
    }

    fn rcv(&self, reg: ProtoReg<'_, Self>, mut skb: Skb, info: &PacketInfo) {
        let Some(head) = skb.head().map(Head::parse) else { return reg.drop_skb(skb, Drop::Header) };
        let (from, to) = (SocketAddr::new(info.src.ip(), head.from), SocketAddr::new(info.dst.ip(), head.to));
        let len = skb.len();
        if csum_fold(skb.csum(0, len, csum_pseudo(from, to, STEP, len))) != 0 {
            return reg.drop_skb(skb, Drop::Csum);
        }
        match reg.lookup(to, from, info.ifindex) {
            Some(sock) => {
                skb.set_cb(&(from, to));
                let _ = sock.deliver(skb);
            }
            None => reg.drop_skb(skb, Drop::NoSocket),
        }
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, mut skb: Skb) {
        let (from, to): (SocketAddr, SocketAddr) = skb.cb();
        let Some(head) = skb.head().map(Head::parse) else { return };
        match o.state() {
            State::LISTEN => {
                // There is no memory, or the backlog is full: the SYN comes again.
                let _ = Self::listening(o, head, (to, from));
            }
            State::CLOSE => o.reg().drop_skb(skb, Drop::State),
            _ => Self::arrive(o, head, &skb),
        }
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Step));

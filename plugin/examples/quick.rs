//! QUICK, a transport over UDP, in Rust: `c-tests/plugins/quick.c` is the same in C, and says more. Messages over
//! connections (SOCK_SEQPACKET, 300); all sockets of a stack are behind one UDP port, and a packet says by a connection
//! id whose it is. `cargo build -p usersock-plugin --example quick` makes libquick.so.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use usersock_plugin::prelude::*;
use usersock_plugin::proto::flags;
use usersock_plugin::{Drop, refuse};

const UDP_PORT: u16 = 4433;
const WINDOW: usize = 16;
const TRIES: u32 = 8;

/// Of socket(7), in Linux's numbers.
const SOL_SOCKET: i32 = 1;
const SO_SNDBUF: i32 = 7;
const SNDBUF: i32 = 1 << 20;

/// Counters and a sysctl, by their places in COUNTERS and SYSCTLS.
const OUT_PACKETS: usize = 0;
const RESENT: usize = 1;
const MOVED: usize = 2;
const RTO_MS: usize = 0;

/// Bits of `release_cb`.
const TIMER: u32 = 1;
const REFUSED: u32 = 1 << 8;

const INITIAL: u8 = 1;
const ACCEPTED: u8 = 2;
const DATA: u8 = 3;
const END: u8 = 4;
const ACK: u8 = 5;
const RESET: u8 = 6;

/// `ack`: the number that the sender of an ACK waits for; of INITIAL the ports, from and to.
#[derive(Clone, Copy)]
struct Head {
    kind: u8,
    to: u32,
    from: u32,
    seq: u32,
    ack: u32,
}
const HEADER: usize = 20;

impl Head {
    fn bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind;
        for (to, word) in bytes[4..].chunks_exact_mut(4).zip([self.to, self.from, self.seq, self.ack]) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
    fn parse(bytes: [u8; HEADER]) -> Head {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Head { kind: bytes[0], to: word(4), from: word(8), seq: word(12), ack: word(16) }
    }
    /// The ports of an INITIAL.
    fn ports(self) -> (u16, u16) {
        ((self.ack >> 16) as u16, self.ack as u16)
    }
}

/// A sock's data.
#[derive(Default)]
struct Conn {
    id: u32,
    peer: u32,
    /// Where the peer's datagrams come from.
    path: Option<SocketAddr>,
    /// Not acknowledged, with their kinds: the first has number `una`.
    sent: VecDeque<(u8, Skb)>,
    una: u32,
    expected: u32,
    tries: u32,
    same: u32,
    ended: bool,
}

/// What a stack has.
#[derive(Default)]
struct Quick {
    port: OnceLock<UdpPort<Quick>>,
    /// By connection id, with the path while a connection is being made.
    table: Mutex<BTreeMap<u32, (Sock<Quick>, SocketAddr)>>,
}

type O<'a, 'b> = &'a mut Owned<'b, Quick>;

impl Quick {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u32, (Sock<Quick>, SocketAddr)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, o: O<'_, '_>, path: SocketAddr) -> Result<()> {
        let (held, mut id) = (o.held(), [0; 4]);
        let mut table = self.table();
        while u32::from_ne_bytes(id) == 0 || table.contains_key(&u32::from_ne_bytes(id)) {
            o.reg().random(&mut id)?;
        }
        table.insert(u32::from_ne_bytes(id), (held, path));
        drop(table);
        (o.data().id, o.data().path) = (u32::from_ne_bytes(id), Some(path));
        Ok(())
    }

    /// Sends a packet, from the address that the peer knows. A loss is a loss: the timer sends it again.
    fn transmit(&self, o: O<'_, '_>, kind: u8, seq: u32, ack: u32, skb: Option<Skb>) {
        let head = Head { kind, to: o.data().peer, from: o.data().id, seq, ack }.bytes();
        let (Some(port), Some(path)) = (self.port.get(), o.data().path) else { return };
        let Ok(mut skb) = skb.map_or_else(Skb::new, Ok) else { return };
        let tx = TxInfo { src: Some(o.local().ip()), ..TxInfo::default() };
        if skb.push(&head).is_ok() {
            let _ = port.send(o.reg(), skb, path, &tx);
        }
        let _ = o.reg().count(OUT_PACKETS, 1);
    }

    fn arm(o: O<'_, '_>) {
        let ms = o.reg().sysctl(RTO_MS) as u64;
        let rto = Duration::from_millis(ms << o.data().tries.min(4));
        if !o.data().sent.is_empty() || o.state() == State::SYN_SENT {
            let _ = o.timer_arm(0, o.now() + rto);
        } else {
            o.timer_cancel(0);
        }
    }

    fn send_initial(&self, o: O<'_, '_>) {
        if let Ok((from, to)) = o.ends() {
            self.transmit(o, INITIAL, 0, u32::from(from.port()) << 16 | u32::from(to.port()), None);
        }
    }

    fn send_again(&self, o: O<'_, '_>) {
        for i in 0..o.data().sent.len() {
            let una = o.data().una;
            let (kind, skb) = &o.data().sent[i];
            let (kind, skb) = (*kind, skb.share().ok());
            self.transmit(o, kind, una.wrapping_add(i as u32), 0, skb);
            let _ = o.reg().count(RESENT, 1);
        }
    }

    /// Sends a packet, which is charged to the send buffer, and keeps it.
    fn send_new(&self, o: O<'_, '_>, kind: u8, mut skb: Skb) -> Result<()> {
        o.charge(Direction::Send, Some(&mut skb), 0)?;
        let seq = o.data().una.wrapping_add(o.data().sent.len() as u32);
        let copy = skb.share()?;
        o.data().sent.push_back((kind, skb));
        self.transmit(o, kind, seq, 0, Some(copy));
        if o.data().sent.len() == 1 {
            Self::arm(o);
        }
        Ok(())
    }

    fn send_end(&self, o: O<'_, '_>) {
        if !o.data().ended && o.state() == State::ESTABLISHED {
            o.data().ended = true;
            let _ = Skb::new().and_then(|skb| self.send_new(o, END, skb));
        }
    }

    fn acknowledged(o: O<'_, '_>, n: usize) {
        for _ in 0..n {
            if let Some((_, skb)) = o.data().sent.pop_front() {
                o.uncharge(Direction::Send, Some(&skb), 0);
                o.data().una = o.data().una.wrapping_add(1);
            }
        }
    }

    /// The connection is over: the program is told, or has closed it already.
    fn fail(o: O<'_, '_>, error: Errno) {
        let state = o.state();
        let n = o.data().sent.len();
        Self::acknowledged(o, n);
        o.timer_cancel(0);
        o.unhash();
        let _ = o.set_state(State::CLOSE);
        let _ = o.set_shutdown(Shutdown::RECV);
        let _ = o.set_shutdown(Shutdown::SEND);
        o.error_report(error);
        if state == State::FIN_WAIT1 {
            let _ = o.done();
        }
    }

    /// An INITIAL for a listener makes a connection.
    fn accept_new(
        &self,
        o: O<'_, '_>,
        head: Head,
        (from, src, dst): (SocketAddr, SocketAddr, SocketAddr),
    ) -> Result<()> {
        let child = o.new_child()?;
        child.locked(|c| {
            c.data().peer = head.from;
            let made = self.enter(c, from).and_then(|()| {
                c.set_ends(dst, src)?;
                c.set_state(State::ESTABLISHED)?;
                c.hash()?;
                o.accept_push(&child)
            });
            match made {
                Ok(()) => self.transmit(c, ACCEPTED, 0, 0, None),
                Err(_) => {
                    let _ = c.done();
                }
            }
        })
    }

    fn got_ack(&self, o: O<'_, '_>, ack: u32) {
        let (n, sent) = (ack.wrapping_sub(o.data().una) as usize, o.data().sent.len());
        if n > sent {
            return;
        }
        o.data().tries = 0; // the peer is there, though it may have no room
        if n == 0 {
            o.data().same += u32::from(sent > 0);
            if sent > 0 && o.data().same == 3 {
                self.send_again(o);
            }
            return;
        }
        Self::acknowledged(o, n);
        o.data().same = 0;
        Self::arm(o);
        o.wake(Events::OUT);
        if o.state() == State::FIN_WAIT1 && o.data().sent.is_empty() {
            let _ = o.done();
        }
    }

    /// DATA or END, whose number is the next: what does not fit into the receive buffer will come again.
    fn got_data(&self, o: O<'_, '_>, head: Head, mut skb: Skb) {
        let next = head.seq == o.data().expected;
        if next && head.kind == DATA && o.state() == State::FIN_WAIT1 {
            // Nobody will read it.
            self.transmit(o, RESET, 0, 0, None);
            return Self::fail(o, Errno::ConnReset);
        }
        let taken = next && (head.kind == END || skb.pull(HEADER).and_then(|()| o.receive_push(skb)).is_ok());
        if taken {
            o.data().expected = head.seq.wrapping_add(1);
        }
        if taken && head.kind == END {
            let _ = o.set_shutdown(Shutdown::RECV);
            o.wake(Events::IN | Events::RDHUP);
        }
        let expected = o.data().expected;
        self.transmit(o, ACK, 0, expected, None);
    }
}

impl Protocol for Quick {
    type Sock = Conn;
    const NAME: &'static str = "QUICK";
    const TYPE: SockType = SockType::SeqPacket;
    const PROTOCOL: u16 = 300;
    const FLAGS: u32 = flags::V4 | flags::V6 | flags::CONNECTIONS;
    const COUNTERS: &'static [&'static str] = &["QuickOutPackets", "QuickResent", "QuickMoved"];
    const SYSCTLS: &'static [Sysctl] =
        &[Sysctl { name: "rto_ms", value: 200, min: 1, max: 60_000, help: "Time until packets are sent again, ms." }];
    const MORE: ProtoMore<Self> = ProtoMore {
        // What poll calls room to send.
        stream_memory_free: Some(|_, conn, _| conn.peer != 0 && conn.sent.len() < WINDOW),
        ..ProtoMore::NONE
    };

    fn registered(&self, reg: ProtoReg<'_, Self>) -> Result<()> {
        let port = reg.udp_open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), UDP_PORT));
        let port = port.inspect_err(|_| {
            refuse("UDP port 4433 is not to be had");
        })?;
        // What the devices hold of all connections is the port's.
        port.setsockopt(reg, SOL_SOCKET, SO_SNDBUF, &SNDBUF.to_ne_bytes())?;
        let _ = self.port.set(port);
        Ok(())
    }

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        if to.port() == 0 || o.data().id != 0 {
            return Err(Errno::Inval);
        }
        o.route_connect(to)?;
        if o.local().port() == 0 {
            o.get_port(0)?;
        }
        o.hash()?;
        o.set_state(State::SYN_SENT)?;
        self.enter(o, SocketAddr::new(to.ip(), UDP_PORT))?;
        self.send_initial(o);
        Self::arm(o);
        Ok(())
    }

    fn listen(&self, o: &mut Owned<'_, Self>, backlog: u32) -> Result<()> {
        o.listen_start(backlog)
    }

    fn disconnect(&self, o: &mut Owned<'_, Self>) -> Result<()> {
        // shutdown(SHUT_RD) ends a listener.
        if o.state() == State::LISTEN { o.listen_stop() } else { Err(Errno::OpNotSupp) }
    }

    fn shutdown(&self, o: &mut Owned<'_, Self>, how: i32) {
        if Shutdown(how).send() {
            self.send_end(o);
        }
    }

    fn close(&self, o: &mut Owned<'_, Self>, _flags: i32) {
        self.send_end(o);
        // What the program has sent must still arrive.
        if o.data().sent.is_empty() || o.set_state(State::FIN_WAIT1).is_err() {
            let _ = o.done();
        }
    }

    fn destroy(&self, o: &mut Owned<'_, Self>) {
        let gone = self.table().remove(&o.data().id);
        drop(gone);
        let n = o.data().sent.len();
        Self::acknowledged(o, n);
    }

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let (len, until) = (msg.len(), o.timeo(Direction::Send, msg.flags()));
        loop {
            o.take_error()?;
            if o.data().ended || o.shut_down().send() {
                return Err(Errno::Pipe);
            }
            match o.state() {
                State::ESTABLISHED if o.data().sent.len() < WINDOW => break,
                State::ESTABLISHED | State::SYN_SENT => o.wait(Events::OUT, until)?,
                _ => return Err(Errno::NotConn),
            }
        }
        let (port, path) = (self.port.get().ok_or(Errno::NotConn)?, o.data().path.ok_or(Errno::NotConn)?);
        if len + HEADER > port.mtu(o.reg(), path)? {
            return Err(Errno::MsgSize);
        }
        let skb = msg.skb(len)?;
        self.send_new(o, DATA, skb)?;
        Ok(len)
    }

    fn recvmsg(&self, o: &mut Owned<'_, Self>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let until = o.timeo(Direction::Recv, msg.flags());
        while o.receive_peek().is_none() {
            o.take_error()?;
            if o.shut_down().recv() {
                return Ok(0);
            }
            if matches!(o.state(), State::CLOSE | State::LISTEN) {
                return Err(Errno::NotConn);
            }
            o.wait(Events::IN, until)?;
        }
        o.receive_msg(msg, 0)
    }

    fn backlog_rcv(&self, o: &mut Owned<'_, Self>, mut skb: Skb) {
        let Some(head) = skb.head().map(Head::parse) else { return };
        let (from, dst): (SocketAddr, SocketAddr) = skb.cb();
        match (o.state(), head.kind) {
            (State::LISTEN, INITIAL) => {
                let (sport, dport) = head.ports();
                let ends = (SocketAddr::new(from.ip(), sport), SocketAddr::new(dst.ip(), dport));
                // There is no memory, or the backlog is full: it comes again.
                let _ = self.accept_new(o, head, (from, ends.0, ends.1));
            }
            // The first one was lost.
            (_, INITIAL) if o.data().peer == head.from => self.transmit(o, ACCEPTED, 0, 0, None),
            (State::SYN_SENT, ACCEPTED) => {
                (o.data().peer, o.data().tries) = (head.from, 0);
                let _ = o.set_state(State::ESTABLISHED);
                Self::arm(o);
                o.wake(Events::OUT);
            }
            (State::CLOSE, _) => {}
            (State::SYN_SENT, RESET) => Self::fail(o, Errno::ConnRefused),
            (_, RESET) => Self::fail(o, Errno::ConnReset),
            (State::ESTABLISHED | State::FIN_WAIT1, DATA..=ACK) => {
                if o.data().path.replace(from) != Some(from) {
                    let _ = o.reg().count(MOVED, 1);
                }
                if head.kind == ACK { self.got_ack(o, head.ack) } else { self.got_data(o, head, skb) }
            }
            _ => {}
        }
    }

    fn release_cb(&self, o: &mut Owned<'_, Self>, bits: u32) {
        let (state, waits) = (o.state(), !o.data().sent.is_empty());
        if bits & REFUSED != 0 && state == State::SYN_SENT {
            return Self::fail(o, Errno::ConnRefused);
        }
        if bits & TIMER == 0 || o.timer_at(0).is_some() || !(waits || state == State::SYN_SENT) {
            return;
        }
        o.data().tries += 1;
        if o.data().tries > TRIES {
            return Self::fail(o, Errno::TimedOut);
        }
        if state == State::SYN_SENT {
            self.send_initial(o)
        } else {
            self.send_again(o)
        }
        Self::arm(o);
    }

    fn encap_rcv(&self, reg: ProtoReg<'_, Self>, port: &UdpPort<Self>, mut skb: Skb, info: &PacketInfo) {
        let Some(head) = skb.head().map(Head::parse).filter(|h| (INITIAL..=RESET).contains(&h.kind)) else {
            return reg.drop_skb(skb, Drop::Header);
        };
        let (sport, dport) = head.ports();
        let ends = (SocketAddr::new(info.src.ip(), sport), SocketAddr::new(info.dst.ip(), dport));
        let sock = match head.kind {
            INITIAL => reg.lookup(ends.1, ends.0, info.ifindex),
            _ => self.table().get(&head.to).map(|(sock, _)| sock.clone()),
        };
        if let Some(sock) = sock {
            skb.set_cb(&(info.src, info.dst));
            let _ = sock.deliver(skb);
            return;
        }
        // Nobody's: its sender is told.
        if matches!(head.kind, INITIAL | DATA | END) {
            let reset = Head { kind: RESET, to: head.from, from: head.to, seq: 0, ack: 0 }.bytes();
            let tx = TxInfo { src: Some(info.dst.ip()), ..TxInfo::default() };
            let reply = Skb::new().and_then(|mut reply| reply.append(&reset).map(|()| reply));
            let _ = reply.and_then(|reply| port.send(reg, reply, info.src, &tx));
        }
        reg.drop_skb(skb, Drop::NoSocket);
    }

    /// Nothing is at the UDP port of the peer, or no way leads there: who connects to it is told.
    fn encap_err(&self, _reg: ProtoReg<'_, Self>, _port: &UdpPort<Self>, error: &IcmpError<'_>) {
        let told: Vec<Sock<Self>> = match error.fatal {
            true => {
                self.table().values().filter(|(_, path)| *path == error.dst).map(|(sock, _)| sock.clone()).collect()
            }
            false => Vec::new(),
        };
        told.iter().for_each(|sock| sock.defer(REFUSED));
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Quick::default()));

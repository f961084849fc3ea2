//! The protocol: a sock's part, input, output, and the table of operations. A listener answers SYN with a cookie.
//! What a skeleton leaves out: the window is fixed (`WINDOW` packets), whatever is lost is sent again from there on
//! (go-back-N) by a timer without estimation, and there are no resets, no TIME-WAIT, no options and no counters.
//!
//! | here | in C |
//! |---|---|
//! | `Conn`, in `SockState::private` | `struct rdp_sock`, in `usk_private` |
//! | `impl IpHandler`: `rcv` | `rdp_rcv` (rdp_in.c) |
//! | `backlog_rcv`, `listening`, `arrive` | `rdp_backlog_rcv`, `listen_syn`, `listen_ack`, `synchronized` (rdp_in.c) |
//! | `transmit`, `push`, `release_cb` | rdp_out.c |
//! | `sendmsg`, `recvmsg`, `poll_locked` | rdp_msg.c |
//! | `connect`, `listen`, `accept`, `shutdown`, `close` | rdp.c |
//! | `PortTable`, `AcceptQueue`, `accept::accept` | `usk_get_port`, `usk_hash`, `usk_accept_push`, `usk_accept_wait` |

use super::packet::{ACK, BEG, END, FIN, HEADER, Head, RDP, SYN, before, checksum_of};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use usersock::counters::DropReason;
use usersock::error::{Error, Result};
use usersock::hash::{Tuple, addr128};
use usersock::ip::output::{self, IpTx};
use usersock::ip::port_table::{PortEntry, PortTable};
use usersock::ip::{bind, datagram, kind, plan, route};
use usersock::sock::accept::{self, AcceptQueue};
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::packet::{IcmpError, PacketInfo};
use usersock::sock::proto::{IpHandler, Proto, SockRef};
use usersock::sock::registry::ProtoSwitch;
use usersock::sock::skb::{Skb, TxOwner};
use usersock::sock::state::State;
use usersock::sock::wait::Events;
use usersock::sock::{Private, Sock, SockGuard, flag, mem};
use usersock::stack::{Stack, TimerSlot};

/// Payload bytes of a packet.
const MSS: usize = 1400;
/// Packets in flight, and half of what may be queued.
const WINDOW: usize = 32;
const TIMEOUT: Duration = Duration::from_millis(100);
const TRIES: u32 = 12;

/// A packet that waits for its acknowledgement.
struct Seg {
    seq: u32,
    end: u32,
    flags: u8,
    payload: Skb,
}

/// The protocol's part of a sock.
#[derive(Default)]
pub(crate) struct Conn {
    snd_una: u32,
    /// One past the last number queued.
    write_seq: u32,
    rcv_nxt: u32,
    /// The first `in_flight` of `queue` are sent.
    queue: VecDeque<Seg>,
    in_flight: usize,
    tries: u32,
    timer: TimerSlot,
    /// The receive queue ends inside a message; whole messages in it.
    inside: bool,
    whole: usize,
    fin_queued: bool,
    fin_got: bool,
    was_connected: bool,
    pub(crate) resent: u64,
    /// Of a listener.
    accept: AcceptQueue,
    /// In the port table by itself, or as a child on its listener's port.
    bound: bool,
    adopted: Option<(u16, (IpAddr, u16))>,
}

pub(crate) fn conn<'a>(g: &'a mut SockGuard<'_>) -> Result<&'a mut Conn> {
    g.private.downcast_mut().ok_or(Error::BadFd)
}

/// The protocol of one stack.
#[derive(Default)]
pub(crate) struct Rdp {
    ports: PortTable,
}

impl Rdp {
    pub(crate) fn register(stack: &Arc<Stack>) -> std::result::Result<(), usersock::sock::registry::RegisterError> {
        let rdp = Arc::new(Rdp::default());
        let key = |family| ProtoSwitch::new(family, libc::SOCK_SEQPACKET, RDP.into(), rdp.clone()).by_default();
        stack.registry.register(&[key(libc::AF_INET), key(libc::AF_INET6)], Some((&[RDP], rdp.clone())))
    }

    /// Sends one packet to the peer: header, route, IP. What goes wrong is a loss like any other.
    fn transmit(&self, g: &mut SockGuard<'_>, flags: u8, seq: u32, payload: Skb) {
        let _ = self.try_transmit(g, flags, seq, payload);
    }

    fn try_transmit(&self, g: &mut SockGuard<'_>, flags: u8, seq: u32, mut skb: Skb) -> Result<()> {
        let peer = g.common.peer().ok_or(Error::NotConn)?;
        let mut plan = plan::plan(g, peer, &[], 0)?;
        let head = Head { from: g.common.sport, to: peer.port(), seq, ack: conn(g)?.rcv_nxt, flags };
        head.write(&mut skb, plan.src, peer.ip())?;
        let df = plan.fit(g, 40 + skb.len())?;
        skb.owner = Some(TxOwner::new(g.sock, skb.truesize));
        let mut tx = IpTx::new(plan.src, peer.ip(), RDP, plan.ttl, g.now());
        (tx.tos, tx.df) = (plan.tos, df);
        output::xmit(g.stack, &plan.dst, &tx, skb).map(drop)
    }

    fn send_ack(&self, g: &mut SockGuard<'_>) {
        let Ok(seq) = conn(g).map(|c| c.write_seq) else { return };
        self.transmit(g, ACK, seq, Skb::new());
    }

    /// Sends packet `i` of the queue.
    fn send_queued(&self, g: &mut SockGuard<'_>, i: usize) {
        let Ok(c) = conn(g) else { return };
        let Some(seg) = c.queue.get(i) else { return };
        let (flags, seq, payload) = (seg.flags, seg.seq, seg.payload.share());
        self.transmit(g, flags | if flags & SYN != 0 { 0 } else { ACK }, seq, payload);
    }

    /// Sends what the window allows, and sees that the timer runs while anything is in flight.
    fn push(&self, g: &mut SockGuard<'_>) {
        loop {
            let Ok(c) = conn(g) else { return };
            if c.in_flight >= WINDOW || c.in_flight >= c.queue.len() {
                break;
            }
            c.in_flight += 1;
            let i = c.in_flight - 1;
            self.send_queued(g, i);
        }
        self.arm(g, false);
    }

    fn arm(&self, g: &mut SockGuard<'_>, again: bool) {
        let (stack, sock, now) = (g.stack, g.sock, g.now());
        let Ok(c) = conn(g) else { return };
        if c.in_flight == 0 {
            stack.timers.cancel(&mut c.timer);
        } else if again || !c.timer.is_armed() {
            stack.arm_sock(&mut c.timer, sock, 1, now + TIMEOUT * (1 << c.tries.min(6)));
        }
    }

    fn enqueue(&self, g: &mut SockGuard<'_>, flags: u8, payload: Skb) {
        let Ok(c) = conn(g) else { return };
        let ends = u32::from(flags & (SYN | FIN | END) != 0);
        let seq = c.write_seq;
        c.write_seq = seq.wrapping_add(payload.len() as u32 + ends);
        c.queue.push_back(Seg { seq, end: c.write_seq, flags, payload });
    }

    fn fin(&self, g: &mut SockGuard<'_>) {
        if conn(g).is_ok_and(|c| !std::mem::replace(&mut c.fin_queued, true)) {
            self.enqueue(g, FIN, Skb::new());
            self.push(g);
        }
    }

    /// Over: out of the tables, nothing is queued any more. What was received stays for the program, if there is one.
    fn finish(&self, g: &mut SockGuard<'_>, error: Option<Error>) {
        let (stack, sock) = (g.stack, g.sock);
        self.unhash(g);
        if let Ok(c) = conn(g) {
            stack.timers.cancel(&mut c.timer);
            c.queue.clear();
            c.in_flight = 0;
        }
        sock.set_state(State::Close);
        if g.common.flag(flag::DEAD) {
            return datagram::close(g);
        }
        if let Some(e) = error {
            sock.report_error(e);
        }
        sock.wait.wake(Events::ALL);
    }

    /// The listener's first number, which says all it would have to remember of a SYN.
    fn cookie(stack: &Stack, local: SocketAddr, peer: SocketAddr, isn: u32) -> u32 {
        let t =
            Tuple { saddr: addr128(local.ip()), sport: local.port(), daddr: addr128(peer.ip()), dport: peer.port() };
        stack.keys.ehash(&t).wrapping_add(isn)
    }

    /// A listener answers SYN and forgets it; an answer to its cookie makes the connection.
    fn listening(&self, g: &mut SockGuard<'_>, head: Head, info: PacketInfo, skb: Skb) {
        let (stack, local) = (g.stack, SocketAddr::new(info.dst, head.to));
        let peer = kind::name_of(info.src, head.from, info.ifindex);
        let full = g.common.ack_backlog > g.common.max_ack_backlog;
        if full || head.flags & (SYN | ACK) == SYN | ACK {
            return stack.mib.drop(DropReason::PluginRefused);
        }
        if head.flags & SYN != 0 {
            let seq = Rdp::cookie(stack, local, peer, head.seq);
            let answer = Head { from: head.to, to: head.from, seq, ack: head.seq.wrapping_add(1), flags: SYN | ACK };
            let mut skb = Skb::new();
            // A lost answer is asked for again.
            let _ = answer.write(&mut skb, info.dst, info.src).and_then(|()| {
                let dst = route::lookup(stack, info.src, Some(info.dst), 0)?;
                let ttl = output::default_ttl(stack, &dst, info.src.is_ipv4());
                let tx = IpTx::new(info.dst, info.src, RDP, ttl, g.now());
                output::xmit(stack, &dst, &tx, skb)
            });
            return;
        }
        // Go-back-N: the first packet after the handshake has the number after the SYN's, or is of no use.
        let isn = head.seq.wrapping_sub(1);
        let iss = head.ack.wrapping_sub(1);
        if head.flags & ACK == 0 || iss != Rdp::cookie(stack, local, peer, isn) {
            return stack.mib.drop(DropReason::PluginRefused);
        }
        let child = g.sock.new_child(stack);
        if self.begin(&child, stack, local, peer, (iss, isn), skb).is_err() {
            return stack.mib.drop(DropReason::PluginRefused);
        }
        let max = g.common.max_ack_backlog;
        let Ok(c) = conn(g) else { return };
        // There is room: `full` said so, and the listener is owned since.
        let _ = c.accept.push(child, max);
        g.common.cold_mut().ack_backlog += 1;
        g.sock.wait.wake(Events::IN);
    }

    /// Listener, then child: the one order in which two socks are owned.
    fn begin(
        &self,
        child: &Arc<Sock>,
        stack: &Arc<Stack>,
        local: SocketAddr,
        peer: SocketAddr,
        (iss, isn): (u32, u32),
        skb: Skb,
    ) -> Result<()> {
        let mut g = child.lock(stack);
        self.init(&mut g)?;
        (g.common.saddr, g.common.rcv_saddr, g.common.sport) = (local.ip(), local.ip(), local.port());
        datagram::connect(&mut g, peer)?;
        self.ports.adopt(PortEntry::of(&g, local.port()))?;
        let c = conn(&mut g)?;
        c.adopted = Some((local.port(), (peer.ip(), peer.port())));
        (c.snd_una, c.write_seq, c.rcv_nxt) = (iss.wrapping_add(1), iss.wrapping_add(1), isn.wrapping_add(1));
        c.was_connected = true;
        let head = Head::noted(&skb);
        self.arrive(&mut g, head, skb);
        Ok(())
    }

    /// A packet of a connection.
    fn arrive(&self, g: &mut SockGuard<'_>, head: Head, skb: Skb) {
        let (stack, sock) = (g.stack, g.sock);
        let Ok(c) = conn(g) else { return };
        if sock.state() == State::SynSent {
            if head.flags & (SYN | ACK) != SYN | ACK || head.ack != c.write_seq {
                return stack.mib.drop(DropReason::PluginRefused);
            }
            c.rcv_nxt = head.seq.wrapping_add(1);
            c.was_connected = true;
            sock.set_state(State::Established);
            sock.wait.wake(Events::ALL);
        } else if head.flags & SYN != 0 || head.flags & ACK == 0 || before(c.write_seq, head.ack) {
            return stack.mib.drop(DropReason::PluginRefused);
        }
        // What is acknowledged leaves the queue.
        let mut progress = false;
        while c.in_flight > 0 && c.queue.front().is_some_and(|s| !before(head.ack, s.end)) {
            c.queue.pop_front();
            (c.in_flight, c.tries, progress) = (c.in_flight - 1, 0, true);
        }
        if progress {
            c.snd_una = head.ack;
            if c.queue.len() < 2 * WINDOW {
                sock.wait.wake(Events::OUT);
            }
            self.arm(g, true);
        }
        let numbered = !skb.is_empty() || head.flags & (FIN | END | SYN) != 0;
        if numbered && head.flags & SYN == 0 {
            self.data(g, head, skb);
        }
        if numbered {
            self.send_ack(g);
        }
        self.push(g);
        let over = conn(g).is_ok_and(|c| c.fin_got && c.fin_queued && c.queue.is_empty());
        if over {
            self.finish(g, None);
        }
    }

    /// In order it is queued for the program; all else comes again.
    fn data(&self, g: &mut SockGuard<'_>, head: Head, skb: Skb) {
        let stack = g.stack;
        let len = skb.len() as u32;
        let Ok(c) = conn(g) else { return };
        let fits =
            head.seq == c.rcv_nxt && !c.fin_got && (head.flags & FIN != 0 || (head.flags & BEG != 0) != c.inside);
        if !fits {
            return stack.mib.drop(DropReason::PluginRefused);
        }
        if head.flags & FIN != 0 {
            c.fin_got = true;
        } else if let Err(reason) = datagram::queue(g, skb) {
            return stack.mib.drop(reason);
        }
        let Ok(c) = conn(g) else { return };
        c.rcv_nxt = head.seq.wrapping_add(len + u32::from(head.flags & (FIN | END) != 0));
        c.inside = head.flags & (FIN | END) == 0;
        c.whole += usize::from(head.flags & END != 0);
        g.sock.wait.wake(Events::IN | Events::RDHUP);
    }
}

impl IpHandler for Rdp {
    fn rcv(&self, stack: &Arc<Stack>, mut skb: Skb, info: &PacketInfo) {
        let Some(head) = Head::parse(&mut skb).filter(|_| !info.not_unicast) else {
            return stack.mib.drop(DropReason::PktTooSmall);
        };
        if checksum_of(&skb, info.src, info.dst) != 0 {
            return stack.mib.drop(DropReason::PluginCsum);
        }
        let found = self.ports.find(stack, (info.dst, head.to), (info.src, head.from), info.ifindex);
        let Some(sock) = found else { return stack.mib.drop(DropReason::NoSocket) };
        skb.pull(HEADER);
        head.note(&mut skb);
        skb.rx = Some(*info);
        sock.deliver(stack, skb, info.now);
    }

    /// The timer finds out as well; RDP in C listens to it.
    fn err(&self, _: &Arc<Stack>, _: &IcmpError<'_>) {}
}

impl Proto for Rdp {
    fn name(&self) -> &str {
        "RDP"
    }
    fn is_stream(&self) -> bool {
        true
    }

    fn init(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        sk.private = Private::new(Conn::default());
        Ok(())
    }

    fn get_port(&self, sk: &mut SockGuard<'_>, port: u16) -> Result<()> {
        sk.common.sport = self.ports.get_port(sk, port)?;
        conn(sk)?.bound = true;
        Ok(())
    }

    fn unhash(&self, sk: &mut SockGuard<'_>) {
        let (sock, port) = (sk.sock, sk.common.sport);
        let Ok(c) = conn(sk) else { return };
        if std::mem::take(&mut c.bound) {
            self.ports.unbind(port, sock);
        } else if let Some((port, peer)) = c.adopted.take() {
            self.ports.unadopt(port, peer, sock);
        }
    }
    fn net_exit(&self) {
        // The table keeps socks, and socks this table of operations: a circle that nobody else undoes.
        self.ports.clear();
    }

    fn bind(&self, sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()> {
        bind::bind(sk, addr)
    }
    fn connect(&self, sk: &mut SockGuard<'_>, to: SocketAddr) -> Result<()> {
        if !conn(sk)?.bound {
            self.get_port(sk, 0)?;
        }
        datagram::connect(sk, to)?;
        self.ports.rehash(PortEntry::of(sk, sk.common.sport));
        let isn = sk.stack.entropy.next_u64() as u32;
        let c = conn(sk)?;
        (c.snd_una, c.write_seq) = (isn, isn);
        sk.sock.set_state(State::SynSent);
        self.enqueue(sk, SYN, Skb::new());
        self.push(sk);
        Ok(())
    }

    fn disconnect(&self, sk: &mut SockGuard<'_>) -> Result<()> {
        self.finish(sk, None);
        datagram::disconnect(sk);
        sk.private = Private::new(Conn::default());
        Ok(())
    }

    fn listen(&self, sk: &mut SockGuard<'_>, backlog: u32) -> Result<()> {
        if !conn(sk)?.bound {
            self.get_port(sk, 0)?;
        }
        sk.common.cold_mut().max_ack_backlog = backlog;
        sk.sock.set_state(State::Listen);
        Ok(())
    }

    fn accept(&self, sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>> {
        accept::accept(sk, nonblock, |g| {
            let child = conn(g).ok()?.accept.pop()?;
            g.common.cold_mut().ack_backlog -= 1;
            Some(child)
        })
    }

    fn shutdown(&self, sk: &mut SockGuard<'_>, how: u8) {
        if how & 2 != 0 && sk.sock.state() == State::Established {
            self.fin(sk);
        }
    }

    fn close(&self, sk: SockRef<'_>, _: i32) {
        let mut g = sk.lock();
        g.common.set_flag(flag::DEAD, true);
        if sk.sock.state() == State::Established {
            return self.fin(&mut g);
        }
        let waiting = conn(&mut g).map(|c| std::mem::take(&mut c.accept));
        self.finish(&mut g, None);
        let mut waiting = waiting.unwrap_or_default();
        while let Some(child) = waiting.pop() {
            self.close(SockRef { stack: sk.stack, sock: &child }, 0);
        }
    }

    fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let mut g = sk.lock();
        let deadline = g.common.sndtimeo.get().map(|t| g.now() + t);
        loop {
            sk.sock.take_error()?;
            let c = conn(&mut g)?;
            let (room, was, closing) = (c.queue.len() < 2 * WINDOW, c.was_connected, c.fin_queued);
            match sk.sock.state() {
                _ if closing || sk.sock.send_shutdown() => return Err(Error::Pipe),
                State::Close | State::Listen => return Err(if was { Error::Pipe } else { Error::NotConn }),
                State::Established if room => break,
                _ if msg.dontwait() => return Err(Error::Again),
                _ => g.sleep(Events::OUT, false, deadline)?,
            }
        }
        // A message goes whole into the queue, however long.
        let total = msg.remaining();
        let mut flags = BEG;
        loop {
            let (mut payload, mut room) = (Skb::new(), MSS);
            while room > 0 && msg.remaining() > 0 {
                let piece = msg.chunk(room);
                payload.append(piece, room);
                room -= piece.len();
                msg.advance(piece.len());
            }
            let last = msg.remaining() == 0;
            self.enqueue(&mut g, flags | if last { END } else { 0 }, payload);
            flags = 0;
            if last {
                break;
            }
        }
        self.push(&mut g);
        Ok(total)
    }

    fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
        let mut g = sk.lock();
        let deadline = g.common.rcvtimeo.get().map(|t| g.now() + t);
        loop {
            let c = conn(&mut g)?;
            let (ended, was) = (c.fin_got, c.was_connected);
            if c.whole > 0 {
                break;
            }
            sk.sock.take_error()?;
            match sk.sock.state() {
                _ if ended || sk.sock.rcv_shutdown() => return Ok(0),
                State::Close | State::Listen => return if was { Ok(0) } else { Err(Error::NotConn) },
                _ if msg.dontwait() => return Err(Error::Again),
                _ => g.sleep(Events::IN, false, deadline)?,
            }
        }
        let (sock, mut total, mut copied, mut at) = (g.sock, 0, 0, 0);
        let peek = msg.flags & libc::MSG_PEEK != 0;
        while let Some(skb) = g.common.receive_queue.get(at) {
            let (len, truesize, end) = (skb.len(), skb.truesize, Head::noted(skb).flags & END != 0);
            total += len;
            copied += msg.put_skb(skb, 0, len);
            if peek {
                at += 1;
            } else {
                g.common.receive_queue.pop_front();
                mem::uncharge_rmem(sock, &mut g.common, truesize);
            }
            if end {
                break;
            }
        }
        if !peek {
            conn(&mut g)?.whole -= 1;
        }
        msg.out_flags |= libc::MSG_EOR | if copied < total { libc::MSG_TRUNC } else { 0 };
        Ok(if msg.flags & libc::MSG_TRUNC != 0 { total } else { copied })
    }

    fn poll_locked(&self, sk: &mut SockGuard<'_>) -> Events {
        let (sock, children) = (sk.sock, sk.common.ack_backlog);
        let Ok(c) = conn(sk) else { return Events::ERR };
        let mut m = Events::NONE;
        if sock.err.load(Ordering::Relaxed) != 0 {
            m |= Events::ERR;
        }
        if c.whole > 0 || c.fin_got || children > 0 {
            m |= Events::IN;
        }
        if c.fin_got {
            m |= Events::RDHUP;
        }
        match sock.state() {
            State::Close => m | Events::OUT | Events::HUP,
            State::Established if c.queue.len() < 2 * WINDOW => m | Events::OUT,
            _ => m,
        }
    }

    fn backlog_rcv(&self, sk: &mut SockGuard<'_>, skb: Skb) {
        let head = Head::noted(&skb);
        match (sk.sock.state(), skb.rx) {
            (State::Listen, Some(info)) => self.listening(sk, head, info, skb),
            (State::Established | State::SynSent, _) => self.arrive(sk, head, skb),
            _ => sk.stack.mib.drop(DropReason::PluginRefused),
        }
    }

    /// The timer: everything in flight again, from the first (go-back-N).
    fn release_cb(&self, sk: &mut SockGuard<'_>, _: u32) {
        let now = sk.now();
        let Ok(c) = conn(sk) else { return };
        // Moved while the sock was owned: another one comes.
        if c.timer.at().is_none_or(|at| at > now) {
            return;
        }
        c.timer.fired();
        c.tries += 1;
        let (n, tries) = (c.in_flight, c.tries);
        c.resent += n as u64;
        if tries > TRIES {
            return self.finish(sk, Some(Error::TimedOut));
        }
        for i in 0..n {
            self.send_queued(sk, i);
        }
        self.arm(sk, true);
    }
}

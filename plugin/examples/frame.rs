//! FRAME, messages over TCP, in Rust: `c-tests/plugins/frame.c` is the same in C, and says more. A socket
//! (SOCK_SEQPACKET, 301) has a sock of TCP inside; what happens at it becomes work for `release_cb` of the outer one.
//! `cargo build -p usersock-plugin --example frame` makes libframe.so.
//!
//!   0 4 | len, big-endian | payload ...
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;
use usersock_plugin::prelude::*;
use usersock_plugin::proto::flags;

const HEADER: usize = 4;
const MAX_MESSAGE: usize = 65_536;
/// How long a closed socket keeps sending.
const LINGER: Duration = Duration::from_secs(60);
const IPPROTO_TCP: i32 = 6;

/// Bits of `release_cb`, beside that of the timer.
const TIMER: u32 = 1;
const CHANGED: u32 = 2;
const READY: u32 = 4;
const ROOM: u32 = 8;

/// A sock's data.
#[derive(Default)]
struct Conn {
    tcp: Option<Inner>,
    /// The message that is sent, with its header, and how much of it TCP has.
    out: Option<(Vec<u8>, usize)>,
    /// What is read: the header, then the packet and how much of it is missing.
    head: Vec<u8>,
    packet: Option<(Skb, usize)>,
    connected: bool,
    closed: bool,
}

struct Frame;

/// What `read_message` has found.
enum Read {
    Message,
    End,
}

type O<'a, 'b> = &'a mut Owned<'b, Frame>;

impl Frame {
    /// The end of a connection is that of both directions, as TCP's is.
    fn fail(o: O<'_, '_>, error: Errno) {
        let _ = o.set_state(State::CLOSE);
        if o.data().connected {
            let _ = o.set_shutdown(Shutdown::RECV);
            let _ = o.set_shutdown(Shutdown::SEND);
        }
        o.error_report(error);
    }

    /// The inner sock, made when it is first needed.
    fn tcp(o: O<'_, '_>, v6: bool) -> Result<Inner> {
        if let Some(tcp) = o.data().tcp {
            return Ok(tcp);
        }
        let tcp = o.inner_open(v6, SockType::Stream, IPPROTO_TCP as u16)?;
        o.data().tcp = Some(tcp);
        Ok(tcp)
    }

    /// The inner sock's names are the socket's.
    fn take_names(o: O<'_, '_>, tcp: Inner) -> Result<()> {
        let local = o.inner_local(tcp)?;
        let none = SocketAddr::new(if local.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() }, 0);
        let peer = o.inner_peer(tcp).unwrap_or(none);
        o.set_ends(local, peer)
    }

    /// Gives TCP what it takes of the message.
    fn push(o: O<'_, '_>) {
        let Some(tcp) = o.data().tcp else { return };
        let mut error = None;
        if let Some((bytes, mut at)) = o.data().out.take() {
            while at < bytes.len() && error.is_none() {
                match o.inner_send(tcp, &bytes[at..], 0, None) {
                    Ok(n) => at += n,
                    Err(e) => error = Some(e),
                }
            }
            if error == Some(Errno::Again) {
                o.data().out = Some((bytes, at));
                return;
            }
            o.uncharge(Direction::Send, None, bytes.len());
        }
        if let Some(error) = error {
            Self::fail(o, error);
        } else if o.shut_down().send() {
            let _ = o.inner_shutdown(tcp, Shutdown::SEND);
        }
        o.wake(Events::OUT);
        if o.data().closed {
            let _ = o.done();
        }
    }

    /// Reads of TCP until a message is whole. EAGAIN: it is not yet.
    fn read_message(o: O<'_, '_>, tcp: Inner) -> Result<Read> {
        let mut buf = [0; 4096];
        while o.data().head.len() < HEADER {
            let missing = HEADER - o.data().head.len();
            let (n, _) = o.inner_recv(tcp, &mut buf[..missing], 0)?;
            if n == 0 {
                return if o.data().head.is_empty() { Ok(Read::End) } else { Err(Errno::ConnReset) };
            }
            o.data().head.extend_from_slice(&buf[..n]);
        }
        if o.data().packet.is_none() {
            let len = o.data().head.iter().fold(0, |len: usize, byte| len << 8 | usize::from(*byte));
            if len > MAX_MESSAGE {
                return Err(Errno::Proto);
            }
            o.data().packet = Some((Skb::new()?, len));
        }
        while let Some(left) = o.data().packet.as_ref().map(|(_, left)| *left).filter(|left| *left > 0) {
            let (n, _) = o.inner_recv(tcp, &mut buf[..left.min(4096)], 0)?;
            let Some((skb, left)) = o.data().packet.as_mut().filter(|_| n > 0) else { return Err(Errno::ConnReset) };
            skb.append(&buf[..n])?;
            *left -= n;
        }
        Ok(Read::Message)
    }

    /// Reads messages as long as there is room for them.
    fn pull(o: O<'_, '_>) {
        let Some(tcp) = o.data().tcp else { return };
        loop {
            let (charged, limit) = o.charged(Direction::Recv);
            if charged >= limit {
                return;
            }
            match Self::read_message(o, tcp) {
                Ok(Read::Message) => {
                    o.data().head.clear();
                    if let Some((skb, _)) = o.data().packet.take() {
                        let _ = o.receive_push(skb);
                    }
                }
                Ok(Read::End) => {
                    let _ = o.set_shutdown(Shutdown::RECV);
                    return o.wake(Events::IN | Events::RDHUP);
                }
                Err(Errno::Again) => return,
                Err(error) => return Self::fail(o, error),
            }
        }
    }

    /// Makes sockets of the connections that TCP has accepted: the one, and then the other, are owned.
    fn accept_all(o: O<'_, '_>) -> Result<()> {
        let Some(tcp) = o.data().tcp else { return Ok(()) };
        while o.inner_poll(tcp).has(Events::IN) {
            let child = o.new_child()?;
            child.locked(|c| {
                let accepted = o.inner_accept(tcp, c).and_then(|inner| {
                    c.data().tcp = Some(inner);
                    Self::take_names(c, inner)?;
                    c.set_state(State::ESTABLISHED)?;
                    c.data().connected = true;
                    o.accept_push(&child)
                });
                accepted.inspect_err(|_| {
                    let _ = c.done();
                })
            })??;
        }
        Ok(())
    }

    fn connected(o: O<'_, '_>) {
        let Some(tcp) = o.data().tcp else { return };
        match o.inner_error(tcp) {
            Ok(()) if o.inner_state(tcp) != Ok(State::ESTABLISHED) => return,
            r => match r.and_then(|()| Self::take_names(o, tcp)) {
                Ok(()) => {
                    o.data().connected = true;
                    let _ = o.set_state(State::ESTABLISHED);
                }
                Err(error) => Self::fail(o, error),
            },
        }
        o.wake(Events::OUT);
    }
}

impl Protocol for Frame {
    type Sock = Conn;
    const NAME: &'static str = "FRAME";
    const TYPE: SockType = SockType::SeqPacket;
    const PROTOCOL: u16 = 301;
    const FLAGS: u32 = flags::V4 | flags::V6 | flags::CONNECTIONS | flags::NO_PORTS;
    const INNER: InnerBits = InnerBits { data_ready: READY, write_space: ROOM, state_change: CHANGED };
    const MORE: ProtoMore<Self> = ProtoMore {
        bind: Some(|_, o, at| {
            let tcp = Self::tcp(o, at.is_ipv6())?;
            o.inner_bind(tcp, at)?;
            Self::take_names(o, tcp)
        }),
        stream_memory_free: Some(|_, conn, _| conn.connected && conn.out.is_none()),
        ..ProtoMore::NONE
    };

    fn connect(&self, o: &mut Owned<'_, Self>, to: SocketAddr) -> Result<()> {
        let tcp = Self::tcp(o, to.is_ipv6())?;
        match o.inner_connect(tcp, Some(to)) {
            Ok(()) | Err(Errno::InProgress) => o.set_state(State::SYN_SENT),
            Err(error) => Err(error),
        }
    }

    fn listen(&self, o: &mut Owned<'_, Self>, backlog: u32) -> Result<()> {
        let tcp = o.data().tcp.ok_or(Errno::DestAddrReq)?;
        o.inner_listen(tcp, backlog)?;
        o.listen_start(backlog)
    }

    fn release_cb(&self, o: &mut Owned<'_, Self>, bits: u32) {
        if bits & TIMER != 0 {
            // It has lingered long enough.
            let _ = o.done();
            return;
        }
        match o.state() {
            // What could not be accepted is told of again with the next one.
            State::LISTEN => drop(Self::accept_all(o)),
            State::SYN_SENT => Self::connected(o),
            State::ESTABLISHED => {
                if !o.data().closed {
                    Self::pull(o);
                }
                if o.data().out.is_some() {
                    Self::push(o);
                }
            }
            _ => {}
        }
    }

    fn sendmsg(&self, o: &mut Owned<'_, Self>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let (len, until) = (msg.len(), o.timeo(Direction::Send, msg.flags()));
        o.take_error()?;
        if len > MAX_MESSAGE {
            return Err(Errno::MsgSize);
        }
        while o.data().out.is_some() || o.state() == State::SYN_SENT {
            o.wait(Events::OUT, until)?;
            o.take_error()?;
        }
        if o.shut_down().send() {
            return Err(Errno::Pipe);
        }
        if o.state() != State::ESTABLISHED {
            return Err(Errno::NotConn);
        }
        let mut bytes = vec![0; HEADER + len];
        bytes[..HEADER].copy_from_slice(&(len as u32).to_be_bytes());
        if msg.take(&mut bytes[HEADER..])? != len {
            return Err(Errno::Fault);
        }
        o.charge(Direction::Send, None, bytes.len())?;
        o.data().out = Some((bytes, 0));
        Self::push(o);
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
        let n = o.receive_msg(msg, 0)?;
        if o.state() == State::ESTABLISHED {
            // There is room again.
            Self::pull(o);
        }
        Ok(n)
    }

    fn shutdown(&self, o: &mut Owned<'_, Self>, how: i32) {
        let conn = o.data();
        if let Some(tcp) = conn.tcp.filter(|_| Shutdown(how).send() && conn.out.is_none()) {
            let _ = o.inner_shutdown(tcp, Shutdown::SEND);
        }
    }

    fn setsockopt(&self, o: &mut Owned<'_, Self>, level: i32, name: i32, value: &[u8]) -> Result<()> {
        match o.data().tcp {
            // Options of TCP are the inner sock's.
            Some(tcp) if level == IPPROTO_TCP => o.inner_setsockopt(tcp, level, name, value),
            None if level == IPPROTO_TCP => Err(Errno::NotConn),
            _ => o.ip_setsockopt(level, name, value),
        }
    }

    fn close(&self, o: &mut Owned<'_, Self>, _flags: i32) {
        o.data().closed = true;
        // A message that TCP has not taken yet keeps the sock, by its timer.
        let kept = o.data().out.is_some() && o.timer_arm(0, o.now() + LINGER).is_ok();
        if !kept {
            let _ = o.done();
        }
    }

    fn destroy(&self, o: &mut Owned<'_, Self>) {
        if let Some((bytes, _)) = o.data().out.take() {
            o.uncharge(Direction::Send, None, bytes.len());
        }
        if let Some(tcp) = o.data().tcp.take() {
            let _ = o.inner_close(tcp);
        }
    }

    fn backlog_rcv(&self, _o: &mut Owned<'_, Self>, _skb: Skb) {
        // Nobody delivers packets to it.
    }
}

usersock_plugin::plugin!(|plugin| plugin.protocol(Frame));

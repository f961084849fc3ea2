//! @name@: a layer on a TCP connection, which a program installs by `setsockopt(fd, IPPROTO_TCP, TCP_ULP, "@name@")`.
//! Every byte is XORed with `net.@name@.key` on its way: no secret, but what a layer has to do.
//!
//! The layer itself waits, in a consistent state: it calls TCP with MSG_DONTWAIT, keeps what TCP does not accept
//! (`Data::out`), and passes it on when acknowledgements make room (`backlog_rcv`).
#![forbid(unsafe_code)]

use std::mem::take;
use usersock_plugin::prelude::*;
use usersock_plugin::{MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, MSG_WAITALL, Sysctl};

const CHUNK: usize = 4096;
const MSG_OOB: i32 = 1;
const MSG_ERRQUEUE: i32 = 0x2000;

/// Counters, in the order of COUNTERS.
const OUT_BYTES: usize = 0;
const IN_BYTES: usize = 1;
/// Sysctls, in the order of SYSCTLS.
const KEY: usize = 0;

/// What a connection has of its own.
#[derive(Default)]
struct Data {
    /// Bytes that TCP has not accepted yet, from `at` on.
    out: Vec<u8>,
    at: usize,
    /// Inside `below_send`, which may run `backlog_rcv`: that must not flush.
    flushing: bool,
}

/// XORs bytes.
pub fn turn(bytes: &mut [u8], key: u8) {
    bytes.iter_mut().for_each(|b| *b ^= key);
}

struct @Name@;

type Conn<'a> = Layered<'a, @Name@>;

fn key(l: &Conn<'_>) -> u8 {
    l.reg().sysctl(KEY) as u8
}

/// Passes what is kept to TCP; `force`: regardless of room, because no more follows. EAGAIN: TCP has no room.
fn flush(l: &mut Conn<'_>, force: bool) -> Result<()> {
    if l.data().flushing {
        return Err(Errno::Again);
    }
    let (out, mut at) = (take(&mut l.data().out), l.data().at);
    l.data().flushing = true;
    let mut result = Ok(());
    while result.is_ok() && at < out.len() {
        let sent = match force {
            true => l.below_force(&out[at..]),
            false => l.below_send(&out[at..], MSG_DONTWAIT | MSG_NOSIGNAL),
        };
        match sent {
            Ok(0) => result = Err(Errno::NoMem),
            Ok(n) => at += n,
            Err(e) => result = Err(e),
        }
    }
    let rest = at < out.len();
    let data = l.data();
    data.flushing = false;
    (data.out, data.at) = if rest { (out, at) } else { (Vec::new(), 0) };
    result
}

impl @Name@ {
    fn sendmsg(&self, l: &mut Conn<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
        let flags = msg.flags();
        if flags & MSG_OOB != 0 {
            return Err(Errno::OpNotSupp);
        }
        if msg.is_empty() {
            return l.below_sendmsg(msg);
        }
        if l.shut_down().send() {
            return Err(Errno::Pipe);
        }
        let until = l.timeo(Direction::Send, flags);
        let mut done = 0;
        loop {
            let step = match flush(l, false) {
                // What TCP has no room for is ours to finish.
                Ok(()) | Err(Errno::Again) if msg.is_empty() => return Ok(done),
                Ok(()) => {
                    let mut bytes = vec![0; msg.len().min(CHUNK)];
                    msg.take(&mut bytes).map(|n| {
                        bytes.truncate(n);
                        turn(&mut bytes, key(l));
                        l.data().out = bytes;
                        done += n;
                        let _ = l.reg().count(OUT_BYTES, n as u64);
                    })
                }
                Err(Errno::Again) => l.wait(Events::OUT, until),
                Err(e) => Err(e),
            };
            match step {
                Err(_) if done > 0 => return Ok(done),
                step => step?,
            }
        }
    }

    fn recvmsg(&self, l: &mut Conn<'_>, msg: &mut RecvMsg<'_>) -> Result<usize> {
        let flags = msg.flags();
        if flags & (MSG_OOB | MSG_ERRQUEUE) != 0 {
            return l.below_recvmsg(msg);
        }
        let target = l.rcvlowat(flags, msg.room());
        let (mut done, mut buf) = (0, vec![0; msg.room().min(CHUNK)]);
        loop {
            let room = msg.room().min(CHUNK);
            let n = match l.below_recv(&mut buf[..room], flags & !MSG_WAITALL) {
                Ok(0) => return Ok(done),
                Ok(n) => n,
                Err(e) if done > 0 => {
                    if e != Errno::Again {
                        l.error_report(e); // TCP tells it once: for the next call
                    }
                    return Ok(done);
                }
                Err(e) => return Err(e),
            };
            turn(&mut buf[..n], key(l));
            done += msg.put(&buf[..n])?;
            if flags & MSG_PEEK != 0 {
                return Ok(done);
            }
            l.reg().count(IN_BYTES, n as u64)?;
            if msg.room() == 0 || done >= target {
                return Ok(done);
            }
        }
    }

    /// Writable when nothing is kept.
    fn poll(&self, l: &mut Conn<'_>) -> Events {
        let events = l.below_poll();
        let kept = !l.data().out.is_empty() && !events.has(Events::ERR | Events::HUP);
        if kept { events.without(Events::OUT) } else { events }
    }

    /// The segment may have acknowledged data, and so made room.
    fn backlog_rcv(&self, l: &mut Conn<'_>, skb: Skb) {
        let _ = l.below_backlog_rcv(skb);
        let kept = !l.data().out.is_empty();
        if kept && !l.below_poll().has(Events::ERR | Events::HUP) && flush(l, false).is_ok() {
            l.wake(Events::OUT);
        }
    }

    fn shutdown(&self, l: &mut Conn<'_>, how: i32) {
        if how & 2 != 0 {
            let _ = flush(l, true);
        }
    }

    fn close(&self, l: &mut Conn<'_>, _flags: i32) {
        let _ = flush(l, true);
    }

    /// The child of a listener that has the layer begins with nothing.
    fn clone(&self, _: &mut Conn<'_>, _parent: &Data) -> Result<()> {
        Ok(())
    }

    fn may_remove(&self, l: &mut Conn<'_>) -> Result<()> {
        if l.data().out.is_empty() { Ok(()) } else { Err(Errno::Busy) }
    }

    fn disconnect(&self, l: &mut Conn<'_>) -> Result<()> {
        *l.data() = Data::default();
        Ok(())
    }
}

impl Layer for @Name@ {
    type Data = Data;
    const NAME: &'static str = "@name@";
    const COUNTERS: &'static [&'static str] = &["@Name@OutBytes", "@Name@InBytes"];
    const SYSCTLS: &'static [Sysctl] =
        &[Sysctl { name: "key", value: 0x5a, min: 0, max: 255, help: "What every byte is XORed with." }];
    const OPS: LayerOps<Self> = LayerOps {
        clone: Some(Self::clone),
        sendmsg: Some(Self::sendmsg),
        recvmsg: Some(Self::recvmsg),
        poll: Some(Self::poll),
        close: Some(Self::close),
        shutdown: Some(Self::shutdown),
        backlog_rcv: Some(Self::backlog_rcv),
        may_remove: Some(Self::may_remove),
        disconnect: Some(Self::disconnect),
        ..LayerOps::NONE
    };
}

usersock_plugin::plugin!(|plugin| plugin.layer(@Name@));

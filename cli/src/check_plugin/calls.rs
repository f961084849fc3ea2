//! Protocols: calls that wait and calls that do not, what wakes them, readiness, time limits, options, and what a
//! message is. In virtual time: a wait that nothing ends is seen at once, and a time limit is exact.

use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{PORT, Pair, ROOM, Scene, any, calm, get_int, recv, send_to, set_int, set_timeout};
use super::states::poll_holds;
use std::io::{IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::driver::ScriptThread;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::wait::{Events, Watch};

const IN: Events = Events(libc::POLLIN as u32);
const OUT: Events = Events(libc::POLLOUT as u32);
/// Within this time of what it waits for, a call returns.
const SOON: Duration = Duration::from_secs(30);

/// A thread of the scene's world, and what it returns.
struct Call<T> {
    thread: Arc<ScriptThread>,
    result: Arc<Mutex<Option<T>>>,
}

impl<T: Send + 'static> Call<T> {
    fn start(scene: &Scene, call: impl FnOnce() -> T + Send + 'static) -> Outcome<Call<T>> {
        let result = Arc::new(Mutex::new(None));
        let to = result.clone();
        let run = move || *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(call());
        let thread = scene.world.spawn(scene.world.now(), run).must("a thread")?;
        scene.settle();
        Ok(Call { thread, result })
    }

    /// What it has returned, if it has: what it does with a socket is then over.
    fn ended(&self) -> Option<T> {
        if !self.thread.ended() {
            return None;
        }
        self.result.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn returns_soon(&self, scene: &Scene, what: &str) -> Outcome<T> {
        let found = scene.until(SOON, || self.ended());
        found.ok_or_else(|| Finding::Wrong(format!("{what}: the call goes on waiting, for {} s", SOON.as_secs())))
    }
}

/// The events that a socket's waiters were told of: what epoll sees.
#[derive(Default)]
struct Told(AtomicU32);

impl Watch for Told {
    fn notify(&self, events: Events) {
        self.0.fetch_or(events.0, Ordering::SeqCst);
    }
}

impl Told {
    fn of(s: &Socket) -> Arc<Told> {
        let told = Arc::new(Told::default());
        s.sock().wait.add(Events::ALL, false, told.clone());
        told
    }

    fn take(&self) -> Events {
        Events(self.0.swap(0, Ordering::SeqCst))
    }
}

pub(super) fn nonblock(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let s = &pair.ends[0];
        let waits = |how: &str, r: Result<super::scene::Received>| match r {
            Err(Error::Again) => Ok(()),
            Err(Error::Intr) => Err(Finding::Wrong(format!("recv {how} waits, and may not"))),
            r => Err(Finding::Wrong(format!("recv {how} with nothing there returns {r:?}, and not EAGAIN"))),
        };
        waits("with MSG_DONTWAIT", recv(s, 10, libc::MSG_DONTWAIT))?;
        waits("with MSG_DONTWAIT and MSG_PEEK", recv(s, 10, libc::MSG_DONTWAIT | libc::MSG_PEEK))?;
        s.set_nonblocking(true);
        waits("with O_NONBLOCK", recv(s, 10, 0))?;
        s.set_nonblocking(false);
        // Outside of a thread, a wait that nothing can end is interrupted at once.
        let r = recv(s, 10, 0);
        ensure!(r == Err(Error::Intr), "recv of a blocking socket with nothing there returns {r:?}, and should wait");
        Ok(())
    })
}

/// A blocked call returns when what it waits for has happened, and not before.
pub(super) fn wake(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        if scene.traits.connections {
            let listener = Arc::new(scene.server()?);
            let told = Told::of(&listener);
            let accepts = {
                Call::start(scene, {
                    let l = listener.clone();
                    move || l.accept()
                })
            }?;
            ensure!(accepts.ended().is_none(), "accept returns, and nobody has called");
            let client = Arc::new(scene.socket_on(0)?);
            let to = scene.addr(1, PORT);
            let connects = Call::start(scene, {
                let c = client.clone();
                move || c.connect(Some(to))
            })?;
            connects.returns_soon(scene, "the server answers; connect")?.must("connect")?;
            let (server, _) = accepts.returns_soon(scene, "a connection is there; accept")?.must("accept")?;
            ensure!(told.take().intersects(IN), "a connection is there, and poll of the listener is not woken");
            let told = Told::of(&server);
            client.close();
            scene.settle();
            ensure!(told.take().intersects(IN), "the peer has closed, and poll is not woken with POLLIN");
            drop((listener, client, server));
            scene.ends_clean()?;
        }
        let Pair { ends: [a, b], to, listener } = scene.pair()?;
        let b = Arc::new(b);
        let told = Told::of(&b);
        let reads = Call::start(scene, {
            let b = b.clone();
            move || recv(&b, 100, 0)
        })?;
        ensure!(reads.ended().is_none(), "a blocking recv returns, and nothing has come");
        send_to(&a, b"wake", 0, to[0]).must("send")?;
        let r = reads.returns_soon(scene, "data has come; recv")?.must("recv")?;
        ensure!(r.bytes == b"wake", "recv returns {:?}", r.bytes);
        ensure!(told.take().intersects(IN), "data has come, and poll is not woken with POLLIN");
        // shutdown(2) by another thread ends it, and so the end of a connection.
        let reads = Call::start(scene, {
            let b = b.clone();
            move || recv(&b, 100, 0)
        })?;
        if scene.traits.connections {
            a.close();
        } else {
            let r = b.shutdown(libc::SHUT_RDWR);
            ensure!(matches!(r, Ok(()) | Err(Error::NotConn)), "shutdown: {r:?}");
        }
        let r = reads.returns_soon(scene, "the end of data; recv")?.must("the end of data: recv")?;
        ensure!(r.is_end(), "at the end of data recv returns {r:?}");
        drop(listener);
        Ok(())
    })
}

/// A sender that is ahead of its receiver waits, is woken when there is room, and loses nothing by it.
pub(super) fn full(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_connections()?;
        let Pair { ends: [a, b], listener, .. } = scene.pair()?;
        let (a, b) = (Arc::new(a), Arc::new(b));
        let mut sent = 0;
        let piece = [5; 1000];
        let most = 64 << 20;
        let refused = loop {
            match send_to(&a, &piece, libc::MSG_DONTWAIT, None) {
                Ok(n) => sent += n,
                Err(e) => break e,
            }
            ensure!(sent < most, "{most} bytes are sent to who reads none, and no EAGAIN");
            if sent % 50_000 < 1000 {
                scene.settle();
            }
        };
        ensure!(refused == Error::Again, "the buffers are full, and send returns {}, not EAGAIN", refused.name());
        ensure!(!a.poll().intersects(OUT), "send returns EAGAIN, and poll POLLOUT");
        sent += timed_send(scene, &a)?;
        // All that was accepted arrives, without another call.
        drain(scene, &b, sent)?;
        let told = Told::of(&a);
        let (writes, sent) = blocked_send(scene, &a)?;
        drain(scene, &b, sent)?;
        let n = writes.returns_soon(scene, "all has been read; send")?.must("send")?;
        ensure!(n > 0, "a send that has waited for room returns 0");
        ensure!(told.take().intersects(OUT), "there is room again, and poll is not woken with POLLOUT");
        // What the waiting send has sent may have taken all the room that there was: until it has arrived, too.
        let room = scene.until(SOON, || a.poll().intersects(OUT).then_some(()));
        ensure!(room.is_some(), "all has been read, and poll is without POLLOUT");
        // shutdown(2) ends a sender that waits.
        let (writes, _) = blocked_send(scene, &a)?;
        b.close();
        a.shutdown(libc::SHUT_RDWR).or_else(|e| if e == Error::NotConn { Ok(()) } else { Err(e) }).must("shutdown")?;
        let r = writes.returns_soon(scene, "shutdown(SHUT_RDWR) by another thread; send")?;
        let ended = [Error::Pipe, Error::ConnReset, Error::NotConn, Error::TimedOut];
        ensure!(r.is_ok() || r.is_err_and(|e| ended.contains(&e)), "shut down, a waiting send returns {r:?}");
        drop(listener);
        Ok(())
    })
}

/// SO_SNDTIMEO ends a send that waits for room. Returns what was accepted before that.
fn timed_send(scene: &Scene, s: &Socket) -> Outcome<usize> {
    set_timeout(s, libc::SO_SNDTIMEO, 200).must("SO_SNDTIMEO")?;
    let mut sent = 0;
    for _ in 0..1000 {
        let before = scene.world.now();
        match send_to(s, &[5; 1000], 0, None) {
            // What had arrived meanwhile has made room.
            Ok(n) => sent += n,
            r => {
                let took = (scene.world.now() - before).as_millis();
                ensure!(r == Err(Error::Again), "send with a limit of 200 ms returns {r:?}, and not EAGAIN");
                ensure!((200..205).contains(&took), "send with a limit of 200 ms took {took} ms");
                set_timeout(s, libc::SO_SNDTIMEO, 0).must("SO_SNDTIMEO")?;
                return Ok(sent);
            }
        }
    }
    Err(Finding::Wrong(format!("{sent} bytes are sent to who reads none, and no send waits")))
}

/// Reads `sent` bytes.
fn drain(scene: &Scene, s: &Socket, sent: usize) -> Outcome {
    let mut got = 0;
    let drained = scene.until(Duration::from_secs(600), || {
        while let Ok(r) = recv(s, ROOM, libc::MSG_DONTWAIT) {
            got += r.len;
        }
        (got >= sent).then_some(())
    });
    ensure!(drained.is_some(), "of {sent} bytes in full buffers only {got} arrive at the reader");
    Ok(())
}

/// Sends until a call waits: that call, and how many bytes went before it.
fn blocked_send(scene: &Scene, s: &Arc<Socket>) -> Outcome<(Call<Result<usize>>, usize)> {
    let mut sent = 0;
    // What has arrived meanwhile makes room again; what a peer that reads nothing can take has an end.
    for _ in 0..1000 {
        while let Ok(n) = send_to(s, &[5; 1000], libc::MSG_DONTWAIT, None) {
            sent += n;
            ensure!(sent < 64 << 20, "{sent} bytes are sent to who reads none, and no EAGAIN");
        }
        let call = Call::start(scene, {
            let s = s.clone();
            move || send_to(&s, &[5; 1000], 0, None)
        })?;
        match call.ended() {
            Some(r) => sent += r.must("send")?,
            None => return Ok((call, sent)),
        }
    }
    Err(Finding::Wrong(format!("{sent} bytes are sent to who reads none, and no send waits")))
}

/// SO_RCVTIMEO, to the millisecond.
pub(super) fn timeouts(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let timed = |what: &str, r: std::result::Result<(), Error>, before: usersock::env::Instant, ms: u128| {
            let took = (scene.world.now() - before).as_millis();
            ensure!(r == Err(Error::Again), "{what} with a limit of {ms} ms returns {r:?}, and not EAGAIN");
            ensure!((ms..ms + 5).contains(&took), "{what} with a limit of {ms} ms took {took} ms");
            Ok(())
        };
        if scene.traits.connections {
            let listener = scene.server()?;
            set_timeout(&listener, libc::SO_RCVTIMEO, 700).must("SO_RCVTIMEO")?;
            let before = scene.world.now();
            timed("accept", listener.accept().map(drop), before, 700)?;
        }
        let pair = scene.pair()?;
        let s = &pair.ends[0];
        for ms in [1u64, 250] {
            set_timeout(s, libc::SO_RCVTIMEO, ms).must("SO_RCVTIMEO")?;
            // The world needs a time to come: the peer's is none of it.
            let before = scene.world.now();
            timed("recv", recv(s, 10, 0).map(drop), before, ms.into())?;
        }
        // MSG_DONTWAIT goes before it.
        let before = scene.world.now();
        let r = recv(s, 10, libc::MSG_DONTWAIT);
        let at_once = scene.world.now() == before;
        ensure!(r == Err(Error::Again) && at_once, "recv with MSG_DONTWAIT waits as long as SO_RCVTIMEO says");
        Ok(())
    })
}

/// At each step of a conversation, poll and the calls agree.
pub(super) fn poll(part: &Part) -> Outcome {
    let slow = LinkConfig::both(Direction::default().rate(1_000_000).delay(Duration::from_millis(3)));
    Scene::each(part, &slow, |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        for round in 0..60 {
            for (end, s) in pair.ends.iter().enumerate() {
                let events = s.poll();
                poll_holds("in a conversation", s)?;
                let r = recv(s, if round % 3 == 0 { 7 } else { ROOM }, libc::MSG_DONTWAIT);
                let readable = events.intersects(IN);
                ensure!(readable || r.is_err(), "poll is without POLLIN, and recv returns {r:?}");
                ensure!(!readable || r != Err(Error::Again), "poll returns POLLIN, and recv EAGAIN");
                let events = s.poll();
                if round % 5 != 4 {
                    let r = pair.send(end, &[3; 300], libc::MSG_DONTWAIT);
                    let wrong = events.intersects(OUT) && r == Err(Error::Again);
                    ensure!(!wrong, "poll returns POLLOUT, and send EAGAIN");
                    let other = matches!(r, Ok(_) | Err(Error::Again | Error::NoBufs));
                    ensure!(other, "in a conversation, send returns {r:?}");
                }
                ensure!(!s.poll().intersects(Events::ERR), "in a conversation, poll returns POLLERR");
            }
            scene.world.run_for(Duration::from_millis(round % 7));
        }
        Ok(())
    })
}

/// The last descriptor of a socket is closed while a call waits: the call keeps it, and ends it.
pub(super) fn close_blocked(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let Pair { ends: [a, b], to, listener } = scene.pair()?;
        let reads = Call::start(scene, move || recv(&b, 100, 0))?;
        send_to(&a, b"the last", 0, to[0]).must("send")?;
        let r = reads.returns_soon(scene, "data has come; recv of a socket that is closed but for this call")?;
        ensure!(r.as_ref().is_ok_and(|r| r.bytes == b"the last"), "recv returns {r:?}");
        drop((a, listener));
        scene.ends_clean()?;
        // The program's end of it is closed under the call: it must not wait for ever.
        let Pair { ends: [a, b], listener, .. } = scene.pair()?;
        let b = Arc::new(b);
        let reads = Call::start(scene, {
            let b = b.clone();
            move || recv(&b, 100, 0)
        })?;
        b.shutdown(libc::SHUT_RDWR).or_else(|e| if e == Error::NotConn { Ok(()) } else { Err(e) }).must("shutdown")?;
        reads.returns_soon(scene, "shutdown(SHUT_RDWR); recv")?.must("shut down: recv")?;
        b.close();
        drop((a, b, listener));
        Ok(())
    })
}

/// Options of the socket's level, of IP's, and those that nobody knows.
pub(super) fn options(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        let s = scene.socket_on(0)?;
        let sol = libc::SOL_SOCKET;
        let family = if scene.v6 { libc::AF_INET6 } else { libc::AF_INET };
        for (what, name, want) in [
            ("SO_TYPE", libc::SO_TYPE, scene.traits.ty),
            ("SO_PROTOCOL", libc::SO_PROTOCOL, scene.traits.protocol),
            ("SO_DOMAIN", libc::SO_DOMAIN, family),
            ("SO_ERROR", libc::SO_ERROR, 0),
            ("SO_ACCEPTCONN", libc::SO_ACCEPTCONN, 0),
        ] {
            let got = get_int(&s, sol, name).must(what)?;
            ensure!(got == want, "{what} is {got}, and not {want}");
        }
        for (what, name, value, want) in [
            ("SO_REUSEADDR", libc::SO_REUSEADDR, 1, 1),
            ("SO_KEEPALIVE", libc::SO_KEEPALIVE, 1, 1),
            ("SO_PRIORITY", libc::SO_PRIORITY, 3, 3),
            ("SO_SNDBUF", libc::SO_SNDBUF, 30_000, 60_000),
            ("SO_RCVBUF", libc::SO_RCVBUF, 40_000, 80_000),
            ("SO_RCVLOWAT", libc::SO_RCVLOWAT, 1, 1),
        ] {
            set_int(&s, sol, name, value).must(what)?;
            let got = get_int(&s, sol, name).must(what)?;
            ensure!(got == want, "{what} was set to {value}, and is {got}, not {want}");
            let short = s.setsockopt(sol, name, &[1]);
            ensure!(short == Err(Error::Inval), "{what} with one byte returns {short:?}, and not EINVAL");
        }
        let (level, ttl) =
            if scene.v6 { (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
        set_int(&s, level, ttl, 17).must("setting the TTL")?;
        let got = get_int(&s, level, ttl).must("the TTL")?;
        ensure!(got == 17, "the TTL was set to 17, and is {got}");
        for (level, name) in [(level, 9999), (scene.traits.protocol, 0x7fff), (12_345, 1)] {
            let unknown = [Error::NoProtoOpt, Error::OpNotSupp, Error::Inval];
            let r = s.setsockopt(level, name, &[0; 4]);
            let right = r.is_err_and(|e| unknown.contains(&e));
            ensure!(right, "setsockopt of level {level} and name {name}, which nobody knows, returns {r:?}");
            let r = s.getsockopt(level, name, &mut [0; 4]);
            let right = r.is_err_and(|e| unknown.contains(&e));
            ensure!(right, "getsockopt of level {level} and name {name}, which nobody knows, returns {r:?}");
        }
        let r = s.ioctl(0xdead_beef);
        ensure!(r == Err(Error::NoTty) || r == Err(Error::Inval), "ioctl 0xdeadbeef returns {r:?}, and not ENOTTY");
        poll_holds("after setting options", &s)
    })?;
    // The protocol's own options, of any length: they are refused or taken, and nothing breaks.
    Scene::each(part, &calm(), |scene| {
        let s = scene.socket_on(0)?;
        for name in 0..64 {
            for len in [0usize, 1, 3, 4, 8, 100] {
                let mut value = vec![0xff; len];
                let got = s.getsockopt(scene.traits.protocol, name, &mut value);
                ensure!(got != Err(Error::Io), "getsockopt {name} with room for {len} bytes broke the socket");
                ensure!(
                    got.is_err() || got.is_ok_and(|n| n <= len),
                    "getsockopt {name} returned {got:?} of {len} bytes"
                );
            }
        }
        s.bind(any(scene.v6, 0)).must("bind")?;
        poll_holds("after reading options", &s)
    })
}

/// Boundaries, MSG_PEEK, MSG_TRUNC, messages of no bytes and too long ones.
pub(super) fn messages(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let dontwait = libc::MSG_DONTWAIT;
        pair.send(0, b"first message", 0).must("send")?;
        scene.settle();
        for peek in [libc::MSG_PEEK, libc::MSG_PEEK, 0] {
            let r = pair.recv(1, peek | dontwait).must("recv")?;
            ensure!(r.bytes == b"first message", "with flags {peek:#x} recv returns {:?}", r.bytes);
        }
        let r = pair.recv(1, dontwait);
        ensure!(r == Err(Error::Again), "a message that was received is there again: {r:?}");
        let none = recv(&pair.ends[1], 100, libc::MSG_ERRQUEUE | dontwait);
        ensure!(none.is_err(), "the error queue is empty, and recv(MSG_ERRQUEUE) returns {none:?}");
        if scene.traits.stream() {
            stream_pieces(scene, &pair)?;
            return waits_for_all(scene, pair);
        }
        // What does not fit is lost, with MSG_TRUNC to tell.
        for (flags, want) in [(0, 4), (libc::MSG_TRUNC, 10)] {
            pair.send(0, b"0123456789", 0).must("send")?;
            pair.send(0, b"next", 0).must("send")?;
            scene.settle();
            let r = recv(&pair.ends[1], 4, flags | dontwait).must("recv")?;
            let (got, len) = (&r.bytes[..], r.len);
            ensure!(got == b"0123", "with room for 4 bytes recv of a message of 10 returns {got:?}");
            ensure!(len == want, "with room for 4 bytes, flags {flags:#x}, recv returns {len} of 10, and not {want}");
            ensure!(r.flags & libc::MSG_TRUNC != 0, "a message that did not fit is without MSG_TRUNC in msg_flags");
            let r = pair.recv(1, dontwait).must("recv")?;
            ensure!(r.bytes == b"next", "what did not fit of a message comes with the next: {:?}", r.bytes);
        }
        // A message of no bytes is one, or is refused.
        match pair.send(0, b"", 0) {
            Ok(n) => {
                ensure!(n == 0, "send of no bytes returns {n}");
                scene.settle();
                ensure!(
                    pair.ends[1].poll().intersects(IN),
                    "a message of no bytes has come, and poll is without POLLIN"
                );
                let r = pair.recv(1, dontwait).must("recv of a message of no bytes")?;
                ensure!(r.len == 0, "recv of a message of no bytes returns {}", r.len);
            }
            Err(Error::Inval | Error::OpNotSupp | Error::DestAddrReq) => {}
            r => drop(r.must("send of no bytes")?),
        }
        let r = pair.send(0, &vec![1; 10 << 20], dontwait);
        ensure!(r == Err(Error::MsgSize), "a message of 10 MiB: send returns {r:?}, and not EMSGSIZE");
        scene.settle();
        let r = pair.recv(1, dontwait);
        ensure!(r == Err(Error::Again), "of a message that was too long something came: {:?}", r.map(|r| r.len));
        // Larger than a packet of the link.
        let long: Vec<u8> = (0..6000u32).map(|i| (i % 251) as u8).collect();
        match pair.send(0, &long, 0) {
            Ok(_) => {
                let r = scene.until(Duration::from_secs(60), || pair.recv(1, dontwait).ok());
                let whole = r.is_some_and(|r| r.bytes == long);
                ensure!(whole, "a message of 6000 bytes, on a link for 1500, does not come as it was sent");
            }
            Err(Error::MsgSize) => {}
            r => drop(r.must("send of 6000 bytes")?),
        }
        Ok(())
    })
}

/// A message whose bytes are nowhere, and room that is nowhere: EFAULT, and the socket goes on.
pub(super) fn nowhere(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let unreadable = [IoSlice::new(b"nowhere")];
        let mut msg = SendMsg::new(&unreadable, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT).probed(|_, _| 0);
        msg.name = pair.to[0];
        let r = pair.ends[0].sendmsg(&mut msg);
        ensure!(r == Err(Error::Fault), "send of bytes that cannot be read returns {r:?}, and not EFAULT");
        scene.settle();
        let r = pair.recv(1, libc::MSG_DONTWAIT);
        ensure!(r == Err(Error::Again), "of bytes that cannot be read something came: {:?}", r.map(|r| r.len));

        pair.send(0, b"first", 0).must("send")?;
        scene.settle();
        let mut buf = [0; 16];
        let mut unwritable = [IoSliceMut::new(&mut buf)];
        let r = pair.ends[1].recvmsg(&mut RecvMsg::new(&mut unwritable, libc::MSG_DONTWAIT).probed(|_, _| 0));
        ensure!(r == Err(Error::Fault), "recv to where nothing can be written returns {r:?}, and not EFAULT");
        pair.send(0, b"second", 0).must("send")?;
        scene.settle();
        // Whether what was first is lost is the protocol's affair: of a stream it may not be.
        let r = pair.recv(1, libc::MSG_DONTWAIT).must("recv after EFAULT")?;
        let wanted: &[&[u8]] = if scene.traits.stream() { &[b"firstsecond"] } else { &[b"first", b"second"] };
        ensure!(wanted.contains(&&r.bytes[..]), "after EFAULT recv returns {:?}", r.bytes);
        Ok(())
    })
}

/// Of a stream: bytes without marks.
fn stream_pieces(scene: &Scene, pair: &Pair) -> Outcome {
    let n = pair.send(0, b"", 0).must("send of no bytes")?;
    ensure!(n == 0, "send of no bytes returns {n}");
    scene.settle();
    let r = pair.recv(1, libc::MSG_DONTWAIT);
    ensure!(r == Err(Error::Again), "no bytes were sent, and recv returns {r:?}");
    pair.send(0, b"abc", 0).must("send")?;
    pair.send(0, b"defgh", 0).must("send")?;
    scene.settle();
    for want in [&b"ab"[..], b"cd", b"efgh"] {
        let r = recv(&pair.ends[1], want.len(), libc::MSG_DONTWAIT).must("recv")?;
        ensure!(r.bytes == want, "of abcdefgh in pieces, recv returns {:?}, and not {want:?}", r.bytes);
    }
    Ok(())
}

/// MSG_WAITALL waits for all that there is room for.
fn waits_for_all(scene: &Scene, pair: Pair) -> Outcome {
    let Pair { ends: [a, b], listener, .. } = pair;
    let reads = Call::start(scene, move || recv(&b, 4, libc::MSG_WAITALL))?;
    send_to(&a, b"ha", 0, None).must("send")?;
    scene.settle();
    ensure!(reads.ended().is_none(), "recv(MSG_WAITALL) of 4 bytes returns, and 2 have come");
    send_to(&a, b"lf", 0, None).must("send")?;
    let r = reads.returns_soon(scene, "all has come; recv(MSG_WAITALL)")?.must("recv(MSG_WAITALL)")?;
    ensure!(r.bytes == b"half", "recv(MSG_WAITALL) returns {:?}", r.bytes);
    drop(listener);
    Ok(())
}

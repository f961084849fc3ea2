//! Protocols: what each call may return in each state of a socket, by the manual pages and Linux's TCP and UDP; the
//! names that a socket has; and closing it in each state. EIO is never right: the protocol has broken a rule of its
//! table.

use super::part::{Finding, Must, Outcome, Part, ensure};
use super::scene::{NO_PORT, PORT, Pair, Scene, any, calm, dead, recv, send, send_to, set_int};
use std::net::SocketAddr;
use std::time::Duration;
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sock::wait::Events;

/// What a call may return: success, or one of these errors.
struct May(bool, &'static [Error]);

const OK: May = May(true, &[]);

fn only(errors: &'static [Error]) -> May {
    May(false, errors)
}

fn ok_or(errors: &'static [Error]) -> May {
    May(true, errors)
}

fn expect<T>(what: &str, result: Result<T>, may: &May) -> Outcome {
    let names = || {
        let ok = may.0.then_some("success");
        ok.into_iter().chain(may.1.iter().map(|e| e.name())).collect::<Vec<_>>().join(", ")
    };
    match result {
        Ok(_) => ensure!(may.0, "{what} succeeds, which it may not: {}", names()),
        Err(Error::Io) => ensure!(false, "{what}: EIO, the socket is broken: an operation broke a rule of its table"),
        Err(e) => ensure!(may.1.contains(&e), "{what}: {}, and it may return {}", e.name(), names()),
    }
    Ok(())
}

const NOT_CONNECTED: &[Error] = &[Error::NotConn, Error::Inval, Error::Pipe, Error::DestAddrReq];
const NO_ACCEPT: &[Error] = &[Error::Inval, Error::OpNotSupp];
/// With which an attempt to connect to a port without a listener ends.
const UNREACHED: &[Error] =
    &[Error::ConnRefused, Error::ConnReset, Error::TimedOut, Error::HostUnreach, Error::NetUnreach, Error::NoProtoOpt];

/// The calls that every socket has, in a state in which it is not connected.
fn unconnected(state: &str, s: &Socket, scene: &Scene) -> Outcome {
    let call = |c: &str| format!("{state}: {c}");
    let connections = scene.traits.connections;
    let not = only(NOT_CONNECTED);
    let receives = if connections { only(NOT_CONNECTED) } else { only(&[Error::Again]) };
    // A protocol without a wire has its own mind of what there is to receive.
    if connections || scene.traits.wire {
        expect(&call("recv"), recv(s, 100, libc::MSG_DONTWAIT), &receives)?;
        expect(&call("send"), send(s, b"x", libc::MSG_DONTWAIT), &not)?;
    }
    expect(&call("accept"), s.accept(), &only(NO_ACCEPT))?;
    expect(&call("getpeername"), s.peer_addr(), &only(&[Error::NotConn]))?;
    expect(&call("getsockname"), s.local_addr(), &OK)?;
    expect(&call("recv(MSG_ERRQUEUE)"), recv(s, 100, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT), &ERRQUEUE)?;
    poll_holds(state, s)
}

/// Nothing is there; or the protocol has no such queue.
const ERRQUEUE: May = May(false, &[Error::Again, Error::NotConn, Error::Inval, Error::OpNotSupp]);

/// A socket that polls readable does not return EAGAIN, neither from recv nor from accept; nor does one that polls
/// writable from send.
pub(super) fn poll_holds(state: &str, s: &Socket) -> Outcome {
    let events = s.poll();
    if events.intersects(Events(libc::POLLIN as u32)) {
        let again = Err(Error::Again);
        let peeked = recv(s, 1, libc::MSG_DONTWAIT | libc::MSG_PEEK).map(drop);
        let listens = s.sock().state() as u8 == LISTEN;
        ensure!(listens || peeked != again, "{state}: poll returns POLLIN, and recv EAGAIN");
    }
    ensure!(!s.sock().is_broken(), "{state}: the socket is broken: an operation broke a rule of its table");
    Ok(())
}

/// TCP_LISTEN.
const LISTEN: u8 = 10;

pub(super) fn states_new(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        let s = scene.socket_on(0)?;
        unconnected("new", &s, scene)?;
        let s = scene.socket_on(0)?;
        let foreign = if scene.v6 { "[2001:db8::9]:0" } else { "192.0.2.9:0" };
        let foreign: SocketAddr = foreign.parse().unwrap_or(any(scene.v6, 0));
        expect("bind to another host's address", s.bind(foreign), &only(&[Error::AddrNotAvail]))?;
        expect("bind to the other family", s.bind(any(!scene.v6, 0)), &only(&[Error::AfNoSupport]))?;
        if scene.traits.connections {
            expect("connect to AF_UNSPEC", s.connect(None), &ok_or(&[Error::OpNotSupp, Error::NotConn]))?;
            expect("shutdown", s.shutdown(libc::SHUT_RDWR), &only(&[Error::NotConn]))?;
        } else {
            expect("listen", s.listen(1), &only(&[Error::OpNotSupp, Error::Inval]))?;
            expect("shutdown", s.shutdown(libc::SHUT_RDWR), &ok_or(&[Error::NotConn]))?;
        }
        expect("shutdown(7)", s.shutdown(7), &only(&[Error::Inval]))?;
        let refused = [Error::SocktNoSupport, Error::ProtoNoSupport, Error::Inval];
        let wrong = Socket::new(&scene.stacks[0], libc::AF_INET, 77, scene.traits.protocol).map(drop);
        ensure!(
            wrong.is_err_and(|e| refused.contains(&e)),
            "socket of type 77 is accepted, or refused by another error"
        );
        Ok(())
    })
}

pub(super) fn states_bound(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        let s = scene.socket_on(1)?;
        let at = scene.addr(1, PORT);
        s.bind(at).must("bind")?;
        let name = s.local_addr().must("getsockname")?;
        ensure!(name == at, "bound to {at}, and getsockname returns {name}");
        unconnected("bound", &s, scene)?;
        if scene.traits.ports {
            expect("a second bind", s.bind(scene.addr(1, PORT + 1)), &only(&[Error::Inval]))?;
            let other = scene.socket_on(1)?;
            expect("bind to a port in use", other.bind(at), &only(&[Error::AddrInUse]))?;
            other.bind(any(scene.v6, 0)).must("bind to any port")?;
            let name = other.local_addr().must("getsockname")?;
            ensure!(name.port() != 0 && name.port() != PORT, "bind to port 0 gives port {}", name.port());
            drop(s);
            scene.settle();
            let again = scene.socket_on(1)?;
            expect("bind to the port of a socket that was closed", again.bind(at), &OK)?;
        }
        Ok(())
    })
}

pub(super) fn states_listening(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_connections()?;
        let s = scene.server()?;
        s.set_nonblocking(true);
        expect("listening: accept", s.accept(), &only(&[Error::Again]))?;
        expect("listening: recv", recv(&s, 100, libc::MSG_DONTWAIT), &only(NOT_CONNECTED))?;
        expect("listening: send", send(&s, b"x", libc::MSG_DONTWAIT), &only(NOT_CONNECTED))?;
        let taken = only(&[Error::IsConn, Error::Inval, Error::OpNotSupp]);
        expect("listening: connect", s.connect(Some(scene.addr(0, PORT))), &taken)?;
        expect("listening: listen again", s.listen(3), &OK)?;
        expect("listening: getpeername", s.peer_addr(), &only(&[Error::NotConn]))?;
        ensure!(!s.poll().intersects(Events(libc::POLLIN as u32)), "listening: poll returns POLLIN, and nobody calls");
        // Unless bound, listen(2) binds to any port.
        let other = scene.socket_on(1)?;
        expect("listen on a new socket", other.listen(1), &ok_or(&[Error::DestAddrReq, Error::Inval]))?;
        // Ending to listen is optional, and needs `disconnect`; the sock is whole in either case.
        let may = ok_or(&[Error::NotConn, Error::OpNotSupp]);
        expect("listening: shutdown(SHUT_RD)", other.shutdown(libc::SHUT_RD), &may)?;
        poll_holds("no longer listening", &other)
    })
}

/// A link on which nothing arrives: the attempt lasts.
pub(super) fn states_connecting(part: &Part) -> Outcome {
    Scene::each(part, &dead(), |scene| {
        scene.traits.needs_connections()?;
        let to = scene.addr(1, PORT);
        let s = scene.socket_on(0)?;
        s.set_nonblocking(true);
        expect("connect of a non-blocking socket", s.connect(Some(to)), &only(&[Error::InProgress]))?;
        expect("connecting: connect", s.connect(Some(to)), &only(&[Error::Already]))?;
        expect("connecting: listen", s.listen(1), &only(&[Error::Inval]))?;
        expect("connecting: accept", s.accept(), &only(NO_ACCEPT))?;
        let not_yet = only(&[Error::Again, Error::NotConn, Error::Pipe, Error::Inval]);
        expect("connecting: recv", recv(&s, 100, 0), &not_yet)?;
        expect("connecting: send", send(&s, b"x", 0), &not_yet)?;
        expect("connecting: getpeername", s.peer_addr(), &ok_or(&[Error::NotConn]))?;
        ensure!(!s.poll().intersects(Events(libc::POLLOUT as u32)), "connecting: poll returns POLLOUT");
        let ended = scene.until(Duration::from_secs(3600), || {
            s.poll().intersects(Events(libc::POLLOUT as u32) | Events::ERR | Events::HUP).then_some(())
        });
        ensure!(ended.is_some(), "an attempt to connect that nobody answers is not given up within an hour");
        expect("connect, after the attempt has failed", s.connect(Some(to)), &ok_or(UNREACHED).or_in_progress())?;
        drop(s);
        // By SO_SNDTIMEO, a blocking call returns earlier.
        let s = scene.socket_on(0)?;
        super::scene::set_timeout(&s, libc::SO_SNDTIMEO, 300).must("SO_SNDTIMEO")?;
        let before = scene.world.now();
        expect("connect with SO_SNDTIMEO of 300 ms", s.connect(Some(to)), &only(&[Error::InProgress, Error::Again]))?;
        let took = (scene.world.now() - before).as_millis();
        ensure!((300..400).contains(&took), "connect with SO_SNDTIMEO of 300 ms took {took} ms");
        Ok(())
    })?;
    Scene::each(part, &calm(), |scene| {
        // Nobody listens: refused, or given up.
        let s = scene.socket_on(0)?;
        expect("connect to a port without a listener", s.connect(Some(scene.addr(1, NO_PORT))), &only(UNREACHED))?;
        poll_holds("refused", &s)
    })
}

impl May {
    /// A new attempt may begin.
    fn or_in_progress(&self) -> May {
        May(self.0, MAY_TRY_AGAIN)
    }
}

const MAY_TRY_AGAIN: &[Error] = &[
    Error::ConnRefused,
    Error::ConnReset,
    Error::TimedOut,
    Error::HostUnreach,
    Error::NetUnreach,
    Error::NoProtoOpt,
    Error::InProgress,
    Error::ConnAborted,
    Error::Inval,
];

pub(super) fn states_connected(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let s = &pair.ends[0];
        if scene.traits.connections {
            expect("connected: connect", s.connect(Some(scene.addr(1, PORT))), &only(&[Error::IsConn]))?;
            expect("connected: listen", s.listen(1), &only(&[Error::Inval]))?;
            expect("connected: bind", s.bind(scene.addr(0, PORT + 3)), &only(&[Error::Inval]))?;
            expect("connected: accept", s.accept(), &only(NO_ACCEPT))?;
        } else if pair.to[0].is_none() {
            // Only SOCK_DGRAM's and the like may change their peer: connect(2).
            let again = if scene.traits.ty == libc::SOCK_SEQPACKET { only(&[Error::IsConn]) } else { OK };
            expect("connected: connect again", s.connect(Some(scene.addr(1, PORT))), &again)?;
        }
        expect("connected: recv", recv(s, 100, libc::MSG_DONTWAIT), &only(&[Error::Again]))?;
        expect("connected: send", pair.send(0, b"hello", 0), &OK)?;
        ensure!(s.poll().intersects(Events(libc::POLLOUT as u32)), "connected: poll does not return POLLOUT");
        ensure!(!s.poll().intersects(Events(libc::POLLIN as u32)), "connected: poll returns POLLIN: nothing has come");
        scene.settle();
        poll_holds("data has come", &pair.ends[1])?;
        expect("data has come: recv", recv(&pair.ends[1], 100, libc::MSG_DONTWAIT), &OK)?;
        expect("no more: recv", recv(&pair.ends[1], 100, libc::MSG_DONTWAIT), &only(&[Error::Again]))?;
        Ok(())
    })
}

/// getsockname and getpeername of both ends.
pub(super) fn names(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let [a, b] = &pair.ends;
        let names = |s: &Socket| (s.local_addr(), s.peer_addr());
        let ((a_here, a_there), (b_here, b_there)) = (names(a), names(b));
        let at = scene.addr(1, PORT);
        ensure!(b_here == Ok(at), "the server is at {at}, and getsockname returns {b_here:?}");
        if pair.to[0].is_none() {
            ensure!(a_there == Ok(at), "connected to {at}, and getpeername returns {a_there:?}");
            ensure!(b_there == a_here, "getpeername of one end is {b_there:?}, getsockname of the other {a_here:?}");
        }
        // The sender of a message.
        pair.send(0, b"from", 0).must("send")?;
        scene.settle();
        let r = pair.recv(1, libc::MSG_DONTWAIT).must("recv")?;
        let from = r.from;
        let right = from.is_none() && scene.traits.connections || from.map(Ok) == Some(a_here);
        ensure!(right, "recvmsg says {from:?} has sent what {a_here:?} sent");
        if !scene.traits.connections && pair.to[0].is_none() {
            match a.connect(None) {
                Ok(()) => expect("disconnected: getpeername", a.peer_addr(), &only(&[Error::NotConn]))?,
                r => expect("connect to AF_UNSPEC", r, &only(&[Error::OpNotSupp]))?,
            }
        }
        Ok(())
    })
}

pub(super) fn states_shut(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let [a, b] = &pair.ends;
        if !scene.traits.connections {
            expect("shutdown(SHUT_RD)", a.shutdown(libc::SHUT_RD), &ok_or(&[Error::NotConn]))?;
            let r = recv(a, 100, libc::MSG_DONTWAIT);
            ensure!(matches!(&r, Ok(r) if r.len == 0), "after shutdown(SHUT_RD) recv returns {r:?}, and not 0");
            ensure!(a.poll().intersects(Events(libc::POLLIN as u32)), "after shutdown(SHUT_RD) poll without POLLIN");
            return Ok(());
        }
        a.shutdown(libc::SHUT_WR).must("shutdown(SHUT_WR)")?;
        expect("shut down: send", send(a, b"x", libc::MSG_DONTWAIT), &only(&[Error::Pipe]))?;
        expect("shut down: recv", recv(a, 100, libc::MSG_DONTWAIT), &only(&[Error::Again]))?;
        scene.settle();
        let events = b.poll();
        ensure!(events.intersects(Events(libc::POLLIN as u32)), "the peer has shut down, and poll is without POLLIN");
        let r = recv(b, 100, libc::MSG_DONTWAIT);
        ensure!(matches!(&r, Ok(r) if r.is_end()), "the peer has shut down: recv returns {r:?}, and not 0");
        let again = recv(b, 100, libc::MSG_DONTWAIT);
        ensure!(matches!(&again, Ok(r) if r.is_end()), "the end is told once: then recv returns {again:?}");
        // The other direction goes on.
        expect("the peer has shut down: send", send(b, b"still", 0), &OK)?;
        scene.settle();
        let r = recv(a, 100, libc::MSG_DONTWAIT);
        ensure!(matches!(&r, Ok(r) if r.bytes == b"still"), "shut down for sending: recv returns {r:?}");
        b.shutdown(libc::SHUT_RDWR).must("shutdown(SHUT_RDWR)")?;
        scene.settle();
        let r = recv(a, 100, libc::MSG_DONTWAIT);
        ensure!(matches!(&r, Ok(r) if r.is_end()), "both have shut down: recv returns {r:?}, and not 0");
        ensure!(a.poll().intersects(Events::HUP), "both directions are shut down, and poll is without POLLHUP");
        Ok(())
    })
}

/// The peer has closed: its end is told, sending fails in the end, and nothing else.
pub(super) fn states_peer_closed(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let Pair { ends: [a, b], listener, to } = scene.pair()?;
        send_to(&b, b"last", 0, to[1]).must("send")?;
        b.close();
        scene.settle();
        let r = recv(&a, 100, libc::MSG_DONTWAIT);
        ensure!(matches!(&r, Ok(r) if r.bytes == b"last"), "the peer has sent and closed: recv returns {r:?}");
        let gone = ok_or(&[Error::Pipe, Error::ConnReset, Error::ConnRefused, Error::ConnAborted, Error::Again]);
        if scene.traits.connections {
            let r = recv(&a, 100, libc::MSG_DONTWAIT);
            ensure!(matches!(&r, Ok(r) if r.is_end()), "the peer has closed: recv returns {r:?}, and not 0");
        }
        for _ in 0..5 {
            expect("the peer has closed: send", send_to(&a, b"to nobody", 0, to[0]), &gone)?;
            scene.settle();
            expect("the peer has closed: recv", recv(&a, 100, libc::MSG_DONTWAIT), &gone)?;
            poll_holds("the peer has closed", &a)?;
        }
        drop(listener);
        Ok(())
    })
}

/// A finding with what was closed.
fn named(what: &'static str) -> impl Fn(Finding) -> Finding {
    move |f| match f {
        Finding::Wrong(why) => Finding::Wrong(format!("closed {what}: {why}")),
        unchecked => unchecked,
    }
}

fn close_listeners(scene: &Scene) -> Outcome {
    let s = scene.server()?;
    drop(s);
    scene.ends_clean().map_err(named("when listening"))?;
    let listener = scene.server()?;
    let calls = [scene.socket_on(0)?, scene.socket_on(0)?];
    for s in &calls {
        s.set_nonblocking(true);
        expect("connect", s.connect(Some(scene.addr(1, PORT))), &only(&[Error::InProgress]))?;
    }
    drop(listener);
    scene.settle();
    drop(calls);
    scene.ends_clean().map_err(named("with calls under way"))?;
    let listener = scene.server()?;
    let client = scene.socket_on(0)?;
    client.connect(Some(scene.addr(1, PORT))).must("connect")?;
    scene.settle();
    drop(listener);
    scene.settle();
    drop(client);
    scene.ends_clean().map_err(named("with a connection that was not accepted"))?;
    Ok(())
}

fn close_pairs(scene: &Scene) -> Outcome {
    let linger = |s: &Socket, seconds: i32| {
        let value = [1i32.to_ne_bytes(), seconds.to_ne_bytes()].concat();
        s.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &value).must("SO_LINGER")
    };
    for first in 0..2 {
        let pair = scene.pair()?;
        let [a, b] = &pair.ends;
        [a, b][first].close();
        scene.settle();
        drop(pair);
        scene.ends_clean().map_err(named("when connected"))?;
        let pair = scene.pair()?;
        pair.send(first, &[7; 1000], 0).must("send")?;
        pair.ends[first].close();
        drop(pair);
        scene.ends_clean().map_err(named("with data under way"))?;
        let pair = scene.pair()?;
        pair.send(first, &[7; 1000], 0).must("send")?;
        scene.settle();
        drop(pair);
        scene.ends_clean().map_err(named("with data that was not read"))?;
        for seconds in [0, 5] {
            let pair = scene.pair()?;
            linger(&pair.ends[first], seconds)?;
            pair.send(first, &[7; 1000], 0).must("send")?;
            pair.ends[first].close();
            scene.settle();
            drop(pair);
            scene.ends_clean().map_err(named("with SO_LINGER"))?;
        }
    }
    Ok(())
}

/// Closes a socket in each state, with data under way, queued and unread, and with SO_LINGER.
pub(super) fn close(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        drop(scene.socket_on(0)?);
        scene.ends_clean().map_err(named("when new"))?;
        let s = scene.socket_on(0)?;
        s.bind(scene.addr(0, PORT)).must("bind")?;
        drop(s);
        scene.ends_clean().map_err(named("when bound"))?;
        if !scene.traits.wire {
            return Ok(());
        }
        if scene.traits.connections {
            close_listeners(scene)?;
        }
        close_pairs(scene)
    })?;
    Scene::each(part, &dead(), |scene| {
        if scene.traits.connections {
            let s = scene.socket_on(0)?;
            s.set_nonblocking(true);
            expect("connect", s.connect(Some(scene.addr(1, PORT))), &only(&[Error::InProgress]))?;
            drop(s);
            scene.ends_clean().map_err(named("when connecting"))?;
        }
        let s = scene.socket_on(0)?;
        set_int(&s, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1).must("SO_KEEPALIVE")
    })
}

/// The link fails under a connection with data queued, and both ends are closed: the protocol gives up by itself.
pub(super) fn close_cut_off(part: &Part) -> Outcome {
    Scene::each(part, &calm(), |scene| {
        scene.traits.needs_wire()?;
        let pair = scene.pair()?;
        let most = if scene.traits.connections { 50 } else { 5 };
        for _ in 0..most {
            expect("send", pair.send(0, &[7; 900], libc::MSG_DONTWAIT), &ok_or(&[Error::Again]))?;
        }
        for end in &scene.ends {
            end.link.set_direction(usersock::device::link::Direction::default().loss(1.0)).must("the link")?;
        }
        drop(pair);
        Ok(())
    })
}

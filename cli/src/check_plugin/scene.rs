//! A world of two hosts that a link joins, with the plug-in in both stacks, and sockets of its protocol; where it is no
//! protocol, sockets of TCP that have its congestion control, its layer, its hooks or its TCP. At the end of each check
//! nothing may be left: no timer, no packet, no sock, no memory, and the plug-in unloads.

use super::part::{Finding, Must, Outcome, Part, ensure};
use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use usersock::device::link::{Direction, LinkConfig};
use usersock::error::{Error, Result};
use usersock::net::Socket;
use usersock::sim::World;
use usersock::sim::world::End;
use usersock::sock::msg::{RecvMsg, SendMsg};
use usersock::sock::registry::Listing;
use usersock::stack::Stack;
use usersock_ffi::loader::{Loaded, TableKind};
use usersock_ffi::plugin::packets_owned;

/// Options of TCP that libc has no name of.
pub(super) const TCP_ULP: i32 = 31;
/// USK_TCP_HOOKS, USK_TCP_HOOKS_DETACH, USK_TCP_STACK of usersock.h.
pub(super) const TCP_HOOKS: i32 = 2001;
pub(super) const TCP_HOOKS_DETACH: i32 = 2002;
pub(super) const TCP_STACK: i32 = 8192;

/// How long a protocol may take to end what its programs have closed: beyond any retransmission limit and TIME-WAIT.
const LONGEST_END: Duration = Duration::from_secs(3600);
/// The port of the second host's socket.
pub(super) const PORT: u16 = 700;
/// No port of any socket in a check.
pub(super) const NO_PORT: u16 = 799;
/// Room for any message.
pub(super) const ROOM: usize = 300_000;

/// What kind of protocol it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    pub ty: i32,
    pub protocol: i32,
    /// connect(2) makes a connection, and accept(2) returns one.
    pub connections: bool,
    pub v4: bool,
    pub v6: bool,
    /// What its sockets send arrives: packets of its own number, or of the socks inside of them.
    pub wire: bool,
    /// bind(2) takes a port.
    pub ports: bool,
}

impl Traits {
    /// Bytes without marks between them.
    pub(super) fn stream(&self) -> bool {
        self.ty == libc::SOCK_STREAM
    }

    const TCP: Traits = Traits {
        ty: libc::SOCK_STREAM,
        protocol: libc::IPPROTO_TCP,
        connections: true,
        v4: true,
        v6: true,
        wire: true,
        ports: true,
    };

    fn of(stack: &Arc<Stack>, listed: &Listing) -> Outcome<Traits> {
        let Some(&(family, ty, protocol)) = listed.keys.first() else {
            return Err(Finding::Wrong("it has no key for socket(2)".to_owned()));
        };
        let has = |f: i32| listed.keys.iter().any(|k| k.0 == f);
        let socket = Socket::new(stack, family, ty, protocol).must("socket")?;
        let connections = socket.sock().proto().is_stream();
        let bound = socket.bind(any(family == libc::AF_INET6, 0));
        let ports = bound.is_err() || socket.local_addr().must("getsockname")?.port() != 0;
        Ok(Traits {
            ty,
            protocol,
            connections,
            v4: has(libc::AF_INET),
            v6: has(libc::AF_INET6),
            wire: has_wire(stack, (family, ty, protocol))?,
            ports,
        })
    }

    /// Skips a check that needs packets to arrive.
    pub(super) fn needs_wire(&self) -> Outcome {
        match self.wire {
            true => Ok(()),
            false => Err(Finding::Unchecked("the protocol has no rcv, or no sendmsg: nothing arrives".to_owned())),
        }
    }

    pub(super) fn needs_connections(&self) -> Outcome {
        match self.connections {
            true => Ok(()),
            false => Err(Finding::Unchecked("the protocol has no connections".to_owned())),
        }
    }
}

/// Whether what sockets of this type and number send arrives. Packets may come to another protocol's `rcv` than the
/// sock's (`ports_of`); a number that is no IP protocol's is that of a transport over others; and what has no `sendmsg`
/// sends nothing.
pub(super) fn has_wire(stack: &Arc<Stack>, (family, ty, protocol): (i32, i32, i32)) -> Outcome<bool> {
    let socket = Socket::new(stack, family, ty, protocol).must("socket")?;
    let sends = send(&socket, b"x", libc::MSG_DONTWAIT) != Err(Error::OpNotSupp);
    let listed = stack.registry.list();
    let arrives = |number: u8| listed.iter().any(|l| l.numbers.contains(&number));
    Ok(sends && u8::try_from(protocol).map_or(true, arrives))
}

/// The unspecified address of a family.
pub(super) fn any(v6: bool, port: u16) -> SocketAddr {
    let ip: std::net::IpAddr = if v6 { [0u8; 16].into() } else { [0u8; 4].into() };
    SocketAddr::new(ip, port)
}

/// A link with this delay each way, and else perfect.
pub(super) fn calm() -> LinkConfig {
    LinkConfig::both(Direction::default().rate(100_000_000).delay(Duration::from_millis(5)))
}

/// A link on which nothing arrives.
pub(super) fn dead() -> LinkConfig {
    LinkConfig::both(Direction::default().loss(1.0))
}

/// See the module's text. Host 0 is the client's, host 1 the server's.
pub(super) struct Scene {
    pub world: World,
    pub stacks: [Arc<Stack>; 2],
    pub ends: [End; 2],
    pub traits: Traits,
    pub v6: bool,
    kind: TableKind,
    table: String,
    /// None: this host is without the plug-in.
    loaded: [Option<Loaded>; 2],
}

impl Scene {
    pub(super) fn new(part: &Part, link: &LinkConfig, v6: bool) -> Outcome<Scene> {
        Scene::with(part, link, v6, [true; 2])
    }

    /// With the plug-in on these hosts.
    pub(super) fn with(part: &Part, link: &LinkConfig, v6: bool, has: [bool; 2]) -> Outcome<Scene> {
        let world = World::new(part.seed);
        let [(a, ea), (b, eb)] = world.two(link).must("a world")?;
        let load = |stack: &Arc<Stack>, has: bool| match has {
            true => Loaded::open(stack, &part.file).must("loading").map(Some),
            false => Ok(None),
        };
        let loaded = [load(&a, has[0])?, load(&b, has[1])?];
        let kind = part.kind.unwrap_or(TableKind::Protocol);
        let traits = match kind {
            TableKind::Protocol => {
                let listed = b.registry.list().into_iter().find(|l| l.name == part.table);
                let gone = || Finding::Wrong(format!("the protocol {} is not registered any more", part.table));
                Traits::of(&b, &listed.ok_or_else(gone)?)?
            }
            _ => Traits::TCP,
        };
        Ok(Scene { world, stacks: [a, b], ends: [ea, eb], traits, v6, kind, table: part.table.clone(), loaded })
    }

    /// Sets a sysctl on both hosts.
    pub(super) fn sysctl(&self, name: &str, value: &str) -> Outcome {
        self.stacks.iter().try_for_each(|s| {
            let set = s.sysctl.set(name, value);
            set.map_err(|e| Finding::Wrong(format!("sysctl {name}={value}: {e:?}")))
        })
    }

    /// Plays `act` in a scene of its own with each family of the protocol's.
    pub(super) fn each(part: &Part, link: &LinkConfig, act: impl Fn(&Scene) -> Outcome) -> Outcome {
        let mut played = false;
        for v6 in [false, true] {
            let scene = Scene::new(part, link, v6)?;
            if if v6 { scene.traits.v6 } else { scene.traits.v4 } {
                let family = if v6 { "IPv6: " } else { "" };
                let told = |f| match f {
                    Finding::Wrong(why) => Finding::Wrong(format!("{family}{why}")),
                    unchecked => unchecked,
                };
                act(&scene).and_then(|()| scene.finish()).map_err(told)?;
                played = true;
            }
        }
        ensure!(played, "it is registered for no family");
        Ok(())
    }

    pub(super) fn socket_on(&self, host: usize) -> Outcome<Socket> {
        let family = if self.v6 { libc::AF_INET6 } else { libc::AF_INET };
        let s = Socket::new(&self.stacks[host], family, self.traits.ty, self.traits.protocol).must("socket")?;
        if self.loaded[host].is_some() {
            self.prepare(&s)?;
        }
        Ok(s)
    }

    /// Gives a socket of TCP what is checked, before it connects.
    fn prepare(&self, s: &Socket) -> Outcome {
        match self.kind {
            TableKind::Congestion => set_congestion(s, &self.table).must("TCP_CONGESTION"),
            TableKind::Tcp => set_stack(s, &self.table).must("USK_TCP_STACK"),
            TableKind::Hooks => match set_tcp(s, TCP_HOOKS, &self.table) {
                // They are for all sockets.
                Ok(()) | Err(Error::Exist) => Ok(()),
                r => r.must("USK_TCP_HOOKS"),
            },
            _ => Ok(()),
        }
    }

    /// The same once it is connected.
    fn joined(&self, host: usize, s: &Socket) -> Outcome {
        match self.kind {
            TableKind::Layer if self.loaded[host].is_some() => {
                s.setsockopt(libc::IPPROTO_TCP, TCP_ULP, self.table.as_bytes()).must("TCP_ULP")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn addr(&self, host: usize, port: u16) -> SocketAddr {
        let end = &self.ends[host];
        let port = if self.traits.ports { port } else { 0 };
        if self.v6 { SocketAddr::new(end.v6.into(), port) } else { SocketAddr::new(end.v4.into(), port) }
    }

    /// A socket bound on the server's host; a listener, where there are connections.
    pub(super) fn server(&self) -> Outcome<Socket> {
        let s = self.socket_on(1)?;
        s.bind(self.addr(1, PORT)).must("bind")?;
        if self.traits.connections {
            s.listen(8).must("listen")?;
        }
        Ok(s)
    }

    /// Two sockets that reach each other, and the listener: both are connected, or of datagrams bound and, where the
    /// protocol has it, connected.
    pub(super) fn pair(&self) -> Outcome<Pair> {
        let listener = self.server()?;
        let client = self.socket_on(0)?;
        let at = self.addr(1, PORT);
        if self.traits.connections {
            // Blocking calls step the world.
            client.connect(Some(at)).must("connect")?;
            listener.set_nonblocking(true);
            let server = self.until(Duration::from_secs(60), || match listener.accept() {
                Ok((server, _)) => Some(Ok(server)),
                Err(Error::Again) => None,
                Err(e) => Some(Err(e)),
            });
            let Some(server) = server else {
                return Err(Finding::Wrong("connect has succeeded, and accept has nothing".to_owned()));
            };
            let server = server.must("accept")?;
            self.joined(0, &client)?;
            self.joined(1, &server)?;
            return Ok(Pair { ends: [client, server], to: [None, None], listener: Some(listener) });
        }
        client.bind(self.addr(0, PORT + 1)).must("bind")?;
        let from = self.addr(0, PORT + 1);
        let mut to = [Some(at), Some(from)];
        for (i, (socket, peer)) in [(&client, at), (&listener, from)].into_iter().enumerate() {
            match socket.connect(Some(peer)) {
                Ok(()) => to[i] = None,
                Err(Error::OpNotSupp) => {}
                r => r.must("connect of a datagram socket")?,
            }
        }
        Ok(Pair { ends: [client, listener], to, listener: None })
    }

    /// Steps the world until `f` has something, or `limit` has passed.
    pub(super) fn until<T>(&self, limit: Duration, mut f: impl FnMut() -> Option<T>) -> Option<T> {
        let end = self.world.now() + limit;
        loop {
            if let Some(t) = f() {
                return Some(t);
            }
            if self.world.now() >= end {
                return None;
            }
            self.world.step(end);
        }
    }

    /// Lets packets that are under way arrive, and what they cause.
    pub(super) fn settle(&self) {
        self.world.run_for(Duration::from_millis(100));
    }

    /// Runs until nothing is left to happen, and looks at what is left. All sockets are closed.
    pub(super) fn ends_clean(&self) -> Outcome {
        let idle = self.world.run_until_idle(self.world.now() + LONGEST_END);
        ensure!(idle, "all is closed, and {} s later a timer is still armed", LONGEST_END.as_secs());
        for (host, stack) in self.stacks.iter().enumerate() {
            let host = ["client", "server"][host];
            let protocol = if self.kind == TableKind::Protocol { &self.table } else { "TCP" };
            if let Some(l) = stack.registry.list().into_iter().find(|l| l.name == protocol) {
                let left = l.sockets;
                ensure!(left == 0, "all is closed, and {left} socks are left on the {host}'s host: held, or not done");
                ensure!(l.pages <= 0, "all is closed, and {} pages stay charged on the {host}'s host", l.pages);
            }
        }
        let packets = packets_owned().unwrap_or(0);
        ensure!(packets == 0, "all is closed, and {packets} packets were never given up");
        Ok(())
    }

    /// The end of the scene.
    pub(super) fn finish(&self) -> Outcome {
        self.ends_clean()?;
        (0..2).try_for_each(|host| self.unload(host).must("all is closed, unloading"))
    }

    /// Unloads the plug-in from a host.
    pub(super) fn unload(&self, host: usize) -> Result<()> {
        self.loaded[host].as_ref().map_or(Ok(()), Loaded::unload)
    }
}

/// Two sockets, see [`Scene::pair`].
pub(super) struct Pair {
    pub ends: [Socket; 2],
    /// Whom a message must name.
    pub to: [Option<SocketAddr>; 2],
    /// Kept: closing it is another check's.
    pub listener: Option<Socket>,
}

impl Pair {
    pub(super) fn send(&self, end: usize, bytes: &[u8], flags: i32) -> Result<usize> {
        send_to(&self.ends[end], bytes, flags, self.to[end])
    }

    pub(super) fn recv(&self, end: usize, flags: i32) -> Result<Received> {
        recv(&self.ends[end], ROOM, flags)
    }
}

/// What a receive returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub bytes: Vec<u8>,
    /// What the call returned: more than the bytes, with MSG_TRUNC.
    pub len: usize,
    /// msg_flags.
    pub flags: i32,
    pub from: Option<SocketAddr>,
}

impl Received {
    /// The end of a connection: no bytes, and no mark of a message without any.
    pub(super) fn is_end(&self) -> bool {
        self.len == 0 && self.flags & libc::MSG_EOR == 0
    }
}

/// send(2), without SIGPIPE.
pub(super) fn send(s: &Socket, bytes: &[u8], flags: i32) -> Result<usize> {
    send_to(s, bytes, flags, None)
}

pub(super) fn send_to(s: &Socket, bytes: &[u8], flags: i32, to: Option<SocketAddr>) -> Result<usize> {
    let slices = [IoSlice::new(bytes)];
    let mut msg = SendMsg::new(&slices, flags | libc::MSG_NOSIGNAL);
    msg.name = to;
    s.sendmsg(&mut msg)
}

/// recvmsg(2) with room for so many bytes. What was not written is zero.
pub(super) fn recv(s: &Socket, room: usize, flags: i32) -> Result<Received> {
    let mut buf = vec![0; room];
    let mut slices = [IoSliceMut::new(&mut buf)];
    let mut msg = RecvMsg::new(&mut slices, flags);
    let len = s.recvmsg(&mut msg)?;
    let (flags, from) = (msg.out_flags, msg.name);
    buf.truncate(len.min(room));
    Ok(Received { bytes: buf, len, flags, from })
}

/// An int option of SOL_SOCKET.
pub(super) fn set_int(s: &Socket, level: i32, name: i32, value: i32) -> Result<()> {
    s.setsockopt(level, name, &value.to_ne_bytes())
}

pub(super) fn get_int(s: &Socket, level: i32, name: i32) -> Result<i32> {
    let mut value = [0; 4];
    s.getsockopt(level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// An option of TCP that is a name.
pub(super) fn set_tcp(s: &Socket, option: i32, name: &str) -> Result<()> {
    s.setsockopt(libc::IPPROTO_TCP, option, name.as_bytes())
}

/// TCP_CONGESTION.
pub(super) fn set_congestion(s: &Socket, name: &str) -> Result<()> {
    set_tcp(s, libc::TCP_CONGESTION, name)
}

/// USK_TCP_STACK.
pub(super) fn set_stack(s: &Socket, name: &str) -> Result<()> {
    set_tcp(s, TCP_STACK, name)
}

/// SO_RCVTIMEO or SO_SNDTIMEO.
pub(super) fn set_timeout(s: &Socket, name: i32, ms: u64) -> Result<()> {
    let mut timeval = [0; 16];
    timeval[..8].copy_from_slice(&(ms / 1000).to_ne_bytes());
    timeval[8..].copy_from_slice(&(ms % 1000 * 1000).to_ne_bytes());
    s.setsockopt(libc::SOL_SOCKET, name, &timeval)
}

/// Fast, repeatable, without a short period.
#[derive(Clone)]
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }

    pub(super) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

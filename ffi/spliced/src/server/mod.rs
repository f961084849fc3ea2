//! The server: one thread that waits in one epoll for the devices, the programs' descriptors and their requests, and
//! drives the stack. Above: `usersock serve`. Below: `usersock::net::Socket`, `driver::EventLoop`.
//!
//! | module | |
//! |---|---|
//! | `lines` | the server's own listeners, and who has asked something |
//! | `requests` | what a program asks for, answered |
//! | `stream` | a connection, from its beginning to its end; `up` and `down` move its bytes |
//! | `end` | the server's end of a program's descriptor |
//! | `outlet` | the way of bulk to the network |
//! | `opening` | attempts to connect for which a listener of another program waits |
//! | `owner` | whether a program still has a descriptor without another end |
//! | `known` | which socket of the stack is which of the programs', and what is on the way, for the control socket |
//! | `ready` | sockets of the stack in which something happened |
//!
//! A socket's life: a request (bind, setsockopt, connect) makes it; connect gives it the server's end of the descriptor
//! (`Name::Data`); it ends with the descriptor. A socket without an end has no sign of its descriptor but the name,
//! which the kernel frees with the last descriptor: such sockets are swept, a few times a second, and a listener's name
//! is looked at before a SYN is answered.

mod end;
mod known;
mod lines;
mod opening;
mod outlet;
mod owner;
mod ready;
mod requests;
mod stream;

use crate::instance::Instance;
use crate::name::Name;
use crate::ring::Ring;
use crate::sys::{self, Epoll, Owned, Result};
use end::{EVENTS, End, LOOK};
use known::{Known, Passing};
use opening::{Opening, Route, route};
use outlet::Outlet;
use owner::Names;
use ready::{Ready, Signal};
use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stream::{Fate, Stream};
use usersock::driver::EventLoop;
use usersock::env::Instant;
use usersock::error::Error;
use usersock::net::Socket;
use usersock::sock::wait::{Events, WatchKey};
use usersock::stack::Stack;

/// Tokens of epoll below the identifiers of sockets. A line or a device has its descriptor in the low half.
const REQUESTS: u64 = 1;
const DATA: u64 = 2;
const LINE: u64 = 1 << 62;
const DEVICE: u64 = 1 << 61;
/// Identifiers of accepted connections, which the server makes.
const ACCEPTED: u64 = 1 << 63;

/// How often sockets without an end are looked after.
const SWEEP: Duration = Duration::from_millis(250);
/// After this time what was read of a descriptor is removed, where it was left there for the next read to remove. A
/// program that filled its room with tiny writes waits so long.
const TIDY: Duration = Duration::from_millis(20);
/// When a listener whose queue in the kernel is full is tried again.
const RETRY: Duration = Duration::from_millis(2);
/// So often a listener's connection waits for a descriptor that does not listen yet: a second.
const MAX_REFUSED: u32 = 500;
/// Most requests that have connected and not come.
const MAX_LINES: usize = 1024;
/// Descriptors that are not for connections, at most; where there are few, an eighth of them.
const RESERVE: RawFd = 32;
/// Of the server's ends: what a sender is ahead of its reader. The kernel caps it (net.core.wmem_max).
const END_BUFFER: i32 = 1 << 20;
/// Most accepted connections that have failed and are kept for their programs to ask why (SO_ERROR, TCP_INFO): that the
/// descriptor is closed at last is not told to anybody.
const MAX_FAILED: usize = 256;

/// What a socket is used for.
enum Role {
    /// Not connected, not listening.
    Plain,
    /// A listener, with a connection that its full queue did not take.
    Listener(Option<Box<Waiting>>),
    /// A connection, or an attempt.
    Stream(Box<Stream>),
}

/// An accepted connection that waits for its other end, or for room in its listener's queue.
struct Waiting {
    socket: Socket,
    id: u64,
    end: End,
    from: Route,
    /// How often the listener's descriptor was there, and did not listen.
    refused: u32,
}

impl Waiting {
    /// Nobody will accept it: the peer sees a reset, as of all in the queue of a listener that ends.
    fn forsake(self) {
        resets_when_closed(&self.socket);
        self.socket.close();
    }
}

/// A socket of a program.
struct Conn {
    family: u16,
    socket: Socket,
    signal: Arc<Signal>,
    watch: WatchKey,
    role: Role,
    /// No descriptor had its name when that was looked at.
    name_is_free: bool,
}

impl Conn {
    fn new(id: u64, family: u16, socket: Socket, role: Role, ready: &Arc<Ready>) -> Conn {
        socket.set_nonblocking(true);
        // An urgent byte is read in its place among the others, however many the peer sends.
        let _ = socket.setsockopt(libc::SOL_SOCKET, libc::SO_OOBINLINE, &1i32.to_ne_bytes());
        let signal = Arc::new(Signal::new(id, ready));
        let watch = socket.sock().wait.add(Events::ALL, false, signal.clone());
        Conn { family, socket, signal, watch, role, name_is_free: false }
    }

    /// Nothing but the name tells whether the program still has it.
    fn lacks_end(&self) -> bool {
        match &self.role {
            Role::Stream(stream) => stream.end().is_none(),
            _ => true,
        }
    }

    /// Closes the socket; `reset`: as a program that closes with data unread.
    fn close(self, reset: bool) {
        self.socket.sock().wait.remove(self.watch);
        if let Role::Listener(Some(waiting)) = self.role {
            waiting.forsake();
        }
        if reset {
            resets_when_closed(&self.socket);
        }
        self.socket.close();
    }
}

/// Has the peer see a reset, not an end.
fn resets_when_closed(socket: &Socket) {
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    let _ = socket.setsockopt(libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// The first of the descriptors that are kept for other things than connections, of so many.
fn reserved(limit: RawFd) -> RawFd {
    limit - (limit / 8).min(RESERVE)
}

/// A stack server.
pub struct Server {
    stack: Arc<Stack>,
    driver: Arc<EventLoop>,
    instance: Instance,
    epoll: Epoll,
    requests: Owned,
    data: Owned,
    ready: Arc<Ready>,
    names: Arc<Names>,
    conns: HashMap<u64, Conn>,
    known: Arc<Known>,
    /// Connections of requests whose message has not come yet, the oldest first.
    lines: VecDeque<Owned>,
    next_id: u64,
    opening: Opening,
    /// Accepted connections that have failed, the oldest first.
    failed: VecDeque<u64>,
    /// The devices' descriptors in `epoll`, with their events.
    watched: Vec<(RawFd, i16)>,
    /// Memory for short reads.
    few: Box<[u8]>,
    /// Sends to many programs and writes many packets at once; None: the kernel has none for us, or is not to be asked.
    ring: Option<Ring>,
    /// Connections whose bytes wait for it.
    staged: Vec<u64>,
    /// Its answers.
    sent: Vec<Option<Result<usize>>>,
    sweep_at: Option<Instant>,
    /// When to remove what was read, and from which descriptors.
    tidy_at: Option<Instant>,
    untidy: Vec<u64>,
    /// When to try full listeners again, and which.
    retry_at: Option<Instant>,
    full: Vec<u64>,
    /// The server's own listeners are not watched: it has no descriptors left (EMFILE).
    paused: bool,
    /// From this number on descriptors are not for connections: requests are to be heard still, and who looks into the
    /// stack.
    reserved: RawFd,
    /// The number of the line by which the request came that is answered, if it was the lowest free one just now.
    newest: Option<RawFd>,
}

impl Server {
    /// A server for `instance`, on a stack that `driver` drives; without `io_uring` it does not ask the kernel for a
    /// ring. To be called in the thread that runs it. EADDRINUSE: there is one.
    pub fn new(stack: Arc<Stack>, driver: Arc<EventLoop>, instance: Instance, io_uring: bool) -> Result<Server> {
        let listener = |ty: i32, name: Name| -> Result<Owned> {
            let fd = sys::socket(ty | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
            sys::bind(fd.raw(), &name.encode(&instance))?;
            sys::listen(fd.raw(), libc::SOMAXCONN)?;
            Ok(fd)
        };
        let requests = listener(libc::SOCK_SEQPACKET, Name::Requests)?;
        let data = listener(libc::SOCK_STREAM, Name::Data)?;
        // Accepted ends have it from their listener.
        sys::set_option(data.raw(), libc::SO_SNDBUF, END_BUFFER)?;
        let epoll = Epoll::new()?;
        epoll.add(requests.raw(), libc::EPOLLIN as u32, REQUESTS)?;
        epoll.add(data.raw(), libc::EPOLLIN as u32, DATA)?;
        stack.share();
        let known = Arc::new(Known::new(instance, driver.clone()));
        Ok(Server {
            ready: Arc::new(Ready::new(driver.clone())),
            names: Arc::new(Names::new(instance)),
            stack,
            driver,
            instance,
            epoll,
            requests,
            data,
            conns: HashMap::new(),
            known,
            lines: VecDeque::new(),
            next_id: ACCEPTED,
            opening: Opening::default(),
            failed: VecDeque::new(),
            watched: Vec::new(),
            few: vec![0; LOOK].into_boxed_slice(),
            ring: if io_uring { Ring::new().ok() } else { None },
            staged: Vec::new(),
            sent: Vec::new(),
            sweep_at: None,
            tidy_at: None,
            untidy: Vec::new(),
            retry_at: None,
            full: Vec::new(),
            paused: false,
            reserved: reserved(sys::descriptor_limit()?),
            newest: None,
        })
    }

    /// How many sockets programs have.
    pub fn sockets(&self) -> usize {
        self.conns.len()
    }

    /// Has the control socket of this process tell what programs have of the sockets.
    pub fn tell_held(&self) {
        let known = self.known.clone();
        usersock::control::set_held(Box::new(move || known.held()));
    }

    /// What of the connections' bytes is on the way.
    fn passing(&self) -> HashMap<u64, Passing> {
        let all = self.conns.iter().filter_map(|(id, conn)| match &conn.role {
            Role::Stream(stream) => Some((*id, stream.passing())),
            _ => None,
        });
        all.filter(|(_, passing)| *passing != Passing::default()).collect()
    }

    /// Serves until `stop` is set and the driver woken.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        let mut devices = Vec::new();
        let mut ids = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            self.work(&mut ids);
            self.watch_devices()?;
            let deadline = [self.sweep_at, self.retry_at, self.tidy_at].into_iter().flatten().min();
            let mut timeout = self.driver.begin_sleep(&self.stack, deadline);
            if !self.ready.is_empty() {
                timeout = Some(Duration::ZERO);
            }
            let n = self.epoll.wait(&mut events, timeout)?;
            devices.clear();
            devices.extend(events[..n].iter().filter(|e| kind(e.u64) == DEVICE).map(|e| e.u64 as u32 as RawFd));
            self.driver.serve(&self.stack, &devices);
            // What has arrived first: the program works on it on another processor while its answers are sent here.
            self.work(&mut ids);
            for event in &events[..n] {
                self.handle(event.u64, event.events);
            }
            self.on_time();
            if self.known.is_asked() {
                self.known.tell(self.passing());
            }
        }
        Ok(())
    }

    /// Keeps the devices' descriptors in the epoll set.
    fn watch_devices(&mut self) -> Result<()> {
        for (fd, events) in self.driver.descriptors(&self.stack) {
            let token = DEVICE | fd as u64;
            match self.watched.iter_mut().find(|w| w.0 == fd) {
                Some(w) if w.1 == events => {}
                Some(w) => {
                    self.epoll.modify(fd, events as u32, token)?;
                    w.1 = events;
                }
                None => {
                    self.epoll.add(fd, events as u32, token)?;
                    self.watched.push((fd, events));
                }
            }
        }
        Ok(())
    }

    /// Looks at the sockets in which something happened.
    fn work(&mut self, ids: &mut Vec<u64>) {
        self.stack.run_pending();
        ids.clear();
        self.ready.take(ids);
        // One alone has nothing to wait for.
        let stages = self.ring.is_some() && ids.len() > 1;
        for id in ids.drain(..) {
            self.look_at(id, stages);
        }
        if !self.staged.is_empty() {
            self.send_staged();
        }
    }

    /// Sends the bytes that wait, those of all connections by one call.
    fn send_staged(&mut self) {
        let mut ids = std::mem::take(&mut self.staged);
        // What happened before a look may be told after it: then there is a second in the same turn.
        ids.sort_unstable();
        ids.dedup();
        let mut sends = Vec::with_capacity(ids.len());
        ids.retain(|id| match self.conns.get(id) {
            Some(Conn { role: Role::Stream(stream), .. }) => stream.staged().map(|send| sends.push(send)).is_some(),
            _ => false,
        });
        if let Some(ring) = &mut self.ring {
            ring.send(&sends, &mut self.sent);
        }
        self.sent.resize(sends.len(), None);
        if self.sent.contains(&None) {
            self.ring = None;
        }
        drop(sends);
        let mut sent = std::mem::take(&mut self.sent);
        for (id, answer) in ids.drain(..).zip(sent.drain(..)) {
            // A look at another may have removed it.
            let Some(Conn { role: Role::Stream(stream), .. }) = self.conns.get_mut(&id) else { continue };
            if !stream.sent(answer) {
                self.look(id);
            }
        }
        (self.staged, self.sent) = (ids, sent);
    }

    fn handle(&mut self, token: u64, events: u32) {
        match token {
            REQUESTS => self.accept_lines(),
            DATA => self.accept_data(),
            _ if kind(token) == DEVICE => {}
            _ if kind(token) == LINE => self.answer_line(token as u32 as RawFd),
            id => {
                if let Some(Conn { role: Role::Stream(stream), .. }) = self.conns.get_mut(&id) {
                    stream.epoll(events);
                    self.look(id);
                }
            }
        }
    }

    /// Does what can be done for a socket.
    fn look(&mut self, id: u64) {
        self.look_at(id, false);
    }

    /// As [`Server::look`]; `stages`: few bytes for the program are left to `send_staged`.
    fn look_at(&mut self, id: u64, stages: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.signal.lower();
        match &mut conn.role {
            Role::Plain => {}
            Role::Listener(_) if conn.signal.has_ended() => self.remove(id, false),
            Role::Listener(_) => self.accept(id),
            Role::Stream(stream) => {
                let had_end = stream.end().is_some();
                let ring = self.ring.as_mut();
                let mut outlet = ring.map(|ring| Outlet { stack: &self.stack, ring, broken: false });
                let fate = stream.turn(&conn.socket, &mut self.few, &mut outlet, stages);
                if outlet.is_some_and(|outlet| outlet.broken) {
                    self.ring = None;
                }
                if stream.staged().is_some() {
                    self.staged.push(id);
                }
                if let Some((fd, events)) = stream.watch() {
                    let _ = self.epoll.modify(fd, events, id);
                }
                if stream.becomes_untidy() {
                    self.untidy.push(id);
                    if self.tidy_at.is_none() {
                        self.tidy_at = Some(self.stack.now().saturating_add(TIDY));
                    }
                }
                let listener = stream.opened().and_then(|route| self.opening.end(route));
                match fate {
                    Fate::Waits => {
                        if had_end && stream.has_failed() {
                            self.ended(id);
                        }
                    }
                    Fate::Again => conn.signal.raise(),
                    fate => {
                        let listener = stream.waits_at();
                        self.remove(id, fate == Fate::Reset);
                        if let Some(listener) = listener {
                            // It is this perhaps that has ended, and others wait there.
                            self.look_after(listener);
                        }
                    }
                }
                if let Some(listener) = listener {
                    self.accept(listener);
                }
            }
        }
    }

    /// A connection whose descriptor is of no more use: the program may ask for its error.
    fn ended(&mut self, id: u64) {
        if id & ACCEPTED == 0 {
            return self.sweep_later();
        }
        let asks = |c: &Conn| matches!(&c.role, Role::Stream(stream) if stream.has_error());
        if !self.conns.get(&id).is_some_and(asks) {
            return self.remove(id, false);
        }
        self.failed.push_back(id);
        if self.failed.len() > MAX_FAILED
            && let Some(oldest) = self.failed.pop_front()
        {
            self.remove(oldest, false);
        }
    }

    fn remove(&mut self, id: u64, reset: bool) {
        if let Some(conn) = self.conns.remove(&id) {
            self.known.remove(id);
            if let Role::Stream(stream) = &conn.role
                && let Some(route) = stream.attempt
            {
                // The listener's time to look again is near.
                self.opening.end(route);
            }
            conn.close(reset);
        }
    }

    fn insert(&mut self, id: u64, conn: Conn) {
        if conn.lacks_end() {
            self.sweep_later();
        }
        self.known.insert(id, &conn.socket);
        self.conns.insert(id, conn);
    }

    fn sweep_later(&mut self) {
        let at = self.stack.now().saturating_add(SWEEP);
        self.sweep_at.get_or_insert(at);
    }

    /// Not later than was said before, however often something else has to wait, too.
    fn retry_later(&mut self) {
        let at = self.stack.now().saturating_add(RETRY);
        self.retry_at.get_or_insert(at);
    }

    fn on_time(&mut self) {
        let now = self.stack.now();
        if self.sweep_at.take_if(|at| *at <= now).is_some() {
            self.sweep(false);
        }
        if self.tidy_at.take_if(|at| *at <= now).is_some() {
            self.tidy();
        }
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            for id in std::mem::take(&mut self.full) {
                self.accept(id);
            }
            if std::mem::take(&mut self.paused) {
                self.watch_listeners(libc::EPOLLIN as u32);
            }
        }
    }

    /// Removes what was read from the descriptors that still have much of it.
    fn tidy(&mut self) {
        for id in self.untidy.drain(..) {
            if let Some(Conn { role: Role::Stream(stream), .. }) = self.conns.get_mut(&id) {
                stream.tidy();
            }
        }
    }

    /// Removes a listener whose descriptor is gone.
    fn look_after(&mut self, id: u64) {
        let Some(Conn { role: Role::Listener(_), family, .. }) = self.conns.get(&id) else { return };
        if self.names.is_free(id, *family) {
            self.remove(id, false);
        }
    }

    /// Whether a descriptor that does not take the connection of a listener is there all the same: the program, which
    /// has asked to listen, makes it listen now. Not for ever: it may have been shut down by a call of the kernel's.
    fn listens_soon(&self, id: u64, family: u16, new: &mut Waiting) -> bool {
        new.refused += 1;
        new.refused <= MAX_REFUSED && !self.names.is_free(id, family)
    }

    /// Removes sockets whose descriptors are gone. Those that do not listen must have been so the last time too, unless
    /// `at_once`: a program that goes on by another descriptor has none with the name for a moment.
    fn sweep(&mut self, at_once: bool) {
        let names = &self.names;
        let mut gone = Vec::new();
        for (id, conn) in self.conns.iter_mut().filter(|(id, c)| *id & ACCEPTED == 0 && c.lacks_end()) {
            let was_free = std::mem::replace(&mut conn.name_is_free, names.is_free(*id, conn.family));
            if conn.name_is_free && (was_free || at_once || matches!(conn.role, Role::Listener(_))) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.remove(id, false);
        }
        if self.conns.iter().any(|(id, c)| id & ACCEPTED == 0 && c.lacks_end()) {
            self.sweep_later();
        }
    }

    /// Takes the ends that connecting programs have made.
    fn accept_data(&mut self) {
        while let Some(end) = self.take(self.data.raw()) {
            let Ok(Some(Name::Socket { id, .. })) = sys::peer_name(end.raw(), |n| Name::decode(n, &self.instance))
            else {
                continue;
            };
            let Some(Conn { role: Role::Stream(stream), .. }) = self.conns.get_mut(&id) else { continue };
            if let Some(end) = stream.attach(end)
                && self.epoll.add(end.fd().raw(), EVENTS, id).is_ok()
            {
                self.look(id);
            }
        }
    }

    /// Hands the connections of a listener to the program: each is an AF_UNIX connection to the program's listening
    /// descriptor, so that the kernel does the waking and the sharing among processes.
    fn accept(&mut self, id: u64) {
        loop {
            let Some(Conn { family, socket, role: Role::Listener(waiting), .. }) = self.conns.get_mut(&id) else {
                return;
            };
            let family = *family;
            let mut new = match waiting.take() {
                Some(new) => new,
                None => {
                    let Ok((child, peer)) = socket.accept() else { return };
                    self.next_id += 1;
                    let local = child.local_addr();
                    let from = route(peer, local.unwrap_or(peer));
                    let new = local.and_then(|local| {
                        let end = sys::socket(libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
                        if end.raw() >= self.reserved {
                            return Err(Error::MFile);
                        }
                        sys::set_option(end.raw(), libc::SO_SNDBUF, END_BUFFER)?;
                        let name = Name::Accepted { id: self.next_id, family, local, peer };
                        sys::bind(end.raw(), &name.encode(&self.instance))?;
                        End::new(end)
                    });
                    // EMFILE: the server's limit; the peer sees a reset.
                    let Ok(end) = new else {
                        resets_when_closed(&child);
                        continue;
                    };
                    Box::new(Waiting { socket: child, id: self.next_id, end, from, refused: 0 })
                }
            };
            if self.opening.holds(new.from, id, self.stack.now()) {
                return self.accept_later(id, new);
            }
            match sys::connect(new.end.fd().raw(), &Name::Socket { id, family }.encode(&self.instance)) {
                Ok(()) => {
                    if self.epoll.add(new.end.fd().raw(), EVENTS, new.id).is_ok() {
                        let role = Role::Stream(Box::new(Stream::accepted(new.end, &self.instance, id)));
                        let conn = Conn::new(new.id, family, new.socket, role, &self.ready);
                        // Data may have come before it was watched.
                        conn.signal.raise();
                        self.insert(new.id, conn);
                    }
                }
                refused if refused == Err(Error::Again) || self.listens_soon(id, family, &mut new) => {
                    return self.accept_later(id, new);
                }
                // The program has closed the listener, and this is how the server learns of it.
                Err(_) => {
                    new.forsake();
                    return self.remove(id, false);
                }
            }
        }
    }

    /// Keeps a connection, the first of its listener's, until the time to try again.
    fn accept_later(&mut self, id: u64, new: Box<Waiting>) {
        if let Some(Conn { role: Role::Listener(waiting), .. }) = self.conns.get_mut(&id) {
            *waiting = Some(new);
        }
        // Each new connection comes here.
        if !self.full.contains(&id) {
            self.full.push(id);
        }
        self.retry_later();
    }
}

/// The kind of a token that has a descriptor in it.
fn kind(token: u64) -> u64 {
    match token {
        _ if token & ACCEPTED != 0 => 0,
        _ => token & (LINE | DEVICE),
    }
}

#[cfg(test)]
mod tests;

//! A connection to the control socket: reads a request, sends the reply in pieces as the client takes them. Above:
//! `run`. Below: `request`. What a client can cost is bounded: a request by `REQUEST`, a reply by `PIECE` at a time (it
//! is made as it is sent), an idle or stalled client by `PATIENCE`, a trace by the listener's queue.

use super::request::{self, Reply};
use super::{PROTOCOL, Shared, events, json::Object};
use crate::stack::Stack;
use crate::sys::fd::Fd;
use crate::sys::unix;
use crate::trace::Listener;
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Length of a request, at most.
const REQUEST: usize = 4096;
/// Bytes of a reply that wait for the client, about.
const PIECE: usize = 32 * 1024;
/// Pieces that a client is sent in one turn.
const ROUNDS: usize = 16;
/// How long a client may say nothing, or take nothing.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// Whether a client stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Goes,
}

/// What the client is being sent.
enum Sending {
    /// Nothing: a request is awaited.
    Nothing,
    /// The rest of a reply.
    Lines(Box<dyn Iterator<Item = String> + Send>),
    /// Events, until it hangs up.
    Trace(Listener),
}

/// See the module's text.
pub(super) struct Client {
    fd: Fd,
    request: Vec<u8>,
    out: Vec<u8>,
    sending: Sending,
    /// Nothing more is read: after a request that is too long, or the end of the client's.
    last: bool,
    since: Instant,
}

/// The greeting.
fn greeting() -> String {
    let program = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let about = Object::new().plain("usersock", PROTOCOL).text("version", env!("CARGO_PKG_VERSION"));
    about.plain("pid", std::process::id()).text("program", program.trim_end()).plain("uid", unix::euid()).end() + "\n"
}

impl Client {
    pub(super) fn new(fd: Fd, now: Instant) -> Client {
        let (request, out, sending) = (Vec::new(), greeting().into_bytes(), Sending::Nothing);
        Client { fd, request, out, sending, last: false, since: now }
    }

    /// The descriptor, for `poll`.
    pub(super) fn raw(&self) -> RawFd {
        self.fd.raw()
    }

    /// What to wait for. While a reply is under way no request is read, so that a client that only asks is stopped by
    /// its own socket's buffer; a trace's client is read, to learn that it has gone.
    pub(super) fn events(&self) -> i16 {
        let idle = matches!(self.sending, Sending::Nothing) && self.out.is_empty();
        let tracing = matches!(self.sending, Sending::Trace(_));
        // A request that is here already has its turn at once.
        let more = !self.out.is_empty() || idle && self.request.contains(&b'\n');
        let out = if more { libc::POLLOUT } else { 0 };
        out | if idle || tracing { libc::POLLIN } else { 0 }
    }

    /// When it is dropped if nothing happens; a trace may be silent for as long as its stack is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let silent = matches!(self.sending, Sending::Trace(_)) && self.out.is_empty();
        (!silent).then_some(self.since + PATIENCE)
    }

    /// Whatever can be done without waiting.
    pub(super) fn turn(&mut self, shared: &Arc<Shared>, stack: &Weak<Stack>, ready: i16, now: Instant) -> Fate {
        let gone = ready & (libc::POLLERR | libc::POLLNVAL) != 0 || self.deadline().is_some_and(|at| at <= now);
        let fate = match gone {
            true => Fate::Goes,
            false => self.work(shared, stack, ready & (libc::POLLIN | libc::POLLHUP) != 0, now),
        };
        if fate == Fate::Goes {
            self.leave(stack);
        }
        fate
    }

    fn work(&mut self, shared: &Arc<Shared>, stack: &Weak<Stack>, readable: bool, now: Instant) -> Fate {
        if readable && self.read(now) == Fate::Goes {
            return Fate::Goes;
        }
        for _ in 0..ROUNDS {
            self.fill();
            if self.out.is_empty() {
                match self.next_request() {
                    Some(line) => self.begin(request::answer(&line, shared, stack), stack, shared),
                    None if self.last && !matches!(self.sending, Sending::Trace(_)) => return Fate::Goes,
                    None => return Fate::Stays,
                }
                continue;
            }
            match unix::send(&self.fd, &self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.since = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Fate::Stays,
                Err(_) => return Fate::Goes,
            }
        }
        // The others' turn; what is ready now is sent in the next.
        self.fill();
        Fate::Stays
    }

    /// Reads what there is. A client that has shut its sending side down still gets its replies.
    fn read(&mut self, now: Instant) -> Fate {
        let mut buf = [0; 1024];
        if matches!(self.sending, Sending::Trace(_)) {
            // Whatever it says, it has nothing to say: the end is what counts.
            return match self.fd.read(&mut buf) {
                Ok(0) => Fate::Goes,
                Ok(_) => Fate::Stays,
                Err(e) if e.kind() == ErrorKind::WouldBlock => Fate::Stays,
                Err(_) => Fate::Goes,
            };
        }
        while !self.last && self.request.len() <= REQUEST {
            match self.fd.read(&mut buf) {
                Ok(0) => self.last = true,
                Ok(n) => {
                    self.request.extend_from_slice(&buf[..n]);
                    self.since = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Fate::Goes,
            }
        }
        Fate::Stays
    }

    /// The next whole request, when no reply is under way. One that is too long is answered, and is the last.
    fn next_request(&mut self) -> Option<String> {
        if !matches!(self.sending, Sending::Nothing) {
            return None;
        }
        match self.request.iter().position(|b| *b == b'\n') {
            Some(end) if end <= REQUEST => {
                let line: Vec<u8> = self.request.drain(..=end).collect();
                Some(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned())
            }
            _ if self.request.len() > REQUEST => {
                self.request.clear();
                self.last = true;
                // `answer` refuses it with EMSGSIZE's line.
                Some(request::TOO_LONG.to_owned())
            }
            _ => None,
        }
    }

    fn begin(&mut self, reply: Reply, stack: &Weak<Stack>, shared: &Arc<Shared>) {
        self.sending = match (reply, stack.upgrade()) {
            (Reply::Trace, Some(stack)) => {
                self.out.extend_from_slice(b"{\"trace\":true}\n");
                let shared = shared.clone();
                Sending::Trace(stack.mib.trace.listen(stack.clock.clone(), move || shared.wake.signal()))
            }
            (Reply::Lines(lines), _) => Sending::Lines(lines),
            // The stack has just ended.
            (Reply::Trace, None) => Sending::Nothing,
        };
    }

    /// Makes the next piece of what is being sent.
    fn fill(&mut self) {
        while self.out.len() < PIECE {
            let line = match &mut self.sending {
                Sending::Nothing => return,
                Sending::Lines(lines) => match lines.next() {
                    Some(line) => line,
                    None => {
                        self.sending = Sending::Nothing;
                        return;
                    }
                },
                Sending::Trace(listener) => match events::next(listener) {
                    Some(line) => line,
                    None => return,
                },
            };
            self.out.extend_from_slice(line.as_bytes());
            self.out.push(b'\n');
        }
    }

    /// Ends a trace.
    pub(super) fn leave(&mut self, stack: &Weak<Stack>) {
        if let (Sending::Trace(listener), Some(stack)) = (&self.sending, stack.upgrade()) {
            stack.mib.trace.leave(listener);
        }
        self.sending = Sending::Nothing;
    }
}

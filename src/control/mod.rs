//! The control socket: other processes inspect a running stack through it, and change what an administrator may. Above:
//! `config` (`control=FILE`), programs that call [`serve`]. Below: the lists that the stack's parts provide. Its
//! clients are the command's `ss`, `nstat`, `sysctl`, `pcap`, `kill`, `trace`, `plot` and `protocols`.
//!
//! It is a local stream socket of mode 0600 in a directory of mode 0700. Only the same user and root are served
//! (SO_PEERCRED). A thread of its own serves it, so that nothing waits for a client. In this thread signals are
//! blocked; it takes no lock that is held while a program sleeps, and it ends with the stack. The number of clients and
//! the memory of each are bounded, and a client that stalls is disconnected. A child of fork does not serve.
//!
//! # Protocol
//! The server speaks first: `{"usersock":1,"version":"0.1.0","pid":4711,"program":"nginx","uid":1000}`, where 1 is the
//! version of this protocol. A request is a line of words. The reply is lines of one JSON object each; the last one is
//! `{"end":true}` or `{"error":"ENOENT","message":"..."}`. A client may send its next request then, or hang up.
//!
//! | request | reply |
//! |---|---|
//! | `sockets` | one line for each socket, with `tcp_info`, `cong_info` (TCP_CC_INFO), `hooks` and a plug-in's `columns`, if it has them. `recv_q` and `send_q` include what a stack server's programs have not read, and what they wrote |
//! | `inodes` | for a stack server: the `inode` of the programs' descriptor, for each socket's `id` |
//! | `sockets ID` | only the socket with this `id`, if it still exists, with the stack's queues alone |
//! | `kill ID LOCAL PEER` | ends the socket with these values of `sockets` (`-` for no peer), as SOCK_DESTROY |
//! | `counters` | `counters` by nstat's names, `drops` by reason, `history`: the counters that `mark` has kept |
//! | `mark` | as `counters`, and keeps the counters |
//! | `sysctl` | a line for each setting; `sysctl NAME` only that one, `sysctl NAME=VALUE` sets it first |
//! | `pcap start DEVICE FILE` | captures a device (`-`: the last one) to a file that this process makes |
//! | `pcap stop DEVICE` | ends the capture; the file is complete |
//! | `accounts` | what protocols hold: sockets, pages, orphans |
//! | `protocols` | a line for each protocol; with `module` and `build_id`, if it comes from a shared object; `alternatives` to TCP |
//! | `trace` | events, a line each, until the client hangs up |
//!
//! | file | what |
//! |---|---|
//! | `file` | the socket's file |
//! | `client` | one connection: its request, its reply in pieces |
//! | `request` | what is asked, and what is done |
//! | `sockets` | the list of sockets |
//! | `events` | the lines of a trace |
//! | `json` | a writer of JSON |

mod client;
mod events;
mod file;
mod json;
mod request;
mod sockets;
#[cfg(test)]
mod tests;

use crate::base::error::Error;
use crate::stack::Stack;
use crate::sys::fd::{EventFd, Fd};
use crate::sys::lock::Mutex;
use crate::sys::poll::{PollFd, poll};
use crate::sys::{thread, unix};
use client::{Client, Fate};
use file::SocketFile;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Version of the protocol.
const PROTOCOL: u32 = 1;
/// Clients that are served at a time; others wait in the kernel's queue.
const CLIENTS: usize = 16;
/// Stack of the serving thread, bytes.
const STACK_SIZE: usize = 256 * 1024;

/// Why a control socket was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeError {
    /// One line, which names the file.
    pub message: String,
    /// The errno: EACCES, EADDRINUSE, ENAMETOOLONG, EBUSY, or what making the socket said.
    pub error: Error,
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for ServeError {}

/// The descriptors of this process that name sockets: [`SockDiag::id`](crate::sock::diag::SockDiag::id) and number.
pub type Descriptors = fn() -> Vec<(u64, RawFd)>;

static DESCRIPTORS: OnceLock<Descriptors> = OnceLock::new();

/// Sets how the descriptors that name sockets are found. The C ABI calls it. Only the first call counts.
pub fn set_descriptors(list: Descriptors) {
    DESCRIPTORS.get_or_init(|| list);
}

/// What programs in other processes have of one of this process's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The socket ([`SockDiag::id`](crate::sock::diag::SockDiag::id)).
    pub id: u64,
    /// The inode of the kernel's socket that programs have of it, if they have one.
    pub inode: Option<u32>,
    /// Bytes that have left the stack for the program, which has not read them; of a listener, such connections.
    pub recv_q: u64,
    /// Bytes that the program has written and the stack has not taken.
    pub send_q: u64,
}

/// Finds them.
pub type HeldList = Box<dyn Fn() -> Vec<Held> + Send + Sync>;

static HELD: OnceLock<HeldList> = OnceLock::new();

/// Sets how they are found: the sockets are then those of other processes, not this one's. A stack server calls it.
/// Only the first call counts.
pub fn set_held(list: HeldList) {
    HELD.get_or_init(|| list);
}

/// What the serving thread and the stack share.
struct Shared {
    wake: EventFd,
    stop: AtomicBool,
    /// The user who may connect, besides root.
    owner: u32,
    /// The counters as `mark` has kept them.
    mark: Mutex<BTreeMap<String, u64>>,
}

/// Belongs to the stack: when it is dropped the thread ends and the file is gone.
struct Server {
    shared: Arc<Shared>,
    _file: SocketFile,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake.signal();
    }
}

/// Whether `serve` would take this name, as far as its directory decides: makes nothing.
pub(crate) fn check(path: &Path) -> Result<(), ServeError> {
    file::check(path)
}

/// Serves a stack that runs in real time under a file name, until it ends. The directory is made, with mode 0700, if it
/// does not exist; the socket of a process that has ended is replaced. Errors: see [`ServeError`]; EBUSY: the stack is
/// served already.
pub fn serve(stack: &Arc<Stack>, path: &Path) -> Result<(), ServeError> {
    let fail = |what: &str, error| ServeError { message: format!("{}: {what}", path.display()), error };
    let os = |e: std::io::Error| Error::from_errno(e.raw_os_error().unwrap_or(libc::EIO));
    if stack.control().get().is_some() {
        return Err(fail("the stack has a control socket already", Error::Busy));
    }
    let (listener, file) = file::listen(path)?;
    let wake = EventFd::new().map_err(|e| fail("no eventfd", os(e)))?;
    let (stop, mark) = (AtomicBool::new(false), Mutex::default());
    let shared = Arc::new(Shared { wake, stop, owner: unix::euid(), mark });
    let server = Server { shared: shared.clone(), _file: file };
    if stack.control().set(Box::new(server)).is_err() {
        return Err(fail("the stack has a control socket already", Error::Busy));
    }
    let weak = Arc::downgrade(stack);
    let builder = std::thread::Builder::new().name("usersock-ctl".to_owned()).stack_size(STACK_SIZE);
    thread::spawn(builder, move || run(&shared, &listener, &weak)).map_err(|e| fail("no thread", os(e)))
}

/// The thread.
fn run(shared: &Arc<Shared>, listener: &Fd, stack: &Weak<Stack>) {
    let mut clients: Vec<Client> = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        let mut fds = vec![PollFd::new(shared.wake.raw(), libc::POLLIN)];
        fds.push(PollFd::new(if clients.len() < CLIENTS { listener.raw() } else { -1 }, libc::POLLIN));
        fds.extend(clients.iter().map(|c| PollFd::new(c.raw(), c.events())));
        let now = Instant::now();
        let timeout = clients.iter().filter_map(Client::deadline).min().map(|at| at.saturating_duration_since(now));
        if poll(&mut fds, timeout).is_err() {
            // Signals are blocked: this is a lack of memory, which passes.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        }
        shared.wake.drain();
        let now = Instant::now();
        let mut ready = fds[2..].iter().map(PollFd::revents);
        clients.retain_mut(|c| c.turn(shared, stack, ready.next().unwrap_or(0), now) == Fate::Stays);
        if fds[1].revents() != 0 {
            accept(shared, listener, &mut clients, now);
        }
    }
    // Listeners of a trace are in a list of the stack's.
    clients.iter_mut().for_each(|c| c.leave(stack));
}

/// Takes the connections that wait and may be served.
fn accept(shared: &Shared, listener: &Fd, clients: &mut Vec<Client>, now: Instant) {
    while clients.len() < CLIENTS {
        match unix::accept(listener) {
            Ok(fd) if unix::peer_uid(&fd).is_ok_and(|uid| uid == shared.owner || uid == 0) => {
                clients.push(Client::new(fd, now));
            }
            // Another user, who got past the modes of directory and file.
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
            Err(_) => {
                // The process is out of descriptors: the connection waits, and so must this thread.
                std::thread::sleep(Duration::from_millis(10));
                return;
            }
        }
    }
}

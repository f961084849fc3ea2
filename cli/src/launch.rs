//! Starting a program in an instance, for `usersock run` and `usersock shell`: three processes. The launcher is the one
//! that the user called: it passes signals on and ends with the program's status. The keeper makes the namespaces, is
//! the parent of the program and of those it leaves behind (PR_SET_CHILD_SUBREAPER), and removes the instance when the
//! last has ended. The third executes the program.
//!
//! | file | what |
//! |---|---|
//! | `elf` | which file a program is, and whether the preload library reaches it |
//! | `instance` | the directory of running instances |
//! | `join` | entering an instance's namespaces |
//! | `keeper` | the second process, and how it becomes the third |
//! | `namespace` | user, network and mount namespaces, the device in them |
//! | `netlink` | rtnetlink messages |
//! | `outside` | the way out of the namespace, by pasta |
//! | `server` | the stack server |
//! | `strict` | the seccomp filter |
//!
//! When the launcher is killed the keeper kills the program: for whoever killed it they are one. When the keeper is
//! killed the kernel does that, and the launcher, whose children they are then, kills those whom the program forked.

pub(crate) mod elf;
pub(crate) mod instance;
pub(crate) mod join;
mod keeper;
pub(crate) mod namespace;
mod netlink;
pub(crate) mod outside;
mod server;
mod strict;

use crate::{Failure, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Why a program was not started: one line, with cause and remedy, and the exit status.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u8,
    pub(crate) message: String,
}

impl Refusal {
    /// The arguments are wrong.
    pub(crate) fn usage(message: String) -> Refusal {
        Refusal { status: 2, message }
    }

    /// What the instance needs cannot be had: the status of env(1) for a failure of its own.
    pub(crate) fn broken(message: String) -> Refusal {
        Refusal { status: 125, message }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Status(refusal.status, refusal.message)
    }
}

/// What to start, and where.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) place: Place,
    pub(crate) instance: instance::Instance,
    /// As `usersock ps` prints it.
    pub(crate) mode: &'static str,
    /// The file, and how it was called.
    pub(crate) program: PathBuf,
    pub(crate) argv: Vec<OsString>,
    /// LD_PRELOAD, for a program on the stack.
    pub(crate) preload: Option<OsString>,
    /// More variables of the environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// What follows device and addresses in the stack's configuration: a comma in front of each key.
    pub(crate) options: String,
    pub(crate) strict: bool,
    /// The stack is in a server, not in the program.
    pub(crate) server: bool,
    /// Connect the namespace to the host's network by this program.
    pub(crate) outside: Option<PathBuf>,
}

/// Where the program runs.
#[derive(Debug)]
pub(crate) enum Place {
    /// In namespaces of its own.
    New(namespace::Plan),
    /// In those of this process, which are an instance's already; its configuration.
    Here(String),
}

/// What the keeper tells the launcher, in a message each.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// The program's process exists, in this network namespace: signals of the terminal reach it.
    Started(String),
    /// It could not be started.
    Refused(u8, String),
    /// It has ended, with this status; whether it was the last of the instance.
    Ended(u8, bool),
}

impl Report {
    fn send(&self, to: &impl AsFd) {
        let bytes = match self {
            Report::Started(network) => [b"S", network.as_bytes()].concat(),
            Report::Refused(status, message) => [&[b'E', *status], message.as_bytes()].concat(),
            Report::Ended(status, last) => vec![b'D', *status, u8::from(*last)],
        };
        // That the launcher was killed is seen elsewhere.
        let _ = nix::unistd::write(to, &bytes);
    }

    /// None: the keeper has ended.
    fn receive(from: &impl AsFd) -> Option<Report> {
        let mut bytes = vec![0; 4096];
        let n = nix::unistd::read(from, &mut bytes).unwrap_or(0);
        match *bytes.get(..n)? {
            [b'S', ref text @ ..] => Some(Report::Started(String::from_utf8_lossy(text).into_owned())),
            [b'E', status, ref text @ ..] => Some(Report::Refused(status, String::from_utf8_lossy(text).into_owned())),
            [b'D', status, last] => Some(Report::Ended(status, last != 0)),
            _ => None,
        }
    }
}

/// The signals that are passed on: all that can be caught, but those of job control, whose default actions are right
/// for the launcher too, those of the launcher's own children, and those that report its own faults.
fn passed_on() -> SigSet {
    let mut signals = SigSet::all();
    for own in [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ] {
        signals.remove(own);
    }
    signals
}

/// Runs the program to its end. Its exit status, 128 and the signal's number if one ended it.
pub(crate) fn launch(job: Job) -> Result<u8, Refusal> {
    let signals = passed_on();
    let refuse = |job: Job, what: &str, e: io::Error| {
        job.instance.remove();
        Err(Refusal::broken(format!("{what}: {e}")))
    };
    let (here, there) = match socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC) {
        Ok(sockets) => sockets,
        Err(e) => return refuse(job, "socketpair", e.into()),
    };
    if let Err(e) = prctl::set_child_subreaper(true) {
        return refuse(job, "PR_SET_CHILD_SUBREAPER", e.into());
    }
    // Of what this process was before it executed the command.
    let others = keeper::children();
    let mask = match signals.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
        Ok(mask) => mask,
        Err(e) => return refuse(job, "sigprocmask", e.into()),
    };
    match sys::fork() {
        Ok(sys::Side::Child) => {
            drop(here);
            keeper::run(job, &mask, there)
        }
        Ok(sys::Side::Parent(keeper)) => {
            drop(there);
            // Dropping it would unlock it for the keeper as well.
            std::mem::forget(job.instance);
            attend(keeper, &here, &signals, others)
        }
        Err(e) => {
            let _ = mask.thread_set_mask();
            refuse(job, "fork", e)
        }
    }
}

/// Kills the children of a keeper that was killed, and theirs, which are this process's children when their parent has
/// ended. Not `others`, nor what those leave behind: it is in no network namespace of the instance's.
fn kill_orphans(network: &str, others: Vec<i32>) {
    let mut passed = others;
    while let Some(pid) = keeper::children().into_iter().find(|pid| !passed.contains(pid)) {
        let orphan = Pid::from_raw(pid);
        let ends = match instance::network_namespace_of(pid) {
            Ok(theirs) => theirs == network && sys::kill(orphan, libc::SIGKILL).is_ok(),
            // It is about to end, and its children will be this process's then.
            Err(e) => e.kind() == io::ErrorKind::NotFound,
        };
        if ends {
            // Whatever this says: who is left is found again.
            let _ = waitpid(orphan, None);
        } else {
            passed.push(pid);
        }
    }
}

/// The launcher's life from here on. `others`: children that are none of the instance's.
fn attend(keeper: Pid, socket: &OwnedFd, signals: &SigSet, others: Vec<i32>) -> Result<u8, Refusal> {
    let caught = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let caught = caught.map_err(|e| Refusal::broken(format!("signalfd: {e}")))?;
    let (mut network, mut refused) = (None, None);
    loop {
        let mut fds = [PollFd::new(caught.as_fd(), PollFlags::POLLIN), PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        // EINTR: a signal that stopped and continued this process.
        let _ = poll(&mut fds, PollTimeout::NONE);
        while let Ok(Some(signal)) = caught.read_signal() {
            // What the terminal sends, it sends to the program as well: they are of one process group.
            if network.is_none() || signal.ssi_code != libc::SI_KERNEL {
                let _ = nix::unistd::write(socket, &[signal.ssi_signo as u8]);
            }
        }
        if !fds[1].any().unwrap_or(false) {
            continue;
        }
        match Report::receive(socket) {
            Some(Report::Started(theirs)) => network = Some(theirs),
            Some(Report::Refused(status, message)) => refused = Some(Refusal { status, message }),
            Some(Report::Ended(status, last)) => {
                if last {
                    let _ = waitpid(keeper, None);
                }
                return refused.map_or(Ok(status), Err);
            }
            None => {
                let _ = waitpid(keeper, None);
                // Before it has started the program all its children end with it.
                kill_orphans(&network.unwrap_or_default(), others);
                let killed = || Refusal::broken(format!("process {keeper}, which kept the instance, was killed"));
                return Err(refused.unwrap_or_else(killed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_as_they_were_sent() {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let started = Report::Started("net:[4026531840]".to_owned());
        let all = [started, Report::Refused(126, "no ELF file".to_owned()), Report::Ended(137, false)];
        all.iter().for_each(|report| report.send(&a));
        drop(a);
        for report in all {
            assert_eq!(Report::receive(&b), Some(report));
        }
        assert_eq!(Report::receive(&b), None);
    }

    #[test]
    fn job_control_and_faults_are_not_passed_on() {
        let signals = passed_on();
        for (signal, passed) in [
            (Signal::SIGTERM, true),
            (Signal::SIGHUP, true),
            (Signal::SIGUSR2, true),
            (Signal::SIGWINCH, true),
            (Signal::SIGTSTP, false),
            (Signal::SIGCHLD, false),
            (Signal::SIGSEGV, false),
        ] {
            assert_eq!(signals.contains(signal), passed, "{signal}");
        }
    }
}

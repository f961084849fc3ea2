//! The keeper of an instance: it makes the namespaces, starts the program, and lives until no process of the instance
//! is left. It holds the instance's lock, nothing that the caller's descriptors lead to, and blocks all signals.
//! Above: `launch`. Below: `namespace`, `strict`, `sys`. Linux: PR_SET_CHILD_SUBREAPER(2const), proc_pid_children(5).

use super::instance::{Info, Instance};
use super::namespace::{self, Made};
use super::outside::Outside;
use super::server::Server;
use super::{Job, Place, Refusal, Report, strict};
use crate::sys::{self, Side};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getpid, getppid, setpgid};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, exit};

/// How often, in milliseconds, new processes are looked for while all are being killed.
const KILL_AGAIN: u16 = 50;

/// What the launcher forked this process for. `mask`: the caller's signal mask, which the program gets back.
pub(super) fn run(job: Job, mask: &SigSet, launcher: OwnedFd) -> ! {
    match Keeper::start(&job, mask) {
        Ok(keeper) => keeper.keep(job.instance, launcher),
        Err(refusal) => {
            kill_children();
            job.instance.remove();
            Report::Refused(refusal.status, refusal.message).send(&launcher);
            exit(0)
        }
    }
}

fn system(what: &'static str) -> impl Fn(nix::Error) -> Refusal {
    move |e| Refusal::broken(format!("{what}: {e}"))
}

/// A program that waits for the word to begin.
struct Keeper {
    /// Ends of children.
    ended: SignalFd,
    program: Pid,
    /// Writing to it lets the program begin.
    go: OwnedFd,
    info: Info,
    /// The program's, once it has ended.
    status: Option<u8>,
    /// The process that joins the namespace to the host's network; it is none of the instance's.
    outside: Option<Pid>,
    /// The process that has the stack; the same.
    server: Option<Server>,
}

impl Keeper {
    fn start(job: &Job, mask: &SigSet) -> Result<Keeper, Refusal> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block().map_err(system("sigprocmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let ended = SignalFd::with_flags(&children, flags).map_err(system("signalfd"))?;
        prctl::set_child_subreaper(true).map_err(system("PR_SET_CHILD_SUBREAPER"))?;
        let outside = job.outside.as_ref().map(|pasta| Outside::prepare(pasta, &job.instance)).transpose()?;
        let made = match &job.place {
            Place::New(plan) => namespace::make(plan)?,
            Place::Here(config) => Made { config: config.clone(), user: false, packet: false },
        };
        let outside = match outside {
            Some(outside) => outside.join(&job.instance).map(|()| Some(outside.pid))?,
            None => None,
        };
        let control = job.instance.dir.join("control");
        let control = if job.mode == "shell" { String::new() } else { format!(",control={}", control.display()) };
        let config = format!("{}{}{control}", made.config, job.options);
        let server = job.server.then(|| Server::start(&config)).transpose()?;
        let info = Info {
            keeper: getpid().as_raw(),
            network: super::instance::network_namespace().unwrap_or_default(),
            pid: 0,
            mode: job.mode.to_owned(),
            config: made.config.clone(),
            program: job.argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "),
        };
        let (wait, go) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("pipe"))?;
        match sys::fork().map_err(|e| Refusal::broken(format!("fork: {e}")))? {
            Side::Child => {
                drop(go);
                let refusal = become_program(job, mask, &made, &config, server.as_ref(), &wait);
                // The launcher's socket is not this function's: the status tells, and standard error.
                crate::out::say(format_args!("usersock: {}", refusal.message));
                exit(refusal.status.into())
            }
            Side::Parent(program) => Ok(Keeper { ended, program, go, info, status: None, outside, server }),
        }
    }

    fn keep(mut self, instance: Instance, launcher: OwnedFd) -> ! {
        // The terminal's signals are for the program's process group, which this was of until now.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        Report::Started(self.info.network.clone()).send(&launcher);
        self.info.pid = self.program.as_raw();
        let published = instance.publish(&self.info);
        self.let_go_of_the_caller(&instance, &launcher);
        if let Err(e) = published {
            let why = format!("{}: {e}", instance.dir.join("info").display());
            Report::Refused(Refusal::broken(String::new()).status, why).send(&launcher);
            self.kill_all();
        } else {
            let _ = nix::unistd::write(&self.go, b"g");
        }
        let mut launcher = Some(launcher);
        let mut killing = false;
        loop {
            let (status, left) = self.reap();
            if let (Some(status), Some(socket)) = (status, &launcher)
                && left
            {
                Report::Ended(status, false).send(socket);
                launcher = None;
                self.info.pid = self.left_behind().unwrap_or(self.info.keeper);
                let _ = instance.publish(&self.info);
            } else if !left {
                self.end_helpers();
                instance.remove();
                if let Some(socket) = &launcher {
                    Report::Ended(status.unwrap_or(0), true).send(socket);
                }
                exit(0)
            }
            killing |= !self.wait(launcher.as_ref(), killing);
            if killing {
                self.kill_all();
            }
        }
    }

    /// Waits until a child has ended or the launcher has something to say, and obeys the latter. False: the launcher is
    /// no more, and the program's status nobody's.
    fn wait(&self, launcher: Option<&OwnedFd>, killing: bool) -> bool {
        let mut fds = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        fds.extend(launcher.filter(|_| !killing).map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeout = if killing { PollTimeout::from(KILL_AGAIN) } else { PollTimeout::NONE };
        let _ = poll(&mut fds, timeout);
        while let Ok(Some(_)) = self.ended.read_signal() {}
        let (Some(socket), true) = (launcher, fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false))) else {
            return true;
        };
        let mut signal = [0];
        match nix::unistd::read(socket, &mut signal) {
            Ok(1) => {
                let _ = sys::kill(self.program, signal[0].into());
                true
            }
            Err(nix::Error::EINTR | nix::Error::EAGAIN) => true,
            _ => false,
        }
    }

    /// Takes the statuses of children that have ended. The program's, if it was among them or before them, and whether
    /// any process is left.
    fn reap(&mut self) -> (Option<u8>, bool) {
        loop {
            match sys::reap() {
                Ok(Some((pid, raw))) if pid == self.program => {
                    let status = ExitStatus::from_raw(raw);
                    let signal = || 128 + status.signal().unwrap_or(0);
                    self.status = Some(status.code().unwrap_or_else(signal) as u8);
                }
                Ok(Some((pid, _))) if Some(pid) == self.outside => self.outside = None,
                Ok(Some((pid, _))) if self.server.as_ref().is_some_and(|s| s.pid == pid) => {
                    // Errors: the kernel has no unix_diag, and nobody can be told.
                    let _ = self.server.take().map(|server| server.wake_listeners());
                }
                Ok(Some(_)) => {}
                Ok(None) => return (self.status, self.left_behind().is_some()),
                Err(_) => return (self.status, false),
            }
        }
    }

    /// This process's children that are none of the instance's.
    fn helpers(&self) -> impl Iterator<Item = i32> {
        self.outside.into_iter().chain(self.server.as_ref().map(|server| server.pid)).map(Pid::as_raw)
    }

    /// A process of the instance.
    fn left_behind(&self) -> Option<i32> {
        children().into_iter().find(|pid| self.helpers().all(|helper| helper != *pid))
    }

    /// Kills every process of the instance that is this one's child; their children are it next.
    fn kill_all(&self) {
        if kill_children() == 0 && self.status.is_none() {
            let _ = sys::kill(self.program, libc::SIGKILL);
        }
    }

    fn end_helpers(&mut self) {
        if let Some(server) = self.server.take() {
            server.end();
        }
        if let Some(pid) = self.outside.take() {
            let _ = sys::kill(pid, libc::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }

    /// Closes what the caller may wait for the end of: pipes, files. Of a terminal nothing is wanted either.
    fn let_go_of_the_caller(&self, instance: &Instance, launcher: &OwnedFd) {
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = nix::unistd::dup2_stdin(&null);
            let _ = nix::unistd::dup2_stdout(&null);
            let _ = nix::unistd::dup2_stderr(&null);
        }
        let mut kept = [instance.raw_lock(), launcher.as_raw_fd(), self.ended.as_fd().as_raw_fd(), self.go.as_raw_fd()];
        kept.sort_unstable();
        let mut first = 3;
        for fd in kept {
            sys::close_inherited(first, fd - 1);
            first = fd + 1;
        }
        sys::close_inherited(first, RawFd::MAX);
        let _ = std::env::set_current_dir("/");
    }
}

/// The children of this process, which has one thread.
pub(super) fn children() -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/self/task/{}/children", getpid())).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Kills them, and says how many there were.
fn kill_children() -> usize {
    let all = children();
    for pid in &all {
        let _ = sys::kill(Pid::from_raw(*pid), libc::SIGKILL);
    }
    all.len()
}

/// Executes the program, when the keeper says so. Returns only why it could not.
fn become_program(
    job: &Job,
    mask: &SigSet,
    made: &Made,
    config: &str,
    server: Option<&Server>,
    wait: &OwnedFd,
) -> Refusal {
    // Whoever kills the keeper ends the program, whose namespace nobody would keep.
    let keeper = getppid();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    let mut word = [0];
    if getppid() != keeper || !matches!(nix::unistd::read(wait, &mut word), Ok(1)) {
        exit(125);
    }
    let capabilities: &[u32] = match (made.user, job.mode) {
        (false, _) => &[],
        // For tcpdump, ip and small ports, in the shell's own network namespace.
        (true, "shell") => &[sys::CAP_NET_BIND_SERVICE, sys::CAP_NET_ADMIN, sys::CAP_NET_RAW],
        (true, _) if made.packet && !job.server => &[sys::CAP_NET_RAW],
        (true, _) => &[],
    };
    if let Err(e) = sys::keep_capabilities(capabilities) {
        return Refusal::broken(format!("CAP_NET_RAW cannot be kept for the program: {e}"));
    }
    let mut command = Command::new(&job.program);
    let [name, args @ ..] = job.argv.as_slice() else { exit(125) };
    command.arg0(name).args(args);
    match server {
        Some(server) => {
            let (name, value) = server.variable();
            command.env(name, value).env_remove("USERSOCK_CONFIG")
        }
        None => command.env("USERSOCK_CONFIG", config),
    };
    command.env("USERSOCK_INSTANCE", &job.instance.name);
    command.env("USERSOCK_DIR", job.instance.base()).env_remove("USERSOCK_OWNER");
    command.envs(job.preload.iter().map(|value| ("LD_PRELOAD", value)));
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    if job.strict
        && let Err(e) = strict::enter()
    {
        return Refusal::broken(format!("--strict: the kernel takes no seccomp filter: {e}"));
    }
    let _ = mask.thread_set_mask();
    sys::with_the_callers_signals(&mut command);
    let e = command.exec();
    let status = if e.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Refusal { status, message: format!("{}: {e}", job.program.display()) }
}

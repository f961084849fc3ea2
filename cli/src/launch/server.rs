//! The stack server of an instance: a child of the keeper, in the namespaces that it has made. Above: `keeper`. Below:
//! `serve`, `usersock_spliced::diag`.

use super::Refusal;
use crate::serve;
use crate::sys::{self, Side};
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid, setpgid};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::exit;
use usersock::error::Error;
use usersock_spliced::diag;
use usersock_spliced::instance::{Instance, VARIABLE};
use usersock_spliced::name::Name;
use usersock_spliced::sys::{connect, socket};

/// A server that runs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) pid: Pid,
    instance: Instance,
}

impl Server {
    /// Starts one with this configuration, and waits until it serves.
    pub(super) fn start(config: &str) -> Result<Server, Refusal> {
        let system = |what: &'static str| move |e: std::io::Error| Refusal::broken(format!("{what}: {e}"));
        let instance = usersock_spliced::sys::random().map(Instance::new);
        let instance = instance.map_err(|e| Refusal::broken(format!("random numbers: {e}")))?;
        let (answers, answer) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Refusal::broken(format!("pipe: {e}")))?;
        let keeper = Pid::this();
        match sys::fork().map_err(system("fork"))? {
            Side::Child => serve_here(config, instance, answer, keeper),
            Side::Parent(pid) => {
                drop(answer);
                let mut said = Vec::new();
                let _ = std::io::Read::read_to_end(&mut File::from(answers), &mut said);
                match said.split_first() {
                    Some((b'R', [])) => Ok(Server { pid, instance }),
                    Some((status, message)) => {
                        let message = String::from_utf8_lossy(message).into_owned();
                        Err(Refusal { status: *status, message })
                    }
                    None => Err(Refusal::broken("the stack server ended before it served".to_owned())),
                }
            }
        }
    }

    /// What its programs have in their environment.
    pub(super) fn variable(&self) -> (&'static str, String) {
        (VARIABLE, self.instance.to_string())
    }

    /// Wakes the programs that wait for a connection, when it has ended: each of their listeners gets a connection that
    /// is none of a server's, and the accept that takes it tells all the others.
    pub(super) fn wake_listeners(&self) -> Result<(), Error> {
        for listener in diag::sockets(true)? {
            if let Some(name @ Name::Socket { .. }) = Name::decode(&listener.name, &self.instance) {
                // EAGAIN: its queue is full, and nobody waits: who takes what is there finds that the server has ended.
                let _ = socket(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
                    .and_then(|fd| connect(fd.raw(), &name.encode(&self.instance)));
            }
        }
        Ok(())
    }

    /// Ends it. Connections that programs have closed get a little time for their last bytes.
    pub(super) fn end(self) {
        let _ = sys::kill(self.pid, libc::SIGTERM);
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// The server's process.
fn serve_here(config: &str, instance: Instance, answer: OwnedFd, keeper: Pid) -> ! {
    // The terminal's signals are for the program.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // Without a keeper the programs end, too.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if getppid() != keeper {
        exit(0);
    }
    let _ = prctl::set_name(c"usersock-server");
    // Of what the launcher and the keeper have open nothing may stay open by this process.
    sys::close_inherited(3, answer.as_raw_fd() - 1);
    sys::close_inherited(answer.as_raw_fd() + 1, RawFd::MAX);
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let _ = std::env::set_current_dir("/");
    let mut answer = Some(answer);
    let ready = |answer: &mut Option<OwnedFd>| {
        let _ = answer.take().map(|fd| nix::unistd::write(&fd, b"R"));
        Ok(())
    };
    let served = serve::serve(config, instance, || ready(&mut answer));
    if let (Err(failure), Some(answer)) = (served, answer) {
        let (status, message) = failure.parts();
        let _ = nix::unistd::write(&answer, &[&[if status == 2 { 2 } else { 125 }], message.as_bytes()].concat());
    }
    exit(0)
}

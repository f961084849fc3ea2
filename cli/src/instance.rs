//! Running stacks: finds the control socket of one and asks it. Above: `ss`, `nstat`, `sysctl`, `pcap`, `kill`,
//! `trace`, `plot`, `protocols`. Below: the protocol of `usersock::control`.

use crate::Failure;
use crate::launch::instance::existing;
use serde_json::Value;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// Version of the protocol that this command speaks.
const PROTOCOL: u64 = 1;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which running stack.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Which {
    /// The instance, as `usersock ps` names it, or with a slash the file of a control socket; not needed while there is
    /// one instance
    #[arg(short = 'N', long = "instance", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// The sockets of instances that answer, by name. A directory that others could change is not looked into.
fn running() -> Result<Vec<(String, PathBuf)>, Failure> {
    let dir = existing().map_err(|refusal| Failure::Broken(refusal.message))?;
    let entries = dir.and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let named = entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path().join("control"))));
    let mut found: Vec<_> = named.filter(|(_, path)| UnixStream::connect(path).is_ok()).collect();
    found.sort();
    Ok(found)
}

impl Which {
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(name) = &self.name {
            if name.contains('/') {
                return Ok(PathBuf::from(name));
            }
            let known = running()?;
            return match known.iter().find(|(n, _)| n == name) {
                Some((_, path)) => Ok(path.clone()),
                None => Err(Failure::Usage(format!("-N {name}: no such instance runs; {}", list(&known)))),
            };
        }
        let mut known = running()?;
        match known.len() {
            1 => Ok(known.remove(0).1),
            0 => Err(Failure::Broken(
                "no instance runs: `usersock run` starts one; -N FILE names the socket that control= made".to_owned(),
            )),
            _ => Err(Failure::Usage(format!("which instance? {}: choose by -N NAME", list(&known)))),
        }
    }

    /// Connects to its control socket.
    pub(crate) fn open(&self) -> Result<Peer, Failure> {
        let path = self.path()?;
        let what = path.display().to_string();
        if fs::metadata(&path).is_ok_and(|meta| !meta.file_type().is_socket()) {
            return Err(Failure::Usage(format!("{what}: is no socket")));
        }
        let stream = UnixStream::connect(&path).map_err(|e| match e.kind() {
            ErrorKind::ConnectionRefused => Failure::Broken(format!("{what}: its stack has ended")),
            ErrorKind::NotFound => Failure::Usage(format!("{what}: there is no such socket")),
            // Longer than sockaddr_un has room for.
            ErrorKind::InvalidInput => Failure::Usage(format!("{what}: {e}")),
            _ => Failure::Broken(format!("{what}: {e}")),
        })?;
        Peer::greet(stream, what)
    }
}

fn list(known: &[(String, PathBuf)]) -> String {
    match known {
        [] => "there is none".to_owned(),
        _ => format!("there is {}", known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")),
    }
}

/// A connection to a running stack.
pub(crate) struct Peer {
    stream: BufReader<UnixStream>,
    /// Its socket, for messages.
    what: String,
    /// The process it is in.
    pub(crate) program: String,
    pub(crate) pid: u64,
}

impl Peer {
    fn greet(stream: UnixStream, what: String) -> Result<Peer, Failure> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| Failure::Broken(format!("{what}: {e}")))?;
        let mut peer = Peer { stream: BufReader::new(stream), what, program: String::new(), pid: 0 };
        let greeting = peer
            .line()?
            .ok_or_else(|| Failure::Broken(format!("{}: it hangs up: is it another user's?", peer.what)))?;
        let greeting = peer.parse(&greeting)?;
        match greeting["usersock"].as_u64() {
            Some(PROTOCOL) => {}
            Some(other) => {
                let theirs = greeting["version"].as_str().unwrap_or_default();
                return Err(Failure::Broken(format!(
                    "{}: speaks version {other} of the protocol (usersock {theirs}), this command {PROTOCOL}",
                    peer.what
                )));
            }
            None => return Err(Failure::Broken(format!("{}: not a control socket of usersock", peer.what))),
        }
        peer.program = greeting["program"].as_str().unwrap_or_default().to_owned();
        peer.pid = greeting["pid"].as_u64().unwrap_or_default();
        Ok(peer)
    }

    fn broken(&self, e: &io::Error) -> Failure {
        let why = match e.kind() {
            ErrorKind::WouldBlock => format!("no answer within {} s", PATIENCE.as_secs()),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "its stack has ended".to_owned(),
            _ => e.to_string(),
        };
        Failure::Broken(format!("{}: {why}", self.what))
    }

    fn parse(&self, line: &str) -> Result<Value, Failure> {
        serde_json::from_str(line).map_err(|e| Failure::Broken(format!("{}: an answer is not JSON: {e}", self.what)))
    }

    /// The next line; None: the stack has ended.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line.trim_end().to_owned())),
            Err(e) => Err(self.broken(&e)),
        }
    }

    fn send(&mut self, request: &str) -> Result<(), Failure> {
        if request.contains('\n') {
            return Err(Failure::Usage("an argument has a line break".to_owned()));
        }
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).map_err(|e| self.broken(&e))
    }

    /// The lines of an answer, but for the one that ends it. What the stack refuses is the arguments' fault.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Vec<(String, Value)>, Failure> {
        self.send(request)?;
        let mut lines = Vec::new();
        loop {
            let line = self.line()?.ok_or_else(|| Failure::Broken(format!("{}: its stack has ended", self.what)))?;
            let value = self.parse(&line)?;
            if value["end"] == true {
                return Ok(lines);
            }
            if let Some(name) = value["error"].as_str() {
                let message = value["message"].as_str().unwrap_or(name).to_owned();
                return Err(match name {
                    "EINVAL" | "ENOENT" | "ENODEV" | "EOPNOTSUPP" => Failure::Usage(message),
                    _ => Failure::Broken(message),
                });
            }
            lines.push((line, value));
        }
    }

    /// Asks for what goes on until one side hangs up, and passes each line on until `each` returns false.
    pub(crate) fn follow(
        &mut self,
        request: &str,
        mut each: impl FnMut(&str, &Value) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.send(request)?;
        let waits = self.stream.get_ref().set_read_timeout(None);
        waits.map_err(|e| self.broken(&e))?;
        while let Some(line) = self.line()? {
            let value = self.parse(&line)?;
            if !each(&line, &value)? {
                break;
            }
        }
        Ok(())
    }
}

/// A file name as the stack, which has another working directory, understands it.
pub(crate) fn absolute(file: &Path) -> Result<String, Failure> {
    let whole = std::path::absolute(file).map_err(|e| Failure::Usage(format!("{}: {e}", file.display())))?;
    whole.into_os_string().into_string().map_err(|_| Failure::Usage(format!("{}: not UTF-8", file.display())))
}

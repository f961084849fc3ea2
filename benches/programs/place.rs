//! Where a server runs: on the kernel's TCP in the namespace behind a veth pair, or on usersock by `usersock run`, on a
//! stack server or in its own process. Its client is on the kernel's TCP at the other end.

use crate::load::{Here, Load};
use crate::space::{self, Peer, VETH};
use std::cell::Cell;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The argument that makes this program wait until a server listens.
const WAIT: &str = "--wait-for";
/// The argument that makes it set the congestion control of the kernel where it runs.
const CUBIC: &str = "--use-cubic";
/// The stack's address, as `usersock run` has it.
const STACK: &str = "10.0.0.2";
/// How long a client may take, and a server until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whose TCP the server is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The kernel's.
    Kernel,
    /// usersock's, in a stack server.
    Server,
    /// usersock's, in the server's own process.
    InProcess,
}

impl Place {
    /// In the order of the columns.
    pub const ALL: [Place; 3] = [Place::Kernel, Place::Server, Place::InProcess];

    /// The heading of its column.
    pub fn name(self) -> &'static str {
        match self {
            Place::Kernel => "kernel, veth",
            Place::Server => "stack server",
            Place::InProcess => "in process",
        }
    }
}

/// Whether `usersock run` makes a TUN device.
pub fn has_tun() -> bool {
    File::options().read(true).write(true).open("/dev/net/tun").is_ok()
}

/// Builds the command with the preload library beside it, optimised as this program is; returns the command.
pub fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("");
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--release", "-p", "usersock-cli", "-p", "usersock-preload", "--target-dir"])
        .arg(&target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("building usersock failed".to_owned());
    }
    let command = target.join("release/usersock");
    match command.is_file() && command.with_file_name("libusersock_preload.so").is_file() {
        true => Ok(command),
        false => Err(format!("the build made no {} with its preload library", command.display())),
    }
}

/// Does what a client does before it begins, and ends, if this process was started for that: waits until an address is
/// listened on, or sets the congestion control of the kernel where it runs.
pub fn help_if_told() {
    let args: Vec<String> = std::env::args().collect();
    if matches!(&args[..], [_, word] if word == CUBIC) {
        match space::use_cubic() {
            Ok(()) => std::process::exit(0),
            Err(e) => {
                println!("{e}");
                std::process::exit(1);
            }
        }
    }
    let [_, word, address] = &args[..] else { return };
    if word != WAIT {
        return;
    }
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begin.elapsed() > PATIENCE {
            std::process::exit(1);
        }
        sleep(Duration::from_millis(20));
    }
    std::process::exit(0);
}

/// A server, which ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `usersock run` passes the signal on, and ends when the program has.
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let begin = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(3) {
            sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The namespaces, and a directory for all files.
pub struct Site {
    usersock: PathBuf,
    myself: PathBuf,
    dir: PathBuf,
    far: Peer,
    path: std::ffi::OsString,
    settings: Vec<String>,
    /// Servers that were started: each has an instance of its own, since that of the last may still be ending.
    started: Cell<u32>,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Site {
    /// Makes both. This process is in a namespace of its own already. `settings`: arguments of `usersock run`.
    pub fn new(usersock: PathBuf, settings: Vec<String>) -> Result<Site, String> {
        let dir = std::env::temp_dir().join(format!("usersock-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let myself = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        Ok(Site { usersock, myself, dir, far: Peer::new()?, path, settings, started: Cell::new(0) })
    }

    /// The name of the newest instance.
    fn instance(&self) -> String {
        format!("bench-{}", self.started.get())
    }

    /// `usersock` with these words, without the caller's settings.
    fn usersock(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.usersock);
        command.args(words).env("USERSOCK_DIR", self.dir.join("run"));
        for variable in
            ["USERSOCK_CONFIG", "USERSOCK_INSTANCE", "USERSOCK_OWNER", "USERSOCK_PRELOAD", "USERSOCK_SERVER"]
        {
            command.env_remove(variable);
        }
        command
    }

    /// A program on the client's side.
    fn client(&self, place: Place, words: &[String]) -> Command {
        let mut command = match place {
            Place::Kernel => Command::new("env"),
            Place::Server | Place::InProcess => self.usersock(&["exec", &self.instance(), "--"]),
        };
        command.args(words).env("PATH", &self.path).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Starts a server, its output in a file.
    fn serve(&self, place: Place, words: &[String]) -> Result<Running, String> {
        self.started.set(self.started.get() + 1);
        let name = self.instance();
        let mut command = match place {
            Place::Kernel => Command::new("env"),
            Place::Server => self.usersock(&["run", "--instance", &name]),
            Place::InProcess => self.usersock(&["run", "--in-process", "--instance", &name]),
        };
        if place != Place::Kernel {
            command.args(&self.settings).arg("--");
        }
        let said = File::create(self.dir.join("server.out")).map_err(|e| e.to_string())?;
        command.args(words).env("PATH", &self.path).current_dir(&self.dir).stdin(Stdio::null());
        command.stdout(said.try_clone().map_err(|e| e.to_string())?).stderr(said);
        let spawned = match place {
            Place::Kernel => self.far.run(move || command.spawn()),
            Place::Server | Place::InProcess => command.spawn(),
        };
        spawned.map(Running).map_err(|e| format!("{}: {e}", words[0]))
    }

    /// What a command prints, within the time it may take.
    fn output(&self, command: &mut Command) -> Result<String, String> {
        let file = self.dir.join("client.out");
        let out = File::create(&file).map_err(|e| e.to_string())?;
        let errors = out.try_clone().map_err(|e| e.to_string())?;
        let mut child = command.stdout(out).stderr(errors).spawn().map_err(|e| format!("client: {e}"))?;
        let begin = Instant::now();
        let status = loop {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) => break status,
                None if begin.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("the client did not end within {} s", PATIENCE.as_secs()));
                }
                None => sleep(Duration::from_millis(10)),
            }
        };
        let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
        match status.success() {
            true => Ok(text),
            false => Err(format!("the client ended with {status}: {}", last_line(&text))),
        }
    }

    /// The number of a load at a place.
    pub fn measure(&self, place: Place, load: &Load) -> Result<f64, String> {
        let address = if place == Place::Kernel { VETH.1 } else { STACK };
        let here = Here { address, dir: &self.dir, myself: &self.myself };
        let mut server = self.serve(place, &(load.server)(&here))?;
        let listening = [self.myself.display().to_string(), WAIT.to_owned(), format!("{address}:{}", load.port)];
        let begin = Instant::now();
        // There is no instance to wait in before `usersock run` has made it.
        while self.output(&mut self.client(place, &listening)).is_err() {
            let said = || last_line(&fs::read_to_string(self.dir.join("server.out")).unwrap_or_default());
            if server.0.try_wait().is_ok_and(|status| status.is_some()) || begin.elapsed() > PATIENCE {
                return Err(format!("the server does not listen: {}", said()));
            }
            sleep(Duration::from_millis(20));
        }
        if !space::has_machine_cc() {
            self.output(&mut self.client(place, &[self.myself.display().to_string(), CUBIC.to_owned()]))?;
        }
        let text = self.output(&mut self.client(place, &(load.client)(&here)))?;
        (load.number)(&text).ok_or_else(|| format!("the client printed no number: {}", last_line(&text)))
    }
}

fn last_line(text: &str) -> String {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
}

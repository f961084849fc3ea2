//! Plays a script with programs on either side of a connection, in namespaces of its own, and says what came of it.
//! Above: `climb`. Below: `../../ladder`. Linux: unshare(1).
//!
//! `$S` and `$C` are the addresses of the two sides, server and client; `$US` and `$UC`, in front of a program, put it
//! on that side. A side that is the kernel's is at 10.0.N.1, one on usersock at 10.0.N.2 behind a TUN device of its
//! own: 0 is the server's, 1 the client's, and the kernel of the namespace forwards between them.

use crate::harness::ours::build;
use crate::harness::preload::shim;
use crate::harness::{Sanitizer, cc_of, compile, out_dir};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Whose TCP the programs of a side have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The kernel's.
    Kernel,
    /// usersock's, in a stack server.
    Usersock,
    /// usersock's, in the program's own process.
    InProcess,
}

impl Side {
    fn letter(self) -> char {
        match self {
            Side::Kernel => 'K',
            Side::Usersock => 'U',
            Side::InProcess => 'P',
        }
    }
}

/// Who is on whose TCP: the server, then the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Form(pub(crate) Side, pub(crate) Side);

impl Form {
    /// What all others are compared with.
    pub(crate) const ORACLE: Form = Form(Side::Kernel, Side::Kernel);
    pub(crate) const ALL: [Form; 5] = [
        Form(Side::Usersock, Side::Kernel),
        Form(Side::Kernel, Side::Usersock),
        Form(Side::Usersock, Side::Usersock),
        Form(Side::InProcess, Side::Kernel),
        Form(Side::Kernel, Side::InProcess),
    ];

    /// A process that is the only one on its stack.
    pub(crate) fn in_process(self) -> bool {
        self.0 == Side::InProcess || self.1 == Side::InProcess
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.letter(), self.1.letter())
    }
}

/// What a script left behind when it ended well.
pub(crate) struct Played {
    /// A line for each thing that is to be equal whoever's TCP it was: its name, an exit status, a sum of bytes.
    pub(crate) results: String,
    pub(crate) time: Duration,
}

/// What the two sides and the link between them are.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) form: Form,
    /// Packets that the simulated link loses, in percent, on one of the two devices.
    pub(crate) loss: u32,
    /// Of the simulated link.
    pub(crate) seed: u64,
    /// The whole ladder: more bytes, longer loads.
    pub(crate) whole: bool,
}

/// How long a script may take. Machines that build beside it are slow.
const LIMIT: Duration = Duration::from_secs(420);

/// The programs that a script needs and that are not installed.
pub(crate) fn missing<'a>(needs: &[&'a str]) -> Vec<&'a str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &str| std::env::split_paths(&path).chain(system_dirs()).any(|dir| dir.join(program).is_file());
    needs.iter().copied().filter(|program| !there(program)).collect()
}

/// Where programs are that PATH may lack: the system's, and Debian's of PostgreSQL.
fn system_dirs() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let postgres = versions.map(|version| version.path().join("bin"));
    ["/usr/sbin", "/sbin"].map(PathBuf::from).into_iter().chain(postgres).collect()
}

/// The words that run a command in namespaces of its own, of networks, processes and mounts; or why there are none.
/// When the first process ends, or unshare(1) is killed, so do all others.
pub(crate) fn namespaces() -> Result<&'static [&'static str], &'static str> {
    const AS_ROOT: &[&str] = &["unshare", "-npf", "--kill-child", "--mount-proc"];
    const ROOTLESS: &[&str] = &["unshare", "-Urnpf", "--kill-child", "--mount-proc"];
    static FOUND: OnceLock<Result<&[&str], &str>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
            return Err("/dev/net/tun cannot be opened");
        }
        let works = |words: &&&[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(["ip", "link", "set", "lo", "up"]);
            command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        [AS_ROOT, ROOTLESS].iter().find(works).copied().ok_or("no network and process namespaces can be made")
    })
}

/// Whether a process in the namespaces can become another user: rootless ones map only one.
pub(crate) fn other_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let count = map.split_whitespace().nth(2).and_then(|n| n.parse::<u64>().ok());
    count.is_some_and(|n| n > 65534) && namespaces().is_ok_and(|words| !words.contains(&"-Urnpf"))
}

/// Whose server and shim: of this build, or of the folder that USERSOCK_LADDER_BIN names.
fn programs() -> &'static (PathBuf, PathBuf) {
    static FOUND: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("USERSOCK_LADDER_BIN").map(PathBuf::from) {
        Some(dir) => (dir.join("usersock"), dir.join("libusersock_preload.so")),
        None => (build("usersock-cli").join("usersock"), shim().to_path_buf()),
    })
}

/// Where the scripts are, and the programs that they start.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ladder")
}

/// The launcher that ends programs which ask the kernel for a TCP socket.
fn strict() -> PathBuf {
    let exe = out_dir().join("strict");
    compile(cc_of(&scripts().join("strict.c"), Sanitizer::None, &exe), "strict", &exe);
    exe
}

/// A command in a folder and namespaces of its own, with what scripts need in its environment.
fn command(dir: &Path, words: &[&str]) -> Command {
    let (usersock, shim) = programs();
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &LIMIT.as_secs().to_string()]).args(words);
    let mut shim = shim.display().to_string();
    // Built with a sanitizer it is loaded beside the run-time library, in the order that this one wants.
    if let Ok(preload) = std::env::var("USERSOCK_LADDER_PRELOAD") {
        shim = preload;
        // Programs were not built for it: what they leave allocated, or free by another name, is not asked.
        command.env("ASAN_OPTIONS", "detect_leaks=0:alloc_dealloc_mismatch=0:exitcode=99:log_path=/run/report");
        // A program's faults end it as they do elsewhere.
        let signals = ["segv", "sigbus", "abort", "sigill", "sigfpe"].map(|signal| format!(":handle_{signal}=0"));
        let options = "exitcode=99:ignore_noninstrumented_modules=1:log_path=/run/report".to_owned();
        command.env("TSAN_OPTIONS", options + &signals.concat());
    }
    command.env("SHIM", shim).env("USERSOCK", usersock).env("STRICT", strict());
    command.env("LADDER", scripts()).env("DIR", dir);
    for variable in ["USERSOCK_CONFIG", "USERSOCK_OWNER", "USERSOCK_SERVER", "USERSOCK_INSTANCE", "LD_PRELOAD"] {
        command.env_remove(variable);
    }
    // A version manager's python3 is a shell script, which would own the stack in its place: the system's is first.
    let path = std::env::var("PATH").unwrap_or_default();
    let system: Vec<String> = system_dirs().iter().map(|dir| dir.display().to_string()).collect();
    command.env("PATH", format!("/usr/bin:/bin:{path}:{}", system.join(":"))).stdin(Stdio::null());
    command
}

/// An empty folder for a script, another one in each run of the tests.
fn folder(name: &str) -> PathBuf {
    let dir = out_dir().join("ladder").join(format!("{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("folder");
    dir
}

/// `len` bytes, the same ones each time, that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15_u64;
    let word = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    std::iter::repeat_with(word).take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Plays `script`. An error is what it said, and how it ended.
pub(crate) fn play(name: &str, setting: Setting, script: &str) -> Result<Played, String> {
    let Setting { form: Form(server, client), loss, seed, whole } = setting;
    let dir = folder(&format!("{name}-{}-{loss}", setting.form));
    fs::write(dir.join("file"), noise(3_000_000)).expect("written");
    let script = format!("{}\n{script}\nfinish\n", include_str!("../../ladder/prologue.sh"));
    let words = namespaces().map_err(str::to_owned)?;
    let mut command = command(&dir, &[words, &["bash", "-c", &script]].concat());
    command.env("SERVER_SIDE", server.letter().to_string()).env("CLIENT_SIDE", client.letter().to_string());
    command.env("LINK", if loss == 0 { String::new() } else { format!(",link=loss={loss}% seed={seed}") });
    command.env("WHOLE", if whole { "1" } else { "" }).env("SEED", seed.to_string());
    command.env("OTHER_USERS", if other_users() { "1" } else { "" });
    let begin = Instant::now();
    let output = command.output().expect("timeout starts");
    let time = begin.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let ended = match output.status.code() {
            Some(137) | None => format!("did not end within {} s", LIMIT.as_secs()),
            _ => output.status.to_string(),
        };
        // The folder stays, for who looks into it.
        return Err(format!("{ended}\n{}\n{}", said.trim_end(), dir.display()));
    }
    let results = fs::read_to_string(dir.join("results")).unwrap_or_default();
    let _ = fs::remove_dir_all(&dir);
    Ok(Played { results, time })
}

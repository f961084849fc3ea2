//! `cargo xtask demo`: an unmodified curl, on the kernel's TCP, downloads a file from a C web server on usersock; then
//! a C client on usersock downloads it from python's http.server; then unmodified programs are on usersock themselves
//! (`unmodified`). All of it crosses devices inside network namespaces that the demo makes and that disappear with it.
//!
//! Three ways, the first that works here (or the one named by `--via`):
//! - `tun`: kernel 10.0.0.1, usersock 10.0.0.2 behind a TUN device; as root, or rootless in a user namespace.
//! - `packet`: the same addresses across a veth pair, usersock on a raw socket (AF_PACKET) at its far end.
//! - `loopback`: without a namespace; C server and client in one process over usersock's in-memory loopback, and an
//!   unmodified python3 that asks itself.

mod unmodified;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::netns::{self, How};
use crate::{Failure, Outcome, broken, cargo, setup};

/// The kernel's side, and the stack's.
const KERNEL: &str = "10.0.0.1";
const STACK: &str = "10.0.0.2";

/// Arguments of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// How packets travel [default: the first that works here]
    #[arg(long, value_enum)]
    via: Option<Via>,
    /// Size of the file, in MB (10^6 bytes)
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4000))]
    mb: u32,
    /// Where the picture goes [default: usersock-demo.svg in the target directory]
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// The programs that the demo calls.
pub fn programs() -> impl Iterator<Item = &'static &'static str> + Clone {
    ["cc", "ip", "curl", "python3", "sha256sum"].iter().chain(&unmodified::PROGRAMS)
}

/// What curl prints of a download: seconds until it was connected, and in all.
const CURL_TIMES: &str = "%{time_connect} %{time_total}";

/// From the established connection on: the data alone.
fn curl_seconds(printed: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(printed);
    let times: Vec<f64> = text.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    if let [connect, total] = times[..] { Some(total - connect) } else { None }
}

/// Arguments of the hidden command that runs in the namespace.
#[derive(clap::Args)]
pub struct InsideArgs {
    /// How to enter the namespace
    #[arg(long)]
    how: How,
    /// How packets travel
    #[arg(long, value_enum)]
    via: Via,
    /// The demo's directory: `www/`, `webserver`, `download`
    dir: PathBuf,
}

/// How packets travel between the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Via {
    /// A TUN device.
    Tun,
    /// A veth pair and a raw socket.
    Packet,
    /// usersock's in-memory loopback.
    Loopback,
}

impl Via {
    fn name(self) -> &'static str {
        match self {
            Via::Tun => "tun",
            Via::Packet => "packet",
            Via::Loopback => "loopback",
        }
    }

    /// The stack's configuration string.
    fn config(self) -> String {
        let device = match self {
            Via::Tun => "tun=tun0",
            Via::Packet => "packet=veth1",
            Via::Loopback => return String::new(),
        };
        format!("{device},addr={STACK}/24,gw={KERNEL}")
    }

    /// `ip` commands that make the device and give the kernel its address.
    fn devices(self) -> Vec<String> {
        let kernel = match self {
            Via::Tun => "tun0",
            Via::Packet => "veth0",
            Via::Loopback => return Vec::new(),
        };
        let make = match self {
            Via::Tun => "tuntap add dev tun0 mode tun vnet_hdr",
            _ => "link add veth0 type veth peer name veth1",
        };
        let mut lines =
            vec![make.to_string(), format!("addr add {KERNEL}/24 dev {kernel}"), format!("link set {kernel} up")];
        if self == Via::Packet {
            lines.push("link set veth1 up".into());
        }
        lines
    }
}

/// The hidden command that prints, as one word on stdout, the best device that a namespace entered by `how` can have,
/// and on stderr, in one line, why it is not a better one. `only`: checks only this device.
///
/// # Errors
/// No namespace can be made, or the device asked for is refused.
pub fn probe(how: How, only: Option<Via>) -> Outcome {
    netns::enter(how)?;
    let mut refused = Vec::new();
    for via in only.map_or(vec![Via::Tun, Via::Packet], |via| vec![via]) {
        match try_devices(via) {
            Ok(()) => {
                println!("{}", via.name());
                eprint!("{}", refused.join("; "));
                return Ok(true);
            }
            Err(refusal) if only.is_some() => return Err(refusal),
            Err(Failure::Usage(why) | Failure::Broken(why)) => refused.push(format!("no {}: {why}", via.name())),
        }
    }
    Err(broken(refused.join("; ")))
}

/// Makes the devices as the demo will.
fn try_devices(via: Via) -> Result<(), Failure> {
    if via == Via::Tun {
        // The stack opens it as well; and this names the file, which `ip` does not.
        let file = "/dev/net/tun";
        File::options().read(true).write(true).open(file).map_err(|error| broken(format!("{file}: {error}")))?;
    }
    netns::ip(&via.devices())
}

/// The best way that works here, and why not a better one; or the requested one.
///
/// # Errors
/// The requested one does not work here; the message says why.
fn choose(how: How, wanted: Option<Via>) -> Result<(Via, String), Failure> {
    if wanted == Some(Via::Loopback) {
        return Ok((Via::Loopback, String::new()));
    }
    let mut command = netns::myself(&["netns-probe", "--how", how.arg()]);
    if let Some(via) = wanted {
        command.args(["--via", via.name()]);
    }
    let output = command.env("PATH", setup::system_path()).output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().trim_start_matches("xtask: ").to_string();
    let why = said(&output.stderr);
    match (said(&output.stdout).as_str(), wanted) {
        ("tun", _) => Ok((Via::Tun, why)),
        ("packet", _) => Ok((Via::Packet, why)),
        (_, None) => Ok((Via::Loopback, why)),
        (_, Some(via)) => Err(broken(format!("demo --via {} cannot run here: {why}", via.name()))),
    }
}

/// Builds, chooses the way, runs the demo in its namespace, cleans up.
///
/// # Errors
/// The way that was asked for is refused here, a build failed, a tool is missing, or a program did not start.
pub fn run(args: &Args) -> Outcome {
    if !setup::programs(programs()) {
        return Ok(false);
    }
    let how = How::available();
    let (via, why) = choose(how, args.via)?;
    let plot = args.plot.as_ref().map(std::path::absolute).transpose()?;
    let dir = std::env::temp_dir().join(format!("usersock-demo-{}", std::process::id()));
    fs::create_dir_all(dir.join("www"))?;
    let outcome = prepare(args.mb, via, &dir).and_then(|usersock| {
        let who = if how == How::Root { "root" } else { "an ordinary user" };
        let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
        match via {
            Via::Loopback => {
                println!("demo: as {who}, over usersock's in-memory loopback{because}: no network, no privileges");
                let good = loopback(&dir)? & python_asks_itself(&dir, &usersock)?;
                println!("demo: not run: nginx, curl and wrk on usersock, which need a namespace with a device");
                println!("demo: {}", if good { "right" } else { "FAILED" });
                Ok(good)
            }
            _ => {
                let place = if how == How::Root { "a network namespace" } else { "a user and network namespace" };
                println!("demo: as {who}, in {place}, via {}{because}", via.name());
                let mut command = netns::myself(&["demo-inside", "--how", how.arg(), "--via", via.name()]);
                command.arg(&dir).env("PATH", setup::system_path()).stdin(Stdio::null());
                let good = command.status()?.success();
                let plot = plot.unwrap_or_else(|| unmodified::plot_file(&usersock));
                let programs = unmodified::Unmodified { usersock: &usersock, dir: &dir, via, plot: &plot };
                let good = programs.run()? & good;
                println!("\ndemo: {}; the picture is {}", if good { "all right" } else { "FAILED" }, plot.display());
                Ok(good)
            }
        }
    });
    fs::remove_dir_all(&dir)?;
    outcome
}

/// Builds the library, the command with the preload library beside it, and the C programs, and writes the file. Returns
/// the command.
fn prepare(mb: u32, via: Via, dir: &Path) -> Result<PathBuf, Failure> {
    println!("demo: building libusersock.a, usersock and its preload library (release), and the C programs");
    let library = cargo::build_c_library()?;
    let usersock = cargo::build_release("usersock-cli", &[])?.with_extension("")?.clone();
    cargo::build_release("usersock-preload", &[])?;
    let sources: &[&str] = match via {
        Via::Loopback => &["xtask/demo/loopback_demo.c"],
        _ => &["c-tests/cases/webserver.c", "c-tests/cases/download.c"],
    };
    for source in sources {
        let source = cargo::root().join(source);
        let status = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-I"])
            .arg(cargo::root().join("include"))
            .arg("-I")
            .arg(cargo::root().join("c-tests/cases"))
            .arg("-o")
            .arg(dir.join(source.file_stem().unwrap_or_default()))
            .arg(&source)
            .arg(library.with_extension("a")?)
            .args(library.native_libs.iter().flat_map(|libs| libs.split_whitespace()))
            .status()
            .map_err(|error| broken(format!("cc (package gcc): {error}")))?;
        if !status.success() {
            return Err(broken(format!("cc {} failed", source.display())));
        }
    }
    println!("demo: writing a file of {mb} MB");
    write_file(&dir.join("www/file.bin"), u64::from(mb) * 1_000_000)?;
    Ok(usersock)
}

/// `length` bytes in which no part repeats (xorshift64, Marsaglia 2003), so that a lost or moved block is detected.
fn write_file(path: &Path, length: u64) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut state, mut left) = (0x9E37_79B9_7F4A_7C15_u64, length);
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let count = left.min(8);
        file.write_all(&bytes[..count as usize])?;
        left -= count;
    }
    file.flush()
}

/// Kills the process when dropped: no program of the demo outlives it.
struct Guard(Child);

impl Guard {
    fn start(command: &mut Command) -> Result<Guard, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).spawn().map(Guard).map_err(|error| broken(format!("{name}: {error}")))
    }

    /// Reads the program's piped standard output up to a line that begins with `word`, and passes on what it reads.
    /// False when the output ended without one.
    fn says(&mut self, word: &str) -> Outcome {
        let stdout = self.0.stdout.as_mut().ok_or_else(|| broken("the program's output is not piped"))?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            if line.starts_with(word) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits for the end, at most `limit`; `None` when it still runs.
    fn wait(&mut self, limit: Duration) -> Result<Option<bool>, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status.success()));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it prints to its piped standard output until it ends.
    fn output(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            stdout.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The demo in its namespace: both directions, each file compared.
///
/// # Errors
/// The namespace cannot be made, or a program cannot be started.
pub fn inside(args: &InsideArgs) -> Outcome {
    netns::enter(args.how)?;
    netns::ip(&args.via.devices())?;
    let config = args.via.config();
    println!("demo: kernel {KERNEL}, usersock {STACK}; configuration string \"{config}\"");
    let want = sha256(&args.dir.join("www/file.bin"))?;
    let served = curl_from_usersock(&args.dir, &config, &want)?;
    let fetched = usersock_from_python(&args.dir, &config, &want)?;
    Ok(served && fetched)
}

/// curl, on the kernel's TCP, from the C web server on usersock.
fn curl_from_usersock(dir: &Path, config: &str, want: &str) -> Outcome {
    println!("\n== 1. curl (kernel's TCP) downloads from webserver.c (usersock)");
    let mut server = Guard::start(
        Command::new(dir.join("webserver"))
            .args(["--config", config, "--info", "--once", "1", STACK, "80"])
            .arg(dir.join("www"))
            .stdout(Stdio::piped()),
    )?;
    if !server.says("listening")? {
        return Err(broken("the web server ended before it listened"));
    }
    let (out, url) = (dir.join("out.bin"), format!("http://{STACK}/file.bin"));
    // The speed limit ends a download that hangs.
    let output = Command::new("curl")
        .args(["--noproxy", "*", "--silent", "--show-error", "--fail", "--connect-timeout", "10"])
        .args(["--speed-limit", "1000", "--speed-time", "20"])
        .args(["--write-out", CURL_TIMES, "--output"])
        .arg(&out)
        .arg(&url)
        .stderr(Stdio::inherit())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| broken(format!("curl: {error}")))?;
    let good = output.status.success() && compare(&url, &out, want, curl_seconds(&output.stdout))?;
    // After its one request it prints the connection's tcp_info and ends.
    let ended = match server.wait(Duration::from_secs(10))? {
        Some(true) => true,
        Some(false) => {
            println!("demo: the web server ended with an error");
            false
        }
        None => {
            println!("demo: the web server did not end after its request");
            false
        }
    };
    Ok(good && ended)
}

/// The C client on usersock, from python's server on the kernel's TCP.
fn usersock_from_python(dir: &Path, config: &str, want: &str) -> Outcome {
    println!("\n== 2. download.c (usersock) downloads from python3 -m http.server (kernel's TCP)");
    let server = Command::new("python3")
        .args(["-m", "http.server", "--bind", KERNEL, "--directory"])
        .arg(dir.join("www"))
        .arg("8000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .spawn();
    let mut server = Guard(server.map_err(|error| broken(format!("python3: {error}")))?);
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((KERNEL, 8000)).is_err() {
        if server.wait(Duration::from_millis(50))?.is_some() || Instant::now() > deadline {
            return Err(broken("python3 -m http.server does not listen"));
        }
    }
    let (out, begin) = (dir.join("out.bin"), Instant::now());
    let mut client = Guard::start(
        Command::new(dir.join("download")).args(["--config", config, KERNEL, "8000", "/file.bin"]).arg(&out),
    )?;
    let Some(success) = client.wait(Duration::from_secs(300))? else {
        println!("demo: the client did not end within 300 s");
        return Ok(false);
    };
    if !success {
        println!("demo: the client ended with an error");
    }
    Ok(success && compare(&format!("http://{KERNEL}:8000/file.bin"), &out, want, Some(begin.elapsed().as_secs_f64()))?)
}

/// Server and client in one process over the in-memory loopback. The program prints the connection's tcp_info.
fn loopback(dir: &Path) -> Outcome {
    let file = dir.join("www/file.bin");
    let want = sha256(&file)?;
    println!("\n== loopback_demo.c: server and client on usersock in one process");
    let (out, begin) = (dir.join("out.bin"), Instant::now());
    // Without a configuration the stack is the loopback alone.
    let mut program =
        Guard::start(Command::new(dir.join("loopback_demo")).arg(&file).arg(&out).env_remove("USERSOCK_CONFIG"))?;
    let good = match program.wait(Duration::from_secs(300))? {
        Some(true) => compare("loopback", &out, &want, Some(begin.elapsed().as_secs_f64()))?,
        Some(false) => false,
        None => {
            println!("demo: loopback_demo did not end within 300 s");
            false
        }
    };
    Ok(good)
}

/// An unmodified python3 with the stack in its process: a server in one thread, a client in another. What it received
/// is in out.bin.
fn python_asks_itself(dir: &Path, usersock: &Path) -> Outcome {
    const SCRIPT: &str = "\
import functools, http.server, shutil, sys, threading, urllib.request
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory='www')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open('http://127.0.0.1:%d/file.bin' % server.server_port) as page, open('out.bin', 'wb') as out:
    shutil.copyfileobj(page, out)
";
    println!("\n== an unmodified python3 under the preload library: http.server and urllib in one process");
    // What stands in PATH may be a script that starts others, and the stack would be the script's.
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    let python = String::from_utf8_lossy(&python.stdout).trim().to_owned();
    let preload = usersock.with_file_name("libusersock_preload.so");
    let want = sha256(&dir.join("www/file.bin"))?;
    println!("$ LD_PRELOAD={} USERSOCK_CONFIG= {python} -c ...", preload.display());
    let begin = Instant::now();
    let mut python = Guard::start(
        Command::new(&python)
            .args(["-c", SCRIPT])
            .current_dir(dir)
            .env("LD_PRELOAD", preload)
            .env("USERSOCK_CONFIG", "")
            .env_remove("USERSOCK_OWNER")
            .env_remove("USERSOCK_SERVER")
            .stderr(Stdio::null()),
    )?;
    let ended = python.wait(Duration::from_secs(300))? == Some(true);
    Ok(ended && compare("python3", &dir.join("out.bin"), &want, Some(begin.elapsed().as_secs_f64()))?)
}

/// Prints what was received and whether it is correct.
fn compare(what: &str, file: &Path, want: &str, seconds: Option<f64>) -> Outcome {
    let length = fs::metadata(file).map_err(|error| broken(format!("{what}: nothing was written: {error}")))?.len();
    let got = sha256(file)?;
    fs::remove_file(file)?;
    let rate = |seconds: f64| format!(" in {seconds:.3} s, {:.0} Mbit/s", length as f64 * 8.0 / seconds / 1e6);
    println!("{what}: {length} bytes{}", seconds.map_or_else(String::new, rate));
    println!("  sha256 sent     {want}\n  sha256 received {got}  {}", if got == want { "equal" } else { "DIFFERENT" });
    Ok(got == want)
}

fn sha256(file: &Path) -> Result<String, Failure> {
    let output = Command::new("sha256sum").arg(file).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.split_whitespace().next() {
        Some(sum) if output.status.success() => Ok(sum.trim_start_matches('\\').to_string()),
        _ => Err(broken(format!("sha256sum {} failed", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_has_the_length_asked_for_and_no_block_twice() {
        let path = std::env::temp_dir().join(format!("usersock-file-{}", std::process::id()));
        write_file(&path, 80_003).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 80_003);
        let blocks: std::collections::HashSet<_> = bytes.chunks(8).collect();
        assert_eq!(blocks.len(), 10_001);
    }

    #[test]
    fn each_way_configures_the_stack_on_the_device_that_it_makes() {
        assert_eq!(Via::Tun.config(), "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1");
        assert!(Via::Tun.devices().contains(&"addr add 10.0.0.1/24 dev tun0".to_string()));
        assert_eq!(Via::Packet.config(), "packet=veth1,addr=10.0.0.2/24,gw=10.0.0.1");
        assert!(!Via::Packet.devices().iter().any(|line| line.starts_with("addr") && line.ends_with("veth1")));
    }
}

//! The programs in examples/, in C and in Rust, built as their head comments say and run against each other: two TUN
//! devices with the kernel's router between them, in a network namespace of the test's own.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;

use harness::ours::{library, link_shared};
use harness::{Sanitizer, cc_of, compile, namespace, out_dir, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The programs in C.
const PROGRAMS: [&str; 6] = ["capture", "echo_server", "handover", "http_get", "simulator", "udp_pktinfo"];

/// Builds them and the plug-in; gives their folder.
fn in_c() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = out_dir().join("examples");
        fs::create_dir_all(&dir).unwrap();
        for name in PROGRAMS {
            let exe = dir.join(name);
            let mut cc = cc_of(&root().join(format!("examples/c/{name}.c")), Sanitizer::None, &exe);
            cc.arg("-I").arg(root().join("include"));
            link_shared(&mut cc, library());
            compile(cc, name, &exe);
        }
        let plugin = dir.join("plugin.so");
        let mut cc = cc_of(&root().join("examples/c/plugin.c"), Sanitizer::None, &plugin);
        cc.arg("-I").arg(root().join("include")).args(["-shared", "-fPIC"]);
        compile(cc, "plugin", &plugin);
        dir
    })
}

/// Builds those in Rust; gives their folder.
fn in_rust() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = library();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "-p", "usersock", "--examples", "--target-dir"]).arg(profile.join(".."));
        if let Some(name) = profile.file_name().and_then(|n| n.to_str()).filter(|n| *n != "debug") {
            cargo.args(["--profile", name]);
        }
        let built = cargo.current_dir(root()).stdin(Stdio::null()).output().expect("cargo starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("examples")
    })
}

/// An empty folder for a test.
fn folder(name: &str) -> PathBuf {
    let dir = out_dir().join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// What a program that succeeded printed.
fn printed(out: &Output) -> String {
    let said = String::from_utf8_lossy(&out.stderr);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}\n{text}{said}", out.status);
    text
}

/// Two hosts with the kernel's router between them; $1 and $2 are the folders of the programs in C and in Rust. `at`
/// starts a server on the first host and waits until it says that it listens; `by` is what runs on the second.
const HOSTS: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
C=$1 RUST=$2
for n in 0 1; do
    ip tuntap add dev tun$n mode tun
    ip addr add 10.0.$n.1/24 dev tun$n
    ip link set tun$n up
done
echo 1 >/proc/sys/net/ipv4/ip_forward
at() {
    : >served
    USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,addr=10.0.0.3/24,gw=10.0.0.1$MORE "$@" >served 2>&1 &
    until grep -q '^listening on ' served; do kill -0 $!; sleep 0.02; done
}
by() { USERSOCK_CONFIG=tun=tun1,addr=10.0.1.2/24,gw=10.0.1.1 "$@"; }
"#;

/// Runs `script` among the hosts, and gives what it printed; None, and said, where there can be none.
fn among_hosts(name: &str, script: &str) -> Option<String> {
    let Some(prefix) = namespace() else {
        skip(name, "no network namespace can be made");
        return None;
    };
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/net/tun") {
        skip(name, &format!("/dev/net/tun: {error}"));
        return None;
    }
    let mut c = Command::new(prefix[0]);
    c.args(&prefix[1..]).args(["sh", "-c", &format!("{HOSTS}{script}"), "sh"]).arg(in_c()).arg(in_rust());
    c.current_dir(folder(name)).env_remove("USERSOCK_CONFIG").env_remove("http_proxy").stdin(Stdio::null());
    Some(printed(&c.output().expect("the shell starts")))
}

#[test]
fn echo_servers_in_c_and_in_rust_give_back_what_they_get() {
    let script = r#"
at "$C/echo_server" 10.0.0.2 7 2
by "$RUST/echo" ask 10.0.0.2:7 "to C"
by "$RUST/echo" ask 10.0.0.2:7 "to C again"
wait
at "$RUST/echo" serve 10.0.0.3:7 1
by "$RUST/echo" ask 10.0.0.3:7 "to Rust"
wait
"#;
    let Some(printed) = among_hosts("example-echo", script) else { return };
    assert_eq!(printed, "to C\nto C again\nto Rust\n");
}

#[test]
fn http_clients_in_c_and_in_rust_get_the_page() {
    let script = r#"
at "$RUST/http" serve 10.0.0.2:80 2
by "$C/http_get" 10.0.0.2 80 /from/c
by "$RUST/http" get 10.0.0.2:80 /from/rust
wait
"#;
    let Some(printed) = among_hosts("example-http", script) else { return };
    for (who, page) in ["/from/c", "/from/rust"].iter().zip(printed.split_inclusive("HTTP/1.0\n")) {
        assert!(page.starts_with("HTTP/1.0 200 OK\r\nContent-Length: "), "{printed}");
        assert!(page.ends_with(&format!("\r\n\r\nyou asked: GET {who} HTTP/1.0\n")), "{printed}");
    }
    assert_eq!(printed.matches("you asked: ").count(), 2, "{printed}");
}

#[test]
fn udp_servers_answer_from_the_address_they_were_asked_at() {
    let script = r#"
for server in "$C/udp_pktinfo" "$RUST/udp_pktinfo serve"; do
    at $server 7
    by "$RUST/udp_pktinfo" ask 10.0.0.2:7 one
    by "$RUST/udp_pktinfo" ask 10.0.0.3:7 two
    kill $!
    wait $! || true
    uniq served
done
"#;
    let Some(printed) = among_hosts("example-udp", script) else { return };
    let once = "ONE from 10.0.0.2:7\nTWO from 10.0.0.3:7\nlistening on port 7\n\
                3 bytes from 10.0.1.2 at 10.0.0.2\n3 bytes from 10.0.1.2 at 10.0.0.3\n";
    assert_eq!(printed, once.repeat(2));
}

#[test]
fn the_plug_in_s_algorithm_carries_a_connection() {
    let script = r#"
MORE=,plugin=$C/plugin.so,sysctl.net.ipv4.tcp_congestion_control=floor,sysctl.net.floor.segments=20
at "$C/echo_server" 10.0.0.2 7 1
by "$RUST/echo" ask 10.0.0.2:7 "over it"
wait
MORE=,plugin=$C/plugin.so,sysctl.net.floor.segments=1
USERSOCK_CONFIG=addr=10.0.0.2/24$MORE "$C/echo_server" 10.0.0.2 7 1 2>&1 || echo refused
"#;
    let Some(printed) = among_hosts("example-plugin", script) else { return };
    assert!(printed.starts_with("over it\n") && printed.ends_with("refused\n"), "{printed}");
    assert!(printed.contains("sysctl.net.floor.segments=1: this sysctl does not take the value"), "{printed}");
}

/// The peer of `handover`, on the kernel's sockets, with the folder of the programs in C: it keeps one connection while
/// three processes serve it. What is in flight when the first is stopped is not acknowledged, because the peer's way is
/// closed then; until it is open again the connection moves a second time.
const PEER: &str = r#"
import os, signal, socket, subprocess, sys
env = dict(os.environ, USERSOCK_CONFIG="tun=tun0,addr=10.0.0.2/24")
def handover(said, *args):
    p = subprocess.Popen([sys.argv[1] + "/handover", *args], env=env, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().startswith(said)
    return p
def ended(p):
    print(p.stdout.read().strip(), flush=True)
    assert p.wait() == 0
def way(verb):
    subprocess.run(["ip", "route", verb, "blackhole", "10.0.0.2/32"], check=True)
def letters(first, n):
    return bytes(97 + i % 26 for i in range(first, first + n))

server = handover("listening on", "serve", "10.0.0.2", "7", "image", "2")
peer = socket.create_connection(("10.0.0.2", 7))
heard = peer.makefile("rb")
peer.sendall(b"10\n")
assert heard.read(10) == letters(0, 10)
os.kill(server.pid, signal.SIGSTOP)
peer.sendall(b"50000\n7\n")
way("add")
os.kill(server.pid, signal.SIGCONT)
ended(server)
ended(handover("goes on", "resume", "image", "1"))
server = handover("goes on", "resume", "image")
way("del")
assert heard.read(50007) == letters(10, 50007)
peer.sendall(b"100000\n")
assert heard.read(100000) == letters(50017, 100000)
peer.shutdown(socket.SHUT_WR)
assert heard.read() == b""
ended(server)
"#;

#[test]
fn a_connection_moves_from_process_to_process_and_its_peer_notices_nothing() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()) {
        return skip("example-handover", "no python3");
    }
    let script = format!("cat >peer.py <<'END'\n{PEER}\nEND\npython3 peer.py \"$C\"");
    let Some(printed) = among_hosts("example-handover", &script) else { return };
    let taken = |unread: u32, unacknowledged: u32, unsent: u32| {
        format!("taken out: {unread} bytes unread, {unacknowledged} not acknowledged, {unsent} of them not sent")
    };
    let lines: Vec<_> = printed.lines().collect();
    let words = lines[0].split(' ').rev().nth(4).and_then(|n| n.parse().ok());
    let unsent: u32 = words.unwrap_or_else(|| panic!("{printed}"));
    assert!(0 < unsent && unsent < 50_000, "{printed}");
    assert_eq!(lines, [taken(2, 50_000, unsent), taken(0, 50_007, unsent + 7), "closed by the peer".to_owned()]);
}

/// Magic number of a pcap file with nanoseconds, and bytes of its header.
const NANOSECONDS: (u32, usize) = (0xa1b2_3c4d, 24);

fn is_a_capture(file: &Path) -> bool {
    let bytes = fs::read(file).unwrap();
    bytes.starts_with(&NANOSECONDS.0.to_ne_bytes()) && bytes.len() > NANOSECONDS.1 + 100
}

#[test]
fn the_captures_hold_what_was_said() {
    let dir = folder("example-capture");
    let out = Command::new(in_c().join("capture")).arg("talk.pcap").current_dir(&dir).output().unwrap();
    assert!(printed(&out).starts_with("talk.pcap: a connection of "));
    assert!(is_a_capture(&dir.join("talk.pcap")));
    let bytes = fs::read(dir.join("talk.pcap")).unwrap();
    assert!(bytes.windows(5).any(|w| w == b"hello"));
}

#[test]
fn virtual_time_repeats_itself() {
    let dir = folder("example-virtual");
    let run = |args: &[&str]| {
        printed(&Command::new(in_rust().join("virtual_time")).args(args).current_dir(&dir).output().unwrap())
    };
    let once = run(&["7", "talk.pcap"]);
    assert!(once.starts_with("1000000 bytes in "), "{once}");
    assert_eq!(run(&["7"]), once, "the same seed");
    assert_ne!(run(&["8"]), once, "another seed");
    assert!(is_a_capture(&dir.join("talk.pcap")));
}

/// The plug-ins that the guide's second part simulates, built by their own Makefile; gives their folder.
fn plugins() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = out_dir().join("plugins-simulated");
        fs::create_dir_all(&dir).unwrap();
        let mut make = Command::new("make");
        make.args(["--silent", "-C"]).arg(root().join("c-tests/plugins")).arg(format!("OUT={}", dir.display()));
        make.args(["tiny.so", "rdp.so"].map(|so| dir.join(so)));
        let made = make.stdin(Stdio::null()).output().expect("make starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        dir
    })
}

/// Runs the simulator in `dir`: what it printed. It leaves NAME.csv and NAME.csv.pcap.
fn simulate(dir: &Path, socket: &str, seed: &str, name: &str, plugin: Option<&str>) -> String {
    let mut c = Command::new(in_c().join("simulator"));
    c.args([socket, seed, &format!("{name}.csv")]).args(plugin.map(|so| plugins().join(so)));
    printed(&c.current_dir(dir).env_remove("USERSOCK_CONFIG").output().unwrap())
}

/// What docs/plugins.md says of its runs.
#[test]
fn the_simulator_repeats_itself_to_the_byte_and_loses_what_nobody_sends_again() {
    let dir = folder("example-simulator");
    let guide = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    for (socket, plugin) in [("stream:0", None), ("dgram:254", Some("tiny.so")), ("seqpacket:253", Some("rdp.so"))] {
        let (once, again, other) = (
            simulate(&dir, socket, "7", "once", plugin),
            simulate(&dir, socket, "7", "again", plugin),
            simulate(&dir, socket, "8", "other", plugin),
        );
        assert_eq!(again, once);
        assert_ne!(other, once);
        if plugin.is_some() {
            assert!(guide.contains(&format!("    {once}")), "{once}");
        }
        assert_eq!(once.contains(" 1000 received"), socket != "dgram:254", "{once}");
        for suffix in ["csv", "csv.pcap"] {
            let bytes = |name: &str| fs::read(dir.join(format!("{name}.{suffix}"))).unwrap();
            assert!(bytes("once") == bytes("again"), "{socket}: {suffix}");
            assert!(bytes("once") != bytes("other"), "{socket}: {suffix}");
        }
        assert!(is_a_capture(&dir.join("once.csv.pcap")));
    }
}

/// The command, built beside the library.
fn usersock() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile = library();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "-p", "usersock-cli", "--target-dir"]).arg(profile.join(".."));
        if let Some(name) = profile.file_name().and_then(|n| n.to_str()).filter(|n| *n != "debug") {
            cargo.args(["--profile", name]);
        }
        let built = cargo.current_dir(root()).stdin(Stdio::null()).output().expect("cargo starts");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("usersock")
    })
}

/// The pictures of the guide's second part are what its commands draw.
#[test]
fn the_pictures_are_current() {
    let dir = folder("example-pictures");
    for (socket, name) in [("dgram:254", "tiny"), ("seqpacket:253", "rdp")] {
        simulate(&dir, socket, "7", name, Some(&format!("{name}.so")));
        let mut plot = Command::new(usersock());
        plot.args(["plot", "--csv", &format!("{name}.csv"), "-o", &format!("{name}.svg")]).current_dir(&dir);
        printed(&plot.output().unwrap());
        let drawn = fs::read_to_string(dir.join(format!("{name}.svg"))).unwrap();
        let file = root().join(format!("docs/images/{name}-loss.svg"));
        if std::env::var_os("USERSOCK_WRITE_PLOT").is_some() {
            fs::write(&file, &drawn).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == drawn, "docs/images/{name}-loss.svg is not what this draws: run cargo xtask plot");
    }
}

#[test]
fn every_example_is_built_here_and_says_how() {
    let names = |dir: &str, extension: &str| -> Vec<String> {
        let files = fs::read_dir(root().join(dir)).unwrap().map(|e| e.unwrap().path());
        let of_kind = files.filter(|f| f.extension().is_some_and(|e| e == extension));
        let mut names: Vec<_> = of_kind.map(|f| f.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let c = names("examples/c", "c");
    assert_eq!(c, ["capture", "echo_server", "handover", "http_get", "plugin", "simulator", "udp_pktinfo"]);
    for name in c {
        let text = fs::read_to_string(root().join(format!("examples/c/{name}.c"))).unwrap();
        let head = text.split("*/").next().unwrap();
        assert!(head.contains(" *   cc ") && head.contains("pkg-config --cflags"), "{name}");
    }
    for name in names("examples", "rs") {
        let text = fs::read_to_string(root().join(format!("examples/{name}.rs"))).unwrap();
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        assert!(head.contains(&format!("--example {name}")), "{name}");
        assert!(in_rust().join(&name).exists(), "{name}");
    }
}

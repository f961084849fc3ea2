//! Unmodified programs under the preload shim: what it exports, what a process may do with descriptors and children
//! (`preload/processes.c`), and programs that talk to themselves over the stack's loopback. With the kernel's TCP at
//! the other end they are in the ladder (`ladder/main.rs`); the C cases under the shim are in `cases.rs`.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;

use harness::preload::{preloaded, shim};
use harness::{Sanitizer, cases_dir, cc_of, compile, judge, namespace, out_dir, skip};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What is decided about the functions of glibc.
const DECISIONS: &str = include_str!("../../ffi/preload/libc.txt");

/// Parts of the names of functions that have to do with descriptors, sockets or processes.
const CONCERNS: [&str; 36] = [
    "sock",
    "accept",
    "bind",
    "connect",
    "listen",
    "shutdown",
    "recv",
    "send",
    "read",
    "write",
    "poll",
    "select",
    "close",
    "dup",
    "fcntl",
    "ioctl",
    "splice",
    "tee",
    "copy_file",
    "fd",
    "fileno",
    "dprintf",
    "exec",
    "spawn",
    "fork",
    "exit",
    "Exit",
    "syscall",
    "ifaddrs",
    "if_",
    "peername",
    "aio_",
    "lio_",
    "clone",
    "rcmd",
    "getname",
];

/// Functions in the dynamic symbol table of a library, without their versions.
fn functions(library: &Path) -> BTreeSet<String> {
    let output = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().expect("nm runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, kind, name] = words[..] else { return None };
        let private = name.ends_with("GLIBC_PRIVATE");
        (matches!(kind, "T" | "W" | "i") && !private).then(|| name.split('@').next().unwrap_or(name).to_owned())
    };
    text.lines().filter_map(of_line).collect()
}

/// The names of the sections of the decisions whose first line `which` accepts.
fn decided(which: impl Fn(&str) -> bool) -> BTreeSet<&'static str> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in DECISIONS.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_suffix(':') {
            Some(section) if !line.starts_with(' ') => inside = which(section),
            _ if inside => names.extend(line.split_whitespace()),
            _ => {}
        }
    }
    names
}

#[test]
fn exported_are_the_interposed_names_and_the_c_abi() {
    let exported: BTreeSet<String> = functions(shim()).into_iter().filter(|name| !name.starts_with("usk_")).collect();
    let interposed: BTreeSet<String> = decided(|s| s == "interposed").into_iter().map(str::to_owned).collect();
    assert_eq!(exported, interposed);
}

#[test]
fn every_function_of_libc_that_concerns_descriptors_is_decided() {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let libc = maps.lines().find_map(|line| line.split_whitespace().last().filter(|p| p.ends_with("/libc.so.6")));
    let names = functions(Path::new(libc.expect("this test is linked with glibc")));
    assert!(names.len() > 1500, "{} functions", names.len());
    let decisions = decided(|_| true);
    let is_decided = |name: &str| {
        decisions.iter().any(|d| match (d.strip_prefix('*'), d.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (_, Some(begin)) => name.starts_with(begin),
            _ => *d == name,
        })
    };
    let concerns = |name: &str| !name.contains("pthread") && CONCERNS.iter().any(|part| name.contains(part));
    let open: Vec<&String> = names.iter().filter(|name| concerns(name) && !is_decided(name)).collect();
    assert!(open.is_empty(), "decide in ffi/preload/libc.txt about {open:?}");
    // A name of the table that this libc does not have is of a newer or an older one; most are there.
    let there = decisions.iter().filter(|d| names.contains(**d)).count();
    assert!(there * 10 > decisions.len() * 8, "{there} of {} are in this libc", decisions.len());
}

/// Runs a part of processes.c, and returns what it says on stderr.
fn part(name: &str) -> String {
    let exe = out_dir().join("preload-processes");
    let mut cc = cc_of(&cases_dir().join("../preload/processes.c"), Sanitizer::None, &exe);
    cc.arg("-I").arg(cases_dir()).args(["-DPRELOADED", "-Wno-unused-result"]);
    compile(cc, "processes", &exe);
    let mut command = preloaded(&[], None);
    if name == "early" {
        let object = out_dir().join("early.so");
        let mut cc = cc_of(&cases_dir().join("../preload/early.c"), Sanitizer::None, &object);
        cc.arg("-I").arg(cases_dir()).args(["-DPRELOADED", "-Wno-unused-result", "-fno-builtin", "-shared", "-fPIC"]);
        compile(cc, "early", &object);
        command.arg(format!("LD_PRELOAD={}:{}", shim().display(), object.display()));
    }
    let output = command.arg(exe).arg(name).output();
    let said = output.as_ref().map(|o| String::from_utf8_lossy(&o.stderr).into_owned()).unwrap_or_default();
    judge(if name == "replaced" { "successor" } else { name }, output);
    said
}

#[test]
fn a_vfork_child_leaves_its_parents_descriptors_alone() {
    let said = part("vfork");
    assert!(said.contains("/bin/sh gets no connection on descriptor 0"), "{said}");
}

#[test]
fn a_forked_child_is_told_once_and_can_exec() {
    let said = part("fork");
    assert_eq!(said.matches("usersock run -- PROGRAM").count(), 1, "{said}");
}

#[test]
fn programs_that_the_c_library_starts_are_as_ever() {
    assert_eq!(part("started"), "");
}

#[test]
fn a_socket_that_posix_spawn_would_hand_on_is_named() {
    let said = part("handed");
    assert_eq!(said.matches("gets no connection on descriptor 1").count(), 1, "{said}");
}

#[test]
fn a_child_whose_stderr_is_a_socket_is_named_on_its_parents() {
    let said = part("inetd");
    assert!(said.contains("/bin/cat gets no connection on descriptor 0"), "{said}");
    assert!(said.contains("/bin/cat gets no connection on descriptor 2"), "{said}");
}

#[test]
fn a_socket_that_is_passed_to_another_process_is_named_once() {
    let said = part("passed");
    assert_eq!(said.matches("a socket goes to no other process").count(), 1, "{said}");
}

#[test]
fn a_closed_range_spares_what_the_library_has() {
    assert_eq!(part("ranges"), "");
}

#[test]
fn standard_streams_follow_a_socket() {
    assert_eq!(part("streams"), "");
}

#[test]
fn an_allocator_and_a_constructor_that_come_before_it_are_served() {
    assert_eq!(part("early"), "");
}

#[test]
fn a_new_program_has_no_socket_of_the_old_one_and_a_stack_of_its_own() {
    assert_eq!(part("replaced"), "");
}

/// Runs a shell's script under the shim, in memory.
fn shell(config: Option<&str>, variables: &[(&str, &str)], script: &str) -> Output {
    let mut command = preloaded(&[], config);
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.args(["sh", "-c", script]).output().expect("the shell starts")
}

#[test]
fn a_bad_configuration_is_one_line_and_status_2_before_the_program() {
    let says = |config, variables: &[_], line: &str| {
        let output = shell(config, variables, "echo ran");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout.len(), said.lines().count()), (Some(2), 0, 1), "{said}");
        assert!(said.contains(line), "{said}");
    };
    says(Some("bogus=1"), &[], "bogus");
    says(Some("tun=a_name_that_is_too_long_for_a_device"), &[], "tun");
    says(None, &[("USERSOCK_SOCKETS", "udp")], "USERSOCK_SOCKETS");
}

#[test]
fn a_program_that_the_owner_starts_runs_but_has_no_sockets() {
    let socket = "python3 -c 'import socket; socket.socket()'";
    let output = shell(None, &[], &format!("ls / | wc -l; {socket}; echo $?; true"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Network is down") && said.contains("usersock run"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n1\n"));
    // The process that takes the owner's place has its own stack, and so has one whose owner is gone.
    for (owner, script) in [("1.1", format!("exec {socket}")), ("999999999.5", socket.to_owned())] {
        let output = shell(None, &[("USERSOCK_OWNER", owner)], &format!("exec {script}").replace("exec exec", "exec"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn udp_is_the_kernels_where_only_tcp_is_ours() {
    let script = "exec python3 -c 'import socket
t, other, u = socket.socket(), socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
import os; print(os.fstat(t.fileno()).st_ino == os.fstat(other.fileno()).st_ino)
u.connect((\"127.0.0.1\", 9)); print(len(open(\"/proc/net/udp\").readlines()) > 1)'";
    // All numbers of ours are duplicates of one descriptor of the kernel's.
    let output = shell(None, &[("USERSOCK_SOCKETS", "tcp")], script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("True\nTrue\n"), "{said}");
}

/// The owner of a TUN device is there, and has another program refused; it ends while a third one waits for the device.
const ORPHAN: &str = r#"
set -e
ip tuntap add dev tun0 mode tun; ip link set tun0 up
U="env LD_PRELOAD=$SHIM USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24"
$U sleep 60 & OWNER=$!
trap 'kill $OWNER 2>/dev/null || true' EXIT
for i in $(seq 1200); do ip link show tun0 | grep -q LOWER_UP && break; sleep 0.05; done
code=0; $U true || code=$?; [ $code = 2 ]
(sleep 0.3; kill $OWNER) &
env USERSOCK_OWNER=999999999.5 $U true
"#;

#[test]
fn a_program_whose_owner_has_ended_waits_until_the_device_is_free() {
    let Some(prefix) = namespace() else {
        return skip("orphan", "no network namespace can be made");
    };
    if let Err(error) = fs::File::options().read(true).write(true).open("/dev/net/tun") {
        return skip("orphan", &format!("/dev/net/tun: {error}"));
    }
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(["timeout", "100", "bash", "-c", ORPHAN]).env("SHIM", shim());
    command.env_remove("USERSOCK_CONFIG").env_remove("USERSOCK_OWNER").env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    let output = command.stdin(Stdio::null()).output().expect("the script starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A client and a server in one process, over the stack's loopback.
const ASYNCIO: &str = r#"exec python3 -c '
import asyncio, hashlib, os
data = os.urandom(2_000_000)
async def serve(reader, writer):
    while block := await reader.read(65536):
        writer.write(block); await writer.drain()
    writer.close()
async def fetch(port):
    reader, writer = await asyncio.open_connection("::1", port)
    async def send():
        writer.write(data); await writer.drain(); writer.write_eof()
    sending = asyncio.create_task(send())
    got = await reader.read(-1); await sending; writer.close()
    return got == data
async def main():
    server = await asyncio.start_server(serve, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    proc = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    said, _ = await proc.communicate(b"through a child")
    print(said.decode(), all(await asyncio.gather(*[fetch(port) for _ in range(8)])))
asyncio.run(main())
import selectors, socket, threading
a = socket.create_server(("127.0.0.1", 0))
for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
    with kind() as s:
        s.register(a, selectors.EVENT_READ)
        c = socket.create_connection(a.getsockname()); ready = s.select(60); b, _ = a.accept()
        f = b.makefile("rw"); f.write("line\n"); f.flush()
        print(len(ready), c.recv(10).decode().strip()); [x.close() for x in (f, b, c)]
'"#;

#[test]
fn python_waits_in_asyncio_and_selectors() {
    let output = shell(None, &[("PATH", "/usr/bin:/bin")], ASYNCIO);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said == "through a child True\n1 line\n1 line\n1 line\n", "{said}");
}

#[test]
fn node_serves_itself() {
    let script = r#"exec node -e '
        const http = require("http"), data = Buffer.alloc(2e6, "node");
        const server = http.createServer((q, r) => r.end(data)).listen(0, "127.0.0.1", () => {
            let left = 10;
            for (let i = 0; i < 10; i++)
                http.get({port: server.address().port}, r => {
                    let got = []; r.on("data", d => got.push(d));
                    r.on("end", () => { if (!Buffer.concat(got).equals(data)) process.exit(1);
                                        if (--left == 0) { console.log("equal"); process.exit(0); } });
                });
        })'"#;
    if !Command::new("sh").args(["-c", "command -v node"]).stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return skip("node", "node is not installed");
    }
    let output = shell(None, &[], script);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said == "equal\n", "{said}");
}

//! `usersock check-plugin`: it passes on each plug-in of this tree, in C and in Rust, and of a broken one it names the
//! check that finds its fault. The broken ones are plugins/broken/*.c, each with one of its faults.
#![cfg(has_usersock)]

#[allow(dead_code, reason = "a part of the harness is for cases")]
mod harness;
mod rust;

use harness::compiler_name;
use harness::ours::build;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

const PLUGINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins");

/// The command, once built.
fn usersock() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("usersock-cli").join("usersock"))
}

fn folder() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-plugin");
    std::fs::create_dir_all(&out).expect("a folder");
    out
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn check(file: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(usersock());
    command.arg("check-plugin").arg(file).args(args).stdin(Stdio::null());
    let out = command.output().expect("it starts");
    (out.status.code(), said(&out))
}

/// All of ours in one language: files of this folder.
fn pass(folder: &Path, names: &[&str]) {
    for name in names {
        let (status, said) = check(&folder.join(format!("{name}.so")), &[]);
        let wrong: Vec<&str> = said.lines().filter(|line| !line.ends_with(": ok")).collect();
        assert!(status == Some(0) && said.contains(" 0 failed, "), "{name}: {}", wrong.join("\n"));
        // What does not apply is said, and is not everything.
        assert!(said.contains(": ok\n"), "{name}: {said}");
    }
}

#[test]
fn our_plugins_in_c_pass() {
    let out = folder().join("c");
    std::fs::create_dir_all(&out).expect("a folder");
    let mut make = Command::new("make");
    make.args(["--silent", "-C", PLUGINS]).arg(format!("OUT={}", out.display()));
    make.arg(format!("RUSTC={}", env!("USERSOCK_RUSTC")));
    let made = make.stdin(Stdio::null()).output().expect("make starts");
    assert!(made.status.success(), "{}", said(&made));
    pass(&out, &["ages", "dctcp", "expopt", "flow", "fragile", "frame", "quick", "rdp", "rec_ulp", "rfc6675", "tiny"]);
    pass(&out, &["udpdev", "udplite", "westwood"]);
    let ends = ["127.0.0.1:27011/127.0.0.1:27012", "127.0.0.1:27012/127.0.0.1:27011"];
    let args = ["--device", ends[0], "--peer", ends[1], "--only", "device-pair"];
    let (status, said) = check(&out.join("udpdev.so"), &args);
    assert_eq!((status, &*said), (Some(0), "udp/device-pair: ok\n1 checks: 1 ok, 0 failed, 0 not checked; seed 1\n"));
}

#[test]
fn our_plugins_in_rust_pass() {
    let out = rust::examples();
    pass(
        out,
        &[
            "beat", "blocks", "expopt", "fragile", "frame", "gauged", "quake", "quick", "rec_ulp", "rfc6675", "shaky",
            "step",
        ],
    );
    pass(out, &["tiny", "udpdev", "udplite", "westwood"]);
    // Its protocol receives two numbers about a packet, and not the packet; the hooks are as others are.
    let (status, said) = check(&out.join("gauge.so"), &["--only", "chosen", "--only", "load", "--only", "two-stacks"]);
    assert_eq!((status, said.contains(" 0 failed, 0 not checked")), (Some(0), true), "{said}");
    let (status, said) = check(&out.join("refuses.so"), &[]);
    assert_eq!((status, said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.ends_with("the moon is in the wrong quarter\n"), "{said}");
}

/// Builds `plugins/broken/FILE.c` with a fault.
fn broken(file: &str, fault: &str) -> PathBuf {
    variant(file, fault, &[])
}

/// The same, with more for the compiler.
fn variant(file: &str, fault: &str, more: &[&str]) -> PathBuf {
    let out = folder().join(format!("{file}-{fault}{}.so", more.concat()));
    let mut cc = Command::new(compiler_name());
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-O1", "-shared"]);
    cc.arg(format!("-DFAULT={fault}")).arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"));
    cc.args(more).arg("-o").arg(&out).arg(format!("{PLUGINS}/broken/{file}.c"));
    let built = cc.output().expect("the compiler starts");
    assert!(built.status.success(), "{}", said(&built));
    out
}

/// The sources, each with faults of its own.
const BROKEN: [&str; 6] = ["datagram", "stream", "cong", "hook", "stack", "layer"];

/// Each fault, the check that finds it, and a part of what it says.
const FAULTS: &[(&str, &str, &str, &str)] = &[
    ("datagram", "ALWAYS_READABLE", "poll", "poll returns POLLIN, and recv EAGAIN"),
    ("datagram", "BUSY_FOREVER", "close", "socks are left"),
    ("datagram", "CLOSE_HANGS", "close", "did not end within"),
    ("datagram", "CRASH_AT_EXIT", "load", "died of SIGSEGV"),
    ("datagram", "EFAULT_IS_EMPTY", "nowhere", "Ok(0), and not EFAULT"),
    ("datagram", "FREED_TWICE", "bytes", "died of SIGABRT: usersock: usk_skb_free: packet"),
    ("datagram", "HELD_SOCK", "close", "socks are left"),
    ("datagram", "IGNORES_DONTWAIT", "nonblock", "recv with MSG_DONTWAIT waits"),
    ("datagram", "IGNORES_TIMEOUT", "timeouts", "with a limit of 1 ms"),
    ("datagram", "LEAKED_MEMORY", "memory", "bytes of memory behind"),
    ("datagram", "LEAKED_PACKET", "bad-link", "packets were never given up"),
    ("datagram", "LEFT_LOCKED", "states-new", "EIO"),
    ("datagram", "LOST_EINTR", "signals", "does not end a recv that waits"),
    ("datagram", "NO_SENDER", "names", "recvmsg says None"),
    ("datagram", "NO_WAKE", "wake", "goes on waiting"),
    ("datagram", "ONE_STACK", "bytes", "on a link without loss"),
    ("datagram", "OWN_CLOCK", "repeat", "with the same seed, packet 0"),
    ("datagram", "PEEK_CONSUMES", "messages", "recv: EAGAIN"),
    ("datagram", "PHANTOM_BYTES", "bytes", "recv: EIO"),
    ("datagram", "REARMS", "close-cut-off", "a timer is still armed"),
    ("datagram", "SURE_OF_ITS_SOCK", "icmp", "died of SIGABRT"),
    ("datagram", "TAKES_CORRUPTION", "bad-link", "that nobody sent"),
    ("datagram", "TRUNCATES", "messages", "not EMSGSIZE"),
    ("datagram", "TRUSTS_LENGTH", "fuzz", "died of SIGSEGV"),
    ("datagram", "WRONG_ERRNO", "states-new", "send: ENOENT"),
    ("stream", "CHILD_LEAKS", "close", "socks are left"),
    ("stream", "DATA_TWICE", "bad-link", "not the one that was sent"),
    ("stream", "NEVER_GIVES_UP", "states-connecting", "not given up within an hour"),
    ("stream", "NO_CLOSE_WAKE", "wake", "the peer has closed, and poll is not woken"),
    ("stream", "NO_END", "states-shut", "the peer has shut down"),
    ("stream", "NO_POLLOUT_WAKE", "full", "goes on waiting"),
    ("stream", "NO_RETRANSMIT", "bad-link", "nothing arrives any more"),
    ("stream", "NO_SIGPIPE", "states-shut", "send succeeds"),
    ("stream", "STUCK_CLOSE", "close", "socks are left"),
    ("stream", "WAITALL_SHORT", "messages", "MSG_WAITALL"),
    ("cong", "BLIND", "cong-loss", "it does not give way"),
    ("cong", "CRASHES", "cong-outage", "died of SIGABRT"),
    ("cong", "EXPLODES", "cong-transfer", "the window was 100000 segments"),
    ("cong", "LEAKED_MEMORY", "cong-memory", "bytes of memory behind"),
    ("cong", "OWN_CLOCK", "cong-repeat", "with the same seed"),
    ("hook", "CHOSEN_CRASHES", "hook-one-sided", "died of SIGABRT"),
    ("hook", "CHOSEN_LATE", "hook-attach", "died of SIGABRT"),
    ("hook", "CRASHES_ALONE", "hook-one-sided", "died of SIGABRT"),
    ("hook", "LEAKED_MEMORY", "hook-memory", "bytes of memory behind"),
    ("hook", "LOUD_CLOCK", "hook-repeat", "with the same seed"),
    ("stack", "BLIND_TAKEOVER", "stack-switch", "nothing arrives any more"),
    ("stack", "CRASHES", "stack-outage", "died of SIGABRT"),
    ("stack", "DROPS_FIN", "stack-transfer", "nothing arrives any more"),
    ("stack", "LEAKED_MEMORY", "stack-memory", "bytes of memory behind"),
    ("stack", "NEVER_LOST", "stack-bad-link", "with loss"),
    ("stack", "NEVER_SENDS", "stack-transfer", "on a link for 100 Mbit/s"),
    ("stack", "OWN_CLOCK", "stack-repeat", "with the same seed"),
    ("stack", "REFUSES", "stack-transfer", "init has refused"),
    ("stack", "TRUSTS_LENGTH", "stack-options", "getsockopt of its option"),
    ("layer", "ALWAYS_WRITABLE", "layer-poll", "send returns EAGAIN, and poll POLLOUT"),
    ("layer", "CLOSE_LOSES", "layer-bad-link", "the end came after"),
    ("layer", "FORGETS", "layer-poll", "arrive at the reader"),
    ("layer", "LOSES", "layer-bytes", "layer-bytes: FAIL"),
    ("layer", "WRONG_BYTES", "layer-bytes", "not the one that was sent"),
];

#[test]
fn each_fault_is_found_by_its_check() {
    let mut wrong = Vec::new();
    for (file, fault, name, why) in FAULTS {
        // A hang must be waited for; what else takes a time is ended by nothing but itself.
        let limit = if *why == "did not end within" { "5" } else { "300" };
        let (status, said) = check(&broken(file, fault), &["--only", name, "--timeout", limit]);
        let found = said.lines().any(|l| l.contains(&format!("/{name}: FAIL ")) && l.contains(why));
        if status != Some(1) || !found {
            wrong.push(format!("{file} {fault}: {status:?} {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_a_fault_the_broken_ones_pass() {
    for file in BROKEN {
        let (status, said) = check(&broken(file, "NONE"), &[]);
        assert!(status == Some(0) && said.contains(" 0 failed, "), "{file}: {said}");
    }
}

/// Two types of sockets on one number, of which the second has its packets by the `rcv` of the first: both are checked
/// as what has a wire.
#[test]
fn two_types_of_sockets_in_the_same_ports_pass() {
    let (status, said) = check(&variant("datagram", "NONE", &["-DTWO_TYPES"]), &[]);
    assert!(status == Some(0) && said.contains("62 checks: 56 ok, 0 failed, 6 not checked"), "{said}");
    assert!(said.contains("BROKEN-SEQ/bad-link: ok\n"), "{said}");
}

/// Every fault of the sources has its row.
#[test]
fn no_fault_is_forgotten() {
    for file in BROKEN {
        let text = std::fs::read_to_string(format!("{PLUGINS}/broken/{file}.c")).expect("the source");
        let list = text.split_once("enum fault {").and_then(|(_, rest)| rest.split_once("};")).expect("its faults").0;
        let word = |l: &str| l.trim().split(',').next().unwrap_or_default().to_owned();
        let mut there: Vec<String> = list.lines().map(word).filter(|w| !w.is_empty() && w != "NONE").collect();
        let of_file = FAULTS.iter().filter(|f| f.0 == file);
        let mut rows: Vec<String> = of_file.map(|f| f.1.to_owned()).collect();
        there.sort();
        rows.sort();
        assert_eq!(there, rows, "{file}");
    }
}

#[test]
fn its_own_mistakes_are_one_line_and_status_2() {
    let none = folder().join("none.so");
    let _ = std::fs::remove_file(&none);
    let tiny = broken("datagram", "NONE");
    let text = folder().join("text.so");
    std::fs::write(&text, "no shared object").expect("written");
    for (file, args) in [
        (&none, &[][..]),
        (&text, &[]),
        (&tiny, &["--only", "no-such-check"]),
        (&tiny, &["--socket", "stream:1", "--only", "poll"]),
        (&tiny, &["--device", "only-one"]),
        (&tiny, &["--seed", "x"]),
    ] {
        let (status, said) = check(file, args);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.starts_with("usersock: ") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn json_and_the_list_name_the_same_checks() {
    let tiny = broken("datagram", "NONE");
    let (status, listed) = check(&tiny, &["--list"]);
    assert_eq!(status, Some(0), "{listed}");
    let listed: Vec<&str> = listed.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(listed.contains(&"plugin/load") && listed.contains(&"BROKEN/bad-link"), "{listed:?}");
    let (status, said) = check(&tiny, &["--json", "--only", "names", "--only", "plugin/load"]);
    let want = "{\"check\":\"plugin/load\",\"result\":\"ok\",\"why\":\"\",\
                \"about\":\"loads, unloads, loads again, ends with its stack\"}\n";
    assert!(status == Some(0) && said.starts_with(want) && said.contains("\"BROKEN/names\""), "{said}");
    assert!(said.ends_with("{\"checks\":2,\"ok\":2,\"failed\":0,\"unchecked\":0}\n"), "{said}");
}

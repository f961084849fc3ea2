//! `usersock run`, `shell`, `ps` and `exec`: as root and as a user without a privilege, over a TUN device and a veth
//! pair, in namespaces that the commands make themselves. Each test has its own directory of instances. What cannot be
//! tried here is skipped, and said. In `server`: what takes a stack server; in `lives`: signals, and who ends with
//! whom.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[path = "run/lives.rs"]
mod lives;
#[path = "run/server.rs"]
mod server;

const LIBRARY: &str = "libusersock_preload.so";

/// The folder of these tests: the command and the preload library, side by side; below `i`, instances.
fn bin() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("run");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("i")).unwrap();
        for path in [&dir, &dir.join("i")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let profile = Path::new(env!("CARGO_BIN_EXE_usersock")).parent().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["build", "--quiet", "--package", "usersock-preload", "--target-dir"])
            .arg(profile.parent().unwrap());
        // Profile `dev` lives in `debug`; every other one in a folder of its own name.
        if profile.file_name().is_some_and(|name| name != "debug") {
            cargo.arg("--profile").arg(profile.file_name().unwrap());
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        fs::copy(profile.join(LIBRARY), dir.join(LIBRARY)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_usersock"), dir.join("usersock")).unwrap();
        dir
    })
}

/// Who runs the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Whoever runs the test.
    Own,
    /// One without a privilege, where the test has one to give up.
    Nobody,
}

const NOBODY: &str = "65534";

/// Users that can be tried here: root is both.
fn users() -> Vec<User> {
    // Nobody must be able to come to the command.
    let open = |dir: &Path| fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 1 != 0);
    if is_root() && bin().ancestors().all(open) { vec![User::Own, User::Nobody] } else { vec![User::Own] }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The command's invocation by a user; `name` is the test's, whose instances are its own.
fn command(user: User, name: &str) -> Command {
    program(user, name, bin().join("usersock").as_os_str())
}

/// The same of another program.
fn program(user: User, name: &str, program: &OsStr) -> Command {
    let instances = bin().join("i").join(format!("{name}-{user:?}"));
    if !instances.exists() {
        fs::create_dir(&instances).unwrap();
        fs::set_permissions(&instances, fs::Permissions::from_mode(0o700)).unwrap();
        if user == User::Nobody {
            std::os::unix::fs::chown(&instances, Some(65534), Some(65534)).unwrap();
        }
    }
    let mut c = match user {
        User::Own => Command::new(program),
        User::Nobody => {
            let mut c = Command::new("setpriv");
            c.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
            c
        }
    };
    for variable in ["USERSOCK_CONFIG", "USERSOCK_INSTANCE", "USERSOCK_OWNER", "USERSOCK_PRELOAD", "LD_PRELOAD"] {
        c.env_remove(variable);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    c.env("USERSOCK_DIR", instances).env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin:{path}", bin().display()));
    c.stdin(Stdio::null());
    c
}

fn usersock(user: User, name: &str, args: &[&str]) -> Output {
    command(user, name).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether instances can be made here; when not, why is said, as a skip.
fn possible(name: &str) -> bool {
    for user in users() {
        let out = usersock(user, name, &["run", "--in-process", "--", "true"]);
        if !out.status.success() {
            println!("SKIP {name}: {user:?}: {}", text(&out.stderr).trim());
            return false;
        }
    }
    true
}

/// The instances' directory of a test: what is left behind.
fn left(user: User, name: &str) -> Vec<String> {
    let dir = bin().join("i").join(format!("{name}-{user:?}"));
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits for something that comes at once where nothing else runs; else, after two minutes, the test has failed.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{what}");
        sleep(Duration::from_millis(10));
    }
}

/// The devices that can be tried by this user.
fn devices(user: User) -> Vec<&'static str> {
    let tun = match user {
        User::Own => fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok(),
        User::Nobody => fs::metadata("/dev/net/tun").is_ok_and(|m| m.permissions().mode() & 0o006 == 0o006),
    };
    if tun { vec!["--tun", "--packet"] } else { vec!["--packet"] }
}

#[test]
fn the_program_has_a_network_of_its_own_and_is_the_user_it_was() {
    let name = "network";
    if !possible(name) {
        return;
    }
    for user in users() {
        for device in devices(user) {
            let script = "id -u; ip -o address; ip -o link show dev tun0 2>/dev/null; echo $USERSOCK_CONFIG";
            let out = usersock(user, name, &["run", "--in-process", device, "--mtu", "1400", "--", "sh", "-c", script]);
            let said = text(&out.stdout);
            assert!(out.status.success(), "{user:?} {device}: {}", text(&out.stderr));
            let uid = if user == User::Nobody { NOBODY.to_owned() } else { nix::unistd::geteuid().to_string() };
            assert_eq!(said.lines().next(), Some(&*uid), "{said}");
            let kernel = if device == "--tun" { "tun0" } else { "veth0" };
            for want in ["127.0.0.1/8", "10.0.0.1/24", "fd75:7365:7273::1/64", kernel] {
                assert!(said.contains(want), "{user:?} {device} {want}: {said}");
            }
            // What many connections send at once is not lost in front of the stack.
            assert_eq!(said.contains(" qlen 5000"), device == "--tun", "{said}");
            assert!(!said.contains("veth1 "), "the stack's end has no address of the kernel's: {said}");
            let stack = if device == "--tun" { "tun=tun0" } else { "packet=veth1,mac=02:75:73:65:72:73" };
            let want = format!("{stack},addr=10.0.0.2/24,gw=10.0.0.1,addr=fd75:7365:7273::2/64");
            assert!(said.lines().last().is_some_and(|line| line.starts_with(&want)), "{said}");
            assert_eq!(left(user, name), [""; 0]);
        }
    }
    let out = usersock(users()[users().len() - 1], name, &["run", "--in-process", "--root", "--", "id", "-u"]);
    assert_eq!(text(&out.stdout), "0\n", "{}", text(&out.stderr));
}

/// With the stack in the program, and in a server.
const MODES: [&str; 2] = ["--in-process", ""];

/// A server and a client on the kernel's side of a shell, `usersock run` on the other.
const BOTH_WAYS: &str = r#"
set -e
python3 -m http.server -b 10.0.0.1 8000 >log 2>&1 &
kernel=$!
until grep -q Serving log; do sleep 0.05; done
usersock run $2 --strict $1 -- curl -sS http://10.0.0.1:8000/file | cmp - file
usersock run $2 --strict $1 --instance web -- python3 -m http.server -b :: 80 >log2 2>&1 &
ours=$!
until curl -gsS -o got http://10.0.0.2/file && curl -gsS -o got6 'http://[fd75:7365:7273::2]/file'; do sleep 0.1; done
cmp got file
cmp got6 file
usersock ss -N web -tln | grep -q ':80 '
kill $kernel $ours
wait
"#;

#[test]
fn a_shell_is_on_the_kernel_s_side_and_run_in_it_on_ours() {
    let name = "both";
    if !possible(name) {
        return;
    }
    for user in users() {
        for (device, mode) in devices(user).into_iter().flat_map(|device| MODES.map(|mode| (device, mode))) {
            let dir = bin().join(format!("work-{user:?}{device}{mode}"));
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
            fs::write(dir.join("file"), (0..300_000u32).map(|i| (i.wrapping_mul(7919) >> 5) as u8).collect::<Vec<_>>())
                .unwrap();
            let mut c = command(user, name);
            c.args(["shell", device, "--", "sh", "-c", BOTH_WAYS, "sh", "--link=delay=1ms,loss=1%,seed=3", mode]);
            let out = c.current_dir(&dir).env_remove("http_proxy").output().unwrap();
            assert!(out.status.success(), "{user:?} {device} {mode}: {}{}", text(&out.stdout), text(&out.stderr));
            until("the instances are gone", || left(user, name).is_empty());
        }
    }
}

#[test]
fn the_exit_status_is_the_program_s() {
    let name = "status";
    if !possible(name) {
        return;
    }
    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)] {
        for (user, mode) in users().iter().flat_map(|user| MODES.map(|mode| (*user, mode))) {
            let all = ["run", mode, "--", "sh", "-c", script];
            let args: Vec<&str> = all.into_iter().filter(|a| !a.is_empty()).collect();
            let out = usersock(user, name, &args);
            assert_eq!(out.status.code(), Some(want), "{script}: {}", text(&out.stderr));
            assert_eq!(left(user, name), [""; 0], "{script}");
        }
    }
    // A real-time signal has no name in every library.
    let out = usersock(User::Own, name, &["run", "--in-process", "--", "sh", "-c", "kill -40 $$"]);
    assert_eq!(out.status.code(), Some(128 + 40));
}

/// Starts a script and waits for the line `ready`.
fn ready(user: User, name: &str, args: &[&str], script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut c = command(user, name);
    c.args(args).args(["--", "sh", "-c", script]).stdout(Stdio::piped());
    let mut child = c.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{script}");
    (child, out)
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

/// Whether a process is in a network namespace.
fn held(namespace: &str) -> bool {
    let links = fs::read_dir("/proc").unwrap().flatten();
    links.filter_map(|e| fs::read_link(e.path().join("ns/net")).ok()).any(|link| link.as_os_str() == namespace.trim())
}

#[test]
fn under_strict_the_kernel_makes_no_tcp_socket() {
    let name = "strict";
    if !possible(name) {
        return;
    }
    // Without the preload library, as a program that escapes it.
    let script = "import os, socket, sys\n\
                  for family, kind in [(2, 1), (10, 1), (2, 2), (1, 1)]:\n\
                  \x20   try: socket.socket(family, kind); print('made')\n\
                  \x20   except OSError as e: print(os.strerror(e.errno))\n";
    let args = ["run", "--in-process", "--strict", "--", "env", "-u", "LD_PRELOAD", "python3", "-c", script];
    for user in users() {
        let out = usersock(user, name, &args);
        let want = "Permission denied\nPermission denied\nmade\nmade\n";
        assert_eq!(text(&out.stdout), want, "{user:?}: {}", text(&out.stderr));
    }
}

#[test]
fn programs_that_the_library_would_not_reach_are_refused() {
    let name = "elf";
    let dir = bin().join("elf");
    fs::create_dir_all(&dir).unwrap();
    let source = dir.join("main.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let build = |file: &str, flags: &[&str]| {
        let path = dir.join(file);
        let built = Command::new("cc").args(flags).arg("-o").arg(&path).arg(&source).output().unwrap();
        built.status.success().then_some(path)
    };
    let plain = build("plain", &[]).expect("a C compiler");
    let setuid = dir.join("setuid");
    fs::copy(&plain, &setuid).unwrap();
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&setuid, Some(65534), None).unwrap();
        fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    }
    // EI_CLASS of a 32-bit program: few systems have the C library to build a whole one.
    let narrow = dir.join("narrow");
    let mut bytes = fs::read(&plain).unwrap();
    bytes[4] = 1;
    fs::write(&narrow, bytes).unwrap();
    fs::set_permissions(&narrow, fs::Permissions::from_mode(0o755)).unwrap();
    let script = dir.join("script");
    let mut rows = vec![
        (build("static", &["-static"]), "it is statically linked"),
        (Some(narrow), "it is a 32-bit program"),
        (build("musl", &["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]), "its C library is another one"),
        (is_root().then_some(setuid), "it is setuid"),
    ];
    if let Some(interpreter) = &rows[0].0 {
        fs::write(&script, format!("#!{}\n", interpreter.display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        rows.push((Some(script), "which runs"));
    }
    for (program, want) in rows {
        let Some(program) = program else {
            println!("SKIP programs_that_the_library_would_not_reach_are_refused: no program of which: {want}");
            continue;
        };
        let out = usersock(User::Own, name, &["run", "--in-process", "--", program.to_str().unwrap()]);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(126), 1), "{said}");
        assert!(said.contains(want), "{said}");
    }
}

#[test]
fn wrong_arguments_are_one_line_and_status_2() {
    let name = "arguments";
    for (args, want) in [
        (&["run", "--in-process"][..], "PROGRAM"),
        (&["run"], "PROGRAM"),
        (&["run", "--in-process", "--bogus", "--", "true"], "--bogus"),
        (&["run", "--in-process", "--tun", "--packet", "--", "true"], "cannot be used with"),
        (&["run", "--in-process", "--root", "--keep-uid", "--", "true"], "cannot be used with"),
        (&["run", "--in-process", "--addr", "10.0.0.2", "--", "true"], "--addr 10.0.0.2: not ADDRESS/LENGTH"),
        (&["run", "--in-process", "--addr", "10.0.0.2/32", "--", "true"], "no room for the kernel's end"),
        (&["run", "--in-process", "--addr", "224.0.0.2/24", "--", "true"], "not an address that a host can have"),
        (&["run", "--in-process", "--addr", "10.0.0.255/24", "--", "true"], "--addr 10.0.0.255/24: the network's own"),
        (&["run", "--in-process", "--addr", "::1/64", "--", "true"], "--addr ::1/64: not an address that"),
        (&["run", "--in-process", "--gw", "10.0.1.1", "--", "true"], "--gw 10.0.1.1: not in the network"),
        (&["run", "--in-process", "--gw", "10.0.0.0", "--", "true"], "--gw 10.0.0.0: the network's own"),
        (&["run", "--in-process", "--gw", "nowhere", "--", "true"], "nowhere"),
        (&["run", "--in-process", "--mtu", "60", "--", "true"], "60"),
        (&["run", "--mtu", "1279", "--addr", "fd00::2/64", "--", "true"], "--mtu 1279: IPv6 needs 1280"),
        (&["run", "--in-process", "--sysctl", "net.ipv4.tcp_sack", "--", "true"], "not NAME=VALUE"),
        (&["run", "--in-process", "--sysctl", "net.ipv4.tcp_sakc=1", "--", "true"], "the nearest is net.ipv4.tcp_sack"),
        (&["run", "--in-process", "--pcap", "/no/such/x.pcap", "--", "true"], "pcap=/no/such/x.pcap: cannot be"),
        (&["run", "--in-process", "--pcap", "/tmp/a,b", "--", "true"], "a value with a comma"),
        (&["run", "--in-process", "--link", "loss=200%", "--", "true"], "loss=200%: a share as 1%"),
        (&["run", "--in-process", "--link", "lag=1ms", "--", "true"], "known are delay"),
        (&["run", "--in-process", "--link", "", "--", "true"], "--link: nothing is said"),
        (&["run", "--in-process", "--plugin", "/no/such.so", "--", "true"], "/no/such.so: no such file"),
        (&["run", "--in-process", "--instance", "a/b", "--", "true"], "a name has 1 to 64 letters"),
        (&["shell", "--addr", "10.0.0.2/33"], "--addr 10.0.0.2/33: not ADDRESS/LENGTH"),
        (&["exec"], "NAME"),
        (&["exec", "nobody", "--", "true"], "nobody: no such instance; none runs"),
        (&["ps", "extra"], "extra"),
    ] {
        let out = usersock(User::Own, name, args);
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(2), 1), "{args:?}: {said}");
        assert!(said.starts_with("usersock: ") && said.contains(want), "{args:?}: {said}");
        assert_eq!(left(User::Own, name), [""; 0], "{args:?}");
    }
    for (program, status) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        let out = usersock(User::Own, name, &["run", "--in-process", "--", program]);
        assert_eq!((out.status.code(), text(&out.stderr).lines().count()), (Some(status), 1), "{program}");
    }
}

#[test]
fn help_has_examples_and_a_closed_pipe_is_no_panic() {
    for sub in ["run", "shell", "ps", "exec"] {
        let out = usersock(User::Own, "help", &[sub, "--help"]);
        assert!(out.status.success() && text(&out.stdout).contains(&format!("Examples:\n  usersock {sub}")), "{sub}");
        let unread = std::io::pipe().unwrap().1;
        let mut closed = command(User::Own, "help");
        let out = closed.args([sub, "--help"]).stdout(unread).output().unwrap();
        assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()), "{sub}");
    }
}

/// A host with a server on its loopback, and a name server, in a network namespace that stands for the machine's: $1
/// is a user's prefix, $2 a device node that the user may open. The host's loopback is its gateway's address to pasta.
const HOST: &str = r#"
set -e
mount --bind "$2" /dev/net/tun
echo nameserver 127.0.0.1 >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip link set eth1 up
ip route add default via 192.0.2.1
python3 -m http.server -b 127.0.0.1 8000 >log 2>&1 &
python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 53))
print("Serving", flush=True)
while True:
    q, peer = s.recvfrom(512)
    end = q.index(0, 12) + 5
    ipv4 = q[end - 4:end - 2] == bytes([0, 1])
    answer = bytes([192, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 1]) if ipv4 else b""
    s.sendto(q[:2] + bytes([129, 128, 0, 1, 0, ipv4, 0, 0, 0, 0]) + q[12:end] + answer, peer)
' >names 2>&1 &
until grep -q Serving log && grep -q Serving names; do sleep 0.05; done
for device in --tun --packet; do
    $1 usersock run --in-process --strict --outside $device -- curl -sS -m 100 http://host.example:8000/page
done
kill %1 %2
"#;

#[test]
fn outside_is_the_host_s_network_by_pasta() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let name = "outside_is_the_host_s_network_by_pasta";
    let mut without = command(User::Own, "outside");
    let out =
        without.args(["run", "--in-process", "--outside", "--", "/bin/true"]).env("PATH", "/no").output().unwrap();
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(125), 1), "{said}");
    assert!(said.contains("--outside: pasta is not installed") && said.contains("package passt"), "{said}");
    if !is_root() || Command::new("pasta").arg("--version").output().is_err() || !possible("outside") {
        return println!("SKIP {name}: it takes root, and pasta (package passt)");
    }
    for user in users() {
        let dir = bin().join(format!("host-{user:?}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("page"), "hello\n").unwrap();
        let node = dir.join("tun");
        let made = mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200));
        if let Err(e) = made {
            return println!("SKIP {name}: no device node can be made: {e}");
        }
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
        let prefix = match user {
            User::Own => "",
            User::Nobody => "setpriv --reuid 65534 --regid 65534 --clear-groups",
        };
        let inner = command(user, "outside");
        let mut c = Command::new("unshare");
        c.args(["-n", "-m", "bash", "-c", HOST, "bash", prefix]).arg(&node).current_dir(&dir).stdin(Stdio::null());
        c.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let out = c.env_remove("http_proxy").env_remove("LD_PRELOAD").output().unwrap();
        assert!(out.status.success(), "{user:?}: {}", text(&out.stderr));
        assert_eq!(text(&out.stdout), "hello\nhello\n", "{user:?}: {}", text(&out.stderr));
        assert_eq!(left(user, "outside"), [""; 0]);
    }
}

#[test]
fn where_no_user_namespace_may_be_made_the_setting_is_named() {
    let name = "refused";
    if !possible(name) {
        return;
    }
    // In a user namespace of the test's own, below which there may be none.
    let program = "echo 0 >/proc/sys/user/max_user_namespaces 2>/dev/null || exit 99; \
                   exec setpriv --bounding-set -all --inh-caps -all usersock run --in-process -- true";
    let inner = command(User::Own, name);
    let mut c = Command::new("unshare");
    c.args(["--user", "--map-root-user", "sh", "-c", program]).stdin(Stdio::null());
    c.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let out = c.output().unwrap();
    if out.status.code() == Some(99) {
        return println!("SKIP where_no_user_namespace_may_be_made: /proc/sys/user cannot be written");
    }
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(125), 1), "{said}");
    assert!(said.contains("user.max_user_namespaces is 0") && said.contains("sudo sysctl -w"), "{said}");
}

/// An accepted connection that stays as the handshake left it, until its peer closes.
const ACCEPTED: &str = "
import socket, sys
a = socket.create_server(('10.0.0.2', 7000))
print('ready', flush=True)
c, _ = a.accept()
print('accepted', flush=True)
c.recv(1)
";

#[test]
fn the_handshake_of_an_accepted_connection_measures_the_round_trip() {
    let name = "rtt";
    if !possible(name) {
        return;
    }
    for device in devices(User::Own) {
        let mut c = command(User::Own, name);
        c.args(["run", device, "--instance", "rtt", "--", "python3", "-c", ACCEPTED]).stdout(Stdio::piped());
        let mut server = c.spawn().unwrap();
        let mut said = BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let wait = "import socket, sys; c = socket.create_connection(('10.0.0.2', 7000)); sys.stdin.read(1)";
        let mut c = command(User::Own, name);
        let mut client = c.args(["exec", "rtt", "--", "python3", "-c", wait]).stdin(Stdio::piped()).spawn().unwrap();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\naccepted\n");
        let shown = text(&usersock(User::Own, name, &["ss", "-N", "rtt", "-tin", "state", "established"]).stdout);
        drop(client.stdin.take());
        assert!(client.wait().unwrap().success() && server.wait().unwrap().success());
        assert!(shown.contains(" rtt:"), "{device}: {shown}");
    }
}

/// A daemon that serves from two processes, and a program that outlives the one that was started.
const DAEMON: &str = r#"
cat > serve.py <<'END'
import os, socket
a = socket.create_server(("10.0.0.2", 7000))
if os.fork(): os._exit(0)
os.setsid(); os.fork()
while True:
    c, _ = a.accept(); c.sendall(b"%d\n" % os.getpid()); c.close()
END
exec python3 serve.py > /dev/null 2>&1
"#;

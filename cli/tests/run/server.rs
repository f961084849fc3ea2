//! Programs on the stack server of `usersock run`: daemons, its end, who holds its sockets, few descriptors.

use super::*;

#[test]
fn a_daemon_on_the_stack_server_goes_on_until_its_last_process_ends() {
    let name = "daemon";
    if !possible(name) {
        return;
    }
    for user in users() {
        let dir = bin().join(format!("daemon-{user:?}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let mut c = command(user, name);
        let out = c.args(["run", "--instance", "d", "--", "sh", "-c", DAEMON]).current_dir(&dir).output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stderr));
        let ask = "import socket; s = socket.create_connection(('10.0.0.2', 7000), 100); print(s.recv(99).decode())";
        let mut seen = std::collections::BTreeSet::new();
        until("both processes answer", || {
            let out = usersock(user, name, &["exec", "d", "--", "python3", "-c", ask]);
            seen.extend(text(&out.stdout).trim().parse::<i32>().ok());
            seen.len() == 2
        });
        let listed = text(&usersock(user, name, &["ps", "-j"]).stdout);
        assert!(seen.iter().any(|pid| listed.contains(&format!("\"pid\":{pid},"))), "{seen:?}: {listed}");
        for pid in seen {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        until("the instance is gone", || left(user, name).is_empty());
    }
}

#[test]
fn who_waits_for_a_connection_is_told_that_the_stack_server_was_killed() {
    let name = "stackless";
    if !possible(name) {
        return;
    }
    for user in users() {
        let out = usersock(user, name, &["run", "--", "python3", "-c", include_str!("server_killed.py")]);
        let said = "accept ENETDOWN ENETDOWN\npoll ENETDOWN ENETDOWN\nepoll ENETDOWN ENETDOWN\n".to_owned()
            + &"crowd ENETDOWN ENETDOWN ENETDOWN ENETDOWN\n".repeat(3);
        assert_eq!(text(&out.stdout), said, "{user:?}: {}", text(&out.stderr));
    }
}

/// A listener and a duplicate of it, which a child has, too; then the numbers of both processes and the descriptors.
const SHARED: &str = r#"
import os, socket
a = socket.create_server(("10.0.0.2", 7000)); b = os.dup(a.fileno())
r, w = os.pipe()
child = os.fork()
if not child: os.close(w); os.read(r, 1); os._exit(0)
print(os.getpid(), child, a.fileno(), b, os.fstat(b).st_ino, flush=True)
input()
"#;

#[test]
fn ss_names_every_program_that_holds_a_socket_of_the_stack_server() {
    let name = "holders";
    if !possible(name) {
        return;
    }
    for user in users() {
        let mut c = command(user, name);
        let run = c.args(["run", "--", "python3", "-c", SHARED]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut run = run.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [parent, child, a, b, inode] = words[..] else { panic!("{line:?}") };
        let one = |pid: &str, fd: &str| format!("(\"python3\",pid={pid},fd={fd})");
        let mut pids = [parent, child];
        pids.sort_by_key(|pid| pid.parse::<u32>().unwrap());
        let all: Vec<String> = pids.iter().flat_map(|pid| [one(pid, a), one(pid, b)]).collect();
        let shown = text(&usersock(user, name, &["ss", "-tlnpeH"]).stdout);
        assert!(shown.contains(&format!("users:({}) ", all.join(","))), "{user:?}: {line}{shown}");
        assert!(shown.contains(&format!(" ino:{inode} ")), "{user:?}: {line}{shown}");
        let json: serde_json::Value = serde_json::from_slice(&usersock(user, name, &["ss", "-tlj"]).stdout).unwrap();
        assert_eq!(json[0]["users"].as_array().unwrap().len(), 4, "{json}");
        assert_eq!(json[0]["inode"].to_string(), inode);
        drop(run.stdin.take());
        assert!(run.wait().unwrap().code().is_some());
    }
}

/// A connection whose peer does not read, filled; one that nobody has accepted. Then their ports and the bytes that
/// were taken.
const UNREAD: &str = r#"
import socket
l = socket.create_server(("10.0.0.2", 7000))
l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
c = socket.create_connection(l.getsockname())
a, _ = l.accept()
w = socket.create_connection(l.getsockname())
c.setblocking(False)
sent = 0
try:
    while True: sent += c.send(b"x" * 100000)
except BlockingIOError:
    pass
a.send(b"seven b")
print(c.getsockname()[1], w.getsockname()[1], sent, flush=True)
input()
"#;

/// Bytes that a program has not read are in its descriptor, in the server and in the stack, and so are those that it
/// has written: each is counted once.
#[test]
fn ss_counts_what_programs_of_the_stack_server_have_not_read() {
    let name = "unread";
    if !possible(name) {
        return;
    }
    let user = users()[0];
    let mut c = command(user, name);
    let run = c.args(["run", "--", "python3", "-c", UNREAD]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [full, waits, sent] = words[..] else { panic!("{line:?}") };
    let bytes = |v: &serde_json::Value, key| v[key].as_u64().unwrap();
    until("nothing is on the way", || {
        let json: Vec<serde_json::Value> =
            serde_json::from_slice(&usersock(user, name, &["ss", "-taj"]).stdout).unwrap();
        let find = |key, number| json.iter().find(|v| v[key] == number && v["state"] != "LISTEN").unwrap();
        let (writer, reader) = (find("local_port", full), find("peer_port", full));
        let listener = json.iter().find(|v| v["state"] == "LISTEN").unwrap();
        let queued = bytes(writer, "send_q") + bytes(reader, "recv_q");
        // What is not acknowledged yet is in both queues.
        let small = [(writer, 7), (find("peer_port", waits), 0), (listener, 1)];
        queued == sent && bytes(reader, "send_q") == 0 && small.iter().all(|(v, n)| bytes(v, "recv_q") == *n)
    });
    drop(run.stdin.take());
    assert!(run.wait().unwrap().code().is_some());
}

/// Connects to the kernel's side until something refuses, and once more when all is closed.
const MANY: &str = r#"
import errno, socket
held, code = [], None
while code is None and len(held) < 200:
    try:
        held.append(socket.socket())
        held[-1].connect(("10.0.0.1", 7100))
    except OSError as e:
        code = errno.errorcode[e.errno]
print(code, flush=True)
for s in held:
    s.close()
while True:
    try:
        print(socket.create_connection(("10.0.0.1", 7100)).recv(2).decode(), flush=True)
        break
    except OSError as e:
        assert e.errno == errno.ENOBUFS, e
"#;

/// More connections than the server has descriptors for: what the first and the last of them hear.
const CROWD: &str = r#"
import errno, socket, subprocess
held = []
while len(held) < 60:
    held.append(socket.socket())
    # The reset may be there before it returns.
    error = held[-1].connect_ex(("10.0.0.2", 7100))
print(held[0].recv(2).decode())
try:
    print(errno.errorcode[error] if error else held[-1].recv(2))
except OSError as e:
    print(errno.errorcode[e.errno])
print(subprocess.run(["usersock", "ss", "-Htn"], stdout=subprocess.PIPE).stdout.count(b"ESTAB"))
"#;

/// With few descriptors a program of the stack server finds its own limit, not the server's, where the server may raise
/// that; where it may not, the program is refused and does not wait.
#[test]
fn few_descriptors_are_an_error_and_no_hang() {
    let name = "few";
    if !possible(name) {
        return;
    }
    let serve = "import socket\na = socket.create_server(('10.0.0.1', 7100), backlog=300)\nheld = []\n\
                 while True:\n held.append(a.accept()[0])\n held[-1].send(b'ok')\n";
    // CAP_SYS_RESOURCE, number 24.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:\t")).unwrap();
    let may_raise = u64::from_str_radix(caps, 16).unwrap() >> 24 & 1 == 1;
    for user in users() {
        for (limit, own) in [("-S", true), ("-SH", may_raise && user == User::Own)] {
            let script = "python3 -c \"$0\" & until ss -Htln | grep -q :7100; do sleep 0.05; done; \
                          (ulimit $2 -n 64; timeout 60 usersock run -- python3 -c \"$1\"); kill $!; wait";
            let out = usersock(user, name, &["shell", "--", "bash", "-c", script, serve, MANY, limit]);
            let want = if own { "EMFILE\nok\n" } else { "ENOBUFS\nok\n" };
            assert_eq!(text(&out.stdout), want, "{user:?} {limit}: {}", text(&out.stderr));
            assert_eq!(left(user, name), [""; 0]);
            if own {
                continue;
            }
            // What is one too many is reset, and who looks into the stack is answered.
            let script = "(ulimit -SH -n 64; exec usersock run --instance full -- python3 -c \"$0\") & \
                          until usersock ss -Htln 2>/dev/null | grep -q :7100; do sleep 0.05; done; \
                          usersock exec full -- python3 -c \"$1\"; kill $!; wait";
            let take = serve.replace("10.0.0.1", "10.0.0.2");
            let out = program(user, name, "bash".as_ref()).args(["-c", script, &take, CROWD]).output().unwrap();
            let said = text(&out.stdout);
            let lines: Vec<&str> = said.lines().collect();
            let [first, reset, left_over] = lines[..] else { panic!("{said}{}", text(&out.stderr)) };
            assert_eq!((first, reset), ("ok", "ECONNRESET"), "{}", text(&out.stderr));
            assert!((8..56).contains(&left_over.parse::<usize>().unwrap()), "{said}");
            assert_eq!(left(user, name), [""; 0]);
        }
    }
}

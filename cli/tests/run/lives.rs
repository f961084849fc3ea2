//! The lives of a program, its instance and the processes that keep it: signals, who is killed, and what is left.

use super::*;

#[test]
fn signals_reach_the_program_and_its_mask_is_the_caller_s() {
    use nix::sys::signal::Signal;
    let name = "signals";
    if !possible(name) {
        return;
    }
    // A loop that starts no program: dash drops a signal that comes while it is in vfork.
    for (sent, script, want) in [
        (Signal::SIGTERM, "trap 'exit 5' TERM; echo ready; while :; do :; done", 5),
        (Signal::SIGUSR1, "trap 'exit 6' USR1; echo ready; while :; do :; done", 6),
        (Signal::SIGUSR2, "echo ready; exec sleep 60", 140),
    ] {
        let (mut child, _out) = ready(User::Own, name, &["run", "--in-process"], script);
        signal(child.id(), sent);
        assert_eq!(child.wait().unwrap().code(), Some(want), "{script}");
    }
    let out = usersock(User::Own, name, &["run", "--in-process", "--", "grep", "SigBlk", "/proc/self/status"]);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find(|line| line.starts_with("SigBlk")).unwrap();
    assert_eq!(text(&out.stdout).trim_end(), own);
}

#[test]
fn who_kills_the_launcher_kills_the_program_and_nothing_is_left() {
    let name = "killed";
    if !possible(name) {
        return;
    }
    for user in users() {
        // A child in another session, too.
        let script = "setsid sleep 61 & echo ready; readlink /proc/$$/ns/net; exec sleep 62";
        let (mut child, mut out) = ready(user, name, &["run", "--in-process"], script);
        let mut namespace = String::new();
        out.read_line(&mut namespace).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        until("the instance is gone", || left(user, name).is_empty());
        until("no process is in the namespace", || !held(&namespace));
    }
}

#[test]
fn what_the_program_leaves_behind_goes_on_and_then_nothing_is_left() {
    let name = "daemons";
    if !possible(name) {
        return;
    }
    // Whether the helper finds the program alive, whose stack it is, is not to be chance.
    let script = "setsid sh -c 'echo >$0.ready; while [ ! -e $0 ]; do sleep 0.05; done' $0 </dev/null >/dev/null 2>&1 &
                  until [ -e $0.ready ]; do sleep 0.02; done; exit 3";
    let stop = bin().join("daemons-stop");
    let out = command(User::Own, name)
        .args(["run", "--in-process", "--instance", "left", "--", "sh", "-c", script])
        .arg(&stop)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    let listed = text(&usersock(User::Own, name, &["ps"]).stdout);
    assert!(listed.lines().any(|line| line.starts_with("left ")), "{listed}");
    let inside = usersock(User::Own, name, &["exec", "left", "--", "ip", "-o", "address"]);
    assert!(text(&inside.stdout).contains("10.0.0.1/24"), "{}", text(&inside.stderr));
    fs::write(&stop, "").unwrap();
    until("the instance is gone", || left(User::Own, name).is_empty());
    assert_eq!(text(&usersock(User::Own, name, &["ps", "-j"]).stdout), "[]\n");
}

#[test]
fn ps_lists_what_runs_and_removes_what_was_killed() {
    let name = "ps";
    if !possible(name) {
        return;
    }
    for user in users() {
        let script = "setsid sleep 61 & echo ready; readlink /proc/$$/ns/net; exec sleep 60";
        let (mut child, mut out) = ready(user, name, &["run", "--in-process", "--instance", "one"], script);
        let mut namespace = String::new();
        out.read_line(&mut namespace).unwrap();
        let again = usersock(user, name, &["run", "--in-process", "--instance", "one", "--", "true"]);
        assert_eq!(again.status.code(), Some(2));
        assert!(text(&again.stderr).contains("--instance one: there is one already"), "{}", text(&again.stderr));
        let listed = text(&usersock(user, name, &["ps"]).stdout);
        let words: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!((words[0], words[2]), ("one", "in-process"), "{listed}");
        assert_eq!(words[4], "10.0.0.2,fd75:7365:7273::2");
        let json = text(&usersock(user, name, &["ps", "-j"]).stdout);
        assert!(json.starts_with("[{\"name\":\"one\",\"pid\":") && json.ends_with("}]\n"), "{json}");
        let inside = usersock(user, name, &["exec", "one", "--", "ip", "-o", "address"]);
        assert!(text(&inside.stdout).contains("10.0.0.1/24"), "{}", text(&inside.stderr));
        let none = usersock(user, name, &["exec", "two", "--", "true"]);
        assert_eq!(none.status.code(), Some(2));
        assert!(text(&none.stderr).contains("two: no such instance; there is one"), "{}", text(&none.stderr));
        // The keeper is killed: the program goes with it, and its child; the directory stays until somebody looks.
        let info = bin().join("i").join(format!("{name}-{user:?}")).join("one/info");
        let info = fs::read_to_string(info).unwrap();
        let keeper = info.lines().find_map(|line| line.strip_prefix("keeper=")).unwrap().parse().unwrap();
        signal(keeper, nix::sys::signal::Signal::SIGKILL);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(125));
        assert!(!held(&namespace), "a process is in the namespace");
        assert_eq!(left(user, name), ["one"]);
        assert_eq!(text(&usersock(user, name, &["ps"]).stdout).lines().count(), 1);
        assert_eq!(left(user, name), [""; 0]);
    }
}

/// The launcher is the next parent of the instance's processes, and of those that its own children from before leave.
#[test]
fn when_the_keeper_is_killed_only_processes_of_the_instance_die() {
    let name = "orphans";
    if !possible(name) {
        return;
    }
    for user in users() {
        let dir = bin().join("i").join(format!("{name}-{user:?}"));
        let script = r#"
            sh -c 'sleep 63 >/dev/null & echo $! $$; wait' &
            exec env --ignore-signal=CHLD usersock run --in-process --instance one -- sh -c '
                setsid sleep 61 & setsid sleep 62 & echo; readlink /proc/$$/ns/net; exec sleep 60'
        "#;
        let mut c = program(user, name, "sh".as_ref());
        let mut launcher = c.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(launcher.stdout.take().unwrap());
        let mut lines: Vec<String> = Vec::new();
        while lines.iter().filter(|line| !line.is_empty()).count() < 2 {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "{lines:?}");
            lines.push(line.trim().to_owned());
        }
        let namespace = lines.iter().find(|line| line.starts_with("net:")).unwrap();
        let pids = lines.iter().find(|line| line.contains(' ')).unwrap();
        let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
        let [other, parent] = pids[..] else { panic!("{pids:?}") };
        let kill = nix::sys::signal::Signal::SIGKILL;
        let status = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        signal(parent, kill);
        until("no new parent", || status(other).contains(&format!("PPid:\t{}\n", launcher.id())));
        let info = fs::read_to_string(dir.join("one/info")).unwrap();
        let keeper = info.lines().find_map(|line| line.strip_prefix("keeper=")).unwrap().parse().unwrap();
        signal(keeper, kill);
        assert_eq!(launcher.wait().unwrap().code(), Some(125));
        assert!(!held(&format!("{namespace}\n")), "a process is in the namespace");
        assert!(status(other).contains("State:\tS"), "{}", status(other));
        signal(other, kill);
        assert_eq!(text(&usersock(user, name, &["ps"]).stdout).lines().count(), 1);
        assert_eq!(left(user, name), [""; 0]);
    }
}

/// A shell that ignores SIGCHLD, SIGPIPE or SIGHUP starts programs that ignore them, with usersock between or not.
#[test]
fn signals_that_the_caller_ignores_stay_ignored() {
    let name = "ignored";
    if !possible(name) {
        return;
    }
    let show = ["grep", "^SigIgn", "/proc/self/status"];
    for user in users() {
        let mut holder = command(user, name);
        let held = ["run", "--in-process", "--instance", "held", "--", "cat"];
        let mut holder = holder.args(held).stdin(Stdio::piped()).spawn().unwrap();
        until("no instance", || text(&usersock(user, name, &["ps"]).stdout).contains("held"));
        for ignored in ["CHLD", "PIPE", "CHLD,PIPE,HUP", ""] {
            let said = |before: &[&str]| {
                let mut c = program(user, name, "env".as_ref());
                let how = if ignored.is_empty() { "--default-signal" } else { "--ignore-signal" };
                let signals = if ignored.is_empty() { "CHLD,PIPE,HUP" } else { ignored };
                let out = c.arg(format!("{how}={signals}")).args(before).args(show).output().unwrap();
                assert!(out.status.success(), "{before:?}: {}", text(&out.stderr));
                text(&out.stdout)
            };
            let plain = said(&[]);
            for way in [&["run", "--in-process", "--"][..], &["run", "--"], &["exec", "held", "--"]] {
                let way: Vec<&str> = ["usersock"].iter().chain(way).copied().collect();
                assert_eq!(said(&way), plain, "{user:?}: {ignored}: {way:?}");
            }
        }
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
    }
}

/// Where no place for the instances is named they are in a directory of the run-time directory, which comes with the
/// first and goes with the last, however many come and go at a time.
#[test]
fn the_directory_of_all_instances_goes_with_the_last() {
    let name = "place";
    if !possible(name) {
        return;
    }
    let crowd = r#"
        set -e
        for i in 1 2 3 4; do
            usersock run -- true && usersock ps >/dev/null && usersock run -- true & all="$all $!"
        done
        for i in $all; do wait $i; done
        ls "$XDG_RUNTIME_DIR"
        usersock shell --root --instance rooted -- sh -c 'echo ready; cat' <fifo >ready & rooted=$!
        exec 3>fifo
        until grep -q ready ready; do sleep 0.05; done
        usersock exec rooted -- sh -c 'echo $(id -u) $USERSOCK_DIR'
        exec 3>&-
        wait $rooted
        ls "$XDG_RUNTIME_DIR"
    "#;
    for user in users() {
        let mut c = program(user, name, "sh".as_ref());
        let dir = bin().join("i").join(format!("{name}-{user:?}"));
        c.arg("-c").arg(format!("umask 077; mkdir run; mkfifo fifo; {crowd}")).env_remove("USERSOCK_DIR");
        let runtime = dir.join("run");
        c.env("XDG_RUNTIME_DIR", &runtime).current_dir(&dir);
        let out = c.output().unwrap();
        let uid = format!("0 {}/usersock\n", runtime.display());
        assert_eq!((text(&out.stdout), out.status.code()), (uid, Some(0)), "{user:?}: {}", text(&out.stderr));
    }
}

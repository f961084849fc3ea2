//! The command as a user meets it: what it prints, and its exit status.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::process::{Command, Output, Stdio};

fn usersock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_usersock")).args(args).env_remove("USERSOCK_CONFIG").output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let out = usersock(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn sysctl_prints_as_the_system_s_own_command_does() {
    assert_eq!(stdout(&["sysctl", "net.ipv4.tcp_sack"]), "net.ipv4.tcp_sack = 1\n");
    assert_eq!(stdout(&["sysctl", "net/ipv4/tcp_sack=0"]), "net.ipv4.tcp_sack = 0\n");
    assert_eq!(
        stdout(&["sysctl", "--config", "sysctl.net.ipv4.tcp_sack=0", "net.ipv4.tcp_sack", "net.ipv4.tcp_timestamps"]),
        "net.ipv4.tcp_sack = 0\nnet.ipv4.tcp_timestamps = 1\n"
    );
    let all = stdout(&["sysctl", "-a"]);
    assert!(all.lines().all(|l| l.contains(" = ")) && all.contains("\nnet.ipv4.tcp_rmem = 4096"));
    let described = stdout(&["sysctl", "-d", "net.ipv4.tcp_sack"]);
    assert_eq!(described.lines().count(), 2);
    assert!(described.contains("Default: 1"), "{described}");
}

#[test]
fn the_environment_names_the_stack_when_no_option_does() {
    let ask = |args: &[&str]| {
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        let out = c.args(args).env("USERSOCK_CONFIG", "sysctl.net.ipv4.tcp_sack=0").output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(ask(&["sysctl", "net.ipv4.tcp_sack"]), "net.ipv4.tcp_sack = 0\n");
    assert_eq!(ask(&["sysctl", "--config", "", "net.ipv4.tcp_sack"]), "net.ipv4.tcp_sack = 1\n");
}

#[test]
fn protocols_are_listed_with_what_makes_them() {
    let all = stdout(&["protocols"]);
    let tcp: Vec<&str> = all.lines().find(|l| l.starts_with("TCP ")).unwrap().split_whitespace().collect();
    assert_eq!(tcp.len(), all.lines().next().unwrap().split_whitespace().count() + 1, "two families: {all}");
    assert_eq!(tcp[9..], ["no", "-", "ipv4/stream:6", "ipv6/stream:6"]);
    assert!(tcp[1].parse::<usize>().unwrap() > 500 && tcp[7] != "0", "{all}");
    assert!(["UDP", "PING", "RAW"].iter().all(|name| all.lines().any(|l| l.starts_with(name))), "{all}");
}

#[test]
fn the_stack_server_gives_up_its_privileges_in_every_thread() {
    let mut dir = std::env::temp_dir();
    dir.push(format!("usersock-serve-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    let config = format!("control={}", dir.join("control").display());
    let mut serve = Command::new(env!("CARGO_BIN_EXE_usersock"));
    serve.args(["serve", "--config", &config]).env_remove("USERSOCK_SERVER").stdout(Stdio::piped());
    let mut server = serve.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("USERSOCK_SERVER="), "{line}");
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{}/task", server.id())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        threads += 1;
    }
    assert!(threads >= 3, "the loop, the control socket, the signals: {threads}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_stack_server_asks_for_no_ring_where_it_is_told_not_to() {
    let serve = |value: &str| {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_usersock"));
        serve.args(["serve", "--config", ""]).env_remove("USERSOCK_SERVER").env("USERSOCK_IO_URING", value);
        serve.stdout(Stdio::piped()).stderr(Stdio::piped());
        serve.spawn().unwrap()
    };
    let refused = serve("no").wait_with_output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("USERSOCK_IO_URING: it is on or off"), "{said}");
    let rings = ["on", "off"].map(|value| {
        let mut server = serve(value);
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("USERSOCK_SERVER="), "{line}");
        let open = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
        let is_ring =
            |fd: &fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:[io_uring]"));
        let rings = open.filter_map(Result::ok).filter(is_ring).count();
        let pid = nix::unistd::Pid::from_raw(server.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(server.wait().unwrap().success());
        rings
    });
    // The kernel may have none.
    assert!(rings[0] <= 1 && rings[1] == 0, "{rings:?}");
}

#[test]
fn a_right_configuration_is_silent() {
    assert_eq!(stdout(&["check-config", "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1"]), "");
}

#[test]
fn what_is_probably_not_meant_is_a_warning_and_no_failure() {
    for (text, want) in [("tun=tun0", "there is no addr="), ("tun=tun0,addr=10.0.0.2", "no prefix length means /32")] {
        let out = usersock(&["check-config", text]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(0), 1), "{text}: {said}");
        assert!(said.starts_with("usersock: warning: ") && said.contains(want), "{text}: {said}");
    }
}

#[test]
fn a_device_that_cannot_be_had_is_one_line_with_the_remedy_and_status_1() {
    // In a user namespace of its own, but not in a network namespace of that: no privilege over interfaces.
    let unprivileged = ["-U", "--"];
    if !Command::new("unshare").args(unprivileged).arg("true").status().is_ok_and(|s| s.success()) {
        return println!("SKIP a_device_that_cannot_be_had: no user namespace can be made");
    }
    for (config, want) in [
        ("packet=lo,addr=10.0.0.2/24", "packet=lo: "),
        ("packet=usknone,addr=10.0.0.2/24", "there is no such interface; `ip link`"),
        ("tun=usknone,addr=10.0.0.2/24", "/dev/net/tun"),
        ("tun=usknone,addr=10.0.0.2/24", "sudo "),
    ] {
        let mut c = Command::new("unshare");
        c.args(unprivileged).args([env!("CARGO_BIN_EXE_usersock"), "listen", "--config", config, "10.0.0.2:9"]);
        let out = c.env_remove("USERSOCK_CONFIG").output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{config}: {said}");
        // Without CAP_NET_ADMIN the remedy is a device of one's own; where there is no driver, the driver.
        assert!(said.contains(want) || (want == "/dev/net/tun" && said.contains("CAP_NET_ADMIN")), "{config}: {said}");
    }
}

#[test]
fn bad_input_is_one_line_that_names_it_and_status_2() {
    for (args, named) in [
        (&[][..], "which command?"),
        (&["sysctl"], "--all"),
        (&["sysctl", "-a", "net.ipv4.tcp_sack"], "--all"),
        (&["sysctl", "net.ipv4.tcp_sakc"], "tcp_sakc"),
        (&["sysctl", "net.ipv4.tcp_sack=maybe"], "maybe"),
        (&["sysctl", "--config", "colour=red", "-a"], "colour"),
        (&["check-config", "addr=10.0.0.2/33"], "addr=10.0.0.2/33"),
        (&["check-config", "sysctl.net.ipv4.tcp_sack=maybe"], "maybe"),
        (&["check-config", "sysctl.net.ipv4.no_such=1"], "no_such"),
        (&["check-config", "sysctl.net.ipv4.tcp_sakc=1"], "the nearest is net.ipv4.tcp_sack"),
        (&["check-config", "packet=eth0,mac=zz"], "mac=zz: not random, own or a hardware address"),
        (&["check-config", "device=pigeon:1"], "no kind \"pigeon\" of device, none is plugged in"),
        (&["check-config", "tun=tun0,addr=10.0.0.2/24,gw=10.0.1.1"], "gw=10.0.1.1: on no network of this device"),
        (&["check-config", "pcap=/no/such/folder/a.pcap"], "pcap=/no/such/folder/a.pcap: cannot be written: No such"),
        (&["check-config", "plugin=/no/such.so"], "plugin=/no/such.so: no such file"),
        (&["protocols", "--config", "addr=10.0.0.2/8,addr=10.0.0.2/8"], "addr=10.0.0.2/8: given twice"),
        (&["protocols", "--config", "sysctl.net.ipv4.tcp_early_demux=256"], "0 to 255"),
        (&["connect", "10.0.0.1"], "10.0.0.1"),
        (&["connect", "localhost"], "there is no port"),
        (&["listen", "localhost:http"], "the port is a number"),
        (&["listen", "::1:80"], "in brackets"),
        (&["connect", "--loudly", "10.0.0.1:80"], "--loudly"),
        (&["fetch"], "fetch"),
        (&["new-plugin"], "NAME"),
        (&["new-plugin", "tiny"], "--kind"),
        (&["new-plugin", "tiny", "--kind", "driver"], "driver"),
        (&["new-plugin", "tiny", "--kind", "proto", "--lang", "go"], "go"),
        (&["new-plugin", "my-proto", "--kind", "proto"], "\"my-proto\": a name is lower-case letters"),
        (&["new-plugin", "a_very_long_name", "--kind", "cong"], "at most 15"),
        (&["new-plugin", "static", "--kind", "cong"], "has a meaning in C or Rust"),
        (&["new-plugin", "src", "--kind", "proto"], "./src exists already"),
        (&["new-plugin", "tiny", "--kind", "proto", "--usersock", "/no/such"], "--usersock /no/such: there is no"),
        (&["connect", "--socket", "tcp", "127.0.0.1:9"], "the type is stream"),
        (&["link", "tun7", "tun7"], "tun7 is both ends"),
        (&["plot", "--csv", "/no/such.csv"], "/no/such.csv: No such file"),
        (&["connect", "--socket", "seqpacket:253", "127.0.0.1:9"], "--socket: "),
    ] {
        let out = usersock(args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        assert!(said.starts_with("usersock: ") && said.contains(named), "{args:?}: {said}");
        assert!(out.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_connection_that_nobody_takes_is_one_line_and_status_1() {
    for (args, errno) in [
        (&["connect", "127.0.0.1:9"], "Connection refused"),
        (&["connect", "localhost:9"], "localhost:9: Connection refused"),
        // No name has a part so long: the resolver asks nobody.
        (&["connect", &format!("{}:9", "x".repeat(64))], "x:9: failed to lookup address information"),
        (&["listen", &format!("{}:9", "x".repeat(64))], "x:9: failed to lookup address information"),
        (&["connect", "192.0.2.1:9"], "Network is unreachable"),
        (&["listen", "192.0.2.1:9"], "Cannot assign requested address"),
    ] {
        let out = usersock(args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{args:?}: {said}");
        assert!(said.contains(errno), "{args:?}: {said}");
    }
}

/// The write end of a pipe that nobody reads.
fn unread() -> Stdio {
    io::pipe().unwrap().1.into()
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    for args in [&["--help"][..], &["--version"], &["sysctl", "--help"], &["sysctl", "-a"], &["protocols"]] {
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        let child = c.args(args).env_remove("USERSOCK_CONFIG").stdout(unread()).stderr(Stdio::piped()).spawn().unwrap();
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), &*said), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn errors_keep_their_status_when_nobody_reads_them() {
    for (args, status) in [(&["fetch"][..], 2), (&["connect", "127.0.0.1:9"], 1)] {
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        let got = c.args(args).env_remove("USERSOCK_CONFIG").stderr(unread()).status().unwrap();
        assert_eq!(got.code(), Some(status), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_one_line_and_status_1() {
    for args in [&["--help"][..], &["sysctl", "-a"], &["protocols"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        let child = c.args(args).env_remove("USERSOCK_CONFIG").stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{args:?}: {said}");
        assert!(said.starts_with("usersock: standard output: "), "{args:?}: {said}");
    }
}

#[test]
fn what_names_instances_and_the_library_is_looked_at() {
    const HEADINGS: &str = "NAME  PID  MODE  DEVICE  ADDRESS  PROGRAM\n";
    let dir = std::env::temp_dir().join(format!("usersock-c-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let dir_text = dir.to_str().unwrap();
    for (variable, value, args, want) in [
        // Nothing is made by who only looks.
        ("XDG_RUNTIME_DIR", dir_text, &["ps"][..], (0, HEADINGS, "")),
        ("XDG_RUNTIME_DIR", dir_text, &["ss"], (1, "", "no instance runs: `usersock run` starts one")),
        ("USERSOCK_DIR", "run", &["ps"], (2, "", "USERSOCK_DIR=run: no absolute path")),
        ("USERSOCK_DIR", dir_text, &["ss"], (1, "", "may be entered by others")),
        ("USERSOCK_DIR", dir_text, &["nstat"], (1, "", "USERSOCK_DIR names another place")),
        ("USERSOCK_DIR", "/dev/null", &["ps"], (125, "", "/dev/null: is no directory")),
        ("USERSOCK_PRELOAD", "/etc/passwd", &["run", "--", "true"], (125, "", "no library for this machine")),
        ("USERSOCK_PRELOAD", "/nonexistent", &["run", "--", "true"], (125, "", "there is no such file")),
        ("USERSOCK_PRELOAD", "", &["run", "--", ""], (127, "", "the program's name is empty")),
        ("XDG_RUNTIME_DIR", dir_text, &["ss", "-N", "/etc/passwd"], (2, "", "/etc/passwd: is no socket")),
        ("XDG_RUNTIME_DIR", dir_text, &["ss", "-N", &format!("/{}", "x".repeat(200))], (2, "", "SUN_LEN")),
    ] {
        let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
        c.args(args).env_remove("USERSOCK_DIR").env_remove("USERSOCK_INSTANCE").env(variable, value);
        let out = c.output().unwrap();
        let (said, printed) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
        let (status, text, line) = want;
        assert_eq!((out.status.code(), &*printed), (Some(status), text), "{variable}={value} {args:?}: {said}");
        assert!(said.contains(line) && said.lines().count() == usize::from(status != 0), "{args:?}: {said}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is left");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn listen_takes_a_name() {
    let mut c = Command::new(env!("CARGO_BIN_EXE_usersock"));
    c.args(["listen", "localhost:700"]).env_remove("USERSOCK_CONFIG").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = c.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(["listening on [::1]:700\n", "listening on 127.0.0.1:700\n"].contains(&&*said), "{said}");
}

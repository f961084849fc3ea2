//! The command as a user meets it: what it prints, and its exit status.

use std::process::{Command, Output};

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
    assert_eq!(tcp[9..], ["no", "ipv4/stream:6", "ipv6/stream:6"]);
    assert!(tcp[1].parse::<usize>().unwrap() > 500 && tcp[7] != "0", "{all}");
    assert!(["UDP", "PING", "RAW"].iter().all(|name| all.lines().any(|l| l.starts_with(name))), "{all}");
}

#[test]
fn a_right_configuration_is_silent() {
    assert_eq!(stdout(&["check-config", "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1"]), "");
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
        (&["connect", "10.0.0.1"], "10.0.0.1"),
        (&["connect", "--loudly", "10.0.0.1:80"], "--loudly"),
        (&["fetch"], "fetch"),
        (&["connect", "--socket", "tcp", "127.0.0.1:9"], "the type is stream"),
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
        (&["connect", "192.0.2.1:9"], "Network is unreachable"),
        (&["listen", "192.0.2.1:9"], "Cannot assign requested address"),
    ] {
        let out = usersock(args);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{args:?}: {said}");
        assert!(said.contains(errno), "{args:?}: {said}");
    }
}

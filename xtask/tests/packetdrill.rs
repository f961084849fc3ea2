//! `cargo xtask packetdrill` with a shell script in packetdrill's place, which writes what it was given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with a file `packetdrill` of these shell commands and a script `s.pkt`; removed at the end.
struct Bench(PathBuf);

impl Bench {
    fn new(name: &str, commands: &str, script: &str) -> Bench {
        let dir = std::env::temp_dir().join(format!("usersock-pd-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("s.pkt"), script).unwrap();
        fs::write(dir.join("packetdrill"), format!("#!/bin/sh\n{commands}\n")).unwrap();
        fs::set_permissions(dir.join("packetdrill"), fs::Permissions::from_mode(0o755)).unwrap();
        Bench(dir)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("packetdrill").arg("--bin").arg(self.0.join("packetdrill")).args(args).arg(self.0.join("s.pkt"));
        command.env("SAID", self.0.join("said"));
        command
    }

    fn said(&self) -> String {
        fs::read_to_string(self.0.join("said")).unwrap_or_default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the run found no namespace to be in, which is not the matter of these tests.
fn no_namespace(output: &Output, test: &str) -> bool {
    let said = String::from_utf8_lossy(&output.stdout);
    let refused = said.lines().find(|line| line.contains("namespace") && line.contains("FAIL"));
    refused.inspect(|line| println!("SKIP {test}: {line}")).is_some()
}

/// The plug-in is only named here: the dynamic linker goes on without it.
fn with_plugin(dir: &Path) -> [String; 2] {
    let plugin = dir.join("plugin.so");
    fs::write(&plugin, "").unwrap();
    ["--plugin".to_string(), plugin.to_string_lossy().into_owned()]
}

#[test]
fn a_reader_that_went_away_does_not_end_the_runs() {
    let bench = Bench::new("pipe", "sh -c 'false &> /dev/null || echo run' >> $SAID", "");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench.command(&["--kernel"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.status.code().is_some_and(|code| code < 2), "{:?} {said}", output.status);
    if output.status.success() {
        assert_eq!(bench.said(), "run\n".repeat(3), "each version runs, with bash for sh");
    }
}

#[test]
fn a_scripts_own_options_are_those_of_its_run() {
    let commands = r#"for a in "$@"; do echo "$a" >> $SAID; done; ip -o addr show tun0 >> $SAID"#;
    let script = "--ip_version=ipv4 --local_ip=192.168.7.2\n--remote_ip=10.248.0.2 --mss=1000\n--mtu=1400\n";
    let bench = Bench::new("own", commands, script);
    let plugin = with_plugin(&bench.0);
    let output = bench.command(&plugin.each_ref().map(String::as_str)).output().unwrap();
    if no_namespace(&output, "a_scripts_own_options_are_those_of_its_run") {
        return;
    }
    let said = bench.said();
    for want in ["--local_ip=192.168.7.2", "--remote_ip=10.248.0.2", "--mtu=1400", "--so_flags=mss=1000"] {
        assert_eq!(said.lines().filter(|line| *line == want).count(), 1, "{want}: {said}");
    }
    assert!(said.contains("inet 192.168.7.2/16"), "{said}");
    assert!(said.contains("--ip_version=ipv4\n") && !said.contains("ipv4-mapped"), "one version: {said}");
}

#[test]
fn sysctl_values_that_the_kernel_refuses_are_there_for_the_plug_in() {
    let commands = r#"cd $USERSOCK_PD_DIR/sysctl || exit 1
        for value in 0 1 2 3 4 5; do
            sysctl -q net.ipv4.tcp_ecn=$value && cat net.ipv4.tcp_ecn >> $SAID
        done
        sysctl -q net.ipv4.tcp_congestion_control=dctcp && cat net.ipv4.tcp_congestion_control >> $SAID"#;
    let bench = Bench::new("sysctl", commands, "--ip_version=ipv6\n");
    let plugin = with_plugin(&bench.0);
    let output = bench.command(&plugin.each_ref().map(String::as_str)).output().unwrap();
    if no_namespace(&output, "sysctl_values_that_the_kernel_refuses_are_there_for_the_plug_in") {
        return;
    }
    assert_eq!(bench.said(), "0\n1\n2\n3\n4\n5\ndctcp\n", "{}", String::from_utf8_lossy(&output.stdout));
}

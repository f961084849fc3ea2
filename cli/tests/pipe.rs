//! `usersock connect` and `usersock listen` against each other: two commands, two TUN devices, the kernel's router
//! between them, in a network namespace of the test's own. Skipped, and said, where that cannot be made. The commands
//! that README.md, docs/config.md and docs/plugins.md have their readers type run here as well.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The plug-ins, built once by their own Makefile.
fn plugins() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
        fs::create_dir_all(&out).unwrap();
        let mut make = Command::new("make");
        // What was built against older headers is no newer than its source.
        make.args(["--silent", "--always-make", "-C", concat!(env!("CARGO_MANIFEST_DIR"), "/../c-tests/plugins")]);
        // Those in C: another test builds the others, with Cargo's compiler.
        let made =
            make.args([format!("OUT={}", out.display()), "RUSTC=".to_owned()]).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        out
    })
}

/// $1 the command, $2 its options, $3 a folder with `question` and `answer`; leaves `asked` and `answered`. A device
/// appears with its command: the kernel's end gets its address as soon as that is possible, and nothing is said before.
const SCRIPT: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
cd "$3"
echo 1 >/proc/sys/net/ipv4/ip_forward
mkfifo said
"$1" listen $2 --config tun=uskb,addr=10.9.1.2/24,gw=10.9.1.1 10.9.1.2:700 <answer >asked 2>said &
exec 3<said
read line <&3
case $line in "listening on "*) ;; *) echo "$line" >&2; exit 1;; esac
ip addr add 10.9.1.1/24 dev uskb
(until ip addr add 10.9.0.1/24 dev uska 2>/dev/null; do :; done; cat question) |
    "$1" connect $2 --config tun=uska,addr=10.9.0.2/24,gw=10.9.0.1 10.9.1.2:700 >answered
cat <&3 >&2
wait
"#;

/// How a network namespace can be made here, if it can.
fn namespace() -> Option<&'static [&'static str]> {
    let permitted =
        |args: &[&str]| Command::new("unshare").args(args).arg("true").output().is_ok_and(|o| o.status.success());
    [&["-n"][..], &["-r", "-n"]].into_iter().find(|how| permitted(how))
}

/// Why nothing on TUN devices can be tried here, if so.
fn no_tun() -> Option<String> {
    let opened = fs::File::options().read(true).write(true).open("/dev/net/tun");
    opened.err().map(|error| format!("/dev/net/tun: {error}"))
}

/// An empty folder for the test of this name.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs the two commands; the two files must arrive whole.
fn talk(name: &str, options: &str, question: &[u8], answer: &[u8]) {
    let Some(how) = namespace() else { return println!("SKIP {name}: no network namespace can be made") };
    if let Some(why) = no_tun() {
        return println!("SKIP {name}: {why}");
    }
    let dir = folder(name);
    fs::write(dir.join("question"), question).unwrap();
    fs::write(dir.join("answer"), answer).unwrap();
    let mut c = Command::new("unshare");
    c.args(how).args(["sh", "-c", SCRIPT, "sh", env!("CARGO_BIN_EXE_usersock"), options]).arg(&dir);
    let out = c.stdin(Stdio::null()).env_remove("USERSOCK_CONFIG").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {said}");
    assert!(said.contains("connection from 10.9.0.2:"), "{name}: {said}");
    assert!(fs::read(dir.join("asked")).unwrap() == question, "{name}: what the listener got");
    assert!(fs::read(dir.join("answered")).unwrap() == answer, "{name}: what the caller got");
}

fn bytes(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn tcp_carries_both_directions_to_their_ends() {
    talk("pipe-tcp", "", &bytes(1_000_000), &bytes(300_001));
}

#[test]
fn a_plug_in_s_connections_carry_both_directions_to_their_ends() {
    let options = format!("--plugin {}/rdp.so --socket seqpacket:253", plugins().display());
    talk("pipe-rdp", &options, &bytes(1_000_000), &bytes(300_001));
}

#[test]
fn a_plug_in_s_datagrams_end_with_an_empty_one() {
    let options = format!("--plugin {}/tiny.so --socket dgram:254", plugins().display());
    talk("pipe-tiny", &options, b"a question", b"and its answer");
}

/// The folder of the command.
fn bin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_usersock")).parent().unwrap()
}

/// A script that finds the command by its name, as a reader does, in the folder $1.
fn with_path(script: &str) -> String {
    format!("PATH=$1:$PATH:/usr/sbin:/sbin\n{script}")
}

/// What docs/plugins.md has its reader type in step 5: two stacks joined by UDP on the host's loopback, TINY between
/// them. Two assignments, `listen` and `connect`.
fn guide() -> [String; 4] {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plugins.md")).unwrap();
    let step = text.split("\n### ").find(|section| section.starts_with("5. Try it")).unwrap();
    let lines: Vec<_> = step.lines().filter_map(|line| line.strip_prefix("    $ ")).map(str::to_owned).collect();
    lines.try_into().expect("four lines to type")
}

#[test]
fn the_guide_s_commands_do_what_it_says() {
    let Some(how) = namespace() else {
        return println!("SKIP the_guide_s_commands_do_what_it_says: no network namespace can be made");
    };
    let dir = folder("guide");
    for file in ["udpdev.so", "tiny.so"] {
        fs::copy(plugins().join(file), dir.join(file)).unwrap();
    }
    let [u, v, listen, connect] = guide();
    let script = format!(
        "ip link set lo up; mkfifo said\n{u}\n{v}\n{listen} </dev/null >heard 2>said &\n\
         exec 3<said; read line <&3; echo \"$line\" >&2\necho hello | {connect}\ncat <&3 >&2; wait\n"
    );
    let mut c = Command::new("unshare");
    c.args(how).args(["sh", "-e", "-c", &with_path(&script), "sh"]).arg(bin()).current_dir(&dir);
    let out = c.stdin(Stdio::null()).env_remove("USERSOCK_CONFIG").output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("listening on 10.0.0.1:9"), "{said}");
    assert_eq!(fs::read_to_string(dir.join("heard")).unwrap(), "hello\n", "{said}");
    // The line, and the empty datagram that ends it.
    let counted = format!("{:<32} 2", "TinyOutDatagrams");
    assert!(said.lines().any(|l| l == counted), "{said}");
    assert!(!said.contains("TcpMaxConn"), "a setting, -1 always, is no count: {said}");
}

/// The listings of a section of a text: what is between "```sh" and "```".
fn listings(file: &str, section: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)).unwrap();
    let section = text.split("\n## ").find(|text| text.starts_with(section)).unwrap();
    section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A listing as a reader types it: the next line only when a command in the background has said that it listens, and to
/// the end of all. What is said on standard error goes to the file `said`, since a listener's must be read meanwhile.
fn typed(listing: &str) -> String {
    let line = |line: &str| match line.strip_suffix(" &") {
        Some(command) => {
            format!("{command} 2>>said &\nuntil grep -q '^listening on ' said; do kill -0 $!; sleep 0.02; done\n")
        }
        None => format!("{line}\n"),
    };
    format!("set -e\n: >said\n{}wait\n", listing.lines().map(line).collect::<String>())
}

#[test]
fn readme_s_commands_do_what_it_says() {
    let name = "readme_s_commands_do_what_it_says";
    let Some(how) = namespace() else { return println!("SKIP {name}: no network namespace can be made") };
    if let Some(why) = no_tun() {
        return println!("SKIP {name}: {why}");
    }
    if Command::new("curl").arg("--version").output().is_err() {
        return println!("SKIP {name}: curl is not installed");
    }
    let dir = folder("readme");
    fs::copy(plugins().join("tiny.so"), dir.join("tiny.so")).unwrap();
    let listings = listings("README.md", "The command\n");
    assert_eq!(listings.len(), 3, "{listings:?}");
    let mut script = String::new();
    for (n, listing) in listings.iter().enumerate() {
        // A subshell's background commands are its own to wait for.
        script += &format!("(\n{}) >printed{n} 2>errors{n}\n", typed(listing));
    }
    script += "usersock protocols --plugin ./tiny.so >plugged\n";
    let mut c = Command::new("unshare");
    c.args(how).args(["sh", "-e", "-c", &with_path(&script), "sh"]).arg(bin()).current_dir(&dir);
    c.stdin(Stdio::null()).env_remove("USERSOCK_CONFIG").env_remove("http_proxy").env_remove("all_proxy");
    let out = c.output().unwrap();
    let file = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let errors = [String::from_utf8_lossy(&out.stderr).into_owned(), file("said"), file("errors1"), file("errors2")];
    assert!(out.status.success(), "{errors:?}");
    let (settings, page, hosts) = (file("printed0"), file("printed1"), file("printed2"));
    assert!(settings.contains("net.ipv4.tcp_sack = 1\n"), "sysctl -a: {settings}");
    let plugged = file("plugged");
    let tiny = plugged.lines().find(|line| line.starts_with("TINY "));
    assert!(tiny.is_some_and(|line| line.ends_with("ipv4/dgram:254 ipv6/dgram:254")), "protocols: {plugged}");
    // The file that it comes from, and which build of it.
    let words: Vec<&str> = tiny.unwrap_or_default().split_whitespace().collect();
    let id = words.get(10).copied().unwrap_or_default();
    let good = id == "-" || id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(words.get(9) == Some(&"tiny.so") && good, "protocols: {plugged}");
    let last = settings.lines().last().unwrap_or_default();
    assert!(last.contains("/dgram:17"), "check-config is silent: {last}");
    // The two ends print as they come to it.
    assert!(
        ["hello", "GET / HTTP/1.1", "Host: 10.0.0.2"].iter().all(|want| page.lines().any(|l| l == *want)),
        "{page}"
    );
    let mut lines: Vec<&str> = hosts.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["hello", "welcome"]);
    assert!(file("said").contains("connection from 10.0.1.2:"), "{errors:?}");
    assert!(file("errors2").contains("TcpActiveOpens                   1\n"), "--counters: {errors:?}");
}

#[test]
fn the_recipes_do_what_they_say() {
    let name = "the_recipes_do_what_they_say";
    let Some(how) = namespace() else { return println!("SKIP {name}: no network namespace can be made") };
    if let Some(why) = no_tun() {
        return println!("SKIP {name}: {why}");
    }
    if Command::new("curl").arg("--version").output().is_err() {
        return println!("SKIP {name}: curl is not installed");
    }
    let recipes = listings("docs/config.md", "Recipes\n");
    assert_eq!(recipes.len(), 4);
    for (n, recipe) in recipes.iter().enumerate() {
        let dir = folder(&format!("recipe{n}"));
        for file in ["udpdev.so", "westwood.so"] {
            fs::copy(plugins().join(file), dir.join(file)).unwrap();
        }
        let mut c = Command::new("unshare");
        c.args(how).args(["sh", "-c", &with_path(&typed(recipe)), "sh"]).arg(bin()).current_dir(&dir);
        c.stdin(Stdio::null()).env_remove("USERSOCK_CONFIG").env_remove("http_proxy").env_remove("all_proxy");
        let out = c.output().unwrap();
        let said = fs::read_to_string(dir.join("said")).unwrap_or_default() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{recipe}\n{said}");
        // The two ends print as they come to it.
        let printed = String::from_utf8_lossy(&out.stdout);
        assert!(
            ["hello", "welcome"].iter().all(|want| printed.lines().any(|l| l == *want)),
            "{recipe}\n{printed}{said}"
        );
        assert!(!said.contains("warning"), "{said}");
    }
}

/// $1 the command: the listener has no end of what it sends, the caller's reader has enough after a line.
const ENOUGH: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
cd "$2"
echo 1 >/proc/sys/net/ipv4/ip_forward
mkfifo said
for n in 0 1; do
    ip tuntap add dev usk$n mode tun
    ip addr add 10.9.$n.1/24 dev usk$n
    ip link set usk$n up
done
(yes | "$1" listen --config tun=usk0,addr=10.9.0.2/24,gw=10.9.0.1 10.9.0.2:700 2>said || echo $? >listener) &
exec 3<said
read line <&3
("$1" connect --config tun=usk1,addr=10.9.1.2/24,gw=10.9.1.1 10.9.0.2:700 && echo $? >caller) | head -n 1
cat <&3
wait
"#;

#[test]
fn the_end_of_the_reader_ends_the_connection_by_a_reset() {
    let name = "the_end_of_the_reader_ends_the_connection_by_a_reset";
    let Some(how) = namespace() else { return println!("SKIP {name}: no network namespace can be made") };
    if let Some(why) = no_tun() {
        return println!("SKIP {name}: {why}");
    }
    let dir = folder("enough");
    let mut c = Command::new("unshare");
    c.args(how).args(["sh", "-c", ENOUGH, "sh", env!("CARGO_BIN_EXE_usersock")]).arg(&dir);
    let out = c.stdin(Stdio::null()).env_remove("USERSOCK_CONFIG").output().unwrap();
    let (printed, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    // EPIPE when the caller's FIN, at the end of its empty input, was before the reset, else ECONNRESET.
    let told = printed.lines().last().is_some_and(|line| line.starts_with("usersock: 10.9.0.2:700: "));
    assert!(printed.starts_with("y\nconnection from 10.9.1.2:") && told, "{printed}");
    let status = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
    assert_eq!((&*status("caller"), &*status("listener"), &*said), ("0\n", "1\n", ""));
}

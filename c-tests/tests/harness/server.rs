//! Runs a case, built without a line of ours, on a stack server: its TCP sockets are AF_UNIX descriptors of that, its
//! UDP sockets the kernel's. In a namespace whose loopback is up for these; that the kernel's TCP made no connection
//! there is looked at afterwards. Beside: `mod.rs`, `preload.rs`.

use super::ours::build;
use super::preload::{Calls, shim};
use super::{cases_dir, cc_of, compile, judge, namespace, out_dir, skip};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The command, built once into the folder of the tests.
fn command() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("usersock-cli").join("usersock"))
}

/// Starts a server, runs the rest of the arguments as its program, and ends it. `$1` is the command, `$2` the shim.
const SCRIPT: &str = r#"
    command=$1 shim=$2; shift 2
    # The cases that ping may.
    echo 0 4294967294 2> /dev/null > /proc/sys/net/ipv4/ping_group_range
    dir=$(mktemp -d) || exit; trap 'rm -r "$dir"' EXIT
    mkfifo "$dir/up"; "$command" serve > "$dir/up" & server=$!
    read -r variable < "$dir/up" || exit
    env "$variable" LD_PRELOAD="$shim" "$@"; status=$?
    kill $server; wait $server || { echo "the server: $?" >&2; exit 1; }
    awk '$1 == "Tcp:" && $6 ~ /[0-9]/ && $6 + $7 > 0 { exit 1 }' /proc/net/snmp ||
        { echo "a connection of the kernel's" >&2; exit 1; }
    exit $status
"#;

/// Runs case `name`, which makes its calls in this way, as a program of a stack server.
pub fn run_on_server(name: &str, calls: Calls) {
    let Some(prefix) = namespace() else {
        return skip(&format!("server {name}"), "no network namespace can be made");
    };
    let (way, flags) = calls.flags();
    let exe = out_dir().join(format!("server-{way}-{name}"));
    let mut cc = cc_of(&cases_dir().join(format!("{name}.c")), super::Sanitizer::None, &exe);
    cc.args(["-DPRELOADED", "-DSERVED"]).args(flags);
    compile(cc, name, &exe);
    let mut run = Command::new(prefix[0]);
    run.args(&prefix[1..]).args(["sh", "-c", SCRIPT, "sh"]).args([command(), shim(), &exe]);
    for variable in ["USERSOCK_CONFIG", "USERSOCK_OWNER", "USERSOCK_SERVER", "LD_PRELOAD"] {
        run.env_remove(variable);
    }
    judge(name, run.stdin(Stdio::null()).output());
}

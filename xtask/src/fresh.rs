//! `cargo xtask test --fresh`: continuous integration, run locally. HEAD is cloned to a temporary directory and the
//! clone's `.ci/run` runs with an empty CARGO_HOME and nothing built, so every crate is downloaded and every file
//! compiled anew. Kept from this machine are the Rust toolchain (RUSTUP_HOME), the system's programs, and the access to
//! a registry: from `config.toml` of the real CARGO_HOME only the tables for it, and the variables for it.
//!
//! The directory is removed at the end; after a failure it is kept and its name printed, because the files in it show
//! why.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, Outcome, broken, cargo};

/// Configuration that cargo, rustup, rustfmt and clippy look for in the folders above a package.
const FOUND_ABOVE: [&str; 8] = [
    ".cargo/config.toml",
    ".cargo/config",
    "rust-toolchain.toml",
    "rust-toolchain",
    "clippy.toml",
    ".clippy.toml",
    "rustfmt.toml",
    ".rustfmt.toml",
];

/// Prefixes of variables that change a build or a test. cargo and rustup set many of them for the programs they run,
/// such as this process.
const DROPPED_FAMILIES: [&str; 4] = ["CARGO", "RUST", "USERSOCK_", "PACKETDRILL_"];

/// Those of these families that are kept: access to crates and toolchains on this machine.
const KEPT_FAMILIES: [&str; 6] =
    ["CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_", "CARGO_NET_GIT", "RUSTUP_"];

/// The same by their whole names. RUSTUP_TOOLCHAIN: the clone finds its toolchain as any clone does. The middle ones go
/// to `make` and the C compiler, the last are what git tells its hooks (git rev-parse --local-env-vars).
const DROPPED: [&str; 19] = [
    "RUSTUP_TOOLCHAIN",
    "RUSTUP_TOOLCHAIN_SOURCE",
    "CC",
    "CFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CONFIG_COUNT",
];

/// Runs the clone of this work tree's HEAD. True when its `.ci/run` ended with status 0.
///
/// # Errors
/// There is no git or no commit, or the temporary directory cannot be used.
pub fn run() -> Outcome {
    let vars: Vec<_> = std::env::vars_os().collect();
    run_of(&cargo::root(), &std::env::temp_dir(), &vars)
}

/// The same of the work tree `root`, in a new directory below `temp`, called from an environment `vars`.
fn run_of(root: &Path, temp: &Path, vars: &[(OsString, OsString)]) -> Outcome {
    let temp = temp.canonicalize().map_err(|error| broken(format!("{}: {error}", temp.display())))?;
    if let Some(file) = configuration_above(&temp) {
        let (file, temp) = (file.display(), temp.display());
        return Err(broken(format!("{file} would govern a clone in {temp}: set TMPDIR to another directory")));
    }
    let dir = temp.join(format!("usersock-fresh-{}", std::process::id()));
    let (clone, cargo_home) = (dir.join("usersock"), dir.join("cargo-home"));
    let real = real_cargo_home(vars);
    let vars = environment(vars, &cargo_home);

    let head = git(&vars, root, &["rev-parse", "HEAD"])?;
    if !git(&vars, root, &["status", "--porcelain"])?.is_empty() {
        println!("fresh: WARNING: the work tree differs from HEAD; what is not committed is not tested");
    }
    println!("fresh: {head} in {}", dir.display());
    fs::create_dir(&dir)?;
    let prepared = clone_of(root, &head, &clone, &vars).and_then(|()| fill(&cargo_home, real.as_deref()));
    let outcome = prepared.and_then(|()| {
        let script = clone.join(".ci/run");
        let mut command = Command::new(&script);
        command.current_dir(&clone).env_clear().envs(vars).stdin(Stdio::null());
        let status = command.status().map_err(|error| broken(format!("{}: {error}", script.display())))?;
        Ok(status.success())
    });
    if matches!(outcome, Ok(false)) {
        println!("fresh: FAILED; kept for a look, remove it then: {}", dir.display());
    } else {
        fs::remove_dir_all(&dir).map_err(|error| broken(format!("cannot remove {}: {error}", dir.display())))?;
    }
    outcome
}

/// Clones `root` and checks `head` out by its hash: a work tree without a branch is enough.
fn clone_of(root: &Path, head: &str, clone: &Path, vars: &[(OsString, OsString)]) -> Result<(), Failure> {
    let words = ["clone", "--quiet", "--no-checkout", "."].map(OsStr::new);
    git(vars, root, &[&words[..], &[clone.as_os_str()]].concat())?;
    git(vars, clone, &["checkout", "--quiet", "--detach", head])?;
    Ok(())
}

/// Makes a CARGO_HOME that has only the registry access of the real one.
fn fill(cargo_home: &Path, real: Option<&Path>) -> Result<(), Failure> {
    fs::create_dir(cargo_home)?;
    let Some(real) = real else { return Ok(()) };
    // If both exist, cargo uses the first.
    let names = ["config", "config.toml"].map(|name| real.join(name));
    let Some(file) = names.into_iter().find(|file| file.exists()) else { return Ok(()) };
    let wrong = |error: &dyn std::fmt::Display| broken(format!("{}: {error}", file.display()));
    let text = fs::read_to_string(&file).map_err(|error| wrong(&error))?;
    let kept = registries_of(&text).map_err(|error| wrong(&error))?;
    if !kept.is_empty() {
        println!("fresh: crates are downloaded as {} says", file.display());
        fs::write(cargo_home.join("config.toml"), kept)?;
    }
    Ok(())
}

/// The first file in `dir` or above it that would change how a clone in `dir` is built.
fn configuration_above(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().flat_map(|above| FOUND_ABOVE.map(|name| above.join(name))).find(|file| file.exists())
}

/// The environment of the clone: `vars` without what would change its build, and the empty CARGO_HOME.
fn environment(vars: &[(OsString, OsString)], cargo_home: &Path) -> Vec<(OsString, OsString)> {
    let begins = |name: &str, families: &[&str]| families.iter().any(|family| name.starts_with(family));
    let kept = |name: &str| {
        let dropped = begins(name, &DROPPED_FAMILIES) && !begins(name, &KEPT_FAMILIES);
        !dropped && !DROPPED.contains(&name)
    };
    let mut out: Vec<_> = vars.iter().filter(|(name, _)| kept(&name.to_string_lossy())).cloned().collect();
    let ours = own_library_folders(vars);
    for (_, value) in out.iter_mut().filter(|(name, _)| name == "LD_LIBRARY_PATH") {
        let folders = std::env::split_paths(value).filter(|folder| !ours.iter().any(|own| folder.starts_with(own)));
        *value = std::env::join_paths(folders).unwrap_or_default();
    }
    out.retain(|(name, value)| name != "LD_LIBRARY_PATH" || !value.is_empty());
    out.push(("CARGO_HOME".into(), cargo_home.into()));
    out
}

/// What cargo and rustup put into LD_LIBRARY_PATH of what they run: folders of the build that made this executable, and
/// of the toolchain.
fn own_library_folders(vars: &[(OsString, OsString)]) -> Vec<PathBuf> {
    let profile = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let cargo = vars.iter().find(|(name, _)| name == "CARGO").map(|(_, value)| PathBuf::from(value));
    let toolchain = cargo.and_then(|cargo| cargo.ancestors().nth(2).map(|toolchain| toolchain.join("lib")));
    profile.into_iter().chain(toolchain).collect()
}

/// CARGO_HOME of the caller, or its default.
fn real_cargo_home(vars: &[(OsString, OsString)]) -> Option<PathBuf> {
    let value = |wanted: &str| vars.iter().find(|(name, _)| name == wanted).map(|(_, value)| PathBuf::from(value));
    value("CARGO_HOME").or_else(|| value("HOME").map(|home| home.join(".cargo")))
}

/// The tables of a `config.toml` for access to crates; not those for where and how to build, nor `offline`.
fn registries_of(text: &str) -> Result<String, toml::de::Error> {
    let mut table: toml::Table = text.parse()?;
    table.retain(|name, _| matches!(name as &str, "source" | "registries" | "registry" | "http" | "net"));
    if let Some(net) = table.get_mut("net").and_then(toml::Value::as_table_mut) {
        net.remove("offline");
        if net.is_empty() {
            table.remove("net");
        }
    }
    Ok(table.to_string())
}

/// The output of git in `dir`, without the final newline.
fn git(vars: &[(OsString, OsString)], dir: &Path, args: &[impl AsRef<OsStr>]) -> Result<String, Failure> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(args).env_clear().envs(vars.iter().cloned()).stdin(Stdio::null());
    let output = command.output().map_err(|error| broken(format!("git: {error}")))?;
    if !output.status.success() {
        return Err(broken(format!("git: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn pairs(vars: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        vars.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn what_cargo_and_the_caller_set_does_not_reach_the_clone() {
        let home = Path::new("/fresh/cargo-home");
        for (name, value, kept) in [
            ("PATH", "/home/me/.cargo/bin:/usr/bin", true),
            ("HOME", "/home/me", true),
            ("https_proxy", "http://proxy:3128", true),
            ("GIT_SSL_CAINFO", "/etc/ca.pem", true),
            ("RUSTUP_HOME", "/home/me/.rustup", true),
            ("RUSTUP_DIST_SERVER", "https://mirror", true),
            ("CARGO_HTTP_CAINFO", "/etc/ca.pem", true),
            ("CARGO_REGISTRIES_MINE_INDEX", "sparse+https://mirror/", true),
            ("CARGO_SOURCE_CRATES_IO_REPLACE_WITH", "mine", true),
            ("CARGO", "/home/me/.rustup/toolchains/stable/bin/cargo", false),
            ("CARGO_MANIFEST_DIR", "/home/me/usersock/xtask", false),
            ("CARGO_PKG_NAME", "xtask", false),
            ("CARGO_TARGET_DIR", "/home/me/target", false),
            ("CARGO_BUILD_TARGET", "x86_64-unknown-linux-musl", false),
            ("CARGO_NET_OFFLINE", "true", false),
            ("CARGO_ENCODED_RUSTFLAGS", "-g", false),
            ("RUSTFLAGS", "-C target-cpu=native", false),
            ("RUSTC_WRAPPER", "sccache", false),
            ("RUST_RECURSION_COUNT", "1", false),
            ("RUST_TEST_THREADS", "1", false),
            ("RUSTUP_TOOLCHAIN", "nightly", false),
            ("RUSTUP_TOOLCHAIN_SOURCE", "cli", false),
            ("USERSOCK_CONFIG", "tun=tun0", false),
            ("USERSOCK_WRITE_HEADER", "1", false),
            ("PACKETDRILL_SCRIPTS", "ack.pkt", false),
            ("CFLAGS", "-m32", false),
            ("MAKEFLAGS", "-j2", false),
            ("GIT_DIR", "/home/me/usersock/.git", false),
        ] {
            let got = environment(&pairs(&[(name, value)]), home);
            let mut want = if kept { pairs(&[(name, value)]) } else { Vec::new() };
            want.extend(pairs(&[("CARGO_HOME", "/fresh/cargo-home")]));
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn the_caller_s_cargo_home_and_the_folders_of_its_build_are_replaced() {
        let exe = std::env::current_exe().unwrap();
        let deps = exe.parent().unwrap().display().to_string();
        let toolchain = "/rustup/toolchains/stable";
        let vars = |libraries: &str| {
            pairs(&[
                ("CARGO", &format!("{toolchain}/bin/cargo")),
                ("CARGO_HOME", "/home/me/.cargo"),
                ("LD_LIBRARY_PATH", libraries),
            ])
        };
        let home = Path::new("/fresh");
        let all = format!("{deps}:{toolchain}/lib/rustlib/x86_64-unknown-linux-gnu/lib:/opt/lib:{toolchain}/lib");
        let want = pairs(&[("LD_LIBRARY_PATH", "/opt/lib"), ("CARGO_HOME", "/fresh")]);
        assert_eq!(environment(&vars(&all), home), want);
        assert_eq!(environment(&vars(&deps), home), pairs(&[("CARGO_HOME", "/fresh")]));
    }

    #[test]
    fn of_cargo_s_configuration_the_registries_are_kept() {
        let text = "net.offline = true\n[build]\ntarget-dir = '/t'\n[source.crates-io]\nreplace-with = 'mine'\n\
                    [source.mine]\nregistry = 'sparse+https://mirror/'\n[env]\nCC = 'clang'\n[alias]\nxtask = 'no'\n";
        let kept: toml::Table = registries_of(text).unwrap().parse().unwrap();
        let want = "[source.crates-io]\nreplace-with = 'mine'\n[source.mine]\nregistry = 'sparse+https://mirror/'\n";
        assert_eq!(kept, want.parse().unwrap());
        assert_eq!(registries_of("[build]\njobs = 1\n").unwrap(), "");
        assert!(registries_of("[build\n").is_err());
    }

    #[test]
    fn the_new_cargo_home_has_the_mirror_of_the_real_one_and_no_more() {
        let dir = std::env::temp_dir().join(format!("usersock-home-test-{}", std::process::id()));
        let real = dir.join("real");
        fs::create_dir_all(real.join("registry")).unwrap();
        fs::write(real.join("credentials.toml"), "[registry]\ntoken = 'secret'\n").unwrap();
        let names = |home: &str, real: Option<&Path>| -> Vec<_> {
            fill(&dir.join(home), real).unwrap();
            fs::read_dir(dir.join(home)).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        assert!(names("none", None).is_empty());
        assert!(names("without", Some(&real)).is_empty());
        fs::write(real.join("config.toml"), "[build]\ntarget-dir = '/t'\n").unwrap();
        assert!(names("unneeded", Some(&real)).is_empty());
        fs::write(real.join("config.toml"), "[build]\ntarget-dir = '/t'\n[http]\nproxy = 'p:1'\n").unwrap();
        assert_eq!(names("mirror", Some(&real)), ["config.toml"]);
        let kept = fs::read_to_string(dir.join("mirror/config.toml")).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(kept.parse::<toml::Table>().unwrap(), "[http]\nproxy = 'p:1'".parse().unwrap());
    }

    /// A work tree with this `.ci/run`, committed, and what it needs to be one; `None` where there is no git.
    fn work_tree(dir: &Path, script: &str) -> Option<Vec<(OsString, OsString)>> {
        let path = std::env::var("PATH").unwrap();
        let who = [("GIT_AUTHOR_NAME", "t"), ("GIT_AUTHOR_EMAIL", "t@t"), ("GIT_COMMITTER_NAME", "t")];
        let mut vars = pairs(&[("PATH", &path), ("HOME", "/nonexistent"), ("GIT_COMMITTER_EMAIL", "t@t")]);
        vars.extend(pairs(&who));
        Command::new("git").arg("--version").output().ok()?;
        fs::create_dir_all(dir.join(".ci")).unwrap();
        fs::write(dir.join(".ci/run"), script).unwrap();
        fs::set_permissions(dir.join(".ci/run"), fs::Permissions::from_mode(0o755)).unwrap();
        for args in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "one"]] {
            git(&vars, dir, args).unwrap();
        }
        Some(vars)
    }

    #[test]
    fn the_clone_has_what_is_committed_and_its_directory_goes_when_all_is_well() {
        let dir = std::env::temp_dir().join(format!("usersock-fresh-test-{}", std::process::id()));
        let (tree, temp) = (dir.join("tree"), dir.join("temp"));
        fs::create_dir_all(&temp).unwrap();
        // Fails if CARGO_HOME is not empty, if something is built, or if the tree is not HEAD's.
        let script = "#!/bin/sh\ntest -z \"$(ls -A \"$CARGO_HOME\")\" && test ! -e target && test ! -e new && \
                      test -z \"$CARGO_TARGET_DIR\" && test \"$PWD\" != \"$TREE\"\n";
        let Some(mut vars) = work_tree(&tree, script) else {
            fs::remove_dir_all(&dir).unwrap();
            return println!("SKIP the_clone_has_what_is_committed: git is not installed");
        };
        vars.extend(pairs(&[("CARGO_TARGET_DIR", "/t"), ("TREE", tree.to_str().unwrap())]));
        fs::write(tree.join("new"), "").unwrap();
        let fresh = || run_of(&tree, &temp, &vars);
        let kept = || fs::read_dir(&temp).unwrap().count();
        assert!(matches!(fresh(), Ok(true)));
        assert_eq!(kept(), 0, "removed");
        let commit = |args: &[&str]| {
            git(&vars, &tree, args).unwrap();
            git(&vars, &tree, &["commit", "--quiet", "-m", "more"]).unwrap();
        };
        commit(&["mv", ".ci/run", "run"]);
        assert!(fresh().is_err(), "there is no .ci/run");
        assert_eq!(kept(), 0, "removed");
        fs::create_dir_all(tree.join(".ci")).unwrap();
        commit(&["mv", "run", ".ci/run"]);
        commit(&["add", "new"]);
        assert!(matches!(fresh(), Ok(false)), "the script finds `new`");
        assert_eq!(kept(), 1, "kept");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_directory_below_a_configuration_is_refused_by_its_name() {
        let dir = std::env::temp_dir().join(format!("usersock-above-test-{}", std::process::id()));
        let temp = dir.join("a/b");
        fs::create_dir_all(&temp).unwrap();
        fs::create_dir_all(dir.join(".cargo")).unwrap();
        fs::write(dir.join(".cargo/config.toml"), "").unwrap();
        let refused = run_of(&dir, &temp, &[]);
        fs::remove_dir_all(&dir).unwrap();
        let Err(Failure::Broken(line)) = refused else { panic!("{refused:?}") };
        assert!(line.contains(".cargo/config.toml would govern") && line.contains("TMPDIR"), "{line}");
    }
}

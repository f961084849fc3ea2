//! `usersock new-plugin`: the skeleton of a plug-in, which builds, runs and has a test. The files are those of
//! cli/templates, in which `@name@`, `@Name@`, `@NAME@`, `@usersock@` and `@plugin@` stand for what a caller chose.

use crate::{Failure, out};
use clap::ValueEnum;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  usersock new-plugin tiny --kind proto          # a protocol in C, in ./tiny
  make -C tiny test
  usersock new-plugin floor --kind cong --lang rust
  (cd floor && cargo test)
  usersock new-plugin mine --kind proto --usersock ~/usersock

docs/plugins.md is the guide.")]
pub(crate) struct Args {
    /// Its name, and its folder's: lower-case letters, digits and underscores, at most 15, a letter first
    name: String,
    /// What it adds to a stack
    #[arg(long)]
    kind: Kind,
    /// The language: C with a Makefile, or Rust by the crate usersock-plugin
    #[arg(long, default_value = "c")]
    lang: Lang,
    /// Where usersock is: the prefix it is installed in, or its source tree. Without it, C asks pkg-config, and Rust
    /// takes the prefix or the tree that this command is in
    #[arg(long, value_name = "PATH")]
    usersock: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    /// A transport protocol: sockets of its own
    Proto,
    /// A congestion control of TCP
    Cong,
    /// Hooks into TCP: header options, RTT, retransmissions, states
    Hook,
    /// A layer on a TCP connection (TCP_ULP)
    Ulp,
    /// A kind of device
    Device,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Lang {
    C,
    Rust,
}

/// What the name of a package of Cargo, or a crate that is there already, cannot be; and the keywords of C.
const TAKEN: &str = "abstract alloc as async auto await become box break build case char const continue core crate \
                     default deps do double dyn else enum examples extern final float fn for gen goto if impl in \
                     incremental inline int let long loop macro match mod move mut override priv proc_macro pub ref \
                     register restrict return self short signed sizeof static std struct super switch test trait try \
                     type typedef typeof union unsafe unsigned unsized use usersock usersock_plugin virtual void \
                     volatile where while yield false true";

/// The line of a name that is none.
fn check_name(name: &str) -> Result<(), Failure> {
    let usage = |why: &str| Err(Failure::Usage(format!("new-plugin {name:?}: {why}")));
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.bytes().next().is_some_and(|b| b.is_ascii_lowercase()) || !name.bytes().all(plain) {
        return usage("a name is lower-case letters, digits and underscores, a letter first");
    }
    if name.len() > 15 {
        return usage("a name has at most 15 letters");
    }
    if TAKEN.split(' ').any(|word| word == name) {
        return usage("this name has a meaning in C or Rust");
    }
    Ok(())
}

/// As `my_proto`: `MyProto`.
fn camel(name: &str) -> String {
    let parts = name.split('_').filter(|part| !part.is_empty());
    parts.map(|part| part[..1].to_ascii_uppercase() + &part[1..]).collect()
}

/// The folder of the crate usersock-plugin in a source tree or below a prefix.
fn crate_in(usersock: &Path) -> Option<PathBuf> {
    let folders = [usersock.join("plugin"), usersock.join("share/usersock/plugin")];
    folders.into_iter().find(|folder| folder.join("src/sys/mod.rs").exists())
}

/// Where usersock is, as an absolute path; None: pkg-config says.
fn usersock(args: &Args) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = &args.usersock {
        let found = fs::canonicalize(path).ok().filter(|path| path.join("include/usersock/core.h").exists());
        let Some(found) = found else {
            let line = format!("--usersock {}: there is no include/usersock/core.h", path.display());
            return Err(Failure::Usage(line));
        };
        return Ok(Some(found));
    }
    if args.lang == Lang::C {
        return Ok(None);
    }
    let own = std::env::current_exe().ok();
    let found = own.as_deref().and_then(|own| own.ancestors().find(|folder| crate_in(folder).is_some()));
    match found {
        Some(found) => Ok(Some(found.to_owned())),
        None => Err(Failure::Usage("new-plugin --lang rust: where is usersock? --usersock PATH says it".to_owned())),
    }
}

/// The files: where each goes, and its template.
fn files(kind: Kind, lang: Lang) -> Vec<(&'static str, &'static str)> {
    macro_rules! template {
        ($file:literal) => {
            include_str!(concat!("../templates/", $file))
        };
    }
    let (code, test) = match (lang, kind) {
        (Lang::C, Kind::Proto) => (template!("c/proto.c"), template!("c/proto_test.c")),
        (Lang::C, Kind::Cong) => (template!("c/cong.c"), template!("c/cong_test.c")),
        (Lang::C, Kind::Hook) => (template!("c/hook.c"), template!("c/hook_test.c")),
        (Lang::C, Kind::Ulp) => (template!("c/ulp.c"), template!("c/ulp_test.c")),
        (Lang::C, Kind::Device) => (template!("c/device.c"), template!("c/device_test.c")),
        (Lang::Rust, Kind::Proto) => (template!("rust/proto.rs"), template!("rust/proto_test.rs")),
        (Lang::Rust, Kind::Cong) => (template!("rust/cong.rs"), template!("rust/cong_test.rs")),
        (Lang::Rust, Kind::Hook) => (template!("rust/hook.rs"), template!("rust/hook_test.rs")),
        (Lang::Rust, Kind::Ulp) => (template!("rust/ulp.rs"), template!("rust/ulp_test.rs")),
        (Lang::Rust, Kind::Device) => (template!("rust/device.rs"), template!("rust/device_test.rs")),
    };
    match lang {
        Lang::C => vec![
            ("Makefile", template!("c/Makefile")),
            ("@name@.c", code),
            ("@name@_test.c", test),
            (".gitignore", "*.so\n/@name@_test\n"),
        ],
        Lang::Rust => vec![
            ("Cargo.toml", template!("rust/Cargo.toml")),
            ("build.rs", template!("rust/build.rs")),
            ("src/lib.rs", code),
            ("tests/@name@.rs", test),
            (".gitignore", "/target\n"),
        ],
    }
}

fn write(folder: &Path, files: &[(String, String)]) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    for (name, text) in files {
        let file = folder.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = args.name.as_str();
    check_name(name)?;
    let usersock = usersock(args)?;
    let plugin = usersock.as_deref().and_then(crate_in);
    if args.lang == Lang::Rust && plugin.is_none() {
        let path = usersock.unwrap_or_default();
        return Err(Failure::Usage(format!("--usersock {}: the crate usersock-plugin is not there", path.display())));
    }
    let text_of = |path: Option<PathBuf>| path.map_or(String::new(), |path| path.display().to_string());
    let (usersock, plugin) = (text_of(usersock), text_of(plugin));
    // Neither a Makefile nor a string of Rust or TOML has to quote what is left.
    if usersock.contains(|c: char| c.is_whitespace() || "\"\\$#%".contains(c)) {
        return Err(Failure::Usage(format!("--usersock {usersock}: a Makefile cannot name this path")));
    }
    let (camel, upper) = (camel(name), name.to_ascii_uppercase());
    let words =
        [("@name@", name), ("@Name@", &camel), ("@NAME@", &upper), ("@usersock@", &usersock), ("@plugin@", &plugin)];
    let filled = |text: &str| words.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value));
    let files: Vec<_> = files(args.kind, args.lang).into_iter().map(|(to, text)| (filled(to), filled(text))).collect();
    write(Path::new(name), &files).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::Usage(format!("new-plugin {name}: ./{name} exists already")),
        _ => Failure::Broken(format!("new-plugin {name}: {e}")),
    })?;
    let next = match args.lang {
        Lang::C => format!("make -C {name} test"),
        Lang::Rust => format!("(cd {name} && cargo test)"),
    };
    out::print(|out| writeln!(out, "./{name} is made; next: {next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_of_both_languages() {
        for name in ["a", "tiny", "my_proto", "rdp2", "fifteen_letters"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Tiny", "2rdp", "_x", "my-proto", "über", "a b", "sixteen__letters", "static", "test", "fn"] {
            assert!(matches!(check_name(name), Err(Failure::Usage(line)) if !line.contains('\n')), "{name}");
        }
        assert_eq!([camel("tiny"), camel("my_own__proto"), camel("rdp_2")], ["Tiny", "MyOwnProto", "Rdp2"]);
    }

    #[test]
    fn nothing_of_a_template_is_left_to_fill_in() {
        for kind in Kind::value_variants() {
            for lang in Lang::value_variants() {
                for (to, text) in files(*kind, *lang) {
                    let known = ["@name@", "@Name@", "@NAME@", "@usersock@", "@plugin@"];
                    let rest = known.iter().fold(format!("{to} {text}"), |text, word| text.replace(word, ""));
                    // A recipe of make may begin with one.
                    assert!(!rest.contains('@') || to == "Makefile" && !rest.contains("@@"), "{to}");
                }
            }
        }
    }
}

//! The headers in include/ are what cbindgen generates from the present source: `usersock.h` for programs,
//! `usersock/*.h` for plug-ins and the simulator ([`HEADERS`] says what is in which). Every export is declared in one
//! of them, documented, and goes through `boundary`. `USERSOCK_WRITE_HEADER=1` writes the files instead of comparing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A header, what it includes, what it includes at its end, since it declared that once, the source files whose items
/// it declares, and what it is for.
struct Header {
    name: &'static str,
    includes: &'static [&'static str],
    end: Option<&'static str>,
    sources: &'static [&'static str],
    about: &'static str,
}

/// `usersock.h`'s own text is in cbindgen.toml.
const HEADERS: [Header; 12] = [
    Header {
        name: "usersock.h",
        includes: &[],
        end: None,
        sources: &[
            "admin",
            "epoll",
            "fcntl",
            "ifaddrs",
            "io",
            "poll",
            "positioned",
            "select",
            "socket",
            "socklist",
            "stacks",
            "stdio",
            "transfer",
        ],
        about: "",
    },
    Header {
        name: "usersock/core.h",
        includes: &["../usersock.h"],
        end: Some("sock.h"),
        sources: &[
            "handle",
            "library",
            "plugin/addr",
            "plugin/guard",
            "plugin/lists",
            "plugin/load",
            "plugin/mem",
            "plugin/msg",
            "plugin/registration",
            "plugin/skb",
        ],
        about: CONVENTIONS,
    },
    Header {
        name: "usersock/sock.h",
        includes: &["core.h"],
        end: None,
        sources: &["plugin/info", "plugin/owned", "plugin/sock", "plugin/wait"],
        about: "socks: what they are, what their owner does with them, and waiting. core.h includes it.",
    },
    Header {
        name: "usersock/proto.h",
        includes: &["core.h"],
        end: Some("ip.h"),
        sources: &["plugin/diag", "plugin/private", "plugin/proto", "plugin/softirq"],
        about: "transport protocols, struct usk_proto.",
    },
    Header {
        name: "usersock/ip.h",
        includes: &["proto.h"],
        end: Some("over.h"),
        sources: &["plugin/ip", "plugin/offload", "plugin/ports"],
        about: "what a transport protocol has of IP: sending, routes, ICMP errors, super-packets, addresses and ports. \
                proto.h includes it.",
    },
    Header {
        name: "usersock/over.h",
        includes: &["ip.h"],
        end: None,
        sources: &["plugin/inner", "plugin/inner_calls", "plugin/udp"],
        about: "transport protocols over a UDP port, struct usk_udp_ops, or over socks of other protocols, struct \
                usk_inner_ops.",
    },
    Header {
        name: "usersock/cong.h",
        includes: &["core.h"],
        end: None,
        sources: &["plugin/borrow", "plugin/cong", "plugin/cong_tcp"],
        about: "congestion control: struct usk_cong_ops for TCP's connections, and the library's algorithms for \
                other protocols.",
    },
    Header {
        name: "usersock/tcp.h",
        includes: &["cong.h"],
        end: None,
        sources: &["plugin/tcp", "plugin/tcp_conn"],
        about: "a TCP beside the library's, struct usk_tcp_ops, which USK_TCP_STACK chooses.",
    },
    Header {
        name: "usersock/ulp.h",
        includes: &["core.h"],
        end: None,
        sources: &["plugin/below", "plugin/ulp"],
        about: "upper-layer protocols (TCP_ULP), struct usk_ulp_ops, and the protocol below, struct usk_below_ops.",
    },
    Header {
        name: "usersock/hooks.h",
        includes: &["core.h"],
        end: None,
        sources: &["plugin/hook", "plugin/sock_ops"],
        about: "hooks into TCP, struct usk_sock_ops: header options, RTT, retransmissions, states.",
    },
    Header {
        name: "usersock/device.h",
        includes: &["core.h"],
        end: None,
        sources: &["plugin/device"],
        about: "kinds of devices, struct usk_device_ops.",
    },
    Header {
        name: "usersock/sim.h",
        includes: &["../usersock.h"],
        end: None,
        sources: &["sim_link", "sim_thread", "sim_world"],
        about: SIMULATOR,
    },
];

/// What a program does with a world, one paragraph per line.
const SIMULATOR: &str =
    "worlds in virtual time, to test a protocol or a program of one's own: hosts, bad links between them, and \
     threads with blocking calls, without privileges, without waiting, and repeatable to the byte. docs/plugins.md \
     is the guide, examples/c/simulator.c an example.
     usk_world_new with a seed, usk_world_host for each host, usk_world_link for each link; then sockets of the \
     hosts by usk_socket_on. Either one thread does all: a call that blocks steps the world until it is over. Or \
     each part of the play is a thread, usk_world_thread, and usk_world_run_... or usk_thread_join steps the world. \
     Time passes only while it is stepped, from event to event.
     The calls are a program's: they return -1 or null with errno on failure. Handles are numbers: one that was \
     freed, that fork(2) inherited, or that is of something else is EBADF. Times are nanoseconds since the world's \
     beginning.
     A call that waits for what no event can bring is EINTR outside of the world's threads; in one of them it waits \
     until the world is freed. usk_poll, usk_select and usk_epoll_wait with sockets of a world wait in virtual time \
     and see descriptors of the kernel only when they return; without such a socket they wait in real time.";

/// Conventions of all calls of plug-ins, one paragraph per line.
const CONVENTIONS: &str =
    "what all of them stand on: loading, registrations, socks, packets, messages, addresses. Each kind of plug-in has \
     a header beside this one, which includes it. docs/plugins.md is the guide.
     Return values are those of functions in the kernel: an int or a length is 0 or more, or a negative errno; a \
     pointer is null on failure. Null where it is not allowed is -EINVAL or -EFAULT; other pointers are believed, as \
     the kernel believes its modules: what follows Requires: says what they must be. Only usk_plugin_load, \
     usk_plugin_attach, usk_plugin_unload and usk_device_add, which are for programs, return -1 or null with errno.
     Units: times are nanoseconds of the stack's clock, sizes are bytes, ports are in host order, addresses in network \
     order.
     Contexts: process context is a thread in a system call, which may sleep; softirq is packet and timer work, which \
     may not. A call can be made in both, unless it says process context: that one may sleep. A call that takes \
     usk_owned_t is for the owner of the sock; one that takes usk_sock_t can be made without owning it.
     Ownership: a call that takes a packet has it from then on, on failure too. A sock that a call gives held is given \
     back by usk_sock_put. Strings and tables are the caller's again when the call returns.";

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include")
}

/// The source files by their names in [`HEADERS`].
fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    ["", "plugin"]
        .into_iter()
        .flat_map(|dir| std::fs::read_dir(src.join(dir)).expect("the source is readable"))
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .map(|p| {
            let name = p.strip_prefix(&src).expect("below src").with_extension("").display().to_string();
            (name, std::fs::read_to_string(&p).expect("a source file"))
        })
        .collect()
}

/// The C names that a source file defines: functions, types and constants.
fn items(source: &str) -> Vec<String> {
    source
        .lines()
        .filter(|line| line.starts_with("pub "))
        .filter_map(|line| ["fn ", "struct ", "type ", "const "].iter().find_map(|kind| line.split_once(kind)))
        .map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(rest).to_owned())
        .filter(|name| name.starts_with("usk_") || name.starts_with("USK_"))
        .collect()
}

/// Each export with the text from its attribute to its end.
fn exports(source: &str) -> Vec<(String, String)> {
    source
        .split("#[unsafe(no_mangle)]")
        .skip(1)
        .map(|part| {
            let body = part.split("\n}\n").next().unwrap_or(part).to_owned();
            let name = body.split("fn ").nth(1).and_then(|s| s.split('(').next()).expect("an export's name");
            (name.to_owned(), body)
        })
        .collect()
}

/// A text in lines of at most 120 columns, each after `before`.
fn wrapped(text: &str, before: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && before.len() + line.len() + 1 + word.len() > 120 {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines.iter().map(|line| format!("{before}{line}\n")).collect()
}

/// Types by their typedef names, where cbindgen writes the tags of some: `struct usk_skb_t *` becomes `usk_skb_t *`.
fn typedef_names(text: &str) -> String {
    let mut out = String::new();
    // By how many columns the further lines of a declaration move left, as its first line did.
    let mut moved = 0;
    for line in text.lines() {
        if line.starts_with("typedef struct") {
            out += &format!("{line}\n");
            continue;
        }
        let mut new = String::new();
        let mut rest = line.strip_prefix(&" ".repeat(moved)).unwrap_or(line);
        while let Some(at) = rest.find("struct usk_") {
            let name = rest[at + "struct ".len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let is_typedef = name.is_some_and(|name| name.ends_with("_t"));
            let end = at + if is_typedef { 0 } else { "struct ".len() };
            new += &rest[..end];
            rest = &rest[at + "struct ".len()..];
        }
        new += rest;
        if line.starts_with("struct usk_") {
            moved = line.len() - line.trim_start_matches("struct ").len();
        }
        if line.ends_with(';') || line.is_empty() {
            moved = 0;
        }
        out += &format!("{new}\n");
    }
    out
}

/// Converts Rust idioms in cbindgen's text to C: a Safety section becomes a sentence, and names that are Rust keywords
/// or begin with an underscore become plain ones.
fn c_text(rust: &str) -> String {
    let mut out = String::new();
    let mut lines = rust.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "# Safety" {
            let mut promise = String::from("Requires:");
            for line in lines.by_ref().take_while(|line| line.trim() != "*/") {
                promise += &format!(" {}", line.trim());
            }
            let indent = &line[..line.len() - line.trim_start().len()];
            let first = promise.chars().nth("Requires: ".len()).map(|c| c.to_lowercase().to_string());
            promise.replace_range("Requires: ".len().."Requires: ".len() + 1, &first.unwrap_or_default());
            out += &format!("{}{indent}*/\n", wrapped(&promise, indent));
        } else {
            out += &format!("{line}\n");
        }
    }
    let out = typedef_names(&out);
    let mut text = String::new();
    for word in out.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_') {
        let name = word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_');
        text += match name {
            "ty" => "type",
            "priv_" | "_priv" => "priv",
            "_ack" => "ack",
            other => other,
        };
        text += &word[name.len()..];
    }
    variadic(&text)
}

/// The two calls whose last argument depends on another are variadic to C, as POSIX has them. Rust has no variadic
/// definitions on stable; on the ABIs of Linux an integer or pointer is passed in the same place either way.
fn variadic(text: &str) -> String {
    let mut out = text.to_owned();
    for name in ["int usk_fcntl(", "int usk_ioctl("] {
        if let Some(at) = out.find(name)
            && let Some(end) = out[at..].find(");")
            && let Some(last) = out[at..at + end].rfind(',')
        {
            let indent = out[at + last + 1..at + end].find(|c: char| !c.is_whitespace()).unwrap_or(0);
            out.replace_range(at + last + 1 + indent..at + end, "...");
        }
    }
    out
}

/// A header that includes another one at its end, which stands on it: inside of its guard.
fn with_end(text: String, end: Option<&str>) -> String {
    let Some(end) = end else { return text };
    let at = text.rfind("#endif").expect("a guard");
    format!("{}#include \"{end}\"\n\n{}", &text[..at], &text[at..])
}

/// All headers, in the order of [`HEADERS`].
fn generated() -> &'static [String] {
    static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = sources();
        HEADERS
            .iter()
            .map(|header| {
                let mut config = cbindgen::Config::from_file(dir.join("cbindgen.toml")).expect("cbindgen.toml parses");
                let others = sources.iter().filter(|(name, _)| !header.sources.contains(&name.as_str()));
                config.export.exclude = others.flat_map(|(_, source)| items(source)).collect();
                // Types that no call of the same header uses are included too.
                config.export.include = header.sources.iter().flat_map(|name| items(&sources[*name])).collect();
                if !header.includes.is_empty() {
                    config.include_guard = Some(header.name.to_uppercase().replace(['/', '.'], "_"));
                    let licence = "MIT OR Apache-2.0.";
                    let whom = if header.name == "usersock/sim.h" { "'s simulator" } else { " for plug-ins" };
                    let about = format!("usersock{whom}: {} {licence}", header.about);
                    let paragraphs: Vec<_> = about.lines().map(|line| wrapped(line, " * ")).collect();
                    config.header = Some(format!("/{} */", paragraphs.join(" *\n").trim()));
                    config.sys_includes.clear();
                    config.after_includes = None;
                    config.includes = header.includes.iter().map(|s| s.to_string()).collect();
                }
                let mut out = Vec::new();
                cbindgen::Builder::new()
                    .with_crate(dir)
                    .with_config(config)
                    .generate()
                    .expect("cbindgen")
                    .write(&mut out);
                with_end(c_text(&String::from_utf8(out).expect("UTF-8")), header.end)
            })
            .collect()
    })
}

#[test]
fn the_checked_in_headers_are_current() {
    for (header, fresh) in HEADERS.iter().zip(generated()) {
        let path = include().join(header.name);
        if std::env::var_os("USERSOCK_WRITE_HEADER").is_some() {
            std::fs::create_dir_all(path.parent().expect("in include/")).expect("include/ is writable");
            std::fs::write(&path, fresh).expect("include/ is writable");
        }
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(have == *fresh, "include/{} is stale: run `cargo xtask header`", header.name);
    }
}

#[test]
fn every_source_of_c_names_is_in_one_header() {
    for (name, source) in sources() {
        let in_headers = HEADERS.iter().filter(|h| h.sources.contains(&name.as_str())).count();
        assert_eq!(in_headers, usize::from(!items(&source).is_empty()), "{name}");
    }
}

#[test]
fn every_export_is_declared_and_documented() {
    let sources = sources();
    let mut count = 0;
    for (header, text) in HEADERS.iter().zip(generated()) {
        for (name, _) in header.sources.iter().flat_map(|s| exports(&sources[*s])) {
            count += 1;
            assert!(name.starts_with("usk_"), "{name}");
            let at = text.find(&format!("{name}(")).unwrap_or_else(|| panic!("{name} is not declared"));
            let line = text[..at].rfind("\n\n").unwrap_or(0);
            assert!(text[line..at].contains("*/"), "{name} is not documented");
        }
    }
    assert_eq!(count, sources.values().flat_map(|s| exports(s)).count());
}

#[test]
fn no_export_skips_its_gate() {
    for (name, body) in sources().values().flat_map(|s| exports(s)) {
        // A call that is another one with fixed arguments uses the other's gate; a call that returns a pointer cannot
        // fail.
        let delegates = ["usk_accept", "usk_epoll_wait", "usk_queue_push", "usk_queue_pop"].contains(&name.as_str());
        let infallible = ["usk_config_error"].contains(&name.as_str());
        // Programs' calls go through `boundary` (`blocking` is it for cancellation points), those of plug-ins through
        // `kernel`; an operation in a table is called by either, and uses `contain`.
        let gated = ["boundary(", "blocking(", "kernel(", "contain("].iter().any(|gate| body.contains(gate));
        assert!(delegates || infallible || gated, "{name} does not go through a gate");
    }
}

/// Functions in a table are called as exports are.
#[test]
fn no_function_of_a_table_skips_its_gate() {
    let below = &sources()["plugin/below"];
    let functions: Vec<_> = below.split("\nunsafe extern \"C-unwind\" fn ").skip(1).collect();
    for body in &functions {
        let body = body.split("\n}\n").next().unwrap_or(body);
        assert!(body.contains("kernel("), "{body} does not go through a gate");
    }
    let table = below.split("static BELOW").nth(1).and_then(|t| t.split("};").next()).expect("the table");
    let members = table.lines().filter(|line| line.trim().ends_with(',') && !line.contains(':')).count();
    assert_eq!(functions.len(), members);
}

#[test]
fn no_word_of_rust_is_in_a_header() {
    for (header, text) in HEADERS.iter().zip(generated()) {
        for word in ["# Safety", "priv_,", "priv_)", "priv_`", "::", "Option<", "repr(C)", "&mut", " ty;", " ty,"] {
            assert!(!text.contains(word), "{} has {word:?}", header.name);
        }
    }
}

#[test]
fn the_text_is_c() {
    let rust = "/*\n A.\n # Safety\n As usk_x; `b`\n is c.\n */\nvoid f(int ty, void *priv_, void *_priv);";
    let c = "/*\n A.\n Requires: as usk_x; `b` is c.\n */\nvoid f(int type, void *priv, void *priv);\n";
    assert_eq!(c_text(rust), c);
    assert_eq!(c_text("int usk_fcntl(int fd, int cmd, long arg);\n"), "int usk_fcntl(int fd, int cmd, ...);\n");
    let tags =
        "struct usk_skb_t *f(struct usk_proto *p,\n                    struct usk_skb_t *s);\ntypedef struct usk_a_t {";
    let names = "usk_skb_t *f(struct usk_proto *p,\n             usk_skb_t *s);\ntypedef struct usk_a_t {\n";
    assert_eq!(c_text(tags), names);
}

/// The words of a mode: a standard, and the features that a program asks the system's headers for.
fn modes() -> Vec<Vec<&'static str>> {
    let features: [&[&str]; 6] = [
        &[],
        &["-D_POSIX_C_SOURCE=200809L"],
        &["-D_POSIX_C_SOURCE=200112L"],
        &["-D_XOPEN_SOURCE=700"],
        &["-D_DEFAULT_SOURCE"],
        &["-D_GNU_SOURCE", "-DCOMPLETE_MMSGHDR"],
    ];
    let standards = ["-std=c99", "-std=c11", "-std=c17", "-std=gnu99", "-std=gnu11", "-std=gnu17"];
    standards.iter().flat_map(|s| features.iter().map(|f| [&[*s], *f].concat())).collect()
}

/// A program that includes nothing else and needs every type that the header takes from the system.
const PROGRAM: &str = r#"
#include "usersock.h"
int program(int fd);
int program(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t len = sizeof a;
    char b[4] = {0};
    struct iovec iov = {0};
    struct msghdr m = {0};
    struct pollfd p = {0};
    struct epoll_event ev = {0};
    struct timespec ts = {0};
    struct timeval tv = {0};
    static fd_set set;
    static sigset_t mask;
    int64_t at = 0;
    off_t from = 0;
    uint64_t count = 0;
    ssize_t n = usk_recv(fd, b, (size_t)1, MSG_PEEK) + usk_writev(fd, &iov, 1) + usk_sendmsg(fd, &m, 0);
    n += usk_splice(fd, &at, fd, &at, 1, 0) + usk_sendfile(fd, fd, &from, 1);
    n += usk_ppoll(&p, 1, &ts, &mask) + usk_select(1, &set, &set, &set, &tv) + usk_epoll_pwait(fd, &ev, 1, 0, &mask);
    n += usk_sendmmsg(fd, (struct mmsghdr *)0, 0, 0) + usk_accept(fd, (struct sockaddr *)&a, &len);
    n += usk_mib_read((usk_stack_t *)0, "TcpInSegs", &count);
#ifdef COMPLETE_MMSGHDR
    struct mmsghdr mm = {0};
    n += usk_recvmmsg(fd, &mm, 1, 0, &ts);
#endif
    return (int)n + usk_socket(AF_INET, SOCK_STREAM, 0);
}
"#;

/// Compiles a program with each of `modes`. False where there is no such compiler.
fn compiles(compiler: &str, name: &str, program: &str, modes: &[Vec<&str>]) -> bool {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = dir.join(name);
    std::fs::write(&source, program).expect("the source is written");
    for mode in modes {
        let mut cc = std::process::Command::new(compiler);
        cc.args(mode).args(["-pedantic-errors", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]);
        cc.args(["-fsyntax-only", "-I"]).arg(include()).arg(&source);
        let Ok(out) = cc.output() else { return false };
        assert!(out.status.success(), "{compiler} {mode:?}:\n{}", String::from_utf8_lossy(&out.stderr));
    }
    true
}

/// Prints outside the test runner's capture, so that `cargo xtask test` counts it.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "SKIP headers in all modes: {why}");
}

#[test]
fn the_header_compiles_by_itself_in_every_mode_of_c() {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if !compiles(&cc, "header.c", PROGRAM, &modes()) {
        skip("there is no C compiler");
    }
}

#[test]
fn the_header_compiles_by_itself_in_every_mode_of_cxx() {
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let modes: Vec<_> = ["-std=c++11", "-std=c++17", "-std=c++20", "-std=gnu++17"].map(|s| vec![s]).into();
    if !compiles(&cxx, "header.cc", PROGRAM, &modes) {
        skip("there is no C++ compiler");
    }
}

/// Each header is complete in itself, and they go together in any order: with a table of each kind, all are used.
#[test]
fn the_headers_of_plug_ins_compile_by_themselves_and_together() {
    let includes = |headers: &[&Header]| headers.iter().map(|h| format!("#include <{}>\n", h.name)).collect::<String>();
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let all: Vec<_> = HEADERS.iter().rev().collect();
    let tables = "\nint tables(void);\nint tables(void)\n{\n    return (int)(sizeof(usk_proto) + sizeof(usk_cong_ops) \
                  + sizeof(usk_tcp_ops) + sizeof(usk_ulp_ops) + sizeof(usk_sock_ops) + sizeof(usk_device_ops));\n}\n";
    let together = ("together".to_owned(), includes(&all) + tables);
    let alone = HEADERS.iter().map(|h| {
        let name = h.name.trim_end_matches(".h").replace('/', "_");
        let use_it = format!("int {name}(void);\nint {name}(void) {{ return 0; }}\n");
        (name, includes(&[h]) + &use_it)
    });
    let c: Vec<_> = ["-std=c99", "-std=gnu17"].map(|s| vec![s]).into();
    let cpp: Vec<_> = ["-std=c++11", "-std=gnu++17"].map(|s| vec![s]).into();
    for (name, program) in alone.chain([together]) {
        if !compiles(&cc, &format!("{name}.c"), &program, &c) || !compiles(&cxx, &format!("{name}.cc"), &program, &cpp)
        {
            return skip("there is no C or no C++ compiler");
        }
    }
}

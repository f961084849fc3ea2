//! How programs are built: fully static; and with usersock/posix.h, under the flags that change what the C library's
//! headers say of a function: optimisation, _FORTIFY_SOURCE (inline functions), _FILE_OFFSET_BITS (other symbols), and
//! in C++. Below: `harness`.

use crate::harness::ours::library;
use crate::harness::{Sanitizer, cases_dir, cc_of, compile, judge, out_dir, sanitizer_env, skip};
use std::process::{Command, Stdio};

const FLAGS: &[(&str, &[&str])] = &[
    ("O0", &["-O0"]),
    ("fortify", &["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]),
    ("lfs", &["-O2", "-D_FILE_OFFSET_BITS=64"]),
    ("both", &["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3", "-D_FILE_OFFSET_BITS=64", "-Wredundant-decls"]),
    ("first", &["-O2", "-D_GNU_SOURCE", "-include", "usersock/posix.h"]),
];

#[test]
fn programs_built_with_posix_h_run_under_all_flags() {
    for name in ["posix_server", "posix_events"] {
        for (variant, flags) in FLAGS {
            let exe = out_dir().join(format!("usersock-{variant}-{name}"));
            let mut cc = cc_of(&cases_dir().join(format!("{name}.c")), Sanitizer::None, &exe);
            cc.args(*flags).arg("-I").arg(cases_dir().join("../../include")).arg(library().join("libusersock.a"));
            cc.args(["-ldl", "-lm", "-lrt", "-lutil", "-lgcc_s"]);
            compile(cc, name, &exe);
            let mut command = Command::new(exe);
            command.env_remove("USERSOCK_CONFIG").stdin(Stdio::null());
            sanitizer_env(&mut command);
            judge(name, command.output());
        }
    }
}

/// `cc -static` with what `pkg-config --static --libs` gives: no shared object is needed to run, nor by threads that
/// end or are cancelled.
#[test]
fn fully_static_programs_link_and_run() {
    for name in ["echo", "posix_server", "cancel"] {
        let exe = out_dir().join(format!("usersock-static-{name}"));
        let mut cc = cc_of(&cases_dir().join(format!("{name}.c")), Sanitizer::None, &exe);
        cc.arg("-static").arg("-I").arg(cases_dir().join("../../include")).arg(library().join("libusersock.a"));
        cc.args(["-lutil", "-lrt", "-lpthread", "-lm", "-ldl"]);
        compile(cc, name, &exe);
        let headers = Command::new("readelf").arg("-l").arg(&exe).output().expect("readelf runs");
        assert!(!String::from_utf8_lossy(&headers.stdout).contains("INTERP"), "{name} is not static");
        judge(name, Command::new(exe).env_remove("USERSOCK_CONFIG").stdin(Stdio::null()).output());
    }
}

/// What the header must not disturb, and all that it redirects: no symbol of the kernel's calls is left.
const PROGRAM: &str = "\
#include <sys/socket.h>
struct ops { int (*bind)(int); long (*read)(void); int (*close)(int); int send; };
#include <usersock/posix.h>
static int one(int x) { return x; }
static struct ops o = { one, 0, one, 3 };
ssize_t (*rd)(int, void *, size_t) = &read;
int all(char *b, struct pollfd *p, size_t n);
int all(char *b, struct pollfd *p, size_t n)
{
    fd_set s;
    FD_ZERO(&s);
    return o.bind(1) + o.close(1) + o.send + bind(1, 0, 0) + (int)read(3, b, n) + (int)recv(1, b, n, 0)
           + (int)recvfrom(1, b, 5, 0, 0, 0) + poll(p, 1, 0) + fcntl(1, F_GETFL) + ioctl(1, 2)
           + (int)sendfile(1, 2, 0, 4) + close(3) + select(1, &s, 0, 0, 0) + socket(1, 2, 3) + (int)write(1, b, n);
}
";

#[test]
fn posix_h_compiles_in_every_mode_and_leaves_no_call_to_the_kernel() {
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    let cc = crate::harness::compiler_name();
    let source = out_dir().join("posix_modes.c");
    std::fs::write(&source, PROGRAM).expect("written");
    let object = out_dir().join("posix_modes.o");
    for (compiler, language, std) in
        [(&cc, "c", "-std=c99"), (&cc, "c", "-std=gnu17"), (&cxx, "c++", "-std=c++11"), (&cxx, "c++", "-std=c++20")]
    {
        for (variant, flags) in FLAGS {
            let what = format!("{compiler} {std} {variant}");
            let mut command = Command::new(compiler);
            command.args(["-x", language, std, "-Wall", "-Wextra", "-Werror"]).args(*flags).arg("-c").arg(&source);
            command.arg("-o").arg(&object).arg("-I").arg(cases_dir().join("../../include"));
            let Ok(built) = command.output() else { return skip(&what, "there is no such compiler") };
            assert!(built.status.success(), "{what}:\n{}", String::from_utf8_lossy(&built.stderr));
            let symbols = Command::new("nm").arg("-u").arg(&object).output().expect("nm runs");
            let symbols = String::from_utf8_lossy(&symbols.stdout);
            let kernels: Vec<_> = symbols
                .lines()
                .filter_map(|line| line.split_whitespace().last())
                .filter(|name| !name.starts_with("usk_") && !name.starts_with("__"))
                .chain(symbols.split_whitespace().filter(|name| name.ends_with("_chk") && !name.contains("fdelt")))
                .filter(|name| !name.starts_with("__stack_chk") && !name.starts_with("_GLOBAL"))
                .collect();
            assert!(kernels.is_empty(), "{what}: {kernels:?}");
        }
    }
}

/// Clang does not give inline functions of the C library another symbol: the header says so, rather than that sockets
/// hang. The preprocessor of any compiler shows it.
#[test]
fn posix_h_refuses_clang_with_inline_functions_of_the_c_library() {
    let source = out_dir().join("posix_clang.c");
    std::fs::write(&source, "#include <usersock/posix.h>\n").expect("written");
    for (level, accepted) in [("-D_FORTIFY_SOURCE=2", false), ("-DNOTHING", true)] {
        let mut command = Command::new(crate::harness::compiler_name());
        command.args(["-E", "-O2", "-U__clang__", "-D__clang__=1", "-U_FORTIFY_SOURCE", level]).arg(&source);
        let ran = command.arg("-I").arg(cases_dir().join("../../include")).output().expect("the compiler runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.success(), accepted, "{level}: {said}");
        assert_eq!(said.contains("-U_FORTIFY_SOURCE"), !accepted, "{level}: {said}");
    }
}

/// The functions that `text` declares or calls, of those that begin with `begin`, without it.
fn names<'t>(text: &'t str, begin: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(begin).skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('(')?;
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
    })
}

/// A function of ours that has the name of one of the C library's is a name that posix.h gives to programs: one that it
/// leaves out acts on the descriptor that stands in for the socket in the kernel, and mostly waits for ever.
#[test]
fn posix_h_redirects_each_function_that_the_c_library_has_too() {
    let include = cases_dir().join("../../include");
    let ours = std::fs::read_to_string(include.join("usersock.h")).expect("usersock.h");
    let posix = std::fs::read_to_string(include.join("usersock/posix.h")).expect("posix.h");
    let declared: std::collections::HashSet<_> = posix
        .lines()
        .filter(|line| line.starts_with("USK_RE") || line.starts_with("USK_INLINED_"))
        .filter_map(|line| line.split(", ").nth(1))
        .collect();
    let libc = Command::new(crate::harness::compiler_name()).arg("-print-file-name=libc.so.6").output();
    let libc = String::from_utf8(libc.expect("the compiler runs").stdout).expect("a path");
    let exports = Command::new("nm").args(["-D", "--defined-only", libc.trim()]).output().expect("nm runs");
    let exports = String::from_utf8_lossy(&exports.stdout);
    // "ADDRESS TYPE NAME@@VERSION"
    let exports: std::collections::HashSet<_> =
        exports.lines().filter_map(|line| line.split_whitespace().nth(2)?.split('@').next()).collect();
    let both: std::collections::BTreeSet<_> = names(&ours, "usk_").filter(|name| exports.contains(name)).collect();
    assert!(both.len() > 50, "{libc}: {both:?}");
    let left_out: Vec<_> = both.iter().filter(|name| !declared.contains(**name)).collect();
    assert!(left_out.is_empty(), "posix.h does not redirect {left_out:?}");
}

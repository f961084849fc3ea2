//! The control socket of the C ABI's stack: it names descriptors; a child of fork neither serves its parent's nor
//! removes the file; exit(3) removes the file of the default stack, which is never freed.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use usersock_ffi::admin::usk_init;
use usersock_ffi::socket::{usk_bind, usk_dup, usk_socket};

fn init(control: &Path) -> bool {
    let text = CString::new(format!("control={}", control.display())).unwrap();
    // SAFETY: a string that outlives the call.
    unsafe { usk_init(text.as_ptr()) == 0 }
}

/// The lines of an answer, without the greeting and the end.
fn ask(control: &Path, request: &str) -> Vec<String> {
    let mut stream = UnixStream::connect(control).unwrap();
    writeln!(stream, "{request}").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut lines: Vec<String> = BufReader::new(stream).lines().map(|l| l.unwrap()).collect();
    assert!(lines.remove(0).starts_with("{\"usersock\":1,"));
    assert_eq!(lines.pop().as_deref(), Some("{\"end\":true}"));
    lines
}

#[test]
fn descriptors_are_named_and_the_file_follows_its_process() {
    let dir = std::env::temp_dir().join(format!("usersock-ffi-control-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
    let (parents, childs) = (dir.join("parent"), dir.join("child"));
    assert!(init(&parents));
    let fd = usk_socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    let copy = usk_dup(fd);
    let mut name: libc::sockaddr_in = libc::sockaddr_in { sin_port: 99u16.to_be(), ..zeroed() };
    name.sin_family = libc::AF_INET as u16;
    // SAFETY: `name` is a whole sockaddr_in.
    assert_eq!(unsafe { usk_bind(fd, (&raw const name).cast(), size_of_val(&name) as u32) }, 0);
    let (program, pid) = (fs::read_to_string("/proc/self/comm").unwrap(), std::process::id());
    let user = |fd| format!("{{\"name\":\"{}\",\"pid\":{pid},\"fd\":{fd}}}", program.trim_end());
    let users = format!("\"users\":[{},{}]", user(fd), user(copy));
    let list = ask(&parents, "sockets");
    assert!(list.len() == 1 && list[0].contains(&users), "{users} in {list:?}");

    // SAFETY: this is the only thread of the test's own; the child makes a stack of its own and ends by exit(3).
    let child = unsafe { libc::fork() };
    if child == 0 {
        let served = init(&childs) && childs.exists() && ask(&childs, "sockets").is_empty();
        // SAFETY: ends the child, running what was registered for its end.
        unsafe { libc::exit(if served { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 7);
    assert!(!childs.exists(), "exit removes the child's");
    assert_eq!(ask(&parents, "sockets"), list, "the parent's is there and serves");
    fs::remove_dir_all(&dir).unwrap();
}

fn zeroed() -> libc::sockaddr_in {
    // SAFETY: all zeros are a valid sockaddr_in.
    unsafe { std::mem::zeroed() }
}

//! Calls to the kernel, and the only unsafe code of this crate (the C ABI's is in `ffi/`). Above: devices (`tun`,
//! `packet`), the runners (`driver`), `base`. The rules:
//!
//! - One system call per `unsafe` block, with the reason why *this* call is sound.
//! - No pointer, no length and no raw structure leaves this directory.
//! - Errors are `io::Error` with the kernel's errno.
//! - Calls are made by the machine's instruction (`raw`), not by libc's functions, so that a preloaded library which
//!   replaces those (such as our own) does not intercept its own stack.
//!
//! | file | what |
//! |---|---|
//! | `bpf` | programs that the kernel runs on packets, and their tables |
//! | `cancel`, `signal` | waits that pthread_cancel(3) ends; SA_RESTART, and signal masks of sleeps |
//! | `fd`, `poll` | descriptors: read, write; eventfd, epoll and timerfd; poll(2) |
//! | `fork`, `owner`, `kept` | detecting fork(2); a value with one owner; a pointer that is recycled when dropped |
//! | `futex`, `lock`, `thread` | waiting on a word; mutexes; per-thread settings |
//! | `group` | the groups of this process |
//! | `mem` | advice about memory |
//! | `near`, `in_call` | thread-locals that each packet uses; the part of them that a signal handler reads |
//! | `netdev` | opening TUN devices and raw sockets |
//! | `numbers` | a set of descriptor numbers without a lock |
//! | `once_box`, `one_of` | a box that is made on first use; nothing, a pointer or a box, in one word |
//! | `place` | a value of any type inside another one, without an allocation |
//! | `raw` | system calls by the machine's instruction |
//! | `unix` | local stream sockets; what runs at exit |
#![allow(unsafe_code)]

pub(crate) mod bpf;
pub(crate) mod cancel;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod group;
mod in_call;
pub(crate) mod kept;
pub(crate) mod lock;
pub(crate) mod mem;
pub(crate) mod near;
pub(crate) mod netdev;
pub(crate) mod numbers;
pub(crate) mod once_box;
pub(crate) mod one_of;
pub(crate) mod owner;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod raw;
pub(crate) mod signal;
pub(crate) mod thread;
pub(crate) mod unix;

use std::io;

/// Converts the result of a system call: -1 means an error in errno.
fn check(answer: libc::c_long) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted before it did anything.
fn retry(mut call: impl FnMut() -> libc::c_long) -> io::Result<usize> {
    loop {
        match check(call()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

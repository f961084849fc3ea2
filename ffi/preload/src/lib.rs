//! `libusersock_preload.so`, the preload shim. LD_PRELOAD puts its functions in front of the C library's, so an
//! unmodified program has its sockets in a stack of its own process, or on a stack server (`spliced`).
//! `docs/preload.md` says what works. Above: programs. Below: `usersock_ffi`, `usersock_spliced`, and the real
//! functions.
//!
//! | file | what |
//! |---|---|
//! | `load` | the constructor: real functions, configuration, whose stack it is |
//! | `role` | what this process may do with the stack: own it, or be a child |
//! | `real` | the functions that come next, found by dlsym(3); the macro that interposes one |
//! | `control` | socket, bind, listen, accept, connect, names, options, shutdown |
//! | `data` | read, write, send, recv and their kin, sendfile, splice |
//! | `ready` | poll, select, epoll |
//! | `whose` | whose a descriptor is, by its number |
//! | `descriptors` | close, dup, fcntl, ioctl and their kin |
//! | `spliced` | `control` where a stack server has the sockets |
//! | `served`, `several`, `urgent` | `data` where a stack server has the sockets; sendmmsg, recvmmsg; MSG_OOB |
//! | `number` | syscall(2) |
//! | `process`, `environment`, `end` | exec, posix_spawn, what they pass on; the end of the process |
//! | `signals` | sigaction, signal |
//! | `streams` | fdopen, fileno, fclose, dprintf |
//! | `names` | interfaces by name, number and as a list |
//! | `variadic`, `variadic.c` | what ends with `...` |
//!
//! A call on a descriptor that is not ours costs one look into a set of bits (`fdtable::numbers`), and then jumps to
//! the real function. The library's own system calls are made by instruction (`sys::raw`) and never come here; those
//! of Rust's standard library do, and cost that look: nothing here takes a lock before it knows that the descriptor is
//! ours. Before the constructor has run (an allocator that reads a file, the constructor of another library) real
//! functions are not known yet, and a call is the kernel's by instruction.
//!
//! Exported are the interposed names, and the C ABI for plug-ins that a configuration loads.

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
compile_error!("the preload shim is for glibc on 64-bit Linux: with a 64-bit time_t on 32 bits, libc has other names");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the preload shim needs system calls by instruction: src/sys/raw.rs has them for x86_64 and aarch64");

mod control;
mod data;
mod descriptors;
mod end;
mod environment;
mod load;
mod names;
mod number;
mod process;
mod ready;
mod real;
mod role;
mod served;
mod several;
mod signals;
mod spliced;
mod streams;
mod urgent;
mod variadic;
mod whose;

/// All interposed functions, by the file that has them: `load` finds the real ones.
const INTERPOSED: [&[real::Entry]; 8] = [
    control::ENTRIES,
    data::ENTRIES,
    descriptors::ENTRIES,
    names::ENTRIES,
    process::ENTRIES,
    ready::ENTRIES,
    signals::ENTRIES,
    streams::ENTRIES,
];

pub use usersock_ffi::*;

//! The stack server and its clients. A TCP socket of a program is a descriptor of the kernel: one end of an AF_UNIX
//! stream, whose other end a stack server has. The kernel does what programs do with descriptors (read, poll, epoll,
//! fork, exec, dup, sendfile, SCM_RIGHTS); the few calls about addresses, options and states go to the server.
//! `docs/server.md` describes it. Above: `client` is called by the preload shim (`ffi/preload`), `server` by
//! `usersock serve` and `usersock run`. Below: `usersock::net::Socket`.
//!
//! | module | |
//! |---|---|
//! | `instance` | which server: its secret, as the environment carries it |
//! | `name` | the abstract names of descriptors, which say what each is |
//! | `rpc` | requests and answers |
//! | `inband` | options that need neither |
//! | `client` | the calls of a program: what the preload shim makes of socket, bind, connect, accept ... |
//! | `epolls` | the epoll sets that a descriptor is in |
//! | `peek` | the wait of a peek for as much as was asked for |
//! | `server` | the server: one thread, one epoll |
//! | `diag` | which descriptors of programs there are, by the kernel's list |
//! | `ring` | sends on many sockets by one system call |
//! | `sys` | system calls |
//!
//! A client keeps no state that matters: it asks the kernel for a descriptor's names, and so survives fork, exec, dup
//! and the passing of descriptors to other processes.

pub mod client;
pub mod diag;
mod epolls;
mod inband;
pub mod instance;
pub mod name;
pub mod peek;
mod ring;
mod rpc;
pub mod server;
pub mod sys;

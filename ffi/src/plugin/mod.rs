//! Plug-ins in C: what a program or a shared object adds to a stack at run time. The Rust plug points are in the core
//! (`sock::proto::Proto` and others); each file here mirrors one of them in C, or has functions that a protocol may
//! call.
//!
//! | file | what |
//! |---|---|
//! | `gate` | the gate of these calls; access to what their pointers point to |
//! | `table`, `lists` | structs of an older or newer header, read and filled in; counters and sysctls of a table |
//! | `load` | loading and unloading |
//! | `addr` | usk_addr_t |
//! | `watch` | packets under watch: USERSOCK_DEBUG=skb, AddressSanitizer |
//! | `skb`, `msg` | packets and the program's messages |
//! | `registration` | usk_reg_t: a registration, its counters and sysctls; clock, randomness, drops |
//! | `guard` | usk_owned_t: the proof that a sock is owned |
//! | `call` | calling an operation that gets a sock |
//! | `deferred`, `diag` | a protocol's own timers and work; what it shows of a sock: usk_diag_t |
//! | `proto` | struct usk_proto and its registration |
//! | `inner` | socks of other protocols that a sock owns, and what they tell it |
//! | `private` | the data of a C protocol in each of its socks |
//! | `mem`, `info` | memory accounting of a sock; its properties: usk_sock_info |
//! | `ports`, `owned`, `wait` | binding, look-up, connections; an owned sock's state, queue and timers; sleeping |
//! | `sock` | calls on a sock that is not owned (usk_sock_t) |
//! | `ip` | routes, output, checksums |
//! | `udp`, `inner_calls` | UDP ports of a plug-in; the calls on inner socks |
//! | `softirq` | what concerns all socks of a protocol, or none: groups, iteration, its own timers |
//! | `offload` | super-packets, and checksums that are left open |
//! | `cproto` | the protocol made of a struct usk_proto |
//! | `below`, `ulp` | struct usk_below_ops: the protocol below; struct usk_ulp_ops: upper-layer protocols |
//! | `sock_ops`, `hook` | struct usk_sock_ops: hooks into TCP, and the functions that one may call; header options |
//! | `cong_tcp`, `cong` | a connection's variables, and struct usk_cong_ops: congestion control of TCP |
//! | `tcp_conn`, `tcp` | a connection, and struct usk_tcp_ops: a TCP beside the library's |
//! | `borrow` | congestion control for protocols other than TCP |
//! | `device` | struct usk_device_ops: kinds of devices |
//!
//! A file uses only files above it in this list (a test checks it), and those that programs' calls use too: `boundary`,
//! `ptr`, `library` and `loader` (shared objects, and what they register), `handle` and `held` (socks that plug-ins
//! hold), `note`, `stacks`. None of those, and no call of a program, uses this folder.
//!
//! Calls that a plug-in makes return what functions in the kernel do: 0 or more, or a negative errno; a pointer, or
//! null.

pub mod addr;
pub mod below;
pub mod borrow;
pub mod cong;
pub mod cong_tcp;
pub mod device;
pub mod diag;
pub mod guard;
pub mod hook;
pub mod info;
pub mod inner;
pub mod inner_calls;
pub mod ip;
pub mod load;
pub mod mem;
pub mod msg;
pub mod offload;
pub mod owned;
pub mod ports;
pub mod private;
pub mod proto;
pub mod registration;
pub mod skb;
pub mod sock;
pub mod sock_ops;
pub mod softirq;
pub mod tcp;
pub mod tcp_conn;
pub mod udp;
pub mod ulp;
pub mod wait;

mod call;
mod cproto;
mod deferred;
mod gate;
mod lists;
mod table;
mod watch;

pub use watch::packets_owned;

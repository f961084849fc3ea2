//! TCP sockets in user space, as Linux does them, for any program.
//!
//! A process may hold many stacks ([`stack::Stack`]); nothing is global but the default one of [`net`]. One is made
//! from a line of text ([`config::build`]), in a world in virtual time ([`sim::World`]), or piece by piece
//! ([`standard::stack`], [`stack::Stack::new`]).
//!
//! # What is public
//! | module | for whom |
//! |---|---|
//! | [`net`] | programs: `TcpStream`, `TcpListener`, `UdpSocket`, and `Socket` underneath, with all of socket(7) |
//! | [`config`] | a stack from a line of text, and the process's default stack |
//! | [`sim`] | tests in virtual time: stacks, and links with loss, delay and reordering |
//! | [`stack`], [`standard`], [`driver`], [`env`](mod@env) | a stack piece by piece: protocols, clock, randomness |
//! | [`ip`], [`sysctl`], [`counters`] | administration: addresses, routes, neighbours, settings, counters |
//! | [`device`] | devices: those there are, and the trait of your own |
//! | [`tcp::cong`], [`tcp::sock_ops`], [`tcp::ulp`] | plug points of TCP: congestion control, hooks, layers |
//! | [`tcp::cong::borrowed`] | TCP's congestion control for a protocol of your own |
//! | [`sock::proto`] | a protocol of your own; it is written with [`sock`], [`ip`], [`hash`], [`wire`] |
//! | [`error`] | errors, each an errno |
//!
//! `examples/rdp_skeleton.rs` is a whole protocol with connections, written with these modules alone.
//!
//! # The two walks
//! `send()` reaches the wire through these files, one job each: `ffi/src/io.rs` (pointer to slice, error to errno) →
//! `inet/mod.rs` (which protocol; may this socket send) → `tcp/proto.rs` (the table of operations) → `tcp/sendmsg.rs`
//! (bytes join the send queue; `sock/mem.rs` charges them) → `sock/lock.rs` (owns the sock meanwhile) →
//! `tcp/output.rs` (push now or later) → `tcp/xmit.rs` (which segment, how long) → `tcp/segment.rs` (options, header,
//! through `wire/tcp.rs`) → `ip/output.rs` (IP header; `device/gso.rs` cuts what the device cannot) → `ip/neigh.rs`
//! (the link address, where there is one to find) → `device/netdev.rs` (the device's queue) → `device/tun.rs` (one
//! super-packet, with the header of `device/vnet.rs`) → `sys/fd.rs` (`writev`).
//!
//! A packet reaches `recv()`: `sys/fd.rs` (`readv`) → `device/tun.rs` → `device/netdev.rs` → `ip/input.rs` (validates,
//! reassembles by `ip/fragment.rs`, finds the protocol) → `tcp/proto.rs` → `tcp/rcv.rs` (checksum, header; the sock by
//! `tcp/lookup.rs`) → `sock/lock.rs` (run now, or queue for the owner) → `tcp/input.rs` (the steps of RFC 9293
//! §3.10.7.4) → `tcp/ack.rs` → `tcp/reassembly.rs` (the receive queue) → `tcp/delack.rs` (acknowledge now or later) →
//! `sock/wait.rs` (wake the reader) → `inet/mod.rs` → `tcp/proto.rs` → `tcp/recvmsg.rs`. Which thread runs that half is
//! decided in `driver/lease.rs`: one that is about to block does it itself.
//!
//! # Layers
//! Each names only what stands below it; `tests/layers.rs` holds the imports against the same table. [`stack`],
//! [`sock`], [`device`] and [`driver`] are one layer, the core, which names no protocol; `tcp`, `udp`, `ping`, `raw`
//! and `inet` stand side by side on `ip` and do not name each other.
//!
//! | module | what it is |
//! |---|---|
//! | [`sim`] | worlds in virtual time (packet scripts are the crate in `script/`) |
//! | [`net`] | the Rust API in the manner of `std::net` |
//! | [`config`] | a stack from a line of text |
//! | [`standard`] | the one file that names all protocols: registers the standard set |
//! | `inet` | the socket: its calls to protocol slots, and the state checks of each |
//! | [`tcp`], `udp`, `ping`, `raw` | the protocols (`ping`: ICMP echo sockets), registered as any other is |
//! | [`ip`] | input, output, routes, neighbours, fragments, ICMP; ports and bind(2) |
//! | [`driver`] | who runs softirq, and how a thread waits: the lease in real time, stepping in virtual time |
//! | [`device`] | loopback, TUN, raw socket, simulated link, capture; [`device::netdev`]: a device in a stack |
//! | [`sock`] | the sock, its lock and backlog, packets, memory; [`sock::proto`]: the table every protocol fills |
//! | [`stack`] | a stack, Linux's `struct net`: everything hangs from it; `poll` is all of softirq |
//! | [`wire`] | packet formats: views checked once, and emitters |
//! | [`sysctl`], [`counters`], `base` | what all use: settings, counters, clocks, errors, hashes, timer wheels |
//! | `internal` | what our own crates need and no program: hidden, without promises |
//! | `sys` | system calls: with `ffi/` and `packetdrill/`, the only unsafe code |
//!
//! # Lock order
//! A sock's state, then any leaf lock: hash shard, timer wheel, device queue, wait queue, route table, neighbour table.
//! Never two sock states, but listener then child. A leaf lock is never held while a sock is entered, and code that a
//! leaf lock's holder calls (`Watch::notify`) enters none.
//!
//! # fork(2)
//! A stack belongs to the process that made it ([`stack::Stack::is_inherited`]): in a child its socks answer ENETDOWN
//! and close in silence, its devices are not open, and it never ends. What is static is made anew there
//! (`sys::fork`). Locks are `sys::lock`'s, which know of no other thread than those that wait for them.
//!
//! # Not implemented
//! What Linux has and this version lacks answers as a kernel built without it. The greater things: MSG_ZEROCOPY,
//! TCP_REPAIR, TCP Fast Open, MTU probing, TCP-MD5 and TCP-AO, SYN cookies, transmit timestamps, accurate ECN, the
//! metrics cache; IGMP and MLD reports, router advertisements, IP options in sent packets. A sysctl that governs what
//! is lacking takes no value but its default and the one that does without (`sysctl`, `Support::Planned`); `usersock
//! sysctl -ad` says which they are.
#![warn(unreachable_pub)]

pub(crate) mod base;
pub mod config;
pub mod counters;
pub mod device;
pub mod driver;
pub(crate) mod inet;
#[doc(hidden)]
pub mod internal;
pub mod ip;
pub mod net;
pub(crate) mod ping;
pub(crate) mod raw;
pub mod sim;
pub mod sock;
pub mod stack;
pub mod standard;
pub(crate) mod sys;
pub mod sysctl;
pub mod tcp;
pub(crate) mod udp;
pub mod wire;

pub use base::{env, error, hash};

//! TCP sockets in user space, as Linux does them, for any program.
//!
//! A process may hold many stacks ([`stack::Stack`]); the only global one is the default stack of [`net`]. A stack is
//! created from a line of text ([`config::build`]), in a world in virtual time ([`sim::World`]), or piece by piece
//! ([`standard::stack`], [`stack::Stack::new`]).
//!
//! # What is public
//! | module | for whom |
//! |---|---|
//! | [`net`] | programs: `TcpStream`, `TcpListener`, `UdpSocket`, and the underlying `Socket`, with all of socket(7) |
//! | [`config`] | a stack from a line of text, and the process's default stack |
//! | [`control`] | looking into a running stack from another process |
//! | [`sim`] | tests in virtual time: stacks, and links with loss, delay and reordering |
//! | [`stack`], [`standard`], [`driver`], [`env`](mod@env) | a stack piece by piece: protocols, clock, randomness |
//! | [`ip`], [`sysctl`], [`counters`] | administration: addresses, routes, neighbours, settings, counters |
//! | [`device`] | devices: the built-in ones, and the trait for your own |
//! | [`tcp::cong`], [`tcp::sock_ops`], [`tcp::ulp`] | plug points of TCP: congestion control, hooks, layers |
//! | [`tcp::cong::borrowed`] | TCP's congestion control for a protocol of your own |
//! | [`sock::proto`] | a protocol of your own; it is written with [`sock`], [`ip`], [`hash`], [`wire`] |
//! | [`error`] | errors, one per errno |
//!
//! `examples/rdp_skeleton/` is a complete protocol with connections, written with only these modules.
//!
//! # Words
//! Most are Linux's.
//!
//! | word | what it means here |
//! |---|---|
//! | sock | the inside of a socket, shared by its descriptors and the protocol (`struct sock`) |
//! | owner of a sock | the thread that has locked it, `lock_sock`, until its call ends or sleeps, or its packet is processed |
//! | backlog | packets that came for a sock while it was owned; the owner processes them when it releases the sock |
//! | skb | a packet buffer (`struct sk_buff`) |
//! | super-packet | an skb that stands for many segments, up to 64 KiB; the device cuts it, or `device/gso.rs` |
//! | softirq | the receive half: takes packets from the devices, runs timers, resumes senders |
//! | lease | the right of one thread at a time to wait at a device's queue and to run softirq for it |
//! | shim | the preload library, which puts its functions in front of the C library's (`ffi/preload/`) |
//! | short way | a fast path (below) |
//!
//! # The two walks
//! `send()` reaches the wire through these files, each with one task. Each row names a function to look for.
//!
//! | file | function | task |
//! |---|---|---|
//! | `ffi/src/io.rs` | `usk_send` | pointer to slice, error to errno |
//! | `ffi/src/fdtable.rs` | `socket` | the socket behind a descriptor |
//! | `inet/mod.rs` | `sendmsg` | checks that the socket may send; calls its protocol |
//! | `tcp/proto.rs` | `sendmsg` | an entry of the table of operations |
//! | `tcp/sendmsg.rs` | `sendmsg` | locks the sock; `append` puts the bytes into the send queue |
//! | `sock/lock.rs` | `lock` | from here on this thread owns the sock, until the call ends or sleeps |
//! | `sock/mem.rs` | `schedule` | charges for the bytes |
//! | `sock/copy.rs` | `append_to` | copies them |
//! | `tcp/output.rs` | `push` | now or later |
//! | `tcp/xmit.rs` | `write_xmit` | which segment, how long |
//! | `tcp/segment.rs` | `transmit_skb` | options, header |
//! | `wire/tcp.rs` | `emit` | the header's bytes |
//! | `ip/output.rs` | `xmit` | IP header |
//! | `device/gso.rs` | `segment` | cuts what the device cannot |
//! | `ip/neigh.rs` | `output` | the link address, on Ethernet |
//! | `device/netdev.rs` | `xmit` | the device's queue |
//! | `device/tun.rs` | `xmit` | a device |
//! | `device/vnet.rs` | `xmit` | one super-packet, with a header that says how to cut it |
//! | `sys/fd.rs` | `write`, `writev` | the system call |
//!
//! A packet reaches the reader through these. All of it is softirq; a thread that is about to block in `recv()` runs it
//! itself.
//!
//! | file | function | task |
//! |---|---|---|
//! | `driver/lease.rs` | `block` | decides which thread runs softirq |
//! | `stack/softirq.rs` | `poll_queues` | receives from devices, runs timers |
//! | `device/netdev.rs` | `receive` | one thread at a time for each queue |
//! | `device/tun.rs` | `recv` | a device |
//! | `device/vnet.rs` | `receive` | one packet, or a super-packet by its header |
//! | `sys/fd.rs` | `readv` | the system call |
//! | `ip/input.rs` | `receive_v4` | validates; `deliver_v4` finds the protocol |
//! | `ip/fragment.rs` | `receive_v4` | reassembles fragments |
//! | `tcp/proto.rs` | `rcv` | an entry of the table |
//! | `tcp/rcv.rs` | `rcv_any` | checksum, header |
//! | `tcp/lookup.rs` | `by_hash` | finds the sock |
//! | `sock/lock.rs` | `deliver` | process now, or leave it in the owner's backlog |
//! | `tcp/proto.rs` | `backlog_rcv`, `do_rcv` | either way: the segment, by the sock's state |
//! | `tcp/input.rs` | `rcv_established` | the steps of RFC 9293 §3.10.7.4 |
//! | `tcp/ack.rs` | `ack` | what it acknowledges |
//! | `tcp/reassembly.rs` | `data_queue` | its data: the receive queue |
//! | `tcp/recvmsg.rs` | `data_ready` | whether a reader has enough |
//! | `sock/wait.rs` | `wake` | wakes the reader |
//! | `tcp/delack.rs` | `ack_snd_check` | acknowledge now or later |
//!
//! The reader, when it runs again or finds the data at once: `ffi/src/io.rs` (`usk_recv`) → `inet/mod.rs` (`recvmsg`) →
//! `tcp/proto.rs` (`recvmsg`) → `tcp/recvmsg.rs` (`recvmsg`, which locks the sock and takes from the receive queue) →
//! `sock/copy.rs` (`put_skb`).
//!
//! # Fast paths
//! The walks name the general code, which handles every case; read that first. Most calls and packets of a connection
//! without loss take one of the fast paths past parts of it, which are called short ways here: `base/ways.rs` lists
//! them and says where each is. A short way begins with a test for everything that would make a difference, and then
//! does exactly what the general code would do. `tcp/ways_test.rs` holds it to that: it plays the same calls and
//! segments on two stacks, one of which has the short ways closed.
//!
//! # Layers
//! Each module uses only modules below it; `tests/layers.rs` checks the imports against the same table. [`stack`],
//! [`sock`], [`device`] and [`driver`] are one layer, the core, which names no protocol; `tcp`, `udp`, `ping`, `raw`
//! and `inet` are side by side above `ip` and do not name each other.
//!
//! | module | what it is |
//! |---|---|
//! | [`sim`] | worlds in virtual time (packet scripts are the crate in `script/`) |
//! | [`net`] | the Rust API, modelled on `std::net` |
//! | [`config`] | a stack from a line of text |
//! | [`control`] | the control socket of a running stack |
//! | [`standard`] | `src/standard.rs`, the only file that names all protocols: registers the standard set |
//! | `inet` | the socket: its calls to protocol slots, and the state checks of each |
//! | [`tcp`], `udp`, `ping`, `raw` | the protocols (`ping`: ICMP echo sockets), registered like any plug-in |
//! | [`ip`] | input, output, routes, neighbours, fragments, ICMP; ports and bind(2) |
//! | [`driver`] | who runs softirq, and how a thread waits: the lease in real time, stepping in virtual time |
//! | [`device`] | loopback, TUN, raw socket, simulated link, capture; [`device::netdev`]: a device in a stack |
//! | [`sock`] | the sock, its lock and backlog, packets, memory; [`sock::proto`]: the operations of a protocol |
//! | [`stack`] | a stack, Linux's `struct net`, which holds all state; `poll` is all of softirq |
//! | [`wire`] | packet formats: views, which are checked once, and emitters |
//! | [`sysctl`], [`counters`], `trace`, `base` | used by all: settings, counters, trace points, clocks, errors, hashes, timer wheels |
//! | `internal` | for the crates of this workspace only: hidden, without stability promises |
//! | `sys` | system calls: the only unsafe code of this crate |
//!
//! # Lock order
//! A sock's state, then any leaf lock: hash shard, timer wheel, device queue, wait queue, route table, neighbour table.
//! Never two sock states, except listener then child, and a listener that has ended then another one at its port:
//! `tcp::migrate` hands over what it leaves, `tcp::handshake` a SYN that found its owner gone. The second is entered as
//! a packet enters it: never waited for, since a sock that is owned keeps the packet in its backlog. No sock is entered
//! while a leaf lock is held; that includes code called with a leaf lock held (`Watch::notify`).
//!
//! # fork(2)
//! A stack belongs to the process that created it ([`stack::Stack::is_inherited`]): in a child its socks return
//! ENETDOWN and close without sending anything, its devices are not open, and it is never dropped. A child creates
//! statics anew (`sys::fork`). Locks are those of `sys::lock`, which keep no table of the process's waiting threads.
//!
//! # Not implemented
//! Linux features that this version lacks behave as in a kernel built without them: `docs/limits.md` names them. A
//! sysctl that makes no difference here says so, and why (`usersock sysctl -ad`).
#![warn(unreachable_pub)]

pub(crate) mod base;
pub mod config;
pub mod control;
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
pub(crate) mod trace;
pub(crate) mod udp;
pub mod wire;

pub use base::{env, error, hash};

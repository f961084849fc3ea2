//! The C ABI of usersock. Calls shaped as POSIX's, with the prefix `usk_`, are declared in `include/usersock.h`; the
//! plug-in interfaces and the simulator are in `include/usersock/*.h`. Above: C programs, the preload shim, plug-ins.
//! Below: the crate `usersock`.
//!
//! | file | calls |
//! |---|---|
//! | `admin` | usk_init, usk_stack_new, usk_stack_free, sysctl, MIB, capture |
//! | `socket` | socket, bind, listen, accept, connect, shutdown, close, options, names, dup |
//! | `fcntl` | fcntl, ioctl |
//! | `io` | read, write, send, recv and their vector and message forms |
//! | `positioned` | pread, preadv, preadv2 and their writing halves |
//! | `socklist` | usk_sock_list |
//! | `stdio` | fdopen |
//! | `transfer` | sendfile, splice |
//! | `poll`, `select` | poll, ppoll; select, pselect |
//! | `epoll` | epoll_create, epoll_ctl, epoll_wait and their variants |
//! | `ifaddrs` | if_nametoindex, if_indextoname, getifaddrs |
//! | `sim_world`, `sim_link`, `sim_thread` | worlds in virtual time: hosts, links, scripted threads |
//! | `plugin` | protocols and more in C, at run time |
//!
//! Files without an export, used by both sides: `boundary`, `ptr`, `probe` (values from C), `cookie` (FILEs), `fdtable`
//! and `eventpoll` (descriptors, epoll sets), `flowlabel` (IPv6 flow labels), `ifreq` (interface ioctls), `sigio`
//! (signal-driven I/O), `note` (the line of usk_config_error), `handle` and `held` (socks that plug-ins hold), `loader`
//! and `library` (plug-ins), `stacks`, `cancel` and `kernel` (cancellation points, calls to the kernel). The calls for
//! programs do not name the plug-in side.
//!
//! Every export goes through `boundary`: an error sets errno and returns -1, success does not change errno, a panic
//! becomes EIO. A descriptor is a real, low-numbered one (`fdtable`), so it never collides with the program's own.
//! Every call passes descriptors that are not ours to the kernel, and usk_socket does so with other families. There is
//! no usk_socketpair: a pair within a process is left to the kernel (AF_UNIX).
//!
//! After fork a stack belongs to the parent alone. In the child, inherited descriptors can be closed, duplicated and
//! marked close-on-exec, without effect on the parent or a peer. poll and select report POLLERR and POLLHUP for them at
//! once. Every other call returns ENETDOWN, as it does for an inherited usk_stack_t. The child's first usk_socket or
//! usk_init makes a stack of its own.

pub mod admin;
pub mod boundary;
mod cancel;
mod cookie;
pub mod epoll;
mod eventpoll;
pub mod fcntl;
pub mod fdtable;
pub mod flowlabel;
mod handle;
mod held;
pub mod ifaddrs;
mod ifreq;
pub mod io;
mod kernel;
mod library;
pub mod loader;
mod note;
pub mod plugin;
pub mod poll;
pub mod positioned;
pub mod probe;
pub mod ptr;
pub mod select;
mod sigio;
pub mod sim_link;
pub mod sim_thread;
pub mod sim_world;
pub mod socket;
pub mod socklist;
pub mod stacks;
pub mod stdio;
pub mod transfer;

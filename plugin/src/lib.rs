//! Plug-ins of usersock in Rust: safe traits over the C tables of `include/usersock/`. A plug-in adds a transport
//! protocol, a congestion control, hooks into TCP, a TCP beside the library's, a layer on it or a kind of device to a
//! stack at run time. It is a shared object, which is loaded by a configuration (`plugin=FILE.so`), by the command's
//! option `--plugin`, or by a program with `usk_plugin_load`. `usersock new-plugin NAME --kind proto --lang rust` makes
//! one that builds, runs and has a test. docs/plugins.md is the guide.
//!
//! ```no_run
//! use usersock_plugin::prelude::*;
//!
//! /// Reno that never reduces its window below ten segments.
//! struct Floor;
//!
//! impl Congestion for Floor {
//!     type Conn = ();
//!     const NAME: &'static str = "floor";
//!
//!     fn ssthresh(&self, tp: &mut Tcp<'_>, _: &mut ()) -> u32 {
//!         tp.reno_ssthresh().max(10)
//!     }
//! }
//!
//! usersock_plugin::plugin!(|plugin| plugin.congestion(Floor));
//! # fn main() {}
//! ```
//!
//! This crate needs no other, and works against the C ABI alone: whatever process has libusersock, as the `usersock`
//! command has, finds the calls of a plug-in in itself. So a plug-in is not linked with it.
//!
//! # Panics
//! A panic in an operation ends there: it breaks the operation's socket, on which every call returns EIO from then on,
//! and nothing else. In `rcv`, which has no sock yet, it costs the packet. A profile with `panic = "abort"` does not
//! build. docs/plugins.md, "Panics and exceptions", says more.
//!
//! # What is where
//!
//! | module | what |
//! |---|---|
//! | [`proto`] | transport protocols: [`Protocol`] |
//! | [`cong`] | congestion control of TCP: [`Congestion`]; algorithms for a protocol of one's own |
//! | [`hook`] | hooks into TCP: [`hook::Hooks`] |
//! | [`tcp`] | a TCP beside the library's: [`tcp::TcpStack`] |
//! | [`ulp`] | layers on a TCP connection: [`ulp::Layer`] |
//! | [`device`] | kinds of devices: [`device::DeviceKind`] |
//! | [`sock`] | socks: [`Owned`](sock::Owned) in an operation, [`Sock`](sock::Sock) held |
//! | [`skb`], [`msg`] | packets; the program's messages |
//! | [`offload`] | super-packets: what they are cut into, and merged from |
//! | [`testing`] | stacks and sockets for a test |
//! | [`sys`] | the C ABI itself |
//!
//! Not here: queues of packets (`usk_queue_t`; a `VecDeque<Skb>` is one), `usk_unregister` (unloading does it), and of
//! struct usk_proto `ports_of` (a look-up would give socks of two protocols) and `timewait_size`, `request_size` and
//! `slab_flags`, which are for listings alone.

mod abi;
pub mod cong;
pub mod device;
mod errno;
pub mod hook;
pub mod msg;
pub mod offload;
pub mod proto;
pub mod skb;
pub mod sock;
pub mod sys;
pub mod tcp;
pub mod testing;
mod time;
pub mod ulp;

pub use abi::plugin::{Plugin, refuse};
pub use abi::reg::{Drop, Level, Reg, Sysctl};
pub use cong::Congestion;
pub use errno::{Errno, Result};
pub use proto::{Protocol, csum, csum_fold, csum_pseudo};
pub use time::Time;

#[doc(hidden)]
pub use abi::plugin::{entry, exit};

/// MSG_PEEK of recv(2).
pub const MSG_PEEK: i32 = 0x2;
/// MSG_TRUNC of recv(2).
pub const MSG_TRUNC: i32 = 0x20;
/// MSG_DONTWAIT of send(2) and recv(2); operations get it also for a descriptor with O_NONBLOCK.
pub const MSG_DONTWAIT: i32 = 0x40;
/// MSG_EOR of send(2) and recv(2).
pub const MSG_EOR: i32 = 0x80;
/// MSG_WAITALL of recv(2).
pub const MSG_WAITALL: i32 = 0x100;
/// MSG_NOSIGNAL of send(2).
pub const MSG_NOSIGNAL: i32 = 0x4000;
/// MSG_MORE of send(2).
pub const MSG_MORE: i32 = 0x8000;

/// What most plug-ins use.
pub mod prelude {
    pub use crate::cong::{AckSample, CaEvent, CaState, CongMore, Congestion, PktSample, RateSample, Tcp};
    pub use crate::device::{Device, DeviceArgs, DeviceInfo, DeviceKind, Refusal, Sink};
    pub use crate::errno::{Errno, Result};
    pub use crate::hook::{HdrSeg, Hook, HookFns, Hooks, find_option};
    pub use crate::msg::{RecvMsg, SendMsg};
    pub use crate::offload::{Merge, Merged, Piece};
    pub use crate::proto::{Columns, IcmpError, IcmpSend, InnerBits, PacketInfo, ProtoMore, Protocol, SockType};
    pub use crate::skb::{Cb, Packet, Skb};
    pub use crate::sock::{
        Direction, Events, Inner, Owned, OwnedSock, ProtoReg, Shutdown, Sock, State, TxInfo, UdpConfig, UdpPort,
    };
    pub use crate::tcp::{Fired, Go, TcpAck, TcpConn, TcpInput, TcpOps, TcpSeg, TcpStack};
    pub use crate::time::Time;
    pub use crate::ulp::{Layer, LayerOps, Layered, LayeredSock};
    pub use crate::{Level, Plugin, Reg, Sysctl, csum, csum_fold, csum_pseudo};
}

/// Exports the entry points of a plug-in. The argument is a function of [`Plugin`] that registers what it adds; an
/// `Err` refuses the load.
#[macro_export]
macro_rules! plugin {
    ($init:expr) => {
        /// Called when a stack loads the plug-in.
        ///
        /// # Safety
        /// `plugin` is what the stack gives.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn usk_plugin_init(plugin: *mut $crate::sys::usk_plugin_t) -> ::std::ffi::c_int {
            // SAFETY: the entry point's argument.
            unsafe { $crate::entry(plugin, $init) }
        }

        /// Called when the plug-in's code is not used any more.
        #[unsafe(no_mangle)]
        pub extern "C" fn usk_plugin_exit(_plugin: *mut $crate::sys::usk_plugin_t) {
            $crate::exit();
        }
    };
}

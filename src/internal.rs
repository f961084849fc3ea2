//! Items that only the crates of this workspace need: `ffi`, `packetdrill`, `script`, `benches` and the integration
//! tests. There is no promise of stability: any commit may change or remove them. If a program needs one, it should be
//! made public. Names are re-exported one by one, under their paths in the crate, so that the compiler still detects
//! unused ones.

pub mod sys {
    //! System calls and what is built on them.
    pub mod cancel {
        //! Waits that a cancellation of the thread ends.
        pub use crate::sys::cancel::{CancellableCall, install, syscall, take};
    }
    pub mod fd {
        //! File descriptors of the kernel.
        pub use crate::sys::fd::Fd;
    }
    pub mod poll {
        //! poll(2).
        pub use crate::sys::poll::{PollFd, poll};
    }
    pub mod fork {
        //! Statics that a forked child creates anew.
        pub use crate::sys::fork::{PerProcess, generation, is_own, next_own};
    }
    pub mod lock {
        //! Locks without poisoning, which stay usable after fork(2).
        pub use crate::sys::lock::{Condvar, Mutex, RwLock};
    }
    pub mod raw {
        //! System calls by the machine's instruction.
        pub use crate::sys::raw::call;
    }
    pub mod signal {
        //! Signal masks of sleeps.
        pub use crate::sys::signal::{
            SET_BYTES, Set, SleepMask, begin_call, handlers_are_told, in_handler, note_handler, postponed, sleep_mask,
        };
    }
    pub mod netdev {
        //! The kernel's interfaces.
        pub use crate::sys::netdev::{hwaddr, mtu};
    }
    pub mod numbers {
        //! Numbers that name objects to a C program.
        pub use crate::sys::numbers::Numbers;
    }
}

pub mod base {
    //! Timer wheels.
    pub use crate::base::wheel::Wheel;
}

pub mod device {
    //! What devices outside of the crate have in common with TUN.
    pub use crate::device::vnet::mark_joined;
}

pub mod wire {
    //! Packet formats.
    pub mod ip {
        //! IPv4.
        pub use crate::wire::ip::{HEADER_LEN, Ipv4Header, Ipv4Repr};
    }
    pub mod ipv6 {
        //! IPv6.
        pub use crate::wire::ipv6::HEADER_LEN;
    }
    pub mod udp {
        //! The UDP header.
        pub use crate::wire::udp::HEADER_LEN;
    }
    pub mod tcp {
        //! The TCP header.
        pub use crate::wire::tcp::{HEADER_LEN, MAX_OPTIONS_LEN, TcpFlags, TcpHeader, TcpRepr, fill_checksum};
    }
    pub mod tcp_options {
        //! Options of the TCP header.
        pub use crate::wire::tcp_options::{FASTOPEN_MAGIC, RawOptions, kind};
    }
}

pub mod sock {
    //! Socks.
    pub use crate::sock::addr::{AF_INET, AF_INET6, SIN6_LEN_RFC2133, unmap};
}

pub mod inet {
    //! Socks of the stack's own.
    pub use crate::inet::create;
}

pub mod udp {
    //! Ports whose datagrams go to another protocol.
    pub use crate::udp::encap::{Encap, set as set_encap};
    pub use crate::udp::output::{AsTold, mtu, send_skb};
}

pub mod tcp {
    //! TCP entry points that programs do not need.
    pub use crate::tcp::close::abort_owned;
    pub use crate::tcp::listener::{Owner as ListenerOwner, set_owner as set_listener_owner};
    pub use crate::tcp::lookup::{Entry, TcpTables, tuple_of_sock};
    pub use crate::tcp::metrics::flush as flush_metrics;
    pub use crate::tcp::net::of;
}

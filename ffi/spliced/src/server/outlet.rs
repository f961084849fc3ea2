//! The way of bulk to the network: the packets of one send are written by one system call. A receiver in the kernel of
//! this machine, which the first of them wakes, would take the processor after each where it shares the server's, since
//! it has used less of it (EEVDF); so it finds several. Above: `stream`. Below: `ring`, the stack's devices.

use crate::ring::Ring;
use usersock::stack::Stack;

/// Bytes from which on a send makes several packets.
const SEVERAL: usize = 64 << 10;

/// A ring that can write to the devices of a stack.
pub(super) struct Outlet<'a> {
    pub(super) stack: &'a Stack,
    pub(super) ring: &'a mut Ring,
    /// The ring is of no use any more.
    pub(super) broken: bool,
}

impl Outlet<'_> {
    /// Does `f`, which sends `len` bytes.
    pub(super) fn send<R>(outlet: &mut Option<Outlet<'_>>, len: usize, f: impl FnOnce() -> R) -> R {
        match outlet {
            Some(Outlet { stack, ring, broken }) if len > SEVERAL && !*broken => stack.netdevs.in_burst(
                stack,
                &mut |fd, packets, written| *broken |= !ring.write(fd, packets, written),
                f,
            ),
            _ => f(),
        }
    }
}

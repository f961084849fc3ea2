//! The entry points: what [`plugin!`](crate::plugin) exports calls these.

use super::contain::contain;
use super::{cong, device, home, hook, proto, tcp, ulp};
use crate::cong::Congestion;
use crate::device::DeviceKind;
use crate::errno::{CReturn, Errno, Result};
use crate::hook::Hooks;
use crate::proto::Protocol;
use crate::sys::usk_plugin_t;
use crate::tcp::TcpStack;
use crate::ulp::Layer;
use std::ffi::c_int;
use std::marker::PhantomData;

/// A plug-in of one stack, as it is loaded: takes what the plug-in adds.
pub struct Plugin<'a> {
    raw: *mut usk_plugin_t,
    of: PhantomData<&'a mut usk_plugin_t>,
}

impl Plugin<'_> {
    /// Registers a transport protocol. EINVAL: its constants do not fit, and the line of the load error says why;
    /// EEXIST: name, type and protocol, IP number, counter or sysctl is taken.
    pub fn protocol<P: Protocol>(&mut self, protocol: P) -> Result<()> {
        // SAFETY: the entry point's argument; so below.
        unsafe { proto::register(self.raw, protocol) }
    }

    /// Registers a congestion control. EINVAL, EEXIST as `protocol`.
    pub fn congestion<C: Congestion>(&mut self, algorithm: C) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { cong::register(self.raw, algorithm) }
    }

    /// Registers hooks into TCP, after the present ones. EINVAL, EEXIST as `protocol`.
    pub fn hooks<T: Hooks>(&mut self, hooks: T) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { hook::register(self.raw, hooks) }
    }

    /// Registers a TCP beside the library's. EINVAL, EEXIST as `protocol`.
    pub fn tcp<S: TcpStack>(&mut self, stack: S) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { tcp::register(self.raw, stack) }
    }

    /// Registers an upper-layer protocol. EINVAL, EEXIST as `protocol`.
    pub fn layer<L: Layer>(&mut self, layer: L) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { ulp::register(self.raw, layer) }
    }

    /// Registers a kind of device. EINVAL, EEXIST as `protocol`.
    pub fn device<K: DeviceKind>(&mut self, kind: K) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { device::register(self.raw, kind) }
    }
}

/// The entry point: what `init` returns; EIO if it panics.
///
/// # Safety
/// `plugin` is its argument.
#[doc(hidden)]
pub unsafe fn entry(plugin: *mut usk_plugin_t, init: fn(&mut Plugin<'_>) -> Result<()>) -> c_int {
    let mut plugin = Plugin { raw: plugin, of: PhantomData };
    contain(-Errno::Io.number(), || init(&mut plugin).c_return() as c_int)
}

/// The plug-in's code is not used any more: drops the values of its registrations.
#[doc(hidden)]
pub fn exit() {
    contain((), home::end_all);
}

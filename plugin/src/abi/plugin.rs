//! The entry points: what [`plugin!`](crate::plugin) exports calls these.

use super::contain::contain;
use super::{cong, device, home, hook, proto, tcp, ulp};
use crate::cong::Congestion;
use crate::device::DeviceKind;
use crate::errno::{CReturn, Errno, Result};
use crate::hook::{Filter, Hooks};
use crate::proto::Protocol;
use crate::sys::{usk_plugin_refuse, usk_plugin_t};
use crate::tcp::TcpStack;
use crate::ulp::Layer;
use std::ffi::{CString, c_int};
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
        unsafe { hook::register(self.raw, hooks, &[]) }
    }

    /// Registers hooks of [`Scope::Chosen`](crate::hook::Scope::Chosen), for connections that one of the filters
    /// matches when they begin (`usk_sock_ops_filter`). EINVAL: the hooks are for all sockets, or a filter is wrong;
    /// EEXIST as `protocol`, and where a filter of other hooks for the same option overlaps.
    ///
    /// ```no_run
    /// use usersock_plugin::hook::{Filter, Scope};
    /// use usersock_plugin::prelude::*;
    ///
    /// /// Connections of the backbone begin with a window of 40 segments.
    /// struct Backbone;
    ///
    /// impl Hooks for Backbone {
    ///     const NAME: &'static str = "backbone";
    ///     const SCOPE: Scope = Scope::Chosen;
    ///     const HOOKS: HookFns<Self> = HookFns { rwnd_init: Some(|_, _| 40), ..HookFns::NONE };
    /// }
    ///
    /// usersock_plugin::plugin!(|plugin| {
    ///     plugin.hooks_for(Backbone, &[Filter::remote([10, 0, 0, 0].into(), 8)])
    /// });
    /// # fn main() {}
    /// ```
    pub fn hooks_for<T: Hooks>(&mut self, hooks: T, filters: &[Filter]) -> Result<()> {
        // SAFETY: see `protocol`.
        unsafe { hook::register(self.raw, hooks, filters) }
    }

    /// Why the plug-in is not to be loaded: the line that usk_config_error returns (`usk_plugin_refuse`). Returns the
    /// error for the entry point to return.
    ///
    /// ```no_run
    /// # use usersock_plugin::prelude::*;
    /// # struct Floor;
    /// # impl Congestion for Floor {
    /// #     type Conn = ();
    /// #     const NAME: &'static str = "floor";
    /// # }
    /// usersock_plugin::plugin!(|plugin| {
    ///     if std::env::var_os("FLOOR_LICENCE").is_none() {
    ///         return Err(plugin.refuse("FLOOR_LICENCE is not set"));
    ///     }
    ///     plugin.congestion(Floor)
    /// });
    /// # fn main() {}
    /// ```
    pub fn refuse(&mut self, why: &str) -> Errno {
        let why = CString::new(why.replace('\0', " ")).unwrap_or_default();
        // SAFETY: a string.
        Errno::from_number(unsafe { usk_plugin_refuse(why.as_ptr()) }.saturating_neg())
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

/// Why a plug-in refuses to be loaded, in one line: what the load error says. Returns EINVAL, for the function of
/// [`plugin!`](crate::plugin); it may return another.
pub fn refuse(why: &str) -> Errno {
    let line = std::ffi::CString::new(why.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a string.
    unsafe { usk_plugin_refuse(line.as_ptr()) };
    Errno::Inval
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

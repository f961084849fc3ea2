//! A registered protocol from C: what is behind a `usk_proto_t`. Above: `private` and `ports`, which a sock of it has,
//! and `cproto`, which makes it a `Proto`. With the calls that concern no sock: counters and sysctls of its own, clock,
//! randomness, drops. Linux: proto_register, inet_register_protosw, inet_add_protocol.

use super::gate::{kernel, slice_mut};
use super::lists::{self, Lists};
use super::load;
use super::proto::*;
use super::skb::{self, usk_skb_t};
use super::table::Table;
use crate::loader::{Item, Library, Plugin, usk_plugin_t};
use crate::note;
use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Weak};
use usersock::counters::DropReason;
use usersock::error::{Error, Result};
use usersock::internal::sys::lock::Mutex;
use usersock::ip::port_table::PortTable;
use usersock::sock::proto::{IpHandler, ProtoSwitch};
use usersock::sock::skb::HEAD;
use usersock::stack::Stack;

/// Most bytes of a sock's own memory.
const MAX_OBJ_SIZE: u32 = 65_536;

/// A registered C protocol.
pub(crate) struct Registration {
    pub(super) table: usk_proto,
    pub(super) name: String,
    stack: Weak<Stack>,
    user: *mut c_void,
    plugin: Weak<Plugin>,
    /// Keeps the code loaded.
    pub(super) library: Option<Arc<Library>>,
    pub(super) ports: PortTable,
    pub(super) lists: Lists,
    /// Unregistered: its name may be another's by now.
    gone: Mutex<bool>,
}

// SAFETY: the table is read only; `user` is the plug-in's, which says that its functions may be called from any thread.
unsafe impl Send for Registration {}
// SAFETY: as above.
unsafe impl Sync for Registration {}

impl Registration {
    /// # Safety
    /// `p` is null, or registered.
    pub(crate) unsafe fn of(p: *mut usk_proto_t) -> Result<ManuallyDrop<Arc<Registration>>> {
        if p.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: a valid handle is the address in an Arc that the registry or a sock holds; the count is left alone.
        Ok(ManuallyDrop::new(unsafe { Arc::from_raw(p.cast::<Registration>().cast_const()) }))
    }

    pub(crate) fn handle(&self) -> *mut usk_proto_t {
        std::ptr::from_ref(self).cast_mut().cast()
    }
    /// EINVAL once the stack has ended.
    pub(crate) fn stack(&self) -> Result<Arc<Stack>> {
        self.stack.upgrade().ok_or(Error::Inval)
    }
    pub(crate) fn user(&self) -> *mut c_void {
        self.user
    }
    pub(crate) fn number(&self) -> u8 {
        self.table.protocol as u8
    }
    pub(crate) fn sysctl(&self, index: u32) -> Option<i64> {
        self.lists.sysctl(&*self.stack.upgrade()?, index)
    }
    /// Whether bind(2) takes ports.
    pub(super) fn has_ports(&self) -> bool {
        !self.flag(USK_PROTO_NO_PORTS)
    }
    pub(super) fn flag(&self, bit: u32) -> bool {
        self.table.flags & bit != 0
    }

    /// What does not fit, as a line.
    fn check(table: &usk_proto, name: &str) -> std::result::Result<(), String> {
        let lacks = |what: &str| Err(format!("struct usk_proto {name:?}: {what}"));
        let all = USK_PROTO_V4
            | USK_PROTO_V6
            | USK_PROTO_DEFAULT
            | USK_PROTO_CONNECTIONS
            | USK_PROTO_NO_AUTOBIND
            | USK_PROTO_NO_PORTS;
        if !lists::good_name(name, 31) {
            return lacks("a name is 1 to 31 printable characters without dot");
        }
        if table.flags & !all != 0 {
            return lacks("unknown flags");
        }
        if table.flags & (USK_PROTO_V4 | USK_PROTO_V6) == 0 {
            return lacks("neither USK_PROTO_V4 nor USK_PROTO_V6");
        }
        if !(1..=10).contains(&table.socket_type) {
            return lacks("socket_type is not a socket's");
        }
        if !(1..=255).contains(&table.protocol) {
            return lacks("protocol is not 1 to 255");
        }
        if table.obj_size > MAX_OBJ_SIZE {
            return lacks("obj_size above 65536");
        }
        if table.max_header as usize > HEAD {
            return lacks("max_header above what a packet has room for");
        }
        if table.sendmsg.is_none() && table.sendmsg_locked.is_none() {
            return lacks("sendmsg is null, and so is sendmsg_locked");
        }
        if table.recvmsg.is_none() && table.recvmsg_locked.is_none() {
            return lacks("recvmsg is null, and so is recvmsg_locked");
        }
        if table.rcv.is_some() && table.backlog_rcv.is_none() {
            return lacks("rcv without backlog_rcv");
        }
        Ok(())
    }

    /// Registers a table: all of it, or nothing. The line that says why not is kept for usk_config_error.
    /// # Safety
    /// The table's strings and lists are ended, and its functions what they say.
    pub(crate) unsafe fn register(
        plugin: &Arc<Plugin>,
        stack: &Arc<Stack>,
        table: usk_proto,
        user: *mut c_void,
    ) -> Result<Arc<Registration>> {
        // SAFETY: a string by the caller's word.
        let name = unsafe { lists::text(table.name, usk_proto::NAME, "name") }?;
        Registration::check(&table, &name).map_err(note::refused)?;
        // SAFETY: ended lists by the caller's word.
        let lists = unsafe { Lists::register(stack, usk_proto::NAME, &name, table.mib_names, table.sysctls) }?;
        let reg = Arc::new(Registration {
            table,
            name,
            stack: Arc::downgrade(stack),
            user,
            plugin: Arc::downgrade(plugin),
            library: plugin.library(),
            ports: PortTable::default(),
            lists,
            gone: Mutex::new(false),
        });
        let key = |family| {
            let key = ProtoSwitch::new(family, table.socket_type, table.protocol, reg.clone());
            if table.flags & USK_PROTO_DEFAULT != 0 { key.by_default() } else { key }
        };
        let keys: Vec<ProtoSwitch> = [(USK_PROTO_V4, libc::AF_INET), (USK_PROTO_V6, libc::AF_INET6)]
            .into_iter()
            .filter(|(bit, _)| table.flags & bit != 0)
            .map(|(_, family)| key(family))
            .collect();
        let number = [table.protocol as u8];
        let handler: Option<(&[u8], Arc<dyn IpHandler>)> =
            table.rcv.is_some().then(|| (&number[..], reg.clone() as Arc<dyn IpHandler>));
        stack.registry.register(&keys, handler).map_err(|e| {
            reg.lists.forget(stack);
            note::refused(e.to_string());
            e.error()
        })?;
        Ok(reg)
    }
}

impl Item for Registration {
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()> {
        let mut gone = self.gone.lock();
        if *gone {
            return Err(Error::NoEnt);
        }
        stack.registry.unregister(&self.name).map_err(|e| e.error())?;
        *gone = true;
        self.lists.forget(stack);
        Ok(())
    }
    fn key(&self) -> usize {
        self.handle() as usize
    }
    fn plugin(&self) -> &Weak<Plugin> {
        &self.plugin
    }
    fn stack_ended(&self) {
        // A sock that said farewell when the stack ended is in the table, and holds it.
        self.ports.clear();
    }
}

/// Registers a protocol in the plug-in's stack. `user` is for usk_proto_user; `*out`, unless null, gets the
/// registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
/// fit (version, size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or
/// sysctl is taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_proto,
    user: *mut c_void,
    out: *mut *mut usk_proto_t,
) -> c_int {
    // SAFETY: the caller vouches for all three, and for the table's strings and lists.
    kernel(|| unsafe {
        load::register(plugin, table, out, |plugin, stack, table| Registration::register(plugin, stack, table, user))
    })
}

/// Unregisters a protocol. -EBUSY while a socket of it exists; -ENOENT when it was already.
/// # Safety
/// `proto` is registered, and not used after success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_unregister(proto: *mut usk_proto_t) -> c_int {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        unsafe { load::unregister::<Registration, _>(proto) }.map(|()| 0)
    })
}

/// Counts `n` in counter `index` of the table's mib_names. An index beyond them is -EINVAL.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_count(proto: *mut usk_proto_t, index: u32, n: u64) -> c_int {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        unsafe { Registration::of(proto) }?.lists.count(index, n).map(|()| 0)
    })
}

/// The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_sysctl(proto: *mut usk_proto_t, index: u32) -> i64 {
    kernel(|| {
        // SAFETY: registered by the caller's word.
        let reg = unsafe { Registration::of(proto) }?;
        Ok(reg.sysctl(index).unwrap_or(0))
    })
}

/// What was given to usk_proto_register.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_user(proto: *mut usk_proto_t) -> *mut c_void {
    // SAFETY: registered by the caller's word.
    kernel(|| unsafe { Registration::of(proto) }.map(|r| r.user()))
}

/// Nanoseconds of the stack's clock: monotonic, virtual where time is.
/// # Safety
/// `proto` is registered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_now(proto: *mut usk_proto_t) -> u64 {
    // SAFETY: registered by the caller's word.
    kernel(|| Ok(unsafe { Registration::of(proto) }?.stack()?.now().as_nanos()))
}

/// Fills memory with the stack's random bytes: unpredictable, or repeatable where the stack is seeded.
/// # Safety
/// `proto` is registered; `to` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_random(proto: *mut usk_proto_t, to: *mut c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (reg, to) = unsafe { (Registration::of(proto)?, slice_mut(to, len)?) };
        reg.stack()?.entropy.fill(to);
        Ok(0)
    })
}

/// Why a packet is dropped, for usk_drop: too short or malformed.
pub const USK_DROP_HEADER: c_int = 1;
/// Wrong checksum.
pub const USK_DROP_CSUM: c_int = 2;
/// No sock for it.
pub const USK_DROP_NO_SOCKET: c_int = 3;
/// The sock refuses it in its state, or it is a repetition.
pub const USK_DROP_STATE: c_int = 4;

/// Frees a packet and counts why among the stack's drop reasons (kfree_skb_reason). Takes `skb`, always.
/// # Safety
/// `proto` is registered; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_drop(proto: *mut usk_proto_t, skb: *mut usk_skb_t, reason: c_int) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb) }?;
        let reason = match reason {
            USK_DROP_HEADER => DropReason::PktTooSmall,
            USK_DROP_CSUM => DropReason::PluginCsum,
            USK_DROP_NO_SOCKET => DropReason::NoSocket,
            USK_DROP_STATE => DropReason::PluginRefused,
            _ => return Err(Error::Inval),
        };
        // SAFETY: registered by the caller's word.
        unsafe { Registration::of(proto) }?.stack()?.mib.drop(reason);
        drop(skb);
        Ok(0)
    })
}

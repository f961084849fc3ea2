//! A table that a plug-in has registered in a stack. All kinds of tables share this type and its handle in C,
//! `usk_reg_t`: counters, sysctls, the plug-in's pointer, the stack's clock and randomness, and unregistering. Above:
//! `cproto`, `ulp`, `sock_ops`, `cong`, `device`, each of which implements `Registered` for its table. Linux:
//! proto_register, tcp_register_ulp, tcp_register_congestion_control; struct module.

use super::gate::{kernel, slice_mut};
use super::lists::{self, Lists, usk_sysctl_t};
use super::skb::{self, usk_skb_t};
use super::table::{self, Table};
use crate::held::contain;
use crate::library::Library;
use crate::library::usk_plugin_t;
use crate::loader::{Item, Plugin, TableKind};
use crate::note;
use std::any::{Any, TypeId};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use usersock::counters::{DropReason, Level, Log};
use usersock::error::{Error, Result};
use usersock::internal::sys::lock::Mutex;
use usersock::stack::Stack;

/// What a plug-in has registered in one stack: a protocol, a layer, a congestion control, hooks, a kind of device. The
/// usk_..._register calls return it, and the functions of the table get it. Valid until usk_unregister has succeeded,
/// and in a function of the table until that returns.
#[allow(non_camel_case_types)]
pub struct usk_reg_t {
    _opaque: [u8; 0],
}

/// The first members of every table that can be registered.
#[repr(C)]
struct Head {
    version: u32,
    size: u32,
    name: *const c_char,
    mib_names: *const *const c_char,
    sysctls: *const usk_sysctl_t,
}

/// Whether a table begins with a [`Head`], by the offsets of its members.
pub(super) const fn begins_with_head(name: usize, mib_names: usize, sysctls: usize) -> bool {
    name == offset_of!(Head, name) && mib_names == offset_of!(Head, mib_names) && sysctls == offset_of!(Head, sysctls)
}

/// A table that can be registered, and how the stack uses it.
///
/// # Safety
/// The type begins with the members of [`Head`] (`begins_with_head`), and its functions may be called from any thread.
pub(super) unsafe trait Registered: Table + 'static {
    /// Data of the registration beside the table.
    type Own: Default + Send + Sync;
    /// What the table is of.
    const KIND: TableKind;

    /// Checks the table; the error is a line for the user. `name` is the table's.
    fn check(&self, name: &str) -> std::result::Result<(), String>;
    /// The names of its drop reasons, a null-terminated list, or null.
    fn drop_names(&self) -> *const *const c_char {
        std::ptr::null()
    }
    /// The registration of the same name that this one is to replace.
    fn replaced(&self, _stack: &Stack, _name: &str) -> Option<Arc<Registration<Self>>> {
        None
    }
    /// Adds it to the stack. The error comes with a line for the user.
    fn enter(reg: &Arc<Registration<Self>>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)>;
    /// Removes it from the stack. EBUSY while it is in use.
    fn leave(reg: &Registration<Self>, stack: &Arc<Stack>) -> Result<()>;
    /// The stack has ended with it registered: drops what holds it, to break the cycle.
    fn stack_ended(_: &Registration<Self>) {}
    /// The last reference is being dropped.
    fn last(_: &mut Registration<Self>) {}
}

/// The target of a [`usk_reg_t`], for all types of tables.
pub(super) struct Reg {
    /// The table's type.
    table: TypeId,
    pub(super) name: String,
    stack: Weak<Stack>,
    user: *mut c_void,
    plugin: Weak<Plugin>,
    lists: Lists,
    log: Log,
    /// Unregistered: another registration may have its name.
    gone: Mutex<bool>,
    /// What it has opened in the stack.
    opened: Mutex<AllOpened>,
    /// See usk_user_release.
    release: Mutex<usk_release_fn>,
}

/// What a registration has opened.
#[derive(Default)]
struct AllOpened {
    open: Vec<Arc<dyn Opened>>,
    /// Closed with the registration, but not freed before it: a function of its table that still runs may have the
    /// handle.
    ended: Vec<Arc<dyn Opened>>,
}

impl AllOpened {
    /// From now on none is open. Returns those that were.
    fn end(&mut self) -> Vec<Arc<dyn Opened>> {
        let open = std::mem::take(&mut self.open);
        self.ended.extend(open.iter().cloned());
        open
    }
}

/// Something that a registration has opened in its stack, and that ends with it at the latest.
pub(super) trait Opened: Send + Sync {
    /// Its address, by which it is found again.
    fn key(&self) -> usize;
    /// Closes it, once.
    fn close(&self, stack: &Arc<Stack>);
}

/// Frees what a plug-in keeps for a stack: the argument is usk_user's pointer.
#[allow(non_camel_case_types)]
pub type usk_release_fn = Option<unsafe extern "C-unwind" fn(user: *mut c_void)>;

/// A registered table. Its handle is its address, which is also that of the [`Reg`] at its beginning.
#[repr(C)]
pub(super) struct Registration<T: Registered> {
    reg: Reg,
    pub(super) table: T,
    pub(super) own: T::Own,
    /// Keeps the code loaded. Dropped last.
    pub(super) library: Option<Arc<Library>>,
}

// SAFETY: the table is read only, any thread may call its functions, by the trait's contract; only those functions use
// `user`.
unsafe impl<T: Registered> Send for Registration<T> {}
// SAFETY: as above.
unsafe impl<T: Registered> Sync for Registration<T> {}

impl<T: Registered> Deref for Registration<T> {
    type Target = Reg;
    fn deref(&self) -> &Reg {
        &self.reg
    }
}

impl Reg {
    /// # Safety
    /// `p` is null, or valid as long as the result is used.
    pub(super) unsafe fn of<'a>(p: *mut usk_reg_t) -> Result<&'a Reg> {
        // SAFETY: a valid handle is the address of one.
        unsafe { p.cast::<Reg>().as_ref() }.ok_or(Error::Inval)
    }
    /// The plug-in; None: it is being unloaded.
    pub(super) fn plugin(&self) -> Option<Arc<Plugin>> {
        self.plugin.upgrade()
    }
    /// EINVAL once the stack has ended.
    pub(super) fn stack(&self) -> Result<Arc<Stack>> {
        self.stack.upgrade().ok_or(Error::Inval)
    }
    pub(super) fn user(&self) -> *mut c_void {
        self.user
    }
    /// Itself, for those that must not keep it: while this can be upgraded its functions may be called.
    pub(super) fn weak(&self) -> Result<Weak<dyn Item>> {
        let plugin = self.plugin.upgrade().ok_or(Error::Inval)?;
        let item = plugin.find(std::ptr::from_ref(self) as usize).ok_or(Error::Inval)?;
        Ok(Arc::downgrade(&item))
    }
    /// Takes care of what was opened. EINVAL: it is unregistered, and the caller closes it.
    pub(super) fn opened(&self, what: Arc<dyn Opened>) -> Result<()> {
        let gone = self.gone.lock();
        if *gone {
            return Err(Error::Inval);
        }
        self.opened.lock().open.push(what);
        Ok(())
    }
    /// Gives up what was opened. ENOENT: it is not there.
    pub(super) fn closing(&self, key: usize) -> Result<Arc<dyn Opened>> {
        let open = &mut self.opened.lock().open;
        let at = open.iter().position(|what| what.key() == key).ok_or(Error::NoEnt)?;
        Ok(open.swap_remove(at))
    }
    /// Closes what is open.
    fn close_all(&self, stack: &Arc<Stack>) {
        let all = self.opened.lock().end();
        all.iter().for_each(|what| what.close(stack));
    }
    fn sysctl(&self, index: u32) -> Option<i64> {
        self.lists.sysctl(&*self.stack.upgrade()?, index)
    }
}

impl<T: Registered> Registration<T> {
    /// EINVAL: null, or a registration of another kind of table.
    /// # Safety
    /// `p` is null, or valid.
    pub(super) unsafe fn of(p: *mut usk_reg_t) -> Result<ManuallyDrop<Arc<Registration<T>>>> {
        // SAFETY: valid, as the caller guarantees.
        if unsafe { Reg::of(p) }?.table != TypeId::of::<T>() {
            return Err(Error::Inval);
        }
        // SAFETY: the address in an Arc that the plug-in, a registry or a sock holds; the count is left alone.
        Ok(ManuallyDrop::new(unsafe { Arc::from_raw(p.cast::<Registration<T>>().cast_const()) }))
    }
    /// The handle, valid as long as the registration.
    #[inline]
    pub(super) fn handle(&self) -> *mut usk_reg_t {
        std::ptr::from_ref(self).cast_mut().cast()
    }
    /// Another reference to it, for a registry, a sock or a call.
    pub(super) fn counted(&self) -> Arc<Registration<T>> {
        // SAFETY: every registration is made in an Arc (`register`), and is held while it is called.
        let held = ManuallyDrop::new(unsafe { Arc::from_raw(std::ptr::from_ref(self)) });
        Arc::clone(&held)
    }
}

impl<T: Registered> Drop for Registration<T> {
    fn drop(&mut self) {
        T::last(self);
        if let Some(release) = self.reg.release.get_mut().take() {
            // SAFETY: a function of the plug-in, whose code is still loaded; nothing of the registration can run any
            // more. An error is ignored: there is no sock left to break.
            let _ = contain(|| unsafe { release(self.reg.user) });
        }
    }
}

impl<T: Registered> Item for Registration<T> {
    fn table(&self) -> (TableKind, &str) {
        (T::KIND, &self.name)
    }
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()> {
        let mut gone = self.gone.lock();
        if *gone {
            return Err(Error::NoEnt);
        }
        T::leave(self, stack)?;
        *gone = true;
        drop(gone);
        self.close_all(stack);
        self.lists.forget(stack);
        Ok(())
    }
    fn key(&self) -> usize {
        self.handle() as usize
    }
    fn stack_ended(&self) {
        self.opened.lock().end();
        T::stack_ended(self);
    }
    fn any(&self) -> &dyn Any {
        self
    }
}

/// What every usk_..._register does: reads the table, checks it, registers it in the plug-in's stack with its counters
/// and sysctls, adds it to the plug-in's list, and stores the handle, unless `out` is null. All of it is done, or
/// nothing. Returns 0, or an error and a line for usk_config_error.
/// # Safety
/// `plugin` is null or valid; `table` is null, or points to as many bytes as its size says, its strings and lists are
/// terminated; `out` is null or writable.
pub(super) unsafe fn register<T: Registered>(
    plugin: *mut usk_plugin_t,
    table: *const T,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> Result<c_int> {
    // SAFETY: valid, as the caller guarantees.
    let plugin = unsafe { Plugin::of(plugin) }?;
    // SAFETY: the caller vouches for the table.
    let table = unsafe { table::read(table) }.map_err(note::refused)?;
    let stack = plugin.stack()?;
    // SAFETY: the type begins with those members by the trait's promise.
    let head = unsafe { &*std::ptr::from_ref(&table).cast::<Head>() };
    // SAFETY: a string, as the caller guarantees.
    let name = unsafe { lists::text(head.name, T::NAME, "name") }?;
    let line = |why: &str| format!("{} {name:?}: {why}", T::NAME);
    table.check(&name).map_err(|why| note::refused(line(&why)))?;
    let old = table.replaced(&stack, &name);
    let shared = old.as_ref().map(|old| &old.lists);
    // SAFETY: ended lists, as the caller guarantees.
    let mut lists = unsafe { Lists::register(&stack, T::NAME, &name, head.mib_names, head.sysctls, shared) }?;
    drop(old);
    // SAFETY: an ended list, as the caller guarantees.
    unsafe { lists.drops(&stack, T::NAME, table.drop_names()) }.inspect_err(|_| lists.forget(&stack))?;
    let reg = Reg {
        table: TypeId::of::<T>(),
        name: name.clone(),
        stack: Arc::downgrade(&stack),
        user,
        plugin: Arc::downgrade(&plugin),
        lists,
        log: Log::new(&name),
        gone: Mutex::new(false),
        opened: Mutex::default(),
        release: Mutex::new(None),
    };
    let reg = Arc::new(Registration { reg, table, own: T::Own::default(), library: plugin.library() });
    T::enter(&reg, &stack).map_err(|(error, why)| {
        reg.lists.forget(&stack);
        note::refused(line(&why));
        error
    })?;
    let item: Arc<dyn Item> = reg.clone();
    plugin.registered(&item).inspect_err(|_| {
        // The handle was not returned yet, so any use of it ends by itself.
        let _ = item.unregister(&stack);
    })?;
    if !out.is_null() {
        // SAFETY: writable, as the caller guarantees.
        unsafe { *out = reg.handle() };
    }
    Ok(0)
}

/// Unregisters what a usk_..._register call registered. Process context, and not from its own functions, except that a
/// hook may unregister hooks. Returns 0, and the handle is no longer valid; -EBUSY while it is in use: a socket of the
/// protocol exists, a connection has the layer, the congestion control or the TCP, one of the two last is the default
/// (net.ipv4.tcp_congestion_control, net.ipv4.tcp_stack), the stack has a device of the kind (until the stack ends);
/// -ENOENT when it was unregistered already. Hooks are never in use: one that runs now on another thread ends as usual,
/// and `release` is called after it.
/// # Safety
/// `reg` is registered, and not used after success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_unregister(reg: *mut usk_reg_t) -> c_int {
    kernel(|| {
        let key = reg as usize;
        // SAFETY: registered, as the caller guarantees.
        let plugin = unsafe { Reg::of(reg) }?.plugin.upgrade().ok_or(Error::NoEnt)?;
        // A reference of our own: registry and list drop theirs meanwhile.
        let item = plugin.find(key).ok_or(Error::NoEnt)?;
        item.unregister(&plugin.stack()?)?;
        drop(plugin.take_off(key));
        Ok(0)
    })
}

/// Adds `n` to counter `index` of the table's mib_names. -EINVAL: an index beyond them.
/// # Safety
/// `reg` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_count(reg: *mut usk_reg_t, index: u32, n: u64) -> c_int {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Reg::of(reg) }?.lists.count(index, n).map(|()| 0))
}

/// The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them, and once the stack has
/// ended.
/// # Safety
/// `reg` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_sysctl(reg: *mut usk_reg_t, index: u32) -> i64 {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| Ok(unsafe { Reg::of(reg) }?.sysctl(index).unwrap_or(0)))
}

/// The pointer that the usk_..._register call was given: the plug-in's data for this stack.
/// # Safety
/// `reg` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_user(reg: *mut usk_reg_t) -> *mut c_void {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| unsafe { Reg::of(reg) }.map(|r| r.user))
}

/// Has `release` called with usk_user's pointer when the registration has ended: it was unregistered (by
/// usk_unregister, or usk_plugin_unload) or its stack has ended, no function of its table runs any more, and none will.
/// Called once, with no sock owned, from the thread that ended the last use. This is where the plug-in frees what it
/// keeps for one stack; usk_plugin_exit is for what all stacks share. A second call replaces the function; null: none.
/// # Safety
/// `reg` is valid; `release` may be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_user_release(reg: *mut usk_reg_t, release: usk_release_fn) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        *unsafe { Reg::of(reg) }?.release.lock() = release;
        Ok(0)
    })
}

/// The stack's clock, nanoseconds: monotonic, and virtual in a stack with virtual time; 0 once the stack has ended.
/// # Safety
/// `reg` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_now(reg: *mut usk_reg_t) -> u64 {
    // SAFETY: valid, as the caller guarantees.
    kernel(|| Ok(unsafe { Reg::of(reg) }?.stack()?.now().as_nanos()))
}

/// Fills memory with the stack's random bytes: unpredictable, or repeatable where the stack is seeded. Returns 0;
/// -EFAULT: `buf` is null; -EINVAL: the stack has ended.
/// # Safety
/// `reg` is valid; `buf` is writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_random(reg: *mut usk_reg_t, buf: *mut c_void, len: usize) -> c_int {
    kernel(|| {
        // SAFETY: the caller vouches for both.
        let (reg, buf) = unsafe { (Reg::of(reg)?, slice_mut(buf, len)?) };
        reg.stack()?.entropy.fill(buf);
        Ok(0)
    })
}

/// Why a packet is dropped, for usk_drop: too short or malformed.
pub const USK_DROP_HEADER: c_int = 1;
/// For usk_drop: wrong checksum.
pub const USK_DROP_CSUM: c_int = 2;
/// For usk_drop: no sock found.
pub const USK_DROP_NO_SOCKET: c_int = 3;
/// For usk_drop: not acceptable in the sock's state, or a duplicate.
pub const USK_DROP_STATE: c_int = 4;
/// For usk_drop: USK_DROP_OWN + i is reason `i` of the table's drop_names.
pub const USK_DROP_OWN: c_int = 64;

/// Frees a packet and counts the reason in the stack's drop counters, which `usersock nstat --drops` shows; `usersock
/// trace` shows it with the table's name (kfree_skb_reason). Always consumes `skb`. Returns 0; -EINVAL: no such reason.
/// # Safety
/// `reg` is valid; `skb` is the caller's, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_drop(reg: *mut usk_reg_t, skb: *mut usk_skb_t, reason: c_int) -> c_int {
    kernel(|| {
        // SAFETY: the caller gives the packet up.
        let skb = unsafe { skb::take(skb, "usk_drop") }?;
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { Reg::of(reg) }?;
        let reason = match reason {
            USK_DROP_HEADER => DropReason::PktTooSmall,
            USK_DROP_CSUM => DropReason::PluginCsum,
            USK_DROP_NO_SOCKET => DropReason::NoSocket,
            USK_DROP_STATE => DropReason::PluginRefused,
            own => {
                let own = own.checked_sub(USK_DROP_OWN).and_then(|i| reg.lists.drop_reason(i)).ok_or(Error::Inval)?;
                reg.stack()?.mib.drop_named(own, &reg.name);
                drop(skb);
                return Ok(0);
            }
        };
        reg.stack()?.mib.drop_from(reason, &reg.name);
        drop(skb);
        Ok(0)
    })
}

/// For usk_log: something failed. The levels are those of syslog(3).
pub const USK_LOG_ERR: c_int = 3;
/// For usk_log: something may fail.
pub const USK_LOG_WARNING: c_int = 4;
/// For usk_log: unusual, and no fault.
pub const USK_LOG_NOTICE: c_int = 5;
/// For usk_log: what happens.
pub const USK_LOG_INFO: c_int = 6;
/// For usk_log: what helps to find a fault.
pub const USK_LOG_DEBUG: c_int = 7;

/// Logs a line, which `usersock trace` shows with the table's name (pr_warn_ratelimited). Of each registration 10 lines
/// pass in 5 seconds; the next one that passes says how many did not. The line is a text, not a format; control
/// characters become blanks, and what is behind 500 bytes is cut off. Any context, a sock may be owned. Costs next to
/// nothing while nobody takes a trace. Returns 1 if somebody reads the line, 0 if nobody does; -EINVAL: no such level;
/// -EFAULT: `line` is null.
/// # Safety
/// `reg` is valid; `line` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_log(reg: *mut usk_reg_t, level: c_int, line: *const c_char) -> c_int {
    kernel(|| {
        // SAFETY: valid, as the caller guarantees.
        let reg = unsafe { Reg::of(reg) }?;
        let level = Level::from_number(level).ok_or(Error::Inval)?;
        if line.is_null() {
            return Err(Error::Fault);
        }
        let stack = reg.stack()?;
        // SAFETY: a string, as the caller guarantees.
        let line = unsafe { CStr::from_ptr(line) };
        Ok(stack.mib.log(&reg.log, level, || line.to_string_lossy(), || stack.now()).into())
    })
}

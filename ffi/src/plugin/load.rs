//! Plug-ins: shared objects, or the program's own code, that register things in a stack. A plug-in's code stays loaded as long as
//! anything of it is in use. Linux: modules, try_module_get.

use super::kernel;
use super::table::{self, Table, contain, status};
use crate::admin::{self, note, usk_stack_t};
use crate::boundary::boundary;
use crate::ptr;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use usersock::config::{self, ConfigError};
use usersock::error::{Error, Result};
use usersock::stack::Stack;
use usersock::sys::fork;
use usersock::sys::lock::Mutex;

/// A plug-in of one stack: what its entry point is given. Valid until usk_plugin_unload, or the end of the stack.
#[allow(non_camel_case_types)]
pub struct usk_plugin_t {
    _opaque: [u8; 0],
}

/// The entry point of a plug-in: registers what it has; 0, or a negative errno to be refused.
#[allow(non_camel_case_types)]
pub type usk_plugin_init_fn = Option<unsafe extern "C-unwind" fn(plugin: *mut usk_plugin_t) -> c_int>;

type Init = unsafe extern "C-unwind" fn(*mut usk_plugin_t) -> c_int;
type Exit = unsafe extern "C-unwind" fn(*mut usk_plugin_t);

/// A loaded shared object; the last count unloads it, and has its exit function called before: whatever it registered, and every
/// thread that ran its code by that, has a count.
#[derive(Debug)]
pub(crate) struct Library {
    handle: *mut c_void,
    /// Set once its entry point has succeeded.
    exit: OnceLock<Exit>,
    /// The process that loaded it, by forks.
    born: u32,
}
// SAFETY: a dlopen handle may be used from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    fn open(path: &Path) -> std::result::Result<Library, ConfigError> {
        let line = || {
            // SAFETY: dlerror gives null or a string valid until this thread's next dl call.
            let text = unsafe { libc::dlerror() };
            // SAFETY: as above.
            let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
            text.unwrap_or_else(|| "cannot be loaded".to_owned())
        };
        let fail = |message| ConfigError { message, error: Error::Inval };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| fail("plugin: a name with NUL".to_owned()))?;
        // Without a slash dlopen would search the library path: a plug-in is a file.
        let name = if name.as_bytes().contains(&b'/') {
            name
        } else {
            CString::new([b"./", name.as_bytes()].concat()).unwrap_or(name)
        };
        if !path.exists() {
            let message = format!("plugin={}: no such file", path.display());
            return Err(ConfigError { message, error: Error::NoEnt });
        }
        // SAFETY: a string; the object's constructors are the caller's business.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            Err(fail(format!("plugin={}: {}", path.display(), line())))
        } else {
            Ok(Library { handle, exit: OnceLock::new(), born: fork::generation() })
        }
    }

    fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: the handle is open, the name a string.
        let p = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        (!p.is_null()).then_some(p)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if self.born != fork::generation() {
            // In a child of fork its stack is the parent's, and so is its end.
            return;
        }
        if let Some(exit) = self.exit.get() {
            // What unwinds out of it has nowhere to go.
            // SAFETY: the library is loaded until below; an exit function takes the handle, which is no more than an address by now.
            let _ = contain(|| unsafe { exit(std::ptr::null_mut()) });
        }
        // SAFETY: opened by `open`, closed once; whatever came from it held a count of this.
        unsafe { libc::dlclose(self.handle) };
    }
}

/// Something a plug-in registered.
pub(crate) trait Item: Send + Sync {
    /// Takes it out of its registry. EBUSY while it is in use, ENOENT when it is not there any more.
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()>;
    /// Its address, by which it is found again.
    fn key(&self) -> usize;
    /// The plug-in it belongs to.
    fn plugin(&self) -> &Weak<Plugin>;
    /// The stack has ended with it registered: lets go of what holds it in turn.
    fn stack_ended(&self) {}
}

/// See [`usk_plugin_t`].
pub(crate) struct Plugin {
    stack: Weak<Stack>,
    name: String,
    items: Mutex<Items>,
    library: Option<Arc<Library>>,
}

#[derive(Default)]
struct Items {
    list: Vec<Arc<dyn Item>>,
    /// All is unregistered for good: nothing may follow.
    ended: bool,
}

impl Plugin {
    /// # Safety
    /// `p` is null or valid.
    pub(crate) unsafe fn of(p: *mut usk_plugin_t) -> Result<ManuallyDrop<Arc<Plugin>>> {
        if p.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: a valid handle is the address in an Arc that the stack holds; the count is left alone.
        Ok(ManuallyDrop::new(unsafe { Arc::from_raw(p.cast::<Plugin>().cast_const()) }))
    }

    fn handle(self: &Arc<Plugin>) -> *mut usk_plugin_t {
        Arc::as_ptr(self).cast_mut().cast()
    }

    /// The stack; EINVAL once it has ended, ENETDOWN where it is that of a parent of this process.
    pub(crate) fn stack(&self) -> Result<Arc<Stack>> {
        let stack = self.stack.upgrade().ok_or(Error::Inval)?;
        stack.here().map(|()| stack)
    }

    /// What keeps the plug-in's code loaded.
    pub(crate) fn library(&self) -> Option<Arc<Library>> {
        self.library.clone()
    }

    /// Notes what was registered, for unloading. EINVAL: it has been unloaded meanwhile.
    fn registered(&self, item: &Arc<dyn Item>) -> Result<()> {
        let mut items = self.items.lock();
        if items.ended {
            return Err(Error::Inval);
        }
        items.list.push(item.clone());
        Ok(())
    }

    /// Takes a thing off the list. It is the caller's to drop: that may run code of the plug-in, which may call here.
    fn take_off(&self, key: usize) -> Option<Arc<dyn Item>> {
        let list = &mut self.items.lock().list;
        let at = list.iter().position(|i| i.key() == key)?;
        Some(list.remove(at))
    }

    /// Takes everything out again, the newest first, and lets nothing follow. Stops at the first that is in use; what was out by then
    /// is out.
    fn unregister_all(&self, stack: &Arc<Stack>) -> Result<()> {
        loop {
            let item = {
                let mut items = self.items.lock();
                let last = items.list.last().cloned();
                items.ended = last.is_none();
                last
            };
            let Some(item) = item else { return Ok(()) };
            match item.unregister(stack) {
                Ok(()) | Err(Error::NoEnt) => drop(self.take_off(item.key())),
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Nothing is on the list after usk_plugin_unload.
        let items = std::mem::take(&mut self.items.get_mut().list);
        items.iter().for_each(|i| i.stack_ended());
    }
}

/// What every usk_..._register does: reads the table, has `f` check it and register it in the plug-in's stack, notes what that made with
/// the plug-in, and gives the handle by which it is known, unless `out` is null. Answers 0, or an error and a line for
/// usk_config_error.
/// # Safety
/// `plugin` is null or valid; `table` is null, or points to as many bytes as its size says; `out` is null or writable.
pub(crate) unsafe fn register<T: Table, I: Item + 'static, H>(
    plugin: *mut usk_plugin_t,
    table: *const T,
    out: *mut *mut H,
    f: impl FnOnce(&Arc<Plugin>, &Arc<Stack>, T) -> Result<Arc<I>>,
) -> Result<c_int> {
    // SAFETY: valid by the caller's word.
    let plugin = unsafe { Plugin::of(plugin) }?;
    // SAFETY: the caller vouches for the table.
    let table = unsafe { table::read(table) }.map_err(refused)?;
    let stack = plugin.stack()?;
    let item = f(&plugin, &stack, table)?;
    let handle = Arc::as_ptr(&item).cast_mut().cast::<H>();
    let item: Arc<dyn Item> = item;
    plugin.registered(&item).inspect_err(|_| {
        // Nobody has the handle, so what is in use of it ends by itself.
        let _ = item.unregister(&stack);
    })?;
    if !out.is_null() {
        // SAFETY: writable by the caller's word.
        unsafe { *out = handle };
    }
    Ok(0)
}

/// Takes the thing behind a handle out of its registry and off its plug-in's list.
/// # Safety
/// `handle` is null, or from [`register`] of a `T` that is registered.
pub(crate) unsafe fn unregister<T: Item, H>(handle: *mut H) -> Result<()> {
    let item = handle.cast::<T>().cast_const();
    if item.is_null() {
        return Err(Error::Inval);
    }
    // A count of our own: registry and list give theirs up meanwhile.
    // SAFETY: the address in an Arc that the list holds, by the caller's word.
    let item = unsafe {
        Arc::increment_strong_count(item);
        Arc::from_raw(item)
    };
    let plugin = item.plugin().upgrade().ok_or(Error::NoEnt)?;
    item.unregister(&plugin.stack()?)?;
    drop(plugin.take_off(item.key()));
    Ok(())
}

/// A table was refused: the line is for usk_config_error.
pub(crate) fn refused(line: String) -> Error {
    note(&line);
    Error::Inval
}

fn attach(
    stack: &Arc<Stack>,
    name: String,
    init: Init,
    exit: Option<Exit>,
    library: Option<Arc<Library>>,
) -> std::result::Result<Arc<Plugin>, ConfigError> {
    note("");
    let plugin = Arc::new(Plugin { stack: Arc::downgrade(stack), name, items: Mutex::default(), library });
    // SAFETY: the entry point of the plug-in, by the caller's word; its argument lives while it runs.
    let r = contain(|| unsafe { init(plugin.handle()) }).and_then(|r| status(r.into()));
    if let Err(error) = r {
        // What is in use already, by the entry point itself or by a program that was quick, keeps the plug-in until the stack ends.
        if plugin.unregister_all(stack).is_err() {
            stack.plugins.lock().push(plugin.clone());
        }
        let why = admin::noted_line();
        let why = if why.is_empty() { error.to_string() } else { why };
        return Err(ConfigError { message: format!("plugin={}: {why}", plugin.name), error });
    }
    if let (Some(library), Some(exit)) = (&plugin.library, exit) {
        // The library was opened for this plug-in: nobody has set it.
        let _ = library.exit.set(exit);
    }
    stack.plugins.lock().push(plugin.clone());
    Ok(plugin)
}

/// Loads a shared object into a stack. The error is one line.
pub fn load(stack: &Arc<Stack>, path: &Path) -> std::result::Result<(), ConfigError> {
    load_file(stack, path).map(drop)
}

fn load_file(stack: &Arc<Stack>, path: &Path) -> std::result::Result<Arc<Plugin>, ConfigError> {
    let library = Library::open(path)?;
    let shown = path.display().to_string();
    let Some(init) = library.symbol(c"usk_plugin_init") else {
        let message = format!("plugin={shown}: no entry point usk_plugin_init");
        return Err(ConfigError { message, error: Error::Inval });
    };
    // SAFETY: the name is reserved for functions of this type.
    let init = unsafe { std::mem::transmute::<*mut c_void, Init>(init) };
    let exit = library.symbol(c"usk_plugin_exit");
    // SAFETY: as above.
    let exit = exit.map(|p| unsafe { std::mem::transmute::<*mut c_void, Exit>(p) });
    attach(stack, shown, init, exit, Some(Arc::new(library)))
}

/// Lets configurations load plug-ins (`plugin=FILE.so`) in this process. Called by every call of the C ABI that makes a stack, and
/// by commands.
pub fn enable() {
    config::set_plugin_loader(load);
}

/// Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point
/// `int usk_plugin_init(usk_plugin_t *)`, which registers what it has. Its `void usk_plugin_exit(usk_plugin_t *)`, if any, is called,
/// with null, when the last use of its code has ended, just before it leaves memory: by usk_plugin_unload, or by the last thread that
/// was in an operation then. The same as plugin=FILE in a configuration. A name without slash is looked for in the working
/// directory. Null with errno on failure, and usk_config_error says why in a line: ENOENT, EINVAL, or what the entry point answered.
/// # Safety
/// `stack` is null or from usk_stack_new; `file` is a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_load(stack: *mut usk_stack_t, file: *const c_char) -> *mut usk_plugin_t {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, file) = unsafe { (admin::stack_of(stack)?, ptr::string(file)?) };
        load_file(&stack, Path::new(file)).map(|p| p.handle()).map_err(admin::noted)
    })
}

/// As usk_plugin_load, of code that is linked to the program: calls `init`. `name` is for messages.
/// # Safety
/// `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_attach(
    stack: *mut usk_stack_t,
    name: *const c_char,
    init: usk_plugin_init_fn,
) -> *mut usk_plugin_t {
    boundary(|| {
        // SAFETY: the caller vouches for both.
        let (stack, name) = unsafe { (admin::stack_of(stack)?, ptr::string(name)?) };
        let init = init.ok_or(Error::Inval)?;
        attach(&stack, name.to_owned(), init, None, None).map(|p| p.handle()).map_err(admin::noted)
    })
}

/// Unregisters everything a plug-in registered, the newest first, and unloads it. Returns 0; or -1 with errno EBUSY while something
/// of it is in use: what was unregistered by then stays so, and the call can be repeated. Not from the plug-in's own code.
/// # Safety
/// `plugin` is valid, and not used after success.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_unload(plugin: *mut usk_plugin_t) -> c_int {
    boundary(|| {
        // SAFETY: valid by the caller's word.
        let plugin = unsafe { Plugin::of(plugin) }?;
        let stack = plugin.stack()?;
        plugin.unregister_all(&stack)?;
        let ours: Arc<dyn std::any::Any + Send + Sync> = (*plugin).clone();
        stack.plugins.lock().retain(|p| !Arc::ptr_eq(p, &ours));
        Ok(0)
    })
}

/// The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. A plug-in that keeps it keeps the
/// stack from ending. Null: it has ended.
/// # Safety
/// `plugin` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_plugin_stack(plugin: *mut usk_plugin_t) -> *mut usk_stack_t {
    // SAFETY: valid by the caller's word.
    kernel(|| Ok(admin::give_stack(unsafe { Plugin::of(plugin) }?.stack()?)))
}

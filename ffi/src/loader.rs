//! Plug-ins: shared objects, or the program's own code, that register things in a stack. A plug-in's code stays loaded
//! while any of its registrations is in use. Above: `stacks` and `admin` (configurations name plug-ins), `plugin::load`
//! (the calls). Below: `library` (shared objects). Linux: modules.

use crate::held::{contain, status};
use crate::library::{Init, Library, usk_plugin_t};
use crate::note::{note, noted_line};
use std::any::Any;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::{Arc, Weak};
use usersock::config::{self, ConfigError};
use usersock::error::{Error, Result};
use usersock::internal::sys::lock::Mutex;
use usersock::stack::Stack;

/// What a table that a plug-in registers is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// struct usk_proto.
    Protocol,
    /// struct usk_cong_ops.
    Congestion,
    /// struct usk_sock_ops.
    Hooks,
    /// struct usk_tcp_ops.
    Tcp,
    /// struct usk_ulp_ops.
    Layer,
    /// struct usk_device_ops.
    Device,
}

/// Something a plug-in registered.
pub(crate) trait Item: Send + Sync {
    /// What its table is of, and the name in it.
    fn table(&self) -> (TableKind, &str);
    /// Unregisters it. EBUSY while it is in use, ENOENT if it is not registered any more.
    fn unregister(&self, stack: &Arc<Stack>) -> Result<()>;
    /// Its address, by which it is found again.
    fn key(&self) -> usize;
    /// The stack has ended with it registered: drops what holds it, to break the cycle.
    fn stack_ended(&self) {}
    /// Itself, for who looks for one kind of registration.
    fn any(&self) -> &dyn Any;
}

/// A plug-in of one stack: what a [`usk_plugin_t`] points to.
pub(crate) struct Plugin {
    stack: Weak<Stack>,
    name: String,
    items: Mutex<Items>,
    library: Option<Arc<Library>>,
}

#[derive(Default)]
struct Items {
    list: Vec<Arc<dyn Item>>,
    /// Everything is unregistered for good: no new registration is accepted.
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

    pub(crate) fn handle(self: &Arc<Plugin>) -> *mut usk_plugin_t {
        Arc::as_ptr(self).cast_mut().cast()
    }

    /// The stack; EINVAL once it has ended, ENETDOWN if it is a parent process's.
    pub(crate) fn stack(&self) -> Result<Arc<Stack>> {
        let stack = self.stack.upgrade().ok_or(Error::Inval)?;
        stack.here().map(|()| stack)
    }

    /// The reference that keeps the plug-in's code loaded.
    pub(crate) fn library(&self) -> Option<Arc<Library>> {
        self.library.clone()
    }

    /// Adds a registration to the list, for unloading. EINVAL: the plug-in has been unloaded meanwhile.
    pub(crate) fn registered(&self, item: &Arc<dyn Item>) -> Result<()> {
        let mut items = self.items.lock();
        if items.ended {
            return Err(Error::Inval);
        }
        items.list.push(item.clone());
        Ok(())
    }

    /// The item on the list with this key.
    pub(crate) fn find(&self, key: usize) -> Option<Arc<dyn Item>> {
        self.items.lock().list.iter().find(|i| i.key() == key).cloned()
    }

    /// What `f` finds first in the list.
    pub(crate) fn find_map<R>(&self, f: impl FnMut(&Arc<dyn Item>) -> Option<R>) -> Option<R> {
        self.items.lock().list.iter().find_map(f)
    }

    /// Removes an item from the list. The caller drops it: that may run code of the plug-in, which may call here.
    pub(crate) fn take_off(&self, key: usize) -> Option<Arc<dyn Item>> {
        let list = &mut self.items.lock().list;
        let at = list.iter().position(|i| i.key() == key)?;
        Some(list.remove(at))
    }

    /// Unregisters all items, the newest first, and accepts no new ones. Stops at the first that is in use; those
    /// before it stay unregistered.
    pub(crate) fn unregister_all(&self, stack: &Arc<Stack>) -> Result<()> {
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

impl Plugin {
    /// Unregisters everything and takes the plug-in off its stack. EBUSY while something is in use.
    pub(crate) fn unload(self: &Arc<Plugin>) -> Result<()> {
        let stack = self.stack()?;
        self.unregister_all(&stack)?;
        let ours: Arc<dyn std::any::Any + Send + Sync> = self.clone();
        stack.plugins.lock().retain(|p| !Arc::ptr_eq(p, &ours));
        Ok(())
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // Nothing is on the list after usk_plugin_unload.
        let items = std::mem::take(&mut self.items.get_mut().list);
        items.iter().for_each(|i| i.stack_ended());
    }
}

/// Runs an entry point, which registers its tables in the stack; if it fails, they are unregistered again.
pub(crate) fn attach(
    stack: &Arc<Stack>,
    name: String,
    init: Init,
    library: Option<Arc<Library>>,
) -> std::result::Result<Arc<Plugin>, ConfigError> {
    note("");
    let plugin = Arc::new(Plugin { stack: Arc::downgrade(stack), name, items: Mutex::default(), library });
    // SAFETY: the entry point of the plug-in, as the caller guarantees; its argument lives while it runs.
    let r = contain(|| unsafe { init(plugin.handle()) });
    if let Err(error) = r.and_then(|r| status(r.into())) {
        // A registration that is in use already, by the entry point itself or by a program, keeps the plug-in until the
        // stack ends.
        if plugin.unregister_all(stack).is_err() {
            stack.plugins.lock().push(plugin.clone());
        }
        let why = noted_line();
        let why = match r {
            _ if !why.is_empty() => why,
            Ok(r @ -4095..0) => format!("usk_plugin_init returned {r}, {}", error.name()),
            Ok(r) => format!("usk_plugin_init returned {r}, neither 0 nor a negative errno"),
            Err(_) => "usk_plugin_init panicked, or returned with a socket locked".to_owned(),
        };
        return Err(ConfigError::new(format!("plugin={}: {why}", plugin.name), error));
    }
    if let Some(library) = &plugin.library {
        library.entered();
    }
    stack.plugins.lock().push(plugin.clone());
    Ok(plugin)
}

/// Loads a shared object into a stack. The error is one line.
pub fn load(stack: &Arc<Stack>, path: &Path) -> std::result::Result<(), ConfigError> {
    load_file(stack, path).map(drop)
}

/// As [`load`], with the plug-in that it made.
pub(crate) fn load_file(stack: &Arc<Stack>, path: &Path) -> std::result::Result<Arc<Plugin>, ConfigError> {
    let library = Library::open(path)?;
    let shown = path.display().to_string();
    let Some(init) = library.init() else {
        let message = format!("plugin={shown}: no entry point usk_plugin_init");
        return Err(ConfigError::new(message, Error::Inval));
    };
    attach(stack, shown, init, Some(library))
}

/// A plug-in that a program in Rust has loaded into a stack, to look at it and to unload it again. Dropping it leaves
/// the plug-in with the stack.
pub struct Loaded(Arc<Plugin>);

impl Loaded {
    /// As [`load`].
    pub fn open(stack: &Arc<Stack>, path: &Path) -> std::result::Result<Loaded, ConfigError> {
        load_file(stack, path).map(Loaded)
    }

    /// The tables it has registered and not taken out again, in that order, and their names.
    pub fn tables(&self) -> Vec<(TableKind, String)> {
        let items = self.0.items.lock().list.clone();
        items.iter().map(|item| item.table()).map(|(kind, name)| (kind, name.to_owned())).collect()
    }

    /// usk_plugin_unload: EBUSY while something is in use, and what was unregistered by then stays so.
    pub fn unload(&self) -> Result<()> {
        self.0.unload()
    }
}

/// Lets configurations load plug-ins (`plugin=FILE.so`) in this process. Called by every call of the C ABI that makes a
/// stack, and by our commands.
pub fn enable() {
    config::set_plugin_loader(load);
}

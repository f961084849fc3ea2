//! Worlds in virtual time from C: hosts, and running. Handles are numbers, so that one that has been freed, or is of
//! another kind, is EBADF and nothing worse. Above: `sim_link`, `sim_thread`. Below: `usersock::sim`.

use crate::boundary::boundary;
use crate::note::noted;
use crate::stacks::{give_stack, usk_stack_t};
use crate::{loader, ptr};
use std::any::Any;
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use usersock::config::{Config, ConfigError};
use usersock::driver::Step;
use usersock::env::{Duration, Instant};
use usersock::error::{Error, Result};
use usersock::internal::sys::fork::PerProcess;
use usersock::internal::sys::lock::Mutex;
use usersock::sim::World;
use usersock::stack::Stack;

/// A world in virtual time; made by usk_world_new. A handle is a number and points to nothing.
#[allow(non_camel_case_types)]
pub struct usk_world_t {
    _opaque: [u8; 0],
}

/// What a handle stands for: a world, or what is of one.
pub(crate) trait Object: Any + Send + Sync {
    /// Whether it ends with this world.
    fn is_of(&self, world: &Arc<Here>) -> bool;
    /// Completes what it writes, when its world has ended.
    fn complete(&self) -> Result<()> {
        Ok(())
    }
}

impl Object for Here {
    fn is_of(&self, world: &Arc<Here>) -> bool {
        std::ptr::eq(self, Arc::as_ptr(world))
    }
}

/// All that exist in this process, by their handles.
static OBJECTS: PerProcess<Mutex<HashMap<usize, Arc<dyn Object>>>> = PerProcess::new(Mutex::default);
/// A number is given once, also by a child of fork(2), so that one that was freed or inherited stays known as such.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Puts an object in the table; the handle of its kind.
pub(crate) fn give<H>(object: Arc<dyn Object>) -> *mut H {
    let handle = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    OBJECTS.get().lock().insert(handle, object);
    std::ptr::without_provenance_mut(handle)
}

/// EBADF: there is none of this type with this handle.
pub(crate) fn find<T: Object, H>(handle: *mut H) -> Result<Arc<T>> {
    let object: Arc<dyn Any + Send + Sync> = OBJECTS.get().lock().get(&handle.addr()).cloned().ok_or(Error::BadF)?;
    object.downcast().map_err(|_| Error::BadF)
}

/// The handle ends.
pub(crate) fn forget<H>(handle: *mut H) {
    OBJECTS.get().lock().remove(&handle.addr());
}

/// EBADF: there is none with this handle.
pub(crate) fn world_of(handle: *mut usk_world_t) -> Result<Arc<Here>> {
    find(handle)
}

/// A world and what C knows of it.
pub(crate) struct Here {
    pub(crate) world: World,
    hosts: Mutex<HashMap<String, Arc<Stack>>>,
    /// A thread steps it.
    runs: AtomicBool,
}

/// The right to step a world, until it is dropped.
pub(crate) struct Running<'a>(&'a Here);
impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.runs.store(false, Ordering::Release);
    }
}

impl Here {
    /// EDEADLK in a thread of the world, EBUSY while another thread, or a caller of this one, steps it.
    pub(crate) fn run(&self) -> Result<Running<'_>> {
        if self.world.in_thread() {
            return Err(Error::Deadlk);
        }
        match self.runs.swap(true, Ordering::Acquire) {
            true => Err(Error::Busy),
            false => Ok(Running(self)),
        }
    }

    /// ENOENT, and a line that says so.
    pub(crate) fn host(&self, name: &str) -> Result<Arc<Stack>> {
        let none = || noted(ConfigError::new(format!("no host {name:?} in this world"), Error::NoEnt));
        self.hosts.lock().get(name).cloned().ok_or_else(none)
    }

    /// Waits in a thread of the world, steps it elsewhere.
    fn until(&self, at: Instant) -> Result<()> {
        if self.world.in_thread() {
            return self.world.sleep_until(at);
        }
        let _running = self.run()?;
        self.world.run_until(at);
        Ok(())
    }
}

/// Makes a world, empty, at time zero. All randomness in it comes from `seed`: the same program with the same seed
/// sends the same packets at the same times. Null with errno on failure.
#[unsafe(no_mangle)]
pub extern "C" fn usk_world_new(seed: u64) -> *mut usk_world_t {
    boundary(|| {
        loader::enable();
        let here = Here { world: World::new(seed), hosts: Mutex::default(), runs: AtomicBool::new(false) };
        Ok(give(Arc::new(here)))
    })
}

/// Frees a world with its links and threads, whose handles end. Its time stands still from then on: a wait of one of
/// its threads ends with EINTR, each further call on a socket of its hosts is ENETDOWN, but for usk_close, and
/// usk_world_free returns when all threads have returned. A thread whose time has not come never runs. Captures of
/// links are completed. Stacks are freed by usk_stack_free, before or after. Returns 0, or -1 with errno EBADF, EBUSY
/// (it is being stepped), EDEADLK (called in one of its threads), or the error of writing a capture: the world is freed
/// then, too.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_world_free(world: *mut usk_world_t) -> c_int {
    boundary(|| {
        let here = world_of(world)?;
        let running = here.run()?;
        let mut gone = Vec::new();
        {
            let mut objects = OBJECTS.get().lock();
            objects.retain(|_, object| {
                let of_it = object.is_of(&here);
                if of_it {
                    gone.push(object.clone());
                }
                !of_it
            });
        }
        here.world.end();
        let mut written = Ok(());
        for object in &gone {
            written = written.and(object.complete());
        }
        drop(running);
        written.map(|()| 0)
    })
}

/// Adds a host: a stack with the standard protocols, a loopback and, by usk_world_link, further devices. `name` is
/// unique in the world. `config` is as for usk_stack_new, without devices and control socket: plugin=FILE,
/// sysctl.NAME=VALUE, and addr= for the loopback; null for none. The stack is the caller's as one of usk_stack_new is,
/// and is used and freed in the same ways (usk_socket_on, usk_sysctl_set, usk_mib_read, usk_plugin_load ...); a call of
/// it that blocks steps the whole world, or waits, in a thread of the world (usk_world_thread). Null with errno EBADF,
/// EEXIST (there is such a host), EINVAL or what loading a plug-in gave; usk_config_error returns the reason.
/// # Safety
/// `name` is a string; `config` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_world_host(
    world: *mut usk_world_t,
    name: *const c_char,
    config: *const c_char,
) -> *mut usk_stack_t {
    boundary(|| {
        let here = world_of(world)?;
        // SAFETY: strings, as the caller guarantees.
        let (name, text) = unsafe { (ptr::string(name)?, if config.is_null() { "" } else { ptr::string(config)? }) };
        if here.hosts.lock().contains_key(name) {
            return Err(noted(ConfigError::new(format!("there is a host {name:?} already"), Error::Exist)));
        }
        let stack = Config::parse(text).and_then(|config| here.world.configured(&config)).map_err(noted)?;
        here.hosts.lock().insert(name.to_owned(), stack.clone());
        Ok(give_stack(stack))
    })
}

/// The time of a world, nanoseconds from its beginning; -1 with errno EBADF.
#[unsafe(no_mangle)]
pub extern "C" fn usk_world_now(world: *mut usk_world_t) -> i64 {
    boundary(|| Ok(world_of(world)?.world.now().as_nanos() as i64))
}

/// Runs all that happens up to the time `until`, in nanoseconds; the time is then `until`, or what it was if that is
/// later. In a thread of the world: waits until then. Returns 0, or -1 with errno EBADF, EBUSY (it is being stepped:
/// by another thread, or by a call that called this one), or EINTR (in a thread of the world: the world ends).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_world_run_until(world: *mut usk_world_t, until: u64) -> c_int {
    boundary(|| {
        let here = world_of(world)?;
        here.until(Instant::from_nanos(until).max(here.world.now())).map(|()| 0)
    })
}

/// As usk_world_run_until, for `span` nanoseconds from now.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_world_run_for(world: *mut usk_world_t, span: u64) -> c_int {
    boundary(|| {
        let here = world_of(world)?;
        here.until(here.world.now() + Duration::from_nanos(span)).map(|()| 0)
    })
}

/// Runs until nothing is left to happen: no packet is under way, no timer is armed, no thread waits for a time; but not
/// beyond the time `limit`, in nanoseconds. Returns 1 when nothing is left (threads may wait for what will never come:
/// usk_thread_join tells), 0 at the limit, or -1 with errno EBADF, EBUSY, or EDEADLK (in a thread of the world).
#[unsafe(no_mangle)]
pub extern "C-unwind" fn usk_world_run_until_idle(world: *mut usk_world_t, limit: u64) -> c_int {
    boundary(|| {
        let here = world_of(world)?;
        let _running = here.run()?;
        Ok(here.world.run_until_idle(Instant::from_nanos(limit)).into())
    })
}

/// A condition of usk_world_run_until_true: not 0 when it holds.
#[allow(non_camel_case_types)]
pub type usk_world_condition_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> c_int>;

/// Runs until `condition` holds; but not beyond the time `limit`, in nanoseconds. The condition is asked before each
/// step, a step being what happens at one time: it may make calls that do not block. Returns 1 when it holds, 0 at the
/// limit (also when nothing is left to happen before), or -1 with errno EBADF, EBUSY, EDEADLK (in a thread of the
/// world), or EFAULT (`condition` is null).
/// # Safety
/// `condition` is a function that can be called with `arg`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_world_run_until_true(
    world: *mut usk_world_t,
    condition: usk_world_condition_fn,
    arg: *mut c_void,
    limit: u64,
) -> c_int {
    boundary(|| {
        let (here, condition) = (world_of(world)?, condition.ok_or(Error::Fault)?);
        let _running = here.run()?;
        loop {
            // SAFETY: as the caller guarantees.
            if unsafe { condition(arg) } != 0 {
                return Ok(1);
            }
            let limit = Instant::from_nanos(limit).max(here.world.now());
            if here.world.step(limit) == Step::Limit {
                // What the last step did may have made it true.
                // SAFETY: as above.
                return Ok(c_int::from(unsafe { condition(arg) } != 0));
            }
        }
    })
}

//! Scripted threads of a world from C. Below: `sim_world`, `World::spawn`.

use crate::boundary::boundary;
use crate::sim_world::{Here, Object, find, forget, give, usk_world_t, world_of};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use usersock::driver::ScriptThread;
use usersock::env::Instant;
use usersock::error::{Error, Result};

/// A thread of a world; made by usk_world_thread. A handle is a number and points to nothing.
#[allow(non_camel_case_types)]
pub struct usk_thread_t {
    _opaque: [u8; 0],
}

/// What such a thread runs, as with pthread_create(3).
#[allow(non_camel_case_types)]
pub type usk_thread_fn = Option<unsafe extern "C-unwind" fn(arg: *mut c_void) -> *mut c_void>;

/// A thread and its result.
pub(crate) struct Thread {
    of: Weak<Here>,
    script: OnceLock<Arc<ScriptThread>>,
    result: AtomicPtr<c_void>,
}

impl Object for Thread {
    fn is_of(&self, world: &Arc<Here>) -> bool {
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(world))
    }
}

/// The argument on its way to the thread.
struct Argument(*mut c_void);
// SAFETY: it is handed on and not used; what it points to is between the program and its function.
unsafe impl Send for Argument {}

impl Argument {
    fn get(self) -> *mut c_void {
        self.0
    }
}

/// Starts `run` with `arg` in a thread of the world, at the time `at`, in nanoseconds: a program that blocks, as a
/// server or a client does, in virtual time. Of a world's threads one at a time runs, and while it does no time passes
/// and nothing else happens, until it waits: in a blocking call on a socket of the world's hosts (usk_recv, usk_accept,
/// usk_connect, usk_poll, usk_epoll_wait ...), in usk_world_run_until, usk_world_run_for or usk_thread_join. It runs
/// only while the world is stepped: by usk_world_run_... or by a blocking call of another thread of the program. It
/// must wait in nothing else, not in sleep(3) and not for a mutex that another of them holds, and must end by
/// returning. Null with errno EAGAIN (the system has no thread left), EBADF, or EFAULT (`run` is null).
/// # Safety
/// `run` can be called with `arg` in another thread, until the thread is joined or the world is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_world_thread(
    world: *mut usk_world_t,
    at: u64,
    run: usk_thread_fn,
    arg: *mut c_void,
) -> *mut usk_thread_t {
    boundary(|| {
        let (here, run) = (world_of(world)?, run.ok_or(Error::Fault)?);
        let of = Arc::downgrade(&here);
        let thread = Arc::new(Thread { of, script: OnceLock::new(), result: AtomicPtr::default() });
        let (arg, to) = (Argument(arg), thread.clone());
        let body = move || {
            // SAFETY: as the caller guarantees.
            to.result.store(unsafe { run(arg.get()) }, Ordering::Release);
        };
        let script = here.world.spawn(Instant::from_nanos(at), body)?;
        // It is new: nobody has set it.
        let _ = thread.script.set(script);
        Ok(give(thread))
    })
}

/// Steps the world until a thread of it has returned, or in another thread of the world waits for that; stores what it
/// returned in `result`, if that is not null, and ends the handle. Returns 0, or -1 with errno EBADF, EBUSY (the world
/// is being stepped), EDEADLK (it is the calling thread; or it waits, and nothing is left to happen that could end
/// that), EFAULT, or EINTR (in a thread of the world: the world ends).
/// # Safety
/// `result` is null or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn usk_thread_join(thread: *mut usk_thread_t, result: *mut *mut c_void) -> c_int {
    boundary(|| {
        let joined = find::<Thread, _>(thread)?;
        let result = match result.is_null() {
            true => None,
            // SAFETY: the caller vouches for it.
            false => Some(unsafe { crate::ptr::value_mut(result) }?),
        };
        let here = joined.of.upgrade().ok_or(Error::BadF)?;
        join(&here, &joined)?;
        if let Some(result) = result {
            *result = joined.result.load(Ordering::Acquire);
        }
        forget(thread);
        Ok(0)
    })
}

fn join(here: &Here, thread: &Thread) -> Result<()> {
    let script = thread.script.get().ok_or(Error::BadF)?;
    let _running = if here.world.in_thread() { None } else { Some(here.run()?) };
    here.world.join(script)
}

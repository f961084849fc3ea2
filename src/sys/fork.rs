//! Knowing that this process is a copy. Threads do not survive fork(2): what was started before must not be relied on after.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
}

/// How many forks lie between the first call of this function and this process: a value remembered before a fork differs in
/// the child. Costs one load; a system call to ask for the process id would cost a hundred times that in every wait.
#[inline]
pub fn generation() -> u32 {
    static HOOK: Once = Once::new();
    if !HOOK.is_completed() {
        HOOK.call_once(|| {
            // SAFETY: `in_child` only adds to an atomic, which is safe in a child of a process with many threads. It fails
            // only for want of memory, and then forks go unnoticed, as without this module.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        });
    }
    GENERATION.load(Ordering::Relaxed)
}

//! What a thread's block says of the call that the thread is in. Above: `near`, which has it; `signal::postponed`,
//! which reads and writes it.

use std::cell::Cell;
use std::sync::atomic::AtomicU32;

/// What a handler finds of the call that it interrupts; of the thread's `Block`. All zero at first.
pub(crate) struct InCall {
    /// How many calls the thread is in, one within the other.
    pub(super) depth: Cell<u32>,
    /// The descriptor that ends its sleep, plus one; 0: the word does.
    pub(super) wakes: Cell<i32>,
    /// The word that it sleeps by; null: it is awake.
    pub(super) word: Cell<*const AtomicU32>,
    /// The thread's own mask, from the first signal on.
    pub(super) own: Cell<u64>,
    /// The mask of the sleep that the signal ended, where the thread's own blocks it; else the thread's own.
    pub(super) window: Cell<u64>,
}

impl InCall {
    /// Of a thread that has made no call; where the block is no `thread_local!` its memory is zero at first.
    #[cfg_attr(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)), allow(dead_code))]
    pub(crate) const fn new() -> InCall {
        InCall {
            depth: Cell::new(0),
            wakes: Cell::new(0),
            word: Cell::new(std::ptr::null()),
            own: Cell::new(0),
            window: Cell::new(0),
        }
    }
}

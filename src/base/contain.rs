//! What a panic in packet or timer context ends: the socket it happened in, not the thread that serves every socket.
//! Above: `sock::lock`, `ip::input`, `stack`, wherever softirq calls a protocol. In debug builds a panic of the stack's
//! own protocols goes on: it is a fault of ours, and a test is to hear of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `f`; true when it panicked and that is contained. `theirs`: the code is a plug-in's.
#[inline]
pub(crate) fn contain(theirs: bool, f: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => false,
        Err(_) if theirs || !cfg!(debug_assertions) => true,
        Err(panic) => resume_unwind(panic),
    }
}

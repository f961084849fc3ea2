//! Containment of panics in packet or timer context: a panic breaks the socket it happened in, not the thread that
//! serves every socket. Above: `sock::lock`, `ip::input`, `stack`, wherever softirq calls a protocol. In debug builds a
//! panic in the stack's own protocols is not contained: it is a bug, and a test must fail.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `f`; returns true when it panicked and the panic was contained. `theirs`: whether the code is a plug-in's,
/// which is asked after a panic alone.
#[inline(always)]
pub(crate) fn contain(theirs: impl FnOnce() -> bool, f: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => false,
        Err(_) if theirs() || !cfg!(debug_assertions) => true,
        Err(panic) => resume_unwind(panic),
    }
}

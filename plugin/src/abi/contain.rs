//! Where a panic ends. A plug-in is a shared object with a Rust run time of its own: a panic that left an operation
//! would meet frames of another run time, and end the process.

use crate::sys::{usk_break, usk_sock_t};
use std::any::Any;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(panic = "abort")]
compile_error!("a plug-in contains its panics: its profile must not say panic = \"abort\"");

/// Drops what was thrown. Its own drop may panic too.
fn discard(thrown: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
        forget(again);
    }
}

/// Runs an operation: `broken` is its value if it panics.
#[inline]
pub(crate) fn contain<R>(broken: R, operation: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|thrown| {
        discard(thrown);
        broken
    })
}

/// Runs an operation of a socket. A panic breaks the socket: every call on it returns EIO from then on. What the
/// operation has locked is released by the stack when it returns.
///
/// # Safety
/// `sock` gives null, or a sock that is valid while this runs.
#[inline]
pub(crate) unsafe fn contain_for<R>(
    sock: impl FnOnce() -> *mut usk_sock_t,
    broken: R,
    operation: impl FnOnce() -> R,
) -> R {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|thrown| {
        // SAFETY: null is refused, any other is valid.
        unsafe { usk_break(sock()) };
        discard(thrown);
        broken
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nested;
    impl Drop for Nested {
        fn drop(&mut self) {
            panic!("while it is thrown away");
        }
    }

    #[test]
    fn a_panic_ends_here_and_so_does_that_of_what_it_throws() {
        assert_eq!(contain(1, || 2), 2);
        assert_eq!(contain(1, || panic!("as asked")), 1);
        assert_eq!(contain(1, || std::panic::panic_any(Nested)), 1);
    }
}

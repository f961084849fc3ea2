//! The functions that this library stands in front of. They are found once, when it is loaded ([`resolve`]): dlsym(3)
//! may allocate, and the program's allocator may call us. Above: all files of interposed functions.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// An interposed function: its name, and where the one behind ours is kept.
pub(crate) type Entry = (&'static CStr, &'static AtomicPtr<c_void>);

/// Finds the real functions of a file. One that this C library does not have stays null: the kernel's call serves.
pub(crate) fn resolve(entries: &[Entry]) {
    for (name, at) in entries {
        at.store(find(name), Ordering::Relaxed);
    }
}

/// The next definition of `name` behind ours; null when there is none.
pub(crate) fn find(name: &CStr) -> *mut c_void {
    // SAFETY: a string; RTLD_NEXT looks behind this library.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// A system call by instruction, with up to six arguments, for calls before the real functions are known.
macro_rules! kernel {
    ($number:ident $(, $arg:expr)*) => {{
        let given: &[std::ffi::c_long] = &[$($arg as std::ffi::c_long),*];
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(given);
        usersock::internal::sys::raw::call(libc::$number, args) as _
    }};
}
pub(crate) use kernel;

/// Interposes functions: `fn name(args) -> type, ours CONDITION => CALL, else EARLY;`. Where the condition holds the
/// call is made, with the line of [`crate::role::noticed`] when it fails in a child; elsewhere the real function is
/// called, or EARLY where that is not known. `real::name` is the real function alone, and `ENTRIES` is the list for
/// [`resolve`]. `served CALL,` in front of `ours`: what is done instead of all this where a stack server has the
/// sockets; handlers run there as the kernel has them.
macro_rules! interpose {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty,
       $(served $served:expr,)? ours $cond:expr => $call:expr, else $early:expr;)*) => {
        $(
            $(#[$doc])*
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            pub unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: all arguments are the program's own, passed on.
                unsafe {
                    $(if crate::role::serves() {
                        return $served;
                    })?
                    if $cond {
                        return for_ours::$name($($arg),*);
                    }
                    real::$name($($arg),*)
                }
            }
        )*

        /// The calls on ours. Functions of their own, so that the other path saves no register.
        // Sizes of buffers are looked at by the condition alone.
        #[allow(unused_variables)]
        mod for_ours {
            use super::*;
            $(
                /// # Safety
                /// As the C library's.
                #[inline(never)]
                pub(super) unsafe extern "C-unwind" fn $name($($arg: $ty),*) -> $ret {
                    use crate::role::Returned;
                    loop {
                        usersock::internal::sys::signal::postponed::enter();
                        // SAFETY: all arguments are the program's own, passed on.
                        #[allow(unused_unsafe)]
                        let r = crate::role::noticed(unsafe { $call });
                        // Handlers run here, and may jump: nothing of the call is left.
                        let again = usersock::internal::sys::signal::postponed::leave();
                        if !(again && r.failed() && usersock_ffi::boundary::errno() == libc::EINTR) {
                            return r;
                        }
                    }
                }
            )*
        }

        pub(crate) mod real {
            #[allow(unused_imports)]
            use super::*;

            #[allow(non_upper_case_globals)]
            pub(super) mod at {
                use std::ffi::c_void;
                use std::sync::atomic::AtomicPtr;
                $(pub(in super::super) static $name: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());)*
            }

            $(
                /// The real function.
                /// # Safety
                /// As the C library's.
                #[inline(always)]
                pub(crate) unsafe fn $name($($arg: $ty),*) -> $ret {
                    let at = at::$name.load(std::sync::atomic::Ordering::Relaxed);
                    if at.is_null() {
                        // SAFETY: the arguments are passed on.
                        #[allow(unused_unsafe)]
                        return unsafe { $early };
                    }
                    type Function = unsafe extern "C-unwind" fn($($ty),*) -> $ret;
                    // SAFETY: dlsym gave the function of this name, which has this type.
                    let function = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Function>(at) };
                    // SAFETY: the arguments are passed on.
                    unsafe { function($($arg),*) }
                }
            )*
        }

        /// Where the real functions of this file are kept.
        pub(crate) const ENTRIES: &[crate::real::Entry] = &[$((
            match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            },
            &real::at::$name,
        )),*];
    };
}
pub(crate) use interpose;

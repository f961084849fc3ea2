//! System calls by the machine's instruction. The C library's syscall(2) does the same, but a preloaded library may
//! have replaced that function too; ours has (`ffi/preload`), and its own stack must not come back to it. Above: all of
//! this directory, and the C ABI's calls to the kernel.

use std::ffi::c_long;

/// Makes the system call `number`. As syscall(2): -1 with errno, or the result.
/// # Safety
/// As the system call with these arguments.
#[inline]
pub unsafe fn call(number: c_long, args: [c_long; 6]) -> c_long {
    // SAFETY: the caller vouches for the arguments.
    let r = unsafe { enter(number, args) };
    if (-4095..0).contains(&r) {
        // SAFETY: this thread's errno, which lives as long as the thread.
        unsafe { *libc::__errno_location() = -r as i32 };
        return -1;
    }
    r
}

/// The result as the kernel returns it: a negative one down to -4095 is an error number.
/// # Safety
/// As [`call`].
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn enter(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let r;
    // SAFETY: the instruction changes rax, rcx and r11, and what the call writes for the caller.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number => r, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
                        in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack))
    };
    r
}

/// As above.
/// # Safety
/// As [`call`].
#[cfg(target_arch = "aarch64")]
#[inline]
unsafe fn enter(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    let r;
    // SAFETY: the instruction changes x0, and what the call writes for the caller.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => r, in("x1") b, in("x2") c, in("x3") d,
                        in("x4") e, in("x5") f, options(nostack))
    };
    r
}

/// Elsewhere by the C library, so the preload shim is not for these machines.
/// # Safety
/// As [`call`].
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn enter(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: the caller vouches for the arguments.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        // SAFETY: this thread's errno.
        -1 => -c_long::from(unsafe { *libc::__errno_location() }),
        r => r,
    }
}

/// A system call with up to six arguments, numbers and pointers; as [`call`]. To be called in an `unsafe` block.
macro_rules! syscall {
    ($number:expr $(, $arg:expr)* $(,)?) => {{
        let given = [$($arg as std::ffi::c_long),*];
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(&given);
        $crate::sys::raw::call($number, args)
    }};
}
pub(crate) use syscall;

#[cfg(test)]
mod tests {
    #[test]
    fn a_call_returns_its_result_and_a_failed_one_errno() {
        // SAFETY: the first takes no argument, the second a number under which nothing is open.
        let (pid, bad) = unsafe { (syscall!(libc::SYS_getpid), syscall!(libc::SYS_close, -1)) };
        assert_eq!((pid, bad), (std::process::id().into(), -1));
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn all_six_arguments_arrive() {
        let len = 4096;
        let (prot, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping where the kernel likes.
        let at = unsafe { syscall!(libc::SYS_mmap, 0, len, prot, flags, -1, 0) };
        assert!(at > 0, "{at}");
        // SAFETY: the mapping just made, which nobody uses.
        assert_eq!(unsafe { syscall!(libc::SYS_munmap, at, len) }, 0);
    }
}

//! The names of what variadic.c defines. Only Rust's functions are exported from this library, and stable Rust defines
//! none with `...`: each jumps to its definition, with all registers and the stack as they are.

use std::arch::naked_asm;

macro_rules! jump {
    ($($(#[$doc:meta])* $name:ident => $to:ident;)*) => {
        $(
            unsafe extern "C" {
                fn $to();
            }

            $(#[$doc])*
            /// # Safety
            /// As the C library's.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            pub unsafe extern "C-unwind" fn $name() {
                #[cfg(target_arch = "x86_64")]
                naked_asm!("jmp {to}", to = sym $to);
                #[cfg(target_arch = "aarch64")]
                naked_asm!("b {to}", to = sym $to);
            }
        )*
    };
}

jump! {
    /// execl(3).
    execl => usersock_preload_execl;
    /// execlp(3).
    execlp => usersock_preload_execlp;
    /// execle(3).
    execle => usersock_preload_execle;
    /// dprintf(3).
    dprintf => usersock_preload_dprintf;
    /// vdprintf(3).
    vdprintf => usersock_preload_vdprintf;
    /// dprintf(3) of programs built with _FORTIFY_SOURCE.
    __dprintf_chk => usersock_preload_dprintf_chk;
    /// vdprintf(3) of programs built with _FORTIFY_SOURCE.
    __vdprintf_chk => usersock_preload_vdprintf_chk;
}

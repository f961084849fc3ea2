//! What a thread of ours asks of the kernel for itself.

/// Blocks all signals in this thread: they belong to the program's own threads, and a background thread of a library must
/// not run their handlers. Synchronous ones (SIGSEGV and its kin) are delivered all the same.
pub fn block_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset writes the whole set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is initialised by the line above; a null old set is allowed.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
}

/* The address sanitizer's options for programs whose environment lacks them: a login shell that sshd started has the
 * shim, but not ASAN_OPTIONS, and would end with another status for what it leaves allocated. Linked into the
 * sanitizer's run-time library; play.rs has the same in the environment. Above: `cargo xtask programs --sanitizer
 * address`. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0:alloc_dealloc_mismatch=0:exitcode=99:log_path=/run/report";
}

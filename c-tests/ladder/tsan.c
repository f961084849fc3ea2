/* The thread sanitizer's options for programs whose environment lacks them: nginx starts its new binary, and sshd a
 * login shell, with the shim, but without TSAN_OPTIONS. Loaded before the sanitizer's run-time library; play.rs has the
 * same in the environment. Above: `cargo xtask programs --sanitizer thread`. */
const char *__tsan_default_options(void)
{
    return "exitcode=99:ignore_noninstrumented_modules=1:log_path=/run/report:handle_segv=0:handle_sigbus=0:"
           "handle_abort=0:handle_sigill=0:handle_sigfpe=0";
}

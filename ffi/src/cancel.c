/* A system call that pthread_cancel(3) ends, and that returns all the same: what it was cancelled in is Rust, which no
 * cancellation may unwind. The thread is unwound from the system call to this function and no further; who called it
 * gives back what it holds and ends the thread with pthread_exit(3). Above: cancel.rs.
 *
 * glibc's own pthread_cleanup_push(3), written for C without exceptions, calls the three functions below; here the
 * clean-up is to return. */

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

/* With room for the registers alone, not for a signal mask. */
extern int registers_saved(void *env, int savemask) __asm__("__sigsetjmp") __attribute__((returns_twice, nothrow));
extern void __pthread_register_cancel(__pthread_unwind_buf_t *buf) __attribute__((nothrow));
extern void __pthread_unregister_cancel(__pthread_unwind_buf_t *buf) __attribute__((nothrow));

/* syscall(2), which a preloaded library may have replaced. */
static long enter_kernel(long number, const long *args)
{
#if !defined __x86_64__ && !defined __aarch64__
    return syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
#else
#if defined __x86_64__
    register long d __asm__("r10") = args[3], e __asm__("r8") = args[4], f __asm__("r9") = args[5];
    long r;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(args[0]), "S"(args[1]), "d"(args[2]), "r"(d), "r"(e), "r"(f)
                     : "rcx", "r11", "memory");
#else
    register long n __asm__("x8") = number, r __asm__("x0") = args[0], b __asm__("x1") = args[1];
    register long c __asm__("x2") = args[2], d __asm__("x3") = args[3], e __asm__("x4") = args[4];
    register long f __asm__("x5") = args[5];
    __asm__ volatile("svc 0" : "+r"(r) : "r"(n), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f) : "memory");
#endif
    if (r < 0 && r >= -4095) {
        errno = (int)-r;
        return -1;
    }
    return r;
#endif
}

long usersock_cancellable_call(long number, const long *args, int *cancelled)
{
    __pthread_unwind_buf_t buf;
    int type;
    if (registers_saved(buf.__cancel_jmp_buf, 0)) {
        __pthread_unregister_cancel(&buf);
        pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
        *cancelled = 1;
        return -1;
    }
    __pthread_register_cancel(&buf);
    /* Acts at once on a cancellation that came before. */
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
    long r = enter_kernel(number, args);
    int error = errno;
    pthread_setcanceltype(type, &type);
    __pthread_unregister_cancel(&buf);
    errno = error;
    return r;
}

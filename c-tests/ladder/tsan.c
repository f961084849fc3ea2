/* What the thread sanitizer is told of programs that were not built for it. Loaded before its run-time library; play.rs
 * has the options in the environment too. Above: `cargo xtask programs --sanitizer thread`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

/* For programs whose environment lacks them: nginx starts its new binary, and sshd a login shell, with the shim, but
 * without TSAN_OPTIONS. */
const char *__tsan_default_options(void)
{
    return "exitcode=99:ignore_noninstrumented_modules=1:log_path=/run/report:handle_segv=0:handle_sigbus=0:"
           "handle_abort=0:handle_sigill=0:handle_sigfpe=0";
}

/* A number that accept returns was closed before: the kernel orders the two, of which the sanitizer knows nothing.
 * memcached keeps a struct for each number; one thread closes it, and another that gets the number next asks
 * getpeername, which has the kernel's part here in code that is looked at, to write into it. */
void __tsan_acquire(void *at);
void __tsan_release(void *at);

enum { NUMBERS = 1 << 16 };
static char closed[NUMBERS];

static int (*next_close)(int);
static int (*next_accept)(int, struct sockaddr *, socklen_t *);
static int (*next_accept4)(int, struct sockaddr *, socklen_t *, int);

/* Once: a child of fork must not wait for the loader's lock. */
__attribute__((constructor)) static void find(void)
{
    *(void **)&next_close = dlsym(RTLD_NEXT, "close");
    *(void **)&next_accept = dlsym(RTLD_NEXT, "accept");
    *(void **)&next_accept4 = dlsym(RTLD_NEXT, "accept4");
}

int close(int fd)
{
    if (!next_close)
        find();
    if (fd >= 0 && fd < NUMBERS)
        __tsan_release(&closed[fd]);
    return next_close(fd);
}

static int accepted(int fd)
{
    if (fd >= 0 && fd < NUMBERS)
        __tsan_acquire(&closed[fd]);
    return fd;
}

int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    if (!next_accept)
        find();
    return accepted(next_accept(fd, addr, len));
}

int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    if (!next_accept4)
        find();
    return accepted(next_accept4(fd, addr, len, flags));
}

/* Functions that end with `...` and with a va_list: they collect their arguments and call their siblings, which are
 * this library's again. Rust exports them under their names (variadic.rs). */

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern int __vasprintf_chk(char **text, int flag, const char *format, va_list args);

enum how { BY_PATH, BY_PATH_WITH_ENV, BY_NAME };

/* The arguments after the first become an argv on the stack, as exec's callers may be children of vfork(2). */
static int exec_list(enum how how, const char *file, const char *first, va_list args)
{
    va_list again;
    size_t n = 1;
    va_copy(again, args);
    while (n < 1u << 20 && va_arg(again, const char *))
        n++;
    va_end(again);
    if (!first)
        n = 0;
    char *argv[n + 1];
    argv[0] = (char *)first;
    for (size_t i = 1; i <= n; i++)
        argv[i] = va_arg(args, char *);
    if (how == BY_PATH_WITH_ENV)
        return execve(file, argv, va_arg(args, char **));
    return how == BY_NAME ? execvp(file, argv) : execv(file, argv);
}

#define EXEC(name, how)                                                                                                \
    int usersock_preload_##name(const char *file, const char *first, ...)                                              \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, first);                                                                                         \
        int r = exec_list(how, file, first, args);                                                                     \
        va_end(args);                                                                                                  \
        return r;                                                                                                      \
    }
EXEC(execl, BY_PATH)
EXEC(execlp, BY_NAME)
EXEC(execle, BY_PATH_WITH_ENV)

/* Writes a text that was just made, of `len` bytes or -1. */
static int put(int fd, char *text, int len)
{
    if (len < 0)
        return -1;
    int done = 0;
    while (done < len) {
        ssize_t n = write(fd, text + done, (size_t)(len - done));
        if (n == -1 && errno != EINTR)
            break;
        done += n > 0 ? (int)n : 0;
    }
    int error = errno;
    free(text);
    errno = error;
    return done == len ? len : -1;
}

int usersock_preload_vdprintf(int fd, const char *format, va_list args)
{
    char *text;
    int len = vasprintf(&text, format, args);
    return put(fd, text, len);
}

int usersock_preload_vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
    char *text;
    int len = __vasprintf_chk(&text, flag, format, args);
    return put(fd, text, len);
}

int usersock_preload_dprintf(int fd, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = usersock_preload_vdprintf(fd, format, args);
    va_end(args);
    return r;
}

int usersock_preload_dprintf_chk(int fd, int flag, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int r = usersock_preload_vdprintf_chk(fd, flag, format, args);
    va_end(args);
    return r;
}

/* usersock/posix.h: a program's socket calls are usersock's. MIT OR Apache-2.0.
 *
 * Included last, after all other headers, in each file that is to use usersock: bind, read, poll, close and the others
 * below, called or taken the address of after this line, are usk_bind, usk_read ... Names stay as they are: a member
 * called `read`, a variable called `send` and a designated initialiser are the program's own, since nothing here is a
 * macro of that name. Calls in inline functions of headers before it are not redirected.
 *
 * Sources that are not to be changed are built with -include usersock/posix.h. It comes before all other headers there,
 * so that feature macros of the sources (_GNU_SOURCE, _FILE_OFFSET_BITS) are for the command line too.
 *
 * Functions are declared again under the symbol of ours, as the C library does it (__REDIRECT). Two kinds cannot be:
 * with _FORTIFY_SOURCE some are inline functions in the C library's headers, and with _FILE_OFFSET_BITS=64 some have
 * another symbol already. They are replaced by a definition that calls ours, one in the program, which its shared
 * libraries do not see.
 *
 * For glibc and GCC or Clang; Clang without _FORTIFY_SOURCE, since it does not give a function another symbol once it
 * has an inline definition. usk_socket decides what is ours by the family: AF_INET and AF_INET6 are, all else, files
 * and pipes are the kernel's. getaddrinfo and other functions of the C library that make sockets inside use the
 * kernel's. */
#ifndef USERSOCK_POSIX_H
#define USERSOCK_POSIX_H

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../usersock.h"

#ifndef __GLIBC__
#error "usersock/posix.h is for glibc: call the usk_ functions of usersock.h"
#endif

/* Clang would call the kernel's functions, with a warning at most. */
#if defined __clang__ && defined __USE_FORTIFY_LEVEL && __USE_FORTIFY_LEVEL > 0 && defined __fortify_function
#error "usersock/posix.h and Clang: build with -U_FORTIFY_SOURCE"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"

/* A redirected function, and one that the C library says throws nothing: C++ wants that repeated. */
#define USK_REDIRECT_(ret, name, args) extern ret name args __asm__("usk_" #name)
#ifdef __cplusplus
#define USK_REDIRECT_NTH_(ret, name, args) extern ret name args __THROW __asm__("usk_" #name)
#define USK_THROW_ __THROW
#else
#define USK_REDIRECT_NTH_(ret, name, args) USK_REDIRECT_(ret, name, args)
#define USK_THROW_
#endif

/* A definition in place of an inline one, and in place of a symbol that has been given already. The same in each file
 * of the program: the linker keeps one. */
#define USK_LOCAL_ __attribute__((__weak__, __visibility__("hidden")))
#define USK_INLINED_(ret, name, args)                                                                                  \
    extern ret name args __asm__("usk_posix_" #name);                                                                  \
    USK_LOCAL_ ret name args
#define USK_REPLACE_(ret, name, args) USK_LOCAL_ ret name args
#define USK_REPLACE_NTH_(ret, name, args) USK_LOCAL_ ret name args USK_THROW_

/* In C the C library's socket addresses are unions of pointers to all of them. */
#if defined __USE_GNU && !defined __cplusplus
#define USK_SOCKADDR_(addr) (addr).__sockaddr__
#else
#define USK_SOCKADDR_(addr) (addr)
#endif

USK_REDIRECT_NTH_(int, socket, (int domain, int type, int protocol));
USK_REDIRECT_NTH_(int, bind, (int fd, __CONST_SOCKADDR_ARG addr, socklen_t len));
USK_REDIRECT_NTH_(int, listen, (int fd, int backlog));
USK_REDIRECT_NTH_(int, shutdown, (int fd, int how));
USK_REDIRECT_NTH_(int, getsockname, (int fd, __SOCKADDR_ARG addr, socklen_t *len));
USK_REDIRECT_NTH_(int, getpeername, (int fd, __SOCKADDR_ARG addr, socklen_t *len));
USK_REDIRECT_NTH_(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len));
USK_REDIRECT_NTH_(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len));
USK_REDIRECT_NTH_(int, dup, (int fd));
USK_REDIRECT_NTH_(int, dup2, (int fd, int to));
USK_REDIRECT_NTH_(int, epoll_create, (int size));
USK_REDIRECT_NTH_(int, epoll_create1, (int flags));
USK_REDIRECT_NTH_(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *event));
USK_REDIRECT_NTH_(int, ioctl, (int fd, unsigned long request, ...));
USK_REDIRECT_NTH_(unsigned int, if_nametoindex, (const char *name));
USK_REDIRECT_NTH_(char *, if_indextoname, (unsigned int index, char name[IF_NAMESIZE]));
USK_REDIRECT_NTH_(int, getifaddrs, (struct ifaddrs **out));
USK_REDIRECT_NTH_(void, freeifaddrs, (struct ifaddrs *list));
#if defined __USE_GNU
USK_REDIRECT_NTH_(int, dup3, (int fd, int to, int flags));
#endif
#if defined __USE_POSIX
USK_REDIRECT_NTH_(FILE *, fdopen, (int fd, const char *mode));
#endif

USK_REDIRECT_(int, accept, (int fd, __SOCKADDR_ARG addr, socklen_t *len));
USK_REDIRECT_(int, connect, (int fd, __CONST_SOCKADDR_ARG addr, socklen_t len));
USK_REDIRECT_(int, close, (int fd));
USK_REDIRECT_(ssize_t, write, (int fd, const void *buf, size_t len));
USK_REDIRECT_(ssize_t, readv, (int fd, const struct iovec *iov, int count));
USK_REDIRECT_(ssize_t, writev, (int fd, const struct iovec *iov, int count));
USK_REDIRECT_(ssize_t, send, (int fd, const void *buf, size_t len, int flags));
USK_REDIRECT_(ssize_t, sendto, (int fd, const void *buf, size_t len, int flags, __CONST_SOCKADDR_ARG addr,
              socklen_t alen));
USK_REDIRECT_(ssize_t, sendmsg, (int fd, const struct msghdr *hdr, int flags));
USK_REDIRECT_(ssize_t, recvmsg, (int fd, struct msghdr *hdr, int flags));
USK_REDIRECT_(int, select, (int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout));
USK_REDIRECT_(int, epoll_wait, (int set, struct epoll_event *events, int max, int timeout));
USK_REDIRECT_(int, epoll_pwait, (int set, struct epoll_event *events, int max, int timeout, const sigset_t *mask));
#if __GLIBC_PREREQ(2, 35)
USK_REDIRECT_(int, epoll_pwait2, (int set, struct epoll_event *events, int max, const struct timespec *timeout,
              const sigset_t *mask));
#endif
#if defined __USE_GNU
USK_REDIRECT_(int, accept4, (int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags));
USK_REDIRECT_(int, sendmmsg, (int fd, struct mmsghdr *vec, unsigned int count, int flags));
USK_REDIRECT_(int, recvmmsg, (int fd, struct mmsghdr *vec, unsigned int count, int flags, struct timespec *timeout));
USK_REDIRECT_(ssize_t, splice, (int from, off64_t *off_in, int to, off64_t *off_out, size_t len, unsigned int flags));
#endif
#if defined __USE_XOPEN2K
USK_REDIRECT_(int, pselect, (int count, fd_set *in, fd_set *out, fd_set *except,
              const struct timespec *timeout, const sigset_t *mask));
#endif

#if defined __USE_FORTIFY_LEVEL && __USE_FORTIFY_LEVEL > 0 && defined __fortify_function
USK_INLINED_(ssize_t, read, (int fd, void *buf, size_t len))
{
    return usk_read(fd, buf, len);
}
USK_INLINED_(ssize_t, recv, (int fd, void *buf, size_t len, int flags))
{
    return usk_recv(fd, buf, len, flags);
}
USK_INLINED_(ssize_t, recvfrom, (int fd, void *buf, size_t len, int flags, __SOCKADDR_ARG addr, socklen_t *alen))
{
    return usk_recvfrom(fd, buf, len, flags, USK_SOCKADDR_(addr), alen);
}
USK_INLINED_(int, poll, (struct pollfd *fds, nfds_t count, int timeout))
{
    return usk_poll(fds, count, timeout);
}
#if defined __USE_GNU
USK_INLINED_(int, ppoll, (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask))
{
    return usk_ppoll(fds, count, timeout, mask);
}
#endif
#else
USK_REDIRECT_(ssize_t, read, (int fd, void *buf, size_t len));
USK_REDIRECT_(ssize_t, recv, (int fd, void *buf, size_t len, int flags));
USK_REDIRECT_(ssize_t, recvfrom, (int fd, void *buf, size_t len, int flags, __SOCKADDR_ARG addr, socklen_t *alen));
USK_REDIRECT_(int, poll, (struct pollfd *fds, nfds_t count, int timeout));
#if defined __USE_GNU
USK_REDIRECT_(int, ppoll, (struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask));
#endif
#endif

#ifdef __USE_FILE_OFFSET64
USK_REPLACE_(int, fcntl, (int fd, int cmd, ...))
{
    va_list args;
    va_start(args, cmd);
    long arg = va_arg(args, long);
    va_end(args);
    return usk_fcntl(fd, cmd, arg);
}
USK_REPLACE_NTH_(ssize_t, sendfile, (int out, int in, off_t *offset, size_t len))
{
    return usk_sendfile(out, in, offset, len);
}
#if defined __USE_GNU
USK_REPLACE_(ssize_t, preadv2, (int fd, const struct iovec *iov, int count, off_t offset, int flags))
{
    return usk_preadv2(fd, iov, count, offset, flags);
}
USK_REPLACE_(ssize_t, pwritev2, (int fd, const struct iovec *iov, int count, off_t offset, int flags))
{
    return usk_pwritev2(fd, iov, count, offset, flags);
}
#endif
#if defined __USE_MISC
USK_REPLACE_(ssize_t, preadv, (int fd, const struct iovec *iov, int count, off_t offset))
{
    return usk_preadv(fd, iov, count, offset);
}
USK_REPLACE_(ssize_t, pwritev, (int fd, const struct iovec *iov, int count, off_t offset))
{
    return usk_pwritev(fd, iov, count, offset);
}
#endif
#if defined __USE_UNIX98 || defined __USE_XOPEN2K8
USK_REPLACE_(ssize_t, pread, (int fd, void *buf, size_t len, off_t offset))
{
    return usk_pread(fd, buf, len, offset);
}
USK_REPLACE_(ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t offset))
{
    return usk_pwrite(fd, buf, len, offset);
}
#endif
#else
USK_REDIRECT_(int, fcntl, (int fd, int cmd, ...));
USK_REDIRECT_NTH_(ssize_t, sendfile, (int out, int in, off_t *offset, size_t len));
#if defined __USE_GNU
USK_REDIRECT_(ssize_t, preadv2, (int fd, const struct iovec *iov, int count, off_t offset, int flags));
USK_REDIRECT_(ssize_t, pwritev2, (int fd, const struct iovec *iov, int count, off_t offset, int flags));
#endif
#if defined __USE_MISC
USK_REDIRECT_(ssize_t, preadv, (int fd, const struct iovec *iov, int count, off_t offset));
USK_REDIRECT_(ssize_t, pwritev, (int fd, const struct iovec *iov, int count, off_t offset));
#endif
#if defined __USE_UNIX98 || defined __USE_XOPEN2K8
USK_REDIRECT_(ssize_t, pread, (int fd, void *buf, size_t len, off_t offset));
USK_REDIRECT_(ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t offset));
#endif
#endif

#undef USK_REDIRECT_
#undef USK_REDIRECT_NTH_
#undef USK_THROW_
#undef USK_LOCAL_
#undef USK_INLINED_
#undef USK_REPLACE_
#undef USK_REPLACE_NTH_
#undef USK_SOCKADDR_

#pragma GCC diagnostic pop

#ifdef __cplusplus
}
#endif
#endif

/* The oracle's half of common.h: each usk_x is the kernel's x by a raw system call. */
#ifndef USERSOCK_CASES_KERNEL_H
#define USERSOCK_CASES_KERNEL_H
#include <ifaddrs.h>
#include <sys/syscall.h>

#define KERNEL_FN static __attribute__((unused)) inline

KERNEL_FN int usk_init(const char *config)
{
    (void)config;
    return 0;
}

KERNEL_FN int usk_socket(int family, int type, int protocol)
{
    return (int)syscall(SYS_socket, family, type, protocol);
}

KERNEL_FN int usk_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
    return (int)syscall(SYS_bind, fd, addr, len);
}

KERNEL_FN int usk_listen(int fd, int backlog)
{
    return (int)syscall(SYS_listen, fd, backlog);
}

KERNEL_FN int usk_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
    return (int)syscall(SYS_accept4, fd, addr, len, flags);
}

KERNEL_FN int usk_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
    return (int)syscall(SYS_accept4, fd, addr, len, 0);
}

KERNEL_FN int usk_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    return (int)syscall(SYS_connect, fd, addr, len);
}

KERNEL_FN int usk_shutdown(int fd, int how)
{
    return (int)syscall(SYS_shutdown, fd, how);
}

KERNEL_FN int usk_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

KERNEL_FN ssize_t usk_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t len)
{
    return syscall(SYS_sendto, fd, buf, n, flags, to, len);
}

KERNEL_FN ssize_t usk_send(int fd, const void *buf, size_t n, int flags)
{
    return syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
}

KERNEL_FN ssize_t usk_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return syscall(SYS_sendmsg, fd, msg, flags);
}

KERNEL_FN int usk_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
    return (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
}

KERNEL_FN ssize_t usk_write(int fd, const void *buf, size_t n)
{
    return syscall(SYS_write, fd, buf, n);
}

KERNEL_FN ssize_t usk_writev(int fd, const struct iovec *iov, int n)
{
    return syscall(SYS_writev, fd, iov, n);
}

KERNEL_FN ssize_t usk_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from, socklen_t *len)
{
    return syscall(SYS_recvfrom, fd, buf, n, flags, from, len);
}

KERNEL_FN ssize_t usk_recv(int fd, void *buf, size_t n, int flags)
{
    return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

KERNEL_FN ssize_t usk_recvmsg(int fd, struct msghdr *msg, int flags)
{
    return syscall(SYS_recvmsg, fd, msg, flags);
}

KERNEL_FN int usk_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout)
{
    return (int)syscall(SYS_recvmmsg, fd, msgs, n, flags, timeout);
}

KERNEL_FN ssize_t usk_read(int fd, void *buf, size_t n)
{
    return syscall(SYS_read, fd, buf, n);
}

KERNEL_FN ssize_t usk_readv(int fd, const struct iovec *iov, int n)
{
    return syscall(SYS_readv, fd, iov, n);
}

KERNEL_FN int usk_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

KERNEL_FN int usk_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

KERNEL_FN int usk_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
    return (int)syscall(SYS_getsockname, fd, addr, len);
}

KERNEL_FN int usk_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
    return (int)syscall(SYS_getpeername, fd, addr, len);
}

KERNEL_FN int usk_fcntl(int fd, int cmd, long arg)
{
    /* A small process group, which is a negative answer, looks like an error to syscall(2). */
    if (cmd == F_GETOWN)
        return fcntl(fd, cmd);
    return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

KERNEL_FN int usk_ioctl(int fd, unsigned long req, void *arg)
{
    return (int)syscall(SYS_ioctl, fd, req, arg);
}

KERNEL_FN int usk_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    struct timespec left;
    if (timeout)
        left = *timeout; /* the system call writes what is left; libc's function does not */
    return (int)syscall(SYS_ppoll, fds, n, timeout ? &left : NULL, mask, (size_t)8);
}

KERNEL_FN int usk_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct timespec t = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    return usk_ppoll(fds, n, timeout_ms < 0 ? NULL : &t, NULL);
}

KERNEL_FN int usk_select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *timeout)
{
    struct timespec t = {0, 0};
    if (timeout) {
        if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
            errno = EINVAL;
            return -1;
        }
        t.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
        t.tv_nsec = (timeout->tv_usec % 1000000) * 1000;
    }
    return (int)syscall(SYS_pselect6, n, r, w, e, timeout ? &t : NULL, NULL);
}

KERNEL_FN int usk_epoll_create1(int flags)
{
    return (int)syscall(SYS_epoll_create1, flags);
}

KERNEL_FN int usk_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

KERNEL_FN int usk_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    return (int)syscall(SYS_epoll_pwait, epfd, events, max, timeout_ms, NULL, (size_t)8);
}

KERNEL_FN int usk_pselect(int n, fd_set *in, fd_set *out, fd_set *ex, const struct timespec *timeout,
                          const sigset_t *mask)
{
    struct timespec copy = timeout ? *timeout : (struct timespec){0};
    struct {
        const sigset_t *mask;
        size_t size;
    } with = {mask, 8};
    return (int)syscall(SYS_pselect6, n, in, out, ex, timeout ? &copy : NULL, &with);
}

KERNEL_FN int usk_epoll_create(int size)
{
    if (size <= 0) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_epoll_create1, 0);
}

KERNEL_FN int usk_epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
                               const sigset_t *mask)
{
    return (int)syscall(SYS_epoll_pwait2, epfd, events, max, timeout, mask, (size_t)8);
}

KERNEL_FN int usk_dup(int fd)
{
    return (int)syscall(SYS_dup, fd);
}

KERNEL_FN int usk_dup2(int fd, int to)
{
    return fd == to ? (syscall(SYS_fcntl, fd, F_GETFD, 0) < 0 ? -1 : to) : (int)syscall(SYS_dup3, fd, to, 0);
}

KERNEL_FN int usk_dup3(int fd, int to, int flags)
{
    return (int)syscall(SYS_dup3, fd, to, flags);
}

KERNEL_FN ssize_t usk_sendfile(int out, int in, off_t *offset, size_t n)
{
    return syscall(SYS_sendfile, out, in, offset, n);
}

KERNEL_FN ssize_t usk_splice(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned int flags)
{
    return syscall(SYS_splice, in, in_off, out, out_off, n, flags);
}

KERNEL_FN ssize_t usk_pread(int fd, void *buf, size_t n, off_t offset)
{
    return syscall(SYS_pread64, fd, buf, n, offset);
}

KERNEL_FN ssize_t usk_pwrite(int fd, const void *buf, size_t n, off_t offset)
{
    return syscall(SYS_pwrite64, fd, buf, n, offset);
}

KERNEL_FN ssize_t usk_preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
    return syscall(SYS_preadv, fd, iov, n, offset, 0L);
}

KERNEL_FN ssize_t usk_pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
    return syscall(SYS_pwritev, fd, iov, n, offset, 0L);
}

KERNEL_FN ssize_t usk_preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return syscall(SYS_preadv2, fd, iov, n, offset, 0L, flags);
}

KERNEL_FN ssize_t usk_pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return syscall(SYS_pwritev2, fd, iov, n, offset, 0L, flags);
}

/* These are the C library's own. */
#define usk_fdopen fdopen
#define usk_if_nametoindex if_nametoindex
#define usk_if_indextoname if_indextoname
#define usk_getifaddrs getifaddrs
#define usk_freeifaddrs freeifaddrs
#endif

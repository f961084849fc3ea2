/* The sides: libc's calls in a network namespace a sequence, usersock's on a stack a sequence (network.c of each half
 * makes them), libc's calls in a program of a stack server (served.c). */
#define _GNU_SOURCE
#include "sys.h"
#include "driver.h"
#include "served.h"
#include "usersock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

/* glibc declares names as unions that no function pointer of a table matches. */
static int kernel_bind(int fd, const struct sockaddr *a, socklen_t n)
{
    return bind(fd, a, n);
}

static int kernel_connect(int fd, const struct sockaddr *a, socklen_t n)
{
    return connect(fd, a, n);
}

static int kernel_accept4(int fd, struct sockaddr *a, socklen_t *n, int flags)
{
    return accept4(fd, a, n, flags);
}

static ssize_t kernel_sendto(int fd, const void *b, size_t n, int flags, const struct sockaddr *a, socklen_t len)
{
    return sendto(fd, b, n, flags, a, len);
}

static ssize_t kernel_recvfrom(int fd, void *b, size_t n, int flags, struct sockaddr *a, socklen_t *len)
{
    return recvfrom(fd, b, n, flags, a, len);
}

static int kernel_getsockname(int fd, struct sockaddr *a, socklen_t *n)
{
    return getsockname(fd, a, n);
}

static int kernel_getpeername(int fd, struct sockaddr *a, socklen_t *n)
{
    return getpeername(fd, a, n);
}

static const struct sys kernel = {
    .socket = socket,
    .bind = kernel_bind,
    .connect = kernel_connect,
    .listen = listen,
    .accept4 = kernel_accept4,
    .shutdown = shutdown,
    .close = close,
    .dup = dup,
    .dup2 = dup2,
    .dup3 = dup3,
    .send = send,
    .sendto = kernel_sendto,
    .write = write,
    .writev = writev,
    .sendmsg = sendmsg,
    .sendmmsg = sendmmsg,
    .recv = recv,
    .read = read,
    .readv = readv,
    .recvfrom = kernel_recvfrom,
    .recvmsg = recvmsg,
    .recvmmsg = recvmmsg,
    .getsockname = kernel_getsockname,
    .getpeername = kernel_getpeername,
    .setsockopt = setsockopt,
    .getsockopt = getsockopt,
    .fcntl = fcntl,
    .ioctl = ioctl,
    .poll = poll,
    .epoll_create1 = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .epoll_wait = epoll_wait,
    .select = select,
    .pselect = pselect,
    .sendfile = sendfile,
    .splice = splice,
};

struct usk_stack_t *stack;

static int usersock_socket(int domain, int type, int protocol)
{
    return usk_socket_on(stack, domain, type, protocol);
}

static const struct sys usersock = {
    .socket = usersock_socket,
    .bind = usk_bind,
    .connect = usk_connect,
    .listen = usk_listen,
    .accept4 = usk_accept4,
    .shutdown = usk_shutdown,
    .close = usk_close,
    .dup = usk_dup,
    .dup2 = usk_dup2,
    .dup3 = usk_dup3,
    .send = usk_send,
    .sendto = usk_sendto,
    .write = usk_write,
    .writev = usk_writev,
    .sendmsg = usk_sendmsg,
    .sendmmsg = usk_sendmmsg,
    .recv = usk_recv,
    .read = usk_read,
    .readv = usk_readv,
    .recvfrom = usk_recvfrom,
    .recvmsg = usk_recvmsg,
    .recvmmsg = usk_recvmmsg,
    .getsockname = usk_getsockname,
    .getpeername = usk_getpeername,
    .setsockopt = usk_setsockopt,
    .getsockopt = usk_getsockopt,
    .fcntl = usk_fcntl,
    .ioctl = usk_ioctl,
    .poll = usk_poll,
    .epoll_create1 = usk_epoll_create1,
    .epoll_ctl = usk_epoll_ctl,
    .epoll_wait = usk_epoll_wait,
    .select = usk_select,
    .pselect = usk_pselect,
    .sendfile = usk_sendfile,
    .splice = usk_splice,
};

const struct sys *sys = &kernel;

bool on_usersock(void)
{
    return sys == &usersock;
}

static enum { KERNEL, USERSOCK, SERVER, SERVED, NO_SIDE } side;

bool starts_programs(void)
{
    return side == SERVER;
}

bool is_served(void)
{
    return side == SERVED;
}

bool choose_side(const char *name)
{
    static const char *const sides[NO_SIDE] = {"kernel", "usersock", "server", "served"};
    for (side = KERNEL; side < NO_SIDE && strcmp(name, sides[side]) != 0;)
        side++;
    sys = side == USERSOCK ? &usersock : &kernel;
    return side < NO_SIDE;
}

void give_up(const char *what)
{
    perror(what);
    exit(3);
}

void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        give_up(path);
    close(fd);
}

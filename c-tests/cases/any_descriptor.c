/* Descriptors of the kernel's through every call: sockets of other families, pipes and files are passed on, with the
 * kernel's own results; and a number has one owner at every moment. */
#include "common.h"

/* The result of sending one byte, with a descriptor (SCM_RIGHTS) or without. */
static long send_with(int to, int passed)
{
    struct iovec iov = {.iov_base = "r", .iov_len = 1};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (passed >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed, sizeof passed);
    }
    return usk_sendmsg(to, &m, 0);
}

static void unix_pair(void)
{
    int fd[2];
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd));
    char buf[8];
    EQ(usk_send(fd[0], "one", 3, 0), 3);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 3);
    EQ(usk_sendto(fd[0], "two", 3, 0, NULL, 0), 3);
    EQ(usk_recvfrom(fd[1], buf, sizeof buf, MSG_DONTWAIT, NULL, NULL), 3);
    struct iovec iov = {.iov_base = buf, .iov_len = sizeof buf};
    EQ(usk_writev(fd[0], &(struct iovec){.iov_base = "three", .iov_len = 5}, 1), 5);
    EQ(usk_readv(fd[1], &iov, 1), 5);
    EQ(send_with(fd[0], fd[1]), 1);
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    EQ(usk_recvmsg(fd[1], &m, 0), 1);
    int passed;
    CHECK(CMSG_FIRSTHDR(&m) != NULL);
    memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof passed);
    OK(usk_close(passed));
    struct mmsghdr v = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    iov.iov_len = 1;
    EQ(usk_sendmmsg(fd[0], &v, 1, 0), 1);
    EQ(usk_recvmmsg(fd[1], &v, 1, 0, NULL), 1);
    EQ(get_int(fd[0], SOL_SOCKET, SO_DOMAIN), AF_UNIX);
    EQ(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 10000), 0);
    ERR(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1), EOPNOTSUPP);
    struct addr name = {.len = sizeof name.storage};
    EQ(usk_getsockname(fd[0], &name.sa, &name.len), 0);
    EQ(name.sa.sa_family, AF_UNIX);
    EQ(usk_getpeername(fd[0], &name.sa, &name.len), 0);
    ERR(usk_listen(fd[0], 1), EINVAL);
    EQ(usk_fcntl(fd[0], F_SETOWN, -getpgrp()), 0);
    EQ(usk_fcntl(fd[0], F_GETOWN, 0), -getpgrp());
    EQ(usk_shutdown(fd[0], SHUT_WR), 0);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 0);
    close_pair(fd);
}

/* socket, bind, listen, connect, accept of another family: an abstract name, which is gone with its socket. */
static void unix_connection(void)
{
    int l = (int)OK(usk_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr family = {.sa_family = AF_UNIX};
    OK(usk_bind(l, &family, sizeof family.sa_family));
    OK(usk_listen(l, 1));
    struct addr name = {.len = sizeof name.storage};
    OK(usk_getsockname(l, &name.sa, &name.len));
    int c = (int)OK(usk_socket(AF_UNIX, SOCK_STREAM, 0));
    OK(usk_connect(c, &name.sa, name.len));
    int a = (int)OK(usk_accept4(l, NULL, NULL, SOCK_NONBLOCK));
    char byte;
    ERR(usk_recv(a, &byte, 1, 0), EAGAIN);
    EQ(usk_send(c, "x", 1, 0), 1);
    struct pollfd p = {.fd = a, .events = POLLIN};
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(usk_recv(a, &byte, 1, 0), 1);
    OK(usk_close(a));
    OK(usk_close(c));
    OK(usk_close(l));
    ERR(usk_socket(AF_UNIX, 77, 0), EINVAL);
    ERR(usk_socket(12345, SOCK_STREAM, 0), EAFNOSUPPORT);
    ERR(usk_socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
    ERR(usk_socket(AF_UNIX, SOCK_STREAM, 200), EPROTONOSUPPORT);
}

/* No socket, or nothing at all. */
static void not_sockets(void)
{
    int p[2];
    OK(pipe(p));
    int gone = (int)OK(usk_dup(p[0]));
    OK(usk_close(gone));
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr v = {.msg_hdr = m};
    struct addr a = local(AF_INET);
    int value = 0;
    socklen_t len = sizeof value;
    const struct {
        int fd, error;
    } rows[] = {{p[0], ENOTSOCK}, {gone, EBADF}, {-1, EBADF}};
    for (int i = 0; i < COUNT(rows); i++) {
        int fd = rows[i].fd, e = rows[i].error;
        ERR(usk_bind(fd, &a.sa, a.len), e);
        ERR(usk_listen(fd, 1), e);
        ERR(usk_accept(fd, NULL, NULL), e);
        ERR(usk_accept4(fd, NULL, NULL, 0), e);
        ERR(usk_connect(fd, &a.sa, a.len), e);
        ERR(usk_shutdown(fd, SHUT_RD), e);
        ERR(usk_send(fd, &byte, 1, 0), e);
        ERR(usk_sendto(fd, &byte, 1, 0, &a.sa, a.len), e);
        ERR(usk_sendmsg(fd, &m, 0), e);
        ERR(usk_sendmmsg(fd, &v, 1, 0), e);
        ERR(usk_recv(fd, &byte, 1, 0), e);
        ERR(usk_recvfrom(fd, &byte, 1, 0, NULL, NULL), e);
        ERR(usk_recvmsg(fd, &m, 0), e);
        ERR(usk_recvmmsg(fd, &v, 1, 0, NULL), e);
        ERR(usk_getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len), e);
        ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value), e);
        ERR(usk_getsockname(fd, &a.sa, &a.len), e);
        ERR(usk_getpeername(fd, &a.sa, &a.len), e);
    }
    OK(usk_close(p[0]));
    OK(usk_close(p[1]));
}

/* dup2 and dup3 between a socket and a pipe, each under the other's number. */
static void numbers(void)
{
    int p[2], t[2];
    char byte;
    OK(pipe(p));
    tcp_pair(AF_INET, t);
    int n = (int)OK(usk_dup(p[1]));
    EQ(usk_dup2(t[0], n), n);
    EQ(usk_write(n, "s", 1), 1);
    EXPECT(t[1], "s");
    EQ(usk_dup2(p[1], n), n);
    EQ(usk_write(n, "p", 1), 1);
    EQ(usk_read(p[0], &byte, 1), 1);
    EQ(byte, 'p');
    EQ(usk_dup3(t[0], n, O_CLOEXEC), n);
    EQ(usk_fcntl(n, F_GETFD, 0), FD_CLOEXEC);
    EQ(usk_write(n, "t", 1), 1);
    EXPECT(t[1], "t");
    EQ(usk_dup3(p[1], n, 0), n);
    EQ(usk_fcntl(n, F_GETFD, 0), 0);
    EQ(usk_dup2(n, n), n);
    EQ(usk_dup2(t[0], t[0]), t[0]);
    ERR(usk_dup3(n, n, 0), EINVAL);
    ERR(usk_dup3(t[0], t[0], 0), EINVAL);
    ERR(usk_dup3(t[0], n, O_NONBLOCK), EINVAL);
    ERR(usk_dup2(t[0], -1), EBADF);
    ERR(usk_dup2(t[0], 1 << 30), EBADF);
    OK(usk_close(n));
    ERR(usk_dup2(n, n), EBADF);
    ERR(usk_dup2(n, t[0]), EBADF);
    ERR(usk_dup3(n, t[0], 0), EBADF);
    EQ(usk_write(t[0], "u", 1), 1);
    EXPECT(t[1], "u");
    OK(usk_close(p[0]));
    OK(usk_close(p[1]));
    close_pair(t);
}

/* Threads put a socket and a pipe under one number and close it, over and over. The final state is consistent: the
 * number refers to one file, and after close to none. */
static int shared_number, sources[2];

static void *change(void *arg)
{
    unsigned seed = *(unsigned *)arg;
    for (int i = 0; i < 3000; i++) {
        seed = seed * 1103515245 + 12345;
        switch (seed >> 16 & 3) {
        case 0: usk_dup2(sources[0], shared_number); break;
        case 1: usk_dup2(sources[1], shared_number); break;
        case 2: usk_close(shared_number); break;
        default: {
            struct pollfd p = {.fd = shared_number, .events = POLLOUT};
            usk_poll(&p, 1, 0);
        }
        }
    }
    return NULL;
}

static void one_owner(void)
{
    int p[2], t[2];
    OK(pipe(p));
    tcp_pair(AF_INET, t);
    sources[0] = t[0];
    sources[1] = p[1];
    shared_number = 200;
    unsigned seeds[3] = {1, 2, 3};
    for (int round = 0; round < 10; round++) {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++)
            threads[i] = spawn(change, &seeds[i]);
        for (int i = 0; i < 3; i++) {
            join(threads[i]);
            seeds[i] += 77;
        }
        /* The kernel and we agree on what it refers to. */
        struct stat st;
        bool open = fstat(shared_number, &st) == 0;
        EQ(usk_fcntl(shared_number, F_GETFD, 0) >= 0, open);
        EQ(usk_dup2(p[1], shared_number), shared_number);
        EQ(usk_write(shared_number, "p", 1), 1);
        char byte = 0;
        EQ(usk_read(p[0], &byte, 1), 1);
        EQ(byte, 'p');
        OK(usk_close(shared_number));
        ERR(usk_write(shared_number, "x", 1), EBADF);
        ERR(usk_send(shared_number, "x", 1, 0), EBADF);
        ERR(usk_close(shared_number), EBADF);
    }
    OK(usk_close(p[0]));
    OK(usk_close(p[1]));
    close_pair(t);
}

#ifndef UNMODIFIED
/* Calls that only usersock has. */
static void ours(void)
{
    int p[2], t[2];
    OK(pipe(p));
    tcp_pair(AF_INET6, t);
    int set = (int)OK(usk_epoll_create1(0));
    EQ(usk_is_ours(t[0]), 1);
    EQ(usk_is_ours(set), 1);
    EQ(usk_is_ours(p[0]), 0);
    EQ(usk_is_ours(-1), 0);
    int unix_fd = (int)OK(usk_socket(AF_UNIX, SOCK_DGRAM, 0));
    EQ(usk_is_ours(unix_fd), 0);
    OK(usk_close(set));
    EQ(usk_is_ours(set), 0);
    ERR(usk_destroy(p[0]), ENOTSOCK);
    ERR(usk_ulp_remove(unix_fd), ENOTSOCK);
    /* Another process would get the AF_UNIX socket that reserves the number and not ours: refused, with nothing
     * sent. */
    int u[2];
    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, u));
    ERR(send_with(u[0], t[0]), EINVAL);
    char byte;
    ERR(usk_recv(u[1], &byte, 1, MSG_DONTWAIT), EAGAIN);
    EQ(send_with(u[0], p[0]), 1);
    EQ(send_with(u[0], -1), 1);
    close_pair(u);
    OK(usk_close(unix_fd));
    OK(usk_close(p[0]));
    OK(usk_close(p[1]));
    close_pair(t);
}
#endif

int main(void)
{
    begin("any_descriptor");
    unix_pair();
    unix_connection();
    not_sockets();
    numbers();
    one_owner();
#ifndef UNMODIFIED
    ours();
#endif
    return done();
}

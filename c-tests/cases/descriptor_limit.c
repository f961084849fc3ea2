/* At the descriptor limit: every call that makes a descriptor returns EMFILE, in its order among the other errors, and
 * loses nothing; failures after a connection was dequeued. */
#include "common.h"

static struct rlimit before;

/* No number is free from now on. */
static void limit(void)
{
    int free_number = (int)OK(dup(0));
    OK(close(free_number));
    struct rlimit r = {.rlim_cur = (rlim_t)free_number, .rlim_max = before.rlim_max};
    OK(setrlimit(RLIMIT_NOFILE, &r));
}

static void unlimit(void)
{
    OK(setrlimit(RLIMIT_NOFILE, &before));
}

/* A client whose connection waits in the listener's queue, with one byte on its way. */
static int queued(struct addr to)
{
    int c = connected(SOCK_STREAM, to);
    send_all(c, "x", 1);
    return c;
}

/* accept at the limit leaves the connection in the queue. */
static void accept_keeps_the_connection(int l)
{
    int c = queued(sock_name(l));
    EQ(await(l, POLLIN), POLLIN);
    limit();
    for (int i = 0; i < 3; i++) {
        ERR(usk_accept4(l, NULL, NULL, SOCK_NONBLOCK), EMFILE);
        ERR(usk_accept(l, NULL, NULL), EMFILE);
    }
    EQ(ready(l, POLLIN), POLLIN);
    unlimit();
    struct addr from = {.len = sizeof from.storage};
    int a = (int)OK(usk_accept(l, &from.sa, &from.len));
    CHECK(same_addr(from, sock_name(c)));
    EXPECT(a, "x");
    send_all(a, "y", 1);
    EXPECT(c, "y");
    OK(usk_close(a));
    EXPECT_EOF(c);
    OK(usk_close(c));
}

/* The order: EBADF, EINVAL of the flags, EMFILE, then errors of the socket, then waiting. */
static void accept_rows(int l, int udp, int idle, int file)
{
    int closed = (int)OK(usk_dup(l));
    OK(usk_close(closed));
    limit();
    ERR(usk_accept4(closed, NULL, NULL, 1), EBADF);
    ERR(usk_accept4(-1, NULL, NULL, 1), EBADF);
    ERR(usk_accept4(l, NULL, NULL, 1), EINVAL);
    ERR(usk_accept4(file, NULL, NULL, 1), EINVAL);
    ERR(usk_accept(file, NULL, NULL), EMFILE);
    ERR(usk_accept(idle, NULL, NULL), EMFILE);
    ERR(usk_accept(udp, NULL, NULL), EMFILE);
    /* An empty queue, blocking and not: the call does not wait. */
    ERR(usk_accept(l, NULL, NULL), EMFILE);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EMFILE);
    unlimit();
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    ERR(usk_accept(file, NULL, NULL), ENOTSOCK);
    ERR(usk_accept(idle, NULL, NULL), EINVAL);
    ERR(usk_accept(udp, NULL, NULL), EOPNOTSUPP);
    set_nonblock(l, false);
}

/* socket, dup, dup2, fcntl, epoll_create1. */
static void other_rows(int l, int udp, int ep)
{
    int free_number = (int)OK(usk_dup(l));
    OK(usk_close(free_number));
    limit();
    for (int i = 0; i < 100; i++) {
        ERR(usk_socket(AF_INET, SOCK_STREAM, 0), EMFILE);
        ERR(usk_socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), EMFILE);
        ERR(usk_epoll_create1(0), EMFILE);
        ERR(usk_epoll_create1(EPOLL_CLOEXEC), EMFILE);
        ERR(usk_dup(l), EMFILE);
        ERR(usk_dup(ep), EMFILE);
        ERR(usk_fcntl(l, F_DUPFD, 0), EMFILE);
        ERR(usk_fcntl(ep, F_DUPFD_CLOEXEC, 0), EMFILE);
    }
    ERR(usk_socket(99, SOCK_STREAM, 0), EAFNOSUPPORT);
    ERR(usk_socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
    ERR(usk_socket(AF_INET, SOCK_STREAM | 0x40000000, 0), EINVAL);
    ERR(usk_epoll_create1(1), EINVAL);
    ERR(usk_dup(free_number), EBADF);
    ERR(usk_fcntl(l, F_DUPFD, 100000000), EINVAL);
    ERR(usk_fcntl(l, F_DUPFD, -1), EINVAL);
    ERR(usk_dup2(l, free_number), EBADF);
    ERR(usk_dup2(l, -1), EBADF);
    ERR(usk_dup2(free_number, l), EBADF);
    /* dup2 to an open number works at the limit. */
    EQ(usk_dup2(l, l), l);
    EQ(usk_dup2(l, udp), udp);
    EQ(get_int(udp, SOL_SOCKET, SO_ACCEPTCONN), 1);
    /* A closed number can be used again. */
    OK(usk_close(udp));
    EQ(usk_socket(AF_INET, SOCK_DGRAM, 0), udp);
    EQ(get_int(udp, SOL_SOCKET, SO_ACCEPTCONN), 0);
    unlimit();
    EQ(usk_dup(l), free_number);
    OK(usk_close(free_number));
}

/* A bad pointer for the peer's address: EFAULT, the connection was dequeued and ends, and no number is lost. */
static void bad_address(int l)
{
    struct sockaddr_in place;
    socklen_t len = sizeof place, bad_len = (socklen_t)-1;
    struct {
        void *addr, *len;
        int want;
    } rows[] = {{(void *)8, &len, EFAULT},
                {&place, NULL, EFAULT},
                {&place, (void *)8, EFAULT},
                {&place, &bad_len, EINVAL}};
    set_nonblock(l, true);
    for (int i = 0; i < COUNT(rows); i++) {
        ERR(usk_accept(l, rows[i].addr, rows[i].len), EAGAIN); /* without a connection the pointers are not checked */
        int c = connected(SOCK_STREAM, sock_name(l));
        EQ(await(l, POLLIN), POLLIN);
        int next = (int)OK(usk_dup(c));
        OK(usk_close(next));
        ERR(usk_accept(l, rows[i].addr, rows[i].len), rows[i].want);
        EXPECT_EOF(c);
        EQ(usk_dup(c), next);
        OK(usk_close(next));
        OK(usk_close(c));
    }
    set_nonblock(l, false);
}

int main(void)
{
    begin("descriptor_limit");
    OK(getrlimit(RLIMIT_NOFILE, &before));
    int l = listener(local(AF_INET), 8), udp = bound(SOCK_DGRAM, local(AF_INET));
    int idle = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), file = (int)OK(open("/dev/null", O_RDWR));
    int ep = (int)OK(usk_epoll_create1(0));
    accept_keeps_the_connection(l);
    accept_rows(l, udp, idle, file);
    other_rows(l, udp, ep);
    bad_address(l);
    return done();
}

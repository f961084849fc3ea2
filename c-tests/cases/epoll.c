/* epoll: level, edge, one-shot, re-arming by MOD, RDHUP, nesting, and kernel descriptors beside sockets. */
#include "common.h"

static int epfd;

static void add(int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e));
}

static void mod(int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &e));
}

static void del(int fd)
{
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL));
}

/* Blocks for exactly one event, asks that it is `fd`'s, gives its mask. */
static uint32_t next(int fd)
{
    struct epoll_event e[4];
    int n = (int)OK(usk_epoll_wait(epfd, e, 4, -1));
    EQ(n, 1);
    EQ(e[0].data.fd, fd);
    return e[0].events;
}

static int now(void)
{
    struct epoll_event e[8];
    return (int)OK(usk_epoll_wait(epfd, e, 8, 0));
}

static void level(void)
{
    int fd[2];
    char c;
    tcp_pair(AF_INET, fd);
    add(fd[1], EPOLLIN);
    EQ(now(), 0);
    send_all(fd[0], "ab", 2);
    EQ(next(fd[1]), EPOLLIN);
    EQ(next(fd[1]), EPOLLIN); /* still there */
    await_bytes(fd[1], 2);
    EQ(usk_read(fd[1], &c, 1), 1);
    EQ(next(fd[1]), EPOLLIN); /* one byte left */
    EQ(usk_read(fd[1], &c, 1), 1);
    EQ(now(), 0);
    mod(fd[1], EPOLLIN | EPOLLOUT);
    EQ(next(fd[1]), EPOLLOUT);
    mod(fd[1], 0);
    EQ(now(), 0);
    /* With an empty mask errors and hang-ups are still reported. */
    OK(usk_shutdown(fd[1], SHUT_WR));
    OK(usk_close(fd[0]));
    EQ(next(fd[1]), EPOLLHUP);
    del(fd[1]);
    OK(usk_close(fd[1]));
}

static void edge(void)
{
    int fd[2];
    char buf[16];
    tcp_pair(AF_INET, fd);
    add(fd[1], EPOLLIN | EPOLLET);
    send_all(fd[0], "a", 1);
    EQ(next(fd[1]), EPOLLIN);
    EQ(now(), 0); /* reported once, although nothing was read */
    send_all(fd[0], "b", 1);
    EQ(next(fd[1]), EPOLLIN); /* new bytes, a new edge */
    EQ(now(), 0);
    mod(fd[1], EPOLLIN | EPOLLET); /* MOD looks again */
    EQ(next(fd[1]), EPOLLIN);
    await_bytes(fd[1], 2);
    EQ(usk_read(fd[1], buf, sizeof buf), 2);
    EQ(now(), 0);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(next(fd[1]), EPOLLIN); /* end of stream is an edge */
    EQ(now(), 0);
    del(fd[1]);

    /* Writable edge: full, drained, told. */
    set_nonblock(fd[1], true);
    OK(usk_close(fd[0]));
    OK(usk_close(fd[1]));
    tcp_pair(AF_INET, fd);
    set_nonblock(fd[1], true);
    add(fd[1], EPOLLOUT | EPOLLET);
    EQ(next(fd[1]), EPOLLOUT);
    static char block[65536];
    long sent = 0, n;
    while ((n = usk_send(fd[1], block, sizeof block, 0)) > 0)
        sent += n;
    EQ(errno, EAGAIN);
    for (long left = sent; left > 0;) {
        n = OK(usk_recv(fd[0], block, sizeof block, 0));
        CHECK(n > 0);
        left -= n;
    }
    EQ(next(fd[1]), EPOLLOUT);
    del(fd[1]);
    close_pair(fd);
}

static void oneshot(void)
{
    int fd[2];
    tcp_pair(AF_INET6, fd);
    add(fd[1], EPOLLIN | EPOLLONESHOT);
    send_all(fd[0], "a", 1);
    EQ(next(fd[1]), EPOLLIN);
    send_all(fd[0], "b", 1);
    await_bytes(fd[1], 2);
    EQ(now(), 0); /* disarmed */
    mod(fd[1], EPOLLIN | EPOLLONESHOT);
    EQ(next(fd[1]), EPOLLIN);
    EQ(now(), 0);
    /* A disarmed entry reports nothing, not even a hang-up. */
    OK(usk_close(fd[0]));
    CHECK(ready(fd[1], POLLIN) & POLLIN);
    EQ(now(), 0);
    mod(fd[1], EPOLLIN | EPOLLRDHUP | EPOLLONESHOT);
    CHECK(next(fd[1]) & EPOLLIN);
    del(fd[1]);
    OK(usk_close(fd[1]));
}

static void rdhup(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    add(fd[1], EPOLLRDHUP);
    EQ(now(), 0);
    send_all(fd[0], "x", 1);
    await_bytes(fd[1], 1);
    EQ(now(), 0);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(next(fd[1]), EPOLLRDHUP);
    mod(fd[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    EQ(next(fd[1]), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    OK(usk_shutdown(fd[1], SHUT_WR)); /* both directions closed: HUP */
    EQ(next(fd[1]), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    del(fd[1]);
    close_pair(fd);
}

/* What is wrong is said in the kernel's order. */
static void refused(void)
{
    int epfd = (int)OK(usk_epoll_create1(0)), fd[2];
    struct epoll_event e = {.events = EPOLLIN}, only = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    tcp_pair(AF_INET, fd);
    ERR(usk_epoll_ctl(epfd, EPOLL_CTL_MOD, epfd, &e), EINVAL);
    ERR(usk_epoll_ctl(epfd, EPOLL_CTL_DEL, epfd, NULL), EINVAL);
    ERR(usk_epoll_ctl(epfd, EPOLL_CTL_MOD, fd[0], &only), EINVAL);
    ERR(usk_epoll_ctl(epfd, EPOLL_CTL_MOD, fd[0], &e), ENOENT);
    ERR(usk_epoll_wait(-1, &e, 0, 0), EBADF);
    ERR(usk_epoll_wait(epfd, &e, 0, 0), EINVAL);
    /* Memory for events is looked at when there are some, and then they stay. */
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_ADD, fd[0], &e));
    EQ(usk_epoll_wait(epfd, NULL, 1, 0), 0);
    send_all(fd[1], "x", 1);
    await(fd[0], POLLIN);
    ERR(usk_epoll_wait(epfd, NULL, 1, 0), EFAULT);
    EQ(usk_epoll_wait(epfd, &e, 1, 0), 1);
    EQ(e.events, EPOLLIN);
    /* A listener that is one no longer is ready. */
    int l = listener(local(AF_INET), 1);
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    e.events = EPOLLIN | EPOLLOUT;
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_DEL, fd[0], NULL));
    OK(usk_epoll_ctl(epfd, EPOLL_CTL_ADD, l, &e));
    EQ(usk_epoll_wait(epfd, &e, 1, 0), 0);
    OK(usk_connect(l, &un, sizeof un));
    EQ(usk_epoll_wait(epfd, &e, 1, 0), 1);
#ifndef ON_SERVER
    EQ(e.events, EPOLLOUT | EPOLLHUP);
#endif
    OK(usk_close(l));
    OK(usk_close(epfd));
    close_pair(fd);
}

static void listener_and_kernel_fds(void)
{
    int p[2], l = listener(local(AF_INET), 4);
    OK(pipe(p));
    add(l, EPOLLIN);
    add(p[0], EPOLLIN);
    add(p[1], EPOLLOUT | EPOLLET);
    EQ(next(p[1]), EPOLLOUT);
    EQ(now(), 0);
    del(p[1]); /* which may have room for one byte alone, and so another edge (fs.pipe-user-pages-soft) */
    OK(write(p[1], "x", 1));
    EQ(next(p[0]), EPOLLIN);
    int c = connected(SOCK_STREAM, sock_name(l));
    /* Both kinds are reported; asked for one event at a time, each gets its turn. */
    await(l, POLLIN);
    EQ(now(), 2);
    bool seen_pipe = false, seen_listener = false;
    for (int i = 0; i < 4; i++) {
        struct epoll_event e;
        EQ(usk_epoll_wait(epfd, &e, 1, -1), 1);
        seen_pipe |= e.data.fd == p[0];
        seen_listener |= e.data.fd == l;
    }
    CHECK(seen_pipe && seen_listener);
    int a = (int)OK(usk_accept(l, NULL, NULL));
    EQ(next(p[0]), EPOLLIN);
    char b;
    EQ(read(p[0], &b, 1), 1);
    EQ(now(), 0);

    /* poll and select take the two kinds together as well. */
    struct pollfd pf[3] = {{.fd = p[0], .events = POLLIN}, {.fd = a, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    send_all(c, "y", 1);
    EQ(usk_poll(pf, 3, -1), 1);
    EQ(pf[0].revents, 0);
    EQ(pf[1].revents, POLLIN);
    EQ(pf[2].revents, 0);
    OK(write(p[1], "x", 1));
    EQ(usk_poll(pf, 3, -1), 2);
    fd_set r;
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    FD_SET(a, &r);
    FD_SET(l, &r);
    int top = p[0] > a ? p[0] : a;
    EQ(usk_select((top > l ? top : l) + 1, &r, NULL, NULL, NULL), 2);
    CHECK(FD_ISSET(p[0], &r) && FD_ISSET(a, &r) && !FD_ISSET(l, &r));

    /* close takes a descriptor out by itself. */
    OK(usk_close(l));
    del(p[0]);
    EQ(now(), 0);
    ERR(usk_epoll_ctl(epfd, EPOLL_CTL_DEL, l, NULL), EBADF);
    OK(close(p[0]));
    OK(close(p[1]));
    OK(usk_close(a));
    OK(usk_close(c));
}

static void *late_writer(void *arg)
{
    int *fd = arg;
    char c;
    OK(read(fd[1], &c, 1)); /* told to go */
    send_all(fd[0], "z", 1);
    return NULL;
}

/* An epoll inside an epoll, and a waiter that sleeps before the event comes. */
static void nested(void)
{
    int fd[2], p[2];
    tcp_pair(AF_INET, fd);
    OK(pipe(p));
    int outer = epfd;
    int inner = (int)OK(usk_epoll_create1(EPOLL_CLOEXEC));
    CHECK(usk_fcntl(inner, F_GETFD, 0) & FD_CLOEXEC);
    epfd = inner;
    add(fd[1], EPOLLIN);
    epfd = outer;
    add(inner, EPOLLIN);
    EQ(now(), 0);
    int arg[2] = {fd[0], p[0]};
    pthread_t t = spawn(late_writer, arg);
    OK(write(p[1], "g", 1));
    EQ(next(inner), EPOLLIN);
    join(t);
    EQ(ready(inner, POLLIN), POLLIN); /* an epoll can itself be polled */
    char c;
    EQ(usk_read(fd[1], &c, 1), 1);
    EQ(now(), 0);
    /* A loop is refused. */
    struct epoll_event e = {.events = EPOLLIN};
    ERR(usk_epoll_ctl(inner, EPOLL_CTL_ADD, epfd, &e), ELOOP);
    ERR(usk_epoll_ctl(inner, EPOLL_CTL_ADD, inner, &e), EINVAL);
    del(inner);
    OK(usk_close(inner));
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);
}

/* dup: the registration belongs to the open socket and its number; it lives until the last number is closed. */
static void registration_outlives_close_of_a_dup(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    int twin = (int)OK(usk_dup(fd[1]));
    add(fd[1], EPOLLIN);
    add(twin, EPOLLIN); /* another number of the same socket is another entry */
    send_all(fd[0], "x", 1);
    await(twin, POLLIN);
    EQ(now(), 2);
    del(twin);
    int number = fd[1];
    OK(usk_close(fd[1]));
    EQ(next(number), EPOLLIN); /* still reported, under the old number */
    OK(usk_close(twin));
    EQ(now(), 0);
    OK(usk_close(fd[0]));
}

static void two_waiters(void)
{
    /* One socket in two epolls: both report it. */
    int fd[2];
    tcp_pair(AF_INET, fd);
    int other = (int)OK(usk_epoll_create1(0)), first = epfd;
    add(fd[1], EPOLLIN | EPOLLET);
    epfd = other;
    add(fd[1], EPOLLIN | EPOLLET);
    send_all(fd[0], "x", 1);
    EQ(next(fd[1]), EPOLLIN);
    epfd = first;
    EQ(next(fd[1]), EPOLLIN);
    EQ(now(), 0);
    del(fd[1]);
    OK(usk_close(other));
    close_pair(fd);
}

/* The end of an attempt to connect is an edge once when the peer refuses, and once more when connect(2) tells of it. */
static void refused_connection(void)
{
    int gone = bound(SOCK_STREAM, local(AF_INET));
    struct addr nobody = sock_name(gone);
    OK(usk_close(gone));
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ERR(usk_connect(fd, &nobody.sa, nobody.len), EINPROGRESS);
    await(fd, POLLOUT);
    add(fd, EPOLLIN | EPOLLOUT | EPOLLET);
    EQ(next(fd), EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP);
    EQ(now(), 0);
    ERR(usk_connect(fd, &nobody.sa, nobody.len), ECONNREFUSED);
#ifndef ON_SERVER
    EQ(next(fd), EPOLLOUT | EPOLLHUP);
#endif
    EQ(now(), 0);
    del(fd);
    OK(usk_close(fd));
}

int main(void)
{
    begin("epoll");
    epfd = (int)OK(usk_epoll_create1(0));
    level();
    edge();
    oneshot();
    rdhup();
    listener_and_kernel_fds();
    nested();
    registration_outlives_close_of_a_dup();
    two_waiters();
    refused_connection();
    OK(usk_close(epfd));
    refused();
    return done();
}

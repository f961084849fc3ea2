/* fork(2): a stack is the parent's alone. In the child inherited descriptors return ENETDOWN, closing them has no
 * effect on the parent, and a stack of its own works; the parent's connections go on. There is no oracle: on the kernel
 * a child shares its parent's sockets. */
#include "common.h"
#include <sys/wait.h>

static usk_stack_t *side; /* a second stack of the parent's */
static int conn[2], l, udp, ep, over_side;

/* A child that hangs is ended by SIGALRM; `_exit`, so that nothing registered in the parent runs. */
static pid_t child(void (*body)(void))
{
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        alarm(120);
        body();
        fflush(stdout);
        _exit(failures ? 1 : 0);
    }
    return pid;
}

static void ends_well(pid_t pid)
{
    int status = 0;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

static void io_rows(int fd)
{
    char b[8] = {0};
    int v = 1;
    struct addr a = local(AF_INET);
    socklen_t len = sizeof a.storage;
    struct iovec iov = {b, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    ERR(usk_bind(fd, &a.sa, a.len), ENETDOWN);
    ERR(usk_listen(fd, 1), ENETDOWN);
    ERR(usk_accept(fd, NULL, NULL), ENETDOWN);
    ERR(usk_accept4(fd, NULL, NULL, SOCK_NONBLOCK), ENETDOWN);
    ERR(usk_connect(fd, &a.sa, a.len), ENETDOWN);
    ERR(usk_shutdown(fd, SHUT_RDWR), ENETDOWN);
    ERR(usk_destroy(fd), ENETDOWN);
    ERR(usk_send(fd, b, 1, 0), ENETDOWN);
    ERR(usk_sendto(fd, b, 1, 0, &a.sa, a.len), ENETDOWN);
    ERR(usk_sendmsg(fd, &m, 0), ENETDOWN);
    ERR(usk_sendmmsg(fd, &mm, 1, 0), ENETDOWN);
    ERR(usk_write(fd, b, 1), ENETDOWN);
    ERR(usk_writev(fd, &iov, 1), ENETDOWN);
    ERR(usk_recv(fd, b, 1, 0), ENETDOWN);
    ERR(usk_recvfrom(fd, b, 1, 0, &a.sa, &len), ENETDOWN);
    ERR(usk_recvmsg(fd, &m, 0), ENETDOWN);
    ERR(usk_recvmmsg(fd, &mm, 1, 0, NULL), ENETDOWN);
    ERR(usk_read(fd, b, 1), ENETDOWN);
    ERR(usk_read(fd, b, 0), ENETDOWN);
    ERR(usk_readv(fd, &iov, 1), ENETDOWN);
    ERR(usk_getsockname(fd, &a.sa, &len), ENETDOWN);
    ERR(usk_getpeername(fd, &a.sa, &len), ENETDOWN);
    len = sizeof v;
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len), ENETDOWN);
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &len), ENETDOWN);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v), ENETDOWN);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, sizeof v), ENETDOWN);
    ERR(usk_ioctl(fd, FIONREAD, &v), ENETDOWN);
    ERR(usk_ioctl(fd, FIONBIO, &v), ENETDOWN);
    ERR(usk_fcntl(fd, F_GETFL, 0), ENETDOWN);
    ERR(usk_fcntl(fd, F_SETFL, O_NONBLOCK), ENETDOWN);
}

static void transfer_rows(int fd)
{
    int p[2], file = (int)OK(open("/dev/zero", O_RDONLY));
    off_t at = 0;
    OK(pipe(p));
    OK(write(p[1], "x", 1));
    ERR(usk_sendfile(fd, file, &at, 1), ENETDOWN);
    ERR(usk_splice(p[0], NULL, fd, NULL, 1, 0), ENETDOWN);
    ERR(usk_splice(fd, NULL, p[1], NULL, 1, 0), ENETDOWN);
    OK(close(p[0]));
    OK(close(p[1]));
    OK(close(file));
}

/* poll and select return at once for an inherited descriptor, whatever the events and the timeout. */
static void poll_rows(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(p.revents, POLLERR | POLLHUP);
    p.events = 0;
    EQ(usk_poll(&p, 1, 0), 1);
    EQ(p.revents, POLLERR | POLLHUP);
    fd_set r, w, e;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(fd, &r);
    FD_SET(fd, &w);
    EQ(usk_select(fd + 1, &r, &w, &e, NULL), 2);
    CHECK(FD_ISSET(fd, &r) && FD_ISSET(fd, &w));
    struct epoll_event ev = {.events = EPOLLIN};
    int mine = (int)OK(usk_epoll_create1(0));
    ERR(usk_epoll_ctl(mine, EPOLL_CTL_ADD, fd, &ev), ENETDOWN);
    ERR(usk_epoll_ctl(mine, EPOLL_CTL_MOD, fd, &ev), ENETDOWN);
    ERR(usk_epoll_ctl(mine, EPOLL_CTL_DEL, fd, NULL), ENETDOWN);
    EQ(usk_epoll_wait(mine, &ev, 1, 0), 0);
    OK(usk_close(mine));
}

/* The number is the child's to keep in order. */
static void number_rows(int fd)
{
    OK(usk_fcntl(fd, F_SETFD, FD_CLOEXEC));
    EQ(usk_fcntl(fd, F_GETFD, 0), FD_CLOEXEC);
    OK(usk_ioctl(fd, FIONCLEX, NULL));
    EQ(usk_fcntl(fd, F_GETFD, 0), 0);
    char b;
    int d = (int)OK(usk_dup(fd)), high = (int)OK(usk_fcntl(fd, F_DUPFD, 400));
    ERR(usk_read(d, &b, 1), ENETDOWN);
    ERR(usk_read(high, &b, 1), ENETDOWN);
    EQ(usk_dup2(fd, high), high);
    OK(usk_close(high));
    ERR(usk_close(high), EBADF);
    /* A file under a number that was a socket's is a file, whoever closed the socket. */
    int file = (int)OK(open("/dev/zero", O_RDONLY));
    EQ(usk_dup2(file, d), d);
    EQ(usk_read(d, &b, 1), 1);
    OK(usk_close(d));
    OK(usk_dup2(fd, d));
    OK(close(d));
    EQ(dup2(file, d), d);
    EQ(usk_read(d, &b, 1), 1);
    OK(close(d));
    OK(close(file));
}

static void epoll_rows(void)
{
    struct epoll_event ev = {.events = EPOLLIN};
    ERR(usk_epoll_wait(ep, &ev, 1, -1), ENETDOWN);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_DEL, udp, NULL), ENETDOWN);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_DEL, 0, NULL), ENETDOWN);
    struct pollfd p = {.fd = ep, .events = POLLIN};
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(p.revents, POLLERR | POLLHUP);
}

static void stack_rows(void)
{
    char b[8];
    uint64_t n;
    ERR(usk_socket_on(side, AF_INET, SOCK_STREAM, 0), ENETDOWN);
    ERR(usk_sysctl_get(side, "net.ipv4.tcp_sack", b, sizeof b), ENETDOWN);
    ERR(usk_sysctl_set(side, "net.ipv4.tcp_sack", "0"), ENETDOWN);
    ERR(usk_mib_read(side, "TcpInSegs", &n), ENETDOWN);
    usk_stack_free(side);
}

/* The error of every call on an inherited descriptor. */
static void answers(void)
{
    int all[] = {conn[0], conn[1], l, udp, over_side};
    for (int i = 0; i < COUNT(all); i++) {
        io_rows(all[i]);
        transfer_rows(all[i]);
        poll_rows(all[i]);
    }
    number_rows(conn[0]);
    epoll_rows();
    stack_rows();
}

/* A stack of the child's own: the same numbers, the same port, bytes there and back, beside inherited descriptors. */
static void own_stack(void)
{
    OK(usk_init(NULL));
    int fd[2];
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "own", 3);
    EXPECT(fd[1], "own");
    struct pollfd p[2] = {{.fd = conn[0], .events = POLLIN}, {.fd = fd[0], .events = POLLIN}};
    EQ(usk_poll(p, 2, -1), 1);
    EQ(p[0].revents, POLLERR | POLLHUP);
    EQ(p[1].revents, 0);
    int mine = (int)OK(usk_epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd[0]};
    OK(usk_epoll_ctl(mine, EPOLL_CTL_ADD, fd[0], &ev));
    send_all(fd[1], "back", 4);
    EQ(usk_epoll_wait(mine, &ev, 1, -1), 1);
    EXPECT(fd[0], "back");
    /* Over an inherited number. */
    EQ(usk_dup2(fd[0], conn[0]), conn[0]);
    send_all(conn[0], "moved", 5);
    EXPECT(fd[1], "moved");
    OK(usk_close(conn[0]));
    close_pair(fd);
    OK(usk_close(mine));
    struct addr a = local(AF_INET);
    int again = bound(SOCK_DGRAM, a), other = connected(SOCK_DGRAM, sock_name(again));
    EQ(usk_send(other, "d", 1, 0), 1);
    EXPECT(again, "d");
}

static void close_all(void)
{
    int all[] = {conn[0], conn[1], l, udp, ep, over_side};
    for (int i = 0; i < COUNT(all); i++)
        OK(usk_close(all[i]));
    for (int i = 0; i < COUNT(all); i++)
        ERR(usk_close(all[i]), EBADF);
    OK(usk_init(NULL));
}

static void grandchild(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    int mine = fd[0];
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        char b;
        ERR(usk_recv(conn[0], &b, 1, 0), ENETDOWN);
        ERR(usk_recv(mine, &b, 1, 0), ENETDOWN);
        OK(usk_close(mine));
        OK(usk_close(conn[0]));
        int own[2];
        tcp_pair(AF_INET, own);
        send_all(own[0], "x", 1);
        EXPECT(own[1], "x");
        fflush(stdout);
        _exit(failures ? 1 : 0);
    }
    ends_well(pid);
    send_all(fd[0], "still", 5);
    EXPECT(fd[1], "still");
}

/* The parent's connection, both ways; its set and its listener work as before. */
static void goes_on(void)
{
    send_all(conn[0], "ping", 4);
    EXPECT(conn[1], "ping");
    send_all(conn[1], "pong", 4);
    EXPECT(conn[0], "pong");
    EQ(ready(conn[0], POLLIN | POLLOUT | POLLRDHUP), POLLOUT);
    struct epoll_event ev;
    EQ(usk_epoll_wait(ep, &ev, 1, 0), 0);
    struct addr to = sock_name(udp);
    EQ(usk_sendto(udp, "d", 1, 0, &to.sa, to.len), 1);
    EQ(usk_epoll_wait(ep, &ev, 1, -1), 1);
    EXPECT(udp, "d");
    int c = connected(SOCK_STREAM, sock_name(l)), a = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(a));
    EXPECT_EOF(c);
    OK(usk_close(c));
}

static void *accept_one(void *arg)
{
    return (void *)(intptr_t)usk_accept(*(int *)arg, NULL, NULL);
}

/* A child does not inherit a number that a call of the parent has only reserved. */
static void reserved_number(void)
{
    int free_number = (int)OK(usk_dup(udp));
    OK(usk_close(free_number));
    pthread_t t = spawn(accept_one, &l);
    /* Once it waits, it has the number. */
    while (fcntl(free_number, F_GETFD) < 0)
        sched_yield();
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0)
        _exit(fcntl(free_number, F_GETFD) >= 0);
    ends_well(pid);
    int c = connected(SOCK_STREAM, sock_name(l));
    void *a;
    CHECK(pthread_join(t, &a) == 0);
    EQ((intptr_t)a, free_number);
    OK(usk_close(free_number));
    OK(usk_close(c));
}

int main(void)
{
    begin("fork");
    tcp_pair(AF_INET, conn);
    l = listener(local(AF_INET), 4);
    udp = bound(SOCK_DGRAM, local(AF_INET));
    ep = (int)OK(usk_epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN};
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, udp, &ev));
    side = usk_stack_new("");
    CHECK(side);
    over_side = (int)OK(usk_socket_on(side, AF_INET, SOCK_DGRAM, 0));
    void (*const bodies[])(void) = {answers, own_stack, close_all, grandchild};
    for (int i = 0; i < COUNT(bodies); i++) {
        pid_t pid = child(bodies[i]);
        for (int n = 0; n < 100; n++)
            goes_on();
        ends_well(pid);
        goes_on();
    }
    reserved_number();
    usk_stack_free(side);
    close_pair(conn);
    return done();
}

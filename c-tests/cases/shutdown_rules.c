/* shutdown(2): in which states, ENOTCONN, EPIPE and SIGPIPE, MSG_NOSIGNAL, and the effect of each half. */
#include "common.h"

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int sig)
{
    (void)sig;
    sigpipes++;
}

/* A connection whose ends have both sent their FIN is one until it is dissolved: connect is EISCONN and begins
 * nothing. */
static void end_it(int fd[2], int l)
{
    struct addr to = sock_name(l), from = {.len = sizeof from.storage};
    OK(usk_shutdown(fd[0], SHUT_RDWR));
    EXPECT_EOF(fd[1]);
    OK(usk_close(fd[1]));
    await(fd[0], POLLHUP);
    ERR(usk_connect(fd[0], &to.sa, to.len), EISCONN);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    /* Another connection is the first that the listener has. */
    int s = connected(SOCK_STREAM, to), a = (int)OK(usk_accept(l, &from.sa, &from.len));
    CHECK(same_addr(from, sock_name(s)));
    OK(usk_close(a));
    OK(usk_close(s));
}

/* Dissolved, a socket connects or listens as a new one does. */
static void dissolved(bool ended, bool listens)
{
    const struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    int fd[2], l = listener(local(AF_INET), 4);
    struct addr to = sock_name(l);
    tcp_pair(AF_INET, fd);
    if (ended)
        end_it(fd, l);
    OK(usk_connect(fd[0], &unspec, sizeof unspec));
    struct addr none = {.len = sizeof none.storage};
    ERR(usk_getpeername(fd[0], &none.sa, &none.len), ENOTCONN);
    int s = fd[0];
    if (listens) {
        OK(usk_close(l));
        OK(usk_listen(l = fd[0], 1));
        s = connected(SOCK_STREAM, at("127.0.0.1", port_of(sock_name(l))));
    } else {
        OK(usk_connect(s, &to.sa, to.len));
    }
    int a = (int)OK(usk_accept(l, NULL, NULL));
    send_all(s, "there", 5);
    EXPECT(a, "there");
    send_all(a, "back", 4);
    EXPECT(s, "back");
    OK(usk_close(a));
    OK(usk_close(s));
    OK(usk_close(l));
    if (!ended)
        OK(usk_close(fd[1]));
}

int main(void)
{
    begin("shutdown_rules");
    struct sigaction sa = {.sa_handler = on_sigpipe};
    OK(sigaction(SIGPIPE, &sa, NULL));
    int fd[2];
    char c;

    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_shutdown(s, 3), EINVAL);
    ERR(usk_shutdown(s, -1), EINVAL);
    /* Never connected: recv is ENOTCONN, send is EPIPE with its signal. */
    ERR(usk_recv(s, &c, 1, 0), ENOTCONN);
    EQ(ready(s, POLLIN | POLLOUT | POLLRDHUP), POLLOUT | POLLHUP);
    /* shutdown is ENOTCONN and yet marks the halves: pollers are woken, and read end of stream. */
    ERR(usk_shutdown(s, SHUT_WR), ENOTCONN);
    ERR(usk_recv(s, &c, 1, 0), ENOTCONN);
    ERR(usk_shutdown(s, SHUT_RD), ENOTCONN);
#ifndef ON_SERVER
    EQ(usk_recv(s, &c, 1, 0), 0);
#endif
    ERR(usk_shutdown(s, SHUT_RDWR), ENOTCONN);
    EQ(sigpipes, 0);
    ERR(usk_send(s, "x", 1, 0), EPIPE);
    EQ(sigpipes, 1);
    ERR(usk_send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(sigpipes, 1);
#ifndef ON_SERVER
    EQ(ready(s, POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
#endif
    OK(usk_close(s));

    /* After SHUT_WR: every way of writing is EPIPE; each raises SIGPIPE once, MSG_NOSIGNAL none. */
    tcp_pair(AF_INET, fd);
    OK(usk_shutdown(fd[0], SHUT_WR));
    OK(usk_shutdown(fd[0], SHUT_WR)); /* again is fine while the other half lives */
    sigpipes = 0;
    ERR(usk_write(fd[0], "x", 1), EPIPE);
    EQ(sigpipes, 1);
    ERR(usk_send(fd[0], "x", 1, 0), EPIPE);
    EQ(sigpipes, 2);
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    ERR(usk_writev(fd[0], &iov, 1), EPIPE);
    EQ(sigpipes, 3);
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ERR(usk_sendmsg(fd[0], &m, MSG_NOSIGNAL), EPIPE);
    EQ(sigpipes, 3);
    ERR(usk_send(fd[0], "", 0, 0), EPIPE); /* of no bytes, too */
    EQ(sigpipes, 4);
    /* Reading goes on. */
    send_all(fd[1], "still", 5);
    EXPECT(fd[0], "still");
    close_pair(fd);

    /* After SHUT_RD: what was queued can be read, then end of stream; the peer may go on sending. */
    tcp_pair(AF_INET, fd);
    send_all(fd[1], "queued", 6);
    await_bytes(fd[0], 6);
    OK(usk_shutdown(fd[0], SHUT_RD));
    EXPECT(fd[0], "queued");
    EXPECT_EOF(fd[0]);
    EQ(ready(fd[0], POLLIN | POLLRDHUP | POLLHUP), POLLIN | POLLRDHUP);
    send_all(fd[1], "late", 4);
    CHECK(await(fd[0], POLLIN) & POLLIN);
#ifndef ON_SERVER
    EXPECT(fd[0], "late"); /* Linux accepts and hands out what comes later */
#endif
    EXPECT_EOF(fd[0]);
    send_all(fd[0], "out", 3);
    EXPECT(fd[1], "out");
    close_pair(fd);

    /* SHUT_RDWR: both at once; a second one has no connection to act on once the peer has closed, too. */
    tcp_pair(AF_INET, fd);
    OK(usk_shutdown(fd[0], SHUT_RDWR));
    EXPECT_EOF(fd[0]);
    EXPECT_EOF(fd[1]);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(ready(fd[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP | POLLHUP);
    close_pair(fd);

    /* SHUT_RD on a listener stops it: accept says EINVAL, callers are refused; listen starts it again. */
    int l = listener(local(AF_INET), 2);
    struct addr a = sock_name(l);
    ERR(usk_connect(l, &a.sa, a.len), EISCONN);
    OK(usk_shutdown(l, SHUT_RD));
    ERR(usk_accept(l, NULL, NULL), EINVAL);
    s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(s, &a.sa, a.len), ECONNREFUSED);
    /* Its port had been chosen for it, so it was given back, and listen chooses anew; the address was asked for
     * and stays. */
    OK(usk_listen(l, 2));
    a = sock_name(l);
    CHECK(port_of(a) != 0 && a.in.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    OK(usk_connect(s, &a.sa, a.len));
    int t = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(t));
    OK(usk_close(s));
    /* SHUT_WR on a listener has no effect. */
    OK(usk_shutdown(l, SHUT_WR));
    s = connected(SOCK_STREAM, a);
    OK(usk_close((int)OK(usk_accept(l, NULL, NULL))));
    OK(usk_close(s));
    OK(usk_close(l));

    /* UDP: unconnected ENOTCONN; connected takes it, reads then end, writes are EPIPE. */
    s = bound(SOCK_DGRAM, local(AF_INET));
    ERR(usk_shutdown(s, SHUT_RDWR), ENOTCONN);
    OK(usk_close(s));
    udp_pair(AF_INET, fd);
    OK(usk_shutdown(fd[0], SHUT_RD));
    EQ(usk_recv(fd[0], &c, 1, 0), 0);
    OK(usk_send(fd[0], "x", 1, 0));
    OK(usk_shutdown(fd[0], SHUT_WR));
    sigpipes = 0;
    ERR(usk_send(fd[0], "x", 1, 0), EPIPE);
    EQ(sigpipes, 0); /* SIGPIPE is for streams */
    close_pair(fd);

    for (int way = 0; way < 4; way++)
        dissolved(way & 1, way & 2);
    return done();
}

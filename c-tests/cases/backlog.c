/* The listen backlog: N + 1 connections complete, further ones wait in SYN_SENT; accept makes room; clamps. */
#include "common.h"

static int in_progress(struct addr to)
{
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    return fd;
}

static void holds(int backlog, int want)
{
    int l = listener(local(AF_INET), backlog), fd[64];
    struct addr to = sock_name(l);
    for (int i = 0; i < want; i++) {
        fd[i] = connected(SOCK_STREAM, to);
        send_all(fd[i], "hello", 5); /* which carries data before it is accepted */
    }
    /* One more does not connect: its SYN is dropped. */
    int extra = in_progress(to);
    EQ(ready(extra, POLLOUT), 0);
    ERR(usk_connect(extra, &to.sa, to.len), EALREADY);
    struct tcp_info t;
    socklen_t len = sizeof t;
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_INFO, &t, &len));
    EQ(t.tcpi_unacked, want);
    EQ(t.tcpi_sacked, backlog);
    /* All of them are there, with their bytes. */
    for (int i = 0; i < want; i++) {
        int a = (int)OK(usk_accept(l, NULL, NULL));
        EQ(port_of(peer_name(a)), port_of(sock_name(fd[i])));
        EXPECT(a, "hello");
        OK(usk_close(a));
        OK(usk_close(fd[i]));
    }
    /* With room again, the next one connects at once. */
    int again = connected(SOCK_STREAM, to);
    OK(usk_close(again));
    OK(usk_close(extra));
    OK(usk_close(l));
}

int main(void)
{
    begin("backlog");
    holds(0, 1);
    holds(1, 2);
    holds(5, 6);
    holds(20, 21);

    /* Negative and huge mean net.core.somaxconn; listen again changes it. */
    int l = listener(local(AF_INET), -1);
    struct tcp_info t;
    socklen_t len = sizeof t;
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_INFO, &t, &len));
    EQ(t.tcpi_sacked, 4096);
    OK(usk_listen(l, INT32_MAX));
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_INFO, &t, &len));
    EQ(t.tcpi_sacked, 4096);
    OK(usk_listen(l, 3));
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_INFO, &t, &len));
    EQ(t.tcpi_sacked, 3);

    /* Closing the listener resets connections that were not accepted, and new ones are refused. */
    struct addr to = sock_name(l);
    int c = connected(SOCK_STREAM, to);
    await(l, POLLIN);
    OK(usk_close(l));
    char b;
    ERR(usk_recv(c, &b, 1, 0), ECONNRESET);
    OK(usk_close(c));
    c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(c, &to.sa, to.len), ECONNREFUSED);
    OK(usk_close(c));

    /* listen without bind chooses a port. */
    l = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(usk_listen(l, 1));
    to = sock_name(l);
    CHECK(port_of(to) != 0 && to.in.sin_addr.s_addr == htonl(INADDR_ANY));
    to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c = connected(SOCK_STREAM, to);
    OK(usk_close(c));
    OK(usk_close(l));
    return done();
}

/* Non-blocking connect: EINPROGRESS, poll, SO_ERROR; EALREADY, EISCONN; ECONNREFUSED is reported once;
 * which end of a connection is there first. */
#include "common.h"

static int nonblocking(int family)
{
    return (int)OK(usk_socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
}

static void succeeds(int family)
{
    int l = listener(local(family), 4);
    struct addr to = sock_name(l);
    int fd = nonblocking(family);
    /* EINPROGRESS also on loopback: the SYN-ACK is processed only after connect has checked the state. */
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    int got = await(fd, POLLOUT);
    EQ(got, POLLOUT);
    EQ(so_error(fd), 0);
    /* The first connect after success reports it with 0, the next one is EISCONN. */
    EQ(usk_connect(fd, &to.sa, to.len), 0);
    ERR(usk_connect(fd, &to.sa, to.len), EISCONN);
    char c;
    ERR(usk_recv(fd, &c, 1, 0), EAGAIN);
    int peer = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_fcntl(peer, F_GETFL, 0) & O_NONBLOCK, 0); /* accept does not pass O_NONBLOCK on */
    send_all(fd, "hi", 2);
    EXPECT(peer, "hi");
    OK(usk_close(fd));
    EXPECT_EOF(peer);
    OK(usk_close(peer));
    OK(usk_close(l));
}

/* The end that connects is connected before the other is accepted: who has the one has both, and need not wait. */
static void connected_before_accepted(int family, int listens)
{
    int l = listener(listens == family ? local(family) : at("::", 0), 4), fd[20], peer;
    struct addr to = at(family == AF_INET ? "127.0.0.1" : "::1", port_of(sock_name(l)));
    for (int i = 0; i < COUNT(fd); i++) {
        fd[i] = nonblocking(family);
        ERR(usk_connect(fd[i], &to.sa, to.len), EINPROGRESS);
        peer = (int)OK(usk_accept(l, NULL, NULL));
        EQ(ready(fd[i], POLLIN | POLLOUT), POLLOUT);
        EQ(usk_send(fd[i], "x", 1, MSG_NOSIGNAL), 1);
        EXPECT(peer, "x");
        OK(usk_close(peer));
        OK(usk_close(fd[i]));
    }
    OK(usk_close(l));
}

static struct addr closed_port(int family)
{
    int fd = bound(SOCK_STREAM, local(family));
    struct addr a = sock_name(fd);
    OK(usk_close(fd));
    return a;
}

static void refused(int family)
{
    struct addr to = closed_port(family);
    int fd = nonblocking(family);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    int got = await(fd, POLLOUT | POLLIN | POLLRDHUP);
    EQ(got, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
    EQ(so_error(fd), ECONNREFUSED);
    EQ(so_error(fd), 0); /* read once */
    char c;
    ERR(usk_send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(usk_recv(fd, &c, 1, 0), 0);
    OK(usk_close(fd));

    /* connect reports it too, once; the next one returns ECONNABORTED, and then a new attempt starts. */
    fd = nonblocking(family);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    await(fd, POLLOUT);
    ERR(usk_connect(fd, &to.sa, to.len), ECONNREFUSED);
    EQ(so_error(fd), 0);
    OK(usk_close(fd));

    fd = nonblocking(family);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    await(fd, POLLOUT);
    EQ(so_error(fd), ECONNREFUSED);
    ERR(usk_connect(fd, &to.sa, to.len), ECONNABORTED);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    OK(usk_close(fd));

    /* recv takes the error, too; after it the stream reads as ended. */
    fd = nonblocking(family);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    await(fd, POLLOUT);
    ERR(usk_recv(fd, &c, 1, 0), ECONNREFUSED);
    EQ(usk_recv(fd, &c, 1, 0), 0);
    OK(usk_close(fd));

    /* A blocking connect to it fails at once, and the socket can be used again. */
    fd = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    ERR(usk_connect(fd, &to.sa, to.len), ECONNREFUSED);
    EQ(so_error(fd), 0);
    int l = listener(local(family), 1);
    struct addr good = sock_name(l);
    OK(usk_connect(fd, &good.sa, good.len));
    OK(usk_close(fd));
    OK(usk_close(l));
}

/* A listener whose accept queue is full drops the SYN, so a connect to it stays in progress. A server takes more. */
#ifndef ON_SERVER
static void in_progress(void)
{
    int l = listener(local(AF_INET), 0);
    struct addr to = sock_name(l);
    int first = connected(SOCK_STREAM, to); /* backlog 0 holds one */
    int fd = nonblocking(AF_INET);
    ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
    ERR(usk_connect(fd, &to.sa, to.len), EALREADY);
    EQ(ready(fd, POLLIN | POLLOUT), 0);
    EQ(so_error(fd), 0);
    char c;
    ERR(usk_send(fd, "x", 1, 0), EAGAIN);
    ERR(usk_recv(fd, &c, 1, 0), EAGAIN);
    struct addr a;
    a.len = sizeof a.storage;
    ERR(usk_getpeername(fd, &a.sa, &a.len), ENOTCONN);
    CHECK(port_of(sock_name(fd)) != 0);
    ERR(usk_listen(fd, 1), EINVAL);
    struct addr any = local(AF_INET);
    ERR(usk_bind(fd, &any.sa, any.len), EINVAL);
    /* SHUT_WR in SYN_SENT aborts the attempt: the socket reads as closed. */
    OK(usk_shutdown(fd, SHUT_WR));
    EQ(ready(fd, POLLIN | POLLOUT) & (POLLHUP | POLLOUT), POLLHUP | POLLOUT);
    OK(usk_close(fd));
    OK(usk_close(first));
    OK(usk_close(l));
}
#endif

/* connect to AF_UNSPEC undoes a connection: the peer sees a reset, the socket starts anew. */
static void disconnect(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd[0], &un, sizeof un));
    char c;
    ERR(usk_recv(fd[1], &c, 1, 0), ECONNRESET);
    ERR(usk_recv(fd[0], &c, 1, 0), ECONNRESET); /* the socket itself keeps that as its error */
#ifdef ON_SERVER
    EQ(usk_recv(fd[0], &c, 1, 0), 0);
#else
    ERR(usk_recv(fd[0], &c, 1, 0), ENOTCONN);
#endif
    int l = listener(local(AF_INET), 1);
    struct addr to = sock_name(l);
    OK(usk_connect(fd[0], &to.sa, to.len));
    OK(usk_close(l));
    close_pair(fd);
}

int main(void)
{
    begin("connect_nonblock");
    succeeds(AF_INET);
    succeeds(AF_INET6);
    connected_before_accepted(AF_INET, AF_INET);
    connected_before_accepted(AF_INET6, AF_INET6);
    connected_before_accepted(AF_INET, AF_INET6);
    refused(AF_INET);
    refused(AF_INET6);
#ifndef ON_SERVER
    in_progress();
#endif
    disconnect();
    return done();
}

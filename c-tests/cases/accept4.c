/* accept and accept4: flags, what is inherited from the listener, order, waiting, errors. */
#include "common.h"

static void *call_in(void *arg)
{
    struct addr *to = arg;
    int fd = connected(SOCK_STREAM, *to);
    char c;
    EQ(usk_recv(fd, &c, 1, 0), 0);
    OK(usk_close(fd));
    return NULL;
}

int main(void)
{
    begin("accept4");
    int l = listener(local(AF_INET), 16);
    struct addr to = sock_name(l);
    struct {
        int flags, nonblock, cloexec;
    } rows[] = {{0, 0, 0},
                {SOCK_NONBLOCK, O_NONBLOCK, 0},
                {SOCK_CLOEXEC, 0, FD_CLOEXEC},
                {SOCK_NONBLOCK | SOCK_CLOEXEC, O_NONBLOCK, FD_CLOEXEC}};
    for (int i = 0; i < COUNT(rows); i++) {
        int c = connected(SOCK_STREAM, to);
        int a = (int)OK(usk_accept4(l, NULL, NULL, rows[i].flags));
        EQ(usk_fcntl(a, F_GETFL, 0), O_RDWR | rows[i].nonblock);
        EQ(usk_fcntl(a, F_GETFD, 0), rows[i].cloexec);
        OK(usk_close(a));
        OK(usk_close(c));
    }
    ERR(usk_accept4(l, NULL, NULL, SOCK_STREAM), EINVAL);
    ERR(usk_accept4(l, NULL, NULL, ~0), EINVAL);
    ERR(usk_accept4(-1, NULL, NULL, 0), EBADF);

    /* The same two flags at socket(). */
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    EQ(usk_fcntl(s, F_GETFL, 0), O_RDWR | O_NONBLOCK);
    EQ(usk_fcntl(s, F_GETFD, 0), FD_CLOEXEC);
    OK(usk_close(s));

    /* A non-blocking listener: EAGAIN; what it accepts is blocking unless asked for. */
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    EQ(ready(l, POLLIN | POLLOUT), 0);
    int c = connected(SOCK_STREAM, to);
    EQ(await(l, POLLIN), POLLIN);
    int a = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_fcntl(a, F_GETFL, 0), O_RDWR);
    OK(usk_close(a));
    OK(usk_close(c));
    set_nonblock(l, false);

    /* Connections come in the order in which they were made. */
    int many[10];
    for (int i = 0; i < 10; i++)
        many[i] = connected(SOCK_STREAM, to);
    for (int i = 0; i < 10; i++) {
        a = (int)OK(usk_accept(l, NULL, NULL));
        EQ(port_of(peer_name(a)), port_of(sock_name(many[i])));
        OK(usk_close(a));
        OK(usk_close(many[i]));
    }

    /* Socket options of the listener pass to the child. */
    OK(set_int(l, SOL_SOCKET, SO_KEEPALIVE, 1));
    OK(set_int(l, IPPROTO_TCP, TCP_NODELAY, 1));
    OK(set_int(l, IPPROTO_TCP, TCP_KEEPIDLE, 77));
    OK(set_int(l, IPPROTO_IP, IP_TTL, 44));
    OK(set_int(l, SOL_SOCKET, SO_PRIORITY, 3));
    OK(set_int(l, SOL_SOCKET, SO_BUSY_POLL, 7));
    struct linger lg = {1, 5};
    OK(usk_setsockopt(l, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    c = connected(SOCK_STREAM, to);
    a = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get_int(a, SOL_SOCKET, SO_KEEPALIVE), 1);
    EQ(get_int(a, IPPROTO_TCP, TCP_NODELAY), 1);
    EQ(get_int(a, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    EQ(get_int(a, IPPROTO_IP, IP_TTL), 44);
    EQ(get_int(a, SOL_SOCKET, SO_BUSY_POLL), 7);
    EQ(get_int(a, SOL_SOCKET, SO_ACCEPTCONN), 0);
    EQ(get_int(l, SOL_SOCKET, SO_ACCEPTCONN), 1);
    socklen_t len = sizeof lg;
    lg = (struct linger){0, 0};
    OK(usk_getsockopt(a, SOL_SOCKET, SO_LINGER, &lg, &len));
    EQ(lg.l_onoff, 1);
    EQ(lg.l_linger, 5);
    lg = (struct linger){0, 0};
    OK(usk_setsockopt(a, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    OK(usk_close(a));
    OK(usk_close(c));

    /* accept returns a connection whose peer is gone already: after a reset its use is an error, after a close it is at
     * end of stream. */
    c = connected(SOCK_STREAM, to);
    OK(usk_close(c));
    a = (int)OK(usk_accept(l, NULL, NULL));
    EXPECT_EOF(a);
    OK(usk_close(a));
    c = connected(SOCK_STREAM, to);
    await(l, POLLIN);
    lg = (struct linger){1, 0};
    OK(usk_setsockopt(c, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    OK(usk_close(c));
    a = (int)OK(usk_accept(l, NULL, NULL));
    char b;
    await(a, POLLIN);
#ifdef ON_SERVER /* where a reset that came before accept reads as the end */
    CHECK(usk_recv(a, &b, 1, 0) == 0 || errno == ECONNRESET);
#else
    ERR(usk_recv(a, &b, 1, 0), ECONNRESET);
#endif
    OK(usk_close(a));

    /* A thread asleep in accept is woken by the call. */
    pthread_t t = spawn(call_in, &to);
    struct addr from;
    from.len = sizeof from.storage;
    a = (int)OK(usk_accept4(l, &from.sa, &from.len, SOCK_CLOEXEC));
    CHECK(same_addr(from, peer_name(a)));
    lg = (struct linger){0, 0};
    OK(usk_setsockopt(a, SOL_SOCKET, SO_LINGER, &lg, sizeof lg));
    OK(usk_close(a));
    join(t);
    OK(usk_close(l));

    /* Not listening: EINVAL; connected: EINVAL. */
    s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_accept(s, NULL, NULL), EINVAL);
    OK(usk_close(s));
    int fd[2];
    tcp_pair(AF_INET, fd);
    ERR(usk_accept(fd[0], NULL, NULL), EINVAL);
    ERR(usk_listen(fd[0], 1), EINVAL);
    close_pair(fd);
    return done();
}

/* SO_LINGER: {1,0} makes close a reset; the option reads back; a lingering close waits for the peer's ACK. */
#include "common.h"

static void set_linger(int fd, int on, int seconds)
{
    struct linger l = {.l_onoff = on, .l_linger = seconds};
    OK(usk_setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
}

static void abortive(int family)
{
    int fd[2];
    char c;
    tcp_pair(family, fd);
    send_all(fd[0], "lost?", 5);
    await_bytes(fd[1], 5);
    set_linger(fd[0], 1, 0);
    OK(usk_close(fd[0]));
    CHECK(await(fd[1], POLLERR) & POLLERR);
    int seen = ready(fd[1], POLLIN | POLLOUT | POLLRDHUP);
    EQ(seen, POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP);
    /* What had arrived before the reset is still there and comes first; then the error, once; then the end. */
    EQ(usk_recv(fd[1], &c, 1, MSG_PEEK), 1);
    EXPECT(fd[1], "lost?");
    ERR(usk_recv(fd[1], &c, 1, 0), ECONNRESET);
    EQ(usk_recv(fd[1], &c, 1, 0), 0);
    ERR(usk_send(fd[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    struct addr a;
    a.len = sizeof a.storage;
    ERR(usk_getpeername(fd[1], &a.sa, &a.len), ENOTCONN);
    OK(usk_close(fd[1]));

    /* The same told through send, and through SO_ERROR. */
    tcp_pair(family, fd);
    set_linger(fd[0], 1, 0);
    OK(usk_close(fd[0]));
    await(fd[1], POLLERR);
    ERR(usk_send(fd[1], "x", 1, MSG_NOSIGNAL), ECONNRESET);
    ERR(usk_send(fd[1], "x", 1, MSG_NOSIGNAL), EPIPE);
    OK(usk_close(fd[1]));
    tcp_pair(family, fd);
    set_linger(fd[0], 1, 0);
    OK(usk_close(fd[0]));
    await(fd[1], POLLERR);
    EQ(so_error(fd[1]), ECONNRESET);
    EQ(so_error(fd[1]), 0);
    EQ(ready(fd[1], POLLIN | POLLOUT), POLLIN | POLLOUT | POLLHUP); /* the error is gone, the hang-up stays */
    OK(usk_close(fd[1]));

    /* A peer that had closed its half first gets EPIPE instead. */
    tcp_pair(family, fd);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    set_linger(fd[0], 1, 0);
    OK(usk_close(fd[0]));
    await(fd[1], POLLERR);
    EQ(so_error(fd[1]), EPIPE);
    OK(usk_close(fd[1]));
}

/* shutdown both ways sends a FIN, and the reset of {1,0} waits for close, of the last descriptor. */
static void shut_down_before(int who, int ways)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    int a = fd[who], b = fd[!who], same = (int)OK(usk_dup(a));
    send_all(b, "unread", ways > 1 ? 6 : 0);
    set_linger(a, 1, 0);
    if (ways & 1)
        OK(usk_shutdown(a, SHUT_WR));
    OK(usk_shutdown(a, ways & 1 ? SHUT_RD : SHUT_RDWR));
    EXPECT_EOF(b);
    EQ(so_error(b), 0);
    CHECK(same_addr(peer_name(a), sock_name(b)) && same_addr(sock_name(a), peer_name(b)));
    OK(usk_close(a));
    CHECK(same_addr(peer_name(same), sock_name(b)));
    EQ(so_error(b), 0);
    OK(usk_close(same));
    await(b, 0);
    EQ(so_error(b), EPIPE); /* after the FIN */
    OK(usk_close(b));
}

static void *read_all(void *arg)
{
    int fd = *(int *)arg;
    char buf[4096];
    while (OK(usk_recv(fd, buf, sizeof buf, 0)) > 0)
        ;
    OK(usk_close(fd));
    return NULL;
}

int main(void)
{
    begin("linger");
    abortive(AF_INET);
    abortive(AF_INET6);
    for (int who = 0; who < 2; who++)
        for (int ways = 0; ways < 4; ways++)
            shut_down_before(who, ways);

    int fd[2];
    tcp_pair(AF_INET, fd);
    struct linger l = {.l_onoff = 1, .l_linger = 1};
    socklen_t len = sizeof l;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &l, &len));
    EQ(l.l_onoff, 0);
    EQ(l.l_linger, 0);
    set_linger(fd[0], 17, 30);
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &l, &len));
    EQ(l.l_onoff, 1); /* any non-zero is 1 */
    EQ(l.l_linger, 30);
    set_linger(fd[0], 0, 99);
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &l, &len));
    EQ(l.l_onoff, 0);
    EQ(l.l_linger, 30); /* switching off keeps the time */
    ERR(usk_setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &l, sizeof l - 1), EINVAL);
    set_linger(fd[0], 1, -1);
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &l, &len));
    EQ(l.l_onoff, 1);
    CHECK(l.l_linger != 0 && l.l_linger != -1); /* the longest time there is, cut to an int */
    set_linger(fd[0], 0, 0);
    /* Truncated get. */
    struct linger part = {-1, -1};
    len = 4;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &part, &len));
    EQ(len, 4);
    EQ(part.l_linger, -1);

    /* A lingering close of a full send queue returns once the reader has taken it all. */
    static char block[1 << 18];
    set_linger(fd[0], 1, 3600);
    OK(usk_send(fd[0], block, sizeof block, MSG_DONTWAIT));
    pthread_t t = spawn(read_all, &fd[1]);
    OK(usk_close(fd[0]));
    join(t);
    return done();
}

/* Half-close, both ways: the other direction keeps carrying bytes, and each end sees exactly one end of stream. */
#include "common.h"

static void client_first(int family)
{
    int fd[2];
    tcp_pair(family, fd);
    send_all(fd[0], "request", 7);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT(fd[1], "request");
    EXPECT_EOF(fd[1]);
    EXPECT_EOF(fd[1]); /* and again */
    EQ(ready(fd[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    send_all(fd[1], "answer one,", 11);
    EXPECT(fd[0], "answer one,");
    send_all(fd[1], " answer two", 11);
    OK(usk_shutdown(fd[1], SHUT_WR));
    EXPECT(fd[0], " answer two");
    EXPECT_EOF(fd[0]);
    EQ(await(fd[0], POLLHUP) & POLLHUP, POLLHUP);
    close_pair(fd);
}

static void server_first(int family)
{
    int fd[2];
    tcp_pair(family, fd);
    OK(usk_shutdown(fd[1], SHUT_WR));
    EXPECT_EOF(fd[0]);
    enum { TOTAL = 300000 };
    static unsigned char out[TOTAL], in[TOTAL];
    for (int i = 0; i < TOTAL; i++)
        out[i] = pattern(3, (uint64_t)i);
    for (int off = 0; off < TOTAL; off += 30000) {
        send_all(fd[0], out + off, 30000);
        EQ(recv_all(fd[1], in + off, 30000), 30000);
    }
    CHECK(memcmp(in, out, TOTAL) == 0);
    OK(usk_close(fd[0]));
    EXPECT_EOF(fd[1]);
    OK(usk_close(fd[1]));
}

/* close with everything read is an orderly end; close with bytes unread is a reset (RFC 2525 §2.17). */
static void close_with_unread_bytes_resets(void)
{
    int fd[2];
    char c;
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "never read", 10);
    await_bytes(fd[1], 10);
    OK(usk_close(fd[1]));
    CHECK(await(fd[0], POLLIN | POLLRDHUP) & POLLERR);
    ERR(usk_recv(fd[0], &c, 1, 0), ECONNRESET);
    EQ(usk_recv(fd[0], &c, 1, 0), 0);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    OK(usk_close(fd[0]));
}

/* Data sent to an end that is gone draws a reset; what had arrived before is lost with it only after that. */
static void send_to_closed_end(void)
{
    int fd[2];
    char c;
    tcp_pair(AF_INET, fd);
    OK(usk_close(fd[1]));
    EXPECT_EOF(fd[0]);
    OK(usk_send(fd[0], "x", 1, 0)); /* CLOSE_WAIT may send */
#ifdef ON_SERVER
    EQ(await(fd[0], POLLERR | POLLHUP) & POLLHUP, POLLHUP);
#else
    EQ(await(fd[0], POLLERR | POLLHUP) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
#endif
    EQ(so_error(fd[0]), EPIPE); /* a reset in CLOSE_WAIT is EPIPE, not ECONNRESET */
    EQ(usk_recv(fd[0], &c, 1, 0), 0);
    OK(usk_close(fd[0]));
}

/* Both ends close their writing side at once. */
static void simultaneous(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "from zero", 9);
    send_all(fd[1], "from one", 8);
    OK(usk_shutdown(fd[0], SHUT_WR));
    OK(usk_shutdown(fd[1], SHUT_WR));
    EXPECT(fd[1], "from zero");
    EXPECT_EOF(fd[1]);
    EXPECT(fd[0], "from one");
    EXPECT_EOF(fd[0]);
    close_pair(fd);
}

static void *block_in_recv(void *arg)
{
    char c;
    EQ(usk_recv(*(int *)arg, &c, 1, 0), 0);
    return NULL;
}

/* shutdown(SHUT_RD) and SHUT_RDWR wake a thread that sleeps in recv. */
static void shutdown_wakes_reader(int how)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    pthread_t t = spawn(block_in_recv, &fd[0]);
    OK(usk_shutdown(fd[0], how));
    join(t);
    close_pair(fd);
}

static void so_it_does_after_a_half_close(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "never read", 10);
    await_bytes(fd[1], 10);
    OK(usk_shutdown(fd[1], SHUT_WR));
    EXPECT_EOF(fd[0]);
    EQ(ready(fd[0], POLLOUT), POLLOUT);
    OK(usk_close(fd[1]));
    EQ(await(fd[0], 0) & POLLHUP, POLLHUP);
    EXPECT_EOF(fd[0]);
    OK(usk_close(fd[0]));
}

int main(void)
{
    begin("half_close");
    client_first(AF_INET);
    client_first(AF_INET6);
    server_first(AF_INET);
    server_first(AF_INET6);
    close_with_unread_bytes_resets();
    so_it_does_after_a_half_close();
    send_to_closed_end();
    simultaneous();
    shutdown_wakes_reader(SHUT_RD);
    shutdown_wakes_reader(SHUT_RDWR);
    return done();
}

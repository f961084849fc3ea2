/* Flags of recv and send: MSG_PEEK, MSG_WAITALL, MSG_TRUNC, MSG_DONTWAIT, MSG_MORE, SO_PEEK_OFF, SO_RCVLOWAT. */
#include "common.h"

static void *send_second_half(void *arg)
{
    int *fd = arg;
    char c;
    OK(read(fd[1], &c, 1));
    send_all(fd[0], "6789", 4);
    return NULL;
}

int main(void)
{
    begin("flags");
    int fd[2], p[2];
    char buf[64];
    tcp_pair(AF_INET, fd);

    ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT | MSG_WAITALL), EAGAIN);
    ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT | MSG_PEEK), EAGAIN);
    ERR(usk_recv(fd[1], buf, sizeof buf, MSG_ERRQUEUE), EAGAIN); /* never blocks */
    /* Room for nothing: read says 0 at once, recv still waits for the first byte. */
    EQ(usk_read(fd[1], buf, 0), 0);
    ERR(usk_recv(fd[1], buf, 0, MSG_DONTWAIT), EAGAIN);

    /* PEEK leaves the bytes, as often as asked, any length. */
    send_all(fd[0], "0123456789", 10);
    await_bytes(fd[1], 10);
    EQ(usk_recv(fd[1], buf, 0, 0), 0);
    for (int i = 1; i <= 10; i++) {
        memset(buf, 0, sizeof buf);
        EQ(usk_recv(fd[1], buf, (size_t)i, MSG_PEEK), i);
        CHECK(memcmp(buf, "0123456789", (size_t)i) == 0);
    }
    /* PEEK is not TRUNC: TCP's MSG_TRUNC throws bytes away instead of copying them, null pointer allowed. */
    EQ(usk_recv(fd[1], NULL, 3, MSG_TRUNC), 3);
    memset(buf, '.', sizeof buf);
    EQ(usk_recv(fd[1], buf, 2, MSG_TRUNC), 2);
    EQ(buf[0], '.');
    EXPECT(fd[1], "56789");

    /* WAITALL sleeps until the last byte is here. */
    OK(pipe(p));
    send_all(fd[0], "012345", 6);
    int arg[2] = {fd[0], p[0]};
    pthread_t t = spawn(send_second_half, arg);
    OK(write(p[1], "g", 1));
    memset(buf, 0, sizeof buf);
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL), 10);
    CHECK(memcmp(buf, "0123456789", 10) == 0);
    join(t);
    /* WAITALL with DONTWAIT takes what there is. */
    send_all(fd[0], "abc", 3);
    await_bytes(fd[1], 3);
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL | MSG_DONTWAIT), 3);
    /* O_NONBLOCK as well. */
    send_all(fd[0], "abc", 3);
    await_bytes(fd[1], 3);
    set_nonblock(fd[1], true);
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL), 3);
    ERR(usk_recv(fd[1], buf, 10, 0), EAGAIN);
    ERR(usk_read(fd[1], buf, 10), EAGAIN);
    set_nonblock(fd[1], false);
    int on = 1;
    OK(usk_ioctl(fd[1], FIONBIO, &on));
    EQ(usk_fcntl(fd[1], F_GETFL, 0), O_RDWR | O_NONBLOCK);
    on = 0;
    OK(usk_ioctl(fd[1], FIONBIO, &on));
    EQ(usk_fcntl(fd[1], F_GETFL, 0), O_RDWR);
    /* Flags of files are kept and mean nothing; direct access there is none. */
    OK(usk_fcntl(fd[1], F_SETFL, O_APPEND | O_NOATIME | O_TRUNC));
    EQ(usk_fcntl(fd[1], F_GETFL, 0), O_RDWR | O_APPEND | O_NOATIME);
    ERR(usk_fcntl(fd[1], F_SETFL, O_DIRECT | O_NONBLOCK), EINVAL);
    OK(usk_fcntl(fd[1], F_SETFL, 0));
    EQ(usk_fcntl(fd[1], F_GETFL, 0), O_RDWR);

    /* SO_RCVLOWAT: poll waits for that many, recv returns at least that many. */
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 4));
    send_all(fd[0], "abc", 3);
    EQ(usk_recv(fd[1], buf, 3, MSG_PEEK), 3); /* asks for fewer, so waits for no more */
#ifndef ON_SERVER
    EQ(ready(fd[1], POLLIN), 0);
#endif
    EQ(usk_recv(fd[1], buf, 8, MSG_DONTWAIT | MSG_PEEK), 3);
    send_all(fd[0], "d", 1);
    EQ(await(fd[1], POLLIN), POLLIN);
    EXPECT(fd[1], "abcd");
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 1));
    /* A mark beyond half of the buffer makes buffer and window grow. */
    EQ(get_int(fd[1], SOL_SOCKET, SO_RCVBUF), 131072);
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 100000));
    EQ(get_int(fd[1], SOL_SOCKET, SO_RCVBUF), 200000);
    EQ(get_int(fd[1], IPPROTO_TCP, TCP_WINDOW_CLAMP), 100000);
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 1));

    /* MSG_MORE holds a short segment back until a send without it. */
    OK(usk_send(fd[0], "mo", 2, MSG_MORE));
#ifndef ON_SERVER
    EQ(ready(fd[1], POLLIN), 0);
#endif
    OK(usk_send(fd[0], "re", 2, 0));
    await_bytes(fd[1], 4);
    EXPECT(fd[1], "more");
    /* TCP_CORK the same, and taking the cork out sends at once. */
    OK(set_int(fd[0], IPPROTO_TCP, TCP_CORK, 1));
    OK(usk_send(fd[0], "co", 2, 0));
    OK(usk_send(fd[0], "rk", 2, 0));
    EQ(ready(fd[1], POLLIN), 0);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_CORK, 0));
    EXPECT(fd[1], "cork");

    /* SO_PEEK_OFF: a peek starts at the offset and moves it; a read moves it back. */
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 2));
    send_all(fd[0], "0123456789", 10);
    await(fd[1], POLLIN);
    memset(buf, 0, sizeof buf);
    EQ(usk_recv(fd[1], buf, 3, MSG_PEEK | MSG_WAITALL), 3);
    CHECK(memcmp(buf, "234", 3) == 0);
    EQ(get_int(fd[1], SOL_SOCKET, SO_PEEK_OFF), 5);
    EQ(usk_recv(fd[1], buf, 2, MSG_PEEK | MSG_WAITALL), 2);
    CHECK(memcmp(buf, "56", 2) == 0);
    EQ(usk_recv(fd[1], buf, 3, 0), 3);
    CHECK(memcmp(buf, "012", 3) == 0);
    EQ(get_int(fd[1], SOL_SOCKET, SO_PEEK_OFF), 4);
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, -1));
    EXPECT(fd[1], "3456789");

    /* PEEK and WAITALL at the end of the stream: what there is, then 0. */
    send_all(fd[0], "xy", 2);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL | MSG_PEEK), 2);
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL), 2);
    EQ(usk_recv(fd[1], buf, 10, MSG_WAITALL | MSG_PEEK), 0);
    EQ(usk_recv(fd[1], buf, 10, MSG_DONTWAIT), 0);
    close_pair(fd);

    /* A full send buffer: DONTWAIT takes a part, then EAGAIN; poll agrees. */
    tcp_pair(AF_INET, fd);
    static char block[1 << 20];
    long n = 0, r;
    while ((r = usk_send(fd[0], block, sizeof block, MSG_DONTWAIT)) > 0)
        n += r;
    EQ(r, -1);
    EQ(errno, EAGAIN);
    CHECK(n > 0);
    EQ(ready(fd[0], POLLOUT), 0);
    while (n > 0) {
        r = OK(usk_recv(fd[1], NULL, sizeof block, MSG_TRUNC));
        CHECK(r > 0);
        n -= r;
    }
    EQ(await(fd[0], POLLOUT), POLLOUT);
    close_pair(fd);

    /* Flags that are no flags of recv or send are not looked at, as in Linux. */
    tcp_pair(AF_INET, fd);
    EQ(usk_send(fd[0], "z", 1, MSG_CONFIRM | MSG_DONTROUTE), 1);
    EXPECT(fd[1], "z");
    /* Disconnecting forgets the offset of peeks. */
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 3));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd[1], &none, sizeof none));
    EQ(get_int(fd[1], SOL_SOCKET, SO_PEEK_OFF), -1);
    close_pair(fd);
    OK(close(p[0]));
    OK(close(p[1]));
    return done();
}

/* Urgent data: MSG_OOB, SO_OOBINLINE, SIOCATMARK, POLLPRI, exceptfds, SIGURG's owner. One urgent byte at a time; a
 * read never runs across the mark. */
#include "common.h"

static int at_mark(int fd)
{
    int mark = -1;
    OK(usk_ioctl(fd, SIOCATMARK, &mark));
    return mark;
}

static void out_of_band(int family)
{
    int fd[2];
    char c, buf[16];
    tcp_pair(family, fd);
    ERR(usk_recv(fd[1], &c, 1, MSG_OOB), EINVAL); /* nothing urgent was announced */
    EQ(ready(fd[1], POLLPRI), 0);

    OK(usk_send(fd[0], "ab", 2, 0));
    EQ(usk_send(fd[0], "cX", 2, MSG_OOB), 2); /* the last byte is the urgent one */
    OK(usk_send(fd[0], "de", 2, 0));
    EQ(await(fd[1], POLLPRI), POLLPRI);
    fd_set e;
    FD_ZERO(&e);
    FD_SET(fd[1], &e);
    EQ(usk_select(fd[1] + 1, NULL, NULL, &e, NULL), 1);
    CHECK(FD_ISSET(fd[1], &e));
    await_bytes(fd[1], 3);
    EQ(at_mark(fd[1]), 0);
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB | MSG_PEEK), 1);
    ERR(usk_recv(fd[1], (void *)16, 1, MSG_OOB | MSG_PEEK), EFAULT);
    EQ(c, 'X');
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB), 1);
    EQ(c, 'X');
    EQ(usk_recv(fd[1], buf, 0, MSG_DONTWAIT), 0);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 3); /* stops before the mark, though more is there */
    CHECK(memcmp(buf, "abc", 3) == 0);
    EQ(at_mark(fd[1]), 1);
    EXPECT(fd[1], "de"); /* the urgent byte itself is not in the stream */
    /* An urgent byte is one that a read of none finds, if nothing else is there. */
    ERR(usk_recv(fd[1], buf, 0, MSG_DONTWAIT), EAGAIN);
    EQ(usk_send(fd[0], "Y", 1, MSG_OOB), 1);
    EQ(await(fd[1], POLLPRI), POLLPRI);
    EQ(usk_recv(fd[1], buf, 0, MSG_DONTWAIT), 0);
    EQ(usk_recv(fd[1], buf, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC), 0);
    struct msghdr none = {.msg_iov = NULL};
    EQ(usk_recv(fd[1], buf, 0, 0), 0);
    EQ(usk_recvmsg(fd[1], &none, MSG_DONTWAIT), 0);
    EQ(usk_recvmsg(fd[1], &none, 0), 0);
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB), 1);
    EQ(c, 'Y');
    send_all(fd[0], "z", 1);
    EXPECT(fd[1], "z");
    EQ(at_mark(fd[1]), 0);
    EQ(ready(fd[1], POLLPRI), 0);
    ERR(usk_recv(fd[1], &c, 1, MSG_OOB), EINVAL); /* it was taken */
    close_pair(fd);
}

static void in_line(void)
{
    int fd[2];
    char c, buf[16];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[1], SOL_SOCKET, SO_OOBINLINE, 1));
    OK(usk_send(fd[0], "ab", 2, 0));
    OK(usk_send(fd[0], "X", 1, MSG_OOB));
    OK(usk_send(fd[0], "cd", 2, 0));
    await(fd[1], POLLPRI);
    ERR(usk_recv(fd[1], &c, 1, MSG_OOB), EINVAL); /* in line, it cannot be had otherwise */
    await_bytes(fd[1], 2);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 2);
    CHECK(memcmp(buf, "ab", 2) == 0);
    EQ(at_mark(fd[1]), 1);
    CHECK(ready(fd[1], POLLPRI | POLLIN) & POLLIN);
    EXPECT(fd[1], "Xcd");
    EQ(at_mark(fd[1]), 0);
    close_pair(fd);
}

/* A second urgent byte moves the mark; the first, unread, becomes an ordinary byte at its place in the stream. */
static void replaced(void)
{
    int fd[2];
    char c, buf[16];
    tcp_pair(AF_INET, fd);
    OK(usk_send(fd[0], "aX", 2, MSG_OOB));
    await(fd[1], POLLPRI);
    OK(usk_send(fd[0], "bY", 2, MSG_OOB));
    /* recv MSG_OOB sees Y once it is here; until then X. */
    do
        EQ(usk_recv(fd[1], &c, 1, MSG_OOB | MSG_PEEK), 1);
    while (c == 'X');
    EQ(c, 'Y');
    await_bytes(fd[1], 3);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 3);
    CHECK(memcmp(buf, "aXb", 3) == 0);
    EQ(at_mark(fd[1]), 1);
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB), 1);
    EQ(c, 'Y');
    close_pair(fd);
}

/* The mark may stand at the very end: the read before it ends there and the next one blocks. */
static void at_the_end(void)
{
    int fd[2];
    char c, buf[16];
    tcp_pair(AF_INET, fd);
    OK(usk_send(fd[0], "abX", 3, MSG_OOB));
    await_bytes(fd[1], 2);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 2);
    await(fd[1], POLLPRI);
    EQ(at_mark(fd[1]), 1);
#ifndef ON_SERVER /* where poll says IN of it, too */
    EQ(ready(fd[1], POLLIN | POLLPRI), POLLPRI);
#endif
    /* A read that starts at the mark passes it, even one that ends in EAGAIN; the byte is then gone for MSG_OOB. */
    ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    EQ(ready(fd[1], POLLIN | POLLPRI), 0);
    EQ(at_mark(fd[1]), 0);
    ERR(usk_recv(fd[1], &c, 1, MSG_OOB), EINVAL);
    /* A buffer of no bytes: MSG_TRUNC is set, and the byte is gone. */
    OK(usk_send(fd[0], "Z", 1, MSG_OOB));
    await(fd[1], POLLPRI);
    struct iovec iov = {.iov_base = buf, .iov_len = 0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
#ifdef ON_SERVER /* as AF_UNIX has it */
    EQ(usk_recvmsg(fd[1], &m, MSG_OOB), 1);
#else
    EQ(usk_recvmsg(fd[1], &m, MSG_OOB), 0);
    CHECK(m.msg_flags & MSG_TRUNC);
#endif
    ERR(usk_recv(fd[1], &c, 1, MSG_OOB), EINVAL);
    OK(usk_send(fd[0], "W", 1, MSG_OOB));
    do
        await(fd[1], POLLPRI);
    while (usk_recv(fd[1], &c, 1, MSG_OOB | MSG_PEEK) != 1);
    iov.iov_len = 1;
    EQ(usk_recvmsg(fd[1], &m, MSG_OOB), 1);
    CHECK(m.msg_flags & MSG_OOB);
    EQ(buf[0], 'W');
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB | MSG_DONTWAIT), -1);
    close_pair(fd);
}

/* A message with control data that TCP does not take is refused before a byte of it is sent; what is of another level
 * does not matter. */
static void refused_messages(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec parts[] = {{"ab", 2}, {"", 0}, {"cX", 2}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 3, .msg_control = &control, .msg_controllen = sizeof control};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = 0x7777;
    for (m.msg_iovlen = 1; m.msg_iovlen <= 3; m.msg_iovlen++)
        ERR(usk_sendmsg(fd[0], &m, MSG_OOB), EINVAL);
    m.msg_control = (void *)1;
    ERR(usk_sendmsg(fd[0], &m, MSG_OOB), EFAULT);
    m.msg_control = &control;
    control.header.cmsg_level = IPPROTO_UDP;
    m.msg_iovlen = 3;
    EQ(usk_sendmsg(fd[0], &m, MSG_OOB), 4);
    EQ(await(fd[1], POLLPRI), POLLPRI);
    char c;
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB), 1);
    EQ(c, 'X');
    OK(usk_close(fd[0]));
    EXPECT(fd[1], "abc");
    EXPECT_EOF(fd[1]);
    OK(usk_close(fd[1]));
}

/* A read of no bytes does not wait behind what was peeked at. */
static void peeked(void)
{
    int fd[2], begin_at = 0;
    char buf[16];
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "abc", 3);
    OK(usk_setsockopt(fd[1], SOL_SOCKET, SO_PEEK_OFF, &begin_at, sizeof begin_at));
    EQ(usk_recv(fd[1], buf, 3, MSG_PEEK | MSG_WAITALL), 3);
    EQ(usk_recv(fd[1], buf, 0, 0), 0);
    EQ(usk_recv(fd[1], buf, 0, MSG_WAITALL), 0);
    EXPECT(fd[1], "abc");
    close_pair(fd);
}

/* recvmmsg takes messages without bytes as recvmsg does: an urgent byte is one that such a message finds, also after it
 * was read, and it stays. */
static void several_messages(void)
{
    int fd[2];
    char c, buf[16];
    struct iovec none = {buf, 0}, some = {buf, sizeof buf};
    struct mmsghdr m[3] = {{.msg_hdr = {.msg_iov = &none, .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = NULL}},
                           {.msg_hdr = {.msg_iov = &some, .msg_iovlen = 1}}};
    tcp_pair(AF_INET, fd);
    ERR(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, NULL), EAGAIN);
    EQ(usk_send(fd[0], "X", 1, MSG_OOB), 1);
    EQ(await(fd[1], POLLPRI), POLLPRI);
    m[0].msg_len = m[1].msg_len = 99;
    EQ(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, NULL), 2);
    EQ(m[0].msg_len + m[1].msg_len, 0);
    EQ(usk_recvmmsg(fd[1], m, 2, 0, NULL), 2);
    EQ(at_mark(fd[1]), 1);
    EQ(usk_recv(fd[1], &c, 1, MSG_OOB), 1);
    EQ(c, 'X');
    EQ(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, NULL), 2);
    EQ(usk_recv(fd[1], buf, 0, MSG_DONTWAIT), 0);
    /* What is left of the time is told, and where none is the call ends. */
    struct timespec t = {3600, 0};
    EQ(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, &t), 2);
    CHECK(t.tv_sec == 3599 && t.tv_nsec > 0);
    t = (struct timespec){0, 1};
    EQ(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, &t), 1);
    CHECK(t.tv_sec == 0 && t.tv_nsec == 0);
    t.tv_sec = -1;
    ERR(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, &t), EINVAL);
    send_all(fd[0], "de", 2);
    EQ(usk_recvmmsg(fd[1], m, 3, 0, NULL), 3);
    CHECK(m[2].msg_len >= 1 && buf[0] == 'd');
    EQ(usk_recvmmsg(fd[1], m, 0, MSG_DONTWAIT, NULL), 0);
    if (m[2].msg_len == 1)
        EXPECT(fd[1], "e");
    ERR(usk_recvmmsg(fd[1], m, 3, MSG_DONTWAIT, NULL), EAGAIN);
    /* An urgent byte that a read has passed is none any more. */
    EQ(usk_send(fd[0], "Y", 1, MSG_OOB), 1);
    EQ(await(fd[1], POLLPRI), POLLPRI);
    send_all(fd[0], "f", 1);
    EXPECT(fd[1], "f");
    ERR(usk_recvmmsg(fd[1], m, 2, MSG_DONTWAIT, NULL), EAGAIN);
    /* Each finds the end of the stream. */
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    OK(usk_shutdown(fd[1], SHUT_WR));
    EQ(usk_recvmmsg(fd[1], m, 3, 0, NULL), 3);
    close_pair(fd);
}

int main(void)
{
    begin("urgent");
    peeked();
    refused_messages();
    out_of_band(AF_INET);
    out_of_band(AF_INET6);
    in_line();
    replaced();
    at_the_end();
    several_messages();

    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    char c;
    ERR(usk_recv(s, &c, 1, MSG_OOB), EINVAL); /* before it looks at the state */
    OK(usk_close(s));
    s = bound(SOCK_DGRAM, local(AF_INET));
    struct addr a = sock_name(s);
    ERR(usk_sendto(s, "x", 1, MSG_OOB, &a.sa, a.len), EOPNOTSUPP);
    OK(usk_close(s));
    return done();
}

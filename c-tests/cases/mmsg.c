/* sendmmsg and recvmmsg: counts, per-message lengths, errors after a part was done, MSG_WAITFORONE. */
#include "common.h"

/* An error that a message causes ends the call at the next one, whether all go to one destination or not. */
static void errors_of_messages(void)
{
    int to = bound(SOCK_DGRAM, local(AF_INET)), fd = bound(SOCK_DGRAM, local(AF_INET));
    int gone = bound(SOCK_DGRAM, local(AF_INET));
    struct addr open = sock_name(to), from = sock_name(fd), closed = sock_name(gone);
    OK(usk_close(gone));
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    struct mmsghdr m[6];
    memset(m, 0, sizeof m);
    for (int i = 0; i < 6; i++) {
        m[i].msg_hdr.msg_iov = &iov;
        m[i].msg_hdr.msg_iovlen = 1;
        m[i].msg_hdr.msg_name = i == 3 ? &closed : &open;
        m[i].msg_hdr.msg_namelen = open.len;
    }
    /* Without IP_RECVERR an unconnected socket is not told. */
    EQ(usk_sendmmsg(fd, m, 6, 0), 6);
    set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
    EQ(usk_sendmmsg(fd, m, 6, 0), 4);
    EQ(usk_sendmmsg(fd, m, 6, 0), 4);
    EQ(usk_sendmmsg(fd, m, 3, 0), 3);
    for (int i = 0; i < 5 + 3 + 3 + 3; i++)
        EQ(usk_recv(to, &byte, 1, MSG_DONTWAIT), 1);
    ERR(usk_recv(to, &byte, 1, MSG_DONTWAIT), EAGAIN);

    /* The receiver takes datagrams of one source only; control data gives a message another. */
    OK(usk_connect(to, &from.sa, from.len));
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } control;
    memset(&control, 0, sizeof control);
    control.header = (struct cmsghdr){
        .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo))};
    struct in_pktinfo info = {.ipi_spec_dst = {htonl(INADDR_LOOPBACK + 1)}};
    memcpy(CMSG_DATA(&control.header), &info, sizeof info);
    OK(usk_close(fd));
    int any = bound(SOCK_DGRAM, at("0.0.0.0", port_of(from)));
    set_int(any, IPPROTO_IP, IP_RECVERR, 1);
    m[3].msg_hdr.msg_name = &open;
    m[2].msg_hdr.msg_control = &control;
    m[2].msg_hdr.msg_controllen = sizeof control;
    EQ(usk_sendmmsg(any, m, 6, 0), 3);
    EQ(usk_recv(to, &byte, 1, MSG_DONTWAIT), 1);
    EQ(usk_recv(to, &byte, 1, MSG_DONTWAIT), 1);
    ERR(usk_recv(to, &byte, 1, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(any));
    OK(usk_close(to));

    /* Connected to nobody: the first message is sent, the second learns of it. */
    fd = connected(SOCK_DGRAM, closed);
    for (int i = 0; i < 6; i++)
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
    EQ(usk_sendmmsg(fd, m, 6, 0), 1);
    EQ(usk_sendmmsg(fd, m, 6, 0), 1);
    OK(usk_close(fd));
}

/* More messages than one turn of softirq takes arrive in their order, and are there when the call returns. */
static void many_messages(void)
{
    enum { MANY = 150 };
    int fd[2];
    udp_pair(AF_INET, fd);
    unsigned char bytes[MANY];
    struct iovec iov[MANY];
    struct mmsghdr m[MANY];
    memset(m, 0, sizeof m);
    for (int i = 0; i < MANY; i++) {
        bytes[i] = (unsigned char)i;
        iov[i] = (struct iovec){&bytes[i], 1};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    EQ(usk_sendmmsg(fd[0], m, MANY, 0), MANY);
    memset(bytes, 0, sizeof bytes);
    EQ(usk_recvmmsg(fd[1], m, MANY, MSG_DONTWAIT, NULL), MANY);
    for (int i = 0; i < MANY; i++)
        EQ(bytes[i], i);
    close_pair(fd);
}

/* What is left of the timeout is written back behind the last message, and nothing when there was none. */
static void time_left(void)
{
    int fd[2];
    udp_pair(AF_INET, fd);
    char bytes[3];
    struct iovec iov[3];
    struct mmsghdr m[3];
    memset(m, 0, sizeof m);
    for (int i = 0; i < 3; i++) {
        iov[i] = (struct iovec){&bytes[i], 1};
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    struct timespec t = {1000, 0};
    ERR(usk_recvmmsg(fd[1], m, 3, MSG_DONTWAIT, &t), EAGAIN);
    EQ(t.tv_sec, 1000);
    EQ(t.tv_nsec, 0);
    EQ(usk_recvmmsg(fd[1], m, 0, MSG_DONTWAIT, &t), 0);
    EQ(t.tv_sec, 1000);
    for (int all = 0; all < 2; all++) {
        EQ(usk_sendmmsg(fd[0], m, 2 + all, 0), 2 + all);
        await(fd[1], POLLIN);
        t = (struct timespec){1000, 0};
        EQ(usk_recvmmsg(fd[1], m, 3, MSG_DONTWAIT, &t), 2 + all);
        CHECK(t.tv_sec < 1000 && t.tv_sec >= 0 && (t.tv_sec > 0 || t.tv_nsec > 0));
    }
    /* None is left behind the first message. */
    EQ(usk_sendmmsg(fd[0], m, 2, 0), 2);
    await(fd[1], POLLIN);
    t = (struct timespec){0, 0};
    EQ(usk_recvmmsg(fd[1], m, 3, MSG_DONTWAIT, &t), 1);
    EQ(t.tv_sec, 0);
    EQ(t.tv_nsec, 0);
    t = (struct timespec){0, 1};
    EQ(usk_recvmmsg(fd[1], m, 3, MSG_DONTWAIT, &t), 1);
    EQ(t.tv_sec, 0);
    EQ(t.tv_nsec, 0);
    close_pair(fd);
}

int main(void)
{
    begin("mmsg");
    time_left();
    errors_of_messages();
    many_messages();
    int fd[2];
    udp_pair(AF_INET, fd);
    enum { N = 16 };
    char out[N][64], in[N][64];
    struct iovec oi[N], ii[N];
    struct mmsghdr om[N], im[N];
    memset(om, 0, sizeof om);
    memset(im, 0, sizeof im);
    for (int i = 0; i < N; i++) {
        memset(out[i], 'a' + i, sizeof out[i]);
        oi[i] = (struct iovec){out[i], (size_t)(i * 4)};
        ii[i] = (struct iovec){in[i], sizeof in[i]};
        om[i].msg_hdr.msg_iov = &oi[i];
        om[i].msg_hdr.msg_iovlen = 1;
        im[i].msg_hdr.msg_iov = &ii[i];
        im[i].msg_hdr.msg_iovlen = 1;
    }
    EQ(usk_sendmmsg(fd[0], om, N, 0), N);
    for (int i = 0; i < N; i++)
        EQ(om[i].msg_len, i * 4);
    EQ(usk_recvmmsg(fd[1], im, N, 0, NULL), N);
    for (int i = 0; i < N; i++) {
        EQ(im[i].msg_len, i * 4);
        CHECK(memcmp(in[i], out[i], (size_t)(i * 4)) == 0);
    }
    EQ(usk_sendmmsg(fd[0], om, 0, 0), 0);
    EQ(usk_recvmmsg(fd[1], im, 0, 0, NULL), 0);
    ERR(usk_recvmmsg(fd[1], im, N, MSG_DONTWAIT, NULL), EAGAIN);

    /* WAITFORONE: sleeps for the first only. */
    EQ(usk_sendmmsg(fd[0], om, 3, 0), 3);
    await(fd[1], POLLIN);
    int n = 0;
    while (n < 3) {
        int r = (int)OK(usk_recvmmsg(fd[1], im, N, MSG_WAITFORONE, NULL));
        CHECK(r >= 1);
        n += r;
    }
    EQ(n, 3);
    EQ(ready(fd[1], POLLIN), 0);

    /* An error after the first message: the count of those done, and the bad one fails when it comes first. */
    oi[2].iov_len = 70000;
    static char big[70000];
    oi[2].iov_base = big;
    EQ(usk_sendmmsg(fd[0], om, N, 0), 2);
    ERR(usk_sendmmsg(fd[0], om + 2, N - 2, 0), EMSGSIZE);
    EQ(usk_recvmmsg(fd[1], im, 2, 0, NULL), 2);
    EQ(im[0].msg_len, 0);
    EQ(im[1].msg_len, 4);

    /* An error behind the first message is the next call's. */
    EQ(usk_sendmmsg(fd[0], om, 2, 0), 2);
    im[1].msg_hdr.msg_iovlen = 2000;
    EQ(usk_recvmmsg(fd[1], im, 3, MSG_DONTWAIT, NULL), 1);
    ERR(usk_recv(fd[1], in[0], sizeof in[0], MSG_DONTWAIT), EMSGSIZE);
    im[1].msg_hdr.msg_iovlen = 1;
    EQ(usk_recvmmsg(fd[1], im, 3, MSG_DONTWAIT, NULL), 1);
    EQ(im[0].msg_len, 4);
    ERR(usk_recvmmsg(fd[1], im, 3, MSG_DONTWAIT, NULL), EAGAIN);

    /* A timeout that is no time. */
    struct timespec bad = {.tv_sec = -1};
    ERR(usk_recvmmsg(fd[1], im, 1, 0, &bad), EINVAL);
    bad = (struct timespec){.tv_nsec = 1000000000};
    ERR(usk_recvmmsg(fd[1], im, 1, 0, &bad), EINVAL);
    ERR(usk_sendmmsg(-1, om, 1, 0), EBADF);
    ERR(usk_recvmmsg(-1, im, 1, 0, NULL), EBADF);
    ERR(usk_sendmmsg(fd[0], NULL, 1, 0), EFAULT);
    close_pair(fd);

    /* On TCP the messages are joined into one stream. */
    tcp_pair(AF_INET, fd);
    struct iovec t[3] = {{"one,", 4}, {"two,", 4}, {"three", 5}};
    for (int i = 0; i < 3; i++)
        om[i].msg_hdr.msg_iov = &t[i];
    EQ(usk_sendmmsg(fd[0], om, 3, 0), 3);
    EXPECT(fd[1], "one,two,three");
    send_all(fd[0], "abcdefgh", 8);
    await_bytes(fd[1], 8);
    for (int i = 0; i < 2; i++)
        ii[i].iov_len = 4;
    EQ(usk_recvmmsg(fd[1], im, 2, 0, NULL), 2);
    EQ(im[0].msg_len, 4);
    EQ(im[1].msg_len, 4);
    CHECK(memcmp(in[0], "abcd", 4) == 0 && memcmp(in[1], "efgh", 4) == 0);

    /* Urgent data ends the call: there is no more of it, which the next call is not told. */
    EQ(usk_send(fd[0], "u", 1, MSG_OOB), 1);
    await(fd[1], POLLPRI);
    EQ(usk_recvmmsg(fd[1], im, 2, MSG_OOB, NULL), 1);
    CHECK(im[0].msg_len == 1 && in[0][0] == 'u');
    ERR(usk_recv(fd[1], in[0], 1, MSG_DONTWAIT), EAGAIN);
    close_pair(fd);
    return done();
}

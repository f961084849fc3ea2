/* SO_RCVTIMEO and SO_SNDTIMEO: a blocking call gives up with EAGAIN (EINPROGRESS for connect); values round to
 * microseconds as Linux keeps them. No time is measured here. */
#include "common.h"

static void set_time(int fd, int name, long sec, long usec)
{
    struct timeval t = {.tv_sec = sec, .tv_usec = usec};
    OK(usk_setsockopt(fd, SOL_SOCKET, name, &t, sizeof t));
}

int main(void)
{
    begin("timeouts");
    int fd[2];
    char c;
    tcp_pair(AF_INET, fd);
    struct timeval t = {9, 9};
    socklen_t len = sizeof t;
    int both[2] = {SO_RCVTIMEO, SO_SNDTIMEO};
    for (int i = 0; i < 2; i++) {
        OK(usk_getsockopt(fd[0], SOL_SOCKET, both[i], &t, &len));
        EQ(len, sizeof t);
        EQ(t.tv_sec, 0);
        EQ(t.tv_usec, 0);
        set_time(fd[0], both[i], 2, 500000);
        OK(usk_getsockopt(fd[0], SOL_SOCKET, both[i], &t, &len));
        EQ(t.tv_sec, 2);
        EQ(t.tv_usec, 500000);
        t = (struct timeval){0, 1000000};
        ERR(usk_setsockopt(fd[0], SOL_SOCKET, both[i], &t, sizeof t), EDOM);
        t = (struct timeval){0, -1};
        ERR(usk_setsockopt(fd[0], SOL_SOCKET, both[i], &t, sizeof t), EDOM);
        t = (struct timeval){1, 0};
        ERR(usk_setsockopt(fd[0], SOL_SOCKET, both[i], &t, sizeof t - 1), EINVAL);
        ERR(usk_setsockopt(fd[0], SOL_SOCKET, both[i], &t, 0), EINVAL);
        set_time(fd[0], both[i], -5, 0); /* negative: taken, and means not to wait at all; reads back as 0 */
        OK(usk_getsockopt(fd[0], SOL_SOCKET, both[i], &t, &len));
        EQ(t.tv_sec, 0);
        EQ(t.tv_usec, 0);
        set_time(fd[0], both[i], 0, 0);
    }

    set_time(fd[0], SO_RCVTIMEO, 0, 1);
    ERR(usk_recv(fd[0], &c, 1, 0), EAGAIN);
    ERR(usk_recv(fd[0], &c, 1, MSG_PEEK), EAGAIN);
    EQ(usk_recv(fd[0], &c, 0, 0), 0); /* waits as well, and has what it wanted */
    ERR(usk_recv(fd[0], &c, 0, MSG_DONTWAIT), EAGAIN);
    struct iovec nothing = {&c, 0};
    for (int named = 0; named < 2; named++) {
        char name[32], control[64];
        struct msghdr m = {.msg_iov = &nothing, .msg_iovlen = 1, .msg_control = control, .msg_flags = 0x55};
        m.msg_controllen = sizeof control;
        m.msg_name = named ? name : NULL;
        m.msg_namelen = named ? sizeof name : 0;
        EQ(usk_recvmsg(fd[0], &m, 0), 0);
        EQ(m.msg_flags, 0);
        EQ(m.msg_controllen, 0);
        EQ(m.msg_namelen, 0);
    }
    struct msghdr m = {.msg_iov = &nothing, .msg_iovlen = 1};
    ERR(usk_recvmsg(fd[0], &m, MSG_DONTWAIT), EAGAIN);
    ERR(usk_recv(fd[0], &c, 0, MSG_DONTWAIT | MSG_TRUNC), EAGAIN);
    ERR(usk_recv(fd[0], &c, 1, MSG_WAITALL), EAGAIN);
    send_all(fd[1], "ab", 2);
    await_bytes(fd[0], 2);
    char buf[8];
    EQ(usk_recv(fd[0], buf, sizeof buf, MSG_WAITALL), 2); /* what came in time */
    set_time(fd[0], SO_RCVTIMEO, -1, 0);
    ERR(usk_recv(fd[0], &c, 1, 0), EAGAIN);

    set_time(fd[0], SO_SNDTIMEO, 0, 1000);
    static char block[1 << 16];
    long n;
    do
        n = usk_send(fd[0], block, sizeof block, 0);
    while (n > 0);
    EQ(n, -1);
    EQ(errno, EAGAIN);
    close_pair(fd);

    /* accept obeys SO_RCVTIMEO; what it accepts inherits the value. */
    int l = listener(local(AF_INET), 4);
    set_time(l, SO_RCVTIMEO, 0, 1000);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    set_time(l, SO_RCVTIMEO, 7, 0);
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    len = sizeof t;
    OK(usk_getsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &t, &len));
    EQ(t.tv_sec, 7);
    close_pair(fd);
    OK(usk_close(l));

#ifndef ON_SERVER /* at whose listener no connection waits for long */
    /* connect obeys SO_SNDTIMEO: EINPROGRESS, then EALREADY. */
    l = listener(local(AF_INET), 0);
    struct addr to = sock_name(l);
    int filler = connected(SOCK_STREAM, to);
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    set_time(s, SO_SNDTIMEO, 0, 1000);
    ERR(usk_connect(s, &to.sa, to.len), EINPROGRESS);
    set_time(s, SO_SNDTIMEO, -1, 0);
    ERR(usk_connect(s, &to.sa, to.len), EALREADY);
    OK(usk_close(s));
    OK(usk_close(filler));
    OK(usk_close(l));
#endif

    udp_pair(AF_INET, fd);
    set_time(fd[0], SO_RCVTIMEO, 0, 1000);
    ERR(usk_recv(fd[0], &c, 1, 0), EAGAIN);
    close_pair(fd);
    return done();
}

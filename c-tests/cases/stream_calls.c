/* Calls on a stream that a stack server's shim must see, though the data of its sockets are the kernel's: those of the
 * error queue, Fast Open's send that connects, pointers that lead nowhere. */
#include "common.h"

/* Nothing is on the error queue, and the stream's bytes stay, whichever call asks. */
static void error_queue(int fd[2])
{
    char b[8];
    struct addr from = {.len = sizeof from.storage};
    struct iovec iov = {b, sizeof b};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    struct mmsghdr named = {.msg_hdr = {
        .msg_name = &from, .msg_namelen = sizeof from.storage, .msg_iov = &iov, .msg_iovlen = 1}};
    ERR(usk_recv(fd[1], b, sizeof b, MSG_ERRQUEUE), EAGAIN); /* it never waits */
    send_all(fd[0], "kept", 4);
    await_bytes(fd[1], 4);
    ERR(usk_recv(fd[1], b, sizeof b, MSG_ERRQUEUE), EAGAIN);
    ERR(usk_recvfrom(fd[1], b, sizeof b, MSG_ERRQUEUE, NULL, NULL), EAGAIN);
    ERR(usk_recvfrom(fd[1], b, sizeof b, MSG_ERRQUEUE, &from.sa, &from.len), EAGAIN);
    ERR(usk_recvmsg(fd[1], &m.msg_hdr, MSG_ERRQUEUE), EAGAIN);
    ERR(usk_recvmsg(fd[1], &named.msg_hdr, MSG_ERRQUEUE), EAGAIN);
    ERR(usk_recvmmsg(fd[1], &m, 1, MSG_ERRQUEUE, NULL), EAGAIN);
    ERR(usk_recvmmsg(fd[1], &named, 1, MSG_ERRQUEUE, NULL), EAGAIN);
    EQ(usk_recv(fd[1], b, sizeof b, 0), 4);
    CHECK(memcmp(b, "kept", 4) == 0);
}

/* A send that connects, by each call; and by a connect that may leave the handshake to the first write. */
static void fast_open(void)
{
    int l = listener(local(AF_INET), 8);
    struct addr to = sock_name(l);
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    struct iovec iov = {"hello", 5};
    struct msghdr m = {.msg_name = &to, .msg_namelen = to.len, .msg_iov = &iov, .msg_iovlen = 1};
    for (int how = 0; how < 3; how++) {
        int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
        if (how == 0)
            EQ(usk_sendto(c, "hello", 5, MSG_FASTOPEN, &to.sa, to.len), 5);
        else if (how == 1)
            EQ(usk_sendmsg(c, &m, MSG_FASTOPEN), 5);
        else {
            OK(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1));
            OK(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1));
            OK(usk_connect(c, &to.sa, to.len));
            EQ(usk_send(c, "hello", 5, 0), 5);
        }
        if (how < 2)
            ERR(usk_sendto(c, "x", 1, MSG_FASTOPEN, &to.sa, to.len), EISCONN);
        int a = (int)OK(usk_accept(l, NULL, NULL));
        char in[8];
        EQ(usk_recv(a, in, 5, MSG_WAITALL), 5);
        CHECK(memcmp(in, "hello", 5) == 0);
        OK(usk_close(a));
        OK(usk_close(c));
    }
    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_sendto(c, "x", 1, MSG_FASTOPEN, &unspec, sizeof unspec), EOPNOTSUPP);
    ERR(usk_sendto(c, "x", 1, MSG_FASTOPEN, &to.sa, 8), EINVAL);
    OK(usk_close(c));
    OK(usk_close(l));
}

static void bad_pointers(int fd[2])
{
    static char *const bad[] = {NULL, (char *)8, (char *)-4096};
    char *none = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(none != MAP_FAILED && mprotect(none + 4096, 4096, PROT_NONE) == 0);
    for (int i = 0; i <= COUNT(bad); i++) {
        char *p = i < COUNT(bad) ? bad[i] : none + 4096;
        int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), v = 1;
        socklen_t len = sizeof v;
        ERR(usk_bind(s, (struct sockaddr *)p, 16), EFAULT);
        ERR(usk_connect(s, (struct sockaddr *)p, 16), EFAULT);
        ERR(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, p, sizeof v), EFAULT);
        ERR(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, p, &len), EFAULT);
        ERR(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &v, (socklen_t *)p), EFAULT);
        len = 16;
        ERR(usk_getsockname(fd[0], (struct sockaddr *)p, &len), EFAULT);
        OK(usk_close(s));
    }
    /* An option's value at the end of what can be read, with a length that goes beyond. */
    int *last = (int *)(none + 4096) - 1;
    *last = 1;
    OK(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, last, 400));
    EQ(get_int(fd[0], IPPROTO_TCP, TCP_NODELAY), 1);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, (char *)last + 2, sizeof(int)), EFAULT);
}

int main(void)
{
    begin("stream_calls");
    int fd[2];
    tcp_pair(AF_INET, fd);
    error_queue(fd);
    bad_pointers(fd);
    close_pair(fd);
    fast_open();
    return done();
}

/* Scatter and gather: many pieces, empty pieces, the limits, and msghdr's out fields. */
#include "common.h"

int main(void)
{
    begin("iovec");
    int fd[2];
    tcp_pair(AF_INET, fd);

    /* 1024 pieces of growing length, with empty ones between, gathered and scattered at different borders. */
    enum { PIECES = 1024, TOTAL = 40000 };
    static unsigned char out[TOTAL], in[TOTAL];
    static struct iovec iov[PIECES + 1];
    for (int i = 0; i < TOTAL; i++)
        out[i] = pattern(11, (uint64_t)i);
    size_t used = 0;
    for (int i = 0; i < PIECES; i++) {
        size_t n = i % 3 == 0 ? 0 : (size_t)(i % 50);
        if (n > TOTAL - used)
            n = TOTAL - used;
        iov[i] = (struct iovec){.iov_base = n ? out + used : NULL, .iov_len = n};
        used += n;
    }
    EQ(usk_writev(fd[0], iov, PIECES), used);
    size_t got = 0;
    while (got < used) {
        struct iovec to[7];
        size_t room = 0;
        for (int i = 0; i < 7; i++) {
            size_t n = (size_t)(i * 37 % 101);
            if (n > used - got - room)
                n = used - got - room;
            to[i] = (struct iovec){.iov_base = in + got + room, .iov_len = n};
            room += n;
        }
        long n = OK(usk_readv(fd[1], to, 7));
        CHECK(n > 0 && n <= (long)room);
        got += (size_t)n;
    }
    CHECK(memcmp(in, out, used) == 0);

    /* One more than UIO_MAXIOV: EINVAL by writev and readv, EMSGSIZE by sendmsg and recvmsg. */
    for (int i = 0; i <= PIECES; i++)
        iov[i] = (struct iovec){.iov_base = in, .iov_len = 1};
    ERR(usk_writev(fd[0], iov, PIECES + 1), EINVAL);
    ERR(usk_readv(fd[0], iov, PIECES + 1), EINVAL);
    ERR(usk_writev(fd[0], iov, -1), EINVAL);
    ERR(usk_readv(fd[0], iov, -1), EINVAL);
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = PIECES + 1};
    ERR(usk_sendmsg(fd[0], &m, 0), EMSGSIZE);
    ERR(usk_recvmsg(fd[0], &m, MSG_DONTWAIT), EMSGSIZE);

    /* No pieces at all. */
    EQ(usk_writev(fd[0], iov, 0), 0);
    EQ(usk_readv(fd[0], iov, 0), 0);
    m.msg_iovlen = 0;
    EQ(usk_sendmsg(fd[0], &m, 0), 0);
    ERR(usk_recvmsg(fd[0], &m, MSG_DONTWAIT), EAGAIN); /* unlike readv, it waits for a byte to be there */
    m = (struct msghdr){0};
    EQ(usk_sendmsg(fd[0], &m, 0), 0);

    /* A negative length is EINVAL, and nothing is sent. */
    struct iovec two[2] = {{.iov_base = out, .iov_len = 4}, {.iov_base = out, .iov_len = (size_t)-1}};
    ERR(usk_writev(fd[0], two, 2), EINVAL);
    m = (struct msghdr){.msg_iov = two, .msg_iovlen = 2};
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    EQ(ready(fd[1], POLLIN), 0);

    /* recvmsg fills the out fields: a TCP connection has no sender's name and no control data. */
    send_all(fd[0], "abcdef", 6);
    char a[2], b[10], control[64];
    struct addr name;
    memset(&name, 0x55, sizeof name);
    struct iovec ab[3] = {{a, 2}, {NULL, 0}, {b, 10}};
    m = (struct msghdr){.msg_name = &name.storage,
                        .msg_namelen = sizeof name.storage,
                        .msg_iov = ab,
                        .msg_iovlen = 3,
                        .msg_control = control,
                        .msg_controllen = sizeof control,
                        .msg_flags = ~0};
    await_bytes(fd[1], 6);
    EQ(usk_recvmsg(fd[1], &m, 0), 6);
    EQ(m.msg_namelen, 0);
    EQ(m.msg_controllen, 0);
    EQ(m.msg_flags, 0);
    CHECK(memcmp(a, "ab", 2) == 0 && memcmp(b, "cdef", 4) == 0);
    /* With CMSG_CLOEXEC asked for, it is echoed in msg_flags. */
    send_all(fd[0], "q", 1);
    m.msg_controllen = 0;
    EQ(usk_recvmsg(fd[1], &m, MSG_CMSG_CLOEXEC), 1);
    EQ(m.msg_flags, MSG_CMSG_CLOEXEC);

    /* A connected TCP socket ignores the address of sendmsg and sendto. */
    struct addr other = at("127.0.0.9", 9);
    ab[0] = (struct iovec){"to", 2};
    m = (struct msghdr){.msg_name = &other.sa, .msg_namelen = other.len, .msg_iov = ab, .msg_iovlen = 1};
    EQ(usk_sendmsg(fd[0], &m, 0), 2);
    EQ(usk_sendto(fd[0], "ge", 2, 0, &other.sa, other.len), 2);
    EXPECT(fd[1], "toge");
    /* recvfrom gives no address either. */
    send_all(fd[0], "t", 1);
    name.len = sizeof name.storage;
    EQ(usk_recvfrom(fd[1], a, 1, 0, &name.sa, &name.len), 1);
    EQ(name.len, 0);
    close_pair(fd);

    /* UDP: the pieces make one datagram; a scatter takes it apart and tells who sent it. */
    udp_pair(AF_INET6, fd);
    struct iovec g[4] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three", 5}};
    EQ(usk_writev(fd[0], g, 4), 13);
    char x[5], y[3], z[32];
    struct iovec s[3] = {{x, 5}, {y, 3}, {z, 32}};
    name.len = 0;
    m = (struct msghdr){.msg_name = &name.storage, .msg_namelen = sizeof name.storage, .msg_iov = s, .msg_iovlen = 3};
    EQ(usk_recvmsg(fd[1], &m, 0), 13);
    CHECK(memcmp(x, "one t", 5) == 0 && memcmp(y, "wo ", 3) == 0 && memcmp(z, "three", 5) == 0);
    EQ(m.msg_namelen, sizeof(struct sockaddr_in6));
    CHECK(same_addr(name, sock_name(fd[0])));
    close_pair(fd);
    return done();
}

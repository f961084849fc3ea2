/* TCP Fast Open where no server takes part: options and their bounds, sendmsg(2) that connects (MSG_FASTOPEN), deferred
 * connect(2), and what is refused. The SYN's option and data are what packet scripts look at. */
#include "common.h"

static struct sockaddr_in listens(int *fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    *fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(*fd, (struct sockaddr *)&at, sizeof at));
    OK(usk_getsockname(*fd, (struct sockaddr *)&at, &len));
    OK(usk_listen(*fd, 16));
    return at;
}

static void options(void)
{
    int l;
    struct sockaddr_in at = listens(&l);
    EQ(get_int(l, IPPROTO_TCP, TCP_FASTOPEN), 0);
    EQ(set_int(l, IPPROTO_TCP, TCP_FASTOPEN, 5), 0);
    EQ(get_int(l, IPPROTO_TCP, TCP_FASTOPEN), 5);
    EQ(set_int(l, IPPROTO_TCP, TCP_FASTOPEN, 1 << 30), 0);
    CHECK(get_int(l, IPPROTO_TCP, TCP_FASTOPEN) <= 65536); /* somaxconn */
    ERR(set_int(l, IPPROTO_TCP, TCP_FASTOPEN, -1), EINVAL);
    EQ(set_int(l, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1), 0);
    ERR(set_int(l, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 2), EINVAL);
    ERR(set_int(l, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), EINVAL); /* it listens */

    char keys[40];
    socklen_t len = sizeof keys;
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_FASTOPEN_KEY, keys, &len));
    EQ(len, 0);
    for (int n = 0; n <= 40; n++) {
        if (n == 16 || n == 32)
            continue;
        ERR(usk_setsockopt(l, IPPROTO_TCP, TCP_FASTOPEN_KEY, "0123456789abcdef0123456789abcdef01234567", (socklen_t)n),
            EINVAL);
    }
    for (int n = 16; n <= 32; n += 16) {
        OK(usk_setsockopt(l, IPPROTO_TCP, TCP_FASTOPEN_KEY, "0123456789abcdefFEDCBA9876543210", (socklen_t)n));
        len = sizeof keys;
        OK(usk_getsockopt(l, IPPROTO_TCP, TCP_FASTOPEN_KEY, keys, &len));
        EQ(len, n);
        EQ(memcmp(keys, "0123456789abcdefFEDCBA9876543210", (size_t)n), 0);
    }
    len = 10;
    OK(usk_getsockopt(l, IPPROTO_TCP, TCP_FASTOPEN_KEY, keys, &len));
    EQ(len, 10);

    /* A child has the flag, and neither queue nor keys. */
    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(c, (struct sockaddr *)&at, sizeof at));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get_int(s, IPPROTO_TCP, TCP_FASTOPEN), 0);
    EQ(get_int(s, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE), 1);
    len = sizeof keys;
    OK(usk_getsockopt(s, IPPROTO_TCP, TCP_FASTOPEN_KEY, keys, &len));
    EQ(len, 0);
    ERR(set_int(s, IPPROTO_TCP, TCP_FASTOPEN, 5), EINVAL);
    ERR(set_int(s, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1), EINVAL);
    ERR(set_int(s, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1), EINVAL);
    OK(usk_close(s));
    OK(usk_close(c));
    OK(usk_close(l));
}

static void send_that_connects(void)
{
    int l;
    struct sockaddr_in at = listens(&l);
    static char out[60000], in[60000];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7);
    /* The first has no cookie, the second has asked for one in vain. */
    for (int round = 0; round < 3; round++) {
        int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
        EQ(usk_sendto(c, out, sizeof out, MSG_FASTOPEN, (struct sockaddr *)&at, sizeof at), (long)sizeof out);
        ERR(usk_sendto(c, out, 1, MSG_FASTOPEN, (struct sockaddr *)&at, sizeof at), EISCONN);
        int s = (int)OK(usk_accept(l, NULL, NULL));
        size_t have = 0;
        while (have < sizeof in)
            have += (size_t)OK(usk_recv(s, in + have, sizeof in - have, 0));
        EQ(memcmp(in, out, sizeof in), 0);
        OK(usk_close(s));
        OK(usk_close(c));
    }

    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct sockaddr_in unspec = {.sin_family = AF_UNSPEC}, other = {.sin_family = AF_INET6};
    ERR(usk_sendto(c, out, 1, MSG_FASTOPEN, (struct sockaddr *)&unspec, sizeof unspec), EOPNOTSUPP);
    ERR(usk_sendto(c, out, 1, MSG_FASTOPEN, (struct sockaddr *)&other, sizeof other), EAFNOSUPPORT);
    ERR(usk_sendto(c, out, 1, MSG_FASTOPEN, (struct sockaddr *)&at, 8), EINVAL);
    ERR(usk_send(c, out, 1, MSG_FASTOPEN), EINVAL);
    OK(usk_close(l));
    ERR(usk_sendto(c, out, 1, MSG_FASTOPEN, (struct sockaddr *)&at, sizeof at), ECONNREFUSED);
    OK(usk_close(c));
}

/* A server defers none. */
static void connect_that_may_be_deferred(void)
{
#ifndef ON_SERVER
    int l;
    struct sockaddr_in at = listens(&l);
    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(get_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT), 0);
    ERR(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 2), EINVAL);
    OK(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1));
    OK(usk_connect(c, (struct sockaddr *)&at, sizeof at)); /* no cookie: it waits for the handshake */
    EQ(usk_send(c, "x", 1, 0), 1);
    ERR(usk_sendto(c, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&at, sizeof at), EALREADY);
    OK(usk_close(c));
    OK(usk_close((int)OK(usk_accept(l, NULL, NULL))));

    /* Without a cookie by the socket's own choice: the SYN waits for the first write. */
    c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1));
    OK(set_int(c, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1));
    OK(usk_connect(c, (struct sockaddr *)&at, sizeof at));
    set_nonblock(c, true); /* a blocking connect(2) would wait for a SYN that nobody sends */
    ERR(usk_connect(c, (struct sockaddr *)&at, sizeof at), EISCONN);
    set_nonblock(c, false);
    EQ(ready(c, POLLIN | POLLOUT), POLLOUT);
    EQ(ready(l, POLLIN), 0);
    int pending = -1;
    OK(usk_ioctl(c, SIOCOUTQ, &pending));
    EQ(pending, 0);
    EQ(usk_send(c, "hello", 5, 0), 5);
    int s = (int)OK(usk_accept(l, NULL, NULL));
    char in[8];
    EQ(usk_recv(s, in, sizeof in, 0), 5);
    EQ(memcmp(in, "hello", 5), 0);
    OK(usk_close(s));

    /* connect(2) with AF_UNSPEC: the choice stays. */
    struct sockaddr unspec = {.sa_family = AF_UNSPEC};
    OK(usk_connect(c, &unspec, sizeof unspec));
    EQ(get_int(c, IPPROTO_TCP, TCP_FASTOPEN_CONNECT), 1);
    EQ(get_int(c, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE), 1);
    OK(usk_connect(c, (struct sockaddr *)&at, sizeof at));
    EQ(ready(l, POLLIN), 0);
    OK(usk_close(c));
    EQ(ready(l, POLLIN), 0);
    OK(usk_close(l));
#endif
}

int main(void)
{
    begin("fastopen");
    options();
    send_that_connects();
    connect_that_may_be_deferred();
    return done();
}

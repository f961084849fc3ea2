/* Echo over IPv4, IPv6 and IPv4-mapped addresses: what goes in comes back, and both ends agree on the addresses. */
#include "common.h"

struct server {
    int listener;
    struct addr peer; /* what accept said */
    struct addr self; /* the accepted socket's own name */
};

static void *serve_one(void *arg)
{
    struct server *s = arg;
    s->peer.len = sizeof s->peer.storage;
    int fd = (int)OK(usk_accept(s->listener, &s->peer.sa, &s->peer.len));
    s->self = sock_name(fd);
    CHECK(same_addr(s->peer, peer_name(fd)));
    /* With Nagle's algorithm short writes would each wait for a delayed ACK. */
    OK(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1));
    char buf[1000];
    for (;;) {
        long n = OK(usk_read(fd, buf, sizeof buf));
        if (n == 0)
            break;
        send_all(fd, buf, (size_t)n);
    }
    OK(usk_close(fd));
    return NULL;
}

static void echo(struct addr bind_to, struct addr call, int v6only)
{
    int l = (int)OK(usk_socket(bind_to.sa.sa_family, SOCK_STREAM, 0));
    if (v6only >= 0)
        OK(set_int(l, IPPROTO_IPV6, IPV6_V6ONLY, v6only));
    OK(usk_bind(l, &bind_to.sa, bind_to.len));
    OK(usk_listen(l, 8));
    int port = port_of(sock_name(l));
    CHECK(port != 0);
    if (call.sa.sa_family == AF_INET)
        call.in.sin_port = htons((uint16_t)port);
    else
        call.in6.sin6_port = htons((uint16_t)port);

    struct server s = {.listener = l};
    pthread_t t = spawn(serve_one, &s);
    int fd = connected(SOCK_STREAM, call);
    CHECK(same_addr(peer_name(fd), call));
    struct addr mine = sock_name(fd);

    enum { TOTAL = 100000 };
    static unsigned char out[TOTAL], in[TOTAL];
    for (int i = 0; i < TOTAL; i++)
        out[i] = pattern(7, (uint64_t)i);
    for (int off = 0, step = 1; off < TOTAL; off += step, step = step * 3 % 7919 + 1) {
        if (step > TOTAL - off)
            step = TOTAL - off;
        send_all(fd, out + off, (size_t)step);
        EQ(recv_all(fd, in + off, (size_t)step), step);
    }
    CHECK(memcmp(in, out, TOTAL) == 0);
    OK(usk_shutdown(fd, SHUT_WR));
    EXPECT_EOF(fd);
    join(t);

    EQ(port_of(s.peer), port_of(mine));
    EQ(port_of(s.self), port);
    if (bind_to.sa.sa_family == AF_INET6 && call.sa.sa_family == AF_INET) {
        /* A dual-stack listener shows an IPv4 caller as ::ffff:a.b.c.d. */
        EQ(s.peer.sa.sa_family, AF_INET6);
        CHECK(IN6_IS_ADDR_V4MAPPED(&s.peer.in6.sin6_addr));
        CHECK(memcmp(&s.peer.in6.sin6_addr.s6_addr[12], &mine.in.sin_addr, 4) == 0);
        CHECK(IN6_IS_ADDR_V4MAPPED(&s.self.in6.sin6_addr));
    } else if (bind_to.sa.sa_family == call.sa.sa_family) {
        CHECK(same_addr(s.peer, mine));
        CHECK(same_addr(s.self, call));
    } else {
        /* An IPv6 socket that called ::ffff:127.0.0.1 looks like plain IPv4 to an IPv4 listener. */
        EQ(s.peer.sa.sa_family, AF_INET);
        CHECK(IN6_IS_ADDR_V4MAPPED(&mine.in6.sin6_addr));
    }
    OK(usk_close(fd));
    OK(usk_close(l));
}

int main(void)
{
    begin("echo");
    echo(at("127.0.0.1", 0), at("127.0.0.1", 0), -1);
    echo(at("0.0.0.0", 0), at("127.0.0.1", 0), -1);
    echo(at("0.0.0.0", 0), at("127.9.8.7", 0), -1); /* all of 127/8 is this host */
    echo(at("::1", 0), at("::1", 0), -1);
    echo(at("::", 0), at("::1", 0), 1);
    echo(at("::", 0), at("::1", 0), 0);
    echo(at("::", 0), at("127.0.0.1", 0), 0);
    echo(at("::", 0), at("::ffff:127.0.0.1", 0), 0);
    echo(at("::ffff:127.0.0.1", 0), at("127.0.0.1", 0), 0);
    echo(at("127.0.0.1", 0), at("::ffff:127.0.0.1", 0), -1);

    /* V6ONLY: IPv4 does not reach it. */
    int l = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    OK(set_int(l, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    struct addr any = at("::", 0);
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 1));
    struct addr v4 = at("127.0.0.1", port_of(sock_name(l)));
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(fd, &v4.sa, v4.len), ECONNREFUSED);
    OK(usk_close(fd));
    /* ... and such a socket refuses to call a mapped address. */
    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    OK(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    struct addr mapped = at("::ffff:127.0.0.1", 9);
    ERR(usk_connect(fd, &mapped.sa, mapped.len), ENETUNREACH);
    ERR(usk_bind(fd, &mapped.sa, mapped.len), EINVAL);
    OK(usk_close(fd));
    /* A mapped connection has MSS and names of IPv4, and the option refuses to change once it is bound. */
    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    struct addr any0 = at("::", 0);
    OK(usk_bind(fd, &any0.sa, any0.len));
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1), EINVAL);
    OK(usk_close(fd));
    OK(usk_close(l));
    return done();
}

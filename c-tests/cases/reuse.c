/* Which sockets may share a port: wildcard and specific, SO_REUSEADDR, SO_REUSEPORT, IPv4 and IPv6, listening or
 * not. */
#include "common.h"

enum { PLAIN, ADDR, PORT };
enum { IDLE, LISTENS };

static int opened(int type, const char *text, int port, int reuse, int v6only)
{
    struct addr a = at(text, port);
    int fd = (int)OK(usk_socket(a.sa.sa_family, type, 0));
    if (reuse == ADDR)
        OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    if (reuse == PORT)
        OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
    if (v6only)
        OK(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    if (usk_bind(fd, &a.sa, a.len) == -1) {
        int e = errno;
        usk_close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

struct row {
    int type;
    const char *first;
    int reuse1, state, v6only1;
    const char *second;
    int reuse2, v6only2, want;
};

static const struct row rows[] = {
    {SOCK_STREAM, "127.0.0.1", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", PLAIN, IDLE, 0, "127.0.0.2", PLAIN, 0, 0},
    {SOCK_STREAM, "127.0.0.1", PLAIN, IDLE, 0, "0.0.0.0", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "0.0.0.0", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "0.0.0.0", PLAIN, IDLE, 0, "0.0.0.0", PLAIN, 0, EADDRINUSE},
    /* SO_REUSEADDR on both: two may hold the port until one listens. */
    {SOCK_STREAM, "127.0.0.1", ADDR, IDLE, 0, "127.0.0.1", ADDR, 0, 0},
    {SOCK_STREAM, "0.0.0.0", ADDR, IDLE, 0, "127.0.0.1", ADDR, 0, 0},
    {SOCK_STREAM, "127.0.0.1", ADDR, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", PLAIN, IDLE, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", ADDR, LISTENS, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "0.0.0.0", ADDR, LISTENS, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", ADDR, LISTENS, 0, "0.0.0.0", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", ADDR, LISTENS, 0, "127.0.0.2", ADDR, 0, 0},
    /* SO_REUSEPORT on both: also listening ones share. */
    {SOCK_STREAM, "127.0.0.1", PORT, LISTENS, 0, "127.0.0.1", PORT, 0, 0},
    {SOCK_STREAM, "0.0.0.0", PORT, LISTENS, 0, "127.0.0.1", PORT, 0, 0},
    {SOCK_STREAM, "127.0.0.1", PORT, LISTENS, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", PORT, IDLE, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", PORT, LISTENS, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    /* IPv6 wildcard covers IPv4 unless V6ONLY. */
    {SOCK_STREAM, "::", PLAIN, IDLE, 0, "0.0.0.0", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "::", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "127.0.0.1", PLAIN, IDLE, 0, "::", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "0.0.0.0", PLAIN, IDLE, 0, "::", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "::", PLAIN, IDLE, 1, "0.0.0.0", PLAIN, 0, 0},
    {SOCK_STREAM, "0.0.0.0", PLAIN, IDLE, 0, "::", PLAIN, 1, 0},
    {SOCK_STREAM, "::1", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, 0},
    {SOCK_STREAM, "::1", PLAIN, IDLE, 0, "0.0.0.0", PLAIN, 0, 0},
    {SOCK_STREAM, "::1", PLAIN, IDLE, 0, "::", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "::", PLAIN, IDLE, 1, "::1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "::ffff:127.0.0.1", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_STREAM, "::ffff:127.0.0.1", PLAIN, IDLE, 0, "::1", PLAIN, 0, 0},
    {SOCK_STREAM, "::ffff:127.0.0.1", PLAIN, IDLE, 0, "127.0.0.2", PLAIN, 0, 0},
    {SOCK_STREAM, "::", ADDR, LISTENS, 0, "0.0.0.0", ADDR, 0, EADDRINUSE},
    {SOCK_STREAM, "::", PORT, LISTENS, 0, "0.0.0.0", PORT, 0, 0},
    /* UDP has no listening: SO_REUSEADDR on both is enough. */
    {SOCK_DGRAM, "127.0.0.1", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_DGRAM, "127.0.0.1", ADDR, IDLE, 0, "127.0.0.1", ADDR, 0, 0},
    {SOCK_DGRAM, "127.0.0.1", PORT, IDLE, 0, "127.0.0.1", PORT, 0, 0},
    {SOCK_DGRAM, "127.0.0.1", PORT, IDLE, 0, "127.0.0.1", ADDR, 0, EADDRINUSE},
    {SOCK_DGRAM, "0.0.0.0", PLAIN, IDLE, 0, "127.0.0.1", PLAIN, 0, EADDRINUSE},
    {SOCK_DGRAM, "127.0.0.1", PLAIN, IDLE, 0, "127.0.0.2", PLAIN, 0, 0},
    {SOCK_DGRAM, "::", PLAIN, IDLE, 0, "0.0.0.0", PLAIN, 0, EADDRINUSE},
    {SOCK_DGRAM, "::", PLAIN, IDLE, 1, "0.0.0.0", PLAIN, 0, 0},
};

int main(void)
{
    begin("reuse");
    for (int i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        int a = (int)OK(opened(r->type, r->first, 0, r->reuse1, r->v6only1));
        if (r->state == LISTENS)
            OK(usk_listen(a, 1));
        errno = 0;
        int b = opened(r->type, r->second, port_of(sock_name(a)), r->reuse2, r->v6only2);
        int got = b == -1 ? errno : 0;
        if (got != r->want) {
            char text[120];
            snprintf(text, sizeof text, "row %d: %s then %s", i, r->first, r->second);
            complain(__FILE__, __LINE__, text, errno_name(got), errno_name(r->want));
        }
        if (b != -1)
            OK(usk_close(b));
        OK(usk_close(a));
    }

    /* Two bound with SO_REUSEADDR: the first to listen wins, the other is told then. */
    int a = (int)OK(opened(SOCK_STREAM, "127.0.0.1", 0, ADDR, 0));
    int b = (int)OK(opened(SOCK_STREAM, "127.0.0.1", port_of(sock_name(a)), ADDR, 0));
    OK(usk_listen(a, 1));
    ERR(usk_listen(b, 1), EADDRINUSE);
    OK(usk_close(a));
    OK(usk_listen(b, 1));
    OK(usk_close(b));

    /* A port in TIME-WAIT: taken for a plain bind, free with SO_REUSEADDR, if the one that
     * left it had that option, too. */
    int l = (int)OK(opened(SOCK_STREAM, "127.0.0.1", 0, ADDR, 0));
    OK(usk_listen(l, 1));
    struct addr to = sock_name(l);
    int c = connected(SOCK_STREAM, to), s = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(s)); /* the server's end closes first, so TIME-WAIT is on its port */
    EXPECT_EOF(c);
    OK(usk_close(c));
    OK(usk_close(l));
    errno = 0;
    EQ(opened(SOCK_STREAM, "127.0.0.1", port_of(to), PLAIN, 0), -1);
    EQ(errno, EADDRINUSE);
    l = (int)OK(opened(SOCK_STREAM, "127.0.0.1", port_of(to), ADDR, 0));
    OK(usk_listen(l, 1));
    OK(usk_close(l));

    /* SO_REUSEPORT listeners share the calls: each call reaches exactly one of them, and both get some. */
    a = (int)OK(opened(SOCK_STREAM, "127.0.0.1", 0, PORT, 0));
    to = sock_name(a);
    b = (int)OK(opened(SOCK_STREAM, "127.0.0.1", port_of(to), PORT, 0));
    OK(usk_listen(a, 100));
    OK(usk_listen(b, 100));
    int calls[64], na = 0, nb = 0;
    for (int i = 0; i < 64; i++)
        calls[i] = connected(SOCK_STREAM, to);
    while (na + nb < 64) {
        struct pollfd p[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
        OK(usk_poll(p, 2, -1));
        for (int i = 0; i < 2; i++)
            if (p[i].revents & POLLIN) {
                OK(usk_close((int)OK(usk_accept(p[i].fd, NULL, NULL))));
                *(i ? &nb : &na) += 1;
            }
    }
    CHECK(na > 0 && nb > 0);
    for (int i = 0; i < 64; i++)
        OK(usk_close(calls[i]));
    OK(usk_close(a));
    OK(usk_close(b));
    return done();
}

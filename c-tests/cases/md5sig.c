/* TCP_MD5SIG and TCP_MD5SIG_EXT: the errors of setsockopt; which ends connect; what a connection keeps of its
 * listener's keys; what a key costs and takes from the options. RFC 2385, tcp(7). */
#include "ends.h"
#include <linux/sock_diag.h>

#ifndef TCP_MD5SIG_EXT
#define TCP_MD5SIG_EXT 32
#endif
#define PREFIX 1
#define IFINDEX 2

struct md5sig { /* struct tcp_md5sig, which <netinet/tcp.h> and <linux/tcp.h> both have */
    struct sockaddr_storage addr;
    unsigned char flags, prefixlen;
    unsigned short keylen;
    int ifindex;
    unsigned char key[80];
};

static struct md5sig sig(int family, const char *addr, const char *key)
{
    struct md5sig s = {.keylen = strlen(key)};
    s.addr.ss_family = family;
    if (family == AF_INET)
        CHECK(inet_pton(AF_INET, addr, &((struct sockaddr_in *)&s.addr)->sin_addr) == 1);
    else
        CHECK(inet_pton(AF_INET6, addr, &((struct sockaddr_in6 *)&s.addr)->sin6_addr) == 1);
    memcpy(s.key, key, s.keylen);
    return s;
}

static int set(int fd, int family, const char *addr, const char *key)
{
    struct md5sig s = sig(family, addr, key);
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s);
}

static int set_ext(int fd, int family, const char *addr, const char *key, int flags, int prefixlen, int ifindex)
{
    struct md5sig s = sig(family, addr, key);
    s.flags = flags;
    s.prefixlen = prefixlen;
    s.ifindex = ifindex;
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, &s, sizeof s);
}

static unsigned optmem(int fd)
{
    unsigned m[SK_MEMINFO_VARS];
    socklen_t len = sizeof m;
    CHECK(usk_getsockopt(fd, SOL_SOCKET, SO_MEMINFO, m, &len) == 0);
    return m[SK_MEMINFO_OPTMEM];
}

static void errors(void)
{
    int fd = usk_socket(AF_INET, SOCK_STREAM, 0), fd6 = usk_socket(AF_INET6, SOCK_STREAM, 0);
    int udp = usk_socket(AF_INET, SOCK_DGRAM, 0);
    struct md5sig s = sig(AF_INET, "127.0.0.1", "k");
    socklen_t len = sizeof s;
    ERR(set(fd, AF_INET, "127.0.0.1", ""), ENOENT);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, 3), EINVAL);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s - 1), EINVAL);
    ERR(usk_setsockopt(udp, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s), ENOPROTOOPT);
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, &len), ENOPROTOOPT);
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, &s, &len), ENOPROTOOPT);
    s.keylen = 81;
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s), EINVAL);
    s.keylen = 80;
    CHECK(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s) == 0);
    ERR(set(fd, AF_INET6, "::1", "k"), EINVAL);
    ERR(set(fd6, AF_INET, "127.0.0.1", "k"), EINVAL);
    s.addr.ss_family = AF_UNSPEC;
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s), EINVAL);
    CHECK(set(fd, AF_INET, "127.0.0.1", "") == 0);
    ERR(set(fd, AF_INET, "127.0.0.1", ""), ENOENT);

    /* TCP_MD5SIG itself knows no prefix, but whether an interface was given. */
    s = sig(AF_INET, "127.0.0.2", "k");
    s.flags = PREFIX | IFINDEX;
    s.prefixlen = 33;
    s.ifindex = 7;
    CHECK(usk_setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s) == 0);
    ERR(set(fd, AF_INET, "127.0.0.2", ""), ENOENT);
    CHECK(set_ext(fd, AF_INET, "127.0.0.2", "", IFINDEX, 0, 0) == 0);

    ERR(set_ext(fd, AF_INET, "10.0.0.0", "k", PREFIX, 33, 0), EINVAL);
    CHECK(set_ext(fd, AF_INET, "10.0.0.9", "k", PREFIX, 24, 0) == 0);
    ERR(set_ext(fd, AF_INET, "10.0.0.0", "", PREFIX, 24, 0), ENOENT);
    ERR(set_ext(fd, AF_INET, "10.0.0.9", "", PREFIX, 25, 0), ENOENT);
    CHECK(set_ext(fd, AF_INET, "10.0.0.9", "", PREFIX, 24, 0) == 0);
    CHECK(set_ext(fd, AF_INET, "0.0.0.0", "k", PREFIX, 0, 0) == 0);
    ERR(set_ext(fd, AF_INET, "10.0.0.9", "k", IFINDEX, 0, 1), EINVAL);  /* no L3 master */
    ERR(set_ext(fd, AF_INET, "10.0.0.9", "k", IFINDEX, 0, 55), EINVAL); /* no device */
    CHECK(set_ext(fd, AF_INET, "10.0.0.9", "k", 4 | 8 | 16, 99, 55) == 0);

    CHECK(set(fd6, AF_INET6, "::1", "k") == 0);
    CHECK(set(fd6, AF_INET6, "::ffff:127.0.0.1", "k") == 0);
    ERR(set_ext(fd6, AF_INET6, "::ffff:127.0.0.1", "k", PREFIX, 33, 0), EINVAL);
    CHECK(set_ext(fd6, AF_INET6, "::ffff:127.0.0.1", "", PREFIX, 32, 0) == 0);
    ERR(set_ext(fd6, AF_INET6, "fd00::", "k", PREFIX, 129, 0), EINVAL);
    CHECK(set_ext(fd6, AF_INET6, "fd00::", "k", PREFIX, 128, 0) == 0);
    CHECK(set(fd6, AF_INET6, "fd00::", "") == 0);
    CHECK(usk_close(fd) == 0 && usk_close(fd6) == 0 && usk_close(udp) == 0);

    fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    EQ(optmem(fd), 0);
    CHECK(set(fd, AF_INET, "10.0.0.1", "k") == 0 && set(fd, AF_INET, "10.0.0.2", "k") == 0);
    CHECK(set(fd, AF_INET, "10.0.0.1", "another") == 0);
    EQ(optmem(fd), 2 * 136);
    CHECK(set(fd, AF_INET, "10.0.0.1", "") == 0);
    EQ(optmem(fd), 136);
    CHECK(usk_close(fd) == 0);
}

/* A listener and a client with these keys for one another; `s` is -1 when they do not connect. */
static struct ends ends(int family, const char *addr, const char *at_listener, const char *at_client, bool connects)
{
    struct ends e = {usk_socket(family, SOCK_STREAM, 0), usk_socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), -1};
    struct sockaddr_storage a = sig(family, addr, "").addr;
    socklen_t len = sizeof a, n = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    CHECK(usk_bind(e.lis, (struct sockaddr *)&a, n) == 0 && usk_listen(e.lis, 4) == 0);
    CHECK(usk_getsockname(e.lis, (struct sockaddr *)&a, &len) == 0);
    if (*at_listener)
        CHECK(set(e.lis, family, addr, at_listener) == 0);
    if (*at_client)
        CHECK(set(e.c, family, addr, at_client) == 0);
    open_ends(&e, &a, len, connects);
    return e;
}

static void who_connects(void)
{
    struct {
        const char *lis, *c;
        int connects;
    } rows[] = {{"one", "one", 1}, {"one", "two", 0}, {"one", "", 0}, {"", "one", 0}, {"", "", 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ends e = ends(AF_INET, "127.0.0.1", rows[i].lis, rows[i].c, rows[i].connects);
        EQ(e.s >= 0, rows[i].connects);
        end(e);
    }
    struct ends e = ends(AF_INET6, "::1", "one", "one", true);
    CHECK(e.s >= 0);
    end(e);
    e = ends(AF_INET6, "::ffff:127.0.0.1", "one", "one", true);
    CHECK(e.s >= 0);
    end(e);
}

static struct tcp_info info(int fd)
{
    struct tcp_info i;
    socklen_t len = sizeof i;
    CHECK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0);
    return i;
}

static void a_connection(void)
{
    struct ends e = ends(AF_INET, "127.0.0.1", "one", "one", true);
    CHECK(e.s >= 0);
    /* No room for timestamps beside SACK. */
    EQ(info(e.c).tcpi_options & 3, TCPI_OPT_SACK);
    EQ(info(e.s).tcpi_options & 3, TCPI_OPT_SACK);
    EQ(optmem(e.s), 136);
    crosses(e.c, e.s);

    /* The connection has the key for itself. */
    CHECK(set(e.lis, AF_INET, "127.0.0.1", "") == 0);
    EQ(usk_send(e.s, "down", 4, 0), 4);
    EXPECT(e.c, "down");

    /* An end without a key is not heard until it has one again. */
    CHECK(set(e.c, AF_INET, "127.0.0.1", "") == 0);
    EQ(usk_send(e.c, "up", 2, 0), 2);
    struct pollfd p = {.fd = e.s, .events = POLLIN};
    EQ(usk_poll(&p, 1, 100), 0);
    CHECK(set(e.c, AF_INET, "127.0.0.1", "one") == 0);
    EXPECT(e.s, "up");

    /* Both ends change the secret. */
    CHECK(set(e.c, AF_INET, "127.0.0.1", "two") == 0 && set(e.s, AF_INET, "127.0.0.1", "two") == 0);
    EQ(usk_send(e.c, "on", 2, 0), 2);
    EXPECT(e.s, "on");
    CHECK(usk_close(e.c) == 0);
    char b;
    EQ(usk_recv(e.s, &b, 1, 0), 0);
    CHECK(usk_close(e.lis) == 0 && usk_close(e.s) == 0);
}

int main(void)
{
    begin("md5sig");
    errors();
    who_connects();
    a_connection();
    return done();
}

/* Addresses of sockets of a C protocol: TINY gets ports, conflicts, peers and errors from the stack as UDP does, so
 * each row is checked for both. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"

static usk_stack_t *stack;
static int protocol; /* 0: UDP */

static int sock(int family)
{
    return (int)OK(usk_socket_on(stack, family, SOCK_DGRAM, protocol));
}

static int sock_at(struct addr a)
{
    int fd = sock(a.sa.sa_family);
    OK(usk_bind(fd, &a.sa, a.len));
    return fd;
}

static void name_is(int fd, struct addr want)
{
    struct addr got = sock_name(fd);
    if (!same_addr(got, want))
        EQ(port_of(got), port_of(want)), EQ(memcmp(&got.storage, &want.storage, want.len), 0);
}

/* The result of bind for a second socket, while one is bound to `first`: 0 or an errno. */
struct row {
    const char *first, *second;
    int same_port, option; /* option: both have it; negative: only the second */
    int want;
};

static const struct row rows[] = {
    { "127.0.0.1", "127.0.0.1", 1, 0, EADDRINUSE },
    { "127.0.0.1", "127.0.0.1", 0, 0, 0 },
    { "127.0.0.1", "127.0.0.2", 1, 0, 0 },
    { "127.0.0.1", "0.0.0.0", 1, 0, EADDRINUSE },
    { "0.0.0.0", "127.0.0.1", 1, 0, EADDRINUSE },
    { "127.0.0.1", "127.0.0.1", 1, SO_REUSEADDR, 0 },
    { "127.0.0.1", "127.0.0.1", 1, -SO_REUSEADDR, EADDRINUSE },
    { "127.0.0.1", "127.0.0.1", 1, SO_REUSEPORT, 0 },
    { "127.0.0.1", "127.0.0.1", 1, -SO_REUSEPORT, EADDRINUSE },
    { "127.0.0.1", "::ffff:127.0.0.1", 1, 0, EADDRINUSE },
    { "127.0.0.1", "::ffff:127.0.0.2", 1, 0, 0 },
    { "127.0.0.1", "::ffff:0.0.0.0", 1, 0, EADDRINUSE },
    { "127.0.0.1", "::", 1, 0, EADDRINUSE },
    { "::", "127.0.0.1", 1, 0, EADDRINUSE },
    { "::", "::1", 1, 0, EADDRINUSE },
    { "::1", "127.0.0.1", 1, 0, 0 },
    { "0.0.0.0", "::1", 1, 0, 0 },
    { "0.0.0.0", "::", 1, IPV6_V6ONLY, 0 },
    { "127.0.0.1", "::ffff:127.0.0.2", 1, IPV6_V6ONLY, EINVAL },
    { "127.0.0.1", "203.0.113.7", 1, 0, EADDRNOTAVAIL },
    { "127.0.0.1", "2001:db8::7", 1, 0, EADDRNOTAVAIL },
    { "127.0.0.1", "fe80::1", 1, 0, EINVAL },
};

static void set_option(int fd, int family, int option)
{
    if (option == IPV6_V6ONLY) {
        if (family == AF_INET6)
            OK(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    } else if (option) {
        OK(set_int(fd, SOL_SOCKET, option, 1));
    }
}

static void conflicts(void)
{
    for (int i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        struct addr a = at(r->first, 4000), b = at(r->second, r->same_port ? 4000 : 4001);
        int one = sock(a.sa.sa_family), two = sock(b.sa.sa_family);
        set_option(one, a.sa.sa_family, r->option < 0 ? 0 : r->option);
        set_option(two, b.sa.sa_family, abs(r->option));
        OK(usk_bind(one, &a.sa, a.len));
        errno = 0;
        int got = usk_bind(two, &b.sa, b.len) == 0 ? 0 : errno;
        if (got != r->want) {
            char what[128];
            snprintf(what, sizeof what, "protocol %d, row %d: %s, then %s", protocol, i, r->first, r->second);
            complain(__FILE__, __LINE__, what, errno_name(got), errno_name(r->want));
        }
        if (got == 0) {
            name_is(two, b);
        } else {
            /* After a failure the socket is not bound, and can be bound to another address. */
            struct addr other = at(b.sa.sa_family == AF_INET ? "127.0.0.1" : "::1", 4002);
            OK(usk_bind(two, &other.sa, other.len));
        }
        OK(usk_close(one));
        OK(usk_close(two));
    }
}

static void names(void)
{
    struct addr none = at("0.0.0.0", 0), any = at("127.0.0.1", 0), six = at("::1", 5), low = at("127.0.0.1", 1);
    int fd = sock(AF_INET);
    name_is(fd, none);
    ERR(usk_bind(fd, &six.sa, six.len), EAFNOSUPPORT);
    OK(usk_bind(fd, &any.sa, any.len));
    struct addr here = sock_name(fd);
    CHECK(port_of(here) >= 32768 && port_of(here) <= 60999);
    ERR(usk_bind(fd, &any.sa, any.len), EINVAL);
    ERR(usk_bind(fd, &low.sa, low.len), EINVAL);
    name_is(fd, here);
    /* Ports below 1024 need no privilege: a process that makes a stack may use all its ports. */
    OK(usk_close(sock_at(low)));

    /* An automatically chosen port is never a shared one (SO_REUSEADDR). */
    int many[64];
    for (int i = 0; i < COUNT(many); i++) {
        many[i] = sock(AF_INET);
        OK(set_int(many[i], SOL_SOCKET, SO_REUSEADDR, 1));
        OK(usk_bind(many[i], &any.sa, any.len));
        for (int j = 0; j < i; j++)
            CHECK(port_of(sock_name(many[i])) != port_of(sock_name(many[j])));
    }
    for (int i = 0; i < COUNT(many); i++)
        OK(usk_close(many[i]));

    /* The range is a sysctl, and can be full. */
    OK(usk_sysctl_set(stack, "net.ipv4.ip_local_port_range", "40000 40001"));
    int x = sock_at(any), y = sock_at(any), z = sock(AF_INET);
    EQ(port_of(sock_name(x)) + port_of(sock_name(y)), 80001);
    ERR(usk_bind(z, &any.sa, any.len), EADDRINUSE);
    ERR(usk_sendto(z, "x", 1, 0, &here.sa, here.len), EAGAIN);
    OK(usk_close(x));
    OK(usk_bind(z, &any.sa, any.len));
    OK(usk_close(y));
    OK(usk_close(z));
    OK(usk_sysctl_set(stack, "net.ipv4.ip_local_port_range", "32768 60999"));
    OK(usk_close(fd));
}

static void expect_from(int fd, int from, const char *what)
{
    char buf[16] = "";
    struct addr a;
    a.len = sizeof a.storage;
    EQ(usk_recvfrom(fd, buf, sizeof buf, MSG_DONTWAIT, &a.sa, &a.len), (long)strlen(what));
    EQ(memcmp(buf, what, strlen(what)), 0);
    CHECK(same_addr(a, sock_name(from)));
}

static void peers(void)
{
    struct addr any = at("127.0.0.1", 0), named = at("127.0.0.1", 4100), none = at("0.0.0.0", 0);
    struct sockaddr unspec = { .sa_family = AF_UNSPEC };
    int a = sock_at(any), b = sock_at(any), c = sock(AF_INET);
    struct addr at_a = sock_name(a), at_b = sock_name(b);
    ERR(usk_getpeername(c, &any.sa, &any.len), ENOTCONN);
    OK(usk_connect(c, &at_a.sa, at_a.len));
    CHECK(same_addr(peer_name(c), at_a) && port_of(sock_name(c)) != 0);
    EQ(sock_name(c).in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    /* Connected again: only datagrams of the new peer are received. */
    OK(usk_connect(c, &at_b.sa, at_b.len));
    CHECK(same_addr(peer_name(c), at_b));
    struct addr at_c = sock_name(c);
    EQ(usk_sendto(a, "a", 1, 0, &at_c.sa, at_c.len), 1);
    EQ(usk_sendto(b, "b", 1, 0, &at_c.sa, at_c.len), 1);
    expect_from(c, b, "b");
    /* The association is dissolved, and its automatically chosen port released. */
    OK(usk_connect(c, &unspec, sizeof unspec));
    ERR(usk_getpeername(c, &any.sa, &any.len), ENOTCONN);
    name_is(c, none);
    ERR(usk_send(c, "x", 1, 0), EDESTADDRREQ);
    struct addr was = at_c;
    int again = sock_at(was);
    OK(usk_close(again));
    /* And begins again. */
    OK(usk_connect(c, &at_a.sa, at_a.len));
    EQ(usk_send(c, "new", 3, 0), 3);
    expect_from(a, c, "new");
    OK(usk_close(c));
    /* A port and an address that bind named stay. */
    c = sock_at(named);
    OK(usk_connect(c, &at_a.sa, at_a.len));
    OK(usk_connect(c, &unspec, sizeof unspec));
    OK(usk_connect(c, &unspec, sizeof unspec));
    name_is(c, named);
    EQ(usk_sendto(b, "to c", 4, 0, &named.sa, named.len), 4);
    expect_from(c, b, "to c");
    OK(usk_close(c));
    /* An IPv6 socket speaks IPv4 by mapped names, unless it is told not to; a plain one it takes as well, but not on an
     * IPv4 socket. */
    int six = sock(AF_INET6), only = sock(AF_INET6);
    struct addr mapped = at("::ffff:127.0.0.1", port_of(at_a));
    OK(set_int(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    ERR(usk_connect(only, &mapped.sa, mapped.len), ENETUNREACH);
    ERR(usk_connect(a, &mapped.sa, mapped.len), EAFNOSUPPORT);
    OK(usk_connect(six, &mapped.sa, mapped.len));
    CHECK(same_addr(peer_name(six), mapped));
    EQ(usk_send(six, "six", 3, 0), 3);
    char buf[8];
    EQ(usk_recv(a, buf, sizeof buf, MSG_DONTWAIT), 3);
    OK(usk_close(six));
    OK(usk_close(only));
    OK(usk_close(a));
    OK(usk_close(b));
}

/* Conflicts and look-ups use the present options, not those at bind. */
static void options_after_bind(void)
{
    struct addr p = at("127.0.0.1", 4200);
    int one = sock_at(p), two = sock(AF_INET), from = sock(AF_INET);
    OK(set_int(two, SOL_SOCKET, SO_REUSEADDR, 1));
    ERR(usk_bind(two, &p.sa, p.len), EADDRINUSE);
    OK(set_int(one, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(two, &p.sa, p.len));
    /* Of two the newest is found; one that is bound to the device fits better. */
    char buf[8];
    EQ(usk_sendto(from, "1", 1, 0, &p.sa, p.len), 1);
    EQ(usk_recv(two, buf, sizeof buf, MSG_DONTWAIT), 1);
    OK(usk_setsockopt(one, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
    EQ(usk_sendto(from, "2", 1, 0, &p.sa, p.len), 1);
    EQ(usk_recv(one, buf, sizeof buf, MSG_DONTWAIT), 1);
    OK(usk_setsockopt(one, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
    ERR(usk_setsockopt(one, SOL_SOCKET, SO_BINDTODEVICE, "nodev", 5), ENODEV);
    OK(usk_close(one));
    OK(usk_close(two));
    OK(usk_close(from));
}

/* Fields of the IP header that a socket sets, checked by a raw socket. */
static void headers(void)
{
    int number = protocol ? protocol : IPPROTO_UDP;
    int raw = (int)OK(usk_socket_on(stack, AF_INET, SOCK_RAW, number)), s = sock(AF_INET);
    struct addr to = at("127.0.0.1", 4300);
    int r = sock_at(to);
    unsigned char ip[64];
    OK(set_int(s, IPPROTO_IP, IP_TTL, 33));
    OK(set_int(s, IPPROTO_IP, IP_TOS, 0x28));
    OK(set_int(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO));
    EQ(usk_sendto(s, "x", 1, 0, &to.sa, to.len), 1);
    EQ(usk_recv(raw, ip, sizeof ip, 0), 20 + 8 + 1);
    EQ(ip[8], 33);
    EQ(ip[1], 0x28);
    EQ(ip[6] & 0x40, 0x40);
    OK(set_int(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT));
    EQ(usk_sendto(s, "x", 1, 0, &to.sa, to.len), 1);
    EQ(usk_recv(raw, ip, sizeof ip, 0), 20 + 8 + 1);
    EQ(ip[6] & 0x40, 0);
    OK(usk_close(raw));
    OK(usk_close(r));
    OK(usk_close(s));
}

int main(int argc, char **argv)
{
    begin("binding");
    CHECK(argc == 2);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    char path[512];
    snprintf(path, sizeof path, "%s/tiny.so", argv[1]);
    usk_plugin_t *plugin = usk_plugin_load(stack, path);
    CHECK(plugin != NULL);
    for (int i = 0; i < 2; i++) {
        protocol = i == 0 ? 0 : 254;
        conflicts();
        names();
        peers();
        options_after_bind();
        headers();
    }
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
    return done();
}

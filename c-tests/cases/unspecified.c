/* 0.0.0.0, :: and ::ffff:0.0.0.0 as a destination are this host: for UDP, TCP, raw and ping sockets, in a call's name
 * and in connect. The source a socket is bound to is kept, and is over IPv4 the destination too. 0.0.0.0 as a source is
 * what a datagram has by an interface without an address of more than this host's. */
#include "common.h"
#include "ping.h"

static const char *text(struct addr a, char out[INET6_ADDRSTRLEN])
{
    if (a.len == 0)
        return strcpy(out, "-");
    inet_ntop(a.sa.sa_family, a.sa.sa_family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr, out,
              INET6_ADDRSTRLEN);
    return out;
}

static void is(int line, const char *row, const char *what, struct addr got, const char *want)
{
    char t[INET6_ADDRSTRLEN], label[160];
    snprintf(label, sizeof label, "%s, %s", row, what);
    if (strcmp(text(got, t), want) != 0)
        complain(__FILE__, line, label, t, want);
}

/* The source of the one expected datagram; an empty address if none arrives. The timeout only matters for a run that
 * fails. */
static struct addr sender(int fd, void *buf, size_t len, long *n)
{
    struct addr from;
    memset(&from, 0, sizeof from);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    *n = -1;
    if (OK(usk_poll(&p, 1, 60000)) == 0)
        return from;
    from.len = sizeof from.storage;
    *n = OK(usk_recvfrom(fd, buf, len, 0, &from.sa, &from.len));
    return from;
}

/* A socket of `own`'s family bound to it, or of the other address's and not bound. */
static int from_address(const char *own, const char *other, int type, int protocol)
{
    struct addr a = at(own ? own : other, 0);
    int fd = (int)OK(usk_socket(a.sa.sa_family, type, protocol));
    if (own)
        OK(usk_bind(fd, &a.sa, a.len));
    return fd;
}

struct row {
    const char *receiver, *own, *to; /* bound to, bound to (NULL: not), sends to */
    int want;                        /* errno */
    const char *from, *peer;         /* what the receiver sees; what getpeername of a connected sender says */
};

static const struct row rows[] = {
    {"0.0.0.0", NULL, "0.0.0.0", 0, "127.0.0.1", "127.0.0.1"},
    {"0.0.0.0", "127.0.0.9", "0.0.0.0", 0, "127.0.0.9", "127.0.0.9"},
    {"127.0.0.1", NULL, "0.0.0.0", 0, "127.0.0.1", "127.0.0.1"},
    {"127.0.0.9", "127.0.0.9", "0.0.0.0", 0, "127.0.0.9", "127.0.0.9"},
    {"::", NULL, "::", 0, "::1", "::1"},
    {"::1", NULL, "::", 0, "::1", "::1"},
    {"::", "::1", "::", 0, "::1", "::1"},
    {"::", NULL, "::ffff:0.0.0.0", 0, "::ffff:127.0.0.1", "::ffff:127.0.0.1"},
    {"::", "::ffff:127.0.0.9", "::ffff:0.0.0.0", 0, "::ffff:127.0.0.9", "::ffff:127.0.0.9"},
    {"::", "::ffff:127.0.0.9", "::", 0, "::ffff:127.0.0.9", "::ffff:127.0.0.1"},
    {"::", "::1", "::ffff:0.0.0.0", ENETUNREACH, NULL, NULL},
    {"0.0.0.0", "::", "::ffff:0.0.0.0", 0, "127.0.0.1", "::ffff:127.0.0.1"},
};

static void udp_rows(void)
{
    for (int i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        int v = bound(SOCK_DGRAM, at(r->receiver, 0));
        struct addr to = at(r->to, port_of(sock_name(v)));
        for (int connects = 0; connects < 2; connects++) {
            char label[120], b[8];
            snprintf(label, sizeof label, "UDP %s -> %s, %s", r->own ? r->own : "unbound", r->to,
                     connects ? "connect" : "sendto");
            int u = from_address(r->own, r->to, SOCK_DGRAM, 0);
            if (r->want) {
                ERR(connects ? usk_connect(u, &to.sa, to.len) : usk_sendto(u, "x", 1, 0, &to.sa, to.len), r->want);
            } else {
                if (connects) {
                    OK(usk_connect(u, &to.sa, to.len));
                    is(__LINE__, label, "peer", peer_name(u), r->peer);
                }
                /* A connected socket may name a destination all the same. */
                for (int named = !connects; named < 2; named++) {
                    long n;
                    EQ(named ? usk_sendto(u, "x", 1, 0, &to.sa, to.len) : usk_send(u, "x", 1, 0), 1);
                    is(__LINE__, label, "sender", sender(v, b, sizeof b, &n), r->from);
                }
            }
            OK(usk_close(u));
        }
        OK(usk_close(v));
    }
}

/* The datagram of a socket bound to 127.0.0.9 goes to 127.0.0.9: one on 127.0.0.1 does not get it. */
static void the_source_is_the_destination(void)
{
    int v = bound(SOCK_DGRAM, at("127.0.0.1", 0)), u = from_address("127.0.0.9", NULL, SOCK_DGRAM, 0);
    struct addr to = at("0.0.0.0", port_of(sock_name(v))), exact = sock_name(v);
    char b[8] = {0};
    long n;
    EQ(usk_sendto(u, "lost", 4, 0, &to.sa, to.len), 4);
    EQ(usk_sendto(u, "kept", 4, 0, &exact.sa, exact.len), 4);
    is(__LINE__, "UDP 127.0.0.9 -> 0.0.0.0", "sender", sender(v, b, sizeof b, &n), "127.0.0.9");
    CHECK(memcmp(b, "kept", 4) == 0);
    OK(usk_close(u));
    OK(usk_close(v));
}

/* A name of family AF_INET on a socket of IPv6: UDP takes it, TCP does not. */
static void other_family(void)
{
    int v = bound(SOCK_DGRAM, at("::", 0)), u = bound(SOCK_DGRAM, at("::", 0));
    struct addr to = at("0.0.0.0", port_of(sock_name(v)));
    char b[8];
    long n;
    EQ(usk_sendto(u, "x", 1, 0, &to.sa, to.len), 1);
    is(__LINE__, "UDP :: -> 0.0.0.0", "sender", sender(v, b, sizeof b, &n), "::ffff:127.0.0.1");
    OK(usk_connect(u, &to.sa, to.len));
    is(__LINE__, "UDP :: -> 0.0.0.0", "peer", peer_name(u), "::ffff:127.0.0.1");
    OK(usk_close(u));
    OK(usk_close(v));
}

static void tcp_rows(void)
{
    for (int i = 0; i < COUNT(rows); i++) {
        const struct row *r = &rows[i];
        int l = listener(at(r->receiver, 0), 1), u = from_address(r->own, r->to, SOCK_STREAM, 0);
        struct addr to = at(r->to, port_of(sock_name(l)));
        char label[120];
        snprintf(label, sizeof label, "TCP %s -> %s", r->own ? r->own : "unbound", r->to);
        if (r->want) {
            ERR(usk_connect(u, &to.sa, to.len), r->want);
        } else {
            OK(usk_connect(u, &to.sa, to.len));
            is(__LINE__, label, "peer", peer_name(u), r->peer);
            struct addr from = {.len = sizeof from.storage};
            int a = (int)OK(usk_accept(l, &from.sa, &from.len));
            is(__LINE__, label, "client", from, r->from);
            OK(usk_close(a));
        }
        OK(usk_close(u));
        OK(usk_close(l));
    }
}

/* Sockets without ports receive their own: the raw one its packet, the ping one the echo reply. */
static void portless(int type, int protocol, const char *own, const char *to_text, int want_sendto, const char *from)
{
    struct addr to = at(to_text, 0);
    for (int connects = 0; connects < 2; connects++) {
        unsigned char echo[8] = {to.sa.sa_family == AF_INET ? 8 : 128, 0, 0, 0, 0, 0, 0, 1}, b[128];
        char label[120];
        snprintf(label, sizeof label, "type %d protocol %d %s -> %s, %s", type, protocol, own ? own : "unbound",
                 to_text, connects ? "connect" : "sendto");
        int u = from_address(own, to_text, type, protocol);
        if (!connects && want_sendto) {
            ERR(usk_sendto(u, echo, sizeof echo, 0, &to.sa, to.len), want_sendto);
        } else {
            if (connects) {
                OK(usk_connect(u, &to.sa, to.len));
                EQ(usk_send(u, echo, sizeof echo, 0), sizeof echo);
            } else {
                EQ(usk_sendto(u, echo, sizeof echo, 0, &to.sa, to.len), sizeof echo);
            }
            long n;
            is(__LINE__, label, "sender", sender(u, b, sizeof b, &n), from);
            if (type == SOCK_RAW && to.sa.sa_family == AF_INET && n >= 20)
                CHECK(memcmp(b + 12, b + 16, 4) == 0); /* from its address to its address */
        }
        OK(usk_close(u));
    }
}

/* What names the interface: the socket's device, or IP_MULTICAST_IF by its number or by an address of it. */
enum by { BY_DEVICE, BY_NUMBER, BY_ADDRESS, BYS };

static int by_loopback(int family, int type, int protocol, enum by by)
{
    struct ip_mreqn m = {.imr_ifindex = by == BY_NUMBER}, none = {.imr_ifindex = 0};
    struct in_addr got;
    socklen_t len = sizeof got;
    int fd = (int)OK(usk_socket(family, type, protocol));
    OK(set_int(fd, SOL_SOCKET, SO_BROADCAST, 1));
    if (by == BY_DEVICE) {
        OK(usk_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
    } else if (family == AF_INET) {
        m.imr_address.s_addr = htonl(by == BY_ADDRESS ? 0x7f000009 : INADDR_ANY);
        OK(usk_setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &none, sizeof none));
        OK(usk_setsockopt(fd, SOL_IP, IP_MULTICAST_IF, &m, sizeof m));
        OK(usk_getsockopt(fd, SOL_IP, IP_MULTICAST_IF, &got, &len));
        EQ(got.s_addr, m.imr_address.s_addr);
    }
    return fd;
}

/* Of the loopback interface's addresses none is a source for an address that only the interface's name reaches (they
 * are of this host's scope): over IPv4 there is none then, unless IP_MULTICAST_IF names one. */
static void without_a_source(int family, int type, int protocol)
{
    static const char *const to[] = {"239.1.2.3", "224.0.0.1", "255.255.255.255", "192.0.2.1"};
    const char *prefix = family == AF_INET6 ? "::ffff:" : "";
    for (int i = 0; i < COUNT(to); i++)
        for (enum by by = BY_DEVICE; by < (family == AF_INET6 ? BY_NUMBER : BYS); by++) {
            char text[64], own[64], label[120];
            snprintf(text, sizeof text, "%s%s", prefix, to[i]);
            snprintf(own, sizeof own, "%s%s", prefix, by == BY_ADDRESS ? "127.0.0.9" : "0.0.0.0");
            snprintf(label, sizeof label, "family %d, type %d, to %s, way %d", family, type, text, by);
            struct addr a = at(text, 9);
            int fd = by_loopback(family, type, protocol, by);
            if (i > 1 && by != BY_DEVICE) {
                err_at(__FILE__, __LINE__, label, usk_connect(fd, &a.sa, a.len), ENETUNREACH);
            } else {
                eq_at(__FILE__, __LINE__, label, usk_connect(fd, &a.sa, a.len), 0);
                is(__LINE__, label, "own", sock_name(fd), own);
                is(__LINE__, label, "peer", peer_name(fd), text);
                /* A raw socket of IPv6 has no way to it. */
                if (family == AF_INET || type == SOCK_DGRAM)
                    eq_at(__FILE__, __LINE__, label, usk_send(fd, "x", 1, 0), 1);
            }
            OK(usk_close(fd));
        }
}

int main(void)
{
    begin("unspecified");
    udp_rows();
    the_source_is_the_destination();
    other_family();
    tcp_rows();
    portless(SOCK_RAW, 253, NULL, "0.0.0.0", 0, "127.0.0.1");
    portless(SOCK_RAW, 253, "127.0.0.9", "0.0.0.0", 0, "127.0.0.9");
    portless(SOCK_RAW, 253, NULL, "::", 0, "::1");
    portless(SOCK_RAW, 253, "::1", "::", 0, "::1");
    without_a_source(AF_INET, SOCK_DGRAM, 0);
    without_a_source(AF_INET6, SOCK_DGRAM, 0);
    without_a_source(AF_INET, SOCK_RAW, 253);
    without_a_source(AF_INET6, SOCK_RAW, 253);
    may_ping();
    portless(SOCK_DGRAM, IPPROTO_ICMP, NULL, "0.0.0.0", 0, "127.0.0.1");
    portless(SOCK_DGRAM, IPPROTO_ICMP, "127.0.0.9", "0.0.0.0", 0, "127.0.0.9");
    portless(SOCK_DGRAM, IPPROTO_ICMPV6, NULL, "::", ENETUNREACH, "::1");
    portless(SOCK_DGRAM, IPPROTO_ICMPV6, "::1", "::", ENETUNREACH, "::1");
    return done();
}

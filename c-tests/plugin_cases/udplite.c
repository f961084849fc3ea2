/* UDP-Lite over the plug-in does what the kernel's own does: each scene runs with the kernel's sockets, where it has
 * them, and with the plug-in's, on a loopback device each, over both versions of IP. Then the two talk to each other
 * across a TUN device. In a network namespace of its own; where there can be none the kernel is left out. ARGV[1] is
 * the folder of the built plug-ins. */
#include "common.h"
#include <stdarg.h>

enum { UDPLITE = 136, SOL_UDPLITE = 136, SEND_CSCOV = 10, RECV_CSCOV = 11, HEADER = 8, PORT = 7, OTHER = 9 };

/* ---- whose sockets --------------------------------------------------------------------------------------------- */

struct sockets {
    const char *whose;
    int (*socket)(int, int, int);
    int (*bind)(int, const struct sockaddr *, socklen_t);
    int (*connect)(int, const struct sockaddr *, socklen_t);
    ssize_t (*send)(int, const void *, size_t, int);
    ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
    int (*setsockopt)(int, int, int, const void *, socklen_t);
    int (*getsockopt)(int, int, int, void *, socklen_t *);
    int (*close)(int);
    uint64_t (*counter)(const char *);
};

static usk_stack_t *stack;

static int our_socket(int family, int type, int protocol)
{
    return usk_socket_on(stack, family, type, protocol);
}

static uint64_t our_counter(const char *name)
{
    char full[64];
    uint64_t n = 0;
    snprintf(full, sizeof full, "UdpLite%s", name);
    OK(usk_mib_read(stack, full, &n));
    return n;
}

/* Of both versions of IP. */
static uint64_t kernel_counter(const char *name)
{
    char names[1024], values[1024], full[64], word[64];
    uint64_t sum = 0;
    FILE *f = fopen("/proc/net/snmp", "r");
    CHECK(f != NULL);
    while (fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        if (strncmp(names, "UdpLite:", 8) != 0)
            continue;
        char *a, *b, *n = strtok_r(names, " \n", &a), *v = strtok_r(values, " \n", &b);
        for (; n && v; n = strtok_r(NULL, " \n", &a), v = strtok_r(NULL, " \n", &b))
            if (strcmp(n, name) == 0)
                sum += strtoull(v, NULL, 10);
    }
    fclose(f);
    f = fopen("/proc/net/snmp6", "r");
    snprintf(full, sizeof full, "UdpLite6%s", name);
    unsigned long long n;
    while (f && fscanf(f, "%63s %llu", word, &n) == 2)
        sum += strcmp(word, full) == 0 ? n : 0;
    if (f)
        fclose(f);
    return sum;
}

static const struct sockets kernel = { "kernel", socket,     bind,       connect, send,          sendto,
                                       recvfrom, setsockopt, getsockopt, close,   kernel_counter };
static const struct sockets ours = { "ours",       our_socket,     usk_bind,       usk_connect, usk_send,   usk_sendto,
                                     usk_recvfrom, usk_setsockopt, usk_getsockopt, usk_close,   our_counter };

/* The scene that runs: its sockets, and the loopback address. */
static const struct sockets *s;
static int family;
static struct addr host;

#define WANT(got, want, ...) want_at(__LINE__, (long long)(got), (long long)(want), __VA_ARGS__)

__attribute__((format(printf, 4, 5))) static void want_at(int line, long long got, long long want, const char *f, ...)
{
    char what[160], g[64], w[64];
    va_list list;
    if (got == want)
        return;
    int n = snprintf(what, sizeof what, "%s, IPv%d: ", s->whose, family == AF_INET ? 4 : 6);
    va_start(list, f);
    vsnprintf(what + n, sizeof what - (size_t)n, f, list);
    va_end(list);
    snprintf(g, sizeof g, "%lld (errno %s)", got, errno_name(errno));
    snprintf(w, sizeof w, "%lld", want);
    complain(__FILE__, line, what, g, w);
}

static struct addr with_port(struct addr a, int port)
{
    a.in.sin_port = htons((uint16_t)port);
    return a;
}

static int lite(int port)
{
    int fd = (int)OK(s->socket(family, SOCK_DGRAM, UDPLITE));
    struct addr a = with_port(host, port);
    if (port)
        OK(s->bind(fd, &a.sa, a.len));
    return fd;
}

static int set(int fd, int level, int name, int value)
{
    return s->setsockopt(fd, level, name, &value, sizeof value);
}

/* ---- packets as bytes ------------------------------------------------------------------------------------------ */

static uint32_t sum_of(const unsigned char *p, size_t n, uint32_t sum)
{
    for (size_t i = 0; i < n; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    return sum;
}

/* The checksum of a datagram between loopback addresses, over its first `bytes` (RFC 3828 section 3.1). */
static uint16_t sum16(const unsigned char *p, size_t len, size_t bytes)
{
    const unsigned char *a = family == AF_INET ? (void *)&host.in.sin_addr : (void *)&host.in6.sin6_addr;
    size_t n = family == AF_INET ? 4 : 16;
    uint32_t sum = sum_of(a, n, sum_of(a, n, sum_of(p, bytes, UDPLITE + (uint32_t)len)));
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

enum damage { NONE, NO_CSUM, BAD_CSUM, BYTE_12 };

/* A datagram to PORT with 12 bytes `fill`, and this coverage; its length. */
static size_t datagram(unsigned char *p, int port, unsigned coverage, int fill, enum damage damage)
{
    size_t len = HEADER + 12, bytes = coverage == 0 || coverage > len ? len : coverage;
    const uint16_t h[3] = { htons(OTHER), htons((uint16_t)port), htons((uint16_t)coverage) };
    memcpy(p, h, sizeof h);
    p[6] = p[7] = 0;
    memset(p + HEADER, fill, 12);
    uint16_t sum = sum16(p, len, bytes);
    sum = damage == NO_CSUM ? 0 : (uint16_t)((sum ? sum : 0xffff) + (damage == BAD_CSUM));
    p[6] = (unsigned char)(sum >> 8);
    p[7] = (unsigned char)sum;
    if (damage == BYTE_12)
        p[12] ^= 1;
    return len;
}

/* Sends bytes as a datagram of protocol 136. */
static void inject(int raw, const void *p, size_t len)
{
    WANT(s->sendto(raw, p, len, 0, &host.sa, host.len), len, "a raw packet of %zu bytes", len);
}

/* ---- scenes ---------------------------------------------------------------------------------------------------- */

static void options(void)
{
    static const struct {
        int set, get;
    } rows[] = { { 0, 0 },   { 1, 8 },         { 7, 8 },         { 8, 8 },  { 9, 9 },
                 { 100, 100 }, { 65535, 65535 }, { 65536, 65535 }, { -1, 8 }, { 70000, 65535 } };
    int fd = lite(0), one = 1;
    for (int name = SEND_CSCOV; name <= RECV_CSCOV; name++) {
        int got = -1;
        socklen_t len = sizeof got;
        OK(s->getsockopt(fd, SOL_UDPLITE, name, &got, &len));
        WANT(got, 0, "option %d at first", name);
        for (int i = 0; i < COUNT(rows); i++) {
            OK(set(fd, i % 2 ? SOL_UDPLITE : IPPROTO_UDP, name, rows[i].set));
            OK(s->getsockopt(fd, SOL_UDPLITE, name, &got, &len));
            WANT(got, rows[i].get, "option %d set to %d", name, rows[i].set);
        }
        WANT(s->setsockopt(fd, SOL_UDPLITE, name, &one, 1), -1, "option %d of a byte", name);
        WANT(errno, EINVAL, "option %d of a byte", name);
    }
    WANT(set(fd, SOL_UDPLITE, 12, 1), -1, "option 12");
    WANT(errno, ENOPROTOOPT, "option 12");
    OK(s->close(fd));
}

static void sent(void)
{
    static const struct {
        int set, coverage;
    } rows[] = { { -2, 20 }, { 0, 0 }, { 8, 8 }, { 12, 12 }, { 20, 20 }, { 21, 20 }, { 65535, 20 } };
    int raw = (int)OK(s->socket(family, SOCK_RAW, UDPLITE)), to = lite(PORT), fd = lite(OTHER);
    struct addr a = with_port(host, PORT);
    size_t header = family == AF_INET ? 20 : 0;
    for (int i = 0; i < COUNT(rows); i++) {
        unsigned char p[64], *h = p + header;
        char text[16];
        if (rows[i].set != -2)
            OK(set(fd, SOL_UDPLITE, SEND_CSCOV, rows[i].set));
        WANT(s->sendto(fd, "twelve bytes", 12, 0, &a.sa, a.len), 12, "coverage %d", rows[i].set);
        WANT(s->recvfrom(raw, p, sizeof p, 0, NULL, NULL), header + 20, "coverage %d", rows[i].set);
        WANT(h[4] << 8 | h[5], rows[i].coverage, "coverage %d", rows[i].set);
        WANT(sum16(h, 20, rows[i].coverage ? (size_t)rows[i].coverage : 20), 0, "sum of coverage %d", rows[i].set);
        struct addr from = { .len = sizeof from.storage };
        WANT(s->recvfrom(to, text, sizeof text, 0, &from.sa, &from.len), 12, "coverage %d", rows[i].set);
        CHECK(memcmp(text, "twelve bytes", 12) == 0 && same_addr(from, with_port(host, OTHER)));
    }
    WANT(s->send(fd, "x", 1, 0), -1, "without a peer");
    WANT(errno, EDESTADDRREQ, "without a peer");
    a = with_port(host, 0);
    WANT(s->sendto(fd, "x", 1, 0, &a.sa, a.len), -1, "to port 0");
    WANT(errno, EINVAL, "to port 0");
    a = with_port(host, PORT);
    static char big[65529];
    WANT(s->sendto(fd, big, sizeof big, 0, &a.sa, a.len), -1, "too much");
    WANT(errno, EMSGSIZE, "too much");
    OK(s->close(raw));
    OK(s->close(to));
    OK(s->close(fd));
}

/* Which datagrams a socket gets, and what is counted of the others. */
static void received(void)
{
    static const struct {
        /* RECV_CSCOV; -1: not set. */
        int want;
        unsigned coverage;
        enum damage damage;
        int taken, errors, csum_errors;
    } rows[] = {
        { -1, 0, NONE, 1, 0, 0 },      { -1, 1, NONE, 0, 1, 1 },   { -1, 7, NONE, 0, 1, 1 },
        { -1, 8, NONE, 1, 0, 0 },      { -1, 11, NONE, 1, 0, 0 },  { -1, 19, NONE, 1, 0, 0 },
        { -1, 20, NONE, 1, 0, 0 },     { -1, 21, NONE, 0, 1, 0 },  { -1, 65535, NONE, 0, 1, 0 },
        { -1, 0, NO_CSUM, 0, 1, 1 },   { -1, 8, NO_CSUM, 0, 1, 1 }, { -1, 0, BAD_CSUM, 0, 1, 1 },
        { -1, 8, BAD_CSUM, 0, 1, 1 },  { -1, 8, BYTE_12, 1, 0, 0 }, { -1, 12, BYTE_12, 1, 0, 0 },
        { -1, 13, BYTE_12, 0, 1, 1 },  { -1, 0, BYTE_12, 0, 1, 1 }, { 0, 0, NONE, 1, 0, 0 },
        { 0, 8, NONE, 0, 1, 0 },       { 0, 12, NONE, 0, 1, 0 },   { 0, 20, NONE, 1, 0, 0 },
        { 8, 0, NONE, 1, 0, 0 },       { 8, 8, NONE, 1, 0, 0 },    { 8, 20, NONE, 1, 0, 0 },
        { 12, 8, NONE, 0, 1, 0 },      { 12, 12, NONE, 1, 0, 0 },  { 12, 0, NONE, 1, 0, 0 },
        { 100, 12, NONE, 0, 1, 0 },    { 100, 20, NONE, 1, 0, 0 }, { 100, 0, NONE, 1, 0, 0 },
    };
    int raw = (int)OK(s->socket(family, SOCK_RAW, UDPLITE)), fd = lite(PORT);
    for (int i = 0; i < COUNT(rows); i++) {
        unsigned char p[64], got[32];
        uint64_t in = s->counter("InErrors"), csum = s->counter("InCsumErrors");
        if (rows[i].want >= 0)
            OK(set(fd, SOL_UDPLITE, RECV_CSCOV, rows[i].want));
        inject(raw, p, datagram(p, PORT, rows[i].coverage, 'y', rows[i].damage));
        /* What comes behind it is always taken. */
        inject(raw, p, datagram(p, PORT, 20, 'z', NONE));
        WANT(s->recvfrom(fd, got, sizeof got, 0, NULL, NULL), 12, "row %d", i);
        WANT(got[0] == 'y', rows[i].taken, "row %d: want %d, coverage %u", i, rows[i].want, rows[i].coverage);
        if (got[0] == 'y')
            WANT(s->recvfrom(fd, got, sizeof got, 0, NULL, NULL), 12, "row %d", i);
        WANT(s->counter("InErrors") - in, rows[i].errors, "row %d: errors", i);
        WANT(s->counter("InCsumErrors") - csum, rows[i].csum_errors, "row %d: wrong checksums", i);
    }
    /* Nothing but a header, and less than one. */
    unsigned char p[64], got[8];
    uint64_t in = s->counter("InErrors");
    inject(raw, "\0\7\0\7\0\0\0", 7);
    WANT(s->counter("InErrors") - in, 1, "7 bytes");
    memcpy(p, "\0\11\0\7\0\10\0", 8);
    uint16_t sum = sum16(p, 8, 8);
    p[6] = (unsigned char)(sum >> 8), p[7] = (unsigned char)sum;
    inject(raw, p, 8);
    WANT(s->recvfrom(fd, got, sizeof got, 0, NULL, NULL), 0, "no payload");
    OK(s->close(raw));
    OK(s->close(fd));
}

/* A port where nobody listens is answered; a damaged datagram to it is not. */
static void unreachable(void)
{
    int v6 = family == AF_INET6, icmp = (int)OK(s->socket(family, SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP));
    int raw = (int)OK(s->socket(family, SOCK_RAW, UDPLITE)), fd = lite(0);
    unsigned char p[64], got[256], *h = got + (v6 ? 0 : 20);
    struct addr nobody = with_port(host, 99);
    uint64_t none = s->counter("NoPorts");
    inject(raw, p, datagram(p, 99, 8, 'y', BAD_CSUM));
    size_t len = datagram(p, 99, 8, 'y', NONE);
    inject(raw, p, len);
    ssize_t n = s->recvfrom(icmp, got, sizeof got, 0, NULL, NULL);
    WANT(h[0] << 8 | h[1], v6 ? 0x104 : 0x303, "type and code");
    /* The datagram is quoted as it came, behind its IP header. */
    size_t at = (size_t)(h - got) + 8 + (v6 ? 40 : 20);
    WANT(n, at + len, "length of the error");
    WANT(memcmp(got + at, p, len), 0, "quote");
    WANT(s->counter("NoPorts") - none, 1, "counted");
    WANT(s->recvfrom(icmp, got, sizeof got, MSG_DONTWAIT, NULL, NULL), -1, "no other error");
    OK(s->connect(fd, &nobody.sa, nobody.len));
    WANT(s->send(fd, "x", 1, 0), 1, "to nobody");
    WANT(s->send(fd, "x", 1, 0), -1, "to nobody again");
    WANT(errno, ECONNREFUSED, "to nobody again");
    OK(s->close(icmp));
    OK(s->close(raw));
    OK(s->close(fd));
}

/* Joins a group on an interface; with a source, for what comes from it alone. */
static void join_group(int fd, int index, const char *group, const struct addr *source)
{
    struct group_source_req r;
    struct addr g = at(group, 0);
    int level = family == AF_INET ? SOL_IP : SOL_IPV6;
    memset(&r, 0, sizeof r);
    r.gsr_interface = (uint32_t)index;
    memcpy(&r.gsr_group, &g.storage, sizeof r.gsr_group);
    if (source) {
        memcpy(&r.gsr_source, &source->storage, sizeof r.gsr_source);
        OK(s->setsockopt(fd, level, MCAST_JOIN_SOURCE_GROUP, &r, sizeof r));
    } else {
        OK(s->setsockopt(fd, level, MCAST_JOIN_GROUP, &r, sizeof(struct group_req)));
    }
}

static int of_many(int port)
{
    int fd = (int)OK(s->socket(family, SOCK_DGRAM, UDPLITE));
    struct addr any = at(family == AF_INET ? "0.0.0.0" : "::", port);
    OK(set(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(s->bind(fd, &any.sa, any.len));
    return fd;
}

/* Which of `n` sockets have got a datagram, a bit each; every one of them at most one. */
static int who(const int *fd, int n)
{
    int bits = 0;
    char b[8];
    for (int i = 0; i < n; i++) {
        if (s->recvfrom(fd[i], b, sizeof b, MSG_DONTWAIT, NULL, NULL) == 1)
            bits |= 1 << i;
        WANT(s->recvfrom(fd[i], b, sizeof b, MSG_DONTWAIT, NULL, NULL), -1, "socket %d", i);
    }
    return bits;
}

/* The sender, and a socket to which nothing but marks comes. */
static const struct sockets *tx;
static int from, mark;

/* Sends a datagram to a group, and waits until it has been dealt with: a mark has come that was sent after it. */
static void to_group(const char *group, int port)
{
    struct addr to = at(group, port), m = with_port(host, 50);
    char b[8];
    WANT(tx->sendto(from, "x", 1, 0, &to.sa, to.len), 1, "to %s", group);
    WANT(tx->sendto(from, "mark", 4, 0, &m.sa, m.len), 4, "a mark");
    WANT(s->recvfrom(mark, b, sizeof b, 0, NULL, NULL), 4, "the mark");
}

/* A datagram to a group goes to all its members, and to those who did not say that they want none. The sockets are
 * those of `s` at `host`; `sender` sends from `mine`, both on the interface `index`. */
static void groups(const struct sockets *sender, struct addr mine, int index)
{
    int v6 = family == AF_INET6, level = v6 ? SOL_IPV6 : SOL_IP, all = v6 ? 29 : IP_MULTICAST_ALL;
    const char *group = v6 ? "ff15::77" : "239.1.2.3";
    struct addr source = with_port(mine, 0), elsewhere = source, somebody = with_port(mine, 1234);
    enum { MEMBER, SELECTED, REFUSED, ANY, DEAF, PEER, N };
    int fd[N];
    tx = sender;
    mark = lite(50);
    from = (int)OK(tx->socket(family, SOCK_DGRAM, UDPLITE));
    struct addr bound_to = with_port(mine, OTHER);
    OK(tx->bind(from, &bound_to.sa, bound_to.len));
    struct ip_mreqn by = { .imr_ifindex = index };
    if (v6)
        OK(tx->setsockopt(from, level, IPV6_MULTICAST_IF, &index, sizeof index));
    else
        OK(tx->setsockopt(from, level, IP_MULTICAST_IF, &by, sizeof by));
    if (v6)
        elsewhere.in6.sin6_addr.s6_addr[15] ^= 8;
    else
        elsewhere.in.sin_addr.s_addr ^= htonl(8);
    for (int i = 0; i < N; i++)
        fd[i] = of_many(PORT);
    join_group(fd[MEMBER], index, group, NULL);
    join_group(fd[SELECTED], index, group, &source);
    join_group(fd[REFUSED], index, group, &elsewhere);
    OK(set(fd[DEAF], level, all, 0));
    OK(s->connect(fd[PEER], &somebody.sa, somebody.len));
    to_group(group, PORT);
    WANT(who(fd, N), 1 << MEMBER | 1 << SELECTED | 1 << ANY, "who of a group");
    uint64_t ignored = s->counter("IgnoredMulti");
    /* /proc/net/snmp6 does not have this counter of UDP-Lite's. */
    int shown = s != &kernel || !v6;
    to_group(group, PORT + 1);
    WANT(s->counter("IgnoredMulti") - ignored, shown, "nobody is there");
    for (int i = 0; i < N; i++)
        if (i != DEAF)
            OK(s->close(fd[i]));
    /* The group has a member, and the port a socket, which wants none of it. */
    int keeps = of_many(PORT + 4);
    join_group(keeps, index, group, NULL);
    to_group(group, PORT);
    WANT(who(&fd[DEAF], 1), 0, "who of a group");
    WANT(s->counter("IgnoredMulti") - ignored, 2 * shown, "nobody wants it");
    OK(s->close(fd[DEAF]));
    OK(s->close(keeps));
    OK(s->close(mark));
    OK(tx->close(from));
}

/* A datagram to a broadcast address goes to all who are bound to it or to no address. */
static void broadcast(void)
{
    int fd[3] = { of_many(PORT), of_many(PORT), lite(0) };
    from = lite(0);
    struct addr all = at("127.255.255.255", PORT), own = at("127.0.0.1", PORT);
    OK(set(fd[2], SOL_SOCKET, SO_REUSEADDR, 1));
    OK(s->bind(fd[2], &own.sa, own.len));
    WANT(s->sendto(from, "x", 1, 0, &all.sa, all.len), -1, "without SO_BROADCAST");
    WANT(errno, EACCES, "without SO_BROADCAST");
    OK(set(from, SOL_SOCKET, SO_BROADCAST, 1));
    WANT(s->sendto(from, "x", 1, 0, &all.sa, all.len), 1, "to all");
    WANT(who(fd, 3), 3, "who of all");
    for (int i = 0; i < 3; i++)
        OK(s->close(fd[i]));
    OK(s->close(from));
}

static void scenes(const struct sockets *whose)
{
    s = whose;
    for (int v6 = 0; v6 <= 1; v6++) {
        family = v6 ? AF_INET6 : AF_INET;
        host = local(family);
        options();
        sent();
        received();
        unreachable();
        if (!v6) {
            groups(s, host, 1);
            broadcast();
        }
    }
}

/* ---- the two together ------------------------------------------------------------------------------------------ */

/* The kernel's at 10.9.0.1, ours at 10.9.0.2: each reads what the other has covered, in part and as a whole. */
static void talk(const char *mine, const char *theirs)
{
    struct addr a = at(mine, PORT), b = at(theirs, PORT), from;
    int k = (int)OK(socket(b.sa.sa_family, SOCK_DGRAM, UDPLITE));
    int u = (int)OK(our_socket(a.sa.sa_family, SOCK_DGRAM, UDPLITE));
    OK(bind(k, &b.sa, b.len));
    OK(usk_bind(u, &a.sa, a.len));
    for (int coverage = 0; coverage <= 24; coverage += 4) {
        char text[16];
        from.len = sizeof from.storage;
        OK(setsockopt(k, SOL_UDPLITE, SEND_CSCOV, &coverage, sizeof coverage));
        OK(usk_setsockopt(u, SOL_UDPLITE, SEND_CSCOV, &coverage, sizeof coverage));
        EQ(usk_sendto(u, "from us, odd", 11, 0, &b.sa, b.len), 11);
        EQ(recvfrom(k, text, sizeof text, 0, &from.sa, &from.len), 11);
        CHECK(memcmp(text, "from us, od", 11) == 0 && same_addr(from, a));
        EQ(sendto(k, "from them", 9, 0, &a.sa, a.len), 9);
        EQ(usk_recv(u, text, sizeof text, 0), 9);
        CHECK(memcmp(text, "from them", 9) == 0);
    }
    OK(close(k));
    /* The kernel says that nobody is there any more. */
    OK(usk_connect(u, &b.sa, b.len));
    EQ(usk_send(u, "x", 1, 0), 1);
    EQ(await(u, POLLIN) & POLLERR, POLLERR);
    EQ(usk_send(u, "x", 1, 0), -1);
    EQ(errno, ECONNREFUSED);
    OK(usk_close(u));
    /* And we say it to the kernel. */
    k = (int)OK(socket(b.sa.sa_family, SOCK_DGRAM, UDPLITE));
    OK(connect(k, &a.sa, a.len));
    EQ(send(k, "x", 1, 0), 1);
    struct pollfd p = { .fd = k, .events = POLLIN };
    EQ(poll(&p, 1, -1), 1);
    EQ(send(k, "x", 1, 0), -1);
    EQ(errno, ECONNREFUSED);
    OK(close(k));
    /* Groups, each for the other's sockets. */
    int index = (int)if_nametoindex("lite0");
    family = a.sa.sa_family;
    s = &kernel, host = b;
    groups(&ours, a, index);
    s = &ours, host = a;
    groups(&kernel, b, index);
}

/* A network namespace in which this process may do all, with its loopback device up. */
static bool namespace(void)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    unsigned uid = geteuid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return false;
    /* Without a name there, the commands that it runs would have no rights. */
    FILE *map = fopen("/proc/self/uid_map", "w");
    if (!map || fprintf(map, "0 %u 1\n", uid) < 0 || fclose(map) != 0)
        return false;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, UDPLITE);
    close(fd);
    return up && fd >= 0;
}

int main(int argc, char **argv)
{
    char config[600];
    CHECK(argc == 2);
    bool with_kernel = namespace();
    begin("udplite");
    if (with_kernel)
        scenes(&kernel);
    else
        printf("SKIP udplite: no network namespace, or a kernel without UDP-Lite\n");
    snprintf(config, sizeof config, "plugin=%s/udplite.so", argv[1]);
    stack = usk_stack_new(config);
    CHECK(stack != NULL);
    scenes(&ours);
    usk_stack_free(stack);
    if (with_kernel) {
        snprintf(config, sizeof config, "tun=lite0,addr=10.9.0.2/24,addr=fd09::2/64,plugin=%s/udplite.so", argv[1]);
        stack = usk_stack_new(config);
        CHECK(stack != NULL);
        CHECK(system("ip addr add 10.9.0.1/24 dev lite0 && ip addr add fd09::1/64 dev lite0 nodad && "
                     "ip link set lite0 up") == 0);
        talk("10.9.0.2", "10.9.0.1");
        talk("fd09::2", "fd09::1");
        usk_stack_free(stack);
    }
    return done();
}

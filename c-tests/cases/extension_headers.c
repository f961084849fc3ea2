/* Extension headers of IPv6, RFC 3542: sticky ones and those of one call on UDP and raw sockets, what a receiver is
 * told of them, the older options of RFC 2292, and what is refused. ipv6(7). */
#include "headers.h"
#include <linux/in6.h>

#ifndef IPV6_2292PKTINFO
#define IPV6_2292PKTINFO 2
#define IPV6_2292HOPOPTS 3
#define IPV6_2292DSTOPTS 4
#define IPV6_2292RTHDR 5
#define IPV6_2292HOPLIMIT 8
#endif

static const unsigned char PRE[16] = {0, 1, 0x1e, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 0};

/* Types of the control messages in order, and the bytes of the last one of each of the kinds here. */
struct told {
    int types[16], n;
    unsigned char hop[8], dst[8], dst0[16];
    int hop_len, dst_len;
};

static struct told receive(int fd, const char *data)
{
    struct told t = {{0}, 0, {0}, {0}, {0}, 0, 0};
    char buf[64], control[512];
    struct iovec v = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK(usk_poll(&p, 1, -1) == 1);
    CHECK(usk_recvmsg(fd, &m, 0) == (ssize_t)strlen(data) && memcmp(buf, data, strlen(data)) == 0);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        CHECK(c->cmsg_level == SOL_IPV6 && t.n < 16);
        t.types[t.n++] = c->cmsg_type;
        int n = (int)(c->cmsg_len - CMSG_LEN(0));
        if (c->cmsg_type == IPV6_HOPOPTS || c->cmsg_type == IPV6_2292HOPOPTS) {
            t.hop_len = n;
            memcpy(t.hop, CMSG_DATA(c), 8);
        }
        if (c->cmsg_type == IPV6_DSTOPTS || c->cmsg_type == IPV6_2292DSTOPTS) {
            t.dst_len = n;
            memcpy(t.dst, CMSG_DATA(c), 8);
        }
    }
    return t;
}

static int told(const struct told *t, int type)
{
    int n = 0;
    for (int i = 0; i < t->n; i++)
        n += t->types[i] == type;
    return n;
}

static ssize_t send_with(int fd, const struct sockaddr_in6 *to, int type, const void *data, size_t n)
{
    char control[512] = {0};
    struct iovec v = {(void *)"x", 1};
    struct msghdr m = {.msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &v, .msg_iovlen = 1};
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(n);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_IPV6;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(n);
    memcpy(CMSG_DATA(c), data, n);
    return usk_sendmsg(fd, &m, 0);
}

static void options(void)
{
    int fd = usk_socket(AF_INET6, SOCK_DGRAM, 0);
    unsigned char big[2056] = {0}, got[64];
    int one = 1, names[] = {IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDRDSTOPTS};
    for (int i = 0; i < 3; i++) {
        CHECK(get(fd, names[i], got, sizeof got) == 0);
        ERR(set(fd, names[i], HOP, 7), EINVAL);
        ERR(set(fd, names[i], HOP, 1), EINVAL);
        ERR(set(fd, names[i], big, 2048), EINVAL);
        ERR(set(fd, names[i], PRE, 8), EINVAL); /* it says that it is longer */
        CHECK(set(fd, names[i], PRE, 16) == 0);
        CHECK(get(fd, names[i], got, sizeof got) == 16 && memcmp(got, PRE, 16) == 0);
        CHECK(get(fd, names[i], got, 8) == 8);
        CHECK(set(fd, names[i], HOP, 8) == 0);
        CHECK(get(fd, names[i], got, sizeof got) == 8 && memcmp(got, HOP, 8) == 0);
        CHECK(set(fd, names[i], NULL, 0) == 0);
        CHECK(get(fd, names[i], got, sizeof got) == 0);
    }
    /* Routing headers: type 0 is refused (RFC 5095), as are unknown ones. */
    unsigned char rthdr[24] = {0, 2, 0, 1};
    rthdr[23] = 1;
    ERR(set(fd, IPV6_RTHDR, rthdr, 24), EINVAL);
    rthdr[2] = 3;
    ERR(set(fd, IPV6_RTHDR, rthdr, 24), EINVAL);
    ERR(set(fd, IPV6_RTHDR, rthdr, 4), EINVAL);
    CHECK(get(fd, IPV6_RTHDR, got, sizeof got) == 0);
    rthdr[2] = 4; /* segments: one, which is the last entry too */
    rthdr[3] = 0;
    CHECK(set(fd, IPV6_RTHDR, rthdr, 24) == 0);
    CHECK(get(fd, IPV6_RTHDR, got, sizeof got) == 24 && memcmp(got, rthdr, 24) == 0);
    rthdr[4] = 1; /* the last entry lies beyond the end */
    ERR(set(fd, IPV6_RTHDR, rthdr, 24), EINVAL);
    CHECK(set(fd, IPV6_RTHDR, NULL, 0) == 0);
    int flags[] = {IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS, IPV6_RECVRTHDR,   IPV6_2292HOPOPTS,
                   IPV6_2292DSTOPTS, IPV6_2292RTHDR,   IPV6_2292PKTINFO, IPV6_2292HOPLIMIT};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        int v = -1;
        CHECK(get(fd, flags[i], &v, sizeof v) == 4 && v == 0);
        ERR(set(fd, flags[i], &one, 3), EINVAL);
        CHECK(set(fd, flags[i], &one, sizeof one) == 0);
        CHECK(get(fd, flags[i], &v, sizeof v) == 4 && v == 1);
    }
    CHECK(usk_close(fd) == 0);
}

static void sticky(void)
{
    int in = usk_socket(AF_INET6, SOCK_DGRAM, 0), out = usk_socket(AF_INET6, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in6 to = own_name(in);
    CHECK(set(out, IPV6_HOPOPTS, HOP, 8) == 0 && set(out, IPV6_DSTOPTS, DST, 8) == 0);
    CHECK(usk_sendto(out, "none", 4, 0, (struct sockaddr *)&to, sizeof to) == 4);
    struct told t = receive(in, "none");
    CHECK(t.n == 0);
    CHECK(set(in, IPV6_RECVHOPOPTS, &one, 4) == 0 && set(in, IPV6_RECVDSTOPTS, &one, 4) == 0);
    CHECK(set(in, IPV6_RECVRTHDR, &one, 4) == 0);
    CHECK(usk_sendto(out, "both", 4, 0, (struct sockaddr *)&to, sizeof to) == 4);
    t = receive(in, "both");
    CHECK(t.n == 2 && t.types[0] == IPV6_HOPOPTS && t.types[1] == IPV6_DSTOPTS);
    CHECK(t.hop_len == 8 && memcmp(t.hop + 2, HOP + 2, 6) == 0 && t.hop[0] == 60);
    CHECK(t.dst_len == 8 && memcmp(t.dst + 2, DST + 2, 6) == 0 && t.dst[0] == 17);
    /* Those in front of a routing header are sent only with one. */
    CHECK(set(out, IPV6_DSTOPTS, NULL, 0) == 0 && set(out, IPV6_RTHDRDSTOPTS, PRE, 16) == 0);
    CHECK(usk_sendto(out, "hop", 3, 0, (struct sockaddr *)&to, sizeof to) == 3);
    t = receive(in, "hop");
    CHECK(t.n == 1 && t.types[0] == IPV6_HOPOPTS && t.hop[0] == 17);
    /* A large datagram: the header of the whole comes before the fragments'. */
    CHECK(set(out, IPV6_DSTOPTS, DST, 8) == 0);
    static char big[70000];
    struct iovec v = {big, 60000};
    char control[256];
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK(usk_sendto(out, big, 65000, 0, (struct sockaddr *)&to, sizeof to) == 65000);
    CHECK(usk_recvmsg(in, &m, 0) == 60000 && (m.msg_flags & MSG_TRUNC));
    CHECK(CMSG_FIRSTHDR(&m) && CMSG_FIRSTHDR(&m)->cmsg_type == IPV6_HOPOPTS);
    /* The older options, beside the newer ones. */
    CHECK(set(in, IPV6_2292HOPOPTS, &one, 4) == 0 && set(in, IPV6_2292DSTOPTS, &one, 4) == 0);
    CHECK(set(in, IPV6_2292HOPLIMIT, &one, 4) == 0 && set(in, IPV6_2292PKTINFO, &one, 4) == 0);
    CHECK(usk_sendto(out, "old", 3, 0, (struct sockaddr *)&to, sizeof to) == 3);
    t = receive(in, "old");
    CHECK(told(&t, IPV6_HOPOPTS) == 1 && told(&t, IPV6_DSTOPTS) == 1);
    CHECK(told(&t, IPV6_2292HOPOPTS) == 1 && told(&t, IPV6_2292DSTOPTS) == 1);
    CHECK(told(&t, IPV6_2292HOPLIMIT) == 1 && told(&t, IPV6_2292PKTINFO) == 1 && t.n == 6);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0);
}

static void of_one_call(void)
{
    int in = usk_socket(AF_INET6, SOCK_DGRAM, 0), out = usk_socket(AF_INET6, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in6 to = own_name(in);
    unsigned char rthdr[24] = {0, 2, 0, 1};
    rthdr[23] = 1;
    CHECK(set(in, IPV6_RECVHOPOPTS, &one, 4) == 0 && set(in, IPV6_RECVDSTOPTS, &one, 4) == 0);
    CHECK(set(out, IPV6_DSTOPTS, DST, 8) == 0);
    CHECK(send_with(out, &to, IPV6_HOPOPTS, HOP, 8) == 1);
    struct told t = receive(in, "x");
    CHECK(t.n == 1 && t.types[0] == IPV6_HOPOPTS); /* and none of the sticky ones */
    CHECK(send_with(out, &to, IPV6_2292HOPOPTS, HOP, 8) == 1);
    t = receive(in, "x");
    CHECK(t.n == 1 && t.types[0] == IPV6_HOPOPTS);
    CHECK(send_with(out, &to, IPV6_DSTOPTS, DST, 8) == 1);
    t = receive(in, "x");
    CHECK(t.n == 1 && t.types[0] == IPV6_DSTOPTS);
    CHECK(send_with(out, &to, IPV6_2292DSTOPTS, DST, 8) == 1);
    t = receive(in, "x");
    CHECK(t.n == 1 && t.types[0] == IPV6_DSTOPTS);
    CHECK(send_with(out, &to, IPV6_RTHDRDSTOPTS, DST, 8) == 1); /* without a routing header nothing */
    t = receive(in, "x");
    CHECK(t.n == 0);
    int hops = 7;
    struct in6_pktinfo info = {.ipi6_ifindex = 1};
    CHECK(send_with(out, &to, IPV6_2292HOPLIMIT, &hops, sizeof hops) == 1);
    CHECK((t = receive(in, "x")).n == 1 && t.types[0] == IPV6_DSTOPTS); /* the sticky ones: it is no header */
    CHECK(send_with(out, &to, IPV6_2292PKTINFO, &info, sizeof info) == 1);
    CHECK((t = receive(in, "x")).n == 1);
    hops = 256;
    info.ipi6_ifindex = 77;
    ERR(send_with(out, &to, IPV6_2292HOPLIMIT, &hops, sizeof hops), EINVAL);
    ERR(send_with(out, &to, IPV6_2292PKTINFO, &info, sizeof info), ENODEV);
    ERR(send_with(out, &to, IPV6_HOPOPTS, HOP, 1), EINVAL);
    ERR(send_with(out, &to, IPV6_HOPOPTS, PRE, 8), EINVAL);
    ERR(send_with(out, &to, IPV6_DSTOPTS, PRE, 8), EINVAL);
    ERR(send_with(out, &to, IPV6_RTHDR, rthdr, 24), EINVAL);
    rthdr[2] = 4;
    ERR(send_with(out, &to, IPV6_RTHDR, rthdr, 24), EINVAL);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0);
}

static void raw(void)
{
    int in = usk_socket(AF_INET6, SOCK_RAW, 253), out = usk_socket(AF_INET6, SOCK_RAW, 253), one = 1;
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    CHECK(in >= 0 && out >= 0);
    CHECK(set(in, IPV6_RECVHOPOPTS, &one, 4) == 0 && set(in, IPV6_RECVDSTOPTS, &one, 4) == 0);
    CHECK(set(out, IPV6_HOPOPTS, HOP, 8) == 0 && set(out, IPV6_DSTOPTS, DST, 8) == 0);
    CHECK(usk_sendto(out, "raw", 3, 0, (struct sockaddr *)&to, sizeof to) == 3);
    struct told t = receive(in, "raw");
    CHECK(t.n == 2 && t.types[0] == IPV6_HOPOPTS && t.types[1] == IPV6_DSTOPTS && t.dst[0] == 253);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0);
}

static void put_checksum(unsigned char *upper, int len, int number, int at)
{
    unsigned sum = number + len + 2; /* ::1 twice */
    upper[at] = upper[at + 1] = 0;
    for (int i = 0; i < len; i++)
        sum += i % 2 ? upper[i] : upper[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    upper[at] = ~sum >> 8;
    upper[at + 1] = ~sum;
}

/* Sends the upper layer's bytes to ::1 behind hop-by-hop options, destination options twice, a routing header that has
 * been followed, and destination options. */
static void inject(unsigned char *upper, int len, int number, int checksum_at)
{
    int out = usk_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    unsigned char p[200] = {0x60, 0, 0, 0, 0, 0, 0, 64};
    static const unsigned char next[5] = {60, 60, 43, 60, 0};
    CHECK(out >= 0);
    p[23] = p[39] = 1;
    for (int i = 0; i < 5; i++) {
        unsigned char *h = p + 40 + 8 * i;
        memcpy(h, DST, 8);
        h[0] = i == 4 ? number : next[i];
        h[4] = i;
        if (i == 3)
            h[2] = 200, h[3] = 0; /* a type that nobody knows, no segment left */
    }
    put_checksum(upper, len, number, checksum_at);
    memcpy(p + 80, upper, len);
    p[5] = 40 + len;
    CHECK(usk_sendto(out, p, 80 + len, 0, (struct sockaddr *)&to, sizeof to) == 80 + len);
    CHECK(usk_close(out) == 0);
}

static void chain(void)
{
    int udp = usk_socket(AF_INET6, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in6 to = own_name(udp);
    unsigned char datagram[12] = {0, 9, 0, 0, 0, 12, 0, 0, 'l', 'o', 'n', 'g'};
    int asked[] = {IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS, IPV6_RECVRTHDR,
                   IPV6_2292HOPOPTS, IPV6_2292DSTOPTS, IPV6_2292RTHDR};
    int want[] = {IPV6_HOPOPTS,     IPV6_DSTOPTS,     IPV6_DSTOPTS,   IPV6_RTHDR,      IPV6_DSTOPTS,
                  IPV6_2292HOPOPTS, IPV6_2292DSTOPTS, IPV6_2292RTHDR, IPV6_2292DSTOPTS};
    memcpy(datagram + 2, &to.sin6_port, 2);
    for (int i = 0; i < 6; i++)
        CHECK(set(udp, asked[i], &one, 4) == 0);
    inject(datagram, sizeof datagram, IPPROTO_UDP, 6);
    struct told t = receive(udp, "long");
    CHECK(t.n == 9 && memcmp(t.types, want, sizeof want) == 0);
    CHECK(t.dst_len == 8 && t.dst[4] == 4); /* the last one, behind the routing header */
    CHECK(set(udp, IPV6_2292DSTOPTS, &(int){0}, 4) == 0 && set(udp, IPV6_RECVRTHDR, &(int){0}, 4) == 0);
    inject(datagram, sizeof datagram, IPPROTO_UDP, 6);
    t = receive(udp, "long");
    CHECK(t.n == 6 && told(&t, IPV6_2292DSTOPTS) == 0 && told(&t, IPV6_RTHDR) == 0 && told(&t, IPV6_2292RTHDR) == 1);
    CHECK(usk_close(udp) == 0);
}

/* Ping sockets are told of headers, and send none. */
static void ping(void)
{
    int fd = usk_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), in, one = 1;
    if (fd < 0) {
        CHECK(errno == EACCES); /* the kernel's net.ipv4.ping_group_range */
        return;
    }
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, own;
    socklen_t len = sizeof own;
    unsigned char echo[8] = {128}, got[64];
    char control[256];
    struct iovec v = {got, sizeof got};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    CHECK((in = usk_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)) >= 0);
    CHECK(set(in, IPV6_RECVHOPOPTS, &one, 4) == 0 && set(fd, IPV6_RECVHOPOPTS, &one, 4) == 0);
    CHECK(set(fd, IPV6_HOPOPTS, HOP, 8) == 0);
    CHECK(usk_sendto(fd, echo, 8, 0, (struct sockaddr *)&to, sizeof to) == 8);
    CHECK(usk_recvmsg(in, &m, 0) == 8 && got[0] == 128 && m.msg_controllen == 0);
    m.msg_controllen = sizeof control;
    CHECK(usk_recvmsg(fd, &m, 0) == 8 && got[0] == 129 && m.msg_controllen == 0);
    CHECK(usk_getsockname(fd, (struct sockaddr *)&own, &len) == 0);
    unsigned char reply[8] = {129};
    memcpy(reply + 4, &own.sin6_port, 2);
    inject(reply, sizeof reply, IPPROTO_ICMPV6, 2);
    m.msg_controllen = sizeof control;
    CHECK(usk_recvmsg(fd, &m, 0) == 8 && got[0] == 129);
    CHECK(CMSG_FIRSTHDR(&m) && CMSG_FIRSTHDR(&m)->cmsg_type == IPV6_HOPOPTS);
    CHECK(usk_close(fd) == 0 && usk_close(in) == 0);
}

int main(void)
{
    begin("extension_headers");
    options();
    sticky();
    of_one_call();
    raw();
    chain();
    ping();
    return done();
}

/* IPV6_2292PKTOPTIONS (RFC 2292) of UDP and TCP, extension headers of streams with the room that they take of the MSS,
 * sticky IPV6_PKTINFO, and ping sockets, which send no such headers. ipv6(7). */
#include "headers.h"
#include <linux/in6.h>

#ifndef IPV6_2292PKTINFO
#define IPV6_2292PKTINFO 2
#define IPV6_2292HOPOPTS 3
#define IPV6_2292DSTOPTS 4
#define IPV6_2292PKTOPTIONS 6
#define IPV6_2292HOPLIMIT 8
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif

/* The types of a buffer of control messages; `last` gets the bytes of the last one of type `want`. */
static int types(const char *buf, int len, int *out, int want, unsigned char *last)
{
    int n = 0;
    for (int at = 0; at + (int)sizeof(struct cmsghdr) <= len;) {
        struct cmsghdr h;
        memcpy(&h, buf + at, sizeof h);
        CHECK(h.cmsg_level == SOL_IPV6 && h.cmsg_len >= sizeof h && n < 16);
        if (h.cmsg_type == want)
            memcpy(last, buf + at + sizeof h, h.cmsg_len - sizeof h);
        out[n++] = h.cmsg_type;
        at += CMSG_ALIGN(h.cmsg_len);
    }
    return n;
}

static int message(char *buf, int level, int type, const void *data, size_t n)
{
    struct cmsghdr h = {.cmsg_len = CMSG_LEN(n), .cmsg_level = level, .cmsg_type = type};
    memset(buf, 0, CMSG_SPACE(n));
    memcpy(buf, &h, sizeof h);
    memcpy(buf + sizeof h, data, n);
    return CMSG_SPACE(n);
}

/* All headers at once, in the place of those that were set; the other messages are only checked. */
static void all_at_once(void)
{
    int fd = usk_socket(AF_INET6, SOCK_DGRAM, 0), n;
    static char buf[65537];
    unsigned char got[64];
    struct in6_pktinfo info = {.ipi6_ifindex = 0};
    ERR(get(fd, IPV6_2292PKTOPTIONS, buf, sizeof buf), ENOPROTOOPT);
    CHECK(set(fd, IPV6_DSTOPTS, DST, 8) == 0);
    n = message(buf, SOL_IPV6, IPV6_HOPOPTS, HOP, 8);
    CHECK(set(fd, IPV6_2292PKTOPTIONS, buf, n) == 0);
    CHECK(get(fd, IPV6_HOPOPTS, got, sizeof got) == 8 && memcmp(got, HOP, 8) == 0);
    CHECK(get(fd, IPV6_DSTOPTS, got, sizeof got) == 0);
    n = message(buf, SOL_IPV6, IPV6_2292DSTOPTS, DST, 8);
    n += message(buf + n, SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    CHECK(set(fd, IPV6_2292PKTOPTIONS, buf, n) == 0);
    CHECK(get(fd, IPV6_HOPOPTS, got, sizeof got) == 0);
    CHECK(get(fd, IPV6_DSTOPTS, got, sizeof got) == 8 && memcmp(got, DST, 8) == 0);
    n = message(buf, SOL_IPV6, IPV6_PKTINFO, &info, 8);
    ERR(set(fd, IPV6_2292PKTOPTIONS, buf, n), EINVAL);
    n = message(buf, SOL_SOCKET, 99, HOP, 8);
    ERR(set(fd, IPV6_2292PKTOPTIONS, buf, n), EINVAL);
    ERR(set(fd, IPV6_2292PKTOPTIONS, buf, sizeof buf), EINVAL);
    CHECK(get(fd, IPV6_DSTOPTS, got, sizeof got) == 8); /* what failed has changed nothing */
    CHECK(set(fd, IPV6_2292PKTOPTIONS, buf, 4) == 0);   /* less than a message is none */
    CHECK(get(fd, IPV6_DSTOPTS, got, sizeof got) == 0);
    CHECK(set(fd, IPV6_HOPOPTS, HOP, 8) == 0 && set(fd, IPV6_2292PKTOPTIONS, NULL, 0) == 0);
    CHECK(get(fd, IPV6_HOPOPTS, got, sizeof got) == 0);
    CHECK(usk_close(fd) == 0);
}

static void pktinfo(void)
{
    int fd = usk_socket(AF_INET6, SOCK_DGRAM, 0), in = usk_socket(AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in6 to = own_name(in), from;
    socklen_t len = sizeof from;
    struct in6_pktinfo info = {.ipi6_ifindex = 77};
    char buf[64];
    ERR(get(fd, IPV6_PKTINFO, buf, sizeof buf), ENOPROTOOPT);
    ERR(set(fd, IPV6_PKTINFO, &info, 0), EINVAL);
    ERR(set(fd, IPV6_PKTINFO, &info, sizeof info - 1), EINVAL);
    CHECK(set(fd, IPV6_PKTINFO, &info, sizeof info) == 0);
    ERR(usk_sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to), ENETUNREACH); /* there is no such interface */
    info.ipi6_ifindex = 1;
    info.ipi6_addr.s6_addr[0] = 0x20; /* and the address chooses no source */
    CHECK(set(fd, IPV6_PKTINFO, &info, sizeof info) == 0);
    CHECK(usk_sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
    CHECK(usk_recvfrom(in, buf, sizeof buf, 0, (struct sockaddr *)&from, &len) == 1);
    CHECK(memcmp(&from.sin6_addr, &to.sin6_addr, 16) == 0);
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2) == 0);
    info.ipi6_ifindex = 2;
    ERR(set(fd, IPV6_PKTINFO, &info, sizeof info), EINVAL);
    info.ipi6_ifindex = 0;
    ERR(set(fd, IPV6_PKTINFO, &info, sizeof info), EINVAL);
    CHECK(usk_close(fd) == 0 && usk_close(in) == 0);
}

static void move(int from, int to, int total)
{
    static char out[65536], in[65536];
    int sent = 0, got = 0;
    for (int i = 0; i < (int)sizeof out; i++)
        out[i] = (char)(i * 7);
    while (got < total) {
        int want = total - sent < (int)sizeof out ? total - sent : (int)sizeof out;
        ssize_t n = want ? usk_send(from, out, want, MSG_DONTWAIT) : 0;
        sent += n > 0 ? n : 0;
        n = usk_recv(to, in, sizeof in, MSG_DONTWAIT);
        CHECK(n > 0 || errno == EAGAIN);
        got += n > 0 ? n : 0;
    }
    CHECK(sent == total && got == total);
}

#ifndef ON_SERVER /* whose programs lack CAP_NET_RAW */
static void stream(void)
{
    int l = usk_socket(AF_INET6, SOCK_STREAM, 0), c = usk_socket(AF_INET6, SOCK_STREAM, 0), one = 1, t[16], hops;
    int asked[] = {IPV6_RECVPKTINFO,  IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS,  IPV6_2292PKTINFO, IPV6_2292HOPLIMIT,
                   IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS,  IPV6_2292HOPOPTS, IPV6_2292DSTOPTS};
    struct sockaddr_in6 to = own_name(l);
    char buf[512];
    unsigned char got[64];
    CHECK(get(l, IPV6_2292PKTOPTIONS, buf, sizeof buf) == 0);
    for (unsigned i = 0; i < sizeof asked / sizeof *asked; i++)
        CHECK(set(l, asked[i], &one, sizeof one) == 0);
    /* Without a packet there are the socket's own values. */
    int n = types(buf, get(l, IPV6_2292PKTOPTIONS, buf, sizeof buf), t, IPV6_HOPLIMIT, (unsigned char *)&hops);
    CHECK(n == 5 && t[0] == IPV6_PKTINFO && t[1] == IPV6_HOPLIMIT && t[2] == IPV6_TCLASS && hops == 1);
    CHECK(t[3] == IPV6_2292PKTINFO && t[4] == IPV6_2292HOPLIMIT);
    CHECK(get(l, IPV6_2292PKTOPTIONS, buf, 30) == 30 && get(l, IPV6_2292PKTOPTIONS, buf, 15) == 0);
    CHECK(usk_listen(l, 5) == 0);
    CHECK(set(c, IPV6_HOPOPTS, HOP, 8) == 0);
    CHECK(usk_connect(c, (struct sockaddr *)&to, sizeof to) == 0);
    int s = usk_accept(l, NULL, NULL);
    CHECK(s >= 0);
    /* What the SYN had. */
    n = types(buf, get(s, IPV6_2292PKTOPTIONS, buf, sizeof buf), t, IPV6_HOPOPTS, got);
    CHECK(n == 7 && t[0] == IPV6_PKTINFO && t[3] == IPV6_HOPOPTS && t[6] == IPV6_2292HOPOPTS);
    CHECK(memcmp(got + 2, HOP + 2, 6) == 0 && got[0] == IPPROTO_TCP);
    /* The next one. */
    CHECK(set(c, IPV6_DSTOPTS, DST, 8) == 0);
    CHECK(usk_send(c, "x", 1, 0) == 1 && usk_recv(s, buf, 1, 0) == 1);
    n = types(buf, get(s, IPV6_2292PKTOPTIONS, buf, sizeof buf), t, IPV6_2292DSTOPTS, got);
    CHECK(n == 9 && t[3] == IPV6_HOPOPTS && t[4] == IPV6_DSTOPTS && t[7] == IPV6_2292HOPOPTS);
    CHECK(t[8] == IPV6_2292DSTOPTS && memcmp(got + 2, DST + 2, 6) == 0 && got[0] == IPPROTO_TCP);
    move(c, s, 3000000);
    /* Without headers the values are kept, but no packet. */
    CHECK(set(c, IPV6_DSTOPTS, NULL, 0) == 0 && set(c, IPV6_HOPOPTS, NULL, 0) == 0);
    CHECK(usk_send(c, "x", 1, 0) == 1 && usk_recv(s, buf, 1, 0) == 1);
    n = types(buf, get(s, IPV6_2292PKTOPTIONS, buf, sizeof buf), t, IPV6_HOPLIMIT, (unsigned char *)&hops);
    CHECK(n == 5 && hops == 64);
    CHECK(usk_close(c) == 0 && usk_close(s) == 0);
    /* Of a listener its connections have the headers, and its SYN-ACKs. */
    CHECK(set(l, IPV6_DSTOPTS, DST, 8) == 0);
    c = usk_socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(set(c, IPV6_RECVDSTOPTS, &one, sizeof one) == 0);
    CHECK(usk_connect(c, (struct sockaddr *)&to, sizeof to) == 0);
    n = types(buf, get(c, IPV6_2292PKTOPTIONS, buf, sizeof buf), t, IPV6_DSTOPTS, got);
    CHECK(n == 1 && t[0] == IPV6_DSTOPTS && memcmp(got + 2, DST + 2, 6) == 0);
    CHECK((s = usk_accept(l, NULL, NULL)) >= 0);
    CHECK(get(s, IPV6_DSTOPTS, got, sizeof got) == 8 && memcmp(got, DST, 8) == 0);
    CHECK(usk_close(c) == 0 && usk_close(s) == 0 && usk_close(l) == 0);
}
#endif

/* The longest headers: 2040 bytes each. */
static void long_headers(void)
{
    int in = usk_socket(AF_INET6, SOCK_DGRAM, 0), out = usk_socket(AF_INET6, SOCK_DGRAM, 0), segment = 1000;
    struct sockaddr_in6 to = own_name(in);
    static unsigned char big[2040], data[65535];
    big[1] = 254;
    for (int at = 2; at < 2039; at += 2 + big[at + 1]) {
        big[at] = 1; /* PadN */
        big[at + 1] = 2040 - at - 2 < 5 ? 2040 - at - 2 : 5;
    }
    CHECK(set(out, IPV6_DSTOPTS, big, sizeof big) == 0);
    char buf[70000];
    struct pollfd p = {.fd = in, .events = POLLIN};
    CHECK(usk_sendto(out, data, 10, 0, (struct sockaddr *)&to, sizeof to) == 10);
    CHECK(usk_poll(&p, 1, 100) == 0); /* padding of more than 7 bytes in a row: dropped */
    for (int at = 2; at < 2040; at += 257) {
        big[at] = 0x1e;
        big[at + 1] = 2040 - at - 2 < 255 ? 2040 - at - 2 : 255;
    }
    CHECK(set(out, IPV6_DSTOPTS, big, sizeof big) == 0);
    CHECK(usk_sendto(out, data, 10, 0, (struct sockaddr *)&to, sizeof to) == 10);
    CHECK(usk_recv(in, buf, sizeof buf, 0) == 10);
    /* The datagram shares its 65535 bytes with them, and with destination options twice. */
    int most = 65535 - 8 - 2 * 2040;
    ERR(usk_sendto(out, data, most + 1, 0, (struct sockaddr *)&to, sizeof to), EMSGSIZE);
    CHECK(usk_sendto(out, data, most, 0, (struct sockaddr *)&to, sizeof to) == most);
    CHECK(usk_recv(in, buf, sizeof buf, 0) == most);
    CHECK(usk_setsockopt(out, IPPROTO_UDP, 103, &segment, sizeof segment) == 0);
    CHECK(usk_sendto(out, data, 2500, 0, (struct sockaddr *)&to, sizeof to) == 2500);
    CHECK(usk_recv(in, buf, sizeof buf, 0) == 1000 && usk_recv(in, buf, sizeof buf, 0) == 1000);
    CHECK(usk_recv(in, buf, sizeof buf, 0) == 500);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0);
#ifndef ON_SERVER
    int l = usk_socket(AF_INET6, SOCK_STREAM, 0), c = usk_socket(AF_INET6, SOCK_STREAM, 0);
    to = own_name(l);
    CHECK(usk_listen(l, 1) == 0 && usk_connect(c, (struct sockaddr *)&to, sizeof to) == 0);
    int s = usk_accept(l, NULL, NULL);
    CHECK(s >= 0 && set(c, IPV6_DSTOPTS, big, sizeof big) == 0);
    move(c, s, 2000000);
    CHECK(usk_close(c) == 0 && usk_close(s) == 0 && usk_close(l) == 0);
#endif
}

int main(void)
{
    begin("pktoptions");
    all_at_once();
    pktinfo();
#ifndef ON_SERVER
    stream();
#endif
    long_headers();
    return done();
}

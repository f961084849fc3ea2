/* Socket options: initial values, values read back after a set, Linux's clamps and doublings, short and long values,
 * unknown options. SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6. */
#include "common.h"

struct row {
    int level, name;
    const char *text;
    int first; /* the value of a new socket, or ANY */
    int set, want;
};
enum { ANY = -99999 };
#define O(level, name, first, set, want) {level, name, #name, first, set, want}

/* On a TCP socket of IPv4. Rows of one option follow each other and depend on the one before. */
static const struct row tcp_rows[] = {
    O(SOL_SOCKET, SO_DEBUG, 0, 0, 0),
    O(SOL_SOCKET, SO_REUSEADDR, 0, 5, 1),
    O(SOL_SOCKET, SO_REUSEPORT, 0, 5, 1),
    O(SOL_SOCKET, SO_KEEPALIVE, 0, 7, 1),
    O(SOL_SOCKET, SO_DONTROUTE, 0, 1, 1),
    O(SOL_SOCKET, SO_BROADCAST, 0, -1, 1),
    O(SOL_SOCKET, SO_OOBINLINE, 0, 2, 1),
    O(SOL_SOCKET, SO_SNDBUF, 16384, 10000, 20000),
    O(SOL_SOCKET, SO_SNDBUF, ANY, 0, 4608),
    O(SOL_SOCKET, SO_RCVBUF, 131072, 10000, 20000),
    O(SOL_SOCKET, SO_RCVLOWAT, 1, 10, 10),
    O(SOL_SOCKET, SO_RCVLOWAT, ANY, 0, 1),
    O(SOL_SOCKET, SO_RCVLOWAT, ANY, -1, 10000), /* negative is the largest, and that is half the buffer */
    O(SOL_SOCKET, SO_RCVBUF, ANY, 0, 2304),
    O(SOL_SOCKET, SO_PRIORITY, 0, 6, 6),
#ifndef ON_SERVER
    O(SOL_SOCKET, SO_TIMESTAMP, 0, 1, 1),
#endif
    O(SOL_SOCKET, SO_BUSY_POLL, 0, 50, 50),
#ifndef ON_SERVER
    O(SOL_SOCKET, SO_ZEROCOPY, 0, 1, 1),
#endif
    O(SOL_SOCKET, SO_INCOMING_CPU, -1, 0, 0),
    O(IPPROTO_TCP, TCP_NODELAY, 0, 9, 1),
    O(IPPROTO_TCP, TCP_CORK, 0, 3, 1),
    O(IPPROTO_TCP, TCP_MAXSEG, 536, 1000, 1000),
    O(IPPROTO_TCP, TCP_KEEPIDLE, 7200, 1, 1),
    O(IPPROTO_TCP, TCP_KEEPIDLE, ANY, 32767, 32767),
    O(IPPROTO_TCP, TCP_KEEPINTVL, 75, 32767, 32767),
    O(IPPROTO_TCP, TCP_KEEPCNT, 9, 127, 127),
    O(IPPROTO_TCP, TCP_SYNCNT, 6, 127, 127),
    O(IPPROTO_TCP, TCP_LINGER2, 60, 30, 30),
    O(IPPROTO_TCP, TCP_LINGER2, ANY, -5, -1),
    O(IPPROTO_TCP, TCP_LINGER2, ANY, 100000, 120),
    O(IPPROTO_TCP, TCP_DEFER_ACCEPT, 0, 1, 1),
    O(IPPROTO_TCP, TCP_DEFER_ACCEPT, ANY, 10, 15),
    O(IPPROTO_TCP, TCP_DEFER_ACCEPT, ANY, 0, 0),
    O(IPPROTO_TCP, TCP_WINDOW_CLAMP, ANY, 100000, 100000),
    O(IPPROTO_TCP, TCP_WINDOW_CLAMP, ANY, 1, 1152),
    O(IPPROTO_TCP, TCP_QUICKACK, 1, 0, 0),
    O(IPPROTO_TCP, TCP_USER_TIMEOUT, 0, 5000, 5000),
    O(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0, 12345, 12345),
    O(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0, 1, 1),
    O(IPPROTO_TCP, TCP_SAVE_SYN, 0, 1, 1),
#ifndef ON_SERVER
    O(IPPROTO_TCP, TCP_INQ, 0, 1, 1),
#endif
    O(IPPROTO_TCP, TCP_TX_DELAY, 0, 777, 777),
    O(IPPROTO_TCP, TCP_TX_DELAY, ANY, (1 << 28) - 1, (1 << 28) - 1),
    O(IPPROTO_IP, IP_TOS, 0, 0x10, 0x10),
    O(IPPROTO_IP, IP_TOS, ANY, 0x13, 0x10), /* a TCP socket keeps its ECN bits to itself */
    O(IPPROTO_IP, IP_TTL, 64, 255, 255),
    O(IPPROTO_IP, IP_TTL, ANY, -1, 64), /* back to the default */
    O(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_DO),
    O(IPPROTO_IP, IP_RECVTTL, 0, 1, 1),
    O(IPPROTO_IP, IP_RECVTOS, 0, 1, 1),
    O(IPPROTO_IP, IP_RECVERR, 0, 1, 1),
    O(IPPROTO_IP, IP_PKTINFO, 0, 1, 1),
    O(IPPROTO_IP, IP_RETOPTS, 0, 1, 1),
    O(IPPROTO_IP, IP_RECVOPTS, 0, 1, 1),
    O(IPPROTO_IP, IP_FREEBIND, 0, 1, 1),
    O(IPPROTO_IP, IP_TRANSPARENT, 0, 1, 1),
    O(IPPROTO_IP, IP_MINTTL, 0, 255, 255),
    O(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0, 1, 1),
    O(IPPROTO_IP, IP_MULTICAST_LOOP, 1, 0, 0),
    O(IPPROTO_IP, IP_MULTICAST_ALL, 1, 0, 0),
    O(IPPROTO_IP, IP_CHECKSUM, 0, 1, 1),
};

static const struct row tcp6_rows[] = {
    O(IPPROTO_IPV6, IPV6_V6ONLY, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64, 200, 200),
    O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, ANY, -1, 64),
    O(IPPROTO_IPV6, IPV6_TCLASS, 0, 0x20, 0x20),
    O(IPPROTO_IPV6, IPV6_TCLASS, ANY, -1, 0),
    O(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT, IPV6_PMTUDISC_DO, IPV6_PMTUDISC_DO),
    O(IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_RECVTCLASS, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_RECVERR, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_DONTFRAG, 0, 1, 1),
    O(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 1, 0, 0),
    O(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 1, 0, 0),
};

/* Sets that are refused. */
static const struct {
    int level, name, value, want;
} refused[] = {
    {IPPROTO_TCP, TCP_MAXSEG, 47, EINVAL},       {IPPROTO_TCP, TCP_MAXSEG, 32768, EINVAL},
    {IPPROTO_TCP, TCP_KEEPIDLE, 0, EINVAL},      {IPPROTO_TCP, TCP_KEEPIDLE, 32768, EINVAL},
    {IPPROTO_TCP, TCP_KEEPINTVL, 0, EINVAL},     {IPPROTO_TCP, TCP_KEEPINTVL, 32768, EINVAL},
    {IPPROTO_TCP, TCP_KEEPCNT, 0, EINVAL},       {IPPROTO_TCP, TCP_KEEPCNT, 128, EINVAL},
    {IPPROTO_TCP, TCP_SYNCNT, 0, EINVAL},        {IPPROTO_TCP, TCP_SYNCNT, 128, EINVAL},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, -1, EINVAL},
    {IPPROTO_TCP, TCP_SAVE_SYN, 3, EINVAL},      {IPPROTO_TCP, 9999, 1, ENOPROTOOPT},
    {IPPROTO_TCP, 0, 1, ENOPROTOOPT},            {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 2, EINVAL},
    {SOL_SOCKET, 9999, 1, ENOPROTOOPT},          {SOL_SOCKET, 0, 1, ENOPROTOOPT},
    {SOL_SOCKET, SO_TYPE, 1, ENOPROTOOPT},       {SOL_SOCKET, SO_ERROR, 1, ENOPROTOOPT},
    {SOL_SOCKET, SO_PROTOCOL, 1, ENOPROTOOPT},   {SOL_SOCKET, SO_DOMAIN, 1, ENOPROTOOPT},
    {SOL_SOCKET, SO_ACCEPTCONN, 1, ENOPROTOOPT}, {SOL_SOCKET, SO_SNDLOWAT, 1, ENOPROTOOPT},
#ifndef ON_SERVER
    {IPPROTO_TCP, TCP_INQ, 2, EINVAL},           {SOL_SOCKET, SO_ZEROCOPY, 2, EINVAL},
#endif
    {SOL_SOCKET, SO_BUSY_POLL, -1, EINVAL},
    {IPPROTO_IP, IP_TTL, 0, EINVAL},             {IPPROTO_IP, IP_TTL, 256, EINVAL},
    {IPPROTO_IP, IP_MTU_DISCOVER, 6, EINVAL},    {IPPROTO_IP, IP_MTU_DISCOVER, -1, EINVAL},
    {IPPROTO_IP, IP_MINTTL, 256, EINVAL},        {IPPROTO_IP, IP_HDRINCL, 1, ENOPROTOOPT},
    {IPPROTO_IP, 9999, 1, ENOPROTOOPT},          {IPPROTO_IP, IP_MULTICAST_TTL, 5, EINVAL},
    {9999, 1, 1, ENOPROTOOPT},                   {-1, 1, 1, ENOPROTOOPT},
    {IPPROTO_UDP, UDP_CORK, 1, ENOPROTOOPT},     {IPPROTO_IPV6, IPV6_V6ONLY, 1, ENOPROTOOPT},
};

static void walk(int fd, const struct row *rows, int n)
{
    for (int i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        char text[160], g[32], w[32];
        int v = -12345;
        socklen_t len = sizeof v;
        if (usk_getsockopt(fd, r->level, r->name, &v, &len) == -1) {
            snprintf(text, sizeof text, "%s: get", r->text);
            complain(__FILE__, __LINE__, text, errno_name(errno), "a value");
            continue;
        }
        if (r->first != ANY && v != r->first) {
            snprintf(text, sizeof text, "%s at first", r->text);
            snprintf(g, sizeof g, "%d", v);
            snprintf(w, sizeof w, "%d", r->first);
            complain(__FILE__, __LINE__, text, g, w);
        }
        snprintf(text, sizeof text, "%s set to %d", r->text, r->set);
        if (set_int(fd, r->level, r->name, r->set) == -1) {
            complain(__FILE__, __LINE__, text, errno_name(errno), "success");
            continue;
        }
        OK(usk_getsockopt(fd, r->level, r->name, &v, &len));
        if (v != r->want) {
            snprintf(g, sizeof g, "%d", v);
            snprintf(w, sizeof w, "%d", r->want);
            complain(__FILE__, __LINE__, text, g, w);
        }
    }
}

static void lengths(int fd)
{
    int v = 1;
    unsigned char room[16];
    socklen_t len;
    for (socklen_t n = 0; n < 4; n++) {
        ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, n), EINVAL);
        ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, n), EINVAL);
    }
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, (socklen_t)-1), EINVAL);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 4), EFAULT);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4), EFAULT);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, NULL, 4), EFAULT);
    long long wide = 1;
    OK(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &wide, sizeof wide)); /* more than it needs */
    /* get: copies at most an int, tells how much, writes nothing past it. */
    int names[2][2] = {{SOL_SOCKET, SO_TYPE}, {IPPROTO_TCP, TCP_NODELAY}};
    for (int i = 0; i < 2; i++) {
        for (socklen_t n = 0; n <= 8; n++) {
            memset(room, 0xee, sizeof room);
            len = n;
            OK(usk_getsockopt(fd, names[i][0], names[i][1], room, &len));
            EQ(len, n < 4 ? n : 4);
            CHECK(room[len] == 0xee);
        }
        len = (socklen_t)-1;
        ERR(usk_getsockopt(fd, names[i][0], names[i][1], room, &len), EINVAL);
        len = 4;
        ERR(usk_getsockopt(fd, names[i][0], names[i][1], NULL, &len), EFAULT);
        ERR(usk_getsockopt(fd, names[i][0], names[i][1], room, NULL), EFAULT);
        ERR(usk_getsockopt(fd, names[i][0], 9999, room, &len), ENOPROTOOPT);
    }
    len = 4;
    ERR(usk_getsockopt(fd, 9999, 1, room, &len), EOPNOTSUPP);
    ERR(usk_getsockopt(fd, IPPROTO_IP, 9999, room, &len), ENOPROTOOPT);
    /* IP options that fit in a byte: with room for one byte, one byte is returned. */
    unsigned char byte = 33;
    OK(usk_setsockopt(fd, IPPROTO_IP, IP_TTL, &byte, 1));
    EQ(get_int(fd, IPPROTO_IP, IP_TTL), 33);
    len = 1;
    OK(usk_getsockopt(fd, IPPROTO_IP, IP_TTL, room, &len));
    EQ(len, 1);
    EQ(room[0], 33);
}

static void congestion(int fd)
{
    char name[32] = {0};
    socklen_t len = sizeof name;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    EQ(len, 16); /* TCP_CA_NAME_MAX */
#ifdef ON_KERNEL
    CHECK(name[0] != 0); /* the machine's choice */
#else
    EQ(strcmp(name, "cubic"), 0);
#endif
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    EQ(strcmp(name, "reno"), 0);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nothing", 7), ENOENT);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "", 0), EINVAL);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, NULL, 4), EFAULT);
    len = 2;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    EQ(len, 2);
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "nothing", 7), ENOENT);
}

/* An accepted connection has the hop limit and the interface of the packet that made it where others have those of
 * groups. */
static void accepted_from_a_packet(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    EQ(get_int(fd[0], IPPROTO_IP, IP_MULTICAST_TTL), 1);
    EQ(get_int(fd[1], IPPROTO_IP, IP_MULTICAST_TTL), 64);
    EQ(get_int(fd[1], IPPROTO_IP, IP_MULTICAST_IF), 0);
    close_pair(fd);
    tcp_pair(AF_INET6, fd);
    EQ(get_int(fd[0], IPPROTO_IPV6, IPV6_MULTICAST_IF), 0);
    EQ(get_int(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_IF), 1);
    EQ(get_int(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_HOPS), 64);
    close_pair(fd);
}

/* A level that the socket does not have is noticed before a length that is none. */
static void levels_of_others(int family, int want)
{
    int fd = (int)OK(usk_socket(family, SOCK_DGRAM, 0)), value;
    socklen_t len = (socklen_t)-1;
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &value, &len), want);
    ERR(usk_getsockopt(fd, IPPROTO_UDP, UDP_CORK, &value, &len), EINVAL);
    ERR(usk_getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &len), EINVAL);
    OK(usk_close(fd));
}

int main(void)
{
    begin("sockopt");
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(get_int(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    EQ(get_int(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
    EQ(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    EQ(get_int(fd, SOL_SOCKET, SO_ACCEPTCONN), 0);
    EQ(get_int(fd, SOL_SOCKET, SO_SNDLOWAT), 1);
    /* Buffers stop at twice net.core.wmem_max and rmem_max: 212992 before Linux 6.17, 4 MiB since. */
    int names[2] = {SO_SNDBUF, SO_RCVBUF};
    for (int i = 0; i < 2; i++) {
        int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
        OK(set_int(s, SOL_SOCKET, names[i], INT32_MAX));
        int most = get_int(s, SOL_SOCKET, names[i]);
        CHECK(most == 2 * 212992 || most == 2 * (4 << 20));
        OK(set_int(s, SOL_SOCKET, names[i], -1)); /* as large as unsigned, so the limit again */
        EQ(get_int(s, SOL_SOCKET, names[i]), most);
        OK(usk_close(s));
    }
    walk(fd, tcp_rows, COUNT(tcp_rows));
    for (int i = 0; i < COUNT(refused); i++) {
        errno = 0;
        int r = set_int(fd, refused[i].level, refused[i].name, refused[i].value), got = r == -1 ? errno : 0;
        if (got != refused[i].want) {
            char text[80];
            snprintf(text, sizeof text, "level %d option %d set to %d", refused[i].level, refused[i].name,
                     refused[i].value);
            complain(__FILE__, __LINE__, text, errno_name(got), errno_name(refused[i].want));
        }
    }
    lengths(fd);
    congestion(fd);
    OK(usk_close(fd));
    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    EQ(get_int(fd, SOL_SOCKET, SO_DOMAIN), AF_INET6);
    walk(fd, tcp6_rows, COUNT(tcp6_rows));
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 256), EINVAL);
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, -2), EINVAL);
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 256), EINVAL);
    ERR(set_int(fd, IPPROTO_IPV6, 9999, 1), ENOPROTOOPT);
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 5), ENOPROTOOPT); /* not for streams */
    /* The name of the device needs room for the longest one. */
    char device[IFNAMSIZ];
    socklen_t len = sizeof device;
    OK(usk_getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len));
    EQ(len, 0);
    OK(usk_setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2));
    len = sizeof device - 1;
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len), EINVAL);
    len = sizeof device;
    OK(usk_getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &len));
    EQ(len, 3);
    EQ(strcmp(device, "lo"), 0);
    /* At this level a length is looked at only where there is an option. */
    int one = 1;
    ERR(usk_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, 1), EINVAL);
    ERR(usk_setsockopt(fd, IPPROTO_IPV6, 9999, &one, 1), ENOPROTOOPT);
    ERR(usk_setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &one, 1), ENOPROTOOPT);
    ERR(usk_setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &one, 1), ENOPROTOOPT);
    OK(usk_close(fd));
    accepted_from_a_packet();
    levels_of_others(AF_INET, EOPNOTSUPP);
    levels_of_others(AF_INET6, ENOPROTOOPT);

    fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    EQ(get_int(fd, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    EQ(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_UDP);
    EQ(get_int(fd, SOL_SOCKET, SO_SNDBUF), 212992);
    EQ(get_int(fd, SOL_SOCKET, SO_RCVBUF), 212992);
    EQ(get_int(fd, IPPROTO_UDP, UDP_CORK), 0);
    ERR(set_int(fd, IPPROTO_UDP, 9999, 1), ENOPROTOOPT);
    ERR(set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1), ENOPROTOOPT);
    OK(set_int(fd, IPPROTO_IP, IP_TOS, 0x13));
    EQ(get_int(fd, IPPROTO_IP, IP_TOS), 0x13);
    OK(usk_close(fd));
    return done();
}

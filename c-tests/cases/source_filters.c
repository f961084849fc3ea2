/* Source-specific multicast, RFC 3678: IP_ADD_SOURCE_MEMBERSHIP and its kin, MCAST_JOIN_GROUP and its kin of both
 * families, IP_MSFILTER and MCAST_MSFILTER set and read, IP_MULTICAST_ALL and IPV6_MULTICAST_ALL: their errors, their
 * limits, and what a socket receives. ip(7), ipv6(7). */
#include "common.h"
#include <linux/in6.h>
#include <stddef.h>

#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif
#define LO 1

static int set(int fd, int level, int name, const void *v, socklen_t n)
{
    return usk_setsockopt(fd, level, name, v, n);
}

static struct sockaddr_storage name_of(const char *text, int port)
{
    struct sockaddr_storage s = {0};
    struct sockaddr_in *a = (struct sockaddr_in *)&s;
    struct sockaddr_in6 *b = (struct sockaddr_in6 *)&s;
    if (inet_pton(AF_INET, text, &a->sin_addr) == 1) {
        a->sin_family = AF_INET;
        a->sin_port = htons((uint16_t)port);
    } else {
        CHECK(inet_pton(AF_INET6, text, &b->sin6_addr) == 1);
        b->sin6_family = AF_INET6;
        b->sin6_port = htons((uint16_t)port);
    }
    return s;
}

static struct ip_mreq_source of_v4(const char *group, const char *source)
{
    struct ip_mreq_source m = {{0}, {0}, {0}};
    m.imr_multiaddr.s_addr = inet_addr(group);
    m.imr_interface.s_addr = htonl(INADDR_LOOPBACK);
    m.imr_sourceaddr.s_addr = inet_addr(source);
    return m;
}

static int source_v4(int fd, int name, const char *group, const char *source)
{
    struct ip_mreq_source m = of_v4(group, source);
    return set(fd, SOL_IP, name, &m, sizeof m);
}

static int join_v4(int fd, int name, const char *group)
{
    struct ip_mreqn m = {{inet_addr(group)}, {0}, LO};
    return set(fd, SOL_IP, name, &m, sizeof m);
}

/* MCAST_JOIN_GROUP and MCAST_LEAVE_GROUP. */
static int group_req(int fd, int level, int name, const char *group)
{
    struct group_req r;
    memset(&r, 0, sizeof r);
    r.gr_interface = LO;
    r.gr_group = name_of(group, 0);
    return set(fd, level, name, &r, sizeof r);
}

static int source_req(int fd, int level, int name, const char *group, const char *source)
{
    struct group_source_req r;
    memset(&r, 0, sizeof r);
    r.gsr_interface = LO;
    r.gsr_group = name_of(group, 0);
    r.gsr_source = name_of(source, 0);
    return set(fd, level, name, &r, sizeof r);
}

/* The filter that IP_MSFILTER shows: its mode, the number of sources in `n`, and -1 for an error. */
static int shown_v4(int fd, const char *group, int *n)
{
    char buf[IP_MSFILTER_SIZE(4)];
    struct ip_msfilter *f = (struct ip_msfilter *)buf;
    socklen_t len = sizeof buf;
    memset(buf, 0, sizeof buf);
    f->imsf_multiaddr.s_addr = inet_addr(group);
    f->imsf_interface.s_addr = htonl(INADDR_LOOPBACK);
    f->imsf_numsrc = 4;
    if (usk_getsockopt(fd, SOL_IP, IP_MSFILTER, buf, &len) < 0)
        return -1;
    *n = (int)f->imsf_numsrc;
    CHECK(len == IP_MSFILTER_SIZE((size_t)(*n < 4 ? *n : 4)));
    return (int)f->imsf_fmode;
}

static void by_address(void)
{
    int fd = usk_socket(AF_INET, SOCK_DGRAM, 0), n = 0;
    CHECK(fd >= 0);
    struct ip_mreq_source m = of_v4("239.1.1.1", "10.0.0.1");
    ERR(set(fd, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &m, sizeof m - 1), EINVAL);
    ERR(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "10.0.0.9", "10.0.0.1"), EINVAL);
    ERR(source_v4(fd, IP_BLOCK_SOURCE, "10.0.0.9", "10.0.0.1"), EINVAL);
    m.imr_interface.s_addr = inet_addr("10.9.9.9");
    ERR(set(fd, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &m, sizeof m), ENODEV);
    ERR(set(fd, SOL_IP, IP_BLOCK_SOURCE, &m, sizeof m), ENODEV);
    /* Not joined. */
    ERR(source_v4(fd, IP_BLOCK_SOURCE, "239.1.1.1", "10.0.0.1"), EINVAL);
    ERR(source_v4(fd, IP_DROP_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.1"), EINVAL);
    ERR(shown_v4(fd, "239.1.1.1", &n), EADDRNOTAVAIL);
    /* Included sources. */
    CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.1") == 0);
    CHECK(shown_v4(fd, "239.1.1.1", &n) == MCAST_INCLUDE && n == 1);
    ERR(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.1"), EADDRNOTAVAIL);
    CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.2") == 0);
    CHECK(shown_v4(fd, "239.1.1.1", &n) == MCAST_INCLUDE && n == 2);
    ERR(source_v4(fd, IP_BLOCK_SOURCE, "239.1.1.1", "10.0.0.3"), EINVAL);
    ERR(source_v4(fd, IP_DROP_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.3"), EADDRNOTAVAIL);
    ERR(join_v4(fd, IP_ADD_MEMBERSHIP, "239.1.1.1"), EADDRINUSE);
    CHECK(source_v4(fd, IP_DROP_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.1") == 0);
    CHECK(source_v4(fd, IP_DROP_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.2") == 0);
    ERR(shown_v4(fd, "239.1.1.1", &n), EADDRNOTAVAIL); /* without sources it has left */
    /* Blocked sources. */
    CHECK(join_v4(fd, IP_ADD_MEMBERSHIP, "239.1.1.1") == 0);
    CHECK(shown_v4(fd, "239.1.1.1", &n) == MCAST_EXCLUDE && n == 0);
    ERR(source_v4(fd, IP_UNBLOCK_SOURCE, "239.1.1.1", "10.0.0.1"), EADDRNOTAVAIL);
    CHECK(source_v4(fd, IP_BLOCK_SOURCE, "239.1.1.1", "10.0.0.1") == 0);
    ERR(source_v4(fd, IP_BLOCK_SOURCE, "239.1.1.1", "10.0.0.1"), EADDRNOTAVAIL);
    ERR(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.2"), EINVAL);
    CHECK(shown_v4(fd, "239.1.1.1", &n) == MCAST_EXCLUDE && n == 1);
    CHECK(source_v4(fd, IP_UNBLOCK_SOURCE, "239.1.1.1", "10.0.0.1") == 0);
    CHECK(shown_v4(fd, "239.1.1.1", &n) == MCAST_EXCLUDE && n == 0);
    ERR(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.2"), EINVAL); /* there was a list */
    CHECK(join_v4(fd, IP_DROP_MEMBERSHIP, "239.1.1.1") == 0);
    /* A membership that never had a list changes its mode. */
    CHECK(join_v4(fd, IP_ADD_MEMBERSHIP, "239.1.1.2") == 0);
    CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.2", "10.0.0.2") == 0);
    CHECK(shown_v4(fd, "239.1.1.2", &n) == MCAST_INCLUDE && n == 1);
    /* igmp_max_msf. */
    for (int i = 3; i < 12; i++) {
        char s[16];
        snprintf(s, sizeof s, "10.0.0.%d", i);
        CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.2", s) == 0);
    }
    CHECK(shown_v4(fd, "239.1.1.2", &n) == MCAST_INCLUDE && n == 10);
    ERR(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.2", "10.0.0.99"), ENOBUFS);
    /* igmp_max_memberships. */
    for (int i = 3; i < 22; i++) {
        char g[16];
        snprintf(g, sizeof g, "239.1.1.%d", i);
        CHECK(join_v4(fd, IP_ADD_MEMBERSHIP, g) == 0);
    }
    ERR(join_v4(fd, IP_ADD_MEMBERSHIP, "239.1.1.99"), ENOBUFS);
    ERR(group_req(fd, SOL_IP, MCAST_JOIN_GROUP, "239.1.1.99"), ENOBUFS);
    CHECK(usk_close(fd) == 0);
}

static int set_filter_v4(int fd, const char *group, unsigned mode, unsigned n, size_t len)
{
    char buf[IP_MSFILTER_SIZE(12)];
    struct ip_msfilter *f = (struct ip_msfilter *)buf;
    uint32_t *list = (uint32_t *)(buf + IP_MSFILTER_SIZE(0));
    memset(buf, 0, sizeof buf);
    f->imsf_multiaddr.s_addr = inet_addr(group);
    f->imsf_interface.s_addr = htonl(INADDR_LOOPBACK);
    f->imsf_fmode = mode;
    f->imsf_numsrc = n;
    for (uint32_t i = 0; i < 12; i++)
        list[i] = htonl(0x0a000001 + i);
    return set(fd, SOL_IP, IP_MSFILTER, buf, (socklen_t)len);
}

static void whole_filter(void)
{
    int fd = usk_socket(AF_INET, SOCK_DGRAM, 0), n = 0;
    CHECK(fd >= 0);
    ERR(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 1, 15), EINVAL);
    ERR(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 2, IP_MSFILTER_SIZE(1)), EINVAL);
    ERR(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 11, IP_MSFILTER_SIZE(11)), ENOBUFS);
    ERR(set_filter_v4(fd, "10.2.2.2", MCAST_INCLUDE, 1, IP_MSFILTER_SIZE(1)), EINVAL);
    ERR(set_filter_v4(fd, "239.2.2.2", 7, 1, IP_MSFILTER_SIZE(1)), EINVAL);
    ERR(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 1, IP_MSFILTER_SIZE(1)), EINVAL); /* not joined */
    ERR(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 0, IP_MSFILTER_SIZE(0)), EADDRNOTAVAIL);
    CHECK(join_v4(fd, IP_ADD_MEMBERSHIP, "239.2.2.2") == 0);
    CHECK(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 3, IP_MSFILTER_SIZE(3)) == 0);
    CHECK(shown_v4(fd, "239.2.2.2", &n) == MCAST_INCLUDE && n == 3);
    CHECK(set_filter_v4(fd, "239.2.2.2", MCAST_EXCLUDE, 5, IP_MSFILTER_SIZE(6)) == 0);
    CHECK(shown_v4(fd, "239.2.2.2", &n) == MCAST_EXCLUDE && n == 5);
    CHECK(set_filter_v4(fd, "239.2.2.2", MCAST_EXCLUDE, 0, IP_MSFILTER_SIZE(0)) == 0);
    CHECK(shown_v4(fd, "239.2.2.2", &n) == MCAST_EXCLUDE && n == 0);
    CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.2.2.2", "10.0.0.2") == 0); /* no list any more */
    /* Read by the family-independent option. */
    char buf[GROUP_FILTER_SIZE(2)];
    struct group_filter *f = (struct group_filter *)buf;
    socklen_t len = sizeof buf;
    memset(buf, 0, sizeof buf);
    f->gf_interface = LO;
    f->gf_group = name_of("239.2.2.2", 0);
    f->gf_numsrc = 2;
    CHECK(usk_getsockopt(fd, SOL_IP, MCAST_MSFILTER, buf, &len) == 0);
    CHECK(f->gf_fmode == MCAST_INCLUDE && f->gf_numsrc == 1 && len == GROUP_FILTER_SIZE(1));
    struct sockaddr_in *s = (struct sockaddr_in *)&f->gf_slist[0];
    CHECK(s->sin_family == AF_INET && s->sin_addr.s_addr == inet_addr("10.0.0.2"));
    len = GROUP_FILTER_SIZE(0) - 1;
    ERR(usk_getsockopt(fd, SOL_IP, MCAST_MSFILTER, buf, &len), EINVAL);
    len = IP_MSFILTER_SIZE(0) - 1;
    ERR(usk_getsockopt(fd, SOL_IP, IP_MSFILTER, buf, &len), EINVAL);
    CHECK(set_filter_v4(fd, "239.2.2.2", MCAST_INCLUDE, 0, IP_MSFILTER_SIZE(0)) == 0);
    ERR(shown_v4(fd, "239.2.2.2", &n), EADDRNOTAVAIL);
    CHECK(usk_close(fd) == 0);
}

/* The options that name an interface by its index and take both families. */
static void by_index(int family, int level, const char *group, const char *a, const char *b)
{
    int fd = usk_socket(family, SOCK_DGRAM, 0), v6 = family == AF_INET6;
    const char *other = v6 ? "239.3.3.3" : "ff15::3", *alone = v6 ? "fd00::1" : "10.0.0.9";
    struct group_req short_one;
    CHECK(fd >= 0);
    memset(&short_one, 0, sizeof short_one);
    ERR(set(fd, level, MCAST_JOIN_GROUP, &short_one, sizeof short_one - 1), EINVAL);
    ERR(set(fd, level, MCAST_JOIN_SOURCE_GROUP, &short_one, sizeof short_one), EINVAL);
    ERR(group_req(fd, level, MCAST_JOIN_GROUP, other), v6 ? EADDRNOTAVAIL : EINVAL);
    ERR(source_req(fd, level, MCAST_JOIN_SOURCE_GROUP, other, a), EADDRNOTAVAIL);
    ERR(group_req(fd, level, MCAST_JOIN_GROUP, alone), EINVAL);
    ERR(source_req(fd, level, MCAST_BLOCK_SOURCE, group, a), EINVAL);
    ERR(source_req(fd, level, MCAST_LEAVE_SOURCE_GROUP, group, a), EINVAL);
    ERR(group_req(fd, level, MCAST_LEAVE_GROUP, group), EADDRNOTAVAIL);
    CHECK(group_req(fd, level, MCAST_JOIN_GROUP, group) == 0);
    ERR(group_req(fd, level, MCAST_JOIN_GROUP, group), EADDRINUSE);
    CHECK(source_req(fd, level, MCAST_BLOCK_SOURCE, group, a) == 0);
    ERR(source_req(fd, level, MCAST_BLOCK_SOURCE, group, a), EADDRNOTAVAIL);
    CHECK(source_req(fd, level, MCAST_UNBLOCK_SOURCE, group, a) == 0);
    ERR(source_req(fd, level, MCAST_JOIN_SOURCE_GROUP, group, a), EINVAL);
    CHECK(group_req(fd, level, MCAST_LEAVE_GROUP, group) == 0);
    CHECK(source_req(fd, level, MCAST_JOIN_SOURCE_GROUP, group, a) == 0);
    CHECK(source_req(fd, level, MCAST_JOIN_SOURCE_GROUP, group, b) == 0);
    CHECK(source_req(fd, level, MCAST_LEAVE_SOURCE_GROUP, group, a) == 0);
    CHECK(source_req(fd, level, MCAST_LEAVE_SOURCE_GROUP, group, b) == 0);
    ERR(source_req(fd, level, MCAST_LEAVE_SOURCE_GROUP, group, b), EINVAL);
    /* MCAST_MSFILTER. */
    char buf[GROUP_FILTER_SIZE(2)];
    struct group_filter *f = (struct group_filter *)buf;
    memset(buf, 0, sizeof buf);
    f->gf_interface = LO;
    f->gf_group = name_of(group, 0);
    f->gf_fmode = MCAST_EXCLUDE;
    f->gf_numsrc = 2;
    f->gf_slist[0] = name_of(a, 0);
    f->gf_slist[1] = name_of(b, 0);
    ERR(set(fd, level, MCAST_MSFILTER, buf, sizeof buf), EINVAL);
    CHECK(group_req(fd, level, MCAST_JOIN_GROUP, group) == 0);
    ERR(set(fd, level, MCAST_MSFILTER, buf, sizeof buf - 1), EINVAL);
    CHECK(set(fd, level, MCAST_MSFILTER, buf, sizeof buf) == 0);
    socklen_t len = sizeof buf;
    memset(f->gf_slist, 0, 2 * sizeof f->gf_slist[0]);
    CHECK(usk_getsockopt(fd, level, MCAST_MSFILTER, buf, &len) == 0);
    CHECK(len == sizeof buf && f->gf_fmode == MCAST_EXCLUDE && f->gf_numsrc == 2);
    CHECK(f->gf_slist[0].ss_family == family && f->gf_slist[1].ss_family == family);
    f->gf_numsrc = 1;
    len = sizeof buf;
    CHECK(usk_getsockopt(fd, level, MCAST_MSFILTER, buf, &len) == 0);
    CHECK(f->gf_numsrc == 2 && len == GROUP_FILTER_SIZE(1));
    f->gf_slist[0] = name_of(v6 ? "10.0.0.1" : "fd00::1", 0);
    f->gf_numsrc = 2;
    int r = set(fd, level, MCAST_MSFILTER, buf, sizeof buf);
    CHECK(v6 ? r == 0 : r < 0 && errno == EADDRNOTAVAIL); /* of IPv6's list the family is not looked at */
    f->gf_fmode = 9;
    f->gf_slist[0] = name_of(a, 0);
    ERR(set(fd, level, MCAST_MSFILTER, buf, sizeof buf), EINVAL);
    CHECK(usk_close(fd) == 0);
}

static void streams(void)
{
    int fd = usk_socket(AF_INET, SOCK_STREAM, 0), six = usk_socket(AF_INET6, SOCK_STREAM, 0);
    ERR(join_v4(fd, IP_ADD_MEMBERSHIP, "239.1.1.1"), EPROTO);
    CHECK(source_v4(fd, IP_ADD_SOURCE_MEMBERSHIP, "239.1.1.1", "10.0.0.1") == 0);
    CHECK(group_req(fd, SOL_IP, MCAST_JOIN_GROUP, "239.1.1.2") == 0);
    CHECK(group_req(six, SOL_IPV6, MCAST_JOIN_GROUP, "ff15::2") == 0);
    CHECK(source_req(six, SOL_IPV6, MCAST_JOIN_SOURCE_GROUP, "ff15::3", "fd00::1") == 0);
    CHECK(usk_close(fd) == 0);
    CHECK(usk_close(six) == 0);
}

/* Sends from `from` to the group and says whether `in` has it, when a datagram that went the same way after it has
 * arrived. */
static int arrives(int in, const char *from, const char *group, int port)
{
    struct sockaddr_storage a = name_of(from, 0), to = name_of(group, port);
    int out = usk_socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t len = sizeof(struct sockaddr_in);
    struct ip_mreqn by = {{0}, {0}, LO};
    struct pollfd p = {.fd = in, .events = POLLIN};
    char byte[2];
    CHECK(out >= 0 && usk_bind(out, (struct sockaddr *)&a, len) == 0);
    CHECK(set(out, SOL_IP, IP_MULTICAST_IF, &by, sizeof by) == 0);
    CHECK(usk_sendto(out, "x", 1, 0, (struct sockaddr *)&to, len) == 1);
    struct addr after = at("127.0.0.1", 0);
    int last = bound(SOCK_DGRAM, after);
    after = sock_name(last);
    CHECK(usk_sendto(out, "y", 1, 0, &after.sa, after.len) == 1 && usk_recv(last, byte, 2, 0) == 1);
    CHECK(usk_close(out) == 0 && usk_close(last) == 0);
    int got = usk_poll(&p, 1, 0) == 1;
    CHECK(!got || usk_recv(in, byte, 2, 0) == 1);
    return got;
}

static void delivery_v4(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    socklen_t len = sizeof any;
    int in = usk_socket(AF_INET, SOCK_DGRAM, 0), member = usk_socket(AF_INET, SOCK_DGRAM, 0), off = 0, two = 2;
    const char *g = "239.4.4.4", *one = "127.0.0.1", *other = "127.0.0.2";
    CHECK(usk_bind(in, (struct sockaddr *)&any, sizeof any) == 0);
    CHECK(usk_getsockname(in, (struct sockaddr *)&any, &len) == 0);
    int port = ntohs(any.sin_port);
    CHECK(!arrives(in, one, g, port));
    CHECK(join_v4(member, IP_ADD_MEMBERSHIP, g) == 0);
    CHECK(arrives(in, one, g, port)); /* IP_MULTICAST_ALL: another socket's membership is enough */
    ERR(set(in, SOL_IP, IP_MULTICAST_ALL, &two, sizeof two), EINVAL);
    CHECK(set(in, SOL_IP, IP_MULTICAST_ALL, &off, sizeof off) == 0);
    CHECK(!arrives(in, one, g, port));
    CHECK(source_v4(in, IP_ADD_SOURCE_MEMBERSHIP, g, one) == 0);
    CHECK(arrives(in, one, g, port) && !arrives(in, other, g, port));
    CHECK(source_v4(in, IP_DROP_SOURCE_MEMBERSHIP, g, one) == 0);
    CHECK(!arrives(in, one, g, port));
    CHECK(join_v4(in, IP_ADD_MEMBERSHIP, g) == 0);
    CHECK(arrives(in, one, g, port) && arrives(in, other, g, port));
    CHECK(source_v4(in, IP_BLOCK_SOURCE, g, one) == 0);
    CHECK(!arrives(in, one, g, port) && arrives(in, other, g, port));
    CHECK(usk_close(member) == 0);
    CHECK(!arrives(in, one, g, port) && arrives(in, other, g, port));
    CHECK(usk_close(in) == 0);
}

/* What it does needs a route for ff00::/8, which the loopback device lacks. */
static void all_of_v6(void)
{
    int fd = usk_socket(AF_INET6, SOCK_DGRAM, 0), off = 0, two = 2, on = -1;
    socklen_t len = sizeof on;
    CHECK(usk_getsockopt(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &on, &len) == 0 && on == 1 && len == sizeof on);
    ERR(set(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &off, 3), EINVAL);
    CHECK(set(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &two, sizeof two) == 0);
    CHECK(usk_getsockopt(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &on, &len) == 0 && on == 1);
    CHECK(set(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &off, sizeof off) == 0);
    CHECK(usk_getsockopt(fd, SOL_IPV6, IPV6_MULTICAST_ALL, &on, &len) == 0 && on == 0);
    CHECK(usk_close(fd) == 0);
}

int main(void)
{
    begin("source_filters");
    by_address();
    whole_filter();
    by_index(AF_INET, SOL_IP, "239.3.3.4", "10.0.0.1", "10.0.0.2");
    by_index(AF_INET6, SOL_IPV6, "ff15::5", "fd00::1", "fd00::2");
    streams();
    delivery_v4();
    all_of_v6();
    return done();
}

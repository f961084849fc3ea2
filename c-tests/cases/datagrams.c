/* What a datagram socket tells beside the bytes, and when: SO_PEEK_OFF, IP_PKTINFO, the ICMP message behind a queued
 * error, what is lost to a bad pointer; MSG_PROBE; names of ping and of IPv6-only sockets; who may ping. */
#include "common.h"
#include "ping.h"
#include "control.h"

#ifndef MSG_PROBE
#define MSG_PROBE 0x10
#endif

static int peek(int fd, size_t room, int flags)
{
    char buf[64];
    return (int)usk_recv(fd, buf, room, flags | MSG_DONTWAIT);
}

static int peek_off(int fd)
{
    return get_int(fd, SOL_SOCKET, SO_PEEK_OFF);
}

/* A peek goes on where the last one ended, over the borders of datagrams; what is read moves the offset back. */
static void peek_offset(int family)
{
    int fd[2];
    udp_pair(family, fd);
    EQ(peek_off(fd[1]), -1);
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 0));
    EQ(usk_send(fd[0], "abcdefgh", 8, 0), 8);
    EQ(usk_send(fd[0], "", 0, 0), 0);
    EQ(usk_send(fd[0], "ijkl", 4, 0), 4);
    await(fd[1], POLLIN);
    static const struct {
        int room, flags, want, off;
    } rows[] = {{3, MSG_PEEK, 3, 3},
                {3, MSG_PEEK, 3, 6},
                {3, MSG_PEEK, 2, 8},
                {3, MSG_PEEK, 0, 8}, /* a datagram without bytes, once */
                {3, MSG_PEEK, 3, 11},
                {3, MSG_PEEK, 1, 12},
                {2, 0, 2, 10}, /* the first datagram whole, but by as much as was copied */
                {2, 0, 0, 10},
                {1, MSG_TRUNC, 4, 6}};
    for (int i = 0; i < COUNT(rows); i++) {
        EQ(peek(fd[1], (size_t)rows[i].room, rows[i].flags), rows[i].want);
        EQ(peek_off(fd[1]), rows[i].off);
    }
    ERR(peek(fd[1], 3, MSG_PEEK), EAGAIN);
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 2));
    EQ(usk_send(fd[0], "0123456789", 10, 0), 10);
    await(fd[1], POLLIN);
    struct iovec iov = {(char[16]){0}, 8};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    EQ(usk_recvmsg(fd[1], &m, MSG_PEEK), 8);
    CHECK(memcmp(iov.iov_base, "23456789", 8) == 0);
    EQ(m.msg_flags & MSG_TRUNC, MSG_TRUNC); /* fewer than the datagram has, and no room beyond its end */
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 4));
    EQ(peek(fd[1], 3, MSG_PEEK | MSG_TRUNC), 10);
    EQ(peek_off(fd[1]), 14);
    /* Negative is off, and is kept as it is. */
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, -5));
    EQ(peek_off(fd[1]), -5);
    EQ(peek(fd[1], 3, MSG_PEEK), 3);
    EQ(peek_off(fd[1]), -5);
    close_pair(fd);
}

static void no_peek_offset(int family, int type, int protocol)
{
    int fd = (int)OK(usk_socket(family, type, protocol)), value;
    socklen_t len = sizeof value;
    ERR(set_int(fd, SOL_SOCKET, SO_PEEK_OFF, 0), EOPNOTSUPP);
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &value, &len), EOPNOTSUPP);
    OK(usk_close(fd));
}

/* The first control message of a type in what the call received. */
static bool told_by(int fd, int flags, int level, int type, void *to, size_t len)
{
    char buf[64], control[512];
    struct iovec iov = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    OK(usk_recvmsg(fd, &m, flags | MSG_DONTWAIT));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == level && c->cmsg_type == type) {
            EQ(c->cmsg_len, CMSG_LEN(len));
            memcpy(to, CMSG_DATA(c), len);
            return true;
        }
    return false;
}

/* What came before the option was set says nothing. */
static void pktinfo(void)
{
    int fd[2];
    struct in_pktinfo info;
    udp_pair(AF_INET, fd);
    EQ(usk_send(fd[0], "early", 5, 0), 5);
    await(fd[1], POLLIN);
    OK(set_int(fd[1], SOL_IP, IP_PKTINFO, 1));
    EQ(usk_send(fd[0], "late", 4, 0), 4);
    CHECK(told_by(fd[1], 0, SOL_IP, IP_PKTINFO, &info, sizeof info));
    EQ(info.ipi_ifindex, 0);
    EQ(info.ipi_spec_dst.s_addr, 0);
    EQ(ntohl(info.ipi_addr.s_addr), INADDR_LOOPBACK);
    await(fd[1], POLLIN);
    CHECK(told_by(fd[1], 0, SOL_IP, IP_PKTINFO, &info, sizeof info));
    EQ(info.ipi_ifindex, usk_if_nametoindex("lo"));
    EQ(ntohl(info.ipi_spec_dst.s_addr), INADDR_LOOPBACK);
    close_pair(fd);
}

/* With a queued error comes what the socket asks of the ICMP message that told of it. */
static void icmp_message(void)
{
    struct addr nobody = local(AF_INET);
    nobody.in.sin_port = htons(9);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0)), ttl = 0;
    unsigned char tos = 0;
    struct in_pktinfo info;
    OK(set_int(fd, SOL_IP, IP_RECVERR, 1));
    OK(set_int(fd, SOL_IP, IP_RECVTTL, 1));
    OK(set_int(fd, SOL_IP, IP_RECVTOS, 1));
    OK(set_int(fd, SOL_IP, IP_PKTINFO, 1));
    for (int i = 0; i < 3; i++)
        EQ(usk_sendto(fd, "x", 1, 0, &nobody.sa, nobody.len), 1), await(fd, POLLERR), (void)so_error(fd);
    CHECK(told_by(fd, MSG_ERRQUEUE, SOL_IP, IP_TTL, &ttl, sizeof ttl));
    EQ(ttl, 64);
    CHECK(told_by(fd, MSG_ERRQUEUE, SOL_IP, IP_TOS, &tos, sizeof tos));
    EQ(tos, 0xc0); /* internetwork control */
    CHECK(told_by(fd, MSG_ERRQUEUE, SOL_IP, IP_PKTINFO, &info, sizeof info));
    EQ(info.ipi_ifindex, usk_if_nametoindex("lo"));
    EQ(info.ipi_spec_dst.s_addr, 0);
    EQ(ntohl(info.ipi_addr.s_addr), INADDR_LOOPBACK);
    OK(usk_close(fd));
}

static void lost_to_a_bad_pointer(void)
{
    int fd[2];
    uint32_t drops = 0;
    udp_pair(AF_INET, fd);
    OK(set_int(fd[1], SOL_SOCKET, SO_RXQ_OVFL, 1));
    EQ(usk_send(fd[0], "lost", 4, 0), 4);
    EQ(usk_send(fd[0], "before", 6, 0), 6);
    await(fd[1], POLLIN);
    ERR(usk_recv(fd[1], (void *)16, 4, MSG_PEEK), EFAULT);
    ERR(usk_recv(fd[1], (void *)16, 4, 0), EFAULT);
    /* A datagram tells of what was lost when it came. */
    CHECK(!told_by(fd[1], 0, SOL_SOCKET, SO_RXQ_OVFL, &drops, sizeof drops));
    EQ(usk_send(fd[0], "behind", 6, 0), 6);
    await(fd[1], POLLIN);
    CHECK(told_by(fd[1], 0, SOL_SOCKET, SO_RXQ_OVFL, &drops, sizeof drops));
    EQ(drops, 1);
    close_pair(fd);
}

/* MSG_PROBE looks for the way and sends nothing. Its bytes are not taken, so that sendmmsg ends behind the first. */
static void probe(int family)
{
    int fd[2], queued = -1;
    char buf[64];
    udp_pair(family, fd);
    EQ(usk_send(fd[0], "none", 4, MSG_PROBE), 4);
    struct iovec iov = {"none", 4};
    struct mmsghdr m[3];
    memset(m, 0, sizeof m);
    for (int i = 0; i < 3; i++)
        m[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
    EQ(usk_sendmmsg(fd[0], m, 3, MSG_PROBE), 1);
    EQ(ready(fd[1], POLLIN), 0);
    /* Of what waits under a cork nothing is lost, and nothing comes to it. */
    EQ(usk_send(fd[0], "one", 3, MSG_MORE), 3);
    OK(usk_ioctl(fd[0], SIOCOUTQ, &queued));
    CHECK(queued > 3);
    EQ(usk_send(fd[0], "none", 4, MSG_PROBE | MSG_MORE), 4);
    EQ(usk_send(fd[0], "two", 3, 0), 3);
    await(fd[1], POLLIN);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 6);
    EQ(usk_send(fd[0], "last", 4, MSG_MORE), 4);
    EQ(usk_send(fd[0], "none", 4, MSG_PROBE), 4);
    await(fd[1], POLLIN);
    EQ(usk_recv(fd[1], buf, sizeof buf, 0), 4);
    close_pair(fd);
}

static void names(void)
{
    struct addr v6 = at("::1", 0), v4 = at("127.0.0.1", 9), odd = v6;
    odd.sa.sa_family = 1;
    static const unsigned char echo[8] = {128};
    int fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
    ERR(usk_bind(fd, &v6.sa, 24), EINVAL); /* a name without scope is too short to bind to and to send to */
    ERR(usk_sendto(fd, echo, sizeof echo, 0, &v6.sa, 24), EINVAL);
    ERR(usk_connect(fd, &odd.sa, 16), EAFNOSUPPORT); /* the family counts before the length */
    OK(usk_connect(fd, &v6.sa, 24));
    ERR(usk_bind(fd, &v6.sa, 28), EINVAL);
    OK(usk_close(fd));
    /* An IPv6-only UDP socket does the same for IPv4 alone. */
    fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    ERR(usk_connect(fd, &v4.sa, 8), EINVAL);
    ERR(usk_connect(fd, &odd.sa, 16), EINVAL);
    ERR(usk_connect(fd, &odd.sa, 24), EAFNOSUPPORT);
    OK(usk_close(fd));
    fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    OK(set_int(fd, SOL_IPV6, IPV6_V6ONLY, 1));
    ERR(usk_sendto(fd, "x", 1, 0, &v4.sa, 8), ENETUNREACH);
    ERR(usk_sendto(fd, "x", 1, 0, &v4.sa, 1), EINVAL);
    ERR(usk_connect(fd, &v4.sa, 8), EAFNOSUPPORT);
    ERR(usk_connect(fd, &odd.sa, 16), EINVAL);
    OK(usk_close(fd));
    /* ::ffff:0.0.0.0 is an address that was bound: it stays when an association is dissolved. */
    struct addr any = at("::ffff:0.0.0.0", 0), un = at("127.0.0.1", 0);
    un.sa.sa_family = AF_UNSPEC;
    fd = bound(SOCK_DGRAM, any);
    OK(usk_connect(fd, &un.sa, un.len));
    un = sock_name(fd);
    CHECK(IN6_IS_ADDR_V4MAPPED(&un.in6.sin6_addr));
    OK(usk_close(fd));
    /* A stream looks at the length first. */
    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    ERR(usk_connect(fd, &v4.sa, 16), EINVAL);
    ERR(usk_connect(fd, &v4.sa, 28), EAFNOSUPPORT);
    OK(usk_close(fd));
}

/* Control messages are looked at before the route; of IPV6_PKTINFO the device that the name says before the address. */
static void control_before_route(void)
{
    struct addr v4 = at("127.0.0.1", 9), un = v4, link = at("fe80::1", 9);
    struct in6_pktinfo mapped = {.ipi6_addr = at("::ffff:127.0.0.2", 0).in6.sin6_addr};
    int fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0)), bad = 300, peered;
    link.in6.sin6_scope_id = 77;
    ERR(send_with(fd, &link, "x", 1, SOL_IPV6, IPV6_PKTINFO, &mapped, sizeof mapped), ENODEV);
    link.in6.sin6_scope_id = 1;
    ERR(send_with(fd, &link, "x", 1, SOL_IPV6, IPV6_PKTINFO, &mapped, sizeof mapped), EINVAL);
    peered = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    OK(usk_connect(peered, &v4.sa, v4.len));
    un.sa.sa_family = AF_UNSPEC;
    ERR(send_with(peered, &un, "x", 1, SOL_IPV6, IPV6_TCLASS, &bad, sizeof bad), EINVAL);
    ERR(usk_sendto(peered, "x", 1, 0, &un.sa, un.len), ENETUNREACH);
    OK(usk_close(peered));
    OK(usk_close(fd));
}

int main(void)
{
    begin("datagrams");
    for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
        peek_offset(family);
        probe(family);
    }
    no_peek_offset(AF_INET, SOCK_RAW, 200);
    may_ping();
    no_peek_offset(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    no_peek_offset(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
    pktinfo();
    icmp_message();
    lost_to_a_bad_pointer();
    names();
    control_before_route();
    return done();
}

/* Raw sockets: names, where the port is the protocol; bind without a look at the family; headers of the program's own;
 * filters, whole and in part; MSG_MORE; what a shut down socket still sends; who receives; what is refused first. */
#include "common.h"
#include "control.h"

enum { NUMBER = 200, OTHER = 201 };

static int raw(int family, int protocol)
{
    return (int)OK(usk_socket(family, SOCK_RAW, protocol));
}

static void names_v4(void)
{
    struct addr to = at("127.0.0.1", 77), any = to, v6 = at("::1", 0);
    int fd = raw(AF_INET, NUMBER);
    char buf[64];
    EQ(usk_sendto(fd, "port", 4, 0, &to.sa, to.len), 4); /* it means nothing */
    any.sa.sa_family = AF_UNSPEC;
    EQ(usk_sendto(fd, "unspec", 6, 0, &any.sa, any.len), 6);
    ERR(usk_sendto(fd, "v6", 2, 0, &v6.sa, v6.len), EAFNOSUPPORT);
    ERR(usk_sendto(fd, "short", 5, 0, &to.sa, 8), EINVAL);
    ERR(usk_sendto(fd, "none", 4, 0, &to.sa, 0), EDESTADDRREQ);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 24);
    EQ(buf[0], 0x45); /* with the IP header */
    EQ(usk_recv(fd, buf, sizeof buf, 0), 26);
    /* The family of a name to bind to is not looked at, and binding again is fine until there is a peer. */
    any.in.sin_family = 77;
    OK(usk_bind(fd, &any.sa, any.len));
    OK(usk_bind(fd, &to.sa, to.len));
    OK(usk_connect(fd, &to.sa, to.len));
    ERR(usk_bind(fd, &to.sa, to.len), EINVAL);
    EQ(port_of(sock_name(fd)), NUMBER);
    /* Dissolving the association takes the address and the number. */
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd, &un, sizeof un));
    EQ(port_of(sock_name(fd)), 0);
    EQ(sock_name(fd).in.sin_addr.s_addr, 0);
    EQ(usk_sendto(fd, "gone", 4, 0, &to.sa, to.len), 4);
    ERR(usk_recv(fd, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(fd));
}

static void names_v6(void)
{
    struct addr to = at("::1", NUMBER), wrong = at("::1", OTHER), mapped = at("::ffff:127.0.0.1", 0),
                v4 = at("127.0.0.1", 0);
    int fd = raw(AF_INET6, NUMBER), all = raw(AF_INET6, IPPROTO_RAW);
    char buf[64];
    EQ(usk_sendto(fd, "number", 6, 0, &to.sa, to.len), 6);
    ERR(usk_sendto(fd, "other", 5, 0, &wrong.sa, wrong.len), EINVAL);
    ERR(usk_sendto(fd, "v4", 2, 0, &v4.sa, v4.len), EINVAL);        /* too short */
    ERR(usk_sendto(fd, "v4", 2, 0, &v4.sa, 28), EAFNOSUPPORT);
    ERR(usk_sendto(fd, "mapped", 6, 0, &mapped.sa, mapped.len), ENETUNREACH);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 6); /* without a header */
    /* The number of IPPROTO_RAW is the name's, and its packets have headers of the program's. */
    ERR(usk_sendto(all, "short", 5, 0, &to.sa, to.len), EINVAL);
    OK(set_int(all, SOL_IPV6, 36 /* IPV6_HDRINCL */, 0));
    EQ(usk_sendto(all, "by name", 7, 0, &to.sa, to.len), 7);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 7);
    ERR(usk_bind(fd, &mapped.sa, mapped.len), EADDRNOTAVAIL);
    ERR(usk_bind(fd, &v4.sa, 28), EINVAL);
    OK(usk_bind(fd, &to.sa, to.len));
    OK(usk_connect(fd, &to.sa, to.len));
    ERR(usk_connect(fd, &v4.sa, 28), EAFNOSUPPORT);
    OK(usk_close(fd));
    fd = raw(AF_INET6, NUMBER);
    OK(usk_connect(fd, &mapped.sa, mapped.len)); /* it can be had, and not be reached */
    ERR(usk_send(fd, "x", 1, 0), ENETUNREACH);
    OK(usk_close(fd));
    OK(usk_close(all));
}

static void options(void)
{
    int icmp = raw(AF_INET, IPPROTO_ICMP), icmp6 = raw(AF_INET6, IPPROTO_ICMPV6), fd = raw(AF_INET, NUMBER);
    unsigned filter = 0xffffffff, got = 0;
    socklen_t len = sizeof got;
    EQ(get_int(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
    ERR(usk_setsockopt(fd, SOL_RAW, 1, &filter, sizeof filter), EOPNOTSUPP);
    ERR(usk_getsockopt(fd, SOL_RAW, 999, &got, &len), ENOPROTOOPT);
    OK(usk_setsockopt(icmp, SOL_RAW, 1 /* ICMP_FILTER */, &filter, 2)); /* as much as is given */
    OK(usk_getsockopt(icmp, SOL_RAW, 1, &got, &len));
    EQ(got, 0xffff);
    OK(set_int(icmp6, SOL_RAW, 7 /* IPV6_CHECKSUM */, 4));
    ERR(set_int(icmp6, SOL_IPV6, 7, 4), EINVAL);
    /* A length below 0 is a large one to rawv6_getsockopt, and none to the others. */
    len = (socklen_t)-1;
    OK(usk_getsockopt(icmp6, SOL_RAW, 7, &got, &len));
    CHECK(len == 4 && got == 4);
    len = (socklen_t)-1;
    ERR(usk_getsockopt(icmp6, SOL_RAW, 999, &got, &len), ENOPROTOOPT);
    len = (socklen_t)-1;
    ERR(usk_getsockopt(icmp, SOL_RAW, 1, &got, &len), EINVAL);
    ERR(usk_setsockopt(icmp6, SOL_RAW, 999, &filter, 1), EINVAL);
    ERR(usk_setsockopt(icmp6, SOL_RAW, 999, &filter, 4), ENOPROTOOPT);
    OK(usk_close(icmp));
    OK(usk_close(icmp6));
    OK(usk_close(fd));
}

static void sending(void)
{
    struct addr to = at("127.0.0.1", 0);
    int fd = raw(AF_INET, NUMBER), icmp = raw(AF_INET, IPPROTO_ICMP);
    char buf[64];
    /* MSG_MORE joins bytes into one packet; MSG_PROBE takes none. */
    EQ(usk_sendto(fd, "one ", 4, MSG_MORE, &to.sa, to.len), 4);
    EQ(usk_sendto(fd, "none", 4, 0x10 | MSG_MORE, &to.sa, to.len), 4);
    EQ(usk_sendto(fd, "two", 3, 0, &to.sa, to.len), 3);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 27);
    CHECK(memcmp(buf + 20, "one two", 7) == 0);
    /* Without room to wait for, a socket that is shut down sends all the same. */
    ERR(usk_shutdown(fd, SHUT_WR), ENOTCONN);
    EQ(usk_sendto(fd, "still", 5, 0, &to.sa, to.len), 5);
    /* An ICMP message without its header is nobody's. */
    EQ(usk_sendto(icmp, "\010\0\0\0\0\0\0", 7, 0, &to.sa, to.len), 7);
    ERR(usk_recv(icmp, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    ERR(usk_sendto(icmp, "\010", 1, 0, &to.sa, to.len), EFAULT);
    /* A header of the program's own is completed; its length must be one. */
    OK(set_int(fd, SOL_IP, IP_HDRINCL, 1));
    unsigned char packet[24] = {0x45, [8] = 64, [9] = NUMBER, [16] = 127, [19] = 1, [20] = 'b'};
    ERR(usk_sendto(fd, packet, sizeof packet, 0, &to.sa, to.len), EPIPE);
    OK(usk_close(fd));
    fd = raw(AF_INET, IPPROTO_RAW);
    int ear = raw(AF_INET, NUMBER);
    EQ(usk_sendto(fd, packet, sizeof packet, 0, &to.sa, to.len), sizeof packet);
    EQ(usk_recv(ear, buf, sizeof buf, 0), sizeof packet);
    CHECK(buf[3] == sizeof packet && buf[12] == 127 && buf[20] == 'b');
    packet[0] = 0x42;
    ERR(usk_sendto(fd, packet, sizeof packet, 0, &to.sa, to.len), EINVAL);
    packet[0] = 0x4f;
    ERR(usk_sendto(fd, packet, sizeof packet, 0, &to.sa, to.len), EINVAL);
    OK(usk_close(fd));
    OK(usk_close(ear));
    OK(usk_close(icmp));
}

/* A socket that is bound elsewhere, or has another peer, is no receiver: the sender learns that there is none. */
static void only_who_matches_receives(void)
{
    struct addr here = at("127.0.0.1", 0), elsewhere = at("127.0.0.2", 0);
    int bound = raw(AF_INET, NUMBER), peered = raw(AF_INET, OTHER), icmp = raw(AF_INET, IPPROTO_ICMP);
    char buf[128];
    OK(usk_bind(bound, &here.sa, here.len));
    EQ(usk_sendto(bound, "x", 1, 0, &here.sa, here.len), 1);
    EQ(usk_recv(bound, buf, sizeof buf, 0), 21);
    ERR(usk_recv(icmp, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    EQ(usk_sendto(bound, "x", 1, 0, &elsewhere.sa, elsewhere.len), 1);
    ERR(usk_recv(bound, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    CHECK(usk_recv(icmp, buf, sizeof buf, 0) > 20 && buf[20] == 3 && buf[21] == 2);
    OK(usk_connect(peered, &elsewhere.sa, elsewhere.len));
    EQ(usk_sendto(peered, "x", 1, 0, &here.sa, here.len), 1);
    CHECK(usk_recv(icmp, buf, sizeof buf, 0) > 20 && buf[20] == 3 && buf[21] == 2);
    OK(usk_close(bound));
    OK(usk_close(peered));
    OK(usk_close(icmp));
}

/* What is looked at first: control messages, then the type of a message of ICMP, then the route. */
static void orders(void)
{
    struct addr here = at("127.0.0.1", 0), mapped = at("::ffff:127.0.0.1", 0);
    int icmp6 = raw(AF_INET6, IPPROTO_ICMPV6), icmp = raw(AF_INET, IPPROTO_ICMP), own = raw(AF_INET, IPPROTO_RAW);
    int bad = 300;
    char buf[8];
    ERR(usk_sendto(icmp6, "", 0, 0, &mapped.sa, mapped.len), EFAULT);
    ERR(send_with(icmp6, &mapped, "", 0, SOL_IPV6, IPV6_TCLASS, &bad, sizeof bad), EINVAL);
    ERR(usk_sendto(icmp6, "\200\0", 2, 0, &mapped.sa, mapped.len), ENETUNREACH);
    ERR(send_with(icmp, &here, "", 0, SOL_IP, IP_TTL, &bad, sizeof bad), EINVAL);
    ERR(usk_recv(icmp, buf, sizeof buf, MSG_OOB | MSG_ERRQUEUE), EOPNOTSUPP);
    /* IP options have no place behind a header of the program's. */
    unsigned char packet[24] = {0x45, [8] = 64, [9] = NUMBER, [16] = 127, [19] = 1};
    ERR(send_with(own, &here, packet, sizeof packet, SOL_IP, IP_RETOPTS, "\1\1\1\1", 4), EINVAL);
    OK(usk_setsockopt(own, SOL_IP, IP_OPTIONS, "\1\1\1\1", 4));
    ERR(usk_sendto(own, packet, sizeof packet, 0, &here.sa, here.len), EINVAL);
    /* That is said before the route, and of a call's options also where they are none. */
    struct addr broadcast = at("127.255.255.255", 0);
    ERR(usk_sendto(own, packet, 1, 0, &broadcast.sa, broadcast.len), EINVAL);
    OK(set_int(own, SOL_IP, IP_HDRINCL, 0));
    ERR(usk_sendto(own, packet, 1, 0, &broadcast.sa, broadcast.len), EACCES);
    OK(usk_close(own));
    own = raw(AF_INET, IPPROTO_RAW);
    ERR(send_with(own, &broadcast, packet, sizeof packet, SOL_IP, IP_RETOPTS, "\1\1\1\1", 4), EINVAL);
    ERR(send_with(own, &here, packet, sizeof packet, SOL_IP, IP_RETOPTS, "", 0), EINVAL);
    EQ(usk_sendto(own, packet, sizeof packet, 0, &here.sa, here.len), sizeof packet);
    OK(usk_close(icmp6));
    OK(usk_close(icmp));
    OK(usk_close(own));
}

int main(void)
{
    begin("raw");
    only_who_matches_receives();
    orders();
    names_v4();
    names_v6();
    options();
    sending();
    return done();
}

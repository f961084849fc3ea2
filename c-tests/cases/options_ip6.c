/* What options of SOL_IPV6 do, seen by a peer and by the control messages of a receiver. */
#include "control.h"
#include <netinet/ip6.h>

#ifndef IPV6_RECVERR_RFC4884
#define IPV6_RECVERR_RFC4884 31
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif
#ifndef IPV6_2292PKTINFO
#define IPV6_2292PKTINFO 2
#define IPV6_2292HOPLIMIT 8
#endif
#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#define IPV6_RECVORIGDSTADDR IPV6_ORIGDSTADDR
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif
#ifndef IPV6_ADDR_PREFERENCES
#define IPV6_ADDR_PREFERENCES 72
#endif

/* Traffic class, hop limit and flow label of a datagram, by the options of the sender and by control message. */
static void header_fields(void)
{
    int fd[2];
    udp_pair(AF_INET6, fd);
    OK(set_int(fd[1], SOL_IPV6, IPV6_RECVTCLASS, 1));
    OK(set_int(fd[1], SOL_IPV6, IPV6_RECVHOPLIMIT, 1));
    OK(set_int(fd[1], SOL_IPV6, IPV6_2292HOPLIMIT, 1));
    OK(set_int(fd[1], SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(fd[0], SOL_IPV6, IPV6_TCLASS, 0x28));
    OK(set_int(fd[0], SOL_IPV6, IPV6_UNICAST_HOPS, 33));
    OK(set_int(fd[0], SOL_IPV6, IPV6_AUTOFLOWLABEL, 0));
    OK(usk_send(fd[0], "x", 1, 0));
    struct received m = receive(fd[1], 0);
    EQ(control_int(&m, SOL_IPV6, IPV6_TCLASS), 0x28);
    EQ(control_int(&m, SOL_IPV6, IPV6_HOPLIMIT), 33);
    EQ(control_int(&m, SOL_IPV6, IPV6_2292HOPLIMIT), 33);
    EQ(ntohl((uint32_t)control_int(&m, SOL_IPV6, IPV6_FLOWINFO)), 0x28 << 20);
    OK(set_int(fd[0], SOL_IPV6, IPV6_AUTOFLOWLABEL, 1));
    OK(usk_send(fd[0], "x", 1, 0));
    m = receive(fd[1], 0);
    uint32_t info = ntohl((uint32_t)control_int(&m, SOL_IPV6, IPV6_FLOWINFO));
    EQ(info >> 20, 0x28);
    CHECK((info & 0xfffff) != 0);
    OK(send_with_int(fd[0], NULL, SOL_IPV6, IPV6_TCLASS, 0x10));
    m = receive(fd[1], 0);
    EQ(control_int(&m, SOL_IPV6, IPV6_TCLASS), 0x10);
    OK(send_with_int(fd[0], NULL, SOL_IPV6, IPV6_HOPLIMIT, 7));
    m = receive(fd[1], 0);
    EQ(control_int(&m, SOL_IPV6, IPV6_HOPLIMIT), 7);
    /* Neither class nor label: no flow information. */
    OK(set_int(fd[0], SOL_IPV6, IPV6_AUTOFLOWLABEL, 0));
    OK(set_int(fd[0], SOL_IPV6, IPV6_TCLASS, 0));
    OK(usk_send(fd[0], "x", 1, 0));
    m = receive(fd[1], 0);
    EQ(control_int(&m, SOL_IPV6, IPV6_FLOWINFO), -12345);
    close_pair(fd);
}

static void destinations(void)
{
    size_t n = 0;
    struct addr any = at("::", 0);
    int r = bound(SOCK_DGRAM, any);
    OK(set_int(r, SOL_IPV6, IPV6_RECVORIGDSTADDR, 1));
    OK(set_int(r, SOL_IPV6, IPV6_2292PKTINFO, 1));
    struct addr to = at("::1", port_of(sock_name(r)));
    int s = connected(SOCK_DGRAM, to);
    OK(usk_send(s, "x", 1, 0));
    struct received m = receive(r, 0);
    struct sockaddr_in6 *a = control_of(&m, SOL_IPV6, IPV6_ORIGDSTADDR, &n);
    CHECK(a && n == sizeof *a);
    EQ(a->sin6_family, AF_INET6);
    EQ(a->sin6_port, to.in6.sin6_port);
    EQ(memcmp(&a->sin6_addr, &in6addr_loopback, 16), 0);
    EQ(a->sin6_scope_id, 0);
    struct in6_pktinfo *i = control_of(&m, SOL_IPV6, IPV6_2292PKTINFO, &n);
    CHECK(i && n == sizeof *i);
    EQ(i->ipi6_ifindex, 1);
    EQ(memcmp(&i->ipi6_addr, &in6addr_loopback, 16), 0);
    usk_close(s);
    usk_close(r);
}

static void send_fragment(int raw, const unsigned char *bytes, int from, int n, int more)
{
    unsigned char packet[2000];
    struct addr to = local(AF_INET6);
    struct ip6_hdr h = {.ip6_plen = htons((uint16_t)(8 + n)), .ip6_nxt = IPPROTO_FRAGMENT, .ip6_hlim = 64};
    h.ip6_vfc = 0x60;
    h.ip6_src = h.ip6_dst = in6addr_loopback;
    struct ip6_frag f = {.ip6f_nxt = IPPROTO_UDP, .ip6f_ident = htonl(0x1234)};
    f.ip6f_offlg = htons((uint16_t)(from | more));
    memcpy(packet, &h, 40);
    memcpy(packet + 40, &f, 8);
    memcpy(packet + 48, bytes + from, (size_t)n);
    OK(usk_sendto(raw, packet, 48 + (size_t)n, 0, &to.sa, to.len));
}

/* The UDP checksum over IPv6 from ::1 to ::1. */
static void checksum(unsigned char *udp, int len)
{
    uint32_t sum = 2 + (uint32_t)len + IPPROTO_UDP;
    for (int i = 0; i < len; i += 2)
        sum += (uint32_t)(udp[i] << 8 | udp[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    udp[6] = (unsigned char)(~sum >> 8);
    udp[7] = (unsigned char)~sum;
}

static void fragment_size(void)
{
    unsigned char udp[8 + 1000] = {0};
    int raw = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW)), r = bound(SOCK_DGRAM, local(AF_INET6));
    OK(set_int(r, SOL_IPV6, IPV6_RECVFRAGSIZE, 1));
    struct addr a = sock_name(r);
    udp[0] = 1;
    memcpy(udp + 2, &a.in6.sin6_port, 2);
    udp[4] = (unsigned char)(sizeof udp >> 8);
    udp[5] = (unsigned char)sizeof udp;
    checksum(udp, sizeof udp);
    send_fragment(raw, udp, 0, 400, 1);
    send_fragment(raw, udp, 400, 608, 0);
    struct received m = receive(r, 0);
    EQ(m.n, 1000);
    EQ(control_int(&m, SOL_IPV6, IPV6_RECVFRAGSIZE), 656);
    usk_close(r);
    usk_close(raw);
}

/* IPV6_RECVERR_RFC4884, as IP_RECVERR_RFC4884 in options_ip.c. */
static void error_extension(void)
{
    static const unsigned char object[] = {0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 1};
    int raw = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    struct addr to = local(AF_INET6), lo = local(AF_INET6);
    int keep = bound(SOCK_DGRAM, to);
    to = sock_name(keep);
    int fd = connected(SOCK_DGRAM, to);
    struct addr from = sock_name(fd);
    OK(set_int(fd, SOL_IPV6, IPV6_RECVERR, 1));
    for (int on = 0; on < 2; on++) {
        unsigned char m[8 + 128 + sizeof object] = {1, 3, 0, 0, 16}; /* address unreachable */
        struct ip6_hdr h = {.ip6_plen = htons(88), .ip6_nxt = IPPROTO_UDP, .ip6_hlim = 1};
        h.ip6_vfc = 0x60;
        h.ip6_src = h.ip6_dst = in6addr_loopback;
        memcpy(m + 8, &h, 40);
        memcpy(m + 48, &from.in6.sin6_port, 2);
        memcpy(m + 50, &to.in6.sin6_port, 2);
        m[53] = 88;
        memcpy(m + 136, object, sizeof object);
        OK(set_int(fd, SOL_IPV6, IPV6_RECVERR_RFC4884, on));
        OK(usk_sendto(raw, m, sizeof m, 0, &lo.sa, lo.len));
        await(fd, 0);
        struct received r = receive(fd, MSG_ERRQUEUE);
        EQ(r.n, 92);
        size_t n = 0;
        unsigned char *e = control_of(&r, SOL_IPV6, IPV6_RECVERR, &n);
        CHECK(e && n >= 16);
        EQ(e[4], 3); /* SO_EE_ORIGIN_ICMP6 */
        EQ(memcmp(e + 12, on ? "\120\0\0\0" : "\0\0\0\0", 4), 0);
    }
    usk_close(fd);
    usk_close(keep);
    usk_close(raw);
}

static void interface_and_source(void)
{
    struct addr to = at("2001:db8::9", 9), foreign = at("2001:db8::1", 0);
    int fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENETUNREACH);
    OK(set_int(fd, SOL_IPV6, IPV6_UNICAST_IF, (int)htonl(1)));
    EQ(get_int(fd, SOL_IPV6, IPV6_UNICAST_IF), (int)htonl(1));
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENETUNREACH);
    ERR(set_int(fd, SOL_IPV6, IPV6_UNICAST_IF, (int)htonl(300)), EADDRNOTAVAIL);
    usk_close(fd);
    for (int name = IPV6_TRANSPARENT; name <= IPV6_FREEBIND; name += IPV6_FREEBIND - IPV6_TRANSPARENT) {
        fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
        int r = bound(SOCK_DGRAM, local(AF_INET6));
        to = sock_name(r);
        ERR(usk_bind(fd, &foreign.sa, foreign.len), EADDRNOTAVAIL);
        OK(set_int(fd, SOL_IPV6, name, 1));
        OK(usk_bind(fd, &foreign.sa, foreign.len));
        OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
        struct received m = receive(r, 0);
        EQ(m.n, 1);
        EQ(memcmp(&m.from.in6.sin6_addr, &foreign.in6.sin6_addr, 16), 0);
        usk_close(r);
        usk_close(fd);
    }
}

/* IPV6_ROUTER_ALERT: of sockets of IPPROTO_RAW alone; one registration a socket. */
/* A v4-mapped source, which IPV6_FREEBIND lets through, reaches no address of IPv6. */
static void mapped_source(void)
{
    int to = bound(SOCK_DGRAM, local(AF_INET6)), fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    struct addr a = sock_name(to);
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {.head = {CMSG_LEN(sizeof(struct in6_pktinfo)), SOL_IPV6, IPV6_PKTINFO}};
    struct in6_pktinfo source = {.ipi6_ifindex = 0};
    OK(inet_pton(AF_INET6, "::ffff:127.0.0.2", &source.ipi6_addr));
    memcpy(CMSG_DATA(&control.head), &source, sizeof source);
    struct iovec bytes = {(char[]){'x'}, 1};
    struct msghdr m = {&a.sa, a.len, &bytes, 1, &control, sizeof control, 0};
    ERR(usk_sendmsg(fd, &m, 0), EINVAL);
    OK(set_int(fd, SOL_IPV6, IPV6_FREEBIND, 1));
    ERR(usk_sendmsg(fd, &m, 0), EAFNOSUPPORT);
    usk_close(fd);
    usk_close(to);
}

static void router_alert(void)
{
    int fd = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW));
    ERR(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, -1), ENOBUFS);
    OK(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, 0));
    EQ(get_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT), 0);
    ERR(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, 0), EADDRINUSE);
    OK(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, -1));
    EQ(get_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT), 1);
    OK(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, 5));
    usk_close(fd);
    fd = (int)OK(usk_socket(AF_INET6, SOCK_RAW, 200));
    ERR(set_int(fd, SOL_IPV6, IPV6_ROUTER_ALERT, 1), ENOPROTOOPT);
    usk_close(fd);
}

static void least_hops(void)
{
    int fd[2];
    tcp_pair(AF_INET6, fd);
    OK(set_int(fd[1], SOL_IPV6, IPV6_MINHOPCOUNT, 64));
    OK(usk_send(fd[0], "a", 1, 0));
    await_bytes(fd[1], 1);
    OK(set_int(fd[0], SOL_IPV6, IPV6_UNICAST_HOPS, 63));
    OK(usk_send(fd[0], "b", 1, 0));
    /* What is sent over the loopback later arrives later. */
    int later[2];
    tcp_pair(AF_INET6, later);
    OK(usk_send(later[0], "c", 1, 0));
    await_bytes(later[1], 1);
    char buf[4];
    EQ(usk_recv(fd[1], buf, 4, MSG_DONTWAIT), 1);
    close_pair(later);
    close_pair(fd);
    /* It is not for segments of IPv4. */
    int l = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0)), c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct addr any = at("::", 0);
    OK(set_int(l, SOL_IPV6, IPV6_MINHOPCOUNT, 255));
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 1));
    struct addr to = at("127.0.0.1", port_of(sock_name(l)));
    OK(usk_connect(c, &to.sa, to.len));
    usk_close((int)OK(usk_accept(l, NULL, NULL)));
    usk_close(c);
    usk_close(l);
}

/* IPV6_MTU: packets are no larger, though the path would take them; IPV6_DONTFRAG: they are not cut, and with
 * IPV6_RECVPATHMTU the program is told of what would have been. */
static void path_mtu(void)
{
    static char big[3000];
    int fd[2];
    udp_pair(AF_INET6, fd);
    struct {
        struct sockaddr_in6 addr;
        uint32_t mtu;
    } path;
    socklen_t len = sizeof path;
    OK(usk_getsockopt(fd[0], SOL_IPV6, IPV6_PATHMTU, &path, &len));
    EQ(len, 32);
    EQ(path.mtu, 65536);
    EQ(path.addr.sin6_family, 0); /* Linux has no address here */
    OK(set_int(fd[1], SOL_IPV6, IPV6_RECVFRAGSIZE, 1));
    OK(usk_send(fd[0], big, sizeof big, 0));
    struct received m = receive(fd[1], 0);
    EQ(control_int(&m, SOL_IPV6, IPV6_RECVFRAGSIZE), -12345);
    ERR(set_int(fd[0], SOL_IPV6, IPV6_MTU, 1279), EINVAL);
    OK(set_int(fd[0], SOL_IPV6, IPV6_MTU, 1400));
    OK(usk_send(fd[0], big, sizeof big, 0));
    m = receive(fd[1], 0);
    EQ(m.n, sizeof big);
    EQ(control_int(&m, SOL_IPV6, IPV6_RECVFRAGSIZE), -12345); /* the path takes it whole */
    OK(set_int(fd[0], SOL_IPV6, IPV6_DONTFRAG, 1));
    ERR(usk_send(fd[0], big, sizeof big, 0), EMSGSIZE);
    OK(set_int(fd[0], SOL_IPV6, IPV6_DONTFRAG, 0));
    OK(set_int(fd[0], SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO));
    ERR(usk_send(fd[0], big, sizeof big, 0), EMSGSIZE);
    OK(set_int(fd[0], SOL_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT));
    OK(set_int(fd[0], SOL_IPV6, IPV6_DONTFRAG, 1));
    OK(set_int(fd[0], SOL_IPV6, IPV6_RECVPATHMTU, 1));
    EQ(ready(fd[0], POLLIN), 0);
    ERR(usk_send(fd[0], big, sizeof big, 0), EMSGSIZE);
    m = receive(fd[0], 0);
    EQ(m.n, 0);
    size_t n = 0;
    void *p = control_of(&m, SOL_IPV6, IPV6_PATHMTU, &n);
    CHECK(p && n == sizeof path);
    memcpy(&path, p, n);
    EQ(path.mtu, 1400);
    EQ(memcmp(&path.addr.sin6_addr, &in6addr_loopback, 16), 0);
    close_pair(fd);
}

int main(void)
{
    begin("options_ip6");
    header_fields();
    destinations();
    fragment_size();
    error_extension();
    interface_and_source();
    mapped_source();
    router_alert();
    least_hops();
    path_mtu();
    return done();
}

/* What options of SOL_IP do, seen by a peer, by the control messages of a receiver, by the ports that are chosen. */
#include "control.h"
#include <netinet/ip.h>

#ifndef IP_PKTOPTIONS
#define IP_PKTOPTIONS 9
#endif
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884 26
#endif
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IP_PROTOCOL
#define IP_PROTOCOL 52
#endif
#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE 25
#endif

static int udp_to(int fd)
{
    return connected(SOCK_DGRAM, sock_name(fd));
}

/* IP_OPTIONS: sent with every datagram, with this host's entries; IP_RECVOPTS and IP_RETOPTS give a receiver the
 * options and those for an answer; the control message IP_RETOPTS is for one datagram. */
static void options_of_datagrams(void)
{
    static const unsigned char set[] = {1, 7, 7, 4, 0, 0, 0, 0}; /* NOP, record route of one entry */
    unsigned char got[64];
    socklen_t len = sizeof got;
    size_t n = 0;
    int r = bound(SOCK_DGRAM, local(AF_INET)), s = udp_to(r);
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
    OK(set_int(r, SOL_IP, IP_RECVOPTS, 1));
    OK(set_int(r, SOL_IP, IP_RETOPTS, 1));
    OK(usk_setsockopt(s, SOL_IP, IP_OPTIONS, set, sizeof set));
    OK(usk_getsockopt(s, SOL_IP, IP_OPTIONS, got, &len));
    EQ(len, sizeof set);
    EQ(memcmp(got, set, sizeof set), 0);
    OK(usk_send(s, "hello", 5, 0));
    struct received m = receive(r, 0);
    EQ(m.n, 5);
    unsigned char *o = control_of(&m, SOL_IP, IP_RECVOPTS, &n);
    CHECK(o && n == 8);
    EQ(memcmp(o, "\1\7\7\10\177\0\0\1", 8), 0);
    o = control_of(&m, SOL_IP, IP_RETOPTS, &n);
    CHECK(o && n == 8);
    EQ(memcmp(o, "\7\7\10\177\0\0\1\0", 8), 0);
    await(raw, POLLIN);
    EQ(OK(usk_recv(raw, got, sizeof got, 0)), 20 + 8 + 8 + 5);
    EQ(got[0], 0x47);
    /* Another's for one datagram, and none afterwards. */
    OK(send_with(s, NULL, "x", 1, SOL_IP, IP_RETOPTS, "\1\1\1\0", 4));
    m = receive(r, 0);
    o = control_of(&m, SOL_IP, IP_RECVOPTS, &n);
    CHECK(o && n == 4);
    EQ(memcmp(o, "\1\1\1\0", 4), 0);
    OK(usk_setsockopt(s, SOL_IP, IP_OPTIONS, NULL, 0));
    OK(usk_send(s, "y", 1, 0));
    m = receive(r, 0);
    CHECK(!control_of(&m, SOL_IP, IP_RECVOPTS, &n));
    CHECK(!control_of(&m, SOL_IP, IP_RETOPTS, &n));
    /* Malformed ones. */
    ERR(usk_setsockopt(s, SOL_IP, IP_OPTIONS, "\7\3\3\0", 4), EINVAL);
    ERR(send_with(s, NULL, "x", 1, SOL_IP, IP_RETOPTS, "\7\3\3\0", 4), EINVAL);
    ERR(usk_setsockopt(s, SOL_IP, IP_OPTIONS, got, 41), EINVAL);
    usk_close(r);
    usk_close(s);
    usk_close(raw);
}

/* A raw socket sends and receives them, too. */
static void options_of_raw(void)
{
    unsigned char got[64];
    size_t n = 0;
    int r = (int)OK(usk_socket(AF_INET, SOCK_RAW, 200)), s = (int)OK(usk_socket(AF_INET, SOCK_RAW, 200));
    struct addr to = local(AF_INET);
    OK(set_int(r, SOL_IP, IP_RECVOPTS, 1));
    OK(usk_setsockopt(s, SOL_IP, IP_OPTIONS, "\1\1", 2));
    OK(usk_sendto(s, "abc", 3, 0, &to.sa, to.len));
    struct received m = receive(r, MSG_PEEK);
    EQ(m.n, 20 + 4 + 3);
    unsigned char *o = control_of(&m, SOL_IP, IP_RECVOPTS, &n);
    CHECK(o && n == 4);
    EQ(memcmp(o, "\1\1\0\0", 4), 0);
    OK(usk_recv(r, got, sizeof got, 0));
    EQ(got[0], 0x46);
    usk_close(r);
    usk_close(s);
}

/* A connection's segments have them from the SYN on, and are as much shorter. */
static void options_of_segments(void)
{
    unsigned char got[2000];
    static char data[60000];
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_TCP)), l = listener(local(AF_INET), 1);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct addr to = sock_name(l);
    OK(set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 1000));
    OK(usk_setsockopt(fd, SOL_IP, IP_OPTIONS, "\1\7\7\4\0\0\0\0", 8));
    OK(usk_connect(fd, &to.sa, to.len));
#ifndef ON_SERVER /* whose segments raw sockets of the kernel do not see */
    await(raw, POLLIN);
    OK(usk_recv(raw, got, sizeof got, 0));
    EQ(got[0], 0x47);
    EQ(memcmp(got + 20, "\1\7\7\10\177\0\0\1", 8), 0);
#endif
    int mss = get_int(fd, IPPROTO_TCP, TCP_MAXSEG);
    EQ(mss, 1000 - 12 - 8);
    int peer = (int)OK(usk_accept(l, NULL, NULL));
    send_all(fd, data, sizeof data);
    for (size_t n = 0; n < sizeof data;)
        n += (size_t)OK(usk_recv(peer, data, sizeof data - n, 0));
    OK(usk_setsockopt(fd, SOL_IP, IP_OPTIONS, NULL, 0));
    EQ(get_int(fd, IPPROTO_TCP, TCP_MAXSEG), 1000 - 12);
    usk_close(raw);
    usk_close(fd);
    usk_close(peer);
    usk_close(l);
}

/* Gives the error queue of a socket an ICMP error of a router with an extension (RFC 4884), or without. */
static void router_error(int raw, int fd, struct addr to, int extension)
{
    static const unsigned char object[] = {0x20, 0, 0, 0, 0, 8, 1, 1, 0x12, 0x34, 0x51, 1};
    unsigned char m[8 + 128 + sizeof object] = {3, 1};
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 1, .protocol = IPPROTO_UDP, .tot_len = htons(128)};
    struct addr from = sock_name(fd), lo = local(AF_INET);
    ip.saddr = from.in.sin_addr.s_addr;
    ip.daddr = to.in.sin_addr.s_addr;
    m[5] = extension ? 32 : 0;
    memcpy(m + 8, &ip, 20);
    memcpy(m + 28, &from.in.sin_port, 2);
    memcpy(m + 30, &to.in.sin_port, 2);
    m[33] = 108;
    memcpy(m + 136, object, sizeof object);
    if (extension == 2)
        m[137 + 4] = 200; /* an object longer than the message */
    uint32_t sum = 0;
    for (unsigned i = 0; i < sizeof m; i += 2)
        sum += (uint32_t)(m[i] << 8 | m[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    m[2] = (unsigned char)(~sum >> 8);
    m[3] = (unsigned char)~sum;
    OK(usk_sendto(raw, m, sizeof m, 0, &lo.sa, lo.len));
}

/* IP_RECVERR_RFC4884: ee_data says where the extension begins in the payload, and whether it is well formed. */
static void error_extension(void)
{
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    struct addr to = local(AF_INET);
    int keep = bound(SOCK_DGRAM, to), fd = udp_to(keep);
    to = sock_name(keep);
    OK(set_int(fd, SOL_IP, IP_RECVERR, 1));
    static const struct {
        int on, extension;
        unsigned char want[4];
    } rows[] = {
        {0, 1, {0, 0, 0, 0}}, {1, 0, {0, 0, 0, 0}}, {1, 1, {100, 0, 0, 0}}, {1, 2, {100, 0, 1, 0}},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        OK(set_int(fd, SOL_IP, IP_RECVERR_RFC4884, rows[i].on));
        router_error(raw, fd, to, rows[i].extension);
        await(fd, 0);
        struct received m = receive(fd, MSG_ERRQUEUE);
        EQ(m.n, 112);
        size_t n = 0;
        unsigned char *e = control_of(&m, SOL_IP, IP_RECVERR, &n);
        CHECK(e && n >= 16);
        EQ(e[4], 2); /* SO_EE_ORIGIN_ICMP */
        EQ(memcmp(e + 12, rows[i].want, 4), 0);
    }
    usk_close(fd);
    usk_close(keep);
    usk_close(raw);
}

/* IP_ORIGDSTADDR: where the datagram was sent to. */
static void original_destination(void)
{
    size_t n = 0;
    struct addr any = at("0.0.0.0", 0);
    int r = bound(SOCK_DGRAM, any);
    OK(set_int(r, SOL_IP, IP_RECVORIGDSTADDR, 1));
    struct addr to = at("127.3.2.1", port_of(sock_name(r)));
    int s = connected(SOCK_DGRAM, to);
    OK(usk_send(s, "x", 1, 0));
    struct received m = receive(r, 0);
    struct sockaddr_in *a = control_of(&m, SOL_IP, IP_ORIGDSTADDR, &n);
    CHECK(a && n == sizeof *a);
    EQ(a->sin_family, AF_INET);
    EQ(a->sin_port, to.in.sin_port);
    EQ(a->sin_addr.s_addr, to.in.sin_addr.s_addr);
    usk_close(s);
    usk_close(r);
}

/* One fragment of a datagram of protocol UDP, written by hand. */
static void send_fragment(int raw, const unsigned char *bytes, int from, int n, int more)
{
    unsigned char packet[2000];
    struct addr to = local(AF_INET);
    struct iphdr h = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .id = htons(0x1234)};
    h.saddr = h.daddr = htonl(INADDR_LOOPBACK);
    h.frag_off = htons((uint16_t)((more ? 0x2000 : 0) | from / 8));
    memcpy(packet, &h, 20);
    memcpy(packet + 20, bytes + from, (size_t)n);
    OK(usk_sendto(raw, packet, 20 + (size_t)n, 0, &to.sa, to.len));
}

/* IP_RECVFRAGSIZE: the largest fragment of a datagram that came in fragments. */
static void fragment_size(void)
{
    unsigned char udp[8 + 1000] = {0};
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_RAW)), r = bound(SOCK_DGRAM, local(AF_INET));
    OK(set_int(r, SOL_IP, IP_RECVFRAGSIZE, 1));
    struct addr a = sock_name(r);
    udp[0] = 1;
    memcpy(udp + 2, &a.in.sin_port, 2);
    udp[4] = (unsigned char)(sizeof udp >> 8);
    udp[5] = (unsigned char)sizeof udp;
    send_fragment(raw, udp, 0, 400, 1);
    send_fragment(raw, udp, 400, 608, 0);
    struct received m = receive(r, 0);
    EQ(m.n, 1000);
    EQ(control_int(&m, SOL_IP, IP_RECVFRAGSIZE), 628);
    int s = udp_to(r);
    OK(usk_send(s, "x", 1, 0));
    m = receive(r, 0);
    EQ(control_int(&m, SOL_IP, IP_RECVFRAGSIZE), -12345);
    usk_close(s);
    usk_close(r);
    usk_close(raw);
}

static int with_range(int type, int low, int high)
{
    int fd = (int)OK(usk_socket(AF_INET, type, 0));
    OK(set_int(fd, SOL_IP, IP_LOCAL_PORT_RANGE, high << 16 | low));
    EQ(get_int(fd, SOL_IP, IP_LOCAL_PORT_RANGE), high << 16 | low);
    return fd;
}

static void port_range(void)
{
    struct addr any = local(AF_INET);
    int fds[4], l = listener(any, 8);
    struct addr to = sock_name(l);
    /* Every port of a range of three, then none, by connect ... */
    int seen = 0;
    for (int i = 0; i < 4; i++) {
        fds[i] = with_range(SOCK_STREAM, 40001, 40003);
        if (i == 3) {
            ERR(usk_connect(fds[i], &to.sa, to.len), EADDRNOTAVAIL);
            continue;
        }
        OK(usk_connect(fds[i], &to.sa, to.len));
        seen |= 1 << (port_of(sock_name(fds[i])) - 40000);
    }
    EQ(seen, 14);
    for (int i = 0; i < 4; i++)
        usk_close(fds[i]);
    usk_close(l);
    /* ... and by bind. */
    for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
        seen = 0;
        for (int i = 0; i < 3; i++) {
            fds[i] = with_range(type, 41000, 41001);
            if (i == 2) {
                ERR(usk_bind(fds[i], &any.sa, any.len), EADDRINUSE);
                continue;
            }
            OK(usk_bind(fds[i], &any.sa, any.len));
            seen |= 1 << (port_of(sock_name(fds[i])) - 41000);
        }
        EQ(seen, 3);
        for (int i = 0; i < 3; i++)
            usk_close(fds[i]);
    }
    /* An end outside ip_local_port_range does not count. */
    int fd = with_range(SOCK_DGRAM, 1000, 32768);
    OK(usk_bind(fd, &any.sa, any.len));
    EQ(port_of(sock_name(fd)), 32768);
    usk_close(fd);
    fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(set_int(fd, SOL_IP, IP_LOCAL_PORT_RANGE, 100 << 16 | 200), EINVAL);
    EQ(get_int(fd, SOL_IP, IP_PROTOCOL), 0);
    OK(usk_bind(fd, &any.sa, any.len));
    EQ(get_int(fd, SOL_IP, IP_PROTOCOL), port_of(sock_name(fd))); /* Linux shows inet_num */
    usk_close(fd);
}

/* IP_UNICAST_IF: without a route the destination is thought to be on that interface's link. */
static void unicast_interface(void)
{
    struct addr to = at("192.0.2.9", 9);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENETUNREACH);
    OK(set_int(fd, SOL_IP, IP_UNICAST_IF, (int)htonl(1)));
    EQ(get_int(fd, SOL_IP, IP_UNICAST_IF), (int)htonl(1));
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    ERR(set_int(fd, SOL_IP, IP_UNICAST_IF, (int)htonl(300)), EADDRNOTAVAIL);
    OK(set_int(fd, SOL_IP, IP_UNICAST_IF, 0));
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENETUNREACH);
    usk_close(fd);
}

/* A source that is no address of this host: IP_FREEBIND lets it be bound, IP_TRANSPARENT also sent from. */
static void foreign_source(void)
{
    struct addr foreign = at("192.0.2.1", 0);
    int r = bound(SOCK_DGRAM, local(AF_INET));
    struct addr to = sock_name(r);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(usk_bind(fd, &foreign.sa, foreign.len), EADDRNOTAVAIL);
    OK(set_int(fd, SOL_IP, IP_FREEBIND, 1));
    OK(usk_bind(fd, &foreign.sa, foreign.len));
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENETUNREACH);
    OK(set_int(fd, SOL_IP, IP_TRANSPARENT, 1));
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    struct received m = receive(r, 0);
    EQ(m.n, 1);
    EQ(m.from.in.sin_addr.s_addr, foreign.in.sin_addr.s_addr);
    usk_close(fd);
    for (int transparent = 0; transparent < 2; transparent++) {
        int l = listener(local(AF_INET), 1);
        to = sock_name(l);
        fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
        OK(set_int(fd, SOL_IP, IP_FREEBIND, 1));
        OK(set_int(fd, SOL_IP, IP_TRANSPARENT, transparent));
        OK(usk_bind(fd, &foreign.sa, foreign.len));
        set_nonblock(fd, true);
        ERR(usk_connect(fd, &to.sa, to.len), transparent ? EINPROGRESS : ENETUNREACH);
        usk_close(fd);
        usk_close(l);
    }
    /* A control message names a source under the same rule. */
    struct in_pktinfo info = {.ipi_spec_dst = foreign.in.sin_addr};
    to = sock_name(r);
    fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(set_int(fd, SOL_IP, IP_FREEBIND, 1));
    ERR(send_with(fd, &to, "x", 1, SOL_IP, IP_PKTINFO, &info, sizeof info), ENETUNREACH);
    OK(set_int(fd, SOL_IP, IP_TRANSPARENT, 1));
    OK(send_with(fd, &to, "x", 1, SOL_IP, IP_PKTINFO, &info, sizeof info));
    m = receive(r, 0);
    EQ(m.from.in.sin_addr.s_addr, foreign.in.sin_addr.s_addr);
    usk_close(fd);
    usk_close(r);
}

/* IP_MINTTL: segments with a lower TTL are not there. */
static void least_ttl(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[1], SOL_IP, IP_MINTTL, 64));
    OK(usk_send(fd[0], "a", 1, 0));
    await_bytes(fd[1], 1);
    OK(set_int(fd[0], SOL_IP, IP_TTL, 63));
    OK(usk_send(fd[0], "b", 1, 0));
    /* What is sent over the loopback later arrives later. */
    int later[2];
    tcp_pair(AF_INET, later);
    OK(usk_send(later[0], "c", 1, 0));
    await_bytes(later[1], 1);
    char buf[4];
    EQ(usk_recv(fd[1], buf, 4, MSG_DONTWAIT), 1);
    close_pair(later);
    close_pair(fd);
}

static void late_port(void)
{
    struct addr any = local(AF_INET);
    int l = listener(any, 1), fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct addr to = sock_name(l);
    OK(set_int(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1));
    OK(usk_bind(fd, &any.sa, any.len));
    EQ(port_of(sock_name(fd)), 0);
    OK(usk_connect(fd, &to.sa, to.len));
    CHECK(port_of(sock_name(fd)) != 0);
    EQ(get_int(fd, SOL_IP, IP_MTU), 65535);
    usk_close(fd);
    usk_close(l);
}

/* IP_PKTOPTIONS of a stream into `room` bytes: the values of the three messages, -1 without one; the length. */
static socklen_t packet_options(int fd, socklen_t room, long told[3])
{
    struct received m = {.control_len = room};
    socklen_t len = room;
    OK(usk_getsockopt(fd, SOL_IP, IP_PKTOPTIONS, m.control, &len));
    m.control_len = len;
    size_t n = 0;
    struct in_pktinfo *info = control_of(&m, SOL_IP, IP_PKTINFO, &n);
    told[0] = info ? (int)info->ipi_ifindex : -1;
    if (info && n == sizeof *info)
        CHECK(ntohl(info->ipi_addr.s_addr) == INADDR_LOOPBACK && info->ipi_spec_dst.s_addr == info->ipi_addr.s_addr);
    for (int i = 1; i < 3; i++) {
        int value = control_int(&m, SOL_IP, i == 1 ? IP_TTL : IP_TOS);
        told[i] = value == -12345 ? -1 : value;
    }
    return len;
}

/* What a stream tells of the segment that opened it: of what is asked for, also later. */
static void opening_segment(void)
{
    static const int ask[] = {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS};
    int l = listener(local(AF_INET), 1), c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), value;
    struct addr to = sock_name(l);
    socklen_t len = sizeof value;
    long t[3];
    OK(set_int(c, SOL_IP, IP_TOS, 0x28));
    OK(set_int(c, SOL_IP, IP_TTL, 33));
    OK(usk_connect(c, &to.sa, to.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(packet_options(s, 256, t), 0);
    for (int i = 0; i < 3; i++) {
        OK(set_int(s, SOL_IP, ask[i], 1));
        OK(set_int(c, SOL_IP, ask[i], 1));
        OK(set_int(l, SOL_IP, ask[i], 1));
    }
    EQ(packet_options(s, 256, t), 80);
    CHECK(t[0] == 1 && t[1] == 33 && t[2] == 0x28);
    EQ(packet_options(c, 256, t), 80);
    CHECK(t[0] == 0 && t[1] == 1 && t[2] == 0);
    EQ(packet_options(s, 40, t), 32);
    CHECK(t[0] == 1 && t[1] == -1);
    EQ(packet_options(s, 20, t), 20);
    EQ(packet_options(s, 4, t), 0);
    EQ(get_int(s, SOL_IP, IP_MULTICAST_IF), 0);
    ERR(set_int(s, SOL_IP, IP_PKTOPTIONS, 1), ENOPROTOOPT);
    usk_close(s);
    usk_close(c);
    usk_close(l);
    int u = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(usk_getsockopt(u, SOL_IP, IP_PKTOPTIONS, &value, &len), ENOPROTOOPT);
    usk_close(u);
}

int main(void)
{
    begin("options_ip");
    options_of_datagrams();
    options_of_raw();
    options_of_segments();
    error_extension();
    original_destination();
    fragment_size();
    port_range();
    unicast_interface();
    foreign_source();
    least_ttl();
    late_port();
    opening_segment();
    return done();
}

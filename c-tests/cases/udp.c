/* UDP: connected and not, truncation, the sender's name, ECONNREFUSED by ICMP, IP_RECVERR and its queue, limits. */
#include "common.h"

static struct addr closed_udp_port(int family)
{
    int fd = bound(SOCK_DGRAM, local(family));
    struct addr a = sock_name(fd);
    OK(usk_close(fd));
    return a;
}

static void unconnected(int family)
{
    int a = bound(SOCK_DGRAM, local(family)), b = (int)OK(usk_socket(family, SOCK_DGRAM, 0));
    struct addr to = sock_name(a), from;
    char buf[64];
    ERR(usk_send(b, "x", 1, 0), EDESTADDRREQ);
    int port = port_of(sock_name(b));
    CHECK(port != 0); /* bound by trying, before the address is missed */
    EQ(usk_sendto(b, "hello", 5, 0, &to.sa, to.len), 5);
    EQ(port_of(sock_name(b)), port);
    from.len = sizeof from.storage;
    EQ(usk_recvfrom(a, buf, sizeof buf, 0, &from.sa, &from.len), 5);
    EQ(port_of(from), port_of(sock_name(b)));
    EQ(from.len, to.len);
    /* An empty datagram is a datagram. */
    EQ(usk_sendto(b, NULL, 0, 0, &to.sa, to.len), 0);
    EQ(await(a, POLLIN), POLLIN);
    EQ(usk_recv(a, buf, sizeof buf, 0), 0);
    ERR(usk_recv(a, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    /* Order and borders are kept. */
    for (int i = 1; i <= 9; i++)
        EQ(usk_sendto(b, "123456789", (size_t)i, 0, &to.sa, to.len), i);
    for (int i = 1; i <= 9; i++)
        EQ(usk_recv(a, buf, sizeof buf, 0), i);
    /* Truncation: the rest is lost; MSG_TRUNC in flags returns the true length. */
    EQ(usk_sendto(b, "truncated", 9, 0, &to.sa, to.len), 9);
    EQ(usk_recv(a, buf, 4, MSG_PEEK), 4);
    EQ(usk_recv(a, buf, 4, MSG_PEEK | MSG_TRUNC), 9);
    struct iovec iov = {buf, 4};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    EQ(usk_recvmsg(a, &m, 0), 4);
    EQ(m.msg_flags & MSG_TRUNC, MSG_TRUNC);
    ERR(usk_recv(a, buf, 4, MSG_DONTWAIT), EAGAIN);
    EQ(ready(a, POLLIN | POLLOUT), POLLOUT);
    OK(usk_close(a));
    OK(usk_close(b));
}

static void connected_only_hears_its_peer(int family)
{
    int a = bound(SOCK_DGRAM, local(family)), b = bound(SOCK_DGRAM, local(family)),
        c = bound(SOCK_DGRAM, local(family));
    struct addr na = sock_name(a), nb = sock_name(b);
    char buf[8];
    EQ(usk_sendto(c, "1", 1, 0, &na.sa, na.len), 1); /* before connect: it stays queued */
    await(a, POLLIN);
    OK(usk_connect(a, &nb.sa, nb.len));
    EQ(usk_recv(a, buf, sizeof buf, 0), 1);
    EQ(usk_sendto(c, "2", 1, 0, &na.sa, na.len), 1); /* from a stranger: not delivered */
    EQ(usk_sendto(b, "3", 1, 0, &na.sa, na.len), 1);
    EQ(usk_recv(a, buf, sizeof buf, 0), 1);
    EQ(buf[0], '3');
    /* sendto elsewhere is allowed and does not change the peer. */
    struct addr nc = sock_name(c);
    EQ(usk_sendto(a, "4", 1, 0, &nc.sa, nc.len), 1);
    EQ(usk_recv(c, buf, sizeof buf, 0), 1);
    CHECK(same_addr(peer_name(a), nb));
    /* connect again moves it; AF_UNSPEC undoes it. */
    OK(usk_connect(a, &nc.sa, nc.len));
    CHECK(same_addr(peer_name(a), nc));
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    OK(usk_connect(a, &un, sizeof un));
    struct addr x;
    x.len = sizeof x.storage;
    ERR(usk_getpeername(a, &x.sa, &x.len), ENOTCONN);
    ERR(usk_send(a, "5", 1, 0), EDESTADDRREQ);
    OK(usk_close(a));
    OK(usk_close(b));
    OK(usk_close(c));
}

static void refused(int family)
{
    struct addr to = closed_udp_port(family);
    int s = (int)OK(usk_socket(family, SOCK_DGRAM, 0));
    char c;
    OK(usk_connect(s, &to.sa, to.len));
    EQ(usk_send(s, "x", 1, 0), 1);
    CHECK(await(s, POLLIN) & POLLERR);
    ERR(usk_send(s, "x", 1, 0), ECONNREFUSED); /* the pending error first; nothing is sent */
    ERR(usk_recv(s, &c, 1, MSG_DONTWAIT), EAGAIN);
    EQ(usk_send(s, "x", 1, 0), 1);
    await(s, POLLERR);
    ERR(usk_recv(s, &c, 1, 0), ECONNREFUSED);
    EQ(usk_send(s, "x", 1, 0), 1);
    await(s, POLLERR);
    EQ(so_error(s), ECONNREFUSED);
    EQ(so_error(s), 0);
    OK(usk_close(s));
    /* An unconnected socket gets no error, unless IP_RECVERR is set. */
    s = (int)OK(usk_socket(family, SOCK_DGRAM, 0));
    EQ(usk_sendto(s, "x", 1, 0, &to.sa, to.len), 1);
    int self = bound(SOCK_DGRAM, local(family));
    struct addr ns = sock_name(self);
    EQ(usk_sendto(s, "y", 1, 0, &ns.sa, ns.len), 1);
    EQ(usk_recv(self, &c, 1, 0), 1);
    EQ(so_error(s), 0);
    OK(usk_close(self));

    bool v6 = family == AF_INET6;
    int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP, option = v6 ? IPV6_RECVERR : IP_RECVERR;
    OK(set_int(s, level, option, 1));
    EQ(usk_sendto(s, "data sent", 9, 0, &to.sa, to.len), 9);
    EQ(await(s, 0) & POLLERR, POLLERR);
    char payload[64], control[512];
    struct addr name = {.len = 0};
    struct iovec iov = {payload, sizeof payload};
    struct msghdr m = {.msg_name = &name.storage,
                       .msg_namelen = sizeof name.storage,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    EQ(usk_recvmsg(s, &m, MSG_ERRQUEUE), 9);
    CHECK(memcmp(payload, "data sent", 9) == 0);
    EQ(m.msg_flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
    CHECK(same_addr(name, to)); /* the destination of the failed datagram */
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h != NULL);
    EQ(h->cmsg_level, level);
    EQ(h->cmsg_type, option);
    struct sock_extended_err err;
    memcpy(&err, CMSG_DATA(h), sizeof err);
    EQ(err.ee_errno, ECONNREFUSED);
    EQ(err.ee_origin, v6 ? SO_EE_ORIGIN_ICMP6 : SO_EE_ORIGIN_ICMP);
    EQ(err.ee_type, v6 ? 1 : 3);
    EQ(err.ee_code, v6 ? 4 : 3);
    EQ(err.ee_info, 0);
    struct addr offender;
    memcpy(&offender.storage, CMSG_DATA(h) + sizeof err,
           v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    EQ(offender.sa.sa_family, family);
    EQ(so_error(s), 0); /* reading the queue took the pending error along */
    m.msg_controllen = sizeof control;
    ERR(usk_recvmsg(s, &m, MSG_ERRQUEUE), EAGAIN);
    OK(usk_close(s));
}

static void limits(void)
{
    int fd[2];
    static char big[65536], in[65536];
    udp_pair(AF_INET, fd);
    for (int i = 0; i < (int)sizeof big; i++)
        big[i] = (char)pattern(5, (uint64_t)i);
    EQ(usk_send(fd[0], big, 65507, 0), 65507); /* 65535 - 20 - 8 */
    EQ(usk_recv(fd[1], in, sizeof in, 0), 65507);
    CHECK(memcmp(big, in, 65507) == 0);
    ERR(usk_send(fd[0], big, 65508, 0), EMSGSIZE);
    ERR(usk_send(fd[0], big, 65536, 0), EMSGSIZE);
    ERR(usk_send(fd[0], big, 0x7fffffff, 0), EMSGSIZE);
    close_pair(fd);
    udp_pair(AF_INET6, fd);
    EQ(usk_send(fd[0], big, 65527, 0), 65527); /* 65535 - 8 */
    EQ(usk_recv(fd[1], in, sizeof in, 0), 65527);
    CHECK(memcmp(big, in, 65527) == 0);
    ERR(usk_send(fd[0], big, 65528, 0), EMSGSIZE);
    close_pair(fd);

    /* MSG_MORE and UDP_CORK join several sends into one datagram. */
    udp_pair(AF_INET, fd);
    EQ(usk_send(fd[0], "one ", 4, MSG_MORE), 4);
    EQ(usk_send(fd[0], "two", 3, 0), 3);
    EQ(usk_recv(fd[1], in, sizeof in, 0), 7);
    OK(set_int(fd[0], IPPROTO_UDP, UDP_CORK, 1));
    EQ(usk_send(fd[0], "three ", 6, 0), 6);
    EQ(usk_send(fd[0], "four", 4, 0), 4);
    EQ(ready(fd[1], POLLIN), 0);
    OK(set_int(fd[0], IPPROTO_UDP, UDP_CORK, 0));
    EQ(usk_recv(fd[1], in, sizeof in, 0), 10);

    /* A full receive buffer drops datagrams; the sender gets no error. */
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVBUF, 4096));
    for (int i = 0; i < 1000; i++)
        EQ(usk_send(fd[0], big, 1000, 0), 1000);
    int n = 0;
    while (usk_recv(fd[1], in, sizeof in, MSG_DONTWAIT) == 1000)
        n++;
    EQ(errno, EAGAIN);
    CHECK(n > 0 && n < 1000);
    close_pair(fd);

    int s = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    struct addr bcast = at("255.255.255.255", 9), zero = at("127.0.0.1", 0), v6 = at("::1", 9);
    ERR(usk_sendto(s, "x", 1, 0, &zero.sa, zero.len), EINVAL); /* port 0 */
    ERR(usk_sendto(s, "x", 1, 0, &v6.sa, v6.len), EAFNOSUPPORT);
    ERR(usk_connect(s, &v6.sa, v6.len), EAFNOSUPPORT);
    int e = usk_connect(s, &bcast.sa, bcast.len) == -1 ? errno : 0;
    CHECK(e == EACCES || e == ENETUNREACH); /* without a route the second; never silently */
    ERR(usk_listen(s, 1), EOPNOTSUPP);
    ERR(usk_accept(s, NULL, NULL), EOPNOTSUPP);
    OK(usk_close(s));
}

static void packet_info(void)
{
    /* IP_PKTINFO and IPV6_RECVPKTINFO: which of our addresses it came to. */
    int s = bound(SOCK_DGRAM, at("0.0.0.0", 0)), c = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(set_int(s, IPPROTO_IP, IP_PKTINFO, 1));
    OK(set_int(s, IPPROTO_IP, IP_RECVTTL, 1));
    OK(set_int(s, IPPROTO_IP, IP_RECVTOS, 1));
    OK(set_int(c, IPPROTO_IP, IP_TTL, 33));
    OK(set_int(c, IPPROTO_IP, IP_TOS, 0x48));
    struct addr to = at("127.1.2.3", port_of(sock_name(s)));
    EQ(usk_sendto(c, "x", 1, 0, &to.sa, to.len), 1);
    char b[8], control[256];
    struct iovec iov = {b, sizeof b};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    EQ(usk_recvmsg(s, &m, 0), 1);
    int seen = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        EQ(h->cmsg_level, IPPROTO_IP);
        if (h->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo i;
            memcpy(&i, CMSG_DATA(h), sizeof i);
            EQ(i.ipi_addr.s_addr, to.in.sin_addr.s_addr);
            seen |= 1;
        } else if (h->cmsg_type == IP_TTL) {
            int ttl;
            memcpy(&ttl, CMSG_DATA(h), sizeof ttl);
            EQ(ttl, 33);
            seen |= 2;
        } else if (h->cmsg_type == IP_TOS) {
            EQ(h->cmsg_len, CMSG_LEN(1));
            EQ(*CMSG_DATA(h), 0x48);
            seen |= 4;
        }
    }
    EQ(seen, 7);
    /* Too little room for control data: MSG_CTRUNC. */
    EQ(usk_sendto(c, "x", 1, 0, &to.sa, to.len), 1);
    m.msg_controllen = 4;
    EQ(usk_recvmsg(s, &m, 0), 1);
    EQ(m.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
    OK(usk_close(s));
    OK(usk_close(c));
}

/* What MSG_MORE holds back counts as sent, and leaves no room for more; the rest of a datagram that is longer than its
 * path is refused where the send buffer is full twice over. */
static void corked(void)
{
    int s = bound(SOCK_DGRAM, local(AF_INET6)), fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0)), n;
    struct addr to = sock_name(s);
    static char buf[65508];
    OK(set_int(fd, SOL_SOCKET, SO_SNDBUF, 1));
    EQ(ready(fd, POLLOUT), POLLOUT);
    EQ(usk_sendto(fd, buf, 1024, MSG_MORE, &to.sa, to.len), 1024);
    OK(usk_ioctl(fd, TIOCOUTQ, &n));
    EQ(n, 2304);
    EQ(ready(fd, POLLOUT), 0);
    EQ(usk_sendto(fd, buf, 1000, 0, &to.sa, to.len), 1000);
    EQ(usk_recv(s, buf, sizeof buf, 0), 2024);
    EQ(ready(fd, POLLOUT), POLLOUT);
    ERR(usk_sendto(fd, buf, sizeof buf, 0, &to.sa, to.len), ENOBUFS);
    OK(usk_close(fd));
    OK(usk_close(s));
}

/* A name that IPv4 does not look at under a cork; an interface of a failed connect, which stays the socket's. */
static void names_of_ipv4(void)
{
    int s = bound(SOCK_DGRAM, local(AF_INET)), fd = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    struct addr to = sock_name(s), far = at("fe80::1", 4001);
    EQ(usk_sendto(fd, "a", 1, MSG_MORE, &to.sa, to.len), 1);
    EQ(usk_sendto(fd, "b", 1, 0, &to.sa, 4), 1);
    char buf[8];
    EQ(usk_recv(s, buf, sizeof buf, 0), 2);
    OK(usk_close(fd));
    OK(usk_close(s));
    s = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    struct addr any = at("::", 0);
    OK(usk_bind(s, &any.sa, any.len));
    to = at("127.0.0.1", port_of(sock_name(s)));
    fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    EQ(usk_sendto(fd, "a", 1, 0, &to.sa, to.len), 1);
    EQ(usk_recv(s, buf, sizeof buf, 0), 1);
    ((struct sockaddr_in6 *)&far.sa)->sin6_scope_id = 77;
    CHECK(usk_connect(s, &far.sa, far.len) < 0);
    EQ(usk_sendto(fd, "a", 1, 0, &to.sa, to.len), 1);
    ERR(usk_recv(s, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(fd));
    OK(usk_close(s));
}

/* Of many small datagrams a buffer holds as many as the kernel's: two in the least one. */
static void least_buffer(void)
{
    int s = bound(SOCK_DGRAM, local(AF_INET)), fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0)), n = 0;
    struct addr to = sock_name(s);
    OK(set_int(s, SOL_SOCKET, SO_RCVBUF, 1));
    for (int i = 0; i < 5; i++)
        EQ(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), 1);
    char buf[8];
    while (usk_recv(s, buf, sizeof buf, MSG_DONTWAIT) == 1)
        n++;
    EQ(n, 2);
    OK(usk_close(fd));
    OK(usk_close(s));
}

int main(void)
{
    begin("udp");
    int families[2] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        unconnected(families[i]);
        connected_only_hears_its_peer(families[i]);
        refused(families[i]);
    }
    limits();
    packet_info();
    corked();
    names_of_ipv4();
    least_buffer();
    return done();
}

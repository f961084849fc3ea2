/* Flow labels of IPv6 that a program chooses: leases of them (IPV6_FLOWLABEL_MGR), labels in names and control messages
 * (IPV6_FLOWINFO_SEND, IPV6_FLOWINFO), and those of streams, also the reflected ones. RFC 6437. */
#include "control.h"

#ifndef SO_CNX_ADVICE
#define SO_CNX_ADVICE 53
#endif
#ifndef SO_TXREHASH
#define SO_TXREHASH 74
#endif
#ifndef IPV6_FLOWLABEL_MGR
#define IPV6_FLOWLABEL_MGR 32
#define IPV6_FLOWINFO_SEND 33
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif

enum { GET, PUT, RENEW };
enum { CREATE = 1, EXCL = 2, REFLECT = 4, REMOTE = 8 };
enum { NONE, EXCLUSIVE, PROCESS, USER, ANY = 255 };

struct request {
    struct in6_addr dst;
    uint32_t label; /* network order */
    uint8_t action, share;
    uint16_t flags, expires, linger;
    uint32_t pad;
};

static struct request request(uint32_t label, int action, int share, int flags)
{
    struct request r = {.dst = IN6ADDR_LOOPBACK_INIT, .label = htonl(label), .action = (uint8_t)action};
    r.share = (uint8_t)share;
    r.flags = (uint16_t)flags;
    return r;
}

static int manage(int fd, struct request *r)
{
    return usk_setsockopt(fd, SOL_IPV6, IPV6_FLOWLABEL_MGR, r, sizeof *r);
}

static int lease(int fd, uint32_t label, int share, int flags)
{
    struct request r = request(label, GET, share, flags);
    return manage(fd, &r);
}

static int put(int fd, uint32_t label)
{
    struct request r = request(label, PUT, 0, 0);
    return manage(fd, &r);
}

static int shown(int fd, int flags, struct request *r)
{
    *r = request(0x77777, GET, ANY, flags);
    socklen_t len = sizeof *r;
    int ret = usk_getsockopt(fd, SOL_IPV6, IPV6_FLOWLABEL_MGR, r, &len);
    if (ret == 0)
        EQ(len, sizeof *r);
    return ret;
}

static int udp(void)
{
    return (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
}

static void refused(void)
{
    int fd = udp();
    struct request r = request(0x10001, GET, ANY, CREATE);
    ERR(usk_setsockopt(fd, SOL_IPV6, IPV6_FLOWLABEL_MGR, &r, sizeof r - 1), EINVAL);
    r.action = 3;
    ERR(manage(fd, &r), EINVAL);
    ERR(lease(fd, 0x100000, ANY, CREATE), EINVAL); /* of 20 bits */
    ERR(lease(fd, 0x10001, ANY, 0), ENOENT);
    ERR(lease(fd, 0, ANY, 0), ENOENT);
    ERR(lease(fd, 0x10001, NONE, CREATE), EINVAL);
    ERR(lease(fd, 0x10001, 4, CREATE), EINVAL);
    r = request(0x10001, GET, ANY, CREATE);
    r.dst = (struct in6_addr)IN6ADDR_ANY_INIT;
    ERR(manage(fd, &r), EINVAL);
    OK(inet_pton(AF_INET6, "::ffff:127.0.0.1", &r.dst));
    ERR(manage(fd, &r), EINVAL);
    ERR(put(fd, 0x10001), ESRCH);
    r = request(0x10001, RENEW, ANY, 0);
    ERR(manage(fd, &r), ESRCH);
    ERR(shown(fd, 0, &r), ENOENT);
    socklen_t len = sizeof r - 1;
    ERR(usk_getsockopt(fd, SOL_IPV6, IPV6_FLOWLABEL_MGR, &r, &len), EINVAL);
    len = sizeof r;
    r.action = PUT;
    ERR(usk_getsockopt(fd, SOL_IPV6, IPV6_FLOWLABEL_MGR, &r, &len), EINVAL);
    OK(usk_close(fd));
    fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(manage(fd, &r), ENOPROTOOPT);
    OK(usk_close(fd));
}

static void *elsewhere(void *fd)
{
    ERR(lease(*(int *)fd, 0x10007, PROCESS, 0), EPERM);
    return NULL;
}

static void shares(void)
{
    int a = udp(), b = udp();
    OK(lease(a, 0x10002, ANY, CREATE));
    ERR(lease(a, 0x10002, ANY, CREATE | EXCL), EEXIST);
    ERR(lease(b, 0x10002, ANY, CREATE | EXCL), EEXIST);
    ERR(lease(b, 0x10002, USER, CREATE), EPERM);
    OK(lease(b, 0x10002, ANY, 0));
    OK(lease(b, 0x10002, ANY, 0)); /* twice the same socket: two leases */
    OK(put(b, 0x10002));
    OK(put(b, 0x10002));
    ERR(put(b, 0x10002), ESRCH);
    OK(lease(a, 0x10003, USER, CREATE));
    OK(lease(b, 0x10003, USER, 0));
    OK(lease(a, 0x10004, EXCLUSIVE, CREATE));
    ERR(lease(b, 0x10004, EXCLUSIVE, CREATE), EPERM);
    ERR(lease(a, 0x10004, EXCLUSIVE, CREATE), EPERM);
    OK(put(a, 0x10004));
    /* It is kept for a while, for its owner alone who has gone: there is none, and none can be made. */
    ERR(lease(b, 0x10004, EXCLUSIVE, 0), ENOENT);
    ERR(lease(b, 0x10004, EXCLUSIVE, CREATE), EPERM);
    OK(lease(a, 0x10005, ANY, CREATE));
    OK(put(a, 0x10005));
    ERR(lease(b, 0x10005, ANY, 0), ENOENT);
    OK(lease(b, 0x10005, ANY, CREATE)); /* the old one again */
    OK(lease(a, 0x10007, PROCESS, CREATE));
    OK(lease(b, 0x10007, PROCESS, 0));
    pthread_t t;
    CHECK(pthread_create(&t, NULL, elsewhere, &b) == 0 && pthread_join(t, NULL) == 0);
    /* A closed socket gives back what it has. */
    OK(lease(b, 0x10006, ANY, CREATE));
    OK(usk_close(b));
    ERR(lease(a, 0x10006, ANY, 0), ENOENT);
    OK(usk_close(a));
}

static void any_label(void)
{
    int a = udp(), b = udp();
    struct request r = request(0, GET, ANY, CREATE);
    OK(manage(a, &r));
    uint32_t label = ntohl(r.label);
    CHECK(label > 0 && label < 0x100000);
    OK(lease(b, label, ANY, 0));
    r = request(0, GET, EXCLUSIVE, CREATE | EXCL);
    OK(manage(a, &r));
    CHECK(r.label != 0 && ntohl(r.label) != label);
    OK(put(a, ntohl(r.label)));
    OK(usk_close(a));
    OK(usk_close(b));
}

/* Seconds that a label is kept without a lease, and for how long it is leased at least. */
static void times(void)
{
    int fd = udp();
    struct addr to = at("::1", 9);
    struct request r = request(0x10010, GET, ANY, CREATE);
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
    OK(manage(fd, &r));
    to.in6.sin6_flowinfo = htonl(0x10010);
    ERR(shown(fd, 0, &r), ENOENT); /* of the label that the socket sends */
    OK(usk_connect(fd, &to.sa, to.len));
    OK(shown(fd, 0, &r));
    EQ(ntohl(r.label), 0x10010);
    EQ(r.share, ANY);
    EQ(r.linger, 6);
    CHECK(r.expires == 5 || r.expires == 6);
    CHECK(memcmp(&r.dst, &to.in6.sin6_addr, 16) == 0);
    EQ(r.action, 0);
    r = request(0x10010, RENEW, ANY, 0);
    r.linger = 10;
    r.expires = 20;
    OK(manage(fd, &r));
    OK(shown(fd, 0, &r));
    EQ(r.linger, 10);
    CHECK(r.expires == 19 || r.expires == 20);
    r = request(0x10010, RENEW, ANY, 0); /* nothing gets less */
    OK(manage(fd, &r));
    OK(shown(fd, 0, &r));
    EQ(r.linger, 10);
    CHECK(r.expires >= 18);
    r = request(0x10010, GET, ANY, 0);
    r.linger = 150;
    OK(manage(fd, &r));
    OK(shown(fd, 0, &r));
    EQ(r.linger, 150);
    CHECK(r.expires == 149 || r.expires == 150);
    OK(put(fd, 0x10010));
    ERR(shown(fd, 0, &r), ENOENT);
    OK(usk_close(fd));
}

/* The flow information of what arrives, in host order; -1: none. */
static long flow(int fd)
{
    struct received m = receive(fd, 0);
    CHECK(m.n == 1);
    int v = control_int(&m, SOL_IPV6, IPV6_FLOWINFO);
    return v == -12345 ? -1 : (long)ntohl((uint32_t)v);
}

static void datagrams(void)
{
    int in = bound(SOCK_DGRAM, at("::1", 0)), fd = udp();
    struct addr to = sock_name(in), flowing = to;
    OK(set_int(in, SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(fd, SOL_IPV6, IPV6_AUTOFLOWLABEL, 0));
    flowing.in6.sin6_flowinfo = htonl(0x12310020);
    EQ(get_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND), 0);
    ERR(usk_setsockopt(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, &fd, 3), EINVAL);
    OK(usk_sendto(fd, "x", 1, 0, &flowing.sa, flowing.len));
    EQ(flow(in), -1);
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 7));
    EQ(get_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND), 1);
    OK(usk_sendto(fd, "x", 1, 0, &flowing.sa, flowing.len));
    EQ(flow(in), 0x10020); /* the label alone */
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    EQ(flow(in), -1);
    /* By control message, in the place of the name's, and without IPV6_FLOWINFO_SEND. */
    OK(send_with_int(fd, &flowing, SOL_IPV6, IPV6_FLOWINFO, (int)htonl(0x0fa10021)));
    EQ(flow(in), 0x10021);
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 0));
    OK(send_with_int(fd, &to, SOL_IPV6, IPV6_FLOWINFO, (int)htonl(0x80010022)));
    EQ(flow(in), 0x10022);
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
    ERR(send_with_int(fd, &flowing, SOL_IPV6, IPV6_FLOWINFO, (int)htonl(0x10010021)), EINVAL);
    ERR(send_with(fd, &to, "x", 1, SOL_IPV6, IPV6_FLOWINFO, "abc", 3), EINVAL);
    /* Connected: the label of the association, and of a call with a name that one's. */
    OK(usk_connect(fd, &flowing.sa, flowing.len));
    EQ(ntohl(peer_name(fd).in6.sin6_flowinfo), 0x02310020);
    OK(usk_send(fd, "x", 1, 0));
    EQ(flow(in), 0x10020);
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    EQ(flow(in), -1);
    OK(send_with_int(fd, NULL, SOL_IPV6, IPV6_FLOWINFO, (int)htonl(0x10023)));
    EQ(flow(in), 0x10023);
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 0));
    EQ(peer_name(fd).in6.sin6_flowinfo, 0);
    OK(usk_send(fd, "x", 1, 0));
    EQ(flow(in), 0x10020);
    OK(usk_connect(fd, &flowing.sa, flowing.len));
    OK(usk_send(fd, "x", 1, 0));
    EQ(flow(in), -1);
    OK(usk_close(fd));
    OK(usk_close(in));
}

/* The name of an error has the flow information of the packet that drew it. */
static void errors(void)
{
    int fd = udp(), in = bound(SOCK_DGRAM, at("::1", 0));
    struct addr to = sock_name(in);
    OK(usk_close(in));
    OK(set_int(fd, SOL_IPV6, IPV6_RECVERR, 1));
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
    OK(set_int(fd, SOL_IPV6, IPV6_TCLASS, 0x28));
    to.in6.sin6_flowinfo = htonl(0x10024);
    for (int send = 1; send >= 0; send--) {
        OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
        OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, send));
        struct pollfd p = {.fd = fd, .events = POLLERR};
        EQ(usk_poll(&p, 1, -1), 1);
        struct received m = receive(fd, MSG_ERRQUEUE);
        EQ(m.n, 1);
        EQ(ntohl(m.from.in6.sin6_flowinfo), send ? 0x02810024 : 0);
    }
    OK(usk_close(fd));
}

/* While somebody has a label to himself, the others are sent by whom has a lease of them. */
static void exclusive(void)
{
    int in = bound(SOCK_DGRAM, at("::1", 0)), fd = udp(), other = udp();
    struct addr to = sock_name(in);
    OK(set_int(in, SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(fd, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
    OK(lease(other, 0x10030, EXCLUSIVE, CREATE));
    to.in6.sin6_flowinfo = htonl(0x10031);
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), EINVAL);
    ERR(usk_connect(fd, &to.sa, to.len), EINVAL);
    ERR(usk_getpeername(fd, &to.sa, &to.len), ENOTCONN);
    OK(lease(fd, 0x10031, ANY, CREATE));
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    EQ(flow(in), 0x10031);
    OK(usk_connect(fd, &to.sa, to.len));
    OK(usk_send(fd, "x", 1, 0));
    EQ(flow(in), 0x10031);
    to.in6.sin6_flowinfo = htonl(0x10032);
    ERR(usk_connect(fd, &to.sa, to.len), EINVAL);
    EQ(ntohl(peer_name(fd).in6.sin6_flowinfo), 0x10031);
    ERR(send_with_int(fd, NULL, SOL_IPV6, IPV6_FLOWINFO, (int)htonl(0x10032)), EINVAL);
    OK(put(fd, 0x10031));
    /* The socket's own label goes with its lease. */
    EQ(peer_name(fd).in6.sin6_flowinfo, 0);
    OK(set_int(fd, SOL_IPV6, IPV6_AUTOFLOWLABEL, 0));
    OK(usk_send(fd, "x", 1, 0));
    EQ(flow(in), -1);
    int c = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0)), l = bound(SOCK_STREAM, at("::1", 0));
    OK(usk_listen(l, 1));
    to = sock_name(l);
    to.in6.sin6_flowinfo = htonl(0x10033);
    OK(set_int(c, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
#ifndef ON_SERVER /* what sockets of UDP have leased is the kernel's */
    ERR(usk_connect(c, &to.sa, to.len), EINVAL);
#endif
    OK(lease(c, 0x10033, ANY, CREATE));
    OK(usk_connect(c, &to.sa, to.len));
    EQ(ntohl(peer_name(c).in6.sin6_flowinfo), 0x10033);
    OK(usk_close(c));
    OK(usk_close(l));
    OK(usk_close(fd));
    OK(usk_close(other));
    OK(usk_close(in));
}

/* Accepts, and moves a byte each way; the accepted socket. */
static int accepted(int l, int c)
{
    char b;
    int s = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_send(c, "x", 1, 0));
    EQ(usk_recv(s, &b, 1, 0), 1);
    OK(usk_send(s, "x", 1, 0));
    EQ(usk_recv(c, &b, 1, 0), 1);
    return s;
}

static void streams(void)
{
    int l = bound(SOCK_STREAM, at("::1", 0)), c = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    struct addr to = sock_name(l);
    struct request r;
    OK(usk_listen(l, 4));
    OK(set_int(l, SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(c, SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(c, SOL_IPV6, IPV6_FLOWINFO_SEND, 1));
    OK(set_int(l, SOL_IPV6, IPV6_AUTOFLOWLABEL, 0));
    OK(lease(c, 0x10040, ANY, CREATE));
    to.in6.sin6_flowinfo = htonl(0x00410040);
    /* Another label than the leased one may be sent, too. */
    OK(usk_connect(c, &to.sa, to.len));
    EQ(ntohl(peer_name(c).in6.sin6_flowinfo), 0x00410040 & 0x0fffffff);
    int s = accepted(l, c);
    OK(shown(s, REMOTE, &r));
    EQ(ntohl(r.label), 0x10040);
    ERR(shown(s, 0, &r), ENOENT);
    OK(shown(c, REMOTE, &r));
    EQ(r.label, 0);
    OK(shown(c, 0, &r));
    EQ(ntohl(r.label), 0x10040);
    EQ(get_int(s, SOL_IPV6, IPV6_FLOWINFO_SEND), 0);
    OK(usk_close(c));
    OK(usk_close(s));

    /* Answers with the label of the peer's packets; not while labels are leased (flowlabel_consistency). */
    ERR(lease(l, 0, 0, REFLECT), EPERM);
    struct request no = request(0, PUT, 0, REFLECT);
    ERR(manage(l, &no), ESRCH);
    int u = udp();
    ERR(manage(u, &no), ENOPROTOOPT);
    OK(usk_close(u));
    OK(usk_close(l));
}

/* The label of the segment that brings a byte. */
static uint32_t label_of_byte(int from, int to)
{
    char b;
    struct request r;
    OK(usk_send(from, "x", 1, 0));
    EQ(usk_recv(to, &b, 1, 0), 1);
    OK(shown(to, REMOTE, &r));
    return r.label;
}

/* SO_CNX_ADVICE: a connection is told that its path is bad, and takes another label. */
static void advice(void)
{
    int l = bound(SOCK_STREAM, at("::1", 0)), c = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0)), value;
    struct addr to = sock_name(l);
    socklen_t len = sizeof value;
    OK(usk_listen(l, 1));
    OK(set_int(l, SOL_IPV6, IPV6_FLOWINFO, 1));
    OK(set_int(l, SOL_SOCKET, SO_CNX_ADVICE, 1));
    OK(usk_connect(c, &to.sa, to.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    uint32_t label = label_of_byte(c, s);
    CHECK(label != 0);
    OK(set_int(c, SOL_SOCKET, SO_CNX_ADVICE, 0));
    OK(set_int(c, SOL_SOCKET, SO_CNX_ADVICE, 2));
    CHECK(label_of_byte(c, s) == label);
    OK(set_int(c, SOL_SOCKET, SO_CNX_ADVICE, 1));
    uint32_t other = label_of_byte(c, s);
    CHECK(other != label);
    OK(set_int(c, SOL_SOCKET, SO_TXREHASH, 0));
    OK(set_int(c, SOL_SOCKET, SO_CNX_ADVICE, 1));
    CHECK(label_of_byte(c, s) == other);
    ERR(usk_setsockopt(c, SOL_SOCKET, SO_CNX_ADVICE, &value, 3), EINVAL);
    ERR(usk_getsockopt(c, SOL_SOCKET, SO_CNX_ADVICE, &value, &len), ENOPROTOOPT);
    OK(usk_close(s));
    OK(usk_close(c));
    OK(usk_close(l));
}

int main(void)
{
    begin("flow_labels");
    refused();
    times();
    /* Before the first label that one has to himself. */
    datagrams();
    errors();
    streams();
    advice();
    any_label();
    shares();
    exclusive();
    return done();
}

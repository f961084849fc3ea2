/* UDP-Lite (RFC 3828): UDP whose checksum covers the first bytes alone, so that a program may have a datagram though
 * the rest of it is damaged. Datagrams over IP protocol 136, with the kernel's socket options, and groups, broadcasts
 * and port unreachable as UDP has them. What is sent, taken, refused and counted is Linux's (net/ipv4/udplite.c, seen
 * on 6.18). Not here: what the kernel's has of UDP beyond that (UDP_CORK, UDP_SEGMENT, UDP_GRO).
 *
 *   0 2 4 6 8 | from | to | coverage | sum | payload ... all big-endian; coverage counts from the header's first byte
 *   on, 0: all */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <usersock/proto.h>

struct udplite_header {
    uint16_t from, to, coverage, sum;
};
enum { UDPLITE = 136, SOL_UDPLITE = 136, HEADER = sizeof(struct udplite_header), MAX_PAYLOAD = 65535 - HEADER };
/* setsockopt(2) of SOL_UDPLITE: bytes that the checksum of what is sent covers, and that of what is received must. */
enum { UDPLITE_SEND_CSCOV = 10, UDPLITE_RECV_CSCOV = 11 };

enum { IN_DATAGRAMS, NO_PORTS, IN_ERRORS, OUT_DATAGRAMS, RCVBUF_ERRORS, IN_CSUM_ERRORS, IGNORED_MULTI };
static const char *const counters[] = {
    "UdpLiteInDatagrams",
    "UdpLiteNoPorts",
    "UdpLiteInErrors",
    "UdpLiteOutDatagrams",
    "UdpLiteRcvbufErrors",
    "UdpLiteInCsumErrors",
    "UdpLiteIgnoredMulti",
    NULL,
};
enum { DROP_COVERAGE = USK_DROP_OWN, DROP_NO_CSUM, DROP_UNCOVERED };
static const char *const drops[] = { "UDPLITE_COVERAGE", "UDPLITE_NO_CSUM", "UDPLITE_UNCOVERED", NULL };

/* A coverage as its option was set; not set: all is covered, and any coverage is taken. */
struct coverage {
    uint16_t bytes, set;
};
struct udplite_sock {
    struct coverage send, recv;
};

/* Bytes that the checksum of a datagram of `len` bytes covers. */
static size_t covered(uint16_t coverage, size_t len)
{
    return coverage == 0 ? len : coverage;
}

static uint32_t checksum(usk_skb_t *skb, const usk_addr_t *from, const usk_addr_t *to, size_t bytes)
{
    uint32_t len = (uint32_t)usk_skb_len(skb);
    return usk_csum_fold(usk_skb_csum(skb, 0, bytes, usk_csum_pseudo(from, to, UDPLITE, len)));
}

static ptrdiff_t udplite_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    const struct udplite_sock *us = usk_private(o);
    size_t len = usk_sendmsg_len(msg);
    usk_addr_t to, from;
    if (len > MAX_PAYLOAD)
        return -EMSGSIZE;
    if (usk_sendmsg_flags(msg) & MSG_OOB)
        return -EOPNOTSUPP;
    int r = usk_sock_error(usk_owned_sock(o));
    if (r < 0)
        return r;
    if (usk_sendmsg_name(msg, &to) != 0 && usk_ends(o, NULL, &to) != 0)
        return -EDESTADDRREQ;
    if (to.port == 0)
        return -EINVAL;
    /* The checksum includes the source address, which the route decides. */
    r = usk_source(o, &to, &from);
    if (r < 0)
        return r;
    usk_skb_t *skb = usk_skb_from_msg(msg, len);
    if (!skb)
        return -EFAULT;
    size_t whole = HEADER + len;
    /* More than there is means all. */
    uint16_t coverage = (uint16_t)(us->send.set && us->send.bytes < whole ? us->send.bytes : whole);
    struct udplite_header h = { htons(from.port), htons(to.port), htons(coverage), 0 };
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    uint32_t sum = checksum(skb, &from, &to, covered(coverage, whole));
    /* 0 would say that there is none. */
    h.sum = htons((uint16_t)(sum ? sum : 0xffff));
    usk_skb_pull(skb, HEADER);
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    r = usk_xmit(o, skb, &to);
    if (r < 0)
        return r;
    usk_count(usk_owned_reg(o), OUT_DATAGRAMS, 1);
    return (ptrdiff_t)len;
}

/* The header is still in front of a datagram in the receive queue, its source address in the control block. */
static ptrdiff_t udplite_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    int flags = usk_recvmsg_flags(msg);
    usk_sock_t *sk = usk_owned_sock(o);
    uint64_t until = usk_timeo(o, USK_RECV, flags & MSG_DONTWAIT);
    usk_skb_t *skb;
    while (!(skb = usk_receive_peek(o))) {
        int r = usk_sock_error(sk);
        if (r < 0)
            return r;
        if (usk_sock_shutdown(sk) & 1)
            return 0;
        if ((r = usk_wait(o, POLLIN, until)) < 0)
            return r;
    }
    usk_addr_t from;
    memcpy(&from, usk_skb_cb(skb), sizeof from);
    usk_recvmsg_set_name(msg, &from);
    ptrdiff_t n = usk_receive_msg(o, msg, HEADER);
    if (n >= 0 && !(flags & MSG_PEEK))
        usk_count(usk_owned_reg(o), IN_DATAGRAMS, 1);
    return n;
}

static int udplite_connect(usk_owned_t *o, const usk_addr_t *to)
{
    int r = usk_route_connect(o, to);
    return r < 0 ? r : usk_hash(o);
}

static int udplite_disconnect(usk_owned_t *o)
{
    usk_route_disconnect(o);
    return usk_hash(o);
}

/* The option of a name; null: there is none. UDP's level does as well, as on Linux. */
static struct coverage *option(struct udplite_sock *us, int level, int name)
{
    if (level != SOL_UDPLITE && level != IPPROTO_UDP)
        return NULL;
    return name == UDPLITE_SEND_CSCOV ? &us->send : name == UDPLITE_RECV_CSCOV ? &us->recv : NULL;
}

static int udplite_setsockopt(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    int n, r = 0;
    usk_lock_sock(sk, &o);
    struct coverage *c = option(usk_private(&o), level, name);
    if (!c) {
        r = usk_ip_setsockopt(&o, level, name, value, len);
    } else if (len < sizeof n) {
        r = -EINVAL;
    } else {
        memcpy(&n, value, sizeof n);
        /* Less than the header cannot be covered, but for 0, which is all. */
        c->bytes = n == 0 ? 0 : n < HEADER ? HEADER : n > 65535 ? 65535 : (uint16_t)n;
        c->set = 1;
    }
    usk_release_sock(&o);
    return r;
}

static ptrdiff_t udplite_getsockopt(usk_sock_t *sk, int level, int name, void *value, size_t len)
{
    usk_owned_t o;
    ptrdiff_t r;
    usk_lock_sock(sk, &o);
    struct coverage *c = option(usk_private(&o), level, name);
    if (c) {
        int n = c->bytes;
        r = (ptrdiff_t)(len < sizeof n ? len : sizeof n);
        memcpy(value, &n, (size_t)r);
    } else {
        r = usk_ip_getsockopt(&o, level, name, value, len);
    }
    usk_release_sock(&o);
    return r;
}

/* Drops what is not valid, and counts it as the kernel does. */
static void bad(usk_reg_t *reg, usk_skb_t *skb, int csum, int why)
{
    usk_count(reg, IN_ERRORS, 1);
    if (csum)
        usk_count(reg, IN_CSUM_ERRORS, 1);
    usk_drop(reg, skb, why);
}

/* A coverage that no datagram of this length has (RFC 3828 section 3.1). */
static void bad_coverage(usk_reg_t *reg, usk_skb_t *skb, unsigned coverage)
{
    char line[80];
    size_t len = usk_skb_len(skb);
    snprintf(line, sizeof line, "coverage %u of a datagram of %zu bytes", coverage, len);
    usk_log(reg, USK_LOG_DEBUG, line);
    bad(reg, skb, coverage < HEADER, DROP_COVERAGE);
}

static void udplite_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct udplite_header *h = usk_skb_header(skb, HEADER);
    size_t len = usk_skb_len(skb);
    if (!h) {
        bad(reg, skb, 0, USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    uint16_t coverage = ntohs(h->coverage);
    from.port = ntohs(h->from);
    to.port = ntohs(h->to);
    if (coverage > len || (coverage != 0 && coverage < HEADER)) {
        bad_coverage(reg, skb, coverage);
        return;
    }
    if (h->sum == 0) {
        bad(reg, skb, 1, DROP_NO_CSUM);
        return;
    }
    if (checksum(skb, &from, &to, covered(coverage, len)) != 0) {
        bad(reg, skb, 1, USK_DROP_CSUM);
        return;
    }
    memcpy(usk_skb_cb(skb), &from, sizeof from);
    if (info->not_unicast) {
        if (usk_deliver_all(reg, skb, &to, &from) == 0) {
            usk_count(reg, IGNORED_MULTI, 1);
            usk_drop(reg, skb, USK_DROP_NO_SOCKET);
            return;
        }
        usk_skb_free(skb);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_count(reg, NO_PORTS, 1);
        usk_icmp_send(reg, skb, USK_ICMP_PORT_UNREACH, 0);
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* Called with the sock owned: its option says how much must be covered. What is covered as a whole is always enough. */
static void udplite_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    const struct udplite_sock *us = usk_private(o);
    const struct udplite_header *h = usk_skb_header(skb, HEADER);
    size_t bytes = covered(ntohs(h->coverage), usk_skb_len(skb));
    if (us->recv.set && bytes < usk_skb_len(skb) && (us->recv.bytes == 0 || bytes < us->recv.bytes)) {
        bad(usk_owned_reg(o), skb, 0, DROP_UNCOVERED);
        return;
    }
    if (usk_receive_push(o, skb) < 0) {
        usk_count(usk_owned_reg(o), RCVBUF_ERRORS, 1);
        usk_count(usk_owned_reg(o), IN_ERRORS, 1);
    }
}

/* An ICMP error about a datagram of ours: for IP_RECVERR, and SO_ERROR of a connected socket. */
static void udplite_err(usk_reg_t *reg, const usk_icmp_error_t *e)
{
    struct udplite_header h;
    usk_addr_t from = e->src, to = e->dst;
    memcpy(&h, e->quoted, HEADER);
    from.port = ntohs(h.from);
    to.port = ntohs(h.to);
    usk_sock_t *sk = usk_proto_lookup(reg, &from, &to, e->ifindex);
    if (sk)
        usk_icmp_report(sk, e, to.port, HEADER);
    usk_sock_put(sk);
}

static void column(usk_diag_t *diag, const char *name, const struct coverage *c)
{
    char value[8];
    if (!c->set)
        return;
    snprintf(value, sizeof value, "%u", c->bytes);
    usk_diag_column(diag, name, value);
}

/* usersock ss -i: the options that are set. */
static void udplite_diag_show(usk_owned_t *o, usk_diag_t *diag)
{
    const struct udplite_sock *us = usk_private(o);
    column(diag, "send_cscov", &us->send);
    column(diag, "recv_cscov", &us->recv);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "UDP-Lite",
        .mib_names = counters,
        .drop_names = drops,
        .socket_type = SOCK_DGRAM,
        .protocol = UDPLITE,
        .flags = USK_PROTO_V4 | USK_PROTO_V6,
        .obj_size = sizeof(struct udplite_sock),
        .max_header = HEADER,
        .connect = udplite_connect,
        .disconnect = udplite_disconnect,
        .setsockopt = udplite_setsockopt,
        .getsockopt = udplite_getsockopt,
        .sendmsg_locked = udplite_sendmsg,
        .recvmsg_locked = udplite_recvmsg,
        .backlog_rcv = udplite_backlog_rcv,
        .rcv = udplite_rcv,
        .err = udplite_err,
        .diag_show = udplite_diag_show,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

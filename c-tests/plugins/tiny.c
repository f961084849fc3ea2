/* TINY: a minimal protocol, with which docs/plugins.md starts. Datagrams with ports and a checksum over IP protocol 254
 * (RFC 3692): UDP with another protocol number. For every null operation in the table the stack has a default: binding,
 * look-up, readiness, closing, options of the IP level.
 *
 *   0 2 4 6 8 | from | to | len | sum | payload ... all big-endian; len counts the header, sum is as UDP's, but 0 does
 *   not mean none */
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <usersock/proto.h>

struct tiny_header {
    uint16_t from, to, len, sum;
};
enum { TINY = 254, HEADER = sizeof(struct tiny_header), MAX_PAYLOAD = 65000 };
enum { IN_DATAGRAMS, OUT_DATAGRAMS, IN_ERRORS };

static const char *const counters[] = { "TinyInDatagrams", "TinyOutDatagrams", "TinyInErrors", NULL };

/* send(2), sendto(2): not owned, so this locks the sock. */
static ssize_t tiny_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    usk_addr_t to, from;
    usk_owned_t o;
    if (len > MAX_PAYLOAD)
        return -EMSGSIZE;
    usk_lock_sock(sk, &o);
    int r = usk_sock_error(sk);
    if (r == 0 && usk_sendmsg_name(msg, &to) != 0 && usk_ends(&o, NULL, &to) != 0)
        r = -EDESTADDRREQ;
    /* The checksum includes the source address, which the route decides. */
    if (r == 0)
        r = usk_source(&o, &to, &from);
    usk_skb_t *skb = NULL;
    if (r == 0 && !(skb = usk_skb_from_msg(msg, len)))
        r = -EFAULT;
    if (r == 0) {
        struct tiny_header h = { htons(from.port), htons(to.port), htons(HEADER + len), 0 };
        memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
        /* Computed where the packet leaves the machine, and not if it does not. */
        uint32_t sum = usk_csum_pseudo(&from, &to, TINY, HEADER + len);
        usk_skb_csum_partial(skb, 0, offsetof(struct tiny_header, sum), sum);
        r = usk_xmit(&o, skb, &to);
        if (r == 0)
            usk_count(usk_owned_reg(&o), OUT_DATAGRAMS, 1);
    }
    usk_release_sock(&o);
    return r < 0 ? r : (ssize_t)len;
}

/* recv(2), recvfrom(2): waits for a datagram in the receive queue. Its header is still in front, its source address in
 * the control block. */
static ssize_t tiny_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    int flags = usk_recvmsg_flags(msg);
    usk_owned_t o;
    ssize_t r = 0;
    usk_lock_sock(sk, &o);
    uint64_t until = usk_timeo(&o, USK_RECV, flags & MSG_DONTWAIT);
    usk_skb_t *skb;
    while (!(skb = usk_receive_peek(&o)) && r == 0) {
        r = usk_sock_error(sk);
        if (r == 0 && (usk_sock_shutdown(sk) & 1))
            break;
        if (r == 0)
            r = usk_wait(&o, POLLIN, until);
    }
    if (skb) {
        usk_addr_t from;
        memcpy(&from, usk_skb_cb(skb), sizeof from);
        usk_recvmsg_set_name(msg, &from);
        r = usk_receive_msg(&o, msg, HEADER);
        if (!(flags & MSG_PEEK))
            usk_count(usk_owned_reg(&o), IN_DATAGRAMS, 1);
    }
    usk_release_sock(&o);
    return r;
}

static int tiny_connect(usk_owned_t *o, const usk_addr_t *to)
{
    int r = to->port == 0 ? -EINVAL : usk_route_connect(o, to);
    return r < 0 ? r : usk_hash(o);
}

static int tiny_disconnect(usk_owned_t *o)
{
    usk_route_disconnect(o);
    return usk_hash(o);
}

/* A packet of protocol 254 has come: verify, find its sock, deliver. No sock is owned here. */
static void tiny_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct tiny_header *h = usk_skb_header(skb, HEADER);
    size_t len = usk_skb_len(skb);
    if (!h || ntohs(h->len) != len) {
        usk_count(reg, IN_ERRORS, 1);
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h->from);
    to.port = ntohs(h->to);
    if (!usk_skb_csum_unnecessary(skb) &&
        usk_csum_fold(usk_skb_csum(skb, 0, len, usk_csum_pseudo(&from, &to, TINY, len))) != 0) {
        usk_count(reg, IN_ERRORS, 1);
        usk_drop(reg, skb, USK_DROP_CSUM);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_icmp_send(reg, skb, USK_ICMP_PORT_UNREACH, 0);
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    memcpy(usk_skb_cb(skb), &from, sizeof from);
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* Called with the sock owned: queues the packet for recv. */
static void tiny_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    usk_receive_push(o, skb);
}

/* An ICMP error about a packet of ours: for IP_RECVERR, and SO_ERROR of a connected socket. */
static void tiny_err(usk_reg_t *reg, const usk_icmp_error_t *e)
{
    struct tiny_header h;
    usk_addr_t from = e->src, to = e->dst;
    memcpy(&h, e->quoted, HEADER);
    from.port = ntohs(h.from);
    to.port = ntohs(h.to);
    usk_sock_t *sk = usk_proto_lookup(reg, &from, &to, e->ifindex);
    if (sk)
        usk_icmp_report(sk, e, to.port, HEADER);
    usk_sock_put(sk);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "TINY",
        .socket_type = SOCK_DGRAM,
        .protocol = TINY,
        .flags = USK_PROTO_V4 | USK_PROTO_V6,
        .mib_names = counters,
        .connect = tiny_connect,
        .disconnect = tiny_disconnect,
        .sendmsg = tiny_sendmsg,
        .recvmsg = tiny_recvmsg,
        .backlog_rcv = tiny_backlog_rcv,
        .rcv = tiny_rcv,
        .err = tiny_err,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

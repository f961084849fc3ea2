/* @NAME@: datagrams with ports and a checksum over IP protocol 254, which RFC 3692 sets aside for experiments. A
 * program has it by socket(AF_INET, SOCK_DGRAM, 254).
 *
 *   0 2 4 6 8 | from | to | len | sum | payload ... all big-endian; len counts the header, sum as UDP's */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <usersock/proto.h>

struct @name@_header {
    uint16_t from, to, len, sum;
};
enum { PROTOCOL = 254, HEADER = sizeof(struct @name@_header), MAX_PAYLOAD = 65000 };

enum { IN_DATAGRAMS, OUT_DATAGRAMS, IN_ERRORS };
static const char *const counters[] = { "@Name@InDatagrams", "@Name@OutDatagrams", "@Name@InErrors", NULL };

/* Sends a datagram. The sock is owned from the first line to the last. */
static ptrdiff_t @name@_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg), total = HEADER + len;
    usk_addr_t to, from;
    if (len > MAX_PAYLOAD)
        return -EMSGSIZE;
    int r = usk_sock_error(usk_owned_sock(o));
    if (r == 0 && usk_sendmsg_name(msg, &to) != 0 && usk_ends(o, NULL, &to) != 0)
        r = -EDESTADDRREQ;
    /* The checksum includes the source address, which the route decides. */
    if (r == 0)
        r = usk_source(o, &to, &from);
    if (r < 0)
        return r;
    usk_skb_t *skb = usk_skb_from_msg(msg, len);
    if (!skb)
        return -EFAULT;
    struct @name@_header h = { htons(from.port), htons(to.port), htons(total), 0 };
    uint32_t sum = usk_csum(&h, HEADER, usk_csum_pseudo(&from, &to, PROTOCOL, total));
    h.sum = htons(usk_csum_fold(usk_skb_csum(skb, 0, len, sum)));
    void *front = usk_skb_push(skb, HEADER);
    if (!front) {
        usk_skb_free(skb);
        return -ENOBUFS;
    }
    memcpy(front, &h, HEADER);
    r = usk_xmit(o, skb, &to); /* takes the packet, whatever it returns */
    if (r < 0)
        return r;
    usk_count(usk_owned_reg(o), OUT_DATAGRAMS, 1);
    return len;
}

/* Waits for a datagram in the receive queue. Its header is still in front, its source address in the control block. */
static ptrdiff_t @name@_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    usk_sock_t *sk = usk_owned_sock(o);
    int flags = usk_recvmsg_flags(msg);
    uint64_t until = usk_timeo(o, USK_RECV, flags & MSG_DONTWAIT);
    usk_skb_t *skb;
    while (!(skb = usk_receive_peek(o))) {
        int r = usk_sock_error(sk);
        if (r < 0)
            return r;
        if (usk_sock_shutdown(sk) & 1)
            return 0;
        r = usk_wait(o, POLLIN, until);
        if (r < 0)
            return r;
    }
    usk_addr_t from;
    memcpy(&from, usk_skb_cb(skb), sizeof from);
    usk_recvmsg_set_name(msg, &from);
    if (!(flags & MSG_PEEK))
        usk_count(usk_owned_reg(o), IN_DATAGRAMS, 1);
    return usk_receive_msg(o, msg, HEADER);
}

static int @name@_connect(usk_owned_t *o, const usk_addr_t *to)
{
    int r = to->port == 0 ? -EINVAL : usk_route_connect(o, to);
    return r < 0 ? r : usk_hash(o);
}

static int @name@_disconnect(usk_owned_t *o)
{
    usk_route_disconnect(o);
    return usk_hash(o);
}

/* A packet of protocol 254 has come: verifies it, finds its sock, delivers it. No sock is owned here. */
static void @name@_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct @name@_header *h = usk_skb_header(skb, HEADER);
    size_t len = usk_skb_len(skb);
    if (!h || ntohs(h->len) != len) {
        usk_count(reg, IN_ERRORS, 1);
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h->from);
    to.port = ntohs(h->to);
    if (usk_csum_fold(usk_skb_csum(skb, 0, len, usk_csum_pseudo(&from, &to, PROTOCOL, len))) != 0) {
        usk_count(reg, IN_ERRORS, 1);
        usk_drop(reg, skb, USK_DROP_CSUM);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    memcpy(usk_skb_cb(skb), &from, sizeof from);
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* The packet again, with its sock owned: queues it for recv. */
static void @name@_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    usk_receive_push(o, skb);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "@NAME@",
        .socket_type = SOCK_DGRAM,
        .protocol = PROTOCOL,
        .flags = USK_PROTO_V4 | USK_PROTO_V6,
        .mib_names = counters,
        .max_header = HEADER,
        .connect = @name@_connect,
        .disconnect = @name@_disconnect,
        .sendmsg_locked = @name@_sendmsg,
        .recvmsg_locked = @name@_recvmsg,
        .backlog_rcv = @name@_backlog_rcv,
        .rcv = @name@_rcv,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

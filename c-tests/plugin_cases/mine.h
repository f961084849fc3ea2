/* A protocol of the program's own, MINE over IP protocol 252: datagrams of two ports and a payload, and sockets of a
 * second type on the same ports. Include after common.h. */
#ifndef USERSOCK_PLUGIN_CASES_MINE_H
#define USERSOCK_PLUGIN_CASES_MINE_H

enum { MINE = 252, HEADER = 4 };

static usk_reg_t *reg, *other;
/* Packets that socks of each type took. */
static int delivered[8];
/* What becomes of a packet that no sock takes. */
static void (*no_sock)(usk_reg_t *r, usk_skb_t *skb);

static UNUSED void mine_rcv(usk_reg_t *r, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const uint16_t *h = usk_skb_header(skb, HEADER);
    if (!h) {
        usk_drop(r, skb, USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h[0]);
    to.port = ntohs(h[1]);
    usk_sock_t *sk = usk_proto_lookup(r, &to, &from, info->ifindex);
    if (sk) {
        usk_deliver(sk, skb);
        usk_sock_put(sk);
    } else if (no_sock) {
        no_sock(r, skb);
    } else {
        usk_drop(r, skb, USK_DROP_NO_SOCKET);
    }
}

static UNUSED void mine_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    usk_sock_info_t info;
    usk_sock_info(o, &info, sizeof info);
    delivered[info.type]++;
    usk_receive_push(o, skb);
}

static ptrdiff_t mine_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    usk_addr_t to, from;
    size_t len = usk_sendmsg_len(msg);
    if (usk_sendmsg_name(msg, &to) != 0)
        return -EDESTADDRREQ;
    int r = usk_source(o, &to, &from);
    if (r < 0)
        return r;
    uint16_t h[2] = { htons(from.port), htons(to.port) };
    usk_skb_t *skb = usk_skb_from_msg(msg, len);
    memcpy(usk_skb_push(skb, HEADER), h, HEADER);
    r = usk_xmit(o, skb, &to);
    return r < 0 ? r : (ptrdiff_t)len;
}

static ptrdiff_t mine_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    while (!usk_receive_peek(o)) {
        int r = usk_wait(o, POLLIN, usk_timeo(o, USK_RECV, usk_recvmsg_flags(msg) & MSG_DONTWAIT));
        if (r < 0)
            return r;
    }
    return usk_receive_msg(o, msg, HEADER);
}

static UNUSED usk_proto mine_table(const char *name, int type)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = name,
        .socket_type = type,
        .protocol = MINE,
        .flags = USK_PROTO_V4 | USK_PROTO_V6,
        .sendmsg_locked = mine_sendmsg,
        .recvmsg_locked = mine_recvmsg,
        .backlog_rcv = mine_backlog_rcv,
    };
    return t;
}

/* Registers MINE, with what `more` adds to its table. */
static UNUSED int mine_register(usk_plugin_t *plugin, void (*more)(usk_proto *t))
{
    usk_proto t = mine_table("MINE", SOCK_DGRAM);
    t.rcv = mine_rcv;
    if (more)
        more(&t);
    return usk_proto_register(plugin, &t, NULL, &reg);
}

/* The same, and MINE-SEQ, whose sockets are on the same ports. */
static UNUSED int mine_register_both(usk_plugin_t *plugin, void (*more)(usk_proto *t))
{
    usk_proto t = mine_table("MINE-SEQ", SOCK_SEQPACKET);
    int r = mine_register(plugin, more);
    t.ports_of = "MINE";
    return r < 0 ? r : usk_proto_register(plugin, &t, NULL, &other);
}

static UNUSED int open_mine(usk_stack_t *stack, int family, int type, int port)
{
    struct addr a = at(family == AF_INET ? "127.0.0.1" : "::1", port);
    int fd = (int)OK(usk_socket_on(stack, family, type, MINE));
    if (port)
        OK(usk_bind(fd, &a.sa, a.len));
    return fd;
}
#endif

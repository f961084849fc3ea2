/* Offloads of a protocol: super-packets with a segment operation, carried whole and cut, and checksums that are left
 * open. A protocol of this program's, in worlds with links that can carry super-packets and with such as cannot. */
#include "common.h"
#include <usersock/sim.h>

enum { CUT = 254, PORT = 7, CHUNK = 1000 };

struct head {
    uint32_t offset; /* of the payload in the whole */
    uint16_t last, sum;
    uint16_t from, to;
};
enum { HEADER = sizeof(struct head), SUM = offsetof(struct head, sum) };

/* What sendmsg and segment do now. */
static struct how {
    uint32_t header, size;
    int set;       /* what usk_skb_set_gso returns */
    bool complete; /* the checksum is computed by the protocol, and not left open */
    int fail_at;   /* segment fails at this piece... */
    int fail;      /* ...with this value */
    bool lock;     /* or locks a sock and forgets it */
    uint32_t seed; /* and lets the checksum begin with something else */
} how;

static int pieces, whole, cut, unnecessary, wrong, most;
static usk_sock_t *other;

static int cut_init(usk_owned_t *o)
{
    other = usk_owned_sock(o); /* the receiver's, which is made last */
    return 0;
}

static ptrdiff_t cut_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    usk_addr_t local, peer;
    size_t len = usk_sendmsg_len(msg);
    int r = usk_ends(o, &local, &peer);
    if (r < 0)
        return r;
    most = usk_gso_max(o);
    usk_skb_t *skb = usk_skb_from_msg(msg, len);
    struct head h = { 0, htons(1), 0, htons(local.port), htons(peer.port) };
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    uint32_t sum = how.seed + usk_csum_pseudo(&local, &peer, CUT, (uint32_t)(HEADER + len));
    if (how.complete) {
        h.sum = htons((uint16_t)usk_csum_fold(usk_skb_csum(skb, 0, HEADER + len, sum)));
        usk_skb_pull(skb, HEADER);
        memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    } else {
        EQ(usk_skb_csum_partial(skb, 0, SUM, sum), 0);
    }
    if (how.size) {
        EQ(usk_skb_set_gso(o, skb, how.header, how.size), how.set);
        EQ(usk_skb_gso_size(skb), how.set == 0 && len > how.size ? how.size : 0);
    }
    r = usk_xmit(o, skb, NULL);
    return r < 0 ? r : (ptrdiff_t)len;
}

static ptrdiff_t cut_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    return usk_receive_msg(o, msg, HEADER);
}

static int cut_connect(usk_owned_t *o, const usk_addr_t *to)
{
    int r = usk_route_connect(o, to);
    return r < 0 ? r : usk_hash(o);
}

static int cut_segment(usk_reg_t *reg, usk_piece_t *p)
{
    struct head *h = p->header;
    CHECK(reg != NULL);
    EQ(p->header_len, HEADER);
    EQ(p->src.port, 0);
    EQ(p->offset, p->index * how.size);
    EQ(ntohl(h->offset), 0); /* the super-packet's, and not the last piece's */
    EQ(usk_csum_fold(p->sum), usk_csum_fold(usk_csum_pseudo(&p->src, &p->dst, CUT, HEADER + p->len)));
    h->offset = htonl(p->offset);
    h->last = htons((uint16_t)p->last);
    p->sum += how.seed;
    pieces++;
    if ((int)p->index != how.fail_at)
        return 0;
    usk_owned_t o;
    if (how.lock)
        usk_lock_sock(other, &o);
    return how.fail;
}

static void cut_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    struct head h;
    uint32_t len = (uint32_t)usk_skb_len(skb);
    usk_addr_t to = info->dst, from = info->src;
    EQ(usk_skb_copy(skb, 0, &h, HEADER), HEADER);
    uint32_t sum = how.seed + usk_csum_pseudo(&from, &to, CUT, len);
    if (usk_skb_csum_unnecessary(skb))
        unnecessary++;
    else if (usk_csum_fold(usk_skb_csum(skb, 0, len, sum)) != 0)
        wrong++;
    *(usk_skb_gso_size(skb) ? &whole : &cut) += 1;
    if (usk_skb_gso_size(skb))
        EQ(usk_skb_gso_size(skb), how.size);
    to.port = ntohs(h.to);
    from.port = ntohs(h.from);
    usk_sock_t *sk = usk_proto_lookup(reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    /* An answer has nothing of what it was received with: it is no super-packet, though it is the same packet. */
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* A packet that the plug-in keeps until its registration is released. */
static usk_skb_t *kept;
static bool keeps;
static int released;

static void release(void *user)
{
    CHECK(user == &kept);
    usk_skb_free(kept);
    kept = NULL;
    released++;
}

static void cut_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    if (keeps)
        kept = skb;
    else
        usk_receive_push(o, skb);
}

static usk_proto table = {
    .version = USK_PROTO_VERSION,
    .size = sizeof table,
    .name = "CUT",
    .socket_type = SOCK_DGRAM,
    .protocol = CUT,
    .flags = USK_PROTO_V4 | USK_PROTO_V6,
    .init = cut_init,
    .connect = cut_connect,
    .sendmsg_locked = cut_sendmsg,
    .recvmsg_locked = cut_recvmsg,
    .rcv = cut_rcv,
    .backlog_rcv = cut_backlog_rcv,
    .segment = cut_segment,
};

static int init(usk_plugin_t *plugin)
{
    return usk_proto_register(plugin, &table, NULL, NULL);
}

static int init_releasing(usk_plugin_t *plugin)
{
    usk_reg_t *reg;
    int r = usk_proto_register(plugin, &table, &kept, &reg);
    return r < 0 ? r : usk_user_release(reg, release);
}

struct net {
    usk_world_t *world;
    usk_stack_t *a, *b;
    int from, to;
};

static struct net net_new(int family, unsigned mtu, unsigned flags)
{
    struct net n = { .world = usk_world_new(1) };
    n.a = usk_world_host(n.world, "a", NULL);
    n.b = usk_world_host(n.world, "b", NULL);
    usk_link_t *link = usk_world_link(n.world, "a", "b", "delay=1ms", mtu, flags);
    CHECK(link != NULL);
    CHECK(usk_plugin_attach(n.a, "cut", init) && usk_plugin_attach(n.b, "cut", init));
    struct addr at = { .len = sizeof at.storage };
    OK(usk_link_addr(link, 1, family, PORT, &at.sa, &at.len));
    n.from = (int)OK(usk_socket_on(n.a, family, SOCK_DGRAM, CUT));
    n.to = (int)OK(usk_socket_on(n.b, family, SOCK_DGRAM, CUT));
    OK(usk_bind(n.to, &at.sa, at.len));
    OK(usk_connect(n.from, &at.sa, at.len));
    int big = 1 << 20;
    OK(usk_setsockopt(n.from, SOL_SOCKET, SO_SNDBUF, &big, sizeof big));
    OK(usk_setsockopt(n.to, SOL_SOCKET, SO_RCVBUF, &big, sizeof big));
    how = (struct how){ .header = HEADER, .size = CHUNK, .fail_at = -1 };
    pieces = whole = cut = unnecessary = wrong = 0;
    return n;
}

static void net_free(struct net *n)
{
    OK(usk_close(n->from));
    OK(usk_close(n->to));
    OK(usk_world_free(n->world));
    usk_stack_free(n->a);
    usk_stack_free(n->b);
}

static unsigned char bytes[70000];

/* Sends `len` bytes, and checks that they arrive, in packets of `size`. */
static void pass(struct net *n, size_t len, size_t size)
{
    static unsigned char got[70000];
    EQ(usk_send(n->from, bytes, len, 0), len);
    OK(usk_world_run_for(n->world, 10000000));
    for (size_t at = 0; at < len; at += size) {
        size_t want = len - at < size ? len - at : size;
        EQ(usk_recv(n->to, got, sizeof got, MSG_DONTWAIT), want);
        CHECK(memcmp(got, bytes + at, want) == 0);
    }
    ERR(usk_recv(n->to, got, sizeof got, MSG_DONTWAIT), EAGAIN);
    EQ(wrong, 0);
}

/* A link that carries packets of its MTU gets them, with their checksums; one that takes super-packets, and the
 * loopback device, get it whole, and nobody computes a checksum. */
static void carried(int family)
{
    struct net n = net_new(family, 1500, 0);
    pass(&n, 5000, CHUNK);
    EQ(pieces, 5);
    EQ(cut, 5);
    EQ(unnecessary, 0);
    pass(&n, 5001, CHUNK); /* of odd length, and with a short end */
    EQ(pieces, 11);
    /* At most one packet's worth is no super-packet. */
    pass(&n, CHUNK, CHUNK);
    pass(&n, 1, CHUNK);
    EQ(pieces, 11);
    EQ(cut, 13);
    how.size = 1;
    pass(&n, 300, 1);
    EQ(pieces, 311);
    how.size = CHUNK;
    /* The checksum may begin with another sum. */
    how.seed = 0x1234;
    pass(&n, 2500, CHUNK);
    how.seed = 0;
    net_free(&n);

    /* Frames with a link header; and the fields of IP: another packet has another identification. */
    n = net_new(family, 1500, USK_SIM_ETHERNET);
    pass(&n, 5000, CHUNK);
    EQ(cut, 5);
    net_free(&n);

    n = net_new(family, 1500, USK_SIM_OFFLOAD);
    pass(&n, 5000, 5000);
    EQ(pieces, 0);
    EQ(whole, 1);
    EQ(unnecessary, 1);
    /* A checksum that the protocol has computed is the receiver's to verify. */
    how.complete = true;
    how.size = 0;
    pass(&n, 500, 500);
    EQ(unnecessary, 1);
    net_free(&n);
}

static void on_loopback(void)
{
    struct net n = net_new(AF_INET, 1500, 0);
    struct addr at = sock_name(n.to);
    int from = (int)OK(usk_socket_on(n.b, AF_INET, SOCK_DGRAM, CUT));
    OK(usk_connect(from, &at.sa, at.len));
    EQ(usk_send(from, bytes, 20000, 0), 20000);
    static unsigned char got[20001];
    EQ(usk_recv(n.to, got, sizeof got, MSG_DONTWAIT), 20000);
    CHECK(memcmp(got, bytes, 20000) == 0);
    EQ(whole, 1);
    EQ(unnecessary, 1);
    EQ(pieces, 0);
    OK(usk_close(from));
    net_free(&n);
}

/* A super-packet that is kept does not keep its registration. */
static void keeping(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *stack = usk_world_host(world, "a", NULL);
    usk_plugin_t *plugin = usk_plugin_attach(stack, "cut", init_releasing);
    struct addr at_lo = at("127.0.0.1", PORT);
    int from = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, CUT));
    int to = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, CUT));
    how = (struct how){ .header = HEADER, .size = CHUNK, .fail_at = -1 };
    keeps = true;
    OK(usk_bind(to, &at_lo.sa, at_lo.len));
    OK(usk_connect(from, &at_lo.sa, at_lo.len));
    EQ(usk_send(from, bytes, 5000, 0), 5000);
    CHECK(kept != NULL);
    EQ(usk_skb_gso_size(kept), CHUNK);
    OK(usk_close(from));
    OK(usk_close(to));
    OK(usk_plugin_unload(plugin));
    keeps = false;
    OK(usk_world_free(world));
    usk_stack_free(stack);
    EQ(released, 1);
    CHECK(kept == NULL);
}

/* Sizes that are none, and packets that IP or the path has no room for. */
static void bounds(void)
{
    struct net n = net_new(AF_INET, 1500, 0);
    char c;
    /* Of the last the checksum's field is behind the header. */
    static const uint32_t none[][2] = { { HEADER, 65536 }, { 0, CHUNK }, { 53, CHUNK }, { HEADER + 5001, CHUNK },
                                        { 65536 + HEADER, CHUNK }, { 4, CHUNK } };
    how.set = -EINVAL;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        how.header = none[i][0];
        how.size = none[i][1];
        EQ(usk_send(n.from, bytes, 5000, 0), 5000); /* as it is: IP fragments it */
        OK(usk_world_run_for(n.world, 10000000));
        EQ(usk_recv(n.to, &c, 1, MSG_DONTWAIT), 1);
        EQ(wrong, 0);
    }
    how.header = HEADER;
    how.size = CHUNK;
    how.set = 0;
    /* The longest that there is, and one byte more. */
    pass(&n, 65535 - 20 - HEADER, CHUNK);
    EQ(most, 65535 - 20);
    ERR(usk_send(n.from, bytes, 65535 - 20 - HEADER + 1, 0), EMSGSIZE);
    how.set = -EMSGSIZE;
    ERR(usk_send(n.from, bytes, 65536, 0), EMSGSIZE);
    how.set = 0;
    /* Packets that it stands for are not fragmented. */
    how.size = 1500 - 20 - HEADER;
    pass(&n, 5000, how.size);
    how.size++;
    ERR(usk_send(n.from, bytes, 5000, 0), EMSGSIZE);
    how.size = CHUNK;
    /* IP options take of both. */
    unsigned char nops[40];
    memset(nops, 1, sizeof nops);
    OK(usk_setsockopt(n.from, IPPROTO_IP, IP_OPTIONS, nops, sizeof nops));
    pass(&n, 5000, CHUNK);
    how.size = 1500 - 60 - HEADER;
    pass(&n, 5000, how.size);
    EQ(most, 65535 - 60);
    how.size++;
    ERR(usk_send(n.from, bytes, 5000, 0), EMSGSIZE);
    how.size = CHUNK;
    ERR(usk_send(n.from, bytes, 65535 - 60 - HEADER + 1, 0), EMSGSIZE);
    net_free(&n);
}

/* Extension headers of IPv6 are in each packet. */
static void extension_headers(void)
{
    struct net n = net_new(AF_INET6, 1500, 0);
    unsigned char dst[8] = { 0, 0, 1, 4 };
    OK(usk_setsockopt(n.from, IPPROTO_IPV6, IPV6_DSTOPTS, dst, sizeof dst));
    pass(&n, 5000, CHUNK);
    EQ(cut, 5);
    net_free(&n);
}

/* A segment operation that refuses loses the piece and the rest; one that breaks its contract breaks its socket. */
static void contained(void)
{
    struct net n = net_new(AF_INET, 1500, 0);
    char c;
    how.fail_at = 2;
    how.fail = -EIO;
    EQ(usk_send(n.from, bytes, 5000, 0), 5000);
    OK(usk_world_run_for(n.world, 10000000));
    EQ(cut, 2);
    EQ(pieces, 3);
    for (int i = 0; i < 2; i++)
        EQ(usk_recv(n.to, &c, 1, MSG_DONTWAIT), 1);
    how.fail_at = -1;
    pass(&n, 5000, CHUNK);
    for (int bad = 0; bad < 3; bad++) {
        net_free(&n);
        n = net_new(AF_INET, 1500, 0);
        how.fail_at = 0;
        how.fail = bad == 0 ? 1 : bad == 1 ? -5000 : 0;
        how.lock = bad == 2;
        EQ(usk_send(n.from, bytes, 5000, 0), 5000);
        OK(usk_world_run_for(n.world, 10000000));
        EQ(pieces, 1);
        EQ(cut, 0);
        ERR(usk_send(n.from, bytes, 1, 0), EIO);
    }
    net_free(&n);
}

static int never(usk_reg_t *reg, usk_skb_t *skb, const usk_addr_t *src, const usk_addr_t *dst)
{
    (void)reg, (void)skb, (void)src, (void)dst;
    return 0;
}

/* A table without the operation, and tables with half of the other. */
static void tables(void)
{
    table.segment = NULL;
    struct net n = net_new(AF_INET, 1500, 0);
    how.set = -EOPNOTSUPP;
    EQ(usk_send(n.from, bytes, 5000, 0), 5000);
    net_free(&n);
    table.segment = cut_segment;
    usk_stack_t *stack = usk_stack_new("");
    table.may_merge = never;
    refused_with(usk_plugin_attach(stack, "cut", init), EINVAL, "may_merge and merge");
    table.may_merge = NULL;
    /* An older table ends before all of it. */
    table.size = offsetof(usk_proto, segment);
    CHECK(usk_plugin_attach(stack, "cut", init) != NULL);
    table.size = sizeof table;
    usk_stack_free(stack);
}

/* Misuse of the calls themselves. */
static void arguments(void)
{
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_csum_partial(NULL, 0, 0, 0), -EINVAL);
    EQ(usk_skb_csum_partial(skb, 0, 0, 0), -EINVAL);
    usk_skb_append(skb, bytes, 100);
    EQ(usk_skb_csum_partial(skb, 0, 0, 0), -EINVAL); /* not a header that was pushed */
    memset(usk_skb_push(skb, 8), 0, 8);
    EQ(usk_skb_csum_partial(skb, 0, 7, 0), -EINVAL);
    EQ(usk_skb_csum_partial(skb, 65535, 65535, 0), -EINVAL);
    EQ(usk_skb_csum_partial(skb, UINT32_MAX, 8, 0), -EINVAL);
    EQ(usk_skb_csum_partial(skb, 2, 4, 0x10002), 0);
    const unsigned char *h = usk_skb_header(skb, 8);
    EQ(h[6] << 8 | h[7], 3);
    EQ(usk_skb_gso_size(skb), 0);
    EQ(usk_skb_gso_size(NULL), 0);
    EQ(usk_skb_set_gso(NULL, skb, 8, 10), -EINVAL);
    EQ(usk_gso_max(NULL), -EINVAL);
    usk_skb_free(skb);
}

int main(void)
{
    begin("offload");
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 251);
    arguments();
    carried(AF_INET);
    carried(AF_INET6);
    on_loopback();
    keeping();
    bounds();
    extension_headers();
    contained();
    tables();
    return done();
}

/* Several kinds of sockets of one protocol: iteration over them, one port table for two types or two families, children
 * that leave the table while the library looks at them. ARGV[1] is the folder of the built plug-ins, which is not
 * used. */
#include "common.h"
#include "mine.h"

static int init(usk_plugin_t *plugin)
{
    return mine_register(plugin, NULL);
}

static int both(usk_plugin_t *plugin)
{
    return mine_register_both(plugin, NULL);
}

struct seen {
    int n, stop;
    const int *close;
    uint16_t port[8];
};

static int see(void *arg, usk_sock_t *sk)
{
    struct seen *s = arg;
    usk_owned_t o;
    usk_addr_t local;
    EQ(usk_lock_sock(sk, &o), 0);
    EQ(usk_ends(&o, &local, NULL), 0);
    usk_release_sock(&o);
    s->port[s->n++] = local.port;
    /* The others are closed while this one is looked at. */
    if (s->close && s->n == 1)
        for (int i = 0; i < 3; i++)
            OK(usk_close(s->close[i]));
    return s->n == s->stop ? -EINTR : 0;
}

static void iteration(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", init);
    CHECK(plugin != NULL);
    int fd[3];
    for (int i = 0; i < 3; i++)
        fd[i] = open_mine(stack, AF_INET, SOCK_DGRAM, i + 1);
    struct seen all = { 0 }, some = { .stop = 2 }, closing = { .close = fd };
    EQ(usk_for_each_sock(reg, see, &all), 0);
    EQ(all.n, 3);
    EQ(all.port[0] + all.port[1] + all.port[2], 6);
    EQ(usk_for_each_sock(reg, see, &some), -EINTR);
    EQ(some.n, 2);
    EQ(usk_for_each_sock(reg, see, &closing), 0);
    EQ(closing.n, 3);
    struct seen none = { 0 };
    EQ(usk_for_each_sock(reg, see, &none), 0);
    EQ(none.n, 0);
    EQ(usk_for_each_sock(reg, NULL, &none), -EFAULT);
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

/* Two types of sockets of one protocol: a port is one's or the other's, and packets find both. */
static void ports(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", both);
    CHECK(plugin != NULL);
    int d = open_mine(stack, AF_INET, SOCK_DGRAM, 7), q = open_mine(stack, AF_INET, SOCK_SEQPACKET, 8);
    int second = open_mine(stack, AF_INET, SOCK_SEQPACKET, 0);
    struct addr a7 = at("127.0.0.1", 7), a8 = at("127.0.0.1", 8);
    ERR(usk_bind(second, &a7.sa, a7.len), EADDRINUSE);
    memset(delivered, 0, sizeof delivered);
    char b[8];
    EQ(usk_sendto(d, "to seq", 6, 0, &a8.sa, a8.len), 6);
    EQ(usk_recv(q, b, sizeof b, 0), 6);
    EQ(usk_sendto(q, "to dgram", 8, 0, &a7.sa, a7.len), 8);
    EQ(usk_recv(d, b, sizeof b, 0), 8);
    EQ(delivered[SOCK_DGRAM], 1);
    EQ(delivered[SOCK_SEQPACKET], 1);
    /* Each lists its own, and the stack each once. */
    struct seen of_dgram = { 0 }, of_seq = { 0 };
    EQ(usk_for_each_sock(reg, see, &of_dgram), 0);
    EQ(usk_for_each_sock(other, see, &of_seq), 0);
    EQ(of_dgram.n, 1);
    EQ(of_dgram.port[0], 7);
    EQ(of_seq.n, 1);
    EQ(of_seq.port[0], 8);
    EQ(usk_sock_list(stack, NULL, 0, sizeof(usk_sock_entry_t)), 2);
    OK(usk_close(d));
    /* That one's rcv is needed as long as the other is there. */
    EQ(usk_unregister(reg), -EBUSY);
    OK(usk_bind(second, &a7.sa, a7.len));
    OK(usk_close(q));
    EQ(usk_unregister(other), -EBUSY);
    OK(usk_close(second));
    EQ(usk_unregister(other), 0);
    EQ(usk_unregister(reg), 0);
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

static int one_family(usk_plugin_t *plugin)
{
    usk_proto four = mine_table("MINE", SOCK_DGRAM), six = mine_table("MINE-SIX", SOCK_DGRAM);
    four.flags = USK_PROTO_V4;
    four.rcv = mine_rcv;
    six.flags = USK_PROTO_V6;
    six.ports_of = "MINE";
    six.obj_size = 64;
    int r = usk_proto_register(plugin, &four, NULL, &reg);
    return r < 0 ? r : usk_proto_register(plugin, &six, NULL, &other);
}

static int is_of(void *arg, usk_sock_t *sk)
{
    usk_owned_t o;
    EQ(usk_lock_sock(sk, &o), 0);
    CHECK(usk_owned_reg(&o) == arg);
    usk_release_sock(&o);
    return 0;
}

/* One type, but a table for each family, which need not have the same private memory. */
static void families(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", one_family);
    CHECK(plugin != NULL);
    int four[2], six = open_mine(stack, AF_INET6, SOCK_DGRAM, 6);
    for (int i = 0; i < 2; i++)
        four[i] = open_mine(stack, AF_INET, SOCK_DGRAM, i + 1);
    struct seen of_four = { 0 }, of_six = { 0 };
    EQ(usk_for_each_sock(reg, see, &of_four), 0);
    EQ(of_four.n, 2);
    EQ(of_four.port[0] + of_four.port[1], 3);
    EQ(usk_for_each_sock(other, see, &of_six), 0);
    EQ(of_six.n, 1);
    EQ(of_six.port[0], 6);
    EQ(usk_for_each_sock(reg, is_of, reg), 0);
    EQ(usk_for_each_sock(other, is_of, other), 0);
    EQ(usk_sock_list(stack, NULL, 0, sizeof(usk_sock_entry_t)), 3);
    OK(usk_close(six));
    OK(usk_close(four[0]));
    OK(usk_close(four[1]));
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

/* ---- children that leave the table while the library looks at them --------------------------------------------- */

static struct {
    usk_sock_t *child[2]; /* only the port table holds them */
    int destroyed, delivered;
} leaving;

static void leaving_rcv(usk_reg_t *r, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const uint16_t *h = usk_skb_header(skb, HEADER);
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h[0]);
    to.port = ntohs(h[1]);
    leaving.delivered = usk_deliver_all(r, skb, &to, &from);
    usk_skb_free(skb);
}

static void leaving_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    usk_skb_free(skb);
    EQ(usk_unhash(o), 0);
}

static void leaving_destroy(usk_owned_t *o)
{
    (void)o;
    leaving.destroyed++;
}

/* Makes two connections that nobody accepts, from ports 9 and 10. */
static int leaving_listen(usk_owned_t *o, uint32_t backlog)
{
    EQ(usk_listen_start(o, backlog), 0);
    for (int i = 0; i < COUNT(leaving.child); i++) {
        usk_sock_t *child = leaving.child[i] = usk_new_child(o);
        usk_addr_t local, peer;
        usk_owned_t c;
        EQ(usk_ends(o, &local, NULL), 0);
        peer = local;
        peer.port = (uint16_t)(9 + i);
        EQ(usk_lock_sock(child, &c), 0);
        EQ(usk_set_ends(&c, &local, &peer), 0);
        EQ(usk_set_state(&c, 1), 0);
        EQ(usk_hash(&c), 0);
        usk_release_sock(&c);
        usk_sock_put(child);
    }
    return 0;
}

static int leaving_init(usk_plugin_t *plugin)
{
    usk_proto t = mine_table("MINE", SOCK_DGRAM), l = mine_table("MINE-CONN", SOCK_STREAM);
    t.rcv = leaving_rcv;
    l.flags |= USK_PROTO_CONNECTIONS;
    l.ports_of = "MINE";
    l.listen = leaving_listen;
    l.backlog_rcv = leaving_backlog_rcv;
    l.destroy = leaving_destroy;
    int r = usk_proto_register(plugin, &t, NULL, &reg);
    return r < 0 ? r : usk_proto_register(plugin, &l, NULL, &other);
}

/* Takes both out of the table, whichever sock comes first; `arg`: what to return. */
static int take_out(void *arg, usk_sock_t *sk)
{
    (void)sk;
    for (int i = 0; i < COUNT(leaving.child); i++) {
        usk_owned_t o;
        EQ(usk_lock_sock(leaving.child[i], &o), 0);
        EQ(usk_unhash(&o), 0);
        usk_release_sock(&o);
    }
    return *(int *)arg;
}

/* The library's reference is the last one then, and its end is that of usk_sock_put: destroy runs. */
static void leave(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", leaving_init);
    CHECK(plugin != NULL);
    int l = open_mine(stack, AF_INET, SOCK_STREAM, 7), stop = -EINTR;
    OK(usk_listen(l, 4));
    leaving.destroyed = 0;
    EQ(usk_for_each_sock(other, take_out, &stop), -EINTR);
    EQ(leaving.destroyed, 2);

    /* Here a packet makes each leave. */
    leaving.destroyed = 0;
    OK(usk_listen(l, 4));
    struct addr to = at("127.0.0.1", 7);
    for (int i = 0; i < COUNT(leaving.child); i++) {
        int from = open_mine(stack, AF_INET, SOCK_DGRAM, 9 + i);
        leaving.delivered = 0;
        EQ(usk_sendto(from, "x", 1, 0, &to.sa, to.len), 1);
        EQ(leaving.delivered, 1);
        EQ(leaving.destroyed, i + 1);
        OK(usk_close(from));
    }
    OK(usk_close(l));
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin("proto_ports");
    iteration();
    ports();
    families();
    leave();
    return done();
}

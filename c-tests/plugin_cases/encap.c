/* UDP ports of a plug-in (usk_udp_open), and protocols whose number is socket(2)'s alone: what is refused, what a
 * datagram tells, how one is sent, errors, fragments, and the port's end. */
#include "common.h"
#include "messages.h"
#include <poll.h>
#include <usersock/over.h>
#include <usersock/sim.h>

enum { NUMBER = 65535, PORT = 4500 };

static usk_reg_t *reg;
static usk_udp_t *udp;

/* What the port has got; any thread of the stack may bring it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int datagrams, errors;
    usk_packet_info_t info;
    unsigned char bytes[8000];
    size_t len;
    usk_icmp_error_t error;
} got = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void on_datagram(usk_udp_t *from, usk_skb_t *skb, const usk_packet_info_t *info)
{
    pthread_mutex_lock(&got.lock);
    got.datagrams++;
    got.info = *info;
    got.len = usk_skb_len(skb);
    EQ(usk_skb_copy(skb, 0, got.bytes, sizeof got.bytes), (long long)got.len);
    /* Its control block is the plug-in's, as that of a new one. */
    for (int i = 0; i < USK_SKB_CB; i++)
        EQ(((char *)usk_skb_cb(skb))[i], 0);
    CHECK(usk_udp_reg(from) == reg);
    CHECK(usk_udp_user(from) == &got);
    pthread_cond_broadcast(&got.more);
    pthread_mutex_unlock(&got.lock);
    /* It can be answered at once, and the packet itself be the answer. */
    usk_tx_info_t tx = { .flags = USK_TX_SRC, .src = info->dst };
    if (got.bytes[0] == 'E')
        EQ(usk_udp_send(from, skb, &info->src, &tx, sizeof tx), 0);
    else
        usk_drop(usk_udp_reg(from), skb, USK_DROP_NO_SOCKET);
}

static void on_error(usk_udp_t *from, const usk_icmp_error_t *error)
{
    (void)from;
    pthread_mutex_lock(&got.lock);
    got.errors++;
    got.error = *error;
    pthread_mutex_unlock(&got.lock);
}

static void wait_for(int datagrams)
{
    pthread_mutex_lock(&got.lock);
    while (got.datagrams < datagrams)
        pthread_cond_wait(&got.more, &got.lock);
    pthread_mutex_unlock(&got.lock);
}

static const usk_udp_ops ops = {
    .version = USK_UDP_VERSION,
    .size = sizeof ops,
    .encap_rcv = on_datagram,
    .encap_err = on_error,
};

static const usk_addr_t loopback = { .family = AF_INET, .port = PORT, .addr = { 127, 0, 0, 1 } };

/* In an operation of the protocol: no packet of IP can be its own. */
static ptrdiff_t no_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    usk_tx_info_t tx = { .flags = 0 };
    usk_packet_info_t info = { .src = loopback, .dst = loopback };
    (void)msg;
    EQ(usk_xmit(o, usk_skb_new(), &loopback), -EOPNOTSUPP);
    EQ(usk_xmit_info(o, usk_skb_new(), &loopback, &tx, sizeof tx), -EOPNOTSUPP);
    EQ(usk_reply(usk_owned_reg(o), &info, usk_skb_new()), -EOPNOTSUPP);
    /* But a datagram of the port can, with the sock owned. */
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_append(skb, "owned", 5), 0);
    return usk_udp_send(udp, skb, &loopback, NULL, 0);
}
static ptrdiff_t no_recv(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return -EAGAIN;
}

static usk_proto table_of(int number)
{
    return (usk_proto){ .version = USK_PROTO_VERSION, .size = sizeof(usk_proto), .name = "ENCAP",
                        .socket_type = SOCK_DGRAM, .protocol = number, .flags = USK_PROTO_V4 | USK_PROTO_V6,
                        .backlog_rcv = free_it, .sendmsg_locked = no_send, .recvmsg_locked = no_recv };
}

static usk_proto asked;
static int init_asked(usk_plugin_t *plugin)
{
    return usk_proto_register(plugin, &asked, &got, &reg);
}

static void numbers(void)
{
    usk_stack_t *stack = usk_stack_new("");
    static const int bad[] = { -1, 0, 65536 };
    for (int i = 0; i < 3; i++) {
        asked = table_of(bad[i]);
        refused_with(usk_plugin_attach(stack, "bad", init_asked), EINVAL, "1 to 65535");
    }
    asked = table_of(256);
    asked.rcv = rcv_free;
    refused_with(usk_plugin_attach(stack, "bad", init_asked), EINVAL, "rcv and err");
    /* As of Linux: below IPPROTO_MAX, 263, a number may be one of a protocol, and from there on none is. */
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 256), EPROTONOSUPPORT);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 262), EPROTONOSUPPORT);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 263), EINVAL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, NUMBER), EINVAL);
    static const int good[] = { 256, 262, 263, NUMBER };
    for (int i = 0; i < 4; i++) {
        asked = table_of(good[i]);
        usk_plugin_t *plugin = usk_plugin_attach(stack, "good", init_asked);
        CHECK(plugin != NULL);
        OK(usk_close((int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, good[i]))));
        OK(usk_close((int)OK(usk_socket_on(stack, AF_INET6, SOCK_DGRAM, good[i]))));
        ERR(usk_socket_on(stack, AF_INET, SOCK_STREAM, good[i]), good[i] < 263 ? EPROTONOSUPPORT : EINVAL);
        unloaded(plugin);
    }
    usk_stack_free(stack);
}

static int open_port(usk_plugin_t *plugin)
{
    asked = table_of(NUMBER);
    int r = usk_proto_register(plugin, &asked, &got, &reg);
    return r < 0 ? r : usk_udp_open(reg, &loopback, &ops, &got, &udp);
}

static void refusals(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "encap", open_port);
    usk_udp_t *other = NULL;
    usk_addr_t a = loopback;
    usk_udp_ops bad = ops;
    CHECK(plugin != NULL);
    EQ(usk_udp_open(reg, &loopback, &ops, NULL, &other), -EADDRINUSE);
    a.addr[0] = 10;
    EQ(usk_udp_open(reg, &a, &ops, NULL, &other), -EADDRNOTAVAIL);
    a.family = AF_UNIX;
    EQ(usk_udp_open(reg, &a, &ops, NULL, &other), -EAFNOSUPPORT);
    EQ(usk_udp_open(reg, NULL, &ops, NULL, &other), -EFAULT);
    EQ(usk_udp_open(NULL, &loopback, &ops, NULL, &other), -EINVAL);
    bad.encap_rcv = NULL;
    EQ(usk_udp_open(reg, &loopback, &bad, NULL, &other), -EINVAL);
    CHECK(strstr(usk_config_error(), "encap_rcv is null"));
    bad.version = 99;
    EQ(usk_udp_open(reg, &loopback, &bad, NULL, &other), -EINVAL);
    CHECK(other == NULL);
    /* Any free port; and a port of both families. */
    a = (usk_addr_t){ .family = AF_INET6 };
    EQ(usk_udp_open(reg, &a, &ops, &got, &other), 0);
    EQ(usk_udp_source(other, NULL, &a), 0);
    CHECK(a.port != 0 && a.port != PORT && a.family == AF_INET6);
    EQ(usk_udp_source(other, &loopback, &a), 0);
    EQ(memcmp(a.addr, loopback.addr, 16), 0);
    EQ(listed(stack, IPPROTO_UDP), 2);

    usk_tx_info_t tx = { .flags = USK_TX_FLOW_LABEL, .flow_label = 1 };
    EQ(usk_udp_send(udp, usk_skb_new(), &loopback, &tx, sizeof tx), -EINVAL);
    EQ(usk_udp_send(udp, usk_skb_new(), NULL, NULL, 0), -EFAULT);
    EQ(usk_udp_send(NULL, usk_skb_new(), &loopback, NULL, 0), -EINVAL);
    EQ(usk_udp_send(udp, NULL, &loopback, NULL, 0), -EINVAL);
    a = loopback, a.port = 0;
    EQ(usk_udp_send(udp, usk_skb_new(), &a, NULL, 0), -EINVAL);
    a = loopback, a.addr[0] = 99;
    EQ(usk_udp_send(udp, usk_skb_new(), &a, NULL, 0), -ENETUNREACH);
    EQ(usk_udp_mtu(udp, &a), -ENETUNREACH);
    EQ(usk_udp_mtu(udp, &loopback), 65535 - 28);
    static char long_one[65536];
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_append(skb, long_one, 65508), 0);
    EQ(usk_udp_send(udp, skb, &loopback, NULL, 0), -EMSGSIZE);
    /* Of IP's packets alone: the datagram has a checksum of its own. */
    skb = usk_skb_new();
    memset(usk_skb_push(skb, 8), 0, 8);
    EQ(usk_skb_csum_partial(skb, 0, 6, 0), 0);
    EQ(usk_udp_send(udp, skb, &loopback, NULL, 0), -EINVAL);
    EQ(usk_udp_close(other), 0);
    EQ(listed(stack, IPPROTO_UDP), 1);
    /* The other is closed by the end of the stack. */
    usk_stack_free(stack);
}

static void datagrams(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "encap", open_port);
    struct addr to = at("127.0.0.1", PORT), mine = at("127.0.0.1", 7000), from = { .len = sizeof from.in6 };
    char buf[64];
    int u = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0)), tos = 0x2a, ttl = 7, one = 1;
    got.datagrams = got.errors = 0;
    OK(usk_bind(u, &mine.sa, mine.len));
    OK(usk_setsockopt(u, IPPROTO_IP, IP_TOS, &tos, sizeof tos));
    OK(usk_setsockopt(u, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl));
    EQ(usk_sendto(u, "hello", 5, 0, &to.sa, to.len), 5);
    wait_for(1);
    EQ(got.len, 5);
    EQ(memcmp(got.bytes, "hello", 5), 0);
    EQ(got.info.src.port, 7000);
    EQ(got.info.dst.port, PORT);
    EQ(memcmp(got.info.src.addr, loopback.addr, 16), 0);
    EQ(got.info.tos, 0x2a);
    EQ(got.info.ttl, 7);
    EQ(got.info.protocol, IPPROTO_UDP);
    EQ(got.info.ifindex, 1);
    EQ(got.info.not_unicast, 0);
    EQ(counter(stack, "UdpInDatagrams"), 1);
    /* An empty one is one too; and one comes back. */
    EQ(usk_sendto(u, "", 0, 0, &to.sa, to.len), 0);
    wait_for(2);
    EQ(got.len, 0);
    EQ(usk_sendto(u, "Echo", 4, 0, &to.sa, to.len), 4);
    EQ(usk_recvfrom(u, buf, sizeof buf, 0, &from.sa, &from.len), 4);
    EQ(memcmp(buf, "Echo", 4), 0);
    EQ(memcmp(&from.in, &to.in, from.len), 0);

    /* TOS and TTL of one packet. */
    usk_addr_t peer = loopback;
    peer.port = 7000;
    usk_tx_info_t tx = { .flags = USK_TX_TOS | USK_TX_TTL, .tos = 0x11, .ttl = 33 };
    usk_skb_t *skb = usk_skb_new();
    OK(usk_setsockopt(u, IPPROTO_IP, IP_RECVTOS, &one, sizeof one));
    OK(usk_setsockopt(u, IPPROTO_IP, IP_RECVTTL, &one, sizeof one));
    EQ(usk_skb_append(skb, "marked", 6), 0);
    EQ(usk_udp_send(udp, skb, &peer, &tx, sizeof tx), 0);
    char control[128];
    struct iovec v = { buf, sizeof buf };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    EQ(usk_recvmsg(u, &m, 0), 6);
    int seen = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_type == IP_TOS)
            seen += *(unsigned char *)CMSG_DATA(c) == 0x11;
        if (c->cmsg_type == IP_TTL)
            seen += *(int *)(void *)CMSG_DATA(c) == 33;
    }
    EQ(seen, 2);

    /* In use, it stays, and so does its port; then both go. */
    int s = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, NUMBER));
    int before = got.datagrams;
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    EQ(usk_sendto(s, "x", 1, 0, &to.sa, to.len), 0);
    wait_for(before + 1);
    EQ(got.len, 5);
    EQ(memcmp(got.bytes, "owned", 5), 0);
    OK(usk_close(s));
    unloaded(plugin);
    EQ(listed(stack, IPPROTO_UDP), 1);
    OK(usk_connect(u, &to.sa, to.len));
    EQ(usk_send(u, "late", 4, 0), 4);
    ERR(usk_recv(u, buf, sizeof buf, 0), ECONNREFUSED);
    EQ(got.datagrams, before + 1);
    OK(usk_close(u));
    usk_stack_free(stack);
}

/* On a link of 1500 bytes. */
static int open_any(usk_plugin_t *plugin)
{
    const usk_addr_t any = { .family = AF_INET6, .port = PORT };
    asked = table_of(NUMBER);
    int r = usk_proto_register(plugin, &asked, &got, &reg);
    return r < 0 ? r : usk_udp_open(reg, &any, &ops, &got, &udp);
}

static void on_a_link(void)
{
    struct talk t = talk_new(1, "delay=1ms", NULL, NULL);
    CHECK(usk_plugin_attach(t.client, "encap", open_any) != NULL);
    static unsigned char bytes[4000], back[4001];
    usk_tx_info_t df = { .flags = USK_TX_DF };
    got.errors = 0;
    for (int v6 = 0; v6 <= 1; v6++) {
        int family = v6 ? AF_INET6 : AF_INET, mtu = 1500 - 8 - (v6 ? 40 : 20);
        struct addr a = { .len = sizeof a.storage };
        OK(usk_link_addr(t.link, 1, family, 9000, &a.sa, &a.len));
        usk_addr_t to = { .family = (uint16_t)family, .port = 9000 };
        memcpy(to.addr, v6 ? (void *)&a.in6.sin6_addr : (void *)&a.in.sin_addr, v6 ? 16 : 4);
        int u = (int)OK(usk_socket_on(t.server, family, SOCK_DGRAM, 0));
        OK(usk_bind(u, &a.sa, a.len));
        EQ(usk_udp_mtu(udp, &to), mtu);
        /* Fragments, unless they are refused. */
        uint64_t frags = counter(t.client, v6 ? "Ip6FragOKs" : "IpFragOKs");
        fill(bytes, 1, sizeof bytes);
        usk_skb_t *skb = usk_skb_new();
        EQ(usk_skb_append(skb, bytes, sizeof bytes), 0);
        EQ(usk_udp_send(udp, usk_skb_share(skb), &to, &df, sizeof df), -EMSGSIZE);
        EQ(usk_udp_send(udp, skb, &to, NULL, 0), 0);
        EQ(usk_recv(u, back, sizeof back, 0), sizeof bytes);
        EQ(memcmp(bytes, back, sizeof bytes), 0);
        EQ(counter(t.client, v6 ? "Ip6FragOKs" : "IpFragOKs"), frags + 1);
        skb = usk_skb_new();
        EQ(usk_skb_append(skb, bytes, (size_t)mtu), 0);
        EQ(usk_udp_send(udp, skb, &to, &df, sizeof df), 0);
        EQ(usk_recv(u, back, sizeof back, 0), mtu);
        EQ(counter(t.client, v6 ? "Ip6FragOKs" : "IpFragOKs"), frags + 1);
        OK(usk_close(u));
        /* Nobody is there any more. */
        skb = usk_skb_new();
        EQ(usk_skb_append(skb, bytes, 100), 0);
        EQ(usk_udp_send(udp, skb, &to, NULL, 0), 0);
        EQ(usk_world_run_until_idle(t.world, 1000 * S), 1);
        EQ(got.errors, v6 + 1);
        EQ(got.error.error, ECONNREFUSED);
        EQ(got.error.src.port, PORT);
        EQ(got.error.dst.port, 9000);
        EQ(memcmp(got.error.dst.addr, to.addr, 16), 0);
        EQ(got.error.icmp_type, v6 ? 1 : 3);
        EQ(got.error.quoted_len, 100);
    }
    talk_free(&t);
}

/* Unregistered by another thread while the work runs that uses the port. */
static void *blocks[40][8];
static int worked;

static void *ends(void *r)
{
    EQ(usk_unregister(r), 0);
    /* What was freed is something else now. */
    for (size_t i = 0; i < COUNT(blocks); i++)
        for (size_t k = 0; k < COUNT(blocks[i]); k++) {
            blocks[i][k] = malloc(16 * (i + 1));
            memset(blocks[i][k], 0xa5, 16 * (i + 1));
        }
    return NULL;
}

static void on_work(usk_reg_t *r, uint32_t bits)
{
    pthread_t thread;
    EQ(bits, 4);
    CHECK(pthread_create(&thread, NULL, ends, r) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(usk_udp_user(udp) == &got);
    CHECK(usk_udp_reg(udp) == r);
    EQ(usk_udp_send(udp, usk_skb_new(), &loopback, NULL, 0), -EINVAL);
    EQ(usk_udp_mtu(udp, &loopback), -EINVAL);
    EQ(usk_udp_close(udp), -ENOENT);
    worked++;
}

static int open_working(usk_plugin_t *plugin)
{
    asked = table_of(NUMBER);
    asked.work = on_work;
    int r = usk_proto_register(plugin, &asked, &got, &reg);
    return r < 0 ? r : usk_udp_open(reg, &loopback, &ops, &got, &udp);
}

static void ended_in_use(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *stack = usk_world_host(world, "host", NULL);
    CHECK(usk_plugin_attach(stack, "encap", open_working) != NULL);
    EQ(usk_reg_defer(reg, 0), 0);
    EQ(usk_world_run_until_idle(world, 1000 * S), 1);
    EQ(worked, 0);
    EQ(usk_reg_defer(reg, 4), 0);
    EQ(usk_world_run_until_idle(world, 1000 * S), 1);
    EQ(worked, 1);
    EQ(listed(stack, IPPROTO_UDP), 0);
    for (size_t i = 0; i < COUNT(blocks); i++)
        for (size_t k = 0; k < COUNT(blocks[i]); k++)
            free(blocks[i][k]);
    OK(usk_world_free(world));
    usk_stack_free(stack);
}

int main(void)
{
    begin("encap");
    numbers();
    refusals();
    datagrams();
    on_a_link();
    ended_in_use();
    return done();
}

/* QUICK, a transport over one UDP port: connections of many sockets on it, loss, an address that changes, errors, and
 * the port's beginning and end. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include "messages.h"
#include "wire.h"
#include <poll.h>

enum { QUICK = 300, UDP_PORT = 4433, HEADERS = 20 + 8 + 20 };

static const char *dir;

static void both_families(void)
{
    usk_stack_t *stack = usk_stack_new("");
    struct addr any = at("127.0.0.1", 0);
    ERR(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, QUICK), EINVAL); /* as of any number from IPPROTO_MAX on */
    usk_plugin_t *plugin = load(stack, dir, "quick");
    CHECK(plugin != NULL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, QUICK + 1), EINVAL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, QUICK), EINVAL);
    for (int v6 = 0; v6 <= 1; v6++) {
        struct pair p = pair_new(stack, v6 ? "::1" : "127.0.0.1", QUICK);
        struct addr name = { .len = sizeof name.in6 };
        char buf[100];
        OK(usk_getpeername(p.c, &name.sa, &name.len));
        EQ(memcmp(&name.in6, &p.at.in6, p.at.len), 0);
        EQ(usk_send(p.c, "hello", 5, 0), 5);
        EQ(usk_recv(p.s, buf, sizeof buf, 0), 5);
        EQ(memcmp(buf, "hello", 5), 0);
        EQ(usk_send(p.s, "and back", 8, 0), 8);
        EQ(usk_recv(p.c, buf, sizeof buf, 0), 8);
        ERR(usk_recv(p.c, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
        struct pollfd f = { .fd = p.c, .events = POLLIN | POLLOUT };
        EQ(usk_poll(&f, 1, 0), 1);
        EQ(f.revents, POLLOUT);
        /* One UDP sock for all of them. */
        EQ(listed(stack, IPPROTO_UDP), 1);
        EQ(listed(stack, QUICK), 3);
        EQ(usk_plugin_unload(plugin), -1);
        EQ(errno, EBUSY);
        pair_close(&p);
        /* Nobody listens: the listener is gone, and the plug-in at the other end says so. */
        int c = (int)OK(usk_socket_on(stack, any.sa.sa_family, SOCK_SEQPACKET, QUICK));
        struct addr to = at("127.0.0.1", 81);
        ERR(usk_connect(c, &to.sa, to.len), ECONNREFUSED);
        OK(usk_close(c));
    }
    /* The port is the plug-in's, until it is unloaded. */
    int u = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    any = at("127.0.0.1", UDP_PORT);
    ERR(usk_bind(u, &any.sa, any.len), EADDRINUSE);
    unloaded(plugin);
    EQ(listed(stack, IPPROTO_UDP), 0);
    OK(usk_bind(u, &any.sa, any.len));
    CHECK(load(stack, dir, "quick") == NULL);
    EQ(errno, EADDRINUSE);
    CHECK(strstr(usk_config_error(), "UDP port 4433"));
    OK(usk_close(u));
    CHECK(load(stack, dir, "quick") != NULL);
    usk_stack_free(stack);
}

/* Eight connections at a time on a link that loses, duplicates and reorders. */
static void bad_link(uint64_t seed)
{
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/quick.so", dir);
    const char *link = "rate=20mbit delay=10ms loss=4% duplicate=2% reorder=2% reorder-by=5ms";
    struct talk t = talk_new(seed, link, config, config);
    t.protocol = QUICK;
    t.connections = 8;
    t.messages = 300;
    t.longest = 1500 - HEADERS;
    talk(&t);
    usk_link_stats_t stats;
    OK(usk_link_stats(t.link, 0, &stats, sizeof stats));
    CHECK(stats.lost > 50 && stats.duplicated > 20);
    CHECK(counter(t.client, "QuickResent") >= stats.lost / 4);
    EQ(counter(t.client, "IpFragOKs"), 0);
    EQ(listed(t.client, IPPROTO_UDP), 1);
    EQ(listed(t.server, QUICK), 0);
    talk_free(&t);
}

/* What a message may have is what the path takes: QUICK does not fragment, but asks. */
static void sizes(void)
{
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/quick.so", dir);
    struct talk t = talk_new(1, "delay=1ms", config, config);
    unsigned char buf[2000] = "";
    int l = (int)OK(usk_socket_on(t.server, AF_INET, SOCK_SEQPACKET, QUICK));
    int c = (int)OK(usk_socket_on(t.client, AF_INET, SOCK_SEQPACKET, QUICK));
    ERR(usk_send(c, buf, 1, MSG_NOSIGNAL), ENOTCONN);
    OK(usk_bind(l, &t.at.sa, t.at.len));
    OK(usk_listen(l, 1));
    OK(usk_connect(c, &t.at.sa, t.at.len));
    ERR(usk_connect(c, &t.at.sa, t.at.len), EISCONN);
    int s = (int)OK(usk_accept(l, NULL, NULL));
    ERR(usk_send(c, buf, 1500 - HEADERS + 1, 0), EMSGSIZE);
    EQ(usk_send(c, buf, 1500 - HEADERS, 0), 1500 - HEADERS);
    EQ(usk_recv(s, buf, sizeof buf, 0), 1500 - HEADERS);
    /* Sixteen messages may be under way: the acknowledgement of that one is. */
    int sent = 1;
    while (usk_send(c, buf, 10, MSG_DONTWAIT) == 10)
        sent++;
    EQ(errno, EAGAIN);
    EQ(sent, 16);
    struct pollfd f = { .fd = c, .events = POLLOUT };
    EQ(usk_poll(&f, 1, 0), 0);
    EQ(usk_poll(&f, 1, 1000), 1);
    /* A peer that is gone: eight times it is tried. */
    OK(usk_link_set(t.link, "loss=100%"));
    EQ(usk_send(c, buf, 10, 0), 10);
    ERR(usk_recv(c, buf, sizeof buf, 0), ETIMEDOUT);
    CHECK((uint64_t)usk_world_now(t.world) > 10 * S);
    OK(usk_close(c));
    OK(usk_close(s));
    OK(usk_close(l));
    EQ(usk_world_run_until_idle(t.world, 1000 * S), 1);
    talk_free(&t);

    /* At a host without QUICK nothing is at the UDP port: ICMP says so, and encap_err tells the sock. */
    t = talk_new(1, "delay=1ms", config, NULL);
    c = (int)OK(usk_socket_on(t.client, AF_INET, SOCK_SEQPACKET, QUICK));
    ERR(usk_connect(c, &t.at.sa, t.at.len), ECONNREFUSED);
    EQ(usk_world_now(t.world), 2 * MS);
    OK(usk_close(c));
    talk_free(&t);
}

/* ---- a NAT on the way that forgets, once it has been told to ---- */

static bool forgot;
enum { NEW_PORT = 5555 };

static bool nat(int from, unsigned char *p, size_t len)
{
    unsigned char *port = p + 20 + (from == 0 ? 0 : 2); /* the client's */
    int is = port[0] << 8 | port[1];
    if (len < 28 || p[0] != 0x45 || p[9] != IPPROTO_UDP)
        return true;
    if (from == 1 && is != (forgot ? NEW_PORT : UDP_PORT))
        return false;
    int to = from == 1 ? UDP_PORT : forgot ? NEW_PORT : UDP_PORT;
    port[0] = (unsigned char)(to >> 8), port[1] = (unsigned char)to;
    p[26] = p[27] = 0; /* no checksum, which IPv4 allows */
    return true;
}

static int wire_init(usk_plugin_t *plugin)
{
    usk_device_ops kind = wire_kind();
    return usk_device_register(plugin, &kind, NULL, NULL);
}

static usk_stack_t *wired(int n, usk_plugin_t **quick)
{
    char config[64];
    usk_stack_t *stack = usk_stack_new("");
    snprintf(config, sizeof config, "device=wire:%d,addr=10.0.0.%d/24", n, n + 1);
    CHECK(usk_plugin_attach(stack, "wire", wire_init) != NULL);
    OK(usk_device_add(stack, config));
    *quick = load(stack, dir, "quick");
    CHECK(*quick != NULL);
    return stack;
}

static void moving(void)
{
    usk_plugin_t *quick[2];
    usk_stack_t *client = wired(0, &quick[0]), *server = wired(1, &quick[1]);
    struct addr to = at("10.0.0.2", 80);
    char buf[16];
    int l = (int)OK(usk_socket_on(server, AF_INET, SOCK_SEQPACKET, QUICK));
    int c = (int)OK(usk_socket_on(client, AF_INET, SOCK_SEQPACKET, QUICK));
    wire.tap = nat;
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    OK(usk_connect(c, &to.sa, to.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    for (int i = 0; i < 4; i++) {
        pthread_mutex_lock(&wire.lock);
        forgot = i >= 2;
        pthread_mutex_unlock(&wire.lock);
        EQ(usk_send(c, "ping", 4, 0), 4);
        EQ(usk_recv(s, buf, sizeof buf, 0), 4);
        EQ(usk_send(s, "pong", 4, 0), 4);
        EQ(usk_recv(c, buf, sizeof buf, 0), 4);
    }
    EQ(counter(server, "QuickMoved"), 1);
    EQ(counter(client, "QuickMoved"), 0);
    OK(usk_close(c));
    OK(usk_close(s));
    OK(usk_close(l));
    unloaded(quick[0]);
    unloaded(quick[1]);
    usk_stack_free(client);
    usk_stack_free(server);
}

int main(int argc, char **argv)
{
    begin("quick");
    CHECK(argc == 2);
    dir = argv[1];
    both_families();
    for (uint64_t seed = 1; seed <= 3; seed++)
        bad_link(seed);
    sizes();
    moving();
    return done();
}

/* FRAME, messages over inner socks of TCP: both families, a bad link, a receiver that does not read, peers that talk
 * nonsense, and what is left at the end. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include "messages.h"
#include <netinet/tcp.h>
#include <poll.h>

enum { FRAME = 301, MAX_MESSAGE = 65536 };

static const char *dir;

static void both_families(usk_stack_t *stack)
{
    static char buf[MAX_MESSAGE + 1], out[MAX_MESSAGE + 1];
    for (int v6 = 0; v6 <= 1; v6++) {
        struct pair p = pair_new(stack, v6 ? "::1" : "127.0.0.1", FRAME);
        struct addr name = { .len = sizeof name.in6 }, other = { .len = sizeof other.in6 };
        OK(usk_getpeername(p.s, &name.sa, &name.len));
        OK(usk_getsockname(p.c, &other.sa, &other.len));
        EQ(name.len, other.len);
        EQ(memcmp(&name.in6, &other.in6, name.len), 0);
        for (size_t len = 1; len <= MAX_MESSAGE; len *= 16) {
            fill((unsigned char *)out, (int)len, len);
            EQ(usk_send(p.c, out, len, 0), (long long)len);
            EQ(usk_recv(p.s, buf, sizeof buf, 0), (long long)len);
            EQ(memcmp(buf, out, len), 0);
        }
        ERR(usk_send(p.c, out, MAX_MESSAGE + 1, 0), EMSGSIZE);
        EQ(usk_send(p.s, "ab", 2, 0), 2);
        EQ(usk_send(p.s, "cde", 3, 0), 3);
        EQ(usk_recv(p.c, buf, 1, MSG_TRUNC), 2);
        EQ(usk_recv(p.c, buf, 9, 0), 3);
        ERR(usk_recv(p.c, buf, 9, MSG_DONTWAIT), EAGAIN);
        /* Options of TCP are those of the sock inside. */
        int one = 1;
        OK(usk_setsockopt(p.c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
        ERR(usk_setsockopt(p.c, IPPROTO_TCP, 9999, &one, sizeof one), ENOPROTOOPT);
        if (!v6)
            EQ(listed(stack, IPPROTO_TCP), 3);
        OK(usk_shutdown(p.c, SHUT_WR));
        EQ(usk_recv(p.s, buf, 9, 0), 0);
        EQ(usk_send(p.s, "last", 4, 0), 4);
        EQ(usk_recv(p.c, buf, 9, 0), 4);
        pair_close(&p);
        int c = (int)OK(usk_socket_on(stack, p.at.sa.sa_family, SOCK_SEQPACKET, FRAME));
        ERR(usk_connect(c, &p.at.sa, p.at.len), ECONNREFUSED);
        ERR(usk_listen(c, 1), EINVAL);
        OK(usk_close(c));
    }
}

/* Who does not read stops the sender, by TCP's window, with bounded memory; and all is there afterwards. */
static void slow_reader(usk_stack_t *stack)
{
    struct pair p = pair_new(stack, "127.0.0.1", FRAME);
    static unsigned char out[30000], buf[30000];
    long sent = 0, got = 0;
    for (struct pollfd f = { .fd = p.c, .events = POLLOUT }; usk_poll(&f, 1, 0) == 1; sent++) {
        fill(out, (int)sent, sizeof out);
        EQ(usk_send(p.c, out, sizeof out, MSG_DONTWAIT), sizeof out);
    }
    ERR(usk_send(p.c, out, 1, MSG_DONTWAIT), EAGAIN);
    CHECK(sent > 10 && sent < 2000);
    for (; got < sent; got++) {
        EQ(usk_recv(p.s, buf, sizeof buf, 0), sizeof buf);
        fill(out, (int)got, sizeof out);
        EQ(memcmp(out, buf, sizeof out), 0);
    }
    /* The room is told of. */
    struct pollfd f = { .fd = p.c, .events = POLLOUT };
    EQ(usk_poll(&f, 1, -1), 1);
    EQ(usk_send(p.c, out, 5, 0), 5);
    EQ(usk_recv(p.s, buf, sizeof buf, 0), 5);
    pair_close(&p);
}

/* What a program of plain TCP says to it. */
static void nonsense(usk_stack_t *stack)
{
    static const struct {
        const char *bytes;
        size_t len;
        int want;
    } said[] = {
        { "\0\1\0\1", 4, EPROTO },          /* longer than a message may be */
        { "\0\0\0\3ab", 6, ECONNRESET },    /* and no more */
        { "\0\0", 2, ECONNRESET },
        { "\0\0\0\2ab", 6, 0 },
    };
    struct addr to = at("127.0.0.1", 81);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, FRAME));
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char buf[8];
        int c = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
        OK(usk_connect(c, &to.sa, to.len));
        int s = (int)OK(usk_accept(l, NULL, NULL));
        EQ(usk_send(c, said[i].bytes, said[i].len, 0), (long long)said[i].len);
        OK(usk_close(c));
        if (said[i].want) {
            ERR(usk_recv(s, buf, sizeof buf, 0), said[i].want);
            ERR(usk_send(s, buf, 1, MSG_NOSIGNAL), EPIPE);
        } else {
            EQ(usk_recv(s, buf, sizeof buf, 0), 2);
        }
        OK(usk_close(s));
    }
    OK(usk_close(l));
}

static void bad_link(uint64_t seed)
{
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/frame.so", dir);
    const char *link = "rate=20mbit delay=10ms loss=2% reorder=2% reorder-by=5ms duplicate=1%";
    struct talk t = talk_new(seed, link, config, config);
    t.protocol = FRAME;
    t.connections = 3;
    t.messages = 60;
    t.longest = MAX_MESSAGE;
    talk(&t);
    usk_link_stats_t stats;
    OK(usk_link_stats(t.link, 0, &stats, sizeof stats));
    CHECK(stats.lost > 20);
    CHECK(counter(t.client, "TcpRetransSegs") > 0);
    EQ(counter(t.client, "PluginInnerSocksLeft"), 0);
    EQ(counter(t.server, "PluginInnerSocksLeft"), 0);
    talk_free(&t);
}

/* A socket that is closed with half a message in it goes on sending; one whose peer is gone gives up. */
static void lingering(void)
{
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/frame.so", dir);
    for (int cut = 0; cut <= 1; cut++) {
        struct talk t = talk_new(1, "rate=1mbit delay=10ms", config, config);
        static unsigned char out[60000], buf[60001];
        int l = (int)OK(usk_socket_on(t.server, AF_INET, SOCK_SEQPACKET, FRAME));
        int c = (int)OK(usk_socket_on(t.client, AF_INET, SOCK_SEQPACKET, FRAME));
        OK(usk_bind(l, &t.at.sa, t.at.len));
        OK(usk_listen(l, 1));
        OK(usk_connect(c, &t.at.sa, t.at.len));
        int s = (int)OK(usk_accept(l, NULL, NULL)), n = 0;
        int small = 5000;
        OK(usk_setsockopt(c, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
        fill(out, 1, sizeof out);
        while (usk_send(c, out, sizeof out, MSG_DONTWAIT) == sizeof out)
            n++;
        EQ(errno, EAGAIN);
        OK(usk_close(c));
        if (cut) {
            OK(usk_link_set(t.link, "loss=100%"));
        } else {
            for (int i = 0; i < n; i++)
                EQ(usk_recv(s, buf, sizeof buf, 0), sizeof out);
            EQ(memcmp(buf, out, sizeof out), 0);
            EQ(usk_recv(s, buf, sizeof buf, 0), 0);
        }
        OK(usk_close(s));
        OK(usk_close(l));
        EQ(usk_world_run_until_idle(t.world, 10000 * S), 1);
        EQ(counter(t.client, "PluginInnerSocksLeft"), 0);
        talk_free(&t);
    }
}

int main(int argc, char **argv)
{
    begin("frame");
    CHECK(argc == 2);
    dir = argv[1];
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = load(stack, dir, "frame");
    CHECK(plugin != NULL);
    both_families(stack);
    slow_reader(stack);
    nonsense(stack);
    EQ(counter(stack, "PluginInnerSocksLeft"), 0);
    unloaded(plugin);
    usk_stack_free(stack);
    for (uint64_t seed = 1; seed <= 3; seed++)
        bad_link(seed);
    lingering();
    return done();
}

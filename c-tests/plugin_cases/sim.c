/* Worlds in virtual time (usersock/sim.h): two hosts and a bad link between them, blocking calls in scripted threads
 * and without, a protocol from a plug-in on it, captures that are the same to the byte for the same seed.
 * ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include "two_hosts.h"
#include "../plugins/rdp.h"

/* A client, `a`, and a server, `b`, of the same configuration. */
static struct two_hosts net_new(uint64_t seed, const char *link, const char *config)
{
    struct two_hosts n = two_hosts(seed, link, config, config);
    EQ(n.to_b.len, sizeof(struct sockaddr_in));
    return n;
}

static usk_link_stats_t stats_of(usk_link_t *link, int end)
{
    usk_link_stats_t s;
    OK(usk_link_stats(link, end, &s, sizeof s));
    return s;
}

/* A call that blocks steps the world: one thread does everything, and time is that of the link. */
static void one_thread(void)
{
    struct two_hosts n = net_new(1, "delay=50ms", NULL);
    int l = (int)OK(usk_socket_on(n.b, AF_INET, SOCK_STREAM, 0));
    int c = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &n.to_b.sa, n.to_b.len));
    OK(usk_listen(l, 1));
    EQ(usk_world_now(n.world), 0);
    OK(usk_connect(c, &n.to_b.sa, n.to_b.len));
    EQ(usk_world_now(n.world), 100 * MS);
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_world_now(n.world), 150 * MS);
    char buf[8];
    EQ(usk_send(c, "ping", 4, 0), 4);
    EQ(usk_recv(s, buf, sizeof buf, 0), 4);
    EQ(usk_world_now(n.world), 200 * MS);

    /* Timeouts are of virtual time. */
    struct timeval tv = { .tv_sec = 1000 };
    OK(usk_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    ERR(usk_recv(s, buf, sizeof buf, 0), EAGAIN);
    EQ(usk_world_now(n.world), 1000 * S + 200 * MS);
    struct pollfd p[2] = { { .fd = s, .events = POLLIN }, { .fd = l, .events = POLLIN } };
    EQ(usk_poll(p, 2, 5000), 0);
    EQ(usk_world_now(n.world), 1005 * S + 200 * MS);
    fd_set in;
    FD_ZERO(&in);
    FD_SET(s, &in);
    tv.tv_sec = 2;
    EQ(usk_select(s + 1, &in, NULL, NULL, &tv), 0);
    EQ(tv.tv_sec, 0);
    EQ(tv.tv_usec, 0);
    int ep = (int)OK(usk_epoll_create1(0));
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = s };
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev));
    EQ(usk_epoll_wait(ep, &ev, 1, 3000), 0);
    EQ(usk_world_now(n.world), 1010 * S + 200 * MS);
    EQ(usk_send(c, "pong", 4, 0), 4);
    EQ(usk_epoll_wait(ep, &ev, 1, 3000), 1);
    EQ(usk_world_now(n.world), 1010 * S + 250 * MS);
    EQ(usk_recv(s, buf, sizeof buf, 0), 4);
    OK(usk_close(ep));
    tv.tv_sec = 2;
    FD_SET(s, &in);
    EQ(usk_send(c, "ping", 4, 0), 4);
    EQ(usk_select(s + 1, &in, NULL, NULL, &tv), 1);
    EQ(tv.tv_sec, 1);
    EQ(tv.tv_usec, 900000); /* a round trip: Nagle's algorithm has waited for what acknowledges the last one */
    EQ(usk_recv(s, buf, sizeof buf, 0), 4);

    /* What nothing can bring. */
    tv.tv_sec = tv.tv_usec = 0;
    OK(usk_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
    ERR(usk_recv(s, buf, sizeof buf, 0), EINTR);
    ERR(usk_accept(l, NULL, NULL), EINTR);
    OK(usk_close(c));
    EQ(usk_recv(s, buf, sizeof buf, 0), 0);
    OK(usk_close(s));
    OK(usk_close(l));
    end_two_hosts(&n);
}

static int has_arrived(void *arg)
{
    return stats_of(arg, 0).received >= 3;
}

/* A wait that nothing can end is over at once, and is not restarted as if a signal had ended it: of a program without
 * handlers, which would be for ever. */
static void in_vain(void)
{
    struct two_hosts n = net_new(1, NULL, NULL);
    int u = (int)OK(usk_socket_on(n.b, AF_INET, SOCK_DGRAM, 0));
    char buf[8];
    OK(usk_bind(u, &n.to_b.sa, n.to_b.len));
    ERR(usk_recv(u, buf, sizeof buf, 0), EINTR);
    struct pollfd p = { .fd = u, .events = POLLIN };
    ERR(usk_poll(&p, 1, -1), EINTR);
    EQ(usk_world_now(n.world), 0);
    OK(usk_close(u));
    end_two_hosts(&n);
}

/* Running by a time, by a span, to the end, and until a condition holds. */
static void running(void)
{
    struct two_hosts n = net_new(1, "rate=8kbit delay=1s", NULL);
    OK(usk_world_run_until(n.world, 5 * S));
    EQ(usk_world_now(n.world), 5 * S);
    OK(usk_world_run_until(n.world, 1 * S));
    EQ(usk_world_now(n.world), 5 * S);
    EQ(usk_world_run_until_idle(n.world, 9 * S), 1);
    EQ(usk_world_now(n.world), 5 * S);
    int c = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_DGRAM, 0));
    int s = (int)OK(usk_socket_on(n.b, AF_INET, SOCK_DGRAM, 0));
    OK(usk_bind(s, &n.to_b.sa, n.to_b.len));
    OK(usk_connect(c, &n.to_b.sa, n.to_b.len));
    /* Of 100 bytes with their headers: 100 ms each. */
    char buf[72] = "";
    for (int i = 0; i < 5; i++)
        EQ(usk_send(c, buf, sizeof buf, 0), sizeof buf);
    EQ(usk_world_run_until_true(n.world, has_arrived, n.link, 6 * S), 0);
    EQ(usk_world_now(n.world), 6 * S);
    EQ(usk_world_run_until_true(n.world, has_arrived, n.link, 9 * S), 1);
    EQ(usk_world_now(n.world), 6 * S + 300 * MS);
    EQ(stats_of(n.link, 0).received, 3);
    EQ(usk_world_run_until_true(n.world, has_arrived, n.link, 1 * S), 1);
    EQ(usk_world_run_until_idle(n.world, 6 * S + 400 * MS), 0);
    OK(usk_world_run_for(n.world, 50 * MS));
    EQ(usk_world_now(n.world), 6 * S + 450 * MS);
    EQ(usk_world_run_until_idle(n.world, 60 * S), 1);
    EQ(usk_world_now(n.world), 6 * S + 500 * MS);
    usk_link_stats_t all = stats_of(n.link, 0);
    EQ(all.sent, 5);
    EQ(all.sent_bytes, 500);
    EQ(all.received_bytes, 500);
    EQ(stats_of(n.link, 1).sent, 0);
    for (int i = 0; i < 5; i++)
        EQ(usk_recv(s, buf, sizeof buf, MSG_DONTWAIT), sizeof buf);
    OK(usk_close(c));
    OK(usk_close(s));
    end_two_hosts(&n);
}

#define BYTES 300000

/* The two ends of a transfer. */
struct play {
    struct two_hosts *net;
    int type, protocol;
    uint64_t done_at; /* when the client had its answer */
};

static void *serve(void *arg)
{
    struct play *p = arg;
    struct addr at = p->net->to_b;
    int l = (int)OK(usk_socket_on(p->net->b, AF_INET, p->type, p->protocol));
    OK(usk_bind(l, &at.sa, at.len));
    OK(usk_listen(l, 1));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    static unsigned char buf[65536];
    uint64_t got = 0, wrong = 0;
    for (long n; got < BYTES; got += (uint64_t)n) {
        n = OK(usk_recv(s, buf, sizeof buf, 0));
        if (n <= 0)
            break;
        for (long i = 0; i < n; i++)
            wrong += buf[i] != pattern(1, got + (uint64_t)i);
    }
    EQ(got, BYTES);
    EQ(wrong, 0);
    EQ(usk_send(s, "thanks", 6, MSG_NOSIGNAL), 6);
    /* The client closes first. */
    EQ(usk_recv(s, buf, sizeof buf, 0), 0);
    OK(usk_close(s));
    OK(usk_close(l));
    return NULL;
}

static void *ask(void *arg)
{
    struct play *p = arg;
    int c = (int)OK(usk_socket_on(p->net->a, AF_INET, p->type, p->protocol));
    OK(usk_connect(c, &p->net->to_b.sa, p->net->to_b.len));
    unsigned char buf[2000];
    for (uint64_t sent = 0; sent < BYTES;) {
        size_t len = BYTES - sent < sizeof buf ? (size_t)(BYTES - sent) : sizeof buf;
        for (size_t i = 0; i < len; i++)
            buf[i] = pattern(1, sent + i);
        long n = OK(usk_send(c, buf, len, MSG_NOSIGNAL));
        if (n <= 0)
            break;
        sent += (uint64_t)n;
    }
    EQ(usk_recv(c, buf, sizeof buf, 0), 6);
    p->done_at = (uint64_t)usk_world_now(p->net->world);
    OK(usk_close(c));
    return (void *)(uintptr_t)p->done_at;
}

static void read_file(const char *name, unsigned char **bytes, size_t *len)
{
    FILE *f = fopen(name, "rb");
    CHECK(f != NULL);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    *bytes = malloc(*len + 1);
    EQ(fread(*bytes, 1, *len, f), *len);
    fclose(f);
    unlink(name);
}

/* What a run left behind. */
struct record {
    unsigned char *pcap[2];
    size_t len[2];
    usk_link_stats_t stats[2];
    uint64_t took, again;
};

static struct record record_of(uint64_t seed, int type, int protocol, const char *config, const char *again)
{
    struct record r;
    char file[2][64];
    struct two_hosts n = net_new(seed,
                           "rate=10mbit delay=20ms queue=64kb ecn=16kb loss=2% reorder=2% reorder-by=5ms duplicate=3%",
                           config);
    for (int i = 0; i < 2; i++) {
        snprintf(file[i], sizeof file[i], "/tmp/usersock-sim-%d-%d.pcap", (int)getpid(), i);
        OK(usk_link_pcap_start(n.link, i, file[i]));
        ERR(usk_link_pcap_start(n.link, i, file[i]), EBUSY);
    }
    struct play p = { .net = &n, .type = type, .protocol = protocol };
    usk_thread_t *server = usk_world_thread(n.world, 0, serve, &p);
    usk_thread_t *client = usk_world_thread(n.world, 1 * MS, ask, &p);
    CHECK(server && client);
    void *result = NULL;
    OK(usk_thread_join(client, &result));
    EQ((uintptr_t)result, p.done_at);
    CHECK(p.done_at > 240 * MS); /* 300 kB at 10 Mbit/s */
    OK(usk_thread_join(server, NULL));
    EQ(usk_world_run_until_idle(n.world, 600 * S), 1);
    r.took = p.done_at;
    r.again = counter(n.a, again);
    for (int i = 0; i < 2; i++)
        r.stats[i] = stats_of(n.link, i);
    OK(usk_link_pcap_stop(n.link, 0));
    ERR(usk_link_pcap_stop(n.link, 0), EINVAL);
    /* The other capture ends with the world. */
    end_two_hosts(&n);
    for (int i = 0; i < 2; i++)
        read_file(file[i], &r.pcap[i], &r.len[i]);
    return r;
}

static void record_free(struct record *r)
{
    free(r->pcap[0]);
    free(r->pcap[1]);
}

static bool same(const struct record *a, const struct record *b)
{
    for (int i = 0; i < 2; i++)
        if (a->len[i] != b->len[i] || memcmp(a->pcap[i], b->pcap[i], a->len[i]) != 0)
            return false;
    return a->took == b->took;
}

static void repeatable(int type, int protocol, const char *config, const char *again)
{
    struct record a = record_of(7, type, protocol, config, again), b = record_of(7, type, protocol, config, again),
                  c = record_of(8, type, protocol, config, again);
    CHECK(same(&a, &b));
    CHECK(!same(&a, &c));
    CHECK(a.len[0] > BYTES && a.len[1] > BYTES);
    usk_link_stats_t s = a.stats[0];
    CHECK(s.lost > 0 && s.reordered > 0 && s.duplicated > 0);
    EQ(s.corrupted, 0);
    EQ(s.received, s.sent - s.lost - s.overflowed + s.duplicated);
    CHECK(a.again >= s.lost / 2);
    /* TCP sends ECN-capable packets, which a queue marks; RDP's are not. */
    EQ(s.marked > 0, type == SOCK_STREAM);
    record_free(&a);
    record_free(&b);
    record_free(&c);
}

/* A thread that changes the link: for two seconds nothing passes. */
static void *cut(void *arg)
{
    struct two_hosts *n = arg;
    OK(usk_link_set(n->link, "loss=100%"));
    OK(usk_world_run_for(n->world, 2 * S));
    OK(usk_link_set(n->link, "rate=10mbit delay=20ms"));
    return NULL;
}

static void changing(void)
{
    struct two_hosts n = net_new(1, "rate=10mbit delay=20ms", NULL);
    struct play p = { .net = &n, .type = SOCK_STREAM };
    CHECK(usk_world_thread(n.world, 0, serve, &p) != NULL);
    usk_thread_t *client = usk_world_thread(n.world, 0, ask, &p);
    usk_thread_t *cutter = usk_world_thread(n.world, 150 * MS, cut, &n);
    OK(usk_thread_join(client, NULL));
    OK(usk_thread_join(cutter, NULL));
    CHECK(p.done_at > 2150 * MS && p.done_at < 10 * S);
    CHECK(stats_of(n.link, 0).lost > 0);
    CHECK(counter(n.a, "TcpExtTCPTimeouts") > 0);
    EQ(usk_world_run_until_idle(n.world, 600 * S), 1);
    end_two_hosts(&n);
}

int main(int argc, char **argv)
{
    begin("sim");
    CHECK(argc == 2);
    in_vain();
    one_thread();
    running();
    repeatable(SOCK_STREAM, 0, "sysctl.net.ipv4.tcp_ecn=1", "TcpRetransSegs");
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/rdp.so", argv[1]);
    repeatable(SOCK_SEQPACKET, IPPROTO_RDP, config, "RdpRetransSegs");
    changing();
    return done();
}

/* A TCP beside the library's (usersock/tcp.h, USK_TCP_STACK): plugins/rfc6675.c chosen by option, by listener and by
 * sysctl, its detection alone at work on a bad link, and live connections that change hands. In virtual time. ARGV[1]
 * is the folder of the built plug-ins. */
#include "common.h"
#include "two_hosts.h"
#include <usersock/tcp.h>

enum { BYTES = 600000, CHUNK = 20000, DUP_THRESH = USK_TCP_OWN_OPTIONS, STATS };
struct rfc6675_stats {
    uint32_t lost, retrans, timeouts, rto_us;
};

static char folder[400];
static unsigned char stream[BYTES];

/* The plug-in is in `a`. */
static struct two_hosts net_new(uint64_t seed, const char *link, const char *more)
{
    char config[1000];
    snprintf(config, sizeof config, "plugin=%s/rfc6675.so%s", folder, more);
    return two_hosts(seed, link, config, NULL);
}

static int listening(usk_stack_t *stack, const struct addr *at)
{
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &at->sa, at->len));
    OK(usk_listen(l, 4));
    return l;
}

/* Reads to the end, every byte compared. */
static void read_all(int s)
{
    static unsigned char buf[65536];
    long got = 0, n;
    while ((n = OK(usk_recv(s, buf, sizeof buf, 0))) > 0) {
        CHECK(got + n <= BYTES && memcmp(buf, stream + got, (size_t)n) == 0);
        got += n;
    }
    EQ(got, BYTES);
}

/* Takes all from who connects. */
static void *sink(void *l)
{
    int s = (int)OK(usk_accept(*(int *)l, NULL, NULL));
    read_all(s);
    OK(usk_close(s));
    return NULL;
}

/* Connects and takes all. */
static void *fetch(void *arg)
{
    struct two_hosts *n = arg;
    int s = (int)OK(usk_socket_on(n->b, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(s, &n->to_a.sa, n->to_a.len));
    read_all(s);
    OK(usk_close(s));
    return NULL;
}

static void choose(int s, const char *name)
{
    OK(usk_setsockopt(s, IPPROTO_TCP, USK_TCP_STACK, name, (socklen_t)strlen(name)));
}

static void has(int s, const char *name)
{
    char buf[32] = "?";
    socklen_t len = sizeof buf;
    OK(usk_getsockopt(s, IPPROTO_TCP, USK_TCP_STACK, buf, &len));
    EQ(len, 16);
    CHECK(strcmp(buf, name) == 0);
}

enum how { BY_OPTION, BY_LISTENER, BY_SYSCTL };

/* `a` sends; returns how many segments it found lost. */
static uint64_t transfer(enum how how, uint64_t seed, const char *link, const char *more, int sack)
{
    struct two_hosts n = net_new(seed, link, more);
    int l = listening(how == BY_LISTENER ? n.a : n.b, how == BY_LISTENER ? &n.to_a : &n.to_b), c;
    usk_thread_t *t;
    if (how == BY_LISTENER) {
        choose(l, "rfc6675");
        t = usk_world_thread(n.world, 0, fetch, &n);
        c = (int)OK(usk_accept(l, NULL, NULL));
    } else {
        t = usk_world_thread(n.world, 0, sink, &l);
        c = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_STREAM, 0));
        if (how == BY_OPTION)
            choose(c, "rfc6675");
        OK(usk_connect(c, &n.to_b.sa, n.to_b.len));
    }
    has(c, "rfc6675");
    uint64_t opening = counter(n.a, "TcpRetransSegs"); /* the handshake's are the library's */
    EQ(usk_send(c, stream, BYTES, MSG_NOSIGNAL), BYTES);
    OK(usk_shutdown(c, SHUT_WR));
    OK(usk_thread_join(t, NULL));

    /* What was sent again was sent again by it, and found lost by it. */
    struct rfc6675_stats stats;
    socklen_t len = sizeof stats;
    OK(usk_getsockopt(c, IPPROTO_TCP, STATS, &stats, &len));
    EQ(len, sizeof stats);
    EQ(stats.lost, counter(n.a, "Rfc6675Lost"));
    EQ(stats.retrans, counter(n.a, "Rfc6675Retrans"));
    EQ(counter(n.a, "TcpRetransSegs") - opening, stats.retrans);
    EQ(counter(n.a, "TcpExtTCPTimeouts"), stats.timeouts);
    EQ(counter(n.a, "TcpExtTCPLossProbes"), 0);
    EQ(counter(n.a, sack ? "TcpExtTCPSackRecovery" : "TcpExtTCPRenoRecovery") > 0, stats.lost > stats.timeouts);
    OK(usk_close(c));
    OK(usk_close(l));
    EQ(usk_world_run_until_idle(n.world, 600000 * MS), 1);
    end_two_hosts(&n);
    return stats.lost;
}

static void chosen(void)
{
    const char *bad = "rate=20mbit delay=10ms loss=2% reorder=1% duplicate=1%";
    EQ(transfer(BY_OPTION, 1, "rate=20mbit delay=10ms", "", 1), 0);
    CHECK(transfer(BY_OPTION, 2, bad, "", 1) > 5);
    CHECK(transfer(BY_LISTENER, 3, bad, "", 1) > 5);
    CHECK(transfer(BY_SYSCTL, 4, bad, ",sysctl.net.ipv4.tcp_stack=rfc6675", 1) > 5);
    CHECK(transfer(BY_OPTION, 5, bad, ",sysctl.net.ipv4.tcp_sack=0", 0) > 5);
}

/* A connection changes hands between all chunks of a transfer, with losses outstanding. */
static void live(uint64_t seed)
{
    struct two_hosts n = net_new(seed, "rate=20mbit delay=10ms loss=3%", "");
    int l = listening(n.b, &n.to_b), switched = 0, refused = 0;
    usk_thread_t *t = usk_world_thread(n.world, 0, sink, &l);
    int c = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_STREAM, 0)), small = 40000;
    OK(usk_setsockopt(c, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    OK(usk_connect(c, &n.to_b.sa, n.to_b.len));
    has(c, "default");
    for (int at = 0, other = 1; at < BYTES; at += CHUNK) {
        EQ(usk_send(c, stream + at, CHUNK, MSG_NOSIGNAL), CHUNK);
        const char *to = other ? "rfc6675" : "default";
        if (usk_setsockopt(c, IPPROTO_TCP, USK_TCP_STACK, to, (socklen_t)strlen(to)) == 0) {
            has(c, to);
            other = !other;
            switched++;
        } else {
            EQ(errno, EBUSY); /* in Loss it does not give a connection away */
            has(c, "rfc6675");
            refused++;
        }
    }
    OK(usk_shutdown(c, SHUT_WR));
    OK(usk_thread_join(t, NULL));
    CHECK(switched >= 10 && switched + refused == BYTES / CHUNK);
    CHECK(counter(n.a, "Rfc6675Retrans") > 0);
    CHECK(counter(n.a, "Rfc6675Retrans") < counter(n.a, "TcpRetransSegs")); /* and the library the others */
    OK(usk_close(c));
    OK(usk_close(l));
    EQ(usk_world_run_until_idle(n.world, 600000 * MS), 1);
    end_two_hosts(&n);
}

/* The option's shapes and errors; the choice outlives a connection; the options behind it; in use. */
static void option(void)
{
    struct two_hosts n = net_new(1, "delay=1ms", "");
    int s = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_STREAM, 0)), v = 5;
    socklen_t len = sizeof v;
    char buf[16];
    has(s, "default");
    choose(s, "default");
    ERR(usk_setsockopt(s, IPPROTO_TCP, USK_TCP_STACK, "nobody", 6), ENOENT);
    ERR(usk_setsockopt(s, IPPROTO_TCP, USK_TCP_STACK, "", 0), EINVAL);
    ERR(usk_setsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, sizeof v), ENOPROTOOPT);
    ERR(usk_getsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, &len), ENOPROTOOPT);
    ERR(usk_sysctl_set(n.a, "net.ipv4.tcp_stack", "nobody"), ENOENT);
    OK(usk_sysctl_get(n.a, "net.ipv4.tcp_available_stacks", buf, sizeof buf));
    CHECK(strcmp(buf, "rfc6675 default") == 0);
    OK(usk_sysctl_set(n.a, "net.ipv4.tcp_stack", "rfc6675"));
    int t = (int)OK(usk_socket_on(n.a, AF_INET, SOCK_STREAM, 0));
    has(t, "rfc6675");
    has(s, "default"); /* it is older */
    OK(usk_close(t));
    OK(usk_sysctl_set(n.a, "net.ipv4.tcp_stack", "default"));
    choose(s, "rfc6675\0and more");
    has(s, "rfc6675");

    /* Before the connection is there the alternative has not begun, and has no options. */
    ERR(usk_setsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, sizeof v), ENOPROTOOPT);
    int l = listening(n.b, &n.to_b);
    OK(usk_connect(s, &n.to_b.sa, n.to_b.len));
    OK(usk_setsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, sizeof v));
    ERR(usk_setsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, 2), EINVAL);
    v = 256;
    ERR(usk_setsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, sizeof v), EINVAL);
    OK(usk_getsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, &len));
    EQ(v, 5);
    ERR(usk_setsockopt(s, IPPROTO_TCP, STATS + 1, &v, sizeof v), ENOPROTOOPT);
    struct sockaddr off = { .sa_family = AF_UNSPEC };
    OK(usk_connect(s, &off, sizeof off));
    has(s, "rfc6675");
    ERR(usk_getsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, &len), ENOPROTOOPT);
    OK(usk_connect(s, &n.to_b.sa, n.to_b.len));
    OK(usk_getsockopt(s, IPPROTO_TCP, DUP_THRESH, &v, &len));
    EQ(v, 3);
    OK(usk_close(s));
    OK(usk_close(l));
    end_two_hosts(&n);
}

int main(int argc, char **argv)
{
    begin("tcp_stack");
    CHECK(argc > 1);
    snprintf(folder, sizeof folder, "%s", argv[1]);
    for (unsigned i = 0; i < BYTES; i++)
        stream[i] = (unsigned char)(i * 2654435761u >> 24);
    option();
    chosen();
    for (uint64_t seed = 2; seed <= 5; seed++)
        live(seed);
    return done();
}

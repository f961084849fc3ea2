/* Congestion control from C: selected by name, in use while a connection has it, clamped to its bounds, and isolated
 * when it is broken. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include <usersock/cong.h>
#include <usersock/hooks.h>

static usk_stack_t *stack;

/* ---- an algorithm of this program's own ---- */

static struct {
    int init, release, ssthresh, cong_avoid, pkts_acked, in_ack_event, cwnd_event, set_state, cong_control;
    int rate_samples;
    int priv_is_clean;
} calls;
static uint32_t wild_cwnd;
static usk_reg_t *reg;

struct priv {
    uint64_t word[16];
};

static void count_init(usk_tcp_t *tp, void *priv)
{
    struct priv *p = priv;
    calls.init++;
    calls.priv_is_clean = ((uintptr_t)priv & 15) == 0;
    for (int i = 0; i < COUNT(p->word); i++) {
        if (p->word[i] != 0)
            calls.priv_is_clean = 0;
        p->word[i] = 0x5555;
    }
    if (tp->mss_cache == 0 || tp->snd_cwnd == 0)
        calls.priv_is_clean = 0;
}
static void count_release(usk_tcp_t *tp, void *priv)
{
    (void)tp;
    calls.release += ((struct priv *)priv)->word[15] == 0x5555;
}
static uint32_t count_ssthresh(usk_tcp_t *tp, void *priv)
{
    calls.ssthresh++;
    return usk_tcp_reno_ssthresh(tp, priv);
}
static void count_cong_avoid(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t acked)
{
    calls.cong_avoid++;
    usk_tcp_reno_cong_avoid(tp, priv, ack, acked);
    if (wild_cwnd != 1)
        tp->snd_cwnd = wild_cwnd;
    /* Not ours to write: ignored. */
    tp->snd_una = 77;
    tp->packets_out = 0;
    tp->mss_cache = 0;
    /* The registration's counter and sysctl, if any. */
    usk_count(tp->reg, 0, (uint64_t)usk_sysctl(tp->reg, 0));
    CHECK(tp->reg == reg && usk_user(tp->reg) == &calls);
    EQ(usk_count(tp->reg, 1, 1), -EINVAL);
    tp->reg = NULL;
    tp->sk = NULL;
}
static void count_pkts_acked(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    (void)tp, (void)priv;
    calls.pkts_acked += sample->pkts_acked > 0;
}
static void count_in_ack_event(usk_tcp_t *tp, void *priv, uint32_t flags)
{
    (void)tp, (void)priv, (void)flags;
    calls.in_ack_event++;
}
static void count_cwnd_event(usk_tcp_t *tp, void *priv, int event)
{
    (void)tp, (void)priv;
    calls.cwnd_event += event == USK_CA_EVENT_TX_START;
}
static void count_cong_control(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t flags, const usk_rate_sample_t *rs)
{
    (void)priv, (void)ack, (void)flags;
    calls.cong_control++;
    calls.rate_samples += rs->delivered > 0 && rs->interval_us > 0;
    tp->snd_cwnd = 20;
    tp->pacing_rate = 1u << 30;
}
static size_t give_info(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    (void)tp, (void)priv, (void)len;
    memcpy(to, "information", 12);
    return 12;
}
static size_t give_too_much(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    (void)tp, (void)priv, (void)to;
    return len + 1;
}

static usk_cong_ops ops_of(const char *name)
{
    usk_cong_ops t = {
        .version = USK_CONG_VERSION,
        .size = sizeof t,
        .name = name,
        .flags = USK_CONG_NON_RESTRICTED,
        .priv_size = sizeof(struct priv),
        .init = count_init,
        .release = count_release,
        .ssthresh = count_ssthresh,
        .cong_avoid = count_cong_avoid,
        .pkts_acked = count_pkts_acked,
        .in_ack_event = count_in_ack_event,
        .cwnd_event = count_cwnd_event,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
        .get_info = give_info,
    };
    return t;
}

static const usk_cong_ops *trying;

static int init_plugin(usk_plugin_t *plugin)
{
    return usk_cong_register(plugin, trying, &calls, &reg);
}
static usk_plugin_t *attach(const usk_cong_ops *ops)
{
    trying = ops;
    return usk_plugin_attach(stack, "cong", init_plugin);
}

/* ---- connections ---- */

struct pair {
    int listener, client, server;
};

static struct pair pair_with(const char *algorithm)
{
    struct pair p;
    struct addr a = at("127.0.0.1", 0);
    p.listener = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(p.listener, &a.sa, a.len));
    OK(usk_listen(p.listener, 1));
    OK(usk_getsockname(p.listener, &a.sa, &a.len));
    p.client = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    if (algorithm)
        OK(usk_setsockopt(p.client, IPPROTO_TCP, TCP_CONGESTION, algorithm, strlen(algorithm)));
    OK(usk_connect(p.client, &a.sa, a.len));
    p.server = (int)OK(usk_accept(p.listener, NULL, NULL));
    return p;
}

/* Sends and reads `n` times 64 KiB. False: the sender's socket is broken. */
static bool transfer(struct pair *p, int n)
{
    static char out[65536], in[65536];
    for (int i = 0; i < n; i++) {
        memset(out, 'a' + i % 26, sizeof out);
        for (size_t sent = 0, got = 0; got < sizeof out;) {
            if (sent < sizeof out) {
                ssize_t r = usk_send(p->client, out + sent, sizeof out - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (r < 0 && errno != EAGAIN) {
                    EQ(errno, EIO);
                    return false;
                }
                sent += r > 0 ? (size_t)r : 0;
            }
            ssize_t r = usk_recv(p->server, in + got, sizeof in - got, sent < sizeof out ? MSG_DONTWAIT : 0);
            CHECK(r > 0 || errno == EAGAIN);
            got += r > 0 ? (size_t)r : 0;
        }
        CHECK(memcmp(in, out, sizeof out) == 0);
    }
    return true;
}

static void closed(struct pair *p)
{
    /* The server first: its end, not the client's, would wait in TIME-WAIT. */
    OK(usk_close(p->server));
    OK(usk_close(p->client));
    OK(usk_close(p->listener));
}

static void name_is(int fd, const char *want)
{
    char name[16] = "";
    socklen_t len = sizeof name;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    CHECK(strcmp(name, want) == 0);
}

static void available_is(const char *want)
{
    char list[128];
    OK(usk_sysctl_get(stack, "net.ipv4.tcp_available_congestion_control", list, sizeof list));
    if (strcmp(list, want) != 0)
        printf("available: %s, wanted %s\n", list, want), failures++;
}

static uint32_t cwnd_of(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
    return info.tcpi_snd_cwnd;
}

static void westwood(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/westwood.so", dir);
    usk_plugin_t *plugin = usk_plugin_load(stack, path);
    CHECK(plugin != NULL);
    available_is("westwood reno cubic bbr dctcp");
    CHECK(usk_plugin_load(stack, path) == NULL);
    EQ(errno, EEXIST);
    CHECK(strstr(usk_config_error(), "westwood"));

    ERR(usk_sysctl_set(stack, "net.westwood.min_interval_us", "999"), EINVAL);
    OK(usk_sysctl_set(stack, "net.westwood.min_interval_us", "1000"));
    struct pair p = pair_with("westwood");
    name_is(p.client, "westwood");
    name_is(p.server, "cubic");
    CHECK(transfer(&p, 40));
    uint64_t info[2];
    socklen_t len = sizeof info;
    OK(usk_getsockopt(p.client, IPPROTO_TCP, TCP_CC_INFO, info, &len));
    EQ(len, sizeof info);
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    closed(&p);

    /* As the default: new sockets have it, and keep it. */
    OK(usk_sysctl_set(stack, "net.ipv4.tcp_congestion_control", "westwood"));
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    p = pair_with(NULL);
    name_is(p.client, "westwood");
    name_is(p.server, "westwood");
    OK(usk_sysctl_set(stack, "net.ipv4.tcp_congestion_control", "cubic"));
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    OK(usk_setsockopt(p.client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    CHECK(transfer(&p, 4));
    closed(&p);
    unloaded(plugin);
    available_is("reno cubic bbr dctcp");
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "westwood", 8), ENOENT);
    ERR(usk_sysctl_set(stack, "net.ipv4.tcp_congestion_control", "westwood"), ENOENT);
    OK(usk_close(fd));
}

/* Every function is called when it should be, and the memory is the connection's own. */
static void lifecycle(void)
{
    static const char *const counters[] = { "CountedAvoids", NULL };
    static const usk_sysctl_t sysctls[] = { { "step", 3, 0, 9, NULL }, { 0 } };
    usk_cong_ops ops = ops_of("counted");
    ops.mib_names = counters;
    ops.sysctls = sysctls;
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    memset(&calls, 0, sizeof calls);
    wild_cwnd = 1;
    struct pair p = pair_with("counted");
    EQ(calls.init, 1);
    EQ(calls.priv_is_clean, 1);
    CHECK(transfer(&p, 40));
    uint64_t n;
    CHECK(calls.cong_avoid > 0);
    OK(usk_mib_read(stack, "CountedAvoids", &n));
    EQ(n, 3 * (uint64_t)calls.cong_avoid);
    CHECK(calls.pkts_acked > 0);
    CHECK(calls.in_ack_event > 0);
    CHECK(calls.cwnd_event > 0);
    char info[16] = "";
    socklen_t len = sizeof info;
    OK(usk_getsockopt(p.client, IPPROTO_TCP, TCP_CC_INFO, info, &len));
    EQ(len, 12);
    CHECK(strcmp(info, "information") == 0);
    EQ(usk_unregister(reg), -EBUSY);
    /* Away and back again: released, and begun anew. */
    OK(usk_setsockopt(p.client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    EQ(calls.release, 1);
    OK(usk_setsockopt(p.client, IPPROTO_TCP, TCP_CONGESTION, "counted", 7));
    EQ(calls.init, 2);
    CHECK(transfer(&p, 4));
    closed(&p);
    int r;
    while ((r = usk_unregister(reg)) == -EBUSY)
        sched_yield();
    EQ(r, 0);
    EQ(calls.release, 2);
    ERR(usk_mib_read(stack, "CountedAvoids", &n), ENOENT);
    ERR(usk_sysctl_set(stack, "net.counted.step", "4"), ENOENT);
    available_is("reno cubic bbr dctcp");
    unloaded(plugin);
}

/* Invalid windows are clamped; the stream arrives complete. */
static void wild(void)
{
    usk_cong_ops ops = ops_of("wild");
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    static const uint32_t windows[] = { 0, UINT32_MAX, 1u << 31 };
    for (int i = 0; i < COUNT(windows); i++) {
        wild_cwnd = windows[i];
        struct pair p = pair_with("wild");
        CHECK(transfer(&p, 8));
        uint32_t cwnd = cwnd_of(p.client);
        CHECK(cwnd >= 1 && cwnd <= 1u << 30);
        closed(&p);
    }
    unloaded(plugin);

    /* More information than there is room for: that socket is broken, and no other. */
    ops = ops_of("liar");
    ops.get_info = give_too_much;
    wild_cwnd = 1;
    CHECK((plugin = attach(&ops)) != NULL);
    struct pair p = pair_with("liar"), other = pair_with("liar");
    char info[64];
    socklen_t len = sizeof info;
    OK(usk_getsockopt(p.client, IPPROTO_TCP, TCP_CC_INFO, info, &len));
    EQ(len, 0);
    CHECK(!transfer(&p, 1));
    CHECK(transfer(&other, 8));
    closed(&p);
    closed(&other);
    unloaded(plugin);
}

/* ---- invalid numbers ---- */

static struct {
    uint64_t rate;
    uint32_t segs, expand, clamp;
    int edeadlk, fd, ebusy, ops;
    usk_plugin_t *plugin;
} odd;

static void odd_cong_control(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t flags, const usk_rate_sample_t *rs)
{
    (void)priv, (void)ack, (void)flags, (void)rs;
    tp->needs_pacing = 1;
    tp->pacing_rate = odd.rate;
    tp->snd_cwnd = 100;
    tp->snd_cwnd_clamp = odd.clamp;
    /* Its own socket is owned: a call that would wait for it is refused instead. */
    if (odd.fd >= 0) {
        errno = 0;
        odd.edeadlk += usk_setsockopt(odd.fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == -1 && errno == EDEADLK;
        errno = 0;
        odd.edeadlk += usk_send(odd.fd, "x", 1, MSG_DONTWAIT) == -1 && errno == EDEADLK;
        /* It cannot unregister itself either: it is in use. */
        odd.ebusy += usk_unregister(reg) == -EBUSY;
        errno = 0;
        odd.ebusy += usk_plugin_unload(odd.plugin) == -1 && errno == EBUSY;
        odd.ops++;
    }
}
static uint32_t odd_segs(const usk_tcp_t *tp, void *priv)
{
    (void)tp, (void)priv;
    return odd.segs;
}
static uint32_t odd_expand(const usk_tcp_t *tp, void *priv)
{
    (void)tp, (void)priv;
    return odd.expand;
}

static void numbers(void)
{
    static const struct {
        uint64_t rate;
        uint32_t segs, expand, clamp;
        int cwnd;
    } t[] = {
        { 0, 0, 0, UINT32_MAX, 100 },
        { UINT64_MAX, UINT32_MAX, UINT32_MAX, 0, 1 },
        { UINT64_MAX - 1, 65536, 1, 50, 50 },
    };
    usk_cong_ops ops = ops_of("odd");
    ops.cong_avoid = NULL;
    ops.cong_control = odd_cong_control;
    ops.min_tso_segs = odd_segs;
    ops.sndbuf_expand = odd_expand;
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    for (int i = 0; i < COUNT(t); i++) {
        odd.rate = t[i].rate, odd.segs = t[i].segs, odd.expand = t[i].expand, odd.clamp = t[i].clamp, odd.fd = -1;
        struct pair p = pair_with("odd");
        CHECK(transfer(&p, 8));
        EQ(cwnd_of(p.client), t[i].cwnd);
        int sndbuf = get_int(p.client, SOL_SOCKET, SO_SNDBUF);
        CHECK(sndbuf >= 4096 && sndbuf <= 4 << 20);
        closed(&p);
    }
    struct pair p = pair_with("odd");
    odd.plugin = plugin;
    odd.fd = p.client;
    CHECK(transfer(&p, 8));
    CHECK(odd.ops > 0);
    EQ(odd.edeadlk, 2 * odd.ops);
    EQ(odd.ebusy, 2 * odd.ops);
    odd.fd = -1;
    name_is(p.client, "odd");
    closed(&p);
    unloaded(plugin);
}

/* A listener's choice is its children's; where it chose nothing, they have the default of when they come to be. */
static void children(void)
{
    static const char key[] = "net.ipv4.tcp_congestion_control";
    usk_cong_ops ops = ops_of("family");
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    for (int chosen = 0; chosen < 2; chosen++) {
        struct addr a = at("127.0.0.1", 0);
        int listener = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
        if (chosen)
            OK(usk_setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "family", 6));
        OK(usk_bind(listener, &a.sa, a.len));
        OK(usk_listen(listener, 1));
        OK(usk_getsockname(listener, &a.sa, &a.len));
        name_is(listener, chosen ? "family" : "cubic");
        OK(usk_sysctl_set(stack, key, chosen ? "reno" : "family"));
        struct pair p = { .listener = listener };
        p.client = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
        OK(usk_connect(p.client, &a.sa, a.len));
        p.server = (int)OK(usk_accept(listener, NULL, NULL));
        name_is(p.server, "family");
        name_is(p.client, chosen ? "reno" : "family");
        name_is(listener, chosen ? "family" : "cubic");
        CHECK(transfer(&p, 2));
        closed(&p);
        OK(usk_sysctl_set(stack, key, "cubic"));
    }
    unloaded(plugin);
}

static void control(void)
{
    usk_cong_ops ops = ops_of("control");
    ops.cong_avoid = NULL;
    ops.cong_control = count_cong_control;
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    memset(&calls, 0, sizeof calls);
    struct pair p = pair_with("control");
    CHECK(transfer(&p, 40));
    CHECK(calls.cong_control > 0);
    CHECK(calls.rate_samples > 0);
    EQ(cwnd_of(p.client), 20);
    closed(&p);
    unloaded(plugin);
}

/* ---- a hook that knows the path ---- */

static uint32_t base_rtt_at_init, base_rtt_later;

static uint32_t know_the_path(usk_hook_t *h, void *user)
{
    (void)h, (void)user;
    return 700;
}
static void note_base_rtt(usk_tcp_t *tp, void *priv)
{
    (void)priv;
    base_rtt_at_init = tp->base_rtt_us;
}
static void note_it_again(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    (void)priv, (void)sample;
    base_rtt_later = tp->base_rtt_us;
}
static int init_with_hook(usk_plugin_t *plugin)
{
    static const usk_sock_ops hooks = {
        .version = USK_SOCK_OPS_VERSION, .size = sizeof hooks, .name = "path", .base_rtt = know_the_path,
    };
    int r = usk_cong_register(plugin, trying, &calls, &reg);
    return r < 0 ? r : usk_sock_ops_register(plugin, &hooks, NULL, NULL);
}

static void base_rtt(void)
{
    usk_cong_ops ops = ops_of("asks");
    ops.init = note_base_rtt;
    ops.pkts_acked = note_it_again;
    usk_plugin_t *plugin = attach(&ops);
    struct pair p = pair_with("asks");
    CHECK(transfer(&p, 1));
    EQ(base_rtt_at_init, 0);
    closed(&p);
    unloaded(plugin);
    trying = &ops;
    plugin = usk_plugin_attach(stack, "path", init_with_hook);
    CHECK(plugin != NULL);
    p = pair_with("asks");
    CHECK(transfer(&p, 1));
    EQ(base_rtt_at_init, 700);
    EQ(base_rtt_later, 700);
    closed(&p);
    unloaded(plugin);
}

/* One without USK_CONG_NON_RESTRICTED: the stack's owner may choose it, the sysctl names it when it is told to. */
static void restricted(void)
{
    usk_cong_ops ops = ops_of("private");
    ops.flags = 0;
    usk_plugin_t *plugin = attach(&ops);
    CHECK(plugin != NULL);
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    ERR(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nobodys", 7), ENOENT);
    OK(usk_sysctl_set(stack, "net.ipv4.tcp_allowed_congestion_control", "reno cubic bbr private"));
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "private", 7));
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
    OK(usk_close(fd));
    OK(usk_plugin_unload(plugin));
}

static void hostile_tables(void)
{
    usk_cong_ops ops;
#define REFUSED(want, err, ...) (ops = ops_of("bad"), __VA_ARGS__, refused_with(attach(&ops), err, want))
    REFUSED("version 2", EINVAL, ops.version = 2);
    REFUSED("size 8", EINVAL, ops.size = 8);
    REFUSED("size 4000000000", EINVAL, ops.size = 4000000000u);
    REFUSED("name is null", EINVAL, ops.name = NULL);
    REFUSED("1 to 15 printable", EINVAL, ops.name = "");
    REFUSED("1 to 15 printable", EINVAL, ops.name = "sixteen_letters_");
    REFUSED("1 to 15 printable", EINVAL, ops.name = "two words");
    REFUSED("unknown flags", EINVAL, ops.flags = 16);
    REFUSED("without USK_CONG_NEEDS_ECN", EINVAL, ops.flags = USK_CONG_EXACT_ECE);
    REFUSED("priv_size", EINVAL, ops.priv_size = 1025);
    REFUSED("ssthresh is null", EINVAL, ops.ssthresh = NULL);
    REFUSED("undo_cwnd is null", EINVAL, ops.undo_cwnd = NULL);
    REFUSED("cong_avoid and cong_control", EINVAL, ops.cong_avoid = NULL);
    REFUSED("reno", EEXIST, ops.name = "reno");
    trying = NULL;
    CHECK(usk_plugin_attach(stack, "cong", init_plugin) == NULL);
    EQ(errno, EINVAL);
    EQ(usk_unregister(NULL), -EINVAL);
    restricted();
    /* A newer table whose additional members are null is accepted. */
    struct {
        usk_cong_ops ops;
        void *later[4];
    } newer = { .ops = ops_of("newer") };
    newer.ops.size = sizeof newer;
    usk_plugin_t *plugin = attach(&newer.ops);
    CHECK(plugin != NULL);
    OK(usk_plugin_unload(plugin));
    newer.later[3] = &newer;
    CHECK(attach(&newer.ops) == NULL);
    EQ(errno, EINVAL);
    available_is("reno cubic bbr dctcp");
}

int main(int argc, char **argv)
{
    begin("cong");
    CHECK(argc == 2);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    westwood(argv[1]);
    lifecycle();
    wild();
    control();
    numbers();
    children();
    base_rtt();
    hostile_tables();
    usk_stack_free(stack);
    return done();
}

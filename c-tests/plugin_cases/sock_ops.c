/* struct usk_sock_ops: tables that do not fit, every event with its arguments, what a hook may set, wild answers, hooks
 * that come and go inside an event. The tables are this program's own, attached as a plug-in that is linked in. */
#include "common.h"
#include <usersock/hooks.h>

static const usk_sock_ops *trying;
static usk_sock_ops_t *last;
static int cookie;
static usk_stack_t *stack;

static int init_plugin(usk_plugin_t *plugin)
{
    return usk_sock_ops_register(plugin, trying, &cookie, &last);
}

static usk_plugin_t *attach(const usk_sock_ops *table)
{
    trying = table;
    return usk_plugin_attach(stack, "hooks", init_plugin);
}

static usk_sock_ops good(void)
{
    usk_sock_ops t = { .version = USK_SOCK_OPS_VERSION, .size = sizeof t, .name = "hooks" };
    return t;
}

static void pair(int fd[2], int l)
{
    struct addr a = sock_name(l);
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
}

static int listen_here(void)
{
    struct addr a = at("127.0.0.1", 0);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 4));
    return l;
}

/* ---- tables ---- */

static int unused_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)seg, (void)user;
    return 0;
}

static void tables(void)
{
    usk_sock_ops t;
    refused_with(attach(NULL), EINVAL, "null");
#define BAD(change, line) (t = good(), change, refused_with(attach(&t), EINVAL, line))
    BAD(t.version = 2, "version 2");
    BAD(t.size = 8, "size 8");
    BAD(t.size = 1u << 20, "size 1048576");
    BAD(t.name = NULL, "name is null");
    BAD(t.name = "", "1 to 31");
    BAD(t.name = "with.dot", "without dot");
    BAD(t.name = "a name of more than thirty-one bytes", "1 to 31");
    BAD(t.name = "\xff\xfe", "UTF-8");
    BAD(t.hdr_opt_len = unused_len, "go together");
    static const char *const bad[] = { "HooksA", "no blanks", NULL }, *const fine[] = { "HooksA", NULL };
    static const usk_sysctl_t wrong[] = { { "two", 5, 6, 7, NULL }, { 0 } };
    BAD(t.mib_names = bad, "no blanks");
    BAD((t.mib_names = fine, t.sysctls = wrong), "net.hooks.two");
    uint64_t n;
    ERR(usk_mib_read(stack, "HooksA", &n), ENOENT);
    /* A taken name; what the second brought is out again. */
    t = good();
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    t.mib_names = fine;
    refused_with(attach(&t), EEXIST, "hooks");
    ERR(usk_mib_read(stack, "HooksA", &n), ENOENT);
    OK(usk_plugin_unload(p));
    EQ(usk_sock_ops_register(NULL, &t, NULL, NULL), -EINVAL);
    EQ(usk_sock_ops_unregister(NULL), -EINVAL);
}

/* ---- every event ---- */

static int connects, listens, active, passive, states, rtts, timeouts_asked, windows_asked, ecn_asked, parsed, sizes;
static _Atomic int released;
static bool request_seen, syn_seen;
static int last_new;

static void set_all(usk_hook_t *h)
{
    EQ(usk_hook_set_cb_flags(h, 128), -EINVAL);
    EQ(usk_hook_set_cb_flags(h, 256), -EINVAL);
    EQ(usk_hook_set_cb_flags(h, 127), 0);
    EQ(usk_hook_cb_flags(h), 127);
}

static uint32_t timeout_init(usk_hook_t *h, void *user)
{
    CHECK(user == &cookie);
    timeouts_asked++;
    usk_sock_view_t v;
    EQ(usk_hook_view(h, &v, sizeof v), 0);
    if (!v.is_fullsock) {
        /* A request is looked at, not touched. */
        request_seen = true;
        EQ(v.state, 12);
        EQ(v.remote.family, AF_INET);
        EQ(usk_hook_set_value(h, 1), -EINVAL);
        EQ(usk_hook_value(h), 0);
        EQ(usk_hook_set_cb_flags(h, 1), -EINVAL);
        EQ(usk_hook_set_init_cwnd(h, 4), -EINVAL);
        EQ(usk_hook_set_snd_cwnd_clamp(h, 4), -EINVAL);
        EQ(usk_hook_set_rto_min(h, 100000), -EINVAL);
        EQ(usk_hook_set_delack_max(h, 100000), -EINVAL);
        EQ(usk_hook_set_congestion(h, "reno"), -EINVAL);
        EQ(usk_hook_set_save_syn(h, 1), -EINVAL);
    }
    return 0;
}
static uint32_t rwnd_init(usk_hook_t *h, void *user)
{
    (void)h, (void)user;
    windows_asked++;
    return 7;
}
static int needs_ecn(usk_hook_t *h, void *user)
{
    (void)h, (void)user;
    ecn_asked++;
    return 1;
}
static void tcp_connect(usk_hook_t *h, void *user)
{
    CHECK(user == &cookie);
    connects++;
    set_all(h);
    EQ(usk_hook_set_value(h, 77), 0);
    EQ(usk_hook_set_init_cwnd(h, 0), -EINVAL);
    EQ(usk_hook_set_init_cwnd(h, 4), 0);
    EQ(usk_hook_set_snd_cwnd_clamp(h, 0), -EINVAL);
    EQ(usk_hook_set_snd_cwnd_clamp(h, 64), 0);
    EQ(usk_hook_set_rto_min(h, 1), -EINVAL);
    EQ(usk_hook_set_rto_min(h, 300000), -EINVAL);
    EQ(usk_hook_set_rto_min(h, 50000), 0);
    EQ(usk_hook_set_delack_max(h, 1), -EINVAL);
    EQ(usk_hook_set_delack_max(h, 10000), 0);
    EQ(usk_hook_set_congestion(h, "no such"), -ENOENT);
    EQ(usk_hook_set_congestion(h, NULL), -EFAULT);
    EQ(usk_hook_set_congestion(h, "reno"), 0);
    char name[3];
    EQ(usk_hook_congestion(h, name, sizeof name), 4);
    EQ(strcmp(name, "re"), 0);
    EQ(usk_hook_congestion(h, NULL, 0), 4);
    /* Views of older and newer headers. */
    struct {
        usk_sock_view_t v;
        uint64_t future;
    } newer = { .future = 5 };
    EQ(usk_hook_view(h, &newer.v, sizeof newer), 0);
    EQ(newer.future, 0);
    EQ(newer.v.snd_cwnd, 4);
    EQ(newer.v.snd_ssthresh, 64);
    EQ(newer.v.is_fullsock, 1);
    EQ(newer.v.family, AF_INET);
    EQ(newer.v.remote.addr[0], 127);
    newer.v.local.port = 9999;
    EQ(usk_hook_view(h, &newer.v, 0), 0);
    EQ(newer.v.local.port, 9999);
    EQ(usk_hook_view(h, NULL, 8), -EFAULT);
    CHECK(usk_hook_now(h) > 0);
    EQ(usk_hook_count(h, 0, 3), 0);
    EQ(usk_hook_count(h, 1, 3), -EINVAL);
    EQ(usk_hook_sysctl(h, 0), 5);
    EQ(usk_hook_sysctl(h, 1), 0);
}
static void on_listen(usk_hook_t *h, void *user)
{
    (void)user;
    listens++;
    set_all(h);
    EQ(usk_hook_set_save_syn(h, 1), 0);
}
static void on_active(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)user;
    active++;
    EQ(usk_hook_value(h), 77);
    size_t n;
    const uint8_t *mss = usk_find_option(options, len, 2, -1, &n);
    CHECK(mss != NULL);
    EQ(n, 2);
    CHECK(usk_find_option(options, len, 254, 0x1234, &n) == NULL);
    EQ(n, 0);
    CHECK(usk_find_option(options, len, 2, 0x12345, &n) == NULL);
    CHECK(usk_find_option(NULL, 5, 2, -1, &n) == NULL && usk_find_option(options, len, 2, -1, NULL) == NULL);
}
static void on_passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)options, (void)len, (void)user;
    passive++;
    size_t n;
    syn_seen = usk_find_option(syn, syn_len, 2, -1, &n) != NULL;
    /* A child has its listener's flags, and a value of its own. */
    EQ(usk_hook_cb_flags(h), 127);
    EQ(usk_hook_value(h), 0);
}
static void on_state(usk_hook_t *h, int old, int now, void *user)
{
    (void)user;
    states++;
    usk_sock_view_t v;
    EQ(usk_hook_view(h, &v, sizeof v), 0);
    EQ(v.state, old);
    CHECK(now >= 1 && now <= 12 && now != old);
    last_new = now;
}
static void on_rtt(usk_hook_t *h, uint32_t sample_us, uint32_t srtt_us, void *user)
{
    (void)h, (void)sample_us, (void)srtt_us, (void)user;
    rtts++;
}
static void on_parse(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)h, (void)user;
    CHECK((len == 0) == (options == NULL) && len % 4 == 0);
    parsed++;
}
static int on_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)user;
    CHECK(seg->remaining <= 40);
    CHECK(seg->flags == USK_HDR_NO_SEGMENT || (seg->flags >= 0 && seg->flags < 4096));
    CHECK((seg->syn_len == 0) == (seg->syn == NULL));
    sizes++;
    return seg->remaining < 8 ? 0 : 8;
}
static void on_write(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    (void)h, (void)user;
    static const uint8_t nop[2] = { 1, 1 }, short_exp[3] = { 253, 3, 0 }, lies[4] = { 200, 9, 0, 0 };
    static const uint8_t six[6] = { 201, 6, 1, 2, 3, 4 };
    static const uint8_t three[3] = { 202, 3, 1 };
    EQ(seg->remaining, 8);
    EQ(usk_hdr_remaining(w), 8);
    EQ(usk_hdr_store(w, NULL, 4), -EFAULT);
    EQ(usk_hdr_store(w, nop, 0), -EINVAL);
    EQ(usk_hdr_store(w, nop, sizeof nop), -EINVAL);
    EQ(usk_hdr_store(w, short_exp, sizeof short_exp), -EINVAL);
    EQ(usk_hdr_store(w, lies, sizeof lies), -EINVAL);
    EQ(usk_hdr_store(w, six, sizeof six), 0);
    EQ(usk_hdr_store(w, six, sizeof six), -ENOSPC);
    EQ(usk_hdr_store(w, three, sizeof three), -ENOSPC);
    EQ(usk_hdr_remaining(w), 2);
    size_t len = 99;
    CHECK(usk_hdr_own(w, &len) != NULL && len <= 32);
    CHECK(usk_hdr_own(w, NULL) == NULL);
}
static void on_release(void *user)
{
    CHECK(user == &cookie);
    released++;
}

static void events(void)
{
    static const char *const counters[] = { "HooksA", NULL };
    static const usk_sysctl_t sysctls[] = { { "level", 5, 0, 9, "A level." }, { 0 } };
    usk_sock_ops t = good();
    t.mib_names = counters;
    t.sysctls = sysctls;
    t.timeout_init = timeout_init;
    t.rwnd_init = rwnd_init;
    t.needs_ecn = needs_ecn;
    t.tcp_connect = tcp_connect;
    t.listen = on_listen;
    t.active_established = on_active;
    t.passive_established = on_passive;
    t.state = on_state;
    t.rtt = on_rtt;
    t.parse_hdr_opt = on_parse;
    t.hdr_opt_len = on_len;
    t.write_hdr_opt = on_write;
    t.release = on_release;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int l = listen_here(), fd[2];
    EQ(listens, 1);
    pair(fd, l);
    for (int i = 0; i < 4; i++) {
        send_all(fd[0], "there", 5);
        EXPECT(fd[1], "there");
        send_all(fd[1], "back", 4);
        EXPECT(fd[0], "back");
    }
    EQ(connects, 1);
    EQ(active, 1);
    EQ(passive, 1);
    CHECK(request_seen);
    CHECK(syn_seen);
    CHECK(timeouts_asked >= 2);
    CHECK(windows_asked >= 2);
    CHECK(ecn_asked >= 1); /* the server agrees by its sysctl */
    CHECK(rtts > 0);
    CHECK(parsed > 4);
    CHECK(sizes > 8);
    CHECK(states >= 1);
    char name[16];
    socklen_t len = sizeof name;
    OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, name, &len));
    EQ(strcmp(name, "reno"), 0);
    struct tcp_info info;
    len = sizeof info;
    OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, &info, &len));
    CHECK(info.tcpi_options & TCPI_OPT_ECN);
    uint8_t saved[128];
    len = sizeof saved;
    OK(usk_getsockopt(fd[1], IPPROTO_TCP, TCP_SAVED_SYN, saved, &len));
    CHECK(len >= 40);
    uint64_t n;
    OK(usk_mib_read(stack, "HooksA", &n));
    EQ(n, 3);
    OK(usk_close(fd[0]));
    EXPECT_EOF(fd[1]);
    CHECK(last_new != 0);
    /* Out of its registry, in the middle of connections. */
    EQ(released, 0);
    OK(usk_plugin_unload(p));
    EQ(released, 1);
    OK(usk_close(fd[1]));
    OK(usk_close(l));
}

/* ---- wild answers ---- */

static int wild_len, writes;
static void want_all(usk_hook_t *h, void *user)
{
    (void)user;
    EQ(usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT | USK_CB_PARSE_ALL_HDR_OPT), 0);
}
static int wild_hdr_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)seg, (void)user;
    return wild_len;
}
static void wild_write(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    (void)h, (void)seg, (void)user;
    /* More than is there, all of it garbage. */
    uint8_t garbage[64];
    writes++;
    for (int i = 0; i < 256; i++) {
        memset(garbage, i, sizeof garbage);
        usk_hdr_store(w, garbage, sizeof garbage);
    }
}
static uint32_t huge(usk_hook_t *h, void *user)
{
    (void)h, (void)user;
    return UINT32_MAX;
}

static void wild(void)
{
    usk_sock_ops t = good();
    t.tcp_connect = t.listen = want_all;
    t.hdr_opt_len = wild_hdr_len;
    t.write_hdr_opt = wild_write;
    t.timeout_init = t.rwnd_init = t.base_rtt = huge;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int l = listen_here(), fd[2];
    static const int lens[] = { -1, INT32_MIN, INT32_MAX, 1, 41, 40, 3, 0 };
    for (int i = 0; i < COUNT(lens); i++) {
        wild_len = lens[i];
        pair(fd, l);
        send_all(fd[0], "well", 4);
        EXPECT(fd[1], "well");
        close_pair(fd);
    }
    CHECK(writes > 0);
    OK(usk_close(l));
    OK(usk_plugin_unload(p));
}

/* ---- from inside ---- */

static int the_fd, inside, late_events;
static void reenter(usk_hook_t *h, void *user)
{
    (void)h, (void)user;
    inside++;
    /* The program's calls on the sock of the event do not hang. */
    ERR(usk_send(the_fd, "x", 1, 0), EDEADLK);
    ERR(usk_close(the_fd), EDEADLK);
    /* Null, and what is no hook. */
    EQ(usk_hook_set_value(NULL, 1), -EINVAL);
    EQ(usk_hook_view(NULL, NULL, 0), -EINVAL);
    EQ(usk_hook_count(NULL, 0, 1), -EINVAL);
    EQ(usk_hdr_store(NULL, "", 0), -EINVAL);
}
static void leave(usk_hook_t *h, void *user)
{
    (void)user;
    inside++;
    EQ(usk_sock_ops_unregister(last), 0);
    /* The event goes on, with what it was lent. */
    EQ(usk_hook_set_value(h, 5), 0);
    EQ(usk_hook_value(h), 5);
}
static void late(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)h, (void)options, (void)len, (void)user;
    late_events++;
}

static void from_inside(void)
{
    usk_sock_ops t = good();
    t.tcp_connect = reenter;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int l = listen_here();
    struct addr a = sock_name(l);
    the_fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(the_fd, &a.sa, a.len));
    EQ(inside, 1);
    int s = (int)OK(usk_accept(l, NULL, NULL));
    send_all(the_fd, "whole", 5);
    EXPECT(s, "whole");
    OK(usk_close(s));
    OK(usk_close(the_fd));
    OK(usk_plugin_unload(p));

    t = good();
    t.tcp_connect = leave;
    t.active_established = late;
    t.release = on_release;
    released = 0;
    p = attach(&t);
    CHECK(p != NULL);
    int fd[2];
    pair(fd, l);
    EQ(inside, 2);
    EQ(late_events, 0);
    while (released == 0) /* another thread may be about to leave an event */
        sched_yield();
    EQ(released, 1);
    close_pair(fd);
    OK(usk_plugin_unload(p)); /* nothing is left to unregister */
    OK(usk_close(l));
}

int main(void)
{
    begin("sock_ops");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    tables();
    events();
    wild();
    from_inside();
    /* A stack that ends with hooks in it lets them go. */
    usk_sock_ops t = good();
    t.release = on_release;
    released = 0;
    CHECK(attach(&t) != NULL);
    usk_stack_free(stack);
    struct pollfd none = { .fd = -1 };
    while (released == 0) /* another thread may be in the stack still */
        OK(usk_poll(&none, 1, 1));
    return done();
}

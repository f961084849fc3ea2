/* What a protocol may do besides sending and receiving: ICMP errors, drop reasons and log lines of its own, columns in
 * the list of sockets, its own timers and deferred work. What it shows is read from the control socket. ARGV[1] is the
 * folder of the built plug-ins, which is not used. */
#include "common.h"
#include "mine.h"
#include <sys/stat.h>
#include <sys/un.h>
#include <usersock/sim.h>

#define MS 1000000ULL

/* What is to be done with a packet that no sock takes, and what came of it. */
static struct {
    int error, result, drop;
    uint32_t mtu;
    size_t before, after;
    int changed;
} icmp;
static struct {
    uint64_t at[8];
    uint32_t what[8];
    int n;
} fired;

static void answer(usk_reg_t *r, usk_skb_t *skb)
{
    unsigned char first[HEADER], again[HEADER];
    icmp.before = usk_skb_len(skb);
    usk_skb_copy(skb, 0, first, HEADER);
    icmp.result = usk_icmp_send(r, skb, icmp.error, icmp.mtu);
    icmp.after = usk_skb_len(skb);
    usk_skb_copy(skb, 0, again, HEADER);
    icmp.changed = memcmp(first, again, HEADER);
    usk_drop(r, skb, icmp.drop);
}

static void mine_timer(usk_reg_t *r, uint32_t index)
{
    CHECK(fired.n < COUNT(fired.at));
    fired.at[fired.n] = usk_now(r);
    fired.what[fired.n++] = index;
    EQ(usk_reg_timer_at(r, index), 0);
    /* Timer 3 goes on by itself; timer 4 does not fire. */
    if (index == 3 && fired.n < 2) {
        EQ(usk_reg_timer_arm(r, 3, usk_now(r) + 50 * MS), 0);
        EQ(usk_reg_timer_cancel(r, 4), 1);
    }
}

static void mine_work(usk_reg_t *r, uint32_t bits)
{
    CHECK(fired.n < COUNT(fired.at));
    fired.at[fired.n] = usk_now(r);
    fired.what[fired.n++] = 0x100 | bits;
}

static void mine_diag_show(usk_owned_t *o, usk_diag_t *diag)
{
    char value[16];
    usk_sock_info_t info;
    usk_sock_info(o, &info, sizeof info);
    snprintf(value, sizeof value, "%d waits", info.receive_len);
    EQ(usk_diag_column(diag, "queue", value), 0);
    EQ(usk_diag_column(diag, "queue", "twice"), -EEXIST);
    EQ(usk_diag_column(diag, "no name", "x"), -EINVAL);
    EQ(usk_diag_column(diag, "quoted", "\"\\"), 0);
    EQ(usk_diag_column(diag, NULL, "x"), -EFAULT);
}

static const char *const drops[] = { "MINE_FIRST", "MINE_SECOND", NULL };

static void calls(usk_proto *t)
{
    t->drop_names = drops;
    t->timer = mine_timer;
    t->work = mine_work;
    t->diag_show = mine_diag_show;
}

static int init(usk_plugin_t *plugin)
{
    return mine_register(plugin, calls);
}

static int both(usk_plugin_t *plugin)
{
    return mine_register_both(plugin, calls);
}

/* ---- tables ---------------------------------------------------------------------------------------------------- */

static usk_proto tried;

static int try(usk_plugin_t *plugin)
{
    int r = init(plugin);
    return r < 0 ? r : usk_proto_register(plugin, &tried, NULL, NULL);
}

/* What is wrong with the new members of a table is said, and an older table has none of them. */
static void tables(void)
{
    static const char *const lower[] = { "mine_second", NULL }, *const taken[] = { "NO_SOCKET", NULL };
    usk_stack_t *stack = usk_stack_new("");
    usk_proto two = mine_table("TWO", SOCK_SEQPACKET), t;
    struct {
        usk_proto t;
        int error;
        const char *line;
    } rows[] = {
        { two, EINVAL, "drop reason \"mine_second\"" },
        { two, EEXIST, "drop reason \"NO_SOCKET\"" },
        { two, EEXIST, "drop reason \"MINE_FIRST\"" },
        { two, EINVAL, "ports_of \"MIN\": no protocol of this plug-in has that name" },
        { two, EINVAL, "ports_of \"MINE\": that protocol has another number" },
        { two, EINVAL, "ports_of \"MINE\": this one has no ports" },
        { two, EINVAL, "rcv beside ports_of" },
    };
    rows[0].t.drop_names = lower;
    rows[1].t.drop_names = taken;
    rows[2].t.drop_names = drops;
    rows[3].t.ports_of = "MIN";
    rows[4].t.ports_of = rows[5].t.ports_of = rows[6].t.ports_of = "MINE";
    rows[4].t.protocol = 251;
    rows[5].t.flags |= USK_PROTO_NO_PORTS;
    rows[6].t.rcv = rcv_free;
    for (int i = 0; i < COUNT(rows); i++) {
        tried = rows[i].t;
        refused_with(usk_plugin_attach(stack, "mine", try), rows[i].error, rows[i].line);
    }
    /* Nothing is left of them, so the names are free. */
    t = two;
    t.size = offsetof(usk_proto, drop_names);
    t.drop_names = lower;
    t.ports_of = "nonsense";
    tried = t;
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", try);
    CHECK(plugin != NULL);
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

/* ---- ICMP ------------------------------------------------------------------------------------------------------ */

static void errors(int family)
{
    bool v6 = family == AF_INET6;
    static const struct {
        int error;
        uint32_t mtu;
        int result, v4, v6;
    } rows[] = {
        { USK_ICMP_PORT_UNREACH, 0, 0, 0x0303, 0x0104 },
        { USK_ICMP_PROT_UNREACH, 0, 0, 0x0302, 0x0401 },
        { USK_ICMP_PROHIBITED, 0, 0, 0x030d, 0x0101 },
        { USK_ICMP_TOO_BIG, 1300, 0, 0x0304, 0x0200 },
        { USK_ICMP_TOO_BIG, 65535, 0, 0x0304, 0x0200 },
        { USK_ICMP_TOO_BIG, 0, -EINVAL, 0, 0 },
        { USK_ICMP_PORT_UNREACH, 1300, -EINVAL, 0, 0 },
        { 0, 0, -EINVAL, 0, 0 },
        { 5, 0, -EINVAL, 0, 0 },
    };
    usk_stack_t *stack = usk_stack_new("");
    CHECK(usk_plugin_attach(stack, "mine", init) != NULL);
    int watch = (int)OK(usk_socket_on(stack, family, SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP));
    int fd = open_mine(stack, family, SOCK_DGRAM, 7);
    struct addr to = at(v6 ? "::1" : "127.0.0.1", 99);
    icmp.drop = USK_DROP_OWN;
    for (int i = 0; i < COUNT(rows); i++) {
        unsigned char p[128], *h = p + (v6 ? 0 : 20);
        size_t quote = (size_t)(h - p) + 8, header = v6 ? 40 : 20;
        icmp.error = rows[i].error;
        icmp.mtu = rows[i].mtu;
        EQ(usk_sendto(fd, "payload", 7, 0, &to.sa, to.len), 7);
        EQ(icmp.result, rows[i].result);
        EQ(icmp.before, HEADER + 7);
        EQ(icmp.after, HEADER + 7);
        EQ(icmp.changed, 0);
        if (rows[i].result != 0) {
            ERR(usk_recv(watch, p, sizeof p, MSG_DONTWAIT), EAGAIN);
            continue;
        }
        EQ(usk_recv(watch, p, sizeof p, 0), (long long)(quote + header + HEADER + 7));
        EQ(h[0] << 8 | h[1], v6 ? rows[i].v6 : rows[i].v4);
        /* Where the packet names its protocol. */
        uint32_t rest = v6 && rows[i].error == USK_ICMP_PROT_UNREACH ? 6 : rows[i].mtu;
        EQ((uint32_t)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7], rest);
        EQ(p[quote + (v6 ? 6 : 9)], MINE);
        EQ(memcmp(p + quote + header, "\0\7\0\143payload", HEADER + 7), 0);
    }
    if (v6) {
        /* Behind destination options it is their first byte that names the protocol. */
        unsigned char p[128];
        OK(usk_setsockopt(fd, SOL_IPV6, IPV6_DSTOPTS, "\0\0\1\4\0\0\0\0", 8));
        icmp.error = USK_ICMP_PROT_UNREACH;
        icmp.mtu = 0;
        EQ(usk_sendto(fd, "payload", 7, 0, &to.sa, to.len), 7);
        EQ(usk_recv(watch, p, sizeof p, 0), 8 + 48 + HEADER + 7);
        EQ(p[7], 40);
        EQ(p[48], MINE);
    } else {
        icmp.error = USK_ICMP_TOO_BIG;
        icmp.mtu = 65536;
        EQ(usk_sendto(fd, "payload", 7, 0, &to.sa, to.len), 7);
        EQ(icmp.result, -EINVAL);
    }
    /* Nothing is said about what was never received. */
    usk_skb_t *made = usk_skb_new();
    EQ(usk_icmp_send(reg, made, USK_ICMP_PORT_UNREACH, 0), -ENOENT);
    usk_addr_t a = { .family = AF_INET };
    EQ(usk_deliver_all(reg, made, &a, &a), -ENOENT);
    usk_skb_free(made);
    OK(usk_close(fd));
    OK(usk_close(watch));
    usk_stack_free(stack);
}

/* From another host no more errors come than the rate limits allow, and none about a packet to all. */
static void limits(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *a = usk_world_host(world, "a", NULL), *b = usk_world_host(world, "b", NULL);
    CHECK(a && b && usk_plugin_attach(a, "mine", init) && usk_plugin_attach(b, "mine", init));
    usk_link_t *link = usk_world_link(world, "a", "b", "delay=1ms", 0, 0);
    CHECK(link != NULL);
    struct addr to = { .len = sizeof to.storage };
    OK(usk_link_addr(link, 1, AF_INET, 99, &to.sa, &to.len));
    int fd = (int)OK(usk_socket_on(a, AF_INET, SOCK_DGRAM, MINE));
    uint64_t sent = 0, limited = 0;
    icmp.error = USK_ICMP_PORT_UNREACH;
    icmp.mtu = 0;
    icmp.drop = USK_DROP_OWN;
    for (int i = 0; i < 10; i++)
        EQ(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), 1);
    OK(usk_world_run_for(world, 10 * MS));
    OK(usk_mib_read(b, "IcmpOutDestUnreachs", &sent));
    OK(usk_mib_read(b, "IcmpOutRateLimitHost", &limited));
    EQ(sent, 6);
    EQ(limited, 4);
    /* A second later there is room for one more; a broadcast has none of it. */
    OK(usk_world_run_for(world, 1000 * MS));
    OK(set_int(fd, SOL_SOCKET, SO_BROADCAST, 1));
    struct addr all = to;
    all.in.sin_addr.s_addr |= htonl(255);
    EQ(usk_sendto(fd, "x", 1, 0, &all.sa, all.len), 1);
    OK(usk_world_run_for(world, 10 * MS));
    OK(usk_mib_read(b, "IcmpOutDestUnreachs", &sent));
    EQ(sent, 6);
    EQ(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), 1);
    OK(usk_world_run_for(world, 10 * MS));
    OK(usk_mib_read(b, "IcmpOutDestUnreachs", &sent));
    EQ(sent, 7);
    OK(usk_close(fd));
    OK(usk_world_free(world));
    usk_stack_free(a);
    usk_stack_free(b);
}

/* ---- what it shows --------------------------------------------------------------------------------------------- */

static FILE *ask(const char *path, const char *request)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = (int)OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(fd, (struct sockaddr *)&a, sizeof a));
    OK(dprintf(fd, "%s\n", request));
    FILE *f = fdopen(fd, "r");
    CHECK(f != NULL);
    return f;
}

/* Reads up to a line with this in it; the line. */
static const char *line_with(FILE *f, const char *what)
{
    static char line[65536];
    do
        CHECK(fgets(line, sizeof line, f) != NULL && !strstr(line, "{\"end\":"));
    while (!strstr(line, what));
    return line;
}

static void shows(void)
{
    char dir[] = "/tmp/usersock-calls-XXXXXX", path[64], config[96];
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/control", dir);
    snprintf(config, sizeof config, "control=%s", path);
    usk_stack_t *stack = usk_stack_new(config);
    CHECK(stack && usk_plugin_attach(stack, "mine", init));
    int fd = open_mine(stack, AF_INET, SOCK_DGRAM, 7), from = open_mine(stack, AF_INET, SOCK_DGRAM, 8);
    struct addr to = at("127.0.0.1", 7), nobody = at("127.0.0.1", 99);
    EQ(usk_log(reg, USK_LOG_ERR, "nobody reads this"), 0);

    /* A trace has the protocol's drops and lines. */
    FILE *trace = ask(path, "trace");
    line_with(trace, "{\"usersock\"");
    icmp.error = USK_ICMP_PORT_UNREACH;
    icmp.mtu = 0;
    /* That the trace has begun shows when a first event comes. */
    for (int traced = 0; !traced;) {
        struct pollfd p = { .fd = fileno(trace), .events = POLLIN };
        icmp.drop = USK_DROP_OWN;
        EQ(usk_sendto(from, "x", 1, 0, &nobody.sa, nobody.len), 1);
        traced = (int)OK(poll(&p, 1, 1));
    }
    icmp.drop = USK_DROP_OWN + 1;
    EQ(usk_sendto(from, "x", 1, 0, &nobody.sa, nobody.len), 1);
    const char *dropped = line_with(trace, "MINE_SECOND");
    CHECK(strstr(dropped, "\"event\":\"skb:kfree_skb\",\"reason\":\"MINE_SECOND\",\"from\":\"MINE\"}") != NULL);
    icmp.drop = USK_DROP_CSUM;
    EQ(usk_sendto(from, "x", 1, 0, &nobody.sa, nobody.len), 1);
    CHECK(strstr(line_with(trace, "PLUGIN_CSUM"), "\"from\":\"MINE\"}") != NULL);
    EQ(usk_log(reg, USK_LOG_WARNING, "key \"7\"\n%s is unknown"), 1);
    const char *logged = line_with(trace, "plugin:log");
    CHECK(strstr(logged, "\"from\":\"MINE\",\"level\":\"warning\",\"text\":\"key \\\"7\\\" %s is unknown\"}") != NULL);
    EQ(usk_log(reg, 2, "no such level"), -EINVAL);
    EQ(usk_log(reg, USK_LOG_INFO, NULL), -EFAULT);
    fclose(trace);

    /* So have the counters; a reason beyond the table's is none. */
    icmp.drop = USK_DROP_OWN + 2;
    EQ(usk_sendto(from, "x", 1, 0, &nobody.sa, nobody.len), 1);
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_drop(reg, skb, USK_DROP_OWN + 2), -EINVAL);
    EQ(usk_drop(reg, usk_skb_new(), USK_DROP_OWN - 1), -EINVAL);
    FILE *f = ask(path, "counters");
    CHECK(strstr(line_with(f, "counters"), "\"MINE_SECOND\":1") != NULL);
    fclose(f);

    /* And the list of sockets has its columns. */
    EQ(usk_sendto(from, "xy", 2, 0, &to.sa, to.len), 2);
    f = ask(path, "sockets");
    static const char columns[] = "\"columns\":{\"queue\":\"1_waits\",\"quoted\":\"\\\"\\\\\"}";
    CHECK(strstr(line_with(f, "\"local_port\":7,"), columns) != NULL);
    CHECK(strstr(line_with(f, "\"local_port\":8,"), "\"columns\":{\"queue\":\"0_waits\"") != NULL);
    fclose(f);
    OK(usk_close(fd));
    OK(usk_close(from));
    usk_stack_free(stack);
    /* The stack's own thread lets go of the file. */
    struct pollfd none = { .fd = -1 };
    while (rmdir(dir) != 0) {
        CHECK(errno == ENOTEMPTY);
        poll(&none, 1, 1);
    }
}

/* ---- the end of a registration --------------------------------------------------------------------------------- */

static int released[2];

static void release_one(void *user)
{
    released[user != NULL]++;
}

static int releasing(usk_plugin_t *plugin)
{
    usk_proto t = mine_table("MINE", SOCK_DGRAM), none = mine_table("MINE-OUT", SOCK_SEQPACKET);
    t.rcv = mine_rcv;
    int r = usk_proto_register(plugin, &t, NULL, &reg);
    r = r < 0 ? r : usk_proto_register(plugin, &none, released, &other);
    r = r < 0 ? r : usk_user_release(reg, release_one);
    return r < 0 ? r : usk_user_release(other, release_one);
}

/* A protocol of the program's own code is referenced by the stack if it has rcv. */
static void releases(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", releasing);
    CHECK(plugin != NULL);
    OK(usk_plugin_unload(plugin));
    EQ(released[0], 0);
    EQ(released[1], 1);
    /* Its number is free again, and the next one has it no longer than it is registered. */
    plugin = usk_plugin_attach(stack, "mine", releasing);
    CHECK(plugin != NULL);
    OK(usk_plugin_unload(plugin));
    EQ(released[0], 1);
    EQ(released[1], 2);
    usk_stack_free(stack);
    EQ(released[0], 2);
    EQ(released[1], 2);
}

/* ---- timers ---------------------------------------------------------------------------------------------------- */

static void timers(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *stack = usk_world_host(world, "a", NULL);
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", both);
    CHECK(plugin != NULL);
    memset(&fired, 0, sizeof fired);
    EQ(usk_reg_timer_arm(reg, 32, 0), -EINVAL);
    EQ(usk_reg_timer_arm(other, 0, 0), -EINVAL);
    EQ(usk_reg_defer(other, 1), -EINVAL);
    EQ(usk_reg_timer_at(reg, 3), 0);
    EQ(usk_reg_timer_cancel(reg, 3), 0);

    EQ(usk_reg_timer_arm(reg, 3, 500 * MS), 0);
    EQ(usk_reg_timer_arm(reg, 3, 100 * MS), 0);
    EQ(usk_reg_timer_at(reg, 3), 100 * MS);
    EQ(usk_reg_timer_arm(reg, 4, 120 * MS), 0);
    EQ(usk_reg_timer_arm(reg, 31, 170 * MS), 0);
    OK(usk_world_run_for(world, 1000 * MS));
    static const struct {
        uint32_t what;
        uint64_t at;
    } want[] = { { 3, 100 * MS }, { 3, 150 * MS }, { 31, 170 * MS } };
    EQ(fired.n, 3);
    for (int i = 0; i < 3; i++) {
        EQ(fired.what[i], want[i].what);
        EQ(fired.at[i], want[i].at);
    }

    /* Work that is asked for twice before it runs is done once, with the bits of both. */
    fired.n = 0;
    EQ(usk_reg_defer(reg, 1), 0);
    EQ(usk_reg_defer(reg, 4), 0);
    EQ(fired.n, 0);
    OK(usk_world_run_for(world, MS));
    EQ(fired.n, 1);
    EQ(fired.what[0], 0x105);
    EQ(fired.at[0], 1000 * MS);
    EQ(usk_reg_defer(reg, 2), 0);
    OK(usk_world_run_for(world, MS));
    EQ(fired.n, 2);
    EQ(fired.what[1], 0x102);

    /* They end with the registration, and leave nothing that the world would wait for. */
    fired.n = 0;
    EQ(usk_reg_timer_arm(reg, 3, usk_now(reg) + 5 * MS), 0);
    EQ(usk_reg_defer(reg, 1), 0);
    OK(usk_plugin_unload(plugin));
    OK(usk_world_run_for(world, 1000 * MS));
    EQ(fired.n, 0);
    OK(usk_world_free(world));
    usk_stack_free(stack);
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin("proto_calls");
    no_sock = answer;
    tables();
    errors(AF_INET);
    errors(AF_INET6);
    limits();
    shows();
    releases();
    timers();
    return done();
}

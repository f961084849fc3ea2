/* A congestion control is replaced while connections use it (USK_CONG_REPLACE): who has which one, what they share, and
 * when the old one can go. In virtual time: nothing happens by itself. */
#include "common.h"
#include <usersock/cong.h>
#include <usersock/sim.h>

static usk_stack_t *stack;
static usk_reg_t *regs[8];
static int released[8];

/* Which version it is: what usk_user points to. */
static int version_of(const usk_tcp_t *tp)
{
    return *(int *)usk_user(tp->reg);
}
static void swap_init(usk_tcp_t *tp, void *priv)
{
    EQ(usk_random(tp->reg, priv, 8), 0);
}
static void swap_acked(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    (void)priv, (void)sample;
    EQ(usk_count(tp->reg, 0, 1), 0);
}
static void swap_release(usk_tcp_t *tp, void *priv)
{
    (void)priv;
    released[version_of(tp)]++;
}
static size_t swap_info(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    (void)priv, (void)len;
    int info[2] = { version_of(tp), (int)usk_sysctl(tp->reg, 0) };
    memcpy(to, info, sizeof info);
    return sizeof info;
}

static const char *const mib_names[] = { "SwapAcks", NULL }, *const more_mib_names[] = { "SwapAcks", "SwapMore", NULL };
static const usk_sysctl_t sysctls[] = { { .name = "level", .value = 1, .max = 9 }, { .name = NULL } },
                          wider[] = { { .name = "level", .value = 1, .max = 99 }, { .name = NULL } };

static usk_cong_ops table = {
    .version = USK_CONG_VERSION,
    .size = sizeof table,
    .name = "swap",
    .flags = USK_CONG_NON_RESTRICTED,
    .mib_names = mib_names,
    .sysctls = sysctls,
    .priv_size = 8,
    .init = swap_init,
    .release = swap_release,
    .pkts_acked = swap_acked,
    .get_info = swap_info,
    .ssthresh = usk_tcp_reno_ssthresh,
    .cong_avoid = usk_tcp_reno_cong_avoid,
    .undo_cwnd = usk_tcp_reno_undo_cwnd,
};
static int next_version, versions[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static int init(usk_plugin_t *plugin)
{
    return usk_cong_register(plugin, &table, &versions[next_version], &regs[next_version]);
}

static usk_plugin_t *attach(int version)
{
    next_version = version;
    return usk_plugin_attach(stack, "swap", init);
}

/* The version that a connection has, and the sysctl as that one sees it. */
static void has(int fd, int version, int level)
{
    int info[2] = { 0, 0 };
    socklen_t len = sizeof info;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CC_INFO, info, &len));
    EQ(len, sizeof info);
    EQ(info[0], version);
    EQ(info[1], level);
}

static void choose(int fd)
{
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "swap", 4));
}

static int tcp(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
}

/* A connection of both ends. */
static void pair(int listener, int fd[2])
{
    struct addr to = sock_name(listener);
    fd[0] = tcp();
    OK(usk_connect(fd[0], &to.sa, to.len));
    fd[1] = (int)OK(usk_accept(listener, NULL, NULL));
}

static void talk(int fd[2])
{
    char buf[8];
    for (int way = 0; way < 2; way++) {
        EQ(usk_send(fd[way], "hello", 5, 0), 5);
        EQ(usk_recv(fd[!way], buf, sizeof buf, 0), 5);
    }
}

static uint64_t acks(void)
{
    uint64_t n = 0;
    OK(usk_mib_read(stack, "SwapAcks", &n));
    return n;
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin("cong_replace");
    usk_world_t *world = usk_world_new(1);
    stack = usk_world_host(world, "one", NULL);
    CHECK(world && stack);

    /* Without a predecessor it is a plain registration; then the name is taken, but for a replacement. */
    table.flags |= USK_CONG_REPLACE;
    usk_plugin_t *first = attach(1);
    CHECK(first != NULL);
    table.flags &= ~(uint32_t)USK_CONG_REPLACE;
    refused_with(attach(2), EEXIST, "swap");
    table.flags |= USK_CONG_REPLACE;
    OK(usk_sysctl_set(stack, "net.swap.level", "3"));

    /* A listener that has chosen it, and a connection. */
    int l = tcp(), old[2], fd[2];
    struct addr any = local(AF_INET);
    choose(l);
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 4));
    pair(l, old);
    choose(old[0]);
    talk(old);
    has(old[0], 1, 3);
    has(old[1], 1, 3);
    uint64_t before = acks();
    CHECK(before > 0);

    /* Refused, and nothing has changed. */
    table.sysctls = wider;
    refused_with(attach(2), EINVAL, "net.swap.level: the one that it replaces is from 0 to 9");
    table.sysctls = NULL;
    table.mib_names = NULL;
    table.name = "cubic";
    refused_with(attach(2), EPERM, "cannot be replaced");
    table.sysctls = sysctls;
    table.name = "swap";
    EQ(acks(), before);
    has(old[0], 1, 3);

    /* Replaced: the counter goes on, and the sysctl has its value. */
    table.mib_names = more_mib_names;
    usk_plugin_t *second = attach(2);
    CHECK(second != NULL);
    EQ(acks(), before);
    has(old[0], 1, 3);
    has(old[1], 1, 3);
    pair(l, fd);
    choose(fd[0]);
    talk(fd);
    has(fd[0], 2, 3);
    has(fd[1], 2, 3); /* a child of a listener that has chosen before */
    talk(old);
    CHECK(acks() > before);
    OK(usk_sysctl_set(stack, "net.swap.level", "4"));
    has(old[1], 1, 4);
    has(fd[1], 2, 4);
    OK(usk_setsockopt(old[0], IPPROTO_TCP, TCP_CONGESTION, "swap", 4));
    has(old[0], 2, 4); /* who chooses again has the new one, at once */
    EQ(released[1], 1);
    talk(old);

    /* A connection has the old one, and the listener: it stays. */
    EQ(usk_plugin_unload(first), -1);
    EQ(errno, EBUSY);
    EQ(usk_unregister(regs[1]), -EBUSY);
    talk(old);
    has(old[1], 1, 4);
    close_pair(old);
    OK(usk_close(l));
    OK(usk_world_run_for(world, 120 * 1000000000ULL));
    EQ(released[1], 2);
    OK(usk_plugin_unload(first));
    CHECK(acks() > before); /* they are the second one's now */
    has(fd[0], 2, 4);
    talk(fd);

    /* The default of new sockets, through a third one. */
    OK(usk_sysctl_set(stack, "net.ipv4.tcp_congestion_control", "swap"));
    usk_plugin_t *third = attach(3);
    CHECK(third != NULL);
    l = tcp();
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 4));
    pair(l, old);
    has(old[0], 3, 4);
    has(old[1], 3, 4);
    EQ(usk_plugin_unload(third), -1);
    EQ(errno, EBUSY);
    close_pair(fd);
    close_pair(old);
    OK(usk_close(l));
    OK(usk_sysctl_set(stack, "net.ipv4.tcp_congestion_control", "cubic"));
    OK(usk_world_run_for(world, 120 * 1000000000ULL));
    /* The newer one first: what the older one shares with it is still there. */
    OK(usk_plugin_unload(third));
    uint64_t n;
    OK(usk_mib_read(stack, "SwapMore", &n));
    OK(usk_plugin_unload(second));
    ERR(usk_mib_read(stack, "SwapMore", &n), ENOENT);
    ERR(usk_mib_read(stack, "SwapAcks", &n), ENOENT);
    ERR(usk_sysctl_set(stack, "net.swap.level", "1"), ENOENT);
    EQ(released[2], 3);
    EQ(released[3], 2);
    OK(usk_world_free(world));
    usk_stack_free(stack);
    return done();
}

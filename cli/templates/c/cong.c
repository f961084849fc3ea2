/* @name@: a congestion control of TCP, which a connection has by TCP_CONGESTION or net.ipv4.tcp_congestion_control. It
 * grows its window as Reno does, and after a loss keeps `net.@name@.beta` per cent of it, where Reno keeps 50. */
#include <string.h>
#include <usersock/cong.h>

/* Private memory of a connection, zero at first. */
struct @name@ {
    uint64_t acked; /* segments, in all */
};

enum { ACKED, LOSSES };
static const char *const counters[] = { "@Name@Acked", "@Name@Losses", NULL };
enum { BETA };
static const usk_sysctl_t sysctls[] = {
    { "beta", 70, 10, 95, "Per cent of the window that is kept after a loss." },
    { 0 },
};

static void @name@_pkts_acked(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    struct @name@ *c = priv;
    c->acked += sample->pkts_acked;
    usk_count(tp->reg, ACKED, sample->pkts_acked);
}

static uint32_t @name@_ssthresh(usk_tcp_t *tp, void *priv)
{
    (void)priv;
    usk_count(tp->reg, LOSSES, 1);
    uint32_t keep = (uint32_t)((uint64_t)tp->snd_cwnd * (uint64_t)usk_sysctl(tp->reg, BETA) / 100);
    return keep < 2 ? 2 : keep;
}

/* For TCP_CC_INFO. */
static size_t @name@_get_info(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    const struct @name@ *c = priv;
    (void)tp;
    if (len < sizeof c->acked)
        return 0;
    memcpy(to, &c->acked, sizeof c->acked);
    return sizeof c->acked;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_cong_ops ops = {
        .version = USK_CONG_VERSION,
        .size = sizeof ops,
        .name = "@name@",
        .flags = USK_CONG_NON_RESTRICTED,
        .mib_names = counters,
        .sysctls = sysctls,
        .priv_size = sizeof(struct @name@),
        .ssthresh = @name@_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
        .pkts_acked = @name@_pkts_acked,
        .get_info = @name@_get_info,
    };
    return usk_cong_register(plugin, &ops, NULL, NULL);
}

/* WESTWOOD: TCP Westwood+ (Mascolo, Grieco: "Performance evaluation of Westwood+ TCP", Performance Evaluation 55,
 * 2004). The sender estimates its bandwidth from the acknowledgements. After a loss ssthresh becomes the bandwidth
 * times the minimum RTT, where Reno halves the window: so losses without congestion, as on radio links, reduce it less.
 * The window grows as Reno's.
 *
 * The estimate: b_k = segments delivered / time, over at least one RTT and 50 ms (a shorter time would see the bunching
 * of acknowledgements, which made the first Westwood too greedy); then the filter bwe = 7/8 bwe + 1/8 b_k. / */
#include <string.h>
#include <usersock/cong.h>

struct westwood {
    uint64_t bwe;            /* bandwidth, segments in 2^20 seconds */
    uint64_t since;          /* begin of the interval being measured, ns; 0: none */
    uint32_t delivered;      /* tp->delivered at its begin */
    uint32_t rtt_min;        /* least RTT, us; 0: none yet */
    uint32_t rtt;            /* last RTT, us */
    uint32_t forget_rtt_min; /* after a timeout: the path may have changed */
};

/* The result of TCP_CC_INFO. */
struct westwood_info {
    uint64_t bytes_per_s;
    uint32_t rtt_us;
    uint32_t rtt_min_us;
};

static const char *const counters[] = { "WestwoodThresholds", NULL }; /* set by the estimate, not as Reno does */
static const usk_sysctl_t sysctls[] = {
    { "min_interval_us", 50000, 1000, 1000000, "Shortest time over which the bandwidth is measured, microseconds." },
    { 0 },
};

static void westwood_pkts_acked(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    struct westwood *w = priv;
    (void)tp;
    if (sample->rtt_us <= 0)
        return;
    uint32_t rtt = sample->rtt_us < UINT32_MAX ? (uint32_t)sample->rtt_us : UINT32_MAX;
    w->rtt = rtt;
    if (w->rtt_min == 0 || rtt < w->rtt_min || w->forget_rtt_min) {
        w->rtt_min = rtt;
        w->forget_rtt_min = 0;
    }
}

static void westwood_in_ack_event(usk_tcp_t *tp, void *priv, uint32_t flags)
{
    struct westwood *w = priv;
    (void)flags;
    if (w->since == 0) {
        w->since = tp->now;
        w->delivered = tp->delivered;
        return;
    }
    uint64_t took_us = (tp->now - w->since) / 1000;
    if (took_us < (uint64_t)usk_sysctl(tp->reg, 0) || took_us < w->rtt)
        return;
    uint64_t sample = ((uint64_t)(tp->delivered - w->delivered) * 1000000 << 20) / took_us;
    w->bwe = w->bwe ? w->bwe - w->bwe / 8 + sample / 8 : sample;
    w->since = tp->now;
    w->delivered = tp->delivered;
}

/* The estimated bandwidth-delay product without queues, segments. */
static uint32_t westwood_bdp(const struct westwood *w)
{
    uint64_t segs = (w->bwe >> 10) * w->rtt_min / 1000000 >> 10;
    return segs < 2 ? 2 : segs > 1 << 30 ? 1 << 30 : (uint32_t)segs;
}

static uint32_t westwood_ssthresh(usk_tcp_t *tp, void *priv)
{
    const struct westwood *w = priv;
    if (!w->bwe || !w->rtt_min)
        return usk_tcp_reno_ssthresh(tp, NULL); /* there is no estimate yet */
    usk_count(tp->reg, 0, 1);
    return westwood_bdp(w);
}

static void westwood_set_state(usk_tcp_t *tp, void *priv, uint8_t state)
{
    struct westwood *w = priv;
    (void)tp;
    if (state == USK_CA_LOSS)
        w->forget_rtt_min = 1;
}

/* Idle time must not lower the estimate. */
static void westwood_cwnd_event(usk_tcp_t *tp, void *priv, int event)
{
    struct westwood *w = priv;
    if (event == USK_CA_EVENT_TX_START) {
        w->since = tp->now;
        w->delivered = tp->delivered;
    }
}

static size_t westwood_get_info(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    const struct westwood *w = priv;
    struct westwood_info info = { (w->bwe >> 10) * tp->mss_cache >> 10, w->rtt, w->rtt_min };
    if (len < sizeof info)
        return 0;
    memcpy(to, &info, sizeof info);
    return sizeof info;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_cong_ops ops = {
        .version = USK_CONG_VERSION,
        .size = sizeof ops,
        .name = "westwood",
        .flags = USK_CONG_NON_RESTRICTED,
        .mib_names = counters,
        .sysctls = sysctls,
        .priv_size = sizeof(struct westwood),
        .ssthresh = westwood_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
        .pkts_acked = westwood_pkts_acked,
        .in_ack_event = westwood_in_ack_event,
        .set_state = westwood_set_state,
        .cwnd_event = westwood_cwnd_event,
        .get_info = westwood_get_info,
    };
    return usk_cong_register(plugin, &ops, NULL, NULL);
}

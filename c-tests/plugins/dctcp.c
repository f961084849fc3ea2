/* DCTCP (RFC 8257) as a plug-in: the window is reduced by the share of segments that were marked, not by half. The
 * receiver's side, an echo for each segment, is the library's, which USK_CONG_EXACT_ECE asks for; so both ends need the
 * algorithm. The library has a DCTCP of its own, "dctcp": this one does the same, window for window.
 *
 *   alpha = 15/16 alpha + 1/16 F      after each window, F being the share of its segments with a mark (§3.3)
 *   cwnd  = cwnd (1 - alpha / 2)      once a window in which there were marks
 */
#include <string.h>
#include <usersock/cong.h>

enum { MAX_ALPHA = 1 << 10, SHIFT_G = 4 };

struct dctcp {
    uint32_t alpha; /* in 1/1024; it begins at 1, so that the first mark halves the window */
    uint32_t loss_cwnd; /* the window before the last reduction */
    uint32_t next_seq; /* end of the window that is observed */
    uint32_t delivered, delivered_ce; /* at its begin */
};

static void begin_window(const usk_tcp_t *tp, struct dctcp *d)
{
    d->next_seq = tp->snd_nxt;
    d->delivered = tp->delivered;
    d->delivered_ce = tp->delivered_ce;
}

static void dctcp_init(usk_tcp_t *tp, void *priv)
{
    struct dctcp *d = priv;
    d->alpha = MAX_ALPHA;
    begin_window(tp, d);
}

static void dctcp_in_ack_event(usk_tcp_t *tp, void *priv, uint32_t flags)
{
    struct dctcp *d = priv;
    (void)flags;
    if ((int32_t)(tp->snd_una - d->next_seq) < 0)
        return;
    uint64_t delivered = tp->delivered - d->delivered, marked = tp->delivered_ce - d->delivered_ce;
    uint32_t decay = d->alpha >> SHIFT_G;
    if (decay == 0)
        decay = d->alpha; /* below the resolution: alpha reaches 0 */
    uint64_t alpha = d->alpha - decay + (marked << (10 - SHIFT_G)) / (delivered ? delivered : 1);
    d->alpha = alpha < MAX_ALPHA ? (uint32_t)alpha : MAX_ALPHA;
    begin_window(tp, d);
}

static uint32_t dctcp_ssthresh(usk_tcp_t *tp, void *priv)
{
    struct dctcp *d = priv;
    if (!tp->ecn_ok)
        return usk_tcp_reno_ssthresh(tp, NULL); /* the peer did not agree: there is only loss (§3.5) */
    d->loss_cwnd = tp->snd_cwnd;
    uint32_t cwnd = tp->snd_cwnd - (uint32_t)((uint64_t)tp->snd_cwnd * d->alpha >> 11);
    return cwnd > 2 ? cwnd : 2;
}

/* A loss halves the window, whatever alpha says (§3.4). */
static void after_loss(usk_tcp_t *tp, struct dctcp *d)
{
    d->loss_cwnd = tp->snd_cwnd;
    tp->snd_ssthresh = tp->snd_cwnd / 2 > 2 ? tp->snd_cwnd / 2 : 2;
}

static void dctcp_set_state(usk_tcp_t *tp, void *priv, uint8_t state)
{
    if (tp->ecn_ok && state == USK_CA_RECOVERY && tp->ca_state != USK_CA_RECOVERY)
        after_loss(tp, priv);
}

static void dctcp_cwnd_event(usk_tcp_t *tp, void *priv, int event)
{
    if (tp->ecn_ok && event == USK_CA_EVENT_LOSS)
        after_loss(tp, priv);
}

static uint32_t dctcp_undo_cwnd(usk_tcp_t *tp, void *priv)
{
    const struct dctcp *d = priv;
    if (!tp->ecn_ok)
        return usk_tcp_reno_undo_cwnd(tp, NULL);
    return d->loss_cwnd > tp->snd_cwnd ? d->loss_cwnd : tp->snd_cwnd;
}

/* TCP_CC_INFO: alpha. */
static size_t dctcp_get_info(const usk_tcp_t *tp, void *priv, void *to, size_t len)
{
    const struct dctcp *d = priv;
    (void)tp;
    if (len < sizeof d->alpha)
        return 0;
    memcpy(to, &d->alpha, sizeof d->alpha);
    return sizeof d->alpha;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_cong_ops ops = {
        .version = USK_CONG_VERSION,
        .size = sizeof ops,
        .name = "dctcp_c",
        .flags = USK_CONG_NEEDS_ECN | USK_CONG_EXACT_ECE | USK_CONG_NON_RESTRICTED,
        .priv_size = sizeof(struct dctcp),
        .init = dctcp_init,
        .ssthresh = dctcp_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = dctcp_undo_cwnd,
        .in_ack_event = dctcp_in_ack_event,
        .set_state = dctcp_set_state,
        .cwnd_event = dctcp_cwnd_event,
        .get_info = dctcp_get_info,
    };
    return usk_cong_register(plugin, &ops, NULL, NULL);
}

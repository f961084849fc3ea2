/* A congestion control of TCP, Reno's, with one of these faults, by -DFAULT=NAME; with NONE it is sound. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <usersock/cong.h>

enum fault {
    NONE,
    BLIND,         /* a loss changes nothing */
    EXPLODES,      /* the window jumps to any height */
    LEAKED_MEMORY, /* init allocates, and release does not free */
    CRASHES,       /* on a timeout */
    OWN_CLOCK,     /* the window depends on the time of the machine */
};
#ifndef FAULT
#define FAULT NONE
#endif

static uint32_t do_ssthresh(usk_tcp_t *tp, void *priv)
{
    return FAULT == BLIND ? INT32_MAX : usk_tcp_reno_ssthresh(tp, priv);
}

static uint32_t do_undo(usk_tcp_t *tp, void *priv)
{
    return usk_tcp_reno_undo_cwnd(tp, priv);
}

static void do_cong_avoid(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t acked)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    usk_tcp_reno_cong_avoid(tp, priv, ack, acked);
    if (FAULT == EXPLODES)
        tp->snd_cwnd = 100000;
    if (FAULT == BLIND)
        tp->snd_cwnd = tp->snd_cwnd < 200 ? 200 : tp->snd_cwnd;
    if (FAULT == OWN_CLOCK)
        tp->snd_cwnd = 2 + (uint32_t)(now.tv_nsec / 100 % 16);
}

static void do_init(usk_tcp_t *tp, void *priv)
{
    (void)tp;
    if (FAULT == LEAKED_MEMORY)
        *(void **)priv = malloc(40);
}

static void do_set_state(usk_tcp_t *tp, void *priv, uint8_t state)
{
    (void)tp, (void)priv;
    if (FAULT == CRASHES && state == 4) /* TCP_CA_Loss */
        abort();
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_cong_ops ops = {
        .version = USK_CONG_VERSION,
        .size = sizeof ops,
        .name = "broken",
        .flags = USK_CONG_NON_RESTRICTED,
        .priv_size = sizeof(void *),
        .init = do_init,
        .ssthresh = do_ssthresh,
        .cong_avoid = do_cong_avoid,
        .undo_cwnd = do_undo,
        .set_state = do_set_state,
    };
    return usk_cong_register(plugin, &ops, NULL, NULL);
}

/* A TCP beside the library's with one of these faults, by -DFAULT=NAME; with NONE it is sound: a segment is lost when
 * three of later ones have been selectively acknowledged, or three duplicates came for the first one; the rest is the
 * library's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <usersock/tcp.h>

enum fault {
    NONE,
    BLIND_TAKEOVER, /* what another TCP has sent it never sends again */
    CRASHES,        /* on a timeout */
    DROPS_FIN,      /* the peer's end is never processed */
    LEAKED_MEMORY,  /* init allocates, and release does not free */
    NEVER_LOST,     /* marks nothing lost, and does nothing on a timeout */
    NEVER_SENDS,    /* output says that all is sent, and sends nothing */
    OWN_CLOCK,      /* how much is sent depends on the time of the machine */
    REFUSES,        /* init does not take a connection */
    TRUSTS_LENGTH,  /* getsockopt writes more than there is room for */
};
#ifndef FAULT
#define FAULT NONE
#endif

enum { DUPACKS = USK_TCP_OWN_OPTIONS }; /* an option: two words */
enum { FIN = 1, THRESH = 3 };

struct conn {
    uint32_t dupacks, seen;
    uint32_t first; /* snd_nxt when it began */
    void *memory;
};

static int do_init(usk_tcp_conn_t *c)
{
    struct conn *k = c->data;
    usk_tcp_t tp;
    usk_tcp_read(c, &tp, sizeof tp);
    k->first = tp.snd_nxt;
    if (FAULT == LEAKED_MEMORY)
        k->memory = malloc(40);
    return FAULT == REFUSES ? -EOPNOTSUPP : 0;
}

static int do_input(usk_tcp_conn_t *c, const usk_tcp_input_t *in)
{
    (void)c;
    return FAULT == DROPS_FIN && in->flags & FIN ? USK_TCP_DONE : USK_TCP_OURS;
}

static void do_ack(usk_tcp_conn_t *c, const usk_tcp_ack_t *ack)
{
    struct conn *k = c->data;
    usk_tcp_t tp;
    usk_tcp_seg_t s;
    uint32_t above = 0;
    usk_tcp_read(c, &tp, sizeof tp);
    k->seen += ack->dupacks;
    k->dupacks = ack->flags & USK_TCP_ACK_ADVANCED ? 0 : k->dupacks + ack->dupacks;
    if (FAULT == NEVER_LOST || FAULT == BLIND_TAKEOVER)
        return;
    for (uint32_t seq = tp.snd_una; usk_tcp_seg(c, seq, &s, sizeof s) == 1; seq = s.end_seq)
        above += s.flags & USK_TCP_SEG_SACKED ? s.segs : 0;
    for (uint32_t seq = tp.snd_una; above && usk_tcp_seg(c, seq, &s, sizeof s) == 1; seq = s.end_seq) {
        if (s.flags & USK_TCP_SEG_SACKED)
            above -= s.segs;
        else if (above >= THRESH && !(s.flags & USK_TCP_SEG_LOST))
            usk_tcp_mark_lost(c, s.seq, s.end_seq);
    }
    if (k->dupacks >= THRESH && usk_tcp_seg(c, tp.snd_una, &s, sizeof s) == 1 && !(s.flags & USK_TCP_SEG_LOST))
        usk_tcp_mark_lost(c, s.seq, s.end_seq);
}

static int do_output(usk_tcp_conn_t *c)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (FAULT == NEVER_SENDS)
        return USK_TCP_DONE;
    if (FAULT != OWN_CLOCK)
        return USK_TCP_OURS;
    usk_tcp_t tp;
    usk_tcp_read(c, &tp, sizeof tp);
    if (tp.lost_out > 0)
        return USK_TCP_OURS;
    usk_tcp_send_new(c, 1 + (uint32_t)(now.tv_nsec / 100 % 4));
    return USK_TCP_DONE;
}

static int do_timer(usk_tcp_conn_t *c, uint32_t timer)
{
    const struct conn *k = c->data;
    usk_tcp_t tp;
    usk_tcp_read(c, &tp, sizeof tp);
    (void)timer;
    if (FAULT == CRASHES)
        abort();
    int theirs = FAULT == BLIND_TAKEOVER && (int32_t)(tp.snd_una - k->first) < 0;
    return FAULT == NEVER_LOST || theirs ? USK_TCP_DONE : USK_TCP_OURS;
}

static ssize_t do_getsockopt(usk_tcp_conn_t *c, int name, void *value, size_t len)
{
    const struct conn *k = c->data;
    uint32_t words[] = { k->dupacks, k->seen };
    if (name != DUPACKS)
        return -ENOPROTOOPT;
    if (FAULT == TRUSTS_LENGTH)
        len = sizeof words;
    len = len < sizeof words ? len : sizeof words;
    memcpy(value, words, len);
    return (ssize_t)len;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_tcp_ops ops = {
        .version = USK_TCP_OPS_VERSION,
        .size = sizeof ops,
        .name = "broken",
        .data_size = sizeof(struct conn),
        .init = do_init,
        .input = do_input,
        .ack = do_ack,
        .output = do_output,
        .timer = do_timer,
        .getsockopt = do_getsockopt,
    };
    return usk_tcp_register(plugin, &ops, NULL, NULL);
}

/* RDP: what an acknowledgement says. Round trips (RFC 6298), the scoreboard, loss by time of sending (RACK, RFC 8985: without the tail
 * probe, and with a fixed reordering window), recovery by what is in the pipe (RFC 6675), and the congestion window. */
#include "rdp_int.h"

void rdp_rtt(struct rdp_sock *s, uint32_t us)
{
    if (us > 600000000u)
        return;
    if (us == 0)
        us = 1;
    if (s->min_rtt == 0 || us < s->min_rtt)
        s->min_rtt = us;
    if (s->srtt == 0) {
        s->srtt = us;
        s->rttvar = us / 2;
    } else {
        uint32_t off = us > s->srtt ? us - s->srtt : s->srtt - us;
        s->rttvar = (uint32_t)((3 * (uint64_t)s->rttvar + off) / 4);
        s->srtt = (uint32_t)((7 * (uint64_t)s->srtt + us) / 8);
    }
    uint64_t rto = s->srtt + max32(4 * s->rttvar, (uint32_t)setting(s, C_RTO_MIN) * 1000);
    s->rto = (uint32_t)min64(rto, (uint64_t)setting(s, C_RTO_MAX) * 1000);
}

/* Packets thought to be on their way. */
uint32_t rdp_pipe(const struct rdp_sock *s)
{
    return s->packets_out - s->sacked_out - s->lost_out + s->retrans_out;
}

/* Not in flight any more: acknowledged, or kept by the peer. */
static void unmark(struct rdp_sock *s, struct rdp_seg *g)
{
    s->lost_out -= !!(g->marks & LOST);
    s->retrans_out -= !!(g->marks & RETRANS);
    g->marks &= (uint8_t)~(LOST | RETRANS);
    rdp_off_flight(s, g);
}

/* A packet has arrived. The latest sent of those tells which others should have (RFC 8985 §6.2 step 2). */
static void arrived(struct rdp_sock *s, const struct rdp_seg *g)
{
    uint64_t rtt = now_of(s) - g->sent;
    /* Sooner than any round trip: it was the first copy that arrived. */
    if ((g->marks & EVER_RETRANS) && rtt < (uint64_t)s->min_rtt * 1000)
        return;
    if (g->sent > s->rack_sent || (g->sent == s->rack_sent && after(g->end, s->rack_end))) {
        s->rack_sent = g->sent;
        s->rack_end = g->end;
        s->rack_rtt = rtt;
    }
}

static void enter_recovery(struct rdp_sock *s)
{
    s->recovery = 1;
    s->recover = s->snd_nxt;
    count(s, FAST_RECOVERIES);
    s->ssthresh = max32(s->cwnd / 2, MIN_CWND);
    s->cwnd = s->ssthresh;
    s->cwnd_count = 0;
}

/* Marks lost what was sent a round trip and the reordering window before something that has arrived. What is not due yet gets a timer. */
void rdp_rack_detect(struct rdp_sock *s)
{
    uint64_t now = now_of(s), reorder = (uint64_t)max32(s->min_rtt / 4, 1000) * 1000;
    bool lost = false;
    struct rdp_seg *next;
    rdp_disarm(s, T_RACK);
    for (struct rdp_seg *g = s->sent_first; g; g = next) {
        next = g->tnext;
        if (g->sent > s->rack_sent)
            break;
        if (g->sent == s->rack_sent && !before(g->end, s->rack_end))
            continue;
        uint64_t due = g->sent + s->rack_rtt + reorder;
        if (due > now) {
            rdp_arm(s, T_RACK, due);
            break;
        }
        if (g->marks & LOST)
            s->retrans_out--;
        else
            s->lost_out++;
        g->marks = (uint8_t)((g->marks | LOST) & ~RETRANS);
        rdp_off_flight(s, g);
        lost = true;
    }
    if (lost && s->recovery == 0)
        enter_recovery(s);
}

/* The window grows by what was delivered: doubling a round trip, then by one (RFC 5681 §3.1); not where the program, or the peer, is what
 * limits. */
static void grow(struct rdp_sock *s, uint32_t delivered)
{
    if (!s->cwnd_limited)
        return;
    if (s->cwnd < s->ssthresh) {
        uint32_t add = min32(delivered, s->ssthresh - s->cwnd);
        s->cwnd += add;
        delivered -= add;
    }
    s->cwnd_count += delivered;
    if (s->cwnd_count >= s->cwnd) {
        s->cwnd_count -= s->cwnd;
        s->cwnd++;
    }
}

static uint32_t cumulative(struct rdp_sock *s, uint32_t ack)
{
    uint32_t n = 0;
    struct rdp_seg *g;
    while ((g = s->out.first) && g != s->unsent && !after(g->end, ack)) {
        if (g->marks & SACKED) {
            s->sacked_out--;
        } else {
            arrived(s, g);
            n++;
        }
        unmark(s, g);
        s->packets_out--;
        s->cost_out -= seg_cost(g);
        s->msgs_out += !!(g->flags & END);
        if (g->flags & END)
            count(s, OUT_MSGS);
        rdp_list_remove(&s->out, g);
        rdp_seg_free(s, g, true);
    }
    s->snd_una = ack;
    return n;
}

static uint32_t selective(struct rdp_sock *s, const struct rdp_head *h)
{
    uint32_t n = 0;
    for (int i = 0; i < h->sacks; i++) {
        uint32_t start = h->sack[i].start, end = h->sack[i].end;
        if (!before(start, end) || before(start, s->snd_una) || after(end, s->snd_nxt))
            continue;
        for (struct rdp_seg *g = s->out.first; g && g != s->unsent && before(g->seq, end); g = g->next) {
            if (before(g->seq, start) || after(g->end, end) || (g->marks & SACKED))
                continue;
            arrived(s, g);
            unmark(s, g);
            g->marks |= SACKED;
            s->sacked_out++;
            n++;
        }
    }
    return n;
}

/* Processes the acknowledgement, the window and the SACK blocks of a packet whose ack is at most snd_nxt. The caller pushes. */
void rdp_ack(struct rdp_sock *s, const struct rdp_head *h)
{
    uint64_t now = now_of(s);
    uint32_t delivered = 0;
    bool forward = after(h->ack, s->snd_una);
    if (before(h->ack, s->snd_una))
        return;
    /* A window told earlier does not count (the role of SND.WL1). */
    if (forward || (int32_t)(h->stamp - s->wnd_stamp) >= 0) {
        if (h->window > s->snd_wnd && s->packets_out == 0)
            s->backoff = 0;
        s->snd_wnd = h->window;
        s->wnd_stamp = h->stamp;
    }
    s->probes = 0;
    if (s->packets_out == 0)
        s->unacked_since = 0;
    if (forward) {
        delivered = cumulative(s, h->ack);
        s->backoff = 0;
        s->soft_error = 0;
        s->unacked_since = s->packets_out ? now : 0;
        rdp_rtt(s, rdp_stamp(s) - h->echo);
    }
    delivered += selective(s, h);
    if (s->recovery && !before(s->snd_una, s->recover) && forward) {
        /* All that was in flight when the loss was seen is there. */
        s->recovery = 0;
        s->cwnd_count = 0;
    } else if (delivered && s->recovery != 1) {
        grow(s, delivered);
    }
    if (delivered)
        rdp_rack_detect(s);
    if (forward)
        rdp_rearm(s);
    if (s->nospace && (int64_t)usk_wmem(s->o) * 3 < (int64_t)usk_sndbuf(s->o) * 2) {
        s->nospace = false;
        usk_wake(sk_of(s), WAKE_OUT);
    }
}

/* The retransmission timer: everything in flight counts as lost (RFC 5681 §3.1, RFC 6675 §5.1). */
void rdp_timeout(struct rdp_sock *s)
{
    /* The peer may drop what it kept beyond a hole; that the first packet is among that shows it did (RFC 2018 §8). */
    bool reneged = s->out.first && (s->out.first->marks & SACKED);
    if (s->recovery != 2) {
        s->ssthresh = max32(rdp_pipe(s) / 2, MIN_CWND);
        s->recovery = 2;
    }
    s->recover = s->snd_nxt;
    s->cwnd = 1;
    s->cwnd_count = 0;
    s->cwnd_limited = true;
    s->lost_out = s->retrans_out = 0;
    for (struct rdp_seg *g = s->out.first; g && g != s->unsent; g = g->next) {
        if (g->marks & SACKED) {
            if (!reneged)
                continue;
            s->sacked_out--;
        }
        rdp_off_flight(s, g);
        g->marks = (uint8_t)(LOST | (g->marks & EVER_RETRANS));
        s->lost_out++;
    }
    rdp_disarm(s, T_RACK);
}

bool rdp_cong_set(struct rdp_sock *s, const char *name)
{
    (void)s;
    return strcmp(name, "reno") == 0;
}

const char *rdp_cong_name(const struct rdp_sock *s)
{
    (void)s;
    return "reno";
}

void rdp_cong_init(struct rdp_sock *s)
{
    s->cwnd = INITIAL_CWND;
    s->ssthresh = INT32_MAX;
}

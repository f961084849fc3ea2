/* RDP: processing of acknowledgements. Round trips (RFC 6298), the scoreboard, loss detection by send time (RACK-TLP,
 * RFC 8985, with a fixed reordering window), and congestion control borrowed from the stack's registry: the same
 * algorithms as TCP's. */
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

/* (Re)starts the retransmission timer, or stops it: it runs for data in flight, else for a zero window, else until the
 * peer has confirmed the connection. */
void rdp_rearm(struct rdp_sock *s)
{
    bool wanted = state_of(s) == SYN_SENT || s->packets_out > 0 || s->unsent || !s->confirmed;
    if (!wanted || state_of(s) == CLOSED || state_of(s) == TIME_WAIT) {
        rdp_disarm(s, T_RTX);
        return;
    }
    uint64_t most = (uint64_t)setting(s, C_RTO_MAX) * 1000000;
    uint64_t wait = min64(((uint64_t)s->rto * 1000) << (s->backoff < 16 ? s->backoff : 16), most);
    rdp_arm(s, T_RTX, now_of(s) + wait);
}

/* The estimated number of packets in the network. */
uint32_t rdp_pipe(const struct rdp_sock *s)
{
    return s->packets_out - s->sacked_out - s->lost_out + s->retrans_out;
}

/* Removes a packet from flight: it is acknowledged or selectively acknowledged. */
static void unmark(struct rdp_sock *s, struct rdp_seg *g)
{
    s->lost_out -= !!(g->marks & LOST);
    s->retrans_out -= !!(g->marks & RETRANS);
    g->marks &= (uint8_t)~(LOST | RETRANS);
    rdp_off_flight(s, g);
}

/* The packets that one acknowledgement covers. */
struct tally {
    uint32_t segments, late; /* in flight; thought lost, and not sent again */
    const struct rdp_seg *latest; /* the one of them that was sent last ... */
    struct rdp_seg copy;
    uint64_t once; /* ... and when that was sent, of those sent once only; 0: none */
};

/* A packet has arrived. The one of them that was sent last advances RACK's time (RFC 8985 §6.2 step 2). */
static void arrived(struct rdp_sock *s, struct rdp_seg *g, struct tally *t)
{
    uint64_t rtt = now_of(s) - g->sent;
    bool late = (g->marks & (LOST | RETRANS)) == LOST;
    *(late ? &t->late : &t->segments) += 1;
    if (!t->latest || g->sent >= t->copy.sent) {
        t->copy = *g;
        t->latest = &t->copy;
    }
    if (!(g->marks & EVER_RETRANS) && g->sent > t->once)
        t->once = g->sent;
    /* Much less than the minimum RTT: the acknowledgement is of the first copy. A little less is a new minimum. */
    if ((g->marks & EVER_RETRANS) && rtt < (uint64_t)(s->min_rtt - s->min_rtt / 8) * 1000)
        return;
    if (g->sent > s->rack_sent || (g->sent == s->rack_sent && after(g->end, s->rack_end))) {
        s->rack_sent = g->sent;
        s->rack_end = g->end;
        s->rack_rtt = rtt;
    }
}

/* The reordering window. */
uint64_t rdp_reorder_ns(const struct rdp_sock *s)
{
    return (uint64_t)max32(s->min_rtt / 4, 1000) * 1000;
}

/* Marks packets lost that were sent more than an RTT and the reordering window before one that has arrived. For packets
 * that are not yet due, arms the timer. */
void rdp_rack_detect(struct rdp_sock *s)
{
    uint64_t now = now_of(s), reorder = rdp_reorder_ns(s);
    uint32_t lost = 0;
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
        rdp_mark_lost(s, g);
        lost++;
    }
    if (lost == 0)
        return;
    if (s->recovery == 0) {
        s->recovery = 1;
        s->recover = s->snd_nxt;
        s->probing = false;
        count(s, FAST_RECOVERIES);
    }
    usk_cong_loss(s->o, s->cong, lost);
}

static void cumulative(struct rdp_sock *s, uint32_t ack, struct tally *t)
{
    struct rdp_seg *g;
    while ((g = s->out.first) && g != s->unsent && !after(g->end, ack)) {
        if (g->marks & SACKED) {
            s->sacked_out--;
        } else {
            arrived(s, g, t);
        }
        unmark(s, g);
        s->packets_out--;
        s->cost_out -= seg_cost(g);
        s->msgs_out += !!(g->flags & END);
        if (g->flags & END)
            count(s, OUT_MSGS);
        if (g == s->lost_hint)
            s->lost_hint = g->next;
        rdp_list_remove(&s->out, g);
        rdp_seg_free(s, g, true);
    }
    s->snd_una = ack;
}

static void selective(struct rdp_sock *s, const struct rdp_head *h, struct tally *t)
{
    for (int i = 0; i < h->sacks; i++) {
        uint32_t start = h->sack[i].start, end = h->sack[i].end;
        if (!before(start, end) || before(start, s->snd_una) || after(end, s->snd_nxt))
            continue;
        for (struct rdp_seg *g = s->out.first; g && g != s->unsent && before(g->seq, end); g = g->next) {
            if (before(g->seq, start) || after(g->end, end) || (g->marks & SACKED))
                continue;
            arrived(s, g, t);
            unmark(s, g);
            g->marks |= SACKED;
            s->sacked_out++;
        }
    }
}

/* Checks whether a loss probe that was a retransmission is acknowledged, and whether it repaired a loss (RFC 8985
 * §7.4). It did not if the acknowledgement reports a duplicate. It did if the acknowledgement echoes the probe's time
 * stamp without such a report, or if later data is acknowledged without one: then the window is reduced, once. */
static void probe_answered(struct rdp_sock *s, const struct rdp_head *h, struct tally *t)
{
    if (!s->probing || before(h->ack, s->probe_high))
        return;
    bool twice = h->sacks > 0 && before(h->sack[0].start, s->probe_end) && !before(h->sack[0].end, s->probe_end) &&
                 !after(h->sack[0].end, h->ack);
    bool echoed = (int32_t)(h->echo - s->probe_stamp) >= 0, later = after(h->ack, s->probe_high);
    if (s->probe_again && !twice && !echoed && !later)
        return;
    s->probing = false;
    if (!s->probe_again || twice || s->recovery != 0 || t->segments == 0)
        return;
    count(s, PROBE_RECOVERIES);
    usk_cong_loss(s->o, s->cong, 1);
    usk_cong_recovered(s->o, s->cong);
    t->segments--;
    t->late++;
}

/* Processes the acknowledgement, the window and the SACK blocks of a packet whose ack is at most snd_nxt. The caller
 * pushes. */
void rdp_ack(struct rdp_sock *s, const struct rdp_head *h)
{
    uint64_t now = now_of(s);
    struct tally t = { 0 };
    bool forward = after(h->ack, s->snd_una);
    if (before(h->ack, s->snd_una))
        return;
    /* An older window advertisement is ignored (the role of SND.WL1). */
    if (forward || (int32_t)(h->stamp - s->wnd_stamp) >= 0) {
        s->snd_wnd = h->window;
        s->max_wnd = max32(s->max_wnd, h->window);
        s->wnd_stamp = h->stamp;
    }
    s->probes = 0;
    if (s->packets_out == 0 && (!s->unsent || rdp_fits(s, s->unsent))) {
        /* Nothing is in flight, and no data waits for the window. */
        s->backoff = 0;
        s->unacked_since = 0;
    }
    if (forward) {
        cumulative(s, h->ack, &t);
        s->backoff = 0;
        s->soft_error = 0;
        s->unacked_since = s->packets_out ? now : 0;
        rdp_rtt(s, rdp_stamp(s) - h->echo);
    }
    selective(s, h, &t);
    if (s->recovery && !before(s->snd_una, s->recover) && forward) {
        /* All packets that were in flight when the loss was detected are acknowledged. */
        s->recovery = 0;
        usk_cong_recovered(s->o, s->cong);
    }
    if (t.latest)
        rdp_rack_detect(s);
    probe_answered(s, h, &t);
    if (t.latest) {
        usk_cong_ack_t a = {
            .segments = t.segments, .late = t.late, .rtt_us = t.once ? (int64_t)((now - t.once) / 1000) : -1,
            .mark = &t.copy.rate,
            .flags = forward ? 0 : USK_CONG_BEHIND_HOLE,
        };
        usk_cong_acked(s->o, s->cong, &a);
    }
    if (forward) {
        /* The push that follows starts it anew. */
        rdp_disarm(s, T_PTO);
        rdp_rearm(s);
    }
    int limit;
    if (s->nospace && (int64_t)usk_charged(s->o, USK_SEND, &limit) * 3 < (int64_t)limit * 2) {
        s->nospace = false;
        usk_wake(sk_of(s), WAKE_OUT);
    }
}

/* The retransmission timer: everything in flight counts as lost (RFC 5681 §3.1, RFC 6675 §5.1). */
void rdp_timeout(struct rdp_sock *s)
{
    /* The peer may discard data that it has selectively acknowledged; if the first packet is marked so, it did (RFC
     * 2018 §8). */
    bool reneged = s->out.first && (s->out.first->marks & SACKED);
    s->recovery = 2;
    s->recover = s->snd_nxt;
    usk_cong_rto(s->o, s->cong);
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
    s->lost_hint = s->out.first;
    s->probing = false;
    rdp_disarm(s, T_RACK);
    rdp_disarm(s, T_PTO);
}

/* An algorithm that needs pacing cannot be used: packets are sent as soon as the window allows. */
static usk_cong_t *borrow(struct rdp_sock *s, const char *name, int *err)
{
    usk_cong_t *c = usk_cong_new(s->o, name, s->mss ? s->mss : 1000);
    usk_cong_info_t i;
    *err = c ? 0 : -ENOENT;
    if (c && (usk_cong_info(c, &i, sizeof i) < 0 || i.needs_pacing)) {
        usk_cong_free(s->o, c);
        *err = -EOPNOTSUPP;
        c = NULL;
    }
    return c;
}

/* Selects the algorithm of this name; applies it now if there is a connection. -ENOENT: there is none; -EOPNOTSUPP: it
 * paces. */
int rdp_cong_choose(struct rdp_sock *s, const char *name)
{
    int err;
    usk_cong_t *c = strlen(name) < sizeof s->cong_name ? borrow(s, name, &err) : NULL;
    if (!c)
        return strlen(name) < sizeof s->cong_name ? err : -ENOENT;
    strcpy(s->cong_name, name);
    if (s->cong) {
        usk_cong_free(s->o, s->cong);
        s->cong = c;
        usk_cong_sent(s->o, c, rdp_pipe(s), 0, NULL);
        return 0;
    }
    usk_cong_free(s->o, c);
    return 0;
}

/* A connection begins: by the program's choice, or net.rdp.congestion's. */
int rdp_cong_begin(struct rdp_sock *s)
{
    static const char *const names[] = { NULL, "reno", "cubic" };
    int err;
    const char *name = s->cong_name[0] ? s->cong_name : names[setting(s, C_CONGESTION)];
    s->cong = borrow(s, name, &err);
    /* The chosen one has been unregistered, or TCP's default needs pacing. */
    if (!s->cong)
        s->cong = borrow(s, "reno", &err);
    return err;
}

void rdp_cong_end(struct rdp_sock *s)
{
    usk_cong_free(s->o, s->cong);
    s->cong = NULL;
}

/* The state of the algorithm in use, or the name of the one that would be used. */
void rdp_cong_tell(struct rdp_sock *s, usk_cong_info_t *i)
{
    bool none = !s->cong && rdp_cong_begin(s) == 0;
    memset(i, 0, sizeof *i);
    usk_cong_info(s->cong, i, sizeof *i);
    if (none)
        rdp_cong_end(s);
}

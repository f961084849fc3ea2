/* RDP: data in and out of order, and the FIN, on their way to the receive queue. */
#include "rdp_int.h"

/* The next acknowledgement reports the duplicate (RFC 2883), so that the sender can detect a spurious
 * retransmission. */
void rdp_came_twice(struct rdp_sock *s, uint32_t start, uint32_t end)
{
    s->dup_start = start;
    s->dup_end = end;
}

static void ack_soon(struct rdp_sock *s)
{
    s->ack_pending++;
    if (s->ack_pending >= 2 || s->quick > 0) {
        if (s->quick > 0)
            s->quick--;
        rdp_send_ack(s, 0);
    } else if (s->due[T_ACK] == 0) {
        rdp_arm(s, T_ACK, now_of(s) + (uint64_t)setting(s, C_DELACK) * 1000000);
    }
}

/* The peer's FIN has arrived in sequence. */
static void fin_in(struct rdp_sock *s)
{
    s->fin_got = true;
    s->rcv_nxt++;
    /* Data beyond a FIN is discarded. */
    rdp_list_free(s, &s->ofo, false);
    switch (state_of(s)) {
    case ESTABLISHED: rdp_state(s, CLOSE_WAIT); break;
    case FIN_WAIT1: rdp_state(s, CLOSING); break;
    case FIN_WAIT2:
        rdp_send_ack(s, 0);
        usk_wake(sk_of(s), WAKE_ALL);
        rdp_time_wait(s);
        return;
    }
    rdp_send_ack(s, 0);
    usk_wake(sk_of(s), WAKE_IN | POLLRDHUP);
}

/* Appends the next packet in order to the receive queue. Consumes `g`. False: the peer violated the protocol, and the
 * connection is gone. */
static bool append(struct rdp_sock *s, struct rdp_seg *g)
{
    if (before(g->seq, s->rcv_nxt)) {
        /* A retransmission that was split differently: its first part was received already. */
        uint32_t old = s->rcv_nxt - g->seq;
        uint32_t pull = min32(old, g->len);
        usk_skb_pull(g->skb, pull);
        g->len -= pull;
        g->seq = s->rcv_nxt;
        g->flags &= (uint8_t)~BEG;
    }
    uint32_t len = (g->flags & BEG) ? g->len : s->cur_len + g->len;
    bool misfit = (g->flags & FIN) ? s->mid : !!(g->flags & BEG) == s->mid || len > s->max_msg || len < g->len;
    if (misfit) {
        rdp_seg_free(s, g, false);
        count(s, IN_ERRS);
        rdp_abort(s, EPROTO, true);
        return false;
    }
    if (g->flags & FIN) {
        rdp_seg_free(s, g, false);
        fin_in(s);
        return state_of(s) != CLOSED;
    }
    s->rcv_nxt = g->end;
    s->adv_left -= min32(s->adv_left, seg_cost(g));
    s->in_mem += usk_skb_truesize(g->skb);
    s->bytes_in += g->len;
    s->cur_len = len;
    s->mid = !(g->flags & END);
    rdp_list_insert(&s->in, NULL, g);
    if (g->flags & END) {
        s->whole++;
        s->msgs_in++;
        count(s, IN_MSGS);
        usk_wake(sk_of(s), WAKE_IN);
    }
    return true;
}

/* `in` is one incomplete message. If its packets are smaller than their overhead, they use far more memory than their
 * payload: then they are copied to one packet, so that a message of the allowed length fits. */
static void gather(struct rdp_sock *s)
{
    struct rdp_seg *first = s->in.first;
    uint8_t piece[2048];
    if (!first || !first->next || s->in_mem / 2 < s->cur_len + COST)
        return;
    usk_skb_t *all = usk_skb_new();
    for (struct rdp_seg *g = first; g; g = g->next)
        for (uint32_t at = 0; at < g->len;) {
            ptrdiff_t n = usk_skb_copy(g->skb, at, piece, min32(sizeof piece, g->len - at));
            if (n <= 0 || usk_skb_append(all, piece, (size_t)n) < 0) {
                usk_skb_free(all);
                return;
            }
            at += (uint32_t)n;
        }
    if (usk_charge(s->o, USK_RECV, all, 0) < 0) {
        usk_skb_free(all);
        return;
    }
    count(s, RCV_GATHERED);
    uint32_t end = s->in.last->end;
    while (first->next) {
        struct rdp_seg *g = first->next;
        rdp_list_remove(&s->in, g);
        rdp_seg_free(s, g, false);
    }
    usk_uncharge(s->o, USK_RECV, first->skb, 0);
    usk_skb_free(first->skb);
    first->skb = all;
    first->len = s->cur_len;
    first->end = end;
    s->in_mem = usk_skb_truesize(all);
}

/* Whether the buffer has room for a packet. Packets beyond a hole are dropped in favour of the next in order; and the
 * message that the program waits for may always be completed. */
static bool room_for(struct rdp_sock *s, usk_skb_t *skb, bool next)
{
    int limit;
    int64_t size = usk_skb_truesize(skb);
    if (usk_charged(s->o, USK_RECV, &limit) + size <= limit)
        return true;
    while (next && s->ofo.last && usk_charged(s->o, USK_RECV, NULL) + size > limit) {
        struct rdp_seg *last = s->ofo.last;
        rdp_list_remove(&s->ofo, last);
        rdp_seg_free(s, last, false);
        count(s, OFO_PRUNED);
    }
    if (next && s->whole == 0 && usk_charged(s->o, USK_RECV, NULL) + size > limit)
        gather(s);
    return next && (s->whole == 0 || usk_charged(s->o, USK_RECV, NULL) + size <= limit);
}

/* Queues a packet beyond a hole. Consumes `g`. */
static void keep_for_later(struct rdp_sock *s, struct rdp_seg *g)
{
    struct rdp_seg *after_this = s->ofo.last;
    while (after_this && after(after_this->seq, g->seq))
        after_this = after_this->prev;
    if (after_this && !before(after_this->end, g->end)) {
        count(s, IN_DUPS);
        rdp_seg_free(s, g, false);
        return;
    }
    struct rdp_seg *next = after_this ? after_this->next : s->ofo.first;
    while (next && !after(next->end, g->end)) {
        struct rdp_seg *gone = next;
        next = next->next;
        rdp_list_remove(&s->ofo, gone);
        rdp_seg_free(s, gone, false);
    }
    s->ofo_recent = g->seq;
    count(s, OFO_QUEUED);
    rdp_list_insert(&s->ofo, next, g);
}

/* Processes the payload and FIN of a packet. Consumes `skb`, whose header is pulled. False: the connection is gone. */
bool rdp_data_in(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb)
{
    uint32_t len = (uint32_t)usk_skb_len(skb);
    uint32_t end = h->seq + len + !!(h->flags & END) + !!(h->flags & FIN);
    bool data = len > 0 || (h->flags & END);
    if (end == h->seq) {
        usk_skb_free(skb);
        return true;
    }
    if (!after(end, s->rcv_nxt)) {
        count(s, IN_DUPS);
        rdp_came_twice(s, h->seq, end);
        discard(s, skb, USK_DROP_STATE);
        rdp_send_ack(s, 0);
        return true;
    }
    if (data && s->orphan) {
        /* No program will read it: sends a reset (RFC 1122 §4.2.2.13). */
        discard(s, skb, USK_DROP_STATE);
        rdp_abort(s, 0, true);
        return false;
    }
    if (s->fin_got || after(end - !!(h->flags & FIN), s->edge)) {
        count(s, BEYOND_WINDOW);
        discard(s, skb, USK_DROP_STATE);
        rdp_challenge(s);
        return true;
    }
    bool next = !after(h->seq, s->rcv_nxt);
    struct rdp_seg *g = room_for(s, skb, next) ? calloc(1, sizeof *g) : NULL;
    if (!g || usk_charge(s->o, USK_RECV, skb, 0) < 0) {
        free(g);
        count(s, RCV_FULL);
        discard(s, skb, USK_DROP_STATE);
        rdp_send_ack(s, 0);
        return true;
    }
    g->skb = skb;
    g->seq = h->seq;
    g->end = end;
    g->len = len;
    g->flags = h->flags & (BEG | END | FIN);
    if (!next) {
        keep_for_later(s, g);
        rdp_send_ack(s, 0);
        return true;
    }
    bool filled = s->ofo.first != NULL;
    if (!append(s, g))
        return false;
    while ((g = s->ofo.first) && !after(g->seq, s->rcv_nxt)) {
        rdp_list_remove(&s->ofo, g);
        if (!after(g->end, s->rcv_nxt))
            rdp_seg_free(s, g, false);
        else if (!append(s, g))
            return false;
    }
    if (filled)
        rdp_send_ack(s, 0);
    else if (data && state_of(s) != TIME_WAIT)
        ack_soon(s);
    return true;
}

/* RDP: the queues of packets of a sock, and of the send queue which are in flight, lost, and fit in the window. */
#include "rdp_int.h"

/* Appends if `before_this` is null. */
void rdp_list_insert(struct rdp_list *l, struct rdp_seg *before_this, struct rdp_seg *g)
{
    g->next = before_this;
    g->prev = before_this ? before_this->prev : l->last;
    *(g->prev ? &g->prev->next : &l->first) = g;
    *(before_this ? &before_this->prev : &l->last) = g;
}

void rdp_list_remove(struct rdp_list *l, struct rdp_seg *g)
{
    *(g->prev ? &g->prev->next : &l->first) = g->next;
    *(g->next ? &g->next->prev : &l->last) = g->prev;
    g->next = g->prev = NULL;
}

/* Uncharges and frees a packet of a send or receive queue. */
void rdp_seg_free(struct rdp_sock *s, struct rdp_seg *g, bool sending)
{
    if (g->skb) {
        if (sending)
            usk_uncharge(s->o, USK_SEND, g->skb, 0);
        else
            usk_uncharge(s->o, USK_RECV, g->skb, 0);
        usk_skb_free(g->skb);
    }
    free(g);
}

void rdp_list_free(struct rdp_sock *s, struct rdp_list *l, bool sending)
{
    for (struct rdp_seg *g; (g = l->first);) {
        rdp_list_remove(l, g);
        rdp_seg_free(s, g, sending);
    }
}

/* In and out of the list by time of sending, which loss detection walks. */
void rdp_in_flight(struct rdp_sock *s, struct rdp_seg *g)
{
    g->tnext = NULL;
    g->tprev = s->sent_last;
    *(s->sent_last ? &s->sent_last->tnext : &s->sent_first) = g;
    s->sent_last = g;
}

/* Marks a packet in flight as lost, to be retransmitted. */
void rdp_mark_lost(struct rdp_sock *s, struct rdp_seg *g)
{
    s->lost_out += !(g->marks & LOST);
    s->retrans_out -= !!(g->marks & RETRANS);
    g->marks = (uint8_t)((g->marks | LOST) & ~RETRANS);
    rdp_off_flight(s, g);
    if (!s->lost_hint || before(g->seq, s->lost_hint->seq))
        s->lost_hint = g;
}

void rdp_off_flight(struct rdp_sock *s, struct rdp_seg *g)
{
    if (!g->tprev && s->sent_first != g)
        return;
    *(g->tprev ? &g->tprev->tnext : &s->sent_first) = g->tnext;
    *(g->tnext ? &g->tnext->tprev : &s->sent_last) = g->tprev;
    g->tnext = g->tprev = NULL;
}

/* Whether the peer's window has room for a packet. */
bool rdp_fits(const struct rdp_sock *s, const struct rdp_seg *g)
{
    uint32_t cost = g->len > s->mss ? s->mss + COST : seg_cost(g);
    return (g->len == 0 && !(g->flags & END)) || s->cost_out + cost <= s->snd_wnd;
}

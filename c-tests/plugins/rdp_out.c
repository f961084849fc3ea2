/* RDP: output. The write loop, acknowledgements, SYN and RST, and the loss probe. */
#include "rdp_int.h"

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

/* Writes h->len bytes, checksum field zero. */
void rdp_put_head(uint8_t *p, const struct rdp_head *h)
{
    put16(p, h->from);
    put16(p + 2, h->to);
    put32(p + 4, h->seq);
    put32(p + 8, h->ack);
    p[12] = (uint8_t)(VERSION << 4 | h->len / 4);
    p[13] = h->flags;
    put16(p + 14, 0);
    put32(p + 16, h->window);
    put32(p + 20, h->stamp);
    put32(p + 24, h->echo);
    uint8_t *at = p + FIXED;
    if (h->flags & HEL) {
        put32(at, h->hello.isn);
        put32(at + 4, h->hello.max_msg);
        put16(at + 8, h->hello.mss);
        put16(at + 10, 0);
        at += HELLO;
    }
    for (int i = 0; i < h->sacks; i++, at += SACK) {
        put32(at, h->sack[i].start);
        put32(at + 4, h->sack[i].end);
    }
}

/* The window to offer: half of what SO_RCVBUF leaves, since a packet may take twice its cost in pages. Never less than
 * the rest of the last advertised window; and while there is no complete message to read, enough for the incomplete
 * one. */
uint32_t rdp_offer(struct rdp_sock *s)
{
    enum { LEAST = 2 * (1500 + COST) };
    int limit;
    usk_charged(s->o, USK_RECV, &limit);
    int64_t room = ((int64_t)limit - s->in_mem) / 2;
    if (room < LEAST)
        room = s->whole == 0 ? LEAST : 0;
    return max32((uint32_t)room, s->adv_left);
}

/* Fills the fields of every packet of the connection: ports, acknowledgement, window, time stamps; and our hello until
 * the peer is known to have it. */
static void fill(struct rdp_sock *s, struct rdp_head *h, int flags)
{
    usk_addr_t local, peer;
    usk_ends(s->o, &local, &peer);
    memset(h, 0, sizeof *h);
    h->from = local.port;
    h->to = peer.port;
    h->flags = (uint8_t)flags;
    h->len = FIXED;
    h->stamp = rdp_stamp(s);
    if (!s->confirmed) {
        h->flags |= HEL;
        h->len += HELLO;
        h->hello.isn = s->iss;
        h->hello.max_msg = s->max_msg;
        h->hello.mss = s->user_mss ? (uint16_t)s->user_mss : MAX_MSS;
    }
    if (flags & ACK) {
        uint32_t offer = rdp_offer(s);
        h->ack = s->rcv_nxt;
        h->window = offer;
        h->echo = s->ts_recent;
        s->adv = s->adv_left = offer;
        if (after(s->rcv_nxt + offer, s->edge))
            s->edge = s->rcv_nxt + offer;
        s->last_ack_sent = s->rcv_nxt;
        s->ack_pending = 0;
        rdp_disarm(s, T_ACK);
    }
}

/* Adds at most `max` SACK blocks: a duplicate, reported once; then the ranges beyond holes, the most recently updated
 * first (RFC 2018). */
static void add_sacks(struct rdp_sock *s, struct rdp_head *h, int max)
{
    int n = 0;
    if (s->dup_start != s->dup_end && max > 0) {
        h->sack[0].start = s->dup_start;
        h->sack[0].end = s->dup_end;
        s->dup_start = s->dup_end;
        h->sacks = 1;
    }
    int first = h->sacks;
    max -= first;
    uint32_t start = 0, end = 0;
    for (struct rdp_seg *g = s->ofo.first; g; g = g->next) {
        if (g == s->ofo.first || after(g->seq, end)) {
            start = g->seq;
            end = g->end;
        } else if (after(g->end, end)) {
            end = g->end;
        }
        if (g->next && !after(g->next->seq, end))
            continue;
        bool recent = !before(s->ofo_recent, start) && before(s->ofo_recent, end);
        int at = n;
        if (recent && max > 0) {
            int keep = n < max ? n : max - 1;
            memmove(&h->sack[first + 1], &h->sack[first], (size_t)keep * sizeof h->sack[0]);
            n = keep;
            at = 0;
        } else if (n >= max) {
            continue;
        }
        h->sack[first + at].start = start;
        h->sack[first + at].end = end;
        n++;
    }
    h->sacks = first + n;
    h->len = (uint8_t)(h->len + h->sacks * SACK);
}

/* Pushes the header, and sends; the checksum is left to whoever puts the packet on a wire. Consumes `skb`. */
static int transmit(struct rdp_sock *s, usk_skb_t *skb, struct rdp_head *h, uint32_t payload)
{
    usk_addr_t local, peer;
    usk_ends(s->o, &local, &peer);
    uint8_t *p = usk_skb_push(skb, h->len);
    if (!p) {
        usk_skb_free(skb);
        return -ENOBUFS;
    }
    rdp_put_head(p, h);
    usk_skb_csum_partial(skb, 0, 14, usk_csum_pseudo(&local, &peer, IPPROTO_RDP, h->len + payload));
    s->segs_out++;
    count(s, OUT_SEGS);
    return usk_xmit(s->o, skb, NULL);
}

void rdp_send_syn(struct rdp_sock *s, bool with_ack)
{
    struct rdp_head h;
    fill(s, &h, with_ack ? SYN | ACK : SYN);
    h.seq = s->iss;
    h.window = rdp_offer(s);
    transmit(s, usk_skb_new(), &h, 0);
}

/* A packet without data; `flags`: PRB, to be answered at once. */
void rdp_send_ack(struct rdp_sock *s, int flags)
{
    struct rdp_head h;
    fill(s, &h, ACK | flags);
    h.seq = s->snd_nxt;
    add_sacks(s, &h, (MAX_HEADER - h.len) / SACK);
    transmit(s, usk_skb_new(), &h, 0);
}

void rdp_send_rst(struct rdp_sock *s)
{
    struct rdp_head h;
    fill(s, &h, RST | ACK);
    h.seq = s->snd_nxt;
    count(s, OUT_RSTS);
    transmit(s, usk_skb_new(), &h, 0);
}

/* Sends a challenge acknowledgement for an unacceptable packet, at most ten per second (RFC 5961). */
void rdp_challenge(struct rdp_sock *s)
{
    uint64_t now = now_of(s);
    if (now - s->challenge_at >= 1000000000u || s->challenge_at == 0) {
        s->challenge_at = now;
        s->challenges = 0;
    }
    if (s->challenges++ >= 10)
        return;
    count(s, CHALLENGE_ACKS);
    rdp_send_ack(s, 0);
}

/* Sends a RST for a packet that belongs to no connection, with the numbers of RFC 9293 §3.10.7.1. Never in reply to a
 * RST; at most net.rdp.rst_per_sec per second. */
void rdp_reply_rst(usk_reg_t *reg, const struct rdp_head *in, size_t payload, const usk_packet_info_t *info)
{
    struct rdp_world *w = usk_user(reg);
    if (in->flags & RST)
        return;
    uint64_t second = usk_now(reg) / 1000000000u;
    if (atomic_exchange(&w->rst_second, second) != second)
        atomic_store(&w->rsts, 0);
    if (atomic_fetch_add(&w->rsts, 1) >= usk_sysctl(reg, C_RST_RATE))
        return;
    struct rdp_head h = { .from = in->to, .to = in->from, .flags = RST, .len = FIXED, .echo = in->stamp };
    if (in->flags & ACK) {
        h.seq = in->ack;
    } else {
        h.flags |= ACK;
        h.ack = in->seq + (uint32_t)payload + !!(in->flags & SYN) + !!(in->flags & FIN) + !!(in->flags & END);
    }
    usk_skb_t *skb = usk_skb_new();
    uint8_t *p = usk_skb_push(skb, FIXED);
    if (!p) {
        usk_skb_free(skb);
        return;
    }
    rdp_put_head(p, &h);
    put16(p + 14, usk_csum_fold(usk_csum(p, FIXED, usk_csum_pseudo(&info->dst, &info->src, IPPROTO_RDP, FIXED))));
    usk_count(reg, OUT_SEGS, 1);
    usk_count(reg, OUT_RSTS, 1);
    usk_reply(reg, info, skb);
}

/* The largest payload of a packet: what the path, the peer and the program allow. */
void rdp_set_mss(struct rdp_sock *s)
{
    int room = usk_path_mtu(s->o);
    if (room > 0)
        s->pmtu = (uint32_t)room;
    uint32_t mss = s->pmtu > FIXED + HELLO + MIN_MSS ? s->pmtu - FIXED - HELLO : MIN_MSS;
    mss = min32(mss, s->peer_mss ? s->peer_mss : MAX_MSS);
    mss = min32(mss, s->user_mss ? s->user_mss : MAX_MSS);
    mss = max32(mss, MIN_MSS);
    if (s->cong && mss != s->mss)
        usk_cong_set_mss(s->o, s->cong, mss);
    s->mss = mss;
}

/* Splits a packet after `n` bytes of payload; both parts get its state. False: no memory, and it is not split. */
static bool split(struct rdp_sock *s, struct rdp_seg *g, uint32_t n)
{
    struct rdp_seg *rest = calloc(1, sizeof *rest);
    usk_skb_t *skb = rest ? usk_skb_share(g->skb) : NULL;
    if (!skb || usk_charge(s->o, USK_SEND, skb, 0) < 0) {
        usk_skb_free(skb);
        free(rest);
        return false;
    }
    *rest = *g;
    rest->skb = skb;
    rest->tnext = rest->tprev = NULL;
    usk_skb_pull(skb, n);
    usk_skb_trim(g->skb, n);
    rest->seq = g->seq + n;
    rest->len = g->len - n;
    rest->flags &= (uint8_t)~BEG;
    g->end = rest->seq;
    g->len = n;
    g->flags &= (uint8_t)~END;
    bool sent = g != s->unsent && before(g->seq, s->snd_nxt);
    rdp_list_insert(&s->out, g->next, rest);
    if (sent) {
        s->packets_out++;
        s->cost_out += COST;
        s->sacked_out += !!(g->marks & SACKED);
        s->lost_out += !!(g->marks & LOST);
        s->retrans_out += !!(g->marks & RETRANS);
        if (g->tprev || s->sent_first == g) {
            /* Right behind its first half: it was sent at the same time. */
            rest->tprev = g;
            rest->tnext = g->tnext;
            *(g->tnext ? &g->tnext->tprev : &s->sent_last) = rest;
            g->tnext = rest;
        }
    }
    return true;
}

/* Sends a packet of the queue; `how`: AGAIN, PROBE. A probe that is a retransmission replaces its first copy in the
 * congestion control's count of segments in flight, because nothing shows that the first is lost. */
enum { AGAIN = 1, PROBE = 2 };

static void send_seg(struct rdp_sock *s, struct rdp_seg *g, int how)
{
    for (int tries = 0; tries < 2; tries++) {
        while (g->len > s->mss && split(s, g, s->mss))
            count(s, PMTU_SPLITS);
        struct rdp_head h;
        fill(s, &h, ACK | g->flags);
        h.seq = g->seq;
        int room = (int)(s->pmtu - g->len) - h.len;
        int sacks = (MAX_HEADER - h.len) / SACK;
        if (room / SACK < sacks)
            sacks = room < 0 ? 0 : room / SACK;
        if (s->ofo.first)
            add_sacks(s, &h, sacks);
        /* P requests an immediate acknowledgement: the peer may not have the connection yet, or this is a probe. */
        if (!s->confirmed || (how & PROBE))
            h.flags |= PRB;
        if (tries == 0 && how != (PROBE | AGAIN))
            usk_cong_sent(s->o, s->cong, 1, how & AGAIN, &g->rate);
        int r = transmit(s, g->skb ? usk_skb_share(g->skb) : usk_skb_new(), &h, g->len);
        g->sent = now_of(s);
        if (r != -EMSGSIZE)
            break;
        /* The path MTU has decreased: split and send again. */
        rdp_set_mss(s);
    }
    rdp_off_flight(s, g);
    rdp_in_flight(s, g);
}

/* Retransmits the first lost packet that is not yet retransmitted. False: there is none. All calls of a recovery
 * together walk the queue only once, and again from a packet that is lost again (the role of retransmit_skb_hint). */
static bool resend(struct rdp_sock *s)
{
    if (s->lost_out <= s->retrans_out)
        return false;
    for (struct rdp_seg *g = s->lost_hint; g && g != s->unsent; g = g->next) {
        if ((g->marks & (LOST | RETRANS | SACKED)) != LOST)
            continue;
        send_seg(s, g, AGAIN);
        g->marks |= RETRANS | EVER_RETRANS;
        s->retrans_out++;
        s->retrans++;
        count(s, RETRANS_SEGS);
        s->lost_hint = g->next;
        return true;
    }
    s->lost_hint = NULL;
    return false;
}

static void send_new(struct rdp_sock *s, int how)
{
    struct rdp_seg *g = s->unsent;
    if (s->packets_out == 0)
        s->unacked_since = now_of(s);
    send_seg(s, g, how);
    /* After a split: g was sent, its second part is next. */
    s->unsent = g->next;
    s->snd_nxt = g->end;
    s->packets_out++;
    s->cost_out += seg_cost(g);
    s->bytes_out += g->len;
}

/* The peer's window has room for a part of the next packet only: sends that. False: it is not worth a packet, or there
 * is no memory for one. */
bool rdp_send_part(struct rdp_sock *s)
{
    struct rdp_seg *g = s->unsent;
    bool worth = g->len > MIN_MSS && s->snd_wnd >= COST + MIN_MSS && s->snd_wnd < seg_cost(g);
    if (!worth || !split(s, g, s->snd_wnd - COST))
        return false;
    send_new(s, 0);
    return true;
}

/* Whether a loss probe may be armed: not while one is outstanding, nor while RACK or the timer is recovering. */
static bool may_probe(const struct rdp_sock *s)
{
    return s->packets_out > 0 && s->sacked_out == 0 && s->lost_out == 0 && s->recovery == 0 && !s->probing;
}

/* (Re)starts the loss probe's timer, when data was sent or acknowledged, or stops it (RFC 8985 §7.2). `anew`: also if
 * it runs. It fires before the retransmission timer, or at the same time, and is then handled first. */
static void probe_arm(struct rdp_sock *s, bool anew)
{
    if (!may_probe(s) || s->due[T_RTX] == 0) {
        rdp_disarm(s, T_PTO);
        return;
    }
    if (s->due[T_PTO] != 0 && !anew)
        return;
    uint64_t wait = s->srtt ? 2000 * (uint64_t)s->srtt : 1000000000;
    wait += s->packets_out == 1 ? (uint64_t)setting(s, C_DELACK) * 1000000 : rdp_reorder_ns(s);
    rdp_arm(s, T_PTO, min64(now_of(s) + wait, s->due[T_RTX]));
}

/* The last packets are not acknowledged: sends one more, regardless of the congestion window, which the peer
 * acknowledges at once. False: acknowledgements that arrived meanwhile made it unnecessary. */
bool rdp_loss_probe(struct rdp_sock *s)
{
    rdp_disarm(s, T_PTO);
    if (!may_probe(s))
        return false;
    count(s, LOSS_PROBES);
    s->probe_again = !s->unsent || !rdp_fits(s, s->unsent);
    if (s->probe_again) {
        struct rdp_seg *last = s->unsent ? s->unsent->prev : s->out.last;
        send_seg(s, last, PROBE | AGAIN);
        last->marks |= EVER_RETRANS;
        s->probe_end = last->end;
        s->retrans++;
        count(s, RETRANS_SEGS);
    } else {
        send_new(s, PROBE);
    }
    s->probing = true;
    s->probe_high = s->snd_nxt;
    s->probe_stamp = rdp_stamp(s);
    rdp_rearm(s);
    return true;
}

/* The write loop: lost packets first, then new ones, as the congestion and the peer's window allow. */
void rdp_push(struct rdp_sock *s)
{
    int state = state_of(s);
    if (state == SYN_SENT || state == CLOSED || state == LISTEN || state == TIME_WAIT || state == FIN_WAIT2)
        return;
    int quota = usk_cong_quota(s->o, s->cong);
    bool idle = s->packets_out == 0;
    bool fresh = false;
    while (quota > 0 && resend(s))
        quota--;
    while (s->unsent) {
        if (quota-- <= 0 || !rdp_fits(s, s->unsent))
            break;
        send_new(s, 0);
        fresh = true;
    }
    if (!s->unsent && quota > 0)
        usk_cong_app_limited(s->o, s->cong);
    /* While nothing was in flight the timer was that of a zero window, which may be a minute. */
    if (s->due[T_RTX] == 0 || (idle && s->packets_out > 0))
        rdp_rearm(s);
    probe_arm(s, fresh);
}

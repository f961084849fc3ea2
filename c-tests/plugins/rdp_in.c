/* RDP: input. Parsing, the listener, processing by state, ICMP errors. Every dropped packet is counted, by a counter of
 * RDP and a drop reason of the stack. */
#include "rdp_int.h"

static uint32_t get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static uint32_t get32(const uint8_t *p) { return get16(p) << 16 | get16(p + 2); }

/* Reads the header of a packet. False: it is not valid in this version. If true, all numbers are in range; the checksum
 * is not verified here. */
bool rdp_parse(usk_skb_t *skb, struct rdp_head *h)
{
    const uint8_t *p = usk_skb_header(skb, FIXED);
    if (!p || p[12] >> 4 != VERSION)
        return false;
    size_t total = usk_skb_len(skb), len = (size_t)(p[12] & 15) * 4;
    if (len < FIXED || len > MAX_HEADER || len > total || !(p = usk_skb_header(skb, len)))
        return false;
    memset(h, 0, sizeof *h);
    h->from = (uint16_t)get16(p);
    h->to = (uint16_t)get16(p + 2);
    h->seq = get32(p + 4);
    h->ack = get32(p + 8);
    h->len = (uint8_t)len;
    h->flags = p[13];
    h->csum = (uint16_t)get16(p + 14);
    h->window = get32(p + 16);
    h->stamp = get32(p + 20);
    h->echo = get32(p + 24);
    const uint8_t *at = p + FIXED, *end = p + len;
    if (h->from == 0 || h->to == 0)
        return false;
    if (h->flags & HEL) {
        if (end - at < HELLO)
            return false;
        h->hello.isn = get32(at);
        h->hello.max_msg = get32(at + 4);
        h->hello.mss = (uint16_t)get16(at + 8);
        at += HELLO;
        if (h->hello.mss < MIN_MSS)
            return false;
    }
    if ((end - at) % SACK != 0)
        return false;
    for (; at < end; at += SACK, h->sacks++) {
        h->sack[h->sacks].start = get32(at);
        h->sack[h->sacks].end = get32(at + 4);
    }
    /* Valid combinations: payload only without SYN, FIN and RST; a SYN with a hello; only one of SYN, FIN, RST. */
    size_t payload = total - len;
    bool data = payload > 0 || (h->flags & (BEG | END));
    int alone = !!(h->flags & SYN) + !!(h->flags & FIN) + !!(h->flags & RST) + data;
    if (alone > 1 || ((h->flags & SYN) && !(h->flags & HEL)))
        return false;
    /* The first and the middle packets of a message have payload; only the last may be empty. */
    return !data || payload > 0 || (h->flags & END);
}

/* ---- connections ----------------------------------------------------------------------------------------------- */

static void hello(struct rdp_sock *s, const struct rdp_head *h)
{
    s->peer_max_msg = h->hello.max_msg;
    s->peer_mss = min32(h->hello.mss, MAX_MSS);
}

/* Processes a packet of an established connection. Consumes `skb`. */
static void synchronized(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb)
{
    uint64_t now = now_of(s);
    size_t payload = usk_skb_len(skb) - h->len;
    uint32_t end = h->seq + (uint32_t)payload + !!(h->flags & END) + !!(h->flags & FIN);
    s->segs_in++;
    /* A packet is acceptable if it overlaps the window as the peer knows it (RFC 9293 §3.10.7.4): otherwise an attacker
     * who guesses one bit of our numbers could set ts_recent, and the peer's packets would be dropped while it is
     * valid. */
    bool outside = after(h->seq, s->edge + 1) || before(end, s->last_ack_sent);
    if ((h->flags & SYN) || !(h->flags & ACK) || outside) {
        if (!(h->flags & RST)) {
            if (state_of(s) == TIME_WAIT && (h->flags & (SYN | ACK)) == SYN && (int32_t)(h->stamp - s->ts_recent) > 0) {
                /* A new connection of the same ends, later than all of the old one (RFC 1122 §4.2.2.13): the listener
                 * gets the next SYN. */
                discard(s, skb, USK_DROP_STATE);
                rdp_finish(s);
                return;
            }
            bool again = (h->flags & (SYN | ACK)) == (SYN | ACK) && h->seq == s->irs;
            bool old = (h->flags & (SYN | ACK)) == ACK && end != h->seq && before(end, s->last_ack_sent);
            count(s, old ? IN_DUPS : BEYOND_WINDOW);
            if (old)
                rdp_came_twice(s, h->seq, end);
            discard(s, skb, USK_DROP_STATE);
            /* A retransmitted reply to our hello, or old data: our acknowledgement was lost. */
            if (again && !s->confirmed)
                rdp_send_ack(s, PRB);
            else if (old && state_of(s) != TIME_WAIT)
                rdp_send_ack(s, 0);
            else
                rdp_challenge(s);
            return;
        }
    }
    if (h->flags & RST) {
        bool exact = h->seq == s->rcv_nxt;
        count(s, IN_RSTS);
        discard(s, skb, USK_DROP_STATE);
        /* In TIME-WAIT it would only cut the wait short (RFC 1337). */
        if (exact && state_of(s) != TIME_WAIT)
            rdp_abort(s, state_of(s) == CLOSE_WAIT ? EPIPE : ECONNRESET, false);
        else if (!exact && !before(h->seq, s->rcv_nxt) && !after(h->seq, s->edge))
            rdp_challenge(s);
        return;
    }
    /* From an earlier wrap of the sequence numbers (RFC 7323 §5); ts_recent is valid for 20 minutes. */
    if (now - s->ts_recent_at >= 1200000000000u) {
        s->wnd_stamp = h->stamp;
    } else if ((int32_t)(h->stamp - s->ts_recent) < 0) {
        count(s, OLD_STAMPS);
        discard(s, skb, USK_DROP_STATE);
        rdp_challenge(s);
        return;
    }
    /* RFC 5961 §5.2. */
    if (after(h->ack, s->snd_nxt) || before(h->ack, s->snd_una - s->max_wnd)) {
        count(s, BAD_ACKS);
        discard(s, skb, USK_DROP_STATE);
        rdp_challenge(s);
        return;
    }
    if (!after(h->seq, s->last_ack_sent)) {
        s->ts_recent = h->stamp;
        s->ts_recent_at = now;
    }
    s->last_rcv = now;
    s->keep_probes = 0;
    if (!s->confirmed) {
        /* A packet without SYN: the peer has the connection. */
        s->confirmed = true;
        rdp_set_mss(s);
        if (s->packets_out == 0 && !s->unsent)
            rdp_disarm(s, T_RTX);
        s->backoff = 0;
    }
    rdp_ack(s, h);
    if (s->fin_queued && s->snd_una == s->write_seq) {
        switch (state_of(s)) {
        case FIN_WAIT1:
            rdp_state(s, FIN_WAIT2);
            if (s->orphan)
                rdp_arm(s, T_END, now + (uint64_t)setting(s, C_FIN_TIMEOUT) * 1000000);
            usk_wake(sk_of(s), WAKE_ALL);
            break;
        case CLOSING:
            usk_skb_free(skb);
            rdp_time_wait(s);
            return;
        case LAST_ACK:
            usk_skb_free(skb);
            rdp_finish(s);
            return;
        }
    }
    bool asked = h->flags & PRB;
    if (state_of(s) == TIME_WAIT) {
        /* The peer did not get our last acknowledgement: TIME-WAIT restarts. */
        if ((h->flags & FIN) || payload > 0) {
            rdp_challenge(s);
            rdp_arm(s, T_END, now + (uint64_t)setting(s, C_TIME_WAIT) * 1000000);
        }
        discard(s, skb, USK_DROP_STATE);
        return;
    }
    usk_skb_pull(skb, h->len);
    uint64_t sent = s->segs_out;
    if (!rdp_data_in(s, h, skb) || state_of(s) == TIME_WAIT)
        return;
    rdp_push(s);
    if (asked && s->segs_out == sent)
        rdp_send_ack(s, 0);
}

static void syn_sent(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb)
{
    bool ours = (h->flags & ACK) && h->ack == s->iss + 1;
    s->segs_in++;
    if (h->flags & RST) {
        count(s, IN_RSTS);
        discard(s, skb, USK_DROP_STATE);
        if (ours) {
            count(s, ATTEMPT_FAILS);
            rdp_abort(s, ECONNREFUSED, false);
        }
        return;
    }
    /* Simultaneous open, and the reply to our SYN was lost: the next packet also has the hello. */
    bool known = ours && (h->flags & (SYN | HEL)) == HEL;
    if (((h->flags & ACK) && !ours) || (!(h->flags & SYN) && !known)) {
        /* Of an older connection between the same ends. */
        usk_packet_info_t info = { 0 };
        usk_ends(s->o, &info.dst, &info.src);
        if ((h->flags & ACK) && !ours)
            rdp_reply_rst(s->reg, h, usk_skb_len(skb) - h->len, &info);
        discard(s, skb, USK_DROP_STATE);
        return;
    }
    hello(s, h);
    s->irs = known ? h->hello.isn : h->seq;
    /* The reply to a SYN has advertised a window already; another SYN starts anew. */
    if (s->rcv_nxt != s->irs + 1)
        s->edge = s->irs + 1;
    s->rcv_nxt = s->last_ack_sent = s->irs + 1;
    s->ts_recent = h->stamp;
    s->ts_recent_at = now_of(s);
    if (!ours) {
        /* Simultaneous open: each end replies, and the replies complete the connection. */
        usk_skb_free(skb);
        rdp_send_syn(s, true);
        return;
    }
    s->snd_una = s->iss + 1;
    s->snd_wnd = s->max_wnd = h->window;
    s->wnd_stamp = h->stamp;
    if (s->backoff == 0)
        rdp_rtt(s, rdp_stamp(s) - h->echo);
    s->backoff = 0;
    rdp_established(s);
    if (known) {
        synchronized(s, h, skb);
        return;
    }
    usk_skb_free(skb);
    rdp_send_ack(s, PRB);
    rdp_rearm(s);
    rdp_push(s);
}

/* Replies to a SYN and keeps no state: the reply's sequence number is a cookie, and the caller repeats its hello until
 * the connection exists here. */
static void listen_syn(struct rdp_sock *s, const struct rdp_head *h, const usk_addr_t *peer, const usk_addr_t *local)
{
    uint32_t iss = rdp_cookie(s, local, peer, h->seq, 0);
    uint32_t offer = rdp_offer(s);
    struct rdp_head a = {
        .from = h->to, .to = h->from, .seq = iss, .ack = h->seq + 1, .window = offer, .flags = SYN | ACK | HEL,
        .len = FIXED + HELLO, .stamp = (uint32_t)(now_of(s) / 1000) + rdp_stamp_base(s, local, peer), .echo = h->stamp,
        .hello = { .isn = iss, .max_msg = rdp_max_message(s), .mss = s->user_mss ? (uint16_t)s->user_mss : MAX_MSS },
    };
    usk_skb_t *skb = usk_skb_new();
    uint8_t *p = usk_skb_push(skb, a.len);
    if (!p) {
        usk_skb_free(skb);
        return;
    }
    rdp_put_head(p, &a);
    uint32_t csum = usk_csum_fold(usk_csum(p, a.len, usk_csum_pseudo(local, peer, IPPROTO_RDP, a.len)));
    p[14] = (uint8_t)(csum >> 8);
    p[15] = (uint8_t)csum;
    usk_packet_info_t info = { .src = *peer, .dst = *local };
    count(s, OUT_SEGS);
    usk_reply(s->reg, &info, skb);
}

/* A packet acknowledges a cookie: makes the connection. Consumes `skb`. */
static void listen_ack(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb, const usk_addr_t *peer,
                       const usk_addr_t *local)
{
    uint32_t iss = h->ack - 1, isn = h->hello.isn;
    /* The caller may have sent data after its hello; until it receives a packet from us it acknowledges only our
     * cookie. */
    bool ours = rdp_cookie(s, local, peer, isn, 0) == iss || rdp_cookie(s, local, peer, isn, 1) == iss;
    if (!ours || rdp_cookie_used(s, iss)) {
        usk_packet_info_t info = { .src = *peer, .dst = *local };
        count(s, ours ? USED_COOKIES : BAD_COOKIES);
        rdp_reply_rst(s->reg, h, usk_skb_len(skb) - h->len, &info);
        discard(s, skb, USK_DROP_STATE);
        return;
    }
    usk_sock_t *child = usk_new_child(s->o);
    if (!child) {
        count(s, LISTEN_OVERFLOWS);
        discard(s, skb, USK_DROP_STATE);
        return;
    }
    usk_owned_t o;
    usk_lock_sock(child, &o);
    struct rdp_sock *c = rdp_of(&o);
    c->user_mss = s->user_mss;
    c->keepidle = s->keepidle;
    c->keepintvl = s->keepintvl;
    c->keepcnt = s->keepcnt;
    c->user_timeout = s->user_timeout;
    memcpy(c->cong_name, s->cong_name, sizeof c->cong_name);
    c->iss = iss;
    c->irs = isn;
    c->snd_una = c->snd_nxt = c->write_seq = c->recover = iss + 1;
    c->rcv_nxt = c->last_ack_sent = isn + 1;
    c->max_msg = rdp_max_message(s);
    c->adv = c->adv_left = rdp_offer(s);
    c->edge = c->rcv_nxt + c->adv;
    c->ts_recent = h->stamp;
    c->ts_recent_at = now_of(c);
    c->snd_wnd = c->max_wnd = h->window;
    c->wnd_stamp = h->stamp;
    c->stamp_base = rdp_stamp_base(s, local, peer);
    c->confirmed = true;
    hello(c, h);
    int r = usk_set_ends(&o, local, peer);
    if (r == 0)
        r = usk_route_connect(&o, peer);
    if (r == 0)
        r = usk_hash(&o);
    if (r == 0)
        r = rdp_cong_begin(c);
    if (r == 0) {
        rdp_rtt(c, rdp_stamp(c) - h->echo);
        rdp_established(c);
        r = usk_accept_push(s->o, child);
    }
    if (r < 0) {
        /* No state is kept; the caller sends its hello again. */
        count(s, LISTEN_OVERFLOWS);
        discard(s, skb, USK_DROP_STATE);
        rdp_list_free(c, &c->in, false);
        usk_done(&o);
    } else {
        count(s, PASSIVE_OPENS);
        rdp_cookie_use(s, iss);
        synchronized(c, h, skb);
    }
    usk_release_sock(&o);
    usk_sock_put(child);
}

static void listening(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb, const usk_addr_t *peer,
                      const usk_addr_t *local)
{
    usk_sock_info_t about = info_of(s);
    bool full = about.ack_backlog > about.max_ack_backlog;
    bool call = (h->flags & (SYN | ACK | RST)) == SYN, answer = (h->flags & (ACK | HEL | SYN | RST)) == (ACK | HEL);
    if ((call || answer) && full) {
        count(s, LISTEN_OVERFLOWS);
        discard(s, skb, USK_DROP_STATE);
    } else if (call) {
        listen_syn(s, h, peer, local);
        usk_skb_free(skb);
    } else if (answer) {
        listen_ack(s, h, skb, peer, local);
    } else {
        usk_packet_info_t info = { .src = *peer, .dst = *local };
        rdp_reply_rst(s->reg, h, usk_skb_len(skb) - h->len, &info);
        discard(s, skb, USK_DROP_NO_SOCKET);
    }
}

/* ---- from IP --------------------------------------------------------------------------------------------------- */

/* Both ends of a packet, on its way to its sock. */
struct ends {
    usk_addr_t peer, local;
};
_Static_assert(sizeof(struct ends) <= USK_SKB_CB, "the ends fit a packet's notes");

void rdp_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    struct rdp_head h;
    usk_count(reg, IN_SEGS, 1);
    if (info->not_unicast || !rdp_parse(skb, &h)) {
        usk_count(reg, IN_ERRS, 1);
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    size_t len = usk_skb_len(skb);
    struct ends e = { .peer = info->src, .local = info->dst };
    e.peer.port = h.from;
    e.local.port = h.to;
    uint32_t pseudo = usk_csum_pseudo(&e.peer, &e.local, IPPROTO_RDP, (uint32_t)len);
    if (!usk_skb_csum_unnecessary(skb) && usk_csum_fold(usk_skb_csum(skb, 0, len, pseudo)) != 0) {
        usk_count(reg, IN_CSUM_ERRS, 1);
        usk_drop(reg, skb, USK_DROP_CSUM);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(reg, &e.local, &e.peer, info->ifindex);
    if (!sk) {
        rdp_reply_rst(reg, &h, len - h.len, info);
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    memcpy(usk_skb_cb(skb), &e, sizeof e);
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* An ICMP error on its way to its sock: as a packet of version 0, which never comes from the wire (rdp_parse). */
struct note {
    uint8_t head[FIXED];
    int error, fatal;
    uint32_t seq, mtu;
};

void rdp_err(usk_reg_t *reg, const usk_icmp_error_t *e)
{
    const uint8_t *p = e->quoted;
    if (e->quoted_len < 8)
        return;
    usk_addr_t local = e->src, peer = e->dst;
    local.port = (uint16_t)get16(p);
    peer.port = (uint16_t)get16(p + 2);
    usk_sock_t *sk = usk_proto_lookup(reg, &local, &peer, e->ifindex);
    if (!sk) {
        usk_count(reg, BAD_ICMPS, 1);
        return;
    }
    struct note n = { .error = e->error, .fatal = e->fatal, .seq = get32(p + 4), .mtu = e->info };
    usk_skb_t *skb = usk_skb_new();
    usk_skb_append(skb, &n, sizeof n);
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* An ICMP error is accepted only if it quotes a sequence number in flight, which an off-path attacker cannot know (RFC
 * 5927 §4.1). */
static void icmp(struct rdp_sock *s, const struct note *n)
{
    bool calling = state_of(s) == SYN_SENT;
    bool plausible = calling ? n->seq == s->iss : !before(n->seq, s->snd_una) && before(n->seq, s->snd_nxt);
    if (state_of(s) == LISTEN || state_of(s) == CLOSED || !plausible) {
        count(s, BAD_ICMPS);
    } else if (n->error == EMSGSIZE) {
        uint32_t mss = s->mss;
        usk_update_pmtu(s->o, n->mtu);
        rdp_set_mss(s);
        if (s->mss >= mss || calling)
            return;
        /* Packets that were too long did not arrive, but the path is not congested: they are sent again in smaller
         * packets, without a window reduction. */
        uint32_t flying = rdp_pipe(s);
        for (struct rdp_seg *g = s->out.first; g && g != s->unsent; g = g->next) {
            if (g->len <= s->mss || (g->marks & SACKED))
                continue;
            rdp_mark_lost(s, g);
        }
        flying -= rdp_pipe(s);
        if (flying > 0) {
            usk_cong_loss(s->o, s->cong, flying);
            if (s->recovery == 0 && usk_cong_undo(s->o, s->cong) < 1)
                usk_cong_recovered(s->o, s->cong);
        }
        rdp_push(s);
    } else if (calling && n->fatal) {
        count(s, ATTEMPT_FAILS);
        rdp_abort(s, n->error, false);
    } else {
        s->soft_error = n->error;
    }
}

void rdp_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    struct rdp_sock *s = rdp_of(o);
    struct rdp_head h;
    if (!rdp_parse(skb, &h)) {
        struct note n;
        if (usk_skb_copy(skb, 0, &n, sizeof n) == sizeof n)
            icmp(s, &n);
        usk_skb_free(skb);
        return;
    }
    struct ends e;
    memcpy(&e, usk_skb_cb(skb), sizeof e);
    switch (state_of(s)) {
    case LISTEN: listening(s, &h, skb, &e.peer, &e.local); break;
    case SYN_SENT: syn_sent(s, &h, skb); break;
    case CLOSED: {
        usk_packet_info_t info = { .src = e.peer, .dst = e.local };
        rdp_reply_rst(s->reg, &h, usk_skb_len(skb) - h.len, &info);
        discard(s, skb, USK_DROP_NO_SOCKET);
        break;
    }
    default: synchronized(s, &h, skb);
    }
}

/* FLOW: a stream over connections, SOCK_STREAM on IP protocol 253 (RFC 3692), made for bulk: what a program writes
 * leaves in super-packets, which are cut only where a device cannot carry them whole, received packets are merged, and
 * checksums are left open. Lost packets are sent again by a timer, all from the first one on (go-back-N), in the
 * window that the peer offers. What a real protocol has beside this: congestion control, selective acknowledgements,
 * an RTT, resets, and a handshake in which a forged SYN makes nothing (rdp.c has them).
 *
 *   0 2 4 | from | to | seq | ack | window | flags | sum | payload ... big-endian; sum is UDP's
 *
 * Numbers count bytes; SYN and FIN count as one, and have a packet of their own. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <usersock/proto.h>

struct head {
    uint16_t from, to;
    uint32_t seq, ack, window;
    uint16_t flags, sum;
};
enum { FLOW = 253, HEADER = sizeof(struct head), SYN = 1, ACK = 2, FIN = 4 };
enum { ESTABLISHED = 1, SYN_SENT = 2, CLOSED = 7, LISTEN = 10 };
enum { T_RESEND, T_END };
enum { TRIES = 15 };
#define RTO UINT64_C(200000000)
#define LINGER UINT64_C(3000000000)

enum { OUT_SEGS, OUT_SUPERS, RETRANS, IN_SEGS, IN_SUPERS, IN_ERRORS };
static const char *const counters[] = { "FlowOutSegs", "FlowOutSupers", "FlowRetrans", "FlowInSegs", "FlowInSupers",
                                        "FlowInErrors", NULL };

/* A connection; a listener's is empty. Bytes from snd_una to write_seq are in `out`, of whose first packet `una_at` are
 * acknowledged. */
struct flow {
    usk_queue_t *out;
    uint32_t snd_una, snd_nxt, snd_max, write_seq, snd_wnd, rcv_nxt, rcv_adv;
    uint32_t mss, most, una_at;
    uint32_t resend_una;
    int tries;
    bool armed, connected, ending, fin_sent, fin_acked, peer_ended, closed;
};

static bool before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static void count(usk_owned_t *o, uint32_t which)
{
    usk_count(usk_owned_reg(o), which, 1);
}

/* What the receive buffer has room for. Half of it: packets occupy more memory than their bytes. */
static uint32_t window(usk_owned_t *o)
{
    int limit, held = usk_charged(o, USK_RECV, &limit);
    return held < limit ? (uint32_t)(limit - held) / 2 : 0;
}

/* Sends a packet; `skb` is its payload. */
static int output(usk_owned_t *o, uint32_t seq, uint16_t flags, usk_skb_t *skb)
{
    struct flow *f = usk_private(o);
    usk_addr_t local, peer;
    usk_ends(o, &local, &peer);
    f->rcv_adv = f->rcv_nxt + window(o);
    uint32_t offer = f->rcv_adv - f->rcv_nxt;
    struct head h = { htons(local.port), htons(peer.port), htonl(seq), htonl(f->rcv_nxt), htonl(offer),
                      htons(flags | ACK), 0 };
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    size_t len = usk_skb_len(skb);
    usk_skb_csum_partial(skb, 0, offsetof(struct head, sum), usk_csum_pseudo(&local, &peer, FLOW, (uint32_t)len));
    if (len > HEADER + f->mss && usk_skb_set_gso(o, skb, HEADER, f->mss) == 0)
        count(o, OUT_SUPERS);
    count(o, OUT_SEGS);
    return usk_xmit(o, skb, NULL);
}

static void acknowledge(usk_owned_t *o)
{
    struct flow *f = usk_private(o);
    output(o, f->snd_nxt, 0, usk_skb_new());
}

/* The sizes that the path allows. */
static void measure(usk_owned_t *o)
{
    struct flow *f = usk_private(o);
    int mtu = usk_path_mtu(o), most = usk_gso_max(o);
    f->mss = mtu > HEADER ? (uint32_t)mtu - HEADER : 1;
    f->most = most > HEADER ? (uint32_t)most - HEADER : 1;
    /* On a path that cuts them, packets are full. */
    f->most -= f->most > f->mss ? f->most % f->mss : 0;
}

/* Takes up to `len` bytes from `snd_nxt` on, which are in one packet of the queue. */
static usk_skb_t *bytes_at_nxt(struct flow *f, uint32_t len)
{
    uint32_t at = f->snd_nxt - f->snd_una + f->una_at;
    usk_skb_t *skb = NULL;
    for (size_t i = 0; (skb = usk_queue_peek(f->out, i)) && at >= usk_skb_len(skb); i++)
        at -= (uint32_t)usk_skb_len(skb);
    skb = usk_skb_share(skb);
    usk_skb_pull(skb, at);
    usk_skb_trim(skb, len);
    return skb;
}

/* Sends what the window allows. `probe`: one packet whatever it says. */
static void push(usk_owned_t *o, bool probe)
{
    struct flow *f = usk_private(o);
    int state = usk_sock_state(usk_owned_sock(o));
    if (state != ESTABLISHED)
        return;
    uint32_t edge = f->snd_una + f->snd_wnd;
    while (before(f->snd_nxt, f->write_seq)) {
        uint32_t room = before(f->snd_nxt, edge) ? edge - f->snd_nxt : 0, left = f->write_seq - f->snd_nxt;
        if (probe && room < f->mss)
            room = f->mss;
        if (room > f->most)
            room = f->most;
        /* Not a small packet while an acknowledgement may bring a larger window (silly window). */
        if (room == 0 || (room < f->mss && room < left && f->snd_nxt != f->snd_una))
            break;
        usk_skb_t *skb = bytes_at_nxt(f, room);
        uint32_t seq = f->snd_nxt, len = (uint32_t)usk_skb_len(skb);
        if (before(seq, f->snd_max))
            count(o, RETRANS);
        f->snd_nxt += len;
        if (output(o, seq, 0, skb) == -EMSGSIZE) {
            /* The path has become narrower. */
            f->snd_nxt = seq;
            uint32_t old = f->mss;
            measure(o);
            if (f->mss >= old)
                break;
        }
        probe = false;
    }
    if (f->ending && f->snd_nxt == f->write_seq && !f->fin_acked) {
        f->fin_sent = true;
        output(o, f->snd_nxt++, FIN, usk_skb_new());
    }
    if (before(f->snd_max, f->snd_nxt))
        f->snd_max = f->snd_nxt;
    /* It runs on when something is acknowledged: looking then whether it was is cheaper than setting it each time. */
    if (!f->armed && f->snd_una != f->write_seq + f->fin_sent) {
        f->armed = true;
        f->resend_una = f->snd_una;
        usk_timer_arm(o, T_RESEND, usk_owned_now(o) + (RTO << (f->tries < 6 ? f->tries : 6)));
    }
}

/* The connection is over. */
static void end(usk_owned_t *o, int error)
{
    struct flow *f = usk_private(o);
    if (error)
        usk_error_report(usk_owned_sock(o), error);
    usk_set_state(o, CLOSED);
    usk_timer_cancel(o, T_RESEND);
    /* After a handshake that failed it keeps its port, for the next one. */
    if (f->connected)
        usk_unhash(o);
    usk_wake(usk_owned_sock(o), POLLIN | POLLOUT | POLLHUP);
    if (f->closed)
        usk_done(o);
}

static void resend(usk_owned_t *o)
{
    struct flow *f = usk_private(o);
    f->armed = false;
    if (f->snd_una != f->resend_una) {
        push(o, false);
        return;
    }
    if (++f->tries > TRIES) {
        end(o, ETIMEDOUT);
        return;
    }
    if (usk_sock_state(usk_owned_sock(o)) == SYN_SENT) {
        f->armed = true;
        output(o, f->snd_una, SYN, usk_skb_new());
        usk_timer_arm(o, T_RESEND, usk_owned_now(o) + (RTO << (f->tries < 6 ? f->tries : 6)));
        return;
    }
    /* Go back. FIN is behind write_seq. */
    f->snd_nxt = f->snd_una;
    measure(o);
    push(o, true);
}

static void acked(usk_owned_t *o, uint32_t ack, uint32_t window)
{
    struct flow *f = usk_private(o);
    if (before(ack, f->snd_una) || before(f->snd_max, ack))
        return;
    f->snd_wnd = window;
    /* A peer that has no room may have none for long. */
    if (ack != f->snd_una || window == 0)
        f->tries = 0;
    if (ack == f->snd_una)
        return;
    if (usk_sock_state(usk_owned_sock(o)) == SYN_SENT) {
        f->snd_una = f->snd_nxt = f->write_seq = ack;
        f->connected = true;
        usk_set_state(o, ESTABLISHED);
        usk_wake(usk_owned_sock(o), POLLOUT);
        return;
    }
    bool fin = f->fin_sent && ack == f->write_seq + 1;
    f->una_at += ack - fin - f->snd_una;
    f->snd_una = ack;
    if (before(f->snd_nxt, ack))
        f->snd_nxt = ack;
    usk_skb_t *first;
    bool room = false;
    while ((first = usk_queue_peek(f->out, 0)) && f->una_at >= usk_skb_len(first)) {
        f->una_at -= (uint32_t)usk_skb_len(first);
        usk_uncharge(o, USK_SEND, first, 0);
        usk_skb_free(usk_queue_pop(f->out));
        room = true;
    }
    f->fin_acked |= fin;
    if (room)
        usk_wake(usk_owned_sock(o), POLLOUT);
    if (f->closed && f->fin_acked)
        usk_timer_arm(o, T_END, usk_owned_now(o) + LINGER);
}

/* A packet for a connection. */
static void arrive(usk_owned_t *o, const struct head *h, usk_skb_t *skb)
{
    struct flow *f = usk_private(o);
    uint32_t seq = ntohl(h->seq), len = (uint32_t)usk_skb_len(skb) - HEADER;
    uint16_t flags = ntohs(h->flags);
    if (flags & SYN && usk_sock_state(usk_owned_sock(o)) == SYN_SENT)
        f->rcv_nxt = seq + 1;
    if (flags & ACK)
        acked(o, ntohl(h->ack), ntohl(h->window));
    usk_skb_pull(skb, HEADER);
    bool reply = len > 0 || flags & (SYN | FIN);
    if (len > 0 && !before(f->rcv_nxt, seq) && before(f->rcv_nxt, seq + len) && !f->closed) {
        /* Of what was sent again, the first bytes may be known. */
        usk_skb_pull(skb, f->rcv_nxt - seq);
        if (usk_receive_push(o, skb) == 0)
            f->rcv_nxt = seq + len;
        skb = NULL;
    } else if (flags & FIN && seq == f->rcv_nxt && !f->peer_ended) {
        f->rcv_nxt++;
        f->peer_ended = true;
        usk_set_shutdown(o, 1);
        usk_wake(usk_owned_sock(o), POLLIN | POLLRDHUP);
    } else if (len > 0 && f->closed && seq == f->rcv_nxt) {
        /* Nobody reads it any more. */
        f->rcv_nxt += len;
    }
    usk_skb_free(skb);
    if (flags & SYN && h->ack == 0) {
        /* It has not got our answer. */
        output(o, 0, SYN, usk_skb_new());
        return;
    }
    uint32_t nxt = f->snd_nxt;
    push(o, false);
    /* Data that was sent has acknowledged it. */
    if (reply && f->snd_nxt == nxt)
        acknowledge(o);
}

/* A listener gets a SYN: makes the child. */
static void listening(usk_owned_t *o, const struct head *h, usk_skb_t *skb)
{
    usk_packet_info_t info;
    usk_sock_t *child = NULL;
    if (ntohs(h->flags) & SYN && usk_skb_info(skb, &info) == 0 && (child = usk_new_child(o))) {
        usk_owned_t c;
        usk_lock_sock(child, &c);
        struct flow *f = usk_private(&c);
        usk_addr_t local = info.dst, peer = info.src;
        local.port = ntohs(h->to);
        peer.port = ntohs(h->from);
        f->rcv_nxt = ntohl(h->seq) + 1;
        f->snd_wnd = ntohl(h->window);
        f->snd_una = f->snd_nxt = f->snd_max = f->write_seq = 1;
        f->connected = true;
        int r = usk_set_ends(&c, &local, &peer);
        if (r == 0)
            r = usk_set_state(&c, ESTABLISHED);
        if (r == 0)
            r = usk_hash(&c);
        if (r == 0)
            r = usk_accept_push(o, child);
        if (r == 0) {
            measure(&c);
            output(&c, 0, SYN, usk_skb_new());
        } else {
            usk_done(&c);
        }
        usk_release_sock(&c);
        usk_sock_put(child);
    }
    usk_skb_free(skb);
}

static void flow_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    struct head h;
    usk_skb_copy(skb, 0, &h, HEADER);
    count(o, IN_SEGS);
    if (usk_skb_gso_size(skb))
        count(o, IN_SUPERS);
    switch (usk_sock_state(usk_owned_sock(o))) {
    case LISTEN: listening(o, &h, skb); break;
    case CLOSED: usk_drop(usk_owned_reg(o), skb, USK_DROP_STATE); break;
    default: arrive(o, &h, skb);
    }
}

static bool good(usk_skb_t *skb, const usk_addr_t *src, const usk_addr_t *dst)
{
    uint32_t len = (uint32_t)usk_skb_len(skb);
    return usk_skb_csum_unnecessary(skb) ||
           usk_csum_fold(usk_skb_csum(skb, 0, len, usk_csum_pseudo(src, dst, FLOW, len))) == 0;
}

static void flow_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct head *h = usk_skb_header(skb, HEADER);
    if (!h || !good(skb, &info->src, &info->dst)) {
        usk_count(reg, IN_ERRORS, 1);
        usk_drop(reg, skb, h ? USK_DROP_CSUM : USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h->from);
    to.port = ntohs(h->to);
    usk_sock_t *sk = usk_proto_lookup(reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

/* A piece of a super-packet begins where those before it end. Its pseudo-header is the stack's. */
static int flow_segment(usk_reg_t *reg, usk_piece_t *piece)
{
    (void)reg;
    struct head *h = piece->header;
    h->seq = htonl(ntohl(h->seq) + piece->offset);
    return 0;
}

/* Data that acknowledges; the rest is not worth it. */
static int flow_may_merge(usk_reg_t *reg, usk_skb_t *skb, const usk_addr_t *src, const usk_addr_t *dst)
{
    (void)reg;
    struct head h;
    return usk_skb_copy(skb, 0, &h, HEADER) == HEADER && ntohs(h.flags) == ACK && good(skb, src, dst) ? HEADER : 0;
}

static int flow_merge(usk_reg_t *reg, usk_merge_t *m)
{
    (void)reg;
    struct head *held = m->header, next;
    usk_skb_copy(m->next, 0, &next, HEADER);
    if (next.from != held->from || next.to != held->to || ntohl(next.seq) != ntohl(held->seq) + m->held)
        return 0;
    held->ack = next.ack;
    held->window = next.window;
    return 1;
}

static ptrdiff_t flow_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    struct flow *f = usk_private(o);
    usk_sock_t *sk = usk_owned_sock(o);
    uint64_t until = usk_timeo(o, USK_SEND, usk_sendmsg_flags(msg) & MSG_DONTWAIT);
    ptrdiff_t sent = 0;
    size_t left;
    while ((left = usk_sendmsg_len(msg)) > 0) {
        int limit, r = usk_sock_error(sk);
        if (r == 0 && (f->ending || usk_sock_state(sk) != ESTABLISHED))
            r = -EPIPE;
        usk_skb_t *skb = NULL;
        if (r == 0 && usk_charged(o, USK_SEND, &limit) >= limit) {
            r = usk_wait(o, POLLOUT, until);
            if (r == 0)
                continue;
        }
        if (r == 0)
            r = usk_send_alloc(o, msg, left < f->most ? left : f->most, &skb);
        if (r < 0)
            return sent > 0 ? sent : r;
        sent += (ptrdiff_t)usk_skb_len(skb);
        f->write_seq += (uint32_t)usk_skb_len(skb);
        usk_queue_push(f->out, skb);
        push(o, false);
    }
    return sent;
}

static ptrdiff_t flow_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    struct flow *f = usk_private(o);
    usk_sock_t *sk = usk_owned_sock(o);
    int flags = usk_recvmsg_flags(msg);
    uint64_t until = usk_timeo(o, USK_RECV, flags & MSG_DONTWAIT);
    size_t target = usk_rcvlowat(o, flags & MSG_WAITALL, usk_recvmsg_room(msg));
    ptrdiff_t got = 0, n;
    for (;;) {
        usk_skb_t *skb;
        while (usk_recvmsg_room(msg) > 0 && (skb = usk_receive_peek(o))) {
            size_t len = usk_skb_len(skb);
            if ((n = usk_recvmsg_put_skb(msg, skb, 0, len)) < 0)
                return got > 0 ? got : n;
            got += n;
            if (flags & MSG_PEEK)
                return got;
            if ((size_t)n == len)
                usk_skb_free(usk_receive_pop(o));
            else
                usk_skb_pull(skb, (size_t)n);
        }
        /* The peer may wait for room. */
        uint32_t offered = f->rcv_adv - f->rcv_nxt, now = window(o);
        if (got > 0 && usk_sock_state(sk) == ESTABLISHED && now >= 2 * offered + 1024)
            acknowledge(o);
        if (((size_t)got >= target && got > 0) || usk_recvmsg_room(msg) == 0 || usk_sock_shutdown(sk) & 1)
            return got;
        int r = got > 0 ? 0 : usk_sock_error(sk);
        if (r == 0 && got == 0 && usk_sock_state(sk) != ESTABLISHED)
            r = -ENOTCONN;
        if (r == 0)
            r = usk_wait(o, POLLIN, until);
        if (r < 0)
            return got > 0 ? got : r;
    }
}

static uint32_t flow_poll(usk_owned_t *o)
{
    usk_sock_info_t i;
    usk_sock_info(o, &i, sizeof i);
    bool over = i.state == CLOSED;
    bool in = i.receive_len > 0 || i.shutdown & 1 || i.error || over || (i.state == LISTEN && i.ack_backlog > 0);
    bool out = (i.state == ESTABLISHED && i.wmem < i.sndbuf) || i.error || over;
    return (in ? POLLIN : 0) | (out ? POLLOUT : 0) | (i.error ? POLLERR : 0) | (over || i.shutdown == 3 ? POLLHUP : 0) |
           (i.shutdown & 1 ? POLLRDHUP : 0);
}

static int flow_init(usk_owned_t *o)
{
    struct flow *f = usk_private(o);
    f->out = usk_queue_new();
    return f->out ? 0 : -ENOMEM;
}

static void flow_destroy(usk_owned_t *o)
{
    struct flow *f = usk_private(o);
    usk_skb_t *skb;
    while ((skb = usk_queue_pop(f->out))) {
        usk_uncharge(o, USK_SEND, skb, 0);
        usk_skb_free(skb);
    }
    usk_queue_free(f->out);
}

static int flow_connect(usk_owned_t *o, const usk_addr_t *to)
{
    struct flow *f = usk_private(o);
    usk_addr_t local;
    /* What an earlier connection has left, the next peer must not get. A handshake that failed has left nothing. */
    if (f->connected)
        return -EISCONN;
    int r = to->port == 0 ? -EADDRNOTAVAIL : usk_route_connect(o, to);
    if (r == 0 && usk_ends(o, &local, NULL) == 0 && local.port == 0)
        r = usk_get_port(o, 0);
    if (r == 0)
        r = usk_hash(o);
    if (r == 0)
        r = usk_set_state(o, SYN_SENT);
    if (r < 0)
        return r;
    measure(o);
    f->snd_una = f->resend_una = 0;
    f->snd_nxt = f->snd_max = 1;
    f->tries = 0;
    f->armed = true;
    usk_timer_arm(o, T_RESEND, usk_owned_now(o) + RTO);
    output(o, 0, SYN, usk_skb_new());
    return 0;
}

static int flow_listen(usk_owned_t *o, uint32_t backlog)
{
    return usk_listen_start(o, backlog);
}

static void flow_shutdown(usk_owned_t *o, int how)
{
    struct flow *f = usk_private(o);
    if (how & 2 && usk_sock_state(usk_owned_sock(o)) == ESTABLISHED) {
        f->ending = true;
        push(o, false);
    }
}

/* shutdown(SHUT_RD) ends a listener. */
static int flow_disconnect(usk_owned_t *o)
{
    return usk_sock_state(usk_owned_sock(o)) == LISTEN ? usk_listen_stop(o) : -EOPNOTSUPP;
}

static void flow_close(usk_sock_t *sk, int flags)
{
    (void)flags;
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct flow *f = usk_private(&o);
    f->closed = true;
    if (usk_sock_state(sk) != ESTABLISHED) {
        usk_done(&o);
    } else {
        f->ending = true;
        push(&o, false);
        if (f->fin_acked)
            usk_timer_arm(&o, T_END, usk_owned_now(&o) + LINGER);
    }
    usk_release_sock(&o);
}

static void flow_release_cb(usk_owned_t *o, uint32_t bits)
{
    if (bits & 1u << T_END && usk_timer_at(o, T_END) == 0)
        usk_done(o);
    else if (bits & 1u << T_RESEND && usk_timer_at(o, T_RESEND) == 0)
        resend(o);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "FLOW",
        .socket_type = SOCK_STREAM,
        .protocol = FLOW,
        .flags = USK_PROTO_V4 | USK_PROTO_V6 | USK_PROTO_CONNECTIONS,
        .obj_size = sizeof(struct flow),
        .max_header = HEADER,
        .mib_names = counters,
        .init = flow_init,
        .destroy = flow_destroy,
        .close = flow_close,
        .connect = flow_connect,
        .disconnect = flow_disconnect,
        .listen = flow_listen,
        .accept = usk_accept_wait,
        .shutdown = flow_shutdown,
        .sendmsg_locked = flow_sendmsg,
        .recvmsg_locked = flow_recvmsg,
        .poll_locked = flow_poll,
        .backlog_rcv = flow_backlog_rcv,
        .release_cb = flow_release_cb,
        .rcv = flow_rcv,
        .segment = flow_segment,
        .may_merge = flow_may_merge,
        .merge = flow_merge,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

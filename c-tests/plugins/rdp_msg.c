/* RDP: messages of the program, and readiness. */
#include "rdp_int.h"
#include <linux/sockios.h>
#include <sys/ioctl.h>

/* Whether the program may send now: 0 or a negative errno; waits for a connection that is being made, and for room. */
static int may_send(struct rdp_sock *s, usk_owned_t *o, uint64_t until)
{
    for (;;) {
        int state = usk_sock_state(sk_of(s)), r = usk_sock_error(sk_of(s)), limit;
        if (r < 0)
            return r;
        if ((usk_sock_shutdown(sk_of(s)) & 2) || s->fin_queued)
            return -EPIPE;
        if (state == CLOSED || state == LISTEN)
            return s->was ? -EPIPE : -ENOTCONN;
        if (state != SYN_SENT && usk_charged(o, USK_SEND, &limit) < limit)
            return 0;
        s->nospace = true;
        r = usk_wait(o, WAKE_OUT, until);
        s->o = o;
        if (r < 0)
            return r;
    }
}

/* Cuts a message into packets. Null with errno: nothing of it is kept. */
static struct rdp_seg *packets(struct rdp_sock *s, usk_sendmsg_t *msg, size_t len, int *err, struct rdp_seg **last)
{
    struct rdp_seg *first = NULL;
    uint32_t seq = s->write_seq;
    size_t left = len;
    *last = NULL;
    do {
        struct rdp_seg *g = calloc(1, sizeof *g);
        usk_skb_t *skb = g ? usk_skb_new() : NULL;
        uint32_t n = (uint32_t)(left < s->mss ? left : s->mss);
        if (!skb || usk_skb_append_msg(skb, msg, n) != (ptrdiff_t)n || usk_charge(s->o, USK_SEND, skb, 0) < 0) {
            usk_skb_free(skb);
            free(g);
            for (; first; first = g) {
                g = first->next;
                rdp_seg_free(s, first, true);
            }
            *err = -ENOBUFS;
            return NULL;
        }
        g->skb = skb;
        g->len = n;
        left -= n;
        g->flags = (uint8_t)((first ? 0 : BEG) | (left ? 0 : END));
        g->seq = seq;
        seq = g->end = seq + n + !left;
        g->prev = *last;
        if (*last)
            (*last)->next = g;
        else
            first = g;
        *last = g;
    } while (left > 0);
    return first;
}

/* send(2): a message is accepted completely or not at all. An address is ignored, as POSIX allows for connections.
 * -EMSGSIZE: longer than the peer accepts, or than half of SO_SNDBUF. */
ptrdiff_t rdp_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    int flags = usk_sendmsg_flags(msg);
    if (flags & (MSG_OOB | MSG_MORE))
        return -EOPNOTSUPP;
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    int r = may_send(s, &o, usk_timeo(&o, USK_SEND, flags & MSG_DONTWAIT));
    if (r == 0 && (len > s->peer_max_msg || len > (size_t)info_of(s).sndbuf / 2))
        r = -EMSGSIZE;
    if (r == 0) {
        rdp_set_mss(s);
        struct rdp_seg *last, *first = packets(s, msg, len, &r, &last);
        if (first) {
            first->prev = s->out.last;
            *(s->out.last ? &s->out.last->next : &s->out.first) = first;
            s->out.last = last;
            s->write_seq = last->end;
            if (!s->unsent)
                s->unsent = first;
            rdp_push(s);
        }
    }
    usk_release_sock(&o);
    return r < 0 ? r : (ptrdiff_t)len;
}

/* Copies the first message to the program; MSG_TRUNC in msg_flags: it did not fit, and the rest is discarded. */
static ptrdiff_t take(struct rdp_sock *s, usk_recvmsg_t *msg, int flags)
{
    size_t total = 0, copied = 0;
    for (struct rdp_seg *g = s->in.first; g; g = g->next) {
        total += g->len;
        copied += (size_t)usk_recvmsg_put_skb(msg, g->skb, 0, g->len);
        if (g->flags & END)
            break;
    }
    usk_addr_t peer;
    if (usk_ends(s->o, NULL, &peer) == 0)
        usk_recvmsg_set_name(msg, &peer);
    usk_recvmsg_set_flags(msg, MSG_EOR | (copied < total ? MSG_TRUNC : 0));
    if (!(flags & MSG_PEEK)) {
        bool end = false;
        while (!end) {
            struct rdp_seg *g = s->in.first;
            end = g->flags & END;
            s->in_mem -= usk_skb_truesize(g->skb);
            rdp_list_remove(&s->in, g);
            rdp_seg_free(s, g, false);
        }
        s->whole--;
        /* Sends a window update if the window grew by much, or if the peer may be waiting for it (RFC 9293
         * §3.8.6.2.2). */
        uint32_t offer = rdp_offer(s);
        int state = state_of(s);
        bool open = state == ESTABLISHED || state == FIN_WAIT1 || state == FIN_WAIT2;
        int limit;
        usk_charged(s->o, USK_RECV, &limit);
        if (open && !s->fin_got && offer - s->adv_left >= min32(2 * (1500 + COST), (uint32_t)limit / 4) &&
            s->adv_left < offer / 2)
            rdp_send_ack(s, 0);
    }
    return (ptrdiff_t)((flags & MSG_TRUNC) ? total : copied);
}

/* recv(2): one message, or 0 at the end. A message of no bytes is 0 with MSG_EOR in msg_flags; the end has none. */
ptrdiff_t rdp_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    int flags = usk_recvmsg_flags(msg);
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    /* The error queue is always empty: EAGAIN, as in Linux. */
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    uint64_t until = usk_timeo(&o, USK_RECV, flags & MSG_DONTWAIT);
    ptrdiff_t r = 0;
    while (s->whole == 0) {
        int state = usk_sock_state(sk);
        r = usk_sock_error(sk);
        if (r < 0 || s->fin_got || (usk_sock_shutdown(sk) & 1))
            break;
        if (state == LISTEN || state == CLOSED) {
            r = s->was ? 0 : -ENOTCONN;
            break;
        }
        r = usk_wait(&o, WAKE_IN, until);
        s->o = &o;
        if (r < 0)
            break;
    }
    if (s->whole > 0)
        r = take(s, msg, flags);
    usk_release_sock(&o);
    return r;
}

uint32_t rdp_poll(usk_sock_t *sk)
{
    uint32_t mask = 0;
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    usk_sock_info_t about = info_of(s);
    int state = (int)about.state, down = (int)about.shutdown | (s->fin_got ? 1 : 0) | (s->fin_queued ? 2 : 0);
    if (about.error)
        mask |= POLLERR;
    if (state == LISTEN) {
        if (about.ack_backlog > 0)
            mask |= WAKE_IN;
    } else {
        if (state == CLOSED || down == 3)
            mask |= POLLHUP;
        /* A failed connect is an end, too. */
        if ((down & 1) || (state == CLOSED && (s->was || (mask & POLLERR))))
            mask |= WAKE_IN | POLLRDHUP;
        if (s->whole > 0)
            mask |= WAKE_IN;
        if (state != SYN_SENT) {
            if ((down & 2) || state == CLOSED || (int64_t)about.wmem * 3 < (int64_t)about.sndbuf * 2)
                mask |= WAKE_OUT;
            else
                s->nospace = true;
        }
    }
    usk_release_sock(&o);
    return mask;
}

int rdp_ioctl(usk_sock_t *sk, unsigned long request, int *value)
{
    usk_owned_t o;
    int r = 0;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    int state = usk_sock_state(sk);
    *value = 0;
    if (request != SIOCINQ && request != SIOCOUTQ) {
        r = -ENOTTY;
    } else if (state == LISTEN) {
        r = -EINVAL;
    } else if (request == SIOCINQ && s->whole > 0) {
        /* The next message's length. */
        for (struct rdp_seg *g = s->in.first; g; g = g->next) {
            *value += (int)g->len;
            if (g->flags & END)
                break;
        }
    } else if (request == SIOCOUTQ) {
        for (struct rdp_seg *g = s->out.first; g; g = g->next)
            *value += (int)g->len;
    }
    usk_release_sock(&o);
    return r;
}

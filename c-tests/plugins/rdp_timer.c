/* RDP: timers that fired: retransmission, zero windows, keepalive. */
#include "rdp_int.h"

/* If the peer has not replied for too long, ends the connection and returns true. */
static bool gave_up(struct rdp_sock *s, int tries)
{
    int limit = (int)setting(s, state_of(s) == SYN_SENT ? C_SYN_RETRIES : C_RETRIES);
    if (s->orphan && limit > 8)
        limit = 8;
    bool late = s->user_timeout && state_of(s) != SYN_SENT && (tries > 0 || s->backoff > 0) && s->unacked_since &&
                now_of(s) - s->unacked_since >= (uint64_t)s->user_timeout * 1000000;
    if (tries < limit && !late)
        return false;
    int err = s->soft_error ? s->soft_error : ETIMEDOUT;
    if (state_of(s) == SYN_SENT)
        count(s, ATTEMPT_FAILS);
    rdp_abort(s, err, false);
    return true;
}

/* The window is zero, or too small for the next packet: sends a probe, or as much as fits. A peer that acknowledges
 * probes may keep the window closed while a program has the socket, or for RDP_USER_TIMEOUT; an orphan is closed after
 * some probes, acknowledged or not. */
static void persist(struct rdp_sock *s)
{
    if (!s->unacked_since)
        s->unacked_since = now_of(s);
    if (gave_up(s, s->orphan && s->backoff > s->probes ? s->backoff : s->probes))
        return;
    s->probes++;
    s->backoff++;
    if (!rdp_send_part(s)) {
        count(s, ZERO_WINDOW_PROBES);
        rdp_send_ack(s, PRB);
    }
    rdp_rearm(s);
}

static void retransmit_timer(struct rdp_sock *s)
{
    if (state_of(s) == SYN_SENT) {
        if (gave_up(s, s->backoff))
            return;
        s->backoff++;
        count(s, RETRANS_SEGS);
        s->retrans++;
        rdp_send_syn(s, false);
    } else if (s->packets_out > 0) {
        if (gave_up(s, s->backoff))
            return;
        s->backoff++;
        s->timeouts++;
        count(s, TIMEOUTS);
        rdp_timeout(s);
        rdp_set_mss(s);
        rdp_push(s);
    } else if (s->unsent) {
        persist(s);
        return;
    } else if (!s->confirmed) {
        if (gave_up(s, s->backoff))
            return;
        s->backoff++;
        rdp_send_ack(s, PRB);
    }
    rdp_rearm(s);
}

static void keepalive_timer(struct rdp_sock *s)
{
    /* Data in flight has a timer of its own. */
    if (now_of(s) - s->last_rcv < rdp_keep_ns(s, s->keepidle, C_KEEPIDLE) || s->packets_out > 0) {
        s->keep_probes = 0;
        if (s->packets_out > 0)
            s->last_rcv = now_of(s);
    } else if (s->keep_probes >= (s->keepcnt ? s->keepcnt : (int)setting(s, C_KEEPCNT))) {
        rdp_abort(s, s->soft_error ? s->soft_error : ETIMEDOUT, true);
        return;
    } else {
        s->keep_probes++;
        count(s, KEEPALIVES);
        rdp_send_ack(s, PRB);
    }
    rdp_keepalive_arm(s);
}

/* Timers that fired. A timer that was changed while the sock was owned may be included: `due` has its valid time. */
void rdp_release_cb(usk_owned_t *o, uint32_t bits)
{
    struct rdp_sock *s = rdp_of(o);
    for (int t = 0; t < TIMERS; t++) {
        if (!(bits & 1u << t) || s->due[t] == 0)
            continue;
        if (s->due[t] > now_of(s)) {
            rdp_arm(s, t, s->due[t]);
            continue;
        }
        if (t == T_RTX && s->due[T_PTO] != 0 && s->due[T_PTO] <= now_of(s) && rdp_loss_probe(s))
            continue;
        s->due[t] = 0;
        switch (t) {
        case T_RTX: retransmit_timer(s); break;
        case T_ACK:
            if (s->ack_pending)
                rdp_send_ack(s, 0);
            break;
        case T_KEEP: keepalive_timer(s); break;
        case T_END:
            /* TIME-WAIT is over, or an orphaned half-closed connection has timed out. */
            rdp_finish(s);
            return;
        case T_RACK:
            rdp_rack_detect(s);
            rdp_push(s);
            break;
        case T_PTO: rdp_loss_probe(s); break;
        }
        if (state_of(s) == CLOSED)
            return;
    }
}

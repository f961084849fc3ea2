/* RDP: how a connection is established and ends: its state, FIN, reset, TIME-WAIT, and the keepalive timer. */
#include "rdp_int.h"

static struct rdp_world *world(struct rdp_sock *s)
{
    return usk_user(s->reg);
}

/* The longest message accepted from a peer: the sysctl's value, at most a quarter of SO_RCVBUF. */
uint32_t rdp_max_message(struct rdp_sock *s)
{
    return (uint32_t)min64((uint64_t)setting(s, C_MAX_MESSAGE), (uint64_t)info_of(s).rcvbuf / 4);
}

void rdp_state(struct rdp_sock *s, int state)
{
    bool up = state == ESTABLISHED || state == CLOSE_WAIT;
    if (up && !s->counted)
        count(s, ESTAB_UP);
    else if (!up && s->counted)
        count(s, ESTAB_DOWN);
    s->counted = up;
    usk_set_state(s->o, state);
}

void rdp_established(struct rdp_sock *s)
{
    s->was = true;
    s->last_rcv = now_of(s);
    s->quick = 16;
    s->keepalive = info_of(s).flags & USK_FLAG_KEEPOPEN;
    rdp_set_mss(s);
    rdp_state(s, ESTABLISHED);
    rdp_keepalive_arm(s);
    usk_wake(sk_of(s), WAKE_ALL);
}

/* Nothing more is sent: frees what is queued, and stops all timers. */
void rdp_flush(struct rdp_sock *s)
{
    rdp_list_free(s, &s->out, true);
    rdp_list_free(s, &s->ofo, false);
    s->unsent = s->sent_first = s->sent_last = s->lost_hint = NULL;
    s->probing = false;
    s->packets_out = s->sacked_out = s->lost_out = s->retrans_out = s->cost_out = 0;
    s->confirmed = true;
    rdp_cong_end(s);
    for (int t = 0; t < TIMERS; t++)
        rdp_disarm(s, t);
    if (s->in_tw)
        atomic_fetch_sub(&world(s)->time_waits, 1);
    s->in_tw = false;
}

/* The connection is closed. Unread data stays for the program, if it has the sock; else the sock ends, and `s` with
 * it. */
void rdp_finish(struct rdp_sock *s)
{
    usk_owned_t *o = s->o;
    rdp_flush(s);
    rdp_state(s, CLOSED);
    if (s->orphan) {
        usk_done(o);
        return;
    }
    usk_unhash(o);
    s->bound = false;
    usk_wake(usk_owned_sock(o), WAKE_ALL | POLLHUP);
}

/* Aborts the connection: `err` is the program's error, 0: none; `tell`: sends a reset. */
void rdp_abort(struct rdp_sock *s, int err, bool tell)
{
    if (tell)
        rdp_send_rst(s);
    if (s->counted)
        count(s, ESTAB_RESETS);
    if (err && !s->orphan)
        usk_error_report(sk_of(s), err);
    rdp_finish(s);
}

/* Both directions have ended, ours first: old packets of this connection must expire before its ports are used
 * again. */
void rdp_time_wait(struct rdp_sock *s)
{
    int64_t wait = setting(s, C_TIME_WAIT);
    if (wait == 0 || atomic_load(&world(s)->time_waits) >= setting(s, C_MAX_TW)) {
        if (wait != 0)
            count(s, TW_OVERFLOWS);
        rdp_finish(s);
        return;
    }
    rdp_flush(s);
    atomic_fetch_add(&world(s)->time_waits, 1);
    s->in_tw = true;
    rdp_state(s, TIME_WAIT);
    rdp_arm(s, T_END, now_of(s) + (uint64_t)wait * 1000000);
    usk_wake(sk_of(s), WAKE_ALL);
}

void rdp_queue_fin(struct rdp_sock *s)
{
    if (s->fin_queued)
        return;
    struct rdp_seg *g = calloc(1, sizeof *g);
    if (!g) {
        /* If the FIN cannot be queued, the connection is reset. */
        rdp_abort(s, ENOBUFS, true);
        return;
    }
    s->fin_queued = true;
    g->flags = FIN;
    g->seq = s->write_seq;
    g->end = ++s->write_seq;
    rdp_list_insert(&s->out, NULL, g);
    if (!s->unsent)
        s->unsent = g;
    rdp_push(s);
}

/* Of a keepalive time: the program's if it has set one, else the sysctl's, which are in seconds. */
uint64_t rdp_keep_ns(struct rdp_sock *s, int own, int which)
{
    return (uint64_t)(own ? own : setting(s, which)) * 1000000000u;
}

void rdp_keepalive_arm(struct rdp_sock *s)
{
    int state = state_of(s);
    if (!s->keepalive || (state != ESTABLISHED && state != CLOSE_WAIT && state != FIN_WAIT2)) {
        rdp_disarm(s, T_KEEP);
        return;
    }
    uint64_t idle = rdp_keep_ns(s, s->keepidle, C_KEEPIDLE);
    rdp_arm(s, T_KEEP, s->keep_probes ? now_of(s) + rdp_keep_ns(s, s->keepintvl, C_KEEPINTVL) : s->last_rcv + idle);
}

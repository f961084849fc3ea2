/* RDP: reliable datagrams. Messages of any length over connections, in order and complete: SOCK_SEQPACKET on IP
 * protocol 253 (RFC 3692), a plug-in of usersock. rdp_int.h lists the files, rdp.h has the options.
 *
 * A packet, all fields big-endian:
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   +-------------------------------+-------------------------------+
 *   |          source port          |       destination port        |
 *   +-------------------------------+-------------------------------+
 *   |                        sequence number                        |
 *   +---------------------------------------------------------------+
 *   |                     acknowledgement number                    |
 *   +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
 *   |  1    |  len  |H|P|E|B|R|F|A|S|           checksum            |
 *   +-------+-------+-+-+-+-+-+-+-+-+-------------------------------+
 *   |                            window                             |
 *   +---------------------------------------------------------------+
 *   |                          time stamp                           |
 *   +---------------------------------------------------------------+
 *   |                       time stamp echoed                       |
 *   +---------------------------------------------------------------+
 *   |  hello (with H, 12 bytes): own first sequence number,         |
 *   |  longest message taken (32), largest payload taken (16), 0    |
 *   +---------------------------------------------------------------+
 *   |  SACK blocks: first sequence number, one past the last ...    |
 *   +---------------------------------------------------------------+
 *   |  payload ...                                                  |
 *
 * Version 1. len: the header in units of 4 bytes, 7 to 13. The checksum is TCP's, over the pseudo-header of IPv4 or
 * IPv6, the header and the payload. The rest of the header after the fixed part and the hello is SACK blocks. A first
 * block below the acknowledgement number reports a duplicate (RFC 2883). Time stamps are microseconds, from an origin
 * that is the same whenever the same two ends connect.
 *
 * Sequence numbers count bytes; a SYN, a FIN and the End of a message count one each, so that an empty message has a
 * sequence number too. B and E mark the first and the last packet of a message. A retransmission may split a message
 * differently.
 *
 * Connections. SYN carries a hello. The listener replies with SYN ACK and keeps no state: its sequence number is a
 * cookie, a keyed hash of both ends, the caller's number and the time. The caller is connected then, and repeats its
 * hello, with P, in every packet until it receives one without SYN: the first of them that reaches the listener makes
 * the connection there. Each cookie makes only one connection: a delayed copy is refused after the connection has ended
 * (the last few thousand connections are remembered). RST answers a packet that belongs to no connection, or aborts a
 * connection if its number is exactly the next. FIN ends one direction; the end that sends it first keeps TIME-WAIT. A
 * packet with P is acknowledged at once: it probes a zero window, an idle peer, or a lost tail.
 *
 * Flow control. The window is the receiver's room beyond the acknowledgement number. A packet in flight uses its
 * payload and 640 bytes of the window, so that many small messages cannot exhaust the receiver's memory. No message may
 * be longer than the limit in the peer's hello.
 *
 * Loss. RACK uses SACK blocks and time stamps; the timer is RFC 6298's. The congestion window is that of any of the
 * stack's algorithms. The loss of the tail of a burst is not shown by the arrival of later packets. So two round trips
 * after the last packet, plus the peer's delay of acknowledgements (net.rdp.delack_ms, assumed to be the same at the
 * peer) or the reordering window, one more packet is sent: a new one, or the last one again (tail-loss probe, RFC 8985
 * §7). Its acknowledgement drives RACK; if the last packet itself was lost, the echoed time stamp shows it, and the
 * window is reduced as for any loss. Only one probe is outstanding; sending it restarts the retransmission timer. */
#include "rdp_int.h"

static int rdp_init(usk_owned_t *o)
{
    struct rdp_sock *s = rdp_of(o);
    s->reg = usk_owned_reg(o);
    s->rto = 1000000;
    s->confirmed = true;
    return 0;
}

static void rdp_destroy(usk_owned_t *o)
{
    struct rdp_sock *s = rdp_of(o);
    rdp_flush(s);
    rdp_list_free(s, &s->in, false);
    if (s->counted)
        count(s, ESTAB_DOWN);
    s->counted = false;
}

static bool group(const usk_addr_t *a)
{
    return a->family == AF_INET ? a->addr[0] >= 224 : a->addr[0] == 0xff;
}

/* Back to the first state of a sock that may connect or listen. */
static void reset(struct rdp_sock *s)
{
    usk_owned_t *o = s->o;
    rdp_flush(s);
    rdp_list_free(s, &s->in, false);
    if (s->counted)
        count(s, ESTAB_DOWN);
    struct rdp_sock kept = *s;
    memset(s, 0, sizeof *s);
    s->o = o;
    s->reg = kept.reg;
    s->bound = kept.bound;
    s->user_port = kept.user_port;
    s->user_mss = kept.user_mss;
    s->keepidle = kept.keepidle;
    s->keepintvl = kept.keepintvl;
    s->keepcnt = kept.keepcnt;
    s->user_timeout = kept.user_timeout;
    s->rto = 1000000;
    s->confirmed = true;
    memcpy(s->cong_name, kept.cong_name, sizeof s->cong_name);
}

static int bind_if_not(struct rdp_sock *s)
{
    if (s->bound)
        return 0;
    int r = usk_get_port(s->o, s->user_port);
    s->bound = r == 0;
    return r;
}

static int rdp_get_port(usk_owned_t *o, uint16_t port)
{
    struct rdp_sock *s = rdp_of(o);
    int r = usk_get_port(o, port);
    s->bound = r == 0;
    s->user_port = r == 0 ? port : 0;
    return r;
}

/* A port that was not named by bind(2) is released with the association. */
static void unconnect(usk_owned_t *o)
{
    struct rdp_sock *s = rdp_of(o);
    usk_route_disconnect(o);
    s->bound = s->bound && s->user_port;
}

static int rdp_connect(usk_owned_t *o, const usk_addr_t *to)
{
    struct rdp_sock *s = rdp_of(o);
    if (to->port == 0)
        return -EADDRNOTAVAIL;
    if (group(to))
        return -ENETUNREACH;
    reset(s);
    int r = bind_if_not(s);
    if (r < 0)
        return r;
    r = usk_route_connect(o, to);
    if (r == 0)
        r = usk_hash(o);
    if (r == 0)
        r = rdp_cong_begin(s);
    if (r < 0) {
        unconnect(o);
        usk_hash(o);
        return r;
    }
    usk_addr_t local;
    usk_ends(o, &local, NULL);
    s->stamp_base = rdp_stamp_base(s, &local, to);
    usk_random(s->reg, &s->iss, sizeof s->iss);
    s->snd_una = s->iss;
    s->snd_nxt = s->write_seq = s->recover = s->iss + 1;
    s->max_msg = rdp_max_message(s);
    s->confirmed = false;
    s->accepted = true;
    rdp_state(s, SYN_SENT);
    rdp_set_mss(s);
    count(s, ACTIVE_OPENS);
    rdp_send_syn(s, false);
    rdp_rearm(s);
    return 0;
}

static int rdp_disconnect(usk_owned_t *o)
{
    struct rdp_sock *s = rdp_of(o);
    int state = usk_sock_state(usk_owned_sock(o));
    if (state == LISTEN)
        return usk_listen_stop(o);
    if (state != CLOSED && state != SYN_SENT && state != TIME_WAIT)
        rdp_send_rst(s);
    if (!s->bound)
        usk_unhash(o);
    reset(s);
    unconnect(o);
    usk_wake(usk_owned_sock(o), WAKE_ALL);
    return s->bound ? usk_hash(o) : 0;
}

static int rdp_listen(usk_owned_t *o, uint32_t backlog)
{
    struct rdp_sock *s = rdp_of(o);
    if (usk_sock_state(usk_owned_sock(o)) != LISTEN)
        reset(s);
    int r = bind_if_not(s);
    return r < 0 ? r : usk_listen_start(o, backlog);
}

static usk_sock_t *rdp_accept(usk_sock_t *sk, int nonblock, int *err)
{
    usk_sock_t *child = usk_accept_wait(sk, nonblock, err);
    if (child) {
        usk_owned_t o;
        usk_lock_sock(child, &o);
        rdp_of(&o)->accepted = true;
        usk_release_sock(&o);
    }
    return child;
}

static void rdp_shutdown(usk_owned_t *o, int how)
{
    struct rdp_sock *s = rdp_of(o);
    int state = state_of(s);
    if (!(how & 2) || (state != ESTABLISHED && state != CLOSE_WAIT))
        return;
    rdp_state(s, state == ESTABLISHED ? FIN_WAIT1 : LAST_ACK);
    rdp_queue_fin(s);
}

/* The last descriptor is closed, or the listener of a connection that was not accepted. If there is unread data, it is
 * lost, and the peer gets a reset; else the connection closes in the background, and with SO_LINGER the call waits for
 * that. */
static void rdp_close(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    int state = usk_sock_state(sk);
    int64_t linger = info_of(s).linger;
    s->orphan = true;
    bool unread = s->in.first || s->ofo.first || !s->accepted;
    if (state == CLOSED || state == LISTEN || state == SYN_SENT) {
        rdp_finish(s);
        goto out;
    }
    if (unread || linger == 0 || s->in_tw) {
        if (s->in_tw) {
            rdp_list_free(s, &s->in, false);
            goto out;
        }
        rdp_abort(s, 0, true);
        goto out;
    }
    if (state == ESTABLISHED || state == CLOSE_WAIT) {
        rdp_state(s, state == ESTABLISHED ? FIN_WAIT1 : LAST_ACK);
        rdp_queue_fin(s);
    } else if (state == FIN_WAIT2) {
        rdp_arm(s, T_END, now_of(s) + (uint64_t)setting(s, C_FIN_TIMEOUT) * 1000000);
    }
    if (linger > 0 && !(flags & MSG_DONTWAIT)) {
        uint64_t until = usk_owned_now(&o) + (uint64_t)linger;
        for (;;) {
            state = usk_sock_state(sk);
            if (state != FIN_WAIT1 && state != CLOSING && state != LAST_ACK)
                break;
            if (usk_wait(&o, WAKE_ALL, until) < 0)
                break;
        }
    }
out:
    usk_release_sock(&o);
}

static void rdp_keepalive(usk_owned_t *o, int on)
{
    struct rdp_sock *s = rdp_of(o);
    /* The library sets the flag of SO_KEEPALIVE after this call. */
    s->keepalive = on;
    s->keep_probes = 0;
    rdp_keepalive_arm(s);
}

static int rdp_diag_destroy(usk_sock_t *sk, int err)
{
    usk_owned_t o;
    int r = 0;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    int state = usk_sock_state(sk);
    if (state == LISTEN)
        r = usk_listen_stop(&o);
    else if (state == CLOSED)
        r = -ENOENT;
    else
        rdp_abort(s, err, state != SYN_SENT && state != TIME_WAIT);
    usk_release_sock(&o);
    return r;
}

/* ---- options --------------------------------------------------------------------------------------------------- */

static int set_int(struct rdp_sock *s, int name, int v)
{
    int state = state_of(s);
    switch (name) {
    case RDP_MAXSEG:
        if (v < MIN_MSS || v > MAX_MSS)
            return -EINVAL;
        if (state != CLOSED && state != LISTEN)
            return -EISCONN;
        s->user_mss = (uint32_t)v;
        return 0;
    case RDP_USER_TIMEOUT:
        if (v < 0)
            return -EINVAL;
        s->user_timeout = v;
        return 0;
    case RDP_KEEPIDLE:
    case RDP_KEEPINTVL:
        if (v < 1 || v > 32767)
            return -EINVAL;
        *(name == RDP_KEEPIDLE ? &s->keepidle : &s->keepintvl) = v;
        rdp_keepalive_arm(s);
        return 0;
    case RDP_KEEPCNT:
        if (v < 1 || v > 127)
            return -EINVAL;
        s->keepcnt = v;
        return 0;
    }
    return -ENOPROTOOPT;
}

static int rdp_setsockopt(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    int r, v;
    char text[32];
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    if (level != IPPROTO_RDP) {
        r = usk_ip_setsockopt(&o, level, name, value, len);
    } else if (name == RDP_CONGESTION) {
        size_t n = strnlen(value, len);
        r = -EINVAL;
        if (n > 0 && n < sizeof text) {
            memcpy(text, value, n);
            text[n] = 0;
            r = rdp_cong_choose(s, text);
        }
    } else if (len < sizeof v) {
        r = -EINVAL;
    } else {
        memcpy(&v, value, sizeof v);
        r = set_int(s, name, v);
    }
    usk_release_sock(&o);
    return r;
}

static void info(struct rdp_sock *s, struct rdp_info *i)
{
    usk_cong_info_t c;
    rdp_cong_tell(s, &c);
    *i = (struct rdp_info){
        .state = (uint8_t)state_of(s), .recovery = (uint8_t)s->recovery, .backoff = (uint8_t)s->backoff,
        .probes = (uint8_t)(s->probes + s->keep_probes), .rto_us = s->rto, .rtt_us = s->srtt, .rttvar_us = s->rttvar,
        .min_rtt_us = s->min_rtt, .cwnd = c.cwnd, .ssthresh = c.ssthresh, .in_flight = rdp_pipe(s),
        .snd_wnd = s->snd_wnd, .rcv_wnd = s->adv, .mss = s->mss, .pmtu = s->pmtu, .segs_out = s->segs_out,
        .segs_in = s->segs_in, .bytes_out = s->bytes_out, .bytes_in = s->bytes_in, .msgs_out = s->msgs_out,
        .msgs_in = s->msgs_in, .retrans = s->retrans, .timeouts = s->timeouts,
        .queued_msgs = s->whole,
    };
    for (struct rdp_seg *g = s->out.first; g; g = g->next)
        i->unacked += g->len;
}

static ptrdiff_t rdp_getsockopt(usk_sock_t *sk, int level, int name, void *value, size_t len)
{
    usk_owned_t o;
    ptrdiff_t r;
    int v = 0;
    struct rdp_info i;
    usk_cong_info_t c;
    const void *from = &v;
    size_t size = sizeof v;
    usk_lock_sock(sk, &o);
    struct rdp_sock *s = rdp_of(&o);
    if (level != IPPROTO_RDP) {
        r = usk_ip_getsockopt(&o, level, name, value, len);
        usk_release_sock(&o);
        return r;
    }
    switch (name) {
    case RDP_INFO:
        info(s, &i);
        from = &i;
        size = sizeof i;
        break;
    case RDP_CONGESTION:
        rdp_cong_tell(s, &c);
        from = c.name;
        size = strlen(c.name) + 1;
        break;
    case RDP_MAXSEG: v = (int)(s->mss ? s->mss : s->user_mss ? s->user_mss : MAX_MSS); break;
    case RDP_MAXMSG:
        v = (int)(s->was ? min32(s->peer_max_msg, (uint32_t)info_of(s).sndbuf / 2) : rdp_max_message(s));
        break;
    case RDP_USER_TIMEOUT: v = s->user_timeout; break;
    case RDP_KEEPIDLE: v = s->keepidle ? s->keepidle : (int)setting(s, C_KEEPIDLE); break;
    case RDP_KEEPINTVL: v = s->keepintvl ? s->keepintvl : (int)setting(s, C_KEEPINTVL); break;
    case RDP_KEEPCNT: v = s->keepcnt ? s->keepcnt : (int)setting(s, C_KEEPCNT); break;
    default: size = 0;
    }
    /* As for tcp_info: truncated to the program's buffer. */
    if (size > len)
        size = len;
    memcpy(value, from, size);
    r = (ptrdiff_t)size;
    if (name < RDP_INFO || name > RDP_KEEPCNT)
        r = -ENOPROTOOPT;
    usk_release_sock(&o);
    return r;
}

/* ---- registration ---------------------------------------------------------------------------------------------- */

static const char *const counters[] = {
    [IN_SEGS] = "RdpInSegs", [OUT_SEGS] = "RdpOutSegs", [RETRANS_SEGS] = "RdpRetransSegs", [IN_ERRS] = "RdpInErrs",
    [IN_CSUM_ERRS] = "RdpInCsumErrors", [OUT_RSTS] = "RdpOutRsts", [IN_RSTS] = "RdpInRsts",
    [ACTIVE_OPENS] = "RdpActiveOpens",
    [PASSIVE_OPENS] = "RdpPassiveOpens", [ATTEMPT_FAILS] = "RdpAttemptFails", [ESTAB_RESETS] = "RdpEstabResets",
    [ESTAB_UP] = "RdpEstabUp", [ESTAB_DOWN] = "RdpEstabDown", [TIMEOUTS] = "RdpTimeouts",
    [FAST_RECOVERIES] = "RdpFastRecoveries",
    [IN_DUPS] = "RdpInDups", [OFO_QUEUED] = "RdpOfoQueued", [OFO_PRUNED] = "RdpOfoPruned", [RCV_FULL] = "RdpRcvFull",
    [BEYOND_WINDOW] = "RdpBeyondWindow", [OLD_STAMPS] = "RdpOldStamps", [BAD_ACKS] = "RdpBadAcks",
    [CHALLENGE_ACKS] = "RdpChallengeAcks", [LISTEN_OVERFLOWS] = "RdpListenOverflows", [BAD_COOKIES] = "RdpBadCookies",
    [KEEPALIVES] = "RdpKeepalives", [ZERO_WINDOW_PROBES] = "RdpZeroWindowProbes", [PMTU_SPLITS] = "RdpPmtuSplits",
    [BAD_ICMPS] = "RdpBadIcmps", [TW_OVERFLOWS] = "RdpTimeWaitOverflows", [RCV_GATHERED] = "RdpRcvGathered",
    [USED_COOKIES] = "RdpUsedCookies", [LOSS_PROBES] = "RdpLossProbes",
    [PROBE_RECOVERIES] = "RdpLossProbeRecoveries", [IN_MSGS] = "RdpInMsgs", [OUT_MSGS] = "RdpOutMsgs",
    NULL,
};

static const usk_sysctl_t sysctls[] = {
    [C_CONGESTION] = { "congestion", 0, 0, 2,
        "New connections' congestion control: 0 net.ipv4.tcp_congestion_control's, 1 reno, 2 cubic." },
    [C_RETRIES] = { "retries", 15, 1, 255, "Timeouts in a row before a connection is given up." },
    [C_SYN_RETRIES] = { "syn_retries", 6, 1, 127, "The same of an attempt to connect." },
    [C_RTO_MIN] = { "rto_min_ms", 200, 1, 60000, "Least retransmission timeout beyond the round trip, ms." },
    [C_RTO_MAX] = { "rto_max_ms", 60000, 1000, 240000, "Greatest retransmission timeout, ms." },
    [C_DELACK] = { "delack_ms", 25, 1, 500, "How long an acknowledgement may wait for company, ms." },
    [C_TIME_WAIT] = { "time_wait_ms", 60000, 0, 600000, "TIME-WAIT, ms; 0: none." },
    [C_MAX_TW] = { "max_time_waits", 8192, 0, 1000000, "Connections in TIME-WAIT; more end at once." },
    [C_FIN_TIMEOUT] = { "fin_timeout_ms", 60000, 1, 600000,
        "How long a closed connection waits for the peer's FIN, ms." },
    [C_MAX_MESSAGE] = { "max_message", 262144, 64, 1 << 28,
        "Longest message taken, bytes; and not over a quarter of SO_RCVBUF." },
    [C_RMEM] = { "rmem_default", 1 << 20, 4096, 1 << 28, "SO_RCVBUF of a new socket, bytes." },
    [C_WMEM] = { "wmem_default", 1 << 20, 4096, 1 << 28, "SO_SNDBUF of a new socket, bytes." },
    [C_RST_RATE] = { "rst_per_sec", 1000, 0, 1000000, "Resets a second for packets without a connection." },
    [C_KEEPIDLE] = { "keepalive_time", 7200, 1, 32767, "Seconds of silence before SO_KEEPALIVE asks." },
    [C_KEEPINTVL] = { "keepalive_intvl", 75, 1, 32767, "Seconds between its questions." },
    [C_KEEPCNT] = { "keepalive_probes", 9, 1, 127, "Questions without answer that end the connection." },
    { 0 },
};

static int rmem(usk_reg_t *reg, int *sizes)
{
    sizes[0] = 4096;
    sizes[1] = sizes[2] = (int)usk_sysctl(reg, C_RMEM);
    return 0;
}

static int wmem(usk_reg_t *reg, int *sizes)
{
    sizes[0] = 4096;
    sizes[1] = sizes[2] = (int)usk_sysctl(reg, C_WMEM);
    return 0;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "RDP",
        .socket_type = SOCK_SEQPACKET,
        .protocol = IPPROTO_RDP,
        .flags = USK_PROTO_V4 | USK_PROTO_V6 | USK_PROTO_DEFAULT | USK_PROTO_CONNECTIONS | USK_PROTO_NO_AUTOBIND,
        .obj_size = sizeof(struct rdp_sock),
        .max_header = MAX_HEADER,
        .mib_names = counters,
        .sysctls = sysctls,
        .init = rdp_init,
        .destroy = rdp_destroy,
        .close = rdp_close,
        .connect = rdp_connect,
        .disconnect = rdp_disconnect,
        .listen = rdp_listen,
        .accept = rdp_accept,
        .ioctl = rdp_ioctl,
        .shutdown = rdp_shutdown,
        .setsockopt = rdp_setsockopt,
        .getsockopt = rdp_getsockopt,
        .keepalive = rdp_keepalive,
        .sendmsg = rdp_sendmsg,
        .recvmsg = rdp_recvmsg,
        .poll = rdp_poll,
        .backlog_rcv = rdp_backlog_rcv,
        .release_cb = rdp_release_cb,
        .get_port = rdp_get_port,
        .sysctl_wmem = wmem,
        .sysctl_rmem = rmem,
        .diag_destroy = rdp_diag_destroy,
        .rcv = rdp_rcv,
        .err = rdp_err,
    };
    struct rdp_world *world = calloc(1, sizeof *world);
    usk_reg_t *reg;
    if (!world)
        return -ENOMEM;
    int r = usk_proto_register(plugin, &table, world, &reg);
    if (r < 0) {
        free(world);
        return r;
    }
    /* Each stack has its own, until its last function has returned. */
    usk_user_release(reg, free);
    usk_random(reg, world->key, sizeof world->key);
    return 0;
}

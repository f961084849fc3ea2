/* RFC6675: a TCP beside the library's whose loss detection is its own, as it was before RACK. A segment is lost when
 * DupThresh of later ones, or more than DupThresh - 1 segments' worth of bytes, have been selectively acknowledged
 * (RFC 6675, IsLost); without SACK at the third duplicate, and in recovery at each partial acknowledgement (RFC 6582).
 * What is lost is sent again before new data, in order, as the window allows (NextSeg, rules 1 and 2). The
 * retransmission timeout is that of RFC 6298, of its own samples. A lost retransmission waits for the timeout.
 *
 * Window, states of recovery, undo and the queues are the library's. */
#include <errno.h>
#include <string.h>
#include <usersock/tcp.h>

enum { DUP_THRESH = USK_TCP_OWN_OPTIONS, STATS };   /* options: an int, 1 to 255; struct rfc6675_stats */
enum { LOST, RETRANS, TIMEOUTS };                   /* counters */
enum { RTO_MIN_US, RTO_MAX_US = 60000000, RTO_FIRST_US = 1000000 };

struct conn {
    uint32_t dup_thresh;
    uint32_t dupacks;     /* without SACK */
    uint32_t srtt;        /* microseconds times 8; 0: no sample yet */
    uint32_t rttvar;      /* microseconds times 4 */
    uint32_t rto;         /* microseconds, backed off */
    uint32_t lost, retrans, timeouts;
};

/* What the option STATS returns. */
struct rfc6675_stats {
    uint32_t lost, retrans, timeouts, rto_us;
};

static const char *const counters[] = { "Rfc6675Lost", "Rfc6675Retrans", "Rfc6675Timeouts", NULL };
static const usk_sysctl_t sysctls[] = {
    { "rto_min_us", 1000000, 1000, 60000000, "Least retransmission timeout, microseconds (RFC 6298, 2.4)." },
    { 0 },
};

static int before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static usk_tcp_t read_tcp(usk_tcp_conn_t *c)
{
    usk_tcp_t tp;
    usk_tcp_read(c, &tp, sizeof tp);
    return tp;
}

static void mark(usk_tcp_conn_t *c, uint32_t seq, uint32_t end)
{
    struct conn *k = c->data;
    int n = usk_tcp_mark_lost(c, seq, end);
    if (n > 0) {
        k->lost += (uint32_t)n;
        usk_count(c->reg, LOST, (uint64_t)n);
    }
}

/* RFC 6675, 4: Update and IsLost, for all segments at once: what is SACKed above each is what is SACKed in all, less
 * what was passed. */
static void by_sack(usk_tcp_conn_t *c, const usk_tcp_t *tp)
{
    struct conn *k = c->data;
    uint32_t bytes = 0, runs = 0, was_sacked = 0;
    usk_tcp_seg_t s;
    for (uint32_t seq = tp->snd_una; usk_tcp_seg(c, seq, &s, sizeof s) == 1; seq = s.end_seq) {
        uint32_t is_sacked = s.flags & USK_TCP_SEG_SACKED;
        bytes += is_sacked ? s.end_seq - s.seq : 0;
        runs += is_sacked && !was_sacked;
        was_sacked = is_sacked;
    }
    was_sacked = 0;
    for (uint32_t seq = tp->snd_una; bytes && usk_tcp_seg(c, seq, &s, sizeof s) == 1; seq = s.end_seq) {
        uint32_t is_sacked = s.flags & USK_TCP_SEG_SACKED;
        bytes -= is_sacked ? s.end_seq - s.seq : 0;
        runs -= is_sacked && !was_sacked;
        was_sacked = is_sacked;
        if (s.flags & (USK_TCP_SEG_SACKED | USK_TCP_SEG_LOST))
            continue;
        if (runs >= k->dup_thresh || bytes > (k->dup_thresh - 1) * tp->mss_cache)
            mark(c, s.seq, s.end_seq);
    }
}

/* RFC 5681, 3.2, and RFC 6582, 3.2: the first segment, when DupThresh duplicates have come, and in recovery when an
 * acknowledgement leaves some of what was outstanding. */
static void by_duplicates(usk_tcp_conn_t *c, const usk_tcp_t *tp, const usk_tcp_ack_t *ack)
{
    struct conn *k = c->data;
    int advanced = (ack->flags & USK_TCP_ACK_ADVANCED) != 0;
    int recovers = tp->ca_state == USK_CA_RECOVERY && before(tp->snd_una, tp->high_seq);
    uint32_t had = k->dupacks;
    k->dupacks = advanced ? 0 : had + ack->dupacks;
    usk_tcp_seg_t s;
    if (!((advanced && recovers) || (!recovers && had < k->dup_thresh && k->dupacks >= k->dup_thresh)))
        return;
    if (usk_tcp_seg(c, tp->snd_una, &s, sizeof s) == 1 && !(s.flags & USK_TCP_SEG_LOST)) {
        uint32_t one = s.end_seq - s.seq < tp->mss_cache ? s.end_seq - s.seq : tp->mss_cache;
        mark(c, tp->snd_una, s.seq + one);
    }
}

/* RFC 6298, 2: a sample of the RTT, of a segment that was sent once (Karn). */
static void sample(usk_tcp_conn_t *c, int64_t rtt_us)
{
    struct conn *k = c->data;
    uint32_t r = rtt_us < 1 ? 1 : rtt_us > RTO_MAX_US ? RTO_MAX_US : (uint32_t)rtt_us;
    if (k->srtt == 0) {
        k->srtt = r << 3;
        k->rttvar = r << 1;
    } else {
        uint32_t srtt = k->srtt >> 3, off = srtt > r ? srtt - r : r - srtt;
        k->rttvar += off - (k->rttvar >> 2);
        k->srtt += r - srtt;
    }
    uint32_t rto = (k->srtt >> 3) + k->rttvar, least = (uint32_t)usk_sysctl(c->reg, RTO_MIN_US);
    k->rto = rto < least ? least : rto > RTO_MAX_US ? RTO_MAX_US : rto;
}

static int rfc6675_init(usk_tcp_conn_t *c)
{
    struct conn *k = c->data;
    usk_tcp_t tp = read_tcp(c);
    k->dup_thresh = 3;
    k->rto = RTO_FIRST_US;
    if (tp.srtt_us) { /* of a connection that it takes over, or of the handshake */
        k->srtt = tp.srtt_us;
        k->rttvar = tp.mdev_us;
        uint32_t rto = (k->srtt >> 3) + k->rttvar, least = (uint32_t)usk_sysctl(c->reg, RTO_MIN_US);
        k->rto = rto < least ? least : rto;
    }
    return usk_tcp_set_rto(c, k->rto);
}

/* After a timeout the one that is backed off stays until a sample: the library's would be the first one again. */
static int rfc6675_handoff_ok(usk_tcp_conn_t *c, int how)
{
    return how == USK_TCP_GIVE && read_tcp(c).ca_state == USK_CA_LOSS ? -EBUSY : 0;
}

static void rfc6675_ack(usk_tcp_conn_t *c, const usk_tcp_ack_t *ack)
{
    struct conn *k = c->data;
    usk_tcp_t tp = read_tcp(c);
    if (ack->rtt_us >= 0)
        sample(c, ack->rtt_us);
    usk_tcp_set_rto(c, k->rto);
    if (ack->sacked || tp.sacked_out)
        by_sack(c, &tp);
    if (ack->dupacks || tp.ca_state == USK_CA_RECOVERY || k->dupacks)
        by_duplicates(c, &tp, ack);
}

static int send_again(usk_tcp_conn_t *c, uint32_t seq, uint32_t segs)
{
    struct conn *k = c->data;
    int n = usk_tcp_retransmit(c, seq, segs);
    if (n > 0) {
        k->retrans += (uint32_t)n;
        usk_count(c->reg, RETRANS, (uint64_t)n);
    }
    return n;
}

/* NextSeg: (1) what is lost and was not sent again, (2) new data. */
static int rfc6675_output(usk_tcp_conn_t *c)
{
    usk_tcp_t tp = read_tcp(c);
    usk_tcp_seg_t s;
    for (uint32_t seq = tp.snd_una; tp.lost_out > tp.retrans_out && usk_tcp_seg(c, seq, &s, sizeof s) == 1;) {
        if ((s.flags & (USK_TCP_SEG_LOST | USK_TCP_SEG_RETRANS)) == USK_TCP_SEG_LOST) {
            if (send_again(c, before(s.seq, tp.snd_una) ? tp.snd_una : s.seq, s.segs) < 0)
                return USK_TCP_DONE; /* the window is full: with the next acknowledgement */
            tp = read_tcp(c);
            usk_tcp_seg(c, seq, &s, sizeof s); /* it may have been cut, or have taken the next one in */
        }
        seq = s.end_seq;
    }
    usk_tcp_send_new(c, UINT32_MAX);
    return USK_TCP_DONE;
}

/* RFC 6298, 5.4 to 5.7; RFC 5681, 3.1: all is lost but what is SACKed. */
static int rfc6675_timer(usk_tcp_conn_t *c, uint32_t timer)
{
    struct conn *k = c->data;
    if (timer != USK_TCP_TIMER_RTO)
        return USK_TCP_DONE;
    usk_tcp_t tp = read_tcp(c);
    k->timeouts++;
    usk_count(c->reg, TIMEOUTS, 1);
    mark(c, tp.snd_una, tp.snd_nxt);
    usk_tcp_enter_loss(c);
    send_again(c, tp.snd_una, 1);
    k->rto = k->rto > RTO_MAX_US / 2 ? RTO_MAX_US : 2 * k->rto;
    usk_tcp_set_rto(c, k->rto);
    return USK_TCP_DONE;
}

static int rfc6675_setsockopt(usk_tcp_conn_t *c, int name, const void *value, size_t len)
{
    struct conn *k = c->data;
    int n;
    if (name != DUP_THRESH)
        return -ENOPROTOOPT;
    if (len < sizeof n)
        return -EINVAL;
    memcpy(&n, value, sizeof n);
    if (n < 1 || n > 255)
        return -EINVAL;
    k->dup_thresh = (uint32_t)n;
    return 0;
}

static ssize_t rfc6675_getsockopt(usk_tcp_conn_t *c, int name, void *value, size_t len)
{
    const struct conn *k = c->data;
    int n = (int)k->dup_thresh;
    struct rfc6675_stats stats = { k->lost, k->retrans, k->timeouts, k->rto };
    const void *from = name == DUP_THRESH ? (const void *)&n : &stats;
    size_t size = name == DUP_THRESH ? sizeof n : sizeof stats;
    if (name != DUP_THRESH && name != STATS)
        return -ENOPROTOOPT;
    if (size > len)
        size = len;
    memcpy(value, from, size);
    return (ssize_t)size;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_tcp_ops ops = {
        .version = USK_TCP_OPS_VERSION,
        .size = sizeof ops,
        .name = "rfc6675",
        .mib_names = counters,
        .sysctls = sysctls,
        .data_size = sizeof(struct conn),
        .init = rfc6675_init,
        .handoff_ok = rfc6675_handoff_ok,
        .ack = rfc6675_ack,
        .output = rfc6675_output,
        .timer = rfc6675_timer,
        .setsockopt = rfc6675_setsockopt,
        .getsockopt = rfc6675_getsockopt,
    };
    return usk_tcp_register(plugin, &ops, NULL, NULL);
}

/* expopt: an experimental TCP option (RFC 6994) that tells each end how many of its data segments arrive: a ledger.
 *
 * A TCP sender knows how many segments it retransmitted, which is not how many were lost (a timeout may be spurious, or
 * an acknowledgement lost), and the receiver cannot know which segments never arrived. With this option both ends know
 * the loss of both directions, to the segment:
 *
 *     SYN, SYN-ACK     | 254 |  4 | ExID |                           I can / so can I
 *     data segments    | 254 | 10 | ExID | sent (32) | missed (16) | sent: my data segments before this one;
 *                                                                    missed: how many of yours did not come here
 *
 * A retransmission counts as sent and a duplicate as received, so the peer's `sent` minus the segments received here is
 * the number that the network lost. Reordering makes it too large for a while: a segment that was counted as lost is
 * subtracted when it arrives. All segments that a device splits from one super-packet have the same `sent`: only the
 * first counts. All numbers wrap; only their low 16 bits are kept.
 *
 * The option is sent with data only if both ends sent it in the handshake, so connections with other hosts do not pay
 * its 12 bytes. The results are counters of the stack (ExpoptInLost and others below). With net.expopt.enabled = 0 new
 * connections do not use it.
 *
 * The state of a connection fits in the 64-bit value that a hook has on each sock: nothing is allocated. */
#include <arpa/inet.h>
#include <string.h>
#include <usersock/hooks.h>

enum { KIND = 254, EXID = 0x5553, OFFER = 4, LEDGER = 10 };
enum { FLAG_SYN = 2 };

enum { OFFERED, AGREED, DECLINED, OUT, IN, IN_LOST, IN_LATE, OUT_LOST, OUT_LATE, ERRORS };
static const char *const counters[] = {
    "ExpoptOffered",  /* connections begun with the option, either way */
    "ExpoptAgreed",   /* handshakes after which both ends send it */
    "ExpoptDeclined", /* handshakes in which the other end did not send it */
    "ExpoptOut",      /* headers sent with a ledger: super-packets count once */
    "ExpoptIn",       /* ledgers received */
    "ExpoptInLost",   /* data segments of peers that did not arrive here */
    "ExpoptInLate",   /* counted above, but arrived later: reordered */
    "ExpoptOutLost",  /* our data segments that peers report as missed */
    "ExpoptOutLate",  /* counted above, but arrived later */
    "ExpoptErrors",   /* options of this experiment that are malformed or out of place */
    NULL,
};
static const usk_sysctl_t sysctls[] = {
    { "enabled", 1, 0, 1, "Whether new connections and listeners offer the option." },
    { 0 },
};

struct offer {
    uint8_t kind, len;
    uint16_t exid;
};
struct ledger {
    uint8_t kind, len;
    uint16_t exid;
    uint32_t sent;
    uint16_t missed;
} __attribute__((packed));

/* The state of a connection. */
struct known {
    uint16_t seen;   /* data segments received when the last ledger was read */
    uint16_t sent;   /* the largest `sent` of a ledger */
    uint16_t missed; /* the peer's segments that did not arrive */
    uint16_t told;   /* ours, by the peer's last ledger */
};

static struct known known(usk_hook_t *h)
{
    uint64_t v = usk_hook_value(h);
    return (struct known) { v, v >> 16, v >> 32, v >> 48 };
}

static void set_known(usk_hook_t *h, struct known k)
{
    usk_hook_set_value(h, k.seen | (uint32_t)k.sent << 16 | (uint64_t)k.missed << 32 | (uint64_t)k.told << 48);
}

static int offers(const void *options, size_t len)
{
    size_t n;
    return usk_find_option(options, len, KIND, EXID, &n) && n == OFFER - 2;
}

/* ---- the handshake ---- */

static void offer(usk_hook_t *h, void *user)
{
    (void)user;
    usk_hook_set_cb_flags(h, usk_sysctl(h->reg, 0) ? USK_CB_WRITE_HDR_OPT : 0);
}

/* The handshake is complete. `theirs`: the peer sent the option. */
static void agree(usk_hook_t *h, int theirs)
{
    usk_sock_view_t v;
    usk_hook_view(h, &v, sizeof v);
    if (!(v.cb_flags & USK_CB_WRITE_HDR_OPT))
        return; /* and we did not */
    usk_count(h->reg, theirs ? AGREED : DECLINED, 1);
    usk_hook_set_cb_flags(h, theirs ? USK_CB_WRITE_HDR_OPT | USK_CB_PARSE_UNKNOWN_HDR_OPT : 0);
}

static void active(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)user;
    agree(h, offers(options, len));
}

/* The option is in the SYN; in a simultaneous open there is no `syn`, and it is in the SYN-ACK. With a SYN cookie the
 * SYN is not kept: no option. */
static void passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)user;
    agree(h, offers(syn, syn_len) || offers(options, len));
}

/* ---- sending ---- */

static int opt_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)user;
    int need;
    if (seg->flags == USK_HDR_NO_SEGMENT)
        need = LEDGER; /* the option of data segments */
    else if (seg->flags & FLAG_SYN)
        need = !seg->syn || offers(seg->syn, seg->syn_len) ? OFFER : 0; /* a listener sends it only if the SYN had it */
    else
        need = seg->len ? LEDGER : 0;
    return need <= (int)seg->remaining ? need : 0;
}

static void write_opt(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    (void)user;
    if (seg->flags & FLAG_SYN) {
        struct offer o = { KIND, OFFER, htons(EXID) };
        if (usk_hdr_store(w, &o, sizeof o) == 0)
            usk_count(h->reg, OFFERED, 1);
        return;
    }
    usk_sock_view_t v;
    usk_hook_view(h, &v, sizeof v);
    struct ledger l = { KIND, LEDGER, htons(EXID), htonl(v.data_segs_out), htons(known(h).missed) };
    if (usk_hdr_store(w, &l, sizeof l) == 0)
        usk_count(h->reg, OUT, 1);
}

/* ---- receiving ---- */

/* Counts the difference from `before` to `now`, modulo 2^16: an increase in one counter, a decrease in the other. */
static void count_way(usk_hook_t *h, uint16_t before, uint16_t now, int forwards, int backwards)
{
    int16_t d = (int16_t)(uint16_t)(now - before);
    if (d != 0)
        usk_count(h->reg, d > 0 ? forwards : backwards, d > 0 ? d : -d);
}

static void parse(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)user;
    size_t n;
    const uint8_t *data = usk_find_option(options, len, KIND, EXID, &n);
    if (!data)
        return; /* another experiment's */
    if (n != LEDGER - 2) {
        usk_count(h->reg, ERRORS, 1);
        return;
    }
    uint32_t sent;
    uint16_t told;
    memcpy(&sent, data + 2, sizeof sent);
    memcpy(&told, data + 6, sizeof told);
    usk_count(h->reg, IN, 1);
    usk_sock_view_t v;
    usk_hook_view(h, &v, sizeof v);
    struct known k = known(h), now = { .seen = (uint16_t)v.data_segs_in, .sent = k.sent, .told = ntohs(told) };
    int16_t further = (int16_t)((uint16_t)ntohl(sent) - k.sent), missed = (int16_t)k.missed;
    if (further > 0) {
        now.sent = (uint16_t)ntohl(sent);
        missed = (int16_t)(now.sent - k.seen);
    } else if (further < 0) { /* an older ledger: missed segments have arrived */
        missed = (int16_t)(missed - (uint16_t)(now.seen - k.seen));
    }
    /* Segments that the network duplicated make this negative: nothing is missed then. */
    now.missed = missed > 0 ? (uint16_t)missed : 0;
    count_way(h, k.missed, now.missed, IN_LOST, IN_LATE);
    count_way(h, k.told, now.told, OUT_LOST, OUT_LATE);
    set_known(h, now);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_sock_ops hooks = {
        .version = USK_SOCK_OPS_VERSION,
        .size = sizeof hooks,
        .name = "expopt",
        .mib_names = counters,
        .sysctls = sysctls,
        .tcp_connect = offer,
        .listen = offer,
        .active_established = active,
        .passive_established = passive,
        .hdr_opt_len = opt_len,
        .write_hdr_opt = write_opt,
        .parse_hdr_opt = parse,
    };
    return usk_sock_ops_register(plugin, &hooks, NULL, NULL);
}

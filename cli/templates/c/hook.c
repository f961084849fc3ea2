/* @name@: hooks into TCP. Each end of a connection sends an experimental option (RFC 6994) in its SYN or SYN-ACK, and
 * counts those of the other; round trips and retransmissions are counted too. With net.@name@.enabled = 0 new
 * connections have none of it. */
#include <usersock/hooks.h>

enum { KIND = 254, EXID = 0x5553, LENGTH = 4 };
enum { FLAG_SYN = 2 };

enum { OFFERED, SEEN, ROUND_TRIPS, RETRANSMITTED };
static const char *const counters[] = {
    "@Name@Offered",       /* options sent */
    "@Name@Seen",          /* handshakes in which the peer sent one */
    "@Name@RoundTrips",    /* round trips with an RTT sample */
    "@Name@Retransmitted", /* segments */
    NULL,
};
enum { ENABLED };
static const usk_sysctl_t sysctls[] = {
    { "enabled", 1, 0, 1, "Whether new connections and listeners have the hooks." },
    { 0 },
};

/* A connection begins, or a listener, whose children inherit it: asks for the events. */
static void begin(usk_hook_t *h, void *user)
{
    (void)user;
    if (usk_sysctl(h->reg, ENABLED))
        usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT | USK_CB_RTT | USK_CB_RETRANS);
}

static void look_for_it(usk_hook_t *h, const void *options, size_t len)
{
    size_t n;
    if (usk_find_option(options, len, KIND, EXID, &n))
        usk_count(h->reg, SEEN, 1);
}

/* The SYN-ACK arrived. */
static void active(usk_hook_t *h, const void *options, size_t len, void *user)
{
    (void)user;
    look_for_it(h, options, len);
}

/* The last segment of the handshake arrived; the option is in the SYN. */
static void passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)options, (void)len, (void)user;
    look_for_it(h, syn, syn_len);
}

static void round_trip(usk_hook_t *h, uint32_t sample_us, uint32_t srtt_us, void *user)
{
    (void)sample_us, (void)srtt_us, (void)user;
    usk_count(h->reg, ROUND_TRIPS, 1);
}

static void retransmitted(usk_hook_t *h, uint32_t seq, uint32_t segs, int err, void *user)
{
    (void)seq, (void)user;
    if (err == 0)
        usk_count(h->reg, RETRANSMITTED, segs);
}

/* How many bytes of options a segment is to have. */
static int opt_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)user;
    int in_syn = seg->flags != USK_HDR_NO_SEGMENT && seg->flags & FLAG_SYN;
    return in_syn && seg->remaining >= LENGTH ? LENGTH : 0;
}

static void write_opt(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    static const uint8_t option[LENGTH] = { KIND, LENGTH, EXID >> 8, EXID & 255 };
    (void)seg, (void)user;
    if (usk_hdr_store(w, option, sizeof option) == 0)
        usk_count(h->reg, OFFERED, 1);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_sock_ops hooks = {
        .version = USK_SOCK_OPS_VERSION,
        .size = sizeof hooks,
        .name = "@name@",
        .mib_names = counters,
        .sysctls = sysctls,
        .tcp_connect = begin,
        .listen = begin,
        .active_established = active,
        .passive_established = passive,
        .rtt = round_trip,
        .retrans = retransmitted,
        .hdr_opt_len = opt_len,
        .write_hdr_opt = write_opt,
    };
    return usk_sock_ops_register(plugin, &hooks, NULL, NULL);
}

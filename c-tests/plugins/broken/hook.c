/* The hooks of `usersock new-plugin --kind hook` with one of these faults, by -DFAULT=NAME; with NONE they are
 * sound. */
#include <stdlib.h>
#include <time.h>
#include <usersock/hooks.h>

enum fault {
    NONE,
    CHOSEN_CRASHES, /* of chosen sockets: where the peer does not send the option */
    CHOSEN_LATE,    /* of chosen sockets: does not know what to do with a connection that has begun without it */
    CRASHES_ALONE,  /* where the peer does not send the option */
    LEAKED_MEMORY,  /* each connection allocates, and nothing is freed */
    LOUD_CLOCK,     /* the option has the time of the machine in it */
};
#ifndef FAULT
#define FAULT NONE
#endif

enum { IS_CHOSEN = FAULT == CHOSEN_CRASHES || FAULT == CHOSEN_LATE };
enum { KIND = 254, EXID = 0x5553, LENGTH = 4 };
enum { FLAG_SYN = 2, ESTABLISHED = 1 };

enum { OFFERED, SEEN, ROUND_TRIPS, RETRANSMITTED };
static const char *const counters[] = {
    "BrokenOffered",       /* options sent */
    "BrokenSeen",          /* handshakes in which the peer sent one */
    "BrokenRoundTrips",    /* round trips with an RTT sample */
    "BrokenRetransmitted", /* segments */
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
    if (FAULT == LEAKED_MEMORY)
        usk_hook_set_value(h, (uint64_t)(uintptr_t)malloc(40));
    if (usk_sysctl(h->reg, ENABLED))
        usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT | USK_CB_RTT | USK_CB_RETRANS);
}

static void look_for_it(usk_hook_t *h, const void *options, size_t len)
{
    size_t n;
    if (usk_find_option(options, len, KIND, EXID, &n))
        usk_count(h->reg, SEEN, 1);
    else if (FAULT == CRASHES_ALONE || FAULT == CHOSEN_CRASHES)
        abort();
}

/* Attached: to a connection that has begun without it, or to a socket that may begin one. */
static void attached(usk_hook_t *h, void *user)
{
    usk_sock_view_t view;
    (void)user;
    usk_hook_view(h, &view, sizeof view);
    if (FAULT == CHOSEN_LATE && view.state == ESTABLISHED)
        abort();
    usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT | USK_CB_RTT | USK_CB_RETRANS);
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
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint16_t id = FAULT == LOUD_CLOCK ? (uint16_t)(now.tv_nsec / 100) : EXID;
    uint8_t option[LENGTH] = { KIND, LENGTH, (uint8_t)(id >> 8), (uint8_t)id };
    (void)seg, (void)user;
    if (usk_hdr_store(w, option, sizeof option) == 0)
        usk_count(h->reg, OFFERED, 1);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_sock_ops hooks = {
        .version = USK_SOCK_OPS_VERSION,
        .size = sizeof hooks,
        .name = "broken",
        .flags = IS_CHOSEN ? USK_SOCK_OPS_CHOSEN : 0,
        .mib_names = counters,
        .sysctls = sysctls,
        .attached = attached,
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

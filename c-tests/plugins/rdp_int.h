/* Declarations shared by RDP's files, each of which calls only those above it here:
 * rdp_queue.c   queues of packets, and which of them are in flight
 * rdp_loss.c    acknowledgements: loss, round trips and the congestion window
 * rdp_out.c     output
 * rdp_life.c    how a connection is established and ends
 * rdp_timer.c   timers that fired
 * rdp_cookie.c  the listener's cookies
 * rdp_data.c    data in and out of order
 * rdp_in.c      input
 * rdp_msg.c     messages of the program
 * rdp.c         socket operations and the protocol's description */
#ifndef RDP_INT_H
#define RDP_INT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <usersock/cong.h>
#include <usersock/proto.h>
#include "rdp.h"

enum { VERSION = 1, FIXED = 28, HELLO = 12, SACK = 8, MAX_SACKS = 3, MAX_HEADER = FIXED + MAX_SACKS * SACK };

/* Flags of a packet. */
enum { SYN = 1, ACK = 2, FIN = 4, RST = 8, BEG = 16, END = 32, PRB = 64, HEL = 128 };

/* The overhead that a packet uses of the window beside its payload: its bookkeeping at the receiver. */
enum { COST = 640 };

enum { MIN_MSS = 64, MAX_MSS = 65000 };

/* States, by TCP's numbers. */
enum {
    ESTABLISHED = 1, SYN_SENT = 2, FIN_WAIT1 = 4, FIN_WAIT2 = 5, TIME_WAIT = 6, CLOSED = 7, CLOSE_WAIT = 8,
    LAST_ACK = 9, LISTEN = 10,
    CLOSING = 11,
};

/* Timers of a sock, which are also bits of release_cb. */
enum { T_RTX, T_ACK, T_KEEP, T_END, T_RACK, T_PTO, TIMERS };

enum {
    IN_SEGS, OUT_SEGS, RETRANS_SEGS, IN_ERRS, IN_CSUM_ERRS, OUT_RSTS, IN_RSTS, ACTIVE_OPENS, PASSIVE_OPENS,
    ATTEMPT_FAILS, ESTAB_RESETS,
    ESTAB_UP, ESTAB_DOWN, TIMEOUTS, FAST_RECOVERIES, IN_DUPS, OFO_QUEUED, OFO_PRUNED, RCV_FULL, BEYOND_WINDOW,
    OLD_STAMPS, BAD_ACKS,
    CHALLENGE_ACKS, LISTEN_OVERFLOWS, BAD_COOKIES, KEEPALIVES, ZERO_WINDOW_PROBES, PMTU_SPLITS,
    BAD_ICMPS, TW_OVERFLOWS, RCV_GATHERED, USED_COOKIES, LOSS_PROBES, PROBE_RECOVERIES, IN_MSGS, OUT_MSGS,
};

enum {
    C_CONGESTION, C_RETRIES, C_SYN_RETRIES, C_RTO_MIN, C_RTO_MAX, C_DELACK, C_TIME_WAIT, C_MAX_TW, C_FIN_TIMEOUT,
    C_MAX_MESSAGE, C_RMEM,
    C_WMEM, C_RST_RATE, C_KEEPIDLE, C_KEEPINTVL, C_KEEPCNT,
};

/* A packet's header as numbers. */
struct rdp_head {
    uint16_t from, to, csum;
    uint32_t seq, ack, window, stamp, echo;
    uint8_t flags, len; /* len: bytes of header, options included */
    struct {
        uint32_t isn, max_msg;
        uint16_t mss;
    } hello;
    int sacks;
    struct {
        uint32_t start, end;
    } sack[MAX_SACKS];
};

/* A packet in a queue of a sock. Sequence numbers count a byte of payload, an END, a SYN and a FIN as one each. */
struct rdp_seg {
    struct rdp_seg *next, *prev;   /* in the queue, by sequence */
    struct rdp_seg *tnext, *tprev; /* in flight, by time of sending */
    usk_skb_t *skb;                /* payload alone; null: none */
    uint32_t seq, end, len;        /* len: payload bytes */
    uint64_t sent;                 /* when last; ns */
    uint8_t flags;                 /* of the packet: BEG, END, FIN */
    uint8_t marks;                 /* of the scoreboard */
    usk_cong_mark_t rate;          /* when last sent, for delivery rates */
};
enum { SACKED = 1, LOST = 2, RETRANS = 4, EVER_RETRANS = 8 };

struct rdp_list {
    struct rdp_seg *first, *last;
};

struct rdp_sock {
    usk_owned_t *o; /* the owner's, while a call runs: set at each entry */
    usk_reg_t *reg;
    bool bound, accepted, was;   /* has a port; a program has or had it; was connected, once */
    bool orphan;                 /* closed: no program has it any more */
    bool keepalive, confirmed;   /* SO_KEEPALIVE; the peer knows of us */
    bool fin_queued, fin_got;    /* ours is in `out`; the peer's has come in its turn */
    bool counted, in_tw;         /* counted as established; counted as TIME-WAIT */
    bool nospace, mid;           /* a thread waits for room to send; `in` ends inside a message */
    uint16_t user_port; /* bind(2)'s */

    /* Sending: segs from first to before `unsent` are in flight. */
    struct rdp_list out;
    struct rdp_seg *unsent;
    struct rdp_seg *sent_first, *sent_last; /* in flight and not sacked, by time of sending */
    struct rdp_seg *lost_hint; /* no packet before it waits to be sent again; null: none does at all */
    uint32_t iss, snd_una, snd_nxt, write_seq;
    uint32_t snd_wnd, cost_out; /* the peer's window, and what is in flight of it */
    uint32_t wnd_stamp;         /* time stamp of the packet that updated it */
    uint32_t peer_max_msg, mss, user_mss, peer_mss, pmtu;
    uint32_t packets_out, sacked_out, lost_out, retrans_out;
    uint32_t stamp_base; /* our stamps' origin, us: the same for the same two ends */
    uint32_t max_wnd;    /* the largest window that the peer advertised */

    /* Loss, round trips, congestion. */
    uint32_t srtt, rttvar, rto, min_rtt; /* us */
    uint64_t rack_sent, rack_rtt; /* ns: when the latest packet known to have arrived was sent, and its round trip */
    uint32_t rack_end, recover;
    int recovery; /* 0 open, 1 fast, 2 timeout */
    bool probing, probe_again;                  /* a loss probe is out; it was sent before */
    uint32_t probe_high, probe_end, probe_stamp; /* snd_nxt after it; its own end, and its stamp */
    usk_cong_t *cong; /* borrowed; null: no connection */
    char cong_name[16]; /* chosen by the program; empty: by the sysctl */
    int backoff, probes, soft_error;
    uint64_t unacked_since;

    /* Receiving. */
    struct rdp_list in, ofo; /* in order; beyond a hole */
    uint32_t irs, rcv_nxt, last_ack_sent;
    uint32_t edge, adv, adv_left; /* the window's right end; the last offer, and what is left of it */
    uint32_t in_mem;              /* truesize of `in` */
    uint32_t max_msg, cur_len; /* the longest message taken; bytes so far of the one at the end of `in` */
    uint32_t whole;            /* messages in `in` that are complete */
    uint32_t ofo_recent;       /* in the block to be told first */
    uint32_t dup_start, dup_end; /* what came twice, to be told; the same: nothing */
    uint32_t ts_recent;
    uint64_t ts_recent_at;
    int ack_pending, quick;

    uint64_t due[TIMERS];
    uint64_t last_rcv, challenge_at;
    int challenges;
    int keepidle, keepintvl, keepcnt, keep_probes, user_timeout; /* s, s, -, -, ms; 0: the sysctl's */
    uint64_t segs_out, segs_in, bytes_out, bytes_in, msgs_out, msgs_in, retrans, timeouts;
};

/* Of a registration. */
enum { USED = 4096 };
struct rdp_world {
    uint64_t key[2]; /* for cookies */
    _Atomic uint64_t rst_second;
    _Atomic uint32_t rsts;
    _Atomic int time_waits;
    _Atomic uint64_t used[USED]; /* cookies that made a connection lately: tick and 1, number */
};

static inline bool before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline bool after(uint32_t a, uint32_t b) { return before(b, a); }
static inline uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint32_t seg_cost(const struct rdp_seg *g) { return g->len + COST; }

static inline usk_sock_t *sk_of(struct rdp_sock *s) { return usk_owned_sock(s->o); }
static inline uint64_t now_of(struct rdp_sock *s) { return usk_owned_now(s->o); }
static inline int64_t setting(struct rdp_sock *s, int which) { return usk_sysctl(s->reg, (uint32_t)which); }
static inline void count(struct rdp_sock *s, int which) { usk_count(s->reg, (uint32_t)which, 1); }
static inline int state_of(struct rdp_sock *s) { return usk_sock_state(sk_of(s)); }

/* All properties of the sock, for code that is not on the data path. */
static inline usk_sock_info_t info_of(struct rdp_sock *s)
{
    usk_sock_info_t i;
    usk_sock_info(s->o, &i, sizeof i);
    return i;
}

/* The protocol's memory of an owned sock, with the owner noted. */
static inline struct rdp_sock *rdp_of(usk_owned_t *o)
{
    struct rdp_sock *s = usk_private(o);
    s->o = o;
    return s;
}

/* Drops a packet, for one of the stack's reasons. */
static inline void discard(struct rdp_sock *s, usk_skb_t *skb, int reason) { usk_drop(s->reg, skb, reason); }

static inline void rdp_arm(struct rdp_sock *s, int timer, uint64_t at)
{
    s->due[timer] = at;
    usk_timer_arm(s->o, (uint32_t)timer, at);
}

static inline void rdp_disarm(struct rdp_sock *s, int timer)
{
    if (s->due[timer] != 0)
        usk_timer_cancel(s->o, (uint32_t)timer);
    s->due[timer] = 0;
}

/* Our clock as the packets carry it: microseconds from an origin that only we know (rdp_stamp_base). */
static inline uint32_t rdp_stamp(struct rdp_sock *s)
{
    return (uint32_t)(now_of(s) / 1000) + s->stamp_base;
}

enum { WAKE_IN = POLLIN | 0x40, WAKE_OUT = POLLOUT | 0x100, WAKE_ALL = 0x7fffffff };

/* rdp_queue.c */
void rdp_list_insert(struct rdp_list *l, struct rdp_seg *before_this, struct rdp_seg *g);
void rdp_list_remove(struct rdp_list *l, struct rdp_seg *g);
void rdp_list_free(struct rdp_sock *s, struct rdp_list *l, bool sending);
void rdp_seg_free(struct rdp_sock *s, struct rdp_seg *g, bool sending);
void rdp_in_flight(struct rdp_sock *s, struct rdp_seg *g);
void rdp_off_flight(struct rdp_sock *s, struct rdp_seg *g);
void rdp_mark_lost(struct rdp_sock *s, struct rdp_seg *g);
bool rdp_fits(const struct rdp_sock *s, const struct rdp_seg *g);

/* rdp_loss.c */
void rdp_rtt(struct rdp_sock *s, uint32_t us);
void rdp_rearm(struct rdp_sock *s);
void rdp_ack(struct rdp_sock *s, const struct rdp_head *h);
void rdp_rack_detect(struct rdp_sock *s);
void rdp_timeout(struct rdp_sock *s);
uint64_t rdp_reorder_ns(const struct rdp_sock *s);
uint32_t rdp_pipe(const struct rdp_sock *s);
int rdp_cong_choose(struct rdp_sock *s, const char *name);
int rdp_cong_begin(struct rdp_sock *s);
void rdp_cong_end(struct rdp_sock *s);
void rdp_cong_tell(struct rdp_sock *s, usk_cong_info_t *info);

/* rdp_out.c */
void rdp_put_head(uint8_t *p, const struct rdp_head *h);
void rdp_push(struct rdp_sock *s);
void rdp_send_syn(struct rdp_sock *s, bool with_ack);
void rdp_send_ack(struct rdp_sock *s, int flags);
void rdp_send_rst(struct rdp_sock *s);
void rdp_reply_rst(usk_reg_t *reg, const struct rdp_head *h, size_t payload, const usk_packet_info_t *info);
void rdp_challenge(struct rdp_sock *s);
bool rdp_send_part(struct rdp_sock *s);
bool rdp_loss_probe(struct rdp_sock *s);
uint32_t rdp_offer(struct rdp_sock *s);
void rdp_set_mss(struct rdp_sock *s);

/* rdp_life.c */
void rdp_state(struct rdp_sock *s, int state);
void rdp_established(struct rdp_sock *s);
void rdp_queue_fin(struct rdp_sock *s);
void rdp_flush(struct rdp_sock *s);
void rdp_finish(struct rdp_sock *s);
void rdp_abort(struct rdp_sock *s, int err, bool tell);
void rdp_time_wait(struct rdp_sock *s);
uint64_t rdp_keep_ns(struct rdp_sock *s, int own, int which);
void rdp_keepalive_arm(struct rdp_sock *s);
uint32_t rdp_max_message(struct rdp_sock *s);

/* rdp_timer.c */
void rdp_release_cb(usk_owned_t *o, uint32_t bits);

/* rdp_cookie.c */
uint32_t rdp_cookie(struct rdp_sock *s, const usk_addr_t *local, const usk_addr_t *peer, uint32_t isn, uint32_t ago);
bool rdp_cookie_used(struct rdp_sock *s, uint32_t iss);
void rdp_cookie_use(struct rdp_sock *s, uint32_t iss);
uint32_t rdp_stamp_base(struct rdp_sock *s, const usk_addr_t *local, const usk_addr_t *peer);

/* rdp_data.c */
void rdp_came_twice(struct rdp_sock *s, uint32_t start, uint32_t end);
bool rdp_data_in(struct rdp_sock *s, const struct rdp_head *h, usk_skb_t *skb);

/* rdp_in.c */
bool rdp_parse(usk_skb_t *skb, struct rdp_head *h);
void rdp_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info);
void rdp_backlog_rcv(usk_owned_t *o, usk_skb_t *skb);
void rdp_err(usk_reg_t *reg, const usk_icmp_error_t *e);

/* rdp_msg.c */
ptrdiff_t rdp_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg);
ptrdiff_t rdp_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg);
uint32_t rdp_poll(usk_sock_t *sk);
int rdp_ioctl(usk_sock_t *sk, unsigned long request, int *value);

#endif

/* RDP's constants and structures for programs. The protocol is described in rdp.c. */
#ifndef RDP_H
#define RDP_H
#include <stdint.h>

/* socket(AF_INET or AF_INET6, SOCK_SEQPACKET, IPPROTO_RDP); also the level of the options below. */
enum { IPPROTO_RDP = 253 };

/* Options of level IPPROTO_RDP. */
enum {
    RDP_INFO = 1,         /* get: struct rdp_info */
    RDP_MAXSEG = 2,       /* int, bytes: largest payload of a packet, 64 to 65000; set before connecting. get: the one
                             in use */
    RDP_CONGESTION = 3,   /* string: the congestion control's name */
    RDP_MAXMSG = 4,       /* get: int, bytes: the longest message that can be sent; before connecting, the longest
                             received */
    RDP_USER_TIMEOUT = 5, /* int, ms: how long data may stay unacknowledged; 0: by net.rdp.retries */
    RDP_KEEPIDLE = 6,     /* int, seconds, 1 to 32767 */
    RDP_KEEPINTVL = 7,    /* int, seconds, 1 to 32767 */
    RDP_KEEPCNT = 8,      /* int, 1 to 127 */
};

struct rdp_info {
    uint8_t state;       /* by TCP's numbers */
    uint8_t recovery;    /* 0 open, 1 recovering from loss, 2 after a timeout */
    uint8_t backoff;     /* timeouts in a row */
    uint8_t probes;      /* probes unanswered in a row */
    uint32_t rto_us;     /* retransmission timeout */
    uint32_t rtt_us;     /* smoothed round trip, 0: not measured */
    uint32_t rttvar_us;  /* its mean deviation */
    uint32_t min_rtt_us; /* shortest seen */
    uint32_t cwnd;       /* packets */
    uint32_t ssthresh;   /* packets */
    uint32_t in_flight;  /* packets */
    uint32_t snd_wnd;    /* the peer's window, bytes */
    uint32_t rcv_wnd;    /* the window last advertised, bytes */
    uint32_t mss;        /* largest payload sent, bytes */
    uint32_t pmtu;       /* path MTU without IP header, bytes */
    uint64_t segs_out, segs_in, bytes_out, bytes_in, msgs_out, msgs_in;
    uint64_t retrans;       /* packets sent again */
    uint64_t timeouts;      /* retransmissions by timeout */
    uint32_t unacked;       /* bytes sent or queued, not acknowledged */
    uint32_t queued_msgs;   /* messages to be read */
};

#endif

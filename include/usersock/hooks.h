/* usersock for plug-ins: hooks into TCP, struct usk_sock_ops: header options, RTT, retransmissions, states. MIT OR
 * Apache-2.0. */

#ifndef USERSOCK_HOOKS_H
#define USERSOCK_HOOKS_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 For usk_hook_setsockopt: an int, the initial congestion window, segments (TCP_BPF_IW).
 */
#define USK_TCP_BPF_IW 1001

/*
 For usk_hook_setsockopt: an int, the greatest congestion window, segments; the threshold is set to it too
 (TCP_BPF_SNDCWND_CLAMP).
 */
#define USK_TCP_BPF_SNDCWND_CLAMP 1002

/*
 For usk_hook_setsockopt: an int, the longest delay of an acknowledgement, microseconds, up to 200000
 (TCP_BPF_DELACK_MAX).
 */
#define USK_TCP_BPF_DELACK_MAX 1003

/*
 For usk_hook_setsockopt: an int, the least RTO, microseconds, up to 200000 (TCP_BPF_RTO_MIN).
 */
#define USK_TCP_BPF_RTO_MIN 1004

/*
 `version` of struct usk_sock_ops.
 */
#define USK_SOCK_OPS_VERSION 1

/*
 For usk_hook_set_cb_flags: `rto` is wanted (BPF_SOCK_OPS_RTO_CB_FLAG; all have Linux's numbers).
 */
#define USK_CB_RTO 1

/*
 `retrans` is wanted.
 */
#define USK_CB_RETRANS 2

/*
 `state` is wanted.
 */
#define USK_CB_STATE 4

/*
 `rtt` is wanted.
 */
#define USK_CB_RTT 8

/*
 `parse_hdr_opt` is wanted of every segment.
 */
#define USK_CB_PARSE_ALL_HDR_OPT 16

/*
 `parse_hdr_opt` is wanted of segments with an option that TCP does not know.
 */
#define USK_CB_PARSE_UNKNOWN_HDR_OPT 32

/*
 `hdr_opt_len` and `write_hdr_opt` are wanted.
 */
#define USK_CB_WRITE_HDR_OPT 64

/*
 usk_hdr_seg_t.flags: there is no segment, the question is how much data fits into one.
 */
#define USK_HDR_NO_SEGMENT -1

/*
 A hook's room in a header: write_hdr_opt's argument.
 */
typedef struct usk_hdr_t usk_hdr_t;

/*
 An event: what a hook is given. Valid while the hook runs. Of some events the sock is a request, which is no sock
 yet: it can be looked at, and what changes it returns -EINVAL.
 */
typedef struct usk_hook_t {
  /*
   The sock, for usk_break; of a request that is its listener.
   */
  usk_sock_t *sk;
  /*
   The registration, for usk_count and usk_sysctl.
   */
  usk_reg_t *reg;
  /*
   Time of the event, nanoseconds of the stack's clock.
   */
  uint64_t now;
  /*
   The library's.
   */
  void *opaque[2];
} usk_hook_t;

/*
 A connection's numbers, as struct bpf_sock_ops has them: usk_hook_view. Of a request only the first five are known.
 */
typedef struct usk_sock_view_t {
  /*
   Our end.
   */
  usk_addr_t local;
  /*
   The peer; port 0 when there is none.
   */
  usk_addr_t remote;
  /*
   State by Linux's numbers; 12 (NEW_SYN_RECV) for a request.
   */
  uint32_t state;
  /*
   1: a sock; 0: a request.
   */
  uint32_t is_fullsock;
  /*
   AF_INET or AF_INET6 of the socket; of a request, its listener's.
   */
  uint32_t family;
  /*
   Congestion window, segments.
   */
  uint32_t snd_cwnd;
  /*
   Slow-start threshold, segments.
   */
  uint32_t snd_ssthresh;
  /*
   Smoothed RTT, microseconds; 0 before a sample. (Linux shows it shifted left by 3.)
   */
  uint32_t srtt_us;
  /*
   Least RTT of the last tcp_min_rtt_wlen, microseconds; UINT32_MAX before a sample.
   */
  uint32_t rtt_min_us;
  /*
   MSS now, bytes.
   */
  uint32_t mss_cache;
  /*
   Next expected of the peer.
   */
  uint32_t rcv_nxt;
  /*
   Next to be sent.
   */
  uint32_t snd_nxt;
  /*
   First unacknowledged.
   */
  uint32_t snd_una;
  /*
   ECN state of the connection: bits of tcp_sock's ecn_flags.
   */
  uint32_t ecn_flags;
  /*
   Last rate sample: segments.
   */
  uint32_t rate_delivered;
  /*
   Last rate sample: microseconds.
   */
  uint32_t rate_interval_us;
  /*
   Segments sent and not acknowledged.
   */
  uint32_t packets_out;
  /*
   Retransmissions in flight.
   */
  uint32_t retrans_out;
  /*
   Retransmissions ever.
   */
  uint32_t total_retrans;
  /*
   Segments received.
   */
  uint32_t segs_in;
  /*
   Data segments received.
   */
  uint32_t data_segs_in;
  /*
   Segments sent.
   */
  uint32_t segs_out;
  /*
   Data segments sent.
   */
  uint32_t data_segs_out;
  /*
   Segments marked lost.
   */
  uint32_t lost_out;
  /*
   Segments selectively acknowledged.
   */
  uint32_t sacked_out;
  /*
   The events this hook wants of this sock: bits of USK_CB_*.
   */
  uint32_t cb_flags;
  /*
   Payload bytes received.
   */
  uint64_t bytes_received;
  /*
   Payload bytes acknowledged.
   */
  uint64_t bytes_acked;
  /*
   Name of the congestion control, ended by 0.
   */
  char congestion[16];
} usk_sock_view_t;

/*
 The segment that options are for.
 */
typedef struct usk_hdr_seg_t {
  /*
   Its control bits as on the wire (FIN 1, SYN 2, RST 4, PSH 8, ACK 16 ...), or USK_HDR_NO_SEGMENT.
   */
  int flags;
  /*
   First sequence number.
   */
  uint32_t seq;
  /*
   Segments that the device cuts it into; each carries the same option bytes.
   */
  uint32_t segs;
  /*
   Bytes of options still free in the header.
   */
  uint32_t remaining;
  /*
   Payload, bytes.
   */
  size_t len;
  /*
   Option bytes of the SYN that a listener's SYN-ACK answers; null for all others.
   */
  const void *syn;
  /*
   How many.
   */
  size_t syn_len;
} usk_hdr_seg_t;

/*
 Hooks into TCP: one function an event; null: nothing is done, or the answer is left to others. Copied when
 registered; strings and lists too. `user` is what was given to usk_sock_ops_register.

 All are called in the order of registration with the sock owned, in packet, timer or process context: they must not
 sleep, and must not use the sock by any other way than usk_break and the usk_hook_ calls (the POSIX-shaped ones
 return EDEADLK for it). Different socks' events run on different threads at once. Where one answer is wanted and
 several hooks give one, the last counts. No exception of C++ and no panic of a Rust shared object may leave one:
 catch it and call usk_break(h->sk). In `release` there is nothing left to break: just catch it. Events of a
 connection's beginning come always; the others to a hook that asked for them on that sock by usk_hook_set_cb_flags.
 A listener's children inherit its flags, and begin with the value 0.
 */
typedef struct usk_sock_ops {
  /*
   USK_SOCK_OPS_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_sock_ops). What a shorter table lacks is null.
   */
  uint32_t size;
  /*
   1 to 31 printable characters without dot, unique among a stack's hooks. Required.
   */
  const char *name;
  /*
   Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack,
   read by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
  /*
   RTO of a SYN or SYN-ACK not answered yet, microseconds; 0: the default, a second. Asked when a connection sends
   its first SYN, when a listener gets one (of the request), and when a SYN's retries are counted
   (BPF_SOCK_OPS_TIMEOUT_INIT).
   */
  uint32_t (*timeout_init)(usk_hook_t *h, void *user);
  /*
   First window to advertise, segments; 0: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
   */
  uint32_t (*rwnd_init)(usk_hook_t *h, void *user);
  /*
   Not 0: the connection asks for ECN, or agrees to it, whatever tcp_ecn says (BPF_SOCK_OPS_NEEDS_ECN).
   */
  int (*needs_ecn)(usk_hook_t *h, void *user);
  /*
   RTT of the path without queues, microseconds, for the congestion control that begins; 0: unknown
   (BPF_SOCK_OPS_BASE_RTT).
   */
  uint32_t (*base_rtt)(usk_hook_t *h, void *user);
  /*
   An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
   */
  void (*tcp_connect)(usk_hook_t *h, void *user);
  /*
   The SYN-ACK came; `options` are its option bytes (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
   */
  void (*active_established)(usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   The handshake's last segment came, its option bytes in `options`; `syn` are those of the SYN, none for a
   simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
   */
  void (*passive_established)(usk_hook_t *h,
                              const void *options,
                              size_t len,
                              const void *syn,
                              size_t syn_len,
                              void *user);
  /*
   The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB).
   */
  void (*listen)(usk_hook_t *h, void *user);
  /*
   The retransmission timer fired: retransmissions so far, the RTO that ended, whether the connection gives up.
   With USK_CB_RTO.
   */
  void (*rto)(usk_hook_t *h, uint32_t retransmits, uint32_t rto_us, int expired, void *user);
  /*
   `segs` segments from `seq` on were sent again; `err` is 0, or a negative errno that the device said. With
   USK_CB_RETRANS.
   */
  void (*retrans)(usk_hook_t *h, uint32_t seq, uint32_t segs, int err, void *user);
  /*
   The connection is about to leave state `old` for `now`, by Linux's numbers. With USK_CB_STATE.
   */
  void (*state)(usk_hook_t *h, int old, int now, void *user);
  /*
   A round trip is over: its last sample and the smoothed RTT, microseconds. With USK_CB_RTT.
   */
  void (*rtt)(usk_hook_t *h, uint32_t sample_us, uint32_t srtt_us, void *user);
  /*
   An acceptable segment came; `options` are its option bytes. Not in SYN_SENT, SYN_RECV and LISTEN. With
   USK_CB_PARSE_ALL_HDR_OPT or USK_CB_PARSE_UNKNOWN_HDR_OPT.
   */
  void (*parse_hdr_opt)(usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   How many bytes of options to reserve in a segment: 2 to seg->remaining; anything else reserves none. Also asked
   without a segment, to know how much data fits: a full data segment has room for what is returned then, and no
   more. With USK_CB_WRITE_HDR_OPT.
   */
  int (*hdr_opt_len)(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user);
  /*
   Writes by usk_hdr_store what hdr_opt_len reserved; what is left over is padding. With USK_CB_WRITE_HDR_OPT.
   */
  void (*write_hdr_opt)(usk_hook_t *h,
                        const usk_hdr_seg_t *seg,
                        usk_hdr_t *w,
                        void *user);
  /*
   The registration is gone and no event of it runs any more: `user` can be freed. Any context, perhaps with a sock
   owned: nothing of a stack may be called.
   */
  void (*release)(void *user);
} usk_sock_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Fills `*view` with the connection's numbers now. `size` is sizeof(usk_sock_view_t): what the library does not know
 is zero. Returns how many bytes it knows.
 Requires: `h` is a hook's argument; `view` is writable for `size` bytes.
 */
ptrdiff_t usk_hook_view(usk_hook_t *h,
                        usk_sock_view_t *view,
                        size_t size);

/*
 Sets the events this hook wants of this sock: bits of USK_CB_* (bpf_sock_ops_cb_flags_set). A listener's are
 inherited by its children, and USK_CB_WRITE_HDR_OPT on it writes its SYN-ACKs. Returns 0; -EINVAL: a request, or an
 unknown bit.
 Requires: `h` is a hook's argument.
 */
int usk_hook_set_cb_flags(usk_hook_t *h,
                          uint32_t flags);

/*
 What this hook keeps on this sock; 0 until set.
 Requires: `h` is a hook's argument.
 */
uint64_t usk_hook_value(usk_hook_t *h);

/*
 Keeps a number for this hook on this sock, for as long as the sock lives (bpf_sk_storage). -EINVAL: a request.
 Requires: `h` is a hook's argument.
 */
int usk_hook_set_value(usk_hook_t *h,
                       uint64_t value);

/*
 Sets an option of the event's connection (bpf_setsockopt). `level` is IPPROTO_TCP; `name` is one of USK_TCP_BPF_*,
 TCP_CONGESTION (a name), or TCP_SAVE_SYN (an int, of a listener: its children keep their SYN for TCP_SAVED_SYN).
 Returns 0; -EINVAL: a request, another option, a value or a length that does not fit, an initial window after data
 was sent; -ENOENT: no congestion control of that name.
 Requires: `h` is a hook's argument; `value` is readable for `len` bytes.
 */
int usk_hook_setsockopt(usk_hook_t *h,
                        int level,
                        int name,
                        const void *value,
                        size_t len);

/*
 Appends one option to the header: kind, length, data; of the experimental kinds 253 and 254 the data begins with the
 experiment's number (RFC 6994 §3). `len` is the option's own length or more. -EINVAL: not well formed, or a kind
 without length; -ENOSPC: more than was reserved; -EEXIST: an option of this kind (and experiment) is in the header
 already (bpf_store_hdr_opt).
 Requires: `w` is write_hdr_opt's argument; `option` is readable for `len` bytes.
 */
int usk_hdr_store(usk_hdr_t *w,
                  const void *option,
                  size_t len);

/*
 Bytes still free of what the hook reserved.
 Requires: `w` is write_hdr_opt's argument.
 */
size_t usk_hdr_remaining(usk_hdr_t *w);

/*
 Option bytes that TCP itself wrote into this header; `*len` says how many.
 Requires: `w` is write_hdr_opt's argument, and the bytes are used while that runs; `len` is writable.
 */
const void *usk_hdr_own(usk_hdr_t *w, size_t *len);

/*
 Data of the first option of a kind in option bytes, `*data_len` of it; with an `exid` of 0 or more, of the first
 that begins with this experiment's number, which is part of the data (RFC 6994 §3.1). Null: none
 (bpf_load_hdr_opt).
 Requires: `options` is readable for `len` bytes; `data_len` is writable.
 */
const void *usk_find_option(const void *options,
                            size_t len,
                            uint8_t kind,
                            int exid,
                            size_t *data_len);

/*
 Registers hooks in the plug-in's stack, behind those that are there. `user` is what they get; `*out`, unless null,
 gets the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table
 does not fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out`
 is null or writable.
 */
int usk_sock_ops_register(usk_plugin_t *plugin,
                          const struct usk_sock_ops *table,
                          void *user,
                          usk_reg_t **out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_HOOKS_H */

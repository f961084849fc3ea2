/* usersock for plug-ins: congestion control: struct usk_cong_ops for TCP's connections, and the library's algorithms
 * for other protocols. MIT OR Apache-2.0. */

#ifndef USERSOCK_CONG_H
#define USERSOCK_CONG_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 usk_cong_ack_t.flags: the acknowledged segments lie behind a hole that is not yet filled. The window does not grow.
 */
#define USK_CONG_BEHIND_HOLE 1

/*
 usk_cong_ack_t.flags: the acknowledgement echoes a congestion mark (RFC 3168).
 */
#define USK_CONG_ECE 2

/*
 `version` of struct usk_cong_ops.
 */
#define USK_CONG_VERSION 1

/*
 Most bytes of a connection's own memory (usk_cong_ops.priv_size).
 */
#define USK_CONG_PRIV_MAX 1024

/*
 Most bytes that usk_cong_ops.get_info may write.
 */
#define USK_CONG_INFO_MAX 64

/*
 usk_cong_ops.flags: the algorithm needs ECN (TCP_CONG_NEEDS_ECN): SYNs request it whatever net.ipv4.tcp_ecn is, and
 are sent ECT(0); if both ends agree (usk_tcp_t.ecn_ok), so is every packet.
 */
#define USK_CONG_NEEDS_ECN 1

/*
 With USK_CONG_NEEDS_ECN: the receiver echoes the CE mark of each segment, not a mark until the sender's CWR (RFC
 8257 §3.2), so that the sender counts what was marked.
 */
#define USK_CONG_EXACT_ECE 2

/*
 Every program may choose the algorithm by TCP_CONGESTION (TCP_CONG_NON_RESTRICTED). Without it the programs of a
 stack server, which lack CAP_NET_ADMIN, get EPERM, unless net.ipv4.tcp_allowed_congestion_control or
 net.ipv4.tcp_congestion_control name the algorithm.
 */
#define USK_CONG_NON_RESTRICTED 4

/*
 The algorithm takes the place of the one of the same name, if a plug-in has registered one (a built-in one is
 -EPERM): connections that begin from now on have the new one, children of listeners that selected it before too, and
 so has a socket that selects it by TCP_CONGESTION. Connections that have the other keep it, and it stays registered
 until usk_unregister, or usk_plugin_unload of its plug-in, which is -EBUSY until the last of them has ended. Counters
 and sysctls of the same names are shared: they go on, with the values that they have; a sysctl's range must be the
 same. (BPF's update of a struct_ops link, tcp_update_congestion_control.)
 */
#define USK_CONG_REPLACE 8

/*
 Congestion states (enum tcp_ca_state): no congestion.
 */
#define USK_CA_OPEN 0

/*
 Duplicate ACKs or SACKs arrived.
 */
#define USK_CA_DISORDER 1

/*
 Congestion without loss: the window is being reduced.
 */
#define USK_CA_CWR 2

/*
 Fast recovery.
 */
#define USK_CA_RECOVERY 3

/*
 After a retransmission timeout.
 */
#define USK_CA_LOSS 4

/*
 Events (enum tcp_ca_event): data is sent while nothing was in flight.
 */
#define USK_CA_EVENT_TX_START 0

/*
 The window restarts after an idle time.
 */
#define USK_CA_EVENT_CWND_RESTART 1

/*
 A reduction is complete.
 */
#define USK_CA_EVENT_COMPLETE_CWR 2

/*
 A retransmission timeout.
 */
#define USK_CA_EVENT_LOSS 3

/*
 A packet without a CE mark arrived (only with USK_CONG_NEEDS_ECN).
 */
#define USK_CA_EVENT_ECN_NO_CE 4

/*
 A packet with a CE mark arrived.
 */
#define USK_CA_EVENT_ECN_IS_CE 5

/*
 Flags of in_ack_event: the acknowledgement was not the predicted next one.
 */
#define USK_CA_ACK_SLOWPATH 1

/*
 The acknowledgement updated the send window.
 */
#define USK_CA_ACK_WIN_UPDATE 2

/*
 The acknowledgement has ECE.
 */
#define USK_CA_ACK_ECE 4

/*
 An instance of a congestion control algorithm for a protocol that is not TCP: usk_cong_new makes it, usk_cong_free
 frees it. It belongs to one sock, which is owned in every call. Its window, RTT, RTO and rates follow the rules of
 TCP's connections. The unit is the segment: the data that the protocol sends in one packet. A segment is in flight
 from when it is sent until it is acknowledged or declared lost; a retransmission counts as sent again. For each
 acknowledgement, call in this order: usk_cong_recovered if it completes all data that was outstanding at the loss,
 usk_cong_loss for the segments that it shows to be lost, usk_cong_acked for the segments that it acknowledges; then
 usk_cong_quota returns how many segments may be sent.
 */
typedef struct usk_cong_t usk_cong_t;

/*
 What usk_cong_sent records about a packet, for the delivery-rate sample when the packet is acknowledged. Fits in
 usk_skb_cb, and may be copied.
 */
typedef struct usk_cong_mark_t {
  uint64_t opaque[5];
} usk_cong_mark_t;

/*
 An acknowledgement.
 */
typedef struct usk_cong_ack_t {
  /*
   Segments in flight that it acknowledges.
   */
  uint32_t segments;
  /*
   Segments that it acknowledges although usk_cong_loss or usk_cong_rto had declared them lost.
   */
  uint32_t late;
  /*
   RTT of the segment of them that was sent last, if it was sent only once (RFC 6298), microseconds; -1: none. 0 is
   a sample.
   */
  int64_t rtt_us;
  /*
   Mark of the segment of them that was sent last; null: no delivery-rate sample.
   */
  const usk_cong_mark_t *mark;
  /*
   USK_CONG_BEHIND_HOLE, USK_CONG_ECE.
   */
  uint32_t flags;
} usk_cong_ack_t;

/*
 The state of a borrowed algorithm. ca_state is tcp_info's: 0 Open, 2 CWR, 3 Recovery, 4 Loss.
 */
typedef struct usk_cong_info_t {
  /*
   Name of the algorithm, NUL-terminated.
   */
  char name[16];
  /*
   Congestion window, segments.
   */
  uint32_t cwnd;
  /*
   Slow-start threshold, segments.
   */
  uint32_t ssthresh;
  /*
   Segments in flight.
   */
  uint32_t in_flight;
  /*
   State.
   */
  uint32_t ca_state;
  /*
   Smoothed RTT, microseconds; 0: no sample yet.
   */
  uint32_t srtt_us;
  /*
   Mean deviation of the RTT, microseconds.
   */
  uint32_t rttvar_us;
  /*
   Minimum RTT of the recent past, microseconds; UINT32_MAX: no sample yet.
   */
  uint32_t min_rtt_us;
  /*
   Retransmission timeout without backoff, microseconds.
   */
  uint32_t rto_us;
  /*
   Segments delivered in total, modulo 2^32.
   */
  uint32_t delivered;
  /*
   Segments declared lost in total, modulo 2^32.
   */
  uint32_t lost;
  /*
   1: the algorithm requires that packets are paced at pacing_rate.
   */
  uint32_t needs_pacing;
  /*
   0.
   */
  uint32_t reserved;
  /*
   Pacing rate, bytes a second; UINT64_MAX: none.
   */
  uint64_t pacing_rate;
  /*
   Delivery rate of the last good sample, bytes a second; 0: none.
   */
  uint64_t delivery_rate;
} usk_cong_info_t;

/*
 A connection's variables, during a call of a congestion control. The first block may be written: its values are
 copied back when the function returns, clamped to their bounds; writes to the others are ignored. Counts are in
 segments unless stated otherwise; later versions may append members.
 */
typedef struct usk_tcp_t {
  /*
   May be written: congestion window. At least 1, at most snd_cwnd_clamp.
   */
  uint32_t snd_cwnd;
  /*
   May be written: segments acknowledged since the last increase.
   */
  uint32_t snd_cwnd_cnt;
  /*
   May be written: slow-start threshold. At least 1; 0x7fffffff: infinite, as initially.
   */
  uint32_t snd_ssthresh;
  /*
   May be written: upper bound of the window. At least 1.
   */
  uint32_t snd_cwnd_clamp;
  /*
   May be written: value of delivered + in_flight up to which rate samples are application-limited; 0: they are
   not.
   */
  uint32_t app_limited;
  /*
   May be written: 1: packets are paced at pacing_rate (SK_PACING_NEEDED); once set it stays.
   */
  uint32_t needs_pacing;
  /*
   May be written: bytes a second; UINT64_MAX: unlimited. Lasts only if the table has cong_control: otherwise each
   acknowledgement computes it.
   */
  uint64_t pacing_rate;
  /*
   Now, nanoseconds of the stack's clock.
   */
  uint64_t now;
  /*
   SO_MAX_PACING_RATE, bytes a second.
   */
  uint64_t max_pacing_rate;
  /*
   When `delivered` was reached, nanoseconds.
   */
  uint64_t delivered_mstamp;
  /*
   Window and threshold before the reduction, for undo_cwnd; 0: none.
   */
  uint32_t prior_cwnd;
  /*
   See prior_cwnd.
   */
  uint32_t prior_ssthresh;
  /*
   USK_CA_OPEN ...
   */
  uint32_t ca_state;
  /*
   Whether the window recently limited sending, so that it may grow (tcp_is_cwnd_limited).
   */
  uint32_t is_cwnd_limited;
  /*
   Smoothed RTT, microseconds times 8; 0: no sample yet.
   */
  uint32_t srtt_us;
  /*
   Its mean deviation, microseconds times 4.
   */
  uint32_t mdev_us;
  /*
   Minimum RTT of the recent past, microseconds; UINT32_MAX: no sample yet.
   */
  uint32_t min_rtt_us;
  /*
   Retransmission timeout, microseconds.
   */
  uint32_t rto_us;
  /*
   Payload bytes of a full segment.
   */
  uint32_t mss_cache;
  /*
   Sent and not acknowledged.
   */
  uint32_t packets_out;
  /*
   Those of packets_out that are selectively acknowledged.
   */
  uint32_t sacked_out;
  /*
   Those of packets_out that are marked lost.
   */
  uint32_t lost_out;
  /*
   Retransmissions in flight.
   */
  uint32_t retrans_out;
  /*
   packets_out - sacked_out - lost_out + retrans_out (tcp_packets_in_flight).
   */
  uint32_t in_flight;
  /*
   Delivered in total, modulo 2^32.
   */
  uint32_t delivered;
  /*
   Those of `delivered` with a congestion mark.
   */
  uint32_t delivered_ce;
  /*
   Marked lost in total, modulo 2^32.
   */
  uint32_t lost;
  /*
   Segments delivered since the reduction began.
   */
  uint32_t prr_delivered;
  /*
   Segments sent since the reduction began.
   */
  uint32_t prr_out;
  /*
   Degree of reordering.
   */
  uint32_t reordering;
  /*
   First unacknowledged sequence number.
   */
  uint32_t snd_una;
  /*
   Next sequence number to send.
   */
  uint32_t snd_nxt;
  /*
   End of the data that the program has written.
   */
  uint32_t write_seq;
  /*
   snd_nxt when recovery began.
   */
  uint32_t high_seq;
  /*
   When the window last changed, milliseconds of the stack's clock modulo 2^32.
   */
  uint32_t snd_cwnd_stamp;
  /*
   When data was last sent, in the same unit.
   */
  uint32_t lsndtime;
  /*
   1: both ends agreed on ECN.
   */
  uint32_t ecn_ok;
  /*
   RTT of the path without queues, microseconds, as a hook returned it when the algorithm began (base_rtt of struct
   usk_sock_ops); 0: unknown. Linux's NV uses it.
   */
  uint32_t base_rtt_us;
  /*
   The connection's sock, for usk_break; null when the stack has ended (only in release).
   */
  usk_sock_t *sk;
  /*
   The registration, for usk_count, usk_sysctl, usk_user and usk_random.
   */
  usk_reg_t *reg;
} usk_tcp_t;

/*
 Delivery-rate sample of an acknowledgement (struct rate_sample). Times are of the stack's clock.
 */
typedef struct usk_rate_sample_t {
  /*
   When the interval began, nanoseconds; 0: no sample.
   */
  uint64_t prior_mstamp;
  /*
   Length of the interval, microseconds; -1: no sample.
   */
  int64_t interval_us;
  /*
   RTT of the acknowledgement, microseconds; -1: none.
   */
  int64_t rtt_us;
  /*
   usk_tcp_t.delivered when the interval began.
   */
  uint32_t prior_delivered;
  /*
   usk_tcp_t.delivered_ce when the interval began.
   */
  uint32_t prior_delivered_ce;
  /*
   Segments delivered over the interval; -1: no sample.
   */
  int32_t delivered;
  /*
   Those of `delivered` with a congestion mark.
   */
  int32_t delivered_ce;
  /*
   Send phase of the interval, microseconds.
   */
  uint32_t snd_interval_us;
  /*
   Acknowledgement phase.
   */
  uint32_t rcv_interval_us;
  /*
   Segments marked lost by this acknowledgement.
   */
  int32_t losses;
  /*
   Segments newly acknowledged or selectively acknowledged.
   */
  uint32_t acked_sacked;
  /*
   Segments in flight before this acknowledgement.
   */
  uint32_t prior_in_flight;
  /*
   End sequence number of the segment that was delivered last.
   */
  uint32_t last_end_seq;
  /*
   1: the sample is application-limited.
   */
  uint8_t is_app_limited;
  /*
   1: the sampled segment was a retransmission.
   */
  uint8_t is_retrans;
  /*
   1: the receiver probably delayed the acknowledgement.
   */
  uint8_t is_ack_delayed;
  /*
   0.
   */
  uint8_t reserved;
} usk_rate_sample_t;

/*
 The sample of an acknowledgement, for pkts_acked (struct ack_sample).
 */
typedef struct usk_ack_sample_t {
  /*
   RTT of the sample, microseconds; -1: none.
   */
  int64_t rtt_us;
  /*
   Segments acknowledged.
   */
  uint32_t pkts_acked;
  /*
   Bytes in flight when the sampled segment was sent.
   */
  uint32_t in_flight;
} usk_ack_sample_t;

/*
 A packet that an acknowledgement has delivered, for pkts_delivered. A super-packet is one packet of several segments.
 */
typedef struct usk_pkt_sample_t {
  /*
   When it was sent, the last time if more than once, nanoseconds of the stack's clock.
   */
  uint64_t sent_at;
  /*
   Microseconds since then; -1: it was sent again, and which one has arrived is unknown (Karn's rule).
   */
  int64_t rtt_us;
  /*
   Sequence number of its first byte.
   */
  uint32_t seq;
  /*
   That behind its last byte.
   */
  uint32_t end_seq;
  /*
   Its segments.
   */
  uint32_t segs;
  /*
   usk_tcp_t.delivered when it was sent.
   */
  uint32_t prior_delivered;
  /*
   1: it was sent again.
   */
  uint32_t is_retrans;
  /*
   1: selectively acknowledged: not all before it has arrived.
   */
  uint32_t is_sacked;
} usk_pkt_sample_t;

/*
 Congestion control of TCP's connections (struct tcp_congestion_ops). Every function gets the connection's variables,
 some of which it may write, and `priv`: priv_size bytes of private memory of the connection, initially zero,
 aligned to 16; null if priv_size is 0. Functions run in either context with the sock owned: they must not sleep, and
 may call only the usk_tcp_ functions, usk_count, usk_sysctl, usk_user, usk_random and usk_break (the POSIX-shaped calls return
 EDEADLK for the sock). None is called before init or after release. No C++ exception and no panic of a Rust shared
 object may leave a function: catch it and call usk_break(tp->sk).
 */
typedef struct usk_cong_ops {
  /*
   USK_CONG_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_cong_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters, as TCP_CONGESTION and net.ipv4.tcp_congestion_control take it; unique in a stack.
   Required.
   */
  const char *name;
  /*
   Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
   usk_mib_read reads them.
   */
  const char *const *mib_names;
  /*
   Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
  /*
   USK_CONG_ bits, or 0.
   */
  uint32_t flags;
  /*
   Bytes of `priv`, at most USK_CONG_PRIV_MAX.
   */
  uint32_t priv_size;
  /*
   The connection begins, or changes to this algorithm. Null: no action.
   */
  void (*init)(usk_tcp_t *tp, void *priv);
  /*
   The connection ends, or changes to another algorithm; writes to `tp` are ignored. Null: no action.
   */
  void (*release)(usk_tcp_t *tp, void *priv);
  /*
   Returns the slow-start threshold after a loss, segments. Required.
   */
  uint32_t (*ssthresh)(usk_tcp_t *tp, void *priv);
  /*
   `acked` segments, up to `ack`, were acknowledged without congestion: increases the window. Required, unless
   cong_control is set.
   */
  void (*cong_avoid)(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t acked);
  /*
   Called for every acknowledgement, in place of cong_avoid and of the reduction in recovery: sets snd_cwnd and
   pacing_rate. `flags` are Linux's FLAG_ bits: 0x04 data acknowledged, 0x20 data selectively acknowledged, 0x40
   ECE, 0x400 snd_una advanced. Null: cong_avoid and the standard reduction are used.
   */
  void (*cong_control)(usk_tcp_t *tp,
                       void *priv,
                       uint32_t ack,
                       uint32_t flags,
                       const usk_rate_sample_t *rs);
  /*
   Segments were acknowledged. Null: nothing.
   */
  void (*pkts_acked)(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample);
  /*
   An acknowledgement arrived; `flags`: USK_CA_ACK_ bits. Called after pkts_acked and before loss detection. Null:
   no action.
   */
  void (*in_ack_event)(usk_tcp_t *tp, void *priv, uint32_t flags);
  /*
   The state will be `state` (USK_CA_OPEN ...); tp->ca_state is still the old one. Null: nothing.
   */
  void (*set_state)(usk_tcp_t *tp, void *priv, uint8_t state);
  /*
   One of USK_CA_EVENT_*. Null: nothing.
   */
  void (*cwnd_event)(usk_tcp_t *tp, void *priv, int event);
  /*
   Returns the window after a spurious loss, segments. Required.
   */
  uint32_t (*undo_cwnd)(usk_tcp_t *tp, void *priv);
  /*
   Returns the minimum number of segments of a super-packet; writes to `tp` are ignored. Null:
   net.ipv4.tcp_min_tso_segs.
   */
  uint32_t (*min_tso_segs)(const usk_tcp_t *tp, void *priv);
  /*
   Returns how many windows the send buffer should hold; writes to `tp` are ignored. Null: 2.
   */
  uint32_t (*sndbuf_expand)(const usk_tcp_t *tp, void *priv);
  /*
   For TCP_CC_INFO: writes at most `len` (USK_CONG_INFO_MAX) bytes to `info` and returns how many; writes to `tp`
   are ignored. Null: none.
   */
  size_t (*get_info)(const usk_tcp_t *tp, void *priv, void *info, size_t len);
  /*
   An acknowledgement has delivered these `n` packets, each for the first time; called before pkts_acked, so that
   every packet gives a sample of the RTT and not the last one alone. For a protocol that borrows the algorithm
   (usk_cong_new): the packet of the acknowledgement's mark, of one segment. Null: no action.
   */
  void (*pkts_delivered)(usk_tcp_t *tp,
                         void *priv,
                         const usk_pkt_sample_t *pkts,
                         uint32_t n);
} usk_cong_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Makes an instance of the algorithm `name` (null: that of net.ipv4.tcp_congestion_control) for the sock's protocol,
 with the initial window of the sock's route. `mss`: payload bytes of a full segment. While it exists, the algorithm
 cannot be unregistered. Returns null if there is no algorithm of that name, or `mss` is 0.
 Requires: `o` is owned; `name` is null or a string.
 */
usk_cong_t *usk_cong_new(usk_owned_t *o,
                         const char *name,
                         uint32_t mss);

/*
 Frees an instance. Null is ignored.
 Requires: `o` is owned, the sock that it was made for; `cong` is null or from usk_cong_new, and not used afterwards.
 */
void usk_cong_free(usk_owned_t *o,
                   usk_cong_t *cong);

/*
 Returns how many segments may be sent now, 0 or more. Call it before the first segment of a burst is sent: after an
 idle time of an RTO it restarts the window (RFC 2861). -EINVAL for null.
 Requires: `o` is owned, the sock that `cong` was made for.
 */
int usk_cong_quota(usk_owned_t *o,
                   usk_cong_t *cong);

/*
 `n` segments are sent in one packet; `again`: it is a retransmission. `*mark`, unless null, is filled for
 usk_cong_acked.
 Requires: as usk_cong_quota; `mark` is null or writable.
 */
int usk_cong_sent(usk_owned_t *o,
                  usk_cong_t *cong,
                  uint32_t n,
                  int again,
                  usk_cong_mark_t *mark);

/*
 An acknowledgement: takes its RTT and rate samples, and opens or reduces the window. -EINVAL: unknown flags, or an
 rtt_us below -1.
 Requires: as usk_cong_quota; `ack` is readable, and its mark is null or points to one that usk_cong_sent filled.
 */
int usk_cong_acked(usk_owned_t *o,
                   usk_cong_t *cong,
                   const usk_cong_ack_t *ack);

/*
 `n` segments in flight are lost: recovery begins, unless a recovery is in progress, to which they then belong.
 Requires: as usk_cong_quota.
 */
int usk_cong_loss(usk_owned_t *o,
                  usk_cong_t *cong,
                  uint32_t n);

/*
 All data that was outstanding at the loss or at the timeout is acknowledged: the reduction is complete.
 Requires: as usk_cong_quota.
 */
int usk_cong_recovered(usk_owned_t *o,
                       usk_cong_t *cong);

/*
 The retransmission timer expired: everything in flight is lost, the window is one segment.
 Requires: as usk_cong_quota.
 */
int usk_cong_rto(usk_owned_t *o, usk_cong_t *cong);

/*
 The loss or timeout of this episode was spurious: window and threshold are restored. Returns 1; 0 if there is
 nothing to undo.
 Requires: as usk_cong_quota.
 */
int usk_cong_undo(usk_owned_t *o,
                  usk_cong_t *cong);

/*
 The protocol has no more data though the window has room: rate samples of the segments in flight are
 application-limited.
 Requires: as usk_cong_quota.
 */
int usk_cong_app_limited(usk_owned_t *o,
                         usk_cong_t *cong);

/*
 Sets the payload bytes of a full segment. -EINVAL: 0.
 Requires: as usk_cong_quota.
 */
int usk_cong_set_mss(usk_owned_t *o, usk_cong_t *cong, uint32_t mss);

/*
 Fills `*info` with the state of the algorithm. `size` is sizeof(usk_cong_info_t): members that the library does not
 know are zero. Returns how many bytes the library filled; -EFAULT: `cong` or `info` is null.
 Requires: `cong` is null or from usk_cong_new, its sock owned; `info` is writable for `size` bytes.
 */
ptrdiff_t usk_cong_info(const usk_cong_t *cong,
                        usk_cong_info_t *info,
                        size_t size);

/*
 Registers a congestion control in the plug-in's stack: net.ipv4.tcp_congestion_control can make it the default, and
 sockets can select it by TCP_CONGESTION (see USK_CONG_NON_RESTRICTED). `user` is for usk_user; `*out`, unless null,
 gets the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table
 does not fit (version, size, a required function, name, flags, priv_size, a replaced sysctl's range), -EEXIST the
 name, a counter or a sysctl is taken, -EPERM the algorithm to replace is the library's.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_cong_register(usk_plugin_t *plugin,
                      const struct usk_cong_ops *table,
                      void *user,
                      usk_reg_t **out);

/*
 Whether the connection is in slow start (tcp_in_slow_start): 1 or 0.
 Requires: `tp` is a congestion control's argument.
 */
int usk_tcp_in_slow_start(const usk_tcp_t *tp);

/*
 Slow start for `acked` segments, up to the threshold; returns the segments left over for congestion avoidance
 (tcp_slow_start).
 Requires: `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_slow_start(usk_tcp_t *tp,
                            uint32_t acked);

/*
 Additive increase: one segment for every `w` acknowledged (tcp_cong_avoid_ai).
 Requires: `tp` is a congestion control's argument.
 */
void usk_tcp_cong_avoid_ai(usk_tcp_t *tp, uint32_t w, uint32_t acked);

/*
 Reno's threshold: half of the window, at least 2. Fits usk_cong_ops.ssthresh.
 Requires: `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_reno_ssthresh(usk_tcp_t *tp, void *priv);

/*
 Reno's window increase (RFC 5681 §3.1). Fits usk_cong_ops.cong_avoid.
 Requires: `tp` is a congestion control's argument.
 */
void usk_tcp_reno_cong_avoid(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t acked);

/*
 The window after a spurious loss: the window before the loss, if that is larger. Fits usk_cong_ops.undo_cwnd.
 Requires: `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_reno_undo_cwnd(usk_tcp_t *tp,
                                void *priv);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_CONG_H */

/* usersock: TCP sockets in user space, as Linux does them. MIT OR Apache-2.0.
 *
 * POSIX-shaped calls with the prefix usk_. Structures, constants and errno are the system's own headers'. Each call
 * does what the manual page of its namesake says, with the errors named there; descriptors are real ones, and calls
 * that take any descriptor pass the kernel's on to the kernel. There is no usk_socketpair: such a pair never leaves
 * the process, and the kernel's serves. After fork(2) a stack is the parent's alone: in the child an inherited
 * descriptor can be closed, which nobody notices, poll(2) says POLLERR | POLLHUP of it, other calls ENETDOWN, and
 * usk_socket or usk_init makes the child a stack of its own. A program builds with: cc prog.c $(pkg-config --cflags
 * --libs usersock)
 */

#ifndef USERSOCK_H
#define USERSOCK_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct mmsghdr; /* complete where _GNU_SOURCE is defined */

/*
 usk_cong_ack_t.flags: what arrived lies behind a hole, and the hole is still there. The window does not grow by it.
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
 usk_cong_ops.flags: wants ECN on its connections (TCP_CONG_NEEDS_ECN): SYNs ask for it whatever net.ipv4.tcp_ecn
 says, and are ECT(0) themselves; where both ends agree (usk_tcp_t.ecn_ok) every packet is.
 */
#define USK_CONG_NEEDS_ECN 1

/*
 Congestion states (enum tcp_ca_state): nothing amiss.
 */
#define USK_CA_OPEN 0

/*
 Something arrived out of order.
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
 Events (enum tcp_ca_event): data leaves, and nothing was in flight.
 */
#define USK_CA_EVENT_TX_START 0

/*
 The window starts over after idleness.
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
 A packet without congestion mark came (with USK_CONG_NEEDS_ECN).
 */
#define USK_CA_EVENT_ECN_NO_CE 4

/*
 A packet with one.
 */
#define USK_CA_EVENT_ECN_IS_CE 5

/*
 Flags of in_ack_event: the acknowledgement was not the predicted next one.
 */
#define USK_CA_ACK_SLOWPATH 1

/*
 It updated the window.
 */
#define USK_CA_ACK_WIN_UPDATE 2

/*
 It echoes congestion.
 */
#define USK_CA_ACK_ECE 4

/*
 `version` of struct usk_device_ops.
 */
#define USK_DEVICE_VERSION 1

/*
 usk_device_info_t.link: IP datagrams without link header.
 */
#define USK_LINK_IP 0

/*
 usk_device_info_t.link: Ethernet frames.
 */
#define USK_LINK_ETHERNET 1

/*
 Boolean options of SOL_SOCKET, for usk_sock_flag.
 */
#define USK_FLAG_DEAD 0

/*
 SO_KEEPALIVE.
 */
#define USK_FLAG_KEEPOPEN 1

/*
 SO_LINGER.
 */
#define USK_FLAG_LINGER 2

/*
 SO_BROADCAST.
 */
#define USK_FLAG_BROADCAST 3

/*
 SO_REUSEADDR.
 */
#define USK_FLAG_REUSE 4

/*
 SO_REUSEPORT.
 */
#define USK_FLAG_REUSEPORT 5

/*
 `version` of struct usk_proto.
 */
#define USK_PROTO_VERSION 1

/*
 usk_proto.flags: sockets of AF_INET.
 */
#define USK_PROTO_V4 1

/*
 usk_proto.flags: sockets of AF_INET6.
 */
#define USK_PROTO_V6 2

/*
 usk_proto.flags: socket(2) with this type and protocol 0 means this protocol.
 */
#define USK_PROTO_DEFAULT 4

/*
 usk_proto.flags: connections. connect(2) waits for the state to leave TCP_SYN_SENT and TCP_SYN_RECV, listen(2) and
 accept(2) are for it.
 */
#define USK_PROTO_CONNECTIONS 8

/*
 usk_proto.flags: sending does not bind a socket that is not bound (no_autobind).
 */
#define USK_PROTO_NO_AUTOBIND 16

/*
 usk_proto.flags: no ports. bind(2) takes an address alone; without it a null get_port binds in the protocol's own
 table.
 */
#define USK_PROTO_NO_PORTS 32

/*
 Why a packet is dropped, for usk_drop: too short or malformed.
 */
#define USK_DROP_HEADER 1

/*
 Wrong checksum.
 */
#define USK_DROP_CSUM 2

/*
 No sock for it.
 */
#define USK_DROP_NO_SOCKET 3

/*
 The sock refuses it in its state, or it is a repetition.
 */
#define USK_DROP_STATE 4

/*
 Bytes of a packet's notes (usk_skb_cb).
 */
#define USK_SKB_CB 48

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
 `version` of struct usk_ulp_ops.
 */
#define USK_ULP_VERSION 1

/*
 No deadline: for usk_wait.
 */
#define USK_FOREVER UINT64_MAX

/*
 A registered congestion control of one stack. Valid until usk_cong_unregister.
 */
typedef struct usk_cong_reg_t usk_cong_reg_t;

/*
 One algorithm at work for a protocol that is not TCP: usk_cong_new makes it, usk_cong_free ends it. It belongs to
 one sock, which is owned in every call. Its window, RTT, RTO and rates follow the rules of TCP's connections. The
 unit is the segment: what the protocol sends in one packet. In flight is what was sent and has neither been
 acknowledged nor declared lost; a packet sent again is a packet sent. Of one acknowledgement, in this order:
 usk_cong_recovered when with it all that was outstanding at the loss has arrived, usk_cong_loss for what it shows to
 be lost, usk_cong_acked for what it says arrived; then usk_cong_quota says what may leave.
 */
typedef struct usk_cong_t usk_cong_t;

/*
 A registered kind of device of one stack. Valid until usk_device_unregister.
 */
typedef struct usk_device_kind_t usk_device_kind_t;

/*
 A hook's room in a header: write_hdr_opt's argument.
 */
typedef struct usk_hdr_t usk_hdr_t;

/*
 The sock of an event: what a hook is given. Valid while the hook runs. Of some events the sock is a request, which
 is no sock yet: it can be looked at, and what changes it answers -EINVAL.
 */
typedef struct usk_hook_t usk_hook_t;

/*
 A plug-in of one stack: what its entry point is given. Valid until usk_plugin_unload, or the end of the stack.
 */
typedef struct usk_plugin_t usk_plugin_t;

/*
 A registered protocol of one stack: what its operations are given, and what usk_proto_register answers. Valid until
 usk_proto_unregister.
 */
typedef struct usk_proto_t usk_proto_t;

/*
 A queue of packets. Made by usk_queue_new; belongs to the caller.
 */
typedef struct usk_queue_t usk_queue_t;

/*
 A receive call: recvmsg's argument. It is filled from the front.
 */
typedef struct usk_recvmsg_t usk_recvmsg_t;

/*
 A message to send: sendmsg's argument. Its bytes are taken from the front.
 */
typedef struct usk_sendmsg_t usk_sendmsg_t;

/*
 Where recv puts its packets.
 */
typedef struct usk_sink_t usk_sink_t;

/*
 A packet: room for headers in front, payload in shared pages. Belongs to whoever made or popped it, until it is
 freed or given to a call that takes it.
 */
typedef struct usk_skb_t usk_skb_t;

/*
 A registration of hooks, for usk_sock_ops_unregister. Valid until then.
 */
typedef struct usk_sock_ops_t usk_sock_ops_t;

/*
 A sock, not owned. What an operation is given is valid until it returns; what usk_sock_hold, usk_proto_lookup or
 usk_new_child gave until usk_sock_put, and while it is held its stack lives too. Pointers to one sock are equal.
 */
typedef struct usk_sock_t usk_sock_t;

/*
 A network stack; made by usk_stack_new. Null stands for the default stack wherever one is asked for.
 */
typedef struct usk_stack_t usk_stack_t;

/*
 A registered upper-layer protocol of one stack, for usk_ulp_unregister. Valid until then.
 */
typedef struct usk_ulp_t usk_ulp_t;

/*
 An owned sock. Operations that are called with the sock owned get one, for as long as they run; the others make one
 with usk_lock_sock in memory of their own. Not to be copied or moved.
 */
typedef struct usk_owned_t {
  uint64_t opaque[4];
} usk_owned_t;

/*
 What usk_cong_sent notes on a packet that leaves, for the delivery-rate sample when it arrives. Fits in usk_skb_cb,
 and may be copied.
 */
typedef struct usk_cong_mark_t {
  uint64_t opaque[5];
} usk_cong_mark_t;

/*
 What an acknowledgement says.
 */
typedef struct usk_cong_ack_t {
  /*
   Segments in flight that it says have arrived.
   */
  uint32_t segments;
  /*
   Segments that usk_cong_loss had declared lost, or usk_cong_rto, and that it says have arrived after all.
   */
  uint32_t late;
  /*
   RTT of what was sent last of them, and sent once only (RFC 6298), microseconds; -1: none. 0 is a sample.
   */
  int64_t rtt_us;
  /*
   Mark of what was sent last of them; null: no delivery-rate sample.
   */
  const struct usk_cong_mark_t *mark;
  /*
   USK_CONG_BEHIND_HOLE, USK_CONG_ECE.
   */
  uint32_t flags;
} usk_cong_ack_t;

/*
 Where a borrowed algorithm stands. States are tcp_info's: 0 Open, 2 CWR, 3 Recovery, 4 Loss.
 */
typedef struct usk_cong_info_t {
  /*
   Name of the algorithm, ended by 0.
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
   Smoothed RTT, microseconds; 0: none yet.
   */
  uint32_t srtt_us;
  /*
   Its deviation, microseconds.
   */
  uint32_t rttvar_us;
  /*
   Least RTT lately, microseconds; UINT32_MAX: none yet.
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
   1: the algorithm counts on packets being spaced by pacing_rate.
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
 A connection's numbers, for the time of a call of a congestion control. The first block may be written and is taken
 over when the function returns (held to its bounds); what is written to the rest is ignored. Counts are of segments
 unless said; more numbers may follow in later versions.
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
   May be written: slow-start threshold. At least 1; 0x7fffffff: none yet.
   */
  uint32_t snd_ssthresh;
  /*
   May be written: upper bound of the window. At least 1.
   */
  uint32_t snd_cwnd_clamp;
  /*
   May be written: value of delivered + in_flight at which rate samples cease to be the program's doing; 0: they
   are not.
   */
  uint32_t app_limited;
  /*
   May be written: 1: packets are to be spaced by pacing_rate (SK_PACING_NEEDED); once set it stays.
   */
  uint32_t needs_pacing;
  /*
   May be written: bytes a second; UINT64_MAX: unlimited. Only cong_control's lasts: without it each
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
   Whether the window limited sending lately, so that it may grow (tcp_is_cwnd_limited).
   */
  uint32_t is_cwnd_limited;
  /*
   Smoothed RTT, microseconds times 8; 0: none yet.
   */
  uint32_t srtt_us;
  /*
   Its mean deviation, microseconds times 4.
   */
  uint32_t mdev_us;
  /*
   Least RTT lately, microseconds; UINT32_MAX: none yet.
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
   Of them: selectively acknowledged.
   */
  uint32_t sacked_out;
  /*
   Of them: thought lost.
   */
  uint32_t lost_out;
  /*
   Sent again and in flight.
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
   Of them with a congestion mark.
   */
  uint32_t delivered_ce;
  /*
   Thought lost in total, modulo 2^32.
   */
  uint32_t lost;
  /*
   Delivered and sent since the reduction began.
   */
  uint32_t prr_delivered;
  /*
   See prr_delivered.
   */
  uint32_t prr_out;
  /*
   Degree of reordering.
   */
  uint32_t reordering;
  /*
   First sequence number not acknowledged.
   */
  uint32_t snd_una;
  /*
   Next one to send.
   */
  uint32_t snd_nxt;
  /*
   End of what the program has written.
   */
  uint32_t write_seq;
  /*
   End of what was outstanding when recovery began.
   */
  uint32_t high_seq;
  /*
   When the window last changed, milliseconds of the stack's clock modulo 2^32.
   */
  uint32_t snd_cwnd_stamp;
  /*
   When data was last sent, the same.
   */
  uint32_t lsndtime;
  /*
   1: both ends agreed on ECN.
   */
  uint32_t ecn_ok;
  /*
   0; usk_tcp_break sets it.
   */
  uint32_t broken;
  /*
   RTT of the path without queues, microseconds, as a hook into TCP knew it when the algorithm began (base_rtt of
   struct usk_sock_ops); 0: none does. Linux's NV asks for it.
   */
  uint32_t base_rtt_us;
  /*
   0.
   */
  uint32_t reserved;
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
   usk_tcp_t.delivered_ce then.
   */
  uint32_t prior_delivered_ce;
  /*
   Segments delivered over the interval; -1: no sample.
   */
  int32_t delivered;
  /*
   Of them with a congestion mark.
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
   Segments that this acknowledgement showed to be lost.
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
   End of the sequence of what was delivered last.
   */
  uint32_t last_end_seq;
  /*
   1: the program gave less than the path would have taken.
   */
  uint8_t is_app_limited;
  /*
   1: the sampled segment was a retransmission.
   */
  uint8_t is_retrans;
  /*
   1: the receiver probably waited with the acknowledgement.
   */
  uint8_t is_ack_delayed;
  /*
   0.
   */
  uint8_t reserved;
} usk_rate_sample_t;

/*
 What an acknowledgement tells pkts_acked (struct ack_sample).
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
 Congestion control of TCP's connections (struct tcp_congestion_ops). Every function gets the connection's numbers,
 some of which it may write, and `priv_`: priv_size bytes of its own, zero at first, aligned to 16; null if priv_size
 is 0. Functions run in either context with the sock owned: they must not sleep, nor call anything but the usk_tcp_
 functions (the POSIX-shaped ones answer EDEADLK for the sock). None is called before init, or after release. No
 exception of C++ and no panic of a Rust shared object may leave one: catch it and call usk_tcp_break.
 */
typedef struct usk_cong_ops {
  /*
   USK_CONG_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_cong_ops).
   */
  uint32_t size;
  /*
   1 to 15 printable characters, as TCP_CONGESTION and net.ipv4.tcp_congestion_control take it. Copied.
   */
  const char *name;
  /*
   USK_CONG_NEEDS_ECN, or 0.
   */
  uint32_t flags;
  /*
   Bytes of `priv_`, at most USK_CONG_PRIV_MAX.
   */
  uint32_t priv_size;
  /*
   The connection begins, or takes this algorithm while it runs. Null: nothing.
   */
  void (*init)(struct usk_tcp_t *tp, void *priv_);
  /*
   The connection ends, or takes another algorithm; what is written is ignored. Null: nothing.
   */
  void (*release)(struct usk_tcp_t *tp, void *priv_);
  /*
   Answers the slow-start threshold after a loss, segments. Required.
   */
  uint32_t (*ssthresh)(struct usk_tcp_t *tp, void *priv_);
  /*
   `acked` segments arrived, up to `ack`, and nothing is amiss: opens the window. Required, unless cong_control is
   there.
   */
  void (*cong_avoid)(struct usk_tcp_t *tp, void *priv_, uint32_t ack, uint32_t acked);
  /*
   After every acknowledgement, in place of cong_avoid and of the reduction in recovery: sets snd_cwnd and
   pacing_rate. `flags` are Linux's FLAG_ bits: 0x04 data acknowledged, 0x20 selectively, 0x40 congestion echoed,
   0x400 snd_una advanced. Null: those two do.
   */
  void (*cong_control)(struct usk_tcp_t *tp,
                       void *priv_,
                       uint32_t ack,
                       uint32_t flags,
                       const struct usk_rate_sample_t *rs);
  /*
   Segments were acknowledged. Null: nothing.
   */
  void (*pkts_acked)(struct usk_tcp_t *tp, void *priv_, const struct usk_ack_sample_t *sample);
  /*
   An acknowledgement came: USK_CA_ACK_ bits. After pkts_acked, before losses are judged. Null: nothing.
   */
  void (*in_ack_event)(struct usk_tcp_t *tp, void *priv_, uint32_t flags);
  /*
   The state will be `state` (USK_CA_OPEN ...); tp->ca_state is still the old one. Null: nothing.
   */
  void (*set_state)(struct usk_tcp_t *tp, void *priv_, uint8_t state);
  /*
   USK_CA_EVENT_TX_START and its kin. Null: nothing.
   */
  void (*cwnd_event)(struct usk_tcp_t *tp, void *priv_, int event);
  /*
   Answers the window after a loss that was none, segments. Required.
   */
  uint32_t (*undo_cwnd)(struct usk_tcp_t *tp, void *priv_);
  /*
   Answers the least number of segments of a super-packet; what is written is ignored. Null:
   net.ipv4.tcp_min_tso_segs.
   */
  uint32_t (*min_tso_segs)(const struct usk_tcp_t *tp, void *priv_);
  /*
   Answers how many windows the send buffer should hold; what is written is ignored. Null: 2.
   */
  uint32_t (*sndbuf_expand)(const struct usk_tcp_t *tp, void *priv_);
  /*
   For TCP_CC_INFO: writes at most `len` (USK_CONG_INFO_MAX) bytes to `info` and answers how many; what is written
   to `tp` is ignored. Null: none.
   */
  size_t (*get_info)(const struct usk_tcp_t *tp, void *priv_, void *info, size_t len);
} usk_cong_ops;

/*
 How a device is wanted: open's argument.
 */
typedef struct usk_device_args_t {
  /*
   What follows KIND: in the configuration.
   */
  const char *argument;
  /*
   The interface's name.
   */
  const char *name;
  /*
   mtu=, bytes; 0: none was given. A device that cannot have it refuses.
   */
  uint32_t mtu;
  /*
   1: mac= was given, and is in `mac`.
   */
  uint8_t has_mac;
  /*
   The hardware address wanted.
   */
  uint8_t mac[6];
  /*
   0.
   */
  uint8_t reserved;
} usk_device_args_t;

/*
 What a device is: open fills it in. It is given with link USK_LINK_IP, an MTU of 1500 or the one wanted, and one
 queue. Checksums and segmentation are done before a packet reaches the device.
 */
typedef struct usk_device_info_t {
  /*
   USK_LINK_IP or USK_LINK_ETHERNET.
   */
  uint32_t link;
  /*
   Largest IP datagram, bytes: 68 to 65535.
   */
  uint32_t mtu;
  /*
   Queue pairs: 1 to 256.
   */
  uint32_t queues;
  /*
   Hardware address of an Ethernet device.
   */
  uint8_t mac[6];
  /*
   0.
   */
  uint8_t reserved[2];
} usk_device_info_t;

/*
 A kind of device. Functions are called from any thread: one at a time receives from a queue, any number transmit.
 None may sleep, and none may call sockets of the stack. A device lives as long as its stack.

 An answer above 0, or below -4095, of recv or xmit breaks the device: none of its functions but close is called any
 more, what is sent by it is dropped, and the stack goes on. No exception of C++ and no panic of a Rust shared object
 may leave a function. What catches one answers 1 in recv and xmit, -2 in poll_fd, a negative errno in open, which
 both refuse the device. next_event and has_pending note it for recv and xmit, of which the next one called answers
 1, and answer UINT64_MAX and 1. In close there is nothing left to break.
 */
typedef struct usk_device_ops {
  /*
   USK_DEVICE_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_device_ops).
   */
  uint32_t size;
  /*
   1 to 15 printable characters without colon, comma and equals sign: the KIND of device=KIND:ARGUMENT. Copied.
   */
  const char *name;
  /*
   Makes a device: fills `*info` and `*device`, which the other functions get. Answers 0 or a negative errno;
   usk_device_refuse can say why. Required.
   */
  int (*open)(const struct usk_device_args_t *args, struct usk_device_info_t *info, void **device);
  /*
   Ends a device: no other function of it runs any more. Null: nothing.
   */
  void (*close)(void *device);
  /*
   Hands over up to `budget` packets that have arrived, each by usk_device_rx, and answers 0, or a negative errno:
   nothing more comes just now, as for 0. Without a packet it answers at once. `now` is the stack's time,
   nanoseconds. Required.
   */
  int (*recv)(void *device, uint32_t queue, uint64_t now, size_t budget, struct usk_sink_t *sink);
  /*
   Sends a packet, of which usk_skb_copy and usk_skb_header give the bytes; it stays the stack's, and what is to be
   kept is copied or shared (usk_skb_share). Answers 0: sent; -EAGAIN, -EWOULDBLOCK or -EBUSY: full now, the stack
   keeps it and tries again when poll_fd polls writable (without one: whenever the stack runs next); another
   negative errno: refused, dropped and counted. Required.
   */
  int (*xmit)(void *device, uint32_t queue, uint64_t now, struct usk_skb_t *skb);
  /*
   A descriptor that polls readable when recv of this queue has something, the same one always, or -1: asked once.
   Who waits for a packet waits in it. Null, or -1: a device in memory, see next_event and has_pending. One that
   has failed (POLLERR, POLLHUP, POLLNVAL with nothing to receive) brings the interface down.
   */
  int (*poll_fd)(void *device, uint32_t queue);
  /*
   When recv has something next, nanoseconds of the stack's time; UINT64_MAX: only what is sent changes anything.
   Null: that.
   */
  uint64_t (*next_event)(void *device, uint32_t queue);
  /*
   1: recv has something in memory now, so that the thread that sent it takes it before it returns. Null: 0.
   */
  int (*has_pending)(void *device, uint32_t queue);
} usk_device_ops;

/*
 An end of a connection, or an address: `family` AF_INET with the first 4 bytes of `addr`, or AF_INET6 with all, both
 in network order; `port` in host order; `scope_id` the interface of a link-local address.
 */
typedef struct usk_addr_t {
  /*
   AF_INET or AF_INET6.
   */
  uint16_t family;
  /*
   Host order.
   */
  uint16_t port;
  /*
   Interface of a link-local address, else 0.
   */
  uint32_t scope_id;
  /*
   Network order; 4 bytes of an IPv4 address, the rest 0.
   */
  uint8_t addr[16];
} usk_addr_t;

/*
 A connection's numbers, as struct bpf_sock_ops has them: usk_hook_view. Of a request only the first five are known.
 */
typedef struct usk_sock_view_t {
  /*
   Our end.
   */
  struct usk_addr_t local;
  /*
   The peer; port 0 when there is none.
   */
  struct usk_addr_t remote;
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
   0.
   */
  uint32_t reserved;
  /*
   Payload bytes received.
   */
  uint64_t bytes_received;
  /*
   Payload bytes acknowledged.
   */
  uint64_t bytes_acked;
} usk_sock_view_t;

/*
 What IP knows of a packet, for rcv.
 */
typedef struct usk_packet_info_t {
  /*
   Where it came from; port 0.
   */
  struct usk_addr_t src;
  /*
   Where it went; port 0.
   */
  struct usk_addr_t dst;
  /*
   Interface it came by.
   */
  uint32_t ifindex;
  /*
   IP protocol number.
   */
  uint8_t protocol;
  /*
   TOS or traffic class; ECN in the low two bits.
   */
  uint8_t tos;
  /*
   TTL or hop limit.
   */
  uint8_t ttl;
  /*
   1: sent to a group or to all.
   */
  uint8_t not_unicast;
  /*
   Time of the softirq run, nanoseconds of the stack's clock.
   */
  uint64_t now;
} usk_packet_info_t;

/*
 The entry point of a plug-in: registers what it has; 0, or a negative errno to be refused.
 */
typedef int (*usk_plugin_init_fn)(struct usk_plugin_t *plugin);

/*
 A sysctl of a protocol's own: `net.NAME.` and the name, a number.
 */
typedef struct usk_sysctl_t {
  /*
   Last part of the name; null ends the list.
   */
  const char *name;
  /*
   First value.
   */
  int64_t value;
  /*
   Least value.
   */
  int64_t min;
  /*
   Greatest value.
   */
  int64_t max;
  /*
   A sentence for listings, or null.
   */
  const char *help;
} usk_sysctl_t;

/*
 An ICMP error that quotes a packet of the protocol, for err.
 */
typedef struct usk_icmp_error_t {
  /*
   Source of the quoted packet: ours.
   */
  struct usk_addr_t src;
  /*
   Its destination.
   */
  struct usk_addr_t dst;
  /*
   Who reports.
   */
  struct usk_addr_t reporter;
  /*
   ICMP type, as on the wire, of the family of `src`.
   */
  uint8_t icmp_type;
  /*
   ICMP code.
   */
  uint8_t code;
  /*
   1: a hard error.
   */
  uint8_t fatal;
  /*
   The errno it stands for, positive.
   */
  int error;
  /*
   MTU of fragmentation needed and packet too big, else 0.
   */
  uint32_t info;
  /*
   Interface it came by.
   */
  uint32_t ifindex;
  /*
   The protocol's header and what followed, as much as was quoted: at least 8 bytes.
   */
  const void *quoted;
  /*
   How much.
   */
  size_t quoted_len;
} usk_icmp_error_t;

/*
 A transport protocol: the operations of the kernel's struct proto, and the entry points of its IP protocol number.
 Copied when it is registered; strings and lists too. Of the kernel's, rehash is hash, called again; sock_is_readable
 is poll_locked; psock_update_sk_prot is update_proto; bind_add and compat_ioctl serve the kernel alone.

 Contexts. *Process*: a thread in a system call; may sleep in usk_wait. *Softirq*: packet and timer work; never
 sleeps. *Owned*: the operation is given usk_owned_t and must not lock the sock. *Not owned*: it is given usk_sock_t
 and locks by itself. Answers. An int is 0 or a negative errno, a length is 0 or more or a negative errno; anything
 else, and a length beyond what was offered, breaks the socket: EIO from then on. So does an operation that returns
 without releasing what it locked. The stack and other sockets go on. No exception of C++ and no panic of a Rust
 shared object may leave an operation: it would end the process. What catches one calls usk_sock_break; what it has
 locked need not be released. The operations without a sock have none to break, and only catch: rcv and err lose the
 packet (it is theirs to free), the others answer as if they were null. An operation must not call the POSIX-shaped
 calls (usk_send ...) on its own socket.
 */
typedef struct usk_proto {
  /*
   USK_PROTO_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_proto). What a shorter table lacks is null.
   */
  uint32_t size;
  /*
   1 to 31 bytes, unique in a stack; in listings, and (in lower case) in the names of sysctls. Required.
   */
  const char *name;
  /*
   SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOCK_RAW ...: with `protocol`, what socket(2) is called with.
   */
  int socket_type;
  /*
   IP protocol number, 1 to 255.
   */
  int protocol;
  /*
   USK_PROTO_*. One of USK_PROTO_V4, USK_PROTO_V6 is required.
   */
  uint32_t flags;
  /*
   Bytes of the protocol's own memory in each sock (usk_private), at most 65536.
   */
  uint32_t obj_size;
  /*
   Most bytes of header the protocol pushes; 0: what a packet has room for.
   */
  uint32_t max_header;
  /*
   Bytes of a time-wait record and of a request record, for listings (twsk_prot, rsk_prot).
   */
  uint32_t timewait_size;
  /*
   See timewait_size.
   */
  uint32_t request_size;
  /*
   For listings: SLAB_TYPESAFE_BY_RCU's role. Socks are counted, so 0.
   */
  uint32_t slab_flags;
  /*
   Names of counters of its own, ended by null; null: none. Letters and digits, unique in a stack, read by
   usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own, ended by one with a null name; null: none.
   */
  const struct usk_sysctl_t *sysctls;
  /*
   A sock exists: fill usk_private. Process context (softirq for a child), owned. Null: nothing to do.
   */
  int (*init)(struct usk_owned_t *o);
  /*
   Last work, from usk_done or when init failed: free what usk_private points to. Either context, owned. Null:
   nothing.
   */
  void (*destroy)(struct usk_owned_t *o);
  /*
   The last descriptor is closed, or the listener of a connection nobody accepted. Ends, now or after a protocol's
   farewell, with usk_done. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process context, not owned. Null:
   unhash and usk_done.
   */
  void (*close)(struct usk_sock_t *sk, int flags);
  /*
   A look at the address before connect. Process context, owned. Null: accepted.
   */
  int (*pre_connect)(struct usk_owned_t *o, const struct usk_addr_t *to);
  /*
   Starts a connection, or sets a datagram socket's peer; does not wait. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*connect)(struct usk_owned_t *o, const struct usk_addr_t *to);
  /*
   Back to unconnected, or from listening to closed. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*disconnect)(struct usk_owned_t *o);
  /*
   Starts listening (usk_listen_start), or changes the backlog. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*listen)(struct usk_owned_t *o, uint32_t backlog);
  /*
   Takes a finished connection, held, waiting unless `nonblock`; or null with a negative errno in `*err`.
   usk_accept_wait is one. Process context, not owned. Null: EOPNOTSUPP.
   */
  struct usk_sock_t *(*accept)(struct usk_sock_t *sk, int nonblock, int *err);
  /*
   SIOCINQ, SIOCOUTQ and its own requests, answering an int in `*value`. Process context, not owned. Null: ENOTTY.
   */
  int (*ioctl)(struct usk_sock_t *sk, unsigned long request, int *value);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; usk_sock_shutdown says it already. Process context, owned. Null:
   nothing more.
   */
  void (*shutdown)(struct usk_owned_t *o, int how);
  /*
   Options of levels other than SOL_SOCKET. Process context, not owned. Null: those of the IP levels.
   */
  int (*setsockopt)(struct usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   As setsockopt: writes at most `len` bytes, answers how many.
   */
  ptrdiff_t (*getsockopt)(struct usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   Options that go past a layer, straight to getsockopt here: 1 (bpf_bypass_getsockopt). Null: none.
   */
  int (*bypass_getsockopt)(int level, int name);
  /*
   SO_KEEPALIVE is set to `on`; usk_sock_flag tells what it was before. Process context, owned. Null: nothing.
   */
  void (*keepalive)(struct usk_owned_t *o, int on);
  /*
   Sends: answers the bytes taken. Process context, not owned. Null: sendmsg_locked, with the sock owned for it;
   one of the two is required.
   */
  ptrdiff_t (*sendmsg)(struct usk_sock_t *sk, struct usk_sendmsg_t *msg);
  /*
   Receives: answers the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context, not
   owned. Null: recvmsg_locked, with the sock owned for it; one of the two is required.
   */
  ptrdiff_t (*recvmsg)(struct usk_sock_t *sk, struct usk_recvmsg_t *msg);
  /*
   sendfile(2) and splice(2): sends bytes that are in memory already. Process context, not owned. Null: through
   sendmsg.
   */
  ptrdiff_t (*sendpage)(struct usk_sock_t *sk, const void *data, size_t len, int flags);
  /*
   poll(2)'s bits, what is true now. Process context, not owned. Null: poll_locked; null too: readable while the
   receive queue holds something, an error waits or the peer has ended, writable below the send buffer
   (datagram_poll).
   */
  uint32_t (*poll)(struct usk_sock_t *sk);
  /*
   A packet for the sock, from usk_deliver; the operation's to queue or free. Softirq, or process context from the
   backlog; owned; must not sleep. Required with rcv.
   */
  void (*backlog_rcv)(struct usk_owned_t *o, struct usk_skb_t *skb);
  /*
   Timers that fired (bit n: timer n), and what usk_defer asked for. Either context, owned. Null: nothing.
   */
  void (*release_cb)(struct usk_owned_t *o, uint32_t bits);
  /*
   Enters the sock's ends into the tables. Owned. Null: usk_hash.
   */
  int (*hash)(struct usk_owned_t *o);
  /*
   Takes it out. Owned. Null: usk_unhash.
   */
  void (*unhash)(struct usk_owned_t *o);
  /*
   bind(2) to a port, 0: any. Owned. Null: usk_get_port.
   */
  int (*get_port)(struct usk_owned_t *o, uint16_t port);
  /*
   Gives the port back, when the sock ends with one. Owned. Null: usk_unhash.
   */
  void (*put_port)(struct usk_owned_t *o);
  /*
   Whether an upper layer may take the sock over, or (`restore`) leave it (psock_update_sk_prot). Owned. Null:
   EOPNOTSUPP.
   */
  int (*update_proto)(struct usk_owned_t *o, int restore);
  /*
   The protocol's memory passes its second limit; returns below its first. Any context, no sock owned that is
   known. Null: nothing beyond the accounts.
   */
  void (*enter_memory_pressure)(struct usk_proto_t *proto);
  /*
   See enter_memory_pressure.
   */
  void (*leave_memory_pressure)(struct usk_proto_t *proto);
  /*
   Whether more may be queued for sending, beside the send buffer's own limit; `priv_` is usk_private's. Asked by
   poll where poll and poll_locked are null. Owned. Null: yes.
   */
  int (*stream_memory_free)(const void *priv_, int wake);
  /*
   Limits of all its socks' memory, pages of 4096 bytes: no pressure below the first, pressure above the second,
   refusal above the third (sysctl_mem). Any context. Null, or an answer other than 0: none.
   */
  int (*sysctl_mem)(struct usk_proto_t *proto, int64_t *limits);
  /*
   Least, first and greatest send buffer, bytes (sysctl_wmem). Null: net.core.wmem_default.
   */
  int (*sysctl_wmem)(struct usk_proto_t *proto, int *sizes);
  /*
   The same of receive buffers (sysctl_rmem).
   */
  int (*sysctl_rmem)(struct usk_proto_t *proto, int *sizes);
  /*
   Ends the socket from outside with a positive errno (usk_destroy, diag_destroy): report it (usk_error_report),
   tell the peer, leave the sock as after disconnect. Process context, not owned. Null: EOPNOTSUPP.
   */
  int (*diag_destroy)(struct usk_sock_t *sk, int err);
  /*
   A packet of the IP protocol number, IP header off: verify it, find its sock (usk_proto_lookup), usk_deliver it;
   or usk_drop. The operation's to give on or free. Softirq, no sock owned. Null: the protocol receives nothing.
   */
  void (*rcv)(struct usk_proto_t *proto, struct usk_skb_t *skb, const struct usk_packet_info_t *info);
  /*
   An ICMP error about a packet of the protocol. Softirq, no sock owned. Null: ignored.
   */
  void (*err)(struct usk_proto_t *proto, const struct usk_icmp_error_t *error);
  /*
   As sendmsg, on a sock that is owned: for an upper layer, which works while it owns it, and in place of a null
   sendmsg: what a protocol does that owns the sock from the first line to the last is simplest said, and done
   fastest, so. It may sleep in usk_wait unless MSG_DONTWAIT is set. Process context, owned. Null: an upper layer
   gets EOPNOTSUPP.
   */
  ptrdiff_t (*sendmsg_locked)(struct usk_owned_t *o, struct usk_sendmsg_t *msg);
  /*
   As recvmsg, in the same way.
   */
  ptrdiff_t (*recvmsg_locked)(struct usk_owned_t *o, struct usk_recvmsg_t *msg);
  /*
   As poll, on a sock that is owned; does not sleep. Null: what the sock's queues say (datagram_poll).
   */
  uint32_t (*poll_locked)(struct usk_owned_t *o);
  /*
   bind(2), where that is more than an address and a port; `addr` is of the sock's family. Process context, owned.
   Null: usk_inet_bind.
   */
  int (*bind)(struct usk_owned_t *o, const struct usk_addr_t *addr);
  /*
   A sendfile or splice ended with its file, after bytes that had MSG_MORE: what waits for more goes now. Process
   context, not owned. Null: nothing waits.
   */
  void (*splice_eof)(struct usk_sock_t *sk);
} usk_proto;

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
 sleep, and must not use the sock by any other way than the usk_hook_ calls (the POSIX-shaped ones answer EDEADLK for
 it). Different socks' events run on different threads at once. Where one answer is wanted and several hooks give
 one, the last counts. No exception of C++ and no panic of a Rust shared object may leave one: catch it and call
 usk_hook_break. In `release` there is nothing left to break: just catch it. Events of a connection's beginning come
 always; the others to a hook that asked for them on that sock by usk_hook_set_cb_flags. A listener's children
 inherit its flags, and begin with the value 0.
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
   Names of counters of its own (usk_hook_count), ended by null; null: none. Letters and digits, unique in a stack,
   read by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_hook_sysctl), `net.NAME.` and their names, ended by one with a null name; null: none.
   */
  const struct usk_sysctl_t *sysctls;
  /*
   RTO of a SYN or SYN-ACK not answered yet, microseconds; 0: the default, a second. Asked when a connection sends
   its first SYN, when a listener gets one (of the request), and when a SYN's retries are counted
   (BPF_SOCK_OPS_TIMEOUT_INIT).
   */
  uint32_t (*timeout_init)(struct usk_hook_t *h, void *user);
  /*
   First window to advertise, segments; 0: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
   */
  uint32_t (*rwnd_init)(struct usk_hook_t *h, void *user);
  /*
   Not 0: the connection asks for ECN, or agrees to it, whatever tcp_ecn says (BPF_SOCK_OPS_NEEDS_ECN).
   */
  int (*needs_ecn)(struct usk_hook_t *h, void *user);
  /*
   RTT of the path without queues, microseconds, for the congestion control that begins; 0: unknown
   (BPF_SOCK_OPS_BASE_RTT).
   */
  uint32_t (*base_rtt)(struct usk_hook_t *h, void *user);
  /*
   An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
   */
  void (*tcp_connect)(struct usk_hook_t *h, void *user);
  /*
   The SYN-ACK came; `options` are its option bytes (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
   */
  void (*active_established)(struct usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   The handshake's last segment came, its option bytes in `options`; `syn` are those of the SYN, none for a
   simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
   */
  void (*passive_established)(struct usk_hook_t *h,
                              const void *options,
                              size_t len,
                              const void *syn,
                              size_t syn_len,
                              void *user);
  /*
   The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB).
   */
  void (*listen)(struct usk_hook_t *h, void *user);
  /*
   The retransmission timer fired: retransmissions so far, the RTO that ended, whether the connection gives up.
   With USK_CB_RTO.
   */
  void (*rto)(struct usk_hook_t *h, uint32_t retransmits, uint32_t rto_us, int expired, void *user);
  /*
   `segs` segments from `seq` on were sent again; `err` is 0, or a negative errno that the device said. With
   USK_CB_RETRANS.
   */
  void (*retrans)(struct usk_hook_t *h, uint32_t seq, uint32_t segs, int err, void *user);
  /*
   The connection is about to leave state `old` for `now`, by Linux's numbers. With USK_CB_STATE.
   */
  void (*state)(struct usk_hook_t *h, int old, int now, void *user);
  /*
   A round trip is over: its last sample and the smoothed RTT, microseconds. With USK_CB_RTT.
   */
  void (*rtt)(struct usk_hook_t *h, uint32_t sample_us, uint32_t srtt_us, void *user);
  /*
   An acceptable segment came; `options` are its option bytes. Not in SYN_SENT, SYN_RECV and LISTEN. With
   USK_CB_PARSE_ALL_HDR_OPT or USK_CB_PARSE_UNKNOWN_HDR_OPT.
   */
  void (*parse_hdr_opt)(struct usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   How many bytes of options to reserve in a segment: 2 to seg->remaining; anything else reserves none. Also asked
   without a segment, to know how much data fits: a full data segment has room for what is answered then, and no
   more. With USK_CB_WRITE_HDR_OPT.
   */
  int (*hdr_opt_len)(struct usk_hook_t *h, const struct usk_hdr_seg_t *seg, void *user);
  /*
   Writes by usk_hdr_store what hdr_opt_len reserved; what is left over is padding. With USK_CB_WRITE_HDR_OPT.
   */
  void (*write_hdr_opt)(struct usk_hook_t *h,
                        const struct usk_hdr_seg_t *seg,
                        struct usk_hdr_t *w,
                        void *user);
  /*
   The registration is gone and no event of it runs any more: `user` can be freed. Any context, perhaps with a sock
   owned: nothing of a stack may be called.
   */
  void (*release)(void *user);
} usk_sock_ops;

/*
 An upper-layer protocol: what TCP_ULP puts on a connection by name, between the program's calls and TCP. Copied when
 registered; strings and lists too. A null operation is TCP's own.

 `data` is the connection's memory: data_size bytes, zero at first, aligned to 16, at the same address until release.
 Operations that get usk_owned_t are called owned, with the contexts and answers of struct usk_proto; the layer
 reaches what is below by the usk_below_ calls. Operations may be called again from inside usk_below_send and
 usk_below_recv (packets that came meanwhile run there, through backlog_rcv) and while usk_wait sleeps (another
 thread's call): keep `data` whole across them. No exception of C++ and no panic of a Rust shared object may leave
 one: catch it and call usk_sock_break; in `release`, just catch it.
 */
typedef struct usk_ulp_ops {
  /*
   USK_ULP_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_ulp_ops). What a shorter table lacks is null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters without dot, as TCP_ULP takes it; unique in a stack. Required.
   */
  const char *name;
  /*
   Bytes of memory for each connection, at most 65536.
   */
  uint32_t data_size;
  /*
   0.
   */
  uint32_t flags;
  /*
   Names of counters of its own (usk_ulp_count), ended by null; null: none. Letters and digits, unique in a stack,
   read by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_ulp_sysctl), `net.NAME.` and their names, ended by one with a null name; null: none.
   */
  const struct usk_sysctl_t *sysctls;
  /*
   Begins on a connection, or on a socket that is none yet. An error is setsockopt's; the connection is then
   without, and release is not called. Process context, owned. Null: succeeds.
   */
  int (*init)(struct usk_owned_t *o, void *data);
  /*
   The last of a connection: it was removed or the connection is gone, and no operation runs any more. Frees what
   `data` points to, not `data` itself. `user` is what was given to usk_ulp_register. Any context, perhaps with a
   sock owned: nothing of a stack may be called.
   */
  void (*release)(void *data, void *user);
  /*
   Begins on the child of a listener that has the protocol; `parent` is the listener's memory. An error leaves the
   child without. Either context, owned. Null: listeners cannot have it (TCP_ULP answers ENOTCONN, listen(2)
   EINVAL).
   */
  int (*clone)(struct usk_owned_t *child, void *data, const void *parent);
  /*
   Sends: answers the bytes taken. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   */
  ptrdiff_t (*sendmsg)(struct usk_owned_t *o, void *data, struct usk_sendmsg_t *msg);
  /*
   Receives: answers the bytes copied. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   SO_RCVLOWAT counts the program's bytes, so it is for this to obey (usk_rcvlowat): below, any byte wakes and is
   POLLIN.
   */
  ptrdiff_t (*recvmsg)(struct usk_owned_t *o, void *data, struct usk_recvmsg_t *msg);
  /*
   poll(2)'s bits, what is true now; begins with usk_below_poll. Process context, owned; must not sleep.
   */
  uint32_t (*poll)(struct usk_owned_t *o, void *data);
  /*
   The last descriptor is closed: hands what it holds to usk_below_force. TCP's close follows. Process context, not
   owned.
   */
  void (*close)(struct usk_sock_t *sk, int flags);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; hands what it holds to usk_below_force. TCP's shutdown follows.
   Process context, owned.
   */
  void (*shutdown)(struct usk_owned_t *o, void *data, int how);
  /*
   Options of levels other than SOL_SOCKET; what is not its own goes to usk_below_setsockopt. Process context, not
   owned.
   */
  int (*setsockopt)(struct usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   As setsockopt: writes at most `len` bytes, answers how many; the rest goes to usk_below_getsockopt.
   */
  ptrdiff_t (*getsockopt)(struct usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   SIOCINQ, SIOCOUTQ and others, an int in `*value`; what is not its own goes to usk_below_ioctl. Process context,
   not owned.
   */
  int (*ioctl)(struct usk_sock_t *sk, unsigned long request, int *value);
  /*
   A segment for the connection: usk_below_backlog_rcv, once, or usk_skb_free; afterwards there may be room to
   send, or data to look at. Softirq, or process context from the backlog; owned; must not sleep.
   */
  void (*backlog_rcv)(struct usk_owned_t *o, void *data, struct usk_skb_t *skb);
  /*
   TCP's timers and deferred work have run. Either context, owned; must not sleep.
   */
  void (*release_cb)(struct usk_owned_t *o, void *data);
  /*
   usk_ulp_remove: 0, or -EBUSY while it holds bytes that are neither with the program nor with TCP. Not asked, and
   EBUSY, while an operation of the layer sleeps. Process context, owned. Null: it may always go.
   */
  int (*may_remove)(struct usk_owned_t *o, void *data);
  /*
   The socket is to begin anew: connect(2) with AF_UNSPEC, shutdown(2) of a listener or of an attempt to connect,
   an attempt that failed. Forgets what it holds, which belongs to no connection any more; the protocol stays, for
   the next one. 0, and TCP's disconnect follows, or a negative errno, which refuses. Process context, owned. Null:
   nothing to forget.
   */
  int (*disconnect)(struct usk_owned_t *o, void *data);
} usk_ulp_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Makes the default stack from a configuration, such as
 "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1"; null takes it from the environment variable
 USERSOCK_CONFIG, and does nothing when there is a stack. Keys: tun, packet, device, mac, queues, mtu, addr, gw,
 route, pcap, plugin, sysctl.NAME. Returns 0, or -1 with errno EINVAL (usk_config_error says what), EBUSY (a
 configuration is given and there is a default stack already), or what opening the device gave (EPERM, EBUSY, ENODEV
 ...).
 # Safety
 `config` is null or a string.
 */
int usk_init(const char *config);

/*
 What the last failed usk_init, usk_stack_new or first usk_socket of this thread had to say, one line; empty if none.
 Valid until the thread's next such call.
 */
const char *usk_config_error(void);

/*
 Makes a stack of its own from a configuration as usk_init takes it (null: in-memory loopback alone). Null with errno
 on failure.
 # Safety
 `config` is null or a string.
 */
struct usk_stack_t *usk_stack_new(const char *config);

/*
 Gives a stack back. It ends when its last socket is closed. Null is ignored.
 # Safety
 `stack` is null or from usk_stack_new and not freed.
 */
void usk_stack_free(struct usk_stack_t *stack);

/*
 As usk_socket, on a given stack.
 # Safety
 `stack` is null or from usk_stack_new.
 */
int usk_socket_on(struct usk_stack_t *stack, int domain, int ty, int protocol);

/*
 Reads a sysctl by Linux's name ("net.ipv4.tcp_sack") into `buf`, NUL-terminated and cut to `len`. Returns the length
 of the whole value, or -1 with errno EFAULT or ENOENT.
 # Safety
 `stack` is null or from usk_stack_new; `name` is a string; `buf` is writable for `len` bytes.
 */
int usk_sysctl_get(struct usk_stack_t *stack,
                   const char *name,
                   char *buf,
                   size_t len);

/*
 Sets a sysctl. Returns 0, or -1 with errno EACCES (read only), EINVAL (bad value), ENOENT (no such name) or
 EOPNOTSUPP (a value that turns on what this version does not have).
 # Safety
 `stack` is null or from usk_stack_new; `name` and `value` are strings.
 */
int usk_sysctl_set(struct usk_stack_t *stack,
                   const char *name,
                   const char *value);

/*
 Reads a MIB counter by nstat's name ("TcpRetransSegs", "TcpExtTCPTimeouts"). Returns 0, or -1 with errno EFAULT or
 ENOENT.
 # Safety
 `stack` is null or from usk_stack_new; `name` is a string; `value` points to a uint64_t.
 */
int usk_mib_read(struct usk_stack_t *stack,
                 const char *name,
                 uint64_t *value);

/*
 Captures the packets of the stack's device (of the loopback, where it has no other) into a pcap file, from now on.
 Returns 0, or -1 with errno EBUSY (a capture runs) or what creating the file gave.
 # Safety
 `stack` is null or from usk_stack_new; `file` is a string.
 */
int usk_pcap_start(struct usk_stack_t *stack,
                   const char *file);

/*
 Ends the capture and completes its file. Returns 0, or -1 with errno EINVAL (none runs) or the error of writing it.
 # Safety
 `stack` is null or from usk_stack_new.
 */
int usk_pcap_stop(struct usk_stack_t *stack);

/*
 As epoll_create1(2).
 */
int usk_epoll_create1(int flags);

/*
 As epoll_ctl(2), for descriptors of the kernel and ours. Errors: EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT,
 EPERM.
 # Safety
 `event` is null (EPOLL_CTL_DEL) or an epoll_event.
 */
int usk_epoll_ctl(int epfd,
                  int op,
                  int fd,
                  struct epoll_event *event);

/*
 As epoll_wait(2). Errors: EBADF, EFAULT, EINTR, EINVAL.
 # Safety
 `events` is writable for `max` epoll_events.
 */
int usk_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms);

/*
 As epoll_pwait(2).
 # Safety
 As `usk_epoll_wait`; `mask` is null or a sigset_t.
 */
int usk_epoll_pwait(int epfd,
                    struct epoll_event *events,
                    int max,
                    int timeout_ms,
                    const sigset_t *mask);

/*
 As write(2), for any descriptor.
 # Safety
 `buf` is readable for `len` bytes.
 */
ptrdiff_t usk_write(int fd, const void *buf, size_t len);

/*
 As writev(2), for any descriptor.
 # Safety
 `iov` is `count` iovecs, each readable.
 */
ptrdiff_t usk_writev(int fd, const struct iovec *iov, int count);

/*
 As read(2), for any descriptor.
 # Safety
 `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_read(int fd, void *buf, size_t len);

/*
 As readv(2), for any descriptor.
 # Safety
 `iov` is `count` iovecs, each writable, none overlapping.
 */
ptrdiff_t usk_readv(int fd, const struct iovec *iov, int count);

/*
 As send(2). Returns the bytes accepted, or -1 with errno EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, ENOTCONN,
 ENOTSOCK, EOPNOTSUPP or EPIPE.
 # Safety
 `buf` is readable for `len` bytes.
 */
ptrdiff_t usk_send(int fd,
                   const void *buf,
                   size_t len,
                   int flags);

/*
 As sendto(2). A null `addr` is send(2).
 # Safety
 `buf` is readable for `len` bytes, `addr` is null or readable for `alen`.
 */
ptrdiff_t usk_sendto(int fd,
                     const void *buf,
                     size_t len,
                     int flags,
                     const struct sockaddr *addr,
                     socklen_t alen);

/*
 As sendmsg(2). Also EMSGSIZE for more than 1024 iovecs.
 # Safety
 `hdr` points to a msghdr whose parts are readable.
 */
ptrdiff_t usk_sendmsg(int fd, const struct msghdr *hdr, int flags);

/*
 As sendmmsg(2): an error is reported only if the first message fails.
 # Safety
 `vec` is `count` mmsghdrs, each as sendmsg(2) wants it.
 */
int usk_sendmmsg(int fd, struct mmsghdr *vec, unsigned int count, int flags);

/*
 As recv(2). Returns the bytes received, 0 at the end of the stream, or -1 with errno EAGAIN, EBADF, ECONNREFUSED,
 ECONNRESET, EFAULT, EINTR, EINVAL, ENOTCONN, ENOTSOCK.
 # Safety
 `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_recv(int fd,
                   void *buf,
                   size_t len,
                   int flags);

/*
 As recvfrom(2). A stream leaves the source address empty (`*alen` = 0).
 # Safety
 `buf` is writable for `len` bytes; `addr` is null or writable for `*alen`.
 */
ptrdiff_t usk_recvfrom(int fd,
                       void *buf,
                       size_t len,
                       int flags,
                       struct sockaddr *addr,
                       socklen_t *alen);

/*
 As recvmsg(2).
 # Safety
 `hdr` points to a msghdr whose parts are writable.
 */
ptrdiff_t usk_recvmsg(int fd, struct msghdr *hdr, int flags);

/*
 As recvmmsg(2): MSG_WAITFORONE waits only for the first message; the timeout is looked at between messages, as in
 Linux.
 # Safety
 `vec` is `count` mmsghdrs, each as recvmsg(2) wants it; `timeout` is null or a timespec.
 */
int usk_recvmmsg(int fd,
                 struct mmsghdr *vec,
                 unsigned int count,
                 int flags,
                 struct timespec *timeout);

/*
 Sends bytes: answers how many were taken, or -EAGAIN, -EPIPE, the connection's error. Waits for room unless `flags`
 have MSG_DONTWAIT.
 # Safety
 `o` is owned; `data` is readable for `len` bytes.
 */
ptrdiff_t usk_below_send(struct usk_owned_t *o,
                         const void *data,
                         size_t len,
                         int flags);

/*
 As usk_below_send with MSG_DONTWAIT, beyond SO_SNDBUF if need be: for what a layer holds when the program shuts
 down or closes, in whose operations it is still taken.
 Less than `len` is taken only when the protocol's memory is out.
 # Safety
 As usk_below_send.
 */
ptrdiff_t usk_below_force(struct usk_owned_t *o,
                          const void *data,
                          size_t len);

/*
 Sends the program's message, or what is left of it, unchanged.
 # Safety
 `o` is owned; `msg` is sendmsg's argument.
 */
ptrdiff_t usk_below_sendmsg(struct usk_owned_t *o, struct usk_sendmsg_t *msg);

/*
 Receives bytes: answers how many, 0 at the end, -EAGAIN, or the connection's error. Waits unless `flags` have
 MSG_DONTWAIT.
 # Safety
 `o` is owned; `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_below_recv(struct usk_owned_t *o,
                         void *buf,
                         size_t len,
                         int flags);

/*
 Receives into the program's message, unchanged.
 # Safety
 `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_below_recvmsg(struct usk_owned_t *o, struct usk_recvmsg_t *msg);

/*
 poll(2)'s bits of the protocol below. One that is told "not writable" wakes when that changes.
 # Safety
 `o` is owned.
 */
uint32_t usk_below_poll(struct usk_owned_t *o);

/*
 Gives a segment to the protocol below: what backlog_rcv was given. Takes `skb`, always.
 # Safety
 `o` is owned; `skb` is the caller's, and not used afterwards.
 */
int usk_below_backlog_rcv(struct usk_owned_t *o, struct usk_skb_t *skb);

/*
 Ends the connection: a reset to the peer, `err` (positive) as the pending error (SO_ERROR), everybody awake.
 -ENOENT: it is closed.
 # Safety
 `o` is owned.
 */
int usk_below_abort(struct usk_owned_t *o,
                    int err);

/*
 setsockopt(2) of the protocol below. -EDEADLK: the caller owns the sock.
 # Safety
 `sk` is valid; `value` is readable for `len` bytes.
 */
int usk_below_setsockopt(struct usk_sock_t *sk, int level, int name, const void *value, size_t len);

/*
 getsockopt(2) of the protocol below: answers the length. -EDEADLK: the caller owns the sock.
 # Safety
 `sk` is valid; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_below_getsockopt(struct usk_sock_t *sk, int level, int name, void *value, size_t len);

/*
 ioctl(2)'s socket requests of the protocol below. -EDEADLK: the caller owns the sock.
 # Safety
 `sk` is valid; `value` is writable.
 */
int usk_below_ioctl(struct usk_sock_t *sk, unsigned long request, int *value);

/*
 Takes an algorithm for the sock's protocol: `name`, or null for what net.ipv4.tcp_congestion_control says, with the
 initial window of the sock's route. `mss`: payload bytes of a full segment. While it lives, the algorithm cannot be
 unregistered. Null: no algorithm of that name, or `mss` is 0.
 # Safety
 `o` is owned; `name` is null or a string.
 */
struct usk_cong_t *usk_cong_new(struct usk_owned_t *o,
                                const char *name,
                                uint32_t mss);

/*
 Ends it. Null is ignored.
 # Safety
 `o` is owned, the sock that it was made for; `cong` is null or from usk_cong_new, and not used afterwards.
 */
void usk_cong_free(struct usk_owned_t *o,
                   struct usk_cong_t *cong);

/*
 Segments that may leave now, 0 and more; asked before the first of a burst leaves, because after idleness of an RTO
 the window starts over (RFC 2861). -EINVAL for null.
 # Safety
 `o` is owned, the sock that `cong` was made for.
 */
int usk_cong_quota(struct usk_owned_t *o,
                   struct usk_cong_t *cong);

/*
 `n` segments leave in one packet; `again`: not for the first time. `*mark`, unless null, is filled for
 usk_cong_acked.
 # Safety
 As usk_cong_quota; `mark` is null or writable.
 */
int usk_cong_sent(struct usk_owned_t *o,
                  struct usk_cong_t *cong,
                  uint32_t n,
                  int again,
                  struct usk_cong_mark_t *mark);

/*
 An acknowledgement: takes its RTT and rate samples, and opens or reduces the window. -EINVAL: unknown flags, or an
 rtt_us below -1.
 # Safety
 As usk_cong_quota; `ack` is readable, and what its mark points to is null or was filled by usk_cong_sent.
 */
int usk_cong_acked(struct usk_owned_t *o,
                   struct usk_cong_t *cong,
                   const struct usk_cong_ack_t *ack);

/*
 `n` segments in flight are lost: recovery begins, unless one goes on already, which these then belong to.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_loss(struct usk_owned_t *o,
                  struct usk_cong_t *cong,
                  uint32_t n);

/*
 All that was outstanding at the loss, or at the timeout, has arrived: the reduction is complete.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_recovered(struct usk_owned_t *o, struct usk_cong_t *cong);

/*
 The retransmission timer expired: everything in flight is lost, the window is one segment.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_rto(struct usk_owned_t *o, struct usk_cong_t *cong);

/*
 The loss or timeout of this episode was none: window and threshold are as before it. 1; 0 where there is nothing to
 undo.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_undo(struct usk_owned_t *o,
                  struct usk_cong_t *cong);

/*
 The protocol has nothing more to send though it might: rate samples of what is in flight are the program's doing.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_app_limited(struct usk_owned_t *o,
                         struct usk_cong_t *cong);

/*
 Payload bytes of a full segment from now on. -EINVAL: 0.
 # Safety
 As usk_cong_quota.
 */
int usk_cong_set_mss(struct usk_owned_t *o, struct usk_cong_t *cong, uint32_t mss);

/*
 Congestion window, segments; 0 for null.
 # Safety
 `cong` is null or from usk_cong_new, its sock owned.
 */
uint32_t usk_cong_cwnd(const struct usk_cong_t *cong);

/*
 Slow-start threshold, segments; 0 for null.
 # Safety
 As usk_cong_cwnd.
 */
uint32_t usk_cong_ssthresh(const struct usk_cong_t *cong);

/*
 Segments in flight; 0 for null.
 # Safety
 As usk_cong_cwnd.
 */
uint32_t usk_cong_in_flight(const struct usk_cong_t *cong);

/*
 Retransmission timeout (RFC 6298) by the RTT samples of usk_cong_acked, without backoff, microseconds; 0 for null.
 # Safety
 As usk_cong_cwnd.
 */
uint32_t usk_cong_rto_us(const struct usk_cong_t *cong);

/*
 Fills `*info`.
 # Safety
 As usk_cong_cwnd; `info` is writable.
 */
int usk_cong_get_info(const struct usk_cong_t *cong, struct usk_cong_info_t *info);

/*
 Registers a congestion control in the plug-in's stack: sockets can choose it by TCP_CONGESTION, and it can be the
 default by net.ipv4.tcp_congestion_control. `*out`, unless null, gets the registration. Returns 0, or a negative
 errno, and usk_config_error says why in a line: -EINVAL the table does not fit (version, size, a required function,
 name, flags, priv_size), -EEXIST the name is taken.
 # Safety
 `plugin` is valid; `ops` points to as many bytes as its size says, its name is a string; `out` is null or writable.
 */
int usk_cong_register(struct usk_plugin_t *plugin,
                      const struct usk_cong_ops *ops,
                      struct usk_cong_reg_t **out);

/*
 Unregisters a congestion control. -EBUSY while a socket has chosen it, or took it as the default, and while it is
 the default (net.ipv4.tcp_congestion_control).
 # Safety
 `cong` is registered, and not used after success.
 */
int usk_cong_unregister(struct usk_cong_reg_t *cong);

/*
 Breaks the connection's socket when the function returns, as usk_sock_break does: for the catch around a function of
 a congestion control. Calls answer EIO, none of its functions runs for the connection any more, release neither, and
 what this one answers or wrote does not count. Returns 0; -EFAULT for null.
 # Safety
 `tp` is a congestion control's argument.
 */
int usk_tcp_break(const struct usk_tcp_t *tp);

/*
 Whether slow start governs growth (tcp_in_slow_start): 1 or 0.
 # Safety
 `tp` is a congestion control's argument.
 */
int usk_tcp_in_slow_start(const struct usk_tcp_t *tp);

/*
 Slow start for `acked` segments, up to the threshold; answers the segments left over for congestion avoidance
 (tcp_slow_start).
 # Safety
 `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_slow_start(struct usk_tcp_t *tp,
                            uint32_t acked);

/*
 Additive increase: one segment for every `w` acknowledged (tcp_cong_avoid_ai).
 # Safety
 `tp` is a congestion control's argument.
 */
void usk_tcp_cong_avoid_ai(struct usk_tcp_t *tp, uint32_t w, uint32_t acked);

/*
 Reno's threshold: half of the window, at least 2. Fits usk_cong_ops.ssthresh.
 # Safety
 `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_reno_ssthresh(struct usk_tcp_t *tp, void *_priv);

/*
 Reno's growth (RFC 5681 §3.1). Fits usk_cong_ops.cong_avoid.
 # Safety
 `tp` is a congestion control's argument.
 */
void usk_tcp_reno_cong_avoid(struct usk_tcp_t *tp, void *_priv, uint32_t _ack, uint32_t acked);

/*
 The window after a loss that was none: what it was before, if that is more. Fits usk_cong_ops.undo_cwnd.
 # Safety
 `tp` is a congestion control's argument.
 */
uint32_t usk_tcp_reno_undo_cwnd(struct usk_tcp_t *tp,
                                void *_priv);

/*
 recv hands over a packet. Takes `skb`, always. Returns 0; -ENOBUFS, dropped and counted: more than the budget,
 empty, shorter than a link header, or larger than the MTU; -EINVAL, dropped: no recv with this sink is running on
 this thread, as in xmit, or after recv returned.
 # Safety
 `skb` is the caller's, and not used afterwards.
 */
int usk_device_rx(struct usk_sink_t *sink,
                  struct usk_skb_t *skb);

/*
 Says in a line why open refuses, for usk_config_error. Returns -EINVAL, for open to answer.
 # Safety
 `line` is a string.
 */
int usk_device_refuse(const char *line);

/*
 Registers a kind of device in the plug-in's stack. `*out`, unless null, gets the registration. Returns 0, or a
 negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit, -EEXIST the name is taken.
 # Safety
 `plugin` is valid; `ops` points to as many bytes as its size says, its name is a string; `out` is null or writable.
 */
int usk_device_register(struct usk_plugin_t *plugin,
                        const struct usk_device_ops *ops,
                        struct usk_device_kind_t **out);

/*
 Unregisters a kind of device. -EBUSY while the stack has a device of it, which is as long as the stack lives.
 # Safety
 `kind` is registered, and not used after success.
 */
int usk_device_unregister(struct usk_device_kind_t *kind);

/*
 Adds a device of a plugged-in kind to a stack (null: the default one) that is there already. `config` is as usk_init
 takes it, of the keys device, mac, mtu, addr, gw, route and pcap:
 "device=udp:127.0.0.1:7001/127.0.0.1:7002,addr=10.9.0.1/24". Returns 0, or -1 with errno EINVAL or what opening
 gave, and usk_config_error says why.
 # Safety
 `stack` is null or from usk_stack_new; `config` is a string.
 */
int usk_device_add(struct usk_stack_t *stack,
                   const char *config);

/*
 Fills `*view` with the connection's numbers now. `size` is sizeof(usk_sock_view_t): what the library does not know
 is zero.
 # Safety
 `h` is a hook's argument; `view` is writable for `size` bytes.
 */
int usk_hook_view(struct usk_hook_t *h,
                  struct usk_sock_view_t *view,
                  size_t size);

/*
 Time of the event, nanoseconds of the stack's clock.
 # Safety
 `h` is a hook's argument.
 */
uint64_t usk_hook_now(struct usk_hook_t *h);

/*
 The events this hook wants of this sock: bits of USK_CB_*.
 # Safety
 `h` is a hook's argument.
 */
uint32_t usk_hook_cb_flags(struct usk_hook_t *h);

/*
 Sets them. A listener's are inherited by its children, and USK_CB_WRITE_HDR_OPT on it writes its SYN-ACKs. -EINVAL:
 a request, or an unknown bit.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_cb_flags(struct usk_hook_t *h,
                          uint32_t flags);

/*
 Breaks the event's socket as usk_sock_break does, for the catch around a hook: calls answer EIO, and no hook is
 called for it any more. Of a request that is its listener. What the hook answers then does not count.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_break(struct usk_hook_t *h);

/*
 What this hook keeps on this sock; 0 until set.
 # Safety
 `h` is a hook's argument.
 */
uint64_t usk_hook_value(struct usk_hook_t *h);

/*
 Keeps a number for this hook on this sock, for as long as the sock lives (bpf_sk_storage). -EINVAL: a request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_value(struct usk_hook_t *h,
                       uint64_t value);

/*
 Initial congestion window, segments (TCP_BPF_IW). -EINVAL: 0, data was sent already, or a request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_init_cwnd(struct usk_hook_t *h, uint32_t segs);

/*
 Greatest congestion window, segments; the threshold is set to it too (TCP_BPF_SNDCWND_CLAMP). -EINVAL: 0, or a
 request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_snd_cwnd_clamp(struct usk_hook_t *h,
                                uint32_t segs);

/*
 Least RTO, microseconds (TCP_BPF_RTO_MIN). -EINVAL: below 2 or above 200 ms, or a request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_rto_min(struct usk_hook_t *h, uint32_t us);

/*
 Longest delay of an acknowledgement, microseconds (TCP_BPF_DELACK_MAX). -EINVAL: below 2 or above 200 ms, or a
 request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_delack_max(struct usk_hook_t *h,
                            uint32_t us);

/*
 Congestion control by name, as TCP_CONGESTION. -ENOENT: none of that name; -EINVAL: a request.
 # Safety
 `h` is a hook's argument; `name` is a string.
 */
int usk_hook_set_congestion(struct usk_hook_t *h, const char *name);

/*
 Name of the congestion control, NUL-terminated and cut to `len`; answers the length of the whole.
 # Safety
 `h` is a hook's argument; `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_hook_congestion(struct usk_hook_t *h, char *buf, size_t len);

/*
 TCP_SAVE_SYN of a listener: whether its children keep their SYN for TCP_SAVED_SYN. -EINVAL: a request.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_set_save_syn(struct usk_hook_t *h,
                          int on);

/*
 Counts `n` in counter `index` of the table's mib_names. -EINVAL: an index beyond them.
 # Safety
 `h` is a hook's argument.
 */
int usk_hook_count(struct usk_hook_t *h, uint32_t index, uint64_t n);

/*
 The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
 # Safety
 `h` is a hook's argument.
 */
int64_t usk_hook_sysctl(struct usk_hook_t *h, uint32_t index);

/*
 Appends one option to the header: kind, length, data; of the experimental kinds 253 and 254 the data begins with the
 experiment's number (RFC 6994 §3). `len` is the option's own length or more. -EINVAL: not well formed, or a kind
 without length; -ENOSPC: more than was reserved; -EEXIST: an option of this kind (and experiment) is in the header
 already (bpf_store_hdr_opt).
 # Safety
 `w` is write_hdr_opt's argument; `option` is readable for `len` bytes.
 */
int usk_hdr_store(struct usk_hdr_t *w,
                  const void *option,
                  size_t len);

/*
 Bytes still free of what the hook reserved.
 # Safety
 `w` is write_hdr_opt's argument.
 */
size_t usk_hdr_remaining(struct usk_hdr_t *w);

/*
 Option bytes that TCP itself wrote into this header; `*len` says how many.
 # Safety
 `w` is write_hdr_opt's argument, and the bytes are used while that runs; `len` is writable.
 */
const void *usk_hdr_own(struct usk_hdr_t *w, size_t *len);

/*
 Data of the first option of a kind in option bytes, `*data_len` of it; with an `exid` of 0 or more, of the first
 that begins with this experiment's number, which is part of the data (RFC 6994 §3.1). Null: none
 (bpf_load_hdr_opt).
 # Safety
 `options` is readable for `len` bytes; `data_len` is writable.
 */
const void *usk_find_option(const void *options,
                            size_t len,
                            uint8_t kind,
                            int exid,
                            size_t *data_len);

/*
 Routes the sock to `to`, and sets what is open of its ends: peer, source address. The state becomes TCP_ESTABLISHED
 (1), as of a connected datagram socket: set another after it. For the connect operation. -ENETUNREACH, -EACCES
 (broadcast), -EINVAL ...
 # Safety
 `o` is owned; `to` is readable.
 */
int usk_route_connect(struct usk_owned_t *o,
                      const struct usk_addr_t *to);

/*
 Dissolves the association: no peer, state TCP_CLOSE (7). A port that bind(2) named stays; another is given back, and
 the sock is not bound any more (__udp_disconnect).
 # Safety
 `o` is owned.
 */
int usk_route_disconnect(struct usk_owned_t *o);

/*
 Where packets to `to` leave from: the sock's own address, or the one the route prefers, and its port. -ENETUNREACH,
 -EACCES ...
 # Safety
 `o` is owned; `to` is readable; `from` is writable.
 */
int usk_source(struct usk_owned_t *o,
               const struct usk_addr_t *to,
               struct usk_addr_t *from);

/*
 Bytes of transport header and payload that fit in one IP packet to the peer: the path MTU without the IP header.
 -ENOTCONN without a peer; -ENETUNREACH.
 # Safety
 `o` is owned.
 */
int usk_path_mtu(struct usk_owned_t *o);

/*
 A router on the way to the peer reports that only IP packets of `mtu` bytes pass (inet_csk_update_pmtu): for an ICMP
 error whose quoted packet is surely the sock's. Returns usk_path_mtu as it is now.
 # Safety
 `o` is owned.
 */
int usk_update_pmtu(struct usk_owned_t *o,
                    uint32_t mtu);

/*
 Sends a packet, which begins with the protocol's header, its checksum complete, to the peer: route, IP header,
 fragments where the socket lets them be, device (ip_queue_xmit). The sock is charged while a device has it. Takes
 `skb`, always. -ENOTCONN, -ENETUNREACH, -EMSGSIZE (longer than the path, and not to be cut), -ENOBUFS (the device's
 queue is full: a loss like any other).
 # Safety
 `o` is owned; `skb` is the caller's, and not used afterwards.
 */
int usk_xmit(struct usk_owned_t *o,
             struct usk_skb_t *skb);

/*
 As usk_xmit, to an address.
 # Safety
 As usk_xmit; `to` is readable.
 */
int usk_xmit_to(struct usk_owned_t *o, struct usk_skb_t *skb, const struct usk_addr_t *to);

/*
 Answers a packet without a sock: sends `skb`, which begins with the protocol's header, back to where the packet that
 `info` describes came from, from the address it was sent to (ip_send_unicast_reply). Takes `skb`, always. Packet
 context.
 # Safety
 `proto` is registered; `info` is readable; `skb` is the caller's, and not used afterwards.
 */
int usk_reply(struct usk_proto_t *proto,
              const struct usk_packet_info_t *info,
              struct usk_skb_t *skb);

/*
 setsockopt(2) of the IP levels (IPPROTO_IP, IPPROTO_IPV6), for the setsockopt operation. -ENOPROTOOPT for another.
 # Safety
 `o` is owned; `value` is readable for `len` bytes.
 */
int usk_ip_setsockopt(struct usk_owned_t *o,
                      int level,
                      int name,
                      const void *value,
                      size_t len);

/*
 getsockopt(2) of the IP levels: writes at most `len` bytes, returns how many. -ENOPROTOOPT for another.
 # Safety
 `o` is owned; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_ip_getsockopt(struct usk_owned_t *o,
                            int level,
                            int name,
                            void *value,
                            size_t len);

/*
 The ones-complement sum (RFC 1071) of bytes, added to `sum`: for usk_csum_fold. Pieces of even length can be summed
 one after the other (csum_partial).
 # Safety
 `data` is readable for `len` bytes.
 */
uint32_t usk_csum(const void *data,
                  size_t len,
                  uint32_t sum);

/*
 The sum of the pseudo-header of a packet of `len` bytes between two addresses of one family (csum_tcpudp_nofold).
 # Safety
 Both addresses are readable.
 */
uint32_t usk_csum_pseudo(const struct usk_addr_t *src,
                         const struct usk_addr_t *dst,
                         uint8_t protocol,
                         uint32_t len);

/*
 The 16 bits for a checksum field: big-endian value, to be stored high byte first. A packet whose own sum, field
 included, folds to 0 is right (csum_fold).
 */
uint32_t usk_csum_fold(uint32_t sum);

/*
 Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point `int
 usk_plugin_init(usk_plugin_t *)`, which registers what it has. Its `void usk_plugin_exit(usk_plugin_t *)`, if any,
 is called, with null, when the last use of its code has ended, just before it leaves memory: by usk_plugin_unload,
 or by the last thread that was in an operation then. The same as plugin=FILE in a configuration. A name without
 slash is looked for in the working directory. Null with errno on failure, and usk_config_error says why in a line:
 ENOENT, EINVAL, or what the entry point answered.
 # Safety
 `stack` is null or from usk_stack_new; `file` is a string.
 */
struct usk_plugin_t *usk_plugin_load(struct usk_stack_t *stack,
                                     const char *file);

/*
 As usk_plugin_load, of code that is linked to the program: calls `init`. `name` is for messages.
 # Safety
 `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
 */
struct usk_plugin_t *usk_plugin_attach(struct usk_stack_t *stack,
                                       const char *name,
                                       usk_plugin_init_fn init);

/*
 Unregisters everything a plug-in registered, the newest first, and unloads it. Returns 0; or -1 with errno EBUSY
 while something of it is in use: what was unregistered by then stays so, and the call can be repeated. Not from the
 plug-in's own code.
 # Safety
 `plugin` is valid, and not used after success.
 */
int usk_plugin_unload(struct usk_plugin_t *plugin);

/*
 The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. A plug-in that keeps
 it keeps the stack from ending. Null: it has ended.
 # Safety
 `plugin` is valid.
 */
struct usk_stack_t *usk_plugin_stack(struct usk_plugin_t *plugin);

/*
 Bytes not yet taken.
 # Safety
 `msg` is sendmsg's argument.
 */
size_t usk_sendmsg_len(struct usk_sendmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 # Safety
 `msg` is sendmsg's argument.
 */
int usk_sendmsg_flags(struct usk_sendmsg_t *msg);

/*
 The destination the call names (msg_name). -ENOENT: none.
 # Safety
 `msg` is sendmsg's argument; `addr` is writable.
 */
int usk_sendmsg_name(struct usk_sendmsg_t *msg, struct usk_addr_t *addr);

/*
 Takes up to `len` bytes into `to`; returns how many (copy_from_iter). usk_skb_append_msg takes them into a packet.
 # Safety
 `msg` is sendmsg's argument; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_sendmsg_take(struct usk_sendmsg_t *msg,
                           void *to,
                           size_t len);

/*
 Appends up to `len` bytes of a message, taking them; returns how many (skb_add_data).
 # Safety
 `skb` is a packet; `msg` is an operation's argument.
 */
ptrdiff_t usk_skb_append_msg(struct usk_skb_t *skb, struct usk_sendmsg_t *msg, size_t len);

/*
 A new packet of up to `len` bytes of a message, taking them: usk_skb_new and usk_skb_append_msg.
 # Safety
 `msg` is an operation's argument.
 */
struct usk_skb_t *usk_skb_from_msg(struct usk_sendmsg_t *msg, size_t len);

/*
 Bytes of room left.
 # Safety
 `msg` is recvmsg's argument.
 */
size_t usk_recvmsg_room(struct usk_recvmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 # Safety
 `msg` is recvmsg's argument.
 */
int usk_recvmsg_flags(struct usk_recvmsg_t *msg);

/*
 Copies bytes to the program, as far as there is room; returns how many (copy_to_iter).
 # Safety
 `msg` is recvmsg's argument; `data` is readable for `len` bytes.
 */
ptrdiff_t usk_recvmsg_put(struct usk_recvmsg_t *msg, const void *data, size_t len);

/*
 Copies `len` bytes of a packet from `offset` on to the program, as far as there are and there is room; returns how
 many (skb_copy_datagram_msg).
 # Safety
 `msg` is recvmsg's argument; `skb` is a packet.
 */
ptrdiff_t usk_recvmsg_put_skb(struct usk_recvmsg_t *msg,
                              struct usk_skb_t *skb,
                              size_t offset,
                              size_t len);

/*
 Says who sent it (msg_name).
 # Safety
 `msg` is recvmsg's argument; `addr` is readable.
 */
int usk_recvmsg_set_name(struct usk_recvmsg_t *msg, const struct usk_addr_t *addr);

/*
 Adds MSG_* bits to hand back (MSG_EOR, MSG_TRUNC): msg_flags.
 # Safety
 `msg` is recvmsg's argument.
 */
int usk_recvmsg_set_flags(struct usk_recvmsg_t *msg, int flags);

/*
 The sock of an owned one, to hand on; valid as long as the ownership.
 # Safety
 `o` is owned.
 */
struct usk_sock_t *usk_owned_sock(struct usk_owned_t *o);

/*
 Time of the event being processed, nanoseconds of the stack's clock.
 # Safety
 `o` is owned.
 */
uint64_t usk_owned_now(struct usk_owned_t *o);

/*
 Whether this is packet or timer context, where nothing may sleep.
 # Safety
 `o` is owned.
 */
int usk_in_softirq(struct usk_owned_t *o);

/*
 Runs the backlog now, in the middle of a long call (sk_flush_backlog). 1: there was something.
 # Safety
 `o` is owned.
 */
int usk_flush_backlog(struct usk_owned_t *o);

/*
 Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
 and has succeeded unless it is then TCP_CLOSE (7); accept(2) wants TCP_LISTEN (10). -EINVAL: no such state;
 connections wait for accept(2) (usk_listen_stop closes them); or the sock is finished.
 # Safety
 `o` is owned.
 */
int usk_set_state(struct usk_owned_t *o,
                  int state);

/*
 Adds to what shutdown(2) has ended: bit 0 receiving (the peer's end), bit 1 sending.
 # Safety
 `o` is owned.
 */
int usk_set_shutdown(struct usk_owned_t *o, int bits);

/*
 Whether an option or state of USK_FLAG_* is set (sock_flag).
 # Safety
 `o` is owned.
 */
int usk_sock_flag(struct usk_owned_t *o, int which);

/*
 SO_LINGER's time in nanoseconds, if it is set; -1 otherwise.
 # Safety
 `o` is owned.
 */
int64_t usk_linger(struct usk_owned_t *o);

/*
 The local end: the address packets leave from, or the one bound to; port 0: not bound.
 # Safety
 `o` is owned; `addr` is writable.
 */
int usk_local(struct usk_owned_t *o, struct usk_addr_t *addr);

/*
 The peer. -ENOTCONN without one.
 # Safety
 `o` is owned; `addr` is writable.
 */
int usk_peer(struct usk_owned_t *o, struct usk_addr_t *addr);

/*
 Sets both ends of a sock that a packet made (a child): `local` and `peer` as the packet's destination and source
 were. -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is
 in the table under another port; -EAFNOSUPPORT: an AF_INET sock has no IPv6 ends.
 # Safety
 `o` is owned; both addresses are readable.
 */
int usk_set_ends(struct usk_owned_t *o,
                 const struct usk_addr_t *local,
                 const struct usk_addr_t *peer);

/*
 SO_RCVBUF, bytes of truesize.
 # Safety
 `o` is owned.
 */
int usk_rcvbuf(struct usk_owned_t *o);

/*
 SO_SNDBUF, bytes of truesize.
 # Safety
 `o` is owned.
 */
int usk_sndbuf(struct usk_owned_t *o);

/*
 Bytes of truesize in the receive queue (sk_rmem_alloc).
 # Safety
 `o` is owned.
 */
int usk_rmem(struct usk_owned_t *o);

/*
 Bytes of truesize in the send queues (sk_wmem_queued), as usk_wmem_charge and usk_wmem_uncharge count them.
 # Safety
 `o` is owned.
 */
int usk_wmem(struct usk_owned_t *o);

/*
 Puts a packet at the end of the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Takes
 `skb`, always. Returns 0, or -ENOBUFS when the buffer is full, memory is out or the socket closed: the packet is
 then dropped and counted.
 # Safety
 `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_receive_push(struct usk_owned_t *o,
                     struct usk_skb_t *skb);

/*
 The next packet of the receive queue, which stays there; null: none.
 # Safety
 `o` is owned; the packet is used while it is, and before the queue changes.
 */
struct usk_skb_t *usk_receive_peek(struct usk_owned_t *o);

/*
 Takes the next packet of the receive queue off it, uncharged: the caller's to free. Null: none.
 # Safety
 `o` is owned.
 */
struct usk_skb_t *usk_receive_pop(struct usk_owned_t *o);

/*
 recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (what is before
 is the protocol's header), takes it off unless MSG_PEEK is set, says MSG_TRUNC when there is no room for all, and
 answers what recvmsg does: the bytes copied, or with MSG_TRUNC given those there are. -EAGAIN: the queue is empty.
 # Safety
 `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_receive_msg(struct usk_owned_t *o,
                          struct usk_recvmsg_t *msg,
                          size_t offset);

/*
 Packets in the receive queue.
 # Safety
 `o` is owned.
 */
size_t usk_receive_len(struct usk_owned_t *o);

/*
 Charges a packet that enters a receive queue of the protocol's own, as usk_receive_push does with the sock's
 (sk_rmem_schedule, skb_set_owner_r). Past half of SO_RCVBUF a packet whose bytes sit in a larger page is copied to a
 smaller one first. -ENOBUFS: the protocol's limit refuses. SO_RCVBUF is the caller's to look at (usk_rmem,
 usk_rcvbuf).
 # Safety
 `o` is owned; `skb` is a packet.
 */
int usk_rmem_charge(struct usk_owned_t *o,
                    struct usk_skb_t *skb);

/*
 The packet leaves that queue. Give it with the truesize it was charged with: not grown meanwhile. By destroy at the
 latest.
 # Safety
 `o` is owned; `skb` is a packet that was charged.
 */
int usk_rmem_uncharge(struct usk_owned_t *o,
                      struct usk_skb_t *skb);

/*
 Charges a packet that enters a send queue to the sock and to the protocol's memory (sk_wmem_schedule,
 sk_wmem_queued_add). -ENOBUFS: the protocol's limit refuses; wait for memory, or drop. SO_SNDBUF is the caller's to
 look at (usk_wmem, usk_sndbuf).
 # Safety
 `o` is owned; `skb` is a packet.
 */
int usk_wmem_charge(struct usk_owned_t *o,
                    struct usk_skb_t *skb);

/*
 The packet leaves the send queue. Give it with the truesize it was charged with: not grown meanwhile.
 # Safety
 `o` is owned; `skb` is a packet that was charged.
 */
int usk_wmem_uncharge(struct usk_owned_t *o,
                      struct usk_skb_t *skb);

/*
 Charges `size` bytes that are not in a packet to the protocol's memory (sk_mem_charge); negative gives them back.
 -ENOBUFS.
 # Safety
 `o` is owned.
 */
int usk_mem_charge(struct usk_owned_t *o,
                   int size);

/*
 Arms, or moves, timer `index` (0 to 31) of the sock: at `at`, nanoseconds of the stack's clock, release_cb gets bit
 `index`, or as soon as the owner lets go. -EINVAL: no such index, or the sock is finished.
 # Safety
 `o` is owned.
 */
int usk_timer_arm(struct usk_owned_t *o,
                  uint32_t index,
                  uint64_t at);

/*
 Disarms timer `index`. 1: it was pending. One that has fired while the sock was owned is still told to release_cb:
 compare the time there.
 # Safety
 `o` is owned.
 */
int usk_timer_cancel(struct usk_owned_t *o,
                     uint32_t index);

/*
 When timer `index` fires, nanoseconds of the stack's clock; 0: not armed, or it has fired.
 # Safety
 `o` is owned.
 */
uint64_t usk_timer_at(struct usk_owned_t *o, uint32_t index);

/*
 The sock is finished: it has left the tables, nothing more is queued. Cancels its timers, empties the receive queue,
 resets connections nobody accepted (through close), runs destroy, once, and wakes everybody (inet_csk_destroy_sock).
 Its memory goes with the last handle. No operation of the sock begins any more: packets that still come are dropped
 and counted. -EBUSY: a program has the sock (neither is USK_FLAG_DEAD set, nor is it a child that nobody has
 accepted), which would go on to use what destroy frees: set its state, and finish it in close. -EINVAL: the sock is
 another protocol's.
 # Safety
 `o` is owned.
 */
int usk_done(struct usk_owned_t *o);

/*
 Takes a local port for the sock, 0 meaning any of net.ipv4.ip_local_port_range (inet_csk_get_port): what get_port
 does when the table leaves it null. Socks that are bound are found by usk_proto_lookup, connected ones by their peer
 first. -EADDRINUSE; -EINVAL: it has a port, or is finished.
 # Safety
 `o` is owned.
 */
int usk_get_port(struct usk_owned_t *o,
                 uint16_t port);

/*
 Binds the sock to an address and a port (inet_bind): what bind does when the table leaves it null, for a bind that
 does more. `addr` is of the sock's family. The port comes from get_port. -EINVAL: it is bound already;
 -EADDRNOTAVAIL, -EADDRINUSE, -EAFNOSUPPORT.
 # Safety
 `o` is owned; `addr` is readable.
 */
int usk_inet_bind(struct usk_owned_t *o,
                  const struct usk_addr_t *addr);

/*
 Brings the table up to date with the sock's addresses, after connect or usk_set_ends: what hash does when the table
 leaves it null. A child of a listener shares its port. -EADDRINUSE: there is a connection of the same ends. -EINVAL:
 a child without a peer, or a sock that is finished.
 # Safety
 `o` is owned.
 */
int usk_hash(struct usk_owned_t *o);

/*
 Takes the sock out of the table, and gives its port back: what unhash and put_port do when the table leaves them
 null.
 # Safety
 `o` is owned.
 */
int usk_unhash(struct usk_owned_t *o);

/*
 The sock for a packet that came from `remote` to `local`, held: a connected one, else the best bound or listening
 one. Null: none. Give it back with usk_sock_put. `ifindex`: the interface it came by.
 # Safety
 `proto` is registered; both addresses are readable.
 */
struct usk_sock_t *usk_proto_lookup(struct usk_proto_t *proto,
                                    const struct usk_addr_t *local,
                                    const struct usk_addr_t *remote,
                                    uint32_t ifindex);

/*
 A new sock of a listener's protocol, held: the connection a packet asks for. Its init has run; the options of the
 listener's IP level and buffers are the child's too. Packet context. Null: init refused. Lock it, set its ends and
 state, usk_hash it, release it, give it to usk_accept_push, then usk_sock_put.
 # Safety
 `listener` is owned.
 */
struct usk_sock_t *usk_new_child(struct usk_owned_t *listener);

/*
 Gives a finished connection to accept(2), and wakes who waits for it. The handle stays the caller's. -ENOBUFS: the
 backlog is full; -EINVAL: it does not listen any more, or `child` is not of usk_new_child for this protocol. The
 caller ends the child then (usk_done).
 # Safety
 `listener` is owned; `child` is valid.
 */
int usk_accept_push(struct usk_owned_t *listener,
                    struct usk_sock_t *child);

/*
 Connections that wait for accept(2), and how many may (listen(2)'s backlog): more is full.
 # Safety
 `listener` is owned; `max` is writable or null.
 */
uint32_t usk_accept_len(struct usk_owned_t *listener, uint32_t *max);

/*
 Starts listening: state TCP_LISTEN, `backlog` connections may wait; binds to a port if it is not. For the listen
 operation. -EADDRINUSE: another sock that SO_REUSEADDR let have the port listens already (inet_csk_listen_start).
 # Safety
 `o` is owned.
 */
int usk_listen_start(struct usk_owned_t *o,
                     uint32_t backlog);

/*
 Stops listening: state TCP_CLOSE, connections nobody accepted are closed. The port stays the sock's. For the
 disconnect operation (inet_csk_listen_stop). -EINVAL: it is not listening.
 # Safety
 `o` is owned.
 */
int usk_listen_stop(struct usk_owned_t *o);

/*
 Waits for a connection that usk_accept_push gave, as accept(2) does (inet_csk_accept). For the accept operation of a
 table; returns the child held, or null with the negative errno in `*err`: -EINVAL not listening, -EAGAIN, -EINTR.
 # Safety
 `sk` is valid and not owned by the caller; `err` is writable.
 */
struct usk_sock_t *usk_accept_wait(struct usk_sock_t *sk,
                                   int nonblock,
                                   int *err);

/*
 The protocol the sock belongs to; null for one that is not from C.
 # Safety
 `o` is owned.
 */
struct usk_proto_t *usk_owned_proto(struct usk_owned_t *o);

/*
 The protocol's own memory of a sock: obj_size bytes, zero at first, aligned to 16; the same address as long as the
 sock lives.
 # Safety
 `o` is owned.
 */
void *usk_private(struct usk_owned_t *o);

/*
 Registers a protocol in the plug-in's stack. `user` is for usk_proto_user; `*out`, unless null, gets the
 registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
 fit (version, size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or
 sysctl is taken.
 # Safety
 `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
 or writable.
 */
int usk_proto_register(struct usk_plugin_t *plugin,
                       const struct usk_proto *table,
                       void *user,
                       struct usk_proto_t **out);

/*
 Unregisters a protocol. -EBUSY while a socket of it exists; -ENOENT when it was already.
 # Safety
 `proto` is registered, and not used after success.
 */
int usk_proto_unregister(struct usk_proto_t *proto);

/*
 Counts `n` in counter `index` of the table's mib_names. An index beyond them is -EINVAL.
 # Safety
 `proto` is registered.
 */
int usk_proto_count(struct usk_proto_t *proto, uint32_t index, uint64_t n);

/*
 The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
 # Safety
 `proto` is registered.
 */
int64_t usk_proto_sysctl(struct usk_proto_t *proto, uint32_t index);

/*
 What was given to usk_proto_register.
 # Safety
 `proto` is registered.
 */
void *usk_proto_user(struct usk_proto_t *proto);

/*
 Nanoseconds of the stack's clock: monotonic, virtual where time is.
 # Safety
 `proto` is registered.
 */
uint64_t usk_now(struct usk_proto_t *proto);

/*
 Fills memory with the stack's random bytes: unpredictable, or repeatable where the stack is seeded.
 # Safety
 `proto` is registered; `to` is writable for `len` bytes.
 */
int usk_random(struct usk_proto_t *proto, void *to, size_t len);

/*
 Frees a packet and counts why among the stack's drop reasons (kfree_skb_reason). Takes `skb`, always.
 # Safety
 `proto` is registered; `skb` is the caller's, and not used afterwards.
 */
int usk_drop(struct usk_proto_t *proto,
             struct usk_skb_t *skb,
             int reason);

/*
 A new, empty packet (alloc_skb).
 */
struct usk_skb_t *usk_skb_new(void);

/*
 Frees a packet (kfree_skb). Null is ignored.
 # Safety
 `skb` is null or the caller's, and not used afterwards.
 */
void usk_skb_free(struct usk_skb_t *skb);

/*
 A packet with the same payload, shared, and a copy of the headers (skb_clone): what goes to the device while the
 original waits for its acknowledgement. Its notes are zero.
 # Safety
 `skb` is a packet.
 */
struct usk_skb_t *usk_skb_share(struct usk_skb_t *skb);

/*
 Bytes in the packet, headers that are pushed and not yet pulled included.
 # Safety
 `skb` is a packet.
 */
size_t usk_skb_len(struct usk_skb_t *skb);

/*
 Bytes of memory the packet is charged with (truesize).
 # Safety
 `skb` is a packet.
 */
uint32_t usk_skb_truesize(struct usk_skb_t *skb);

/*
 The notes a protocol keeps on a packet: USK_SKB_CB bytes aligned to 8, zero at first (sk_buff.cb).
 # Safety
 `skb` is a packet.
 */
void *usk_skb_cb(struct usk_skb_t *skb);

/*
 Room for `n` more bytes of header in front, zeroed, to be written (skb_push). Null: there is not that much room; a
 new packet has 128 bytes, of which IP and the link want 76.
 # Safety
 `skb` is a packet; the bytes are used before it is changed.
 */
void *usk_skb_push(struct usk_skb_t *skb,
                   size_t n);

/*
 Forgets the first `n` bytes (skb_pull). -EINVAL: there are fewer, nothing is done.
 # Safety
 `skb` is a packet.
 */
int usk_skb_pull(struct usk_skb_t *skb, size_t n);

/*
 Shortens the packet to `n` bytes (skb_trim); no effect when it is not longer.
 # Safety
 `skb` is a packet.
 */
int usk_skb_trim(struct usk_skb_t *skb, size_t n);

/*
 The first `n` bytes in one piece (pskb_may_pull), to read; null when the packet is shorter.
 # Safety
 `skb` is a packet; the bytes are used before it is changed.
 */
const void *usk_skb_header(struct usk_skb_t *skb, size_t n);

/*
 Copies bytes from `offset` on out of the packet; returns how many there were (skb_copy_bits).
 # Safety
 `skb` is a packet; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_skb_copy(struct usk_skb_t *skb, size_t offset, void *to, size_t len);

/*
 Appends a copy of `len` bytes. The packet's truesize grows. -EMSGSIZE: it would pass 2^30.
 # Safety
 `skb` is a packet; `data` is readable for `len` bytes.
 */
int usk_skb_append(struct usk_skb_t *skb, const void *data, size_t len);

/*
 The ones-complement sum of `len` bytes of a packet from `offset` on, added to `sum`, for usk_csum_fold
 (skb_checksum). Bytes that are not there do not count.
 # Safety
 `skb` is a packet.
 */
uint32_t usk_skb_csum(struct usk_skb_t *skb,
                      size_t offset,
                      size_t len,
                      uint32_t sum);

/*
 The checksum of this packet need not be looked at: it never left the machine, or the device did
 (CHECKSUM_UNNECESSARY).
 # Safety
 `skb` is a packet.
 */
int usk_skb_csum_unnecessary(struct usk_skb_t *skb);

/*
 An empty queue (skb_queue_head_init).
 */
struct usk_queue_t *usk_queue_new(void);

/*
 Frees a queue and the packets in it (skb_queue_purge). Null is ignored.
 # Safety
 `q` is null or from usk_queue_new, and not used afterwards.
 */
void usk_queue_free(struct usk_queue_t *q);

/*
 Packets in the queue.
 # Safety
 `q` is a queue.
 */
size_t usk_queue_len(struct usk_queue_t *q);

/*
 Puts a packet before place `at` (0: the front); beyond the end is the end. Takes `skb`, always.
 # Safety
 `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
 */
int usk_queue_insert(struct usk_queue_t *q, size_t at, struct usk_skb_t *skb);

/*
 Puts a packet at the end (skb_queue_tail). Takes `skb`, always.
 # Safety
 As usk_queue_insert.
 */
int usk_queue_push(struct usk_queue_t *q, struct usk_skb_t *skb);

/*
 The packet at place `at`, which stays there; null: there are not that many (skb_peek).
 # Safety
 `q` is a queue; the packet is used before the queue changes.
 */
struct usk_skb_t *usk_queue_peek(struct usk_queue_t *q, size_t at);

/*
 Takes the packet at place `at` out; the caller's to free. Null: there are not that many (__skb_unlink).
 # Safety
 `q` is a queue.
 */
struct usk_skb_t *usk_queue_remove(struct usk_queue_t *q,
                                   size_t at);

/*
 Takes the first packet out (skb_dequeue); null: none.
 # Safety
 `q` is a queue.
 */
struct usk_skb_t *usk_queue_pop(struct usk_queue_t *q);

/*
 Keeps a sock beyond the operation that was given it (sock_hold). Returns `sk`.
 # Safety
 `sk` is valid.
 */
struct usk_sock_t *usk_sock_hold(struct usk_sock_t *sk);

/*
 Gives a held sock back (sock_put). Null is ignored. Not while it is owned by the caller.
 # Safety
 `sk` is null or held, and not used afterwards.
 */
void usk_sock_put(struct usk_sock_t *sk);

/*
 Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which stays where it is until
 usk_release_sock, in the same thread. Process context; in packet and timer context only for a sock that no program
 can own yet (a child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, -EINVAL for null.
 # Safety
 `sk` is valid until the release; `o` is writable, and not owned now.
 */
int usk_lock_sock(struct usk_sock_t *sk,
                  struct usk_owned_t *o);

/*
 Gives the sock up (release_sock): packets that came meanwhile run through backlog_rcv, then deferred work through
 release_cb. Only for what usk_lock_sock filled: -EINVAL for an operation's own argument, and for what is released
 already.
 # Safety
 `o` is readable.
 */
int usk_release_sock(struct usk_owned_t *o);

/*
 Gives a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock lets
 go. Takes `skb`, always. Returns 0, or -ENOBUFS when the backlog was full and the packet dropped and counted.
 # Safety
 `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_deliver(struct usk_sock_t *sk,
                struct usk_skb_t *skb);

/*
 Asks for release_cb with these bits: now, or when the owner lets go. From any thread that does not own the sock.
 # Safety
 `sk` is valid.
 */
int usk_defer(struct usk_sock_t *sk,
              uint32_t bits);

/*
 Sets the pending error (SO_ERROR) and wakes everybody (sk_error_report). `err` is a positive errno. Owned or not.
 # Safety
 `sk` is valid.
 */
int usk_error_report(struct usk_sock_t *sk,
                     int err);

/*
 Breaks the socket, as an operation does that breaks its word: for the catch around an operation, out of which no
 exception of C++ and no panic of a Rust shared object may come. Owned or not, in any context, from any thread; more
 than once is as once.

 From then on every call that concerns the protocol answers EIO, poll says POLLERR and POLLHUP beside POLLIN and
 POLLOUT, who waits is woken, usk_wait answers -EIO, and packets for the sock are dropped and counted. No operation
 of the sock begins any more but destroy, which runs when the last descriptor is closed: at once where that has
 happened, or where the sock is a child that nobody has accepted. What usk_lock_sock locked in the operation that
 catches is released when that returns. The sock's memory goes with its last handle. On a connection of TCP, under a
 layer: no operation of the layer and no hook is called for it any more but the layer's release; TCP itself goes on,
 and ends it as usual when it is closed. Returns 0; -EINVAL for null.
 # Safety
 `sk` is valid.
 */
int usk_sock_break(struct usk_sock_t *sk);

/*
 Takes the pending error away (sock_error): 0, or it as a negative errno, once. What sendmsg and recvmsg answer
 first.
 # Safety
 `sk` is valid.
 */
int usk_sock_error(struct usk_sock_t *sk);

/*
 The pending error as a positive errno, which stays; 0: none. For the poll operation: POLLERR (sk->sk_err).
 # Safety
 `sk` is valid.
 */
int usk_sock_pending_error(struct usk_sock_t *sk);

/*
 Wakes who waits for one of these events: poll(2)'s bits. Owned or not.
 # Safety
 `sk` is valid.
 */
int usk_wake(struct usk_sock_t *sk, uint32_t events);

/*
 The state, by Linux's numbers (TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10): sk_state.
 # Safety
 `sk` is valid.
 */
int usk_sock_state(struct usk_sock_t *sk);

/*
 What shutdown(2) has ended: bit 0 receiving, bit 1 sending (sk_shutdown).
 # Safety
 `sk` is valid.
 */
int usk_sock_shutdown(struct usk_sock_t *sk);

/*
 AF_INET or AF_INET6.
 # Safety
 `sk` is valid.
 */
int usk_sock_family(struct usk_sock_t *sk);

/*
 Registers hooks in the plug-in's stack, behind those that are there. `*out`, unless null, gets the registration.
 Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit, -EEXIST the
 name, a counter or a sysctl is taken.
 # Safety
 `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
 or writable.
 */
int usk_sock_ops_register(struct usk_plugin_t *plugin,
                          const struct usk_sock_ops *table,
                          void *user,
                          struct usk_sock_ops_t **out);

/*
 Unregisters hooks: no event that begins later reaches them. One that is running now on another thread still does,
 and after the last `release` is called. Can be called from a hook. -ENOENT when it was unregistered already.
 # Safety
 `ops` is registered, and not used after success.
 */
int usk_sock_ops_unregister(struct usk_sock_ops_t *ops);

/*
 Registers an upper-layer protocol in the plug-in's stack. `user` is for usk_ulp_user and release; `*out`, unless
 null, gets the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the
 table does not fit, -EEXIST the name, a counter or a sysctl is taken.
 # Safety
 `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
 or writable.
 */
int usk_ulp_register(struct usk_plugin_t *plugin,
                     const struct usk_ulp_ops *table,
                     void *user,
                     struct usk_ulp_t **out);

/*
 Unregisters an upper-layer protocol. -EBUSY while a connection has it; -ENOENT when it was unregistered already.
 # Safety
 `ulp` is registered, and not used after success.
 */
int usk_ulp_unregister(struct usk_ulp_t *ulp);

/*
 The connection's memory, as operations get it; null: the protocol has gone from it.
 # Safety
 `o` is owned, a connection with an upper-layer protocol from C.
 */
void *usk_ulp_data(struct usk_owned_t *o);

/*
 What was given to usk_ulp_register.
 # Safety
 As usk_ulp_data.
 */
void *usk_ulp_user(struct usk_owned_t *o);

/*
 Counts `n` in counter `index` of the table's mib_names. -EINVAL: an index beyond them, or the protocol has gone.
 # Safety
 As usk_ulp_data.
 */
int usk_ulp_count(struct usk_owned_t *o,
                  uint32_t index,
                  uint64_t n);

/*
 The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
 # Safety
 As usk_ulp_data.
 */
int64_t usk_ulp_sysctl(struct usk_owned_t *o, uint32_t index);

/*
 Sleeps with the sock released until one of `events` (poll(2)'s bits) is signalled, then owns it again
 (sk_wait_event). The caller looks at its condition again: wake-ups may be for somebody else. Process context.
 `deadline`: nanoseconds of the stack's clock, USK_FOREVER for none. Returns 0; -EAGAIN when the deadline has passed,
 -EINTR on a signal, -EIO when the sock is broken; -EDEADLK in an operation for a packet or a timer, which nobody
 would wake.
 # Safety
 `o` is owned.
 */
int usk_wait(struct usk_owned_t *o,
             uint32_t events,
             uint64_t deadline);

/*
 When a receive must give up by SO_RCVTIMEO, as usk_wait takes it (sock_rcvtimeo); `dontwait`: now, that is 0.
 # Safety
 `o` is owned.
 */
uint64_t usk_rcvtimeo(struct usk_owned_t *o,
                      int dontwait);

/*
 Bytes that a receive of `len` of them waits for, by SO_RCVLOWAT; `waitall`: all. At least 1 (sock_rcvlowat).
 # Safety
 `o` is owned.
 */
size_t usk_rcvlowat(struct usk_owned_t *o,
                    int waitall,
                    size_t len);

/*
 When a send must give up by SO_SNDTIMEO, as usk_wait takes it (sock_sndtimeo); `dontwait`: now, that is 0.
 # Safety
 `o` is owned.
 */
uint64_t usk_sndtimeo(struct usk_owned_t *o,
                      int dontwait);

/*
 As poll(2), for any descriptors together. Errors: EFAULT, EINTR, EINVAL.
 # Safety
 `fds` is `count` pollfds.
 */
int usk_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/*
 As ppoll(2).
 # Safety
 `fds` is `count` pollfds; `timeout` and `mask` are null or valid.
 */
int usk_ppoll(struct pollfd *fds,
              nfds_t count,
              const struct timespec *timeout,
              const sigset_t *mask);

/*
 As select(2); on return `timeout` holds the time left, as Linux does it. Errors: EBADF, EINTR, EINVAL.
 # Safety
 The sets are null or fd_sets that cover `count` descriptors; `timeout` is null or a timeval.
 */
int usk_select(int count,
               fd_set *read,
               fd_set *write,
               fd_set *except,
               struct timeval *timeout);

/*
 As socket(2), on the default stack (made from USERSOCK_CONFIG at the first call). `type` may carry SOCK_NONBLOCK and
 SOCK_CLOEXEC. Returns a descriptor, or -1 with errno EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS or
 EPROTONOSUPPORT.
 */
int usk_socket(int domain,
               int ty,
               int protocol);

/*
 As bind(2). Errors: EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EFAULT, EINVAL, ENOTSOCK.
 # Safety
 `addr` is readable for `len` bytes.
 */
int usk_bind(int fd,
             const struct sockaddr *addr,
             socklen_t len);

/*
 As listen(2). Errors: EADDRINUSE, EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP.
 */
int usk_listen(int fd, int backlog);

/*
 As accept(2): accept4 without flags.
 # Safety
 `addr` is null or writable for `*len` bytes, `len` then points to a socklen_t.
 */
int usk_accept(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC. Errors: EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL,
 EMFILE, ENOTSOCK, EOPNOTSUPP.
 # Safety
 As `usk_accept`.
 */
int usk_accept4(int fd,
                struct sockaddr *addr,
                socklen_t *len,
                int flags);

/*
 As connect(2). Errors: EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH,
 EINPROGRESS, EINTR, EISCONN, ENETUNREACH, ENOTSOCK, ETIMEDOUT.
 # Safety
 `addr` is readable for `len` bytes.
 */
int usk_connect(int fd,
                const struct sockaddr *addr,
                socklen_t len);

/*
 As shutdown(2). Errors: EBADF, EINVAL, ENOTCONN, ENOTSOCK.
 */
int usk_shutdown(int fd, int how);

/*
 Ends the socket from outside, whoever uses it, as `ss -K` does: its calls answer ECONNABORTED, a peer gets a reset;
 the descriptor stays to be closed. Errors: EBADF, ENOTSOCK, EOPNOTSUPP.
 */
int usk_destroy(int fd);

/*
 As close(2), for any descriptor.
 */
int usk_close(int fd);

/*
 As getsockname(2). Errors: EBADF, EFAULT, EINVAL, ENOTSOCK.
 # Safety
 `addr` is writable for `*len` bytes.
 */
int usk_getsockname(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As getpeername(2). Errors: EBADF, EFAULT, EINVAL, ENOTCONN, ENOTSOCK.
 # Safety
 `addr` is writable for `*len` bytes.
 */
int usk_getpeername(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As getsockopt(2). Errors: EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
 # Safety
 `value` is writable for `*len` bytes, `len` points to a socklen_t.
 */
int usk_getsockopt(int fd, int level, int name, void *value, socklen_t *len);

/*
 Takes the upper-layer protocol off that TCP_ULP put on a connection: plain bytes from here. Returns 0, or -1 with
 errno EBUSY (it holds bytes that are neither with the program nor with TCP, or a call of it is under way), EINVAL
 (the socket has none), EBADF, ENOTSOCK.
 */
int usk_ulp_remove(int fd);

/*
 As setsockopt(2). Errors: EBADF, EDOM, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
 # Safety
 `value` is readable for `len` bytes.
 */
int usk_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

/*
 As dup(2), for any descriptor.
 */
int usk_dup(int fd);

/*
 As dup2(2), for any descriptors.
 */
int usk_dup2(int fd, int to);

/*
 As fcntl(2), for any descriptor; `arg` is the integer or pointer of the command, 0 where it takes none. On sockets
 of usersock: F_GETFL, F_SETFL (O_NONBLOCK), F_GETFD, F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC; EINVAL for others.
 */
int usk_fcntl(int fd,
              int cmd,
              long arg);

/*
 As ioctl(2), for any descriptor. On sockets of usersock: FIONBIO, FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD,
 SIOCATMARK, FIOCLEX, FIONCLEX; ENOTTY for others.
 # Safety
 `arg` is what the request says: an int pointer for those above.
 */
int usk_ioctl(int fd,
              unsigned long request,
              void *arg);

/*
 As sendfile(2) to a socket of ours from a file of the kernel; for other pairs, the kernel's own call. `offset` null:
 the file's position moves by what was sent. Errors: EAGAIN (nothing could be sent), EBADF, EINVAL (not a file one
 can pread), and those of send.
 # Safety
 `offset` is null or points to an off_t.
 */
ptrdiff_t usk_sendfile(int out_fd,
                       int in_fd,
                       off_t *offset,
                       size_t count);

/*
 As splice(2) where one end is a socket of ours and the other a pipe; for other pairs, the kernel's own call. Errors:
 EAGAIN (SPLICE_F_NONBLOCK and the pipe, or a non-blocking end), EBADF, EINVAL (no pipe, or an offset for the
 socket), ESPIPE (an offset for the pipe). SPLICE_F_NONBLOCK does not make the socket's side non-blocking: O_NONBLOCK
 does, as in Linux.
 # Safety
 The offsets are null or point to a loff_t, which is an int64_t by a name that ISO C does not have.
 */
ptrdiff_t usk_splice(int fd_in,
                     int64_t *off_in,
                     int fd_out,
                     int64_t *off_out,
                     size_t len,
                     unsigned int flags);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_H */

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
 usk_sock_ops.flags: the hooks are called for chosen sockets only: those that a program attaches them to
 (usk_sock_ops_attach, or setsockopt with USK_TCP_HOOKS), and connections that begin while a filter matches
 (usk_sock_ops_filter). Without it for all of the stack.
 */
#define USK_SOCK_OPS_CHOSEN 1

/*
 For usk_hook_set_cb_flags: `rto` is called (BPF_SOCK_OPS_RTO_CB_FLAG; all have Linux's numbers).
 */
#define USK_CB_RTO 1

/*
 `retrans` is called.
 */
#define USK_CB_RETRANS 2

/*
 `state` is called.
 */
#define USK_CB_STATE 4

/*
 `rtt` is called.
 */
#define USK_CB_RTT 8

/*
 `parse_hdr_opt` is called for every segment.
 */
#define USK_CB_PARSE_ALL_HDR_OPT 16

/*
 `parse_hdr_opt` is called for segments with an option that TCP does not know.
 */
#define USK_CB_PARSE_UNKNOWN_HDR_OPT 32

/*
 `hdr_opt_len` and `write_hdr_opt` are called.
 */
#define USK_CB_WRITE_HDR_OPT 64

/*
 usk_hdr_seg_t.flags: there is no segment yet: TCP computes how much data fits into one.
 */
#define USK_HDR_NO_SEGMENT -1

/*
 A hook's part of a header: write_hdr_opt's argument.
 */
typedef struct usk_hdr_t usk_hdr_t;

/*
 An event: a hook's argument, valid while the hook runs. In some events the connection is a request, for which there
 is no sock yet: it can be read, and calls that would change it return -EINVAL.
 */
typedef struct usk_hook_t {
  /*
   The sock, for usk_break; for a request, its listener.
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
   For the library's use.
   */
  void *opaque[2];
} usk_hook_t;

/*
 A connection's numbers, as struct bpf_sock_ops has them: usk_hook_view. For a request only the first five members
 are set.
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
   Next sequence number expected from the peer.
   */
  uint32_t rcv_nxt;
  /*
   Next sequence number to send.
   */
  uint32_t snd_nxt;
  /*
   First unacknowledged sequence number.
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
   The events that this hook has asked for on this sock: bits of USK_CB_*.
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
   Name of the congestion control, NUL-terminated.
   */
  char congestion[16];
} usk_sock_view_t;

/*
 The segment to which options are added.
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
   Number of segments into which the device splits it; each has the same option bytes.
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
   For a listener's SYN-ACK, the option bytes of the SYN; null for all other segments.
   */
  const void *syn;
  /*
   Number of these bytes.
   */
  size_t syn_len;
} usk_hdr_seg_t;

/*
 Hooks into TCP: one function for each event; null: no action, or the default value. Registering copies it, with its
 strings and lists. `user` is the pointer given to usk_sock_ops_register.

 Hooks are called in the order of registration with the sock owned, in packet, timer or process context: they must
 not sleep, and may use the sock only by usk_break and the usk_hook_ calls (the POSIX-shaped calls return EDEADLK for
 it). Events of different socks run on different threads at the same time. If several hooks return a value, the last
 one counts. No C++ exception and no panic of a Rust shared object may leave a hook: catch it and call
 usk_break(h->sk); in `release` only catch it. The events of connection setup are always called; the others only if
 the hook has requested them for that sock by usk_hook_set_cb_flags. A listener's children inherit its flags; their
 stored value is initially 0.
 */
typedef struct usk_sock_ops {
  /*
   USK_SOCK_OPS_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_sock_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 31 printable characters without dot, unique among a stack's hooks. Required.
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
   Initial RTO of a SYN or SYN-ACK, microseconds; 0: the default, one second. Called when a connection sends its
   first SYN, when a listener receives one (for the request), and when the timeout of a SYN's retries is computed
   (BPF_SOCK_OPS_TIMEOUT_INIT).
   */
  uint32_t (*timeout_init)(usk_hook_t *h, void *user);
  /*
   Initial receive window, segments; 0: the route's or the default (BPF_SOCK_OPS_RWND_INIT).
   */
  uint32_t (*rwnd_init)(usk_hook_t *h, void *user);
  /*
   Not 0: the connection requests or accepts ECN, whatever tcp_ecn is (BPF_SOCK_OPS_NEEDS_ECN).
   */
  int (*needs_ecn)(usk_hook_t *h, void *user);
  /*
   RTT of the path without queues, microseconds, for the congestion control that is initialized; 0: unknown
   (BPF_SOCK_OPS_BASE_RTT).
   */
  uint32_t (*base_rtt)(usk_hook_t *h, void *user);
  /*
   An active open begins: the SYN is about to be made (BPF_SOCK_OPS_TCP_CONNECT_CB).
   */
  void (*tcp_connect)(usk_hook_t *h, void *user);
  /*
   The SYN-ACK arrived; `options` are its option bytes (BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB).
   */
  void (*active_established)(usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   The last segment of the handshake arrived; `options` are its option bytes, `syn` those of the SYN, none for a
   simultaneous open (BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB).
   */
  void (*passive_established)(usk_hook_t *h,
                              const void *options,
                              size_t len,
                              const void *syn,
                              size_t syn_len,
                              void *user);
  /*
   The sock listens now (BPF_SOCK_OPS_TCP_LISTEN_CB), or its first SYN that a filter set since chooses has arrived.
   */
  void (*listen)(usk_hook_t *h, void *user);
  /*
   The retransmission timer fired: the number of retransmissions so far, the RTO that expired, whether the
   connection times out. With USK_CB_RTO.
   */
  void (*rto)(usk_hook_t *h, uint32_t retransmits, uint32_t rto_us, int expired, void *user);
  /*
   `segs` segments from `seq` on were retransmitted; `err` is 0, or the negative errno of the transmission. With
   USK_CB_RETRANS.
   */
  void (*retrans)(usk_hook_t *h, uint32_t seq, uint32_t segs, int err, void *user);
  /*
   The state is about to change from `old` to `now`, by Linux's numbers. With USK_CB_STATE.
   */
  void (*state)(usk_hook_t *h, int old, int now, void *user);
  /*
   Called once per round trip: its last RTT sample and the smoothed RTT, microseconds. With USK_CB_RTT.
   */
  void (*rtt)(usk_hook_t *h, uint32_t sample_us, uint32_t srtt_us, void *user);
  /*
   An acceptable segment arrived; `options` are its option bytes. Not in SYN_SENT, SYN_RECV and LISTEN. With
   USK_CB_PARSE_ALL_HDR_OPT or USK_CB_PARSE_UNKNOWN_HDR_OPT.
   */
  void (*parse_hdr_opt)(usk_hook_t *h, const void *options, size_t len, void *user);
  /*
   Returns how many bytes of options to reserve in a segment: 2 to seg->remaining; any other value reserves none.
   Also called without a segment, to compute how much data fits into one: a full data segment has room for the
   value returned then, and no more. With USK_CB_WRITE_HDR_OPT.
   */
  int (*hdr_opt_len)(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user);
  /*
   Writes, by usk_hdr_store, into the bytes that hdr_opt_len reserved; the remainder is padding. With
   USK_CB_WRITE_HDR_OPT.
   */
  void (*write_hdr_opt)(usk_hook_t *h,
                        const usk_hdr_seg_t *seg,
                        usk_hdr_t *w,
                        void *user);
  /*
   The registration is gone and no event of it runs any more: `user` can be freed. Any context, perhaps with a sock
   owned: no function of the library may be called.
   */
  void (*release)(void *user);
  /*
   USK_SOCK_OPS_CHOSEN, or 0.
   */
  uint32_t flags;
  /*
   The one kind of option that write_hdr_opt stores; 0: it does not say, and any that the header does not have will
   do. Another registration that says the same is refused (-EEXIST) where a connection would have both, and
   usk_hdr_store refuses other options.
   */
  uint16_t option_kind;
  /*
   With option_kind 253 and 254 the ExID (RFC 6994), with others 0.
   */
  uint16_t option_exid;
  /*
   The hooks were attached to a socket: the place for usk_hook_set_cb_flags there. The socket is unconnected, or a
   listener, or a connection in any state, whose events of connection setup are over. Process context.
   */
  void (*attached)(usk_hook_t *h, void *user);
  /*
   The hooks are detached from a socket: the last event there. Process context.
   */
  void (*detached)(usk_hook_t *h, void *user);
} usk_sock_ops;

/*
 Connections by their ends, for usk_sock_ops_filter. What is not zero must match.
 */
typedef struct usk_sock_ops_filter_t {
  /*
   Our end: the address of a prefix, family 0 for any address of either family; and a port, 0 for any.
   */
  usk_addr_t local;
  /*
   The peer, likewise.
   */
  usk_addr_t remote;
  /*
   Length of the prefix of local.addr, bits.
   */
  uint16_t local_prefix;
  /*
   Length of the prefix of remote.addr, bits.
   */
  uint16_t remote_prefix;
  /*
   The last of our ports, where local.port is the first of several; 0: it is the only one.
   */
  uint16_t local_last;
  /*
   The last of the peer's ports, where remote.port is the first of several; 0: it is the only one.
   */
  uint16_t remote_last;
} usk_sock_ops_filter_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Fills `*view` with the present values of the connection's variables. `size` is sizeof(usk_sock_view_t): members that
 the library does not know are zero. Returns how many bytes the library filled.
 Requires: `h` is a hook's argument; `view` is writable for `size` bytes.
 */
ptrdiff_t usk_hook_view(usk_hook_t *h,
                        usk_sock_view_t *view,
                        size_t size);

/*
 Sets the events that this hook gets for this sock: bits of USK_CB_* (bpf_sock_ops_cb_flags_set). Children inherit
 the bits of their listener, and USK_CB_WRITE_HDR_OPT on a listener applies to its SYN-ACKs. Returns 0; -EINVAL: a
 request, or an unknown bit.
 Requires: `h` is a hook's argument.
 */
int usk_hook_set_cb_flags(usk_hook_t *h,
                          uint32_t flags);

/*
 The value that this hook has stored for this sock; 0 until set.
 Requires: `h` is a hook's argument.
 */
uint64_t usk_hook_value(usk_hook_t *h);

/*
 Stores a value for this hook and this sock, for as long as the sock exists (bpf_sk_storage). -EINVAL: a request.
 Requires: `h` is a hook's argument.
 */
int usk_hook_set_value(usk_hook_t *h,
                       uint64_t value);

/*
 Sets an option of the event's connection (bpf_setsockopt). `level` is IPPROTO_TCP; `name` is one of USK_TCP_BPF_*,
 TCP_CONGESTION (a name), or TCP_SAVE_SYN (an int, on a listener: its children save their SYN for TCP_SAVED_SYN).
 Returns 0; -EINVAL: a request, another option, an invalid value or length, an initial window after data was sent;
 -ENOENT: no congestion control of that name.
 Requires: `h` is a hook's argument; `value` is readable for `len` bytes.
 */
int usk_hook_setsockopt(usk_hook_t *h,
                        int level,
                        int name,
                        const void *value,
                        size_t len);

/*
 Appends one option to the header: kind, length, data; for the experimental kinds 253 and 254 the data begins with
 the ExID (RFC 6994 §3). `len` is at least the option's length. -EINVAL: malformed, or a kind without length;
 -ENOSPC: more than was reserved; -EEXIST: an option of this kind (and ExID) is in the header already
 (bpf_store_hdr_opt).
 Requires: `w` is write_hdr_opt's argument; `option` is readable for `len` bytes.
 */
int usk_hdr_store(usk_hdr_t *w,
                  const void *option,
                  size_t len);

/*
 Bytes of the hook's reservation that are still free.
 Requires: `w` is write_hdr_opt's argument.
 */
size_t usk_hdr_remaining(usk_hdr_t *w);

/*
 The option bytes that TCP itself wrote into this header; `*len` gets their number.
 Requires: `w` is write_hdr_opt's argument, and the bytes are used only until write_hdr_opt returns; `len` is writable.
 */
const void *usk_hdr_own(usk_hdr_t *w,
                        size_t *len);

/*
 Finds the first option of a kind in option bytes and returns its data, `*data_len` bytes; with an `exid` of 0 or
 more, the first one with this ExID, which is part of the data (RFC 6994 §3.1). Null: there is none
 (bpf_load_hdr_opt).
 Requires: `options` is readable for `len` bytes; `data_len` is writable.
 */
const void *usk_find_option(const void *options,
                            size_t len,
                            uint8_t kind,
                            int exid,
                            size_t *data_len);

/*
 Registers hooks in the plug-in's stack, after the present ones. `user` is passed to them; `*out`, unless null, gets
 the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does
 not fit, -EEXIST the name, a counter or a sysctl is taken, or the option is another's.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_sock_ops_register(usk_plugin_t *plugin,
                          const struct usk_sock_ops *table,
                          void *user,
                          usk_reg_t **out);

/*
 Which connections hooks with USK_SOCK_OPS_CHOSEN get without being attached, in place of those of the last call: the
 ones that begin from now on and match one of `count` filters (0: none). That is decided once, when the first SYN is
 sent or received, so that connections that do not match cost nothing more; a connection keeps what it began with. A
 listener whose connections may match has the hooks as well, for `listen` and for their SYN-ACKs: at once in
 listen(2), later with the first SYN that matches. Any context, from usk_plugin_init on. Returns 0, or a negative
 errno, and usk_config_error says why in a line: -EINVAL the hooks are for all sockets, or a filter is wrong; -EEXIST
 a filter of other hooks that write the same option overlaps; -ENOENT the hooks are not registered any more.
 Requires: `reg` is valid; `filters` points to `count` filters.
 */
int usk_sock_ops_filter(usk_reg_t *reg,
                        const usk_sock_ops_filter_t *filters,
                        size_t count);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_HOOKS_H */

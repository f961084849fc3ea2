/* usersock for plug-ins: a TCP beside the library's, struct usk_tcp_ops, which USK_TCP_STACK chooses. MIT OR
 * Apache-2.0. */

#ifndef USERSOCK_TCP_H
#define USERSOCK_TCP_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "cong.h"

/*
 `version` of struct usk_tcp_ops.
 */
#define USK_TCP_OPS_VERSION 1

/*
 Most bytes of a connection's own memory (usk_tcp_ops.data_size).
 */
#define USK_TCP_DATA_MAX 65536

/*
 What `input`, `output` and `timer` return: the operation has done all that there is to do.
 */
#define USK_TCP_DONE 0

/*
 The library's TCP goes on, as if the operation were null.
 */
#define USK_TCP_OURS 1

/*
 handoff_ok: may the alternative take a live connection that another TCP has served?
 */
#define USK_TCP_TAKE 0

/*
 handoff_ok: may another TCP have the connection that the alternative serves?
 */
#define USK_TCP_GIVE 1

/*
 timer: the connection's retransmission timer, beside the alternative's own from 0 on.
 */
#define USK_TCP_TIMER_RTO 16

/*
 From this number on, options of IPPROTO_TCP are the alternative's (setsockopt, getsockopt of the table).
 */
#define USK_TCP_OWN_OPTIONS 8448

/*
 usk_tcp_ack_t.flags: it acknowledges something new: snd_una is beyond prior_snd_una.
 */
#define USK_TCP_ACK_ADVANCED 1

/*
 usk_tcp_ack_t.flags: it echoes congestion (RFC 3168).
 */
#define USK_TCP_ACK_ECE 2

/*
 usk_tcp_ack_t.flags: it reports duplicates (RFC 2883), believably.
 */
#define USK_TCP_ACK_DSACK 4

/*
 usk_tcp_ack_t.flags: something that it acknowledges had been sent again.
 */
#define USK_TCP_ACK_RETRANS 8

/*
 How many timers of its own an alternative TCP has on each connection: usk_tcp_arm takes 0 to 3.
 */
#define USK_TCP_TIMERS 4

/*
 usk_tcp_seg_t.flags: selectively acknowledged.
 */
#define USK_TCP_SEG_SACKED 1

/*
 usk_tcp_seg_t.flags: sent again since it was marked lost, and that copy is thought to be in flight.
 */
#define USK_TCP_SEG_RETRANS 2

/*
 usk_tcp_seg_t.flags: marked lost.
 */
#define USK_TCP_SEG_LOST 4

/*
 A connection, during an operation of an alternative TCP: its first argument. Not valid afterwards; in a newer
 library it may be longer.
 */
typedef struct usk_tcp_conn_t {
  /*
   The alternative's memory of the connection: data_size bytes, initially zero, aligned to 16; null if that is 0,
   and in handoff_ok with USK_TCP_TAKE.
   */
  void *data;
  /*
   The registration, for usk_count, usk_sysctl, usk_user and usk_random.
   */
  usk_reg_t *reg;
  /*
   The connection's sock, for usk_break; null in a release after the stack has ended.
   */
  usk_sock_t *sk;
  /*
   The library's.
   */
  void *opaque[2];
} usk_tcp_conn_t;

/*
 A segment that has arrived, for `input`: as its header says, of which nothing is checked yet.
 */
typedef struct usk_tcp_input_t {
  /*
   Its first sequence number.
   */
  uint32_t seq;
  /*
   One past its last.
   */
  uint32_t end_seq;
  /*
   Its acknowledgement number.
   */
  uint32_t ack;
  /*
   Its window, bytes: scaled.
   */
  uint32_t window;
  /*
   Its control bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
   */
  uint32_t flags;
  /*
   Segments that were joined to it on the way in.
   */
  uint32_t segs;
  /*
   1: it has timestamps.
   */
  uint32_t has_timestamps;
  /*
   TSval.
   */
  uint32_t tsval;
  /*
   TSecr.
   */
  uint32_t tsecr;
  /*
   Its SACK blocks.
   */
  uint32_t sacks;
  /*
   First sequence number of each, and one past its last.
   */
  uint32_t sack[4][2];
} usk_tcp_input_t;

/*
 What an acknowledgement has done to the retransmit queue.
 */
typedef struct usk_tcp_ack_t {
  /*
   RTT of the segment acknowledged last, if it was sent only once, microseconds; -1: no sample.
   */
  int64_t rtt_us;
  /*
   snd_una now.
   */
  uint32_t snd_una;
  /*
   snd_una before it.
   */
  uint32_t prior_snd_una;
  /*
   Segments newly acknowledged or selectively acknowledged.
   */
  uint32_t delivered;
  /*
   Of those, by SACK.
   */
  uint32_t sacked;
  /*
   Pure duplicates that it stands for (RFC 5681 §2).
   */
  uint32_t dupacks;
  /*
   USK_TCP_ACK_ bits.
   */
  uint32_t flags;
} usk_tcp_ack_t;

/*
 A TCP of one's own beside the library's: setsockopt(2) of USK_TCP_STACK chooses it by name for a socket, a listener
 (its children have it too) or a live connection, net.ipv4.tcp_stack for all new sockets. Tables, options, the
 queues, the scoreboard, the congestion control and the state machine of recovery are the library's; a null operation
 means the library's. Registering copies the table, with its strings and lists.

 Operations run in either context with the sock owned: they must not sleep, and may call only the usk_tcp_ functions
 that take usk_tcp_conn_t, usk_count, usk_sysctl, usk_user, usk_random and usk_break (the POSIX-shaped calls return
 EDEADLK for the sock). What the library does in such a call is its own: no operation is called from within. No C++
 exception and no panic of a Rust shared object may leave an operation: catch it and call usk_break(c->sk).
 */
typedef struct usk_tcp_ops {
  /*
   USK_TCP_OPS_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_tcp_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters without dot, as USK_TCP_STACK and net.ipv4.tcp_stack take it; unique in a stack,
   and not "default". Required.
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
   Bytes of memory for each connection (usk_tcp_conn_t.data), at most USK_TCP_DATA_MAX.
   */
  uint32_t data_size;
  /*
   0.
   */
  uint32_t flags;
  /*
   Begins on a connection: a new one when it is established, or one that it takes over, with whatever is in its
   retransmit queue. Returns 0, or a negative errno: setsockopt returns it, and the connection keeps the TCP that
   it has; a new connection is the library's. Null: succeeds.
   */
  int (*init)(usk_tcp_conn_t *c);
  /*
   The connection ends, or another TCP has it now. No call can be made with `c`: its data, usk_user and usk_count
   are there. Null: no action.
   */
  void (*release)(usk_tcp_conn_t *c);
  /*
   Whether a live connection may change its TCP: USK_TCP_TAKE asks the one that is chosen, before init;
   USK_TCP_GIVE the one that has it. Returns 0, or a negative errno, and the program gets EBUSY. Null: yes.
   */
  int (*handoff_ok)(usk_tcp_conn_t *c, int how);
  /*
   A segment of an established connection has arrived. Returns USK_TCP_OURS, and it is processed, or USK_TCP_DONE,
   and it is dropped.
   */
  int (*input)(usk_tcp_conn_t *c, const usk_tcp_input_t *in_);
  /*
   An acknowledgement was processed: what it covers has left the retransmit queue, what it selectively acknowledges
   is marked. Called for each that finds something in flight, and before the state machine of recovery runs: what
   is lost is marked by usk_tcp_mark_lost. Without it the library's RACK-TLP and duplicate threshold do that.
   */
  void (*ack)(usk_tcp_conn_t *c, const usk_tcp_ack_t *ack);
  /*
   Something may be sent: new data waits, an acknowledgement was processed, something is lost, the device or pacing
   is ready again. Returns USK_TCP_OURS: the library sends what is lost and then new data, as the congestion window
   allows; or USK_TCP_DONE, and nothing more is sent now. If nothing is in flight then, and data waits, the
   library's window probes send it in the end.
   */
  int (*output)(usk_tcp_conn_t *c);
  /*
   A timer of its own has fired, by its number; or USK_TCP_TIMER_RTO: the retransmission timer, and the connection
   has not ended by it (TCP_USER_TIMEOUT, net.ipv4.tcp_retries2). Then USK_TCP_OURS marks all lost, sends the first
   segment again and doubles the timeout; USK_TCP_DONE arms the timer again and does no more.
   */
  int (*timer)(usk_tcp_conn_t *c, uint32_t timer);
  /*
   An option of IPPROTO_TCP from USK_TCP_OWN_OPTIONS on. Returns 0 or a negative errno. Null: -ENOPROTOOPT.
   */
  int (*setsockopt)(usk_tcp_conn_t *c, int name, const void *value, size_t len);
  /*
   As setsockopt: writes at most `len` bytes, returns how many.
   */
  ptrdiff_t (*getsockopt)(usk_tcp_conn_t *c, int name, void *value, size_t len);
} usk_tcp_ops;

/*
 A packet of the retransmit queue: what was sent and is not acknowledged. Sent at once it may be several segments.
 */
typedef struct usk_tcp_seg_t {
  /*
   When it was sent, the last time, nanoseconds of the stack's clock.
   */
  uint64_t sent_at;
  /*
   Its first sequence number.
   */
  uint32_t seq;
  /*
   One past its last.
   */
  uint32_t end_seq;
  /*
   Its segments.
   */
  uint32_t segs;
  /*
   USK_TCP_SEG_ bits.
   */
  uint32_t flags;
  /*
   How often it was sent again, 255 at most.
   */
  uint32_t retrans;
  /*
   0.
   */
  uint32_t reserved;
} usk_tcp_seg_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Registers a TCP in the plug-in's stack, beside the library's. `user` is for usk_user; `*out`, unless null, gets the
 registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
 fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_tcp_register(usk_plugin_t *plugin,
                     const struct usk_tcp_ops *table,
                     void *user,
                     usk_reg_t **out);

/*
 Fills `*tp` with the present values of the connection's variables (all of usk_tcp_t but base_rtt_us); writes to it
 have no effect. `size` is sizeof(usk_tcp_t): members that the library does not know are zero. Returns how many bytes
 the library filled.
 Requires: `c` is a running operation's argument; `tp` is writable for `size` bytes.
 */
ptrdiff_t usk_tcp_read(usk_tcp_conn_t *c,
                       usk_tcp_t *tp,
                       size_t size);

/*
 Fills `*seg` with the packet of the retransmit queue that contains `seq`, or the next one: with snd_una first and
 then with each end_seq it gives them all. `size` is sizeof(usk_tcp_seg_t). Returns 1; 0: there is none; -EINVAL or
 -EFAULT for null.
 Requires: `c` is a running operation's argument; `seg` is writable for `size` bytes.
 */
int usk_tcp_seg(usk_tcp_conn_t *c,
                uint32_t seq,
                usk_tcp_seg_t *seg,
                size_t size);

/*
 Marks the segments from `seq` up to `end` lost, a packet of several segments in part; of one that was sent again
 since it was marked, the retransmission counts as lost. What is selectively acknowledged is left alone. Recovery
 begins when the operation returns, and what is lost is sent again: by `output`, or where that is null by ours.
 Returns how many segments are newly lost. -EINVAL: nothing, or not all of it, is in the retransmit queue; -EPERM: in
 `output`.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_mark_lost(usk_tcp_conn_t *c,
                      uint32_t seq,
                      uint32_t end);

/*
 Takes the mark back from segments that were not sent again since. Returns how many segments count as in flight
 again. -EINVAL: nothing, or not all of it, is in the retransmit queue; -EPERM: in `output`.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_clear_lost(usk_tcp_conn_t *c,
                       uint32_t seq,
                       uint32_t end);

/*
 Sends the packet that contains `seq` again, at most `segs` segments of it; only in `output` and `timer`. It is
 marked lost, counts as in flight then, and the congestion window must have room for it. The first packet in `timer`
 is a probe: it needs neither room nor a mark. Returns the segments sent. -EPERM: another operation, or neither
 marked nor a probe; -EINVAL: not in the queue, or selectively acknowledged; -EALREADY: it was sent again since it
 was marked; -EAGAIN: no room, or pacing or the device's queue say later: `output` is then called again; -EBUSY: its
 last copy has not left the machine; other errors of sending.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_retransmit(usk_tcp_conn_t *c,
                       uint32_t seq,
                       uint32_t segs);

/*
 Sends new data, at most `segs` segments, as far as the congestion window, the peer's window, pacing, Nagle's
 algorithm and the device's queue allow; only in `output` and `timer`. It makes no probes of a larger path MTU
 (net.ipv4.tcp_mtu_probing). Returns the segments sent. -EPERM: another operation.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_send_new(usk_tcp_conn_t *c,
                     uint32_t segs);

/*
 The retransmission timeout is accepted as one, in `timer`: the threshold falls, the window is one segment beside
 what is not marked lost, and the state is USK_CA_LOSS. What is lost is marked before. Returns 0; -EPERM: another
 operation.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_enter_loss(usk_tcp_conn_t *c);

/*
 Sets the retransmission timeout, microseconds: at least 1000, at most what the socket allows (TCP_RTO_MAX_MS). The
 timer takes it when it is armed next, which is after `ack` and after `timer`; in both it stands until the next RTT
 sample of ours, which is before the next `ack`. Returns 0.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_set_rto(usk_tcp_conn_t *c,
                    uint32_t us);

/*
 Arms a timer of the alternative's own, `after` nanoseconds from now, at least 1000; one that is armed moves. `timer`
 is called with its number. Returns 0; -EINVAL: no such timer.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_arm(usk_tcp_conn_t *c,
                uint32_t timer,
                uint64_t after);

/*
 Disarms a timer of the alternative's own. Returns 0; -EINVAL: no such timer.
 Requires: `c` is a running operation's argument.
 */
int usk_tcp_cancel(usk_tcp_conn_t *c, uint32_t timer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_TCP_H */

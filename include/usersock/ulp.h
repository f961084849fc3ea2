/* usersock for plug-ins: upper-layer protocols (TCP_ULP), struct usk_ulp_ops, and the protocol below. MIT OR
 * Apache-2.0. */

#ifndef USERSOCK_ULP_H
#define USERSOCK_ULP_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 `version` of struct usk_ulp_ops.
 */
#define USK_ULP_VERSION 1

/*
 A registered upper-layer protocol of one stack, for usk_ulp_unregister. Valid until then.
 */
typedef struct usk_ulp_t usk_ulp_t;

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
  const usk_sysctl_t *sysctls;
  /*
   Begins on a connection, or on a socket that is none yet. An error is setsockopt's; the connection is then
   without, and release is not called. Process context, owned. Null: succeeds.
   */
  int (*init)(usk_owned_t *o, void *data);
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
  int (*clone)(usk_owned_t *child, void *data, const void *parent);
  /*
   Sends: answers the bytes taken. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   */
  ptrdiff_t (*sendmsg)(usk_owned_t *o, void *data, usk_sendmsg_t *msg);
  /*
   Receives: answers the bytes copied. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   SO_RCVLOWAT counts the program's bytes, so it is for this to obey (usk_rcvlowat): below, any byte wakes and is
   POLLIN.
   */
  ptrdiff_t (*recvmsg)(usk_owned_t *o, void *data, usk_recvmsg_t *msg);
  /*
   poll(2)'s bits, what is true now; begins with usk_below_poll. Process context, owned; must not sleep.
   */
  uint32_t (*poll)(usk_owned_t *o, void *data);
  /*
   The last descriptor is closed: hands what it holds to usk_below_force. TCP's close follows. Process context, not
   owned.
   */
  void (*close)(usk_sock_t *sk, int flags);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; hands what it holds to usk_below_force. TCP's shutdown follows.
   Process context, owned.
   */
  void (*shutdown)(usk_owned_t *o, void *data, int how);
  /*
   Options of levels other than SOL_SOCKET; what is not its own goes to usk_below_setsockopt. Process context, not
   owned.
   */
  int (*setsockopt)(usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   As setsockopt: writes at most `len` bytes, answers how many; the rest goes to usk_below_getsockopt.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   SIOCINQ, SIOCOUTQ and others, an int in `*value`; what is not its own goes to usk_below_ioctl. Process context,
   not owned.
   */
  int (*ioctl)(usk_sock_t *sk, unsigned long request, int *value);
  /*
   A segment for the connection: usk_below_backlog_rcv, once, or usk_skb_free; afterwards there may be room to
   send, or data to look at. Softirq, or process context from the backlog; owned; must not sleep.
   */
  void (*backlog_rcv)(usk_owned_t *o, void *data, usk_skb_t *skb);
  /*
   TCP's timers and deferred work have run. Either context, owned; must not sleep.
   */
  void (*release_cb)(usk_owned_t *o, void *data);
  /*
   usk_ulp_remove: 0, or -EBUSY while it holds bytes that are neither with the program nor with TCP. Not asked, and
   EBUSY, while an operation of the layer sleeps. Process context, owned. Null: it may always go.
   */
  int (*may_remove)(usk_owned_t *o, void *data);
  /*
   The socket is to begin anew: connect(2) with AF_UNSPEC, shutdown(2) of a listener or of an attempt to connect,
   an attempt that failed. Forgets what it holds, which belongs to no connection any more; the protocol stays, for
   the next one. 0, and TCP's disconnect follows, or a negative errno, which refuses. Process context, owned. Null:
   nothing to forget.
   */
  int (*disconnect)(usk_owned_t *o, void *data);
} usk_ulp_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Sends bytes: answers how many were taken, or -EAGAIN, -EPIPE, the connection's error. Waits for room unless `flags`
 have MSG_DONTWAIT.
 Requires: `o` is owned; `data` is readable for `len` bytes.
 */
ptrdiff_t usk_below_send(usk_owned_t *o,
                         const void *data,
                         size_t len,
                         int flags);

/*
 As usk_below_send with MSG_DONTWAIT, beyond SO_SNDBUF if need be: for what a layer holds when the program shuts
 down or closes, in whose operations it is still taken.
 Less than `len` is taken only when the protocol's memory is out.
 Requires: as usk_below_send.
 */
ptrdiff_t usk_below_force(usk_owned_t *o,
                          const void *data,
                          size_t len);

/*
 Sends the program's message, or what is left of it, unchanged.
 Requires: `o` is owned; `msg` is sendmsg's argument.
 */
ptrdiff_t usk_below_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg);

/*
 Receives bytes: answers how many, 0 at the end, -EAGAIN, or the connection's error. Waits unless `flags` have
 MSG_DONTWAIT.
 Requires: `o` is owned; `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_below_recv(usk_owned_t *o,
                         void *buf,
                         size_t len,
                         int flags);

/*
 Receives into the program's message, unchanged.
 Requires: `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_below_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg);

/*
 poll(2)'s bits of the protocol below. One that is told "not writable" wakes when that changes.
 Requires: `o` is owned.
 */
uint32_t usk_below_poll(usk_owned_t *o);

/*
 Gives a segment to the protocol below: what backlog_rcv was given. Takes `skb`, always.
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards.
 */
int usk_below_backlog_rcv(usk_owned_t *o, usk_skb_t *skb);

/*
 Ends the connection: a reset to the peer, `err` (positive) as the pending error (SO_ERROR), everybody awake.
 -ENOENT: it is closed.
 Requires: `o` is owned.
 */
int usk_below_abort(usk_owned_t *o,
                    int err);

/*
 setsockopt(2) of the protocol below. -EDEADLK: the caller owns the sock.
 Requires: `sk` is valid; `value` is readable for `len` bytes.
 */
int usk_below_setsockopt(usk_sock_t *sk, int level, int name, const void *value, size_t len);

/*
 getsockopt(2) of the protocol below: answers the length. -EDEADLK: the caller owns the sock.
 Requires: `sk` is valid; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_below_getsockopt(usk_sock_t *sk, int level, int name, void *value, size_t len);

/*
 ioctl(2)'s socket requests of the protocol below. -EDEADLK: the caller owns the sock.
 Requires: `sk` is valid; `value` is writable.
 */
int usk_below_ioctl(usk_sock_t *sk, unsigned long request, int *value);

/*
 Registers an upper-layer protocol in the plug-in's stack. `user` is for usk_ulp_user and release; `*out`, unless
 null, gets the registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the
 table does not fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out`
 is null or writable.
 */
int usk_ulp_register(usk_plugin_t *plugin,
                     const struct usk_ulp_ops *table,
                     void *user,
                     struct usk_ulp_t **out);

/*
 Unregisters an upper-layer protocol. -EBUSY while a connection has it; -ENOENT when it was unregistered already.
 Requires: `ulp` is registered, and not used after success.
 */
int usk_ulp_unregister(struct usk_ulp_t *ulp);

/*
 The connection's memory, as operations get it; null: the protocol has gone from it.
 Requires: `o` is owned, a connection with an upper-layer protocol from C.
 */
void *usk_ulp_data(usk_owned_t *o);

/*
 What was given to usk_ulp_register.
 Requires: as usk_ulp_data.
 */
void *usk_ulp_user(usk_owned_t *o);

/*
 Counts `n` in counter `index` of the table's mib_names. -EINVAL: an index beyond them, or the protocol has gone.
 Requires: as usk_ulp_data.
 */
int usk_ulp_count(usk_owned_t *o,
                  uint32_t index,
                  uint64_t n);

/*
 The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them.
 Requires: as usk_ulp_data.
 */
int64_t usk_ulp_sysctl(usk_owned_t *o, uint32_t index);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_ULP_H */

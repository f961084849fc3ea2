/* usersock for plug-ins: upper-layer protocols (TCP_ULP), struct usk_ulp_ops, and the protocol below, struct
 * usk_below_ops. MIT OR Apache-2.0. */

#ifndef USERSOCK_ULP_H
#define USERSOCK_ULP_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 `version` of struct usk_below_ops.
 */
#define USK_BELOW_VERSION 1

/*
 `version` of struct usk_ulp_ops.
 */
#define USK_ULP_VERSION 1

/*
 The operations of the protocol below a layer: `ulp->below`, the same in every operation of every layer of the
 library. They are for the layer's own operations, on their sock. None is null. Of a newer library the table may be
 longer than here: `size` says how much of it there is. Those that take usk_owned_t keep the sock owned; where they
 wait they give it up meanwhile, and operations of the layer may run. All return a negative errno on failure: -EINVAL
 where there is no layer any more.
 */
typedef struct usk_below_ops {
  /*
   USK_BELOW_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_below_ops) of the library.
   */
  uint32_t size;
  /*
   Sends bytes: returns how many were taken, or -EAGAIN, -EPIPE, the connection's error. Waits for room in
   process context, unless `flags` have MSG_DONTWAIT. Owned.
   */
  ptrdiff_t (*send)(usk_owned_t *o, const void *data, size_t len, int flags);
  /*
   As send with MSG_DONTWAIT, beyond SO_SNDBUF if need be: for what a layer holds when the program shuts down or
   closes, in whose operations it is still taken. Less than `len` is taken only when the protocol's memory is out.
   Owned.
   */
  ptrdiff_t (*force)(usk_owned_t *o, const void *data, size_t len);
  /*
   Sends the program's message, or what is left of it, unchanged. Owned.
   */
  ptrdiff_t (*sendmsg)(usk_owned_t *o, usk_sendmsg_t *msg);
  /*
   Receives bytes: returns how many, 0 at the end, -EAGAIN, or the connection's error. Waits in process
   context, unless `flags` have MSG_DONTWAIT. Owned.
   */
  ptrdiff_t (*recv)(usk_owned_t *o, void *buf, size_t len, int flags);
  /*
   Receives into the program's message, unchanged. Owned.
   */
  ptrdiff_t (*recvmsg)(usk_owned_t *o, usk_recvmsg_t *msg);
  /*
   poll(2)'s bits of the protocol below. One that is told "not writable" wakes when that changes. Owned.
   */
  uint32_t (*poll)(usk_owned_t *o);
  /*
   Gives a segment to the protocol below: what backlog_rcv was given. Takes `skb`, always. Owned.
   */
  int (*backlog_rcv)(usk_owned_t *o, usk_skb_t *skb);
  /*
   Ends the connection: a reset to the peer, `err` (a positive errno) as the pending error (SO_ERROR), everybody
   awake. -ENOENT: it is closed. Owned.
   */
  int (*abort)(usk_owned_t *o, int err);
  /*
   setsockopt(2) of the protocol below. Not owned: -EDEADLK where the caller owns the sock.
   */
  int (*setsockopt)(usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   getsockopt(2) of the protocol below: writes at most `len` bytes, returns how many. Not owned, as setsockopt.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   ioctl(2)'s socket requests of the protocol below, an int in `*value`. Not owned, as setsockopt.
   */
  int (*ioctl)(usk_sock_t *sk, unsigned long request, int *value);
} usk_below_ops;

/*
 A layer on one connection: what its operations get, at the same address until `release` returns. Of a newer library
 it may be longer than here.
 */
typedef struct usk_ulp_t {
  /*
   The connection's memory: data_size bytes, zero at first, aligned to 16. The layer's to read and write with the
   sock owned.
   */
  void *data;
  /*
   The registration, for usk_count, usk_sysctl and usk_user.
   */
  usk_reg_t *reg;
  /*
   The operations of the protocol below.
   */
  const struct usk_below_ops *below;
} usk_ulp_t;

/*
 An upper-layer protocol: what TCP_ULP puts on a connection by name, between the program's calls and TCP. Copied when
 registered; strings and lists too. A null operation is TCP's own.

 Operations that get usk_owned_t are called with the sock owned; contexts and return values are those of struct
 usk_proto. The layer reaches TCP by `ulp->below`. Operations may be called again from inside below->send and
 below->recv (packets that came meanwhile run there, through backlog_rcv) and while usk_wait sleeps (another thread's
 call): keep `ulp->data` whole across them. No exception of C++ and no panic of a Rust shared object may leave one:
 catch it and call usk_break; in `release`, just catch it.
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
   Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack, read
   by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
  /*
   Bytes of memory for each connection (usk_ulp_t.data), at most 65536.
   */
  uint32_t data_size;
  /*
   0.
   */
  uint32_t flags;
  /*
   Begins on a connection, or on a socket that is none yet. An error is setsockopt's; the connection is then
   without, and release is not called. Process context, owned. Null: succeeds.
   */
  int (*init)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   The last of a connection: it was removed or the connection is gone, and no operation runs any more. Frees what
   `ulp->data` points to, not `ulp->data` itself. Any context, perhaps with a sock owned: nothing of a stack may be
   called but usk_user and usk_count.
   */
  void (*release)(const usk_ulp_t *ulp);
  /*
   Begins on the child of a listener that has the protocol; `parent` is the listener's. An error leaves the child
   without. Either context, owned. Null: listeners cannot have it (TCP_ULP returns ENOTCONN, listen(2) EINVAL).
   */
  int (*clone)(usk_owned_t *child, const usk_ulp_t *ulp, const usk_ulp_t *parent);
  /*
   Sends: returns the bytes taken. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   */
  ptrdiff_t (*sendmsg)(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg);
  /*
   Receives: returns the bytes copied. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   SO_RCVLOWAT counts the program's bytes, so it is for this to obey (usk_rcvlowat): below, any byte wakes and is
   POLLIN.
   */
  ptrdiff_t (*recvmsg)(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg);
  /*
   poll(2)'s bits, what is true now; begins with below->poll. Process context, owned; must not sleep.
   */
  uint32_t (*poll)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   The last descriptor is closed: hands what it holds to below->force. TCP's close follows. Process context, not
   owned.
   */
  void (*close)(usk_sock_t *sk, const usk_ulp_t *ulp, int flags);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; hands what it holds to below->force. TCP's shutdown follows.
   Process context, owned.
   */
  void (*shutdown)(usk_owned_t *o, const usk_ulp_t *ulp, int how);
  /*
   Options of levels other than SOL_SOCKET; what is not its own goes to below->setsockopt. Process context, not
   owned.
   */
  int (*setsockopt)(usk_sock_t *sk,
                    const usk_ulp_t *ulp,
                    int level,
                    int name,
                    const void *value,
                    size_t len);
  /*
   As setsockopt: writes at most `len` bytes, returns how many; the rest goes to below->getsockopt.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk,
                          const usk_ulp_t *ulp,
                          int level,
                          int name,
                          void *value,
                          size_t len);
  /*
   SIOCINQ, SIOCOUTQ and others, an int in `*value`; what is not its own goes to below->ioctl. Process context, not
   owned.
   */
  int (*ioctl)(usk_sock_t *sk, const usk_ulp_t *ulp, unsigned long request, int *value);
  /*
   A segment for the connection: below->backlog_rcv, once, or usk_skb_free; afterwards there may be room to send,
   or data to look at. Softirq, or process context from the backlog; owned; must not sleep.
   */
  void (*backlog_rcv)(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb);
  /*
   TCP's timers and deferred work have run. Either context, owned; must not sleep.
   */
  void (*release_cb)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   usk_ulp_remove: 0, or -EBUSY while it holds bytes that are neither with the program nor with TCP. Not asked, and
   EBUSY, while an operation of the layer sleeps. Process context, owned. Null: it may always go.
   */
  int (*may_remove)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   The socket is to begin anew: connect(2) with AF_UNSPEC, shutdown(2) of a listener or of an attempt to connect,
   an attempt that failed. Forgets what it holds, which belongs to no connection any more; the protocol stays, for
   the next one. 0, and TCP's disconnect follows, or a negative errno, which refuses. Process context, owned. Null:
   nothing to forget.
   */
  int (*disconnect)(usk_owned_t *o, const usk_ulp_t *ulp);
} usk_ulp_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Registers an upper-layer protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
 registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
 fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out`
 is null or writable.
 */
int usk_ulp_register(usk_plugin_t *plugin,
                     const struct usk_ulp_ops *table,
                     void *user,
                     usk_reg_t **out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_ULP_H */

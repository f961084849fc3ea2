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
 The operations of the protocol below a layer: `ulp->below`, one table for all layers. The layer's operations call
 them, on the sock that they are called for. None is null. In a newer library the table may be longer: `size` is its
 length. Those that take usk_owned_t keep the sock owned, but release it while they wait; meanwhile operations of the
 layer may run. All return a negative errno on failure: -EINVAL if the layer has been removed.
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
   As send with MSG_DONTWAIT, but not limited by SO_SNDBUF: for the bytes that a layer holds when the program shuts
   down or closes. Allowed in those two operations. Takes less than `len` only if the protocol has no memory left.
   Owned.
   */
  ptrdiff_t (*force)(usk_owned_t *o, const void *data, size_t len);
  /*
   Sends the program's message, or the rest of it, unchanged. Owned.
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
   poll(2)'s bits of the protocol below. If they lack POLLOUT, waiters are woken when the sock becomes writable.
   Owned.
   */
  uint32_t (*poll)(usk_owned_t *o);
  /*
   Passes the segment of backlog_rcv to the protocol below. Always consumes `skb`. Owned.
   */
  int (*backlog_rcv)(usk_owned_t *o, usk_skb_t *skb);
  /*
   Aborts the connection: sends a reset, sets `err` (a positive errno) as the pending error (SO_ERROR), wakes all
   waiters. -ENOENT: it is closed. Owned.
   */
  int (*abort)(usk_owned_t *o, int err);
  /*
   setsockopt(2) of the protocol below. Not owned: -EDEADLK if the caller owns the sock.
   */
  int (*setsockopt)(usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   getsockopt(2) of the protocol below: writes at most `len` bytes, returns how many. Not owned, as setsockopt.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   ioctl(2)'s socket requests of the protocol below; the result is the int `*value`. Not owned, as setsockopt.
   */
  int (*ioctl)(usk_sock_t *sk, unsigned long request, int *value);
} usk_below_ops;

/*
 A layer on one connection: the argument of its operations, at the same address until `release` returns. In a newer
 library it may be longer.
 */
typedef struct usk_ulp_t {
  /*
   The layer's memory of the connection: data_size bytes, initially zero, aligned to 16. To be accessed with the
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
 An upper-layer protocol: TCP_ULP installs it on a connection by name, between the program's calls and TCP.
 Registering copies it, with its strings and lists. A null operation means TCP's own.

 Operations that get usk_owned_t are called with the sock owned; contexts and return values are those of struct
 usk_proto. The layer reaches TCP by `ulp->below`. Operations may be called while another one is inside below->send
 or below->recv (which process the backlog, through backlog_rcv) or sleeps in usk_wait (another thread's call):
 `ulp->data` must be consistent during these calls. No C++ exception and no panic of a Rust shared object may leave
 an operation: catch it and call usk_break; in `release` only catch it.
 */
typedef struct usk_ulp_ops {
  /*
   USK_ULP_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_ulp_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters without dot, as TCP_ULP takes it; unique in a stack. Required.
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
   Bytes of memory for each connection (usk_ulp_t.data), at most 65536.
   */
  uint32_t data_size;
  /*
   0.
   */
  uint32_t flags;
  /*
   Installs the layer on a connection, or on a socket that is not connected yet. On an error setsockopt returns it,
   the layer is not installed, and release is not called. Process context, owned. Null: succeeds.
   */
  int (*init)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   Called last: the layer was removed or the connection is gone, and no operation runs any more. Frees what
   `ulp->data` refers to, not `ulp->data` itself. Any context, perhaps with a sock owned: of the library only
   usk_user and usk_count may be called.
   */
  void (*release)(const usk_ulp_t *ulp);
  /*
   Installs the layer on the child of a listener that has it; `parent` is the listener's. On an error the child has
   no layer. Either context, owned. Null: listeners cannot have the layer (TCP_ULP returns ENOTCONN, listen(2)
   EINVAL).
   */
  int (*clone)(usk_owned_t *child, const usk_ulp_t *ulp, const usk_ulp_t *parent);
  /*
   Sends: returns the bytes consumed. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   */
  ptrdiff_t (*sendmsg)(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg);
  /*
   Receives: returns the bytes copied. Process context, owned; may sleep in usk_wait unless MSG_DONTWAIT is set.
   SO_RCVLOWAT counts the bytes that the program receives, so this operation applies it (usk_rcvlowat): in TCP
   below, any byte wakes the reader and sets POLLIN.
   */
  ptrdiff_t (*recvmsg)(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg);
  /*
   The present poll(2) bits; it starts from below->poll. Process context, owned; must not sleep.
   */
  uint32_t (*poll)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   The last descriptor is closed: passes the bytes that it holds to below->force. TCP's close follows. Process
   context, not owned.
   */
  void (*close)(usk_sock_t *sk, const usk_ulp_t *ulp, int flags);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; passes the bytes that it holds to below->force. TCP's shutdown
   follows. Process context, owned.
   */
  void (*shutdown)(usk_owned_t *o, const usk_ulp_t *ulp, int how);
  /*
   Options of levels other than SOL_SOCKET; passes options that it does not know to below->setsockopt. Process
   context, not owned.
   */
  int (*setsockopt)(usk_sock_t *sk,
                    const usk_ulp_t *ulp,
                    int level,
                    int name,
                    const void *value,
                    size_t len);
  /*
   As setsockopt: writes at most `len` bytes, returns how many; passes other options to below->getsockopt.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk,
                          const usk_ulp_t *ulp,
                          int level,
                          int name,
                          void *value,
                          size_t len);
  /*
   SIOCINQ, SIOCOUTQ and others; the result is the int `*value`. Passes requests that it does not know to
   below->ioctl. Process context, not owned.
   */
  int (*ioctl)(usk_sock_t *sk, const usk_ulp_t *ulp, unsigned long request, int *value);
  /*
   A segment for the connection: calls below->backlog_rcv once, or usk_skb_free; after it there may be room to
   send, or received data. Softirq, or process context from the backlog; owned; must not sleep.
   */
  void (*backlog_rcv)(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb);
  /*
   TCP's timers and deferred work have run. Either context, owned; must not sleep.
   */
  void (*release_cb)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   usk_ulp_remove asks whether the layer may be removed: 0, or -EBUSY while it holds bytes that neither the program
   nor TCP has. While an operation of the layer sleeps, this is not called and the result is EBUSY. Process
   context, owned. Null: it may always be removed.
   */
  int (*may_remove)(usk_owned_t *o, const usk_ulp_t *ulp);
  /*
   The socket is disconnected: by connect(2) with AF_UNSPEC, by shutdown(2) of a listener or of a connection
   attempt, or because the attempt failed. Discards the bytes that it holds; the layer stays, for the next
   connection. Returns 0, and TCP's disconnect follows, or a negative errno, and the call fails. Process context,
   owned. Null: no action.
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
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_ulp_register(usk_plugin_t *plugin,
                     const struct usk_ulp_ops *table,
                     void *user,
                     usk_reg_t **out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_ULP_H */

/* usersock for plug-ins: transport protocols over a UDP port, struct usk_udp_ops, or over socks of other protocols,
 * struct usk_inner_ops. MIT OR Apache-2.0. */

#ifndef USERSOCK_OVER_H
#define USERSOCK_OVER_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "ip.h"

/*
 `version` of struct usk_inner_ops.
 */
#define USK_INNER_VERSION 1

/*
 `version` of struct usk_udp_ops.
 */
#define USK_UDP_VERSION 1

/*
 usk_udp_ops.flags: other ports, and sockets of programs, may have this one too, if they are of the same kind
 (SO_REUSEPORT): a datagram goes to one of them, by its flow.
 */
#define USK_UDP_REUSEPORT 1

/*
 usk_udp_ops.flags: a port of AF_INET6 takes no datagrams of IPv4 (IPV6_V6ONLY).
 */
#define USK_UDP_V6ONLY 2

/*
 A UDP port of a registration, made by usk_udp_open. Valid until usk_udp_close, or as long as the registration's
 handle: also in a function of its table that still runs when usk_unregister has ended it. The port is closed then:
 calls on it return -EINVAL, usk_udp_close -ENOENT, and usk_udp_reg and usk_udp_user what they did before.
 */
typedef struct usk_udp_t usk_udp_t;

/*
 What an inner sock tells (sk_data_ready, sk_write_space, sk_state_change). usk_inner_open copies it. The functions
 are called in softirq context, before the system call returns that caused it or soon after, by whatever thread,
 perhaps by several at a time, and with no sock owned:
 they may wake the outer sock (usk_wake) and defer work to its release_cb (usk_defer), which then
 receives and sends, and may look at the inner one (usk_sock_state). They must not sleep, nor lock a sock. They are
 edges: what they tell may be over by then, and one call may stand for several. A last one may still come while
 usk_inner_close runs on another thread. Null: not told. No C++ exception and no panic of a Rust shared object may
 leave them.
 */
typedef struct usk_inner_ops {
  /*
   USK_INNER_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_inner_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   There may be something to receive, or a connection to accept.
   */
  void (*data_ready)(usk_sock_t *outer, usk_sock_t *inner);
  /*
   There may be room to send, after a send that found none.
   */
  void (*write_space)(usk_sock_t *outer, usk_sock_t *inner);
  /*
   The state has changed, an error is pending (usk_sock_error), or the peer has ended.
   */
  void (*state_change)(usk_sock_t *outer, usk_sock_t *inner);
} usk_inner_ops;

/*
 What takes the datagrams of a UDP port. usk_udp_open copies it. Both are called in softirq context with no sock
 owned, perhaps on several threads at a time. No C++ exception and no panic of a Rust shared object may leave them.
 */
typedef struct usk_udp_ops {
  /*
   USK_UDP_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_udp_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   A datagram for the port, without its UDP header; its checksum has been verified. The function owns the packet:
   it finds the sock that it is for, and calls usk_deliver, or usk_drop. `info` has the ports in its two addresses,
   which usk_skb_info does not tell later. Required.
   */
  void (*encap_rcv)(usk_udp_t *udp, usk_skb_t *skb, const usk_packet_info_t *info);
  /*
   An ICMP error about a datagram that was sent from the port, with the ports in its addresses. What it says of the
   path's MTU is known already (usk_udp_mtu). Routers quote few bytes, perhaps none behind the UDP header; who
   knows the ports can forge such an error. usk_icmp_report tells a sock of it. Null: ignored.
   */
  void (*encap_err)(usk_udp_t *udp, const usk_icmp_error_t *error);
  /*
   USK_UDP_...: what a socket is told before it is bound.
   */
  uint32_t flags;
  /*
   The only interface by which datagrams come and go (SO_BINDTOIFINDEX); 0: any.
   */
  uint32_t ifindex;
} usk_udp_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Makes an inner sock: a sock of another protocol, as socket(2) would (AF_INET or AF_INET6, SOCK_STREAM ..., a
 protocol's number or 0), which belongs to the owned sock and has no descriptor (sock_create_kern). It has buffers,
 options and memory accounts of its own. Calls on it take the outer sock, owned, and never wait; what happens at it
 `ops` tells (null: nothing does). The handle is valid until usk_inner_close, or the end of the outer sock: what is
 still open after its destroy the library closes, and counts in PluginInnerSocksLeft (usk_mib_read). The order of
 locks is outer, then inner: whoever owns an inner sock and locks its outer one gets -EDEADLK. Returns 0;
 -EAFNOSUPPORT, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -EINVAL as of socket(2); -EINVAL also: the outer sock is
 finished, or of a protocol that is not written in C; and what the protocol's init returns.
 Requires: `o` is owned; `ops` is null, or points to as many bytes as its size says; `inner` is writable.
 */
int usk_inner_open(usk_owned_t *o,
                   int family,
                   int socket_type,
                   int protocol,
                   const struct usk_inner_ops *ops,
                   usk_sock_t **inner);

/*
 Closes an inner sock, as close(2) of a descriptor that does not wait: a connection of TCP ends in the background.
 -EINVAL: it is not one of the owned sock's; -EDEADLK: the caller owns it.
 Requires: `o` is owned.
 */
int usk_inner_close(usk_owned_t *o,
                    usk_sock_t *inner);

/*
 bind(2) of an inner sock. Errors as of bind(2), and as usk_inner_close.
 Requires: `o` is owned; `addr` is readable.
 */
int usk_inner_bind(usk_owned_t *o, usk_sock_t *inner, const usk_addr_t *addr);

/*
 connect(2) of an inner sock; null dissolves the association. A connection is under way by -EINPROGRESS: then
 state_change tells when it is over, the state (usk_sock_state) is TCP_ESTABLISHED, or the error is pending
 (usk_sock_error). Errors as of connect(2), and as usk_inner_close.
 Requires: `o` is owned; `to` is null or readable.
 */
int usk_inner_connect(usk_owned_t *o,
                      usk_sock_t *inner,
                      const usk_addr_t *to);

/*
 listen(2) of an inner sock. data_ready tells of connections. Errors as of listen(2), and as usk_inner_close.
 Requires: `o` is owned.
 */
int usk_inner_listen(usk_owned_t *o,
                     usk_sock_t *inner,
                     int backlog);

/*
 Takes a connection of an inner listener (kernel_accept). It becomes an inner sock of `to`: of a child of `o`'s from
 usk_new_child, which is owned as well, or of `o` itself. `ops` tell of it; what it has received already they tell
 too. -EAGAIN: there is none; -EINVAL also: `to` is of another registration; other errors as of accept(2), and as
 usk_inner_close.
 Requires: `o` and `to` are owned; `ops` is null, or points to as many bytes as its size says; `connection` is writable.
 */
int usk_inner_accept(usk_owned_t *o,
                     usk_sock_t *inner,
                     usk_owned_t *to,
                     const struct usk_inner_ops *ops,
                     usk_sock_t **connection);

/*
 send(2) or sendto(2) on an inner sock: returns the bytes consumed. `to` null: to its peer. -EAGAIN: there is no room
 now, and write_space tells when there is some; -EPIPE; other errors as of send(2), and as usk_inner_close.
 Requires: `o` is owned; `data` is readable for `len` bytes; `to` is null or readable.
 */
ptrdiff_t usk_inner_send(usk_owned_t *o,
                         usk_sock_t *inner,
                         const void *data,
                         size_t len,
                         int flags,
                         const usk_addr_t *to);

/*
 recv(2) or recvfrom(2) on an inner sock: returns the bytes copied, with MSG_TRUNC given the length of the datagram,
 0 at the end of a stream. `from`, unless null, gets the sender of a datagram, of family 0 if there is none. -EAGAIN:
 there is nothing now, and data_ready tells when there is something; other errors as of recv(2), and as
 usk_inner_close.
 Requires: `o` is owned; `data` is writable for `len` bytes; `from` is null or writable.
 */
ptrdiff_t usk_inner_recv(usk_owned_t *o,
                         usk_sock_t *inner,
                         void *data,
                         size_t len,
                         int flags,
                         usk_addr_t *from);

/*
 The present poll(2) bits of an inner sock; 0 also where the other calls fail.
 Requires: `o` is owned.
 */
uint32_t usk_inner_poll(usk_owned_t *o, usk_sock_t *inner);

/*
 shutdown(2) of an inner sock: SHUT_RD, SHUT_WR or SHUT_RDWR. Errors as of shutdown(2), and as usk_inner_close.
 Requires: `o` is owned.
 */
int usk_inner_shutdown(usk_owned_t *o,
                       usk_sock_t *inner,
                       int how);

/*
 setsockopt(2) of an inner sock. Errors as of setsockopt(2), and as usk_inner_close.
 Requires: `o` is owned; `value` is readable for `len` bytes.
 */
int usk_inner_setsockopt(usk_owned_t *o,
                         usk_sock_t *inner,
                         int level,
                         int name,
                         const void *value,
                         size_t len);

/*
 getsockopt(2) of an inner sock: writes at most `len` bytes, returns how many. Errors as of getsockopt(2), and as
 usk_inner_close.
 Requires: `o` is owned; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_inner_getsockopt(usk_owned_t *o,
                               usk_sock_t *inner,
                               int level,
                               int name,
                               void *value,
                               size_t len);

/*
 The names of an inner sock, as of getsockname(2) and getpeername(2). Either pointer may be null. -ENOTCONN: `peer`
 is not null, and there is no peer; other errors as usk_inner_close.
 Requires: `o` is owned; `local` and `peer` are null or writable.
 */
int usk_inner_ends(usk_owned_t *o,
                   usk_sock_t *inner,
                   usk_addr_t *local,
                   usk_addr_t *peer);

/*
 Opens a UDP port for a registration of any kind: a UDP sock of the stack, in its lists like a program's, whose
 datagrams go to `ops` (udp_sock_create, setup_udp_tunnel_sock). `local`: the address to bind to, unspecified for any
 (AF_INET6's takes datagrams of both families), and the port, 0 for any free one. `user` is for usk_udp_user. The
 port is closed by usk_udp_close, or when the registration ends, and does not keep it in use. -EADDRINUSE,
 -EADDRNOTAVAIL; -EAFNOSUPPORT; -EPROTONOSUPPORT or -ESOCKTNOSUPPORT: the stack has no UDP; -EINVAL: the table does
 not fit (usk_config_error says why), or the registration has ended.
 Requires: `reg` is valid; `local` is readable; `ops` points to as many bytes as its size says; `out` is writable.
 */
int usk_udp_open(usk_reg_t *reg,
                 const usk_addr_t *local,
                 const struct usk_udp_ops *ops,
                 void *user,
                 usk_udp_t **out);

/*
 Sets an option of the port, as setsockopt(2) of a UDP socket (sk_setsockopt, ip_mc_join_group): memberships and
 filters of groups, how datagrams to groups are sent, IP_TOS and IP_TTL, IP_MTU_DISCOVER, SO_SNDBUF, SO_MARK,
 SO_BROADCAST, SO_BINDTODEVICE. -ENOPROTOOPT: also for what only a program that receives has a use for; other errors
 as of setsockopt(2); -EINVAL also: the port is closed. In any context, with no UDP port's sock owned.
 Requires: `udp` is valid; `value` is readable for `len` bytes.
 */
int usk_udp_setsockopt(usk_udp_t *udp,
                       int level,
                       int name,
                       const void *value,
                       size_t len);

/*
 Reads an option of the port, as getsockopt(2) of a UDP socket: writes at most `len` bytes, returns how many. Errors
 as of getsockopt(2); -EINVAL also: the port is closed.
 Requires: `udp` is valid; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_udp_getsockopt(usk_udp_t *udp,
                             int level,
                             int name,
                             void *value,
                             size_t len);

/*
 Closes a UDP port (udp_tunnel_sock_release). A function of its table that runs on another thread ends as usual.
 Neither it nor one of its socks may be owned by the caller, but a sock of the protocol may. Returns 0; -ENOENT: it
 was closed with its registration; -EINVAL: the stack has ended.
 Requires: `udp` is valid, and not used afterwards.
 */
int usk_udp_close(usk_udp_t *udp);

/*
 Sends a packet as a datagram from the port to `to`: UDP header with checksum, route, IP header, fragments
 (udp_tunnel_xmit_skb). It begins with the plug-in's own header. `tx`: what it decides for this packet
 (usk_xmit_info), and `size` its sizeof; null and 0: nothing. What `tx` leaves open is the port's: options and
 address of the sock that sends do not count, nor do the control messages of its call. Never waits: the packet is
 charged to the port's own sock until the device has completed it. In any context; any sock may be owned, but that of
 a UDP port. Always consumes `skb`. Returns 0; -EINVAL: port 0, or as usk_xmit_info, or it is a super-packet, or its
 checksum is left open; -EMSGSIZE: longer than a datagram may be, or with USK_TX_DF than the path's MTU; -ENOBUFS:
 the send buffer or the device's queue is full, or a device's xmit sends by a port that is sending (treat it as a
 loss); -ENETUNREACH, -EACCES.
 Requires: `udp` is valid; `skb` is the caller's, and not used afterwards; `to` is readable; `tx` is null or readable
 for `size` bytes.
 */
int usk_udp_send(usk_udp_t *udp,
                 usk_skb_t *skb,
                 const usk_addr_t *to,
                 const usk_tx_info_t *tx,
                 size_t size);

/*
 How many bytes a datagram from the port to `to` may have without being fragmented, by the path's MTU. -ENETUNREACH.
 Requires: `udp` is valid; `to` is readable.
 */
int usk_udp_mtu(usk_udp_t *udp,
                const usk_addr_t *to);

/*
 The source of datagrams from the port to `to`: the address that it is bound to, or the preferred one of the route,
 and the port. `to` null: the address and port that it is bound to. -ENETUNREACH.
 Requires: `udp` is valid; `to` is null or readable; `from` is writable.
 */
int usk_udp_source(usk_udp_t *udp,
                   const usk_addr_t *to,
                   usk_addr_t *from);

/*
 The registration that has opened the port.
 Requires: `udp` is valid.
 */
usk_reg_t *usk_udp_reg(usk_udp_t *udp);

/*
 The pointer that usk_udp_open was given.
 Requires: `udp` is valid.
 */
void *usk_udp_user(usk_udp_t *udp);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_OVER_H */

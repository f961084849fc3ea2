/* usersock for plug-ins: transport protocols, struct usk_proto. MIT OR Apache-2.0. */

#ifndef USERSOCK_PROTO_H
#define USERSOCK_PROTO_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

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
 What IP knows of a packet, for rcv.
 */
typedef struct usk_packet_info_t {
  /*
   Where it came from; port 0.
   */
  usk_addr_t src;
  /*
   Where it went; port 0.
   */
  usk_addr_t dst;
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
 An ICMP error that quotes a packet of the protocol, for err.
 */
typedef struct usk_icmp_error_t {
  /*
   Source of the quoted packet: ours.
   */
  usk_addr_t src;
  /*
   Its destination.
   */
  usk_addr_t dst;
  /*
   Who reports.
   */
  usk_addr_t reporter;
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
 Copied when it is registered; strings and lists too. Of the kernel's operations, rehash is hash, called again;
 sock_is_readable is poll_locked; psock_update_sk_prot is update_proto; bind_add and compat_ioctl serve the kernel
 alone.

 Contexts. *Process*: a thread in a system call; may sleep in usk_wait. *Softirq*: packet and timer work; never
 sleeps. *Owned*: the operation is given usk_owned_t and must not lock the sock. *Not owned*: it is given usk_sock_t
 and locks by itself. An operation must not make the POSIX-shaped calls (usk_send ...) on its own socket.

 Return values. An int is 0 or a negative errno, a length is 0 or more or a negative errno. Anything else, and a
 length beyond what was offered, breaks the socket, which then returns EIO until it is closed; so does an operation
 that returns without releasing what it locked. The stack and other sockets go on.

 Exceptions. No exception of C++ and no panic of a Rust shared object may leave an operation: it would end the
 process. What catches one calls usk_break; what it has locked need not be released. The operations without a sock
 have none to break, and only catch: rcv and err lose the packet (it is theirs to free), the others return as if they
 were null.
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
   Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack, read
   by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
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
   A sock exists: fill usk_private. Process context (softirq for a child), owned. Null: nothing to do.
   */
  int (*init)(usk_owned_t *o);
  /*
   Last work, from usk_done or when init failed: free what usk_private points to. Either context, owned. Null:
   nothing.
   */
  void (*destroy)(usk_owned_t *o);
  /*
   The last descriptor is closed, or the listener of a connection nobody accepted. Ends, now or after a protocol's
   farewell, with usk_done. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process context, not owned. Null:
   unhash and usk_done.
   */
  void (*close)(usk_sock_t *sk, int flags);
  /*
   A look at the address before connect. Process context, owned. Null: accepted.
   */
  int (*pre_connect)(usk_owned_t *o, const usk_addr_t *to);
  /*
   Starts a connection, or sets a datagram socket's peer; does not wait. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*connect)(usk_owned_t *o, const usk_addr_t *to);
  /*
   Back to unconnected, or from listening to closed. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*disconnect)(usk_owned_t *o);
  /*
   Starts listening (usk_listen_start), or changes the backlog. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*listen)(usk_owned_t *o, uint32_t backlog);
  /*
   Takes a finished connection, held, waiting unless `nonblock`; or null with a negative errno in `*err`.
   usk_accept_wait is one. Process context, not owned. Null: EOPNOTSUPP.
   */
  usk_sock_t *(*accept)(usk_sock_t *sk, int nonblock, int *err);
  /*
   SIOCINQ, SIOCOUTQ and its own requests, returning an int in `*value`. Process context, not owned. Null: ENOTTY.
   */
  int (*ioctl)(usk_sock_t *sk, unsigned long request, int *value);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; usk_sock_shutdown says it already. Process context, owned. Null:
   nothing more.
   */
  void (*shutdown)(usk_owned_t *o, int how);
  /*
   Options of levels other than SOL_SOCKET. Process context, not owned. Null: those of the IP levels.
   */
  int (*setsockopt)(usk_sock_t *sk, int level, int name, const void *value, size_t len);
  /*
   As setsockopt: writes at most `len` bytes, returns how many.
   */
  ptrdiff_t (*getsockopt)(usk_sock_t *sk, int level, int name, void *value, size_t len);
  /*
   Options that go past a layer, straight to getsockopt here: 1 (bpf_bypass_getsockopt). Null: none.
   */
  int (*bypass_getsockopt)(int level, int name);
  /*
   SO_KEEPALIVE is set to `on`; usk_sock_info tells what it was before. Process context, owned. Null: nothing.
   */
  void (*keepalive)(usk_owned_t *o, int on);
  /*
   Sends: returns the bytes taken. Process context, not owned. Null: sendmsg_locked, with the sock owned for it;
   one of the two is required.
   */
  ptrdiff_t (*sendmsg)(usk_sock_t *sk, usk_sendmsg_t *msg);
  /*
   Receives: returns the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context, not
   owned. Null: recvmsg_locked, with the sock owned for it; one of the two is required.
   */
  ptrdiff_t (*recvmsg)(usk_sock_t *sk, usk_recvmsg_t *msg);
  /*
   sendfile(2) and splice(2): sends bytes that are in memory already. Process context, not owned. Null: through
   sendmsg.
   */
  ptrdiff_t (*sendpage)(usk_sock_t *sk, const void *data, size_t len, int flags);
  /*
   poll(2)'s bits, what is true now. Process context, not owned. Null: poll_locked; null too: readable while the
   receive queue holds something, an error waits or the peer has ended, writable below the send buffer
   (datagram_poll).
   */
  uint32_t (*poll)(usk_sock_t *sk);
  /*
   A packet for the sock, from usk_deliver; the operation's to queue or free. Softirq, or process context from the
   backlog; owned; must not sleep. Required with rcv.
   */
  void (*backlog_rcv)(usk_owned_t *o, usk_skb_t *skb);
  /*
   Timers that fired (bit n: timer n), and what usk_defer asked for. Either context, owned. Null: nothing.
   */
  void (*release_cb)(usk_owned_t *o, uint32_t bits);
  /*
   Enters the sock's ends into the tables. Owned. Null: usk_hash.
   */
  int (*hash)(usk_owned_t *o);
  /*
   Takes it out. Owned. Null: usk_unhash.
   */
  void (*unhash)(usk_owned_t *o);
  /*
   bind(2) to a port, 0: any. Owned. Null: usk_get_port.
   */
  int (*get_port)(usk_owned_t *o, uint16_t port);
  /*
   Gives the port back, when the sock ends with one. Owned. Null: usk_unhash.
   */
  void (*put_port)(usk_owned_t *o);
  /*
   Whether an upper layer may take the sock over, or (`restore`) leave it (psock_update_sk_prot). Owned. Null:
   EOPNOTSUPP.
   */
  int (*update_proto)(usk_owned_t *o, int restore);
  /*
   The protocol's memory passes its second limit; returns below its first. Any context, no sock owned that is
   known. Null: nothing beyond the accounts.
   */
  void (*enter_memory_pressure)(usk_reg_t *reg);
  /*
   See enter_memory_pressure.
   */
  void (*leave_memory_pressure)(usk_reg_t *reg);
  /*
   Whether more may be queued for sending, beside the send buffer's own limit; `priv` is usk_private's. Asked by
   poll where poll and poll_locked are null. Owned. Null: yes.
   */
  int (*stream_memory_free)(const void *priv, int wake);
  /*
   Limits of all its socks' memory, pages of 4096 bytes: no pressure below the first, pressure above the second,
   refusal above the third (sysctl_mem). Any context. Null, or a return value other than 0: none.
   */
  int (*sysctl_mem)(usk_reg_t *reg, int64_t *limits);
  /*
   Least, first and greatest send buffer, bytes (sysctl_wmem). Null: net.core.wmem_default.
   */
  int (*sysctl_wmem)(usk_reg_t *reg, int *sizes);
  /*
   The same of receive buffers (sysctl_rmem).
   */
  int (*sysctl_rmem)(usk_reg_t *reg, int *sizes);
  /*
   Ends the socket from outside with a positive errno (usk_destroy, diag_destroy): report it (usk_error_report),
   tell the peer, leave the sock as after disconnect. Process context, not owned. Null: EOPNOTSUPP.
   */
  int (*diag_destroy)(usk_sock_t *sk, int err);
  /*
   A packet of the IP protocol number, IP header off: verify it, find its sock (usk_proto_lookup), usk_deliver it;
   or usk_drop. The operation's to give on or free. Softirq, no sock owned. Null: the protocol receives nothing.
   */
  void (*rcv)(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info);
  /*
   An ICMP error about a packet of the protocol. Softirq, no sock owned. Null: ignored.
   */
  void (*err)(usk_reg_t *reg, const usk_icmp_error_t *error);
  /*
   As sendmsg, on a sock that is owned: for an upper layer, which works while it owns it, and in place of a null
   sendmsg: what a protocol does that owns the sock from the first line to the last is simplest said, and done
   fastest, so. It may sleep in usk_wait unless MSG_DONTWAIT is set. Process context, owned. Null: an upper layer
   gets EOPNOTSUPP.
   */
  ptrdiff_t (*sendmsg_locked)(usk_owned_t *o, usk_sendmsg_t *msg);
  /*
   As recvmsg, in the same way.
   */
  ptrdiff_t (*recvmsg_locked)(usk_owned_t *o, usk_recvmsg_t *msg);
  /*
   As poll, on a sock that is owned; does not sleep. Null: what the sock's queues say (datagram_poll).
   */
  uint32_t (*poll_locked)(usk_owned_t *o);
  /*
   bind(2), where that is more than an address and a port; `addr` is of the sock's family. Process context, owned.
   Null: usk_inet_bind.
   */
  int (*bind)(usk_owned_t *o, const usk_addr_t *addr);
  /*
   A sendfile or splice ended with its file, after bytes that had MSG_MORE: what waits for more goes now. Process
   context, not owned. Null: nothing waits.
   */
  void (*splice_eof)(usk_sock_t *sk);
} usk_proto;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Routes the sock to `to`, and sets what is open of its ends: peer, source address. The state becomes TCP_ESTABLISHED
 (1), as of a connected datagram socket: set another after it. For the connect operation. -ENETUNREACH, -EACCES
 (broadcast), -EINVAL ...
 Requires: `o` is owned; `to` is readable.
 */
int usk_route_connect(usk_owned_t *o,
                      const usk_addr_t *to);

/*
 Dissolves the association: no peer, state TCP_CLOSE (7). A port that bind(2) named stays; another is given back, and
 the sock is not bound any more (__udp_disconnect).
 Requires: `o` is owned.
 */
int usk_route_disconnect(usk_owned_t *o);

/*
 Where packets to `to` leave from: the sock's own address, or the one the route prefers, and its port. -ENETUNREACH,
 -EACCES ...
 Requires: `o` is owned; `to` is readable; `from` is writable.
 */
int usk_source(usk_owned_t *o,
               const usk_addr_t *to,
               usk_addr_t *from);

/*
 Bytes of transport header and payload that fit in one IP packet to the peer: the path MTU without the IP header.
 -ENOTCONN without a peer; -ENETUNREACH.
 Requires: `o` is owned.
 */
int usk_path_mtu(usk_owned_t *o);

/*
 A router on the way to the peer reports that only IP packets of `mtu` bytes pass (inet_csk_update_pmtu): for an ICMP
 error whose quoted packet is surely the sock's. Returns usk_path_mtu as it is now.
 Requires: `o` is owned.
 */
int usk_update_pmtu(usk_owned_t *o,
                    uint32_t mtu);

/*
 Sends a packet, which begins with the protocol's header, its checksum complete, to `to`, or to the peer where that
 is null: route, IP header, fragments where the socket lets them be, device (ip_queue_xmit). The sock is charged
 while a device has it. Takes `skb`, always. Returns 0; -ENOTCONN, -ENETUNREACH, -EMSGSIZE (longer than the path, and
 not to be cut), -ENOBUFS (the device's queue is full: a loss like any other), -EAFNOSUPPORT.
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable.
 */
int usk_xmit(usk_owned_t *o,
             usk_skb_t *skb,
             const usk_addr_t *to);

/*
 Answers a packet without a sock: sends `skb`, which begins with the protocol's header, back to where the packet that
 `info` describes came from, from the address it was sent to (ip_send_unicast_reply). Takes `skb`, always. Packet
 context.
 Requires: `reg` is a registered protocol; `info` is readable; `skb` is the caller's, and not used afterwards.
 */
int usk_reply(usk_reg_t *reg,
              const usk_packet_info_t *info,
              usk_skb_t *skb);

/*
 setsockopt(2) of the IP levels (IPPROTO_IP, IPPROTO_IPV6), for the setsockopt operation. -ENOPROTOOPT for another.
 Requires: `o` is owned; `value` is readable for `len` bytes.
 */
int usk_ip_setsockopt(usk_owned_t *o,
                      int level,
                      int name,
                      const void *value,
                      size_t len);

/*
 getsockopt(2) of the IP levels: writes at most `len` bytes, returns how many. -ENOPROTOOPT for another.
 Requires: `o` is owned; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_ip_getsockopt(usk_owned_t *o,
                            int level,
                            int name,
                            void *value,
                            size_t len);

/*
 The ones-complement sum (RFC 1071) of bytes, added to `sum`: for usk_csum_fold. Pieces of even length can be summed
 one after the other (csum_partial).
 Requires: `data` is readable for `len` bytes.
 */
uint32_t usk_csum(const void *data,
                  size_t len,
                  uint32_t sum);

/*
 The sum of the pseudo-header of a packet of `len` bytes between two addresses of one family (csum_tcpudp_nofold).
 Requires: both addresses are readable.
 */
uint32_t usk_csum_pseudo(const usk_addr_t *src,
                         const usk_addr_t *dst,
                         uint8_t protocol,
                         uint32_t len);

/*
 The 16 bits for a checksum field: big-endian value, to be stored high byte first. A packet whose own sum, field
 included, folds to 0 is right (csum_fold).
 */
uint32_t usk_csum_fold(uint32_t sum);

/*
 Takes a local port for the sock, 0 meaning any of net.ipv4.ip_local_port_range (inet_csk_get_port): what get_port
 does when the table leaves it null. Socks that are bound are found by usk_proto_lookup, connected ones by their peer
 first. -EADDRINUSE; -EINVAL: it has a port, or is finished.
 Requires: `o` is owned.
 */
int usk_get_port(usk_owned_t *o,
                 uint16_t port);

/*
 Binds the sock to an address and a port (inet_bind): what bind does when the table leaves it null, for a bind that
 does more. `addr` is of the sock's family. The port comes from get_port. -EINVAL: it is bound already;
 -EADDRNOTAVAIL, -EADDRINUSE, -EAFNOSUPPORT.
 Requires: `o` is owned; `addr` is readable.
 */
int usk_inet_bind(usk_owned_t *o,
                  const usk_addr_t *addr);

/*
 Brings the table up to date with the sock's addresses, after connect or usk_set_ends: what hash does when the table
 leaves it null. A child of a listener shares its port. -EADDRINUSE: there is a connection of the same ends. -EINVAL:
 a child without a peer, or a sock that is finished.
 Requires: `o` is owned.
 */
int usk_hash(usk_owned_t *o);

/*
 Takes the sock out of the table, and gives its port back: what unhash and put_port do when the table leaves them
 null.
 Requires: `o` is owned.
 */
int usk_unhash(usk_owned_t *o);

/*
 The sock for a packet that came from `remote` to `local`, held: a connected one, else the best bound or listening
 one. Null: none. Give it back with usk_sock_put. `ifindex`: the interface it came by.
 Requires: `reg` is a registered protocol; both addresses are readable.
 */
usk_sock_t *usk_proto_lookup(usk_reg_t *reg,
                             const usk_addr_t *local,
                             const usk_addr_t *remote,
                             uint32_t ifindex);

/*
 A new sock of a listener's protocol, held: the connection a packet asks for. Its init has run; the options of the
 listener's IP level and buffers are the child's too. Packet context. Null: init refused. Lock it, set its ends and
 state, usk_hash it, release it, give it to usk_accept_push, then usk_sock_put.
 Requires: `listener` is owned.
 */
usk_sock_t *usk_new_child(usk_owned_t *listener);

/*
 Gives a finished connection to accept(2), and wakes who waits for it. The handle stays the caller's. -ENOBUFS: the
 backlog is full; -EINVAL: it does not listen any more, or `child` is not of usk_new_child for this protocol. The
 caller ends the child then (usk_done).
 Requires: `listener` is owned; `child` is valid.
 */
int usk_accept_push(usk_owned_t *listener,
                    usk_sock_t *child);

/*
 Starts listening: state TCP_LISTEN, `backlog` connections may wait; binds to a port if it is not. For the listen
 operation. -EADDRINUSE: another sock that SO_REUSEADDR let have the port listens already (inet_csk_listen_start).
 Requires: `o` is owned.
 */
int usk_listen_start(usk_owned_t *o,
                     uint32_t backlog);

/*
 Stops listening: state TCP_CLOSE, connections nobody accepted are closed. The port stays the sock's. For the
 disconnect operation (inet_csk_listen_stop). -EINVAL: it is not listening.
 Requires: `o` is owned.
 */
int usk_listen_stop(usk_owned_t *o);

/*
 Waits for a connection that usk_accept_push gave, as accept(2) does (inet_csk_accept), unless `nonblock`. For the
 accept operation of a table. Process context. Returns the child held, or null with the negative errno in `*err`:
 -EINVAL not listening, -EAGAIN, -EINTR.
 Requires: `sk` is valid and not owned by the caller; `err` is writable.
 */
usk_sock_t *usk_accept_wait(usk_sock_t *sk,
                            int nonblock,
                            int *err);

/*
 The registration of the protocol that the sock belongs to, for usk_count and others; null for a protocol that is
 not from C.
 Requires: `o` is owned.
 */
usk_reg_t *usk_owned_reg(usk_owned_t *o);

/*
 The protocol's own memory of a sock: obj_size bytes, zero at first, aligned to 16; the same address as long as the
 sock lives.
 Requires: `o` is owned.
 */
void *usk_private(usk_owned_t *o);

/*
 Registers a protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the registration.
 Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit (version,
 size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or sysctl is
 taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out`
 is null or writable.
 */
int usk_proto_register(usk_plugin_t *plugin,
                       const struct usk_proto *table,
                       void *user,
                       usk_reg_t **out);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_PROTO_H */

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
 usk_proto.flags: the protocol has connections: connect(2) waits until the state is neither TCP_SYN_SENT nor
 TCP_SYN_RECV, and listen(2) and accept(2) work.
 */
#define USK_PROTO_CONNECTIONS 8

/*
 usk_proto.flags: sending does not bind a socket that is not bound (no_autobind).
 */
#define USK_PROTO_NO_AUTOBIND 16

/*
 usk_proto.flags: the protocol has no ports: bind(2) takes only an address. Without this flag a null get_port means
 usk_get_port.
 */
#define USK_PROTO_NO_PORTS 32

/*
 What diag_show fills: columns of one sock.
 */
typedef struct usk_diag_t usk_diag_t;

/*
 The IP header fields and other data of a packet, for rcv and encap_rcv.
 */
typedef struct usk_packet_info_t {
  /*
   Source address; port 0, but for encap_rcv.
   */
  usk_addr_t src;
  /*
   Destination address; port 0, but for encap_rcv.
   */
  usk_addr_t dst;
  /*
   Interface that received it.
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
   1: multicast or broadcast.
   */
  uint8_t not_unicast;
  /*
   Time of the softirq run, nanoseconds of the stack's clock.
   */
  uint64_t now;
} usk_packet_info_t;

/*
 An ICMP error that quotes a packet of the protocol, for err and encap_err.
 */
typedef struct usk_icmp_error_t {
  /*
   Source of the quoted packet, a local address.
   */
  usk_addr_t src;
  /*
   Destination of the quoted packet.
   */
  usk_addr_t dst;
  /*
   The host that sent the error.
   */
  usk_addr_t reporter;
  /*
   ICMP type (ICMPv6 if `src` is AF_INET6).
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
   The corresponding errno, positive.
   */
  int error;
  /*
   The MTU of "fragmentation needed" and "packet too big", else 0.
   */
  uint32_t info;
  /*
   Interface that received it.
   */
  uint32_t ifindex;
  /*
   The quoted bytes from the protocol's header on, at least 8; for encap_err from behind UDP's, and perhaps none.
   */
  const void *quoted;
  /*
   Number of quoted bytes.
   */
  size_t quoted_len;
} usk_icmp_error_t;

/*
 What diag_dump calls for each sock: `sk` is valid until it returns.
 */
typedef void (*usk_diag_each_t)(void *arg, usk_sock_t *sk);

/*
 A packet that a super-packet is cut into: the argument of segment.
 */
typedef struct usk_piece_t {
  /*
   Its header, to be made of what the super-packet has, which stands here.
   */
  void *header;
  /*
   Bytes of the header.
   */
  uint32_t header_len;
  /*
   Its number, from 0.
   */
  uint32_t index;
  /*
   Payload bytes in the pieces before it.
   */
  uint32_t offset;
  /*
   Its own payload bytes.
   */
  uint32_t len;
  /*
   1: no piece follows.
   */
  uint32_t last;
  /*
   What its checksum begins with, if that is left open (usk_skb_csum_partial): the sum of its pseudo-header. A
   protocol whose checksum begins with another sum writes it here.
   */
  uint32_t sum;
  /*
   Source address; port 0.
   */
  usk_addr_t src;
  /*
   Destination address; port 0.
   */
  usk_addr_t dst;
} usk_piece_t;

/*
 Two received packets that may become one: the argument of merge.
 */
typedef struct usk_merge_t {
  /*
   The header of the packet that came first, and of those that were merged into it: becomes that of all.
   */
  void *header;
  /*
   Bytes of the header; that of `next` is as long.
   */
  uint32_t header_len;
  /*
   Payload bytes behind it.
   */
  uint32_t held;
  /*
   The packet that follows, which begins with its header; not to be changed.
   */
  usk_skb_t *next;
  /*
   Source address of both; port 0.
   */
  usk_addr_t src;
  /*
   Destination address of both; port 0.
   */
  usk_addr_t dst;
} usk_merge_t;

/*
 A transport protocol: the operations of the kernel's struct proto, and the entry points of its IP protocol number.
 Registering copies it, with its strings and lists. Differences from struct proto: sock_is_readable is poll_locked;
 psock_update_sk_prot is update_proto; there is no bind_add and no compat_ioctl, which only the kernel needs.
 net_exit is struct pernet_operations' exit, and diag_dump struct inet_diag_handler's dump.

 Contexts. *Process*: a thread in a system call; may sleep in usk_wait. *Softirq*: packet and timer work; never
 sleeps. *Owned*: the operation is given usk_owned_t and must not lock the sock. *Not owned*: it is given usk_sock_t
 and locks by itself. An operation must not make the POSIX-shaped calls (usk_send ...) on its own socket.

 Return values. An int is 0 or a negative errno, a length is 0 or more or a negative errno. Any other value, and a
 length above the offered one, breaks the socket, and all calls on it return EIO until it is closed; so does an
 operation that returns without releasing what it locked. The stack and other sockets go on.

 Exceptions. No C++ exception and no panic of a Rust shared object may leave an operation: it would end the process.
 The code that catches one calls usk_break; it need not release what the operation has locked. Operations without a
 sock have none to break: rcv frees its packet and err ignores the error, the others return the value that their null
 stands for.
 */
typedef struct usk_proto {
  /*
   USK_PROTO_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_proto). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 31 bytes, unique in a stack; shown in listings, and in lower case part of the names of its sysctls.
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
   SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOCK_RAW ...: with `protocol`, the arguments of socket(2).
   */
  int socket_type;
  /*
   IP protocol number, 1 to 255; or a number from 256 to 65535 for socket(2) alone, as IPPROTO_MPTCP is: of a
   protocol that has no packets of IP, but sends and receives by inner socks or a UDP port (usk_inner_open,
   usk_udp_open). Its rcv and err are null, and usk_xmit, usk_xmit_info and usk_reply return -EOPNOTSUPP.
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
   Largest header that the protocol pushes, bytes; 0: as much as a new packet has room for.
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
   For listings: flags such as SLAB_TYPESAFE_BY_RCU. Socks are reference-counted, so 0.
   */
  uint32_t slab_flags;
  /*
   A sock was made: initializes usk_private. Process context (softirq for a child), owned. Null: no action.
   */
  int (*init)(usk_owned_t *o);
  /*
   Called last, by usk_done or when init failed: frees what usk_private points to. Either context, owned. Null: no
   action.
   */
  void (*destroy)(usk_owned_t *o);
  /*
   The last descriptor is closed, or the listener of a connection that was not accepted. The protocol calls
   usk_done, now or after its closing handshake. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process
   context, not owned. Null: unhash and usk_done.
   */
  void (*close)(usk_sock_t *sk, int flags);
  /*
   Checks the address before connect. Process context, owned. Null: accepted.
   */
  int (*pre_connect)(usk_owned_t *o, const usk_addr_t *to);
  /*
   Starts a connection, or sets a datagram socket's peer; does not wait. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*connect)(usk_owned_t *o, const usk_addr_t *to);
  /*
   Dissolves the association, or stops listening. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*disconnect)(usk_owned_t *o);
  /*
   Starts listening (usk_listen_start), or changes the backlog. Process context, owned. Null: EOPNOTSUPP.
   */
  int (*listen)(usk_owned_t *o, uint32_t backlog);
  /*
   Returns an established connection, held, and waits for one unless `nonblock`; or null with a negative errno in
   `*err`. usk_accept_wait can be used. Process context, not owned. Null: EOPNOTSUPP.
   */
  usk_sock_t *(*accept)(usk_sock_t *sk, int nonblock, int *err);
  /*
   SIOCINQ, SIOCOUTQ and the protocol's own requests; the result is the int `*value`. Process context, not owned.
   Null: ENOTTY.
   */
  int (*ioctl)(usk_sock_t *sk, unsigned long request, int *value);
  /*
   shutdown(2): bit 0 receiving, bit 1 sending; usk_sock_shutdown already includes them. Process context, owned.
   Null: no further action.
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
   Returns 1 for options that bypass a layer's getsockopt and go to this table's (bpf_bypass_getsockopt). Null:
   none.
   */
  int (*bypass_getsockopt)(int level, int name);
  /*
   SO_KEEPALIVE is set to `on`; usk_sock_info still has the previous value. Process context, owned. Null: no
   action.
   */
  void (*keepalive)(usk_owned_t *o, int on);
  /*
   Sends: returns the bytes consumed. Process context, not owned. Null: the sock is locked and sendmsg_locked is
   called; one of the two is required.
   */
  ptrdiff_t (*sendmsg)(usk_sock_t *sk, usk_sendmsg_t *msg);
  /*
   Receives: returns the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context, not
   owned. Null: the sock is locked and recvmsg_locked is called; one of the two is required.
   */
  ptrdiff_t (*recvmsg)(usk_sock_t *sk, usk_recvmsg_t *msg);
  /*
   sendfile(2) and splice(2): sends bytes of a file. Process context, not owned. Null: sendmsg is called.
   */
  ptrdiff_t (*sendpage)(usk_sock_t *sk, const void *data, size_t len, int flags);
  /*
   The present poll(2) bits. Process context, not owned. Null: poll_locked; if that is null too: readable while the
   receive queue is not empty, an error is pending or the peer has ended, writable while the send buffer has room
   (datagram_poll).
   */
  uint32_t (*poll)(usk_sock_t *sk);
  /*
   Processes a packet for the sock, from usk_deliver; the operation queues or frees it. Softirq, or process context
   from the backlog; owned; must not sleep. Required with rcv.
   */
  void (*backlog_rcv)(usk_owned_t *o, usk_skb_t *skb);
  /*
   Runs deferred work: timers that fired (bit n: timer n), and the bits of usk_defer. Either context, owned. Null:
   no action.
   */
  void (*release_cb)(usk_owned_t *o, uint32_t bits);
  /*
   Adds the sock to the tables under its addresses. Owned. Null: usk_hash.
   */
  int (*hash)(usk_owned_t *o);
  /*
   Removes the sock from the tables. Owned. Null: usk_unhash.
   */
  void (*unhash)(usk_owned_t *o);
  /*
   bind(2) to a port, 0: any. Owned. Null: usk_get_port.
   */
  int (*get_port)(usk_owned_t *o, uint16_t port);
  /*
   Releases the port of a sock that ends. Owned. Null: usk_unhash.
   */
  void (*put_port)(usk_owned_t *o);
  /*
   An upper layer takes the sock over, or (`restore`) leaves it (psock_update_sk_prot); an error refuses. Owned.
   Null: EOPNOTSUPP.
   */
  int (*update_proto)(usk_owned_t *o, int restore);
  /*
   The protocol's memory has exceeded its second limit (leave: fallen below its first). Any context; any sock may
   be owned. Null: no action beyond the accounting.
   */
  void (*enter_memory_pressure)(usk_reg_t *reg);
  /*
   See enter_memory_pressure.
   */
  void (*leave_memory_pressure)(usk_reg_t *reg);
  /*
   Whether more may be queued for sending, in addition to the limit of the send buffer; `priv` is usk_private's.
   poll calls it if poll and poll_locked are null. Owned. Null: yes.
   */
  int (*stream_memory_free)(const void *priv, int wake);
  /*
   Limits of the memory of all its socks, in pages of 4096 bytes: no pressure below the first, pressure above the
   second, hard limit at the third (sysctl_mem). Any context. Null, or a return value other than 0: no limits.
   */
  int (*sysctl_mem)(usk_reg_t *reg, int64_t *limits);
  /*
   Minimum, default and maximum size of the send buffer, bytes (sysctl_wmem). Null: net.core.wmem_default.
   */
  int (*sysctl_wmem)(usk_reg_t *reg, int *sizes);
  /*
   The same for receive buffers (sysctl_rmem).
   */
  int (*sysctl_rmem)(usk_reg_t *reg, int *sizes);
  /*
   Ends the socket from outside with a positive errno (usk_destroy, diag_destroy): report it (usk_error_report),
   tell the peer, leave the sock as after disconnect. Process context, not owned. Null: EOPNOTSUPP.
   */
  int (*diag_destroy)(usk_sock_t *sk, int err);
  /*
   Receives a packet of the IP protocol number, without IP header: verifies it, finds its sock (usk_proto_lookup)
   and calls usk_deliver; or calls usk_drop. The operation owns the packet. Softirq, no sock owned. Null: the
   protocol receives nothing.
   */
  void (*rcv)(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info);
  /*
   An ICMP error about a packet of the protocol. Softirq, no sock owned. Null: ignored.
   */
  void (*err)(usk_reg_t *reg, const usk_icmp_error_t *error);
  /*
   As sendmsg, on a sock that is owned: for an upper layer, which calls it with the sock owned, and in place of a
   null sendmsg. A protocol that owns the sock during the whole of sendmsg should have only this one: it is
   simpler, and faster. It may sleep in usk_wait unless MSG_DONTWAIT is set. Process context, owned. Null: an upper
   layer gets EOPNOTSUPP.
   */
  ptrdiff_t (*sendmsg_locked)(usk_owned_t *o, usk_sendmsg_t *msg);
  /*
   As recvmsg, in the same way.
   */
  ptrdiff_t (*recvmsg_locked)(usk_owned_t *o, usk_recvmsg_t *msg);
  /*
   As poll, on a sock that is owned; must not sleep. Null: the bits follow from the sock's queues (datagram_poll).
   */
  uint32_t (*poll_locked)(usk_owned_t *o);
  /*
   bind(2), if it does more than usk_inet_bind; `addr` is of the sock's family. Process context, owned. Null:
   usk_inet_bind.
   */
  int (*bind)(usk_owned_t *o, const usk_addr_t *addr);
  /*
   sendfile or splice reached the end of its file after bytes with MSG_MORE: sends data that waits for more.
   Process context, not owned. Null: no action.
   */
  void (*splice_eof)(usk_sock_t *sk);
  /*
   SO_BINDTODEVICE, SO_REUSEADDR or SO_REUSEPORT has changed: updates the sock in tables of the protocol's own.
   Owned. Null: the library's port table is updated.
   */
  void (*rehash)(usk_owned_t *o);
  /*
   The stack ends with the protocol registered in it: frees what the protocol keeps for the stack (usk_user). There
   is no sock any more, and calls that need the stack fail. Null: no action; the library empties its port table.
   */
  void (*net_exit)(usk_reg_t *reg);
  /*
   Lists socks for usk_sock_list: calls `each` with `arg` for each sock in the protocol's own tables. Process
   context; no sock is owned, and a lock of the protocol may be held. Null: those in the library's port table.
   */
  void (*diag_dump)(usk_reg_t *reg, usk_diag_each_t each, void *arg);
  /*
   Names of its drop reasons (usk_drop with USK_DROP_OWN + i), a null-terminated list; null: none. Capital letters,
   digits and underscores, unique in a stack and none of Linux's: TINY_NO_KEY.
   */
  const char *const *drop_names;
  /*
   Name of a protocol with the same IP protocol number that this plug-in has registered before, with whose socks
   this one's share the ports: one table for several types of sockets, as SCTP has. Packets come to that one's
   `rcv`, and usk_proto_lookup finds the socks of both there; this table's `rcv` is null. That one cannot be
   unregistered before this. Null: a table of its own.
   */
  const char *ports_of;
  /*
   Timer `index` of the protocol (usk_reg_timer_arm) has fired. Softirq, no sock owned; two of them may run at a
   time. Null: there are no timers.
   */
  void (*timer)(usk_reg_t *reg, uint32_t index);
  /*
   Work that usk_reg_defer asked for: at least one bit. Softirq, no sock owned; on one thread at a time. Null: none
   can be asked for.
   */
  void (*work)(usk_reg_t *reg, uint32_t bits);
  /*
   Shows what the protocol knows of a sock, for `usersock ss -i`: calls usk_diag_column for each column. Process
   context, owned; must not sleep. Null: no columns.
   */
  void (*diag_show)(usk_owned_t *o, usk_diag_t *diag);
  /*
   Makes the header of a packet that a super-packet (usk_skb_set_gso) is cut into; IP's header and an open checksum
   are the stack's (gso_segment). A negative errno loses this piece and those behind it. Any context; any sock may
   be owned: it must not send, lock or sleep. Null: the protocol sends no super-packets.
   */
  int (*segment)(usk_reg_t *reg, usk_piece_t *piece);
  /*
   Whether others may be merged into a received packet, or it into another, where the device has GRO on: returns
   the length of its header, at most 52; 0: no, as if its checksum is wrong, which it verifies. Does not change the
   packet. Context as of segment. Null, or merge is null: no packets are merged (gro_receive).
   */
  int (*may_merge)(usk_reg_t *reg, usk_skb_t *skb, const usk_addr_t *src, const usk_addr_t *dst);
  /*
   Whether a packet continues another with the same addresses, of the same receive batch: 1, and `header` is made
   that of both, or 2: also, and nothing may follow; 0: no. rcv gets a super-packet (usk_skb_gso_size) whose
   checksum need not be verified. Context as of segment (gro_receive).
   */
  int (*merge)(usk_reg_t *reg, usk_merge_t *merge);
} usk_proto;

/*
 What usk_for_each_sock calls for each sock: `sk` is held until it returns. A value other than 0 ends the iteration.
 */
typedef int (*usk_sock_each_t)(void *arg, usk_sock_t *sk);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Adds a column, for diag_show: `usersock ss -i` shows `name:value`, and its JSON has a member of this name in
 `columns`. At most 32 of a sock; a value's blanks and control characters become underscores. Returns
 0; -EINVAL: the name is not 1 to 31 letters, digits and underscores, or the value is longer than 255 bytes; -EEXIST:
 there is one of this name; -ENOBUFS: there are 32; -EFAULT: a pointer is null.
 Requires: `diag` is diag_show's argument; `name` and `value` are strings.
 */
int usk_diag_column(usk_diag_t *diag,
                    const char *name,
                    const char *value);

/*
 The registration of the sock's protocol, for usk_count and others; null for a protocol that is not written in C.
 Requires: `o` is owned.
 */
usk_reg_t *usk_owned_reg(usk_owned_t *o);

/*
 The protocol's private memory of a sock: obj_size bytes, initially zero, aligned to 16; the address does not change
 while the sock exists.
 Requires: `o` is owned.
 */
void *usk_private(usk_owned_t *o);

/*
 Registers a protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the registration.
 Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit (version,
 size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or sysctl is
 taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_proto_register(usk_plugin_t *plugin,
                       const struct usk_proto *table,
                       void *user,
                       usk_reg_t **out);

/*
 Gives a packet to every sock that it is for, as usk_deliver, in rcv. Of a packet to a group or a broadcast address
 these are all socks bound to `local`'s port whose address, peer, interface (SO_BINDTODEVICE), memberships, source
 filters and IP_MULTICAST_ALL admit it, as UDP finds its own (__udp4_lib_mcast_deliver, __udp6_lib_mcast_deliver); of
 a packet to one host the one that usk_proto_lookup finds. `local` is the packet's destination and port, `remote` its
 source and port. Each sock gets a packet of its own, which shares the payload and has the same control block; `skb`
 stays the caller's. Returns how many socks there are, 0: none, and the caller may send an error (usk_icmp_send); one
 whose backlog was full counts, and so does its drop. -ENOENT: the packet was not received; -EINVAL.
 Requires: `reg` is a registered protocol; `skb` is a packet; both addresses are readable.
 */
int usk_deliver_all(usk_reg_t *reg,
                    usk_skb_t *skb,
                    const usk_addr_t *local,
                    const usk_addr_t *remote);

/*
 Calls `each` with `arg` for each sock in the library's port table: bound, connected and accepted ones of this
 registration. The list is made before the first call; each sock is held while `each` runs, and may have been closed
 or finished meanwhile. `each` may lock it in process context, and in any context call usk_defer, usk_deliver and
 usk_error_report. The caller owns no sock that `each` locks. Returns 0, or what `each` returned other than 0;
 -EINVAL.
 Requires: `reg` is a registered protocol; `each` may be called with `arg`.
 */
int usk_for_each_sock(usk_reg_t *reg,
                      usk_sock_each_t each,
                      void *arg);

/*
 Arms timer `index` (0 to 31) of the protocol, which belongs to no sock, or changes its time: at `at`, nanoseconds of
 the stack's clock, the operation `timer` is called with `index`. Any context. The timers end with the registration.
 -EINVAL: no such index, the table has no operation `timer`, or the registration has ended.
 Requires: `reg` is a registered protocol.
 */
int usk_reg_timer_arm(usk_reg_t *reg,
                      uint32_t index,
                      uint64_t at);

/*
 Disarms timer `index` of the protocol. Returns 1 if it was armed, and then it does not fire; 0: it was not, or the
 operation runs already.
 Requires: `reg` is a registered protocol.
 */
int usk_reg_timer_cancel(usk_reg_t *reg,
                         uint32_t index);

/*
 When timer `index` of the protocol fires, nanoseconds of the stack's clock; 0: it is not armed.
 Requires: `reg` is a registered protocol.
 */
uint64_t usk_reg_timer_at(usk_reg_t *reg, uint32_t index);

/*
 Asks for the operation `work` with these bits, soon, in softirq context, with no sock owned: for what must not be
 done where it is found to be due. Bits that are asked for before it runs come in one call. Any context, a sock may
 be owned. -EINVAL: the table has no operation `work`, or the registration has ended.
 Requires: `reg` is a registered protocol.
 */
int usk_reg_defer(usk_reg_t *reg,
                  uint32_t bits);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#include "ip.h"

#endif  /* USERSOCK_PROTO_H */

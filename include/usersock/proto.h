/* usersock for plug-ins: transport protocols, struct usk_proto. MIT OR Apache-2.0. */

#ifndef USERSOCK_PROTO_H
#define USERSOCK_PROTO_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 usk_tx_info_t.flags: `src` is the source address.
 */
#define USK_TX_SRC 1

/*
 usk_tx_info_t.flags: the packet leaves by `ifindex`.
 */
#define USK_TX_IFINDEX 2

/*
 usk_tx_info_t.flags: `tos` is the TOS or traffic class.
 */
#define USK_TX_TOS 4

/*
 usk_tx_info_t.flags: `ttl` is the TTL or hop limit.
 */
#define USK_TX_TTL 8

/*
 usk_tx_info_t.flags: `flow_label` is the flow label (IPv6).
 */
#define USK_TX_FLOW_LABEL 16

/*
 usk_tx_info_t.flags: the packet is not fragmented, here or on its way: -EMSGSIZE if it is larger than the path MTU.
 */
#define USK_TX_DF 32

/*
 For usk_icmp_send: no sock on this port (ICMP 3/3, ICMPv6 1/4).
 */
#define USK_ICMP_PORT_UNREACH 1

/*
 For usk_icmp_send: what the packet is for is not served here (ICMP 3/2; ICMPv6 4/1, with where the packet names the
 protocol).
 */
#define USK_ICMP_PROT_UNREACH 2

/*
 For usk_icmp_send: a filter refuses it (ICMP 3/13, ICMPv6 1/1).
 */
#define USK_ICMP_PROHIBITED 3

/*
 For usk_icmp_send: it cannot be passed on in one piece; `mtu` is carried (ICMP 3/4, ICMPv6 2/0).
 */
#define USK_ICMP_TOO_BIG 4

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
 What a protocol decides for one packet: the members whose bits `flags` has. Members and bits that it does not have
 are the socket's (IP_TOS, IP_TTL ...), or those of the control messages of the send call that runs.
 */
typedef struct usk_tx_info_t {
  /*
   USK_TX_*.
   */
  uint32_t flags;
  /*
   Interface.
   */
  uint32_t ifindex;
  /*
   Source address, one of this host's; its port is not used.
   */
  usk_addr_t src;
  /*
   Flow label, 20 bits.
   */
  uint32_t flow_label;
  /*
   TOS or traffic class, with ECN in the low two bits: also of a stream, for which IP_TOS does not set these.
   */
  uint8_t tos;
  /*
   TTL or hop limit, 1 to 255.
   */
  uint8_t ttl;
  /*
   0.
   */
  uint16_t reserved;
} usk_tx_info_t;

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
 Routes the sock to `to`, and sets the peer and, if it is not bound to one, the source address. The state becomes
 TCP_ESTABLISHED (1), as for a connected datagram socket; the caller may set another one afterwards. For the connect
 operation. -ENETUNREACH, -EACCES (broadcast), -EINVAL ...
 Requires: `o` is owned; `to` is readable.
 */
int usk_route_connect(usk_owned_t *o,
                      const usk_addr_t *to);

/*
 Disconnects the sock: no peer, state TCP_CLOSE (7). It keeps a port that bind(2) named; an automatically chosen one
 is released, and the sock is not bound any more (__udp_disconnect).
 Requires: `o` is owned.
 */
int usk_route_disconnect(usk_owned_t *o);

/*
 The source of packets to `to`: the sock's own address, or the preferred one of the route, and its port.
 In a sendmsg operation also as the call's control messages say (IP_PKTINFO). Of the peer, and of the destination of
 the last call, the source is known and no route is looked up. -ENETUNREACH, -EACCES, -EINVAL ...
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
 Updates the path MTU to `mtu`, as a router reported it (inet_csk_update_pmtu): only for an ICMP error whose quoted
 packet is known to be the sock's. Returns the new usk_path_mtu.
 Requires: `o` is owned.
 */
int usk_update_pmtu(usk_owned_t *o,
                    uint32_t mtu);

/*
 Sends a packet to `to`, or to the peer if `to` is null: looks up the route, adds the IP header, fragments if the
 socket allows it, and passes it to the device (ip_queue_xmit). In a sendmsg operation the packet is as the call's
 control messages ask (IP_TTL, IP_TOS, IP_PKTINFO ...). It begins with the protocol's header, its checksum complete,
 or left open (usk_skb_csum_partial). The sock is charged until the device has completed it. Always consumes `skb`.
 Returns 0; -ENOTCONN, -ENETUNREACH, -EMSGSIZE (larger than the path MTU, and fragmentation is not allowed; a
 super-packet that IP's length field has no room for, or whose packets are larger than the path MTU), -ENOBUFS (the
 device's queue is full: treat it as a loss), -EAFNOSUPPORT, -EOPNOTSUPP (the protocol's number is above 255: no IP
 header has room for it).
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable.
 */
int usk_xmit(usk_owned_t *o,
             usk_skb_t *skb,
             const usk_addr_t *to);

/*
 As usk_xmit, with what the protocol decides for this packet alone. `size` is sizeof(usk_tx_info_t). Always consumes
 `skb`. -EINVAL: an unknown flag, a TTL of 0, a flow label over IPv4, a source that is not this host's.
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable; `tx` is readable for
 `size` bytes.
 */
int usk_xmit_info(usk_owned_t *o,
                  usk_skb_t *skb,
                  const usk_addr_t *to,
                  const usk_tx_info_t *tx,
                  size_t size);

/*
 Sets the ECN bits of the sock's packets (RFC 3168): 0 not ECT, 2 ECT(0), 1 ECT(1) (INET_ECN_xmit,
 INET_ECN_dontxmit). For a protocol that answers marks; IP_TOS and IPV6_TCLASS of a stream leave these bits alone.
 -EINVAL: another value.
 Requires: `o` is owned.
 */
int usk_set_ecn(usk_owned_t *o,
                int ecn);

/*
 Fills `*info` with what rcv was told of a received packet, for backlog_rcv; of a datagram to a UDP port without the
 ports. -ENOENT: the packet was not received, or has been sent since.
 Requires: `skb` is a packet; `info` is writable.
 */
int usk_skb_info(usk_skb_t *skb,
                 usk_packet_info_t *info);

/*
 Tells a sock of an ICMP error, in the err operation: with IP_RECVERR it is queued for recvmsg(MSG_ERRQUEUE), and it
 becomes SO_ERROR if it is queued, or if it is a hard one and the sock is connected. While a system call owns the
 sock a hard one becomes SO_ERROR and none is queued. Learns path MTUs. `port`: that of the packet's destination, 0
 without ports; `header`: bytes of the protocol's header, which are in front of the payload that is quoted. For an
 error of which the protocol believes that the sock's packet caused it (ip_icmp_error, __udp4_lib_err). Packet
 context.
 Requires: `sk` is valid; `error` is err's argument.
 */
int usk_icmp_report(usk_sock_t *sk,
                    const usk_icmp_error_t *error,
                    uint16_t port,
                    size_t header);

/*
 Sends an ICMP error about a received packet, which begins with the protocol's header, as rcv got it (icmp_send,
 icmpv6_send). `error` is USK_ICMP_*, `mtu` the MTU of USK_ICMP_TOO_BIG, else 0. The error quotes the packet as it
 was received, IP header included. None is sent about an ICMP error, a fragment other than the first, a packet from
 or to a group or a broadcast address (over IPv6 TOO_BIG is), or above the rate limits (net.ipv4.icmp_ratelimit,
 icmp_ratemask, icmp_msgs_per_sec, net.ipv6.icmp.ratelimit); the counters say what was sent. `skb` stays the
 caller's, as it was: it is then dropped, or freed. Packet context. Returns 0, whether it was sent or not; -EINVAL:
 no such error, or an MTU that is none; -ENOENT: the packet was not received, or has been sent since.
 Requires: `reg` is registered; `skb` is a packet.
 */
int usk_icmp_send(usk_reg_t *reg,
                  usk_skb_t *skb,
                  int error,
                  uint32_t mtu);

/*
 Replies to a packet without a sock: sends `skb`, which begins with the protocol's header, to the source of the
 packet that `info` describes, from its destination address (ip_send_unicast_reply). Always consumes `skb`. Packet
 context. -EINVAL: it is a super-packet, or the packet was no unicast; -EOPNOTSUPP: the protocol's number is above
 255.
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
 The 16 bits for a checksum field, to be stored high byte first. The checksum of a received packet is correct if its
 sum, field included, folds to 0 (csum_fold).
 */
uint32_t usk_csum_fold(uint32_t sum);

/*
 Makes a packet a super-packet, which stands for several: its first `header` bytes are the header of each, which the
 segment operation makes, and each has `size` bytes of what follows, the last one perhaps fewer. It is sent like
 another, and cut where a device cannot carry it whole, the loopback device not. One with at most `size` bytes behind
 its header stays an ordinary packet. Call it last, when the packet is complete; usk_skb_share shares it. Returns 0;
 -EINVAL: `size` is 0 or above 65535, `header` is 0 or above 52, the packet has no byte behind it; -EMSGSIZE: the
 packet is longer than 65535 bytes (usk_gso_max); -EOPNOTSUPP: the table has no segment operation
 (skb_shared_info.gso_size).
 Requires: `o` is owned; `skb` is a packet.
 */
int usk_skb_set_gso(usk_owned_t *o,
                    usk_skb_t *skb,
                    uint32_t header,
                    uint32_t size);

/*
 Bytes of header and payload of the largest super-packet to the peer, by its device and by IP's length field
 (sk_gso_max_size). -ENOTCONN without a peer; -ENETUNREACH.
 Requires: `o` is owned.
 */
int usk_gso_max(usk_owned_t *o);

/*
 Binds the sock to a local port, 0 meaning any of net.ipv4.ip_local_port_range (inet_csk_get_port): the default of
 get_port. usk_proto_lookup finds bound socks, and prefers those connected to the packet's source. -EADDRINUSE;
 -EINVAL: it has a port, or is finished.
 Requires: `o` is owned.
 */
int usk_get_port(usk_owned_t *o,
                 uint16_t port);

/*
 Binds the sock to an address and a port (inet_bind): the default of bind, for a bind operation that does more.
 `addr` is of the sock's family. Calls get_port for the port. -EINVAL: it is bound already; -EADDRNOTAVAIL,
 -EADDRINUSE, -EAFNOSUPPORT.
 Requires: `o` is owned; `addr` is readable.
 */
int usk_inet_bind(usk_owned_t *o,
                  const usk_addr_t *addr);

/*
 Updates the library's port table with the sock's addresses, after connect or usk_set_ends: the default of hash. A
 child of a listener shares its port. -EADDRINUSE: there is a connection with the same ends. -EINVAL: a child without
 a peer, or a sock that is finished.
 Requires: `o` is owned.
 */
int usk_hash(usk_owned_t *o);

/*
 Removes the sock from the library's port table and releases its port: the default of unhash and put_port.
 Requires: `o` is owned.
 */
int usk_unhash(usk_owned_t *o);

/*
 The sock for a packet from `remote` to `local`, held: a connected one, else the best match among bound and listening
 ones. Null: none. Release it by usk_sock_put. `ifindex`: the interface that received the packet.
 Requires: `reg` is a registered protocol; both addresses are readable.
 */
usk_sock_t *usk_proto_lookup(usk_reg_t *reg,
                             const usk_addr_t *local,
                             const usk_addr_t *remote,
                             uint32_t ifindex);

/*
 A new sock of a listener's protocol, held, for a connection that a packet requests. Its init has run; it inherits
 the listener's options of the IP levels and its buffer sizes. Packet context. Null: init failed. Lock it, set its
 ends and state, usk_hash it, release it, give it to usk_accept_push, then usk_sock_put.
 Requires: `listener` is owned.
 */
usk_sock_t *usk_new_child(usk_owned_t *listener);

/*
 Queues an established connection for accept(2), and wakes its waiters. The caller keeps its handle. -ENOBUFS: the
 backlog is full; -EINVAL: the listener does not listen any more, `child` is not from usk_new_child for this
 protocol, or it is finished; -EALREADY: it was queued before, and may be a program's by now. On another failure the
 caller ends the child (usk_done).
 Requires: `listener` is owned; `child` is valid.
 */
int usk_accept_push(usk_owned_t *listener,
                    usk_sock_t *child);

/*
 Starts listening with `backlog`: the state becomes TCP_LISTEN, and a sock without port is bound to one. For the
 listen operation. -EADDRINUSE: another sock, which shares the port by SO_REUSEADDR, listens already
 (inet_csk_listen_start).
 Requires: `o` is owned.
 */
int usk_listen_start(usk_owned_t *o,
                     uint32_t backlog);

/*
 Stops listening: the state becomes TCP_CLOSE, and connections that were not accepted are closed. The sock keeps its
 port. For the disconnect operation (inet_csk_listen_stop). -EINVAL: it is not listening; -EDEADLK: the caller owns
 one of those connections, and releases it first.
 Requires: `o` is owned.
 */
int usk_listen_stop(usk_owned_t *o);

/*
 Takes a connection that usk_accept_push queued, and waits for one unless `nonblock` (inet_csk_accept). For the
 accept operation of a table. Process context. Returns the child held, or null with the negative errno in `*err`:
 -EINVAL not listening, -EAGAIN, -EINTR.
 Requires: `sk` is valid and not owned by the caller; `err` is writable.
 */
usk_sock_t *usk_accept_wait(usk_sock_t *sk,
                            int nonblock,
                            int *err);

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

#endif  /* USERSOCK_PROTO_H */

#include "over.h"

/* usersock for plug-ins: what all of them stand on: loading, registrations, socks, packets, messages, addresses. Each
 * kind of plug-in has a header beside this one, which includes it. docs/plugins.md is the guide.
 *
 * Return values are those of functions in the kernel: an int or a length is 0 or more, or a negative errno; a pointer
 * is null on failure. Null where it is not allowed is -EINVAL or -EFAULT; other pointers are believed, as the kernel
 * believes its modules: what follows Requires: says what they must be. Only usk_plugin_load, usk_plugin_attach,
 * usk_plugin_unload and usk_device_add, which are for programs, return -1 or null with errno.
 *
 * Units: times are nanoseconds of the stack's clock, sizes are bytes, ports are in host order, addresses in network
 * order.
 *
 * Contexts: process context is a thread in a system call, which may sleep; softirq is packet and timer work, which may
 * not. A call can be made in both, unless it says process context: that one may sleep. A call that takes usk_owned_t is
 * for the owner of the sock; one that takes usk_sock_t can be made without owning it.
 *
 * Ownership: a call that takes a packet has it from then on, on failure too. A sock that a call gives held is given
 * back by usk_sock_put. Strings and tables are the caller's again when the call returns. MIT OR Apache-2.0. */

#ifndef USERSOCK_CORE_H
#define USERSOCK_CORE_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "../usersock.h"

/*
 usk_sock_info_t.flags: no program has the sock, because its last descriptor is closed (SOCK_DEAD).
 */
#define USK_FLAG_DEAD 1

/*
 usk_sock_info_t.flags: SO_KEEPALIVE.
 */
#define USK_FLAG_KEEPOPEN 2

/*
 usk_sock_info_t.flags: SO_LINGER.
 */
#define USK_FLAG_LINGER 4

/*
 usk_sock_info_t.flags: SO_BROADCAST.
 */
#define USK_FLAG_BROADCAST 8

/*
 usk_sock_info_t.flags: SO_REUSEADDR.
 */
#define USK_FLAG_REUSE 16

/*
 usk_sock_info_t.flags: SO_REUSEPORT.
 */
#define USK_FLAG_REUSEPORT 32

/*
 usk_sock_info_t.flags: this is packet or timer context, where nothing may sleep (in_softirq).
 */
#define USK_FLAG_SOFTIRQ 64

/*
 A direction, for usk_charge, usk_uncharge, usk_charged and usk_timeo: receiving (SO_RCVBUF, SO_RCVTIMEO).
 */
#define USK_RECV 0

/*
 The other direction: sending (SO_SNDBUF, SO_SNDTIMEO).
 */
#define USK_SEND 1

/*
 Why a packet is dropped, for usk_drop: too short or malformed.
 */
#define USK_DROP_HEADER 1

/*
 For usk_drop: wrong checksum.
 */
#define USK_DROP_CSUM 2

/*
 For usk_drop: no sock found.
 */
#define USK_DROP_NO_SOCKET 3

/*
 For usk_drop: not acceptable in the sock's state, or a duplicate.
 */
#define USK_DROP_STATE 4

/*
 For usk_drop: USK_DROP_OWN + i is reason `i` of the table's drop_names.
 */
#define USK_DROP_OWN 64

/*
 For usk_log: something failed. The levels are those of syslog(3).
 */
#define USK_LOG_ERR 3

/*
 For usk_log: something may fail.
 */
#define USK_LOG_WARNING 4

/*
 For usk_log: unusual, and no fault.
 */
#define USK_LOG_NOTICE 5

/*
 For usk_log: what happens.
 */
#define USK_LOG_INFO 6

/*
 For usk_log: what helps to find a fault.
 */
#define USK_LOG_DEBUG 7

/*
 Size of a packet's control block (usk_skb_cb), bytes.
 */
#define USK_SKB_CB 48

/*
 No deadline: for usk_wait.
 */
#define USK_FOREVER UINT64_MAX

/*
 A plug-in of one stack: the argument of its entry point. Valid until usk_plugin_unload, or the end of the stack.
 */
typedef struct usk_plugin_t usk_plugin_t;

/*
 A queue of packets. Made by usk_queue_new; belongs to the caller.
 */
typedef struct usk_queue_t usk_queue_t;

/*
 A message to receive: recvmsg's argument. Its buffers are filled from the front.
 */
typedef struct usk_recvmsg_t usk_recvmsg_t;

/*
 What a plug-in has registered in one stack: a protocol, a layer, a congestion control, hooks, a kind of device. The
 usk_..._register calls return it, and the functions of the table get it. Valid until usk_unregister has succeeded,
 and in a function of the table until that returns.
 */
typedef struct usk_reg_t usk_reg_t;

/*
 A message to send: sendmsg's argument. Its bytes are consumed from the front.
 */
typedef struct usk_sendmsg_t usk_sendmsg_t;

/*
 A packet: headroom, headers, and payload in shared pages. The code that made or dequeued a packet owns it until it
 frees it or passes it to a call that consumes it.
 */
typedef struct usk_skb_t usk_skb_t;

/*
 A sock, not owned. The argument of an operation is valid until the operation returns; one returned by usk_sock_hold,
 usk_proto_lookup or usk_new_child until usk_sock_put, and while it is held its stack exists too; an inner one until
 it is closed. Pointers to one sock are equal.
 */
typedef struct usk_sock_t usk_sock_t;

/*
 An owned sock. Operations that are called with the sock owned get one, valid until they return; the others fill one
 of their own by usk_lock_sock. Not to be copied or moved.
 */
typedef struct usk_owned_t {
  uint64_t opaque[4];
} usk_owned_t;

/*
 An address and a port: `family` is AF_INET with the first 4 bytes of `addr`, or AF_INET6 with all 16, both in
 network order; `port` is in host order; `scope_id` is the interface of a link-local address.
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
   Network order; an IPv4 address is the first 4 bytes, the others are 0.
   */
  uint8_t addr[16];
} usk_addr_t;

/*
 The properties of a sock: what usk_sock_info fills in.
 */
typedef struct usk_sock_info_t {
  /*
   The local end: the source address of packets, or the address bound to; port 0: not bound.
   */
  usk_addr_t local;
  /*
   The peer; family 0: there is none.
   */
  usk_addr_t peer;
  /*
   AF_INET or AF_INET6, as passed to socket(2).
   */
  uint32_t family;
  /*
   SOCK_STREAM ..., as passed to socket(2).
   */
  uint32_t type;
  /*
   IP protocol number.
   */
  uint32_t protocol;
  /*
   State by Linux's numbers: TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10 (sk_state).
   */
  uint32_t state;
  /*
   Shut down directions: bit 0 receiving, bit 1 sending (sk_shutdown).
   */
  uint32_t shutdown;
  /*
   USK_FLAG_*.
   */
  uint32_t flags;
  /*
   The pending error as a positive errno; 0: none (sk_err). Reading it here does not clear it; usk_sock_error does.
   */
  int error;
  /*
   Interface the sock is bound to (SO_BINDTODEVICE); 0: none.
   */
  uint32_t ifindex;
  /*
   SO_RCVBUF, bytes of truesize.
   */
  int rcvbuf;
  /*
   SO_SNDBUF, bytes of truesize.
   */
  int sndbuf;
  /*
   Bytes charged to the receive buffer (sk_rmem_alloc): usk_charged.
   */
  int rmem;
  /*
   Bytes charged to the send buffer (sk_wmem_queued): usk_charged.
   */
  int wmem;
  /*
   Packets in the receive queue.
   */
  uint32_t receive_len;
  /*
   For a listener: connections that wait for accept(2).
   */
  uint32_t ack_backlog;
  /*
   For a listener: the backlog of listen(2); the queue is full when ack_backlog is above it.
   */
  uint32_t max_ack_backlog;
  /*
   SO_RCVLOWAT, bytes.
   */
  int rcvlowat;
  /*
   The time of SO_LINGER, nanoseconds; -1: not set.
   */
  int64_t linger;
  /*
   Time of the event being processed, nanoseconds of the stack's clock: usk_owned_now.
   */
  uint64_t now;
} usk_sock_info_t;

/*
 The entry point of a plug-in: registers its tables and returns 0, or a negative errno, with which loading fails
 (usk_plugin_refuse).
 */
typedef int (*usk_plugin_init_fn)(usk_plugin_t *plugin);

/*
 Frees what a plug-in keeps for a stack: the argument is usk_user's pointer.
 */
typedef void (*usk_release_fn)(void *user);

/*
 A sysctl of a table, a number, called net.NAME. and `name`, where NAME is the table's name in lower case.
 */
typedef struct usk_sysctl_t {
  /*
   Last part of the name; null ends the list.
   */
  const char *name;
  /*
   Initial value.
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

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Fills `*info` with the sock's properties. `size` is sizeof(usk_sock_info_t): a plug-in that was compiled against an
 older header gets the members it knows, and members that the library does not know are zero. Returns how many bytes
 the library filled. For a sock that is not owned use usk_sock_state and usk_sock_shutdown.
 Requires: `o` is owned; `info` is writable for `size` bytes.
 */
ptrdiff_t usk_sock_info(usk_owned_t *o,
                        usk_sock_info_t *info,
                        size_t size);

/*
 Both ends, as in usk_sock_info, for a packet's checksum. Either pointer may be null. Returns 0; -ENOTCONN: `peer` is
 not null, and there is no peer.
 Requires: `o` is owned; `local` and `peer` are null or writable.
 */
int usk_ends(usk_owned_t *o,
             usk_addr_t *local,
             usk_addr_t *peer);

/*
 Sets both ends of a sock that a packet made (a child): `local` is the packet's destination and `peer` its source.
 -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is in
 the table under another port; -EAFNOSUPPORT: an IPv6 address for an AF_INET sock.
 Requires: `o` is owned; both addresses are readable.
 */
int usk_set_ends(usk_owned_t *o,
                 const usk_addr_t *local,
                 const usk_addr_t *peer);

/*
 Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point
 `int usk_plugin_init(usk_plugin_t *)`, which registers its tables. What runs is a private copy of the file as it is
 now: the file may be overwritten afterwards, and what is then loaded is the new one. All stacks of the process into
 which the same content is loaded share one copy, and so its static data. Its `void usk_plugin_exit(usk_plugin_t *)`,
 if any, is called with null when its code is no longer used in any stack, just before it is unmapped: by
 usk_plugin_unload, or by the last thread that was in one of its operations then; what belongs to one stack has its
 end in usk_user_release. The same as plugin=FILE in a configuration. A name without slash is relative to the working
 directory. On failure returns null with errno ENOENT, EINVAL, or what the entry
 point returned, and usk_config_error returns the reason.
 Requires: `stack` is null or from usk_stack_new; `file` is a string.
 */
usk_plugin_t *usk_plugin_load(usk_stack_t *stack,
                              const char *file);

/*
 As usk_plugin_load, for code that is linked into the program: calls `init`. `name` is for messages. The first
 protocol with rcv that it registers for an IP protocol number stays referenced by its stack, as packets reach it
 without a lock: its usk_user_release function may be called only when the stack ends, not when it is unregistered.
 Requires: `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
 */
usk_plugin_t *usk_plugin_attach(usk_stack_t *stack,
                                const char *name,
                                usk_plugin_init_fn init);

/*
 Sets the line that usk_config_error returns, and messages of the command show, after the plug-in's name: why
 usk_plugin_init refuses to be loaded. Line breaks in it become blanks. Returns -EINVAL, for usk_plugin_init to
 return; it may return another errno. A usk_..._register call that fails sets such a line by itself.
 Requires: `why` is a string.
 */
int usk_plugin_refuse(const char *why);

/*
 Unregisters everything that a plug-in registered, the newest first, and unloads it. Returns 0, or -1 with errno
 EBUSY while something is in use: what was unregistered by then stays unregistered, and the call can be repeated.
 Must not be called from the plug-in's own code.
 Requires: `plugin` is valid, and not used after success.
 */
int usk_plugin_unload(usk_plugin_t *plugin);

/*
 The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. The stack does not end
 while a plug-in has it. Null: it has ended.
 Requires: `plugin` is valid.
 */
usk_stack_t *usk_plugin_stack(usk_plugin_t *plugin);

/*
 Charges the sock, and its protocol's memory, for a packet (its truesize; `skb` null: none) that enters a queue of
 the protocol's own, and for `bytes` that are in no packet. `dir` is USK_RECV for a receive queue (sk_rmem_schedule,
 skb_set_owner_r; usk_receive_push charges for the sock's own queue): when more than half of SO_RCVBUF is charged, a
 packet whose bytes occupy a larger page is first copied to a smaller one. `dir` is USK_SEND for a send queue
 (sk_wmem_schedule, sk_wmem_queued_add). Returns 0; -ENOBUFS: the protocol's memory limit is reached, and nothing is
 charged: drop the packet, or wait for memory. The caller itself checks that SO_RCVBUF or SO_SNDBUF has room
 (usk_charged), and uncharges with usk_uncharge, at the latest in destroy.
 Requires: `o` is owned; `skb` is null or a packet.
 */
int usk_charge(usk_owned_t *o,
               int dir,
               usk_skb_t *skb,
               size_t bytes);

/*
 A new packet with up to `len` bytes of a message, charged to the send buffer: what usk_skb_from_msg and usk_charge
 with USK_SEND do, but the message's bytes are consumed only if all of it succeeds, so that a stream loses none when
 there is no memory. Stores the packet in `*skb`, or null on failure. -ENOBUFS: the protocol's memory limit is
 reached: wait for memory, or return what was sent before; -EFAULT: bytes of the program cannot be read
 (sk_stream_alloc_skb).
 Requires: `o` is owned; `msg` is sendmsg's argument; `skb` is writable.
 */
int usk_send_alloc(usk_owned_t *o,
                   usk_sendmsg_t *msg,
                   size_t len,
                   usk_skb_t **skb);

/*
 Undoes usk_charge with the same arguments, when the packet leaves the queue: its truesize must be that at usk_charge
 (nothing appended meanwhile). Never uncharges more than is charged. Returns 0; -EINVAL: no such direction.
 Requires: `o` is owned; `skb` is null, or a packet that was charged.
 */
int usk_uncharge(usk_owned_t *o,
                 int dir,
                 usk_skb_t *skb,
                 size_t bytes);

/*
 Bytes that are charged in a direction (sk_rmem_alloc, sk_wmem_queued): the truesize of packets, and the other bytes
 of usk_charge. `*limit`, unless null, gets the buffer's size, SO_RCVBUF or SO_SNDBUF: there is room while the result
 is less. -EINVAL: no such direction.
 Requires: `o` is owned; `limit` is null or writable.
 */
int usk_charged(usk_owned_t *o,
                int dir,
                int *limit);

/*
 Bytes not yet consumed.
 Requires: `msg` is sendmsg's argument.
 */
size_t usk_sendmsg_len(usk_sendmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 Requires: `msg` is sendmsg's argument.
 */
int usk_sendmsg_flags(usk_sendmsg_t *msg);

/*
 The destination address of the call (msg_name). -ENOENT: none.
 Requires: `msg` is sendmsg's argument; `addr` is writable.
 */
int usk_sendmsg_name(usk_sendmsg_t *msg, usk_addr_t *addr);

/*
 Copies up to `len` bytes to `to` and consumes them; returns how many (copy_from_iter). usk_skb_append_msg copies
 into a packet.
 Requires: `msg` is sendmsg's argument; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_sendmsg_take(usk_sendmsg_t *msg,
                           void *to,
                           size_t len);

/*
 Appends up to `len` bytes of a message to a packet and consumes them; returns how many (skb_add_data).
 Requires: `skb` is a packet; `msg` is an operation's argument.
 */
ptrdiff_t usk_skb_append_msg(usk_skb_t *skb,
                             usk_sendmsg_t *msg,
                             size_t len);

/*
 A new packet with up to `len` bytes of a message, which are consumed: usk_skb_new and usk_skb_append_msg. Null:
 bytes of the program cannot be read, return -EFAULT.
 Requires: `msg` is an operation's argument.
 */
usk_skb_t *usk_skb_from_msg(usk_sendmsg_t *msg,
                            size_t len);

/*
 Bytes of room left.
 Requires: `msg` is recvmsg's argument.
 */
size_t usk_recvmsg_room(usk_recvmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 Requires: `msg` is recvmsg's argument.
 */
int usk_recvmsg_flags(usk_recvmsg_t *msg);

/*
 Copies bytes to the program, as far as there is room; returns how many (copy_to_iter).
 Requires: `msg` is recvmsg's argument; `data` is readable for `len` bytes.
 */
ptrdiff_t usk_recvmsg_put(usk_recvmsg_t *msg, const void *data, size_t len);

/*
 Copies up to `len` bytes of a packet, beginning at `offset`, to the program, as far as there is room; returns how
 many (skb_copy_datagram_msg).
 Requires: `msg` is recvmsg's argument; `skb` is a packet.
 */
ptrdiff_t usk_recvmsg_put_skb(usk_recvmsg_t *msg,
                              usk_skb_t *skb,
                              size_t offset,
                              size_t len);

/*
 Sets the source address of the message (msg_name).
 Requires: `msg` is recvmsg's argument; `addr` is readable.
 */
int usk_recvmsg_set_name(usk_recvmsg_t *msg, const usk_addr_t *addr);

/*
 Adds MSG_* bits to the returned msg_flags (MSG_EOR, MSG_TRUNC).
 Requires: `msg` is recvmsg's argument.
 */
int usk_recvmsg_set_flags(usk_recvmsg_t *msg, int flags);

/*
 The sock that `o` owns, as an argument for other calls; valid as long as it is owned.
 Requires: `o` is owned.
 */
usk_sock_t *usk_owned_sock(usk_owned_t *o);

/*
 Time of the event being processed, nanoseconds of the stack's clock.
 Requires: `o` is owned.
 */
uint64_t usk_owned_now(usk_owned_t *o);

/*
 Processes the backlog now, in the middle of a long call (sk_flush_backlog). Returns 1 if it was not empty.
 Requires: `o` is owned.
 */
int usk_flush_backlog(usk_owned_t *o);

/*
 Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
 and fails if it is TCP_CLOSE (7) then; accept(2) requires TCP_LISTEN (10). -EINVAL: no such state; connections wait
 for accept(2) (usk_listen_stop closes them); or the sock is finished.
 Requires: `o` is owned.
 */
int usk_set_state(usk_owned_t *o,
                  int state);

/*
 Adds bits to the sock's shutdown mask: bit 0 receiving (the peer has ended), bit 1 sending (sk_shutdown).
 Requires: `o` is owned.
 */
int usk_set_shutdown(usk_owned_t *o,
                     int bits);

/*
 Appends a packet to the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Always consumes
 `skb`. Returns 0, or -ENOBUFS if the buffer is full, the protocol has no memory left or the socket is closed: the
 packet is then dropped and counted.
 Requires: `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_receive_push(usk_owned_t *o,
                     usk_skb_t *skb);

/*
 The next packet of the receive queue, which stays there; null: none.
 Requires: `o` is owned; the packet is used while it is, and before the queue changes.
 */
usk_skb_t *usk_receive_peek(usk_owned_t *o);

/*
 Removes the next packet from the receive queue and uncharges it; the caller frees it. Null: none.
 Requires: `o` is owned.
 */
usk_skb_t *usk_receive_pop(usk_owned_t *o);

/*
 recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (before it is the
 protocol's header), removes it unless MSG_PEEK is given, sets MSG_TRUNC if it does not fit, and returns the bytes
 copied, or if MSG_TRUNC is given the length of the datagram. Adds control messages (usk_recvmsg_control). -EAGAIN:
 the queue is empty; -EFAULT: the program's memory cannot be written, and the packet is lost, unless MSG_PEEK is
 given.
 Requires: `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_receive_msg(usk_owned_t *o,
                          usk_recvmsg_t *msg,
                          size_t offset);

/*
 Adds the control messages that the socket asks for, of a packet as it was received: IP_PKTINFO, IP_RECVTTL,
 IP_RECVTOS and their like, SO_TIMESTAMP and SO_TIMESTAMPING, SO_RXQ_OVFL. usk_receive_msg does it by itself: this is
 for a recvmsg that copies in another way. Of a packet that the protocol made anew nothing is known but the time
 (ip_cmsg_recv, sock_recv_cmsgs).
 Requires: `o` is owned; `msg` is recvmsg's argument; `skb` is a packet.
 */
int usk_recvmsg_control(usk_owned_t *o,
                        usk_recvmsg_t *msg,
                        usk_skb_t *skb);

/*
 Arms timer `index` (0 to 31) of the sock, or changes its time: at `at`, nanoseconds of the stack's clock, release_cb
 gets bit `index`; if the sock is owned then, when it is released. -EINVAL: no such index, or the sock is finished.
 Requires: `o` is owned.
 */
int usk_timer_arm(usk_owned_t *o,
                  uint32_t index,
                  uint64_t at);

/*
 Disarms timer `index`. Returns 1 if it was pending. If it fired while the sock was owned, release_cb still gets its
 bit: compare the time there.
 Requires: `o` is owned.
 */
int usk_timer_cancel(usk_owned_t *o,
                     uint32_t index);

/*
 When timer `index` fires, nanoseconds of the stack's clock; 0: not armed, or it has fired.
 Requires: `o` is owned.
 */
uint64_t usk_timer_at(usk_owned_t *o, uint32_t index);

/*
 Finishes the sock: removes it from the tables, cancels its timers, empties the receive queue, resets connections
 that were not accepted (by close), runs destroy, once, and wakes all waiters (inet_csk_destroy_sock). Its memory is
 freed with the last handle. No operation of the sock begins any more: packets that still arrive are dropped and
 counted. -EDEADLK: it listens, and the caller owns a connection that waits for accept(2): release that first.
 -EBUSY: a program has the sock (USK_FLAG_DEAD is not set, and it is no child that was not accepted), and would use
 what destroy frees: set its state instead, and finish it in close. -EINVAL: the sock is another protocol's.
 Requires: `o` is owned.
 */
int usk_done(usk_owned_t *o);

/*
 Unregisters what a usk_..._register call registered. Process context, and not from its own functions, except that a
 hook may unregister hooks. Returns 0, and the handle is no longer valid; -EBUSY while it is in use: a socket of the
 protocol exists, a connection has the layer, the congestion control or the TCP, one of the two last is the default
 (net.ipv4.tcp_congestion_control, net.ipv4.tcp_stack), the stack has a device of the kind (until the stack ends);
 -ENOENT when it was unregistered already. Hooks are never in use: one that runs now on another thread ends as usual,
 and `release` is called after it.
 Requires: `reg` is registered, and not used after success.
 */
int usk_unregister(usk_reg_t *reg);

/*
 Adds `n` to counter `index` of the table's mib_names. -EINVAL: an index beyond them.
 Requires: `reg` is valid.
 */
int usk_count(usk_reg_t *reg, uint32_t index, uint64_t n);

/*
 The present value of sysctl `index` of the table's sysctls; 0 for an index beyond them, and once the stack has
 ended.
 Requires: `reg` is valid.
 */
int64_t usk_sysctl(usk_reg_t *reg,
                   uint32_t index);

/*
 The pointer that the usk_..._register call was given: the plug-in's data for this stack.
 Requires: `reg` is valid.
 */
void *usk_user(usk_reg_t *reg);

/*
 Has `release` called with usk_user's pointer when the registration has ended: it was unregistered (by
 usk_unregister, or usk_plugin_unload) or its stack has ended, no function of its table runs any more, and none will.
 Called once, with no sock owned, from the thread that ended the last use. This is where the plug-in frees what it
 keeps for one stack; usk_plugin_exit is for what all stacks share. A second call replaces the function; null: none.
 Requires: `reg` is valid; `release` may be called from any thread.
 */
int usk_user_release(usk_reg_t *reg,
                     usk_release_fn release);

/*
 The stack's clock, nanoseconds: monotonic, and virtual in a stack with virtual time; 0 once the stack has ended.
 Requires: `reg` is valid.
 */
uint64_t usk_now(usk_reg_t *reg);

/*
 Fills memory with the stack's random bytes: unpredictable, or repeatable where the stack is seeded. Returns 0;
 -EFAULT: `buf` is null; -EINVAL: the stack has ended.
 Requires: `reg` is valid; `buf` is writable for `len` bytes.
 */
int usk_random(usk_reg_t *reg,
               void *buf,
               size_t len);

/*
 Frees a packet and counts the reason in the stack's drop counters, which `usersock nstat --drops` shows; `usersock
 trace` shows it with the table's name (kfree_skb_reason). Always consumes `skb`. Returns 0; -EINVAL: no such reason.
 Requires: `reg` is valid; `skb` is the caller's, and not used afterwards.
 */
int usk_drop(usk_reg_t *reg,
             usk_skb_t *skb,
             int reason);

/*
 Logs a line, which `usersock trace` shows with the table's name (pr_warn_ratelimited). Of each registration 10 lines
 pass in 5 seconds; the next one that passes says how many did not. The line is a text, not a format; control
 characters become blanks, and what is behind 500 bytes is cut off. Any context, a sock may be owned. Costs next to
 nothing while nobody takes a trace. Returns 1 if somebody reads the line, 0 if nobody does; -EINVAL: no such level;
 -EFAULT: `line` is null.
 Requires: `reg` is valid; `line` is a string.
 */
int usk_log(usk_reg_t *reg,
            int level,
            const char *line);

/*
 A new, empty packet (alloc_skb).
 */
usk_skb_t *usk_skb_new(void);

/*
 Frees a packet (kfree_skb). Null is ignored.
 Requires: `skb` is null or the caller's, and not used afterwards.
 */
void usk_skb_free(usk_skb_t *skb);

/*
 A packet that shares the payload and has a copy of the headers (skb_clone), to be sent while the original waits for
 its acknowledgement. Its control block is zero.
 Requires: `skb` is a packet.
 */
usk_skb_t *usk_skb_share(usk_skb_t *skb);

/*
 Bytes in the packet, including headers that were pushed or are not yet pulled.
 Requires: `skb` is a packet.
 */
size_t usk_skb_len(usk_skb_t *skb);

/*
 Bytes of memory the packet is charged with (truesize).
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_truesize(usk_skb_t *skb);

/*
 The packet's control block, for the protocol's use: USK_SKB_CB bytes aligned to 8, initially zero (sk_buff.cb).
 Requires: `skb` is a packet.
 */
void *usk_skb_cb(usk_skb_t *skb);

/*
 Prepends `n` zero bytes for a header, and returns their address (skb_push). Null: there is not enough headroom; a
 new packet has 128 bytes, of which IP and the link need 76.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
void *usk_skb_push(usk_skb_t *skb,
                   size_t n);

/*
 Removes the first `n` bytes (skb_pull). -EINVAL: there are fewer, and nothing is removed.
 Requires: `skb` is a packet.
 */
int usk_skb_pull(usk_skb_t *skb, size_t n);

/*
 Shortens the packet to `n` bytes (skb_trim); no effect if it is not longer.
 Requires: `skb` is a packet.
 */
int usk_skb_trim(usk_skb_t *skb, size_t n);

/*
 The first `n` bytes, made contiguous (pskb_may_pull), to read; null if the packet is shorter.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
const void *usk_skb_header(usk_skb_t *skb, size_t n);

/*
 Copies up to `len` bytes of the packet, beginning at `offset`; returns how many (skb_copy_bits).
 Requires: `skb` is a packet; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_skb_copy(usk_skb_t *skb, size_t offset, void *to, size_t len);

/*
 Appends a copy of `len` bytes. The packet's truesize grows. -EMSGSIZE: it would pass 2^30.
 Requires: `skb` is a packet; `data` is readable for `len` bytes.
 */
int usk_skb_append(usk_skb_t *skb, const void *data, size_t len);

/*
 The ones-complement sum of `len` bytes of a packet from `offset` on, added to `sum`, for usk_csum_fold
 (skb_checksum). Bytes beyond its end are ignored.
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_csum(usk_skb_t *skb,
                      size_t offset,
                      size_t len,
                      uint32_t sum);

/*
 Returns 1 if the checksum need not be verified, because the packet did not leave the machine or the device has
 verified it (CHECKSUM_UNNECESSARY).
 Requires: `skb` is a packet.
 */
int usk_skb_csum_unnecessary(usk_skb_t *skb);

/*
 Leaves a packet's checksum open (CHECKSUM_PARTIAL): the Internet checksum of all bytes from `start` on, into the
 field `offset` bytes behind that, is computed by the device that puts the packet on a wire, or before it by the
 stack, and over the loopback device not at all, where the receiver has usk_skb_csum_unnecessary. `sum` is what it
 begins with, as usk_csum_pseudo returns it; it is stored in the field. The packet begins with the protocol's header,
 which usk_skb_push has made. For the next sending. Returns 0; -EINVAL: the field is not in that header.
 Requires: `skb` is a packet.
 */
int usk_skb_csum_partial(usk_skb_t *skb,
                         uint32_t start,
                         uint32_t offset,
                         uint32_t sum);

/*
 Payload bytes of each packet that a super-packet stands for; 0: it is an ordinary packet. Of a received one: it came
 over the loopback device, or was joined by merge, and has the header of the first.
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_gso_size(usk_skb_t *skb);

/*
 An empty queue (skb_queue_head_init).
 */
usk_queue_t *usk_queue_new(void);

/*
 Frees a queue and the packets in it (skb_queue_purge). Null is ignored.
 Requires: `q` is null or from usk_queue_new, and not used afterwards.
 */
void usk_queue_free(usk_queue_t *q);

/*
 Packets in the queue.
 Requires: `q` is a queue.
 */
size_t usk_queue_len(usk_queue_t *q);

/*
 Inserts a packet before position `at` (0: the front); beyond the end it is appended. Always consumes `skb`.
 Requires: `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
 */
int usk_queue_insert(usk_queue_t *q,
                     size_t at,
                     usk_skb_t *skb);

/*
 Appends a packet (skb_queue_tail). Always consumes `skb`.
 Requires: as usk_queue_insert.
 */
int usk_queue_push(usk_queue_t *q, usk_skb_t *skb);

/*
 The packet at position `at`, which stays in the queue; null: there are not so many (skb_peek).
 Requires: `q` is a queue; the packet is used before the queue changes.
 */
usk_skb_t *usk_queue_peek(usk_queue_t *q, size_t at);

/*
 Removes and returns the packet at position `at`; the caller owns it. Null: there are not so many (__skb_unlink).
 Requires: `q` is a queue.
 */
usk_skb_t *usk_queue_remove(usk_queue_t *q,
                            size_t at);

/*
 Removes and returns the first packet (skb_dequeue); null: the queue is empty.
 Requires: `q` is a queue.
 */
usk_skb_t *usk_queue_pop(usk_queue_t *q);

/*
 Takes a reference to a sock, to use it after the operation that got it (sock_hold). Returns `sk`.
 Requires: `sk` is valid.
 */
usk_sock_t *usk_sock_hold(usk_sock_t *sk);

/*
 Drops a reference to a sock (sock_put). Null is ignored. Not while the caller owns it. If it is the last to a sock
 that no program has, a child from usk_new_child or one that was closed, the sock is finished as by usk_done; so it
 is when a table, a queue, a timer or a packet had the last one.
 Requires: `sk` is null or held, and not used afterwards.
 */
void usk_sock_put(usk_sock_t *sk);

/*
 Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which must not move until usk_release_sock,
 in the same thread. Process context; in packet and timer context only for a sock that no program can own yet (a
 child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, or an inner sock of it; -EINVAL for
 null.
 Requires: `sk` is valid until the release; `o` is writable, and not owned now.
 */
int usk_lock_sock(usk_sock_t *sk,
                  usk_owned_t *o);

/*
 Releases the sock (release_sock): runs backlog_rcv for packets that arrived meanwhile, then release_cb for deferred
 work. Only for a usk_owned_t that usk_lock_sock filled: -EINVAL for an operation's argument, and for one that is
 released already.
 Requires: `o` is readable.
 */
int usk_release_sock(usk_owned_t *o);

/*
 Passes a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock
 releases it. Always consumes `skb`. Returns 0, or -ENOBUFS if the backlog is full and the packet was dropped and
 counted.
 Requires: `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_deliver(usk_sock_t *sk,
                usk_skb_t *skb);

/*
 Requests release_cb with these bits: it runs now, or when the owner releases the sock. From any thread that does not
 own the sock.
 Requires: `sk` is valid.
 */
int usk_defer(usk_sock_t *sk,
              uint32_t bits);

/*
 Sets the pending error (SO_ERROR) and wakes all waiters (sk_error_report). `err` is a positive errno. Owned or not.
 Requires: `sk` is valid.
 */
int usk_error_report(usk_sock_t *sk,
                     int err);

/*
 Breaks the socket, as the stack does when an operation returns an invalid value: for the code that catches a C++
 exception or a panic of a Rust shared object, which must not leave an operation. Owned or not, in any context, from
 any thread that holds the sock; repeating it has no effect. A hook into TCP passes `h->sk`, a congestion control
 `tp->sk`.

 From then on every call that reaches the protocol returns EIO, poll returns POLLERR and POLLHUP beside POLLIN and
 POLLOUT, all waiters are woken, usk_wait returns -EIO, and packets for the sock are dropped and counted. No
 operation of the sock begins any more except destroy, which runs when the last descriptor is closed: at once if it
 is closed already, or if the sock is a child that was not accepted. If the operation that catches has locked the
 sock by usk_lock_sock, the lock is released when the operation returns. The sock's memory is freed with its last
 handle. On a TCP connection no operation of its layer or of a TCP beside the library's except release, no hook, and
 no function of the congestion control that called this runs any more, and what the hook or the function returns or
 has written is ignored; TCP itself goes on, and ends the connection as usual when it is closed. Returns 0; -EINVAL
 for null.
 Requires: `sk` is valid.
 */
int usk_break(usk_sock_t *sk);

/*
 Returns the pending error as a negative errno and clears it (sock_error); 0: none. sendmsg and recvmsg return it
 first.
 Requires: `sk` is valid.
 */
int usk_sock_error(usk_sock_t *sk);

/*
 Wakes the threads that wait for one of these events: poll(2)'s bits. Owned or not.
 Requires: `sk` is valid.
 */
int usk_wake(usk_sock_t *sk, uint32_t events);

/*
 The state, by Linux's numbers (TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10): sk_state.
 Requires: `sk` is valid.
 */
int usk_sock_state(usk_sock_t *sk);

/*
 Shut down directions: bit 0 receiving, bit 1 sending (sk_shutdown).
 Requires: `sk` is valid.
 */
int usk_sock_shutdown(usk_sock_t *sk);

/*
 Sleeps with the sock released until one of `events` (poll(2)'s bits) is signalled, then owns it again
 (sk_wait_event). The caller checks its condition again: a wake-up may be for another waiter. Process context.
 `deadline`: nanoseconds of the stack's clock, USK_FOREVER for none. Returns 0; -EAGAIN if the deadline has passed,
 -EINTR on a signal, -EIO if the sock is broken; -EDEADLK in an operation for a packet or a timer, which must not
 sleep, or while the caller owns an inner sock of it: to own the sock again would be the wrong order of locks.
 Requires: `o` is owned.
 */
int usk_wait(usk_owned_t *o,
             uint32_t events,
             uint64_t deadline);

/*
 How many bytes a receive call of `len` bytes waits for: SO_RCVLOWAT, or with `waitall` all; at least 1
 (sock_rcvlowat).
 Requires: `o` is owned.
 */
size_t usk_rcvlowat(usk_owned_t *o,
                    int waitall,
                    size_t len);

/*
 The deadline for usk_wait by SO_RCVTIMEO (`dir` USK_RECV) or SO_SNDTIMEO (USK_SEND) (sock_rcvtimeo, sock_sndtimeo);
 with `dontwait` 0, which has passed.
 Requires: `o` is owned.
 */
uint64_t usk_timeo(usk_owned_t *o,
                   int dir,
                   int dontwait);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_CORE_H */

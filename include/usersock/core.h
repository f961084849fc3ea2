/* usersock for plug-ins: what all of them stand on: loading, socks, packets, messages, addresses. The calls answer as
 * functions in the kernel do: 0 or more, or a negative errno; a pointer, or null. Each kind of plug-in has a header
 * beside this one, which includes it. MIT OR Apache-2.0. */

#ifndef USERSOCK_CORE_H
#define USERSOCK_CORE_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "../usersock.h"

/*
 Boolean options of SOL_SOCKET, for usk_sock_flag.
 */
#define USK_FLAG_DEAD 0

/*
 SO_KEEPALIVE.
 */
#define USK_FLAG_KEEPOPEN 1

/*
 SO_LINGER.
 */
#define USK_FLAG_LINGER 2

/*
 SO_BROADCAST.
 */
#define USK_FLAG_BROADCAST 3

/*
 SO_REUSEADDR.
 */
#define USK_FLAG_REUSE 4

/*
 SO_REUSEPORT.
 */
#define USK_FLAG_REUSEPORT 5

/*
 Bytes of a packet's notes (usk_skb_cb).
 */
#define USK_SKB_CB 48

/*
 No deadline: for usk_wait.
 */
#define USK_FOREVER UINT64_MAX

/*
 A plug-in of one stack: what its entry point is given. Valid until usk_plugin_unload, or the end of the stack.
 */
typedef struct usk_plugin_t usk_plugin_t;

/*
 A queue of packets. Made by usk_queue_new; belongs to the caller.
 */
typedef struct usk_queue_t usk_queue_t;

/*
 A receive call: recvmsg's argument. It is filled from the front.
 */
typedef struct usk_recvmsg_t usk_recvmsg_t;

/*
 A message to send: sendmsg's argument. Its bytes are taken from the front.
 */
typedef struct usk_sendmsg_t usk_sendmsg_t;

/*
 A packet: room for headers in front, payload in shared pages. Belongs to whoever made or popped it, until it is
 freed or given to a call that takes it.
 */
typedef struct usk_skb_t usk_skb_t;

/*
 A sock, not owned. What an operation is given is valid until it returns; what usk_sock_hold, usk_proto_lookup or
 usk_new_child gave until usk_sock_put, and while it is held its stack lives too. Pointers to one sock are equal.
 */
typedef struct usk_sock_t usk_sock_t;

/*
 The entry point of a plug-in: registers what it has; 0, or a negative errno to be refused.
 */
typedef int (*usk_plugin_init_fn)(struct usk_plugin_t *plugin);

/*
 An end of a connection, or an address: `family` AF_INET with the first 4 bytes of `addr`, or AF_INET6 with all, both
 in network order; `port` in host order; `scope_id` the interface of a link-local address.
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
   Network order; 4 bytes of an IPv4 address, the rest 0.
   */
  uint8_t addr[16];
} usk_addr_t;

/*
 An owned sock. Operations that are called with the sock owned get one, for as long as they run; the others make one
 with usk_lock_sock in memory of their own. Not to be copied or moved.
 */
typedef struct usk_owned_t {
  uint64_t opaque[4];
} usk_owned_t;

/*
 A sysctl of a protocol's own: `net.NAME.` and the name, a number.
 */
typedef struct usk_sysctl_t {
  /*
   Last part of the name; null ends the list.
   */
  const char *name;
  /*
   First value.
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
 Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point `int
 usk_plugin_init(usk_plugin_t *)`, which registers what it has. Its `void usk_plugin_exit(usk_plugin_t *)`, if any,
 is called, with null, when the last use of its code has ended, just before it leaves memory: by usk_plugin_unload,
 or by the last thread that was in an operation then. The same as plugin=FILE in a configuration. A name without
 slash is looked for in the working directory. Null with errno on failure, and usk_config_error says why in a line:
 ENOENT, EINVAL, or what the entry point answered.
 Requires: `stack` is null or from usk_stack_new; `file` is a string.
 */
struct usk_plugin_t *usk_plugin_load(usk_stack_t *stack,
                                     const char *file);

/*
 As usk_plugin_load, of code that is linked to the program: calls `init`. `name` is for messages.
 Requires: `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
 */
struct usk_plugin_t *usk_plugin_attach(usk_stack_t *stack,
                                       const char *name,
                                       usk_plugin_init_fn init);

/*
 Unregisters everything a plug-in registered, the newest first, and unloads it. Returns 0; or -1 with errno EBUSY
 while something of it is in use: what was unregistered by then stays so, and the call can be repeated. Not from the
 plug-in's own code.
 Requires: `plugin` is valid, and not used after success.
 */
int usk_plugin_unload(struct usk_plugin_t *plugin);

/*
 The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. A plug-in that keeps
 it keeps the stack from ending. Null: it has ended.
 Requires: `plugin` is valid.
 */
usk_stack_t *usk_plugin_stack(struct usk_plugin_t *plugin);

/*
 Bytes not yet taken.
 Requires: `msg` is sendmsg's argument.
 */
size_t usk_sendmsg_len(struct usk_sendmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 Requires: `msg` is sendmsg's argument.
 */
int usk_sendmsg_flags(struct usk_sendmsg_t *msg);

/*
 The destination the call names (msg_name). -ENOENT: none.
 Requires: `msg` is sendmsg's argument; `addr` is writable.
 */
int usk_sendmsg_name(struct usk_sendmsg_t *msg, struct usk_addr_t *addr);

/*
 Takes up to `len` bytes into `to`; returns how many (copy_from_iter). usk_skb_append_msg takes them into a packet.
 Requires: `msg` is sendmsg's argument; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_sendmsg_take(struct usk_sendmsg_t *msg,
                           void *to,
                           size_t len);

/*
 Appends up to `len` bytes of a message, taking them; returns how many (skb_add_data).
 Requires: `skb` is a packet; `msg` is an operation's argument.
 */
ptrdiff_t usk_skb_append_msg(struct usk_skb_t *skb, struct usk_sendmsg_t *msg, size_t len);

/*
 A new packet of up to `len` bytes of a message, taking them: usk_skb_new and usk_skb_append_msg.
 Requires: `msg` is an operation's argument.
 */
struct usk_skb_t *usk_skb_from_msg(struct usk_sendmsg_t *msg, size_t len);

/*
 Bytes of room left.
 Requires: `msg` is recvmsg's argument.
 */
size_t usk_recvmsg_room(struct usk_recvmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 Requires: `msg` is recvmsg's argument.
 */
int usk_recvmsg_flags(struct usk_recvmsg_t *msg);

/*
 Copies bytes to the program, as far as there is room; returns how many (copy_to_iter).
 Requires: `msg` is recvmsg's argument; `data` is readable for `len` bytes.
 */
ptrdiff_t usk_recvmsg_put(struct usk_recvmsg_t *msg, const void *data, size_t len);

/*
 Copies `len` bytes of a packet from `offset` on to the program, as far as there are and there is room; returns how
 many (skb_copy_datagram_msg).
 Requires: `msg` is recvmsg's argument; `skb` is a packet.
 */
ptrdiff_t usk_recvmsg_put_skb(struct usk_recvmsg_t *msg,
                              struct usk_skb_t *skb,
                              size_t offset,
                              size_t len);

/*
 Says who sent it (msg_name).
 Requires: `msg` is recvmsg's argument; `addr` is readable.
 */
int usk_recvmsg_set_name(struct usk_recvmsg_t *msg, const struct usk_addr_t *addr);

/*
 Adds MSG_* bits to hand back (MSG_EOR, MSG_TRUNC): msg_flags.
 Requires: `msg` is recvmsg's argument.
 */
int usk_recvmsg_set_flags(struct usk_recvmsg_t *msg, int flags);

/*
 The sock of an owned one, to hand on; valid as long as the ownership.
 Requires: `o` is owned.
 */
struct usk_sock_t *usk_owned_sock(struct usk_owned_t *o);

/*
 Time of the event being processed, nanoseconds of the stack's clock.
 Requires: `o` is owned.
 */
uint64_t usk_owned_now(struct usk_owned_t *o);

/*
 Whether this is packet or timer context, where nothing may sleep.
 Requires: `o` is owned.
 */
int usk_in_softirq(struct usk_owned_t *o);

/*
 Runs the backlog now, in the middle of a long call (sk_flush_backlog). 1: there was something.
 Requires: `o` is owned.
 */
int usk_flush_backlog(struct usk_owned_t *o);

/*
 Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
 and has succeeded unless it is then TCP_CLOSE (7); accept(2) wants TCP_LISTEN (10). -EINVAL: no such state;
 connections wait for accept(2) (usk_listen_stop closes them); or the sock is finished.
 Requires: `o` is owned.
 */
int usk_set_state(struct usk_owned_t *o,
                  int state);

/*
 Adds to what shutdown(2) has ended: bit 0 receiving (the peer's end), bit 1 sending.
 Requires: `o` is owned.
 */
int usk_set_shutdown(struct usk_owned_t *o, int bits);

/*
 Whether an option or state of USK_FLAG_* is set (sock_flag).
 Requires: `o` is owned.
 */
int usk_sock_flag(struct usk_owned_t *o, int which);

/*
 SO_LINGER's time in nanoseconds, if it is set; -1 otherwise.
 Requires: `o` is owned.
 */
int64_t usk_linger(struct usk_owned_t *o);

/*
 The local end: the address packets leave from, or the one bound to; port 0: not bound.
 Requires: `o` is owned; `addr` is writable.
 */
int usk_local(struct usk_owned_t *o, struct usk_addr_t *addr);

/*
 The peer. -ENOTCONN without one.
 Requires: `o` is owned; `addr` is writable.
 */
int usk_peer(struct usk_owned_t *o, struct usk_addr_t *addr);

/*
 Sets both ends of a sock that a packet made (a child): `local` and `peer` as the packet's destination and source
 were. -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is
 in the table under another port; -EAFNOSUPPORT: an AF_INET sock has no IPv6 ends.
 Requires: `o` is owned; both addresses are readable.
 */
int usk_set_ends(struct usk_owned_t *o,
                 const struct usk_addr_t *local,
                 const struct usk_addr_t *peer);

/*
 SO_RCVBUF, bytes of truesize.
 Requires: `o` is owned.
 */
int usk_rcvbuf(struct usk_owned_t *o);

/*
 SO_SNDBUF, bytes of truesize.
 Requires: `o` is owned.
 */
int usk_sndbuf(struct usk_owned_t *o);

/*
 Bytes of truesize in the receive queue (sk_rmem_alloc).
 Requires: `o` is owned.
 */
int usk_rmem(struct usk_owned_t *o);

/*
 Bytes of truesize in the send queues (sk_wmem_queued), as usk_wmem_charge and usk_wmem_uncharge count them.
 Requires: `o` is owned.
 */
int usk_wmem(struct usk_owned_t *o);

/*
 Puts a packet at the end of the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Takes
 `skb`, always. Returns 0, or -ENOBUFS when the buffer is full, memory is out or the socket closed: the packet is
 then dropped and counted.
 Requires: `o` is owned; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_receive_push(struct usk_owned_t *o,
                     struct usk_skb_t *skb);

/*
 The next packet of the receive queue, which stays there; null: none.
 Requires: `o` is owned; the packet is used while it is, and before the queue changes.
 */
struct usk_skb_t *usk_receive_peek(struct usk_owned_t *o);

/*
 Takes the next packet of the receive queue off it, uncharged: the caller's to free. Null: none.
 Requires: `o` is owned.
 */
struct usk_skb_t *usk_receive_pop(struct usk_owned_t *o);

/*
 recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (what is before
 is the protocol's header), takes it off unless MSG_PEEK is set, says MSG_TRUNC when there is no room for all, and
 answers what recvmsg does: the bytes copied, or with MSG_TRUNC given those there are. -EAGAIN: the queue is empty.
 Requires: `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_receive_msg(struct usk_owned_t *o,
                          struct usk_recvmsg_t *msg,
                          size_t offset);

/*
 Packets in the receive queue.
 Requires: `o` is owned.
 */
size_t usk_receive_len(struct usk_owned_t *o);

/*
 Charges a packet that enters a receive queue of the protocol's own, as usk_receive_push does with the sock's
 (sk_rmem_schedule, skb_set_owner_r). Past half of SO_RCVBUF a packet whose bytes sit in a larger page is copied to a
 smaller one first. -ENOBUFS: the protocol's limit refuses. SO_RCVBUF is the caller's to look at (usk_rmem,
 usk_rcvbuf).
 Requires: `o` is owned; `skb` is a packet.
 */
int usk_rmem_charge(struct usk_owned_t *o,
                    struct usk_skb_t *skb);

/*
 The packet leaves that queue. Give it with the truesize it was charged with: not grown meanwhile. By destroy at the
 latest.
 Requires: `o` is owned; `skb` is a packet that was charged.
 */
int usk_rmem_uncharge(struct usk_owned_t *o,
                      struct usk_skb_t *skb);

/*
 Charges a packet that enters a send queue to the sock and to the protocol's memory (sk_wmem_schedule,
 sk_wmem_queued_add). -ENOBUFS: the protocol's limit refuses; wait for memory, or drop. SO_SNDBUF is the caller's to
 look at (usk_wmem, usk_sndbuf).
 Requires: `o` is owned; `skb` is a packet.
 */
int usk_wmem_charge(struct usk_owned_t *o,
                    struct usk_skb_t *skb);

/*
 The packet leaves the send queue. Give it with the truesize it was charged with: not grown meanwhile.
 Requires: `o` is owned; `skb` is a packet that was charged.
 */
int usk_wmem_uncharge(struct usk_owned_t *o,
                      struct usk_skb_t *skb);

/*
 Charges `size` bytes that are not in a packet to the protocol's memory (sk_mem_charge); negative gives them back.
 -ENOBUFS.
 Requires: `o` is owned.
 */
int usk_mem_charge(struct usk_owned_t *o,
                   int size);

/*
 Arms, or moves, timer `index` (0 to 31) of the sock: at `at`, nanoseconds of the stack's clock, release_cb gets bit
 `index`, or as soon as the owner lets go. -EINVAL: no such index, or the sock is finished.
 Requires: `o` is owned.
 */
int usk_timer_arm(struct usk_owned_t *o,
                  uint32_t index,
                  uint64_t at);

/*
 Disarms timer `index`. 1: it was pending. One that has fired while the sock was owned is still told to release_cb:
 compare the time there.
 Requires: `o` is owned.
 */
int usk_timer_cancel(struct usk_owned_t *o,
                     uint32_t index);

/*
 When timer `index` fires, nanoseconds of the stack's clock; 0: not armed, or it has fired.
 Requires: `o` is owned.
 */
uint64_t usk_timer_at(struct usk_owned_t *o, uint32_t index);

/*
 The sock is finished: it has left the tables, nothing more is queued. Cancels its timers, empties the receive queue,
 resets connections nobody accepted (through close), runs destroy, once, and wakes everybody (inet_csk_destroy_sock).
 Its memory goes with the last handle. No operation of the sock begins any more: packets that still come are dropped
 and counted. -EBUSY: a program has the sock (neither is USK_FLAG_DEAD set, nor is it a child that nobody has
 accepted), which would go on to use what destroy frees: set its state, and finish it in close. -EINVAL: the sock is
 another protocol's.
 Requires: `o` is owned.
 */
int usk_done(struct usk_owned_t *o);

/*
 A new, empty packet (alloc_skb).
 */
struct usk_skb_t *usk_skb_new(void);

/*
 Frees a packet (kfree_skb). Null is ignored.
 Requires: `skb` is null or the caller's, and not used afterwards.
 */
void usk_skb_free(struct usk_skb_t *skb);

/*
 A packet with the same payload, shared, and a copy of the headers (skb_clone): what goes to the device while the
 original waits for its acknowledgement. Its notes are zero.
 Requires: `skb` is a packet.
 */
struct usk_skb_t *usk_skb_share(struct usk_skb_t *skb);

/*
 Bytes in the packet, headers that are pushed and not yet pulled included.
 Requires: `skb` is a packet.
 */
size_t usk_skb_len(struct usk_skb_t *skb);

/*
 Bytes of memory the packet is charged with (truesize).
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_truesize(struct usk_skb_t *skb);

/*
 The notes a protocol keeps on a packet: USK_SKB_CB bytes aligned to 8, zero at first (sk_buff.cb).
 Requires: `skb` is a packet.
 */
void *usk_skb_cb(struct usk_skb_t *skb);

/*
 Room for `n` more bytes of header in front, zeroed, to be written (skb_push). Null: there is not that much room; a
 new packet has 128 bytes, of which IP and the link want 76.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
void *usk_skb_push(struct usk_skb_t *skb,
                   size_t n);

/*
 Forgets the first `n` bytes (skb_pull). -EINVAL: there are fewer, nothing is done.
 Requires: `skb` is a packet.
 */
int usk_skb_pull(struct usk_skb_t *skb, size_t n);

/*
 Shortens the packet to `n` bytes (skb_trim); no effect when it is not longer.
 Requires: `skb` is a packet.
 */
int usk_skb_trim(struct usk_skb_t *skb, size_t n);

/*
 The first `n` bytes in one piece (pskb_may_pull), to read; null when the packet is shorter.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
const void *usk_skb_header(struct usk_skb_t *skb, size_t n);

/*
 Copies bytes from `offset` on out of the packet; returns how many there were (skb_copy_bits).
 Requires: `skb` is a packet; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_skb_copy(struct usk_skb_t *skb, size_t offset, void *to, size_t len);

/*
 Appends a copy of `len` bytes. The packet's truesize grows. -EMSGSIZE: it would pass 2^30.
 Requires: `skb` is a packet; `data` is readable for `len` bytes.
 */
int usk_skb_append(struct usk_skb_t *skb, const void *data, size_t len);

/*
 The ones-complement sum of `len` bytes of a packet from `offset` on, added to `sum`, for usk_csum_fold
 (skb_checksum). Bytes that are not there do not count.
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_csum(struct usk_skb_t *skb,
                      size_t offset,
                      size_t len,
                      uint32_t sum);

/*
 The checksum of this packet need not be looked at: it never left the machine, or the device did
 (CHECKSUM_UNNECESSARY).
 Requires: `skb` is a packet.
 */
int usk_skb_csum_unnecessary(struct usk_skb_t *skb);

/*
 An empty queue (skb_queue_head_init).
 */
struct usk_queue_t *usk_queue_new(void);

/*
 Frees a queue and the packets in it (skb_queue_purge). Null is ignored.
 Requires: `q` is null or from usk_queue_new, and not used afterwards.
 */
void usk_queue_free(struct usk_queue_t *q);

/*
 Packets in the queue.
 Requires: `q` is a queue.
 */
size_t usk_queue_len(struct usk_queue_t *q);

/*
 Puts a packet before place `at` (0: the front); beyond the end is the end. Takes `skb`, always.
 Requires: `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
 */
int usk_queue_insert(struct usk_queue_t *q, size_t at, struct usk_skb_t *skb);

/*
 Puts a packet at the end (skb_queue_tail). Takes `skb`, always.
 Requires: as usk_queue_insert.
 */
int usk_queue_push(struct usk_queue_t *q, struct usk_skb_t *skb);

/*
 The packet at place `at`, which stays there; null: there are not that many (skb_peek).
 Requires: `q` is a queue; the packet is used before the queue changes.
 */
struct usk_skb_t *usk_queue_peek(struct usk_queue_t *q, size_t at);

/*
 Takes the packet at place `at` out; the caller's to free. Null: there are not that many (__skb_unlink).
 Requires: `q` is a queue.
 */
struct usk_skb_t *usk_queue_remove(struct usk_queue_t *q,
                                   size_t at);

/*
 Takes the first packet out (skb_dequeue); null: none.
 Requires: `q` is a queue.
 */
struct usk_skb_t *usk_queue_pop(struct usk_queue_t *q);

/*
 Keeps a sock beyond the operation that was given it (sock_hold). Returns `sk`.
 Requires: `sk` is valid.
 */
struct usk_sock_t *usk_sock_hold(struct usk_sock_t *sk);

/*
 Gives a held sock back (sock_put). Null is ignored. Not while it is owned by the caller.
 Requires: `sk` is null or held, and not used afterwards.
 */
void usk_sock_put(struct usk_sock_t *sk);

/*
 Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which stays where it is until
 usk_release_sock, in the same thread. Process context; in packet and timer context only for a sock that no program
 can own yet (a child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, -EINVAL for null.
 Requires: `sk` is valid until the release; `o` is writable, and not owned now.
 */
int usk_lock_sock(struct usk_sock_t *sk,
                  struct usk_owned_t *o);

/*
 Gives the sock up (release_sock): packets that came meanwhile run through backlog_rcv, then deferred work through
 release_cb. Only for what usk_lock_sock filled: -EINVAL for an operation's own argument, and for what is released
 already.
 Requires: `o` is readable.
 */
int usk_release_sock(struct usk_owned_t *o);

/*
 Gives a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock lets
 go. Takes `skb`, always. Returns 0, or -ENOBUFS when the backlog was full and the packet dropped and counted.
 Requires: `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_deliver(struct usk_sock_t *sk,
                struct usk_skb_t *skb);

/*
 Asks for release_cb with these bits: now, or when the owner lets go. From any thread that does not own the sock.
 Requires: `sk` is valid.
 */
int usk_defer(struct usk_sock_t *sk,
              uint32_t bits);

/*
 Sets the pending error (SO_ERROR) and wakes everybody (sk_error_report). `err` is a positive errno. Owned or not.
 Requires: `sk` is valid.
 */
int usk_error_report(struct usk_sock_t *sk,
                     int err);

/*
 Breaks the socket, as an operation does that breaks its word: for the catch around an operation, out of which no
 exception of C++ and no panic of a Rust shared object may come. Owned or not, in any context, from any thread; more
 than once is as once.

 From then on every call that concerns the protocol answers EIO, poll says POLLERR and POLLHUP beside POLLIN and
 POLLOUT, who waits is woken, usk_wait answers -EIO, and packets for the sock are dropped and counted. No operation
 of the sock begins any more but destroy, which runs when the last descriptor is closed: at once where that has
 happened, or where the sock is a child that nobody has accepted. What usk_lock_sock locked in the operation that
 catches is released when that returns. The sock's memory goes with its last handle. On a connection of TCP, under a
 layer: no operation of the layer and no hook is called for it any more but the layer's release; TCP itself goes on,
 and ends it as usual when it is closed. Returns 0; -EINVAL for null.
 Requires: `sk` is valid.
 */
int usk_sock_break(struct usk_sock_t *sk);

/*
 Takes the pending error away (sock_error): 0, or it as a negative errno, once. What sendmsg and recvmsg answer
 first.
 Requires: `sk` is valid.
 */
int usk_sock_error(struct usk_sock_t *sk);

/*
 The pending error as a positive errno, which stays; 0: none. For the poll operation: POLLERR (sk->sk_err).
 Requires: `sk` is valid.
 */
int usk_sock_pending_error(struct usk_sock_t *sk);

/*
 Wakes who waits for one of these events: poll(2)'s bits. Owned or not.
 Requires: `sk` is valid.
 */
int usk_wake(struct usk_sock_t *sk, uint32_t events);

/*
 The state, by Linux's numbers (TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10): sk_state.
 Requires: `sk` is valid.
 */
int usk_sock_state(struct usk_sock_t *sk);

/*
 What shutdown(2) has ended: bit 0 receiving, bit 1 sending (sk_shutdown).
 Requires: `sk` is valid.
 */
int usk_sock_shutdown(struct usk_sock_t *sk);

/*
 AF_INET or AF_INET6.
 Requires: `sk` is valid.
 */
int usk_sock_family(struct usk_sock_t *sk);

/*
 Sleeps with the sock released until one of `events` (poll(2)'s bits) is signalled, then owns it again
 (sk_wait_event). The caller looks at its condition again: wake-ups may be for somebody else. Process context.
 `deadline`: nanoseconds of the stack's clock, USK_FOREVER for none. Returns 0; -EAGAIN when the deadline has passed,
 -EINTR on a signal, -EIO when the sock is broken; -EDEADLK in an operation for a packet or a timer, which nobody
 would wake.
 Requires: `o` is owned.
 */
int usk_wait(struct usk_owned_t *o,
             uint32_t events,
             uint64_t deadline);

/*
 When a receive must give up by SO_RCVTIMEO, as usk_wait takes it (sock_rcvtimeo); `dontwait`: now, that is 0.
 Requires: `o` is owned.
 */
uint64_t usk_rcvtimeo(struct usk_owned_t *o,
                      int dontwait);

/*
 Bytes that a receive of `len` of them waits for, by SO_RCVLOWAT; `waitall`: all. At least 1 (sock_rcvlowat).
 Requires: `o` is owned.
 */
size_t usk_rcvlowat(struct usk_owned_t *o,
                    int waitall,
                    size_t len);

/*
 When a send must give up by SO_SNDTIMEO, as usk_wait takes it (sock_sndtimeo); `dontwait`: now, that is 0.
 Requires: `o` is owned.
 */
uint64_t usk_sndtimeo(struct usk_owned_t *o,
                      int dontwait);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_CORE_H */

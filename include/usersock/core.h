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
 usk_sock_info_t.flags: no program has the sock: the last descriptor is closed (SOCK_DEAD).
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
 A direction, for usk_charge, usk_uncharge, usk_charged and usk_timeo: what is received; SO_RCVBUF, SO_RCVTIMEO.
 */
#define USK_RECV 0

/*
 The other direction: what is sent; SO_SNDBUF, SO_SNDTIMEO.
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
 For usk_drop: there is no sock for it.
 */
#define USK_DROP_NO_SOCKET 3

/*
 For usk_drop: the sock refuses it in its state, or it is a repetition.
 */
#define USK_DROP_STATE 4

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
 What a plug-in has registered in one stack: a protocol, a layer, a congestion control, hooks, a kind of device. The
 usk_..._register calls give it, and the functions of the table get it. Valid until usk_unregister has succeeded, and
 in a function of the table until that returns.
 */
typedef struct usk_reg_t usk_reg_t;

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
 An owned sock. Operations that are called with the sock owned get one, for as long as they run; the others make one
 with usk_lock_sock in memory of their own. Not to be copied or moved.
 */
typedef struct usk_owned_t {
  uint64_t opaque[4];
} usk_owned_t;

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
 A sock as it is now: what usk_sock_info fills in.
 */
typedef struct usk_sock_info_t {
  /*
   Our end: the address packets leave from, or the one bound to; port 0: not bound.
   */
  usk_addr_t local;
  /*
   The peer; family 0: there is none.
   */
  usk_addr_t peer;
  /*
   AF_INET or AF_INET6, as socket(2) was called.
   */
  uint32_t family;
  /*
   SOCK_STREAM ..., as socket(2) was called.
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
   What shutdown(2) has ended: bit 0 receiving, bit 1 sending (sk_shutdown).
   */
  uint32_t shutdown;
  /*
   USK_FLAG_*.
   */
  uint32_t flags;
  /*
   The pending error as a positive errno; 0: none (sk_err). It stays: usk_sock_error takes it.
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
   Of a listener: connections that wait for accept(2).
   */
  uint32_t ack_backlog;
  /*
   Of a listener: how many may, listen(2)'s backlog; more is full.
   */
  uint32_t max_ack_backlog;
  /*
   SO_RCVLOWAT, bytes.
   */
  int rcvlowat;
  /*
   SO_LINGER's time, nanoseconds; -1: it is not set.
   */
  int64_t linger;
  /*
   Time of the event being processed, nanoseconds of the stack's clock: usk_owned_now.
   */
  uint64_t now;
} usk_sock_info_t;

/*
 The entry point of a plug-in: registers what it has; 0, or a negative errno to be refused.
 */
typedef int (*usk_plugin_init_fn)(usk_plugin_t *plugin);

/*
 A sysctl of a table's own, a number: net.NAME. and `name`, where NAME is the table's, in lower case.
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
 Fills `*info` with what the sock is. `size` is sizeof(usk_sock_info_t): a program that was compiled against an older
 header gets what it knows, and for a newer one what the library does not know is zero. Returns how many bytes it
 knows. Of a sock that is not owned there are usk_sock_state and usk_sock_shutdown.
 Requires: `o` is owned; `info` is writable for `size` bytes.
 */
ptrdiff_t usk_sock_info(usk_owned_t *o,
                        usk_sock_info_t *info,
                        size_t size);

/*
 Both ends, as usk_sock_info has them: what a packet's checksum needs. Null for what is not wanted. Returns 0;
 -ENOTCONN: the peer is wanted, and there is none.
 Requires: `o` is owned; `local` and `peer` are null or writable.
 */
int usk_ends(usk_owned_t *o,
             usk_addr_t *local,
             usk_addr_t *peer);

/*
 Sets both ends of a sock that a packet made (a child): `local` and `peer` as the packet's destination and source
 were. -EINVAL: the two are of different families, the peer has no port though the protocol has ports, or the sock is
 in the table under another port; -EAFNOSUPPORT: an AF_INET sock has no IPv6 ends.
 Requires: `o` is owned; both addresses are readable.
 */
int usk_set_ends(usk_owned_t *o,
                 const usk_addr_t *local,
                 const usk_addr_t *peer);

/*
 Loads a plug-in, a shared object, into a stack (null: the default one): calls its entry point `int
 usk_plugin_init(usk_plugin_t *)`, which registers what it has. Its `void usk_plugin_exit(usk_plugin_t *)`, if any,
 is called, with null, when the last use of its code has ended, just before it leaves memory: by usk_plugin_unload,
 or by the last thread that was in an operation then. The same as plugin=FILE in a configuration. A name without
 slash is looked for in the working directory. Null with errno on failure, and usk_config_error says why in a line:
 ENOENT, EINVAL, or what the entry point returned.
 Requires: `stack` is null or from usk_stack_new; `file` is a string.
 */
usk_plugin_t *usk_plugin_load(usk_stack_t *stack,
                              const char *file);

/*
 As usk_plugin_load, of code that is linked to the program: calls `init`. `name` is for messages.
 Requires: `stack` is null or from usk_stack_new; `name` is a string; `init` is an entry point.
 */
usk_plugin_t *usk_plugin_attach(usk_stack_t *stack,
                                const char *name,
                                usk_plugin_init_fn init);

/*
 Unregisters everything a plug-in registered, the newest first, and unloads it. Returns 0; or -1 with errno EBUSY
 while something of it is in use: what was unregistered by then stays so, and the call can be repeated. Not from the
 plug-in's own code.
 Requires: `plugin` is valid, and not used after success.
 */
int usk_plugin_unload(usk_plugin_t *plugin);

/*
 The stack of a plug-in, for the calls that take one; the caller frees it with usk_stack_free. A plug-in that keeps
 it keeps the stack from ending. Null: it has ended.
 Requires: `plugin` is valid.
 */
usk_stack_t *usk_plugin_stack(usk_plugin_t *plugin);

/*
 Charges the sock, and its protocol's memory, with a packet that enters a queue of the protocol's own (its truesize;
 `skb` null: none) and with `bytes` that are in no packet. `dir`: USK_RECV for a receive queue (sk_rmem_schedule,
 skb_set_owner_r; usk_receive_push does it for the sock's own), where past half of SO_RCVBUF a packet whose bytes sit
 in a larger page is copied to a smaller one first; USK_SEND for a send queue (sk_wmem_schedule, sk_wmem_queued_add).
 Returns 0; -ENOBUFS: the protocol's limit refuses, and nothing is charged: drop, or wait for memory. Whether
 SO_RCVBUF or SO_SNDBUF has room is the caller's to look at (usk_charged). What is charged is given back by
 usk_uncharge, at the latest in destroy.
 Requires: `o` is owned; `skb` is null or a packet.
 */
int usk_charge(usk_owned_t *o,
               int dir,
               usk_skb_t *skb,
               size_t bytes);

/*
 Gives back what usk_charge has charged, with the same arguments: the packet leaves the queue, with the truesize it
 was charged with (not grown meanwhile). Never more than is charged. Returns 0; -EINVAL: no such direction.
 Requires: `o` is owned; `skb` is null, or a packet that was charged.
 */
int usk_uncharge(usk_owned_t *o,
                 int dir,
                 usk_skb_t *skb,
                 size_t bytes);

/*
 Bytes that are charged in a direction (sk_rmem_alloc, sk_wmem_queued): truesize of packets, and other bytes of
 usk_charge. `*limit`, unless null, gets the buffer's size, SO_RCVBUF or SO_SNDBUF: there is room while less is
 charged. -EINVAL: no such direction.
 Requires: `o` is owned; `limit` is null or writable.
 */
int usk_charged(usk_owned_t *o,
                int dir,
                int *limit);

/*
 Bytes not yet taken.
 Requires: `msg` is sendmsg's argument.
 */
size_t usk_sendmsg_len(usk_sendmsg_t *msg);

/*
 MSG_* bits of the call; MSG_DONTWAIT also for a descriptor with O_NONBLOCK.
 Requires: `msg` is sendmsg's argument.
 */
int usk_sendmsg_flags(usk_sendmsg_t *msg);

/*
 The destination the call names (msg_name). -ENOENT: none.
 Requires: `msg` is sendmsg's argument; `addr` is writable.
 */
int usk_sendmsg_name(usk_sendmsg_t *msg, usk_addr_t *addr);

/*
 Takes up to `len` bytes into `to`; returns how many (copy_from_iter). usk_skb_append_msg takes them into a packet.
 Requires: `msg` is sendmsg's argument; `to` is writable for `len` bytes.
 */
ptrdiff_t usk_sendmsg_take(usk_sendmsg_t *msg,
                           void *to,
                           size_t len);

/*
 Appends up to `len` bytes of a message, taking them; returns how many (skb_add_data).
 Requires: `skb` is a packet; `msg` is an operation's argument.
 */
ptrdiff_t usk_skb_append_msg(usk_skb_t *skb, usk_sendmsg_t *msg, size_t len);

/*
 A new packet of up to `len` bytes of a message, taking them: usk_skb_new and usk_skb_append_msg.
 Requires: `msg` is an operation's argument.
 */
usk_skb_t *usk_skb_from_msg(usk_sendmsg_t *msg, size_t len);

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
 Copies `len` bytes of a packet from `offset` on to the program, as far as there are and there is room; returns how
 many (skb_copy_datagram_msg).
 Requires: `msg` is recvmsg's argument; `skb` is a packet.
 */
ptrdiff_t usk_recvmsg_put_skb(usk_recvmsg_t *msg,
                              usk_skb_t *skb,
                              size_t offset,
                              size_t len);

/*
 Says who sent it (msg_name).
 Requires: `msg` is recvmsg's argument; `addr` is readable.
 */
int usk_recvmsg_set_name(usk_recvmsg_t *msg, const usk_addr_t *addr);

/*
 Adds MSG_* bits to hand back (MSG_EOR, MSG_TRUNC): msg_flags.
 Requires: `msg` is recvmsg's argument.
 */
int usk_recvmsg_set_flags(usk_recvmsg_t *msg, int flags);

/*
 The sock of an owned one, to hand on; valid as long as the ownership.
 Requires: `o` is owned.
 */
usk_sock_t *usk_owned_sock(usk_owned_t *o);

/*
 Time of the event being processed, nanoseconds of the stack's clock.
 Requires: `o` is owned.
 */
uint64_t usk_owned_now(usk_owned_t *o);

/*
 Runs the backlog now, in the middle of a long call (sk_flush_backlog). 1: there was something.
 Requires: `o` is owned.
 */
int usk_flush_backlog(usk_owned_t *o);

/*
 Changes the state, by Linux's numbers (sk_state). connect(2) waits while it is TCP_SYN_SENT (2) or TCP_SYN_RECV (3),
 and has succeeded unless it is then TCP_CLOSE (7); accept(2) wants TCP_LISTEN (10). -EINVAL: no such state;
 connections wait for accept(2) (usk_listen_stop closes them); or the sock is finished.
 Requires: `o` is owned.
 */
int usk_set_state(usk_owned_t *o,
                  int state);

/*
 Adds to what shutdown(2) has ended: bit 0 receiving (the peer's end), bit 1 sending.
 Requires: `o` is owned.
 */
int usk_set_shutdown(usk_owned_t *o, int bits);

/*
 Puts a packet at the end of the receive queue, charged to the sock, and wakes readers (sock_queue_rcv_skb). Takes
 `skb`, always. Returns 0, or -ENOBUFS when the buffer is full, memory is out or the socket closed: the packet is
 then dropped and counted.
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
 Takes the next packet of the receive queue off it, uncharged: the caller's to free. Null: none.
 Requires: `o` is owned.
 */
usk_skb_t *usk_receive_pop(usk_owned_t *o);

/*
 recvmsg(2) of a datagram protocol, from the receive queue: copies the next packet from `offset` on (what is before
 is the protocol's header), takes it off unless MSG_PEEK is set, says MSG_TRUNC when there is no room for all, and
 returns what recvmsg does: the bytes copied, or with MSG_TRUNC given those there are. -EAGAIN: the queue is empty.
 Requires: `o` is owned; `msg` is recvmsg's argument.
 */
ptrdiff_t usk_receive_msg(usk_owned_t *o,
                          usk_recvmsg_t *msg,
                          size_t offset);

/*
 Arms, or moves, timer `index` (0 to 31) of the sock: at `at`, nanoseconds of the stack's clock, release_cb gets bit
 `index`, or as soon as the owner lets go. -EINVAL: no such index, or the sock is finished.
 Requires: `o` is owned.
 */
int usk_timer_arm(usk_owned_t *o,
                  uint32_t index,
                  uint64_t at);

/*
 Disarms timer `index`. 1: it was pending. One that has fired while the sock was owned is still told to release_cb:
 compare the time there.
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
 The sock is finished: it has left the tables, nothing more is queued. Cancels its timers, empties the receive queue,
 resets connections nobody accepted (through close), runs destroy, once, and wakes everybody (inet_csk_destroy_sock).
 Its memory goes with the last handle. No operation of the sock begins any more: packets that still come are dropped
 and counted. -EBUSY: a program has the sock (neither is USK_FLAG_DEAD set, nor is it a child that nobody has
 accepted), which would go on to use what destroy frees: set its state, and finish it in close. -EINVAL: the sock is
 another protocol's.
 Requires: `o` is owned.
 */
int usk_done(usk_owned_t *o);

/*
 Unregisters what a usk_..._register call registered. Process context, and not from its own functions; hooks from a
 hook as well. Returns 0, and the handle is no longer valid; -EBUSY while it is in use: a socket of the protocol
 exists, a connection has the layer or the congestion control, the congestion control is the default
 (net.ipv4.tcp_congestion_control), the stack has a device of the kind, which is as long as it lives; -ENOENT when it
 was unregistered already. Hooks are never in use: one that runs now on another thread ends as usual, and `release`
 is called after it.
 Requires: `reg` is registered, and not used after success.
 */
int usk_unregister(usk_reg_t *reg);

/*
 Counts `n` in counter `index` of the table's mib_names. -EINVAL: an index beyond them.
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
 The pointer that the usk_..._register call was given: what the plug-in keeps of this stack.
 Requires: `reg` is valid.
 */
void *usk_user(usk_reg_t *reg);

/*
 Nanoseconds of the stack's clock: monotonic, virtual where time is; 0 once the stack has ended.
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
 Frees a packet and counts why among the stack's drop reasons (kfree_skb_reason). Takes `skb`, always. Returns 0;
 -EINVAL: no such reason.
 Requires: `reg` is valid; `skb` is the caller's, and not used afterwards.
 */
int usk_drop(usk_reg_t *reg,
             usk_skb_t *skb,
             int reason);

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
 A packet with the same payload, shared, and a copy of the headers (skb_clone): what goes to the device while the
 original waits for its acknowledgement. Its notes are zero.
 Requires: `skb` is a packet.
 */
usk_skb_t *usk_skb_share(usk_skb_t *skb);

/*
 Bytes in the packet, headers that are pushed and not yet pulled included.
 Requires: `skb` is a packet.
 */
size_t usk_skb_len(usk_skb_t *skb);

/*
 Bytes of memory the packet is charged with (truesize).
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_truesize(usk_skb_t *skb);

/*
 The notes a protocol keeps on a packet: USK_SKB_CB bytes aligned to 8, zero at first (sk_buff.cb).
 Requires: `skb` is a packet.
 */
void *usk_skb_cb(usk_skb_t *skb);

/*
 Room for `n` more bytes of header in front, zeroed, to be written (skb_push). Null: there is not that much room; a
 new packet has 128 bytes, of which IP and the link want 76.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
void *usk_skb_push(usk_skb_t *skb,
                   size_t n);

/*
 Forgets the first `n` bytes (skb_pull). -EINVAL: there are fewer, nothing is done.
 Requires: `skb` is a packet.
 */
int usk_skb_pull(usk_skb_t *skb, size_t n);

/*
 Shortens the packet to `n` bytes (skb_trim); no effect when it is not longer.
 Requires: `skb` is a packet.
 */
int usk_skb_trim(usk_skb_t *skb, size_t n);

/*
 The first `n` bytes in one piece (pskb_may_pull), to read; null when the packet is shorter.
 Requires: `skb` is a packet; the bytes are used before it is changed.
 */
const void *usk_skb_header(usk_skb_t *skb, size_t n);

/*
 Copies bytes from `offset` on out of the packet; returns how many there were (skb_copy_bits).
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
 (skb_checksum). Bytes that are not there do not count.
 Requires: `skb` is a packet.
 */
uint32_t usk_skb_csum(usk_skb_t *skb,
                      size_t offset,
                      size_t len,
                      uint32_t sum);

/*
 The checksum of this packet need not be looked at: it never left the machine, or the device did
 (CHECKSUM_UNNECESSARY).
 Requires: `skb` is a packet.
 */
int usk_skb_csum_unnecessary(usk_skb_t *skb);

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
 Puts a packet before place `at` (0: the front); beyond the end is the end. Takes `skb`, always.
 Requires: `q` is a queue; `skb` is the caller's, and not used afterwards but through the queue.
 */
int usk_queue_insert(usk_queue_t *q, size_t at, usk_skb_t *skb);

/*
 Puts a packet at the end (skb_queue_tail). Takes `skb`, always.
 Requires: as usk_queue_insert.
 */
int usk_queue_push(usk_queue_t *q, usk_skb_t *skb);

/*
 The packet at place `at`, which stays there; null: there are not that many (skb_peek).
 Requires: `q` is a queue; the packet is used before the queue changes.
 */
usk_skb_t *usk_queue_peek(usk_queue_t *q, size_t at);

/*
 Takes the packet at place `at` out; the caller's to free. Null: there are not that many (__skb_unlink).
 Requires: `q` is a queue.
 */
usk_skb_t *usk_queue_remove(usk_queue_t *q,
                            size_t at);

/*
 Takes the first packet out (skb_dequeue); null: none.
 Requires: `q` is a queue.
 */
usk_skb_t *usk_queue_pop(usk_queue_t *q);

/*
 Keeps a sock beyond the operation that was given it (sock_hold). Returns `sk`.
 Requires: `sk` is valid.
 */
usk_sock_t *usk_sock_hold(usk_sock_t *sk);

/*
 Gives a held sock back (sock_put). Null is ignored. Not while it is owned by the caller.
 Requires: `sk` is null or held, and not used afterwards.
 */
void usk_sock_put(usk_sock_t *sk);

/*
 Sleeps until nobody owns the sock, then owns it (lock_sock). Fills `*o`, which stays where it is until
 usk_release_sock, in the same thread. Process context; in packet and timer context only for a sock that no program
 can own yet (a child from usk_new_child). Returns 0; -EDEADLK when this thread owns it already, -EINVAL for null.
 Requires: `sk` is valid until the release; `o` is writable, and not owned now.
 */
int usk_lock_sock(usk_sock_t *sk,
                  usk_owned_t *o);

/*
 Gives the sock up (release_sock): packets that came meanwhile run through backlog_rcv, then deferred work through
 release_cb. Only for what usk_lock_sock filled: -EINVAL for an operation's own argument, and for what is released
 already.
 Requires: `o` is readable.
 */
int usk_release_sock(usk_owned_t *o);

/*
 Gives a packet to a sock from packet context: backlog_rcv runs now, or when the system call that owns the sock lets
 go. Takes `skb`, always. Returns 0, or -ENOBUFS when the backlog was full and the packet dropped and counted.
 Requires: `sk` is valid; `skb` is a packet of the caller's, and not used afterwards.
 */
int usk_deliver(usk_sock_t *sk,
                usk_skb_t *skb);

/*
 Asks for release_cb with these bits: now, or when the owner lets go. From any thread that does not own the sock.
 Requires: `sk` is valid.
 */
int usk_defer(usk_sock_t *sk,
              uint32_t bits);

/*
 Sets the pending error (SO_ERROR) and wakes everybody (sk_error_report). `err` is a positive errno. Owned or not.
 Requires: `sk` is valid.
 */
int usk_error_report(usk_sock_t *sk,
                     int err);

/*
 Breaks the socket, as the stack does when an operation returns what it must not: for the catch around an operation,
 out of which no exception of C++ and no panic of a Rust shared object may come. Owned or not, in any context, from
 any thread that holds it; more than once is as once. A hook into TCP gives `h->sk`, a congestion control `tp->sk`.

 From then on every call that concerns the protocol returns EIO, poll says POLLERR and POLLHUP beside POLLIN and
 POLLOUT, all that wait are woken, usk_wait returns -EIO, and packets for the sock are dropped and counted. No
 operation of the sock begins any more but destroy, which runs when the last descriptor is closed: at once where that
 has happened, or where the sock is a child that nobody has accepted. What usk_lock_sock locked in the operation that
 catches is released when that returns. The sock's memory goes with its last handle. On a connection of TCP no
 operation of its layer but release, no hook, and no function of the congestion control that called this runs for it
 any more, and what the hook or the function returns or has written does not count; TCP itself goes on, and ends the
 connection as usual when it is closed. Returns 0; -EINVAL for null.
 Requires: `sk` is valid.
 */
int usk_break(usk_sock_t *sk);

/*
 Takes the pending error away (sock_error): 0, or it as a negative errno, once. What sendmsg and recvmsg return
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
 What shutdown(2) has ended: bit 0 receiving, bit 1 sending (sk_shutdown).
 Requires: `sk` is valid.
 */
int usk_sock_shutdown(usk_sock_t *sk);

/*
 Sleeps with the sock released until one of `events` (poll(2)'s bits) is signalled, then owns it again
 (sk_wait_event). The caller looks at its condition again: wake-ups may be for somebody else. Process context.
 `deadline`: nanoseconds of the stack's clock, USK_FOREVER for none. Returns 0; -EAGAIN when the deadline has passed,
 -EINTR on a signal, -EIO when the sock is broken; -EDEADLK in an operation for a packet or a timer, which nobody
 would wake.
 Requires: `o` is owned.
 */
int usk_wait(usk_owned_t *o,
             uint32_t events,
             uint64_t deadline);

/*
 Bytes that a receive of `len` of them waits for, by SO_RCVLOWAT; `waitall`: all. At least 1 (sock_rcvlowat).
 Requires: `o` is owned.
 */
size_t usk_rcvlowat(usk_owned_t *o,
                    int waitall,
                    size_t len);

/*
 When a call must give up by SO_RCVTIMEO (`dir` USK_RECV) or SO_SNDTIMEO (USK_SEND), as usk_wait takes it
 (sock_rcvtimeo, sock_sndtimeo); `dontwait`: now, that is 0.
 Requires: `o` is owned.
 */
uint64_t usk_timeo(usk_owned_t *o,
                   int dir,
                   int dontwait);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_CORE_H */

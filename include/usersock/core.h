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
 The entry point of a plug-in: registers its tables and returns 0, or a negative errno, with which loading fails
 (usk_plugin_refuse).
 */
typedef int (*usk_plugin_init_fn)(usk_plugin_t *plugin);

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

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#include "sock.h"

#endif  /* USERSOCK_CORE_H */

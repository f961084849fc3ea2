/* usersock for plug-ins: socks: what they are, what their owner does with them, and waiting. core.h includes it. MIT OR
 * Apache-2.0. */

#ifndef USERSOCK_SOCK_H
#define USERSOCK_SOCK_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

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
 No deadline: for usk_wait.
 */
#define USK_FOREVER UINT64_MAX

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

#endif  /* USERSOCK_SOCK_H */

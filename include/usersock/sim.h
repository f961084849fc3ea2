/* usersock's simulator: worlds in virtual time, to test a protocol or a program of one's own: hosts, bad links between
 * them, and threads with blocking calls, without privileges, without waiting, and repeatable to the byte.
 * docs/plugins.md is the guide, examples/c/simulator.c an example.
 *
 * usk_world_new with a seed, usk_world_host for each host, usk_world_link for each link; then sockets of the hosts by
 * usk_socket_on. Either one thread does all: a call that blocks steps the world until it is over. Or each part of the
 * play is a thread, usk_world_thread, and usk_world_run_... or usk_thread_join steps the world. Time passes only while
 * it is stepped, from event to event.
 *
 * The calls are a program's: they return -1 or null with errno on failure. Handles are numbers: one that was freed,
 * that fork(2) inherited, or that is of something else is EBADF. Times are nanoseconds since the world's beginning.
 *
 * A call that waits for what no event can bring is EINTR outside of the world's threads; in one of them it waits until
 * the world is freed. usk_poll, usk_select and usk_epoll_wait with sockets of a world wait in virtual time and see
 * descriptors of the kernel only when they return; without such a socket they wait in real time. MIT OR Apache-2.0. */

#ifndef USERSOCK_SIM_H
#define USERSOCK_SIM_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "../usersock.h"

/*
 The link carries Ethernet frames, with ARP and neighbour discovery, and not IP datagrams alone.
 */
#define USK_SIM_ETHERNET 1

/*
 The queue in front of the link's rate is the sender's own: a socket stays charged for what is in it, and it is never
 too full but makes the sender wait. Without: it is a router's, which the sender does not see.
 */
#define USK_SIM_OWN_QUEUE 2

/*
 Super-packets and partial checksums pass as they are: fast, but not what a wire carries. Not with corruption.
 */
#define USK_SIM_OFFLOAD 4

/*
 A link of two hosts of a world; made by usk_world_link. A handle is a number and points to nothing.
 */
typedef struct usk_link_t usk_link_t;

/*
 A thread of a world; made by usk_world_thread. A handle is a number and points to nothing.
 */
typedef struct usk_thread_t usk_thread_t;

/*
 A world in virtual time; made by usk_world_new. A handle is a number and points to nothing.
 */
typedef struct usk_world_t usk_world_t;

/*
 What has become of the packets sent from one end of a link, since it was made.
 */
typedef struct usk_link_stats_t {
  /*
   Packets handed to the link.
   */
  uint64_t sent;
  /*
   Their bytes, link headers included.
   */
  uint64_t sent_bytes;
  /*
   Of those, lost by chance.
   */
  uint64_t lost;
  /*
   Lost because the queue was full.
   */
  uint64_t overflowed;
  /*
   Marked as having experienced congestion (RFC 3168).
   */
  uint64_t marked;
  /*
   Delayed so that others passed them.
   */
  uint64_t reordered;
  /*
   Sent twice.
   */
  uint64_t duplicated;
  /*
   Corrupted.
   */
  uint64_t corrupted;
  /*
   Packets that arrived at the other end.
   */
  uint64_t received;
  /*
   Their bytes.
   */
  uint64_t received_bytes;
} usk_link_stats_t;

/*
 What such a thread runs, as with pthread_create(3).
 */
typedef void *(*usk_thread_fn)(void *arg);

/*
 A condition of usk_world_run_until_true: not 0 when it holds.
 */
typedef int (*usk_world_condition_fn)(void *arg);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Joins two hosts of a world, which are named, by a link; end 0 is `a`'s and end 1 is `b`'s. `settings` are those of
 link= in a configuration (docs/config.md), in the words of tc-netem(8), with blanks between; null for a perfect
 wire. A word without direction is for both, out. is from `a` to `b`, in. is from `b` to `a`:

 - rate=10mbit: bits a second, link header included (bit, kbit, mbit, gbit); without: no limit
 - delay=20ms: propagation delay of each way (us, ms, s)
 - jitter=1ms: added to it, uniformly from 0 to this; does not reorder
 - queue=100kb: bytes that the queue in front of the rate holds (b, kb, mb); what does not fit is lost
 - limit=100: the same in packets
 - drop=head: a full queue loses its oldest packet, not the one that comes; if the queue is the sender's own
   (USK_SIM_OWN_QUEUE), TCP is told (NET_XMIT_CN) and reduces its window
 - ecn=30kb: queue length from which on ECN-capable packets are marked
 - loss=2%: share of packets lost; of each packet by itself
 - reorder=1%: share of packets delayed further, by reorder-by=2ms, while later ones pass
 - duplicate=1%: share of packets that arrive twice
 - corrupt=1%: share of packets with one bit flipped
 - seed=7: of this link's chances; without: one of the world's seed

 `mtu` is the longest IP datagram in bytes, 0 for 1500; `flags` are USK_SIM_.... Link number n of a world, counted
 from 1, has the addresses 10.n.0.1/24 at end 0 and 10.n.0.2/24 at end 1, addresses of IPv6 in a network of their own
 (usk_link_addr returns all of them), and devices named sim1, sim2 and so on. Null with errno EBADF, EINVAL, ENOENT
 (no such host) or ENOSPC (255 links); usk_config_error returns the reason.
 Requires: `a` and `b` are strings; `settings` is null or a string.
 */
usk_link_t *usk_world_link(usk_world_t *world,
                           const char *a,
                           const char *b,
                           const char *settings,
                           unsigned int mtu,
                           unsigned int flags);

/*
 Changes what a link does to packets that are sent from now on: `settings` as for usk_world_link, all of them, but
 seed=, which stays what it was. Also while the world runs, in one of its threads. Returns 0, or -1 with errno EBADF
 or EINVAL; usk_config_error returns the reason.
 Requires: `settings` is null or a string.
 */
int usk_link_set(usk_link_t *link,
                 const char *settings);

/*
 What has become of the packets sent from `end` (0 or 1) of a link. Fills `stats`, of `size` bytes, which is
 sizeof(usk_link_stats_t): a program compiled against an older header gets what it knows, and for a newer one what
 the library does not know is zero. Returns 0, or -1 with errno EBADF, EFAULT, or EINVAL (no such end).
 Requires: `stats` is writable for `size` bytes.
 */
int usk_link_stats(usk_link_t *link,
                   int end,
                   usk_link_stats_t *stats,
                   size_t size);

/*
 The address of `end` (0 or 1) of a link, of family AF_INET or AF_INET6, with `port` in host order, as getsockname(2)
 returns one. Returns 0, or -1 with errno EAFNOSUPPORT, EBADF, EFAULT, or EINVAL (no such end, a negative length).
 Requires: `len` points to the number of bytes for which `addr` is writable.
 */
int usk_link_addr(usk_link_t *link,
                  int end,
                  int family,
                  uint16_t port,
                  struct sockaddr *addr,
                  socklen_t *len);

/*
 Captures the packets of `end` (0 or 1) of a link into a pcap file, from now on, with the world's times. Returns 0,
 or -1 with errno EBADF, EBUSY (a capture runs), EINVAL (no such end) or the error of creating the file.
 Requires: `file` is a string.
 */
int usk_link_pcap_start(usk_link_t *link,
                        int end,
                        const char *file);

/*
 Ends a capture and completes its file. Returns 0, or -1 with errno EBADF, EINVAL (no such end, or none runs) or the
 error of writing it.
 */
int usk_link_pcap_stop(usk_link_t *link,
                       int end);

/*
 Starts `run` with `arg` in a thread of the world, at the time `at`, in nanoseconds: a program that blocks, as a
 server or a client does, in virtual time. Of a world's threads one at a time runs, and while it does no time passes
 and nothing else happens, until it waits: in a blocking call on a socket of the world's hosts (usk_recv, usk_accept,
 usk_connect, usk_poll, usk_epoll_wait ...), in usk_world_run_until, usk_world_run_for or usk_thread_join. It runs
 only while the world is stepped: by usk_world_run_... or by a blocking call of another thread of the program. It
 must wait in nothing else, not in sleep(3) and not for a mutex that another of them holds, and must end by
 returning. Null with errno EAGAIN (the system has no thread left), EBADF, or EFAULT (`run` is null).
 Requires: `run` can be called with `arg` in another thread, until the thread is joined or the world is freed.
 */
usk_thread_t *usk_world_thread(usk_world_t *world,
                               uint64_t at,
                               usk_thread_fn run,
                               void *arg);

/*
 Steps the world until a thread of it has returned, or in another thread of the world waits for that; stores what it
 returned in `result`, if that is not null, and ends the handle. Returns 0, or -1 with errno EBADF, EBUSY (the world
 is being stepped), EDEADLK (it is the calling thread; or it waits, and nothing is left to happen that could end
 that), EFAULT, or EINTR (in a thread of the world: the world ends).
 Requires: `result` is null or points to a pointer.
 */
int usk_thread_join(usk_thread_t *thread,
                    void **result);

/*
 Makes a world, empty, at time zero. All randomness in it comes from `seed`: the same program with the same seed
 sends the same packets at the same times. Null with errno on failure.
 */
usk_world_t *usk_world_new(uint64_t seed);

/*
 Frees a world with its links and threads, whose handles end. Its time stands still from then on: a wait of one of
 its threads ends with EINTR, each further call on a socket of its hosts is ENETDOWN, but for usk_close, and
 usk_world_free returns when all threads have returned. A thread whose time has not come never runs. Captures of
 links are completed. Stacks are freed by usk_stack_free, before or after. Returns 0, or -1 with errno EBADF, EBUSY
 (it is being stepped), EDEADLK (called in one of its threads), or the error of writing a capture: the world is freed
 then, too.
 */
int usk_world_free(usk_world_t *world);

/*
 Adds a host: a stack with the standard protocols, a loopback and, by usk_world_link, further devices. `name` is
 unique in the world. `config` is as for usk_stack_new, without devices and control socket: plugin=FILE,
 sysctl.NAME=VALUE, and addr= for the loopback; null for none. The stack is the caller's as one of usk_stack_new is,
 and is used and freed in the same ways (usk_socket_on, usk_sysctl_set, usk_mib_read, usk_plugin_load ...); a call of
 it that blocks steps the whole world, or waits, in a thread of the world (usk_world_thread). Null with errno EBADF,
 EEXIST (there is such a host), EINVAL or what loading a plug-in gave; usk_config_error returns the reason.
 Requires: `name` is a string; `config` is null or a string.
 */
usk_stack_t *usk_world_host(usk_world_t *world,
                            const char *name,
                            const char *config);

/*
 The time of a world, nanoseconds from its beginning; -1 with errno EBADF.
 */
int64_t usk_world_now(usk_world_t *world);

/*
 Runs all that happens up to the time `until`, in nanoseconds; the time is then `until`, or what it was if that is
 later. In a thread of the world: waits until then. Returns 0, or -1 with errno EBADF, EBUSY (it is being stepped:
 by another thread, or by a call that called this one), or EINTR (in a thread of the world: the world ends).
 */
int usk_world_run_until(usk_world_t *world,
                        uint64_t until);

/*
 As usk_world_run_until, for `span` nanoseconds from now.
 */
int usk_world_run_for(usk_world_t *world, uint64_t span);

/*
 Runs until nothing is left to happen: no packet is under way, no timer is armed, no thread waits for a time; but not
 beyond the time `limit`, in nanoseconds. Returns 1 when nothing is left (threads may wait for what will never come:
 usk_thread_join tells), 0 at the limit, or -1 with errno EBADF, EBUSY, or EDEADLK (in a thread of the world).
 */
int usk_world_run_until_idle(usk_world_t *world,
                             uint64_t limit);

/*
 Runs until `condition` holds; but not beyond the time `limit`, in nanoseconds. The condition is asked before each
 step, a step being what happens at one time: it may make calls that do not block. Returns 1 when it holds, 0 at the
 limit (also when nothing is left to happen before), or -1 with errno EBADF, EBUSY, EDEADLK (in a thread of the
 world), or EFAULT (`condition` is null).
 Requires: `condition` is a function that can be called with `arg`.
 */
int usk_world_run_until_true(usk_world_t *world,
                             usk_world_condition_fn condition,
                             void *arg,
                             uint64_t limit);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_SIM_H */

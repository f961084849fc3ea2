/* usersock: TCP sockets in user space, as Linux does them. MIT OR Apache-2.0.
 *
 * POSIX-shaped calls with the prefix usk_. Structures, constants and errno are the system's own headers'. Each call
 * does what the manual page of its namesake says, with the errors named there; descriptors are real ones, and
 * every call passes the kernel's on to the kernel. There is no usk_socketpair: such a pair never leaves
 * the process, and the kernel's serves. After fork(2) a stack is the parent's alone: in the child an inherited
 * descriptor can be closed, which nobody notices, poll(2) says POLLERR | POLLHUP of it, other calls ENETDOWN, and
 * usk_socket or usk_init makes the child a stack of its own. A program builds with: cc prog.c $(pkg-config --cflags
 * --libs usersock)
 */

#ifndef USERSOCK_H
#define USERSOCK_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include <ifaddrs.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct mmsghdr; /* complete where _GNU_SOURCE is defined */

/*
 For setsockopt with IPPROTO_TCP: a name, as usk_sock_ops_attach. With getsockopt: names of the hooks that the socket
 has, in the order in which they are called, with commas between them and a NUL at the end; 0 bytes: none.
 */
#define USK_TCP_HOOKS 2001

/*
 For setsockopt with IPPROTO_TCP: a name, as usk_sock_ops_detach.
 */
#define USK_TCP_HOOKS_DETACH 2002

/*
 An option of IPPROTO_TCP for usk_setsockopt and usk_getsockopt: the name of the socket's TCP, "default" or one that
 a plug-in has registered (usersock/tcp.h; FreeBSD's TCP_FUNCTION_BLK). A listener's connections have it too; of a
 live connection it changes at once. usk_setsockopt: ENOENT, there is none of that name; EBUSY, one of the two does
 not give or take a live connection as it is now; and what the new one says when it begins.
 */
#define USK_TCP_STACK 8192

/*
 A network stack; made by usk_stack_new. Null means the default stack in every call that takes one.
 */
typedef struct usk_stack_t usk_stack_t;

/*
 A socket in a list of usk_sock_list.
 */
typedef struct usk_sock_entry_t {
  /*
   Number of the socket: no other one has it while this one lives. 0: none is left (TIME_WAIT) or there is none yet
   (SYN_RECV).
   */
  uint64_t id;
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
   State by Linux's numbers: TCP_ESTABLISHED 1 to TCP_CLOSE 7, TCP_LISTEN 10. Of UDP and raw sockets 1 when they
   are connected, else 7.
   */
  uint32_t state;
  /*
   Bytes to read; of a listener, connections to accept; of datagram sockets, memory of the receive queue.
   */
  uint32_t rqueue;
  /*
   Bytes sent and not acknowledged, or not sent; of a listener, the backlog; of datagram sockets, memory of packets
   on their way out.
   */
  uint32_t wqueue;
  /*
   Our end: a sockaddr_in or sockaddr_in6.
   */
  uint64_t local[4];
  /*
   The peer's; family 0: there is none.
   */
  uint64_t peer[4];
} usk_sock_entry_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Makes the default stack from a configuration, such as
 "tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1,sysctl.net.ipv4.tcp_sack=1"; null takes it from the environment variable
 USERSOCK_CONFIG, and does nothing if there is a default stack. Keys: tun, packet, device, mac, queues, mtu, addr,
 gw, route, pcap, plugin, control, sysctl.NAME. Returns 0, or -1 with errno EINVAL (usk_config_error returns the
 reason), EBUSY (a configuration is given and there is a default stack already), or the error of opening the device
 (EPERM, EBUSY, ENODEV ...).
 Requires: `config` is null or a string.
 */
int usk_init(const char *config);

/*
 The error message of this thread's last failed usk_init, usk_stack_new or first usk_socket, one line; empty if none.
 Valid until the thread's next such call.
 */
const char *usk_config_error(void);

/*
 Makes a further stack from a configuration as for usk_init (null: only an in-memory loopback). Null with errno on
 failure.
 Requires: `config` is null or a string.
 */
usk_stack_t *usk_stack_new(const char *config);

/*
 Frees a stack. It ends, and closes its devices, when its last socket is closed and its own threads have dropped it,
 which may be a moment after the call. Null is ignored.
 Requires: `stack` is null or from usk_stack_new and not freed.
 */
void usk_stack_free(usk_stack_t *stack);

/*
 As usk_socket, on a given stack.
 Requires: `stack` is null or from usk_stack_new.
 */
int usk_socket_on(usk_stack_t *stack, int domain, int type, int protocol);

/*
 Reads a sysctl by Linux's name ("net.ipv4.tcp_sack") into `buf`, NUL-terminated and cut to `len`. Returns the length
 of the whole value, or -1 with errno EFAULT or ENOENT.
 Requires: `stack` is null or from usk_stack_new; `name` is a string; `buf` is writable for `len` bytes.
 */
int usk_sysctl_get(usk_stack_t *stack,
                   const char *name,
                   char *buf,
                   size_t len);

/*
 Sets a sysctl. Returns 0, or -1 with errno EACCES (read only), EINVAL (bad value), ENOENT (no such name) or
 EOPNOTSUPP (a value that turns on what this version does not have).
 Requires: `stack` is null or from usk_stack_new; `name` and `value` are strings.
 */
int usk_sysctl_set(usk_stack_t *stack,
                   const char *name,
                   const char *value);

/*
 Reads a MIB counter by nstat's name ("TcpRetransSegs", "TcpExtTCPTimeouts"). Returns 0, or -1 with errno EFAULT or
 ENOENT.
 Requires: `stack` is null or from usk_stack_new; `name` is a string; `value` points to a uint64_t.
 */
int usk_mib_read(usk_stack_t *stack,
                 const char *name,
                 uint64_t *value);

/*
 Captures the packets of the stack's device (of the loopback, where it has no other) into a pcap file, from now on.
 Returns 0, or -1 with errno EBUSY (a capture runs) or the error of creating the file.
 Requires: `stack` is null or from usk_stack_new; `file` is a string.
 */
int usk_pcap_start(usk_stack_t *stack,
                   const char *file);

/*
 Ends the capture and completes its file. Returns 0, or -1 with errno EINVAL (none runs) or the error of writing it.
 Requires: `stack` is null or from usk_stack_new.
 */
int usk_pcap_stop(usk_stack_t *stack);

/*
 As epoll_create1(2).
 */
int usk_epoll_create1(int flags);

/*
 As epoll_create(2): the positive size is only a hint, and is ignored. Errors: EINVAL, EMFILE.
 */
int usk_epoll_create(int size);

/*
 As epoll_ctl(2), for descriptors of the kernel and ours. Errors: EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT,
 EPERM.
 Requires: `event` is null (EPOLL_CTL_DEL) or an epoll_event.
 */
int usk_epoll_ctl(int epfd,
                  int op,
                  int fd,
                  struct epoll_event *event);

/*
 As epoll_wait(2). Errors: EBADF, EFAULT, EINTR, EINVAL.
 Requires: `events` is writable for `max` epoll_events.
 */
int usk_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms);

/*
 As epoll_pwait2(2): epoll_pwait with a timeout in nanoseconds; null waits for ever.
 Requires: as `usk_epoll_wait`; `timeout` is null or a timespec, `mask` null or a sigset_t.
 */
int usk_epoll_pwait2(int epfd,
                     struct epoll_event *events,
                     int max,
                     const struct timespec *timeout,
                     const sigset_t *mask);

/*
 As epoll_pwait(2).
 Requires: as `usk_epoll_wait`; `mask` is null or a sigset_t.
 */
int usk_epoll_pwait(int epfd,
                    struct epoll_event *events,
                    int max,
                    int timeout_ms,
                    const sigset_t *mask);

/*
 As fcntl(2), for any descriptor; `arg` is the integer or pointer of the command, absent where it takes none. On
 sockets of usersock: F_GETFL, F_SETFL (O_NONBLOCK, O_ASYNC, and without effect O_APPEND, O_NOATIME), F_GETFD,
 F_SETFD, F_DUPFD, F_DUPFD_CLOEXEC, F_GETOWN, F_SETOWN, F_GETOWN_EX, F_SETOWN_EX, F_GETSIG, F_SETSIG; EINVAL for
 others.
 */
int usk_fcntl(int fd,
              int cmd,
              ...);

/*
 As ioctl(2), for any descriptor. On sockets of usersock: FIONBIO, FIOASYNC, FIOSETOWN (SIOCSPGRP), FIOGETOWN
 (SIOCGPGRP), FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, FIOCLEX, FIONCLEX, and of the stack's interfaces
 SIOCGIFNAME, SIOCGIFINDEX, SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFMETRIC, SIOCGIFTXQLEN, SIOCGIFHWADDR, SIOCGIFADDR,
 SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFCONF; ENOTTY for others.
 Requires: `arg` is what the request says: an int pointer, a struct ifreq or a struct ifconf.
 */
int usk_ioctl(int fd,
              unsigned long request,
              ...);

/*
 As if_nametoindex(3), of the default stack. A device attached to an interface of the kernel's has its number.
 Returns 0 with errno ENODEV.
 Requires: `name` is a string.
 */
unsigned int usk_if_nametoindex(const char *name);

/*
 As if_indextoname(3), of the default stack. Returns null with errno ENXIO.
 Requires: `name` is writable for IF_NAMESIZE (16) bytes.
 */
char *usk_if_indextoname(unsigned int index, char *name);

/*
 As getifaddrs(3), of the default stack: an AF_PACKET entry for each interface, then the addresses of IPv4, then
 those of IPv6. The list is given back to usk_freeifaddrs. Returns 0, or -1 with errno EFAULT.
 Requires: `out` is writable.
 */
int usk_getifaddrs(struct ifaddrs **out);

/*
 As freeifaddrs(3).
 Requires: `list` is null or from usk_getifaddrs, and not used any more.
 */
void usk_freeifaddrs(struct ifaddrs *list);

/*
 As write(2), for any descriptor.
 Requires: `buf` is readable for `len` bytes.
 */
ptrdiff_t usk_write(int fd, const void *buf, size_t len);

/*
 As writev(2), for any descriptor.
 Requires: `iov` is `count` iovecs, each readable.
 */
ptrdiff_t usk_writev(int fd, const struct iovec *iov, int count);

/*
 As read(2), for any descriptor.
 Requires: `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_read(int fd, void *buf, size_t len);

/*
 As readv(2), for any descriptor.
 Requires: `iov` is `count` iovecs, each writable, none overlapping.
 */
ptrdiff_t usk_readv(int fd, const struct iovec *iov, int count);

/*
 As send(2). Returns the bytes accepted, or -1 with errno EAGAIN, EBADF, ECONNRESET, EFAULT, EINTR, ENOTCONN,
 ENOTSOCK, EOPNOTSUPP or EPIPE.
 Requires: `buf` is readable for `len` bytes.
 */
ptrdiff_t usk_send(int fd,
                   const void *buf,
                   size_t len,
                   int flags);

/*
 As sendto(2). A null `addr` is send(2).
 Requires: `buf` is readable for `len` bytes, `addr` is null or readable for `alen`.
 */
ptrdiff_t usk_sendto(int fd,
                     const void *buf,
                     size_t len,
                     int flags,
                     const struct sockaddr *addr,
                     socklen_t alen);

/*
 As sendmsg(2). Also EMSGSIZE for more than 1024 iovecs.
 Requires: `hdr` points to a msghdr whose parts are readable.
 */
ptrdiff_t usk_sendmsg(int fd, const struct msghdr *hdr, int flags);

/*
 As sendmmsg(2): an error is reported only if the first message fails.
 Requires: `vec` is `count` mmsghdrs, each as for sendmsg(2).
 */
int usk_sendmmsg(int fd, struct mmsghdr *vec, unsigned int count, int flags);

/*
 As recv(2). Returns the bytes received, 0 at the end of the stream, or -1 with errno EAGAIN, EBADF, ECONNREFUSED,
 ECONNRESET, EFAULT, EINTR, EINVAL, ENOTCONN, ENOTSOCK.
 Requires: `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_recv(int fd,
                   void *buf,
                   size_t len,
                   int flags);

/*
 As recvfrom(2). A stream leaves the source address empty (`*alen` = 0).
 Requires: `buf` is writable for `len` bytes; `addr` is null or writable for `*alen`.
 */
ptrdiff_t usk_recvfrom(int fd,
                       void *buf,
                       size_t len,
                       int flags,
                       struct sockaddr *addr,
                       socklen_t *alen);

/*
 As recvmsg(2).
 Requires: `hdr` points to a msghdr whose parts are writable.
 */
ptrdiff_t usk_recvmsg(int fd, struct msghdr *hdr, int flags);

/*
 As recvmmsg(2): MSG_WAITFORONE waits only for the first message; the timeout is checked between messages, as in
 Linux, and what the last one left of it is written back.
 Requires: `vec` is `count` mmsghdrs, each as for recvmsg(2); `timeout` is null or a timespec.
 */
int usk_recvmmsg(int fd,
                 struct mmsghdr *vec,
                 unsigned int count,
                 int flags,
                 struct timespec *timeout);

/*
 As poll(2), for any descriptors together. Errors: EFAULT, EINTR, EINVAL.
 Requires: `fds` is `count` pollfds.
 */
int usk_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

/*
 As ppoll(2).
 Requires: `fds` is `count` pollfds; `timeout` and `mask` are null or valid.
 */
int usk_ppoll(struct pollfd *fds,
              nfds_t count,
              const struct timespec *timeout,
              const sigset_t *mask);

/*
 As pread(2), for any descriptor. ESPIPE on sockets of usersock.
 Requires: `buf` is writable for `len` bytes.
 */
ptrdiff_t usk_pread(int fd, void *buf, size_t len, off_t offset);

/*
 As pwrite(2), for any descriptor. ESPIPE on sockets of usersock.
 Requires: `buf` is readable for `len` bytes.
 */
ptrdiff_t usk_pwrite(int fd, const void *buf, size_t len, off_t offset);

/*
 As preadv(2), for any descriptor. ESPIPE on sockets of usersock.
 Requires: `iov` is `count` iovecs, each writable.
 */
ptrdiff_t usk_preadv(int fd, const struct iovec *iov, int count, off_t offset);

/*
 As pwritev(2), for any descriptor. ESPIPE on sockets of usersock.
 Requires: `iov` is `count` iovecs, each readable.
 */
ptrdiff_t usk_pwritev(int fd, const struct iovec *iov, int count, off_t offset);

/*
 As preadv2(2), for any descriptor. On sockets of usersock `offset` is -1, which is readv(2); RWF_NOWAIT is
 MSG_DONTWAIT. ESPIPE for another offset, EOPNOTSUPP for RWF_ATOMIC and RWF_DONTCACHE.
 Requires: `iov` is `count` iovecs, each writable, none overlapping.
 */
ptrdiff_t usk_preadv2(int fd,
                      const struct iovec *iov,
                      int count,
                      off_t offset,
                      int flags);

/*
 As pwritev2(2), for any descriptor; as usk_preadv2. RWF_NOSIGNAL is MSG_NOSIGNAL.
 Requires: `iov` is `count` iovecs, each readable.
 */
ptrdiff_t usk_pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags);

/*
 As select(2); on return `timeout` holds the time left, as Linux does it. Errors: EBADF, EFAULT, EINTR, EINVAL.
 Requires: the sets are null or cover `count` descriptors; `timeout` is null or a timeval.
 */
int usk_select(int count,
               fd_set *read,
               fd_set *write,
               fd_set *except,
               struct timeval *timeout);

/*
 As pselect(2): the signal mask is replaced for as long as it waits, and `timeout` stays as it is. Errors: as select.
 Requires: as `usk_select`; `timeout` is null or a timespec, `mask` null or a sigset_t.
 */
int usk_pselect(int count,
                fd_set *read,
                fd_set *write,
                fd_set *except,
                const struct timespec *timeout,
                const sigset_t *mask);

/*
 As socket(2): AF_INET and AF_INET6 on the default stack (made from USERSOCK_CONFIG at the first call), other
 families of the kernel. `type` may carry SOCK_NONBLOCK and SOCK_CLOEXEC. Returns a descriptor, or -1 with errno
 EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS or EPROTONOSUPPORT.
 */
int usk_socket(int domain,
               int type,
               int protocol);

/*
 As bind(2). Errors: EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EFAULT, EINVAL, ENOTSOCK.
 Requires: `addr` is readable for `len` bytes.
 */
int usk_bind(int fd,
             const struct sockaddr *addr,
             socklen_t len);

/*
 As listen(2). Errors: EADDRINUSE, EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP.
 */
int usk_listen(int fd, int backlog);

/*
 As accept(2): accept4 without flags.
 Requires: `addr` is null or writable for `*len` bytes, `len` then points to a socklen_t.
 */
int usk_accept(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As accept4(2) with SOCK_NONBLOCK and SOCK_CLOEXEC. Errors: EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL,
 EMFILE, ENOTSOCK, EOPNOTSUPP.
 Requires: as `usk_accept`.
 */
int usk_accept4(int fd,
                struct sockaddr *addr,
                socklen_t *len,
                int flags);

/*
 As connect(2). Errors: EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, EBADF, ECONNREFUSED, EFAULT, EHOSTUNREACH,
 EINPROGRESS, EINTR, EISCONN, ENETUNREACH, ENOTSOCK, ETIMEDOUT.
 Requires: `addr` is readable for `len` bytes.
 */
int usk_connect(int fd,
                const struct sockaddr *addr,
                socklen_t len);

/*
 As shutdown(2). Errors: EBADF, EINVAL, ENOTCONN, ENOTSOCK.
 */
int usk_shutdown(int fd, int how);

/*
 Aborts the socket, as `ss -K` does: calls on it return ECONNABORTED, and a peer gets a reset; the descriptor must
 still be closed. Errors: EBADF, ENOTSOCK, EOPNOTSUPP.
 */
int usk_destroy(int fd);

/*
 As close(2), for any descriptor.
 */
int usk_close(int fd);

/*
 As getsockname(2). Errors: EBADF, EFAULT, EINVAL, ENOTSOCK.
 Requires: `addr` is writable for `*len` bytes.
 */
int usk_getsockname(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As getpeername(2). Errors: EBADF, EFAULT, EINVAL, ENOTCONN, ENOTSOCK.
 Requires: `addr` is writable for `*len` bytes.
 */
int usk_getpeername(int fd, struct sockaddr *addr, socklen_t *len);

/*
 As getsockopt(2). Errors: EBADF, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK. Of TCP_AO_GET_KEYS, as on Linux, `value` is
 an array of structs of `*len` bytes.
 Requires: `value` is writable for `*len` bytes, or is such an array; `len` points to a socklen_t.
 */
int usk_getsockopt(int fd,
                   int level,
                   int name,
                   void *value,
                   socklen_t *len);

/*
 Removes the upper-layer protocol that TCP_ULP installed on a connection, which then carries plain bytes. Returns 0,
 or -1 with errno EBUSY (it holds bytes that neither the program nor TCP has, or one of its operations is running),
 EINVAL (the socket has none), EBADF, ENOTSOCK.
 */
int usk_ulp_remove(int fd);

/*
 Attaches hooks of the socket's stack to a TCP socket: a plug-in has registered them by this name with
 USK_SOCK_OPS_CHOSEN. The connections that it makes have them, and so have those that it accepts of SYNs that arrive
 from now on; a connection that exists has them from now on. Returns 0, or -1 with errno ENOENT (there are no such
 hooks), EEXIST (the socket has them, or others that write the same option; or all sockets have them), EDEADLK (from
 a hook, which owns the socket), EFAULT, EIO (it is broken), ENOPROTOOPT (it is no TCP socket), EBADF, ENOTSOCK; of
 the first two usk_config_error says why in a line.
 Requires: `name` is a string.
 */
int usk_sock_ops_attach(int fd,
                        const char *name);

/*
 Takes hooks off a socket: those attached to it or inherited, or chosen by a filter for its present connection. What
 a listener's connections have they keep. Segments that are sent from now on, retransmissions included, have no
 option of them, and the room belongs to the payload. Returns 0, or -1 with errno as usk_sock_ops_attach; ENOENT: the
 socket does not have them, or has them as all sockets have.
 Requires: `name` is a string.
 */
int usk_sock_ops_detach(int fd,
                        const char *name);

/*
 As setsockopt(2). Errors: EBADF, EDOM, EFAULT, EINVAL, ENOPROTOOPT, ENOTSOCK.
 Requires: `value` is readable for `len` bytes; IPV6_FLOWLABEL_MGR writes the label that it has chosen there, where it
 can.
 */
int usk_setsockopt(int fd,
                   int level,
                   int name,
                   const void *value,
                   socklen_t len);

/*
 As dup(2), for any descriptor.
 */
int usk_dup(int fd);

/*
 As dup2(2), for any descriptors. EBUSY also if another thread has just reserved the number `to`.
 */
int usk_dup2(int fd, int to);

/*
 As dup3(2), for any descriptors: dup2 with O_CLOEXEC in `flags`. EINVAL for other flags, and where both numbers are
 the same.
 */
int usk_dup3(int fd,
             int to,
             int flags);

/*
 Whether a descriptor is one of usersock's: a socket or an epoll set, or one inherited from a parent. Returns 1 or 0;
 0 too for a number under which nothing is open.
 */
int usk_is_ours(int fd);

/*
 All bound and connected sockets of a stack: listeners, connections, TIME_WAIT, UDP, raw and ping sockets, sorted by
 protocol and port. Fills the first `count` entries of `list`, each of `size` bytes, which is
 sizeof(usk_sock_entry_t): a program compiled against an older header gets what it knows, and for a newer one what
 the library does not know is zero. Returns how many sockets there are, which may be more than `count`; or -1 with
 errno EINVAL (`size` is 0) or EFAULT. `list` may be null when `count` is 0. Each entry is true of one moment, and
 the list of no single one.
 Requires: `stack` is null or from usk_stack_new and not freed; `list` is writable for `count` times `size` bytes.
 */
ptrdiff_t usk_sock_list(usk_stack_t *stack,
                        usk_sock_entry_t *list,
                        size_t count,
                        size_t size);

/*
 As fdopen(3), for any descriptor: fclose(3) closes it. Returns null with errno EBADF or EINVAL (mode). Of a stream
 on a socket of usersock, fileno(3) is not the descriptor, but -1.
 Requires: `mode` is a string.
 */
FILE *usk_fdopen(int fd,
                 const char *mode);

/*
 As sendfile(2) to a socket of ours from a file of the kernel, and from a socket of ours to a pipe; for other pairs,
 the kernel's own call. `offset` null: the file's position advances by the bytes sent. Errors: EAGAIN (nothing could
 be sent), EBADF, EINVAL, EOVERFLOW, ESPIPE, and those of send.
 Requires: `offset` is null or points to an off_t.
 */
ptrdiff_t usk_sendfile(int out_fd,
                       int in_fd,
                       off_t *offset,
                       size_t count);

/*
 As splice(2) where one end is a socket of ours and the other a pipe; for other pairs, the kernel's own call. Errors:
 EAGAIN (SPLICE_F_NONBLOCK and the pipe, or a non-blocking end), EBADF, EFAULT, EINVAL (no pipe, or an offset for the
 socket), ESPIPE (an offset for the pipe). SPLICE_F_NONBLOCK does not make the socket's side non-blocking: O_NONBLOCK
 does, as in Linux.
 Requires: the offsets are null or point to a loff_t, which is an int64_t by a name that ISO C does not have.
 */
ptrdiff_t usk_splice(int fd_in,
                     int64_t *off_in,
                     int fd_out,
                     int64_t *off_out,
                     size_t len,
                     unsigned int flags);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_H */

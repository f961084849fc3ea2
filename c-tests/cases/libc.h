/* For runs under the preload shim: each usk_x is the C library's x, as an unmodified program calls it. With
 * _FORTIFY_SOURCE some are the C library's checked variants. Beside: kernel.h, by system calls, which the shim sees as
 * syscall(2). */
#ifndef USERSOCK_CASES_LIBC_H
#define USERSOCK_CASES_LIBC_H
#include <ifaddrs.h>
#include <sys/sendfile.h>

static __attribute__((unused)) inline int usk_init(const char *config)
{
    (void)config;
    return 0;
}

#define usk_socket socket
#define usk_bind bind
#define usk_listen listen
#define usk_accept accept
#define usk_accept4 accept4
#define usk_connect connect
#define usk_shutdown shutdown
#define usk_close close
#define usk_send send
#define usk_sendto sendto
#define usk_sendmsg sendmsg
#define usk_sendmmsg sendmmsg
#define usk_write write
#define usk_writev writev
#define usk_recv recv
#define usk_recvfrom recvfrom
#define usk_recvmsg recvmsg
#define usk_recvmmsg recvmmsg
#define usk_read read
#define usk_readv readv
#define usk_getsockopt getsockopt
#define usk_setsockopt setsockopt
#define usk_getsockname getsockname
#define usk_getpeername getpeername
#define usk_fcntl fcntl
#define usk_ioctl ioctl
#define usk_poll poll
#define usk_ppoll ppoll
#define usk_select select
#define usk_pselect pselect
#define usk_epoll_create epoll_create
#define usk_epoll_create1 epoll_create1
#define usk_epoll_ctl epoll_ctl
#define usk_epoll_wait epoll_wait
#define usk_epoll_pwait epoll_pwait
#define usk_epoll_pwait2 epoll_pwait2
#define usk_dup dup
#define usk_dup2 dup2
#define usk_dup3 dup3
#define usk_sendfile sendfile
#define usk_splice splice
#define usk_pread pread
#define usk_pwrite pwrite
#define usk_preadv preadv
#define usk_pwritev pwritev
#define usk_preadv2 preadv2
#define usk_pwritev2 pwritev2
#define usk_fdopen fdopen
#define usk_if_nametoindex if_nametoindex
#define usk_if_indextoname if_indextoname
#define usk_getifaddrs getifaddrs
#define usk_freeifaddrs freeifaddrs
#endif

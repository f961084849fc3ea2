/* Shared by all cases: the calls under test, checks that print file:line, and a few socket helpers.
 *
 * A case is written once and built twice. Against usersock it sees `usersock.h` and nothing else of ours. With
 * -DKERNEL_SOCKETS each usk_x is the kernel's x: that build is the oracle, which verifies that the case expects Linux's
 * behaviour. The oracle makes raw system calls and not libc's, so that no sanitizer's interceptor checks (or crashes
 * on) the bad pointers that the errno cases pass on purpose.
 *
 * Rules for a case: no sleep and no timing assertion (block, poll or use a pipe); threads share memory only through
 * pthread_create, pthread_join or a mutex (a sanitizer does not know an order that a socket enforces). */
#ifndef USERSOCK_CASES_COMMON_H
#define USERSOCK_CASES_COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined KERNEL_SOCKETS
#include "kernel.h"
#elif defined LIBC_SOCKETS
#include "libc.h"
#else
#include "usersock.h"
#endif

/* The build knows nothing of usersock: its sockets are the kernel's, or under the preload shim (-DPRELOADED) ours. */
#if defined KERNEL_SOCKETS || defined LIBC_SOCKETS
#define UNMODIFIED
#endif
/* What is expected is the kernel's, where usersock differs by decision. */
#if defined UNMODIFIED && !defined PRELOADED
#define ON_KERNEL
#endif
/* Its TCP sockets are a stack server's (-DSERVED): what docs/server.md lists as different is left out. */
#ifdef SERVED
#define ON_SERVER
#endif

#define UNUSED __attribute__((unused))
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* ---- checks ---------------------------------------------------------------------------------------------------- */

static const char *case_name = "?";
static int failures;

/* The name of an errno value, or its number. */
static UNUSED const char *errno_name(int e)
{
#ifdef __GLIBC__
    const char *name = e ? strerrorname_np(e) : "0";
    return name ? name : "unknown";
#else
    return strerror(e);
#endif
}

static UNUSED void complain(const char *file, int line, const char *expr, const char *got, const char *wanted)
{
    failures++;
    printf("%s:%d: %s: got %s, wanted %s\n", file, line, expr, got, wanted);
    fflush(stdout);
}

static UNUSED void check_at(const char *file, int line, const char *expr, bool good)
{
    if (good)
        return;
    printf("%s:%d: not true: %s (errno %s)\n", file, line, expr, errno_name(errno));
    fflush(stdout);
    _exit(1);
}

static UNUSED long ok_at(const char *file, int line, const char *expr, long r)
{
    if (r != -1)
        return r;
    char got[64];
    snprintf(got, sizeof got, "-1 %s", errno_name(errno));
    complain(file, line, expr, got, "success");
    _exit(1);
}

static UNUSED void eq_at(const char *file, int line, const char *expr, long long got, long long want)
{
    if (got == want)
        return;
    char g[96], w[32];
    if (got == -1)
        snprintf(g, sizeof g, "-1 (errno %s)", errno_name(errno));
    else
        snprintf(g, sizeof g, "%lld", got);
    snprintf(w, sizeof w, "%lld", want);
    complain(file, line, expr, g, w);
}

static UNUSED void err_at(const char *file, int line, const char *expr, long r, int want)
{
    char got[64];
    if (r == -1 && errno == want)
        return;
    if (r == -1)
        snprintf(got, sizeof got, "-1 %s", errno_name(errno));
    else
        snprintf(got, sizeof got, "%ld", r);
    complain(file, line, expr, got, errno_name(want));
}

/* CHECK and OK end the case at once (nothing after them makes sense); EQ and ERR note the failure and go on, so that
 * one run of a table lists every row that differs. */
#define CHECK(cond) check_at(__FILE__, __LINE__, #cond, (cond))
#define OK(expr) ok_at(__FILE__, __LINE__, #expr, (long)(expr))
#define EQ(got, want) eq_at(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
#define ERR(expr, e) (errno = 0, err_at(__FILE__, __LINE__, #expr, (long)(expr), (e)))

/* A case that hangs is ended by SIGALRM, so that it reads as a failure of that case. Not a timing assertion: long
 * enough for a busy machine and a sanitizer. */
#ifndef CASE_ALARM_SECONDS
#define CASE_ALARM_SECONDS 300
#endif

static UNUSED void begin(const char *name)
{
    case_name = name;
    alarm(CASE_ALARM_SECONDS);
    OK(usk_init(NULL));
}

static UNUSED int done(void)
{
    if (failures) {
        printf("FAILED %s: %d\n", case_name, failures);
        return 1;
    }
    printf("ok %s\n", case_name);
    return 0;
}

/* ---- addresses ------------------------------------------------------------------------------------------------- */

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_storage storage;
    };
    socklen_t len;
};

/* `text` is an IPv4 or IPv6 address, `port` is in host order. */
static UNUSED struct addr at(const char *text, int port)
{
    struct addr a;
    memset(&a, 0, sizeof a);
    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons((uint16_t)port);
        a.len = sizeof a.in;
    } else {
        CHECK(inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1);
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)port);
        a.len = sizeof a.in6;
    }
    return a;
}

static UNUSED struct addr local(int family)
{
    return at(family == AF_INET ? "127.0.0.1" : "::1", 0);
}

static UNUSED int port_of(struct addr a)
{
    return ntohs(a.sa.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
}

static UNUSED bool same_addr(struct addr a, struct addr b)
{
    if (a.sa.sa_family != b.sa.sa_family || port_of(a) != port_of(b))
        return false;
    if (a.sa.sa_family == AF_INET)
        return a.in.sin_addr.s_addr == b.in.sin_addr.s_addr;
    return memcmp(&a.in6.sin6_addr, &b.in6.sin6_addr, 16) == 0;
}

static UNUSED struct addr sock_name(int fd)
{
    struct addr a;
    memset(&a, 0, sizeof a);
    a.len = sizeof a.storage;
    OK(usk_getsockname(fd, &a.sa, &a.len));
    return a;
}

static UNUSED struct addr peer_name(int fd)
{
    struct addr a;
    memset(&a, 0, sizeof a);
    a.len = sizeof a.storage;
    OK(usk_getpeername(fd, &a.sa, &a.len));
    return a;
}

/* ---- sockets --------------------------------------------------------------------------------------------------- */

static UNUSED int set_int(int fd, int level, int name, int value)
{
    return usk_setsockopt(fd, level, name, &value, sizeof value);
}

static UNUSED int get_int(int fd, int level, int name)
{
    int value = -12345;
    socklen_t len = sizeof value;
    OK(usk_getsockopt(fd, level, name, &value, &len));
    EQ(len, sizeof value);
    return value;
}

static UNUSED int so_error(int fd)
{
    return get_int(fd, SOL_SOCKET, SO_ERROR);
}

static UNUSED void set_nonblock(int fd, bool on)
{
    long flags = OK(usk_fcntl(fd, F_GETFL, 0));
    OK(usk_fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~(long)O_NONBLOCK));
}

static UNUSED int bound(int type, struct addr a)
{
    int fd = (int)OK(usk_socket(a.sa.sa_family, type, 0));
    OK(usk_bind(fd, &a.sa, a.len));
    return fd;
}

static UNUSED int listener(struct addr a, int backlog)
{
    int fd = bound(SOCK_STREAM, a);
    OK(usk_listen(fd, backlog));
    return fd;
}

static UNUSED int connected(int type, struct addr to)
{
    int fd = (int)OK(usk_socket(to.sa.sa_family, type, 0));
    OK(usk_connect(fd, &to.sa, to.len));
    return fd;
}

/* A connected TCP pair over loopback: fd[0] called connect, fd[1] came from accept. */
static UNUSED void tcp_pair(int family, int fd[2])
{
    int l = listener(local(family), 1);
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(l));
}

/* Two UDP sockets connected to each other. */
static UNUSED void udp_pair(int family, int fd[2])
{
    fd[0] = bound(SOCK_DGRAM, local(family));
    fd[1] = bound(SOCK_DGRAM, local(family));
    struct addr a = sock_name(fd[0]), b = sock_name(fd[1]);
    OK(usk_connect(fd[0], &b.sa, b.len));
    OK(usk_connect(fd[1], &a.sa, a.len));
}

static UNUSED void close_pair(int fd[2])
{
    OK(usk_close(fd[0]));
    OK(usk_close(fd[1]));
}

/* Block until one of `events` (or an error, or a hang-up) is there; gives revents. */
static UNUSED int await(int fd, int events)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    EQ(OK(usk_poll(&p, 1, -1)), 1);
    return p.revents;
}

/* The present poll events. */
static UNUSED int ready(int fd, int events)
{
    struct pollfd p = {.fd = fd, .events = (short)events};
    OK(usk_poll(&p, 1, 0));
    return p.revents;
}

/* Block until exactly `want` bytes can be read; needed where a segment may still be on its way. */
static UNUSED void await_bytes(int fd, int want)
{
    char buf[70000];
    CHECK(want <= (int)sizeof buf);
    EQ(OK(usk_recv(fd, buf, (size_t)want, MSG_PEEK | MSG_WAITALL)), want);
}

static UNUSED void send_all(int fd, const void *buf, size_t len)
{
    for (size_t done_bytes = 0; done_bytes < len;)
        done_bytes += (size_t)OK(usk_send(fd, (const char *)buf + done_bytes, len - done_bytes, MSG_NOSIGNAL));
}

/* Reads `len` bytes, or fewer if the stream ends first; gives the number read. */
static UNUSED size_t recv_all(int fd, void *buf, size_t len)
{
    size_t got = 0;
    while (got < len) {
        long n = OK(usk_recv(fd, (char *)buf + got, len - got, 0));
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return got;
}

static UNUSED void expect_bytes(const char *file, int line, int fd, const char *want)
{
    char got[256] = {0};
    size_t n = recv_all(fd, got, strlen(want));
    if (n != strlen(want) || memcmp(got, want, n) != 0)
        complain(file, line, "bytes received", got, want);
}
#define EXPECT(fd, text) expect_bytes(__FILE__, __LINE__, fd, text)

/* Check that the stream is at its end. */
#define EXPECT_EOF(fd)                                                                                                 \
    do {                                                                                                               \
        char eof_buf_[8];                                                                                              \
        EQ(usk_recv(fd, eof_buf_, sizeof eof_buf_, 0), 0);                                                             \
    } while (0)

/* Sends until only the reader can make room: the peer's window is zero, and nothing is under way. On a busy machine an
 * acknowledgement may take any time, but then it is missing. Gives the number of bytes. */
static UNUSED size_t fill_up(int fd)
{
    static char block[65536];
    size_t sent = 0;
    set_nonblock(fd, true);
    for (int quiet = 0; quiet < 2;) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        long n = usk_send(fd, block, sizeof block, MSG_NOSIGNAL);
        CHECK(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
        bool still = n < 0 && OK(usk_poll(&p, 1, 300)) == 0;
        struct tcp_info i;
        socklen_t len = sizeof i;
        OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
        quiet = still && i.tcpi_unacked == 0 ? quiet + 1 : 0;
    }
    set_nonblock(fd, false);
    return sent;
}

/* Whether a thread of this process is asleep by /proc: nothing else says that it waits in a call. It may do so on its
 * way there, too. */
static UNUSED bool sleeps(pid_t thread)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    const char *state = strrchr(text, ')');
    return state && state[2] == 'S';
}

static UNUSED pthread_t spawn(void *(*body)(void *), void *arg)
{
    pthread_t t;
    CHECK(pthread_create(&t, NULL, body, arg) == 0);
    return t;
}

static UNUSED void join(pthread_t t)
{
    CHECK(pthread_join(t, NULL) == 0);
}

/* Byte `i` of the test stream `seed`: has no short period, so a lost, doubled or moved block shows. */
static UNUSED unsigned char pattern(uint64_t seed, uint64_t i)
{
    uint64_t x = (i >> 3) * 0x9e3779b97f4a7c15u + seed * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 32;
    return (unsigned char)(x >> ((i & 7) * 8));
}
#endif

/* The calls: each makes one system call on a slot's socket and prints the call's result and all it wrote. A sequence
 * is lines that name these functions; a printed program contains them. Below: show.h, values.h. */
#ifndef DIFFERENTIAL_CALLS_H
#define DIFFERENTIAL_CALLS_H
#include "show.h"

static unsigned char inbuf[ROOM];

static void on_sigpipe(int signal)
{
    (void)signal;
    sigpipes++;
}

/* No socket, nothing seen and nothing sent yet. */
static UNUSED void begin_calls(void)
{
    signal(SIGPIPE, on_sigpipe);
    for (int i = 0; i < SLOTS; i++)
        fds[i] = -1;
    chosen_count = opened_count = 0;
    data_next = 0;
    sigpipes = 0;
}

/* A new socket is bounded in how long it blocks. */
static UNUSED void call_socket(int slot, int domain, int type, int protocol)
{
    int fd = SYS(socket)(domain, type, protocol), error = errno;
    struct timeval t = {0, 3000};
    if (fd >= 0) {
        set_slot(slot, fd);
        pings[slot] = (type & 15) == SOCK_DGRAM && (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6);
        SYS(setsockopt)(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        SYS(setsockopt)(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    }
    show_result("socket", fd < 0 ? -1 : 0, error);
    show_end();
}

static UNUSED void call_bind(int slot, const char *name, int len)
{
    struct name n = name_of(name, len);
    long r = SYS(bind)(fd_of(slot), n.sa, n.len);
    show_result("bind", r, errno);
    show_end();
}

static UNUSED void call_connect(int slot, const char *name, int len)
{
    struct name n = name_of(name, len);
    long r = SYS(connect)(fd_of(slot), n.sa, n.len);
    show_result("connect", r, errno);
    show_end();
}

static UNUSED void call_listen(int slot, int backlog)
{
    long r = SYS(listen)(fd_of(slot), backlog);
    show_result("listen", r, errno);
    show_end();
}

/* Takes a connection into slot `to`. `room`: bytes offered for the peer's name; 0: none is asked for. */
static UNUSED void call_accept(int slot, int to, int flags, int room)
{
    unsigned char b[256];
    socklen_t len = (socklen_t)room;
    memset(b, 0xee, sizeof b);
    int fd = SYS(accept4)(fd_of(slot), room ? (struct sockaddr *)b : NULL, room ? &len : NULL, flags), error = errno;
    if (fd >= 0) {
        set_slot(to, fd);
        pings[to] = false;
    }
    show_result("accept", fd < 0 ? -1 : 0, error);
    if (fd >= 0 && room)
        show_name("peer", b, len, room < 0 ? 0 : (size_t)room);
    show_end();
}

static UNUSED void call_shutdown(int slot, int how)
{
    long r = SYS(shutdown)(fd_of(slot), how);
    show_result("shutdown", r, errno);
    show_end();
}

static UNUSED void call_close(int slot)
{
    int fd = fd_of(slot);
    long r = SYS(close)(fd);
    show_result("close", r, errno);
    /* The number may be another descriptor's from here on, also one of the library's own. */
    for (int i = 0; i < opened_count; i++)
        if (opened[i] == fd)
            opened[i] = -1;
    if (slot >= 0)
        fds[slot] = -1;
    show_end();
}

static UNUSED void call_dup(int slot, int to)
{
    int fd = SYS(dup)(fd_of(slot)), error = errno;
    if (fd >= 0) {
        set_slot(to, fd);
        pings[to] = slot >= 0 && pings[slot];
    }
    show_result("dup", fd < 0 ? -1 : 0, error);
    show_end();
}

static UNUSED void call_send(int slot, const char *form, int bytes, int flags)
{
    long r = SYS(send)(fd_of(slot), data(form, bytes), (size_t)bytes, flags);
    show_result("send", r, errno);
    show_end();
}

static UNUSED void call_sendto(int slot, const char *form, int bytes, int flags, const char *name, int len)
{
    struct name n = name_of(name, len);
    long r = SYS(sendto)(fd_of(slot), data(form, bytes), (size_t)bytes, flags, n.sa, n.len);
    show_result("sendto", r, errno);
    show_end();
}

static UNUSED void call_write(int slot, const char *form, int bytes)
{
    long r = SYS(write)(fd_of(slot), data(form, bytes), (size_t)bytes);
    show_result("write", r, errno);
    show_end();
}

static UNUSED void call_writev(int slot, const char *form, int bytes, const char *shape)
{
    struct iovec *iov;
    size_t n = iov_of(shape, data(form, bytes), bytes, &iov);
    long r = SYS(writev)(fd_of(slot), iov, (int)n);
    show_result("writev", r, errno);
    show_end();
}

static UNUSED void call_sendmsg(int slot, const char *form, int bytes, const char *shape, int flags, const char *name,
                                int len, const char *control)
{
    struct name n = name_of(name, len);
    struct msghdr m;
    unsigned char *ctl;
    memset(&m, 0, sizeof m);
    m.msg_iovlen = iov_of(shape, data(form, bytes), bytes, &m.msg_iov);
    m.msg_name = n.sa;
    m.msg_namelen = n.len;
    m.msg_controllen = control_of(control, &ctl);
    m.msg_control = ctl;
    long r = SYS(sendmsg)(fd_of(slot), &m, flags);
    show_result("sendmsg", r, errno);
    show_end();
}

/* `count` messages of `bytes`, `bytes` + 1 ... */
static UNUSED void call_sendmmsg(int slot, const char *form, int bytes, int count, int flags, const char *name)
{
    struct name n = name_of(name, EXACT);
    struct mmsghdr v[8];
    struct iovec iov[8];
    memset(v, 0, sizeof v);
    unsigned char *b = data(form, bytes + 8);
    for (int i = 0; i < 8; i++) {
        iov[i] = (struct iovec){b, (size_t)(bytes + i)};
        v[i].msg_hdr = (struct msghdr){.msg_name = n.sa, .msg_namelen = n.len, .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    long r = SYS(sendmmsg)(fd_of(slot), v, (unsigned)(count < 8 ? count : 8), flags);
    show_result("sendmmsg", r, errno);
    for (long i = 0; i < r; i++)
        printf(" len%ld=%u", i, v[i].msg_len);
    show_end();
}

/* A buffer for `bytes`, or none. */
static UNUSED void *into(const char *form)
{
    memset(inbuf, 0xee, sizeof inbuf);
    return strcmp(form, "null") == 0 ? NULL : strcmp(form, "bad") == 0 ? bad_pointer() : inbuf;
}

/* What a receiving call left in the buffer; bytes behind what it was offered are named. */
static UNUSED void show_received(int slot, long r, int bytes)
{
    long n = r < bytes ? r : bytes;
    if (bytes >= 0 && bytes < ROOM - 8 && memcmp(inbuf + bytes, "\xee\xee\xee\xee", 4) != 0)
        printf(" overrun=1");
    show_data(inbuf, n, slot >= 0 && pings[slot]);
}

static UNUSED void call_recv(int slot, const char *form, int bytes, int flags)
{
    long r = SYS(recv)(fd_of(slot), into(form), (size_t)bytes, flags);
    show_result("recv", r, errno);
    show_received(slot, r, bytes);
    show_end();
}

static UNUSED void call_read(int slot, const char *form, int bytes)
{
    long r = SYS(read)(fd_of(slot), into(form), (size_t)bytes);
    show_result("read", r, errno);
    show_received(slot, r, bytes);
    show_end();
}

static UNUSED void call_readv(int slot, const char *form, int bytes, const char *shape)
{
    struct iovec *iov;
    size_t n = iov_of(shape, into(form), bytes, &iov);
    long r = SYS(readv)(fd_of(slot), iov, (int)n);
    show_result("readv", r, errno);
    show_received(slot, r, bytes);
    show_end();
}

static UNUSED void call_recvfrom(int slot, const char *form, int bytes, int flags, int room)
{
    unsigned char b[256];
    socklen_t len = (socklen_t)room;
    memset(b, 0xee, sizeof b);
    long r = SYS(recvfrom)(fd_of(slot), into(form), (size_t)bytes, flags, (struct sockaddr *)b, &len);
    show_result("recvfrom", r, errno);
    show_received(slot, r, bytes);
    if (r >= 0)
        show_name("from", b, len, room < 0 ? 0 : (size_t)room);
    show_end();
}

static UNUSED void call_recvmsg(int slot, const char *form, int bytes, const char *shape, int flags, int room,
                                int control)
{
    unsigned char b[256], ctl[1024];
    struct msghdr m;
    memset(b, 0xee, sizeof b);
    memset(ctl, 0xee, sizeof ctl);
    memset(&m, 0, sizeof m);
    m.msg_iovlen = iov_of(shape, into(form), bytes, &m.msg_iov);
    m.msg_name = room ? b : NULL;
    m.msg_namelen = (socklen_t)room;
    m.msg_control = control ? ctl : NULL;
    m.msg_controllen = (size_t)control;
    m.msg_flags = 0x55;
    long r = SYS(recvmsg)(fd_of(slot), &m, flags);
    show_result("recvmsg", r, errno);
    show_received(slot, r, bytes);
    if (r >= 0) {
        show_name("from", b, m.msg_namelen, room < 0 ? 0 : (size_t)room);
        show_flags("flags", (unsigned)m.msg_flags);
        show_control(&m);
    }
    show_end();
}

static UNUSED void call_recvmmsg(int slot, int bytes, int count, int flags)
{
    struct mmsghdr v[8];
    struct iovec iov[8];
    static unsigned char b[8][2048];
    unsigned char names[8][64];
    memset(v, 0, sizeof v);
    for (int i = 0; i < 8; i++) {
        iov[i] = (struct iovec){b[i], (size_t)(bytes < 2048 ? bytes : 2048)};
        v[i].msg_hdr = (struct msghdr){.msg_name = names[i], .msg_namelen = 64, .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    long r = SYS(recvmmsg)(fd_of(slot), v, (unsigned)(count < 8 ? count : 8), flags, NULL);
    show_result("recvmmsg", r, errno);
    for (long i = 0; i < r; i++) {
        printf(" len%ld=%u", i, v[i].msg_len);
        show_data(b[i], v[i].msg_len < iov[i].iov_len ? v[i].msg_len : iov[i].iov_len, slot >= 0 && pings[slot]);
        show_name("from", names[i], v[i].msg_hdr.msg_namelen, 64);
    }
    show_end();
}

static UNUSED void call_getsockname(int slot, int room)
{
    unsigned char b[256];
    socklen_t len = (socklen_t)room;
    memset(b, 0xee, sizeof b);
    long r = SYS(getsockname)(fd_of(slot), (struct sockaddr *)b, &len);
    show_result("getsockname", r, errno);
    if (r == 0)
        show_name("name", b, len, room < 0 ? 0 : (size_t)room);
    show_end();
}

static UNUSED void call_getpeername(int slot, int room)
{
    unsigned char b[256];
    socklen_t len = (socklen_t)room;
    memset(b, 0xee, sizeof b);
    long r = SYS(getpeername)(fd_of(slot), (struct sockaddr *)b, &len);
    show_result("getpeername", r, errno);
    if (r == 0)
        show_name("name", b, len, room < 0 ? 0 : (size_t)room);
    show_end();
}

/* `value` as `bytes_of`, or "null" or "bad"; the bytes behind it are zero. */
static UNUSED void call_setsockopt(int slot, int level, int option, const char *value, int len)
{
    unsigned char b[512];
    memset(b, 0, sizeof b);
    void *at = strcmp(value, "null") == 0 ? NULL : strcmp(value, "bad") == 0 ? bad_pointer() : b;
    size_t n = at == b ? bytes_of(value, b, sizeof b) : 4;
    long r = SYS(setsockopt)(fd_of(slot), level, option, at, len == EXACT ? (socklen_t)n : (socklen_t)len);
    show_result("setsockopt", r, errno);
    show_end();
}

/* TCP_INFO: what does not depend on time. */
static UNUSED void show_tcp_info(const unsigned char *b, socklen_t len)
{
    struct tcp_info i;
    memset(&i, 0, sizeof i);
    memcpy(&i, b, len < sizeof i ? len : sizeof i);
    printf(" state=%u options=%x advmss=%u pmtu=%u", i.tcpi_state, i.tcpi_options, i.tcpi_advmss, i.tcpi_pmtu);
}

static UNUSED void call_getsockopt(int slot, int level, int option, int len)
{
    unsigned char b[1024];
    socklen_t n = (socklen_t)len;
    memset(b, 0xee, sizeof b);
    long r = SYS(getsockopt)(fd_of(slot), level, option, b, &n);
    show_result("getsockopt", r, errno);
    printf(" len=%d", (int)n);
    if (r == 0 && level == SOL_TCP && option == TCP_INFO) {
        show_tcp_info(b, n);
    } else if (r == 0) {
        int v;
        memcpy(&v, b, sizeof v);
        if (n == sizeof v) {
            printf(" value=%d", v);
        } else {
            printf(" value=");
            show_hex(b, n < 64 ? n : 64);
        }
        if (n < sizeof b && b[n] != 0xee)
            printf(" overrun=1");
    }
    show_end();
}

static UNUSED void call_fcntl(int slot, int command, int arg)
{
    long r = SYS(fcntl)(fd_of(slot), command, (long)arg);
    show_result("fcntl", r, errno);
    show_end();
}

static UNUSED void call_ioctl(int slot, unsigned long request, int arg)
{
    int v = arg;
    long r = SYS(ioctl)(fd_of(slot), request, &v);
    show_result("ioctl", r, errno);
    if (r == 0)
        printf(" value=%d", v);
    show_end();
}

/* All sockets at once. */
static UNUSED void call_poll(int events, int timeout)
{
    struct pollfd p[SLOTS];
    for (int i = 0; i < SLOTS; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = (short)events};
    long r = SYS(poll)(p, SLOTS, timeout);
    show_result("poll", r, errno);
    for (int i = 0; i < SLOTS; i++)
        if (fds[i] >= 0) {
            printf(" s%d=", i);
            show_events(p[i].revents);
        }
    show_end();
}

/* Time passes: delayed acknowledgements leave, timers run. */
static UNUSED void call_sleep(int ms)
{
    poll(NULL, 0, ms);
    show_result("sleep", 0, 0);
    show_end();
}
#endif

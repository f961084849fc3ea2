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
    for (int i = 0; i < 2; i++)
        files_of_bytes[i] = pipes[i][0] = pipes[i][1] = -1;
}

static UNUSED int hidden_of(int slot)
{
    return slot >= 0 ? hides[slot % SLOTS] : HIDES_NOTHING;
}

/* A new socket is bounded in how long it blocks. */
static int patience_us UNUSED = 3000;

static UNUSED void call_socket(int slot, int domain, int type, int protocol)
{
    int fd = SYS(socket)(domain, type, protocol), error = errno;
    struct timeval t = {0, patience_us};
    if (fd >= 0) {
        set_slot(slot, fd);
        bool icmp = protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6, raw = (type & 15) == SOCK_RAW;
        hides[slot % SLOTS] = (icmp && (raw || (type & 15) == SOCK_DGRAM) ? HIDES_ICMP : 0) |
                              (raw && domain == AF_INET ? HIDES_IP : 0);
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
        hides[to % SLOTS] = HIDES_NOTHING;
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

/* A second descriptor of what is in `slot`, for slot `to`. `wanted`: the least number that it should have. */
static UNUSED void show_copy(const char *call, int slot, int to, int fd, int wanted)
{
    int error = errno;
    if (fd >= 0) {
        set_slot(to, fd);
        hides[to % SLOTS] = hidden_of(slot);
    }
    show_result(call, fd < 0 ? -1 : 0, error);
    if (fd >= 0)
        printf(" wanted=%d flags=%d", fd >= wanted, SYS(fcntl)(fd, F_GETFD, 0L));
    show_end();
}

/* The number of slot `to`'s socket, which is closed then, or one that nobody has. */
static UNUSED int number_of(int to)
{
    return fds[to % SLOTS] >= 0 ? fds[to % SLOTS] : 200 + to % SLOTS;
}

static UNUSED void call_dup(int slot, int to)
{
    show_copy("dup", slot, to, SYS(dup)(fd_of(slot)), 0);
}

static UNUSED void call_dup2(int slot, int to)
{
    int at = number_of(to);
    show_copy("dup2", slot, to, SYS(dup2)(fd_of(slot), at), at);
}

static UNUSED void call_dup3(int slot, int to, int flags)
{
    int at = number_of(to);
    show_copy("dup3", slot, to, SYS(dup3)(fd_of(slot), at, flags), at);
}

static UNUSED void call_dupfd(int slot, int to, int command, int least)
{
    show_copy("dupfd", slot, to, SYS(fcntl)(fd_of(slot), command, (long)least), least);
}

/* Through an AF_UNIX socket and back: a descriptor that was passed on is one more of the same socket. */
static UNUSED void call_pass(int slot, int to, int flags)
{
    union {
        struct cmsghdr header;
        unsigned char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte = 'p';
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int ends[2], fd = fd_of(slot);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
        return;
    memset(&control, 0, sizeof control);
    control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    long r = SYS(sendmsg)(ends[0], &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (r == 1)
        r = SYS(recvmsg)(ends[1], &m, MSG_DONTWAIT | flags);
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    if (r == 1 && CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    errno = error;
    show_copy("pass", slot, to, r == 1 ? fd : -1, 0);
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

/* The place of the message that fails, and how: `odd` N has its N-th message's bytes nowhere, -N its N-th with more
 * iovecs than there may be; 0: none. */
static UNUSED void make_odd(struct mmsghdr *v, int odd)
{
    static struct iovec nowhere;
    nowhere = (struct iovec){bad_pointer(), 10};
    if (odd > 0)
        v[(odd - 1) & 7].msg_hdr.msg_iov = &nowhere;
    if (odd < 0)
        v[(-odd - 1) & 7].msg_hdr.msg_iovlen = 1025;
}

/* `count` messages of `bytes`, `bytes` + 1 ... */
static UNUSED void call_sendmmsg(int slot, const char *form, int bytes, int count, int flags, const char *name,
                                 int odd)
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
    make_odd(v, odd);
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
    show_data(inbuf, n, hidden_of(slot));
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

static UNUSED void call_recvmmsg(int slot, int bytes, int count, int flags, int odd)
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
    make_odd(v, odd);
    long r = SYS(recvmmsg)(fd_of(slot), v, (unsigned)(count < 8 ? count : 8), flags, NULL);
    show_result("recvmmsg", r, errno);
    for (long i = 0; i < r; i++) {
        printf(" len%ld=%u", i, v[i].msg_len);
        show_data(b[i], v[i].msg_len < iov[i].iov_len ? v[i].msg_len : iov[i].iov_len, hidden_of(slot));
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

/* IP_PROTOCOL of a socket that has ports is its port, which may be a chosen one; 0 where it is a protocol. */
static UNUSED unsigned port_of_protocol(int slot, int level, int option)
{
    int whole = 0;
    socklen_t n = sizeof whole;
    if (level != SOL_IP || option != IP_PROTOCOL || SYS(getsockopt)(fd_of(slot), level, option, &whole, &n) != 0)
        return 0;
    return whole > 255 ? (unsigned)whole : 0;
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
    } else if (r == 0 && level == SOL_SOCKET && option == SO_PEERNAME) {
        show_name("value", b, n, n);
    } else if (r == 0 && port_of_protocol(slot, level, option)) {
        printf(" value=port:%s", show_port(port_of_protocol(slot, level, option)));
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

/* All sockets at once; `odd`: with a number that is none, one that is not open, and a pipe of the kernel's. */
static UNUSED void call_poll(int events, int timeout, int odd)
{
    struct pollfd p[SLOTS + 3];
    for (int i = 0; i < SLOTS; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = (short)events};
    if (odd) {
        p[SLOTS] = (struct pollfd){.fd = -7, .events = (short)events, .revents = 0x55};
        p[SLOTS + 1] = (struct pollfd){.fd = 1000, .events = (short)events};
        p[SLOTS + 2] = (struct pollfd){.fd = end_of("in"), .events = (short)events};
    }
    long r = SYS(poll)(p, odd ? SLOTS + 3 : SLOTS, timeout);
    show_result("poll", r, errno);
    for (int i = SLOTS; odd && i < SLOTS + 3; i++) {
        printf(" odd%d=", i - SLOTS);
        show_events(p[i].revents);
    }
    for (int i = 0; i < SLOTS; i++)
        if (fds[i] >= 0) {
            printf(" s%d=", i);
            show_events(p[i].revents);
        }
    show_end();
}

static UNUSED void call_epoll_create(int slot, int flags)
{
    int fd = SYS(epoll_create1)(flags), error = errno;
    if (fd >= 0) {
        set_slot(slot, fd);
        hides[slot % SLOTS] = HIDES_NOTHING;
    }
    show_result("epoll_create", fd < 0 ? -1 : 0, error);
    show_end();
}

/* Of the socket in `slot`, which the events are told from the others' by. `form`: "event", "null" or "bad". */
static UNUSED void call_epoll_ctl(int set, int op, int slot, unsigned events, const char *form)
{
    struct epoll_event e = {.events = events, .data.u64 = (uint64_t)(slot + 8)};
    struct epoll_event *at = strcmp(form, "event") == 0 ? &e : strcmp(form, "null") == 0 ? NULL : bad_pointer();
    long r = SYS(epoll_ctl)(fd_of(set), op, fd_of(slot), at);
    show_result("epoll_ctl", r, errno);
    show_end();
}

static UNUSED void call_epoll_wait(int set, const char *form, int max)
{
    struct epoll_event events[16];
    struct epoll_event *at = strcmp(form, "buf") == 0 ? events : strcmp(form, "null") == 0 ? NULL : bad_pointer();
    memset(events, 0xee, sizeof events);
    long r = SYS(epoll_wait)(fd_of(set), at, max, 0);
    show_result("epoll_wait", r, errno);
    if (r > 0)
        show_ready(events, (int)r, max);
    show_end();
}

/* select of slots by bits: to read, to write, exceptional; `odd` adds a number that is not open. `count` 0: as many
 * descriptors as are asked for, else itself. */
static UNUSED void call_select(int in, int out, int ex, int count, int odd, int nanoseconds)
{
    const int asked[3] = {in, out, ex};
    fd_set sets[3];
    int most = 0;
    for (int k = 0; k < 3; k++) {
        FD_ZERO(&sets[k]);
        for (int i = 0; i < SLOTS; i++)
            if (asked[k] >> i & 1 && fds[i] >= 0 && fds[i] < FD_SETSIZE) {
                FD_SET(fds[i], &sets[k]);
                most = fds[i] >= most ? fds[i] + 1 : most;
            }
    }
    if (odd) {
        FD_SET(60, &sets[0]);
        most = most > 61 ? most : 61;
    }
    struct timespec t = {0, nanoseconds};
    struct timeval v = {0, nanoseconds / 1000};
    fd_set *at[3];
    for (int k = 0; k < 3; k++)
        at[k] = asked[k] || (odd && k == 0) ? &sets[k] : NULL;
    long r = nanoseconds & 1 ? SYS(pselect)(count ? count : most, at[0], at[1], at[2], &t, NULL)
                             : SYS(select)(count ? count : most, at[0], at[1], at[2], &v);
    show_result("select", r, errno);
    for (int k = 0; k < 3 && r >= 0; k++)
        for (int i = 0; i < SLOTS; i++)
            if (asked[k] >> i & 1 && fds[i] >= 0 && fds[i] < FD_SETSIZE && FD_ISSET(fds[i], &sets[k]))
                printf(" %s%d=1", k == 0 ? "in" : k == 1 ? "out" : "ex", i);
    show_end();
}

/* An offset of a transfer: "null", "bad", or a number. */
static UNUSED off_t *offset_of(const char *text, off_t *at)
{
    *at = (off_t)strtoll(text, NULL, 0);
    return strcmp(text, "null") == 0 ? NULL : strcmp(text, "bad") == 0 ? bad_pointer() : at;
}

/* What a transfer left in the pipes, and where the files' positions are. */
static UNUSED void show_ends(int hidden)
{
    for (int i = 0; i < 2; i++) {
        memset(inbuf, 0xee, sizeof inbuf);
        long n = pipes[i][0] < 0 ? -1 : read(pipes[i][0], inbuf, ROOM);
        if (n > 0) {
            printf(i ? " small=%ld" : " piped=%ld", n);
            show_data(inbuf, n, hidden);
        }
    }
    for (int i = 0; i < 2; i++)
        if (files_of_bytes[i] >= 0)
            printf(i ? " place=%ld" : " position=%ld", (long)lseek(files_of_bytes[i], 0, SEEK_CUR));
}

static UNUSED void call_sendfile(const char *out, const char *in, const char *offset, long count)
{
    off_t at;
    off_t *o = offset_of(offset, &at);
    int slot = -1;
    sscanf(in, "slot %d", &slot);
    long r = SYS(sendfile)(end_of(out), end_of(in), o, (size_t)count);
    show_result("sendfile", r, errno);
    if (o == &at)
        printf(" offset=%ld", (long)at);
    show_ends(hidden_of(slot));
    show_end();
}

/* `piped`: bytes that are put into the pipe before. */
static UNUSED void call_splice(const char *in, const char *in_offset, const char *out, const char *out_offset, long len,
                               unsigned flags, int piped)
{
    off_t at[2];
    off_t *i = offset_of(in_offset, &at[0]), *o = offset_of(out_offset, &at[1]);
    int slot = -1;
    sscanf(in, "slot %d", &slot);
    int filled = piped ? end_of(strncmp(in, "small", 5) == 0 ? "small out" : "out") : -1;
    if (piped && write(filled, data("count", piped), (size_t)piped) < 0)
        printf("[pipe full] ");
    long r = SYS(splice)(end_of(in), i, end_of(out), o, (size_t)len, flags);
    show_result("splice", r, errno);
    show_ends(hidden_of(slot));
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

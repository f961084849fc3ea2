/* What options of SOL_SOCKET do, seen by a peer, by poll(2), by counters of the socket: those that other cases do not
 * observe on their way. */
#define _GNU_SOURCE
#include "control.h"
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <time.h>

#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif

/* SO_MARK and SO_PRIORITY of a sender, by option and by control message, come to a receiver over loopback that asks for
 * them with SO_RCVMARK and SO_RCVPRIORITY. */
static void mark_and_priority(int family)
{
    int fd[2];
    udp_pair(family, fd);
    OK(usk_send(fd[0], "a", 1, 0));
    struct received r = receive(fd[1], 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), -12345);
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVMARK, 1));
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVPRIORITY, 1));
    OK(usk_send(fd[0], "a", 1, 0));
    r = receive(fd[1], 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 0);
    EQ(control_int(&r, SOL_SOCKET, SO_PRIORITY), 0);
    OK(set_int(fd[0], SOL_SOCKET, SO_MARK, 77));
    OK(set_int(fd[0], SOL_SOCKET, SO_PRIORITY, 5));
    OK(usk_send(fd[0], "a", 1, 0));
    r = receive(fd[1], 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 77);
    EQ(control_int(&r, SOL_SOCKET, SO_PRIORITY), 5);
    OK(send_with_int(fd[0], NULL, SOL_SOCKET, SO_MARK, 78));
    r = receive(fd[1], 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 78);
    EQ(control_int(&r, SOL_SOCKET, SO_PRIORITY), 5);
    OK(send_with_int(fd[0], NULL, SOL_SOCKET, SO_PRIORITY, 3));
    r = receive(fd[1], 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 77);
    EQ(control_int(&r, SOL_SOCKET, SO_PRIORITY), 3);
    if (family == AF_INET) {
        OK(send_with_int(fd[0], NULL, SOL_IP, IP_TOS, 0x10));
        r = receive(fd[1], 0);
        EQ(control_int(&r, SOL_SOCKET, SO_PRIORITY), 6);
    }
    ERR(send_with(fd[0], NULL, "x", 1, SOL_SOCKET, SO_PRIORITY, "abc", 3), EINVAL);
    ERR(send_with(fd[0], NULL, "x", 1, SOL_SOCKET, SO_MARK, "abc", 3), EINVAL);
    close_pair(fd);
    /* A stream takes both messages and sends with the socket's values. */
    tcp_pair(family, fd);
    EQ(send_with_int(fd[0], NULL, SOL_SOCKET, SO_MARK, 1), 1);
    EQ(send_with_int(fd[0], NULL, SOL_SOCKET, SO_PRIORITY, 1), 1);
    close_pair(fd);
}

#ifndef ON_SERVER
/* A raw socket sees the marks of a connection's segments. */
static void mark_of_segments(void)
{
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
    OK(set_int(raw, SOL_SOCKET, SO_RCVMARK, 1));
    struct addr any = local(AF_INET);
    int l = listener(any, 1);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(set_int(fd, SOL_SOCKET, SO_MARK, 4711));
    struct addr to = sock_name(l);
    OK(usk_connect(fd, &to.sa, to.len));
    struct received r = receive(raw, 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 4711); /* the SYN */
    r = receive(raw, 0);
    EQ(control_int(&r, SOL_SOCKET, SO_MARK), 0); /* the listener's answer */
    usk_close(fd);
    usk_close(l);
    usk_close(raw);
}
#endif

/* IP_TOS sets the priority with it (rt_tos2priority). */
static void priority_of_tos(void)
{
    static const int want[16] = {0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4};
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    for (int tos = 0; tos < 256; tos += 2) {
        OK(set_int(fd, SOL_IP, IP_TOS, tos));
        EQ(get_int(fd, SOL_SOCKET, SO_PRIORITY), want[tos >> 1 & 15]);
    }
    usk_close(fd);
}

/* SO_SELECT_ERR_QUEUE: what the error queue has shows as POLLPRI, too. */
static void select_err_queue(void)
{
    for (int on = 0; on < 2; on++) {
        struct addr nobody = local(AF_INET);
        int gone = bound(SOCK_DGRAM, nobody);
        nobody = sock_name(gone);
        usk_close(gone);
        int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
        OK(set_int(fd, SOL_IP, IP_RECVERR, 1));
        OK(set_int(fd, SOL_SOCKET, SO_SELECT_ERR_QUEUE, on));
        OK(usk_sendto(fd, "x", 1, 0, &nobody.sa, nobody.len));
        await(fd, POLLPRI);
        EQ(ready(fd, POLLPRI), on ? POLLERR | POLLPRI : POLLERR);
        usk_close(fd);
    }
    /* A pending error without an entry of the queue, too. */
    int pending = bound(SOCK_DGRAM, local(AF_INET));
    struct addr gone = sock_name(pending);
    usk_close(pending);
    pending = connected(SOCK_DGRAM, gone);
    OK(set_int(pending, SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1));
    OK(usk_send(pending, "x", 1, 0));
    await(pending, POLLPRI);
    EQ(ready(pending, POLLPRI), POLLERR | POLLPRI);
    EQ(so_error(pending), ECONNREFUSED);
    EQ(ready(pending, POLLPRI), 0);
    usk_close(pending);
#ifndef ON_SERVER
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_ZEROCOPY, 1));
    OK(set_int(fd[0], SOL_SOCKET, SO_SELECT_ERR_QUEUE, 1));
    OK(usk_send(fd[0], "zero", 4, MSG_ZEROCOPY));
    await_bytes(fd[1], 4);
    char buf[4];
    OK(usk_recv(fd[1], buf, 4, 0));
    EQ(await(fd[0], POLLPRI), POLLERR); /* not of a stream */
    close_pair(fd);
#endif
}

static void peer_by_option(int family)
{
    char name[64];
    socklen_t len = sizeof name;
    int fd[2];
    tcp_pair(family, fd);
    struct addr want = peer_name(fd[0]);
    ERR(usk_getsockopt(fd[0], SOL_SOCKET, SO_PEERNAME, name, &len), EINVAL); /* longer than the name */
    len = want.len;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_PEERNAME, name, &len));
    EQ(len, want.len);
    EQ(memcmp(name, &want.sa, len), 0);
    memset(name, 9, sizeof name);
    len = 4;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_PEERNAME, name, &len));
    EQ(len, 4);
    EQ(memcmp(name, &want.sa, 4), 0);
    EQ(name[4], 9);
    close_pair(fd);
}

static void bound_by_index(void)
{
    char name[IFNAMSIZ] = "";
    socklen_t len = sizeof name;
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 1));
    OK(usk_getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len));
    EQ(strcmp(name, "lo"), 0);
    struct addr to = at("127.0.0.1", 9);
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    /* No such device: kept, and nothing can be sent. */
    OK(set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 300));
    len = sizeof name;
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), ENODEV);
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), ENODEV);
    OK(set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 0));
    OK(usk_sendto(fd, "x", 1, 0, &to.sa, to.len));
    usk_close(fd);
    /* A receiver that is bound to another device gets nothing. */
    int r = bound(SOCK_DGRAM, local(AF_INET));
    OK(set_int(r, SOL_SOCKET, SO_BINDTOIFINDEX, 300));
    to = sock_name(r);
    fd = connected(SOCK_DGRAM, to);
    OK(usk_send(fd, "x", 1, 0));
    EQ(ready(r, POLLIN), 0);
    usk_close(r);
    usk_close(fd);
}

/* A connection that is bound to another device afterwards does not get what its peer sends: that is reset. */
static void connection_by_index(int family)
{
    int fd[2];
    tcp_pair(family, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_BINDTOIFINDEX, 1)); /* of the loopback device: nothing changes */
    OK(usk_send(fd[1], "a", 1, 0));
    await_bytes(fd[0], 1);
    OK(set_int(fd[0], SOL_SOCKET, SO_BINDTOIFINDEX, 300));
    OK(usk_send(fd[1], "b", 1, 0));
    await(fd[1], 0);
    EQ(so_error(fd[1]), ECONNRESET);
    int bytes = 0;
    OK(usk_ioctl(fd[0], FIONREAD, &bytes));
    EQ(bytes, 1);
    EQ(so_error(fd[0]), 0);
    close_pair(fd);
}

/* The receive buffer after many bytes were read by a program that keeps up. */
static int buffer_after_transfer(int lock)
{
    static char buf[1 << 16];
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[1], SOL_SOCKET, SO_BUF_LOCK, lock));
    EQ(get_int(fd[1], SOL_SOCKET, SO_BUF_LOCK), lock);
    for (int i = 0; i < 400; i++) {
        send_all(fd[0], buf, sizeof buf);
        for (size_t n = 0; n < sizeof buf;)
            n += (size_t)OK(usk_recv(fd[1], buf, sizeof buf - n, 0));
    }
    int rcvbuf = get_int(fd[1], SOL_SOCKET, SO_RCVBUF);
    close_pair(fd);
    return rcvbuf;
}

static void buffer_lock(void)
{
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    int first = get_int(fd, SOL_SOCKET, SO_RCVBUF);
    OK(set_int(fd, SOL_SOCKET, SO_RCVBUF, 10000));
    EQ(get_int(fd, SOL_SOCKET, SO_BUF_LOCK), 2);
    OK(set_int(fd, SOL_SOCKET, SO_SNDBUF, 10000));
    EQ(get_int(fd, SOL_SOCKET, SO_BUF_LOCK), 3);
    OK(set_int(fd, SOL_SOCKET, SO_BUF_LOCK, 0));
    EQ(get_int(fd, SOL_SOCKET, SO_BUF_LOCK), 0);
    usk_close(fd);
    EQ(buffer_after_transfer(2), first);
    CHECK(buffer_after_transfer(0) > first);
}

/* The two that pass net.core.rmem_max and wmem_max. */
static void forced_buffers(void)
{
    int fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, 100000000));
    OK(set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, 100000000));
    EQ(get_int(fd, SOL_SOCKET, SO_RCVBUF), 200000000);
    EQ(get_int(fd, SOL_SOCKET, SO_SNDBUF), 200000000);
    OK(set_int(fd, SOL_SOCKET, SO_RCVBUF, 100000000));
    CHECK(get_int(fd, SOL_SOCKET, SO_RCVBUF) < 200000000);
    usk_close(fd);
}

static void cookies(void)
{
    uint64_t a = 0, b = 0;
    socklen_t len = 8;
    int fd[2];
    udp_pair(AF_INET, fd);
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_NETNS_COOKIE, &a, &len));
    OK(usk_getsockopt(fd[1], SOL_SOCKET, SO_NETNS_COOKIE, &b, &len));
    CHECK(a != 0 && a == b);
    OK(usk_getsockopt(fd[0], SOL_SOCKET, SO_COOKIE, &a, &len));
    OK(usk_getsockopt(fd[1], SOL_SOCKET, SO_COOKIE, &b, &len));
    CHECK(a != 0 && b != 0 && a != b);
    OK(usk_send(fd[0], "x", 1, 0));
    receive(fd[1], 0);
    EQ(get_int(fd[1], SOL_SOCKET, SO_INCOMING_NAPI_ID), 0); /* loopback has no NAPI */
    close_pair(fd);
}

/* SO_NO_CHECK: the datagram has no checksum. */
static void no_check(void)
{
    unsigned char packet[64];
    int raw = (int)OK(usk_socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
    int fd[2];
    udp_pair(AF_INET, fd);
    for (int on = 0; on < 2; on++) {
        OK(set_int(fd[0], SOL_SOCKET, SO_NO_CHECK, on));
        OK(usk_send(fd[0], "x", 1, 0));
        await(raw, POLLIN);
        EQ(OK(usk_recv(raw, packet, sizeof packet, 0)), 29);
        EQ(packet[26] == 0 && packet[27] == 0, on);
    }
    close_pair(fd);
    usk_close(raw);
}

static void pacing_rate(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_MAX_PACING_RATE, 4000000));
    static char buf[1 << 16];
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 64; i++) {
        send_all(fd[0], buf, sizeof buf);
        for (size_t n = 0; n < sizeof buf;)
            n += (size_t)OK(usk_recv(fd[1], buf, sizeof buf - n, 0));
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    /* A second by the rate; the first ten packets leave at once. */
    CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 > 300);
    close_pair(fd);
}

/* Of two sockets that share a port, the one whose SO_INCOMING_CPU this thread runs on gets the datagrams. */
static void incoming_cpu(void)
{
    cpu_set_t set, all;
    OK(sched_getaffinity(0, sizeof all, &all));
    int cpu = sched_getcpu();
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    OK(sched_setaffinity(0, sizeof set, &set));
    int fd[2];
    struct addr a = local(AF_INET);
    for (int i = 0; i < 2; i++) {
        fd[i] = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
        OK(set_int(fd[i], SOL_SOCKET, SO_REUSEADDR, 1));
        OK(set_int(fd[i], SOL_SOCKET, SO_INCOMING_CPU, i == 1 ? cpu : cpu + 1));
        OK(usk_bind(fd[i], &a.sa, a.len));
        a = sock_name(fd[i]);
    }
    for (int turn = 0; turn < 2; turn++) {
        OK(set_int(fd[0], SOL_SOCKET, SO_INCOMING_CPU, turn ? cpu : cpu + 1));
        OK(set_int(fd[1], SOL_SOCKET, SO_INCOMING_CPU, turn ? cpu + 1 : cpu));
        int s = connected(SOCK_DGRAM, a);
        OK(usk_send(s, "x", 1, 0));
        EQ(receive(fd[turn ? 0 : 1], 0).n, 1);
        usk_close(s);
    }
    close_pair(fd);
    OK(sched_setaffinity(0, sizeof all, &all));
}

static void memory(void)
{
    unsigned info[9];
    socklen_t len = sizeof info;
    int fd[2];
    udp_pair(AF_INET, fd);
    OK(usk_send(fd[0], "x", 1, 0));
    await(fd[1], POLLIN);
    OK(usk_getsockopt(fd[1], SOL_SOCKET, SO_MEMINFO, info, &len));
    EQ(len, sizeof info);
    EQ(info[1], get_int(fd[1], SOL_SOCKET, SO_RCVBUF));
    EQ(info[3], get_int(fd[1], SOL_SOCKET, SO_SNDBUF));
    CHECK(info[0] > 0);
    receive(fd[1], 0);
    OK(usk_getsockopt(fd[1], SOL_SOCKET, SO_MEMINFO, info, &len));
    EQ(info[0], 0);
    close_pair(fd);
}

/* The numbers for a 64-bit time_t have control messages of their own. */
static void new_times(void)
{
    static const struct {
        int name, value, len;
    } rows[] = {{SO_TIMESTAMP_NEW, 1, 16}, {SO_TIMESTAMPNS_NEW, 1, 16}, {SO_TIMESTAMPING_NEW, 0x18, 48}};
    for (int i = 0; i < COUNT(rows); i++) {
        int fd[2];
        udp_pair(AF_INET, fd);
        OK(set_int(fd[1], SOL_SOCKET, rows[i].name, rows[i].value));
        struct received r;
        size_t len = 0;
        long long *t;
        /* The kernel begins to stamp packets some time after the first socket has asked for it. */
        do {
            OK(usk_send(fd[0], "x", 1, 0));
            r = receive(fd[1], 0);
            t = control_of(&r, SOL_SOCKET, rows[i].name, &len);
        } while (!t);
        EQ(len, rows[i].len);
        CHECK(llabs(t[0] - (long long)time(NULL)) < 60);
        close_pair(fd);
    }
    long long wait[2] = {0, 20000};
    char buf[1];
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO_NEW, wait, sizeof wait));
    ERR(usk_recv(fd[0], buf, 1, 0), EAGAIN);
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO_NEW, wait, sizeof wait));
    static char big[1 << 20];
    for (int i = 0; i < 100; i++)
        if (usk_send(fd[0], big, sizeof big, 0) < 0) {
            EQ(errno, EAGAIN);
            close_pair(fd);
            return;
        }
    CHECK(!"a send that waits for ever ends");
}

int main(void)
{
    begin("options_socket");
    mark_and_priority(AF_INET);
    mark_and_priority(AF_INET6);
#ifndef ON_SERVER
    mark_of_segments();
#endif
    priority_of_tos();
    select_err_queue();
    peer_by_option(AF_INET);
    peer_by_option(AF_INET6);
    bound_by_index();
    connection_by_index(AF_INET);
    connection_by_index(AF_INET6);
    buffer_lock();
    forced_buffers();
    cookies();
    no_check();
    pacing_rate();
    incoming_cpu();
    memory();
    new_times();
    return done();
}

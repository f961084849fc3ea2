/* net.ipv4.tcp_migrate_req: when a listener of a SO_REUSEPORT group ends, another one of the group takes the
 * connections that nobody accepted and those whose handshake is not over; without it they are reset. Under the preload
 * shim, where a program sets no sysctl, only the latter. */
#include "common.h"
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

/* Enough that each of two listeners gets some. */
#define CLIENTS 24

static void migrate(bool on)
{
#ifdef ON_KERNEL
    int f = (int)OK(open("/proc/sys/net/ipv4/tcp_migrate_req", O_WRONLY));
    OK(write(f, on ? "1" : "0", 1));
    OK(close(f));
#elif defined PRELOADED
    CHECK(!on);
#else
    OK(usk_sysctl_set(NULL, "net.ipv4.tcp_migrate_req", on ? "1" : "0"));
#endif
}

/* A counter of the TcpExt group. */
static long counter(const char *name)
{
#ifdef ON_KERNEL
    static char names[16384], values[16384];
    FILE *f = fopen("/proc/self/net/netstat", "r");
    CHECK(f && fgets(names, sizeof names, f) && fgets(values, sizeof values, f));
    fclose(f);
    char *n, *v, *s = strtok_r(names, " \n", &n), *t = strtok_r(values, " \n", &v);
    while (s && t && strcmp(s, name) != 0) {
        s = strtok_r(NULL, " \n", &n);
        t = strtok_r(NULL, " \n", &v);
    }
    CHECK(s && t);
    return t ? atol(t) : -1;
#elif defined PRELOADED
    return *name != 0;
#else
    char whole[64];
    uint64_t value = 0;
    snprintf(whole, sizeof whole, "TcpExt%s", name);
    OK(usk_mib_read(NULL, whole, &value));
    return (long)value;
#endif
}

/* A listener of the group at `at`, whose port is filled in. `defer`: only data makes a connection
 * (TCP_DEFER_ACCEPT). */
static int member(struct addr *at, int defer)
{
    int fd = (int)OK(usk_socket(at->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
    OK(usk_bind(fd, &at->sa, at->len));
    *at = sock_name(fd);
    if (defer)
        OK(set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 30));
    OK(usk_listen(fd, 64));
    return fd;
}

static void connect_all(int clients[CLIENTS], struct addr to)
{
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connected(SOCK_STREAM, to);
}

struct fate {
    int accepted, reset;
};

/* Accepts from `fd` (-1: from nobody) until each client is accepted or reset. An accepted connection is read from. */
static struct fate fate_of(const int clients[CLIENTS], int fd, const char *byte)
{
    struct fate f = {0, 0};
    for (int tries = 0; f.accepted + f.reset < CLIENTS && tries < 500; tries++) {
        for (int c; fd >= 0 && (c = usk_accept4(fd, NULL, NULL, 0)) >= 0; f.accepted++) {
            char got = 0;
            if (byte) {
                EQ(usk_recv(c, &got, 1, 0), 1);
                EQ(got, *byte);
            }
            /* Alive in both directions. */
            OK(usk_send(c, "y", 1, 0));
            usk_close(c);
        }
        f.reset = 0;
        for (int i = 0; i < CLIENTS; i++)
            f.reset += ready(clients[i], POLLIN) & POLLERR ? 1 : 0;
        if (f.accepted + f.reset < CLIENTS)
            poll(NULL, 0, 10);
    }
    return f;
}

static void close_all(const int clients[CLIENTS])
{
    for (int i = 0; i < CLIENTS; i++)
        usk_close(clients[i]);
}

/* Off: what the closed listener had is reset, and nothing is counted. */
static void without(int family)
{
    struct addr at = local(family);
    int a = member(&at, 0), b = member(&at, 0), clients[CLIENTS];
    long moved = counter("TCPMigrateReqSuccess"), lost = counter("TCPMigrateReqFailure");
    migrate(false);
    connect_all(clients, at);
    usk_close(a);
    struct fate f = fate_of(clients, b, NULL);
    EQ(f.accepted + f.reset, CLIENTS);
    CHECK(f.accepted > 0 && f.reset > 0);
    EQ(counter("TCPMigrateReqSuccess"), moved);
    EQ(counter("TCPMigrateReqFailure"), lost);
    close_all(clients);
    usk_close(b);
}

#ifndef PRELOADED
/* How the first listener ends. */
enum end { CLOSE, SHUT, UNSPEC };

static void end(int fd, enum end how)
{
    struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    if (how == CLOSE)
        OK(usk_close(fd));
    else if (how == SHUT)
        OK(usk_shutdown(fd, SHUT_RD));
    else
        OK(usk_connect(fd, &nowhere, sizeof nowhere));
}

/* On: the other one has them all. `defer`: their handshake is not over when the listener ends. */
static void with(int family, enum end how, bool defer)
{
    struct addr at = local(family);
    /* The port of a socket that did not choose it is free when it stops listening: `a` chooses it. */
    int b = member(&at, defer), a = member(&at, defer), clients[CLIENTS];
    long moved = counter("TCPMigrateReqSuccess"), lost = counter("TCPMigrateReqFailure");
    migrate(true);
    connect_all(clients, at);
    end(a, how);
    for (int i = 0; i < CLIENTS; i++)
        OK(usk_send(clients[i], "x", 1, MSG_NOSIGNAL));
    struct fate f = fate_of(clients, b, "x");
    EQ(f.accepted, CLIENTS);
    EQ(f.reset, 0);
    moved = counter("TCPMigrateReqSuccess") - moved;
    CHECK(moved > 0 && moved < CLIENTS);
    EQ(counter("TCPMigrateReqFailure"), lost);
    close_all(clients);
    if (how == SHUT && !defer) {
        /* It may join again, and gets its share. */
        OK(usk_listen(a, 64));
        connect_all(clients, at);
        usk_close(b);
        f = fate_of(clients, a, NULL);
        EQ(f.accepted, CLIENTS);
        close_all(clients);
    } else {
        usk_close(b);
    }
    if (how != CLOSE)
        usk_close(a);
}

/* On, and nobody is left: each connection counts as one that could not move. */
static void alone(int family)
{
    struct addr at = local(family);
    int a = member(&at, 0), clients[CLIENTS];
    long moved = counter("TCPMigrateReqSuccess"), lost = counter("TCPMigrateReqFailure");
    migrate(true);
    connect_all(clients, at);
    usk_close(a);
    EQ(fate_of(clients, -1, NULL).reset, CLIENTS);
    EQ(counter("TCPMigrateReqSuccess"), moved);
    EQ(counter("TCPMigrateReqFailure"), lost + CLIENTS);
    close_all(clients);
}
#endif

int main(void)
{
    begin("migrate_req");
    for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
        without(family);
#ifndef PRELOADED
        with(family, CLOSE, false);
        with(family, SHUT, false);
        with(family, UNSPEC, false);
        with(family, CLOSE, true);
        with(family, SHUT, true);
        alone(family);
#endif
    }
    return done();
}

/* The operations: each makes one call on a socket of the host or sends it a packet, and prints what the host sends and
 * what the call gave. */
#include "packets.h"
#include "../sys.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

struct op_row {
    const char *name;
    enum arg args[MAX_ARGS];
    void (*run)(const int *a);
};

/* What the packet says before its result; most operations have the packets as their result. */
static void result(const char *name, long r, int error)
{
    printf("%s => r=%ld", name, r);
    if (r == -1) {
        const char *e = strerrorname_np(error);
        printf(" errno=%s", e ? e : "?");
    }
}

static void answers(const char *name)
{
    printf("%s => r=0", name);
    show_answers();
}

static int slot_of(int v)
{
    return (int)((unsigned)v % SLOTS);
}

static int family_of(int v)
{
    return v == 6 ? 6 : 4;
}

static void run_end(const int *a)
{
    open_end(slot_of(a[0]), family_of(a[1]), a[2], a[3] & 1, a[4]);
    answers("end");
}

static void run_udp(const int *a)
{
    open_udp(slot_of(a[0]), family_of(a[1]), a[2]);
    answers("udp");
}

static void run_ping(const int *a)
{
    open_ping(slot_of(a[0]), family_of(a[1]));
    answers("ping");
}

static void run_next(const int *a)
{
    next_form = (struct ip_form){a[0], a[1], a[2], a[3], a[4], a[5] ? a[5] & 255 : 64, a[6] & 255};
    printf("next => r=0");
}

static void run_segment(const int *a)
{
    int slot = slot_of(a[0]);
    struct end *e = &ends[slot];
    uint32_t seq = seq_of(e, a[2], a[3]), ack = a[1] & ACK ? ack_of(e, a[4], a[5]) : 0;
    int len = a[6] < 0 ? 0 : a[6] % 1400;
    bool in_order = seq == e->nxt && a[9] == 0 && a[8] == 0 && next_form.damage == 0 && next_form.source == 0 &&
                    next_form.destination == 0 && !(a[1] & RST);
    if (a[1] & ACK && (int32_t)(ack - e->una) > 0 && (int32_t)(e->host_nxt - ack) >= 0)
        e->una = ack;
    e->tsval++;
    const char *options = tables[T_TCP_OPTIONS][a[8] % table_counts[T_TCP_OPTIONS]].bytes;
    send_segment(e, slot, a[1], seq, ack, len, a[7] & 0xffff, options, a[9]);
    if (in_order)
        e->nxt = seq + (uint32_t)len + !!(a[1] & SYN) + !!(a[1] & FIN);
    answers("segment");
}

/* The IP header and what follows of the packet that an error quotes. Returns its length. */
static size_t quoted(const struct end *e, int slot, const char *form, uint32_t seq, unsigned char *b)
{
    bool six = e->family == 6;
    size_t head = six ? 40 : 20, options = 0;
    int protocol = e->protocol == IPPROTO_TCP || e->protocol == 0 ? IPPROTO_TCP
                   : e->protocol == IPPROTO_UDP                   ? IPPROTO_UDP
                   : six                                          ? IPPROTO_ICMPV6
                                                                  : IPPROTO_ICMP;
    if (strcmp(form, "udp") == 0)
        protocol = IPPROTO_UDP;
    if (strcmp(form, "an ICMP error") == 0)
        protocol = six ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    if (strcmp(form, "unknown protocol") == 0)
        protocol = 99;
    bool own = strcmp(form, "the peer's own") == 0;
    memset(b, 0, 120);
    if (strcmp(form, "with options") == 0) {
        options = six ? 8 : 4;
        memcpy(b + head, six ? "\6\0\1\4\0\0\0\0" : "\1\1\1\1", options);
        if (six)
            b[head] = (unsigned char)protocol;
    }
    if (six && strstr(form, "fragment")) {
        options = 8;
        b[head] = (unsigned char)protocol;
        put16(b + head + 2, strstr(form, "later") ? 80 : 1);
    }
    if (six) {
        b[0] = 0x60;
        put16(b + 4, 20 + (unsigned)options);
        b[6] = (unsigned char)(strstr(form, "fragment") ? 44 : options ? 60 : protocol);
        b[7] = 63;
        address(6, !own, b + 8);
        address(6, own, b + 24);
        if (strcmp(form, "another source") == 0)
            b[23] = 9;
        if (strcmp(form, "another destination") == 0)
            b[39] = 9;
    } else {
        b[0] = (unsigned char)(0x45 + options / 4);
        put16(b + 2, (unsigned)(40 + options));
        put16(b + 6, strstr(form, "later") ? 10 : strstr(form, "first f") ? 0x2000 : 0x4000);
        b[8] = 63;
        b[9] = (unsigned char)protocol;
        address(4, !own, b + 12);
        address(4, own, b + 16);
        if (strcmp(form, "another source") == 0)
            b[15] = 9;
        if (strcmp(form, "another destination") == 0)
            b[19] = 9;
        put16(b + 10, checksum(b, head + options, 0));
    }
    if (strcmp(form, "the other version") == 0)
        b[0] ^= 0x20;
    unsigned char *t = b + head + options;
    bool ping = protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
    if (ping) {
        t[0] = (unsigned char)(strcmp(form, "an ICMP error") == 0 ? (six ? 1 : 3) : six ? 128 : 8);
        put16(t + 4, host_port(slot));
        put16(t + 6, 1);
    } else {
        put16(t, own ? peer_port(slot) : host_port(slot));
        put16(t + 2, own ? host_port(slot) : peer_port(slot));
        if (strcmp(form, "another port") == 0)
            put16(t + 2, 6001);
        if (protocol == IPPROTO_UDP) {
            put16(t + 4, 20);
        } else {
            put32(t + 4, seq);
            put32(t + 8, e->host_ack);
            t[12] = 0x50;
            t[13] = ACK;
            put16(t + 14, 1000);
        }
    }
    size_t transport = strcmp(form, "8 bytes") == 0 ? 8 : strcmp(form, "4 bytes") == 0 ? 4 : 20;
    if (strcmp(form, "no transport") == 0)
        transport = 0;
    if (strcmp(form, "half a header") == 0)
        return head / 2;
    return head + options + transport;
}

/* An ICMP error about what the slot's end has sent: slot, type, code, rest of the header, quote, sequence number. */
static void run_error(const int *a)
{
    int slot = slot_of(a[0]);
    struct end *e = &ends[slot];
    unsigned char b[256];
    const char *form = name_at(T_QUOTE, a[4]);
    const uint32_t bases[] = {e->una, e->host_nxt, e->host_iss, e->una + 0x80000000u};
    memset(b, 0, 8);
    b[0] = (unsigned char)a[1];
    b[1] = (unsigned char)a[2];
    put32(b + 4, (uint32_t)a[3]);
    size_t n = 8 + quoted(e, slot, form, bases[(unsigned)a[5] % 4] + (uint32_t)a[6], b + 8);
    fill_checksum(e->family, e->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, b, n, 2,
                  strcmp(form, "checksum wrong") == 0);
    send_and_collect(e->family, e->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, b, n);
    answers("error");
}

/* Another ICMP message: slot, family, type, code, bytes behind its type, code and checksum, checksum wrong. */
static void run_query(const int *a)
{
    unsigned char b[1400];
    int family = family_of(a[1]), protocol = family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    size_t n = 4 + (size_t)(a[4] < 0 ? 0 : a[4] % 1300);
    for (size_t i = 0; i < n; i++)
        b[i] = (unsigned char)(i * 7);
    b[0] = (unsigned char)a[2];
    b[1] = (unsigned char)a[3];
    put16(b + 4, host_port(slot_of(a[0])));
    /* A neighbour solicitation or advertisement is about the host. */
    if (family == 6 && (a[2] == 135 || a[2] == 136)) {
        put32(b + 4, 0);
        address(6, a[2] == 135, b + 8);
        if (n > 24)
            n = 24;
    }
    fill_checksum(family, protocol, b, n, 2, a[5] & 1);
    send_and_collect(family, protocol, b, n);
    answers("query");
}

/* A UDP datagram: slot, family, bytes of data, damage. */
static void run_datagram(const int *a)
{
    static unsigned char b[ROOM];
    int slot = slot_of(a[0]), family = family_of(a[1]);
    const char *damage = name_at(T_UDP_DAMAGE, a[3]);
    size_t len = (size_t)(a[2] < 0 ? 0 : a[2] % 1400), n = 8 + len;
    for (size_t i = 0; i < len; i++)
        b[8 + i] = (unsigned char)(i * 11 + 1);
    put16(b, strcmp(damage, "port 0 from") == 0                ? 0
             : strcmp(damage, "another port of the peer") == 0 ? 6001
                                                               : peer_port(slot));
    put16(b + 2, strcmp(damage, "port 0 to") == 0 ? 0 : strcmp(damage, "closed port") == 0 ? 6000 : host_port(slot));
    put16(b + 4, (unsigned)n);
    if (strcmp(damage, "length 0") == 0)
        put16(b + 4, 0);
    if (strcmp(damage, "length 7") == 0)
        put16(b + 4, 7);
    if (strcmp(damage, "length shorter") == 0)
        put16(b + 4, (unsigned)(8 + len / 2));
    if (strcmp(damage, "length longer") == 0)
        put16(b + 4, (unsigned)n + 1);
    if (strcmp(damage, "cut header") == 0)
        n = 7;
    fill_checksum(family, IPPROTO_UDP, b, n, 6, strcmp(damage, "checksum") == 0);
    if (strcmp(damage, "checksum 0") == 0)
        put16(b + 6, 0);
    send_and_collect(family, IPPROTO_UDP, b, n);
    answers("datagram");
}

/* A datagram of another protocol. */
static void run_other(const int *a)
{
    unsigned char b[1400];
    size_t n = (size_t)(a[2] < 0 ? 0 : a[2] % 1300);
    for (size_t i = 0; i < n; i++)
        b[i] = (unsigned char)(i * 5);
    send_and_collect(family_of(a[0]), a[1] & 255, b, n);
    answers("other");
}

static void run_send(const int *a)
{
    static unsigned char b[ROOM];
    const struct end *e = &ends[slot_of(a[0])];
    int len = a[1] < 0 ? 0 : a[1] % 4000;
    for (int i = 0; i < len; i++)
        b[i] = (unsigned char)(i * 13);
    if (e->protocol == 1 && len >= 8) {
        memset(b, 0, 8);
        b[0] = e->family == 6 ? 128 : 8;
        b[7] = 1;
    }
    long r = SYS(send)(e->fd, b, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;
    collect();
    result("send", r, error);
    show_answers();
}

static void show_bytes(const unsigned char *b, long n)
{
    uint32_t h = 2166136261u;
    for (long i = 0; i < n; i++)
        h = (h ^ b[i]) * 16777619u;
    printf(" data=%08x", h);
}

static void run_recv(const int *a)
{
    static unsigned char b[ROOM];
    const struct end *e = &ends[slot_of(a[0])];
    long r = SYS(recv)(e->fd, b, (size_t)(a[1] < 0 ? 0 : a[1] % 20000), MSG_DONTWAIT);
    int error = errno;
    collect();
    result("recv", r, error);
    if (r > 0)
        show_bytes(b, r);
    show_answers();
}

static void run_shutdown(const int *a)
{
    long r = SYS(shutdown)(ends[slot_of(a[0])].fd, (int)((unsigned)a[1] % 3));
    int error = errno;
    collect();
    result("shutdown", r, error);
    show_answers();
}

static void run_close(const int *a)
{
    struct end *e = &ends[slot_of(a[0])];
    long r = SYS(close)(e->fd);
    int error = errno;
    e->fd = -1;
    collect();
    result("close", r, error);
    show_answers();
}

static void run_accept(const int *a)
{
    struct end *e = &ends[slot_of(a[0])];
    int fd = SYS(accept4)(e->listener, NULL, NULL, SOCK_NONBLOCK), error = errno;
    if (fd >= 0) {
        if (e->fd >= 0)
            SYS(close)(e->fd);
        e->fd = fd;
    }
    collect();
    result("accept", fd < 0 ? -1 : 0, error);
    show_answers();
}

/* What the program sees of the end. */
static void run_see(const int *a)
{
    const struct end *e = &ends[slot_of(a[0])];
    struct tcp_info info;
    socklen_t len = sizeof info;
    int error = 0, readable = -1;
    memset(&info, 0, sizeof info);
    if (e->fd < 0) {
        printf("see => r=0 none=1");
        return;
    }
    struct pollfd p = {.fd = e->fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
    SYS(poll)(&p, 1, 0);
    result("see", 0, 0);
    if (e->protocol == IPPROTO_TCP) {
        SYS(getsockopt)(e->fd, SOL_TCP, TCP_INFO, &info, &len);
        printf(" state=%u options=%x sndmss=%u unacked=%u sacked=%u", info.tcpi_state, info.tcpi_options,
               info.tcpi_snd_mss, info.tcpi_unacked, info.tcpi_sacked);
    }
    printf(" revents=%x", (unsigned)p.revents);
    SYS(ioctl)(e->fd, FIONREAD, &readable);
    len = sizeof error;
    SYS(getsockopt)(e->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    printf(" readable=%d error=%s", readable, error ? strerrorname_np(error) : "0");
}

static void run_counter(const int *a)
{
    const char *name = name_at(T_COUNTER, a[0]);
    printf("counter => r=%lld", net_counter(name));
}

#define T(table) A_TABLE + table
static const struct op_row rows[OP_COUNT] = {
    [OP_END] = {"end", {A_SLOT, A_FAMILY, A_STATE, A_INT, T(T_SYN_OPTIONS)}, run_end},
    [OP_UDP] = {"udp", {A_SLOT, A_FAMILY, T(T_UDP_END)}, run_udp},
    [OP_PING] = {"ping", {A_SLOT, A_FAMILY}, run_ping},
    [OP_NEXT] = {"next",
                 {T(T_SOURCE), T(T_DESTINATION), A_INT, T(T_FRAGMENTS), T(T_IP_DAMAGE), A_INT, A_INT},
                 run_next},
    [OP_SEGMENT] = {"segment",
                    {A_SLOT, A_BITS, A_SEQ, A_INT, A_ACK, A_INT, A_INT, A_INT, T(T_TCP_OPTIONS), T(T_TCP_DAMAGE)},
                    run_segment},
    [OP_ERROR] = {"error", {A_SLOT, A_INT, A_INT, A_INT, T(T_QUOTE), A_INT, A_INT}, run_error},
    [OP_QUERY] = {"query", {A_SLOT, A_FAMILY, A_INT, A_INT, A_INT, A_INT}, run_query},
    [OP_DATAGRAM] = {"datagram", {A_SLOT, A_FAMILY, A_INT, T(T_UDP_DAMAGE)}, run_datagram},
    [OP_OTHER] = {"other", {A_FAMILY, A_INT, A_INT}, run_other},
    [OP_SEND] = {"send", {A_SLOT, A_INT}, run_send},
    [OP_RECV] = {"recv", {A_SLOT, A_INT}, run_recv},
    [OP_SHUTDOWN] = {"shutdown", {A_SLOT, A_INT}, run_shutdown},
    [OP_CLOSE] = {"close", {A_SLOT}, run_close},
    [OP_ACCEPT] = {"accept", {A_SLOT}, run_accept},
    [OP_SEE] = {"see", {A_SLOT}, run_see},
    [OP_COUNTER] = {"counter", {T(T_COUNTER)}, run_counter},
};
const int op_count = OP_COUNT;

/* The chain of extensions and options is one number, of either table: both names are shown. */
static void print_chain(int v)
{
    printf("\"%s / %s\"", name_at(T_CHAIN4, v), name_at(T_CHAIN6, v));
}

void print_call(const struct op *op)
{
    const struct op_row *row = &rows[op->call];
    printf("call_%s(", row->name);
    for (int i = 0; i < MAX_ARGS && row->args[i] != A_NONE; i++) {
        printf("%s", i ? ", " : "");
        if (op->call == OP_NEXT && i == 2)
            print_chain(op->a[i]);
        else
            print_arg(row->args[i], op->a[i]);
    }
    printf(");");
}

void run_op(const struct op *op)
{
    begin_answers();
    rows[op->call].run(op->a);
    printf("\n");
}

bool settles(const struct op *op)
{
    return op->call != OP_COUNTER && op->call != OP_NEXT;
}

void begin_side(void)
{
}

void begin_sequence(void)
{
    memset(ends, 0, sizeof ends);
    for (int i = 0; i < SLOTS; i++)
        ends[i] = (struct end){.fd = -1, .listener = -1, .family = 4, .host_shift = -1};
    next_form = (struct ip_form){.ttl = 64};
    new_network();
    begin_answers();
    collect();
}

void end_sequence(void)
{
    for (int i = 0; i < SLOTS; i++) {
        if (ends[i].fd >= 0)
            SYS(close)(ends[i].fd);
        if (ends[i].listener >= 0)
            SYS(close)(ends[i].listener);
    }
    end_network();
}

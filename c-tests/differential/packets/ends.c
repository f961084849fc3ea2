/* The host's sockets and their peer: TCP ends in each state, with what the peer has sent and seen. */
#include "packets.h"
#include "../sys.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct end ends[SLOTS];

uint16_t host_port(int slot)
{
    return (uint16_t)(4000 + slot);
}

uint16_t peer_port(int slot)
{
    return (uint16_t)(5000 + slot);
}

static struct sockaddr_storage name_of(int family, bool host, uint16_t port, socklen_t *len)
{
    struct sockaddr_storage s;
    struct sockaddr_in *in = (struct sockaddr_in *)&s;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&s;
    memset(&s, 0, sizeof s);
    if (family == 6) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        address(6, host, (unsigned char *)&in6->sin6_addr);
        *len = sizeof *in6;
    } else {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        address(4, host, (unsigned char *)&in->sin_addr);
        *len = sizeof *in;
    }
    return s;
}

static void must(const char *what, int r)
{
    if (r == -1 && errno != EINPROGRESS)
        give_up(what);
}

static int bound(int slot, int family, int type, int protocol)
{
    socklen_t len;
    struct sockaddr_storage s = name_of(family, true, host_port(slot), &len);
    int fd = SYS(socket)(family == 6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK, protocol), one = 1;
    must("socket", fd);
    must("SO_REUSEADDR", SYS(setsockopt)(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    must("bind", SYS(bind)(fd, (struct sockaddr *)&s, len));
    return fd;
}

static int connect_to_peer(int fd, int slot, int family)
{
    socklen_t len;
    struct sockaddr_storage s = name_of(family, false, peer_port(slot), &len);
    return SYS(connect)(fd, (struct sockaddr *)&s, len);
}

static struct end *new_end(int slot, int family, int protocol)
{
    struct end *e = &ends[slot];
    if (e->fd >= 0)
        SYS(close)(e->fd);
    if (e->listener >= 0)
        SYS(close)(e->listener);
    collect();
    *e = (struct end){.fd = -1, .listener = -1, .family = family, .protocol = protocol, .host_shift = -1};
    /* One slot's numbers wrap soon. */
    e->iss = slot == 1 ? 0xffffff00u : 1000000u * (uint32_t)(slot + 1);
    e->nxt = e->iss;
    e->tsval = 5000;
    return e;
}

uint32_t seq_of(const struct end *e, int base, int delta)
{
    const uint32_t at[] = {e->nxt, e->host_ack, e->host_ack + e->host_window, e->iss, e->nxt + 0x80000000u, 0};
    return at[base % seq_base_count] + (uint32_t)delta;
}

uint32_t ack_of(const struct end *e, int base, int delta)
{
    const uint32_t at[] = {e->host_nxt, e->una, e->host_iss, e->host_nxt + 0x80000000u, 0};
    return at[base % ack_base_count] + (uint32_t)delta;
}

/* Options from words: bytes in hexadecimal, or a number of the connection: "val", "ecr", "una", "nxt", "hostnxt", each
 * with an addition ("val-1000"). */
size_t tcp_options(const struct end *e, const char *text, unsigned char *out)
{
    size_t n = 0;
    char copy[256], *save = NULL;
    if (strcmp(text, "usual") == 0)
        text = e->timestamps ? "0101080a val ecr" : "";
    snprintf(copy, sizeof copy, "%s", text);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        const struct {
            const char *name;
            uint32_t value;
        } words[] = {{"val", e->tsval},  {"ecr", e->host_tsval},      {"una", e->una},
                     {"nxt", e->nxt},    {"hostnxt", e->host_nxt},    {"ack", e->host_ack}};
        int found = -1;
        for (int i = 0; i < COUNT(words); i++)
            if (strncmp(w, words[i].name, strlen(words[i].name)) == 0)
                found = i;
        if (found < 0) {
            n += hex_bytes(w, out + n);
            continue;
        }
        put32(out + n, words[found].value + (uint32_t)atoi(w + strlen(words[found].name)));
        n += 4;
    }
    while (n % 4)
        out[n++] = 0;
    return n;
}

/* Lets a timer that is due at once go off, in ticks of 4 ms. A FIN that comes before any data is acknowledged by one of
 * the next tick; an unacceptable ACK makes the SYN go out again after two. */
static void settle(void)
{
    usleep(16000);
    collect();
}

void send_segment(const struct end *e, int slot, int flags, uint32_t seq, uint32_t ack, int len, int window,
                  const char *options, int damage_place)
{
    static unsigned char b[ROOM];
    const char *damage = name_at(T_TCP_DAMAGE, damage_place);
    memset(b, 0, 60);
    put16(b, peer_port(slot));
    put16(b + 2, host_port(slot));
    put32(b + 4, seq);
    put32(b + 8, ack);
    size_t head = 20 + tcp_options(e, options, b + 20);
    if (head > 60)
        head = 60;
    b[12] = (unsigned char)(head / 4 << 4 | (flags & AE ? 1 : 0));
    b[13] = (unsigned char)flags;
    put16(b + 14, (unsigned)window);
    if (flags & URG)
        put16(b + 18, (unsigned)(len ? len : 1));
    for (int i = 0; i < len; i++)
        b[head + (size_t)i] = (unsigned char)((seq - e->iss + (uint32_t)i) * 167 >> 3);
    size_t n = head + (size_t)len;
    if (strcmp(damage, "offset 4") == 0)
        b[12] = 0x40;
    if (strcmp(damage, "offset beyond") == 0)
        b[12] = 0xf0, n = head < 60 ? head : n;
    if (strcmp(damage, "reserved bits") == 0)
        b[12] |= 0x0e;
    if (strcmp(damage, "another port of the host") == 0)
        put16(b + 2, 6000);
    if (strcmp(damage, "another port of the peer") == 0)
        put16(b, 6001);
    if (strcmp(damage, "port 0") == 0)
        put16(b, 0);
    if (strcmp(damage, "cut header") == 0)
        n = 19;
    if (strcmp(damage, "urgent pointer 0") == 0)
        put16(b + 18, 0);
    if (strcmp(damage, "urgent pointer beyond") == 0)
        put16(b + 18, 3000);
    fill_checksum(e->family, IPPROTO_TCP, b, n, 16, strcmp(damage, "checksum") == 0);
    if (strcmp(damage, "checksum 0") == 0 && n >= 18)
        put16(b + 16, 0);
    send_and_collect(e->family, IPPROTO_TCP, b, n);
    if (flags & FIN || (e->syn_sent && flags & ACK))
        settle();
}

int follow(const unsigned char *tcp, size_t n, int family)
{
    int slot = (int)get16(tcp) - 4000;
    if (n < 20 || slot < 0 || slot >= SLOTS || get16(tcp + 2) != peer_port(slot) || ends[slot].family != family)
        return -1;
    struct end *e = &ends[slot];
    size_t head = (size_t)(tcp[12] >> 4) * 4;
    int flags = tcp[13];
    uint32_t seq = get32(tcp + 4), len = (uint32_t)(n - head) + !!(flags & SYN) + !!(flags & FIN);
    if (flags & RST)
        return slot;
    if (flags & SYN) {
        e->host_iss = seq;
        e->host_nxt = seq;
        e->una = seq;
        e->host_shift = -1;
        if (!(flags & ACK))
            e->host_ack = e->iss;
    }
    for (size_t i = 20; i + 1 < head && tcp[i] != 0;) {
        size_t size = tcp[i] == 1 ? 1 : tcp[i + 1];
        if (size == 0)
            break;
        if (tcp[i] == 3 && size == 3)
            e->host_shift = tcp[i + 2];
        if (tcp[i] == 8 && size == 10)
            e->host_tsval = get32(tcp + i + 2);
        i += size;
    }
    if ((int32_t)(seq + len - e->host_nxt) > 0)
        e->host_nxt = seq + len;
    if (flags & ACK)
        e->host_ack = get32(tcp + 8);
    bool scaled = !(flags & SYN) && e->scaling && e->host_shift > 0;
    e->host_window = (uint32_t)get16(tcp + 14) << (scaled ? e->host_shift : 0);
    return slot;
}

void collect(void)
{
    static unsigned char b[ROOM];
    for (size_t n; (n = net_out(b, sizeof b)) > 0;) {
        int slot = -1;
        if (n >= 40 && b[0] >> 4 == 4 && b[9] == IPPROTO_TCP)
            slot = follow(b + (b[0] & 15) * 4, n - (b[0] & 15) * 4u, 4);
        else if (n >= 60 && b[0] >> 4 == 6 && b[6] == IPPROTO_TCP)
            slot = follow(b + 40, n - 40, 6);
        keep_answer(b, n, slot);
    }
}

void send_and_collect(int family, int protocol, unsigned char *payload, size_t n)
{
    send_ip(family, protocol, payload, n);
    collect();
}

/* A segment as a decent peer sends it next. */
static void next_segment(struct end *e, int slot, int flags, const char *options)
{
    send_segment(e, slot, flags, e->nxt, flags & ACK ? e->host_nxt : 0, 0, 65535, options, 0);
    e->nxt += !!(flags & SYN) + !!(flags & FIN);
    if (flags & ACK)
        e->una = e->host_nxt;
    e->tsval++;
}

static void half_close(struct end *e, bool by_close)
{
    if (by_close) {
        SYS(close)(e->fd);
        e->fd = -1;
    } else {
        SYS(shutdown)(e->fd, SHUT_WR);
    }
    collect();
}

/* What the peer's SYN offers. */
static void offer(struct end *e, const char *syn)
{
    e->timestamps = strstr(syn, "080a") != NULL;
    e->scaling = strstr(syn, "0303") != NULL;
}

static void establish(struct end *e, int slot, bool active, const char *syn)
{
    offer(e, syn);
    if (active) {
        e->fd = bound(slot, e->family, SOCK_STREAM, 0);
        must("connect", connect_to_peer(e->fd, slot, e->family));
        collect();
        next_segment(e, slot, SYN | ACK, syn);
    } else {
        next_segment(e, slot, SYN, syn);
        next_segment(e, slot, ACK, "usual");
        e->fd = SYS(accept4)(e->listener, NULL, NULL, SOCK_NONBLOCK);
    }
}

/* States behind ESTABLISHED, by the way that leads there. */
static void leave(struct end *e, int slot, int state, bool by_close)
{
    if (state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK)
        next_segment(e, slot, FIN | ACK, "usual");
    if (state == TCP_CLOSE_WAIT)
        return;
    half_close(e, by_close);
    if (state == TCP_FIN_WAIT1 || state == TCP_LAST_ACK)
        return;
    if (state == TCP_CLOSING) {
        /* Its FIN does not acknowledge the host's. */
        send_segment(e, slot, FIN | ACK, e->nxt, e->una, 0, 65535, "usual", 0);
        e->nxt++;
        return;
    }
    next_segment(e, slot, ACK, "usual");
    if (state == TCP_TIME_WAIT)
        next_segment(e, slot, FIN | ACK, "usual");
}

void open_end(int slot, int family, int state, bool active, int syn_options)
{
    struct end *e = new_end(slot, family, IPPROTO_TCP);
    const char *syn = tables[T_SYN_OPTIONS][syn_options % table_counts[T_SYN_OPTIONS]].bytes;
    bool by_close = state & BY_CLOSE;
    state &= ~BY_CLOSE;
    next_form = (struct ip_form){.ttl = 64};
    if (state == TCP_CLOSE)
        return;
    if (state == TCP_SYN_SENT) {
        e->syn_sent = true;
        e->fd = bound(slot, family, SOCK_STREAM, 0);
        must("connect", connect_to_peer(e->fd, slot, family));
        offer(e, syn);
        return collect();
    }
    if (!active || state == TCP_LISTEN || state == TCP_SYN_RECV) {
        e->listener = bound(slot, family, SOCK_STREAM, 0);
        must("listen", SYS(listen)(e->listener, 5));
    }
    if (state == TCP_LISTEN)
        return;
    if (state == TCP_SYN_RECV) {
        offer(e, syn);
        return next_segment(e, slot, SYN, syn);
    }
    establish(e, slot, active, syn);
    if (e->fd >= 0 && state != TCP_ESTABLISHED)
        leave(e, slot, state, by_close);
}

void open_udp(int slot, int family, int how)
{
    struct end *e = new_end(slot, family, IPPROTO_UDP);
    const char *form = name_at(T_UDP_END, how);
    int one = 1;
    e->fd = bound(slot, family, SOCK_DGRAM, 0);
    if (strstr(form, "connected"))
        must("connect", connect_to_peer(e->fd, slot, family));
    if (strstr(form, "RECVERR"))
        SYS(setsockopt)(e->fd, family == 6 ? SOL_IPV6 : SOL_IP, family == 6 ? IPV6_RECVERR : IP_RECVERR, &one,
                        sizeof one);
}

void open_ping(int slot, int family)
{
    struct end *e = new_end(slot, family, 1);
    e->fd = bound(slot, family, SOCK_DGRAM, family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

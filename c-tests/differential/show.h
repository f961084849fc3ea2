/* What the calls gave, as text that is the same on both sides: ports, identifiers and times that a stack chooses are
 * named by their first appearance. A printed program contains this file. Below: values.h. */
#ifndef DIFFERENTIAL_SHOW_H
#define DIFFERENTIAL_SHOW_H
#include "values.h"

static int chosen[64] UNUSED, chosen_count UNUSED;
static volatile sig_atomic_t sigpipes UNUSED;

/* A port of the sequence's own names is shown as it is. */
static UNUSED const char *show_port(unsigned port)
{
    static char text[16];
    if (port <= 1 || (port >= 4001 && port <= 4003)) {
        snprintf(text, sizeof text, "%u", port);
        return text;
    }
    int i = 0;
    while (i < chosen_count && chosen[i] != (int)port)
        i++;
    if (i == chosen_count && i < COUNT(chosen))
        chosen[chosen_count++] = (int)port;
    snprintf(text, sizeof text, "p%d", i);
    return text;
}

static UNUSED void show_hex(const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%02x", b[i]);
}

/* A name of `len` bytes where `room` were offered. */
static UNUSED void show_name(const char *key, const unsigned char *b, socklen_t len, size_t room)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    char text[INET6_ADDRSTRLEN];
    size_t n = len < room ? len : room;
    printf(" %slen=%u %s=", key, len, key);
    memcpy(&in, b, sizeof in);
    memcpy(&in6, b, sizeof in6);
    if (n >= sizeof in && in.sin_family == AF_INET) {
        printf("%s:%s", inet_ntop(AF_INET, &in.sin_addr, text, sizeof text), show_port(ntohs(in.sin_port)));
    } else if (n >= sizeof in6 && in6.sin6_family == AF_INET6) {
        printf("[%s]:%s", inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text), show_port(ntohs(in6.sin6_port)));
        if (in6.sin6_scope_id || in6.sin6_flowinfo)
            printf(",scope:%u,flow:%x", in6.sin6_scope_id, ntohl(in6.sin6_flowinfo));
    } else {
        /* Cut: the port may be a chosen one. */
        show_hex(b, n < 2 ? n : 2);
        if (n > 4) {
            printf("-");
            show_hex(b + 4, n - 4);
        }
    }
}

/* Result and errno; the first of a line's fields. */
static UNUSED long show_result(const char *call, long r, int error)
{
    printf("%s => r=%ld", call, r);
    if (r == -1) {
        const char *name = strerrorname_np(error);
        printf(" errno=%s", name ? name : "?");
    }
    if (sigpipes)
        printf(" sigpipe=%d", (int)sigpipes);
    sigpipes = 0;
    return r;
}

static UNUSED void show_end(void)
{
    printf("\n");
}

/* Blanks what a stack chooses. Of an ICMP error all behind the type: it quotes such a header. */
static UNUSED void hide(unsigned char *b, long n, int what)
{
    long header = what & HIDES_IP ? 20 : 0;
    bool error = n > header && (header ? b[header] != 0 && b[header] != 8 : b[0] >= 1 && b[0] <= 4);
    for (long i = 0; i < n; i++)
        if (i < header)
            b[i] = i == 4 || i == 5 || i == 10 || i == 11 ? 0 : b[i];
        else if (what & HIDES_ICMP && i - header > 1 && (i - header < 6 || error))
            b[i] = 0;
}

/* Received bytes: the first of them and a hash (FNV-1a) of all. */
static UNUSED void show_data(unsigned char *b, long n, int hidden)
{
    uint32_t hash = 2166136261u;
    if (n <= 0)
        return;
    hide(b, n, hidden);
    for (long i = 0; i < n; i++)
        hash = (hash ^ b[i]) * 16777619u;
    printf(" data=");
    show_hex(b, n < 8 ? (size_t)n : 8);
    printf(":%08x", hash);
}

static UNUSED void show_error_cmsg(const unsigned char *b, size_t n)
{
    struct sock_extended_err e;
    memcpy(&e, b, sizeof e);
    printf("%s,%u,%u,%u,%u,%u", strerrorname_np((int)e.ee_errno), e.ee_origin, e.ee_type, e.ee_code, e.ee_info,
           e.ee_data);
    if (n > sizeof e)
        show_name(",offender", b + sizeof e, (socklen_t)(n - sizeof e), n - sizeof e);
}

/* A sum, folded: its upper and lower half depend on the identifier of an echo, which is random. */
static UNUSED void show_sum(const unsigned char *b)
{
    unsigned sum;
    memcpy(&sum, b, sizeof sum);
    sum = (sum & 0xffff) + (sum >> 16);
    printf("%04x", (sum & 0xffff) + (sum >> 16));
}

static UNUSED void show_control(struct msghdr *m)
{
    int i = 0;
    printf(" ctllen=%zu", (size_t)m->msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c && i < 16; c = CMSG_NXTHDR(m, c), i++) {
        unsigned char *b = CMSG_DATA(c);
        size_t n = c->cmsg_len - CMSG_LEN(0), left = (size_t)((unsigned char *)m->msg_control + m->msg_controllen - b);
        bool cut = n > left;
        n = cut ? left : n;
        printf(" cmsg%d=%d/%d/%zu:", i, c->cmsg_level, c->cmsg_type, (size_t)c->cmsg_len);
        bool time = c->cmsg_level == SOL_SOCKET &&
                    (c->cmsg_type == SO_TIMESTAMP || c->cmsg_type == SO_TIMESTAMPNS || c->cmsg_type == SO_TIMESTAMPING);
        bool error = (c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
                     (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR);
        bool name = (c->cmsg_level == SOL_IP && c->cmsg_type == IP_ORIGDSTADDR) ||
                    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR);
        if (time)
            printf("time");
        else if (error && n >= sizeof(struct sock_extended_err))
            show_error_cmsg(b, n);
        else if (name)
            show_name("origdst", b, (socklen_t)n, n);
        else if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_CHECKSUM && n == sizeof(unsigned))
            show_sum(b);
        else
            show_hex(b, n);
    }
}

static UNUSED void show_flags(const char *key, unsigned flags)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{MSG_OOB, "OOB"},           {MSG_PEEK, "PEEK"},        {MSG_DONTROUTE, "DONTROUTE"},
                 {MSG_CTRUNC, "CTRUNC"},     {MSG_TRUNC, "TRUNC"},      {MSG_DONTWAIT, "DONTWAIT"},
                 {MSG_EOR, "EOR"},           {MSG_WAITALL, "WAITALL"},  {MSG_ERRQUEUE, "ERRQUEUE"}};
    printf(" %s=0", key);
    for (int i = 0; i < COUNT(names); i++)
        if (flags & names[i].bit) {
            printf("|%s", names[i].name);
            flags &= ~names[i].bit;
        }
    if (flags)
        printf("|%x", flags);
}

static UNUSED void show_events(int revents)
{
    static const struct {
        short bit;
        const char *name;
    } names[] = {{POLLIN, "IN"},   {POLLPRI, "PRI"},       {POLLOUT, "OUT"},       {POLLERR, "ERR"},
                 {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"},     {POLLRDNORM, "RDNORM"}, {POLLRDBAND, "RDBAND"},
                 {POLLMSG, "MSG"}, {POLLWRNORM, "WRNORM"}, {POLLWRBAND, "WRBAND"}, {POLLRDHUP, "RDHUP"}};
    printf("0");
    for (int i = 0; i < COUNT(names); i++)
        if (revents & names[i].bit) {
            printf("|%s", names[i].name);
            revents &= ~names[i].bit;
        }
    if (revents)
        printf("|%x", (unsigned)revents);
}

static int by_data(const void *a, const void *b)
{
    const struct epoll_event *x = a, *y = b;
    return (x->data.u64 > y->data.u64) - (x->data.u64 < y->data.u64);
}

/* Events of epoll_wait, by the number that each was given. Which ones come where there is room for some is the kernel's
 * affair. */
static UNUSED void show_ready(struct epoll_event *events, int n, int room)
{
    if (n >= room)
        return;
    qsort(events, (size_t)n, sizeof *events, by_data);
    for (int i = 0; i < n; i++) {
        printf(" e%llu=", (unsigned long long)events[i].data.u64);
        show_events((int)events[i].events);
    }
}
#endif

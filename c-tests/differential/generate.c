/* Makes a sequence from a seed. What it knows of a socket is what the calls so far were meant to do (`model`): no
 * result is looked at, so both sides run the same calls. Most arguments are ordinary, since one odd argument in a
 * working conversation says more than ten in a broken one. */
#include "generate.h"

/* splitmix64. */
static uint64_t draw(struct gen *g)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int below(struct gen *g, int n)
{
    return (int)(draw(g) % (uint64_t)n);
}

bool chance(struct gen *g, int percent)
{
    return below(g, 100) < percent;
}

/* Whether a TCP socket of IPv6 that connected over IPv4 connects over IPv6: the kernel never gets an answer ("Faults of
 * the kernel"), and all that follows differs. */
static bool is_family_fault(struct gen *g, const struct op *op)
{
    int slot = op->a[0];
    if (op->call != C_CONNECT || slot < 0 || slot >= SLOTS || g->slot[slot].proto != P_TCP)
        return false;
    struct model *m = &g->slot[slot];
    const char *name = names[op->a[1]];
    /* Another socket's name may be either. */
    bool other = strncmp(name, "own", 3) == 0 || strncmp(name, "peer", 4) == 0;
    bool v4 = other ? g->family != AF_INET6 : strstr(name, "ffff:") || !strchr(name, '[');
    bool fault = m->domain == AF_INET6 && m->over_v4 && (other || !v4);
    m->over_v4 |= v4;
    return fault;
}

/* Whether connect may fail after it has written the destination into the socket's flow record: there is no route, or it
 * is a broadcast. */
static bool may_fail(const char *name)
{
    static const char *const parts[] = {"255.255", "192.0.2", "240.0", "224.0", "239.1", "0.0.0.1:", "127.0.0.0:"};
    for (int i = 0; i < COUNT(parts); i++)
        if (strstr(name, parts[i]))
            return true;
    return false;
}

/* Whether a call is left out, and without MSG_MORE what would make a connected socket of UDP cork a datagram for
 * somebody else, or a corked one connect, or a connected one fail to: the kernel sends to the wrong port or address
 * ("Faults of the kernel"), and all that follows differs. */
static bool is_cork_fault(struct gen *g, struct op *op)
{
    int slot = op->a[0], at = op->call == C_SENDMSG || op->call == C_SENDMMSG ? 4 : 3;
    if (slot < 0 || slot >= SLOTS || g->slot[slot].proto != P_UDP)
        return false;
    struct model *m = &g->slot[slot];
    switch (op->call) {
    case C_CONNECT:
        if (m->connected && may_fail(names[op->a[1]]))
            return true;
        m->connected = true;
        return m->corked;
    case C_SENDTO:
    case C_SENDMMSG:
    case C_SENDMSG:
        if (m->connected)
            op->a[at] &= ~MSG_MORE;
        /* fall through */
    case C_SEND:
        m->corked |= (op->a[at] & MSG_MORE) != 0;
        return false;
    case C_SETSOCKOPT:
        if (op->a[1] != option_place(SOL_UDP, UDP_CORK))
            return false;
        m->corked = true;
        return m->connected;
    default:
        return false;
    }
}

/* Whether a TCP socket's connect begins an attempt: not with a name of the other family, of a length that is none, of a
 * socket that is not there, or to where there is no route. */
static bool begins_attempt(const struct gen *g, const struct op *op, const struct model *m)
{
    const char *name = names[op->a[1]];
    int other;
    if (sscanf(name, "own %d", &other) == 1)
        return g->slot[other].proto != P_NONE && g->slot[other].domain == m->domain;
    if (sscanf(name, "peer %d", &other) == 1)
        return g->slot[other].connected;
    return op->a[2] == 0 && strchr(name, ':') && strncmp(name, "unspec", 6) != 0 &&
           (strchr(name, '[') != NULL) == (m->domain == AF_INET6) && !may_fail(name);
}

/* What a server's programs have otherwise by docs/server.md, and much of what follows with it, is left out: shutdown of
 * what was never connected, and of reading alone; most of the time options that it refuses, MSG_MORE, more bytes at
 * once than leave one unread, edges of room. poll is asked for what TCP knows: AF_UNIX says POLLWRBAND of all that can
 * be written; select is the kernel's as poll is. */
static bool is_known_of_servers(struct gen *g, struct op *op)
{
    static const int refused[][2] = {{SOL_SOCKET, SO_TIMESTAMP},    {SOL_SOCKET, SO_TIMESTAMPNS},
                                     {SOL_SOCKET, SO_TIMESTAMPING}, {SOL_SOCKET, SO_ZEROCOPY},
                                     {SOL_TCP, TCP_INQ},            {SOL_IPV6, IPV6_ADDRFORM}};
    int slot = op->a[0];
    bool seldom = chance(g, 3);
    struct model none = {.proto = P_NONE}, *m = slot >= 0 && slot < SLOTS ? &g->slot[slot] : &none;
    bool tcp = m->proto == P_TCP;
    switch (op->call) {
    case C_CONNECT:
        m->connected |= tcp && begins_attempt(g, op, m);
        return false;
    case C_SEND:
    case C_SENDTO:
    case C_WRITE:
    case C_WRITEV:
    case C_SENDMSG:
    case C_SENDMMSG:
        if (tcp && !seldom) {
            op->a[2] = op->a[2] > 8000 ? 8000 : op->a[2];
            if (op->call != C_WRITE && op->call != C_WRITEV)
                op->a[op->call == C_SENDMSG || op->call == C_SENDMMSG ? 4 : 3] &= ~MSG_MORE;
        }
        return false;
    case C_SHUTDOWN:
        return tcp && (op->a[1] == SHUT_RD || !(m->connected || m->listening));
    case C_POLL:
        op->a[0] = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
        return false;
    case C_SELECT:
        return true;
    case C_SPLICE:
        op->a[5] &= ~SPLICE_F_MORE;
        return false;
    case C_EPOLL_CTL:
        op->a[3] &= ~(POLLWRBAND | POLLRDBAND);
        if (op->a[3] & (int)EPOLLET && !seldom)
            op->a[3] &= ~(EPOLLOUT | EPOLLWRNORM);
        return false;
    case C_SETSOCKOPT:
        for (int i = 0; i < COUNT(refused); i++)
            if (op->a[1] == option_place(refused[i][0], refused[i][1]))
                return !seldom;
        return false;
    default:
        return false;
    }
}

void emit(struct gen *g, enum call call, const int *a, int n)
{
    if (g->out->count == MAX_OPS)
        return;
    struct op *op = &g->out->ops[g->out->count];
    memset(op, 0, sizeof *op);
    op->call = call;
    memcpy(op->a, a, (size_t)n * sizeof *a);
    g->out->count += !is_cork_fault(g, op) && !is_family_fault(g, op) && !(mostly_tcp && is_known_of_servers(g, op));
}

/* A slot whose socket exists, most of the time. */
int any_slot(struct gen *g)
{
    if (chance(g, 1))
        return ONE_OF(g, -1, -2, 5, 6);
    for (int i = 0; i < 20; i++) {
        int s = below(g, SLOTS);
        if (g->slot[s].proto)
            return s;
    }
    return 0;
}

int free_slot(struct gen *g)
{
    for (int s = 0; s < SLOTS; s++)
        if (!g->slot[s].proto)
            return s;
    return below(g, SLOTS);
}

const struct model *model_of(struct gen *g, int slot)
{
    static const struct model none;
    return slot >= 0 ? &g->slot[slot] : &none;
}

/* Index of the first odd and first hostile name. */
static int odd_names(void)
{
    return name_place("127.0.0.2:4001");
}

static int hostile_names(void)
{
    return name_place("unspec");
}

/* A name to bind or to send to, for a socket of this family. */
static int a_name(struct gen *g, int slot)
{
    int domain = model_of(g, slot)->domain;
    if (chance(g, 3))
        return hostile_names() + below(g, name_count - hostile_names());
    if (chance(g, 18))
        return odd_names() + below(g, hostile_names() - odd_names());
    if (chance(g, 3))
        return below(g, name_count);
    if (domain == AF_INET6 && g->family == 0 && chance(g, 40))
        return name_place("[::ffff:127.0.0.1]:4001") + below(g, 3);
    if (domain == AF_INET6)
        return name_place("[::1]:4001") + below(g, 4);
    return below(g, 4);
}

static int to_bind(struct gen *g, int slot)
{
    bool six = model_of(g, slot)->domain == AF_INET6;
    if (six && g->family == 0 && chance(g, 60))
        return name_place("[::]:4001") + below(g, 3);
    if (chance(g, 15))
        return six ? name_place("[::]:4001") + below(g, 3) : name_place("0.0.0.0:4001") + below(g, 3);
    return a_name(g, slot);
}

static int to_send(struct gen *g, int slot)
{
    return chance(g, 35) ? name_place("own 0") + below(g, 4) : a_name(g, slot);
}

static int a_len(struct gen *g)
{
    return chance(g, 4) ? below(g, len_count) : 0;
}

static int form_place(const char *text)
{
    for (int i = 0; i < form_count; i++)
        if (strcmp(forms[i], text) == 0)
            return i;
    return 0;
}

/* What a raw socket sends: a message of its protocol, or a packet with its header. */
static int raw_form(struct gen *g, const struct model *m)
{
    if (m->protocol == IPPROTO_RAW || chance(g, 15))
        return form_place("ip 200") + (chance(g, 75) ? 0 : below(g, 4));
    if (m->protocol == IPPROTO_ICMP || m->protocol == IPPROTO_ICMPV6)
        return chance(g, 85) ? 3 + below(g, 4) : 0;
    return 0;
}

static int a_form(struct gen *g, int slot)
{
    const struct model *m = model_of(g, slot);
    if (chance(g, 2))
        return 1 + below(g, 2);
    if (m->proto == P_RAW)
        return raw_form(g, m);
    if (m->proto == P_PING && !chance(g, 8))
        return m->domain == AF_INET6 ? 4 : 3;
    return chance(g, 2) ? 3 + below(g, 4) : 0;
}

static int some_bytes(struct gen *g)
{
    if (chance(g, 70))
        return 8 + below(g, 100);
    return ONE_OF(g, 0, 1, 2, 7, 8, 9, 1000, 1400, 1472, 1473, 3000, 4096, 9000, 16384, 20000, 32768, 60000, 65507,
                  65508, 65527, 65528, 65535, 65536, 66000);
}

/* A call that may block does so for the socket's timeout, which costs time: seldom. */
static int flags_in(struct gen *g)
{
    int f = chance(g, 97) ? MSG_DONTWAIT : 0;
    if (chance(g, 30))
        f |= ONE_OF(g, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_OOB, MSG_ERRQUEUE, MSG_PEEK | MSG_TRUNC,
                    MSG_PEEK | MSG_WAITALL, MSG_ERRQUEUE, MSG_OOB | MSG_PEEK, MSG_DONTROUTE, MSG_NOSIGNAL, MSG_CTRUNC);
    if (chance(g, 2))
        f |= 1 << below(g, 20) & ~MSG_WAITFORONE;
    return f;
}

static int flags_out(struct gen *g)
{
    int f = chance(g, 97) ? MSG_DONTWAIT : 0;
    if (chance(g, 75))
        f |= MSG_NOSIGNAL;
    if (chance(g, 20))
        f |= ONE_OF(g, MSG_MORE, MSG_OOB, MSG_DONTROUTE, MSG_CONFIRM, MSG_EOR, MSG_MORE, MSG_PROBE, MSG_TRUNC);
    if (chance(g, 2))
        f |= 1 << below(g, 20);
    return f;
}

static int a_shape(struct gen *g)
{
    return chance(g, 70) ? 0 : ONE_OF(g, 1, 1, 1, 2, 3, 4, 5);
}

static int a_room(struct gen *g)
{
    return chance(g, 85) ? 128 : ONE_OF(g, 0, 1, 2, 8, 15, 16, 20, 28, -1);
}

void new_socket(struct gen *g)
{
    int slot = free_slot(g);
    struct model *m = &g->slot[slot];
    int proto = g->wanted ? g->wanted : 1 + below(g, g->wide ? 4 : 3);
    int domain = g->family ? g->family : ONE_OF(g, AF_INET, AF_INET6, AF_INET6);
    int type = proto == P_TCP ? SOCK_STREAM : SOCK_DGRAM, protocol = 0;
    if (proto == P_PING)
        protocol = domain == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    if (proto == P_RAW) {
        type = SOCK_RAW;
        protocol = ONE_OF(g, 200, 200, 200, domain == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, IPPROTO_RAW, 0, 201);
    }
    if (chance(g, 3))
        protocol = ONE_OF(g, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 77, -1, 256, IPPROTO_UDPLITE);
    if (chance(g, 1))
        type = ONE_OF(g, SOCK_SEQPACKET, SOCK_RDM, 0, 10, 11, 15, SOCK_STREAM | 0x100);
    if (chance(g, 1))
        domain = ONE_OF(g, AF_UNSPEC, 45, 46, -1, 1000);
    *m = (struct model){.proto = proto, .domain = domain, .protocol = protocol, .blocking = !chance(g, 70)};
    EMIT(g, C_SOCKET, slot, domain, type | (m->blocking ? 0 : SOCK_NONBLOCK), protocol);
}

void set_option(struct gen *g, int slot, int option)
{
    int value = chance(g, 40) ? 0 : below(g, 27);
    EMIT(g, C_SETSOCKOPT, slot, option, value, chance(g, 8) ? below(g, len_count) : 0);
}

/* Index of the first option that raw sockets alone have. */
static int raw_options(void)
{
    return option_place(SOL_IP, IP_HDRINCL);
}

int any_option(struct gen *g, int slot)
{
    const struct model *m = model_of(g, slot);
    if (g->wide && m->proto == P_RAW && chance(g, 50))
        return chance(g, 20) ? option_place(SOL_RAW, ICMP_FILTER)
                             : raw_options() + below(g, option_count - raw_options());
    for (;;) {
        int o = below(g, raw_options()), level = options[o].level;
        bool fits = level == SOL_SOCKET || (level == SOL_IP && m->domain == AF_INET) ||
                    (level == SOL_IPV6 && m->domain == AF_INET6) || (level == SOL_TCP && m->proto == P_TCP) ||
                    (level == SOL_UDP && m->proto == P_UDP);
        if (fits || chance(g, 10))
            return o;
    }
}

/* What makes control messages come. */
static int receive_option(struct gen *g)
{
    static const int rows[][2] = {
        {SOL_IP, IP_PKTINFO},         {SOL_IP, IP_RECVTTL},          {SOL_IP, IP_RECVTOS},
        {SOL_IP, IP_RECVERR},         {SOL_SOCKET, SO_TIMESTAMP},    {SOL_SOCKET, SO_TIMESTAMPNS},
        {SOL_IPV6, IPV6_RECVPKTINFO}, {SOL_IPV6, IPV6_RECVHOPLIMIT}, {SOL_IPV6, IPV6_RECVTCLASS},
        {SOL_IPV6, IPV6_RECVERR},     {SOL_UDP, UDP_GRO},            {SOL_SOCKET, SO_RXQ_OVFL},
        {SOL_TCP, TCP_INQ}};
    int i = below(g, COUNT(rows));
    return option_place(rows[i][0], rows[i][1]);
}

void send_something(struct gen *g, int slot)
{
    int form = a_form(g, slot), bytes = some_bytes(g), flags = flags_out(g);
    bool named = model_of(g, slot)->proto == P_TCP ? chance(g, 10) : chance(g, 75);
    int name = named ? to_send(g, slot) : name_place("null");
    switch (below(g, 8)) {
    case 0:
        return EMIT(g, C_SEND, slot, form, bytes, flags);
    case 1:
        if (model_of(g, slot)->blocking && bytes > 2000)
            bytes = 100;
        if (chance(g, 50))
            return EMIT(g, C_WRITE, slot, form, bytes);
        return EMIT(g, C_WRITEV, slot, form, bytes, a_shape(g));
    case 2:
    case 3:
    case 4:
        return EMIT(g, C_SENDTO, slot, form, bytes, flags, name, a_len(g));
    case 5:
        return EMIT(g, C_SENDMMSG, slot, form, bytes > 5000 ? 50 : bytes, ONE_OF(g, 1, 2, 3, 3, 0), flags, name, 0);
    default:
        return EMIT(g, C_SENDMSG, slot, form, bytes, a_shape(g), flags, name, a_len(g),
                    chance(g, 50) ? 0 : below(g, control_count));
    }
}

void receive_something(struct gen *g, int slot)
{
    int into = chance(g, 2) ? 1 + below(g, 2) : 0, flags = flags_in(g);
    int bytes = chance(g, 60) ? 2000 : ONE_OF(g, 0, 1, 8, 50, 69000, 10, 100);
    switch (below(g, 8)) {
    case 0:
    case 1:
        return EMIT(g, C_RECV, slot, into, bytes, flags);
    case 2:
        if (model_of(g, slot)->blocking && !chance(g, 5))
            return EMIT(g, C_RECV, slot, into, bytes, flags);
        if (chance(g, 50))
            return EMIT(g, C_READ, slot, into, bytes);
        return EMIT(g, C_READV, slot, into, bytes, a_shape(g));
    case 3:
        return EMIT(g, C_RECVFROM, slot, into, bytes, flags, a_room(g));
    case 4:
        return EMIT(g, C_RECVMMSG, slot, bytes, ONE_OF(g, 1, 2, 3, 0), flags | MSG_DONTWAIT, 0);
    default:
        return EMIT(g, C_RECVMSG, slot, into, bytes, a_shape(g), flags, a_room(g),
                    chance(g, 70) ? 512 : ONE_OF(g, 0, 1, 16, 20, 24, 40, 48, 64));
    }
}

static void look(struct gen *g, int slot)
{
    switch (below(g, 6)) {
    case 0:
        return EMIT(g, C_GETSOCKNAME, slot, a_room(g));
    case 1:
        return EMIT(g, C_GETPEERNAME, slot, a_room(g));
    case 2:
        return EMIT(g, C_IOCTL, slot, below(g, 4), 0);
    case 3:
        return EMIT(g, C_GETSOCKOPT, slot, option_place(SOL_SOCKET, SO_ERROR), 4);
    default:
        return EMIT(g, C_POLL,
                    chance(g, 70) ? POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLRDBAND |
                                        POLLWRBAND
                                  : ONE_OF(g, 0, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLERR | POLLHUP),
                    0);
    }
}

void accept_one(struct gen *g, int slot)
{
    int to = free_slot(g);
    EMIT(g, C_ACCEPT, slot, to, chance(g, 90) ? SOCK_NONBLOCK : ONE_OF(g, 0, SOCK_CLOEXEC, 1), a_room(g));
    g->slot[to] = (struct model){.proto = P_TCP, .domain = model_of(g, slot)->domain, .connected = mostly_tcp};
}

/* A working beginning: two sockets that can talk. */
void open_pair(struct gen *g)
{
    int a = free_slot(g);
    new_socket(g);
    int b = free_slot(g);
    new_socket(g);
    if (chance(g, 20))
        set_option(g, a, any_option(g, a));
    EMIT(g, C_BIND, a, to_bind(g, a), a_len(g));
    if (g->slot[a].proto == P_TCP && chance(g, 90)) {
        EMIT(g, C_LISTEN, a, ONE_OF(g, 1, 5, 5, 0, -1));
        g->slot[a].listening = true;
    } else if (chance(g, 50)) {
        EMIT(g, C_BIND, b, to_bind(g, b), a_len(g));
    }
    if (chance(g, 30))
        set_option(g, chance(g, 50) ? a : b, receive_option(g));
    if (g->slot[b].proto == P_TCP || chance(g, 50)) {
        EMIT(g, C_CONNECT, b, chance(g, 80) ? name_place("own 0") + a % 4 : a_name(g, b), a_len(g));
        if (g->slot[a].listening && chance(g, 85))
            accept_one(g, a);
    }
}

/* A slot with a set of epoll's; made where there is none. */
int a_set(struct gen *g)
{
    if (chance(g, 2))
        return any_slot(g);
    for (int s = 0; s < SLOTS; s++)
        if (g->slot[s].proto == P_EPOLL && !chance(g, 20))
            return s;
    int slot = free_slot(g);
    EMIT(g, C_EPOLL_CREATE, slot, chance(g, 97) ? 0 : ONE_OF(g, EPOLL_CLOEXEC, 1, O_NONBLOCK, -1));
    g->slot[slot] = (struct model){.proto = P_EPOLL};
    return slot;
}

int interest(struct gen *g)
{
    int events = chance(g, 60) ? EPOLLIN | EPOLLOUT | EPOLLRDHUP
                               : ONE_OF(g, 0, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLIN | EPOLLRDNORM | EPOLLRDBAND,
                                        EPOLLWRNORM | EPOLLWRBAND, EPOLLERR | EPOLLHUP, 0x3fff, -1);
    if (chance(g, 40))
        events |= ONE_OF(g, (int)EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE, EPOLLWAKEUP, (int)EPOLLET | EPOLLONESHOT,
                         (int)EPOLLET | EPOLLEXCLUSIVE);
    return chance(g, 3) ? events | 1 << below(g, 31) : events;
}

static void watch(struct gen *g)
{
    int set = a_set(g), dice = below(g, 100);
    if (dice < 50)
        return EMIT(g, C_EPOLL_WAIT, set, chance(g, 97) ? 0 : 1 + below(g, 2),
                    chance(g, 85) ? 16 : ONE_OF(g, 1, 2, 0, -1, 8));
    int op = dice < 85 ? EPOLL_CTL_ADD : chance(g, 95) ? ONE_OF(g, EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL)
                                                       : ONE_OF(g, 0, 4, -1);
    EMIT(g, C_EPOLL_CTL, set, op, any_slot(g), interest(g), chance(g, 97) ? 0 : 1 + below(g, 2));
}

static void select_some(struct gen *g)
{
    int in = below(g, 256), out = below(g, 256), ex = chance(g, 50) ? below(g, 256) : 0;
    EMIT(g, C_SELECT, in, out, ex, chance(g, 95) ? 0 : ONE_OF(g, -1, 1, 1024), chance(g, 3), below(g, 2));
}

/* An end of a transfer: a slot that has a socket, most of the time. */
static int an_end(struct gen *g)
{
    if (!chance(g, 60))
        return 4 + below(g, end_count - 4);
    int slot = any_slot(g);
    return slot >= 0 && slot < 4 ? slot : 0;
}

static int an_offset(struct gen *g, int percent)
{
    return chance(g, percent) ? below(g, offset_count) : 0;
}

static void transfer(struct gen *g)
{
    int file = 4, out = 5, in = 6, count = chance(g, 60) ? below(g, 4) : below(g, count_count);
    switch (below(g, 6)) {
    case 0:
    case 1:
        return EMIT(g, C_SENDFILE, chance(g, 85) ? below(g, 4) : an_end(g), chance(g, 85) ? file : an_end(g),
                    an_offset(g, 50), count);
    case 2:
        return EMIT(g, C_SENDFILE, out, an_end(g), an_offset(g, 10), count);
    default:
        break;
    }
    int flags = chance(g, 60) ? SPLICE_F_NONBLOCK : below(g, 16);
    if (chance(g, 3))
        flags = ONE_OF(g, 16, -1, 0x100);
    if (chance(g, 45))
        return EMIT(g, C_SPLICE, in, an_offset(g, 5), an_end(g), an_offset(g, 5), count, flags, 1 + below(g, 100));
    if (chance(g, 80))
        return EMIT(g, C_SPLICE, an_end(g), an_offset(g, 5), out, an_offset(g, 5), count, flags | SPLICE_F_NONBLOCK, 0);
    EMIT(g, C_SPLICE, an_end(g), an_offset(g, 30), an_end(g), an_offset(g, 30), count, flags | SPLICE_F_NONBLOCK, 0);
}

/* Of the calls that tell of events, or pass bytes without the program. */
static void something_wide(struct gen *g)
{
    int dice = below(g, 100);
    if (dice < 50)
        return watch(g);
    if (dice < 65)
        return select_some(g);
    if (dice < 75)
        return EMIT(g, C_POLL, chance(g, 70) ? 0x7fff & (int)draw(g) : 1 << below(g, 15), 0, chance(g, 30));
    transfer(g);
}

void something(struct gen *g)
{
    if (g->wide && chance(g, 25))
        return something_wide(g);
    int slot = any_slot(g), dice = below(g, 100);
    if (dice < 28)
        send_something(g, slot);
    else if (dice < 52)
        receive_something(g, slot);
    else if (dice < 66)
        look(g, slot);
    else if (dice < 72)
        set_option(g, slot, any_option(g, slot));
    else if (dice < 76)
        set_option(g, slot, receive_option(g));
    else if (dice < 80)
        EMIT(g, C_GETSOCKOPT, slot, any_option(g, slot), chance(g, 85) ? 4 : ONE_OF(g, 0, 1, 2, 3, 8, 64, 256, -1));
    else if (dice < 83)
        EMIT(g, C_BIND, slot, to_bind(g, slot), a_len(g));
    else if (dice < 89)
        EMIT(g, C_CONNECT, slot, chance(g, 10) ? name_place("unspec") : to_send(g, slot), a_len(g));
    else if (dice < 91)
        EMIT(g, C_SHUTDOWN, slot, chance(g, 95) ? below(g, 3) : ONE_OF(g, -1, 3, 99));
    else if (dice < 93)
        accept_one(g, slot);
    else if (dice < 94)
        EMIT(g, C_LISTEN, slot, ONE_OF(g, 1, 0, -1, 10000));
    else if (dice < 95)
        EMIT(g, C_FCNTL, slot, below(g, command_count), ONE_OF(g, O_NONBLOCK, O_NONBLOCK | O_APPEND, O_NONBLOCK));
    else if (dice < 96)
        EMIT(g, C_IOCTL, slot, below(g, request_count), 1);
    else if (dice < 98) {
        EMIT(g, C_CLOSE, slot);
        if (slot >= 0)
            g->slot[slot].proto = P_NONE;
    } else if (chance(g, 20))
        EMIT(g, C_DUP, slot, free_slot(g));
    else if (chance(g, 10))
        EMIT(g, C_SLEEP, ONE_OF(g, 1, 50));
    else
        new_socket(g);
}

/* What there is to see of each socket at the end. */
static void sweep(struct gen *g)
{
    EMIT(g, C_POLL, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0);
    for (int s = 0; s < SLOTS; s++)
        if (g->slot[s].proto == P_EPOLL) {
            EMIT(g, C_EPOLL_WAIT, s, 0, 16);
        } else if (g->slot[s].proto) {
            EMIT(g, C_RECVMSG, s, 0, 2000, 0, MSG_DONTWAIT | MSG_ERRQUEUE, 128, 512);
            EMIT(g, C_RECVMSG, s, 0, 69000, 0, MSG_DONTWAIT, 128, 512);
            EMIT(g, C_RECV, s, 0, 69000, MSG_DONTWAIT);
            EMIT(g, C_GETSOCKNAME, s, 128);
            EMIT(g, C_GETPEERNAME, s, 128);
            if (g->slot[s].proto == P_TCP)
                EMIT(g, C_GETSOCKOPT, s, option_place(SOL_TCP, TCP_INFO), 255);
        }
}

void generate(uint64_t seed, struct sequence *out)
{
    struct gen g = {.state = seed * 0x2545f4914f6cdd1du, .out = out};
    memset(out, 0, sizeof *out);
    g.wanted = ONE_OF(&g, P_UDP, P_UDP, P_UDP, P_TCP, P_TCP, P_TCP, P_PING, P_NONE);
    g.family = ONE_OF(&g, AF_INET, AF_INET6, 0);
    /* One in three. */
    g.wide = seed % 3 == 1;
    if (g.wide && chance(&g, 30))
        g.wanted = P_RAW;
    if (mostly_tcp && g.wanted != P_NONE)
        g.wanted = P_TCP;
    /* Another third. */
    const bool scenes = seed % 3 == 2;
    if (scenes && chance(&g, 50))
        g.wanted = P_TCP;
    if (chance(&g, scenes ? 5 : 15))
        new_socket(&g);
    else
        open_pair(&g);
    if (chance(&g, 20))
        open_pair(&g);
    int calls = 6 + below(&g, 30);
    for (int i = 0; i < calls && out->count < MAX_OPS - 40; i += 1 + 2 * scenes)
        if (scenes && !chance(&g, 40))
            scene(&g);
        else
            something(&g);
    sweep(&g);
}

/* Conversations that random calls seldom come to by themselves: one end by several descriptors, edges, marks, closes
 * that linger, shutdowns one after the other. Each is some calls that belong together, with others in between. */
#include "generate.h"

#define ALL_EVENTS (POLLIN | POLLOUT | POLLPRI | POLLRDHUP)

/* The place of a value among those of its option's kind. */
static int value_place(int option, const char *text)
{
    for (int i = 0; i < 64; i++)
        if (strcmp(value_text(option, i), text) == 0)
            return i;
    fprintf(stderr, "no value %s\n", text);
    exit(3);
}

static void set(struct gen *g, int slot, int level, int name, const char *text)
{
    int option = option_place(level, name);
    EMIT(g, C_SETSOCKOPT, slot, option, value_place(option, text), 0);
}

#define ONE_TEXT(g, ...)                                                                                               \
    ((const char *const[]){__VA_ARGS__}[below(g, COUNT(((const char *const[]){__VA_ARGS__})))])

static void look_at_all(struct gen *g)
{
    EMIT(g, C_POLL, ALL_EVENTS, 0);
}

/* A slot that bytes may go through: no listener, no set of epoll's. */
static int an_end_of_talk(struct gen *g)
{
    for (int i = 0; i < 20; i++) {
        int s = below(g, SLOTS);
        if (g->slot[s].proto && g->slot[s].proto != P_EPOLL && !g->slot[s].listening)
            return s;
    }
    return any_slot(g);
}

/* One of the first four, which have names ("own N"); -1: none listens. */
static int a_listener(struct gen *g)
{
    for (int s = 0; s < 4; s++)
        if (g->slot[s].listening)
            return s;
    return -1;
}

static void close_slot(struct gen *g, int slot)
{
    EMIT(g, C_CLOSE, slot);
    if (slot >= 0 && slot < SLOTS)
        g->slot[slot] = (struct model){.proto = P_NONE};
}

/* A second descriptor of a socket or a set, by every call that makes one; often one of the two is closed then. */
static void duplicate(struct gen *g)
{
    int slot = any_slot(g), to = chance(g, 75) ? free_slot(g) : below(g, SLOTS);
    bool made = slot >= 0 && slot != to, good = chance(g, 88);
    switch (below(g, mostly_tcp ? 6 : 4)) {
    case 0:
        EMIT(g, C_DUP, slot, to);
        break;
    case 1:
        EMIT(g, C_DUP2, slot, to);
        break;
    case 2:
        EMIT(g, C_DUP3, slot, to, good ? ONE_OF(g, 0, O_CLOEXEC) : ONE_OF(g, O_NONBLOCK, -1));
        made &= good;
        break;
    case 3:
        EMIT(g, C_DUPFD, slot, to, chance(g, 50), good ? ONE_OF(g, 0, 3, 300) : ONE_OF(g, -1, 1 << 30));
        made &= good;
        break;
    default:
        EMIT(g, C_PASS, slot, to, chance(g, 50) ? MSG_CMSG_CLOEXEC : 0);
    }
    if (made)
        g->slot[to] = g->slot[slot];
    if (chance(g, 30))
        EMIT(g, C_FCNTL, chance(g, 50) ? slot : to, below(g, 3), ONE_OF(g, O_NONBLOCK, 0, O_NONBLOCK | O_APPEND));
    if (chance(g, 60))
        something(g);
    if (made && chance(g, 55))
        close_slot(g, chance(g, 50) ? slot : to);
    look_at_all(g);
}

/* A socket in a set, told of once or for changes alone; told of again after EPOLL_CTL_MOD. */
static void edges(struct gen *g)
{
    int where = a_set(g), slot = any_slot(g);
    int how = ONE_OF(g, (int)EPOLLET, (int)EPOLLET, EPOLLONESHOT, (int)EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE, 0,
                     (int)EPOLLET | EPOLLEXCLUSIVE);
    int asked = chance(g, 70) ? EPOLLIN | EPOLLOUT | EPOLLRDHUP : interest(g);
    EMIT(g, C_EPOLL_CTL, where, EPOLL_CTL_ADD, slot, asked | how, 0);
    for (int n = 2 + below(g, 3); n > 0; n--) {
        if (chance(g, 70))
            something(g);
        EMIT(g, C_EPOLL_WAIT, where, 0, 16);
        if (chance(g, 40))
            EMIT(g, C_EPOLL_WAIT, where, 0, 16);
        if (chance(g, 40))
            EMIT(g, C_EPOLL_CTL, where, chance(g, 85) ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, slot,
                 chance(g, 70) ? asked | (how & ~EPOLLEXCLUSIVE) : interest(g), 0);
    }
}

/* Bytes about as many as a mark, and reads that wait for more than there is. */
static void low_mark(struct gen *g)
{
    int to = an_end_of_talk(g), from = an_end_of_talk(g);
    if (!mostly_tcp || chance(g, 3))
        set(g, to, SOL_SOCKET, SO_RCVLOWAT,
            ONE_TEXT(g, "i64", "i100", "i1000", "i5", "i1", "i0", "i-1", "i16384", "i200000"));
    for (int n = 1 + below(g, 3); n > 0; n--) {
        EMIT(g, C_SEND, from, 0, ONE_OF(g, 1, 4, 50, 63, 64, 100, 999, 1400, 8000), MSG_DONTWAIT | MSG_NOSIGNAL);
        look_at_all(g);
        if (chance(g, 50))
            EMIT(g, C_RECV, to, 0, ONE_OF(g, 10, 64, 100, 2000, 0, 4),
                 MSG_DONTWAIT | ONE_OF(g, 0, MSG_PEEK, MSG_WAITALL, MSG_PEEK | MSG_WAITALL, MSG_TRUNC | MSG_WAITALL));
        if (chance(g, 20))
            EMIT(g, C_SHUTDOWN, from, SHUT_WR);
    }
    look_at_all(g);
}

/* Room that is told of only while little is unsent. No mark is about as long as a segment: where a buffer is cut into
 * them decides then. */
static void unsent_mark(struct gen *g)
{
    int from = an_end_of_talk(g), to = an_end_of_talk(g);
    if (mostly_tcp)
        return low_mark(g);
    set(g, from, SOL_TCP, TCP_NOTSENT_LOWAT, ONE_TEXT(g, "i1", "i1000", "i16384", "i0", "i-1", "i200000"));
    if (chance(g, 40))
        set(g, from, SOL_SOCKET, chance(g, 50) ? SO_SNDBUF : SO_RCVBUF, ONE_TEXT(g, "i1", "i16384", "i65536"));
    for (int n = 1 + below(g, 3); n > 0; n--) {
        EMIT(g, C_SEND, from, 0, ONE_OF(g, 60000, 60000, 16384, 1000), MSG_DONTWAIT | MSG_NOSIGNAL);
        look_at_all(g);
        if (chance(g, 40))
            EMIT(g, C_IOCTL, from, 1 + below(g, 2), 0);
        if (chance(g, 40))
            EMIT(g, C_RECV, to, 0, 69000, MSG_DONTWAIT);
    }
    look_at_all(g);
}

/* The end of one socket, and what the others then see. */
static void last_words(struct gen *g)
{
    int slot = chance(g, 80) ? an_end_of_talk(g) : any_slot(g);
    if (chance(g, 75))
        set(g, slot, SOL_SOCKET, SO_LINGER, ONE_TEXT(g, "i1 i0", "i1 i0", "i0 i0", "i1 i1", "i0 i5"));
    if (chance(g, 40))
        send_something(g, an_end_of_talk(g));
    if (chance(g, 25))
        EMIT(g, C_SHUTDOWN, slot, below(g, 3));
    close_slot(g, slot);
    for (int n = 2 + below(g, 3); n > 0; n--) {
        int other = an_end_of_talk(g), option = option_place(SOL_SOCKET, SO_ERROR);
        switch (below(g, 6)) {
        case 0:
            EMIT(g, C_RECV, other, 0, 2000, MSG_DONTWAIT | ONE_OF(g, 0, 0, MSG_PEEK));
            break;
        case 1:
            EMIT(g, C_SEND, other, 0, ONE_OF(g, 10, 0, 3000), MSG_DONTWAIT | ONE_OF(g, 0, MSG_NOSIGNAL));
            break;
        case 2:
            EMIT(g, C_GETSOCKOPT, other, option, 4);
            break;
        case 3:
            EMIT(g, C_GETPEERNAME, other, 128);
            break;
        default:
            look_at_all(g);
        }
    }
}

/* Ends that are shut one after the other, in every order. */
static void shut(struct gen *g)
{
    for (int n = 2 + below(g, 3); n > 0; n--) {
        int slot = an_end_of_talk(g);
        EMIT(g, C_SHUTDOWN, slot, below(g, 3));
        if (chance(g, 30))
            send_something(g, an_end_of_talk(g));
        if (chance(g, 30))
            receive_something(g, an_end_of_talk(g));
        if (chance(g, 40))
            look_at_all(g);
    }
    if (chance(g, 30))
        close_slot(g, an_end_of_talk(g));
    look_at_all(g);
}

/* A connection to a listener, that may wait for its first bytes. */
static void arrive(struct gen *g)
{
    int listener = a_listener(g), slot = free_slot(g);
    if (listener < 0)
        return open_pair(g);
    if (chance(g, 60))
        set(g, listener, SOL_TCP, TCP_DEFER_ACCEPT, ONE_TEXT(g, "i1", "i5", "i100", "i0", "i-1"));
    if (slot == listener)
        return;
    int wanted = g->wanted;
    g->wanted = P_TCP;
    new_socket(g);
    g->wanted = wanted;
    EMIT(g, C_CONNECT, slot, name_place("own 0") + listener, 0);
    look_at_all(g);
    if (chance(g, 50))
        accept_one(g, listener);
    if (chance(g, 30))
        return last_words(g);
    EMIT(g, C_SEND, slot, 0, 10, MSG_DONTWAIT | MSG_NOSIGNAL);
    look_at_all(g);
    accept_one(g, listener);
}

/* Lengths that are no option's. */
static void lengths(struct gen *g)
{
    int slot = any_slot(g);
    for (int n = 1 + below(g, 3); n > 0; n--) {
        int option = chance(g, 40)
                         ? any_option(g, slot)
                         : ONE_OF(g, option_place(SOL_SOCKET, SO_LINGER), option_place(SOL_SOCKET, SO_RCVTIMEO),
                                  option_place(SOL_SOCKET, SO_BINDTODEVICE), option_place(SOL_SOCKET, SO_TYPE),
                                  option_place(SOL_SOCKET, SO_PEERNAME), option_place(SOL_TCP, TCP_INFO),
                                  option_place(SOL_TCP, TCP_CONGESTION), option_place(SOL_TCP, TCP_NODELAY),
                                  option_place(SOL_TCP, TCP_SAVED_SYN), option_place(SOL_TCP, TCP_ULP),
                                  option_place(SOL_TCP, TCP_DEFER_ACCEPT), option_place(SOL_IP, IP_TOS));
        EMIT(g, C_GETSOCKOPT, slot, option,
             ONE_OF(g, 0, 1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 100, 192, 1000, -1, (int)0x80000000u));
        if (chance(g, 25))
            EMIT(g, C_SETSOCKOPT, slot, option, below(g, 27), below(g, len_count));
    }
}

/* Several messages by one call, one of which fails. */
static void messages(struct gen *g)
{
    int from = an_end_of_talk(g), to = an_end_of_talk(g), count = 2 + below(g, 4);
    int name = model_of(g, from)->proto == P_TCP ? name_place("null") : name_place("own 0") + (to & 3);
    EMIT(g, C_SENDMMSG, from, 0, 1 + below(g, 60), count, MSG_DONTWAIT | MSG_NOSIGNAL, name,
         chance(g, 60) ? ONE_OF(g, 1, -1) * (1 + below(g, count)) : 0);
    if (chance(g, 30))
        look_at_all(g);
    EMIT(g, C_RECVMMSG, to, ONE_OF(g, 2000, 10, 30), count,
         MSG_DONTWAIT | ONE_OF(g, 0, 0, MSG_WAITFORONE, MSG_PEEK, MSG_TRUNC),
         chance(g, 60) ? ONE_OF(g, 1, -1) * (1 + below(g, count)) : 0);
    look_at_all(g);
    EMIT(g, C_RECVMMSG, to, 2000, 5, MSG_DONTWAIT, 0);
}

/* Bytes that are looked at before they are taken, in part, in all, and not at all. */
static void peeks(struct gen *g)
{
    int from = an_end_of_talk(g), to = an_end_of_talk(g);
    if (chance(g, 30))
        set(g, to, SOL_SOCKET, SO_PEEK_OFF, ONE_TEXT(g, "i0", "i5", "i64", "i-1", "i1000"));
    if (chance(g, 15))
        set(g, to, SOL_SOCKET, SO_OOBINLINE, "i1");
    for (int n = 1 + below(g, 4); n > 0; n--) {
        if (chance(g, 60))
            EMIT(g, C_SEND, from, 0, ONE_OF(g, 1, 10, 50, 100, 3000),
                 MSG_DONTWAIT | MSG_NOSIGNAL | (chance(g, 15) ? MSG_OOB : 0));
        EMIT(g, C_RECV, to, 0, ONE_OF(g, 0, 1, 10, 64, 2000, 100),
             MSG_DONTWAIT | ONE_OF(g, 0, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_PEEK | MSG_TRUNC, MSG_PEEK | MSG_WAITALL,
                                   MSG_TRUNC | MSG_WAITALL, MSG_PEEK | MSG_TRUNC | MSG_WAITALL));
    }
    EMIT(g, C_IOCTL, to, 0, 0);
}

/* Files and pipes, small and large. Place: see `ends`. */
static void transfers(struct gen *g)
{
    const int files[2] = {end_place("file"), end_place("big")};
    const int outs[2] = {end_place("out"), end_place("small out")}, ins[2] = {end_place("in"), end_place("small in")};
    int from = an_end_of_talk(g) & 3, to = an_end_of_talk(g) & 3;
    for (int n = 1 + below(g, 3); n > 0; n--) {
        /* A server takes what is written in its own time. */
        int count = mostly_tcp ? below(g, 5) : below(g, count_count), which = below(g, 2);
        int flags = SPLICE_F_NONBLOCK | (mostly_tcp || chance(g, 70) ? 0 : SPLICE_F_MORE);
        switch (below(g, 4)) {
        case 0:
            EMIT(g, C_SENDFILE, from, files[which], chance(g, 40) ? below(g, offset_count) : 0, count);
            break;
        case 1:
            EMIT(g, C_SPLICE, ins[which], 0, from, 0, count, flags, ONE_OF(g, 1, 60, 4096, 5000));
            break;
        case 2:
            EMIT(g, C_SPLICE, files[1], chance(g, 50) ? 1 : 0, outs[which], 0, count, flags, 0);
            break;
        default:
            EMIT(g, C_SPLICE, to, 0, outs[which], 0, count, flags, 0);
        }
        if (chance(g, 40))
            look_at_all(g);
    }
    EMIT(g, C_RECV, to, 0, 69000, MSG_DONTWAIT);
}

void scene(struct gen *g)
{
    static void (*const scenes[])(struct gen *) = {duplicate,   duplicate,  edges, edges,  low_mark,
                                                   unsent_mark, last_words, shut,  arrive, arrive,
                                                   lengths,     messages,   peeks, transfers};
    scenes[below(g, COUNT(scenes))](g);
}

/* Makes a sequence from a seed: a host with an end or two, packets to them, and what is to be seen at the end. No
 * answer is looked at, so both sides get the same operations; where numbers depend on answers (the host's sequence
 * numbers), the operations name them. Most arguments are ordinary, since one odd packet in a working conversation says
 * more than ten in a broken one. */
#include "packets.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

struct gen {
    uint64_t state;
    struct sequence *out;
    int family[SLOTS], protocol[SLOTS];
};

/* splitmix64. */
static uint64_t draw(struct gen *g)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int below(struct gen *g, int n)
{
    return (int)(draw(g) % (uint64_t)n);
}

static bool chance(struct gen *g, int percent)
{
    return below(g, 100) < percent;
}

#define ONE_OF(g, ...) ((const int[]){__VA_ARGS__}[below(g, COUNT(((const int[]){__VA_ARGS__})))])

static void emit(struct gen *g, enum op_number call, const int *a, int n)
{
    if (g->out->count == OPS_ROOM)
        return;
    struct op *op = &g->out->ops[g->out->count++];
    memset(op, 0, sizeof *op);
    op->call = (int)call;
    memcpy(op->a, a, (size_t)n * sizeof *a);
}

#define EMIT(g, call, ...) emit(g, call, (const int[]){__VA_ARGS__}, COUNT(((const int[]){__VA_ARGS__})))

static int row_of(struct gen *g, enum table table, int percent)
{
    return chance(g, percent) ? below(g, table_counts[table]) : 0;
}

static void new_end(struct gen *g, int slot)
{
    static const int states[] = {TCP_CLOSE,      TCP_LISTEN,    TCP_SYN_SENT,  TCP_SYN_RECV, TCP_ESTABLISHED,
                                 TCP_FIN_WAIT1,  TCP_FIN_WAIT2, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK,
                                 TCP_TIME_WAIT};
    int family = g->family[slot] = ONE_OF(g, 4, 6), dice = below(g, 100);
    if (dice < 10) {
        g->protocol[slot] = IPPROTO_UDP;
        return EMIT(g, OP_UDP, slot, family, row_of(g, T_UDP_END, 60));
    }
    if (dice < 15) {
        g->protocol[slot] = 1;
        return EMIT(g, OP_PING, slot, family);
    }
    g->protocol[slot] = IPPROTO_TCP;
    int state = chance(g, 25) ? TCP_ESTABLISHED : states[below(g, COUNT(states))];
    EMIT(g, OP_END, slot, family, state | (chance(g, 30) ? BY_CLOSE : 0), chance(g, 40), row_of(g, T_SYN_OPTIONS, 50));
}

/* An odd IP header for the packet that follows: one oddity, or two. */
static void odd_header(struct gen *g, int family)
{
    int a[7] = {0, 0, 0, 0, 0, 64, 0};
    for (int i = chance(g, 20) ? 2 : 1; i > 0; i--)
        switch (below(g, 9)) {
        case 0:
            a[0] = row_of(g, T_SOURCE, 100);
            break;
        case 1:
            a[1] = row_of(g, T_DESTINATION, 100);
            break;
        case 2:
        case 3:
        case 4:
            a[2] = row_of(g, family == 6 ? T_CHAIN6 : T_CHAIN4, 100);
            break;
        case 5:
        case 6:
            a[3] = row_of(g, T_FRAGMENTS, 100);
            break;
        case 7:
            a[4] = row_of(g, T_IP_DAMAGE, 100);
            break;
        default:
            a[5] = ONE_OF(g, 1, 2, 255, 64);
            a[6] = ONE_OF(g, 0, 1, 2, 3, 0x10, 0xb8, 0xff);
        }
    emit(g, OP_NEXT, a, 7);
}

static int some_flags(struct gen *g)
{
    if (chance(g, 70))
        return ONE_OF(g, ACK, ACK, ACK | PSH, ACK | PSH, SYN, RST, RST | ACK, FIN | ACK, SYN | ACK, FIN | ACK | PSH);
    return below(g, 512);
}

static int near(struct gen *g)
{
    if (chance(g, 60))
        return 0;
    return chance(g, 70) ? ONE_OF(g, 1, -1, 2, -2, 10, -10, 100, -100) : ONE_OF(g, 1000, -1000, 65535, -70000, 1 << 20);
}

static void a_segment(struct gen *g, int slot)
{
    int flags = some_flags(g), len = chance(g, 45) ? 0 : ONE_OF(g, 1, 10, 100, 536, 1000, 1399);
    int seq = chance(g, 75) ? 0 : below(g, seq_base_count), ack = chance(g, 80) ? 0 : below(g, ack_base_count);
    int window = chance(g, 80) ? 65535 : ONE_OF(g, 0, 1, 10, 1000, 20000);
    EMIT(g, OP_SEGMENT, slot, flags, seq, near(g), ack, near(g), len, window, row_of(g, T_TCP_OPTIONS, 25),
         row_of(g, T_TCP_DAMAGE, 10));
}

static void an_error(struct gen *g, int slot)
{
    int type, code = below(g, chance(g, 90) ? 16 : 256), rest = 0;
    if (g->family[slot] == 6) {
        type = ONE_OF(g, 1, 1, 2, 3, 4, 0, 5, 100, 127);
        code = type == 1 ? below(g, 8) : below(g, 3);
        rest = type == 2 ? ONE_OF(g, 1280, 1400, 1279, 68, 0, 1500, 9000, -1) : ONE_OF(g, 0, 6, 40, 100);
    } else {
        type = ONE_OF(g, 3, 3, 3, 11, 12, 4, 5);
        if (type == 3 && chance(g, 30))
            code = 4;
        rest = type == 3 && code == 4 ? ONE_OF(g, 1400, 1280, 576, 552, 296, 68, 67, 0, 1500, 65535) : 0;
    }
    EMIT(g, OP_ERROR, slot, type, code, rest, row_of(g, T_QUOTE, 45), chance(g, 70) ? 0 : below(g, 4), near(g));
}

static void a_query(struct gen *g, int slot)
{
    int family = g->family[slot], type;
    if (family == 6)
        type = chance(g, 60) ? 128
                             : ONE_OF(g, 129, 129, 130, 131, 132, 133, 134, 135, 136, 137, 139, 141, 143, 200, 255);
    else
        type = chance(g, 50) ? 8 : ONE_OF(g, 0, 0, 13, 13, 14, 15, 17, 18, 9, 10, 1, 2, 19, 42, 43, 255);
    int len = chance(g, 60) ? ONE_OF(g, 16, 60, 20) : ONE_OF(g, 0, 1, 3, 4, 5, 12, 15, 16, 17, 1000);
    EMIT(g, OP_QUERY, slot, family, type, chance(g, 90) ? 0 : below(g, 4), len, chance(g, 5));
}

static void a_packet(struct gen *g, int slot)
{
    int dice = below(g, 100), protocol = g->protocol[slot];
    if (chance(g, 25))
        odd_header(g, g->family[slot]);
    if (dice < 8)
        return a_query(g, slot);
    if (dice < 14)
        return EMIT(g, OP_DATAGRAM, slot, g->family[slot], ONE_OF(g, 0, 1, 40, 41, 1000), row_of(g, T_UDP_DAMAGE, 60));
    if (dice < 16)
        return EMIT(g, OP_OTHER, g->family[slot], ONE_OF(g, 1, 58, 4, 41, 47, 50, 51, 132, 255, 0, 59, 60),
                    ONE_OF(g, 0, 8, 40));
    if (dice < 36)
        return an_error(g, slot);
    if (protocol == IPPROTO_UDP)
        return EMIT(g, OP_DATAGRAM, slot, g->family[slot], ONE_OF(g, 0, 1, 40, 41, 1000), row_of(g, T_UDP_DAMAGE, 40));
    if (protocol == 1)
        return a_query(g, slot);
    a_segment(g, slot);
}

static void a_call(struct gen *g, int slot)
{
    int dice = below(g, 100);
    if (dice < 40)
        EMIT(g, OP_SEND, slot, g->protocol[slot] == IPPROTO_TCP ? ONE_OF(g, 1, 10, 100, 1000, 3000) : ONE_OF(g, 8, 40));
    else if (dice < 65)
        EMIT(g, OP_RECV, slot, ONE_OF(g, 1, 10, 1000, 10000));
    else if (dice < 75)
        EMIT(g, OP_ACCEPT, slot);
    else if (dice < 82)
        EMIT(g, OP_SHUTDOWN, slot, ONE_OF(g, 0, 1, 2));
    else if (dice < 87)
        EMIT(g, OP_CLOSE, slot);
    else
        EMIT(g, OP_SEE, slot);
}

void generate(uint64_t seed, struct sequence *out)
{
    struct gen g = {.state = seed * 0x2545f4914f6cdd1du, .out = out};
    memset(out, 0, sizeof *out);
    int slots = chance(&g, 75) ? 1 : 2;
    for (int i = 0; i < slots; i++)
        new_end(&g, i);
    for (int steps = 2 + below(&g, 10); steps > 0; steps--) {
        int slot = below(&g, slots);
        if (chance(&g, 80))
            a_packet(&g, slot);
        else
            a_call(&g, slot);
    }
    for (int i = 0; i < slots; i++) {
        EMIT(&g, OP_ACCEPT, i);
        EMIT(&g, OP_SEE, i);
        EMIT(&g, OP_RECV, i, 10000);
    }
    for (int i = 0; i < table_counts[T_COUNTER]; i++)
        EMIT(&g, OP_COUNTER, i);
}

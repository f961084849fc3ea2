/* RDP: numbers that are hashes: the listener's cookies, so that it keeps no state for a SYN, and the origin of our time
 * stamps. */
#include "rdp_int.h"

/* SipHash-2-4 of a few words (Aumasson, Bernstein): a keyed hash whose values cannot be predicted without the key. */
static uint64_t siphash(const uint64_t key[2], const uint64_t *word, int n)
{
    uint64_t v0 = key[0] ^ 0x736f6d6570736575u, v1 = key[1] ^ 0x646f72616e646f6du;
    uint64_t v2 = key[0] ^ 0x6c7967656e657261u, v3 = key[1] ^ 0x7465646279746573u;
#define ROTATE(x, b) ((x) << (b) | (x) >> (64 - (b)))
#define ROUND                                                                                               \
    (v0 += v1, v1 = ROTATE(v1, 13), v1 ^= v0, v0 = ROTATE(v0, 32), v2 += v3, v3 = ROTATE(v3, 16), v3 ^= v2, \
     v0 += v3, v3 = ROTATE(v3, 21), v3 ^= v0, v2 += v1, v1 = ROTATE(v1, 17), v1 ^= v2, v2 = ROTATE(v2, 32))
    for (int i = 0; i <= n; i++) {
        uint64_t m = i < n ? word[i] : (uint64_t)(n * 8) << 56;
        v3 ^= m;
        ROUND;
        ROUND;
        v0 ^= m;
    }
    v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        ROUND;
#undef ROUND
#undef ROTATE
    return v0 ^ v1 ^ v2 ^ v3;
}

static uint64_t tick_of(struct rdp_sock *s)
{
    return now_of(s) / 64000000000u;
}

/* The listener's initial sequence number in reply to a SYN: a keyed hash of the SYN's data and of the present 64 s
 * tick, or of `ago` ticks before. Valid in its tick and the next one. */
uint32_t rdp_cookie(struct rdp_sock *s, const usk_addr_t *local, const usk_addr_t *peer, uint32_t isn, uint32_t ago)
{
    struct rdp_world *w = usk_user(s->reg);
    uint64_t word[6] = { 0 };
    memcpy(&word[0], local->addr, 16);
    memcpy(&word[2], peer->addr, 16);
    word[4] = (uint64_t)local->port << 48 | (uint64_t)peer->port << 32 | isn;
    /* Before the first tick this wraps to a value that no tick has. */
    word[5] = tick_of(s) - ago;
    return (uint32_t)siphash(w->key, word, 6);
}

/* The origin of our time stamps for a pair of ends. A later connection of the same ends continues the time stamps of
 * the older one, which TIME-WAIT compares; other connections do not reveal them (RFC 7323 §5.4, as in RFC 6528). */
uint32_t rdp_stamp_base(struct rdp_sock *s, const usk_addr_t *local, const usk_addr_t *peer)
{
    struct rdp_world *w = usk_user(s->reg);
    uint64_t word[5] = { 0 };
    memcpy(&word[0], local->addr, 16);
    memcpy(&word[2], peer->addr, 16);
    word[4] = (uint64_t)local->port << 16 | peer->port;
    return (uint32_t)siphash(w->key, word, 5);
}

/* Each cookie makes one connection. Otherwise a delayed copy of a caller's first packet, with its message, could make
 * another connection after the first has ended, while the cookie is valid. The memory is bounded: a new entry may
 * replace that of another connection. */
static _Atomic uint64_t *use_of(struct rdp_sock *s, uint32_t iss)
{
    struct rdp_world *w = usk_user(s->reg);
    return &w->used[iss % USED];
}

bool rdp_cookie_used(struct rdp_sock *s, uint32_t iss)
{
    uint64_t use = atomic_load(use_of(s, iss));
    return use != 0 && (uint32_t)use == iss && tick_of(s) + 1 - (use >> 32) <= 1;
}

void rdp_cookie_use(struct rdp_sock *s, uint32_t iss)
{
    atomic_store(use_of(s, iss), (tick_of(s) + 1) << 32 | iss);
}

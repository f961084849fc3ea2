/* The host's packets as text that is the same on both sides: sequence numbers count from the host's first one, clocks,
 * identifications and flow labels are not shown, quotes of a packet are "same" where they are its bytes. */
#include "packets.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static struct {
    unsigned char b[2048];
    size_t n;
    int slot;
} answers[32];
static int answer_count;

void begin_answers(void)
{
    answer_count = 0;
    sent_count = 0;
}

/* What a host says of itself (group membership, router solicitation) answers nothing. */
static bool of_itself(const unsigned char *b, size_t n)
{
    if (n >= 48 && b[0] >> 4 == 6 && b[6] == 0 && b[40] == IPPROTO_ICMPV6)
        return true;
    return n >= 41 && b[0] >> 4 == 6 && b[6] == IPPROTO_ICMPV6 && b[40] == 133;
}

void keep_answer(const unsigned char *b, size_t n, int slot)
{
    if (of_itself(b, n) || answer_count == COUNT(answers))
        return;
    answers[answer_count].n = n;
    answers[answer_count].slot = slot;
    memcpy(answers[answer_count++].b, b, n < sizeof answers[0].b ? n : sizeof answers[0].b);
}

static uint32_t hash(const unsigned char *b, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 16777619u;
    return h;
}

static void show_flags(int flags)
{
    for (int i = 0; i < 9; i++)
        if (flags & 1 << i)
            putchar("FSRPAUECN"[i]);
    if (!flags)
        putchar('0');
}

/* A number on a circle, counted from `from`; 0 is shown as it is: it is sent where there is no number. One near 0 was
 * counted from 0 by the sequence itself. */
static void show_number(const char *key, uint32_t v, uint32_t from)
{
    if (v == 0)
        printf("%s=none", key);
    else if (v + 2000000 < 4000000)
        printf("%s=0%+d", key, (int32_t)v);
    else
        printf("%s=%d", key, (int32_t)(v - from));
}

static void show_options(const unsigned char *o, size_t n, const struct end *e)
{
    for (size_t i = 0; i < n;) {
        unsigned kind = o[i], size = kind <= 1 ? 1 : i + 1 < n ? o[i + 1] : 0;
        if (size == 0 || i + size > n) {
            printf("bad");
            return;
        }
        printf("%s%u", i ? "," : "", kind);
        if (kind == 8 && size == 10) {
            uint32_t ecr = get32(o + i + 6);
            printf(":ts:");
            if (ecr == 0)
                printf("0");
            else
                printf("%d", (int32_t)(ecr - 5000));
        } else if (kind == 5 && e) {
            for (unsigned j = 2; j + 3 < size; j += 4)
                printf(":%d", (int32_t)(get32(o + i + j) - e->iss));
        } else if (size > 2) {
            printf(":");
            for (unsigned j = 2; j < size; j++)
                printf("%02x", o[i + j]);
        }
        i += size;
    }
}

static void show_tcp(const unsigned char *b, size_t n, int slot)
{
    static const struct end none;
    unsigned of_port = get16(b) - 4000u, to_port = get16(b + 2) - 5000u;
    unsigned near = slot >= 0 ? (unsigned)slot : of_port < SLOTS ? of_port : to_port;
    const struct end *e = near < SLOTS ? &ends[near] : &none;
    size_t head = (size_t)(b[12] >> 4) * 4;
    if (n < 20 || head < 20 || head > n) {
        printf(" tcp=bad");
        return;
    }
    printf(" ports=%u-%u", get16(b), get16(b + 2));
    /* A number that the host chose for a peer whose connection is not followed. */
    if (slot < 0 && b[13] & SYN)
        printf(" seq=chosen");
    else
        show_number(" seq", get32(b + 4), e->host_iss);
    show_number(" ack", b[13] & ACK || get32(b + 8) ? get32(b + 8) : 0, e->iss);
    printf(" window=%u urgent=%u options=", get16(b + 14), get16(b + 18));
    show_options(b + 20, head - 20, e);
    printf(" len=%zu data=%08x", n - head, hash(b + head, n - head));
}

/* An error's quote against what was sent. A packet that is not there byte for byte is shown by where it parts. */
static void show_quote(const unsigned char *q, size_t n)
{
    size_t best = 0;
    for (int i = 0; i < sent_count; i++) {
        size_t same = 0;
        while (same < n && same < sent_len[i] && q[same] == sent[i][same])
            same++;
        if (same > best)
            best = same;
    }
    printf(" quote=%zu", n);
    if (best == n) {
        printf(":same");
        return;
    }
    printf(":same-to-%zu:", best);
    for (size_t i = best; i < n && i < best + 8; i++)
        printf("%02x", q[i]);
}

static void show_icmp(const unsigned char *b, size_t n, bool six)
{
    if (n < 8)
        return;
    bool error = six ? b[0] < 128 : b[0] == 3 || b[0] == 4 || b[0] == 5 || b[0] == 11 || b[0] == 12;
    printf(" rest=%08x", get32(b + 4));
    if (error)
        return show_quote(b + 8, n - 8);
    bool stamp = !six && b[0] == 14;
    printf(" len=%zu data=%08x", n, hash(b + 8, stamp && n >= 20 ? 4 : n - 8));
    if (six && b[0] == 136 && n >= 24)
        printf(" flags=%x", b[4] >> 5);
}

/* "SA", "3/1": what an answer is, in short. */
static void show_short(const unsigned char *b, size_t head, int protocol, size_t n)
{
    const unsigned char *p = b + head;
    if (protocol == IPPROTO_TCP && n >= head + 20)
        show_flags(p[13] | (p[12] & 1) << 8);
    else if ((protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) && n >= head + 4)
        printf("icmp%u/%u", p[0], p[1]);
    else
        printf("protocol%d", protocol);
}

static void header_of(const unsigned char *b, size_t *head, int *protocol)
{
    bool six = b[0] >> 4 == 6;
    *head = six ? 40 : (size_t)(b[0] & 15) * 4;
    *protocol = six ? b[6] : b[9];
    if (six && *protocol == 44) {
        *protocol = b[40];
        *head += 8;
    }
}

static bool checksum_good(const unsigned char *b, size_t head, int protocol, size_t n)
{
    bool six = b[0] >> 4 == 6;
    uint32_t sum = pseudo_sum(six ? 6 : 4, b + (six ? 8 : 12), b + (six ? 24 : 16), protocol, n - head);
    return checksum(b + head, n - head, protocol == IPPROTO_ICMP ? 0 : sum) == 0;
}

static void show_answer(int i)
{
    const unsigned char *b = answers[i].b;
    size_t n = answers[i].n, head;
    int protocol;
    char text[64];
    bool six = b[0] >> 4 == 6;
    header_of(b, &head, &protocol);
    printf(" packet=%d", i);
    if (n > sizeof answers[i].b || head + 4 > n) {
        printf(" size=%zu", n);
        return;
    }
    if (six) {
        printf(" from=%s", inet_ntop(AF_INET6, b + 8, text, sizeof text));
        printf(" to=%s", inet_ntop(AF_INET6, b + 24, text, sizeof text));
        printf(" hops=%u class=%u", b[7], (get16(b) >> 4) & 0xff);
        if (get16(b + 4) + 40 != n)
            printf(" iplen=wrong");
    } else {
        printf(" from=%s", inet_ntop(AF_INET, b + 12, text, sizeof text));
        printf(" to=%s", inet_ntop(AF_INET, b + 16, text, sizeof text));
        printf(" ttl=%u tos=%u flags=%x ipoptions=", b[8], b[1], get16(b + 6) >> 13);
        for (size_t j = 20; j < head; j++)
            printf("%02x", b[j]);
        if (get16(b + 2) != n || checksum(b, head, 0) != 0)
            printf(" ipheader=wrong");
    }
    if (!checksum_good(b, head, protocol, n))
        printf(" checksum=wrong");
    if (protocol == IPPROTO_TCP)
        show_tcp(b + head, n - head, answers[i].slot);
    else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
        show_icmp(b + head, n - head, six);
    else
        printf(" len=%zu data=%08x", n - head, hash(b + head, n - head));
}

void show_answers(void)
{
    printf(" out=");
    for (int i = 0; i < answer_count; i++) {
        size_t head;
        int protocol;
        header_of(answers[i].b, &head, &protocol);
        printf("%s", i ? "," : "");
        show_short(answers[i].b, head, protocol, answers[i].n);
    }
    if (!answer_count)
        printf("nothing");
    for (int i = 0; i < answer_count; i++)
        show_answer(i);
}

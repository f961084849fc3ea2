/* Bytes of packets: checksums, IP headers in all the forms of the tables, fragments. */
#include "packets.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

struct ip_form next_form;
unsigned char sent[8][ROOM];
size_t sent_len[8];
int sent_count;

void put16(unsigned char *b, unsigned v)
{
    b[0] = (unsigned char)(v >> 8);
    b[1] = (unsigned char)v;
}

void put32(unsigned char *b, uint32_t v)
{
    put16(b, v >> 16);
    put16(b + 2, v & 0xffff);
}

unsigned get16(const unsigned char *b)
{
    return (unsigned)b[0] << 8 | b[1];
}

uint32_t get32(const unsigned char *b)
{
    return (uint32_t)get16(b) << 16 | get16(b + 2);
}

size_t hex_bytes(const char *text, unsigned char *out)
{
    size_t n = 0;
    for (; *text && *text != ' '; text += 2) {
        unsigned byte = 0;
        if (sscanf(text, "%2x", &byte) != 1)
            break;
        out[n++] = (unsigned char)byte;
    }
    return n;
}

uint16_t checksum(const unsigned char *b, size_t n, uint32_t sum)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        sum += get16(b + i);
    if (n % 2)
        sum += (uint32_t)b[n - 1] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint32_t pseudo_sum(int family, const unsigned char *src, const unsigned char *dst, int protocol, size_t n)
{
    uint32_t sum = (uint32_t)protocol + (uint32_t)n;
    for (int i = 0; i < (family == 6 ? 16 : 4); i += 2)
        sum += get16(src + i) + get16(dst + i);
    return sum;
}

static void parse_address(int family, const char *text, unsigned char *out)
{
    inet_pton(family == 6 ? AF_INET6 : AF_INET, text, out);
}

void address(int family, bool host, unsigned char *out)
{
    if (family == 6)
        parse_address(6, host ? "fd00::1" : "fd00::2", out);
    else
        parse_address(4, host ? "10.0.0.1" : "10.0.0.2", out);
}

/* An address of a table: "A4 A6", one for each family. */
static void address_at(enum table table, int at, int family, unsigned char *out)
{
    char four[64], six[64];
    if (sscanf(tables[table][at % table_counts[table]].bytes, "%63s %63s", four, six) == 2)
        parse_address(family, family == 6 ? six : four, out);
}

void fill_checksum(int family, int protocol, unsigned char *payload, size_t n, size_t at, bool damaged)
{
    unsigned char src[16], dst[16];
    address_at(T_SOURCE, next_form.source, family, src);
    address_at(T_DESTINATION, next_form.destination, family, dst);
    if (n < at + 2)
        return;
    put16(payload + at, 0);
    uint32_t sum = protocol == 1 ? 0 : pseudo_sum(family, src, dst, protocol, n);
    unsigned c = checksum(payload, n, sum);
    if (c == 0 && protocol == 17)
        c = 0xffff;
    put16(payload + at, damaged ? c ^ 0x1234 : c);
}

static void send_bytes(const unsigned char *b, size_t n)
{
    if (sent_count < COUNT(sent)) {
        memcpy(sent[sent_count], b, n);
        sent_len[sent_count++] = n;
    }
    net_in(b, n);
}

/* Extension headers from "KIND:BYTES ..."; the bytes are those behind the next-header byte, which is filled in. */
static size_t chain6(const char *text, int protocol, unsigned char *first, unsigned char *out)
{
    size_t n = 0;
    unsigned char *named = first;
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *colon = strchr(w, ':');
        *named = (unsigned char)atoi(w);
        named = out + n++;
        n += hex_bytes(colon + 1, out + n);
    }
    *named = (unsigned char)protocol;
    return n;
}

/* The header, with `fragment` (offset in bytes, more and an identification) or without; `b` has room before
 * `payload`. Returns the packet's length. */
struct fragment {
    bool any, more;
    size_t offset;
    int id;
};

static size_t header4(unsigned char *b, const struct ip_form *f, int protocol, size_t payload, struct fragment g)
{
    const char *damage = name_at(T_IP_DAMAGE, f->damage);
    size_t options = 0;
    /* Options that are not copied stand in the first fragment alone; here all are in it alone. */
    if (g.offset == 0)
        options = hex_bytes(tables[T_CHAIN4][f->chain % table_counts[T_CHAIN4]].bytes, b + 20);
    while (options % 4)
        b[20 + options++] = 0;
    size_t head = 20 + options, total = head + payload;
    memset(b, 0, 20);
    b[0] = (unsigned char)(0x40 | head / 4);
    b[1] = (unsigned char)f->tos;
    put16(b + 2, (unsigned)total);
    put16(b + 4, g.any ? (unsigned)g.id : 7);
    put16(b + 6, (unsigned)(g.any ? g.offset / 8 | (g.more ? 0x2000 : 0) : 0x4000));
    b[8] = (unsigned char)f->ttl;
    b[9] = (unsigned char)protocol;
    address_at(T_SOURCE, f->source, 4, b + 12);
    address_at(T_DESTINATION, f->destination, 4, b + 16);
    if (strcmp(damage, "header length 4") == 0)
        b[0] = 0x44;
    if (strcmp(damage, "header length 15") == 0)
        b[0] = 0x4f;
    if (strcmp(damage, "total too small") == 0)
        put16(b + 2, 19);
    if (strcmp(damage, "total too large") == 0)
        put16(b + 2, (unsigned)total + 1);
    if (strcmp(damage, "reserved flag") == 0)
        b[6] |= 0x80;
    put16(b + 10, checksum(b, head, 0) ^ (strcmp(damage, "header checksum") == 0 ? 0x1234 : 0));
    return head;
}

static size_t header6(unsigned char *b, const struct ip_form *f, int protocol, size_t payload, struct fragment g)
{
    const char *damage = name_at(T_IP_DAMAGE, f->damage);
    unsigned char ext[256];
    size_t n = 0;
    memset(b, 0, 40);
    if (g.any) {
        /* The chain stands behind the fragment header: it is part of the payload. */
        n = 8;
        ext[0] = (unsigned char)protocol;
        ext[1] = 0;
        put16(ext + 2, (unsigned)(g.offset | g.more));
        put32(ext + 4, (uint32_t)g.id);
        b[6] = 44;
    } else {
        n = chain6(tables[T_CHAIN6][f->chain % table_counts[T_CHAIN6]].bytes, protocol, b + 6, ext);
    }
    memcpy(b + 40, ext, n);
    b[0] = (unsigned char)(0x60 | f->tos >> 4);
    b[1] = (unsigned char)(f->tos << 4);
    size_t len = n + payload;
    if (strcmp(damage, "total too small") == 0)
        len = len > 9 ? len - 9 : 0;
    if (strcmp(damage, "total too large") == 0)
        len++;
    if (strcmp(damage, "total zero") == 0)
        len = 0;
    put16(b + 4, (unsigned)len);
    b[7] = (unsigned char)f->ttl;
    address_at(T_SOURCE, f->source, 6, b + 8);
    address_at(T_DESTINATION, f->destination, 6, b + 24);
    return 40 + n;
}

static void send_whole(int family, const struct ip_form *f, int protocol, const unsigned char *payload, size_t n,
                       struct fragment g)
{
    static unsigned char b[ROOM];
    const char *damage = name_at(T_IP_DAMAGE, f->damage);
    size_t head = family == 6 ? header6(b, f, protocol, n, g) : header4(b, f, protocol, n, g);
    if (head + n > MTU)
        n = MTU - head;
    memcpy(b + head, payload, n);
    size_t total = head + n;
    if (strcmp(damage, "bytes behind") == 0) {
        memset(b + total, 0xaa, 6);
        total += 6;
    }
    if (strcmp(damage, "cut in the header") == 0)
        total = family == 6 ? 39 : 19;
    if (strcmp(damage, "cut behind the header") == 0)
        total = head;
    if (strcmp(damage, "the other version") == 0)
        b[0] ^= 0x20;
    send_bytes(b, total);
}

/* Pieces from "FROM-TO+ ...": `+`: more follow; a part that ends with `.` ends where the payload does, `x` changes a
 * byte, `p` is of another protocol, `e` has another ECN codepoint. Numbers are bytes of the payload. */
static void send_fragments(int family, const struct ip_form *form, int protocol, const unsigned char *payload,
                           size_t n, const char *text)
{
    static int id = 100;
    static unsigned char copy[ROOM];
    char parts[256], *save = NULL;
    id++;
    snprintf(parts, sizeof parts, "%s", text);
    for (char *w = strtok_r(parts, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        struct ip_form f = *form;
        size_t from = 0, to = n;
        sscanf(w, "%zu-%zu", &from, &to);
        if (strchr(w, '.') || to > n)
            to = n > from || from > 1000 ? (from > 1000 ? from + 16 : n) : from;
        if (strchr(w, 'e'))
            f.tos ^= 2;
        memset(copy, 0x55, sizeof copy);
        memcpy(copy, payload, n);
        if (strchr(w, 'x'))
            copy[from + 2] ^= 0xff;
        struct fragment g = {.any = true, .more = strchr(w, '+') != NULL, .offset = from & ~7u, .id = id};
        send_whole(family, &f, strchr(w, 'p') ? 99 : protocol, copy + (from > 1000 ? 0 : from),
                   to > from ? to - from : 0, g);
    }
}

void send_ip(int family, int protocol, unsigned char *payload, size_t n)
{
    static unsigned char b[ROOM];
    struct ip_form f = next_form;
    const char *damage = name_at(T_IP_DAMAGE, f.damage);
    const char *pieces = tables[T_FRAGMENTS][f.fragments % table_counts[T_FRAGMENTS]].bytes;
    memset(&next_form, 0, sizeof next_form);
    next_form.ttl = 64;
    if (strcmp(damage, "the other ICMP") == 0)
        protocol = family == 6 ? 1 : 58;
    if (strcmp(damage, "unknown protocol") == 0)
        protocol = 77;
    if (*pieces) {
        unsigned char first = (unsigned char)protocol;
        size_t head = 0;
        if (family == 6)
            head = chain6(tables[T_CHAIN6][f.chain % table_counts[T_CHAIN6]].bytes, protocol, &first, b);
        memcpy(b + head, payload, n);
        send_fragments(family, &f, first, b, head + n, pieces);
    } else {
        send_whole(family, &f, protocol, payload, n, (struct fragment){0});
    }
}

/* TCP-AO (RFC 5925): keys are added, shown, chosen and deleted; which ends connect; keys roll over while data flows;
 * what it counts. A kernel built without TCP-AO answers ENOPROTOOPT, which is all that is asked of it. */
#include "ends.h"

#ifndef TCP_AO_ADD_KEY
#define TCP_AO_ADD_KEY 38
#define TCP_AO_DEL_KEY 39
#define TCP_AO_INFO 40
#define TCP_AO_GET_KEYS 41
#endif

/* As in <linux/tcp.h>, which not every system has with them. */
struct add {
    struct sockaddr_storage addr;
    char alg_name[64];
    int ifindex;
    unsigned set_current : 1, set_rnext : 1, reserved : 30;
    unsigned short reserved2;
    unsigned char prefix, sndid, rcvid, maclen, keyflags, keylen, key[80];
} __attribute__((aligned(8)));

struct del {
    struct sockaddr_storage addr;
    int ifindex;
    unsigned set_current : 1, set_rnext : 1, del_async : 1, reserved : 29;
    unsigned short reserved2;
    unsigned char prefix, sndid, rcvid, current_key, rnext, keyflags;
} __attribute__((aligned(8)));

struct info {
    unsigned set_current : 1, set_rnext : 1, ao_required : 1, set_counters : 1, accept_icmps : 1, reserved : 27;
    unsigned short reserved2;
    unsigned char current_key, rnext;
    unsigned long long good, bad, key_not_found, ao_required_count, dropped_icmp;
} __attribute__((aligned(8)));

struct get {
    struct sockaddr_storage addr;
    char alg_name[64];
    unsigned char key[80];
    unsigned nkeys;
    unsigned short is_current : 1, is_rnext : 1, get_all : 1, reserved : 13;
    unsigned char sndid, rcvid, prefix, maclen, keyflags, keylen;
    int ifindex;
    unsigned long long good, bad;
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct add) == 288 && sizeof(struct del) == 144, "struct tcp_ao_add, tcp_ao_del");
_Static_assert(sizeof(struct info) == 48 && sizeof(struct get) == 304, "struct tcp_ao_info_opt, tcp_ao_getsockopt");

static struct sockaddr_storage address(int family)
{
    struct sockaddr_storage a = {.ss_family = family};
    if (family == AF_INET)
        ((struct sockaddr_in *)&a)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&a)->sin6_addr = in6addr_loopback;
    return a;
}

static int add(int fd, int family, const char *alg, const char *key, int sndid, int rcvid)
{
    struct add a = {.addr = address(family), .prefix = family == AF_INET ? 32 : 128, .sndid = sndid, .rcvid = rcvid};
    strcpy(a.alg_name, alg);
    a.keylen = strlen(key);
    memcpy(a.key, key, a.keylen);
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_AO_ADD_KEY, &a, sizeof a);
}

static int del(int fd, int sndid, int rcvid)
{
    struct del d = {.addr = address(AF_INET), .prefix = 32, .sndid = sndid, .rcvid = rcvid};
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_AO_DEL_KEY, &d, sizeof d);
}

static struct info info(int fd)
{
    struct info i = {.reserved = 0};
    socklen_t len = sizeof i;
    CHECK(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_INFO, &i, &len) == 0);
    EQ(len, sizeof i);
    return i;
}

static void keys(void)
{
    int fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    struct info none = {.reserved = 0};
    struct get got[3] = {{.get_all = 1, .nkeys = 2}};
    socklen_t len = sizeof none;
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_INFO, &none, &len), ENOENT);
    ERR(del(fd, 1, 2), ENOENT);
    CHECK(add(fd, AF_INET, "hmac(sha1)", "one", 1, 2) == 0);
    ERR(add(fd, AF_INET, "hmac(sha1)", "other", 1, 3), EEXIST);
    ERR(add(fd, AF_INET, "hmac(sha2)", "other", 3, 3), ENOENT);
    ERR(add(fd, AF_INET6, "hmac(sha1)", "other", 3, 3), EINVAL);
    CHECK(add(fd, AF_INET, "cmac(aes128)", "two", 3, 4) == 0 && add(fd, AF_INET, "hmac(sha256)", "three", 5, 6) == 0);

    /* There is room for two of three: what is behind stays. */
    memset(&got[2], 0x5a, sizeof got[2]);
    len = sizeof *got;
    CHECK(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_GET_KEYS, got, &len) == 0);
    EQ(len, sizeof *got);
    EQ(got[0].nkeys, 3);
    CHECK(got[0].sndid == 5 && got[0].rcvid == 6 && strcmp(got[0].alg_name, "hmac(sha256)") == 0);
    CHECK(got[1].sndid == 3 && got[1].keylen == 16 && strcmp(got[1].alg_name, "cmac(aes)") == 0 && got[1].maclen == 12);
    CHECK(got[2].nkeys == 0x5a5a5a5a && got[2].sndid == 0x5a);

    /* One key, in a place of a longer struct. */
    struct {
        struct get g;
        char more[8];
    } longer = {.g = {.addr = address(AF_INET), .prefix = 32, .sndid = 1, .rcvid = 2, .nkeys = 1000000}};
    len = sizeof longer;
    CHECK(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_GET_KEYS, &longer, &len) == 0);
    CHECK(len == sizeof(struct get) && longer.g.nkeys == 1 && memcmp(longer.g.key, "one", 4) == 0);
    longer.more[7] = 1;
    longer.g = (struct get){.get_all = 1, .nkeys = 1};
    len = sizeof longer;
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_GET_KEYS, &longer, &len), E2BIG);
    len = 0;
    ERR(usk_getsockopt(fd, IPPROTO_TCP, TCP_AO_GET_KEYS, got, &len), EINVAL);
    CHECK(del(fd, 1, 2) == 0 && del(fd, 3, 4) == 0 && del(fd, 5, 6) == 0);
    CHECK(usk_close(fd) == 0);
}

static int at_any_port(int family, struct sockaddr_storage *a, socklen_t *len)
{
    int lis = usk_socket(family, SOCK_STREAM, 0);
    *a = address(family);
    *len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    CHECK(usk_bind(lis, (struct sockaddr *)a, *len) == 0 && usk_listen(lis, 4) == 0);
    CHECK(usk_getsockname(lis, (struct sockaddr *)a, len) == 0);
    return lis;
}

/* A listener that sends with `sndid` and a client with these secrets; `s` is -1 when they do not connect. */
static struct ends ends(int family, const char *alg, const char *at_listener, const char *at_client, bool connects)
{
    struct sockaddr_storage a;
    socklen_t len;
    struct ends e = {at_any_port(family, &a, &len), usk_socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), -1};
    if (*at_listener)
        CHECK(add(e.lis, family, alg, at_listener, 1, 2) == 0);
    if (*at_client)
        CHECK(add(e.c, family, alg, at_client, 2, 1) == 0);
    open_ends(&e, &a, len, connects);
    return e;
}

static void who_connects(void)
{
    struct {
        const char *lis, *c;
        int connects;
    } rows[] = {{"one", "one", 1}, {"one", "two", 0}, {"one", "", 0}, {"", "one", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ends e = ends(AF_INET, "hmac(sha1)", rows[i].lis, rows[i].c, rows[i].connects);
        EQ(e.s >= 0, rows[i].connects);
        end(e);
    }
    const char *algs[] = {"cmac(aes128)", "hmac(sha256)", "hmac(sha512)", "hmac(md5)"};
    for (size_t i = 0; i < sizeof algs / sizeof *algs; i++) {
        struct ends e = ends(AF_INET6, algs[i], "secret", "secret", true);
        CHECK(e.s >= 0);
        end(e);
    }
    int fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_storage a = address(AF_INET);
    struct add other = {.addr = a, .prefix = 32, .alg_name = "hmac(sha1)", .keylen = 1};
    ((struct sockaddr_in *)&other.addr)->sin_addr.s_addr = htonl(0x0a000001);
    CHECK(usk_setsockopt(fd, IPPROTO_TCP, TCP_AO_ADD_KEY, &other, sizeof other) == 0);
    ((struct sockaddr_in *)&a)->sin_port = htons(9);
    ERR(usk_connect(fd, (struct sockaddr *)&a, sizeof(struct sockaddr_in)), EKEYREJECTED);
    CHECK(usk_close(fd) == 0);
}

static void a_connection(void)
{
    struct ends e = ends(AF_INET, "hmac(sha1)", "one", "one", true);
    CHECK(e.s >= 0);
    struct info at_s = info(e.s), at_c = info(e.c);
    CHECK(at_s.set_current && at_s.current_key == 1 && at_s.rnext == 2 && at_c.current_key == 2 && at_c.rnext == 1);
    crosses(e.c, e.s);

    /* A second pair of keys; the server asks for it, and the client turns to it with the next segment. */
    CHECK(add(e.s, AF_INET, "cmac(aes128)", "two", 11, 12) == 0);
    CHECK(add(e.c, AF_INET, "cmac(aes128)", "two", 12, 11) == 0);
    struct info next = {.set_rnext = 1, .rnext = 12};
    CHECK(usk_setsockopt(e.s, IPPROTO_TCP, TCP_AO_INFO, &next, sizeof next) == 0);
    EQ(usk_send(e.s, "down", 4, 0), 4);
    EXPECT(e.c, "down");
    EQ(info(e.c).current_key, 12);
    EQ(usk_send(e.c, "up", 2, 0), 2);
    EXPECT(e.s, "up");
    ERR(del(e.s, 1, 2), EBUSY);
    struct del d = {.addr = address(AF_INET), .prefix = 32, .sndid = 1, .rcvid = 2};
    d.set_current = 1;
    d.current_key = 11;
    CHECK(usk_setsockopt(e.s, IPPROTO_TCP, TCP_AO_DEL_KEY, &d, sizeof d) == 0);
    EQ(usk_send(e.s, "on", 2, 0), 2);
    EXPECT(e.c, "on");
    at_s = info(e.s);
    CHECK(at_s.good > 1 && at_s.bad == 0 && at_s.key_not_found == 0 && at_s.ao_required_count == 0);
    CHECK(usk_close(e.c) == 0);
    char b;
    EQ(usk_recv(e.s, &b, 1, 0), 0);
    CHECK(usk_close(e.lis) == 0 && usk_close(e.s) == 0);
}

int main(void)
{
    begin("tcp_ao");
#ifdef KERNEL_SOCKETS
    int fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    int there = add(fd, AF_INET, "hmac(sha1)", "one", 1, 2) == 0;
    CHECK(there || errno == ENOPROTOOPT);
    CHECK(usk_close(fd) == 0);
    if (!there)
        return done();
#endif
    keys();
    who_connects();
    a_connection();
    return done();
}

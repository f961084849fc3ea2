/* Classic BPF on sockets: SO_ATTACH_FILTER and its errors, SO_DETACH_FILTER, SO_LOCK_FILTER, SO_GET_FILTER; what a
 * filter drops and cuts on UDP, TCP and raw sockets, and where its packet begins on each. usk_socket(7), bpf(4). */
#include "common.h"
#include <linux/filter.h>
#include <netinet/ip.h>

#ifndef SO_GET_FILTER
#define SO_GET_FILTER SO_ATTACH_FILTER
#endif

static int attach(int fd, struct sock_filter *code, unsigned short n)
{
    struct sock_fprog p = {.len = n, .filter = code};
    return usk_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof p);
}
#define ATTACH(fd, code) attach(fd, code, sizeof code / sizeof *code)

static void option_errors(void)
{
    int fd = usk_socket(AF_INET, SOCK_DGRAM, 0), one = 1, zero = 0;
    struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, 0xffff)};
    struct sock_filter no_end[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
    struct sock_filter by_zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, 1)};
    struct sock_filter away[] = {BPF_STMT(BPF_JMP | BPF_JA, 1), BPF_STMT(BPF_RET | BPF_K, 1)};
    struct sock_filter unwritten[] = {BPF_STMT(BPF_LD | BPF_MEM, 0), BPF_STMT(BPF_RET | BPF_A, 0)};
    struct sock_filter unknown[] = {BPF_STMT(0x38, 0), BPF_STMT(BPF_RET | BPF_K, 1)};
    CHECK(fd >= 0);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one), ENOENT);
    ERR(ATTACH(fd, no_end), EINVAL);
    ERR(ATTACH(fd, by_zero), EINVAL);
    ERR(ATTACH(fd, away), EINVAL);
    ERR(ATTACH(fd, unwritten), EINVAL);
    ERR(ATTACH(fd, unknown), EINVAL);
    ERR(attach(fd, all, 0), EINVAL);
    ERR(attach(fd, NULL, 1), EINVAL);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, all, 4), EINVAL);
    CHECK(ATTACH(fd, all) == 0);

    struct sock_filter got[4] = {{0}};
    socklen_t len = 0;
    CHECK(usk_getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, &len) == 0 && len == 1); /* how many there are */
    len = 4;
    CHECK(usk_getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, &len) == 0 && len == 1);
    CHECK(got[0].code == all[0].code && got[0].k == all[0].k);
    struct sock_filter two[] = {BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_RET | BPF_A, 0)};
    CHECK(ATTACH(fd, two) == 0);
    len = 1;
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, got, &len), EINVAL);

    len = sizeof one;
    CHECK(usk_getsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, &len) == 0 && one == 0);
    one = 1;
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero) == 0);
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one) == 0);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &zero, sizeof zero), EPERM);
    ERR(ATTACH(fd, all), EPERM);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one), EPERM);
    CHECK(usk_close(fd) == 0);

    /* A lock without a filter forbids one. */
    fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one) == 0);
    ERR(ATTACH(fd, all), EPERM);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one), EPERM);
    CHECK(usk_close(fd) == 0);
}

static struct sockaddr_in loopback(int fd)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    CHECK(usk_bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(usk_getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    return a;
}

/* On UDP the packet begins with the UDP header: a filter on the first byte of the payload, and one that cuts. */
static void datagrams(void)
{
    int in = usk_socket(AF_INET, SOCK_DGRAM, 0), out = usk_socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    struct sockaddr_in to = loopback(in);
    char buf[64];
    struct sock_filter begins_with_b[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, sizeof(struct udphdr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'b', 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_filter cut[] = {BPF_STMT(BPF_RET | BPF_K, sizeof(struct udphdr) + 3)};
    struct sock_filter in_header[] = {BPF_STMT(BPF_RET | BPF_K, 1)};
    struct sock_filter by_length[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(struct udphdr) + 2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_filter of_udp_over_ip[] = { /* the network header's protocol, and what the kernel says of the packet */
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SKF_NET_OFF + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_PROTOCOL),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
#define SEND(text)                                                                                                     \
    EQ(usk_sendto(out, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to), (ssize_t)strlen(text))
#define GETS(want, n) CHECK(usk_recv(in, buf, sizeof buf, MSG_DONTWAIT) == (n) && memcmp(buf, want, n) == 0)
    CHECK(ATTACH(in, begins_with_b) == 0);
    SEND("apple");
    SEND("banana");
    GETS("banana", 6);
    ERR(usk_recv(in, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    CHECK(ATTACH(in, cut) == 0);
    SEND("apple");
    GETS("app", 3);
    CHECK(ATTACH(in, in_header) == 0); /* the header stays */
    SEND("apple");
    CHECK(usk_recv(in, buf, sizeof buf, MSG_DONTWAIT) == 0);
    CHECK(ATTACH(in, by_length) == 0);
    SEND("abc");
    SEND("ab");
    GETS("ab", 2);
    CHECK(ATTACH(in, of_udp_over_ip) == 0);
    SEND("all");
    GETS("all", 3);
    CHECK(usk_setsockopt(in, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one) == 0);
    SEND("free");
    GETS("free", 4);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0);
}

#ifndef ON_SERVER /* to which no filter goes */
/* On TCP it begins with the TCP header. A listener's filter decides who may connect, and its connections inherit it. */
static void connections(void)
{
    int lis = usk_socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in to = loopback(lis), from;
    socklen_t len = sizeof from;
    char buf[8];
    CHECK(usk_listen(lis, 4) == 0);
    struct sock_filter no_urgent[] = { /* drops what has URG */
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x20, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    CHECK(ATTACH(lis, no_urgent) == 0);
    int c = usk_socket(AF_INET, SOCK_STREAM, 0);
    CHECK(usk_connect(c, (struct sockaddr *)&to, sizeof to) == 0);
    int s = usk_accept(lis, (struct sockaddr *)&from, &len);
    CHECK(s >= 0);
    CHECK(usk_send(c, "ab", 2, 0) == 2 && usk_recv(s, buf, sizeof buf, 0) == 2);
    struct sock_filter got[8];
    len = 8;
    CHECK(usk_getsockopt(s, SOL_SOCKET, SO_GET_FILTER, got, &len) == 0 && len == 4);
    CHECK(usk_setsockopt(s, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one) == 0);
    CHECK(usk_close(c) == 0 && usk_close(s) == 0);

    /* Nobody may connect. */
    struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
    CHECK(ATTACH(lis, none) == 0);
    c = usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ERR(usk_connect(c, (struct sockaddr *)&to, sizeof to), EINPROGRESS);
    struct pollfd p = {.fd = c, .events = POLLOUT};
    CHECK(usk_poll(&p, 1, 100) == 0);
    CHECK(usk_close(c) == 0 && usk_close(lis) == 0);
}
#endif

/* On a raw socket of IPv4 the packet begins with the IP header. */
static void raw(void)
{
    int in = usk_socket(AF_INET, SOCK_RAW, IPPROTO_UDP), out = usk_socket(AF_INET, SOCK_DGRAM, 0);
    char buf[128];
    if (in < 0) {
        CHECK(errno == EPERM || errno == EACCES);
        return;
    }
    struct sock_filter to_port_9999[] = {
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 9999, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 24),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    CHECK(ATTACH(in, to_port_9999) == 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(9998)};
    CHECK(usk_sendto(out, "x", 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
    to.sin_port = htons(9999);
    int again = usk_socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(usk_sendto(again, "yyyyyyyy", 8, 0, (struct sockaddr *)&to, sizeof to) == 8);
    CHECK(usk_recv(in, buf, sizeof buf, MSG_DONTWAIT) == 24); /* cut behind the ports */
    ERR(usk_recv(in, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    CHECK(usk_close(in) == 0 && usk_close(out) == 0 && usk_close(again) == 0);
}

int main(void)
{
    begin("socket_filter");
    option_errors();
    datagrams();
#ifndef ON_SERVER
    connections();
#endif
    raw();
    return done();
}

/* TCP_MD5SIG with the kernel as the peer, across a TUN device: each end opens to the other, over IPv4 and IPv6, with
 * and without the same key. Runs in a network namespace of its own; makes the device uskm. RFC 2385. */
#include "common.h"

struct md5sig { /* struct tcp_md5sig, which <netinet/tcp.h> and <linux/tcp.h> both have */
    struct sockaddr_storage addr;
    unsigned char flags, prefixlen;
    unsigned short keylen;
    int ifindex;
    unsigned char key[80];
};

enum { BYTES = 400000 };
static char data[BYTES];

static struct md5sig key_for(struct addr peer, const char *key)
{
    struct md5sig s = {.keylen = strlen(key)};
    memcpy(&s.addr, &peer.sa, peer.len);
    memcpy(s.key, key, s.keylen);
    return s;
}

static void *sends(void *fd)
{
    for (ssize_t at = 0, n; at < BYTES; at += n) {
        n = send(*(int *)fd, data + at, BYTES - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
    }
    return NULL;
}

/* Bytes each way, more than a segment. `ours` is of usersock, `theirs` of the kernel. */
static void exchange(int ours, int theirs)
{
    static char back[BYTES];
    pthread_t t = spawn(sends, &theirs);
    for (ssize_t at = 0, n; at < BYTES; at += n) {
        n = usk_recv(ours, back + at, BYTES - at, 0);
        CHECK(n > 0);
        if (n <= 0)
            break;
    }
    join(t);
    CHECK(memcmp(back, data, BYTES) == 0);
    send_all(ours, "back", 4);
    EQ(recv(theirs, back, 4, MSG_WAITALL), 4);
}

static void ours_opens(struct addr here, struct addr there, const char *theirs, const char *ours, bool connects)
{
    int lis = (int)OK(socket(there.sa.sa_family, SOCK_STREAM, 0)), one = 1;
    OK(setsockopt(lis, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    OK(bind(lis, &there.sa, there.len));
    OK(listen(lis, 4));
    struct md5sig s = key_for(here, theirs);
    OK(setsockopt(lis, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s));
    int c = (int)OK(usk_socket(there.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    s = key_for(there, ours);
    OK(usk_setsockopt(c, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s));
    ERR(usk_connect(c, &there.sa, there.len), EINPROGRESS);
    struct pollfd p = {.fd = c, .events = POLLOUT};
    EQ(usk_poll(&p, 1, connects ? -1 : 200), connects);
    if (connects) {
        OK(usk_fcntl(c, F_SETFL, 0));
        int peer = (int)OK(accept(lis, NULL, NULL));
        exchange(c, peer);
        OK(usk_close(c));
        char b;
        EQ(recv(peer, &b, 1, 0), 0);
        close(peer);
    } else {
        OK(usk_close(c));
    }
    close(lis);
}

static void theirs_opens(struct addr here, struct addr there, const char *theirs, const char *ours, bool connects)
{
    int lis = (int)OK(usk_socket(here.sa.sa_family, SOCK_STREAM, 0)), one = 1;
    OK(usk_setsockopt(lis, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    OK(usk_bind(lis, &here.sa, here.len));
    OK(usk_listen(lis, 4));
    struct md5sig s = key_for(there, ours);
    OK(usk_setsockopt(lis, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s));
    int c = (int)OK(socket(here.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    s = key_for(here, theirs);
    OK(setsockopt(c, IPPROTO_TCP, TCP_MD5SIG, &s, sizeof s));
    ERR(connect(c, &here.sa, here.len), EINPROGRESS);
    struct pollfd p = {.fd = c, .events = POLLOUT};
    EQ(poll(&p, 1, connects ? -1 : 200), connects);
    if (connects) {
        OK(fcntl(c, F_SETFL, 0));
        int peer = (int)OK(usk_accept(lis, NULL, NULL));
        exchange(peer, c);
        close(c);
        EXPECT_EOF(peer);
        OK(usk_close(peer));
    } else {
        close(c);
    }
    OK(usk_close(lis));
}

int main(void)
{
    setenv("USERSOCK_CONFIG", "tun=uskm,addr=10.9.7.2/24,addr=fd09::2/64", 1);
    begin("md5sig_tun");
    CHECK(system("PATH=$PATH:/usr/sbin:/sbin; ip addr add 10.9.7.1/24 dev uskm && "
                 "ip -6 addr add fd09::1/64 dev uskm nodad") == 0);
    for (int i = 0; i < BYTES; i++)
        data[i] = (char)(i * 7 ^ i >> 9);
    struct addr here[] = {at("10.9.7.2", 700), at("fd09::2", 700)}, there[] = {at("10.9.7.1", 701), at("fd09::1", 701)};
    for (int i = 0; i < 2; i++) {
        ours_opens(here[i], there[i], "one", "one", true);
        theirs_opens(here[i], there[i], "one", "one", true);
        ours_opens(here[i], there[i], "one", "two", false);
        theirs_opens(here[i], there[i], "one", "two", false);
    }
    return done();
}

/* The record layer of plugins/rec_ulp.c: bulk in records of many sizes, readiness with a record that comes in pieces,
 * invalid records, buffered bytes when the program closes, removal. */
#include "common.h"
#include "../plugins/rec_ulp.h"

static usk_stack_t *stack;
static int l;

static void listen_here(void)
{
    struct addr a = at("127.0.0.1", 0);
    l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 4));
}

static void pair(int fd[2])
{
    struct addr a = sock_name(l);
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1));
    OK(set_int(fd[1], IPPROTO_TCP, TCP_NODELAY, 1));
}

static int install(int fd)
{
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "rec", 3);
}

static struct rec_stats stats(int fd)
{
    struct rec_stats s;
    socklen_t len = sizeof s;
    OK(usk_getsockopt(fd, SOL_REC, REC_STATS, &s, &len));
    EQ(len, sizeof s);
    return s;
}

/* ---- bulk ---- */

enum { BULK = 4 << 20 };
static const int sizes[] = { 1, 2, 100, 16384, 16385, 12, 50000, 3, 1448, 7, 200000, 16383 };

struct stream {
    int fd, seed;
};

static void *send_stream(void *arg)
{
    struct stream *s = arg;
    uint8_t *buf = malloc(200000);
    int at = 0;
    for (int i = 0; at < BULK; i++) {
        int n = sizes[i % COUNT(sizes)];
        if (n > BULK - at)
            n = BULK - at;
        for (int k = 0; k < n; k++)
            buf[k] = pattern(s->seed, at + k);
        /* Once with REC_MAX small, so that a call makes many records. */
        if (i == 20)
            OK(set_int(s->fd, SOL_REC, REC_MAX, 1000));
        if (i == 40)
            OK(set_int(s->fd, SOL_REC, REC_MAX, REC_MAX_PAYLOAD));
        send_all(s->fd, buf, n);
        at += n;
    }
    OK(usk_shutdown(s->fd, SHUT_WR));
    free(buf);
    return NULL;
}

static void *recv_stream(void *arg)
{
    struct stream *s = arg;
    uint8_t buf[30000];
    static const int room[] = { 1, 30000, 77, 4096, 20000 };
    int at = 0;
    for (int i = 0;; i++) {
        size_t want = room[i % COUNT(room)];
        ssize_t n = OK(usk_recv(s->fd, buf, want, i % 7 == 0 ? MSG_WAITALL : 0));
        if (n == 0)
            break;
        for (int k = 0; k < n; k++)
            CHECK(buf[k] == pattern(s->seed, at + k));
        at += n;
    }
    EQ(at, BULK);
    return NULL;
}

static void bulk(void)
{
    int fd[2];
    pair(fd);
    OK(install(fd[0]));
    OK(install(fd[1]));
    struct stream s[4] = { { fd[0], 1 }, { fd[1], 2 }, { fd[0], 2 }, { fd[1], 1 } };
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        t[i] = spawn(i < 2 ? send_stream : recv_stream, &s[i]);
    for (int i = 0; i < 4; i++)
        join(t[i]);
    for (int i = 0; i < 2; i++) {
        struct rec_stats a = stats(fd[i]), b = stats(fd[!i]);
        EQ(a.bytes_out, BULK);
        EQ(b.bytes_in, BULK);
        EQ(a.records_out, b.records_in);
        EQ(a.held_out + a.held_in + a.bad, 0);
    }
    close_pair(fd);
}

/* ---- a peer without the layer, which makes records by hand ---- */

static uint32_t crc32c(const uint8_t *p, size_t len, uint32_t crc)
{
    for (crc = ~crc; len--; p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static size_t record(uint8_t *to, uint32_t number, const char *text)
{
    uint32_t len = strlen(text), h[3] = { htonl(len), htonl(number), 0 };
    memcpy(to, h, sizeof h);
    memcpy(to + REC_HEADER, text, len);
    h[2] = htonl(crc32c(to + REC_HEADER, len, crc32c(to, 8, 0)));
    memcpy(to, h, sizeof h);
    return REC_HEADER + len;
}

static void await_held(int fd, uint32_t want)
{
    struct pollfd p = { .fd = fd, .events = POLLPRI };
    while (stats(fd).held_in != want) {
        ready(fd, POLLIN);
        OK(usk_poll(&p, 1, 1));
    }
}

static int epoll_ready(int ep)
{
    struct epoll_event e = { 0 };
    return OK(usk_epoll_wait(ep, &e, 1, 0)) ? (int)e.events : 0;
}

static void pieces(void)
{
    int fd[2], ep = (int)OK(usk_epoll_create1(0));
    uint8_t r[200];
    char buf[64];
    pair(fd);
    OK(install(fd[1]));
    struct epoll_event want = { .events = EPOLLIN };
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], &want));
    size_t n = record(r, 0, "in pieces");
    n += record(r + n, 1, "and another");
    size_t first = REC_HEADER + 9, held = 0;
    for (size_t i = 0; i < first; i++) {
        EQ(ready(fd[1], POLLIN | POLLOUT), POLLOUT);
        EQ(epoll_ready(ep), 0);
        ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
        EQ(usk_ulp_remove(fd[1]), i == 0 ? 0 : -1);
        if (i == 0)
            OK(install(fd[1]));
        else
            EQ(errno, EBUSY);
        send_all(fd[0], r + i, 1);
        held++;
        await_held(fd[1], i + 1 < first ? held : 9);
    }
    EQ(ready(fd[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ(epoll_ready(ep), EPOLLIN);
    EQ(get_int(fd[1], SOL_REC, REC_MAX), REC_MAX_PAYLOAD);
    int value = 0;
    OK(usk_ioctl(fd[1], SIOCINQ, &value));
    EQ(value, 9);
    /* Looked at, read in parts: readable until all is read. */
    EQ(usk_recv(fd[1], buf, sizeof buf, MSG_PEEK), 9);
    EQ(usk_recv(fd[1], buf, 4, 0), 4);
    EQ(ready(fd[1], POLLIN), POLLIN);
    EQ(usk_recv(fd[1], buf + 4, sizeof buf - 4, 0), 5);
    EQ(memcmp(buf, "in pieces", 9), 0);
    EQ(ready(fd[1], POLLIN), 0);
    /* Half a record does not end a sleeping recv; the rest of it, and the end of the stream, do. */
    send_all(fd[0], r + first, 5);
    await_held(fd[1], 5);
    send_all(fd[0], r + first + 5, n - first - 5);
    EQ(await(fd[1], POLLIN), POLLIN);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(usk_recv(fd[1], buf, sizeof buf, MSG_WAITALL), 11);
    EQ(await(fd[1], POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
    EXPECT_EOF(fd[1]);
    EXPECT_EOF(fd[1]);
    /* The other way a peer without the layer sees records. */
    send_all(fd[1], "back", 4);
    EQ(usk_recv(fd[0], buf, REC_HEADER + 4, MSG_WAITALL), REC_HEADER + 4);
    n = record(r, 0, "back");
    EQ(memcmp(buf, r, n), 0);
    ERR(usk_send(fd[1], "x", 1, MSG_OOB), EOPNOTSUPP);
    ERR(usk_recv(fd[1], buf, 1, MSG_OOB), EOPNOTSUPP);
    OK(usk_close(ep));
    close_pair(fd);
}

/* SO_RCVLOWAT counts the program's bytes: TCP tells of the few that complete a record all the same. */
static void *receive_low(void *fd)
{
    char buf[200];
    EQ(usk_recv(*(int *)fd, buf, sizeof buf, 0), 120);
    return NULL;
}

static void lowat(void)
{
    static const char sixty[] = "sixty bytes of text, no more, no less, for a record to carry.";
    int fd[2];
    uint8_t r[200];
    char buf[200];
    pair(fd);
    OK(install(fd[1]));
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 100));
    size_t n = 0;
    for (uint32_t i = 0; i < 2; i++)
        n += record(r + n, i, sixty + 1);
    send_all(fd[0], r, n - 7);
    await_held(fd[1], 60);
    EQ(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), 60);
    await_held(fd[1], REC_HEADER + 53);
    send_all(fd[0], r + n - 7, 7);
    EQ(await(fd[1], POLLIN), POLLIN);
    EQ(usk_recv(fd[1], buf, 20, 0), 20);
    EQ(usk_recv(fd[1], buf, 40, 0), 40);
    pthread_t thread = spawn(receive_low, &fd[1]);
    for (uint32_t i = 2; i < 4; i++) {
        n = record(r, i, sixty + 1);
        send_all(fd[0], r, n);
    }
    join(thread);
    close_pair(fd);
}

/* ---- bad records ---- */

static void corruption(void)
{
    static const char *const how[] = { "a length of 0", "a length too great", "a wrong number", "a flipped bit",
        "a flipped sum", "an end inside" };
    uint64_t before, after;
    OK(usk_mib_read(stack, "RecBadRecords", &before));
    for (int i = 0; i < COUNT(how); i++) {
        int fd[2];
        uint8_t r[64];
        char buf[64];
        pair(fd);
        OK(install(fd[1]));
        size_t good = record(r, 0, "good"), n = good + record(r + good, i == 2 ? 7 : 1, "to be broken");
        uint32_t length = htonl(i == 0 ? 0 : REC_MAX_PAYLOAD + 1);
        if (i < 2)
            memcpy(r + good, &length, 4);
        if (i == 3)
            r[n - 1] ^= 1;
        if (i == 4)
            r[good + 8] ^= 0x80;
        if (i == 5)
            n--;
        send_all(fd[0], r, n);
        if (i == 5)
            OK(usk_shutdown(fd[0], SHUT_WR));
        /* Records before it are delivered; then every call returns the error. */
        EXPECT(fd[1], "good");
        int e = usk_recv(fd[1], buf, sizeof buf, 0);
        if (e != -1 || errno != EBADMSG) {
            printf("%s: %d %s\n", how[i], e, errno_name(errno));
            failures++;
        }
        EQ(ready(fd[1], POLLIN) & (POLLIN | POLLHUP), POLLIN | POLLHUP);
        ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), EBADMSG);
        ERR(usk_send(fd[1], "x", 1, MSG_NOSIGNAL), EBADMSG);
        EQ(stats(fd[1]).bad, 1);
        ERR(usk_recv(fd[0], buf, sizeof buf, 0), ECONNRESET);
        close_pair(fd);
    }
    /* A poll that finds it tells, as does SO_ERROR. */
    int fd[2];
    pair(fd);
    OK(install(fd[1]));
    send_all(fd[0], "this is no record at all", 24);
    int m = await(fd[1], POLLIN);
    EQ(m & (POLLERR | POLLHUP | POLLIN), POLLERR | POLLHUP | POLLIN);
    EQ(so_error(fd[1]), EBADMSG);
    EQ(so_error(fd[1]), 0);
    char c;
    ERR(usk_recv(fd[1], &c, 1, 0), EBADMSG);
    close_pair(fd);
    OK(usk_mib_read(stack, "RecBadRecords", &after));
    EQ(after - before, COUNT(how) + 1);
}

/* ---- no room ---- */

/* Sends until it would wait; gives the bytes taken. */
static size_t stuff(int fd)
{
    static uint8_t buf[5000];
    size_t sent = 0;
    set_nonblock(fd, true);
    for (;;) {
        for (size_t i = 0; i < sizeof buf; i++)
            buf[i] = pattern(9, sent + i);
        ssize_t n = usk_send(fd, buf, sizeof buf, MSG_NOSIGNAL);
        if (n < 0)
            break;
        sent += (size_t)n;
    }
    EQ(errno, EAGAIN);
    return sent;
}

static void drain(int fd, size_t want)
{
    static uint8_t buf[65536];
    size_t got = 0;
    while (got < want) {
        ssize_t n = OK(usk_recv(fd, buf, sizeof buf, 0));
        CHECK(n > 0);
        for (ssize_t i = 0; i < n; i++)
            CHECK(buf[i] == pattern(9, got + i));
        got += (size_t)n;
    }
    EQ(got, want);
}

static void no_room(void)
{
    int busy = 0, unwritable = 0;
    /* Buffers of several sizes, so that TCP takes part of a record at least in one. */
    for (int size = 4096; size <= 20000; size += 2500) {
        for (int end = 0; end < 3; end++) {
            int fd[2];
            pair(fd);
            OK(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, size));
            OK(set_int(fd[1], SOL_SOCKET, SO_RCVBUF, 65536));
            OK(install(fd[0]));
            OK(install(fd[1]));
            size_t sent = stuff(fd[0]);
            CHECK(sent > 0);
            /* Acknowledgements may come at any moment, and make room; so it may be writable again, and let go again. */
            unwritable += ready(fd[0], POLLOUT) == 0;
            int outq = 0;
            OK(usk_ioctl(fd[0], SIOCOUTQ, &outq));
            CHECK(outq >= (int)stats(fd[0]).held_out);
            bool removed = usk_ulp_remove(fd[0]) == 0;
            if (!removed)
                EQ(errno, EBUSY);
            busy += !removed;
            if (end == 1)
                OK(usk_shutdown(fd[0], SHUT_WR));
            if (end == 2)
                OK(usk_close(fd[0]));
            drain(fd[1], sent);
            if (end == 0) {
                /* Writable again, without another call of the layer: acknowledgements hand on what it holds. */
                EQ(await(fd[0], POLLOUT), POLLOUT);
                if (!removed)
                    EQ(stats(fd[0]).held_out, 0);
                OK(usk_shutdown(fd[0], SHUT_WR));
            }
            EXPECT_EOF(fd[1]);
            OK(usk_close(fd[1]));
            if (end != 2)
                OK(usk_close(fd[0]));
        }
    }
    CHECK(busy > 0);
    CHECK(unwritable > 0);
}

/* ---- there and gone ---- */

static void removal(usk_plugin_t *plugin)
{
    int fd[2];
    char name[16] = "x";
    socklen_t len = sizeof name;
    pair(fd);
    ERR(usk_ulp_remove(fd[0]), EINVAL);
    send_all(fd[0], "plain", 5);
    EXPECT(fd[1], "plain");
    OK(install(fd[0]));
    OK(install(fd[1]));
    ERR(install(fd[0]), EEXIST);
    OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_ULP, name, &len));
    EQ(strcmp(name, "rec"), 0);
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    send_all(fd[0], "records", 7);
    ERR(set_int(fd[0], SOL_REC, 99, 1), ENOPROTOOPT);
    ERR(set_int(fd[0], SOL_REC, REC_MAX, 0), EINVAL);
    ERR(set_int(fd[0], SOL_REC, REC_MAX, REC_MAX_PAYLOAD + 1), EINVAL);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 0)); /* passed on */
    EQ(get_int(fd[0], IPPROTO_TCP, TCP_NODELAY), 0);
    EQ(await(fd[1], POLLIN), POLLIN);
    ERR(usk_ulp_remove(fd[1]), EBUSY);
    EXPECT(fd[1], "records");
    OK(usk_ulp_remove(fd[1]));
    OK(usk_ulp_remove(fd[0]));
    send_all(fd[0], "plain again", 11);
    EXPECT(fd[1], "plain again");
    int max = 5;
    ERR(usk_setsockopt(fd[0], SOL_REC, REC_MAX, &max, sizeof max), ENOPROTOOPT);
    close_pair(fd);
    /* No connection yet, and none of TCP. */
    int s = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0)),
        u = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    ERR(install(s), ENOTCONN);
    ERR(usk_ulp_remove(u), EINVAL);
    ERR(usk_ulp_remove(-1), EBADF);
    ERR(usk_ulp_remove(0), ENOTSOCK);
    OK(usk_close(s));
    OK(usk_close(u));
    /* A listener's children have it. */
    OK(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(install(l));
    EQ(ready(l, POLLIN), 0);
    pair(fd);
    OK(install(fd[0]));
    send_all(fd[0], "child", 5);
    EXPECT(fd[1], "child");
    /* Bytes nobody read: a reset. */
    send_all(fd[0], "unread", 6);
    EQ(await(fd[1], POLLIN), POLLIN);
    OK(usk_close(fd[1]));
    char c;
    ERR(usk_recv(fd[0], &c, 1, 0), ECONNRESET);
    OK(usk_close(fd[0]));
    OK(usk_ulp_remove(l));
}

/* ---- ends ---- */

static void to_unspec(int fd)
{
    struct sockaddr none = { .sa_family = AF_UNSPEC };
    OK(usk_connect(fd, &none, sizeof none));
    so_error(fd); /* its own reset */
}

static void talk(int fd[2])
{
    send_all(fd[0], "one way", 7);
    EXPECT(fd[1], "one way");
    send_all(fd[1], "and the other", 13);
    EXPECT(fd[0], "and the other");
    close_pair(fd);
}

static void ends(void)
{
    int fd[2];
    char c;
    /* After the program's own end nothing is taken, not even nothing. */
    pair(fd);
    OK(install(fd[0]));
    EQ(usk_send(fd[0], "", 0, 0), 0);
    OK(usk_shutdown(fd[0], SHUT_WR));
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR(usk_send(fd[0], "", 0, MSG_NOSIGNAL), EPIPE);
    EQ(stats(fd[0]).held_out, 0);
    EXPECT_EOF(fd[1]);
    close_pair(fd);
    /* A reset is told by the first call after it: to a sender with and without a record under way, and to a reader
     * inside one. */
    for (int full = 0; full < 2; full++) {
        pair(fd);
        OK(install(fd[0]));
        if (full) {
            OK(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 4096));
            stuff(fd[0]);
        } else {
            send_all(fd[0], "unread", 6);
            EQ(await(fd[1], POLLIN), POLLIN);
        }
        OK(usk_close(fd[1]));
        EQ(await(fd[0], POLLHUP) & (POLLERR | POLLHUP), POLLERR | POLLHUP);
        ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), ECONNRESET);
        ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
        OK(usk_close(fd[0]));
    }
    pair(fd);
    OK(install(fd[0]));
    uint8_t r[64];
    size_t n = record(r, 0, "cut short");
    send_all(fd[1], r, n - 3);
    await_held(fd[0], n - 3);
    send_all(fd[0], "unread", 6);
    EQ(await(fd[1], POLLIN), POLLIN);
    OK(usk_close(fd[1]));
    ERR(usk_recv(fd[0], &c, 1, 0), ECONNRESET);
    ERR(usk_recv(fd[0], &c, 1, 0), EBADMSG);
    OK(usk_close(fd[0]));
    /* A socket that begins anew keeps the layer, and nothing of the old connection. */
    struct addr a = sock_name(l);
    pair(fd);
    OK(install(fd[0]));
    OK(install(fd[1]));
    send_all(fd[0], "number 0", 8);
    EXPECT(fd[1], "number 0");
    OK(usk_ulp_remove(fd[1]));
    send_all(fd[1], r, n - 3);
    await_held(fd[0], n - 3);
    OK(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 4096));
    stuff(fd[0]);
    set_nonblock(fd[0], false);
    to_unspec(fd[0]);
    EQ(stats(fd[0]).held_out + stats(fd[0]).held_in, 0);
    OK(usk_close(fd[1]));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(install(fd[1]));
    talk(fd);
    /* So does one that listened. */
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_listen(fd[0], 1));
    OK(install(fd[0]));
    OK(usk_shutdown(fd[0], SHUT_RD));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(install(fd[1]));
    talk(fd);
}

int main(int argc, char **argv)
{
    begin("rec_ulp");
    CHECK(argc == 2);
    char so[512];
    snprintf(so, sizeof so, "%s/rec_ulp.so", argv[1]);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    listen_here();
    int fd[2];
    pair(fd);
    ERR(install(fd[0]), ENOENT);
    close_pair(fd);
    usk_plugin_t *plugin = usk_plugin_load(stack, so);
    CHECK(plugin != NULL);
    CHECK(usk_plugin_load(stack, so) == NULL);
    EQ(errno, EEXIST);
    char list[64];
    OK(usk_sysctl_get(stack, "net.ipv4.tcp_available_ulp", list, sizeof list));
    EQ(strcmp(list, "rec"), 0);
    bulk();
    pieces();
    lowat();
    corruption();
    no_room();
    ends();
    removal(plugin);
    OK(usk_close(l));
    unloaded(plugin);
    usk_stack_free(stack);
    return done();
}

/* Calls of a plug-in that come at the wrong time, twice, or with too much: each is refused, and nothing is left in a
 * table, a queue or an account. The scenes run in setsockopt of the program's own protocol. */
#include "common.h"
#include "misuse.h"

static void ports(usk_sock_t *sk, usk_owned_t *o)
{
    usk_addr_t a, from = loopback;
    from.port = 9;
    EQ(usk_get_port(o, 5000), 0);
    EQ(usk_get_port(o, 5001), -EINVAL);
    EQ(usk_get_port(o, 0), -EINVAL);
    EQ(usk_hash(o), 0);
    EQ(usk_ends(o, &a, NULL), 0);
    EQ(a.port, 5000);
    usk_sock_t *found = usk_proto_lookup(registered, &loopback, &from, 1);
    CHECK(found == sk);
    usk_sock_put(found);
    /* Off the port, and on another. */
    EQ(usk_unhash(o), 0);
    EQ(usk_unhash(o), 0);
    CHECK(usk_proto_lookup(registered, &loopback, &from, 1) == NULL);
    EQ(usk_get_port(o, 5001), 0);
    CHECK(usk_proto_lookup(registered, &loopback, &from, 1) == NULL);
    EQ(usk_unhash(o), 0);
    EQ(usk_get_port(o, 5000), 0);
}

static void ends(usk_sock_t *sk, usk_owned_t *o)
{
    usk_addr_t l = loopback, p = loopback, six = { .family = AF_INET6, .port = 1, .addr = { [15] = 1 } };
    usk_addr_t mapped = { .family = AF_INET6, .port = 5000, .addr = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
    p.port = 77;
    EQ(usk_get_port(o, 5000), 0);
    l.port = 5001;
    EQ(usk_set_ends(o, &l, &p), -EINVAL); /* in the table it is under 5000 */
    EQ(usk_set_ends(o, &six, &six), -EINVAL);
    EQ(usk_set_ends(o, &six, &p), -EINVAL);
    EQ(usk_unhash(o), 0);
    EQ(usk_set_ends(o, &six, &six), -EAFNOSUPPORT);
    p.port = 0;
    EQ(usk_set_ends(o, &loopback, &p), -EINVAL);
    p.port = 77;
    EQ(usk_set_ends(o, &mapped, &p), 0); /* one address in two forms */
    EQ(usk_ends(o, &l, &p), 0);
    EQ(l.family, AF_INET);
    EQ(p.port, 77);
    (void)sk;
}

static void packets_at_their_limits(void)
{
    size_t huge = (size_t)3 << 30;
    char *much = mmap(NULL, huge, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(much != MAP_FAILED);
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_append(skb, much, huge), -EMSGSIZE);
    EQ(usk_skb_append(skb, much, SIZE_MAX), -EFAULT);
    EQ(usk_skb_len(skb), 0);
    OK(munmap(much, huge));
    CHECK(usk_skb_push(skb, 129) == NULL && usk_skb_push(skb, SIZE_MAX) == NULL);
    CHECK(usk_skb_push(skb, 128) != NULL);
    CHECK(usk_skb_push(skb, 1) == NULL && usk_skb_push(skb, 0) != NULL);
    EQ(usk_skb_pull(skb, 129), -EINVAL);
    EQ(usk_skb_pull(skb, SIZE_MAX), -EINVAL);
    EQ(usk_skb_pull(skb, 128), 0);
    EQ(usk_skb_len(skb), 0);
    /* A sum over pieces that begin and end at odd places is that of the bytes in one piece. */
    unsigned char bytes[1001], out[1001];
    for (int i = 0; i < COUNT(bytes); i++)
        bytes[i] = pattern(1, (uint64_t)i);
    usk_skb_t *shared[8];
    for (int i = 0, at = 0; i < 8; i++) {
        int n = i == 7 ? COUNT(bytes) - at : 1 + 2 * i * i;
        EQ(usk_skb_append(skb, bytes + at, (size_t)n), 0);
        shared[i] = usk_skb_share(skb); /* so that the next goes to another page */
        at += n;
    }
    EQ(usk_skb_len(skb), sizeof bytes);
    for (size_t from = 0; from < 40; from++)
        for (size_t len = 0; len < 60; len += 7)
            EQ(usk_csum_fold(usk_skb_csum(skb, from, len, 5)), usk_csum_fold(usk_csum(bytes + from, len, 5)));
    EQ(usk_csum_fold(usk_skb_csum(skb, 0, SIZE_MAX, 0)), usk_csum_fold(usk_csum(bytes, sizeof bytes, 0)));
    EQ(usk_skb_csum(skb, SIZE_MAX, 1, 7), 7);
    /* What is written to one is not seen by those that share its bytes; notes are each one's own. */
    memset(usk_skb_cb(skb), 0xee, USK_SKB_CB);
    usk_skb_t *copy = usk_skb_share(skb);
    EQ(*(unsigned char *)usk_skb_cb(copy), 0);
    *(char *)usk_skb_push(copy, 1) = 'h';
    EQ(usk_skb_append(copy, "tail", 4), 0);
    EQ(usk_skb_trim(copy, 3), 0);
    EQ(usk_skb_append(copy, "XYZ", 3), 0);
    EQ(usk_skb_trim(copy, 100), 0);
    EQ(usk_skb_len(copy), 6);
    EQ(usk_skb_copy(skb, 0, out, sizeof out), sizeof out);
    EQ(memcmp(out, bytes, sizeof out), 0);
    EQ(usk_skb_copy(copy, 0, out, sizeof out), 6);
    CHECK(out[0] == 'h' && memcmp(out + 1, bytes, 2) == 0 && memcmp(out + 3, "XYZ", 3) == 0);
    const char *front = usk_skb_header(skb, sizeof bytes);
    CHECK(front && memcmp(front, bytes, sizeof bytes) == 0);
    CHECK(usk_skb_header(skb, sizeof bytes + 1) == NULL && usk_skb_header(skb, SIZE_MAX) == NULL);
    EQ(usk_skb_trim(skb, 0), 0);
    EQ(usk_skb_len(skb), 0);
    for (int i = 0; i < 8; i++) {
        size_t n = usk_skb_len(shared[i]);
        EQ(usk_skb_copy(shared[i], 0, out, sizeof out), n);
        EQ(memcmp(out, bytes, n), 0);
        usk_skb_free(shared[i]);
    }
    usk_skb_free(copy);
    usk_skb_free(skb);
}

/* A packet that grows in the receive queue uncharges no more than was charged. */
static void grown(usk_sock_t *sk, usk_owned_t *o)
{
    (void)sk;
    for (int i = 0; i < 3; i++) {
        usk_skb_t *skb = usk_skb_new();
        EQ(usk_skb_append(skb, "abc", 3), 0);
        EQ(usk_receive_push(o, skb), 0);
    }
    int limit = 0, before = usk_charged(o, USK_RECV, &limit);
    CHECK(before > 0 && limit > before);
    char page[4000] = "";
    EQ(usk_skb_append(usk_receive_peek(o), page, sizeof page), 0);
    EQ(usk_charged(o, USK_RECV, NULL), before);
    for (int i = 0; i < 3; i++) {
        usk_skb_free(usk_receive_pop(o));
        CHECK(usk_charged(o, USK_RECV, NULL) >= 0);
    }
    EQ(usk_charged(o, USK_RECV, NULL), 0);
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_uncharge(o, USK_RECV, skb, 0), 0);
    EQ(usk_uncharge(o, USK_SEND, skb, 0), 0);
    EQ(usk_charged(o, USK_RECV, NULL), 0);
    EQ(usk_charged(o, USK_SEND, NULL), 0);
    /* A packet and what is kept beside it are one charge. */
    EQ(usk_skb_append(skb, "abc", 3), 0);
    int size = (int)usk_skb_truesize(skb);
    for (int dir = USK_RECV; dir <= USK_SEND; dir++) {
        EQ(usk_charge(o, dir, skb, 1000), 0);
        EQ(usk_charged(o, dir, NULL), size + 1000);
        EQ(usk_charged(o, !dir, NULL), 0);
        EQ(usk_uncharge(o, dir, skb, 0), 0);
        EQ(usk_uncharge(o, dir, NULL, 5000), 0);
        EQ(usk_charged(o, dir, NULL), 0);
    }
    usk_skb_free(skb);
}

/* What a sock is, told to a caller of this header, of an older one and of a newer one. */
static void info(usk_sock_t *sk, usk_owned_t *o)
{
    struct {
        usk_sock_info_t i;
        uint64_t future;
    } newer = { .future = 5 };
    usk_addr_t p = loopback;
    int limit;
    EQ(usk_sock_info(o, &newer.i, sizeof newer), sizeof newer.i);
    EQ(newer.future, 0);
    EQ(newer.i.family, AF_INET);
    EQ(newer.i.type, SOCK_SEQPACKET);
    EQ(newer.i.protocol, NUMBER);
    EQ(newer.i.state, TCP_CLOSE);
    EQ(newer.i.local.port, 0);
    EQ(newer.i.peer.family, 0);
    EQ(newer.i.flags, 0);
    EQ(newer.i.linger, -1);
    EQ(newer.i.now, usk_owned_now(o));
    p.port = 77;
    EQ(usk_get_port(o, 5000), 0);
    EQ(usk_set_ends(o, &loopback, &p), 0);
    EQ(usk_set_state(o, TCP_ESTABLISHED), 0);
    EQ(usk_set_shutdown(o, 1), 0);
    EQ(usk_error_report(sk, ECONNRESET), 0);
    EQ(usk_receive_push(o, usk_skb_new()), 0);
    EQ(usk_charge(o, USK_SEND, NULL, 123), 0);
    usk_sock_info_t i;
    EQ(usk_sock_info(o, &i, sizeof i), sizeof i);
    EQ(memcmp(&i.peer, &p, sizeof p), 0);
    EQ(i.local.port, 5000);
    EQ(i.state, TCP_ESTABLISHED);
    EQ(i.shutdown, 1);
    EQ(i.error, ECONNRESET);
    EQ(i.receive_len, 1);
    EQ(i.rmem, usk_charged(o, USK_RECV, &limit));
    EQ(i.rcvbuf, limit);
    EQ(i.wmem, 123);
    CHECK(i.sndbuf > 0 && i.rcvlowat == 1);
    EQ(usk_uncharge(o, USK_SEND, NULL, 123), 0);
    EQ(usk_sock_error(sk), -ECONNRESET);
    usk_skb_free(usk_receive_pop(o));
    /* Older: nothing is written beyond what it has. */
    memset(&i, 0xee, sizeof i);
    EQ(usk_sock_info(o, &i, offsetof(usk_sock_info_t, type)), offsetof(usk_sock_info_t, type));
    EQ(i.family, AF_INET);
    EQ(i.type, 0xeeeeeeee);
    EQ(usk_sock_info(o, &i, 0), 0);
}

static void bottom_halves(usk_sock_t *sk, usk_owned_t *o)
{
    /* While it is owned they wait, and run in the release: this thread's, which may sleep, but not there. */
    EQ(usk_deliver(sk, usk_skb_new()), 0);
    EQ(usk_defer(sk, 4), 0);
    EQ(usk_timer_arm(o, 3, usk_owned_now(o)), 0);
    EQ(packets, 0);
    EQ(usk_flush_backlog(o), 1);
    EQ(packets, 1);
    EQ(usk_wait(o, POLLIN, 0), -EAGAIN); /* here one may */
}

/* A program has it. */
static void busy(usk_sock_t *sk, usk_owned_t *o)
{
    (void)sk;
    EQ(usk_done(o), -EBUSY);
}

/* ---- a stream whose memory is used up ---- */

static int little_memory(usk_reg_t *reg, int64_t *limits)
{
    (void)reg;
    limits[0] = limits[1] = limits[2] = 8; /* one page of 16 KiB, and its packet */
    return 0;
}
static int least_wmem(usk_reg_t *reg, int *sizes)
{
    (void)reg;
    sizes[0] = 1;
    sizes[1] = sizes[2] = 1 << 20;
    return 0;
}
/* The second packet finds no memory, and its bytes are still the message's. */
static ssize_t stream_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    usk_skb_t *first, *second;
    char c;
    EQ(usk_sendmsg_len(msg), 10000);
    EQ(usk_send_alloc(o, msg, 6000, &first), 0);
    EQ(usk_skb_len(first), 6000);
    EQ(usk_sendmsg_len(msg), 4000);
    EQ(usk_charged(o, USK_SEND, NULL), usk_skb_truesize(first));
    second = first;
    EQ(usk_send_alloc(o, msg, 4000, &second), -ENOBUFS);
    CHECK(second == NULL);
    EQ(usk_sendmsg_len(msg), 4000);
    EQ(usk_charged(o, USK_SEND, NULL), usk_skb_truesize(first));
    EQ(usk_uncharge(o, USK_SEND, first, 0), 0);
    usk_skb_free(first);
    EQ(usk_send_alloc(o, msg, 9000, &second), 0);
    EQ(usk_skb_len(second), 4000);
    EQ(usk_skb_copy(second, 0, &c, 1), 1);
    EQ(c, 'b');
    EQ(usk_uncharge(o, USK_SEND, second, 0), 0);
    usk_skb_free(second);
    EQ(usk_sendmsg_len(msg), 0);
    return 10000;
}

/* ---- without ports: a peer is an address ---- */

static int came;
static int bare_connect(usk_owned_t *o, const usk_addr_t *to)
{
    usk_addr_t peer;
    EQ(usk_ends(o, NULL, &peer), -ENOTCONN);
    int r = usk_route_connect(o, to);
    EQ(usk_ends(o, NULL, &peer), 0);
    EQ(peer.port, 0);
    EQ(usk_path_mtu(o), 65535 - 20);
    return r;
}
static int bare_disconnect(usk_owned_t *o)
{
    usk_addr_t peer;
    usk_route_disconnect(o);
    EQ(usk_ends(o, NULL, &peer), -ENOTCONN);
    return 0;
}
static ssize_t bare_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    int r = usk_xmit(o, usk_skb_from_msg(msg, len), NULL);
    return r < 0 ? r : (ssize_t)len;
}
static void bare_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    came += (int)usk_skb_len(skb);
    EQ(info->protocol, NUMBER);
    usk_drop(reg, skb, USK_DROP_NO_SOCKET);
}

static int late_init(usk_plugin_t *plugin)
{
    the_plugin = plugin;
    return -ENXIO;
}

int main(void)
{
    begin("misuse");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    now_registered = table();
    begun();
    char buf[64];
    int fd;

    OK(usk_close(played(ports)));
    EQ(destroyed, 1);
    OK(usk_close(played(ends)));
    packets_at_their_limits();
    fd = played(grown);
    OK(usk_close(fd));
    fd = played(info);
    OK(usk_close(fd));
    fd = played(bottom_halves);
    EQ(packets, 1);
    CHECK(deferred >= 1);
    OK(usk_close(fd)); /* with a packet and deferred work that come after its end */
    EQ(packets, 1);
    OK(usk_close(played(busy)));
    EQ(destroyed, 1);

    /* Messages of no pieces, empty ones, and many. */
    fd = played(busy);
    struct iovec v[5] = { { NULL, 0 }, { "a", 1 }, { buf, 0 }, { "bc", 2 }, { NULL, 0 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 5 }, none = { 0 };
    EQ(usk_sendmsg(fd, &m, 0), 3);
    EQ(usk_sendmsg(fd, &none, 0), 0);
    EQ(usk_recvmsg(fd, &none, MSG_PEEK), 0);
    CHECK(none.msg_flags & MSG_TRUNC);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 3);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 0);
    ERR(usk_recv(fd, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(fd));

    unloaded(the_plugin);

    now_registered = table();
    now_registered.flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS;
    now_registered.socket_type = SOCK_STREAM;
    now_registered.sysctl_mem = little_memory;
    now_registered.sysctl_wmem = least_wmem;
    now_registered.sendmsg_locked = stream_send;
    begun();
    fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, NUMBER));
    static char stream[10000];
    memset(stream, 'a', 6000);
    memset(stream + 6000, 'b', 4000);
    EQ(usk_send(fd, stream, sizeof stream, 0), sizeof stream);
    OK(usk_close(fd));
    unloaded(the_plugin);

    now_registered = table();
    now_registered.flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS;
    now_registered.socket_type = SOCK_DGRAM;
    now_registered.connect = bare_connect;
    now_registered.disconnect = bare_disconnect;
    now_registered.sendmsg_locked = bare_send;
    now_registered.rcv = bare_rcv;
    begun();
    fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, NUMBER));
    struct addr home = at("127.0.0.1", 0);
    struct sockaddr unspec = { .sa_family = AF_UNSPEC };
    OK(usk_bind(fd, &home.sa, home.len));
    EQ(port_of(sock_name(fd)), 0);
    ERR(usk_send(fd, "x", 1, 0), ENOTCONN);
    OK(usk_connect(fd, &home.sa, home.len));
    EQ(usk_send(fd, "bare", 4, 0), 4);
    EQ(came, 4);
    OK(usk_connect(fd, &unspec, sizeof unspec));
    ERR(usk_send(fd, "x", 1, 0), ENOTCONN);
    OK(usk_close(fd));
    unloaded(the_plugin);

    /* An entry point that failed has registered nothing. */
    CHECK(usk_plugin_attach(stack, "late", late_init) == NULL);
    EQ(errno, ENXIO);
    usk_stack_free(stack);
    return done();
}

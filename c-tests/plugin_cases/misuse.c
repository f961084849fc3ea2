/* Calls of a plug-in that come at the wrong time, twice, or with too much: each is refused, and nothing is left in a
 * table, a queue or an account. The scenes run in setsockopt of the program's own protocol: a sock, process context,
 * nothing owned. */
#include "common.h"

enum { NUMBER = 254 };
enum scene { PORTS, ENDS, CHILDREN, ENDED_CHILD, STOP_OWNING, FORGOTTEN, PACKETS, GROWN, INFO, BOTTOM, BUSY };

static usk_stack_t *stack;
static int destroyed, packets, deferred;
static usk_reg_t *registered;
static usk_sock_t *last_made;

static int count_init(usk_owned_t *o)
{
    /* A sock of C's own memory: destroy frees it, so that whatever begins afterwards is seen by the sanitizer. */
    int **mine = usk_private(o);
    *mine = calloc(1, sizeof **mine);
    last_made = usk_owned_sock(o);
    EQ(usk_done(o), -EBUSY);
    return 0;
}
static void count_destroy(usk_owned_t *o)
{
    int **mine = usk_private(o);
    free(*mine);
    destroyed++;
    /* Inside destroy nothing may be started that would need another destroy. */
    EQ(usk_timer_arm(o, 0, usk_owned_now(o)), -EINVAL);
    EQ(usk_get_port(o, 0), -EINVAL);
    EQ(usk_hash(o), -EINVAL);
    EQ(usk_set_state(o, TCP_LISTEN), -EINVAL);
    EQ(usk_listen_start(o, 1), -EINVAL);
    EQ(usk_done(o), 0);
}
static void touch(usk_owned_t *o)
{
    ++**(int **)usk_private(o);
}
static void take_packet(usk_owned_t *o, usk_skb_t *skb)
{
    touch(o);
    packets++;
    /* Whether a program's thread runs it or the stack's: it must not sleep. */
    EQ(usk_wait(o, POLLIN, USK_FOREVER), -EDEADLK);
    usk_receive_push(o, skb);
}
static void later(usk_owned_t *o, uint32_t bits)
{
    touch(o);
    (void)bits;
    deferred++;
    EQ(usk_wait(o, POLLIN, USK_FOREVER), -EDEADLK);
}
static void close_it(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    (void)flags;
    usk_lock_sock(sk, &o);
    touch(&o);
    EQ(usk_done(&o), 0);
    EQ(usk_done(&o), 0);
    /* What gathered while it was owned comes too late. */
    EQ(usk_deliver(sk, usk_skb_new()), 0);
    EQ(usk_defer(sk, 1), 0);
    usk_release_sock(&o);
}
static void rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    (void)info;
    usk_drop(reg, skb, USK_DROP_NO_SOCKET);
}
static ssize_t give_msg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    touch(o);
    return usk_receive_msg(o, msg, 0);
}
static ssize_t take_msg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    touch(o);
    /* A message of many empty pieces, or of none, is as long as it is. */
    usk_skb_t *skb = usk_skb_from_msg(msg, SIZE_MAX);
    size_t len = usk_skb_len(skb);
    EQ(usk_sendmsg_len(msg), 0);
    EQ(usk_skb_append_msg(skb, msg, SIZE_MAX), 0);
    usk_receive_push(o, skb);
    return (ssize_t)len;
}
static usk_sock_t *no_child(usk_sock_t *sk, int nonblock, int *err)
{
    (void)sk, (void)nonblock;
    *err = 0; /* not an errno */
    return NULL;
}

static const usk_addr_t loopback = { .family = AF_INET, .port = 5000, .addr = { 127, 0, 0, 1 } };

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

static usk_sock_t *new_child(usk_owned_t *listener, uint16_t port, usk_owned_t *o)
{
    usk_addr_t remote = loopback;
    remote.port = port;
    usk_sock_t *child = usk_new_child(listener);
    CHECK(child != NULL);
    EQ(usk_lock_sock(child, o), 0);
    EQ(usk_hash(o), -EINVAL); /* no ends yet */
    EQ(usk_set_ends(o, &loopback, &remote), 0);
    EQ(usk_hash(o), 0);
    EQ(usk_set_state(o, TCP_ESTABLISHED), 0);
    return child;
}

static void children(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    /* Not listening: nobody would ever take it. */
    usk_sock_t *child = new_child(o, 100, &c);
    EQ(usk_accept_push(o, child), -EINVAL);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(usk_listen_start(o, 1), 0);
    EQ(usk_accept_push(o, sk), -EINVAL); /* itself */
    EQ(usk_accept_push(o, NULL), -EINVAL);
    /* The same ends twice. */
    child = new_child(o, 100, &c);
    usk_sock_t *twin = usk_new_child(o);
    usk_addr_t remote = loopback;
    remote.port = 100;
    usk_owned_t t;
    EQ(usk_lock_sock(twin, &t), 0);
    EQ(usk_set_ends(&t, &loopback, &remote), 0);
    EQ(usk_hash(&t), -EADDRINUSE);
    EQ(usk_done(&t), 0);
    usk_release_sock(&t);
    usk_sock_put(twin);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    /* One may wait beyond the backlog, and no more. */
    child = new_child(o, 101, &c);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    child = new_child(o, 102, &c);
    EQ(usk_accept_push(o, child), -ENOBUFS);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(usk_set_state(o, TCP_CLOSE), -EINVAL); /* two wait */
    usk_sock_info_t info;
    EQ(usk_sock_info(o, &info, sizeof info), sizeof info);
    EQ(info.ack_backlog, 2);
    EQ(info.max_ack_backlog, 1);
}

/* The first of two that wait ends: accept(2) gives the second, once. */
static void ended_child(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    for (int i = 0; i < 2; i++) {
        usk_sock_t *child = new_child(o, (uint16_t)(200 + i), &c);
        EQ(usk_accept_push(o, child), 0);
        if (i == 0)
            EQ(usk_done(&c), 0);
        else
            EQ(usk_accept_push(o, child), -EALREADY);
        usk_release_sock(&c);
        usk_sock_put(child);
    }
}

/* A listener that stops would close a connection that this thread owns: it is refused, not waited for. */
static void stop_owning(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    usk_sock_t *child = new_child(o, 300, &c);
    EQ(usk_accept_push(o, child), 0);
    EQ(usk_listen_stop(o), -EDEADLK);
    usk_sock_info_t info;
    EQ(usk_sock_info(o, &info, sizeof info), sizeof info);
    EQ(info.state, TCP_LISTEN);
    EQ(info.ack_backlog, 1);
    usk_release_sock(&c);
    EQ(destroyed, 0);
    EQ(usk_listen_stop(o), 0);
    EQ(destroyed, 1);
    EQ(usk_sock_state(child), TCP_CLOSE);
    usk_sock_put(child);
    EQ(destroyed, 1);
    /* One that has been accepted, or is no child, is not queued. */
    EQ(usk_listen_start(o, 4), 0);
    child = new_child(o, 301, &c);
    EQ(usk_accept_push(o, child), 0);
    usk_release_sock(&c);
    int err = 0, other = (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, NUMBER));
    usk_release_sock(o);
    usk_sock_t *accepted = usk_accept_wait(sk, 1, &err);
    CHECK(accepted == child);
    EQ(usk_lock_sock(sk, o), 0);
    EQ(usk_accept_push(o, accepted), -EALREADY);
    EQ(usk_accept_push(o, last_made), -EINVAL);
    OK(usk_close(other));
    EQ(usk_lock_sock(child, &c), 0);
    EQ(usk_done(&c), 0);
    usk_release_sock(&c);
    usk_sock_put(accepted);
    usk_sock_put(child);
}

/* A child of which the plug-in keeps nothing: destroy runs all the same, once, and when nothing leads to it. */
static void forgotten(usk_sock_t *sk, usk_owned_t *o)
{
    usk_owned_t c;
    (void)sk;
    EQ(usk_listen_start(o, 4), 0);
    usk_sock_put(usk_new_child(o));
    EQ(destroyed, 1);
    usk_sock_t *child = usk_sock_hold(usk_new_child(o));
    usk_sock_put(child);
    EQ(destroyed, 1);
    usk_sock_put(child);
    EQ(destroyed, 2);
    child = new_child(o, 400, &c); /* in the table, where packets find it */
    usk_release_sock(&c);
    usk_sock_put(child);
    EQ(destroyed, 2);
    usk_addr_t remote = loopback;
    remote.port = 400;
    CHECK(usk_proto_lookup(registered, &loopback, &remote, 1) == child);
    EQ(usk_lock_sock(child, &c), 0);
    EQ(usk_unhash(&c), 0);
    usk_release_sock(&c);
    EQ(destroyed, 2);
    usk_sock_put(child);
    EQ(destroyed, 3);
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

static int scene(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    (void)level, (void)value, (void)len;
    if (name == PACKETS) {
        packets_at_their_limits();
        return 0;
    }
    usk_lock_sock(sk, &o);
    touch(&o);
    switch (name) {
    case PORTS:
        ports(sk, &o);
        break;
    case ENDS:
        ends(sk, &o);
        break;
    case CHILDREN:
        children(sk, &o);
        break;
    case ENDED_CHILD:
        ended_child(sk, &o);
        break;
    case STOP_OWNING:
        stop_owning(sk, &o);
        break;
    case FORGOTTEN:
        forgotten(sk, &o);
        break;
    case GROWN:
        grown(sk, &o);
        break;
    case INFO:
        info(sk, &o);
        break;
    case BOTTOM:
        bottom_halves(sk, &o);
        break;
    default:
        EQ(usk_done(&o), -EBUSY); /* a program has it */
    }
    usk_release_sock(&o);
    return 0;
}

static usk_proto table(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "MISUSE",
        .socket_type = SOCK_SEQPACKET,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_CONNECTIONS,
        .obj_size = sizeof(int *),
        .init = count_init,
        .destroy = count_destroy,
        .close = close_it,
        .listen = usk_listen_start,
        .disconnect = usk_listen_stop,
        .accept = usk_accept_wait,
        .setsockopt = scene,
        .sendmsg_locked = take_msg,
        .recvmsg_locked = give_msg,
        .backlog_rcv = take_packet,
        .release_cb = later,
        .rcv = rcv,
    };
    return t;
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

static usk_proto now_registered;
static usk_plugin_t *the_plugin;
static int init_plugin(usk_plugin_t *plugin)
{
    the_plugin = plugin;
    return usk_proto_register(plugin, &now_registered, NULL, &registered);
}
static int late_init(usk_plugin_t *plugin)
{
    the_plugin = plugin;
    return -ENXIO;
}

static int opened(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, NUMBER));
}
static int played(enum scene s)
{
    int fd = opened();
    destroyed = packets = deferred = 0;
    OK(set_int(fd, NUMBER, s, 1));
    return fd;
}

static void begun(void)
{
    usk_plugin_t *p = usk_plugin_attach(stack, "misuse", init_plugin);
    CHECK(p != NULL);
    /* The table is the library's: later changes of the plug-in's copy have no effect. */
    memset(&now_registered, 0xff, sizeof now_registered);
}

int main(void)
{
    begin("misuse");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    now_registered = table();
    begun();
    char buf[64];
    int fd, l;

    OK(usk_close(played(PORTS)));
    EQ(destroyed, 1);
    OK(usk_close(played(ENDS)));
    OK(usk_close(played(PACKETS)));
    fd = played(GROWN);
    OK(usk_close(fd));
    fd = played(INFO);
    OK(usk_close(fd));
    fd = played(BOTTOM);
    EQ(packets, 1);
    CHECK(deferred >= 1);
    OK(usk_close(fd)); /* with a packet and deferred work that come after its end */
    EQ(packets, 1);
    OK(usk_close(played(BUSY)));
    EQ(destroyed, 1);
    OK(usk_close(played(FORGOTTEN)));
    EQ(destroyed, 4);

    /* Messages of no pieces, empty ones, and many. */
    fd = played(BUSY);
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

    /* A listener goes with two children that wait: they end. */
    struct addr at_5000 = at("127.0.0.1", 5000);
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    OK(set_int(l, NUMBER, STOP_OWNING, 1));
    OK(usk_close(l));
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    OK(set_int(l, NUMBER, CHILDREN, 1));
    EQ(destroyed, 3);
    OK(usk_close(l));
    EQ(destroyed, 6);

    /* shutdown(2) does the same, and leaves the port bound. */
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    destroyed = 0;
    OK(set_int(l, NUMBER, CHILDREN, 1));
    OK(usk_shutdown(l, SHUT_RD));
    EQ(destroyed, 5);
    ERR(usk_accept(l, NULL, NULL), EINVAL);
    OK(usk_listen(l, 1));
    OK(usk_close(l));

    /* One that ended while it waited is passed over. */
    l = opened();
    OK(usk_bind(l, &at_5000.sa, at_5000.len));
    OK(set_int(l, NUMBER, ENDED_CHILD, 1));
    fd = (int)OK(usk_accept(l, NULL, NULL));
    EQ(port_of(peer_name(fd)), 201);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    /* The connection outlives its listener, whose port only one with SO_REUSEADDR gets, and only if both have it. */
    OK(usk_close(l));
    l = opened();
    ERR(usk_bind(l, &at_5000.sa, at_5000.len), EADDRINUSE);
    OK(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
    ERR(usk_bind(l, &at_5000.sa, at_5000.len), EADDRINUSE);
    struct addr elsewhere = at("127.0.0.2", 5000), any = at("0.0.0.0", 5000);
    ERR(usk_bind(l, &any.sa, any.len), EADDRINUSE);
    OK(usk_bind(l, &elsewhere.sa, elsewhere.len));
    OK(usk_close(fd));
    OK(usk_close(l));

    /* A listener that goes closes what nobody has, and no more. */
    int other = opened();
    struct addr at_5002 = at("127.0.0.1", 5002);
    OK(usk_bind(other, &at_5002.sa, at_5002.len));
    destroyed = 0;
    OK(set_int(other, NUMBER, ENDED_CHILD, 1));
    int mine = (int)OK(usk_accept(other, NULL, NULL));
    OK(usk_close(other));
    EQ(destroyed, 2);
    EQ(usk_send(mine, "here", 4, 0), 4);
    OK(usk_close(mine));
    EQ(destroyed, 3);

    /* SO_REUSEADDR shares a port, but not its connections: one listens (as TCP). */
    int one = opened(), two = opened();
    OK(set_int(one, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(set_int(two, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(one, &at_5000.sa, at_5000.len));
    OK(usk_bind(two, &at_5000.sa, at_5000.len));
    OK(usk_listen(one, 1));
    OK(usk_listen(one, 2));
    ERR(usk_listen(two, 1), EADDRINUSE);
    ERR(usk_accept(two, NULL, NULL), EINVAL);
    int three = opened();
    OK(set_int(three, SOL_SOCKET, SO_REUSEADDR, 1));
    ERR(usk_bind(three, &at_5000.sa, at_5000.len), EADDRINUSE);
    OK(usk_close(one));
    OK(usk_listen(two, 1));
    OK(usk_close(two));
    OK(usk_close(three));

    /* accept that says neither a child nor why not. */
    unloaded(the_plugin);
    now_registered = table();
    now_registered.accept = no_child;
    begun();
    l = opened();
    OK(usk_listen(l, 1));
    ERR(usk_accept(l, NULL, NULL), EIO);
    OK(usk_close(l));

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

/* FRAME: messages over TCP. A socket (AF_INET or AF_INET6, SOCK_SEQPACKET, 301) has a sock of TCP inside, which makes
 * the connection, and whose address is its own; each message goes with its length in front. docs/plugins.md, "Inner
 * socks".
 *
 *   0 4 | len, big-endian | payload ...
 *
 * What happens at the inner sock becomes work for the outer one's release_cb: there it is owned, and so the inner one
 * may be used. Nothing is read of TCP that has no room in the socket's receive buffer, and the peer is slowed down by
 * TCP's window; nothing is taken of the program as long as the last message has not gone to TCP. */
#define _GNU_SOURCE /* POLLRDHUP */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/over.h>

enum { FRAME = 301, MAX_MESSAGE = 65536, HEADER = 4 };
#define LINGER 60000000000ULL /* ns that a closed socket keeps sending */

/* A sock's own memory. */
struct frame {
    usk_sock_t *tcp;
    uint8_t *out; /* the message that is sent, with its header */
    size_t out_len, out_at;
    uint8_t head[HEADER]; /* what is read: the header, then the packet, of which `left` bytes are missing */
    size_t head_len, left;
    usk_skb_t *in;
    bool connected, closed;
};

/* Bits of usk_defer; bit 0 is the timer's. */
enum { CHANGED = 2, READY = 4, ROOM = 8 };

static void on_change(usk_sock_t *outer, usk_sock_t *inner)
{
    (void)inner;
    usk_defer(outer, CHANGED);
}
static void on_data(usk_sock_t *outer, usk_sock_t *inner)
{
    (void)inner;
    usk_defer(outer, READY);
}
static void on_room(usk_sock_t *outer, usk_sock_t *inner)
{
    (void)inner;
    usk_defer(outer, ROOM);
}

static const usk_inner_ops inner_ops = {
    .version = USK_INNER_VERSION,
    .size = sizeof inner_ops,
    .data_ready = on_data,
    .write_space = on_room,
    .state_change = on_change,
};

/* The end of a connection is that of both directions, as TCP's is. */
static void fail(usk_owned_t *o, int err)
{
    struct frame *f = usk_private(o);
    usk_set_state(o, TCP_CLOSE);
    if (f->connected)
        usk_set_shutdown(o, 3);
    usk_error_report(usk_owned_sock(o), err);
}

/* The inner sock's names are the socket's. */
static int take_names(usk_owned_t *o, struct frame *f)
{
    usk_addr_t local, peer;
    int r = usk_inner_ends(o, f->tcp, &local, NULL);
    if (r == 0 && usk_inner_ends(o, f->tcp, NULL, &peer) != 0)
        peer = (usk_addr_t){ .family = local.family };
    return r < 0 ? r : usk_set_ends(o, &local, &peer);
}

/* The inner sock, made when it is first needed. */
static int need_tcp(usk_owned_t *o, struct frame *f, uint16_t family)
{
    return f->tcp ? 0 : usk_inner_open(o, family, SOCK_STREAM, IPPROTO_TCP, &inner_ops, &f->tcp);
}

/* Gives TCP what it takes of the message. */
static void push(usk_owned_t *o, struct frame *f)
{
    ptrdiff_t n = 0;
    while (f->out && f->out_at < f->out_len && n >= 0) {
        n = usk_inner_send(o, f->tcp, f->out + f->out_at, f->out_len - f->out_at, 0, NULL);
        f->out_at += n > 0 ? (size_t)n : 0;
    }
    if (n == -EAGAIN)
        return;
    if (f->out) {
        usk_uncharge(o, USK_SEND, NULL, f->out_len);
        free(f->out);
        f->out = NULL;
    }
    if (n < 0)
        fail(o, (int)-n);
    else if (usk_sock_shutdown(usk_owned_sock(o)) & 2)
        usk_inner_shutdown(o, f->tcp, SHUT_WR);
    usk_wake(usk_owned_sock(o), POLLOUT | POLLWRNORM);
    if (f->closed)
        usk_done(o);
}

/* Reads of TCP until a message is whole: 1; or why not: 0 (the peer has ended), -EAGAIN, another error. */
static ptrdiff_t read_message(usk_owned_t *o, struct frame *f)
{
    uint8_t buf[4096];
    ptrdiff_t n;
    while (f->head_len < HEADER) {
        n = usk_inner_recv(o, f->tcp, f->head + f->head_len, HEADER - f->head_len, 0, NULL);
        if (n <= 0)
            return n == 0 && f->head_len > 0 ? -ECONNRESET : n;
        f->head_len += (size_t)n;
    }
    if (!f->in) {
        uint32_t len;
        memcpy(&len, f->head, sizeof len);
        f->left = ntohl(len);
        if (f->left > MAX_MESSAGE)
            return -EPROTO;
        f->in = usk_skb_new();
    }
    while (f->left > 0) {
        n = usk_inner_recv(o, f->tcp, buf, f->left < sizeof buf ? f->left : sizeof buf, 0, NULL);
        if (n <= 0)
            return n == 0 ? -ECONNRESET : n;
        if (usk_skb_append(f->in, buf, (size_t)n) < 0)
            return -ENOBUFS;
        f->left -= (size_t)n;
    }
    return 1;
}

/* Reads messages as long as there is room for them. */
static void pull(usk_owned_t *o, struct frame *f)
{
    int limit;
    ptrdiff_t r = 1;
    while (r == 1 && usk_charged(o, USK_RECV, &limit) < limit) {
        r = read_message(o, f);
        if (r == 1) {
            usk_receive_push(o, f->in);
            f->in = NULL;
            f->head_len = 0;
        }
    }
    if (r == 0) {
        usk_set_shutdown(o, 1);
        usk_wake(usk_owned_sock(o), POLLIN | POLLRDNORM | POLLRDHUP);
    } else if (r < 0 && r != -EAGAIN) {
        fail(o, (int)-r);
    }
}

/* Makes sockets of the connections that TCP has accepted: the one, and then the other, are owned. */
static void accept_all(usk_owned_t *o, struct frame *f)
{
    while (usk_inner_poll(o, f->tcp) & POLLIN) {
        usk_sock_t *child = usk_new_child(o);
        if (!child)
            return;
        usk_owned_t co;
        usk_lock_sock(child, &co);
        struct frame *c = usk_private(&co);
        int r = usk_inner_accept(o, f->tcp, &co, &inner_ops, &c->tcp);
        if (r == 0)
            r = take_names(&co, c);
        if (r == 0)
            r = usk_set_state(&co, TCP_ESTABLISHED);
        c->connected = r == 0;
        if (r == 0)
            r = usk_accept_push(o, child);
        if (r < 0)
            usk_done(&co);
        usk_release_sock(&co);
        usk_sock_put(child);
        if (r == -EAGAIN)
            return;
    }
}

static void connected(usk_owned_t *o, struct frame *f)
{
    int r = usk_sock_error(f->tcp);
    if (r == 0 && usk_sock_state(f->tcp) != TCP_ESTABLISHED)
        return;
    if (r == 0)
        r = take_names(o, f);
    f->connected = r == 0;
    if (r == 0)
        usk_set_state(o, TCP_ESTABLISHED);
    else
        fail(o, -r);
    usk_wake(usk_owned_sock(o), POLLOUT | POLLWRNORM);
}

static void frame_release_cb(usk_owned_t *o, uint32_t bits)
{
    struct frame *f = usk_private(o);
    if (bits & 1) {
        usk_done(o); /* it has lingered long enough */
        return;
    }
    switch (usk_sock_state(usk_owned_sock(o))) {
    case TCP_LISTEN:
        accept_all(o, f);
        break;
    case TCP_SYN_SENT:
        connected(o, f);
        break;
    case TCP_ESTABLISHED:
        if (!f->closed)
            pull(o, f);
        if (f->out)
            push(o, f);
    }
}

static int frame_bind(usk_owned_t *o, const usk_addr_t *addr)
{
    struct frame *f = usk_private(o);
    int r = need_tcp(o, f, addr->family);
    if (r == 0)
        r = usk_inner_bind(o, f->tcp, addr);
    return r < 0 ? r : take_names(o, f);
}

static int frame_connect(usk_owned_t *o, const usk_addr_t *to)
{
    struct frame *f = usk_private(o);
    int r = need_tcp(o, f, to->family);
    if (r == 0)
        r = usk_inner_connect(o, f->tcp, to);
    return r == 0 || r == -EINPROGRESS ? usk_set_state(o, TCP_SYN_SENT) : r;
}

static int frame_listen(usk_owned_t *o, uint32_t backlog)
{
    struct frame *f = usk_private(o);
    int r = f->tcp ? usk_inner_listen(o, f->tcp, (int)backlog) : -EDESTADDRREQ;
    return r < 0 ? r : usk_listen_start(o, backlog);
}

static ptrdiff_t frame_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    struct frame *f = usk_private(o);
    usk_sock_t *sk = usk_owned_sock(o);
    size_t len = usk_sendmsg_len(msg);
    uint64_t until = usk_timeo(o, USK_SEND, usk_sendmsg_flags(msg) & MSG_DONTWAIT);
    int r = usk_sock_error(sk);
    if (len > MAX_MESSAGE)
        return -EMSGSIZE;
    while (r == 0 && (f->out || usk_sock_state(sk) == TCP_SYN_SENT))
        if ((r = usk_wait(o, POLLOUT, until)) == 0)
            r = usk_sock_error(sk);
    if (r == 0 && (usk_sock_shutdown(sk) & 2))
        r = -EPIPE;
    if (r == 0 && usk_sock_state(sk) != TCP_ESTABLISHED)
        r = -ENOTCONN;
    if (r == 0)
        r = usk_charge(o, USK_SEND, NULL, HEADER + len);
    if (r < 0)
        return r;
    const uint32_t head = htonl((uint32_t)len);
    f->out = malloc(HEADER + len);
    f->out_at = 0;
    f->out_len = HEADER + len;
    ptrdiff_t taken = f->out ? usk_sendmsg_take(msg, f->out + HEADER, len) : -ENOBUFS;
    if (taken != (ptrdiff_t)len) {
        usk_uncharge(o, USK_SEND, NULL, HEADER + len);
        free(f->out);
        f->out = NULL;
        return taken < 0 ? taken : -EFAULT;
    }
    memcpy(f->out, &head, sizeof head);
    push(o, f);
    return (ptrdiff_t)len;
}

static ptrdiff_t frame_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    struct frame *f = usk_private(o);
    usk_sock_t *sk = usk_owned_sock(o);
    uint64_t until = usk_timeo(o, USK_RECV, usk_recvmsg_flags(msg) & MSG_DONTWAIT);
    while (!usk_receive_peek(o)) {
        int r = usk_sock_error(sk), state = usk_sock_state(sk);
        if (r == 0 && (usk_sock_shutdown(sk) & 1))
            return 0;
        if (r == 0 && (state == TCP_CLOSE || state == TCP_LISTEN))
            r = -ENOTCONN;
        if (r == 0)
            r = usk_wait(o, POLLIN, until);
        if (r < 0)
            return r;
    }
    ptrdiff_t n = usk_receive_msg(o, msg, 0);
    if (usk_sock_state(sk) == TCP_ESTABLISHED)
        pull(o, f); /* there is room again */
    return n;
}

/* What poll calls room to send. */
static int frame_may_send(const void *priv, int wake)
{
    const struct frame *f = priv;
    (void)wake;
    return f->connected && !f->out;
}

static void frame_shutdown(usk_owned_t *o, int how)
{
    struct frame *f = usk_private(o);
    if ((how & 2) && f->tcp && !f->out)
        usk_inner_shutdown(o, f->tcp, SHUT_WR);
}

/* Options of TCP are the inner sock's. */
static int frame_setsockopt(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct frame *f = usk_private(&o);
    int r = level != IPPROTO_TCP ? usk_ip_setsockopt(&o, level, name, value, len)
            : f->tcp             ? usk_inner_setsockopt(&o, f->tcp, level, name, value, len)
                                 : -ENOTCONN;
    usk_release_sock(&o);
    return r;
}

/* A message that TCP has not taken yet keeps the sock, by its timer. */
static void frame_close(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct frame *f = usk_private(&o);
    (void)flags;
    f->closed = true;
    if (f->out)
        usk_timer_arm(&o, 0, usk_owned_now(&o) + LINGER);
    else
        usk_done(&o);
    usk_release_sock(&o);
}

static void frame_destroy(usk_owned_t *o)
{
    struct frame *f = usk_private(o);
    if (f->out)
        usk_uncharge(o, USK_SEND, NULL, f->out_len);
    free(f->out);
    usk_skb_free(f->in);
    if (f->tcp)
        usk_inner_close(o, f->tcp);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "FRAME",
        .socket_type = SOCK_SEQPACKET,
        .protocol = FRAME,
        .flags = USK_PROTO_V4 | USK_PROTO_V6 | USK_PROTO_CONNECTIONS | USK_PROTO_NO_PORTS,
        .obj_size = sizeof(struct frame),
        .destroy = frame_destroy,
        .bind = frame_bind,
        .connect = frame_connect,
        .listen = frame_listen,
        .accept = usk_accept_wait,
        .close = frame_close,
        .shutdown = frame_shutdown,
        .setsockopt = frame_setsockopt,
        .sendmsg_locked = frame_sendmsg,
        .recvmsg_locked = frame_recvmsg,
        .stream_memory_free = frame_may_send,
        .release_cb = frame_release_cb,
        .backlog_rcv = NULL, /* nobody delivers packets to it */
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

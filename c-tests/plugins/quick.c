/* QUICK: a transport over UDP, in the manner of QUIC: messages over connections, in order and without loss, between
 * sockets (AF_INET or AF_INET6, SOCK_SEQPACKET, 300). A number above 255 is no IP protocol's, but socket(2)'s alone;
 * all sockets of a stack are behind one UDP port. docs/plugins.md, "Transports over UDP".
 *
 * A packet says by a connection id whose it is, so a connection goes on when its peer's address changes (a NAT that
 * forgets). Sent packets are numbered and kept; the receiver takes them in order and acknowledges the number that it
 * waits for; three acknowledgements for the same one, or a timeout, have all that is kept sent again (go back N). There
 * is no congestion control, and no encryption: a real one has both (RFC 9000), and validates a new path. */
#define _GNU_SOURCE /* POLLRDHUP */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/over.h>

enum { QUICK = 300, UDP_PORT = 4433, WINDOW = 16, TRIES = 8, BUCKETS = 256 };
#define RTO 200000000ULL /* ns until packets are sent again; doubled with each try */
enum { OUT_PACKETS, RESENT, MOVED };
static const char *const counters[] = { "QuickOutPackets", "QuickResent", "QuickMoved", NULL };

enum type { INITIAL = 1, ACCEPTED, DATA, END, ACK, RESET };
/* `to`, `from`: connection ids of receiver and sender; to no connection yet: 0. `seq`: the packet's number. `ack`: the
 * number that the sender waits for, in an ACK; of INITIAL the ports, from and to. All big-endian. */
struct header {
    uint8_t type, zero[3];
    uint32_t to, from, seq, ack;
};

/* A sock's own memory. */
struct conn {
    struct conn *next; /* in the table */
    usk_sock_t *sk;
    uint32_t id, peer;
    usk_addr_t path;   /* where the peer's datagrams come from */
    usk_queue_t *sent; /* not acknowledged: the first has number `una`, the next one will have `nxt` */
    uint32_t una, nxt, expected;
    int tries, same; /* timeouts in a row, acknowledgements that acknowledged nothing */
    bool ended;      /* END is sent or queued */
};

/* A stack's: usk_user. The table has no references: destroy takes a sock out before it is freed. */
struct quick {
    usk_udp_t *udp;
    pthread_mutex_t lock;
    struct conn *table[BUCKETS];
};

static struct quick *quick_of(usk_owned_t *o)
{
    return usk_user(usk_owned_reg(o));
}

/* The sock with this id, held. */
static usk_sock_t *find(struct quick *q, uint32_t id)
{
    pthread_mutex_lock(&q->lock);
    struct conn *c = q->table[id % BUCKETS];
    while (c && c->id != id)
        c = c->next;
    usk_sock_t *sk = c ? usk_sock_hold(c->sk) : NULL;
    pthread_mutex_unlock(&q->lock);
    return sk;
}

static void enter(usk_owned_t *o, struct conn *c)
{
    struct quick *q = quick_of(o);
    usk_sock_t *taken;
    do {
        usk_random(usk_owned_reg(o), &c->id, sizeof c->id);
        usk_sock_put(taken = find(q, c->id));
    } while (c->id == 0 || taken);
    pthread_mutex_lock(&q->lock);
    c->next = q->table[c->id % BUCKETS];
    q->table[c->id % BUCKETS] = c;
    pthread_mutex_unlock(&q->lock);
}

static void leave(usk_owned_t *o, struct conn *c)
{
    struct quick *q = quick_of(o);
    pthread_mutex_lock(&q->lock);
    for (struct conn **at = &q->table[c->id % BUCKETS]; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    pthread_mutex_unlock(&q->lock);
}

/* Sends a packet, from the address that the peer knows. A loss is a loss: the timer sends it again. */
static void transmit(usk_owned_t *o, struct conn *c, enum type type, uint32_t seq, uint32_t ack, usk_skb_t *skb)
{
    struct header h = { (uint8_t)type, { 0 }, htonl(c->peer), htonl(c->id), htonl(seq), htonl(ack) };
    usk_tx_info_t tx = { .flags = USK_TX_SRC };
    skb = skb ? skb : usk_skb_new();
    memcpy(usk_skb_push(skb, sizeof h), &h, sizeof h);
    usk_ends(o, &tx.src, NULL);
    usk_udp_send(quick_of(o)->udp, skb, &c->path, &tx, sizeof tx);
    usk_count(usk_owned_reg(o), OUT_PACKETS, 1);
}

static void arm(usk_owned_t *o, struct conn *c)
{
    uint64_t rto = RTO << (c->tries < 4 ? c->tries : 4);
    if (usk_queue_len(c->sent) > 0 || usk_sock_state(c->sk) == TCP_SYN_SENT)
        usk_timer_arm(o, 0, usk_owned_now(o) + rto);
    else
        usk_timer_cancel(o, 0);
}

static void send_initial(usk_owned_t *o, struct conn *c)
{
    usk_addr_t from, to;
    usk_ends(o, &from, &to);
    transmit(o, c, INITIAL, 0, (uint32_t)from.port << 16 | to.port, NULL);
}

static void send_again(usk_owned_t *o, struct conn *c)
{
    for (uint32_t i = 0; i < usk_queue_len(c->sent); i++) {
        usk_skb_t *skb = usk_queue_peek(c->sent, i);
        transmit(o, c, *(uint8_t *)usk_skb_cb(skb), c->una + i, 0, usk_skb_share(skb));
        usk_count(usk_owned_reg(o), RESENT, 1);
    }
}

/* Sends a packet, which is charged to the send buffer, and keeps it. */
static void send_new(usk_owned_t *o, struct conn *c, enum type type, usk_skb_t *skb)
{
    *(uint8_t *)usk_skb_cb(skb) = (uint8_t)type;
    transmit(o, c, type, c->nxt++, 0, usk_skb_share(skb));
    usk_queue_push(c->sent, skb);
    if (usk_queue_len(c->sent) == 1)
        arm(o, c);
}

static void send_end(usk_owned_t *o, struct conn *c)
{
    usk_skb_t *skb = usk_skb_new();
    if (c->ended || usk_sock_state(c->sk) != TCP_ESTABLISHED || usk_charge(o, USK_SEND, skb, 0) < 0) {
        usk_skb_free(skb);
        return;
    }
    c->ended = true;
    send_new(o, c, END, skb);
}

static void acknowledged(usk_owned_t *o, struct conn *c, size_t n)
{
    while (n-- > 0) {
        usk_skb_t *skb = usk_queue_pop(c->sent);
        usk_uncharge(o, USK_SEND, skb, 0);
        usk_skb_free(skb);
        c->una++;
    }
}

/* The connection is over: the program is told, or has closed it already. */
static void fail(usk_owned_t *o, struct conn *c, int err)
{
    int state = usk_sock_state(c->sk);
    acknowledged(o, c, usk_queue_len(c->sent));
    usk_timer_cancel(o, 0);
    usk_unhash(o);
    usk_set_state(o, TCP_CLOSE);
    usk_set_shutdown(o, 3);
    usk_error_report(c->sk, err);
    if (state == TCP_FIN_WAIT1)
        usk_done(o);
}

static int quick_init(usk_owned_t *o)
{
    struct conn *c = usk_private(o);
    c->sk = usk_owned_sock(o);
    c->sent = usk_queue_new();
    return 0;
}

static void quick_destroy(usk_owned_t *o)
{
    struct conn *c = usk_private(o);
    leave(o, c);
    acknowledged(o, c, usk_queue_len(c->sent));
    usk_queue_free(c->sent);
}

static int quick_connect(usk_owned_t *o, const usk_addr_t *to)
{
    struct conn *c = usk_private(o);
    usk_addr_t local;
    int r = to->port == 0 || c->id != 0 ? -EINVAL : usk_route_connect(o, to);
    usk_ends(o, &local, NULL);
    if (r == 0 && local.port == 0)
        r = usk_get_port(o, 0);
    if (r == 0)
        r = usk_hash(o);
    if (r < 0)
        return r;
    c->path = *to;
    c->path.port = UDP_PORT;
    enter(o, c);
    usk_set_state(o, TCP_SYN_SENT);
    send_initial(o, c);
    arm(o, c);
    return 0;
}

/* shutdown(SHUT_RD) ends a listener. */
static int quick_disconnect(usk_owned_t *o)
{
    return usk_sock_state(usk_owned_sock(o)) == TCP_LISTEN ? usk_listen_stop(o) : -EOPNOTSUPP;
}

/* What the program has sent must still arrive: the sock stays, in FIN_WAIT1, until its end is acknowledged. */
static void quick_close(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    struct conn *c = usk_private(&o);
    (void)flags;
    send_end(&o, c);
    if (usk_queue_len(c->sent) > 0)
        usk_set_state(&o, TCP_FIN_WAIT1);
    else
        usk_done(&o);
    usk_release_sock(&o);
}

static void quick_shutdown(usk_owned_t *o, int how)
{
    if (how & 2)
        send_end(o, usk_private(o));
}

static ptrdiff_t quick_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    struct conn *c = usk_private(o);
    size_t len = usk_sendmsg_len(msg);
    uint64_t until = usk_timeo(o, USK_SEND, usk_sendmsg_flags(msg) & MSG_DONTWAIT);
    int r = usk_sock_error(c->sk);
    while (r == 0) {
        int state = usk_sock_state(c->sk);
        if (c->ended || usk_sock_shutdown(c->sk) & 2)
            return -EPIPE;
        if (state != TCP_ESTABLISHED && state != TCP_SYN_SENT)
            return -ENOTCONN;
        if (state == TCP_ESTABLISHED && usk_queue_len(c->sent) < WINDOW)
            break;
        if ((r = usk_wait(o, POLLOUT, until)) == 0)
            r = usk_sock_error(c->sk);
    }
    int mtu = r < 0 ? r : usk_udp_mtu(quick_of(o)->udp, &c->path);
    if (mtu < 0)
        return mtu;
    if (len > (size_t)mtu - sizeof(struct header))
        return -EMSGSIZE;
    usk_skb_t *skb;
    if ((r = usk_send_alloc(o, msg, len, &skb)) < 0)
        return r;
    send_new(o, c, DATA, skb);
    return (ptrdiff_t)len;
}

static ptrdiff_t quick_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    usk_sock_t *sk = usk_owned_sock(o);
    uint64_t until = usk_timeo(o, USK_RECV, usk_recvmsg_flags(msg) & MSG_DONTWAIT);
    while (!usk_receive_peek(o)) {
        int r = usk_sock_error(sk), state = usk_sock_state(sk);
        if (r == 0 && (usk_sock_shutdown(sk) & 1))
            return 0;
        if (r == 0 && (state == TCP_CLOSE || state == TCP_LISTEN))
            return -ENOTCONN;
        if (r == 0)
            r = usk_wait(o, POLLIN, until);
        if (r < 0)
            return r;
    }
    return usk_receive_msg(o, msg, 0);
}

/* What poll calls room to send. */
static int quick_may_send(const void *priv, int wake)
{
    const struct conn *c = priv;
    (void)wake;
    return c->peer != 0 && usk_queue_len(c->sent) < WINDOW;
}

/* An INITIAL for a listener makes a connection. */
static void accept_new(usk_owned_t *o, usk_skb_t *skb, const struct header *h, const usk_addr_t *from)
{
    usk_packet_info_t info;
    if (usk_skb_info(skb, &info) < 0)
        return;
    info.src.port = (uint16_t)(ntohl(h->ack) >> 16);
    info.dst.port = (uint16_t)ntohl(h->ack);
    usk_sock_t *child = usk_new_child(o);
    if (!child)
        return;
    usk_owned_t co;
    usk_lock_sock(child, &co);
    struct conn *c = usk_private(&co);
    c->peer = ntohl(h->from);
    c->path = *from;
    enter(&co, c);
    usk_set_ends(&co, &info.dst, &info.src);
    usk_set_state(&co, TCP_ESTABLISHED);
    if (usk_hash(&co) < 0 || usk_accept_push(o, child) < 0)
        usk_done(&co);
    else
        transmit(&co, c, ACCEPTED, 0, 0, NULL);
    usk_release_sock(&co);
    usk_sock_put(child);
}

/* An acknowledgement of all numbers before `ack`. */
static void got_ack(usk_owned_t *o, struct conn *c, uint32_t ack)
{
    uint32_t n = ack - c->una;
    if (n > usk_queue_len(c->sent))
        return;
    c->tries = 0; /* the peer is there, though it may have no room */
    if (n == 0) {
        if (usk_queue_len(c->sent) > 0 && ++c->same == 3)
            send_again(o, c);
        return;
    }
    acknowledged(o, c, n);
    c->same = 0;
    arm(o, c);
    usk_wake(c->sk, POLLOUT | POLLWRNORM);
    if (usk_sock_state(c->sk) == TCP_FIN_WAIT1 && usk_queue_len(c->sent) == 0)
        usk_done(o);
}

/* DATA or END. What does not fit into the receive buffer will come again. Takes the packet. */
static void got_data(usk_owned_t *o, struct conn *c, const struct header *h, usk_skb_t *skb)
{
    bool next = ntohl(h->seq) == c->expected;
    if (next && h->type == DATA && usk_sock_state(c->sk) == TCP_FIN_WAIT1) {
        /* Nobody will read it. */
        transmit(o, c, RESET, 0, 0, NULL);
        usk_skb_free(skb);
        fail(o, c, ECONNRESET);
        return;
    }
    if (next && h->type == DATA) {
        usk_skb_pull(skb, sizeof *h);
        c->expected += usk_receive_push(o, skb) == 0;
    } else {
        usk_skb_free(skb);
    }
    if (next && h->type == END) {
        c->expected++;
        usk_set_shutdown(o, 1);
        usk_wake(c->sk, POLLIN | POLLRDNORM | POLLRDHUP);
    }
    transmit(o, c, ACK, c->nxt, c->expected, NULL);
}

static void quick_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    struct conn *c = usk_private(o);
    struct header h;
    usk_addr_t from;
    usk_skb_copy(skb, 0, &h, sizeof h);
    memcpy(&from, usk_skb_cb(skb), sizeof from);
    int state = usk_sock_state(c->sk);
    if (state == TCP_LISTEN && h.type == INITIAL) {
        accept_new(o, skb, &h, &from);
    } else if (h.type == INITIAL && c->peer == ntohl(h.from)) {
        transmit(o, c, ACCEPTED, 0, 0, NULL); /* the first one was lost */
    } else if (state == TCP_SYN_SENT && h.type == ACCEPTED) {
        c->peer = ntohl(h.from);
        c->tries = 0;
        usk_set_state(o, TCP_ESTABLISHED);
        arm(o, c);
        usk_wake(c->sk, POLLOUT | POLLWRNORM);
    } else if (h.type == RESET && state != TCP_CLOSE) {
        fail(o, c, state == TCP_SYN_SENT ? ECONNREFUSED : ECONNRESET);
    } else if ((state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1) && h.type >= DATA && h.type <= ACK) {
        if (memcmp(&c->path, &from, sizeof from) != 0)
            usk_count(usk_owned_reg(o), MOVED, 1);
        c->path = from;
        if (h.type == ACK) {
            got_ack(o, c, ntohl(h.ack));
        } else {
            got_data(o, c, &h, skb);
            return;
        }
    }
    usk_skb_free(skb);
}

enum { REFUSED = 1 << 8 }; /* of usk_defer, beside the timer's bit 0 */

static void quick_release_cb(usk_owned_t *o, uint32_t bits)
{
    struct conn *c = usk_private(o);
    int state = usk_sock_state(c->sk);
    if ((bits & REFUSED) && state == TCP_SYN_SENT) {
        fail(o, c, ECONNREFUSED);
    } else if ((bits & 1) && usk_timer_at(o, 0) == 0 && (state == TCP_SYN_SENT || usk_queue_len(c->sent) > 0)) {
        if (++c->tries > TRIES) {
            fail(o, c, ETIMEDOUT);
            return;
        }
        if (state == TCP_SYN_SENT)
            send_initial(o, c);
        else
            send_again(o, c);
        arm(o, c);
    }
}

/* A datagram has come to the UDP port: whose is it? No sock is owned here. */
static void quick_encap_rcv(usk_udp_t *udp, usk_skb_t *skb, const usk_packet_info_t *info)
{
    usk_reg_t *reg = usk_udp_reg(udp);
    const struct header *h = usk_skb_header(skb, sizeof *h);
    if (!h || h->type < INITIAL || h->type > RESET) {
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = (uint16_t)(ntohl(h->ack) >> 16);
    to.port = (uint16_t)ntohl(h->ack);
    usk_sock_t *sk = h->type == INITIAL ? usk_proto_lookup(reg, &to, &from, info->ifindex)
                                        : find(usk_udp_user(udp), ntohl(h->to));
    if (sk) {
        memcpy(usk_skb_cb(skb), &info->src, sizeof info->src);
        usk_deliver(sk, skb);
        usk_sock_put(sk);
        return;
    }
    /* Nobody's: its sender is told. */
    struct header reset = { .type = RESET, .to = h->from, .from = h->to };
    const usk_tx_info_t tx = { .flags = USK_TX_SRC, .src = info->dst };
    usk_skb_t *reply = h->type == INITIAL || h->type == DATA || h->type == END ? usk_skb_new() : NULL;
    if (reply && usk_skb_append(reply, &reset, sizeof reset) == 0)
        usk_udp_send(udp, reply, &info->src, &tx, sizeof tx);
    usk_drop(reg, skb, USK_DROP_NO_SOCKET);
}

/* Nothing is at the UDP port of the peer, or no way leads there: who connects to it is told. */
static void quick_encap_err(usk_udp_t *udp, const usk_icmp_error_t *error)
{
    struct quick *q = usk_udp_user(udp);
    usk_sock_t *told[16];
    size_t n = 0;
    if (!error->fatal)
        return;
    pthread_mutex_lock(&q->lock);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct conn *c = q->table[i]; c && n < 16; c = c->next)
            if (usk_sock_state(c->sk) == TCP_SYN_SENT && memcmp(&c->path, &error->dst, sizeof c->path) == 0)
                told[n++] = usk_sock_hold(c->sk);
    pthread_mutex_unlock(&q->lock);
    while (n-- > 0) {
        usk_defer(told[n], REFUSED);
        usk_sock_put(told[n]);
    }
}

static void quick_free(void *user)
{
    struct quick *q = user;
    pthread_mutex_destroy(&q->lock);
    free(q);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "QUICK",
        .mib_names = counters,
        .socket_type = SOCK_SEQPACKET,
        .protocol = QUICK,
        .flags = USK_PROTO_V4 | USK_PROTO_V6 | USK_PROTO_CONNECTIONS,
        .obj_size = sizeof(struct conn),
        .init = quick_init,
        .destroy = quick_destroy,
        .connect = quick_connect,
        .disconnect = quick_disconnect,
        .listen = usk_listen_start,
        .accept = usk_accept_wait,
        .close = quick_close,
        .shutdown = quick_shutdown,
        .sendmsg_locked = quick_sendmsg,
        .recvmsg_locked = quick_recvmsg,
        .stream_memory_free = quick_may_send,
        .backlog_rcv = quick_backlog_rcv,
        .release_cb = quick_release_cb,
    };
    static const usk_udp_ops ops = {
        .version = USK_UDP_VERSION,
        .size = sizeof ops,
        .encap_rcv = quick_encap_rcv,
        .encap_err = quick_encap_err,
    };
    const usk_addr_t any = { .family = AF_INET6, .port = UDP_PORT };
    struct quick *q = calloc(1, sizeof *q);
    usk_reg_t *reg;
    if (!q)
        return -ENOMEM;
    pthread_mutex_init(&q->lock, NULL);
    int r = usk_proto_register(plugin, &table, q, &reg);
    if (r < 0) {
        quick_free(q);
        return r;
    }
    usk_user_release(reg, quick_free);
    r = usk_udp_open(reg, &any, &ops, q, &q->udp);
    if (r < 0) {
        usk_plugin_refuse("UDP port 4433 is not to be had");
        return r;
    }
    /* What the devices hold of all connections is the port's. */
    int sndbuf = 1 << 20;
    return usk_udp_setsockopt(q->udp, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
}

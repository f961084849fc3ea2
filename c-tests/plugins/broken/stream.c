/* STREAM: bytes over connections, SOCK_STREAM on IP protocol 253 (RFC 3692), as plain as one can be, with one of these
 * faults, by -DFAULT=NAME: what `usersock check-plugin` must find. With NONE it is sound. Each end has one packet in
 * flight, and sends it again until it is acknowledged; numbers count packets.
 *
 *   0 2 4 8 12 14 16 | from | to | seq | ack | flags | sum | payload ... big-endian; sum as UDP's */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/proto.h>

enum fault {
    NONE,
    CHILD_LEAKS,     /* a connection that nobody accepts is never given up */
    DATA_TWICE,      /* a packet that comes again is data again */
    NEVER_GIVES_UP,  /* who calls nobody waits for ever */
    NO_CLOSE_WAKE,   /* the peer's end wakes nobody */
    NO_END,          /* the peer's end is not told */
    NO_POLLOUT_WAKE, /* room in the send buffer wakes nobody */
    NO_RETRANSMIT,   /* what is lost stays lost */
    NO_SIGPIPE,      /* sending after shutdown(2) is accepted */
    STUCK_CLOSE,     /* with data queued, a closed connection never ends */
    WAITALL_SHORT,   /* MSG_WAITALL returns what is there */
};
#ifndef FAULT
#define FAULT NONE
#endif

struct header {
    uint16_t from, to;
    uint32_t seq, ack;
    uint16_t flags, sum;
};
enum { NUMBER = 253, HEADER = sizeof(struct header), MSS = 1000, ROOM = 16000, TRIES = 8 };
enum { SYN = 1, ACK = 2, FIN = 4 };
enum { RETRANSMIT, CLOSED };
#define MS 1000000ull

struct conn {
    uint32_t snd, rcv;
    uint32_t tries;
    uint16_t flight_flags;
    uint16_t flight; /* bytes of `out` in flight */
    int flying, ending, ended, peer_ended, closed;
    uint32_t out_len, in_len;
    uint8_t out[ROOM], in[ROOM];
};

static void output(usk_owned_t *o, uint16_t flags, uint32_t bytes)
{
    struct conn *c = usk_private(o);
    usk_addr_t from, to;
    if (usk_ends(o, &from, &to) != 0)
        return;
    usk_skb_t *skb = usk_skb_new();
    if (!skb)
        return;
    struct header h = { htons(from.port), htons(to.port), htonl(c->snd), htonl(c->rcv), htons(flags | ACK), 0 };
    usk_skb_append(skb, c->out, bytes);
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    uint32_t sum = usk_csum_pseudo(&from, &to, NUMBER, HEADER + bytes);
    h.sum = htons(usk_csum_fold(usk_skb_csum(skb, 0, HEADER + bytes, sum)));
    usk_skb_pull(skb, HEADER);
    memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
    usk_xmit(o, skb, &to);
}

static void begin(usk_owned_t *o, uint16_t flags, uint32_t bytes)
{
    struct conn *c = usk_private(o);
    c->flying = 1;
    c->flight_flags = flags;
    c->flight = (uint16_t)bytes;
    c->tries = 0;
    if (FAULT != NO_RETRANSMIT)
        usk_timer_arm(o, RETRANSMIT, usk_owned_now(o) + 200 * MS);
    output(o, flags, bytes);
}

/* Sends the next packet, if none is in flight and there is one. */
static void push(usk_owned_t *o)
{
    struct conn *c = usk_private(o);
    uint32_t bytes = c->out_len < MSS ? c->out_len : MSS;
    uint16_t flags = bytes == 0 && c->ending && !c->ended ? FIN : 0;
    if (!c->flying && (bytes || flags))
        begin(o, flags, bytes);
}

static void over(usk_owned_t *o, int error)
{
    struct conn *c = usk_private(o);
    if (error)
        usk_error_report(usk_owned_sock(o), error);
    usk_set_state(o, TCP_CLOSE);
    usk_timer_cancel(o, RETRANSMIT);
    usk_unhash(o);
    usk_wake(usk_owned_sock(o), POLLIN | POLLOUT | POLLHUP);
    if (c->closed)
        usk_done(o);
}

/* Closed here, and our end is acknowledged: the peer's packets are answered for some time. */
static void end(usk_owned_t *o)
{
    struct conn *c = usk_private(o);
    if (c->closed && c->ended && usk_timer_at(o, CLOSED) == 0)
        usk_timer_arm(o, CLOSED, usk_owned_now(o) + 3000 * MS);
}

static void arrive(usk_owned_t *o, const struct header *h, usk_skb_t *skb)
{
    struct conn *c = usk_private(o);
    uint16_t flags = ntohs(h->flags);
    uint32_t seq = ntohl(h->seq), len = (uint32_t)usk_skb_len(skb) - HEADER;
    if (c->flying && (flags & ACK) && ntohl(h->ack) == c->snd + 1) {
        c->flying = 0;
        c->snd++;
        c->out_len -= c->flight;
        memmove(c->out, c->out + c->flight, c->out_len);
        c->ended |= (c->flight_flags & FIN) != 0;
        usk_timer_cancel(o, RETRANSMIT);
        if (c->flight_flags & SYN)
            usk_set_state(o, TCP_ESTABLISHED);
        if (FAULT != NO_POLLOUT_WAKE || (c->flight_flags & SYN))
            usk_wake(usk_owned_sock(o), POLLOUT);
        push(o);
        end(o);
    }
    if (!(flags & (SYN | FIN)) && len == 0)
        return; /* an acknowledgement */
    int next = seq == c->rcv || (FAULT == DATA_TWICE && seq + 1 == c->rcv && len > 0);
    if (!(flags & SYN) && next && c->in_len + len <= ROOM) {
        c->rcv = seq + 1;
        usk_skb_copy(skb, HEADER, c->in + c->in_len, len);
        c->in_len += len;
        if ((flags & FIN) && FAULT != NO_END) {
            c->peer_ended = 1;
            usk_set_shutdown(o, 1);
        }
        if (FAULT != NO_CLOSE_WAKE || !(flags & FIN))
            usk_wake(usk_owned_sock(o), POLLIN);
    }
    output(o, 0, 0);
}

/* A listener gets a SYN: the child is connected at once. */
static void listening(usk_owned_t *o, const struct header *h, const usk_addr_t *local, const usk_addr_t *peer)
{
    usk_sock_info_t info;
    usk_sock_info(o, &info, sizeof info);
    if (!(ntohs(h->flags) & SYN) || info.ack_backlog > info.max_ack_backlog)
        return;
    usk_sock_t *child = usk_new_child(o);
    if (!child)
        return;
    usk_owned_t c;
    usk_lock_sock(child, &c);
    ((struct conn *)usk_private(&c))->rcv = 1;
    if (usk_set_ends(&c, local, peer) == 0 && usk_set_state(&c, TCP_ESTABLISHED) == 0 && usk_hash(&c) == 0 &&
        usk_accept_push(o, child) == 0)
        output(&c, 0, 0);
    else
        usk_done(&c);
    usk_release_sock(&c);
    if (FAULT != CHILD_LEAKS)
        usk_sock_put(child);
}

static uint32_t do_poll(usk_owned_t *o)
{
    struct conn *c = usk_private(o);
    usk_sock_info_t info;
    usk_sock_info(o, &info, sizeof info);
    int state = usk_sock_state(usk_owned_sock(o)), shut = usk_sock_shutdown(usk_owned_sock(o));
    uint32_t m = 0;
    if (c->in_len || (shut & 1) || info.error || state == TCP_CLOSE || (state == TCP_LISTEN && info.ack_backlog))
        m |= POLLIN | POLLRDNORM;
    if ((state == TCP_ESTABLISHED && c->out_len < ROOM) || info.error || state == TCP_CLOSE)
        m |= POLLOUT | POLLWRNORM;
    return m | (info.error ? POLLERR : 0) | (state == TCP_CLOSE || shut == 3 ? POLLHUP : 0) | (shut & 1 ? 0x2000 : 0);
}

static ptrdiff_t do_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    struct conn *c = usk_private(o);
    uint64_t until = usk_timeo(o, USK_SEND, usk_sendmsg_flags(msg) & MSG_DONTWAIT);
    ptrdiff_t sent = 0;
    int r = 0;
    while (usk_sendmsg_len(msg) && r == 0) {
        r = usk_sock_error(usk_owned_sock(o));
        if (r == 0 && ((c->ending && FAULT != NO_SIGPIPE) || usk_sock_state(usk_owned_sock(o)) != TCP_ESTABLISHED))
            r = -EPIPE;
        if (r)
            break;
        uint32_t room = ROOM - c->out_len < MSS ? ROOM - c->out_len : MSS;
        if (room == 0) {
            r = usk_wait(o, POLLOUT, until);
            continue;
        }
        ptrdiff_t n = usk_sendmsg_take(msg, c->out + c->out_len, room);
        if (n < 0) {
            r = (int)n;
            break;
        }
        c->out_len += (uint32_t)n;
        sent += n;
        push(o);
    }
    return sent ? sent : r;
}

static ptrdiff_t do_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    struct conn *c = usk_private(o);
    int flags = usk_recvmsg_flags(msg);
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    uint64_t until = usk_timeo(o, USK_RECV, flags & MSG_DONTWAIT);
    size_t target = usk_rcvlowat(o, FAULT == WAITALL_SHORT ? 0 : flags & MSG_WAITALL, usk_recvmsg_room(msg));
    ptrdiff_t got = 0;
    for (;;) {
        size_t room = usk_recvmsg_room(msg), n = c->in_len < room ? c->in_len : room;
        ptrdiff_t put = usk_recvmsg_put(msg, c->in, n);
        if (put < 0)
            return got ? got : put;
        got += put;
        if (!(flags & MSG_PEEK)) {
            c->in_len -= (uint32_t)put;
            memmove(c->in, c->in + put, c->in_len);
        }
        if (got && ((size_t)got >= target || (flags & MSG_PEEK)))
            return got;
        if (usk_sock_shutdown(usk_owned_sock(o)) & 1)
            return got;
        int r = got ? 0 : usk_sock_error(usk_owned_sock(o));
        if (r == 0 && usk_sock_state(usk_owned_sock(o)) != TCP_ESTABLISHED)
            r = -ENOTCONN;
        if (r == 0)
            r = usk_wait(o, POLLIN, until);
        if (r)
            return got ? got : r;
    }
}

static int do_connect(usk_owned_t *o, const usk_addr_t *to)
{
    usk_addr_t local;
    int r = to->port == 0 ? -EADDRNOTAVAIL : usk_route_connect(o, to);
    if (r == 0 && (usk_ends(o, &local, NULL), local.port == 0))
        r = usk_get_port(o, 0);
    if (r == 0)
        r = usk_hash(o);
    if (r == 0)
        r = usk_set_state(o, TCP_SYN_SENT);
    if (r == 0) {
        memset(usk_private(o), 0, sizeof(struct conn));
        begin(o, SYN, 0);
    }
    return r;
}

static int do_disconnect(usk_owned_t *o)
{
    if (usk_sock_state(usk_owned_sock(o)) == TCP_LISTEN)
        return usk_listen_stop(o);
    usk_timer_cancel(o, RETRANSMIT);
    memset(usk_private(o), 0, sizeof(struct conn));
    return usk_route_disconnect(o);
}

static void do_shutdown(usk_owned_t *o, int how)
{
    struct conn *c = usk_private(o);
    if ((how & 2) && usk_sock_state(usk_owned_sock(o)) == TCP_ESTABLISHED) {
        c->ending = 1;
        push(o);
    }
}

static void do_close(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    (void)flags;
    usk_lock_sock(sk, &o);
    struct conn *c = usk_private(&o);
    if (usk_sock_state(sk) != TCP_ESTABLISHED) {
        if (usk_sock_state(sk) == TCP_LISTEN)
            usk_listen_stop(&o);
        usk_unhash(&o);
        usk_done(&o);
    } else if (FAULT == STUCK_CLOSE && c->out_len) {
        usk_timer_cancel(&o, RETRANSMIT);
    } else {
        c->closed = c->ending = 1;
        push(&o);
        end(&o);
    }
    usk_release_sock(&o);
}

static void do_release_cb(usk_owned_t *o, uint32_t bits)
{
    struct conn *c = usk_private(o);
    if ((bits & 1 << CLOSED) && usk_timer_at(o, CLOSED) == 0) {
        usk_unhash(o);
        usk_done(o);
        return;
    }
    if (!(bits & 1 << RETRANSMIT) || usk_timer_at(o, RETRANSMIT) != 0 || !c->flying)
        return;
    if (++c->tries > TRIES && (FAULT != NEVER_GIVES_UP || !(c->flight_flags & SYN))) {
        over(o, ETIMEDOUT);
        return;
    }
    usk_timer_arm(o, RETRANSMIT, usk_owned_now(o) + 200 * MS);
    output(o, c->flight_flags, c->flight);
}

static void do_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct header *h = usk_skb_header(skb, HEADER);
    size_t len = usk_skb_len(skb);
    usk_addr_t ends[2] = { info->src, info->dst };
    if (!h) {
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    ends[0].port = ntohs(h->from);
    ends[1].port = ntohs(h->to);
    if (usk_csum_fold(usk_skb_csum(skb, 0, len, usk_csum_pseudo(&ends[0], &ends[1], NUMBER, len))) != 0) {
        usk_drop(reg, skb, USK_DROP_CSUM);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(reg, &ends[1], &ends[0], info->ifindex);
    if (!sk) {
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    /* The family says how the address in the packet's IP header is read again. */
    memcpy(usk_skb_cb(skb), &ends[0].addr, 16);
    memcpy((char *)usk_skb_cb(skb) + 16, &ends[1].addr, 16);
    memcpy((char *)usk_skb_cb(skb) + 32, &ends[0].family, sizeof ends[0].family);
    usk_deliver(sk, skb);
    usk_sock_put(sk);
}

static void do_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    struct header h;
    usk_addr_t peer = { 0 }, local = { 0 };
    memcpy(&h, usk_skb_header(skb, HEADER), HEADER);
    memcpy(&peer.addr, usk_skb_cb(skb), 16);
    memcpy(&local.addr, (char *)usk_skb_cb(skb) + 16, 16);
    memcpy(&peer.family, (char *)usk_skb_cb(skb) + 32, sizeof peer.family);
    local.family = peer.family;
    peer.port = ntohs(h.from);
    local.port = ntohs(h.to);
    switch (usk_sock_state(usk_owned_sock(o))) {
    case TCP_LISTEN:
        listening(o, &h, &local, &peer);
        break;
    case TCP_CLOSE:
        break;
    default:
        arrive(o, &h, skb);
    }
    usk_skb_free(skb);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "STREAM",
        .socket_type = SOCK_STREAM,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_CONNECTIONS,
        .obj_size = sizeof(struct conn),
        .close = do_close,
        .connect = do_connect,
        .disconnect = do_disconnect,
        .listen = usk_listen_start,
        .accept = usk_accept_wait,
        .shutdown = do_shutdown,
        .sendmsg_locked = do_sendmsg,
        .recvmsg_locked = do_recvmsg,
        .poll_locked = do_poll,
        .backlog_rcv = do_backlog_rcv,
        .release_cb = do_release_cb,
        .rcv = do_rcv,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

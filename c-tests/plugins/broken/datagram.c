/* TINY (../tiny.c) with one of these faults, by -DFAULT=NAME: what `usersock check-plugin` must find. With NONE it is
 * sound. c-tests/tests/check_plugin.rs says which check finds which. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <usersock/proto.h>

enum fault {
    NONE,
    ALWAYS_READABLE, /* poll returns POLLIN whatever there is */
    CLOSE_HANGS,     /* a close never returns */
    CRASH_AT_EXIT,   /* usk_plugin_exit uses what is gone */
    FREED_TWICE,     /* a packet is delivered, and freed */
    EFAULT_IS_EMPTY, /* a message for which there is no memory in the program is reported as one of no bytes */
    HELD_SOCK,       /* a look-up's reference is not given back */
    IGNORES_DONTWAIT,
    IGNORES_TIMEOUT,
    LEAKED_MEMORY,   /* init allocates, and destroy does not free */
    LEAKED_PACKET,   /* a packet with a wrong checksum is forgotten */
    LEFT_LOCKED,     /* an error path returns without releasing the sock */
    LOST_EINTR,      /* an interrupted wait goes on */
    NO_SENDER,       /* recvmsg names nobody */
    NO_WAKE,         /* waits for what nobody signals */
    ONE_STACK,       /* what belongs to a stack is in static data */
    OWN_CLOCK,       /* packets carry the time of the machine */
    PEEK_CONSUMES,
    PHANTOM_BYTES,   /* reports bytes that it has not copied */
    SURE_OF_ITS_SOCK, /* an ICMP error is taken to be about a socket that lives */
    TAKES_CORRUPTION, /* the checksum is not verified */
    TRUNCATES,       /* sends the front of what is too long, as if it were all */
    TRUSTS_LENGTH,   /* a length in the packet is believed */
    WRONG_ERRNO,     /* ENOENT for a socket without a peer */
    BUSY_FOREVER,    /* a reference of its own to a sock is never given back: unloading is EBUSY */
    REARMS,          /* a timer that arms itself again and again */
};
#ifndef FAULT
#define FAULT NONE
#endif

struct header {
    uint16_t from, to, len, sum;
    uint32_t stamp;
};
enum { NUMBER = 254, HEADER = sizeof(struct header), MAX_PAYLOAD = 65000 };

static usk_reg_t *only;

static ssize_t do_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    size_t all = usk_sendmsg_len(msg), len = all;
    usk_addr_t to, from;
    usk_owned_t o;
    if (len > MAX_PAYLOAD && FAULT != TRUNCATES)
        return -EMSGSIZE;
    if (len > MAX_PAYLOAD)
        len = 1000;
    usk_lock_sock(sk, &o);
    int r = usk_sock_error(sk);
    if (r == 0 && usk_sendmsg_name(msg, &to) != 0 && usk_ends(&o, NULL, &to) != 0) {
        r = FAULT == WRONG_ERRNO ? -ENOENT : -EDESTADDRREQ;
        if (FAULT == LEFT_LOCKED)
            return r;
    }
    if (r == 0)
        r = usk_source(&o, &to, &from);
    if (r == 0) {
        usk_skb_t *skb = usk_skb_from_msg(msg, len);
        struct header h = { htons(from.port), htons(to.port), htons(HEADER + len), 0, 0 };
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (FAULT == OWN_CLOCK)
            h.stamp = htonl((uint32_t)now.tv_nsec);
        memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
        uint32_t sum = usk_csum_pseudo(&from, &to, NUMBER, HEADER + len);
        h.sum = htons(usk_csum_fold(usk_skb_csum(skb, 0, HEADER + len, sum)));
        usk_skb_pull(skb, HEADER);
        memcpy(usk_skb_push(skb, HEADER), &h, HEADER);
        r = usk_xmit(&o, skb, &to);
    }
    if (FAULT == REARMS)
        usk_timer_arm(&o, 0, usk_owned_now(&o) + 1000000000);
    usk_release_sock(&o);
    return r < 0 ? r : (ssize_t)all;
}

static ssize_t do_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    int flags = usk_recvmsg_flags(msg);
    usk_owned_t o;
    ssize_t r = 0;
    usk_lock_sock(sk, &o);
    uint64_t until = usk_timeo(&o, USK_RECV, FAULT == IGNORES_DONTWAIT ? 0 : flags & MSG_DONTWAIT);
    if (FAULT == IGNORES_TIMEOUT && !(flags & MSG_DONTWAIT))
        until = USK_FOREVER;
    usk_skb_t *skb;
    while (!(skb = usk_receive_peek(&o)) && r == 0) {
        r = usk_sock_error(sk);
        if (r == 0 && (usk_sock_shutdown(sk) & 1))
            break;
        if (r == 0)
            r = usk_wait(&o, FAULT == NO_WAKE ? POLLPRI : POLLIN, until);
        if (FAULT == LOST_EINTR && r == -EINTR)
            r = 0;
    }
    if (skb) {
        usk_addr_t from;
        memcpy(&from, usk_skb_cb(skb), sizeof from);
        if (FAULT != NO_SENDER)
            usk_recvmsg_set_name(msg, &from);
        if (FAULT == PHANTOM_BYTES) {
            r = (ssize_t)usk_skb_len(skb) - HEADER;
            usk_skb_free(usk_receive_pop(&o));
        } else {
            r = usk_receive_msg(&o, msg, HEADER);
            if (FAULT == EFAULT_IS_EMPTY && r == -EFAULT)
                r = 0;
            if (FAULT == PEEK_CONSUMES && (flags & MSG_PEEK))
                usk_skb_free(usk_receive_pop(&o));
        }
    }
    usk_release_sock(&o);
    return r;
}

static int do_connect(usk_owned_t *o, const usk_addr_t *to)
{
    int r = to->port == 0 ? -EINVAL : usk_route_connect(o, to);
    return r < 0 ? r : usk_hash(o);
}

static int do_disconnect(usk_owned_t *o)
{
    usk_route_disconnect(o);
    return usk_hash(o);
}

static void do_rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    const struct header *h = usk_skb_header(skb, HEADER);
    size_t len = usk_skb_len(skb);
    if (!h || (ntohs(h->len) != len && FAULT != TRUSTS_LENGTH)) {
        usk_drop(reg, skb, USK_DROP_HEADER);
        return;
    }
    if (FAULT == TRUSTS_LENGTH) {
        const uint8_t *all = usk_skb_header(skb, ntohs(h->len)); /* null, where there are fewer */
        if (all[ntohs(h->len) - 1] == 0x5a)
            h = (const struct header *)all;
    }
    usk_addr_t from = info->src, to = info->dst;
    from.port = ntohs(h->from);
    to.port = ntohs(h->to);
    if (FAULT != TAKES_CORRUPTION &&
        usk_csum_fold(usk_skb_csum(skb, 0, len, usk_csum_pseudo(&from, &to, NUMBER, len))) != 0) {
        if (FAULT != LEAKED_PACKET)
            usk_drop(reg, skb, USK_DROP_CSUM);
        return;
    }
    usk_sock_t *sk = usk_proto_lookup(FAULT == ONE_STACK ? only : reg, &to, &from, info->ifindex);
    if (!sk) {
        usk_drop(reg, skb, USK_DROP_NO_SOCKET);
        return;
    }
    memcpy(usk_skb_cb(skb), &from, sizeof from);
    usk_deliver(sk, skb);
    if (FAULT == FREED_TWICE)
        usk_skb_free(skb);
    if (FAULT != HELD_SOCK)
        usk_sock_put(sk);
}

static void do_backlog_rcv(usk_owned_t *o, usk_skb_t *skb)
{
    usk_receive_push(o, skb);
}

static void do_err(usk_reg_t *reg, const usk_icmp_error_t *e)
{
    struct header h;
    usk_addr_t from = e->src, to = e->dst;
    memcpy(&h, e->quoted, 8);
    from.port = ntohs(h.from);
    to.port = ntohs(h.to);
    usk_sock_t *sk = usk_proto_lookup(reg, &from, &to, e->ifindex);
    if (!sk && FAULT == SURE_OF_ITS_SOCK)
        abort();
    if (sk)
        usk_icmp_report(sk, e, to.port, HEADER);
    usk_sock_put(sk);
}

static uint32_t do_poll(usk_owned_t *o)
{
    (void)o;
    return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

static int do_init(usk_owned_t *o)
{
    if (FAULT == LEAKED_MEMORY)
        *(void **)usk_private(o) = malloc(40);
    if (FAULT == BUSY_FOREVER)
        usk_sock_hold(usk_owned_sock(o));
    return 0;
}

static void do_close(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    (void)flags;
    for (volatile int i = 0; FAULT == CLOSE_HANGS; i++)
        ;
    usk_lock_sock(sk, &o);
    if (FAULT != REARMS || usk_timer_at(&o, 0) == 0) {
        usk_unhash(&o);
        usk_done(&o);
    }
    usk_release_sock(&o);
}

static void do_release_cb(usk_owned_t *o, uint32_t bits)
{
    if (FAULT == REARMS && bits & 1)
        usk_timer_arm(o, 0, usk_owned_now(o) + 1000000000);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "BROKEN",
        .socket_type = SOCK_DGRAM,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_V6,
        .obj_size = sizeof(void *),
        .init = do_init,
        .close = do_close,
        .connect = do_connect,
        .disconnect = do_disconnect,
        .sendmsg = do_sendmsg,
        .recvmsg = do_recvmsg,
        .backlog_rcv = do_backlog_rcv,
        .poll_locked = FAULT == ALWAYS_READABLE ? do_poll : NULL,
        .release_cb = do_release_cb,
        .rcv = do_rcv,
        .err = do_err,
    };
    int r = usk_proto_register(plugin, &table, NULL, &only);
#ifdef TWO_TYPES
    /* messages beside datagrams, in the same ports: what comes to either one comes to do_rcv */
    usk_proto messages = table;
    messages.name = "BROKEN-SEQ";
    messages.socket_type = SOCK_SEQPACKET;
    messages.ports_of = "BROKEN";
    messages.rcv = NULL;
    messages.err = NULL;
    r = r ? r : usk_proto_register(plugin, &messages, NULL, NULL);
#endif
    return r;
}

void usk_plugin_exit(usk_plugin_t *plugin)
{
    (void)plugin;
    if (FAULT == CRASH_AT_EXIT)
        usk_count(only, 0, *(volatile uint64_t *)sizeof(void *));
}

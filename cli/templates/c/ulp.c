/* @name@: a layer on a TCP connection, which a program installs by setsockopt(fd, IPPROTO_TCP, TCP_ULP, "@name@").
 * Every byte is XORed with net.@name@.key on its way: no secret, but what a layer has to do.
 *
 * The layer itself waits, in a consistent state: it calls TCP with MSG_DONTWAIT, keeps what TCP does not accept
 * (`out`), and passes it on when acknowledgements make room (backlog_rcv). */
#include <errno.h>
#include <string.h>
#include <usersock/ulp.h>

enum { WRITABLE = POLLOUT | POLLWRNORM, GONE = POLLERR | POLLHUP };
enum { CHUNK = 4096 };

/* What a connection has of its own, zero at first. */
struct @name@ {
    uint32_t len, at; /* bytes in `out`, and how many of them TCP has */
    int flushing;     /* inside below->send, which may run backlog_rcv: that must not flush */
    uint8_t out[CHUNK];
};

enum { OUT_BYTES, IN_BYTES };
static const char *const counters[] = { "@Name@OutBytes", "@Name@InBytes", NULL };
enum { KEY };
static const usk_sysctl_t sysctls[] = {
    { "key", 0x5a, 0, 255, "What every byte is XORed with." },
    { 0 },
};

static void turn(const usk_ulp_t *ulp, uint8_t *bytes, size_t len)
{
    uint8_t key = (uint8_t)usk_sysctl(ulp->reg, KEY);
    for (size_t i = 0; i < len; i++)
        bytes[i] ^= key;
}

/* Passes what is kept to TCP; `force`: regardless of room, because no more follows. 0: all of it; -EAGAIN: TCP has no
 * room. */
static int flush(usk_owned_t *o, const usk_ulp_t *ulp, int force)
{
    struct @name@ *c = ulp->data;
    if (c->flushing)
        return -EAGAIN;
    int e = 0;
    c->flushing = 1;
    while (e == 0 && c->at < c->len) {
        const uint8_t *from = c->out + c->at;
        ptrdiff_t n = force ? ulp->below->force(o, from, c->len - c->at)
                            : ulp->below->send(o, from, c->len - c->at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            c->at += (uint32_t)n;
        else
            e = n < 0 ? (int)n : -ENOMEM;
    }
    c->flushing = 0;
    if (c->at == c->len)
        c->at = c->len = 0;
    return e;
}

static ptrdiff_t @name@_sendmsg(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg)
{
    struct @name@ *c = ulp->data;
    int flags = usk_sendmsg_flags(msg);
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    if (usk_sendmsg_len(msg) == 0)
        return ulp->below->sendmsg(o, msg);
    if (usk_sock_shutdown(usk_owned_sock(o)) & 2)
        return -EPIPE;
    uint64_t until = usk_timeo(o, USK_SEND, flags & MSG_DONTWAIT);
    ptrdiff_t done = 0;
    for (;;) {
        int e = flush(o, ulp, 0);
        if (usk_sendmsg_len(msg) == 0 && (e == 0 || e == -EAGAIN))
            return done; /* what TCP has no room for is ours to finish */
        if (e == -EAGAIN)
            e = usk_wait(o, POLLOUT, until);
        else if (e == 0) {
            ptrdiff_t n = usk_sendmsg_take(msg, c->out, CHUNK);
            if (n < 0)
                return done ? done : n;
            turn(ulp, c->out, (size_t)n);
            c->len = (uint32_t)n;
            done += n;
            usk_count(ulp->reg, OUT_BYTES, (uint64_t)n);
        }
        if (e)
            return done ? done : e;
    }
}

static ptrdiff_t @name@_recvmsg(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg)
{
    uint8_t buf[CHUNK];
    int flags = usk_recvmsg_flags(msg);
    if (flags & (MSG_OOB | MSG_ERRQUEUE))
        return ulp->below->recvmsg(o, msg);
    ptrdiff_t done = 0;
    size_t room = usk_recvmsg_room(msg), target = usk_rcvlowat(o, flags & MSG_WAITALL, room);
    do {
        ptrdiff_t n = ulp->below->recv(o, buf, room < CHUNK ? room : CHUNK, flags & ~MSG_WAITALL);
        if (n < 0 && n != -EAGAIN && done) /* TCP tells an error once: for the next call */
            usk_error_report(usk_owned_sock(o), (int)-n);
        if (n <= 0)
            return done ? done : n;
        turn(ulp, buf, (size_t)n);
        usk_recvmsg_put(msg, buf, (size_t)n);
        done += n;
        if (flags & MSG_PEEK)
            return done;
        usk_count(ulp->reg, IN_BYTES, (uint64_t)n);
        room = usk_recvmsg_room(msg);
    } while (room && (size_t)done < target);
    return done;
}

/* Writable when nothing is kept. */
static uint32_t @name@_poll(usk_owned_t *o, const usk_ulp_t *ulp)
{
    const struct @name@ *c = ulp->data;
    uint32_t m = ulp->below->poll(o);
    return c->len && !(m & GONE) ? m & ~(uint32_t)WRITABLE : m;
}

/* The segment may have acknowledged data, and so made room. */
static void @name@_backlog_rcv(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb)
{
    const struct @name@ *c = ulp->data;
    ulp->below->backlog_rcv(o, skb);
    if (c->len && !(ulp->below->poll(o) & GONE) && flush(o, ulp, 0) == 0)
        usk_wake(usk_owned_sock(o), WRITABLE);
}

static void @name@_shutdown(usk_owned_t *o, const usk_ulp_t *ulp, int how)
{
    if (how & 2)
        flush(o, ulp, 1);
}

static void @name@_close(usk_sock_t *sk, const usk_ulp_t *ulp, int flags)
{
    usk_owned_t o;
    (void)flags;
    if (usk_lock_sock(sk, &o) != 0)
        return;
    flush(&o, ulp, 1);
    usk_release_sock(&o);
}

/* The child of a listener that has the layer begins with nothing. */
static int @name@_clone(usk_owned_t *child, const usk_ulp_t *ulp, const usk_ulp_t *parent)
{
    (void)child, (void)ulp, (void)parent;
    return 0;
}

static int @name@_may_remove(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o;
    return ((const struct @name@ *)ulp->data)->len ? -EBUSY : 0;
}

static int @name@_disconnect(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct @name@ *c = ulp->data;
    (void)o;
    c->len = c->at = 0;
    return 0;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_ulp_ops layer = {
        .version = USK_ULP_VERSION,
        .size = sizeof layer,
        .name = "@name@",
        .mib_names = counters,
        .sysctls = sysctls,
        .data_size = sizeof(struct @name@),
        .clone = @name@_clone,
        .sendmsg = @name@_sendmsg,
        .recvmsg = @name@_recvmsg,
        .poll = @name@_poll,
        .close = @name@_close,
        .shutdown = @name@_shutdown,
        .backlog_rcv = @name@_backlog_rcv,
        .may_remove = @name@_may_remove,
        .disconnect = @name@_disconnect,
    };
    return usk_ulp_register(plugin, &layer, NULL, NULL);
}

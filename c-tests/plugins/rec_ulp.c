/* rec: a record layer over TCP, by setsockopt(fd, IPPROTO_TCP, TCP_ULP, "rec", 3). It detects errors that TCP's 16-bit
 * checksum and middleboxes miss: bytes are sent in numbered records with a CRC32C, so that modified, lost or duplicated
 * records are detected.
 *
 *     | length (32) | number (32) | CRC32C (32) | payload, 1 to 16384 bytes          all big-endian
 *
 * `length` is of the payload, `number` counts records from 0 where the layer was installed, the CRC is over both and
 * the payload. The program still sees a stream of bytes: records are no messages. It gets no byte of a record that is
 * incomplete or invalid; an invalid one ends the connection: EBADMSG here, a reset to the peer. So does an end of the
 * stream inside a record.
 *
 * The layer itself waits, in a consistent state: it calls TCP with MSG_DONTWAIT only, keeps what TCP does not accept
 * (`out`), and passes it on when acknowledgements make room (backlog_rcv). A record is sent completely before the next
 * begins. */
#include "rec_ulp.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <usersock/ulp.h>

enum { ESTABLISHED = 1, CLOSE_WAIT = 8, LISTENING = 10 };
enum { READABLE = POLLIN | POLLRDNORM, WRITABLE = POLLOUT | POLLWRNORM, GONE = POLLERR | POLLHUP };

enum { OUT_RECORDS, IN_RECORDS, BAD_RECORDS };
static const char *const counters[] = { "RecOutRecords", "RecInRecords", "RecBadRecords", NULL };

struct header {
    uint32_t length, number, crc;
};

struct rec {
    uint8_t *out, *in;      /* room for a record each; a listener has none */
    uint32_t out_len, out_at; /* the record being sent, and how much of it TCP has */
    uint32_t in_len, in_at;   /* bytes of the record being received; payload that the program has */
    uint32_t out_number, in_number, max;
    bool flushing;          /* inside below->send, which may run backlog_rcv: that must not flush */
    bool whole;             /* the incoming record is complete and valid */
    bool eof, shut_rd;
    struct rec_stats stats;
};

/* ---- CRC32C (RFC 3720 appendix B.4), a byte at a time ---- */

static uint32_t crc_table[256];

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
        crc_table[i] = c;
    }
}

static uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (crc = ~crc; len--; p++)
        crc = crc >> 8 ^ crc_table[(crc ^ *p) & 255];
    return ~crc;
}

/* The CRC of a record in a buffer, over all but the CRC field. */
static uint32_t record_crc(const uint8_t *record, size_t payload)
{
    return crc32c(crc32c(0, record, offsetof(struct header, crc)), record + REC_HEADER, payload);
}

/* Restores the connection's error, which TCP returns only once, for the program's next call. */
static void put_back(usk_owned_t *o, int e)
{
    if (e < 0 && e != -EAGAIN && e != -EPIPE && e != -EBADMSG)
        usk_error_report(usk_owned_sock(o), -e);
}

/* ---- sending ---- */

/* Passes the rest of the record to TCP. 0: all of it; -EAGAIN: TCP has no room. */
static int flush(usk_owned_t *o, const usk_ulp_t *ulp, int flags)
{
    struct rec *r = ulp->data;
    if (r->flushing)
        return -EAGAIN;
    bool begun = r->out_at > 0;
    int e = 0;
    r->flushing = true;
    while (e == 0 && r->out_at < r->out_len) {
        ssize_t n = ulp->below->send(o, r->out + r->out_at, r->out_len - r->out_at,
                                     flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            e = (int)n;
        else
            r->out_at += n;
    }
    r->flushing = false;
    if (e == 0 && r->out_len) {
        r->stats.records_out++;
        r->stats.bytes_out += r->out_len - REC_HEADER;
        usk_count(ulp->reg, OUT_RECORDS, 1);
        r->out_len = r->out_at = 0;
    } else if (e == -EAGAIN && !begun && r->out_at > 0) {
        r->stats.partial_out++;
    }
    return e;
}

/* The same, regardless of room: no more data will follow. */
static void force(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    if (r->flushing || r->out_at == r->out_len)
        return;
    r->flushing = true;
    ssize_t n = ulp->below->force(o, r->out + r->out_at, r->out_len - r->out_at);
    r->flushing = false;
    if (n > 0)
        r->out_at += n;
    flush(o, ulp, 0); /* does the accounts; if memory was out, the peer finds a record cut short */
}

static void encode(struct rec *r, usk_sendmsg_t *msg, size_t payload)
{
    struct header h = { htonl(payload), htonl(r->out_number++), 0 };
    usk_sendmsg_take(msg, r->out + REC_HEADER, payload);
    memcpy(r->out, &h, sizeof h);
    h.crc = htonl(record_crc(r->out, payload));
    memcpy(r->out, &h, sizeof h);
    r->out_len = REC_HEADER + payload;
    r->out_at = 0;
}

static ssize_t rec_sendmsg(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg)
{
    struct rec *r = ulp->data;
    int flags = usk_sendmsg_flags(msg);
    ssize_t done = 0;
    if (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR))
        return -EOPNOTSUPP; /* urgent bytes have no place in a record */
    if (!r->out || usk_sendmsg_len(msg) == 0) /* no bytes make no record, but TCP says whether there is a connection */
        return ulp->below->sendmsg(o, msg);
    if (r->stats.bad)
        return -EBADMSG;
    uint64_t until = usk_timeo(o, USK_SEND, flags & MSG_DONTWAIT);
    for (;;) {
        size_t left = usk_sendmsg_len(msg);
        int e = flush(o, ulp, left ? MSG_MORE : flags & (MSG_MORE | MSG_EOR));
        if (e && e != -EAGAIN) {
            if (done && r->out_at == 0) { /* TCP accepted nothing of the last record: it was not sent */
                done -= r->out_len - REC_HEADER;
                r->out_len = 0;
                r->out_number--;
            }
            if (done)
                put_back(o, e);
            return done ? done : e;
        }
        if (left == 0)
            return done; /* what TCP has no room for is ours to finish */
        if (e == 0) {
            size_t n = left < r->max ? left : r->max;
            encode(r, msg, n);
            done += n;
        } else if ((e = usk_wait(o, POLLOUT, until)) != 0) {
            return done ? done : e;
        }
    }
}

/* ---- receiving ---- */

static int bad(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    r->stats.bad = 1;
    r->in_len = r->in_at = r->out_len = r->out_at = 0;
    usk_count(ulp->reg, BAD_RECORDS, 1);
    ulp->below->abort(o, EBADMSG);
    return -EBADMSG;
}

/* Reads the incoming record as far as it has arrived. 1: complete and valid; 0: end of the stream, between two records;
 * -EAGAIN: incomplete. */
static int fill(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    while (!r->whole) {
        if (r->stats.bad)
            return -EBADMSG;
        if (r->eof)
            return 0;
        struct header h;
        uint32_t want = REC_HEADER;
        if (r->in_len >= REC_HEADER) {
            memcpy(&h, r->in, sizeof h);
            want += ntohl(h.length);
        }
        if (r->in_len < want) {
            ssize_t n = ulp->below->recv(o, r->in + r->in_len, want - r->in_len, MSG_DONTWAIT);
            if (n < 0)
                return (int)n;
            if (n == 0 && r->in_len && !r->shut_rd)
                return bad(o, ulp);
            r->eof = n == 0;
            r->in_len += n;
        }
        if (r->in_len == REC_HEADER) {
            memcpy(&h, r->in, sizeof h);
            uint32_t length = ntohl(h.length);
            if (length == 0 || length > REC_MAX_PAYLOAD || ntohl(h.number) != r->in_number)
                return bad(o, ulp);
        } else if (r->in_len > REC_HEADER && r->in_len == want) {
            if (ntohl(h.crc) != record_crc(r->in, want - REC_HEADER))
                return bad(o, ulp);
            r->whole = true;
            r->in_number++;
            r->stats.records_in++;
            r->stats.bytes_in += want - REC_HEADER;
            usk_count(ulp->reg, IN_RECORDS, 1);
        }
    }
    return 1;
}

static uint32_t unread(const struct rec *r)
{
    return r->whole ? r->in_len - REC_HEADER - r->in_at : 0;
}

static ssize_t rec_recvmsg(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg)
{
    struct rec *r = ulp->data;
    int flags = usk_recvmsg_flags(msg);
    if (!r->in || flags & MSG_ERRQUEUE)
        return ulp->below->recvmsg(o, msg);
    if (flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL | MSG_PEEK | MSG_WAITALL | MSG_CMSG_CLOEXEC))
        return -EOPNOTSUPP;
    uint64_t until = usk_timeo(o, USK_RECV, flags & MSG_DONTWAIT);
    ssize_t done = 0;
    size_t target = usk_rcvlowat(o, flags & MSG_WAITALL, usk_recvmsg_room(msg));
    for (;;) {
        int e = fill(o, ulp);
        if (e == 1) {
            size_t n = usk_recvmsg_put(msg, r->in + REC_HEADER + r->in_at, unread(r));
            done += n;
            if (flags & MSG_PEEK)
                return done;
            r->in_at += n;
            if (unread(r) == 0) {
                r->in_len = r->in_at = 0;
                r->whole = false;
            }
            if (usk_recvmsg_room(msg) == 0)
                return done;
            continue;
        }
        if (e == 0 || (done && (e != -EAGAIN || (size_t)done >= target))) {
            put_back(o, e);
            return done;
        }
        if (e == -EAGAIN)
            e = usk_wait(o, POLLIN, until);
        else if (e == -EBADMSG)
            usk_sock_error(usk_owned_sock(o)); /* told by this call */
        if (e)
            return done ? done : e;
    }
}

/* ---- readiness ---- */

/* Readable with a complete valid record, at the end, or on an error: not with an incomplete record. Writable when the
 * next record can begin. */
static uint32_t rec_poll(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    uint32_t m = ulp->below->poll(o);
    if (!r->in)
        return m;
    if (!(m & POLLERR)) { /* a pending error is left for the program */
        if (m & POLLIN)
            put_back(o, fill(o, ulp));
        if (m & POLLOUT)
            put_back(o, flush(o, ulp, 0));
        m = ulp->below->poll(o);
    }
    if (r->whole || r->eof || r->stats.bad || m & GONE)
        m |= READABLE;
    else
        m &= ~(uint32_t)READABLE;
    if (r->out_len && !(m & GONE))
        m &= ~(uint32_t)WRITABLE;
    return m;
}

static void rec_backlog_rcv(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb)
{
    struct rec *r = ulp->data;
    ulp->below->backlog_rcv(o, skb);
    /* The segment may have acknowledged data, and so made room. */
    if (r->out_len && !(ulp->below->poll(o) & GONE) && flush(o, ulp, 0) == 0)
        usk_wake(usk_owned_sock(o), WRITABLE);
}

/* ---- ends ---- */

static int start(struct rec *r, uint32_t max)
{
    uint8_t *out = malloc(REC_HEADER + REC_MAX_PAYLOAD), *in = malloc(REC_HEADER + REC_MAX_PAYLOAD);
    if (!out || !in) {
        free(out);
        free(in);
        return -ENOMEM;
    }
    *r = (struct rec) { .out = out, .in = in, .max = max };
    return 0;
}

static int rec_init(usk_owned_t *o, const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    int state = usk_sock_state(usk_owned_sock(o));
    if (state == ESTABLISHED || state == CLOSE_WAIT)
        return start(r, REC_MAX_PAYLOAD);
    r->max = REC_MAX_PAYLOAD;
    return state == LISTENING ? 0 : -ENOTCONN; /* on a listener it is for the children */
}

static int rec_clone(usk_owned_t *child, const usk_ulp_t *ulp, const usk_ulp_t *parent)
{
    (void)child;
    return start(ulp->data, ((const struct rec *)parent->data)->max);
}

/* Discards buffered bytes; records of the next connection begin with number 0. */
static int rec_disconnect(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o;
    struct rec old = *(struct rec *)ulp->data;
    int e = start(ulp->data, old.max);
    if (e == 0) {
        free(old.out);
        free(old.in);
    }
    return e;
}

static void rec_release(const usk_ulp_t *ulp)
{
    struct rec *r = ulp->data;
    free(r->out);
    free(r->in);
}

static void rec_shutdown(usk_owned_t *o, const usk_ulp_t *ulp, int how)
{
    struct rec *r = ulp->data;
    if (how & 1)
        r->shut_rd = true;
    if (how & 2)
        force(o, ulp);
}

static void rec_close(usk_sock_t *sk, const usk_ulp_t *ulp, int flags)
{
    (void)flags;
    struct rec *r = ulp->data;
    usk_owned_t o;
    if (usk_lock_sock(sk, &o) != 0)
        return;
    if (r->in) {
        force(&o, ulp);
        if (r->in_len)
            ulp->below->abort(&o, ECONNRESET); /* as TCP does with unread data */
    }
    usk_release_sock(&o);
}

static int rec_may_remove(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o;
    struct rec *r = ulp->data;
    return r->in_len || r->out_len ? -EBUSY : 0;
}

/* ---- options ---- */

static int rec_setsockopt(usk_sock_t *sk, const usk_ulp_t *ulp, int level, int name, const void *value, size_t len)
{
    if (level != SOL_REC)
        return ulp->below->setsockopt(sk, level, name, value, len);
    int max;
    if (name != REC_MAX)
        return -ENOPROTOOPT;
    if (len < sizeof max)
        return -EINVAL;
    memcpy(&max, value, sizeof max);
    if (max < 1 || max > REC_MAX_PAYLOAD)
        return -EINVAL;
    usk_owned_t o;
    int e = usk_lock_sock(sk, &o);
    if (e)
        return e;
    ((struct rec *)ulp->data)->max = max;
    usk_release_sock(&o);
    return 0;
}

static ssize_t rec_getsockopt(usk_sock_t *sk, const usk_ulp_t *ulp, int level, int name, void *value, size_t len)
{
    if (level != SOL_REC)
        return ulp->below->getsockopt(sk, level, name, value, len);
    if (name != REC_STATS && name != REC_MAX)
        return -ENOPROTOOPT;
    const struct rec *r = ulp->data;
    usk_owned_t o;
    int e = usk_lock_sock(sk, &o);
    if (e)
        return e;
    int max = (int)r->max;
    struct rec_stats s = r->stats;
    s.held_out = r->out_len - r->out_at;
    s.held_in = r->whole ? unread(r) : r->in_len;
    usk_release_sock(&o);
    size_t size = name == REC_MAX ? sizeof max : sizeof s;
    if (len < size)
        size = len;
    memcpy(value, name == REC_MAX ? (void *)&max : &s, size);
    return size;
}

static int rec_ioctl(usk_sock_t *sk, const usk_ulp_t *ulp, unsigned long request, int *value)
{
    int e = request == SIOCINQ ? 0 : ulp->below->ioctl(sk, request, value);
    if (e || (request != SIOCINQ && request != SIOCOUTQ))
        return e;
    const struct rec *r = ulp->data;
    usk_owned_t o;
    e = usk_lock_sock(sk, &o);
    if (e)
        return e;
    if (!r->in) {
        e = -EINVAL;
    } else if (request == SIOCINQ) {
        if (ulp->below->poll(&o) & POLLIN && !(ulp->below->poll(&o) & POLLERR))
            fill(&o, ulp);
        *value = (int)unread(r);
    } else {
        *value += (int)(r->out_len - r->out_at);
    }
    usk_release_sock(&o);
    return e;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_ulp_ops rec = {
        .version = USK_ULP_VERSION,
        .size = sizeof rec,
        .name = "rec",
        .data_size = sizeof(struct rec),
        .mib_names = counters,
        .init = rec_init,
        .release = rec_release,
        .clone = rec_clone,
        .sendmsg = rec_sendmsg,
        .recvmsg = rec_recvmsg,
        .poll = rec_poll,
        .close = rec_close,
        .shutdown = rec_shutdown,
        .setsockopt = rec_setsockopt,
        .getsockopt = rec_getsockopt,
        .ioctl = rec_ioctl,
        .backlog_rcv = rec_backlog_rcv,
        .may_remove = rec_may_remove,
        .disconnect = rec_disconnect,
    };
    crc_init();
    return usk_ulp_register(plugin, &rec, NULL, NULL);
}

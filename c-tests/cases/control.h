/* Control messages of the option cases: what a receive carries, and sends with one message. */
#ifndef USERSOCK_CASES_CONTROL_H
#define USERSOCK_CASES_CONTROL_H
#include "common.h"

struct received {
    ssize_t n;
    struct addr from;
    union {
        char control[512];
        struct cmsghdr align;
    };
    size_t control_len;
};

/* Receives one datagram, waiting up to two seconds for it; n is -1 when none came. */
static UNUSED struct received receive(int fd, int flags)
{
    static char buf[70000];
    struct received r;
    memset(&r, 0, sizeof r);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    OK(usk_poll(&p, 1, 2000));
    struct iovec iov = {buf, sizeof buf};
    struct msghdr m = {.msg_name = &r.from.sa, .msg_namelen = sizeof r.from.storage, .msg_iov = &iov, .msg_iovlen = 1};
    m.msg_control = r.control;
    m.msg_controllen = sizeof r.control;
    r.n = usk_recvmsg(fd, &m, flags | MSG_DONTWAIT);
    r.from.len = m.msg_namelen;
    r.control_len = m.msg_controllen;
    return r;
}

/* The control message of a level and type, and its length; NULL: there is none. */
static UNUSED void *control_of(struct received *r, int level, int type, size_t *len)
{
    struct msghdr m = {.msg_control = r->control, .msg_controllen = r->control_len};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == level && c->cmsg_type == type) {
            *len = c->cmsg_len - CMSG_LEN(0);
            return CMSG_DATA(c);
        }
    return NULL;
}

/* Its value as an int; -12345: there is none. */
static UNUSED int control_int(struct received *r, int level, int type)
{
    size_t len;
    int value;
    void *data = control_of(r, level, type, &len);
    if (!data || len != sizeof value)
        return -12345;
    memcpy(&value, data, sizeof value);
    return value;
}

/* Sends `n` bytes with one control message. */
static UNUSED ssize_t send_with(int fd, const struct addr *to, const void *bytes, size_t n, int level, int type,
                                const void *data, size_t len)
{
    union {
        char bytes[256];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {(void *)bytes, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    m.msg_name = to ? (void *)&to->sa : NULL;
    m.msg_namelen = to ? to->len : 0;
    m.msg_control = &control;
    m.msg_controllen = CMSG_SPACE(len);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    return usk_sendmsg(fd, &m, 0);
}

static UNUSED ssize_t send_with_int(int fd, const struct addr *to, int level, int type, int value)
{
    return send_with(fd, to, "x", 1, level, type, &value, sizeof value);
}
#endif

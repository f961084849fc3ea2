/* SO_TIMESTAMPING in software: which values there are, what is reported of a stream's bytes and of datagrams, with
 * which ids, by option and by control message; SO_TIMESTAMP and its kin by both of their numbers. */
#include "common.h"
#include <linux/net_tstamp.h>

/* Newer than some systems' headers. */
enum {
    OPT_ID_TCP = 1 << 16, OPT_RX_FILTER = 1 << 17, TX_COMPLETION = 1 << 18,
    TS_OLD = 37, TS_NEW = 65, STAMP_NEW = 63, STAMPNS_NEW = 64, TS_OPT_ID = 81, OPT_STATS = 54,
};
#define SOFT SOF_TIMESTAMPING_SOFTWARE
#define ALL_TX (SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK)
#define ID SOF_TIMESTAMPING_OPT_ID
#define ONLY SOF_TIMESTAMPING_OPT_TSONLY

static char packet[4096];

/* Reads a report, which must be of `event` with the id `id`. Returns the bytes that came with it, in `packet`. `type`:
 * that of the control message with the time; 0: there is none. `stats`: there are TCP's measurements. `from`: the
 * family of the packet's source, if that is told. */
static int reported_at(int line, int fd, unsigned event, unsigned id, int type, bool stats, int from)
{
    bool v6 = sock_name(fd).sa.sa_family == AF_INET6;
    static char control[1024];
    struct iovec iov = {packet, sizeof packet};
    struct addr name;
    struct msghdr m = {.msg_name = &name.storage,
                       .msg_namelen = sizeof name.storage,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    eq_at(__FILE__, line, "poll", await(fd, 0) & POLLERR, POLLERR);
    int n = (int)ok_at(__FILE__, line, "recvmsg", usk_recvmsg(fd, &m, MSG_ERRQUEUE));
    eq_at(__FILE__, line, "msg_flags", m.msg_flags, MSG_ERRQUEUE);
    eq_at(__FILE__, line, "msg_namelen", m.msg_namelen, 0);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (type) {
        CHECK(h != NULL);
        eq_at(__FILE__, line, "type of the time", h->cmsg_type, type);
        eq_at(__FILE__, line, "length of the time", h->cmsg_len, CMSG_LEN(6 * sizeof(long)));
        long t[6];
        memcpy(t, CMSG_DATA(h), sizeof t);
        CHECK(t[0] > 1700000000 && t[2] == 0 && t[4] == 0);
        h = CMSG_NXTHDR(&m, h);
    }
    if (stats) {
        CHECK(h != NULL);
        eq_at(__FILE__, line, "measurements", h->cmsg_type, OPT_STATS);
        eq_at(__FILE__, line, "their length", h->cmsg_len, CMSG_LEN(event == SCM_TSTAMP_ACK ? 256 : 248));
        h = CMSG_NXTHDR(&m, h);
    }
    while (h && from && h->cmsg_type != (v6 ? IPV6_RECVERR : IP_RECVERR))
        h = CMSG_NXTHDR(&m, h);
    CHECK(h != NULL);
    eq_at(__FILE__, line, "type of the error", h->cmsg_type, v6 ? IPV6_RECVERR : IP_RECVERR);
    struct sock_extended_err err;
    memcpy(&err, CMSG_DATA(h), sizeof err);
    EQ(err.ee_errno, ENOMSG);
    EQ(err.ee_origin, SO_EE_ORIGIN_TIMESTAMPING);
    EQ(err.ee_type, 0);
    EQ(err.ee_code, 0);
    eq_at(__FILE__, line, "event", err.ee_info, event);
    eq_at(__FILE__, line, "id", err.ee_data, id);
    struct sockaddr offender;
    memcpy(&offender, CMSG_DATA(h) + sizeof err, sizeof offender);
    eq_at(__FILE__, line, "source", offender.sa_family, from);
    CHECK(CMSG_NXTHDR(&m, h) == NULL);
    return n;
}
#define REPORTED(fd, event, id) EQ(reported_at(__LINE__, fd, event, id, TS_OLD, false, 0), 0)

static void no_report_at(int line, int fd)
{
    struct msghdr m = {.msg_iovlen = 0};
    errno = 0;
    err_at(__FILE__, line, "recvmsg", usk_recvmsg(fd, &m, MSG_ERRQUEUE), EAGAIN);
}
#define NO_REPORT(fd) no_report_at(__LINE__, fd)

/* Sends a byte with one or two control messages of SOL_SOCKET. */
static long send_with(int fd, int type, unsigned value, int type2, unsigned value2)
{
    char byte = 'x', control[2 * CMSG_SPACE(sizeof value)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    for (int i = 0; i < (type2 ? 2 : 1); i++) {
        struct cmsghdr h = {
            .cmsg_level = SOL_SOCKET, .cmsg_type = i ? type2 : type, .cmsg_len = CMSG_LEN(sizeof value)};
        memcpy(control + m.msg_controllen, &h, sizeof h);
        memcpy(control + m.msg_controllen + sizeof h, i ? &value2 : &value, sizeof value);
        m.msg_controllen += CMSG_SPACE(sizeof value);
    }
    return usk_sendmsg(fd, &m, 0);
}

static void values(int family)
{
    int fd = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    ERR(set_int(fd, SOL_SOCKET, TS_OLD, SOFT | ID), EINVAL); /* nothing to count from */
    OK(set_int(fd, SOL_SOCKET, TS_OLD, SOFT));
    unsigned both[2] = {9, 9};
    socklen_t len = sizeof both;
    OK(usk_getsockopt(fd, SOL_SOCKET, TS_OLD, both, &len));
    EQ(len, 8);
    EQ(get_int(fd, SOL_SOCKET, TS_NEW), 0); /* what the older number set is not shown by the newer */
    EQ(both[0], SOFT);
    EQ(both[1], 0);
    for (int bit = 19; bit < 32; bit++)
        ERR(set_int(fd, SOL_SOCKET, TS_OLD, (int)(1u << bit)), EINVAL);
    ERR(set_int(fd, SOL_SOCKET, TS_OLD, OPT_ID_TCP), EINVAL);
    ERR(set_int(fd, SOL_SOCKET, TS_OLD, SOF_TIMESTAMPING_OPT_STATS), EINVAL);
    ERR(set_int(fd, SOL_SOCKET, TS_OLD, SOF_TIMESTAMPING_BIND_PHC), EOPNOTSUPP);
    OK(set_int(fd, SOL_SOCKET, TS_OLD, OPT_RX_FILTER | TX_COMPLETION));
    EQ(get_int(fd, SOL_SOCKET, TS_OLD), OPT_RX_FILTER | TX_COMPLETION);
    OK(usk_close(fd));
    /* Each of the four receive options takes back the others. */
    const int receive[] = {SO_TIMESTAMP, SO_TIMESTAMPNS, STAMP_NEW, STAMPNS_NEW};
    fd = (int)OK(usk_socket(family, SOCK_DGRAM, 0));
    for (int i = 0; i < COUNT(receive); i++) {
        OK(set_int(fd, SOL_SOCKET, receive[i], 1));
        for (int j = 0; j < COUNT(receive); j++)
            EQ(get_int(fd, SOL_SOCKET, receive[j]), i == j || (i == 3 && j == 2)); /* a quirk of the newer two */
    }
    OK(set_int(fd, SOL_SOCKET, SO_TIMESTAMP, 0));
    EQ(get_int(fd, SOL_SOCKET, STAMPNS_NEW), 0);
    OK(usk_close(fd));
}

static void stream(int family)
{
    int fd[2], headers = 14 + (family == AF_INET ? 20 : 40) + 32;
    int source = family == AF_INET ? 0 : family;
    char buf[1000];
    memset(buf, 'x', sizeof buf);
    tcp_pair(family, fd);
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ALL_TX));
    EQ(usk_send(fd[0], buf, 100, 0), 100);
    /* The packet comes with its headers, that of the loopback too; of an acknowledged one the bytes alone. */
    EQ(reported_at(__LINE__, fd[0], SCM_TSTAMP_SCHED, 0, TS_OLD, false, source), headers + 100);
    EQ(packet[headers - 10], 8); /* the timestamp option ends TCP's header */
    EQ(packet[headers - 9], 10);
    EQ(packet[headers], 'x');
    EQ(reported_at(__LINE__, fd[0], SCM_TSTAMP_SND, 0, TS_OLD, false, source), headers + 100);
    EQ(reported_at(__LINE__, fd[0], SCM_TSTAMP_ACK, 0, TS_OLD, false, 0), 100);
    /* Ids count bytes from where the option was set. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ALL_TX | ID | ONLY));
    for (unsigned end = 200; end <= 400; end += 200) {
        EQ(usk_send(fd[0], buf, 200, 0), 200);
        REPORTED(fd[0], SCM_TSTAMP_SCHED, end - 1);
        REPORTED(fd[0], SCM_TSTAMP_SND, end - 1);
        REPORTED(fd[0], SCM_TSTAMP_ACK, end - 1);
    }
    OK(set_int(fd[0], SOL_SOCKET, TS_NEW, SOFT | ALL_TX | ID | ONLY | SOF_TIMESTAMPING_OPT_STATS));
    EQ(usk_send(fd[0], buf, 1, 0), 1);
    for (int i = 0; i < 3; i++) {
        const unsigned event[] = {SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SCM_TSTAMP_ACK};
        EQ(reported_at(__LINE__, fd[0], event[i], 400, TS_NEW, true, 0), i == 2 ? 256 : 248);
        unsigned short head[2];
        memcpy(head, packet, sizeof head);
        EQ(head[0], 12);
        EQ(head[1], 1); /* TCP_NLA_BUSY */
    }
    /* The event comes without the time where SOFTWARE is not set. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOF_TIMESTAMPING_TX_ACK | ID | ONLY));
    EQ(usk_send(fd[0], buf, 1, 0), 1);
    EQ(reported_at(__LINE__, fd[0], SCM_TSTAMP_ACK, 401, 0, false, 0), 0);
    /* By control message, for one call. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ID | ONLY));
    EQ(usk_send(fd[0], buf, 1, 0), 1);
    EQ(send_with(fd[0], TS_OLD, SOF_TIMESTAMPING_TX_ACK, 0, 0), 1);
    REPORTED(fd[0], SCM_TSTAMP_ACK, 403);
    EQ(send_with(fd[0], TS_NEW, SOF_TIMESTAMPING_TX_SOFTWARE, 0, 0), 1);
    REPORTED(fd[0], SCM_TSTAMP_SND, 404);
    ERR(send_with(fd[0], TS_OLD, SOFT, 0, 0), EINVAL);
    ERR(send_with(fd[0], TS_OLD, ID, 0, 0), EINVAL);
    ERR(send_with(fd[0], TS_OLD, SOF_TIMESTAMPING_TX_SOFTWARE, TS_OPT_ID, 7), EINVAL);
    EQ(usk_send(fd[0], buf, 0, 0), 0);
    NO_REPORT(fd[0]);
    EQ(so_error(fd[0]), 0);
    close_pair(fd);

    /* An accepted socket has its listener's option. */
    int l = listener(local(family), 1);
    OK(set_int(l, SOL_SOCKET, TS_OLD, SOFT | SOF_TIMESTAMPING_TX_ACK | ONLY));
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get_int(fd[1], SOL_SOCKET, TS_OLD), SOFT | SOF_TIMESTAMPING_TX_ACK | ONLY);
    OK(usk_close(l));
    close_pair(fd);
}

static void datagrams(int family)
{
    int fd[2], headers = 14 + (family == AF_INET ? 20 : 40) + 8;
    udp_pair(family, fd);
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ALL_TX | ID));
    for (unsigned id = 0; id < 2; id++) {
        EQ(usk_send(fd[0], "xyz", 3, 0), 3);
        for (int i = 0; i < 2; i++)
            EQ(reported_at(__LINE__, fd[0], i ? SCM_TSTAMP_SND : SCM_TSTAMP_SCHED, id, TS_OLD, false,
                           family == AF_INET ? 0 : family),
               headers + 3);
        EQ(memcmp(packet + headers, "xyz", 3), 0);
    }
    /* SOF_TIMESTAMPING_OPT_CMSG tells a socket of IPv4 of the packet. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | SOF_TIMESTAMPING_TX_SOFTWARE | ID | SOF_TIMESTAMPING_OPT_CMSG));
    OK(set_int(fd[0], family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
               family == AF_INET ? IP_PKTINFO : IPV6_RECVPKTINFO, 1));
    EQ(usk_send(fd[0], "xyz", 3, 0), 3);
    EQ(reported_at(__LINE__, fd[0], SCM_TSTAMP_SND, 2, TS_OLD, false, family), headers + 3);
    /* Ids count the datagrams that are reported; one may bring its own. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ID | ONLY));
    EQ(usk_send(fd[0], "x", 1, 0), 1);
    EQ(send_with(fd[0], TS_OLD, SOF_TIMESTAMPING_TX_SOFTWARE, 0, 0), 1);
    REPORTED(fd[0], SCM_TSTAMP_SND, 3);
    EQ(send_with(fd[0], TS_OLD, SOF_TIMESTAMPING_TX_SOFTWARE, TS_OPT_ID, 77), 1);
    REPORTED(fd[0], SCM_TSTAMP_SND, 77);
    EQ(send_with(fd[0], TS_OPT_ID, 77, 0, 0), 1);
    NO_REPORT(fd[0]);
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | ONLY));
    ERR(send_with(fd[0], TS_OLD, SOF_TIMESTAMPING_TX_SOFTWARE, TS_OPT_ID, 77), EINVAL);
    /* Set anew they begin at 0; a corked datagram has one. */
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | SOF_TIMESTAMPING_TX_SOFTWARE | ID | ONLY));
    EQ(usk_send(fd[0], "x", 1, MSG_MORE), 1);
    EQ(usk_send(fd[0], "x", 1, 0), 1);
    REPORTED(fd[0], SCM_TSTAMP_SND, 0);
    NO_REPORT(fd[0]);
    close_pair(fd);
    /* Reports take the receive buffer's room, and beyond that are lost: each has some hundred bytes at least. */
    udp_pair(family, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_RCVBUF, 0));
    OK(set_int(fd[0], SOL_SOCKET, TS_OLD, SOFT | SOF_TIMESTAMPING_TX_SOFTWARE | ID | ONLY));
    for (int i = 0; i < 10; i++)
        EQ(usk_send(fd[0], "x", 1, 0), 1);
    REPORTED(fd[0], SCM_TSTAMP_SND, 0);
    REPORTED(fd[0], SCM_TSTAMP_SND, 1);
    NO_REPORT(fd[0]);
    close_pair(fd);
}

/* Reads a datagram of one byte. Returns whether a control message came with it; `h` has its header. */
static bool with_control(int fd, struct cmsghdr *h, bool *more)
{
    char control[256], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    EQ(usk_recvmsg(fd, &m, 0), 1);
    struct cmsghdr *first = CMSG_FIRSTHDR(&m);
    if (first) {
        *h = *first;
        *more = CMSG_NXTHDR(&m, first) != NULL;
    }
    return first != NULL;
}

/* The times of received packets, by each of the options. */
static void received(int family)
{
    int fd[2], other[2];
    struct cmsghdr h;
    bool more;
    /* The kernel begins to stamp packets some time after the first socket asks for it, and ends with the last. */
    udp_pair(family, other);
    OK(set_int(other[1], SOL_SOCKET, TS_OLD, SOFT | SOF_TIMESTAMPING_RX_SOFTWARE));
    do
        EQ(usk_send(other[0], "x", 1, 0), 1);
    while (!with_control(other[1], &h, &more));
    udp_pair(family, fd);
    const struct { int option, value, type, len; } row[] = {
        {SO_TIMESTAMP, 1, SO_TIMESTAMP, 16},
        {SO_TIMESTAMPNS, 1, SO_TIMESTAMPNS, 16},
        {STAMP_NEW, 1, STAMP_NEW, 16},
        {STAMPNS_NEW, 1, STAMPNS_NEW, 16},
        {STAMPNS_NEW, 0, 0, 0},
        {TS_OLD, SOFT | SOF_TIMESTAMPING_RX_SOFTWARE, TS_OLD, 48},
        {TS_NEW, SOFT | SOF_TIMESTAMPING_RX_SOFTWARE, TS_NEW, 48},
        {TS_NEW, SOF_TIMESTAMPING_RX_SOFTWARE, 0, 0},
    };
    for (int i = 0; i < COUNT(row); i++) {
        OK(set_int(fd[1], SOL_SOCKET, row[i].option, row[i].value));
        EQ(usk_send(fd[0], "x", 1, 0), 1);
        EQ(with_control(fd[1], &h, &more), row[i].len != 0);
        if (!row[i].len)
            continue;
        EQ(h.cmsg_level, SOL_SOCKET);
        EQ(h.cmsg_type, row[i].type);
        EQ(h.cmsg_len, CMSG_LEN(row[i].len));
        EQ(more, false);
    }
    close_pair(other);
    close_pair(fd);
}

/* SO_TXTIME and SCM_TXTIME. A device that does not keep departure times sends at once. */
static void departure(int type)
{
    enum { TXTIME = 61 };
    int fd[2];
    if (type == SOCK_STREAM)
        tcp_pair(AF_INET, fd);
    else
        udp_pair(AF_INET, fd);
    char byte = 'x', control[CMSG_SPACE(8)] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr h = {.cmsg_level = SOL_SOCKET, .cmsg_type = TXTIME, .cmsg_len = CMSG_LEN(8)};
    uint64_t time = 1;
    memcpy(control, &h, sizeof h);
    memcpy(control + sizeof h, &time, sizeof time);
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    struct { int clock; unsigned flags; int more; } value = {CLOCK_MONOTONIC, 4, 0};
    socklen_t len = 8;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, TXTIME, &value, &len));
    EQ(value.clock, CLOCK_REALTIME);
    value.clock = CLOCK_MONOTONIC;
    value.flags = 4;
    ERR(usk_setsockopt(fd[0], SOL_SOCKET, TXTIME, &value, 8), EINVAL);
    value.flags = SOF_TXTIME_DEADLINE_MODE | SOF_TXTIME_REPORT_ERRORS;
    ERR(usk_setsockopt(fd[0], SOL_SOCKET, TXTIME, &value, 4), EINVAL);
    ERR(usk_setsockopt(fd[0], SOL_SOCKET, TXTIME, &value, 12), EINVAL);
    OK(usk_setsockopt(fd[0], SOL_SOCKET, TXTIME, &value, 8));
    value.clock = 99;
    value.flags = 0;
    OK(usk_getsockopt(fd[0], SOL_SOCKET, TXTIME, &value, &len));
    EQ(len, 8);
    EQ(value.clock, CLOCK_MONOTONIC);
    EQ(value.flags, SOF_TXTIME_DEADLINE_MODE | SOF_TXTIME_REPORT_ERRORS);
    for (time = 0; time < 2; time++) {
        memcpy(control + sizeof h, &time, sizeof time);
        EQ(usk_sendmsg(fd[0], &m, 0), 1);
        EQ(usk_recv(fd[1], &byte, 1, 0), 1);
    }
    h.cmsg_len = CMSG_LEN(4);
    memcpy(control, &h, sizeof h);
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    close_pair(fd);
}

int main(void)
{
    begin("timestamping");
    for (int i = 0; i < 2; i++) {
        int family = i ? AF_INET6 : AF_INET;
        values(family);
        stream(family);
        datagrams(family);
        received(family);
    }
    departure(SOCK_STREAM);
    departure(SOCK_DGRAM);
    return done();
}

/* Control messages, queued errors and back-pressure of datagrams over a plug-in are UDP's: each scene runs with TINY
 * and with UDP. Then what a protocol decides packet by packet, and ECN of a stream. ARGV[1] is the folder of the built
 * plug-ins. */
#include "common.h"
#include "wire.h"

enum { TINY = 254, OURS = 253, BOUND = 9 };

static usk_stack_t *a, *b;
static char tiny[512];

/* The TOS, TTL and source of the last packet of protocol `watched`. */
static struct {
    int watched, tos, ttl, df;
    unsigned char src[4];
    uint32_t flow;
    unsigned char src6;
} seen;
static bool stuck[2];

static bool look(int from, unsigned char *p, size_t len)
{
    (void)len;
    if (from != 0)
        return true;
    if (p[0] >> 4 == 4 && p[9] == seen.watched) {
        seen.tos = p[1], seen.ttl = p[8], seen.df = p[6] >> 6 & 1;
        memcpy(seen.src, p + 12, 4);
    } else if (p[0] >> 4 == 6 && p[6] == seen.watched) {
        seen.tos = (p[0] << 4 | p[1] >> 4) & 255, seen.ttl = p[7];
        seen.flow = (uint32_t)(p[1] & 15) << 16 | (uint32_t)p[2] << 8 | p[3];
        seen.src6 = p[23];
    }
    return true;
}

static int xmit_or_stuck(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    bool *s = &stuck[(struct wire_end *)device - wire.end];
    return __atomic_load_n(s, __ATOMIC_RELAXED) ? -EAGAIN : wire_xmit(device, queue, now, skb);
}

static int init_wire(usk_plugin_t *plugin)
{
    usk_device_ops t = wire_kind();
    t.xmit = xmit_or_stuck;
    return usk_device_register(plugin, &t, NULL, NULL);
}

static usk_stack_t *host(int n)
{
    char config[128];
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack && usk_plugin_attach(stack, "wire", init_wire));
    /* 10.0.0.1 and 10.0.0.3 are A's. */
    const char *second = n == 0 ? ",addr=10.0.0.3/24" : "";
    snprintf(config, sizeof config, "device=wire:%d,addr=10.0.0.%d/24%s,addr=fd00::%d/64", n, n + 1, second, n + 1);
    OK(usk_device_add(stack, config));
    return stack;
}

static int dgram(usk_stack_t *stack, int protocol)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, protocol));
}

/* Sends a byte with one control message of an int, or of `data`. */
static ssize_t send_with(int fd, struct addr *to, int level, int type, const void *data, size_t len)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64)];
    } c = { 0 };
    struct iovec v = { "x", 1 };
    struct msghdr m = { .msg_name = &to->sa, .msg_namelen = to->len, .msg_iov = &v, .msg_iovlen = 1 };
    m.msg_control = &c;
    m.msg_controllen = CMSG_SPACE(len);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = level, h->cmsg_type = type, h->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(h), data, len);
    return usk_sendmsg(fd, &m, 0);
}

static ssize_t send_int(int fd, struct addr *to, int level, int type, int value)
{
    return send_with(fd, to, level, type, &value, sizeof value);
}

/* Receives, and gives the control message of this type; null: none. */
static void *received(int fd, int flags, int level, int type)
{
    static union {
        struct cmsghdr align;
        char bytes[512];
    } c;
    static char bytes[64];
    struct iovec v = { bytes, sizeof bytes };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c };
    ssize_t n = usk_recvmsg(fd, &m, flags);
    if (n < 0 && errno == EAGAIN && flags & MSG_ERRQUEUE)
        return NULL;
    OK(n);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == level && h->cmsg_type == type)
            return CMSG_DATA(h);
    return NULL;
}

static void control_messages(int protocol)
{
    struct addr at_b = at("10.0.0.2", BOUND);
    int s = dgram(a, protocol), r = dgram(b, protocol);
    seen.watched = protocol;
    OK(usk_bind(r, &at_b.sa, at_b.len));
    OK(set_int(s, IPPROTO_IP, IP_TTL, 33));

    /* What the receiver asks for comes, with MSG_PEEK too. */
    EQ(usk_sendto(s, "x", 1, 0, &at_b.sa, at_b.len), 1);
    CHECK(received(r, 0, IPPROTO_IP, IP_TTL) == NULL);
    OK(set_int(r, IPPROTO_IP, IP_PKTINFO, 1));
    OK(set_int(r, IPPROTO_IP, IP_RECVTTL, 1));
    OK(set_int(r, IPPROTO_IP, IP_RECVTOS, 1));
    OK(set_int(r, SOL_SOCKET, SO_TIMESTAMP, 1));
    EQ(send_int(s, &at_b, IPPROTO_IP, IP_TOS, 0x28), 1);
    int *n = received(r, MSG_PEEK, IPPROTO_IP, IP_TTL);
    CHECK(n != NULL);
    EQ(*n, 33);
    unsigned char *tos = received(r, MSG_PEEK, IPPROTO_IP, IP_TOS);
    CHECK(tos != NULL);
    EQ(*tos, 0x28);
    CHECK(received(r, MSG_PEEK, SOL_SOCKET, SO_TIMESTAMP) != NULL);
    struct in_pktinfo *info = received(r, 0, IPPROTO_IP, IP_PKTINFO);
    CHECK(info != NULL);
    EQ(info->ipi_addr.s_addr, at_b.in.sin_addr.s_addr);
    EQ(info->ipi_spec_dst.s_addr, at_b.in.sin_addr.s_addr);
    CHECK(info->ipi_ifindex > 0);

    /* What the sender says of one packet is that packet's. */
    EQ(seen.tos, 0x28);
    EQ(send_int(s, &at_b, IPPROTO_IP, IP_TTL, 7), 1);
    CHECK(received(r, 0, IPPROTO_IP, IP_TTL));
    EQ(seen.ttl, 7);
    EQ(seen.tos, 0);
    struct in_pktinfo from = { .ipi_spec_dst.s_addr = htonl(0x0a000003) };
    EQ(send_with(s, &at_b, IPPROTO_IP, IP_PKTINFO, &from, sizeof from), 1);
    CHECK(received(r, 0, IPPROTO_IP, IP_TTL));
    EQ(seen.src[3], 3);
    EQ(usk_sendto(s, "x", 1, 0, &at_b.sa, at_b.len), 1);
    CHECK(received(r, 0, IPPROTO_IP, IP_TTL));
    EQ(seen.src[3], 1);
    EQ(seen.ttl, 33);

    /* What cannot be is refused, and nothing is sent. */
    ERR(send_int(s, &at_b, IPPROTO_IP, IP_TTL, 256), EINVAL);
    ERR(send_int(s, &at_b, IPPROTO_IP, 77, 1), EINVAL);
    ERR(send_int(s, &at_b, SOL_SOCKET, 77, 1), EINVAL);
    from.ipi_spec_dst.s_addr = htonl(0x0a000009);
    ERR(send_with(s, &at_b, IPPROTO_IP, IP_PKTINFO, &from, sizeof from), ENETUNREACH);
    char byte;
    ERR(usk_recv(r, &byte, 1, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(s));
    OK(usk_close(r));
}

/* No such protocol, or port, at the other host. */
static void queued_errors(int protocol, int code)
{
    struct addr at_b = at("10.0.0.2", BOUND);
    int s = dgram(a, protocol);
    OK(set_int(s, IPPROTO_IP, IP_RECVERR, 1));
    ERR(usk_recv(s, (char[1]){ 0 }, 1, MSG_ERRQUEUE), EAGAIN);
    OK(usk_connect(s, &at_b.sa, at_b.len));
    /* An error that comes while a system call owns the socket is SO_ERROR and is not queued: it comes after the send,
     * and if it met poll(2), once more. */
    struct pollfd p = { .fd = s, .events = POLLIN };
    struct sock_extended_err *e;
    do {
        int err;
        socklen_t len = sizeof err;
        OK(usk_getsockopt(s, SOL_SOCKET, SO_ERROR, &err, &len));
        __atomic_store_n(&stuck[1], true, __ATOMIC_RELAXED);
        EQ(usk_send(s, "hello", 5, 0), 5);
        __atomic_store_n(&stuck[1], false, __ATOMIC_RELAXED);
        EQ(usk_poll(&p, 1, -1), 1);
        EQ(p.revents, POLLERR);
    } while (!(e = received(s, MSG_ERRQUEUE, IPPROTO_IP, IP_RECVERR)));
    EQ(e->ee_origin, SO_EE_ORIGIN_ICMP);
    EQ(e->ee_type, 3);
    EQ(e->ee_code, code);
    EQ(((struct sockaddr_in *)SO_EE_OFFENDER(e))->sin_addr.s_addr, at_b.in.sin_addr.s_addr);
    ERR(usk_recv(s, (char[1]){ 0 }, 1, MSG_ERRQUEUE), EAGAIN);
    OK(usk_close(s));
}

/* A device that takes nothing: the sender is stopped at SO_SNDBUF, and poll says the same. Returns how many were
 * sent. */
static int back_pressure(int protocol)
{
    struct addr at_b = at("10.0.0.2", BOUND);
    int s = dgram(a, protocol), r = dgram(b, protocol), sent = 0, more = 0;
    OK(usk_bind(r, &at_b.sa, at_b.len));
    OK(set_int(s, SOL_SOCKET, SO_SNDBUF, 8192));
    __atomic_store_n(&stuck[0], true, __ATOMIC_RELAXED);
    struct pollfd p = { .fd = s, .events = POLLOUT };
    static char bytes[1000];
    while (usk_sendto(s, bytes, sizeof bytes, MSG_DONTWAIT, &at_b.sa, at_b.len) > 0 && sent < 2000)
        sent++;
    EQ(errno, EAGAIN);
    EQ(usk_poll(&p, 1, 0), 0);
    struct timeval soon = { .tv_usec = 1000 };
    OK(usk_setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    ERR(usk_sendto(s, bytes, sizeof bytes, 0, &at_b.sa, at_b.len), EAGAIN);
    __atomic_store_n(&stuck[0], false, __ATOMIC_RELAXED);
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(usk_sendto(s, bytes, sizeof bytes, 0, &at_b.sa, at_b.len), sizeof bytes);
    while (more <= sent && usk_recv(r, bytes, sizeof bytes, 0) == sizeof bytes)
        more++;
    EQ(more, sent + 1);
    OK(usk_close(s));
    OK(usk_close(r));
    return sent;
}

/* ---- a protocol of the program's own ---- */

static usk_tx_info_t tx;
static usk_addr_t to;
static int ecn = -1;
static usk_packet_info_t came;

static ssize_t send_as_told(usk_owned_t *o, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    EQ(usk_set_ecn(o, 3), -EINVAL);
    if (ecn >= 0)
        EQ(usk_set_ecn(o, ecn), 0);
    usk_skb_t *skb = usk_skb_from_msg(msg, len);
    EQ(usk_skb_info(skb, &came), -ENOENT);
    int r = usk_xmit_info(o, skb, &to, &tx, sizeof tx);
    return r < 0 ? r : (ssize_t)len;
}
static ssize_t receive(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return 0;
}
static usk_proto stream_table(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "OURS",
        .socket_type = SOCK_STREAM,
        .protocol = OURS,
        .flags = USK_PROTO_V4 | USK_PROTO_V6 | USK_PROTO_NO_PORTS,
        .sendmsg_locked = send_as_told,
        .recvmsg_locked = receive,
        .backlog_rcv = free_it,
        .rcv = rcv_free,
    };
    return t;
}
static int init_ours(usk_plugin_t *plugin)
{
    usk_proto t = stream_table();
    return usk_proto_register(plugin, &t, NULL, NULL);
}

static void by_packet(void)
{
    CHECK(usk_plugin_attach(a, "ours", init_ours));
    int s = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, OURS));
    to = (usk_addr_t){ .family = AF_INET, .addr = { 10, 0, 0, 2 } };
    seen.watched = OURS;
    /* IP_TOS does not set the ECN bits of a stream; its protocol does. */
    OK(set_int(s, IPPROTO_IP, IP_TOS, 0x2b));
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.tos, 0x28);
    ecn = 2;
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.tos, 0x2a);
    OK(set_int(s, IPPROTO_IP, IP_TOS, 0x40));
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.tos, 0x42);
    ecn = 0;
    tx = (usk_tx_info_t){ .flags = USK_TX_TOS | USK_TX_TTL, .tos = 0x13, .ttl = 5, .ifindex = 99 };
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.tos, 0x13);
    EQ(seen.ttl, 5);
    tx = (usk_tx_info_t){ .flags = USK_TX_SRC, .src = { .family = AF_INET, .addr = { 10, 0, 0, 3 } } };
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.src[3], 3);
    EQ(seen.tos, 0x40);
    EQ(seen.ttl, 64);
    static char much[1600];
    OK(set_int(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT));
    tx = (usk_tx_info_t){ .flags = USK_TX_DF };
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.df, 1);
    ERR(usk_send(s, much, sizeof much, 0), EMSGSIZE);
    tx = (usk_tx_info_t){ 0 };
    EQ(usk_send(s, "x", 1, 0), 1);
    EQ(seen.df, 0);
    EQ(usk_send(s, much, sizeof much, 0), sizeof much);

    tx = (usk_tx_info_t){ .flags = 1u << 31 };
    ERR(usk_send(s, "x", 1, 0), EINVAL);
    tx = (usk_tx_info_t){ .flags = USK_TX_TTL };
    ERR(usk_send(s, "x", 1, 0), EINVAL);
    tx = (usk_tx_info_t){ .flags = USK_TX_FLOW_LABEL, .flow_label = 1 };
    ERR(usk_send(s, "x", 1, 0), EINVAL);
    tx = (usk_tx_info_t){ .flags = USK_TX_IFINDEX, .ifindex = 99 };
    ERR(usk_send(s, "x", 1, 0), ENODEV);
    tx = (usk_tx_info_t){ .flags = USK_TX_SRC, .src = { .family = AF_INET, .addr = { 10, 0, 0, 9 } } };
    ERR(usk_send(s, "x", 1, 0), ENETUNREACH);
    /* A control message of SOL_SOCKET that is unknown is refused to a stream too. */
    struct addr any = at("10.0.0.2", 0);
    tx = (usk_tx_info_t){ 0 };
    ERR(send_int(s, &any, SOL_SOCKET, 77, 1), EINVAL);
    OK(usk_close(s));

    s = (int)OK(usk_socket_on(a, AF_INET6, SOCK_STREAM, OURS));
    to = (usk_addr_t){ .family = AF_INET6, .addr = { 0xfd, [15] = 2 } };
    tx = (usk_tx_info_t){ .flags = USK_TX_FLOW_LABEL | USK_TX_TOS, .flow_label = 0xabcde, .tos = 0x2a };
    seen.flow = 0;
    EQ(usk_send(s, "x", 1, 0), 1);
    CHECK(seen.flow == 0xabcde);
    EQ(seen.tos, 0x2a);
    OK(usk_close(s));
}

int main(int argc, char **argv)
{
    begin("control");
    CHECK(argc == 2);
    snprintf(tiny, sizeof tiny, "%s/tiny.so", argv[1]);
    wire.tap = look;
    a = host(0);
    b = host(1);
    CHECK(usk_plugin_load(a, tiny));
    queued_errors(TINY, 2 /* ICMP_PROT_UNREACH */);
    queued_errors(IPPROTO_UDP, 3 /* ICMP_PORT_UNREACH */);
    CHECK(usk_plugin_load(b, tiny));
    control_messages(IPPROTO_UDP);
    control_messages(TINY);
    EQ(back_pressure(TINY), back_pressure(IPPROTO_UDP));
    by_packet();
    usk_stack_free(a);
    usk_stack_free(b);
    return done();
}

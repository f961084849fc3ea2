/* The values that arguments are chosen from. Place 0 of a table is its most ordinary row: a sequence is made simpler by
 * moving its arguments there. */
#include "values.h"
#include "sequence.h"

const char *const names[] = {
    "127.0.0.1:4001", "127.0.0.1:4002", "127.0.0.1:4003", "127.0.0.1:0", "[::1]:4001", "[::1]:4002", "[::1]:4003",
    "[::1]:0", "[::ffff:127.0.0.1]:4001", "[::ffff:127.0.0.1]:4002", "[::ffff:127.0.0.1]:0", "0.0.0.0:4001",
    "0.0.0.0:4002", "0.0.0.0:0", "[::]:4001", "[::]:4002", "[::]:0", "own 0", "own 1", "own 2", "own 3", "peer 0",
    "peer 1", "peer 2",
    /* odd ones */
    "127.0.0.2:4001", "127.0.0.2:4002", "127.1.2.3:0", "127.255.255.255:4001", "127.0.0.0:4001",
    "255.255.255.255:4001", "224.0.0.1:4001", "239.1.2.3:4001", "192.0.2.1:4001", "240.0.0.1:4001", "127.0.0.1:1",
    "[::1]:1", "0.0.0.1:4001", "[::ffff:127.0.0.2]:4001", "[::ffff:0.0.0.0]:4001", "[::ffff:192.0.2.1]:4001",
    "[::ffff:224.0.0.1]:4001", "[ff02::1]:4001", "[ff02::1%1]:4001", "[ff05::1234]:4001", "[fe80::1]:4001",
    "[fe80::1%1]:4001", "[fe80::1%77]:4001", "[2001:db8::1]:4001", "[::127.0.0.1]:4001", "[::2]:4001",
    "[::1%1]:4001", "[::1%77]:4001", "[::ffff:127.255.255.255]:4001",
    /* hostile ones */
    "unspec", "unspec 127.0.0.1:4001", "null", "bad", "family 1", "family 77", "family 10",
};
const int name_count = COUNT(names);

const int lens[] = {EXACT, 16, 28, 4, 0, 1, 2, 3, 8, 12, 15, 24, 27, 64, 128, 129, -1, 20, 256};
const int len_count = COUNT(lens);

const char *const forms[] = {"count", "null", "bad", "icmp 8", "icmp 128", "icmp 0", "icmp 13",
                            "ip 200", "ip 1", "ip 200 15", "ip 200 2"};
const int form_count = COUNT(forms);
const char *const event_forms[] = {"event", "null", "bad"};
const char *const ends[] = {"slot 0", "slot 1", "slot 2", "slot 3", "file", "out", "in", "none", "slot 4",
                            "big", "small out", "small in"};
const int end_count = COUNT(ends);
const char *const offsets[] = {"null", "0", "10", "-1", "bad", "1000"};
const int offset_count = COUNT(offsets);
const long counts[] = {20, 0, 5, 100, 1000, 70000, -1};
const int count_count = COUNT(counts);
const char *const intos[] = {"buf", "null", "bad"};
const char *const shapes[] = {"one", "three", "none", "many", "tail bad", "huge"};

/* Levels: 0 SOL_IP, 1 SOL_SOCKET, 6 SOL_TCP, 17 SOL_UDP, 41 SOL_IPV6. */
const char *const controls[] = {
    "",
    "0/1:i16",                               /* IP_TOS */
    "0/1:b8",                                /* IP_TOS as a byte */
    "0/2:i5",                                /* IP_TTL */
    "0/2:i0",                                /* IP_TTL out of range */
    "0/2:i256",                              /* IP_TTL out of range */
    "0/8:i0 a0.0.0.0 a127.0.0.1",            /* IP_PKTINFO: nothing asked for */
    "0/8:i1 a127.0.0.2 a0.0.0.0",            /* IP_PKTINFO: device and source */
    "0/8:i77 a0.0.0.0 a0.0.0.0",             /* IP_PKTINFO: no such device */
    "0/8:i0 a192.0.2.9 a0.0.0.0",            /* IP_PKTINFO: no address of ours */
    "0/8:i0",                                /* IP_PKTINFO cut */
    "41/50:6:: i0",                          /* IPV6_PKTINFO: nothing asked for */
    "41/50:6::1 i1",                         /* IPV6_PKTINFO: source and device */
    "41/50:6::1 i77",                        /* IPV6_PKTINFO: no such device */
    "41/50:62001:db8::9 i0",                 /* IPV6_PKTINFO: no address of ours */
    "41/50:6::ffff:127.0.0.2 i0",            /* IPV6_PKTINFO: a mapped source */
    "41/50:i0",                              /* IPV6_PKTINFO cut */
    "41/52:i7",                              /* IPV6_HOPLIMIT */
    "41/52:i256",                            /* IPV6_HOPLIMIT out of range */
    "41/67:i32",                             /* IPV6_TCLASS */
    "41/67:i300",                            /* IPV6_TCLASS out of range */
    "41/62:i1",                              /* IPV6_DONTFRAG */
    "0/1:i16;0/2:i9;0/8:i1 a0.0.0.0 a0.0.0.0", /* three */
    "41/52:i9;41/67:i4",                     /* two */
    "0/2:i9;41/52:i9",                       /* of both families */
    "17/103:x0a00",                          /* UDP_SEGMENT 10 */
    "17/103:x0000",                          /* UDP_SEGMENT 0 */
    "17/103:i10",                            /* UDP_SEGMENT of a wrong length */
    "17/77:i1",                              /* SOL_UDP, unknown */
    "1/36:i5",                               /* SO_MARK */
    "1/12:i3",                               /* SO_PRIORITY */
    "1/1:i0",                                /* SCM_RIGHTS of one descriptor */
    "1/2:i1 i0 i0",                          /* SCM_CREDENTIALS */
    "1/37:i2",                               /* SO_TIMESTAMPING: software transmit stamps */
    "1/99:i1",                               /* SOL_SOCKET, unknown */
    "0/77:i1",                               /* SOL_IP, unknown */
    "41/200:i1",                             /* SOL_IPV6, unknown */
    "6/1:i1",                                /* SOL_TCP: skipped by all */
    "0/1=3:i1",                              /* cmsg_len below the header's */
    "0/1=4000:i1",                           /* cmsg_len beyond the buffer */
    "0/7:x00",                               /* IP_RETOPTS: end of options */
    "null",
    "bad",
};
const int control_count = COUNT(controls);

#define O(level, name, kind) {level, name, #level, #name, kind}
const struct option options[] = {
    O(SOL_SOCKET, SO_REUSEADDR, K_INT),
    O(SOL_SOCKET, SO_REUSEPORT, K_INT),
    O(SOL_SOCKET, SO_ERROR, K_INT),
    O(SOL_SOCKET, SO_TYPE, K_INT),
    O(SOL_SOCKET, SO_DOMAIN, K_INT),
    O(SOL_SOCKET, SO_PROTOCOL, K_INT),
    O(SOL_SOCKET, SO_ACCEPTCONN, K_INT),
    O(SOL_SOCKET, SO_BROADCAST, K_INT),
    O(SOL_SOCKET, SO_DONTROUTE, K_INT),
    O(SOL_SOCKET, SO_KEEPALIVE, K_INT),
    O(SOL_SOCKET, SO_OOBINLINE, K_INT),
    O(SOL_SOCKET, SO_NO_CHECK, K_INT),
    O(SOL_SOCKET, SO_PRIORITY, K_INT),
    O(SOL_SOCKET, SO_RCVBUF, K_INT),
    O(SOL_SOCKET, SO_SNDBUF, K_INT),
    O(SOL_SOCKET, SO_RCVBUFFORCE, K_INT),
    O(SOL_SOCKET, SO_SNDBUFFORCE, K_INT),
    O(SOL_SOCKET, SO_RCVLOWAT, K_INT),
    O(SOL_SOCKET, SO_SNDLOWAT, K_INT),
    O(SOL_SOCKET, SO_LINGER, K_LINGER),
    O(SOL_SOCKET, SO_RCVTIMEO, K_TIME),
    O(SOL_SOCKET, SO_SNDTIMEO, K_TIME),
    O(SOL_SOCKET, SO_TIMESTAMP, K_INT),
    O(SOL_SOCKET, SO_TIMESTAMPNS, K_INT),
    O(SOL_SOCKET, SO_TIMESTAMPING, K_INT),
    O(SOL_SOCKET, SO_MARK, K_INT),
    O(SOL_SOCKET, SO_RXQ_OVFL, K_INT),
    O(SOL_SOCKET, SO_PEEK_OFF, K_INT),
    O(SOL_SOCKET, SO_BINDTODEVICE, K_DEVICE),
    O(SOL_SOCKET, SO_BINDTOIFINDEX, K_INT),
    O(SOL_SOCKET, SO_PASSCRED, K_INT),
    O(SOL_SOCKET, SO_PEERCRED, K_INT),
    O(SOL_SOCKET, SO_PEERNAME, K_INT),
    O(SOL_SOCKET, SO_WIFI_STATUS, K_INT),
    O(SOL_SOCKET, SO_SELECT_ERR_QUEUE, K_INT),
    O(SOL_SOCKET, SO_MAX_PACING_RATE, K_INT),
    O(SOL_SOCKET, SO_ZEROCOPY, K_INT),
    O(SOL_SOCKET, SO_TXREHASH, K_INT),
    O(SOL_SOCKET, SO_RCVMARK, K_INT),
    O(SOL_SOCKET, SO_DEBUG, K_INT),
    O(SOL_IP, IP_TOS, K_INT),
    O(SOL_IP, IP_TTL, K_INT),
    O(SOL_IP, IP_OPTIONS, K_INT),
    O(SOL_IP, IP_RECVOPTS, K_INT),
    O(SOL_IP, IP_RETOPTS, K_INT),
    O(SOL_IP, IP_PKTINFO, K_INT),
    O(SOL_IP, IP_MTU_DISCOVER, K_INT),
    O(SOL_IP, IP_RECVERR, K_INT),
    O(SOL_IP, IP_RECVTTL, K_INT),
    O(SOL_IP, IP_RECVTOS, K_INT),
    O(SOL_IP, IP_MTU, K_INT),
    O(SOL_IP, IP_FREEBIND, K_INT),
    O(SOL_IP, IP_MINTTL, K_INT),
    O(SOL_IP, IP_TRANSPARENT, K_INT),
    O(SOL_IP, IP_RECVORIGDSTADDR, K_INT),
    O(SOL_IP, IP_NODEFRAG, K_INT),
    O(SOL_IP, IP_CHECKSUM, K_INT),
    O(SOL_IP, IP_BIND_ADDRESS_NO_PORT, K_INT),
    O(SOL_IP, IP_RECVFRAGSIZE, K_INT),
    O(SOL_IP, IP_RECVERR_RFC4884, K_INT),
    O(SOL_IP, IP_MULTICAST_IF, K_MIF),
    O(SOL_IP, IP_MULTICAST_TTL, K_INT),
    O(SOL_IP, IP_MULTICAST_LOOP, K_INT),
    O(SOL_IP, IP_MULTICAST_ALL, K_INT),
    O(SOL_IP, IP_ADD_MEMBERSHIP, K_MREQ),
    O(SOL_IP, IP_DROP_MEMBERSHIP, K_MREQ),
    O(SOL_IP, IP_UNICAST_IF, K_INT),
    O(SOL_IP, IP_LOCAL_PORT_RANGE, K_INT),
    O(SOL_IP, IP_PROTOCOL, K_INT),
    O(SOL_IP, IP_PKTOPTIONS, K_INT),
    O(SOL_IPV6, IPV6_V6ONLY, K_INT),
    O(SOL_IPV6, IPV6_UNICAST_HOPS, K_INT),
    O(SOL_IPV6, IPV6_MULTICAST_IF, K_INT),
    O(SOL_IPV6, IPV6_MULTICAST_HOPS, K_INT),
    O(SOL_IPV6, IPV6_MULTICAST_LOOP, K_INT),
    O(SOL_IPV6, IPV6_MULTICAST_ALL, K_INT),
    O(SOL_IPV6, IPV6_ADD_MEMBERSHIP, K_MREQ6),
    O(SOL_IPV6, IPV6_DROP_MEMBERSHIP, K_MREQ6),
    O(SOL_IPV6, IPV6_MTU_DISCOVER, K_INT),
    O(SOL_IPV6, IPV6_MTU, K_INT),
    O(SOL_IPV6, IPV6_RECVERR, K_INT),
    O(SOL_IPV6, IPV6_RECVPKTINFO, K_INT),
    O(SOL_IPV6, IPV6_RECVHOPLIMIT, K_INT),
    O(SOL_IPV6, IPV6_RECVTCLASS, K_INT),
    O(SOL_IPV6, IPV6_TCLASS, K_INT),
    O(SOL_IPV6, IPV6_DONTFRAG, K_INT),
    O(SOL_IPV6, IPV6_RECVPATHMTU, K_INT),
    O(SOL_IPV6, IPV6_AUTOFLOWLABEL, K_INT),
    O(SOL_IPV6, IPV6_MINHOPCOUNT, K_INT),
    O(SOL_IPV6, IPV6_FREEBIND, K_INT),
    O(SOL_IPV6, IPV6_TRANSPARENT, K_INT),
    O(SOL_IPV6, IPV6_UNICAST_IF, K_INT),
    O(SOL_IPV6, IPV6_ADDR_PREFERENCES, K_INT),
    O(SOL_IPV6, IPV6_ADDRFORM, K_INT),
    O(SOL_IPV6, IPV6_RECVORIGDSTADDR, K_INT),
    O(SOL_IPV6, IPV6_2292PKTOPTIONS, K_INT),
    O(SOL_UDP, UDP_CORK, K_INT),
    O(SOL_UDP, UDP_SEGMENT, K_INT),
    O(SOL_UDP, UDP_GRO, K_INT),
    O(SOL_UDP, UDP_NO_CHECK6_TX, K_INT),
    O(SOL_UDP, UDP_NO_CHECK6_RX, K_INT),
    O(SOL_UDP, UDP_ENCAP, K_INT),
    O(SOL_TCP, TCP_NODELAY, K_INT),
    O(SOL_TCP, TCP_MAXSEG, K_INT),
    O(SOL_TCP, TCP_CORK, K_INT),
    O(SOL_TCP, TCP_KEEPIDLE, K_INT),
    O(SOL_TCP, TCP_KEEPINTVL, K_INT),
    O(SOL_TCP, TCP_KEEPCNT, K_INT),
    O(SOL_TCP, TCP_SYNCNT, K_INT),
    O(SOL_TCP, TCP_LINGER2, K_INT),
    O(SOL_TCP, TCP_DEFER_ACCEPT, K_INT),
    O(SOL_TCP, TCP_WINDOW_CLAMP, K_INT),
    O(SOL_TCP, TCP_INFO, K_INT),
    O(SOL_TCP, TCP_QUICKACK, K_INT),
    O(SOL_TCP, TCP_CONGESTION, K_CONGESTION),
    O(SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, K_INT),
    O(SOL_TCP, TCP_USER_TIMEOUT, K_INT),
    O(SOL_TCP, TCP_FASTOPEN, K_INT),
    O(SOL_TCP, TCP_FASTOPEN_CONNECT, K_INT),
    O(SOL_TCP, TCP_NOTSENT_LOWAT, K_INT),
    O(SOL_TCP, TCP_SAVE_SYN, K_INT),
    O(SOL_TCP, TCP_SAVED_SYN, K_INT),
    O(SOL_TCP, TCP_INQ, K_INT),
    O(SOL_TCP, TCP_TX_DELAY, K_INT),
    O(SOL_TCP, TCP_ULP, K_CONGESTION),
    O(SOL_RAW, ICMP_FILTER, K_INT),
    O(SOL_ICMPV6, ICMPV6_FILTER, K_INT),
    O(IPPROTO_NONE_OF_ALL, SO_REUSEADDR, K_INT),
    O(SOL_SOCKET, UNKNOWN_OPTION, K_INT),
    O(SOL_IP, UNKNOWN_OPTION, K_INT),
    O(SOL_IPV6, UNKNOWN_OPTION, K_INT),
    O(SOL_TCP, UNKNOWN_OPTION, K_INT),
    O(SOL_UDP, UNKNOWN_OPTION, K_INT),
    /* of raw sockets */
    O(SOL_IP, IP_HDRINCL, K_INT),
    O(SOL_IPV6, IPV6_CHECKSUM, K_INT),
    O(SOL_RAW, IPV6_CHECKSUM, K_INT),
    O(SOL_IPV6, IPV6_HDRINCL, K_INT),
    O(SOL_ICMPV6, ICMPV6_FILTER, K_FILTER6),
    O(SOL_RAW, UNKNOWN_OPTION, K_INT),
};
const int option_count = COUNT(options);

static const char *const int_values[] = {"i1",      "i0",         "i2",          "i3",    "i5",      "i64",  "i255",
                                         "i256",    "i1000",      "i16384",      "i-1",   "i-2",     "i100", "i65535",
                                         "i65536",  "i200000",    "i0x7fffffff", "b1",    "b255",    "i4",   "i16",
                                         "i-70000", "i-2147483648", "null",      "bad",   "l1",      "i1500"};
/* Nothing that would block for long. */
static const char *const linger_values[] = {"i1 i0", "i0 i0", "i1 i1", "i0 i5", "i1", "null", "bad"};
static const char *const time_values[] = {"l0 l4000", "l0 l1", "l0 l1000000", "l-1 l0", "l0 l-1", "i0", "null", "bad"};
static const char *const device_values[] = {"slo", "x00", "snone", "x6c6f00", "slonglonglonglonglong", "null", "bad"};
static const char *const congestion_values[] = {"scubic", "sreno", "snone", "x00", "sreno_and_more_than_16", "null"};
static const char *const mreq_values[] = {"a224.0.0.5 a0.0.0.0 i1", "a224.0.0.5 a127.0.0.1", "a239.1.2.3 a0.0.0.0",
                                          "a239.1.2.3 a0.0.0.0 i1", "a127.0.0.1 a0.0.0.0 i1", "a224.0.0.1 a0.0.0.0 i1",
                                          "a239.1.2.3 a192.0.2.1",  "a239.1.2.3 a0.0.0.0 i77", "a239.1.2.3", "null",
                                          "bad"};
static const char *const mreq6_values[] = {"6ff02::1 i1", "6ff05::1234 i1", "6ff05::1234 i0", "6ff05::1234 i77",
                                           "6::1 i1",     "6ff02::1",       "null",           "bad"};
static const char *const mif_values[] = {"a0.0.0.0 a0.0.0.0 i1", "a127.0.0.1", "a0.0.0.0", "a192.0.2.1",
                                         "a0.0.0.0 a0.0.0.0 i77", "a0.0.0.0 a127.0.0.1", "i0", "b1", "null", "bad"};

static const char *const filter6_values[] = {
    "l0 l0 l0 l0", "l-1 l-1 l-1 l-1", "l0 l0 l1 l0", "l-1 l-1 l0 l0", "i-1", "b1", "null", "bad", ""};

#define PICK(table) return table[place % COUNT(table)]
const char *value_text(int option, int place)
{
    switch (options[option].kind) {
    case K_LINGER:
        PICK(linger_values);
    case K_TIME:
        PICK(time_values);
    case K_DEVICE:
        PICK(device_values);
    case K_CONGESTION:
        PICK(congestion_values);
    case K_MREQ:
        PICK(mreq_values);
    case K_MREQ6:
        PICK(mreq6_values);
    case K_MIF:
        PICK(mif_values);
    case K_FILTER6:
        PICK(filter6_values);
    default:
        PICK(int_values);
    }
}

int name_place(const char *text)
{
    for (int i = 0; i < name_count; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    fprintf(stderr, "no name %s\n", text);
    exit(3);
}

int end_place(const char *text)
{
    for (int i = 0; i < end_count; i++)
        if (strcmp(ends[i], text) == 0)
            return i;
    fprintf(stderr, "no end %s\n", text);
    exit(3);
}

int option_place(int level, int name)
{
    for (int i = 0; i < option_count; i++)
        if (options[i].level == level && options[i].name == name)
            return i;
    fprintf(stderr, "no option %d/%d\n", level, name);
    exit(3);
}

struct word {
    int value;
    const char *text;
};
#define W(v) {v, #v}
static const struct word requests[] = {W(FIONREAD), W(SIOCOUTQ), W(SIOCOUTQNSD), W(SIOCATMARK), W(FIONBIO), W(0x1234)};
static const struct word commands[] = {W(F_GETFL), W(F_SETFL), W(F_GETFD), W(77)};
static const struct word domains[] = {W(AF_INET), W(AF_INET6), W(AF_UNSPEC)};
static const struct word types[] = {W(SOCK_STREAM), W(SOCK_DGRAM), W(SOCK_RAW), W(SOCK_SEQPACKET), W(SOCK_RDM)};
static const struct word protocols[] = {W(IPPROTO_IP),   W(IPPROTO_TCP),    W(IPPROTO_UDP),
                                        W(IPPROTO_ICMP), W(IPPROTO_ICMPV6), W(IPPROTO_UDPLITE)};
static const struct word msg_flags[] = {
    W(MSG_OOB),      W(MSG_PEEK), W(MSG_DONTROUTE), W(MSG_CTRUNC),  W(MSG_PROBE),    W(MSG_TRUNC), W(MSG_DONTWAIT),
    W(MSG_EOR),      W(MSG_WAITALL), W(MSG_CONFIRM), W(MSG_ERRQUEUE), W(MSG_NOSIGNAL), W(MSG_MORE), W(MSG_WAITFORONE),
    W(MSG_CMSG_CLOEXEC)};
static const struct word events[] = {W(POLLIN),     W(POLLPRI),    W(POLLOUT),    W(POLLERR),    W(POLLHUP),
                                     W(POLLRDNORM), W(POLLRDBAND), W(POLLWRNORM), W(POLLWRBAND), W(POLLRDHUP)};
static const struct word epoll_ops[] = {W(EPOLL_CTL_ADD), W(EPOLL_CTL_MOD), W(EPOLL_CTL_DEL)};
static const struct word epoll_events[] = {
    W(EPOLLIN),     W(EPOLLPRI),    W(EPOLLOUT),   W(EPOLLERR),    W(EPOLLHUP),    W(EPOLLRDNORM),   W(EPOLLRDBAND),
    W(EPOLLWRNORM), W(EPOLLWRBAND), W(EPOLLRDHUP), W((int)EPOLLET), W(EPOLLONESHOT), W(EPOLLEXCLUSIVE), W(EPOLLWAKEUP)};
static const struct word splice_flags[] = {W(SPLICE_F_MOVE), W(SPLICE_F_NONBLOCK), W(SPLICE_F_MORE), W(SPLICE_F_GIFT)};
static const struct word fd_flags[] = {W(O_CLOEXEC), W(O_NONBLOCK)};
static const struct word sock_flags[] = {W(SOCK_NONBLOCK), W(SOCK_CLOEXEC)};
const int request_count = COUNT(requests), command_count = COUNT(commands);

int request_value(int place)
{
    return requests[place % request_count].value;
}

int command_value(int place)
{
    return commands[place % command_count].value;
}

static void print_word(const struct word *words, int n, int value)
{
    for (int i = 0; i < n; i++)
        if (words[i].value == value) {
            printf("%s", words[i].text);
            return;
        }
    printf("%d", value);
}

/* Bits joined by "|"; what has no name follows as a number. */
static void print_bits(const struct word *words, int n, int value)
{
    const char *between = "";
    for (int i = 0; i < n; i++)
        if (value & words[i].value) {
            printf("%s%s", between, words[i].text);
            value &= ~words[i].value;
            between = " | ";
        }
    if (value || !*between)
        printf("%s%#x", between, (unsigned)value);
}

static void print_type(int type)
{
    print_word(types, COUNT(types), type & 15);
    if (type & ~15) {
        printf(" | ");
        print_bits(sock_flags, COUNT(sock_flags), type & ~15);
    }
}

void print_arg(enum arg arg, const int *a, int i)
{
    int v = a[i];
    switch (arg) {
    case A_DOMAIN:
        return print_word(domains, COUNT(domains), v);
    case A_TYPE:
        return print_type(v);
    case A_PROTO:
        return print_word(protocols, COUNT(protocols), v);
    case A_NAME:
        printf("\"%s\"", names[v]);
        return;
    case A_LEN:
        if (lens[v] == EXACT)
            printf("EXACT");
        else
            printf("%d", lens[v]);
        return;
    case A_FORM:
        printf("\"%s\"", forms[v]);
        return;
    case A_INTO:
        printf("\"%s\"", intos[v]);
        return;
    case A_SHAPE:
        printf("\"%s\"", shapes[v]);
        return;
    case A_FLAGS:
        return print_bits(msg_flags, COUNT(msg_flags), v);
    case A_CONTROL:
        printf("\"%s\"", controls[v]);
        return;
    case A_OPTION:
        printf("%s, %s", options[v].level_text, options[v].name_text);
        return;
    case A_VALUE:
        printf("\"%s\"", value_text(a[i - 1], v));
        return;
    case A_REQUEST:
        printf("%s", requests[v % request_count].text);
        return;
    case A_COMMAND:
        printf("%s", commands[v % command_count].text);
        return;
    case A_EVENTS:
        return print_bits(events, COUNT(events), v);
    case A_EPOLL_OP:
        return print_word(epoll_ops, COUNT(epoll_ops), v);
    case A_EPOLL_EVENTS:
        return print_bits(epoll_events, COUNT(epoll_events), v);
    case A_EVENT_FORM:
        printf("\"%s\"", event_forms[v]);
        return;
    case A_END:
        printf("\"%s\"", ends[v]);
        return;
    case A_OFFSET:
        printf("\"%s\"", offsets[v]);
        return;
    case A_COUNT:
        printf("%ld", counts[v]);
        return;
    case A_DUPFD:
        printf("%s", v ? "F_DUPFD_CLOEXEC" : "F_DUPFD");
        return;
    case A_FD_FLAGS:
        return print_bits(fd_flags, COUNT(fd_flags), v);
    case A_SPLICE:
        return print_bits(splice_flags, COUNT(splice_flags), v);
    default:
        printf("%d", v);
    }
}

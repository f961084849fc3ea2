/* What options of SOL_TCP and SOL_UDP do, and ICMPV6_FILTER: those that no packet script and no other case observes. */
#include "control.h"
#include <linux/net_tstamp.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <time.h>

#ifndef TCP_RTO_MAX_MS
#define TCP_RTO_MAX_MS 44
#endif
#ifndef TCP_RTO_MIN_US
#define TCP_RTO_MIN_US 45
#define TCP_DELACK_MAX_US 46
#endif
#ifndef TCP_CC_INFO
#define TCP_CC_INFO 26
#endif
#ifndef TCP_SAVED_SYN
#define TCP_SAVED_SYN 28
#endif
#ifndef TCP_INQ
#define TCP_INQ 36
#endif
#ifndef UDP_NO_CHECK6_TX
#define UDP_NO_CHECK6_TX 101
#define UDP_NO_CHECK6_RX 102
#endif

/* TCP_SAVE_SYN: the accepted socket has the headers of the SYN, once. */
static void saved_syn(int family)
{
    unsigned char syn[256];
    int l = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    struct addr a = local(family);
    OK(usk_bind(l, &a.sa, a.len));
    OK(set_int(l, IPPROTO_TCP, TCP_SAVE_SYN, 1));
    OK(usk_listen(l, 1));
    int c = connected(SOCK_STREAM, sock_name(l)), s = (int)OK(usk_accept(l, NULL, NULL));
    socklen_t len = 10, header = family == AF_INET ? 20 : 40;
    ERR(usk_getsockopt(s, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len), EINVAL);
    len = sizeof syn;
    OK(usk_getsockopt(s, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len));
    EQ(len, header + 40);
    EQ(syn[0] >> 4, family == AF_INET ? 4 : 6);
    EQ(syn[header] << 8 | syn[header + 1], port_of(sock_name(c)));
    EQ(syn[header + 13], 2 | (syn[header + 13] & 0xc0)); /* SYN, perhaps with ECN's bits */
    len = sizeof syn;
    OK(usk_getsockopt(s, IPPROTO_TCP, TCP_SAVED_SYN, syn, &len));
    EQ(len, 0);
    usk_close(l);
    usk_close(c);
    usk_close(s);
}

#ifndef ON_SERVER /* which has no way for control messages and the error queue */
/* TCP_INQ: a receive says how many bytes are left. */
static void left_in_queue(void)
{
    char buf[3];
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[1], IPPROTO_TCP, TCP_INQ, 1));
    OK(usk_send(fd[0], "0123456789", 10, 0));
    await_bytes(fd[1], 10);
    union {
        char bytes[64];
        struct cmsghdr align;
    } control;
    struct iovec iov = {buf, 3};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    EQ(OK(usk_recvmsg(fd[1], &m, 0)), 3);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    CHECK(c && c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_INQ);
    EQ(*(int *)CMSG_DATA(c), 7);
    close_pair(fd);
}

static struct tcp_info info_of(int fd)
{
    struct tcp_info i;
    socklen_t len = sizeof i;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
    return i;
}

/* How long the receiver of a question that it does not answer waits with the ACK, microseconds. A timestamp tells the
 * sender of it. */
static long acknowledged_after(int fd[2])
{
    char buf[64];
    struct timespec a, b;
    OK(usk_send(fd[1], "answer", 6, 0));
    OK(usk_recv(fd[0], buf, sizeof buf, 0));
    OK(set_int(fd[0], SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_OPT_TSONLY));
    clock_gettime(CLOCK_MONOTONIC, &a);
    OK(usk_send(fd[0], "question", 8, 0));
    OK(usk_recv(fd[1], buf, sizeof buf, 0));
    EQ(await(fd[0], 0), POLLERR);
    clock_gettime(CLOCK_MONOTONIC, &b);
    struct msghdr none = {.msg_iovlen = 0};
    OK(usk_recvmsg(fd[0], &none, MSG_ERRQUEUE));
    return (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
}

/* TCP_RTO_MIN_US and TCP_RTO_MAX_MS bound the timeout that tcp_info shows; TCP_DELACK_MAX_US the delay of an ACK. */
static void timeouts_of_a_connection(void)
{
    char buf[64];
    int fd[2];
    for (int low = 0; low < 2; low++) {
        tcp_pair(AF_INET, fd);
        if (low) {
            OK(set_int(fd[0], IPPROTO_TCP, TCP_RTO_MIN_US, 60000)); /* a multiple of the tick, which may be 4 ms */
            EQ(get_int(fd[0], IPPROTO_TCP, TCP_RTO_MIN_US), 60000);
            OK(set_int(fd[0], IPPROTO_TCP, TCP_RTO_MAX_MS, 1000));
            EQ(get_int(fd[0], IPPROTO_TCP, TCP_RTO_MAX_MS), 1000);
            OK(set_int(fd[1], IPPROTO_TCP, TCP_DELACK_MAX_US, 8000));
            EQ(get_int(fd[1], IPPROTO_TCP, TCP_DELACK_MAX_US), 8000);
        }
        /* On a busy machine the round trips themselves may be longer for a while. */
        unsigned rto;
        for (int i = 0; i < 10000; i++) {
            OK(usk_send(fd[0], "ping", 4, 0));
            OK(usk_recv(fd[1], buf, sizeof buf, 0));
            OK(usk_send(fd[1], "pong", 4, 0));
            OK(usk_recv(fd[0], buf, sizeof buf, 0));
            rto = info_of(fd[0]).tcpi_rto;
            if (i >= 30 && (rto < 200000) == low)
                break;
        }
        CHECK(low ? rto < 200000 && rto >= 60000 : rto >= 200000);
        int slow = 0, tries = 0;
        do {
            slow = 0;
            for (int i = 0; i < 10; i++)
                slow += acknowledged_after(fd) > 30000;
        } while ((low ? slow > 2 : slow < 3) && ++tries < 100);
        CHECK(low ? slow <= 2 : slow >= 3);
        close_pair(fd);
    }
}
#endif

/* TCP_CC_INFO: BBR tells of itself (struct tcp_bbr_info), CUBIC does not. */
static void algorithm_info(void)
{
    unsigned char bytes[64];
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, "cubic", 5));
    socklen_t len = sizeof bytes;
    OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_CC_INFO, bytes, &len));
    EQ(len, 0);
    if (usk_setsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, "bbr", 3) == 0) { /* a kernel may lack it */
        len = sizeof bytes;
        OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_CC_INFO, bytes, &len));
        EQ(len, 20);
    }
    close_pair(fd);
}

/* UDP_ENCAP: without a security association ESP is nobody's, and what IKE says is the program's (RFC 3948). */
static void tunnels(void)
{
    int fd[2];
    udp_pair(AF_INET, fd);
    EQ(get_int(fd[1], IPPROTO_UDP, UDP_ENCAP), 0);
    ERR(set_int(fd[1], IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_GTP1U), ENOPROTOOPT);
    OK(set_int(fd[1], IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_L2TPINUDP));
    OK(usk_send(fd[0], "\1\2\3\4of L2TP", 11, 0));
    EQ(receive(fd[1], 0).n, 11);
    OK(set_int(fd[1], IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP));
    EQ(get_int(fd[1], IPPROTO_UDP, UDP_ENCAP), UDP_ENCAP_ESPINUDP);
    OK(usk_send(fd[0], "\1\2\3\4of ESP", 10, 0));
    OK(usk_send(fd[0], "\377", 1, 0)); /* keeps a NAT's binding alive */
    OK(usk_send(fd[0], "\1\2\3\4shrt", 8, 0));
    EQ(receive(fd[1], 0).n, 8);
    OK(usk_send(fd[0], "\0\0\0\0of IKE", 10, 0));
    EQ(receive(fd[1], 0).n, 10);
    EQ(ready(fd[1], POLLIN), 0);
    OK(set_int(fd[1], IPPROTO_UDP, UDP_ENCAP, 0));
    OK(usk_send(fd[0], "\1\2\3\4of ESP", 10, 0));
    EQ(receive(fd[1], 0).n, 10);
    close_pair(fd);
}

/* ICMP errors are the tunnel's, not the program's. */
static void errors_of_a_tunnel(void)
{
    for (int tunnel = 0; tunnel < 2; tunnel++) {
        int fd[2];
        udp_pair(AF_INET, fd);
        OK(set_int(fd[0], IPPROTO_UDP, UDP_ENCAP, tunnel ? UDP_ENCAP_L2TPINUDP : 0));
        usk_close(fd[1]);
        OK(usk_send(fd[0], "x", 1, 0));
        if (!tunnel)
            await(fd[0], POLLERR);
        EQ(get_int(fd[0], SOL_SOCKET, SO_ERROR), tunnel ? 0 : ECONNREFUSED);
        usk_close(fd[0]);
    }
}

/* UDP_NO_CHECK6_TX: datagrams over IPv6 without checksum, which a receiver takes with UDP_NO_CHECK6_RX alone. */
static void no_checksum(void)
{
    int fd[2];
    udp_pair(AF_INET6, fd);
    int raw = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_UDP));
    unsigned char packet[64];
    for (int tx = 0; tx < 2; tx++) {
        OK(set_int(fd[0], IPPROTO_UDP, UDP_NO_CHECK6_TX, tx));
        OK(usk_send(fd[0], "x", 1, 0));
        await(raw, POLLIN);
        EQ(OK(usk_recv(raw, packet, sizeof packet, 0)), 9);
        EQ(packet[6] == 0 && packet[7] == 0, tx);
    }
    EQ(receive(fd[1], 0).n, 1);
    EQ(ready(fd[1], POLLIN), 0);
    OK(set_int(fd[1], IPPROTO_UDP, UDP_NO_CHECK6_RX, 1));
    OK(usk_send(fd[0], "y", 1, 0));
    EQ(receive(fd[1], 0).n, 1);
    close_pair(fd);
    usk_close(raw);
}

static void icmpv6_filter(void)
{
    struct icmp6_filter filter;
    struct icmp6_hdr echo = {.icmp6_type = ICMP6_ECHO_REQUEST};
    struct addr to = local(AF_INET6);
    int r = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    ICMP6_FILTER_SETBLOCKALL(&filter);
    ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
    OK(usk_setsockopt(r, IPPROTO_ICMPV6, ICMP6_FILTER /* ICMPV6_FILTER */, &filter, sizeof filter));
    int s = (int)OK(usk_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
    OK(usk_sendto(s, &echo, sizeof echo, 0, &to.sa, to.len));
    unsigned char got[64];
    await(r, POLLIN);
    OK(usk_recv(r, got, sizeof got, 0));
    EQ(got[0], ICMP6_ECHO_REPLY);
    EQ(ready(r, POLLIN), 0);
    usk_close(r);
    usk_close(s);
}

int main(void)
{
    begin("options_tcp");
    saved_syn(AF_INET);
    saved_syn(AF_INET6);
#ifndef ON_SERVER
    left_in_queue();
    timeouts_of_a_connection();
#endif
    algorithm_info();
    tunnels();
    errors_of_a_tunnel();
    no_checksum();
    icmpv6_filter();
    return done();
}

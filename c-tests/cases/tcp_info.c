/* TCP_INFO: the fields that must be right whatever the path is; short and long buffers; the states it names. */
#include "common.h"

static struct tcp_info info(int fd)
{
    struct tcp_info t;
    memset(&t, 0xee, sizeof t);
    socklen_t len = sizeof t;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len));
    EQ(len, sizeof t);
    return t;
}

/* What a socket shows of its last connection, until the next. */
static void after_the_connection(void)
{
    int fd[2], queued;
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    tcp_pair(AF_INET6, fd);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_MAXSEG, 1000));
    struct tcp_info before = info(fd[0]);
    EQ(before.tcpi_advmss, 65464); /* 65536 - 60 - 12 of timestamps */
    EQ(before.tcpi_pmtu, 65536);
    OK(usk_connect(fd[0], &none, sizeof none));
    struct tcp_info t = info(fd[0]);
    EQ(t.tcpi_state, TCP_CLOSE);
    EQ(t.tcpi_advmss, before.tcpi_advmss);
    EQ(t.tcpi_pmtu, before.tcpi_pmtu);
    EQ(t.tcpi_snd_mss, before.tcpi_snd_mss);
    EQ(t.tcpi_rcv_ssthresh, before.tcpi_rcv_ssthresh);
    EQ(t.tcpi_rcv_space, before.tcpi_rcv_space);
    EQ(t.tcpi_options, 0);
    EQ(t.tcpi_rtt, 0);
    /* The next connection's numbers begin beyond this one's window: as if that had been written. */
    OK(usk_ioctl(fd[0], SIOCOUTQ, &queued));
    CHECK(queued > 1000);
    EQ(ready(fd[0], POLLOUT), POLLOUT | POLLERR | POLLHUP);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1000));
#ifndef ON_SERVER
    EQ(ready(fd[0], POLLOUT), POLLERR | POLLHUP);
#endif
    EQ(get_int(fd[0], IPPROTO_TCP, TCP_MAXSEG), (int)before.tcpi_snd_mss); /* what was set is forgotten */
    close_pair(fd);
}

int main(void)
{
    begin("tcp_info");
    after_the_connection();
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(info(s).tcpi_state, TCP_CLOSE);
    OK(usk_close(s));
    int l = listener(local(AF_INET), 5);
    struct tcp_info t = info(l);
    EQ(t.tcpi_state, TCP_LISTEN);
    EQ(t.tcpi_sacked, 5);  /* a listener shows its backlog here */
    EQ(t.tcpi_unacked, 0); /* and how many wait for accept here */
    int fd[2];
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    await(l, POLLIN);
#ifndef ON_SERVER /* which hands connections over at once */
    EQ(info(l).tcpi_unacked, 1);
#endif
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    EQ(info(l).tcpi_unacked, 0);

    char buf[5000] = {0};
    for (int i = 0; i < 50; i++) {
        send_all(fd[0], buf, sizeof buf);
        EQ(recv_all(fd[1], buf, sizeof buf), sizeof buf);
        send_all(fd[1], buf, 1);
        EQ(recv_all(fd[0], buf, 1), 1);
    }
    t = info(fd[0]);
    EQ(t.tcpi_state, TCP_ESTABLISHED);
    EQ(t.tcpi_ca_state, TCP_CA_Open);
    EQ(t.tcpi_options, TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE);
    CHECK(t.tcpi_snd_wscale > 0 && t.tcpi_rcv_wscale > 0);
    EQ(t.tcpi_retransmits, 0);
    EQ(t.tcpi_probes, 0);
    EQ(t.tcpi_lost, 0);
    EQ(t.tcpi_total_retrans, 0);
    EQ(t.tcpi_unacked, 0);
    CHECK(t.tcpi_rtt > 0);
    CHECK(t.tcpi_rto >= 200000 && t.tcpi_rto <= 120000000);
    EQ(t.tcpi_pmtu, 65535);
    EQ(t.tcpi_advmss, 65483); /* 65535 - 40 - 12 of timestamps */
    CHECK(t.tcpi_snd_mss >= 536 && t.tcpi_snd_mss <= 65483);
    CHECK(t.tcpi_rcv_mss >= 536);
    CHECK(t.tcpi_snd_cwnd >= 10);
    EQ(t.tcpi_snd_ssthresh, 0x7fffffff);
    EQ(t.tcpi_reordering, 3);
    CHECK(t.tcpi_rcv_space > 0);

    /* A shorter buffer gets the front part, a longer one is told the size. */
    unsigned char part[sizeof t + 400];
    for (socklen_t room = 0; room <= 8; room += 4) {
        socklen_t len = room;
        memset(part, 0xee, sizeof part);
        OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, part, &len));
        EQ(len, room);
        CHECK(part[room] == 0xee);
        if (room)
            EQ(part[0], TCP_ESTABLISHED);
    }
    socklen_t len = sizeof part;
    OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, part, &len));
    CHECK(len >= sizeof t && len < sizeof part);
    len = (socklen_t)-1;
    ERR(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, part, &len), EINVAL);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_INFO, part, 4), ENOPROTOOPT);

    /* The states of a half-close. */
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    EQ(info(fd[1]).tcpi_state, TCP_CLOSE_WAIT);
    send_all(fd[1], "x", 1); /* carries the ACK of the FIN */
    EXPECT(fd[0], "x");
    EQ(info(fd[0]).tcpi_state, TCP_FIN_WAIT2);
    OK(usk_shutdown(fd[1], SHUT_WR));
    EXPECT_EOF(fd[0]);
    EQ(info(fd[0]).tcpi_state, TCP_CLOSE); /* time-wait lives on without the socket */
    close_pair(fd);
    OK(usk_close(l));
    return done();
}

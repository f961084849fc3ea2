/* FIONREAD (SIOCINQ), SIOCOUTQ, SIOCOUTQNSD: what waits to be read, to be acknowledged, to be sent. */
#include "common.h"

static int ask(int fd, unsigned long what)
{
    int v = -1;
    OK(usk_ioctl(fd, what, &v));
    return v;
}

int main(void)
{
    begin("queue_sizes");
    int fd[2];
    char buf[100];
    tcp_pair(AF_INET, fd);
    EQ(ask(fd[1], FIONREAD), 0);
    EQ(ask(fd[0], SIOCOUTQ), 0);
    EQ(ask(fd[0], SIOCOUTQNSD), 0);
    send_all(fd[0], "0123456789", 10);
    await_bytes(fd[1], 10);
    EQ(ask(fd[1], FIONREAD), 10);
    EQ(ask(fd[1], SIOCINQ), 10);
    EQ(usk_recv(fd[1], buf, 3, 0), 3);
    EQ(ask(fd[1], FIONREAD), 7);
    EQ(usk_recv(fd[1], buf, 7, 0), 7);
    EQ(ask(fd[1], FIONREAD), 0);

    /* An answer carries the acknowledgment, so then the queue is empty again. */
    send_all(fd[1], "a", 1);
    EXPECT(fd[0], "a");
    EQ(ask(fd[0], SIOCOUTQ), 0);

    /* The FIN is no byte to read, though Linux counts it out when it stands at the end. */
    send_all(fd[0], "xyz", 3);
    OK(usk_shutdown(fd[0], SHUT_WR));
    await(fd[1], POLLRDHUP);
    EQ(ask(fd[1], FIONREAD), 3);
    EQ(usk_recv(fd[1], buf, 3, 0), 3);
    EQ(ask(fd[1], FIONREAD), 0);
    close_pair(fd);

    /* With a reader that does not read, what cannot be sent stays: OUTQNSD is a part of OUTQ. */
    tcp_pair(AF_INET, fd);
    static char block[1 << 16];
    long sent = (long)fill_up(fd[0]);
    int unsent = ask(fd[0], SIOCOUTQNSD), unacked = ask(fd[0], SIOCOUTQ), unread = ask(fd[1], FIONREAD);
    CHECK(unsent > 0 && unsent <= unacked && unacked <= sent && unread > 0);
#ifndef ON_SERVER /* where FIONREAD tells of the descriptor alone */
    CHECK((long)unread + unacked >= sent); /* every byte is in a queue; some in both until the ACK is seen */
#endif
    /* At the urgent mark the count stops. */
    close_pair(fd);

    tcp_pair(AF_INET, fd);
#ifndef ON_SERVER
    send_all(fd[0], "abc", 3);
    OK(usk_send(fd[0], "U", 1, MSG_OOB));
    send_all(fd[0], "de", 2);
    await(fd[1], POLLPRI);
    await_bytes(fd[1], 3);
    EQ(ask(fd[1], FIONREAD), 3);
#endif
    close_pair(fd);

    /* A receive buffer that is not over its limit takes a packet whole, however small the buffer was made meanwhile. */
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[1], SOL_SOCKET, SO_RCVBUF, 1));
    send_all(fd[0], block, 1);
    send_all(fd[0], block, 4500);
    /* Another thread may have them in hand. */
    while (ask(fd[1], FIONREAD) < 4501)
        usk_poll(NULL, 0, 1);
    EQ(ask(fd[1], FIONREAD), 4501);
    EQ(usk_recv(fd[1], block, 2, 0), 2);
    close_pair(fd);

    /* A full send buffer has no place for a byte, although packets join it by whole segments. */
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 1));
    while (usk_send(fd[0], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
    ERR(usk_send(fd[0], block, 1, MSG_DONTWAIT), EAGAIN);
    close_pair(fd);

    int l = listener(local(AF_INET), 1), v;
    ERR(usk_ioctl(l, FIONREAD, &v), EINVAL);
    ERR(usk_ioctl(l, SIOCOUTQ, &v), EINVAL);
    ERR(usk_ioctl(l, SIOCOUTQNSD, &v), EINVAL);
    OK(usk_close(l));
    /* A new socket has empty queues. */
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(ask(s, FIONREAD), 0);
    EQ(ask(s, SIOCOUTQ), 0);
    OK(usk_close(s));

    /* UDP: the length of the next datagram, not the sum. */
    udp_pair(AF_INET, fd);
    EQ(usk_send(fd[0], "12345", 5, 0), 5);
    EQ(usk_send(fd[0], "123", 3, 0), 3);
    await(fd[1], POLLIN);
    EQ(ask(fd[1], FIONREAD), 5);
    EQ(usk_recv(fd[1], buf, 1, 0), 1);
    EQ(usk_recv(fd[1], buf, sizeof buf, MSG_PEEK), 3);
    EQ(ask(fd[1], FIONREAD), 3);
    ERR(usk_ioctl(fd[1], FIONREAD, NULL), EFAULT);
    ERR(usk_ioctl(fd[1], SIOCATMARK, &v), ENOTTY); /* no such thing for UDP */
    ERR(usk_ioctl(fd[1], 0xdead, &v), ENOTTY);
    close_pair(fd);
    return done();
}

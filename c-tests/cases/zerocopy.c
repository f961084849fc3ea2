/* SO_ZEROCOPY and MSG_ZEROCOPY: which sockets have it, what comes on the error queue and when, and what poll(2) says of
 * that. Over loopback, where Linux copies, too. */
#include "common.h"

/* Reads a completion: its range of ids must be `lo` to `hi`. */
static void completed_at(int line, int fd, unsigned lo, unsigned hi)
{
    bool v6 = sock_name(fd).sa.sa_family == AF_INET6;
    char byte, control[128];
    struct iovec iov = {&byte, 1};
    struct addr name;
    struct msghdr m = {.msg_name = &name.storage,
                       .msg_namelen = sizeof name.storage,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof control};
    /* POLLERR needs not be asked for. */
    EQ(await(fd, 0), POLLERR);
    eq_at(__FILE__, line, "recvmsg", usk_recvmsg(fd, &m, MSG_ERRQUEUE), 0);
    EQ(m.msg_flags, MSG_ERRQUEUE);
    EQ(m.msg_namelen, 0);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    CHECK(h != NULL);
    EQ(h->cmsg_level, v6 ? IPPROTO_IPV6 : IPPROTO_IP);
    EQ(h->cmsg_type, v6 ? IPV6_RECVERR : IP_RECVERR);
    EQ(h->cmsg_len, CMSG_LEN(sizeof(struct sock_extended_err) +
                             (v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in))));
    CHECK(CMSG_NXTHDR(&m, h) == NULL);
    struct sock_extended_err err;
    memcpy(&err, CMSG_DATA(h), sizeof err);
    EQ(err.ee_errno, 0);
    EQ(err.ee_origin, SO_EE_ORIGIN_ZEROCOPY);
    EQ(err.ee_type, 0);
    EQ(err.ee_code, SO_EE_CODE_ZEROCOPY_COPIED);
    eq_at(__FILE__, line, "first id", err.ee_info, lo);
    eq_at(__FILE__, line, "last id", err.ee_data, hi);
    struct sockaddr offender;
    memcpy(&offender, CMSG_DATA(h) + sizeof err, sizeof offender);
    EQ(offender.sa_family, AF_UNSPEC);
}
#define COMPLETED(fd, lo, hi) completed_at(__LINE__, fd, lo, hi)

static void no_completion_at(int line, int fd)
{
    struct msghdr m = {.msg_iovlen = 0};
    errno = 0;
    err_at(__FILE__, line, "recvmsg", usk_recvmsg(fd, &m, MSG_ERRQUEUE), EAGAIN);
    EQ(ready(fd, 0) & POLLERR, 0);
}
#define NO_COMPLETION(fd) no_completion_at(__LINE__, fd)

static void which_sockets(void)
{
    const struct { int family, type, protocol; bool has; } row[] = {
        {AF_INET, SOCK_STREAM, 0, true},
        {AF_INET6, SOCK_STREAM, 0, true},
        {AF_INET, SOCK_DGRAM, 0, true},
        {AF_INET6, SOCK_DGRAM, 0, true},
        {AF_INET, SOCK_RAW, IPPROTO_UDP, false},
        {AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, false},
    };
    for (int i = 0; i < COUNT(row); i++) {
        int fd = usk_socket(row[i].family, row[i].type, row[i].protocol);
        if (fd < 0 && errno == EPERM && row[i].type == SOCK_RAW)
            continue;
        OK(fd);
        EQ(get_int(fd, SOL_SOCKET, SO_ZEROCOPY), 0);
        if (row[i].has) {
            OK(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 1));
            ERR(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 2), EINVAL);
            ERR(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, -1), EINVAL);
            EQ(get_int(fd, SOL_SOCKET, SO_ZEROCOPY), 1);
            OK(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 0));
        } else {
            for (int value = -1; value <= 2; value++)
                ERR(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, value), EOPNOTSUPP);
        }
        EQ(get_int(fd, SOL_SOCKET, SO_ZEROCOPY), 0);
        OK(usk_close(fd));
    }
}

static void stream(int family)
{
    char buf[4000] = {0};
    int l = listener(local(family), 1);
    struct addr to = sock_name(l);
    int fd = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    OK(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 1));
    ERR(usk_send(fd, buf, 10, MSG_ZEROCOPY | MSG_NOSIGNAL), EPIPE); /* uses no id */
    OK(usk_connect(fd, &to.sa, to.len));
    int peer = (int)OK(usk_accept(l, NULL, NULL));
    NO_COMPLETION(fd);

    EQ(usk_send(fd, buf, sizeof buf, MSG_ZEROCOPY), sizeof buf);
    await_bytes(peer, sizeof buf);
    COMPLETED(fd, 0, 0);
    EQ(usk_send(fd, buf, 0, MSG_ZEROCOPY), 0);
    ERR(usk_send(fd, (void *)8, 10, MSG_ZEROCOPY), EFAULT);
    NO_COMPLETION(fd);
    /* Calls that follow each other are told in one range, whether they share a packet or not. */
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    OK(set_int(fd, IPPROTO_TCP, TCP_CORK, 1));
    for (int i = 0; i < 3; i++)
        EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    OK(set_int(fd, IPPROTO_TCP, TCP_CORK, 0));
    await_bytes(peer, sizeof buf + 40);
    COMPLETED(fd, 1, 4);
    NO_COMPLETION(fd);
    EQ(so_error(fd), 0);
    /* Only MSG_ERRQUEUE reads it; the option is taken back. */
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    await(fd, 0);
    ERR(usk_recv(fd, buf, 1, MSG_DONTWAIT), EAGAIN);
    COMPLETED(fd, 5, 5);
    OK(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 0));
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    await_bytes(peer, sizeof buf + 60);
    NO_COMPLETION(fd);
    /* What a disconnect frees is complete, and the ids go on. */
    OK(set_int(fd, SOL_SOCKET, SO_ZEROCOPY, 1));
    OK(set_int(fd, IPPROTO_TCP, TCP_CORK, 1));
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    NO_COMPLETION(fd);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd, &none, sizeof none));
    EQ(ready(fd, 0) & POLLERR, POLLERR);
    struct msghdr m = {.msg_iovlen = 0};
    OK(usk_recvmsg(fd, &m, MSG_ERRQUEUE));
    OK(usk_close(peer));
    OK(usk_connect(fd, &to.sa, to.len));
    peer = (int)OK(usk_accept(l, NULL, NULL));
    OK(set_int(fd, IPPROTO_TCP, TCP_CORK, 0));
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    COMPLETED(fd, 7, 7);
    OK(usk_close(fd));
    OK(usk_close(peer));

    /* An accepted socket has the listener's option, and ids of its own. */
    OK(set_int(l, SOL_SOCKET, SO_ZEROCOPY, 1));
    peer = connected(SOCK_STREAM, to);
    fd = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get_int(fd, SOL_SOCKET, SO_ZEROCOPY), 1);
    EQ(usk_send(fd, buf, 10, MSG_ZEROCOPY), 10);
    COMPLETED(fd, 0, 0);
    OK(usk_close(fd));
    OK(usk_close(peer));
    OK(usk_close(l));
}

static void datagrams(int family)
{
    int fd[2];
    char buf[1000] = {0};
    udp_pair(family, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_ZEROCOPY, 1));
    EQ(usk_send(fd[0], buf, sizeof buf, MSG_ZEROCOPY), sizeof buf);
    COMPLETED(fd[0], 0, 0);
    EQ(usk_send(fd[0], buf, 0, MSG_ZEROCOPY), 0); /* unlike of a stream */
    COMPLETED(fd[0], 1, 1);
    EQ(usk_send(fd[0], buf, 100, MSG_ZEROCOPY | MSG_MORE), 100);
    EQ(usk_send(fd[0], buf, 100, MSG_ZEROCOPY | MSG_MORE), 100);
    NO_COMPLETION(fd[0]);
    EQ(usk_send(fd[0], buf, 100, 0), 100);
    COMPLETED(fd[0], 2, 3);
    ERR(usk_send(fd[0], (void *)8, 100, MSG_ZEROCOPY), EFAULT);
    NO_COMPLETION(fd[0]);
    EQ(usk_send(fd[0], buf, 100, MSG_ZEROCOPY), 100);
    COMPLETED(fd[0], 4, 4);
    /* It copies before the datagram is complete: the buffer may change at once. */
    char got[1000];
    for (int i = 0; i < 2; i++)
        OK(usk_recv(fd[1], got, sizeof got, 0));
    close_pair(fd);
}

/* An edge comes with each completion, and with each read that leaves one behind. */
static void epoll_edges(void)
{
    int fd[2];
    char buf[10] = {0};
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_ZEROCOPY, 1));
    int ep = (int)OK(usk_epoll_create1(0));
    struct epoll_event e = {.events = EPOLLET, .data.fd = fd[0]};
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e));
    for (unsigned id = 0; id < 2; id++) {
        EQ(usk_send(fd[0], buf, sizeof buf, MSG_ZEROCOPY), sizeof buf);
        EQ(usk_epoll_wait(ep, &e, 1, -1), 1);
        EQ(e.events, EPOLLERR);
        EQ(usk_epoll_wait(ep, &e, 1, 0), 0);
    }
    COMPLETED(fd[0], 0, 1);
    EQ(usk_epoll_wait(ep, &e, 1, 0), 0);
    OK(usk_close(ep));
    close_pair(fd);
}

int main(void)
{
    begin("zerocopy");
    which_sockets();
    for (int i = 0; i < 2; i++) {
        stream(i ? AF_INET6 : AF_INET);
        datagrams(i ? AF_INET6 : AF_INET);
    }
    epoll_edges();
    return done();
}

/* RDP (plugins/rdp*.c) as a program sees it, over the in-memory loopback: connections, messages and their bounds,
 * readiness, ends of every kind, options, counters, unloading. ARGV[1] is the folder of the built plug-ins. */
#include "../cases/common.h"
#include <usersock/core.h>
#include "../plugins/rdp.h"

static usk_stack_t *stack;
static unsigned char big[1 << 20], copy[1 << 20];

static int rdp_socket(int family)
{
    return (int)OK(usk_socket_on(stack, family, SOCK_SEQPACKET, IPPROTO_RDP));
}

static int rdp_listener(struct addr a, int backlog)
{
    int fd = rdp_socket(a.sa.sa_family);
    OK(usk_bind(fd, &a.sa, a.len));
    OK(usk_listen(fd, backlog));
    return fd;
}

static int rdp_connected(struct addr to)
{
    int fd = rdp_socket(to.sa.sa_family);
    OK(usk_connect(fd, &to.sa, to.len));
    return fd;
}

static void rdp_pair(int family, int fd[2])
{
    int l = rdp_listener(local(family), 4);
    fd[0] = rdp_connected(sock_name(l));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(l));
}

static uint64_t counter(const char *name)
{
    uint64_t v = 0;
    OK(usk_mib_read(stack, name, &v));
    return v;
}

/* Receives with flags, tells msg_flags. */
static long receive(int fd, void *buf, size_t len, int flags, int *out)
{
    struct iovec iov = { buf, len };
    struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
    long n = usk_recvmsg(fd, &h, flags);
    *out = h.msg_flags;
    return n;
}

static void messages_keep_their_bounds(int family)
{
    static const int sizes[] = { 0, 1, 2, 1399, 1400, 1401, 65000, 65001, 0, 200000, 262144, 3 };
    int fd[2], out;
    rdp_pair(family, fd);
    for (int way = 0; way < 2; way++) {
        for (int i = 0; i < COUNT(sizes); i++) {
            for (int j = 0; j < sizes[i]; j++)
                big[j] = pattern((uint64_t)(100 * way + i), (uint64_t)j);
            EQ(usk_send(fd[way], big, (size_t)sizes[i], 0), sizes[i]);
            EQ(await(fd[!way], POLLIN), POLLIN);
            EQ(receive(fd[!way], copy, sizeof copy, 0, &out), sizes[i]);
            EQ(out & (MSG_EOR | MSG_TRUNC), MSG_EOR);
            EQ(memcmp(big, copy, (size_t)sizes[i]), 0);
        }
    }
    /* Several wait: each comes by itself; one that does not fit is cut, and the next is whole. */
    EQ(usk_send(fd[0], "one", 3, 0), 3);
    EQ(usk_send(fd[0], "second", 6, MSG_EOR), 6);
    EQ(usk_send(fd[0], "third", 5, 0), 5);
    EQ(await(fd[1], POLLIN), POLLIN);
    EQ(receive(fd[1], copy, 10, MSG_PEEK, &out), 3);
    EQ(get_int(fd[0], IPPROTO_RDP, RDP_MAXMSG), 262144);
    int waiting = 0;
    OK(usk_ioctl(fd[1], FIONREAD, &waiting));
    EQ(waiting, 3);
    EQ(receive(fd[1], copy, 10, 0, &out), 3);
    EQ(receive(fd[1], copy, 2, 0, &out), 2);
    EQ(out & (MSG_EOR | MSG_TRUNC), MSG_EOR | MSG_TRUNC);
    EQ(receive(fd[1], copy, 2, MSG_PEEK | MSG_TRUNC, &out), 5);
    EQ(receive(fd[1], copy, 10, 0, &out), 5);
    EQ(memcmp(copy, "third", 5), 0);
    ERR(usk_recv(fd[1], copy, 10, MSG_DONTWAIT), EAGAIN);
    ERR(usk_recv(fd[1], copy, 10, MSG_OOB), EOPNOTSUPP);
    ERR(usk_send(fd[1], copy, 10, MSG_OOB), EOPNOTSUPP);
    ERR(usk_send(fd[0], big, 262145, 0), EMSGSIZE);
    struct iovec parts[3] = { { "ga", 2 }, { "the", 3 }, { "red", 3 } };
    EQ(usk_writev(fd[1], parts, 3), 8);
    EQ(usk_read(fd[0], copy, 20), 8);
    EQ(memcmp(copy, "gathered", 8), 0);
    close_pair(fd);
}

static void names_and_states(int family)
{
    int l = rdp_listener(local(family), 2), c = rdp_socket(family), out;
    struct addr to = sock_name(l), none = local(family);
    ERR(usk_recv(c, copy, 1, 0), ENOTCONN);
    ERR(usk_send(c, copy, 1, MSG_NOSIGNAL), ENOTCONN);
    ERR(usk_connect(c, &none.sa, none.len), EADDRNOTAVAIL);
    EQ(ready(c, POLLIN | POLLOUT), POLLOUT | POLLHUP);
    EQ(ready(l, POLLIN | POLLOUT), 0);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    set_nonblock(l, false);
    OK(usk_connect(c, &to.sa, to.len));
    ERR(usk_connect(c, &to.sa, to.len), EISCONN);
    ERR(usk_listen(c, 1), EINVAL);
    await(l, POLLIN);
    struct addr from = { .len = sizeof from.storage };
    int s = (int)OK(usk_accept(l, &from.sa, &from.len));
    CHECK(same_addr(from, sock_name(c)) && same_addr(peer_name(s), sock_name(c)) &&
          same_addr(peer_name(c), sock_name(s)));
    EQ(ready(s, POLLIN | POLLOUT | POLLRDHUP), POLLOUT);
    /* One direction ends; the other goes on. */
    EQ(usk_send(c, "last", 4, 0), 4);
    OK(usk_shutdown(c, SHUT_WR));
    ERR(usk_send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    EQ(usk_recv(s, copy, 10, 0), 4);
    EQ(await(s, POLLRDHUP), POLLRDHUP);
    EQ(receive(s, copy, 10, 0, &out), 0);
    EQ(out & MSG_EOR, 0);
    EQ(usk_recv(s, copy, 10, 0), 0);
    EQ(usk_send(s, "still", 5, 0), 5);
    EQ(usk_recv(c, copy, 10, 0), 5);
    OK(usk_close(s));
    EQ(usk_recv(c, copy, 10, 0), 0);
    EQ(ready(c, POLLIN | POLLHUP | POLLRDHUP), POLLIN | POLLHUP | POLLRDHUP);
    OK(usk_close(c));
    c = rdp_socket(family);
    ERR(usk_shutdown(c, SHUT_WR), ENOTCONN);
    OK(usk_close(c));
    OK(usk_close(l));
}

enum { EVERY = POLLIN | POLLOUT | POLLRDHUP };

/* What poll(2) says in each state, of both ends of a connection on its way down. */
static void readiness_of_every_state(void)
{
    struct addr a = local(AF_INET);
    int l = rdp_listener(a, 4), c = rdp_socket(AF_INET), fd[2];
    struct addr to = sock_name(l);
    OK(usk_close(l));
    /* Refused: there is nothing to wait for; when the error is told, it is a socket as new. */
    ERR(usk_connect(c, &to.sa, to.len), ECONNREFUSED);
    EQ(ready(c, EVERY), POLLOUT | POLLHUP);
    set_nonblock(c, true);
    ERR(usk_connect(c, &to.sa, to.len), EINPROGRESS);
    await(c, POLLERR);
    EQ(ready(c, EVERY), EVERY | POLLERR | POLLHUP);
    EQ(so_error(c), ECONNREFUSED);
    EQ(ready(c, EVERY), POLLOUT | POLLHUP);
    OK(usk_close(c));
    /* CLOSE_WAIT and FIN_WAIT2; with something to read, and without. */
    rdp_pair(AF_INET, fd);
    EQ(ready(fd[0], EVERY), POLLOUT);
    EQ(usk_send(fd[0], "x", 1, 0), 1);
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(await(fd[1], POLLRDHUP), POLLRDHUP);
    EQ(ready(fd[1], EVERY), EVERY);
    EQ(usk_recv(fd[1], copy, 9, 0), 1);
    EQ(ready(fd[1], EVERY), EVERY);
    EQ(ready(fd[0], EVERY), POLLOUT);
    /* LAST_ACK, and over. */
    OK(usk_shutdown(fd[1], SHUT_WR));
    EQ(await(fd[0], POLLHUP) & POLLHUP, POLLHUP);
    EQ(ready(fd[0], EVERY), EVERY | POLLHUP);
    EQ(await(fd[1], POLLHUP) & POLLHUP, POLLHUP);
    EQ(ready(fd[1], EVERY), EVERY | POLLHUP);
    EQ(usk_recv(fd[0], copy, 9, 0), 0);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    close_pair(fd);
    /* SHUT_RD: the end for a reader, at once. */
    rdp_pair(AF_INET6, fd);
    OK(usk_shutdown(fd[0], SHUT_RD));
    EQ(ready(fd[0], EVERY), EVERY);
    EQ(usk_recv(fd[0], copy, 9, 0), 0);
    close_pair(fd);
}

/* A message must fit half of SO_SNDBUF; one in many packets is peeked at whole, and cut where the buffer ends. */
static void long_messages_and_small_buffers(void)
{
    int fd[2], out;
    rdp_pair(AF_INET, fd);
    EQ(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 4096), 0);
    int most = get_int(fd[0], IPPROTO_RDP, RDP_MAXMSG);
    EQ(most, get_int(fd[0], SOL_SOCKET, SO_SNDBUF) / 2);
    ERR(usk_send(fd[0], big, (size_t)most + 1, 0), EMSGSIZE);
    for (int j = 0; j < most; j++)
        big[j] = pattern(3, (uint64_t)j);
    for (int i = 0; i < 20; i++) {
        EQ(usk_send(fd[0], big, (size_t)most, 0), most);
        EQ(usk_recv(fd[1], copy, sizeof copy, 0), most);
    }
    EQ(memcmp(big, copy, (size_t)most), 0);
    EQ(usk_send(fd[1], big, 200000, 0), 200000);
    EQ(usk_send(fd[1], "next", 4, 0), 4);
    memset(copy, 0, sizeof copy);
    EQ(receive(fd[0], copy, 150000, MSG_PEEK, &out), 150000);
    EQ(out & (MSG_EOR | MSG_TRUNC), MSG_EOR | MSG_TRUNC);
    EQ(memcmp(big, copy, 150000), 0);
    EQ(receive(fd[0], copy, 1, MSG_PEEK | MSG_TRUNC, &out), 200000);
    EQ(receive(fd[0], copy, 100, MSG_TRUNC, &out), 200000);
    EQ(receive(fd[0], copy, 100, 0, &out), 4);
    EQ(out & (MSG_EOR | MSG_TRUNC), MSG_EOR);
    close_pair(fd);
}

static void refusals_and_resets(void)
{
    struct addr a = local(AF_INET);
    int l = rdp_listener(a, 1), c = rdp_socket(AF_INET), fd[2];
    struct addr to = sock_name(l);
    OK(usk_close(l));
    ERR(usk_connect(c, &to.sa, to.len), ECONNREFUSED);
    /* And once more on the same socket, where somebody listens. */
    l = rdp_listener(to, 1);
    OK(usk_connect(c, &to.sa, to.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_send(c, "hi", 2, 0), 2);
    EQ(usk_recv(s, copy, 2, 0), 2);
    /* Closing with something unread resets. */
    EQ(usk_send(c, "unread", 6, 0), 6);
    await(s, POLLIN);
    OK(usk_close(s));
    await(c, POLLERR);
    EQ(ready(c, POLLIN | POLLOUT), POLLIN | POLLOUT | POLLERR | POLLHUP);
    ERR(usk_recv(c, copy, 2, 0), ECONNRESET);
    EQ(usk_recv(c, copy, 2, 0), 0);
    ERR(usk_send(c, "x", 1, MSG_NOSIGNAL), EPIPE);
    OK(usk_close(c));
    /* So does SO_LINGER of zero; and what came before it is still read. */
    rdp_pair(AF_INET, fd);
    struct linger hard = { 1, 0 };
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    EQ(usk_send(fd[0], "before", 6, 0), 6);
    await(fd[1], POLLIN);
    OK(usk_close(fd[0]));
    await(fd[1], POLLERR);
    EQ(usk_recv(fd[1], copy, 10, 0), 6);
    ERR(usk_recv(fd[1], copy, 10, 0), ECONNRESET);
    OK(usk_close(fd[1]));
    /* A connection that nobody accepts goes with its listener; one in the way of nothing stays refused. */
    c = rdp_connected(to);
    await(l, POLLIN);
    OK(usk_close(l));
    await(c, POLLERR);
    EQ(so_error(c), ECONNRESET);
    OK(usk_close(c));
    /* Dissolving by AF_UNSPEC. */
    rdp_pair(AF_INET, fd);
    struct sockaddr unspec = { .sa_family = AF_UNSPEC };
    OK(usk_connect(fd[0], &unspec, sizeof unspec));
    await(fd[1], POLLERR);
    EQ(so_error(fd[1]), ECONNRESET);
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), ENOTCONN);
    close_pair(fd);
    /* A lingering close returns when all is acknowledged. */
    rdp_pair(AF_INET, fd);
    struct linger soft = { 1, 20 };
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &soft, sizeof soft));
    EQ(usk_send(fd[0], big, 100000, 0), 100000);
    OK(usk_close(fd[0]));
    EQ(usk_recv(fd[1], copy, sizeof copy, 0), 100000);
    EQ(usk_recv(fd[1], copy, sizeof copy, 0), 0);
    OK(usk_close(fd[1]));
}

static void listener_ends_and_backlog(void)
{
    int l = rdp_listener(local(AF_INET), 1), c[3];
    struct addr to = sock_name(l);
    /* One more than the backlog may wait, as in TCP. The third caller is answered when there is room. */
    for (int i = 0; i < 3; i++) {
        c[i] = rdp_socket(AF_INET);
        set_nonblock(c[i], true);
        ERR(usk_connect(c[i], &to.sa, to.len), EINPROGRESS);
    }
    /* Another thread may have the last packets in hand. */
    while (counter("RdpListenOverflows") == 0)
        usk_poll(NULL, 0, 1);
    for (int i = 0; i < 3; i++) {
        int s = (int)OK(usk_accept(l, NULL, NULL));
        EQ(usk_send(s, "welcome", 7, 0), 7);
        OK(usk_close(s));
    }
    for (int i = 0; i < 3; i++) {
        await(c[i], POLLIN);
        EQ(so_error(c[i]), 0);
        EQ(usk_recv(c[i], copy, 10, 0), 7);
        OK(usk_close(c[i]));
    }
    OK(usk_shutdown(l, SHUT_RD));
    ERR(usk_accept(l, NULL, NULL), EINVAL);
    OK(usk_listen(l, 5));
    int s = rdp_connected(to);
    OK(usk_close(s));
    OK(usk_close(l));
}

/* Sends messages of 1000 bytes, each with its number's pattern, until one is refused; that one's number. */
static int send_until_full(int fd, int n)
{
    for (;; n++) {
        for (int j = 0; j < 1000; j++)
            big[j] = pattern((uint64_t)n, (uint64_t)j);
        if (usk_send(fd, big, 1000, 0) != 1000)
            break;
    }
    EQ(errno, EAGAIN);
    return n;
}

static void buffers_fill_and_open(void)
{
    int fd[2], n = 0, back = 0;
    rdp_pair(AF_INET, fd);
    set_nonblock(fd[0], true);
    int ep = (int)OK(usk_epoll_create1(0));
    struct epoll_event ev = { .events = EPOLLOUT | EPOLLET, .data.fd = fd[0] };
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &ev));
    EQ(usk_epoll_wait(ep, &ev, 1, 0), 1);
    EQ(usk_epoll_wait(ep, &ev, 1, 0), 0);
    n = send_until_full(fd[0], n);
    CHECK(n > 100);
    /* What is on its way makes room when it is acknowledged: full is when nothing is, and nothing happens a while. */
    struct timeval soon = { 0, 50000 };
    set_nonblock(fd[0], false);
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon));
    struct rdp_info i;
    do {
        n = send_until_full(fd[0], n);
        socklen_t len = sizeof i;
        OK(usk_getsockopt(fd[0], IPPROTO_RDP, RDP_INFO, &i, &len));
    } while (i.in_flight > 0 || ready(fd[0], POLLOUT) != 0);
    EQ(ready(fd[0], POLLOUT), 0);
    for (; back < n; back++) {
        EQ(usk_recv(fd[1], copy, 2000, 0), 1000);
        for (int j = 0; j < 1000; j++)
            if (copy[j] != pattern((uint64_t)back, (uint64_t)j))
                EQ(j, -1);
    }
    EQ(usk_epoll_wait(ep, &ev, 1, -1), 1);
    EQ(ev.events, EPOLLOUT);
    OK(usk_setsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    ERR(usk_recv(fd[1], copy, 10, 0), EAGAIN);
    struct timeval never = { 0, 0 };
    OK(usk_setsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never));
    /* Tiny messages: the window counts packets, too; none is lost for want of room. */
    uint64_t full = counter("RdpRcvFull");
    set_nonblock(fd[0], true);
    for (n = 0; usk_send(fd[0], "t", 1, 0) == 1; n++)
        ;
    for (back = 0; back < n; back++)
        EQ(usk_recv(fd[1], copy, 10, 0), 1);
    EQ(counter("RdpRcvFull"), full);
    OK(usk_close(ep));
    close_pair(fd);
}

/* A window smaller than a packet, and messages larger than the window: they arrive all the same. */
static void small_windows(void)
{
    int l = rdp_listener(local(AF_INET), 1);
    EQ(set_int(l, SOL_SOCKET, SO_RCVBUF, 8192), 0);
    int c = rdp_connected(sock_name(l)), s = (int)OK(usk_accept(l, NULL, NULL));
    int most = get_int(c, IPPROTO_RDP, RDP_MAXMSG);
    CHECK(most >= 2048 && most <= 8192);
    for (int i = 0; i < 5; i++) {
        memset(big, i, (size_t)most);
        EQ(usk_send(c, big, (size_t)most, 0), most);
    }
    for (int i = 0; i < 5; i++) {
        EQ(usk_recv(s, copy, sizeof copy, 0), most);
        memset(big, i, (size_t)most);
        EQ(memcmp(big, copy, (size_t)most), 0);
    }
    ERR(usk_send(c, big, (size_t)most + 1, 0), EMSGSIZE);
    OK(usk_close(c));
    OK(usk_close(s));
    OK(usk_close(l));
}

static void *reader(void *arg)
{
    int fd = *(int *)arg;
    static unsigned char buf[1 << 18];
    uint64_t got = 0;
    for (uint64_t i = 0;; i++) {
        long n = OK(usk_recv(fd, buf, sizeof buf, 0));
        if (n == 0)
            break;
        if (n != (long)(1 + i * 977 % 30000) || buf[0] != pattern(7, i) || (n > 1 && buf[n - 1] != pattern(8, i)))
            EQ(n, -2);
        got += (uint64_t)n;
    }
    EQ(got > 0, 1);
    return NULL;
}

static void *blocked_recv(void *arg)
{
    EQ(usk_recv(*(int *)arg, copy, 10, 0), 0);
    return NULL;
}

static void threads(void)
{
    int fd[2];
    rdp_pair(AF_INET6, fd);
    pthread_t t = spawn(reader, &fd[1]);
    for (uint64_t i = 0; i < 2000; i++) {
        size_t n = 1 + i * 977 % 30000;
        big[n - 1] = pattern(8, i);
        big[0] = pattern(7, i);
        EQ(usk_send(fd[0], big, n, 0), n);
    }
    OK(usk_shutdown(fd[0], SHUT_WR));
    join(t);
    /* Both end at once. */
    close_pair(fd);
    rdp_pair(AF_INET, fd);
    t = spawn(blocked_recv, &fd[0]);
    OK(usk_close(fd[1]));
    join(t);
    OK(usk_close(fd[0]));
}

static void options(void)
{
    int fd[2], s = rdp_socket(AF_INET);
    char name[32] = "";
    socklen_t len = sizeof name;
    EQ(set_int(s, IPPROTO_RDP, RDP_MAXSEG, 1000), 0);
    ERR(set_int(s, IPPROTO_RDP, RDP_MAXSEG, 63), EINVAL);
    ERR(set_int(s, IPPROTO_RDP, 99, 1), ENOPROTOOPT);
    ERR(usk_getsockopt(s, IPPROTO_RDP, 99, name, &len), ENOPROTOOPT);
    ERR(usk_setsockopt(s, IPPROTO_RDP, RDP_KEEPIDLE, name, 2), EINVAL);
    ERR(set_int(s, IPPROTO_RDP, RDP_KEEPCNT, 128), EINVAL);
    EQ(set_int(s, IPPROTO_RDP, RDP_KEEPINTVL, 5), 0);
    EQ(get_int(s, IPPROTO_RDP, RDP_KEEPINTVL), 5);
    EQ(get_int(s, IPPROTO_RDP, RDP_KEEPIDLE), 7200);
    EQ(set_int(s, IPPROTO_RDP, RDP_USER_TIMEOUT, 30000), 0);
    EQ(set_int(s, SOL_SOCKET, SO_KEEPALIVE, 1), 0);
    OK(usk_getsockopt(s, IPPROTO_RDP, RDP_CONGESTION, name, &len));
    CHECK(strcmp(name, "reno") == 0 || strcmp(name, "cubic") == 0);
    EQ(usk_setsockopt(s, IPPROTO_RDP, RDP_CONGESTION, "reno", 4), 0);
    ERR(usk_setsockopt(s, IPPROTO_RDP, RDP_CONGESTION, "no_such", 7), ENOENT);
    EQ(set_int(s, IPPROTO_IP, IP_TTL, 9), 0);
    EQ(get_int(s, IPPROTO_IP, IP_TTL), 9);
    int l = rdp_listener(local(AF_INET), 1);
    struct addr to = sock_name(l);
    OK(usk_connect(s, &to.sa, to.len));
    fd[0] = s;
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(l));
    EQ(usk_send(fd[0], big, 50000, 0), 50000);
    EQ(usk_recv(fd[1], copy, sizeof copy, 0), 50000);
    EQ(usk_send(fd[1], "ok", 2, 0), 2);
    EQ(usk_recv(fd[0], copy, 10, 0), 2);
    struct rdp_info i;
    len = sizeof i;
    OK(usk_getsockopt(fd[0], IPPROTO_RDP, RDP_INFO, &i, &len));
    EQ(len, sizeof i);
    EQ(i.state, 1);
    EQ(i.mss, 1000);
    EQ(i.bytes_out, 50000);
    EQ(i.bytes_in, 2);
    EQ(i.msgs_in, 1);
    EQ(i.unacked, 0);
    /* On a busy machine packets are sent again, and the window is smaller then. */
    CHECK(i.cwnd >= 10 || i.retrans > 0);
    CHECK(i.rtt_us > 0 && i.rto_us >= 200000 && i.segs_out > 50 && i.snd_wnd > 10000);
    ERR(set_int(s, IPPROTO_RDP, RDP_MAXSEG, 1000), EISCONN);
    len = 1;
    OK(usk_getsockopt(fd[0], IPPROTO_RDP, RDP_INFO, &i, &len));
    EQ(len, 1);
    close_pair(fd);
}

int main(int argc, char **argv)
{
    begin("rdp");
    CHECK(argc == 2);
    char path[512];
    snprintf(path, sizeof path, "%s/rdp.so", argv[1]);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, IPPROTO_RDP), ESOCKTNOSUPPORT);
    usk_plugin_t *plugin = usk_plugin_load(stack, path);
    CHECK(plugin != NULL);
    /* No TIME-WAIT: the plug-in is to be unloaded at the end. */
    OK(usk_sysctl_set(stack, "net.rdp.time_wait_ms", "0"));

    messages_keep_their_bounds(AF_INET);
    messages_keep_their_bounds(AF_INET6);
    names_and_states(AF_INET);
    names_and_states(AF_INET6);
    readiness_of_every_state();
    long_messages_and_small_buffers();
    refusals_and_resets();
    listener_ends_and_backlog();
    buffers_fill_and_open();
    small_windows();
    threads();
    options();

    CHECK(counter("RdpActiveOpens") > 10);
    CHECK(counter("RdpPassiveOpens") <= counter("RdpActiveOpens"));
    CHECK(counter("RdpInSegs") > 100);
    EQ(counter("RdpInErrs"), 0);
    EQ(counter("RdpInCsumErrors"), 0);
    EQ(counter("RdpBadCookies"), 0);
    /* All sockets are closed, and no connection is left, when the last packets have arrived: it goes. With TIME-WAIT it
     * stays for as long as that. */
    struct timespec nap = { 0, 1000000 };
    for (int i = 0; i < 5000 && counter("RdpEstabUp") != counter("RdpEstabDown"); i++)
        nanosleep(&nap, NULL);
    EQ(counter("RdpEstabUp"), counter("RdpEstabDown"));
    for (int i = 0; i < 5000 && usk_plugin_unload(plugin) != 0; i++) {
        EQ(errno, EBUSY);
        nanosleep(&nap, NULL);
        plugin = i == 4999 ? NULL : plugin;
    }
    CHECK(plugin != NULL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, IPPROTO_RDP), ESOCKTNOSUPPORT);
    usk_stack_free(stack);
    return done();
}

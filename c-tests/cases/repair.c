/* TCP_REPAIR: what a connection is taken out of a socket and put into another one with. The options and what refuses
 * them; either queue read and written; a connection that is moved with data in both queues while its peer keeps its
 * end. Needs CAP_NET_ADMIN on the kernel. */
#include "common.h"

enum { OPT_MSS = 2, OPT_WINDOW = 3, OPT_SACK_PERM = 4, OPT_TIMESTAMP = 8 };

/* What is carried over: a program writes it to a file. */
struct image {
    struct addr local, peer;
    uint32_t in_seq, out_seq, timestamp;
    int in_len, out_len, unsent;
    char in[4096], out[65536];
    struct tcp_info info;
    int mss;
    struct tcp_repair_window window;
};

static int repair(int fd, int how)
{
    return set_int(fd, IPPROTO_TCP, TCP_REPAIR, how);
}

static int queue(int fd, int which)
{
    return set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, which);
}

static int repair_option(int fd, uint32_t code, uint32_t val)
{
    struct tcp_repair_opt opt = {.opt_code = code, .opt_val = val};
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, &opt, sizeof opt);
}

static uint32_t queue_seq(int fd, int which)
{
    OK(queue(fd, which));
    return (uint32_t)get_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ);
}

static int get(int fd, int name)
{
    int value = -7;
    socklen_t len = sizeof value;
    return usk_getsockopt(fd, IPPROTO_TCP, name, &value, &len) == 0 ? value : -1;
}

static int get_window(int fd, struct tcp_repair_window *w, socklen_t len)
{
    return usk_getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, w, &len);
}

static int set_window(int fd, const struct tcp_repair_window *w, socklen_t len)
{
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, w, len);
}

static int ioctl_int(int fd, unsigned long request)
{
    int n = -1;
    OK(usk_ioctl(fd, request, &n));
    return n;
}

static struct tcp_info info(int fd)
{
    struct tcp_info t;
    socklen_t len = sizeof t;
    memset(&t, 0, sizeof t);
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len));
    return t;
}

static void await_acknowledged(int fd)
{
    while (ioctl_int(fd, SIOCOUTQ) != 0)
        usk_poll(NULL, 0, 1);
}

/* ---- the options ----------------------------------------------------------------------------------------------- */

static void of_a_closed_socket(int family)
{
    struct tcp_repair_window w = {0};
    int s = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    EQ(get(s, TCP_REPAIR), 0);
    ERR(get(s, TCP_REPAIR_QUEUE), EINVAL);
    ERR(get(s, TCP_QUEUE_SEQ), EINVAL);
    ERR(get(s, TCP_REPAIR_OPTIONS), ENOPROTOOPT);
    ERR(get_window(s, &w, sizeof w), EPERM);
    ERR(get_window(s, &w, sizeof w - 1), EINVAL);
    ERR(queue(s, TCP_RECV_QUEUE), EPERM);
    ERR(queue(s, 77), EPERM);
    ERR(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, 1), EINVAL);
    ERR(repair_option(s, OPT_MSS, 1000), EINVAL);
    ERR(set_window(s, &w, sizeof w), EPERM);
    ERR(set_window(s, &w, 3), EINVAL);
    ERR(set_window(s, &w, 4), EPERM);
    ERR(set_int(s, IPPROTO_TCP, TCP_TIMESTAMP, 1), EPERM);
    ERR(usk_setsockopt(s, IPPROTO_TCP, TCP_REPAIR, "\1", 1), EINVAL);
    for (int bad = -3; bad < 5; bad++)
        if (bad < -1 || bad > 1)
            ERR(repair(s, bad), EINVAL);

    OK(set_int(s, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(repair(s, 1));
    EQ(get(s, TCP_REPAIR), 1);
    EQ(get_int(s, SOL_SOCKET, SO_REUSEADDR), 2); /* a bind(2) in repair cannot conflict */
    EQ(get(s, TCP_REPAIR_QUEUE), TCP_NO_QUEUE);
    ERR(queue(s, -1), EINVAL);
    ERR(queue(s, 3), EINVAL);
    ERR(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, 1), EINVAL);
    ERR(get(s, TCP_QUEUE_SEQ), EINVAL);
    ERR(repair_option(s, OPT_MSS, 1000), EPERM); /* not connected yet */
    ERR(set_window(s, &w, sizeof w - 1), EINVAL);
    ERR(set_window(s, &w, sizeof w + 1), EINVAL);
    OK(get_window(s, &w, sizeof w));
    OK(set_window(s, &w, sizeof w));

    OK(queue(s, TCP_SEND_QUEUE));
    EQ(get(s, TCP_REPAIR_QUEUE), TCP_SEND_QUEUE);
    OK(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, 1000));
    EQ(get(s, TCP_QUEUE_SEQ), 1000);
    OK(queue(s, TCP_RECV_QUEUE));
    EQ(get(s, TCP_REPAIR_QUEUE), TCP_RECV_QUEUE);
    OK(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, -5));
    OK(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, 2000));
    EQ(get(s, TCP_QUEUE_SEQ), 2000);

    /* The lowest bit of the clock's value says microseconds; this one counts milliseconds. */
    OK(set_int(s, IPPROTO_TCP, TCP_TIMESTAMP, 500000));
    int now = get(s, TCP_TIMESTAMP);
    CHECK(now >= 500000 && now < 510000 && now % 2 == 0);

    /* A write needs a connection, a read looks at the queue. */
    char b[8];
    ERR(usk_send(s, "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR(usk_recv(s, b, 8, 0), EPERM);
    ERR(usk_recv(s, b, 8, MSG_PEEK), ENOTCONN);
    OK(queue(s, TCP_SEND_QUEUE));
    EQ(usk_recv(s, b, 8, MSG_PEEK), 0);
    ERR(usk_recv(s, b, 8, 0), EPERM);
    OK(queue(s, TCP_NO_QUEUE));
    ERR(usk_recv(s, b, 8, MSG_PEEK), EINVAL);
    ERR(usk_recv(s, b, 8, MSG_OOB), EINVAL);

    /* Off: the queue that was chosen stays, and counts. */
    OK(queue(s, TCP_SEND_QUEUE));
    OK(repair(s, TCP_REPAIR_OFF));
    EQ(get(s, TCP_REPAIR), 0);
    EQ(get_int(s, SOL_SOCKET, SO_REUSEADDR), 0);
    ERR(get(s, TCP_REPAIR_QUEUE), EINVAL);
    EQ(get(s, TCP_QUEUE_SEQ), 1000);
    OK(set_int(s, IPPROTO_TCP, TCP_QUEUE_SEQ, 1001));
    ERR(set_int(s, IPPROTO_TCP, TCP_TIMESTAMP, 1), EPERM);
    OK(repair(s, TCP_REPAIR_OFF_NO_WP));
    OK(usk_close(s));
}

static void of_a_listener(int family)
{
    int l = listener(local(family), 1);
    ERR(repair(l, 1), EPERM);
    ERR(repair(l, 0), EPERM);
    ERR(repair(l, 5), EPERM);
    EQ(get(l, TCP_REPAIR), 0);
    ERR(set_int(l, IPPROTO_TCP, TCP_QUEUE_SEQ, 1), EPERM);
    OK(usk_close(l));
}

static void of_a_connection(int family)
{
    int fd[2];
    char b[8];
    struct tcp_repair_window w, same;
    tcp_pair(family, fd);
    ERR(set_int(fd[0], IPPROTO_TCP, TCP_QUEUE_SEQ, 1), EPERM);
    OK(repair(fd[0], 1));
    OK(queue(fd[0], TCP_SEND_QUEUE));
    ERR(set_int(fd[0], IPPROTO_TCP, TCP_QUEUE_SEQ, 1), EPERM);
    OK(get_window(fd[0], &w, sizeof w));
    CHECK(w.snd_wnd > 1000 && w.max_window >= w.snd_wnd && w.rcv_wnd > 1000);
    same = w;
    w.max_window = w.snd_wnd - 1;
    ERR(set_window(fd[0], &w, sizeof w), EINVAL);
    w = same;
    w.rcv_wup = queue_seq(fd[0], TCP_RECV_QUEUE) + 1;
    ERR(set_window(fd[0], &w, sizeof w), EINVAL);
    w = same;
    w.snd_wl1 = queue_seq(fd[0], TCP_RECV_QUEUE) + w.rcv_wnd + 1;
    ERR(set_window(fd[0], &w, sizeof w), EINVAL);
    w.snd_wl1--;
    OK(set_window(fd[0], &w, sizeof w));
    OK(set_window(fd[0], &same, sizeof same));

    OK(repair_option(fd[0], OPT_MSS, 1000)); /* nothing was sent yet */
    OK(repair_option(fd[0], 99, 1));         /* what is not known is passed over */
    ERR(repair_option(fd[0], OPT_SACK_PERM, 1), EINVAL);
    ERR(repair_option(fd[0], OPT_TIMESTAMP, 1), EINVAL);
    ERR(repair_option(fd[0], OPT_WINDOW, 15), EFBIG);
    ERR(repair_option(fd[0], OPT_WINDOW, 15 << 16), EFBIG);
    int half = OPT_MSS;
    OK(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_REPAIR_OPTIONS, &half, sizeof half));
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_REPAIR_OPTIONS, &half, 3), EINVAL);
    OK(queue(fd[0], TCP_NO_QUEUE));
    ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EINVAL);
    ERR(usk_recv(fd[0], b, 8, MSG_PEEK), EINVAL);
    OK(queue(fd[0], TCP_RECV_QUEUE));
    ERR(usk_recv(fd[0], b, 8, 0), EPERM);
    ERR(usk_recv(fd[0], b, 8, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
    OK(repair(fd[0], TCP_REPAIR_OFF_NO_WP));

    OK(usk_send(fd[0], "data", 4, 0));
    OK(repair(fd[0], 1));
    ERR(repair_option(fd[0], OPT_MSS, 1000), EPERM); /* too late */
    EXPECT(fd[1], "data");
    OK(repair(fd[0], 0));
    OK(usk_send(fd[1], "answer", 6, 0));
    EXPECT(fd[0], "answer");
    close_pair(fd);
}

/* A listener that was made in repair mode has children in it. */
static void listens_in_repair(int family)
{
    int l = bound(SOCK_STREAM, local(family));
    OK(repair(l, 1));
    OK(usk_listen(l, 1));
    ERR(repair(l, 0), EPERM);
    int c = connected(SOCK_STREAM, sock_name(l)), s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get(c, TCP_REPAIR), 0);
    EQ(get(s, TCP_REPAIR), 1);
    EQ(get(s, TCP_REPAIR_QUEUE), TCP_NO_QUEUE);
    EQ(get_int(s, SOL_SOCKET, SO_REUSEADDR), 2);
    OK(usk_close(s));
    char b;
    ERR(usk_recv(c, &b, 1, MSG_DONTWAIT), EAGAIN);
    OK(usk_close(c));
    OK(usk_close(l));
}

/* A FIN leaves in repair mode, too; with the send queue chosen it only counts as sent. */
/* What leaves a short way open that a connection which has sent nothing does not have. */
static void exchange_a_byte(const int fd[2])
{
    char b = 7;
    for (int i = 0; i < 2; i++) {
        EQ(usk_send(fd[i], &b, 1, 0), 1);
        EQ(usk_recv(fd[1 - i], &b, 1, MSG_WAITALL), 1);
    }
}

static void shuts_down_in_repair(int family)
{
    int fd[2];
    char b;
    tcp_pair(family, fd);
    exchange_a_byte(fd);
    OK(repair(fd[0], 1));
    OK(queue(fd[0], TCP_SEND_QUEUE));
    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(info(fd[0]).tcpi_state, TCP_FIN_WAIT1);
    ERR(usk_recv(fd[1], &b, 1, MSG_DONTWAIT), EAGAIN);
    close_pair(fd);
    tcp_pair(family, fd);
    exchange_a_byte(fd);
    OK(repair(fd[0], 1));
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    OK(repair(fd[0], 0));
    OK(repair(fd[0], 1));
    close_pair(fd);
}

/* ---- queues ---------------------------------------------------------------------------------------------------- */

static void queues_can_be_looked_at(int family)
{
    int fd[2];
    char b[64];
    struct tcp_repair_window before, w;
    tcp_pair(family, fd);
    OK(usk_send(fd[1], "unread", 6, 0));
    await_bytes(fd[0], 6);
    OK(repair(fd[0], 1));
    OK(queue(fd[0], TCP_RECV_QUEUE));
    EQ(ioctl_int(fd[0], SIOCINQ), 6);
    EQ(usk_recv(fd[0], b, sizeof b, MSG_PEEK | MSG_DONTWAIT), 6);
    EQ(memcmp(b, "unread", 6), 0);
    EQ(usk_recv(fd[0], b, 3, MSG_PEEK), 3);
    ERR(usk_recv(fd[0], b, 3, 0), EPERM);

    OK(get_window(fd[0], &before, sizeof before));

    /* Written there it is received behind the rest. */
    uint32_t seq = queue_seq(fd[0], TCP_RECV_QUEUE);
    EQ(usk_send(fd[0], " and forged", 11, 0), 11);
    EQ(queue_seq(fd[0], TCP_RECV_QUEUE), seq + 11);
    EQ(ioctl_int(fd[0], SIOCINQ), 17);
    EQ(usk_send(fd[0], "", 0, 0), 0);
    EQ(usk_recv(fd[0], b, sizeof b, MSG_PEEK), 17);

    /* A written send queue counts as sent, and nothing leaves. */
    seq = queue_seq(fd[0], TCP_SEND_QUEUE);
    EQ(usk_send(fd[0], "never ", 6, 0), 6);
    EQ(usk_send(fd[0], "sent", 4, 0), 4);
    EQ((uint32_t)get(fd[0], TCP_QUEUE_SEQ), seq + 10);
    EQ(ioctl_int(fd[0], SIOCOUTQ), 10);
    EQ(ioctl_int(fd[0], SIOCOUTQNSD), 0);
    memset(b, 0, sizeof b);
    EQ(usk_recv(fd[0], b, sizeof b, MSG_PEEK), 10);
    EQ(memcmp(b, "never sent", 11), 0);
    memset(b, 0, sizeof b);
    EQ(usk_recv(fd[0], b, 4, MSG_PEEK), 10); /* all of the queue counts, whatever fits */
    EQ(memcmp(b, "neve", 5), 0);
    EQ(usk_recv(fd[0], b, 0, MSG_PEEK), 10);
    ERR(usk_recv(fd[0], (void *)1, 8, MSG_PEEK), EFAULT);
    ERR(usk_send(fd[0], (void *)1, 8, 0), EFAULT);
    ERR(usk_recv(fd[1], b, 8, MSG_DONTWAIT), EAGAIN);

    /* In repair a close sends nothing, the error is that of the program. */
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd[0], &none, sizeof none));
    EQ(so_error(fd[0]), ECONNABORTED);
    EQ(get(fd[0], TCP_REPAIR), 1);
    EQ(get(fd[0], TCP_REPAIR_QUEUE), TCP_SEND_QUEUE);
    uint32_t in = queue_seq(fd[0], TCP_RECV_QUEUE);
    OK(get_window(fd[0], &w, sizeof w));
    CHECK(w.rcv_wup == in - 11 || w.rcv_wup == in); /* where the last window was offered */
    EQ(w.snd_wnd, before.snd_wnd);
    EQ(w.rcv_wnd, before.rcv_wnd);
    EQ(w.snd_wl1, before.snd_wl1);
    ERR(usk_recv(fd[1], b, 8, MSG_DONTWAIT), EAGAIN);
    EQ(ready(fd[1], POLLIN | POLLRDHUP), 0);
    close_pair(fd);
}

static void a_large_receive_queue(void)
{
    int fd[2];
    static char out[200000], in[200000];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)pattern(3, i);
    tcp_pair(AF_INET, fd);
    OK(set_int(fd[0], SOL_SOCKET, SO_RCVBUF, 200000));
    OK(repair(fd[0], 1));
    OK(queue(fd[0], TCP_RECV_QUEUE));
    size_t put = 0;
    while (put < 100000) {
        long n = OK(usk_send(fd[0], out + put, 100000 - put, 0));
        if (put == 0)
            EQ(n, 17 * 4096 + 100000 % 4096); /* a packet's fragments, and its head */
        CHECK(n > 0);
        put += (size_t)n;
    }
    ERR(usk_send(fd[0], (void *)1, 100, 0), EFAULT);
    OK(set_int(fd[0], SOL_SOCKET, SO_RCVBUF, 4096));
    long n = 0;
    for (int i = 0; i < 1000 && n >= 0; i++) {
        n = usk_send(fd[0], out + put, 100, 0);
        put += n > 0 ? (size_t)n : 0;
    }
    EQ(n, -1);
    EQ(errno, ENOBUFS);
    ERR(usk_send(fd[0], (void *)1, 100, 0), ENOBUFS);
    OK(repair(fd[0], TCP_REPAIR_OFF_NO_WP));
    EQ(recv_all(fd[0], in, put), put);
    EQ(memcmp(in, out, put), 0);
    close_pair(fd);
}

/* ---- a connection moves ---------------------------------------------------------------------------------------- */

static void take_out(int fd, struct image *m)
{
    memset(m, 0, sizeof *m);
    OK(repair(fd, 1));
    m->local = sock_name(fd);
    m->peer = peer_name(fd);
    m->info = info(fd);
    EQ(m->info.tcpi_state, TCP_ESTABLISHED);
    m->mss = get_int(fd, IPPROTO_TCP, TCP_MAXSEG);
    m->timestamp = (uint32_t)get(fd, TCP_TIMESTAMP);
    OK(get_window(fd, &m->window, sizeof m->window));
    m->in_len = ioctl_int(fd, SIOCINQ);
    m->out_len = ioctl_int(fd, SIOCOUTQ);
    m->unsent = ioctl_int(fd, SIOCOUTQNSD);
    CHECK(m->in_len <= (int)sizeof m->in && m->out_len <= (int)sizeof m->out);
    m->in_seq = queue_seq(fd, TCP_RECV_QUEUE);
    if (m->in_len)
        EQ(usk_recv(fd, m->in, (size_t)m->in_len, MSG_PEEK | MSG_DONTWAIT), m->in_len);
    m->out_seq = queue_seq(fd, TCP_SEND_QUEUE);
    if (m->out_len)
        EQ(usk_recv(fd, m->out, (size_t)m->out_len, MSG_PEEK | MSG_DONTWAIT), m->out_len);
    OK(usk_close(fd)); /* in silence */
}

static int put_into(const struct image *m, bool probe)
{
    int fd = (int)OK(usk_socket(m->local.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0));
    OK(repair(fd, 1));
    OK(queue(fd, TCP_RECV_QUEUE));
    OK(set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)(m->in_seq - (uint32_t)m->in_len)));
    OK(queue(fd, TCP_SEND_QUEUE));
    OK(set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, (int)(m->out_seq - (uint32_t)m->out_len)));
    OK(usk_bind(fd, &m->local.sa, m->local.len));
    OK(usk_connect(fd, &m->peer.sa, m->peer.len)); /* at once, although it does not block */
    EQ(info(fd).tcpi_state, TCP_ESTABLISHED);
    EQ(info(fd).tcpi_options, 0);
    int mss = get_int(fd, IPPROTO_TCP, TCP_MAXSEG);
    EQ(mss, m->local.sa.sa_family == AF_INET ? 536 : 1220); /* of a peer that has said nothing */
    ERR(usk_connect(fd, &m->peer.sa, m->peer.len), EISCONN);
    struct tcp_repair_opt opt[4];
    int n = 0;
    opt[n++] = (struct tcp_repair_opt){OPT_MSS, (uint32_t)m->mss};
    uint32_t shifts = m->info.tcpi_snd_wscale | (uint32_t)m->info.tcpi_rcv_wscale << 16;
    if (m->info.tcpi_options & TCPI_OPT_WSCALE)
        opt[n++] = (struct tcp_repair_opt){OPT_WINDOW, shifts};
    if (m->info.tcpi_options & TCPI_OPT_SACK)
        opt[n++] = (struct tcp_repair_opt){OPT_SACK_PERM, 0};
    if (m->info.tcpi_options & TCPI_OPT_TIMESTAMPS)
        opt[n++] = (struct tcp_repair_opt){OPT_TIMESTAMP, 0};
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opt, (socklen_t)n * sizeof *opt));
    if (m->info.tcpi_options & TCPI_OPT_TIMESTAMPS)
        OK(set_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, (int)m->timestamp));
    OK(queue(fd, TCP_RECV_QUEUE));
    for (int at = 0; at < m->in_len;)
        at += (int)OK(usk_send(fd, m->in + at, (size_t)(m->in_len - at), 0));
    OK(queue(fd, TCP_SEND_QUEUE));
    int sent = m->out_len - m->unsent;
    for (int at = 0; at < sent;)
        at += (int)OK(usk_send(fd, m->out + at, (size_t)(sent - at), 0));
    OK(set_window(fd, &m->window, sizeof m->window));
    EQ(get_int(fd, IPPROTO_TCP, TCP_MAXSEG), m->mss); /* the peer's, in repair mode */
    EQ(info(fd).tcpi_snd_mss, mss - 12);              /* until the path's MTU is looked at anew */
    EQ(ioctl_int(fd, SIOCINQ), m->in_len);
    EQ(ioctl_int(fd, SIOCOUTQ), sent);
    EQ(ioctl_int(fd, SIOCOUTQNSD), 0);
    struct tcp_info t = info(fd);
    EQ(t.tcpi_options, m->info.tcpi_options & (TCPI_OPT_WSCALE | TCPI_OPT_SACK | TCPI_OPT_TIMESTAMPS));
    EQ(t.tcpi_snd_wscale, m->info.tcpi_snd_wscale);
    EQ(t.tcpi_rcv_wscale, m->info.tcpi_rcv_wscale);
    /* What was never sent needs no repair: it is sent. */
    OK(repair(fd, probe ? TCP_REPAIR_OFF : TCP_REPAIR_OFF_NO_WP));
    set_nonblock(fd, false);
    if (m->unsent)
        send_all(fd, m->out + sent, (size_t)m->unsent);
    return fd;
}

/* `end` 0: the one that connected moves, 1: the one that was accepted, whose port a listener holds. */
static void moves(int family, int end)
{
    static struct image m;
    static char out[60000], in[60000];
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)pattern(1, i);
    int fd[2], l = listener(local(family), 1);
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    int mover = fd[end], stays = fd[!end];
    send_all(mover, "before", 6);
    EXPECT(stays, "before");
    send_all(stays, "and before", 10);
    EXPECT(mover, "and before");

    /* Unread: 12 bytes. Unsent or not acknowledged: what the peer's small window does not take. */
    send_all(stays, "unread bytes", 12);
    await_bytes(mover, 12);
    take_out(mover, &m);
    EQ(m.in_len, 12);
    EQ(m.out_len, 0);
    mover = put_into(&m, true);
    CHECK(same_addr(sock_name(mover), m.local) && same_addr(peer_name(mover), m.peer));
    send_all(stays, " and more", 9);
    EXPECT(mover, "unread bytes and more");
    send_all(mover, "after", 5);
    EXPECT(stays, "after");
    await_acknowledged(mover);

    /* Again, with a send queue that nobody has acknowledged. The timeout that sends it takes seconds: once a family. */
    if ((family == AF_INET6) == end)
        goto over;
    OK(repair(mover, 1));
    OK(queue(mover, TCP_SEND_QUEUE));
    for (int at = 0; at < (int)sizeof out;)
        at += (int)OK(usk_send(mover, out + at, sizeof out - (size_t)at, 0));
    EQ(ioctl_int(mover, SIOCOUTQ), (int)sizeof out);
    EQ(ioctl_int(mover, SIOCOUTQNSD), 0);
    take_out(mover, &m);
    EQ(m.out_len, (int)sizeof out);
    EQ(memcmp(m.out, out, sizeof out), 0);
    mover = put_into(&m, false);
    /* It is sent again by the retransmission timer, like what the network lost. */
    EQ(recv_all(stays, in, sizeof in), sizeof in);
    EQ(memcmp(in, out, sizeof in), 0);
    send_all(stays, "acknowledged", 12);
    EXPECT(mover, "acknowledged");
    await_acknowledged(mover);
over:
    OK(usk_close(stays));
    EXPECT_EOF(mover);
    OK(usk_close(mover));
    OK(usk_close(l));
}

/* A bind(2) in repair takes a port that others have without asking for SO_REUSEADDR there. */
static void bind_does_not_conflict(int family)
{
    int l = listener(local(family), 1);
    struct addr a = sock_name(l);
    int s = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    ERR(usk_bind(s, &a.sa, a.len), EADDRINUSE);
    OK(repair(s, 1));
    OK(usk_bind(s, &a.sa, a.len));
    OK(repair(s, 0));
    ERR(usk_listen(s, 1), EADDRINUSE);
    int other = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    ERR(usk_bind(other, &a.sa, a.len), EADDRINUSE);
    OK(usk_close(other));
    OK(usk_close(s));

    /* The same two ends a second time are refused. */
    int fd[2];
    tcp_pair(family, fd);
    struct addr mine = sock_name(fd[0]), peer = peer_name(fd[0]);
    s = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    OK(repair(s, 1));
    OK(usk_bind(s, &mine.sa, mine.len));
    ERR(usk_connect(s, &peer.sa, peer.len), EADDRNOTAVAIL);
    OK(usk_close(s));
    close_pair(fd);
    OK(usk_close(l));
}

int main(void)
{
    begin("repair");
    for (int v6 = 0; v6 < 2; v6++) {
        int family = v6 ? AF_INET6 : AF_INET;
        of_a_closed_socket(family);
        of_a_listener(family);
        of_a_connection(family);
        queues_can_be_looked_at(family);
        bind_does_not_conflict(family);
        listens_in_repair(family);
        shuts_down_in_repair(family);
        moves(family, 0);
        moves(family, 1);
    }
    a_large_receive_queue();
    return done();
}

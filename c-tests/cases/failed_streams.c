/* What calls say of a stream without a connection, or whose connection has failed, and in which order: the error first,
 * by which call soever, then EPIPE with its signal; urgent data that nobody has sent; peers that wait at a listener
 * which is shut down; an attempt that is. */
#include "common.h"

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int sig)
{
    (void)sig;
    sigpipes++;
}

static long by_send(int fd, int flags) { return usk_send(fd, "x", 1, flags); }
static long of_no_bytes(int fd, int flags) { return usk_send(fd, "", 0, flags); }
static long by_sendto(int fd, int flags)
{
    struct addr to = local(AF_INET); /* which a stream ignores */
    return usk_sendto(fd, "x", 1, flags, &to.sa, to.len);
}
static long by_sendmsg(int fd, int flags)
{
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    return usk_sendmsg(fd, &m, flags);
}
static long by_sendmmsg(int fd, int flags)
{
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    return usk_sendmmsg(fd, &m, 1, flags);
}
static long by_write(int fd, int flags)
{
    (void)flags;
    return usk_write(fd, "x", 1);
}
static long by_writev(int fd, int flags)
{
    (void)flags;
    struct iovec iov = {.iov_base = "x", .iov_len = 1};
    return usk_writev(fd, &iov, 1);
}

static const struct {
    long (*call)(int fd, int flags);
    bool has_flags;
} writes[] = {{by_send, true},     {of_no_bytes, true}, {by_sendto, true}, {by_sendmsg, true},
              {by_sendmmsg, true}, {by_write, false},   {by_writev, false}};

static int refused(void)
{
    struct addr nobody = local(AF_INET);
    int held = bound(SOCK_STREAM, nobody); /* and does not listen */
    nobody = sock_name(held);
    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    set_nonblock(c, true);
    usk_connect(c, &nobody.sa, nobody.len);
    await(c, POLLIN);
    OK(usk_close(held));
    return c;
}

static int reset(void)
{
    int fd[2];
    struct linger now = {.l_onoff = 1};
    tcp_pair(AF_INET, fd);
    OK(usk_setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &now, sizeof now));
    OK(usk_close(fd[1]));
    await(fd[0], POLLIN);
    return fd[0];
}

static int shut_down(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    OK(usk_shutdown(fd[0], SHUT_WR));
    OK(usk_close(fd[1]));
    return fd[0];
}

static int no_connection(void) { return (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)); }

static const struct {
    int (*make)(void);
    int error; /* that is told once */
} failed[] = {{refused, ECONNREFUSED}, {reset, ECONNRESET}, {shut_down, 0}, {no_connection, 0}};

/* The error without a signal, then EPIPE with it, again and again; EPIPE at once where SO_ERROR has told the error. */
static void errors_then_signals(void)
{
    for (int i = 0; i < COUNT(failed); i++)
        for (int w = 0; w < COUNT(writes); w++)
            for (int asked = 0; asked < 2; asked++) {
                int flags = 0;
#ifdef ON_SERVER /* the kernel raises it for write(2), before anything can be said */
                if (!writes[w].has_flags)
                    continue;
#endif
            again:;
                int fd = failed[i].make();
                sigpipes = 0;
                if (asked)
                    EQ(so_error(fd), failed[i].error);
                else if (failed[i].error) {
                    ERR(writes[w].call(fd, flags), failed[i].error);
                    EQ(sigpipes, 0);
                }
                for (int n = 1; n <= 3; n++) {
                    ERR(writes[w].call(fd, flags), EPIPE);
                    EQ(sigpipes, flags ? 0 : n);
                }
                EQ(so_error(fd), 0);
                OK(usk_close(fd));
                if (writes[w].has_flags && flags == 0) {
                    flags = MSG_NOSIGNAL;
                    goto again;
                }
            }
}

/* A socket of another kind has the kernel's rules: signals are for streams. */
static void other_sockets(void)
{
    for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
        int fd[2];
        if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
            continue;
        OK(socketpair(AF_UNIX, type, 0, fd));
        OK(close(fd[1]));
        for (int w = 0; w < COUNT(writes); w++) {
            if (writes[w].call == by_sendto || writes[w].call == of_no_bytes)
                continue;
            sigpipes = 0;
            ERR(writes[w].call(fd[0], 0), EPIPE);
            EQ(sigpipes, type == SOCK_STREAM);
            if (writes[w].has_flags) {
                ERR(writes[w].call(fd[0], MSG_NOSIGNAL), EPIPE);
                EQ(sigpipes, type == SOCK_STREAM);
            }
        }
        OK(close(fd[0]));
    }
}

/* connect finds a connection, whatever has become of it, and leaves the error where it is. */
static void connect_after_a_reset(void)
{
    struct addr to = local(AF_INET);
    char c;
    int fd = reset();
    ERR(usk_connect(fd, &to.sa, to.len), EISCONN);
    ERR(usk_recv(fd, &c, 1, 0), ECONNRESET);
    ERR(usk_connect(fd, &to.sa, to.len), EISCONN);
    OK(usk_close(fd));
    fd = refused();
    ERR(usk_connect(fd, &to.sa, 1), EINVAL);
    EQ(so_error(fd), ECONNREFUSED);
    OK(usk_close(fd));
}

static void no_urgent_byte(int fd, int error)
{
    static const int with[] = {0, MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC, MSG_PEEK | MSG_WAITALL};
    char c;
    struct addr from;
    struct iovec iov = {.iov_base = &c, .iov_len = 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};
    struct msghdr named = {.msg_name = &from, .msg_namelen = sizeof from.storage, .msg_iov = &iov, .msg_iovlen = 1};
    for (int i = 0; i < COUNT(with); i++) {
        int flags = MSG_OOB | with[i];
        from.len = sizeof from.storage;
        ERR(usk_recv(fd, &c, 1, flags), error);
        ERR(usk_recv(fd, &c, 0, flags), error);
        ERR(usk_recvfrom(fd, &c, 1, flags, &from.sa, &from.len), error);
        ERR(usk_recvmsg(fd, &m.msg_hdr, flags), error);
        ERR(usk_recvmsg(fd, &named, flags), error);
        ERR(usk_recvmmsg(fd, &m, 1, flags, NULL), error);
    }
}

/* EINVAL in all states but that of a listener. */
static void urgent_data_of_nobody(void)
{
    for (int i = 2; i < COUNT(failed); i++) {
        int fd = failed[i].make();
        no_urgent_byte(fd, EINVAL);
        OK(usk_close(fd));
    }
    int fd = bound(SOCK_STREAM, local(AF_INET));
    no_urgent_byte(fd, EINVAL);
    OK(usk_listen(fd, 1));
    no_urgent_byte(fd, ENOTCONN);
    OK(usk_shutdown(fd, SHUT_RD));
    no_urgent_byte(fd, EINVAL);
    OK(usk_close(fd));
    int pair[2];
    tcp_pair(AF_INET, pair);
    no_urgent_byte(pair[0], EINVAL);
    send_all(pair[1], "kept", 4);
    await_bytes(pair[0], 4);
    no_urgent_byte(pair[0], EINVAL);
    OK(usk_close(pair[1]));
    EXPECT(pair[0], "kept");
    EXPECT_EOF(pair[0]);
    no_urgent_byte(pair[0], EINVAL);
    OK(usk_close(pair[0]));
}

/* Whoever waits to be accepted when a listener ends is reset: by shutdown, by connect to nobody, by close. */
static void peers_at_a_listener_that_ends(void)
{
    for (int how = 0; how < 3; how++) {
        struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        int l = listener(local(AF_INET), 4), c[3];
        for (int i = 0; i < COUNT(c); i++) {
            c[i] = connected(SOCK_STREAM, sock_name(l));
            if (i == 1)
                send_all(c[i], "unread", 6);
        }
        await(l, POLLIN);
        if (how == 0)
            OK(usk_shutdown(l, SHUT_RD));
        else if (how == 1)
            OK(usk_connect(l, &nobody, sizeof nobody));
        else
            OK(usk_close(l));
        for (int i = 0; i < COUNT(c); i++) {
            char byte;
            await(c[i], POLLIN);
            ERR(usk_recv(c[i], &byte, 1, 0), ECONNRESET);
            OK(usk_close(c[i]));
        }
        if (how < 2) {
            ERR(usk_accept(l, NULL, NULL), EINVAL);
            OK(usk_close(l));
        }
    }
}

/* What TCP has acknowledged is the program's to read, also where a write has told it of the reset first: the answer of
 * a server that refuses a long request and closes. */
static void bytes_before_a_reset(void)
{
    static const char answer[] = "refused";
    for (int more = 0; more < 2; more++) {
        int fd[2], unsent;
        char byte;
        tcp_pair(AF_INET, fd);
        fill_up(fd[0]);
        size_t acknowledged = sizeof answer;
        if (more)
            acknowledged = fill_up(fd[1]);
        else
            send_all(fd[1], answer, sizeof answer);
        await(fd[0], POLLIN);
        OK(usk_ioctl(fd[1], SIOCOUTQ, &unsent));
        acknowledged -= (size_t)unsent;
        OK(usk_close(fd[1]));
        set_nonblock(fd[0], true);
        /* Nothing but the failure makes room. */
        CHECK(await(fd[0], POLLOUT) & (POLLOUT | POLLERR));
        ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), ECONNRESET);
        ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE);
        EQ(so_error(fd[0]), 0);
        set_nonblock(fd[0], false);
        size_t got = 0;
        while (usk_recv(fd[0], &byte, 1, MSG_PEEK) == 1) {
            static char room[65536];
            got += (size_t)OK(usk_recv(fd[0], room, sizeof room, 0));
        }
        CHECK(got >= acknowledged);
        EXPECT_EOF(fd[0]);
        OK(usk_close(fd[0]));
    }
}

static struct attempt {
    int fd;
    struct addr to;
} attempt;

static void *wait_for_it(void *arg)
{
    (void)arg;
    ERR(usk_connect(attempt.fd, &attempt.to.sa, attempt.to.len), ECONNRESET);
    return NULL;
}

/* shutdown ends an attempt to connect, whichever half it names, and who waits for it is told. */
static void shutdown_of_an_attempt(void)
{
#ifdef ON_SERVER
    enum { HOLDS = 3 };
#else
    enum { HOLDS = 1 };
#endif
    int l = listener(local(AF_INET), 0), queued[HOLDS];
    struct addr to = sock_name(l);
    for (int i = 0; i < HOLDS; i++)
        queued[i] = connected(SOCK_STREAM, to);
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
        set_nonblock(fd, true);
        ERR(usk_connect(fd, &to.sa, to.len), EINPROGRESS);
        EQ(ready(fd, POLLIN | POLLOUT), 0);
        OK(usk_shutdown(fd, how));
        CHECK(ready(fd, POLLOUT) & POLLHUP);
        EQ(so_error(fd), ECONNRESET);
        ERR(usk_send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
        OK(usk_close(fd));
        attempt = (struct attempt){(int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), to};
        pthread_t waiter = spawn(wait_for_it, NULL);
        while (usk_shutdown(attempt.fd, how) == -1) /* it has not begun */
            EQ(errno, ENOTCONN);
        join(waiter);
        OK(usk_close(attempt.fd));
    }
    for (int i = 0; i < HOLDS; i++)
        OK(usk_close(queued[i]));
    OK(usk_close(l));
}

/* A socket whose connect was refused in the same call listens; one that failed since does not. */
static void listen_after_a_failure(void)
{
    struct addr nobody = local(AF_INET);
    int held = bound(SOCK_STREAM, nobody), fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    nobody = sock_name(held);
    for (int i = 0; i < 2; i++) {
        ERR(usk_connect(fd, &nobody.sa, nobody.len), ECONNREFUSED);
        OK(usk_listen(fd, 2));
        EQ(get_int(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
        int c = connected(SOCK_STREAM, at("127.0.0.1", port_of(sock_name(fd))));
        int a = (int)OK(usk_accept(fd, NULL, NULL));
        send_all(a, "here", 4);
        EXPECT(c, "here");
        OK(usk_close(a));
        OK(usk_close(c));
        OK(usk_shutdown(fd, SHUT_RD));
    }
    OK(usk_close(fd));
    OK(usk_close(held));
    for (int i = 0; i < 2; i++) {
        fd = failed[i].make();
        ERR(usk_listen(fd, 2), EINVAL);
        EQ(so_error(fd), failed[i].error);
        ERR(usk_listen(fd, 2), EINVAL);
        OK(usk_close(fd));
    }
}

/* connect to nobody is no error where both ends have sent their FIN, however often. */
static void dissolved_after_both_ends(void)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    for (int end = 0; end < 2; end++) {
        int fd[2];
        tcp_pair(AF_INET, fd);
        OK(usk_close(fd[!end]));
        EXPECT_EOF(fd[end]);
        OK(usk_shutdown(fd[end], SHUT_WR));
        for (int i = 0; i < 3; i++)
            OK(usk_connect(fd[end], &nobody, sizeof nobody));
        OK(usk_close(fd[end]));
    }
}

int main(void)
{
    begin("failed_streams");
    struct sigaction sa = {.sa_handler = on_sigpipe};
    OK(sigaction(SIGPIPE, &sa, NULL));
    errors_then_signals();
    other_sockets();
    connect_after_a_reset();
    listen_after_a_failure();
    dissolved_after_both_ends();
    urgent_data_of_nobody();
    peers_at_a_listener_that_ends();
    bytes_before_a_reset();
    shutdown_of_an_attempt();
    return done();
}

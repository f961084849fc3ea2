/* What becomes of a TCP socket's port and address: when a connection has ended or did not come about, when a socket
 * bound to any address has connected, when SO_REUSEADDR or SO_REUSEPORT is set or cleared after bind(2), and when a
 * listener is shut down or closed. */
#include "common.h"
#include <sys/wait.h>

static int server;  /* listens on 127.0.0.1 */
static int refused; /* a port of 127.0.0.1 and ::1 where nobody listens */

static int tcp(int family, int flags)
{
    return (int)OK(usk_socket(family, SOCK_STREAM | flags, 0));
}

static long bind_to(int fd, const char *text, int port)
{
    struct addr a = at(text, port);
    return usk_bind(fd, &a.sa, a.len);
}

static long connecting(int fd, const char *text, int port)
{
    struct addr a = at(text, port);
    return usk_connect(fd, &a.sa, a.len);
}

static void dissolve(int fd)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    OK(usk_connect(fd, &none, sizeof none));
}

/* A socket that is bound to a port of `text`, with SO_REUSEADDR or not. */
static int holder(const char *text, int reuse, int *port)
{
    int fd = tcp(strchr(text, ':') ? AF_INET6 : AF_INET, 0);
    if (reuse)
        OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(bind_to(fd, text, 0));
    *port = port_of(sock_name(fd));
    OK(usk_close(fd));
    /* Named, the port is the program's and stays with the socket. */
    fd = tcp(strchr(text, ':') ? AF_INET6 : AF_INET, 0);
    if (reuse)
        OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(bind_to(fd, text, *port));
    return fd;
}

/* What another socket's bind gives: 0 or an errno value. */
static int other(const char *text, int port, int option)
{
    int fd = tcp(strchr(text, ':') ? AF_INET6 : AF_INET, 0);
    if (option)
        OK(set_int(fd, SOL_SOCKET, option, 1));
    errno = 0;
    long r = bind_to(fd, text, port);
    int e = r == -1 ? errno : 0;
    OK(usk_close(fd));
    return e;
}

static int accepted(void)
{
    return (int)OK(usk_accept(server, NULL, NULL));
}

/* Ends the connection of `fd`, whose peer is `peer`, with a reset. */
static void reset(int fd, int peer)
{
    struct linger now = {.l_onoff = 1};
    char c;
    OK(usk_setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now));
    OK(usk_close(peer));
    ERR(usk_recv(fd, &c, 1, 0), ECONNRESET);
}

/* A connect(2) that is refused behind its back. */
static int refused_later(int family, const char *text)
{
    int fd = tcp(family, SOCK_NONBLOCK);
    ERR(connecting(fd, text, refused), EINPROGRESS);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    /* On a stack server the descriptor is AF_UNIX's, which in the kernel hangs up a moment before it has room. */
    do
        EQ(usk_poll(&p, 1, -1), 1);
    while (p.revents == (POLLERR | POLLHUP));
    EQ(p.revents, POLLOUT | POLLERR | POLLHUP);
    return fd;
}

static void port_is_free_when_a_connection_has_ended(void)
{
    int fd = refused_later(AF_INET, "127.0.0.1"), left = port_of(sock_name(fd)), port;
    CHECK(left != 0);
    EQ(other("127.0.0.1", left, 0), 0);
    OK(bind_to(fd, "127.0.0.1", 0));
    CHECK(port_of(sock_name(fd)) != 0);
    ERR(bind_to(fd, "127.0.0.1", 0), EINVAL);
    OK(usk_close(fd));

    /* A bind that fails takes the address that was left, but not the port. */
    fd = refused_later(AF_INET, "127.0.0.1");
    ERR(bind_to(fd, "127.0.0.1", port_of(sock_name(server))), EADDRINUSE);
    EQ(sock_name(fd).in.sin_addr.s_addr, htonl(INADDR_ANY));
    CHECK(port_of(sock_name(fd)) != 0);
    OK(usk_close(fd));

    fd = refused_later(AF_INET6, "::1");
    OK(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0));
    OK(bind_to(fd, "::1", 0));
    ERR(set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0), EINVAL);
    OK(usk_close(fd));

    fd = connected(SOCK_STREAM, sock_name(server));
    reset(fd, accepted());
    left = port_of(sock_name(fd));
    CHECK(left != 0);
    OK(bind_to(fd, "127.0.0.2", 0));
    EQ(sock_name(fd).in.sin_addr.s_addr, htonl(0x7f000002));
    OK(usk_close(fd));

    /* So it is for one that was accepted. */
    int peer = connected(SOCK_STREAM, sock_name(server));
    fd = accepted();
    reset(fd, peer);
    EQ(port_of(sock_name(fd)), port_of(sock_name(server)));
    OK(bind_to(fd, "127.0.0.2", 0));
    EQ(sock_name(fd).in.sin_addr.s_addr, htonl(0x7f000002));
    CHECK(port_of(sock_name(fd)) != port_of(sock_name(server)));
    OK(usk_close(fd));

    /* A port that the stack chose in bind is free then, one that the program named is not. */
    fd = tcp(AF_INET, 0);
    OK(bind_to(fd, "127.0.0.1", 0));
    OK(connecting(fd, "127.0.0.1", port_of(sock_name(server))));
    reset(fd, accepted());
    OK(bind_to(fd, "127.0.0.2", 0));
    OK(usk_close(fd));
    fd = holder("127.0.0.1", 0, &port);
    OK(connecting(fd, "127.0.0.1", port_of(sock_name(server))));
    reset(fd, accepted());
    ERR(bind_to(fd, "127.0.0.2", 0), EINVAL);
    OK(usk_close(fd));

    /* Refused at once: the port is shown, and free. */
    fd = tcp(AF_INET, 0);
    ERR(connecting(fd, "127.0.0.1", refused), ECONNREFUSED);
    EQ(sock_name(fd).in.sin_addr.s_addr, htonl(INADDR_ANY));
    CHECK(port_of(sock_name(fd)) != 0);
    OK(bind_to(fd, "127.0.0.1", 0));
    OK(usk_close(fd));
}

static bool is_mapped(struct addr a)
{
    return IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr);
}

/* Sockets of IPv6 that are bound for IPv4. */
static void families_do_not_mix(void)
{
    int port = port_of(sock_name(server)), fd = tcp(AF_INET6, 0);
    OK(bind_to(fd, "::ffff:0.0.0.0", 0));
    ERR(connecting(fd, "::1", port), EAFNOSUPPORT);
    OK(connecting(fd, "::", port)); /* this host, in the family that the socket is bound in */
    OK(usk_close(accepted()));
    OK(usk_close(fd));

    fd = tcp(AF_INET6, 0);
    OK(bind_to(fd, "::ffff:127.0.0.1", 0));
    ERR(connecting(fd, "::1", port), EAFNOSUPPORT);
    OK(connecting(fd, "::ffff:127.0.0.1", port));
    OK(usk_close(accepted()));
    OK(usk_close(fd));

    /* Any address of IPv4 counts as one that the program named: what connect made of it stays. */
    fd = tcp(AF_INET6, 0);
    OK(bind_to(fd, "::ffff:0.0.0.0", 0));
    ERR(connecting(fd, "::ffff:127.0.0.1", refused), ECONNREFUSED);
    CHECK(is_mapped(sock_name(fd)));
    dissolve(fd);
    CHECK(is_mapped(sock_name(fd)));
    OK(usk_close(fd));

    fd = tcp(AF_INET6, 0);
    OK(bind_to(fd, "::ffff:224.0.0.1", 0));
    ERR(connecting(fd, "::ffff:127.0.0.1", port), EINVAL);
    OK(usk_close(fd));

    /* What was connected over IPv6 may be over IPv4 next. */
    fd = refused_later(AF_INET6, "::1");
    dissolve(fd);
    set_nonblock(fd, false);
    OK(connecting(fd, "::ffff:127.0.0.1", port));
    OK(usk_close(accepted()));
    OK(usk_close(fd));
}

struct claim {
    const char *address;
    int plain, reuse; /* what bind of another socket gives, without and with SO_REUSEADDR */
};

static void claims(const char *what, int port, const struct claim *rows, int n)
{
    for (int i = 0; i < n; i++) {
        int got[2] = {other(rows[i].address, port, 0), other(rows[i].address, port, SO_REUSEADDR)};
        if (got[0] != rows[i].plain || got[1] != rows[i].reuse) {
            char text[120], g[64], w[64];
            snprintf(text, sizeof text, "%s, then bind to %s", what, rows[i].address);
            snprintf(g, sizeof g, "%s and %s", errno_name(got[0]), errno_name(got[1]));
            snprintf(w, sizeof w, "%s and %s", errno_name(rows[i].plain), errno_name(rows[i].reuse));
            complain(__FILE__, __LINE__, text, g, w);
        }
    }
}

static void any_address_becomes_one_when_it_connects(void)
{
    int port, to = port_of(sock_name(server)), fd = holder("0.0.0.0", 0, &port);
    static const struct claim one[] = {
        {"127.0.0.2", 0, 0},
        {"127.0.0.1", EADDRINUSE, EADDRINUSE},
        {"0.0.0.0", EADDRINUSE, EADDRINUSE},
        {"::", EADDRINUSE, EADDRINUSE},
        {"::1", 0, 0},
    };
    static const struct claim any[] = {
        {"127.0.0.2", EADDRINUSE, EADDRINUSE},
        {"127.0.0.1", EADDRINUSE, EADDRINUSE},
    };
    claims("0.0.0.0 bound", port, any, COUNT(any));
    OK(connecting(fd, "127.0.0.1", to));
    claims("0.0.0.0 connected", port, one, COUNT(one));
    OK(usk_close(accepted()));
    dissolve(fd);
    claims("0.0.0.0 dissolved", port, any, COUNT(any));
    ERR(connecting(fd, "127.0.0.1", refused), ECONNREFUSED);
    claims("0.0.0.0 refused", port, any, COUNT(any));
    OK(usk_close(fd));

    static const struct claim shared[] = {
        {"127.0.0.2", 0, 0},
        {"127.0.0.1", EADDRINUSE, 0},
        {"0.0.0.0", EADDRINUSE, 0},
    };
    fd = holder("0.0.0.0", 1, &port);
    OK(connecting(fd, "127.0.0.1", to));
    claims("0.0.0.0 connected, SO_REUSEADDR", port, shared, COUNT(shared));
    OK(usk_close(accepted()));
    OK(usk_close(fd));

    fd = holder("::", 0, &port);
    OK(connecting(fd, "::ffff:127.0.0.1", to));
    claims("[::] connected over IPv4", port, one, COUNT(one));
    OK(usk_close(accepted()));
    OK(usk_close(fd));

    /* Over IPv6 it keeps any address of IPv4 from being bound, but not each single one. */
    static const struct claim six[] = {
        {"127.0.0.1", 0, 0},
        {"::1", EADDRINUSE, EADDRINUSE},
        {"::", EADDRINUSE, EADDRINUSE},
        {"0.0.0.0", EADDRINUSE, EADDRINUSE},
    };
    int l6 = listener(at("::1", 0), 1);
    fd = holder("::", 0, &port);
    OK(connecting(fd, "::1", port_of(sock_name(l6))));
    claims("[::] connected over IPv6", port, six, COUNT(six));
    OK(usk_close(fd));
    OK(usk_close(l6));
}

static void options_count_as_they_are(void)
{
    int port, fd = holder("127.0.0.1", 0, &port);
    EQ(other("127.0.0.1", port, SO_REUSEADDR), EADDRINUSE);
    OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), 0);
    EQ(other("127.0.0.1", port, 0), EADDRINUSE);
    OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 0));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), EADDRINUSE);
    OK(usk_close(fd));

    fd = holder("127.0.0.1", 0, &port);
    EQ(other("127.0.0.1", port, SO_REUSEPORT), EADDRINUSE);
    OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
    EQ(other("127.0.0.1", port, SO_REUSEPORT), 0);
    /* Who is in the group stays in it. */
    OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 0));
    EQ(other("127.0.0.1", port, SO_REUSEPORT), 0);
    OK(usk_close(fd));

    /* An accepted connection holds its listener's port under its own options, and so does what is left of it. */
    for (int reuse = 0; reuse < 2; reuse++) {
        int l = holder("127.0.0.1", !reuse, &port);
        OK(usk_listen(l, 1));
        int c = connected(SOCK_STREAM, sock_name(l)), s = (int)OK(usk_accept(l, NULL, NULL));
        OK(usk_close(l));
        EQ(other("127.0.0.1", port, SO_REUSEADDR), reuse ? EADDRINUSE : 0);
        OK(set_int(s, SOL_SOCKET, SO_REUSEADDR, reuse));
        EQ(other("127.0.0.1", port, SO_REUSEADDR), reuse ? 0 : EADDRINUSE);
        EQ(other("0.0.0.0", port, SO_REUSEADDR), reuse ? 0 : EADDRINUSE);
        EQ(other("127.0.0.2", port, 0), 0);
        OK(usk_close(s));
        EXPECT_EOF(c);
        OK(usk_close(c));
        EQ(other("127.0.0.1", port, SO_REUSEADDR), reuse ? 0 : EADDRINUSE);
        EQ(other("127.0.0.1", port, 0), EADDRINUSE);
    }

    /* Also a port that connect chose is one that others cannot bind, unless both allow it. */
    fd = connected(SOCK_STREAM, sock_name(server));
    port = port_of(sock_name(fd));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), EADDRINUSE);
    EQ(other("127.0.0.2", port, 0), 0);
    OK(set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), 0);
    OK(usk_close(accepted()));
    OK(usk_close(fd));
}

static void listener_that_is_shut_down_shares_its_port(void)
{
    int port, a = holder("127.0.0.1", 1, &port);
    OK(usk_listen(a, 1));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), EADDRINUSE);
    OK(usk_shutdown(a, SHUT_RD));
    EQ(other("127.0.0.1", port, SO_REUSEADDR), 0);
    EQ(other("127.0.0.1", port, 0), EADDRINUSE);
    int b = tcp(AF_INET, 0);
    OK(set_int(b, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(bind_to(b, "127.0.0.1", port));
    OK(usk_listen(a, 1));
    ERR(usk_listen(b, 1), EADDRINUSE);
    OK(usk_shutdown(a, SHUT_RD));
    OK(usk_listen(b, 1));
    ERR(usk_listen(a, 1), EADDRINUSE);
    EQ(port_of(sock_name(a)), port);
    OK(usk_close(b));
    OK(usk_listen(a, 1));
    OK(usk_close(a));

    /* A port that the stack chose is free with it, and still shown. */
    a = tcp(AF_INET, 0);
    OK(bind_to(a, "127.0.0.1", 0));
    port = port_of(sock_name(a));
    OK(usk_listen(a, 1));
    OK(usk_shutdown(a, SHUT_RD));
    EQ(port_of(sock_name(a)), port);
    EQ(other("127.0.0.1", port, 0), 0);
    OK(bind_to(a, "127.0.0.2", 0));
    OK(usk_close(a));
}

static void refuses(int port)
{
    for (int i = 0; i < 2; i++) {
        int c = tcp(AF_INET, 0);
        ERR(connecting(c, "127.0.0.1", port), ECONNREFUSED);
        OK(usk_close(c));
    }
}

static void ended_by_close(int fd) { OK(usk_close(fd)); }
static void ended_by_dup2(int fd)
{
    int other = (int)OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    EQ(usk_dup2(other, fd), fd);
    OK(close(other));
    OK(usk_close(fd));
}
#ifdef UNMODIFIED
static void ended_by_close_range(int fd) { OK(close_range((unsigned)fd, (unsigned)fd, 0)); }
#endif
#if defined ON_KERNEL || defined ON_SERVER
/* And by a signal, since that is how servers end. */
static void ended_with_its_process(int fd)
{
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0)
        for (;;)
            pause();
    OK(usk_close(fd));
    OK(kill(pid, SIGKILL));
    EQ(waitpid(pid, NULL, 0), pid);
}
#endif

/* The connection goes to whoever has the listener still; when the last descriptor goes there is nobody, at once. */
static void listener_refuses_when_it_is_closed(void)
{
    static void (*const ends[])(int fd) = {
        ended_by_close, ended_by_dup2,
#ifdef UNMODIFIED
        ended_by_close_range,
#endif
#if defined ON_KERNEL || defined ON_SERVER
        ended_with_its_process,
#endif
    };
    for (int i = 0; i < COUNT(ends); i++) {
        int l = listener(at("127.0.0.1", 0), 16), same = (int)OK(usk_dup(l)), port = port_of(sock_name(l));
        for (int fd = l; fd != -1; fd = fd == l ? same : -1) {
            int c = tcp(AF_INET, 0);
            OK(connecting(c, "127.0.0.1", port));
            OK(usk_close(c));
            ends[i](fd);
        }
        refuses(port);
    }
}

/* Of two that share a port with SO_REUSEADDR one may listen. The other keeps its name, its options and its duplicate,
 * and listens when the first is gone. */
static void listen_that_fails_changes_nothing(void)
{
    int a = tcp(AF_INET, 0), b = tcp(AF_INET, 0);
    OK(set_int(a, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(set_int(b, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(bind_to(a, "127.0.0.1", 0));
    int port = port_of(sock_name(a));
    OK(bind_to(b, "127.0.0.1", port));
    int same = (int)OK(usk_dup(b));
    OK(usk_listen(a, 4));
    for (int i = 0; i < 2; i++)
        ERR(usk_listen(b, 4), EADDRINUSE);
    EQ(port_of(sock_name(b)), port);
    EQ(port_of(sock_name(same)), port);
    EQ(get_int(b, SOL_SOCKET, SO_REUSEADDR), 1);
    EQ(get_int(b, SOL_SOCKET, SO_ACCEPTCONN), 0);
    OK(usk_close(a));
    OK(usk_listen(same, 4));
    EQ(port_of(sock_name(b)), port);
    int c = tcp(AF_INET, 0);
    OK(connecting(c, "127.0.0.1", port));
    OK(usk_close((int)OK(usk_accept(b, NULL, NULL))));
    OK(usk_close(c));
    OK(usk_close(b));
    OK(usk_close(same));
}

/* As of a server whose workers have a listener each: nobody is refused when one goes. */
static void listeners_that_take_turns(void)
{
    int l[2], port = 0;
    for (int i = 0; i < 12; i++) {
        int fd = tcp(AF_INET, 0);
        OK(set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1));
        OK(bind_to(fd, "127.0.0.1", port));
        port = port_of(sock_name(fd));
        OK(usk_listen(fd, 16));
        if (i >= 2)
            OK(usk_close(l[i % 2]));
        l[i % 2] = fd;
        if (i == 0)
            continue;
        for (int n = 0; n < 6; n++) {
            int c = tcp(AF_INET, SOCK_NONBLOCK);
            ERR(connecting(c, "127.0.0.1", port), EINPROGRESS);
            struct pollfd p[] = {{c, POLLOUT, 0}, {l[0], POLLIN, 0}, {l[1], POLLIN, 0}};
            EQ(usk_poll(p, 1, -1), 1);
            EQ(so_error(c), 0);
            OK(usk_poll(p + 1, 2, -1));
            OK(usk_close((int)OK(usk_accept(p[1].revents ? l[0] : l[1], NULL, NULL))));
            OK(usk_close(c));
        }
    }
    OK(usk_close(l[0]));
    OK(usk_close(l[1]));
    refuses(port);
}

/* A listener that is shut down with connections in its queue listens again at once, at its port. */
static void listener_begins_again(void)
{
    int port, l = holder("127.0.0.1", 0, &port);
    OK(usk_listen(l, 16));
    for (int i = 0; i < 100; i++) {
        int c[3];
        for (int n = 0; n < COUNT(c); n++) {
            c[n] = tcp(AF_INET, 0);
            OK(connecting(c[n], "127.0.0.1", port));
        }
        OK(usk_shutdown(l, SHUT_RD));
        OK(usk_listen(l, 16));
        EQ(port_of(sock_name(l)), port);
        for (int n = 0; n < COUNT(c); n++)
            OK(usk_close(c[n]));
    }
    OK(usk_close(l));
}

/* A connection under the number of a listener that lives on by another has all its bytes when it is closed. */
static void number_of_a_listener_is_a_connections(void)
{
    static char block[1 << 16];
    int l = listener(at("127.0.0.1", 0), 16), same = (int)OK(usk_dup(l));
    OK(usk_close(l));
    int c = tcp(AF_INET, 0);
    EQ(c, l);
    OK(connecting(c, "127.0.0.1", port_of(sock_name(server))));
    int a = (int)OK(usk_accept(server, NULL, NULL));
    set_nonblock(c, true);
    long sent = 0, got = 0, n;
    while ((n = usk_send(c, block, sizeof block, 0)) > 0)
        sent += n;
    EQ(errno, EAGAIN);
    OK(usk_close(c));
    while ((n = OK(usk_recv(a, block, sizeof block, 0))) > 0)
        got += n;
    EQ(got, sent);
    OK(usk_close(a));
    OK(usk_close(same));
}

/* A socket whose connection both ends have closed is one still, until it is dissolved: then it connects, or listens. */
static void connection_that_ended_is_followed_by_another(int who, bool listens)
{
    int fd[2], peer, epoll = (int)OK(usk_epoll_create1(0));
    fd[0] = connected(SOCK_STREAM, sock_name(server));
    fd[1] = accepted();
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 77};
    OK(usk_epoll_ctl(epoll, EPOLL_CTL_ADD, fd[who], &event));
    OK(usk_shutdown(fd[!who], SHUT_WR));
    EXPECT_EOF(fd[who]);
    OK(usk_shutdown(fd[who], SHUT_WR));
    EXPECT_EOF(fd[!who]);
    ERR(connecting(fd[who], "127.0.0.1", port_of(sock_name(server))), EISCONN);
    dissolve(fd[who]);
    EQ(ready(fd[who], POLLIN | POLLOUT), POLLOUT | POLLHUP);
    char c;
    ERR(usk_recv(fd[who], &c, 1, 0), ENOTCONN);
    if (listens) {
        OK(usk_listen(fd[who], 1));
        peer = connected(SOCK_STREAM, at("127.0.0.1", port_of(sock_name(fd[who]))));
    } else {
        OK(connecting(fd[who], "127.0.0.1", port_of(sock_name(server))));
        peer = accepted();
        send_all(peer, "again", 5);
    }
    EQ(usk_epoll_wait(epoll, &event, 1, -1), 1);
    EQ(event.data.fd, 77);
    if (listens)
        OK(usk_close(OK(usk_accept(fd[who], NULL, NULL))));
    else
        EXPECT(fd[who], "again");
    close_pair(fd);
    OK(usk_close(peer));
    OK(usk_close(epoll));
}

int main(void)
{
    begin("rebind");
    server = listener(at("127.0.0.1", 0), 16);
    OK(usk_close(holder("127.0.0.1", 0, &refused)));
    port_is_free_when_a_connection_has_ended();
    families_do_not_mix();
    any_address_becomes_one_when_it_connects();
    options_count_as_they_are();
    listener_that_is_shut_down_shares_its_port();
    listener_refuses_when_it_is_closed();
    listen_that_fails_changes_nothing();
    listeners_that_take_turns();
    listener_begins_again();
    number_of_a_listener_is_a_connections();
    for (int who = 0; who < 2; who++)
        for (int listens = 0; listens < 2; listens++)
            connection_that_ended_is_followed_by_another(who, listens);
    OK(usk_close(server));
    return done();
}

/* errno table, first part: socket, bind, listen, accept, connect, shutdown, close, dup, names, on wrong arguments. */
#include "common.h"

static int tcp4, udp4, tcp6, pipe_fd[2], closed_fd;

static void socket_rows(void)
{
    static const struct {
        int family, type, protocol, want;
    } rows[] = {
        {-1, SOCK_STREAM, 0, EAFNOSUPPORT},
        {46, SOCK_STREAM, 0, EAFNOSUPPORT},
        {1000, SOCK_STREAM, 0, EAFNOSUPPORT},
        {AF_UNSPEC, SOCK_STREAM, 0, EAFNOSUPPORT},
        {AF_UNSPEC, SOCK_STREAM, -1, EAFNOSUPPORT},
        {AF_INET, SOCK_STREAM, -1, EINVAL},
        {AF_INET, 0, 0, ESOCKTNOSUPPORT},
        {AF_INET, 7, 0, ESOCKTNOSUPPORT},
        {AF_INET, SOCK_SEQPACKET, 0, ESOCKTNOSUPPORT},
        {AF_INET, SOCK_RDM, 0, ESOCKTNOSUPPORT},
        {AF_INET, 11, 0, EINVAL},
        {AF_INET, 15, 0, EINVAL},
        {AF_INET, SOCK_STREAM | 0x10, 0, EINVAL},
        {AF_INET, SOCK_STREAM | 0x40000000, 0, EINVAL},
        {AF_INET, -1, 0, EINVAL},
        {AF_INET, SOCK_STREAM, IPPROTO_UDP, EPROTONOSUPPORT},
        {AF_INET, SOCK_DGRAM, IPPROTO_TCP, EPROTONOSUPPORT},
        {AF_INET, SOCK_STREAM, 255, EPROTONOSUPPORT},
        {AF_INET, SOCK_STREAM, 1000, EINVAL},
        {AF_INET, SOCK_STREAM, -1, EINVAL},
        {AF_INET, SOCK_RAW, 0, EPROTONOSUPPORT},
        {AF_INET6, 0, 0, ESOCKTNOSUPPORT},
        {AF_INET6, SOCK_SEQPACKET, 0, ESOCKTNOSUPPORT},
        {AF_INET6, SOCK_STREAM, IPPROTO_UDP, EPROTONOSUPPORT},
        {AF_INET6, SOCK_DGRAM, IPPROTO_TCP, EPROTONOSUPPORT},
        {AF_INET6, SOCK_STREAM, 1000, EINVAL},
        {AF_INET6, SOCK_STREAM, -1, EINVAL},
        {AF_INET6, SOCK_RAW, 0, EPROTONOSUPPORT},
        {AF_INET6, 15, 0, EINVAL},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        errno = 0;
        int fd = usk_socket(rows[i].family, rows[i].type, rows[i].protocol);
        int got = fd == -1 ? errno : 0;
        if (got != rows[i].want) {
            char row[96];
            snprintf(row, sizeof row, "socket(%d, %#x, %d)", rows[i].family, rows[i].type, rows[i].protocol);
            complain(__FILE__, __LINE__, row, errno_name(got), errno_name(rows[i].want));
        }
        if (fd != -1)
            usk_close(fd);
    }
}

/* The error of every call for a number that is no descriptor, and for a descriptor that is no socket. */
static void no_socket_rows(int fd, int want)
{
    struct addr a = local(AF_INET);
    socklen_t len = sizeof a.storage;
    char b[4] = {0};
    int v = 0;
    struct iovec iov = {b, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr mm = {.msg_hdr = m};
    ERR(usk_bind(fd, &a.sa, a.len), want);
    ERR(usk_listen(fd, 1), want);
    ERR(usk_accept(fd, NULL, NULL), want);
    ERR(usk_accept4(fd, NULL, NULL, SOCK_CLOEXEC), want);
    ERR(usk_connect(fd, &a.sa, a.len), want);
    ERR(usk_shutdown(fd, SHUT_RD), want);
    ERR(usk_send(fd, b, 1, 0), want);
    ERR(usk_sendto(fd, b, 1, 0, &a.sa, a.len), want);
    ERR(usk_sendmsg(fd, &m, 0), want);
    ERR(usk_sendmmsg(fd, &mm, 1, 0), want);
    ERR(usk_recv(fd, b, 1, 0), want);
    ERR(usk_recvfrom(fd, b, 1, 0, &a.sa, &len), want);
    ERR(usk_recvmsg(fd, &m, 0), want);
    ERR(usk_recvmmsg(fd, &mm, 1, 0, NULL), want);
    ERR(usk_getsockname(fd, &a.sa, &len), want);
    ERR(usk_getpeername(fd, &a.sa, &len), want);
    len = sizeof v;
    ERR(usk_getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len), want);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof v), want);
}

static void bad_numbers(void)
{
    int numbers[] = {-1, -100, closed_fd, 1 << 20, INT32_MAX, INT32_MIN};
    char b[4] = {0};
    struct iovec iov = {b, 1};
    int v;
    for (int i = 0; i < COUNT(numbers); i++) {
        int fd = numbers[i];
        no_socket_rows(fd, EBADF);
        ERR(usk_read(fd, b, 1), EBADF);
        ERR(usk_write(fd, b, 1), EBADF);
        ERR(usk_readv(fd, &iov, 1), EBADF);
        ERR(usk_writev(fd, &iov, 1), EBADF);
        ERR(usk_close(fd), EBADF);
        ERR(usk_dup(fd), EBADF);
        ERR(usk_fcntl(fd, F_GETFL, 0), EBADF);
        ERR(usk_ioctl(fd, FIONREAD, &v), EBADF);
    }
    no_socket_rows(pipe_fd[0], ENOTSOCK);
}

static void bind_rows(void)
{
    struct addr a = local(AF_INET), a6 = local(AF_INET6);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_bind(fd, NULL, a.len), EFAULT);
    ERR(usk_bind(fd, (struct sockaddr *)8, a.len), EFAULT);
    ERR(usk_bind(fd, &a.sa, 0), EINVAL);
    ERR(usk_bind(fd, &a.sa, a.len - 1), EINVAL);
    ERR(usk_bind(fd, &a.sa, (socklen_t)-1), EINVAL);
    ERR(usk_bind(fd, &a.sa, sizeof a.storage + 1), EINVAL);
    ERR(usk_bind(fd, &a6.sa, a6.len), EAFNOSUPPORT);
    struct addr foreign = at("192.0.2.1", 0), unspec = at("127.0.0.1", 0);
    ERR(usk_bind(fd, &foreign.sa, foreign.len), EADDRNOTAVAIL);
    unspec.sa.sa_family = AF_UNSPEC; /* taken for AF_INET only with the wildcard address */
    ERR(usk_bind(fd, &unspec.sa, unspec.len), EAFNOSUPPORT);
    unspec.in.sin_addr.s_addr = htonl(INADDR_ANY);
    OK(usk_bind(fd, &unspec.sa, unspec.len));
    ERR(usk_bind(fd, &a.sa, a.len), EINVAL); /* bound already */
    OK(usk_close(fd));

    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    ERR(usk_bind(fd, &a6.sa, 23), EINVAL); /* SIN6_LEN_RFC2133 is 24 */
    ERR(usk_bind(fd, &a.sa, a.len), EINVAL);
    struct addr short_v4 = a;
    ERR(usk_bind(fd, &short_v4.sa, sizeof a6.in6), EAFNOSUPPORT);
    struct addr foreign6 = at("2001:db8::1", 0), multicast = at("ff02::1", 0), linklocal = at("fe80::1", 0);
    ERR(usk_bind(fd, &foreign6.sa, foreign6.len), EADDRNOTAVAIL);
    ERR(usk_bind(fd, &multicast.sa, multicast.len), EINVAL);
    ERR(usk_bind(fd, &linklocal.sa, linklocal.len), EINVAL); /* no scope */
    OK(usk_bind(fd, &a6.sa, 24));
    OK(usk_close(fd));

    int l = listener(a, 1);
    struct addr taken = sock_name(l);
    fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_bind(fd, &taken.sa, taken.len), EADDRINUSE);
    OK(usk_close(fd));
    fd = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(usk_bind(fd, &taken.sa, taken.len)); /* UDP's ports are its own */
    int fd2 = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(usk_bind(fd2, &taken.sa, taken.len), EADDRINUSE);
    OK(usk_close(fd2));
    OK(usk_close(fd));
    OK(usk_close(l));
}

static void connect_rows(void)
{
    struct addr a = local(AF_INET), a6 = local(AF_INET6);
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(fd, NULL, a.len), EFAULT);
    ERR(usk_connect(fd, (struct sockaddr *)8, a.len), EFAULT);
    ERR(usk_connect(fd, &a.sa, 0), EINVAL);
    ERR(usk_connect(fd, &a.sa, 1), EINVAL);
    ERR(usk_connect(fd, &a.sa, a.len - 1), EINVAL);
    ERR(usk_connect(fd, &a.sa, (socklen_t)-1), EINVAL);
    ERR(usk_connect(fd, &a.sa, sizeof a.storage + 1), EINVAL);
    ERR(usk_connect(fd, &a6.sa, a6.len), EAFNOSUPPORT);
    ERR(usk_connect(fd, &a.sa, a.len), ECONNREFUSED); /* port 0 */
    struct addr far = at("192.0.2.1", 9), group = at("224.0.0.1", 9), bcast = at("255.255.255.255", 9);
    ERR(usk_connect(fd, &far.sa, far.len), ENETUNREACH);
    ERR(usk_connect(fd, &group.sa, group.len), ENETUNREACH);
    ERR(usk_connect(fd, &bcast.sa, bcast.len), ENETUNREACH);
    OK(usk_close(fd));
    fd = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    ERR(usk_connect(fd, &a6.sa, 23), EINVAL);
    ERR(usk_connect(fd, &a.sa, a.len), EINVAL);
    struct addr wrong = a6, far6 = at("2001:db8::1", 9), group6 = at("ff02::1", 9), link6 = at("fe80::1", 9);
    wrong.sa.sa_family = AF_INET;
    ERR(usk_connect(fd, &wrong.sa, wrong.len), EAFNOSUPPORT);
    ERR(usk_connect(fd, &far6.sa, far6.len), ENETUNREACH);
    ERR(usk_connect(fd, &group6.sa, group6.len), ENETUNREACH);
    ERR(usk_connect(fd, &link6.sa, link6.len), EINVAL);
    OK(usk_close(fd));

    int p[2];
    tcp_pair(AF_INET, p);
    struct addr to = peer_name(p[0]);
    ERR(usk_connect(p[0], &to.sa, to.len), EISCONN);
    ERR(usk_bind(p[0], &a.sa, a.len), EINVAL);
    close_pair(p);
    int l = listener(a, 1);
    to = sock_name(l);
    ERR(usk_connect(l, &to.sa, to.len), EISCONN);
    /* AF_UNSPEC on a listener ends the listening. */
    struct sockaddr un = {.sa_family = AF_UNSPEC};
    OK(usk_connect(l, &un, sizeof un));
    EQ(get_int(l, SOL_SOCKET, SO_ACCEPTCONN), 0);
    OK(usk_close(l));
}

static void other_rows(void)
{
    struct addr a;
    socklen_t len = sizeof a.storage;
    ERR(usk_listen(udp4, 1), EOPNOTSUPP);
    ERR(usk_accept(udp4, NULL, NULL), EOPNOTSUPP);
    ERR(usk_accept(tcp4, NULL, NULL), EINVAL);
    ERR(usk_shutdown(tcp4, 3), EINVAL);
    ERR(usk_shutdown(tcp4, -1), EINVAL);
    ERR(usk_getpeername(tcp4, &a.sa, &len), ENOTCONN);
    ERR(usk_getpeername(udp4, &a.sa, &len), ENOTCONN);
    ERR(usk_getpeername(tcp6, &a.sa, &len), ENOTCONN);
    ERR(usk_getsockname(tcp4, &a.sa, NULL), EFAULT);
    ERR(usk_getsockname(tcp4, NULL, &len), EFAULT);
    ERR(usk_getsockname(tcp4, &a.sa, (socklen_t *)8), EFAULT);
    ERR(usk_getsockname(tcp4, (struct sockaddr *)8, &len), EFAULT);
    /* accept with a bad pointer for the address loses the connection and returns EFAULT. */
    int l = listener(local(AF_INET), 2);
    int c = connected(SOCK_STREAM, sock_name(l));
    len = 16;
    ERR(usk_accept(l, (struct sockaddr *)8, &len), EFAULT);
    char b;
    CHECK(usk_recv(c, &b, 1, 0) <= 0);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    c = (usk_close(c), connected(SOCK_STREAM, sock_name(l)));
    await(l, POLLIN);
    ERR(usk_accept(l, &a.sa, NULL), EFAULT);
    OK(usk_close(c));
    OK(usk_close(l));
    ERR(usk_fcntl(tcp4, 9999, 0), EINVAL);
    ERR(usk_ioctl(tcp4, 0xdead, NULL), ENOTTY);
    ERR(usk_ioctl(tcp4, FIONREAD, NULL), EFAULT);
    ERR(usk_ioctl(tcp4, SIOCATMARK, (void *)8), EFAULT);
    ERR(usk_ioctl(tcp4, FIONBIO, NULL), EFAULT);
}

int main(void)
{
    begin("errno_socket");
    tcp4 = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    tcp6 = (int)OK(usk_socket(AF_INET6, SOCK_STREAM, 0));
    udp4 = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    OK(pipe(pipe_fd));
    closed_fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(usk_close(closed_fd));
    socket_rows();
    bad_numbers();
    bind_rows();
    connect_rows();
    other_rows();
    OK(usk_close(tcp4));
    OK(usk_close(tcp6));
    OK(usk_close(udp4));
    return done();
}

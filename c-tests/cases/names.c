/* getsockname, getpeername, accept: the address is cut to the room given, and the length says the whole size. */
#include "common.h"

typedef int name_fn(int, struct sockaddr *, socklen_t *);

static void cut(name_fn *f, int fd, struct addr whole)
{
    for (int room = 0; room <= (int)whole.len + 8; room++) {
        unsigned char buf[64];
        memset(buf, 0xee, sizeof buf);
        socklen_t len = (socklen_t)room;
        OK(f(fd, (struct sockaddr *)buf, &len));
        EQ(len, whole.len);
        int copied = room < (int)whole.len ? room : (int)whole.len;
        CHECK(memcmp(buf, &whole.storage, (size_t)copied) == 0);
        CHECK(buf[copied] == 0xee); /* nothing past the room */
    }
    unsigned char buf[64];
    socklen_t len = (socklen_t)-1;
    ERR(f(fd, (struct sockaddr *)buf, &len), EINVAL);
    len = 16;
    ERR(f(fd, NULL, &len), EFAULT);
    ERR(f(fd, (struct sockaddr *)buf, NULL), EFAULT);
    len = 0;
    OK(f(fd, NULL, &len)); /* no room asked, no pointer needed */
    EQ(len, whole.len);
    ERR(f(-1, (struct sockaddr *)buf, &len), EBADF);
}

int main(void)
{
    begin("names");
    int families[2] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        int fd[2];
        tcp_pair(families[i], fd);
        cut(usk_getsockname, fd[0], sock_name(fd[0]));
        cut(usk_getsockname, fd[1], sock_name(fd[1]));
        cut(usk_getpeername, fd[0], peer_name(fd[0]));
        cut(usk_getpeername, fd[1], peer_name(fd[1]));
        CHECK(same_addr(sock_name(fd[0]), peer_name(fd[1])));
        CHECK(same_addr(sock_name(fd[1]), peer_name(fd[0])));
        close_pair(fd);

        /* accept, too. */
        int l = listener(local(families[i]), 8);
        struct addr to = sock_name(l);
        int c = connected(SOCK_STREAM, to);
        unsigned char buf[64];
        memset(buf, 0xee, sizeof buf);
        socklen_t len = 5;
        int a = (int)OK(usk_accept(l, (struct sockaddr *)buf, &len));
        EQ(len, to.len);
        struct addr mine = sock_name(c);
        CHECK(memcmp(buf, &mine.storage, 5) == 0 && buf[5] == 0xee);
        OK(usk_close(a));
        OK(usk_close(c));

        /* Unbound: the family and zeroes. A peer: ENOTCONN. A listener has none either. */
        int s = (int)OK(usk_socket(families[i], SOCK_STREAM, 0));
        struct addr n = sock_name(s);
        EQ(n.sa.sa_family, families[i]);
        EQ(port_of(n), 0);
        EQ(n.len, families[i] == AF_INET ? sizeof n.in : sizeof n.in6);
        len = sizeof n.storage;
        ERR(usk_getpeername(s, &n.sa, &len), ENOTCONN);
        ERR(usk_getpeername(l, &n.sa, &len), ENOTCONN);
        OK(usk_close(s));
        OK(usk_close(l));

        /* Bound to the wildcard, then connected: the name becomes the address used. */
        l = listener(local(families[i]), 1);
        to = sock_name(l);
        s = bound(SOCK_STREAM, at(families[i] == AF_INET ? "0.0.0.0" : "::", 0));
        int port = port_of(sock_name(s));
        CHECK(port != 0);
        OK(usk_connect(s, &to.sa, to.len));
        EQ(port_of(sock_name(s)), port);
        n = sock_name(s);
        struct addr lo = local(families[i]);
        if (families[i] == AF_INET)
            EQ(n.in.sin_addr.s_addr, lo.in.sin_addr.s_addr);
        else
            CHECK(memcmp(&n.in6.sin6_addr, &lo.in6.sin6_addr, 16) == 0);
        OK(usk_close(s));
        OK(usk_close(l));
    }

    /* Automatic ports stay in the range of net.ipv4.ip_local_port_range's default. */
    for (int i = 0; i < 50; i++) {
        int s = bound(SOCK_STREAM, at("127.0.0.1", 0));
        int port = port_of(sock_name(s));
        CHECK(port >= 32768 && port <= 60999);
        OK(usk_close(s));
    }
    return done();
}

/* dup: numbers share one open socket: its flags, its options, its queue; the connection ends with the last number. */
#include "common.h"
#include <sys/resource.h>

int main(void)
{
    begin("dup_share");
    int fd[2];
    char c;
    tcp_pair(AF_INET, fd);
    int twin = (int)OK(usk_dup(fd[0]));
    CHECK(twin != fd[0]);
    set_nonblock(twin, true);
    CHECK(usk_fcntl(fd[0], F_GETFL, 0) & O_NONBLOCK); /* one open description */
    ERR(usk_recv(fd[0], &c, 1, 0), EAGAIN);
    set_nonblock(fd[0], false);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1));
    EQ(get_int(twin, IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK(same_addr(sock_name(fd[0]), sock_name(twin)));

    /* FD_CLOEXEC belongs to the number. */
    OK(usk_fcntl(fd[0], F_SETFD, FD_CLOEXEC));
    EQ(usk_fcntl(fd[0], F_GETFD, 0), FD_CLOEXEC);
    EQ(usk_fcntl(twin, F_GETFD, 0), 0);
    int third = (int)OK(usk_fcntl(fd[0], F_DUPFD, 100));
    CHECK(third >= 100);
    EQ(usk_fcntl(third, F_GETFD, 0), 0);
    int fourth = (int)OK(usk_fcntl(fd[0], F_DUPFD_CLOEXEC, 200));
    CHECK(fourth >= 200);
    EQ(usk_fcntl(fourth, F_GETFD, 0), FD_CLOEXEC);
    ERR(usk_fcntl(fd[0], F_DUPFD, -1), EINVAL);
    /* The highest number that the process may have. */
    struct rlimit limit;
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    int highest = limit.rlim_max > 1000000 ? 1000000 : (int)limit.rlim_max - 1;
    EQ(usk_dup2(fd[0], highest), highest);
    CHECK(same_addr(sock_name(highest), sock_name(fd[0])));
    OK(usk_close(highest));
    ERR(usk_close(highest), EBADF);

    /* What one reads, the other does not. */
    send_all(fd[1], "abcd", 4);
    EXPECT(fd[0], "a");
    EXPECT(twin, "b");
    EXPECT(third, "c");
    EXPECT(fourth, "d");

    /* Closing all but one leaves the connection up. */
    OK(usk_close(fd[0]));
    OK(usk_close(third));
    OK(usk_close(fourth));
    ERR(usk_send(fd[0], "x", 1, 0), EBADF);
    ERR(usk_close(fd[0]), EBADF);
    ERR(usk_dup(fd[0]), EBADF);
    EQ(ready(fd[1], POLLIN), 0);
    send_all(twin, "alive", 5);
    EXPECT(fd[1], "alive");
    /* shutdown acts on the connection, whoever else holds it. */
    int again = (int)OK(usk_dup(twin));
    OK(usk_shutdown(again, SHUT_WR));
    ERR(usk_send(twin, "x", 1, MSG_NOSIGNAL), EPIPE);
    EXPECT_EOF(fd[1]);
    OK(usk_close(again));
    OK(usk_close(twin));
    OK(usk_close(fd[1]));

    /* The lowest free number is given, and none collides with the program's own. */
    int p[2];
    OK(pipe(p));
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    CHECK(s != p[0] && s != p[1] && s > 2);
    OK(close(p[0]));
    OK(close(p[1]));
    OK(usk_close(s));

    /* A listener shared by dup: each number accepts. */
    int l = listener(local(AF_INET), 4), m = (int)OK(usk_dup(l));
    struct addr a = sock_name(l);
    int one = connected(SOCK_STREAM, a), two = connected(SOCK_STREAM, a);
    int x = (int)OK(usk_accept(l, NULL, NULL));
    OK(usk_close(l));
    int y = (int)OK(usk_accept(m, NULL, NULL));
    EQ(port_of(peer_name(x)), port_of(sock_name(one)));
    EQ(port_of(peer_name(y)), port_of(sock_name(two)));
    OK(usk_close(m));
    int rest[4] = {one, two, x, y};
    for (int i = 0; i < 4; i++)
        OK(usk_close(rest[i]));
    return done();
}

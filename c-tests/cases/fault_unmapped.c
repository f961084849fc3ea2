/* Pointers to pages without access. EFAULT, no signal, and the connection goes on. */
#include "common.h"

/* A mapping of `pages` pages in which the page `hole` has no access. */
static char *with_a_hole(int pages, int hole)
{
    long page = sysconf(_SC_PAGESIZE);
    char *at = mmap(NULL, (size_t)(pages * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    OK(munmap(at + hole * page, (size_t)page));
    return at;
}

/* Good memory, then a hole: to receive into and to send from. */
static void part_of_it(int family)
{
    long page = sysconf(_SC_PAGESIZE);
    enum { PAGES = 257 };
    int t[2], u[2];
    tcp_pair(family, t);
    udp_pair(family, u);
    char *two = with_a_hole(3, 1), *edge = two + page - 4, some[9000];
    memset(two, 'x', (size_t)page);
    memset(some, 'y', sizeof some);

    /* A stream: bytes before the hole are read, the others stay queued. */
    send_all(t[0], "abcdefgh", 8);
    await_bytes(t[1], 8);
    ERR(usk_recv(t[1], edge, 8, 0), EFAULT);
    ERR(usk_recv(t[1], edge, 8, MSG_PEEK), EFAULT);
    struct iovec iov[2] = {{.iov_base = some, .iov_len = 2}, {.iov_base = two + page, .iov_len = 100}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
    ERR(usk_recvmsg(t[1], &m, 0), EFAULT);
    EQ(usk_recv(t[1], edge, 4, 0), 4);
    CHECK(memcmp(edge, "abcd", 4) == 0);
    send_all(t[0], "ijkl", 4);
    await_bytes(t[1], 8);
    ERR(usk_recv(t[1], two + page, 100, 0), EFAULT);
    EXPECT(t[1], "efghijkl");
    send_all(t[0], "mn", 2);
    await_bytes(t[1], 2);
    EQ(usk_recv(t[1], edge, 1000, 0), 2); /* the hole is not reached */

    /* Datagrams: one that reaches the hole is lost. */
    EQ(usk_send(u[0], "abcdefgh", 8, 0), 8);
    await(u[1], POLLIN);
    ERR(usk_recv(u[1], edge, 8, MSG_PEEK), EFAULT);
    ERR(usk_recv(u[1], edge, 8, 0), EFAULT);
    ERR(usk_recv(u[1], some, 8, MSG_DONTWAIT), EAGAIN);
    EQ(usk_send(u[0], "abc", 3, 0), 3);
    await(u[1], POLLIN);
    EQ(usk_recv(u[1], edge, 1000, 0), 3);

    /* To send: nothing of a datagram; of a stream what comes before. */
    ERR(usk_send(u[0], edge, 8, 0), EFAULT);
    ERR(usk_send(u[0], two + page, 8, 0), EFAULT);
    ERR(usk_recv(u[1], some, 8, MSG_DONTWAIT), EAGAIN);
    ERR(usk_send(t[0], two + page, 8, 0), EFAULT);
    char *large = with_a_hole(PAGES, 200);
    memset(large, 'z', (size_t)(200 * page));
    set_nonblock(t[0], true);
    long n = usk_send(t[0], large, (size_t)(PAGES * page), 0);
    CHECK(n > 0 && n <= 200 * page);
    iov[0] = (struct iovec){.iov_base = large, .iov_len = (size_t)(150 * page)};
    size_t left = (size_t)n;
    while (left > 0) {
        long got = OK(usk_recv(t[1], iov[0].iov_base, iov[0].iov_len, 0));
        for (long i = 0; i < got; i++)
            CHECK(large[i] == 'z');
        left -= (size_t)got;
    }
    ERR(usk_recv(t[1], some, 1, MSG_DONTWAIT), EAGAIN);
    EQ(usk_send(u[0], two, 100, 0), 100);
    EXPECT(u[1], "xxxx");
    close_pair(t);
    close_pair(u);
    OK(munmap(two, (size_t)(3 * page)));
    OK(munmap(large, (size_t)(PAGES * page)));
}

int main(void)
{
    begin("fault_unmapped");
    int fd[2];
    char b[8];
    long page = OK(sysconf(_SC_PAGESIZE));
    char *none = mmap(NULL, (size_t)page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *readable = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(none != MAP_FAILED && readable != MAP_FAILED);
    tcp_pair(AF_INET, fd);
    ERR(usk_send(fd[0], none, 100, 0), EFAULT);
    ERR(usk_write(fd[0], none, 100), EFAULT);
    struct iovec iov = {none, 100};
    ERR(usk_writev(fd[0], &iov, 1), EFAULT);
    ERR(usk_writev(fd[0], (struct iovec *)none, 1), EFAULT);
    ERR(usk_sendmsg(fd[0], (struct msghdr *)none, 0), EFAULT);
    EQ(usk_send(fd[0], readable, 3, 0), 3); /* sending needs only read access */
    await_bytes(fd[1], 3);
    ERR(usk_recv(fd[1], readable, 3, 0), EFAULT); /* receiving needs write access */
    ERR(usk_recv(fd[1], none, 3, 0), EFAULT);
    iov.iov_len = 3;
    ERR(usk_readv(fd[1], &iov, 1), EFAULT);
    EQ(usk_recv(fd[1], b, sizeof b, 0), 3); /* the bytes were kept */
    socklen_t len = 16;
    ERR(usk_bind(fd[0], (struct sockaddr *)none, 16), EFAULT);
    ERR(usk_connect(fd[0], (struct sockaddr *)none, 16), EFAULT);
    ERR(usk_getsockname(fd[0], (struct sockaddr *)readable, &len), EFAULT);
    ERR(usk_getsockname(fd[0], (struct sockaddr *)b, (socklen_t *)none), EFAULT);
    ERR(usk_setsockopt(fd[0], SOL_SOCKET, SO_KEEPALIVE, none, 4), EFAULT);
    len = 4;
    ERR(usk_getsockopt(fd[0], SOL_SOCKET, SO_TYPE, readable, &len), EFAULT);
    ERR(usk_ioctl(fd[0], FIONREAD, readable), EFAULT);
    ERR(usk_poll((struct pollfd *)none, 1, 0), EFAULT);
    send_all(fd[0], "fine", 4);
    EXPECT(fd[1], "fine");
    close_pair(fd);
    part_of_it(AF_INET);
    part_of_it(AF_INET6);
    OK(munmap(none, (size_t)page));
    OK(munmap(readable, (size_t)page));
    return done();
}

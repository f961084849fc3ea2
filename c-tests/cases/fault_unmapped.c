/* Pointers that look good and are not: pages without access. EFAULT, no signal, and the connection goes on. */
#include "common.h"

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
    EQ(usk_send(fd[0], readable, 3, 0), 3); /* to send, reading is enough */
    await_bytes(fd[1], 3);
    ERR(usk_recv(fd[1], readable, 3, 0), EFAULT); /* to receive it is not */
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
    OK(munmap(none, (size_t)page));
    OK(munmap(readable, (size_t)page));
    return done();
}

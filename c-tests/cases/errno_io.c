/* errno table, second part: send and recv in all their shapes, sendfile and splice, on wrong states and arguments. */
#include "common.h"

static char *bad[] = {NULL, (char *)8, (char *)-4096};

static void states(void)
{
    char b[8];
    struct addr to = local(AF_INET);
    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_recv(s, b, 1, 0), ENOTCONN);
    ERR(usk_read(s, b, 1), ENOTCONN);
    ERR(usk_send(s, b, 1, MSG_NOSIGNAL), EPIPE);
    ERR(usk_sendto(s, b, 1, MSG_NOSIGNAL, &to.sa, to.len), EPIPE);
    OK(usk_close(s));
    int l = listener(to, 1);
    ERR(usk_recv(l, b, 1, 0), ENOTCONN);
    ERR(usk_send(l, b, 1, MSG_NOSIGNAL), EPIPE);
    OK(usk_close(l));
    int u = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    ERR(usk_send(u, b, 1, 0), EDESTADDRREQ);
    ERR(usk_write(u, b, 1), EDESTADDRREQ);
    ERR(usk_recv(u, b, 1, MSG_DONTWAIT), EAGAIN);
    ERR(usk_sendto(u, b, 1, 0, &to.sa, 15), EINVAL);
    ERR(usk_sendto(u, b, 1, 0, &to.sa, (socklen_t)-1), EINVAL);
    ERR(usk_sendto(u, b, 1, 0, (struct sockaddr *)8, 16), EFAULT);
    ERR(usk_recv(u, b, 1, MSG_OOB | MSG_DONTWAIT), EAGAIN); /* UDP refuses MSG_OOB only when sending */
    OK(usk_close(u));
    u = (int)OK(usk_socket(AF_INET6, SOCK_DGRAM, 0));
    ERR(usk_send(u, b, 1, 0), EDESTADDRREQ);
    OK(usk_close(u));
}

static void pointers(int fd[2], bool stream)
{
    char b[64];
    struct iovec iov;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    for (int i = 0; i < COUNT(bad); i++) {
        ERR(usk_send(fd[0], bad[i], 10, 0), EFAULT);
        ERR(usk_write(fd[0], bad[i], 10), EFAULT);
        iov = (struct iovec){bad[i], 10};
        ERR(usk_sendmsg(fd[0], &m, 0), EFAULT);
        ERR(usk_writev(fd[0], &iov, 1), EFAULT);
        ERR(usk_sendmsg(fd[0], (struct msghdr *)bad[i], 0), EFAULT);
        ERR(usk_recvmsg(fd[1], (struct msghdr *)bad[i], MSG_DONTWAIT), EFAULT);
        ERR(usk_writev(fd[0], (struct iovec *)bad[i], 1), EFAULT);
        ERR(usk_readv(fd[1], (struct iovec *)bad[i], 1), EFAULT);
        struct msghdr no_iov = {.msg_iov = (struct iovec *)bad[i], .msg_iovlen = 1};
        ERR(usk_sendmsg(fd[0], &no_iov, 0), EFAULT);
        ERR(usk_recvmsg(fd[1], &no_iov, MSG_DONTWAIT), EFAULT);
    }
    EQ(ready(fd[1], POLLIN), 0); /* nothing of all that went out */
    /* recv into a bad buffer: a stream keeps its bytes, a datagram is lost; an address that belongs to the kernel is
     * refused before the queue is looked at. */
    for (int i = 0; i < COUNT(bad); i++) {
        EQ(usk_send(fd[0], "abcd", 4, 0), 4);
        EQ(usk_recv(fd[1], b, sizeof b, MSG_PEEK), 4);
        ERR(usk_recv(fd[1], bad[i], 10, MSG_DONTWAIT), EFAULT);
        if (stream || i == 2)
            EQ(usk_recv(fd[1], b, sizeof b, MSG_DONTWAIT), 4);
        else
            ERR(usk_recv(fd[1], b, sizeof b, MSG_DONTWAIT), EAGAIN);
    }
    /* A zero length needs no pointer. */
    EQ(usk_send(fd[0], NULL, 0, 0), 0);
    EQ(usk_read(fd[1], NULL, 0), 0);
    if (!stream)
        EQ(usk_recv(fd[1], b, sizeof b, 0), 0);
    EQ(usk_writev(fd[0], NULL, 0), 0);
    /* Flags that no socket takes. */
    m.msg_iovlen = 1;
    iov = (struct iovec){b, 1};
    ERR(usk_recv(fd[1], b, 1, MSG_DONTWAIT), EAGAIN);
    ERR(usk_recvmsg(fd[1], &m, MSG_DONTWAIT), EAGAIN);
    /* Control data: a length shorter than a header is invalid; unknown levels are ignored. */
    union {
        struct cmsghdr h;
        char room[64];
    } c;
    memset(&c, 0, sizeof c);
    c.h = (struct cmsghdr){.cmsg_len = 4, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_TIMESTAMPING};
    m.msg_control = &c;
    m.msg_controllen = sizeof c;
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    c.h.cmsg_len = sizeof c + 1;
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    c.h.cmsg_len = CMSG_LEN(4);
    c.h.cmsg_type = 0x7777; /* unknown in SOL_SOCKET */
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
    m.msg_control = (void *)8;
    ERR(usk_sendmsg(fd[0], &m, 0), EFAULT);
    m.msg_control = NULL;
    m.msg_controllen = (size_t)1 << 40;
    ERR(usk_sendmsg(fd[0], &m, 0), ENOBUFS);
    m.msg_controllen = 0;
    m.msg_name = b;
    m.msg_namelen = (socklen_t)-1;
    ERR(usk_sendmsg(fd[0], &m, 0), EINVAL);
}

static void files(void)
{
    int fd[2], p[2];
    char path[] = "/tmp/errno_io_XXXXXX";
    tcp_pair(AF_INET, fd);
    OK(pipe(p));
    int f = (int)OK(mkstemp(path));
    OK(unlink(path));
    OK(write(f, "0123456789", 10));
    off_t off = 0;
    loff_t lo = 0;
    ERR(usk_sendfile(-1, f, &off, 1), EBADF);
    ERR(usk_sendfile(fd[0], -1, &off, 1), EBADF);
    off = -1;
    ERR(usk_sendfile(fd[0], f, &off, 1), EINVAL);
    ERR(usk_sendfile(fd[0], f, (off_t *)8, 1), EFAULT);
    off = 0;
    ERR(usk_sendfile(fd[0], p[0], &off, 1), ESPIPE);
    ERR(usk_splice(-1, NULL, fd[0], NULL, 1, 0), EBADF);
    ERR(usk_splice(p[0], NULL, -1, NULL, 1, 0), EBADF);
    ERR(usk_splice(p[0], &lo, fd[0], NULL, 1, 0), ESPIPE);
    ERR(usk_splice(p[0], NULL, fd[0], &lo, 1, 0), EINVAL); /* a socket has no positions */
    ERR(usk_splice(fd[0], NULL, fd[1], NULL, 1, 0), EINVAL); /* one side must be a pipe */
    ERR(usk_splice(p[0], NULL, fd[0], NULL, 1, 0xff0), EINVAL);
    EQ(usk_splice(p[0], NULL, fd[0], NULL, 0, 0), 0);
    /* SPLICE_F_NONBLOCK is about the pipe; O_NONBLOCK decides whether the socket waits. */
    set_nonblock(fd[0], true);
    ERR(usk_splice(fd[0], NULL, p[1], NULL, 1, 0), EAGAIN);
    ERR(usk_splice(p[0], NULL, fd[0], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    OK(usk_shutdown(fd[0], SHUT_WR));
    signal(SIGPIPE, SIG_IGN);
    ERR(usk_sendfile(fd[0], f, &off, 1), EPIPE);
    close(f);
    close_pair(fd);
}

int main(void)
{
    begin("errno_io");
    int fd[2];
    states();
    tcp_pair(AF_INET, fd);
    pointers(fd, true);
    close_pair(fd);
    udp_pair(AF_INET, fd);
    pointers(fd, false);
    close_pair(fd);
    files();
    return done();
}

/* sendfile: a file to a socket; splice: a socket to a pipe and a pipe to a socket. Offsets, partial counts, ends. */
#include "common.h"

static void *drain(void *arg)
{
    int fd = *(int *)arg;
    static unsigned char buf[30000];
    uint64_t got = 0;
    long n;
    while ((n = OK(usk_recv(fd, buf, sizeof buf, 0))) > 0) {
        for (long i = 0; i < n; i++)
            CHECK(buf[i] == pattern(21, got + (uint64_t)i));
        got += (uint64_t)n;
    }
    return (void *)(uintptr_t)got;
}

/* SO_PEEK_OFF is for MSG_PEEK alone: splice begins in front. A stream's offset stays as it is then; a datagram is
 * received, so it counts back. */
static void in_front_of_a_peek(bool stream)
{
    int fd[2], p[2];
    char buf[16];
#ifdef ON_SERVER
    if (stream)
        return; /* AF_UNIX counts back */
#endif
    if (stream)
        tcp_pair(AF_INET, fd);
    else
        udp_pair(AF_INET, fd);
    OK(pipe(p));
    OK(set_int(fd[1], SOL_SOCKET, SO_PEEK_OFF, 2));
    EQ(usk_send(fd[0], "abcdefgh", 8, 0), 8);
    await(fd[1], POLLIN);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 3, 0), 3);
    EQ(read(p[0], buf, sizeof buf), 3);
    CHECK(memcmp(buf, "abc", 3) == 0);
    EQ(get_int(fd[1], SOL_SOCKET, SO_PEEK_OFF), stream ? 2 : 0);
    if (stream) {
        EQ(usk_recv(fd[1], buf, 1, MSG_PEEK), 1);
        CHECK(buf[0] == 'f');
        EXPECT(fd[1], "defgh");
    }
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);
}

/* What is wrong with the descriptors, the offset and the count, in the kernel's order; nothing is transferred. */
static void refused(int file)
{
    enum { BAD, SOCKET, OTHER, FILE_, WRITE_ONLY, READ_END, WRITE_END, ALL };
    int fd[2], p[2], at[ALL];
    char path[32];
    tcp_pair(AF_INET, fd);
    OK(pipe(p));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int w = (int)OK(open(path, O_WRONLY));
    at[BAD] = -1, at[SOCKET] = fd[0], at[OTHER] = fd[1], at[FILE_] = file, at[WRITE_ONLY] = w;
    at[READ_END] = p[0], at[WRITE_END] = p[1];
    send_all(fd[1], "unread", 6);
    await_bytes(fd[0], 6);
    enum { NONE, ZERO, MINUS, NOWHERE };
    static const struct {
        int out, in, offset;
        size_t count;
        int error;
    } files[] = {
        {SOCKET, BAD, NONE, 5, EBADF},        {BAD, SOCKET, NONE, 5, EBADF},
        {BAD, SOCKET, ZERO, 5, ESPIPE},       {SOCKET, BAD, MINUS, 5, EBADF},
        {SOCKET, WRITE_ONLY, NONE, 5, EBADF}, {SOCKET, WRITE_ONLY, ZERO, 0, EBADF},
        {SOCKET, READ_END, NONE, 5, EINVAL},  {SOCKET, READ_END, ZERO, 5, ESPIPE},
        {SOCKET, WRITE_END, NONE, 5, EBADF},  {SOCKET, FILE_, MINUS, 5, EINVAL},
        {SOCKET, FILE_, NOWHERE, 5, EFAULT},  {SOCKET, FILE_, NONE, (size_t)-1, EINVAL},
        {SOCKET, OTHER, NONE, 5, EINVAL},     {SOCKET, OTHER, ZERO, 5, ESPIPE},
        {FILE_, SOCKET, NONE, 5, EINVAL},     {READ_END, SOCKET, NONE, 5, EBADF},
        {WRITE_END, SOCKET, ZERO, 5, ESPIPE}, {WRITE_END, SOCKET, NOWHERE, 5, EFAULT},
    };
    for (int i = 0; i < COUNT(files); i++) {
        off_t off = files[i].offset == MINUS ? -1 : 0;
        off_t *offset = files[i].offset == NONE ? NULL : files[i].offset == NOWHERE ? (off_t *)16 : &off;
        errno = 0;
        EQ(usk_sendfile(at[files[i].out], at[files[i].in], offset, files[i].count), -1);
        EQ(errno, files[i].error);
    }
    static const struct {
        int in, in_offset, out, out_offset;
        size_t len;
        unsigned flags;
        int error;
    } rows[] = {
        {BAD, ZERO, SOCKET, ZERO, 0, 77, 0},
        {BAD, ZERO, SOCKET, NONE, 5, 77, EINVAL},
        {BAD, ZERO, SOCKET, NONE, 5, 0, EBADF},
        {SOCKET, NONE, BAD, ZERO, 5, 0, EBADF},
        {SOCKET, NONE, OTHER, NONE, 5, 0, EINVAL},
        {SOCKET, NONE, FILE_, NONE, 5, 0, EINVAL},
        {SOCKET, NONE, FILE_, NOWHERE, 5, 0, EFAULT},
        {SOCKET, NONE, READ_END, NONE, 5, 0, EBADF},
        {SOCKET, ZERO, WRITE_END, NONE, 5, 0, EINVAL},
        {SOCKET, NONE, WRITE_END, ZERO, 5, 0, ESPIPE},
        {SOCKET, NOWHERE, WRITE_END, ZERO, 5, 0, ESPIPE},
        {SOCKET, NONE, WRITE_END, NONE, (size_t)-1, 0, EINVAL},
        {WRITE_END, NONE, SOCKET, NONE, 5, SPLICE_F_NONBLOCK, EBADF},
        {READ_END, ZERO, SOCKET, NONE, 5, 0, ESPIPE},
        {READ_END, NONE, SOCKET, ZERO, 5, 0, EINVAL},
        {FILE_, NONE, SOCKET, NONE, 5, 0, EINVAL},
        {WRITE_ONLY, NONE, SOCKET, NONE, 5, 0, EBADF},
    };
    for (int i = 0; i < COUNT(rows); i++) {
        off_t a = 0, b = 0;
        off_t *in = rows[i].in_offset == NONE ? NULL : rows[i].in_offset == NOWHERE ? (off_t *)16 : &a;
        off_t *out = rows[i].out_offset == NONE ? NULL : rows[i].out_offset == NOWHERE ? (off_t *)16 : &b;
        errno = 0;
        long r = usk_splice(at[rows[i].in], in, at[rows[i].out], out, rows[i].len, rows[i].flags);
        EQ(r, rows[i].error ? -1 : 0);
        EQ(errno, rows[i].error);
    }
    /* What a datagram socket does not send stays in the pipe. */
    int u = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0));
    EQ(write(p[1], "kept", 4), 4);
    ERR(usk_splice(p[0], NULL, u, NULL, 100, 0), EDESTADDRREQ);
    char kept[8];
    EQ(read(p[0], kept, sizeof kept), 4);
    /* A stream that cannot send, neither. */
    OK(usk_shutdown(fd[1], SHUT_WR));
    EQ(write(p[1], "kept", 4), 4);
    signal(SIGPIPE, SIG_IGN);
    ERR(usk_splice(p[0], NULL, fd[1], NULL, 100, 0), EPIPE);
    EQ(read(p[0], kept, sizeof kept), 4);
    /* O_APPEND is refused. */
    OK(usk_fcntl(fd[0], F_SETFL, O_APPEND));
    EQ(usk_fcntl(fd[0], F_GETFL, 0) & O_APPEND, O_APPEND);
    EQ(write(p[1], "kept", 4), 4);
    ERR(usk_splice(p[0], NULL, fd[0], NULL, 100, 0), EINVAL);
    EQ(read(p[0], kept, sizeof kept), 4);
    ERR(usk_sendfile(fd[0], file, NULL, 5), EINVAL);
    OK(usk_close(u));
    /* From a socket to a pipe sendfile does as splice. */
    char buf[8];
    EQ(usk_sendfile(p[1], fd[0], NULL, 0), 0);
    EQ(usk_sendfile(p[1], fd[0], NULL, 100), 6);
    EQ(read(p[0], buf, sizeof buf), 6);
    CHECK(memcmp(buf, "unread", 6) == 0);
    OK(close(w));
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);
}

/* A file goes to a datagram socket in pieces of sixteen pages, which MSG_MORE joins: what does not fit is EMSGSIZE, and
 * what was taken before that waits in the socket. */
static void to_datagrams(int file)
{
    static const struct {
        off_t from;
        size_t count;
        long sent;         /* or -1: EMSGSIZE */
        long got, waiting; /* bytes of the datagram that has left; of those in the socket */
    } rows[] = {
        {0, 65507, 65507, 65507, 0},    {0, 65508, -1, 0, 0},           {0, 140000, -1, 0, 0},
        {28, 65508, -1, 0, 0},          {30, 65507, 65507, 65507, 0},   {30, 65508, 65506, 0, 0},
        {30, 140000, 65506, 0, 65506},  {100, 65436, 65436, 65436, 0},  {100, 65507, 65507, 65507, 0},
        {100, 65508, 65436, 0, 0},      {100, 140000, 65436, 0, 65436}, {4096, 65508, -1, 0, 0},
    };
    static char buf[70000];
    for (int i = 0; i < COUNT(rows); i++) {
        int fd[2];
        udp_pair(AF_INET, fd);
        OK(set_int(fd[1], SOL_SOCKET, SO_RCVBUF, 200000));
        OK(set_int(fd[0], SOL_SOCKET, SO_SNDBUF, 200000));
        off_t at = rows[i].from;
        errno = 0;
        EQ(usk_sendfile(fd[0], file, &at, rows[i].count), rows[i].sent);
        EQ(errno, rows[i].sent < 0 ? EMSGSIZE : 0);
        EQ(at - rows[i].from, rows[i].sent < 0 ? 0 : rows[i].sent);
        EQ(usk_send(fd[0], "z", 1, 0), 1);
        if (rows[i].got)
            EQ(usk_recv(fd[1], buf, sizeof buf, 0), rows[i].got);
        EQ(usk_recv(fd[1], buf, sizeof buf, 0), rows[i].waiting + 1);
        EQ(buf[rows[i].waiting], 'z');
        close_pair(fd);
    }
}

int main(void)
{
    begin("sendfile_splice");
    enum { SIZE = 3 << 20 };
    char path[] = "/tmp/sendfile_splice_XXXXXX";
    int f = (int)OK(mkstemp(path)), fd[2], p[2];
    OK(unlink(path));
    static unsigned char data[SIZE];
    for (int i = 0; i < SIZE; i++)
        data[i] = pattern(21, (uint64_t)i);
    EQ(write(f, data, SIZE), SIZE);

    /* The whole file, by offset; the file's own position does not move. */
    tcp_pair(AF_INET, fd);
    pthread_t t = spawn(drain, &fd[1]);
    off_t off = 0;
    OK(lseek(f, 77, SEEK_SET));
    while (off < SIZE) {
        off_t before = off;
        long n = OK(usk_sendfile(fd[0], f, &off, (size_t)(SIZE - off)));
        CHECK(n > 0);
        EQ(off, before + n);
    }
    EQ(lseek(f, 0, SEEK_CUR), 77);
    EQ(usk_sendfile(fd[0], f, &off, 10), 0); /* at the end */
    OK(usk_shutdown(fd[0], SHUT_WR));
    void *got;
    CHECK(pthread_join(t, &got) == 0);
    EQ((uintptr_t)got, SIZE);
    close_pair(fd);

    /* Without an offset the file's position is used and moved. */
    char buf[64];
    tcp_pair(AF_INET6, fd);
    OK(lseek(f, 100, SEEK_SET));
    EQ(usk_sendfile(fd[0], f, NULL, 40), 40);
    EQ(lseek(f, 0, SEEK_CUR), 140);
    EQ(recv_all(fd[1], buf, 40), 40);
    CHECK(memcmp(buf, data + 100, 40) == 0);
    off = SIZE - 5;
    EQ(usk_sendfile(fd[0], f, &off, 100), 5); /* as much as the file has */
    EQ(recv_all(fd[1], buf, 5), 5);
    CHECK(memcmp(buf, data + SIZE - 5, 5) == 0);
    /* A non-blocking socket takes a part, then EAGAIN. */
    set_nonblock(fd[0], true);
    uint64_t sent = 0;
    off = 0;
    for (;;) {
        long n = usk_sendfile(fd[0], f, &off, (size_t)(SIZE - off));
        if (n == -1)
            break;
        CHECK(n > 0);
        sent += (uint64_t)n;
        if (off == SIZE)
            off = 0;
    }
    EQ(errno, EAGAIN);
    CHECK(sent > 0);
    close_pair(fd);

    /* A file is one datagram, sent whole, whether it ends as announced or sooner; and nothing comes behind it. */
    udp_pair(AF_INET, fd);
    for (size_t announced = 5; announced <= 100; announced += 95) {
        off = SIZE - 5;
        EQ(usk_sendfile(fd[0], f, &off, announced), 5);
        await(fd[1], POLLIN);
        EQ(usk_recv(fd[1], buf, sizeof buf, 0), 5);
        CHECK(memcmp(buf, data + SIZE - 5, 5) == 0);
        ERR(usk_recv(fd[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    }
    close_pair(fd);

    /* What a call of the kernel's has in its pipe at a time is sixteen pages of the file, the first from the offset on:
     * more than a datagram from the beginning of a page, less from elsewhere, so what fails is the piece behind it. */
    udp_pair(AF_INET, fd);
    off = 4096;
    ERR(usk_sendfile(fd[0], f, &off, 70000), EMSGSIZE);
    EQ(off, 4096);
    off = 5096;
    EQ(usk_sendfile(fd[0], f, &off, 70000), 64536);
    EQ(off, 4096 + 65536);
    close_pair(fd);

    /* A socket of datagrams that is shut for reading is at its end, and stays open to writes. */
    udp_pair(AF_INET, fd);
    OK(pipe(p));
    OK(usk_shutdown(fd[1], SHUT_RD));
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 100, SPLICE_F_NONBLOCK), 0);
    set_nonblock(fd[1], true);
    ERR(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), EAGAIN);
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);

    /* splice: socket to pipe. */
    tcp_pair(AF_INET, fd);
    OK(pipe(p));
    send_all(fd[0], "through the pipe", 16);
    await_bytes(fd[1], 16);
    /* A pipe of a user who has many holds one piece (fs.pipe-user-pages-soft). */
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 7, 0), 7);
    EQ(read(p[0], buf, sizeof buf), 7);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 1000, SPLICE_F_NONBLOCK), 9);
    EQ(read(p[0], buf + 7, sizeof buf - 7), 9);
    CHECK(memcmp(buf, "through the pipe", 16) == 0);
    set_nonblock(fd[1], true);
    ERR(usk_splice(fd[1], NULL, p[1], NULL, 10, SPLICE_F_NONBLOCK), EAGAIN);
    set_nonblock(fd[1], false);
    /* pipe to socket, and to the end of the stream. */
    OK(write(p[1], "back again", 10));
    EQ(usk_splice(p[0], NULL, fd[1], NULL, 100, 0), 10);
    EXPECT(fd[0], "back again");
    OK(close(p[1]));
    EQ(usk_splice(p[0], NULL, fd[1], NULL, 100, 0), 0); /* the pipe has no writer */
    OK(close(p[0]));
    OK(pipe(p));
    OK(usk_shutdown(fd[0], SHUT_WR));
    await(fd[1], POLLIN);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), 0);
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);

#ifndef ON_SERVER
    /* At the urgent mark splice returns 0, each time; a read skips the urgent byte. */
    tcp_pair(AF_INET, fd);
    OK(pipe(p));
    EQ(usk_send(fd[0], "abc!", 4, MSG_OOB), 4);
    await(fd[1], POLLPRI);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), 3);
    EQ(read(p[0], buf, sizeof buf), 3);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), 0);
    EQ(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), 0);
    set_nonblock(fd[1], true);
    ERR(usk_splice(fd[1], NULL, p[1], NULL, 100, 0), EAGAIN);
    set_nonblock(fd[1], false);
    send_all(fd[0], "rest", 4);
    EXPECT(fd[1], "rest");
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(fd);
#endif
    for (int type = 0; type < 2; type++)
        in_front_of_a_peek(type);
    refused(f);
    to_datagrams(f);
    close(f);
    return done();
}

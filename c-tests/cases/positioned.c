/* Reads and writes at an offset, which a socket has not; preadv2 and pwritev2 with flags. */
#include "common.h"

int main(void)
{
    begin("positioned");
    int fd[2];
    tcp_pair(AF_INET, fd);
    char buf[64] = "abc";
    struct iovec iov = {buf, 3};
    static const struct {
        off_t offset;
        int want;
    } rows[] = {{0, ESPIPE}, {5, ESPIPE}, {(off_t)1 << 40, ESPIPE}, {-1, EINVAL}, {-2, EINVAL}};
    for (int i = 0; i < COUNT(rows); i++) {
        ERR(usk_pread(fd[0], buf, 3, rows[i].offset), rows[i].want);
        ERR(usk_pwrite(fd[0], buf, 3, rows[i].offset), rows[i].want);
        ERR(usk_preadv(fd[0], &iov, 1, rows[i].offset), rows[i].want);
        ERR(usk_pwritev(fd[0], &iov, 1, rows[i].offset), rows[i].want);
        if (rows[i].offset == -1)
            continue;
        ERR(usk_preadv2(fd[0], &iov, 1, rows[i].offset, 0), rows[i].want);
        ERR(usk_pwritev2(fd[0], &iov, 1, rows[i].offset, 0), rows[i].want);
    }
    ERR(usk_pread(-1, buf, 3, 0), EBADF);
    ERR(usk_preadv2(-1, &iov, 1, -1, 0), EBADF);
    ERR(usk_preadv2(fd[0], &iov, 0, 0, 0), ESPIPE);

    /* At -1: readv and writev. Flags that are about disks change nothing. */
    static const int fine[] = {0, RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_APPEND, 0x20 /* RWF_NOAPPEND */};
    for (int i = 0; i < COUNT(fine); i++) {
        EQ(usk_pwritev2(fd[0], &iov, 1, -1, fine[i]), 3);
        await(fd[1], POLLIN);
        EQ(usk_preadv2(fd[1], &iov, 1, -1, fine[i]), 3);
        CHECK(memcmp(buf, "abc", 3) == 0);
    }
    static const int refused[] = {0x40 /* RWF_ATOMIC */, 0x8000, RWF_NOWAIT | 0x4000};
    for (int i = 0; i < COUNT(refused); i++) {
        ERR(usk_pwritev2(fd[0], &iov, 1, -1, refused[i]), EOPNOTSUPP);
        ERR(usk_preadv2(fd[1], &iov, 1, -1, refused[i]), EOPNOTSUPP);
        EQ(usk_preadv2(fd[1], &iov, 0, -1, refused[i]), 0); /* of nothing, nothing is asked */
    }
    ERR(usk_pwritev2(fd[0], &iov, 1, -1, RWF_APPEND | 0x20), EINVAL);
    ERR(usk_preadv2(fd[1], &iov, 1, -1, RWF_NOWAIT), EAGAIN);
    ERR(usk_preadv2(fd[1], &iov, 1, -1, RWF_NOWAIT | RWF_HIPRI), EAGAIN);
    ERR(usk_preadv2(fd[1], &iov, 1025, -1, RWF_NOWAIT), EINVAL);
    ERR(usk_preadv2(fd[1], &iov, -1, -1, RWF_NOWAIT), EINVAL);
    close_pair(fd);

    /* Descriptors of the kernel's are the kernel's. */
    char path[] = "/tmp/positioned_XXXXXX";
    int f = (int)OK(mkstemp(path));
    OK(unlink(path));
    EQ(usk_pwrite(f, "0123456789", 10, 0), 10);
    iov = (struct iovec){buf, 4};
    EQ(usk_pread(f, buf, 4, 3), 4);
    CHECK(memcmp(buf, "3456", 4) == 0);
    EQ(usk_pwritev(f, &iov, 1, 0), 4);
    EQ(usk_preadv(f, &iov, 1, 1), 4);
    CHECK(memcmp(buf, "4564", 4) == 0);
    EQ(usk_preadv2(f, &iov, 1, 8, 0), 2);
    EQ(usk_pwritev2(f, &iov, 1, 10, 0), 4);
    OK(usk_close(f));
    return done();
}

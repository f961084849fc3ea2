/* fdopen: a stream of the C library on a socket. */
#include "common.h"

static void modes(int fd)
{
    static const char *const good[] = {"r", "w", "a", "r+", "w+", "a+", "rb", "rb+", "r+b", "re", "rz"};
    static const char *const bad[] = {"", "x", "+", "b", " r"};
    for (int i = 0; i < COUNT(good); i++) {
        int d = (int)OK(usk_dup(fd));
        FILE *f = usk_fdopen(d, good[i]);
        CHECK(f);
        EQ(fclose(f), 0);
        ERR(usk_fcntl(d, F_GETFD, 0), EBADF); /* closed with it */
    }
    for (int i = 0; i < COUNT(bad); i++) {
        errno = 0;
        CHECK(!usk_fdopen(fd, bad[i]));
        EQ(errno, EINVAL);
        CHECK(!usk_fdopen(-1, bad[i]));
        EQ(errno, EINVAL);
    }
    errno = 0;
    CHECK(!usk_fdopen(-1, "r"));
    EQ(errno, EBADF);
    EQ(usk_send(fd, "", 0, 0), 0); /* what was refused is open */
}

static FILE *stream(int fd, const char *mode)
{
    FILE *f = usk_fdopen((int)OK(usk_dup(fd)), mode);
    CHECK(f);
    return f;
}

int main(void)
{
    begin("fdopen");
    int fd[2];
    tcp_pair(AF_INET, fd);
    modes(fd[0]);

    FILE *out = stream(fd[0], "w"), *in = stream(fd[1], "r");
    char line[64], text[200000];
    CHECK(fprintf(out, "GET %s\n%d\n", "/", 42) == 9 && fflush(out) == 0);
    CHECK(fgets(line, sizeof line, in) && strcmp(line, "GET /\n") == 0);
    int number = 0;
    CHECK(fscanf(in, "%d", &number) == 1 && number == 42 && fgetc(in) == '\n');
    ERR(fgetc(out), EBADF);
    ERR(fputs("x", in), EBADF);
    ERR(fseek(in, 0, SEEK_SET), ESPIPE);
    ERR(ftell(out), ESPIPE);
    clearerr(out);
    clearerr(in);

    /* More than a buffer, and the end of the stream. */
    memset(text, 'x', sizeof text);
    EQ(fwrite(text, 1, sizeof text, out), sizeof text);
    EQ(fclose(out), 0);
    OK(usk_shutdown(fd[0], SHUT_WR));
    size_t got = 0;
    for (int c; (c = fgetc(in)) != EOF; got++)
        CHECK(c == 'x');
    EQ(got, sizeof text);
    CHECK(feof(in) && !ferror(in));
    EQ(fclose(in), 0);

    /* Both ways on one stream; a read that would wait. */
    FILE *both = stream(fd[1], "r+");
    CHECK(fputs("answer\n", both) >= 0 && fflush(both) == 0);
    EQ(recv_all(fd[0], line, 7), 7);
    CHECK(memcmp(line, "answer\n", 7) == 0);
    EQ(fclose(both), 0);
    close_pair(fd);
    tcp_pair(AF_INET, fd);
    in = stream(fd[1], "r");
    OK(usk_fcntl(fd[1], F_SETFL, O_RDWR | O_NONBLOCK));
    ERR(fgetc(in), EAGAIN);
    CHECK(ferror(in));
    EQ(fclose(in), 0);

    /* What cannot be written is an error of the stream. */
    signal(SIGPIPE, SIG_IGN);
    OK(usk_shutdown(fd[0], SHUT_WR));
    out = stream(fd[0], "w");
    CHECK(fputs("x", out) >= 0);
    ERR(fflush(out), EPIPE);
    CHECK(ferror(out));
    fclose(out);
    close_pair(fd);

    int p[2];
    OK(pipe(p));
    in = usk_fdopen(p[0], "r"); /* of the kernel's: the C library's own */
    CHECK(in && write(p[1], "k", 1) == 1 && fgetc(in) == 'k');
    fclose(in);
    close(p[1]);
    return done();
}

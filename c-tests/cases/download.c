/* download [--config STR] ADDR PORT PATH OUTFILE
 *
 * Fetches http://ADDR:PORT/PATH by HTTP/1.1 into OUTFILE as it comes, checks the length that the server announced, and
 * prints bytes, throughput and the connection's tcp_info. Exits 1 on any answer but 200 and on a short body. */
#include "program.h"

int main(int argc, char **argv)
{
    int i = start_stack(argc, argv, 1);
    if (argc - i != 4) {
        fprintf(stderr, "usage: download [--config STR] ADDR PORT PATH OUTFILE\n");
        return 2;
    }
    struct addr to = parse_addr(argv[i], argv[i + 1]);
    const char *path = argv[i + 2];
    int file = open(argv[i + 3], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file == -1)
        die("cannot write %s", argv[i + 3]);
    int fd = usk_socket(to.sa.sa_family, SOCK_STREAM, 0);
    if (fd == -1 || usk_connect(fd, &to.sa, to.len) == -1)
        die("cannot connect to %s port %s", argv[i], argv[i + 1]);

    static char buf[1 << 18];
    bool v6 = to.sa.sa_family == AF_INET6;
    int n = snprintf(buf, sizeof buf, "GET %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\n\r\n",
                     path[0] == '/' ? "" : "/", path, v6 ? "[" : "", argv[i], v6 ? "]" : "", argv[i + 1]);
    errno = E2BIG;
    if (n >= (int)sizeof buf)
        die("the path is too long");
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    if (write_all(fd, buf, (size_t)n, 0) == -1)
        die("request");

    /* The headers end at the first empty line; what follows it in the buffer is body already. */
    size_t have = 0;
    char *end;
    while (!(end = memmem(buf, have, "\r\n\r\n", 4))) {
        errno = EPROTO;
        if (have == sizeof buf - 1)
            die("headers without an end");
        ssize_t r = usk_recv(fd, buf + have, sizeof buf - 1 - have, 0);
        if (r == -1 && errno == EINTR)
            continue;
        if (r == 0)
            errno = EPROTO;
        if (r <= 0)
            die("no answer");
        have += (size_t)r;
    }
    *end = 0;
    errno = EPROTO;
    if (strncmp(buf, "HTTP/1.", 7) != 0 || strncmp(buf + 8, " 200", 4) != 0) {
        buf[strcspn(buf, "\r\n")] = 0;
        die("the server says: %s", buf);
    }
    char *h = strcasestr(buf, "\r\nContent-Length:");
    long long announced = h ? strtoll(h + 17, NULL, 10) : -1, got = 0;
    errno = ENOTSUP;
    if (strcasestr(buf, "\r\nTransfer-Encoding:"))
        die("a transfer coding, which an answer to this request need not have");
    char *body = end + 4;
    size_t piece = have - (size_t)(body - buf);
    for (;;) {
        for (size_t off = 0; off < piece;) {
            ssize_t w = write(file, body + off, piece - off);
            if (w == -1 && errno != EINTR)
                die("cannot write %s", argv[i + 3]);
            off += w == -1 ? 0 : (size_t)w;
        }
        got += (long long)piece;
        if (announced >= 0 && got >= announced)
            break;
        ssize_t r;
        while ((r = usk_recv(fd, buf, sizeof buf, 0)) == -1 && errno == EINTR)
            ;
        if (r == -1)
            die("after %lld bytes", got);
        if (r == 0)
            break;
        body = buf;
        piece = (size_t)r;
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    errno = EPROTO;
    if (announced >= 0 && got != announced)
        die("%lld bytes came, %lld were announced", got, announced);
    if (close(file) == -1)
        die("cannot write %s", argv[i + 3]);

    double seconds = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
    printf("%lld bytes in %.3f s, %.1f MB/s\n", got, seconds, seconds > 0 ? (double)got / seconds / 1e6 : 0.0);
    struct tcp_info t = {0};
    socklen_t len = sizeof t;
    if (usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) == -1)
        die("TCP_INFO");
    printf("tcp_info:\n");
    print_tcp_info(stdout, &t);
    usk_close(fd);
    return 0;
}

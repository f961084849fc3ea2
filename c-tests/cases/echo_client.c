/* echo_client [--config STR] ADDR PORT BYTES
 *
 * Sends BYTES bytes of a known pattern while it reads them back, compares each, and prints "echoed BYTES". */
#include "program.h"

int main(int argc, char **argv)
{
    int i = start_stack(argc, argv, 1);
    if (argc - i != 3) {
        fprintf(stderr, "usage: echo_client [--config STR] ADDR PORT BYTES\n");
        return 2;
    }
    struct addr to = parse_addr(argv[i], argv[i + 1]);
    uint64_t total = strtoull(argv[i + 2], NULL, 10), sent = 0, got = 0;
    int fd = usk_socket(to.sa.sa_family, SOCK_STREAM, 0);
    if (fd == -1 || usk_connect(fd, &to.sa, to.len) == -1)
        die("cannot connect to %s port %s", argv[i], argv[i + 1]);
    static unsigned char buf[1 << 16];
    bool ended = false;
    while (got < total || !ended) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < total ? POLLOUT : 0))};
        if (usk_poll(&p, 1, -1) == -1)
            die("poll");
        if (sent < total && (p.revents & POLLOUT)) {
            size_t n = total - sent < sizeof buf ? (size_t)(total - sent) : sizeof buf;
            for (size_t k = 0; k < n; k++)
                buf[k] = pattern(1, sent + k);
            ssize_t r = usk_send(fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (r == -1 && errno != EAGAIN)
                die("send after %llu bytes", (unsigned long long)sent);
            sent += r == -1 ? 0 : (uint64_t)r;
        }
        if (p.revents & (POLLIN | POLLERR | POLLHUP)) {
            ssize_t r = usk_recv(fd, buf, sizeof buf, MSG_DONTWAIT);
            if (r == -1 && errno != EAGAIN)
                die("recv after %llu bytes", (unsigned long long)got);
            errno = EPROTO;
            if (r == 0)
                die("the stream ended after %llu of %llu bytes", (unsigned long long)got, (unsigned long long)total);
            for (ssize_t k = 0; k < r; k++)
                if (buf[k] != pattern(1, got + (uint64_t)k))
                    die("byte %llu is wrong", (unsigned long long)(got + (uint64_t)k));
            got += r == -1 ? 0 : (uint64_t)r;
        }
        if (sent == total && got == total && !ended) {
            usk_shutdown(fd, SHUT_WR);
            if (usk_recv(fd, buf, 1, 0) != 0)
                die("more than was sent came back");
            ended = true;
        }
    }
    printf("echoed %llu\n", (unsigned long long)got);
    usk_close(fd);
    return 0;
}

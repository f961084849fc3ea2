/* An HTTP client: prints what a server answers to GET PATH.
 *
 *   cc -o http_get http_get.c $(pkg-config --cflags --libs usersock)
 *   USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,gw=10.0.0.1 ./http_get 10.0.0.1 8080 /
 *
 * with a server on the kernel's side of tun0, such as python3 -m http.server 8080. Names are resolved by the system,
 * over the kernel's network; the connection is the stack's. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include <usersock.h>

static int fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "http_get: %s: %s\n", what, *why ? why : strerror(errno));
    return 1;
}

/* A connection to the first address of the name that takes one, or -1 with errno. */
static int connect_to(const struct addrinfo *list)
{
    for (const struct addrinfo *a = list; a; a = a->ai_next) {
        int fd = usk_socket(a->ai_family, a->ai_socktype, 0);
        if (fd == -1)
            return -1;
        struct timeval patience = { .tv_sec = 10 };
        usk_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* of connect, too */
        usk_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (usk_connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            return fd;
        int e = errno;
        usk_close(fd);
        errno = e;
    }
    return -1;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: http_get HOST PORT PATH\n");
        return 2;
    }
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
    int r = getaddrinfo(argv[1], argv[2], &hints, &list);
    if (r != 0) {
        fprintf(stderr, "http_get: %s: %s\n", argv[1], gai_strerror(r));
        return 1;
    }
    int fd = connect_to(list);
    freeaddrinfo(list);
    if (fd == -1)
        return fail(argv[1]);

    char request[2048];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", argv[3], argv[1]);
    if (length >= (int)sizeof request) {
        fprintf(stderr, "http_get: the path is too long\n");
        return 2;
    }
    if (usk_send(fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        return fail("send");
    char buf[16384];
    ssize_t n;
    while ((n = usk_recv(fd, buf, sizeof buf, 0)) > 0)
        if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
            return 1;
    if (n == -1)
        return fail("recv");
    usk_close(fd);
    return 0;
}

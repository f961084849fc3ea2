/* An echo server: one epoll loop for all connections, level-triggered, sockets without blocking.
 *
 *   cc -o echo_server echo_server.c $(pkg-config --cflags --libs usersock)
 *   USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24 ./echo_server 10.0.0.2 7 [CONNECTIONS]
 *
 * and, from the kernel's side of tun0: nc 10.0.0.2 7. Ends after CONNECTIONS are served, or never. docs/config.md says
 * how the kernel's side is set up. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usersock.h>

enum { BUFFER = 65536, EVENTS = 64 };

struct conn {
    int fd, ended;
    size_t from, to; /* what is read and not yet sent back */
    char buf[BUFFER];
};

static void fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "echo_server: %s: %s\n", what, *why ? why : strerror(errno));
    exit(1);
}

/* Moves bytes until the socket would block, and then waits for what it lacks. 0: the connection is over. */
static int pump(int ep, struct conn *c)
{
    for (;;) {
        int sending = c->from < c->to;
        if (!sending && c->ended)
            return 0;
        ssize_t n = sending ? usk_send(c->fd, c->buf + c->from, c->to - c->from, MSG_NOSIGNAL)
                            : usk_recv(c->fd, c->buf, BUFFER, 0);
        if (n == -1 && errno == EAGAIN) {
            struct epoll_event e = { .events = sending ? EPOLLOUT : EPOLLIN, .data.ptr = c };
            return usk_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0;
        }
        if (n == -1)
            return 0;
        if (sending) {
            c->from += (size_t)n;
        } else {
            c->from = 0;
            c->to = (size_t)n;
            c->ended = n == 0;
        }
    }
}

static void accept_one(int ep, int listener)
{
    int fd = usk_accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd == -1)
        return; /* it was reset meanwhile */
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        fail("memory");
    c->fd = fd;
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    if (usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == -1)
        fail("epoll_ctl");
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    if (argc < 3 || inet_pton(AF_INET, argv[1], &at.sin_addr) != 1) {
        fprintf(stderr, "usage: echo_server ADDRESS PORT [CONNECTIONS]\n");
        return 2;
    }
    at.sin_port = htons((uint16_t)atoi(argv[2]));
    long left = argc > 3 ? atol(argv[3]) : -1;

    int listener = usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (listener == -1)
        fail("socket");
    usk_setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (usk_bind(listener, (struct sockaddr *)&at, sizeof at) == -1 || usk_listen(listener, 128) == -1)
        fail("listen");
    int ep = usk_epoll_create1(0);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL };
    if (ep == -1 || usk_epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e) == -1)
        fail("epoll");
    printf("listening on %s port %s\n", argv[1], argv[2]);
    fflush(stdout);

    while (left != 0) {
        struct epoll_event events[EVENTS];
        int n = usk_epoll_wait(ep, events, EVENTS, -1);
        if (n == -1 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                accept_one(ep, listener);
            } else if (!pump(ep, c)) {
                /* The stack ends with the process: close waits until our end of stream is acknowledged. */
                struct linger wait = { 1, 5 };
                usk_setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &wait, sizeof wait);
                usk_fcntl(c->fd, F_SETFL, 0);
                usk_close(c->fd);
                free(c);
                left -= left > 0;
            }
        }
    }
    usk_close(ep);
    usk_close(listener);
    return 0;
}

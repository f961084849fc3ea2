/* echo_server [--config STR] ADDR PORT [N]
 *
 * Sends back what it reads, one epoll loop for all connections, level-triggered. Ends after N connections are done, or
 * never. Prints "listening ADDR PORT" when it can be called. */
#include "program.h"

enum { BUFFER = 65536 };

struct conn {
    int fd;
    bool ended; /* the peer's end of stream was read */
    size_t from, to;
    char buf[BUFFER];
};

static void close_conn(struct conn *c)
{
    usk_close(c->fd);
    free(c);
}

/* Moves bytes until it would block; false when the connection is over. */
static bool pump(int ep, struct conn *c)
{
    for (;;) {
        if (c->from < c->to) {
            ssize_t n = usk_send(c->fd, c->buf + c->from, c->to - c->from, MSG_NOSIGNAL);
            if (n == -1 && errno == EAGAIN) {
                struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
                return usk_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0;
            }
            if (n == -1)
                return false;
            c->from += (size_t)n;
            continue;
        }
        if (c->ended)
            return false;
        ssize_t n = usk_recv(c->fd, c->buf, sizeof c->buf, 0);
        if (n == -1 && errno == EAGAIN) {
            struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
            return usk_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) == 0;
        }
        if (n == -1)
            return false;
        c->ended = n == 0;
        c->from = 0;
        c->to = (size_t)n;
    }
}

int main(int argc, char **argv)
{
    int i = start_stack(argc, argv, 1);
    if (argc - i != 2 && argc - i != 3) {
        fprintf(stderr, "usage: echo_server [--config STR] ADDR PORT [N]\n");
        return 2;
    }
    struct addr a = parse_addr(argv[i], argv[i + 1]);
    long limit = argc - i == 3 ? strtol(argv[i + 2], NULL, 10) : 0, finished = 0;
    int l = usk_socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (l == -1 || usk_setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == -1 ||
        usk_bind(l, &a.sa, a.len) == -1 || usk_listen(l, 128) == -1)
        die("cannot listen on %s port %s", argv[i], argv[i + 1]);
    int ep = usk_epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (ep == -1 || usk_epoll_ctl(ep, EPOLL_CTL_ADD, l, &e) == -1)
        die("epoll");
    printf("listening %s %d\n", argv[i], port_of(sock_name(l)));
    fflush(stdout);
    while (limit == 0 || finished < limit) {
        struct epoll_event events[64];
        int n = usk_epoll_wait(ep, events, COUNT(events), -1);
        if (n == -1 && errno != EINTR)
            die("epoll_wait");
        for (int k = 0; k < n; k++) {
            struct conn *c = events[k].data.ptr;
            if (c) {
                if (!pump(ep, c)) {
                    close_conn(c);
                    finished++;
                }
                continue;
            }
            int fd = usk_accept4(l, NULL, NULL, SOCK_NONBLOCK);
            if (fd == -1)
                continue;
            c = malloc(sizeof *c);
            if (!c)
                die("memory");
            c->fd = fd;
            c->ended = false;
            c->from = c->to = 0;
            e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
            if (usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == -1)
                die("epoll_ctl");
        }
    }
    usk_close(ep);
    usk_close(l);
    return 0;
}

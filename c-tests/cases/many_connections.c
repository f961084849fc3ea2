/* 1,000 connections at once, one epoll loop for both ends: each carries its own bytes, none mixes with another. */
#include "common.h"

enum { N = 1000, EACH = 5000 };

struct end {
    int fd;
    bool client;
    int sent, got;
    uint32_t seed; /* the stream that comes in; learnt by the server from its first bytes */
    bool done;
};

int main(void)
{
    begin("many_connections");
    struct rlimit r;
    OK(getrlimit(RLIMIT_NOFILE, &r));
    if (r.rlim_cur < 4 * N + 100) {
        r.rlim_cur = r.rlim_max < 4 * N + 100 ? r.rlim_max : 4 * N + 100;
        OK(setrlimit(RLIMIT_NOFILE, &r));
    }
    CHECK(r.rlim_cur >= 2 * N + 50);
    int l = listener(local(AF_INET), N);
    struct addr to = sock_name(l);
    static struct end ends[2 * N];
    int ep = (int)OK(usk_epoll_create1(0)), made = 0, accepted = 0, finished = 0;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    set_nonblock(l, true);
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, l, &e));
    for (; made < N; made++) {
        struct end *c = &ends[made];
        c->client = true;
        c->seed = (uint32_t)made;
        c->fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        ERR(usk_connect(c->fd, &to.sa, to.len), EINPROGRESS);
        e = (struct epoll_event){.events = EPOLLOUT, .data.ptr = c};
        OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e));
    }
    /* All connected before any byte moves. */
    int up = 0;
    while (up < N || accepted < N) {
        struct epoll_event ev[128];
        int n = (int)OK(usk_epoll_wait(ep, ev, 128, -1));
        for (int i = 0; i < n; i++) {
            struct end *c = ev[i].data.ptr;
            if (c) {
                EQ(ev[i].events, EPOLLOUT);
                EQ(so_error(c->fd), 0);
                e = (struct epoll_event){.events = 0, .data.ptr = c};
                OK(usk_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e));
                up++;
                continue;
            }
            int fd;
            while ((fd = usk_accept4(l, NULL, NULL, SOCK_NONBLOCK)) != -1) {
                c = &ends[N + accepted++];
                c->fd = fd;
                e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
            }
            EQ(errno, EAGAIN);
        }
    }
    for (int i = 0; i < N; i++) {
        e = (struct epoll_event){.events = EPOLLOUT, .data.ptr = &ends[i]};
        OK(usk_epoll_ctl(ep, EPOLL_CTL_MOD, ends[i].fd, &e));
    }
    /* A client sends its number and then its pattern; the server reads EACH bytes and closes; the client sees that. */
    while (finished < 2 * N) {
        struct epoll_event ev[64];
        int n = (int)OK(usk_epoll_wait(ep, ev, 64, -1));
        for (int i = 0; i < n; i++) {
            struct end *c = ev[i].data.ptr;
            CHECK(c && !c->done);
            unsigned char b[700];
            if (c->client && c->sent < EACH) {
                int k = EACH - c->sent < (int)sizeof b ? EACH - c->sent : (int)sizeof b;
                for (int j = 0; j < k; j++)
                    b[j] = c->sent + j < 4 ? (unsigned char)(c->seed >> (8 * (c->sent + j)))
                                           : pattern(c->seed, (uint64_t)(c->sent + j));
                c->sent += (int)OK(usk_send(c->fd, b, (size_t)k, 0));
                if (c->sent == EACH) {
                    e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                    OK(usk_epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e));
                }
                continue;
            }
            long got = OK(usk_recv(c->fd, b, sizeof b, 0));
            if (c->client)
                EQ(got, 0);
            for (long j = 0; j < got; j++, c->got++)
                if (c->got < 4)
                    c->seed |= (uint32_t)b[j] << (8 * c->got);
                else
                    CHECK(b[j] == pattern(c->seed, (uint64_t)c->got));
            if (got == 0 || c->got == EACH) {
                c->done = true;
                OK(usk_close(c->fd));
                finished++;
            }
        }
    }
    /* Every number came exactly once. */
    static bool seen[N];
    for (int i = 0; i < N; i++) {
        struct end *s = &ends[N + i];
        EQ(s->got, EACH);
        CHECK(s->seed < N && !seen[s->seed]);
        seen[s->seed] = true;
    }
    OK(usk_close(ep));
    OK(usk_close(l));
    return done();
}

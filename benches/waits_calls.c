/* The calls of waits.rs: sets and lists of many sockets, and datagrams by the batch, over the loopback in one thread.
 * Compiled twice: on the kernel's sockets, and with USERSOCK on ours. Times are processor time of the thread, and only
 * of the calls that a case is about. A call that fails ends the program, since a number would be wrong. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef USERSOCK
#include <usersock/posix.h>
#define NAME(f) f##_ours
#else
#define NAME(f) f##_kernel
#endif

enum { READY = 10, DATAGRAMS = 32, PAYLOAD = 64 };

/* Sockets, a set with all but `spare` of them, and the same as a list. */
struct waits {
    int count, spare, set;
    int *fds;
    struct pollfd *list;
    struct epoll_event *events;
};

struct waits *NAME(waits_new)(int pairs, int singles, int spare);
int64_t NAME(waits_run)(struct waits *w, const char *what, uint64_t times);
void NAME(waits_free)(struct waits *w);

static int must(int r, const char *what)
{
    if (r < 0) {
        perror(what);
        exit(1);
    }
    return r;
}

static int64_t cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* A bound socket of this type, and its address. */
static int bound(int type, struct sockaddr_in *at)
{
    socklen_t len = sizeof *at;
    int fd = must(socket(AF_INET, type, 0), "socket");
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    must(bind(fd, (struct sockaddr *)at, len), "bind");
    must(getsockname(fd, (struct sockaddr *)at, &len), "getsockname");
    return fd;
}

static int connected(int type, struct sockaddr_in *to)
{
    int fd = must(socket(AF_INET, type, 0), "socket");
    must(connect(fd, (struct sockaddr *)to, sizeof *to), "connect");
    return fd;
}

static void add(int set, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
}

/* `pairs` TCP connections, both ends, then `singles` UDP sockets; the last `spare` sockets are not in the set. NULL if
 * there cannot be so many descriptors. */
struct waits *NAME(waits_new)(int pairs, int singles, int spare)
{
    int count = 2 * pairs + singles;
    struct rlimit limit = {(rlim_t)count + 1000, (rlim_t)count + 1000}, old;
    if (getrlimit(RLIMIT_NOFILE, &old) < 0)
        return NULL;
    if (old.rlim_cur < limit.rlim_cur) {
        if (old.rlim_max > limit.rlim_max)
            limit.rlim_max = old.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return NULL;
    }
    struct waits *w = malloc(sizeof *w);
    *w = (struct waits){.count = count, .spare = spare, .set = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")};
    w->fds = calloc((size_t)count, sizeof *w->fds);
    w->list = calloc((size_t)count, sizeof *w->list);
    w->events = calloc((size_t)count, sizeof *w->events);
    if (pairs > 0) {
        struct sockaddr_in at;
        int listener = bound(SOCK_STREAM, &at);
        must(listen(listener, 16), "listen");
        for (int i = 0; i < pairs; i++) {
            w->fds[i] = connected(SOCK_STREAM, &at);
            w->fds[pairs + i] = must(accept(listener, NULL, NULL), "accept");
        }
        close(listener);
    }
    for (int i = 2 * pairs; i < count; i++)
        w->fds[i] = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
    for (int i = 0; i < count - spare; i++)
        add(w->set, w->fds[i]);
    for (int i = 0; i < count; i++)
        w->list[i] = (struct pollfd){.fd = w->fds[i], .events = POLLIN};
    return w;
}

/* Adds the spare sockets to the set. */
static int64_t add_spare(struct waits *w)
{
    int first = w->count - w->spare;
    int64_t begin = cpu();
    for (int i = first; i < w->count; i++)
        add(w->set, w->fds[i]);
    int64_t spent = cpu() - begin;
    for (int i = first; i < w->count; i++)
        must(epoll_ctl(w->set, EPOLL_CTL_DEL, w->fds[i], NULL), "epoll_ctl");
    return spent;
}

/* READY of the connections get a byte, one epoll_wait reports them, and the bytes are read. Only the wait is measured,
 * or all of it. */
static int64_t wait_for_ready(struct waits *w, uint64_t turn, int all)
{
    char byte = 1;
    int pairs = w->count / 2;
    int64_t begin = cpu();
    for (int i = 0; i < READY; i++)
        must((int)send(w->fds[(turn * 7919 + (uint64_t)i * 131) % (uint64_t)pairs], &byte, 1, 0), "send");
    int64_t waited = 0;
    for (int n, left = READY; left > 0; left -= n) {
        int64_t wait = cpu();
        n = must(epoll_wait(w->set, w->events, w->count, -1), "epoll_wait");
        waited += cpu() - wait;
        for (int i = 0; i < n; i++)
            must((int)recv(w->events[i].data.fd, &byte, 1, 0), "recv");
    }
    return all ? cpu() - begin : waited;
}

/* Asks the list, or the set, when nothing is ready. */
static int64_t ask(struct waits *w, uint64_t times, int by_poll)
{
    int64_t begin = cpu();
    for (uint64_t t = 0; t < times; t++)
        if (by_poll)
            must(poll(w->list, (nfds_t)w->count, 0), "poll");
        else
            must(epoll_wait(w->set, w->events, w->count, 0), "epoll_wait");
    return cpu() - begin;
}

/* DATAGRAMS of PAYLOAD bytes there: one call each, or one for all. */
static int64_t datagrams(uint64_t times, int batched)
{
    static char bytes[DATAGRAMS][PAYLOAD];
    struct iovec iov[DATAGRAMS];
    struct mmsghdr all[DATAGRAMS];
    struct sockaddr_in at;
    int to = bound(SOCK_DGRAM, &at), from = connected(SOCK_DGRAM, &at);
    int64_t begin = cpu();
    for (uint64_t t = 0; t < times; t++) {
        int sent = 0, got = 0;
        if (batched) {
            for (int i = 0; i < DATAGRAMS; i++) {
                iov[i] = (struct iovec){bytes[i], PAYLOAD};
                all[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iov[i], .msg_iovlen = 1}};
            }
            sent = must(sendmmsg(from, all, DATAGRAMS, 0), "sendmmsg");
            got = must(recvmmsg(to, all, DATAGRAMS, 0, NULL), "recvmmsg");
        } else {
            for (int i = 0; i < DATAGRAMS; i++)
                sent += send(from, bytes[i], PAYLOAD, 0) == PAYLOAD;
            for (int i = 0; i < DATAGRAMS; i++)
                got += recv(to, bytes[i], PAYLOAD, 0) == PAYLOAD;
        }
        if (sent != DATAGRAMS || got != DATAGRAMS) {
            fprintf(stderr, "%d sent, %d received\n", sent, got);
            exit(1);
        }
    }
    int64_t spent = cpu() - begin;
    close(to);
    close(from);
    return spent;
}

/* Nanoseconds of `times` turns of a case; `w` may be NULL for datagrams. */
int64_t NAME(waits_run)(struct waits *w, const char *what, uint64_t times)
{
    int64_t spent = 0;
    if (strcmp(what, "batch") == 0 || strcmp(what, "single") == 0)
        return datagrams(times, *what == 'b');
    if (strcmp(what, "poll_none") == 0 || strcmp(what, "wait_none") == 0)
        return ask(w, times, *what == 'p');
    for (uint64_t t = 0; t < times; t++)
        spent += strcmp(what, "add") == 0 ? add_spare(w) : wait_for_ready(w, t, strcmp(what, "exchange") == 0);
    return spent;
}

void NAME(waits_free)(struct waits *w)
{
    for (int i = 0; i < w->count; i++)
        close(w->fds[i]);
    close(w->set);
    free(w->fds);
    free(w->list);
    free(w->events);
    free(w);
}

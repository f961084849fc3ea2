/* Epoll sets in epoll sets, of the kernel's descriptors and of sockets; several threads on one set; the order of what
 * is ready. */
#include "common.h"

static int set_new(void)
{
    return (int)OK(usk_epoll_create1(EPOLL_CLOEXEC));
}

static int ctl(int set, int op, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u64 = 0x100000000ull * (unsigned)fd + (unsigned)fd};
    return usk_epoll_ctl(set, op, fd, &e);
}

static void add(int set, int fd, uint32_t events)
{
    OK(ctl(set, EPOLL_CTL_ADD, fd, events));
}

/* The number of the one that is ready now; -1: none. */
static int now(int set)
{
    struct epoll_event e[8];
    long n = OK(usk_epoll_wait(set, e, 8, 0));
    if (n == 0)
        return -1;
    EQ(n, 1);
    EQ(e[0].events, EPOLLIN);
    EQ(e[0].data.u64 >> 32, e[0].data.u64 & 0xffffffff);
    return (int)(e[0].data.u64 & 0xffffffff);
}

static int next(int set)
{
    struct epoll_event e;
    EQ(OK(usk_epoll_wait(set, &e, 1, -1)), 1);
    return (int)(e.data.u64 & 0xffffffff);
}

struct late {
    int go[2], to;
};

static void *write_late(void *arg)
{
    struct late *late = arg;
    char c;
    OK(read(late->go[0], &c, 1));
    OK(write(late->to, "x", 1));
    return NULL;
}

static void drain(int fd)
{
    char c;
    EQ(read(fd, &c, 1), 1);
}

/* An inner set of a pipe alone: level, edge, one-shot, and a waiter that sleeps when it becomes ready. `extra` is a set
 * between the two, or not. */
static void inner_of_the_kernels(bool between)
{
    int p[2];
    OK(pipe(p));
    int inner = set_new(), outer = set_new(), middle = between ? set_new() : -1;
    add(inner, p[0], EPOLLIN);
    if (between)
        add(middle, inner, EPOLLIN);
    int child = between ? middle : inner;
    add(outer, child, EPOLLIN);
    EQ(now(outer), -1);
    OK(write(p[1], "x", 1));
    EQ(now(outer), child);
    EQ(now(outer), child);
    EQ(ready(outer, POLLIN), POLLIN);
    EQ(now(inner), p[0]);
    drain(p[0]);
    EQ(now(outer), -1);
    EQ(ready(outer, POLLIN), 0);

    struct late late = {.to = p[1]};
    OK(pipe(late.go));
    pthread_t t = spawn(write_late, &late);
    OK(write(late.go[1], "g", 1));
    EQ(next(outer), child);
    join(t);
    drain(p[0]);

    OK(ctl(outer, EPOLL_CTL_MOD, child, EPOLLIN | EPOLLET));
    EQ(now(outer), -1);
    OK(write(p[1], "x", 1));
    EQ(now(outer), child);
    EQ(now(outer), -1);
    drain(p[0]);

    OK(ctl(outer, EPOLL_CTL_MOD, child, EPOLLIN | EPOLLONESHOT));
    OK(write(p[1], "x", 1));
    EQ(now(outer), child);
    drain(p[0]);
    OK(write(p[1], "x", 1));
    EQ(now(outer), -1);
    OK(ctl(outer, EPOLL_CTL_MOD, child, EPOLLIN));
    EQ(now(outer), child);
    ERR(ctl(outer, EPOLL_CTL_ADD, child, EPOLLIN), EEXIST);
    OK(ctl(outer, EPOLL_CTL_DEL, child, 0));
    EQ(now(outer), -1);
    ERR(ctl(outer, EPOLL_CTL_DEL, child, 0), ENOENT);
    ERR(ctl(outer, EPOLL_CTL_MOD, child, EPOLLIN), ENOENT);

    /* Closed, it is out of the outer set. */
    add(outer, child, EPOLLIN);
    EQ(now(outer), child);
    OK(usk_close(child));
    EQ(now(outer), -1);
    if (between)
        OK(usk_close(inner));
    OK(usk_close(outer));
    for (int i = 0; i < 2; i++) {
        OK(close(p[i]));
        OK(close(late.go[i]));
    }
}

/* A socket and a pipe in the inner set: either makes it ready. */
static void inner_of_both(void)
{
    int p[2], t[2];
    OK(pipe(p));
    tcp_pair(AF_INET, t);
    int inner = set_new(), outer = set_new();
    add(outer, inner, EPOLLIN);
    add(inner, p[0], EPOLLIN);
    add(inner, t[0], EPOLLIN);
    EQ(now(outer), -1);
    send_all(t[1], "a", 1);
    await_bytes(t[0], 1);
    EQ(now(outer), inner);
    EXPECT(t[0], "a");
    EQ(now(outer), -1);
    OK(write(p[1], "x", 1));
    EQ(now(outer), inner);
    drain(p[0]);
    EQ(now(outer), -1);
    OK(usk_close(inner));
    OK(usk_close(outer));
    OK(close(p[0]));
    OK(close(p[1]));
    close_pair(t);
}

/* The nesting limit, and that a loop of any length is refused. */
static void depth(void)
{
    int set[8], made = 1;
    set[0] = set_new();
    int p[2];
    OK(pipe(p));
    add(set[0], p[0], EPOLLIN);
    for (; made < 8; made++) {
        set[made] = set_new();
        if (ctl(set[made], EPOLL_CTL_ADD, set[made - 1], EPOLLIN) < 0) {
            EQ(errno, ELOOP);
            OK(usk_close(set[made]));
            break;
        }
        ERR(ctl(set[0], EPOLL_CTL_ADD, set[made], EPOLLIN), ELOOP);
        if (made > 1)
            ERR(ctl(set[1], EPOLL_CTL_ADD, set[made], EPOLLIN), ELOOP);
    }
    EQ(made, 5);
    OK(write(p[1], "x", 1));
    EQ(now(set[made - 1]), set[made - 2]);
    for (int i = 0; i < made; i++)
        OK(usk_close(set[i]));
    OK(close(p[0]));
    OK(close(p[1]));
}

struct cross {
    int into, what;
    long result;
    pthread_barrier_t *start;
};

static void *cross_add(void *arg)
{
    struct cross *c = arg;
    pthread_barrier_wait(c->start);
    c->result = ctl(c->into, EPOLL_CTL_ADD, c->what, EPOLLIN);
    return NULL;
}

/* Two threads put two sets into each other: at most one does. */
static void crossing(void)
{
    for (int round = 0; round < 200; round++) {
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, 2);
        int a = set_new(), b = set_new();
        struct cross c[2] = {{.into = a, .what = b, .start = &start}, {.into = b, .what = a, .start = &start}};
        pthread_t t[2];
        for (int i = 0; i < 2; i++)
            t[i] = spawn(cross_add, &c[i]);
        for (int i = 0; i < 2; i++)
            join(t[i]);
        EQ((c[0].result == 0) + (c[1].result == 0), 1);
        pthread_barrier_destroy(&start);
        OK(usk_close(a));
        OK(usk_close(b));
    }
}

static void *wait_once(void *arg)
{
    int *set = arg;
    return (void *)(intptr_t)next(*set);
}

/* Several threads wait on one set: a level that stays wakes one after the other. */
static void several_threads(void)
{
    int t[2];
    tcp_pair(AF_INET, t);
    int set = set_new();
    add(set, t[0], EPOLLIN);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = spawn(wait_once, &set);
    send_all(t[1], "x", 1);
    for (int i = 0; i < 4; i++) {
        void *got;
        CHECK(pthread_join(threads[i], &got) == 0);
        EQ((intptr_t)got, t[0]);
    }
    EXPECT(t[0], "x");
    OK(usk_close(set));
    close_pair(t);
}

/* The entries of one socket under two numbers: the later one is reported first. For two sockets: the first event
 * first. */
static void order(void)
{
    int t[2], u[2];
    tcp_pair(AF_INET, t);
    tcp_pair(AF_INET, u);
    int set = set_new(), twin = (int)OK(usk_dup(t[0]));
    add(set, t[0], EPOLLIN | EPOLLET);
    add(set, twin, EPOLLIN | EPOLLET);
    add(set, u[0], EPOLLIN | EPOLLET);
    struct epoll_event e[8];
    EQ(OK(usk_epoll_wait(set, e, 8, 0)), 0);
    send_all(u[1], "b", 1);
    await_bytes(u[0], 1);
    send_all(t[1], "a", 1);
    await_bytes(t[0], 1);
    EQ(OK(usk_epoll_wait(set, e, 8, 0)), 3);
    EQ(e[0].data.u64 & 0xffffffff, u[0]);
    EQ(e[1].data.u64 & 0xffffffff, twin);
    EQ(e[2].data.u64 & 0xffffffff, t[0]);
    OK(usk_close(set));
    OK(usk_close(twin));
    close_pair(t);
    close_pair(u);
}

/* A number that is used again beside an old entry of the same number, which a duplicate keeps alive. */
static void number_used_again(void)
{
    int t[2], u[2];
    tcp_pair(AF_INET, t);
    int set = set_new(), number = t[0];
    add(set, number, EPOLLIN);
    int twin = (int)OK(usk_dup(number));
    OK(usk_close(number));
    udp_pair(AF_INET, u);
    EQ(u[0], number); /* the lowest free one */
    EQ(ctl(set, EPOLL_CTL_ADD, number, EPOLLIN), 0);
    send_all(t[1], "x", 1);
    await_bytes(twin, 1);
    OK(usk_send(u[1], "y", 1, 0));
    EQ(await(number, POLLIN), POLLIN);
    struct epoll_event e[4];
    EQ(OK(usk_epoll_wait(set, e, 4, 0)), 2);
    OK(ctl(set, EPOLL_CTL_DEL, number, 0));
    EQ(OK(usk_epoll_wait(set, e, 4, 0)), 1);
    OK(usk_close(twin));
    EQ(OK(usk_epoll_wait(set, e, 4, 0)), 0);
    OK(usk_close(set));
    OK(usk_close(t[1]));
    close_pair(u);
}

/* EPOLLEXCLUSIVE: if no thread waits in the first set, a waiter in the second is woken. */
static void exclusive(void)
{
    int u[2];
    udp_pair(AF_INET, u);
    int first = set_new(), second = set_new();
    add(first, u[0], EPOLLIN | EPOLLEXCLUSIVE);
    add(second, u[0], EPOLLIN | EPOLLEXCLUSIVE);
    ERR(ctl(first, EPOLL_CTL_MOD, u[0], EPOLLIN), EINVAL);
    pthread_t t = spawn(wait_once, &second);
    OK(usk_send(u[1], "x", 1, 0));
    void *got;
    CHECK(pthread_join(t, &got) == 0);
    EQ((intptr_t)got, u[0]);
    EXPECT(u[0], "x");
    OK(usk_close(first));
    OK(usk_close(second));
    close_pair(u);
}

int main(void)
{
    begin("epoll_nested");
    inner_of_the_kernels(false);
    inner_of_the_kernels(true);
    inner_of_both();
    depth();
    crossing();
    several_threads();
    order();
    number_used_again();
    exclusive();
    return done();
}

/* fork(2) while other threads are in every kind of call: no lock that one of them holds stops the child. Each child
 * makes a stack, exchanges a byte, closes what it inherited and exits; the parent's threads are not affected. argv[1]:
 * how many forks. */
#include "common.h"
#include <sys/wait.h>

static volatile int ended;
static int listening;
static struct addr server;

static void *streams(void *arg)
{
    int fd[2];
    (void)arg;
    tcp_pair(AF_INET, fd);
    for (uint64_t i = 0; !ended; i++) {
        unsigned char out[500], in[500];
        for (size_t k = 0; k < sizeof out; k++)
            out[k] = pattern(i, k);
        send_all(fd[0], out, sizeof out);
        EQ(recv_all(fd[1], in, sizeof in), sizeof in);
        CHECK(memcmp(in, out, sizeof in) == 0);
    }
    close_pair(fd);
    return NULL;
}

static void *server_side(void *arg)
{
    (void)arg;
    char b;
    for (;;) {
        int a = (int)OK(usk_accept(listening, NULL, NULL));
        long n = OK(usk_recv(a, &b, 1, 0));
        OK(usk_close(a));
        if (n == 0)
            return NULL;
    }
}

static void *client_side(void *arg)
{
    (void)arg;
    while (!ended) {
        int c = connected(SOCK_STREAM, server);
        send_all(c, "c", 1);
        EXPECT_EOF(c);
        OK(usk_close(c));
    }
    /* A connection without a byte ends the server. */
    OK(usk_close(connected(SOCK_STREAM, server)));
    return NULL;
}

static void *polls(void *arg)
{
    int fd[2];
    (void)arg;
    udp_pair(AF_INET, fd);
    while (!ended) {
        int ep = (int)OK(usk_epoll_create1(0)), d = (int)OK(usk_dup(fd[0]));
        struct epoll_event ev = {.events = EPOLLIN};
        OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, d, &ev));
        EQ(ready(d, POLLIN), 0);
        EQ(usk_send(fd[1], "x", 1, 0), 1);
        EQ(usk_epoll_wait(ep, &ev, 1, -1), 1);
        EQ(await(d, POLLIN), POLLIN);
        EXPECT(d, "x");
        OK(usk_close(ep));
        OK(usk_close(d));
        usk_stack_t *s = usk_stack_new("");
        CHECK(s);
        usk_stack_free(s);
    }
    close_pair(fd);
    return NULL;
}

/* The child's whole life. `exit` now and then, which runs what libraries registered for it. */
static void life(int n)
{
    alarm(120);
    int fd[2];
    char b;
    ERR(usk_recv(listening, &b, 1, 0), ENETDOWN);
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "x", 1);
    EXPECT(fd[1], "x");
    send_all(fd[1], "y", 1);
    EXPECT(fd[0], "y");
    close_pair(fd);
    for (int i = 3; i < 100; i++)
        usk_close(i);
    if (n % 2 && !failures)
        exit(0);
    _exit(failures ? 1 : 0);
}

int main(int argc, char **argv)
{
    begin("fork_threads");
    int forks = argc > 1 ? atoi(argv[1]) : 300;
    listening = listener(local(AF_INET), 16);
    server = sock_name(listening);
    void *(*const bodies[])(void *) = {streams, streams, server_side, client_side, polls, polls};
    pthread_t t[COUNT(bodies)];
    for (int i = 0; i < COUNT(bodies); i++)
        t[i] = spawn(bodies[i], NULL);
    fflush(stdout);
    for (int n = 0; n < forks && !failures; n++) {
        pid_t pid = (pid_t)OK(fork());
        if (pid == 0)
            life(n);
        int status = 0;
        EQ(waitpid(pid, &status, 0), pid);
        EQ(status, 0);
        alarm(CASE_ALARM_SECONDS);
    }
    ended = 1;
    for (int i = 0; i < COUNT(bodies); i++)
        join(t[i]);
    return done();
}

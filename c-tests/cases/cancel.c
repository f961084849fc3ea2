/* Thread cancellation: every call that may wait is a cancellation point (pthreads(7)), whether it waits or not; and a
 * cancelled thread leaks no descriptor, no lock and no data. */
#include "common.h"

/* The oracle's calls are libc's here, since a raw system call is no cancellation point. */
#ifdef UNMODIFIED
#define CALL(name) name
#else
#define CALL(name) usk_##name
#endif

static int idle_tcp[2], full_tcp[2], udp_fd, listen_fd, epoll_fd, pipe_fd[2];
static char byte;

static struct iovec one = {.iov_base = &byte, .iov_len = 1};

static long op_recv(void) { return CALL(recv)(idle_tcp[0], &byte, 1, 0); }
static long op_recv_udp(void) { return CALL(recv)(udp_fd, &byte, 1, 0); }
static long op_recvfrom(void) { return CALL(recvfrom)(idle_tcp[0], &byte, 1, 0, NULL, NULL); }
static long op_read(void) { return CALL(read)(idle_tcp[0], &byte, 1); }
static long op_readv(void) { return CALL(readv)(idle_tcp[0], &one, 1); }
static long op_recvmsg(void)
{
    struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1};
    return CALL(recvmsg)(udp_fd, &m, 0);
}
static long op_recvmmsg(void)
{
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &one, .msg_iovlen = 1}};
    return CALL(recvmmsg)(udp_fd, &m, 1, 0, NULL);
}
static long op_accept(void) { return CALL(accept)(listen_fd, NULL, NULL); }
static long op_accept4(void) { return CALL(accept4)(listen_fd, NULL, NULL, SOCK_CLOEXEC); }
static long op_send(void) { return CALL(send)(full_tcp[0], "x", 1, MSG_NOSIGNAL); }
static long op_sendto(void) { return CALL(sendto)(full_tcp[0], "x", 1, MSG_NOSIGNAL, NULL, 0); }
static long op_write(void) { return CALL(write)(full_tcp[0], "x", 1); }
static long op_writev(void) { return CALL(writev)(full_tcp[0], &one, 1); }
static long op_sendmsg(void)
{
    struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1};
    return CALL(sendmsg)(full_tcp[0], &m, MSG_NOSIGNAL);
}
static long op_poll(void)
{
    struct pollfd p[] = {{.fd = idle_tcp[0], .events = POLLIN}, {.fd = udp_fd, .events = POLLIN}};
    return CALL(poll)(p, 2, -1);
}
static long op_poll_timeout(void)
{
    struct pollfd p = {.fd = pipe_fd[0], .events = POLLIN};
    return CALL(poll)(&p, 1, 1000000);
}
static long op_ppoll(void)
{
    struct pollfd p[] = {{.fd = idle_tcp[0], .events = POLLIN}, {.fd = pipe_fd[0], .events = POLLIN}};
    return CALL(ppoll)(p, 2, NULL, NULL);
}
static long op_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(idle_tcp[0], &set);
    return CALL(select)(idle_tcp[0] + 1, &set, NULL, NULL, NULL);
}
static long op_epoll_wait(void)
{
    struct epoll_event e;
    return CALL(epoll_wait)(epoll_fd, &e, 1, -1);
}
static long op_epoll_pwait(void)
{
    struct epoll_event e;
    sigset_t none;
    sigemptyset(&none);
    return CALL(epoll_pwait)(epoll_fd, &e, 1, -1, &none);
}
/* Descriptors of the kernel's, through the same calls. */
static long op_read_pipe(void) { return CALL(read)(pipe_fd[0], &byte, 1); }
static long op_splice(void) { return CALL(splice)(idle_tcp[0], NULL, pipe_fd[1], NULL, 1, 0); }

/* Calls that do not wait are cancelled too if a cancellation is pending. */
static long op_send_at_once(void) { return CALL(send)(idle_tcp[0], "x", 1, MSG_NOSIGNAL); }
static long op_recv_at_once(void) { return CALL(recv)(udp_fd, &byte, 1, MSG_DONTWAIT); }

static const struct op {
    const char *name;
    long (*call)(void);
    bool waits;
} ops[] = {
    {"recv", op_recv, true},
    {"recv of a datagram", op_recv_udp, true},
    {"recvfrom", op_recvfrom, true},
    {"recvmsg", op_recvmsg, true},
    {"recvmmsg", op_recvmmsg, true},
    {"read", op_read, true},
    {"readv", op_readv, true},
    {"accept", op_accept, true},
    {"accept4", op_accept4, true},
    {"send", op_send, true},
    {"sendto", op_sendto, true},
    {"sendmsg", op_sendmsg, true},
    {"write", op_write, true},
    {"writev", op_writev, true},
    {"poll", op_poll, true},
    {"poll with a timeout", op_poll_timeout, true},
    {"ppoll", op_ppoll, true},
    {"select", op_select, true},
    {"epoll_wait", op_epoll_wait, true},
    {"epoll_pwait", op_epoll_pwait, true},
    {"read of a pipe", op_read_pipe, true},
    {"splice", op_splice, true},
    {"send that has room", op_send_at_once, false},
    {"recv that must not wait", op_recv_at_once, false},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stage, cleaned, returned;
static pid_t thread_id;

static void reach(int s)
{
    pthread_mutex_lock(&lock);
    stage = s;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_for(int s)
{
    pthread_mutex_lock(&lock);
    while (stage < s)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

/* Clean-up handlers use sockets as anybody does, and wait for them. */
static void clean(void *arg)
{
    (void)arg;
    int fd[2];
    char c = 0;
    udp_pair(AF_INET, fd);
    OK(usk_send(fd[0], "x", 1, 0));
    EQ(await(fd[1], POLLIN), POLLIN);
    EQ(usk_recv(fd[1], &c, 1, 0), 1);
    EQ(c, 'x');
    close_pair(fd);
    cleaned++;
}

struct run {
    const struct op *op;
    bool before; /* the cancellation is pending before the call */
};

static void *body(void *arg)
{
    struct run *run = arg;
    int old;
    pthread_cleanup_push(clean, NULL);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    thread_id = (pid_t)syscall(SYS_gettid);
    reach(1);
    if (run->before)
        wait_for(2);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
    run->op->call();
    returned++;
    pthread_cleanup_pop(0);
    return NULL;
}

/* Waits until the thread sleeps in a system call. It may be an earlier one than the call under test: this only makes it
 * likely where the cancellation arrives, and nothing depends on it. */
static void until_asleep(void)
{
    while (!sleeps(thread_id))
        sched_yield();
}

static void cancelled_in(const struct op *op, bool before)
{
    struct run run = {.op = op, .before = before};
    stage = cleaned = returned = 0;
    int lowest = (int)OK(usk_dup(0));
    OK(usk_close(lowest));
    pthread_t t = spawn(body, &run);
    wait_for(1);
    if (!before)
        until_asleep();
    CHECK(pthread_cancel(t) == 0);
    if (before)
        reach(2);
    void *result = NULL;
    CHECK(pthread_join(t, &result) == 0);
    if (result != PTHREAD_CANCELED || cleaned != 1 || returned != 0)
        complain(__FILE__, __LINE__, op->name, "not cancelled", before ? "before the call" : "in the call");
    int free_number = (int)OK(usk_dup(0));
    OK(usk_close(free_number));
    EQ(free_number, lowest);
}

/* Everything still works, and no cancelled thread has consumed data. */
static void whole(void)
{
    send_all(idle_tcp[1], "a", 1);
    EXPECT(idle_tcp[0], "a");
    struct addr to = sock_name(udp_fd);
    int u = connected(SOCK_DGRAM, to);
    OK(usk_send(u, "b", 1, 0));
    EXPECT(udp_fd, "b");
    OK(usk_close(u));
    int c = connected(SOCK_STREAM, sock_name(listen_fd));
    int a = (int)OK(usk_accept(listen_fd, NULL, NULL));
    send_all(c, "c", 1);
    EXPECT(a, "c");
    OK(usk_close(c));
    OK(usk_close(a));
    OK(write(pipe_fd[1], "d", 1));
    char got;
    EQ(OK(read(pipe_fd[0], &got, 1)), 1);
    EQ(got, 'd');
}

/* A thread with cancellation disabled finishes its call. */
static void *disabled(void *arg)
{
    (void)arg;
    int old;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
    thread_id = (pid_t)syscall(SYS_gettid);
    reach(1);
    EXPECT(idle_tcp[0], "later");
    return &byte;
}

static void not_where_disabled(void)
{
    stage = 0;
    pthread_t t = spawn(disabled, NULL);
    wait_for(1);
    until_asleep();
    CHECK(pthread_cancel(t) == 0);
    send_all(idle_tcp[1], "later", 5);
    void *result = NULL;
    CHECK(pthread_join(t, &result) == 0);
    CHECK(result == &byte);
}

int main(void)
{
    begin("cancel");
    tcp_pair(AF_INET, idle_tcp);
    tcp_pair(AF_INET6, full_tcp);
    (void)fill_up(full_tcp[0]);
    udp_fd = bound(SOCK_DGRAM, local(AF_INET));
    listen_fd = listener(local(AF_INET), 8);
    epoll_fd = (int)OK(usk_epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    OK(usk_epoll_ctl(epoll_fd, EPOLL_CTL_ADD, idle_tcp[0], &e));
    OK(pipe(pipe_fd));
    signal(SIGPIPE, SIG_IGN);
    whole();
    for (int i = 0; i < COUNT(ops); i++) {
        cancelled_in(&ops[i], true);
        if (ops[i].waits)
            cancelled_in(&ops[i], false);
    }
    whole();
    not_where_disabled();
    for (int i = 0; i < COUNT(ops); i++)
        if (ops[i].waits)
            cancelled_in(&ops[i], false);
    whole();
    return done();
}

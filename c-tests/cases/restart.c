/* A signal in a call that waits: with SA_RESTART the calls of signal(7)'s list are restarted, without it they return
 * EINTR; poll, select and epoll always return EINTR, and so do sockets with a timeout. Where handlers of both kinds are
 * installed, which of them ran is what counts. */
#include "waits.h"

static int udp_fd;

static long op_readv(void) { return usk_readv(tcp[0], &one, 1); }
static long op_recv_udp(void) { return usk_recv(udp_fd, &byte, 1, 0); }
static long op_recvfrom_udp(void)
{
    struct addr from = {.len = sizeof from.storage};
    return usk_recvfrom(udp_fd, &byte, 1, 0, &from.sa, &from.len);
}
static long op_accept(void)
{
    int fd = usk_accept(listen_fd, NULL, NULL);
    return fd < 0 ? -1 : (OK(usk_close(fd)), 1);
}
static long op_writev(void) { return usk_writev(full_tcp[0], &one, 1); }
static long op_ppoll(void)
{
    struct pollfd p = {.fd = tcp[0], .events = POLLIN};
    struct timespec long_time = {.tv_sec = 1000};
    return usk_ppoll(&p, 1, &long_time, NULL);
}

static void give_tcp(void) { send_all(tcp[1], "a", 1); }
static void take_tcp(void) { EQ(usk_recv(tcp[0], &byte, 1, MSG_DONTWAIT), 1); }
static void give_udp(void)
{
    int u = connected(SOCK_DGRAM, sock_name(udp_fd));
    OK(usk_send(u, "b", 1, 0));
    OK(usk_close(u));
}
static void give_connection(void) { OK(usk_close(connected(SOCK_STREAM, sock_name(listen_fd)))); }

static bool over(void);

/* Reads until the sender has gone on. */
static void give_room(void)
{
    struct pollfd p = {.fd = full_tcp[1], .events = POLLIN};
    while (!over())
        if (usk_recv(full_tcp[1], block, sizeof block, MSG_DONTWAIT) <= 0)
            usk_poll(&p, 1, 1);
}

static void nothing(void) {}

static const struct op {
    const char *name;
    long (*call)(void);
    bool restarts;
    void (*give)(void);  /* what the call waits for */
    void (*after)(void); /* takes what the call left */
} ops[] = {
    {"recv", op_recv, true, give_tcp, nothing},
    {"recvmsg", op_recvmsg, true, give_tcp, nothing},
    {"read", op_read, true, give_tcp, nothing},
    {"readv", op_readv, true, give_tcp, nothing},
    {"recv of a datagram", op_recv_udp, true, give_udp, nothing},
    {"recvfrom of a datagram", op_recvfrom_udp, true, give_udp, nothing},
    {"accept", op_accept, true, give_connection, nothing},
    {"send", op_send, true, give_room, refill},
    {"writev", op_writev, true, give_room, refill},
    {"poll", op_poll, false, give_tcp, take_tcp},
    {"ppoll", op_ppoll, false, give_tcp, take_tcp},
    {"select", op_select, false, give_tcp, take_tcp},
    {"epoll_wait", op_epoll_wait, false, give_tcp, take_tcp},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int stage, finished;
static pid_t thread_id;
static volatile sig_atomic_t handled;

static void handler(int signal)
{
    (void)signal;
    handled++;
}

static void install(int signal, int flags)
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&a.sa_mask);
    OK(sigaction(signal, &a, NULL));
}

struct run {
    long (*call)(void);
    long result;
    int error;
};

static void *body(void *arg)
{
    struct run *run = arg;
    pthread_mutex_lock(&lock);
    thread_id = (pid_t)syscall(SYS_gettid);
    stage = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    errno = 0;
    run->result = run->call();
    run->error = errno;
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    return NULL;
}

static pthread_t begin_call(struct run *run)
{
    stage = 0;
    __atomic_store_n(&finished, 0, __ATOMIC_RELEASE);
    pthread_t t = spawn(body, run);
    pthread_mutex_lock(&lock);
    while (stage < 1)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return t;
}

static bool over(void)
{
    return __atomic_load_n(&finished, __ATOMIC_ACQUIRE);
}

/* Waits until the thread is seen sleeping several times in a row, so that it is most likely in the call under test; or
 * until that is over. */
static void until_asleep(void)
{
    for (int asleep = 0; asleep < 10 && !over();) {
        poll(NULL, 0, 1);
        asleep = sleeps(thread_id) ? asleep + 1 : 0;
    }
}

/* The signal reaches the thread, and its handler runs there. */
static void interrupt(pthread_t t, int signal)
{
    int before = handled;
    CHECK(pthread_kill(t, signal) == 0);
    while (handled == before && !over())
        sched_yield();
}

/* Interrupts until the call returns: on a busy machine the thread may have slept before the call, or been on its way to
 * sleep. */
static void end_by(pthread_t t, int signal)
{
    while (!over()) {
        until_asleep();
        interrupt(t, signal);
        for (int i = 0; i < 1000 && !over(); i++)
            poll(NULL, 0, 1);
    }
}

static void complain_of(const char *name, const char *what, const struct run *run)
{
    char got[96];
    snprintf(got, sizeof got, "%ld %s", run->result, run->result < 0 ? errno_name(run->error) : "");
    complain(__FILE__, __LINE__, name, got, what);
}

static void interrupted(const struct op *op, int signal, bool restarts)
{
    struct run run = {.call = op->call};
    pthread_t t = begin_call(&run);
    if (restarts) {
        for (int i = 0; i < 2; i++) {
            until_asleep();
            interrupt(t, signal);
        }
        until_asleep();
        op->give();
    } else {
        end_by(t, signal);
    }
    join(t);
    if (restarts) {
        if (run.result != 1)
            complain_of(op->name, "1 after SA_RESTART", &run);
        op->after();
    } else if (run.result != -1 || run.error != EINTR)
        complain_of(op->name, signal == SIGUSR1 ? "EINTR in spite of SA_RESTART" : "EINTR", &run);
}

static void set_timeout(int fd, int name, int seconds)
{
    struct timeval t = {.tv_sec = seconds};
    OK(usk_setsockopt(fd, SOL_SOCKET, name, &t, sizeof t));
}

/* A call on a socket with a timeout is never restarted. */
static void timeouts(void)
{
    set_timeout(tcp[0], SO_RCVTIMEO, 1000);
    set_timeout(udp_fd, SO_RCVTIMEO, 1000);
    set_timeout(listen_fd, SO_RCVTIMEO, 1000);
    set_timeout(full_tcp[0], SO_SNDTIMEO, 1000);
    for (int i = 0; i < COUNT(ops); i++)
        interrupted(&ops[i], SIGUSR1, false);
    set_timeout(tcp[0], SO_RCVTIMEO, 0);
    set_timeout(udp_fd, SO_RCVTIMEO, 0);
    set_timeout(listen_fd, SO_RCVTIMEO, 0);
    set_timeout(full_tcp[0], SO_SNDTIMEO, 0);
}

static long op_waitall(void)
{
    char three[3];
    return usk_recv(tcp[0], three, sizeof three, MSG_WAITALL);
}

/* Bytes that were read already are returned, with SA_RESTART too. */
static void part(void)
{
    send_all(tcp[1], "ab", 2);
    struct run run = {.call = op_waitall};
    pthread_t t = begin_call(&run);
    end_by(t, SIGUSR1);
    join(t);
    if (run.result != 2)
        complain_of("recv with MSG_WAITALL", "the 2 bytes that are there", &run);
}

static FILE *out;
static long op_fflush(void) { return fflush(out); }
static long op_fclose(void) { return fclose(out); }

/* What a stream writes waits again after a handler with SA_RESTART, at its end too: nothing is lost. */
static void streams(void)
{
    static long (*const ends[])(void) = {op_fflush, op_fclose};
    enum { BYTES = 1000 };
    out = usk_fdopen((int)OK(usk_dup(full_tcp[0])), "w");
    CHECK(out);
    for (int i = 0; i < COUNT(ends); i++) {
        refill();
        for (int b = 0; b < BYTES; b++)
            EQ(fputc('a' + i, out), 'a' + i);
        struct run run = {.call = ends[i]};
        pthread_t t = begin_call(&run);
        for (int n = 0; n < 2; n++) {
            until_asleep();
            interrupt(t, SIGUSR1);
        }
        until_asleep();
        CHECK(!over());
        long got = 0;
        while (got < BYTES) {
            long n = OK(usk_recv(full_tcp[1], block, sizeof block, 0));
            for (long b = 0; b < n; b++)
                got += block[b] == 'a' + i;
        }
        EQ(got, BYTES);
        join(t);
        if (run.result != 0)
            complain_of(i ? "fclose" : "fflush", "0 after SA_RESTART", &run);
    }
    refill();
}

#ifndef ON_SERVER /* at whose listener no connection waits for long */
static int connecting_fd;
static struct addr connect_to;
static long op_connect(void) { return usk_connect(connecting_fd, &connect_to.sa, connect_to.len); }

/* connect waits again; and after EINTR the attempt goes on without it. */
static void connects(void)
{
    int l = listener(local(AF_INET), 0);
    connect_to = sock_name(l);
    int queued = connected(SOCK_STREAM, connect_to);
    connecting_fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct run run = {.call = op_connect};
    pthread_t t = begin_call(&run);
    until_asleep();
    interrupt(t, SIGUSR1);
    until_asleep();
    OK(usk_close((int)OK(usk_accept(l, NULL, NULL))));
    join(t);
    if (run.result != 0)
        complain_of("connect", "0 after SA_RESTART", &run);
    OK(usk_close(queued));
    OK(usk_close(connecting_fd));
    OK(usk_close((int)OK(usk_accept(l, NULL, NULL))));

    queued = connected(SOCK_STREAM, connect_to);
    connecting_fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    t = begin_call(&run);
    end_by(t, SIGUSR2);
    join(t);
    if (run.result != -1 || run.error != EINTR)
        complain_of("connect", "EINTR", &run);
    OK(usk_close((int)OK(usk_accept(l, NULL, NULL))));
    EQ(await(connecting_fd, POLLOUT) & POLLOUT, POLLOUT);
    EQ(so_error(connecting_fd), 0);
    OK(usk_close(queued));
    OK(usk_close(connecting_fd));
    OK(usk_close(l));
}
#endif

int main(void)
{
    begin("restart");
    open_waits();
    udp_fd = bound(SOCK_DGRAM, local(AF_INET));
    /* With handlers of one kind alone, each of the two. */
    install(SIGUSR1, SA_RESTART);
    for (int i = 0; i < COUNT(ops); i++)
        interrupted(&ops[i], SIGUSR1, ops[i].restarts);
    install(SIGUSR1, 0);
    for (int i = 0; i < COUNT(ops); i++)
        interrupted(&ops[i], SIGUSR1, false);
    /* With both. */
    install(SIGUSR1, SA_RESTART);
    install(SIGUSR2, 0);
    interrupted(&ops[0], SIGUSR2, false);
    for (int i = 0; i < COUNT(ops); i++) {
        interrupted(&ops[i], SIGUSR1, ops[i].restarts);
        interrupted(&ops[i], SIGUSR2, false);
    }
    part();
    streams();
    timeouts();
#ifndef ON_SERVER
    connects();
#endif
    return done();
}

/* Handlers of signals run at the end of a call: one that jumps out of a call that waits (siglongjmp(3)) leaves nothing
 * of the call behind, and one may make calls itself, on the same socket too. */
#include "waits.h"
#include <setjmp.h>
#include <ucontext.h>

static int full_listen_fd, connecting_fd;

static long op_accept(void) { return usk_accept(listen_fd, NULL, NULL); }
static UNUSED long op_connect(void)
{
    struct addr to = sock_name(full_listen_fd);
    return usk_connect(connecting_fd, &to.sa, to.len);
}
static long op_ppoll(void)
{
    struct pollfd p = {.fd = tcp[0], .events = POLLIN};
    sigset_t none;
    sigemptyset(&none);
    return usk_ppoll(&p, 1, NULL, &none);
}
/* With a mask that has what no mask can have. */
static long op_ppoll_all_but_one(void)
{
    struct pollfd p = {.fd = tcp[0], .events = POLLIN};
    sigset_t others;
    sigfillset(&others);
    sigdelset(&others, SIGUSR1);
    return usk_ppoll(&p, 1, NULL, &others);
}

static const struct op {
    const char *name;
    long (*call)(void);
} ops[] = {
    {"recv", op_recv}, {"recvmsg", op_recvmsg}, {"read", op_read},   {"accept", op_accept},         {"send", op_send},
    {"poll", op_poll}, {"ppoll", op_ppoll},     {"select", op_select}, {"epoll_wait", op_epoll_wait},
#ifndef ON_SERVER /* at whose listener no connection waits for long */
    {"connect", op_connect},
#endif
};

static pid_t main_thread;
static pthread_t main_pthread;
enum { NOT_YET, IN_CALL, OVER };
static int stage;
static void set_stage(int now) { __atomic_store_n(&stage, now, __ATOMIC_RELEASE); }

/* Sends the signal to the main thread once it sleeps in the call, if it does. */
static void *send_when_asleep(void *signal)
{
    for (int asleep = 0; asleep < 10;) {
        poll(NULL, 0, 1);
        int now = __atomic_load_n(&stage, __ATOMIC_ACQUIRE);
        if (now == OVER)
            return NULL;
        asleep = now == IN_CALL && sleeps(main_thread) ? asleep + 1 : 0;
    }
    union sigval value = {.sival_int = 77};
    CHECK(pthread_sigqueue(main_pthread, *(int *)signal, value) == 0);
    return NULL;
}

static sigset_t mask_now(void)
{
    sigset_t now;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
    return now;
}

static void install(int signal, void (*handler)(int), int flags)
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&a.sa_mask);
    OK(sigaction(signal, &a, NULL));
    OK(sigaction(signal, NULL, &old));
    CHECK(old.sa_handler == handler);
    EQ((int)(old.sa_flags & (SA_RESTART | SA_SIGINFO | SA_RESETHAND | SA_NODEFER)), flags);
}

static sigjmp_buf back;
static volatile int jumps;

static void jump(int signal)
{
    (void)signal;
    jumps++;
    siglongjmp(back, 1);
}

static void jump_out_of(const struct op *op)
{
    int signal = SIGUSR1;
    sigset_t before = mask_now();
    volatile int jumped = jumps;
    set_stage(NOT_YET);
    pthread_t t = spawn(send_when_asleep, &signal);
    if (sigsetjmp(back, 1) == 0) {
        set_stage(IN_CALL);
        long r = op->call();
        char got[64];
        snprintf(got, sizeof got, "%ld %s", r, errno_name(errno));
        complain(__FILE__, __LINE__, op->name, got, "a jump");
    }
    set_stage(OVER);
    join(t);
    EQ(jumps, jumped + 1);
    sigset_t after = mask_now();
    CHECK(memcmp(&before, &after, 8) == 0);
}

static void *recv_byte(void *unused)
{
    (void)unused;
    EQ(usk_recv(tcp[0], &byte, 1, 0), 1);
    return NULL;
}

/* What was jumped out of goes on, in this thread and another, and what it used can be closed. */
static void goes_on(void)
{
    struct addr to = sock_name(listen_fd);
    for (int i = 0; i < COUNT(ops) - 4; i++)
        send_all(tcp[1], "a", 1);
    EQ(op_poll(), 1);
    EQ(op_select(), 1);
    EQ(op_epoll_wait(), 1);
    EQ(op_recv(), 1);
    EQ(op_recvmsg(), 1);
    EQ(op_read(), 1);
    join(spawn(recv_byte, NULL));
    while (usk_recv(tcp[0], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
    pthread_t t = spawn(recv_byte, NULL);
    send_all(tcp[1], "b", 1);
    join(t);
    int c = connected(SOCK_STREAM, to);
    OK(usk_close((int)OK(op_accept())));
    OK(usk_close(c));
}

static void closes(void)
{
    struct addr to = sock_name(listen_fd);
    OK(usk_close(tcp[0]));
    EQ(usk_recv(tcp[1], &byte, 1, 0), 0);
    OK(usk_close(tcp[1]));
    OK(usk_close(listen_fd));
    int c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(c, &to.sa, to.len), ECONNREFUSED);
    OK(usk_close(c));
    /* The last bytes and the end arrive as the reader makes room. */
    OK(usk_close(full_tcp[0]));
    long n;
    while ((n = usk_recv(full_tcp[1], block, sizeof block, 0)) > 0)
        ;
    EQ(n, 0);
    OK(usk_close(full_tcp[1]));
    OK(usk_close(connecting_fd));
    OK(usk_close(full_listen_fd));
    OK(usk_close(epoll_fd));
}

/* Jumps at any moment of calls that do not wait. */
static void storm(void)
{
    enum { JUMPS = 60 };
    int pair[2];
    tcp_pair(AF_INET, pair);
    install(SIGPROF, jump, 0);
    struct itimerval often = {{.tv_usec = 2000}, {.tv_usec = 2000}};
    struct itimerval never = {.it_value = {0}};
    jumps = 0;
    int *volatile ends = pair;
    OK(setitimer(ITIMER_PROF, &often, NULL));
    sigsetjmp(back, 1);
    while (jumps < JUMPS) {
        send_all(ends[0], "c", 1);
        EQ(usk_recv(ends[1], &byte, 1, 0), 1);
        struct pollfd p = {.fd = ends[1], .events = POLLIN};
        OK(usk_poll(&p, 1, 0));
    }
    sigset_t prof;
    sigemptyset(&prof);
    sigaddset(&prof, SIGPROF);
    /* A last one may come before. */
    if (sigsetjmp(back, 1) == 0)
        CHECK(pthread_sigmask(SIG_BLOCK, &prof, NULL) == 0);
    OK(setitimer(ITIMER_PROF, &never, NULL));
    OK(usk_close(ends[0]));
    long n;
    while ((n = usk_recv(ends[1], block, sizeof block, 0)) > 0)
        ;
    EQ(n, 0);
    OK(usk_close(ends[1]));
}

static volatile int ran, value, blocked;

static void informed(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    ran++;
    value = info->si_code == SI_QUEUE ? info->si_value.sival_int : -1;
    sigset_t now = mask_now();
    blocked = sigismember(&now, SIGUSR1) * 4 + sigismember(&now, SIGUSR2) * 2 + sigismember(&now, SIGHUP);
}

static void handler(int signal)
{
    (void)signal;
    ran++;
}

/* Its own calls are on the socket of the call that it interrupts. */
static void calling(int signal)
{
    (void)signal;
    int error = errno;
    struct pollfd p = {.fd = tcp[0], .events = POLLIN};
    EQ(usk_poll(&p, 1, 0), 0);
    OK(usk_send(tcp[1], "d", 1, 0));
    EQ(usk_recv(tcp[0], &byte, 1, 0), 1);
    OK(usk_send(tcp[1], "e", 1, 0));
    ran++;
    errno = error;
}

/* The mask that the thread is to have after it. */
static void editing(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGHUP);
    ran++;
}

static int order[64];

static void ordered(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    order[ran++] = info->si_value.sival_int;
}

static void install_informed(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigemptyset(&a.sa_mask);
    OK(sigaction(signal, &a, NULL));
}

static long with_signal(int signal, long (*call)(void))
{
    ran = 0;
    set_stage(NOT_YET);
    pthread_t t = spawn(send_when_asleep, &signal);
    set_stage(IN_CALL);
    long r = call();
    int error = errno;
    set_stage(OVER);
    join(t);
    EQ(ran, 1);
    errno = error;
    return r;
}

static void handlers(void)
{
    /* What a handler learns: of the signal, and the mask in which it runs. */
    struct sigaction a = {.sa_sigaction = informed, .sa_flags = SA_SIGINFO};
    sigemptyset(&a.sa_mask);
    sigaddset(&a.sa_mask, SIGHUP);
    OK(sigaction(SIGUSR1, &a, NULL));
    ERR(with_signal(SIGUSR1, op_recv), EINTR);
    EQ(value, 77);
    EQ(blocked, 5);
    /* One that only the mask of the call lets in. */
    sigset_t both, before = mask_now();
    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &both, NULL) == 0);
    ERR(with_signal(SIGUSR1, op_ppoll), EINTR);
    EQ(blocked, 5);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    /* One that runs once. */
    install(SIGUSR1, handler, SA_RESETHAND);
    ERR(with_signal(SIGUSR1, op_recv), EINTR);
    struct sigaction old;
    OK(sigaction(SIGUSR1, NULL, &old));
    CHECK(old.sa_handler == SIG_DFL);
    /* The call is made again after the handler, which has sent it a byte. */
    install(SIGUSR1, calling, SA_RESTART);
    EQ(with_signal(SIGUSR1, op_recv), 1);
    EQ(byte, 'e');
    install(SIGUSR1, calling, SA_NODEFER);
    ERR(with_signal(SIGUSR1, op_recv), EINTR);
    EQ(op_recv(), 1);
}

/* What a handler writes to the mask that its end restores holds after the call, of one with a mask of its own too. */
static void edited_masks(void)
{
    sigset_t some, before = mask_now(), now;
    install_informed(SIGUSR1, editing);
    static long (*const calls[])(void) = {op_recv, op_ppoll, op_ppoll_all_but_one};
    for (int i = 0; i < COUNT(calls); i++) {
        sigemptyset(&some);
        sigaddset(&some, SIGUSR1);
        CHECK(pthread_sigmask(i ? SIG_BLOCK : SIG_UNBLOCK, &some, NULL) == 0);
        ERR(with_signal(SIGUSR1, calls[i]), EINTR);
        now = mask_now();
        EQ(sigismember(&now, SIGHUP), 1);
        EQ(sigismember(&now, SIGUSR1), i > 0);
        EQ(sigismember(&now, SIGUSR2), 0);
        CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    }
    /* Of two that the call lets in, the first to come is the last to end. */
    install_informed(SIGUSR2, editing);
    sigaddset(&some, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &some, NULL) == 0);
    CHECK(pthread_kill(main_pthread, SIGUSR1) == 0 && pthread_kill(main_pthread, SIGUSR2) == 0);
    ran = 0;
    ERR(op_ppoll(), EINTR);
    EQ(ran, 2);
    now = mask_now();
    EQ(sigismember(&now, SIGHUP) + sigismember(&now, SIGUSR1) + sigismember(&now, SIGUSR2), 3);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

static bool to_thread(int i) { return pthread_sigqueue(main_pthread, SIGRTMIN, (union sigval){.sival_int = i}) == 0; }
static bool to_process(int i) { return sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) == 0; }

/* Real-time signals of one number come in the order in which they were sent, though a call was to be ended first: those
 * for the thread, then those for the process. All come that were taken, also where no more are (RLIMIT_SIGPENDING). */
static void orders(int for_thread, int for_process)
{
    sigset_t rt, before = mask_now();
    sigemptyset(&rt);
    sigaddset(&rt, SIGRTMIN);
    install_informed(SIGRTMIN, ordered);
    CHECK(pthread_sigmask(SIG_BLOCK, &rt, NULL) == 0);
    int sent = 0, early = 0;
    for (int i = 0; i < for_process && early < COUNT(order) && to_process(for_thread + i); i++)
        early++;
    while (sent < for_thread && to_thread(sent))
        sent++;
    sent += early;
    ran = 0;
    /* Each call lets one in, whose handler has the next ones blocked, as the thread has them. */
    for (int i = 0; i < 3; i++) {
        ERR(op_ppoll(), EINTR);
        EQ(ran, i + 1);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    EQ(ran, sent);
    for (int i = 0; i < sent; i++)
        EQ(order[i], i);
}

static void orders_of_all_that_are_taken(void)
{
    struct rlimit all, few;
    CHECK(getrlimit(RLIMIT_SIGPENDING, &all) == 0);
    few = all;
    few.rlim_cur = 40;
    /* What waits for other processes of the user counts, too, and they would take the room that a signal leaves. So
     * root's case is another user's here, of whom there is no other process. */
    uid_t user = getuid();
    if (geteuid() == 0)
        CHECK(syscall(SYS_setresuid, (1 << 24) + getpid(), -1, -1) == 0);
    CHECK(setrlimit(RLIMIT_SIGPENDING, &few) == 0);
    orders(COUNT(order), 0);
    orders(0, COUNT(order));
    CHECK(setrlimit(RLIMIT_SIGPENDING, &all) == 0);
    if (geteuid() == 0)
        CHECK(syscall(SYS_setresuid, user, -1, -1) == 0);
}

int main(void)
{
    begin("jumps");
    main_thread = (pid_t)syscall(SYS_gettid);
    main_pthread = pthread_self();
    open_waits();
    full_listen_fd = listener(local(AF_INET), 0);
    int queued = connected(SOCK_STREAM, sock_name(full_listen_fd));
    connecting_fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    handlers();
    edited_masks();
    orders(5, 0);
    orders(40, 0);
    orders(0, 40);
    orders(20, 20);
    orders_of_all_that_are_taken();
    for (int flags = 0; flags < 2; flags++) {
        install(SIGUSR1, jump, flags ? SA_RESTART : SA_NODEFER);
        for (int i = 0; i < COUNT(ops); i++)
            jump_out_of(&ops[i]);
        goes_on();
    }
    OK(usk_close(queued));
    closes();
    storm();
    return done();
}

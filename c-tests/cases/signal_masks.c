/* The calls that replace the signal mask while they wait. */
#include "common.h"

static volatile sig_atomic_t handled;

static void handler(int signal)
{
    (void)signal;
    handled++;
}

/* pselect and epoll_pwait2: a signal that only their mask lets through ends them; their timeouts are to the nanosecond
 * and are left as they are. */
static void with_a_mask(void)
{
    int fd[2];
    tcp_pair(AF_INET, fd);
    struct sigaction a = {.sa_handler = handler};
    sigset_t block, none;
    sigemptyset(&a.sa_mask);
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    OK(sigaction(SIGUSR1, &a, NULL));
    CHECK(pthread_sigmask(SIG_BLOCK, &block, NULL) == 0);
    OK(raise(SIGUSR1));
    EQ(handled, 0);
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd[0], &in);
    struct timespec none_left = {0}, bad = {.tv_nsec = 1000000000}, long_time = {.tv_sec = 1000, .tv_nsec = 7};
    EQ(usk_pselect(fd[0] + 1, &in, NULL, NULL, &none_left, NULL), 0);
    CHECK(!FD_ISSET(fd[0], &in));
    EQ(handled, 0);
    FD_SET(fd[0], &in);
    ERR(usk_pselect(fd[0] + 1, &in, NULL, NULL, &bad, NULL), EINVAL);
    ERR(usk_pselect(fd[0] + 1, &in, NULL, NULL, &long_time, &none), EINTR);
    EQ(handled, 1);
    EQ(long_time.tv_sec, 1000);
    sigset_t now;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    CHECK(sigismember(&now, SIGUSR1));
    send_all(fd[1], "x", 1);
    EQ(usk_pselect(fd[0] + 1, &in, NULL, NULL, &long_time, &block), 1);
    CHECK(FD_ISSET(fd[0], &in));

    ERR(usk_epoll_create(0), EINVAL);
    ERR(usk_epoll_create(-1), EINVAL);
    int set = (int)OK(usk_epoll_create(1));
    struct epoll_event e = {.events = EPOLLOUT};
    EQ(usk_epoll_pwait2(set, &e, 1, &none_left, NULL), 0);
    ERR(usk_epoll_pwait2(set, &e, 1, &bad, NULL), EINVAL);
    ERR(usk_epoll_pwait2(set, &e, 0, &none_left, NULL), EINVAL);
    OK(raise(SIGUSR1));
    ERR(usk_epoll_pwait2(set, &e, 1, NULL, &none), EINTR);
    EQ(handled, 2);
    OK(usk_epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &e));
    EQ(usk_epoll_pwait2(set, &e, 1, NULL, NULL), 1);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &block, NULL) == 0);
    OK(usk_close(set));
    close_pair(fd);
}

static char order[8];
static volatile sig_atomic_t orders;

static void note(int signal)
{
    order[orders++] = signal == SIGUSR1 ? '1' : '2';
}

/* What a thread does once the main thread waits: its signals, and whether a byte makes the call return. */
static struct waited {
    pid_t id;
    pthread_t thread;
    const int *signals;
    int from;
    int noise; /* a socket on which something else comes behind each signal; -1: all signals come at once */
    int stage;
} waited;

static void until_it_waits(void)
{
    for (int asleep = 0; asleep < 10;) {
        poll(NULL, 0, 1);
        asleep = __atomic_load_n(&waited.stage, __ATOMIC_ACQUIRE) && sleeps(waited.id) ? asleep + 1 : 0;
    }
}

static long times_it_slept(void)
{
    char path[64], line[128];
    long n = -1;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)waited.id);
    FILE *status = fopen(path, "r");
    CHECK(status != NULL);
    while (fgets(line, sizeof line, status))
        sscanf(line, "voluntary_ctxt_switches: %ld", &n);
    fclose(status);
    return n;
}

/* Something comes for another socket: in process it may wake the thread, at the latest with the delayed
 * acknowledgement, and the call goes on. */
static void make_noise(void)
{
    long before = times_it_slept();
    send_all(waited.noise, "n", 1);
    for (int ms = 0; ms < 300 && times_it_slept() == before; ms++)
        poll(NULL, 0, 1);
    until_it_waits();
}

static void *disturb(void *unused)
{
    (void)unused;
    until_it_waits();
    for (const int *s = waited.signals; *s; s++) {
        CHECK(pthread_kill(waited.thread, *s) == 0);
        if (waited.noise >= 0 && s[1])
            make_noise();
    }
    if (waited.from >= 0)
        send_all(waited.from, "x", 1);
    return NULL;
}

/* The call, of number `which`, with a mask that blocks SIGUSR1 alone. */
static void wait_with(int which, int set, int fd, const int *signals, int from, const char *want, int result)
{
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    waited.signals = signals;
    waited.from = from;
    orders = 0;
    memset(order, 0, sizeof order);
    pthread_t other = spawn(disturb, NULL);
    __atomic_store_n(&waited.stage, 1, __ATOMIC_RELEASE);
    struct epoll_event e;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd, &in);
    int r = which == 0   ? usk_epoll_pwait2(set, &e, 1, NULL, &mask)
            : which == 1 ? usk_ppoll(&p, 1, NULL, &mask)
                         : usk_pselect(fd + 1, &in, NULL, NULL, NULL, &mask);
    int error = errno;
    __atomic_store_n(&waited.stage, 0, __ATOMIC_RELEASE);
    EQ(r, result);
    if (r < 0)
        EQ(error, EINTR);
    CHECK(strcmp(order, want) == 0);
    join(other);
    char byte;
    if (from >= 0)
        EQ(usk_recv(fd, &byte, 1, 0), 1);
}

/* A signal that comes while a call waits, which its mask blocks and the thread's own does not, is handled as the call
 * returns, and does not end it; one that only its mask lets through ends it, and is handled first. */
static void behind_a_mask(void)
{
    static const int masked[] = {SIGUSR1, 0}, both[] = {SIGUSR1, SIGUSR2, 0};
    int fd[2];
    tcp_pair(AF_INET, fd);
    struct sigaction a = {.sa_handler = note};
    sigset_t block;
    sigemptyset(&a.sa_mask);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR2);
    OK(sigaction(SIGUSR1, &a, NULL));
    OK(sigaction(SIGUSR2, &a, NULL));
    CHECK(pthread_sigmask(SIG_BLOCK, &block, NULL) == 0);
    waited.id = gettid();
    waited.thread = pthread_self();
    waited.noise = -1;
    int set = (int)OK(usk_epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    OK(usk_epoll_ctl(set, EPOLL_CTL_ADD, fd[0], &e));
    for (int which = 0; which < 3; which++) {
        wait_with(which, set, fd[0], masked, fd[1], "1", 1);
        wait_with(which, set, fd[0], both, -1, "21", -1);
        sigset_t now;
        CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
        CHECK(!sigismember(&now, SIGUSR1) && sigismember(&now, SIGUSR2));
    }
    CHECK(pthread_sigmask(SIG_UNBLOCK, &block, NULL) == 0);

    /* One after the other, while packets of others come: the thread's own mask is what it was. */
    int others[2];
    tcp_pair(AF_INET, others);
    waited.noise = others[0];
    for (int which = 0; which < 3; which++) {
        wait_with(which, set, fd[0], both, -1, "21", -1);
        sigset_t now;
        CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
        for (int signal = 1; signal <= SIGRTMAX; signal++)
            CHECK(!sigismember(&now, signal));
    }
    close_pair(others);
    OK(usk_close(set));
    close_pair(fd);
}

int main(void)
{
    begin("signal_masks");
    with_a_mask();
    behind_a_mask();
    return done();
}

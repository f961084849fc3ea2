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

int main(void)
{
    begin("signal_masks");
    with_a_mask();
    return done();
}

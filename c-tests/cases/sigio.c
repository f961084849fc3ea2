/* Signal-driven I/O: F_SETOWN, F_SETSIG, O_ASYNC and the ioctls of the same; SIGIO, or the signal asked for with what
 * happened, when a socket becomes ready; SIGURG to the owner when urgent data comes. The signals are blocked and taken
 * by sigtimedwait(2). */
#include "common.h"

static sigset_t all;

/* The next signal within a minute, with what it says; 0: none. `wait` false: only looks. */
static int next_signal(siginfo_t *info, bool wait)
{
    struct timespec t = {.tv_sec = wait ? 60 : 0};
    int r;
    do
        r = sigtimedwait(&all, info, &t);
    while (r < 0 && errno == EINTR);
    return r < 0 ? 0 : r;
}

static void none(void)
{
    siginfo_t info;
    EQ(next_signal(&info, false), 0);
}

static void drain(void)
{
    siginfo_t info;
    while (next_signal(&info, false))
        ;
}

static void set_async(int fd, bool on)
{
    long flags = OK(usk_fcntl(fd, F_GETFL, 0));
    OK(usk_fcntl(fd, F_SETFL, on ? flags | O_ASYNC : flags & ~(long)O_ASYNC));
    EQ(OK(usk_fcntl(fd, F_GETFL, 0)) & O_ASYNC, on ? O_ASYNC : 0);
}

static void owners(void)
{
    int fd = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), value = 0, twin = (int)OK(usk_dup(fd));
    EQ(usk_fcntl(fd, F_GETOWN, 0), 0);
    EQ(usk_fcntl(fd, F_SETOWN, getpid()), 0);
    EQ(usk_fcntl(fd, F_GETOWN, 0), getpid());
    EQ(usk_fcntl(twin, F_GETOWN, 0), getpid()); /* of the description */
    EQ(usk_fcntl(fd, F_SETOWN, -getpgrp()), 0);
    EQ(usk_ioctl(fd, FIOGETOWN, &value), 0);
    EQ(value, -getpgrp());
    ERR(usk_fcntl(fd, F_SETOWN, 0x3fffffff), ESRCH);
    ERR(usk_fcntl(fd, F_SETOWN, INT32_MIN), EINVAL);
    EQ(usk_fcntl(fd, F_GETOWN, 0), -getpgrp());
    value = getpid();
    EQ(usk_ioctl(fd, FIOSETOWN, &value), 0);
    value = 0;
    EQ(usk_ioctl(fd, SIOCGPGRP, &value), 0);
    EQ(value, getpid());
    value = 0x3fffffff;
    ERR(usk_ioctl(fd, SIOCSPGRP, &value), ESRCH);
    value = -getpgrp();
    EQ(usk_ioctl(fd, SIOCSPGRP, &value), 0);
    EQ(usk_fcntl(fd, F_GETOWN, 0), -getpgrp());
    EQ(usk_fcntl(fd, F_SETOWN, 0), 0);
    EQ(usk_fcntl(fd, F_GETOWN, 0), 0);

    struct f_owner_ex ex = {.type = F_OWNER_TID, .pid = (pid_t)syscall(SYS_gettid)}, got = {0};
    EQ(usk_fcntl(fd, F_SETOWN_EX, (long)&ex), 0);
    EQ(usk_fcntl(fd, F_GETOWN_EX, (long)&got), 0);
    EQ(got.type, F_OWNER_TID);
    EQ(got.pid, ex.pid);
    EQ(usk_fcntl(fd, F_GETOWN, 0), ex.pid);
    ex.type = 17;
    ERR(usk_fcntl(fd, F_SETOWN_EX, (long)&ex), EINVAL);
    ex = (struct f_owner_ex){.type = F_OWNER_PGRP, .pid = getpgrp()};
    EQ(usk_fcntl(fd, F_SETOWN_EX, (long)&ex), 0);
    EQ(usk_fcntl(fd, F_GETOWN, 0), -getpgrp());
    ERR(usk_fcntl(fd, F_SETOWN_EX, 8), EFAULT);
    ERR(usk_fcntl(fd, F_GETOWN_EX, 8), EFAULT);

    EQ(usk_fcntl(fd, F_GETSIG, 0), 0);
    EQ(usk_fcntl(fd, F_SETSIG, SIGRTMIN), 0);
    EQ(usk_fcntl(fd, F_GETSIG, 0), SIGRTMIN);
    ERR(usk_fcntl(fd, F_SETSIG, 65), EINVAL);
    ERR(usk_fcntl(fd, F_SETSIG, -1), EINVAL);
    EQ(usk_fcntl(fd, F_SETSIG, 0), 0);

    value = 1;
    EQ(usk_ioctl(fd, FIOASYNC, &value), 0);
    EQ(OK(usk_fcntl(fd, F_GETFL, 0)) & O_ASYNC, O_ASYNC);
    value = 0;
    EQ(usk_ioctl(fd, FIOASYNC, &value), 0);
    EQ(OK(usk_fcntl(fd, F_GETFL, 0)) & O_ASYNC, 0);
    OK(usk_close(fd));
    OK(usk_close(twin));
}

/* Whether a signal came that says that `fd` has `band`; others of the same call may come before it. */
static void told(int fd, int signal, int code, long band)
{
    siginfo_t info;
    for (;;) {
        int got = next_signal(&info, true);
        if (got == 0) {
            complain(__FILE__, __LINE__, "a signal", "none", code == POLL_IN ? "POLL_IN" : "another band");
            return;
        }
        EQ(got, signal);
        EQ(info.si_fd, fd);
#ifndef ON_KERNEL
        /* Another thread than the owner may only send this code. */
        if (info.si_code == SI_SIGIO && (info.si_band & band) == band)
            return;
#endif
        if (info.si_code == code) {
            EQ(info.si_band & band, band);
            return;
        }
    }
}

static void ready_sockets(int family)
{
    siginfo_t info;
    int t[2], u[2];
    tcp_pair(family, t);
    /* Not without O_ASYNC, nor without an owner. */
    OK(usk_fcntl(t[0], F_SETOWN, getpid()));
    send_all(t[1], "a", 1);
    await_bytes(t[0], 1);
    none();
    OK(usk_fcntl(t[0], F_SETOWN, 0));
    set_async(t[0], true);
    send_all(t[1], "a", 1);
    await_bytes(t[0], 2);
    none();
    OK(usk_fcntl(t[0], F_SETOWN, getpid()));
    send_all(t[1], "a", 1);
    EQ(next_signal(&info, true), SIGIO);
    drain();
    /* A signal with descriptor and event. */
    OK(usk_fcntl(t[0], F_SETSIG, SIGRTMIN + 3));
    send_all(t[1], "b", 1);
    told(t[0], SIGRTMIN + 3, POLL_IN, POLLIN | POLLRDNORM);
    set_async(t[0], false);
    drain();
    send_all(t[1], "c", 1);
    await_bytes(t[0], 5);
    none();
    set_async(t[0], true);
    OK(usk_close(t[1]));
    told(t[0], SIGRTMIN + 3, POLL_IN, POLLIN);
    drain();
    OK(usk_close(t[0]));
    none();

    udp_pair(family, u);
    OK(usk_fcntl(u[0], F_SETOWN, getpid()));
    OK(usk_fcntl(u[0], F_SETSIG, SIGRTMIN));
    set_async(u[0], true);
    EQ(usk_send(u[1], "x", 1, 0), 1);
    told(u[0], SIGRTMIN, POLL_IN, POLLIN | POLLRDNORM);
    drain();
    close_pair(u);

    int l = listener(local(family), 2);
    OK(usk_fcntl(l, F_SETOWN, getpid()));
    OK(usk_fcntl(l, F_SETSIG, SIGRTMIN));
    set_async(l, true);
    int c = connected(SOCK_STREAM, sock_name(l));
    told(l, SIGRTMIN, POLL_IN, POLLIN | POLLRDNORM);
    int a = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_fcntl(a, F_GETOWN, 0), 0); /* nothing of it is inherited */
    EQ(OK(usk_fcntl(a, F_GETFL, 0)) & O_ASYNC, 0);
    drain();
    OK(usk_close(l));
    OK(usk_close(c));
    OK(usk_close(a));
}

/* SIGURG needs an owner only. */
static void urgent(int family)
{
    siginfo_t info;
    int t[2];
    char c;
    tcp_pair(family, t);
    EQ(usk_send(t[1], "u", 1, MSG_OOB), 1);
    await(t[0], POLLPRI);
    none();
    EQ(usk_recv(t[0], &c, 1, MSG_OOB), 1);
    OK(usk_fcntl(t[0], F_SETOWN, getpid()));
    EQ(usk_send(t[1], "v", 1, MSG_OOB), 1);
    EQ(next_signal(&info, true), SIGURG);
    await(t[0], POLLPRI);
    none();
    close_pair(t);
}

int main(void)
{
    begin("sigio");
    sigemptyset(&all);
    sigaddset(&all, SIGIO);
    sigaddset(&all, SIGURG);
    for (int i = 0; i < 4; i++)
        sigaddset(&all, SIGRTMIN + i);
    CHECK(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    owners();
    ready_sockets(AF_INET);
    ready_sockets(AF_INET6);
    urgent(AF_INET);
    urgent(AF_INET6);
    return done();
}

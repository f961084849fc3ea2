/* poll of a stream that an earlier poll found idle: the next one reports each change, and one that waits is woken. */
#include "common.h"

enum { ROUNDS = 5000 };
static const int ALL = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;

/* Twice, since the second may know the result of the first. */
static int events(int fd)
{
    int first = ready(fd, ALL), second = ready(fd, ALL);
    EQ(first, second);
    return second;
}

/* What is not there at once, because a packet is on its way. */
static int eventually(int fd, int want)
{
    for (int now; (now = ready(fd, ALL)) != want;) {
        struct pollfd p = {.fd = fd, .events = (short)(want & ~now)};
        if (p.events == 0 || usk_poll(&p, 1, 60000) == 0)
            break;
    }
    return events(fd);
}

static void changes(void)
{
    int fd[2];
    char buf[16];
    tcp_pair(AF_INET, fd);
    EQ(events(fd[0]), POLLOUT);
    EQ(events(fd[1]), POLLOUT);
    send_all(fd[0], "abc", 3);
    EQ(eventually(fd[1], POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ(usk_recv(fd[1], buf, 2, 0), 2);
    EQ(events(fd[1]), POLLIN | POLLOUT);
    EQ(usk_recv(fd[1], buf, 2, 0), 1);
    EQ(events(fd[1]), POLLOUT);

    EQ(usk_send(fd[0], "!", 1, MSG_OOB), 1);
    EQ(eventually(fd[1], POLLPRI | POLLOUT) & POLLPRI, POLLPRI);
    EQ(usk_recv(fd[1], buf, 1, MSG_OOB), 1);
#ifdef ON_SERVER /* where poll says IN until a read has passed it */
    ERR(usk_recv(fd[1], buf, 1, MSG_DONTWAIT), EAGAIN);
#endif
    EQ(eventually(fd[1], POLLOUT), POLLOUT);

#ifndef ON_SERVER
    /* A threshold that two bytes do not reach, and that is lowered then. */
    set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 3);
    EQ(events(fd[1]), POLLOUT);
    send_all(fd[0], "de", 2);
    await_bytes(fd[1], 2);
    EQ(events(fd[1]), POLLOUT);
    set_int(fd[1], SOL_SOCKET, SO_RCVLOWAT, 1);
    EQ(events(fd[1]), POLLIN | POLLOUT);
    EQ(usk_recv(fd[1], buf, 2, 0), 2);
#endif

    /* Without room, and with room again. */
    static char much[1 << 20];
    set_nonblock(fd[1], true);
    EQ(events(fd[0]), POLLOUT);
    size_t sent = fill_up(fd[0]), got = 0;
    EQ(events(fd[0]), 0);
    while (got < sent) {
        ssize_t n = usk_recv(fd[1], much, sizeof much, 0);
        if (n <= 0 && await(fd[1], POLLIN) == 0)
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    EQ(got, sent);
    EQ(eventually(fd[0], POLLOUT), POLLOUT);

    OK(usk_shutdown(fd[0], SHUT_WR));
    EQ(eventually(fd[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
    EQ(events(fd[0]), POLLOUT);
    struct linger hard = {.l_onoff = 1};
    OK(usk_setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard));
    OK(usk_close(fd[1]));
#ifdef ON_SERVER /* much was written at once: it reads as the end */
    const int reset = POLLIN | POLLOUT | POLLRDHUP | POLLHUP;
#else
    const int reset = POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP;
#endif
    EQ(eventually(fd[0], reset), reset);
    OK(usk_close(fd[0]));
}

/* One byte at a time: a wake-up that is lost leaves poll without an event. */
static void *echo(void *arg)
{
    int fd = *(int *)arg;
    char byte;
    for (int i = 0; i < ROUNDS; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        EQ(usk_poll(&p, 1, 60000), 1);
        EQ(usk_recv(fd, &byte, 1, MSG_DONTWAIT), 1);
        EQ(usk_send(fd, &byte, 1, 0), 1);
    }
    return NULL;
}

int main(void)
{
    begin("poll_idle");
    changes();
    int fd[2];
    tcp_pair(AF_INET, fd);
    set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd[1], IPPROTO_TCP, TCP_NODELAY, 1);
    pthread_t t = spawn(echo, &fd[1]);
    EQ(usk_send(fd[0], "x", 1, 0), 1);
    for (int i = 0; i < ROUNDS; i++) {
        char byte;
        struct pollfd p = {.fd = fd[0], .events = POLLIN};
        EQ(usk_poll(&p, 1, 60000), 1);
        EQ(usk_recv(fd[0], &byte, 1, MSG_DONTWAIT), 1);
        if (i + 1 < ROUNDS)
            EQ(usk_send(fd[0], &byte, 1, 0), 1);
    }
    join(t);
    close_pair(fd);
    return done();
}

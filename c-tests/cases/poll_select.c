/* poll, ppoll and select: masks of each state, wrong numbers, many descriptors, sleeping until another thread acts. */
#include "common.h"

static void *write_later(void *arg)
{
    int *a = arg;
    char c;
    OK(read(a[1], &c, 1));
    send_all(a[0], "w", 1);
    return NULL;
}

int main(void)
{
    begin("poll_select");
    enum { ALL = POLLIN | POLLPRI | POLLOUT | POLLRDHUP };
    int fd[2], p[2];
    char b[8];

    int s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    EQ(ready(s, ALL), POLLOUT | POLLHUP); /* neither bound nor connected */
    OK(usk_close(s));
    int l = listener(local(AF_INET), 1);
    EQ(ready(l, ALL), 0);
    fd[0] = connected(SOCK_STREAM, sock_name(l));
    await(l, POLLIN);
    EQ(ready(l, ALL), POLLIN);
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
    EQ(ready(l, ALL), 0);
    EQ(ready(fd[0], ALL), POLLOUT);
    EQ(ready(fd[0], POLLIN), 0);
    EQ(ready(fd[0], POLLRDNORM | POLLWRNORM), POLLWRNORM);
    send_all(fd[0], "x", 1);
    await(fd[1], POLLIN);
    EQ(ready(fd[1], ALL | POLLRDNORM | POLLWRNORM), POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
    EQ(ready(fd[1], 0), 0);
    EXPECT(fd[1], "x");

    /* A number that is none: POLLNVAL in poll, EBADF in select; -1 is left out. */
    s = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    OK(usk_close(s));
    EQ(ready(s, ALL), POLLNVAL);
    EQ(ready(-1, ALL), 0);
    fd_set r, w, e;
    FD_ZERO(&r);
    FD_SET(s, &r);
    struct timeval zero = {0, 0};
    ERR(usk_select(s + 1, &r, NULL, NULL, &zero), EBADF);
    ERR(usk_select(-1, NULL, NULL, NULL, &zero), EINVAL);
    struct timeval negative = {-1, 0};
    ERR(usk_select(0, NULL, NULL, NULL, &negative), EINVAL);
    EQ(usk_select(0, NULL, NULL, NULL, &zero), 0);
    EQ(usk_poll(NULL, 0, 0), 0);
    ERR(usk_poll(NULL, 1, 0), EFAULT);
    ERR(usk_poll((struct pollfd *)8, 1, 0), EFAULT);
    struct pollfd one = {.fd = fd[0], .events = POLLIN};
    ERR(usk_poll(&one, 0x7fffffff, 0), EINVAL); /* more than descriptors may be open */
    struct timespec bad = {.tv_nsec = -1}, none = {0, 0};
    ERR(usk_ppoll(&one, 1, &bad, NULL), EINVAL);
    EQ(usk_ppoll(&one, 1, &none, NULL), 0);

    /* select gives back what is ready, and counts bits. */
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(fd[0], &r);
    FD_SET(fd[0], &w);
    FD_SET(fd[0], &e);
    FD_SET(fd[1], &w);
    int top = fd[0] > fd[1] ? fd[0] : fd[1];
    EQ(usk_select(top + 1, &r, &w, &e, &zero), 2);
    CHECK(!FD_ISSET(fd[0], &r) && FD_ISSET(fd[0], &w) && FD_ISSET(fd[1], &w) && !FD_ISSET(fd[0], &e));

    /* Of a count that ends within a word the rest of the word is emptied, and not looked at. */
    FD_ZERO(&w);
    FD_SET(fd[0], &w);
    FD_SET(63, &w);
    EQ(usk_select(1, NULL, &w, NULL, &zero), 0);
    CHECK(!FD_ISSET(fd[0], &w) && !FD_ISSET(63, &w));

    /* One descriptor twice in a poll is two answers. */
    struct pollfd twice[2] = {{.fd = fd[0], .events = POLLOUT}, {.fd = fd[0], .events = POLLIN}};
    EQ(usk_poll(twice, 2, 0), 1);
    EQ(twice[0].revents, POLLOUT);
    EQ(twice[1].revents, 0);

    /* Asleep in poll, ppoll, select over a kernel pipe and sockets; another thread wakes us through the socket. */
    OK(pipe(p));
    for (int way = 0; way < 3; way++) {
        int go[2];
        OK(pipe(go));
        int arg[2] = {fd[1], go[0]};
        pthread_t t = spawn(write_later, arg);
        struct pollfd two[2] = {{.fd = p[0], .events = POLLIN}, {.fd = fd[0], .events = POLLIN}};
        OK(write(go[1], "g", 1));
        if (way == 0)
            EQ(usk_poll(two, 2, -1), 1);
        else if (way == 1)
            EQ(usk_ppoll(two, 2, NULL, NULL), 1);
        else {
            FD_ZERO(&r);
            FD_SET(p[0], &r);
            FD_SET(fd[0], &r);
            EQ(usk_select((p[0] > fd[0] ? p[0] : fd[0]) + 1, &r, NULL, NULL, NULL), 1);
            CHECK(FD_ISSET(fd[0], &r) && !FD_ISSET(p[0], &r));
        }
        EQ(usk_recv(fd[0], b, sizeof b, 0), 1);
        join(t);
        OK(close(go[0]));
        OK(close(go[1]));
    }

    /* The timeout: nothing is ready, 0 comes back. */
    EQ(usk_poll(&one, 1, 1), 0);
    one.events = POLLOUT;
    EQ(usk_poll(&one, 1, 1), 1);

    /* epoll on wrong arguments. */
    int ep = (int)OK(usk_epoll_create1(0));
    struct epoll_event ev = {.events = EPOLLIN};
    ERR(usk_epoll_create1(1), EINVAL);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_MOD, fd[0], &ev), ENOENT);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_DEL, fd[0], &ev), ENOENT);
    OK(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &ev));
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &ev), EEXIST);
    ERR(usk_epoll_ctl(ep, 9, fd[0], &ev), EINVAL);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], NULL), EFAULT);
    ERR(usk_epoll_ctl(ep, EPOLL_CTL_ADD, -1, &ev), EBADF);
    ERR(usk_epoll_ctl(-1, EPOLL_CTL_ADD, fd[1], &ev), EBADF);
    ERR(usk_epoll_ctl(fd[0], EPOLL_CTL_ADD, fd[1], &ev), EINVAL); /* a socket is no epoll */
    ERR(usk_epoll_wait(ep, &ev, 0, 0), EINVAL);
    ERR(usk_epoll_wait(ep, &ev, -1, 0), EINVAL);
    ERR(usk_epoll_wait(-1, &ev, 1, 0), EBADF);
    ERR(usk_epoll_wait(fd[0], &ev, 1, 0), EINVAL);
    EQ(usk_epoll_wait(ep, &ev, 1, 1), 0);
    OK(usk_close(ep));
    ERR(usk_epoll_wait(ep, &ev, 1, 0), EBADF);
    close_pair(fd);
    OK(usk_close(l));
    OK(close(p[0]));
    OK(close(p[1]));
    return done();
}

/* An event loop in the manner of libevent, by names of POSIX alone: tables of functions whose addresses are taken, with
 * epoll below. Built with usersock/posix.h, its sockets are ours. */
#include "posix.h"

struct eventop {
    const char *name;
    int (*add)(int base, int fd, unsigned int events);
    int (*dispatch)(int base, struct epoll_event *events, int max, int timeout);
    int (*close)(int base);
};

#ifndef UNMODIFIED
#include "usersock/posix.h"
#endif

static int epoll_add(int base, int fd, unsigned int events)
{
    struct epoll_event e = {.events = events, .data.fd = fd};
    return epoll_ctl(base, EPOLL_CTL_ADD, fd, &e);
}

#if __GLIBC_PREREQ(2, 35)
/* As libevent waits where the C library has it. */
static int epoll_dispatch(int base, struct epoll_event *events, int max, int timeout)
{
    struct timespec time = {.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
    return epoll_pwait2(base, events, max, timeout < 0 ? NULL : &time, NULL);
}
#else
#define epoll_dispatch epoll_wait
#endif

static const struct eventop epollops = {"epoll", epoll_add, epoll_dispatch, close};

/* As evbuffer and bufferevent have them. */
static ssize_t (*const fill)(int, void *, size_t) = &read;
static ssize_t (*const drain)(int, const void *, size_t) = &write;
static ssize_t (*const take)(int, void *, size_t, int) = recv;
static int (*const control)(int, int, ...) = fcntl;
static int (*const wait_for)(struct pollfd *, nfds_t, int) = poll;

int main(void)
{
    begin("posix_events");
    int base = (int)OK(epoll_create1(EPOLL_CLOEXEC)), wake[2];
    int listener = (int)OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    OK(bind(listener, (struct sockaddr *)&at, sizeof at));
    OK(listen(listener, 8));
    socklen_t len = sizeof at;
    OK(getsockname(listener, (struct sockaddr *)&at, &len));
    OK(pipe(wake));
    OK(epollops.add(base, listener, EPOLLIN));
    OK(epollops.add(base, wake[0], EPOLLIN)); /* of the kernel's, in the same set */

    int client = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(client, (struct sockaddr *)&at, sizeof at));
    OK(control(client, F_SETFL, O_NONBLOCK));
    EQ(control(client, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    EQ(drain(client, "hello", 5), 5);
    EQ(drain(wake[1], "w", 1), 1);

    int conn = -1;
    bool woken = false, greeted = false;
    char buf[16];
    while (!woken || !greeted) {
        struct epoll_event events[4];
        int n = (int)OK(epollops.dispatch(base, events, 4, 10000));
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                conn = (int)OK(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
                CHECK(IS_OURS(conn));
                OK(epollops.add(base, conn, EPOLLIN));
            } else if (fd == wake[0]) {
                EQ(fill(fd, buf, sizeof buf), 1);
                woken = true;
            } else {
                EQ(fill(fd, buf, 5), 5);
                CHECK(memcmp(buf, "hello", 5) == 0);
                greeted = true;
            }
        }
    }
    struct epoll_event none;
    EQ(epoll_wait(base, &none, 1, 0), 0);
    struct iovec iov[2] = {{"by", 2}, {"e!", 2}};
    EQ(writev(conn, iov, 2), 4);
    struct pollfd p = {.fd = client, .events = POLLIN};
    EQ(wait_for(&p, 1, -1), 1);
    EQ(take(client, buf, sizeof buf, 0), 4);
    CHECK(memcmp(buf, "bye!", 4) == 0);
    ERR(take(client, buf, sizeof buf, 0), EAGAIN);
    int copy = (int)OK(dup(client));
    int queued = -1;
    OK(ioctl(copy, FIONREAD, &queued));
    EQ(queued, 0);
    CHECK(IS_OURS(copy));
    OK(epollops.close(copy));
    OK(shutdown(client, SHUT_WR));
    OK(close(client));
    OK(close(conn));
    OK(close(listener));
    OK(epollops.close(base));
    return done();
}

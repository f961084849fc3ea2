/* The server of requests.rs: sends each byte back, in one thread that waits in epoll_wait, poll or recv. Compiled
 * twice: on the kernel's sockets, and with USERSOCK on ours. Ends when its standard input ends, which is the pipe that
 * it watches beside the sockets, and prints the port that it listens on. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef USERSOCK
#include <usersock/posix.h>
#define SERVE serve_requests_ours
#else
#define SERVE serve_requests_kernel
#endif

enum { MOST = 64, BYTES = 4096 };

int SERVE(const char *how, const char *ip);

/* One read, and one write of what it gave; 0 when the connection is over. */
static int answer(int fd)
{
    char buf[BYTES];
    ssize_t n = recv(fd, buf, sizeof buf, 0);
    return n > 0 && send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n;
}

static int accepted(int listener)
{
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int by_epoll(int listener)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener}, got[MOST];
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, listener, &e) < 0)
        return 1;
    e.data.fd = STDIN_FILENO;
    if (epoll_ctl(set, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
        return 1;
    for (;;) {
        int n = epoll_wait(set, got, MOST, -1);
        /* A tracer that attaches interrupts it: signal(7). */
        if (n < 0 && errno != EINTR)
            return 1;
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == listener) {
                e.data.fd = accepted(listener);
                if (e.data.fd < 0 || epoll_ctl(set, EPOLL_CTL_ADD, e.data.fd, &e) < 0)
                    return 1;
            } else if (!answer(fd)) {
                close(fd);
            }
        }
    }
}

static int by_poll(int listener)
{
    struct pollfd fds[MOST] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
    int count = 2;
    for (;;) {
        if (poll(fds, (nfds_t)count, -1) < 0)
            return 1;
        if (fds[0].revents)
            return 0;
        for (int i = count - 1; i > 1; i--)
            if (fds[i].revents && !answer(fds[i].fd)) {
                close(fds[i].fd);
                fds[i] = fds[--count];
            }
        if (fds[1].revents && count < MOST)
            fds[count++] = (struct pollfd){.fd = accepted(listener), .events = POLLIN};
    }
}

static int by_recv(int listener)
{
    for (;;) {
        int fd = accepted(listener);
        if (fd < 0)
            return 1;
        while (answer(fd))
            ;
        close(fd);
    }
}

int SERVE(const char *how, const char *ip)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || inet_pton(AF_INET, ip, &at.sin_addr) != 1 || bind(listener, (struct sockaddr *)&at, len) < 0 ||
        listen(listener, MOST) < 0 || getsockname(listener, (struct sockaddr *)&at, &len) < 0) {
        perror("server");
        return 1;
    }
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    if (strcmp(how, "epoll") == 0)
        return by_epoll(listener);
    return strcmp(how, "poll") == 0 ? by_poll(listener) : by_recv(listener);
}

/* A web server in the manner of darkhttpd, by names of POSIX alone: an accept loop with select, sendfile, a structure
 * whose members are called as the calls are. Built with usersock/posix.h, its sockets are ours. */
#include "posix.h"

/* As it might stand in a header of the program's: before the line that redirects. */
struct transport {
    ssize_t (*send)(int fd, const void *buf, size_t n, int flags);
    ssize_t (*recv)(int fd, void *buf, size_t n, int flags);
    int (*close)(int fd);
    int poll;
};

#ifndef UNMODIFIED
#include "usersock/posix.h"
#endif

static int closed;

static int count_and_close(int fd)
{
    closed++;
    return close(fd);
}

static const struct transport plain = {.send = send, .recv = recv, .close = count_and_close, .poll = 7};

enum { REQUESTS = 3, SIZE = 100000 };

struct server {
    int listener, file;
};

static void answer(const struct server *s, int conn)
{
    char request[512], head[128];
    size_t n = 0;
    CHECK(IS_OURS(conn));
    while (n < 4 || memcmp(request + n - 4, "\r\n\r\n", 4) != 0) {
        struct pollfd p = {.fd = conn, .events = POLLIN};
        EQ(poll(&p, 1, -1), 1);
        ssize_t r = OK(plain.recv(conn, request + n, sizeof request - n, 0));
        CHECK(r > 0);
        n += (size_t)r;
    }
    int len = snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n", SIZE);
    EQ(plain.send(conn, head, (size_t)len, MSG_NOSIGNAL), len);
    off_t at = 0;
    while (at < SIZE)
        CHECK(OK(sendfile(conn, s->file, &at, (size_t)(SIZE - at))) > 0);
    OK(plain.close(conn));
}

static void *serve(void *arg)
{
    const struct server *s = arg;
    OK(fcntl(s->listener, F_SETFL, fcntl(s->listener, F_GETFL) | O_NONBLOCK));
    for (int served = 0; served < REQUESTS;) {
        fd_set in;
        FD_ZERO(&in);
        FD_SET(s->listener, &in);
        EQ(select(s->listener + 1, &in, NULL, NULL, NULL), 1);
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        int conn = accept(s->listener, (struct sockaddr *)&from, &len);
        if (conn < 0)
            continue;
        EQ(from.sin_family, AF_INET);
        answer(s, conn);
        served++;
    }
    return NULL;
}

static void request(struct sockaddr_in to)
{
    static char all[SIZE + 512];
    int fd = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK(IS_OURS(fd));
    OK(connect(fd, (struct sockaddr *)&to, sizeof to));
    EQ(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    size_t n = 0;
    for (ssize_t r; (r = OK(read(fd, all + n, sizeof all - n))) > 0;)
        n += (size_t)r;
    const char *body = strstr(all, "\r\n\r\n");
    CHECK(strncmp(all, "HTTP/1.0 200 OK\r\n", 17) == 0 && body);
    EQ(n - (size_t)(body + 4 - all), SIZE);
    for (int i = 0; i < SIZE; i++)
        CHECK((unsigned char)body[4 + i] == pattern(5, (uint64_t)i));
    OK(close(fd));
}

int main(void)
{
    begin("posix_server");
    char path[] = "/tmp/posix_server_XXXXXX";
    struct server s = {.file = (int)OK(mkstemp(path))};
    OK(unlink(path));
    static unsigned char data[SIZE];
    for (int i = 0; i < SIZE; i++)
        data[i] = pattern(5, (uint64_t)i);
    EQ(write(s.file, data, SIZE), SIZE); /* a file is the kernel's */
    EQ(pread(s.file, data, 2, 1), 2);
    EQ(data[0], pattern(5, 1));

    s.listener = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK(IS_OURS(s.listener));
    int on = 1;
    OK(setsockopt(s.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    OK(bind(s.listener, (struct sockaddr *)&at, sizeof at));
    OK(listen(s.listener, 8));
    socklen_t len = sizeof at;
    OK(getsockname(s.listener, (struct sockaddr *)&at, &len));
    pthread_t t = spawn(serve, &s);
    for (int i = 0; i < REQUESTS; i++)
        request(at);
    CHECK(pthread_join(t, NULL) == 0);
    EQ(closed, REQUESTS);
    EQ(plain.poll, 7);
    OK(close(s.listener));

    struct ifaddrs *list;
    OK(getifaddrs(&list));
    EQ(if_nametoindex(list->ifa_name), 1);
    freeifaddrs(list);
    close(s.file);
    return done();
}

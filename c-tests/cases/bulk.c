/* 64 MiB through small buffers, both ways at once, compared byte for byte. */
#include "common.h"

enum { TOTAL = 64 << 20 };

struct flow {
    int fd;
    uint64_t seed;
};

static void *source(void *arg)
{
    struct flow *f = arg;
    static _Thread_local unsigned char buf[20000];
    for (uint64_t at_byte = 0, step = 1; at_byte < TOTAL; step = step * 31 % 19997 + 1) {
        size_t n = step < TOTAL - at_byte ? (size_t)step : (size_t)(TOTAL - at_byte);
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(f->seed, at_byte + i);
        send_all(f->fd, buf, n);
        at_byte += n;
    }
    OK(usk_shutdown(f->fd, SHUT_WR));
    return NULL;
}

static void *sink(void *arg)
{
    struct flow *f = arg;
    static _Thread_local unsigned char buf[9000];
    uint64_t got = 0;
    for (;;) {
        long n = OK(usk_recv(f->fd, buf, sizeof buf - got % 7777, 0));
        if (n == 0)
            break;
        for (long i = 0; i < n; i++)
            if (buf[i] != pattern(f->seed, got + (uint64_t)i)) {
                printf("%s:%d: byte %llu is wrong\n", __FILE__, __LINE__, (unsigned long long)got + (unsigned)i);
                _exit(1);
            }
        got += (uint64_t)n;
    }
    EQ(got, TOTAL);
    return NULL;
}

int main(void)
{
    begin("bulk");
    int l = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0)), c = (int)OK(usk_socket(AF_INET, SOCK_STREAM, 0));
    struct addr a = local(AF_INET);
    OK(set_int(l, SOL_SOCKET, SO_RCVBUF, 32768));
    OK(set_int(l, SOL_SOCKET, SO_SNDBUF, 32768));
    OK(set_int(c, SOL_SOCKET, SO_RCVBUF, 32768));
    OK(set_int(c, SOL_SOCKET, SO_SNDBUF, 32768));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 1));
    a = sock_name(l);
    OK(usk_connect(c, &a.sa, a.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(get_int(s, SOL_SOCKET, SO_RCVBUF), 65536); /* twice what was asked, inherited */
    struct flow up = {c, 1}, up_end = {s, 1}, down = {s, 2}, down_end = {c, 2};
    pthread_t t[4] = {spawn(source, &up), spawn(sink, &up_end), spawn(source, &down), spawn(sink, &down_end)};
    for (int i = 0; i < 4; i++)
        join(t[i]);
    OK(usk_close(c));
    OK(usk_close(s));
    OK(usk_close(l));
    return done();
}

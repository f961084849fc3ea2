/* Tests @name@.so: two stacks of this process, joined by two devices of the kind. Status 0: it works. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/device.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s (errno %d; %s)\n", __FILE__, __LINE__, #condition, errno, usk_config_error()); \
            exit(1); \
        } \
    } while (0)

static uint64_t counter(usk_stack_t *stack, const char *name)
{
    uint64_t value = 0;
    CHECK(usk_mib_read(stack, name, &value) == 0);
    return value;
}

enum { BYTES = 1 << 20 };

static unsigned char byte(size_t at)
{
    return (unsigned char)(at * 2654435761u >> 13);
}

/* Sends BYTES, and compares them as they arrive. */
static void transfer(int from, int to)
{
    static unsigned char buf[65536];
    size_t sent = 0, got = 0;
    while (got < BYTES) {
        size_t n = sent < BYTES ? sizeof buf : 0;
        for (size_t i = 0; i < n; i++)
            buf[i] = byte(sent + i);
        ptrdiff_t r = n ? usk_send(from, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        CHECK(r >= 0 || errno == EAGAIN);
        sent += r > 0 ? (size_t)r : 0;
        r = usk_recv(to, buf, sizeof buf, MSG_DONTWAIT);
        if (r < 0) {
            struct pollfd ready = { .fd = to, .events = POLLIN };
            CHECK(errno == EAGAIN && usk_poll(&ready, 1, 10) >= 0);
            continue;
        }
        CHECK(r > 0);
        for (ptrdiff_t i = 0; i < r; i++)
            CHECK(buf[i] == byte(got + (size_t)i));
        got += (size_t)r;
    }
}

/* A stack whose device has these two files in its name. */
static usk_stack_t *end(const char *so, const char *own, const char *peer, const char *addr)
{
    char config[512];
    snprintf(config, sizeof config, "plugin=%s,device=@name@:./@name@_test.%s:./@name@_test.%s,addr=%s/24", so, own,
             peer, addr);
    usk_stack_t *stack = usk_stack_new(config);
    CHECK(stack);
    return stack;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    usk_stack_t *a = end(argv[1], "a", "b", "10.0.0.1");
    /* Nobody is at the other end yet. */
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(80) };
    CHECK(inet_pton(AF_INET, "10.0.0.2", &at.sin_addr) == 1);
    int alone = usk_socket_on(a, AF_INET, SOCK_DGRAM, 0);
    usk_sendto(alone, "?", 1, 0, (struct sockaddr *)&at, sizeof at);
    CHECK(counter(a, "@Name@NoPeer") > 0);

    usk_stack_t *b = end(argv[1], "b", "a", "10.0.0.2");
    int listener = usk_socket_on(b, AF_INET, SOCK_STREAM, 0), client = usk_socket_on(a, AF_INET, SOCK_STREAM, 0);
    CHECK(usk_bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && usk_listen(listener, 1) == 0);
    CHECK(usk_connect(client, (struct sockaddr *)&at, sizeof at) == 0);
    int server = usk_accept(listener, NULL, NULL);
    CHECK(server >= 0);
    transfer(client, server);
    transfer(server, client);
    CHECK(usk_close(client) == 0 && usk_close(server) == 0 && usk_close(listener) == 0 && usk_close(alone) == 0);
    /* What is no argument is refused with a line. */
    CHECK(usk_device_add(a, "device=@name@:nonsense") == -1 && errno == EINVAL);
    CHECK(strstr(usk_config_error(), "not OWN:PEER"));
    usk_stack_free(a);
    usk_stack_free(b);
    puts("@name@: ok");
    return 0;
}

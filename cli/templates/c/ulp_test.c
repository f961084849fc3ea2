/* Tests @name@.so: TCP connections over the loopback of a stack of this process have the layer. Status 0: it works. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/core.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s (errno %d; %s)\n", __FILE__, __LINE__, #condition, errno, usk_config_error()); \
            exit(1); \
        } \
    } while (0)

#ifndef TCP_ULP
#define TCP_ULP 31
#endif

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

static void install(int fd)
{
    CHECK(usk_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "@name@", strlen("@name@")) == 0);
}

int main(int argc, char **argv)
{
    usk_stack_t *stack = usk_stack_new("");
    CHECK(argc == 2 && stack);
    usk_plugin_t *plugin = usk_plugin_load(stack, argv[1]);
    CHECK(plugin);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(80) };
    int listener = usk_socket_on(stack, AF_INET, SOCK_STREAM, 0);
    int client = usk_socket_on(stack, AF_INET, SOCK_STREAM, 0);
    CHECK(usk_bind(listener, (struct sockaddr *)&at, sizeof at) == 0 && usk_listen(listener, 1) == 0);
    CHECK(usk_connect(client, (struct sockaddr *)&at, sizeof at) == 0);
    int server = usk_accept(listener, NULL, NULL);
    CHECK(server >= 0);

    /* At one end only, the other sees what is on the wire. */
    unsigned char buf[8];
    install(client);
    CHECK(usk_send(client, "hello", 5, 0) == 5);
    CHECK(usk_recv(server, buf, sizeof buf, 0) == 5 && buf[0] == ('h' ^ 0x5a) && buf[4] == ('o' ^ 0x5a));
    /* At both, nobody notices. */
    install(server);
    transfer(client, server);
    transfer(server, client);
    CHECK(counter(stack, "@Name@OutBytes") == 2 * BYTES + 5 && counter(stack, "@Name@InBytes") == 2 * BYTES);
    /* MSG_WAITALL waits for all, in pieces of any size. */
    static unsigned char large[10000];
    CHECK(usk_send(client, large, sizeof large, 0) == sizeof large);
    CHECK(usk_recv(server, large, sizeof large, MSG_WAITALL) == sizeof large && !large[0] && !large[9999]);
    /* It can be taken off while it holds nothing. */
    CHECK(usk_ulp_remove(client) == 0 && usk_ulp_remove(server) == 0);
    CHECK(usk_send(client, "plain", 5, 0) == 5);
    CHECK(usk_recv(server, buf, sizeof buf, 0) == 5 && memcmp(buf, "plain", 5) == 0);
    CHECK(usk_close(client) == 0 && usk_close(server) == 0 && usk_close(listener) == 0);
    CHECK(usk_plugin_unload(plugin) == 0);
    usk_stack_free(stack);
    puts("@name@: ok");
    return 0;
}

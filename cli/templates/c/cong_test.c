/* Tests @name@.so: a TCP connection over the loopback of a stack of this process sends by it. Status 0: it works. */
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

enum { BYTES = 1 << 20 };

static uint64_t counter(usk_stack_t *stack, const char *name)
{
    uint64_t value = 0;
    CHECK(usk_mib_read(stack, name, &value) == 0);
    return value;
}

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
        r = usk_recv(to, buf, sizeof buf, 0);
        CHECK(r > 0);
        for (ptrdiff_t i = 0; i < r; i++)
            CHECK(buf[i] == byte(got + (size_t)i));
        got += (size_t)r;
    }
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
    CHECK(usk_setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "@name@", strlen("@name@")) == 0);
    CHECK(usk_connect(client, (struct sockaddr *)&at, sizeof at) == 0);
    int server = usk_accept(listener, NULL, NULL);
    CHECK(server >= 0);
    transfer(client, server);

    /* It ran: its counter and its own number of the connection agree. */
    uint64_t acked = 0;
    socklen_t len = sizeof acked;
    CHECK(usk_getsockopt(client, IPPROTO_TCP, TCP_CC_INFO, &acked, &len) == 0 && len == sizeof acked);
    CHECK(acked > 0 && counter(stack, "@Name@Acked") >= acked);
    /* Its sysctl takes what is within its bounds. */
    CHECK(usk_sysctl_set(stack, "net.@name@.beta", "85") == 0);
    CHECK(usk_sysctl_set(stack, "net.@name@.beta", "96") == -1 && errno == EINVAL);
    /* A connection that has it keeps it loaded. */
    CHECK(usk_plugin_unload(plugin) == -1 && errno == EBUSY);
    CHECK(usk_close(client) == 0 && usk_close(server) == 0 && usk_close(listener) == 0);
    usk_stack_free(stack);
    puts("@name@: ok");
    return 0;
}

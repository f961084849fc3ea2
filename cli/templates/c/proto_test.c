/* Tests @name@.so: loads it into a stack of this process, whose loopback carries its packets. Status 0: it works. */
#include <arpa/inet.h>
#include <errno.h>
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

enum { PROTOCOL = 254 };

static uint64_t counter(usk_stack_t *stack, const char *name)
{
    uint64_t value = 0;
    CHECK(usk_mib_read(stack, name, &value) == 0);
    return value;
}

/* Datagrams there and back between two sockets. */
static void talk(usk_stack_t *stack, const struct sockaddr *any, socklen_t size)
{
    int server = usk_socket_on(stack, any->sa_family, SOCK_DGRAM, PROTOCOL);
    int client = usk_socket_on(stack, any->sa_family, SOCK_DGRAM, PROTOCOL);
    struct sockaddr_storage name, from;
    socklen_t len = sizeof name, from_len = sizeof from;
    char buf[64];
    CHECK(server >= 0 && client >= 0);
    CHECK(usk_bind(server, any, size) == 0);
    CHECK(usk_getsockname(server, (struct sockaddr *)&name, &len) == 0);
    CHECK(usk_connect(client, (struct sockaddr *)&name, len) == 0);

    CHECK(usk_send(client, "hello", 5, 0) == 5);
    struct pollfd ready = { .fd = server, .events = POLLIN };
    CHECK(usk_poll(&ready, 1, 5000) == 1 && ready.revents == POLLIN);
    CHECK(usk_recvfrom(server, buf, sizeof buf, 0, (struct sockaddr *)&from, &from_len) == 5);
    CHECK(memcmp(buf, "hello", 5) == 0);
    CHECK(usk_sendto(server, "and back", 8, 0, (struct sockaddr *)&from, from_len) == 8);
    /* What does not fit is lost; MSG_TRUNC tells the true length. */
    CHECK(usk_recv(client, buf, 3, MSG_TRUNC) == 8 && memcmp(buf, "and", 3) == 0);
    CHECK(usk_recv(client, buf, sizeof buf, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    /* Without a peer there is nowhere to send to. */
    CHECK(usk_send(server, "whereto", 7, 0) == -1 && errno == EDESTADDRREQ);
    CHECK(usk_close(server) == 0 && usk_close(client) == 0);
}

int main(int argc, char **argv)
{
    usk_stack_t *stack = usk_stack_new("");
    CHECK(argc == 2 && stack);
    usk_plugin_t *plugin = usk_plugin_load(stack, argv[1]);
    CHECK(plugin);
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    talk(stack, (struct sockaddr *)&v4, sizeof v4);
    talk(stack, (struct sockaddr *)&v6, sizeof v6);
    CHECK(counter(stack, "@Name@OutDatagrams") == 4);
    CHECK(counter(stack, "@Name@InDatagrams") == 4);
    CHECK(counter(stack, "@Name@InErrors") == 0);
    CHECK(usk_plugin_unload(plugin) == 0);
    usk_stack_free(stack);
    puts("@name@: ok");
    return 0;
}

/* A capture of a part of a program's life: two sockets of one process talk over the in-memory loopback, and a pcap file
 * holds what they say. Needs no privilege. The same calls work on a TUN device; pcap=FILE in a configuration captures
 * from the start.
 *
 *   cc -o capture capture.c $(pkg-config --cflags --libs usersock)
 *   ./capture talk.pcap && tshark -r talk.pcap */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <usersock.h>

static int fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "capture: %s: %s\n", what, *why ? why : strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: capture FILE\n");
        return 2;
    }
    usk_stack_t *stack = usk_stack_new(NULL);
    if (!stack)
        return fail("stack");
    if (usk_pcap_start(stack, argv[1]) == -1)
        return fail(argv[1]);

    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    int listener = usk_socket_on(stack, AF_INET, SOCK_STREAM, 0);
    int client = usk_socket_on(stack, AF_INET, SOCK_STREAM, 0);
    if (usk_bind(listener, (struct sockaddr *)&at, sizeof at) == -1 || usk_listen(listener, 1) == -1 ||
        usk_getsockname(listener, (struct sockaddr *)&at, &len) == -1 ||
        usk_connect(client, (struct sockaddr *)&at, len) == -1)
        return fail("connect");
    int server = usk_accept(listener, NULL, NULL);
    char buf[64];
    if (usk_send(client, "hello", 5, MSG_NOSIGNAL) != 5 || usk_recv(server, buf, sizeof buf, 0) != 5)
        return fail("talk");
    usk_close(client);
    usk_close(server);
    usk_close(listener);

    uint64_t segments;
    if (usk_pcap_stop(stack) == -1 || usk_mib_read(stack, "TcpOutSegs", &segments) == -1)
        return fail("pcap");
    printf("%s: a connection of %" PRIu64 " segments\n", argv[1], segments);
    usk_stack_free(stack);
    return 0;
}

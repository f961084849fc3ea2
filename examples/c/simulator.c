/* A protocol on a bad network, in virtual time: a message every 10 ms for ten seconds, over a link of 1 Mbit/s that is
 * 20 ms long, loses 2 % of the packets and delays 1 % of them. What each message took goes into a table, which
 * `usersock plot` draws. The same seed gives the same packets at the same times. Needs no privilege.
 *
 *   cc -o simulator simulator.c $(pkg-config --cflags --libs usersock)
 *   ./simulator stream:0 7 tcp.csv && usersock plot --csv tcp.csv -o tcp.svg
 *   ./simulator dgram:254 7 tiny.csv ./tiny.so && tshark -r tiny.csv.pcap */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usersock/sim.h>

#define MS UINT64_C(1000000)
#define LINK "rate=1mbit delay=20ms loss=2% reorder=1% reorder-by=15ms"
enum { MESSAGES = 1000, EVERY_MS = 10, SAMPLE_MS = 100 };

/* What a message carries; the rest of it is zero. */
struct message {
    uint64_t number, sent_at;
    char rest[184];
};

static struct {
    usk_world_t *world;
    usk_stack_t *client, *server;
    usk_link_t *link;
    struct sockaddr_in at; /* the server */
    int type, protocol;
    uint64_t sent, received, late; /* messages; those that came after a later one */
    uint64_t slowest;              /* of those since the last sample, ns */
} sim;

static void fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "simulator: %s: %s\n", what, *why ? why : strerror(errno));
    exit(1);
}

static int has_connections(void)
{
    return sim.type != SOCK_DGRAM;
}

/* A thread of the world: what blocks in it, blocks in virtual time. */
static void *server(void *arg)
{
    (void)arg;
    int s = usk_socket_on(sim.server, AF_INET, sim.type, sim.protocol);
    if (s == -1 || usk_bind(s, (struct sockaddr *)&sim.at, sizeof sim.at) == -1)
        fail("server");
    if (has_connections()) {
        int listener = s;
        if (usk_listen(listener, 1) == -1 || (s = usk_accept(listener, NULL, NULL)) == -1)
            fail("accept");
        usk_close(listener);
    } else {
        /* Datagrams have no end: it is over when none has come for two seconds. */
        struct timeval two = { .tv_sec = 2 };
        usk_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &two, sizeof two);
    }
    struct message m;
    uint64_t last = 0;
    while (usk_recv(s, &m, sizeof m, MSG_WAITALL) == sizeof m) {
        uint64_t took = (uint64_t)usk_world_now(sim.world) - m.sent_at;
        if (took > sim.slowest)
            sim.slowest = took;
        sim.late += m.number < last;
        last = m.number > last ? m.number : last;
        sim.received++;
    }
    usk_close(s);
    return NULL;
}

static void *client(void *arg)
{
    (void)arg;
    int s = usk_socket_on(sim.client, AF_INET, sim.type, sim.protocol);
    if (s == -1 || usk_connect(s, (struct sockaddr *)&sim.at, sizeof sim.at) == -1)
        fail("connect");
    for (uint64_t i = 1; i <= MESSAGES; i++) {
        struct message m = { .number = i, .sent_at = (uint64_t)usk_world_now(sim.world) };
        if (usk_send(s, &m, sizeof m, MSG_NOSIGNAL) != sizeof m)
            fail("send");
        sim.sent++;
        if (usk_world_run_for(sim.world, EVERY_MS * MS) == -1)
            return NULL; /* the world ends */
    }
    usk_close(s);
    return NULL;
}

/* The table: a line each 100 ms. `usersock plot` makes a panel of the columns that share what is before the colon. */
static void *sampler(void *arg)
{
    FILE *table = arg;
    fprintf(table, "seconds,messages: sent,messages: received,packets: lost,slowest one in ms: one way\n");
    do {
        usk_link_stats_t forth, back;
        if (usk_link_stats(sim.link, 0, &forth, sizeof forth) == -1 ||
            usk_link_stats(sim.link, 1, &back, sizeof back) == -1)
            fail("stats");
        fprintf(table, "%.1f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",", (double)usk_world_now(sim.world) / 1e9, sim.sent,
                sim.received, forth.lost + back.lost);
        if (sim.slowest)
            fprintf(table, "%.3f", (double)sim.slowest / 1e6);
        fprintf(table, "\n");
        sim.slowest = 0;
    } while (usk_world_run_for(sim.world, SAMPLE_MS * MS) == 0);
    return NULL;
}

static usk_stack_t *host(const char *name, const char *plugin)
{
    char config[512];
    snprintf(config, sizeof config, "%s%s", plugin ? "plugin=" : "", plugin ? plugin : "");
    usk_stack_t *stack = usk_world_host(sim.world, name, config);
    if (!stack)
        fail(name);
    return stack;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int type;
    } types[] = { { "stream", SOCK_STREAM }, { "dgram", SOCK_DGRAM }, { "seqpacket", SOCK_SEQPACKET } };
    char name[16] = "";
    if (argc < 4 || argc > 5 || sscanf(argv[1], "%15[a-z]:%d", name, &sim.protocol) != 2) {
        fprintf(stderr, "usage: simulator stream|dgram|seqpacket:PROTOCOL SEED TABLE.csv [PLUGIN.so]\n");
        return 2;
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(name, types[i].name) == 0)
            sim.type = types[i].type;

    sim.world = usk_world_new(strtoull(argv[2], NULL, 0));
    if (!sim.world)
        fail("world");
    sim.client = host("client", argv[4]);
    sim.server = host("server", argv[4]);
    sim.link = usk_world_link(sim.world, "client", "server", LINK, 0, 0);
    socklen_t len = sizeof sim.at;
    if (!sim.link || usk_link_addr(sim.link, 1, AF_INET, 9, (struct sockaddr *)&sim.at, &len) == -1)
        fail("link");
    FILE *table = fopen(argv[3], "w");
    char capture[512];
    snprintf(capture, sizeof capture, "%s.pcap", argv[3]);
    if (!table || usk_link_pcap_start(sim.link, 0, capture) == -1)
        fail(argv[3]);
    fprintf(table, "# %s, seed %s: %s\n", argv[1], argv[2], LINK);

    usk_thread_t *serves = usk_world_thread(sim.world, 0, server, NULL);
    if (!serves || !usk_world_thread(sim.world, 1 * MS, client, NULL) ||
        !usk_world_thread(sim.world, 2 * MS, sampler, table))
        fail("threads");
    /* Joining steps the world: from here on time passes. */
    if (usk_thread_join(serves, NULL) == -1)
        fail("join");
    printf("%" PRIu64 " messages sent, %" PRIu64 " received, %" PRIu64 " of them after a later one; %.3f s\n", sim.sent,
           sim.received, sim.late, (double)usk_world_now(sim.world) / 1e9);
    /* The sampler waits still, and is told now. */
    if (usk_world_free(sim.world) == -1)
        fail(capture);
    usk_stack_free(sim.client);
    usk_stack_free(sim.server);
    fclose(table);
    return 0;
}

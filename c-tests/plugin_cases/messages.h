/* Messages over connections of a plug-in's protocol (SOCK_SEQPACKET): between two hosts of a world with a bad link, and
 * on one stack. Include after common.h. */
#ifndef USERSOCK_PLUGIN_CASES_MESSAGES_H
#define USERSOCK_PLUGIN_CASES_MESSAGES_H
#include "two_hosts.h"

struct talk {
    usk_world_t *world;
    usk_stack_t *client, *server;
    usk_link_t *link;
    struct addr at;
    int protocol, connections, messages;
    size_t longest;
    int finished;
};

static UNUSED struct talk talk_new(uint64_t seed, const char *link, const char *client, const char *server)
{
    struct two_hosts n = two_hosts(seed, link, client, server);
    struct talk t = { .world = n.world, .client = n.a, .server = n.b, .link = n.link, .at = n.to_b };
    return t;
}

static UNUSED void talk_free(struct talk *t)
{
    OK(usk_world_free(t->world));
    usk_stack_free(t->client);
    usk_stack_free(t->server);
}

static size_t length_of(const struct talk *t, int i)
{
    return 1 + (size_t)i * 7919 % t->longest;
}

static void fill(unsigned char *buf, int i, size_t len)
{
    for (size_t k = 0; k < len; k++)
        buf[k] = pattern((uint64_t)i, k);
}

/* Receives the messages of one connection, and thanks. */
static void *talk_serve(void *arg)
{
    struct talk *t = arg;
    unsigned char *buf = malloc(t->longest + 1), *want = malloc(t->longest + 1);
    int l = (int)OK(usk_socket_on(t->server, AF_INET, SOCK_SEQPACKET, t->protocol));
    OK(usk_bind(l, &t->at.sa, t->at.len));
    OK(usk_listen(l, t->connections));
    for (int n = 0; n < t->connections; n++) {
        int s = (int)OK(usk_accept(l, NULL, NULL)), wrong = 0;
        for (int i = 0; i < t->messages; i++) {
            fill(want, i, length_of(t, i));
            long got = OK(usk_recv(s, buf, t->longest + 1, 0));
            wrong += got != (long)length_of(t, i) || memcmp(buf, want, length_of(t, i)) != 0;
        }
        EQ(wrong, 0);
        EQ(usk_recv(s, buf, t->longest, 0), 0);
        EQ(usk_send(s, "thanks", 6, MSG_NOSIGNAL), 6);
        OK(usk_close(s));
    }
    OK(usk_close(l));
    free(buf);
    free(want);
    return NULL;
}

/* Sends the messages of one connection. */
static void *talk_ask(void *arg)
{
    struct talk *t = arg;
    unsigned char *buf = malloc(t->longest + 1);
    int c = (int)OK(usk_socket_on(t->client, AF_INET, SOCK_SEQPACKET, t->protocol));
    OK(usk_connect(c, &t->at.sa, t->at.len));
    for (int i = 0; i < t->messages; i++) {
        fill(buf, i, length_of(t, i));
        EQ(usk_send(c, buf, length_of(t, i), MSG_NOSIGNAL), (long long)length_of(t, i));
    }
    OK(usk_shutdown(c, SHUT_WR));
    ERR(usk_send(c, buf, 1, MSG_NOSIGNAL), EPIPE);
    EQ(usk_recv(c, buf, t->longest, 0), 6);
    EQ(memcmp(buf, "thanks", 6), 0);
    EQ(usk_recv(c, buf, t->longest, 0), 0);
    OK(usk_close(c));
    t->finished++;
    free(buf);
    return NULL;
}

/* All of it; afterwards nothing is under way and no timer is armed. */
static UNUSED void talk(struct talk *t)
{
    usk_thread_t *clients[16], *server = usk_world_thread(t->world, 0, talk_serve, t);
    for (int i = 0; i < t->connections; i++)
        clients[i] = usk_world_thread(t->world, 1 * MS, talk_ask, t);
    for (int i = 0; i < t->connections; i++)
        OK(usk_thread_join(clients[i], NULL));
    OK(usk_thread_join(server, NULL));
    EQ(t->finished, t->connections);
    EQ(usk_world_run_until_idle(t->world, usk_world_now(t->world) + 600 * S), 1);
}

/* A listener and a connection to it on one stack. */
struct pair {
    int l, c, s;
    struct addr at;
};

static UNUSED struct pair pair_new(usk_stack_t *stack, const char *ip, int protocol)
{
    struct pair p = { .at = at(ip, 80) };
    int family = p.at.sa.sa_family;
    p.l = (int)OK(usk_socket_on(stack, family, SOCK_SEQPACKET, protocol));
    p.c = (int)OK(usk_socket_on(stack, family, SOCK_SEQPACKET, protocol));
    OK(usk_bind(p.l, &p.at.sa, p.at.len));
    OK(usk_listen(p.l, 4));
    OK(usk_connect(p.c, &p.at.sa, p.at.len));
    p.s = (int)OK(usk_accept(p.l, NULL, NULL));
    return p;
}

static UNUSED void pair_close(struct pair *p)
{
    OK(usk_close(p->c));
    OK(usk_close(p->s));
    OK(usk_close(p->l));
}

static UNUSED usk_plugin_t *load(usk_stack_t *stack, const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.so", dir, name);
    return usk_plugin_load(stack, path);
}

/* How many sockets of a protocol the stack lists. */
static UNUSED int listed(usk_stack_t *stack, uint32_t protocol)
{
    usk_sock_entry_t all[64];
    long long total = OK(usk_sock_list(stack, all, 64, sizeof all[0]));
    int n = 0;
    for (long long i = 0; i < total && i < 64; i++)
        n += all[i].protocol == protocol;
    return n;
}
#endif

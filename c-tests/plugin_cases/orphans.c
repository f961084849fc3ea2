/* Connections that no program has: destroy runs once for each, at the address that its protocol knows, whoever drops
 * the last reference: a handle, one of two threads that drop theirs at once, a timer, a packet, or the registration's
 * end. The protocol is this program's, over IP protocol 252. ARGV[1] is the folder of the built plug-ins, which is not
 * used. */
#include "common.h"
#include <pthread.h>
#include <stdatomic.h>
#include <usersock/over.h>
#include <usersock/sim.h>

#define MS 1000000ULL

enum { MINE = 252 };

/* What listen(2) is to do, and what came of it. */
static struct {
    enum { TIMER, TWO, PACKET } how;
    usk_sock_t *child;
    int fired, destroyed;
} orphan;

static void mine_destroy(usk_owned_t *o)
{
    /* The listener has one as well. */
    if (usk_owned_sock(o) == orphan.child)
        orphan.destroyed++;
}

static void mine_release_cb(usk_owned_t *o, uint32_t bits)
{
    CHECK(usk_owned_sock(o) == orphan.child);
    EQ(bits, 1 << 7);
    orphan.fired++;
}

static int mine_listen(usk_owned_t *o, uint32_t backlog)
{
    usk_owned_t c;
    usk_addr_t local, peer;
    usk_sock_t *inner;
    EQ(usk_listen_start(o, backlog), 0);
    usk_sock_t *child = orphan.child = usk_new_child(o);
    CHECK(child != NULL);
    switch (orphan.how) {
    case TIMER:
        EQ(usk_lock_sock(child, &c), 0);
        EQ(usk_timer_arm(&c, 7, usk_owned_now(o) + 5 * MS), 0);
        usk_release_sock(&c);
        usk_sock_put(child);
        break;
    case TWO:
        /* With a sock of its own, which refers back to it. */
        EQ(usk_lock_sock(child, &c), 0);
        EQ(usk_inner_open(&c, AF_INET, SOCK_DGRAM, 0, NULL, &inner), 0);
        usk_release_sock(&c);
        usk_sock_hold(child);
        break;
    case PACKET:
        /* A refusal, say, to a peer behind a slow link: the packet outlives its sender. */
        EQ(usk_ends(o, &local, NULL), 0);
        peer = local;
        inet_pton(AF_INET, "10.1.0.2", peer.addr);
        peer.port = 9;
        EQ(usk_lock_sock(child, &c), 0);
        EQ(usk_set_ends(&c, &local, &peer), 0);
        for (int i = 0; i < 2; i++) {
            static const char zeros[1000];
            usk_skb_t *skb = usk_skb_new();
            EQ(usk_skb_append(skb, zeros, sizeof zeros), 0);
            EQ(usk_xmit(&c, skb, &peer), 0);
        }
        usk_release_sock(&c);
        usk_sock_put(child);
        break;
    }
    return 0;
}

static ptrdiff_t mine_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return -EPIPE;
}

static ptrdiff_t mine_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return -ENOTCONN;
}

static int init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "MINE",
        .socket_type = SOCK_STREAM,
        .protocol = MINE,
        .flags = USK_PROTO_V4 | USK_PROTO_CONNECTIONS,
        .sendmsg_locked = mine_sendmsg,
        .recvmsg_locked = mine_recvmsg,
        .backlog_rcv = free_it,
        .release_cb = mine_release_cb,
        .destroy = mine_destroy,
        .listen = mine_listen,
        .rcv = rcv_free,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

/* A listener that has made its child. */
static int listen_with(usk_stack_t *stack, int how)
{
    orphan.how = how;
    orphan.fired = orphan.destroyed = 0;
    int l = usk_socket_on(stack, AF_INET, SOCK_STREAM, MINE);
    OK(l);
    OK(usk_listen(l, 4));
    return l;
}

static void timer(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *stack = usk_world_host(world, "a", NULL);
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", init);
    CHECK(plugin != NULL);
    int l = listen_with(stack, TIMER);
    OK(usk_world_run_for(world, 4 * MS));
    EQ(orphan.fired + orphan.destroyed, 0);
    OK(usk_world_run_for(world, 2 * MS));
    EQ(orphan.fired, 1);
    EQ(orphan.destroyed, 1);
    OK(usk_close(l));
    OK(usk_plugin_unload(plugin));
    OK(usk_world_free(world));
    usk_stack_free(stack);
}

/* One packet a second: the second one waits in the device. */
static void packet(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *a = usk_world_host(world, "a", NULL), *b = usk_world_host(world, "b", NULL);
    usk_plugin_t *plugin = usk_plugin_attach(a, "mine", init);
    CHECK(plugin != NULL && b != NULL);
    CHECK(usk_world_link(world, "a", "b", "rate=8kbit", 0, USK_SIM_OWN_QUEUE) != NULL);
    int l = usk_socket_on(a, AF_INET, SOCK_STREAM, MINE);
    OK(l);
    struct addr from = at("10.1.0.1", 7);
    OK(usk_bind(l, &from.sa, from.len));
    orphan.how = PACKET;
    orphan.destroyed = 0;
    OK(usk_listen(l, 4));
    EQ(orphan.destroyed, 0);
    OK(usk_world_run_for(world, 5000 * MS));
    EQ(orphan.destroyed, 1);
    OK(usk_close(l));
    OK(usk_plugin_unload(plugin));
    OK(usk_world_free(world));
    usk_stack_free(a);
    usk_stack_free(b);
}

enum { ROUNDS = 5000 };

/* Rounds that this program has begun, and that the other thread has ended: both wait awake, so that they meet. */
static atomic_int begun, ended;

static void *putter(void *arg)
{
    (void)arg;
    for (int i = 1; i <= ROUNDS; i++) {
        while (atomic_load(&begun) < i)
            ;
        usk_sock_put(orphan.child);
        atomic_store(&ended, i);
    }
    return NULL;
}

static void two_threads(void)
{
    usk_stack_t *stack = usk_stack_new("");
    usk_plugin_t *plugin = usk_plugin_attach(stack, "mine", init);
    CHECK(plugin != NULL);
    pthread_t thread;
    EQ(pthread_create(&thread, NULL, putter, NULL), 0);
    for (int i = 1; i <= ROUNDS; i++) {
        int l = listen_with(stack, TWO);
        usk_sock_t *child = orphan.child;
        atomic_store(&begun, i);
        for (int wait = i % 100; wait > 0; wait--)
            atomic_load(&ended);
        usk_sock_put(child);
        while (atomic_load(&ended) < i)
            ;
        EQ(orphan.destroyed, 1);
        OK(usk_close(l));
    }
    EQ(pthread_join(thread, NULL), 0);
    OK(usk_plugin_unload(plugin));
    usk_stack_free(stack);
}

int main(void)
{
    begin("orphans");
    timer();
    packet();
    two_threads();
    return done();
}

/* Inner socks: what they tell, over UDP, TCP and another protocol of a plug-in; orders of locks that would deadlock;
 * what is left open, and how it ends. The scenes run in setsockopt of the outer protocol, in a world, where nothing
 * runs but what is called. */
#include "common.h"
#include "messages.h"
#include <poll.h>
#include <usersock/over.h>
#include <usersock/sim.h>

enum { OUTER = 400, WITHIN = 401 };
enum scene { REFUSALS, ORDER, DATAGRAMS, CONNECT, TALK, OVER_ANOTHER, FORGETFUL, BREAKS, SQUEEZED };
enum { READY = 2, ROOM = 4, CHANGED = 8 };

static usk_stack_t *stack;
static int outer_fd;
static usk_sock_t *outer_of_within;

/* A sock of the outer protocol. */
struct outer {
    usk_sock_t *a, *b;
    int ready, room, changed, received, error;
    char last[16];
    usk_addr_t from, to;
    int sent;
};
static struct outer *last_outer;

static int told_owning;
static void tell(usk_sock_t *outer, uint32_t bit)
{
    usk_owned_t o;
    /* Nothing is owned here, or this would be -EDEADLK. */
    told_owning += usk_lock_sock(outer, &o) != 0;
    usk_release_sock(&o);
    EQ(usk_defer(outer, bit), 0);
}
static void on_data(usk_sock_t *outer, usk_sock_t *inner)
{
    (void)inner;
    tell(outer, READY);
}
static void on_room(usk_sock_t *outer, usk_sock_t *inner)
{
    (void)inner;
    tell(outer, ROOM);
}
static void on_change(usk_sock_t *outer, usk_sock_t *inner)
{
    CHECK(usk_sock_state(inner) > 0);
    tell(outer, CHANGED);
}
static const usk_inner_ops ops = {
    .version = USK_INNER_VERSION,
    .size = sizeof ops,
    .data_ready = on_data,
    .write_space = on_room,
    .state_change = on_change,
};
/* A function that forgets a lock, which is released for it, and breaks its sock. */
static void forgets(usk_sock_t *outer, usk_sock_t *inner)
{
    static usk_owned_t o;
    (void)inner;
    usk_lock_sock(outer, &o);
}

/* Sends what there is room for, of 50 datagrams to `to`. */
static void send_some(usk_owned_t *o, struct outer *f)
{
    static const char bytes[500];
    for (; f->sent < 50; f->sent++) {
        ptrdiff_t n = usk_inner_send(o, f->a, bytes, sizeof bytes, 0, &f->to);
        if (n < 0) {
            EQ(n, -EAGAIN);
            return;
        }
    }
}

static void on_bits(usk_owned_t *o, uint32_t bits)
{
    struct outer *f = usk_private(o);
    f->ready += (bits & READY) != 0;
    f->room += (bits & ROOM) != 0;
    f->changed += (bits & CHANGED) != 0;
    if (f->a && f->to.port && (bits & ROOM))
        send_some(o, f);
    EQ(usk_wait(o, POLLIN, USK_FOREVER), -EDEADLK);
    for (ptrdiff_t n = 1; f->a && (bits & READY) && n > 0;) {
        n = usk_inner_recv(o, f->a, f->last, sizeof f->last, 0, &f->from);
        f->received += n > 0;
        f->error = n < 0 && n != -EAGAIN ? (int)-n : f->error;
    }
}

static usk_addr_t here(uint16_t port)
{
    return (usk_addr_t){ .family = AF_INET, .port = port, .addr = { 127, 0, 0, 1 } };
}

static void refusals(usk_owned_t *o, struct outer *f)
{
    usk_sock_t *x = NULL;
    usk_inner_ops bad = ops;
    EQ(usk_inner_open(o, 99, SOCK_DGRAM, 0, &ops, &x), -EAFNOSUPPORT);
    EQ(usk_inner_open(o, AF_INET, 9, 0, &ops, &x), -ESOCKTNOSUPPORT);
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 99, &ops, &x), -EPROTONOSUPPORT);
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 999, &ops, &x), -EINVAL);
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &ops, NULL), -EFAULT);
    EQ(usk_inner_open(NULL, AF_INET, SOCK_DGRAM, 0, &ops, &x), -EINVAL);
    bad.version = 9;
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &bad, &x), -EINVAL);
    CHECK(x == NULL);
    EQ(usk_inner_open(o, AF_INET, SOCK_STREAM, 0, NULL, &f->a), 0);
    char byte;
    usk_addr_t a = here(1);
    EQ(usk_inner_send(o, f->a, "x", 1, 0, NULL), -EPIPE);
    EQ(usk_inner_recv(o, f->a, &byte, 1, 0, NULL), -ENOTCONN);
    EQ(usk_inner_send(o, f->a, NULL, 1, 0, NULL), -EFAULT);
    EQ(usk_inner_bind(o, f->a, NULL), -EFAULT);
    a.addr[0] = 9;
    EQ(usk_inner_bind(o, f->a, &a), -EADDRNOTAVAIL);
    EQ(usk_inner_ends(o, f->a, NULL, &a), -ENOTCONN);
    EQ(usk_inner_shutdown(o, f->a, 7), -EINVAL);
    EQ(usk_inner_setsockopt(o, f->a, IPPROTO_IP, 9999, &byte, 1), -ENOPROTOOPT);
    EQ(usk_inner_accept(o, f->a, o, &ops, &x), -EINVAL);
    int one = 1, value = 0;
    EQ(usk_inner_setsockopt(o, f->a, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one), 0);
    EQ(usk_inner_getsockopt(o, f->a, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value), sizeof value);
    EQ(value, 1);
    /* Not an inner one of this sock. */
    EQ(usk_inner_send(o, usk_owned_sock(o), "x", 1, 0, NULL), -EINVAL);
    EQ(usk_inner_send(o, NULL, "x", 1, 0, NULL), -EINVAL);
    usk_sock_t *gone = usk_sock_hold(f->a);
    EQ(usk_inner_close(o, f->a), 0);
    EQ(usk_inner_close(o, gone), -EINVAL);
    EQ(usk_inner_poll(o, gone), 0);
    usk_sock_put(gone);
    f->a = NULL;
}

static void order(usk_sock_t *sk, usk_owned_t *o, struct outer *f)
{
    usk_owned_t i, again;
    char byte;
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &ops, &f->a), 0);
    usk_sock_t *inner = f->a;
    /* Outer, then inner: allowed, but then its calls would lock it again. */
    EQ(usk_lock_sock(inner, &i), 0);
    EQ(usk_inner_recv(o, inner, &byte, 1, 0, NULL), -EDEADLK);
    EQ(usk_inner_close(o, inner), -EDEADLK);
    /* To sleep is to release the outer one, and to own it again. */
    EQ(usk_wait(o, POLLIN, 0), -EDEADLK);
    usk_release_sock(&i);
    EQ(usk_wait(o, POLLIN, 0), -EAGAIN);
    EQ(usk_inner_recv(o, inner, &byte, 1, 0, NULL), -EAGAIN);
    /* A connection is for a sock of the same registration. */
    usk_sock_t *within = NULL, *x = NULL;
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, WITHIN, NULL, &within), 0);
    EQ(usk_inner_open(o, AF_INET, SOCK_STREAM, 0, NULL, &f->b), 0);
    EQ(usk_inner_listen(o, f->b, 1), 0);
    EQ(usk_inner_accept(o, f->b, o, &ops, &x), -EAGAIN);
    EQ(usk_lock_sock(within, &i), 0);
    EQ(usk_inner_accept(o, f->b, &i, &ops, &x), -EINVAL);
    usk_release_sock(&i);
    EQ(usk_inner_close(o, within), 0);
    EQ(usk_inner_close(o, f->b), 0);
    f->b = NULL;
    usk_release_sock(o);
    /* Inner, then outer: never. */
    EQ(usk_lock_sock(inner, &i), 0);
    EQ(usk_lock_sock(sk, &again), -EDEADLK);
    ERR(usk_recv(outer_fd, &byte, 1, MSG_DONTWAIT), EDEADLK);
    ERR(usk_close(outer_fd), EDEADLK);
    usk_release_sock(&i);
    EQ(usk_lock_sock(sk, o), 0);
    EQ(usk_inner_close(o, f->a), 0);
    f->a = NULL;
}

static void datagrams(usk_owned_t *o, struct outer *f)
{
    usk_addr_t at_a = here(6000), name;
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &ops, &f->a), 0);
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &ops, &f->b), 0);
    EQ(usk_inner_bind(o, f->a, &at_a), 0);
    EQ(usk_inner_bind(o, f->b, &at_a), -EADDRINUSE);
    EQ(usk_inner_ends(o, f->a, &name, NULL), 0);
    EQ(name.port, 6000);
    EQ(usk_inner_send(o, f->b, "one", 3, 0, NULL), -EDESTADDRREQ);
    EQ(usk_inner_send(o, f->b, "one", 3, 0, &at_a), 3);
    EQ(usk_inner_connect(o, f->b, &at_a), 0);
    EQ(usk_inner_send(o, f->b, "two", 4, 0, NULL), 4);
    EQ(usk_inner_connect(o, f->b, NULL), 0);
    EQ(usk_inner_send(o, f->b, "three", 5, 0, NULL), -EDESTADDRREQ);
    EQ(f->received, 0); /* softirq is left to the end of the call */
}

static void connects(usk_owned_t *o, struct outer *f)
{
    usk_addr_t to = here(6001);
    EQ(usk_inner_open(o, AF_INET, SOCK_STREAM, 0, &ops, &f->a), 0);
    EQ(usk_inner_connect(o, f->a, &to), -EINPROGRESS);
    EQ(usk_inner_connect(o, f->a, &to), -EALREADY);
    EQ(usk_sock_state(f->a), TCP_SYN_SENT);
    EQ(f->changed, 0);
}

static void talks(usk_owned_t *o, struct outer *f)
{
    static char bytes[100000];
    long n = 0, r;
    EQ(usk_sock_state(f->a), TCP_ESTABLISHED);
    while ((r = (long)usk_inner_send(o, f->a, bytes, sizeof bytes, 0, NULL)) > 0)
        n += r;
    EQ(r, -EAGAIN);
    CHECK(n > 0);
    EQ(usk_inner_poll(o, f->a) & POLLOUT, 0);
}

static void over_another(usk_sock_t *sk, usk_owned_t *o, struct outer *f)
{
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, WITHIN, &ops, &f->a), 0);
    EQ(usk_inner_send(o, f->a, "within", 6, 0, NULL), 6);
    EQ(usk_inner_poll(o, f->a) & POLLIN, POLLIN);
    /* Again with nothing but the inner one owned. */
    usk_release_sock(o);
    outer_of_within = sk;
    EQ(usk_defer(f->a, 1), 0);
    outer_of_within = NULL;
    usk_lock_sock(sk, o);
}

static int set(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    (void)level;
    usk_lock_sock(sk, &o);
    struct outer *f = last_outer = usk_private(&o);
    usk_inner_ops bad = ops;
    bad.data_ready = forgets;
    switch (name) {
    case REFUSALS:
        refusals(&o, f);
        break;
    case ORDER:
        order(sk, &o, f);
        break;
    case DATAGRAMS:
        datagrams(&o, f);
        break;
    case CONNECT:
        connects(&o, f);
        break;
    case TALK:
        talks(&o, f);
        break;
    case OVER_ANOTHER:
        over_another(sk, &o, f);
        break;
    case FORGETFUL:
        EQ(usk_inner_open(&o, AF_INET, SOCK_DGRAM, 0, &ops, &f->a), 0);
        EQ(usk_inner_open(&o, AF_INET6, SOCK_STREAM, 0, &ops, &f->b), 0);
        usk_addr_t a = here(6002);
        EQ(usk_inner_bind(&o, f->a, &a), 0);
        break;
    case SQUEEZED:
        EQ(len, sizeof f->to);
        memcpy(&f->to, value, sizeof f->to);
        EQ(usk_inner_open(&o, AF_INET, SOCK_DGRAM, 0, &ops, &f->a), 0);
        int small = 1;
        EQ(usk_inner_setsockopt(&o, f->a, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
        send_some(&o, f);
        CHECK(f->sent > 1 && f->sent < 50);
        break;
    case BREAKS:
        EQ(usk_inner_open(&o, AF_INET, SOCK_DGRAM, 0, &bad, &f->b), 0);
        usk_addr_t b = here(6003);
        EQ(usk_inner_bind(&o, f->b, &b), 0);
    }
    usk_release_sock(&o);
    return 0;
}

static void destroy_outer(usk_owned_t *o)
{
    struct outer *f = usk_private(o);
    usk_sock_t *x = NULL;
    EQ(usk_inner_open(o, AF_INET, SOCK_DGRAM, 0, &ops, &x), -EINVAL);
    if (f->a && f->received)
        EQ(usk_inner_close(o, f->a), 0);
}
static ptrdiff_t no_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return -EOPNOTSUPP;
}
static ptrdiff_t no_recv(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return -EAGAIN;
}

/* The protocol within: what is sent is received. It does not know of the outer one, and must not lock it. */
static int entered;
static ptrdiff_t send_within(usk_owned_t *o, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    EQ(usk_receive_push(o, usk_skb_from_msg(msg, len)), 0);
    EQ(usk_defer(usk_owned_sock(o), 1), 0);
    return (ptrdiff_t)len;
}
static ptrdiff_t recv_within(usk_owned_t *o, usk_recvmsg_t *msg)
{
    return usk_receive_msg(o, msg, 0);
}
static void bits_within(usk_owned_t *o, uint32_t bits)
{
    usk_owned_t outer;
    (void)o, (void)bits;
    entered++;
    if (outer_of_within)
        EQ(usk_lock_sock(outer_of_within, &outer), -EDEADLK);
}

static int init(usk_plugin_t *plugin)
{
    const usk_proto outer = { .version = USK_PROTO_VERSION, .size = sizeof outer, .name = "OUTER",
                              .socket_type = SOCK_DGRAM, .protocol = OUTER, .flags = USK_PROTO_V4,
                              .obj_size = sizeof(struct outer), .destroy = destroy_outer, .setsockopt = set,
                              .release_cb = on_bits, .sendmsg_locked = no_send, .recvmsg_locked = no_recv };
    const usk_proto within = { .version = USK_PROTO_VERSION, .size = sizeof within, .name = "WITHIN",
                               .socket_type = SOCK_DGRAM, .protocol = WITHIN, .flags = USK_PROTO_V4,
                               .release_cb = bits_within, .sendmsg_locked = send_within,
                               .recvmsg_locked = recv_within };
    int r = usk_proto_register(plugin, &within, NULL, NULL);
    return r < 0 ? r : usk_proto_register(plugin, &outer, NULL, NULL);
}

static int outer_socket(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, OUTER));
}
static void play(int fd, enum scene scene)
{
    int one = 1;
    outer_fd = fd;
    OK(usk_setsockopt(fd, OUTER, (int)scene, &one, sizeof one));
}

/* Plays a scene on a socket of its own. */
static void alone(enum scene scene)
{
    int fd = outer_socket();
    play(fd, scene);
    OK(usk_close(fd));
}

static void over_udp(void)
{
    int fd = outer_socket();
    play(fd, DATAGRAMS);
    EQ(last_outer->received, 2);
    EQ(memcmp(last_outer->last, "two", 4), 0);
    CHECK(last_outer->from.port != 0);
    CHECK(last_outer->ready >= 1);
    EQ(listed(stack, IPPROTO_UDP), 2);
    OK(usk_close(fd));
    EQ(listed(stack, IPPROTO_UDP), 0);
}

static void over_tcp(void)
{
    struct addr to = at("127.0.0.1", 6001);
    char buf[1000];
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0)), fd = outer_socket();
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    play(fd, CONNECT);
    CHECK(last_outer->changed >= 1);
    int s = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_send(s, "bytes", 5, 0), 5);
    EQ(last_outer->received, 1);
    EQ(memcmp(last_outer->last, "bytes", 5), 0);
    /* Room is told of when there was none, and is some. */
    int room = last_outer->room, changed = last_outer->changed;
    play(fd, TALK);
    EQ(last_outer->room, room);
    while (last_outer->room == room)
        CHECK(usk_recv(s, buf, sizeof buf, 0) > 0);
    EQ(last_outer->changed, changed);
    OK(usk_close(s)); /* with bytes unread: a reset */
    CHECK(last_outer->changed > changed);
    OK(usk_close(l));
    OK(usk_close(fd));

    /* Nobody there. */
    fd = outer_socket();
    play(fd, CONNECT);
    CHECK(last_outer->changed >= 1);
    EQ(last_outer->error, ECONNREFUSED);
    EQ(usk_sock_state(last_outer->a), TCP_CLOSE);
    OK(usk_close(fd));
}

static void over_plugin(void)
{
    int fd = outer_socket();
    EQ(entered, 0);
    play(fd, OVER_ANOTHER);
    EQ(entered, 2);
    EQ(last_outer->received, 1);
    EQ(memcmp(last_outer->last, "within", 6), 0);
    OK(usk_close(fd));
}

/* There is room when a device is done with a packet, which it is found to be while it is given the next one. What is
 * sent then goes the same way. */
static void squeezed(void)
{
    usk_world_t *world = usk_world_new(1);
    usk_stack_t *peer = usk_world_host(world, "peer", NULL);
    stack = usk_world_host(world, "host", NULL);
    usk_link_t *link = usk_world_link(world, "host", "peer", "rate=1mbit delay=1ms limit=1", 0, USK_SIM_OWN_QUEUE);
    usk_plugin_t *plugin = usk_plugin_attach(stack, "inner", init);
    struct addr a = { .len = sizeof a.storage };
    char buf[1000];
    OK(usk_link_addr(link, 1, AF_INET, 9, &a.sa, &a.len));
    int fd = outer_socket(), u = (int)OK(usk_socket_on(peer, AF_INET, SOCK_DGRAM, 0)), n = 0;
    OK(usk_bind(u, &a.sa, a.len));
    usk_addr_t to = { .family = AF_INET, .port = 9 };
    memcpy(to.addr, &a.in.sin_addr, 4);
    OK(usk_setsockopt(fd, OUTER, SQUEEZED, &to, sizeof to));
    EQ(usk_world_run_until_idle(world, 1000 * S), 1);
    EQ(last_outer->sent, 50);
    CHECK(last_outer->room > 1);
    while (usk_recv(u, buf, sizeof buf, MSG_DONTWAIT) == 500)
        n++;
    EQ(n, 50);
    OK(usk_close(fd));
    OK(usk_close(u));
    OK(usk_plugin_unload(plugin));
    OK(usk_world_free(world));
    usk_stack_free(stack);
    usk_stack_free(peer);
}

int main(void)
{
    begin("inner");
    usk_world_t *world = usk_world_new(1);
    stack = usk_world_host(world, "host", NULL);
    usk_plugin_t *plugin = usk_plugin_attach(stack, "inner", init);
    CHECK(plugin != NULL);
    alone(REFUSALS);
    EQ(counter(stack, "PluginInnerSocksLeft"), 0);
    alone(ORDER);
    over_udp();
    uint64_t left = counter(stack, "PluginInnerSocksLeft"); /* `b`: destroy closes `a` alone */
    EQ(left, 1);
    over_tcp();
    over_plugin();

    /* What destroy leaves open is closed, counted, and its port is free. */
    left = counter(stack, "PluginInnerSocksLeft");
    alone(FORGETFUL);
    EQ(counter(stack, "PluginInnerSocksLeft"), left + 2);
    int u = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    struct addr a = at("127.0.0.1", 6002);
    OK(usk_bind(u, &a.sa, a.len));

    /* A function that leaves a lock breaks its sock, and nothing else. */
    int fd = outer_socket(), one = 1;
    play(fd, BREAKS);
    struct addr b = at("127.0.0.1", 6003);
    EQ(usk_sendto(u, "x", 1, 0, &b.sa, b.len), 1);
    ERR(usk_setsockopt(fd, OUTER, ORDER, &one, sizeof one), EIO);
    OK(usk_close(fd));
    OK(usk_close(u));
    EQ(told_owning, 0);
    EQ(usk_world_run_until_idle(world, 1000 * S), 1);
    OK(usk_plugin_unload(plugin));
    OK(usk_world_free(world));
    usk_stack_free(stack);

    squeezed();
    return done();
}

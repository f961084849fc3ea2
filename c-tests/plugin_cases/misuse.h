/* A protocol of the program's own, whose setsockopt plays a scene: a sock, process context, nothing owned before. What
 * it does besides is as little as can be, and counted. Include after common.h. */
#ifndef USERSOCK_PLUGIN_CASES_MISUSE_H
#define USERSOCK_PLUGIN_CASES_MISUSE_H

enum { NUMBER = 254 };

static usk_stack_t *stack;
static int destroyed, packets, deferred;
static usk_reg_t *registered;
static usk_sock_t *last_made;

typedef void scene_fn(usk_sock_t *sk, usk_owned_t *o);
/* What setsockopt plays, with the sock owned. */
static scene_fn *scene;

static UNUSED const usk_addr_t loopback = { .family = AF_INET, .port = 5000, .addr = { 127, 0, 0, 1 } };

static int count_init(usk_owned_t *o)
{
    /* A sock of C's own memory: destroy frees it, so that whatever begins afterwards is seen by the sanitizer. */
    int **mine = usk_private(o);
    *mine = calloc(1, sizeof **mine);
    last_made = usk_owned_sock(o);
    EQ(usk_done(o), -EBUSY);
    return 0;
}
static void count_destroy(usk_owned_t *o)
{
    int **mine = usk_private(o);
    free(*mine);
    destroyed++;
    /* Inside destroy nothing may be started that would need another destroy. */
    EQ(usk_timer_arm(o, 0, usk_owned_now(o)), -EINVAL);
    EQ(usk_get_port(o, 0), -EINVAL);
    EQ(usk_hash(o), -EINVAL);
    EQ(usk_set_state(o, TCP_LISTEN), -EINVAL);
    EQ(usk_listen_start(o, 1), -EINVAL);
    EQ(usk_done(o), 0);
}
static void touch(usk_owned_t *o)
{
    ++**(int **)usk_private(o);
}
static void take_packet(usk_owned_t *o, usk_skb_t *skb)
{
    touch(o);
    packets++;
    /* Whether a program's thread runs it or the stack's: it must not sleep. */
    EQ(usk_wait(o, POLLIN, USK_FOREVER), -EDEADLK);
    usk_receive_push(o, skb);
}
static void later(usk_owned_t *o, uint32_t bits)
{
    touch(o);
    (void)bits;
    deferred++;
    EQ(usk_wait(o, POLLIN, USK_FOREVER), -EDEADLK);
}
static void close_it(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    (void)flags;
    usk_lock_sock(sk, &o);
    touch(&o);
    EQ(usk_done(&o), 0);
    EQ(usk_done(&o), 0);
    /* What gathered while it was owned comes too late. */
    EQ(usk_deliver(sk, usk_skb_new()), 0);
    EQ(usk_defer(sk, 1), 0);
    usk_release_sock(&o);
}
static void rcv(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    (void)info;
    usk_drop(reg, skb, USK_DROP_NO_SOCKET);
}
static ssize_t give_msg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    touch(o);
    return usk_receive_msg(o, msg, 0);
}
static ssize_t take_msg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    touch(o);
    /* A message of many empty pieces, or of none, is as long as it is. */
    usk_skb_t *skb = usk_skb_from_msg(msg, SIZE_MAX);
    size_t len = usk_skb_len(skb);
    EQ(usk_sendmsg_len(msg), 0);
    EQ(usk_skb_append_msg(skb, msg, SIZE_MAX), 0);
    usk_receive_push(o, skb);
    return (ssize_t)len;
}
static int play(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    (void)level, (void)name, (void)value, (void)len;
    usk_lock_sock(sk, &o);
    touch(&o);
    scene(sk, &o);
    usk_release_sock(&o);
    return 0;
}

static usk_proto table(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "MISUSE",
        .socket_type = SOCK_SEQPACKET,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_CONNECTIONS,
        .obj_size = sizeof(int *),
        .init = count_init,
        .destroy = count_destroy,
        .close = close_it,
        .listen = usk_listen_start,
        .disconnect = usk_listen_stop,
        .accept = usk_accept_wait,
        .setsockopt = play,
        .sendmsg_locked = take_msg,
        .recvmsg_locked = give_msg,
        .backlog_rcv = take_packet,
        .release_cb = later,
        .rcv = rcv,
    };
    return t;
}

static usk_proto now_registered;
static usk_plugin_t *the_plugin;
static int init_plugin(usk_plugin_t *plugin)
{
    the_plugin = plugin;
    return usk_proto_register(plugin, &now_registered, NULL, &registered);
}

static void begun(void)
{
    usk_plugin_t *p = usk_plugin_attach(stack, "misuse", init_plugin);
    CHECK(p != NULL);
    /* The table is the library's: later changes of the plug-in's copy have no effect. */
    memset(&now_registered, 0xff, sizeof now_registered);
}

static int opened(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, NUMBER));
}
/* Plays a scene on this socket. */
static void play_on(int fd, scene_fn *s)
{
    scene = s;
    OK(set_int(fd, NUMBER, 0, 1));
}
/* Plays it on a new socket; that. */
static int played(scene_fn *s)
{
    int fd = opened();
    destroyed = packets = deferred = 0;
    play_on(fd, s);
    return fd;
}
#endif

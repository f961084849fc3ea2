/* Loading and unloading concurrently with threads that open sockets of a protocol and packets that come for it, an
 * entry point that fails when something of it is in use, socks that outlive their stack. ARGV[1] is the folder of the
 * built plug-ins. */
#include "common.h"

enum { TINY = 254, ROUNDS = 150 };

static usk_stack_t *stack;
static char path[512];

/* ---- threads ---- */

static void *load_and_unload(void *arg)
{
    int *loads = arg;
    for (int i = 0; i < ROUNDS; i++) {
        usk_plugin_t *p = usk_plugin_load(stack, path);
        if (!p) {
            EQ(errno, EEXIST); /* the other thread's is in place */
            continue;
        }
        ++*loads;
        unloaded(p);
    }
    return NULL;
}

static void *open_and_close(void *arg)
{
    struct addr any = at("127.0.0.1", 0), to = at("127.0.0.1", 9);
    (void)arg;
    for (int i = 0; i < 20 * ROUNDS; i++) {
        int fd = usk_socket_on(stack, AF_INET, SOCK_DGRAM, TINY);
        if (fd < 0) {
            EQ(errno, EPROTONOSUPPORT);
            continue;
        }
        OK(usk_bind(fd, &any.sa, any.len));
        EQ(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), 1);
        OK(usk_close(fd));
    }
    return NULL;
}

static void *packets(void *arg)
{
    struct addr to = at("127.0.0.1", 0);
    int raw = (int)OK(usk_socket_on(stack, AF_INET, SOCK_RAW, TINY));
    (void)arg;
    for (int i = 0; i < 20 * ROUNDS; i++)
        EQ(usk_sendto(raw, "not tiny's", 10, 0, &to.sa, to.len), 10);
    OK(usk_close(raw));
    return NULL;
}

static void races(void)
{
    int loads[2] = { 0, 0 };
    pthread_t t[4] = {
        spawn(load_and_unload, &loads[0]),
        spawn(load_and_unload, &loads[1]),
        spawn(open_and_close, NULL),
        spawn(packets, NULL),
    };
    for (int i = 0; i < COUNT(t); i++)
        join(t[i]);
    CHECK(loads[0] + loads[1] > 0);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, TINY), EPROTONOSUPPORT);
    uint64_t n;
    ERR(usk_mib_read(stack, "TinyInErrors", &n), ENOENT);
}

/* ---- a protocol of the program's own ---- */

static usk_sock_t *held;
static int destroyed, fd_of_init, linger;

static int hold_init(usk_owned_t *o)
{
    usk_sock_put(held);
    held = usk_sock_hold(usk_owned_sock(o));
    return 0;
}
static void count_destroy(usk_owned_t *o)
{
    (void)o;
    destroyed++;
}
/* A closing handshake that takes an hour. */
static void close_later(usk_sock_t *sk, int flags)
{
    usk_owned_t o;
    (void)flags;
    usk_lock_sock(sk, &o);
    if (linger)
        EQ(usk_timer_arm(&o, 0, usk_owned_now(&o) + 3600000000000u), 0);
    else
        EQ(usk_done(&o), 0);
    usk_release_sock(&o);
}
static ssize_t nothing_sent(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return 0;
}
static ssize_t nothing_received(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return 0;
}
static usk_proto held_proto(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "HELD",
        .socket_type = SOCK_DGRAM,
        .protocol = 252,
        .flags = USK_PROTO_V4,
        .init = hold_init,
        .destroy = count_destroy,
        .close = close_later,
        .sendmsg_locked = nothing_sent,
        .recvmsg_locked = nothing_received,
    };
    return t;
}
static int held_socket(void)
{
    return usk_socket_on(stack, AF_INET, SOCK_DGRAM, 252);
}
static int init_held(usk_plugin_t *plugin)
{
    usk_proto t = held_proto();
    return usk_proto_register(plugin, &t, NULL, NULL);
}
/* Registers, opens a socket of it, unloads itself in vain, and wants not to be loaded after all. */
static int init_in_use(usk_plugin_t *plugin)
{
    EQ(init_held(plugin), 0);
    fd_of_init = (int)OK(held_socket());
    ERR(usk_plugin_unload(plugin), EBUSY);
    return -ENOMEM;
}

/* A registration in use cannot be undone: it stays, and ends with the stack. */
static void fails_in_use(void)
{
    struct addr a = at("127.0.0.1", 77);
    CHECK(usk_plugin_attach(stack, "in use", init_in_use) == NULL);
    EQ(errno, ENOMEM);
    OK(usk_bind(fd_of_init, &a.sa, a.len));
    CHECK(usk_plugin_attach(stack, "again", init_held) == NULL);
    EQ(errno, EEXIST);
    destroyed = 0;
    OK(usk_close(fd_of_init));
    EQ(destroyed, 1);
}

static void outlive(void)
{
    /* A sock that is held is in use; it keeps its stack, whose handle is gone. */
    usk_owned_t o;
    stack = usk_stack_new("");
    usk_plugin_t *p = usk_plugin_attach(stack, "held", init_held);
    CHECK(p != NULL);
    OK(usk_close((int)OK(held_socket())));
    ERR(usk_plugin_unload(p), EBUSY);
    usk_stack_free(stack);
    EQ(usk_sock_state(held), TCP_CLOSE);
    EQ(usk_lock_sock(held, &o), 0);
    EQ(usk_done(&o), 0);
    EQ(usk_timer_arm(&o, 0, 0), -EINVAL);
    usk_release_sock(&o);
    usk_sock_put(held);
    held = NULL;

    /* One that says farewell when the stack ends, in the table and with a timer, goes with it. */
    struct addr a = at("127.0.0.1", 77);
    linger = 1;
    stack = usk_stack_new("");
    CHECK(usk_plugin_attach(stack, "held", init_held) != NULL);
    int fd = (int)OK(held_socket());
    OK(usk_bind(fd, &a.sa, a.len));
    OK(usk_close(fd));
    usk_sock_put(held);
    held = NULL;
    usk_stack_free(stack);
    linger = 0;

    /* A descriptor may be closed after its stack's handle is. */
    stack = usk_stack_new("");
    CHECK(usk_plugin_attach(stack, "held", init_held) != NULL);
    fd = (int)OK(held_socket());
    OK(usk_bind(fd, &a.sa, a.len));
    usk_stack_free(stack);
    destroyed = 0;
    OK(usk_close(fd));
    EQ(destroyed, 1);
    usk_sock_put(held);
    held = NULL;
}

/* ---- a protocol with a table of its own ---- */

static usk_sock_t *own_table[4];
static int own_count, rehashed, exits;

static int enter_own_table(usk_owned_t *o)
{
    own_table[own_count++] = usk_owned_sock(o);
    return 0;
}
static void list_own_table(usk_reg_t *reg, usk_diag_each_t each, void *arg)
{
    (void)reg;
    for (int i = 0; i < own_count; i++)
        each(arg, own_table[i]);
}
static void count_rehash(usk_owned_t *o)
{
    EQ(usk_owned_sock(o) == own_table[0], 1);
    rehashed++;
}
static void count_exit(usk_reg_t *reg)
{
    CHECK(reg != NULL);
    exits++;
}
static int init_listed(usk_plugin_t *plugin)
{
    usk_proto t = held_proto();
    t.name = "LISTED";
    t.protocol = 251;
    t.init = enter_own_table;
    t.rehash = count_rehash;
    t.net_exit = count_exit;
    t.diag_dump = list_own_table;
    return usk_proto_register(plugin, &t, NULL, NULL);
}

/* What its table holds is listed; it is told of changed options, and of the end of its stack. */
static void own_table_is_listed(void)
{
    usk_sock_entry_t list[4];
    int one = 1, fd[2];
    stack = usk_stack_new("");
    CHECK(usk_plugin_attach(stack, "listed", init_listed) != NULL);
    EQ(usk_sock_list(stack, list, 4, sizeof list[0]), 0);
    for (int i = 0; i < 2; i++)
        fd[i] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 251));
    EQ(usk_sock_list(stack, list, 4, sizeof list[0]), 2);
    for (int i = 0; i < 2; i++) {
        EQ(list[i].protocol, 251);
        EQ(list[i].state, TCP_CLOSE);
    }
    CHECK(list[0].id != list[1].id);
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    OK(usk_setsockopt(fd[0], SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    EQ(rehashed, 2);
    own_count = 0;
    OK(usk_close(fd[0]));
    OK(usk_close(fd[1]));
    EQ(usk_sock_list(stack, list, 4, sizeof list[0]), 0);
    EQ(exits, 0);
    usk_stack_free(stack);
    EQ(exits, 1);
}

int main(int argc, char **argv)
{
    begin("loading");
    CHECK(argc == 2);
    snprintf(path, sizeof path, "%s/tiny.so", argv[1]);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    races();
    fails_in_use();
    usk_sock_put(held);
    held = NULL;
    usk_stack_free(stack);
    outlive();
    own_table_is_listed();
    return done();
}

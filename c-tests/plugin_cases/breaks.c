/* usk_break, which the catch of a C++ exception calls: inside operations and in threads that own nothing, on sockets in
 * use, asleep, not accepted; the tables are this program's own, attached as a plug-in that is linked in. */
#include "common.h"
#include <usersock/cong.h>
#include <usersock/hooks.h>
#include <usersock/ulp.h>

static usk_stack_t *stack;
static const usk_proto *a_proto;
static const usk_ulp_ops *a_layer;
static const usk_sock_ops *a_hook;
static const usk_cong_ops *a_cong;

static int init_plugin(usk_plugin_t *plugin)
{
    int r = 0;
    if (a_proto)
        r = usk_proto_register(plugin, a_proto, NULL, NULL);
    if (a_layer)
        r = usk_ulp_register(plugin, a_layer, NULL, NULL);
    if (a_hook)
        r = usk_sock_ops_register(plugin, a_hook, NULL, NULL);
    if (a_cong)
        r = usk_cong_register(plugin, a_cong, NULL, NULL);
    return r;
}

static usk_plugin_t *attach(void)
{
    usk_plugin_t *p = usk_plugin_attach(stack, "breaks", init_plugin);
    if (!p)
        printf("%s\n", usk_config_error());
    CHECK(p != NULL);
    return p;
}

/* TCP's connections may be on their way out still. */
static void unload(usk_plugin_t *p)
{
    struct pollfd none = { .fd = -1 };
    while (usk_plugin_unload(p) != 0) {
        EQ(errno, EBUSY);
        OK(usk_poll(&none, 1, 1));
    }
}

static void ends_broken(int fd)
{
    char c;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    ERR(usk_recv(fd, &c, 1, 0), EIO);
    ERR(usk_send(fd, "x", 1, MSG_NOSIGNAL), EIO);
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(p.revents, POLLIN | POLLERR | POLLHUP);
    OK(usk_close(fd));
}

/* ---- a protocol whose calls sleep for ever ---- */

enum { NUMBER = 253 };
static usk_sock_t *held;
static int destroyed, child_pushed;
static usk_sock_t *child;

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
static int begin_connect(usk_owned_t *o, const usk_addr_t *to)
{
    (void)to;
    return usk_set_state(o, TCP_SYN_SENT);
}
static ssize_t wait_recv(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    usk_owned_t o;
    int r;
    (void)msg;
    usk_lock_sock(sk, &o);
    while ((r = usk_wait(&o, POLLIN, USK_FOREVER)) == 0)
        ;
    EQ(usk_wait(&o, POLLIN, USK_FOREVER), -EIO);
    EQ(usk_wait(&o, 0, 0), -EAGAIN);
    usk_release_sock(&o);
    return r;
}
static ssize_t wait_send(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    (void)sk;
    return (ssize_t)usk_sendmsg_len(msg);
}
/* Of a listener: a connection, as a packet's would be, that breaks before or after it is given to accept(2). */
static int make_child(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t listener, o;
    usk_addr_t local, remote = { .family = AF_INET, .port = 77, .addr = { 127, 0, 0, 1 } };
    (void)level, (void)name, (void)value, (void)len;
    usk_lock_sock(sk, &listener);
    EQ(usk_ends(&listener, &local, NULL), 0);
    child = usk_new_child(&listener);
    CHECK(child != NULL);
    usk_lock_sock(child, &o);
    EQ(usk_set_ends(&o, &local, &remote), 0);
    EQ(usk_set_state(&o, TCP_ESTABLISHED), 0);
    EQ(usk_hash(&o), 0);
    /* As an operation for a packet would: the sock does not end while it is owned. */
    if (!child_pushed) {
        EQ(usk_break(child), 0);
        EQ(destroyed, 0);
    }
    usk_release_sock(&o);
    if (child_pushed)
        EQ(usk_accept_push(&listener, child), 0);
    usk_sock_t *found = usk_proto_lookup(usk_owned_reg(&listener), &local, &remote, 0);
    EQ(found == child, child_pushed);
    usk_sock_put(found);
    usk_sock_put(child);
    usk_release_sock(&listener);
    return 0;
}

static usk_proto sleepy(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "SLEEPY",
        .socket_type = SOCK_SEQPACKET,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_CONNECTIONS,
        .init = hold_init,
        .destroy = count_destroy,
        .connect = begin_connect,
        .listen = usk_listen_start,
        .accept = usk_accept_wait,
        .setsockopt = make_child,
        .sendmsg = wait_send,
        .recvmsg = wait_recv,
        .backlog_rcv = free_it,
        .rcv = rcv_free,
    };
    return t;
}

static void *sleep_recv(void *fd)
{
    char c;
    ERR(usk_recv(*(int *)fd, &c, 1, 0), EIO);
    return NULL;
}
static void *sleep_connect(void *fd)
{
    struct addr to = at("127.0.0.1", 9);
    ERR(usk_connect(*(int *)fd, &to.sa, to.len), EIO);
    return NULL;
}
static void *sleep_accept(void *fd)
{
    ERR(usk_accept(*(int *)fd, NULL, NULL), EIO);
    return NULL;
}
static void *break_it(void *sk)
{
    EQ(usk_break(sk), 0);
    return NULL;
}

static int sleepy_socket(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_SEQPACKET, NUMBER));
}

/* All sleeping threads wake up, and later calls do not sleep. */
static void sleepers(void)
{
    static void *(*const calls[])(void *) = { sleep_recv, sleep_connect, sleep_accept };
    EQ(usk_break(NULL), -EINVAL);
    for (int i = 0; i < COUNT(calls); i++) {
        int fd = sleepy_socket();
        pthread_t threads[3];
        struct addr any = at("127.0.0.1", 0);
        OK(usk_bind(fd, &any.sa, any.len));
        if (calls[i] == sleep_accept)
            OK(usk_listen(fd, 3));
        /* connect(2) is one thread's: a second would be told EALREADY. */
        int n = calls[i] == sleep_connect ? 1 : COUNT(threads);
        for (int t = 0; t < n; t++)
            threads[t] = spawn(calls[i], &fd);
        join(spawn(break_it, held));
        for (int t = 0; t < n; t++)
            join(threads[t]);
        EQ(usk_break(held), 0); /* repeating it has no effect */
        destroyed = 0;
        ends_broken(fd);
        EQ(destroyed, 1);
        EQ(usk_break(held), 0); /* after its end too */
        EQ(destroyed, 1);
    }
}

/* A child that no program has ends at once; one that waits for accept(2) is accepted, broken. */
static void children(void)
{
    struct addr any = at("127.0.0.1", 0);
    int l = sleepy_socket();
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 3));
    destroyed = child_pushed = 0;
    OK(set_int(l, NUMBER, 1, 1));
    EQ(destroyed, 1);
    set_nonblock(l, true);
    ERR(usk_accept(l, NULL, NULL), EAGAIN);
    child_pushed = 1;
    OK(set_int(l, NUMBER, 1, 1));
    EQ(usk_break(held), 0); /* the child's: its init came last */
    int fd = (int)OK(usk_accept(l, NULL, NULL));
    ends_broken(fd);
    EQ(destroyed, 2);
    /* Accepted first, it stays until it is closed. */
    OK(set_int(l, NUMBER, 1, 1));
    fd = (int)OK(usk_accept(l, NULL, NULL));
    EQ(usk_break(held), 0);
    EQ(destroyed, 2);
    ends_broken(fd);
    EQ(destroyed, 3);
    OK(usk_close(l));
    EQ(destroyed, 4);
    usk_sock_put(held);
    held = NULL;
}

/* ---- TCP ---- */

static int l;
static bool armed, said;

/* The next one breaks; none comes after it. */
static bool due(void)
{
    CHECK(!said);
    said = armed;
    armed = false;
    return said;
}

static void pair(int fd[2], const char *algorithm)
{
    struct addr a = sock_name(l);
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    if (algorithm)
        OK(usk_setsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, algorithm, strlen(algorithm)));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
}

static void others_work(void)
{
    int fd[2];
    said = false;
    pair(fd, NULL);
    send_all(fd[0], "whole", 5);
    EXPECT(fd[1], "whole");
    close_pair(fd);
}

static void want_options(usk_hook_t *h, void *user)
{
    (void)user;
    usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT);
}
static void break_connect(usk_hook_t *h, void *user)
{
    want_options(h, user);
    if (due()) {
        EQ(usk_break(h->sk), 0);
    }
}
static void break_passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)options, (void)len, (void)syn, (void)syn_len, (void)user;
    if (due())
        EQ(usk_break(h->sk), 0);
}
static int break_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)seg, (void)user;
    if (due())
        EQ(usk_break(h->sk), 0);
    return 4;
}
static void no_options(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    (void)h, (void)seg, (void)w, (void)user;
}

static void hooks(void)
{
    usk_sock_ops t = { .version = USK_SOCK_OPS_VERSION, .size = sizeof t, .name = "breaks" };
    struct addr a = sock_name(l);
    a_hook = &t;

    t.tcp_connect = break_connect;
    usk_plugin_t *p = attach();
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0)), pairs[2];
    armed = true;
    ERR(usk_connect(fd, &a.sa, a.len), EIO);
    /* The peer is not affected. */
    int s = (int)OK(usk_accept(l, NULL, NULL));
    ends_broken(fd);
    OK(usk_close(s));
    others_work();
    OK(usk_plugin_unload(p));

    t.tcp_connect = NULL;
    t.passive_established = break_passive;
    p = attach();
    armed = true;
    pair(pairs, NULL);
    ends_broken(pairs[1]);
    OK(usk_close(pairs[0]));
    others_work();
    OK(usk_plugin_unload(p));

    t.passive_established = NULL;
    t.tcp_connect = want_options;
    t.hdr_opt_len = break_len;
    t.write_hdr_opt = no_options;
    p = attach();
    pair(pairs, NULL);
    armed = true;
    usk_send(pairs[0], "hello", 5, MSG_NOSIGNAL); /* whose segment it is */
    CHECK(said);
    ends_broken(pairs[0]);
    OK(usk_close(pairs[1]));
    others_work();
    OK(usk_plugin_unload(p));
    a_hook = NULL;
}

/* ---- congestion control ---- */

static void break_avoid(usk_tcp_t *tp, void *priv, uint32_t ack, uint32_t acked)
{
    usk_tcp_reno_cong_avoid(tp, priv, ack, acked);
    if (due()) {
        tp->snd_cwnd = 0;
        EQ(usk_break(tp->sk), 0);
    }
}
static uint32_t break_segs(const usk_tcp_t *tp, void *priv)
{
    (void)priv;
    if (due())
        EQ(usk_break(tp->sk), 0);
    return 2;
}
static size_t break_info(const usk_tcp_t *tp, void *priv, void *info, size_t len)
{
    (void)priv, (void)len;
    memcpy(info, "lie", 3);
    if (due())
        EQ(usk_break(tp->sk), 0);
    return 3;
}

static void control(void)
{
    usk_cong_ops t = {
        .version = USK_CONG_VERSION,
        .size = sizeof t,
        .name = "breaks",
        .ssthresh = usk_tcp_reno_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
    };
    a_cong = &t;
    for (int i = 0; i < 3; i++) {
        int fd[2];
        char buf[4096], info[64];
        socklen_t len = sizeof info;
        t.cong_avoid = i == 0 ? break_avoid : usk_tcp_reno_cong_avoid;
        t.min_tso_segs = i == 1 ? break_segs : NULL;
        t.get_info = i == 2 ? break_info : NULL;
        usk_plugin_t *p = attach();
        said = false;
        pair(fd, "breaks");
        armed = true;
        if (i == 2) {
            OK(usk_getsockopt(fd[0], IPPROTO_TCP, TCP_CC_INFO, info, &len));
            EQ(len, 0);
        } else {
            memset(buf, 'x', sizeof buf);
            int rounds = 0;
            while (usk_send(fd[0], buf, sizeof buf, MSG_NOSIGNAL | MSG_DONTWAIT) > 0 && rounds < 1000)
                EQ(recv_all(fd[1], buf, sizeof buf), sizeof buf), rounds++;
            EQ(errno, EIO);
            CHECK(rounds < 1000);
        }
        CHECK(said);
        ends_broken(fd[0]);
        OK(usk_close(fd[1]));
        others_work();
        unload(p);
    }
    a_cong = NULL;
}

/* ---- layers ---- */

static _Atomic int released;
static int layer_init(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)ulp;
    if (due())
        EQ(usk_break(usk_owned_sock(o)), 0);
    return said ? -EIO : 0;
}
static void layer_release(const usk_ulp_t *ulp)
{
    (void)ulp;
    released++;
}
static ssize_t layer_send(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg)
{
    (void)ulp, (void)msg;
    EQ(due(), true);
    EQ(usk_break(usk_owned_sock(o)), 0);
    return -EIO;
}
static int layer_set(usk_sock_t *sk, const usk_ulp_t *ulp, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    if (!due())
        return ulp->below->setsockopt(sk, level, name, value, len);
    /* Thrown with the sock locked, and caught outside the scope of the lock. */
    EQ(usk_lock_sock(sk, &o), 0);
    EQ(usk_break(sk), 0);
    return -EIO;
}
static void layer_rcv(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb)
{
    if (due())
        EQ(usk_break(usk_owned_sock(o)), 0);
    ulp->below->backlog_rcv(o, skb);
}
static void layer_close(usk_sock_t *sk, const usk_ulp_t *ulp, int flags)
{
    (void)ulp, (void)flags;
    if (due())
        EQ(usk_break(sk), 0);
}

static void layers(void)
{
    for (int i = 0; i < 5; i++) {
        usk_ulp_ops t = { .version = USK_ULP_VERSION, .size = sizeof t, .name = "breaks", .data_size = 8,
            .release = layer_release };
        int fd[2];
        a_layer = &t;
        t.init = i == 0 ? layer_init : NULL;
        t.sendmsg = i == 1 ? layer_send : NULL;
        t.setsockopt = i == 2 ? layer_set : NULL;
        t.backlog_rcv = i == 3 ? layer_rcv : NULL;
        t.close = i == 4 ? layer_close : NULL;
        usk_plugin_t *p = attach();
        said = armed = false;
        released = 0;
        pair(fd, NULL);
        armed = i == 0;
        int r = usk_setsockopt(fd[0], IPPROTO_TCP, TCP_ULP, "breaks", 6);
        EQ(r, i == 0 ? -1 : 0);
        armed = i != 0;
        switch (i) {
        case 1: ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EIO); break;
        case 2: ERR(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1), EIO); break;
        case 3: send_all(fd[1], "x", 1); break;
        case 4: OK(usk_close(fd[0])); break;
        }
        if (i != 4)
            ends_broken(fd[0]);
        CHECK(said);
        OK(usk_close(fd[1]));
        others_work();
        unload(p);
        EQ(released, i != 0);
    }
    a_layer = NULL;
}

int main(void)
{
    begin("breaks");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    usk_proto t = sleepy();
    a_proto = &t;
    usk_plugin_t *p = attach();
    a_proto = NULL;
    sleepers();
    children();
    OK(usk_plugin_unload(p));

    struct addr any = at("127.0.0.1", 0);
    l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &any.sa, any.len));
    OK(usk_listen(l, 8));
    hooks();
    control();
    layers();
    OK(usk_close(l));
    usk_stack_free(stack);
    return done();
}

/* struct usk_ulp_ops: invalid tables, a table of nulls, layers that violate their contract, calls with null arguments,
 * removal while a call sleeps, a listener whose children fail. The tables are this program's own, attached as a plug-in
 * that is linked in. */
#include "common.h"
#include <usersock/proto.h>
#include <usersock/ulp.h>

static const usk_ulp_ops *trying;
static usk_reg_t *last;
static int cookie, l;
static _Atomic int released;
static usk_stack_t *stack;

static int init_plugin(usk_plugin_t *plugin)
{
    return usk_ulp_register(plugin, trying, &cookie, &last);
}

static usk_plugin_t *attach(const usk_ulp_ops *table)
{
    trying = table;
    return usk_plugin_attach(stack, "layers", init_plugin);
}

static void count_release(const usk_ulp_t *ulp)
{
    CHECK(ulp->data != NULL);
    CHECK(usk_user(ulp->reg) == &cookie);
    released++;
}

static usk_ulp_ops good(void)
{
    usk_ulp_ops t = { .version = USK_ULP_VERSION, .size = sizeof t, .name = "layer", .data_size = 40,
        .release = count_release };
    return t;
}

static int install(int fd)
{
    return usk_setsockopt(fd, IPPROTO_TCP, TCP_ULP, "layer", 5);
}

static void pair(int fd[2])
{
    struct addr a = sock_name(l);
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
}

/* ---- tables ---- */

static void tables(void)
{
    usk_ulp_ops t;
    refused_with(attach(NULL), EINVAL, "null");
#define BAD(change, line) (t = good(), change, refused_with(attach(&t), EINVAL, line))
    BAD(t.version = 2, "version 2");
    BAD(t.size = 8, "size 8");
    BAD(t.name = NULL, "name is null");
    BAD(t.name = "", "1 to 15");
    BAD(t.name = "sixteen letters!", "1 to 15");
    BAD(t.name = "two words", "without dot");
    BAD(t.name = "\xff\xfe", "UTF-8");
    BAD(t.flags = 1, "unknown flags");
    BAD(t.data_size = 65537, "data_size");
    static const char *const fine[] = { "LayerA", NULL };
    static const usk_sysctl_t wrong[] = { { "two", 5, 6, 7, NULL }, { 0 } };
    BAD((t.mib_names = fine, t.sysctls = wrong), "net.layer.two");
    t = good();
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    t.mib_names = fine;
    refused_with(attach(&t), EEXIST, "layer");
    uint64_t n;
    ERR(usk_mib_read(stack, "LayerA", &n), ENOENT);
    EQ(usk_unregister(last), 0);
    OK(usk_plugin_unload(p));
    EQ(usk_ulp_register(NULL, &t, NULL, NULL), -EINVAL);
    EQ(usk_unregister(NULL), -EINVAL);
    struct {
        usk_ulp_ops t;
        void *future;
    } newer = { good(), NULL };
    newer.t.size = sizeof newer;
    p = attach(&newer.t);
    CHECK(p != NULL);
    OK(usk_plugin_unload(p));
    newer.future = &newer;
    refused_with(attach(&newer.t), EINVAL, "lacks");
    EQ(released, 0);
}

/* All null: TCP's own. */
static void nulls(void)
{
    usk_ulp_ops t = good();
    t.data_size = 0;
    t.release = NULL;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int fd[2], n = 0;
    pair(fd);
    OK(install(fd[0]));
    ERR(install(fd[0]), EEXIST);
    ERR(install(l), ENOTCONN);
    EQ(usk_unregister(last), -EBUSY);
    send_all(fd[0], "there", 5);
    EXPECT(fd[1], "there");
    send_all(fd[1], "back", 4);
    EQ(await(fd[0], POLLIN), POLLIN);
    OK(usk_ioctl(fd[0], SIOCINQ, &n));
    EQ(n, 4);
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1));
    EXPECT(fd[0], "back");
    OK(usk_shutdown(fd[0], SHUT_WR));
    EXPECT_EOF(fd[1]);
    OK(usk_close(fd[1]));
    OK(usk_close(fd[0]));
    unloaded(p);
}

/* ---- violated contracts ---- */

static ssize_t wild_len;
static int wild_int;
static ssize_t wild_send(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg)
{
    (void)o, (void)ulp, (void)msg;
    return wild_len;
}
static ssize_t wild_recv(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg)
{
    (void)o, (void)ulp, (void)msg;
    return wild_len; /* and has copied nothing */
}
static int wild_set(usk_sock_t *sk, const usk_ulp_t *ulp, int level, int name, const void *value, size_t len)
{
    (void)sk, (void)ulp, (void)level, (void)name, (void)value, (void)len;
    return wild_int;
}
static ssize_t wild_get(usk_sock_t *sk, const usk_ulp_t *ulp, int level, int name, void *value, size_t len)
{
    (void)sk, (void)ulp, (void)level, (void)name, (void)value;
    return (ssize_t)len + 1;
}
static int wild_ioctl(usk_sock_t *sk, const usk_ulp_t *ulp, unsigned long request, int *value)
{
    (void)sk, (void)ulp, (void)request, (void)value;
    return wild_int;
}
static int wild_init(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o;
    for (int i = 0; i < 40; i++)
        CHECK(((char *)ulp->data)[i] == 0);
    CHECK((uintptr_t)ulp->data % 16 == 0);
    return wild_int;
}
static int wild_remove(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o, (void)ulp;
    return wild_int;
}
static int wild_disconnect(usk_owned_t *o, const usk_ulp_t *ulp)
{
    (void)o, (void)ulp;
    return wild_int;
}
static void lock_again(usk_sock_t *sk, const usk_ulp_t *ulp, int flags)
{
    (void)flags;
    usk_owned_t o, again;
    EQ(usk_lock_sock(sk, &o), 0);
    EQ(usk_lock_sock(sk, &again), -EDEADLK);
    EQ(ulp->below->setsockopt(sk, 6, 1, &o, 4), -EDEADLK);
    /* and forgets to release */
}

static void broken(const usk_ulp_ops *t, void (*use)(int fd), int init_error)
{
    int fd[2], before = released;
    char c;
    usk_plugin_t *p = attach(t);
    CHECK(p != NULL);
    pair(fd);
    if (init_error) {
        ERR(install(fd[0]), init_error);
        EQ(released, before);
        ERR(usk_ulp_remove(fd[0]), EINVAL);
    } else {
        OK(install(fd[0]));
        use(fd[0]);
        ERR(usk_send(fd[0], "x", 1, MSG_NOSIGNAL), EIO);
        ERR(usk_recv(fd[0], &c, 1, MSG_DONTWAIT), EIO);
    }
    close_pair(fd);
    unloaded(p);
    EQ(released, before + !init_error);
}

static void use_send(int fd)
{
    ERR(usk_send(fd, "ab", 2, MSG_NOSIGNAL), EIO);
}
static void use_recv(int fd)
{
    char buf[8] = "untouch";
    ERR(usk_recv(fd, buf, sizeof buf, 0), EIO);
    EQ(strcmp(buf, "untouch"), 0);
}
static void use_set(int fd)
{
    ERR(set_int(fd, 282, 1, 1), EIO);
}
static void use_get(int fd)
{
    int v;
    socklen_t len = sizeof v;
    ERR(usk_getsockopt(fd, 282, 1, &v, &len), EIO);
}
static void use_ioctl(int fd)
{
    int v;
    ERR(usk_ioctl(fd, SIOCINQ, &v), EIO);
}
static int to_unspec(int fd)
{
    struct sockaddr none = { .sa_family = AF_UNSPEC };
    return usk_connect(fd, &none, sizeof none);
}
static void use_disconnect(int fd)
{
    ERR(to_unspec(fd), EIO);
}
static void use_remove(int fd)
{
    ERR(usk_ulp_remove(fd), EIO);
}

static void words(void)
{
    static const ssize_t lens[] = { 1 << 20, 9, -5000, INTPTR_MIN };
    static const int ints[] = { 1, -4096, INT32_MIN };
    for (int i = 0; i < COUNT(lens); i++) {
        usk_ulp_ops t = good();
        wild_len = lens[i];
        t.sendmsg = wild_send;
        broken(&t, use_send, 0);
        t = good(), t.recvmsg = wild_recv;
        broken(&t, use_recv, 0);
    }
    for (int i = 0; i < COUNT(ints); i++) {
        usk_ulp_ops t = good();
        wild_int = ints[i];
        t.setsockopt = wild_set;
        /* It would be asked for TCP_ULP too: after it is there. */
        broken(&t, use_set, 0);
        t = good(), t.ioctl = wild_ioctl;
        broken(&t, use_ioctl, 0);
        t = good(), t.may_remove = wild_remove;
        broken(&t, use_remove, 0);
        t = good(), t.disconnect = wild_disconnect;
        broken(&t, use_disconnect, 0);
        t = good(), t.init = wild_init;
        broken(&t, NULL, EIO);
    }
    usk_ulp_ops t = good();
    t.getsockopt = wild_get;
    broken(&t, use_get, 0);
    /* An error from init leaves the connection without a layer, and working. */
    wild_int = -ENOMEM;
    t = good(), t.init = wild_init;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int fd[2], before = released;
    pair(fd);
    ERR(install(fd[0]), ENOMEM);
    ERR(usk_ulp_remove(fd[0]), EINVAL);
    send_all(fd[0], "plain", 5);
    EXPECT(fd[1], "plain");
    close_pair(fd);
    unloaded(p);
    /* As does one that will not let go of its connection. */
    t = good(), t.disconnect = wild_disconnect;
    p = attach(&t);
    CHECK(p != NULL);
    pair(fd);
    OK(install(fd[0]));
    ERR(to_unspec(fd[0]), ENOMEM);
    send_all(fd[0], "still", 5);
    EXPECT(fd[1], "still");
    wild_int = 0;
    OK(to_unspec(fd[0]));
    close_pair(fd);
    unloaded(p);
    before = released;
    /* Left locked: released, broken, and closed all the same. */
    t = good(), t.close = lock_again;
    p = attach(&t);
    CHECK(p != NULL);
    pair(fd);
    OK(install(fd[0]));
    close_pair(fd);
    unloaded(p);
    EQ(released, before + 1);
}

/* ---- nothing in hand ---- */

static ssize_t null_send(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg)
{
    char buf[8];
    int v;
    const usk_below_ops *below = ulp->below;
    CHECK(usk_user(ulp->reg) == &cookie && ulp->reg == last);
    CHECK(usk_user(NULL) == NULL);
    EQ(below->version, USK_BELOW_VERSION);
    EQ(below->size, sizeof *below);
    EQ(usk_count(ulp->reg, 0, 1), -EINVAL);
    EQ(usk_count(NULL, 0, 1), -EINVAL);
    EQ(usk_sysctl(ulp->reg, 7), 0);
    CHECK(usk_owned_reg(o) == NULL); /* nor is it a protocol's, for which a protocol's calls ask */
    usk_addr_t odd = { .family = AF_INET };
    CHECK(usk_proto_lookup(ulp->reg, &odd, &odd, 0) == NULL);
    EQ(usk_reply(ulp->reg, &(usk_packet_info_t) { .src = odd, .dst = odd }, usk_skb_new()), -EINVAL);
    EQ(below->send(NULL, "x", 1, 0), -EINVAL);
    EQ(below->send(o, NULL, 1, 0), -EFAULT);
    EQ(below->force(o, NULL, 1), -EFAULT);
    EQ(below->recv(o, NULL, 1, 0), -EFAULT);
    EQ(below->recv(o, buf, sizeof buf, MSG_DONTWAIT), -EAGAIN);
    EQ(below->sendmsg(o, NULL), -EINVAL);
    EQ(below->recvmsg(o, NULL), -EINVAL);
    EQ(below->poll(NULL), 0);
    EQ(below->backlog_rcv(o, NULL), -EINVAL);
    EQ(below->abort(o, 0), -EINVAL);
    EQ(below->abort(o, 99999), -EINVAL);
    EQ(below->setsockopt(NULL, 6, 1, &v, 4), -EINVAL);
    EQ(below->getsockopt(usk_owned_sock(o), 6, 1, &v, 4), -EDEADLK);
    EQ(below->ioctl(usk_owned_sock(o), SIOCINQ, &v), -EDEADLK);
    EQ(usk_private(o) == NULL, 1); /* not a sock of a protocol from C */
    EQ(usk_timer_arm(o, 0, 1), -EINVAL);
    return below->sendmsg(o, msg);
}
static int null_ioctl(usk_sock_t *sk, const usk_ulp_t *ulp, unsigned long request, int *value)
{
    EQ(ulp->below->ioctl(sk, request, NULL), -EFAULT);
    EQ(ulp->below->getsockopt(sk, 6, 1, NULL, 4), -EFAULT);
    EQ(ulp->below->setsockopt(sk, 6, 1, NULL, 4), -EFAULT);
    return ulp->below->ioctl(sk, request, value);
}

static void nothing(void)
{
    usk_ulp_ops t = good();
    t.sendmsg = null_send;
    t.ioctl = null_ioctl;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int fd[2], n = 1;
    pair(fd);
    OK(install(fd[0]));
    send_all(fd[0], "well", 4);
    EXPECT(fd[1], "well");
    OK(usk_ioctl(fd[0], SIOCINQ, &n));
    EQ(n, 0);
    close_pair(fd);
    unloaded(p);
}

/* ---- removal while a call sleeps ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static bool asleep;

static ssize_t sleeping_recv(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg)
{
    char c;
    ssize_t n;
    while ((n = ulp->below->recv(o, &c, 1, MSG_DONTWAIT)) == -EAGAIN) {
        pthread_mutex_lock(&mutex);
        asleep = true; /* when the sock can be had */
        pthread_cond_signal(&cond);
        pthread_mutex_unlock(&mutex);
        EQ(usk_wait(o, POLLIN, USK_FOREVER), 0);
    }
    return n == 1 ? usk_recvmsg_put(msg, &c, 1) : n;
}

static void *receive(void *fd)
{
    char c = 0;
    EQ(usk_recv(*(int *)fd, &c, 1, 0), 1);
    EQ(c, 'y');
    return NULL;
}

static void busy(void)
{
    usk_ulp_ops t = good();
    t.recvmsg = sleeping_recv;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    int fd[2], before = released;
    pair(fd);
    OK(install(fd[0]));
    pthread_t thread = spawn(receive, &fd[0]);
    pthread_mutex_lock(&mutex);
    while (!asleep)
        pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    ERR(usk_ulp_remove(fd[0]), EBUSY);
    send_all(fd[1], "y", 1);
    join(thread);
    EQ(released, before);
    OK(usk_ulp_remove(fd[0]));
    EQ(released, before + 1);
    close_pair(fd);
    unloaded(p);
}

/* ---- two layers that take turns on a connection that is in use ---- */

enum { TURNS = 400 };
static char whose[2]; /* what each finds in its memory */
static _Atomic bool streaming;

static void mine(const usk_ulp_t *ulp, int which)
{
    CHECK(*(char **)ulp->data == &whose[which]);
}
#define TURN(i)                                                                       \
    static int begin_##i(usk_owned_t *o, const usk_ulp_t *ulp)                        \
    {                                                                                 \
        (void)o;                                                                      \
        *(char **)ulp->data = &whose[i];                                              \
        return 0;                                                                     \
    }                                                                                 \
    static ssize_t send_##i(usk_owned_t *o, const usk_ulp_t *ulp, usk_sendmsg_t *msg) \
    {                                                                                 \
        mine(ulp, i);                                                                 \
        ssize_t n = ulp->below->sendmsg(o, msg);                                      \
        CHECK(*(char **)ulp->data == &whose[i]);                                      \
        return n;                                                                     \
    }                                                                                 \
    static ssize_t recv_##i(usk_owned_t *o, const usk_ulp_t *ulp, usk_recvmsg_t *msg) \
    {                                                                                 \
        mine(ulp, i);                                                                 \
        ssize_t n = ulp->below->recvmsg(o, msg);                                      \
        CHECK(*(char **)ulp->data == &whose[i]);                                      \
        return n;                                                                     \
    }                                                                                 \
    static uint32_t poll_##i(usk_owned_t *o, const usk_ulp_t *ulp)                    \
    {                                                                                 \
        mine(ulp, i);                                                                 \
        return ulp->below->poll(o);                                                   \
    }                                                                                 \
    static void rcv_##i(usk_owned_t *o, const usk_ulp_t *ulp, usk_skb_t *skb)         \
    {                                                                                 \
        mine(ulp, i);                                                                 \
        EQ(ulp->below->backlog_rcv(o, skb), 0);                                       \
    }
TURN(0)
TURN(1)

static int both(usk_plugin_t *plugin)
{
    usk_ulp_ops a = good(), b = good();
    a.name = "first", a.init = begin_0, a.sendmsg = send_0, a.recvmsg = recv_0, a.poll = poll_0, a.backlog_rcv = rcv_0;
    b.name = "second", b.init = begin_1, b.sendmsg = send_1, b.recvmsg = recv_1, b.poll = poll_1, b.backlog_rcv = rcv_1;
    int e = usk_ulp_register(plugin, &a, &cookie, NULL);
    return e ? e : usk_ulp_register(plugin, &b, &cookie, NULL);
}

static void *send_stream(void *fd)
{
    static uint8_t buf[5000];
    size_t at = 0;
    do {
        for (size_t i = 0; i < sizeof buf; i++)
            buf[i] = pattern(3, at + i);
        send_all(*(int *)fd, buf, sizeof buf);
        at += sizeof buf;
    } while (streaming);
    OK(usk_shutdown(*(int *)fd, SHUT_WR));
    return NULL;
}

static void *recv_stream(void *fd)
{
    static uint8_t buf[7000];
    struct pollfd p = { .fd = *(int *)fd, .events = POLLIN };
    size_t got = 0;
    for (ssize_t n; (n = OK(usk_recv(p.fd, buf, sizeof buf, 0))) != 0; got += (size_t)n) {
        for (ssize_t i = 0; i < n; i++)
            CHECK(buf[i] == pattern(3, got + i));
        OK(usk_poll(&p, 1, 0));
    }
    CHECK(got > 0);
    return NULL;
}

static void turns(void)
{
    usk_plugin_t *p = usk_plugin_attach(stack, "turns", both);
    CHECK(p != NULL);
    int fd[2], installed = 0, before = released;
    pair(fd);
    streaming = true;
    pthread_t sender = spawn(send_stream, &fd[0]), receiver = spawn(recv_stream, &fd[1]);
    for (int i = 0; i < TURNS; i++) {
        for (int end = 0; end < 2; end++) {
            const char *name = i % 2 ? "first" : "second";
            installed += OK(usk_setsockopt(fd[end], IPPROTO_TCP, TCP_ULP, name, (socklen_t)strlen(name))) == 0;
            while (usk_ulp_remove(fd[end]) != 0) { /* a call of it sleeps */
                EQ(errno, EBUSY);
                sched_yield();
            }
        }
    }
    streaming = false;
    join(sender);
    join(receiver);
    EQ(installed, 2 * TURNS);
    close_pair(fd);
    unloaded(p);
    EQ(released, before + installed);
}

/* ---- listeners ---- */

static int clones, clone_error;
static int some_clone(usk_owned_t *child, const usk_ulp_t *ulp, const usk_ulp_t *parent)
{
    (void)child;
    CHECK(ulp->data != NULL && parent->data != NULL && ulp->data != parent->data && ulp->reg == parent->reg);
    clones++;
    return clone_error;
}

static void children(void)
{
    usk_ulp_ops t = good();
    t.clone = some_clone;
    usk_plugin_t *p = attach(&t);
    CHECK(p != NULL);
    OK(install(l));
    for (clone_error = 0; clone_error >= -1; clone_error--) {
        int fd[2];
        char name[16] = "";
        socklen_t len = sizeof name;
        pair(fd);
        OK(usk_getsockopt(fd[1], IPPROTO_TCP, TCP_ULP, name, &len));
        EQ(len != 0, clone_error == 0);
        send_all(fd[0], "well", 4);
        EXPECT(fd[1], "well");
        close_pair(fd);
    }
    EQ(clones, 2);
    OK(usk_ulp_remove(l));
    unloaded(p);
}

int main(void)
{
    begin("rec_ulp_hostile");
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    struct addr a = at("127.0.0.1", 0);
    l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 8));
    tables();
    nulls();
    words();
    nothing();
    busy();
    turns();
    children();
    /* A stack that ends with connections that have layers lets them go. */
    usk_ulp_ops t = good();
    CHECK(attach(&t) != NULL);
    int fd[2], before = released;
    pair(fd);
    OK(install(fd[0]));
    OK(install(fd[1]));
    close_pair(fd);
    OK(usk_close(l));
    usk_stack_free(stack);
    struct pollfd none = { .fd = -1 };
    while (released < before + 2) /* another thread may be in the stack still */
        OK(usk_poll(&none, 1, 1));
    return done();
}

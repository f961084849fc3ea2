/* Invalid tables, and operations that violate their contract: the error line, the errno, and that the stack goes on.
 * The tables are this program's own, attached as a plug-in that is linked in. */
#include "common.h"
#include <usersock/cong.h>

static const usk_proto *trying;
static int times, init_result;
static usk_reg_t *last;

static int init_plugin(usk_plugin_t *plugin)
{
    for (int i = 0; i < times; i++) {
        int r = usk_proto_register(plugin, trying, NULL, &last);
        if (r)
            return r;
    }
    return init_result;
}

static int init_refuses(usk_plugin_t *plugin)
{
    (void)plugin;
    return usk_plugin_refuse("no licence\r\nfor two stacks\n");
}

static usk_plugin_t *attach(usk_stack_t *stack, const usk_proto *table)
{
    trying = table;
    times = 1;
    init_result = 0;
    return usk_plugin_attach(stack, "hostile", init_plugin);
}

/* ---- well-behaved operations, to be bad with one at a time ---- */

static ssize_t take_all(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    (void)sk;
    return usk_sendmsg_len(msg);
}
static ssize_t give_nothing(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    (void)sk, (void)msg;
    return 0;
}

static usk_proto good(void)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "GOOD",
        .socket_type = SOCK_DGRAM,
        .protocol = 254,
        .flags = USK_PROTO_V4,
        .sendmsg = take_all,
        .recvmsg = give_nothing,
        .backlog_rcv = free_it,
        .rcv = rcv_free,
    };
    return t;
}

static void refused(usk_stack_t *stack, const usk_proto *t, int error, const char *line)
{
    refused_with(attach(stack, t), error, line);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 254), EPROTONOSUPPORT);
}

static void tables(usk_stack_t *stack)
{
    usk_proto t;
    refused(stack, NULL, EINVAL, "null");
#define BAD(change, line) (t = good(), change, refused(stack, &t, EINVAL, line))
    BAD(t.version = 2, "version 2");
    BAD(t.size = 8, "size 8");
    BAD(t.size = 1u << 20, "size 1048576");
    BAD(t.name = NULL, "name is null");
    BAD(t.name = "", "1 to 31");
    BAD(t.name = "a name of more than thirty-one bytes", "1 to 31");
    BAD(t.name = "\xff\xfe", "UTF-8");
    BAD(t.flags = 0, "USK_PROTO_V4");
    BAD(t.flags = 1u << 31 | USK_PROTO_V4, "unknown flags");
    BAD(t.socket_type = 0, "socket_type");
    BAD(t.protocol = 0, "protocol");
    BAD(t.protocol = 256, "protocol");
    BAD(t.obj_size = 65537, "obj_size");
    BAD(t.max_header = 4096, "max_header");
    BAD(t.sendmsg = NULL, "sendmsg is null");
    BAD(t.recvmsg = NULL, "recvmsg is null");
    BAD(t.backlog_rcv = NULL, "backlog_rcv");
    /* A taken name, key, number, counter: nothing of the table stays. */
    t = good(), t.name = "UDP";
    refused(stack, &t, EEXIST, "named");
    t = good(), t.protocol = IPPROTO_UDP;
    refused(stack, &t, EEXIST, "registered already");
    t = good(), t.socket_type = SOCK_SEQPACKET, t.protocol = IPPROTO_TCP;
    refused(stack, &t, EEXIST, "handler");
    static const char *const twice[] = { "HostileA", "HostileA", NULL },
        *const bad[] = { "HostileA", "no blanks", NULL };
    static const char *const linux_has[] = { "TcpInSegs", NULL };
    t = good(), t.mib_names = twice;
    refused(stack, &t, EEXIST, "HostileA");
    t = good(), t.mib_names = linux_has;
    refused(stack, &t, EEXIST, "TcpInSegs");
    t = good(), t.mib_names = bad;
    refused(stack, &t, EINVAL, "no blanks");
    uint64_t n;
    ERR(usk_mib_read(stack, "HostileA", &n), ENOENT);
    static const usk_sysctl_t wrong[] = { { "one", 1, 0, 9, "fits" }, { "two", 5, 6, 7, NULL }, { 0 } };
    t = good(), t.sysctls = wrong;
    refused(stack, &t, EINVAL, "net.good.two");
    char value[8];
    ERR(usk_sysctl_get(stack, "net.good.one", value, sizeof value), ENOENT);
    /* A list without terminator is detected. */
    static const char *endless[400];
    static char names[400][16];
    for (int i = 0; i < 400; i++) {
        snprintf(names[i], sizeof names[i], "Endless%d", i);
        endless[i] = names[i];
    }
    t = good(), t.mib_names = endless;
    refused(stack, &t, EINVAL, "more than 256 counters");
    t = good(), t.flags |= USK_PROTO_DEFAULT;
    refused(stack, &t, EEXIST, "socket(2) with family 2, type 2 and protocol 0 means UDP already");
    /* What an entry point says, by a number or in words. */
    trying = &t, times = 0;
    static const struct {
        int result, error;
        const char *line;
    } says[] = {
        { -E2BIG, E2BIG, "plugin=says: usk_plugin_init returned -7, E2BIG" },
        { 7, EIO, "plugin=says: usk_plugin_init returned 7, neither 0 nor a negative errno" },
        { -9999, EIO, "plugin=says: usk_plugin_init returned -9999, neither 0 nor a negative errno" },
    };
    for (int i = 0; i < COUNT(says); i++) {
        init_result = says[i].result;
        refused_with(usk_plugin_attach(stack, "says", init_plugin), says[i].error, says[i].line);
    }
    refused_with(usk_plugin_attach(stack, "says", init_refuses), EINVAL, "plugin=says: no licence  for two stacks");
    /* An entry point that fails after it registered leaves nothing. */
    t = good();
    trying = &t, times = 1, init_result = -ENOMEM;
    CHECK(usk_plugin_attach(stack, "hostile", init_plugin) == NULL);
    EQ(errno, ENOMEM);
    init_result = 12345;
    CHECK(usk_plugin_attach(stack, "hostile", init_plugin) == NULL);
    EQ(errno, EIO);
    times = 2, init_result = 0;
    CHECK(usk_plugin_attach(stack, "hostile", init_plugin) == NULL);
    EQ(errno, EEXIST);
    CHECK(usk_plugin_attach(stack, "hostile", NULL) == NULL);
    EQ(errno, EINVAL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 254), EPROTONOSUPPORT);
    /* A table of the first header, which ends before the operations that came later: those are null, whatever lies
     * behind it. */
    t = good(), t.size = offsetof(usk_proto, sendmsg_locked);
    memset((char *)&t + t.size, 0xff, sizeof t - t.size);
    usk_plugin_t *older = attach(stack, &t);
    CHECK(older != NULL);
    OK(usk_plugin_unload(older));
    BAD(t.size = offsetof(usk_proto, sendmsg_locked) - 1, "at least");
    /* A table of a newer header, with nothing new in it, is taken; with something new it is not. */
    struct {
        usk_proto t;
        void *future;
    } newer = { good(), NULL };
    newer.t.size = sizeof newer;
    usk_plugin_t *p = attach(stack, &newer.t);
    CHECK(p != NULL);
    OK(usk_plugin_unload(p));
    newer.future = &newer;
    refused(stack, &newer.t, EINVAL, "lacks");
}

/* ---- operations that violate their contract ---- */

static int wild_int = 7;
static ssize_t wild_len = 1 << 20;
static ssize_t wild_send(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    (void)sk, (void)msg;
    return wild_len;
}
static ssize_t wild_recv(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    (void)sk, (void)msg;
    return 3; /* and has copied nothing */
}
static int wild_connect(usk_owned_t *o, const usk_addr_t *to)
{
    (void)o, (void)to;
    return wild_int;
}
static ssize_t wild_getsockopt(usk_sock_t *sk, int level, int name, void *value, size_t len)
{
    (void)sk, (void)level, (void)name, (void)value;
    return len + 1;
}
static int wild_setsockopt(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    (void)sk, (void)level, (void)name, (void)value, (void)len;
    return -99999;
}
static int wild_init(usk_owned_t *o)
{
    (void)o;
    return 1;
}
static int destroyed;
static void count_destroy(usk_owned_t *o)
{
    (void)o;
    destroyed++;
}
/* Locks and does not release. */
static ssize_t leaky_send(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    return usk_sendmsg_len(msg);
}
/* Locks what it owns, calls the program's calls on it, releases what is not its own, twice. */
static int the_fd;
static ssize_t reentrant_send(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    usk_owned_t o, again;
    EQ(usk_lock_sock(sk, &o), 0);
    EQ(usk_lock_sock(sk, &again), -EDEADLK);
    ERR(usk_send(the_fd, "x", 1, 0), EDEADLK);
    ERR(usk_close(the_fd), EDEADLK);
    EQ(usk_release_sock(&o), 0);
    EQ(usk_release_sock(&o), -EINVAL);
    EQ(usk_release_sock(NULL), -EINVAL);
    return usk_sendmsg_len(msg);
}
static int reentrant_connect(usk_owned_t *o, const usk_addr_t *to)
{
    (void)to;
    usk_owned_t again;
    EQ(usk_lock_sock(usk_owned_sock(o), &again), -EDEADLK);
    EQ(usk_release_sock(o), -EINVAL); /* lent, not locked */
    EQ(usk_unregister(usk_owned_reg(o)), -EBUSY);
    return 0;
}
/* A borrowed algorithm, asked by a caller of this header, of a newer one and of an older one. */
static void borrowed(usk_owned_t *o)
{
    struct {
        usk_cong_info_t i;
        uint64_t future;
    } newer = { .future = 7 };
    usk_cong_t *c = usk_cong_new(o, "reno", 1000);
    CHECK(c != NULL);
    EQ(usk_cong_info(c, &newer.i, sizeof newer), sizeof newer.i);
    EQ(newer.future, 0);
    CHECK(strcmp(newer.i.name, "reno") == 0 && newer.i.cwnd > 0 && newer.i.rto_us > 0);
    memset(&newer, 0xee, sizeof newer);
    EQ(usk_cong_info(c, &newer.i, offsetof(usk_cong_info_t, cwnd)), offsetof(usk_cong_info_t, cwnd));
    CHECK(strcmp(newer.i.name, "reno") == 0 && newer.i.cwnd == 0xeeeeeeee);
    EQ(usk_cong_info(c, NULL, 8), -EFAULT);
    EQ(usk_cong_info(NULL, &newer.i, 8), -EFAULT);
    usk_cong_free(o, c);
}
/* Every call with null and out-of-range arguments. */
static ssize_t null_send(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    usk_owned_t o;
    EQ(usk_lock_sock(NULL, &o), -EINVAL);
    EQ(usk_lock_sock(sk, NULL), -EINVAL);
    EQ(usk_lock_sock(sk, &o), 0);
    EQ(usk_ends(&o, NULL, NULL), 0);
    EQ(usk_ends(NULL, NULL, NULL), -EINVAL);
    EQ(usk_set_state(&o, 0), -EINVAL);
    EQ(usk_set_state(&o, 99), -EINVAL);
    EQ(usk_timer_arm(&o, 32, 1), -EINVAL);
    EQ(usk_timer_cancel(&o, 32), -EINVAL);
    EQ(usk_timer_at(&o, 32), 0);
    EQ(usk_charge(NULL, USK_SEND, NULL, 1), -EINVAL);
    EQ(usk_charge(&o, 2, NULL, 1), -EINVAL);
    EQ(usk_charge(&o, USK_SEND, NULL, SIZE_MAX), -ENOBUFS);
    EQ(usk_charge(&o, USK_RECV, NULL, 4096), 0);
    EQ(usk_charge(&o, USK_RECV, NULL, INT32_MAX - 4095), -ENOBUFS);
    EQ(usk_charged(&o, USK_RECV, NULL), 4096);
    EQ(usk_uncharge(&o, -1, NULL, 4096), -EINVAL);
    EQ(usk_uncharge(&o, USK_RECV, NULL, 4096), 0);
    EQ(usk_charged(&o, 3, NULL), -EINVAL);
    EQ(usk_sock_info(&o, NULL, 8), -EFAULT);
    EQ(usk_sock_info(NULL, NULL, 0), -EINVAL);
    EQ(usk_timeo(&o, 9, 0), 0);
    borrowed(&o);
    EQ(usk_receive_push(&o, NULL), -EINVAL);
    EQ(usk_receive_push(&o, usk_skb_from_msg(NULL, 1)), -EINVAL);
    EQ(usk_receive_msg(&o, NULL, 0), -EINVAL);
    CHECK(usk_receive_peek(&o) == NULL && usk_receive_pop(&o) == NULL);
    EQ(usk_xmit(&o, usk_skb_new(), NULL), -ENOTCONN);
    EQ(usk_xmit(&o, NULL, NULL), -EINVAL);
    EQ(usk_xmit(NULL, usk_skb_new(), NULL), -EINVAL);
    usk_addr_t odd = { .family = 77 };
    EQ(usk_xmit(&o, usk_skb_new(), &odd), -EAFNOSUPPORT);
    EQ(usk_set_ends(&o, &odd, &odd), -EAFNOSUPPORT);
    EQ(usk_route_connect(&o, NULL), -EFAULT);
    EQ(usk_error_report(sk, 0), -EINVAL);
    EQ(usk_error_report(sk, -5), -EINVAL);
    usk_skb_t *skb = usk_skb_new();
    CHECK(usk_skb_push(skb, 4096) == NULL && usk_skb_header(skb, 1) == NULL);
    EQ(usk_skb_pull(skb, 1), -EINVAL);
    EQ(usk_skb_append(skb, NULL, 5), -EFAULT);
    EQ(usk_skb_append(skb, NULL, 0), 0);
    EQ(usk_skb_copy(skb, 99, &odd, sizeof odd), 0);
    usk_queue_t *q = usk_queue_new();
    CHECK(usk_queue_pop(q) == NULL && usk_queue_peek(q, 3) == NULL);
    EQ(usk_queue_push(q, NULL), -EINVAL);
    EQ(usk_queue_insert(q, 1000, skb), 0);
    EQ(usk_queue_len(q), 1);
    usk_queue_free(q); /* and the packet in it */
    usk_queue_free(NULL);
    usk_skb_free(NULL);
    usk_sock_put(NULL);
    EQ(usk_count(usk_owned_reg(&o), 99, 1), -EINVAL);
    EQ(usk_count(NULL, 0, 1), -EINVAL);
    EQ(usk_sysctl(usk_owned_reg(&o), 99), 0);
    EQ(usk_drop(usk_owned_reg(&o), usk_skb_new(), 99), -EINVAL);
    CHECK(usk_proto_lookup(usk_owned_reg(&o), &odd, &odd, 0) == NULL);
    EQ(usk_proto_register(NULL, trying, NULL, NULL), -EINVAL);
    EQ(usk_unregister(NULL), -EINVAL);
    char buf[8];
    EQ(usk_sendmsg_take(msg, buf, sizeof buf), 2);
    EQ(usk_sendmsg_take(msg, NULL, 5), -EFAULT);
    usk_release_sock(&o);
    return 2;
}

static void broken_until_closed(int fd)
{
    /* The error is returned once, then all calls on the socket return EIO until it is closed. */
    char c;
    ERR(usk_recv(fd, &c, 1, MSG_DONTWAIT), EIO);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    EQ(usk_poll(&p, 1, 0), 1);
    CHECK(p.revents & POLLERR);
    OK(usk_close(fd));
}

static usk_plugin_t *use(usk_stack_t *stack, const usk_proto *t, int *fd)
{
    usk_plugin_t *p = attach(stack, t);
    CHECK(p != NULL);
    the_fd = *fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 254));
    return p;
}

static void operations(usk_stack_t *stack)
{
    usk_proto t;
    usk_plugin_t *p;
    int fd;
    char buf[8] = "untouch";
    struct addr to = at("127.0.0.1", 9);

    t = good(), t.sendmsg = wild_send;
    p = use(stack, &t, &fd);
    ERR(usk_send(fd, "ab", 2, 0), EIO);
    broken_until_closed(fd);
    OK(usk_plugin_unload(p));

    wild_len = -5000;
    p = use(stack, &t, &fd);
    ERR(usk_send(fd, "ab", 2, 0), EIO);
    broken_until_closed(fd);
    OK(usk_plugin_unload(p));

    t = good(), t.recvmsg = wild_recv;
    p = use(stack, &t, &fd);
    ERR(usk_recv(fd, buf, sizeof buf, 0), EIO);
    EQ(strcmp(buf, "untouch"), 0);
    OK(usk_close(fd));
    OK(usk_plugin_unload(p));

    t = good(), t.connect = wild_connect;
    p = use(stack, &t, &fd);
    ERR(usk_connect(fd, &to.sa, to.len), EIO);
    OK(usk_close(fd));
    OK(usk_plugin_unload(p));

    t = good(), t.getsockopt = wild_getsockopt, t.setsockopt = wild_setsockopt;
    p = use(stack, &t, &fd);
    socklen_t len = 4;
    ERR(usk_getsockopt(fd, 254, 1, buf, &len), EIO);
    ERR(usk_setsockopt(fd, 254, 1, buf, 4), EIO);
    OK(usk_close(fd));
    OK(usk_plugin_unload(p));

    t = good(), t.init = wild_init, t.destroy = count_destroy;
    p = attach(stack, &t);
    CHECK(p != NULL);
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 254), EIO);
    EQ(destroyed, 1);
    OK(usk_plugin_unload(p));

    t = good(), t.sendmsg = leaky_send, t.destroy = count_destroy;
    p = use(stack, &t, &fd);
    ERR(usk_send(fd, "ab", 2, 0), EIO);
    broken_until_closed(fd); /* would hang if it were still locked */
    EQ(destroyed, 2);
    OK(usk_plugin_unload(p));

    t = good(), t.sendmsg = reentrant_send, t.connect = reentrant_connect;
    p = use(stack, &t, &fd);
    EQ(usk_send(fd, "ab", 2, 0), 2);
    OK(usk_connect(fd, &to.sa, to.len));
    OK(usk_close(fd));
    OK(usk_plugin_unload(p));

    t = good(), t.sendmsg = null_send;
    p = use(stack, &t, &fd);
    EQ(usk_send(fd, "ab", 2, 0), 2);
    OK(usk_close(fd));
    OK(usk_plugin_unload(p));
}

/* ---- unregistering from inside ---- */

static int seen;
static void rcv_unregister(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    (void)info;
    seen++;
    EQ(usk_drop(reg, skb, USK_DROP_STATE), 0);
    EQ(usk_unregister(reg), 0);
}

static void unregister_in_a_callback(usk_stack_t *stack)
{
    usk_proto t = good();
    t.rcv = rcv_unregister;
    usk_plugin_t *p = attach(stack, &t);
    CHECK(p != NULL);
    /* A raw socket sends a packet of the protocol; its handler unregisters itself. */
    int raw = (int)OK(usk_socket_on(stack, AF_INET, SOCK_RAW, 254));
    struct addr to = at("127.0.0.1", 0);
    EQ(usk_sendto(raw, "packet", 6, 0, &to.sa, to.len), 6);
    EQ(seen, 1);
    EQ(usk_sendto(raw, "packet", 6, 0, &to.sa, to.len), 6);
    EQ(seen, 1);
    OK(usk_close(raw));
    OK(usk_plugin_unload(p)); /* nothing is left to unregister */
}

int main(void)
{
    begin("hostile");
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack != NULL);
    tables(stack);
    operations(stack);
    unregister_in_a_callback(stack);
    /* The stack is whole: TCP works. */
    struct addr a = at("127.0.0.1", 7);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0)),
        c = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 1));
    OK(usk_connect(c, &a.sa, a.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    send_all(c, "well", 4);
    EXPECT(s, "well");
    OK(usk_close(s));
    OK(usk_close(c));
    OK(usk_close(l));
    usk_stack_free(stack);
    return done();
}

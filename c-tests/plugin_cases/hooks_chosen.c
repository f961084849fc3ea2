/* Hooks of chosen sockets: attached to a listener, to a connection, by name with setsockopt; chosen by a filter of
 * addresses and ports; what is inherited, kept and lost; tables and filters that do not fit. */
#include "common.h"
#include <usersock/hooks.h>

enum { KIND_A = 240, KIND_B = 241, PORT = 7000 };

static usk_stack_t *stack;

/* Two registrations, each of which writes an option of its own kind and counts what it is told. */
static struct tag {
    const char *name;
    int kind;
    usk_reg_t *reg;
    _Atomic int attached, detached, passive, active, listens, seen;
} a = { .name = "a", .kind = KIND_A }, b = { .name = "b", .kind = KIND_B };

static void want(usk_hook_t *h)
{
    EQ(usk_hook_set_cb_flags(h, USK_CB_WRITE_HDR_OPT | USK_CB_PARSE_ALL_HDR_OPT), 0);
}
static void on_attached(usk_hook_t *h, void *user)
{
    ((struct tag *)user)->attached++;
    want(h);
    EQ(usk_hook_set_value(h, 9), 0);
}
static void on_detached(usk_hook_t *h, void *user)
{
    ((struct tag *)user)->detached++;
    EQ(usk_hook_value(h), 9);
}
static void on_listen(usk_hook_t *h, void *user)
{
    ((struct tag *)user)->listens++;
    want(h);
}
static void on_passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)options, (void)len, (void)syn, (void)syn_len;
    ((struct tag *)user)->passive++;
    EQ(usk_hook_value(h), 0);
    want(h);
    EQ(usk_hook_set_value(h, 9), 0);
}
static void on_active(usk_hook_t *h, const void *options, size_t len, void *user)
{
    struct tag *t = user;
    size_t n;
    (void)h;
    t->active++;
    t->seen += usk_find_option(options, len, (uint8_t)t->kind, -1, &n) != NULL;
}
static void on_parse(usk_hook_t *h, const void *options, size_t len, void *user)
{
    struct tag *t = user;
    size_t n;
    (void)h;
    t->seen += usk_find_option(options, len, (uint8_t)t->kind, -1, &n) != NULL;
}
static int on_len(usk_hook_t *h, const usk_hdr_seg_t *seg, void *user)
{
    (void)h, (void)user;
    return seg->remaining < 4 ? 0 : 4;
}
static void on_write(usk_hook_t *h, const usk_hdr_seg_t *seg, usk_hdr_t *w, void *user)
{
    (void)h, (void)seg;
    uint8_t own[4] = { (uint8_t)((struct tag *)user)->kind, 4, 1, 2 }, other[4] = { 243, 4, 1, 2 };
    EQ(usk_hdr_store(w, other, sizeof other), -EINVAL); /* it said what it writes */
    EQ(usk_hdr_store(w, own, sizeof own), 0);
}

static usk_sock_ops table_of(const struct tag *t)
{
    usk_sock_ops table = {
        .version = USK_SOCK_OPS_VERSION,
        .size = sizeof table,
        .name = t->name,
        .active_established = on_active,
        .passive_established = on_passive,
        .listen = on_listen,
        .parse_hdr_opt = on_parse,
        .hdr_opt_len = on_len,
        .write_hdr_opt = on_write,
        .flags = USK_SOCK_OPS_CHOSEN,
        .option_kind = (uint16_t)t->kind,
        .attached = on_attached,
        .detached = on_detached,
    };
    return table;
}

static int init_both(usk_plugin_t *plugin)
{
    usk_sock_ops ta = table_of(&a), tb = table_of(&b);
    int r = usk_sock_ops_register(plugin, &ta, &a, &a.reg);
    return r ? r : usk_sock_ops_register(plugin, &tb, &b, &b.reg);
}

static const usk_sock_ops *trying;
static int init_one(usk_plugin_t *plugin)
{
    return usk_sock_ops_register(plugin, trying, NULL, NULL);
}

/* Why the last call of a program failed. */
static void because(const char *line)
{
    refused_with(NULL, errno, line);
}

static int server(uint16_t port)
{
    struct addr at_port = at("127.0.0.1", port);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(l, &at_port.sa, at_port.len));
    OK(usk_listen(l, 8));
    return l;
}

static int client(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
}

static void pair_of(int fd[2], int l, int c)
{
    struct addr to = sock_name(l);
    fd[0] = c;
    OK(usk_connect(c, &to.sa, to.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
}

static void talk(const int fd[2])
{
    for (int i = 0; i < 2; i++) {
        send_all(fd[i], "word", 4);
        EXPECT(fd[!i], "word");
    }
}

/* Names that getsockopt gives; they are "" if there are none. */
static const char *hooks_of(int fd)
{
    static char names[64];
    socklen_t len = sizeof names;
    names[0] = 0;
    OK(usk_getsockopt(fd, IPPROTO_TCP, USK_TCP_HOOKS, names, &len));
    CHECK(len == 0 || names[len - 1] == 0);
    return names;
}

static void forget(void)
{
    a.attached = a.detached = a.passive = a.active = a.listens = a.seen = 0;
    b.attached = b.detached = b.passive = b.active = b.listens = b.seen = 0;
}

/* Attached to a listener: its children inherit, keep what they have when it is detached, and later ones have none. */
static void of_a_listener(void)
{
    int l = server(0), other = server(0), fd[2], fd2[2], fd3[2], c = client();
    OK(usk_sock_ops_attach(l, "a"));
    OK(usk_sock_ops_attach(c, "a"));
    EQ(a.attached, 2);
    pair_of(fd, l, c);
    talk(fd);
    EQ(strcmp(hooks_of(l), "a") || strcmp(hooks_of(fd[0]), "a") || strcmp(hooks_of(fd[1]), "a"), 0);
    EQ(a.passive, 1);
    EQ(a.active, 1);
    CHECK(a.seen >= 3); /* the SYN-ACK's among them */
    forget();
    pair_of(fd2, other, client());
    talk(fd2);
    EQ(a.passive + a.active + a.seen, 0);
    EQ(strcmp(hooks_of(fd2[1]), ""), 0);

    OK(usk_sock_ops_detach(l, "a"));
    EQ(a.detached, 1);
    pair_of(fd3, l, client());
    talk(fd3);
    EQ(a.passive + a.seen, 0);
    talk(fd);
    CHECK(a.seen >= 2);
    EQ(strcmp(hooks_of(fd[1]), "a"), 0);
    /* A connection loses it at once. */
    OK(usk_sock_ops_detach(fd[0], "a"));
    OK(usk_sock_ops_detach(fd[1], "a"));
    EQ(a.detached, 3);
    forget();
    talk(fd);
    EQ(a.seen, 0);
    close_pair(fd);
    close_pair(fd2);
    close_pair(fd3);
    OK(usk_close(l));
    OK(usk_close(other));
}

/* Two on one connection, in the order of their registration, by the option's name; and on a live connection. */
static void by_name(void)
{
    int l = server(0), fd[2];
    pair_of(fd, l, client());
    for (int i = 0; i < 2; i++) {
        OK(usk_setsockopt(fd[i], IPPROTO_TCP, USK_TCP_HOOKS, "b", 1));
        OK(usk_setsockopt(fd[i], IPPROTO_TCP, USK_TCP_HOOKS, "a", 2));
        EQ(strcmp(hooks_of(fd[i]), "a,b"), 0);
    }
    forget();
    talk(fd);
    CHECK(a.seen >= 2 && b.seen >= 2);
    OK(usk_setsockopt(fd[0], IPPROTO_TCP, USK_TCP_HOOKS_DETACH, "a", 1));
    EQ(strcmp(hooks_of(fd[0]), "b"), 0);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, USK_TCP_HOOKS_DETACH, "a", 1), ENOENT);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, USK_TCP_HOOKS, "b", 1), EEXIST);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, USK_TCP_HOOKS, "none", 4), ENOENT);
    ERR(usk_setsockopt(fd[0], IPPROTO_TCP, USK_TCP_HOOKS, "", 0), EINVAL);
    char small[2];
    socklen_t len = sizeof small;
    OK(usk_getsockopt(fd[1], IPPROTO_TCP, USK_TCP_HOOKS, small, &len));
    CHECK(len == 2 && memcmp(small, "a,", 2) == 0); /* as much as there is room for, as TCP_CONGESTION */
    close_pair(fd);
    OK(usk_close(l));
}

static usk_sock_ops_filter_t ours(const char *ip, int bits, int first, int last)
{
    usk_sock_ops_filter_t f = { .local = { .family = AF_INET, .port = (uint16_t)first } };
    CHECK(inet_pton(AF_INET, ip, f.local.addr) == 1);
    f.local_prefix = (uint16_t)bits;
    f.local_last = (uint16_t)last;
    return f;
}

/* A filter decides when a connection begins, and not again. */
static void by_address(void)
{
    usk_sock_ops_filter_t servers = ours("127.0.0.0", 8, PORT, PORT + 9), clients = { .remote.port = PORT + 9 };
    const usk_sock_ops_filter_t both[] = { servers, clients };
    forget();
    EQ(usk_sock_ops_filter(a.reg, both, COUNT(both)), 0);
    int in = server(PORT + 9), out = server(PORT + 10), fd[2], fd2[2], fd3[2];
    EQ(a.listens, 2); /* a peer of either may have that port */
    pair_of(fd, in, client());
    pair_of(fd2, out, client());
    EQ(strcmp(hooks_of(fd[0]), "a") || strcmp(hooks_of(fd[1]), "a") || strcmp(hooks_of(in), "a"), 0);
    EQ(strcmp(hooks_of(fd2[0]), "") || strcmp(hooks_of(fd2[1]), ""), 0);
    EQ(a.passive, 1);
    EQ(a.active, 1);
    CHECK(a.seen >= 1); /* the SYN-ACK's: the filter matches the listener */
    EQ(usk_sock_ops_filter(a.reg, NULL, 0), 0);
    pair_of(fd3, in, client());
    EQ(a.passive, 1);
    EQ(strcmp(hooks_of(fd[1]), "a"), 0);
    EQ(strcmp(hooks_of(fd3[1]), ""), 0);

    usk_sock_ops_filter_t wrong = ours("127.0.0.1", 33, 0, 0);
    EQ(usk_sock_ops_filter(a.reg, &wrong, 1), -EINVAL);
    because("127.0.0.1/33");
    wrong = ours("127.0.0.1", 32, 9, 8);
    EQ(usk_sock_ops_filter(a.reg, &wrong, 1), -EINVAL);
    because("ports 9 to 8");
    wrong = (usk_sock_ops_filter_t){ .remote = { .family = 99 } };
    EQ(usk_sock_ops_filter(a.reg, &wrong, 1), -EINVAL);
    because("family 99");
    wrong = (usk_sock_ops_filter_t){ .remote_prefix = 8 };
    EQ(usk_sock_ops_filter(a.reg, &wrong, 1), -EINVAL);
    because("without family");
    EQ(usk_sock_ops_filter(a.reg, NULL, 1), -EFAULT);
    EQ(usk_sock_ops_filter(NULL, NULL, 0), -EINVAL);
    close_pair(fd);
    close_pair(fd2);
    close_pair(fd3);
    OK(usk_close(in));
    OK(usk_close(out));
}

static void refused(void)
{
    int s = client(), udp = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    usk_sock_ops all = { .version = USK_SOCK_OPS_VERSION, .size = sizeof all, .name = "all" }, t;
    trying = &all;
    usk_plugin_t *p = usk_plugin_attach(stack, "all", init_one);
    CHECK(p != NULL);
#define BAD(change, error, line) \
    (t = (usk_sock_ops){ .version = 1, .size = sizeof t, .name = "t" }, change, trying = &t, \
     refused_with(usk_plugin_attach(stack, "t", init_one), error, line))
    BAD(t.flags = 2, EINVAL, "unknown flags");
    BAD(t.option_kind = 256, EINVAL, "option_kind 256");
    BAD(t.option_exid = 5, EINVAL, "option_exid without option_kind");
    BAD((t.option_kind = 200, t.option_exid = 5), EINVAL, "no other kind has one");
    BAD(t.option_kind = 253, EINVAL, "have an ExID");
    BAD(t.option_kind = 5, EINVAL, "option kind 5 is TCP's own");
    BAD((t.option_kind = 254, t.option_exid = 0xf989), EINVAL, "TCP's own"); /* Fast Open */
    BAD(t.option_kind = KIND_A, EEXIST, "option kind 240 is written by the hooks \"a\"");

    ERR(usk_sock_ops_attach(s, "none"), ENOENT);
    because("there are no hooks \"none\"");
    ERR(usk_sock_ops_attach(s, "all"), EEXIST);
    because("all sockets of the stack have them");
    ERR(usk_sock_ops_detach(s, "a"), ENOENT);
    because("the socket does not have them");
    OK(usk_sock_ops_attach(s, "a"));
    ERR(usk_sock_ops_attach(s, "a"), EEXIST);
    because("the socket has them");
    ERR(usk_sock_ops_attach(s, NULL), EFAULT);
    ERR(usk_sock_ops_attach(udp, "a"), ENOPROTOOPT);
    ERR(usk_sock_ops_detach(udp, "a"), ENOPROTOOPT);
    ERR(usk_sock_ops_attach(-1, "a"), EBADF);
    ERR(usk_sock_ops_attach(0, "a"), ENOTSOCK);

    /* The same option once more: registered, for others; refused on this socket, and where filters overlap. */
    struct tag twin = { .name = "twin", .kind = KIND_A };
    t = table_of(&twin), trying = &t;
    usk_plugin_t *second = usk_plugin_attach(stack, "twin", init_one);
    CHECK(second != NULL);
    ERR(usk_sock_ops_attach(s, "twin"), EEXIST);
    because("option kind 240 is written by the hooks \"a\"");
    OK(usk_plugin_unload(second));
    ERR(usk_sock_ops_attach(s, "twin"), ENOENT);

    /* A table of the time before there was a choice: as it was. */
    t = table_of(&twin), t.size = offsetof(usk_sock_ops, flags);
    second = usk_plugin_attach(stack, "twin", init_one);
    CHECK(second != NULL);
    EQ(strcmp(hooks_of(s), "a,all,twin"), 0);
    OK(usk_plugin_unload(second));
    t.size--;
    refused_with(usk_plugin_attach(stack, "twin", init_one), EINVAL, "size");
    OK(usk_plugin_unload(p));
    OK(usk_close(udp));
    OK(usk_close(s));
}

/* The guide's: a congestion control for a prefix. */
static void far_connect(usk_hook_t *h, void *user)
{
    (void)user;
    usk_hook_setsockopt(h, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}
static void far_passive(usk_hook_t *h, const void *options, size_t len, const void *syn, size_t syn_len, void *user)
{
    (void)options, (void)len, (void)syn, (void)syn_len;
    far_connect(h, user);
}
static int init_far(usk_plugin_t *plugin)
{
    static const usk_sock_ops table = {
        .version = USK_SOCK_OPS_VERSION,
        .size = sizeof table,
        .name = "far",
        .flags = USK_SOCK_OPS_CHOSEN,
        .tcp_connect = far_connect,
        .passive_established = far_passive,
    };
    /* 127.128.0.0/9, whoever connects to whom */
    const usk_addr_t far = { .family = AF_INET, .addr = { 127, 128 } };
    const usk_sock_ops_filter_t filter = { .remote = far, .remote_prefix = 9 };
    usk_reg_t *reg;
    int r = usk_sock_ops_register(plugin, &table, NULL, &reg);
    return r ? r : usk_sock_ops_filter(reg, &filter, 1);
}

static bool has_reno(int fd)
{
    char name[16];
    socklen_t len = sizeof name;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
    return strcmp(name, "reno") == 0;
}

static void by_prefix(void)
{
    usk_plugin_t *p = usk_plugin_attach(stack, "far", init_far);
    CHECK(p != NULL);
    int l = server(0), fd[2];
    for (int i = 0; i < 2; i++) {
        struct addr from = at(i == 0 ? "127.0.0.2" : "127.200.0.2", 0);
        int c = client();
        OK(usk_bind(c, &from.sa, from.len));
        pair_of(fd, l, c);
        talk(fd);
        EQ(has_reno(fd[1]), i == 1); /* our end is 127.0.0.1, the peer's the prefix's or not */
        EQ(has_reno(fd[0]), false);
        close_pair(fd);
    }
    OK(usk_close(l));
    l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    struct addr to = at("127.200.0.1", 0);
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    pair_of(fd, l, client());
    EQ(has_reno(fd[0]), true);
    close_pair(fd);
    OK(usk_close(l));
    unloaded(p);
}

/* What breaks its socket as it is attached, and a program's call from inside. */
static int the_fd;
static void breaks(usk_hook_t *h, void *user)
{
    (void)user;
    ERR(usk_sock_ops_attach(the_fd, "a"), EDEADLK);
    usk_break(h->sk);
}

static void broken(void)
{
    usk_sock_ops t = table_of(&b);
    t.name = "breaks", t.option_kind = 0, t.attached = breaks;
    trying = &t;
    usk_plugin_t *p = usk_plugin_attach(stack, "breaks", init_one);
    CHECK(p != NULL);
    the_fd = client();
    usk_sock_ops_attach(the_fd, "breaks");
    ERR(usk_sock_ops_attach(the_fd, "a"), EIO);
    ERR(usk_sock_ops_detach(the_fd, "breaks"), EIO);
    OK(usk_close(the_fd));
    OK(usk_plugin_unload(p));
}

int main(void)
{
    begin("hooks_chosen");
    stack = usk_stack_new("");
    usk_plugin_t *p = usk_plugin_attach(stack, "tags", init_both);
    CHECK(stack != NULL && p != NULL);
    of_a_listener();
    by_name();
    by_address();
    by_prefix();
    refused();
    broken();
    /* Never in use: a socket that has hooks does not keep them. */
    int s = client();
    OK(usk_sock_ops_attach(s, "a"));
    OK(usk_plugin_unload(p));
    EQ(strcmp(hooks_of(s), ""), 0);
    OK(usk_close(s));
    usk_stack_free(stack);
    return done();
}

/* Devices from C: two stacks of one process joined by UDP datagrams of the host, a transfer both ways, and devices that
 * violate their contract. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include <usersock/device.h>

/* ---- the device of plugins/udpdev.c ---- */

/* A port of 127.0.0.1 that is free now. */
static int free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

enum { BYTES = 3 << 20 };

static unsigned char byte_at(size_t i)
{
    return (unsigned char)((i * 2654435761u) >> 13);
}

/* Sends back all that comes, until the end. */
static void *echo(void *listener)
{
    static char buf[65536];
    int fd = (int)OK(usk_accept(*(int *)listener, NULL, NULL));
    for (;;) {
        ssize_t n = OK(usk_recv(fd, buf, sizeof buf, 0));
        if (n == 0)
            break;
        for (ssize_t sent = 0; sent < n;)
            sent += OK(usk_send(fd, buf + sent, (size_t)(n - sent), 0));
    }
    OK(usk_close(fd));
    return NULL;
}

static void transfer(usk_stack_t *a, usk_stack_t *b, const char *b_addr)
{
    static unsigned char buf[65536];
    struct addr to = at(b_addr, 80);
    pthread_t thread;
    int listener = (int)OK(usk_socket_on(b, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(listener, &to.sa, to.len));
    OK(usk_listen(listener, 1));
    CHECK(pthread_create(&thread, NULL, echo, &listener) == 0);
    int fd = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    OK(usk_connect(fd, &to.sa, to.len));
    size_t sent = 0, got = 0;
    while (got < BYTES) {
        struct pollfd p = { .fd = fd, .events = POLLIN | (sent < BYTES ? POLLOUT : 0) };
        EQ(usk_poll(&p, 1, -1), 1);
        if (p.revents & POLLOUT) {
            size_t len = BYTES - sent < sizeof buf ? BYTES - sent : sizeof buf;
            for (size_t i = 0; i < len; i++)
                buf[i] = byte_at(sent + i);
            ssize_t n = usk_send(fd, buf, len, MSG_DONTWAIT);
            CHECK(n > 0 || errno == EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == BYTES)
                OK(usk_shutdown(fd, SHUT_WR));
        }
        if (p.revents & POLLIN) {
            ssize_t n = OK(usk_recv(fd, buf, sizeof buf, 0));
            CHECK(n > 0);
            for (ssize_t i = 0; i < n; i++)
                if (buf[i] != byte_at(got + (size_t)i)) {
                    CHECK(!"the bytes are those that were sent");
                    exit(done());
                }
            got += (size_t)n;
        }
    }
    EQ(usk_recv(fd, buf, sizeof buf, 0), 0);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(usk_close(fd));
    OK(usk_close(listener));
}

static void refused_config(const char *dir, const char *keys, const char *want, int err)
{
    char config[900];
    snprintf(config, sizeof config, "plugin=%s/udpdev.so,%s", dir, keys);
    refused_with(usk_stack_new(config), err, want);
}

static void udp_device(const char *dir)
{
    char config[900], path[512];
    int pa = free_port(), pb = free_port();
    snprintf(config, sizeof config, "plugin=%s/udpdev.so,device=udp:127.0.0.1:%d/127.0.0.1:%d,addr=10.9.0.1/24", dir,
             pa, pb);
    usk_stack_t *a = usk_stack_new(config);
    if (!a)
        printf("%s\n", usk_config_error());
    CHECK(a != NULL);
    /* The other stack is there first, and gets plug-in and device afterwards. */
    usk_stack_t *b = usk_stack_new("");
    snprintf(path, sizeof path, "%s/udpdev.so", dir);
    usk_plugin_t *plugin = usk_plugin_load(b, path);
    CHECK(plugin != NULL);
    snprintf(config, sizeof config, "device=udp:127.0.0.1:%d/127.0.0.1:%d,addr=10.9.0.2/24", pb, pa);
    OK(usk_device_add(b, config));
    transfer(a, b, "10.9.0.2");
    EQ(usk_plugin_unload(plugin), -1);
    EQ(errno, EBUSY);
    /* The local port is taken. */
    ERR(usk_device_add(b, config), EADDRINUSE);
    ERR(usk_device_add(b, "addr=10.0.0.1/24"), EINVAL);
    /* With the other end gone, what is sent is refused there: a counter of the kind. */
    usk_stack_free(b);
    uint64_t n = 0;
    int s = (int)OK(usk_socket_on(a, AF_INET, SOCK_DGRAM, 0));
    struct addr to = at("10.9.0.2", 9);
    struct pollfd none = { .fd = -1 };
    for (int i = 0; n == 0 && i < 5000; i++) {
        OK(usk_sendto(s, "x", 1, 0, &to.sa, to.len));
        OK(usk_mib_read(a, "UdpdevRefused", &n));
        OK(usk_poll(&none, 1, 1));
    }
    CHECK(n > 0);
    OK(usk_close(s));
    usk_stack_free(a);

    refused_config(dir, "device=udp:here", "device=udp:here: not LOCAL:PORT/REMOTE:PORT of IPv4", EINVAL);
    refused_config(dir, "device=udp:127.0.0.1:0/127.0.0.1:1", "not LOCAL:PORT", EINVAL);
    refused_config(dir, "device=tcp:x", "no kind \"tcp\" of device, there is udp", EINVAL);
    refused_config(dir, "device=udp:127.0.0.1:7/127.0.0.1:7,mtu=65535", "does not fit in a datagram", EINVAL);
    snprintf(config, sizeof config, "mac=random,device=udp:127.0.0.1:%d/127.0.0.1:%d", pa, pb);
    refused_config(dir, config, "mac=: this device carries no hardware addresses", EINVAL);
    refused_config(dir, "device=udp:x,tun=y", "there is a device already", EINVAL);
}

/* ---- devices of this program's own ---- */

static struct {
    int opened, closed, xmits, busy;
    int xmit_says, recv_says, open_says, fd, queues, mtu, link;
    int flood, oversize, echo_back;
    usk_skb_t *kept;
    int kept_n;
    /* recv's argument, kept where it should not be; what to say through it in xmit; how often that was refused. */
    usk_sink_t *sink;
    int rx_in_xmit, refused;
    /* Lengths of packets to receive, to a 0, and what usk_device_rx says of each. */
    const struct length {
        size_t len;
        int says;
    } *lengths;
} d;

static int mine_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    if (d.open_says)
        return d.open_says;
    d.opened++;
    info->queues = (uint32_t)d.queues;
    info->mtu = (uint32_t)d.mtu;
    info->link = (uint32_t)d.link;
    if (args->has_mac)
        EQ(memcmp(args->mac, info->mac, 6), 0);
    *device = &d;
    return 0;
}
static void mine_close(void *device)
{
    CHECK(device == &d);
    usk_skb_free(d.kept);
    d.kept = NULL;
    __atomic_add_fetch(&d.closed, 1, __ATOMIC_RELEASE);
}
static int mine_poll_fd(void *device, uint32_t queue)
{
    (void)device, (void)queue;
    return d.fd;
}
static int mine_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    (void)device, (void)queue, (void)now;
    d.sink = sink;
    for (; d.lengths && d.lengths->len; d.lengths++) {
        static char bytes[65536 + 14];
        usk_skb_t *skb = usk_skb_new();
        EQ(usk_skb_append(skb, bytes, d.lengths->len), 0);
        EQ(usk_device_rx(sink, skb), d.lengths->says);
    }
    d.lengths = NULL;
    if (d.flood) {
        d.flood = 0;
        for (size_t i = 0; i < budget + 10; i++) {
            usk_skb_t *skb = usk_skb_new();
            usk_skb_append(skb, "not an IP packet", 16);
            EQ(usk_device_rx(sink, skb), i < budget ? 0 : -ENOBUFS);
        }
    }
    if (d.oversize) {
        d.oversize = 0;
        static char big[1501];
        usk_skb_t *skb = usk_skb_new();
        usk_skb_append(skb, big, sizeof big);
        EQ(usk_device_rx(sink, skb), -ENOBUFS);
        EQ(usk_device_rx(sink, usk_skb_new()), -ENOBUFS);
        EQ(usk_device_rx(sink, NULL), -EINVAL);
    }
    if (d.kept) {
        /* What was sent comes in again as it is, sender's notes and all. */
        usk_skb_t *skb = d.kept;
        d.kept = NULL;
        EQ(usk_device_rx(sink, skb), 0);
    }
    return d.recv_says;
}
static int mine_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    (void)device, (void)queue, (void)now;
    __atomic_fetch_add(&d.xmits, 1, __ATOMIC_RELAXED);
    if (d.busy > 0) {
        d.busy--;
        return -EBUSY;
    }
    if (d.rx_in_xmit) {
        usk_skb_t *copy = usk_skb_new();
        EQ(usk_skb_append(copy, "not an IP packet", 16), 0);
        d.refused += usk_device_rx(d.sink, copy) == -EINVAL;
    }
    if (d.echo_back && !d.kept) {
        d.kept = usk_skb_share(skb);
        d.kept_n++;
    }
    return d.xmit_says;
}
static int mine_pending(void *device, uint32_t queue)
{
    (void)device, (void)queue;
    return d.flood || d.oversize || d.kept || d.lengths;
}

static usk_device_ops mine(void)
{
    usk_device_ops t = {
        .version = USK_DEVICE_VERSION,
        .size = sizeof t,
        .name = "mine",
        .open = mine_open,
        .close = mine_close,
        .recv = mine_recv,
        .xmit = mine_xmit,
        .poll_fd = mine_poll_fd,
        .has_pending = mine_pending,
    };
    return t;
}

static const usk_device_ops *trying;
static usk_reg_t *kind;

static int init_plugin(usk_plugin_t *plugin)
{
    return usk_device_register(plugin, trying, NULL, &kind);
}

static void reset(void)
{
    memset(&d, 0, sizeof d);
    d.fd = -1;
    d.queues = 1;
    d.mtu = 1500;
}

static usk_stack_t *with_kind(const usk_device_ops *ops)
{
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack != NULL);
    trying = ops;
    CHECK(usk_plugin_attach(stack, "device", init_plugin) != NULL);
    return stack;
}

/* A datagram to an address that the device has to carry. */
static ssize_t say(usk_stack_t *stack)
{
    struct addr to = at("10.8.0.2", 9);
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    ssize_t r = usk_sendto(fd, "hello", 5, 0, &to.sa, to.len);
    OK(usk_close(fd));
    return r;
}

/* The stack still works: a datagram through its loopback. */
static void turn(usk_stack_t *stack)
{
    struct addr self = at("127.0.0.1", 0);
    char buf[8];
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    OK(usk_bind(fd, &self.sa, self.len));
    OK(usk_getsockname(fd, &self.sa, &self.len));
    EQ(usk_sendto(fd, "still", 5, 0, &self.sa, self.len), 5);
    EQ(usk_recv(fd, buf, sizeof buf, 0), 5);
    OK(usk_close(fd));
}

/* Waits until the device was given `n` packets: a full queue is tried again whenever the stack runs, in a waiting
 * thread or in its own. */
static void xmits_reach(usk_stack_t *stack, int n)
{
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, 0));
    while (__atomic_load_n(&d.xmits, __ATOMIC_RELAXED) < n) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        EQ(usk_poll(&p, 1, 1), 0);
    }
    OK(usk_close(fd));
}

/* Frees the stack and waits until its device is closed: by the stack's own thread, where that still had it. */
static void free_and_close(usk_stack_t *stack)
{
    usk_stack_free(stack);
    while (__atomic_load_n(&d.closed, __ATOMIC_ACQUIRE) == 0)
        OK(poll(NULL, 0, 1));
    EQ(d.closed, 1);
}

static void hostile_devices(void)
{
    usk_device_ops ops = mine();
    static const char add[] = "device=mine:x,addr=10.8.0.1/24";

    /* Whatever open says and fills in. */
    static const struct {
        int says, fd, queues, mtu, link, want;
    } bad[] = {
        { -EPERM, -1, 1, 1500, 0, EPERM }, { 1, -1, 1, 1500, 0, EIO },      { -100000, -1, 1, 1500, 0, EIO },
        { 0, 9999, 1, 1500, 0, EIO },      { 0, -2, 1, 1500, 0, EIO },      { 0, -1, 0, 1500, 0, EIO },
        { 0, -1, 257, 1500, 0, EIO },      { 0, -1, 1, 67, 0, EIO },        { 0, -1, 1, 65536, 0, EIO },
        { 0, -1, 1, 1500, 2, EIO },        { 0, -1, 1, 1500, 1, EIO },
    };
    for (int i = 0; i < COUNT(bad); i++) {
        usk_stack_t *stack = with_kind(&ops);
        reset();
        d.open_says = bad[i].says, d.fd = bad[i].fd, d.queues = bad[i].queues, d.mtu = bad[i].mtu, d.link = bad[i].link;
        ERR(usk_device_add(stack, add), bad[i].want);
        EQ(d.closed, d.opened);
        EQ(usk_unregister(kind), 0);
        usk_stack_free(stack);
    }

    /* A valid device with extreme behaviour: floods, packets of no size, its own packets back, and a full queue. */
    usk_stack_t *stack = with_kind(&ops);
    reset();
    d.fd = socket(AF_INET, SOCK_DGRAM, 0); /* polls writable: a full queue is tried again */
    int host_fd = d.fd;
    OK(usk_device_add(stack, add));
    EQ(usk_unregister(kind), -EBUSY);
    EQ(say(stack), 5);
    EQ(d.xmits, 1);
    d.flood = d.oversize = 1;
    EQ(say(stack), 5);
    EQ(d.flood, 0);
    d.echo_back = 1;
    EQ(say(stack), 5);
    EQ(d.kept_n, 1);
    d.echo_back = 0;
    d.busy = 1;
    int before = d.xmits;
    EQ(say(stack), 5);
    xmits_reach(stack, before + 2);
    d.xmit_says = -ENETDOWN;
    before = d.xmits;
    say(stack);
    xmits_reach(stack, before + 1);
    d.xmit_says = 0;
    before = d.xmits;
    EQ(say(stack), 5);
    xmits_reach(stack, before + 1);
    turn(stack);
    free_and_close(stack);
    close(host_fd);

    /* An invalid return value breaks the device, not the stack. */
    for (int i = 0; i < 2; i++) {
        stack = with_kind(&ops);
        reset();
        OK(usk_device_add(stack, add));
        if (i == 0)
            d.xmit_says = 77;
        else
            d.recv_says = -123456, d.flood = 1;
        say(stack);
        d.xmit_says = d.recv_says = 0;
        before = d.xmits;
        say(stack);
        EQ(d.xmits, before);
        turn(stack);
        free_and_close(stack);
    }
}

/* The link goes down: a descriptor that has failed brings its device down, no thread polls it any more, and the rest
 * goes on. */
static void link_down(void)
{
    int pipe_fd[2];
    usk_device_ops ops = mine();
    usk_stack_t *stack = with_kind(&ops);
    reset();
    CHECK(pipe2(pipe_fd, O_NONBLOCK | O_CLOEXEC) == 0);
    d.fd = pipe_fd[0];
    d.recv_says = -EIO;
    OK(usk_device_add(stack, "device=mine:x,addr=10.8.0.1/24"));
    EQ(say(stack), 5);
    CHECK(close(pipe_fd[1]) == 0);
    struct pollfd none = { .fd = -1 };
    while (say(stack) == 5)
        OK(usk_poll(&none, 1, 1));
    EQ(errno, ENETDOWN);
    int before = d.xmits;
    ERR(say(stack), ENETDOWN);
    EQ(d.xmits, before);
    turn(stack);
    free_and_close(stack);
    close(pipe_fd[0]);
}

static void *rx_from_elsewhere(void *unused)
{
    (void)unused;
    EQ(usk_device_rx(d.sink, usk_skb_new()), -EINVAL);
    return NULL;
}

/* A sink is recv's, while it runs, on its thread: anywhere else it is refused. */
static void sinks(void)
{
    usk_device_ops ops = mine();
    ops.poll_fd = NULL; /* all in this thread: what is sent is received before the call returns */
    usk_stack_t *stack = with_kind(&ops);
    reset();
    OK(usk_device_add(stack, "device=mine:x,addr=10.8.0.1/24"));
    d.echo_back = 1;
    EQ(say(stack), 5);
    CHECK(d.sink != NULL);
    d.echo_back = 0;
    EQ(usk_device_rx(d.sink, usk_skb_new()), -EINVAL);
    EQ(usk_device_rx(NULL, usk_skb_new()), -EINVAL);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, rx_from_elsewhere, NULL) == 0 && pthread_join(thread, NULL) == 0);
    d.rx_in_xmit = 1;
    int before = d.xmits;
    EQ(say(stack), 5);
    EQ(d.refused, d.xmits - before);
    /* A packet that the stack answers while recv hands it over: an echo request to us. */
    static const unsigned char ping[] = { 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x66, 0xcf, 10, 8, 0, 2, 10, 8, 0, 1,
                                          8,    0, 0xf7, 0xff, 0, 0, 0, 0 };
    d.kept = usk_skb_new();
    EQ(usk_skb_append(d.kept, ping, sizeof ping), 0);
    before = d.xmits, d.refused = 0;
    EQ(say(stack), 5);
    EQ(d.xmits, before + 2);
    EQ(d.refused, 2);
    d.rx_in_xmit = 0;
    turn(stack);
    usk_stack_free(stack);
}

/* Packets that are too short for a header, or longer than the MTU, are dropped; the device goes on. */
static void lengths(void)
{
    static const struct {
        const char *config;
        int link, mtu;
        struct length l[8];
    } t[] = {
        { "device=mine:x", USK_LINK_IP, 68, { { 1, 0 }, { 19, 0 }, { 20, 0 }, { 68, 0 }, { 69, -ENOBUFS } } },
        { "device=mine:x", USK_LINK_IP, 65535, { { 65535, 0 }, { 65536, -ENOBUFS } } },
        { "device=mine:x,mac=02:00:00:00:00:09", USK_LINK_ETHERNET, 1500,
          { { 1, -ENOBUFS }, { 13, -ENOBUFS }, { 14, 0 }, { 15, 0 }, { 1514, 0 }, { 1515, -ENOBUFS } } },
        { "device=mine:x,mac=02:00:00:00:00:09", USK_LINK_ETHERNET, 65535, { { 65549, 0 }, { 65550, -ENOBUFS } } },
    };
    usk_device_ops ops = mine();
    ops.poll_fd = NULL;
    for (int i = 0; i < COUNT(t); i++) {
        char config[128];
        usk_stack_t *stack = with_kind(&ops);
        reset();
        d.link = t[i].link, d.mtu = t[i].mtu;
        snprintf(config, sizeof config, "%s,addr=10.8.0.1/24", t[i].config);
        OK(usk_device_add(stack, config));
        d.lengths = t[i].l;
        say(stack);
        CHECK(d.lengths == NULL);
        turn(stack);
        usk_stack_free(stack);
    }
}

static void refused(const char *want, int err, usk_device_ops ops)
{
    usk_stack_t *stack = usk_stack_new("");
    trying = &ops;
    refused_with(usk_plugin_attach(stack, "device", init_plugin), err, want);
    usk_stack_free(stack);
}

static int open_refuses(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    (void)args, (void)info, (void)device;
    return usk_device_refuse("no such radio:\n\tthere are\n1 and 2\n");
}

static void hostile_tables(void)
{
    usk_device_ops ops;
#define REFUSED(want, err, ...) (ops = mine(), __VA_ARGS__, refused(want, err, ops))
    REFUSED("version 9", EINVAL, ops.version = 9);
    REFUSED("size 12", EINVAL, ops.size = 12);
    REFUSED("name is null", EINVAL, ops.name = NULL);
    REFUSED("1 to 15 printable", EINVAL, ops.name = "a:b");
    REFUSED("1 to 15 printable", EINVAL, ops.name = "sixteen_letters_");
    REFUSED("open is null", EINVAL, ops.open = NULL);
    REFUSED("recv is null", EINVAL, ops.recv = NULL);
    REFUSED("xmit is null", EINVAL, ops.xmit = NULL);
    ops = mine();
    usk_stack_t *stack = with_kind(&ops);
    CHECK(usk_plugin_attach(stack, "device", init_plugin) == NULL);
    EQ(errno, EEXIST);
    usk_stack_free(stack);
    /* What open says is a line, whatever it says. */
    ops = mine();
    ops.open = open_refuses;
    stack = with_kind(&ops);
    ERR(usk_device_add(stack, "device=mine:x,addr=10.8.0.1/24"), EINVAL);
    refused_with(NULL, EINVAL, "device=mine:x: no such radio:  there are 1 and 2");
    usk_stack_free(stack);
}

int main(int argc, char **argv)
{
    begin("device");
    CHECK(argc == 2);
    udp_device(argv[1]);
    hostile_devices();
    link_down();
    sinks();
    lengths();
    hostile_tables();
    return done();
}

/* @name@: a kind of device, `device=@name@:OWN:PEER`, which carries IP packets between two stacks of this machine, in
 * one process or two: OWN is the file of this end's socket (AF_UNIX, datagrams), PEER that of the other end's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <usersock/device.h>

enum { MAX_MTU = 65535 };

struct @name@ {
    int fd;
    struct sockaddr_un own, peer;
    usk_reg_t *reg;
};

enum { NO_PEER };
static const char *const counters[] = {
    "@Name@NoPeer", /* packets dropped: nobody is at the other end, or it is slow */
    NULL,
};

static int name_of(struct sockaddr_un *to, const char *text, size_t len)
{
    *to = (struct sockaddr_un) { .sun_family = AF_UNIX };
    if (len == 0 || len >= sizeof to->sun_path)
        return 0;
    memcpy(to->sun_path, text, len);
    return 1;
}

static int @name@_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    const char *colon = strchr(args->argument, ':');
    struct @name@ *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->reg = args->reg;
    if (!colon || !name_of(&d->own, args->argument, (size_t)(colon - args->argument)) ||
        !name_of(&d->peer, colon + 1, strlen(colon + 1))) {
        free(d);
        return usk_device_refuse("not OWN:PEER, two files of sockets");
    }
    d->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(d->own.sun_path); /* left by a process that was killed */
    if (d->fd < 0 || bind(d->fd, (struct sockaddr *)&d->own, sizeof d->own) < 0) {
        int r = -errno;
        if (d->fd >= 0)
            close(d->fd);
        free(d);
        return r;
    }
    info->mtu = args->mtu ? args->mtu : 1500;
    *device = d;
    return 0;
}

static void @name@_close(void *device)
{
    struct @name@ *d = device;
    close(d->fd);
    unlink(d->own.sun_path);
    free(d);
}

static int @name@_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    struct @name@ *d = device;
    char buf[MAX_MTU];
    (void)queue, (void)now;
    for (size_t n = 0; n < budget; n++) {
        ssize_t len = recv(d->fd, buf, sizeof buf, 0);
        if (len < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        usk_skb_t *skb = usk_skb_new();
        if (!skb)
            return -ENOMEM;
        usk_skb_append(skb, buf, (size_t)len);
        usk_device_rx(sink, skb); /* takes the packet */
    }
    return 0;
}

/* The packet stays the stack's. */
static int @name@_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    struct @name@ *d = device;
    char buf[MAX_MTU];
    (void)queue, (void)now;
    ptrdiff_t len = usk_skb_copy(skb, 0, buf, sizeof buf);
    if (len < 0)
        return (int)len;
    if (sendto(d->fd, buf, (size_t)len, MSG_NOSIGNAL, (struct sockaddr *)&d->peer, sizeof d->peer) >= 0)
        return 0;
    usk_count(d->reg, NO_PEER, 1);
    return errno == EAGAIN ? -ENOBUFS : -errno;
}

/* A thread that waits for a packet waits here. */
static int @name@_poll_fd(void *device, uint32_t queue)
{
    (void)queue;
    return ((struct @name@ *)device)->fd;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_device_ops ops = {
        .version = USK_DEVICE_VERSION,
        .size = sizeof ops,
        .name = "@name@",
        .mib_names = counters,
        .open = @name@_open,
        .close = @name@_close,
        .recv = @name@_recv,
        .xmit = @name@_xmit,
        .poll_fd = @name@_poll_fd,
    };
    return usk_device_register(plugin, &ops, NULL, NULL);
}

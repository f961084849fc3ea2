/* UDPDEV: a device that carries IP packets over a UDP socket of the host, one datagram a packet: a tunnel between two
 * stacks in two processes, or on two machines, without any privilege.
 *
 *   device=udp:LOCAL/REMOTE     such as device=udp:127.0.0.1:7001/127.0.0.1:7002, addresses of IPv4
 *
 * Only datagrams from REMOTE are accepted. The MTU is 1472, the UDP payload of an Ethernet frame; mtu= sets another.
 * / */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <usersock/device.h>

struct udpdev {
    int fd;
    uint32_t mtu;
    usk_reg_t *reg;
};

enum { REFUSED, TOO_LONG };
static const char *const counters[] = {
    "UdpdevRefused", /* ICMP errors for sent datagrams: REMOTE has no socket */
    "UdpdevTooLong", /* packets longer than the MTU */
    NULL,
};

enum { DEFAULT_MTU = 1472, MAX_DATAGRAM = 65507 };

/* ADDRESS:PORT; false when it is not. */
static int parse(const char *text, size_t len, struct sockaddr_in *to)
{
    char buf[64], *colon, *end;
    if (len >= sizeof buf)
        return 0;
    memcpy(buf, text, len);
    buf[len] = 0;
    colon = strchr(buf, ':');
    if (!colon)
        return 0;
    *colon = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    *to = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    return inet_pton(AF_INET, buf, &to->sin_addr) == 1 && end != colon + 1 && *end == 0 && port >= 1 && port <= 65535;
}

static int udpdev_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    struct sockaddr_in local, remote;
    const char *slash = strchr(args->argument, '/');
    if (!slash || !parse(args->argument, (size_t)(slash - args->argument), &local) ||
        !parse(slash + 1, strlen(slash + 1), &remote))
        return usk_device_refuse("not LOCAL:PORT/REMOTE:PORT of IPv4");
    if (args->mtu > MAX_DATAGRAM)
        return usk_device_refuse("an MTU beyond 65507 does not fit in a datagram");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0 ||
        connect(fd, (struct sockaddr *)&remote, sizeof remote) < 0) {
        int r = -errno;
        close(fd);
        return r;
    }
    /* Large enough for bursts of a window. If the host refuses, that is no error. */
    int size = 4 << 20;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct udpdev *u = malloc(sizeof *u);
    if (!u) {
        close(fd);
        return -ENOMEM;
    }
    u->fd = fd;
    u->reg = args->reg;
    u->mtu = args->mtu ? args->mtu : DEFAULT_MTU;
    info->mtu = u->mtu;
    *device = u;
    return 0;
}

static void udpdev_close(void *device)
{
    struct udpdev *u = device;
    close(u->fd);
    free(u);
}

/* One thread at a time receives from a queue, and there is one queue: the buffer could be the device's. */
static int udpdev_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    struct udpdev *u = device;
    char buf[MAX_DATAGRAM];
    (void)queue, (void)now;
    for (size_t n = 0; n < budget; n++) {
        ssize_t len = recv(u->fd, buf, sizeof buf, 0);
        if (len < 0) {
            /* ECONNREFUSED: an ICMP error for an earlier datagram. */
            if (errno == ECONNREFUSED)
                usk_count(u->reg, REFUSED, 1);
            if (errno == EINTR || errno == ECONNREFUSED)
                continue;
            return errno == EAGAIN ? 0 : -errno;
        }
        usk_skb_t *skb = usk_skb_new();
        if (!skb)
            return -ENOMEM;
        usk_skb_append(skb, buf, (size_t)len);
        usk_device_rx(sink, skb);
    }
    return 0;
}

static int udpdev_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    struct udpdev *u = device;
    char buf[MAX_DATAGRAM];
    (void)queue, (void)now;
    size_t len = usk_skb_len(skb);
    if (len > u->mtu) {
        usk_count(u->reg, TOO_LONG, 1);
        return -EMSGSIZE;
    }
    usk_skb_copy(skb, 0, buf, len);
    for (int tries = 0; send(u->fd, buf, len, MSG_NOSIGNAL) < 0; tries++) {
        int e = errno;
        if (e == ECONNREFUSED)
            usk_count(u->reg, REFUSED, 1);
        if ((e != EINTR && e != ECONNREFUSED) || tries == 3)
            return -e;
    }
    return 0;
}

static int udpdev_poll_fd(void *device, uint32_t queue)
{
    (void)queue;
    return ((struct udpdev *)device)->fd;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_device_ops ops = {
        .version = USK_DEVICE_VERSION,
        .size = sizeof ops,
        .name = "udp",
        .mib_names = counters,
        .open = udpdev_open,
        .close = udpdev_close,
        .recv = udpdev_recv,
        .xmit = udpdev_xmit,
        .poll_fd = udpdev_poll_fd,
    };
    return usk_device_register(plugin, &ops, NULL, NULL);
}

/* A wire between two stacks of one process, as a kind of device: device=wire:0 is one end, device=wire:1 the other.
 * What passes can be looked at, changed and lost. Include after common.h. */
#ifndef USERSOCK_PLUGIN_CASES_WIRE_H
#define USERSOCK_PLUGIN_CASES_WIRE_H
#include <sys/eventfd.h>
#include <usersock/device.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t closed;
    uint32_t link;
    /* Sees each packet that end `from` sends, under the lock, and may change it; false: it is lost. */
    bool (*tap)(int from, unsigned char *packet, size_t len);
    struct wire_end {
        int fd;
        usk_queue_t *in;
    } end[2];
} wire = { .lock = PTHREAD_MUTEX_INITIALIZER, .closed = PTHREAD_COND_INITIALIZER };

static int wire_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    if (strcmp(args->argument, "0") != 0 && strcmp(args->argument, "1") != 0)
        return usk_device_refuse("an end is 0 or 1");
    int n = args->argument[0] - '0';
    struct wire_end *e = &wire.end[n];
    static const unsigned char mac[6] = { 2, 0, 0, 0, 0, 1 };
    info->link = wire.link;
    if (wire.link == USK_LINK_ETHERNET && !args->has_mac) {
        memcpy(info->mac, mac, sizeof mac);
        info->mac[5] += (unsigned char)n;
    }
    pthread_mutex_lock(&wire.lock);
    /* A stack that was freed ends when its own thread lets go of it: only then is the end closed. */
    while (e->in)
        pthread_cond_wait(&wire.closed, &wire.lock);
    e->in = usk_queue_new();
    e->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_unlock(&wire.lock);
    CHECK(e->in != NULL && e->fd >= 0);
    *device = e;
    return 0;
}

static void wire_close(void *device)
{
    struct wire_end *e = device;
    pthread_mutex_lock(&wire.lock);
    usk_queue_free(e->in);
    e->in = NULL;
    close(e->fd);
    pthread_cond_broadcast(&wire.closed);
    pthread_mutex_unlock(&wire.lock);
}

/* Frees the two stacks, and waits until both ends are closed: then nothing passes any more, and what `tap` has counted
 * stands. */
static UNUSED void wire_end_stacks(usk_stack_t *a, usk_stack_t *b)
{
    usk_stack_free(a);
    usk_stack_free(b);
    pthread_mutex_lock(&wire.lock);
    while (wire.end[0].in || wire.end[1].in)
        pthread_cond_wait(&wire.closed, &wire.lock);
    pthread_mutex_unlock(&wire.lock);
}

static int wire_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    unsigned char packet[65535 + 14];
    (void)queue, (void)now;
    int from = (int)((struct wire_end *)device - wire.end);
    struct wire_end *to = &wire.end[!from];
    size_t len = usk_skb_len(skb);
    if (len > sizeof packet)
        return -EMSGSIZE;
    EQ(usk_skb_copy(skb, 0, packet, sizeof packet), (long long)len);
    pthread_mutex_lock(&wire.lock);
    /* The tap first: what is sent before the other end is open, such as a first MLD report, is sent all the same. */
    bool passes = !wire.tap || wire.tap(from, packet, len);
    if (passes && to->in) {
        usk_skb_t *copy = usk_skb_new();
        uint64_t one = 1;
        EQ(usk_skb_append(copy, packet, len), 0);
        EQ(usk_queue_push(to->in, copy), 0);
        EQ(write(to->fd, &one, sizeof one), sizeof one);
    }
    pthread_mutex_unlock(&wire.lock);
    return 0;
}

static int wire_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    struct wire_end *e = device;
    uint64_t n;
    (void)queue, (void)now;
    pthread_mutex_lock(&wire.lock);
    for (usk_skb_t *skb; budget > 0 && (skb = usk_queue_pop(e->in)); budget--) {
        /* The stack may answer at once, and send through here. */
        pthread_mutex_unlock(&wire.lock);
        EQ(usk_device_rx(sink, skb), 0);
        pthread_mutex_lock(&wire.lock);
    }
    if (usk_queue_len(e->in) == 0)
        CHECK(read(e->fd, &n, sizeof n) == sizeof n || errno == EAGAIN);
    pthread_mutex_unlock(&wire.lock);
    return 0;
}

static int wire_poll_fd(void *device, uint32_t queue)
{
    (void)queue;
    return ((struct wire_end *)device)->fd;
}

static UNUSED usk_device_ops wire_kind(void)
{
    usk_device_ops t = {
        .version = USK_DEVICE_VERSION,
        .size = sizeof t,
        .name = "wire",
        .open = wire_open,
        .close = wire_close,
        .recv = wire_recv,
        .xmit = wire_xmit,
        .poll_fd = wire_poll_fd,
    };
    return t;
}
#endif

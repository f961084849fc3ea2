/* A protocol that sends while epoll_wait(2) or poll(2) looks at its socket, as what was in a backlog may make it do:
 * when the call has returned, the packets have arrived, though its thread makes no other. */
#include "common.h"

enum { NUMBER = 254 };

static usk_stack_t *stack;
static int sends;

static uint32_t look(usk_owned_t *o)
{
    usk_addr_t to = { .family = AF_INET, .addr = { 127, 0, 0, 1 } };
    if (sends) {
        usk_skb_t *skb = usk_skb_new();
        EQ(usk_skb_append(skb, "x", 1), 0);
        EQ(usk_xmit(o, skb, &to), 0);
    }
    return 0;
}
static ssize_t no_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return -EOPNOTSUPP;
}
static ssize_t no_receive(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return -EAGAIN;
}
static int init_plugin(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "LOOKED",
        .socket_type = SOCK_DGRAM,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .sendmsg_locked = no_send,
        .recvmsg_locked = no_receive,
        .poll_locked = look,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

/* Reads what has come, in a thread whose calls receive its own packets only; returns how many there were. */
static void *read_all(void *raw)
{
    char room[64];
    long n = 0;
    while (usk_recv(*(int *)raw, room, sizeof room, MSG_DONTWAIT) > 0)
        n++;
    EQ(errno, EAGAIN);
    return (void *)n;
}
static long arrived(int raw)
{
    pthread_t thread;
    void *n;
    EQ(pthread_create(&thread, NULL, read_all, &raw), 0);
    EQ(pthread_join(thread, &n), 0);
    return (long)n;
}

int main(void)
{
    begin("poll_sends");
    stack = usk_stack_new("");
    if (!stack || !usk_plugin_attach(stack, "looked", init_plugin))
        complain(__FILE__, __LINE__, "usk_config_error()", usk_config_error(), "none");
    int raw = (int)OK(usk_socket_on(stack, AF_INET, SOCK_RAW, NUMBER));
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, NUMBER));
    int set = (int)OK(usk_epoll_create1(0));
    struct epoll_event event = { .events = EPOLLIN };
    OK(usk_epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    struct pollfd one = { .fd = fd, .events = POLLIN };
    sends = 1;
    EQ(usk_poll(&one, 1, 0), 0);
    CHECK(arrived(raw) >= 1);
    /* With a time to wait it looks before it sleeps, and after. */
    EQ(usk_poll(&one, 1, 1), 0);
    CHECK(arrived(raw) >= 2);
    sends = 0;
    EQ(usk_poll(&one, 1, 0), 0);
    EQ(arrived(raw), 0);
    /* An entry is looked at when it is added or changed. */
    sends = 1;
    OK(usk_epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
    EQ(usk_epoll_wait(set, &event, 1, 0), 0);
    CHECK(arrived(raw) >= 1);
    sends = 0;
    OK(usk_close(set));
    OK(usk_close(fd));
    OK(usk_close(raw));
    usk_stack_free(stack);
    return done();
}

/* Panics of a plug-in in Rust that is a shared object of its own (plugins/fragile.rs): in each kind of context a panic
 * breaks its socket, but not the protocol's other sockets, TCP or unloading. ARGV[1] is the folder of the built
 * plug-ins. */
#include "../cases/common.h"
#include <usersock/core.h>

enum { FRAGILE = 254, PANIC_IN = 1 };
/* Where to panic: fragile.rs says more. */
enum {
    NOWHERE, SETSOCKOPT, SENDMSG, SENDMSG_LOCKED, SENDMSG_PACKET, RECVMSG, POLL, IOCTL, GETSOCKOPT, GET_PORT, CONNECT,
    SHUTDOWN,
    BACKLOG_RCV, TIMER, DEFERRED, CLOSE, CLOSE_LOCKED, DESTROY, FAREWELL, RCV, INIT,
};

static usk_stack_t *stack;
/* Two sockets that are to work all the time. */
static int good[2];

static int fragile_socket(void)
{
    return (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, FRAGILE));
}

static int fragile_bound(void)
{
    struct addr any = at("127.0.0.1", 0);
    int fd = fragile_socket();
    OK(usk_bind(fd, &any.sa, any.len));
    return fd;
}

static int panic_in(int fd, int place)
{
    return set_int(fd, FRAGILE, PANIC_IN, place);
}

static void say_to(int fd)
{
    struct addr to = sock_name(fd);
    EQ(usk_sendto(good[0], "hello", 5, 0, &to.sa, to.len), 5);
}

static void all_others_work(void)
{
    char buf[16];
    struct addr from;
    from.len = sizeof from.storage;
    say_to(good[1]);
    EQ(usk_recvfrom(good[1], buf, sizeof buf, 0, &from.sa, &from.len), 5);
    CHECK(same_addr(from, sock_name(good[0])) && memcmp(buf, "hello", 5) == 0);

    struct addr a = at("127.0.0.1", 7);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0)),
        c = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 1));
    OK(usk_connect(c, &a.sa, a.len));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    send_all(c, "whole", 5);
    EXPECT(s, "whole");
    OK(usk_close(c));
    OK(usk_close(s));
    OK(usk_close(l));
}

static void ends_broken(int fd)
{
    char buf[8];
    struct addr to = sock_name(good[1]);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    EQ(usk_poll(&p, 1, -1), 1);
    EQ(p.revents, POLLIN | POLLERR | POLLHUP);
    ERR(usk_recv(fd, buf, sizeof buf, 0), EIO);
    ERR(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), EIO);
    ERR(usk_connect(fd, &to.sa, to.len), EIO);
    ERR(panic_in(fd, NOWHERE), EIO);
    all_others_work();
    OK(usk_close(fd));
    all_others_work();
}

static void in_system_calls(void)
{
    char buf[16];
    int value = 0;
    socklen_t len = sizeof value;
    struct addr to = sock_name(good[1]), any = at("127.0.0.1", 0);

    int fd = fragile_bound();
    ERR(panic_in(fd, SETSOCKOPT), EIO);
    EQ(so_error(fd), EIO);
    EQ(so_error(fd), 0);
    ends_broken(fd); /* all the same */

    /* Before the sock is locked, while it is, and with a packet in hand: only the stack can release the lock then. */
    for (int place = SENDMSG; place <= SENDMSG_PACKET; place++) {
        fd = fragile_bound();
        OK(panic_in(fd, place));
        ERR(usk_sendto(fd, "hello", 5, 0, &to.sa, to.len), EIO);
        ends_broken(fd);
    }
    ERR(usk_recv(good[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);

    fd = fragile_bound();
    OK(panic_in(fd, RECVMSG));
    say_to(fd);
    ERR(usk_recv(fd, buf, sizeof buf, 0), EIO);
    ends_broken(fd);

    fd = fragile_bound();
    OK(panic_in(fd, POLL));
    ends_broken(fd);

    fd = fragile_bound();
    OK(panic_in(fd, IOCTL));
    ERR(usk_ioctl(fd, SIOCOUTQ, &value), EIO);
    ends_broken(fd);

    fd = fragile_bound();
    OK(panic_in(fd, GETSOCKOPT));
    ERR(usk_getsockopt(fd, FRAGILE, PANIC_IN, &value, &len), EIO);
    EQ(value, 0);
    ends_broken(fd);

    fd = fragile_socket();
    OK(panic_in(fd, GET_PORT));
    ERR(usk_bind(fd, &any.sa, any.len), EIO);
    ends_broken(fd);

    fd = fragile_bound();
    OK(panic_in(fd, CONNECT));
    ERR(usk_connect(fd, &to.sa, to.len), EIO);
    ends_broken(fd);

    fd = fragile_bound();
    OK(usk_connect(fd, &to.sa, to.len));
    OK(panic_in(fd, SHUTDOWN));
    OK(usk_shutdown(fd, SHUT_WR)); /* has no answer of the protocol's */
    ends_broken(fd);

    OK(panic_in(good[0], INIT));
    ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, FRAGILE), EIO);
    all_others_work();
}

static void *read_until_broken(void *fd)
{
    char buf[8];
    ERR(usk_recv(*(int *)fd, buf, sizeof buf, 0), EIO);
    return NULL;
}

/* Two readers learn of it, whether they sleep by then or not. */
static void in_packets_and_timers(void)
{
    static const int places[] = { BACKLOG_RCV, TIMER, DEFERRED };
    char buf[8];
    for (int i = 0; i < COUNT(places); i++) {
        int fd = fragile_bound();
        pthread_t readers[2];
        for (int r = 0; r < COUNT(readers); r++)
            readers[r] = spawn(read_until_broken, &fd);
        OK(panic_in(fd, places[i]));
        if (places[i] == BACKLOG_RCV)
            say_to(fd);
        for (int r = 0; r < COUNT(readers); r++)
            join(readers[r]);
        /* Its port is its own until it is closed, and packets for it are dropped. */
        say_to(fd);
        ends_broken(fd);
    }
    /* A packet that has found no socket yet is lost, and that is all. */
    OK(panic_in(good[0], RCV));
    say_to(good[1]);
    ERR(usk_recv(good[1], buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
    all_others_work();
}

/* The end panics: the socket is gone, its port free. */
static void in_the_end(void)
{
    for (int place = CLOSE; place <= FAREWELL; place++) {
        int fd = fragile_bound(), next = fragile_socket();
        struct addr a = sock_name(fd);
        OK(panic_in(fd, place));
        OK(usk_close(fd));
        all_others_work();
        /* The farewell is a timer's. */
        while (usk_bind(next, &a.sa, a.len) != 0) {
            struct pollfd p = { .fd = next, .events = POLLPRI };
            EQ(errno, EADDRINUSE);
            CHECK(place == FAREWELL);
            EQ(usk_poll(&p, 1, 1), 0);
        }
        OK(usk_close(next));
    }
}

int main(int argc, char **argv)
{
    begin("fragile");
    CHECK(argc == 2);
    char path[512];
    snprintf(path, sizeof path, "%s/fragile.so", argv[1]);
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    /* The second time nothing is left of the first. */
    for (int i = 0; i < 2; i++) {
        usk_plugin_t *plugin = usk_plugin_load(stack, path);
        if (!plugin)
            printf("%s\n", usk_config_error());
        CHECK(plugin != NULL);
        good[0] = fragile_bound();
        good[1] = fragile_bound();
        all_others_work();
        in_system_calls();
        in_packets_and_timers();
        in_the_end();
        OK(usk_close(good[0]));
        OK(usk_close(good[1]));
        OK(usk_plugin_unload(plugin));
        ERR(usk_socket_on(stack, AF_INET, SOCK_DGRAM, FRAGILE), EPROTONOSUPPORT);
    }
    usk_stack_free(stack);
    return done();
}

/* Packets under watch: each misuse of a packet ends the process, with a line that names the call and what the packet
 * had gone with; under AddressSanitizer so does touching its memory. Each scene is a process of its own. ARGV[1] is the
 * folder of the built plug-ins; a second argument is a scene. */
#include "common.h"
#include "wire.h"
#include <spawn.h>
#include <sys/wait.h>

enum { NUMBER = 254 };

static usk_stack_t *stack;
static int (*in_sock)(usk_owned_t *o);
static usk_skb_t *kept;

/* ---- scenes without a sock ---- */

static void freed_twice(void)
{
    usk_skb_t *skb = usk_skb_new();
    usk_skb_free(skb);
    usk_skb_free(skb);
}
static void used_after_free(void)
{
    usk_skb_t *skb = usk_skb_new();
    usk_skb_free(skb);
    usk_skb_len(skb);
}
/* A packet freed twice would be the memory of two new ones; a freed one is none of the next ones. */
static void not_reused(void)
{
    usk_skb_t *old = usk_skb_new();
    usk_skb_free(old);
    for (int i = 0; i < 100; i++) {
        usk_skb_t *new = usk_skb_new();
        CHECK(new != old);
        usk_skb_free(new);
    }
    usk_skb_cb(old);
}
static void used_after_queued(void)
{
    usk_skb_t *skb = usk_skb_new();
    usk_queue_t *q = usk_queue_new();
    usk_queue_push(q, skb);
    usk_skb_append(skb, "x", 1);
}
static void lent_is_freed(void)
{
    usk_queue_t *q = usk_queue_new();
    usk_queue_push(q, usk_skb_new());
    EQ(usk_skb_len(usk_queue_peek(q, 0)), 0); /* to look is allowed */
    usk_skb_free(usk_queue_peek(q, 0));
}
static void queue_is_freed(void)
{
    usk_queue_t *q = usk_queue_new();
    usk_queue_push(q, usk_skb_new());
    usk_skb_t *skb = usk_queue_peek(q, 0);
    usk_queue_free(q);
    usk_skb_trim(skb, 0);
}
static void no_packet(void)
{
    static long long none[200];
    usk_skb_share((usk_skb_t *)none);
}
static void written_after_free(void)
{
    usk_skb_t *skb = usk_skb_new();
    volatile char *cb = usk_skb_cb(skb);
    usk_skb_free(skb);
    cb[3] = 1;
    /* Without a sanitizer it is found when the memory is to be used again. */
    for (int i = 0; i < 5000; i++)
        usk_skb_free(usk_skb_new());
}

/* ---- scenes in an operation of a protocol ---- */

static int after_xmit(usk_owned_t *o)
{
    usk_addr_t to = { .family = AF_INET, .addr = { 10, 0, 0, 2 } };
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_append(skb, "x", 1), 0);
    EQ(usk_xmit(o, skb, &to), 0);
    return (int)usk_skb_truesize(skb);
}
static int after_receive(usk_owned_t *o)
{
    EQ(usk_receive_push(o, usk_skb_new()), 0);
    kept = usk_receive_peek(o);
    return 0;
}
static int after_done(usk_owned_t *o)
{
    after_receive(o);
    return 0;
}
static ssize_t receive(usk_owned_t *o, usk_recvmsg_t *msg)
{
    ssize_t r = usk_receive_msg(o, msg, 0);
    usk_skb_header(kept, 0);
    return r;
}
static ssize_t send_nothing(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return 0;
}
static int scene_in_sock(usk_sock_t *sk, int level, int name, const void *value, size_t len)
{
    usk_owned_t o;
    (void)level, (void)name, (void)value, (void)len;
    usk_lock_sock(sk, &o);
    int r = in_sock(&o);
    usk_release_sock(&o);
    return r;
}
static bool keep_lent(int from, unsigned char *packet, size_t len)
{
    (void)from, (void)packet, (void)len;
    return true;
}
static int xmit_keeps(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    (void)device, (void)queue, (void)now;
    kept = skb;
    return 0;
}
static int init_plugin(usk_plugin_t *plugin)
{
    usk_proto t = {
        .version = USK_PROTO_VERSION,
        .size = sizeof t,
        .name = "WATCHED",
        .socket_type = SOCK_DGRAM,
        .protocol = NUMBER,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .setsockopt = scene_in_sock,
        .sendmsg_locked = send_nothing,
        .recvmsg_locked = receive,
    };
    usk_device_ops d = wire_kind();
    d.name = "keeper";
    d.xmit = xmit_keeps;
    int r = usk_proto_register(plugin, &t, NULL, NULL);
    return r < 0 ? r : usk_device_register(plugin, &d, NULL, NULL);
}
static int sock_for(int (*scene)(usk_owned_t *o))
{
    wire.tap = keep_lent;
    in_sock = scene;
    stack = usk_stack_new("");
    CHECK(stack && usk_plugin_attach(stack, "watched", init_plugin));
    OK(usk_device_add(stack, "device=keeper:0,addr=10.0.0.1/24"));
    int fd = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, NUMBER));
    OK(set_int(fd, NUMBER, 1, 0));
    return fd;
}
static void used_after_xmit(void)
{
    sock_for(after_xmit);
}
static void used_after_receive(void)
{
    char b;
    usk_recv(sock_for(after_receive), &b, 1, 0);
}
static void used_after_done(void)
{
    OK(usk_close(sock_for(after_done)));
    usk_skb_len(kept);
}
static int send_one(usk_owned_t *o)
{
    usk_addr_t to = { .family = AF_INET, .addr = { 10, 0, 0, 2 } };
    return usk_xmit(o, usk_skb_new(), &to);
}
static void kept_by_a_device(void)
{
    sock_for(send_one);
    CHECK(kept != NULL);
    usk_skb_len(kept);
}

static const struct scene {
    const char *name;
    void (*run)(void);
    const char *call, *why;
} scenes[] = {
    { "freed_twice", freed_twice, "usk_skb_free: packet 0x", "it has gone with usk_skb_free" },
    { "used_after_free", used_after_free, "usk_skb_len: packet 0x", "it has gone with usk_skb_free" },
    { "not_reused", not_reused, "usk_skb_cb: ", "it has gone with usk_skb_free" },
    { "used_after_queued", used_after_queued, "usk_skb_append: ", "it has gone with usk_queue_" },
    { "lent_is_freed", lent_is_freed, "usk_skb_free: ", "it is only lent, by usk_queue_peek" },
    { "queue_is_freed", queue_is_freed, "usk_skb_trim: ", "it has gone with usk_queue_free" },
    { "no_packet", no_packet, "usk_skb_share: ", "there is no packet at this address" },
    { "used_after_xmit", used_after_xmit, "usk_skb_truesize: ", "it has gone with usk_xmit" },
    { "used_after_receive", used_after_receive, "usk_skb_header: ", "it has gone with usk_receive_msg" },
    { "used_after_done", used_after_done, "usk_skb_len: ", "it has gone with usk_done" },
    { "kept_by_a_device", kept_by_a_device, "usk_skb_len: ", "it has gone with the end of xmit" },
#ifdef __SANITIZE_ADDRESS__
    { "written_after_free", written_after_free, "AddressSanitizer: use-after-poison", "written_after_free" },
#else
    { "written_after_free", written_after_free, "a later call: ", "was written after it had been given up" },
#endif
};

extern char **environ;

/* Runs a scene in a process of its own, and gives what it wrote to stderr. */
static void ended_with(char *dir, const struct scene *s)
{
    static char said[1 << 16];
    int p[2], status;
    OK(pipe2(p, O_CLOEXEC));
    posix_spawn_file_actions_t to_pipe;
    posix_spawn_file_actions_init(&to_pipe);
    posix_spawn_file_actions_adddup2(&to_pipe, p[1], 2);
    char *argv[] = { "packets", dir, (char *)s->name, NULL };
    pid_t pid;
    EQ(posix_spawn(&pid, "/proc/self/exe", &to_pipe, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&to_pipe);
    close(p[1]);
    size_t len = 0;
    for (ssize_t n; (n = OK(read(p[0], said + len, sizeof said - 1 - len))) > 0;)
        len += (size_t)n;
    said[len] = 0;
    close(p[0]);
    EQ(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        complain(__FILE__, __LINE__, s->name, "the process went on", "its end");
    if (!strstr(said, s->call) || !strstr(said, s->why))
        complain(__FILE__, __LINE__, s->name, said, s->call);
}

int main(int argc, char **argv)
{
    setenv("USERSOCK_DEBUG", "skb", 1);
    begin("packets");
    for (int i = 0; i < COUNT(scenes); i++)
        if (argc == 3 && strcmp(argv[2], scenes[i].name) == 0) {
            struct rlimit none = { 0, 0 };
            setrlimit(RLIMIT_CORE, &none);
            scenes[i].run();
            return 0;
        }
    CHECK(argc == 2);
    for (int i = 0; i < COUNT(scenes); i++)
        ended_with(argv[1], &scenes[i]);
    return done();
}

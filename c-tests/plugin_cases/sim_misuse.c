/* Misuse of worlds in virtual time (usersock/sim.h): wrong settings and names, handles that have ended or are of
 * something else, worlds that are stepped, threads that wait for ever, fork(2). ARGV[1] is the folder of the built
 * plug-ins. */
#include "../cases/common.h"
#include <sys/wait.h>
#include <usersock/core.h>
#include <usersock/sim.h>

#define MS 1000000ULL
#define S (1000 * MS)

static void null_with(const void *made, int error, const char *line)
{
    CHECK(made == NULL);
    EQ(errno, error);
    if (line && !strstr(usk_config_error(), line))
        complain(__FILE__, __LINE__, "usk_config_error()", usk_config_error(), line);
    CHECK(strchr(usk_config_error(), '\n') == NULL);
}

static void wrong_words(const char *plugins)
{
    usk_world_t *w = usk_world_new(1);
    usk_stack_t *a = usk_world_host(w, "a", NULL), *b = usk_world_host(w, "b", "sysctl.net.ipv4.tcp_sack=0");
    CHECK(a && b);
    char value[8];
    EQ(usk_sysctl_get(b, "net.ipv4.tcp_sack", value, sizeof value), 1);
    EQ(value[0], '0');
    null_with(usk_world_host(w, "a", NULL), EEXIST, "there is a host \"a\" already");
    null_with(usk_world_host(w, "c", "tun=tun0"), EINVAL, "a host of a simulation has no tun=");
    null_with(usk_world_host(w, "c", "control=/tmp/x"), EINVAL, "a host of a simulation has no tun=");
    null_with(usk_world_host(w, "c", "colour=red"), EINVAL, "not a known key");
    null_with(usk_world_host(w, "c", "plugin=/nothing.so"), ENOENT, "no such file");
    null_with(usk_world_host(w, NULL, NULL), EFAULT, NULL);
    /* What was refused has not taken the name. */
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/tiny.so", plugins);
    usk_stack_t *c = usk_world_host(w, "c", config);
    CHECK(c != NULL);

    static const struct {
        const char *settings;
        unsigned mtu, flags;
        const char *line;
    } bad[] = {
        { "rate=0mbit", 0, 0, "rate=0mbit: a rate as 100mbit" },
        { "rate=10", 0, 0, "a rate as 100mbit" },
        { "loss=101%", 0, 0, "a share as 1%" },
        { "loss=-1%", 0, 0, "a share as 1%" },
        { "delay=nan", 0, 0, "a time as 20ms" },
        { "colour=red", 0, 0, "known are delay" },
        { "delay=1ms", 67, 0, "not 68 to 65535" },
        { "delay=1ms", 65536, 0, "not 68 to 65535" },
        { "delay=1ms", 0, 8, "flags 0x8" },
        { "corrupt=1%", 0, USK_SIM_OFFLOAD, "corrupt= with USK_SIM_OFFLOAD" },
    };
    for (int i = 0; i < COUNT(bad); i++)
        null_with(usk_world_link(w, "a", "b", bad[i].settings, bad[i].mtu, bad[i].flags), EINVAL, bad[i].line);
    null_with(usk_world_link(w, "a", "z", NULL, 0, 0), ENOENT, "no host \"z\"");
    null_with(usk_world_link(w, "a", NULL, NULL, 0, 0), EFAULT, NULL);

    usk_link_t *l = usk_world_link(w, "a", "b", NULL, 9000, USK_SIM_ETHERNET | USK_SIM_OWN_QUEUE);
    CHECK(l != NULL);
    ERR(usk_link_set(l, "loss=200%"), EINVAL);
    ERR(usk_link_set(l, "seed=7"), EINVAL);
    CHECK(strstr(usk_config_error(), "seed of a link"));
    usk_link_t *fast = usk_world_link(w, "a", "b", NULL, 0, USK_SIM_OFFLOAD);
    ERR(usk_link_set(fast, "in.corrupt=1%"), EINVAL);
    usk_link_stats_t s;
    ERR(usk_link_stats(l, 2, &s, sizeof s), EINVAL);
    ERR(usk_link_stats(l, -1, &s, sizeof s), EINVAL);
    ERR(usk_link_stats(l, 0, NULL, sizeof s), EFAULT);
    /* An older and a newer program's struct. */
    struct {
        usk_link_stats_t known;
        uint64_t later;
    } newer = { .later = 7 };
    OK(usk_link_stats(l, 0, &newer.known, sizeof newer));
    EQ(newer.later, 0);
    s.sent_bytes = 77;
    OK(usk_link_stats(l, 0, &s, sizeof s.sent));
    EQ(s.sent_bytes, 77);
    struct addr addr = { .len = sizeof addr.storage };
    OK(usk_link_addr(l, 0, AF_INET6, 9, &addr.sa, &addr.len));
    CHECK(same_addr(addr, at("fd00:1::1", 9)));
    ERR(usk_link_addr(l, 0, AF_UNIX, 9, &addr.sa, &addr.len), EAFNOSUPPORT);
    ERR(usk_link_addr(l, 3, AF_INET, 9, &addr.sa, &addr.len), EINVAL);
    ERR(usk_link_addr(l, 0, AF_INET, 9, &addr.sa, NULL), EFAULT);
    ERR(usk_link_pcap_start(l, 0, "/nothing/here"), ENOENT);
    ERR(usk_link_pcap_start(l, 2, "/tmp/x"), EINVAL);
    null_with(usk_world_thread(w, 0, NULL, NULL), EFAULT, NULL);
    ERR(usk_world_run_until_true(w, NULL, NULL, 1), EFAULT);
    OK(usk_world_free(w));
    usk_stack_free(a);
    usk_stack_free(b);
    usk_stack_free(c);
}

static void *nothing(void *arg)
{
    return arg;
}

static void ended_handles(void)
{
    usk_world_t *w = usk_world_new(1), *other = usk_world_new(1);
    usk_stack_t *a = usk_world_host(w, "a", NULL);
    usk_link_t *l = usk_world_link(w, "a", "a", NULL, 0, 0);
    usk_thread_t *t = usk_world_thread(w, 0, nothing, NULL), *late = usk_world_thread(w, 5 * S, nothing, NULL);
    CHECK(w && other && a && l && t && late);
    OK(usk_thread_join(t, NULL));
    ERR(usk_thread_join(t, NULL), EBADF);
    /* Of another kind, and none at all. */
    ERR(usk_world_run_for((usk_world_t *)l, 1), EBADF);
    ERR(usk_link_set((usk_link_t *)w, NULL), EBADF);
    ERR(usk_thread_join((usk_thread_t *)w, NULL), EBADF);
    ERR(usk_world_now(NULL), EBADF);
    ERR(usk_world_free((usk_world_t *)a), EBADF);
    OK(usk_world_free(w));
    usk_link_stats_t s;
    struct addr addr = { .len = sizeof addr.storage };
    ERR(usk_world_free(w), EBADF);
    ERR(usk_world_now(w), EBADF);
    ERR(usk_world_run_until(w, 1), EBADF);
    ERR(usk_world_run_for(w, 1), EBADF);
    ERR(usk_world_run_until_idle(w, 1), EBADF);
    ERR(usk_world_run_until_true(w, NULL, NULL, 1), EBADF);
    null_with(usk_world_host(w, "b", NULL), EBADF, NULL);
    null_with(usk_world_link(w, "a", "a", NULL, 0, 0), EBADF, NULL);
    null_with(usk_world_thread(w, 0, nothing, NULL), EBADF, NULL);
    ERR(usk_thread_join(late, NULL), EBADF);
    ERR(usk_link_set(l, NULL), EBADF);
    ERR(usk_link_stats(l, 0, &s, sizeof s), EBADF);
    ERR(usk_link_addr(l, 0, AF_INET, 0, &addr.sa, &addr.len), EBADF);
    ERR(usk_link_pcap_start(l, 0, "/tmp/x"), EBADF);
    ERR(usk_link_pcap_stop(l, 0), EBADF);
    /* The next one has another handle. */
    usk_world_t *next = usk_world_new(1);
    CHECK(next != w && next != other);
    OK(usk_world_free(next));
    OK(usk_world_free(other));
    usk_stack_free(a);
}

static usk_world_t *stepped;

static int steps_again(void *arg)
{
    ERR(usk_world_run_for(stepped, 1), EBUSY);
    ERR(usk_world_run_until_idle(stepped, 1), EBUSY);
    ERR(usk_world_free(stepped), EBUSY);
    usk_thread_t **late = arg;
    ERR(usk_thread_join(*late, NULL), EBUSY);
    return 1;
}

static void *from_inside(void *arg)
{
    usk_thread_t **self = arg;
    ERR(usk_world_run_until_idle(stepped, 1), EDEADLK);
    ERR(usk_world_run_until_true(stepped, steps_again, NULL, 1), EDEADLK);
    ERR(usk_world_free(stepped), EDEADLK);
    ERR(usk_thread_join(*self, NULL), EDEADLK);
    OK(usk_world_run_for(stepped, 3 * S));
    EQ(usk_world_now(stepped), 3 * S);
    OK(usk_world_run_until(stepped, 1 * S));
    EQ(usk_world_now(stepped), 3 * S);
    return NULL;
}

static void stepping(void)
{
    stepped = usk_world_new(1);
    usk_thread_t *self, *late = usk_world_thread(stepped, 9 * S, nothing, NULL);
    self = usk_world_thread(stepped, 0, from_inside, &self);
    EQ(usk_world_run_until_true(stepped, steps_again, &late, 1 * S), 1);
    OK(usk_thread_join(self, NULL));
    EQ(usk_world_now(stepped), 3 * S);
    OK(usk_world_free(stepped));
}

static int waits_in, ended;

/* As servers are written: an interrupted call is repeated. */
static void *waits_for_ever(void *arg)
{
    int s = (int)OK(usk_socket_on(arg, AF_INET, SOCK_DGRAM, 0));
    struct addr any = at("0.0.0.0", 0);
    OK(usk_bind(s, &any.sa, any.len));
    char buf[8];
    long n;
    waits_in++;
    do
        n = usk_recv(s, buf, sizeof buf, 0);
    while (n == -1 && errno == EINTR);
    EQ(errno, ENETDOWN);
    struct pollfd p = { .fd = s, .events = POLLIN };
    int r;
    do
        r = usk_poll(&p, 1, -1);
    while (r == -1 && errno == EINTR);
    EQ(r, 1);
    EQ(p.revents, POLLERR | POLLHUP);
    OK(usk_close(s));
    ended++;
    return NULL;
}

/* The end of the world ends the other one first, by its number. */
static void *waits_for_another(void *arg)
{
    waits_in++;
    OK(usk_thread_join(arg, NULL));
    ERR(usk_world_run_for(stepped, 1), EBADF);
    ended++;
    return NULL;
}

static void *sleeping(void *arg)
{
    waits_in++;
    ERR(usk_world_run_for(stepped, 1000 * S), EINTR);
    ended++;
    return arg;
}

static void *waits_for_a_later_one(void *arg)
{
    waits_in++;
    usk_thread_t **other = arg;
    ERR(usk_thread_join(*other, NULL), EINTR);
    ended++;
    return NULL;
}

static void waiting(void)
{
    stepped = usk_world_new(1);
    usk_stack_t *a = usk_world_host(stepped, "a", NULL);
    usk_thread_t *ever;
    CHECK(usk_world_thread(stepped, 0, waits_for_a_later_one, &ever) != NULL);
    ever = usk_world_thread(stepped, 0, waits_for_ever, a);
    CHECK(usk_world_thread(stepped, 1, waits_for_another, ever) != NULL);
    usk_thread_t *sleeper = usk_world_thread(stepped, 2, nothing, NULL);
    OK(usk_thread_join(sleeper, NULL));
    ERR(usk_thread_join(ever, NULL), EDEADLK);
    EQ(usk_world_run_until_idle(stepped, 100 * S), 1);
    CHECK(usk_world_thread(stepped, 0, sleeping, NULL) != NULL);
    EQ(usk_world_run_until_idle(stepped, 100 * S), 0);
    EQ(waits_in, 4);
    EQ(ended, 0);
    int s = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    OK(usk_world_free(stepped));
    EQ(ended, 4);
    ERR(usk_listen(s, 1), ENETDOWN);
    OK(usk_close(s));
    usk_stack_free(a);
}

/* In a child of fork(2) no world exists. */
static void forked(void)
{
    usk_world_t *w = usk_world_new(1);
    usk_thread_t *t = usk_world_thread(w, 0, nothing, NULL);
    fflush(stdout);
    pid_t child = (pid_t)OK(fork());
    if (child == 0) {
        failures = 0;
        ERR(usk_world_now(w), EBADF);
        ERR(usk_thread_join(t, NULL), EBADF);
        ERR(usk_world_free(w), EBADF);
        usk_world_t *own = usk_world_new(1);
        usk_thread_t *mine = usk_world_thread(own, 1 * S, nothing, NULL);
        OK(usk_thread_join(mine, NULL));
        EQ(usk_world_now(own), 1 * S);
        OK(usk_world_free(own));
        fflush(stdout);
        _exit(failures != 0);
    }
    int status;
    EQ(waitpid(child, &status, 0), child);
    EQ(status, 0);
    OK(usk_thread_join(t, NULL));
    OK(usk_world_free(w));
}

int main(int argc, char **argv)
{
    begin("sim_misuse");
    CHECK(argc == 2);
    wrong_words(argv[1]);
    ended_handles();
    stepping();
    waiting();
    forked();
    return done();
}

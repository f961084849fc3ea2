/* fork(2) and plug-ins: in the child what was loaded belongs to the parent's stack, is not unloaded, its exit function
 * is not called, and it can be loaded into a stack of the child's own. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include <sys/wait.h>

enum { TINY = 254 };

static char path[512];
static usk_stack_t *stack;
static usk_plugin_t *plugin;
static int fd[2];

static bool is_loaded(void)
{
    return mapped("tiny.so") > 0;
}

static void make(void)
{
    stack = usk_stack_new("");
    CHECK(stack);
    plugin = usk_plugin_load(stack, path);
    CHECK(plugin);
    struct addr any = local(AF_INET), to;
    for (int i = 0; i < 2; i++) {
        fd[i] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, TINY));
        OK(usk_bind(fd[i], &any.sa, any.len));
    }
    for (int i = 0; i < 2; i++) {
        to = sock_name(fd[!i]);
        OK(usk_connect(fd[i], &to.sa, to.len));
    }
}

static void exchange(void)
{
    char b[8];
    EQ(usk_send(fd[0], "ping", 4, 0), 4);
    EQ(usk_recv(fd[1], b, sizeof b, 0), 4);
    EQ(usk_send(fd[1], "pong", 4, 0), 4);
    EQ(usk_recv(fd[0], b, sizeof b, 0), 4);
    CHECK(memcmp(b, "pong", 4) == 0);
}

static void end(void)
{
    close_pair(fd);
    unloaded(plugin);
    usk_stack_free(stack);
}

static void in_the_child(void)
{
    char b;
    alarm(120);
    ERR(usk_recv(fd[0], &b, 1, 0), ENETDOWN);
    ERR(usk_plugin_unload(plugin), ENETDOWN);
    CHECK(usk_plugin_load(stack, path) == NULL);
    EQ(errno, ENETDOWN);
    close_pair(fd);
    usk_stack_free(stack);
    CHECK(is_loaded());
    make();
    exchange();
    end();
    CHECK(is_loaded()); /* the parent's */
}

int main(int argc, char **argv)
{
    begin("fork");
    CHECK(argc == 2);
    snprintf(path, sizeof path, "%s/tiny.so", argv[1]);
    make();
    exchange();
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        in_the_child();
        fflush(stdout);
        _exit(failures ? 1 : 0);
    }
    exchange();
    int status = 0;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
    exchange();
    end();
    CHECK(!is_loaded());
    return done();
}

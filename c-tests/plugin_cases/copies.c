/* Which code runs, and how long: one shared object in two stacks, a file that is overwritten while it is loaded, loaded
 * anew, under two names, and by a process without descriptors to spare. ARGV[1] is the folder of the built plug-ins. */
#include "common.h"
#include <sys/wait.h>

enum { TINY = 254, AGES = 248 };

static char dir[] = "/tmp/usersock-copies-XXXXXX", source[512], file[64], other[64];

static usk_stack_t *new_stack(void)
{
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack);
    return stack;
}

static usk_plugin_t *load(usk_stack_t *stack, const char *path)
{
    usk_plugin_t *p = usk_plugin_load(stack, path);
    if (!p)
        complain(__FILE__, __LINE__, path, usk_config_error(), "loaded");
    CHECK(p);
    return p;
}

/* Copies a plug-in over `to`, in place as cp(1) does, with one string in it replaced by another of its length. */
static void copy(const char *from, const char *to, const char *old, const char *new)
{
    static char bytes[8 << 20];
    int in = (int)OK(open(from, O_RDONLY)), out = (int)OK(open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600));
    size_t len = 0;
    for (ssize_t n; (n = OK(read(in, bytes + len, sizeof bytes - len))) > 0;)
        len += (size_t)n;
    CHECK(len < sizeof bytes);
    int found = 0;
    for (char *p = bytes; old && (p = memmem(p, len - (size_t)(p - bytes), old, strlen(old))); found++)
        memcpy(p, new, strlen(new));
    CHECK(!old || found > 0);
    EQ(write(out, bytes, len), len);
    OK(close(in));
    OK(close(out));
}

static void tally(int fd, const char *want)
{
    char got[100] = "";
    CHECK(usk_recv(fd, got, sizeof got - 1, 0) > 0);
    if (strcmp(got, want) != 0)
        complain(__FILE__, __LINE__, "the tally", got, want);
}

/* Static data is shared, and ends with the last stack; a stack's own ends with it. */
static void two_stacks(void)
{
    usk_stack_t *a = new_stack(), *b = new_stack();
    usk_plugin_t *pa = load(a, file), *pb = load(b, other); /* a copy of the file by another name */
    EQ(mapped("ages.so"), 1);
    int fa = (int)OK(usk_socket_on(a, AF_INET, SOCK_DGRAM, AGES)),
        fb = (int)OK(usk_socket_on(b, AF_INET, SOCK_DGRAM, AGES));
    EQ(usk_send(fa, "12345", 5, 0), 5);
    EQ(usk_send(fb, "123", 3, 0), 3);
    tally(fa, "sock 5 stack 5 process 8");
    tally(fb, "sock 3 stack 3 process 8");
    OK(usk_close(fa));
    unloaded(pa);
    /* The exit function has not run: the other stack has the code still. */
    EQ(usk_send(fb, "1", 1, 0), 1);
    tally(fb, "sock 4 stack 4 process 9");
    pa = load(a, file);
    fa = (int)OK(usk_socket_on(a, AF_INET, SOCK_DGRAM, AGES));
    tally(fa, "sock 0 stack 0 process 9");
    OK(usk_close(fa));
    OK(usk_close(fb));
    unloaded(pb);
    unloaded(pa);
    EQ(mapped("ages.so"), 0);
    /* It begins anew; and this time ends with its stacks. */
    load(a, file);
    load(b, file);
    fb = (int)OK(usk_socket_on(b, AF_INET, SOCK_DGRAM, AGES));
    tally(fb, "sock 0 stack 0 process 0");
    usk_stack_free(a);
    tally(fb, "sock 0 stack 0 process 0");
    OK(usk_close(fb));
    usk_stack_free(b);
    EQ(mapped("ages.so"), 0);
}

static void exchange(usk_stack_t *stack)
{
    struct addr any = at("127.0.0.1", 0), to;
    int s = (int)OK(usk_socket_on(stack, AF_INET, SOCK_DGRAM, TINY));
    char c;
    OK(usk_bind(s, &any.sa, any.len));
    to = sock_name(s);
    EQ(usk_sendto(s, "x", 1, 0, &to.sa, to.len), 1);
    EQ(usk_recv(s, &c, 1, 0), 1);
    OK(usk_close(s));
}

/* A file that is overwritten changes nothing that runs; the next load is of what it is then. */
static void overwritten(const char *tiny)
{
    usk_stack_t *old = new_stack(), *new = new_stack();
    uint64_t n;
    copy(tiny, file, NULL, NULL);
    usk_plugin_t *p = load(old, file);
    exchange(old);
    copy(tiny, file, "TinyOut", "TonyOut");
    exchange(old);
    load(new, file);
    EQ(mapped("tiny2.so"), 2);
    exchange(new);
    OK(usk_mib_read(old, "TinyOutDatagrams", &n));
    EQ(n, 2);
    ERR(usk_mib_read(new, "TinyOutDatagrams", &n), ENOENT);
    OK(usk_mib_read(new, "TonyOutDatagrams", &n));
    EQ(n, 1);
    /* Truncated, and gone. */
    OK(truncate(file, 100));
    exchange(old);
    usk_stack_t *third = new_stack();
    refused_with(usk_plugin_load(third, file), EINVAL, file);
    OK(unlink(file));
    exchange(new);
    refused_with(usk_plugin_load(third, file), ENOENT, "no such file");
    /* In the stack that had the old one, the new one takes its place. */
    unloaded(p);
    EQ(mapped("tiny2.so"), 1);
    copy(tiny, file, "TinyOut", "TunyOut");
    load(old, file);
    exchange(old);
    OK(usk_mib_read(old, "TunyOutDatagrams", &n));
    usk_stack_free(third);
    usk_stack_free(old);
    usk_stack_free(new);
    EQ(mapped("tiny2.so"), 0);
}

/* A program that closes every descriptor, as daemons do, closes the copies' too: the code stays, and another file is
 * not taken for it. In a process of its own. */
static void without_descriptors(const char *tiny)
{
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        uint64_t n;
        usk_stack_t *old = new_stack(), *new = new_stack();
        copy(tiny, file, NULL, NULL);
        load(old, file);
        OK(syscall(SYS_close_range, 3, ~0u, 0));
        copy(tiny, file, "TinyOut", "TonyOut");
        load(new, file);
        OK(usk_mib_read(new, "TonyOutDatagrams", &n));
        OK(usk_mib_read(old, "TinyOutDatagrams", &n));
        EQ(mapped("tiny2.so"), 2);
        fflush(stdout);
        _exit(failures != 0);
    }
    int status;
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

int main(int argc, char **argv)
{
    begin("copies");
    CHECK(argc == 2);
    CHECK(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/ages.so", dir);
    snprintf(other, sizeof other, "%s/other.so", dir);
    snprintf(source, sizeof source, "%s/ages.so", argv[1]);
    copy(source, file, NULL, NULL);
    copy(source, other, NULL, NULL);
    two_stacks();
    OK(unlink(file));
    OK(unlink(other));
    snprintf(file, sizeof file, "%s/tiny2.so", dir);
    snprintf(source, sizeof source, "%s/tiny.so", argv[1]);
    overwritten(source);
    without_descriptors(source);
    OK(unlink(file));
    OK(rmdir(dir));
    return done();
}

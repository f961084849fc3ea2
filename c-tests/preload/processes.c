/* What a process does with descriptors and children, under the preload shim; it knows nothing of usersock. The first
 * argument names the part; each prints "ok" and its name. Run by tests/preload.rs. */
#define LIBC_SOCKETS
#include "common.h"
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;
static const char *self;

/* A connection over loopback still carries bytes. */
static void talks(int pair[2])
{
    send_all(pair[0], "ping", 4);
    EXPECT(pair[1], "ping");
    send_all(pair[1], "pong", 4);
    EXPECT(pair[0], "pong");
}

static int status_of(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* A child that shares its parent's memory closes, replaces and duplicates descriptors: the parent's stay. */
static void vfork_child(void)
{
    int pair[2], p[2];
    tcp_pair(AF_INET, pair);
    OK(pipe(p));
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(p[1], 1);
        dup2(pair[0], 0);
        close(pair[1]);
        close_range(3, ~0u, 0);
        execl("/bin/sh", "sh", "-c", "echo $0 is here; exit 7", "shell", (char *)NULL);
        _exit(127);
    }
    EQ(status_of(pid), 7);
    char text[32] = {0};
    EQ(read(p[0], text, sizeof text), 14);
    EQ(strcmp(text, "shell is here\n"), 0);
    talks(pair);
    close_pair(pair);
    close_pair(p);
}

/* A child of fork uses the parent's sockets in vain, and goes on with exec. */
static void fork_child(void)
{
    int pair[2];
    tcp_pair(AF_INET6, pair);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        if (send(pair[0], "x", 1, 0) != -1 || errno != ENETDOWN || socket(AF_INET, SOCK_STREAM, 0) != -1)
            _exit(1);
        if (errno != ENETDOWN || recv(pair[1], &byte, 1, 0) != -1 || errno != ENETDOWN)
            _exit(2);
        close(pair[0]);
        execlp("sh", "sh", "-c", "exit 9", (char *)NULL);
        _exit(127);
    }
    EQ(status_of(pid), 9);
    talks(pair);
    close_pair(pair);
}

/* Programs that the C library starts. */
static void started(void)
{
    int pair[2];
    tcp_pair(AF_INET, pair);
    char *argv[] = {"sh", "-c", "exit 3", NULL};
    pid_t pid;
    EQ(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
    EQ(status_of(pid), 3);
    EQ(WEXITSTATUS(system("exit 4")), 4);
    FILE *f = popen("echo read; exit 5", "r");
    char line[16] = {0};
    CHECK(f && fgets(line, sizeof line, f));
    EQ(strcmp(line, "read\n"), 0);
    EQ(WEXITSTATUS(pclose(f)), 5);
    talks(pair);
    close_pair(pair);
}

/* A program that is to write to a socket by its standard output writes in vain. */
static void handed(void)
{
    int pair[2];
    tcp_pair(AF_INET, pair);
    posix_spawn_file_actions_t actions;
    EQ(posix_spawn_file_actions_init(&actions), 0);
    EQ(posix_spawn_file_actions_adddup2(&actions, pair[0], 1), 0);
    char *argv[] = {"sh", "-c", "echo lost 2>/dev/null || exit 6", NULL};
    pid_t pid;
    EQ(posix_spawnp(&pid, "sh", &actions, NULL, argv, environ), 0);
    EQ(status_of(pid), 6);
    EQ(posix_spawn_file_actions_destroy(&actions), 0);
    talks(pair);
    close_pair(pair);
}

/* As inetd has it: the three standard streams of a program are the connection. */
static void inetd(void)
{
    int pair[2];
    tcp_pair(AF_INET, pair);
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 0; fd < 3; fd++)
            dup2(pair[0], fd);
        execl("/bin/cat", "cat", (char *)NULL);
        _exit(127);
    }
    EQ(status_of(pid), 1);
    talks(pair);
    close_pair(pair);
}

/* Sockets of the stack cannot be passed on; those of the kernel can. */
static void passed(void)
{
    int pair[2], to[2];
    tcp_pair(AF_INET, pair);
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, to));
    for (int i = 0; i < 3; i++) {
        union {
            char room[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control = {0};
        struct iovec iov = {"x", 1};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), i < 2 ? &pair[i] : &to[0], sizeof(int));
        if (i < 2)
            ERR(sendmsg(to[0], &msg, 0), EINVAL);
        else
            EQ(sendmsg(to[0], &msg, 0), 1);
    }
    talks(pair);
    close_pair(pair);
    close_pair(to);
}

/* A range that is closed takes the program's sockets and leaves what the library has. */
static void ranges(void)
{
    int pair[2], p[2];
    tcp_pair(AF_INET, pair);
    OK(pipe(p));
    int set = (int)OK(epoll_create1(0));
    OK(close_range((unsigned int)pair[1], ~0u, CLOSE_RANGE_CLOEXEC));
    EQ(OK(fcntl(pair[1], F_GETFD)) & FD_CLOEXEC, FD_CLOEXEC);
    talks(pair);
    closefrom(3);
    ERR(send(pair[0], "x", 1, 0), EBADF);
    ERR(fcntl(pair[1], F_GETFD), EBADF);
    char byte;
    ERR(read(p[0], &byte, 1), EBADF);
    ERR(epoll_ctl(set, EPOLL_CTL_DEL, 0, NULL), EBADF);
    for (int fd = 3; fd < 2048; fd++)
        ERR(close(fd), EBADF);
    tcp_pair(AF_INET, pair);
    EQ(pair[0] < 6, 1); /* the lowest free numbers */
    talks(pair);
    for (int fd = 3; fd < 2048; fd++)
        if (fd != pair[0] && fd != pair[1])
            syscall(SYS_close, fd);
    talks(pair);
    EQ(syscall(SYS_close, pair[0]), 0);
    EXPECT_EOF(pair[1]);
    EQ(syscall(SYS_close_range, 3, ~0u, 0), 0);
    ERR(getsockname(pair[1], NULL, NULL), EBADF);
}

/* The standard streams of the C library follow a socket onto their descriptors, and back. */
static void streams(void)
{
    int pair[2];
    char line[32] = {0};
    tcp_pair(AF_INET, pair);
    fflush(stdout);
    int out = (int)OK(dup(1)), in = (int)OK(dup(0));
    OK(dup2(pair[0], 1));
    printf("%s %d\n", "printed", 1);
    fflush(stdout);
    EQ(fileno(stdout), 1);
    EQ(write(1, "written\n", 8), 8);
    EQ(dprintf(1, "%d more\n", 2), 7);
    OK(dup2(out, 1));
    EXPECT(pair[1], "printed 1\nwritten\n2 more\n");
    OK(dup2(pair[1], 0));
    send_all(pair[0], "a line\nand", 10);
    CHECK(fgets(line, sizeof line, stdin));
    EQ(strcmp(line, "a line\n"), 0);
    OK(dup2(in, 0));
    FILE *f = fdopen(pair[0], "w");
    CHECK(f && fileno(f) == pair[0]);
    fprintf(f, "%s", "by fprintf");
    EQ(fclose(f), 0);
    ERR(fcntl(pair[0], F_GETFD), EBADF);
    EXPECT(pair[1], "by fprintf");
    EXPECT_EOF(pair[1]);
}

/* The new program has none of the numbers, and a stack of its own. */
static void replaced(void)
{
    int pair[2];
    char number[16];
    tcp_pair(AF_INET, pair);
    snprintf(number, sizeof number, "%d", pair[1]);
    ERR(execl("/nowhere", "nowhere", (char *)NULL), ENOENT);
    talks(pair); /* a program that is not there takes nothing away */
    char *env[] = {getenv("LD_PRELOAD") - strlen("LD_PRELOAD="), getenv("USERSOCK_OWNER") - strlen("USERSOCK_OWNER="),
                   NULL};
    execle(self, self, "successor", number, (char *)NULL, env);
    CHECK(!"exec returned");
}

static void successor(const char *number)
{
    ERR(fcntl(atoi(number), F_GETFD), EBADF);
    int pair[2];
    tcp_pair(AF_INET6, pair);
    talks(pair);
}

/* What early.so did before the shim's constructor, and before this program. */
static void early(void)
{
    const char *byte = dlsym(RTLD_DEFAULT, "early_first_byte");
    int *pair = dlsym(RTLD_DEFAULT, "early_pair");
    CHECK(byte && pair);
    EQ(*byte, 'M');
    talks(pair);
    EQ(getenv("USERSOCK_OWNER") != NULL, 1);
    close_pair(pair);
}

int main(int argc, char **argv)
{
    self = argv[0];
    CHECK(argc >= 2);
    begin(argv[1]);
    struct {
        const char *name;
        void (*part)(void);
    } parts[] = {{"vfork", vfork_child}, {"fork", fork_child},  {"started", started},   {"handed", handed},
                 {"ranges", ranges},     {"streams", streams}, {"replaced", replaced}, {"early", early},
                 {"inetd", inetd},       {"passed", passed}};
    for (int i = 0; i < COUNT(parts); i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            parts[i].part();
    if (strcmp(argv[1], "successor") == 0)
        successor(argv[2]);
    return done();
}

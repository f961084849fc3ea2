/* See served.h. */
#define _GNU_SOURCE
#include "served.h"
#include "driver.h"
#include "sequence.h"
#include "sys.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* As the kernel's namespaces have it (network.c). */
#define CONFIG "sysctl.net.ipv4.tcp_congestion_control=reno"
#define MOST_ARGS 16

const char *server_command, *server_shim;

/* Starts a program that ends with this one; `out`: its standard output, if that is not ours. */
static pid_t start(const char *path, char *const *args, int out)
{
    fflush(stdout);
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (out >= 0)
        dup2(out, STDOUT_FILENO);
    execv(path, args);
    perror(path);
    _exit(3);
}

/* The server, whose line for the environment of its programs is put into ours. */
static pid_t start_server(void)
{
    static char line[128];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) == -1)
        return -1;
    char *args[] = {(char *)server_command, "serve", "--config", CONFIG, NULL};
    pid_t server = start(server_command, args, ends[1]);
    close(ends[1]);
    for (size_t n = 0; n < sizeof line - 1 && read(ends[0], line + n, 1) == 1 && line[n] != '\n';)
        n++;
    close(ends[0]);
    char *end = strchr(line, '\n');
    if (!end)
        return -1;
    *end = 0;
    putenv(line);
    setenv("LD_PRELOAD", server_shim, 1);
    return server;
}

int run_with_server(char *const *args)
{
    int status;
    char *all[MOST_ARGS] = {"differential", "--on", "served"};
    for (int i = 0; args[i] && i + 4 < MOST_ARGS; i++)
        all[i + 3] = args[i];
    new_network();
    pid_t server = start_server();
    if (server < 0)
        give_up(server_command);
    pid_t program = start("/proc/self/exe", all, -1);
    if (program < 0 || waitpid(program, &status, 0) < 0)
        return 3;
    ended_well(status);
    kill(server, SIGTERM);
    if (waitpid(server, &status, 0) == server && status != 0)
        printf("died server: %#x\n", (unsigned)status);
    fflush(stdout);
    return 0;
}

/* A request each: the server answers in the turn in which it sees it, and all that is ready is done in a turn. What one
 * end of a connection does has been passed on to the other by then: that it is sent, that it is received, that it is
 * written to the descriptor, each in a turn of its own at most. */
void let_server_work(void)
{
    static int asker = -1;
    int value;
    socklen_t len = sizeof value;
    if (!is_served())
        return;
    if (asker < 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        /* Out of the way of the sequence's. */
        if ((asker = fcntl(fd, F_DUPFD_CLOEXEC, 900)) < 0)
            give_up("a socket of the server's");
        close(fd);
    }
    for (int turn = 0; turn < 5; turn++)
        if (getsockopt(asker, IPPROTO_TCP, TCP_MAXSEG, &value, &len) != 0)
            give_up("the server");
}

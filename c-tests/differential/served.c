/* See served.h. */
#define _GNU_SOURCE
#include "served.h"
#include "driver.h"
#include "sequence.h"
#include "sys.h"
#include <fcntl.h>
#include <netinet/in.h>
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

/* The ends of a connection of the server's to itself, out of the way of the sequence's numbers. */
static int own[2];

static void connect_own(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    struct sockaddr *name = (struct sockaddr *)&at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), ends[2] = {socket(AF_INET, SOCK_STREAM, 0), -1};
    if (bind(listener, name, len) == -1 || listen(listener, 1) == -1 || getsockname(listener, name, &len) == -1 ||
        connect(ends[0], name, len) == -1 || (ends[1] = accept(listener, NULL, NULL)) == -1)
        give_up("a connection of the server's");
    close(listener);
    for (int i = 0; i < 2; i++) {
        own[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, 900);
        close(ends[i]);
    }
}

/* A byte there and back, twice. What the call has begun was there before it, and so is done before it: it is told by
 * epoll before, goes through the stack before, and is looked at before; the second time is for what follows of that. */
void let_server_work(void)
{
    char byte = 0;
    if (!is_served())
        return;
    if (!own[0])
        connect_own();
    for (int i = 0; i < 4; i++)
        if (write(own[i & 1], &byte, 1) != 1 || read(own[~i & 1], &byte, 1) != 1)
            give_up("a connection of the server's");
}

/* The system calls of a request over a TUN device: a program that waits in epoll_wait, poll, select or recv, reads one
 * byte and answers it makes one wait in the kernel, one read of the device and one write to it. The thread is traced by
 * its parent; another process is the client, on the kernel's sockets. Runs in a network namespace of its own; makes the
 * device uskw. */
#include "common.h"
#include <sys/ptrace.h>
#include <sys/wait.h>

enum { WARM_UP = 100, REQUESTS = 400, KINDS = 512 };

static int conn, peer, quiet[2];

/* The waits of the program: `conn` is readable, and the pipe is not. */

static int set;

static void by_epoll(void)
{
    struct epoll_event e[8];
    EQ(usk_epoll_wait(set, e, 8, -1), 1);
    EQ(e[0].data.fd, conn);
}

static void by_epoll_of_one(void)
{
    struct epoll_event e;
    EQ(usk_epoll_wait(set, &e, 1, 60000), 1);
    EQ(e.data.fd, conn);
}

static void by_poll(void)
{
    struct pollfd p[2] = {{.fd = quiet[0], .events = POLLIN}, {.fd = conn, .events = POLLIN}};
    EQ(usk_poll(p, 2, -1), 1);
    EQ(p[1].revents, POLLIN);
}

static void by_select(void)
{
    fd_set r;
    FD_ZERO(&r);
    FD_SET(quiet[0], &r);
    FD_SET(conn, &r);
    EQ(usk_select((conn > quiet[0] ? conn : quiet[0]) + 1, &r, NULL, NULL, NULL), 1);
    CHECK(FD_ISSET(conn, &r));
}

static void by_recv(void)
{
}

static const struct {
    const char *name;
    void (*wait)(void);
} ways[] = {
    {"epoll_wait", by_epoll}, {"epoll_wait for one", by_epoll_of_one}, {"poll", by_poll}, {"select", by_select},
    {"recv", by_recv},
};

static void serve(void (*wait)(void), int requests)
{
    for (int i = 0; i < requests; i++) {
        char c;
        wait();
        EQ(usk_recv(conn, &c, 1, 0), 1);
        EQ(usk_send(conn, &c, 1, 0), 1);
    }
}

static void request(int requests)
{
    for (int i = 0; i < requests; i++) {
        char c = 'r';
        EQ(send(peer, &c, 1, MSG_NOSIGNAL), 1);
        EQ(recv(peer, &c, 1, 0), 1);
    }
}

/* Marks the begin and the end of the requests that are counted. */
static void mark(void)
{
    syscall(SYS_getppid);
}

static void handler(int sig)
{
    (void)sig;
}

/* The program: serves in each way, and ends with status 0. `mixed`: with signal handlers of both kinds, those after
 * which calls are restarted and those after which they are not. */
static void program(bool mixed)
{
    struct sigaction restarts = {.sa_handler = handler, .sa_flags = SA_RESTART}, ends = {.sa_handler = handler};
    if (mixed) {
        OK(sigaction(SIGUSR1, &restarts, NULL));
        OK(sigaction(SIGUSR2, &ends, NULL));
    }
    setenv("USERSOCK_CONFIG", "tun=uskw,addr=10.9.7.2/24", 1);
    begin("wait_calls");
    CHECK(system("PATH=$PATH:/usr/sbin:/sbin ip addr add 10.9.7.1/24 dev uskw") == 0);
    struct addr a = at("10.9.7.1", mixed ? 701 : 700);
    int listens = (int)OK(socket(AF_INET, SOCK_STREAM, 0)), one = 1;
    OK(bind(listens, &a.sa, a.len));
    OK(listen(listens, 1));
    conn = connected(SOCK_STREAM, a);
    peer = (int)OK(accept(listens, NULL, NULL));
    OK(setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    OK(usk_setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    OK(pipe(quiet));
    set = (int)OK(usk_epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN, .data.fd = conn}, other = {.events = EPOLLIN, .data.fd = quiet[0]};
    OK(usk_epoll_ctl(set, EPOLL_CTL_ADD, conn, &e));
    OK(usk_epoll_ctl(set, EPOLL_CTL_ADD, quiet[0], &other));
    fflush(stdout);
    pid_t client = (pid_t)OK(fork());
    if (client == 0) {
        request(COUNT(ways) * (WARM_UP + REQUESTS));
        _exit(failures != 0);
    }
    OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    raise(SIGSTOP);
    for (int i = 0; i < COUNT(ways); i++) {
        serve(ways[i].wait, WARM_UP);
        mark();
        serve(ways[i].wait, REQUESTS);
        mark();
    }
    int status;
    EQ(waitpid(client, &status, 0), client);
    EQ(status, 0);
    exit(failures != 0);
}

/* Where there are handlers a call that they end has signals blocked but in its sleep: two calls more. Now and then it
 * looks for handlers, once in these requests at most. Other slack is for a client that acknowledges an answer by
 * itself, before its next request, for the library's attempts to read a second packet, and on a busy machine for
 * packets that the library's own thread receives: then this one makes fewer waits and reads, or hands the device over
 * (an eventfd is written and read). */
static void check(const char *way, const int *calls, bool handlers)
{
    enum { MOST = REQUESTS + REQUESTS / 4, SIGNALS = 64 };
    int masks = handlers ? 2 * MOST : 0;
    int looks = calls[SYS_ppoll] + calls[SYS_epoll_pwait], others = 0;
    /* A small packet is in one piece, a large one in several. */
    int writes = calls[SYS_writev] + calls[SYS_write];
    for (int nr = 0; nr < KINDS; nr++)
        others += calls[nr];
    const int known[] = {SYS_ppoll, SYS_epoll_pwait, SYS_readv, SYS_writev, SYS_read, SYS_write, SYS_futex,
                         SYS_timerfd_settime, SYS_rt_sigprocmask, SYS_rt_sigaction};
    for (int i = 0; i < COUNT(known); i++)
        others -= calls[known[i]];
    if (looks > MOST || calls[SYS_readv] > MOST || writes < REQUESTS || writes > MOST ||
        calls[SYS_rt_sigprocmask] > masks || calls[SYS_rt_sigaction] > SIGNALS || others > REQUESTS / 8) {
        char got[128];
        snprintf(got, sizeof got, "%d waits, %d reads, %d writes, %d masks, %d looks at handlers, %d others", looks,
                 calls[SYS_readv], writes, calls[SYS_rt_sigprocmask], calls[SYS_rt_sigaction], others);
        complain(__FILE__, __LINE__, way, got, "one of each a request");
    }
}

/* Runs the program and counts its system calls. */
static void trace(bool mixed)
{
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0)
        program(mixed);
    int status, way = 0, calls[KINDS] = {0};
    bool counting = false;
    EQ(waitpid(pid, &status, 0), pid);
    if (WIFSTOPPED(status))
        OK(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)));
    while (WIFSTOPPED(status)) {
        int sig = WSTOPSIG(status);
        struct __ptrace_syscall_info info;
        if (sig == (SIGTRAP | 0x80)) {
            sig = 0;
            OK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info));
            bool entry = info.op == PTRACE_SYSCALL_INFO_ENTRY;
            if (entry && info.entry.nr == SYS_getppid) {
                if (counting) {
                    /* recv is restarted after some handlers only: it has to find out which. */
                    if (!mixed || ways[way].wait != by_recv)
                        check(ways[way].name, calls, mixed);
                    way++;
                }
                counting = !counting;
                memset(calls, 0, sizeof calls);
            } else if (entry && counting && info.entry.nr < KINDS) {
                calls[info.entry.nr]++;
            }
        } else if (sig == SIGSTOP) {
            sig = 0;
        }
        OK(ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)sig));
        EQ(waitpid(pid, &status, 0), pid);
    }
    EQ(status, 0);
    EQ(way, COUNT(ways));
}

int main(void)
{
    case_name = "wait_calls";
    trace(false);
    trace(true);
    return done();
}

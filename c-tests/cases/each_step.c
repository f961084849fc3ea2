/* A signal at each instruction of a call: its handler runs, once and not later than at the call's end, and the thread's
 * mask is its own afterwards, whether the handler returns or jumps out (siglongjmp(3)). The processor stops the thread
 * behind each instruction (the trap flag, SIGTRAP), and at one of them it sends itself the signal. */
#include "common.h"
#include <limits.h>
#include <setjmp.h>
#include <ucontext.h>

#ifdef __x86_64__
#define REGISTER_OF_FLAGS REG_EFL
#define TRAP 0x100L
/* Not into the 128 bytes below the stack pointer, which are the function's. */
#define SET_TRAP "subq $128, %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n addq $128, %%rsp\n"
#define CLEAR_TRAP "subq $128, %%rsp\n pushfq\n andq $~0x100, (%%rsp)\n popfq\n addq $128, %%rsp\n"
#else
#error "stops behind each instruction on x86-64 alone"
#endif

/* Instructions at the beginning of a call, at its end, and others. */
enum { FIRST = 700, LAST = 60, SOME = 60 };

static volatile long step, last;
static volatile int ran;
static volatile bool jumps;
static sigjmp_buf back;
static int pipe_fd[2], udp_fd;
static char byte;

static void step_over(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    if (++step != last)
        return;
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REGISTER_OF_FLAGS];
    *flags &= ~TRAP;
    /* It comes when this handler is over, which has it blocked. */
    syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), SIGUSR1);
}

static void handler(int signal)
{
    (void)signal;
    ran++;
    if (jumps)
        siglongjmp(back, 1);
}

static void poll_pipe(void)
{
    struct pollfd p = {.fd = pipe_fd[0], .events = POLLIN};
    usk_poll(&p, 1, 0);
}
static void poll_pipe_with_a_mask(void)
{
    struct pollfd p = {.fd = pipe_fd[0], .events = POLLIN};
    struct timespec now = {0};
    sigset_t none;
    sigemptyset(&none);
    usk_ppoll(&p, 1, &now, &none);
}
static void peek(void) { usk_recv(udp_fd, &byte, 1, MSG_DONTWAIT); }
static void wait_for_pipe(void)
{
    struct pollfd p = {.fd = pipe_fd[0], .events = POLLIN};
    usk_poll(&p, 1, 1);
}

static const struct op {
    const char *name;
    void (*call)(void);
} ops[] = {
    {"poll of a pipe", poll_pipe},
    {"ppoll of a pipe", poll_pipe_with_a_mask},
    {"recv without a datagram", peek},
    {"poll that waits", wait_for_pipe},
};

/* False: the call had fewer instructions. */
static bool signal_at(const struct op *op, long instruction)
{
    sigset_t before, after;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &before) == 0);
    last = instruction;
    step = 0;
    ran = 0;
    if (sigsetjmp(back, 1) == 0) {
        __asm__ volatile(SET_TRAP ::: "memory", "cc");
        op->call();
        __asm__ volatile(CLEAR_TRAP ::: "memory", "cc");
    }
    if (step < last)
        return false;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
    char got[64], sent[64];
    snprintf(got, sizeof got, "%d runs%s", ran, memcmp(&before, &after, 8) ? ", another mask" : "");
    snprintf(sent, sizeof sent, "1 run of that at instruction %ld", instruction);
    if (strcmp(got, "1 runs") != 0)
        complain(__FILE__, __LINE__, op->name, got, sent);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return true;
}

int main(void)
{
    begin("each_step");
    OK(pipe(pipe_fd));
    udp_fd = bound(SOCK_DGRAM, local(AF_INET));
    struct sigaction trap = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&trap.sa_mask);
    OK(sigaction(SIGTRAP, &trap, NULL));
    struct sigaction a = {.sa_handler = handler};
    sigemptyset(&a.sa_mask);
    OK(sigaction(SIGUSR1, &a, NULL));
    for (int i = 0; i < COUNT(ops) && failures < 20; i++) {
        /* What is bound or looked up first, and only once, is not in a step. */
        ops[i].call();
        signal_at(&ops[i], LONG_MAX);
        long instructions = step;
        CHECK(instructions > 5);
        /* Of a long call those at its ends, where it is entered and left, and some of the others. */
        for (long n = 1; n <= instructions && signal_at(&ops[i], n);) {
            n += n < FIRST || n > instructions - LAST ? 1 : 1 + instructions / SOME;
            jumps = !jumps;
        }
    }
    OK(usk_close(udp_fd));
    return done();
}

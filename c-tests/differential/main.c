/* Runs sequences of one half, socket calls or packets, on one side and prints a line a call, for the driver to compare
 * with the other side's (xtask/src/differential). A sequence comes from a seed, or as text from standard input.
 *
 *     differential --on kernel|usersock [--settle MS] [--calls] --seed FIRST --count N
 *     differential --on kernel|usersock [--settle MS] [--calls] --script
 *
 * The text of a sequence is a line a call: the call's number and its arguments'. `--calls` prints that text before
 * each line. Sequences run in children, some to each: one that dies or hangs is a line of the trace ("died"), and a
 * new child goes on behind it. */
#define _GNU_SOURCE
#include "driver.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sequences of a child, and seconds that one may take. */
#define BATCH 64
#define PATIENCE 60

static int settle_ms = 0;
static bool show_text;

static void run_sequence(const char *head, const struct sequence *s)
{
    printf("sequence %s\n", head);
    fflush(stdout);
    begin_sequence();
    for (int i = 0; i < s->count; i++) {
        const struct op *op = &s->ops[i];
        if (show_text) {
            printf("%d", op->call);
            for (int j = 0; j < MAX_ARGS; j++)
                printf(" %d", op->a[j]);
            printf("\t");
        }
        print_call(op);
        printf("\t");
        fflush(stdout);
        run_op(op);
        if (settle_ms && settles(op))
            poll(NULL, 0, settle_ms);
    }
    printf("end\n");
    fflush(stdout);
    end_sequence();
}

/* Runs seeds from `first`, at most BATCH; `*at` is the one that runs. */
static void run_batch(uint64_t first, uint64_t last, volatile uint64_t *at)
{
    for (uint64_t seed = first; seed < last && seed < first + BATCH; seed++) {
        struct sequence s;
        char head[32];
        *at = seed;
        alarm(PATIENCE);
        generate(seed, &s);
        snprintf(head, sizeof head, "%llu", (unsigned long long)seed);
        run_sequence(head, &s);
    }
    exit(0);
}

/* What `status` says of a child's end, in words; true if it ended well. */
static bool ended_well(int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3)
        exit(3);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        printf("died %s\n", WTERMSIG(status) == SIGALRM ? "hanging" : sigabbrev_np(WTERMSIG(status)));
    else
        printf("died with status %d\n", WEXITSTATUS(status));
    fflush(stdout);
    return false;
}

static int run_seeds(uint64_t first, uint64_t count)
{
    volatile uint64_t *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return 3;
    for (uint64_t seed = first; seed < first + count;) {
        int status;
        pid_t child = fork();
        if (child == 0)
            run_batch(seed, first + count, at);
        if (child < 0 || waitpid(child, &status, 0) < 0)
            return 3;
        seed = ended_well(status) ? seed + BATCH : *at + 1;
    }
    return 0;
}

/* An argument that a table has no row for is as its first: texts are made by our own driver. */
static void read_script(struct sequence *s)
{
    char line[256];
    memset(s, 0, sizeof *s);
    while (s->count < OPS_ROOM && fgets(line, sizeof line, stdin)) {
        struct op *op = &s->ops[s->count];
        char *at = line, *end;
        op->call = (int)strtol(at, &end, 10);
        if (end == at || op->call < 0 || op->call >= op_count)
            continue;
        for (int i = 0; i < MAX_ARGS && (at = end); i++)
            op->a[i] = (int)strtol(at, &end, 10);
        s->count++;
    }
}

static int run_script(void)
{
    struct sequence s;
    int status;
    read_script(&s);
    pid_t child = fork();
    if (child == 0) {
        alarm(PATIENCE);
        run_sequence("script", &s);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 3;
    ended_well(status);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: differential --on kernel|usersock [--settle MS] [--calls] "
                    "(--seed N --count N | --script)\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seed = 0, count = 0;
    bool script = false, side = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--on") == 0)
            side = choose_side(value), i++;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "--count") == 0)
            count = strtoull(value, NULL, 0), i++;
        else if (strcmp(argv[i], "--settle") == 0)
            settle_ms = atoi(value), i++;
        else if (strcmp(argv[i], "--calls") == 0)
            show_text = true;
        else if (strcmp(argv[i], "--script") == 0)
            script = true;
        else
            return usage();
    }
    if (!side || (!script && count == 0))
        return usage();
    return script ? run_script() : run_seeds(seed, count);
}

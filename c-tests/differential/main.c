/* Runs sequences of one half, socket calls or packets, on one side and prints a line a call, for the driver to compare
 * with the other side's (xtask/src/differential). A sequence comes from a seed, or as text from standard input.
 *
 *     differential --on kernel|usersock [--settle MS] [--calls] [--tcp] --seed FIRST --count N
 *     differential --on kernel|usersock [--settle MS] [--calls] [--tcp] --script
 *     differential --on server --command usersock --shim FILE ...
 *
 * The text of a sequence is a line a call: the call's number and its arguments'. `--calls` prints that text before
 * each line. Sequences run in children, some to each: one that dies or hangs is a line of the trace ("died"), and a
 * new child goes on behind it. */
#define _GNU_SOURCE
#include "driver.h"
#include "served.h"
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
bool mostly_tcp;

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

bool ended_well(int status)
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

/* One sequence as a program of a server: the seed, or the text on standard input. */
static void run_elsewhere(const char *seed)
{
    char settle[16], *args[16];
    int n = 0;
    snprintf(settle, sizeof settle, "%d", settle_ms);
    args[n++] = "--settle", args[n++] = settle;
    if (show_text)
        args[n++] = "--calls";
    if (mostly_tcp)
        args[n++] = "--tcp";
    if (seed)
        args[n++] = "--seed", args[n++] = (char *)seed, args[n++] = "--count", args[n++] = "1";
    else
        args[n++] = "--script";
    args[n] = NULL;
    exit(run_with_server(args));
}

static void run_child(uint64_t first, uint64_t last, volatile uint64_t *at)
{
    char seed[24];
    if (!starts_programs())
        run_batch(first, last, at);
    *at = first;
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)first);
    run_elsewhere(seed);
}

static int run_seeds(uint64_t first, uint64_t count)
{
    const uint64_t batch = starts_programs() ? 1 : BATCH;
    volatile uint64_t *at = mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return 3;
    for (uint64_t seed = first; seed < first + count;) {
        int status;
        pid_t child = fork();
        if (child == 0)
            run_child(seed, first + count, at);
        if (child < 0 || waitpid(child, &status, 0) < 0)
            return 3;
        seed = ended_well(status) ? seed + batch : *at + 1;
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
    if (!starts_programs())
        read_script(&s);
    pid_t child = fork();
    if (child == 0) {
        if (starts_programs())
            run_elsewhere(NULL);
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
    fprintf(stderr, "usage: differential --on kernel|usersock|server [--command FILE --shim FILE] [--settle MS] "
                    "[--calls] [--tcp] (--seed N --count N | --script)\n");
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
        else if (strcmp(argv[i], "--tcp") == 0)
            mostly_tcp = true;
        else if (strcmp(argv[i], "--command") == 0)
            server_command = value, i++;
        else if (strcmp(argv[i], "--shim") == 0)
            server_shim = value, i++;
        else if (strcmp(argv[i], "--script") == 0)
            script = true;
        else
            return usage();
    }
    if (!side || (!script && count == 0) || (starts_programs() && !(server_command && server_shim)))
        return usage();
    begin_side();
    return script ? run_script() : run_seeds(seed, count);
}

/* What the driver (main.c) needs of a half, socket calls (sequence.h) or packets (packets/packets.h): sequences of
 * operations in numbers, made from a seed or read as text, which is how a shortened one is handed back. */
#ifndef DIFFERENTIAL_DRIVER_H
#define DIFFERENTIAL_DRIVER_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define MAX_ARGS 12
/* Operations that fit in a sequence. */
#define OPS_ROOM 256

struct op {
    int call;
    int a[MAX_ARGS];
};

struct sequence {
    int count;
    struct op ops[OPS_ROOM];
};

/* Number of the half's operations. */
extern const int op_count;
void generate(uint64_t seed, struct sequence *out);
void print_call(const struct op *op);
void run_op(const struct op *op);
/* Whether something may go on after the operation that the next one should not meet (--settle). */
bool settles(const struct op *op);
/* Once, before the children that run sequences. */
void begin_side(void);
void begin_sequence(void);
void end_sequence(void);

/* main.c. What a child's `status` says of its end, in words; true if it ended well. */
bool ended_well(int status);
/* Of socket calls: sequences of TCP, where there would be others, but for those of a mixture (--tcp). */
extern bool mostly_tcp;

/* sys.c */
bool choose_side(const char *name);
/* Whether the side runs each sequence in a program that it starts. */
bool starts_programs(void);
/* Ends the program for want of something outside: the driver stops, too. */
_Noreturn void give_up(const char *what);
/* Writes a sysctl's file. */
void write_file(const char *path, const char *text);
#endif

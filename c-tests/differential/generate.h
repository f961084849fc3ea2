/* What the files that make sequences share: what is known of each slot's socket, chance, and the parts of generate.c
 * that scenes.c is made of. */
#ifndef DIFFERENTIAL_GENERATE_H
#define DIFFERENTIAL_GENERATE_H
#include "values.h"
#include "sequence.h"

enum proto { P_NONE, P_UDP, P_TCP, P_PING, P_RAW, P_EPOLL };

struct model {
    enum proto proto;
    int domain, protocol;
    bool listening, blocking;
    bool over_v4; /* it connected so, perhaps */
    bool connected, corked; /* of UDP, and of a server's TCP; corked for good */
};

struct gen {
    uint64_t state;
    struct sequence *out;
    struct model slot[SLOTS];
    /* AF_INET, AF_INET6, or 0: both, with mapped names between them. */
    int family;
    int wanted; /* P_ of this sequence; P_NONE: a mixture */
    /* Raw sockets, epoll, select, sendfile and splice, too. */
    bool wide;
};

/* generate.c */
int below(struct gen *g, int n);
bool chance(struct gen *g, int percent);
#define ONE_OF(g, ...) ((const int[]){__VA_ARGS__}[below(g, COUNT(((const int[]){__VA_ARGS__})))])
void emit(struct gen *g, enum call call, const int *a, int n);
#define EMIT(g, call, ...) emit(g, call, (const int[]){__VA_ARGS__}, COUNT(((const int[]){__VA_ARGS__})))
int any_slot(struct gen *g);
int free_slot(struct gen *g);
const struct model *model_of(struct gen *g, int slot);
int any_option(struct gen *g, int slot);
int a_set(struct gen *g);
int interest(struct gen *g);
void new_socket(struct gen *g);
void open_pair(struct gen *g);
void accept_one(struct gen *g, int slot);
void set_option(struct gen *g, int slot, int option);
void send_something(struct gen *g, int slot);
void receive_something(struct gen *g, int slot);
/* Any call. */
void something(struct gen *g);

/* scenes.c */
/* Several calls that belong together. */
void scene(struct gen *g);
#endif

/* What programs need of the record layer "rec" (rec_ulp.c), beside setsockopt(fd, IPPROTO_TCP, TCP_ULP, "rec", 3). */
#ifndef REC_ULP_H
#define REC_ULP_H
#include <stdint.h>

enum { REC_HEADER = 12, REC_MAX_PAYLOAD = 16384 };

/* Level of setsockopt and getsockopt. */
enum { SOL_REC = 0x5245 };
/* struct rec_stats; read only. */
enum { REC_STATS = 1 };
/* int: most payload bytes of a record that is sent from now on, 1 to 16384 (the default). */
enum { REC_MAX = 2 };

struct rec_stats {
    uint64_t records_out, bytes_out; /* handed to TCP, whole; payload */
    uint64_t records_in, bytes_in;   /* come whole and good; payload */
    uint32_t held_out, held_in;      /* bytes of a record that is going out, and of one that is coming in or not read */
    uint32_t partial_out;            /* records of which TCP took a part at first */
    uint32_t bad;                    /* 1: a record was bad, the connection is broken */
};
#endif

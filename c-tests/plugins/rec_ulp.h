/* Constants and structures of the record layer "rec" (rec_ulp.c) for programs, which install it by setsockopt(fd,
 * IPPROTO_TCP, TCP_ULP, "rec", 3). */
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
    uint64_t records_in, bytes_in;   /* received complete and valid; payload */
    uint32_t held_out, held_in;      /* bytes of the record being sent, and of the one being received or not read */
    uint32_t partial_out;            /* records that TCP accepted in parts */
    uint32_t bad;                    /* 1: a record was bad, the connection is broken */
};
#endif

/* The half of packets: a host with sockets in each state gets packets, and what it answers and what its program sees is
 * printed. Beside: tables.c (the forms of packets), wire.c (their bytes), network.c (the link), ends.c (sockets in
 * their states), show.c (answers as text), run.c (the operations), generate.c (sequences). The driver is ../main.c. */
#ifndef DIFFERENTIAL_PACKETS_H
#define DIFFERENTIAL_PACKETS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../driver.h"
#include <stddef.h>

#define SLOTS 3
#define MTU 1500
#define ROOM 70000
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* What an argument's number means; place 0 of a table is its most ordinary row. */
enum arg {
    A_NONE,
    A_SLOT,
    A_INT,
    A_FAMILY, /* 4 or 6 */
    A_STATE,  /* place in `states` */
    A_BITS,   /* TCP flags */
    A_SEQ,    /* place in `seq_bases`; the next argument is added to it */
    A_ACK,    /* place in `ack_bases`; the next argument is added to it */
    A_TABLE,  /* place in `tables[0]`; A_TABLE + n: in `tables[n]` */
};

enum table {
    T_SYN_OPTIONS,
    T_TCP_OPTIONS,
    T_TCP_DAMAGE,
    T_SOURCE,
    T_DESTINATION,
    T_CHAIN4,
    T_CHAIN6,
    T_FRAGMENTS,
    T_IP_DAMAGE,
    T_QUOTE,
    T_UDP_DAMAGE,
    T_UDP_END,
    T_COUNTER,
    T_TABLES
};

/* A row: its name in a printed sequence, and bytes as text where it stands for bytes. */
struct row {
    const char *name, *bytes;
};

enum op_number {
    OP_END,
    OP_UDP,
    OP_PING,
    OP_NEXT,
    OP_SEGMENT,
    OP_ERROR,
    OP_QUERY,
    OP_DATAGRAM,
    OP_OTHER,
    OP_SEND,
    OP_RECV,
    OP_SHUTDOWN,
    OP_CLOSE,
    OP_ACCEPT,
    OP_SEE,
    OP_COUNTER,
    OP_COUNT
};

/* States of a TCP end, TCP_INFO's numbers; those made by close(2) instead of shutdown(2) are 32 more. */
enum { BY_CLOSE = 32 };

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128, AE = 256 };

/* tables.c */
extern const struct row *const tables[T_TABLES];
extern const int table_counts[T_TABLES];
extern const char *const seq_bases[], *const ack_bases[];
extern const int seq_base_count, ack_base_count;
/* Place of a row by its name. */
int place(enum table table, const char *name);
const char *name_at(enum table table, int place);
void print_arg(enum arg arg, int value);

/* An end: a socket of the host and what its peer, the driver, knows. */
struct end {
    int fd, listener; /* -1: none */
    int protocol;     /* IPPROTO_TCP, IPPROTO_UDP, 1 for ping sockets; 0: no end */
    int family;
    uint32_t iss, nxt;                     /* the peer's sequence numbers */
    uint32_t host_iss, host_nxt, host_ack; /* the host's, as it has shown */
    uint32_t una;                          /* highest acknowledgement sent to the host */
    uint32_t host_window;                  /* bytes */
    int host_shift;                        /* -1: no window scaling */
    bool syn_sent;                         /* was made in this state */
    bool timestamps, scaling;              /* what the peer offered */
    uint32_t host_tsval;
    uint32_t tsval; /* the peer's clock */
};

extern struct end ends[SLOTS];
uint16_t host_port(int slot);
uint16_t peer_port(int slot);

/* What the IP header of the next packet is, see OP_NEXT. */
struct ip_form {
    int source, destination, chain, fragments, damage, ttl, tos;
};

extern struct ip_form next_form;

/* wire.c */
/* Adds an IP header as `next_form` says, which is then spent, and sends. */
void send_ip(int family, int protocol, unsigned char *payload, size_t n);
void address(int family, bool host, unsigned char *out);
/* Fills in the checksum of a payload with its pseudo-header, at `at`; `damaged`: wrong. */
void fill_checksum(int family, int protocol, unsigned char *payload, size_t n, size_t at, bool damaged);
uint16_t checksum(const unsigned char *b, size_t n, uint32_t sum);
uint32_t pseudo_sum(int family, const unsigned char *src, const unsigned char *dst, int protocol, size_t n);
void put16(unsigned char *b, unsigned v);
void put32(unsigned char *b, uint32_t v);
unsigned get16(const unsigned char *b);
uint32_t get32(const unsigned char *b);
/* Bytes of a hexadecimal text. */
size_t hex_bytes(const char *text, unsigned char *out);
/* The packets of the last operation, so that quotes of them are recognised. */
extern unsigned char sent[8][ROOM];
extern size_t sent_len[8];
extern int sent_count;

/* network.c */
void new_network(void);
void end_network(void);
/* Gives the host a packet, and returns when it has dealt with it. */
void net_in(const unsigned char *b, size_t n);
/* The next packet of the host; 0: none. */
size_t net_out(unsigned char *b, size_t room);
/* A counter by its name in /proc/net/snmp, snmp6 and netstat. */
long long net_counter(const char *name);

/* ends.c */
void open_end(int slot, int family, int state, bool active, int syn_options);
void open_udp(int slot, int family, int how);
void open_ping(int slot, int family);
/* Sends a segment of the peer's. */
void send_segment(const struct end *e, int slot, int flags, uint32_t seq, uint32_t ack, int len, int window,
                  const char *options, int damage);
size_t tcp_options(const struct end *e, const char *text, unsigned char *out);
uint32_t seq_of(const struct end *e, int base, int delta);
uint32_t ack_of(const struct end *e, int base, int delta);
/* Takes note of a segment of the host's; returns its slot, -1: of none. */
int follow(const unsigned char *tcp, size_t n, int family);
/* Reads what the host has sent, and keeps it for show_answers. */
void collect(void);
/* As send_ip, and collects the answers. */
void send_and_collect(int family, int protocol, unsigned char *payload, size_t n);

/* show.c */
/* Prints "r=" with what came in short; then each packet. */
void show_answers(void);
/* The answers of the operation that begins are forgotten. */
void begin_answers(void);
void keep_answer(const unsigned char *b, size_t n, int slot);
#endif

/* The half of socket calls: their numbers' meanings, most of them places in tables (tables.c). Sequences are made in
 * generate.c and run in run.c; the driver is main.c. */
#ifndef DIFFERENTIAL_SEQUENCE_H
#define DIFFERENTIAL_SEQUENCE_H
#include "driver.h"

/* Calls of a sequence, at most. */
#define MAX_OPS 96

/* What an argument's number means; place 0 of a table is its most ordinary row. */
enum arg {
    A_NONE,
    A_SLOT,    /* slot, or -1, -2: no socket */
    A_INT,     /* as it is */
    A_DOMAIN,  /* AF_ */
    A_TYPE,    /* SOCK_, with flags */
    A_PROTO,   /* IPPROTO_ */
    A_NAME,    /* place in `names` */
    A_LEN,     /* place in `lens`: of a name or a value, EXACT first */
    A_FORM,    /* place in `forms`: what a sending call's buffer holds */
    A_INTO,    /* place in `intos`: a receiving call's buffer */
    A_SHAPE,   /* place in `shapes`: of iovecs */
    A_FLAGS,   /* MSG_ bits */
    A_CONTROL, /* place in `controls`: control messages */
    A_OPTION,  /* place in `options`: two of the call's arguments, level and name */
    A_VALUE,   /* place among the values of the option's kind */
    A_REQUEST, /* place in `requests`: of ioctl */
    A_COMMAND, /* place in `commands`: of fcntl */
    A_EVENTS,  /* POLL bits */
    A_EPOLL_OP,     /* EPOLL_CTL_ */
    A_EPOLL_EVENTS, /* EPOLL bits */
    A_EVENT_FORM,   /* place in `event_forms` */
    A_END,          /* place in `ends`: of a transfer */
    A_OFFSET,       /* place in `offsets` */
    A_COUNT,        /* place in `counts`: bytes of a transfer */
    A_SPLICE,       /* SPLICE_F_ bits */
    A_DUPFD,        /* F_DUPFD, or 1: F_DUPFD_CLOEXEC */
    A_FD_FLAGS,     /* O_ bits of a new descriptor */
};

/* Which values an option is given. */
enum kind { K_INT, K_LINGER, K_TIME, K_DEVICE, K_CONGESTION, K_MREQ, K_MREQ6, K_MIF, K_FILTER6, K_PROTOCOL_COUNT };

struct option {
    int level, name;
    const char *level_text, *name_text;
    enum kind kind;
};

enum call {
    C_SOCKET,
    C_BIND,
    C_CONNECT,
    C_LISTEN,
    C_ACCEPT,
    C_SHUTDOWN,
    C_CLOSE,
    C_DUP,
    C_DUP2,
    C_DUP3,
    C_DUPFD,
    C_PASS,
    C_SEND,
    C_SENDTO,
    C_WRITE,
    C_WRITEV,
    C_SENDMSG,
    C_SENDMMSG,
    C_RECV,
    C_READ,
    C_READV,
    C_RECVFROM,
    C_RECVMSG,
    C_RECVMMSG,
    C_GETSOCKNAME,
    C_GETPEERNAME,
    C_SETSOCKOPT,
    C_GETSOCKOPT,
    C_FCNTL,
    C_IOCTL,
    C_POLL,
    C_EPOLL_CREATE,
    C_EPOLL_CTL,
    C_EPOLL_WAIT,
    C_SELECT,
    C_SENDFILE,
    C_SPLICE,
    C_SLEEP,
    CALL_COUNT
};

struct call_row {
    const char *name;
    enum arg args[MAX_ARGS];
    void (*run)(const int *a);
};

/* tables.c */
extern const char *const names[], *const forms[], *const intos[], *const shapes[], *const controls[];
extern const char *const event_forms[], *const ends[], *const offsets[];
extern const long counts[];
extern const int form_count, name_count, control_count, option_count, len_count, lens[], request_count, command_count;
extern const int end_count, offset_count, count_count;
extern const struct option options[];
const char *value_text(int option, int place);
/* A place of a table by its text, so that the generator says what it means. */
int name_place(const char *text);
int option_place(int level, int name);
int end_place(const char *text);
/* An argument as C has it. */
void print_arg(enum arg arg, const int *a, int i);
int request_value(int place);
int command_value(int place);

/* run.c */
extern const struct call_row calls[CALL_COUNT];

/* network.c */
/* A network of its own for the next sequence. */
void new_network(void);
void end_network(void);
#endif

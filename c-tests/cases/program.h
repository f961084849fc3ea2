/* What the programs (not the cases) share: arguments, addresses, and the table of a connection's tcp_info. */
#ifndef USERSOCK_CASES_PROGRAM_H
#define USERSOCK_CASES_PROGRAM_H
#include "common.h"
#include <stdarg.h>

static UNUSED void die(const char *format, ...)
{
    int e = errno;
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fprintf(stderr, " (%s)\n", strerror(e));
    exit(1);
}

/* Takes `--config STR` off the front, if it is there, and starts the stack; without it USERSOCK_CONFIG decides. */
static UNUSED int start_stack(int argc, char **argv, int i)
{
    const char *config = NULL;
    if (i + 1 < argc && strcmp(argv[i], "--config") == 0) {
        config = argv[i + 1];
        i += 2;
    }
    if (usk_init(config) == -1)
        die("the stack does not start with %s", config ? config : "its default");
    signal(SIGPIPE, SIG_IGN);
    return i;
}

/* A numeric address and port; ends the program when one is neither IPv4 nor IPv6, or no port. */
static UNUSED struct addr parse_addr(const char *text, const char *port)
{
    struct addr a;
    memset(&a, 0, sizeof a);
    char *end;
    errno = EINVAL;
    unsigned long p = strtoul(port, &end, 10);
    if (*port == 0 || *end || p > 65535)
        die("not a port: %s", port);
    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons((uint16_t)p);
        a.len = sizeof a.in;
    } else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)p);
        a.len = sizeof a.in6;
    } else {
        errno = EINVAL;
        die("not an address: %s", text);
    }
    return a;
}

/* All of the bytes, or -1. */
static UNUSED int write_all(int fd, const void *buf, size_t n, int flags)
{
    for (size_t off = 0; off < n;) {
        ssize_t r = usk_send(fd, (const char *)buf + off, n - off, flags | MSG_NOSIGNAL);
        if (r == -1 && errno == EINTR)
            continue;
        if (r == -1)
            return -1;
        off += (size_t)r;
    }
    return 0;
}

static UNUSED void print_tcp_info(FILE *out, const struct tcp_info *t)
{
    static const char *states[] = {"?",          "ESTABLISHED", "SYN_SENT",   "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
                                   "TIME_WAIT",  "CLOSE",       "CLOSE_WAIT", "LAST_ACK", "LISTEN",    "CLOSING"};
    fprintf(out, "  %-24s %s\n", "state", t->tcpi_state < COUNT(states) ? states[t->tcpi_state] : "?");
    struct {
        const char *name;
        unsigned value;
        const char *unit;
    } rows[] = {
        {"rtt", t->tcpi_rtt, "us"},
        {"rttvar", t->tcpi_rttvar, "us"},
        {"rto", t->tcpi_rto, "us"},
        {"ato", t->tcpi_ato, "us"},
        {"snd_mss", t->tcpi_snd_mss, "bytes"},
        {"rcv_mss", t->tcpi_rcv_mss, "bytes"},
        {"advmss", t->tcpi_advmss, "bytes"},
        {"pmtu", t->tcpi_pmtu, "bytes"},
        {"snd_cwnd", t->tcpi_snd_cwnd, "segments"},
        {"snd_ssthresh", t->tcpi_snd_ssthresh, "segments"},
        {"rcv_space", t->tcpi_rcv_space, "bytes"},
        {"rcv_ssthresh", t->tcpi_rcv_ssthresh, "bytes"},
        {"unacked", t->tcpi_unacked, "segments"},
        {"sacked", t->tcpi_sacked, "segments"},
        {"lost", t->tcpi_lost, "segments"},
        {"retrans", t->tcpi_retrans, "segments"},
        {"total_retrans", t->tcpi_total_retrans, "segments"},
        {"reordering", t->tcpi_reordering, "segments"},
        {"snd_wscale", t->tcpi_snd_wscale, "bits"},
        {"rcv_wscale", t->tcpi_rcv_wscale, "bits"},
        {"timestamps", !!(t->tcpi_options & TCPI_OPT_TIMESTAMPS), ""},
        {"sack", !!(t->tcpi_options & TCPI_OPT_SACK), ""},
        {"window scaling", !!(t->tcpi_options & TCPI_OPT_WSCALE), ""},
        {"ecn", !!(t->tcpi_options & TCPI_OPT_ECN), ""},
    };
    for (int i = 0; i < COUNT(rows); i++)
        fprintf(out, "  %-24s %u %s\n", rows[i].name, rows[i].value, rows[i].unit);
}
#endif

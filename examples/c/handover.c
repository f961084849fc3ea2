/* A server whose connection moves from one process to the next without the peer noticing (TCP_REPAIR).
 *
 *   cc -o handover handover.c $(pkg-config --cflags --libs usersock)
 *   export USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24
 *   ./handover serve 10.0.0.2 7 FILE COUNT
 *   ./handover resume FILE [COUNT]
 *
 * A request is a line with a number, the answer is as many letters. After COUNT requests the process writes its
 * connection into FILE, with what is unread, not acknowledged and not sent, and ends; the next one goes on from there,
 * in a stack of its own with the same address. Until it has, no packet of the peer may reach that address, or it would
 * be answered by a reset: docs/repair.md says how. From the kernel's side of tun0: nc 10.0.0.2 7. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <usersock.h>

enum { SEND_BUFFER = 1 << 18, RECV_QUEUE = 1 << 20, SEND_QUEUE = 1 << 20 };

/* All there is of a connection; FILE has it and then the bytes of both queues. */
struct image {
    struct sockaddr_storage local, peer;
    socklen_t len;
    uint32_t recv_seq, send_seq; /* where the queues end */
    int unread, unacknowledged, unsent;
    uint32_t timestamp, mss;
    struct tcp_info info;
    struct tcp_repair_window window;
    uint32_t letters; /* the program's own state: how many it has sent */
};

static char unread[RECV_QUEUE], unacknowledged[SEND_QUEUE];

static void fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "handover: %s: %s\n", what, *why ? why : strerror(errno));
    exit(1);
}

static void must(int result, const char *what)
{
    if (result == -1)
        fail(what);
}

static void set(int fd, int name, int value, const char *what)
{
    must(usk_setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value), what);
}

static void get(int fd, int name, void *value, socklen_t len, const char *what)
{
    must(usk_getsockopt(fd, IPPROTO_TCP, name, value, &len), what);
}

/* ---- the connection -------------------------------------------------------------------------------------------- */

/* Where a queue ends, and a copy of the `len` bytes in it. */
static uint32_t look(int fd, int queue, char *bytes, int len)
{
    uint32_t seq;
    set(fd, TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE");
    get(fd, TCP_QUEUE_SEQ, &seq, sizeof seq, "TCP_QUEUE_SEQ");
    if (len > 0 && usk_recv(fd, bytes, (size_t)len, MSG_PEEK | MSG_DONTWAIT) != len)
        fail("reading a queue");
    return seq;
}

static void take_out(int fd, uint32_t letters, const char *file)
{
    struct image m = { .len = sizeof m.local, .letters = letters };
    set(fd, TCP_REPAIR, TCP_REPAIR_ON, "TCP_REPAIR");
    must(usk_getsockname(fd, (struct sockaddr *)&m.local, &m.len), "getsockname");
    must(usk_getpeername(fd, (struct sockaddr *)&m.peer, &m.len), "getpeername");
    get(fd, TCP_INFO, &m.info, sizeof m.info, "TCP_INFO");
    if (m.info.tcpi_state != TCP_ESTABLISHED) {
        errno = ENOTCONN;
        fail("the connection is being closed");
    }
    get(fd, TCP_MAXSEG, &m.mss, sizeof m.mss, "TCP_MAXSEG");
    get(fd, TCP_TIMESTAMP, &m.timestamp, sizeof m.timestamp, "TCP_TIMESTAMP");
    get(fd, TCP_REPAIR_WINDOW, &m.window, sizeof m.window, "TCP_REPAIR_WINDOW");
    must(usk_ioctl(fd, SIOCINQ, &m.unread), "SIOCINQ");
    must(usk_ioctl(fd, SIOCOUTQ, &m.unacknowledged), "SIOCOUTQ");
    must(usk_ioctl(fd, SIOCOUTQNSD, &m.unsent), "SIOCOUTQNSD");
    if (m.unread > RECV_QUEUE || m.unacknowledged > SEND_QUEUE) {
        errno = ENOBUFS;
        fail("a queue");
    }
    m.recv_seq = look(fd, TCP_RECV_QUEUE, unread, m.unread);
    m.send_seq = look(fd, TCP_SEND_QUEUE, unacknowledged, m.unacknowledged);
    must(usk_close(fd), "close"); /* in repair mode the peer hears nothing of it */

    FILE *f = fopen(file, "w");
    if (!f || fwrite(&m, sizeof m, 1, f) != 1 || fwrite(unread, 1, (size_t)m.unread, f) != (size_t)m.unread ||
        fwrite(unacknowledged, 1, (size_t)m.unacknowledged, f) != (size_t)m.unacknowledged || fclose(f) != 0)
        fail(file);
    printf("taken out: %d bytes unread, %d not acknowledged, %d of them not sent\n", m.unread, m.unacknowledged,
           m.unsent);
}

/* Fills a queue. */
static void put(int fd, int queue, const char *bytes, int len)
{
    set(fd, TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE");
    for (ssize_t n; len > 0; bytes += n, len -= (int)n)
        must((int)(n = usk_send(fd, bytes, (size_t)len, 0)), "filling a queue");
}

/* What the handshake had agreed on. */
static void put_options(int fd, const struct image *m)
{
    struct tcp_repair_opt opt[4];
    size_t n = 0;
    opt[n++] = (struct tcp_repair_opt){ TCPOPT_MAXSEG, m->mss };
    if (m->info.tcpi_options & TCPI_OPT_WSCALE) {
        uint32_t shifts = m->info.tcpi_snd_wscale | (uint32_t)m->info.tcpi_rcv_wscale << 16;
        opt[n++] = (struct tcp_repair_opt){ TCPOPT_WINDOW, shifts };
    }
    if (m->info.tcpi_options & TCPI_OPT_SACK)
        opt[n++] = (struct tcp_repair_opt){ TCPOPT_SACK_PERMITTED, 0 };
    if (m->info.tcpi_options & TCPI_OPT_TIMESTAMPS) {
        opt[n++] = (struct tcp_repair_opt){ TCPOPT_TIMESTAMP, 0 };
        set(fd, TCP_TIMESTAMP, (int)m->timestamp, "TCP_TIMESTAMP");
    }
    must(usk_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opt, (socklen_t)(n * sizeof *opt)), "TCP_REPAIR_OPTIONS");
}

static int put_in(const struct image *m)
{
    int fd = usk_socket(m->local.ss_family, SOCK_STREAM, 0), buffer = SEND_BUFFER;
    must(fd, "socket");
    must(usk_setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), "SO_SNDBUF");
    set(fd, TCP_REPAIR, TCP_REPAIR_ON, "TCP_REPAIR");
    set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE, "TCP_REPAIR_QUEUE");
    set(fd, TCP_QUEUE_SEQ, (int)(m->recv_seq - (uint32_t)m->unread), "TCP_QUEUE_SEQ");
    set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE, "TCP_REPAIR_QUEUE");
    set(fd, TCP_QUEUE_SEQ, (int)(m->send_seq - (uint32_t)m->unacknowledged), "TCP_QUEUE_SEQ");
    must(usk_bind(fd, (const struct sockaddr *)&m->local, m->len), "bind");
    must(usk_connect(fd, (const struct sockaddr *)&m->peer, m->len), "connect");
    put_options(fd, m);
    put(fd, TCP_RECV_QUEUE, unread, m->unread);
    int sent = m->unacknowledged - m->unsent;
    put(fd, TCP_SEND_QUEUE, unacknowledged, sent);
    must(usk_setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &m->window, sizeof m->window), "TCP_REPAIR_WINDOW");
    set(fd, TCP_REPAIR, TCP_REPAIR_OFF, "TCP_REPAIR"); /* asks the peer where it stands */
    for (ssize_t n; sent < m->unacknowledged; sent += (int)n)
        must((int)(n = usk_send(fd, unacknowledged + sent, (size_t)(m->unacknowledged - sent), 0)), "send");
    return fd;
}

/* ---- the server ------------------------------------------------------------------------------------------------ */

/* The next line's number, read byte by byte: what follows stays in the receive queue. 0: the peer has closed. */
static int request(int fd, long *number)
{
    char line[32] = { 0 };
    for (size_t n = 0; n < sizeof line - 1; n++) {
        ssize_t got = usk_recv(fd, line + n, 1, 0);
        must((int)got, "recv");
        if (got == 0)
            return 0;
        if (line[n] == '\n')
            break;
    }
    *number = strtol(line, NULL, 10);
    return 1;
}

static void answer(int fd, long number, uint32_t *letters)
{
    char buf[4096];
    while (number > 0) {
        size_t n = number < (long)sizeof buf ? (size_t)number : sizeof buf;
        for (size_t i = 0; i < n; i++)
            buf[i] = (char)('a' + (*letters + i) % 26);
        ssize_t sent = usk_send(fd, buf, n, MSG_NOSIGNAL);
        must((int)sent, "send");
        *letters += (uint32_t)sent;
        number -= sent;
    }
}

/* Serves `count` requests and takes the connection out; a negative count is none. */
static void serve(int fd, uint32_t letters, const char *file, long count)
{
    long number;
    for (; count != 0; count--) {
        if (!request(fd, &number)) {
            struct linger linger = { .l_onoff = 1, .l_linger = 5 };
            usk_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* the stack ends with the process */
            must(usk_close(fd), "close");
            printf("closed by the peer\n");
            return;
        }
        answer(fd, number, &letters);
    }
    take_out(fd, letters, file);
}

static int accept_one(const char *addr, const char *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
    int listener = usk_socket(AF_INET, SOCK_STREAM, 0), buffer = SEND_BUFFER;
    must(listener, "socket");
    must(usk_setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), "SO_SNDBUF");
    if (inet_pton(AF_INET, addr, &at.sin_addr) != 1)
        fail(addr);
    must(usk_bind(listener, (struct sockaddr *)&at, sizeof at), "bind");
    must(usk_listen(listener, 1), "listen");
    printf("listening on %s:%s\n", addr, port);
    int fd = usk_accept(listener, NULL, NULL);
    must(fd, "accept");
    return fd;
}

static int resume(const char *file, uint32_t *letters)
{
    struct image m;
    FILE *f = fopen(file, "r");
    if (!f || fread(&m, sizeof m, 1, f) != 1 || m.unread < 0 || m.unread > RECV_QUEUE || m.unacknowledged < 0 ||
        m.unacknowledged > SEND_QUEUE || fread(unread, 1, (size_t)m.unread, f) != (size_t)m.unread ||
        fread(unacknowledged, 1, (size_t)m.unacknowledged, f) != (size_t)m.unacknowledged)
        fail(file);
    fclose(f);
    int fd = put_in(&m);
    *letters = m.letters;
    printf("goes on\n");
    return fd;
}

int main(int argc, char **argv)
{
    uint32_t letters = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 6 && strcmp(argv[1], "serve") == 0) {
        int fd = accept_one(argv[2], argv[3]);
        serve(fd, letters, argv[4], atol(argv[5]));
    } else if ((argc == 3 || argc == 4) && strcmp(argv[1], "resume") == 0) {
        int fd = resume(argv[2], &letters);
        serve(fd, letters, argv[2], argc == 4 ? atol(argv[3]) : -1);
    } else {
        fprintf(stderr, "usage: handover serve ADDR PORT FILE COUNT | resume FILE [COUNT]\n");
        return 2;
    }
    return 0;
}

/*
 * loopback_demo FILE OUTFILE: sends FILE through one TCP connection over usersock's in-memory loopback to OUTFILE, server
 * and client in one process, and prints what TCP_INFO tells about the sending end. The demo's last way: it needs no
 * device, no namespace and no privilege. Exit status 0 when all bytes were written; comparing them is the caller's part.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <usersock.h>

enum { CHUNK = 128 * 1024, PORT = 8080 };

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "loopback_demo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in address(void)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(PORT)};

    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sin;
}

static void print_info(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    memset(&info, 0, sizeof(info));
    if (usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
        fail("getsockopt(TCP_INFO)");
    printf("  tcp_info (sending end)\n");
    printf("    state          %10u\n", (unsigned)info.tcpi_state);
    printf("    snd_mss        %10u bytes\n", info.tcpi_snd_mss);
    printf("    rcv_mss        %10u bytes\n", info.tcpi_rcv_mss);
    printf("    rtt            %10u us\n", info.tcpi_rtt);
    printf("    rttvar         %10u us\n", info.tcpi_rttvar);
    printf("    rto            %10u us\n", info.tcpi_rto);
    printf("    snd_cwnd       %10u segments\n", info.tcpi_snd_cwnd);
    printf("    snd_ssthresh   %10u segments\n", info.tcpi_snd_ssthresh);
    printf("    total_retrans  %10u segments\n", info.tcpi_total_retrans);
}

struct job {
    int listener;
    const char *path;
};

/* Serves one connection: the whole file, then the FIN. */
static void *serve(void *arg)
{
    const struct job *job = arg;
    static char buffer[CHUNK];
    FILE *file = fopen(job->path, "rb");
    size_t got;
    int fd;

    if (file == NULL)
        fail(job->path);
    fd = usk_accept(job->listener, NULL, NULL);
    if (fd < 0)
        fail("accept");
    while ((got = fread(buffer, 1, sizeof(buffer), file)) > 0) {
        size_t done = 0;

        while (done < got) {
            ssize_t sent = usk_send(fd, buffer + done, got - done, MSG_NOSIGNAL);

            if (sent < 0)
                fail("send");
            done += (size_t)sent;
        }
    }
    if (ferror(file))
        fail(job->path);
    fclose(file);
    if (usk_shutdown(fd, SHUT_WR) < 0)
        fail("shutdown");
    /* Returns when the client has read everything and closed. */
    if (usk_recv(fd, buffer, sizeof(buffer), 0) != 0)
        fail("recv at the end");
    print_info(fd);
    usk_close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    static char buffer[CHUNK];
    struct sockaddr_in sin = address();
    struct job job;
    pthread_t server;
    FILE *out;
    ssize_t got;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: loopback_demo FILE OUTFILE\n");
        return 2;
    }
    job.path = argv[1];
    out = fopen(argv[2], "wb");
    if (out == NULL)
        fail(argv[2]);
    job.listener = usk_socket(AF_INET, SOCK_STREAM, 0);
    if (job.listener < 0)
        fail("socket");
    if (usk_bind(job.listener, (struct sockaddr *)&sin, sizeof(sin)) < 0)
        fail("bind");
    if (usk_listen(job.listener, 1) < 0)
        fail("listen");
    errno = pthread_create(&server, NULL, serve, &job);
    if (errno != 0)
        fail("pthread_create");

    fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    if (usk_connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
        fail("connect");
    while ((got = usk_recv(fd, buffer, sizeof(buffer), 0)) > 0) {
        if (fwrite(buffer, 1, (size_t)got, out) != (size_t)got)
            fail(argv[2]);
    }
    if (got < 0)
        fail("recv");
    if (fclose(out) != 0)
        fail(argv[2]);
    if (usk_close(fd) < 0)
        fail("close");
    pthread_join(server, NULL);
    usk_close(job.listener);
    return 0;
}

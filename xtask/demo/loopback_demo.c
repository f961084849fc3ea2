/*
 * loopback_demo FILE OUTFILE: sends FILE through one TCP connection over usersock's in-memory loopback to OUTFILE,
 * server and client in one process, and prints what TCP_INFO tells about the sending end. The demo's last way: it needs
 * no device, no namespace and no privilege. Exit status 0 when all bytes were written; comparing them is the caller's
 * part.
 */
#include "program.h"

enum { CHUNK = 128 * 1024 };

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
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    size_t got;

    if (!file)
        die("%s", job->path);
    int fd = usk_accept(job->listener, NULL, NULL);
    if (fd == -1)
        die("accept");
    while ((got = fread(buffer, 1, sizeof buffer, file)) > 0)
        if (write_all(fd, buffer, got, 0) == -1)
            die("send");
    if (ferror(file))
        die("%s", job->path);
    fclose(file);
    if (usk_shutdown(fd, SHUT_WR) == -1)
        die("shutdown");
    /* Returns when the client has read everything and closed. */
    if (usk_recv(fd, buffer, sizeof buffer, 0) != 0)
        die("recv at the end");
    if (usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == -1)
        die("getsockopt(TCP_INFO)");
    printf("tcp_info of the sending end:\n");
    print_tcp_info(stdout, &info);
    usk_close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    static char buffer[CHUNK];

    if (argc != 3) {
        fprintf(stderr, "usage: loopback_demo FILE OUTFILE\n");
        return 2;
    }
    start_stack(argc, argv, 1);
    FILE *out = fopen(argv[2], "wb");
    if (!out)
        die("%s", argv[2]);

    struct addr a = parse_addr("127.0.0.1", "8080");
    struct job job = {.listener = usk_socket(AF_INET, SOCK_STREAM, 0), .path = argv[1]};
    if (job.listener == -1 || usk_bind(job.listener, &a.sa, a.len) == -1 || usk_listen(job.listener, 1) == -1)
        die("cannot listen");
    pthread_t server;
    errno = pthread_create(&server, NULL, serve, &job);
    if (errno != 0)
        die("pthread_create");

    int fd = usk_socket(AF_INET, SOCK_STREAM, 0);
    if (fd == -1 || usk_connect(fd, &a.sa, a.len) == -1)
        die("connect");
    ssize_t got;
    while ((got = usk_recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (fwrite(buffer, 1, (size_t)got, out) != (size_t)got)
            die("%s", argv[2]);
    if (got == -1)
        die("recv");
    if (fclose(out) != 0)
        die("%s", argv[2]);
    if (usk_close(fd) == -1)
        die("close");
    pthread_join(server, NULL);
    usk_close(job.listener);
    return 0;
}

/* SO_ATTACH_REUSEPORT_CBPF: a program chooses among the sockets of a SO_REUSEPORT group, which are numbered in the
 * order in which they joined; its errors and those of SO_DETACH_REUSEPORT_BPF, SO_ATTACH_BPF,
 * SO_ATTACH_REUSEPORT_EBPF. */
#include "common.h"
#include <linux/filter.h>
#include <poll.h>

static int attach(int fd, struct sock_filter *code, unsigned short n)
{
    struct sock_fprog p = {.len = n, .filter = code};
    return usk_setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &p, sizeof p);
}

/* A program that returns the same number for every packet. */
static int attach_number(int fd, unsigned number)
{
    struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, number)};
    return attach(fd, code, 1);
}

static int detach(int fd)
{
    int one = 1;
    return usk_setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &one, sizeof one);
}

static int member(int type, struct sockaddr_in *at)
{
    int fd = usk_socket(AF_INET, type, 0), one = 1;
    socklen_t len = sizeof *at;
    CHECK(fd >= 0);
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    CHECK(usk_bind(fd, (struct sockaddr *)at, len) == 0);
    CHECK(usk_getsockname(fd, (struct sockaddr *)at, &len) == 0);
    CHECK(type != SOCK_STREAM || usk_listen(fd, 16) == 0);
    return fd;
}

/* How many of eight flows reach each of three members; a datagram's first byte is its flow's number. */
static void flows(int type, const struct sockaddr_in *to, const int *fds, int *got)
{
    memset(got, 0, 3 * sizeof *got);
    for (char n = 0; n < 8; n++) {
        int client = usk_socket(AF_INET, type, 0);
        CHECK(usk_connect(client, (const struct sockaddr *)to, sizeof *to) == 0);
        CHECK(type == SOCK_STREAM || usk_send(client, &n, 1, 0) == 1);
        struct pollfd p[3];
        for (int i = 0; i < 3; i++)
            p[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        CHECK(usk_poll(p, 3, -1) == 1);
        for (int i = 0; i < 3; i++) {
            if (!(p[i].revents & POLLIN))
                continue;
            char c;
            got[i]++;
            CHECK(type == SOCK_STREAM ? usk_close(usk_accept(fds[i], NULL, NULL)) == 0
                                      : usk_recv(fds[i], &c, 1, 0) == 1);
        }
        CHECK(usk_close(client) == 0);
    }
}

static void chooses(int type)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[3], got[3];
    for (int i = 0; i < 3; i++)
        fds[i] = member(type, &at);
    for (int i = 0; i < 3; i++) {
        CHECK(attach_number(fds[1], i) == 0);
        flows(type, &at, fds, got);
        CHECK(got[i] == 8);
    }
    if (type == SOCK_DGRAM) {
        struct sock_filter by_payload[] = {
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 1),
            BPF_STMT(BPF_RET | BPF_A, 0),
        };
        CHECK(attach(fds[2], by_payload, 3) == 0);
        flows(type, &at, fds, got);
        CHECK(got[0] == 4 && got[1] == 4);
    }
    /* The last one takes the place of the first. */
    CHECK(attach_number(fds[1], 0) == 0);
    CHECK(usk_close(fds[0]) == 0);
    fds[0] = -1;
    flows(type, &at, fds, got);
    CHECK(got[2] == 8);
    CHECK(detach(fds[2]) == 0);
    ERR(detach(fds[1]), ENOENT);
    CHECK(usk_close(fds[1]) == 0 && usk_close(fds[2]) == 0);
}

static void errors(int type)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int plain = usk_socket(AF_INET, type, 0), one = 1, none = -1, zero = 0;
    ERR(attach_number(plain, 0), EINVAL);
    ERR(detach(plain), EINVAL);
    CHECK(usk_bind(plain, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(usk_setsockopt(plain, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    if (type == SOCK_DGRAM)
        ERR(attach_number(plain, 0), EINVAL); /* it receives already, alone */
    else
        CHECK(attach_number(plain, 0) == 0);
    int fd = member(type, &at);
    struct sock_filter no_end[] = {BPF_STMT(BPF_LD | BPF_IMM, 1)};
    ERR(attach(fd, no_end, 1), EINVAL);
    ERR(attach(fd, no_end, 0), EINVAL);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &one, 2), EINVAL);
    ERR(detach(fd), ENOENT);
    int by_fd[] = {SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF};
    for (int i = 0; i < 2; i++) {
        ERR(usk_setsockopt(fd, SOL_SOCKET, by_fd[i], &none, sizeof none), EBADF);
        ERR(usk_setsockopt(fd, SOL_SOCKET, by_fd[i], &zero, sizeof zero), EINVAL);
        ERR(usk_setsockopt(fd, SOL_SOCKET, by_fd[i], &none, 3), EINVAL);
    }
    CHECK(attach_number(fd, 0) == 0);
    CHECK(usk_setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &one, sizeof one) == 0);
    ERR(attach_number(fd, 0), EPERM);
    ERR(usk_setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &zero, sizeof zero), EPERM);
    CHECK(detach(fd) == 0);
    CHECK(usk_close(fd) == 0 && usk_close(plain) == 0);
}

int main(void)
{
    begin("reuseport_cbpf");
#ifndef ON_SERVER /* to which no program goes */
    errors(SOCK_STREAM);
    chooses(SOCK_STREAM);
#endif
    errors(SOCK_DGRAM);
    chooses(SOCK_DGRAM);
    return done();
}

/* A UDP server on all addresses of the stack that answers from the one it was asked at (IP_PKTINFO), in capitals.
 *
 *   cc -o udp_pktinfo udp_pktinfo.c $(pkg-config --cflags --libs usersock)
 *   USERSOCK_CONFIG=tun=tun0,addr=10.0.0.2/24,addr=10.0.0.3/24 ./udp_pktinfo 7 [DATAGRAMS]
 *
 * and, from the kernel's side of tun0: echo hello | nc -u 10.0.0.3 7. Ends after DATAGRAMS, or never. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <usersock.h>

static int fail(const char *what)
{
    const char *why = usk_config_error();
    fprintf(stderr, "udp_pktinfo: %s: %s\n", what, *why ? why : strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: udp_pktinfo PORT [DATAGRAMS]\n");
        return 2;
    }
    long left = argc > 2 ? atol(argv[2]) : -1;
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])) };
    int fd = usk_socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    if (fd == -1 || usk_setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) == -1 ||
        usk_bind(fd, (struct sockaddr *)&any, sizeof any) == -1)
        return fail("socket");
    printf("listening on port %s\n", argv[1]);
    fflush(stdout);

    while (left != 0) {
        char data[65536];
        union {
            char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
            struct cmsghdr align;
        } control;
        struct sockaddr_in peer;
        struct iovec iov = { data, sizeof data };
        struct msghdr msg = { .msg_name = &peer,
                              .msg_namelen = sizeof peer,
                              .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
        ssize_t n = usk_recvmsg(fd, &msg, 0);
        if (n == -1)
            return fail("recvmsg");
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (!c || c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
            continue;
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(c), sizeof info);
        char at[INET_ADDRSTRLEN], from[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &info.ipi_addr, at, sizeof at);
        inet_ntop(AF_INET, &peer.sin_addr, from, sizeof from);
        printf("%zd bytes from %s at %s\n", n, from, at);
        fflush(stdout);

        for (ssize_t i = 0; i < n; i++)
            data[i] = (char)toupper((unsigned char)data[i]);
        /* Sent, the message says the source address (ipi_spec_dst); the interface is the route's to choose. */
        info.ipi_spec_dst = info.ipi_addr;
        info.ipi_ifindex = 0;
        memcpy(CMSG_DATA(c), &info, sizeof info);
        iov.iov_len = (size_t)n;
        if (usk_sendmsg(fd, &msg, 0) != n)
            return fail("sendmsg");
        left -= left > 0;
    }
    usk_close(fd);
    return 0;
}

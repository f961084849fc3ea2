/* Extension headers of IPv6: two of them, their options, and a socket to use them on. */
#ifndef USERSOCK_CASES_HEADERS_H
#define USERSOCK_CASES_HEADERS_H

#include "common.h"

/* An unknown option that is skipped (0x1e), and PadN. */
static const unsigned char HOP[8] = {0, 0, 0x1e, 2, 0xaa, 0xbb, 1, 0}, DST[8] = {0, 0, 0x1e, 2, 0xcc, 0xdd, 1, 0};

static UNUSED int set(int fd, int name, const void *v, socklen_t n)
{
    return usk_setsockopt(fd, SOL_IPV6, name, v, n);
}

static UNUSED int get(int fd, int name, void *v, socklen_t room)
{
    return usk_getsockopt(fd, SOL_IPV6, name, v, &room) < 0 ? -1 : (int)room;
}

static UNUSED struct sockaddr_in6 own_name(int fd)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof a;
    CHECK(usk_bind(fd, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(usk_getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    return a;
}

#endif

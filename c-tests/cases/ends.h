/* A listener, a client with keys for one another, and what is accepted: for TCP-MD5 and TCP-AO. */
#ifndef USERSOCK_CASES_ENDS_H
#define USERSOCK_CASES_ENDS_H

#include "common.h"

struct ends {
    int lis, c, s;
};

/* Connects the non-blocking client to its listener at `a`; `s` stays -1 when it does not connect. Only that nothing
 * comes is waited for a limited time. */
static UNUSED void open_ends(struct ends *e, const struct sockaddr_storage *a, socklen_t len, bool connects)
{
    ERR(usk_connect(e->c, (const struct sockaddr *)a, len), EINPROGRESS);
    struct pollfd p = {.fd = e->c, .events = POLLOUT};
    if (usk_poll(&p, 1, connects ? -1 : 200) != 1)
        return;
    EQ(p.revents, POLLOUT);
    e->s = usk_accept(e->lis, NULL, NULL);
    CHECK(e->s >= 0);
    CHECK(usk_fcntl(e->c, F_SETFL, 0) == 0);
}

/* 300,000 bytes arrive as they were sent. */
static UNUSED void crosses(int from, int to)
{
    static char data[300000], back[sizeof data];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = i * 7 ^ i >> 9;
    for (size_t sent = 0, got = 0; got < sizeof data;) {
        ssize_t n = sent < sizeof data ? usk_send(from, data + sent, sizeof data - sent, MSG_DONTWAIT) : 0;
        sent += n > 0 ? n : 0;
        n = usk_recv(to, back + got, sizeof back - got, 0);
        CHECK(n > 0);
        got += n > 0 ? n : 0;
    }
    CHECK(memcmp(data, back, sizeof data) == 0);
}

static UNUSED void end(struct ends e)
{
    CHECK(usk_close(e.lis) == 0 && usk_close(e.c) == 0);
    if (e.s >= 0)
        CHECK(usk_close(e.s) == 0);
}

#endif

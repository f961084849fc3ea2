/* Calls that wait: on a connection without data, on one whose peer reads nothing, on a listener, and on an epoll set of
 * the first. For the cases about signals. */
#ifndef USERSOCK_CASES_WAITS_H
#define USERSOCK_CASES_WAITS_H

#include "common.h"

static int tcp[2], full_tcp[2], listen_fd, epoll_fd;
static char byte;
static struct iovec one = {.iov_base = &byte, .iov_len = 1};

static long op_recv(void) { return usk_recv(tcp[0], &byte, 1, 0); }
static long op_recvmsg(void)
{
    struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1};
    return usk_recvmsg(tcp[0], &m, 0);
}
static long op_read(void) { return usk_read(tcp[0], &byte, 1); }
static long op_send(void) { return usk_send(full_tcp[0], "x", 1, MSG_NOSIGNAL); }
static long op_poll(void)
{
    struct pollfd p = {.fd = tcp[0], .events = POLLIN};
    return usk_poll(&p, 1, -1);
}
static long op_select(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(tcp[0], &set);
    return usk_select(tcp[0] + 1, &set, NULL, NULL, NULL);
}
static long op_epoll_wait(void)
{
    struct epoll_event e;
    return usk_epoll_wait(epoll_fd, &e, 1, -1);
}

static char block[65536];

static void refill(void) { (void)fill_up(full_tcp[0]); }

static void open_waits(void)
{
    tcp_pair(AF_INET, tcp);
    tcp_pair(AF_INET, full_tcp);
    refill();
    listen_fd = listener(local(AF_INET), 8);
    epoll_fd = (int)OK(usk_epoll_create1(0));
    struct epoll_event e = {.events = EPOLLIN};
    OK(usk_epoll_ctl(epoll_fd, EPOLL_CTL_ADD, tcp[0], &e));
}

#endif

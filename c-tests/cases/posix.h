/* A program that knows nothing of usersock, but for one line: it is built with posix.h as the last header. */
#ifndef USERSOCK_CASES_POSIX_H
#define USERSOCK_CASES_POSIX_H
#include "common.h"
#include <ifaddrs.h>
#include <sys/sendfile.h>
#ifdef UNMODIFIED
#define IS_OURS(fd) true
#else
#define IS_OURS(fd) (usk_is_ours(fd) == 1)
#endif
#endif

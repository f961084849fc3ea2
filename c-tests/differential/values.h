/* What the calls are given, from text: socket addresses, option values, control messages, data. The texts are what a
 * minimised sequence shows, so this file is part of the program that is printed for one. Beside: show.h, calls.h. */
#ifndef DIFFERENTIAL_VALUES_H
#define DIFFERENTIAL_VALUES_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* How a call is spelled: through the table of the side that runs (sys.c), or, in a printed program, directly. */
#ifndef SYS
#ifdef USERSOCK
#include "usersock.h"
#define SYS(f) usk_##f
#else
#define SYS(f) f
#endif
#endif

#define UNUSED __attribute__((unused))
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define SLOTS 8
/* The length that belongs to the value. */
#define EXACT (-100)
/* More than any buffer here needs, so that a wrong length is seen and not crashed on. */
#define ROOM 70000

/* Names that the C library's headers may be too old for, or have in headers that exclude others. */
#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif
#ifndef IP_PROTOCOL
#define IP_PROTOCOL 52
#endif
#ifndef MSG_PROBE
#define MSG_PROBE 0x10
#endif
#define ICMP_FILTER 1
#ifndef ICMPV6_FILTER
#define ICMPV6_FILTER 1
#endif
/* Of SOL_RAW and SOL_IPV6. */
#ifndef IPV6_HDRINCL
#define IPV6_HDRINCL 36
#endif
#define UNKNOWN_OPTION 999
#define IPPROTO_NONE_OF_ALL 77

/* The descriptor of each slot; -1: no socket. */
static int fds[SLOTS] UNUSED;
/* All that were opened. */
static int opened[128] UNUSED, opened_count UNUSED;
/* What of the bytes that a slot's socket receives a stack chooses, and is not compared: the identifier and checksum of
 * an ICMP message, the identification and checksum of an IP header, of a raw socket of IPv4. */
enum hidden { HIDES_NOTHING, HIDES_ICMP = 1, HIDES_IP = 2 };
static int hides[SLOTS] UNUSED;

/* The descriptor that a slot's number stands for: negative ones are no sockets. */
static UNUSED int fd_of(int slot)
{
    if (slot == -1)
        return -1;
    if (slot == -2)
        return 1000;
    return fds[slot % SLOTS];
}

/* Notes a descriptor that is open at the end, if no call closes it. */
static UNUSED void keep(int fd)
{
    for (int i = 0; i < opened_count; i++)
        if (opened[i] == fd)
            return;
    if (opened_count < COUNT(opened))
        opened[opened_count++] = fd;
}

static UNUSED void set_slot(int slot, int fd)
{
    fds[slot % SLOTS] = fd;
    keep(fd);
}

/* An address no program has memory at. */
static UNUSED void *bad_pointer(void)
{
    return (void *)16;
}

/* Bytes from words: iN an int, bN a byte, lN a 64-bit integer, aA.B.C.D and 6ADDR addresses, xHEX, sTEXT. */
static UNUSED size_t bytes_of(const char *spec, unsigned char *out, size_t room)
{
    size_t n = 0;
    char copy[512], *save = NULL;
    snprintf(copy, sizeof copy, "%s", spec);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        unsigned char part[256];
        size_t len = 0;
        if (*w == 'i') {
            int v = (int)strtoll(w + 1, NULL, 0);
            memcpy(part, &v, len = sizeof v);
        } else if (*w == 'l') {
            long long v = strtoll(w + 1, NULL, 0);
            memcpy(part, &v, len = sizeof v);
        } else if (*w == 'b') {
            part[0] = (unsigned char)strtol(w + 1, NULL, 0);
            len = 1;
        } else if (*w == 'a') {
            inet_pton(AF_INET, w + 1, part);
            len = 4;
        } else if (*w == '6') {
            inet_pton(AF_INET6, w + 1, part);
            len = 16;
        } else if (*w == 's') {
            len = strlen(w + 1);
            memcpy(part, w + 1, len);
        } else if (*w == 'x') {
            for (const char *h = w + 1; h[0] && h[1]; h += 2) {
                unsigned byte = 0;
                sscanf(h, "%2x", &byte);
                part[len++] = (unsigned char)byte;
            }
        }
        if (n + len > room)
            break;
        memcpy(out + n, part, len);
        n += len;
    }
    return n;
}

struct name {
    struct sockaddr *sa; /* NULL, a bad pointer, or memory that the next name takes */
    socklen_t len;
};

/* A name from "1.2.3.4:5", "[::1]:5", "[fe80::1%1]:5", "unspec", "unspec 1.2.3.4:5", "family N", "own N" (getsockname
 * of slot N), "peer N" (getpeername), "null" or "bad". */
static UNUSED struct name name_of(const char *text, int len)
{
    static struct sockaddr_storage at;
    struct sockaddr_in *in = (struct sockaddr_in *)&at;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&at;
    struct name n = {(struct sockaddr *)&at, sizeof *in};
    char host[64] = "";
    unsigned port = 0, scope = 0;
    int slot;
    memset(&at, 0, sizeof at);
    if (strcmp(text, "null") == 0) {
        n.sa = NULL;
        n.len = 0;
    } else if (strcmp(text, "bad") == 0) {
        n.sa = bad_pointer();
    } else if (sscanf(text, "own %d", &slot) == 1) {
        n.len = sizeof at;
        if (SYS(getsockname)(fd_of(slot), n.sa, &n.len) == -1)
            n.len = sizeof *in;
    } else if (sscanf(text, "peer %d", &slot) == 1) {
        n.len = sizeof at;
        if (SYS(getpeername)(fd_of(slot), n.sa, &n.len) == -1)
            n.len = sizeof *in;
    } else if (sscanf(text, "family %d", &slot) == 1) {
        in->sin_family = (sa_family_t)slot;
    } else if (sscanf(text, "[%63[^]%]%%%u]:%u", host, &scope, &port) == 3 ||
               (scope = 0, sscanf(text, "[%63[^]]]:%u", host, &port) == 2)) {
        in6->sin6_family = AF_INET6;
        inet_pton(AF_INET6, host, &in6->sin6_addr);
        in6->sin6_port = htons((uint16_t)port);
        in6->sin6_scope_id = scope;
        n.len = sizeof *in6;
    } else if (sscanf(text, "unspec %63[^:]:%u", host, &port) == 2 || sscanf(text, "%63[^:]:%u", host, &port) == 2) {
        in->sin_family = strncmp(text, "unspec", 6) == 0 ? AF_UNSPEC : AF_INET;
        inet_pton(AF_INET, host, &in->sin_addr);
        in->sin_port = htons((uint16_t)port);
    }
    if (len != EXACT)
        n.len = (socklen_t)len;
    return n;
}

/* A buffer's bytes, counted on from call to call so that lost, repeated and exchanged ones are seen. */
static unsigned data_next UNUSED;

static UNUSED unsigned char *data(const char *form, int bytes)
{
    static unsigned char buf[ROOM];
    if (strcmp(form, "null") == 0)
        return NULL;
    if (strcmp(form, "bad") == 0)
        return bad_pointer();
    for (int i = 0; i < bytes && i < ROOM; i++)
        buf[i] = (unsigned char)(data_next++ * 167 >> 3);
    /* "icmp T": the header of an ICMP message of type T with identifier and checksum 0, sequence number 7. */
    int type;
    if (sscanf(form, "icmp %d", &type) == 1) {
        memset(buf, 0, 8);
        buf[0] = (unsigned char)type;
        buf[7] = 7;
    }
    /* "ip P": an IPv4 header of protocol P to 127.0.0.1, for the kernel to complete; "ip P N" with N words. */
    int protocol, words = 5;
    if (sscanf(form, "ip %d %d", &protocol, &words) >= 1) {
        static const unsigned char to[4] = {127, 0, 0, 1};
        memset(buf, 0, 20);
        buf[0] = (unsigned char)(0x40 | words);
        buf[8] = 64;
        buf[9] = (unsigned char)protocol;
        memcpy(buf + 16, to, sizeof to);
    }
    return buf;
}

/* The files of the sequence, made when they are first named, of the kernel on both sides: two of bytes, the second of
 * many, and two pipes, the second a small one. */
static int files_of_bytes[2] UNUSED = {-1, -1}, pipes[2][2] UNUSED = {{-1, -1}, {-1, -1}};
#define BIG 100000
#define SMALL_PIPE 4096

static UNUSED int file_of_bytes(int size, int *file)
{
    static unsigned char bytes[BIG];
    if (*file >= 0)
        return *file;
    for (int i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i + i / 251 + 100);
    *file = memfd_create("bytes", MFD_CLOEXEC);
    if (pwrite(*file, bytes, (size_t)size, 0) == size)
        keep(*file);
    return *file;
}

static UNUSED int pipe_end(bool small, bool out)
{
    int *ends = pipes[small];
    if (ends[0] < 0 && pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0) {
        if (small)
            fcntl(ends[0], F_SETPIPE_SZ, SMALL_PIPE);
        keep(ends[0]);
        keep(ends[1]);
    }
    return ends[out];
}

/* An end of a transfer: "slot N", "file" (of 64 bytes), "big" (one of 100,000), "out" and "in" (where a pipe is written
 * and read), "small out" and "small in" (one of a page), "none". */
static UNUSED int end_of(const char *text)
{
    int slot;
    if (sscanf(text, "slot %d", &slot) == 1)
        return fd_of(slot);
    if (strcmp(text, "file") == 0)
        return file_of_bytes(64, &files_of_bytes[0]);
    if (strcmp(text, "big") == 0)
        return file_of_bytes(BIG, &files_of_bytes[1]);
    if (strcmp(text, "none") == 0)
        return -1;
    return pipe_end(strncmp(text, "small", 5) == 0, strstr(text, "out") != NULL);
}

/* `bytes` at `base` as an iovec: "one", "three" (unequal parts, one of them empty), "none", "many" (more than a call
 * takes), "tail bad" (the second half is nowhere), "huge" (lengths whose sum is over what a call takes). */
static UNUSED size_t iov_of(const char *shape, unsigned char *base, int bytes, struct iovec **out)
{
    static struct iovec iov[1100];
    size_t n = (size_t)(bytes < 0 ? 0 : bytes), third = n / 3;
    *out = iov;
    memset(iov, 0, sizeof iov);
    iov[0] = (struct iovec){base, n};
    if (strcmp(shape, "none") == 0)
        return 0;
    if (strcmp(shape, "many") == 0)
        return 1025;
    if (strcmp(shape, "three") == 0) {
        iov[0].iov_len = third;
        iov[1] = (struct iovec){base, 0};
        iov[2] = (struct iovec){base ? base + third : base, n - third};
        return 3;
    }
    if (strcmp(shape, "tail bad") == 0) {
        iov[0].iov_len = third;
        iov[1] = (struct iovec){bad_pointer(), n - third};
        return 2;
    }
    if (strcmp(shape, "huge") == 0) {
        iov[1] = (struct iovec){base, (size_t)-1};
        return 2;
    }
    return 1;
}

/* Control messages from "LEVEL/TYPE:BYTES" parts joined by ";" (BYTES as `bytes_of`); "LEVEL/TYPE=N:BYTES" gives
 * cmsg_len N. Returns the length of all; "null" and "bad" are lengths without memory. */
static UNUSED size_t control_of(const char *spec, unsigned char **out)
{
    static unsigned char buf[2048];
    size_t at = 0;
    char copy[512], *save = NULL;
    memset(buf, 0, sizeof buf);
    *out = buf;
    if (strcmp(spec, "null") == 0 || strcmp(spec, "bad") == 0) {
        *out = strcmp(spec, "bad") == 0 ? bad_pointer() : NULL;
        return 64;
    }
    snprintf(copy, sizeof copy, "%s", spec);
    for (char *w = strtok_r(copy, ";", &save); w; w = strtok_r(NULL, ";", &save)) {
        struct cmsghdr *c = (struct cmsghdr *)(buf + at);
        unsigned char payload[256];
        int forced = -1;
        char *bytes = strchr(w, ':');
        if (!bytes)
            continue;
        *bytes++ = 0;
        if (sscanf(w, "%d/%d=%d", &c->cmsg_level, &c->cmsg_type, &forced) < 2)
            continue;
        size_t n = bytes_of(bytes, payload, sizeof payload);
        memcpy(CMSG_DATA(c), payload, n);
        c->cmsg_len = forced >= 0 ? (size_t)forced : CMSG_LEN(n);
        at += CMSG_SPACE(n);
    }
    return at;
}
#endif

/* Runs a program under a seccomp filter that ends who asks the kernel for a TCP socket, by SIGSYS. What has escaped the
 * shim cannot go on unnoticed then: `usersock run --strict` returns an error, which a program may take for an answer.
 * Above: tests/ladder. Linux: seccomp(2), socket(2). */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (field))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
/* The low word of an argument, on little-endian machines. */
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        EQUAL(ARCH, 0, 9), /* there are no 32-bit programs in the ladder */
        LOAD(offsetof(struct seccomp_data, nr)),
        EQUAL(__NR_io_uring_setup, 8, 0), /* rings make sockets without socket(2): refused, and programs do without */
        EQUAL(__NR_socket, 0, 8),
        LOAD(ARGUMENT(0)),
        EQUAL(AF_INET, 1, 0),
        EQUAL(AF_INET6, 0, 5),
        LOAD(ARGUMENT(1)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf), /* without SOCK_CLOEXEC and SOCK_NONBLOCK */
        EQUAL(SOCK_STREAM, 0, 2),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        RETURN(SECCOMP_RET_ERRNO | EPERM),
        RETURN(SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    if (argc < 2) {
        fprintf(stderr, "usage: strict PROGRAM ...\n");
        return 2;
    }
    /* Without privileges a filter needs PR_SET_NO_NEW_PRIVS. Root sets none, so that what it starts is as ever. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)) {
        fprintf(stderr, "strict: seccomp: %s\n", strerror(errno));
        return 125;
    }
    execvp(argv[1], argv + 1);
    fprintf(stderr, "strict: %s: %s\n", argv[1], strerror(errno));
    return 127;
}

/* Asks every option of a list, on every kind of socket, and prints what each call answers: a line a question. The test
 * `options` runs this program on the kernel's sockets and on ours and compares the lines. Standard input has an option
 * a line: level, number, name. */
#include "../cases/program.h"

struct kind {
    const char *name;
    int family, type, protocol;
};
static const struct kind kinds[] = {
    {"tcp4", AF_INET, SOCK_STREAM, 0},
    {"tcp6", AF_INET6, SOCK_STREAM, 0},
    {"udp4", AF_INET, SOCK_DGRAM, 0},
    {"udp6", AF_INET6, SOCK_DGRAM, 0},
    {"raw4", AF_INET, SOCK_RAW, 200},
    {"raw6", AF_INET6, SOCK_RAW, 200},
    {"icmp4", AF_INET, SOCK_RAW, IPPROTO_ICMP},
    {"icmp6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6},
};

/* What is set, each on a new socket. */
static const struct value {
    const char *name;
    int len;
    int words[2];
} values[] = {
    {"nothing", 0, {0, 0}}, {"byte 1", 1, {1, 0}}, {"3 bytes", 3, {1, 0}}, {"0", 4, {0, 0}},
    {"1", 4, {1, 0}},       {"-1", 4, {-1, 0}},    {"2", 4, {2, 0}},       {"300", 4, {300, 0}},
    {"1 0", 8, {1, 0}},
};

static int open_kind(const struct kind *k)
{
    int fd = usk_socket(k->family, k->type, k->protocol);
    if (fd < 0)
        die("socket %s", k->name);
    /* The kernel's default may be another than ours. */
    if (k->type == SOCK_STREAM)
        usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    return fd;
}

/* The errno, or the length and the bytes. */
static void show_get(int fd, int level, int name, socklen_t room)
{
    unsigned char buf[512];
    socklen_t len = room;
    memset(buf, 0, sizeof buf);
    if (usk_getsockopt(fd, level, name, buf, &len) == -1) {
        printf(" %s", errno_name(errno));
        return;
    }
    printf(" %u:", (unsigned)len);
    for (socklen_t i = 0; i < len && i < room; i++)
        printf("%02x", buf[i]);
}

static void ask(const struct kind *k, int level, int number, const char *name)
{
    static const socklen_t rooms[] = {0, 1, 3, 4, 8, 64, 256};
    printf("%s %s get", name, k->name);
    int fd = open_kind(k);
    for (unsigned i = 0; i < sizeof rooms / sizeof *rooms; i++)
        show_get(fd, level, number, rooms[i]);
    usk_close(fd);
    printf("\n");
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        const struct value *v = &values[i];
        fd = open_kind(k);
        int rc = usk_setsockopt(fd, level, number, v->words, (socklen_t)v->len);
        printf("%s %s set %s: %s", name, k->name, v->name, rc == -1 ? errno_name(errno) : "ok");
        if (rc == 0)
            show_get(fd, level, number, 16);
        printf("\n");
        usk_close(fd);
    }
}

int main(void)
{
    char name[64];
    int level, number;
    OK(usk_init(NULL));
    while (scanf("%d %d %63s", &level, &number, name) == 3)
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++)
            ask(&kinds[i], level, number, name);
    return 0;
}

/* Passes every MSG_ flag of a list to send and to recv, on connected sockets of each kind, and prints what is answered:
 * a line a question. Run as `walk.c` is. */
#include "../cases/program.h"

static const struct kind {
    const char *name;
    int family, type;
} kinds[] = {{"tcp4", AF_INET, SOCK_STREAM}, {"tcp6", AF_INET6, SOCK_STREAM}, {"udp4", AF_INET, SOCK_DGRAM},
             {"udp6", AF_INET6, SOCK_DGRAM}};

/* Two connected sockets over loopback. */
static void pair_of(const struct kind *k, int fds[2])
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    memset(&ss, 0, sizeof ss);
    ss.ss_family = (sa_family_t)k->family;
    if (k->family == AF_INET)
        ((struct sockaddr_in *)&ss)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&ss)->sin6_addr = in6addr_loopback;
    int server = usk_socket(k->family, k->type, 0);
    OK(usk_bind(server, (struct sockaddr *)&ss, k->family == AF_INET ? 16 : 28));
    OK(usk_getsockname(server, (struct sockaddr *)&ss, &len));
    fds[0] = usk_socket(k->family, k->type, 0);
    if (k->type == SOCK_STREAM)
        OK(usk_listen(server, 1));
    OK(usk_connect(fds[0], (struct sockaddr *)&ss, len));
    fds[1] = server;
    if (k->type == SOCK_STREAM) {
        fds[1] = usk_accept(server, NULL, NULL);
        usk_close(server);
    }
}

static void show(ssize_t n, int flags)
{
    if (n < 0)
        printf(" %s", errno_name(errno));
    else
        printf(" %zd/%x", n, flags);
}

static ssize_t receive(int fd, size_t room, int flags, int *out)
{
    char buf[16];
    struct iovec iov = {buf, room};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = usk_recvmsg(fd, &msg, flags | MSG_DONTWAIT);
    *out = msg.msg_flags;
    return n;
}

/* What a send says, what then can be read, and what is left. */
static void send_with(const struct kind *k, int flag, const char *name)
{
    int fds[2], out;
    pair_of(k, fds);
    printf("%s %s send:", name, k->name);
    show(usk_send(fds[0], "abc", 3, flag | MSG_NOSIGNAL), 0);
    if (flag != MSG_MORE)
        show(usk_send(fds[0], "de", 2, MSG_NOSIGNAL), 0);
    struct pollfd p = {fds[1], POLLIN | POLLPRI, 0};
    usk_poll(&p, 1, 50);
    printf(" poll %x", (unsigned)p.revents);
    ssize_t n = receive(fds[1], 16, 0, &out);
    show(n, out);
    n = receive(fds[1], 16, 0, &out);
    show(n, out);
    printf("\n");
    usk_close(fds[0]);
    usk_close(fds[1]);
}

/* What a receive says when there is something, into little room, and when there is nothing. */
static void receive_with(const struct kind *k, int flag, const char *name)
{
    int fds[2], out;
    pair_of(k, fds);
    printf("%s %s recv:", name, k->name);
    OK(usk_send(fds[0], "abc", 3, 0));
    struct pollfd p = {fds[1], POLLIN, 0};
    usk_poll(&p, 1, 1000);
    for (int i = 0; i < 3; i++) {
        ssize_t n = receive(fds[1], 2, flag, &out);
        show(n, out);
    }
    printf("\n");
    usk_close(fds[0]);
    usk_close(fds[1]);
}

int main(void)
{
    char name[64];
    int level, flag;
    OK(usk_init(NULL));
    while (scanf("%d %d %63s", &level, &flag, name) == 3)
        for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
            send_with(&kinds[i], flag, name);
            receive_with(&kinds[i], flag, name);
        }
    return 0;
}

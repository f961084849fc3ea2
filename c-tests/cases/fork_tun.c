/* fork(2) with the kernel as the peer, across a TUN device: a child that closes its copies, or makes any other call,
 * ends no connection and takes no packet of the parent. Runs in a network namespace of its own; makes the device
 * uskf. */
#include "common.h"
#include <sys/wait.h>

static int peer_listens, peer, conn;

/* The kernel's end: still open, no more to read than what is expected. */
static void peer_unharmed(void)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    char b;
    OK(getsockopt(peer, IPPROTO_TCP, TCP_INFO, &info, &len));
    EQ(info.tcpi_state, 1 /* ESTABLISHED */);
    ERR(recv(peer, &b, 1, MSG_DONTWAIT), EAGAIN);
}

/* Bytes both ways, each waited for: a FIN or RST sent before them would have arrived before them. */
static void exchange(int rounds)
{
    char b[8];
    for (int i = 0; i < rounds; i++) {
        send_all(conn, "ping", 4);
        EQ(recv(peer, b, 4, MSG_WAITALL), 4);
        EQ(send(peer, "pong", 4, MSG_NOSIGNAL), 4);
        EXPECT(conn, "pong");
    }
    peer_unharmed();
}

static void closes(int wait_for)
{
    (void)wait_for;
    OK(usk_close(conn));
}

static void shuts_down(int wait_for)
{
    (void)wait_for;
    ERR(usk_shutdown(conn, SHUT_RDWR), ENETDOWN);
    ERR(usk_send(conn, "x", 1, 0), ENETDOWN);
    ERR(usk_destroy(conn), ENETDOWN);
    struct linger reset = {1, 0};
    ERR(usk_setsockopt(conn, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), ENETDOWN);
    EQ(usk_dup2(conn, conn + 50), conn + 50);
    EQ(usk_dup2(0, conn), conn);
    OK(usk_close(conn + 50));
}

/* Receives as long as the parent exchanges bytes: it gets none of its packets. */
static void reads(int wait_for)
{
    struct pollfd p[2] = {{.fd = conn, .events = POLLIN}, {.fd = wait_for, .events = POLLIN}};
    char b;
    do {
        ERR(usk_recv(conn, &b, 1, 0), ENETDOWN);
        CHECK(usk_poll(p, 2, -1) >= 1);
        EQ(p[0].revents, POLLERR | POLLHUP);
    } while (p[1].revents == 0);
}

/* The device is the parent's: the configuration that names it fails, another one does not. */
static void own_stack(int wait_for)
{
    (void)wait_for;
    ERR(usk_socket(AF_INET, SOCK_STREAM, 0), EBUSY);
    OK(usk_init(""));
    int fd[2];
    tcp_pair(AF_INET, fd);
    send_all(fd[0], "own", 3);
    EXPECT(fd[1], "own");
    close_pair(fd);
}

/* Not under a leak checker, which would report memory that only the parent's threads' stacks refer to. */
#ifdef __SANITIZE_ADDRESS__
enum { WAYS_TO_END = 1 };
#else
enum { WAYS_TO_END = 2 };
#endif

static void in_a_child(void (*body)(int), bool at_exit)
{
    int p[2], status = 0;
    OK(pipe(p));
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        alarm(120);
        close(p[1]);
        body(p[0]);
        fflush(stdout);
        if (at_exit && !failures)
            exit(0);
        _exit(failures ? 1 : 0);
    }
    close(p[0]);
    exchange(200);
    close(p[1]);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
    exchange(10);
}

/* A child that lives on does not keep a device of its parent's: it can be made again. */
static void the_device_is_free(void)
{
    const char *config = "tun=uskg,addr=10.9.9.2/24";
    usk_stack_t *s = usk_stack_new(config);
    CHECK(s);
    int p[2], status = 0;
    OK(pipe(p));
    fflush(stdout);
    pid_t pid = (pid_t)OK(fork());
    if (pid == 0) {
        char b;
        close(p[1]);
        _exit(read(p[0], &b, 1) != 0);
    }
    usk_stack_free(s);
    /* A background thread may still be using the old one. */
    while (!(s = usk_stack_new(config)))
        CHECK(errno == EBUSY);
    usk_stack_free(s);
    close(p[0]);
    close(p[1]);
    EQ(waitpid(pid, &status, 0), pid);
    EQ(status, 0);
}

int main(void)
{
    setenv("USERSOCK_CONFIG", "tun=uskf,addr=10.9.8.2/24", 1);
    begin("fork_tun");
    CHECK(system("PATH=$PATH:/usr/sbin:/sbin ip addr add 10.9.8.1/24 dev uskf") == 0);
    struct addr a = at("10.9.8.1", 700);
    peer_listens = (int)OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(peer_listens, &a.sa, a.len));
    OK(listen(peer_listens, 1));
    conn = connected(SOCK_STREAM, a);
    peer = (int)OK(accept(peer_listens, NULL, NULL));
    exchange(10);
    void (*const bodies[])(int) = {closes, shuts_down, reads, own_stack};
    for (int i = 0; i < COUNT(bodies); i++)
        for (int at_exit = 0; at_exit < WAYS_TO_END; at_exit++)
            in_a_child(bodies[i], at_exit);
    the_device_is_free();
    OK(usk_close(conn));
    char b;
    EQ(recv(peer, &b, 1, 0), 0);
    return done();
}

/* A descriptor is closed while another thread waits for it: the call goes on with the socket, which ends with the call;
 * poll and select, which look the number up again, find nothing there. */
#include "common.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool started;
static pid_t thread_id;
static int fd;

struct call {
    long (*op)(void);
    long result;
    int error;
};

static void *body(void *arg)
{
    struct call *c = arg;
    pthread_mutex_lock(&lock);
    thread_id = (pid_t)syscall(SYS_gettid);
    started = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    errno = 0;
    c->result = c->op();
    c->error = errno;
    return NULL;
}

/* Begins a call in a thread, and waits until that sleeps. */
static pthread_t begin_call(struct call *c)
{
    started = false;
    pthread_t t = spawn(body, c);
    pthread_mutex_lock(&lock);
    while (!started)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    for (int asleep = 0; asleep < 20;) {
        poll(NULL, 0, 1);
        asleep = sleeps(thread_id) ? asleep + 1 : 0;
    }
    return t;
}

static char buf[8];
static short revents[2];
static int pipe_fd[2];

static long op_recv(void) { return usk_recv(fd, buf, sizeof buf, 0); }
static long op_accept(void) { return usk_accept(fd, NULL, NULL); }
static long op_poll(void)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    long n = usk_poll(&p, 1, -1);
    revents[0] = p.revents;
    return n;
}
static long op_poll_both(void)
{
    struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = pipe_fd[0], .events = POLLIN}};
    long n = usk_poll(p, 2, -1);
    revents[0] = p[0].revents;
    revents[1] = p[1].revents;
    return n;
}
static long op_select(void)
{
    fd_set in;
    FD_ZERO(&in);
    FD_SET(fd, &in);
    long n = usk_select(fd + 1, &in, NULL, NULL, NULL);
    revents[0] = FD_ISSET(fd, &in);
    return n;
}

static void calls_go_on(int family)
{
    int t[2];
    tcp_pair(family, t);
    fd = t[0];
    struct call c = {.op = op_recv};
    pthread_t thread = begin_call(&c);
    OK(usk_close(fd));
    send_all(t[1], "abc", 3);
    join(thread);
    EQ(c.result, 3);
    /* The socket has ended with the call. */
    EXPECT_EOF(t[1]);
    OK(usk_close(t[1]));

    struct addr a = local(family);
    fd = listener(a, 4);
    struct addr name = sock_name(fd);
    c = (struct call){.op = op_accept};
    thread = begin_call(&c);
    OK(usk_close(fd));
    int client = connected(SOCK_STREAM, name);
    join(thread);
    CHECK(c.result >= 0);
    send_all(client, "x", 1);
    EXPECT((int)c.result, "x");
    OK(usk_close((int)c.result));
    OK(usk_close(client));
    client = (int)OK(usk_socket(family, SOCK_STREAM, 0));
    ERR(usk_connect(client, &name.sa, name.len), ECONNREFUSED);
    OK(usk_close(client));
}

static void polls_look_again(int family)
{
    int t[2];
    tcp_pair(family, t);
    fd = t[0];
    struct call c = {.op = op_poll};
    pthread_t thread = begin_call(&c);
    OK(usk_close(fd));
    send_all(t[1], "x", 1);
    join(thread);
    EQ(c.result, 1);
    EQ(revents[0], POLLNVAL);
    OK(usk_close(t[1]));

    /* Another descriptor ends the wait. */
    tcp_pair(family, t);
    fd = t[0];
    c = (struct call){.op = op_poll_both};
    thread = begin_call(&c);
    OK(usk_close(fd));
    OK(write(pipe_fd[1], "x", 1));
    join(thread);
    EQ(c.result, 2);
    EQ(revents[0], POLLNVAL);
    EQ(revents[1], POLLIN);
    EQ(read(pipe_fd[0], buf, 1), 1);
    OK(usk_close(t[1]));

    /* The number refers to another file by then. */
    tcp_pair(family, t);
    fd = t[0];
    c = (struct call){.op = op_poll};
    thread = begin_call(&c);
    OK(write(pipe_fd[1], "x", 1));
    EQ(usk_dup2(pipe_fd[0], fd), fd);
    send_all(t[1], "y", 1);
    join(thread);
    EQ(c.result, 1);
    EQ(revents[0], POLLIN);
    EQ(usk_read(fd, buf, 1), 1);
    EQ(buf[0], 'x');
    OK(usk_close(fd));
    OK(usk_close(t[1]));

    tcp_pair(family, t);
    fd = t[0];
    c = (struct call){.op = op_select};
    thread = begin_call(&c);
    OK(usk_close(fd));
    send_all(t[1], "x", 1);
    join(thread);
    EQ(c.result, 1);
    EQ(revents[0], 1);
    OK(usk_close(t[1]));
}

int main(void)
{
    begin("close_elsewhere");
    OK(pipe(pipe_fd));
    calls_go_on(AF_INET);
    calls_go_on(AF_INET6);
    polls_look_again(AF_INET);
    polls_look_again(AF_INET6);
    return done();
}

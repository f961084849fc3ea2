/* A TCP beside the library's that does what it should not, and the corners of its table: nonsense from operations,
 * marks outside of the queue, calls from the wrong operation, changes of hand from within and against its will. Its own
 * socket breaks at most. In virtual time. */
#include "common.h"
#include <usersock/sim.h>
#include <usersock/tcp.h>

#define MS 1000000ULL
enum { BYTES = 120000, OWN = USK_TCP_OWN_OPTIONS };

/* What the operations do: set before a connection is made. */
static struct {
    int init, take, give, input, output, timer, getsockopt; /* what they return */
    int drop;           /* input drops each so many-th segment */
    int misuse;         /* ack and others make calls that must be refused */
    int mark_all;       /* ack marks everything lost, each time */
    int takes_back;     /* and takes it back */
    int mark_sent;      /* output would mark everything lost after it was sent, and send again what is not lost */
    int sends;          /* output: sends by the calls */
    int breaks;         /* ack calls usk_break */
    int waits;          /* release makes calls that would wait for its own socket */
    int arms;           /* init arms timer 2 for now, and timer does again, so often */
    int fd;             /* the socket, for calls from within; -1: closed */
} do_;
static struct {
    int init, release, input, ack, output, rto, own, dropped;
} did;

static usk_tcp_t tcp_of(usk_tcp_conn_t *c)
{
    usk_tcp_t tp;
    EQ(usk_tcp_read(c, &tp, sizeof tp), (long)sizeof tp);
    return tp;
}

/* Sending belongs to output and timer. */
static void may_not_send(usk_tcp_conn_t *c)
{
    EQ(usk_tcp_retransmit(c, tcp_of(c).snd_una, 1), -EPERM);
    EQ(usk_tcp_send_new(c, 1), -EPERM);
    EQ(usk_tcp_enter_loss(c), -EPERM);
}

static void misuse(usk_tcp_conn_t *c)
{
    usk_tcp_t tp = tcp_of(c);
    usk_tcp_seg_t s;
    uint32_t una = tp.snd_una, nxt = tp.snd_nxt;
    EQ(usk_tcp_mark_lost(c, una - 1, nxt), -EINVAL);
    EQ(usk_tcp_mark_lost(c, una, nxt + 1), -EINVAL);
    EQ(usk_tcp_mark_lost(c, nxt, nxt), -EINVAL);
    EQ(usk_tcp_mark_lost(c, nxt, una), -EINVAL);
    EQ(usk_tcp_mark_lost(c, una + 0x80000000u, nxt + 0x80000000u), -EINVAL);
    EQ(usk_tcp_clear_lost(c, nxt + 5, nxt + 9), -EINVAL);
    EQ(usk_tcp_mark_lost(NULL, una, nxt), -EINVAL);
    EQ(usk_tcp_seg(c, nxt, &s, sizeof s), 0);
    EQ(usk_tcp_seg(c, una, NULL, sizeof s), una == nxt ? 0 : -EFAULT);
    EQ(usk_tcp_seg(NULL, una, &s, sizeof s), -EINVAL);
    EQ(usk_tcp_read(c, NULL, sizeof tp), -EFAULT);
    EQ(usk_tcp_arm(c, USK_TCP_TIMERS, 1), -EINVAL);
    EQ(usk_tcp_cancel(c, UINT32_MAX), -EINVAL);
    may_not_send(c);
    usk_tcp_conn_t forged = { .data = c->data };
    EQ(usk_tcp_set_rto(&forged, 1), -EINVAL);
    /* Writes to what was read are of no effect. */
    tp.snd_cwnd = 1000000;
    CHECK(tcp_of(c).snd_cwnd < 1000000);
    /* The connection does not change hands from within an operation of it. */
    if (do_.fd >= 0)
        ERR(usk_setsockopt(do_.fd, IPPROTO_TCP, USK_TCP_STACK, "default", 7), EDEADLK);
}

static int bad_init(usk_tcp_conn_t *c)
{
    did.init++;
    if (do_.arms)
        EQ(usk_tcp_arm(c, 2, 0), 0);
    may_not_send(c);
    for (int i = 0; i < 64; i++)
        EQ(((unsigned char *)c->data)[i], 0);
    memset(c->data, 7, 64);
    return do_.init;
}
static void bad_release(usk_tcp_conn_t *c)
{
    usk_tcp_t tp;
    did.release++;
    EQ(((unsigned char *)c->data)[63], 7);
    EQ(usk_tcp_read(c, &tp, sizeof tp), -EINVAL);
    EQ(usk_tcp_mark_lost(c, 0, 1), -EINVAL);
    EQ(usk_tcp_arm(c, 0, 1), -EINVAL);
    if (do_.waits) {
        usk_owned_t o;
        int value = 0;
        do_.waits = 0;
        EQ(usk_lock_sock(c->sk, &o), -EDEADLK);
        ERR(usk_setsockopt(do_.fd, IPPROTO_TCP, USK_TCP_STACK, "bad", 3), EDEADLK);
        ERR(usk_setsockopt(do_.fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), EDEADLK);
        ERR(usk_send(do_.fd, "x", 1, MSG_NOSIGNAL), EDEADLK);
    }
}
static int bad_handoff_ok(usk_tcp_conn_t *c, int how)
{
    CHECK((how == USK_TCP_TAKE) == (c->data == NULL));
    return how == USK_TCP_TAKE ? do_.take : do_.give;
}
static int bad_input(usk_tcp_conn_t *c, const usk_tcp_input_t *in)
{
    (void)c;
    CHECK(in->flags & 16);
    CHECK(in->has_timestamps == 1 && in->sacks <= 4);
    if (do_.drop && ++did.input % do_.drop == 0) {
        did.dropped++;
        return USK_TCP_DONE;
    }
    return do_.input;
}
static void bad_ack(usk_tcp_conn_t *c, const usk_tcp_ack_t *ack)
{
    usk_tcp_t tp = tcp_of(c);
    did.ack++;
    EQ(tp.snd_una, ack->snd_una);
    EQ(ack->flags & USK_TCP_ACK_ADVANCED, ack->snd_una != ack->prior_snd_una);
    if (do_.misuse)
        misuse(c);
    if (do_.mark_all && tp.snd_una != tp.snd_nxt) {
        int n = usk_tcp_mark_lost(c, tp.snd_una, tp.snd_nxt);
        CHECK(n >= 0 && tcp_of(c).lost_out <= tp.packets_out);
        if (do_.takes_back) {
            uint32_t lost = tcp_of(c).lost_out;
            n = usk_tcp_clear_lost(c, tp.snd_una, tp.snd_nxt);
            EQ(tcp_of(c).lost_out, lost - (uint32_t)n);
        }
    }
    if (do_.breaks)
        usk_break(c->sk);
}
static int bad_output(usk_tcp_conn_t *c)
{
    did.output++;
    usk_tcp_t tp = tcp_of(c);
    if (do_.misuse) {
        EQ(usk_tcp_retransmit(c, tp.snd_nxt, 1), -EINVAL);
        EQ(usk_tcp_retransmit(c, tp.snd_una - 1, 1), -EINVAL);
        EQ(usk_tcp_enter_loss(c), -EPERM);
        EQ(usk_tcp_send_new(c, 0), 0);
    }
    if (do_.sends) {
        usk_tcp_seg_t s;
        for (uint32_t seq = tp.snd_una; usk_tcp_seg(c, seq, &s, sizeof s) == 1; seq = s.end_seq) {
            int again = s.flags & USK_TCP_SEG_LOST && s.flags & USK_TCP_SEG_RETRANS;
            int want = s.flags & USK_TCP_SEG_SACKED ? -EINVAL : again ? -EALREADY : 0;
            if (want)
                EQ(usk_tcp_retransmit(c, s.seq, 1), want);
            else if (s.flags & USK_TCP_SEG_LOST && usk_tcp_retransmit(c, s.seq, UINT32_MAX) < 0)
                return USK_TCP_DONE;
            CHECK(usk_tcp_seg(c, seq, &s, sizeof s) == 1);
        }
        int n = usk_tcp_send_new(c, 2);
        CHECK(n >= 0 && n <= 2);
        EQ(tcp_of(c).packets_out, tp.packets_out + (uint32_t)n);
        if (do_.mark_sent && tcp_of(c).snd_nxt != tp.snd_una) {
            EQ(usk_tcp_mark_lost(c, tp.snd_una, tcp_of(c).snd_nxt), -EPERM);
            EQ(usk_tcp_clear_lost(c, tp.snd_una, tcp_of(c).snd_nxt), -EPERM);
            if (usk_tcp_seg(c, tp.snd_una, &s, sizeof s) == 1 && !s.flags)
                EQ(usk_tcp_retransmit(c, tp.snd_una, 1), -EPERM);
        }
        return USK_TCP_DONE;
    }
    return do_.output;
}
static int bad_timer(usk_tcp_conn_t *c, uint32_t timer)
{
    if (timer == USK_TCP_TIMER_RTO) {
        did.rto++;
        return do_.timer;
    }
    EQ(timer, 2);
    if (++did.own < do_.arms)
        EQ(usk_tcp_arm(c, 2, 0), 0);
    return 99; /* says nothing for a timer of its own; but is no value: breaks */
}
static int bad_setsockopt(usk_tcp_conn_t *c, int name, const void *value, size_t len)
{
    (void)c, (void)value;
    return name == OWN ? (int)len : -EPERM;
}
static ssize_t bad_getsockopt(usk_tcp_conn_t *c, int name, void *value, size_t len)
{
    (void)c, (void)name, (void)value, (void)len;
    return do_.getsockopt;
}

static int init(usk_plugin_t *plugin)
{
    static usk_tcp_ops ops = {
        .version = USK_TCP_OPS_VERSION,
        .size = sizeof ops,
        .name = "bad",
        .data_size = 64,
        .init = bad_init,
        .release = bad_release,
        .handoff_ok = bad_handoff_ok,
        .input = bad_input,
        .ack = bad_ack,
        .output = bad_output,
        .timer = bad_timer,
        .setsockopt = bad_setsockopt,
        .getsockopt = bad_getsockopt,
    };
    usk_tcp_ops no = ops;
    no.name = "default";
    EQ(usk_tcp_register(plugin, &no, NULL, NULL), -EEXIST);
    no.name = "sixteen-letters-";
    EQ(usk_tcp_register(plugin, &no, NULL, NULL), -EINVAL);
    no.name = "large";
    no.data_size = USK_TCP_DATA_MAX + 1;
    EQ(usk_tcp_register(plugin, &no, NULL, NULL), -EINVAL);
    no.data_size = 0;
    no.flags = 1;
    EQ(usk_tcp_register(plugin, &no, NULL, NULL), -EINVAL);
    return usk_tcp_register(plugin, &ops, NULL, NULL);
}

static usk_world_t *world;
static usk_stack_t *a, *b;
static usk_plugin_t *plugin;
static struct addr to;
static unsigned char stream[BYTES];

static void begin_world(const char *link)
{
    memset(&do_, 0, sizeof do_);
    memset(&did, 0, sizeof did);
    do_.input = do_.output = do_.timer = USK_TCP_OURS;
    world = usk_world_new(9);
    a = usk_world_host(world, "a", NULL);
    b = usk_world_host(world, "b", NULL);
    usk_link_t *l = usk_world_link(world, "a", "b", link, 0, 0);
    CHECK(a && b && l);
    plugin = usk_plugin_attach(a, "bad", init);
    CHECK(plugin != NULL);
    to.len = sizeof to.storage;
    OK(usk_link_addr(l, 1, AF_INET, 80, &to.sa, &to.len));
}

/* Nothing of it is left. */
static void end_world(void)
{
    EQ(usk_world_run_until_idle(world, 3600000 * MS), 1);
    EQ(did.release, did.init);
    OK(usk_plugin_unload(plugin));
    OK(usk_world_free(world));
    usk_stack_free(a);
    usk_stack_free(b);
}

/* Takes what comes until the end, in order; returns how much. */
static void *sink(void *l)
{
    static unsigned char buf[65536];
    int s = (int)OK(usk_accept(*(int *)l, NULL, NULL));
    long got = 0, n;
    while ((n = usk_recv(s, buf, sizeof buf, 0)) > 0) {
        CHECK(memcmp(buf, stream + got, (size_t)n) == 0);
        got += n;
    }
    OK(usk_close(s));
    return (void *)got;
}

static int choose(int s, const char *name)
{
    return usk_setsockopt(s, IPPROTO_TCP, USK_TCP_STACK, name, (socklen_t)strlen(name));
}

static int l;
static usk_thread_t *t;

static int joined(const char *name)
{
    l = (int)OK(usk_socket_on(b, AF_INET, SOCK_STREAM, 0));
    int on = 1;
    OK(usk_setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    t = usk_world_thread(world, 0, sink, &l);
    do_.fd = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    OK(choose(do_.fd, name));
    OK(usk_connect(do_.fd, &to.sa, to.len));
    return do_.fd;
}

/* Sends all, closes, and the peer has it. */
static void delivers(int c)
{
    void *got;
    EQ(usk_send(c, stream, BYTES, MSG_NOSIGNAL), BYTES);
    do_.fd = -1;
    OK(usk_close(c));
    OK(usk_thread_join(t, &got));
    EQ((long)got, BYTES);
    OK(usk_close(l));
}

static const char *const bad_link = "rate=20mbit delay=10ms loss=3% reorder=1%";

/* Whatever it does with the calls, the bytes arrive. */
static void contained(void)
{
    begin_world(bad_link);
    do_.misuse = 1;
    int c = joined("bad");
    delivers(c);
    CHECK(did.ack > 0 && did.output > 0);
    end_world();

    begin_world(bad_link);
    do_.mark_all = 1;
    delivers(joined("bad"));
    end_world();

    begin_world(bad_link);
    do_.mark_all = do_.sends = do_.misuse = 1;
    delivers(joined("bad"));
    end_world();

    begin_world(bad_link);
    do_.mark_sent = do_.sends = 1;
    delivers(joined("bad"));
    end_world();

    begin_world(bad_link);
    do_.mark_all = do_.takes_back = 1;
    delivers(joined("bad"));
    end_world();

    begin_world("rate=20mbit delay=10ms");
    do_.drop = 5;
    delivers(joined("bad"));
    CHECK(did.dropped > 3);
    end_world();

    /* It detects no loss: what is lost waits for the timeouts, which are the library's. */
    begin_world(bad_link);
    delivers(joined("bad"));
    CHECK(did.rto > 0);
    end_world();
}

/* It sends nothing, and deals with no timeout: window probes carry the data, and in the end the connection ends as one
 * does whose peer is silent. */
static void idle(void)
{
    begin_world("delay=10ms");
    do_.output = USK_TCP_DONE;
    int c = joined("bad");
    void *got;
    EQ(usk_send(c, stream, 3000, MSG_NOSIGNAL), 3000);
    OK(usk_close(c));
    OK(usk_thread_join(t, &got));
    EQ((long)got, 3000);
    OK(usk_close(l));
    end_world();

    begin_world("delay=10ms");
    do_.timer = USK_TCP_DONE;
    c = joined("bad");
    int user_timeout = 5000, error = 0;
    socklen_t len = sizeof error;
    OK(usk_setsockopt(c, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout));
    do_.drop = 1; /* no acknowledgement is seen any more */
    EQ(usk_send(c, stream, 3000, MSG_NOSIGNAL), 3000);
    struct pollfd p = { .fd = c, .events = POLLIN };
    EQ(usk_poll(&p, 1, -1), 1);
    OK(usk_getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len));
    EQ(error, ETIMEDOUT);
    CHECK(did.rto >= 2);
    OK(usk_close(c));
    OK(usk_close(l));
    end_world(); /* and with it the wait of the peer, which has heard nothing */
}

/* A value that no operation may return breaks its socket, and no other. */
static void broken(int *what, int value)
{
    begin_world("delay=10ms");
    *what = value;
    int c = joined("bad");
    char v[4] = { 0 };
    socklen_t len = sizeof v;
    if (what == &do_.getsockopt)
        ERR(usk_getsockopt(c, IPPROTO_TCP, OWN, v, &len), EIO);
    long n = usk_send(c, stream, BYTES, MSG_NOSIGNAL);
    CHECK(n == -1 || n <= BYTES);
    EQ(usk_world_run_for(world, 1000 * MS), 0);
    ERR(usk_send(c, stream, 1, MSG_NOSIGNAL), EIO);
    ERR(usk_setsockopt(c, IPPROTO_TCP, OWN + 1, v, 4), EIO);
    OK(usk_close(c));
    OK(usk_thread_join(t, NULL));
    OK(usk_close(l));
    *what = what == &do_.getsockopt || what == &do_.breaks ? 0 : USK_TCP_OURS;
    delivers(joined("bad"));
    end_world();
}

static void nonsense(void)
{
    broken(&do_.output, 7);
    broken(&do_.output, -EINVAL);
    broken(&do_.input, 2);
    broken(&do_.getsockopt, 5);
    broken(&do_.getsockopt, -5000);
    broken(&do_.breaks, 1);

    begin_world("delay=10ms");
    int c = joined("bad"), v = 0;
    ERR(usk_setsockopt(c, IPPROTO_TCP, OWN + 1, &v, sizeof v), EPERM);
    ERR(usk_setsockopt(c, IPPROTO_TCP, OWN, &v, sizeof v), EIO);
    ERR(usk_send(c, stream, 1, MSG_NOSIGNAL), EIO);
    OK(usk_close(c));
    OK(usk_thread_join(t, NULL));
    OK(usk_close(l));

    /* A timer that is armed for now comes a microsecond later; what it returns counts. */
    do_.arms = 50;
    c = joined("bad");
    EQ(usk_world_run_for(world, 1000 * MS), 0);
    EQ(did.own, 1);
    ERR(usk_send(c, stream, 1, MSG_NOSIGNAL), EIO);
    OK(usk_close(c));
    OK(usk_thread_join(t, NULL));
    OK(usk_close(l));
    end_world();
}

/* Both must agree, and a beginning may fail. */
static void hands(void)
{
    begin_world("delay=10ms");
    int c = joined("default");
    do_.take = -EAGAIN;
    ERR(choose(c, "bad"), EBUSY);
    do_.take = 0;
    do_.init = -ENOBUFS;
    ERR(choose(c, "bad"), ENOBUFS);
    EQ(did.init, 1);
    EQ(did.release, 0); /* it had not begun */
    did.init = 0;
    do_.init = 0;
    OK(choose(c, "bad"));
    do_.give = -EINPROGRESS;
    ERR(choose(c, "default"), EBUSY);
    ERR(usk_plugin_unload(plugin), EBUSY);
    do_.give = 0;
    do_.waits = 1;
    OK(choose(c, "default"));
    EQ(did.release, 1);
    EQ(do_.waits, 0);
    OK(choose(c, "bad"));
    delivers(c);
    end_world();

    /* On a new connection a beginning that fails leaves it to the library. */
    begin_world("delay=10ms");
    do_.init = -ENOMEM;
    c = joined("bad");
    char name[16];
    socklen_t len = sizeof name;
    OK(usk_getsockopt(c, IPPROTO_TCP, USK_TCP_STACK, name, &len));
    CHECK(strcmp(name, "default") == 0);
    did.init = 0;
    delivers(c);
    end_world();
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin("tcp_stack_hostile");
    for (unsigned i = 0; i < BYTES; i++)
        stream[i] = (unsigned char)(i * 2654435761u >> 24);
    contained();
    idle();
    nonsense();
    hands();
    return done();
}

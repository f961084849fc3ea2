/* An algorithm in C that needs ECN (USK_CONG_NEEDS_ECN), over a device that sets CE marks and inspects packets: which
 * packets request ECN and are ECT, which events the algorithm gets at both ends, and what happens if the peer does not
 * agree. */
#include "common.h"
#include "wire.h"
#include <usersock/cong.h>

enum { BYTES = 1 << 20, ECE = 0x40, CWR = 0x80, SYN = 2 };

/* ---- the wire: of one connection's packets by direction, until `quiet` ---- */

static struct seen {
    int syn, syn_ect, syn_ece, syn_cwr;
    int data, data_ect, pure, pure_ect;
    int cwr, marked;
} seen[2];
static bool quiet;
static int client;
static int mark_each;

static void ipv4_checksum(unsigned char *p)
{
    uint32_t sum = 0;
    p[10] = p[11] = 0;
    for (int i = 0; i < (p[0] & 15) * 4; i += 2)
        sum += (uint32_t)(p[i] << 8 | p[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16));
    p[10] = (unsigned char)(sum >> 8), p[11] = (unsigned char)sum;
}

static bool look(int from, unsigned char *p, size_t len)
{
    bool v4 = p[0] >> 4 == 4;
    size_t ip = v4 ? (p[0] & 15) * 4u : 40;
    struct seen *s = &seen[from];
    if (quiet || (v4 ? p[9] : p[6]) != IPPROTO_TCP || len < ip + 20)
        return true;
    int sport = p[ip] << 8 | p[ip + 1], dport = p[ip + 2] << 8 | p[ip + 3];
    if (from == 0 && p[ip + 13] & SYN)
        client = sport;
    /* The connection before may still be about its end. */
    if ((from == 0 ? sport : dport) != client)
        return true;
    int ect = v4 ? p[1] & 3 : p[1] >> 4 & 3, flags = p[ip + 13];
    size_t payload = len - ip - (p[ip + 12] >> 4) * 4u;
    if (flags & SYN) {
        s->syn++;
        s->syn_ect += ect == 2;
        s->syn_ece += (flags & ECE) != 0;
        s->syn_cwr += (flags & CWR) != 0;
        return true;
    }
    s->cwr += (flags & CWR) != 0;
    if (payload == 0) {
        s->pure++;
        s->pure_ect += ect == 2;
        return true;
    }
    s->data++;
    s->data_ect += ect == 2;
    if (ect == 2 && mark_each && s->data % mark_each == 0) {
        s->marked++;
        p[1] |= v4 ? 3 : 0x30;
        if (v4)
            ipv4_checksum(p);
    }
    return true;
}

/* ---- the algorithm ---- */

static struct {
    int ssthresh, echoes, delivered_ce, reductions, complete, ce, no_ce;
    uint32_t ecn_ok;
} told;
static uint32_t answer;

#define NOTE(field) __atomic_fetch_add(&told.field, 1, __ATOMIC_RELAXED)

static void marks_init(usk_tcp_t *tp, void *priv)
{
    (void)priv;
    __atomic_store_n(&told.ecn_ok, tp->ecn_ok, __ATOMIC_RELAXED);
}
static uint32_t marks_ssthresh(usk_tcp_t *tp, void *priv)
{
    NOTE(ssthresh);
    return answer ? answer - 1 : usk_tcp_reno_ssthresh(tp, priv);
}
static void marks_in_ack_event(usk_tcp_t *tp, void *priv, uint32_t flags)
{
    (void)priv;
    if (flags & USK_CA_ACK_ECE) {
        EQ(flags & USK_CA_ACK_SLOWPATH, USK_CA_ACK_SLOWPATH);
        NOTE(echoes);
    }
    if (tp->delivered_ce > 0)
        NOTE(delivered_ce);
}
static void marks_set_state(usk_tcp_t *tp, void *priv, uint8_t state)
{
    (void)priv;
    if (state == USK_CA_CWR) {
        EQ(tp->ca_state <= USK_CA_DISORDER, 1);
        NOTE(reductions);
    }
}
static void marks_cwnd_event(usk_tcp_t *tp, void *priv, int event)
{
    (void)tp, (void)priv;
    if (event == USK_CA_EVENT_COMPLETE_CWR)
        NOTE(complete);
    else if (event == USK_CA_EVENT_ECN_IS_CE)
        NOTE(ce);
    else if (event == USK_CA_EVENT_ECN_NO_CE)
        NOTE(no_ce);
}

static const usk_cong_ops marks = {
    .version = USK_CONG_VERSION,
    .size = sizeof marks,
    .name = "marks",
    .flags = USK_CONG_NEEDS_ECN | USK_CONG_NON_RESTRICTED,
    .init = marks_init,
    .ssthresh = marks_ssthresh,
    .cong_avoid = usk_tcp_reno_cong_avoid,
    .in_ack_event = marks_in_ack_event,
    .set_state = marks_set_state,
    .cwnd_event = marks_cwnd_event,
    .undo_cwnd = usk_tcp_reno_undo_cwnd,
};

static int init_plugin(usk_plugin_t *plugin)
{
    usk_device_ops kind = wire_kind();
    int r = usk_device_register(plugin, &kind, NULL, NULL);
    return r ? r : usk_cong_register(plugin, &marks, NULL, NULL);
}

static usk_stack_t *stack_at(int end)
{
    char config[128];
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack != NULL && usk_plugin_attach(stack, "ecn", init_plugin) != NULL);
    snprintf(config, sizeof config, "device=wire:%d,addr=10.7.0.%d/24,addr=fd07::%d/64", end, end + 1, end + 1);
    OK(usk_device_add(stack, config));
    return stack;
}

/* ---- a connection ---- */

static void *read_all(void *listener)
{
    static char buf[65536];
    size_t got = 0;
    int fd = (int)OK(usk_accept(*(int *)listener, NULL, NULL));
    while (got < BYTES) {
        ssize_t n = OK(usk_recv(fd, buf, sizeof buf, 0));
        CHECK(n > 0);
        got += (size_t)n;
    }
    /* What was sent has arrived and, by this byte, its acknowledgements too: nothing of interest is on the wire. */
    EQ(usk_send(fd, "!", 1, 0), 1);
    EQ(usk_recv(fd, buf, 1, 0), 0);
    OK(usk_close(fd));
    return NULL;
}

/* A mebibyte from end 0 to end 1, whose listener has `peer` as its algorithm; gives the sender's threshold at the
 * end. */
static uint32_t run(usk_stack_t *a, usk_stack_t *b, const char *to, const char *peer)
{
    static char bytes[BYTES];
    struct addr dst = at(to, 80);
    pthread_t thread;
    pthread_mutex_lock(&wire.lock);
    memset(seen, 0, sizeof seen);
    memset(&told, 0, sizeof told);
    quiet = false;
    client = 0;
    pthread_mutex_unlock(&wire.lock);
    int listener = (int)OK(usk_socket_on(b, dst.sa.sa_family, SOCK_STREAM, 0));
    OK(set_int(listener, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, peer, strlen(peer)));
    OK(usk_bind(listener, &dst.sa, dst.len));
    OK(usk_listen(listener, 1));
    CHECK(pthread_create(&thread, NULL, read_all, &listener) == 0);
    int fd = (int)OK(usk_socket_on(a, dst.sa.sa_family, SOCK_STREAM, 0));
    OK(usk_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "marks", 5));
    OK(usk_connect(fd, &dst.sa, dst.len));
    send_all(fd, bytes, sizeof bytes);
    EQ(usk_recv(fd, bytes, 1, 0), 1);
    pthread_mutex_lock(&wire.lock);
    quiet = true;
    pthread_mutex_unlock(&wire.lock);
    struct tcp_info info;
    socklen_t len = sizeof info;
    OK(usk_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
    CHECK(info.tcpi_snd_cwnd >= 1);
    OK(usk_close(fd));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(usk_close(listener));
    return info.tcpi_snd_ssthresh;
}

static void agreed(usk_stack_t *a, usk_stack_t *b, const char *to)
{
    mark_each = 50;
    run(a, b, to, "marks");
    /* SYN and SYN-ACK are ECT themselves. */
    EQ(seen[0].syn, 1), EQ(seen[0].syn_ect, 1), EQ(seen[0].syn_ece, 1), EQ(seen[0].syn_cwr, 1);
    EQ(seen[1].syn, 1), EQ(seen[1].syn_ect, 1), EQ(seen[1].syn_ece, 1), EQ(seen[1].syn_cwr, 0);
    /* So is every other packet, acknowledgements included. */
    EQ(seen[0].data_ect, seen[0].data), EQ(seen[0].pure_ect, seen[0].pure);
    EQ(seen[1].data_ect, seen[1].data), EQ(seen[1].pure_ect, seen[1].pure);
    EQ(told.ecn_ok, 1);
    /* The receiver's algorithm got the marks, the sender's their echoes; ssthresh was called once per reduction, and
     * the peer got CWR. */
    CHECK(seen[0].marked >= BYTES / 1460 / 50);
    CHECK(told.ce > 0 && told.ce <= seen[0].marked);
    CHECK(told.no_ce > 0);
    CHECK(told.echoes > 0);
    CHECK(told.reductions > 0 && told.reductions <= seen[0].marked);
    EQ(told.ssthresh, told.reductions);
    CHECK(told.complete > 0 && told.complete <= told.reductions);
    CHECK(seen[0].cwr > 0 && seen[0].cwr <= told.reductions);
    CHECK(told.delivered_ce > 0);
}

/* The peer's algorithm does not need ECN, and a question from a packet that is capable itself is not for others (RFC
 * 3168 §6.1.1). */
static void not_agreed(usk_stack_t *a, usk_stack_t *b, const char *to)
{
    run(a, b, to, "reno");
    EQ(seen[0].syn_ect, 1), EQ(seen[0].syn_ece, 1);
    EQ(seen[1].syn, 1), EQ(seen[1].syn_ect, 0), EQ(seen[1].syn_ece, 0);
    CHECK(seen[0].data > 0 && seen[1].pure > 0);
    EQ(seen[0].data_ect, 0), EQ(seen[0].pure_ect, 0), EQ(seen[1].data_ect, 0), EQ(seen[1].pure_ect, 0);
    EQ(told.ecn_ok, 0), EQ(told.ce, 0), EQ(told.no_ce, 0), EQ(told.echoes, 0);
}

/* Invalid thresholds are clamped, and the stream arrives. */
static void nonsense(usk_stack_t *a, usk_stack_t *b)
{
    static const struct {
        uint32_t says, becomes;
    } t[] = { { 0, 1 }, { UINT32_MAX - 1, 0x7fffffff }, { 1u << 31, 0x7fffffff } };
    mark_each = 200;
    for (int i = 0; i < COUNT(t); i++) {
        answer = t[i].says + 1;
        EQ(run(a, b, "10.7.0.2", "marks"), t[i].becomes);
        CHECK(told.reductions > 0);
    }
    answer = 0;
}

int main(void)
{
    begin("ecn");
    wire.link = USK_LINK_IP;
    wire.tap = look;
    usk_stack_t *a = stack_at(0), *b = stack_at(1);
    agreed(a, b, "10.7.0.2");
    agreed(a, b, "fd07::2");
    not_agreed(a, b, "10.7.0.2");
    not_agreed(a, b, "fd07::2");
    nonsense(a, b);
    usk_stack_free(a);
    usk_stack_free(b);
    return done();
}

/* pkts_delivered of a congestion control: each packet that arrives is told once, with the time at which it was sent, on
 * a link that loses, delays and duplicates. In virtual time. */
#include "common.h"
#include "two_hosts.h"
#include <usersock/cong.h>

enum { BYTES = 400000 };

static struct {
    uint64_t packets, segs, bytes, sacked, again, rtts, acks, with_rtt, bad;
    uint32_t delivered; /* tp->delivered, of the last call */
    int64_t least, most;
    uint32_t first;              /* sequence number of the first byte */
    unsigned char seen[BYTES + 1]; /* how often a byte was told */
} told;

static void packets_delivered(usk_tcp_t *tp, void *priv, const usk_pkt_sample_t *pkts, uint32_t n)
{
    (void)priv;
    for (uint32_t i = 0; i < n; i++) {
        const usk_pkt_sample_t *p = &pkts[i];
        if (told.packets++ == 0)
            told.first = p->seq;
        told.segs += p->segs;
        told.bytes += p->end_seq - p->seq;
        told.sacked += p->is_sacked;
        told.again += p->is_retrans;
        told.bad += p->sent_at == 0 || p->sent_at > tp->now || p->segs == 0 || p->prior_delivered > tp->delivered;
        told.bad += (p->rtt_us == -1) != (p->is_retrans == 1);
        for (uint32_t at = p->seq; at != p->end_seq; at++) {
            if (at - told.first < sizeof told.seen)
                told.seen[at - told.first]++;
            else
                told.bad++;
        }
        if (p->rtt_us == -1)
            continue;
        told.bad += (uint64_t)p->rtt_us != (tp->now - p->sent_at) / 1000;
        if (told.rtts++ == 0 || p->rtt_us < told.least)
            told.least = p->rtt_us;
        if (p->rtt_us > told.most)
            told.most = p->rtt_us;
    }
    told.delivered = tp->delivered;
}
static void packets_acked(usk_tcp_t *tp, void *priv, const usk_ack_sample_t *sample)
{
    (void)tp, (void)priv;
    told.acks++;
    told.with_rtt += sample->rtt_us >= 0;
}

static int init(usk_plugin_t *plugin)
{
    static const usk_cong_ops table = {
        .version = USK_CONG_VERSION,
        .size = sizeof table,
        .name = "packets",
        .pkts_delivered = packets_delivered,
        .pkts_acked = packets_acked,
        .ssthresh = usk_tcp_reno_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
    };
    return usk_cong_register(plugin, &table, NULL, NULL);
}

static struct addr to;

static void *receiver(void *stack)
{
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &to.sa, to.len));
    OK(usk_listen(l, 1));
    int s = (int)OK(usk_accept(l, NULL, NULL));
    static char buf[65536];
    long got = 0, n;
    while ((n = OK(usk_recv(s, buf, sizeof buf, 0))) > 0)
        got += n;
    EQ(got, BYTES);
    OK(usk_close(s));
    OK(usk_close(l));
    return NULL;
}

static void run(const char *link, int sack)
{
    memset(&told, 0, sizeof told);
    struct two_hosts n = two_hosts(5, link, sack ? NULL : "sysctl.net.ipv4.tcp_sack=0", NULL);
    usk_world_t *world = n.world;
    usk_stack_t *a = n.a, *b = n.b;
    CHECK(usk_plugin_attach(a, "packets", init) != NULL);
    to = n.to_b;
    usk_thread_t *r = usk_world_thread(world, 0, receiver, b);
    OK(usk_world_run_for(world, 1 * MS));
    int c = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    OK(usk_setsockopt(c, IPPROTO_TCP, TCP_CONGESTION, "packets", 7));
    OK(usk_connect(c, &to.sa, to.len));
    static char buf[BYTES];
    EQ(usk_send(c, buf, BYTES, MSG_NOSIGNAL), BYTES);
    OK(usk_close(c));
    OK(usk_thread_join(r, NULL));
    EQ(usk_world_run_until_idle(world, 600000 * MS), 1);

    EQ(told.bad, 0);
    EQ(told.bytes, BYTES + 1); /* the FIN counts as one */
    for (int i = 0; i <= BYTES; i++)
        if (told.seen[i] != 1) {
            EQ(told.seen[i], 1);
            break;
        }
    CHECK(told.least >= 40000 && told.most >= told.least);
    CHECK(told.rtts > told.with_rtt);
    usk_link_stats_t s;
    OK(usk_link_stats(n.link, 0, &s, sizeof s));
    if (s.lost) {
        CHECK(told.again > 0);
        EQ(told.sacked > 0, sack);
    } else {
        EQ(told.again, 0);
        EQ(told.segs, (BYTES + 1447) / 1448);
    }
    OK(usk_world_free(world));
    usk_stack_free(a);
    usk_stack_free(b);
}

int main(int argc, char **argv)
{
    (void)argc, (void)argv;
    begin("cong_packets");
    run("rate=20mbit delay=20ms", 1);
    run("rate=20mbit delay=20ms loss=2% reorder=1% duplicate=1%", 1);
    run("rate=20mbit delay=20ms loss=1%", 0);
    return done();
}

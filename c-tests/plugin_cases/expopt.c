/* The experimental option of plugins/expopt.c: offered, agreed, declined, forged, captured; looked at on the wire by a
 * raw socket. */
#include "../cases/common.h"
#include <usersock/core.h>
#include <netinet/ip.h>

enum { KIND = 254, EXID = 0x5553, OLD_PORT = 7001, PORT = 7002 };

static usk_stack_t *stack;
static int raw;

static uint64_t mib(const char *name)
{
    uint64_t n = 0;
    OK(usk_mib_read(stack, name, &n));
    return n;
}

/* ---- the wire ---- */

/* What went by since the last look, apart by kind. */
struct seen {
    int syn, synack, data, bare; /* segments with the option */
    int no_syn, no_synack, no_data, no_bare;
    struct tcphdr last; /* of data, in either direction */
    size_t last_len;
    uint32_t sent;
};

static const uint8_t *option(const uint8_t *p, size_t len, size_t *olen)
{
    for (size_t i = 0; i < len && p[i] != 0;) {
        if (p[i] == 1) {
            i++;
            continue;
        }
        CHECK(i + 1 < len && p[i + 1] >= 2 && i + p[i + 1] <= len);
        if (p[i] == KIND && p[i + 1] >= 4 && (p[i + 2] << 8 | p[i + 3]) == EXID) {
            *olen = p[i + 1];
            return p + i;
        }
        i += p[i + 1];
    }
    return NULL;
}

static struct seen look(void)
{
    static uint8_t packet[70000];
    struct seen s = { 0 };
    for (;;) {
        ssize_t n = usk_recv(raw, packet, sizeof packet, MSG_DONTWAIT);
        if (n < 0) {
            EQ(errno, EAGAIN);
            return s;
        }
        size_t ip = (packet[0] & 15) * 4u;
        struct tcphdr *t = (struct tcphdr *)(packet + ip);
        size_t head = t->doff * 4u, len = (size_t)n - ip - head, olen = 0;
        if (t->rst)
            continue;
        const uint8_t *o = option((uint8_t *)t + sizeof *t, head - sizeof *t, &olen);
        if (t->syn) {
            ++*(t->ack ? o ? &s.synack : &s.no_synack : o ? &s.syn : &s.no_syn);
            EQ(olen, o ? 4 : 0);
        } else if (len) {
            ++*(o ? &s.data : &s.no_data);
            EQ(olen, o ? 10 : 0);
            s.last = *t;
            s.last_len = len;
            if (o) {
                memcpy(&s.sent, o + 4, 4);
                s.sent = ntohl(s.sent);
            }
        } else {
            ++*(o ? &s.bare : &s.no_bare);
        }
    }
}

/* Sends a segment as if from one of ours. `options` is a multiple of four long. */
static void forge(struct tcphdr t, const void *options, size_t len)
{
    struct addr to = at("127.0.0.1", 0);
    uint8_t p[12 + 60] = { 127, 0, 0, 1, 127, 0, 0, 1, 0, IPPROTO_TCP, 0, (uint8_t)(sizeof t + len) };
    t.doff = (uint8_t)((sizeof t + len) / 4);
    t.check = 0;
    memcpy(p + 12, &t, sizeof t);
    memcpy(p + 12 + sizeof t, options, len);
    uint32_t sum = 0;
    for (size_t i = 0; i < 12 + sizeof t + len; i += 2)
        sum += p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    t.check = htons((uint16_t)~sum);
    memcpy(p + 12, &t, sizeof t);
    EQ(usk_sendto(raw, p + 12, sizeof t + len, 0, &to.sa, to.len), (long)(sizeof t + len));
}

/* ---- connections ---- */

static int listen_at(int port)
{
    struct addr a = at("127.0.0.1", port);
    int l = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(usk_bind(l, &a.sa, a.len));
    OK(usk_listen(l, 4));
    return l;
}

static void pair(int l, int port, int fd[2])
{
    struct addr a = at("127.0.0.1", port);
    fd[0] = (int)OK(usk_socket_on(stack, AF_INET, SOCK_STREAM, 0));
    OK(set_int(fd[0], IPPROTO_TCP, TCP_NODELAY, 1));
    OK(usk_connect(fd[0], &a.sa, a.len));
    fd[1] = (int)OK(usk_accept(l, NULL, NULL));
}

static void say(int from, int to, const char *text)
{
    send_all(from, text, strlen(text));
    EXPECT(to, text);
}

static void *send_bulk(void *fd)
{
    static uint8_t buf[3 << 20];
    for (size_t i = 0; i < sizeof buf; i++)
        buf[i] = pattern(7, i);
    send_all(*(int *)fd, buf, sizeof buf);
    return NULL;
}

/* Connections and data, one after the other, until told to stop. */
static _Atomic bool stop;
static void *keep_talking(void *arg)
{
    int l = *(int *)arg, fd[2];
    for (int n = 0; !stop || n < 5; n++) {
        pair(l, PORT, fd);
        for (int i = 0; i < 20; i++) {
            say(fd[0], fd[1], "a question");
            say(fd[1], fd[0], "and an answer");
        }
        close_pair(fd);
    }
    return NULL;
}

/* Runs tshark on the capture; gives how many lines it prints. -1: there is no tshark. */
static int tshark(const char *file, const char *filter, const char *fields, char *first, size_t len)
{
    char command[1024], line[1024];
    if (system("command -v tshark >/dev/null 2>&1") != 0)
        return -1;
    snprintf(command, sizeof command, "LD_PRELOAD= tshark -n -r '%s' -Y '%s' %s 2>/dev/null", file, filter, fields);
    FILE *p = popen(command, "r");
    CHECK(p != NULL);
    int lines = 0;
    while (fgets(line, sizeof line, p))
        if (lines++ == 0 && first)
            snprintf(first, len, "%s", line);
    EQ(pclose(p), 0);
    return lines;
}

int main(int argc, char **argv)
{
    begin("expopt");
    CHECK(argc == 2);
    char so[512], capture[512], shown[1024] = "";
    snprintf(so, sizeof so, "%s/expopt.so", argv[1]);
    snprintf(capture, sizeof capture, "%s/expopt-%d.pcap", argv[1], getpid());
    stack = usk_stack_new("");
    CHECK(stack != NULL);
    OK(usk_pcap_start(stack, capture));
    raw = (int)OK(usk_socket_on(stack, AF_INET, SOCK_RAW, IPPROTO_TCP));
    OK(set_int(raw, SOL_SOCKET, SO_RCVBUF, 4 << 20));

    /* A listener that is older than the plug-in does not know the option. */
    int old = listen_at(OLD_PORT), fd[2];
    usk_plugin_t *plugin = usk_plugin_load(stack, so);
    CHECK(plugin != NULL);
    int l = listen_at(PORT);

    /* Both know it: offered, agreed, and on every data segment, both ways; not on what carries no data. */
    pair(l, PORT, fd);
    for (int i = 0; i < 5; i++) {
        say(fd[0], fd[1], "there");
        say(fd[1], fd[0], "and back");
    }
    struct seen s = look();
    EQ(s.syn, 1);
    EQ(s.synack, 1);
    EQ(s.no_syn + s.no_synack + s.no_data + s.bare, 0);
    EQ(s.data, 10);
    EQ(s.sent, 4); /* of the last: those before it */
    EQ(mib("ExpoptOffered"), 2);
    EQ(mib("ExpoptAgreed"), 2);
    EQ(mib("ExpoptDeclined"), 0);
    EQ(mib("ExpoptOut"), 10);
    EQ(mib("ExpoptIn"), 10);

    /* A forged ledger says that five more were sent: missed here, and the other end is told; then five come. */
    struct tcphdr t = s.last; /* of fd[1]'s last: a bare acknowledgement of it, in the name of fd[0] */
    uint32_t end = htonl(ntohl(t.seq) + (uint32_t)s.last_len);
    struct tcphdr f = { .source = t.dest, .dest = t.source, .seq = t.ack_seq, .ack_seq = end, .ack = 1,
        .window = t.window };
    const uint8_t nine[12] = { 254, 10, 0x55, 0x53, 0, 0, 0, 5 + 5, 0, 0, 1, 1 },
        torn[8] = { 254, 7, 0x55, 0x53, 1, 2, 3, 1 };
    const uint8_t other[8] = { 254, 8, 0xab, 0xcd, 1, 2, 3, 4 };
    forge(f, nine, sizeof nine);
    EQ(mib("ExpoptInLost"), 5);
    say(fd[1], fd[0], "five are missing");
    EQ(mib("ExpoptOutLost"), 5);
    for (int i = 1; i <= 5; i++) {
        /* Acknowledged at once: on a busy machine a delayed acknowledgement may come after a retransmission, which
         * would be counted as well. */
        OK(set_int(fd[1], IPPROTO_TCP, TCP_QUICKACK, 1));
        say(fd[0], fd[1], "one of them");
        EQ(mib("ExpoptInLate"), i);
    }
    say(fd[1], fd[0], "so they are not");
    EQ(mib("ExpoptOutLate"), 5);
    look();
    /* What is malformed, and what is another experiment's. */
    say(fd[1], fd[0], "x");
    s = look();
    f.seq = s.last.ack_seq;
    f.ack_seq = htonl(ntohl(s.last.seq) + (uint32_t)s.last_len);
    uint64_t in = mib("ExpoptIn");
    forge(f, torn, sizeof torn);
    EQ(mib("ExpoptErrors"), 1);
    forge(f, other, sizeof other);
    EQ(mib("ExpoptErrors"), 1);
    EQ(mib("ExpoptIn"), in);

    /* The stream is whole in super-packets too. */
    pthread_t thread = spawn(send_bulk, &fd[0]);
    static uint8_t buf[3 << 20];
    EQ(recv_all(fd[1], buf, sizeof buf), sizeof buf);
    join(thread);
    for (size_t i = 0; i < sizeof buf; i++)
        CHECK(buf[i] == pattern(7, i));
    look();

    /* The other end lacks it: offered, not answered, and never seen again. */
    int lone[2];
    pair(old, OLD_PORT, lone);
    say(lone[0], lone[1], "there");
    say(lone[1], lone[0], "and back");
    s = look();
    EQ(s.syn, 1);
    EQ(s.no_synack, 1);
    EQ(s.data + s.bare + s.synack, 0);
    EQ(s.no_data, 2);
    EQ(mib("ExpoptDeclined"), 1);
    EQ(mib("ExpoptAgreed"), 2);
    close_pair(lone);

    /* Our end lacks it: a listener sends no option if the SYN had none. */
    OK(usk_sysctl_set(stack, "net.expopt.enabled", "0"));
    pair(l, PORT, lone);
    say(lone[0], lone[1], "there");
    say(lone[1], lone[0], "and back");
    s = look();
    EQ(s.syn + s.synack + s.data + s.bare, 0);
    EQ(s.no_syn, 1);
    EQ(s.no_synack, 1);
    EQ(mib("ExpoptDeclined"), 2);
    ERR(usk_sysctl_set(stack, "net.expopt.enabled", "2"), EINVAL);
    close_pair(lone);

    /* Connections do not keep hooks in use: unloading removes them, and the data goes on. */
    OK(usk_plugin_unload(plugin));
    look();
    say(fd[0], fd[1], "without");
    say(fd[1], fd[0], "it");
    s = look();
    EQ(s.data, 0);
    EQ(s.no_data, 2);
    uint64_t n;
    ERR(usk_mib_read(stack, "ExpoptIn", &n), ENOENT);
    plugin = usk_plugin_load(stack, so);
    CHECK(plugin != NULL);
    EQ(mib("ExpoptIn"), 0);
    say(fd[0], fd[1], "still without");
    EQ(mib("ExpoptOut"), 0);
    close_pair(fd);
    OK(usk_close(raw));
    OK(usk_pcap_stop(stack));

    /* It is loaded and unloaded while events run on another thread: a running event keeps its code loaded. */
    pthread_t talker = spawn(keep_talking, &l);
    for (int i = 0; i < 100; i++) {
        OK(usk_plugin_unload(plugin));
        plugin = usk_plugin_load(stack, so);
        CHECK(plugin != NULL);
    }
    stop = true;
    join(talker);
    OK(usk_close(l));
    OK(usk_close(old));

    /* Others read it as we mean it. */
    int found = tshark(capture, "tcp.flags.syn == 1 && tcp.options.experimental",
                       "-T fields -e tcp.options.experimental.exid", shown,
                       sizeof shown);
    if (found < 0) {
        printf("SKIP tshark on the capture: there is none\n");
    } else {
        EQ(found, 3);
        CHECK(strncmp(shown, "0x5553", 6) == 0);
        CHECK(tshark(capture, "tcp.len > 0 && tcp.options.experimental", "", NULL, 0) >= 14);
        EQ(tshark(capture, "_ws.malformed", "", NULL, 0), 0);
        EQ(tshark(capture, "_ws.expert.severity == \"Error\"", "", NULL, 0), 0);
    }
    OK(unlink(capture));
    usk_stack_free(stack);
    return done();
}

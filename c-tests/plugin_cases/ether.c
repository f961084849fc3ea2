/* Ethernet devices from C: neighbours are found by ARP and NDP over them, frames of every size pass, a capture holds
 * what passed; and IP devices with the least and the greatest MTU. */
#include "common.h"
#include "wire.h"

enum { ARP = 0x0806, IPV4 = 0x0800, IPV6 = 0x86dd };

static struct {
    int arp, ndp, longest, frames;
    bool cut;
} seen;

static bool look(int from, unsigned char *p, size_t len)
{
    (void)from;
    size_t l2 = wire.link == USK_LINK_ETHERNET ? 14 : 0;
    int type = l2 ? p[12] << 8 | p[13] : p[0] >> 4 == 4 ? IPV4 : IPV6;
    const unsigned char *ip = p + l2;
    seen.frames++;
    if ((int)(len - l2) > seen.longest)
        seen.longest = (int)(len - l2);
    seen.arp += type == ARP;
    seen.ndp += type == IPV6 && ip[6] == IPPROTO_ICMPV6 && ip[40] >= 133 && ip[40] <= 137;
    return !seen.cut;
}

static int init_plugin(usk_plugin_t *plugin)
{
    usk_device_ops kind = wire_kind();
    return usk_device_register(plugin, &kind, NULL, NULL);
}

static usk_stack_t *stack_with(const char *more, int end)
{
    char config[512];
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack != NULL && usk_plugin_attach(stack, "ether", init_plugin) != NULL);
    snprintf(config, sizeof config, "device=wire:%d,addr=10.6.0.%d/24%s", end, end + 1, more);
    OK(usk_device_add(stack, config));
    return stack;
}

/* Sends back what comes, until the end of the stream. */
static void *echo(void *listener)
{
    static char buf[65536];
    int fd = (int)OK(usk_accept(*(int *)listener, NULL, NULL));
    for (ssize_t n; (n = OK(usk_recv(fd, buf, sizeof buf, 0))) > 0;)
        send_all(fd, buf, (size_t)n);
    OK(usk_close(fd));
    return NULL;
}

/* A stream of `len` bytes there and back. */
static void stream(usk_stack_t *a, usk_stack_t *b, const char *to, size_t len)
{
    static unsigned char out[60000], in[60000];
    struct addr dst = at(to, 80);
    pthread_t thread;
    CHECK(len <= sizeof out);
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)(i * 31 + i / 251);
    int listener = (int)OK(usk_socket_on(b, dst.sa.sa_family, SOCK_STREAM, 0));
    OK(set_int(listener, SOL_SOCKET, SO_REUSEADDR, 1));
    OK(usk_bind(listener, &dst.sa, dst.len));
    OK(usk_listen(listener, 1));
    CHECK(pthread_create(&thread, NULL, echo, &listener) == 0);
    int fd = (int)OK(usk_socket_on(a, dst.sa.sa_family, SOCK_STREAM, 0));
    OK(usk_connect(fd, &dst.sa, dst.len));
    send_all(fd, out, len);
    OK(usk_shutdown(fd, SHUT_WR));
    EQ(recv_all(fd, in, len), (long long)len);
    CHECK(memcmp(in, out, len) == 0);
    EQ(usk_recv(fd, in, 1, 0), 0);
    OK(usk_close(fd));
    CHECK(pthread_join(thread, NULL) == 0);
    OK(usk_close(listener));
}

/* One datagram of `len` bytes there. */
static void datagram(usk_stack_t *a, usk_stack_t *b, const char *to, size_t len)
{
    static unsigned char out[65507], in[65507];
    struct addr dst = at(to, 53);
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)(i * 7 + i / 253);
    int s = (int)OK(usk_socket_on(a, dst.sa.sa_family, SOCK_DGRAM, 0));
    int r = (int)OK(usk_socket_on(b, dst.sa.sa_family, SOCK_DGRAM, 0));
    OK(set_int(r, SOL_SOCKET, SO_RCVBUF, 1 << 20));
    OK(usk_bind(r, &dst.sa, dst.len));
    EQ(usk_sendto(s, out, len, 0, &dst.sa, dst.len), (long long)len);
    EQ(usk_recv(r, in, sizeof in, 0), (long long)len);
    CHECK(memcmp(in, out, len) == 0);
    OK(usk_close(s));
    OK(usk_close(r));
}

static uint32_t word_at(FILE *f, long at)
{
    unsigned char b[4];
    CHECK(fseek(f, at, SEEK_SET) == 0 && fread(b, 1, 4, f) == 4);
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Frames of a capture whose link type is Ethernet (1). */
static int captured(const char *path)
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    EQ(word_at(f, 0), 0xa1b23c4d);
    EQ(word_at(f, 20) & 0xffff, 1);
    CHECK(fseek(f, 0, SEEK_END) == 0);
    long end = ftell(f), at = 24;
    int n = 0;
    for (; at < end; n++) {
        uint32_t len = word_at(f, at + 8);
        EQ(len, word_at(f, at + 12));
        CHECK(len >= 14 && len <= 1514);
        at += 16 + (long)len;
    }
    EQ(at, end);
    fclose(f);
    return n;
}

static void ethernet(const char *dir)
{
    char path[512], more[600];
    snprintf(path, sizeof path, "%s/ether-%d.pcap", dir, (int)getpid());
    snprintf(more, sizeof more, ",addr=fd06::1/64,pcap=%s", path);
    wire.link = USK_LINK_ETHERNET;
    usk_stack_t *a = stack_with(more, 0), *b = stack_with(",addr=fd06::2/64,mac=02:00:00:00:00:77", 1);
    stream(a, b, "10.6.0.2", 60000);
    stream(b, a, "fd06::1", 60000);
    datagram(a, b, "10.6.0.2", 0);
    datagram(a, b, "fd06::2", 20000);
    datagram(b, a, "10.6.0.1", 65507);
    CHECK(seen.arp >= 2 && seen.ndp >= 2);
    EQ(seen.longest, 1500);
    OK(usk_pcap_stop(a));
    int frames = seen.frames;
    int n = captured(path);
    CHECK(n > 0 && n <= frames);
    EQ(unlink(path), 0);

    /* The neighbour does not reply any more: resolution fails. */
    pthread_mutex_lock(&wire.lock);
    seen.cut = true;
    pthread_mutex_unlock(&wire.lock);
    struct addr nobody = at("10.6.0.99", 80);
    int fd = (int)OK(usk_socket_on(a, AF_INET, SOCK_STREAM, 0));
    ERR(usk_connect(fd, &nobody.sa, nobody.len), EHOSTUNREACH);
    OK(usk_close(fd));
    wire_end_stacks(a, b);
    memset(&seen, 0, sizeof seen);
}

/* The least MTU of IPv4 (RFC 791 §3.2), the least that net.ipv4.tcp_min_snd_mss leaves room for a segment in, and the
 * greatest there is. */
static void mtus(void)
{
    wire.link = USK_LINK_IP;
    usk_stack_t *a = stack_with(",mtu=68", 0), *b = stack_with(",mtu=68", 1);
    datagram(a, b, "10.6.0.2", 1000);
    EQ(seen.longest, 68);
    EQ(seen.frames, 21);
    wire_end_stacks(a, b);
    memset(&seen, 0, sizeof seen);

    a = stack_with(",mtu=88", 0), b = stack_with(",mtu=88", 1);
    stream(a, b, "10.6.0.2", 3000);
    EQ(seen.longest, 88);
    wire_end_stacks(a, b);
    memset(&seen, 0, sizeof seen);

    a = stack_with(",mtu=65535,addr=fd06::1/64", 0), b = stack_with(",mtu=65535,addr=fd06::2/64", 1);
    stream(a, b, "10.6.0.2", 60000);
    stream(a, b, "fd06::2", 60000);
    datagram(a, b, "10.6.0.2", 65507);
    EQ(seen.longest, 65535);
    datagram(a, b, "fd06::2", 65487);
    wire_end_stacks(a, b);
    memset(&seen, 0, sizeof seen);

    /* Different ones: a stream's segments fit both. */
    a = stack_with(",mtu=1400", 0), b = stack_with(",mtu=1280", 1);
    stream(a, b, "10.6.0.2", 20000);
    CHECK(seen.longest <= 1280);
    wire_end_stacks(a, b);
}

int main(int argc, char **argv)
{
    begin("ether");
    CHECK(argc == 2);
    wire.tap = look;
    ethernet(argv[1]);
    mtus();
    return done();
}

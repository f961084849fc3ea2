/* The host's link. The kernel's host is a network namespace with a TUN device, whose descriptor is held here: a packet
 * that is written is dealt with, in softirq, before write(2) returns. usersock's host is a stack with a device in
 * memory: a packet is dealt with when the stack asks for the next one, and finds none. Neither has to be waited for
 * with time. The same settings on both take the limits of rates and the timers shorter than a sequence out. */
#include "packets.h"
#include "../sys.h"
#include "usersock.h"
#include "usersock/device.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#define HOST4 "10.0.0.1"
#define HOST6 "fd00::1"

/* Sysctls of both sides: no limits of rates, no probe that a short round-trip time makes come soon. */
static const char *const settings[][2] = {
    {"net/ipv4/icmp_ratelimit", "0"},
    {"net/ipv4/icmp_msgs_per_sec", "1000000"},
    {"net/ipv4/icmp_msgs_burst", "1000000"},
    {"net/ipv4/tcp_early_retrans", "0"},
    {"net/ipv4/tcp_congestion_control", "reno"},
    {"net/ipv4/tcp_rmem", "4096 131072 6291456"},
    {"net/ipv4/tcp_wmem", "4096 16384 4194304"},
    {"net/ipv6/icmp/ratelimit", "0"},
};

/* What the kernel's side needs besides: a host that neither routes nor talks of itself. */
static const char *const kernel_settings[][2] = {
    {"net/ipv4/tcp_no_metrics_save", "1"},
    {"net/ipv4/ping_group_range", "0 0"},
    {"net/ipv4/conf/all/forwarding", "0"},
    {"net/ipv4/conf/all/rp_filter", "0"},
    {"net/ipv4/conf/default/rp_filter", "0"},
    {"net/ipv4/conf/all/accept_source_route", "0"},
    {"net/ipv4/conf/all/accept_redirects", "0"},
    {"net/ipv4/conf/default/accept_redirects", "0"},
    {"net/ipv6/conf/default/accept_redirects", "0"},
    {"net/ipv6/conf/default/accept_ra", "0"},
    {"net/ipv6/conf/default/dad_transmits", "0"},
    {"net/ipv6/conf/default/router_solicitations", "0"},
};

static int tun = -1;

/* An address of IPv6 is tentative until a worker of the kernel has seen that it needs no detection of duplicates, which
 * it then says. `news`: a socket that hears it since before the address was added. */
static void wait_for_address(int news)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    int s = socket(AF_INET6, SOCK_DGRAM, 0);
    char message[4096];
    inet_pton(AF_INET6, HOST6, &a.sin6_addr);
    while (bind(s, (struct sockaddr *)&a, sizeof a) == -1)
        if (recv(news, message, sizeof message, 0) == -1 && errno != ENOBUFS)
            give_up("the address of IPv6");
    close(s);
}

/* A socket that hears of addresses of IPv6, for 30 seconds each. */
static int address_news(void)
{
    struct sockaddr_nl of = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV6_IFADDR};
    struct timeval most = {.tv_sec = 30};
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (bind(s, (struct sockaddr *)&of, sizeof of) == -1 || setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most))
        give_up("news of addresses");
    return s;
}

/* Adds an address as ip-address(8) does. */
static void add_address(int family, const char *text, unsigned char prefix, int index)
{
    struct {
        struct nlmsghdr n;
        struct ifaddrmsg a;
        struct rtattr local;
        unsigned char address[16];
    } m;
    unsigned char answer[256];
    size_t size = family == AF_INET6 ? 16 : 4;
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    memset(&m, 0, sizeof m);
    m.n.nlmsg_len = (unsigned)(offsetof(__typeof__(m), address) + size);
    m.n.nlmsg_type = RTM_NEWADDR;
    m.n.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    m.a.ifa_family = (unsigned char)family;
    m.a.ifa_prefixlen = prefix;
    m.a.ifa_index = (unsigned)index;
    m.local.rta_type = IFA_LOCAL;
    m.local.rta_len = (unsigned short)(sizeof m.local + size);
    inet_pton(family, text, m.address);
    if (s < 0 || send(s, &m, m.n.nlmsg_len, 0) < 0 || recv(s, answer, sizeof answer, 0) < 20)
        give_up("RTM_NEWADDR");
    memcpy(&errno, answer + 16, sizeof errno);
    if ((errno = -errno) != 0)
        give_up("RTM_NEWADDR");
    close(s);
}

static void set_up(const char *device)
{
    struct ifreq r;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&r, 0, sizeof r);
    strncpy(r.ifr_name, device, sizeof r.ifr_name - 1);
    r.ifr_flags = IFF_UP;
    if (s < 0 || ioctl(s, SIOCSIFFLAGS, &r) == -1)
        give_up(device);
    close(s);
}

static void set(const char *const *setting)
{
    char path[128];
    snprintf(path, sizeof path, "/proc/sys/%s", setting[0]);
    write_file(path, setting[1]);
}

static void new_namespace(void)
{
    struct ifreq r;
    if (unshare(CLONE_NEWNET) == -1)
        give_up("unshare(CLONE_NEWNET)");
    for (int i = 0; i < COUNT(settings); i++)
        set(settings[i]);
    for (int i = 0; i < COUNT(kernel_settings); i++)
        set(kernel_settings[i]);
    if (tun >= 0)
        close(tun);
    tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun == -1)
        give_up("/dev/net/tun");
    memset(&r, 0, sizeof r);
    memcpy(r.ifr_name, "tun0", 5);
    r.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (ioctl(tun, TUNSETIFF, &r) == -1)
        give_up("TUNSETIFF");
    /* Without an address of its own making: its neighbours are not told of it either. */
    write_file("/proc/sys/net/ipv6/conf/tun0/addr_gen_mode", "1");
    set_up("lo");
    set_up("tun0");
    add_address(AF_INET, HOST4, 24, (int)if_nametoindex("tun0"));
    int news = address_news();
    add_address(AF_INET6, HOST6, 64, (int)if_nametoindex("tun0"));
    wait_for_address(news);
    close(news);
}

/* The device in memory: one packet to the host at a time, and a queue from it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t dealt_with;
    int event;
    bool waiting; /* a packet the stack has not asked for, or has not finished with */
    unsigned char in[ROOM], out[64][ROOM];
    size_t in_len, out_len[64];
    int out_first, out_count;
} memory = {.lock = PTHREAD_MUTEX_INITIALIZER, .dealt_with = PTHREAD_COND_INITIALIZER};

static int memory_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    (void)args;
    info->mtu = MTU;
    *device = &memory;
    return 0;
}

/* Asked again after a packet, with none left, the stack has finished with that packet. */
static int memory_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    usk_skb_t *skb = NULL;
    uint64_t count;
    (void)device, (void)queue, (void)now;
    if (budget == 0)
        return 0;
    pthread_mutex_lock(&memory.lock);
    if (memory.in_len) {
        skb = usk_skb_new();
        if (skb)
            usk_skb_append(skb, memory.in, memory.in_len);
        memory.in_len = 0;
    } else if (memory.waiting) {
        memory.waiting = false;
        if (read(memory.event, &count, sizeof count) < 0)
            give_up("eventfd");
        pthread_cond_signal(&memory.dealt_with);
    }
    pthread_mutex_unlock(&memory.lock);
    if (skb)
        usk_device_rx(sink, skb);
    return 0;
}

static int memory_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    size_t n = usk_skb_len(skb);
    (void)device, (void)queue, (void)now;
    pthread_mutex_lock(&memory.lock);
    if (memory.out_count < COUNT(memory.out) && n <= ROOM) {
        int at = (memory.out_first + memory.out_count++) % COUNT(memory.out);
        memory.out_len[at] = n;
        usk_skb_copy(skb, 0, memory.out[at], n);
    }
    pthread_mutex_unlock(&memory.lock);
    return 0;
}

static int memory_poll_fd(void *device, uint32_t queue)
{
    (void)device, (void)queue;
    return memory.event;
}

static int memory_init(usk_plugin_t *plugin)
{
    static const usk_device_ops ops = {
        .version = USK_DEVICE_VERSION,
        .size = sizeof ops,
        .name = "memory",
        .open = memory_open,
        .recv = memory_recv,
        .xmit = memory_xmit,
        .poll_fd = memory_poll_fd,
    };
    return usk_device_register(plugin, &ops, NULL, NULL);
}

static void new_stack(void)
{
    memory.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    memory.out_count = 0;
    memory.in_len = 0;
    memory.waiting = false;
    stack = usk_stack_new("sysctl.net.ipv4.ping_group_range=0 4294967294");
    if (!stack || !usk_plugin_attach(stack, "memory", memory_init) ||
        usk_device_add(stack, "device=memory:x,addr=" HOST4 "/24,addr=" HOST6 "/64") == -1)
        give_up("usk_device_add");
    for (int i = 0; i < COUNT(settings); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s", settings[i][0]);
        for (char *c = name; *c; c++)
            *c = *c == '/' ? '.' : *c;
        if (usk_sysctl_set(stack, name, settings[i][1]) == -1)
            give_up(name);
    }
}

void new_network(void)
{
    if (on_usersock())
        new_stack();
    else
        new_namespace();
}

void end_network(void)
{
    if (on_usersock())
        usk_stack_free(stack);
}

void net_in(const unsigned char *b, size_t n)
{
    if (!on_usersock()) {
        /* EINVAL: neither version 4 nor 6. */
        if (write(tun, b, n) == -1 && errno != EINVAL)
            give_up("write to the TUN");
        return;
    }
    uint64_t one = 1;
    pthread_mutex_lock(&memory.lock);
    memcpy(memory.in, b, n);
    memory.in_len = n;
    memory.waiting = true;
    if (write(memory.event, &one, sizeof one) < 0)
        give_up("eventfd");
    while (memory.waiting)
        pthread_cond_wait(&memory.dealt_with, &memory.lock);
    pthread_mutex_unlock(&memory.lock);
}

size_t net_out(unsigned char *b, size_t room)
{
    size_t n = 0;
    if (!on_usersock()) {
        ssize_t r = read(tun, b, room);
        return r < 0 ? 0 : (size_t)r;
    }
    pthread_mutex_lock(&memory.lock);
    if (memory.out_count) {
        n = memory.out_len[memory.out_first];
        memcpy(b, memory.out[memory.out_first], n);
        memory.out_first = (memory.out_first + 1) % COUNT(memory.out);
        memory.out_count--;
    }
    pthread_mutex_unlock(&memory.lock);
    return n;
}

/* In /proc/net/snmp and netstat a line of names is followed by a line of values; a name of ours is the line's first
 * word and the column's. */
static long long from_columns(const char *path, const char *name)
{
    static char names[16384], values[16384];
    long long found = -1;
    FILE *f = fopen(path, "re");
    while (f && found < 0 && fgets(names, sizeof names, f) && fgets(values, sizeof values, f)) {
        char *colon = strchr(names, ':'), *sn = NULL, *sv = NULL;
        size_t prefix = colon ? (size_t)(colon - names) : 0;
        if (!colon || strncmp(name, names, prefix) != 0)
            continue;
        char *n = strtok_r(colon + 1, " \n", &sn), *v = strtok_r(strchr(values, ':') + 1, " \n", &sv);
        for (; n && v; n = strtok_r(NULL, " \n", &sn), v = strtok_r(NULL, " \n", &sv))
            if (strcmp(n, name + prefix) == 0)
                found = atoll(v);
    }
    if (f)
        fclose(f);
    return found;
}

static long long from_lines(const char *path, const char *name)
{
    char key[64];
    long long value, found = -1;
    FILE *f = fopen(path, "re");
    while (f && fscanf(f, "%63s %lld", key, &value) == 2)
        if (strcmp(key, name) == 0)
            found = value;
    if (f)
        fclose(f);
    return found;
}

long long net_counter(const char *name)
{
    uint64_t value = 0;
    if (on_usersock())
        return usk_mib_read(stack, name, &value) == -1 ? -1 : (long long)value;
    if (strstr(name, "6"))
        return from_lines("/proc/thread-self/net/snmp6", name);
    long long found = from_columns("/proc/thread-self/net/snmp", name);
    return found >= 0 ? found : from_columns("/proc/thread-self/net/netstat", name);
}

/* Options of a plug-in's UDP port: groups it joins and sends to, ports that share a number, one interface alone, and
 * what is refused; and a tunnel that is routed into itself. In a world, where what is under way has arrived when the
 * call that runs it returns. */
#include "common.h"
#include <net/if.h>
#include <usersock/device.h>
#include <usersock/over.h>
#include <usersock/sim.h>

#define MS 1000000ULL

enum { PORT = 4789 };

static usk_reg_t *reg;
static struct {
    int datagrams;
    usk_packet_info_t info;
} got[2];

static void on_datagram(usk_udp_t *udp, usk_skb_t *skb, const usk_packet_info_t *info)
{
    int i = usk_udp_user(udp) == &got[1];
    got[i].datagrams++;
    got[i].info = *info;
    usk_drop(usk_udp_reg(udp), skb, USK_DROP_NO_SOCKET);
}

static const usk_addr_t any = { .family = AF_INET, .port = PORT };

static usk_udp_ops ops_of(uint32_t flags, uint32_t ifindex)
{
    return (usk_udp_ops){ .version = USK_UDP_VERSION, .size = sizeof(usk_udp_ops), .encap_rcv = on_datagram,
                          .flags = flags, .ifindex = ifindex };
}

static ptrdiff_t no_send(usk_owned_t *o, usk_sendmsg_t *msg)
{
    (void)o, (void)msg;
    return -EPIPE;
}
static ptrdiff_t no_recv(usk_owned_t *o, usk_recvmsg_t *msg)
{
    (void)o, (void)msg;
    return -EAGAIN;
}

/* A tunnel whose own datagrams are routed into it. */
static usk_udp_t *tunnel;
static int sent, refused_with_enobufs;

static int tunnel_open(const usk_device_args_t *args, usk_device_info_t *info, void **device)
{
    (void)args, (void)info;
    *device = &sent;
    return 0;
}
static int tunnel_recv(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink)
{
    (void)device, (void)queue, (void)now, (void)budget, (void)sink;
    return 0;
}
static int tunnel_xmit(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb)
{
    (void)device, (void)queue, (void)now;
    const usk_addr_t peer = { .family = AF_INET, .port = PORT, .addr = { 10, 9, 0, 2 } };
    sent++;
    int r = usk_udp_send(tunnel, usk_skb_share(skb), &peer, NULL, 0);
    CHECK(r == 0 || r == -ENOBUFS);
    refused_with_enobufs += r == -ENOBUFS;
    return 0;
}

static int init(usk_plugin_t *plugin)
{
    usk_device_ops device = { .version = USK_DEVICE_VERSION, .size = sizeof device, .name = "tunnel",
                              .open = tunnel_open, .recv = tunnel_recv, .xmit = tunnel_xmit };
    EQ(usk_device_register(plugin, &device, NULL, NULL), 0);

    usk_proto table = { .version = USK_PROTO_VERSION, .size = sizeof table, .name = "ENCAP", .socket_type = SOCK_DGRAM,
                        .protocol = 65535, .flags = USK_PROTO_V4 | USK_PROTO_V6, .backlog_rcv = free_it,
                        .sendmsg_locked = no_send, .recvmsg_locked = no_recv };
    return usk_proto_register(plugin, &table, NULL, &reg);
}

static usk_world_t *world;
static usk_stack_t *a, *b;

/* A datagram of b's program; returns how many a port has got of it. */
static int arrives(int fd, const char *to, int port)
{
    struct addr addr = at(to, port);
    int before = got[0].datagrams + got[1].datagrams;
    EQ(usk_sendto(fd, "x", 1, 0, &addr.sa, addr.len), 1);
    OK(usk_world_run_for(world, 50 * MS));
    return got[0].datagrams + got[1].datagrams - before;
}

static void groups(int fd)
{
    usk_udp_ops ops = ops_of(0, 0);
    usk_udp_t *udp;
    struct ip_mreqn group = { .imr_ifindex = 2 };
    inet_pton(AF_INET, "239.1.2.3", &group.imr_multiaddr);
    EQ(usk_udp_open(reg, &any, &ops, &got[0], &udp), 0);
    OK(usk_setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof group));
    EQ(arrives(fd, "239.1.2.3", PORT), 0);
    EQ(usk_udp_setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), 0);
    EQ(usk_udp_setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), -EADDRINUSE);
    EQ(arrives(fd, "239.1.2.3", PORT), 1);
    EQ(got[0].info.dst.addr[0], 239);
    EQ(arrives(fd, "239.1.2.4", PORT), 0);
    EQ(usk_udp_setsockopt(udp, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group), 0);
    EQ(arrives(fd, "239.1.2.3", PORT), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 1);

    /* And it sends to one, as its options say. */
    unsigned char ttl = 9, read = 0;
    struct addr local = at("0.0.0.0", PORT);
    struct msghdr hdr = { 0 };
    char byte, control[64];
    struct iovec iov = { &byte, 1 };
    int member = (int)OK(usk_socket_on(b, AF_INET, SOCK_DGRAM, 0)), on = 1;
    OK(usk_bind(member, &local.sa, local.len));
    OK(usk_setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    OK(usk_setsockopt(member, IPPROTO_IP, IP_RECVTTL, &on, sizeof on));
    EQ(usk_udp_setsockopt(udp, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, 1), 0);
    EQ(usk_udp_setsockopt(udp, IPPROTO_IP, IP_MULTICAST_IF, &group, sizeof group), 0);
    EQ(usk_udp_getsockopt(udp, IPPROTO_IP, IP_MULTICAST_TTL, &read, 1), 1);
    EQ(read, 9);
    usk_addr_t to = { .family = AF_INET, .port = PORT, .addr = { 239, 1, 2, 3 } };
    usk_skb_t *skb = usk_skb_new();
    EQ(usk_skb_append(skb, "y", 1), 0);
    EQ(usk_udp_send(udp, skb, &to, NULL, 0), 0);
    OK(usk_world_run_for(world, 50 * MS));
    hdr.msg_iov = &iov;
    hdr.msg_iovlen = 1;
    hdr.msg_control = control;
    hdr.msg_controllen = sizeof control;
    EQ(usk_recvmsg(member, &hdr, MSG_DONTWAIT), 1);
    struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);
    CHECK(c && c->cmsg_type == IP_TTL);
    EQ(*(int *)CMSG_DATA(c), 9);
    OK(usk_close(member));
    EQ(usk_udp_close(udp), 0);
}

static void shared(int fd)
{
    usk_udp_ops alone = ops_of(0, 0), share = ops_of(USK_UDP_REUSEPORT, 0);
    usk_udp_t *udp[2], *third;
    EQ(usk_udp_open(reg, &any, &share, &got[0], &udp[0]), 0);
    EQ(usk_udp_open(reg, &any, &alone, &got[0], &third), -EADDRINUSE);
    EQ(usk_udp_open(reg, &any, &share, &got[1], &udp[1]), 0);
    got[0].datagrams = got[1].datagrams = 0;
    /* Each flow has one of them: with so many both have some. */
    for (int i = 0; i < 64; i++) {
        int other = (int)OK(usk_socket_on(b, AF_INET, SOCK_DGRAM, 0));
        EQ(arrives(other, "10.1.0.1", PORT), 1);
        OK(usk_close(other));
    }
    CHECK(got[0].datagrams > 0 && got[1].datagrams > 0);
    EQ(got[0].datagrams + got[1].datagrams, 64);
    EQ(usk_udp_close(udp[0]), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 1);
    EQ(usk_udp_close(udp[1]), 0);
}

static void one_interface(int fd)
{
    usk_udp_ops lo = ops_of(0, 1), sim = ops_of(0, 2);
    usk_udp_t *udp;
    EQ(usk_udp_open(reg, &any, &lo, &got[0], &udp), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 0);
    EQ(usk_udp_close(udp), 0);
    EQ(usk_udp_open(reg, &any, &sim, &got[0], &udp), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 1);
    EQ(usk_udp_close(udp), 0);
}

static void families(int fd)
{
    usk_udp_ops both = ops_of(0, 0), only = ops_of(USK_UDP_V6ONLY, 0);
    usk_addr_t any6 = { .family = AF_INET6, .port = PORT };
    usk_udp_t *udp;
    EQ(usk_udp_open(reg, &any6, &both, &got[0], &udp), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 1);
    EQ(usk_udp_close(udp), 0);
    EQ(usk_udp_open(reg, &any6, &only, &got[0], &udp), 0);
    EQ(arrives(fd, "10.1.0.1", PORT), 0);
    EQ(usk_udp_close(udp), 0);
}

static void refused(void)
{
    usk_udp_ops ops = ops_of(4, 0), first = ops_of(USK_UDP_REUSEPORT, 0);
    usk_udp_t *udp;
    int on = 1;
    EQ(usk_udp_open(reg, &any, &ops, NULL, &udp), -EINVAL);
    CHECK(strstr(usk_config_error(), "unknown flags") != NULL);
    /* A table as there was at first ends before them. */
    first.size = offsetof(usk_udp_ops, flags);
    EQ(usk_udp_open(reg, &any, &first, NULL, &udp), 0);
    EQ(usk_udp_getsockopt(udp, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), sizeof on);
    EQ(on, 0);
    static const int of_receivers[][2] = { { SOL_SOCKET, SO_RCVBUF }, { SOL_SOCKET, SO_TIMESTAMP },
                                           { IPPROTO_IP, IP_PKTINFO }, { IPPROTO_IP, IP_RECVERR },
                                           { IPPROTO_IPV6, IPV6_RECVPKTINFO }, { IPPROTO_UDP, 104 } };
    on = 1;
    for (int i = 0; i < COUNT(of_receivers); i++)
        EQ(usk_udp_setsockopt(udp, of_receivers[i][0], of_receivers[i][1], &on, sizeof on), -ENOPROTOOPT);
    EQ(usk_udp_setsockopt(udp, SOL_SOCKET, SO_BROADCAST, NULL, sizeof on), -EFAULT);
    EQ(usk_udp_setsockopt(udp, SOL_SOCKET, SO_BROADCAST, &on, 1), -EINVAL);
    EQ(usk_udp_setsockopt(NULL, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), -EINVAL);
    /* A datagram to a broadcast address, without the option and with it. */
    usk_addr_t all = { .family = AF_INET, .port = 9, .addr = { 10, 1, 0, 255 } };
    for (int may = 0; may < 2; may++) {
        usk_skb_t *skb = usk_skb_new();
        EQ(usk_skb_append(skb, "z", 1), 0);
        EQ(usk_udp_send(udp, skb, &all, NULL, 0), may ? 0 : -EACCES);
        EQ(usk_udp_setsockopt(udp, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
    }
    EQ(usk_udp_close(udp), 0);
}

static void into_itself(void)
{
    usk_udp_ops ops = ops_of(0, 0);
    EQ(usk_udp_open(reg, &any, &ops, NULL, &tunnel), 0);
    OK(usk_device_add(a, "device=tunnel:x,addr=10.9.0.1/24"));
    int fd = (int)OK(usk_socket_on(a, AF_INET, SOCK_DGRAM, 0));
    struct addr to = at("10.9.0.2", 9);
    EQ(usk_sendto(fd, "x", 1, 0, &to.sa, to.len), 1);
    /* The program's datagram, and the tunnel's own around it. */
    EQ(sent, 2);
    EQ(refused_with_enobufs, 1);
    OK(usk_close(fd));
}

int main(void)
{
    begin("encap_options");
    world = usk_world_new(1);
    a = usk_world_host(world, "a", NULL);
    b = usk_world_host(world, "b", NULL);
    CHECK(usk_world_link(world, "a", "b", NULL, 0, 0) != NULL);
    usk_plugin_t *plugin = usk_plugin_attach(a, "encap", init);
    CHECK(plugin != NULL);
    int fd = (int)OK(usk_socket_on(b, AF_INET, SOCK_DGRAM, 0));
    groups(fd);
    shared(fd);
    one_interface(fd);
    families(fd);
    refused();
    OK(usk_close(fd));
    into_itself();
    OK(usk_world_free(world));
    usk_stack_free(a);
    usk_stack_free(b);
    return done();
}

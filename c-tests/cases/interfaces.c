/* Interfaces: numbers and names, the ioctls of netdevice(7), getifaddrs. What is asked of is lo. */
#include "common.h"
#include <ifaddrs.h>
#include <net/if_arp.h>
#include <netpacket/packet.h>

static struct ifreq named(const char *name)
{
    struct ifreq r;
    memset(&r, 0x5a, sizeof r);
    memset(r.ifr_name, 0, sizeof r.ifr_name);
    strcpy(r.ifr_name, name);
    return r;
}

static const unsigned long of_any[] = {SIOCGIFINDEX, SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFMETRIC, SIOCGIFTXQLEN,
                                       SIOCGIFHWADDR};
static const unsigned long of_inet[] = {SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFDSTADDR};

static in_addr_t inet_of(const struct ifreq *r)
{
    struct sockaddr_in sin;
    memcpy(&sin, &r->ifr_addr, sizeof sin);
    EQ(sin.sin_family, AF_INET);
    EQ(sin.sin_port, 0);
    return ntohl(sin.sin_addr.s_addr);
}

static void errors(int fd, int family)
{
    void *read_only = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(read_only != MAP_FAILED);
    for (int i = 0; i < COUNT(of_any); i++) {
        struct ifreq r = named("nope");
        ERR(usk_ioctl(fd, of_any[i], &r), ENODEV);
        r = named("");
        ERR(usk_ioctl(fd, of_any[i], &r), ENODEV);
        r = named("lo:7"); /* an alias is cut off */
        EQ(usk_ioctl(fd, of_any[i], &r), 0);
        EQ(strcmp(r.ifr_name, "lo:7"), 0);
        ERR(usk_ioctl(fd, of_any[i], NULL), EFAULT);
        ERR(usk_ioctl(fd, of_any[i], read_only), ENODEV);
    }
    for (int i = 0; i < COUNT(of_inet); i++) {
        struct ifreq r = named("nope");
        ERR(usk_ioctl(fd, of_inet[i], &r), family == AF_INET ? ENODEV : ENOTTY);
        r = named("lo:7");
        ERR(usk_ioctl(fd, of_inet[i], &r), family == AF_INET ? EADDRNOTAVAIL : ENOTTY);
        if (family == AF_INET)
            ERR(usk_ioctl(fd, of_inet[i], NULL), EFAULT);
    }
    struct ifreq r = {.ifr_ifindex = 4711};
    ERR(usk_ioctl(fd, SIOCGIFNAME, &r), ENODEV);
    r.ifr_ifindex = -1;
    ERR(usk_ioctl(fd, SIOCGIFNAME, &r), ENODEV);
    ERR(usk_ioctl(fd, SIOCGIFNAME, NULL), EFAULT);
    OK(munmap(read_only, 4096));
}

static void values(int fd, int family)
{
    struct ifreq r = named("lo");
    OK(usk_ioctl(fd, SIOCGIFINDEX, &r));
    EQ(r.ifr_ifindex, 1);
    EQ(((unsigned char *)&r)[sizeof r - 1], 0x5a); /* only what is answered changes */
    OK(usk_ioctl(fd, SIOCGIFNAME, &r));
    EQ(strcmp(r.ifr_name, "lo"), 0);
    OK(usk_ioctl(fd, SIOCGIFFLAGS, &r));
    EQ(r.ifr_flags, IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
    OK(usk_ioctl(fd, SIOCGIFMTU, &r));
    EQ(r.ifr_mtu, 65536);
    OK(usk_ioctl(fd, SIOCGIFMETRIC, &r));
    EQ(r.ifr_metric, 0);
    OK(usk_ioctl(fd, SIOCGIFTXQLEN, &r));
    EQ(r.ifr_qlen, 1000);
    OK(usk_ioctl(fd, SIOCGIFHWADDR, &r));
    EQ(r.ifr_hwaddr.sa_family, ARPHRD_LOOPBACK);
    EQ(memcmp(r.ifr_hwaddr.sa_data, "\0\0\0\0\0\0", 6), 0);
    if (family != AF_INET)
        return;
    OK(usk_ioctl(fd, SIOCGIFADDR, &r));
    EQ(inet_of(&r), INADDR_LOOPBACK);
    OK(usk_ioctl(fd, SIOCGIFDSTADDR, &r));
    EQ(inet_of(&r), INADDR_LOOPBACK);
    OK(usk_ioctl(fd, SIOCGIFNETMASK, &r));
    EQ(inet_of(&r), 0xff000000);
    OK(usk_ioctl(fd, SIOCGIFBRDADDR, &r));
    EQ(inet_of(&r), 0);
}

static void conf(int fd)
{
    struct ifreq list[4];
    struct ifconf c = {.ifc_len = 0, .ifc_buf = NULL};
    OK(usk_ioctl(fd, SIOCGIFCONF, &c)); /* how much room all of them take */
    EQ(c.ifc_len, sizeof list[0]);
    c = (struct ifconf){.ifc_len = sizeof list, .ifc_req = list};
    memset(list, 0x5a, sizeof list);
    OK(usk_ioctl(fd, SIOCGIFCONF, &c));
    EQ(c.ifc_len, sizeof list[0]);
    EQ(strcmp(list[0].ifr_name, "lo"), 0);
    EQ(inet_of(&list[0]), INADDR_LOOPBACK);
    EQ(list[1].ifr_name[0], 0x5a);
    c.ifc_len = sizeof list[0] - 1; /* none fits */
    OK(usk_ioctl(fd, SIOCGIFCONF, &c));
    EQ(c.ifc_len, 0);
    c.ifc_len = -1;
    OK(usk_ioctl(fd, SIOCGIFCONF, &c));
    EQ(c.ifc_len, 0);
    c = (struct ifconf){.ifc_len = sizeof list, .ifc_buf = (char *)8};
    ERR(usk_ioctl(fd, SIOCGIFCONF, &c), EFAULT);
    ERR(usk_ioctl(fd, SIOCGIFCONF, NULL), EFAULT);
}

static void numbers(void)
{
    char name[IF_NAMESIZE];
    EQ(usk_if_nametoindex("lo"), 1);
    EQ(usk_if_nametoindex("lo:7"), 1);
    static const char *const none[] = {"nope", "", "a_name_too_long_for_one", "l"};
    for (int i = 0; i < COUNT(none); i++) {
        errno = 0;
        EQ(usk_if_nametoindex(none[i]), 0);
        EQ(errno, ENODEV);
    }
    CHECK(usk_if_indextoname(1, name) == name && strcmp(name, "lo") == 0);
    static const unsigned int absent[] = {0, 4711, (unsigned int)-1};
    for (int i = 0; i < COUNT(absent); i++) {
        errno = 0;
        CHECK(!usk_if_indextoname(absent[i], name));
        EQ(errno, ENXIO);
    }
}

static void list(void)
{
    struct ifaddrs *all;
    OK(usk_getifaddrs(&all));
    int families[] = {AF_PACKET, AF_INET, AF_INET6}, n = 0;
    for (struct ifaddrs *a = all; a; a = a->ifa_next, n++) {
        CHECK(n < COUNT(families) && a->ifa_addr);
        EQ(strcmp(a->ifa_name, "lo"), 0);
        EQ(a->ifa_flags, IFF_UP | IFF_LOOPBACK | IFF_RUNNING | 0x10000 /* IFF_LOWER_UP */);
        EQ(a->ifa_addr->sa_family, families[n]);
        EQ(!a->ifa_data, n != 0);
        EQ(!a->ifa_netmask, n == 0);
        if (n == 0) {
            struct sockaddr_ll *ll = (struct sockaddr_ll *)(void *)a->ifa_addr;
            EQ(ll->sll_ifindex, 1);
            EQ(ll->sll_hatype, ARPHRD_LOOPBACK);
            EQ(ll->sll_halen, 6);
            EQ(a->ifa_broadaddr->sa_family, AF_PACKET);
        } else if (n == 1) {
            struct sockaddr_in *in = (struct sockaddr_in *)(void *)a->ifa_addr;
            EQ(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
            in = (struct sockaddr_in *)(void *)a->ifa_netmask;
            EQ(ntohl(in->sin_addr.s_addr), 0xff000000);
            in = (struct sockaddr_in *)(void *)a->ifa_dstaddr;
            EQ(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
        } else {
            struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)a->ifa_addr;
            CHECK(IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) && in6->sin6_scope_id == 0);
            in6 = (struct sockaddr_in6 *)(void *)a->ifa_netmask;
            for (int i = 0; i < 16; i++)
                EQ(in6->sin6_addr.s6_addr[i], 0xff);
            CHECK(!a->ifa_dstaddr);
        }
    }
    EQ(n, COUNT(families));
    usk_freeifaddrs(all);
    usk_freeifaddrs(NULL);
}

int main(void)
{
    begin("interfaces");
    static const int kinds[][2] = {{AF_INET, SOCK_STREAM}, {AF_INET, SOCK_DGRAM}, {AF_INET6, SOCK_STREAM},
                                   {AF_INET6, SOCK_DGRAM}};
    for (int i = 0; i < COUNT(kinds); i++) {
        int fd = (int)OK(usk_socket(kinds[i][0], kinds[i][1], 0));
        errors(fd, kinds[i][0]);
        values(fd, kinds[i][0]);
        conf(fd);
        OK(usk_close(fd));
    }
    numbers();
    list();
    return done();
}

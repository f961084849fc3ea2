/* A TUN device of a stack has the kernel's number, name, MTU and flags: what a program is told by either is true of
 * both. Runs in a network namespace of its own. */
#include "common.h"
#include <ifaddrs.h>
#include <net/if_arp.h>

int main(void)
{
    /* The kernel gives out number 2 to another one first. */
    CHECK(system("ip tuntap add mode tun name other0") == 0);
    CHECK(setenv("USERSOCK_CONFIG", "tun=usk%d,addr=10.9.0.2/24,mtu=1400", 1) == 0);
    begin("interfaces_tun");
    unsigned int index = if_nametoindex("usk0");
    CHECK(index > 2);
    EQ(usk_if_nametoindex("usk0"), index);
    EQ(usk_if_nametoindex("other0"), 0);
    EQ(usk_if_nametoindex("lo"), 1);
    char name[IF_NAMESIZE];
    CHECK(usk_if_indextoname(index, name) && strcmp(name, "usk0") == 0);

    int ours = (int)OK(usk_socket(AF_INET, SOCK_DGRAM, 0)), theirs = (int)OK(socket(AF_INET, SOCK_DGRAM, 0));
    static const unsigned long same[] = {SIOCGIFINDEX, SIOCGIFFLAGS, SIOCGIFMTU, SIOCGIFHWADDR};
    for (int i = 0; i < COUNT(same); i++) {
        struct ifreq a = {.ifr_name = "usk0"}, b = a;
        OK(usk_ioctl(ours, same[i], &a));
        OK(ioctl(theirs, same[i], &b));
        CHECK(memcmp(&a, &b, sizeof a) == 0);
    }
    struct ifreq r = {.ifr_name = "usk0"};
    OK(usk_ioctl(ours, SIOCGIFADDR, &r));
    struct sockaddr_in sin;
    memcpy(&sin, &r.ifr_addr, sizeof sin);
    EQ(ntohl(sin.sin_addr.s_addr), 0x0a090002);
    OK(usk_ioctl(ours, SIOCGIFNETMASK, &r));
    memcpy(&sin, &r.ifr_netmask, sizeof sin);
    EQ(ntohl(sin.sin_addr.s_addr), 0xffffff00);

    /* SO_BINDTODEVICE and IP_PKTINFO speak of the same number. */
    OK(usk_setsockopt(ours, SOL_SOCKET, SO_BINDTODEVICE, "usk0", 4));
    struct ip_mreqn mreq = {.imr_ifindex = (int)index};
    OK(usk_setsockopt(ours, IPPROTO_IP, IP_MULTICAST_IF, &mreq, sizeof mreq));

    struct ifaddrs *all;
    OK(usk_getifaddrs(&all));
    int links = 0, addrs = 0;
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        if (strcmp(a->ifa_name, "usk0") != 0)
            continue;
        links += !a->ifa_addr && a->ifa_data; /* no hardware address, as of the kernel's list */
        addrs += a->ifa_addr && a->ifa_addr->sa_family == AF_INET;
        EQ(a->ifa_flags & 0xffff, IFF_UP | IFF_POINTOPOINT | IFF_RUNNING | IFF_NOARP | IFF_MULTICAST);
    }
    EQ(links, 1);
    EQ(addrs, 1);
    usk_freeifaddrs(all);
    OK(usk_close(ours));
    OK(close(theirs));
    return done();
}

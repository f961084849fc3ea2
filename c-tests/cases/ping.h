/* Ping sockets, which nobody may have until net.ipv4.ping_group_range names a group. Include after common.h. */
#ifndef USERSOCK_CASES_PING_H
#define USERSOCK_CASES_PING_H

/* They are refused; from now on everybody may have them. */
static void may_ping(void)
{
    /* Under the preload shim the configuration has named one. */
#ifndef PRELOADED
    ERR(usk_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), EACCES);
    ERR(usk_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), EACCES);
#endif
#ifdef ON_KERNEL
    int f = (int)OK(open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY));
    OK(write(f, "0 0", 3));
    OK(close(f));
#elif !defined PRELOADED
    OK(usk_sysctl_set(NULL, "net.ipv4.ping_group_range", "0 4294967294"));
#endif
}
#endif

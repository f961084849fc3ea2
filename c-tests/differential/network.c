/* The network of a sequence of socket calls: the loopback alone. */
#define _GNU_SOURCE
#include "sequence.h"
#include "served.h"
#include "sys.h"
#include "usersock.h"
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The kernel stamps packets while any socket of the machine wants that: here one always does, so that what other
 * programs want makes no difference. It begins a moment later, by a work queue. */
static void want_stamps(void)
{
    static int kept = -1;
    int one = 1;
    if (kept >= 0)
        return;
    int fd = sys->socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || sys->setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one) == -1)
        give_up("SO_TIMESTAMP");
    if (on_usersock()) {
        sys->close(fd); /* of this sequence's stack, which goes on */
        return;
    }
    kept = fd;
    poll(NULL, 0, 20);
}

void begin_side(void)
{
    if (starts_programs())
        want_stamps();
}

void new_network(void)
{
    if (is_served())
        return; /* the server's */
    if (on_usersock()) {
        stack = usk_stack_new("sysctl.net.ipv4.tcp_congestion_control=reno,"
                              "sysctl.net.ipv4.ping_group_range=0 4294967294");
        if (!stack)
            give_up("usk_stack_new");
        want_stamps();
        return;
    }
    want_stamps();
    if (unshare(CLONE_NEWNET) == -1)
        give_up("unshare(CLONE_NEWNET)");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq r;
    memset(&r, 0, sizeof r);
    memcpy(r.ifr_name, "lo", 3);
    r.ifr_flags = IFF_UP;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) == -1)
        give_up("setting lo up");
    close(fd);
    /* Group 0 is what a user namespace is sure to have. */
    write_file("/proc/sys/net/ipv4/ping_group_range", "0 0");
    /* The default is the machine's; Reno is on every one, and open to namespaces. */
    write_file("/proc/sys/net/ipv4/tcp_congestion_control", "reno");
}

void end_network(void)
{
    if (on_usersock())
        usk_stack_free(stack);
}

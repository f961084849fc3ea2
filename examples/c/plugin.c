/* A plug-in: a congestion control that is Reno's with half the window after a loss, but never less than a floor, for
 * paths on which losses are not congestion. The floor is a sysctl, in segments.
 *
 *   cc -shared -fPIC -o plugin.so plugin.c $(pkg-config --cflags usersock)
 *   USERSOCK_CONFIG=plugin=./plugin.so,sysctl.net.ipv4.tcp_congestion_control=floor,tun=... PROGRAM
 *   usersock sysctl --plugin ./plugin.so net.ipv4.tcp_available_congestion_control
 *
 * docs/plugins.md goes from an empty file to a protocol; c-tests/plugins/ has one of each kind. */
#include <usersock/cong.h>

static const usk_sysctl_t sysctls[] = {
    { "segments", 10, 2, 1000, "Least slow-start threshold after a loss, segments." },
    { 0 },
};

static uint32_t floor_ssthresh(usk_tcp_t *tp, void *priv)
{
    uint32_t reno = usk_tcp_reno_ssthresh(tp, priv), least = (uint32_t)usk_sysctl(tp->reg, 0);
    return reno < least ? least : reno;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_cong_ops ops = {
        .version = USK_CONG_VERSION,
        .size = sizeof ops,
        .name = "floor",
        .sysctls = sysctls,
        .ssthresh = floor_ssthresh,
        .cong_avoid = usk_tcp_reno_cong_avoid,
        .undo_cwnd = usk_tcp_reno_undo_cwnd,
    };
    return usk_cong_register(plugin, &ops, NULL, NULL);
}

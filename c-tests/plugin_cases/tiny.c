/* A protocol from a shared object: loaded, refused, used, counted, unloaded. ARGV[1] is the folder of the built
 * plug-ins. */
#include "../cases/common.h"
#include <usersock/core.h>

static usk_plugin_t *load(usk_stack_t *stack, const char *dir, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.so", dir, name);
    return usk_plugin_load(stack, path);
}

static int tiny_socket(usk_stack_t *stack, int family)
{
    return usk_socket_on(stack, family, SOCK_DGRAM, 254);
}

int main(int argc, char **argv)
{
    begin("tiny");
    CHECK(argc == 2);
    const char *dir = argv[1];
    usk_stack_t *stack = usk_stack_new("");
    CHECK(stack != NULL);

    ERR(tiny_socket(stack, AF_INET), EPROTONOSUPPORT);
    CHECK(load(stack, dir, "nothing_of_this_name") == NULL);
    EQ(errno, ENOENT);
    CHECK(strstr(usk_config_error(), "no such file"));
    usk_plugin_t *plugin = load(stack, dir, "tiny");
    CHECK(plugin != NULL);
    /* Twice is once too often: the names are taken, and nothing of the second try is left. */
    CHECK(load(stack, dir, "tiny") == NULL);
    EQ(errno, EEXIST);
    CHECK(strlen(usk_config_error()) > 10);

    /* Datagrams there and back, on both families, with names and truncation. */
    for (int v6 = 0; v6 <= 1; v6++) {
        struct addr any = at(v6 ? "::1" : "127.0.0.1", 0), a, b;
        int s = (int)OK(tiny_socket(stack, any.sa.sa_family)), c = (int)OK(tiny_socket(stack, any.sa.sa_family));
        OK(usk_bind(s, &any.sa, any.len));
        b.len = sizeof b.in6;
        OK(usk_getsockname(s, &b.sa, &b.len));
        OK(usk_connect(c, &b.sa, b.len));
        EQ(usk_send(c, "hello", 5, 0), 5);
        struct pollfd p = { .fd = s, .events = POLLIN | POLLOUT };
        EQ(usk_poll(&p, 1, -1), 1);
        EQ(p.revents, POLLIN | POLLOUT);
        char buf[16] = "";
        a.len = sizeof a.in6;
        EQ(usk_recvfrom(s, buf, sizeof buf, 0, &a.sa, &a.len), 5);
        EQ(memcmp(buf, "hello", 5), 0);
        EQ(usk_sendto(s, "and back", 8, 0, &a.sa, a.len), 8);
        EQ(usk_recv(c, buf, 3, MSG_TRUNC), 8);
        EQ(memcmp(buf, "and", 3), 0);
        ERR(usk_recv(c, buf, sizeof buf, MSG_DONTWAIT), EAGAIN);
        ERR(usk_send(s, "whereto", 7, 0), EDESTADDRREQ);
        ERR(usk_send(c, (const void *)1, 5, 0), EFAULT);
        ERR(usk_listen(s, 1), EOPNOTSUPP);
        int one = 1;
        ERR(usk_setsockopt(s, 254, 1, &one, sizeof one), ENOPROTOOPT);
        if (!v6) {
            int ttl = 7, got = 0;
            socklen_t len = sizeof got;
            OK(usk_setsockopt(s, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl));
            OK(usk_getsockopt(s, IPPROTO_IP, IP_TTL, &got, &len));
            EQ(got, 7);
        }
        /* Both are in the list of sockets. */
        usk_sock_entry_t list[4];
        EQ(usk_sock_list(stack, list, 4, sizeof list[0]), 2);
        int connected = 0;
        for (int i = 0; i < 2; i++) {
            EQ(list[i].protocol, 254);
            EQ(list[i].family, any.sa.sa_family);
            EQ(list[i].type, SOCK_DGRAM);
            connected += list[i].state == 1;
        }
        EQ(connected, 1);
        /* In use, it stays. */
        EQ(usk_plugin_unload(plugin), -1);
        EQ(errno, EBUSY);
        OK(usk_close(s));
        OK(usk_close(c));
    }
    uint64_t in = 0, out = 0;
    OK(usk_mib_read(stack, "TinyInDatagrams", &in));
    OK(usk_mib_read(stack, "TinyOutDatagrams", &out));
    EQ(in, 4);
    EQ(out, 4);

    OK(usk_plugin_unload(plugin));
    ERR(tiny_socket(stack, AF_INET), EPROTONOSUPPORT);
    ERR(usk_mib_read(stack, "TinyInDatagrams", &in), ENOENT);
    /* And again: nothing of the first time is left. */
    plugin = load(stack, dir, "tiny");
    CHECK(plugin != NULL);
    OK(usk_mib_read(stack, "TinyInDatagrams", &in));
    EQ(in, 0);
    int s = (int)OK(tiny_socket(stack, AF_INET));
    OK(usk_close(s));
    usk_stack_free(stack);

    /* The configuration loads it as well. */
    char config[600];
    snprintf(config, sizeof config, "plugin=%s/tiny.so", dir);
    stack = usk_stack_new(config);
    CHECK(stack != NULL);
    s = (int)OK(tiny_socket(stack, AF_INET));
    OK(usk_close(s));
    usk_stack_free(stack);
    return done();
}

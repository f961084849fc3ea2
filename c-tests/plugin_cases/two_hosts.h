/* A world in virtual time with two hosts and a link between them. Include after common.h. */
#ifndef USERSOCK_PLUGIN_CASES_TWO_HOSTS_H
#define USERSOCK_PLUGIN_CASES_TWO_HOSTS_H
#include <usersock/core.h>
#include <usersock/sim.h>

#define MS 1000000ULL
#define S (1000 * MS)

struct two_hosts {
    usk_world_t *world;
    usk_stack_t *a, *b;
    usk_link_t *link;
    struct addr to_a, to_b; /* port 80 of each */
};

/* `a` and `b` are the hosts' configurations, `link` the settings of the link; NULL: the defaults. */
static UNUSED struct two_hosts two_hosts(uint64_t seed, const char *link, const char *a, const char *b)
{
    struct two_hosts n = { .world = usk_world_new(seed) };
    CHECK(n.world != NULL);
    n.a = usk_world_host(n.world, "a", a);
    n.b = usk_world_host(n.world, "b", b);
    if (!n.a || !n.b)
        complain(__FILE__, __LINE__, "usk_world_host", usk_config_error(), "no error");
    n.link = usk_world_link(n.world, "a", "b", link, 0, 0);
    if (!n.link)
        complain(__FILE__, __LINE__, "usk_world_link", usk_config_error(), "no error");
    n.to_a.len = n.to_b.len = sizeof n.to_b.storage;
    OK(usk_link_addr(n.link, 0, AF_INET, 80, &n.to_a.sa, &n.to_a.len));
    OK(usk_link_addr(n.link, 1, AF_INET, 80, &n.to_b.sa, &n.to_b.len));
    return n;
}

static UNUSED void end_two_hosts(struct two_hosts *n)
{
    OK(usk_world_free(n->world));
    usk_stack_free(n->a);
    usk_stack_free(n->b);
}

static UNUSED uint64_t counter(usk_stack_t *stack, const char *name)
{
    uint64_t v = 0;
    OK(usk_mib_read(stack, name, &v));
    return v;
}
#endif

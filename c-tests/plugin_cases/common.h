/* Shared by the cases of plug-ins, beside cases/common.h. */
#ifndef USERSOCK_PLUGIN_CASES_COMMON_H
#define USERSOCK_PLUGIN_CASES_COMMON_H
#include "../cases/common.h"
#include <sched.h>
#include <usersock/proto.h>

/* Checks a failure: this errno, and a line in usk_config_error that contains `line`. */
static UNUSED void refused_with(const void *made, int error, const char *line)
{
    CHECK(made == NULL);
    EQ(errno, error);
    if (!strstr(usk_config_error(), line))
        complain(__FILE__, __LINE__, "usk_config_error()", usk_config_error(), line);
    CHECK(strchr(usk_config_error(), '\n') == NULL);
}

/* Unloads a plug-in. Closing a connection takes a few packets, which the stack's own thread may still process: until
 * then it is in use. */
static UNUSED void unloaded(usk_plugin_t *plugin)
{
    struct pollfd none = { .fd = -1 };
    while (usk_plugin_unload(plugin) != 0) {
        EQ(errno, EBUSY);
        OK(usk_poll(&none, 1, 1));
    }
}

/* How many copies of a shared object's code are mapped: the library maps copies of files, memfds of their names. */
static UNUSED int mapped(const char *name)
{
    char line[512], what[128];
    int n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    snprintf(what, sizeof what, "/memfd:%s ", name);
    while (fgets(line, sizeof line, maps))
        n += strstr(line, what) && strstr(line, " r-xp ");
    fclose(maps);
    return n;
}

/* backlog_rcv and rcv of a protocol that wants no packets. */
static UNUSED void free_it(usk_owned_t *o, usk_skb_t *skb)
{
    (void)o;
    usk_skb_free(skb);
}
static UNUSED void rcv_free(usk_reg_t *reg, usk_skb_t *skb, const usk_packet_info_t *info)
{
    (void)reg, (void)info;
    usk_skb_free(skb);
}
#endif

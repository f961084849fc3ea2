/* AGES: whose data is it? What a plug-in keeps for the process, for a stack, for a registration's sock, and where each
 * ends. A sock of protocol 248 has a tally of the bytes that it was given, its stack one, and the process one; recv(2)
 * returns all three as text. Nothing is sent.
 *
 *   process   static data; all stacks share it     usk_plugin_exit, after the last stack
 *   stack     usk_user of the registration         usk_user_release
 *   sock      usk_private                          destroy
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <usersock/proto.h>

enum { AGES = 248 };

struct tally {
    atomic_ulong bytes;
};

static _Atomic(struct tally *) process;

static ssize_t ages_sendmsg(usk_owned_t *o, usk_sendmsg_t *msg)
{
    struct tally *stack = usk_user(usk_owned_reg(o)), *sock = usk_private(o);
    size_t len = usk_sendmsg_len(msg);
    sock->bytes += len;
    stack->bytes += len;
    process->bytes += len;
    return (ssize_t)len;
}

static ssize_t ages_recvmsg(usk_owned_t *o, usk_recvmsg_t *msg)
{
    struct tally *stack = usk_user(usk_owned_reg(o)), *sock = usk_private(o);
    char text[100];
    int n = snprintf(text, sizeof text, "sock %lu stack %lu process %lu", sock->bytes, stack->bytes, process->bytes);
    return usk_recvmsg_put(msg, text, (size_t)n);
}

/* Once for each stack; perhaps for two at a time. */
int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "AGES",
        .socket_type = SOCK_DGRAM,
        .protocol = AGES,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .obj_size = sizeof(struct tally),
        .sendmsg_locked = ages_sendmsg,
        .recvmsg_locked = ages_recvmsg,
    };
    struct tally *first = NULL, *new = calloc(1, sizeof *new), *stack = calloc(1, sizeof *stack);
    usk_reg_t *reg;
    if (!new || !stack || !atomic_compare_exchange_strong(&process, &first, new))
        free(new);
    int r = stack && process ? usk_proto_register(plugin, &table, stack, &reg) : -ENOMEM;
    if (r < 0)
        free(stack);
    else
        usk_user_release(reg, free);
    return r;
}

void usk_plugin_exit(usk_plugin_t *plugin)
{
    (void)plugin;
    free(process);
    process = NULL;
}

/* The protocol that benches/tables.rs has in Rust, through a C table: a datagram goes into the sender's own receive
 * queue. */
#include <usersock/proto.h>

static ssize_t self_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    int r = usk_receive_push(&o, usk_skb_from_msg(msg, len));
    usk_release_sock(&o);
    return r < 0 ? r : (ssize_t)len;
}

static ssize_t self_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    ssize_t n = usk_receive_msg(&o, msg, 0);
    usk_release_sock(&o);
    return n;
}

/* The same with the sock owned by the caller. */

static ssize_t self_sendmsg_locked(usk_owned_t *o, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    int r = usk_receive_push(o, usk_skb_from_msg(msg, len));
    return r < 0 ? r : (ssize_t)len;
}

static ssize_t self_recvmsg_locked(usk_owned_t *o, usk_recvmsg_t *msg)
{
    return usk_receive_msg(o, msg, 0);
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto locks = {
        .version = USK_PROTO_VERSION,
        .size = sizeof locks,
        .name = "SELF-C",
        .socket_type = SOCK_DGRAM,
        .protocol = 253,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .sendmsg = self_sendmsg,
        .recvmsg = self_recvmsg,
    };
    static const usk_proto owned = {
        .version = USK_PROTO_VERSION,
        .size = sizeof owned,
        .name = "SELF-C-OWNED",
        .socket_type = SOCK_DGRAM,
        .protocol = 252,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .sendmsg_locked = self_sendmsg_locked,
        .recvmsg_locked = self_recvmsg_locked,
    };
    int r = usk_proto_register(plugin, &locks, NULL, NULL);
    return r < 0 ? r : usk_proto_register(plugin, &owned, NULL, NULL);
}

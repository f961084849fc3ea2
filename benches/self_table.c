/* The protocol that benches/tables.rs has in Rust, through a C table: a datagram goes into the sender's own receive queue. */
#include <errno.h>
#include <usersock.h>

static ssize_t self_sendmsg(usk_sock_t *sk, usk_sendmsg_t *msg)
{
    size_t len = usk_sendmsg_len(msg);
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    usk_skb_t *skb = usk_skb_new();
    usk_skb_append_msg(skb, msg, len);
    int r = usk_receive_push(&o, skb);
    usk_release_sock(&o);
    return r < 0 ? r : (ssize_t)len;
}

static ssize_t self_recvmsg(usk_sock_t *sk, usk_recvmsg_t *msg)
{
    ssize_t n = -EAGAIN;
    usk_owned_t o;
    usk_lock_sock(sk, &o);
    usk_skb_t *skb = usk_receive_pop(&o);
    if (skb) {
        n = usk_recvmsg_put_skb(msg, skb, 0, usk_skb_len(skb));
        usk_skb_free(skb);
    }
    usk_release_sock(&o);
    return n;
}

int usk_plugin_init(usk_plugin_t *plugin)
{
    static const usk_proto table = {
        .version = USK_PROTO_VERSION,
        .size = sizeof table,
        .name = "SELF-C",
        .socket_type = SOCK_DGRAM,
        .protocol = 253,
        .flags = USK_PROTO_V4 | USK_PROTO_NO_PORTS,
        .sendmsg = self_sendmsg,
        .recvmsg = self_recvmsg,
    };
    return usk_proto_register(plugin, &table, NULL, NULL);
}

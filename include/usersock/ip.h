/* usersock for plug-ins: what a transport protocol has of IP: sending, routes, ICMP errors, super-packets, addresses
 * and ports. proto.h includes it. MIT OR Apache-2.0. */

#ifndef USERSOCK_IP_H
#define USERSOCK_IP_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "proto.h"

/*
 usk_tx_info_t.flags: `src` is the source address.
 */
#define USK_TX_SRC 1

/*
 usk_tx_info_t.flags: the packet leaves by `ifindex`.
 */
#define USK_TX_IFINDEX 2

/*
 usk_tx_info_t.flags: `tos` is the TOS or traffic class.
 */
#define USK_TX_TOS 4

/*
 usk_tx_info_t.flags: `ttl` is the TTL or hop limit.
 */
#define USK_TX_TTL 8

/*
 usk_tx_info_t.flags: `flow_label` is the flow label (IPv6).
 */
#define USK_TX_FLOW_LABEL 16

/*
 usk_tx_info_t.flags: the packet is not fragmented, here or on its way: -EMSGSIZE if it is larger than the path MTU.
 */
#define USK_TX_DF 32

/*
 For usk_icmp_send: no sock on this port (ICMP 3/3, ICMPv6 1/4).
 */
#define USK_ICMP_PORT_UNREACH 1

/*
 For usk_icmp_send: what the packet is for is not served here (ICMP 3/2; ICMPv6 4/1, with where the packet names the
 protocol).
 */
#define USK_ICMP_PROT_UNREACH 2

/*
 For usk_icmp_send: a filter refuses it (ICMP 3/13, ICMPv6 1/1).
 */
#define USK_ICMP_PROHIBITED 3

/*
 For usk_icmp_send: it cannot be passed on in one piece; `mtu` is carried (ICMP 3/4, ICMPv6 2/0).
 */
#define USK_ICMP_TOO_BIG 4

/*
 What a protocol decides for one packet: the members whose bits `flags` has. Members and bits that it does not have
 are the socket's (IP_TOS, IP_TTL ...), or those of the control messages of the send call that runs.
 */
typedef struct usk_tx_info_t {
  /*
   USK_TX_*.
   */
  uint32_t flags;
  /*
   Interface.
   */
  uint32_t ifindex;
  /*
   Source address, one of this host's; its port is not used.
   */
  usk_addr_t src;
  /*
   Flow label, 20 bits.
   */
  uint32_t flow_label;
  /*
   TOS or traffic class, with ECN in the low two bits: also of a stream, for which IP_TOS does not set these.
   */
  uint8_t tos;
  /*
   TTL or hop limit, 1 to 255.
   */
  uint8_t ttl;
  /*
   0.
   */
  uint16_t reserved;
} usk_tx_info_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Routes the sock to `to`, and sets the peer and, if it is not bound to one, the source address. The state becomes
 TCP_ESTABLISHED (1), as for a connected datagram socket; the caller may set another one afterwards. For the connect
 operation. -ENETUNREACH, -EACCES (broadcast), -EINVAL ...
 Requires: `o` is owned; `to` is readable.
 */
int usk_route_connect(usk_owned_t *o,
                      const usk_addr_t *to);

/*
 Disconnects the sock: no peer, state TCP_CLOSE (7). It keeps a port that bind(2) named; an automatically chosen one
 is released, and the sock is not bound any more (__udp_disconnect).
 Requires: `o` is owned.
 */
int usk_route_disconnect(usk_owned_t *o);

/*
 The source of packets to `to`: the sock's own address, or the preferred one of the route, and its port.
 In a sendmsg operation also as the call's control messages say (IP_PKTINFO). Of the peer, and of the destination of
 the last call, the source is known and no route is looked up. -ENETUNREACH, -EACCES, -EINVAL ...
 Requires: `o` is owned; `to` is readable; `from` is writable.
 */
int usk_source(usk_owned_t *o,
               const usk_addr_t *to,
               usk_addr_t *from);

/*
 Bytes of transport header and payload that fit in one IP packet to the peer: the path MTU without the IP header.
 -ENOTCONN without a peer; -ENETUNREACH.
 Requires: `o` is owned.
 */
int usk_path_mtu(usk_owned_t *o);

/*
 Updates the path MTU to `mtu`, as a router reported it (inet_csk_update_pmtu): only for an ICMP error whose quoted
 packet is known to be the sock's. Returns the new usk_path_mtu.
 Requires: `o` is owned.
 */
int usk_update_pmtu(usk_owned_t *o,
                    uint32_t mtu);

/*
 Sends a packet to `to`, or to the peer if `to` is null: looks up the route, adds the IP header, fragments if the
 socket allows it, and passes it to the device (ip_queue_xmit). In a sendmsg operation the packet is as the call's
 control messages ask (IP_TTL, IP_TOS, IP_PKTINFO ...). It begins with the protocol's header, its checksum complete,
 or left open (usk_skb_csum_partial). The sock is charged until the device has completed it. Always consumes `skb`.
 Returns 0; -ENOTCONN, -ENETUNREACH, -EMSGSIZE (larger than the path MTU, and fragmentation is not allowed; a
 super-packet that IP's length field has no room for, or whose packets are larger than the path MTU), -ENOBUFS (the
 device's queue is full: treat it as a loss), -EAFNOSUPPORT, -EOPNOTSUPP (the protocol's number is above 255: no IP
 header has room for it).
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable.
 */
int usk_xmit(usk_owned_t *o,
             usk_skb_t *skb,
             const usk_addr_t *to);

/*
 As usk_xmit, with what the protocol decides for this packet alone. `size` is sizeof(usk_tx_info_t). Always consumes
 `skb`. -EINVAL: an unknown flag, a TTL of 0, a flow label over IPv4, a source that is not this host's.
 Requires: `o` is owned; `skb` is the caller's, and not used afterwards; `to` is null or readable; `tx` is readable for
 `size` bytes.
 */
int usk_xmit_info(usk_owned_t *o,
                  usk_skb_t *skb,
                  const usk_addr_t *to,
                  const usk_tx_info_t *tx,
                  size_t size);

/*
 Sets the ECN bits of the sock's packets (RFC 3168): 0 not ECT, 2 ECT(0), 1 ECT(1) (INET_ECN_xmit,
 INET_ECN_dontxmit). For a protocol that answers marks; IP_TOS and IPV6_TCLASS of a stream leave these bits alone.
 -EINVAL: another value.
 Requires: `o` is owned.
 */
int usk_set_ecn(usk_owned_t *o,
                int ecn);

/*
 Fills `*info` with what rcv was told of a received packet, for backlog_rcv; of a datagram to a UDP port without the
 ports. -ENOENT: the packet was not received, or has been sent since.
 Requires: `skb` is a packet; `info` is writable.
 */
int usk_skb_info(usk_skb_t *skb,
                 usk_packet_info_t *info);

/*
 Tells a sock of an ICMP error, in the err operation: with IP_RECVERR it is queued for recvmsg(MSG_ERRQUEUE), and it
 becomes SO_ERROR if it is queued, or if it is a hard one and the sock is connected. While a system call owns the
 sock a hard one becomes SO_ERROR and none is queued. Learns path MTUs. `port`: that of the packet's destination, 0
 without ports; `header`: bytes of the protocol's header, which are in front of the payload that is quoted. For an
 error of which the protocol believes that the sock's packet caused it (ip_icmp_error, __udp4_lib_err). Packet
 context.
 Requires: `sk` is valid; `error` is err's argument.
 */
int usk_icmp_report(usk_sock_t *sk,
                    const usk_icmp_error_t *error,
                    uint16_t port,
                    size_t header);

/*
 Sends an ICMP error about a received packet, which begins with the protocol's header, as rcv got it (icmp_send,
 icmpv6_send). `error` is USK_ICMP_*, `mtu` the MTU of USK_ICMP_TOO_BIG, else 0. The error quotes the packet as it
 was received, IP header included. None is sent about an ICMP error, a fragment other than the first, a packet from
 or to a group or a broadcast address (over IPv6 TOO_BIG is), or above the rate limits (net.ipv4.icmp_ratelimit,
 icmp_ratemask, icmp_msgs_per_sec, net.ipv6.icmp.ratelimit); the counters say what was sent. `skb` stays the
 caller's, as it was: it is then dropped, or freed. Packet context. Returns 0, whether it was sent or not; -EINVAL:
 no such error, or an MTU that is none; -ENOENT: the packet was not received, or has been sent since.
 Requires: `reg` is registered; `skb` is a packet.
 */
int usk_icmp_send(usk_reg_t *reg,
                  usk_skb_t *skb,
                  int error,
                  uint32_t mtu);

/*
 Replies to a packet without a sock: sends `skb`, which begins with the protocol's header, to the source of the
 packet that `info` describes, from its destination address (ip_send_unicast_reply). Always consumes `skb`. Packet
 context. -EINVAL: it is a super-packet, or the packet was no unicast; -EOPNOTSUPP: the protocol's number is above
 255.
 Requires: `reg` is a registered protocol; `info` is readable; `skb` is the caller's, and not used afterwards.
 */
int usk_reply(usk_reg_t *reg,
              const usk_packet_info_t *info,
              usk_skb_t *skb);

/*
 setsockopt(2) of the IP levels (IPPROTO_IP, IPPROTO_IPV6), for the setsockopt operation. -ENOPROTOOPT for another.
 Requires: `o` is owned; `value` is readable for `len` bytes.
 */
int usk_ip_setsockopt(usk_owned_t *o,
                      int level,
                      int name,
                      const void *value,
                      size_t len);

/*
 getsockopt(2) of the IP levels: writes at most `len` bytes, returns how many. -ENOPROTOOPT for another.
 Requires: `o` is owned; `value` is writable for `len` bytes.
 */
ptrdiff_t usk_ip_getsockopt(usk_owned_t *o,
                            int level,
                            int name,
                            void *value,
                            size_t len);

/*
 The ones-complement sum (RFC 1071) of bytes, added to `sum`: for usk_csum_fold. Pieces of even length can be summed
 one after the other (csum_partial).
 Requires: `data` is readable for `len` bytes.
 */
uint32_t usk_csum(const void *data,
                  size_t len,
                  uint32_t sum);

/*
 The sum of the pseudo-header of a packet of `len` bytes between two addresses of one family (csum_tcpudp_nofold).
 Requires: both addresses are readable.
 */
uint32_t usk_csum_pseudo(const usk_addr_t *src,
                         const usk_addr_t *dst,
                         uint8_t protocol,
                         uint32_t len);

/*
 The 16 bits for a checksum field, to be stored high byte first. The checksum of a received packet is correct if its
 sum, field included, folds to 0 (csum_fold).
 */
uint32_t usk_csum_fold(uint32_t sum);

/*
 Makes a packet a super-packet, which stands for several: its first `header` bytes are the header of each, which the
 segment operation makes, and each has `size` bytes of what follows, the last one perhaps fewer. It is sent like
 another, and cut where a device cannot carry it whole, the loopback device not. One with at most `size` bytes behind
 its header stays an ordinary packet. Call it last, when the packet is complete; usk_skb_share shares it. Returns 0;
 -EINVAL: `size` is 0 or above 65535, `header` is 0 or above 52, the packet has no byte behind it; -EMSGSIZE: the
 packet is longer than 65535 bytes (usk_gso_max); -EOPNOTSUPP: the table has no segment operation
 (skb_shared_info.gso_size).
 Requires: `o` is owned; `skb` is a packet.
 */
int usk_skb_set_gso(usk_owned_t *o,
                    usk_skb_t *skb,
                    uint32_t header,
                    uint32_t size);

/*
 Bytes of header and payload of the largest super-packet to the peer, by its device and by IP's length field
 (sk_gso_max_size). -ENOTCONN without a peer; -ENETUNREACH.
 Requires: `o` is owned.
 */
int usk_gso_max(usk_owned_t *o);

/*
 Binds the sock to a local port, 0 meaning any of net.ipv4.ip_local_port_range (inet_csk_get_port): the default of
 get_port. usk_proto_lookup finds bound socks, and prefers those connected to the packet's source. -EADDRINUSE;
 -EINVAL: it has a port, or is finished.
 Requires: `o` is owned.
 */
int usk_get_port(usk_owned_t *o,
                 uint16_t port);

/*
 Binds the sock to an address and a port (inet_bind): the default of bind, for a bind operation that does more.
 `addr` is of the sock's family. Calls get_port for the port. -EINVAL: it is bound already; -EADDRNOTAVAIL,
 -EADDRINUSE, -EAFNOSUPPORT.
 Requires: `o` is owned; `addr` is readable.
 */
int usk_inet_bind(usk_owned_t *o,
                  const usk_addr_t *addr);

/*
 Updates the library's port table with the sock's addresses, after connect or usk_set_ends: the default of hash. A
 child of a listener shares its port. -EADDRINUSE: there is a connection with the same ends. -EINVAL: a child without
 a peer, or a sock that is finished.
 Requires: `o` is owned.
 */
int usk_hash(usk_owned_t *o);

/*
 Removes the sock from the library's port table and releases its port: the default of unhash and put_port.
 Requires: `o` is owned.
 */
int usk_unhash(usk_owned_t *o);

/*
 The sock for a packet from `remote` to `local`, held: a connected one, else the best match among bound and listening
 ones. Null: none. Release it by usk_sock_put. `ifindex`: the interface that received the packet.
 Requires: `reg` is a registered protocol; both addresses are readable.
 */
usk_sock_t *usk_proto_lookup(usk_reg_t *reg,
                             const usk_addr_t *local,
                             const usk_addr_t *remote,
                             uint32_t ifindex);

/*
 A new sock of a listener's protocol, held, for a connection that a packet requests. Its init has run; it inherits
 the listener's options of the IP levels and its buffer sizes. Packet context. Null: init failed. Lock it, set its
 ends and state, usk_hash it, release it, give it to usk_accept_push, then usk_sock_put.
 Requires: `listener` is owned.
 */
usk_sock_t *usk_new_child(usk_owned_t *listener);

/*
 Queues an established connection for accept(2), and wakes its waiters. The caller keeps its handle. -ENOBUFS: the
 backlog is full; -EINVAL: the listener does not listen any more, `child` is not from usk_new_child for this
 protocol, or it is finished; -EALREADY: it was queued before, and may be a program's by now. On another failure the
 caller ends the child (usk_done).
 Requires: `listener` is owned; `child` is valid.
 */
int usk_accept_push(usk_owned_t *listener,
                    usk_sock_t *child);

/*
 Starts listening with `backlog`: the state becomes TCP_LISTEN, and a sock without port is bound to one. For the
 listen operation. -EADDRINUSE: another sock, which shares the port by SO_REUSEADDR, listens already
 (inet_csk_listen_start).
 Requires: `o` is owned.
 */
int usk_listen_start(usk_owned_t *o,
                     uint32_t backlog);

/*
 Stops listening: the state becomes TCP_CLOSE, and connections that were not accepted are closed. The sock keeps its
 port. For the disconnect operation (inet_csk_listen_stop). -EINVAL: it is not listening; -EDEADLK: the caller owns
 one of those connections, and releases it first.
 Requires: `o` is owned.
 */
int usk_listen_stop(usk_owned_t *o);

/*
 Takes a connection that usk_accept_push queued, and waits for one unless `nonblock` (inet_csk_accept). For the
 accept operation of a table. Process context. Returns the child held, or null with the negative errno in `*err`:
 -EINVAL not listening, -EAGAIN, -EINTR.
 Requires: `sk` is valid and not owned by the caller; `err` is writable.
 */
usk_sock_t *usk_accept_wait(usk_sock_t *sk,
                            int nonblock,
                            int *err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#include "over.h"

#endif  /* USERSOCK_IP_H */

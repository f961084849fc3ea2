/* usersock for plug-ins: kinds of devices, struct usk_device_ops. MIT OR Apache-2.0. */

#ifndef USERSOCK_DEVICE_H
#define USERSOCK_DEVICE_H

/* Written by cbindgen from ffi/src; a test compares. Change the Rust source, then run: cargo xtask header */

#include "core.h"

/*
 `version` of struct usk_device_ops.
 */
#define USK_DEVICE_VERSION 1

/*
 usk_device_info_t.link: IP datagrams without link header.
 */
#define USK_LINK_IP 0

/*
 usk_device_info_t.link: Ethernet frames.
 */
#define USK_LINK_ETHERNET 1

/*
 Where recv puts its packets.
 */
typedef struct usk_sink_t usk_sink_t;

/*
 How a device is wanted: open's argument.
 */
typedef struct usk_device_args_t {
  /*
   What follows KIND: in the configuration.
   */
  const char *argument;
  /*
   The interface's name.
   */
  const char *name;
  /*
   mtu=, bytes; 0: none was given. A device that cannot have it refuses.
   */
  uint32_t mtu;
  /*
   1: mac= was given, and is in `mac`.
   */
  uint8_t has_mac;
  /*
   The hardware address wanted.
   */
  uint8_t mac[6];
  /*
   0.
   */
  uint8_t reserved;
  /*
   The registration, for usk_count, usk_sysctl and usk_user: valid as long as the device.
   */
  usk_reg_t *reg;
} usk_device_args_t;

/*
 What a device is: open fills it in. It is given with link USK_LINK_IP, an MTU of 1500 or the one wanted, and one
 queue. Checksums and segmentation are done before a packet reaches the device.
 */
typedef struct usk_device_info_t {
  /*
   USK_LINK_IP or USK_LINK_ETHERNET.
   */
  uint32_t link;
  /*
   Largest IP datagram, bytes: 68 to 65535.
   */
  uint32_t mtu;
  /*
   Queue pairs: 1 to 256.
   */
  uint32_t queues;
  /*
   Hardware address of an Ethernet device.
   */
  uint8_t mac[6];
  /*
   0.
   */
  uint8_t reserved[2];
} usk_device_info_t;

/*
 A kind of device. Functions are called from any thread: one at a time receives from a queue, any number transmit.
 None may sleep, and none may call sockets of the stack. A device lives as long as its stack.

 A return value above 0, or below -4095, of recv or xmit breaks the device: none of its functions but close is called
 any more, what is sent by it is dropped, and the stack goes on. No exception of C++ and no panic of a Rust shared
 object may leave a function. What catches one returns 1 in recv and xmit, -2 in poll_fd, a negative errno in open,
 which both refuse the device. next_event and has_pending note it for recv and xmit, of which the next one called
 returns 1, and return UINT64_MAX and 1. In close there is nothing left to break.
 */
typedef struct usk_device_ops {
  /*
   USK_DEVICE_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_device_ops). What a shorter table lacks is null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters without colon, comma and equals sign: the KIND of device=KIND:ARGUMENT; unique in a
   stack. Required.
   */
  const char *name;
  /*
   Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack, read
   by usk_mib_read.
   */
  const char *const *mib_names;
  /*
   Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
  /*
   Makes a device: fills `*info` and `*device`, which the other functions get. Returns 0 or a negative errno;
   usk_device_refuse can say why. Required.
   */
  int (*open)(const usk_device_args_t *args, usk_device_info_t *info, void **device);
  /*
   Ends a device: no other function of it runs any more. Null: nothing.
   */
  void (*close)(void *device);
  /*
   Hands over up to `budget` packets that have arrived, each by usk_device_rx, and returns 0, or a negative errno:
   nothing more comes just now, as for 0. Without a packet it returns at once. `now` is the stack's time,
   nanoseconds. Required.
   */
  int (*recv)(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink);
  /*
   Sends a packet, of which usk_skb_copy and usk_skb_header give the bytes; it stays the stack's, and what is to be
   kept is copied or shared (usk_skb_share). Returns 0: sent; -EAGAIN, -EWOULDBLOCK or -EBUSY: full now, the stack
   keeps it and tries again when poll_fd polls writable (without one: whenever the stack runs next); another
   negative errno: refused, dropped and counted. Required.
   */
  int (*xmit)(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb);
  /*
   A descriptor that polls readable when recv of this queue has something, the same one always, or -1: asked once.
   Who waits for a packet waits in it. Null, or -1: a device in memory, see next_event and has_pending. One that
   has failed (POLLERR, POLLHUP, POLLNVAL with nothing to receive) brings the interface down.
   */
  int (*poll_fd)(void *device, uint32_t queue);
  /*
   When recv has something next, nanoseconds of the stack's time; UINT64_MAX: only what is sent changes anything.
   Null: that.
   */
  uint64_t (*next_event)(void *device, uint32_t queue);
  /*
   1: recv has something in memory now, so that the thread that sent it takes it before it returns. Null: 0.
   */
  int (*has_pending)(void *device, uint32_t queue);
} usk_device_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 recv hands over a packet. Takes `skb`, always. Returns 0; -ENOBUFS, dropped and counted: more than the budget,
 empty, shorter than a link header, or larger than the MTU; -EINVAL, dropped: no recv with this sink is running on
 this thread, as in xmit, or after recv returned.
 Requires: `skb` is the caller's, and not used afterwards.
 */
int usk_device_rx(usk_sink_t *sink,
                  usk_skb_t *skb);

/*
 Says in a line why open refuses, for usk_config_error. Returns -EINVAL, for open to return.
 Requires: `line` is a string.
 */
int usk_device_refuse(const char *line);

/*
 Registers a kind of device in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
 registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
 fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out`
 is null or writable.
 */
int usk_device_register(usk_plugin_t *plugin,
                        const struct usk_device_ops *table,
                        void *user,
                        usk_reg_t **out);

/*
 Adds a device of a plugged-in kind to a stack (null: the default one) that is there already. `config` is as usk_init
 takes it, of the keys device, mac, mtu, addr, gw, route and pcap:
 "device=udp:127.0.0.1:7001/127.0.0.1:7002,addr=10.9.0.1/24". Returns 0, or -1 with errno EINVAL or what opening
 gave, and usk_config_error says why.
 Requires: `stack` is null or from usk_stack_new; `config` is a string.
 */
int usk_device_add(usk_stack_t *stack,
                   const char *config);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_DEVICE_H */

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
 The destination of the packets of recv (usk_device_rx).
 */
typedef struct usk_sink_t usk_sink_t;

/*
 The configuration of a device: open's argument.
 */
typedef struct usk_device_args_t {
  /*
   The text after KIND: in the configuration.
   */
  const char *argument;
  /*
   The interface's name.
   */
  const char *name;
  /*
   mtu=, bytes; 0: not given. A device that cannot support it returns an error.
   */
  uint32_t mtu;
  /*
   1: mac= was given, and is in `mac`.
   */
  uint8_t has_mac;
  /*
   The requested hardware address.
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
 The properties of a device, which open fills in. Initially link is USK_LINK_IP, the MTU is the requested one or
 1500, and there is one queue. Checksums and segmentation are done before a packet reaches the device.
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
 A kind of device. Functions are called from any thread: one thread at a time receives from a queue, any number
 transmit. None may sleep, and none may call sockets of the stack. A device lives as long as its stack.

 A return value above 0, or below -4095, of recv or xmit breaks the device: none of its functions but close is called
 any more, packets sent through it are dropped, and the stack goes on. No C++ exception and no panic of a Rust shared
 object may leave a function. After catching one, recv and xmit return 1; poll_fd returns -2 and open a negative
 errno, which refuse the device; next_event returns UINT64_MAX and has_pending returns 1, and the next recv or xmit
 returns 1. In close nothing more is needed.
 */
typedef struct usk_device_ops {
  /*
   USK_DEVICE_VERSION.
   */
  uint32_t version;
  /*
   sizeof(struct usk_device_ops). Members that a shorter table lacks are null.
   */
  uint32_t size;
  /*
   1 to 15 printable characters without colon, comma and equals sign: the KIND of device=KIND:ARGUMENT; unique in a
   stack. Required.
   */
  const char *name;
  /*
   Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
   usk_mib_read reads them.
   */
  const char *const *mib_names;
  /*
   Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
   */
  const usk_sysctl_t *sysctls;
  /*
   Makes a device: fills `*info`, and `*device`, the argument of the other functions. Returns 0 or a negative
   errno; usk_device_refuse can give the reason. Required.
   */
  int (*open)(const usk_device_args_t *args, usk_device_info_t *info, void **device);
  /*
   Closes a device, when none of its other functions runs any more. Null: no action.
   */
  void (*close)(void *device);
  /*
   Passes up to `budget` received packets to the stack, each by usk_device_rx, and returns 0 or a negative errno,
   which both mean that there is no more now. Never waits for a packet. `now` is the stack's time, nanoseconds.
   Required.
   */
  int (*recv)(void *device, uint32_t queue, uint64_t now, size_t budget, usk_sink_t *sink);
  /*
   Sends a packet; usk_skb_copy and usk_skb_header give its bytes. The stack keeps ownership: to use the packet
   later, copy or share it (usk_skb_share). Returns 0: sent; -EAGAIN, -EWOULDBLOCK or -EBUSY: the queue is full,
   and the stack keeps the packet and tries again when poll_fd polls writable (without a descriptor: the next time
   the stack runs); another negative errno: the packet is dropped and counted. Required.
   */
  int (*xmit)(void *device, uint32_t queue, uint64_t now, usk_skb_t *skb);
  /*
   Returns a descriptor that polls readable when recv of this queue has a packet, or -1. Called once. A thread that
   waits for a packet polls it. Null, or -1: a device in memory, see next_event and has_pending. If the descriptor
   fails (POLLERR, POLLHUP or POLLNVAL with nothing to receive), the interface goes down.
   */
  int (*poll_fd)(void *device, uint32_t queue);
  /*
   When recv will have its next packet, nanoseconds of the stack's time; UINT64_MAX: not before something is sent.
   Null: as UINT64_MAX.
   */
  uint64_t (*next_event)(void *device, uint32_t queue);
  /*
   1: recv has a packet in memory now; the thread that sent it processes it before it returns. Null: 0.
   */
  int (*has_pending)(void *device, uint32_t queue);
} usk_device_ops;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Passes a received packet to the stack, during recv. Always consumes `skb`. Returns 0; -ENOBUFS, and the packet is
 dropped and counted: more than the budget, empty, shorter than a link header, or larger than the MTU; -EINVAL, and
 the packet is dropped: no recv with this sink is running on this thread (in xmit, or after recv returned).
 Requires: `skb` is the caller's, and not used afterwards.
 */
int usk_device_rx(usk_sink_t *sink,
                  usk_skb_t *skb);

/*
 Sets the line that usk_config_error returns, the reason why open fails. Line breaks in it become blanks. Returns
 -EINVAL, for open to return.
 Requires: `line` is a string.
 */
int usk_device_refuse(const char *line);

/*
 Registers a kind of device in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the
 registration. Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not
 fit, -EEXIST the name, a counter or a sysctl is taken.
 Requires: `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated;
 `out` is null or writable.
 */
int usk_device_register(usk_plugin_t *plugin,
                        const struct usk_device_ops *table,
                        void *user,
                        usk_reg_t **out);

/*
 Adds a device of a plugged-in kind to an existing stack (null: the default one). `config` is as for usk_init, with
 the keys device, mac, mtu, addr, gw, route and pcap only:
 "device=udp:127.0.0.1:7001/127.0.0.1:7002,addr=10.9.0.1/24". Returns 0, or -1 with errno EINVAL or the error of
 open, and usk_config_error returns the reason.
 Requires: `stack` is null or from usk_stack_new; `config` is a string.
 */
int usk_device_add(usk_stack_t *stack,
                   const char *config);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* USERSOCK_DEVICE_H */

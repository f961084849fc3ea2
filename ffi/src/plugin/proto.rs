//! `struct usk_proto`: the operations of a protocol, filled in by C, and its registration. Above: `cproto`, which makes
//! a `Proto` of it. The Rust trait that it mirrors is `usersock::sock::proto::Proto`. Linux: proto_register,
//! inet_register_protosw, inet_add_protocol.

use super::addr::usk_addr_t;
use super::deferred::Deferred;
use super::diag::usk_diag_t;
use super::gate::kernel;
use super::guard::usk_owned_t;
use super::lists::{self, usk_sysctl_t};
use super::msg::{usk_recvmsg_t, usk_sendmsg_t};
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::skb::usk_skb_t;
use super::table::Table;
use crate::handle::usk_sock_t;
use crate::library::usk_plugin_t;
use crate::loader::TableKind;
use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use usersock::error::{Error, Result};
use usersock::ip::port_table::PortTable;
use usersock::sock::Sock;
use usersock::sock::proto::IpHandler;
use usersock::sock::registry::ProtoSwitch;
use usersock::sock::skb::HEAD;
use usersock::stack::Stack;

/// `version` of struct usk_proto.
pub const USK_PROTO_VERSION: u32 = 1;

/// usk_proto.flags: sockets of AF_INET.
pub const USK_PROTO_V4: u32 = 1;
/// usk_proto.flags: sockets of AF_INET6.
pub const USK_PROTO_V6: u32 = 2;
/// usk_proto.flags: socket(2) with this type and protocol 0 means this protocol.
pub const USK_PROTO_DEFAULT: u32 = 4;
/// usk_proto.flags: the protocol has connections: connect(2) waits until the state is neither TCP_SYN_SENT nor
/// TCP_SYN_RECV, and listen(2) and accept(2) work.
pub const USK_PROTO_CONNECTIONS: u32 = 8;
/// usk_proto.flags: sending does not bind a socket that is not bound (no_autobind).
pub const USK_PROTO_NO_AUTOBIND: u32 = 16;
/// usk_proto.flags: the protocol has no ports: bind(2) takes only an address. Without this flag a null get_port means
/// usk_get_port.
pub const USK_PROTO_NO_PORTS: u32 = 32;

/// The IP header fields and other data of a packet, for rcv and encap_rcv.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_packet_info_t {
    /// Source address; port 0, but for encap_rcv.
    pub src: usk_addr_t,
    /// Destination address; port 0, but for encap_rcv.
    pub dst: usk_addr_t,
    /// Interface that received it.
    pub ifindex: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// TOS or traffic class; ECN in the low two bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// 1: multicast or broadcast.
    pub not_unicast: u8,
    /// Time of the softirq run, nanoseconds of the stack's clock.
    pub now: u64,
}

/// An ICMP error that quotes a packet of the protocol, for err and encap_err.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_icmp_error_t {
    /// Source of the quoted packet, a local address.
    pub src: usk_addr_t,
    /// Destination of the quoted packet.
    pub dst: usk_addr_t,
    /// The host that sent the error.
    pub reporter: usk_addr_t,
    /// ICMP type (ICMPv6 if `src` is AF_INET6).
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// 1: a hard error.
    pub fatal: u8,
    /// The corresponding errno, positive.
    pub error: c_int,
    /// The MTU of "fragmentation needed" and "packet too big", else 0.
    pub info: u32,
    /// Interface that received it.
    pub ifindex: u32,
    /// The quoted bytes from the protocol's header on, at least 8; for encap_err from behind UDP's, and perhaps none.
    pub quoted: *const c_void,
    /// Number of quoted bytes.
    pub quoted_len: usize,
}

/// A packet that a super-packet is cut into: the argument of segment.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_piece_t {
    /// Its header, to be made of what the super-packet has, which stands here.
    pub header: *mut c_void,
    /// Bytes of the header.
    pub header_len: u32,
    /// Its number, from 0.
    pub index: u32,
    /// Payload bytes in the pieces before it.
    pub offset: u32,
    /// Its own payload bytes.
    pub len: u32,
    /// 1: no piece follows.
    pub last: u32,
    /// What its checksum begins with, if that is left open (usk_skb_csum_partial): the sum of its pseudo-header. A
    /// protocol whose checksum begins with another sum writes it here.
    pub sum: u32,
    /// Source address; port 0.
    pub src: usk_addr_t,
    /// Destination address; port 0.
    pub dst: usk_addr_t,
}

/// Two received packets that may become one: the argument of merge.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_merge_t {
    /// The header of the packet that came first, and of those that were merged into it: becomes that of all.
    pub header: *mut c_void,
    /// Bytes of the header; that of `next` is as long.
    pub header_len: u32,
    /// Payload bytes behind it.
    pub held: u32,
    /// The packet that follows, which begins with its header; not to be changed.
    pub next: *mut usk_skb_t,
    /// Source address of both; port 0.
    pub src: usk_addr_t,
    /// Destination address of both; port 0.
    pub dst: usk_addr_t,
}

/// A transport protocol: the operations of the kernel's struct proto, and the entry points of its IP protocol number.
/// Registering copies it, with its strings and lists. Differences from struct proto: sock_is_readable is poll_locked;
/// psock_update_sk_prot is update_proto; there is no bind_add and no compat_ioctl, which only the kernel needs.
/// net_exit is struct pernet_operations' exit, and diag_dump struct inet_diag_handler's dump.
///
/// Contexts. *Process*: a thread in a system call; may sleep in usk_wait. *Softirq*: packet and timer work; never
/// sleeps. *Owned*: the operation is given usk_owned_t and must not lock the sock. *Not owned*: it is given usk_sock_t
/// and locks by itself. An operation must not make the POSIX-shaped calls (usk_send ...) on its own socket.
///
/// Return values. An int is 0 or a negative errno, a length is 0 or more or a negative errno. Any other value, and a
/// length above the offered one, breaks the socket, and all calls on it return EIO until it is closed; so does an
/// operation that returns without releasing what it locked. The stack and other sockets go on.
///
/// Exceptions. No C++ exception and no panic of a Rust shared object may leave an operation: it would end the process.
/// The code that catches one calls usk_break; it need not release what the operation has locked. Operations without a
/// sock have none to break: rcv frees its packet and err ignores the error, the others return the value that their null
/// stands for.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_proto {
    /// USK_PROTO_VERSION.
    pub version: u32,
    /// sizeof(struct usk_proto). Members that a shorter table lacks are null.
    pub size: u32,
    /// 1 to 31 bytes, unique in a stack; shown in listings, and in lower case part of the names of its sysctls.
    /// Required.
    pub name: *const c_char,
    /// Names of its counters (usk_count), a null-terminated list; null: none. Letters and digits, unique in a stack;
    /// usk_mib_read reads them.
    pub mib_names: *const *const c_char,
    /// Its sysctls (usk_sysctl), called net.NAME. and their names; the list ends with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOCK_RAW ...: with `protocol`, the arguments of socket(2).
    pub socket_type: c_int,
    /// IP protocol number, 1 to 255; or a number from 256 to 65535 for socket(2) alone, as IPPROTO_MPTCP is: of a
    /// protocol that has no packets of IP, but sends and receives by inner socks or a UDP port (usk_inner_open,
    /// usk_udp_open). Its rcv and err are null, and usk_xmit, usk_xmit_info and usk_reply return -EOPNOTSUPP.
    pub protocol: c_int,
    /// USK_PROTO_*. One of USK_PROTO_V4, USK_PROTO_V6 is required.
    pub flags: u32,
    /// Bytes of the protocol's own memory in each sock (usk_private), at most 65536.
    pub obj_size: u32,
    /// Largest header that the protocol pushes, bytes; 0: as much as a new packet has room for.
    pub max_header: u32,
    /// Bytes of a time-wait record and of a request record, for listings (twsk_prot, rsk_prot).
    pub timewait_size: u32,
    /// See timewait_size.
    pub request_size: u32,
    /// For listings: flags such as SLAB_TYPESAFE_BY_RCU. Socks are reference-counted, so 0.
    pub slab_flags: u32,

    /// A sock was made: initializes usk_private. Process context (softirq for a child), owned. Null: no action.
    pub init: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Called last, by usk_done or when init failed: frees what usk_private points to. Either context, owned. Null: no
    /// action.
    pub destroy: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// The last descriptor is closed, or the listener of a connection that was not accepted. The protocol calls
    /// usk_done, now or after its closing handshake. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process
    /// context, not owned. Null: unhash and usk_done.
    pub close: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, flags: c_int)>,
    /// Checks the address before connect. Process context, owned. Null: accepted.
    pub pre_connect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    /// Starts a connection, or sets a datagram socket's peer; does not wait. Process context, owned. Null: EOPNOTSUPP.
    pub connect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    /// Dissolves the association, or stops listening. Process context, owned. Null: EOPNOTSUPP.
    pub disconnect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Starts listening (usk_listen_start), or changes the backlog. Process context, owned. Null: EOPNOTSUPP.
    pub listen: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, backlog: u32) -> c_int>,
    /// Returns an established connection, held, and waits for one unless `nonblock`; or null with a negative errno in
    /// `*err`. usk_accept_wait can be used. Process context, not owned. Null: EOPNOTSUPP.
    pub accept:
        Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, nonblock: c_int, err: *mut c_int) -> *mut usk_sock_t>,
    /// SIOCINQ, SIOCOUTQ and the protocol's own requests; the result is the int `*value`. Process context, not owned.
    /// Null: ENOTTY.
    pub ioctl: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int>,
    /// shutdown(2): bit 0 receiving, bit 1 sending; usk_sock_shutdown already includes them. Process context, owned.
    /// Null: no further action.
    pub shutdown: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, how: c_int)>,
    /// Options of levels other than SOL_SOCKET. Process context, not owned. Null: those of the IP levels.
    pub setsockopt: Option<
        unsafe extern "C-unwind" fn(
            sk: *mut usk_sock_t,
            level: c_int,
            name: c_int,
            value: *const c_void,
            len: usize,
        ) -> c_int,
    >,
    /// As setsockopt: writes at most `len` bytes, returns how many.
    pub getsockopt: Option<
        unsafe extern "C-unwind" fn(
            sk: *mut usk_sock_t,
            level: c_int,
            name: c_int,
            value: *mut c_void,
            len: usize,
        ) -> isize,
    >,
    /// Returns 1 for options that bypass a layer's getsockopt and go to this table's (bpf_bypass_getsockopt). Null:
    /// none.
    pub bypass_getsockopt: Option<unsafe extern "C-unwind" fn(level: c_int, name: c_int) -> c_int>,
    /// SO_KEEPALIVE is set to `on`; usk_sock_info still has the previous value. Process context, owned. Null: no
    /// action.
    pub keepalive: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, on: c_int)>,
    /// Sends: returns the bytes consumed. Process context, not owned. Null: the sock is locked and sendmsg_locked is
    /// called; one of the two is required.
    pub sendmsg: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, msg: *mut usk_sendmsg_t) -> isize>,
    /// Receives: returns the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context, not
    /// owned. Null: the sock is locked and recvmsg_locked is called; one of the two is required.
    pub recvmsg: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, msg: *mut usk_recvmsg_t) -> isize>,
    /// sendfile(2) and splice(2): sends bytes of a file. Process context, not owned. Null: sendmsg is called.
    pub sendpage: Option<
        unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, data: *const c_void, len: usize, flags: c_int) -> isize,
    >,
    /// The present poll(2) bits. Process context, not owned. Null: poll_locked; if that is null too: readable while the
    /// receive queue is not empty, an error is pending or the peer has ended, writable while the send buffer has room
    /// (datagram_poll).
    pub poll: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t) -> u32>,
    /// Processes a packet for the sock, from usk_deliver; the operation queues or frees it. Softirq, or process context
    /// from the backlog; owned; must not sleep. Required with rcv.
    pub backlog_rcv: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t)>,
    /// Runs deferred work: timers that fired (bit n: timer n), and the bits of usk_defer. Either context, owned. Null:
    /// no action.
    pub release_cb: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, bits: u32)>,
    /// Adds the sock to the tables under its addresses. Owned. Null: usk_hash.
    pub hash: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Removes the sock from the tables. Owned. Null: usk_unhash.
    pub unhash: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// bind(2) to a port, 0: any. Owned. Null: usk_get_port.
    pub get_port: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, port: u16) -> c_int>,
    /// Releases the port of a sock that ends. Owned. Null: usk_unhash.
    pub put_port: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// An upper layer takes the sock over, or (`restore`) leaves it (psock_update_sk_prot); an error refuses. Owned.
    /// Null: EOPNOTSUPP.
    pub update_proto: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, restore: c_int) -> c_int>,
    /// The protocol's memory has exceeded its second limit (leave: fallen below its first). Any context; any sock may
    /// be owned. Null: no action beyond the accounting.
    pub enter_memory_pressure: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t)>,
    /// See enter_memory_pressure.
    pub leave_memory_pressure: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t)>,
    /// Whether more may be queued for sending, in addition to the limit of the send buffer; `priv_` is usk_private's.
    /// poll calls it if poll and poll_locked are null. Owned. Null: yes.
    pub stream_memory_free: Option<unsafe extern "C-unwind" fn(priv_: *const c_void, wake: c_int) -> c_int>,
    /// Limits of the memory of all its socks, in pages of 4096 bytes: no pressure below the first, pressure above the
    /// second, hard limit at the third (sysctl_mem). Any context. Null, or a return value other than 0: no limits.
    pub sysctl_mem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, limits: *mut i64) -> c_int>,
    /// Minimum, default and maximum size of the send buffer, bytes (sysctl_wmem). Null: net.core.wmem_default.
    pub sysctl_wmem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    /// The same for receive buffers (sysctl_rmem).
    pub sysctl_rmem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    /// Ends the socket from outside with a positive errno (usk_destroy, diag_destroy): report it (usk_error_report),
    /// tell the peer, leave the sock as after disconnect. Process context, not owned. Null: EOPNOTSUPP.
    pub diag_destroy: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, err: c_int) -> c_int>,
    /// Receives a packet of the IP protocol number, without IP header: verifies it, finds its sock (usk_proto_lookup)
    /// and calls usk_deliver; or calls usk_drop. The operation owns the packet. Softirq, no sock owned. Null: the
    /// protocol receives nothing.
    pub rcv:
        Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t)>,
    /// An ICMP error about a packet of the protocol. Softirq, no sock owned. Null: ignored.
    pub err: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, error: *const usk_icmp_error_t)>,

    /// As sendmsg, on a sock that is owned: for an upper layer, which calls it with the sock owned, and in place of a
    /// null sendmsg. A protocol that owns the sock during the whole of sendmsg should have only this one: it is
    /// simpler, and faster. It may sleep in usk_wait unless MSG_DONTWAIT is set. Process context, owned. Null: an upper
    /// layer gets EOPNOTSUPP.
    pub sendmsg_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize>,
    /// As recvmsg, in the same way.
    pub recvmsg_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize>,
    /// As poll, on a sock that is owned; must not sleep. Null: the bits follow from the sock's queues (datagram_poll).
    pub poll_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> u32>,
    /// bind(2), if it does more than usk_inet_bind; `addr` is of the sock's family. Process context, owned. Null:
    /// usk_inet_bind.
    pub bind: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int>,
    /// sendfile or splice reached the end of its file after bytes with MSG_MORE: sends data that waits for more.
    /// Process context, not owned. Null: no action.
    pub splice_eof: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t)>,
    /// SO_BINDTODEVICE, SO_REUSEADDR or SO_REUSEPORT has changed: updates the sock in tables of the protocol's own.
    /// Owned. Null: the library's port table is updated.
    pub rehash: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// The stack ends with the protocol registered in it: frees what the protocol keeps for the stack (usk_user). There
    /// is no sock any more, and calls that need the stack fail. Null: no action; the library empties its port table.
    pub net_exit: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t)>,
    /// Lists socks for usk_sock_list: calls `each` with `arg` for each sock in the protocol's own tables. Process
    /// context; no sock is owned, and a lock of the protocol may be held. Null: those in the library's port table.
    pub diag_dump: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, each: usk_diag_each_t, arg: *mut c_void)>,

    /// Names of its drop reasons (usk_drop with USK_DROP_OWN + i), a null-terminated list; null: none. Capital letters,
    /// digits and underscores, unique in a stack and none of Linux's: TINY_NO_KEY.
    pub drop_names: *const *const c_char,
    /// Name of a protocol with the same IP protocol number that this plug-in has registered before, with whose socks
    /// this one's share the ports: one table for several types of sockets, as SCTP has. Packets come to that one's
    /// `rcv`, and usk_proto_lookup finds the socks of both there; this table's `rcv` is null. That one cannot be
    /// unregistered before this. Null: a table of its own.
    pub ports_of: *const c_char,
    /// Timer `index` of the protocol (usk_reg_timer_arm) has fired. Softirq, no sock owned; two of them may run at a
    /// time. Null: there are no timers.
    pub timer: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, index: u32)>,
    /// Work that usk_reg_defer asked for: at least one bit. Softirq, no sock owned; on one thread at a time. Null: none
    /// can be asked for.
    pub work: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, bits: u32)>,
    /// Shows what the protocol knows of a sock, for `usersock ss -i`: calls usk_diag_column for each column. Process
    /// context, owned; must not sleep. Null: no columns.
    pub diag_show: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, diag: *mut usk_diag_t)>,
    /// Makes the header of a packet that a super-packet (usk_skb_set_gso) is cut into; IP's header and an open checksum
    /// are the stack's (gso_segment). A negative errno loses this piece and those behind it. Any context; any sock may
    /// be owned: it must not send, lock or sleep. Null: the protocol sends no super-packets.
    pub segment: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, piece: *mut usk_piece_t) -> c_int>,
    /// Whether others may be merged into a received packet, or it into another, where the device has GRO on: returns
    /// the length of its header, at most 52; 0: no, as if its checksum is wrong, which it verifies. Does not change the
    /// packet. Context as of segment. Null, or merge is null: no packets are merged (gro_receive).
    pub may_merge: Option<
        unsafe extern "C-unwind" fn(
            reg: *mut usk_reg_t,
            skb: *mut usk_skb_t,
            src: *const usk_addr_t,
            dst: *const usk_addr_t,
        ) -> c_int,
    >,
    /// Whether a packet continues another with the same addresses, of the same receive batch: 1, and `header` is made
    /// that of both, or 2: also, and nothing may follow; 0: no. rcv gets a super-packet (usk_skb_gso_size) whose
    /// checksum need not be verified. Context as of segment (gro_receive).
    pub merge: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, merge: *mut usk_merge_t) -> c_int>,
}

/// What diag_dump calls for each sock: `sk` is valid until it returns.
#[allow(non_camel_case_types)]
pub type usk_diag_each_t = Option<unsafe extern "C" fn(arg: *mut c_void, sk: *mut usk_sock_t)>;

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_proto {
    const NAME: &'static str = "struct usk_proto";
    const VERSION: u32 = USK_PROTO_VERSION;
    // Members from here on were added after the first version.
    const FIRST_SIZE: usize = std::mem::offset_of!(usk_proto, sendmsg_locked);
}
const _: () = assert!(begins_with_head(
    offset_of!(usk_proto, name),
    offset_of!(usk_proto, mib_names),
    offset_of!(usk_proto, sysctls)
));

/// Largest IP protocol number.
const MAX_NUMBER: c_int = 255;

/// Largest obj_size.
const MAX_OBJ_SIZE: u32 = 65_536;

/// A registered protocol.
pub(super) type ProtoReg = Registration<usk_proto>;

impl ProtoReg {
    /// Its IP protocol number. EOPNOTSUPP: it has none.
    pub(super) fn number(&self) -> Result<u8> {
        u8::try_from(self.table.protocol).map_err(|_| Error::OpNotSupp)
    }
    pub(super) fn flag(&self, bit: u32) -> bool {
        self.table.flags & bit != 0
    }
    /// Its socks in the port table, each once. The table may have those of other registrations (`ports_of`), of the
    /// same number: in a stack, type and family of a sock then say whose it is, as nothing registers them twice. A
    /// sock's present protocol does not say it: a layer may have replaced that. The caller drops them by `owned::put`.
    pub(super) fn socks(&self) -> Vec<Arc<Sock>> {
        let mut all = self.own.ports().all();
        all.retain(|sock| self.has(sock));
        all
    }
    /// Whether a sock of its port table is this registration's.
    fn has(&self, sock: &Sock) -> bool {
        let family = if i32::from(sock.family) == libc::AF_INET6 { USK_PROTO_V6 } else { USK_PROTO_V4 };
        i32::from(sock.ty) == self.table.socket_type && self.flag(family)
    }
    /// Whether bind(2) takes ports.
    pub(super) fn has_ports(&self) -> bool {
        !self.flag(USK_PROTO_NO_PORTS)
    }
}

/// The data of a registered protocol beside its table.
#[derive(Default)]
pub(crate) struct Own {
    /// Its port table, or that of the registration that `ports_of` names. Made when it is first used.
    ports: OnceLock<Arc<PortTable>>,
    /// `ports` is another registration's.
    borrows: AtomicBool,
    pub(super) deferred: Deferred,
}

impl Own {
    #[inline]
    pub(super) fn ports(&self) -> &PortTable {
        self.shared()
    }

    fn shared(&self) -> &Arc<PortTable> {
        self.ports.get_or_init(Arc::default)
    }
}

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_proto {
    type Own = Own;
    const KIND: TableKind = TableKind::Protocol;

    fn drop_names(&self) -> *const *const c_char {
        self.drop_names
    }

    fn check(&self, name: &str) -> std::result::Result<(), String> {
        let lacks = |what: &str| Err(what.to_owned());
        let all = USK_PROTO_V4
            | USK_PROTO_V6
            | USK_PROTO_DEFAULT
            | USK_PROTO_CONNECTIONS
            | USK_PROTO_NO_AUTOBIND
            | USK_PROTO_NO_PORTS;
        if !lists::good_name(name, 31) {
            return lacks("a name is 1 to 31 printable characters without dot");
        }
        if self.flags & !all != 0 {
            return lacks("unknown flags");
        }
        if self.flags & (USK_PROTO_V4 | USK_PROTO_V6) == 0 {
            return lacks("neither USK_PROTO_V4 nor USK_PROTO_V6");
        }
        if !(1..=10).contains(&self.socket_type) {
            return lacks("socket_type is not a socket's");
        }
        if !(1..=c_int::from(u16::MAX)).contains(&self.protocol) {
            return lacks("protocol is not 1 to 65535");
        }
        if self.protocol > MAX_NUMBER && (self.rcv.is_some() || self.err.is_some()) {
            return lacks("protocol is above 255, and rcv and err are for IP protocol numbers");
        }
        if self.obj_size > MAX_OBJ_SIZE {
            return lacks("obj_size above 65536");
        }
        if self.max_header as usize > HEAD {
            return lacks("max_header above what a packet has room for");
        }
        if self.sendmsg.is_none() && self.sendmsg_locked.is_none() {
            return lacks("sendmsg is null, and so is sendmsg_locked");
        }
        if self.recvmsg.is_none() && self.recvmsg_locked.is_none() {
            return lacks("recvmsg is null, and so is recvmsg_locked");
        }
        if self.rcv.is_some() && self.backlog_rcv.is_none() {
            return lacks("rcv without backlog_rcv");
        }
        if self.rcv.is_some() && !self.ports_of.is_null() {
            return lacks("rcv beside ports_of: packets come to the protocol that it names");
        }
        if self.may_merge.is_some() != self.merge.is_some() {
            return lacks("one of may_merge and merge without the other");
        }
        Ok(())
    }

    fn enter(reg: &Arc<ProtoReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        let table = &reg.table;
        share_ports(reg)?;
        let key = |family| {
            let key = ProtoSwitch::new(family, table.socket_type, table.protocol, reg.clone());
            if reg.flag(USK_PROTO_DEFAULT) { key.by_default() } else { key }
        };
        let keys: Vec<ProtoSwitch> = [(USK_PROTO_V4, libc::AF_INET), (USK_PROTO_V6, libc::AF_INET6)]
            .into_iter()
            .filter(|(bit, _)| reg.flag(*bit))
            .map(|(_, family)| key(family))
            .collect();
        let number = reg.number().map(|number| [number]);
        let handler: Option<(&[u8], Arc<dyn IpHandler>)> = match &number {
            Ok(number) if table.rcv.is_some() => Some((&number[..], reg.clone() as Arc<dyn IpHandler>)),
            _ => None,
        };
        stack.registry.register(&keys, handler).map_err(|e| (e.error(), e.to_string()))
    }

    fn leave(reg: &ProtoReg, stack: &Arc<Stack>) -> Result<()> {
        stack.reap_orphans();
        // Packets of those that share its ports come to it.
        if !reg.own.borrows.load(Ordering::Relaxed) && Arc::strong_count(reg.own.shared()) > 1 {
            return Err(Error::Busy);
        }
        stack.registry.unregister(&reg.name).map_err(|e| e.error())?;
        reg.own.deferred.end(stack);
        Ok(())
    }

    fn stack_ended(reg: &ProtoReg) {
        // A sock that was closing when the stack ended is still in the table, and holds the registration.
        reg.own.ports().clear();
    }
}

/// Gives a table with `ports_of` the ports of the registration that it names.
fn share_ports(reg: &ProtoReg) -> std::result::Result<(), (Error, String)> {
    if reg.table.ports_of.is_null() {
        return Ok(());
    }
    // SAFETY: a string, as the caller of the register call guarantees, which is running.
    let name = unsafe { lists::text(reg.table.ports_of, <usk_proto as Table>::NAME, "ports_of") };
    let name = name.map_err(|e| (e, "ports_of is no text".to_owned()))?;
    let named = reg.plugin().and_then(|plugin| {
        plugin.find_map(|item| {
            let other = item.any().downcast_ref::<ProtoReg>().filter(|other| other.name == name)?;
            Some((other.number(), other.own.shared().clone()))
        })
    });
    let why = match named {
        None => "no protocol of this plug-in has that name",
        Some((number, _)) if number != reg.number() => "that protocol has another number",
        Some(_) if !reg.has_ports() => "this one has no ports",
        Some((_, ports)) => {
            reg.own.borrows.store(true, Ordering::Relaxed);
            // The registration is new, so nothing has used its ports.
            let _ = reg.own.ports.set(ports);
            return Ok(());
        }
    };
    Err((Error::Inval, format!("ports_of {name:?}: {why}")))
}

/// Registers a protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the registration.
/// Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit (version,
/// size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or sysctl is
/// taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are terminated; `out` is
/// null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_proto_register(
    plugin: *mut usk_plugin_t,
    table: *const usk_proto,
    user: *mut c_void,
    out: *mut *mut usk_reg_t,
) -> c_int {
    // SAFETY: the caller vouches for plug-in, table and `out`.
    kernel(|| unsafe { registration::register(plugin, table, user, out) })
}

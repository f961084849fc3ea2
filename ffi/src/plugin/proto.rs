//! `struct usk_proto`: the operations of a protocol, as C fills them in, and its registration. Above: `cproto`, whose
//! `Proto` it becomes. The Rust trait that it mirrors is `usersock::sock::proto::Proto`. Linux: proto_register,
//! inet_register_protosw, inet_add_protocol.

use super::addr::usk_addr_t;
use super::gate::kernel;
use super::guard::usk_owned_t;
use super::lists::{self, usk_sysctl_t};
use super::msg::{usk_recvmsg_t, usk_sendmsg_t};
use super::registration::{self, Registered, Registration, begins_with_head, usk_reg_t};
use super::skb::usk_skb_t;
use super::table::Table;
use crate::handle::usk_sock_t;
use crate::loader::usk_plugin_t;
use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::ip::port_table::PortTable;
use usersock::sock::proto::{IpHandler, ProtoSwitch};
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
/// usk_proto.flags: connections. connect(2) waits for the state to leave TCP_SYN_SENT and TCP_SYN_RECV, listen(2) and
/// accept(2) are for it.
pub const USK_PROTO_CONNECTIONS: u32 = 8;
/// usk_proto.flags: sending does not bind a socket that is not bound (no_autobind).
pub const USK_PROTO_NO_AUTOBIND: u32 = 16;
/// usk_proto.flags: no ports. bind(2) takes an address alone; without it a null get_port binds in the protocol's own
/// table.
pub const USK_PROTO_NO_PORTS: u32 = 32;

/// What IP knows of a packet, for rcv.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_packet_info_t {
    /// Where it came from; port 0.
    pub src: usk_addr_t,
    /// Where it went; port 0.
    pub dst: usk_addr_t,
    /// Interface it came by.
    pub ifindex: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// TOS or traffic class; ECN in the low two bits.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// 1: sent to a group or to all.
    pub not_unicast: u8,
    /// Time of the softirq run, nanoseconds of the stack's clock.
    pub now: u64,
}

/// An ICMP error that quotes a packet of the protocol, for err.
#[allow(non_camel_case_types)]
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct usk_icmp_error_t {
    /// Source of the quoted packet: ours.
    pub src: usk_addr_t,
    /// Its destination.
    pub dst: usk_addr_t,
    /// Who reports.
    pub reporter: usk_addr_t,
    /// ICMP type, as on the wire, of the family of `src`.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// 1: a hard error.
    pub fatal: u8,
    /// The errno it stands for, positive.
    pub error: c_int,
    /// MTU of fragmentation needed and packet too big, else 0.
    pub info: u32,
    /// Interface it came by.
    pub ifindex: u32,
    /// The protocol's header and what followed, as much as was quoted: at least 8 bytes.
    pub quoted: *const c_void,
    /// How much.
    pub quoted_len: usize,
}

/// A transport protocol: the operations of the kernel's struct proto, and the entry points of its IP protocol number.
/// Copied when it is registered; strings and lists too. Of the kernel's operations, rehash is hash, called again;
/// sock_is_readable is poll_locked; psock_update_sk_prot is update_proto; bind_add and compat_ioctl serve the kernel
/// alone.
///
/// Contexts. *Process*: a thread in a system call; may sleep in usk_wait. *Softirq*: packet and timer work; never
/// sleeps. *Owned*: the operation is given usk_owned_t and must not lock the sock. *Not owned*: it is given usk_sock_t
/// and locks by itself. An operation must not make the POSIX-shaped calls (usk_send ...) on its own socket.
///
/// Return values. An int is 0 or a negative errno, a length is 0 or more or a negative errno. Anything else, and a
/// length beyond what was offered, breaks the socket, which then returns EIO until it is closed; so does an operation
/// that returns without releasing what it locked. The stack and other sockets go on.
///
/// Exceptions. No exception of C++ and no panic of a Rust shared object may leave an operation: it would end the
/// process. What catches one calls usk_break; what it has locked need not be released. The operations without a sock
/// have none to break, and only catch: rcv and err lose the packet (it is theirs to free), the others return as if they
/// were null.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy)]
#[repr(C)]
pub struct usk_proto {
    /// USK_PROTO_VERSION.
    pub version: u32,
    /// sizeof(struct usk_proto). What a shorter table lacks is null.
    pub size: u32,
    /// 1 to 31 bytes, unique in a stack; in listings, and (in lower case) in the names of sysctls. Required.
    pub name: *const c_char,
    /// Names of counters of its own (usk_count), ended by null; null: none. Letters and digits, unique in a stack, read
    /// by usk_mib_read.
    pub mib_names: *const *const c_char,
    /// Sysctls of its own (usk_sysctl), net.NAME. and their names, ended by one with a null name; null: none.
    pub sysctls: *const usk_sysctl_t,

    /// SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOCK_RAW ...: with `protocol`, what socket(2) is called with.
    pub socket_type: c_int,
    /// IP protocol number, 1 to 255.
    pub protocol: c_int,
    /// USK_PROTO_*. One of USK_PROTO_V4, USK_PROTO_V6 is required.
    pub flags: u32,
    /// Bytes of the protocol's own memory in each sock (usk_private), at most 65536.
    pub obj_size: u32,
    /// Most bytes of header the protocol pushes; 0: what a packet has room for.
    pub max_header: u32,
    /// Bytes of a time-wait record and of a request record, for listings (twsk_prot, rsk_prot).
    pub timewait_size: u32,
    /// See timewait_size.
    pub request_size: u32,
    /// For listings: SLAB_TYPESAFE_BY_RCU's role. Socks are counted, so 0.
    pub slab_flags: u32,

    /// A sock exists: fill usk_private. Process context (softirq for a child), owned. Null: nothing to do.
    pub init: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Last work, from usk_done or when init failed: free what usk_private points to. Either context, owned. Null:
    /// nothing.
    pub destroy: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// The last descriptor is closed, or the listener of a connection nobody accepted. Ends, now or after a protocol's
    /// farewell, with usk_done. `flags`: MSG_DONTWAIT for a non-blocking descriptor. Process context, not owned. Null:
    /// unhash and usk_done.
    pub close: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, flags: c_int)>,
    /// A look at the address before connect. Process context, owned. Null: accepted.
    pub pre_connect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    /// Starts a connection, or sets a datagram socket's peer; does not wait. Process context, owned. Null: EOPNOTSUPP.
    pub connect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, to: *const usk_addr_t) -> c_int>,
    /// Back to unconnected, or from listening to closed. Process context, owned. Null: EOPNOTSUPP.
    pub disconnect: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Starts listening (usk_listen_start), or changes the backlog. Process context, owned. Null: EOPNOTSUPP.
    pub listen: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, backlog: u32) -> c_int>,
    /// Takes a finished connection, held, waiting unless `nonblock`; or null with a negative errno in `*err`.
    /// usk_accept_wait is one. Process context, not owned. Null: EOPNOTSUPP.
    pub accept:
        Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, nonblock: c_int, err: *mut c_int) -> *mut usk_sock_t>,
    /// SIOCINQ, SIOCOUTQ and its own requests, returning an int in `*value`. Process context, not owned. Null: ENOTTY.
    pub ioctl: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, request: c_ulong, value: *mut c_int) -> c_int>,
    /// shutdown(2): bit 0 receiving, bit 1 sending; usk_sock_shutdown says it already. Process context, owned. Null:
    /// nothing more.
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
    /// Options that go past a layer, straight to getsockopt here: 1 (bpf_bypass_getsockopt). Null: none.
    pub bypass_getsockopt: Option<unsafe extern "C-unwind" fn(level: c_int, name: c_int) -> c_int>,
    /// SO_KEEPALIVE is set to `on`; usk_sock_info tells what it was before. Process context, owned. Null: nothing.
    pub keepalive: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, on: c_int)>,
    /// Sends: returns the bytes taken. Process context, not owned. Null: sendmsg_locked, with the sock owned for it;
    /// one of the two is required.
    pub sendmsg: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, msg: *mut usk_sendmsg_t) -> isize>,
    /// Receives: returns the bytes copied; with MSG_TRUNC given, the true length of a datagram. Process context, not
    /// owned. Null: recvmsg_locked, with the sock owned for it; one of the two is required.
    pub recvmsg: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, msg: *mut usk_recvmsg_t) -> isize>,
    /// sendfile(2) and splice(2): sends bytes that are in memory already. Process context, not owned. Null: through
    /// sendmsg.
    pub sendpage: Option<
        unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, data: *const c_void, len: usize, flags: c_int) -> isize,
    >,
    /// poll(2)'s bits, what is true now. Process context, not owned. Null: poll_locked; null too: readable while the
    /// receive queue holds something, an error waits or the peer has ended, writable below the send buffer
    /// (datagram_poll).
    pub poll: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t) -> u32>,
    /// A packet for the sock, from usk_deliver; the operation's to queue or free. Softirq, or process context from the
    /// backlog; owned; must not sleep. Required with rcv.
    pub backlog_rcv: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, skb: *mut usk_skb_t)>,
    /// Timers that fired (bit n: timer n), and what usk_defer asked for. Either context, owned. Null: nothing.
    pub release_cb: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, bits: u32)>,
    /// Enters the sock's ends into the tables. Owned. Null: usk_hash.
    pub hash: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> c_int>,
    /// Takes it out. Owned. Null: usk_unhash.
    pub unhash: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// bind(2) to a port, 0: any. Owned. Null: usk_get_port.
    pub get_port: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, port: u16) -> c_int>,
    /// Gives the port back, when the sock ends with one. Owned. Null: usk_unhash.
    pub put_port: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t)>,
    /// Whether an upper layer may take the sock over, or (`restore`) leave it (psock_update_sk_prot). Owned. Null:
    /// EOPNOTSUPP.
    pub update_proto: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, restore: c_int) -> c_int>,
    /// The protocol's memory passes its second limit; returns below its first. Any context, no sock owned that is
    /// known. Null: nothing beyond the accounts.
    pub enter_memory_pressure: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t)>,
    /// See enter_memory_pressure.
    pub leave_memory_pressure: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t)>,
    /// Whether more may be queued for sending, beside the send buffer's own limit; `priv_` is usk_private's. Asked by
    /// poll where poll and poll_locked are null. Owned. Null: yes.
    pub stream_memory_free: Option<unsafe extern "C-unwind" fn(priv_: *const c_void, wake: c_int) -> c_int>,
    /// Limits of all its socks' memory, pages of 4096 bytes: no pressure below the first, pressure above the second,
    /// refusal above the third (sysctl_mem). Any context. Null, or a return value other than 0: none.
    pub sysctl_mem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, limits: *mut i64) -> c_int>,
    /// Least, first and greatest send buffer, bytes (sysctl_wmem). Null: net.core.wmem_default.
    pub sysctl_wmem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    /// The same of receive buffers (sysctl_rmem).
    pub sysctl_rmem: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, sizes: *mut c_int) -> c_int>,
    /// Ends the socket from outside with a positive errno (usk_destroy, diag_destroy): report it (usk_error_report),
    /// tell the peer, leave the sock as after disconnect. Process context, not owned. Null: EOPNOTSUPP.
    pub diag_destroy: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t, err: c_int) -> c_int>,
    /// A packet of the IP protocol number, IP header off: verify it, find its sock (usk_proto_lookup), usk_deliver it;
    /// or usk_drop. The operation's to give on or free. Softirq, no sock owned. Null: the protocol receives nothing.
    pub rcv:
        Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, skb: *mut usk_skb_t, info: *const usk_packet_info_t)>,
    /// An ICMP error about a packet of the protocol. Softirq, no sock owned. Null: ignored.
    pub err: Option<unsafe extern "C-unwind" fn(reg: *mut usk_reg_t, error: *const usk_icmp_error_t)>,

    /// As sendmsg, on a sock that is owned: for an upper layer, which works while it owns it, and in place of a null
    /// sendmsg: what a protocol does that owns the sock from the first line to the last is simplest said, and done
    /// fastest, so. It may sleep in usk_wait unless MSG_DONTWAIT is set. Process context, owned. Null: an upper layer
    /// gets EOPNOTSUPP.
    pub sendmsg_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_sendmsg_t) -> isize>,
    /// As recvmsg, in the same way.
    pub recvmsg_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, msg: *mut usk_recvmsg_t) -> isize>,
    /// As poll, on a sock that is owned; does not sleep. Null: what the sock's queues say (datagram_poll).
    pub poll_locked: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t) -> u32>,
    /// bind(2), where that is more than an address and a port; `addr` is of the sock's family. Process context, owned.
    /// Null: usk_inet_bind.
    pub bind: Option<unsafe extern "C-unwind" fn(o: *mut usk_owned_t, addr: *const usk_addr_t) -> c_int>,
    /// A sendfile or splice ended with its file, after bytes that had MSG_MORE: what waits for more goes now. Process
    /// context, not owned. Null: nothing waits.
    pub splice_eof: Option<unsafe extern "C-unwind" fn(sk: *mut usk_sock_t)>,
}

// SAFETY: repr(C), begins with two u32; null pointers, None and zero are valid for every field.
unsafe impl Table for usk_proto {
    const NAME: &'static str = "struct usk_proto";
    const VERSION: u32 = USK_PROTO_VERSION;
    // What came later is at the end, from here.
    const FIRST_SIZE: usize = std::mem::offset_of!(usk_proto, sendmsg_locked);
}
const _: () = assert!(begins_with_head(
    offset_of!(usk_proto, name),
    offset_of!(usk_proto, mib_names),
    offset_of!(usk_proto, sysctls)
));

/// Most bytes of a sock's own memory.
const MAX_OBJ_SIZE: u32 = 65_536;

/// A registered protocol.
pub(super) type ProtoReg = Registration<usk_proto>;

impl ProtoReg {
    pub(super) fn number(&self) -> u8 {
        self.table.protocol as u8
    }
    pub(super) fn flag(&self, bit: u32) -> bool {
        self.table.flags & bit != 0
    }
    /// Whether bind(2) takes ports.
    pub(super) fn has_ports(&self) -> bool {
        !self.flag(USK_PROTO_NO_PORTS)
    }
}

/// What a registered protocol has beside its table: the ports that its socks are bound to.
#[derive(Default)]
pub(crate) struct Ports(pub(super) PortTable);

// SAFETY: begins with those members, as asserted; a plug-in says that its functions may be called from any thread.
unsafe impl Registered for usk_proto {
    type Own = Ports;

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
        if !(1..=255).contains(&self.protocol) {
            return lacks("protocol is not 1 to 255");
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
        Ok(())
    }

    fn enter(reg: &Arc<ProtoReg>, stack: &Arc<Stack>) -> std::result::Result<(), (Error, String)> {
        let table = &reg.table;
        let key = |family| {
            let key = ProtoSwitch::new(family, table.socket_type, table.protocol, reg.clone());
            if reg.flag(USK_PROTO_DEFAULT) { key.by_default() } else { key }
        };
        let keys: Vec<ProtoSwitch> = [(USK_PROTO_V4, libc::AF_INET), (USK_PROTO_V6, libc::AF_INET6)]
            .into_iter()
            .filter(|(bit, _)| reg.flag(*bit))
            .map(|(_, family)| key(family))
            .collect();
        let number = [reg.number()];
        let handler: Option<(&[u8], Arc<dyn IpHandler>)> =
            table.rcv.is_some().then(|| (&number[..], reg.clone() as Arc<dyn IpHandler>));
        stack.registry.register(&keys, handler).map_err(|e| (e.error(), e.to_string()))
    }

    fn leave(reg: &ProtoReg, stack: &Arc<Stack>) -> Result<()> {
        stack.registry.unregister(&reg.name).map_err(|e| e.error())
    }

    fn stack_ended(reg: &ProtoReg) {
        // A sock that said farewell when the stack ended is in the table, and holds it.
        reg.own.0.clear();
    }
}

/// Registers a protocol in the plug-in's stack. `user` is for usk_user; `*out`, unless null, gets the registration.
/// Returns 0, or a negative errno, and usk_config_error says why in a line: -EINVAL the table does not fit (version,
/// size, a required operation, a name, a number), -EEXIST name, type and protocol, IP number, counter or sysctl is
/// taken.
/// # Safety
/// `plugin` is valid; `table` points to as many bytes as its size says, its strings and lists are ended; `out` is null
/// or writable.
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

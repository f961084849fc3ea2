//! Hooks into TCP: the trait [`Hooks`], which is `struct usk_sock_ops` in Rust: header options, RTT, retransmissions,
//! states. Below: `abi::hook`.

use crate::abi::addr;
pub use crate::abi::hook::{Hdr, Hook, find_option};
use crate::abi::reg::Sysctl;
use crate::errno::Errno;
use crate::sock::State;
use crate::sys::*;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, RangeInclusive};

/// The events that [`Hook::set_cb_flags`] asks for.
pub mod cb {
    use crate::sys::*;

    /// `rto` is called.
    pub const RTO: u32 = USK_CB_RTO;
    /// `retrans` is called.
    pub const RETRANS: u32 = USK_CB_RETRANS;
    /// `state` is called.
    pub const STATE: u32 = USK_CB_STATE;
    /// `rtt` is called.
    pub const RTT: u32 = USK_CB_RTT;
    /// `parse_hdr_opt` is called for every segment.
    pub const PARSE_ALL_HDR_OPT: u32 = USK_CB_PARSE_ALL_HDR_OPT;
    /// `parse_hdr_opt` is called for segments with an option that TCP does not know.
    pub const PARSE_UNKNOWN_HDR_OPT: u32 = USK_CB_PARSE_UNKNOWN_HDR_OPT;
    /// `hdr_opt_len` and `write_hdr_opt` are called.
    pub const WRITE_HDR_OPT: u32 = USK_CB_WRITE_HDR_OPT;
}

/// A connection's numbers, as struct bpf_sock_ops has them, by their names in `usersock/hooks.h`: `view.srtt_us`.
#[derive(Clone, Copy)]
pub struct View(pub(crate) usk_sock_view_t);

impl Deref for View {
    type Target = usk_sock_view_t;
    fn deref(&self) -> &usk_sock_view_t {
        &self.0
    }
}

impl View {
    /// Our end.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        addr::from_c(&self.0.local)
    }

    /// The peer.
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        addr::from_c(&self.0.remote).filter(|addr| addr.port() != 0)
    }

    /// Name of the congestion control.
    pub fn congestion_name(&self) -> String {
        let bytes: Vec<u8> = self.0.congestion.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The segment to which options are added.
#[derive(Clone, Copy, Debug)]
pub struct HdrSeg<'a> {
    /// Its control bits as on the wire (FIN 1, SYN 2, RST 4, PSH 8, ACK 16 ...); None: there is no segment yet, TCP
    /// computes how much data fits into one.
    pub flags: Option<u8>,
    /// First sequence number.
    pub seq: u32,
    /// Number of segments into which the device splits it; each has the same option bytes.
    pub segs: u32,
    /// Bytes of options still free in the header.
    pub remaining: u32,
    /// Payload, bytes.
    pub len: usize,
    /// For a listener's SYN-ACK, the option bytes of the SYN.
    pub syn: Option<&'a [u8]>,
}

/// The sockets that hooks are called for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of the stack.
    Stack,
    /// Those that a program attaches them to, by `usk_sock_ops_attach`, by setsockopt with [`USK_TCP_HOOKS`], or in a
    /// test by [`Socket::attach_hooks`](crate::testing::Socket::attach_hooks); and connections that begin while a
    /// filter matches: [`Plugin::hooks_for`](crate::Plugin::hooks_for), [`Reg::set_filters`](crate::Reg::set_filters).
    Chosen,
}

/// The option of IPPROTO_TCP by which a program attaches hooks by name, and reads which a socket has.
pub const USK_TCP_HOOKS: i32 = 2001;
/// The option of IPPROTO_TCP by which a program detaches hooks.
pub const USK_TCP_HOOKS_DETACH: i32 = 2002;

/// Connections by their ends: all that is given must match.
///
/// ```
/// use usersock_plugin::hook::Filter;
///
/// // Those of our port 443 with peers in 192.0.2.0/24.
/// let filter = Filter { local_ports: 443..=443, ..Filter::remote("192.0.2.0".parse().unwrap(), 24) };
/// assert!(filter.local.is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// A prefix of our address, and its length; None: any address of either family.
    pub local: Option<(IpAddr, u8)>,
    /// The same of the peer's.
    pub remote: Option<(IpAddr, u8)>,
    /// Our port.
    pub local_ports: RangeInclusive<u16>,
    /// The peer's.
    pub remote_ports: RangeInclusive<u16>,
}

impl Filter {
    /// All connections.
    pub const ALL: Filter = Filter { local: None, remote: None, local_ports: 0..=u16::MAX, remote_ports: 0..=u16::MAX };

    /// Those with our address in a prefix.
    pub const fn local(ip: IpAddr, prefix: u8) -> Filter {
        Filter { local: Some((ip, prefix)), ..Filter::ALL }
    }

    /// Those with the peer's address in a prefix.
    pub const fn remote(ip: IpAddr, prefix: u8) -> Filter {
        Filter { remote: Some((ip, prefix)), ..Filter::ALL }
    }
}

/// The kind of option that hooks write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionKind {
    /// Its kind.
    pub kind: u8,
    /// With kinds 253 and 254 the ExID (RFC 6994), with others 0.
    pub exid: u16,
}

/// Hooks into TCP. The value belongs to one stack, and is dropped when no hook of it runs any more. Hooks run with the
/// sock owned and must not sleep; those of different socks run at the same time. A panic breaks the event's socket
/// (EIO), and nothing else.
pub trait Hooks: Send + Sync + Sized + 'static {
    /// 1 to 31 printable characters without dot, unique among a stack's hooks.
    const NAME: &'static str;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];
    /// The sockets that they are called for.
    const SCOPE: Scope = Scope::Stack;
    /// The one kind of option that write_hdr_opt stores; None: any that the header does not have. Other hooks that say
    /// the same are refused where a connection would have both (EEXIST).
    const OPTION: Option<OptionKind> = None;
    /// The events that have a hook.
    const HOOKS: HookFns<Self>;
}

/// The events of connection setup, which are always called, and those that [`Hook::set_cb_flags`] asks for.
/// `HookFns { listen: Some(Self::listen), ..HookFns::NONE }`.
#[allow(clippy::type_complexity, reason = "a table of functions")]
pub struct HookFns<T: Hooks> {
    /// They were attached to a socket, unconnected, a listener or a connection: the place for [`Hook::set_cb_flags`].
    pub attached: Option<fn(&T, &mut Hook<'_>)>,
    /// They are detached from a socket: the last event there.
    pub detached: Option<fn(&T, &mut Hook<'_>)>,
    /// Initial RTO of a SYN or SYN-ACK, microseconds; 0: the default.
    pub timeout_init: Option<fn(&T, &mut Hook<'_>) -> u32>,
    /// Initial receive window, segments; 0: the route's or the default.
    pub rwnd_init: Option<fn(&T, &mut Hook<'_>) -> u32>,
    /// Whether the connection requests or accepts ECN, whatever tcp_ecn is.
    pub needs_ecn: Option<fn(&T, &mut Hook<'_>) -> bool>,
    /// RTT of the path without queues, microseconds; 0: unknown.
    pub base_rtt: Option<fn(&T, &mut Hook<'_>) -> u32>,
    /// An active open begins: the SYN is about to be made.
    pub tcp_connect: Option<fn(&T, &mut Hook<'_>)>,
    /// The SYN-ACK arrived, with these option bytes.
    pub active_established: Option<fn(&T, &mut Hook<'_>, &[u8])>,
    /// The last segment of the handshake arrived: its option bytes, and those of the SYN.
    pub passive_established: Option<fn(&T, &mut Hook<'_>, &[u8], &[u8])>,
    /// The sock listens now, or its first SYN that a filter set since chooses has arrived.
    pub listen: Option<fn(&T, &mut Hook<'_>)>,
    /// The retransmission timer fired: the number of retransmissions so far, the RTO that expired, microseconds, and
    /// whether the connection times out. With [`cb::RTO`].
    pub rto: Option<fn(&T, &mut Hook<'_>, u32, u32, bool)>,
    /// As many segments from a sequence number on were retransmitted; the error of the transmission. With
    /// [`cb::RETRANS`].
    pub retrans: Option<fn(&T, &mut Hook<'_>, u32, u32, Option<Errno>)>,
    /// The state is about to change, from one to another. With [`cb::STATE`].
    pub state: Option<fn(&T, &mut Hook<'_>, State, State)>,
    /// Once per round trip: its last RTT sample and the smoothed RTT, microseconds. With [`cb::RTT`].
    pub rtt: Option<fn(&T, &mut Hook<'_>, u32, u32)>,
    /// An acceptable segment arrived, with these option bytes. With [`cb::PARSE_ALL_HDR_OPT`] or
    /// [`cb::PARSE_UNKNOWN_HDR_OPT`].
    pub parse_hdr_opt: Option<fn(&T, &mut Hook<'_>, &[u8])>,
    /// How many bytes of options to reserve in a segment: 2 to `seg.remaining`; any other value reserves none. With
    /// [`cb::WRITE_HDR_OPT`].
    pub hdr_opt_len: Option<fn(&T, &mut Hook<'_>, &HdrSeg<'_>) -> u32>,
    /// Writes, by [`Hdr::store`], into the bytes that hdr_opt_len reserved. With [`cb::WRITE_HDR_OPT`].
    pub write_hdr_opt: Option<fn(&T, &mut Hook<'_>, &HdrSeg<'_>, &mut Hdr<'_>)>,
}

impl<T: Hooks> HookFns<T> {
    /// None of them.
    pub const NONE: HookFns<T> = HookFns {
        attached: None,
        detached: None,
        timeout_init: None,
        rwnd_init: None,
        needs_ecn: None,
        base_rtt: None,
        tcp_connect: None,
        active_established: None,
        passive_established: None,
        listen: None,
        rto: None,
        retrans: None,
        state: None,
        rtt: None,
        parse_hdr_opt: None,
        hdr_opt_len: None,
        write_hdr_opt: None,
    };
}

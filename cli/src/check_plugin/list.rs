//! All checks: name, what it is about, for which kind of table, and what runs it.

use super::part::{Outcome, Part};
use super::{calls, cong, device, hook, layer, network, process, stack, states};
use usersock_ffi::loader::TableKind;

/// A row of the list.
pub(super) struct Check {
    pub name: &'static str,
    pub about: &'static str,
    /// None: the plug-in as a whole.
    pub kind: Option<TableKind>,
    pub run: fn(&Part) -> Outcome,
    /// It is run twice, and both runs must leave the same trace.
    pub twice: bool,
    /// Packets are watched (USERSOCK_DEBUG=skb).
    pub watched: bool,
}

impl Check {
    /// Whether it is one for this part's table: names of checks are unique but for those of several kinds.
    pub(super) fn fits(&self, part: &Part) -> bool {
        self.kind.is_none() == part.table.is_empty()
    }
}

/// The kinds, in the order of `--list`.
pub(super) const KINDS: &[(Option<TableKind>, &str)] = &[
    (None, "Of every plug-in:"),
    (Some(TableKind::Protocol), "Of a protocol:"),
    (Some(TableKind::Congestion), "Of a congestion control:"),
    (Some(TableKind::Hooks), "Of hooks into TCP:"),
    (Some(TableKind::Tcp), "Of a TCP beside the library's:"),
    (Some(TableKind::Layer), "Of a layer on TCP:"),
    (Some(TableKind::Device), "Of a kind of device:"),
];

pub(super) fn find(name: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|c| c.name == name)
}

macro_rules! checks {
    ($($kind:expr => { $($name:literal $about:literal $run:path $(, $field:ident = $value:literal)*;)* })*) => {
        /// Names are unique: a check of several kinds has one for each.
        pub(super) const CHECKS: &[Check] = &[$($(
            #[allow(clippy::needless_update, reason = "most rows change nothing")]
            Check { $($field: $value,)* ..Check {
                name: $name, about: $about, kind: $kind, run: $run, twice: false, watched: true,
            } },
        )*)*];
    };
}

checks! {
    None => {
        "load" "loads, unloads, loads again, ends with its stack" process::load;
        "two-stacks" "in two stacks of a process, one unloads it" process::two_stacks;
    }
    Some(TableKind::Protocol) => {
        "states-new" "what calls return on a new socket" states::states_new;
        "states-bound" "on a bound one; ports in use, and given back" states::states_bound;
        "states-listening" "on a listener" states::states_listening;
        "states-connecting" "while connect(2) is under way, and when nobody answers" states::states_connecting;
        "states-connected" "on a connected one" states::states_connected;
        "states-shut" "after shutdown(2), at both ends" states::states_shut;
        "states-peer-closed" "when the peer has closed" states::states_peer_closed;
        "names" "getsockname(2), getpeername(2), the sender of a message" states::names;
        "nonblock" "O_NONBLOCK and MSG_DONTWAIT never wait, other calls do" calls::nonblock;
        "timeouts" "SO_RCVTIMEO, to the millisecond" calls::timeouts;
        "wake" "what a call, poll or epoll waits for wakes it" calls::wake;
        "full" "a full send buffer: EAGAIN, waiting, SO_SNDTIMEO, POLLOUT" calls::full;
        "poll" "poll(2) and the calls agree at each step" calls::poll;
        "messages" "boundaries, MSG_PEEK, MSG_TRUNC, no bytes, EMSGSIZE" calls::messages;
        "nowhere" "EFAULT: bytes and room at addresses where nothing is" calls::nowhere;
        "options" "options of the socket, of IP, and unknown ones" calls::options;
        "close" "closed in each state, nothing is left" states::close;
        "close-cut-off" "closed with data queued, on a link that is dead" states::close_cut_off;
        "close-blocked" "closed and shut down under a call that waits" calls::close_blocked;
        "bytes" "each byte is the one that was sent" network::bytes;
        "bad-link" "the same under loss, reordering, duplicates, corruption" network::bad_link;
        "fuzz" "packets of any bytes: no crash, nothing left" network::fuzz;
        "icmp" "ICMP errors, true, forged and cut" network::icmp;
        "repeat" "the same seed, the same packets at the same times" network::repeat, twice = true;
        "signals" "EINTR, SA_RESTART" process::signals;
        "fork" "a child gets ENETDOWN, the parent goes on" process::fork;
        "threads" "several threads on one socket" process::threads;
        "unload" "EBUSY while in use, and then gone" process::unload;
        "unload-under-load" "unloaded and loaded while sockets come and go" process::unload_under_load;
        "memory" "sockets that come and go leave no memory behind" process::memory, watched = false;
    }
    Some(TableKind::Congestion) => {
        "cong-transfer" "transfers end; the window stays within bounds" cong::transfer;
        "cong-loss" "gives way when a queue overflows" cong::loss;
        "cong-bad-link" "loss, reordering, corruption, ECN" cong::bad_link;
        "cong-outage" "timeouts: the link fails, and comes back" cong::outage;
        "cong-idle" "idle and application-limited times" cong::idle;
        "cong-switch" "TCP_CONGESTION on a live connection" cong::switch;
        "cong-repeat" "the same seed, the same packets at the same times" cong::repeat, twice = true;
        "cong-unload" "EBUSY while a connection has it" cong::unload;
        "cong-memory" "connections that come and go leave no memory behind" cong::memory, watched = false;
    }
    Some(TableKind::Hooks) => {
        "hook-transfer" "connections work with it at both ends, on good links and bad" hook::transfer;
        "hook-one-sided" "and with a peer that has no such plug-in" hook::one_sided;
        "hook-options" "beside timestamps, SACK, fast open, SYN cookies" hook::options;
        "hook-attach" "those of chosen sockets: attached and detached under a live connection" hook::attach;
        "hook-close" "closed in each state, nothing is left" hook::close;
        "hook-repeat" "the same seed, the same packets at the same times" hook::repeat, twice = true;
        "hook-unload" "unloads under live connections, which go on" hook::unload;
        "hook-memory" "connections that come and go leave no memory behind" hook::memory, watched = false;
    }
    Some(TableKind::Tcp) => {
        "stack-transfer" "each byte is the one that was sent, and they come in time" stack::transfer;
        "stack-bad-link" "loss, reordering, duplicates, corruption, ECN" stack::bad_link;
        "stack-outage" "timeouts: the link fails, and comes back" stack::outage;
        "stack-idle" "idle and application-limited times" stack::idle;
        "stack-options" "without timestamps, SACK, window scaling; options of its own" stack::options;
        "stack-one-sided" "with a peer that has the library's TCP" stack::one_sided;
        "stack-close" "closed and shut down in each state, nothing is left" stack::close;
        "stack-switch" "USK_TCP_STACK on a live connection, there and back" stack::switch;
        "stack-repeat" "the same seed, the same packets at the same times" stack::repeat, twice = true;
        "stack-unload" "EBUSY while a socket has it" stack::unload;
        "stack-memory" "connections that come and go leave no memory behind" stack::memory, watched = false;
    }
    Some(TableKind::Layer) => {
        "layer-bytes" "each byte is the one that was sent, in pieces of all sizes" layer::bytes;
        "layer-bad-link" "the same on a bad link, with small buffers" layer::bad_link;
        "layer-poll" "poll(2) and the calls agree; nothing waits that may not" layer::poll;
        "layer-close" "closed, shut down, disconnected in each state" layer::close;
        "layer-garbage" "a peer without the layer, that sends anything" layer::garbage;
        "layer-listener" "on a listener: its children have it, or it is refused" layer::listener;
        "layer-repeat" "the same seed, the same packets at the same times" layer::repeat, twice = true;
        "layer-unload" "EBUSY while a connection has it" layer::unload;
        "layer-memory" "connections that come and go leave no memory behind" layer::memory, watched = false;
    }
    Some(TableKind::Device) => {
        "device-pair" "opened and closed, and packets between two (--device, --peer)" device::pair;
    }
}

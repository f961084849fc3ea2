//! `usk_owned_t`: a sock that is owned, whatever its protocol.

use super::addr;
use super::info::tx_info;
use crate::errno::{Errno, Result, length, status};
use crate::msg::{RecvMsg, SendMsg};
use crate::skb::{Packet, Skb};
use crate::sock::{Direction, Events, Shutdown, SockInfo, State, TxInfo};
use crate::sys::*;
use crate::time::Time;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ptr::{null, null_mut};

/// An owned sock: what an operation gets, or [`Sock::locked`](crate::sock::Sock::locked) gives. Nobody else is at it
/// until the operation returns, but during calls that say that they release it.
pub struct OwnedSock<'a> {
    raw: *mut usk_owned_t,
    of: PhantomData<&'a mut usk_owned_t>,
}

impl OwnedSock<'_> {
    /// # Safety
    /// `raw` is owned while the result is used.
    pub(crate) unsafe fn new<'a>(raw: *mut usk_owned_t) -> OwnedSock<'a> {
        OwnedSock { raw, of: PhantomData }
    }

    pub(crate) fn raw(&self) -> *mut usk_owned_t {
        self.raw
    }

    pub(crate) fn sock(&self) -> *mut usk_sock_t {
        // SAFETY: owned, as `new` was promised; so in all calls below.
        unsafe { usk_owned_sock(self.raw) }
    }

    /// The time of the event being processed.
    pub fn now(&self) -> Time {
        // SAFETY: see `sock`.
        Time(unsafe { usk_owned_now(self.raw) })
    }

    /// The sock's properties (`usk_sock_info`): some 25 ns, where the calls for one of them take 3 to 10.
    pub fn info(&self) -> SockInfo {
        // SAFETY: see `sock`. All zero is a value of each member, and what the library does not know stays zero.
        let info = unsafe {
            let mut info: usk_sock_info_t = std::mem::zeroed();
            usk_sock_info(self.raw, &mut info, size_of::<usk_sock_info_t>());
            info
        };
        SockInfo::of(&info)
    }

    /// Both ends. ENOTCONN: there is no peer.
    pub fn ends(&self) -> Result<(SocketAddr, SocketAddr)> {
        let (mut local, mut peer) = (addr::NONE, addr::NONE);
        // SAFETY: see `sock`; both are writable.
        status(unsafe { usk_ends(self.raw, &mut local, &mut peer) })?;
        Ok((addr::given(&local), addr::given(&peer)))
    }

    /// The local end: the source address of packets, or the address bound to; port 0: not bound.
    pub fn local(&self) -> SocketAddr {
        let mut local = addr::NONE;
        // SAFETY: see `sock`; writable, and null is allowed.
        unsafe { usk_ends(self.raw, &mut local, null_mut()) };
        addr::given(&local)
    }

    /// The state.
    pub fn state(&self) -> State {
        // SAFETY: see `sock`.
        State(unsafe { usk_sock_state(self.sock()) })
    }

    /// Changes the state. connect(2) waits while it is SYN_SENT or SYN_RECV, and fails if it is CLOSE then; accept(2)
    /// requires LISTEN. EINVAL: connections wait for accept(2), or the sock is finished.
    pub fn set_state(&self, state: State) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_set_state(self.raw, state.0) })
    }

    /// Directions that are shut down.
    pub fn shut_down(&self) -> Shutdown {
        // SAFETY: see `sock`.
        Shutdown(unsafe { usk_sock_shutdown(self.sock()) })
    }

    /// Adds directions: receiving, because the peer has ended, or sending.
    pub fn set_shutdown(&self, directions: Shutdown) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_set_shutdown(self.raw, directions.0) })
    }

    /// Takes the pending error (SO_ERROR): an `Err` with it, or `Ok`.
    pub fn take_error(&self) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_sock_error(self.sock()) })
    }

    /// Sets the pending error and wakes all waiters.
    pub fn error_report(&self, error: Errno) {
        // SAFETY: see `sock`.
        unsafe { usk_error_report(self.sock(), error.number()) };
    }

    /// Wakes the threads that wait for one of these events.
    pub fn wake(&self, events: Events) {
        // SAFETY: see `sock`.
        unsafe { usk_wake(self.sock(), events.0) };
    }

    /// Sleeps with the sock released until one of `events` is signalled, then owns it again; check the condition in a
    /// loop. Process context. EAGAIN: the deadline has passed; EINTR; EIO: the sock is broken; EDEADLK in an operation
    /// for a packet or a timer.
    pub fn wait(&self, events: Events, deadline: Time) -> Result<()> {
        // SAFETY: see `sock`; nothing is borrowed of it.
        status(unsafe { usk_wait(self.raw, events.0, deadline.0) })
    }

    /// The deadline for `wait` by SO_RCVTIMEO or SO_SNDTIMEO; with MSG_DONTWAIT in `flags` one that has passed.
    pub fn timeo(&self, direction: Direction, flags: i32) -> Time {
        // SAFETY: see `sock`.
        Time(unsafe { usk_timeo(self.raw, direction as i32, flags & crate::MSG_DONTWAIT) })
    }

    /// How many bytes a receive call of `len` bytes waits for: SO_RCVLOWAT, or with MSG_WAITALL in `flags` all.
    pub fn rcvlowat(&self, flags: i32, len: usize) -> usize {
        // SAFETY: see `sock`.
        unsafe { usk_rcvlowat(self.raw, flags & crate::MSG_WAITALL, len) }
    }

    /// Processes the backlog now, in the middle of a long call. Whether there was any.
    pub fn flush_backlog(&self) -> bool {
        // SAFETY: see `sock`; nothing is borrowed of it.
        unsafe { usk_flush_backlog(self.raw) > 0 }
    }

    /// Arms timer `index`, 0 to 31, or changes its time: then `release_cb` gets bit `index`. EINVAL: no such index, or
    /// the sock is finished.
    pub fn timer_arm(&self, index: u32, at: Time) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_timer_arm(self.raw, index, at.0) })
    }

    /// Disarms timer `index`. Whether it was pending; its bit may still come if it fired while the sock was owned.
    pub fn timer_cancel(&self, index: u32) -> bool {
        // SAFETY: see `sock`.
        unsafe { usk_timer_cancel(self.raw, index) == 1 }
    }

    /// When timer `index` fires; None: it is not armed, or has fired.
    pub fn timer_at(&self, index: u32) -> Option<Time> {
        // SAFETY: see `sock`.
        let at = unsafe { usk_timer_at(self.raw, index) };
        (at != 0).then_some(Time(at))
    }

    /// Charges the sock for a packet of a queue of the protocol's own, and for bytes that are in none; give it back by
    /// `uncharge` with the same. ENOBUFS: the protocol's memory limit is reached.
    pub fn charge(&self, direction: Direction, skb: Option<&mut Packet>, bytes: usize) -> Result<()> {
        let skb = skb.map_or(null_mut(), |skb| skb.raw());
        // SAFETY: see `sock`; null or a packet.
        status(unsafe { usk_charge(self.raw, direction as i32, skb, bytes) })
    }

    /// Undoes `charge`. Never uncharges more than is charged.
    pub fn uncharge(&self, direction: Direction, skb: Option<&Packet>, bytes: usize) {
        let skb = skb.map_or(null_mut(), |skb| skb.raw());
        // SAFETY: see `sock`; null or a packet.
        unsafe { usk_uncharge(self.raw, direction as i32, skb, bytes) };
    }

    /// Bytes charged in a direction, and the limit, SO_RCVBUF or SO_SNDBUF: there is room while they are fewer.
    pub fn charged(&self, direction: Direction) -> (i32, i32) {
        let mut limit = 0;
        // SAFETY: see `sock`; writable.
        let charged = unsafe { usk_charged(self.raw, direction as i32, &mut limit) };
        (charged, limit)
    }

    /// Appends a packet to the receive queue and wakes readers. ENOBUFS: the buffer is full; the packet is dropped and
    /// counted.
    pub fn receive_push(&self, skb: Skb) -> Result<()> {
        // SAFETY: see `sock`; the packet is given up.
        status(unsafe { usk_receive_push(self.raw, skb.give()) })
    }

    /// The next packet of the receive queue, which stays there.
    pub fn receive_peek(&mut self) -> Option<&mut Packet> {
        // SAFETY: see `sock`; it stays in the queue while the sock is borrowed.
        unsafe { Packet::lent(usk_receive_peek(self.raw)) }
    }

    /// Removes the next packet from the receive queue.
    pub fn receive_pop(&self) -> Option<Skb> {
        // SAFETY: see `sock`; what it returns is ours.
        Skb::from_raw(unsafe { usk_receive_pop(self.raw) })
    }

    /// recvmsg(2) of a datagram protocol: copies the next packet of the receive queue from `offset` on, removes it
    /// unless MSG_PEEK is given, sets MSG_TRUNC if it does not fit, and returns the bytes copied, or with MSG_TRUNC
    /// given the datagram's length. EAGAIN: the queue is empty.
    pub fn receive_msg(&self, msg: &mut RecvMsg<'_>, offset: usize) -> Result<usize> {
        // SAFETY: see `sock`; the message is recvmsg's argument.
        length(unsafe { usk_receive_msg(self.raw, msg.raw(), offset) })
    }

    /// Routes the sock to `to`, sets the peer and, if need be, the source address; the state becomes ESTABLISHED. For
    /// the connect operation.
    pub fn route_connect(&self, to: SocketAddr) -> Result<()> {
        // SAFETY: see `sock`; readable.
        status(unsafe { usk_route_connect(self.raw, &addr::to_c(to)) })
    }

    /// Disconnects the sock: no peer, state CLOSE.
    pub fn route_disconnect(&self) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_route_disconnect(self.raw) })
    }

    /// The source of packets to `to`: the sock's own address, or the preferred one of the route, and its port.
    pub fn source(&self, to: SocketAddr) -> Result<SocketAddr> {
        let mut from = addr::NONE;
        // SAFETY: see `sock`; the one readable, the other writable.
        status(unsafe { usk_source(self.raw, &addr::to_c(to), &mut from) })?;
        Ok(addr::given(&from))
    }

    /// Bytes of transport header and payload that fit in one packet to the peer.
    pub fn path_mtu(&self) -> Result<usize> {
        // SAFETY: see `sock`.
        length(unsafe { usk_path_mtu(self.raw) } as isize)
    }

    /// Updates the path MTU as a router reported it; returns what `path_mtu` is now.
    pub fn update_pmtu(&self, mtu: u32) -> Result<usize> {
        // SAFETY: see `sock`.
        length(unsafe { usk_update_pmtu(self.raw, mtu) } as isize)
    }

    /// Sends a packet to `to`, or to the peer: route, IP header, fragments, device. It begins with the protocol's
    /// header, its checksum complete or left open ([`Packet::csum_partial`]). ENOBUFS: the device's queue is full,
    /// treat it as a loss; EMSGSIZE, ENETUNREACH, ENOTCONN.
    pub fn xmit(&self, skb: Skb, to: Option<SocketAddr>) -> Result<()> {
        let to = to.map(addr::to_c);
        let to = to.as_ref().map_or(null(), std::ptr::from_ref);
        // SAFETY: see `sock`; the packet is given up, the address null or readable.
        status(unsafe { usk_xmit(self.raw, skb.give(), to) })
    }

    /// As `xmit`, with what the protocol decides for this packet alone (`usk_xmit_info`). EINVAL: a TTL of 0, a flow
    /// label over IPv4, a source that is not this host's.
    ///
    /// ```
    /// # use usersock_plugin::prelude::*;
    /// use usersock_plugin::sock::TxInfo;
    ///
    /// /// Sends a probe that only the next router sees, ECT(0).
    /// fn probe(o: &OwnedSock<'_>, skb: Skb) -> Result<()> {
    ///     o.xmit_info(skb, None, &TxInfo { ttl: Some(1), tos: Some(2), ..TxInfo::default() })
    /// }
    /// ```
    pub fn xmit_info(&self, skb: Skb, to: Option<SocketAddr>, tx: &TxInfo) -> Result<()> {
        let (to, tx) = (to.map(addr::to_c), tx_info(tx));
        let to = to.as_ref().map_or(null(), std::ptr::from_ref);
        // SAFETY: see `sock`; the packet is given up, the address null or readable, the struct of the size it says.
        status(unsafe { usk_xmit_info(self.raw, skb.give(), to, &tx, size_of::<usk_tx_info_t>()) })
    }

    /// Sets the ECN bits of the sock's packets: 0 not ECT, 2 ECT(0), 1 ECT(1) (`usk_set_ecn`). EINVAL: another value.
    pub fn set_ecn(&self, ecn: u8) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_set_ecn(self.raw, ecn.into()) })
    }

    /// A new packet with up to `len` bytes of a message, charged to the send buffer (`usk_send_alloc`). The bytes are
    /// consumed only if all of it succeeds. ENOBUFS: the protocol's memory limit is reached; EFAULT.
    ///
    /// ```
    /// # use usersock_plugin::prelude::*;
    /// /// A stream: what there is no memory for stays in the message, and what was sent before is returned.
    /// fn send_some(o: &OwnedSock<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
    ///     let mut sent = 0;
    ///     while !msg.is_empty() {
    ///         match o.send_alloc(msg, 1000) {
    ///             Ok(skb) => {
    ///                 sent += skb.len();
    ///                 o.xmit(skb, None)?;
    ///             }
    ///             Err(Errno::NoBufs) if sent > 0 => break,
    ///             Err(e) => return Err(e),
    ///         }
    ///     }
    ///     Ok(sent)
    /// }
    /// ```
    pub fn send_alloc(&self, msg: &mut SendMsg<'_>, len: usize) -> Result<Skb> {
        let mut skb = null_mut();
        // SAFETY: see `sock`; sendmsg's argument; writable.
        status(unsafe { usk_send_alloc(self.raw, msg.raw(), len, &mut skb) })?;
        Skb::from_raw(skb).ok_or(Errno::NoBufs)
    }

    /// Adds the control messages that the socket asks for, of a packet as it was received (`usk_recvmsg_control`):
    /// IP_PKTINFO, IP_RECVTTL, SO_TIMESTAMP and their like. `receive_msg` does it by itself.
    pub fn recvmsg_control(&self, msg: &mut RecvMsg<'_>, skb: &Packet) -> Result<()> {
        // SAFETY: see `sock`; recvmsg's argument; a packet, which is only read.
        status(unsafe { usk_recvmsg_control(self.raw, msg.raw(), skb.raw()) })
    }

    /// Makes a packet a super-packet: its first `header` bytes are the header of each packet that it stands for, and
    /// each has `size` bytes of what follows. EINVAL: a size of 0 or above 65535, a header of 0 or above 52 bytes, or
    /// nothing behind it; EMSGSIZE: longer than 65535 bytes; EOPNOTSUPP: there is no `segment`.
    pub fn set_gso(&self, skb: &mut Packet, header: usize, size: usize) -> Result<()> {
        let number = |n| u32::try_from(n).map_err(|_| Errno::Inval);
        // SAFETY: see `sock`; a packet.
        status(unsafe { usk_skb_set_gso(self.raw, skb.raw(), number(header)?, number(size)?) })
    }

    /// Bytes of header and payload of the largest super-packet to the peer.
    pub fn gso_max(&self) -> Result<usize> {
        // SAFETY: see `sock`.
        length(unsafe { usk_gso_max(self.raw) } as isize)
    }

    /// setsockopt(2) of the IP levels. ENOPROTOOPT for another.
    pub fn ip_setsockopt(&self, level: i32, name: i32, value: &[u8]) -> Result<()> {
        // SAFETY: see `sock`; readable.
        status(unsafe { usk_ip_setsockopt(self.raw, level, name, value.as_ptr().cast(), value.len()) })
    }

    /// getsockopt(2) of the IP levels: returns how many bytes it wrote. ENOPROTOOPT for another.
    pub fn ip_getsockopt(&self, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        // SAFETY: see `sock`; writable.
        length(unsafe { usk_ip_getsockopt(self.raw, level, name, value.as_mut_ptr().cast(), value.len()) })
    }

    /// Binds to a local port, 0 meaning any. EADDRINUSE; EINVAL: it has one, or is finished.
    pub fn get_port(&self, port: u16) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_get_port(self.raw, port) })
    }

    /// Binds to an address and a port, as bind(2) does.
    pub fn inet_bind(&self, to: SocketAddr) -> Result<()> {
        // SAFETY: see `sock`; readable, and nothing is borrowed of it: get_port may run.
        status(unsafe { usk_inet_bind(self.raw, &addr::to_c(to)) })
    }

    /// Updates the library's port table with the sock's addresses.
    pub fn hash(&self) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_hash(self.raw) })
    }

    /// Removes the sock from the library's port table and releases its port.
    pub fn unhash(&self) {
        // SAFETY: see `sock`.
        unsafe { usk_unhash(self.raw) };
    }

    /// Sets both ends of a child.
    pub fn set_ends(&self, local: SocketAddr, peer: SocketAddr) -> Result<()> {
        // SAFETY: see `sock`; both are readable.
        status(unsafe { usk_set_ends(self.raw, &addr::to_c(local), &addr::to_c(peer)) })
    }

    /// Starts listening: for the listen operation.
    pub fn listen_start(&self, backlog: u32) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_listen_start(self.raw, backlog) })
    }

    /// Stops listening: connections that were not accepted are closed. For the disconnect operation.
    pub fn listen_stop(&self) -> Result<()> {
        // SAFETY: see `sock`.
        status(unsafe { usk_listen_stop(self.raw) })
    }
}

//! Socks of a [`Protocol`]: owned, held, and its registration.

use super::addr;
use super::info::RawError;
use super::owned::OwnedSock;
use super::reg::Reg;
use super::slot::Slot;
use crate::errno::{Errno, Result, length, status};
use crate::proto::{IcmpSend, PacketInfo, Protocol};
use crate::skb::Skb;
use crate::sock::{Events, Shutdown, State};
use crate::sys::*;
use crate::time::Time;
use std::any::Any;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

/// What this crate keeps of a sock of protocol `P`.
pub(crate) type SlotOf<P> = Slot<P, <P as Protocol>::Sock>;

/// An owned sock of protocol `P`: what is common to all socks, and what belongs to the protocol.
pub struct Owned<'a, P: Protocol> {
    base: OwnedSock<'a>,
    pub(crate) slot: *mut SlotOf<P>,
}

impl<'a, P: Protocol> Deref for Owned<'a, P> {
    type Target = OwnedSock<'a>;
    fn deref(&self) -> &OwnedSock<'a> {
        &self.base
    }
}

impl<'a, P: Protocol> DerefMut for Owned<'a, P> {
    fn deref_mut(&mut self) -> &mut OwnedSock<'a> {
        &mut self.base
    }
}

impl<P: Protocol> Owned<'_, P> {
    /// # Safety
    /// `o` is owned while the result is used, and its sock is of protocol `P`.
    pub(crate) unsafe fn new<'a>(o: *mut usk_owned_t) -> Owned<'a, P> {
        // SAFETY: owned. The table asked for a slot, zero at first, which nobody else uses while the sock is owned.
        unsafe {
            let slot = usk_private(o).cast::<SlotOf<P>>();
            assert!(!slot.is_null(), "a sock without the protocol's memory");
            if (*slot).reg.is_null() {
                (*slot).reg = usk_owned_reg(o);
                (*slot).home = usk_user((*slot).reg).cast();
            }
            Owned { base: OwnedSock::new(o), slot }
        }
    }

    /// The protocol's value, which outlives the sock.
    pub(crate) fn protocol<'b>(&self) -> &'b P {
        // SAFETY: `user` of the registration, which exists as long as a sock of it.
        unsafe { &*(*self.slot).home }
    }

    /// The protocol's data of this sock. Others may be at it while a call like `wait` releases the sock: so it is
    /// borrowed as long as the data is used, and read again after such a call.
    ///
    /// # Panics
    /// The sock is finished.
    pub fn data(&mut self) -> &mut P::Sock {
        // SAFETY: owned, and borrowed as long as the data is: calls that let others at it borrow `self` mutably.
        unsafe { (*self.slot).get().expect("the sock is finished") }
    }

    /// The registration of the sock's protocol.
    pub fn reg(&self) -> ProtoReg<'_, P> {
        // SAFETY: valid as long as a sock of it.
        unsafe { ProtoReg::new((*self.slot).reg) }
    }

    /// Finishes the sock: removes it from the tables, cancels its timers, runs destroy, drops `data`. EBUSY: a program
    /// has it; set its state, and finish it in close.
    pub fn done(&self) -> Result<()> {
        // SAFETY: owned; nothing is borrowed of it.
        status(unsafe { usk_done(self.raw()) })
    }

    /// This sock, held.
    pub fn held(&self) -> Sock<P> {
        // SAFETY: valid, of this protocol; what it returns is ours.
        unsafe { Sock::from_raw(usk_sock_hold(self.sock())).expect("an owned sock") }
    }

    /// Of a listener: a new sock for a connection that a packet requests. ENOMEM: its init failed.
    pub fn new_child(&self) -> Result<Sock<P>> {
        // SAFETY: owned; what it returns is held for us.
        unsafe { Sock::from_raw(usk_new_child(self.raw())) }.ok_or(Errno::NoMem)
    }

    /// Of a listener: queues an established connection for accept(2). ENOBUFS: the backlog is full; EINVAL: it listens
    /// no more. On failure end the child by [`Owned::done`].
    pub fn accept_push(&self, child: &Sock<P>) -> Result<()> {
        // SAFETY: owned; a valid sock.
        status(unsafe { usk_accept_push(self.raw(), child.0.as_ptr()) })
    }

    /// The algorithm that the sock has borrowed; null: none.
    pub(crate) fn cong(&self) -> *mut usk_cong_t {
        // SAFETY: owned.
        unsafe { (*self.slot).cong }
    }

    /// Sets it; returns the one of before.
    pub(crate) fn set_cong(&self, cong: *mut usk_cong_t) -> *mut usk_cong_t {
        // SAFETY: owned; the data beside it is not touched.
        unsafe { std::ptr::replace(&raw mut (*self.slot).cong, cong) }
    }
}

/// A sock that is held: it exists as long as this.
pub struct Sock<P: Protocol>(pub(crate) NonNull<usk_sock_t>, PhantomData<fn(&P)>);

// SAFETY: a held sock may be used from any thread.
unsafe impl<P: Protocol> Send for Sock<P> {}
// SAFETY: as above.
unsafe impl<P: Protocol> Sync for Sock<P> {}

impl<P: Protocol> Sock<P> {
    /// # Safety
    /// `raw` is null, or held for the caller, of protocol `P`.
    unsafe fn from_raw(raw: *mut usk_sock_t) -> Option<Sock<P>> {
        NonNull::new(raw).map(|raw| Sock(raw, PhantomData))
    }

    /// Owns the sock while `f` runs, and releases it: packets that came meanwhile are processed. Process context; in
    /// packet and timer context only for a child that no program can own yet. EDEADLK: this thread owns it already.
    /// Never own two socks, but a listener and then its child. A panic of `f` breaks the socket, and goes on.
    pub fn locked<R>(&self, f: impl FnOnce(&mut Owned<'_, P>) -> R) -> Result<R> {
        let mut o = usk_owned_t { opaque: [0; 4] };
        // SAFETY: a valid sock, held by `self`; `o` stays where it is until the release below.
        unsafe {
            status(usk_lock_sock(self.0.as_ptr(), &mut o))?;
            let r = catch_unwind(AssertUnwindSafe(|| f(&mut Owned::new(&mut o))));
            if r.is_err() {
                usk_break(self.0.as_ptr());
            }
            usk_release_sock(&mut o);
            r.map_or_else(|thrown| resume_unwind(thrown), Ok)
        }
    }

    /// Passes a packet to the sock from packet context: backlog_rcv runs now, or when the system call that owns the
    /// sock releases it. ENOBUFS: the backlog is full, and the packet was dropped and counted.
    pub fn deliver(&self, skb: Skb) -> Result<()> {
        // SAFETY: a valid sock; so below. The packet is given up.
        status(unsafe { usk_deliver(self.0.as_ptr(), skb.give()) })
    }

    /// Requests release_cb with these bits: now, or when the owner releases the sock. From any thread that does not own
    /// it.
    pub fn defer(&self, bits: u32) {
        // SAFETY: see `deliver`.
        unsafe { usk_defer(self.0.as_ptr(), bits) };
    }

    /// Sets the pending error and wakes all waiters.
    pub fn error_report(&self, error: Errno) {
        // SAFETY: see `deliver`.
        unsafe { usk_error_report(self.0.as_ptr(), error.number()) };
    }

    /// Wakes the threads that wait for one of these events.
    pub fn wake(&self, events: Events) {
        // SAFETY: see `deliver`.
        unsafe { usk_wake(self.0.as_ptr(), events.0) };
    }

    /// See [`IcmpError::report`](crate::proto::IcmpError::report).
    pub(crate) fn icmp_report(&self, error: RawError<'_>, port: u16, header: usize) -> Result<()> {
        // SAFETY: see `deliver`; err's argument, which is there while `err` runs, as long as this.
        status(unsafe { usk_icmp_report(self.0.as_ptr(), error.0, port, header) })
    }

    /// The state, as it is just now.
    pub fn state(&self) -> State {
        // SAFETY: see `deliver`.
        State(unsafe { usk_sock_state(self.0.as_ptr()) })
    }

    /// Directions that are shut down, as it is just now.
    pub fn shut_down(&self) -> Shutdown {
        // SAFETY: see `deliver`.
        Shutdown(unsafe { usk_sock_shutdown(self.0.as_ptr()) })
    }
}

impl<P: Protocol> Clone for Sock<P> {
    fn clone(&self) -> Sock<P> {
        // SAFETY: a valid sock; it returns the same, held once more.
        unsafe { usk_sock_hold(self.0.as_ptr()) };
        Sock(self.0, PhantomData)
    }
}

/// Handles of one sock are equal.
impl<P: Protocol> PartialEq for Sock<P> {
    fn eq(&self, other: &Sock<P>) -> bool {
        self.0 == other.0
    }
}
impl<P: Protocol> Eq for Sock<P> {}

impl<P: Protocol> Drop for Sock<P> {
    fn drop(&mut self) {
        // SAFETY: held by this, and not used any more.
        unsafe { usk_sock_put(self.0.as_ptr()) };
    }
}

/// The registration of protocol `P` in one stack.
pub struct ProtoReg<'a, P: Protocol>(Reg<'a>, PhantomData<fn(&P)>);

impl<P: Protocol> Clone for ProtoReg<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P: Protocol> Copy for ProtoReg<'_, P> {}

impl<'a, P: Protocol> Deref for ProtoReg<'a, P> {
    type Target = Reg<'a>;
    fn deref(&self) -> &Reg<'a> {
        &self.0
    }
}

impl<P: Protocol> ProtoReg<'_, P> {
    /// # Safety
    /// `raw` is of protocol `P` and valid while the result is used.
    pub(crate) unsafe fn new<'a>(raw: *mut usk_reg_t) -> ProtoReg<'a, P> {
        // SAFETY: the caller vouches for it.
        ProtoReg(unsafe { Reg::new(raw) }, PhantomData)
    }

    /// The sock for a packet from `remote` to `local`: a connected one, else the best match among bound and listening
    /// ones. `ifindex`: the interface that received it.
    pub fn lookup(self, local: SocketAddr, remote: SocketAddr, ifindex: u32) -> Option<Sock<P>> {
        // SAFETY: valid; both are readable; what it returns is held for us, and of this protocol.
        unsafe { Sock::from_raw(usk_proto_lookup(self.0.raw(), &addr::to_c(local), &addr::to_c(remote), ifindex)) }
    }

    /// Gives a packet to every sock that it is for: of a packet to a group or a broadcast address all that are bound to
    /// `local` and whose memberships, source filters and other options admit it, of another the one that `lookup`
    /// finds. Each gets a packet of its own, with the same control block. Returns how many there are. ENOENT: the
    /// packet was not received.
    pub fn deliver_all(self, skb: &mut Skb, local: SocketAddr, remote: SocketAddr) -> Result<usize> {
        // SAFETY: valid; the packet stays ours; both addresses are readable.
        let n = unsafe { usk_deliver_all(self.0.raw(), skb.raw(), &addr::to_c(local), &addr::to_c(remote)) };
        length(n as isize)
    }

    /// Sends an ICMP error about a received packet, which begins with the protocol's header, as `rcv` got it, where the
    /// rules and the rate limits allow it. EINVAL: an MTU that is none; ENOENT: the packet was not received.
    pub fn icmp_send(self, skb: &mut Skb, error: IcmpSend) -> Result<()> {
        let (error, mtu) = match error {
            IcmpSend::PortUnreach => (USK_ICMP_PORT_UNREACH, 0),
            IcmpSend::ProtUnreach => (USK_ICMP_PROT_UNREACH, 0),
            IcmpSend::Prohibited => (USK_ICMP_PROHIBITED, 0),
            IcmpSend::TooBig(mtu) => (USK_ICMP_TOO_BIG, mtu),
        };
        // SAFETY: valid; the packet stays ours.
        status(unsafe { usk_icmp_send(self.0.raw(), skb.raw(), error, mtu) })
    }

    /// Calls `f` for each bound, connected or accepted sock of the registration, until it returns false. The list is
    /// made before the first call. A panic of `f` ends it, and goes on.
    pub fn for_each(self, f: impl FnMut(Sock<P>) -> bool) {
        struct Call<F> {
            f: F,
            thrown: Option<Box<dyn Any + Send>>,
        }
        unsafe extern "C" fn each<P: Protocol, F: FnMut(Sock<P>) -> bool>(
            arg: *mut c_void,
            sk: *mut usk_sock_t,
        ) -> c_int {
            // SAFETY: `arg` is the call below; the sock is valid and of this protocol, and what is held once more is
            // ours.
            let (call, sock) = unsafe { (&mut *arg.cast::<Call<F>>(), Sock::<P>::from_raw(usk_sock_hold(sk))) };
            let Some(sock) = sock else { return 0 };
            match catch_unwind(AssertUnwindSafe(|| (call.f)(sock))) {
                Ok(goes_on) => (!goes_on).into(),
                Err(thrown) => {
                    call.thrown = Some(thrown);
                    1
                }
            }
        }
        fn entry<P: Protocol, F: FnMut(Sock<P>) -> bool>(_: &F) -> usk_sock_each_t {
            Some(each::<P, F>)
        }
        let each = entry::<P, _>(&f);
        let mut call = Call { f, thrown: None };
        // SAFETY: valid; the function takes a pointer to `call`, which lives meanwhile.
        unsafe { usk_for_each_sock(self.0.raw(), each, (&raw mut call).cast()) };
        if let Some(thrown) = call.thrown {
            resume_unwind(thrown);
        }
    }

    /// Arms timer `index` (0 to 31) of the protocol, which belongs to no sock, or changes its time:
    /// [`Protocol::timer`] is called then. EINVAL: no such index, or the registration has ended.
    pub fn timer_arm(self, index: u32, at: Time) -> Result<()> {
        // SAFETY: valid; so below.
        status(unsafe { usk_reg_timer_arm(self.0.raw(), index, at.0) })
    }

    /// Disarms timer `index`. Returns whether it was armed: then it does not fire.
    pub fn timer_cancel(self, index: u32) -> bool {
        // SAFETY: see `timer_arm`.
        unsafe { usk_reg_timer_cancel(self.0.raw(), index) == 1 }
    }

    /// When timer `index` fires; None: it is not armed.
    pub fn timer_at(self, index: u32) -> Option<Time> {
        // SAFETY: see `timer_arm`.
        Some(Time(unsafe { usk_reg_timer_at(self.0.raw(), index) })).filter(|at| at.0 != 0)
    }

    /// Asks for [`Protocol::work`] with these bits, soon, in softirq context. Any context, a sock may be owned.
    pub fn defer(self, bits: u32) -> Result<()> {
        // SAFETY: see `timer_arm`.
        status(unsafe { usk_reg_defer(self.0.raw(), bits) })
    }

    /// Replies to a packet without a sock: sends `skb`, which begins with the protocol's header, to the source of the
    /// packet that `info` describes. Packet context.
    pub fn reply(self, info: &PacketInfo, skb: Skb) -> Result<()> {
        let info = usk_packet_info_t {
            src: addr::to_c(info.src),
            dst: addr::to_c(info.dst),
            ifindex: info.ifindex,
            protocol: info.protocol,
            tos: info.tos,
            ttl: info.ttl,
            not_unicast: info.not_unicast.into(),
            now: info.now.0,
        };
        // SAFETY: valid; readable; the packet is given up.
        status(unsafe { usk_reply(self.0.raw(), &info, skb.give()) })
    }
}

//! A protocol on top of another, on the same sock: `Layered` is a table of operations that passes each operation to the
//! protocol below, except those that a [`Layer`] overrides. Above: the socket layer, which calls it like any other
//! table. Below: the protocol it was put on. Linux: a struct proto copied and modified by psock_update_sk_prot or by
//! TCP_ULP's tls.
//!
//! # How data passes through
//! A layer that changes what is sent or received overrides [`Layer::sendmsg_locked`], [`Layer::recvmsg_locked`] and
//! [`Layer::poll_locked`], which are called with the sock owned, and calls the same operations of the protocol below.
//! The other entry points lead to these three: `sendmsg`, `recvmsg`, `poll` and `sendpage`. A layer that must wait
//! calls the protocol below with MSG_DONTWAIT and sleeps by itself (`SockGuard::sleep`), so that its own state is
//! consistent whenever the sock is released. A layer that holds bytes which the protocol below had no room for sends
//! them after [`Layer::backlog_rcv`] of that protocol has run: the packet may have been the acknowledgement that made
//! room. A send by the protocol below may call the layer's operations again (`SockGuard::flush_backlog`), so the layer
//! must not keep inconsistent state across such a call either.

use super::lock::SockGuard;
use super::msg::{RecvMsg, SendMsg};
use super::proto::{Module, Proto, ProtoAccounts, SockRef};
use super::skb::Skb;
use super::wait::Events;
use super::{Sock, SockState};
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

/// Defines both sides of an operation that is passed on: the default in `Layer`, and the entry in `Layered`'s table.
macro_rules! passed_on {
    ($( fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?; )*) => {
        /// What a layer does differently. Each operation is given the protocol below, and by default calls it.
        /// [`Proto`] documents what each operation is for, in which context it is called and whether the sock is owned.
        pub trait Layer: Send + Sync + 'static {
            $(
                #[doc = concat!("[`Proto::", stringify!($name), "`]. Default: what the protocol below does.")]
                fn $name(&self, below: &dyn Proto $(, $arg: $ty)*) $(-> $ret)? {
                    below.$name($($arg),*)
                }
            )*

            /// Name in listings. Default: that of the protocol below.
            fn name<'p>(&'p self, below: &'p dyn Proto) -> &'p str {
                below.name()
            }

            /// [`Proto::sendmsg`]. Default: owns the sock for `sendmsg_locked`.
            fn sendmsg(&self, below: &dyn Proto, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
                self.sendmsg_locked(below, &mut sk.lock(), msg)
            }

            /// [`Proto::recvmsg`]. Default: owns the sock for `recvmsg_locked`.
            fn recvmsg(&self, below: &dyn Proto, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
                self.recvmsg_locked(below, &mut sk.lock(), msg)
            }

            /// [`Proto::poll`]. Default: owns the sock for `poll_locked`.
            fn poll(&self, below: &dyn Proto, sk: SockRef<'_>) -> Events {
                self.poll_locked(below, &mut sk.lock())
            }

            /// [`Proto::sendpage`]. Default: through `sendmsg`, so that nothing goes around the layer.
            fn sendpage(&self, below: &dyn Proto, sk: SockRef<'_>, bytes: &[u8], flags: i32) -> Result<usize> {
                self.sendmsg(below, sk, &mut SendMsg::new(&[IoSlice::new(bytes)], flags))
            }

            /// [`Proto::getsockopt`]; not called for options that bypass layers ([`Proto::bypass_getsockopt`]).
            /// Default: that of the protocol below.
            fn getsockopt(
                &self,
                below: &dyn Proto,
                sk: SockRef<'_>,
                level: i32,
                name: i32,
                value: &mut [u8],
            ) -> Result<usize> {
                below.getsockopt(sk, level, name, value)
            }

            /// [`Proto::contained`]. Default: yes, though the protocol below may say no.
            fn contained(&self, below: &dyn Proto) -> bool {
                let _ = below;
                true
            }

            /// Whether the layer may be removed now: EBUSY while it holds bytes that have reached neither the program
            /// nor the protocol below. Process context, owned. Default: yes.
            fn may_remove(&self, below: &dyn Proto, sk: &mut SockGuard<'_>) -> Result<()> {
                let _ = (below, sk);
                Ok(())
            }
        }

        impl<L: Layer> Proto for Layered<L> {
            $(
                fn $name(&self $(, $arg: $ty)*) $(-> $ret)? {
                    self.layer.$name(&*self.below $(, $arg)*)
                }
            )*

            fn name(&self) -> &str {
                self.layer.name(&*self.below)
            }

            fn contained(&self) -> bool {
                self.layer.contained(&*self.below)
            }

            fn sendmsg(&self, sk: SockRef<'_>, msg: &mut SendMsg<'_>) -> Result<usize> {
                self.layer.sendmsg(&*self.below, sk, msg)
            }

            fn recvmsg(&self, sk: SockRef<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize> {
                self.layer.recvmsg(&*self.below, sk, msg)
            }

            fn poll(&self, sk: SockRef<'_>) -> Events {
                self.layer.poll(&*self.below, sk)
            }

            fn getsockopt(&self, sk: SockRef<'_>, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
                if self.below.bypass_getsockopt(level, name) {
                    return self.below.getsockopt(sk, level, name, value);
                }
                self.layer.getsockopt(&*self.below, sk, level, name, value)
            }

            fn sendpage(&self, sk: SockRef<'_>, bytes: &[u8], flags: i32) -> Result<usize> {
                self.layer.sendpage(&*self.below, sk, bytes, flags)
            }

            fn update_proto(&self, sk: &mut SockGuard<'_>, other: &Arc<dyn Proto>, restore: bool) -> Result<()> {
                // `other` is this layer itself when a layer above it is added or removed: then only the protocol below
                // decides.
                if !std::ptr::addr_eq(Arc::as_ptr(other), self) {
                    if !Arc::ptr_eq(other, &self.below) {
                        return Err(Error::Inval);
                    }
                    if restore {
                        self.layer.may_remove(&*self.below, sk)?;
                    }
                }
                self.below.update_proto(sk, &self.below, restore)
            }
        }
    };
}

passed_on! {
    fn owner() -> Option<Arc<dyn Module>>;
    fn init(sk: &mut SockGuard<'_>) -> Result<()>;
    fn destroy(sk: &mut SockGuard<'_>);
    fn close(sk: SockRef<'_>, flags: i32);
    fn pre_connect(sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()>;
    fn connect(sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()>;
    fn disconnect(sk: &mut SockGuard<'_>) -> Result<()>;
    fn listen(sk: &mut SockGuard<'_>, backlog: u32) -> Result<()>;
    fn accept(sk: SockRef<'_>, nonblock: bool) -> Result<Arc<Sock>>;
    fn ioctl(sk: SockRef<'_>, request: u64) -> Result<i32>;
    fn shutdown(sk: &mut SockGuard<'_>, how: u8);
    fn setsockopt(sk: SockRef<'_>, level: i32, name: i32, value: &[u8]) -> Result<()>;
    fn bypass_getsockopt(level: i32, name: i32) -> bool;
    fn keepalive(sk: &mut SockGuard<'_>, on: bool);
    fn negative_advice(sk: &mut SockGuard<'_>);
    fn set_rcvlowat(sk: &mut SockGuard<'_>, val: i32);
    fn sendmsg_locked(sk: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize>;
    fn recvmsg_locked(sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize>;
    fn poll_locked(sk: &mut SockGuard<'_>) -> Events;
    fn backlog_rcv(sk: &mut SockGuard<'_>, skb: Skb);
    fn join_backlog(stack: &Stack, sock: &Sock, last: &mut Skb, skb: &mut Skb) -> bool;
    fn release_cb(sk: &mut SockGuard<'_>, bits: u32);
    fn splice_eof(sk: SockRef<'_>);
    fn bind(sk: &mut SockGuard<'_>, addr: SocketAddr) -> Result<()>;
    fn remove_ulp(sk: &mut SockGuard<'_>) -> Result<()>;
    fn hash(sk: &mut SockGuard<'_>) -> Result<()>;
    fn rehash(sk: &mut SockGuard<'_>);
    fn unhash(sk: &mut SockGuard<'_>);
    fn get_port(sk: &mut SockGuard<'_>, port: u16) -> Result<()>;
    fn put_port(sk: &mut SockGuard<'_>);
    fn enter_memory_pressure(stack: &Stack, accounts: &ProtoAccounts);
    fn leave_memory_pressure(stack: &Stack, accounts: &ProtoAccounts);
    fn stream_memory_free(stack: &Stack, sk: &SockState, wake: bool) -> bool;
    fn sysctl_mem(stack: &Stack) -> Option<[i64; 3]>;
    fn sysctl_wmem(stack: &Stack) -> [i32; 3];
    fn sysctl_rmem(stack: &Stack) -> [i32; 3];
    fn max_header() -> usize;
    fn obj_size() -> usize;
    fn slab_flags() -> u32;
    fn timewait_size() -> usize;
    fn request_size() -> usize;
    fn no_autobind() -> bool;
    fn diag_destroy(sk: SockRef<'_>, err: Error) -> Result<()>;
    fn is_stream() -> bool;
    fn check_invariants(sock: &Sock, state: &SockState);
}

/// A layer with the protocol below it: one table, which may serve one sock or many.
pub struct Layered<L> {
    layer: L,
    below: Arc<dyn Proto>,
}

impl<L: Layer> Layered<L> {
    /// `layer` over `below`.
    pub fn new(layer: L, below: Arc<dyn Proto>) -> Layered<L> {
        Layered { layer, below }
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }

    /// The protocol below.
    pub fn below(&self) -> &Arc<dyn Proto> {
        &self.below
    }
}

impl SockGuard<'_> {
    /// Replaces the sock's operations with `new`, if both agree ([`Proto::update_proto`]). EOPNOTSUPP: the protocol
    /// cannot be layered; EINVAL: `new` was not made for the current operations.
    pub fn replace_proto(&mut self, new: Arc<dyn Proto>) -> Result<()> {
        let old = self.sock.proto().cloned();
        new.update_proto(self, &old, false)?;
        self.sock.set_proto(new);
        Ok(())
    }

    /// Removes the uppermost layer, which leaves `below` in force. EBUSY: the layer holds bytes; EINVAL: `below` is not
    /// the protocol under that layer.
    pub fn restore_proto(&mut self, below: Arc<dyn Proto>) -> Result<()> {
        let old = self.sock.proto().cloned();
        old.update_proto(self, &below, true)?;
        self.sock.set_proto(below);
        Ok(())
    }
}

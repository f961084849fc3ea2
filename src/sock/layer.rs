//! A protocol on top of another, on the same sock: `Layered` is a table of operations that passes each to the protocol
//! below, but for those that a [`Layer`] does differently. Above: the socket layer, which calls it as any table. Below:
//! the protocol that was there before. Linux: struct proto copied and changed by psock_update_sk_prot and by TCP_ULP's
//! tls.
//!
//! # How bytes go
//! A layer that changes what is sent or received overrides [`Layer::sendmsg_locked`], [`Layer::recvmsg_locked`] and
//! [`Layer::poll_locked`], which are called with the sock owned, and calls the same operations of the protocol below.
//! All other ways in lead through these three: `sendmsg`, `recvmsg`, `poll` and `sendpage`. A layer that must wait
//! calls below with MSG_DONTWAIT and sleeps by itself (`SockGuard::sleep`), so that its own state is whole whenever the
//! sock is given up. One that holds bytes for which there was no room sends them when [`Layer::backlog_rcv`] of the
//! protocol below has run: what came may have been the acknowledgement that made room. A layer's operations may be
//! called again from inside its calls below that send (`SockGuard::flush_backlog`), so it does not keep half-changed
//! state across them either.

use super::lock::SockGuard;
use super::msg::{RecvMsg, SendMsg};
use super::proto::{Proto, ProtoAccounts, SockRef};
use super::skb::Skb;
use super::wait::Events;
use super::{Sock, SockState};
use crate::base::error::{Error, Result};
use crate::stack::Stack;
use std::any::Any;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

/// Makes both sides of an operation that is passed on: the default in `Layer`, and the slot in `Layered`'s table.
macro_rules! passed_on {
    ($( fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?; )*) => {
        /// What a layer does differently. Each operation is given the protocol below, and by default leaves the work to
        /// it; what each is for, in which context it is called and whether the sock is owned is said at [`Proto`].
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

            /// [`Proto::getsockopt`]; not asked for what bypasses layers ([`Proto::bypass_getsockopt`]). Default: the
            /// protocol's below.
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

            /// Whether the layer may be taken away now: EBUSY while it holds bytes that are neither with the program
            /// nor with the protocol below. Process context, owned. Default: yes.
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
                // `other` is this layer itself when one above it comes or goes: then only what is below has a say.
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
    fn owner() -> Option<Arc<dyn Any + Send + Sync>>;
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
    fn sendmsg_locked(sk: &mut SockGuard<'_>, msg: &mut SendMsg<'_>) -> Result<usize>;
    fn recvmsg_locked(sk: &mut SockGuard<'_>, msg: &mut RecvMsg<'_, '_>) -> Result<usize>;
    fn poll_locked(sk: &mut SockGuard<'_>) -> Events;
    fn backlog_rcv(sk: &mut SockGuard<'_>, skb: Skb);
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
    /// Puts `new` in the place of the sock's operations, if both agree ([`Proto::update_proto`]). EOPNOTSUPP: the
    /// protocol cannot be layered; EINVAL: `new` is not made for what is there.
    pub fn replace_proto(&mut self, new: Arc<dyn Proto>) -> Result<()> {
        let old = self.sock.proto().cloned();
        new.update_proto(self, &old, false)?;
        self.sock.set_proto(new);
        Ok(())
    }

    /// Takes the uppermost layer away, under which `below` comes to light. EBUSY: the layer holds bytes; EINVAL:
    /// `below` is not what it lies on.
    pub fn restore_proto(&mut self, below: Arc<dyn Proto>) -> Result<()> {
        let old = self.sock.proto().cloned();
        old.update_proto(self, &below, true)?;
        self.sock.set_proto(below);
        Ok(())
    }
}

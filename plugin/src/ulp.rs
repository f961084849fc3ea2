//! Layers on a TCP connection (TCP_ULP): the trait [`Layer`], which is `struct usk_ulp_ops` in Rust. Below: `abi::ulp`.

use crate::abi::reg::Sysctl;
pub use crate::abi::ulp::{Layered, LayeredSock};
use crate::errno::Result;
use crate::msg::{RecvMsg, SendMsg};
use crate::skb::Skb;
use crate::sock::Events;
use std::ffi::c_ulong;

/// An upper-layer protocol, between the program's calls and TCP. The value belongs to one stack, and is dropped when
/// its registration has ended and no operation of it runs any more. A panic breaks the connection's socket (EIO), and
/// nothing else.
pub trait Layer: Send + Sync + Sized + 'static {
    /// The layer's data of each connection ([`Layered::data`]): there before `init`, dropped when the layer goes.
    /// Operations may run while another one is inside `below_send` or `below_recv`, or sleeps: it must be consistent
    /// then.
    type Data: Default + Send + 'static;

    /// 1 to 15 printable characters without dot, as TCP_ULP takes it; unique in a stack.
    const NAME: &'static str;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];
    /// The operations that the layer has; TCP's own stand in for the others.
    const OPS: LayerOps<Self>;

    /// Installs the layer on a connection, or on a socket that is not connected yet. On an error it is not installed.
    /// Process context.
    fn init(&self, _l: &mut Layered<'_, Self>) -> Result<()> {
        Ok(())
    }
}

/// The operations of a layer: `LayerOps { sendmsg: Some(Self::sendmsg), ..LayerOps::NONE }`.
#[allow(clippy::type_complexity, reason = "a table of functions")]
pub struct LayerOps<L: Layer> {
    /// Installs the layer on the child of a listener that has it, whose data is the last argument. Either context.
    /// Without it listeners cannot have the layer.
    pub clone: Option<fn(&L, &mut Layered<'_, L>, &L::Data) -> Result<()>>,
    /// Sends: returns the bytes consumed. Process context; may sleep in `wait` unless MSG_DONTWAIT is set.
    pub sendmsg: Option<fn(&L, &mut Layered<'_, L>, &mut SendMsg<'_>) -> Result<usize>>,
    /// Receives: returns the bytes copied. Process context; may sleep in `wait` unless MSG_DONTWAIT is set. It applies
    /// SO_RCVLOWAT ([`rcvlowat`](crate::sock::OwnedSock::rcvlowat)).
    pub recvmsg: Option<fn(&L, &mut Layered<'_, L>, &mut RecvMsg<'_>) -> Result<usize>>,
    /// The present poll(2) bits; it starts from [`Layered::below_poll`]. Process context; must not sleep.
    pub poll: Option<fn(&L, &mut Layered<'_, L>) -> Events>,
    /// The last descriptor is closed: passes the bytes that it holds to [`Layered::below_force`]. TCP's close follows.
    /// Process context.
    pub close: Option<fn(&L, &mut Layered<'_, L>, i32)>,
    /// shutdown(2): bit 0 receiving, bit 1 sending. TCP's shutdown follows. Process context.
    pub shutdown: Option<fn(&L, &mut Layered<'_, L>, i32)>,
    /// Options of levels other than SOL_SOCKET; passes those it does not know to [`LayeredSock::below_setsockopt`].
    /// Process context, not owned.
    pub setsockopt: Option<fn(&L, &LayeredSock<'_, L>, i32, i32, &[u8]) -> Result<()>>,
    /// As setsockopt: writes to the bytes and returns how many.
    pub getsockopt: Option<fn(&L, &LayeredSock<'_, L>, i32, i32, &mut [u8]) -> Result<usize>>,
    /// SIOCINQ, SIOCOUTQ and others: returns the resulting int; passes others to [`LayeredSock::below_ioctl`]. Process
    /// context, not owned.
    pub ioctl: Option<fn(&L, &LayeredSock<'_, L>, c_ulong, i32) -> Result<i32>>,
    /// A segment for the connection: calls [`Layered::below_backlog_rcv`] once, or drops it. Softirq, or process
    /// context from the backlog; must not sleep.
    pub backlog_rcv: Option<fn(&L, &mut Layered<'_, L>, Skb)>,
    /// TCP's timers and deferred work have run. Either context; must not sleep.
    pub release_cb: Option<fn(&L, &mut Layered<'_, L>)>,
    /// usk_ulp_remove asks whether the layer may be removed: EBUSY while it holds bytes. Process context. Without it:
    /// always.
    pub may_remove: Option<fn(&L, &mut Layered<'_, L>) -> Result<()>>,
    /// The socket is disconnected: discards the bytes that it holds. Process context.
    pub disconnect: Option<fn(&L, &mut Layered<'_, L>) -> Result<()>>,
}

impl<L: Layer> LayerOps<L> {
    /// TCP's own.
    pub const NONE: LayerOps<L> = LayerOps {
        clone: None,
        sendmsg: None,
        recvmsg: None,
        poll: None,
        close: None,
        shutdown: None,
        setsockopt: None,
        getsockopt: None,
        ioctl: None,
        backlog_rcv: None,
        release_cb: None,
        may_remove: None,
        disconnect: None,
    };
}

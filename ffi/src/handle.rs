//! `usk_sock_t`: the handle of a sock for plug-ins. The pointer is the sock's own address, so equal pointers are equal
//! socks. Above: `held`, and the calls in `plugin`.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use usersock::error::{Error, Result};
use usersock::sock::Sock;
use usersock::sock::proto::SockRef;
use usersock::stack::Stack;

/// A sock, not owned. The argument of an operation is valid until the operation returns; one returned by usk_sock_hold,
/// usk_proto_lookup or usk_new_child until usk_sock_put, and while it is held its stack exists too; an inner one until
/// it is closed. Pointers to one sock are equal.
#[allow(non_camel_case_types)]
pub struct usk_sock_t {
    _opaque: [u8; 0],
}

/// The sock and the stack of a handle, without references of their own: both exist while the handle is valid.
pub(crate) struct Handle {
    stack: ManuallyDrop<Arc<Stack>>,
    sock: ManuallyDrop<Arc<Sock>>,
}

impl Handle {
    /// # Safety
    /// `sk` is a valid handle, and stays one as long as the result is used.
    pub(crate) unsafe fn new(sk: *mut usk_sock_t) -> Result<Handle> {
        if sk.is_null() {
            return Err(Error::Inval);
        }
        // SAFETY: a valid handle is an Arc's pointer whose count somebody holds; ManuallyDrop leaves the count alone.
        let sock = unsafe { ManuallyDrop::new(Arc::from_raw(sk.cast::<Sock>().cast_const())) };
        // A valid handle keeps the stack alive: either a call of the stack is running or `hold` counted it.
        let stack = sock.stack().as_ptr();
        // SAFETY: as said, the stack is alive; ManuallyDrop leaves the count alone.
        let stack = unsafe { ManuallyDrop::new(Arc::from_raw(stack)) };
        Ok(Handle { stack, sock })
    }

    pub(crate) fn stack(&self) -> &Arc<Stack> {
        &self.stack
    }
    pub(crate) fn sock(&self) -> &Arc<Sock> {
        &self.sock
    }
    pub(crate) fn sk(&self) -> SockRef<'_> {
        SockRef { stack: &self.stack, sock: &self.sock }
    }
}

impl Deref for Handle {
    type Target = Sock;
    fn deref(&self) -> &Sock {
        &self.sock
    }
}

/// The handle of a sock, valid during a call.
pub(crate) fn lend(sock: &Arc<Sock>) -> *mut usk_sock_t {
    Arc::as_ptr(sock).cast_mut().cast()
}

/// A held handle: it has a reference to the sock and one to its stack.
pub(crate) fn hold(stack: &Arc<Stack>, sock: Arc<Sock>) -> *mut usk_sock_t {
    held(stack.clone(), sock)
}

/// The same, of a reference to the stack that the caller has no use for any more.
pub(crate) fn held(stack: Arc<Stack>, sock: Arc<Sock>) -> *mut usk_sock_t {
    std::mem::forget(stack);
    Arc::into_raw(sock).cast_mut().cast()
}

/// Takes the references of a held handle back.
/// # Safety
/// `sk` is held, and must not be used afterwards.
pub(crate) unsafe fn unhold(sk: *mut usk_sock_t) -> Result<(Arc<Stack>, Arc<Sock>)> {
    // SAFETY: held, so valid.
    let h = unsafe { Handle::new(sk) }?;
    Ok((ManuallyDrop::into_inner(h.stack), ManuallyDrop::into_inner(h.sock)))
}

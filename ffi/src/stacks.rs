//! The stacks of the C ABI: the handle of one, and the default stack. Above: all calls that take a stack.
//! Below: `loader`, so that a configuration can name plug-ins.

use crate::note::noted;
use crate::{cancel, loader};
use std::sync::Arc;
use usersock::config;
use usersock::error::Result;
use usersock::stack::Stack;

/// A network stack; made by usk_stack_new. Null means the default stack in every call that takes one.
#[allow(non_camel_case_types)]
pub struct usk_stack_t(Arc<Stack>);

/// A stack as a handle for a C program.
pub(crate) fn give_stack(stack: Arc<Stack>) -> *mut usk_stack_t {
    cancel::enable();
    Box::into_raw(Box::new(usk_stack_t(stack)))
}

/// The default stack; made from the environment variable USERSOCK_CONFIG at the first call, or if that is not set with
/// only an in-memory loopback.
pub fn default_stack() -> Result<Arc<Stack>> {
    loader::enable();
    cancel::enable();
    config::default_stack().map_err(noted)
}

/// Makes `stack` the default one: for embedders such as the packetdrill plug-in. EBUSY when there is one.
pub fn set_default_stack(stack: Arc<Stack>) -> Result<()> {
    config::set_default_stack(|| Ok(stack)).map_err(noted)
}

/// ENETDOWN for the stack of a parent of this process.
/// # Safety
/// `stack` is null or from usk_stack_new and not freed.
pub(crate) unsafe fn stack_of(stack: *mut usk_stack_t) -> Result<Arc<Stack>> {
    // SAFETY: the caller vouches for it.
    match unsafe { stack.as_ref() } {
        Some(s) => s.0.here().map(|()| s.0.clone()),
        None => default_stack(),
    }
}

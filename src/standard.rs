//! The standard set of protocols: the one file that names them all. Above: whoever makes a stack and has no set of its
//! own (`config`, `sim`). Below: each protocol's `register`. Linux: inet_init.

use crate::base::error::Result;
use crate::sock::proto::RegisterError;
use crate::stack::{Stack, StackConfig};
use crate::{ip, ping, raw, tcp, udp};
use std::sync::Arc;

/// Registers TCP, UDP, ping and raw sockets: through the registry, as any plug-in would.
///
/// # Errors
/// One of them is registered already.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    tcp::proto::register(stack)?;
    udp::register(stack)?;
    ping::register(stack)?;
    raw::register(stack)
}

/// A stack with IP, the standard protocols and no device but the loopback (`lo`, index 1, 127.0.0.1/8 and ::1/128). A
/// stack with less is made of [`Stack::new`], [`ip::init`] and what it is to have.
///
/// # Errors
/// None that a new stack can give.
pub fn stack(config: StackConfig) -> Result<Arc<Stack>> {
    let stack = Stack::new(config)?;
    ip::init(&stack)?;
    register(&stack).map_err(|e| e.error())?;
    Ok(stack)
}

//! The standard set of protocols: the only file that names all of them. Above: programs that create a stack without
//! choosing its protocols (`config`, `sim`). Below: each protocol's `register`. Linux: inet_init.

pub use crate::ping::register as register_ping;
pub use crate::raw::register as register_raw;
pub use crate::tcp::proto::register as register_tcp;
pub use crate::udp::register as register_udp;

use crate::base::error::Result;
use crate::ip;
use crate::sock::registry::RegisterError;
use crate::stack::{Stack, StackConfig};
use std::sync::Arc;

/// Registers TCP, UDP, ping and raw sockets through the registry, as a plug-in would.
///
/// # Errors
/// One of them is registered already.
pub fn register(stack: &Arc<Stack>) -> std::result::Result<(), RegisterError> {
    register_tcp(stack)?;
    register_udp(stack)?;
    register_ping(stack)?;
    register_raw(stack)
}

/// A stack with IP, the standard protocols and no device but the loopback (`lo`, index 1, 127.0.0.1/8 and ::1/128). For
/// a stack with fewer protocols, call [`Stack::new`], [`ip::init`] and the protocols' `register`.
///
/// # Errors
/// A new stack gives none.
pub fn stack(config: StackConfig) -> Result<Arc<Stack>> {
    let stack = Stack::new(config)?;
    ip::init(&stack)?;
    register(&stack).map_err(|e| e.error())?;
    Ok(stack)
}

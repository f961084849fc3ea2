//! States of a sock by Linux's numbers (include/net/tcp_states.h), as far as code beside TCP knows them. A protocol
//! that is not TCP uses ESTABLISHED for connected and CLOSE for not connected, as Linux does.

#![allow(missing_docs)]

pub const SYN_SENT: u8 = 2;
pub const SYN_RECV: u8 = 3;
pub const CLOSE: u8 = 7;
pub const LISTEN: u8 = 10;

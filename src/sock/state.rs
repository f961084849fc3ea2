//! States of a sock by Linux's numbers (include/net/tcp_states.h), as far as code beside TCP knows them. A protocol
//! that is not TCP uses ESTABLISHED for connected and CLOSE for not connected, as Linux does.

/// Connected.
pub const ESTABLISHED: u8 = 1;
/// Connecting: connect(2) waits until the state is another.
pub const SYN_SENT: u8 = 2;
/// A connection that the peer has begun and not yet confirmed.
pub const SYN_RECV: u8 = 3;
/// Not connected.
pub const CLOSE: u8 = 7;
/// Listening.
pub const LISTEN: u8 = 10;

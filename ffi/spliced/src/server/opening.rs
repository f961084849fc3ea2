//! Attempts to connect whose descriptors are not writable yet. TCP's handshake ends first at the end that connects,
//! over loopback too. A program that has both ends would find that its socket has not connected, although it has
//! accepted the connection. So a listener gets a connection of another socket of the server's only when that socket's
//! descriptor is writable. Above: `requests` (connect), the loop (look, accept).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// So long a listener waits, for a program that was stopped in the middle of connect(2).
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// The address of the end that connects, and the port to which: what both ends know of a connection.
pub(super) type Route = (SocketAddr, u16);

/// From `local` to a port of `peer`, whatever family either end's socket has.
pub(super) fn route(local: SocketAddr, peer: SocketAddr) -> Route {
    (SocketAddr::new(local.ip().to_canonical(), local.port()), peer.port())
}

/// The attempts, each with the listener that waits for it.
#[derive(Debug, Default)]
pub(super) struct Opening {
    attempts: HashMap<Route, Option<u64>>,
}

impl Opening {
    /// A program has begun to connect.
    pub(super) fn begin(&mut self, route: Route) {
        self.attempts.insert(route, None);
    }

    /// The attempt is over: its descriptor tells the program, or is gone. Which listener is to go on.
    pub(super) fn end(&mut self, route: Route) -> Option<u64> {
        self.attempts.remove(&route).flatten()
    }

    /// Whether `listener` is to wait with a connection.
    pub(super) fn holds(&mut self, route: Route, listener: u64) -> bool {
        let attempt = self.attempts.get_mut(&route);
        attempt.map(|waits| *waits = Some(listener)).is_some()
    }
}

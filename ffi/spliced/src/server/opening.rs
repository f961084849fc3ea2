//! Attempts to connect whose descriptors are not writable yet. TCP's handshake ends first at the end that connects,
//! over loopback too. A program that has both ends would find that its socket has not connected, although it has
//! accepted the connection. So a listener gets a connection of another socket of the server's only when that socket's
//! descriptor is writable. Above: `requests` (connect), the loop (look, accept).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use usersock::env::Instant;

/// So long after its beginning listeners wait for an attempt, whose program may have been stopped in the middle of
/// connect(2). Not so long for each of several, one after the other.
const PATIENCE: Duration = Duration::from_millis(100);

/// The address of the end that connects, and the port to which: what both ends know of a connection.
pub(super) type Route = (SocketAddr, u16);

/// From `local` to a port of `peer`, whatever family either end's socket has.
pub(super) fn route(local: SocketAddr, peer: SocketAddr) -> Route {
    (SocketAddr::new(local.ip().to_canonical(), local.port()), peer.port())
}

/// One of them: until when it is waited for, and the listener that waits.
#[derive(Debug)]
struct Attempt {
    until: Instant,
    listener: Option<u64>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Opening {
    attempts: HashMap<Route, Attempt>,
}

impl Opening {
    /// A program has begun to connect.
    pub(super) fn begin(&mut self, route: Route, now: Instant) {
        self.attempts.insert(route, Attempt { until: now.saturating_add(PATIENCE), listener: None });
    }

    /// The attempt is over: its descriptor tells the program, or is gone. Which listener is to go on.
    pub(super) fn end(&mut self, route: Route) -> Option<u64> {
        self.attempts.remove(&route)?.listener
    }

    /// Whether `listener` is to wait with a connection.
    pub(super) fn holds(&mut self, route: Route, listener: u64, now: Instant) -> bool {
        let attempt = self.attempts.get_mut(&route).filter(|attempt| now < attempt.until);
        attempt.map(|attempt| attempt.listener = Some(listener)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_attempts_that_do_not_end_a_listener_waits_for_all_at_once() {
        let at = |port| route(([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 80).into());
        let (mut opening, begin) = (Opening::default(), Instant::from_secs(9));
        (1..4).for_each(|port| opening.begin(at(port), begin));
        let last = begin.saturating_add(PATIENCE);
        assert!(opening.holds(at(1), 7, begin));
        assert_eq!([1, 2, 3].map(|port| opening.holds(at(port), 7, last)), [false; 3]);
        assert_eq!([1, 1, 2].map(|port| opening.end(at(port))), [Some(7), None, None]);
        assert!(!opening.holds(at(1), 7, begin) && opening.holds(at(3), 8, begin));
    }
}

//! Fields of [`SockCommon`] that few socks need. They are in a box that is allocated when one of them is first written,
//! so that most socks do without; until then a read finds their initial values. Above: protocols, `sockopt`.

use super::ip_more::IpMore;
use super::{SockCommon, filter};
use crate::base::env::WaitLimit;
use crate::stack::TimerSlot;
use std::ops::{Deref, DerefMut};

/// Options of SOL_SOCKET and of the IP levels that few programs set. A listener's children have them, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// SO_LINGER's time.
    pub linger: WaitLimit,
    /// SO_RCVTIMEO; None: for ever.
    pub rcvtimeo: WaitLimit,
    /// SO_SNDTIMEO.
    pub sndtimeo: WaitLimit,
    /// SO_MAX_PACING_RATE, bytes a second.
    pub max_pacing_rate: u64,
    /// SO_TXTIME: its flags (SOF_TXTIME_*); its clock is CLOCK_MONOTONIC. None: not set.
    pub(crate) txtime: Option<u32>,
    /// SO_PRIORITY.
    pub priority: u32,
    /// SO_MARK.
    pub mark: u32,
    /// SO_PEEK_OFF: offset of the next MSG_PEEK from the next byte to be read; -1: always 0.
    pub peek_off: i32,
    /// SO_BUSY_POLL: how long a blocking call spins on the devices before it sleeps, µs.
    pub busy_poll_us: u32,
    /// IP_MINTTL.
    pub min_ttl: u8,
    /// IPV6_MINHOPCOUNT.
    pub(crate) min_hops: u8,
}

impl Settings {
    /// Of a new socket.
    const NEW: Settings = Settings {
        linger: WaitLimit::ZERO,
        rcvtimeo: WaitLimit::NONE,
        sndtimeo: WaitLimit::NONE,
        max_pacing_rate: u64::MAX,
        txtime: None,
        priority: 0,
        mark: 0,
        peek_off: -1,
        busy_poll_us: 0,
        min_ttl: 0,
        min_hops: 0,
    };
}

/// See the module's text.
#[derive(Debug)]
#[non_exhaustive]
pub struct Cold {
    settings: Settings,
    /// SO_ATTACH_FILTER, SO_LOCK_FILTER.
    pub(crate) filter: Option<Box<filter::Attached>>,
    /// Options of the IP levels that few sockets have.
    pub(crate) ip_more: Option<Box<IpMore>>,
    /// Listener: connections waiting for accept, and how many may (sk_ack_backlog, sk_max_ack_backlog).
    pub ack_backlog: u32,
    /// See `ack_backlog`.
    pub max_ack_backlog: u32,
    /// A timer for the protocol's use (sk_timer; TCP: keepalive).
    pub timer: TimerSlot,
}

impl Cold {
    /// Of a sock that has none.
    const EMPTY: Cold = Cold {
        settings: Settings::NEW,
        filter: None,
        ip_more: None,
        ack_backlog: 0,
        max_ack_backlog: 0,
        timer: TimerSlot::EMPTY,
    };
    /// The same, to read.
    const NONE: &Cold = &Cold::EMPTY;
}

impl Default for Cold {
    fn default() -> Cold {
        Cold::EMPTY
    }
}

impl Deref for Cold {
    type Target = Settings;
    #[inline]
    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl DerefMut for Cold {
    fn deref_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }
}

/// To read; what is written goes through [`SockCommon::cold_mut`].
impl Deref for SockCommon {
    type Target = Cold;
    #[inline]
    fn deref(&self) -> &Cold {
        self.cold.as_deref().unwrap_or(Cold::NONE)
    }
}

impl SockCommon {
    /// What few socks have, to change it.
    #[inline]
    pub fn cold_mut(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// Whether SO_MAX_PACING_RATE limits what is sent.
    #[inline]
    pub(crate) fn has_pacing_rate(&self) -> bool {
        self.cold.as_ref().is_some_and(|c| c.settings.max_pacing_rate != u64::MAX)
    }

    /// Whether a filter was ever attached.
    #[inline]
    pub(crate) fn has_filter(&self) -> bool {
        self.cold.as_ref().is_some_and(|c| c.filter.is_some())
    }

    /// Whether there are options of the IP levels that few sockets have.
    #[inline]
    pub(crate) fn has_ip_more(&self) -> bool {
        self.cold.as_ref().is_some_and(|c| c.ip_more.is_some())
    }

    /// Options of the IP levels that few sockets have, to set one.
    pub(crate) fn ip_more_mut(&mut self) -> &mut IpMore {
        self.cold_mut().ip_more.get_or_insert_default()
    }

    /// The same, if there are any.
    pub(crate) fn ip_more_if_any(&mut self) -> Option<&mut IpMore> {
        self.cold.as_mut()?.ip_more.as_deref_mut()
    }

    /// Takes over the settings of a listener.
    pub fn inherit_settings(&mut self, from: &SockCommon) {
        if from.settings != Settings::NEW || self.cold.is_some() {
            self.cold_mut().settings = from.settings;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_allocates_nothing_and_a_child_has_what_was_set() {
        let (mut listener, mut child) = (SockCommon::new(2), SockCommon::new(2));
        listener.cold_mut().max_ack_backlog = 5;
        child.inherit_settings(&listener);
        assert!(child.cold.is_none() && (child.mark, child.max_ack_backlog, child.peek_off) == (0, 0, -1));
        listener.cold_mut().mark = 7;
        child.inherit_settings(&listener);
        assert_eq!((child.mark, child.max_ack_backlog), (7, 0));
        listener.cold_mut().mark = 0;
        child.inherit_settings(&listener);
        assert_eq!(child.mark, 0);
    }
}

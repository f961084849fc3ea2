//! Points of the stack's clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point of the stack's clock, in nanoseconds: monotonic, and virtual in a stack with virtual time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// A deadline that does not come.
    pub const FOREVER: Time = Time(u64::MAX);
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Not beyond [`Time::FOREVER`].
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

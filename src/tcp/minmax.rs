//! The best sample of a sliding window, in constant space: Kathleen Nichols' algorithm. Above: `rtt` (least RTT),
//! `cong` (greatest bandwidth). Linux: lib/win_minmax.c.

/// The best, second and third best sample of a window, each later than the one before. Times are in the user's unit,
/// modulo 2^32; the window's length is in the same unit.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MinMax<T>([Sample<T>; 3]);

#[derive(Debug, Default, Clone, Copy)]
struct Sample<T> {
    value: T,
    time: u32,
}

impl<T: Copy + Ord> MinMax<T> {
    /// A filter whose only sample is `value` at `time` (minmax_reset).
    pub(crate) const fn new(value: T, time: u32) -> MinMax<T> {
        MinMax([Sample { value, time }; 3])
    }

    /// The best sample (minmax_get).
    #[inline]
    pub(crate) fn get(&self) -> T {
        self.0[0].value
    }

    /// Adds a sample; the least of the window is the best (minmax_running_min).
    pub(crate) fn running_min(&mut self, window: u32, time: u32, value: T) {
        self.add(window, Sample { value, time }, |a, b| a <= b);
    }

    /// Adds a sample; the greatest of the window is the best (minmax_running_max).
    pub(crate) fn running_max(&mut self, window: u32, time: u32, value: T) {
        self.add(window, Sample { value, time }, |a, b| a >= b);
    }

    fn add(&mut self, window: u32, new: Sample<T>, as_good: impl Fn(T, T) -> bool) {
        let s = &mut self.0;
        let age = |of: Sample<T>| new.time.wrapping_sub(of.time);
        if as_good(new.value, s[0].value) || age(s[2]) > window {
            *s = [new; 3];
            return;
        }
        if as_good(new.value, s[1].value) {
            s[1] = new;
            s[2] = new;
        } else if as_good(new.value, s[2].value) {
            s[2] = new;
        }
        if age(s[0]) > window {
            // The best is too old, and so may the second be.
            *s = [s[1], s[2], new];
            if age(s[0]) > window {
                *s = [s[1], s[2], new];
            }
        } else if s[1].time == s[0].time && age(s[0]) > window / 4 {
            // A quarter of the window has passed without a second best: it is taken from the second quarter.
            s[1] = new;
            s[2] = new;
        } else if s[2].time == s[1].time && age(s[0]) > window / 2 {
            s[2] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_forgets_after_its_window() {
        let mut m = MinMax::new(u32::MAX, 0);
        for (time, value, least) in [(0, 50, 50), (100, 80, 50), (600, 70, 50), (1001, 90, 70), (5000, 200, 200)] {
            m.running_min(1000, time, value);
            assert_eq!(m.get(), least, "{time}");
        }
    }

    /// The filter's answer is never better than the true maximum of the window, and is exact for the latest sample's
    /// own maximum.
    #[test]
    fn the_maximum_is_of_the_window() {
        let samples = [5u64, 9, 3, 7, 7, 2, 1, 1, 4, 1, 1, 1, 6, 2, 2, 2];
        let mut m = MinMax::new(0, u32::MAX - 3);
        for (i, &value) in samples.iter().enumerate() {
            m.running_max(4, (u32::MAX - 3).wrapping_add(i as u32), value);
            let true_max = samples[i.saturating_sub(4)..=i].iter().max().copied().unwrap();
            assert!(m.get() <= true_max && m.get() >= value, "{i}: {} of {true_max}", m.get());
        }
    }
}

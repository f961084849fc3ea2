//! Short ways: the fast paths. Each begins with a test for all that the general code beside it would treat otherwise,
//! and then does what that would do, with fewer instructions. So that tests can compare the two, each is named here: a
//! test closes some, and the general code runs in their place (`tcp::ways_test`). Outside of tests all are open, and
//! asking costs nothing. Above: whatever has a short way.

/// A short way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// A send of few bytes on a connection where none wait (`tcp::sendmsg`).
    Send,
    /// A receive from the first packet alone (`tcp::recvmsg`).
    Recv,
    /// The acknowledgement of the only packet in flight (`tcp::ack::lone`).
    Ack,
    /// A segment with the predicted header (`tcp::input::predict`).
    Predict,
    /// Reading a header that has no options but timestamps (`tcp::input`).
    Read,
    /// Writing one (`tcp::segment`).
    Write,
    /// A segment to this stack itself (`tcp::segment`, `ip::output`, `ip::input`).
    Loop,
    /// A segment to this stack itself that has nothing special (`tcp::segment::plain`).
    Plain,
    /// Reading the header of one of those, whose sender says what is in it (`ip::input`, `tcp::rcv`).
    Known,
    /// To the receiver of one of those that the sender names, without the table (`tcp::lookup`).
    Told,
    /// A packet that is not cut (`tcp::xmit`).
    Single,
    /// A packet that leaves without having been queued (`tcp::xmit`).
    Alone,
    /// The least delay of an acknowledgement (`tcp::delack`).
    Delay,
    /// An acknowledgement while nothing is in flight (`tcp::ack::lone`).
    Idle,
    /// The segment that makes a child (`tcp::input::third`).
    Third,
    /// A FIN without data, and the acknowledgement of one (`tcp::input::closing`).
    Closing,
    /// A SYN or SYN-ACK to this stack itself with the options of most (`tcp::segment::plain`).
    Syn,
}

impl Way {
    /// Whether it may be taken.
    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        #[cfg(test)]
        return testing::is_open(self);
        #[cfg(not(test))]
        true
    }

    /// It is taken, which tests count.
    #[inline(always)]
    pub(crate) fn taken(self) {
        #[cfg(test)]
        testing::taken(self);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::Way;
    use std::cell::Cell;

    /// All of them.
    pub(crate) const ALL: [Way; 17] = [
        Way::Send,
        Way::Recv,
        Way::Ack,
        Way::Predict,
        Way::Read,
        Way::Write,
        Way::Loop,
        Way::Plain,
        Way::Known,
        Way::Told,
        Way::Single,
        Way::Alone,
        Way::Delay,
        Way::Idle,
        Way::Third,
        Way::Closing,
        Way::Syn,
    ];

    thread_local! {
        /// A bit for each that is closed in this thread.
        static CLOSED: Cell<u32> = const { Cell::new(0) };
        /// How often each was taken in this thread.
        static TAKEN: [Cell<u32>; ALL.len()] = const { [const { Cell::new(0) }; ALL.len()] };
    }

    pub(super) fn is_open(way: Way) -> bool {
        CLOSED.get() & 1 << way as u8 == 0
    }

    pub(super) fn taken(way: Way) {
        TAKEN.with(|t| t[way as usize].set(t[way as usize].get() + 1));
    }

    /// How often this thread has taken it.
    pub(crate) fn count(way: Way) -> u32 {
        TAKEN.with(|t| t[way as usize].get())
    }

    /// Calls `f` with these ways closed, and no others.
    pub(crate) fn without<R>(ways: &[Way], f: impl FnOnce() -> R) -> R {
        struct Reset(u32);
        impl Drop for Reset {
            fn drop(&mut self) {
                CLOSED.set(self.0);
            }
        }
        let _reset = Reset(CLOSED.replace(ways.iter().fold(0, |bits, way| bits | 1 << *way as u8)));
        f()
    }
}

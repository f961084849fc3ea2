//! States of a sock. The numbers are Linux's (include/net/tcp_states.h), as programs see them in `tcp_info` and
//! plug-ins set them. A protocol that is not TCP is ESTABLISHED when connected and CLOSE when not, as in Linux. Not
//! here: the transitions, which are the protocol's (`tcp::state`).

/// RFC 9293 §3.3.2, and Linux's additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Open in both directions.
    Established = 1,
    /// Our SYN is sent, and the SYN-ACK is awaited.
    SynSent = 2,
    /// SYNs have crossed, or a SYN was answered: the ACK of ours is awaited.
    SynRecv = 3,
    /// Our FIN is sent, not acknowledged.
    FinWait1 = 4,
    /// Our FIN is acknowledged; the peer's is awaited.
    FinWait2 = 5,
    /// Both FINs are acknowledged; old segments may still be in the network.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer has sent its FIN; the program has not closed.
    CloseWait = 8,
    /// Our FIN was sent after the peer's; its acknowledgement is awaited.
    LastAck = 9,
    /// Waits for connections.
    Listen = 10,
    /// FINs have crossed; ours is not acknowledged.
    Closing = 11,
    /// A request sock: SYN-ACK sent, nothing else allocated yet.
    NewSynRecv = 12,
}

impl State {
    /// All states.
    pub const ALL: [State; 12] = [
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait1,
        State::FinWait2,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Closing,
        State::NewSynRecv,
    ];

    /// The state with Linux's number `n`; `Close` for an unknown number.
    pub const fn from_u8(n: u8) -> State {
        match n {
            1 => State::Established,
            2 => State::SynSent,
            3 => State::SynRecv,
            4 => State::FinWait1,
            5 => State::FinWait2,
            6 => State::TimeWait,
            8 => State::CloseWait,
            9 => State::LastAck,
            10 => State::Listen,
            11 => State::Closing,
            12 => State::NewSynRecv,
            _ => State::Close,
        }
    }

    /// Bit of the state in a set (TCPF_*).
    pub const fn bit(self) -> u32 {
        1 << self as u8
    }

    /// Whether the state is one of `states`.
    pub const fn is_one_of(self, states: &[State]) -> bool {
        let mut i = 0;
        while i < states.len() {
            if states[i] as u8 == self as u8 {
                return true;
            }
            i += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_state() {
        for state in State::ALL {
            assert_eq!(State::from_u8(state as u8), state);
        }
        assert_eq!([State::from_u8(0), State::from_u8(13)], [State::Close; 2]);
    }
}

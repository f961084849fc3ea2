//! Connection states and the arrows of RFC 9293 Figure 5. Numbers are Linux's (tcp_states.h), as programs see them in
//! `tcp_info`. Used by all of `tcp`; knows nothing of it.

/// RFC 9293 §3.3.2, and Linux's additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Open both ways.
    Established = 1,
    /// Our SYN waits for its answer.
    SynSent = 2,
    /// SYNs have crossed, or a SYN was answered: the last ACK is awaited.
    SynRecv = 3,
    /// Our FIN is sent, not acknowledged.
    FinWait1 = 4,
    /// Our FIN is acknowledged, the peer's is awaited.
    FinWait2 = 5,
    /// Both ended; what is under way dies out.
    TimeWait = 6,
    /// No connection.
    Close = 7,
    /// The peer has ended, the program has not.
    CloseWait = 8,
    /// Our FIN, after the peer's, waits for its acknowledgement.
    LastAck = 9,
    /// Waits for connections.
    Listen = 10,
    /// FINs have crossed, ours is not acknowledged.
    Closing = 11,
    /// A request sock: SYN-ACK sent, nothing else allocated yet.
    NewSynRecv = 12,
}

/// What moves a connection between states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(crate) enum Event {
    PassiveOpen,
    ActiveOpen,
    SynArrives,
    SynAckArrives,
    AckOfSynArrives,
    Close,
    FinArrives,
    AckOfFinArrives,
    FinAndAckOfFinArrive,
    TwoMslPassed,
    Reset,
    /// Linux's own: the last ACK of a handshake has made a sock of a request (tcp_create_openreq_child).
    RequestBecomesSock,
    /// Linux's own: the sock is done with. It was aborted, timed out or disconnected, or a time-wait record has taken
    /// its place, which goes through the rest of the figure (tcp_done, tcp_time_wait).
    Done,
}

impl Event {
    /// All of them.
    const ALL: [Event; 13] = [
        Event::PassiveOpen,
        Event::ActiveOpen,
        Event::SynArrives,
        Event::SynAckArrives,
        Event::AckOfSynArrives,
        Event::Close,
        Event::FinArrives,
        Event::AckOfFinArrives,
        Event::FinAndAckOfFinArrive,
        Event::TwoMslPassed,
        Event::Reset,
        Event::RequestBecomesSock,
        Event::Done,
    ];
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

    /// By Linux's number; `Close` for a number that is none.
    pub(crate) const fn from_u8(n: u8) -> State {
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

    /// Whether the state is one of `states`.
    pub(crate) const fn is_one_of(self, states: &[State]) -> bool {
        let mut i = 0;
        while i < states.len() {
            if states[i] as u8 == self as u8 {
                return true;
            }
            i += 1;
        }
        false
    }

    /// RFC 9293 Figure 5, one row an arrow; None: illegal in this state. A passive connection passes through
    /// `NewSynRecv` (its request sock) where the figure says SYN-RECEIVED.
    pub(crate) const fn next(self, event: Event) -> Option<State> {
        use Event as E;
        use State as S;
        match (self, event) {
            (S::Close, E::PassiveOpen) => Some(S::Listen),
            (S::Close, E::ActiveOpen) => Some(S::SynSent),
            (S::Listen, E::SynArrives) => Some(S::NewSynRecv),
            (S::Listen, E::Close) => Some(S::Close),
            (S::NewSynRecv, E::AckOfSynArrives) => Some(S::Established),
            (S::SynSent, E::SynArrives) => Some(S::SynRecv),
            (S::SynSent, E::SynAckArrives) => Some(S::Established),
            (S::SynSent, E::Close) => Some(S::Close),
            (S::SynRecv, E::AckOfSynArrives) => Some(S::Established),
            (S::SynRecv, E::Close) => Some(S::FinWait1),
            (S::SynRecv, E::FinArrives) => Some(S::CloseWait),
            (S::Established, E::Close) => Some(S::FinWait1),
            (S::Established, E::FinArrives) => Some(S::CloseWait),
            (S::FinWait1, E::AckOfFinArrives) => Some(S::FinWait2),
            (S::FinWait1, E::FinArrives) => Some(S::Closing),
            (S::FinWait1, E::FinAndAckOfFinArrive) => Some(S::TimeWait),
            (S::FinWait2, E::FinArrives) => Some(S::TimeWait),
            (S::Closing, E::AckOfFinArrives) => Some(S::TimeWait),
            (S::CloseWait, E::Close) => Some(S::LastAck),
            (S::LastAck, E::AckOfFinArrives) => Some(S::Close),
            (S::TimeWait, E::TwoMslPassed) => Some(S::Close),
            (S::Listen | S::Close, E::Reset) => None,
            (_, E::Reset) => Some(S::Close),
            (S::Close, E::RequestBecomesSock) => Some(S::SynRecv),
            (S::Close, E::Done) => None,
            (_, E::Done) => Some(S::Close),
            _ => None,
        }
    }

    /// Whether some event leads from here to `to`, or nothing moves.
    pub(crate) fn leads_to(self, to: State) -> bool {
        self == to || Event::ALL.iter().any(|e| self.next(*e) == Some(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state against every event, as `state/figure_5.txt` has it: a moved arrow shows in review.
    #[test]
    fn arrows_are_those_of_figure_5() {
        let mut table = String::new();
        for state in State::ALL {
            for event in Event::ALL {
                if let Some(next) = state.next(event) {
                    table += &format!("{state:?} -- {event:?} -> {next:?}\n");
                }
            }
        }
        assert_eq!(table, include_str!("state/figure_5.txt"), "the table is now:\n{table}");
    }

    #[test]
    fn a_number_is_its_state() {
        for state in State::ALL {
            assert_eq!(State::from_u8(state as u8), state);
        }
        assert_eq!([State::from_u8(0), State::from_u8(13)], [State::Close; 2]);
    }
}

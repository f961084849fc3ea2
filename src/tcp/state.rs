//! Which transitions there are between the states of a connection: those of RFC 9293 Figure 5. Used by all of `tcp`;
//! knows nothing of it.

use crate::sock::state::State;

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
}

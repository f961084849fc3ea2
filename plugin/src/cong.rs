//! Congestion control. [`Congestion`] is `struct usk_cong_ops` in Rust, an algorithm for TCP's connections. A protocol
//! of one's own borrows one instead: [`Owned::cong_new`](crate::sock::Owned::cong_new) and the calls beside it.

use crate::abi::reg::Sysctl;
pub use crate::abi::{borrow::Mark, cong::Tcp};
use crate::sys::*;
pub use crate::sys::{usk_ack_sample_t as AckSample, usk_pkt_sample_t as PktSample, usk_rate_sample_t as RateSample};
use std::time::Duration;

/// Bits of [`Congestion::FLAGS`].
pub mod flags {
    use crate::sys::*;

    /// The algorithm needs ECN: SYNs request it whatever net.ipv4.tcp_ecn is.
    pub const NEEDS_ECN: u32 = USK_CONG_NEEDS_ECN;
    /// With NEEDS_ECN: the receiver echoes the CE mark of each segment (RFC 8257 §3.2).
    pub const EXACT_ECE: u32 = USK_CONG_EXACT_ECE;
    /// Every program may choose it by TCP_CONGESTION.
    pub const NON_RESTRICTED: u32 = USK_CONG_NON_RESTRICTED;
    /// It takes the place of the registered algorithm of its name, whose connections keep the old one; counters go on,
    /// sysctls keep their values.
    pub const REPLACE: u32 = USK_CONG_REPLACE;
}

/// Congestion states (enum tcp_ca_state).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CaState {
    /// No congestion.
    Open = USK_CA_OPEN,
    /// Duplicate ACKs or SACKs arrived.
    Disorder = USK_CA_DISORDER,
    /// Congestion without loss: the window is being reduced.
    Cwr = USK_CA_CWR,
    /// Fast recovery.
    Recovery = USK_CA_RECOVERY,
    /// After a retransmission timeout.
    Loss = USK_CA_LOSS,
}

/// Events (enum tcp_ca_event).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum CaEvent {
    /// Data is sent while nothing was in flight.
    TxStart = USK_CA_EVENT_TX_START,
    /// The window restarts after an idle time.
    CwndRestart = USK_CA_EVENT_CWND_RESTART,
    /// A reduction is complete.
    CompleteCwr = USK_CA_EVENT_COMPLETE_CWR,
    /// A retransmission timeout.
    Loss = USK_CA_EVENT_LOSS,
    /// A packet without a CE mark arrived (only with NEEDS_ECN).
    EcnNoCe = USK_CA_EVENT_ECN_NO_CE,
    /// A packet with a CE mark arrived.
    EcnIsCe = USK_CA_EVENT_ECN_IS_CE,
}

/// Congestion control of TCP's connections. The value belongs to one stack, and is dropped when its registration has
/// ended and no function of it runs any more. Functions run with the sock owned and must not sleep. A panic breaks the
/// connection's socket (EIO), and nothing else.
pub trait Congestion: Send + Sync + Sized + 'static {
    /// The algorithm's data of each connection: there before `init`, dropped after `release`. At most some 1000 bytes.
    type Conn: Default + Send + 'static;

    /// 1 to 15 printable characters, as TCP_CONGESTION takes it; unique in a stack.
    const NAME: &'static str;
    /// Bits of [`flags`].
    const FLAGS: u32 = flags::NON_RESTRICTED;
    /// Names of its counters: letters and digits, unique in a stack.
    const COUNTERS: &'static [&'static str] = &[];
    /// Its sysctls.
    const SYSCTLS: &'static [Sysctl] = &[];
    /// Functions that the algorithm has beside the three below.
    const MORE: CongMore<Self> = CongMore::NONE;

    /// The slow-start threshold after a loss, segments. By default Reno's.
    fn ssthresh(&self, tp: &mut Tcp<'_>, _conn: &mut Self::Conn) -> u32 {
        tp.reno_ssthresh()
    }

    /// `acked` segments, up to `ack`, were acknowledged without congestion: increases the window. By default Reno's.
    fn cong_avoid(&self, tp: &mut Tcp<'_>, _conn: &mut Self::Conn, ack: u32, acked: u32) {
        tp.reno_cong_avoid(ack, acked);
    }

    /// The window after a spurious loss, segments. By default the window before the loss, if that is larger.
    fn undo_cwnd(&self, tp: &mut Tcp<'_>, _conn: &mut Self::Conn) -> u32 {
        tp.reno_undo_cwnd()
    }
}

/// A function of a connection with one more argument.
pub type CongFn<C, A, R> = fn(&C, &mut Tcp<'_>, &mut <C as Congestion>::Conn, A) -> R;

/// A function of a connection without further arguments.
pub type CongOp<C, R> = fn(&C, &mut Tcp<'_>, &mut <C as Congestion>::Conn) -> R;

/// Functions that an algorithm may have: `CongMore { pkts_acked: Some(Self::pkts_acked), ..CongMore::NONE }`. Each that
/// is there is called, at the cost of filling in [`Tcp`].
#[allow(clippy::type_complexity, reason = "a table of functions")]
pub struct CongMore<C: Congestion> {
    /// The connection begins, or changes to this algorithm.
    pub init: Option<CongOp<C, ()>>,
    /// The connection ends, or changes to another algorithm; writes to `tp` are ignored.
    pub release: Option<CongOp<C, ()>>,
    /// Called for every acknowledgement, in place of cong_avoid and of the reduction in recovery: sets snd_cwnd and
    /// pacing_rate. The arguments are `ack`, Linux's FLAG_ bits, and the sample.
    pub cong_control: Option<fn(&C, &mut Tcp<'_>, &mut C::Conn, u32, u32, &RateSample)>,
    /// Segments were acknowledged.
    pub pkts_acked: Option<fn(&C, &mut Tcp<'_>, &mut C::Conn, &AckSample)>,
    /// An acknowledgement has delivered these packets, each for the first time; before pkts_acked: every packet gives a
    /// sample of the RTT.
    pub pkts_delivered: Option<fn(&C, &mut Tcp<'_>, &mut C::Conn, &[PktSample])>,
    /// An acknowledgement arrived: USK_CA_ACK_ bits. After pkts_acked and before loss detection.
    pub in_ack_event: Option<CongFn<C, u32, ()>>,
    /// The state will be this; `tp.ca_state` is still the old one.
    pub set_state: Option<CongFn<C, CaState, ()>>,
    /// An event.
    pub cwnd_event: Option<CongFn<C, CaEvent, ()>>,
    /// Least number of segments of a super-packet. Default: net.ipv4.tcp_min_tso_segs.
    pub min_tso_segs: Option<CongOp<C, u32>>,
    /// How many windows the send buffer should hold. Default: 2.
    pub sndbuf_expand: Option<CongOp<C, u32>>,
    /// For TCP_CC_INFO: writes to the bytes and returns how many.
    pub get_info: Option<fn(&C, &mut Tcp<'_>, &mut C::Conn, &mut [u8]) -> usize>,
}

impl<C: Congestion> CongMore<C> {
    /// None of them.
    pub const NONE: CongMore<C> = CongMore {
        init: None,
        release: None,
        cong_control: None,
        pkts_acked: None,
        pkts_delivered: None,
        in_ack_event: None,
        set_state: None,
        cwnd_event: None,
        min_tso_segs: None,
        sndbuf_expand: None,
        get_info: None,
    };
}

/// An acknowledgement, for [`cong_acked`](crate::sock::Owned::cong_acked).
#[derive(Clone, Copy, Default)]
pub struct BorrowedAck {
    /// Segments in flight that it acknowledges.
    pub segments: u32,
    /// Segments that it acknowledges although they had been declared lost.
    pub late: u32,
    /// RTT of the segment of them that was sent last, if it was sent only once (RFC 6298).
    pub rtt: Option<Duration>,
    /// Mark of the segment of them that was sent last; None: no delivery-rate sample.
    pub mark: Option<Mark>,
    /// They lie behind a hole that is not yet filled: the window does not grow.
    pub behind_hole: bool,
    /// It echoes a congestion mark (RFC 3168).
    pub ece: bool,
}

/// The state of a borrowed algorithm.
#[derive(Clone, Debug)]
pub struct BorrowedInfo {
    /// Name of the algorithm.
    pub name: String,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow-start threshold, segments.
    pub ssthresh: u32,
    /// Segments in flight.
    pub in_flight: u32,
    /// State.
    pub ca_state: u32,
    /// Smoothed RTT; None: no sample yet.
    pub srtt: Option<Duration>,
    /// Mean deviation of the RTT.
    pub rttvar: Duration,
    /// Minimum RTT of the recent past; None: no sample yet.
    pub min_rtt: Option<Duration>,
    /// Retransmission timeout without backoff.
    pub rto: Duration,
    /// Segments delivered in total, modulo 2^32.
    pub delivered: u32,
    /// Segments declared lost in total, modulo 2^32.
    pub lost: u32,
    /// The algorithm requires that packets are paced at pacing_rate.
    pub needs_pacing: bool,
    /// Pacing rate, bytes a second; None: unlimited.
    pub pacing_rate: Option<u64>,
    /// Delivery rate of the last good sample, bytes a second; 0: none.
    pub delivery_rate: u64,
}

impl BorrowedInfo {
    pub(crate) fn of(name: String, info: &usk_cong_info_t) -> BorrowedInfo {
        let micros = |us: u32| Duration::from_micros(us.into());
        BorrowedInfo {
            name,
            cwnd: info.cwnd,
            ssthresh: info.ssthresh,
            in_flight: info.in_flight,
            ca_state: info.ca_state,
            srtt: (info.srtt_us != 0).then(|| micros(info.srtt_us)),
            rttvar: micros(info.rttvar_us),
            min_rtt: (info.min_rtt_us != u32::MAX).then(|| micros(info.min_rtt_us)),
            rto: micros(info.rto_us),
            delivered: info.delivered,
            lost: info.lost,
            needs_pacing: info.needs_pacing != 0,
            pacing_rate: (info.pacing_rate != u64::MAX).then_some(info.pacing_rate),
            delivery_rate: info.delivery_rate,
        }
    }
}

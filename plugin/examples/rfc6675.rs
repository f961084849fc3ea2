//! RFC 6675's loss detection and RFC 6298's timeout as a TCP beside the library's, in Rust. `c-tests/plugins/rfc6675.c`
//! is the same in C, and explains it. `cargo build -p usersock-plugin --example rfc6675` makes librfc6675.so.
#![forbid(unsafe_code)]

use std::time::Duration;
use usersock_plugin::Sysctl;
use usersock_plugin::prelude::*;
use usersock_plugin::sys::{
    USK_CA_LOSS, USK_CA_RECOVERY, USK_TCP_ACK_ADVANCED, USK_TCP_OWN_OPTIONS, USK_TCP_SEG_LOST, USK_TCP_SEG_RETRANS,
    USK_TCP_SEG_SACKED, usk_tcp_t,
};

/// Options: an int, 1 to 255; four words of what it has done.
const DUP_THRESH: i32 = USK_TCP_OWN_OPTIONS;
const STATS: i32 = DUP_THRESH + 1;
/// Counters.
const LOST: usize = 0;
const RETRANS: usize = 1;
const TIMEOUTS: usize = 2;
const RTO_MIN_US: usize = 0;
const RTO_MAX_US: u32 = 60_000_000;

struct Conn {
    dup_thresh: u32,
    /// Without SACK.
    dupacks: u32,
    /// Microseconds times 8; 0: no sample yet.
    srtt: u32,
    /// Microseconds times 4.
    rttvar: u32,
    /// Microseconds, backed off.
    rto: u32,
    lost: u32,
    retrans: u32,
    timeouts: u32,
}

impl Default for Conn {
    fn default() -> Conn {
        Conn { dup_thresh: 3, dupacks: 0, srtt: 0, rttvar: 0, rto: 1_000_000, lost: 0, retrans: 0, timeouts: 0 }
    }
}

fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

fn is_sacked(seg: &TcpSeg) -> bool {
    seg.flags & USK_TCP_SEG_SACKED != 0
}

struct Rfc6675;

impl Rfc6675 {
    fn mark(c: &mut TcpConn<'_>, k: &mut Conn, seq: u32, end: u32) {
        let n = c.mark_lost(seq, end).unwrap_or(0);
        k.lost += n;
        let _ = c.reg().count(LOST, n.into());
    }

    /// RFC 6675 §4: Update and IsLost, for all segments at once.
    fn by_sack(c: &mut TcpConn<'_>, k: &mut Conn, tp: &usk_tcp_t) {
        let begins = |was: &mut bool, seg: &TcpSeg| is_sacked(seg) && !std::mem::replace(was, is_sacked(seg));
        let (mut bytes, mut runs, mut was) = (0u32, 0u32, false);
        for seg in c.segments(tp.snd_una) {
            bytes += if is_sacked(&seg) { seg.end_seq.wrapping_sub(seg.seq) } else { 0 };
            runs += u32::from(begins(&mut was, &seg));
            was = is_sacked(&seg);
        }
        was = false;
        let mut next = c.segment(tp.snd_una).filter(|_| bytes > 0);
        while let Some(seg) = next {
            if is_sacked(&seg) {
                bytes -= seg.end_seq.wrapping_sub(seg.seq);
                runs -= u32::from(!was);
            }
            was = is_sacked(&seg);
            let old = seg.flags & (USK_TCP_SEG_SACKED | USK_TCP_SEG_LOST) != 0;
            if !old && (runs >= k.dup_thresh || bytes > (k.dup_thresh - 1) * tp.mss_cache) {
                Self::mark(c, k, seg.seq, seg.end_seq);
            }
            next = c.segment(seg.end_seq);
        }
    }

    /// RFC 5681 §3.2 and RFC 6582 §3.2: the first segment, by duplicates and partial acknowledgements.
    fn by_duplicates(c: &mut TcpConn<'_>, k: &mut Conn, tp: &usk_tcp_t, ack: &TcpAck) {
        let advanced = ack.flags & USK_TCP_ACK_ADVANCED != 0;
        let recovers = tp.ca_state == u32::from(USK_CA_RECOVERY) && before(tp.snd_una, tp.high_seq);
        let had = k.dupacks;
        k.dupacks = if advanced { 0 } else { had + ack.dupacks };
        if !((advanced && recovers) || (!recovers && had < k.dup_thresh && k.dupacks >= k.dup_thresh)) {
            return;
        }
        if let Some(seg) = c.segment(tp.snd_una).filter(|seg| seg.flags & USK_TCP_SEG_LOST == 0) {
            let one = seg.end_seq.wrapping_sub(seg.seq).min(tp.mss_cache);
            Self::mark(c, k, tp.snd_una, seg.seq.wrapping_add(one));
        }
    }

    fn rto(c: &TcpConn<'_>, k: &Conn) -> u32 {
        let least = c.reg().sysctl(RTO_MIN_US) as u32;
        ((k.srtt >> 3) + k.rttvar).max(least).min(RTO_MAX_US)
    }

    /// RFC 6298 §2.
    fn sample(c: &TcpConn<'_>, k: &mut Conn, rtt_us: i64) {
        let r = rtt_us.clamp(1, RTO_MAX_US.into()) as u32;
        if k.srtt == 0 {
            (k.srtt, k.rttvar) = (r << 3, r << 1);
        } else {
            let srtt = k.srtt >> 3;
            k.rttvar = k.rttvar + srtt.abs_diff(r) - (k.rttvar >> 2);
            k.srtt = k.srtt + r - srtt;
        }
        k.rto = Self::rto(c, k);
    }

    fn init(&self, c: &mut TcpConn<'_>, k: &mut Conn) -> Result<()> {
        let tp = c.read()?;
        if tp.srtt_us != 0 {
            // Of a connection that it takes over, or of the handshake.
            (k.srtt, k.rttvar) = (tp.srtt_us, tp.mdev_us);
            k.rto = Self::rto(c, k);
        }
        c.set_rto(Duration::from_micros(k.rto.into()))
    }

    fn give_ok(&self, c: &mut TcpConn<'_>, _: &mut Conn) -> Result<()> {
        if c.read()?.ca_state == u32::from(USK_CA_LOSS) { Err(Errno::Busy) } else { Ok(()) }
    }

    fn ack(&self, c: &mut TcpConn<'_>, k: &mut Conn, ack: &TcpAck) {
        let Ok(tp) = c.read() else { return };
        if ack.rtt_us >= 0 {
            Self::sample(c, k, ack.rtt_us);
        }
        let _ = c.set_rto(Duration::from_micros(k.rto.into()));
        if ack.sacked > 0 || tp.sacked_out > 0 {
            Self::by_sack(c, k, &tp);
        }
        if ack.dupacks > 0 || tp.ca_state == u32::from(USK_CA_RECOVERY) || k.dupacks > 0 {
            Self::by_duplicates(c, k, &tp, ack);
        }
    }

    fn send_again(c: &mut TcpConn<'_>, k: &mut Conn, seq: u32, segs: u32) -> Result<()> {
        let n = c.retransmit(seq, segs)?;
        k.retrans += n;
        c.reg().count(RETRANS, n.into())
    }

    /// NextSeg: (1) what is lost and was not sent again, (2) new data.
    fn output(&self, c: &mut TcpConn<'_>, k: &mut Conn) -> Go {
        let Ok(tp) = c.read() else { return Go::Ours };
        let mut seq = tp.snd_una;
        while c.read().is_ok_and(|tp| tp.lost_out > tp.retrans_out)
            && let Some(mut seg) = c.segment(seq)
        {
            if seg.flags & (USK_TCP_SEG_LOST | USK_TCP_SEG_RETRANS) == USK_TCP_SEG_LOST {
                let from = if before(seg.seq, tp.snd_una) { tp.snd_una } else { seg.seq };
                if Self::send_again(c, k, from, seg.segs).is_err() {
                    return Go::Done;
                }
                // It may have been cut, or have taken the next one in.
                seg = c.segment(seq).unwrap_or(seg);
            }
            seq = seg.end_seq;
        }
        let _ = c.send_new(u32::MAX);
        Go::Done
    }

    /// RFC 6298 §5.4 to §5.7; RFC 5681 §3.1: all is lost but what is SACKed.
    fn timer(&self, c: &mut TcpConn<'_>, k: &mut Conn, which: Fired) -> Go {
        let (Fired::Rto, Ok(tp)) = (which, c.read()) else { return Go::Done };
        k.timeouts += 1;
        let _ = c.reg().count(TIMEOUTS, 1);
        Self::mark(c, k, tp.snd_una, tp.snd_nxt);
        let _ = c.enter_loss();
        // One that does not leave is as good as one that the network loses.
        let _ = Self::send_again(c, k, tp.snd_una, 1);
        k.rto = k.rto.saturating_mul(2).min(RTO_MAX_US);
        let _ = c.set_rto(Duration::from_micros(k.rto.into()));
        Go::Done
    }

    fn setsockopt(&self, _: &mut TcpConn<'_>, k: &mut Conn, name: i32, value: &[u8]) -> Result<()> {
        if name != DUP_THRESH {
            return Err(Errno::NoProtoOpt);
        }
        let n = value.first_chunk().map(|b| i32::from_ne_bytes(*b)).filter(|n| (1..=255).contains(n));
        k.dup_thresh = n.ok_or(Errno::Inval)? as u32;
        Ok(())
    }

    fn getsockopt(&self, _: &mut TcpConn<'_>, k: &mut Conn, name: i32, value: &mut [u8]) -> Result<usize> {
        let words = match name {
            DUP_THRESH => vec![k.dup_thresh],
            STATS => vec![k.lost, k.retrans, k.timeouts, k.rto],
            _ => return Err(Errno::NoProtoOpt),
        };
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let n = bytes.len().min(value.len());
        value[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }
}

impl TcpStack for Rfc6675 {
    type Conn = Conn;
    const NAME: &'static str = "rfc6675";
    const COUNTERS: &'static [&'static str] = &["Rfc6675Lost", "Rfc6675Retrans", "Rfc6675Timeouts"];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "rto_min_us",
        value: 1_000_000,
        min: 1_000,
        max: 60_000_000,
        help: "Least retransmission timeout, microseconds (RFC 6298, 2.4).",
    }];
    const OPS: TcpOps<Rfc6675> = TcpOps {
        init: Some(Self::init),
        give_ok: Some(Self::give_ok),
        ack: Some(Self::ack),
        output: Some(Self::output),
        timer: Some(Self::timer),
        setsockopt: Some(Self::setsockopt),
        getsockopt: Some(Self::getsockopt),
        ..TcpOps::NONE
    };
}

usersock_plugin::plugin!(|plugin| plugin.tcp(Rfc6675));

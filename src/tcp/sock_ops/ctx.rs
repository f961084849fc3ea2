//! The context of a hook: a view of the connection's numbers, and setters. Above: hooks. Below: the connection, owned.
//! Linux: struct bpf_sock_ops, bpf_setsockopt, bpf_sock_ops_cb_flags_set, bpf_sk_storage.

use super::super::cong;
use super::super::tcb::{Cx, TcpSock};
use super::super::{rtt, timer};
use super::{Ends, Has, HookSlot, cb};
use crate::base::env::Instant;
use crate::base::error::{Error, Result};
use crate::sock::Sock;
use crate::sock::state::State;
use crate::stack::Stack;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Maximum of [`HookCx::set_rto_min`] (TCP_RTO_MIN) and [`HookCx::set_delack_max`] (TCP_DELACK_MAX).
const TIMER_MAX: Duration = Duration::from_millis(200);

/// A connection's numbers, as in struct bpf_sock_ops. For a request only the first five are valid; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SockView {
    /// Local address.
    pub local: SocketAddr,
    /// Address of the peer; port 0 when there is none.
    pub remote: SocketAddr,
    /// Connection state; NewSynRecv for a request.
    pub state: State,
    /// Whether it is a sock, not a request: only then can anything be set.
    pub is_fullsock: bool,
    /// AF_INET or AF_INET6 of the socket; for a request, its listener's.
    pub family: u16,
    /// Congestion window, segments.
    pub snd_cwnd: u32,
    /// Slow-start threshold, segments.
    pub snd_ssthresh: u32,
    /// Smoothed RTT, µs; 0 before a sample. (In Linux it is shifted left by 3.)
    pub srtt_us: u32,
    /// Minimum RTT of the last `tcp_min_rtt_wlen`, µs; `u32::MAX` before a sample.
    pub rtt_min_us: u32,
    /// Current MSS, bytes.
    pub mss_cache: u32,
    /// Next sequence number expected from the peer.
    pub rcv_nxt: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// First unacknowledged sequence number.
    pub snd_una: u32,
    /// Bits of tcp_sock's ecn_flags (TCP_ECN_*).
    pub ecn_flags: u8,
    /// Last rate sample: segments delivered.
    pub rate_delivered: u32,
    /// Last rate sample: interval, µs.
    pub rate_interval_us: u32,
    /// Segments sent and not acknowledged.
    pub packets_out: u32,
    /// Retransmissions in flight.
    pub retrans_out: u32,
    /// Total number of retransmissions.
    pub total_retrans: u32,
    /// Segments received.
    pub segs_in: u32,
    /// Data segments received.
    pub data_segs_in: u32,
    /// Segments sent.
    pub segs_out: u32,
    /// Data segments sent.
    pub data_segs_out: u32,
    /// Segments marked lost.
    pub lost_out: u32,
    /// Segments selectively acknowledged.
    pub sacked_out: u32,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes acknowledged.
    pub bytes_acked: u64,
}

/// The sock of an event, owned. For some events of a listener it is a request, which is not a sock yet and can only be
/// read.
pub struct HookCx<'c> {
    cx: Cx<'c>,
    id: u64,
    request: Option<Ends>,
}

/// Flags that a hook has set on a sock.
pub(super) fn flags_of(tp: &TcpSock, id: u64) -> u8 {
    slots(tp).iter().find(|s| s.id == id).map_or(0, |s| s.flags)
}

fn slots(tp: &TcpSock) -> &[HookSlot] {
    tp.cold.as_ref().map_or(&[], |c| &c.hooks)
}

pub(super) fn refresh(tp: &mut TcpSock) {
    tp.sock_ops_flags = slots(tp).iter().fold(0, |f, s| f | s.flags);
}

/// Removes the values and flags of hooks that are no longer registered.
pub(super) fn forget_others(tp: &mut TcpSock, known: impl Fn(u64) -> bool) {
    if let Some(c) = &mut tp.cold {
        c.hooks.retain(|s| known(s.id));
    }
    refresh(tp);
}

impl<'c> HookCx<'c> {
    pub(super) fn new(cx: Cx<'c>, id: u64, request: Option<Ends>) -> HookCx<'c> {
        HookCx { cx, id, request }
    }
}

impl HookCx<'_> {
    /// Id of the hook's registration.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The stack.
    pub fn stack(&self) -> &Arc<Stack> {
        self.cx.stack
    }

    /// The sock, owned; for a request, its listener.
    pub fn sock(&self) -> &Arc<Sock> {
        self.cx.sock
    }

    /// Time of the event.
    pub fn now(&self) -> Instant {
        self.cx.now
    }

    /// The connection's current numbers.
    pub fn view(&self) -> SockView {
        let (sk, tp) = (&*self.cx.sk, &*self.cx.tp);
        let family = self.cx.sock.family;
        if let Some(e) = self.request {
            return SockView {
                local: SocketAddr::new(e.saddr, e.sport),
                remote: SocketAddr::new(e.daddr, e.dport),
                state: State::NewSynRecv,
                is_fullsock: false,
                family,
                snd_cwnd: 0,
                snd_ssthresh: 0,
                srtt_us: 0,
                rtt_min_us: 0,
                mss_cache: 0,
                rcv_nxt: 0,
                snd_nxt: 0,
                snd_una: 0,
                ecn_flags: 0,
                rate_delivered: 0,
                rate_interval_us: 0,
                packets_out: 0,
                retrans_out: 0,
                total_retrans: 0,
                segs_in: 0,
                data_segs_in: 0,
                segs_out: 0,
                data_segs_out: 0,
                lost_out: 0,
                sacked_out: 0,
                bytes_received: 0,
                bytes_acked: 0,
            };
        }
        SockView {
            local: SocketAddr::new(if sk.saddr.is_unspecified() { sk.rcv_saddr } else { sk.saddr }, sk.sport),
            remote: SocketAddr::new(sk.daddr, sk.dport),
            state: self.cx.state(),
            is_fullsock: true,
            family,
            snd_cwnd: tp.snd_cwnd,
            snd_ssthresh: tp.snd_ssthresh,
            srtt_us: tp.srtt_us >> 3,
            rtt_min_us: rtt::min_rtt(tp),
            mss_cache: tp.mss_cache,
            rcv_nxt: tp.rcv_nxt.0,
            snd_nxt: tp.snd_nxt.0,
            snd_una: tp.snd_una.0,
            ecn_flags: tp.ecn.bits(),
            rate_delivered: tp.rate_delivered,
            rate_interval_us: tp.rate_interval_us,
            packets_out: tp.packets_out,
            retrans_out: tp.retrans_out,
            total_retrans: tp.total_retrans,
            segs_in: tp.segs_in,
            data_segs_in: tp.data_segs_in,
            segs_out: tp.segs_out,
            data_segs_out: tp.data_segs_out,
            lost_out: tp.lost_out,
            sacked_out: tp.sacked_out,
            bytes_received: tp.bytes_received,
            bytes_acked: tp.bytes_acked,
        }
    }

    /// The connection, writable. EINVAL: a request.
    fn full(&mut self) -> Result<&mut TcpSock> {
        if self.request.is_some() { Err(Error::Inval) } else { Ok(self.cx.tp) }
    }

    fn slot(&mut self) -> Result<&mut HookSlot> {
        let id = self.id;
        let hooks = &mut self.full()?.cold.get_or_insert_default().hooks;
        let i = hooks.iter().position(|s| s.id == id).unwrap_or_else(|| {
            hooks.push(HookSlot { id, flags: 0, has: Has::AsAll, value: 0 });
            hooks.len() - 1
        });
        Ok(&mut hooks[i])
    }

    /// The events that this hook has enabled on this sock: bits of [`cb`].
    pub fn cb_flags(&self) -> u8 {
        flags_of(self.cx.tp, self.id)
    }

    /// Sets the enabled events. A listener's children inherit its flags, and [`cb::WRITE_HDR_OPT`] on it also applies
    /// to its SYN-ACKs. EINVAL: a request, or an unknown bit.
    pub fn set_cb_flags(&mut self, flags: u8) -> Result<()> {
        if flags & !cb::ALL != 0 {
            return Err(Error::Inval);
        }
        self.slot()?.flags = flags;
        refresh(self.cx.tp);
        Ok(())
    }

    /// The value that this hook has stored on this sock; 0 until set.
    pub fn value(&self) -> u64 {
        if self.request.is_some() {
            return 0;
        }
        slots(self.cx.tp).iter().find(|s| s.id == self.id).map_or(0, |s| s.value)
    }

    /// Stores a number for this hook on this sock, until the sock is freed. EINVAL: a request.
    pub fn set_value(&mut self, value: u64) -> Result<()> {
        self.slot()?.value = value;
        Ok(())
    }

    /// Initial congestion window, segments (TCP_BPF_IW). EINVAL: 0, or data was already sent.
    pub fn set_init_cwnd(&mut self, segs: u32) -> Result<()> {
        let tp = self.full()?;
        if segs == 0 || segs > i32::MAX as u32 || tp.data_segs_out > 0 {
            return Err(Error::Inval);
        }
        cong::set_cwnd(tp, segs);
        Ok(())
    }

    /// Maximum of the congestion window, segments; the threshold is set to it too (TCP_BPF_SNDCWND_CLAMP). EINVAL: 0.
    pub fn set_snd_cwnd_clamp(&mut self, segs: u32) -> Result<()> {
        let tp = self.full()?;
        if segs == 0 || segs > i32::MAX as u32 {
            return Err(Error::Inval);
        }
        tp.cold_mut().snd_cwnd_clamp = segs;
        tp.snd_ssthresh = segs;
        Ok(())
    }

    /// Minimum RTO (TCP_BPF_RTO_MIN). EINVAL: below 2 or above 200 ms.
    pub fn set_rto_min(&mut self, t: Duration) -> Result<()> {
        let us = timer_us(t)?;
        self.full()?.options_mut().rto_min_us = us;
        Ok(())
    }

    /// Maximum delay of an acknowledgement (TCP_BPF_DELACK_MAX). EINVAL: below 2 or above 200 ms.
    pub fn set_delack_max(&mut self, t: Duration) -> Result<()> {
        let us = timer_us(t)?;
        self.full()?.options_mut().delack_max_us = us;
        Ok(())
    }

    /// Selects the congestion control by name, as TCP_CONGESTION. ENOENT: no algorithm has that name; EINVAL: a
    /// request.
    pub fn set_congestion(&mut self, name: &str) -> Result<()> {
        self.full()?;
        cong::set_congestion_control(&mut self.cx, name)
    }

    /// Name of the congestion control.
    pub fn congestion(&self) -> String {
        self.cx.tp.ca.ops.name().to_owned()
    }

    /// TCP_SAVE_SYN of a listener: whether its children keep their SYN for TCP_SAVED_SYN. (`passive_established` gets
    /// the SYN's options in any case.) EINVAL: a request.
    pub fn set_save_syn(&mut self, on: bool) -> Result<()> {
        self.full()?.options_mut().save_syn = u8::from(on);
        Ok(())
    }
}

fn timer_us(t: Duration) -> Result<u32> {
    if t < timer::TIMEOUT_MIN || t > TIMER_MAX { Err(Error::Inval) } else { Ok(t.as_micros() as u32) }
}

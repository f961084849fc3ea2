//! RTT and RTO.
use super::tcb::{Cx, TcpSock};
fn micros(d: std::time::Duration) -> u32 {
    d.as_micros().min(u32::MAX as u128) as u32
}
/// Least RTO, µs.
pub fn rto_min_us(cx: &Cx<'_>) -> u32 {
    match &cx.sk.dst {
        Some(d) if d.rto_min_us != 0 => d.rto_min_us,
        _ if cx.tp.rto_min_us != 0 => cx.tp.rto_min_us,
        _ => micros(cx.stack.sysctl.tcp_rto_min_us()),
    }
}
/// Minimum RTT, µs.
pub fn min_rtt(tp: &TcpSock) -> u32 {
    tp.rtt_min.0[0].0
}
/// RTO from the estimate.
pub fn set_rto(cx: &mut Cx<'_>) {
    cx.tp.rto_us = (cx.tp.srtt_us >> 3) + cx.tp.rttvar_us;
}
/// Greatest RTO, µs.
pub fn rto_max_us(cx: &Cx<'_>) -> u32 {
    match cx.tp.rto_max_ms {
        0 => micros(cx.stack.sysctl.tcp_rto_max_ms()),
        ms => ms.saturating_mul(1000),
    }
}
/// SYN-ACK's RTT.
pub fn synack_rtt_meas(_cx: &mut Cx<'_>, _sent: Option<crate::env::Instant>) {}

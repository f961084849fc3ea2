//! `struct tcp_info` as names for code blocks. Above: `run`. The layout is the public header's (`linux/tcp.h`): new
//! fields are only ever added at the end, so a shorter structure simply has fewer names.
use crate::code::Names;

/// Fields of 8 bits at the start, and the bit fields packed into the two octets after them.
const OCTETS: [&str; 6] =
    ["tcpi_state", "tcpi_ca_state", "tcpi_retransmits", "tcpi_probes", "tcpi_backoff", "tcpi_options"];

/// The other fields in their order, with their size in bytes.
const FIELDS: &[(&str, usize)] = &[
    ("tcpi_rto", 4),
    ("tcpi_ato", 4),
    ("tcpi_snd_mss", 4),
    ("tcpi_rcv_mss", 4),
    ("tcpi_unacked", 4),
    ("tcpi_sacked", 4),
    ("tcpi_lost", 4),
    ("tcpi_retrans", 4),
    ("tcpi_fackets", 4),
    ("tcpi_last_data_sent", 4),
    ("tcpi_last_ack_sent", 4),
    ("tcpi_last_data_recv", 4),
    ("tcpi_last_ack_recv", 4),
    ("tcpi_pmtu", 4),
    ("tcpi_rcv_ssthresh", 4),
    ("tcpi_rtt", 4),
    ("tcpi_rttvar", 4),
    ("tcpi_snd_ssthresh", 4),
    ("tcpi_snd_cwnd", 4),
    ("tcpi_advmss", 4),
    ("tcpi_reordering", 4),
    ("tcpi_rcv_rtt", 4),
    ("tcpi_rcv_space", 4),
    ("tcpi_total_retrans", 4),
    ("tcpi_pacing_rate", 8),
    ("tcpi_max_pacing_rate", 8),
    ("tcpi_bytes_acked", 8),
    ("tcpi_bytes_received", 8),
    ("tcpi_segs_out", 4),
    ("tcpi_segs_in", 4),
    ("tcpi_notsent_bytes", 4),
    ("tcpi_min_rtt", 4),
    ("tcpi_data_segs_in", 4),
    ("tcpi_data_segs_out", 4),
    ("tcpi_delivery_rate", 8),
    ("tcpi_busy_time", 8),
    ("tcpi_rwnd_limited", 8),
    ("tcpi_sndbuf_limited", 8),
    ("tcpi_delivered", 4),
    ("tcpi_delivered_ce", 4),
    ("tcpi_bytes_sent", 8),
    ("tcpi_bytes_retrans", 8),
    ("tcpi_dsack_dups", 4),
    ("tcpi_reord_seen", 4),
    ("tcpi_rcv_ooopack", 4),
    ("tcpi_snd_wnd", 4),
    ("tcpi_rcv_wnd", 4),
    ("tcpi_rehash", 4),
    ("tcpi_total_rto", 2),
    ("tcpi_total_rto_recoveries", 2),
    ("tcpi_total_rto_time", 4),
    ("tcpi_received_ce", 4),
    ("tcpi_delivered_e1_bytes", 4),
    ("tcpi_delivered_e0_bytes", 4),
    ("tcpi_delivered_ce_bytes", 4),
    ("tcpi_received_e1_bytes", 4),
    ("tcpi_received_e0_bytes", 4),
    ("tcpi_received_ce_bytes", 4),
    ("tcpi_accecn_fail_mode", 2),
    ("tcpi_accecn_opt_seen", 2),
];

/// Bytes to ask for, enough for every field named here.
pub const LEN: usize = 280;

/// Puts the fields of `info` into `names`.
pub fn name_fields(info: &[u8], names: &mut Names) {
    for (name, octet) in OCTETS.into_iter().zip(info) {
        names.insert(name.into(), i128::from(*octet));
    }
    if let [_, _, _, _, _, _, scales, flags, ..] = info {
        // Bit fields fill an octet from its low bits on the machines that this runs on.
        names.insert("tcpi_snd_wscale".into(), i128::from(scales & 15));
        names.insert("tcpi_rcv_wscale".into(), i128::from(scales >> 4));
        names.insert("tcpi_delivery_rate_app_limited".into(), i128::from(flags & 1));
        names.insert("tcpi_fastopen_client_fail".into(), i128::from(flags >> 1 & 3));
    }
    let mut at = 8;
    for &(name, size) in FIELDS {
        let Some(bytes) = info.get(at..at + size) else { return };
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(bytes);
        names.insert(name.into(), i128::from(u64::from_le_bytes(wide)));
        at += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_system_header_has_them() {
        let offset: usize = 8 + FIELDS.iter().take_while(|f| f.0 != "tcpi_snd_cwnd").map(|f| f.1).sum::<usize>();
        assert_eq!(offset, std::mem::offset_of!(libc::tcp_info, tcpi_snd_cwnd));
        let mut info = vec![0; LEN];
        (info[0], info[6], info[7]) = (1, 0x87, 1);
        info[offset] = 10;
        let mut names = Names::new();
        name_fields(&info, &mut names);
        let got = ["tcpi_state", "tcpi_snd_wscale", "tcpi_rcv_wscale", "tcpi_snd_cwnd"].map(|name| names[name]);
        assert_eq!(got, [1, 7, 8, 10]);
    }
}

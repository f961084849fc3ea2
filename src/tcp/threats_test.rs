//! Known classes of attack on TCP, one test each or more, named by the class.

use super::peer_test::{ACK, Conn, FIN, HERE, Host, ISS, PSH, RST, SYN, SYN_OPTIONS, Seg, THERE, sack};
use crate::base::env::Duration;
use crate::base::error::Error;
use crate::counters::Mib;
use crate::inet::Socket;
use crate::sock::proto::SockRef;
use crate::sock::state::State;
use crate::wire::ipv6::Ipv6Repr;
use crate::wire::proto;
use crate::wire::tcp::fill_checksum;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

fn host_and_conn(options: &[u8]) -> (Host, Conn) {
    let host = Host::new(128);
    let c = host.connect(4000, options);
    (host, c)
}

/// The last SACK pattern, then everything: the connection still works.
fn acknowledges_all_and_goes_on(host: &Host, c: &Conn) {
    let nxt = c.tcb(|tp| tp.snd_nxt.0);
    host.put(&Seg { ack: nxt, ..c.seg(ACK) });
    assert_eq!(c.tcb(|tp| (tp.snd_una.0, tp.rtx_queue.front().map(|s| s.tcp.seq.0))).0, nxt);
    assert_eq!(c.state(), State::Established);
}

#[test]
fn sack_panic_cve_2019_11477_many_small_segments_merge_without_overflow() {
    let mut syn = SYN_OPTIONS.to_vec();
    syn[2..4].copy_from_slice(&48u16.to_be_bytes());
    let (host, c) = host_and_conn(&syn);
    host.put(&Seg { window: 65_535, ..c.seg(ACK) });
    let mut una = c.ack;
    for round in 0..200u32 {
        // EAGAIN when the buffer is full: what is in it is enough.
        let _ = c.send(60_000);
        host.sent();
        let (nxt, mss) = c.tcb(|tp| (tp.snd_nxt.0, tp.mss_cache));
        let step = mss * (1 + round % 3);
        let hole = una.wrapping_add(step);
        if nxt.wrapping_sub(hole) as i32 > 0 {
            host.put(&Seg { ack: una, window: 65_535, options: sack(&[(hole, nxt)]), ..c.seg(ACK) });
        }
        una = if round % 2 == 0 { hole } else { nxt };
        una = if una.wrapping_sub(nxt) as i32 > 0 { nxt } else { una };
        host.put(&Seg { ack: una, window: 65_535, ..c.seg(ACK) });
    }
    acknowledges_all_and_goes_on(&host, &c);
}

#[test]
fn sack_slowness_cve_2019_11478_one_byte_holes_do_not_cut_the_queue_to_bytes() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    host.put(&Seg { window: 65_535, ..c.seg(ACK) });
    c.send(200_000).unwrap();
    host.sent();
    let sent = c.tcb(|tp| tp.snd_nxt.since(tp.snd_una));
    assert!(sent >= 10_000, "{sent}");
    for at in (1..sent - 2).step_by(2) {
        let a = c.ack.wrapping_add(at);
        host.put(&Seg { window: 65_535, options: sack(&[(a, a.wrapping_add(1))]), ..c.seg(ACK) });
    }
    // Blocks count where they cover whole segments: what the queue holds is bounded by segments, not by bytes.
    let (skbs, segments, sacked) = c.tcb(|tp| (tp.rtx_queue.len() as u32, tp.packets_out, tp.sacked_out));
    assert!(skbs <= segments, "{skbs} packets for {segments} segments");
    assert_eq!(sacked, 0);
    acknowledges_all_and_goes_on(&host, &c);
}

#[test]
fn low_mss_cve_2019_11479_a_peers_tiny_mss_is_held_to_the_floor() {
    for mss in [0u16, 1, 40, 47] {
        let mut syn = SYN_OPTIONS.to_vec();
        syn[2..4].copy_from_slice(&mss.to_be_bytes());
        let (host, c) = host_and_conn(&syn);
        c.send(1000).unwrap();
        let out = host.sent();
        let floor = host.bench.stack.sysctl.tcp_min_snd_mss() as usize;
        // The floor counts options too, of which 40 bytes is the most there can be.
        let least = floor - 40;
        assert!(out.iter().take(3).all(|o| o.len >= least && o.len > 1), "mss {mss}: {out:?}");
    }
}

#[test]
fn segment_smack_cve_2018_5390_every_second_byte_fills_no_more_than_the_buffer() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    for i in 0..3000u32 {
        let seq = c.seq.wrapping_add(1 + 2 * i);
        host.put(&Seg { seq, data: vec![1], ..c.seg(ACK) });
        let sock = c.socket.sock();
        let (used, limit) = (sock.rmem_alloc.load(Ordering::Relaxed), sock.rcvbuf.load(Ordering::Relaxed));
        assert!(used <= limit + 4096, "{used} of {limit} after {i}");
    }
    // The stream itself, in order, arrives whole.
    let mut seq = c.seq;
    let mut got = 0;
    for _ in 0..20 {
        host.put(&Seg { seq, data: vec![2; 500], ..c.seg(ACK | PSH) });
        seq = seq.wrapping_add(500);
        while let Ok(n @ 1..) = c.recv(4096) {
            got += n;
        }
    }
    assert_eq!((got, c.state()), (10_000, State::Established));
}

#[test]
fn blind_rst_cve_2004_0230_only_the_exact_sequence_number_resets() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    let out = host.put(&Seg { seq: c.seq.wrapping_add(1000), ..c.seg(RST) });
    assert_eq!((out.len(), out[0].flags, out[0].ack), (1, ACK, c.seq), "a challenge");
    assert_eq!(c.state(), State::Established);
    assert!(host.put(&Seg { seq: c.seq.wrapping_sub(1), ..c.seg(RST) }).is_empty(), "outside the window");
    assert_eq!(c.state(), State::Established);
    assert!(host.put(&c.seg(RST)).is_empty());
    assert_eq!(c.state(), State::Close);
}

#[test]
fn blind_syn_rfc_5961_a_syn_in_the_window_draws_a_challenge_and_nothing_else() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    let out = host.put(&Seg { seq: c.seq.wrapping_add(10), ..c.seg(SYN) });
    assert_eq!((out.len(), out[0].flags, out[0].ack), (1, ACK, c.seq));
    assert_eq!(c.state(), State::Established);
}

#[test]
fn blind_data_rfc_5961_data_with_a_foreign_acknowledgement_is_not_taken() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    c.send(1000).unwrap();
    host.sent();
    host.put(&Seg { ack: c.ack.wrapping_add(1000), ..c.seg(ACK) });
    for ack in [c.ack.wrapping_sub(1 << 30), c.ack.wrapping_add(1 << 30), c.ack.wrapping_add(1001)] {
        host.put(&Seg { ack, data: vec![9; 100], ..c.seg(ACK | PSH) });
        assert!(c.recv(100).is_err(), "ack {ack}");
    }
    host.put(&Seg { ack: c.ack.wrapping_add(1000), data: vec![9; 100], ..c.seg(ACK | PSH) });
    assert_eq!(c.recv(200), Ok(100));
}

#[test]
fn challenge_ack_side_channel_cve_2016_5696_one_connections_limit_is_not_anothers() {
    let host = Host::new(8);
    let (a, b) = (host.connect(4000, SYN_OPTIONS), host.connect(4001, SYN_OPTIONS));
    host.bench.stack.sysctl.set("net.ipv4.tcp_challenge_ack_limit", "4").unwrap();
    host.bench.stack.sysctl.set("net.ipv4.tcp_invalid_ratelimit", "0").unwrap();
    let probe = |c: &Conn| host.put(&Seg { seq: c.seq.wrapping_add(10), ..c.seg(RST) }).len();
    let answers: usize = (0..100).map(|_| probe(&a)).sum();
    assert!((1..=8).contains(&answers), "{answers}");
    assert_eq!(probe(&a), 0, "its own budget is spent");
    assert_eq!(probe(&b), 1, "the other's is not");
}

#[test]
fn ack_loops_answers_to_segments_out_of_window_are_limited_in_time() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    let stray = Seg { seq: c.seq.wrapping_sub(100_000), ..c.seg(ACK) };
    let mut answers = 0;
    for _ in 0..1000 {
        answers += host.put(&stray).len();
        answers += host.wait(Duration::from_millis(1)).len();
    }
    assert!((1..=3).contains(&answers), "{answers} in a second");
}

#[test]
fn optimistic_ack_of_what_was_never_sent_frees_and_grows_nothing() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    c.send(1460 * 4).unwrap();
    host.sent();
    let before = c.tcb(|tp| (tp.snd_una, tp.snd_cwnd, tp.packets_out));
    host.put(&Seg { ack: c.ack.wrapping_add(1460 * 4 + 1), ..c.seg(ACK) });
    assert_eq!(c.tcb(|tp| (tp.snd_una, tp.snd_cwnd, tp.packets_out)), before);
}

#[test]
fn ack_splitting_grows_the_window_by_segments_and_not_by_acknowledgements() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    c.send(1460 * 10).unwrap();
    host.sent();
    let before = c.tcb(|tp| tp.snd_cwnd);
    for i in 1..=1460 {
        host.put(&Seg { ack: c.ack.wrapping_add(i), ..c.seg(ACK) });
    }
    let grown = c.tcb(|tp| tp.snd_cwnd) - before;
    assert!(grown <= 1, "one segment was acknowledged, the window grew by {grown}");
}

#[test]
fn shrinking_window_a_retracted_edge_neither_underflows_nor_stalls_for_ever() {
    let (host, c) = host_and_conn(SYN_OPTIONS);
    host.put(&Seg { window: 100, ..c.seg(ACK) });
    c.send(50_000).unwrap();
    let sent: usize = host.sent().iter().map(|o| o.len).sum();
    assert!(sent > 5000, "{sent}");
    // The right edge moves to before what was sent already, then closes.
    host.put(&Seg { ack: c.ack.wrapping_add(1460), window: 1, ..c.seg(ACK) });
    host.put(&Seg { ack: c.ack.wrapping_add(2920), window: 0, ..c.seg(ACK) });
    host.wait(Duration::from_secs(30));
    assert_eq!(c.state(), State::Established);
    // It opens: everything is sent to the end.
    for _ in 0..200 {
        let nxt = c.tcb(|tp| tp.snd_nxt.0);
        host.put(&Seg { ack: nxt, window: 1000, ..c.seg(ACK) });
        host.wait(Duration::from_millis(300));
    }
    assert_eq!(c.tcb(|tp| tp.snd_una), c.tcb(|tp| tp.write_seq));
}

#[test]
fn land_and_impossible_sources_draw_no_answer() {
    let host = Host::new(8);
    let sources = [
        HERE,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(10, 0, 0, 255),
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::LOCALHOST,
    ];
    for src in sources {
        let syn = Seg { src, ..Seg::new(80, SYN, ISS, 0) };
        assert_eq!(host.put(&syn), [], "from {src}");
        assert_eq!(host.wait(Duration::from_secs(10)), [], "from {src}");
    }
    for dst in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(224, 0, 0, 1)] {
        let syn = Seg { dst, ..Seg::new(4000, SYN, ISS, 0) };
        assert_eq!(host.put(&syn), [], "to {dst}");
    }
}

/// A SYN from a v4-mapped address would be answered by IPv4, to a host that sent nothing.
#[test]
fn a_syn_over_ipv6_from_a_mapped_address_draws_no_answer() {
    let host = Host::new(8);
    let stack = &host.bench.stack;
    let listener = Socket::new(stack, libc::AF_INET6, libc::SOCK_STREAM, 0).unwrap();
    listener.bind("[fd00::1]:81".parse().unwrap()).unwrap();
    listener.listen(8).unwrap();
    for (src, answers) in [("fd00::9", 1), ("::ffff:10.0.0.9", 0)] {
        let (src, dst) = (src.parse().unwrap(), "fd00::1".parse().unwrap());
        let mut tcp = Seg { dport: 81, ..Seg::new(4000, SYN, ISS, 0) }.bytes().split_off(20);
        tcp[16..18].fill(0);
        fill_checksum(&mut tcp, IpAddr::V6(src), IpAddr::V6(dst));
        let (next_header, payload_len) = (proto::TCP, tcp.len());
        let repr = Ipv6Repr::new(src, dst, next_header, payload_len);
        let mut packet = vec![0; 40];
        repr.emit(&mut packet);
        packet.extend(tcp);
        assert_eq!(host.bench.inject(&packet).len(), answers, "from {src}");
    }
    assert_eq!((stack.mib.get(Mib::Ip6InHdrErrors), stack.mib.get(Mib::TcpExtListenDrops)), (1, 0));
}

#[test]
fn syn_flood_memory_is_flat_and_real_clients_connect_during_it() {
    let host = Host::new(64);
    let requests = || {
        let g = host.listener.sock().lock(&host.bench.stack);
        let tp = g.private.downcast_ref::<super::tcb::TcpSock>().unwrap();
        tp.listener.as_ref().unwrap().requests_len()
    };
    let mut clients = Vec::new();
    for i in 0..100_000u32 {
        let src = Ipv4Addr::new(10, 0, 0, 3 + (i % 200) as u8);
        host.put(&Seg { src, ..Seg::new(1024 + (i / 200) as u16, SYN, i.wrapping_mul(0x9e37_79b9), 0) });
        assert!(requests() <= 66, "{} after {i}", requests());
        if i % 1_000 == 999 {
            clients.push(host.connect(4000 + (i / 1_000) as u16, SYN_OPTIONS));
        }
    }
    assert!(clients.iter().all(|c| c.state() == State::Established));
    assert_eq!((clients.len(), host.accounts()), (100, (101, 0)), "sockets of the clients alone, no memory charged");
    // The requests are given up after their retransmissions.
    host.wait(Duration::from_secs(200));
    assert_eq!(requests(), 0);
}

/// Without cookies the last quarter of the queue is for peers that are known to be alive.
#[test]
fn syn_flood_without_cookies_leaves_room_for_proven_peers_alone() {
    for (no_metrics_save, known) in [("0", 100), ("1", 0)] {
        let host = Host::new(128);
        let sysctl = &host.bench.stack.sysctl;
        sysctl.set("net.ipv4.tcp_syncookies", "0").unwrap();
        sysctl.set("net.ipv4.tcp_max_syn_backlog", "128").unwrap();
        sysctl.set("net.ipv4.tcp_no_metrics_save", no_metrics_save).unwrap();
        // A connection of the client's before the flood, which both sides close.
        let c = host.connect(3999, SYN_OPTIONS);
        let fin = host.put(&c.seg(FIN | ACK));
        assert!(fin.iter().all(|o| o.ack == c.seq.wrapping_add(1)), "{fin:?}");
        let (port, seq, ack) = (c.port, c.seq.wrapping_add(1), c.ack.wrapping_add(1));
        drop(c);
        host.sent();
        host.put(&Seg::new(port, ACK, seq, ack));
        let (mut answered, mut stranger) = (0, 0);
        for i in 0..10_000u32 {
            let src = Ipv4Addr::new(10, 0, 0, 4 + (i % 200) as u8);
            host.put(&Seg { src, ..Seg::new(1024 + (i / 200) as u16, SYN, i.wrapping_mul(0x9e37_79b9), 0) });
            if i % 100 == 99 {
                let port = 4000 + (i / 100) as u16;
                let syn = |src| Seg { src, options: SYN_OPTIONS.to_vec(), ..Seg::new(port, SYN, ISS, 0) };
                let reply = host.put(&syn(THERE));
                if let Some(syn_ack) = reply.iter().find(|o| o.flags == SYN | ACK) {
                    host.put(&Seg::new(port, ACK, ISS.wrapping_add(1), syn_ack.seq.wrapping_add(1)));
                    answered += usize::from(host.listener.accept().is_ok());
                }
                let reply = host.put(&syn(Ipv4Addr::new(10, 0, 0, 3)));
                stranger += reply.iter().filter(|o| o.flags == SYN | ACK).count();
            }
        }
        assert_eq!((answered, stranger), (known, 0), "tcp_no_metrics_save={no_metrics_save}");
    }
}

#[test]
fn sockstress_connections_left_with_a_closed_window_end_and_give_their_memory_back() {
    let host = Host::new(200);
    for port in 4000..4100 {
        let c = host.connect(port, SYN_OPTIONS);
        host.put(&Seg { window: 0, ..c.seg(ACK) });
        c.send(20_000).unwrap();
        host.sent();
        // The program closes: the kernel's part is an orphan with data that the peer never takes.
        drop(c);
    }
    assert!(host.accounts().0 > 1);
    // The peer stays away; probes back off and end.
    host.wait(Duration::from_secs(3600));
    assert_eq!(host.accounts(), (1, 0));
}

#[test]
fn an_orphan_that_is_aborted_while_its_peer_takes_nothing_is_gone_at_once() {
    let host = Host::new(5);
    let before = host.accounts();
    let c = host.connect(4000, SYN_OPTIONS);
    host.put(&Seg { window: 0, ..c.seg(ACK) });
    c.send(5000).unwrap();
    let sock = c.socket.sock().clone();
    drop(c);
    host.wait(Duration::from_secs(3));
    let sk = SockRef { stack: &host.bench.stack, sock: &sock };
    assert_eq!(super::close::abort(sk, Error::ConnAborted), Ok(()));
    assert_eq!(super::close::abort(sk, Error::ConnAborted), Err(Error::NoEnt));
    drop(sock);
    assert!(host.sent().iter().any(|out| out.flags & RST != 0));
    assert_eq!(host.accounts(), before);
    assert_eq!(host.wait(Duration::from_secs(300)), []);
}

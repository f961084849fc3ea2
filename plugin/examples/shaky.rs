//! shaky: Reno with a sysctl, `net.shaky.panic_in`, that says in which function it panics: each is contained, and
//! breaks the connection that it was called for. `cargo build -p usersock-plugin --example shaky` makes libshaky.so.
#![forbid(unsafe_code)]

use usersock_plugin::Sysctl;
use usersock_plugin::prelude::*;

/// Values of the sysctl.
mod place {
    pub const INIT: i64 = 1;
    pub const SSTHRESH: i64 = 2;
    pub const CONG_AVOID: i64 = 3;
    pub const UNDO_CWND: i64 = 4;
    pub const PKTS_ACKED: i64 = 5;
    pub const IN_ACK_EVENT: i64 = 6;
    pub const SET_STATE: i64 = 7;
    pub const CWND_EVENT: i64 = 8;
    pub const MIN_TSO_SEGS: i64 = 9;
    pub const SNDBUF_EXPAND: i64 = 10;
    pub const GET_INFO: i64 = 11;
    pub const RELEASE: i64 = 12;
    pub const DROP: i64 = 13;
    pub const PKTS_DELIVERED: i64 = 14;
}

/// Counters: connections' data made and dropped.
const MADE: usize = 0;
const DROPPED: usize = 1;

struct Shaky;

/// Data that owns memory: leak checkers see whether it is dropped.
#[derive(Default)]
struct Conn {
    acked: Box<u64>,
    panics: bool,
}

impl Drop for Conn {
    fn drop(&mut self) {
        assert!(!self.panics, "in drop, as asked");
    }
}

fn maybe(tp: &Tcp<'_>, place: i64) {
    assert!(tp.reg().sysctl(0) != place, "in place {place}, as asked");
}

impl Shaky {
    fn init(&self, tp: &mut Tcp<'_>, conn: &mut Conn) {
        let _ = tp.reg().count(MADE, 1);
        conn.panics = tp.reg().sysctl(0) == place::DROP;
        maybe(tp, place::INIT);
    }
    fn release(&self, tp: &mut Tcp<'_>, _: &mut Conn) {
        let _ = tp.reg().count(DROPPED, 1);
        maybe(tp, place::RELEASE);
    }
    fn pkts_acked(&self, tp: &mut Tcp<'_>, conn: &mut Conn, sample: &AckSample) {
        *conn.acked += u64::from(sample.pkts_acked);
        maybe(tp, place::PKTS_ACKED);
    }
    fn pkts_delivered(&self, tp: &mut Tcp<'_>, _: &mut Conn, _: &[PktSample]) {
        maybe(tp, place::PKTS_DELIVERED);
    }
    fn in_ack_event(&self, tp: &mut Tcp<'_>, _: &mut Conn, _: u32) {
        maybe(tp, place::IN_ACK_EVENT);
    }
    fn set_state(&self, tp: &mut Tcp<'_>, _: &mut Conn, _: CaState) {
        maybe(tp, place::SET_STATE);
    }
    fn cwnd_event(&self, tp: &mut Tcp<'_>, _: &mut Conn, _: CaEvent) {
        maybe(tp, place::CWND_EVENT);
    }
    fn min_tso_segs(&self, tp: &mut Tcp<'_>, _: &mut Conn) -> u32 {
        maybe(tp, place::MIN_TSO_SEGS);
        2
    }
    fn sndbuf_expand(&self, tp: &mut Tcp<'_>, _: &mut Conn) -> u32 {
        maybe(tp, place::SNDBUF_EXPAND);
        2
    }
    fn get_info(&self, tp: &mut Tcp<'_>, conn: &mut Conn, to: &mut [u8]) -> usize {
        maybe(tp, place::GET_INFO);
        to[..8].copy_from_slice(&conn.acked.to_ne_bytes());
        8
    }
}

impl Congestion for Shaky {
    type Conn = Conn;
    const NAME: &'static str = "shaky";
    const COUNTERS: &'static [&'static str] = &["ShakyMade", "ShakyReleased"];
    const SYSCTLS: &'static [Sysctl] = &[Sysctl {
        name: "panic_in",
        value: 0,
        min: 0,
        max: place::PKTS_DELIVERED,
        help: "The function that panics; 0: none.",
    }];
    const MORE: CongMore<Self> = CongMore {
        init: Some(Self::init),
        release: Some(Self::release),
        cong_control: None,
        pkts_acked: Some(Self::pkts_acked),
        pkts_delivered: Some(Self::pkts_delivered),
        in_ack_event: Some(Self::in_ack_event),
        set_state: Some(Self::set_state),
        cwnd_event: Some(Self::cwnd_event),
        min_tso_segs: Some(Self::min_tso_segs),
        sndbuf_expand: Some(Self::sndbuf_expand),
        get_info: Some(Self::get_info),
    };

    fn ssthresh(&self, tp: &mut Tcp<'_>, _: &mut Conn) -> u32 {
        maybe(tp, place::SSTHRESH);
        tp.reno_ssthresh()
    }
    fn cong_avoid(&self, tp: &mut Tcp<'_>, _: &mut Conn, ack: u32, acked: u32) {
        maybe(tp, place::CONG_AVOID);
        tp.reno_cong_avoid(ack, acked);
    }
    fn undo_cwnd(&self, tp: &mut Tcp<'_>, _: &mut Conn) -> u32 {
        maybe(tp, place::UNDO_CWND);
        tp.reno_undo_cwnd()
    }
}

usersock_plugin::plugin!(|plugin| {
    // All of its panics are asked for: nobody need be told.
    std::panic::set_hook(Box::new(|_| {}));
    plugin.congestion(Shaky)
});

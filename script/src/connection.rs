//! The connection a script is about: its ports, and how the script's numbers map to those on the wire. Above: `run`.
//!
//! A script counts sequence numbers from each side's initial one (which it writes in its SYNs, usually as 0), and
//! writes timestamps of its own. The stack under test chooses its initial number and timestamps, so both are learnt
//! from its packets. The other side is the script itself: its numbers are used on the wire as written.
use crate::ast::{Direction, Icmp, Options, Quoted, Segment, TcpFlags, TcpOption, Tos};
use crate::packet::{self, IpFields, Seen, SeenBody, TcpSegment};
use crate::setup::Setup;
use crate::under_test::Fd;
use std::collections::HashMap;
use std::net::SocketAddr;
use usersock::internal::wire::tcp;
use usersock::wire::proto;

/// How far a connection has come, as far as the mapping needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// socket(2) was called.
    New,
    /// listen(2) was called: the next SYN that arrives opens a connection.
    Listening,
    /// A SYN has arrived; no SYN-ACK was seen.
    SynReceived,
    /// connect(2) was called; no SYN was seen.
    Connecting,
    /// Our initial sequence number is known.
    Known,
}

/// A connection, or the socket that is to become one.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Descriptor in the script, when a call has given it one.
    pub script_fd: Option<Fd>,
    /// Descriptor of the stack under test.
    pub live_fd: Option<Fd>,
    /// How far it has come.
    pub stage: Stage,
    /// Our address.
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// Our initial sequence number, in the script and on the wire.
    local_isn: (u32, u32),
    /// The other side's, in the script and on the wire alike.
    remote_isn: u32,
    /// Whether a SYN has set it.
    remote_known: bool,
    /// TSval of ours in the script to the one on the wire.
    timestamps: HashMap<u32, u32>,
    /// The first of these.
    first_timestamp: Option<(u32, u32)>,
    /// Defaults of the terse form: the next sequence number to arrive, and the last acknowledgement and window.
    next: u32,
    last_ack: u32,
    last_window: u16,
    /// Whether payload can be predicted: no byte was sent out of band, none written by the script itself.
    pub plain_send: bool,
    /// The same for what arrives.
    pub plain_receive: bool,
    /// Bytes passed to send(2) and similar calls.
    pub sent: u64,
    /// Bytes returned by recv(2) and similar calls.
    pub received: u64,
}

/// The byte at `offset` of any stream that a script does not spell out. It differs between neighbours, and between
/// offsets 256 apart, so that a lost, repeated or misplaced byte is detected.
pub fn pattern(offset: u64) -> u8 {
    offset.wrapping_add(3 * (offset >> 8)).wrapping_add(5 * (offset >> 16)) as u8
}

impl Connection {
    /// A fresh socket.
    pub fn new(setup: &Setup, script_fd: Option<Fd>, live_fd: Option<Fd>, stage: Stage) -> Connection {
        Connection {
            script_fd,
            live_fd,
            stage,
            local: SocketAddr::new(setup.local, setup.bind_port),
            remote: SocketAddr::new(setup.remote, setup.connect_port),
            local_isn: (0, 0),
            remote_isn: 0,
            remote_known: false,
            timestamps: HashMap::new(),
            first_timestamp: None,
            next: 1,
            last_ack: 1,
            last_window: 0,
            plain_send: true,
            plain_receive: true,
            sent: 0,
            received: 0,
        }
    }

    /// The difference between the wire's number and the script's, for our sequence numbers. SYNs carry the initial
    /// number itself, all others count from it.
    fn local_offset(&self, syn: bool) -> u32 {
        let (script, live) = self.local_isn;
        if syn { live.wrapping_sub(script) } else { live }
    }

    fn remote_offset(&self, syn: bool) -> u32 {
        if syn { 0 } else { self.remote_isn }
    }

    /// Whether a packet that left belongs to this connection. The SYN of a connect(2) sets our port.
    pub fn owns(&self, seen: &Seen) -> bool {
        let syn = matches!(&seen.body, SeenBody::Tcp(tcp) if tcp.flags.contains(tcp::TcpFlags::SYN)
            && !tcp.flags.contains(tcp::TcpFlags::ACK));
        match (&seen.body, self.stage) {
            (SeenBody::Icmp(..), _) => seen.destination.ip() == self.remote.ip(),
            (SeenBody::Tcp(_), Stage::Connecting) => syn && seen.destination == self.remote,
            (SeenBody::Udp(_), Stage::Connecting) => seen.destination == self.remote,
            _ => seen.destination == self.remote && seen.source == self.local,
        }
    }

    /// The bytes of a script's segment that arrives now.
    pub fn inbound(&mut self, setup: &Setup, segment: &Segment, ip: IpFields) -> Result<Vec<u8>, String> {
        let flags = segment.flags.unwrap_or(TcpFlags { bits: TcpFlags::ACK, ..TcpFlags::default() });
        let (syn, ack) = (flags.has(TcpFlags::SYN), flags.has(TcpFlags::ACK));
        let (seq, len) = segment.seq.unwrap_or((self.next, 0));
        if syn && !self.remote_known {
            // Only the first SYN: one in the middle of a connection is an attack that the script simulates.
            (self.remote_isn, self.remote_known) = (seq, true);
        }
        if syn && ack && self.stage == Stage::Connecting {
            return Err("a SYN-ACK arrives before the SYN it answers has left".into());
        }
        if flags.has(TcpFlags::URG) {
            self.plain_receive = false;
        }
        let script_ack = segment.ack.unwrap_or(if segment.terse() { self.last_ack } else { 0 });
        let window = segment.window.unwrap_or(if segment.terse() { self.last_window } else { 0 });
        let mut options = match &segment.options {
            Options::These(options) => options.clone(),
            Options::Any => Vec::new(),
        };
        let offset = self.local_offset(syn);
        for option in &mut options {
            match option {
                TcpOption::Sack(blocks) => {
                    for (left, right) in blocks {
                        *left = left.wrapping_add(offset);
                        *right = right.wrapping_add(offset);
                    }
                }
                TcpOption::Timestamp { ecr, .. } if ack => *ecr = self.live_timestamp(setup, *ecr)?,
                _ => {}
            }
        }
        let mut source = self.remote;
        let mut destination = self.local;
        if let Some((from, to)) = segment.ports {
            source.set_port(from);
            destination.set_port(to);
        } else if !flags.has(TcpFlags::RST) {
            self.next =
                if syn { 1 } else { seq.wrapping_add(len.into()).wrapping_add(flags.has(TcpFlags::FIN).into()) };
            self.last_ack = if syn { 1 } else { script_ack };
            self.last_window = window;
        }
        // What a SYN carries begins the stream.
        let first = if syn { 0 } else { u64::from(seq).saturating_sub(1) };
        let bytes = packet::tcp_bytes(
            source,
            destination,
            &TcpSegment {
                seq: seq.wrapping_add(self.remote_offset(syn)),
                ack: if ack { script_ack.wrapping_add(offset) } else { script_ack },
                flags: packet::wire_flags(flags),
                reserved: 0,
                window,
                urgent: segment.urgent,
                options,
                payload: (0..u64::from(len)).map(|i| pattern(first + i)).collect(),
            },
        );
        Ok(packet::ip_packet(source.ip(), destination.ip(), proto::TCP, ip, &bytes))
    }

    /// The TSecr on the wire for one in the script.
    fn live_timestamp(&self, setup: &Setup, script: u32) -> Result<u32, String> {
        match (self.timestamps.get(&script), self.first_timestamp) {
            (Some(live), _) => Ok(*live),
            (None, Some((first, live))) if setup.ts_ecr_scaled => Ok(script.wrapping_sub(first).wrapping_add(live)),
            _ => Err(format!("no earlier outbound packet has the TSval {script} that this ecr names")),
        }
    }

    /// The bytes of an ICMP message that arrives now and quotes a packet of ours.
    pub fn inbound_icmp(&self, icmp: &Icmp, ip: IpFields) -> Result<Vec<u8>, String> {
        let (remote, local) = (self.remote.ip(), self.local.ip());
        let v6 = remote.is_ipv6();
        let Some((kind, code)) = packet::icmp_type(v6, &icmp.kind, icmp.code.as_deref()) else {
            let code = icmp.code.as_deref().unwrap_or("");
            return Err(format!("no ICMP{} type and code are named {} {code}", if v6 { "v6" } else { "" }, icmp.kind));
        };
        let word = match (icmp.mtu, icmp.id) {
            (Some(mtu), None) => mtu,
            (None, Some(id)) => u32::from(id) << 16,
            (None, None) => 0,
            (Some(_), Some(_)) => return Err("an ICMP message has an mtu or an id".into()),
        };
        let echo = matches!(icmp.kind.as_str(), "echo_request" | "echo_reply");
        let (protocol, mut quoted, len) = match icmp.quoted {
            _ if echo => (0, Vec::new(), 0),
            Quoted::Raw { len } => (255, Vec::new(), len),
            Quoted::Udp { len } => (proto::UDP, packet::udp_bytes(self.local, self.remote, &vec![0; len.into()]), len),
            Quoted::Nothing => (proto::TCP, self.quoted_segment(0, 0), 0),
            Quoted::Tcp { seq, len } => (proto::TCP, self.quoted_segment(seq, len), len),
        };
        let rest = if echo {
            Vec::new()
        } else {
            // A host quotes at least the IP header and eight octets (RFC 792); here the whole transport header.
            let mut whole = quoted.clone();
            whole.resize(whole.len().max(usize::from(len) + tcp::HEADER_LEN), 0);
            let datagram = packet::ip_packet(local, remote, protocol, IpFields::default(), &whole);
            quoted.truncate(tcp::HEADER_LEN);
            datagram[..datagram.len() - whole.len() + quoted.len().max(8)].to_vec()
        };
        let protocol = if v6 { proto::ICMPV6 } else { proto::ICMP };
        Ok(packet::ip_packet(remote, local, protocol, ip, &packet::icmp_bytes(remote, local, kind, code, word, &rest)))
    }

    fn quoted_segment(&self, seq: u32, len: u16) -> Vec<u8> {
        let segment = TcpSegment {
            seq: seq.wrapping_add(self.local_offset(false)),
            ack: 0,
            flags: tcp::TcpFlags::ACK,
            reserved: 0,
            window: 0,
            urgent: 0,
            options: Vec::new(),
            payload: vec![0; len.into()],
        };
        let mut bytes = packet::tcp_bytes(self.local, self.remote, &segment);
        bytes.truncate(tcp::HEADER_LEN);
        bytes
    }

    /// Learns from a segment that left, when the script expects `wanted`: our port and our initial sequence number.
    pub fn learn(&mut self, wanted: &Segment, seen: &Seen) {
        let SeenBody::Tcp(live) = &seen.body else { return };
        let syn = wanted.flags.is_some_and(|f| f.has(TcpFlags::SYN)) && live.flags.contains(tcp::TcpFlags::SYN);
        if syn && matches!(self.stage, Stage::Connecting | Stage::SynReceived) {
            self.local = seen.source;
            self.local_isn = (wanted.seq.map_or(0, |(seq, _)| seq), live.seq);
            self.stage = Stage::Known;
        }
    }

    /// A live segment in the script's numbers. Timestamps are kept, so that later `ecr`s can name them: `wanted` has
    /// the script's.
    pub fn in_script_numbers(&mut self, wanted: Option<&Segment>, live: &TcpSegment) -> TcpSegment {
        let mut segment = live.clone();
        let syn = live.flags.contains(tcp::TcpFlags::SYN);
        segment.seq = live.seq.wrapping_sub(self.local_offset(syn));
        if live.flags.contains(tcp::TcpFlags::ACK) {
            segment.ack = live.ack.wrapping_sub(self.remote_offset(syn));
        }
        let wanted_val = wanted.and_then(|wanted| match &wanted.options {
            Options::These(list) => list.iter().find_map(|option| match option {
                TcpOption::Timestamp { val, .. } => Some(*val),
                _ => None,
            }),
            Options::Any => None,
        });
        for option in &mut segment.options {
            match option {
                TcpOption::Sack(blocks) => {
                    let offset = self.remote_offset(syn);
                    for (left, right) in blocks {
                        *left = left.wrapping_sub(offset);
                        *right = right.wrapping_sub(offset);
                    }
                }
                TcpOption::Timestamp { val, .. } => {
                    if let Some(wanted) = wanted_val {
                        self.timestamps.insert(wanted, *val);
                        self.first_timestamp.get_or_insert((wanted, *val));
                    }
                    if let Some((script, first)) = self.first_timestamp {
                        *val = val.wrapping_sub(first).wrapping_add(script);
                    }
                }
                _ => {}
            }
        }
        segment
    }
}

/// Compares a segment that left, in the script's numbers, with the one the script wants; the text names the first
/// difference.
pub fn compare(setup: &Setup, tolerance: i64, wanted: &Segment, actual: &TcpSegment) -> Result<(), String> {
    fn same<T: PartialEq + std::fmt::Display>(what: &str, wanted: T, actual: T) -> Result<(), String> {
        if wanted == actual { Ok(()) } else { Err(format!("{what}: expected {wanted}, actual {actual}")) }
    }
    let flags = wanted.flags.unwrap_or(TcpFlags { bits: TcpFlags::ACK, ..TcpFlags::default() });
    let mut actual_flags = actual.flags;
    if wanted.terse() {
        actual_flags.remove(tcp::TcpFlags::PSH);
    }
    if actual_flags != packet::wire_flags(flags) {
        return Err("flags differ".into());
    }
    same("reserved bits", 0, actual.reserved)?;
    if let Some((seq, len)) = wanted.seq {
        same("sequence number", seq, actual.seq)?;
        same("payload length", usize::from(len), actual.payload.len())?;
    }
    match wanted.ack {
        Some(ack) => same("acknowledgement", ack, actual.ack)?,
        None if wanted.terse() => {}
        None => same("acknowledgement", 0, actual.ack)?,
    }
    if let Some(window) = wanted.window {
        same("window", window, actual.window)?;
    }
    same("urgent pointer", wanted.urgent, actual.urgent)?;
    let Options::These(options) = &wanted.options else { return Ok(()) };
    if options.len() != actual.options.len() {
        return Err("options differ".into());
    }
    for (wanted, actual) in options.iter().zip(&actual.options) {
        match (wanted, actual) {
            (TcpOption::Timestamp { val: a, ecr: a_ecr }, TcpOption::Timestamp { val: b, ecr: b_ecr }) => {
                same("TSecr", a_ecr, b_ecr)?;
                let apart = i64::from(a.wrapping_sub(*b) as i32).abs();
                if setup.ts_tick > 0 && apart * setup.ts_tick > tolerance {
                    return Err(format!("TSval: expected {a}, actual {b}"));
                }
            }
            _ if wanted == actual => {}
            _ => return Err(format!("options differ: expected {wanted}, actual {actual}")),
        }
    }
    Ok(())
}

/// Compares the IP fields a script names with those of a packet that left.
pub fn compare_ip(wanted: &crate::ast::IpInfo, seen: &Seen) -> Result<(), String> {
    let ecn = seen.tos & 3;
    let ok = match wanted.tos {
        None => true,
        Some(Tos::Ecn(bits)) => ecn == bits,
        Some(Tos::Ect01) => ecn == 1 || ecn == 2,
        Some(Tos::Octet(tos)) => seen.tos == tos,
    };
    if !ok {
        return Err(format!("tos: actual {:#04x}", seen.tos));
    }
    if wanted.ttl.is_some_and(|ttl| ttl != seen.ttl) {
        return Err(format!("ttl: actual {}", seen.ttl));
    }
    if wanted.flow_label.is_some_and(|label| label != seen.flow_label) {
        return Err(format!("flow label: actual {:#x}", seen.flow_label));
    }
    Ok(())
}

/// The IP fields of a packet that arrives.
pub fn ip_fields(info: &crate::ast::IpInfo) -> IpFields {
    let tos = match info.tos {
        Some(Tos::Ecn(bits)) => bits,
        Some(Tos::Octet(tos)) => tos,
        Some(Tos::Ect01) | None => 0,
    };
    IpFields { tos, ttl: info.ttl, flow_label: info.flow_label.unwrap_or(0) }
}

/// `<` or `>`.
pub fn arrow(direction: Direction) -> char {
    match direction {
        Direction::Inbound => '<',
        Direction::Outbound => '>',
    }
}

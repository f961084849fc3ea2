//! Bytes of packets that arrive, and a view of packets that left. Above: `run` and `connection`, which map numbers.
//! Below: `wire`.
use crate::ast::{Options, TcpFlags, TcpOption};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use usersock::internal::wire::{ip, tcp, tcp_options};
use usersock::wire::{checksum, proto, seq};

/// TTL of packets that arrive; what packetdrill sends.
const TTL: u8 = 255;

/// Fields of the IP header of an arriving packet, beside the addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct IpFields {
    /// TOS or traffic class.
    pub tos: u8,
    /// Hops; `None` for the default.
    pub ttl: Option<u8>,
    /// Flow label, of IPv6.
    pub flow_label: u32,
}

/// A TCP segment in wire numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSegment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: tcp::TcpFlags,
    /// Reserved bits below AE that must be zero.
    pub reserved: u8,
    /// Window as carried.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, NOPs included.
    pub options: Vec<TcpOption>,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A packet that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Source; port 0 for ICMP.
    pub source: SocketAddr,
    /// Destination; port 0 for ICMP.
    pub destination: SocketAddr,
    /// TOS or traffic class.
    pub tos: u8,
    /// Hops.
    pub ttl: u8,
    /// Flow label, 0 for IPv4.
    pub flow_label: u32,
    /// What it carries.
    pub body: SeenBody,
}

/// What a packet that left carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenBody {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram's payload.
    Udp(Vec<u8>),
    /// Type, code and the rest of an ICMP or ICMPv6 message after its checksum.
    Icmp(u8, u8, Vec<u8>),
}

/// The flags of a script as those of a header.
pub fn wire_flags(flags: TcpFlags) -> tcp::TcpFlags {
    let ace = u16::from(flags.ace.unwrap_or(0));
    // ACE is AE, CWR, ECE from high to low (RFC 9768 §3.2.2).
    let ace = (ace & 1) << 6 | (ace & 2) << 6 | (ace & 4) << 6;
    tcp::TcpFlags::from_bits(u16::from(flags.bits) | u16::from(flags.ae) << 8 | ace)
}

/// Wraps a transport message into an IP packet.
pub fn ip_packet(source: IpAddr, destination: IpAddr, protocol: u8, fields: IpFields, message: &[u8]) -> Vec<u8> {
    let ttl = fields.ttl.unwrap_or(TTL);
    let mut packet;
    match (source, destination) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet = vec![0; ip::HEADER_LEN];
            let header = ip::Ipv4Repr { ttl, tos: fields.tos, ..ip::Ipv4Repr::new(src, dst, protocol, message.len()) };
            header.emit(&mut packet);
        }
        _ => {
            let word = 6 << 28 | u32::from(fields.tos) << 20 | fields.flow_label & 0xf_ffff;
            packet = word.to_be_bytes().to_vec();
            packet.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
            packet.extend([protocol, ttl]);
            packet.extend(as_v6(source).octets());
            packet.extend(as_v6(destination).octets());
        }
    }
    packet.extend_from_slice(message);
    packet
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A TCP segment's bytes, options padded with EOL to a multiple of four, with its checksum.
pub fn tcp_bytes(source: SocketAddr, destination: SocketAddr, segment: &TcpSegment) -> Vec<u8> {
    let mut options = emit_options(&segment.options);
    options.resize(options.len().next_multiple_of(4).min(tcp::MAX_OPTIONS_LEN), tcp_options::kind::EOL);
    options.truncate(tcp::MAX_OPTIONS_LEN);
    let mut bytes = vec![0; tcp::HEADER_LEN];
    let header = tcp::TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        seq: seq::SeqNum(segment.seq),
        ack: seq::SeqNum(segment.ack),
        flags: segment.flags,
        window: seq::RawWindow(segment.window),
        urgent: segment.urgent,
        options_len: options.len(),
    };
    header.emit(&mut bytes);
    bytes.extend(options);
    bytes.extend(&segment.payload);
    tcp::fill_checksum(&mut bytes, source.ip(), destination.ip());
    bytes
}

/// A UDP datagram's bytes with its checksum.
pub fn udp_bytes(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len();
    let mut bytes = Vec::with_capacity(len);
    for field in [source.port(), destination.port(), u16::try_from(len).unwrap_or(0), 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(payload);
    let pseudo = checksum::pseudo_header(source.ip(), destination.ip(), proto::UDP, len as u32);
    let sum = checksum::finish(checksum::sum(&bytes, pseudo));
    let sum = if sum == 0 { 0xffff } else { sum }; // 0 means no checksum (RFC 768)
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An ICMP or ICMPv6 message with its checksum: type, code, the four octets after the checksum, and what follows.
pub fn icmp_bytes(source: IpAddr, destination: IpAddr, kind: u8, code: u8, word: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(word.to_be_bytes());
    bytes.extend(rest);
    // The checksum of ICMPv6 includes a pseudo-header (RFC 4443 §2.3), that of ICMP does not (RFC 792).
    let pseudo = match source {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => checksum::pseudo_header(source, destination, proto::ICMPV6, bytes.len() as u32),
    };
    let sum = checksum::finish(checksum::sum(&bytes, pseudo));
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn emit_options(options: &[TcpOption]) -> Vec<u8> {
    use tcp_options::kind;
    let mut bytes = Vec::new();
    for option in options {
        let (kind, data): (u8, Vec<u8>) = match option {
            TcpOption::Nop => {
                bytes.push(kind::NOP);
                continue;
            }
            TcpOption::Eol => {
                bytes.push(kind::EOL);
                continue;
            }
            TcpOption::Mss(mss) => (kind::MSS, mss.to_be_bytes().to_vec()),
            TcpOption::WindowScale(shift) => (kind::WINDOW, vec![*shift]),
            TcpOption::SackPermitted => (kind::SACK_PERM, Vec::new()),
            TcpOption::Sack(blocks) => {
                (kind::SACK, blocks.iter().flat_map(|(l, r)| [l.to_be_bytes(), r.to_be_bytes()]).flatten().collect())
            }
            TcpOption::Timestamp { val, ecr } => (kind::TIMESTAMP, [val.to_be_bytes(), ecr.to_be_bytes()].concat()),
            TcpOption::Md5(digest) => (kind::MD5SIG, digest.clone()),
            TcpOption::FastOpen(cookie) => (kind::FASTOPEN, cookie.clone()),
            TcpOption::FastOpenExp(cookie) => {
                (kind::EXP, [&tcp_options::FASTOPEN_MAGIC.to_be_bytes()[..], cookie].concat())
            }
            TcpOption::AccEcn { e1b_first, counters } => (
                if *e1b_first { kind::ACCECN1 } else { kind::ACCECN0 },
                counters.iter().flat_map(|c| c.to_be_bytes()[1..].to_vec()).collect(),
            ),
        };
        bytes.extend([kind, 2 + data.len() as u8]);
        bytes.extend(data);
    }
    bytes
}

/// The options of a header, NOPs and one EOL included; an option that the language does not have is an error.
fn read_options(bytes: &[u8]) -> Result<Vec<TcpOption>, String> {
    use tcp_options::kind;
    let be = |bytes: &[u8]| bytes.iter().fold(0u32, |value, &b| value << 8 | u32::from(b));
    let mut options = Vec::new();
    let mut end = 0;
    for option in tcp_options::RawOptions::new(bytes) {
        end = option.offset + option.data.len();
        let data = option.data;
        options.push(match (option.kind, data.len()) {
            (kind::NOP, _) => TcpOption::Nop,
            (kind::MSS, 2) => TcpOption::Mss(be(data) as u16),
            (kind::WINDOW, 1) => TcpOption::WindowScale(data[0]),
            (kind::SACK_PERM, 0) => TcpOption::SackPermitted,
            (kind::SACK, 8 | 16 | 24 | 32) => {
                TcpOption::Sack(data.chunks_exact(8).map(|b| (be(&b[..4]), be(&b[4..]))).collect())
            }
            (kind::TIMESTAMP, 8) => TcpOption::Timestamp { val: be(&data[..4]), ecr: be(&data[4..]) },
            (kind::MD5SIG, _) => TcpOption::Md5(data.to_vec()),
            (kind::FASTOPEN, _) => TcpOption::FastOpen(data.to_vec()),
            (kind::EXP, 2..) if be(&data[..2]) == u32::from(tcp_options::FASTOPEN_MAGIC) => {
                TcpOption::FastOpenExp(data[2..].to_vec())
            }
            (kind::ACCECN0 | kind::ACCECN1, 3 | 6 | 9) => TcpOption::AccEcn {
                e1b_first: option.kind == kind::ACCECN1,
                counters: data.chunks_exact(3).map(be).collect(),
            },
            (kind, len) => return Err(format!("option of kind {kind} with {len} bytes of data")),
        });
    }
    match bytes.get(end) {
        None => Ok(options),
        Some(&kind::EOL) => {
            options.push(TcpOption::Eol);
            Ok(options)
        }
        Some(kind) => Err(format!("malformed option of kind {kind}")),
    }
}

impl Seen {
    /// Reads a packet that left, and checks its lengths and checksums: a stack that sends a bad one fails the script.
    pub fn parse(packet: &[u8]) -> Result<Seen, String> {
        let (source, destination, protocol, tos, ttl, flow_label, message);
        match packet.first().map(|b| b >> 4) {
            Some(4) => {
                let header = ip::Ipv4Header::parse(packet).map_err(|e| format!("bad IPv4 header: {e:?}"))?;
                if !header.checksum_ok() {
                    return Err("bad checksum in the IPv4 header".into());
                }
                if header.total_len() != packet.len() {
                    return Err(format!("IPv4 length {} in a packet of {} bytes", header.total_len(), packet.len()));
                }
                if header.is_fragment() {
                    return Err("the packet is a fragment".into());
                }
                (source, destination) = (IpAddr::V4(header.src()), IpAddr::V4(header.dst()));
                (protocol, tos, ttl, flow_label) = (header.protocol(), header.tos(), header.ttl(), 0);
                message = header.payload();
            }
            Some(6) if packet.len() >= 40 => {
                let word = u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]);
                let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                if len + 40 != packet.len() {
                    return Err(format!("IPv6 payload length {len} in a packet of {} bytes", packet.len()));
                }
                let address = |at: usize| {
                    let octets: [u8; 16] = std::array::from_fn(|i| packet[at + i]);
                    IpAddr::V6(octets.into())
                };
                (source, destination) = (address(8), address(24));
                (protocol, tos, ttl, flow_label) = (packet[6], (word >> 20) as u8, packet[7], word & 0xf_ffff);
                message = &packet[40..];
            }
            _ => return Err("no IP packet".into()),
        }
        let mut ports = (0, 0);
        let body = match protocol {
            proto::TCP => {
                let header = tcp::TcpHeader::parse(message).map_err(|e| format!("bad TCP header: {e:?}"))?;
                if !header.checksum_ok(source, destination) {
                    return Err("bad TCP checksum".into());
                }
                ports = (header.src_port(), header.dst_port());
                SeenBody::Tcp(TcpSegment {
                    seq: header.seq().0,
                    ack: header.ack().0,
                    flags: header.flags(),
                    reserved: header.reserved(),
                    window: header.window().0,
                    urgent: header.urgent(),
                    options: read_options(header.option_bytes())?,
                    payload: header.payload().to_vec(),
                })
            }
            proto::UDP if message.len() >= 8 => {
                let pseudo = checksum::pseudo_header(source, destination, protocol, message.len() as u32);
                if (source.is_ipv6() || message[6..8] != [0, 0]) && !checksum::is_valid(checksum::sum(message, pseudo))
                {
                    return Err("bad UDP checksum".into());
                }
                let port = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
                ports = (port(0), port(2));
                SeenBody::Udp(message[8..].to_vec())
            }
            proto::ICMP | proto::ICMPV6 if message.len() >= 8 => {
                let pseudo = match protocol {
                    proto::ICMP => 0,
                    _ => checksum::pseudo_header(source, destination, protocol, message.len() as u32),
                };
                if !checksum::is_valid(checksum::sum(message, pseudo)) {
                    return Err("bad ICMP checksum".into());
                }
                SeenBody::Icmp(message[0], message[1], message[4..].to_vec())
            }
            _ => return Err(format!("no TCP, UDP or ICMP packet: protocol {protocol}, {} bytes", message.len())),
        };
        let source = SocketAddr::new(source, ports.0);
        Ok(Seen { source, destination: SocketAddr::new(destination, ports.1), tos, ttl, flow_label, body })
    }
}

/// Type, code and name of the ICMP messages that scripts may use, for IPv4 and IPv6.
pub fn icmp_type(v6: bool, kind: &str, code: Option<&str>) -> Option<(u8, u8)> {
    Some(match (v6, kind, code) {
        (false, "echo_reply", None) => (0, 0),
        (false, "echo_request", None) => (8, 0),
        (false, "time_exceeded", None) => (11, 0),
        (false, "parameter_problem", None) => (12, 0),
        (false, "source_quench", None) => (4, 0),
        (false, "redirect", None) => (5, 0),
        (false, "unreachable", Some(code)) => {
            let codes = [
                "net_unreachable",
                "host_unreachable",
                "protocol_unreachable",
                "port_unreachable",
                "frag_needed",
                "source_route_failed",
                "net_unknown",
                "host_unknown",
                "source_host_isolated",
                "net_prohibited",
                "host_prohibited",
                "net_unreachable_for_tos",
                "host_unreachable_for_tos",
                "packet_filtered",
                "precedence_violation",
                "precedence_cutoff",
            ];
            (3, codes.iter().position(|&name| name == code)? as u8)
        }
        (true, "unreachable", Some(code)) => {
            let codes =
                ["net_unreachable", "admin_prohibited", "not_neighbour", "address_unreachable", "port_unreachable"];
            (1, codes.iter().position(|&name| name == code)? as u8)
        }
        (true, "packet_too_big", None) => (2, 0),
        (true, "time_exceeded", None | Some("exceeded_hop_limit")) => (3, 0),
        (true, "time_exceeded", Some("exceeded_frag_time")) => (3, 1),
        (true, "parameter_problem", None | Some("header_field")) => (4, 0),
        (true, "parameter_problem", Some("unknown_next_header")) => (4, 1),
        (true, "parameter_problem", Some("unknown_option")) => (4, 2),
        (true, "echo_request", None) => (128, 0),
        (true, "echo_reply", None) => (129, 0),
        _ => return None,
    })
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            TcpOption::Nop => f.write_str("nop"),
            TcpOption::Eol => f.write_str("eol"),
            TcpOption::Mss(mss) => write!(f, "mss {mss}"),
            TcpOption::WindowScale(shift) => write!(f, "wscale {shift}"),
            TcpOption::SackPermitted => f.write_str("sackOK"),
            TcpOption::Sack(blocks) => {
                f.write_str("sack")?;
                blocks.iter().try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            TcpOption::Timestamp { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            TcpOption::Md5(digest) => write!(f, "md5 {}", hex(digest)),
            TcpOption::FastOpen(cookie) => write!(f, "FO {}", hex(cookie)),
            TcpOption::FastOpenExp(cookie) => write!(f, "FOEXP {}", hex(cookie)),
            TcpOption::AccEcn { e1b_first, counters } => {
                let names = if *e1b_first { ["e1b", "ceb", "e0b"] } else { ["e0b", "ceb", "e1b"] };
                f.write_str("ECN")?;
                names.iter().zip(counters).try_for_each(|(name, count)| write!(f, " {name} {count}"))
            }
        }
    }
}

impl fmt::Display for TcpSegment {
    /// As a script writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String = (0..8)
            .filter(|bit| self.flags.bits() >> bit & 1 == 1)
            .map(|bit| char::from(TcpFlags::LETTERS[bit]))
            .chain(self.flags.contains(tcp::TcpFlags::AE).then_some('A'))
            .collect();
        let len = self.payload.len();
        let last = self.seq.wrapping_add(len as u32);
        write!(f, "{} {}:{last}({len})", if letters.is_empty() { "-" } else { &letters }, self.seq)?;
        if self.flags.contains(tcp::TcpFlags::ACK) {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {}", self.window)?;
        if self.urgent != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        if !self.options.is_empty() {
            write!(f, " {}", Options::These(self.options.clone()))?;
        }
        Ok(())
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Options::Any => f.write_str("<...>"),
            Options::These(list) => {
                let list: Vec<String> = list.iter().map(TcpOption::to_string).collect();
                write!(f, "<{}>", list.join(","))
            }
        }
    }
}

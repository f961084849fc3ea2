//! What a packet script says, as data. Above: `parser` builds it. Below: `run` plays it. Nothing here knows of a stack;
//! numbers are the script's own (relative sequence numbers, script time), not those on the wire.
use crate::code::Code;
use crate::cursor::Pos;

/// A point or span of script time, in microseconds.
pub type Micros = i64;

/// A whole script.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// `--name=value` lines at the top, in order.
    pub options: Vec<ScriptOption>,
    /// A backtick command before the first timed event; run before time starts.
    pub init: Option<Command>,
    /// The events, in order.
    pub events: Vec<Event>,
    /// A backtick command after the last timed event; run whatever the script's outcome.
    pub cleanup: Option<Command>,
}

/// One `--name=value` or `--name` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptOption {
    /// Where it stands.
    pub pos: Pos,
    /// Name without the dashes.
    pub name: String,
    /// Value, if the line has one; quotes removed.
    pub value: Option<String>,
}

/// A shell command between backticks, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Where it stands.
    pub pos: Pos,
    /// The text between the backticks.
    pub text: String,
}

/// One line of action.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Where it stands.
    pub pos: Pos,
    /// When it is to happen.
    pub when: When,
    /// What is to happen.
    pub action: Action,
}

/// When an event is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `+.1`: so long after the event before.
    Relative(Micros),
    /// `.1`: so long after the start of the script.
    Absolute(Micros),
    /// `+.1~+.3`: between the two, counted from the event before. Outbound packets only.
    RelativeRange(Micros, Micros),
    /// `.1~.3`: between the two. Outbound packets only.
    AbsoluteRange(Micros, Micros),
    /// `*`: at any time. Outbound packets only.
    Any,
}

/// What happens in an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A packet arrives or must leave.
    Packet(Packet),
    /// A system call.
    Call(SystemCall),
    /// A backtick command.
    Command(Command),
    /// Assertions over `tcp_info`.
    Code(Code),
}

/// Which way a packet goes, seen from the stack under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `<`: it arrives.
    Inbound,
    /// `>`: it must leave.
    Outbound,
}

/// A packet that arrives or must leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which way it goes.
    pub direction: Direction,
    /// Fields of the IP header.
    pub ip: IpInfo,
    /// What it carries.
    pub body: Body,
}

/// What a script states about the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpInfo {
    /// The ECN bits or the whole TOS field; `None`: not written, so neither set nor compared.
    pub tos: Option<Tos>,
    /// Flow label of IPv6 (`flowlabel 0x12345`).
    pub flow_label: Option<u32>,
    /// Time to live or hop limit (`ttl 64`).
    pub ttl: Option<u8>,
}

/// What a script states about the TOS octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tos {
    /// The two ECN bits (`noecn` 0, `ect1` 1, `ect0` 2, `ce` 3).
    Ecn(u8),
    /// `ect01`: ECT(0) or ECT(1). Outbound packets only.
    Ect01,
    /// `tos 0x28`: the whole octet.
    Octet(u8),
}

/// Source and destination port where a packet names them (`8080 > 40000`).
pub type Ports = Option<(u16, u16)>;

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A TCP segment.
    Tcp(Segment),
    /// A UDP datagram with so many bytes of payload.
    Udp {
        /// Ports, where named.
        ports: Ports,
        /// Payload in bytes.
        len: u16,
    },
    /// An ICMP or ICMPv6 message.
    Icmp(Icmp),
}

/// A TCP segment. What is `None` was not written: on arrival it is filled in from the connection, on leaving it is not
/// compared (the exceptions that packetdrill makes are named at each field).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Ports, where named.
    pub ports: Ports,
    /// Flags; `None` in the terse form, which means ACK, with PSH not compared.
    pub flags: Option<TcpFlags>,
    /// First sequence number and bytes of payload; `None` in the terse form: the next expected one, no payload.
    pub seq: Option<(u32, u16)>,
    /// Acknowledgement; absent outside the terse form it is 0, as in packetdrill.
    pub ack: Option<u32>,
    /// Window as carried, unscaled. On arrival 0 is sent where none is written (packetdrill's own default), in the
    /// terse form the last one written.
    pub window: Option<u16>,
    /// Urgent pointer; 0 where not written.
    pub urgent: u16,
    /// Options.
    pub options: Options,
}

impl Segment {
    /// Whether the short form was used (`> 1:1001`, `< ack 1`), in which what is not written is not compared.
    pub fn terse(&self) -> bool {
        self.flags.is_none()
    }
}

/// TCP flags as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// `F S R P . U E W`, as the low eight bits of the header's flag field.
    pub bits: u8,
    /// `A`: the AE bit (RFC 9768).
    pub ae: bool,
    /// A digit 0 to 7 in place of `E`, `W` and `A`: the ACE counter (RFC 9768 §3.2.2).
    pub ace: Option<u8>,
}

impl TcpFlags {
    /// The flag letters in the order of their bits, FIN first.
    pub const LETTERS: [u8; 8] = *b"FSRP.UEW";
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK, written `.`.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;
    /// ECE, written `E`.
    pub const ECE: u8 = 0x40;
    /// CWR, written `W`.
    pub const CWR: u8 = 0x80;

    /// Whether all of `bits` are set.
    pub fn has(self, bits: u8) -> bool {
        self.bits & bits == bits
    }
}

/// The option list of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// `<...>`, or nothing written in the terse form: not compared. Outbound packets only.
    Any,
    /// Exactly these, in this order.
    These(Vec<TcpOption>),
}

/// One TCP option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// `nop`.
    Nop,
    /// `eol`.
    Eol,
    /// `mss 1460`.
    Mss(u16),
    /// `wscale 7`.
    WindowScale(u8),
    /// `sackOK`.
    SackPermitted,
    /// `sack 1001:2001 3001:4001`; edges in the script's numbers.
    Sack(Vec<(u32, u32)>),
    /// `TS val 100 ecr 0`.
    Timestamp {
        /// TSval.
        val: u32,
        /// TSecr.
        ecr: u32,
    },
    /// `md5 0123..`: RFC 2385 digest, as many bytes as written.
    Md5(Vec<u8>),
    /// `FO` and `FO c00c1e..` (RFC 7413).
    FastOpen(Vec<u8>),
    /// `FOEXP`: the same with the experimental kind 254.
    FastOpenExp(Vec<u8>),
    /// `ECN e0b 1 ceb 0 e1b 1`: the counters of AccECN in the order written (RFC 9768 §3.2.3).
    AccEcn {
        /// Whether the list starts with `e1b` (kind 174) and not with `e0b` (kind 172).
        e1b_first: bool,
        /// One to three 24-bit counters.
        counters: Vec<u32>,
    },
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type by name (`unreachable`, `echo_request`, ...).
    pub kind: String,
    /// Code by name (`host_unreachable`, `frag_needed`, ...), where the type has any.
    pub code: Option<String>,
    /// `mtu 1300`.
    pub mtu: Option<u32>,
    /// `id 7` of an echo.
    pub id: Option<u16>,
    /// What it quotes.
    pub quoted: Quoted,
}

/// What an ICMP message quotes of the packet that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// Nothing written: the segment at sequence number 0 of the script.
    Nothing,
    /// `[1:1001(1000)]`: a TCP segment of ours.
    Tcp {
        /// First sequence number.
        seq: u32,
        /// Bytes of payload.
        len: u16,
    },
    /// `[udp (1000)]`.
    Udp {
        /// Bytes of payload.
        len: u16,
    },
    /// `[raw (1000)]`.
    Raw {
        /// Bytes of payload.
        len: u16,
    },
}

/// A system call with its expected result.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemCall {
    /// Where the name stands.
    pub pos: Pos,
    /// For a call that blocks, the time at which it is to return, in the same terms as the event's own time.
    pub end: Option<Micros>,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// Its result; `None` (`...` or not written): any that is no error.
    pub result: Option<Expr>,
    /// Name of the expected errno.
    pub errno: Option<String>,
}

/// An argument of a system call. Structures are kept as they were written; the call that takes one gives it its
/// meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `...`.
    Ellipsis,
    /// A number.
    Int(i64),
    /// A symbol, still to be looked up.
    Word(String),
    /// A string; escapes resolved, neighbours joined.
    Str(Vec<u8>),
    /// A string followed by `...`: the start of a buffer.
    StrPrefix(Vec<u8>),
    /// `a | b`.
    Or(Box<Expr>, Box<Expr>),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `{a, b = c, ...}`.
    Struct(Vec<Field>),
    /// `htons(8080)`.
    Apply(String, Vec<Expr>),
    /// `symbol = value`, outside a structure.
    Assign(String, Box<Expr>),
}

/// One member of a structure.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name, if it has one (`sin_port=`).
    pub name: Option<String>,
    /// What stands in parentheses after the name (`msg_iov(2)=`).
    pub count: Option<Expr>,
    /// Its value.
    pub value: Expr,
}

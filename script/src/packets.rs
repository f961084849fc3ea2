//! Packet descriptions. Above: `parser`, which has taken the `<` or `>`. The terse form of this project's scripts (`>
//! 1:1001`, `< ack 1 sack 1001:2001`) is read here too; what it leaves out stays out, and the runner fills it in.
use crate::ast::{Body, Direction, Icmp, IpInfo, Options, Packet, Ports, Quoted, Segment, TcpFlags, TcpOption, Tos};
use crate::cursor::{Cursor, Read};
use crate::defines::Defines;

const U8: i64 = u8::MAX as i64;
const U16: i64 = u16::MAX as i64;
const U24: i64 = (1 << 24) - 1;
const U32: i64 = u32::MAX as i64;

/// Words that open a TCP option: they tell `<mss 1460>` from a packet that follows on the same line.
const OPTION_WORDS: [&str; 12] =
    ["nop", "eol", "mss", "wscale", "sackOK", "sack", "TS", "md5", "FO", "FOEXP", "ECN", "ACCECN"];

/// A packet, after its direction.
pub(crate) fn packet(cursor: &mut Cursor<'_>, names: &Defines, direction: Direction) -> Read<Packet> {
    let word = cursor.peek_word()?;
    if matches!(word, "ipv4" | "ipv6" | "gre" | "GREv0" | "mpls") {
        return cursor.error(format!("encapsulation in {word} is not supported"));
    }
    let ip = ip_info(cursor, direction)?;
    if cursor.eat_word("encap")? {
        return cursor.error("encapsulation in PSP is not supported");
    }
    if cursor.eat_word("udp")? {
        let ports = ports(cursor)?;
        let len = payload(cursor)?;
        return Ok(Packet { direction, ip, body: Body::Udp { ports, len } });
    }
    if cursor.eat_word("icmp")? || cursor.eat_word("icmpv6")? {
        return Ok(Packet { direction, ip, body: Body::Icmp(icmp(cursor, names)?) });
    }
    Ok(Packet { direction, ip, body: Body::Tcp(segment(cursor, names, direction)?) })
}

/// `[ect0]`, `(tos 0x28, flowlabel 0x1)`, `[ttl 3]`; nothing is said where neither bracket is next.
fn ip_info(cursor: &mut Cursor<'_>, direction: Direction) -> Read<IpInfo> {
    let mut info = IpInfo::default();
    let close = if cursor.eat("[")? {
        "]"
    } else if cursor.peek() == Some('(') {
        cursor.expect("(")?;
        ")"
    } else {
        return Ok(info);
    };
    loop {
        let start = cursor.clone();
        match cursor.word("an IP header field")? {
            "noecn" => info.tos = Some(Tos::Ecn(0)),
            "ect1" => info.tos = Some(Tos::Ecn(1)),
            "ect0" => info.tos = Some(Tos::Ecn(2)),
            "ce" => info.tos = Some(Tos::Ecn(3)),
            "ect01" if direction == Direction::Inbound => return start.error("ect01 is for outbound packets"),
            "ect01" => info.tos = Some(Tos::Ect01),
            "tos" => info.tos = Some(Tos::Octet(cursor.integer("tos", 0, U8)? as u8)),
            "flowlabel" => info.flow_label = Some(cursor.integer("flowlabel", 0, (1 << 20) - 1)? as u32),
            "ttl" => info.ttl = Some(cursor.integer("ttl", 0, U8)? as u8),
            _ => return start.expected("an ECN codepoint, tos, ttl or flowlabel"),
        }
        if cursor.eat(close)? {
            return Ok(info);
        }
        cursor.expect(",")?;
    }
}

/// `src > dst`, if both are there.
fn ports(cursor: &mut Cursor<'_>) -> Read<Ports> {
    let mut ahead = cursor.clone();
    if !ahead.at_number()? || ahead.number("a port").is_err() || !ahead.eat(">")? || !ahead.at_number()? {
        return Ok(None);
    }
    // `> 1:1001 > 1001:2001` is two packets: a colon right after the second number makes it a sequence range.
    if ahead.number("a port").is_err() || ahead.rest().starts_with(':') {
        return Ok(None);
    }
    let source = cursor.integer("source port", 0, U16)? as u16;
    cursor.expect(">")?;
    Ok(Some((source, cursor.integer("destination port", 0, U16)? as u16)))
}

/// `(len)`.
fn payload(cursor: &mut Cursor<'_>) -> Read<u16> {
    cursor.expect("(")?;
    let len = cursor.integer("payload length", 0, U16)? as u16;
    cursor.expect(")")?;
    Ok(len)
}

/// `first:last(len)`; the length may be left out in the terse form.
fn sequence(cursor: &mut Cursor<'_>, length_needed: bool) -> Read<(u32, u16)> {
    cursor.skip()?;
    let start = cursor.clone();
    let first = cursor.integer("sequence number", 0, U32)? as u32;
    cursor.expect(":")?;
    let last = cursor.integer("sequence number", 0, U32)? as u32;
    let spanned = last.wrapping_sub(first);
    if !length_needed && cursor.peek() != Some('(') {
        return match u16::try_from(spanned) {
            Ok(len) => Ok((first, len)),
            Err(_) => start.error(format!("{first}:{last} is no range of at most {U16} bytes")),
        };
    }
    let len = payload(cursor)?;
    if spanned != u32::from(len) {
        return start.error(format!("{first}:{last}({len}): the range has {spanned} bytes"));
    }
    Ok((first, len))
}

fn segment(cursor: &mut Cursor<'_>, names: &Defines, direction: Direction) -> Read<Segment> {
    let ports = ports(cursor)?;
    let terse = cursor.at_number()? && !at_ace_flags(cursor) || matches!(cursor.peek_word()?, "ack" | "win" | "urg");
    let flags = if terse { None } else { Some(tcp_flags(cursor)?) };
    let seq = match cursor.at_number()? {
        true => Some(sequence(cursor, !terse)?),
        false if terse => None,
        false => return cursor.expected("a sequence range"),
    };
    let ack = match cursor.eat_word("ack")? {
        true => Some(cursor.integer("acknowledgement", 0, U32)? as u32),
        false => None,
    };
    let window = match cursor.eat_word("win")? {
        true => Some(cursor.integer("window", 0, U16)? as u16),
        false => None,
    };
    let urgent = if cursor.eat_word("urg")? { cursor.integer("urgent pointer", 0, U16)? as u16 } else { 0 };
    let options = if at_options(cursor)? {
        cursor.expect("<")?;
        options(cursor, names, direction)?
    } else if terse && cursor.eat_word("sack")? {
        Options::These(vec![TcpOption::Nop, TcpOption::Nop, TcpOption::Sack(sack_blocks(cursor)?)])
    } else if terse && direction == Direction::Outbound {
        Options::Any
    } else {
        Options::These(Vec::new())
    };
    Ok(Segment { ports, flags, seq, ack, window, urgent, options })
}

/// Whether `.5` is next, as in the flags `.5` of AccECN: a point and one octal digit.
fn at_ace_flags(cursor: &Cursor<'_>) -> bool {
    let mut chars = cursor.rest().chars();
    chars.next() == Some('.') && chars.next().is_some_and(|c| c.is_digit(8)) && chars.next() == Some(' ')
}

/// `S`, `P.`, `-` (none), `SEWA`, `.5`.
fn tcp_flags(cursor: &mut Cursor<'_>) -> Read<TcpFlags> {
    let mut flags = TcpFlags::default();
    cursor.skip()?;
    if cursor.eat("-")? {
        return Ok(flags);
    }
    let start = cursor.clone();
    let letters = cursor.take_while(|c| c == '.' || c.is_ascii_alphanumeric());
    if letters.is_empty() {
        return start.expected("TCP flags or a sequence range");
    }
    for letter in letters.bytes() {
        if let Some(bit) = TcpFlags::LETTERS.iter().position(|&l| l == letter) {
            flags.bits |= 1 << bit;
        } else if letter == b'A' {
            flags.ae = true;
        } else if let (b'0'..=b'7', None) = (letter, flags.ace) {
            flags.ace = Some(letter - b'0');
        } else {
            return start.error(format!("`{letters}` are no TCP flags: F S R P . U E W A or one digit 0 to 7"));
        }
    }
    if flags.ace.is_some() && (flags.ae || flags.bits & (TcpFlags::ECE | TcpFlags::CWR) != 0) {
        return start.error("either the ACE counter or E, W and A");
    }
    Ok(flags)
}

/// Whether an option list is next, and not a packet.
fn at_options(cursor: &Cursor<'_>) -> Read<bool> {
    let mut ahead = cursor.clone();
    if !ahead.eat("<")? {
        return Ok(false);
    }
    ahead.skip()?;
    Ok(ahead.rest().starts_with("...") || OPTION_WORDS.contains(&ahead.peek_word()?))
}

fn options(cursor: &mut Cursor<'_>, names: &Defines, direction: Direction) -> Read<Options> {
    if cursor.eat("...")? {
        if direction == Direction::Inbound {
            return cursor.error("<...> is for outbound packets");
        }
        cursor.expect(">")?;
        return Ok(Options::Any);
    }
    let start = cursor.clone();
    let mut list = Vec::new();
    loop {
        list.push(option(cursor, names)?);
        if cursor.eat(">")? {
            break;
        }
        cursor.expect(",")?;
    }
    match list.iter().map(TcpOption::wire_len).sum::<usize>() {
        0..=40 => Ok(Options::These(list)),
        bytes => start.error(format!("{bytes} bytes of options; a header has room for 40")),
    }
}

impl TcpOption {
    /// Bytes it takes in the header.
    pub fn wire_len(&self) -> usize {
        match self {
            TcpOption::Nop | TcpOption::Eol => 1,
            TcpOption::Mss(_) => 4,
            TcpOption::WindowScale(_) => 3,
            TcpOption::SackPermitted => 2,
            TcpOption::Sack(blocks) => 2 + 8 * blocks.len(),
            TcpOption::Timestamp { .. } => 10,
            TcpOption::Md5(bytes) | TcpOption::FastOpen(bytes) => 2 + bytes.len(),
            TcpOption::FastOpenExp(bytes) => 4 + bytes.len(),
            TcpOption::AccEcn { counters, .. } => 2 + 3 * counters.len(),
        }
    }
}

fn option(cursor: &mut Cursor<'_>, names: &Defines) -> Read<TcpOption> {
    cursor.skip()?;
    let start = cursor.clone();
    Ok(match cursor.word("a TCP option")? {
        "nop" => TcpOption::Nop,
        "eol" => TcpOption::Eol,
        "mss" => TcpOption::Mss(cursor.integer("mss", 0, U16)? as u16),
        "wscale" => TcpOption::WindowScale(cursor.integer("window scale", 0, U8)? as u8),
        "sackOK" => TcpOption::SackPermitted,
        "sack" => TcpOption::Sack(sack_blocks(cursor)?),
        "TS" => {
            if !cursor.eat_word("val")? {
                return cursor.expected("`val`");
            }
            let val = cursor.integer("val", 0, U32)? as u32;
            if !cursor.eat_word("ecr")? {
                return cursor.expected("`ecr`");
            }
            TcpOption::Timestamp { val, ecr: cursor.integer("ecr", 0, U32)? as u32 }
        }
        "md5" => TcpOption::Md5(hex(cursor, names, 16)?),
        "FO" => TcpOption::FastOpen(hex(cursor, names, 38)?),
        "FOEXP" => TcpOption::FastOpenExp(hex(cursor, names, 36)?),
        "ECN" | "ACCECN" => acc_ecn(cursor)?,
        _ => return start.expected("a TCP option"),
    })
}

/// `e0b N ceb N e1b N` or `e1b N ceb N e0b N`, of which the end may be missing.
fn acc_ecn(cursor: &mut Cursor<'_>) -> Read<TcpOption> {
    let e1b_first = cursor.peek_word()? == "e1b";
    let order = if e1b_first { ["e1b", "ceb", "e0b"] } else { ["e0b", "ceb", "e1b"] };
    let mut counters = Vec::new();
    for name in order {
        if !cursor.eat_word(name)? {
            break;
        }
        counters.push(cursor.integer("byte counter", 0, U24)? as u32);
    }
    if counters.is_empty() { cursor.expected("e0b or e1b") } else { Ok(TcpOption::AccEcn { e1b_first, counters }) }
}

fn sack_blocks(cursor: &mut Cursor<'_>) -> Read<Vec<(u32, u32)>> {
    let mut blocks = Vec::new();
    while cursor.at_number()? {
        let left = cursor.integer("left edge", 0, U32)? as u32;
        cursor.expect(":")?;
        blocks.push((left, cursor.integer("right edge", 0, U32)? as u32));
        // In the terse form the next event's time may follow: it is no block unless a colon follows its digits.
        let mut ahead = cursor.clone();
        if ahead.at_number()? && (ahead.number("a block").is_err() || !ahead.rest().starts_with(':')) {
            break;
        }
    }
    match blocks.len() {
        1..=4 => Ok(blocks),
        n => cursor.error(format!("{n} SACK blocks; an option carries 1 to 4")),
    }
}

/// Bytes as hexadecimal digits, possibly none, possibly by a defined name.
fn hex(cursor: &mut Cursor<'_>, names: &Defines, max: usize) -> Read<Vec<u8>> {
    let start = cursor.clone();
    let word = cursor.peek_word()?;
    if word.is_empty() {
        return Ok(Vec::new());
    }
    let word = names.word(cursor.word("hexadecimal digits")?);
    let digits: Option<Vec<u8>> = word.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 && digits.len() / 2 <= max => {
            Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
        _ => start.error(format!("`{word}` is no even number of hexadecimal digits for at most {max} bytes")),
    }
}

fn icmp(cursor: &mut Cursor<'_>, names: &Defines) -> Read<Icmp> {
    let kind = names.word(cursor.word("an ICMP type")?);
    let mut icmp = Icmp { kind, code: None, mtu: None, id: None, quoted: Quoted::Nothing };
    if !matches!(cursor.peek_word()?, "" | "mtu" | "id") && !cursor.at_number()? {
        icmp.code = Some(names.word(cursor.word("an ICMP code")?));
    }
    if cursor.eat_word("mtu")? {
        icmp.mtu = Some(cursor.integer("mtu", 0, U32)? as u32);
    }
    if cursor.eat_word("id")? {
        icmp.id = Some(cursor.integer("id", 0, U16)? as u16);
    }
    if cursor.eat("[")? {
        icmp.quoted = if cursor.eat_word("udp")? {
            Quoted::Udp { len: payload(cursor)? }
        } else if cursor.eat_word("raw")? {
            Quoted::Raw { len: payload(cursor)? }
        } else {
            let (seq, len) = sequence(cursor, true)?;
            Quoted::Tcp { seq, len }
        };
        cursor.expect("]")?;
    }
    Ok(icmp)
}

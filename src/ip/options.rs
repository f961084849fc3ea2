//! Options of received IPv4 headers: checked, filled in where they ask for it, and given back in answers. Above:
//! `input`, `icmp`. Below: `route`. Linux: net/ipv4/ip_options.c (ip_options_compile, ip_options_echo,
//! ip_options_build). RFC 791 §3.1, RFC 1122 §3.2.1.8. Not here: source routes, which are refused by default
//! (accept_source_route), and options of a socket.

use super::{net, route};
use crate::base::error::Error;
use crate::stack::Stack;
use crate::wire::ip::{HEADER_LEN, option as kind};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Flags of the timestamp option.
mod flag {
    pub(super) const TIME: u8 = 0;
    pub(super) const ADDRESS_AND_TIME: u8 = 1;
    pub(super) const PRESPECIFIED: u8 = 3;
}

/// Most bytes of options in a header.
pub(super) const MAX_LEN: usize = 40;

/// What the host puts into options: its address, whether an address is another host's, and milliseconds since midnight.
pub(super) struct Host<'a> {
    pub own: Ipv4Addr,
    pub is_other: &'a dyn Fn(Ipv4Addr) -> bool,
    pub time: u32,
}

/// Milliseconds since midnight UT (inet_current_timestamp).
pub(super) fn time(stack: &Stack) -> u32 {
    (stack.clock.wall().as_millis() % 86_400_000) as u32
}

/// The address that this host is known by to the sender of a datagram to `dst` (fib_compute_spec_dst).
pub(super) fn own_address(stack: &Arc<Stack>, src: Ipv4Addr, dst: Ipv4Addr) -> Ipv4Addr {
    if net(stack).routes.is_local(dst.into()) {
        return dst;
    }
    match route::lookup_for_answer(stack, src.into(), None, 0).map(|d| d.src) {
        Ok(IpAddr::V4(own)) => own,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// The options of an answer from `own` to the datagram whose header this is; see [`echo`]. `wrong`: the offset of the
/// byte that [`compile`] refused; the option that has it, and those behind, are left out.
pub(super) fn of_answer(stack: &Arc<Stack>, header: &[u8], wrong: Option<usize>, own: Ipv4Addr) -> Option<Vec<u8>> {
    let is_other = |a| net(stack).routes.is_other(a);
    match header.get(HEADER_LEN..) {
        None | Some([]) => Some(Vec::new()),
        Some(options) => {
            let end = wrong.map_or(options.len(), |at| at.saturating_sub(HEADER_LEN));
            echo(options, end, &Host { own, is_other: &is_other, time: time(stack) })
        }
    }
}

/// The options that a program gives for what it sends, filled up to a multiple of 4. EINVAL: malformed, longer than 40
/// bytes, or a source route, which is not sent here (ip_options_get).
pub(super) fn given(value: &[u8]) -> crate::base::error::Result<Box<[u8]>> {
    if value.len() > MAX_LEN {
        return Err(Error::Inval);
    }
    let mut bytes = value.to_vec();
    bytes.resize(value.len().next_multiple_of(4), kind::END);
    let host = Host { own: Ipv4Addr::UNSPECIFIED, is_other: &|_| false, time: 0 };
    match compile(&mut bytes.clone(), &host) {
        Ok(Compiled { source_route: false, .. }) => Ok(bytes.into()),
        _ => Err(Error::Inval),
    }
}

/// The options of a datagram from `own` to send: those that were [`given`], with this host's entries
/// (ip_options_build).
pub(crate) fn of_sent(stack: &Arc<Stack>, given: &[u8], own: Ipv4Addr) -> Vec<u8> {
    let is_other = |a| net(stack).routes.is_other(a);
    let mut bytes = given.to_vec();
    // They were compiled when they were given, and are good.
    let _ = compile(&mut bytes, &Host { own, is_other: &is_other, time: time(stack) });
    bytes
}

/// What the options of a header are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Compiled {
    /// It has a source route.
    pub source_route: bool,
    /// An address or time was filled in.
    pub changed: bool,
}

/// Writes four bytes at the place that an option's pointer, which counts from 1, names.
fn fill(option: &mut [u8], pointer: usize, value: [u8; 4]) {
    if let Some(at) = option.get_mut(pointer - 1..pointer + 3) {
        at.copy_from_slice(&value);
    }
}

fn address_at(option: &[u8], pointer: usize) -> Option<Ipv4Addr> {
    option.get(pointer - 1..pointer + 3)?.first_chunk::<4>().map(|a| Ipv4Addr::from(*a))
}

/// Checks the options behind the fixed header, and fills in what record route and timestamp ask of this host. Err: the
/// offset in the datagram of the byte that is wrong.
pub(super) fn compile(options: &mut [u8], host: &Host<'_>) -> Result<Compiled, usize> {
    let mut done = Compiled { source_route: false, changed: false };
    let (mut at, mut seen_rr, mut seen_ts, mut seen_cipso) = (0, false, false, false);
    while at < options.len() {
        let here = HEADER_LEN + at;
        let len = match (options[at], options.get(at + 1)) {
            (kind::END, _) => {
                done.changed |= options[at..].iter().any(|b| *b != kind::END);
                options[at..].fill(kind::END);
                break;
            }
            (kind::NOP, _) => {
                at += 1;
                continue;
            }
            (_, Some(len)) if *len >= 2 && at + usize::from(*len) <= options.len() => usize::from(*len),
            _ => return Err(here),
        };
        let option = &mut options[at..at + len];
        let twice = match option[0] {
            kind::LSRR | kind::SSRR => std::mem::replace(&mut done.source_route, true),
            kind::RR => std::mem::replace(&mut seen_rr, true),
            kind::TS => std::mem::replace(&mut seen_ts, true),
            kind::CIPSO => std::mem::replace(&mut seen_cipso, true),
            _ => false,
        };
        let checked = match option[0] {
            kind::LSRR | kind::SSRR => source_route(option, twice),
            _ if twice => Err(0),
            kind::RR => record_route(option, host),
            kind::TS => timestamp(option, host),
            kind::RA if len < 4 => Err(1),
            kind::CIPSO => cipso(option),
            _ => Ok(false),
        };
        done.changed |= checked.map_err(|offset| here + offset)?;
        at += len;
    }
    Ok(done)
}

/// Err: the offset in the option of the wrong byte. Ok: whether it was changed.
type Checked = Result<bool, usize>;

fn source_route(option: &[u8], twice: bool) -> Checked {
    match option.get(2) {
        None => Err(1),
        Some(..4) => Err(2),
        Some(_) if twice => Err(0),
        Some(_) => Ok(false),
    }
}

fn record_route(option: &mut [u8], host: &Host<'_>) -> Checked {
    let Some(&pointer) = option.get(2) else { return Err(1) };
    let pointer = usize::from(pointer);
    if pointer < 4 || (pointer <= option.len() && pointer + 3 > option.len()) {
        return Err(2);
    }
    if pointer > option.len() {
        return Ok(false);
    }
    fill(option, pointer, host.own.octets());
    option[2] += 4;
    Ok(true)
}

/// Once the option is full, overflows are counted in it.
fn timestamp(option: &mut [u8], host: &Host<'_>) -> Checked {
    let &[_, _, pointer, flags, ..] = &*option else { return Err(1) };
    let (pointer, flag) = (usize::from(pointer), flags & 15);
    if pointer < 5 {
        return Err(2);
    }
    if pointer > option.len() {
        if flag == flag::PRESPECIFIED {
            return Ok(false);
        }
        if flags >> 4 == 15 {
            return Err(3);
        }
        option[3] += 16;
        return Ok(true);
    }
    let need = if matches!(flag, flag::ADDRESS_AND_TIME | flag::PRESPECIFIED) { 8 } else { 4 };
    if pointer + need - 1 > option.len() {
        return Err(2);
    }
    match flag {
        flag::TIME => fill(option, pointer, host.time.to_be_bytes()),
        flag::ADDRESS_AND_TIME => {
            fill(option, pointer, host.own.octets());
            fill(option, pointer + 4, host.time.to_be_bytes());
        }
        flag::PRESPECIFIED if !address_at(option, pointer).is_some_and(host.is_other) => {
            fill(option, pointer + 4, host.time.to_be_bytes());
        }
        _ => return Ok(false),
    }
    option[2] += need as u8;
    Ok(true)
}

/// The form of a CIPSO option; its tags mean nothing here (cipso_v4_validate without NetLabel).
fn cipso(option: &[u8]) -> Checked {
    if option.len() < 8 {
        return Err(1);
    }
    if option[2..6] == [0; 4] {
        return Err(2);
    }
    let mut at = 6;
    while at < option.len() {
        let len = option.get(at + 1).map_or(0, |len| usize::from(*len));
        if len == 0 || at + len > option.len() {
            return Err(at + 1);
        }
        at += len;
    }
    Ok(false)
}

/// The options of an answer to a datagram with these, which are compiled as far as `end`: record route and timestamp
/// come back with this host's entry for the way out. None: they have no place for a whole entry, and nothing is
/// answered.
fn echo(options: &[u8], end: usize, host: &Host<'_>) -> Option<Vec<u8>> {
    let mut out = echoed(options, end)?;
    // Theirs were compiled when they came, and these are a part of them.
    let _ = compile(&mut out, host);
    Some(out)
}

/// The same without the entry, which each answer has its own of (ip_options_echo).
fn echoed(options: &[u8], end: usize) -> Option<Vec<u8>> {
    let nobody = Host { own: Ipv4Addr::UNSPECIFIED, is_other: &|_| true, time: 0 };
    let mut out = Vec::new();
    for wanted in [kind::RR, kind::TS, kind::CIPSO] {
        let Some(option) = find(options, end, wanted) else { continue };
        let has_room = option.get(2).is_some_and(|pointer| usize::from(*pointer) <= option.len());
        let filled = match wanted {
            kind::RR if has_room => record_route(&mut option.to_vec(), &nobody),
            kind::TS if has_room => timestamp(&mut option.to_vec(), &nobody),
            _ => Ok(false),
        };
        filled.ok()?;
        out.extend(option);
    }
    out.resize(out.len().next_multiple_of(4), kind::END);
    Some(out)
}

/// What a stream's answers to a segment with this header have as options, as if they had been [`given`]; nothing where
/// it has none (tcp_v4_save_options).
#[inline]
pub(crate) fn of_segment(header: Option<&[u8]>) -> Box<[u8]> {
    header.map_or_else(Box::default, of_header)
}

fn of_header(header: &[u8]) -> Box<[u8]> {
    let options = header.get(HEADER_LEN..).unwrap_or_default();
    echoed(options, options.len()).unwrap_or_default().into()
}

/// The first option of a kind among those that end at `end` or before it.
fn find(options: &[u8], end: usize, wanted: u8) -> Option<&[u8]> {
    let mut at = 0;
    while at < end {
        at += match *options.get(at)? {
            kind::END => return None,
            kind::NOP => 1,
            k => {
                let len = usize::from(*options.get(at + 1)?).max(2);
                if k == wanted {
                    return options.get(at..at + len).filter(|_| at + len <= end);
                }
                len
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn host(is_other: &dyn Fn(Ipv4Addr) -> bool) -> Host<'_> {
        Host { own: OWN, is_other, time: 0x01020304 }
    }

    #[test]
    fn wrong_byte_is_named_and_entries_are_filled_in() {
        let host = host(&|a| a != OWN);
        for (case, options, want, after) in [
            ("no room for a length", vec![7], Err(20), None),
            ("behind NOPs", vec![1, 7, 3, 3], Err(23), None),
            ("record route without pointer", vec![7, 2, 0, 0], Err(21), None),
            ("pointer into the fixed part", vec![7, 7, 3, 0, 0, 0, 0, 0], Err(22), None),
            ("no room for a whole entry", vec![7, 7, 5, 0, 0, 0, 0, 0], Err(22), None),
            ("recorded", vec![7, 7, 4, 0, 0, 0, 0, 0], Ok(true), Some(vec![7, 7, 8, 10, 0, 0, 1, 0])),
            ("full", vec![7, 7, 8, 1, 2, 3, 4, 0], Ok(false), None),
            ("twice", vec![7, 3, 4, 7, 3, 4, 0, 0], Err(23), None),
            ("time", vec![68, 8, 5, 0, 0, 0, 0, 0], Ok(true), Some(vec![68, 8, 9, 0, 1, 2, 3, 4])),
            ("an overflow", vec![68, 4, 5, 0x20], Ok(true), Some(vec![68, 4, 5, 0x30])),
            ("the last overflow", vec![68, 4, 5, 0xf0], Err(23), None),
            ("timestamp of three bytes", vec![68, 3, 5, 0], Err(21), None),
            (
                "time at an address of ours",
                vec![68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0],
                Ok(true),
                Some(vec![68, 12, 13, 3, 10, 0, 0, 1, 1, 2, 3, 4]),
            ),
            ("time at another's", vec![68, 12, 5, 3, 10, 0, 0, 9, 0, 0, 0, 0], Ok(false), None),
            ("router alert of two bytes", vec![148, 2, 0, 0], Err(21), None),
            ("unknown", vec![0xc8, 4, 9, 9], Ok(false), None),
        ] {
            let mut bytes = options.clone();
            assert_eq!(compile(&mut bytes, &host).map(|c| c.changed), want, "{case}");
            if want.is_ok() {
                assert_eq!(bytes, after.unwrap_or(options), "{case}");
            }
        }
    }

    #[test]
    fn answer_has_the_entry_of_the_way_out_where_there_is_room() {
        let host = host(&|a| a != OWN);
        let route = [7, 15, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let want = [7, 15, 12, 10, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0];
        assert_eq!(echo(&route, 16, &host).as_deref(), Some(&want[..]));
        let full = [1, 7, 7, 8, 10, 0, 0, 1];
        assert_eq!(echo(&full, 8, &host).as_deref(), Some(&[7, 7, 8, 10, 0, 0, 1, 0][..]));
        assert_eq!(echo(&[1, 1, 1, 1], 4, &host), Some(vec![]));
        assert_eq!(echo(&[7, 9, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0], 12, &host), None);
        // The wrong one and those behind it do not come back.
        assert_eq!(echo(&[7, 3, 8, 68, 3, 5, 7, 0], 3, &host), Some(vec![7, 3, 8, 0]));
        for end in 0..8 {
            assert!(echo(&[68, 3, 1, 7, 2, 7, 1, 68], end, &host).is_none_or(|o| o.is_empty()), "{end}");
        }
    }
}

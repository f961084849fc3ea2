//! What travels with a connection's bytes, in its place among them. Options, instead of by a request: the program does
//! not wait, and nothing is asked of it to wait for. For those whose success is certain and which programs set again
//! and again: nginx corks and uncorks each response. And that a byte is urgent.

use std::ffi::c_int;

/// TCP options that are on or off.
const OPTIONS: [c_int; 3] = [libc::TCP_NODELAY, libc::TCP_CORK, libc::TCP_QUICKACK];
/// The first of the bytes that stand for one. No text in UTF-8 has them: a byte that may be one costs the server a
/// closer look.
const FIRST: u8 = 0xf8;
/// The byte behind one that is urgent. Both come with the descriptor: all of it is taken, or nothing.
pub(crate) const URGENT: u8 = FIRST + 6;

/// What a byte that came with a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// setsockopt(2) of level IPPROTO_TCP: name, value.
    Option(c_int, c_int),
    /// The byte before it is this one, which is urgent (MSG_OOB).
    Urgent(u8),
}

/// The byte that stands for setting an option of level IPPROTO_TCP; None: it needs a request.
pub(crate) fn code(level: c_int, name: c_int, value: &[u8]) -> Option<u8> {
    let value = c_int::from_ne_bytes(*value.first_chunk()?);
    let at = OPTIONS.iter().position(|option| *option == name && level == libc::IPPROTO_TCP)?;
    // TCP_QUICKACK's other values are different things.
    matches!(value, 0 | 1).then(|| FIRST + 2 * at as u8 + value as u8)
}

/// Whether a byte may be a mark's last.
pub(crate) fn is_like(byte: u8) -> bool {
    (FIRST..=URGENT).contains(&byte)
}

/// What the last of `bytes` stands for, and how many before it are the program's; None: it stands for nothing.
pub(crate) fn mark(bytes: &[u8]) -> Option<(Mark, usize)> {
    let (&code, before) = bytes.split_last()?;
    if code == URGENT {
        let (&byte, before) = before.split_last()?;
        return Some((Mark::Urgent(byte), before.len()));
    }
    let code = code.checked_sub(FIRST)?;
    let name = OPTIONS.get(usize::from(code / 2))?;
    Some((Mark::Option(*name, c_int::from(code % 2)), before.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back() {
        for name in OPTIONS {
            for value in [0i32, 1] {
                let code = code(libc::IPPROTO_TCP, name, &value.to_ne_bytes()).unwrap();
                assert_eq!(mark(&[7, code]), Some((Mark::Option(name, value), 1)));
                assert!(is_like(code));
            }
        }
        for other in [2i32, -1, c_int::MIN, c_int::MAX] {
            assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_QUICKACK, &other.to_ne_bytes()), None);
        }
        assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_NODELAY, &[1, 0, 0]), None);
        assert_eq!(code(libc::SOL_SOCKET, libc::TCP_NODELAY, &[1, 0, 0, 0]), None);
        assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &[1, 0, 0, 0]), None);
        assert_eq!(mark(&[5, 7, URGENT]), Some((Mark::Urgent(7), 1)));
        assert!(is_like(URGENT));
        assert_eq!((mark(&[URGENT]), mark(&[])), (None, None));
        for code in (0..FIRST).chain([FIRST + 7]) {
            assert_eq!((mark(&[7, code]), is_like(code)), (None, false));
        }
    }
}

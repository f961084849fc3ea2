//! Options that travel with a connection's bytes, in their place among them, instead of by a request: the program does
//! not wait, and nothing is asked of it to wait for. For those whose success is certain and which programs set again
//! and again: nginx corks and uncorks each response.

use std::ffi::c_int;

/// TCP options that are on or off.
const OPTIONS: [c_int; 3] = [libc::TCP_NODELAY, libc::TCP_CORK, libc::TCP_QUICKACK];
/// The first of the bytes that stand for one. No text in UTF-8 has them: a byte that may be one costs the server a
/// closer look.
const FIRST: u8 = 0xf8;

/// The byte that stands for setting an option of level IPPROTO_TCP; None: it needs a request.
pub(crate) fn code(level: c_int, name: c_int, value: &[u8]) -> Option<u8> {
    let value = c_int::from_ne_bytes(*value.first_chunk()?);
    let at = OPTIONS.iter().position(|option| *option == name && level == libc::IPPROTO_TCP)?;
    // TCP_QUICKACK's other values are different things.
    matches!(value, 0 | 1).then_some(FIRST + 2 * at as u8 + value as u8)
}

/// The option and its value; None: the byte stands for none.
pub(crate) fn option(code: u8) -> Option<(c_int, c_int)> {
    let code = code.checked_sub(FIRST)?;
    let option = OPTIONS.get(usize::from(code / 2))?;
    Some((*option, c_int::from(code % 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_back() {
        for name in OPTIONS {
            for value in [0i32, 1] {
                let code = code(libc::IPPROTO_TCP, name, &value.to_ne_bytes()).unwrap();
                assert_eq!(option(code), Some((name, value)));
            }
        }
        assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_QUICKACK, &2i32.to_ne_bytes()), None);
        assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_NODELAY, &[1, 0, 0]), None);
        assert_eq!(code(libc::SOL_SOCKET, libc::TCP_NODELAY, &[1, 0, 0, 0]), None);
        assert_eq!(code(libc::IPPROTO_TCP, libc::TCP_MAXSEG, &[1, 0, 0, 0]), None);
        for code in (0..FIRST).chain([FIRST + 6, FIRST + 7]) {
            assert_eq!(option(code), None);
        }
    }
}

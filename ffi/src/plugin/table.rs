//! Structs of the caller's size, because it may be compiled against an older or a newer header: tables of functions,
//! which are read ([`read`]), and information structs, which are filled in ([`fill`]).

use super::gate::slice_mut;
use usersock::error::Result;

/// A `repr(C)` table that begins with `uint32_t version` and `uint32_t size`, and for which all-zero bytes are the
/// empty table (null functions, zero numbers).
///
/// # Safety
/// Both hold for the type.
pub(crate) unsafe trait Table: Copy {
    /// Its name in messages.
    const NAME: &'static str;
    /// The version that this library supports.
    const VERSION: u32;
    /// `sizeof` of the first published form: a shorter one is refused.
    const FIRST_SIZE: usize;
}

/// Copies a table. Members that an older, shorter one lacks are null; a newer, longer one is accepted if all members
/// that we do not know are null. The error is one line for the user.
///
/// # Safety
/// `table` is null, or readable for the 8 bytes of its version and size and then for as many bytes as size says.
pub(super) unsafe fn read<T: Table>(table: *const T) -> std::result::Result<T, String> {
    let name = T::NAME;
    if table.is_null() {
        return Err(format!("{name}: null"));
    }
    let words = table.cast::<u32>();
    // SAFETY: readable, as the caller guarantees. The table may be packed anywhere: read unaligned.
    let (version, size) = unsafe { (words.read_unaligned(), words.add(1).read_unaligned() as usize) };
    if version != T::VERSION {
        return Err(format!("{name}: version {version}, this library has {}", T::VERSION));
    }
    if size < T::FIRST_SIZE || size > 1 << 16 {
        return Err(format!(
            "{name}: size {size}, this library has {} and takes {} at least",
            size_of::<T>(),
            T::FIRST_SIZE
        ));
    }
    // SAFETY: readable for `size` bytes, as the caller guarantees.
    let bytes = unsafe { std::slice::from_raw_parts(table.cast::<u8>(), size) };
    let (known, beyond) = bytes.split_at(size.min(size_of::<T>()));
    if beyond.iter().any(|b| *b != 0) {
        return Err(format!("{name}: size {size} uses operations that this library, with {}, lacks", size_of::<T>()));
    }
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `known` is at most size_of::<T>() bytes, and the two do not overlap. All zero is valid for T, and so are
    // the bytes of a T that the caller filled, by the trait's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(known.as_ptr(), copy.as_mut_ptr().cast::<u8>(), known.len());
        Ok(copy.assume_init())
    }
}

/// A `repr(C)` struct without padding, which calls of plug-ins fill in. New members are added at its end.
///
/// # Safety
/// It has no padding, which would be read uninitialized.
pub(super) unsafe trait Info: Copy {}

/// Copies `value` to a caller whose struct has `size` bytes: in an older, shorter one all members are filled; in a
/// newer, longer one those that we know, and the others are zero. Returns how many bytes were filled from `value`.
///
/// # Safety
/// `to` is null or writable for `size` bytes.
pub(super) unsafe fn fill<T: Info>(to: *mut T, size: usize, value: &T) -> Result<usize> {
    // SAFETY: writable, as the caller guarantees.
    let to = unsafe { slice_mut(to.cast(), size) }?;
    // SAFETY: without padding by the trait's promise, alive as long as it is read.
    let from = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) };
    let known = from.len().min(to.len());
    to[..known].copy_from_slice(&from[..known]);
    to[known..].fill(0);
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use usersock::error::Error;

    // SAFETY: plain numbers, each aligned where the one before ends.
    unsafe impl Info for Now {}

    #[test]
    fn older_and_newer_callers_get_what_they_and_we_know() {
        let value = Now { version: 1, size: 2, a: 5, b: 6 };
        let mut words = [u64::MAX; 4];
        let mut ask = |size| {
            words = [u64::MAX; 4];
            // SAFETY: at most as many bytes as the array has.
            let r = unsafe { fill(words.as_mut_ptr().cast::<Now>(), size, &value) };
            (r, words)
        };
        assert_eq!(ask(24), (Ok(24), [head(1, 2), 5, 6, u64::MAX]));
        assert_eq!(ask(16), (Ok(16), [head(1, 2), 5, u64::MAX, u64::MAX]), "older: nothing beyond its end");
        assert_eq!(ask(32), (Ok(24), [head(1, 2), 5, 6, 0]), "newer: zero");
        assert_eq!(ask(0).0, Ok(0));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { fill(std::ptr::null_mut(), 24, &value) }, Err(Error::Fault));
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    #[repr(C)]
    struct Now {
        version: u32,
        size: u32,
        a: u64,
        b: u64,
    }
    // SAFETY: plain numbers.
    unsafe impl Table for Now {
        const NAME: &'static str = "struct now";
        const VERSION: u32 = 1;
        const FIRST_SIZE: usize = 16;
    }

    fn try_read(words: &[u64]) -> std::result::Result<Now, String> {
        // SAFETY: the slices below are as long as they say.
        unsafe { read(words.as_ptr().cast::<Now>()) }
    }
    fn head(version: u64, size: u64) -> u64 {
        version | size << 32
    }

    #[test]
    fn older_and_newer_tables_are_read_as_far_as_they_are_known() {
        assert_eq!(try_read(&[head(1, 24), 5, 6]), Ok(Now { version: 1, size: 24, a: 5, b: 6 }));
        assert_eq!(try_read(&[head(1, 16), 5]), Ok(Now { version: 1, size: 16, a: 5, b: 0 }));
        assert_eq!(try_read(&[head(1, 32), 5, 6, 0]).map(|n| n.b), Ok(6));
        for (words, want) in [
            (&[head(1, 32), 5, 6, 7][..], "uses operations that this library"),
            (&[head(1, 8)], "takes 16 at least"),
            (&[head(1, 1 << 20)], "size 1048576"),
            (&[head(2, 24), 5, 6], "version 2, this library has 1"),
        ] {
            let e = try_read(words).unwrap_err();
            assert!(e.contains(want), "{e}");
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { read::<Now>(std::ptr::null()) }, Err("struct now: null".to_owned()));
    }
}

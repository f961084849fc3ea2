//! The columns that a protocol shows of a sock in `usersock ss`: usk_diag_t. Above: `cproto`. Linux: nlmsg_put of an
//! inet_diag_handler.

use super::gate::{kernel, obj_mut};
use std::ffi::{CStr, c_char, c_int};
use usersock::error::{Error, Result};

/// What diag_show fills: columns of one sock.
#[allow(non_camel_case_types)]
pub struct usk_diag_t {
    _opaque: [u8; 0],
}

/// Most columns of a sock.
const MOST: usize = 32;
/// Bytes of a column's name and of its value.
const NAME: usize = 31;
const VALUE: usize = 255;

/// The target of a [`usk_diag_t`].
#[derive(Default)]
pub(super) struct Columns(pub(super) Vec<(String, String)>);

impl Columns {
    /// The handle for one operation.
    pub(super) fn lend(&mut self) -> *mut usk_diag_t {
        std::ptr::from_mut(self).cast()
    }

    fn add(&mut self, name: &str, value: &str) -> Result<()> {
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !letters || !(1..=NAME).contains(&name.len()) || value.len() > VALUE {
            return Err(Error::Inval);
        }
        if self.0.iter().any(|(other, _)| other == name) {
            return Err(Error::Exist);
        }
        if self.0.len() == MOST {
            return Err(Error::NoBufs);
        }
        // A blank or a line break in a value would end the column.
        let value = value.chars().map(|c| if c.is_control() || c == ' ' { '_' } else { c }).collect();
        self.0.push((name.to_owned(), value));
        Ok(())
    }
}

/// Adds a column, for diag_show: `usersock ss -i` shows `name:value`, and its JSON has a member of this name in
/// `columns`. At most 32 of a sock; a value's blanks and control characters become underscores. Returns
/// 0; -EINVAL: the name is not 1 to 31 letters, digits and underscores, or the value is longer than 255 bytes; -EEXIST:
/// there is one of this name; -ENOBUFS: there are 32; -EFAULT: a pointer is null.
/// # Safety
/// `diag` is diag_show's argument; `name` and `value` are strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn usk_diag_column(diag: *mut usk_diag_t, name: *const c_char, value: *const c_char) -> c_int {
    kernel(|| {
        if name.is_null() || value.is_null() {
            return Err(Error::Fault);
        }
        // SAFETY: the operation's argument, which `lend` made.
        let columns = unsafe { obj_mut(diag.cast::<Columns>()) }?;
        // SAFETY: strings, as the caller guarantees.
        let (name, value) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(value)) };
        columns.add(&name.to_string_lossy(), &value.to_string_lossy()).map(|()| 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names_of_letters_each_once_and_values_without_blanks() {
        let mut columns = Columns::default();
        for (name, value, want) in [
            ("rto", "200", Ok(())),
            ("last_key", "a b\nc", Ok(())),
            ("rto", "201", Err(Error::Exist)),
            ("", "1", Err(Error::Inval)),
            ("two words", "1", Err(Error::Inval)),
            (&"n".repeat(32), "1", Err(Error::Inval)),
            ("long", &"v".repeat(256), Err(Error::Inval)),
        ] {
            assert_eq!(columns.add(name, value), want, "{name:?}");
        }
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(columns.0, [("rto", "200"), ("last_key", "a_b_c")].map(own));
        (2..MOST).for_each(|i| columns.add(&format!("c{i}"), "").unwrap());
        assert_eq!(columns.add("more", ""), Err(Error::NoBufs));
    }
}

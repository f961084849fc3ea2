//! The C ABI of usersock.

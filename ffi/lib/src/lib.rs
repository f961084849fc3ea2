//! Exports the C ABI (`usersock_ffi`) as `libusersock.so` and `libusersock.a`.
pub use usersock_ffi::*;

//! `libusersock.so` and `libusersock.a`: exports the C ABI, whose code is the crate `usersock_ffi`.
pub use usersock_ffi::*;

//! Descriptors.
/// Adds 1 to an eventfd.
pub fn eventfd_signal(_fd: std::os::fd::RawFd) {}

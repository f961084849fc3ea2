//! System calls: the library's only unsafe code outside `ffi` lives here.
pub mod fd;

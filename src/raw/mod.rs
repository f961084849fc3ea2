mod table;
pub use table::Table;
pub(crate) fn error(
    _stack: &std::sync::Arc<crate::stack::Stack>,
    _sock: &std::sync::Arc<crate::sock::Sock>,
    _e: &crate::ip::IcmpError<'_>,
) {
}

//! The socket layer.
/// Lookup tables.
pub struct Tables;
impl Tables {
    #[allow(missing_docs, clippy::new_without_default)]
    pub fn new() -> Tables {
        Tables
    }
}
/// Registers.
pub fn register_standard(_s: &std::sync::Arc<crate::stack::Stack>) -> Result<(), crate::sock::proto::RegisterError> {
    Ok(())
}

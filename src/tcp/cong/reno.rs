//! Reno.
use super::*;
/// Ops.
pub struct RenoOps;
impl CongOps for RenoOps {
    fn name(&self) -> &str {
        "reno"
    }
    fn start(&self, _: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        todo!()
    }
}

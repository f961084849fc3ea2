//! Cubic.
use super::*;
/// Ops.
pub struct CubicOps;
impl CongOps for CubicOps {
    fn name(&self) -> &str {
        "cubic"
    }
    fn start(&self, _: &mut Cx<'_>) -> Box<dyn CongAlgo> {
        todo!()
    }
}

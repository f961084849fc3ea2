//! Simulation: runs stacks without a kernel, a network or a wall clock; `world` is a network of stacks. Beside: packet
//! scripts, the crate in `script/`. Above: tests, and programs that test a protocol of their own. Below: the stack,
//! through its public interface. No counterpart in Linux; compare packetdrill and network simulators.
pub mod world;

pub use world::World;

//! Simulation: what runs a stack without a kernel, a network or a wall clock; in `world`, a network of stacks. Beside:
//! the crate in `script/`, packet scripts. Above: tests, and programs that want their protocol tried. Below: the stack,
//! through its public interface. No counterpart in Linux; packetdrill and network simulators play the part.
pub mod world;

pub use world::World;

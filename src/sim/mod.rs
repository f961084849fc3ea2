//! Simulation: runs stacks in virtual time, without a kernel, a network or a wall clock. `world` is a network of
//! stacks. Packet scripts are the crate in `script/`. Above: tests, and programs that test their own protocol. Below:
//! the stack, through its public interface. The same seed gives the same packets at the same times. No counterpart in
//! Linux; compare packetdrill and network simulators.
pub mod world;

pub use world::World;

//! Benchmarks of `rtc-thread` and `socket-server`.
//!
//! Those for everyday work are in `benches/`: `cargo bench -p benches`. The comparison with other
//! systems is the program `compare`, of which this library is the inside.

mod allocations;
pub mod compare;
mod floors;
mod instructions;
mod peers;
mod pin;
mod report;
mod syscalls;
mod targets;
mod workloads;

pub use allocations::CountingAllocator;

//! Benchmarks of `rtc-thread` and `socket-server`, and of the SFU on them.
//!
//! Those for everyday work are in `benches/`: `cargo bench -p benches`. The comparison with other
//! systems is the program `compare`, of which this library is the inside.

mod allocations;
mod awake;
mod compare;
mod cpu_clock;
mod dispatch;
mod measures;
mod peers;
mod pin;
mod report;
mod sfu;
mod sockets;
mod syscalls;
mod targets;
mod udp_option;

use std::path::Path;

pub use allocations::CountingAllocator;
pub use sfu::{Load as SfuLoad, Protocol as SfuProtocol};

use crate::dispatch::Dispatch;
use crate::sfu::Sfu;
use crate::sockets::Sockets;

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Comparison {
    /// Posts, calls and timers.
    Dispatch,
    /// UDP sockets.
    Sockets,
    /// SFUs.
    Sfu,
}

/// Compares everything, or what has `only` in its title, prints it, and writes it to a file if there
/// is one.
///
/// # Errors
///
/// The file cannot be written. What cannot be measured is no error: the report says why.
pub fn compare(
    comparison: Comparison,
    quick: bool,
    only: Option<&str>,
    json: Option<&Path>,
) -> Result<(), String> {
    match comparison {
        Comparison::Dispatch => compare::compare::<Dispatch>(quick, only, json),
        Comparison::Sockets => compare::compare::<Sockets>(quick, only, json),
        Comparison::Sfu => compare::compare::<Sfu>(quick, only, json),
    }
}

/// One system on its own, for a tool that watches this process: bursts, or what makes system calls.
///
/// # Errors
///
/// There is no such system, or it cannot be started.
pub fn probe(comparison: Comparison, system: &str, bursts: Option<u32>) -> Result<(), String> {
    match comparison {
        Comparison::Dispatch => compare::probe::<Dispatch>(system, bursts),
        Comparison::Sockets => compare::probe::<Sockets>(system, bursts),
        Comparison::Sfu => compare::probe::<Sfu>(system, bursts),
    }
}

/// The clients of an SFU, in a process of their own: prints what they have measured.
///
/// # Errors
///
/// The SFU does not serve them.
pub fn sfu_load(load: &SfuLoad) -> Result<(), String> {
    sfu::load(load)
}

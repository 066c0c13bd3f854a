//! Counts the instructions that a posted task costs in user mode: poster and thread together.
//!
//! By the processor's counter if the machine has one for us; else this program runs itself under
//! `valgrind`, which counts them one by one. In either case twice, with more and with fewer bursts,
//! so that starting and ending cancel out.

use perf_event::Builder;
use perf_event::events::Hardware;

use super::Dispatch;
use super::workloads::{BURST, Limits, Workload};
use crate::compare::System;
use crate::measures::Measures;
use crate::syscalls::{last_line, probe};

const FEW: u32 = 10;
const MANY: u32 = 30;

pub(crate) fn measure(system: &System<Dispatch>, limits: &Limits) -> Result<Measures, String> {
    let (few, many, how) = match by_counter(system, FEW, limits) {
        Ok(few) => (
            few,
            by_counter(system, MANY, limits)?,
            "by the processor's counter",
        ),
        Err(no_counter) => {
            let under = format!("no counter: {no_counter}; valgrind");
            let [few, many] =
                by_valgrind(system.name).map_err(|error| format!("{under}: {error}"))?;
            (few, many, "by valgrind")
        }
    };
    let tasks = f64::from((MANY - FEW) * BURST);
    Ok(Measures {
        how: Some(how),
        ..[("per task", (many as f64 - few as f64) / tasks)].into()
    })
}

fn by_counter(system: &System<Dispatch>, bursts: u32, limits: &Limits) -> Result<u64, String> {
    // Threads that this one starts are counted with it.
    let mut counter = Builder::new(Hardware::INSTRUCTIONS)
        .inherit(true)
        .build()
        .map_err(|error| format!("perf_event_open: {error}"))?;
    counter.enable().map_err(|error| error.to_string())?;
    system.run(Workload::Bursts(bursts), limits)?;
    counter.read().map_err(|error| error.to_string())
}

fn by_valgrind(system: &str) -> Result<[u64; 2], String> {
    let options = [
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ];
    // Both at once: what is counted does not depend on how fast it goes.
    let children = [FEW, MANY].map(|bursts| {
        probe::<Dispatch>("valgrind", &options, system, bursts)
            .stderr(std::process::Stdio::piped())
            .spawn()
    });
    let mut counts = [0; 2];
    for (count, child) in counts.iter_mut().zip(children) {
        let output = child
            .and_then(std::process::Child::wait_with_output)
            .map_err(|error| format!("{error}; apt-get install valgrind"))?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, last_line(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stderr);
        *count = text
            .lines()
            .find_map(|line| line.split_once("refs:"))
            .and_then(|(_, count)| count.trim().replace(',', "").parse().ok())
            .ok_or_else(|| last_line(&output.stderr))?;
    }
    Ok(counts)
}

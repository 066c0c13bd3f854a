//! Compares rtc-thread, socket-server and echo-sfu with their peers, all in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Comparison, CountingAllocator, SfuLoad, compare, probe, sfu_load};
use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Compares rtc-thread, socket-server and echo-sfu with their peers, all in one run.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Posts, calls and timers.
    Dispatch(Run),
    /// UDP: forwarding, and answers of an idle loop.
    Sockets(Run),
    /// SFUs: echo-sfu, which has to be built, and Janus, if it is installed.
    Sfu(Run),
    /// What the comparison runs under strace and valgrind.
    #[command(hide = true)]
    Probe {
        of: Comparison,
        #[arg(long)]
        system: String,
        #[arg(long)]
        bursts: Option<u32>,
    },
    /// The clients that the comparison of SFUs starts.
    #[command(hide = true)]
    SfuLoad(SfuLoad),
}

#[derive(Debug, Args)]
struct Run {
    /// Two minutes or less instead of many: fewer samples, rounds and cases.
    #[arg(long)]
    quick: bool,
    /// Only the workloads with this in their title; targets of others are not measured.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Run {
    fn run(&self, comparison: Comparison) -> Result<(), String> {
        compare(
            comparison,
            self.quick,
            self.only.as_deref(),
            self.json.as_deref(),
        )
    }
}

fn main() -> ExitCode {
    let outcome = match Options::parse().command {
        Command::Dispatch(run) => run.run(Comparison::Dispatch),
        Command::Sockets(run) => run.run(Comparison::Sockets),
        Command::Sfu(run) => run.run(Comparison::Sfu),
        Command::Probe { of, system, bursts } => probe(of, &system, bursts),
        Command::SfuLoad(load) => sfu_load(&load),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Compares rtc-thread and socket-server with their peers, all in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::{Comparison, CountingAllocator, compare, probe};
use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Compares rtc-thread and socket-server with their peers, all in one run.
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
    /// What the comparison runs under strace and valgrind.
    #[command(hide = true)]
    Probe {
        of: Comparison,
        #[arg(long)]
        system: String,
        #[arg(long)]
        bursts: Option<u32>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// A minute or less instead of several: fewer samples and rounds.
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
        Command::Probe { of, system, bursts } => probe(of, &system, bursts),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Compares rtc-thread with its peers, all in one run.

use std::path::PathBuf;
use std::process::ExitCode;

use benches::CountingAllocator;
use benches::compare::{dispatch, probe};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Compares rtc-thread with its peers, all in one run.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Posts, calls and timers.
    Dispatch {
        /// Less than a minute instead of several: fewer samples and rounds.
        #[arg(long)]
        quick: bool,
        /// Only the workloads with this in their title; targets of others are not measured.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
        /// Writes all figures to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the comparison runs under strace and valgrind.
    #[command(hide = true)]
    Probe {
        #[arg(long)]
        system: String,
        #[arg(long)]
        bursts: Option<u32>,
    },
}

fn main() -> ExitCode {
    let outcome = match Options::parse().command {
        Command::Dispatch { quick, only, json } => {
            dispatch(quick, only.as_deref(), json.as_deref())
        }
        Command::Probe { system, bursts } => probe(&system, bursts),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

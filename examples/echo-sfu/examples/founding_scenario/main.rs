//! The scenario of the founding forum thread, in thousands of orders.
//!
//! In SFUs made of event listeners, `pause`, `resume` and `pipeToRouter` that are not awaited can
//! leave a piped producer paused for good while its source goes on. Here the same calls are made,
//! none of them awaited, in thousands of interleavings of the threads involved; after each of them
//! everything must agree.
//!
//! `--listeners` runs the same explorer over a model of the listener design, and shows how it fails.

mod listeners;
mod scenario;

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Parser;
use rtc_thread::Simulation;

use self::scenario::{Row, Variant, disagreement, run};

/// The scenario of the founding forum thread, in thousands of orders.
#[derive(Debug, Parser)]
struct Options {
    /// How many interleavings of each variant to run, at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    interleavings: u64,
    /// Shows the fault that the thread reports, in a model of the design that has it.
    #[arg(long)]
    listeners: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.listeners {
        return listeners::show(options.interleavings);
    }
    let mut total = 0;
    for variant in Variant::ALL {
        let mut ends = BTreeSet::new();
        let mut wrong = None;
        let mut last = Vec::new();
        let explored = Simulation::explore(options.interleavings, |simulation| {
            if wrong.is_none() {
                last = run(simulation, variant);
                wrong = disagreement(variant, &last);
                ends.insert(format!("{last:?}"));
            }
        });
        if let Some(wrong) = wrong {
            println!("{variant:?}: {wrong}");
            return ExitCode::FAILURE;
        }
        total += explored.runs;
        let all = if explored.is_complete {
            ", all there are"
        } else {
            ""
        };
        let (runs, ways) = (explored.runs, ends.len());
        println!(
            "\n{variant:?}: {runs} interleavings{all}; they end in {ways} ways, and none disagrees"
        );
        show(&last);
    }
    println!("\n{total} interleavings, no disagreement");
    ExitCode::SUCCESS
}

/// Prints the states that one of the interleavings has ended in.
fn show(rows: &[Row]) {
    for row in rows {
        let state = match (row.paused, row.closed) {
            (_, Some(reason)) => format!("closed: {reason:?}"),
            (Some(true), None) => "paused".to_owned(),
            (Some(false), None) => "not paused".to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        println!("  {:24} {state}", row.what);
    }
}

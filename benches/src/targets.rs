//! What rtc-thread is to reach, and whether it did.

use std::fmt;

use crate::compare::{
    FLOOR_EVENTFD, FLOOR_FUTEX, FLOOR_SPIN, LIBWEBRTC, LIBWEBRTC_NULL, RTC, RTC_IDLE_SOCKETS,
    RTC_PARK, RTC_PARK_SPINS, RTC_SPINS, TOKIO_MPSC,
};
use crate::report::{Table, number};
use crate::workloads::Workload;

/// A figure, or a ratio of two, and its limit.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: String,
    /// `None` if one of the figures is missing.
    pub(crate) measured: Option<f64>,
    pub(crate) limit: f64,
    /// Whether more is better.
    at_least: bool,
}

impl Target {
    pub(crate) fn met(&self) -> Option<bool> {
        self.measured.map(|measured| {
            if self.at_least {
                measured >= self.limit
            } else {
                measured <= self.limit
            }
        })
    }
}

struct Figures<'a> {
    tables: &'a [Table],
    targets: Vec<Target>,
}

impl Figures<'_> {
    fn median(&self, workload: Workload, system: &str, figure: &str) -> Option<f64> {
        let table = self
            .tables
            .iter()
            .find(|table| table.workload == workload)?;
        table.median(system, figure)
    }

    fn add(&mut self, what: String, measured: Option<f64>, limit: f64, at_least: bool) {
        self.targets.push(Target {
            what,
            measured,
            limit,
            at_least,
        });
    }

    fn at_most(&mut self, of: (Workload, &str, &str), limit: f64, what: &str) {
        let measured = self.median(of.0, of.1, of.2);
        self.add(
            format!("{}: {what}, {}", of.1, of.2),
            measured,
            limit,
            false,
        );
    }

    /// The same figure of two systems.
    fn ratio(&mut self, of: (Workload, &str, &str), to: &str, limit: f64, what: &str) {
        let (workload, system, figure) = of;
        let measured = self.median(workload, system, figure);
        let ratio = measured
            .zip(self.median(workload, to, figure))
            .map(|(measured, to)| measured / to);
        let at_least = figure == TASKS && limit >= 2.0 || limit < 1.0;
        self.add(
            format!("{system}: {what}, {figure} ÷ {to}"),
            ratio,
            limit,
            at_least,
        );
    }
}

const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
const TASKS: &str = "M tasks/s";

pub(crate) fn all(tables: &[Table]) -> Vec<Target> {
    use Workload::{
        Allocations, AwakePingPong, BlockingCall, Bursts, FourPosters, IdlePingPong, OnePoster,
        SystemCalls, TimerCost, TimerLateness,
    };
    let mut figures = Figures {
        tables,
        targets: Vec::new(),
    };
    let idle = "idle round trip";
    for system in [RTC, RTC_PARK] {
        figures.ratio((IdlePingPong, system, P50), FLOOR_EVENTFD, 1.05, idle);
    }
    figures.ratio((IdlePingPong, RTC, P50), LIBWEBRTC, 1.0, idle);
    figures.ratio((IdlePingPong, RTC_PARK, P50), LIBWEBRTC_NULL, 1.0, idle);
    for system in [RTC_SPINS, RTC_PARK_SPINS] {
        let awake = "awake round trip";
        figures.ratio((AwakePingPong, system, P50), FLOOR_SPIN, 3.0, awake);
        figures.at_most((AwakePingPong, system, P50), 0.25, awake);
        figures.at_most((AwakePingPong, system, P99), 1.0, awake);
    }
    for (workload, what) in [(OnePoster, "one poster"), (FourPosters, "four posters")] {
        figures.ratio((workload, RTC, TASKS), LIBWEBRTC, 10.0, what);
        figures.ratio((workload, RTC_PARK, TASKS), LIBWEBRTC_NULL, 10.0, what);
        figures.ratio((workload, RTC, TASKS), TOKIO_MPSC, 5.0, what);
    }
    figures.at_most((Allocations, RTC, "per post"), 0.0, "allocations");
    let call = "blocking call";
    for (system, peer) in [(RTC, LIBWEBRTC), (RTC_PARK, LIBWEBRTC_NULL)] {
        figures.ratio((BlockingCall, system, P50), FLOOR_FUTEX, 1.05, call);
        figures.ratio((BlockingCall, system, P50), peer, 1.0, call);
    }
    for (workload, figure, what) in [(IdlePingPong, P50, idle), (BlockingCall, P50, call)] {
        figures.ratio((workload, RTC_IDLE_SOCKETS, figure), RTC, 1.05, what);
    }
    for (workload, what) in [(OnePoster, "one poster"), (FourPosters, "four posters")] {
        figures.ratio((workload, RTC_IDLE_SOCKETS, TASKS), RTC, 0.95, what);
    }
    figures.at_most((Bursts(0), RTC, "per task"), 100.0, "instructions");
    for (figure, limit) in [("per idle round trip", 4.0), ("per post, busy", 0.0)] {
        // A few calls at the ends of fifty round trips are no difference.
        figures.at_most((SystemCalls, RTC, figure), limit + 0.1, "system calls");
    }
    for (figure, limit) in [("insert ns, at a million", 100.0), ("left % of bytes", 5.0)] {
        figures.at_most((TimerCost, RTC, figure), limit, "a million timers");
    }
    for (figure, limit) in [(P50, 40.0), (P99, 120.0), ("early %", 0.0)] {
        figures.at_most((TimerLateness, RTC, figure), limit, "timers");
    }
    figures.targets
}

/// The list, for people.
pub(crate) struct Shown<'a>(pub(crate) &'a [Target]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Targets\n")?;
        for target in self.0 {
            let verdict = match target.met() {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "not measured",
            };
            let measured = target.measured.map_or_else(|| "n/a".into(), number);
            let relation = if target.at_least { "≥" } else { "≤" };
            let limit = number(target.limit);
            writeln!(
                f,
                "{verdict:12} {measured:>7} (to be {relation} {limit})  {}",
                target.what
            )?;
        }
        Ok(())
    }
}

//! What is to be reached, and whether it was.

use std::fmt;

use crate::compare::Suite;
use crate::report::{Table, number};

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

/// What was measured, and the targets for it.
pub(crate) struct Figures<'a, S: Suite> {
    tables: &'a [Table<S>],
    pub(crate) targets: Vec<Target>,
}

impl<'a, S: Suite> Figures<'a, S> {
    pub(crate) fn new(tables: &'a [Table<S>]) -> Self {
        Self {
            tables,
            targets: Vec::new(),
        }
    }

    fn median(&self, workload: S::Workload, system: &str, figure: &str) -> Option<f64> {
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

    pub(crate) fn at_most(&mut self, of: (S::Workload, &str, &str), limit: f64, what: &str) {
        let measured = self.median(of.0, of.1, of.2);
        self.add(
            format!("{}: {what}, {}", of.1, of.2),
            measured,
            limit,
            false,
        );
    }

    /// The same figure of two systems.
    pub(crate) fn ratio(
        &mut self,
        of: (S::Workload, &str, &str),
        to: &str,
        limit: f64,
        what: &str,
    ) {
        let (workload, system, figure) = of;
        let measured = self.median(workload, system, figure);
        let ratio = measured
            .zip(self.median(workload, to, figure))
            .map(|(measured, to)| measured / to);
        // Of a rate, more is better.
        let at_least = figure.ends_with("/s");
        self.add(
            format!("{system}: {what}, {figure} ÷ {to}"),
            ratio,
            limit,
            at_least,
        );
    }
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

//! Tables for people, JSON for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::compare::Suite;
use crate::measures::Measures;
use crate::targets::Target;

/// The figures of one system in one workload.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) system: &'static str,
    /// By name; one value per round.
    figures: Vec<(&'static str, Vec<f64>)>,
    how: Option<&'static str>,
    /// Why there are no figures.
    pub(crate) unavailable: Option<String>,
}

impl Row {
    pub(crate) fn new(system: &'static str) -> Self {
        Self {
            system,
            figures: Vec::new(),
            how: None,
            unavailable: None,
        }
    }

    pub(crate) fn add(&mut self, measures: Measures) {
        self.how = measures.how;
        for (name, value) in measures.figures {
            match self.figures.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => self.figures.push((name, vec![value])),
            }
        }
    }

    /// Median, and lower and upper quartile.
    fn quartiles(&self, figure: &str) -> Option<[f64; 3]> {
        let (_, values) = self.figures.iter().find(|(name, _)| *name == figure)?;
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        // Linear between the neighbours.
        let at = |quantile: f64| {
            let position = (sorted.len() - 1) as f64 * quantile;
            let (low, high) = (
                sorted[position.floor() as usize],
                sorted[position.ceil() as usize],
            );
            low + (high - low) * position.fract()
        };
        Some([at(0.5), at(0.25), at(0.75)])
    }
}

/// All systems in one workload.
pub(crate) struct Table<S: Suite> {
    pub(crate) workload: S::Workload,
    pub(crate) title: &'static str,
    pub(crate) floor: Option<&'static str>,
    pub(crate) rows: Vec<Row>,
}

impl<S: Suite> Table<S> {
    pub(crate) fn median(&self, system: &str, figure: &str) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.system == system)?;
        Some(row.quartiles(figure)?[0])
    }

    fn figure_names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.figures) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        names
    }

    /// Times what the system has, by the first figure.
    fn ratio(&self, row: &Row, to: &str) -> String {
        let ratio = || {
            let first = *self.figure_names().first()?;
            let to = self.median(to, first)?;
            (to > 0.0).then_some(row.quartiles(first)?[0] / to)
        };
        ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"))
    }
}

/// Three digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.005 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

impl<S: Suite> fmt::Display for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.figure_names();
        let (ours, short) = S::OURS;
        let mut lines = vec![vec!["system".to_owned()]];
        lines[0].extend(names.iter().map(|&name| name.to_owned()));
        if self.floor.is_some() {
            lines[0].push("× floor".into());
        }
        lines[0].push(format!("× {short}"));
        for row in self.rows.iter().filter(|row| row.unavailable.is_none()) {
            let name = row.how.map_or_else(
                || row.system.to_owned(),
                |how| format!("{} ({how})", row.system),
            );
            let mut cells = vec![name];
            cells.extend(names.iter().map(|name| match row.quartiles(name) {
                Some([median, low, high]) if low < high => {
                    format!("{} [{}–{}]", number(median), number(low), number(high))
                }
                Some([median, ..]) => number(median),
                None => "–".into(),
            }));
            if let Some(floor) = self.floor {
                cells.push(self.ratio(row, floor));
            }
            cells.push(self.ratio(row, ours));
            lines.push(cells);
        }
        writeln!(f, "## {}", self.title)?;
        if let Some(floor) = self.floor {
            writeln!(
                f,
                "({floor}; ratios are of the first figure, that of \"{ours}\" last)"
            )?;
        }
        writeln!(f)?;
        let width = |column: usize| {
            let widths = lines.iter().map(|line| line[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
        for (n, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if n == 0 {
                for width in &widths {
                    write!(f, "|{:-<1$}", "", width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        // Those without figures, by reason.
        let mut told = Vec::new();
        for reason in self.rows.iter().filter_map(|row| row.unavailable.as_ref()) {
            if told.contains(&reason) {
                continue;
            }
            told.push(reason);
            let same = self
                .rows
                .iter()
                .filter(|row| row.unavailable.as_ref() == Some(reason));
            let systems: Vec<_> = same.map(|row| row.system).collect();
            write!(f, "\nn/a: {}: {reason}", systems.join("; "))?;
        }
        Ok(())
    }
}

/// Everything, with the value of each round.
pub(crate) fn json<S: Suite>(quick: bool, tables: &[Table<S>], targets: &[Target]) -> Value {
    let row = |row: &Row| {
        let figures = row.figures.iter().map(|(name, values)| {
            let [median, low, high] = row.quartiles(name).unwrap_or_default();
            let figure = json!({
                "median": median, "lower_quartile": low, "upper_quartile": high, "rounds": values,
            });
            ((*name).to_owned(), figure)
        });
        json!({
            "system": row.system,
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "how": row.how,
            "unavailable": row.unavailable,
        })
    };
    let table = |table: &Table<S>| {
        json!({
            "workload": table.title,
            "floor": table.floor,
            "systems": table.rows.iter().map(row).collect::<Vec<_>>(),
        })
    };
    let target = |target: &Target| {
        json!({
            "target": target.what,
            "measured": target.measured,
            "limit": target.limit,
            "met": target.met(),
        })
    };
    json!({
        "quick": quick,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "features": {"libwebrtc": cfg!(feature = "libwebrtc"), "libuv": cfg!(feature = "libuv")},
        "workloads": tables.iter().map(table).collect::<Vec<_>>(),
        "targets": targets.iter().map(target).collect::<Vec<_>>(),
    })
}

//! How a comparison is run: how often, and in which order.
//!
//! Machines drift: a neighbour comes and goes, a core changes its clock. So nothing here is measured
//! in one go. Within a workload the systems take turns, round after round and back again, and what
//! is reported is the median of the rounds, and how far its middle half spreads.

use std::path::Path;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::measures::Measures;
use crate::report::{Row, Table};
use crate::targets::{Shown, Target};
use crate::{pin, report};

/// What is compared: which systems, in which workloads, and what is to come out of it.
pub(crate) trait Suite: Sized + 'static {
    type Workload: Copy + PartialEq + Send + Sync;
    /// How much of everything one measurement does.
    type Limits: Sync + 'static;

    /// The command of this program that runs it.
    const COMMAND: &'static str;
    /// The system that the others are set in relation to, and what it is called for short.
    const OURS: (&'static str, &'static str);
    /// For what runs under another program: long enough for an average.
    const PROBE: Self::Limits;

    fn systems() -> Vec<System<Self>>;
    fn plans(quick: bool) -> Vec<Plan<Self>>;
    fn limits(quick: bool) -> Self::Limits;
    fn measure(
        system: &System<Self>,
        workload: Self::Workload,
        limits: &Self::Limits,
    ) -> Result<Measures, String>;
    /// What runs under another program: what makes system calls, or bursts.
    fn probe(bursts: Option<u32>) -> Self::Workload;
    fn targets(tables: &[Table<Self>]) -> Vec<Target>;
}

type Run<S> =
    dyn Fn(<S as Suite>::Workload, &<S as Suite>::Limits) -> Result<Measures, String> + Sync;

/// One of the systems that are compared.
pub(crate) struct System<S: Suite> {
    pub(crate) name: &'static str,
    pub(crate) takes_part: fn(S::Workload) -> bool,
    pub(crate) run: Box<Run<S>>,
}

impl<S: Suite> System<S> {
    #[cfg(not(all(feature = "libwebrtc", feature = "libuv")))]
    pub(crate) fn missing(name: &'static str, feature: &'static str) -> Self {
        let run = move |_: S::Workload, _: &S::Limits| {
            Err(format!(
                "built without the feature `{feature}`; \
                 apt-get install libtgowt-dev libuv1-dev strace valgrind && cargo run --release \
                 -p benches --features libwebrtc,libuv --bin compare -- {}",
                S::COMMAND
            ))
        };
        Self {
            name,
            takes_part: |_| true,
            run: Box::new(run),
        }
    }

    /// On a thread of its own, which the workload may pin.
    pub(crate) fn run(
        &self,
        workload: S::Workload,
        limits: &S::Limits,
    ) -> Result<Measures, String> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| (self.run)(workload, limits));
            run.join().unwrap_or_else(|_| Err("it panicked".into()))
        })
    }
}

/// One table of the report.
pub(crate) struct Plan<S: Suite> {
    pub(crate) workload: S::Workload,
    pub(crate) title: &'static str,
    pub(crate) floor: Option<&'static str>,
    pub(crate) rounds: u32,
}

fn fill<S: Suite>(plan: &Plan<S>, systems: &[System<S>], limits: &S::Limits) -> Table<S> {
    let mut rows: Vec<_> = systems
        .iter()
        .filter(|system| (system.takes_part)(plan.workload))
        .map(|system| (system, Row::new(system.name)))
        .collect();
    for round in 0..plan.rounds {
        // There and back, so that nobody always comes after the same neighbour.
        let mut order: Vec<_> = rows.iter_mut().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (system, row) in order {
            if row.unavailable.is_none() {
                match S::measure(system, plan.workload, limits) {
                    Ok(measures) => row.add(measures),
                    Err(reason) => row.unavailable = Some(reason),
                }
            }
        }
    }
    Table {
        workload: plan.workload,
        title: plan.title,
        floor: plan.floor,
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    }
}

/// Compares everything, or what has `only` in its title, prints it, and writes it to a file if there
/// is one.
pub(crate) fn compare<S: Suite>(
    quick: bool,
    only: Option<&str>,
    json: Option<&Path>,
) -> Result<(), String> {
    prepare();
    let started = Instant::now();
    let (systems, limits) = (S::systems(), S::limits(quick));
    println!("Medians of the rounds [and their middle half]. Compare within this run only.");
    if cfg!(feature = "libwebrtc") {
        println!("libwebrtc as Debian builds it: with its debug checks on.");
    }
    let mut tables = Vec::new();
    let only = only.unwrap_or_default();
    let plans = S::plans(quick);
    for plan in plans.iter().filter(|plan| plan.title.contains(only)) {
        eprintln!("{:5.1} s: {}", started.elapsed().as_secs_f64(), plan.title);
        let table = fill(plan, &systems, &limits);
        println!("\n{table}");
        tables.push(table);
    }
    let targets = S::targets(&tables);
    println!("\n{}", Shown(&targets));
    if let Some(path) = json {
        let figures = report::json(quick, &tables, &targets);
        std::fs::write(path, format!("{figures:#}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    eprintln!("{:5.1} s: done", started.elapsed().as_secs_f64());
    Ok(())
}

/// One system on its own, for a tool that watches this process.
pub(crate) fn probe<S: Suite>(system: &str, bursts: Option<u32>) -> Result<(), String> {
    prepare();
    let systems = S::systems();
    let system = systems
        .iter()
        .find(|known| known.name == system)
        .ok_or_else(|| format!("there is no system {system:?}"))?;
    system.run(S::probe(bursts), &S::PROBE).map(drop)
}

fn prepare() {
    pin::init();
    // Two threads with a thousand sockets each: more than the usual limit.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("compare: the limit of open files stays as it is: {error}");
    }
}

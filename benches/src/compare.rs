//! The comparison: which systems, which workloads, how often and in which order.
//!
//! Machines drift: a neighbour comes and goes, a core changes its clock. So nothing here is measured
//! in one go. Within a workload the systems take turns, round after round and back again, and what
//! is reported is the median of the rounds, and how far its middle half spreads.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::floors::Floor;
use crate::peers::{Peer, channel, mio_queue, rtc_thread, tokio};
use crate::report::{Row, Table};
use crate::workloads::{Limits, Measures, Workload, run};
use crate::{instructions, pin, report, syscalls, targets};

/// What builds and runs everything.
#[cfg(not(all(feature = "libwebrtc", feature = "libuv")))]
const ENABLE: &str = "apt-get install libtgowt-dev libuv1-dev strace valgrind && \
     cargo run --release -p benches --features libwebrtc,libuv --bin compare -- dispatch";

pub(crate) const RTC: &str = "rtc-thread, sockets";
pub(crate) const RTC_PARK: &str = "rtc-thread, no sockets";
pub(crate) const RTC_IDLE_SOCKETS: &str = "rtc-thread, 1,000 idle sockets";
pub(crate) const RTC_SPINS: &str = "rtc-thread, sockets, spins";
pub(crate) const RTC_PARK_SPINS: &str = "rtc-thread, no sockets, spins";
pub(crate) const LIBWEBRTC: &str = "libwebrtc, PhysicalSocketServer";
pub(crate) const LIBWEBRTC_NULL: &str = "libwebrtc, NullSocketServer";
pub(crate) const LIBUV: &str = "libuv";
pub(crate) const TOKIO_MPSC: &str = "tokio, mpsc";
pub(crate) const FLOOR_SPIN: &str = "floor: spinning";
pub(crate) const FLOOR_FUTEX: &str = "floor: futex";
pub(crate) const FLOOR_EVENTFD: &str = "floor: eventfd, epoll";

type Run = Box<dyn Fn(Workload, &Limits) -> Result<Measures, String> + Sync>;

/// One of the systems that are compared.
pub(crate) struct System {
    pub(crate) name: &'static str,
    takes_part: fn(Workload) -> bool,
    run: Run,
}

impl System {
    fn peer<P: Peer>(
        name: &'static str,
        start: impl Fn() -> Result<P, String> + Sync + 'static,
    ) -> Self {
        Self {
            name,
            takes_part: |_| true,
            run: Box::new(move |workload, limits| run(workload, limits, &start)),
        }
    }

    #[cfg(not(all(feature = "libwebrtc", feature = "libuv")))]
    fn missing(name: &'static str, feature: &'static str) -> Self {
        let run = move |_: Workload, _: &Limits| {
            Err(format!("built without the feature `{feature}`; {ENABLE}"))
        };
        Self {
            name,
            takes_part: |_| true,
            run: Box::new(run),
        }
    }

    fn floor(name: &'static str, floor: Floor, takes_part: fn(Workload) -> bool) -> Self {
        Self {
            name,
            takes_part,
            run: Box::new(move |workload, limits| floor.run(workload, limits)),
        }
    }

    /// On a thread of its own, which the workload may pin.
    pub(crate) fn run(&self, workload: Workload, limits: &Limits) -> Result<Measures, String> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| (self.run)(workload, limits));
            run.join().unwrap_or_else(|_| Err("it panicked".into()))
        })
    }
}

fn systems() -> Vec<System> {
    let rtc = |name, sockets, idle_sockets, spins| {
        let kind = rtc_thread::Kind {
            sockets,
            idle_sockets,
            spins,
        };
        let system = System::peer(name, move || rtc_thread::start(kind));
        System {
            // How a thread waits makes no difference to adding timers, and what it does while it
            // waits would be counted among the instructions.
            takes_part: match (spins, idle_sockets) {
                (true, _) => |of| !matches!(of, Workload::TimerCost | Workload::Bursts(_)),
                (false, 0) => |_| true,
                (false, _) => |of| !matches!(of, Workload::Bursts(_)),
            },
            ..system
        }
    };
    vec![
        System::floor(FLOOR_SPIN, Floor::Spin, |workload| {
            Floor::Spin.takes_part(workload)
        }),
        System::floor(FLOOR_FUTEX, Floor::Futex, |workload| {
            Floor::Futex.takes_part(workload)
        }),
        System::floor(FLOOR_EVENTFD, Floor::EventFd, |workload| {
            Floor::EventFd.takes_part(workload)
        }),
        rtc(RTC, true, 0, false),
        rtc(RTC_PARK, false, 0, false),
        rtc(RTC_IDLE_SOCKETS, true, 1_000, false),
        rtc(RTC_SPINS, true, 0, true),
        rtc(RTC_PARK_SPINS, false, 0, true),
        #[cfg(feature = "libwebrtc")]
        System::peer(LIBWEBRTC, || crate::peers::libwebrtc::start(true)),
        #[cfg(feature = "libwebrtc")]
        System::peer(LIBWEBRTC_NULL, || crate::peers::libwebrtc::start(false)),
        #[cfg(not(feature = "libwebrtc"))]
        System::missing(LIBWEBRTC, "libwebrtc"),
        #[cfg(not(feature = "libwebrtc"))]
        System::missing(LIBWEBRTC_NULL, "libwebrtc"),
        #[cfg(feature = "libuv")]
        System::peer(LIBUV, crate::peers::libuv::start),
        #[cfg(not(feature = "libuv"))]
        System::missing(LIBUV, "libuv"),
        System::peer(TOKIO_MPSC, tokio::start_mpsc),
        System::peer("tokio, spawn", tokio::start_spawn),
        System::peer("crossbeam-channel", channel::start_crossbeam),
        System::peer("std mpsc", channel::start_std),
        System::peer("mutex, VecDeque, mio Waker", mio_queue::start),
    ]
}

/// One table of the report.
struct Plan {
    workload: Workload,
    title: &'static str,
    floor: Option<&'static str>,
    rounds: u32,
}

fn plans(quick: bool) -> [Plan; 11] {
    let plan = |workload, title, floor, (quick_rounds, rounds)| Plan {
        workload,
        title,
        floor,
        rounds: if quick { quick_rounds } else { rounds },
    };
    let (often, more, seldom, once) = ((3, 9), (5, 11), (1, 3), (1, 1));
    [
        plan(
            Workload::IdlePingPong,
            "idle ping-pong: round trip between two threads that sleep",
            Some(FLOOR_EVENTFD),
            often,
        ),
        plan(
            Workload::AwakePingPong,
            "ping-pong without pauses: who spins stays awake",
            Some(FLOOR_SPIN),
            often,
        ),
        plan(
            Workload::Post,
            "one post: until it runs on a sleeping thread, and what it costs the poster",
            None,
            often,
        ),
        plan(Workload::OnePoster, "throughput, one poster", None, more),
        plan(
            Workload::FourPosters,
            "throughput, four posters",
            None,
            more,
        ),
        plan(
            Workload::BlockingCall,
            "blocking call of a sleeping thread",
            Some(FLOOR_FUTEX),
            often,
        ),
        plan(
            Workload::TimerCost,
            "a million pending timers, then all cancelled",
            None,
            seldom,
        ),
        plan(
            Workload::TimerLateness,
            "timers spread over time: how late they run",
            None,
            seldom,
        ),
        plan(
            Workload::Allocations,
            "heap allocations per post of four words, Rust's and C++'s",
            None,
            once,
        ),
        plan(
            Workload::SystemCalls,
            "system calls of both sides",
            Some(FLOOR_EVENTFD),
            once,
        ),
        plan(
            Workload::Bursts(0),
            "user instructions per small task of a burst, poster and thread",
            None,
            once,
        ),
    ]
}

fn limits(quick: bool) -> Limits {
    let ms = Duration::from_millis;
    if quick {
        Limits {
            samples: 300,
            time: ms(80),
            tasks: 200_000,
            pending: 1_000_000,
            timers: 300,
            timers_over: ms(600),
        }
    } else {
        Limits {
            samples: 1_000,
            time: ms(300),
            tasks: 1_000_000,
            pending: 1_000_000,
            timers: 1_000,
            timers_over: ms(2_000),
        }
    }
}

/// What runs under strace: long enough for an average.
const PROBE: Limits = Limits {
    samples: 50,
    time: Duration::from_secs(10),
    tasks: 0,
    pending: 0,
    timers: 0,
    timers_over: Duration::ZERO,
};

fn measure(system: &System, workload: Workload, limits: &Limits) -> Result<Measures, String> {
    match workload {
        Workload::SystemCalls => {
            // One that cannot be started says why better than strace would.
            system.run(Workload::Bursts(0), limits)?;
            syscalls::measure(system.name, &PROBE)
        }
        Workload::Bursts(_) => {
            system.run(Workload::Bursts(0), limits)?;
            instructions::measure(system, limits)
        }
        _ => system.run(workload, limits),
    }
}

fn fill(plan: &Plan, systems: &[System], limits: &Limits) -> Table {
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
                match measure(system, plan.workload, limits) {
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
///
/// # Errors
///
/// The file cannot be written. What cannot be measured is no error: the report says why.
pub fn dispatch(quick: bool, only: Option<&str>, json: Option<&Path>) -> Result<(), String> {
    prepare();
    let started = Instant::now();
    let (systems, limits) = (systems(), limits(quick));
    println!("Medians of the rounds [and their middle half]. Compare within this run only.");
    if cfg!(feature = "libwebrtc") {
        println!("libwebrtc as Debian builds it: with its debug checks on.");
    }
    let mut tables = Vec::new();
    let only = only.unwrap_or_default();
    for plan in plans(quick).iter().filter(|plan| plan.title.contains(only)) {
        eprintln!("{:5.1} s: {}", started.elapsed().as_secs_f64(), plan.title);
        let table = fill(plan, &systems, &limits);
        println!("\n{table}");
        tables.push(table);
    }
    let targets = targets::all(&tables);
    println!("\n{}", targets::Shown(&targets));
    if let Some(path) = json {
        let figures = report::json(quick, &tables, &targets);
        std::fs::write(path, format!("{figures:#}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    eprintln!("{:5.1} s: done", started.elapsed().as_secs_f64());
    Ok(())
}

/// One system on its own, for a tool that watches this process: bursts, or what makes system calls.
///
/// # Errors
///
/// There is no such system, or it cannot be started.
pub fn probe(system: &str, bursts: Option<u32>) -> Result<(), String> {
    prepare();
    let systems = systems();
    let system = systems
        .iter()
        .find(|known| known.name == system)
        .ok_or_else(|| format!("there is no system {system:?}"))?;
    let workload = bursts.map_or(Workload::SystemCalls, Workload::Bursts);
    system.run(workload, &PROBE).map(drop)
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

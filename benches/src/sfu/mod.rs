//! SFUs under real load: echo-sfu, Janus, and what the machine allows at all.
//!
//! The system is a program of its own on the second core, all its threads; its clients are a process
//! on the first.

mod arrivals;
mod floor;
mod http;
mod load;
mod measured;
mod media;
mod process;
mod ready;
mod servers;
mod signaling;
mod targets;

use std::process::{Command, Stdio};
use std::time::Duration;

pub use self::load::Load;
use self::measured::Measured;
use self::ready::LOOK_EVERY;
use self::servers::janus::Loops;
use self::servers::{Server, echo_sfu, janus, own_address};
pub use self::signaling::Protocol;
use crate::awake::Awake;
use crate::compare::{Plan, Suite, System};
use crate::measures::Measures;
use crate::report::Table;
use crate::targets::Target;
use crate::{pin, syscalls};

const OURS: &str = "echo-sfu";
const FLOOR: &str = "floor: AES-128-GCM, sendto";
const FLOOR_GSO: &str = "floor: AES-128-GCM, GSO per frame";
const JANUS: &str = "Janus videoroom";
const JANUS_ONE: &str = "Janus videoroom, event_loops = 1";

/// What has not come so long after the end is lost.
const LATE: Duration = Duration::from_secs(1);

/// One publisher in each room, and so many viewers of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    rooms: usize,
    viewers: usize,
}

const fn to(viewers: usize) -> Case {
    Case { rooms: 1, viewers }
}

const ROOMS: Case = Case {
    rooms: 10,
    viewers: 9,
};

const CASES: [(Case, &str); 8] = [
    (to(1), "1 publisher → 1 viewer"),
    (to(10), "1 publisher → 10 viewers"),
    (to(50), "1 publisher → 50 viewers"),
    (to(100), "1 publisher → 100 viewers"),
    (to(200), "1 publisher → 200 viewers"),
    (to(300), "1 publisher → 300 viewers"),
    (to(500), "1 publisher → 500 viewers"),
    (ROOMS, "10 rooms: 1 publisher → 9 viewers each"),
];

/// Of the quick run.
const QUICK: usize = 4;

/// More than this is more than Janus can do on one core.
const JANUS_VIEWERS: usize = 200;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Between the last viewer's coming and the measurement: congestion control has made up its mind.
    settle: Duration,
    measure: Duration,
}

pub(crate) enum Sfu {}

impl Suite for Sfu {
    type Workload = Case;
    type Limits = Limits;

    const COMMAND: &'static str = "sfu";
    const OURS: (&'static str, &'static str) = (OURS, "echo-sfu");
    const PROBE: Limits = Limits {
        settle: Duration::from_secs(1),
        measure: Duration::from_secs(20),
    };

    fn systems() -> Vec<System<Self>> {
        let floor = |name, sends| System {
            name,
            takes_part: |case: Case| case.rooms == 1,
            run: Box::new(move |case, limits: &Limits| {
                floor::run(case, own_address(), sends, limits)
            }),
        };
        let janus = |name, loops| System {
            name,
            takes_part: |case: Case| case.viewers <= JANUS_VIEWERS,
            run: Box::new(move |case, limits: &Limits| {
                run(case, limits, janus::start(own_address(), loops))
            }),
        };
        vec![
            floor(FLOOR, floor::Sends::Each),
            floor(FLOOR_GSO, floor::Sends::Frame),
            System {
                name: OURS,
                takes_part: |_| true,
                run: Box::new(|case, limits| run(case, limits, echo_sfu::start(own_address()))),
            },
            janus(JANUS, Loops::PerClient),
            janus(JANUS_ONE, Loops::One),
        ]
    }

    fn plans(quick: bool) -> Vec<Plan<Self>> {
        let cases = if quick { &CASES[..QUICK] } else { &CASES[..] };
        let plan = |&(workload, title): &(Case, &'static str)| Plan {
            workload,
            title,
            floor: (workload.rooms == 1).then_some(FLOOR),
            rounds: if quick { 1 } else { 3 },
        };
        cases.iter().map(plan).collect()
    }

    fn limits(quick: bool) -> Limits {
        Limits {
            settle: Duration::from_millis(if quick { 300 } else { 500 }),
            measure: Duration::from_millis(if quick { 1_500 } else { 3_000 }),
        }
    }

    fn measure(system: &System<Self>, case: Case, limits: &Limits) -> Result<Measures, String> {
        system.run(case, limits)
    }

    fn probe(_bursts: Option<u32>) -> Case {
        to(100)
    }

    fn targets(tables: &[Table<Self>]) -> Vec<Target> {
        targets::all(tables)
    }
}

/// Has a server loaded by another process, and takes over what that has measured.
fn run(case: Case, limits: &Limits, server: Result<Server, String>) -> Result<Measures, String> {
    let server = server?;
    pin::to(0);
    let _awake = Awake::core(1);
    let load = Load {
        protocol: server.protocol,
        http: server.http,
        clients: own_address(),
        process: server.process.0.id(),
        rooms: case.rooms,
        viewers: case.viewers,
        settle_ms: limits.settle.as_millis() as u64,
        measure_ms: limits.measure.as_millis() as u64,
    };
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(this)
        .arg("sfu-load")
        .args(load.arguments())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(syscalls::last_line(&output.stderr));
    }
    serde_json::from_slice(&output.stdout)
        .ok()
        .and_then(|told| Measured::from_json(&told))
        .ok_or_else(|| "the load has said nothing of use".to_owned())?
        .measures(case)
}

/// What the process that is the clients does: it prints what it has measured.
pub(crate) fn load(load: &Load) -> Result<(), String> {
    println!("{}", load.run()?.to_json());
    Ok(())
}

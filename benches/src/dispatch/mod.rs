//! Posts, calls and timers: rtc-thread, its peers, and what the machine allows at all.

mod floors;
mod instructions;
mod targets;
mod workloads;

use std::time::Duration;

use self::floors::Floor;
use self::workloads::{Limits, Workload, run};
use crate::compare::{Plan, Suite, System};
use crate::measures::Measures;
use crate::peers::{Peer, channel, mio_queue, rtc_thread, tokio};
use crate::report::Table;
use crate::syscalls;
use crate::targets::Target;

const RTC: &str = "rtc-thread, sockets";
const RTC_PARK: &str = "rtc-thread, no sockets";
const RTC_IDLE_SOCKETS: &str = "rtc-thread, 1,000 idle sockets";
const RTC_SPINS: &str = "rtc-thread, sockets, spins";
const RTC_PARK_SPINS: &str = "rtc-thread, no sockets, spins";
const LIBWEBRTC: &str = "libwebrtc, PhysicalSocketServer";
const LIBWEBRTC_NULL: &str = "libwebrtc, NullSocketServer";
const LIBUV: &str = "libuv";
const TOKIO_MPSC: &str = "tokio, mpsc";
const FLOOR_SPIN: &str = "floor: spinning";
const FLOOR_FUTEX: &str = "floor: futex";
const FLOOR_EVENTFD: &str = "floor: eventfd, epoll";

pub(crate) enum Dispatch {}

impl Suite for Dispatch {
    type Workload = Workload;
    type Limits = Limits;

    const COMMAND: &'static str = "dispatch";
    const OURS: (&'static str, &'static str) = (RTC, "rtc-thread");
    const PROBE: Limits = Limits {
        samples: 50,
        time: Duration::from_secs(10),
        tasks: 0,
        pending: 0,
        timers: 0,
        timers_over: Duration::ZERO,
    };

    fn systems() -> Vec<System<Self>> {
        systems()
    }

    fn plans(quick: bool) -> Vec<Plan<Self>> {
        plans(quick).into()
    }

    fn limits(quick: bool) -> Limits {
        limits(quick)
    }

    fn measure(
        system: &System<Self>,
        workload: Workload,
        limits: &Limits,
    ) -> Result<Measures, String> {
        match workload {
            Workload::SystemCalls => {
                // One that cannot be started says why better than strace would.
                system.run(Workload::Bursts(0), limits)?;
                syscalls::measure::<Self>(system.name, &SECTIONS, Self::PROBE.samples)
            }
            Workload::Bursts(_) => {
                system.run(Workload::Bursts(0), limits)?;
                instructions::measure(system, limits)
            }
            _ => system.run(workload, limits),
        }
    }

    fn probe(bursts: Option<u32>) -> Workload {
        bursts.map_or(Workload::SystemCalls, Workload::Bursts)
    }

    fn targets(tables: &[Table<Self>]) -> Vec<Target> {
        targets::all(tables)
    }
}

/// What system calls are counted of: as it is marked, and as it is called in the table.
const SECTIONS: [(&str, &str); 3] = [
    ("idle round trip", "per idle round trip"),
    ("post, asleep", "per post, asleep"),
    ("post, busy", "per post, busy"),
];

fn peer<P: Peer>(
    name: &'static str,
    start: impl Fn() -> Result<P, String> + Sync + 'static,
) -> System<Dispatch> {
    System {
        name,
        takes_part: |_| true,
        run: Box::new(move |workload, limits| run(workload, limits, &start)),
    }
}

fn floor(name: &'static str, floor: Floor, takes_part: fn(Workload) -> bool) -> System<Dispatch> {
    System {
        name,
        takes_part,
        run: Box::new(move |workload, limits| floor.run(workload, limits)),
    }
}

fn systems() -> Vec<System<Dispatch>> {
    let rtc = |name, sockets, idle_sockets, spins| {
        let kind = rtc_thread::Kind {
            sockets,
            idle_sockets,
            spins,
        };
        let system = peer(name, move || rtc_thread::start(kind));
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
        floor(FLOOR_SPIN, Floor::Spin, |workload| {
            Floor::Spin.takes_part(workload)
        }),
        floor(FLOOR_FUTEX, Floor::Futex, |workload| {
            Floor::Futex.takes_part(workload)
        }),
        floor(FLOOR_EVENTFD, Floor::EventFd, |workload| {
            Floor::EventFd.takes_part(workload)
        }),
        rtc(RTC, true, 0, false),
        rtc(RTC_PARK, false, 0, false),
        rtc(RTC_IDLE_SOCKETS, true, 1_000, false),
        rtc(RTC_SPINS, true, 0, true),
        rtc(RTC_PARK_SPINS, false, 0, true),
        #[cfg(feature = "libwebrtc")]
        peer(LIBWEBRTC, || crate::peers::libwebrtc::start(true)),
        #[cfg(feature = "libwebrtc")]
        peer(LIBWEBRTC_NULL, || crate::peers::libwebrtc::start(false)),
        #[cfg(not(feature = "libwebrtc"))]
        System::missing(LIBWEBRTC, "libwebrtc"),
        #[cfg(not(feature = "libwebrtc"))]
        System::missing(LIBWEBRTC_NULL, "libwebrtc"),
        #[cfg(feature = "libuv")]
        peer(LIBUV, crate::peers::libuv::start),
        #[cfg(not(feature = "libuv"))]
        System::missing(LIBUV, "libuv"),
        peer(TOKIO_MPSC, tokio::start_mpsc),
        peer("tokio, spawn", tokio::start_spawn),
        peer("crossbeam-channel", channel::start_crossbeam),
        peer("std mpsc", channel::start_std),
        peer("mutex, VecDeque, mio Waker", mio_queue::start),
    ]
}

fn plans(quick: bool) -> [Plan<Dispatch>; 11] {
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

//! UDP sockets: socket-server, its peers, and what the machine allows at all.

mod forwarders;
mod load;
mod targets;
mod workloads;

use std::time::Duration;

use self::forwarders::{floor, socket_server, tokio};
use self::load::BURST;
use self::workloads::{FANS, Limits, Start, Workload, run};
use crate::compare::{Plan, Suite, System};
use crate::measures::Measures;
use crate::report::Table;
use crate::syscalls;
use crate::targets::Target;

const OURS: &str = "socket-server, rtc-thread";
const FLOOR: &str = "floor: epoll, recvmmsg, GSO";
const FLOOR_PLAIN: &str = "floor: epoll, recvfrom, sendto";
const TOKIO: &str = "tokio UdpSocket";
const LIBUV: &str = "libuv";
const LIBWEBRTC: &str = "libwebrtc, AsyncUDPSocket";

const fn to(sinks: usize, packet_bytes: usize) -> Workload {
    Workload::Forward {
        sinks,
        packet_bytes,
    }
}

const FORWARD: [(Workload, &str); 6] = [
    (to(1, 200), "forward 1 → 1, 200 bytes"),
    (to(1, 1_200), "forward 1 → 1, 1,200 bytes"),
    (to(10, 200), "forward 1 → 10, 200 bytes"),
    (to(10, 1_200), "forward 1 → 10, 1,200 bytes"),
    (to(100, 200), "forward 1 → 100, 200 bytes"),
    (to(100, 1_200), "forward 1 → 100, 1,200 bytes"),
];

pub(crate) enum Sockets {}

impl Suite for Sockets {
    type Workload = Workload;
    type Limits = Limits;

    const COMMAND: &'static str = "sockets";
    const OURS: (&'static str, &'static str) = (OURS, "socket-server");
    const PROBE: Limits = Limits {
        samples: 20,
        time: Duration::from_secs(10),
    };

    fn systems() -> Vec<System<Self>> {
        vec![
            system(FLOOR, floor::start_batched),
            system(FLOOR_PLAIN, floor::start_plain),
            system(OURS, socket_server::start),
            system(TOKIO, tokio::start),
            #[cfg(feature = "libuv")]
            System {
                // The allocations of C are not counted.
                takes_part: |workload| workload != Workload::Allocations,
                ..system(LIBUV, forwarders::libuv::start)
            },
            #[cfg(not(feature = "libuv"))]
            System::missing(LIBUV, "libuv"),
            #[cfg(feature = "libwebrtc")]
            system(LIBWEBRTC, forwarders::libwebrtc::start),
            #[cfg(not(feature = "libwebrtc"))]
            System::missing(LIBWEBRTC, "libwebrtc"),
        ]
    }

    fn plans(quick: bool) -> Vec<Plan<Self>> {
        let plan = |workload, title, floor, (quick_rounds, rounds)| Plan {
            workload,
            title,
            floor,
            rounds: if quick { quick_rounds } else { rounds },
        };
        let (often, once) = ((5, 11), (1, 1));
        let forward = FORWARD.map(|(workload, title)| plan(workload, title, Some(FLOOR), often));
        let others = [
            plan(
                Workload::IdlePing,
                "idle ping: round trip through a loop that sleeps",
                Some(FLOOR),
                often,
            ),
            plan(
                Workload::Allocations,
                "heap allocations per packet out, 1 → 10, Rust's and C++'s",
                None,
                once,
            ),
            plan(
                Workload::SystemCalls,
                "system calls of the forwarder per packet out",
                Some(FLOOR),
                once,
            ),
        ];
        forward.into_iter().chain(others).collect()
    }

    fn limits(quick: bool) -> Limits {
        if quick {
            Limits {
                samples: 500,
                time: Duration::from_millis(120),
            }
        } else {
            Limits {
                samples: 1_000,
                time: Duration::from_millis(400),
            }
        }
    }

    fn measure(
        system: &System<Self>,
        workload: Workload,
        limits: &Limits,
    ) -> Result<Measures, String> {
        if workload != Workload::SystemCalls {
            return system.run(workload, limits);
        }
        // One that cannot be started says why better than strace would.
        system.run(Workload::Nothing, limits)?;
        let sections = FANS.map(|(_, section)| section);
        let bursts = Self::PROBE.samples;
        let mut measures = syscalls::measure::<Self>(system.name, &sections, bursts)?;
        for ((sinks, _), (_, calls)) in FANS.iter().zip(&mut measures.figures) {
            *calls /= (BURST * sinks) as f64;
        }
        Ok(measures)
    }

    fn probe(_bursts: Option<u32>) -> Workload {
        Workload::SystemCalls
    }

    fn targets(tables: &[Table<Self>]) -> Vec<Target> {
        targets::all(tables)
    }
}

fn system(name: &'static str, start: Start) -> System<Sockets> {
    System {
        name,
        takes_part: |_| true,
        run: Box::new(move |workload, limits| run(workload, limits, start)),
    }
}

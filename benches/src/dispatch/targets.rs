//! What rtc-thread is to reach.

use super::workloads::Workload;
use super::{
    Dispatch, FLOOR_EVENTFD, FLOOR_FUTEX, FLOOR_SPIN, LIBWEBRTC, LIBWEBRTC_NULL, RTC,
    RTC_IDLE_SOCKETS, RTC_PARK, RTC_PARK_SPINS, RTC_SPINS, TOKIO_MPSC,
};
use crate::report::Table;
use crate::targets::{Figures, Target};

const P50: &str = "p50 µs";
const P99: &str = "p99 µs";
const TASKS: &str = "M tasks/s";

pub(crate) fn all(tables: &[Table<Dispatch>]) -> Vec<Target> {
    use Workload::{
        Allocations, AwakePingPong, BlockingCall, Bursts, FourPosters, IdlePingPong, OnePoster,
        SystemCalls, TimerCost, TimerLateness,
    };
    let mut figures = Figures::new(tables);
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

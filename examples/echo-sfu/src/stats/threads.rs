//! What threads have done, as it is shown.

use rtc_thread::{Histogram, ThreadHandle};
use serde::Serialize;

/// What a thread has done since it started.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ThreadReport {
    /// The thread's name.
    pub name: String,
    /// Tasks that have run.
    pub tasks: u64,
    /// Tasks that wait for their turn.
    pub queue_length: usize,
    /// Tasks that wait for their time.
    pub delayed_length: usize,
    /// Times that it waited.
    pub waits: u64,
    /// From post to run.
    pub queue_delay_us: Quantiles,
    /// How long tasks run.
    pub run_time_us: Quantiles,
    /// Tasks that took too long, of which there should be none.
    pub slow_tasks: u64,
}

/// Of a distribution, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// Half were below.
    pub p50: f64,
    /// All but one in a hundred were below.
    pub p99: f64,
    /// All but one in a thousand were below.
    pub p999: f64,
}

impl ThreadReport {
    pub(crate) fn of(thread: &ThreadHandle) -> Self {
        let stats = thread.stats();
        Self {
            name: thread.name().to_owned(),
            tasks: stats.tasks,
            queue_length: stats.queue_length,
            delayed_length: stats.delayed_length,
            waits: stats.waits,
            queue_delay_us: Quantiles::of(&stats.queue_delay),
            run_time_us: Quantiles::of(&stats.run_time),
            slow_tasks: stats.slow_tasks.iter().map(|slow| slow.count).sum(),
        }
    }
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        let micros = |part| histogram.quantile(part).as_secs_f64() * 1e6;
        Self {
            p50: micros(0.5),
            p99: micros(0.99),
            p999: micros(0.999),
        }
    }
}

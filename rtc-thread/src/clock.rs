//! Where the time comes from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::current;

/// A source of time: the operating system's monotonic clock, or the virtual one of a
/// [`Simulation`](crate::Simulation).
///
/// Every thread has one, and all that it promises about time is against that one. There is no clock
/// of the process that could be swapped behind its back.
///
/// libwebrtc: `Clock`, and `ScopedFakeClock`, which replaces the process's.
#[derive(Clone, Default)]
pub struct Clock(Source);

#[derive(Clone, Default)]
enum Source {
    #[default]
    System,
    Simulated(Arc<SimulatedTime>),
}

/// Virtual time: moves when it is told to.
pub(crate) struct SimulatedTime {
    start: Instant,
    elapsed_nanos: AtomicU64,
}

impl Clock {
    /// The operating system's monotonic clock.
    pub fn system() -> Self {
        Self::default()
    }

    pub(crate) fn simulated() -> (Self, Arc<SimulatedTime>) {
        let time = Arc::new(SimulatedTime {
            start: Instant::now(),
            elapsed_nanos: AtomicU64::new(0),
        });
        (Self(Source::Simulated(time.clone())), time)
    }

    /// The present moment. Never goes back.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Simulated(time) => time.now(),
        }
    }

    /// Whether time is virtual.
    pub fn is_simulated(&self) -> bool {
        matches!(self.0, Source::Simulated(_))
    }
}

impl SimulatedTime {
    pub(crate) fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed))
    }

    /// Moves on to a moment; stays where it is if that has passed.
    pub(crate) fn advance_to(&self, moment: Instant) {
        let elapsed = moment.saturating_duration_since(self.start).as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.elapsed_nanos.fetch_max(elapsed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock::System"),
            Source::Simulated(time) => write!(f, "Clock::Simulated({:?})", time.elapsed()),
        }
    }
}

/// The present moment, by the clock of the current thread; by the system's where the caller is on
/// none of our threads.
///
/// Code that may be simulated asks this, not [`Instant::now`].
pub fn now() -> Instant {
    current::with_context(|context| context.handle().clock().now()).unwrap_or_else(Instant::now)
}

//! Virtual time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As far ahead as anything can happen: a century.
pub(super) const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A moment after another one, however long after.
pub(super) fn after(moment: Instant, duration: Duration) -> Instant {
    moment + duration.min(FAR)
}

/// Time that moves when it is told to. Clones are the same time.
///
/// libwebrtc: `SimulatedClock`.
#[derive(Clone)]
pub struct VirtualTime {
    start: Instant,
    elapsed_nanos: Arc<AtomicU64>,
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            elapsed_nanos: Arc::default(),
        }
    }
}

impl VirtualTime {
    /// A time at its start.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present moment. What it has to do with the moments of the real world is not defined.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed()
    }

    /// How long it is since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed_nanos.load(Ordering::Relaxed))
    }

    /// Moves on to a moment; stays where it is if that has passed.
    pub fn advance_to(&self, moment: Instant) {
        let elapsed = moment.saturating_duration_since(self.start).as_nanos();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.elapsed_nanos.fetch_max(elapsed, Ordering::Relaxed);
    }
}

impl fmt::Debug for VirtualTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualTime").field(&self.elapsed()).finish()
    }
}

//! Where the time comes from.

use std::fmt;
use std::time::Instant;

use socket_server::VirtualTime;

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
    Simulated(VirtualTime),
}

impl Clock {
    /// The operating system's monotonic clock.
    pub fn system() -> Self {
        Self::default()
    }

    pub(crate) fn simulated(time: VirtualTime) -> Self {
        Self(Source::Simulated(time))
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

//! Something that happens, and can be waited for.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::current::current;
use crate::delayed::due_after;
use crate::simulation::{self, Outcome};

/// After so long, a wait in a task is suspicious.
const WARN_AFTER: Duration = Duration::from_secs(3);

/// A signal that threads wait for. While it is set, waits end at once.
///
/// Waiting in a task keeps its thread from everything else; after three seconds a warning says so.
/// On an OS thread that has a [simulation](crate::Simulation), a wait lets the simulated threads go
/// on, in virtual time; an event that a real thread is to set is not waited for there.
///
/// libwebrtc: `Event`.
#[derive(Debug)]
pub struct Event {
    is_set: Mutex<bool>,
    changed: Condvar,
    reset: Reset,
}

/// What ends the set state of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reset {
    /// The first wait that sees it; so each [`set`](Event::set) ends one wait.
    Auto,
    /// Only [`Event::reset`]; so it ends all waits.
    Manual,
}

impl Event {
    /// An event that is not set.
    pub fn new(reset: Reset) -> Self {
        Self::with_state(reset, false)
    }

    /// An event that is set, or not.
    pub fn with_state(reset: Reset, is_set: bool) -> Self {
        Self {
            is_set: Mutex::new(is_set),
            changed: Condvar::new(),
            reset,
        }
    }

    /// It has happened.
    pub fn set(&self) {
        *self.is_set.lock() = true;
        match self.reset {
            Reset::Auto => self.changed.notify_one(),
            Reset::Manual => self.changed.notify_all() > 0,
        };
    }

    /// It has not happened.
    pub fn reset(&self) {
        *self.is_set.lock() = false;
    }

    /// Waits until it is set. Blocks.
    ///
    /// # Panics
    ///
    /// In a simulation, if nothing is left that could set it.
    pub fn wait(&self) {
        let was_set = self.wait_at_most(None);
        assert!(
            was_set,
            "in the simulation nothing is left that could set the event"
        );
    }

    /// Waits until it is set, or so long; tells whether it was set. Never returns early. Blocks.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.wait_at_most(Some(timeout))
    }

    fn wait_at_most(&self, timeout: Option<Duration>) -> bool {
        if let Some(outcome) = simulation::run_until_any(timeout, || *self.is_set.lock()) {
            return outcome == Outcome::Done && self.take(&mut self.is_set.lock());
        }
        let deadline = timeout.map(|timeout| due_after(Instant::now(), timeout));
        let mut warn_at = current().map(|_| Instant::now() + WARN_AFTER);
        let mut is_set = self.is_set.lock();
        loop {
            if self.take(&mut is_set) {
                return true;
            }
            let until = match (deadline, warn_at) {
                (Some(deadline), Some(warn_at)) => Some(deadline.min(warn_at)),
                (deadline, warn_at) => deadline.or(warn_at),
            };
            let Some(until) = until else {
                self.changed.wait(&mut is_set);
                continue;
            };
            if !self.changed.wait_until(&mut is_set, until).timed_out() {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return self.take(&mut is_set);
            }
            if warn_at.take().is_some() {
                let thread = current();
                let thread = thread.as_ref().map_or("", |thread| thread.name());
                tracing::warn!(thread, "a task has waited for an event for {WARN_AFTER:?}");
            }
        }
    }

    fn take(&self, is_set: &mut bool) -> bool {
        match self.reset {
            Reset::Auto => std::mem::take(is_set),
            Reset::Manual => *is_set,
        }
    }
}

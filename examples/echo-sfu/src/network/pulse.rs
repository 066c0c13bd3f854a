//! Whether a network thread keeps up, as those see it who give it work.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Work that waits longer is late: a packet that has waited so long is of little use in a
/// conversation.
const TOLERATED: Duration = Duration::from_millis(200);
/// A thread that has been late for so long has too much to do. A moment of it, such as many clients
/// coming at once, passes.
const TOO_LONG: Duration = Duration::from_secs(2);

/// How soon a thread gets to what it is given to do. It is asked from outside, since a thread that is
/// stuck cannot tell.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When it was asked what it has not answered yet.
    asked_at: Option<Instant>,
    /// Every answer since then was late.
    late_since: Option<Instant>,
}

impl Pulse {
    /// Whether to ask now: not if an answer is still to come.
    pub(super) fn ask(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let is_idle = state.asked_at.is_none();
        if is_idle {
            state.asked_at = Some(now);
        }
        is_idle
    }

    /// The thread has got to it.
    pub(super) fn answer(&self, now: Instant) {
        let mut state = self.0.lock();
        if let Some(asked_at) = state.asked_at.take() {
            if is_late(now, asked_at) {
                state.late_since.get_or_insert(asked_at);
            } else {
                state.late_since = None;
            }
        }
    }

    /// Whether it has been late for too long.
    pub(super) fn is_overloaded(&self, now: Instant) -> bool {
        let state = self.0.lock();
        let overdue = state.asked_at.filter(|asked_at| is_late(now, *asked_at));
        let since = state.late_since.or(overdue);
        since.is_some_and(|since| now.saturating_duration_since(since) >= TOO_LONG)
    }
}

fn is_late(now: Instant, asked_at: Instant) -> bool {
    now.saturating_duration_since(asked_at) > TOLERATED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_late_for_long_is_overloaded_until_it_is_in_time() {
        let pulse = Pulse::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Late, but in between in time.
        for (asked, answered) in [(0, 1_500), (1_500, 1_501), (2_000, 3_500)] {
            assert!(pulse.ask(at(asked)));
            pulse.answer(at(answered));
            assert!(!pulse.is_overloaded(at(answered)));
        }
        assert!(pulse.ask(at(3_500)) && !pulse.ask(at(3_600)));
        pulse.answer(at(4_000));
        assert!(pulse.is_overloaded(at(4_000)));
        assert!(pulse.ask(at(4_000)));
        pulse.answer(at(4_200));
        assert!(!pulse.is_overloaded(at(4_200)));
    }

    #[test]
    fn one_that_answers_no_more_is_overloaded() {
        let pulse = Pulse::default();
        let now = Instant::now();
        assert!(pulse.ask(now));
        assert!(!pulse.is_overloaded(now + TOLERATED));
        assert!(pulse.is_overloaded(now + TOO_LONG));
    }
}

//! From the wall clock, by which the kernel notes arrivals, to the monotonic one.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// How far apart the clocks may be read.
const APART: Duration = Duration::from_micros(10);
/// How often that is tried.
const COMPARISONS: usize = 4;

/// Tells, for the datagrams of one socket, when they arrived by the monotonic clock.
///
/// The two clocks are compared anew for every receive call: so a step of the wall clock is wrong for
/// the datagrams that were waiting while it happened, and not for longer. What is told never goes
/// back, and is never in the future.
#[derive(Debug, Default)]
pub(crate) struct ArrivalClock {
    compared: Cell<Option<(Instant, SystemTime)>>,
    last: Cell<Option<Instant>>,
}

impl ArrivalClock {
    /// To be called when datagrams have been received.
    pub(crate) fn forget_comparison(&self) {
        self.compared.set(None);
    }

    pub(crate) fn instant_of(&self, received_at: SystemTime) -> Instant {
        let (now, wall) = self.compared.get().unwrap_or_else(compare);
        self.compared.set(Some((now, wall)));
        self.map(now, wall, received_at)
    }

    fn map(&self, now: Instant, wall: SystemTime, received_at: SystemTime) -> Instant {
        let age = wall.duration_since(received_at).unwrap_or_default();
        let arrived_at = now.checked_sub(age).unwrap_or(now);
        let arrived_at = match self.last.get() {
            Some(last) => arrived_at.max(last).min(now),
            None => arrived_at,
        };
        self.last.set(Some(arrived_at));
        arrived_at
    }
}

/// Reads both clocks. The thread may be interrupted between the two, and then they say nothing of
/// each other; so it is tried again, and the best of a few is taken. The monotonic one is read last:
/// nothing then seems to have arrived before it was sent.
fn compare() -> (Instant, SystemTime) {
    let mut best = None;
    for _ in 0..COMPARISONS {
        let before = Instant::now();
        let wall = SystemTime::now();
        let after = Instant::now();
        let apart = after - before;
        if best.is_none_or(|(least, _)| apart < least) {
            best = Some((apart, (after, wall)));
        }
        if apart < APART {
            break;
        }
    }
    best.map_or_else(|| (Instant::now(), SystemTime::now()), |(_, read)| read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_wall_clock_make_nothing_go_back_or_come_from_the_future() {
        let clock = ArrivalClock::default();
        let (start, wall) = (Instant::now(), SystemTime::now());
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        let at = |elapsed| start + ms(elapsed);
        assert_eq!(at(95), clock.map(at(100), wall + ms(100), wall + ms(95)));
        // It was set back by an hour after the datagram had come.
        let later = clock.map(at(200), wall + ms(200) - hour, wall + ms(195));
        assert_eq!(at(200), later);
        assert_eq!(
            at(295),
            clock.map(at(300), wall + ms(300) - hour, wall + ms(295) - hour)
        );
        // And set forward.
        let later = clock.map(at(400), wall + ms(400) + hour, wall + ms(395) - hour);
        assert_eq!(at(295), later);
        assert_eq!(
            at(495),
            clock.map(at(500), wall + ms(500) + hour, wall + ms(495) + hour)
        );
    }
}

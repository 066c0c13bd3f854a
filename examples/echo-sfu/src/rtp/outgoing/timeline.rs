//! Keeps timestamps continuous where the source's are not.

use std::time::Instant;

use crate::rtp::rate::rtp_ticks;

/// Within a stretch the source's timestamps are shifted; each stretch begins as much later than the
/// last ended as time went by.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    shift: u32,
    newest: Option<Newest>,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    timestamp: u32,
    /// When its first packet was sent.
    sent_at: Instant,
    clock_rate: u32,
}

/// A pause of half a cycle of timestamps or more would look like a step back.
const LONGEST_PAUSE_TICKS: u32 = 1 << 30;

impl Timeline {
    /// The next packet has this timestamp at the source, and continues what was sent.
    pub(super) fn start(&mut self, now: Instant, timestamp: u32, clock_rate: u32) {
        if let Some(newest) = self.newest.take() {
            let pause = now.saturating_duration_since(newest.sent_at);
            let longest = u64::from(LONGEST_PAUSE_TICKS / clock_rate.max(1));
            let ticks = if pause.as_secs() < longest {
                rtp_ticks(pause, clock_rate).max(1)
            } else {
                LONGEST_PAUSE_TICKS
            };
            let next = newest.timestamp.wrapping_add(ticks);
            self.shift = next.wrapping_sub(timestamp);
        }
    }

    pub(super) fn rewrite(&mut self, now: Instant, timestamp: u32, clock_rate: u32) -> u32 {
        let timestamp = timestamp.wrapping_add(self.shift);
        let is_newer = self.newest.is_none_or(|newest| {
            let ahead = timestamp.wrapping_sub(newest.timestamp);
            ahead != 0 && ahead < 1 << 31
        });
        if is_newer {
            self.newest = Some(Newest {
                timestamp,
                sent_at: now,
                clock_rate,
            });
        }
        timestamp
    }

    /// The timestamp of what would be captured now. `None` if nothing was sent yet.
    pub(super) fn at(&self, now: Instant) -> Option<u32> {
        let newest = self.newest?;
        let since = now.saturating_duration_since(newest.sent_at);
        Some(
            newest
                .timestamp
                .wrapping_add(rtp_ticks(since, newest.clock_rate)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const VIDEO: u32 = 90_000;

    #[test]
    fn the_first_stretch_is_as_the_source_has_it() {
        let now = Instant::now();
        let mut timeline = Timeline::default();
        assert_eq!(None, timeline.at(now));
        timeline.start(now, 77, VIDEO);
        assert_eq!(77, timeline.rewrite(now, 77, VIDEO));
        assert_eq!(
            Some(77 + 9000),
            timeline.at(now + Duration::from_millis(100))
        );
    }

    #[test]
    fn a_pause_takes_as_long_as_it_took() {
        let now = Instant::now();
        let mut timeline = Timeline::default();
        timeline.rewrite(now, u32::MAX, VIDEO);
        // The rest of the frame, a little later, and a late one.
        let later = now + Duration::from_millis(5);
        timeline.rewrite(later, u32::MAX, VIDEO);
        timeline.rewrite(later, u32::MAX - 3000, VIDEO);
        let resumed = now + Duration::from_secs(2);
        timeline.start(resumed, 500, VIDEO);
        assert_eq!(179_999, timeline.rewrite(resumed, 500, VIDEO));
        assert_eq!(182_999, timeline.rewrite(resumed, 3500, VIDEO));
    }

    #[test]
    fn it_never_stands_still_or_steps_back() {
        let now = Instant::now();
        for pause in [0, 1, 3600, 12 * 3600, 13 * 3600, 1 << 40] {
            let mut timeline = Timeline::default();
            timeline.rewrite(now, 1000, VIDEO);
            let resumed = now + Duration::from_secs(pause);
            timeline.start(resumed, 5, VIDEO);
            let ahead = timeline.rewrite(resumed, 5, VIDEO) - 1000;
            assert!((1..=LONGEST_PAUSE_TICKS).contains(&ahead), "{ahead}");
        }
        Timeline::default().start(now, 0, 0);
    }
}

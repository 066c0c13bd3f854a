//! How long to wait for an acknowledgement (RFC 6298).

use std::time::Duration;

/// Before anything is known of the path.
const INITIAL: Duration = Duration::from_secs(1);
/// When a SYN had to be sent again, so that the path may be slow, or lossy (RFC 6298, 5.7).
const AFTER_LOST_SYN: Duration = Duration::from_secs(3);
/// The least allowance above the mean round trip. Linux adds it, too: an allowance of four times the
/// variation alone comes to nothing on a simulated path without jitter, and the first queue that
/// builds up would look like a loss.
const MIN_ALLOWANCE: Duration = Duration::from_millis(200);
const MAX: Duration = Duration::from_secs(60);
/// More doublings than lead from the shortest timeout to the longest.
const MAX_BACKOFF: u32 = 16;

/// The retransmission timeout, from samples of the round trip.
#[derive(Debug)]
pub(super) struct RoundTrip {
    mean: Option<Duration>,
    variation: Duration,
    timeout: Duration,
    backoff: u32,
}

impl RoundTrip {
    pub(super) fn new() -> Self {
        Self {
            mean: None,
            variation: Duration::ZERO,
            timeout: INITIAL,
            backoff: 0,
        }
    }

    /// A segment that was sent just once took so long (Karn's rule). Only now is a backoff undone:
    /// an acknowledgement of something sent twice does not show that the timeout was long enough.
    pub(super) fn sample(&mut self, elapsed: Duration) {
        // Longer ones change nothing, and the arithmetic need not care.
        let elapsed = elapsed.min(2 * MAX);
        let mean = match self.mean {
            None => {
                self.variation = elapsed / 2;
                elapsed
            }
            Some(mean) => {
                self.variation = (3 * self.variation + mean.abs_diff(elapsed)) / 4;
                (7 * mean + elapsed) / 8
            }
        };
        self.mean = Some(mean);
        self.timeout = (mean + (4 * self.variation).max(MIN_ALLOWANCE)).min(MAX);
        self.backoff = 0;
    }

    /// The connection is there, but not at the first attempt.
    pub(super) fn syn_was_lost(&mut self) {
        self.timeout = AFTER_LOST_SYN;
        self.backoff = 0;
    }

    /// Nothing came in time.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout_after(self.backoff)
    }

    /// The timeout after so many doublings.
    pub(super) fn timeout_after(&self, backoff: u32) -> Duration {
        (self.timeout * (1 << backoff.min(MAX_BACKOFF))).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_samples() {
        let mut round_trip = RoundTrip::new();
        assert_eq!(INITIAL, round_trip.timeout());
        round_trip.sample(Duration::from_millis(100));
        assert_eq!(Duration::from_millis(300), round_trip.timeout());
        round_trip.sample(Duration::from_millis(500));
        // Mean 150 ms, variation (3 * 50 + 400) / 4 = 137.5 ms.
        assert_eq!(Duration::from_millis(700), round_trip.timeout());
    }

    #[test]
    fn is_never_below_the_least_nor_above_the_most() {
        let mut round_trip = RoundTrip::new();
        round_trip.sample(Duration::ZERO);
        assert_eq!(MIN_ALLOWANCE, round_trip.timeout());
        for _ in 0..100 {
            round_trip.back_off();
        }
        assert_eq!(MAX, round_trip.timeout());
        round_trip.sample(Duration::MAX);
        assert_eq!(MAX, round_trip.timeout());
    }
}

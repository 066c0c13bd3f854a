//! How much may be on its way (RFC 5681, RFC 6582: NewReno).

/// What a sender starts with, in segments (RFC 6928).
const INITIAL_SEGMENTS: u64 = 10;
/// So many duplicate acknowledgements mean a loss, and fewer a change of order.
const LOSS_THRESHOLD: u32 = 3;

/// The congestion window: slow start, additive increase, multiplicative decrease, and recovery of
/// several losses in one flight.
#[derive(Debug)]
pub(super) struct Congestion {
    segment: u64,
    window: u64,
    slow_start_threshold: u64,
    /// Acknowledged bytes that have not been turned into a larger window.
    credit: u64,
    duplicates: u32,
    recovering: bool,
    /// What had been sent when the last loss was noticed: until more than that is acknowledged,
    /// duplicates tell of the same loss.
    recovery_point: u64,
}

impl Congestion {
    pub(super) fn new(segment: u64) -> Self {
        Self {
            segment,
            window: INITIAL_SEGMENTS * segment,
            slow_start_threshold: u64::MAX,
            credit: 0,
            duplicates: 0,
            recovering: false,
            recovery_point: 0,
        }
    }

    /// How many bytes may be on their way.
    pub(super) fn window(&self) -> u64 {
        // The first duplicates let one new segment out each (limited transmit, RFC 3042): without
        // them a small flight never gets enough duplicates for a fast retransmission.
        let extra = if self.recovering || self.duplicates >= LOSS_THRESHOLD {
            0
        } else {
            u64::from(self.duplicates) * self.segment
        };
        self.window.saturating_add(extra)
    }

    /// A duplicate acknowledgement: says whether the first unacknowledged segment is to be sent
    /// again.
    pub(super) fn on_duplicate(&mut self, acknowledged: u64, highest: u64) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.recovering {
            // One more segment has left the network.
            self.window = self.window.saturating_add(self.segment);
            return false;
        }
        if self.duplicates != LOSS_THRESHOLD || acknowledged <= self.recovery_point {
            return false;
        }
        self.halve(highest - acknowledged);
        self.window = self.slow_start_threshold + u64::from(LOSS_THRESHOLD) * self.segment;
        self.recovery_point = highest;
        self.recovering = true;
        true
    }

    /// `count` bytes have been acknowledged, out of `flight`: says whether the segment that is now
    /// the first unacknowledged one is to be sent again.
    pub(super) fn on_progress(
        &mut self,
        count: u64,
        flight: u64,
        acknowledged: u64,
        highest: u64,
    ) -> bool {
        self.duplicates = 0;
        if self.recovering {
            if acknowledged < self.recovery_point {
                // Another segment of the same flight was lost.
                let left = self.window.saturating_sub(count);
                let returned = if count >= self.segment {
                    self.segment
                } else {
                    0
                };
                self.window = left.saturating_add(returned).max(self.segment);
                return true;
            }
            self.recovering = false;
            let left = (highest - acknowledged).max(self.segment) + self.segment;
            self.window = left.min(self.slow_start_threshold);
        } else if self.window < self.slow_start_threshold {
            // A window that was not used has not been tried out, and must not grow.
            if self.window < flight.saturating_mul(2) {
                self.window += count.min(self.segment);
            }
        } else if flight + self.segment >= self.window {
            self.credit += count;
            if self.credit >= self.window {
                self.credit -= self.window;
                self.window += self.segment;
            }
        }
        false
    }

    /// Nothing has been acknowledged for too long; `again` if not even what was sent again.
    pub(super) fn on_timeout(&mut self, acknowledged: u64, highest: u64, again: bool) {
        if !again {
            self.halve(highest - acknowledged);
        }
        self.window = self.segment;
        self.duplicates = 0;
        self.recovering = false;
        self.recovery_point = highest;
    }

    /// A SYN was lost: that says little about the bandwidth, but calls for a careful start.
    pub(super) fn syn_was_lost(&mut self) {
        self.window = self.segment;
    }

    fn halve(&mut self, flight: u64) {
        self.slow_start_threshold = (flight / 2).max(2 * self.segment);
        self.credit = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1000;

    #[test]
    fn doubles_then_grows_by_a_segment_per_round_trip() {
        let mut congestion = Congestion::new(SEGMENT);
        for _ in 0..10 {
            congestion.on_progress(SEGMENT, 10 * SEGMENT, 0, 0);
        }
        assert_eq!(20 * SEGMENT, congestion.window());
        congestion.slow_start_threshold = congestion.window();
        for _ in 0..20 {
            congestion.on_progress(SEGMENT, 20 * SEGMENT, 0, 0);
        }
        assert_eq!(21 * SEGMENT, congestion.window());
    }

    #[test]
    fn does_not_grow_while_it_is_not_used() {
        let mut congestion = Congestion::new(SEGMENT);
        for _ in 0..100 {
            congestion.on_progress(SEGMENT, SEGMENT, 0, 0);
        }
        assert_eq!(INITIAL_SEGMENTS * SEGMENT, congestion.window());
    }

    #[test]
    fn three_duplicates_halve_it_once_per_flight() {
        let mut congestion = Congestion::new(SEGMENT);
        let highest = 1 + 10 * SEGMENT;
        assert!(!congestion.on_duplicate(1, highest));
        assert!(!congestion.on_duplicate(1, highest));
        assert_eq!(12 * SEGMENT, congestion.window());
        assert!(congestion.on_duplicate(1, highest));
        assert!(!congestion.on_duplicate(1, highest));
        assert_eq!(9 * SEGMENT, congestion.window());
        // A partial acknowledgement shows the next loss.
        let partial = 1 + 2 * SEGMENT;
        assert!(congestion.on_progress(2 * SEGMENT, 10 * SEGMENT, partial, highest));
        assert!(!congestion.on_progress(8 * SEGMENT, 8 * SEGMENT, highest, 2 * highest));
        assert_eq!(5 * SEGMENT, congestion.window());
        for _ in 0..3 {
            assert!(!congestion.on_duplicate(highest, 2 * highest));
        }
    }

    #[test]
    fn a_timeout_leaves_one_segment() {
        let mut congestion = Congestion::new(SEGMENT);
        congestion.on_timeout(1, 1 + 8 * SEGMENT, false);
        assert_eq!(SEGMENT, congestion.window());
        congestion.on_timeout(1, 1 + SEGMENT, true);
        assert_eq!(4 * SEGMENT, congestion.slow_start_threshold);
    }
}

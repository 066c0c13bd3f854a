//! Which packets to ask for again, and when.

use std::collections::VecDeque;

use super::sequence::{MOST_BEHIND, SequenceTracker};
use crate::rtp::rate::Millis;

/// Packets that have not come, the oldest first.
///
/// That one has come after all is noticed when it would be asked for, or when there are too many:
/// on the way of each packet there is nothing to look for.
#[derive(Debug)]
pub(super) struct MissingPackets {
    missing: VecDeque<Missing>,
    /// So many were missing at once that only a key frame helps.
    pub(super) is_beyond_repair: bool,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    ask_at: Millis,
    asked: u8,
}

/// Packets on a network pass each other within this time.
const REORDERING: Millis = Millis(10);
const MOST_ASKED: u8 = 10;
const MOST_MISSING: usize = MOST_BEHIND as usize;
/// More than most round trips: of how long one is, a receiver knows nothing.
const ASK_AGAIN: Millis = Millis(100);

impl MissingPackets {
    pub(super) fn new() -> Self {
        Self {
            missing: VecDeque::new(),
            is_beyond_repair: false,
        }
    }

    /// Those between the newest two that have come.
    pub(super) fn add(&mut self, now: Millis, count: u64, newest: u64, seen: &SequenceTracker) {
        if self.missing.len() as u64 + count > MOST_MISSING as u64 {
            self.missing
                .retain(|missing| !seen.has_seen(missing.sequence));
        }
        if self.missing.len() as u64 + count > MOST_MISSING as u64 {
            self.forget_all();
            self.is_beyond_repair = true;
            return;
        }
        let ask_at = Millis(now.0 + REORDERING.0);
        self.missing
            .extend((newest - count..newest).map(|sequence| Missing {
                sequence,
                ask_at,
                asked: 0,
            }));
    }

    /// Those that it is time to ask for, now counted as asked for.
    pub(super) fn due(&mut self, now: Millis, seen: &SequenceTracker) -> Vec<u16> {
        let mut due = Vec::new();
        let newest = seen.newest().unwrap_or(0);
        let oldest_of_use = newest.saturating_sub(u64::from(MOST_BEHIND));
        self.missing.retain_mut(|missing| {
            if missing.sequence < oldest_of_use || seen.has_seen(missing.sequence) {
                return false;
            }
            if missing.ask_at > now {
                return true;
            }
            // The last time was in vain.
            if missing.asked == MOST_ASKED {
                return false;
            }
            missing.asked += 1;
            missing.ask_at = Millis(now.0 + ASK_AGAIN.0);
            due.push(missing.sequence as u16);
            true
        });
        due
    }

    /// What came before a key frame is of no use after it.
    pub(super) fn forget_before(&mut self, sequence: u64) {
        let before = self
            .missing
            .partition_point(|missing| missing.sequence < sequence);
        self.missing.drain(..before);
        self.is_beyond_repair = false;
    }

    pub(super) fn forget_all(&mut self) {
        self.missing.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.missing.len()
    }
}

//! Extends sequence numbers, and tells which have been seen (RFC 3550, appendix A.1).

/// A source's numbers, extended. They never go backward for good: a source that starts anew
/// continues in the next cycle.
#[derive(Debug)]
pub(super) struct SequenceTracker {
    newest: Option<u64>,
    seen: Window,
    /// The number that, if it comes next, makes a jump a new start.
    expected_after_jump: Option<u16>,
}

/// What a number turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first of all, or of a source that started anew.
    First(u64),
    /// Newer than all, by so many.
    Ahead {
        sequence: u64,
        by: u64,
    },
    Late(u64),
    Duplicate(u64),
    /// Far from all others. Its number is a guess.
    Jump(u64),
}

/// A jump ahead by no more than this is taken for loss: RFC 3550's MAX_DROPOUT.
const MOST_LOST_IN_A_ROW: u16 = 3000;
/// A step back by no more than this is a late packet. RFC 3550 has 100; what was asked for again
/// takes longer.
pub(super) const MOST_BEHIND: u16 = 1000;
/// The cycle that numbers begin in: some may come from before the first to arrive.
pub(super) const FIRST_CYCLE: u64 = 1 << 16;

impl SequenceTracker {
    pub(super) fn new() -> Self {
        Self {
            newest: None,
            seen: Window::default(),
            expected_after_jump: None,
        }
    }

    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    pub(super) fn has_seen(&self, sequence: u64) -> bool {
        self.seen.contains(sequence)
    }

    pub(super) fn see(&mut self, number: u16) -> Seen {
        let Some(newest) = self.newest else {
            return self.start(FIRST_CYCLE + u64::from(number));
        };
        let ahead = number.wrapping_sub(newest as u16);
        let behind = (newest as u16).wrapping_sub(number);
        if behind <= MOST_BEHIND {
            return self.see_again(newest - u64::from(behind));
        }
        if ahead < MOST_LOST_IN_A_ROW {
            self.expected_after_jump = None;
            let by = u64::from(ahead);
            let sequence = newest + by;
            self.newest = Some(sequence);
            self.seen.move_to(newest, sequence);
            self.seen.insert(sequence);
            return Seen::Ahead { sequence, by };
        }
        // Above all that was before, whatever the number.
        let in_next_cycle = (newest | 0xffff) + 1 + u64::from(number);
        if self.expected_after_jump == Some(number) {
            return self.start(in_next_cycle);
        }
        self.expected_after_jump = Some(number.wrapping_add(1));
        Seen::Jump(in_next_cycle)
    }

    /// A packet that was sent again; `None` if it is not one of those lately missing.
    pub(super) fn recover(&mut self, number: u16) -> Option<Seen> {
        let newest = self.newest?;
        let behind = (newest as u16).wrapping_sub(number);
        (behind <= MOST_BEHIND).then(|| self.see_again(newest - u64::from(behind)))
    }

    fn see_again(&mut self, sequence: u64) -> Seen {
        if self.seen.contains(sequence) {
            return Seen::Duplicate(sequence);
        }
        self.seen.insert(sequence);
        Seen::Late(sequence)
    }

    fn start(&mut self, sequence: u64) -> Seen {
        *self = Self::new();
        self.newest = Some(sequence);
        self.seen.insert(sequence);
        Seen::First(sequence)
    }
}

/// Which of the last numbers have been seen: a bit for each.
#[derive(Debug, Default)]
struct Window([u64; WORDS as usize]);

const WORDS: u64 = 16;
const BITS: u64 = WORDS * 64;
const _: () = assert!((MOST_BEHIND as u64) < BITS);

impl Window {
    /// What was seen so long ago that its place is taken by a newer number is not to be asked for.
    fn contains(&self, sequence: u64) -> bool {
        self.0[Self::word(sequence)] & Self::bit(sequence) != 0
    }

    fn insert(&mut self, sequence: u64) {
        self.0[Self::word(sequence)] |= Self::bit(sequence);
    }

    fn move_to(&mut self, newest: u64, sequence: u64) {
        if sequence - newest >= BITS {
            self.0 = [0; WORDS as usize];
            return;
        }
        for passed in newest + 1..=sequence {
            self.0[Self::word(passed)] &= !Self::bit(passed);
        }
    }

    fn word(sequence: u64) -> usize {
        (sequence / 64 % WORDS) as usize
    }

    fn bit(sequence: u64) -> u64 {
        1 << (sequence % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rtp::random::{Random, seeds};

    const CYCLE: u64 = FIRST_CYCLE;

    #[test]
    fn numbers_are_extended() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(Seen::First(CYCLE + 65_535), tracker.see(65_535));
        let next = Seen::Ahead {
            sequence: 2 * CYCLE + 1,
            by: 2,
        };
        assert_eq!(next, tracker.see(1));
        assert_eq!(Seen::Late(2 * CYCLE), tracker.see(0));
        assert_eq!(Seen::Duplicate(CYCLE + 65_535), tracker.see(65_535));
        assert_eq!(Seen::Late(CYCLE + 65_000), tracker.see(65_000));
    }

    #[test]
    fn packets_from_before_the_first_have_numbers() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(Seen::First(CYCLE), tracker.see(0));
        assert_eq!(Seen::Late(CYCLE - 1), tracker.see(65_535));
    }

    #[test]
    fn one_stray_number_changes_nothing() {
        let mut tracker = SequenceTracker::new();
        tracker.see(10);
        assert!(matches!(tracker.see(30_000), Seen::Jump(_)));
        assert!(matches!(tracker.see(50_000), Seen::Jump(_)));
        assert!(matches!(tracker.see(11), Seen::Ahead { by: 1, .. }));
        assert!(matches!(tracker.see(50_001), Seen::Jump(_)));
    }

    #[test]
    fn two_in_a_row_are_a_new_start() {
        let mut tracker = SequenceTracker::new();
        tracker.see(40_000);
        assert!(matches!(tracker.see(30_000), Seen::Jump(_)));
        assert_eq!(Seen::First(2 * CYCLE + 30_001), tracker.see(30_001));
        assert_eq!(Seen::Late(2 * CYCLE + 30_000), tracker.see(30_000));
    }

    #[test]
    fn what_is_sent_again_neither_leads_nor_starts() {
        let mut tracker = SequenceTracker::new();
        assert_eq!(None, tracker.recover(9));
        tracker.see(10);
        tracker.see(12);
        assert_eq!(None, tracker.recover(13));
        assert_eq!(Some(Seen::Late(CYCLE + 11)), tracker.recover(11));
        assert_eq!(Some(Seen::Duplicate(CYCLE + 11)), tracker.recover(11));
        assert_eq!(Seen::Duplicate(CYCLE + 11), tracker.see(11));
    }

    /// Against a source whose true numbers are known.
    #[test]
    fn it_finds_the_true_numbers() {
        for seed in seeds(50) {
            println!("STREAM_SEED={seed}");
            let mut random = Random::new(seed);
            let first = random.below(CYCLE);
            let mut tracker = SequenceTracker::new();
            assert_eq!(Seen::First(CYCLE + first), tracker.see(first as u16));
            let mut newest = CYCLE + first;
            let mut arrived = HashSet::from([newest]);
            for _ in 0..20_000 {
                let truth = if random.chance(20) {
                    newest - random.below(u64::from(MOST_BEHIND) + 1)
                } else {
                    let most = if random.chance(1) { 2999 } else { 3 };
                    newest + 1 + random.below(most)
                };
                let expected = if truth > newest {
                    Seen::Ahead {
                        sequence: truth,
                        by: truth - newest,
                    }
                } else if arrived.contains(&truth) {
                    Seen::Duplicate(truth)
                } else {
                    Seen::Late(truth)
                };
                assert_eq!(expected, tracker.see(truth as u16));
                arrived.insert(truth);
                newest = newest.max(truth);
            }
        }
    }
}

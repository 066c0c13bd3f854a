//! Where a source's sequence numbers lie among the outgoing ones.

/// From a start until the next: outgoing numbers are the source's, shifted, less what was left out.
///
/// What is left out in order leaves no gap. What turns out late to be left out does: its number was
/// kept for it when the packet after it was sent.
#[derive(Debug)]
pub(super) struct Numbering {
    /// What comes before it is not known any more, or was never to be sent.
    known_from: u64,
    newest: u64,
    /// Added to a source's number that is newer than all that was left out; wraps.
    shift: u64,
    /// What was left out, the oldest first.
    left_out: [Run; MAX_RUNS],
    runs: usize,
}

/// Packets that come one after the other.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    first: u64,
    count: u64,
}

/// Packets that are left out come rarely, or many in a row.
const MAX_RUNS: usize = 6;

impl Numbering {
    pub(super) fn start(source: u64, outgoing: u64) -> Self {
        Self {
            known_from: source,
            newest: source,
            shift: outgoing.wrapping_sub(source),
            left_out: [Run::default(); MAX_RUNS],
            runs: 0,
        }
    }

    /// The outgoing number of a packet. `None` if it was left out, or comes from before what is
    /// known.
    pub(super) fn place(&mut self, source: u64) -> Option<u64> {
        if source > self.newest {
            self.newest = source;
            return Some(source.wrapping_add(self.shift));
        }
        if source < self.known_from {
            return None;
        }
        let mut shift = self.shift;
        for run in self.left_out[..self.runs].iter().rev() {
            if source >= run.first + run.count {
                break;
            }
            if source >= run.first {
                return None;
            }
            shift = shift.wrapping_add(run.count);
        }
        Some(source.wrapping_add(shift))
    }

    pub(super) fn leave_out(&mut self, source: u64) {
        if source <= self.newest || source == u64::MAX {
            return;
        }
        let continues = self.runs > 0 && {
            let last = &mut self.left_out[self.runs - 1];
            let is_next = last.first + last.count == source;
            last.count += u64::from(is_next);
            is_next
        };
        if !continues {
            if self.runs == MAX_RUNS {
                let oldest = self.left_out[0];
                self.known_from = oldest.first + oldest.count;
                self.left_out.rotate_left(1);
                self.runs -= 1;
            }
            self.left_out[self.runs] = Run {
                first: source,
                count: 1,
            };
            self.runs += 1;
        }
        self.newest = source;
        self.shift = self.shift.wrapping_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shifted_and_gaps_stay() {
        let mut numbering = Numbering::start(1000, 7);
        assert_eq!(Some(7), numbering.place(1000));
        assert_eq!(Some(10), numbering.place(1003));
        assert_eq!(Some(8), numbering.place(1001));
        assert_eq!(None, numbering.place(999));
    }

    #[test]
    fn what_is_left_out_leaves_no_gap() {
        let mut numbering = Numbering::start(1000, 7);
        numbering.leave_out(1002);
        numbering.leave_out(1003);
        assert_eq!(Some(9), numbering.place(1004));
        numbering.leave_out(1006);
        assert_eq!(Some(11), numbering.place(1007));
        // Late ones get what they would have had.
        assert_eq!(Some(8), numbering.place(1001));
        assert_eq!(Some(10), numbering.place(1005));
        assert_eq!(None, numbering.place(1003));
        assert_eq!(None, numbering.place(1006));
    }

    #[test]
    fn what_is_late_to_be_left_out_keeps_its_number() {
        let mut numbering = Numbering::start(1000, 7);
        assert_eq!(Some(9), numbering.place(1002));
        numbering.leave_out(1001);
        assert_eq!(Some(10), numbering.place(1003));
    }

    #[test]
    fn what_lies_behind_many_left_out_is_no_longer_known() {
        let mut numbering = Numbering::start(0, 0);
        for left_out in (1..).step_by(2).take(MAX_RUNS + 1) {
            numbering.leave_out(left_out);
        }
        assert_eq!(None, numbering.place(0));
        assert_eq!(Some(1), numbering.place(2));
        let newest = 2 * MAX_RUNS as u64;
        assert_eq!(Some(newest / 2), numbering.place(newest));
        assert_eq!(Some(newest / 2 + 1), numbering.place(newest + 2));
    }

    #[test]
    fn the_largest_number_is_survived() {
        let mut numbering = Numbering::start(u64::MAX - 3, 0);
        numbering.leave_out(u64::MAX - 2);
        numbering.leave_out(u64::MAX);
        assert_eq!(Some(1), numbering.place(u64::MAX - 1));
        assert_eq!(Some(2), numbering.place(u64::MAX));
    }
}

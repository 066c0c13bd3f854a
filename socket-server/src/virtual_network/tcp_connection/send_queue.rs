//! Bytes that the peer has not acknowledged.

use std::collections::VecDeque;

/// The application's bytes from the first unacknowledged one on, sent or not.
#[derive(Debug)]
pub(super) struct SendQueue {
    bytes: VecDeque<u8>,
    /// The sequence number of the first of them.
    first: u64,
    capacity: usize,
}

impl SendQueue {
    /// `first` is the sequence number that the first byte will have.
    pub(super) fn new(first: u64, capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            first,
            capacity,
        }
    }

    /// The sequence number that the next byte put in will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.bytes.len() as u64
    }

    /// Takes as many bytes as there is room for, and says how many.
    pub(super) fn push(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.capacity - self.bytes.len());
        self.bytes.extend(&data[..taken]);
        taken
    }

    /// Whether it is worth telling a writer that there is room: a third is what Linux asks for, so
    /// that a writer is not woken for every segment that is acknowledged.
    pub(super) fn has_ample_room(&self) -> bool {
        self.capacity - self.bytes.len() >= self.capacity.div_ceil(3)
    }

    /// Forgets all before `sequence`.
    pub(super) fn release(&mut self, sequence: u64) {
        let count = sequence.saturating_sub(self.first);
        let count = usize::try_from(count).map_or(self.bytes.len(), |n| n.min(self.bytes.len()));
        self.bytes.drain(..count);
        self.first += count as u64;
    }

    /// Forgets everything, and the memory.
    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.bytes = VecDeque::new();
    }

    /// Up to `length` bytes beginning with `sequence`, which is not before the first.
    pub(super) fn copy(&self, sequence: u64, length: u64) -> Vec<u8> {
        let total = self.bytes.len();
        let clamp = |n: u64| usize::try_from(n).map_or(total, |n| n.min(total));
        let start = clamp(sequence - self.first);
        let end = clamp((start as u64).saturating_add(length));
        let (front, back) = self.bytes.as_slices();
        let mut copy = Vec::with_capacity(end - start);
        if start < front.len() {
            copy.extend_from_slice(&front[start..end.min(front.len())]);
        }
        if end > front.len() {
            copy.extend_from_slice(&back[start.saturating_sub(front.len())..end - front.len()]);
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_copies_across_the_seam() {
        let mut queue = SendQueue::new(1, 8);
        assert_eq!(6, queue.push(b"abcdef"));
        queue.release(5);
        assert_eq!(6, queue.push(b"ghijklm"));
        assert_eq!(0, queue.push(b"n"));
        assert_eq!(13, queue.end());
        for start in 5..=13 {
            for length in 0..10 {
                let from = usize::try_from(start - 5).unwrap();
                let to = (from + usize::try_from(length).unwrap()).min(8);
                assert_eq!(b"efghijkl"[from..to], queue.copy(start, length));
            }
        }
        queue.release(u64::MAX);
        assert_eq!(13, queue.end());
        assert!(queue.copy(13, 5).is_empty());
    }

    #[test]
    fn ample_room_is_a_third() {
        let mut queue = SendQueue::new(1, 9);
        queue.push(&[0; 7]);
        assert!(!queue.has_ample_room());
        queue.release(2);
        assert!(queue.has_ample_room());
    }
}

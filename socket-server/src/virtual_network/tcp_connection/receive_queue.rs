//! Bytes that the application has not read, and what arrived ahead of its turn.

use std::collections::VecDeque;
use std::ops::Range;

/// The most islands of bytes beyond a gap: what would make another is dropped, and sent again by the
/// peer. It bounds the memory and the time that a peer which sends every other byte can cost.
const MAX_ISLANDS: usize = 1024;

/// The receiving half: puts the peer's bytes in order, within a window.
///
/// Sequence numbers are counted from the peer's SYN here, which is 0.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    /// From the first unread byte on. Where nothing has arrived yet, there are zeros.
    bytes: VecDeque<u8>,
    /// The sequence number of the first unread byte.
    read: u64,
    /// The sequence number of the first byte that is missing.
    next: u64,
    /// What has arrived after `next`: in order, and neither overlapping nor touching.
    islands: Vec<Range<u64>>,
    /// Where the FIN is, once it has arrived, perhaps ahead of its turn.
    finish: Option<u64>,
    capacity: u64,
    /// How far the window reached that the peer was told of last.
    advertised: u64,
    /// By how much the window must have grown for that to be worth telling: small steps would make
    /// the peer send small segments (the silly window syndrome).
    step: u64,
}

impl ReceiveQueue {
    pub(super) fn new(capacity: usize, max_segment: u64) -> Self {
        let capacity = capacity as u64;
        Self {
            bytes: VecDeque::new(),
            read: 1,
            next: 1,
            islands: Vec::new(),
            finish: None,
            capacity,
            advertised: 1 + capacity,
            step: (2 * max_segment).min(capacity / 2).max(1),
        }
    }

    /// What is to be acknowledged.
    pub(super) fn acknowledgement(&self) -> u64 {
        self.next + u64::from(self.is_finished())
    }

    /// The first sequence number that there is no room for.
    pub(super) fn edge(&self) -> u64 {
        self.read + self.capacity
    }

    /// Whether the peer's stream has arrived to its end.
    pub(super) fn is_finished(&self) -> bool {
        self.finish == Some(self.next)
    }

    /// Whether there are bytes to read.
    pub(super) fn has_data(&self) -> bool {
        self.next > self.read
    }

    /// Whether anything waits for what is missing before it.
    pub(super) fn has_gap(&self) -> bool {
        !self.islands.is_empty() || self.finish.is_some_and(|finish| finish != self.next)
    }

    /// Takes what is new, in its place and within the window.
    pub(super) fn insert(&mut self, sequence: u64, payload: &[u8], fin: bool) {
        let Some(end) = sequence.checked_add(payload.len() as u64) else {
            return;
        };
        let edge = self.edge();
        // A FIN takes no room: so it may stand where the window ends. One that would cut off what
        // has arrived already is a lie.
        let highest = self.islands.last().map_or(self.next, |last| last.end);
        if fin && self.finish.is_none() && (highest..=edge).contains(&end) {
            self.finish = Some(end);
        }
        let from = sequence.max(self.next);
        let to = end.min(edge).min(self.finish.unwrap_or(edge));
        if from < to && self.claim(from..to) {
            let skipped = index(from - sequence);
            self.write(from, &payload[skipped..skipped + index(to - from)]);
        }
    }

    /// Notes that a range has arrived; says whether there was room to note it.
    fn claim(&mut self, range: Range<u64>) -> bool {
        if range.start == self.next {
            self.next = range.end;
            let reached = self
                .islands
                .partition_point(|island| island.start <= self.next);
            if let Some(last) = self.islands.drain(..reached).next_back() {
                self.next = self.next.max(last.end);
            }
            return true;
        }
        let begin = self
            .islands
            .partition_point(|island| island.end < range.start);
        let end = self
            .islands
            .partition_point(|island| island.start <= range.end);
        if begin == end {
            if self.islands.len() >= MAX_ISLANDS {
                return false;
            }
            self.islands.insert(begin, range);
        } else {
            let joined = range.start.min(self.islands[begin].start)
                ..range.end.max(self.islands[end - 1].end);
            self.islands[begin] = joined;
            self.islands.drain(begin + 1..end);
        }
        true
    }

    fn write(&mut self, sequence: u64, data: &[u8]) {
        let start = index(sequence - self.read);
        if start >= self.bytes.len() {
            self.bytes.resize(start, 0);
            self.bytes.extend(data);
            return;
        }
        let end = start + data.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        let (front, back) = self.bytes.as_mut_slices();
        let in_front = front.len().saturating_sub(start).min(data.len());
        if in_front > 0 {
            front[start..start + in_front].copy_from_slice(&data[..in_front]);
        }
        if in_front < data.len() {
            let offset = start + in_front - front.len();
            back[offset..offset + data.len() - in_front].copy_from_slice(&data[in_front..]);
        }
    }

    /// Hands over what is in order.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(index(self.next - self.read));
        let (front, back) = self.bytes.as_slices();
        let in_front = front.len().min(length);
        buffer[..in_front].copy_from_slice(&front[..in_front]);
        buffer[in_front..length].copy_from_slice(&back[..length - in_front]);
        self.bytes.drain(..length);
        self.read += length as u64;
        length
    }

    /// Nothing will arrive any more: what cannot be completed is of no use.
    pub(super) fn forget_islands(&mut self) {
        self.islands = Vec::new();
        self.bytes.truncate(index(self.next - self.read));
        self.bytes.shrink_to_fit();
    }

    /// The bytes of memory in use, gaps included.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Nobody will read any more.
    pub(super) fn forget_everything(&mut self) {
        self.read = self.next;
        self.bytes = VecDeque::new();
        self.islands = Vec::new();
    }

    /// The window to be told to the peer with the next segment. It never takes back what was told.
    pub(super) fn advertise(&mut self) -> u64 {
        if self.is_update_due() {
            self.advertised = self.edge();
        }
        self.advertised.saturating_sub(self.acknowledgement())
    }

    /// Whether the reader has made so much room that the peer should be told at once.
    pub(super) fn is_update_due(&self) -> bool {
        !self.is_finished() && self.edge() - self.advertised >= self.step
    }
}

/// A distance within the window, which was a `usize` to begin with.
fn index(distance: u64) -> usize {
    usize::try_from(distance).expect("a distance within the receive window")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(queue: &mut ReceiveQueue) -> Vec<u8> {
        let mut buffer = [0; 100];
        let length = queue.read(&mut buffer);
        buffer[..length].to_vec()
    }

    #[test]
    fn puts_in_order_what_overlaps() {
        let mut queue = ReceiveQueue::new(100, 10);
        queue.insert(4, b"def", false);
        queue.insert(9, b"ij", true);
        queue.insert(6, b"fgh", false);
        assert!(queue.has_gap());
        assert!(!queue.has_data());
        queue.insert(0, b"?abcd", false);
        assert!(!queue.has_gap());
        assert!(queue.is_finished());
        assert_eq!(12, queue.acknowledgement());
        assert_eq!(b"abcdefghij".to_vec(), read_all(&mut queue));
    }

    #[test]
    fn nothing_beyond_the_window_or_the_end_is_kept() {
        let mut queue = ReceiveQueue::new(4, 10);
        queue.insert(3, b"cdefgh", true);
        queue.insert(5, b"e", false);
        queue.insert(u64::MAX, b"xyz", true);
        assert_eq!(4, queue.bytes.len());
        queue.insert(1, b"ab", false);
        assert_eq!(5, queue.acknowledgement());
        // The FIN may stand at the edge, and nothing after it counts.
        queue.insert(5, b"", true);
        assert_eq!(6, queue.acknowledgement());
        assert_eq!(b"abcd".to_vec(), read_all(&mut queue));
        queue.insert(5, b"more", false);
        queue.insert(6, b"more", true);
        assert!(read_all(&mut queue).is_empty());
        assert!(queue.is_finished());
    }

    #[test]
    fn a_finish_before_what_has_arrived_is_ignored() {
        let mut queue = ReceiveQueue::new(100, 10);
        queue.insert(5, b"e", false);
        queue.insert(3, b"c", true);
        queue.insert(1, b"abcd", false);
        assert!(!queue.is_finished());
        assert_eq!(b"abcde".to_vec(), read_all(&mut queue));
    }

    #[test]
    fn islands_are_bounded() {
        let mut queue = ReceiveQueue::new(100_000, 10);
        for sequence in (3..50_000).step_by(2) {
            queue.insert(sequence, b"x", false);
        }
        assert_eq!(MAX_ISLANDS, queue.islands.len());
        queue.insert(1, &[b'x'; 100_000], false);
        assert!(!queue.has_gap());
        assert_eq!(100_001, queue.acknowledgement());
    }

    #[test]
    fn the_window_moves_in_worthwhile_steps() {
        let mut queue = ReceiveQueue::new(100, 10);
        queue.insert(1, &[0; 100], false);
        assert_eq!(0, queue.advertise());
        queue.read(&mut [0; 19]);
        assert!(!queue.is_update_due());
        assert_eq!(0, queue.advertise());
        queue.read(&mut [0; 1]);
        assert!(queue.is_update_due());
        assert_eq!(20, queue.advertise());
        assert!(!queue.is_update_due());
    }
}

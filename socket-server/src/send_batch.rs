//! Datagrams to be sent, many at a time.

use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;

use crate::envelope::{Envelope, Transmit};

/// The kernel takes no more in one call, however many datagrams.
const MAX_RUN_BYTES: usize = 65_000;
/// What a datagram counts besides its data, so that empty ones are not for nothing.
const HEADER_BYTES: usize = size_of::<Header>();
/// By default, a batch takes as much as one second of a loaded gigabit interface's share might need.
const DEFAULT_LIMIT_BYTES: usize = 8 << 20;

/// Datagrams on their way to a [`UdpSocket`](crate::UdpSocket), in memory that is reused.
///
/// Consecutive datagrams of one size to one destination, from one address and with one mark, leave
/// in one system call where the kernel can segment them (GSO); the last of such a run may be
/// shorter. So whoever sends to several, should send to one after the other.
pub struct SendBatch {
    memory: Vec<u8>,
    datagrams: Vec<Header>,
    /// Those before it have been sent, or given up.
    next: usize,
    limit_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    envelope: Envelope,
    start: usize,
    len: usize,
}

/// There is no room in the batch: the socket has been blocked for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchFull;

impl fmt::Display for BatchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch of datagrams is full")
    }
}

impl Error for BatchFull {}

/// What became of a batch.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SendReport {
    /// Datagrams that the operating system has taken.
    pub datagrams: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Datagrams that could not be sent, and were given up.
    pub failed: usize,
    /// Why the last of them could not.
    pub last_error: Option<io::Error>,
    /// Whether there was no room for the rest, which is still in the batch.
    pub blocked: bool,
}

impl Default for SendBatch {
    fn default() -> Self {
        Self {
            memory: Vec::new(),
            datagrams: Vec::new(),
            next: 0,
            limit_bytes: DEFAULT_LIMIT_BYTES,
        }
    }
}

impl SendBatch {
    /// An empty batch that takes 8 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most bytes that may wait in the batch, with some hundred for each datagram besides its
    /// data.
    #[must_use]
    pub fn with_limit_bytes(mut self, limit: usize) -> Self {
        self.limit_bytes = limit;
        self
    }

    /// Adds a datagram. The data is copied. Allocates only while the batch grows beyond what it ever
    /// held.
    ///
    /// # Errors
    ///
    /// The limit is reached; the batch is as it was.
    pub fn push(&mut self, envelope: impl Into<Envelope>, data: &[u8]) -> Result<(), BatchFull> {
        if self.waiting_bytes() + data.len() + HEADER_BYTES > self.limit_bytes {
            return Err(BatchFull);
        }
        self.forget_sent();
        self.datagrams.push(Header {
            envelope: envelope.into(),
            start: self.memory.len(),
            len: data.len(),
        });
        self.memory.extend_from_slice(data);
        Ok(())
    }

    /// Adds a datagram that is written where it waits: `write` is given `room` bytes, and returns how
    /// many of them the datagram has; nothing is added if that is 0. Saves a copy where the data
    /// comes into being, by encryption for example. Allocates as [`push`](Self::push) does.
    ///
    /// # Errors
    ///
    /// The limit is reached; the batch is as it was, and `write` was not called.
    pub fn push_with(
        &mut self,
        envelope: impl Into<Envelope>,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), BatchFull> {
        if self.waiting_bytes() + room + HEADER_BYTES > self.limit_bytes {
            return Err(BatchFull);
        }
        self.forget_sent();
        let start = self.memory.len();
        self.memory.resize(start + room, 0);
        let len = write(&mut self.memory[start..]).min(room);
        self.memory.truncate(start + len);
        if len > 0 {
            self.datagrams.push(Header {
                envelope: envelope.into(),
                start,
                len,
            });
        }
        Ok(())
    }

    /// How many datagrams wait.
    pub fn len(&self) -> usize {
        self.datagrams.len() - self.next
    }

    /// Whether no datagram waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits, with what it takes to know where each datagram goes.
    fn waiting_bytes(&self) -> usize {
        let start = self.datagrams.get(self.next).map(|first| first.start);
        let data = start.map_or(0, |start| self.memory.len() - start);
        data + self.len() * HEADER_BYTES
    }

    /// Uses the memory again of what has been sent, once that is more than what waits.
    fn forget_sent(&mut self) {
        let Some(first) = self.datagrams.get(self.next) else {
            return;
        };
        let sent_bytes = first.start;
        if self.next > self.len() && sent_bytes >= self.memory.len() - sent_bytes {
            self.memory.drain(..sent_bytes);
            self.datagrams.drain(..self.next);
            for datagram in &mut self.datagrams {
                datagram.start -= sent_bytes;
            }
            self.next = 0;
        }
    }

    /// Hands runs to `send` until all are sent or it would block.
    pub(crate) fn flush(
        &mut self,
        max_segments: usize,
        mut send: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    ) -> SendReport {
        let mut report = SendReport::default();
        let max_segments = max_segments.max(1);
        // Up to there, datagrams are sent one by one.
        let mut singly_until = 0;
        while !self.is_empty() {
            let at_a_time = match self.next < singly_until {
                true => 1,
                false => max_segments,
            };
            let run = self.next_run(at_a_time);
            let sent = send(&self.transmit(run.clone()));
            match sent {
                Ok(()) => {
                    report.datagrams += run.len();
                    report.bytes += self.bytes_of(run.clone());
                    self.next = run.end;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    report.blocked = true;
                    break;
                }
                // Some interfaces cannot segment, or not datagrams as long as these: each gets its own
                // chance.
                Err(_) if run.len() > 1 => singly_until = run.end,
                Err(error) => {
                    report.failed += 1;
                    report.last_error = Some(error);
                    self.next = run.end;
                }
            }
        }
        if self.is_empty() {
            self.memory.clear();
            self.datagrams.clear();
            self.next = 0;
        }
        report
    }

    /// The next datagrams that can leave together.
    fn next_run(&self, max_segments: usize) -> Range<usize> {
        let first = self.datagrams[self.next];
        let mut end = self.next + 1;
        let mut bytes = first.len;
        while let Some(header) = self.datagrams.get(end) {
            let fits = end - self.next < max_segments && bytes + header.len <= MAX_RUN_BYTES;
            // An empty datagram would be no segment.
            let joins = header.envelope == first.envelope && (1..=first.len).contains(&header.len);
            if !fits || !joins {
                break;
            }
            bytes += header.len;
            end += 1;
            if header.len < first.len {
                break;
            }
        }
        self.next..end
    }

    fn transmit(&self, run: Range<usize>) -> Transmit<'_> {
        let first = self.datagrams[run.start];
        Transmit {
            envelope: first.envelope,
            contents: &self.memory[first.start..][..self.bytes_of(run.clone())],
            segment_bytes: (run.len() > 1).then_some(first.len),
        }
    }

    fn bytes_of(&self, run: Range<usize>) -> usize {
        self.datagrams[run].iter().map(|header| header.len).sum()
    }
}

impl fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBatch")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `flush` hands over: the port, the segment size, and the bytes.
    fn flushed(batch: &mut SendBatch, max_segments: usize) -> Vec<(u16, Option<usize>, usize)> {
        let mut handed = Vec::new();
        let report = batch.flush(max_segments, |transmit| {
            let port = transmit.envelope.destination.port();
            handed.push((port, transmit.segment_bytes, transmit.contents.len()));
            Ok(())
        });
        assert!(!report.blocked && report.failed == 0);
        handed
    }

    fn to(port: u16) -> Envelope {
        Envelope::to(([127, 0, 0, 1], port).into())
    }

    fn batch(datagrams: &[(u16, usize)]) -> SendBatch {
        let mut batch = SendBatch::new();
        for (port, len) in datagrams {
            batch.push(to(*port), &vec![*port as u8; *len]).unwrap();
        }
        batch
    }

    #[test]
    fn what_is_written_in_place_is_as_long_as_it_says() {
        let mut batch = SendBatch::new().with_limit_bytes(10 * HEADER_BYTES);
        batch.push(to(1), &[1; 3]).unwrap();
        let write = |room: &mut [u8]| {
            room[..2].fill(2);
            2
        };
        batch.push_with(to(1), 5, write).unwrap();
        batch.push_with(to(1), 5, |_| 0).unwrap();
        assert_eq!(2, batch.len(), "nothing written is nothing sent");
        let mut called = false;
        let full = batch.push_with(to(1), 10 * HEADER_BYTES, |_| {
            called = true;
            1
        });
        assert!(full.is_err() && !called);
        assert_eq!(vec![(1, Some(3), 5)], flushed(&mut batch, 10));
    }

    #[test]
    fn runs_are_of_one_destination_and_size_and_may_end_shorter() {
        let mut some = batch(&[
            (1, 10),
            (1, 10),
            (1, 7),
            (1, 10),
            (2, 10),
            (2, 11),
            (2, 0),
            (2, 0),
        ]);
        let expected = vec![
            (1, Some(10), 27),
            (1, None, 10),
            (2, None, 10),
            (2, None, 11),
            (2, None, 0),
            (2, None, 0),
        ];
        assert_eq!(expected, flushed(&mut some, 64));
        assert!(some.is_empty());
    }

    #[test]
    fn runs_are_limited_in_number_and_bytes() {
        assert_eq!(
            vec![(1, Some(10), 20), (1, Some(10), 20), (1, None, 10)],
            flushed(&mut batch(&[(1, 10); 5]), 2)
        );
        assert_eq!(
            vec![(1, Some(30_000), 60_000), (1, None, 30_000)],
            flushed(&mut batch(&[(1, 30_000); 3]), 64)
        );
        assert_eq!(
            vec![(1, None, 10); 2],
            flushed(&mut batch(&[(1, 10); 2]), 1)
        );
    }

    #[test]
    fn what_there_is_no_room_for_stays_and_order_is_kept() {
        let mut some = batch(&[(1, 1), (2, 2), (3, 3)]);
        let mut room = 1;
        let report = some.flush(64, |_| {
            room -= 1;
            if room < 0 {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        assert!(report.blocked);
        assert_eq!((1, 1, 2), (report.datagrams, report.bytes, some.len()));
        some.push(to(4), &[4; 4]).unwrap();
        let ports: Vec<_> = flushed(&mut some, 64)
            .iter()
            .map(|(port, ..)| *port)
            .collect();
        assert_eq!(vec![2, 3, 4], ports);
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_stop_the_others() {
        let mut some = batch(&[(1, 1), (2, 2), (3, 3)]);
        let report = some.flush(64, |transmit| match transmit.envelope.destination.port() {
            2 => Err(io::ErrorKind::HostUnreachable.into()),
            _ => Ok(()),
        });
        assert_eq!((2, 4, 1), (report.datagrams, report.bytes, report.failed));
        assert_eq!(
            io::ErrorKind::HostUnreachable,
            report.last_error.unwrap().kind()
        );
        assert!(some.is_empty());
    }

    #[test]
    fn a_run_that_cannot_be_segmented_is_sent_one_by_one() {
        let mut some = batch(&[(1, 10); 3]);
        let mut singles = 0;
        let report = some.flush(64, |transmit| match transmit.segment_bytes {
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => {
                singles += 1;
                Ok(())
            }
        });
        assert_eq!((3, 0, 3), (report.datagrams, report.failed, singles));
    }

    #[test]
    fn a_full_batch_says_so() {
        let mut small = SendBatch::new().with_limit_bytes(10 + HEADER_BYTES);
        assert_eq!(Ok(()), small.push(to(1), &[0; 10]));
        assert_eq!(Err(BatchFull), small.push(to(1), &[0; 1]));
        assert_eq!(1, small.len());
    }

    #[test]
    fn what_has_left_takes_no_room() {
        let mut some = SendBatch::new().with_limit_bytes(10 * (100 + HEADER_BYTES));
        for _ in 0..1000 {
            // Always three that wait, never none.
            while some.len() < 4 {
                some.push(to(1), &[0; 100]).unwrap();
            }
            let mut room = 1;
            some.flush(1, |_| {
                room -= 1;
                match room {
                    0 => Ok(()),
                    _ => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
        }
        assert!(some.memory.len() <= 1000, "{}", some.memory.len());
        let mut empty = SendBatch::new().with_limit_bytes(10 * HEADER_BYTES);
        for _ in 0..10 {
            empty.push(to(1), b"").unwrap();
        }
        assert_eq!(Err(BatchFull), empty.push(to(1), b""));
    }
}

//! What was received of whom, so that nothing is taken twice.

use super::SrtpError;

/// How far behind the newest packet one may come.
const WINDOW: u64 = u128::BITS as u64;
/// Senders beyond that many push out the one least recently heard. Only those who have the key get
/// here, but they may change their SSRC as often as they like.
pub(super) const STREAMS_MAX: usize = 64;
/// Half of all sequence numbers.
const HALF: u16 = 1 << 15;

/// The packets received of one sender (RFC 3711, section 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplayWindow {
    newest: u64,
    /// Bit n: the packet n before the newest came.
    received: u128,
}

impl ReplayWindow {
    const fn starting_with(index: u64) -> Self {
        Self {
            newest: index,
            received: 1,
        }
    }

    /// RFC 3711, section 3.3.1: which packet of that sequence number is nearest to the newest.
    pub(super) fn index_of(&self, sequence: u16) -> u64 {
        let rollovers = self.newest >> 16;
        let newest = self.newest as u16;
        let rollovers = if sequence.saturating_sub(newest) > HALF {
            // Of the cycle before; there is none before the first.
            rollovers.saturating_sub(1)
        } else if newest.saturating_sub(HALF) > sequence {
            rollovers + 1
        } else {
            rollovers
        };
        (rollovers << 16) | u64::from(sequence)
    }

    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        let Some(age) = self.newest.checked_sub(index) else {
            return Ok(());
        };
        let came = age >= WINDOW || self.received & (1 << age) != 0;
        if came {
            Err(SrtpError::Replayed)
        } else {
            Ok(())
        }
    }

    fn note(&mut self, index: u64) {
        match index.checked_sub(self.newest) {
            Some(ahead) => {
                let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
                self.received = self.received.checked_shl(ahead).unwrap_or(0) | 1;
                self.newest = index;
            }
            None => {
                let age = self.newest - index;
                if age < WINDOW {
                    self.received |= 1 << age;
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    ssrc: u32,
    heard_at: u64,
    window: ReplayWindow,
}

/// Every sender that was heard lately. Few, so that looking at each is the fastest way to find one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// Counts packets, as a clock.
    heard: u64,
}

impl Streams {
    pub(super) fn window(&self, ssrc: u32) -> Option<&ReplayWindow> {
        let mut streams = self.streams.iter();
        streams
            .find(|stream| stream.ssrc == ssrc)
            .map(|stream| &stream.window)
    }

    /// Only for packets that are authentic.
    pub(super) fn note(&mut self, ssrc: u32, index: u64) {
        self.heard += 1;
        let heard_at = self.heard;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.window.note(index);
            stream.heard_at = heard_at;
            return;
        }
        let new = Stream {
            ssrc,
            heard_at,
            window: ReplayWindow::starting_with(index),
        };
        if self.streams.len() < STREAMS_MAX {
            self.streams.push(new);
        } else if let Some(quietest) = self.streams.iter_mut().min_by_key(|s| s.heard_at) {
            *quietest = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rtp::random::{Random, any_seed};

    #[test]
    fn sequence_numbers_are_of_the_nearest_cycle() {
        let index_of = |newest, sequence| ReplayWindow::starting_with(newest).index_of(sequence);
        assert_eq!(0x1_0000, index_of(0xffff, 0));
        assert_eq!(0xffff, index_of(0x1_0000, 0xffff));
        assert_eq!(0x5_8002, index_of(0x6_0001, 0x8002));
        assert_eq!(0x6_8001, index_of(0x6_0001, 0x8001));
        assert_eq!(0x6_7fff, index_of(0x6_ffff, 0x7fff));
        assert_eq!(0x7_7ffe, index_of(0x6_ffff, 0x7ffe));
        // Before the first there was nothing.
        assert_eq!(0xffff, index_of(0, 0xffff));
    }

    #[test]
    fn nothing_is_taken_twice_and_what_is_too_old_not_at_all() {
        let seed = any_seed();
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut window = ReplayWindow::starting_with(1_000);
        let mut taken = BTreeSet::from([1_000]);
        let mut newest = 1_000;
        for _ in 0..100_000 {
            let jump = if random.below(1_000) == 0 { 500 } else { 3 };
            let index = (newest + random.below(jump)).saturating_sub(random.below(150));
            let is_new = !taken.contains(&index) && index + WINDOW > newest;
            assert_eq!(
                is_new,
                window.check(index).is_ok(),
                "{index} after {newest}"
            );
            if is_new {
                window.note(index);
                taken.insert(index);
                newest = newest.max(index);
            }
        }
    }

    #[test]
    fn the_sender_least_recently_heard_is_forgotten() {
        let mut streams = Streams::default();
        let all = 0..STREAMS_MAX as u32;
        for ssrc in all.clone() {
            streams.note(ssrc, 7);
        }
        streams.note(0, 8);
        streams.note(1_000, 9);
        assert!(streams.window(1).is_none());
        assert!(all.filter(|ssrc| streams.window(*ssrc).is_some()).count() == STREAMS_MAX - 1);
        assert_eq!(Ok(()), streams.window(1_000).unwrap().check(8));
    }
}

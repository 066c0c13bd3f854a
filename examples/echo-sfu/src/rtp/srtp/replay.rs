//! What was received of whom, so that nothing is taken twice.

use std::collections::HashMap;

use super::SrtpError;

/// How far behind the newest packet one may come.
const WINDOW: u64 = u128::BITS as u64;
/// Senders beyond so many push out those least recently heard. Only those who have the key get here,
/// but they may change their SSRC as often as they like.
pub(super) const STREAMS_OF_A_CLIENT: usize = 64;
/// The same where there may be hundreds of producers, with three layers each and RTX, and with room for
/// those that have ended.
pub(super) const STREAMS_OF_MANY: usize = 4_096;
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

/// Of what has ended. The first packet of all is one later.
const ENDED: u64 = 0;

/// Every sender that was heard lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Streams {
    streams: Vec<Stream>,
    /// Where the stream of an SSRC is.
    places: HashMap<u32, usize>,
    /// Where the one is that was looked for last: packets are looked for before they are noted, and come
    /// in bursts.
    last: usize,
    limit: usize,
    /// Counts packets, as a clock.
    heard: u64,
}

impl Streams {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            streams: Vec::new(),
            places: HashMap::new(),
            last: 0,
            limit,
            heard: 0,
        }
    }

    pub(super) fn window(&mut self, ssrc: u32) -> Option<&ReplayWindow> {
        self.find(ssrc).map(|stream| &stream.window)
    }

    fn find(&mut self, ssrc: u32) -> Option<&mut Stream> {
        let is_last = self.streams.get(self.last).map(|own| own.ssrc) == Some(ssrc);
        if !is_last {
            self.last = *self.places.get(&ssrc)?;
        }
        self.streams.get_mut(self.last)
    }

    /// What there is to be known, without where was looked last.
    #[cfg(test)]
    pub(super) fn known(&self) -> Self {
        Self {
            last: 0,
            ..self.clone()
        }
    }

    /// Only for packets that are authentic.
    pub(super) fn note(&mut self, ssrc: u32, index: u64) {
        self.heard += 1;
        let heard_at = self.heard;
        if let Some(stream) = self.find(ssrc) {
            stream.window.note(index);
            stream.heard_at = heard_at;
            return;
        }
        if self.streams.len() >= self.limit {
            self.forget_the_quietest();
        }
        let window = ReplayWindow::starting_with(index);
        self.last = self.streams.len();
        self.places.insert(ssrc, self.last);
        self.streams.push(Stream {
            ssrc,
            heard_at,
            window,
        });
    }

    /// A sender has ended, and makes room before all others. Until then it is known: should it go on
    /// after all, its numbers may have wrapped, and nothing of it may come twice.
    pub(super) fn forget(&mut self, ssrc: u32) {
        if let Some(stream) = self.find(ssrc) {
            stream.heard_at = ENDED;
        }
    }

    /// Those that have ended, if there are any. Otherwise an eighth of them, so that whoever comes with a
    /// new SSRC each time has all of them looked at rarely.
    fn forget_the_quietest(&mut self) {
        let mut heard: Vec<_> = self.streams.iter().map(|own| own.heard_at).collect();
        let limit = match heard.contains(&ENDED) {
            true => ENDED + 1,
            false => *heard.select_nth_unstable(self.limit / 8).1,
        };
        self.streams.retain(|own| own.heard_at >= limit);
        let streams = self.streams.iter().enumerate();
        self.places = streams.map(|(at, own)| (own.ssrc, at)).collect();
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
    fn the_senders_least_recently_heard_are_forgotten() {
        let mut streams = Streams::new(STREAMS_OF_MANY);
        let all = 0..STREAMS_OF_MANY as u32;
        for ssrc in all.clone() {
            streams.note(ssrc, 7);
        }
        streams.note(0, 8);
        streams.note(100_000, 9);
        assert!(streams.window(1).is_none());
        let left = all.filter(|ssrc| streams.window(*ssrc).is_some()).count();
        assert_eq!(STREAMS_OF_MANY - STREAMS_OF_MANY / 8, left);
        assert!(streams.window(0).is_some());
        assert_eq!(Ok(()), streams.window(100_000).unwrap().check(8));
    }

    #[test]
    fn what_has_ended_makes_room_before_what_is_quiet() {
        let mut streams = Streams::new(16);
        for ssrc in 0..16 {
            streams.note(ssrc, 1);
        }
        for ended in 8..12 {
            streams.forget(ended);
        }
        assert!((0..16).all(|ssrc| streams.window(ssrc).is_some()));
        streams.note(9, 2);
        streams.note(16, 1);
        let known: Vec<_> = (0..17)
            .filter(|own| streams.window(*own).is_some())
            .collect();
        let expected: Vec<_> = (0..17).filter(|own| ![8, 10, 11].contains(own)).collect();
        assert_eq!(expected, known);
    }
}

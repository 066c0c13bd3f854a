//! Which of a source's encodings to forward.

use crate::rtp::history::MAX_LAYERS;
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::{BitRate, Millis, RateMeter};

/// Follows what a source sends, and chooses the highest layer that is wanted, is there, and fits.
///
/// It does not change its mind lightly, as each change costs a key frame. A layer is given up when
/// what it sent beyond the budget would take 400 ms to get through: soon if it is far too large, not
/// for one large frame. A higher one is taken when it has been measured for half a second, fits
/// with a fifth to spare, and the last descent was two seconds ago.
#[derive(Debug)]
pub(super) struct Layers {
    layers: [Layer; MAX_LAYERS],
    /// How long the source has been sending. It stands still while the source is silent, so that a
    /// layer is missed only when others are heard instead.
    sending: Millis,
    heard_at: Millis,
    preferred: Option<u8>,
    /// If there is to be no other than this one, come what may.
    only: Option<u8>,
    budget: Option<BitRate>,
    target: Option<u8>,
    chosen_at: Millis,
    /// How long what the target sent beyond the budget would take to get through.
    backlog: Millis,
    descended_at: Option<Millis>,
}

#[derive(Debug)]
struct Layer {
    /// In terms of how long the source has been sending.
    heard_at: Option<Millis>,
    newest: Option<u64>,
    rate: RateMeter,
}

/// A source whose packets are further apart than this has been silent in between.
const SILENCE: Millis = Millis(200);
/// A layer that is not heard for so long, while others are, is gone.
const MISSING: Millis = Millis(500);
const CHOICE_INTERVAL: Millis = Millis(100);
const TOLERATED_BACKLOG: Millis = Millis(400);
const MEASURING: Millis = Millis(500);
const ASCENT_INTERVAL: Millis = Millis(2000);

/// Where a packet comes in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Newer than all of its layer.
    Newest,
    Late,
}

impl Layers {
    pub(super) fn new() -> Self {
        Self {
            layers: std::array::from_fn(|_| Layer {
                heard_at: None,
                newest: None,
                rate: RateMeter::new(),
            }),
            sending: Millis(0),
            heard_at: Millis(0),
            preferred: None,
            only: None,
            budget: None,
            target: None,
            chosen_at: Millis(0),
            backlog: Millis(0),
            descended_at: None,
        }
    }

    /// Another source: nothing is known of it. What is wanted stays.
    pub(super) fn forget_source(&mut self) {
        *self = Self {
            preferred: self.preferred,
            only: self.only,
            budget: self.budget,
            ..Self::new()
        };
    }

    /// Forwards this layer, or nothing.
    pub(super) fn restrict(&mut self, only: u8) {
        self.only = Some(only);
        self.choose();
    }

    /// Whether the only layer that would be forwarded is above those that are wanted.
    pub(super) fn is_none_wanted(&self) -> bool {
        let highest = self.preferred.unwrap_or(u8::MAX);
        self.only.is_some_and(|only| only > highest)
    }

    pub(super) const fn only(&self) -> Option<u8> {
        self.only
    }

    /// `None` if there is no such layer, or it is not wanted in any case.
    pub(super) fn hear(&mut self, now: Millis, packet: &MediaPacket) -> Option<Order> {
        let is_other = self.only.is_some_and(|only| only != packet.layer);
        let is_left_out = is_other || self.is_none_wanted();
        let layer = self.layers.get_mut(usize::from(packet.layer))?;
        self.sending.0 += now.since(self.heard_at).min(SILENCE).0;
        self.heard_at = self.heard_at.max(now);
        if is_left_out {
            // It tells that time passes, and so whether the other one is missing.
            if now.since(self.chosen_at) >= CHOICE_INTERVAL {
                self.choose();
            }
            return None;
        }
        let was_there = layer.is_there(self.sending);
        layer.heard_at = Some(self.sending);
        layer.rate.add(now, packet.payload.len());
        let is_newest = layer.newest.is_none_or(|newest| packet.sequence > newest);
        if is_newest {
            layer.newest = Some(packet.sequence);
        }
        if !was_there || now.since(self.chosen_at) >= CHOICE_INTERVAL {
            self.choose();
        }
        Some(if is_newest {
            Order::Newest
        } else {
            Order::Late
        })
    }

    /// The source is known to send these: they need not be heard first.
    pub(super) fn expect(&mut self, now: Millis, layers: &[u8]) {
        self.heard_at = self.heard_at.max(now);
        for layer in layers {
            if let Some(layer) = self.layers.get_mut(usize::from(*layer)) {
                layer.heard_at = Some(self.sending);
            }
        }
        self.choose();
    }

    pub(super) fn prefer(&mut self, highest: Option<u8>) {
        self.preferred = highest;
        self.choose();
    }

    pub(super) fn preferred(&self) -> Option<u8> {
        self.preferred
    }

    pub(super) fn afford(&mut self, budget: Option<BitRate>) {
        self.budget = budget;
        self.choose();
    }

    /// What the lowest layer takes, and what the best does that is wanted, with the room that it takes to
    /// change to it.
    pub(super) fn wanted(&mut self) -> (BitRate, BitRate) {
        let highest_wanted = self.preferred.unwrap_or(u8::MAX);
        let (mut lowest, mut best) = (None, None);
        for layer in 0..MAX_LAYERS as u8 {
            if self.layers[usize::from(layer)].is_there(self.sending) {
                lowest = lowest.or(Some(layer));
                if layer <= highest_wanted || best.is_none() {
                    best = Some(layer);
                }
            }
        }
        let mut rate = |layer: Option<u8>| layer.map_or(BitRate(0), |layer| self.rate(layer));
        let (least, most) = (rate(lowest), rate(best));
        (least, BitRate(most.0 + most.0 / 5))
    }

    /// `None` until a layer was heard.
    pub(super) fn target(&self) -> Option<u8> {
        self.target
    }

    pub(super) fn newest_sequence(&self, layer: u8) -> Option<u64> {
        self.layers.get(usize::from(layer))?.newest
    }

    fn choose(&mut self) {
        let now = self.heard_at;
        self.count_backlog(now.since(self.chosen_at));
        self.chosen_at = now;
        let chosen = self.best();
        if chosen != self.target {
            if chosen < self.target {
                self.descended_at = Some(now);
            }
            self.backlog = Millis(0);
            self.target = chosen;
        }
    }

    fn count_backlog(&mut self, passed: Millis) {
        let (Some(target), Some(budget)) = (self.target, self.budget) else {
            self.backlog = Millis(0);
            return;
        };
        let excess = self.rate(target).0.saturating_sub(budget.0);
        if excess == 0 {
            self.backlog = Millis(0);
        } else {
            let lag = passed.0.saturating_mul(excess) / budget.0.max(1);
            self.backlog.0 = self.backlog.0.saturating_add(lag);
        }
    }

    /// The lowest there is, if nothing else will do. `None` if there is none at all.
    fn best(&mut self) -> Option<u8> {
        if let Some(only) = self.only {
            let layer = self.layers.get(usize::from(only))?;
            let is_wanted = !self.is_none_wanted() && layer.is_there(self.sending);
            return is_wanted.then_some(only);
        }
        let highest_wanted = self.preferred.unwrap_or(u8::MAX);
        let mut lowest = None;
        for layer in (0..MAX_LAYERS as u8).rev() {
            if !self.layers[usize::from(layer)].is_there(self.sending) {
                continue;
            }
            if layer <= highest_wanted && self.fits(layer) {
                return Some(layer);
            }
            lowest = Some(layer);
        }
        lowest
    }

    fn fits(&mut self, layer: u8) -> bool {
        let Some(budget) = self.budget else {
            return true;
        };
        let now = self.heard_at;
        if self.target == Some(layer) {
            return self.backlog < TOLERATED_BACKLOG;
        }
        let rate = self.rate(layer);
        if self.target.is_some_and(|target| layer < target) {
            return rate <= budget;
        }
        let is_measured = self.layers[usize::from(layer)]
            .rate
            .measured_since(now)
            .is_some_and(|since| now.since(since) >= MEASURING);
        let may_ascend = self
            .descended_at
            .is_none_or(|descended| now.since(descended) >= ASCENT_INTERVAL);
        is_measured && may_ascend && rate.0 + rate.0 / 5 <= budget.0
    }

    fn rate(&mut self, layer: u8) -> BitRate {
        let now = self.heard_at;
        self.layers
            .get_mut(usize::from(layer))
            .map_or(BitRate(0), |layer| layer.rate.rate(now))
    }
}

impl Layer {
    fn is_there(&self, sending: Millis) -> bool {
        self.heard_at
            .is_some_and(|heard| sending.since(heard) < MISSING)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::rtp::packet::Extensions;

    /// A source of which each layer sends a packet of so many bytes each 20 ms; 0 is silence.
    struct Source {
        layers: Layers,
        now: u64,
        sequence: u64,
    }

    impl Source {
        fn new() -> Self {
            Self {
                layers: Layers::new(),
                now: 1000,
                sequence: 0,
            }
        }

        fn send(&mut self, millis: u64, bytes: &[usize]) -> Option<u8> {
            let end = self.now + millis;
            while self.now < end {
                self.now += 20;
                self.sequence += 1;
                for (layer, bytes) in bytes.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
                    let packet = MediaPacket {
                        payload_type: 96,
                        layer: layer as u8,
                        sequence: self.sequence,
                        timestamp: 0,
                        marker: false,
                        extensions: Extensions::default(),
                        payload: vec![0; *bytes].into(),
                        arrived_at: Instant::now(),
                    };
                    self.layers.hear(Millis(self.now), &packet);
                }
            }
            self.layers.target()
        }
    }

    /// 40, 200 and 800 kbit/s.
    const ALL: [usize; 3] = [100, 500, 2000];

    #[test]
    fn the_highest_that_is_heard_at_once() {
        let mut source = Source::new();
        assert_eq!(None, source.layers.target());
        assert_eq!(Some(2), source.send(20, &ALL));
    }

    #[test]
    fn the_highest_that_is_wanted() {
        let mut source = Source::new();
        source.layers.prefer(Some(1));
        assert_eq!(Some(1), source.send(20, &ALL));
        source.layers.prefer(Some(0));
        assert_eq!(Some(0), source.layers.target());
        source.layers.prefer(None);
        assert_eq!(Some(2), source.layers.target());
        source.layers.prefer(Some(0));
        assert_eq!(
            Some(1),
            source.send(1000, &[0, 500, 2000]),
            "the lowest there is"
        );
    }

    #[test]
    fn one_layer_only_if_that_is_wanted_whatever_else_there_is() {
        let mut source = Source::new();
        source.layers.expect(Millis(1000), &[0, 1, 2]);
        source.layers.restrict(1);
        source.layers.afford(Some(BitRate(1)));
        assert_eq!(Some(1), source.layers.target());
        assert_eq!(Some(1), source.send(400, &[100, 0, 2000]));
        assert_eq!(None, source.send(400, &[100, 0, 2000]), "it is missing");
        assert_eq!(Some(1), source.send(20, &ALL));
        source.layers.forget_source();
        assert_eq!(None, source.layers.target());
        assert_eq!(Some(1), source.send(20, &ALL));
    }

    #[test]
    fn what_is_expected_need_not_be_heard() {
        let mut source = Source::new();
        source.layers.expect(Millis(1000), &[0, 1, 200]);
        assert_eq!(Some(1), source.layers.target());
        assert_eq!(Some(0), source.send(600, &[100]));
    }

    #[test]
    fn a_layer_that_falls_silent_is_left_within_half_a_second_or_so() {
        let mut source = Source::new();
        source.send(1000, &ALL);
        assert_eq!(Some(2), source.send(400, &[100, 500, 0]));
        assert_eq!(Some(1), source.send(160, &[100, 500, 0]));
        assert_eq!(Some(2), source.send(20, &ALL));
    }

    #[test]
    fn a_source_that_falls_silent_altogether_changes_nothing() {
        let mut source = Source::new();
        source.send(1000, &ALL);
        for _ in 0..10 {
            source.now += 5000;
            assert_eq!(Some(2), source.send(20, &ALL));
        }
    }

    #[test]
    fn a_budget_is_kept_once_measured() {
        let mut source = Source::new();
        source.layers.afford(Some(BitRate(250_000)));
        assert_eq!(Some(0), source.send(400, &ALL));
        assert_eq!(Some(1), source.send(1000, &ALL));
        assert_eq!(Some(1), source.send(5000, &ALL));
    }

    #[test]
    fn a_budget_that_shrinks_is_followed_as_fast_as_it_matters() {
        let mut source = Source::new();
        source.send(2000, &ALL);
        source.layers.afford(Some(BitRate(400_000)));
        assert_eq!(Some(2), source.send(300, &ALL));
        assert_eq!(Some(1), source.send(200, &ALL));

        let mut source = Source::new();
        source.send(2000, &ALL);
        source.layers.afford(Some(BitRate(640_000)));
        assert_eq!(Some(2), source.send(1400, &ALL));
        assert_eq!(Some(1), source.send(400, &ALL));
    }

    #[test]
    fn the_way_up_takes_time_and_room() {
        let mut source = Source::new();
        source.send(2000, &ALL);
        source.layers.afford(Some(BitRate(500_000)));
        assert_eq!(Some(1), source.send(1000, &ALL));
        source.layers.afford(Some(BitRate(2_000_000)));
        assert_eq!(Some(1), source.send(1000, &ALL), "soon after a descent");
        source.layers.afford(Some(BitRate(850_000)));
        assert_eq!(Some(1), source.send(5000, &ALL), "without room to spare");
        source.layers.afford(Some(BitRate(1_100_000)));
        assert_eq!(Some(2), source.send(200, &ALL));
    }

    #[test]
    fn a_key_frame_too_large_for_the_budget_is_tolerated() {
        let mut source = Source::new();
        source.layers.afford(Some(BitRate(250_000)));
        source.send(2000, &ALL);
        assert_eq!(Some(1), source.send(20, &[100, 12_000, 2000]));
        for _ in 0..100 {
            assert_eq!(Some(1), source.send(20, &ALL));
        }
    }

    #[test]
    fn nothing_fits_is_the_lowest() {
        let mut source = Source::new();
        source.send(100, &ALL);
        source.layers.afford(Some(BitRate(0)));
        assert_eq!(Some(0), source.send(1000, &ALL));
    }

    #[test]
    fn another_source_is_not_known() {
        let mut source = Source::new();
        source.layers.prefer(Some(1));
        source.send(100, &ALL);
        source.layers.forget_source();
        assert_eq!(None, source.layers.target());
        assert_eq!(None, source.layers.newest_sequence(1));
        assert_eq!(Some(1), source.send(20, &ALL));
    }
}

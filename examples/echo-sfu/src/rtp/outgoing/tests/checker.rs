//! Holds what a receiver gets against what the source really sent. Knows nothing of how the stream
//! does it.

use std::collections::{BTreeMap, HashMap};

use super::source::{Arrival, Truth};
use super::*;
use crate::rtp::vp8::Vp8Descriptor;

/// What the receiver was sent so far.
#[derive(Debug)]
pub(super) struct Checker {
    is_video: bool,
    first: u64,
    window: u64,
    sent: HashMap<u64, Received>,
    highest: Option<u64>,
    newest_timestamp: Option<(u32, Instant)>,
    newest_picture: (Option<u16>, Option<u8>),
    stretch: Option<Stretch>,
    /// The newest of each layer that ever arrived.
    newest: HashMap<u8, u64>,
    pub(super) stretches: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) rewritten: Rewritten,
    pub(super) truth: Truth,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Stretch {
    layer: u8,
    first: (u64, u64),
    timestamp_shift: u32,
    id_shift: Option<u16>,
    tl0_shift: Option<u8>,
    /// Every number that has arrived; true for those that were left out when they were the newest.
    arrived: BTreeMap<u64, bool>,
}

impl Checker {
    pub(super) fn new(is_video: bool) -> Self {
        Self {
            is_video,
            first: 100,
            window: if is_video { 512 } else { 128 },
            sent: HashMap::new(),
            highest: None,
            newest_timestamp: None,
            newest_picture: (None, None),
            stretch: None,
            newest: HashMap::new(),
            stretches: 0,
        }
    }

    /// Whatever comes next must be a start.
    pub(super) fn cut(&mut self) {
        self.stretch = None;
    }

    /// Its numbers have nothing to do with the last one's.
    pub(super) fn cut_to_another_source(&mut self) {
        self.cut();
        self.newest.clear();
    }

    pub(super) fn sent(&self, sequence: u64) -> Option<&Received> {
        self.sent.get(&sequence)
    }

    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    pub(super) fn check(&mut self, now: Instant, arrival: &Arrival, result: Option<Rewritten>) {
        let truth = arrival.truth;
        let is_new = self.note_arrival(&truth);
        let newest = self.newest.entry(truth.layer).or_insert(0);
        let is_newest = truth.sequence > *newest;
        *newest = truth.sequence.max(*newest);
        let Some(rewritten) = result else {
            if is_new && truth.is_for_receiver {
                self.check_it_had_to_be_dropped(&truth);
            }
            return;
        };
        assert!(truth.is_for_receiver, "{truth:?}");
        let used = self.sent.get(&rewritten.sequence);
        assert!(used.is_none(), "{rewritten:?} was {used:?}");
        let continues = self
            .stretch
            .as_ref()
            .is_some_and(|stretch| stretch.layer == truth.layer);
        if !continues {
            assert!(is_newest, "dropped what came after {truth:?}");
            self.check_start(now, &truth, &rewritten);
        }
        self.check_numbers(&truth, &rewritten);
        self.check_picture(arrival, &rewritten, !continues);

        let is_newest = self
            .highest
            .is_none_or(|highest| rewritten.sequence > highest);
        if is_newest {
            self.highest = Some(rewritten.sequence);
        }
        let ahead = |(newest, _)| rewritten.timestamp.wrapping_sub(newest) as i32 > 0;
        if self.newest_timestamp.is_none_or(ahead) {
            self.newest_timestamp = Some((rewritten.timestamp, now));
        }
        let received = Received {
            rewritten,
            truth,
            bytes: arrival.packet.payload.len(),
        };
        self.sent.insert(rewritten.sequence, received);
    }

    /// Whether it is the first of its number in this stretch.
    fn note_arrival(&mut self, truth: &Truth) -> bool {
        let Some(stretch) = &mut self.stretch else {
            return false;
        };
        if stretch.layer != truth.layer || truth.sequence < stretch.first.0 {
            return false;
        }
        let newest = stretch.arrived.last_key_value().map(|(newest, _)| *newest);
        if newest.is_some_and(|newest| truth.sequence > newest + 1000) {
            if truth.is_for_receiver {
                self.stretch = None;
            }
            return false;
        }
        let is_newest = newest.is_none_or(|newest| truth.sequence > newest);
        let is_new = !stretch.arrived.contains_key(&truth.sequence);
        if is_new {
            let is_left_out = is_newest && !truth.is_for_receiver;
            stretch.arrived.insert(truth.sequence, is_left_out);
        }
        is_new
    }

    fn check_start(&mut self, now: Instant, truth: &Truth, rewritten: &Rewritten) {
        self.stretches += 1;
        assert!(truth.starts_key_frame || !self.is_video, "{truth:?}");
        let next = self.highest.map_or(self.first, |highest| highest + 1);
        assert_eq!(next, rewritten.sequence);
        if let Some((newest, sent_at)) = self.newest_timestamp {
            let rate = if self.is_video { 90 } else { 48 };
            let passed = now.duration_since(sent_at).as_millis() as u32 * rate;
            let expected = newest.wrapping_add(passed.max(1));
            assert_eq!(expected, rewritten.timestamp);
        }
        self.stretch = Some(Stretch {
            layer: truth.layer,
            first: (truth.sequence, rewritten.sequence),
            timestamp_shift: rewritten.timestamp.wrapping_sub(truth.timestamp),
            id_shift: None,
            tl0_shift: None,
            arrived: BTreeMap::from([(truth.sequence, false)]),
        });
    }

    fn expected_number(stretch: &Stretch, sequence: u64) -> u64 {
        let (source, outgoing) = stretch.first;
        let before = stretch.arrived.range(..sequence);
        let left_out = before.filter(|(_, left_out)| **left_out).count();
        outgoing + (sequence - source) - left_out as u64
    }

    fn check_numbers(&self, truth: &Truth, rewritten: &Rewritten) {
        let stretch = self.stretch.as_ref().expect("it has started");
        assert!(truth.sequence >= stretch.first.0);
        let expected = Self::expected_number(stretch, truth.sequence);
        assert_eq!(expected, rewritten.sequence, "{truth:?}");
        let timestamp = truth.timestamp.wrapping_add(stretch.timestamp_shift);
        assert_eq!(timestamp, rewritten.timestamp, "{truth:?}");
        assert_eq!(SSRC, rewritten.ssrc);
    }

    fn check_picture(&mut self, arrival: &Arrival, rewritten: &Rewritten, is_start: bool) {
        if !self.is_video {
            return;
        }
        let mut payload = arrival.packet.payload.to_vec();
        if let Some(patch) = rewritten.vp8 {
            patch.apply(&mut payload);
        }
        let found = Vp8Descriptor::parse(&payload).expect("a descriptor");
        let id = found.picture_id.map(|id| id.value());
        let tl0 = found.tl0_picture_index;
        let truth = arrival.truth.picture;
        let stretch = self.stretch.as_mut().expect("it has started");
        if let (Some(id), Some((of_source, width))) = (id, truth.id) {
            let mask = ((1_u32 << width) - 1) as u16;
            let shift = id.wrapping_sub(of_source) & mask;
            assert_eq!(shift, *stretch.id_shift.get_or_insert(shift));
            if let Some(newest) = self.newest_picture.0.filter(|_| is_start) {
                assert_eq!(newest.wrapping_add(1) & mask, id);
            }
        } else {
            assert_eq!(truth.id.map(|(id, _)| id), id);
        }
        if let (Some(tl0), Some(of_source)) = (tl0, truth.tl0) {
            let shift = tl0.wrapping_sub(of_source);
            assert_eq!(shift, *stretch.tl0_shift.get_or_insert(shift));
            if let Some(newest) = self.newest_picture.1.filter(|_| is_start) {
                assert_eq!(newest.wrapping_add(1), tl0);
            }
        } else {
            assert_eq!(truth.tl0, tl0);
        }
        if self
            .highest
            .is_none_or(|highest| rewritten.sequence > highest)
        {
            self.newest_picture.0 = id.or(self.newest_picture.0);
            self.newest_picture.1 = tl0.or(self.newest_picture.1);
        }
    }

    /// In the midst of a stretch, only what is behind what can be remembered.
    fn check_it_had_to_be_dropped(&self, truth: &Truth) {
        const RUNS_REMEMBERED: usize = 6;
        let stretch = self.stretch.as_ref().expect("it has started");
        let later: Vec<u64> = stretch
            .arrived
            .range(truth.sequence..)
            .filter(|(_, left_out)| **left_out)
            .map(|(sequence, _)| *sequence)
            .collect();
        let next = self.highest.map_or(0, |highest| highest + 1);
        let is_forgotten = Self::expected_number(stretch, truth.sequence) + self.window < next;
        assert!(later.len() >= RUNS_REMEMBERED || is_forgotten, "{truth:?}");
    }
}

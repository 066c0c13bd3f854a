//! What was sent lately, for receivers that lost some of it.

use std::time::Duration;

use super::Rewritten;
use crate::rtp::packet::MediaPacket;
use crate::rtp::rate::Millis;
use crate::rtp::vp8::{PictureId, Vp8Patch};

/// Sent packets by their numbers, as far as they are remembered. Also keeps any number from being
/// used twice.
#[derive(Debug)]
pub(super) struct SentPackets {
    /// Empty until the first packet: many streams are never active.
    slots: Box<[Sent]>,
    capacity: usize,
    next: u64,
}

impl SentPackets {
    pub(super) fn new(capacity: usize, first: u16) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            slots: Box::default(),
            capacity,
            next: u64::from(first),
        }
    }

    /// One more than the highest number sent.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether the number lies so far ahead that the packets before it could not be remembered.
    pub(super) fn is_far_ahead(&self, sequence: u64) -> bool {
        sequence.saturating_sub(self.next) >= self.capacity as u64
    }

    /// Whether nothing was sent by this number, for sure.
    pub(super) fn is_free(&self, sequence: u64) -> bool {
        sequence >= self.next
            || (self.next - sequence <= self.capacity as u64
                && self
                    .slots
                    .get(self.slot_of(sequence))
                    .is_none_or(|slot| !slot.is_known()))
    }

    pub(super) fn insert(&mut self, rewritten: &Rewritten, packet: &MediaPacket) {
        let sequence = rewritten.sequence;
        if self.slots.is_empty() {
            self.slots = vec![Sent::UNKNOWN; self.capacity].into();
        }
        if sequence >= self.next {
            for skipped in (self.next..sequence).take(self.capacity) {
                let slot = self.slot_of(skipped);
                self.slots[slot] = Sent::UNKNOWN;
            }
            self.next = sequence + 1;
        }
        let slot = self.slot_of(sequence);
        self.slots[slot] = Sent::new(rewritten, packet);
    }

    /// The packet that a receiver's 16 bits mean.
    pub(super) fn find(&mut self, lost: u16) -> Option<(u64, &mut Sent)> {
        let newest = self.next.checked_sub(1)?;
        let behind = u64::from((newest as u16).wrapping_sub(lost));
        if behind >= self.capacity as u64 {
            return None;
        }
        let sequence = newest.checked_sub(behind)?;
        let slot = self.slot_of(sequence);
        let sent = self.slots.get_mut(slot)?;
        sent.is_known().then_some((sequence, sent))
    }

    /// The numbers stay used.
    pub(super) fn forget_all(&mut self) {
        self.slots.fill(Sent::UNKNOWN);
    }

    fn slot_of(&self, sequence: u64) -> usize {
        // The remainder is what matters of it.
        sequence as usize & (self.capacity - 1)
    }
}

/// A packet that was sent. There are hundreds per stream, and thousands of streams: it is packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    timestamp: u32,
    source_sequence: u32,
    picture_id: u16,
    tl0_picture_index: u8,
    /// The marker in the highest bit, as in the packet.
    payload_type: u8,
    flags: u8,
    /// In units of [`SIZE_UNIT`].
    size: u8,
    resends: Resends,
}

const _: () = assert!(size_of::<Sent>() == 16);

const MARKER: u8 = 0x80;
const KNOWN: u8 = 0x80;
const HAS_PICTURE_ID: u8 = 0x40;
const HAS_LONG_PICTURE_ID: u8 = 0x20;
const HAS_TL0_PICTURE_INDEX: u8 = 0x10;
const LAYER: u8 = 0x0f;

/// Payloads are measured in units of this, rounded up. None of a network's packets is too large.
const SIZE_UNIT: usize = 8;

fn size_of_payload(bytes: usize) -> u8 {
    u8::try_from(bytes.div_ceil(SIZE_UNIT)).unwrap_or(u8::MAX)
}

fn bytes_of(size: u8) -> u32 {
    u32::from(size) * SIZE_UNIT as u32
}

impl Sent {
    const UNKNOWN: Self = Self {
        timestamp: 0,
        source_sequence: 0,
        picture_id: 0,
        tl0_picture_index: 0,
        payload_type: 0,
        flags: 0,
        size: 0,
        resends: Resends(0),
    };

    fn new(rewritten: &Rewritten, packet: &MediaPacket) -> Self {
        let mut flags = KNOWN | (packet.layer & LAYER);
        let mut picture_id = 0;
        let mut tl0_picture_index = 0;
        if let Some(patch) = rewritten.vp8 {
            if let Some(id) = patch.picture_id {
                picture_id = id.value();
                flags |= HAS_PICTURE_ID;
                if matches!(id, PictureId::Long(_)) {
                    flags |= HAS_LONG_PICTURE_ID;
                }
            }
            if let Some(index) = patch.tl0_picture_index {
                tl0_picture_index = index;
                flags |= HAS_TL0_PICTURE_INDEX;
            }
        }
        let marker = if rewritten.marker { MARKER } else { 0 };
        Self {
            timestamp: rewritten.timestamp,
            // The layer's newest number tells the rest.
            source_sequence: packet.sequence as u32,
            picture_id,
            tl0_picture_index,
            payload_type: marker | (rewritten.payload_type & !MARKER),
            flags,
            size: size_of_payload(packet.payload.len()),
            resends: Resends(0),
        }
    }

    fn is_known(&self) -> bool {
        self.flags & KNOWN != 0
    }

    pub(super) fn layer(&self) -> u8 {
        self.flags & LAYER
    }

    /// The number it had at its source, whose newest is given.
    pub(super) fn source_sequence(&self, newest: u64) -> u64 {
        let behind = (newest as u32).wrapping_sub(self.source_sequence);
        newest.wrapping_sub(u64::from(behind))
    }

    /// Of its payload, rounded up.
    pub(super) fn bytes(&self) -> u32 {
        bytes_of(self.size)
    }

    pub(super) fn resends(&mut self) -> &mut Resends {
        &mut self.resends
    }

    pub(super) fn rewritten(&self, ssrc: u32, sequence: u64) -> Rewritten {
        let has = |flag| self.flags & flag != 0;
        let patch = Vp8Patch {
            picture_id: has(HAS_PICTURE_ID).then(|| {
                if has(HAS_LONG_PICTURE_ID) {
                    PictureId::Long(self.picture_id)
                } else {
                    PictureId::Short(self.picture_id as u8)
                }
            }),
            tl0_picture_index: has(HAS_TL0_PICTURE_INDEX).then_some(self.tl0_picture_index),
        };
        Rewritten {
            payload_type: self.payload_type & !MARKER,
            marker: self.payload_type & MARKER != 0,
            sequence,
            timestamp: self.timestamp,
            ssrc,
            vp8: has(HAS_PICTURE_ID | HAS_TL0_PICTURE_INDEX).then_some(patch),
        }
    }
}

/// How often a packet was sent again in the lower bits, and when last in the others. Time wraps
/// after 16 seconds; a packet that is asked for again just then waits once more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resends(u16);

const COUNT_BITS: u32 = 4;
const COUNT: u16 = (1 << COUNT_BITS) - 1;
const TICK_MILLIS: u64 = 4;
const TICKS: u16 = u16::MAX >> COUNT_BITS;

/// Enough for the worst of networks that still carry media.
const MOST_RESENDS: u16 = 10;
const SHORTEST_RESEND_INTERVAL: Millis = Millis(20);
const LONGEST_RESEND_INTERVAL: Millis = Millis(5000);

impl Resends {
    /// Whether it is time to send it again. A receiver that asks twice within half a round trip
    /// cannot know yet that the first was in vain.
    pub(super) fn is_due(self, now: Millis, round_trip: Option<Duration>) -> bool {
        let count = self.0 & COUNT;
        if count == 0 {
            return true;
        }
        let half = Millis::from_duration(round_trip.unwrap_or_default() / 2);
        let interval = half.clamp(SHORTEST_RESEND_INTERVAL, LONGEST_RESEND_INTERVAL);
        let ticks = tick(now).wrapping_sub(self.0 >> COUNT_BITS) & TICKS;
        // The first tick may have been almost over.
        let elapsed = u64::from(ticks.saturating_sub(1)) * TICK_MILLIS;
        count < MOST_RESENDS && elapsed >= interval.0
    }

    pub(super) fn count(&mut self, now: Millis) {
        self.0 = (tick(now) << COUNT_BITS) | ((self.0 & COUNT) + 1).min(COUNT);
    }
}

fn tick(now: Millis) -> u16 {
    // It wraps.
    (now.0 / TICK_MILLIS) as u16 & TICKS
}

/// What may be sent again: no more, in total, than was sent. A receiver that asks for everything
/// over and over gets twice the stream and no more, and no burst larger than a large key frame.
#[derive(Debug, Default)]
pub(super) struct ResendBudget {
    bytes: u32,
}

const LARGEST_BURST_BYTES: u32 = 256 << 10;

impl ResendBudget {
    pub(super) fn earn(&mut self, bytes: usize) {
        let earned = bytes_of(size_of_payload(bytes));
        self.bytes = self.bytes.saturating_add(earned).min(LARGEST_BURST_BYTES);
    }

    pub(super) fn spend(&mut self, bytes: u32) -> bool {
        match self.bytes.checked_sub(bytes) {
            Some(rest) => {
                self.bytes = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resends_remember_count_and_time_over_the_wrap() {
        let mut resends = Resends(0);
        let mut now = Millis(16_380);
        for _ in 0..MOST_RESENDS {
            assert!(resends.is_due(now, None));
            resends.count(now);
            assert!(!resends.is_due(Millis(now.0 + 19), None));
            now.0 += 28;
        }
        assert!(!resends.is_due(now, None));
        for _ in 0..10 {
            resends.count(now);
        }
        assert_eq!(COUNT, resends.0 & COUNT);
    }

    #[test]
    fn a_burst_is_bounded() {
        let mut budget = ResendBudget::default();
        assert!(!budget.spend(1));
        for _ in 0..1000 {
            budget.earn(1000);
        }
        assert!(budget.spend(LARGEST_BURST_BYTES));
        assert!(!budget.spend(1));
    }
}

//! What a producer sent lately, for receivers that lost some of it.

use std::time::{Duration, Instant};

use crate::rtp::packet::MediaPacket;

/// Encodings per producer. Browsers send up to three.
pub(crate) const MAX_LAYERS: usize = 4;

/// Packets of an encoding that are kept, for video: two seconds of 3 Mbit/s. What is older, a
/// receiver has no use for any more. A power of two, as is the next.
pub(crate) const VIDEO_PACKETS: usize = 512;
/// The same for audio: two and a half seconds of the usual 20 ms packets.
pub(crate) const AUDIO_PACKETS: usize = 128;

/// Bytes of an encoding that are kept, in case its packets are larger than those of a network.
const MAX_LAYER_BYTES: usize = 2 << 20;
/// A receiver that has not got a packet in this time has asked ten times or shows what came after.
const MAX_AGE: Duration = Duration::from_secs(2);

/// The recent packets of one producer, kept once for all its consumers on a network thread.
///
/// Bounded in packets, bytes and age. Sequence numbers are taken to grow: one far behind the
/// newest is refused.
#[derive(Debug)]
pub(crate) struct PacketHistory {
    layers: [LayerHistory; MAX_LAYERS],
}

impl PacketHistory {
    pub(crate) fn new(is_video: bool) -> Self {
        let capacity = if is_video {
            VIDEO_PACKETS
        } else {
            AUDIO_PACKETS
        };
        Self {
            layers: std::array::from_fn(|_| LayerHistory::new(capacity)),
        }
    }

    /// Remembers it. Packets that are known, too old, or of a layer beyond [`MAX_LAYERS`] are not
    /// taken.
    pub(crate) fn push(&mut self, packet: &MediaPacket) {
        if let Some(layer) = self.layers.get_mut(usize::from(packet.layer)) {
            layer.push(packet);
        }
    }

    pub(crate) fn get(&self, layer: u8, sequence: u64) -> Option<&MediaPacket> {
        self.layers.get(usize::from(layer))?.get(sequence)
    }

    /// For producers that may have fallen silent; [`Self::push`] does as much for its layer.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        for layer in &mut self.layers {
            layer.forget_old(now);
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }
}

/// Each packet is where its sequence number says; what is kept lies in `oldest..end`.
#[derive(Debug)]
struct LayerHistory {
    /// Empty until the first packet: few producers use all layers.
    slots: Box<[Option<MediaPacket>]>,
    capacity: usize,
    oldest: u64,
    end: u64,
    bytes: usize,
}

impl LayerHistory {
    fn new(capacity: usize) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            slots: Box::default(),
            capacity,
            oldest: 0,
            end: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, packet: &MediaPacket) {
        if self.slots.is_empty() {
            self.slots = (0..self.capacity).map(|_| None).collect();
        }
        let sequence = packet.sequence;
        if sequence >= self.end {
            self.make_room_before(sequence.saturating_add(1));
        }
        // One past the largest number there is has no place either.
        if sequence < self.oldest || sequence >= self.end {
            return;
        }
        let slot = self.slot_of(sequence);
        let slot = &mut self.slots[slot];
        if slot.is_some() {
            return;
        }
        self.bytes += packet.payload.len();
        *slot = Some(packet.clone());
        self.forget_old(packet.arrived_at);
        while self.bytes > MAX_LAYER_BYTES {
            self.forget_oldest();
        }
    }

    fn get(&self, sequence: u64) -> Option<&MediaPacket> {
        if sequence < self.oldest || sequence >= self.end {
            return None;
        }
        self.slots.get(self.slot_of(sequence))?.as_ref()
    }

    fn forget_old(&mut self, now: Instant) {
        while self.oldest < self.end {
            let is_young = self.slots[self.slot_of(self.oldest)]
                .as_ref()
                .is_some_and(|packet| now.saturating_duration_since(packet.arrived_at) < MAX_AGE);
            if is_young {
                break;
            }
            self.forget_oldest();
        }
    }

    fn make_room_before(&mut self, end: u64) {
        let oldest = end.saturating_sub(self.capacity as u64);
        if oldest >= self.end {
            while self.oldest < self.end {
                self.forget_oldest();
            }
            self.oldest = oldest;
        }
        while self.oldest < oldest {
            self.forget_oldest();
        }
        self.end = end;
    }

    fn forget_oldest(&mut self) {
        let slot = self.slot_of(self.oldest);
        if let Some(packet) = self.slots[slot].take() {
            self.bytes -= packet.payload.len();
        }
        self.oldest += 1;
    }

    fn slot_of(&self, sequence: u64) -> usize {
        // The remainder is what matters of it.
        sequence as usize & (self.capacity - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rtp::packet::Extensions;
    use crate::rtp::random::{Random, seeds};

    fn packet(layer: u8, sequence: u64, bytes: usize, arrived_at: Instant) -> MediaPacket {
        MediaPacket {
            payload_type: 96,
            layer,
            sequence,
            timestamp: 0,
            marker: false,
            extensions: Extensions::default(),
            payload: vec![0; bytes].into(),
            arrived_at,
        }
    }

    #[test]
    fn layers_are_apart() {
        let now = Instant::now();
        let mut history = PacketHistory::new(true);
        history.push(&packet(0, 7, 10, now));
        history.push(&packet(1, 7, 20, now));
        history.push(&packet(200, 7, 30, now));
        assert_eq!(10, history.get(0, 7).unwrap().payload.len());
        assert_eq!(20, history.get(1, 7).unwrap().payload.len());
        assert!(history.get(2, 7).is_none());
        assert!(history.get(200, 7).is_none());
    }

    #[test]
    fn the_oldest_make_room() {
        let now = Instant::now();
        let mut history = PacketHistory::new(false);
        for sequence in 0..1000 {
            history.push(&packet(0, sequence, 100, now));
        }
        assert!(history.get(0, 1000 - AUDIO_PACKETS as u64 - 1).is_none());
        assert!(history.get(0, 1000 - AUDIO_PACKETS as u64).is_some());
        assert_eq!(AUDIO_PACKETS * 100, history.bytes());
    }

    #[test]
    fn bytes_are_bounded() {
        let now = Instant::now();
        let mut history = PacketHistory::new(true);
        for sequence in 0..100 {
            history.push(&packet(0, sequence, 60_000, now));
        }
        assert!(history.bytes() <= MAX_LAYER_BYTES);
        assert!(history.get(0, 99).is_some());
        assert!(history.get(0, 60).is_none());
        history.push(&packet(0, 100, MAX_LAYER_BYTES + 1, now));
        assert_eq!(0, history.bytes());
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let now = Instant::now();
        let mut history = PacketHistory::new(true);
        history.push(&packet(0, 5, 10, now));
        history.push(&packet(1, 5, 10, now));
        history.push(&packet(0, 6, 10, now + MAX_AGE));
        assert!(history.get(0, 5).is_none());
        assert!(history.get(1, 5).is_some());
        history.forget_old(now + MAX_AGE);
        assert!(history.get(1, 5).is_none());
        assert_eq!(10, history.bytes());
    }

    #[test]
    fn any_sequence_is_survived() {
        let now = Instant::now();
        let mut history = PacketHistory::new(true);
        for sequence in [0, u64::MAX, u64::MAX - 1, 3, 1 << 40, u64::MAX] {
            history.push(&packet(0, sequence, 10, now));
        }
        assert_eq!(10, history.bytes());
    }

    /// Against a map that forgets nothing but what the bounds say.
    #[test]
    fn it_keeps_what_a_map_would() {
        for seed in seeds(50) {
            println!("STREAM_SEED={seed}");
            let mut random = Random::new(seed);
            let mut now = Instant::now();
            let mut history = PacketHistory::new(random.chance(50));
            let capacity = history.layers[0].capacity as u64;
            let mut known: BTreeMap<u64, MediaPacket> = BTreeMap::new();
            let mut newest = random.below(100_000);
            for _ in 0..3000 {
                now += Duration::from_millis(random.below(10));
                newest += match random.below(200) {
                    0 => random.below(3 * capacity),
                    1..20 => random.below(5),
                    _ => 1,
                };
                let sequence = newest.saturating_sub(if random.chance(10) {
                    random.below(capacity * 2)
                } else {
                    0
                });
                let bytes = random.below(1500) as usize + 1;
                let pushed = packet(2, sequence, bytes, now);
                history.push(&pushed);
                known.entry(sequence).or_insert(pushed);
                let (end, _) = known.last_key_value().map(|(s, p)| (s + 1, p)).unwrap();
                for (sequence, kept) in &known {
                    let is_young = now - kept.arrived_at < MAX_AGE;
                    let is_near = sequence + capacity >= end;
                    let found = history.get(2, *sequence);
                    assert!(found.is_none() || is_near, "{sequence}");
                    if let Some(found) = found {
                        assert_eq!(kept.payload.len(), found.payload.len());
                    } else if is_near && is_young {
                        // Late packets behind what has been forgotten are not taken.
                        assert!(*sequence < history.layers[2].oldest, "{sequence}");
                    }
                }
                let held = &history.layers[2];
                let bytes = held.slots.iter().flatten().map(|p| p.payload.len());
                assert_eq!(bytes.sum::<usize>(), held.bytes);
                known.retain(|sequence, _| sequence + capacity * 2 >= end);
            }
        }
    }
}
